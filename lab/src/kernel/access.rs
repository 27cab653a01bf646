//! What an access line does to packets.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The line between a site and the internet. Each packet suffers this once on the way out and once on
/// the way in; all of it is drawn from the lab's seed.
///
/// A line without any of it is plain kernel forwarding, as fast as the machine.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Access {
    /// One-way delay.
    pub delay: Duration,
    /// Up to this much more, evenly distributed; packets keep their order.
    pub jitter: Duration,
    /// Probability of losing a packet, 0 to 1.
    pub loss: f64,
    /// Probability of a packet falling behind its successors by [`Access::REORDER_GAP`], 0 to 1.
    pub reorder: f64,
    /// Probability of a packet arriving twice, 0 to 1.
    pub duplicate: f64,
}

impl Access {
    /// How much later a reordered packet arrives.
    pub const REORDER_GAP: Duration = Duration::from_millis(5);

    /// Nothing is done to packets at all.
    pub fn is_plain(&self) -> bool {
        *self == Self::default()
    }

    /// Each packet has a fate of its own, so that large segments must be cut before.
    pub(super) fn draws_per_packet(&self) -> bool {
        self.loss > 0.0 || self.reorder > 0.0 || self.duplicate > 0.0
    }

    /// What is out of range, if anything is.
    pub(super) fn fault(&self) -> Option<String> {
        let shares =
            [("loss", self.loss), ("reorder", self.reorder), ("duplicate", self.duplicate)];
        let wrong = shares.into_iter().find(|(_, share)| !(0.0..=1.0).contains(share));
        wrong.map(|(name, share)| format!("{name} is {share}, it must be between 0 and 1"))
    }
}

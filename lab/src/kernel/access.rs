//! What an access line does to packets.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::link::Quality;

/// The line between a site and the internet. Each packet suffers this once on the way out and once on
/// the way in; all of it is drawn from the lab's seed.
///
/// A line without any of it is plain kernel forwarding, as fast as the machine.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Access {
    /// One-way delay; as text, a number with its unit: `10ms`.
    #[serde(with = "span")]
    pub delay: Duration,
    /// Up to this much more, evenly distributed; packets keep their order.
    #[serde(with = "span")]
    pub jitter: Duration,
    /// Probability of losing a packet, 0 to 1.
    pub loss: f64,
    /// Probability of a packet falling behind its successors by [`Access::REORDER_GAP`], 0 to 1.
    pub reorder: f64,
    /// Probability of a packet arriving twice, 0 to 1.
    pub duplicate: f64,
    /// How much longer what the servers send takes on its way in, and nothing else: the peer at the
    /// far end of this line starts by so much later than the one that calls.
    #[serde(with = "span")]
    pub lag: Duration,
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

    /// What the servers' packets suffer on their way in.
    pub(super) fn lagging(self) -> Quality {
        Quality::from(Self { delay: self.delay + self.lag, ..self })
    }

    /// What is out of range, if anything is.
    pub(super) fn fault(&self) -> Option<String> {
        let shares =
            [("loss", self.loss), ("reorder", self.reorder), ("duplicate", self.duplicate)];
        let wrong = shares.into_iter().find(|(_, share)| !(0.0..=1.0).contains(share));
        wrong.map(|(name, share)| format!("{name} is {share}, it must be between 0 and 1"))
    }
}

impl From<Access> for Quality {
    fn from(access: Access) -> Self {
        Self {
            delay: access.delay,
            jitter: access.jitter,
            loss: access.loss,
            duplication: access.duplicate,
            reordering: access.reorder,
            hold: Access::REORDER_GAP,
        }
    }
}

/// Times as people write them.
mod span {
    use std::time::Duration;

    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(span: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&humantime::format_duration(*span))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        humantime::parse_duration(&String::deserialize(from)?).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_access_line_is_written_as_people_write_it() {
        let text = r#"{"delay":"10ms 500us","jitter":"0s","loss":0.05,"reorder":0.0,"duplicate":0.0,"lag":"0s"}"#;
        let access: Access = serde_json::from_str(text).unwrap();
        assert_eq!(access.delay, Duration::from_micros(10_500));
        assert_eq!(serde_json::to_string(&access).unwrap(), text);
    }
}

//! Which external port a new mapping gets.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ntcp_proto::entropy::Entropy;

use super::behaviour::{Allocation, Transport};

/// Ports below this are never given but to an inside port that is preserved.
const LOWEST: u16 = 1024;

/// Random draws before all ports are tried one after the other.
const DRAWS: usize = 64;

/// The counters and blocks behind an allocation.
#[derive(Debug, Clone, Default)]
pub(super) struct Allocator {
    counters: BTreeMap<Transport, u16>,
    blocks: BTreeMap<IpAddr, u16>,
}

impl Allocator {
    /// A port for `inside_port` of `host` that is not `taken`; `None` if there is none.
    pub(super) fn port(
        &mut self,
        allocation: Allocation,
        transport: Transport,
        (host, inside_port): (IpAddr, u16),
        entropy: &mut Entropy,
        taken: impl Fn(u16) -> bool,
    ) -> Option<u16> {
        match allocation {
            Allocation::Preserved if !taken(inside_port) => Some(inside_port),
            Allocation::Preserved => draw(LOWEST, u16::MAX, entropy, taken),
            Allocation::Offset(offset) => {
                let wanted = wrap(u32::from(inside_port) + u32::from(offset));
                (0..=u16::MAX - LOWEST)
                    .map(|distance| wrap(u32::from(wanted) + u32::from(distance)))
                    .find(|port| !taken(*port))
            }
            Allocation::Sequential { first, step } => {
                self.sequential(transport, first, step.max(1), taken)
            }
            Allocation::Block { first, size } => {
                let low = self.block(host, first, size.max(1));
                draw(low, low.saturating_add(size.max(1) - 1), entropy, taken)
            }
            Allocation::Parity => {
                draw(LOWEST, u16::MAX, entropy, |port| port % 2 != inside_port % 2 || taken(port))
            }
            Allocation::Random { low, high } => draw(low.max(1), high, entropy, taken),
        }
    }

    fn sequential(
        &mut self,
        transport: Transport,
        first: u16,
        step: u16,
        taken: impl Fn(u16) -> bool,
    ) -> Option<u16> {
        let next = self.counters.entry(transport).or_insert(first);
        for _ in LOWEST..=u16::MAX {
            let port = *next;
            *next = wrap(u32::from(port) + u32::from(step));
            if !taken(port) {
                return Some(port);
            }
        }
        None
    }

    fn block(&mut self, host: IpAddr, first: u16, size: u16) -> u16 {
        let count = u32::try_from(self.blocks.len()).unwrap_or(u32::MAX);
        *self.blocks.entry(host).or_insert_with(|| {
            wrap(u32::from(first).saturating_add(count.saturating_mul(u32::from(size))))
        })
    }
}

/// `port` brought into the range of given ports.
fn wrap(port: u32) -> u16 {
    let span = u32::from(u16::MAX - LOWEST) + 1;
    let lowest = u32::from(LOWEST);
    let inside = port.saturating_sub(lowest) % span + lowest;
    u16::try_from(inside).unwrap_or(LOWEST)
}

fn draw(low: u16, high: u16, entropy: &mut Entropy, taken: impl Fn(u16) -> bool) -> Option<u16> {
    let span = u64::from(high.saturating_sub(low)) + 1;
    for _ in 0..DRAWS {
        let port = low + u16::try_from(entropy.below(span)).unwrap_or_default();
        if !taken(port) {
            return Some(port);
        }
    }
    (low..=high).find(|port| !taken(*port))
}

//! One transport of a box: its tables, and how a new flow gets its port.

use std::fmt::Write as _;
use std::net::Ipv4Addr;

use crate::kernel::plan::BoxPlan;
use crate::nat::behaviour::{Allocation, Behaviour, Filtering, Hairpin, Mapping, Translation};

/// Ports that sequential allocation goes through before it begins again. An unprivileged process
/// cannot send a larger table to the kernel in one message.
const SEQUENCE: u16 = 1024;

/// One transport's part of a box.
pub(super) struct Side<'a> {
    pub(super) transport: &'static str,
    pub(super) translation: Translation,
    pub(super) nat: &'a BoxPlan,
}

impl<'a> Side<'a> {
    pub(super) fn new(transport: &'static str, nat: &'a BoxPlan) -> Self {
        let behaviour = &nat.behaviour;
        let translation = match transport {
            "udp" => behaviour.udp.translation,
            _ => behaviour.tcp.translation,
        };
        Self { transport, translation, nat }
    }

    pub(super) fn translates(&self) -> bool {
        self.translation.mapping != Mapping::Identity
    }

    /// See [`records`].
    pub(super) fn records(&self) -> bool {
        records(self.translation, &self.nat.behaviour)
    }

    /// A mapping outlives the flow that made it.
    pub(super) fn keeps_mapping(&self) -> bool {
        keeps_mapping(self.translation)
    }

    /// Inside hosts reach each other through the outside address.
    pub(super) fn hairpins(&self) -> bool {
        hairpins(&self.nat.behaviour)
    }

    /// Seconds after which a mapping nobody uses is forgotten.
    fn lifetime(&self) -> u64 {
        let behaviour = &self.nat.behaviour;
        match self.transport {
            "udp" => behaviour.udp.answered.as_secs(),
            // A mapping per endpoint has no state of its own; two hours and four minutes is the
            // least that RFC 5382 REQ-5 grants an established connection.
            _ => behaviour.tcp.timers.established.as_secs().min(7440),
        }
    }

    /// The maps and sets.
    pub(super) fn tables(&self, text: &mut String) {
        let t = self.transport;
        let timeout = format!("flags dynamic,timeout; timeout {}s; size 65535;", self.lifetime());
        let end = "ipv4_addr . inet_service";
        let key = match self.translation.mapping {
            Mapping::AddressDependent => format!("{end} . ipv4_addr"),
            _ => end.to_owned(),
        };
        let permit = match self.translation.filtering {
            Filtering::EndpointIndependent => end.to_owned(),
            Filtering::AddressDependent => format!("{end} . ipv4_addr"),
            Filtering::AddressAndPortDependent => format!("{end} . {end}"),
        };
        let _ = write!(
            text,
            "  map public_{t} {{ type {key} : inet_service; {timeout} }}
  map inside_{t} {{ type inet_service : {end}; {timeout} }}
  set known_{t} {{ type {key}; {timeout} }}
  set taken_{t} {{ type inet_service; {timeout} }}
  set permit_{t} {{ type {permit}; {timeout} }}
"
        );
    }

    /// The key of the public port, once the source is translated.
    pub(super) fn key_of_original(&self) -> &'static str {
        match self.translation.mapping {
            Mapping::AddressDependent => {
                "ct original ip saddr . ct original proto-src . ct original ip daddr"
            }
            _ => "ct original ip saddr . ct original proto-src",
        }
    }

    /// The same before it is translated.
    pub(super) fn key_of_packet(&self) -> String {
        let t = self.transport;
        match self.translation.mapping {
            Mapping::AddressDependent => format!("ip saddr . {t} sport . ip daddr"),
            _ => format!("ip saddr . {t} sport"),
        }
    }

    /// What the permission of a packet to come in is looked up by.
    pub(super) fn permit_of_packet(&self) -> String {
        let t = self.transport;
        match self.translation.filtering {
            Filtering::EndpointIndependent => format!("ip daddr . {t} dport"),
            Filtering::AddressDependent => format!("ip daddr . {t} dport . ip saddr"),
            Filtering::AddressAndPortDependent => {
                format!("ip daddr . {t} dport . ip saddr . {t} sport")
            }
        }
    }

    /// The statements that give a new flow its public port, as right-hand sides of a rule.
    pub(super) fn allocations(&self) -> Vec<String> {
        let (t, outside) = (self.transport, self.outside());
        let snat = |ports: &str| format!("snat ip to {outside} : {ports}");
        match self.translation.allocation {
            Allocation::Preserved if self.keeps_mapping() => vec![
                format!("{t} sport != @taken_{t} snat ip to {outside}"),
                snat("1024-65535 fully-random"),
            ],
            Allocation::Preserved | Allocation::Parity | Allocation::Offset(_) => {
                vec![format!("snat ip to {outside}")]
            }
            Allocation::Random { low, high } => vec![snat(&format!("{low}-{high} fully-random"))],
            Allocation::Sequential { first, step } => {
                vec![snat(&format!("numgen inc mod {SEQUENCE} map {{ {} }}", steps(first, step)))]
            }
            Allocation::Block { first, size } => self.blocks(first, size),
        }
    }

    /// The outside address of a new flow: of a pool, each takes the next one.
    fn outside(&self) -> String {
        let addresses: Vec<_> = [&self.nat.outside].into_iter().chain(&self.nat.spare).collect();
        if let [single] = addresses.as_slice() {
            return single.to_string();
        }
        let elements = addresses.iter().enumerate().map(|(n, address)| format!("{n} : {address}"));
        let elements = elements.collect::<Vec<_>>().join(", ");
        format!("numgen inc mod {} map {{ {elements} }}", addresses.len())
    }

    /// One block of ports for each host behind the box.
    fn blocks(&self, first: u16, size: u16) -> Vec<String> {
        let outside = self.outside();
        let block = |(n, host): (usize, &Ipv4Addr)| {
            let low = usize::from(first) + n * usize::from(size);
            let high = low + usize::from(size) - 1;
            format!("ip saddr {host} snat ip to {outside} : {low}-{high} fully-random")
        };
        self.nat.members.iter().enumerate().map(block).collect()
    }
}

/// Connection tracking alone gives a mapping and a filter per remote end; all else is recorded.
pub(super) fn records(translation: Translation, behaviour: &Behaviour) -> bool {
    keeps_mapping(translation)
        || translation.filtering != Filtering::AddressAndPortDependent
        || hairpins(behaviour)
}

fn keeps_mapping(translation: Translation) -> bool {
    matches!(translation.mapping, Mapping::EndpointIndependent | Mapping::AddressDependent)
}

fn hairpins(behaviour: &Behaviour) -> bool {
    matches!(behaviour.hairpin, Hairpin::Translated | Hairpin::Untranslated)
}

/// The elements of the map from a counter to ports.
fn steps(first: u16, step: u16) -> String {
    let port = |n: u16| format!("{n} : {}", u32::from(first) + u32::from(n) * u32::from(step));
    (0..SEQUENCE).map(port).collect::<Vec<_>>().join(", ")
}

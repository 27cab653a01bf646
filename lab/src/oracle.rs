//! Which pairs of sites can have a direct path, foretold from what their boxes do.
//!
//! Nothing is run and no result is remembered here: everything follows from a few facts about each
//! site. It foretells what ntcp does without privileges: over UDP, authenticated
//! checks from both sides after an opener of low TTL, answering whatever source they arrive from, then
//! port prediction and port coverage; over TCP, connecting and listening on one port with an instant retry, port prediction and port
//! coverage. When the matrix of real runs disagrees with this, one of the two has a bug.
//!
//! A site is *steady* if the outside sees one port of it whomever it talks to; its announced end is
//! then also the one its packets come from. In what follows X is the sender, Y the receiver.
//!
//! * X's first packet to Y's announced end is let in if Y is steady and its filter knows X: everybody
//!   if it filters nothing, X's address if that is the announced one, X's port only if X is steady.
//!   If Y is not steady, its announced end belongs to its conversation with a server, so Y must filter
//!   nothing at all, and not have opened another port towards the same end of X itself.
//! * Y's answer goes back to where the packet came from. A steady Y answers from its announced end,
//!   which X's boxes have just seen X write to.
//! * Over TCP there is one way more: if both are steady the two SYNs are of one connection, and it is
//!   enough that one side lets a SYN in that comes after its own.
//! * And a side that is not steady can still be met: if its ports follow one another, by a
//!   peer that is steady or counts as well; if they do not, by a steady peer that covers many of them.

use ntcp_proto::candidate::Transport;

mod techniques;

pub use techniques::technique_works;

use crate::nat::behaviour::{
    Allocation, Behaviour, Filtering, InboundSyn, Mapping, Passage, Pooling, RstEffect, Sharing,
    Translation, Unsolicited,
};
use crate::presets::Site;

/// What is foretold for a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Prospect {
    /// A direct path comes about.
    Certain,
    /// It depends on which of several addresses a box draws, or on the order of packets.
    Chance,
    /// None comes about.
    Impossible,
}

/// Everything about a site that decides about direct paths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Facing {
    /// The outside always sees the same port of a socket.
    steady: bool,
    /// Its ports, if they differ, are one another's successors.
    counts: bool,
    /// The outside always sees the same address of the site.
    one_address: bool,
    /// The strictest filter on the way in.
    filtering: Filtering,
    /// The transport passes at all.
    passes: bool,
    /// Inbound SYNs come in wherever the filter lets them.
    admits_syn: bool,
    /// A SYN that is not let in is answered with a RST.
    resets: bool,
    /// A RST from outside ends the flow it is about, so that another may take its place.
    forgets: bool,
}

impl Facing {
    fn of(site: &Site, transport: Transport) -> Self {
        let translation = |behaviour: &Behaviour| match transport {
            Transport::Tcp => behaviour.tcp.translation,
            Transport::Udp => behaviour.udp.translation,
        };
        let boxes = || site.boxes.iter().map(|nat| &nat.behaviour);
        let udp = transport == Transport::Udp;
        Self {
            steady: boxes().all(|behaviour| is_steady(&translation(behaviour))),
            counts: boxes().map(translation).all(|it| is_steady(&it) || is_counter(&it)),
            one_address: boxes().all(|behaviour| {
                let moves = behaviour.pooling == Pooling::Arbitrary;
                !moves || translation(behaviour).mapping == Mapping::EndpointIndependent
            }),
            filtering: boxes()
                .map(|behaviour| translation(behaviour).filtering)
                .max()
                .unwrap_or(Filtering::EndpointIndependent),
            passes: !udp || boxes().all(|behaviour| behaviour.udp.passage == Passage::Open),
            admits_syn: udp
                || boxes().all(|behaviour| behaviour.tcp.inbound_syn == InboundSyn::Accept),
            resets: !udp
                && boxes().any(|behaviour| {
                    matches!(behaviour.tcp.unsolicited, Unsolicited::Reset | Unsolicited::OwnStack)
                }),
            forgets: boxes().all(|behaviour| {
                matches!(behaviour.tcp.rst, RstEffect::Delete | RstEffect::DeleteMapping)
            }),
        }
    }
}

/// One port for all destinations; also where each has its own that is always the inside one's.
fn is_steady(translation: &Translation) -> bool {
    let same_number = translation.allocation == Allocation::Preserved
        && translation.sharing == Sharing::PerDestination;
    match translation.mapping {
        Mapping::Identity | Mapping::EndpointIndependent => true,
        Mapping::AddressDependent
        | Mapping::AddressAndPortDependent
        | Mapping::ConnectionDependent => same_number,
    }
}

/// Each new port a constant step after the last.
fn is_counter(translation: &Translation) -> bool {
    matches!(translation.allocation, Allocation::Sequential { .. })
}

/// Whether `a` and `b` reach each other directly over `transport`.
pub fn direct_path_possible(a: &Site, b: &Site, transport: Transport) -> Prospect {
    let (a, b) = (Facing::of(a, transport), Facing::of(b, transport));
    if !(a.passes && b.passes) {
        return Prospect::Impossible;
    }
    let one_connection = transport == Transport::Tcp && a.steady && b.steady;
    if one_connection && (a.admits_syn || b.admits_syn) {
        return Prospect::Certain;
    }
    let told = told_ends_meet(&a, &b);
    if a.admits_syn || b.admits_syn { told.min(guess(&a, &b)).min(guess(&b, &a)) } else { told }
}

/// A packet to where the other side was announced comes in, from one side at least.
fn told_ends_meet(a: &Facing, b: &Facing) -> Prospect {
    exchange(a, b).min(exchange(b, a))
}

/// X's ports are foretold or covered by Y.
fn guess(x: &Facing, y: &Facing) -> Prospect {
    match (x.counts, y.steady) {
        (true, true) => Prospect::Certain,
        (true, false) if y.counts => Prospect::Certain,
        // What misses is gone at once if it is answered, and a pool has other addresses.
        (false, true) if y.resets || !x.one_address => Prospect::Chance,
        (false, true) => Prospect::Certain,
        (_, false) => Prospect::Impossible,
    }
}

/// X sends first and Y answers.
fn exchange(x: &Facing, y: &Facing) -> Prospect {
    if !y.admits_syn {
        return Prospect::Impossible;
    }
    let known_address = if x.one_address { Prospect::Certain } else { Prospect::Chance };
    match (y.steady, y.filtering) {
        (true, Filtering::EndpointIndependent) => Prospect::Certain,
        (true, Filtering::AddressDependent) => known_address,
        (true, Filtering::AddressAndPortDependent) if x.steady => known_address,
        // Y writes to X's announced end through another port; if X sends from there, the two clash,
        // unless a RST has just ended what Y wrote.
        (false, Filtering::EndpointIndependent) if !x.steady => Prospect::Certain,
        (false, Filtering::EndpointIndependent) if x.resets && y.forgets => Prospect::Chance,
        (true, Filtering::AddressAndPortDependent)
        | (
            false,
            Filtering::EndpointIndependent
            | Filtering::AddressDependent
            | Filtering::AddressAndPortDependent,
        ) => Prospect::Impossible,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn foretell(a: &str, b: &str) -> [Prospect; 2] {
        let sites = [a, b].map(|text| text.parse::<Site>().unwrap());
        [Transport::Udp, Transport::Tcp].map(|it| direct_path_possible(&sites[0], &sites[1], it))
    }

    #[test]
    fn the_pairs_everybody_asks_about() {
        use Prospect::{Certain, Chance, Impossible};
        for (a, b, prospects) in [
            ("public", "linux-random", [Certain, Certain]),
            ("masq", "port-restricted", [Certain, Certain]),
            ("full-cone", "linux-random", [Certain, Certain]),
            ("port-restricted", "linux-random", [Certain, Certain]),
            ("symmetric-seq", "symmetric-seq", [Certain, Certain]),
            ("symmetric-seq", "address-seq", [Certain, Certain]),
            ("symmetric-seq", "linux-random", [Impossible, Impossible]),
            ("symmetric-block", "masq", [Certain, Certain]),
            ("linux-random", "linux-random", [Impossible, Impossible]),
            ("masq,syn=strict", "masq,syn=strict", [Certain, Impossible]),
            ("masq,syn=strict", "masq", [Certain, Certain]),
            ("masq,udp=block", "masq", [Impossible, Certain]),
            ("pool-arbitrary", "restricted", [Chance, Chance]),
            ("symmetric-open", "linux-random", [Certain, Certain]),
            ("symmetric-open", "masq", [Certain, Certain]),
            ("symmetric-open", "masq,in=reset", [Certain, Chance]),
        ] {
            assert_eq!(foretell(a, b), prospects, "{a} × {b}");
            assert_eq!(foretell(b, a), prospects, "{b} × {a}");
        }
    }
}

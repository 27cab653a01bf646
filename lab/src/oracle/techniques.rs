//! Which techniques get through which NATs, from what the boxes do and nothing else.
//!
//! Every technique but two knows the end it aims at from a conversation with a server and has one
//! socket on each side, so that it works only between *steady* sites. What it asks of the boxes beyond that:
//!
//! * *Simultaneous open* and the *shielded opener*: one side lets a SYN in that comes after its own.
//! * *Spoofed SYN-ACK*: numbers that nobody rewrites, and a hole that outlives the news of the SYN's
//!   death.
//! * *Own SYN-ACK at once*: besides, both sides' boxes let a SYN-ACK out after a SYN. A box that watches
//!   TCP calls it invalid; if it lets that pass untranslated, it helps only where nothing is translated.
//! * *SYN injection*, which makes the kernel send the SYN-ACK: one side's boxes are enough, because the
//!   other side's socket has left SYN-SENT and takes that SYN-ACK for the ACK it waits for.
//! * *Own SYN-ACK after crossing*: what simultaneous open asks for; or numbers that nobody rewrites,
//!   because boxes which drop a SYN take notice of it first.
//! * *Ghost handshake*: flows may begin in the middle, numbers are not rewritten.
//! * *Connect, close, listen*: the SYN-ACK of the listener has another number than the SYN that opened
//!   the hole. It passes where windows are not watched, or where the dialer's SYN is not of the flow
//!   that was opened: it comes from elsewhere, through a filter that does not mind, or there is no box.

use ntcp_proto::candidate::Transport;

use super::{Facing, Prospect, told_ends_meet};
use crate::nat::behaviour::{
    Behaviour, Filtering, IcmpEffect, Invalid, Mapping, MidStream, SequenceNumbers, Tracking,
};
use crate::presets::Site;
use crate::technique::Technique;

/// What techniques ask of a site beyond [`Facing`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Manners {
    keeps_numbers: bool,
    /// A SYN-ACK may leave after a SYN.
    answers_early: bool,
    /// Flows may begin in the middle.
    picks_up: bool,
    /// A hole outlives the news that its SYN has died.
    outlives_death: bool,
    /// A segment outside of the window gets no further.
    watches: bool,
}

impl Manners {
    fn of(site: &Site) -> Self {
        let all = |is: fn(&Behaviour) -> bool| site.boxes.iter().all(|nat| is(&nat.behaviour));
        Self {
            keeps_numbers: all(|nat| nat.tcp.sequence_numbers == SequenceNumbers::Preserved),
            answers_early: all(|nat| nat.tcp.answers_early()),
            picks_up: all(|nat| nat.tcp.mid_stream == MidStream::PickUp),
            outlives_death: all(|nat| nat.tcp.time_exceeded != IcmpEffect::DeleteMapping),
            watches: !all(|nat| {
                let transparent = nat.tcp.translation.mapping == Mapping::Identity;
                nat.tcp.tracking != Tracking::StrictWindow
                    || transparent && nat.tcp.invalid == Invalid::Leak
            }),
        }
    }
}

/// Whether `technique` works if both sides begin at the same time; `a` opens, where only one does.
pub fn technique_works(technique: Technique, a: &Site, b: &Site) -> Prospect {
    let faces = [a, b].map(|site| Facing::of(site, Transport::Tcp));
    let manners = [a, b].map(Manners::of);
    let steady = faces.iter().all(|face| face.steady);
    let admits = faces.iter().any(|face| face.admits_syn);
    let both = |has: fn(&Manners) -> bool| manners.iter().all(has);
    let kept = both(|it| it.keeps_numbers);
    let works = match technique {
        Technique::Udp => return checks_meet(a, b),
        Technique::SimultaneousOpen | Technique::ShieldedOpener => steady && admits,
        Technique::SpoofedSynAck => steady && kept && both(|it| it.outlives_death),
        Technique::OwnSynAck => steady && kept && both(|it| it.answers_early && it.outlives_death),
        Technique::SynInjection => {
            let answers = manners.iter().any(|it| it.answers_early);
            steady && kept && answers && both(|it| it.outlives_death)
        }
        Technique::OwnSynAckAfterCrossing => steady && (admits || kept),
        Technique::GhostHandshake => steady && kept && both(|it| it.picks_up),
        Technique::ConnectCloseListen => return listens(&faces, &manners, a.boxes.is_empty()),
    };
    if works { Prospect::Certain } else { Prospect::Impossible }
}

/// Checks between the announced ends, and nothing else.
fn checks_meet(a: &Site, b: &Site) -> Prospect {
    let [a, b] = [a, b].map(|site| Facing::of(site, Transport::Udp));
    if a.passes && b.passes { told_ends_meet(&a, &b) } else { Prospect::Impossible }
}

/// The listener of connect, close, listen is the first side.
fn listens([a, b]: &[Facing; 2], [listener, _]: &[Manners; 2], public: bool) -> Prospect {
    let Facing { steady, filtering, admits_syn, .. } = *a;
    let same_flow = b.steady;
    let works = match (public, filtering) {
        (true, _) => true,
        _ if !steady && same_flow => false,
        _ if same_flow => !listener.watches && listener.outlives_death,
        (false, Filtering::EndpointIndependent) => true,
        (false, Filtering::AddressDependent) => steady && b.one_address,
        (false, Filtering::AddressAndPortDependent) => false,
    };
    if works && admits_syn { Prospect::Certain } else { Prospect::Impossible }
}

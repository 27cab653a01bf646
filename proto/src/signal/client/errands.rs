//! Runs the broker's errands, if the owner of this peer has offered that: one packet each, in
//! another host's name, to peers that asked the broker for it.
//!
//! The broker has checked who agreed to what ([`rendezvous::forging`](crate::rendezvous::forging)).
//! What holds here whatever the broker says: only SYN-ACKs without data, which are made here, and
//! forged Probes; only as many as [`ForgeLimits`] let out; each errand once.

use std::time::Instant;

use super::core::{Core, Standing};
use crate::Command;
use crate::address::{canonical, is_usable};
use crate::datagram;
use crate::rendezvous::ForgeLimits;
use crate::rendezvous::forging::{FORGED_TTL, Meters, syn_ack};
use crate::signal::message::{Body, Message};
use crate::signal::{Errand, Packet, RegistrationId};

/// What a forger remembers.
#[derive(Debug, Default)]
pub(super) struct Errands {
    /// The last errand of this registration.
    last: Option<(RegistrationId, u32)>,
    meters: Meters,
}

impl Errands {
    /// The broker sends us; whether we went.
    pub(super) fn handle(
        &mut self,
        core: &mut Core,
        standing: &Standing,
        errand: &Errand,
        now: Instant,
    ) -> bool {
        if !core.config.offers_to_forge || !self.is_new(standing.registration, errand.serial) {
            return false;
        }
        let Some(packet) = emit(errand) else { return false };
        let limits = ForgeLimits::default();
        if !self.meters.take(&limits, &[(canonical(errand.destination).ip(), 1)], now) {
            return false;
        }
        let id = core.names.command();
        core.commands.push_back(Command::InjectPacket { id, packet });
        true
    }

    fn is_new(&mut self, registration: RegistrationId, serial: u32) -> bool {
        let last = self.last.filter(|(of, _)| *of == registration).map_or(0, |(_, last)| last);
        let is_new = serial > last;
        if is_new {
            self.last = Some((registration, serial));
        }
        is_new
    }
}

/// The packet of an errand; `None` if it is one that nobody could have agreed to.
fn emit(errand: &Errand) -> Option<Vec<u8>> {
    let (source, destination) = (canonical(errand.source), canonical(errand.destination));
    let suits = is_usable(source) && is_usable(destination) && source != destination;
    if !suits || source.is_ipv4() != destination.is_ipv4() {
        return None;
    }
    match &errand.packet {
        Packet::SynAck { syn, answered } => {
            syn_ack(source, syn, destination, answered).emit(FORGED_TTL)
        }
        Packet::Datagram(payload) => {
            let received = Message::parse(payload).ok()?;
            let is_probe =
                received.message.body == Body::Probed && received.message.nonce.is_some();
            is_probe.then(|| datagram::emit(source, destination, FORGED_TTL, payload)).flatten()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::time::Duration;

    use ntcp_stun::TransactionId;

    use super::super::Link;
    use super::super::core::Way;
    use super::*;
    use crate::command::{Names, Owner, SocketId};
    use crate::entropy::Seed;
    use crate::machine::any_instant;
    use crate::segment::{Options, Segment, flag};
    use crate::signal::client::{Config, Secrecy};
    use crate::signal::message::Nonce;
    use crate::signal::{Fingerprint, RegistrationKey, Syn};

    const A: &str = "192.0.2.1:4000";
    const B: &str = "198.51.100.1:5000";

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn core(offers_to_forge: bool) -> Core {
        let config =
            Config { offers_to_forge, ..Config::new(Fingerprint([1; 32]), Secrecy::Plain) };
        Core::new(config, Names::new(Owner(1)), Seed([1; 32]))
    }

    fn standing() -> Standing {
        let socket = SocketId { owner: Owner(1), serial: 1 };
        let way = Way { link: Link::Udp, socket, remote: at("203.0.113.1:6060") };
        let (registration, key) = (RegistrationId([1; 8]), RegistrationKey([2; 32]));
        Standing { way, registration, key, nonce: None }
    }

    fn syn(sequence: u32) -> Syn {
        Syn { sequence, window: 1, options: Options::default() }
    }

    fn errand(serial: u32, source: &str, destination: &str) -> Errand {
        let packet = Packet::SynAck { syn: syn(10), answered: syn(20) };
        Errand { serial, source: at(source), destination: at(destination), packet }
    }

    fn probe(body: Body) -> Errand {
        let message = Message::new(TransactionId::new([1; 12]), body);
        let message = message.with_nonce(Nonce::new(b"nonce").unwrap());
        Errand { packet: Packet::Datagram(message.emit(None)), ..errand(1, A, B) }
    }

    /// How many of these are run, all at one moment.
    fn run(core: &mut Core, errands: &[Errand]) -> usize {
        let (mut state, now) = (Errands::default(), any_instant());
        let run = errands.iter().filter(|it| state.handle(core, &standing(), it, now)).count();
        assert_eq!(core.commands.len(), run);
        run
    }

    #[test]
    fn who_has_not_offered_sends_nothing() {
        assert_eq!(run(&mut core(false), &[errand(1, A, B)]), 0);
    }

    #[test]
    fn a_syn_ack_is_made_here_and_says_what_the_two_syns_say() {
        let mut core = core(true);
        assert_eq!(run(&mut core, &[errand(1, A, B)]), 1);
        let Some(Command::InjectPacket { packet, .. }) = core.commands.pop_front() else {
            panic!("a packet")
        };
        let (segment, ttl) = Segment::parse(&packet).unwrap();
        assert_eq!((segment.source, segment.destination, ttl), (at(A), at(B), FORGED_TTL));
        assert_eq!(segment.flags, flag::SYN | flag::ACK);
        assert_eq!((segment.sequence, segment.acknowledgment), (10, 21));
    }

    #[test]
    fn an_errand_is_run_once_and_none_that_is_older() {
        let errands = [3, 3, 2, 1, 4].map(|serial| errand(serial, A, B));
        assert_eq!(run(&mut core(true), &errands), 2);
    }

    #[test]
    fn whatever_the_broker_says_an_address_gets_no_more_than_its_share() {
        let many: Vec<_> = (1..=100).map(|serial| errand(serial, A, B)).collect();
        assert_eq!(run(&mut core(true), &many), 6);
        let each = |serial: u32| Errand {
            destination: SocketAddr::from(([10, 0, 0, serial as u8], 7)),
            ..errand(serial, A, B)
        };
        assert_eq!(run(&mut core(true), &(1..=200).map(each).collect::<Vec<_>>()), 60);
    }

    #[test]
    fn a_second_later_there_is_room_again() {
        let (mut core, mut state, start) = (core(true), Errands::default(), any_instant());
        let mut run = |serial, after| {
            let now = start + Duration::from_millis(after);
            state.handle(&mut core, &standing(), &errand(serial, A, B), now)
        };
        assert!((1..=6).all(|serial| run(serial, 0)) && !run(7, 0) && run(8, 1000));
    }

    #[test]
    fn nothing_goes_where_nobody_could_have_agreed() {
        let bad = [
            (A, "127.0.0.1:5"),
            (A, "224.0.0.1:5"),
            (A, "255.255.255.255:5"),
            (A, "198.51.100.1:0"),
            ("0.0.0.0:5", B),
            ("[2001:db8::1]:5", B),
            (A, A),
        ];
        for (source, destination) in bad {
            let errands = [errand(1, source, destination)];
            assert_eq!(run(&mut core(true), &errands), 0, "{source} to {destination}");
        }
    }

    #[test]
    fn no_datagram_leaves_but_a_probe() {
        assert_eq!(run(&mut core(true), &[probe(Body::Probed)]), 1);
        assert_eq!(run(&mut core(true), &[probe(Body::Ping)]), 0);
        assert_eq!(run(&mut core(true), &[probe(Body::Dismissed)]), 0);
        let other = Errand { packet: Packet::Datagram(b"GET /".to_vec()), ..errand(1, A, B) };
        assert_eq!(run(&mut core(true), &[other]), 0);
    }
}

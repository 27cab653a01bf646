//! Whether the NAT lets a connection begin in the middle, with an ACK that no SYN went before
//! (`nf_conntrack_tcp_loose`).
//!
//! ```text
//!  client ══════════ connected ═════════▶ server:p
//!  client ◀────── q, which refuses ────── server:p
//!  client ── ACK, no SYN before ─┤ NAT ├─▶ server:q
//!  client ◀──────────── RST, its numbers ─┤   (RFC 9293 section 3.10.7.1)
//! ```
//!
//! The answer proves both ways: the ACK got out, translated, and what belongs to it comes in. It is
//! what the ghost handshake lives on. It takes the privilege to stand connected without a handshake;
//! without it nothing is told. The server needs none, and sends nothing but its system's RST.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ntcp_stun::TransactionId;
use ntcp_stun::probe::Test;

use super::super::outbox::Outbox;
use super::super::udp::any;
use super::reserved::{ask, named};
use crate::address::{Family, canonical};
use crate::command::{Agreed, CommandId, Ends, Hops, IoFailure, SocketId};
use crate::entropy::Entropy;
use crate::machine::Deadline;
use crate::nat::MidStream;
use crate::segment::Options;

/// How often it is tried, and how many silent copies count: a packet may be lost on either way.
const COPIES: usize = 3;
const WITNESSES: usize = 2;
/// What a busy host or a queue may add to a round trip before silence is believed.
const SLACK: Duration = Duration::from_millis(200);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Connecting(CommandId),
    /// A port that refuses was asked for, to be reached from this end.
    Reserving(SocketAddr),
    /// The system is to stand connected.
    Assuming(CommandId),
    /// The ACK has left at this moment.
    Sent(Instant),
    /// This came of it.
    Told(MidStream),
    Failed,
}

#[derive(Debug)]
struct Copy {
    socket: SocketId,
    ghost: Option<SocketId>,
    request: TransactionId,
    numbers: [u32; 2],
    stage: Stage,
}

/// The test.
#[derive(Debug)]
pub(super) struct Ghost {
    server: SocketAddr,
    copies: Vec<Copy>,
    rtt: Duration,
    end: Instant,
}

impl Ghost {
    pub(super) fn new(
        family: Family,
        (server, rtt): (SocketAddr, Duration),
        entropy: &mut Entropy,
        outbox: &mut Outbox,
        now: Instant,
    ) -> Self {
        let mut copies = Vec::new();
        for _ in 0..COPIES {
            let (connect, socket) = outbox.connect_tcp(any(family), server);
            let [own, peer] = [entropy.bytes(), entropy.bytes()].map(u32::from_be_bytes);
            copies.push(Copy {
                socket,
                ghost: None,
                request: entropy.transaction_id(),
                numbers: [own.max(1), peer.max(1)],
                stage: Stage::Connecting(connect),
            });
        }
        Self { server, copies, rtt, end: now + rtt * 4 + SLACK * 2 }
    }

    pub(super) fn on_connected(
        &mut self,
        id: CommandId,
        result: &Result<Ends, IoFailure>,
        outbox: &mut Outbox,
        now: Instant,
    ) {
        for copy in &mut self.copies {
            match (copy.stage, result) {
                (Stage::Connecting(connect), Ok(ends)) if connect == id => {
                    ask(copy.socket, copy.request, Test::Refuse, outbox);
                    copy.stage = Stage::Reserving(canonical(ends.local));
                }
                (Stage::Assuming(assume), Ok(_)) if assume == id => copy.stage = Stage::Sent(now),
                (Stage::Connecting(it) | Stage::Assuming(it), Err(_)) if it == id => {
                    outbox.forget(copy.ghost.unwrap_or(copy.socket));
                    copy.stage = Stage::Failed;
                }
                _ => {}
            }
        }
    }

    pub(super) fn on_message(&mut self, socket: SocketId, payload: &[u8], outbox: &mut Outbox) {
        let server = self.server;
        let Some(copy) = self.copies.iter_mut().find(|it| it.socket == socket) else { return };
        let Stage::Reserving(local) = copy.stage else { return };
        match named(payload, copy.request, server) {
            Some(Ok(remote)) => {
                let ends = Ends { local, remote };
                let [sequence, peer_sequence] = copy.numbers;
                let (options, peer_options) = (Options::default(), Options::default());
                let agreed = Agreed { sequence, peer_sequence, options, peer_options };
                let (assume, ghost) = outbox.assume_tcp(ends, agreed, Hops::USUAL);
                (copy.ghost, copy.stage) = (Some(ghost), Stage::Assuming(assume));
            }
            Some(Err(_)) => copy.stage = Stage::Failed,
            None => {}
        }
    }

    /// A stream ended: the ghost by the server's RST, as it should.
    pub(super) fn on_closed(&mut self, socket: SocketId, reason: IoFailure) {
        for copy in &mut self.copies {
            let is_ghost = copy.ghost == Some(socket);
            match copy.stage {
                Stage::Sent(_) | Stage::Assuming(_) if is_ghost => {
                    let is_reset = matches!(reason, IoFailure::Reset | IoFailure::Refused);
                    copy.stage =
                        if is_reset { Stage::Told(MidStream::PickedUp) } else { Stage::Failed };
                }
                Stage::Connecting(_) | Stage::Reserving(_) if copy.socket == socket => {
                    copy.stage = Stage::Failed;
                }
                _ => {}
            }
        }
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        let patience = self.patience();
        for copy in &mut self.copies {
            match copy.stage {
                Stage::Sent(at) if at + patience <= now => {
                    copy.stage = Stage::Told(MidStream::Dropped);
                }
                Stage::Connecting(_) | Stage::Reserving(_) | Stage::Assuming(_)
                    if self.end <= now =>
                {
                    copy.stage = Stage::Failed;
                }
                _ => {}
            }
        }
    }

    fn patience(&self) -> Duration {
        self.rtt * 2 + SLACK
    }

    pub(super) fn poll_timeout(&self) -> Option<Deadline> {
        let at = |copy: &Copy| match copy.stage {
            Stage::Sent(at) => Some(at + self.patience()),
            Stage::Connecting(_) | Stage::Reserving(_) | Stage::Assuming(_) => Some(self.end),
            Stage::Told(_) | Stage::Failed => None,
        };
        let next = self.copies.iter().filter_map(at).min().filter(|_| !self.is_settled());
        next.map(|at| Deadline::new(at, "end the test of an ACK out of the blue"))
    }

    pub(super) fn is_settled(&self) -> bool {
        let is_over = |it: &Copy| matches!(it.stage, Stage::Told(_) | Stage::Failed);
        self.finding() == Some(MidStream::PickedUp) || self.copies.iter().all(is_over)
    }

    /// What becomes of a connection that begins in the middle.
    pub(super) fn finding(&self) -> Option<MidStream> {
        let told =
            |fate: MidStream| self.copies.iter().filter(|it| it.stage == Stage::Told(fate)).count();
        if told(MidStream::PickedUp) > 0 {
            Some(MidStream::PickedUp)
        } else {
            (told(MidStream::Dropped) >= WITNESSES).then_some(MidStream::Dropped)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::bench::{RTT, at, reserve};
    use super::*;
    use crate::command::Command;

    /// Up to the moment at which the system is to stand connected, three times.
    fn begun(reserved: &str) -> (Ghost, Vec<(CommandId, SocketId)>, Outbox, Instant) {
        let message = |test: &mut Ghost, socket, reply: &_, outbox: &mut _, _| {
            test.on_message(socket, reply, outbox);
        };
        let (test, mut outbox, now) = reserve(reserved, Ghost::new, Ghost::on_connected, message);
        let assumed = std::iter::from_fn(|| outbox.poll()).map(|command| match command {
            Command::AssumeTcp { id, socket, ends, .. } => {
                assert_eq!(ends.remote, at(reserved));
                (id, socket)
            }
            other => panic!("{other:?}"),
        });
        let assumed = assumed.collect();
        (test, assumed, outbox, now)
    }

    fn permitted(
        test: &mut Ghost,
        assumed: &[(CommandId, SocketId)],
        outbox: &mut Outbox,
        now: Instant,
    ) {
        let ends = Ends { local: at("10.0.0.2:1"), remote: at("203.0.113.1:2") };
        for (id, _) in assumed {
            test.on_connected(*id, &Ok(ends), outbox, now);
        }
    }

    #[test]
    fn one_rst_shows_that_an_ack_out_of_the_blue_passes() {
        let (mut test, assumed, mut outbox, now) = begun("203.0.113.1:6000");
        assert_eq!(assumed.len(), COPIES);
        permitted(&mut test, &assumed, &mut outbox, now);
        test.on_closed(assumed[1].1, IoFailure::Reset);
        assert_eq!(test.finding(), Some(MidStream::PickedUp));
        assert!(test.is_settled() && test.poll_timeout().is_none());
    }

    #[test]
    fn silence_of_two_copies_shows_that_it_is_dropped_and_of_one_nothing() {
        for (silent, finding) in [(1, None), (2, Some(MidStream::Dropped))] {
            let (mut test, assumed, mut outbox, now) = begun("203.0.113.1:6000");
            permitted(&mut test, &assumed[..silent], &mut outbox, now);
            for (id, _) in &assumed[silent..] {
                test.on_connected(*id, &Err(IoFailure::AddressNotAvailable), &mut outbox, now);
            }
            let end = test.poll_timeout().expect("it waits").at;
            assert_eq!(end, now + RTT * 2 + SLACK);
            test.handle_timeout(end);
            assert_eq!(test.finding(), finding);
            assert!(test.is_settled());
        }
    }

    #[test]
    fn without_the_privilege_nothing_is_told() {
        let (mut test, assumed, mut outbox, now) = begun("203.0.113.1:6000");
        for (id, _) in assumed {
            test.on_connected(id, &Err(IoFailure::NotPermitted), &mut outbox, now);
        }
        assert!(test.is_settled());
        assert_eq!(test.finding(), None);
    }

    #[test]
    fn no_packet_goes_where_a_server_says_that_is_not_the_server() {
        let (test, assumed, ..) = begun("198.51.100.9:6000");
        assert!(assumed.is_empty() && test.is_settled());
    }
}

//! Whether the NAT lets a SYN-ACK out after a SYN went out, which is what a SYN-ACK of one's own needs that
//! does not wait for the peer's SYN (NATBLASTER).
//!
//! ```text
//!  client ══════════ connected ═════════▶ server:p
//!  client ◀── q, deaf to low TTLs ─────── server:p
//!  client ── SYN, usual TTL ───┤ NAT ├──▶ server:q, which does not hear it
//!  client ◀─┐ SYN "from q", into the own stack
//!  client ── SYN-ACK, TTL 255 ─┤ NAT ├──▶ server:q, which listens
//!  client ◀──────────── RST, its number ─┤   (RFC 9293 section 3.10.7.2: an ACK to a listener)
//! ```
//!
//! The kernel's own SYN-ACK is sent, as in [SYN injection](crate::tcp_traversal::syn_injection): a socket in
//! SYN-SENT that is given a SYN answers it, and takes the RST, whose number is the next that it waits for,
//! as the end of its connect. So nothing has to be captured. It takes the privilege to put a segment into the
//! own stack; without it nothing is told. The server needs none, and sends nothing but its system's RST.
//!
//! A NAT that sets every TTL anew hides what is told by it: there the SYN-ACK looks dropped.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ntcp_stun::TransactionId;
use ntcp_stun::probe::Test;

use super::super::outbox::Outbox;
use super::super::udp::any;
use super::reserved::{ask, named};
use crate::address::{Family, canonical};
use crate::command::{CommandId, Ends, Hops, IoFailure, SocketId};
use crate::entropy::Entropy;
use crate::machine::Deadline;
use crate::nat::OutboundSynAck;
use crate::segment::{Options, Segment, flag};

/// How often it is tried, and how many silent copies count: a packet may be lost on either way.
const COPIES: usize = 3;
const WITNESSES: usize = 2;
/// What the SYN is ahead of the SYN-ACK: the NAT shall have seen it.
const LEAD: Duration = Duration::from_millis(20);
/// What a busy host or a queue may add to a round trip before silence is believed.
const SLACK: Duration = Duration::from_millis(200);
/// Where the server's port hears everything.
const LOUD: Hops = Hops { ttl: Some(u8::MAX), least: None };
/// The window of the SYN that nobody has sent.
const WINDOW: u16 = 64_240;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Connecting(CommandId),
    /// A port was asked for, to be reached from this end.
    Reserving(SocketAddr),
    /// The SYN has left at this moment.
    Opened(Instant),
    /// The SYN-ACK has left at this moment.
    Sent(Instant),
    /// This came of it.
    Told(OutboundSynAck),
    Failed,
}

#[derive(Debug)]
struct Copy {
    socket: SocketId,
    request: TransactionId,
    /// Of the SYN that nobody has sent.
    number: u32,
    /// The connect to the port, and its ends.
    opener: Option<(CommandId, SocketId, Ends)>,
    inject: Option<CommandId>,
    stage: Stage,
}

/// The test.
#[derive(Debug)]
pub(super) struct SynAck {
    server: SocketAddr,
    copies: Vec<Copy>,
    rtt: Duration,
    end: Instant,
}

impl SynAck {
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
            copies.push(Copy {
                socket,
                request: entropy.transaction_id(),
                number: u32::from_be_bytes(entropy.bytes()),
                opener: None,
                inject: None,
                stage: Stage::Connecting(connect),
            });
        }
        Self { server, copies, rtt, end: now + rtt * 4 + LEAD + SLACK * 2 }
    }

    pub(super) fn on_connected(
        &mut self,
        id: CommandId,
        result: &Result<Ends, IoFailure>,
        outbox: &mut Outbox,
    ) {
        for copy in &mut self.copies {
            let is_opener = copy.opener.is_some_and(|(connect, ..)| connect == id);
            match (copy.stage, result) {
                (Stage::Connecting(connect), Ok(ends)) if connect == id => {
                    ask(copy.socket, copy.request, Test::Deaf, outbox);
                    copy.stage = Stage::Reserving(canonical(ends.local));
                }
                (Stage::Connecting(connect), Err(_)) if connect == id => {
                    outbox.forget(copy.socket);
                    copy.stage = Stage::Failed;
                }
                (Stage::Sent(_), Err(IoFailure::Reset | IoFailure::Refused)) if is_opener => {
                    copy.stage = Stage::Told(OutboundSynAck::Passed);
                }
                // The SYN was heard, or refused: then nothing is learned.
                (Stage::Opened(_) | Stage::Sent(_), _) if is_opener => copy.stage = Stage::Failed,
                _ => {}
            }
        }
    }

    pub(super) fn on_message(
        &mut self,
        socket: SocketId,
        payload: &[u8],
        outbox: &mut Outbox,
        now: Instant,
    ) {
        let server = self.server;
        let Some(copy) = self.copies.iter_mut().find(|it| it.socket == socket) else { return };
        let Stage::Reserving(local) = copy.stage else { return };
        match named(payload, copy.request, server) {
            Some(Ok(remote)) => {
                let (connect, socket) = outbox.connect_tcp(local, remote);
                copy.opener = Some((connect, socket, Ends { local, remote }));
                copy.stage = Stage::Opened(now);
            }
            Some(Err(_)) => copy.stage = Stage::Failed,
            None => {}
        }
    }

    /// A segment was not put into the stack.
    pub(super) fn on_send_failure(&mut self, id: CommandId) {
        for copy in self.copies.iter_mut().filter(|it| it.inject == Some(id)) {
            copy.stage = Stage::Failed;
        }
    }

    /// A connection to the server ended by itself.
    pub(super) fn on_closed(&mut self, socket: SocketId) {
        for copy in self.copies.iter_mut().filter(|it| it.socket == socket) {
            if matches!(copy.stage, Stage::Connecting(_) | Stage::Reserving(_)) {
                copy.stage = Stage::Failed;
            }
        }
    }

    pub(super) fn handle_timeout(&mut self, outbox: &mut Outbox, now: Instant) {
        let due: Vec<bool> =
            self.copies.iter().map(|it| self.due(it).is_some_and(|at| at <= now)).collect();
        for (copy, _) in self.copies.iter_mut().zip(due).filter(|(_, is_due)| *is_due) {
            match copy.stage {
                Stage::Opened(_) => copy.answer(outbox, now),
                Stage::Sent(_) => copy.stage = Stage::Told(OutboundSynAck::Dropped),
                _ => copy.stage = Stage::Failed,
            }
        }
    }

    fn due(&self, copy: &Copy) -> Option<Instant> {
        match copy.stage {
            Stage::Connecting(_) | Stage::Reserving(_) => Some(self.end),
            Stage::Opened(at) => Some(at + LEAD),
            Stage::Sent(at) => Some(at + self.rtt * 2 + SLACK),
            Stage::Told(_) | Stage::Failed => None,
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Deadline> {
        let next = self.copies.iter().filter_map(|it| self.due(it)).min();
        let next = next.filter(|_| !self.is_settled());
        next.map(|at| Deadline::new(at, "go on with the test of a SYN-ACK after a SYN"))
    }

    pub(super) fn is_settled(&self) -> bool {
        let is_over = |it: &Copy| matches!(it.stage, Stage::Told(_) | Stage::Failed);
        self.finding() == Some(OutboundSynAck::Passed) || self.copies.iter().all(is_over)
    }

    /// What becomes of a SYN-ACK that goes out after a SYN.
    pub(super) fn finding(&self) -> Option<OutboundSynAck> {
        let told = |fate| self.copies.iter().filter(|it| it.stage == Stage::Told(fate)).count();
        if told(OutboundSynAck::Passed) > 0 {
            Some(OutboundSynAck::Passed)
        } else {
            (told(OutboundSynAck::Dropped) >= WITNESSES).then_some(OutboundSynAck::Dropped)
        }
    }
}

impl Copy {
    /// The SYN has passed the NAT: the own stack is given one, and answers it loudly.
    fn answer(&mut self, outbox: &mut Outbox, now: Instant) {
        let Some((_, socket, Ends { local, remote })) = self.opener else { return };
        outbox.adjust_tcp(socket, LOUD);
        let segment = Segment {
            source: remote,
            destination: local,
            flags: flag::SYN,
            sequence: self.number,
            acknowledgment: 0,
            window: WINDOW,
            options: Options::default(),
        };
        self.inject = Some(outbox.inject(segment));
        self.stage = Stage::Sent(now);
    }
}

#[cfg(test)]
mod tests {
    use super::super::bench::{RTT, at, reserve};
    use super::*;
    use crate::command::Command;

    /// Up to the moment at which the SYN-ACKs have left.
    fn sent(deaf: &str) -> (SynAck, Vec<(CommandId, CommandId)>, Outbox, Instant) {
        let connected = |test: &mut SynAck, id, result: &_, outbox: &mut _, _| {
            test.on_connected(id, result, outbox);
        };
        let (mut test, mut outbox, now) = reserve(deaf, SynAck::new, connected, SynAck::on_message);
        let opened: Vec<_> = std::iter::from_fn(|| outbox.poll()).collect();
        assert!(opened.iter().all(
            |it| matches!(it, Command::ConnectTcp { remote, hops: Hops::USUAL, .. } if *remote == at(deaf))
        ));
        let due = test.poll_timeout().map_or(now, |it| it.at);
        test.handle_timeout(&mut outbox, due);
        let commands: Vec<_> = std::iter::from_fn(|| outbox.poll()).collect();
        let injected = commands.iter().filter_map(|command| match command {
            Command::Inject { id, segment, .. } => {
                assert_eq!((segment.flags, segment.source), (flag::SYN, at(deaf)));
                Some(*id)
            }
            Command::AdjustTcp { hops, .. } => {
                assert_eq!(*hops, LOUD);
                None
            }
            other => panic!("{other:?}"),
        });
        let injected: Vec<_> = injected.collect();
        let connects = opened.iter().map(Command::id);
        (test, connects.zip(injected).collect(), outbox, due)
    }

    #[test]
    fn one_rst_shows_that_a_syn_ack_passes() {
        let (mut test, copies, mut outbox, _) = sent("203.0.113.1:6000");
        assert_eq!(copies.len(), COPIES);
        test.on_connected(copies[1].0, &Err(IoFailure::Reset), &mut outbox);
        assert_eq!(test.finding(), Some(OutboundSynAck::Passed));
        assert!(test.is_settled() && test.poll_timeout().is_none());
    }

    #[test]
    fn silence_of_two_copies_shows_that_it_is_dropped_and_of_one_nothing() {
        for (silent, finding) in [(1, None), (2, Some(OutboundSynAck::Dropped))] {
            let (mut test, copies, mut outbox, now) = sent("203.0.113.1:6000");
            for (_, inject) in &copies[silent..] {
                test.on_send_failure(*inject);
            }
            let end = test.poll_timeout().expect("it waits").at;
            assert_eq!(end, now + RTT * 2 + SLACK);
            test.handle_timeout(&mut outbox, end);
            assert_eq!(test.finding(), finding);
            assert!(test.is_settled());
        }
    }

    #[test]
    fn without_the_privilege_or_where_the_syn_is_heard_nothing_is_told() {
        let (mut test, copies, mut outbox, _) = sent("203.0.113.1:6000");
        let ends = Ends { local: at("10.0.0.2:1"), remote: at("203.0.113.1:6000") };
        test.on_connected(copies[0].0, &Ok(ends), &mut outbox);
        for (_, inject) in &copies[1..] {
            test.on_send_failure(*inject);
        }
        assert!(test.is_settled());
        assert_eq!(test.finding(), None);
    }

    #[test]
    fn no_packet_goes_where_a_server_says_that_is_not_the_server() {
        let (test, copies, ..) = sent("198.51.100.9:6000");
        assert!(copies.is_empty() && test.is_settled());
    }
}

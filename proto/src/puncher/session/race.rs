//! Checks and connects: what goes out, and what comes back.

use super::*;
use crate::puncher::report::Strategy;
use crate::puncher::streams::{Proof, Stream};
use crate::tcp_traversal::shielded_opener::{FAR_TTL, OPENED};
use crate::tcp_traversal::simultaneous_open::LeadsElsewhere;
use crate::{Answer, Hops, IoFailure};
use ntcp_stun::{Class, Message};

impl Session {
    /// Sends every check and starts every connect that is due.
    pub(super) fn race(&mut self, now: Instant) {
        while let Some(index) = self.checklist.due(now) {
            let id = self.entropy.transaction_id();
            let pair = &mut self.checklist.pairs[index];
            pair.sending(id, now);
            let (socket, remote) = (pair.socket, pair.remote);
            let payload = self.authenticator.request(id, false);
            self.send_udp(socket, remote, None, payload);
        }
        for index in 0..self.dialers.len() {
            if self.dialers[index].due().is_some_and(|due| due <= now) {
                self.dial(index, now);
            }
        }
    }

    fn dial(&mut self, index: usize, now: Instant) {
        if let Some(bridge) = self.dialers[index].leave_bridge(now) {
            self.close(bridge);
        }
        let remote = self.dialers[index].remote;
        let usual = self.tcp_local(Family::of(remote.ip()));
        let Some(local) = self.dialers[index].local.or(usual) else {
            self.dialers[index].lost(LeadsElsewhere::Yes, now);
            return;
        };
        if self.streams.reaches(remote) {
            // Our listener was quicker: those two ends are connected already.
            self.dialers[index].established();
            return;
        }
        let hops = self.dialers[index].posture().hops();
        let sequence = self.prepare_syn(local, remote);
        let socket = self.connect_with(local, remote, hops, sequence);
        self.dialers[index].connecting(socket, now);
    }

    /// Sends a SYN; if it is to die on the way, what follows it is not.
    pub(super) fn connect(
        &mut self,
        local: SocketAddr,
        remote: SocketAddr,
        hops: Hops,
    ) -> SocketId {
        self.connect_with(local, remote, hops, None)
    }

    pub(super) fn connect_with(
        &mut self,
        local: SocketAddr,
        remote: SocketAddr,
        hops: Hops,
        sequence: Option<u32>,
    ) -> SocketId {
        self.engine.connects += 1;
        let (id, socket) = (self.names.command(), self.names.socket());
        self.connecting.push((id, socket));
        self.commands.push_back(Command::ConnectTcp { id, socket, local, remote, hops, sequence });
        if hops.ttl.is_some_and(|ttl| ttl < FAR_TTL) {
            let id = self.names.command();
            self.commands.push_back(Command::AdjustTcp { id, socket, hops: OPENED });
        }
        socket
    }

    pub(super) fn on_answer(&mut self, id: CommandId, answer: &Answer, now: Instant) {
        match answer {
            Answer::Sent(sent) => {
                if !self.on_injected(id, *sent) && !self.on_probe_sent(id, *sent) {
                    self.on_sent(id, *sent);
                }
            }
            Answer::Connected(connected) => {
                if !self.on_assumed(id, *connected, now) {
                    self.on_connected(id, *connected, now);
                }
            }
            Answer::Done(done) => {
                if !self.on_stand_capture(id, *done, now) {
                    self.on_done(id, *done);
                }
            }
            Answer::Bound(bound) => self.on_udp_bound(id, *bound, now),
            Answer::Closed | Answer::Resolved(_) | Answer::Interfaces(_) => {}
        }
    }

    fn on_sent(&mut self, id: CommandId, sent: Result<(), IoFailure>) {
        let Some(at) = self.sends.iter().position(|(sent, ..)| *sent == id) else { return };
        let (_, socket, remote) = self.sends.swap_remove(at);
        if let (Err(failure), Some(index)) = (sent, self.checklist.position(socket, remote)) {
            self.checklist.pairs[index].failures.count(failure);
        }
    }

    fn on_connected(&mut self, id: CommandId, connected: Result<Ends, IoFailure>, now: Instant) {
        let Some(at) = self.connecting.iter().position(|(command, _)| *command == id) else {
            return;
        };
        let (_, socket) = self.connecting.swap_remove(at);
        let connected = connected.map_err(|failure| self.lose_pin(socket, failure));
        let racing = matches!(self.state, State::Racing);
        if racing && self.on_sample_connected(socket, connected, now) {
            return;
        }
        if racing && self.on_inquiry_connected(socket, connected, now) {
            return;
        }
        if racing && self.on_stand_connected(socket, connected, now) {
            return;
        }
        if racing && self.on_covered(socket, connected, now) {
            return;
        }
        let dialer = self.dialers.iter_mut().find(|it| it.pending() == Some(socket));
        let (Some(dialer), true) = (dialer, racing) else {
            if connected.is_ok() {
                self.close(socket);
            }
            return;
        };
        match connected {
            Ok(ends) => {
                let (strategy, opened) = (dialer.strategy(), dialer.posture().opens());
                dialer.established();
                let kind = dialer.kind;
                if opened {
                    self.unshield(socket);
                }
                self.established(socket, ends, (kind, strategy), now);
            }
            Err(failure) => {
                let began = dialer.since().unwrap_or(now);
                match self.engine.spending.again().filter(|_| failure == IoFailure::OverBudget) {
                    Some(until) => return dialer.postponed(until),
                    None => dialer.failed(failure, now),
                }
                let (kind, local) = (dialer.kind, dialer.local);
                self.hasten(local, now);
                self.lose_reserve(local, now);
                self.note_refusal(kind, failure, (began, now));
                self.pursue(now);
                self.race(now);
            }
        }
    }

    /// What is connected travels and hears like any other.
    pub(super) fn unshield(&mut self, socket: SocketId) {
        let id = self.names.command();
        self.commands.push_back(Command::AdjustTcp { id, socket, hops: Hops::USUAL });
    }

    /// A TCP handshake ended. Each side greets at once; the caller's greeting may choose the stream.
    pub(super) fn established(
        &mut self,
        socket: SocketId,
        ends: Ends,
        (kind, strategy): (CandidateKind, Strategy),
        now: Instant,
    ) {
        let stream = Stream {
            socket,
            ends,
            kind,
            strategy,
            established: now,
            proof: Proof::Awaited,
            stale: false,
        };
        let caller = self.introduction.role == Role::Controlling;
        let chosen = caller && self.selected.is_none() && stream.is_trustworthy();
        if chosen {
            self.selected = Some(socket);
        }
        self.streams.all.push(stream);
        self.greet(socket, chosen);
        self.decide(now);
    }

    pub(super) fn greet(&mut self, socket: SocketId, nominates: bool) {
        let id = self.entropy.transaction_id();
        let payload = self.authenticator.request(id, nominates);
        self.send_tcp(socket, payload);
        if nominates {
            self.events.push_back(Event::Chosen { socket });
        }
    }

    pub(super) fn on_greeting(&mut self, socket: SocketId, payload: &[u8], now: Instant) {
        let message = Message::parse(payload).ok();
        let verified = message.and_then(|message| self.authenticator.verify(&message));
        if !matches!(self.state, State::Racing) {
            return;
        }
        let Some(stream) = self.streams.get(socket) else { return };
        let Some(verified) = verified else {
            stream.proof = Proof::Failed;
            let remote = stream.ends.remote;
            if self.selected == Some(socket) {
                self.selected = None;
            }
            self.give_up(remote, LeadsElsewhere::Yes, now);
            self.close(socket);
            return self.decide(now);
        };
        stream.proof = Proof::Given;
        if stream.strategy == Strategy::GhostHandshake {
            // Only now has anything come all the way.
            stream.established = now;
        }
        match self.introduction.role {
            Role::Controlling => self.decide(now),
            Role::Controlled if verified.nominates => self.settle_tcp(socket, now),
            Role::Controlled => {}
        }
    }

    pub(super) fn on_stream_closed(&mut self, socket: SocketId, reason: IoFailure, now: Instant) {
        let Some(stream) = self.streams.get(socket) else { return };
        let garbled = reason == IoFailure::Garbled;
        stream.proof = if garbled { Proof::Failed } else { Proof::Ended(reason) };
        let remote = stream.ends.remote;
        let elsewhere = if garbled { LeadsElsewhere::Yes } else { LeadsElsewhere::No };
        if self.selected == Some(socket) {
            self.selected = None;
        }
        if matches!(self.state, State::Racing) {
            self.give_up(remote, elsewhere, now);
            self.decide(now);
        }
    }

    fn give_up(&mut self, remote: SocketAddr, leads_elsewhere: LeadsElsewhere, now: Instant) {
        if let Some(dialer) = self.dialers.iter_mut().find(|dialer| dialer.remote == remote) {
            dialer.lost(leads_elsewhere, now);
        }
    }

    pub(super) fn on_datagram(
        &mut self,
        socket: SocketId,
        source: SocketAddr,
        payload: &[u8],
        now: Instant,
    ) {
        let Ok(message) = Message::parse(payload) else { return };
        let Some(verified) = self.authenticator.verify(&message) else {
            self.on_udp_answer(socket, payload, now);
            return;
        };
        match verified.class {
            Class::Request => {
                if !self.is_finished() {
                    let answer = self.authenticator.response(verified.transaction_id, source);
                    self.send_udp(socket, source, None, answer);
                }
                if !matches!(self.state, State::Racing) {
                    return;
                }
                self.checklist.heard(socket, source, now);
                if verified.nominates && self.introduction.role == Role::Controlled {
                    self.settle_udp(socket, source, now);
                } else if now >= self.introduction.start {
                    self.race(now);
                }
            }
            Class::Success => {
                if self.checklist.position(socket, source).is_none() {
                    self.on_probe_answered((socket, source), verified.transaction_id, now);
                }
                if self.checklist.answered(socket, source, verified.transaction_id, now) {
                    self.decide(now);
                }
            }
            Class::Indication | Class::Error => {}
        }
    }
}

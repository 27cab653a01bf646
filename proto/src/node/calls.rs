//! Calls: from the wish to reach a peer to the session that does.

use super::*;
use crate::candidate::{CandidateKind, MAX_CANDIDATES};
use crate::nat::{TcpReport, UdpReport};
use crate::puncher::session::{Introduction, Resources};
use crate::signal::client::{ConnectError, RequestId};
use crate::signal::{Round, TcpSummary, TimedPunch, UdpSummary};
use crate::uri::TransportChoice;

/// A path that is shorter than this may be shorter than the difference between the two starts.
const SHORT_PATH: Duration = Duration::from_millis(5);
/// How much later than the openers the checks leave then.
const OPENER_LEAD: Duration = Duration::from_millis(3);
/// Longest patience with a call; who asks for more means that there is no limit.
const MAX_PATIENCE: Duration = Duration::from_secs(24 * 60 * 60);

/// Names one call; unique within the life of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(pub u64);

/// Why a call came to nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// The broker could not bring the two together.
    #[error(transparent)]
    Signalling(#[from] ConnectError),
    /// They were brought together, but no path came about: the report tells.
    #[error("no direct path came about")]
    NoPath,
    /// The time was up before the broker had answered.
    #[error("the broker had not answered when the time was up")]
    OutOfTime,
    /// This node opens as many paths as it may.
    #[error(
        "{MAX_SESSIONS} paths are being opened at once, which is the limit of a node: try again when some stand"
    )]
    Busy,
    /// The node has been stopped.
    #[error("the node has been stopped")]
    Stopped,
}

#[derive(Debug)]
pub(super) struct Call {
    peer: PeerName,
    transport: TransportChoice,
    port: PortId,
    made: Instant,
    deadline: Instant,
    /// What the client calls it; `None` until our own addresses are known.
    request: Option<RequestId>,
    /// The addresses that the broker was told with the call.
    told: Vec<Candidate>,
    /// The port that was told as its reserve.
    second: Option<PortId>,
}

impl Node {
    /// Calls `peer`. Ends in [`Event::Connected`] or [`Event::CallFailed`] at the latest when
    /// `patience`, or a day, is over; at once on a stopped node.
    pub fn call(
        &mut self,
        peer: PeerName,
        transport: TransportChoice,
        patience: Duration,
        now: Instant,
    ) -> CallId {
        self.made_calls += 1;
        let id = CallId(self.made_calls);
        if self.stopping {
            self.tell_failure(id, CallError::Stopped);
            return id;
        }
        let port = self.reserve;
        self.reserve = self.gatherer.open_port(0, now);
        let deadline = now + patience.min(MAX_PATIENCE);
        let told = Vec::new();
        let call =
            Call { peer, transport, port, made: now, deadline, request: None, told, second: None };
        self.calls.insert(id, call);
        self.work(now);
        id
    }

    /// Gives a call up; no event follows.
    pub fn cancel(&mut self, id: CallId, now: Instant) {
        if let Some(call) = self.calls.remove(&id) {
            if let Some(request) = call.request {
                self.client.cancel(request, now);
            }
            let running = self.sessions.values_mut().find(|running| running.call == Some(id));
            match running {
                Some(running) => running.session.cancel(),
                None => self.gatherer.close_port(call.port),
            }
        }
        self.work(now);
    }

    /// Asks the broker for the peer of each call whose own addresses are known.
    pub(super) fn place_calls(&mut self, now: Instant) {
        for call in self.calls.values_mut() {
            if call.request.is_some() || !self.gatherer.is_settled(call.port) {
                continue;
            }
            let mut candidates = self.gatherer.candidates(call.port);
            call.told.clone_from(&candidates);
            // Nobody calls a node without a name, so that the port it listens on is free for this.
            call.second = self.config.signal.name.is_none().then_some(self.listening);
            let reserve = call.second.and_then(|port| self.gatherer.tcp_sample(port));
            let reserve = reserve.map(|(sample, _)| sample).filter(|_| call.transport.allows_tcp());
            candidates.extend(reserve.filter(|it| it.mapped.is_ipv4()).map(|it| Candidate {
                kind: CandidateKind::Reserve,
                transport: Transport::Tcp,
                address: it.mapped,
            }));
            candidates.truncate(MAX_CANDIDATES);
            let wish = client::Call { transport: call.transport, candidates, round: Round::FIRST };
            call.request = Some(self.client.connect(&call.peer, wish, now));
        }
    }

    pub(super) fn on_punch(&mut self, request: Option<RequestId>, punch: TimedPunch, now: Instant) {
        let TimedPunch { punch, start_at } = punch;
        let call = request
            .and_then(|request| self.calls.iter().find(|(_, call)| call.request == Some(request)));
        let known = self.sessions.contains_key(&punch.session);
        let unwanted = (punch.role == Role::Controlling && call.is_none()) || self.stopping;
        if known || unwanted {
            return;
        }
        if !self.has_room() {
            // Invitations are declined before it comes to this.
            if let Some(id) = call.map(|(id, _)| *id) {
                self.fail_call(id, CallError::Busy);
            }
            return;
        }
        let second = call.and_then(|(_, call)| call.second);
        let (id, port, called, deadline, name, told) = match call {
            Some((id, call)) => {
                let (name, told) = (Some(call.peer.clone()), call.told.clone());
                (Some(*id), call.port, call.made, call.deadline, name, told)
            }
            None => {
                let (port, deadline) = (self.listening, now + CALLEE_PATIENCE);
                (None, port, now, deadline, punch.peer, self.gatherer.candidates(port))
            }
        };
        self.client.follow(punch.session, punch.peer_rtt);
        self.made_sessions += 1;
        let owner = Owner(FIRST_SESSION + self.made_sessions);
        let introduction = Introduction {
            session: punch.session,
            secret: punch.secret,
            role: punch.role,
            peer: name,
            nat: nat_told(punch.nat, &punch.candidates),
            candidates: punch.candidates,
            transport: punch.transport,
            hints: punch.hints,
            start: start_at + self.lead(punch.peer_rtt),
            path: self.longest_path(punch.peer_rtt),
        };
        let resources = self.resources(port);
        let seed = self.entropy.seed();
        let names = Names::new(owner);
        let session = Session::new(introduction, resources, names, seed, called, deadline);
        let running = Running {
            session,
            owner,
            call: id,
            port,
            second,
            reserve: None,
            role: punch.role,
            fingerprint: punch.fingerprint,
            identity: punch.identity,
            secret: punch.secret,
            bare: punch.bare,
            called,
            told,
            note: Note::default(),
            early: VecDeque::new(),
        };
        let running = self.sessions.entry(punch.session).or_insert(running);
        if start_at <= now {
            running.session.handle_timeout(now);
        }
        self.claim(punch.session, now);
        self.tell_peers(port, now);
    }

    /// How long both sides wait between their openers and their first checks. On a path shorter than
    /// the jitter of two programs the openers must be given time, or an early check still meets a
    /// closed NAT. Both sides know both round trips, so both wait alike.
    fn lead(&self, peer_rtt: Option<Duration>) -> Duration {
        let short = self.longest_path(peer_rtt).is_some_and(|path| path < SHORT_PATH);
        if short { OPENER_LEAD } else { Duration::ZERO }
    }

    /// One way to the peer through the broker.
    fn longest_path(&self, peer_rtt: Option<Duration>) -> Option<Duration> {
        self.client.rtt().zip(peer_rtt).map(|(own, peer)| (own + peer) / 2)
    }

    fn resources(&self, port: PortId) -> Resources {
        Resources {
            udp: self.gatherer.udp_sockets(port),
            udp_told: self.gatherer.udp_told(port),
            udp_stun: self.gatherer.udp_servers(port),
            tcp: self.gatherer.tcp_locals(port),
            own: self.gatherer.candidates(port),
            nat: self.nat.clone(),
            told: self.gatherer.tcp_told(port),
            stun: self.gatherer.tcp_servers(port),
            privileges: self.privileges,
            classic: self.classic,
            per_attempt: self.budget.limits().per_attempt,
            keeps_holes: port == self.listening,
            holes: if port == self.listening { self.holes.remotes() } else { Vec::new() },
            listener_reached: self.listener_reached,
            opener_ttl: self.opener_ttl,
            forges: self.forges(port),
        }
    }

    /// In which families the broker may answer the SYNs of a port.
    fn forges(&self, port: PortId) -> Vec<Family> {
        let capabilities = self.client.capabilities();
        let may = |family: &Family| {
            capabilities.may_forge(*family) && self.gatherer.broker_stream(port, *family).is_some()
        };
        [Family::V4, Family::V6].into_iter().filter(may).collect()
    }

    pub(super) fn on_connect_failed(&mut self, request: RequestId, error: ConnectError) {
        let call = self.calls.iter().find(|(_, call)| call.request == Some(request));
        let Some(id) = call.map(|(id, _)| *id) else { return };
        self.fail_call(id, error.into());
    }

    fn fail_call(&mut self, id: CallId, error: CallError) {
        let Some(call) = self.calls.remove(&id) else { return };
        self.gatherer.close_port(call.port);
        self.tell_failure(id, error);
    }

    fn tell_failure(&mut self, id: CallId, error: CallError) {
        let mut report = Report::failed(error.to_string(), Vec::new());
        report.nat.local.clone_from(&self.nat);
        self.events.push_back(Event::CallFailed { call: id, error, report: Box::new(report) });
    }

    /// Ends what has waited too long.
    pub(super) fn expire(&mut self, now: Instant) {
        let late: Vec<_> = self.unplaced().filter(|(_, at)| *at <= now).map(|(id, _)| id).collect();
        for id in late {
            if let Some(request) = self.calls.get(&id).and_then(|call| call.request) {
                self.client.cancel(request, now);
            }
            self.fail_call(id, CallError::OutOfTime);
        }
        self.expire_claims(now);
    }

    pub(super) fn expiry(&self) -> Option<Deadline> {
        let calls = self.unplaced().map(|(_, at)| at).min();
        let calls = calls.map(|at| Deadline::new(at, "end of a call"));
        Deadline::earlier(calls, self.claims_expiry())
    }

    /// Calls without a session, which keeps the deadline of the others.
    fn unplaced(&self) -> impl Iterator<Item = (CallId, Instant)> {
        let has_session = |id| self.sessions.values().any(|running| running.call == Some(id));
        let calls = self.calls.iter().filter(move |(id, _)| !has_session(**id));
        calls.map(|(id, call)| (*id, call.deadline))
    }
}

/// The report that a peer's summary and candidates amount to; `None` if it told nothing.
pub(crate) fn nat_told(summary: NatSummary, candidates: &[Candidate]) -> Option<NatReport> {
    if summary == NatSummary::default() {
        return None;
    }
    let public = |transport: Transport| {
        let reflexive = |it: &&Candidate| {
            it.transport == transport && it.kind == CandidateKind::ServerReflexive
        };
        candidates.iter().find(reflexive).map(|it| it.address)
    };
    let NatSummary { nat, udp, tcp } = summary;
    let UdpSummary { reachable, mapping, filtering, port_allocation, hairpin } = udp;
    let udp = UdpReport {
        reachable: reachable.unwrap_or_default(),
        public_address: public(Transport::Udp),
        mapping,
        filtering,
        port_allocation,
        hairpin,
        lifetime_s: None,
    };
    let TcpSummary { reachable, mapping, filtering, port_allocation, hairpin, .. } = tcp;
    let tcp = TcpReport {
        reachable: reachable.unwrap_or_default(),
        public_address: public(Transport::Tcp),
        mapping,
        filtering,
        port_allocation,
        hairpin,
        unsolicited_syn: tcp.unsolicited_syn,
        inbound_syn_after_syn: tcp.inbound_syn_after_syn,
        isn: tcp.isn,
        mid_stream: tcp.mid_stream,
        inbound_syn_after_rst: tcp.inbound_syn_after_rst,
        inbound_syn_after_icmp: tcp.inbound_syn_after_icmp,
        ..TcpReport::default()
    };
    Some(NatReport { nat, udp, tcp })
}

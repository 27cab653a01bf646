//! Whose input is it?

use ntcp_stun::Message;

use super::*;
use crate::puncher::check::session_named_in;

impl Node {
    pub(super) fn route(&mut self, input: Input<'_>, now: Instant) {
        match input {
            Input::Answer { id, answer } => {
                self.hand_to(id.owner, Input::Answer { id, answer }, now);
            }
            Input::UdpReceived { socket, source, payload } => {
                self.route_datagram(socket, source, payload, now);
            }
            Input::TcpAccepted { socket, ends, .. } => self.on_accepted(socket, ends, now),
            Input::Captured { socket, .. } => self.hand_to(socket.owner, input, now),
            Input::TcpReceived { socket, payload } => self.route_message(socket, payload, now),
            Input::TcpClosed { socket, reason } => {
                self.unclaimed.remove(&socket);
                let owner = self.owner_of(socket);
                self.adopted.remove(&socket);
                self.hand_to(owner, Input::TcpClosed { socket, reason }, now);
            }
        }
    }

    pub(super) fn hand_to(&mut self, owner: Owner, input: Input<'_>, now: Instant) {
        match owner {
            GATHERER => self.gatherer.handle_input(input, now),
            CLIENT => self.client.handle_input(input, now),
            NODE => {}
            other => {
                let running = self.sessions.values_mut().find(|running| running.owner == other);
                match running {
                    Some(running) => running.session.handle_input(input, now),
                    None => self.on_hole(&input, now),
                }
            }
        }
    }

    /// The part that a stream belongs to: an accepted one to the session that adopted it.
    fn owner_of(&self, socket: SocketId) -> Owner {
        let adopter = self.adopted.get(&socket).and_then(|id| self.sessions.get(id));
        adopter.map_or(socket.owner, |running| running.owner)
    }

    fn route_datagram(
        &mut self,
        socket: SocketId,
        source: SocketAddr,
        payload: &[u8],
        now: Instant,
    ) {
        let input = Input::UdpReceived { socket, source, payload };
        if self.client.accepts(source, payload) {
            return self.client.handle_input(input, now);
        }
        let Ok(message) = Message::parse(payload) else {
            return self.on_foreign(socket, source, payload, now);
        };
        match session_named_in(&message).and_then(|id| self.sessions.get_mut(&id)) {
            Some(running) => running.session.handle_input(input, now),
            None if socket.owner == GATHERER => self.gatherer.handle_input(input, now),
            None => self.hand_to(socket.owner, input, now),
        }
    }

    /// Not STUN: the next layer of a peer whose nominations were lost or that was quicker than our
    /// hand-over, or nobody's.
    fn on_foreign(&mut self, socket: SocketId, source: SocketAddr, payload: &[u8], now: Instant) {
        for (id, running) in &mut self.sessions {
            if running.session.foreign_datagram(socket, source, now) {
                if running.early.len() < MAX_EARLY {
                    running.early.push_back(payload.to_vec());
                }
                tracing::trace!(session = %id, "an early datagram");
                return;
            }
        }
    }

    /// If exactly one session expects a stream from there, it is that one's; else the stream has to
    /// name its session first.
    pub(super) fn on_accepted(&mut self, socket: SocketId, ends: Ends, now: Instant) {
        let mut expecting =
            self.sessions.iter_mut().filter(|(_, it)| it.session.expects(ends.remote.ip()));
        if let (Some((id, running)), None) = (expecting.next(), expecting.next()) {
            self.adopted.insert(socket, *id);
            match self.holes.is_open(socket) {
                true => running.session.adopt_hole(socket, ends, now),
                false => running.session.adopt(socket, ends, now),
            }
        } else {
            self.wait_for_claim(socket, ends, now);
        }
    }

    fn route_message(&mut self, socket: SocketId, payload: &[u8], now: Instant) {
        if !self.settle_claim(socket, payload, now) {
            return;
        }
        if socket.owner == GATHERER && self.client.handle_on_stream(socket, payload, now) {
            return;
        }
        let owner = self.owner_of(socket);
        self.hand_to(owner, Input::TcpReceived { socket, payload }, now);
    }
}

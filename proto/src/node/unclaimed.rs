//! Accepted streams of which nobody knows yet whose they are.
//!
//! A peer whose broker is nearer may connect, and greet, before this node has heard of their session: where
//! the NAT lets its SYN in, the listener takes it. The stream waits then for the session that it has named.

use super::*;
use crate::puncher::check::session_named_in;
use ntcp_stun::Message;

/// How long a stream may stay without its session.
const CLAIM_PATIENCE: Duration = Duration::from_secs(10);
/// Streams without their session; a further one is closed.
const MAX_UNCLAIMED: usize = 32;
/// Messages that a stream may say before its session is known; with a further one it is closed.
const MAX_SAID: usize = 4;

/// Such a stream.
#[derive(Debug)]
pub(super) struct Unclaimed {
    ends: Ends,
    since: Instant,
    /// The session that its first message was about.
    named: Option<SessionId>,
    said: Vec<Vec<u8>>,
}

impl Node {
    pub(super) fn wait_for_claim(&mut self, socket: SocketId, ends: Ends, now: Instant) {
        if self.unclaimed.len() < MAX_UNCLAIMED {
            let stream = Unclaimed { ends, since: now, named: None, said: Vec::new() };
            self.unclaimed.insert(socket, stream);
        } else {
            self.close(socket);
        }
    }

    /// A message on a stream that may be nobody's yet; whether it is somebody's now.
    pub(super) fn settle_claim(&mut self, socket: SocketId, payload: &[u8], now: Instant) -> bool {
        let Some(stream) = self.unclaimed.get_mut(&socket) else { return true };
        let message = Message::parse(payload).ok();
        stream.named = stream.named.or_else(|| session_named_in(&message?));
        let named = stream.named.filter(|_| stream.said.len() < MAX_SAID);
        let Some(id) = named else {
            self.unclaimed.remove(&socket);
            self.close(socket);
            return false;
        };
        stream.said.push(payload.to_vec());
        self.claim(id, now);
        false
    }

    /// Gives a session the streams that have named it, and what they have said.
    pub(super) fn claim(&mut self, id: SessionId, now: Instant) {
        while let Some(running) = self.sessions.get_mut(&id) {
            let named = |(_, stream): &(&SocketId, &Unclaimed)| stream.named == Some(id);
            let Some(socket) = self.unclaimed.iter().find(named).map(|(socket, _)| *socket) else {
                return;
            };
            let Some(stream) = self.unclaimed.remove(&socket) else { return };
            let owner = running.owner;
            self.adopted.insert(socket, id);
            running.session.adopt(socket, stream.ends, now);
            for payload in &stream.said {
                self.hand_to(owner, Input::TcpReceived { socket, payload }, now);
            }
        }
    }

    /// Closes what has waited too long.
    pub(super) fn expire_claims(&mut self, now: Instant) {
        let late = self.unclaimed.iter().filter(|(_, it)| it.since + CLAIM_PATIENCE <= now);
        for socket in late.map(|(socket, _)| *socket).collect::<Vec<_>>() {
            self.unclaimed.remove(&socket);
            self.close(socket);
        }
    }

    pub(super) fn claims_expiry(&self) -> Option<Deadline> {
        let first = self.unclaimed.values().map(|it| it.since + CLAIM_PATIENCE).min();
        first.map(|at| Deadline::new(at, "end of an unclaimed stream"))
    }
}

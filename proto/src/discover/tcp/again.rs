//! Whether a second connection between the same ends gets another external port.
//!
//! ```text
//!  client:a ═══ connected, seen as N:x ═══ server:p
//!  client:a ─── RST ─────────────────────▶ server:p      no TIME-WAIT stays behind
//!  client:a ═══ connected, seen as N:y ═══ server:p
//! ```
//!
//! Two connections between the same ends never live at the same time, so the first must end, and with
//! an RST, since the one who closes first could not use the pair of ends again for minutes (RFC 9293
//! section 3.6.1, TIME-WAIT). It is asked only where a port belongs to one destination anyway.

use std::net::SocketAddr;

use super::super::outbox::Outbox;
use crate::command::CommandId;

/// How many ports are tried: one may lose a packet.
const COPIES: usize = 2;

/// A connection that ends so that another can take its place.
#[derive(Debug, Clone, Copy)]
struct Succession {
    local: SocketAddr,
    remote: SocketAddr,
    /// What the first one was seen as.
    first: SocketAddr,
    abort: CommandId,
    has_ended: bool,
    /// What the second one was seen as.
    second: Option<SocketAddr>,
}

/// The test, on some ports.
#[derive(Debug, Default)]
pub(super) struct Again(Vec<Succession>);

/// A connection that may be ended: its stream, its ends, and what it is seen as.
pub(super) type Candidate = (crate::command::SocketId, [SocketAddr; 2], SocketAddr);

impl Again {
    /// Ends the first few connections.
    pub(super) fn begin(
        &mut self,
        candidates: impl Iterator<Item = Candidate>,
        outbox: &mut Outbox,
    ) {
        for (socket, [local, remote], first) in candidates.take(COPIES) {
            let abort = outbox.abort(socket);
            self.0.push(Succession { local, remote, first, abort, has_ended: false, second: None });
        }
    }

    pub(super) fn has_begun(&self) -> bool {
        !self.0.is_empty()
    }

    /// Whether a first connection is still being ended.
    pub(super) fn is_ending(&self) -> bool {
        self.0.iter().any(|it| !it.has_ended)
    }

    /// Whether this port is in use here.
    pub(super) fn uses(&self, port: u16) -> bool {
        self.0.iter().any(|it| it.local.port() == port)
    }

    /// The ends that are free now that a command has been carried out.
    pub(super) fn on_closed(&mut self, id: CommandId) -> Option<[SocketAddr; 2]> {
        let ended = self.0.iter_mut().find(|it| it.abort == id && !it.has_ended)?;
        ended.has_ended = true;
        Some([ended.local, ended.remote])
    }

    /// The second connection from this port was answered.
    pub(super) fn on_answered(&mut self, port: u16, mapped: SocketAddr) {
        if let Some(it) = self.0.iter_mut().find(|it| it.local.port() == port) {
            it.second.get_or_insert(mapped);
        }
    }

    /// Whether the second connection was seen at another address than the first.
    pub(super) fn differs(&self) -> Option<bool> {
        let mut known = self.0.iter().filter_map(|it| Some(it.second? != it.first)).peekable();
        known.peek()?;
        Some(known.all(|it| it))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{Command, Names, Owner};

    #[test]
    fn the_ends_are_used_again_only_when_they_are_free_and_all_ports_must_agree() {
        let (mut outbox, mut names) = (Outbox::new(Owner(1)), Names::new(Owner(1)));
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        let (remote, first) = (at("203.0.113.1:3478"), at("198.51.100.1:1000"));
        let candidates =
            [5001, 5002, 5003].map(|port| (names.socket(), [at("0.0.0.0:0"), remote], port));
        let candidates = candidates.into_iter().map(|(socket, [mut local, remote], port)| {
            local.set_port(port);
            (socket, [local, remote], first)
        });
        let mut again = Again::default();
        again.begin(candidates, &mut outbox);
        let aborts: Vec<CommandId> = std::iter::from_fn(|| outbox.poll())
            .map(|it| match it {
                Command::Abort { id, .. } => id,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(aborts.len(), COPIES);
        assert!(again.uses(5001) && !again.uses(5003) && again.is_ending());
        for (abort, port) in aborts.iter().zip([5001, 5002]) {
            let free = again.on_closed(*abort).expect("free now");
            assert_eq!(free.map(|it| it.port()), [port, 3478]);
            assert_eq!(again.on_closed(*abort), None, "told twice");
        }
        assert!(!again.is_ending());
        assert_eq!(again.differs(), None);
        again.on_answered(5001, at("198.51.100.1:1001"));
        assert_eq!(again.differs(), Some(true));
        again.on_answered(5002, first);
        assert_eq!(again.differs(), Some(false));
    }
}

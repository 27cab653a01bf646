//! Connect, close and listen, carried out from the stand.

use super::*;

impl Session {
    /// Opens our NAT for the peer, or dials the peer once it listens.
    pub(super) fn open_classic(&mut self, part: Part, sample: Sample, now: Instant) {
        let Some(ends) = self.ends_of_stands(sample) else { return };
        let listens = self.theirs_stand().is_some_and(|stand| stand.listens);
        let opens = part == Part::Opener;
        if !opens && !listens {
            return;
        }
        let hops = if opens { connect_close_listen::OPENING } else { Hops::USUAL };
        let socket = self.connect_with(ends.local, ends.remote, hops, None);
        let Some(forging) = &mut self.engine.forging else { return };
        forging.last = Strategy::ConnectCloseListen;
        let pending = Pending { socket, ends };
        forging.stage = if opens {
            Stage::Making(sample, pending, now + connect_close_listen::HOLE_TIME)
        } else {
            Stage::Opening(sample, pending)
        };
    }

    /// Our NAT is open: a listener takes the socket's place.
    pub(super) fn listen_instead(&mut self, sample: Sample) {
        let pending = self.engine.forging.as_ref().and_then(Forging::pending);
        if let Some(pending) = pending {
            self.close(pending.socket);
        }
        let (id, socket) = (self.names.command(), self.names.socket());
        self.commands.push_back(Command::ListenTcp { id, socket, local: sample.local });
        if let Some(forging) = &mut self.engine.forging {
            forging.stage = Stage::Listening(sample, socket);
        }
    }

    /// The strategy of a stream that our listener has accepted.
    pub(in crate::puncher::session) fn strategy_at(&self, ends: Ends) -> Option<Strategy> {
        let Some(Forging { stage: Stage::Listening(sample, _), .. }) = &self.engine.forging else {
            return None;
        };
        (sample.local.port() == ends.local.port()).then_some(Strategy::ConnectCloseListen)
    }
}

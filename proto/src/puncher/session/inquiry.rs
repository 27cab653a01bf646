//! Where one fresh port is met: a server is asked, aside from the [surveys](super::survey), so that what
//! needs a port of its own goes on beside everything else.

use super::*;
use crate::puncher::gather::probe::{binding_request, binding_response};
use crate::tcp_traversal::survey::Sample;
use crate::{Hops, IoFailure};

/// How long an answer is waited for, beyond three round trips, before another server is asked from another
/// port.
const MARGIN: Duration = Duration::from_millis(300);
/// Questions for one purpose.
const MOST: u32 = 3;

/// Who wants to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asker {
    /// A ghost.
    Ghost,
    /// What is made by hand.
    Stand,
}

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    /// No answer yet.
    Waiting,
    /// It is met there.
    At(Sample),
    /// Nobody has told.
    Nothing,
}

/// One question.
#[derive(Debug)]
pub(super) struct Inquiry {
    asker: Asker,
    family: Family,
    /// None where no server is needed.
    socket: Option<SocketId>,
    begun: Instant,
    until: Instant,
    asked: u32,
    local: Option<SocketAddr>,
    told: Told,
}

impl Inquiry {
    /// The connection to the server, which keeps the NAT's mapping.
    pub(super) fn socket(&self) -> Option<SocketId> {
        self.socket
    }

    /// When the server has taken too long.
    pub(super) fn due(&self) -> Option<Instant> {
        (self.told == Told::Waiting).then_some(self.until)
    }
}

impl Session {
    /// Asks from a fresh port. What was asked for the same purpose before is forgotten.
    pub(super) fn inquire(&mut self, asker: Asker, family: Family, now: Instant) {
        self.close_inquiry(asker);
        self.engine.hands.since.get_or_insert(now);
        self.ask_from_fresh_port((asker, family), 1, now);
    }

    fn ask_from_fresh_port(&mut self, (asker, family): (Asker, Family), asked: u32, now: Instant) {
        let of_family = |it: &&SocketAddr| Family::of(it.ip()) == family;
        let servers: Vec<_> = self.resources.stun.iter().filter(of_family).copied().collect();
        let Some(local) = self.tcp_local(family) else { return };
        let path = self.introduction.path.unwrap_or_default();
        let until = now + 3 * self.engine.rtt.max(2 * path) + MARGIN;
        let turn = usize::try_from(asked).unwrap_or_default().saturating_sub(1);
        let (socket, told) = match servers.get(turn % servers.len().max(1)) {
            Some(server) => {
                let fresh = SocketAddr::new(local.ip(), 0);
                (Some(self.connect(fresh, *server, Hops::USUAL)), Told::Waiting)
            }
            None => (None, self.untranslated(family)),
        };
        let local = None;
        let inquiry = Inquiry { asker, family, socket, begun: now, until, asked, local, told };
        self.engine.inquiries.push(inquiry);
    }

    /// Nobody is there to ask: a port of an address that others have, if there is one.
    fn untranslated(&mut self, family: Family) -> Told {
        let port = self.dynamic_port();
        let known = |it: &&Candidate| {
            let ip = it.address.ip();
            it.kind == CandidateKind::Host && Family::of(ip) == family && !address::is_private(ip)
        };
        let own = self.resources.own.iter().find(known).map(|it| it.address.ip());
        let sample = |ip| SocketAddr::new(ip, port);
        own.map_or(Told::Nothing, |ip| Told::At(Sample { local: sample(ip), mapped: sample(ip) }))
    }

    /// What has become known.
    pub(super) fn inquired(&self, asker: Asker) -> Told {
        let found = self.engine.inquiries.iter().find(|it| it.asker == asker);
        found.map_or(Told::Nothing, |inquiry| inquiry.told)
    }

    fn close_inquiry(&mut self, asker: Asker) {
        let ended = self.engine.inquiries.extract_if(.., |it| it.asker == asker);
        let ended: Vec<_> = ended.filter_map(|it| it.socket).collect();
        ended.into_iter().for_each(|socket| self.close(socket));
    }

    /// Asks once more where a server has not answered in time.
    pub(super) fn repeat_inquiries(&mut self, now: Instant) {
        let late = |it: &Inquiry| it.due().is_some_and(|at| at <= now);
        while let Some(at) = self.engine.inquiries.iter().position(late) {
            self.ask_once_more(at, now);
        }
    }

    fn ask_once_more(&mut self, at: usize, now: Instant) {
        let inquiry = &mut self.engine.inquiries[at];
        if inquiry.asked >= MOST {
            inquiry.told = Told::Nothing;
            return;
        }
        let Inquiry { asker, family, asked, .. } = *inquiry;
        self.close_inquiry(asker);
        self.ask_from_fresh_port((asker, family), asked + 1, now);
    }

    /// Whether this was the connection of a question.
    pub(super) fn on_inquiry_connected(
        &mut self,
        socket: SocketId,
        connected: Result<Ends, IoFailure>,
        now: Instant,
    ) -> bool {
        let found = self.engine.inquiries.iter().position(|it| it.socket == Some(socket));
        let Some(at) = found else { return false };
        let inquiry = &mut self.engine.inquiries[at];
        match connected {
            Ok(ends) => {
                inquiry.local = Some(ends.local);
                let begun = inquiry.begun;
                self.engine.took(now.saturating_duration_since(begun));
                let id = self.entropy.transaction_id();
                self.send_tcp(socket, binding_request(id));
            }
            Err(_) => {
                self.ask_once_more(at, now);
                self.pursue(now);
            }
        }
        true
    }

    /// Whether this was the answer to a question.
    pub(super) fn on_inquiry_answered(
        &mut self,
        socket: SocketId,
        payload: &[u8],
        now: Instant,
    ) -> bool {
        let inquiry = self.engine.inquiries.iter_mut().find(|it| it.socket == Some(socket));
        let Some(inquiry) = inquiry else { return false };
        if let (Some((_, mapped)), Some(local), Told::Waiting) =
            (binding_response(payload), inquiry.local, inquiry.told)
        {
            inquiry.told = Told::At(Sample { local, mapped });
            self.pursue(now);
        }
        true
    }

    /// Whether this was the connection of a question.
    pub(super) fn on_inquiry_lost(&mut self, socket: SocketId, now: Instant) -> bool {
        let found = self.engine.inquiries.iter().position(|it| it.socket == Some(socket));
        let Some(at) = found else { return false };
        if self.engine.inquiries[at].told == Told::Waiting {
            self.ask_once_more(at, now);
            self.pursue(now);
        }
        true
    }
}

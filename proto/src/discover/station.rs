//! One RFC 5780 test on sockets of its own: bound, run, heard.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ntcp_stun::behavior::{
    Alternate, Change, Datagram, FilteringTest, HairpinTest, HonestyTest, MappingTest, PortTest,
    RequestSeed, Slot, Test, Transmit,
};

use super::outbox::Outbox;
use crate::command::{CommandId, IoFailure, SocketId};

/// Which test, of what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Job {
    /// What the external port depends on.
    Mapping,
    /// How this many external ports are chosen.
    Ports { server: SocketAddr, rtt: Duration, sockets: u8 },
    /// Whether the host reaches itself.
    Hairpin { server: SocketAddr, rtt: Duration },
    /// Whose packets come in.
    Filtering { alternate: Alternate, rtt: Duration, change: Change },
    /// Whether the server sends changed replies.
    Honesty { alternate: Alternate, rtt: Duration },
}

impl Job {
    /// How many sockets the test needs.
    fn sockets(self) -> u8 {
        match self {
            Self::Mapping | Self::Filtering { .. } | Self::Honesty { .. } => 1,
            Self::Hairpin { .. } => 2,
            Self::Ports { sockets, .. } => sockets,
        }
    }

    fn start(self, seed: RequestSeed, now: Instant) -> Running {
        match self {
            Self::Mapping => Running::Mapping(MappingTest::new(seed)),
            Self::Ports { server, rtt, sockets } => {
                Running::Ports(PortTest::new(seed, server, sockets, rtt, now))
            }
            Self::Hairpin { server, rtt } => {
                Running::Hairpin(HairpinTest::new(seed, server, rtt, now))
            }
            Self::Filtering { alternate, rtt, change } => {
                Running::Filtering(FilteringTest::new(seed, alternate, change, rtt, now))
            }
            Self::Honesty { alternate, rtt } => {
                Running::Honesty(Box::new(HonestyTest::new(seed, alternate, rtt, now)))
            }
        }
    }

    /// Whether it asks this server for changed replies on a fresh socket.
    pub(super) fn is_filtering_of(self, server: Alternate) -> bool {
        match self {
            Self::Filtering { alternate, .. } => alternate == server,
            Self::Mapping | Self::Ports { .. } | Self::Hairpin { .. } | Self::Honesty { .. } => {
                false
            }
        }
    }

    /// What its timer is for, in a few words for the log.
    pub(super) fn reason(self) -> &'static str {
        match self {
            Self::Mapping => "ask for the UDP mapping again",
            Self::Ports { .. } => "ask for the UDP port again",
            Self::Hairpin { .. } => "try the UDP hairpin again",
            Self::Filtering { .. } => "ask for a changed reply again",
            Self::Honesty { .. } => "ask for a changed reply through an open hole again",
        }
    }
}

/// A test under way.
#[derive(Debug)]
pub(super) enum Running {
    Mapping(MappingTest),
    Ports(PortTest),
    Hairpin(HairpinTest),
    Filtering(FilteringTest),
    Honesty(Box<HonestyTest>),
}

impl Running {
    fn test(&self) -> &dyn Test {
        match self {
            Self::Mapping(test) => test,
            Self::Ports(test) => test,
            Self::Hairpin(test) => test,
            Self::Filtering(test) => test,
            Self::Honesty(test) => &**test,
        }
    }

    fn test_mut(&mut self) -> &mut dyn Test {
        match self {
            Self::Mapping(test) => test,
            Self::Ports(test) => test,
            Self::Hairpin(test) => test,
            Self::Filtering(test) => test,
            Self::Honesty(test) => &mut **test,
        }
    }
}

#[derive(Debug)]
enum Stage {
    /// Until every socket is bound.
    Binding,
    Running(Running),
    /// A socket could not be had.
    Failed(IoFailure),
}

/// A socket of a station.
#[derive(Debug)]
struct Socket {
    bind: CommandId,
    name: SocketId,
    local: Option<SocketAddr>,
}

/// A test with its sockets.
#[derive(Debug)]
pub(super) struct Station {
    job: Job,
    seed: RequestSeed,
    /// In the order of the test's slots.
    sockets: Vec<Socket>,
    stage: Stage,
}

impl Station {
    /// Binds fresh sockets for `job` on `local`. The test uses them in another order than they were
    /// bound, as `order` says: where the system numbers its ports in sequence, this keeps a NAT that
    /// adds a constant from looking like one that counts.
    pub(super) fn open(
        job: Job,
        seed: RequestSeed,
        local: SocketAddr,
        mut order: impl FnMut(usize) -> usize,
        outbox: &mut Outbox,
    ) -> Self {
        let mut sockets = Vec::new();
        for _ in 0..job.sockets() {
            let (bind, name) = outbox.bind_udp(local);
            let place = order(sockets.len() + 1);
            sockets.insert(place.min(sockets.len()), Socket { bind, name, local: None });
        }
        Self { job, seed, sockets, stage: Stage::Binding }
    }

    /// Runs `job` on the socket of `host`, which is bound already.
    pub(super) fn share(job: Job, seed: RequestSeed, host: &Self, now: Instant) -> Self {
        let share = |it: &Socket| Socket { bind: it.bind, name: it.name, local: it.local };
        let sockets = host.sockets.iter().map(share).collect();
        Self { job, seed, sockets, stage: Stage::Running(job.start(seed, now)) }
    }

    pub(super) fn job(&self) -> Job {
        self.job
    }

    /// The test, once all sockets are bound.
    pub(super) fn running(&self) -> Option<&Running> {
        match &self.stage {
            Stage::Running(running) => Some(running),
            Stage::Binding | Stage::Failed(_) => None,
        }
    }

    pub(super) fn running_mut(&mut self) -> Option<&mut Running> {
        match &mut self.stage {
            Stage::Running(running) => Some(running),
            Stage::Binding | Stage::Failed(_) => None,
        }
    }

    /// Why there is no socket.
    pub(super) fn failure(&self) -> Option<IoFailure> {
        match self.stage {
            Stage::Failed(failure) => Some(failure),
            Stage::Binding | Stage::Running(_) => None,
        }
    }

    /// Where the socket of this slot is bound.
    pub(super) fn local(&self, slot: Slot) -> Option<SocketAddr> {
        self.sockets.get(usize::from(slot.0))?.local
    }

    /// A bind was answered; the last one starts the test.
    pub(super) fn on_bound(
        &mut self,
        id: CommandId,
        result: Result<SocketAddr, IoFailure>,
        now: Instant,
    ) {
        let Some(socket) = self.sockets.iter_mut().find(|it| it.bind == id) else { return };
        match (&self.stage, result) {
            (Stage::Binding, Ok(local)) => {
                socket.local = Some(local);
                if self.sockets.iter().all(|it| it.local.is_some()) {
                    self.stage = Stage::Running(self.job.start(self.seed, now));
                }
            }
            (Stage::Binding, Err(failure)) => self.stage = Stage::Failed(failure),
            (Stage::Running(_) | Stage::Failed(_), _) => {}
        }
    }

    pub(super) fn on_datagram(
        &mut self,
        socket: SocketId,
        source: SocketAddr,
        payload: &[u8],
        now: Instant,
    ) {
        let Some(index) = self.sockets.iter().position(|it| it.name == socket) else { return };
        let (Some(running), Ok(slot)) = (self.running_mut(), u8::try_from(index)) else { return };
        running.test_mut().handle_datagram(Datagram { slot: Slot(slot), source, payload }, now);
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if let Some(running) = self.running_mut() {
            let test = running.test_mut();
            if test.poll_timeout().is_some_and(|at| at <= now) {
                test.handle_timeout(now);
            }
        }
    }

    /// Sends what the test wants sent.
    pub(super) fn flush(&mut self, outbox: &mut Outbox) {
        let Stage::Running(running) = &mut self.stage else { return };
        while let Some(Transmit { slot, destination, payload }) = running.test_mut().poll_transmit()
        {
            if let Some(socket) = self.sockets.get(usize::from(slot.0)) {
                outbox.send_udp(socket.name, destination, payload);
            }
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.running()?.test().poll_timeout()
    }

    /// Whether nothing more is to come.
    pub(super) fn is_settled(&self) -> bool {
        match &self.stage {
            Stage::Binding => false,
            Stage::Running(running) => running.test().is_settled(),
            Stage::Failed(_) => true,
        }
    }
}

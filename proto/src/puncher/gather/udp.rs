//! One UDP socket of a port, and what the STUN servers call it.

use std::net::SocketAddr;
use std::time::Instant;

use super::probe::{UdpProbe, are_one_host, other_address};
use crate::address::Family;
use crate::command::Names;
use crate::entropy::Entropy;
use crate::{Command, CommandId, IoFailure, SocketId};

#[derive(Debug)]
pub(super) struct UdpEnd {
    pub(super) family: Family,
    pub(super) socket: SocketId,
    pub(super) local: Option<Result<SocketAddr, IoFailure>>,
    binding: CommandId,
    probes: Vec<UdpProbe>,
    /// The other address of the only server's: nobody waits for its answer.
    alternate: Option<UdpProbe>,
    /// Where the broker saw us last: a NAT that has forgotten a mapping gives its port away.
    observed: Option<SocketAddr>,
}

impl UdpEnd {
    /// An end of `family`, and the command that opens it on `local`.
    pub(super) fn open(family: Family, local: SocketAddr, names: &mut Names) -> (Self, Command) {
        let (id, socket) = (names.command(), names.socket());
        let (probes, alternate, observed) = (Vec::new(), None, None);
        let end = Self { family, socket, local: None, binding: id, probes, alternate, observed };
        (end, Command::BindUdp { id, socket, local })
    }

    /// Whether this was the answer to our command.
    pub(super) fn on_bound(&mut self, id: CommandId, bound: Result<SocketAddr, IoFailure>) -> bool {
        if id == self.binding && self.local.is_none() {
            self.local = Some(bound);
            return true;
        }
        false
    }

    /// A broker saw us at this address. Whether that is new.
    pub(super) fn on_observed(&mut self, address: SocketAddr) -> bool {
        self.observed.replace(address) != Some(address)
    }

    pub(super) fn mapped(&self) -> impl Iterator<Item = SocketAddr> {
        let probed = self.answers().map(|(_, mapped)| mapped);
        probed.chain(self.observed)
    }

    /// The servers that answered, and what each calls us.
    pub(super) fn answers(&self) -> impl Iterator<Item = (SocketAddr, SocketAddr)> {
        let all = self.probes.iter().chain(&self.alternate);
        all.filter_map(|probe| Some((probe.server, probe.mapped?)))
    }

    pub(super) fn is_settled(&self) -> bool {
        match self.local {
            None => false,
            Some(Err(_)) => true,
            Some(Ok(_)) => self.probes.iter().all(UdpProbe::is_settled),
        }
    }

    /// Whether this datagram told something new.
    pub(super) fn on_datagram(&mut self, source: SocketAddr, payload: &[u8], now: Instant) -> bool {
        let mut all = self.probes.iter_mut().chain(&mut self.alternate);
        let news = all.any(|probe| probe.on_response(source, payload, now));
        if news && self.alternate.is_none() && are_one_host(self.probes.iter().map(|it| it.server))
        {
            let other = other_address(source, payload);
            self.alternate = other.map(|server| UdpProbe::new(server, now));
        }
        news
    }

    /// The questions that are due.
    pub(super) fn drive(
        &mut self,
        servers: &[SocketAddr],
        names: &mut Names,
        entropy: &mut Entropy,
        now: Instant,
    ) -> Vec<Command> {
        let Some(Ok(_)) = self.local else { return Vec::new() };
        for server in servers.iter().filter(|server| Family::of(server.ip()) == self.family) {
            if self.probes.iter().all(|probe| probe.server != *server) {
                self.probes.push(UdpProbe::new(*server, now));
            }
        }
        let socket = self.socket;
        let mut ask = |probe: &mut UdpProbe| {
            let payload = probe.due(entropy, now)?;
            let (id, remote) = (names.command(), probe.server);
            Some(Command::SendUdp { id, socket, remote, ttl: None, payload })
        };
        self.probes.iter_mut().chain(&mut self.alternate).filter_map(&mut ask).collect()
    }

    pub(super) fn next(&self) -> Option<Instant> {
        let Some(Ok(_)) = self.local else { return None };
        self.probes.iter().chain(&self.alternate).map(UdpProbe::next).min()
    }
}

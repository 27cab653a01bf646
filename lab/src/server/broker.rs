//! The connection broker in the simulated internet.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Instant;

use ntcp_proto::rendezvous::{Broker, Command, Input, Link, StreamId as BrokerStream};
use ntcp_proto::{Deadline, Machine};

use super::{Arrival, Departure, Server, StreamId};

/// A broker behind the interface of simulated servers.
pub struct BrokerServer {
    broker: Broker,
    /// The clients' ends of streams.
    streams: BTreeMap<StreamId, SocketAddr>,
    /// Where datagrams are answered from if the broker leaves it open.
    local: SocketAddr,
}

impl BrokerServer {
    /// A server around `broker`; `local` is where its datagrams come from.
    pub fn new(broker: Broker, local: SocketAddr) -> Self {
        Self { broker, streams: BTreeMap::new(), local }
    }

    fn drain_events(&mut self) {
        // Events are for the log of a real broker.
        while self.broker.poll_event().is_some() {}
    }
}

impl Server for BrokerServer {
    fn handle_arrival(&mut self, arrival: Arrival<'_>, now: Instant) {
        match arrival {
            Arrival::Datagram { local, source, payload } => {
                let link = Link::Udp { local: Some(local.ip()), remote: source };
                self.broker.handle_input(Input::Received { link, payload }, now);
            }
            Arrival::Opened { stream, source, .. } => {
                self.streams.insert(stream, source);
            }
            Arrival::Message { stream, payload } => {
                let Some(remote) = self.streams.get(&stream).copied() else { return };
                let link = Link::Tcp { stream: BrokerStream(stream.0), remote };
                self.broker.handle_input(Input::Received { link, payload }, now);
            }
            Arrival::Closed { stream } => {
                self.streams.remove(&stream);
                let stream = BrokerStream(stream.0);
                self.broker.handle_input(Input::Closed { stream }, now);
            }
            // A broker asks for neither.
            Arrival::Reserved { .. } | Arrival::Connected { .. } => {}
        }
        self.drain_events();
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.broker.handle_timeout(now);
        self.drain_events();
    }

    fn poll_departure(&mut self) -> Option<Departure> {
        Some(match self.broker.poll_command()? {
            Command::Send { link: Link::Udp { local, remote }, payload } => {
                let ip = local.unwrap_or(self.local.ip());
                let local = SocketAddr::new(ip, self.local.port());
                Departure::Datagram { local, remote, payload }
            }
            Command::Send { link: Link::Tcp { stream, .. }, payload } => {
                Departure::Message { stream: StreamId(stream.0), payload }
            }
            // A broker in the lab shares no directory, and has nobody to send that to.
            Command::Send { link: Link::Broker { .. }, .. }
            | Command::Claim { .. }
            | Command::Release { .. }
            | Command::Find { .. }
            | Command::Post { .. } => return self.poll_departure(),
            Command::Inject { segment, ttl } => Departure::Segment { segment, ttl },
            Command::InjectDatagram { source, destination, ttl, payload } => {
                Departure::Forged { source, remote: destination, ttl, payload }
            }
            Command::Close { stream } => {
                self.streams.remove(&StreamId(stream.0));
                Departure::Close { stream: StreamId(stream.0) }
            }
        })
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        self.broker.poll_timeout()
    }
}

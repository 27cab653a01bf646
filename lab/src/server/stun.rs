//! A STUN server in the simulated internet: two addresses with two ports each.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Instant;

use ntcp_stun::server::{Quartet, QuartetError, Request, Server as StunLogic, Transport};

use super::{Arrival, Departure, Server, StreamId};

/// Room for any reply: requests are no longer than a packet, and replies not longer than 116 bytes
/// or than their request.
const MAX_REPLY: usize = 2048;

/// A STUN server behind the interface of simulated servers.
pub struct StunServer {
    logic: StunLogic,
    /// Both ends of each stream.
    streams: BTreeMap<StreamId, (SocketAddr, SocketAddr)>,
    departures: VecDeque<Departure>,
}

impl StunServer {
    /// A server that can answer from elsewhere, and the four addresses it must be started on.
    ///
    /// # Errors
    ///
    /// Unless the two differ in IP and port, within one family.
    pub fn new(
        primary: SocketAddr,
        alternate: SocketAddr,
    ) -> Result<(Self, [SocketAddr; 4]), QuartetError> {
        let quartet = Quartet::new(primary, alternate)?;
        let mut logic = StunLogic::new();
        logic.add_quartet(quartet);
        let server = Self { logic, streams: BTreeMap::new(), departures: VecDeque::new() };
        Ok((server, quartet.addresses()))
    }

    fn answer(&mut self, request: Request<'_>) -> Option<(SocketAddr, SocketAddr, Vec<u8>)> {
        let mut buffer = [0; MAX_REPLY];
        // Silence is an answer, too.
        let reply = self.logic.handle_request(request, &mut buffer).ok()?;
        Some((reply.from, reply.to, buffer[..reply.length].to_vec()))
    }
}

impl Server for StunServer {
    fn handle_arrival(&mut self, arrival: Arrival<'_>, _: Instant) {
        match arrival {
            Arrival::Datagram { local, source, payload } => {
                let transport = Transport::Udp;
                let reply = self.answer(Request { bytes: payload, source, local, transport });
                self.departures.extend(reply.map(|(local, remote, payload)| Departure::Datagram {
                    local,
                    remote,
                    payload,
                }));
            }
            Arrival::Opened { stream, local, source } => {
                self.streams.insert(stream, (local, source));
            }
            Arrival::Message { stream, payload } => {
                let Some((local, source)) = self.streams.get(&stream).copied() else { return };
                let transport = Transport::Tcp;
                let reply = self.answer(Request { bytes: payload, source, local, transport });
                self.departures
                    .extend(reply.map(|(_, _, payload)| Departure::Message { stream, payload }));
            }
            Arrival::Closed { stream } => {
                self.streams.remove(&stream);
            }
        }
    }

    fn poll_departure(&mut self) -> Option<Departure> {
        self.departures.pop_front()
    }
}

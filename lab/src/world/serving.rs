//! Servers on simulated hosts.

use std::any::Any;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use ntcp_proto::command::Ends;
use ntcp_proto::{Deadline, Hops, IoFailure, datagram};
use ntcp_stun::framing::{Frame, frame};
use ntcp_stun::probe::LOUD;
use ntcp_stun::server::Conduct;

use super::{HostId, Node, World};
use crate::host::{Notice, Socket};
use crate::runner::{Process, System};
use crate::server::{Arrival, Departure, Server, StreamId, WishId};

/// Names a server of a world.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerId(usize);

/// Longest message a stream may carry to a server, in bytes.
const MAX_MESSAGE: usize = 8192;

impl World {
    /// Starts a server on these addresses of a host, over UDP and over TCP.
    ///
    /// # Panics
    ///
    /// If an address is not the host's, or in use.
    pub fn serve(
        &mut self,
        host: HostId,
        server: Box<dyn Server>,
        datagram: &[SocketAddr],
        stream: &[SocketAddr],
    ) -> ServerId {
        let Node::Host(kernel) = &mut self.slots[host.0].node else {
            panic!("a host id names a host")
        };
        let mut serving = Serving {
            server,
            datagram: BTreeMap::new(),
            listeners: BTreeMap::new(),
            streams: BTreeMap::new(),
            buffers: BTreeMap::new(),
            wishes: BTreeMap::new(),
            opened: 0,
        };
        for local in datagram {
            let (socket, local) = kernel.bind_udp(*local).expect("a free address of the host");
            serving.datagram.insert(local, socket);
        }
        for local in stream {
            let (socket, _) = kernel.listen_tcp(*local).expect("an address of the host");
            serving.listeners.insert(socket, *local);
        }
        let index = self.add_process(host, Box::new(serving));
        self.with_process(index, |_, _| {});
        ServerId(index)
    }

    /// Kills a server: its sockets close, its memory is gone.
    pub fn kill_server(&mut self, server: ServerId) {
        self.kill_process(server.0);
    }
}

struct Serving {
    server: Box<dyn Server>,
    datagram: BTreeMap<SocketAddr, Socket>,
    listeners: BTreeMap<Socket, SocketAddr>,
    streams: BTreeMap<StreamId, Socket>,
    buffers: BTreeMap<Socket, (StreamId, Vec<u8>)>,
    /// Reserved ports and connects under way.
    wishes: BTreeMap<WishId, Socket>,
    opened: u64,
}

/// No packet that has travelled has this TTL.
const UNTRAVELLED: u8 = u8::MAX;

impl Serving {
    fn depart(&mut self, system: &mut System<'_>) {
        while let Some(departure) = self.server.poll_departure() {
            match departure {
                Departure::Datagram { local, remote, payload } => {
                    let Some(socket) = self.datagram.get(&local) else { continue };
                    // What cannot be sent is lost, as on any network.
                    let _ = system.host.send_udp(*socket, remote, None, &payload).is_ok();
                }
                Departure::Message { stream, payload } => {
                    let Some(socket) = self.streams.get(&stream) else { continue };
                    let _ = system.host.send_tcp(*socket, &payload, system.now).is_ok();
                }
                Departure::Segment { segment, ttl } => {
                    system.host.send_raw(segment.emit(ttl));
                }
                Departure::Forged { source, remote, ttl, payload } => {
                    system.host.send_raw(datagram::emit(source, remote, ttl, &payload));
                }
                Departure::Close { stream } => {
                    if let Some(socket) = self.streams.remove(&stream) {
                        self.buffers.remove(&socket);
                        system.host.close(socket, system.now);
                    }
                }
                Departure::Reserve { wish, ip, conduct } => {
                    self.reserve(wish, (ip, conduct), system);
                }
                Departure::Connect { wish, local, remote, ttl } => {
                    self.connect(wish, (local, remote), ttl, system);
                }
                Departure::GiveUp { wish } => {
                    if let Some(socket) = self.wishes.remove(&wish) {
                        system.host.close(socket, system.now);
                    }
                }
            }
        }
    }

    fn reserve(&mut self, wish: WishId, (ip, conduct): (IpAddr, Conduct), system: &mut System<'_>) {
        let Ok((socket, local)) = system.host.listen_tcp(SocketAddr::new(ip, 0)) else { return };
        match conduct {
            Conduct::Quiet | Conduct::Deaf => {
                let least = if conduct == Conduct::Quiet { UNTRAVELLED } else { LOUD };
                system.host.set_hops(socket, Hops { ttl: None, least: Some(least) });
                self.wishes.insert(wish, socket);
            }
            // Where nobody listens the host refuses; its free ports are many.
            Conduct::Refusing => system.host.close(socket, system.now),
        }
        self.server.handle_arrival(Arrival::Reserved { wish, local }, system.now);
    }

    fn connect(
        &mut self,
        wish: WishId,
        (local, remote): (SocketAddr, SocketAddr),
        ttl: Option<u8>,
        system: &mut System<'_>,
    ) {
        let hops = Hops { ttl, least: None };
        match system.host.connect_tcp(local, remote, hops, None, system.now) {
            Ok(socket) => drop(self.wishes.insert(wish, socket)),
            Err(failure) => {
                let arrival = Arrival::Connected { wish, result: Err(failure) };
                self.server.handle_arrival(arrival, system.now);
            }
        }
    }

    fn connected(&mut self, socket: Socket, result: Result<Ends, IoFailure>, now: Instant) {
        let wish = self.wishes.iter().find(|(_, it)| **it == socket).map(|(wish, _)| *wish);
        let Some(wish) = wish else { return };
        self.wishes.remove(&wish);
        let result = result.map(|_| {
            self.opened += 1;
            let stream = StreamId(self.opened);
            self.streams.insert(stream, socket);
            self.buffers.insert(socket, (stream, Vec::new()));
            stream
        });
        self.server.handle_arrival(Arrival::Connected { wish, result }, now);
    }

    fn deliver(&mut self, socket: Socket, system: &mut System<'_>) {
        while let Some((stream, buffer)) = self.buffers.get_mut(&socket) {
            let stream = *stream;
            match frame(buffer, MAX_MESSAGE) {
                Ok(Frame::Complete { length }) => {
                    let message: Vec<u8> = buffer.drain(..length).collect();
                    let arrival = Arrival::Message { stream, payload: &message };
                    self.server.handle_arrival(arrival, system.now);
                    self.depart(system);
                }
                Ok(Frame::Incomplete { .. }) => return,
                Err(_) => {
                    system.host.close(socket, system.now);
                    return self.ended(socket, system);
                }
            }
        }
    }

    fn ended(&mut self, socket: Socket, system: &mut System<'_>) {
        let Some((stream, _)) = self.buffers.remove(&socket) else { return };
        self.streams.remove(&stream);
        self.server.handle_arrival(Arrival::Closed { stream }, system.now);
        self.depart(system);
    }
}

impl Process for Serving {
    fn owns(&self, notice: &Notice) -> bool {
        match notice {
            Notice::Datagram { socket, .. } => self.datagram.values().any(|own| own == socket),
            Notice::Accepted { listener, .. } => self.listeners.contains_key(listener),
            Notice::Connected { socket, .. } => self.wishes.values().any(|own| own == socket),
            Notice::Data { socket, .. }
            | Notice::Captured { socket, .. }
            | Notice::Ended { socket, .. } => self.buffers.contains_key(socket),
        }
    }

    fn handle_notice(&mut self, notice: Notice, system: &mut System<'_>) {
        match notice {
            Notice::Datagram { local, source, payload, .. } => {
                let arrival = Arrival::Datagram { local, source, payload: &payload };
                self.server.handle_arrival(arrival, system.now);
            }
            Notice::Accepted { socket, ends, .. } => {
                self.opened += 1;
                let stream = StreamId(self.opened);
                self.streams.insert(stream, socket);
                self.buffers.insert(socket, (stream, Vec::new()));
                let (local, source) = (ends.local, ends.remote);
                let syn = system.host.saved_syn(socket).unwrap_or_default();
                let arrival = Arrival::Opened { stream, local, source, syn };
                self.server.handle_arrival(arrival, system.now);
            }
            Notice::Data { socket, bytes } => {
                if let Some((_, buffer)) = self.buffers.get_mut(&socket) {
                    buffer.extend(bytes);
                }
                self.deliver(socket, system);
            }
            Notice::Ended { socket, .. } => self.ended(socket, system),
            Notice::Connected { socket, result } => self.connected(socket, result, system.now),
            // A server captures nothing.
            Notice::Captured { .. } => {}
        }
        self.depart(system);
    }

    fn handle_timeout(&mut self, system: &mut System<'_>) {
        if self.server.poll_timeout().is_some_and(|deadline| deadline.at <= system.now) {
            self.server.handle_timeout(system.now);
            self.depart(system);
        }
    }

    fn deadline(&self) -> Option<Deadline> {
        self.server.poll_timeout()
    }

    fn close_all(&mut self, system: &mut System<'_>) {
        let listeners = self.listeners.keys();
        let streams = self.streams.values().chain(self.wishes.values());
        for socket in self.datagram.values().chain(listeners).chain(streams) {
            system.host.close(*socket, system.now);
        }
    }

    fn as_any(&mut self) -> &mut dyn Any {
        self
    }
}

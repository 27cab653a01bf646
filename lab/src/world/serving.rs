//! Servers on simulated hosts.

use std::any::Any;
use std::collections::BTreeMap;
use std::net::SocketAddr;

use ntcp_proto::{Deadline, datagram};
use ntcp_stun::framing::{Frame, frame};

use super::{HostId, Node, World};
use crate::host::{Notice, Socket};
use crate::packet;
use crate::runner::{Process, System};
use crate::server::{Arrival, Departure, Server, StreamId};

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
    opened: u64,
}

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
                    system.host.send_raw(packet::of_segment(&segment, ttl));
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
            }
        }
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
            Notice::Connected { socket, .. }
            | Notice::Data { socket, .. }
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
                let arrival = Arrival::Opened { stream, local: ends.local, source: ends.remote };
                self.server.handle_arrival(arrival, system.now);
            }
            Notice::Data { socket, bytes } => {
                if let Some((_, buffer)) = self.buffers.get_mut(&socket) {
                    buffer.extend(bytes);
                }
                self.deliver(socket, system);
            }
            Notice::Ended { socket, .. } => self.ended(socket, system),
            Notice::Connected { .. } | Notice::Captured { .. } => {}
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
        for socket in self.datagram.values().chain(listeners).chain(self.streams.values()) {
            system.host.close(*socket, system.now);
        }
    }

    fn as_any(&mut self) -> &mut dyn Any {
        self
    }
}

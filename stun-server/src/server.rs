//! A server as a whole: bound, running, stopped.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

use ntcp_stun::server::{Counters, Quartet, Server as Logic};

use crate::datagrams::{Datagrams, Worker};
use crate::stop::{StopAtEnd, Stopped};
use crate::streams::{Streams, StreamsServed};
use crate::{Config, Error, Limits, Stopper, grid};

/// A server whose sockets are open. It answers once it runs.
#[derive(Debug)]
pub struct Server {
    datagrams: Vec<Datagrams>,
    listeners: Vec<TcpListener>,
    addresses: Vec<SocketAddr>,
    quartets: Vec<Quartet>,
    limits: Limits,
    stopper: Stopper,
    stopped: Stopped,
}

/// What a server has done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Served {
    /// Messages, over UDP and TCP.
    pub messages: Counters,
    /// TCP connections that were served.
    pub connections: u64,
    /// TCP connections that were closed at once because there were too many.
    pub refused_connections: u64,
}

impl Server {
    /// Opens every socket.
    ///
    /// # Errors
    ///
    /// What is wrong with the addresses, or which socket could not be opened and why.
    pub fn bind(config: &Config) -> Result<Self, Error> {
        let (stopper, stopped) = Stopped::pair().map_err(Error::system("a pair of sockets"))?;
        let mut server = Self {
            datagrams: Vec::new(),
            listeners: Vec::new(),
            addresses: Vec::new(),
            quartets: Vec::new(),
            limits: config.limits,
            stopper,
            stopped,
        };
        for family in grid::open(config)? {
            server.quartets.extend(family.quartet);
            for place in family.places {
                server.addresses.push(place.address);
                server.datagrams.push(Datagrams::new(place.udp, place.address));
                server.listeners.push(place.tcp);
            }
        }
        Ok(server)
    }

    /// The addresses it listens on, over UDP and TCP, with the ports that were found where 0 was asked for. The
    /// primary address of a family comes first, then its alternate one, then the other two of the four.
    pub fn local_addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The four addresses of each family that can answer from elsewhere. Only clients of these families learn how their
    /// NAT filters.
    pub fn quartets(&self) -> &[Quartet] {
        &self.quartets
    }

    /// What stops it, from any thread.
    pub fn stopper(&self) -> Stopper {
        self.stopper.clone()
    }

    /// Serves until it is stopped.
    ///
    /// # Errors
    ///
    /// The system refuses threads or waiting.
    pub fn run(self) -> Result<Served, Error> {
        self.start()?.wait()
    }

    /// Serves in the background.
    ///
    /// # Errors
    ///
    /// The system refuses threads.
    pub fn start(self) -> Result<Running, Error> {
        let mut logic = Logic::new();
        self.quartets.iter().for_each(|it| logic.add_quartet(*it));
        let mut running =
            Running { addresses: self.addresses, stopper: self.stopper, threads: Vec::new() };
        let sockets: Arc<[Datagrams]> = self.datagrams.into();
        for own in 0..sockets.len() {
            let (sockets, server, stopped) = (sockets.clone(), logic.clone(), self.stopped.clone());
            let worker = Worker { sockets, own, server, stopped };
            running.spawn(format!("stun-udp-{own}"), || {
                let messages = worker.run()?;
                Ok(StreamsServed { messages, ..StreamsServed::default() })
            })?;
        }
        let (listeners, limits, stopped) = (self.listeners, self.limits, self.stopped);
        let streams = Streams { listeners, server: logic, limits, stopped };
        running.spawn("stun-tcp".to_owned(), || streams.run())?;
        Ok(running)
    }
}

/// A server in the background. Dropping it stops it.
#[derive(Debug)]
pub struct Running {
    addresses: Vec<SocketAddr>,
    stopper: Stopper,
    threads: Vec<JoinHandle<io::Result<StreamsServed>>>,
}

impl Running {
    /// The addresses it listens on; see [`Server::local_addresses`].
    pub fn local_addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// What stops it, from any thread.
    pub fn stopper(&self) -> Stopper {
        self.stopper.clone()
    }

    /// Stops it and waits until it has.
    ///
    /// # Errors
    ///
    /// The server had failed.
    pub fn stop(self) -> Result<Served, Error> {
        self.stopper.stop();
        self.wait()
    }

    /// Waits until somebody stops it, or it fails.
    ///
    /// # Errors
    ///
    /// The server has failed.
    ///
    /// # Panics
    ///
    /// If one of its threads did.
    pub fn wait(mut self) -> Result<Served, Error> {
        let mut served = Served::default();
        for thread in std::mem::take(&mut self.threads) {
            let part = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            let part = part.map_err(Error::system("waiting for sockets"))?;
            served.messages += part.messages;
            served.connections += part.connections;
            served.refused_connections += part.refused_connections;
        }
        Ok(served)
    }

    fn spawn(
        &mut self,
        name: String,
        work: impl FnOnce() -> io::Result<StreamsServed> + Send + 'static,
    ) -> Result<(), Error> {
        let stop_the_others = StopAtEnd(self.stopper.clone());
        let thread = Builder::new().name(name).spawn(move || {
            let _stop_the_others = stop_the_others;
            work()
        });
        self.threads.push(thread.map_err(Error::system("a thread"))?);
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stopper.stop();
        for thread in self.threads.drain(..) {
            // Its failure has nobody to hear it.
            let _ = thread.join();
        }
    }
}

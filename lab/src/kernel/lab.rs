//! A running laboratory, as its user holds it.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::process::Stdio;
use std::time::Duration;

use socket2::Socket;

use super::access::Access;
use super::capture_handle::Capture;
use super::control::{Channel, Reply, Request, SocketKind, Tap};
use super::entry;
use super::error::{Error, Result};
use super::layout::{Host, Layout};
use super::program::Command;
use super::topology::{Carrier, Form, Home, Ipv6, Topology};

/// Says what a lab consists of.
///
/// Each `home` or `carrier` may be followed by what concerns it alone; what comes before the first
/// of them concerns all.
#[derive(Debug, Clone, Default)]
pub struct Builder {
    topology: Topology,
    all: Access,
}

impl Builder {
    /// A home with one host, both of that name, behind the boxes of `site`: a preset with settings,
    /// and carriers after `@`, as `masq,in=reset@linux-random` (see [`crate::presets`]).
    pub fn home(mut self, name: &str, site: &str) -> Self {
        self.topology.homes.push(Home {
            name: name.into(),
            site: site.into(),
            form: Form::Auto,
            neighbours: Vec::new(),
            lan: None,
            carrier: None,
            ipv6: Ipv6::Off,
            access: self.all,
        });
        self
    }

    /// A carrier's NAT that several homes share (see [`Builder::behind`]).
    pub fn carrier(mut self, name: &str, site: &str) -> Self {
        self.topology.carriers.push(Carrier {
            name: name.into(),
            site: site.into(),
            form: Form::Auto,
            access: self.all,
        });
        self
    }

    /// Another host on the network of the last home.
    pub fn neighbour(self, name: &str) -> Self {
        self.last(|home| home.neighbours.push(name.into()))
    }

    /// The last home is behind this carrier. It has no line of its own to the internet then.
    pub fn behind(self, carrier: &str) -> Self {
        self.last(|home| home.carrier = Some(carrier.into()))
    }

    /// The private network of the last home: the first address of a /24.
    pub fn lan(self, network: Ipv4Addr) -> Self {
        self.last(|home| home.lan = Some(network))
    }

    /// The last home has IPv6, too.
    pub fn ipv6(self) -> Self {
        self.last(|home| home.ipv6 = Ipv6::On)
    }

    /// Who does the translating in the last home; the default is [`Form::Auto`].
    pub fn form(self, form: Form) -> Self {
        self.last(|home| home.form = form)
    }

    /// The line of the last home.
    pub fn access(self, access: Access) -> Self {
        self.last(|home| home.access = access)
    }

    /// The line of the server.
    pub fn server_access(mut self, access: Access) -> Self {
        self.topology.server = access;
        self
    }

    /// One-way delay of every line, the server's too: a packet from home to home takes twice this.
    pub fn delay(self, delay: Duration) -> Self {
        self.every(|access| access.delay = delay)
    }

    /// Jitter of every line.
    pub fn jitter(self, jitter: Duration) -> Self {
        self.every(|access| access.jitter = jitter)
    }

    /// Loss on every line, 0 to 1: a packet from home to home is at risk twice.
    pub fn loss(self, loss: f64) -> Self {
        self.every(|access| access.loss = loss)
    }

    /// What everything random in the lab's own routers comes from.
    pub fn seed(mut self, seed: u64) -> Self {
        self.topology.seed = seed;
        self
    }

    fn last(mut self, change: impl FnOnce(&mut Home)) -> Self {
        if let Some(home) = self.topology.homes.last_mut() {
            change(home);
        }
        self
    }

    fn every(mut self, change: impl Fn(&mut Access)) -> Self {
        change(&mut self.all);
        change(&mut self.topology.server);
        self.topology.homes.iter_mut().for_each(|home| change(&mut home.access));
        self.topology.carriers.iter_mut().for_each(|carrier| change(&mut carrier.access));
        self
    }

    /// What has been said so far.
    pub fn topology(&self) -> Topology {
        self.topology.clone()
    }

    /// Makes it.
    ///
    /// # Errors
    /// What is forbidden, missing or impossible, with the way out.
    pub fn start(self) -> Result<Lab> {
        Lab::start(&self.topology)
    }
}

/// A running laboratory. When the value is dropped, or its process dies in any way, every program,
/// namespace, rule and file of it is gone.
#[derive(Debug)]
pub struct Lab {
    /// Declared first, hence closed first: that is what ends the supervisor.
    control: Option<Channel>,
    warden: std::process::Child,
    layout: Layout,
}

impl Lab {
    /// An empty lab, to be filled.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Builds a topology.
    ///
    /// # Errors
    /// What is forbidden, missing or impossible, with the way out.
    pub fn start(topology: &Topology) -> Result<Self> {
        let (control, other) = Channel::pair()?;
        let other: OwnedFd = other.into();
        let mut command = entry::command();
        let warden = command
            .stdin(Stdio::from(other))
            .spawn()
            .map_err(|error| Error::system("starting the lab's supervisor", error))?;
        // The command holds the supervisor's end as well, whose closing must show here.
        drop(command);
        let mut lab = Self { control: Some(control), warden, layout: Layout::default() };
        match lab.channel()?.receive::<Reply>()? {
            Some((Reply::Ready, _)) => {}
            other => return Err(unexpected(other.map(|(reply, _)| reply))),
        }
        match lab.ask(&Request::Build(topology.clone()))? {
            Reply::Built(layout) => lab.layout = layout,
            other => return Err(unexpected(Some(other))),
        }
        Ok(lab)
    }

    fn channel(&self) -> Result<&Channel> {
        self.control.as_ref().ok_or_else(|| Error::Gone { detail: "it was stopped".into() })
    }

    /// Who has which address.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// A host by its name.
    ///
    /// # Errors
    /// [`Error::UnknownSpace`].
    pub fn host(&self, name: &str) -> Result<&Host> {
        self.layout.host(name).ok_or_else(|| Error::UnknownSpace {
            name: name.into(),
            known: self
                .layout
                .hosts
                .iter()
                .map(|it| it.name.as_str())
                .collect::<Vec<_>>()
                .join(", "),
        })
    }

    /// A program to run in a host, or in a box such as `nat-a`.
    pub fn command(&self, space: &str, program: impl Into<std::path::PathBuf>) -> Command<'_> {
        Command::new(self, space, program.into())
    }

    /// Changes a line. It must have been built with some [`Access`] that is not plain.
    ///
    /// # Errors
    /// [`Error::Topology`] if it was not, or if a value is out of range.
    pub fn set_access(&self, name: &str, access: Access) -> Result<()> {
        match self.ask(&Request::SetAccess { name: name.into(), access })? {
            Reply::Done => Ok(()),
            other => Err(unexpected(Some(other))),
        }
    }

    /// Begins a trace of these interfaces.
    ///
    /// # Errors
    /// [`Error::UnknownSpace`] or [`Error::System`] if there is no such interface.
    pub fn capture(&self, taps: &[Tap]) -> Result<Capture> {
        let (mine, reply) = self.request(&Request::Capture(taps.to_vec()), &[])?;
        match reply {
            Reply::Done => {
                Capture::new(mine, taps.to_vec()).map_err(|error| Error::system("dup", error))
            }
            other => Err(unexpected(Some(other))),
        }
    }

    /// A socket in a host or box. It stays there wherever it is used, so this process can speak and
    /// listen as if it were that host.
    ///
    /// # Errors
    /// [`Error::UnknownSpace`], or [`Error::System`].
    pub fn socket(&self, space: &str, kind: SocketKind) -> Result<Socket> {
        let request = Request::Socket { space: space.into(), kind };
        match self.converse(&request, &[])? {
            (_, Reply::Done, mut descriptors) if !descriptors.is_empty() => {
                Ok(Socket::from(descriptors.remove(0)))
            }
            (_, other, _) => Err(unexpected(Some(other))),
        }
    }

    /// A UDP socket of a host, bound to this address.
    ///
    /// # Errors
    /// As [`Lab::socket`], and if the address is not the host's or not free.
    pub fn udp_socket(&self, space: &str, address: impl Into<SocketAddr>) -> Result<UdpSocket> {
        let address = address.into();
        let kind = if address.is_ipv4() { SocketKind::Udp } else { SocketKind::UdpV6 };
        let socket = self.socket(space, kind)?;
        bind(&socket, address)?;
        Ok(socket.into())
    }

    /// A TCP socket of a host, bound to this address, which others may be bound to as well.
    ///
    /// # Errors
    /// As [`Lab::socket`], and if the address is not the host's or not free.
    pub fn tcp_socket(&self, space: &str, address: impl Into<SocketAddr>) -> Result<Socket> {
        let address = address.into();
        let kind = if address.is_ipv4() { SocketKind::Tcp } else { SocketKind::TcpV6 };
        let socket = self.socket(space, kind)?;
        let shared = socket.set_reuse_address(true).and_then(|()| socket.set_reuse_port(true));
        shared.map_err(|error| Error::system("setsockopt", error))?;
        bind(&socket, address)?;
        Ok(socket)
    }

    /// A listening TCP socket of a host.
    ///
    /// # Errors
    /// As [`Lab::tcp_socket`].
    pub fn tcp_listener(&self, space: &str, address: impl Into<SocketAddr>) -> Result<TcpListener> {
        const BACKLOG: i32 = 128;
        let socket = self.tcp_socket(space, address)?;
        socket.listen(BACKLOG).map_err(|error| Error::system("listen", error))?;
        Ok(socket.into())
    }

    /// How many frames were lost because the lab itself did not get to run in time. Anything but
    /// zero means that a measurement says more about this machine than about the programs in it.
    ///
    /// # Errors
    /// [`Error::Gone`].
    pub fn overruns(&self) -> Result<u64> {
        match self.ask(&Request::Overruns)? {
            Reply::Overruns(count) => Ok(count),
            other => Err(unexpected(Some(other))),
        }
    }

    /// The process that everything in the lab depends on.
    pub fn process_id(&self) -> u32 {
        self.warden.id()
    }

    fn ask(&self, request: &Request) -> Result<Reply> {
        Ok(self.request(request, &[])?.1)
    }

    /// Sends a request; its channel and the first answer. A failure is an error.
    pub(super) fn request(
        &self,
        request: &Request,
        with: &[BorrowedFd<'_>],
    ) -> Result<(Channel, Reply)> {
        self.converse(request, with).map(|(channel, reply, _)| (channel, reply))
    }

    /// The same with the descriptors that came with the answer.
    fn converse(
        &self,
        request: &Request,
        with: &[BorrowedFd<'_>],
    ) -> Result<(Channel, Reply, Vec<OwnedFd>)> {
        let (mine, theirs) = Channel::pair()?;
        let descriptors: Vec<_> =
            [theirs.as_fd()].into_iter().chain(with.iter().copied()).collect();
        self.channel()?.send(request, &descriptors)?;
        drop(theirs);
        match mine.receive::<Reply>()? {
            Some((Reply::Failed(error), _)) => Err(error),
            Some((reply, descriptors)) => Ok((mine, reply, descriptors)),
            None => Err(unexpected(None)),
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.control = None;
        // It ends by itself, and everything with it; only then is the lab gone.
        let _ = self.warden.wait();
    }
}

fn bind(socket: &Socket, address: SocketAddr) -> Result<()> {
    socket.bind(&address.into()).map_err(|error| Error::system(format!("binding {address}"), error))
}

/// An answer that does not answer the question.
pub(super) fn unexpected(reply: Option<Reply>) -> Error {
    match reply {
        Some(Reply::Failed(error)) => error,
        Some(reply) => Error::Gone { detail: format!("it said {reply:?}") },
        None => Error::Gone { detail: "it closed the connection".into() },
    }
}

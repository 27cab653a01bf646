//! The one loop.

use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime};

use async_io::{Async, Timer};
use futures::{Future, FutureExt, Stream, StreamExt};
use ntcp_proto::entropy::Seed;
use ntcp_proto::rendezvous::{self, BrokerId, Command, Counters, Event, Input, Link, StreamId};
use ntcp_proto::secrecy::PublicKey;
use ntcp_proto::{Machine, datagram};
use ntcp_raw::batch::Receiver;
use ntcp_service::Rarely;
use ntcp_service::bind::Opening;

use crate::datagrams::{self, Datagrams};
use crate::directory::{Directory, News};
use crate::forger::Forger;
use crate::status::{self, Question, Renewal, Tally};
use crate::streams::{Happening, Streams};
use crate::{BindError, Observer, Options, Sockets, Status};

/// How many connections or streams are served in one turn of the loop.
const BATCH: usize = 64;
/// How many times in one turn of the loop a socket is asked for as many datagrams as one call takes: under load, waiting
/// for sockets costs as much as a few messages.
const DRAUGHTS: usize = 4;
/// How long no connection is accepted after the system had no room for one: it would say so again
/// at once, and the loop would do nothing else.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Said once a minute, however often it happens.
static CANNOT_ACCEPT: Rarely = Rarely::new(Duration::from_secs(60));

/// A broker with its sockets open.
pub struct Broker {
    machine: rendezvous::Broker,
    datagrams: Vec<Datagrams>,
    /// Away only while it is read from.
    receiver: Option<Receiver>,
    listeners: Vec<Async<TcpListener>>,
    streams: Streams,
    directory: Option<Directory>,
    forger: Forger,
    /// Until when no connection is accepted.
    accept_after: Option<Instant>,
    tally: Tally,
    observer: Observer,
    questions: Pin<Box<dyn Stream<Item = Question> + Send>>,
    started: Instant,
    /// There once it was told to stop: when it ends though peers are left.
    ends_at: Option<Instant>,
}

/// What woke the loop. Everything that is ready is served in each turn, so that no flood on one
/// kind of socket keeps the others waiting.
#[derive(Default)]
struct Woken {
    stopped: bool,
    datagrams: bool,
    connections: bool,
    streams: Vec<Happening>,
    news: Vec<News>,
    questions: Vec<Question>,
    deadline: bool,
}

impl Woken {
    fn is_anything(&self) -> bool {
        self.stopped
            || self.datagrams
            || self.connections
            || !self.streams.is_empty()
            || !self.news.is_empty()
            || !self.questions.is_empty()
            || self.deadline
    }
}

impl Broker {
    /// Opens the sockets.
    ///
    /// # Errors
    ///
    /// A [`BindError`] that names the address and what to do.
    pub fn bind(options: &Options) -> Result<Self, BindError> {
        Self::new(Sockets::open(options, &Opening::new())?, options)
    }

    /// A broker on open sockets.
    ///
    /// # Errors
    ///
    /// The system has no random bytes, or no room for the sockets.
    pub fn new(sockets: Sockets, options: &Options) -> Result<Self, BindError> {
        let mut seed = [0; 32];
        fill_with_entropy(&mut seed).map_err(BindError::Entropy)?;
        let started = Instant::now();
        let mut limits = options.limits.clone();
        let directory = match &options.directory {
            Some(address) => {
                let mut own = [0; 8];
                own.copy_from_slice(&seed[..8]);
                fill_with_entropy(&mut seed).map_err(BindError::Entropy)?;
                limits.cluster = Some(BrokerId(own));
                Some(Directory::open(address, BrokerId(own)).map_err(BindError::Directory)?)
            }
            None => None,
        };
        let forger = sockets.forger;
        forger.restrain(&mut limits);
        let machine = rendezvous::Broker::new(limits, Seed(seed), started);
        let datagrams: io::Result<Vec<_>> = sockets.udp.into_iter().map(Datagrams::new).collect();
        let listeners: io::Result<Vec<_>> =
            sockets.tcp.into_iter().map(Async::new_nonblocking).collect();
        let (observer, questions) = status::channel(options.drain);
        Ok(Self {
            machine,
            datagrams: datagrams.map_err(BindError::Reactor)?,
            receiver: Some(Receiver::new(datagrams::BATCH)),
            listeners: listeners.map_err(BindError::Reactor)?,
            streams: Streams::new(options),
            directory,
            forger,
            accept_after: None,
            tally: Tally::default(),
            observer,
            questions: Box::pin(questions),
            started,
            ends_at: None,
        })
    }

    /// Who can ask how it is while it runs.
    pub fn observer(&self) -> Observer {
        self.observer.clone()
    }

    /// The key that peers are shown.
    pub fn identity(&self) -> Option<PublicKey> {
        self.machine.identity()
    }

    /// The UDP addresses it listens on, with the ports that were free where 0 was asked for.
    pub fn udp_addresses(&self) -> Vec<SocketAddr> {
        self.datagrams.iter().map(Datagrams::address).collect()
    }

    /// The TCP addresses it listens on, likewise.
    pub fn tcp_addresses(&self) -> Vec<SocketAddr> {
        self.listeners.iter().filter_map(|it| it.get_ref().local_addr().ok()).collect()
    }

    /// Serves until `stop` is ready, then lets its peers go, and returns what was counted. Cancel safe:
    /// dropping the future closes every socket, and the peers find out by themselves.
    pub async fn run(mut self, stop: impl Future<Output = ()>) -> Counters {
        let mut stop = pin!(stop.fuse());
        let mut timer = Timer::never();
        // What the timer is set to: setting it costs as much as a message, and it seldom changes.
        let mut set_to = None;
        loop {
            let deadline = self.machine.poll_timeout().map(|it| it.at);
            let next = deadline.into_iter().chain(self.accept_after).chain(self.ends_at).min();
            if next != set_to {
                set_to = next;
                match next {
                    Some(at) => timer.set_at(at),
                    None => timer = Timer::never(),
                }
            }
            let woken = poll_fn(|context| self.poll_woken(&mut stop, &mut timer, context)).await;
            // Clocks are set while programs run.
            let unix = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
            self.machine.set_wall_clock(unix, Instant::now());
            if woken.stopped {
                let now = Instant::now();
                self.ends_at = Some(now + self.observer.drain());
                self.machine.dismiss_all(now);
                self.carry_out();
            }
            if woken.datagrams {
                (0..self.datagrams.len()).for_each(|index| self.receive(index));
            }
            if woken.connections {
                (0..self.listeners.len()).for_each(|index| self.accept(index));
            }
            woken.streams.into_iter().for_each(|happening| self.on_stream(happening));
            woken.news.into_iter().for_each(|news| self.on_news(news));
            woken.questions.into_iter().for_each(|question| self.on_question(question));
            if woken.deadline {
                set_to = None;
                let now = Instant::now();
                self.accept_after = self.accept_after.filter(|at| *at > now);
                self.machine.handle_timeout(now);
                self.carry_out();
            }
            self.flush();
            if self.has_ended() {
                return self.machine.counters().clone();
            }
        }
    }

    /// Whether it was told to stop, and every peer was let go or the time for that is over.
    fn has_ended(&self) -> bool {
        let Some(ends_at) = self.ends_at else { return false };
        let left = self.machine.registered();
        if left > 0 && ends_at <= Instant::now() {
            tracing::warn!(left, "ended though not every peer was let go");
            return true;
        }
        self.machine.is_deserted()
    }

    fn on_question(&mut self, question: Question) {
        match question {
            Question::Status(asker) => {
                // Who asked may have given up.
                let _ = asker.send(self.status());
            }
            Question::Renewal(renewal) => self.renew(renewal),
        }
    }

    /// Takes over what is new, and says what that is and what stays.
    fn renew(&mut self, Renewal { keys, names, access }: Renewal) {
        let news =
            [("keys", !keys.is_empty()), ("names", names.is_some()), ("access", access.is_some())];
        self.machine.set_keys(keys);
        if let Some(names) = names {
            self.machine.set_names(names);
        }
        if let Some(access) = access {
            self.machine.set_access(access);
        }
        let list = |wanted: bool| {
            let some = news.iter().filter(|(_, is_new)| *is_new == wanted).map(|(name, _)| *name);
            let some = some.collect::<Vec<_>>().join(", ");
            if some.is_empty() { "nothing".to_owned() } else { some }
        };
        tracing::info!("taken over: {}; as before: {}", list(true), list(false));
    }

    fn status(&self) -> Status {
        Status {
            counters: self.machine.counters().clone(),
            peers: self.machine.registered(),
            streams: self.streams.count(),
            sessions: self.machine.sessions(),
            uptime: self.started.elapsed(),
            directory: self.directory.as_ref().map(Directory::is_there),
            is_stopping: self.ends_at.is_some(),
            invitations: self.tally.invitations.clone(),
            set_up: self.tally.set_up.clone(),
            won: self.tally.won.clone(),
        }
    }

    fn poll_woken(
        &mut self,
        stop: &mut (impl Future<Output = ()> + Unpin),
        timer: &mut Timer,
        context: &mut Context<'_>,
    ) -> Poll<Woken> {
        let mut woken = Woken {
            stopped: self.ends_at.is_none() && stop.poll_unpin(context).is_ready(),
            ..Woken::default()
        };
        for socket in &self.datagrams {
            woken.datagrams |= socket.poll_readable(context).is_ready();
        }
        let accepting = self.listeners.iter().filter(|_| self.accept_after.is_none());
        for listener in accepting {
            woken.connections |= listener.poll_readable(context).is_ready();
        }
        while woken.streams.len() < BATCH {
            match self.streams.waiting.poll_next_unpin(context) {
                Poll::Ready(Some(happening)) => woken.streams.push(happening),
                Poll::Ready(None) | Poll::Pending => break,
            }
        }
        if let Some(directory) = &mut self.directory {
            while woken.news.len() < BATCH
                && let Poll::Ready(Some(news)) = directory.news.poll_next_unpin(context)
            {
                woken.news.push(news);
            }
        }
        while let Poll::Ready(Some(question)) = self.questions.poll_next_unpin(context) {
            woken.questions.push(question);
        }
        woken.deadline = timer.poll_unpin(context).is_ready();
        if woken.is_anything() { Poll::Ready(woken) } else { Poll::Pending }
    }

    /// Reads what has arrived, many datagrams a call, and sends the answers to these before it reads more.
    fn receive(&mut self, index: usize) {
        if let Some(mut receiver) = self.receiver.take() {
            self.receive_into(&mut receiver, index);
            self.receiver = Some(receiver);
        }
    }

    fn receive_into(&mut self, receiver: &mut Receiver, index: usize) {
        for _ in 0..DRAUGHTS {
            let count = match self.datagrams[index].receive(receiver) {
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // An ICMP error about an earlier datagram: it was lost, like any other.
                Err(error) => {
                    tracing::trace!(%error, "receive");
                    continue;
                }
            };
            let now = Instant::now();
            for datagram in (0..count).filter_map(|it| receiver.datagram(it)) {
                let Ok(local) = self.datagrams[index].local(datagram.destination) else { continue };
                let link = Link::Udp { local, remote: datagram.source };
                self.machine.handle_input(Input::Received { link, payload: datagram.bytes }, now);
                // At once, though it leaves with the others: the next answer takes this one's memory.
                self.carry_out();
            }
            self.flush();
            if count < datagrams::BATCH {
                return;
            }
        }
    }

    /// Sends the datagrams that wait.
    fn flush(&mut self) {
        self.datagrams.iter_mut().for_each(Datagrams::flush);
    }

    fn accept(&mut self, index: usize) {
        for _ in 0..BATCH {
            match self.listeners[index].get_ref().accept() {
                Ok((socket, remote)) => {
                    if let Err(error) = self.streams.accept(socket, remote) {
                        tracing::debug!(%error, "a stream failed at once");
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // It was gone before it was accepted; the next one may be well.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    if let Some(unsaid) = CANNOT_ACCEPT.may_say(Instant::now()) {
                        tracing::warn!(%error, unsaid, "cannot accept connections for the moment");
                    }
                    self.accept_after = Some(Instant::now() + ACCEPT_PAUSE);
                    return;
                }
            }
        }
    }

    fn on_stream(&mut self, happening: Happening) {
        match happening {
            Happening::Writable { stream } => {
                if !self.streams.write(stream) {
                    self.closed(stream);
                }
            }
            Happening::Readable { stream, result } => {
                match result.and_then(|()| self.streams.read(stream)) {
                    Ok(messages) => self.on_messages(stream, &messages),
                    Err(error) => {
                        tracing::trace!(%error, "a stream ended");
                        self.streams.close(stream);
                        self.closed(stream);
                    }
                }
            }
        }
    }

    fn on_messages(&mut self, stream: StreamId, messages: &[Vec<u8>]) {
        for payload in messages {
            let Some(remote) = self.streams.remote(stream) else { break };
            let link = Link::Tcp { stream, remote };
            self.machine.handle_input(Input::Received { link, payload }, Instant::now());
            self.carry_out();
        }
        self.streams.wait_for_more(stream);
    }

    fn closed(&mut self, stream: StreamId) {
        self.machine.handle_input(Input::Closed { stream }, Instant::now());
        self.carry_out();
    }

    fn on_news(&mut self, news: News) {
        self.tell(news);
        self.carry_out();
    }

    /// What is denied at once is told to the machine before it goes on.
    fn order(&mut self, command: Command) {
        if let Some(denied) = self.directory.as_ref().and_then(|it| it.order(command)) {
            self.tell(denied);
        }
    }

    fn tell(&mut self, news: News) {
        let now = Instant::now();
        match news {
            News::Claimed { name, claim, wanted_by } => {
                self.machine.handle_input(Input::Claimed { name, claim, wanted_by }, now);
            }
            News::Found { name, at } => {
                self.machine.handle_input(Input::Found { name, at }, now);
            }
            News::Letter { from, letter } => {
                self.machine.handle_input(Input::Letter { from, letter: &letter }, now);
            }
            News::Reunited => self.machine.handle_input(Input::Reunited, now),
        }
    }

    /// Does what the machine wants done, and logs what it tells.
    fn carry_out(&mut self) {
        while let Some(command) = self.machine.poll_command() {
            match command {
                Command::Send { link: Link::Udp { local, remote }, payload } => {
                    self.send_datagram(local, remote, &payload);
                }
                Command::Send { link: Link::Tcp { stream, .. }, payload } => {
                    if !self.streams.send(stream, &payload) {
                        self.machine.handle_input(Input::Closed { stream }, Instant::now());
                    }
                }
                // Peers of other brokers are written to.
                Command::Send { link: Link::Broker { .. }, .. } => {}
                Command::Claim { .. }
                | Command::Release { .. }
                | Command::Find { .. }
                | Command::Post { .. } => self.order(command),
                Command::Close { stream } => self.streams.close(stream),
                Command::Inject { segment, ttl } => self.forger.send(segment.emit(ttl)),
                Command::InjectDatagram { source, destination, ttl, payload } => {
                    self.forger.send(datagram::emit(source, destination, ttl, &payload));
                }
            }
        }
        while let Some(event) = self.machine.poll_event() {
            self.tally.note(&event, Instant::now());
            log(&event);
        }
    }

    fn send_datagram(&mut self, local: Option<IpAddr>, remote: SocketAddr, payload: &[u8]) {
        let fits = |it: &&mut Datagrams| {
            let ours = it.address();
            ours.is_ipv4() == remote.is_ipv4()
                && (ours.ip().is_unspecified() || local.is_none_or(|local| local == ours.ip()))
        };
        if let Some(socket) = self.datagrams.iter_mut().find(fits) {
            socket.send(payload, local, remote);
        }
    }
}

fn log(event: &Event) {
    let shown = |name: &Option<_>| match name {
        Some(name) => format!("{name}"),
        None => "a caller without a name".to_owned(),
    };
    match event {
        Event::Registered { name, link } => {
            tracing::info!(name = %shown::<>(name), "registered");
            tracing::debug!(remote = %link.remote(), "registered from");
        }
        Event::Moved { name, link } => {
            tracing::debug!(name = %shown(name), remote = %link.remote(), "moved");
        }
        Event::Left { name, why } => tracing::info!(name = %shown(name), ?why, "left"),
        Event::Called { session, caller, callee } => {
            tracing::info!(%session, caller = %shown(caller), %callee, "called");
        }
        Event::Settled { session, result } => tracing::debug!(%session, ?result, "settled"),
        Event::Stood { strategy, took } => {
            tracing::debug!(%strategy, ?took, "a path stood");
        }
        Event::Forging { session } => {
            tracing::info!(%session, "both peers asked: their SYNs are answered");
        }
        Event::Probed { family, spoofing } => {
            tracing::info!(?family, ?spoofing, "probed what this network lets out");
        }
        Event::ForgerProbed { family, spoofing } => {
            tracing::info!(?family, ?spoofing, "probed what a forger's network lets out");
        }
    }
}

/// Fills `seed` with random bytes of the system.
///
/// By the system call itself: the usual way looks for the C library's function at run time and, in a static program,
/// ends at a device file, which this one cannot open any more.
///
/// # Errors
///
/// It has none.
#[cfg(target_os = "linux")]
pub fn fill_with_entropy(seed: &mut [u8; 32]) -> io::Result<()> {
    use rustix::rand::{GetRandomFlags, getrandom};

    // Up to 256 bytes come whole (getrandom(2)).
    match getrandom(&mut seed[..], GetRandomFlags::empty())? {
        32 => Ok(()),
        _ => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// Fills `seed` with random bytes of the system.
///
/// # Errors
///
/// It has none.
#[cfg(not(target_os = "linux"))]
pub fn fill_with_entropy(seed: &mut [u8; 32]) -> io::Result<()> {
    getrandom::fill(seed).map_err(io::Error::other)
}

//! The helper's end: one loop, and a thread that closes captures.

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, poll};
use socket2::{Domain, SockRef, Socket, Type};

use super::allowance::Allowance;
use super::confine::confine;
use super::message::{MAX_MESSAGE, Reply, Request};
use super::passing::{receive, send};
use crate::privileged::{Abilities, Own, Privileged};
use crate::sniffer::{HEADERS, open_packet_socket};

/// Captures at once; each holds two descriptors.
const MAX_CAPTURES: usize = 64;
/// Packet sockets that wait to be closed; with more, the loop waits too.
const MAX_CLOSING: usize = 64;

/// Why a helper did not begin.
#[derive(Debug)]
pub enum Refusal {
    /// Standard input is not the socket that an application passes.
    NotStarted,
    /// It could not give up what it does not need.
    NotConfined(io::Error),
}

/// Serves the application behind standard input until it is gone.
///
/// # Errors
///
/// When nothing was served, and why.
pub fn run() -> Result<(), Refusal> {
    let control = io::stdin().as_fd().try_clone_to_owned().map_err(|_| Refusal::NotStarted)?;
    if !SockRef::from(&control).r#type().is_ok_and(|kind| kind == Type::SEQPACKET) {
        return Err(Refusal::NotStarted);
    }
    // It would be closed with all else that was inherited.
    drop(control);
    confine().map_err(Refusal::NotConfined)?;
    let control = io::stdin().as_fd().try_clone_to_owned().map_err(Refusal::NotConfined)?;
    Server::new(control).serve();
    Ok(())
}

/// A capture and the application's end of it.
struct Relay {
    source: Socket,
    sink: Socket,
}

struct Server {
    control: OwnedFd,
    own: Own,
    abilities: Abilities,
    allowance: Allowance,
    relays: Vec<Relay>,
    closing: SyncSender<Socket>,
}

impl Server {
    fn new(control: OwnedFd) -> Self {
        Self {
            control,
            own: Own::default(),
            abilities: Abilities::own(),
            allowance: Allowance::new(Instant::now()),
            relays: Vec::new(),
            closing: closer(),
        }
    }

    /// Until the application is gone.
    fn serve(mut self) {
        while let Ok((asked, moved)) = self.wait() {
            for (relay, moved) in std::mem::take(&mut self.relays).into_iter().zip(moved) {
                if moved.is_empty() || relay.pass_on(moved) {
                    self.relays.push(relay);
                } else {
                    // Should that thread be gone, the socket closes here.
                    drop(self.closing.send(relay.source));
                }
            }
            if asked && self.answer().is_err() {
                return;
            }
        }
    }

    /// Whether something was asked, and what happened to each capture or its reader.
    fn wait(&self) -> io::Result<(bool, Vec<PollFlags>)> {
        let mut waiting = vec![PollFd::new(&self.control, PollFlags::IN)];
        for relay in &self.relays {
            waiting.push(PollFd::new(&relay.source, PollFlags::IN));
            // Nothing is ever read from the application's end, but its closing shows.
            waiting.push(PollFd::new(&relay.sink, PollFlags::empty()));
        }
        loop {
            match poll(&mut waiting, None) {
                Ok(_) => break,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let asked = !waiting[0].revents().is_empty();
        let moved = waiting[1..].chunks(2).map(|pair| pair[0].revents() | pair[1].revents());
        Ok((asked, moved.collect()))
    }

    /// # Errors
    ///
    /// When the application is gone, or says what no application of ours would.
    fn answer(&mut self) -> io::Result<()> {
        let mut bytes = [0; MAX_MESSAGE];
        let (length, socket) = receive(&self.control, &mut bytes)?;
        if length == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let request = Request::parse(&bytes[..length]).ok_or(io::ErrorKind::InvalidData)?;
        let (outcome, relay) = match self.carry_out(&request, socket.as_ref().map(AsFd::as_fd)) {
            Ok(relay) => (Ok(()), relay),
            Err(error) => (Err(error), None),
        };
        let reply = Reply::new(&outcome, self.abilities).emit();
        send(&self.control, &reply, relay.as_ref().map(AsFd::as_fd))
    }

    fn carry_out(
        &mut self,
        request: &Request,
        socket: Option<BorrowedFd<'_>>,
    ) -> io::Result<Option<Socket>> {
        if *request == Request::Hello {
            return Ok(None);
        }
        let socket = socket.ok_or(io::ErrorKind::InvalidInput)?;
        match request {
            Request::Hello => {}
            Request::Pin { sequence } => self.own.pin_sequence(socket, *sequence)?,
            Request::Assume { remote, agreed, departure } => {
                self.own.assume(socket, *remote, agreed, *departure)?;
            }
            Request::Capture { remote } => {
                if self.relays.len() >= MAX_CAPTURES {
                    return Err(io::Error::from_raw_os_error(libc::ENOBUFS));
                }
                let source = open_packet_socket(Own::filter(socket, *remote)?)?;
                let (sink, theirs) = Socket::pair(Domain::UNIX, Type::SEQPACKET, None)?;
                sink.set_nonblocking(true)?;
                self.relays.push(Relay { source, sink });
                return Ok(Some(theirs));
            }
            Request::Inject { segment, ttl } => {
                if !self.allowance.take(Instant::now()) {
                    return Err(io::ErrorKind::WouldBlock.into());
                }
                self.own.inject(socket, segment, *ttl)?;
            }
        }
        Ok(None)
    }
}

/// Where packet sockets go to be closed: the system waits for all its processors then, 16 ms and
/// more, and the next request would wait with it.
fn closer() -> SyncSender<Socket> {
    let (closing, closed) = sync_channel(MAX_CLOSING);
    std::thread::spawn(move || closed.into_iter().for_each(drop::<Socket>));
    closing
}

impl Relay {
    /// Passes on what was captured; `false` when either end is gone.
    fn pass_on(&self, moved: PollFlags) -> bool {
        if !PollFlags::IN.contains(moved) {
            return false;
        }
        let mut packet = [0; HEADERS];
        match (&self.source).read(&mut packet) {
            // A reader that is too slow misses retransmissions, nothing worse.
            Ok(length) => match self.sink.send(&packet[..length]) {
                Ok(_) => true,
                Err(error) => error.kind() == io::ErrorKind::WouldBlock,
            },
            Err(error) => error.kind() == io::ErrorKind::WouldBlock,
        }
    }
}

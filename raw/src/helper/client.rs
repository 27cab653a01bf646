//! The application's end.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use ntcp_proto::command::Agreed;
use ntcp_proto::segment::Segment;
use socket2::{Domain, Socket, Type};

use super::message::{MAX_MESSAGE, Reply, Request};
use super::passing::{receive, send};
use crate::privileged::{Abilities, Own, Privileged};
use crate::repair::Departure;
use crate::sniffer::{self, Sniffer};

/// A helper that has not answered by then has failed. It answers within a millisecond.
const PATIENCE: Duration = Duration::from_secs(2);

/// A running helper; it ends when this is dropped.
#[derive(Debug)]
pub struct Helper {
    /// `None` after a failure: an answer that came late would be taken for the next one.
    channel: Mutex<Option<Socket>>,
    child: Child,
    abilities: Abilities,
}

impl Helper {
    /// Starts the program at `path` and asks what it is capable of.
    ///
    /// # Errors
    ///
    /// As the system reports them, and [`io::ErrorKind::InvalidData`] if the program is no helper
    /// of this version.
    pub fn start(path: &Path) -> io::Result<Self> {
        let (ours, theirs) = Socket::pair(Domain::UNIX, Type::SEQPACKET, None)?;
        ours.set_read_timeout(Some(PATIENCE))?;
        ours.set_write_timeout(Some(PATIENCE))?;
        let child = Command::new(path)
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .env_clear()
            // What a terminal sends to the application is not for it: it ends with the application.
            .process_group(0)
            .spawn()?;
        let channel = Mutex::new(Some(ours));
        let mut helper = Self { channel, child, abilities: Abilities::default() };
        let (reply, _) = helper.exchange(&Request::Hello, None)?;
        reply.outcome()?;
        helper.abilities = reply.abilities;
        Ok(helper)
    }

    /// What it is capable of.
    pub fn abilities(&self) -> Abilities {
        self.abilities
    }

    /// Its process id.
    pub fn process_id(&self) -> u32 {
        self.child.id()
    }

    fn exchange(
        &self,
        request: &Request,
        socket: Option<BorrowedFd<'_>>,
    ) -> io::Result<(Reply, Option<OwnedFd>)> {
        let bytes = request.emit().ok_or(io::ErrorKind::InvalidInput)?;
        let mut slot = self.channel.lock().unwrap_or_else(PoisonError::into_inner);
        let channel = slot.take().ok_or(io::ErrorKind::BrokenPipe)?;
        send(&channel, &bytes, socket)?;
        let mut reply = [0; MAX_MESSAGE];
        let (length, descriptor) = receive(&channel, &mut reply)?;
        let reply = Reply::parse(&reply[..length]).ok_or(io::ErrorKind::InvalidData)?;
        *slot = Some(channel);
        Ok((reply, descriptor))
    }

    fn request(&self, request: &Request, socket: BorrowedFd<'_>) -> io::Result<Option<OwnedFd>> {
        let (reply, descriptor) = self.exchange(request, Some(socket))?;
        reply.outcome()?;
        Ok(descriptor)
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        *self.channel.get_mut().unwrap_or_else(PoisonError::into_inner) = None;
        // It ends by itself now; this makes sure. It may be another user's.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Privileged for Helper {
    fn pin_sequence(&self, socket: BorrowedFd<'_>, sequence: u32) -> io::Result<()> {
        self.request(&Request::Pin { sequence }, socket).map(drop)
    }

    fn assume(
        &self,
        socket: BorrowedFd<'_>,
        remote: SocketAddr,
        agreed: &Agreed,
        departure: Departure,
    ) -> io::Result<()> {
        if agreed.options.timestamps.is_some() && agreed.peer_options.timestamps.is_some() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let request = Request::Assume { remote, agreed: *agreed, departure };
        self.request(&request, socket).map(drop)
    }

    fn capture(&self, holder: BorrowedFd<'_>, remote: SocketAddr) -> io::Result<Box<dyn Sniffer>> {
        let filter = Own::filter(holder, remote)?;
        let relay = self.request(&Request::Capture { remote }, holder)?;
        let relay = relay.ok_or(io::ErrorKind::InvalidData)?;
        Ok(Box::new(sniffer::relayed(relay.into(), filter)?))
    }

    fn inject(&self, holder: BorrowedFd<'_>, segment: &Segment, ttl: u8) -> io::Result<()> {
        self.request(&Request::Inject { segment: *segment, ttl }, holder.as_fd()).map(drop)
    }
}

//! How a lab's user and its supervisor talk: JSON messages over a sequenced-packet socket pair, with
//! file descriptors beside them.
//!
//! Each request brings the end of a new socket pair along; the answers to it arrive there. So there
//! is nothing to match up, a dropped handle is noticed as the end of its socket, and a running
//! program has a channel of its own for its signals and its exit status.

use std::collections::BTreeMap;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::str::FromStr;

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::access::Access;
use super::error::{Error, Result};
use super::layout::Layout;
use super::topology::Topology;

/// What the user of a lab asks for.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Request {
    /// Build this. Answer: [`Reply::Built`].
    Build(Topology),
    /// Run a program; standard input, output and error come along. Answers: [`Reply::Started`], and
    /// [`Reply::Exited`] in the end.
    Run(Program),
    /// Change what an access line does to packets. Answer: [`Reply::Done`].
    SetAccess {
        /// The site or carrier, or `server`.
        name: String,
        /// Its new properties.
        access: Access,
    },
    /// Send a copy of all frames of these interfaces. Answers: [`Reply::Done`], then
    /// [`Reply::Frame`]s until the socket is closed.
    Capture(Vec<Tap>),
    /// Open a socket in a namespace; it comes along with the answer. Answer: [`Reply::Done`].
    Socket {
        /// The host or box.
        space: String,
        /// Which sort.
        kind: SocketKind,
    },
    /// How many frames the router had to drop for lack of time. Answer: [`Reply::Overruns`].
    Overruns,
}

/// A program to run in a host.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Program {
    /// The host or box.
    pub(super) space: String,
    /// Its path or name.
    pub(super) program: PathBuf,
    /// Its arguments.
    pub(super) arguments: Vec<String>,
    /// Changes of the environment; `None` removes.
    pub(super) environment: BTreeMap<String, Option<String>>,
    /// Its working directory.
    pub(super) directory: PathBuf,
    /// As whom.
    pub(super) user: User,
    /// With or without the terminal.
    pub(super) terminal: Terminal,
}

/// A sort of socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SocketKind {
    /// UDP over IPv4.
    Udp,
    /// TCP over IPv4.
    Tcp,
    /// UDP over IPv6.
    UdpV6,
    /// TCP over IPv6.
    TcpV6,
    /// Whole IPv4 packets, for sending.
    Packets,
}

/// As whom a program runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum User {
    /// With all power over the lab's networks, as root would have it.
    Root,
    /// Like [`User::Root`], but without `CAP_NET_ADMIN`: it may capture and send packets, and not change
    /// networks or sequence numbers.
    Raw,
    /// Like [`User::Root`], but without `CAP_NET_RAW`: it may change networks and sequence numbers, and
    /// neither capture nor send packets.
    Admin,
    /// As `nobody`, without any capability.
    Nobody,
}

impl User {
    /// All of them, by name.
    const NAMES: [(&'static str, Self); 4] = [
        ("root", Self::Root),
        ("raw", Self::Raw),
        ("admin", Self::Admin),
        ("nobody", Self::Nobody),
    ];

    /// In a word, as commands take it.
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, user)| *user == self).map_or("", |(name, _)| name)
    }
}

impl FromStr for User {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let found = Self::NAMES.iter().find(|(name, _)| *name == text);
        let names = Self::NAMES.map(|(name, _)| name).join(", ");
        found.map(|(_, user)| *user).ok_or_else(|| format!("`{text}` is none of {names}"))
    }
}

/// Whether a program may take over the terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Terminal {
    /// It runs in a process group of its own, in the background.
    None,
    /// Its process group becomes the foreground one of the terminal on standard input.
    Foreground,
}

/// An interface to watch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tap {
    /// The host or box.
    pub space: String,
    /// Its interface.
    pub interface: String,
}

/// What a supervisor answers.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Reply {
    /// The supervisor is up, in its own namespaces.
    Ready,
    /// All is built.
    Built(Layout),
    /// As asked.
    Done,
    /// The program runs.
    Started {
        /// Its id within the lab.
        pid: u32,
    },
    /// The program ended.
    Exited {
        /// Its wait status, as `waitpid` gives it.
        status: i32,
    },
    /// A frame passed an interface.
    Frame(Frame),
    /// Frames dropped.
    Overruns(u64),
    /// It could not be done.
    Failed(Error),
}

/// A frame seen on an interface.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Frame {
    /// Which of the taps, counted from zero.
    pub tap: usize,
    /// Unix time, in nanoseconds.
    pub time_ns: u64,
    /// It left through the interface rather than arriving.
    pub outgoing: bool,
    /// The IP packet, without the Ethernet header. Long TCP segments are cut after their headers.
    #[serde(with = "hex")]
    pub packet: Vec<u8>,
}

/// Bytes as text: in JSON, an array of numbers takes twice the room.
mod hex {
    use std::fmt::Write as _;

    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        let mut text = String::with_capacity(bytes.len() * 2);
        for byte in bytes {
            let _ = write!(text, "{byte:02x}");
        }
        to.serialize_str(&text)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(from)?;
        let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
        let byte = |pair: &[u8]| Some(digit(*pair.first()?)? << 4 | digit(*pair.get(1)?)?);
        let bytes: Option<Vec<u8>> = text.as_bytes().chunks(2).map(byte).collect();
        bytes.ok_or_else(|| D::Error::custom("not hexadecimal"))
    }
}

/// A message to a running program.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Word {
    /// Send this signal to the program and its children.
    Signal(i32),
}

/// Longest message. The kernel holds a message in one piece, and half a default buffer is safe.
const LONGEST: usize = 96 * 1024;
/// Most descriptors beside a message: the reply socket and three standard streams.
const MOST_DESCRIPTORS: usize = 4;

/// One end of a conversation.
#[derive(Debug)]
pub(super) struct Channel(OwnedFd);

impl Channel {
    /// Two connected ends.
    pub(super) fn pair() -> Result<(Self, Self)> {
        let (kind, flags) = (SocketType::SEQPACKET, SocketFlags::CLOEXEC);
        let (one, other) = rustix::net::socketpair(AddressFamily::UNIX, kind, flags, None)
            .map_err(|error| Error::system("socketpair", error))?;
        Ok((Self(one), Self(other)))
    }

    /// Sends a message and descriptors.
    pub(super) fn send<T: Serialize>(&self, message: &T, with: &[BorrowedFd<'_>]) -> Result<()> {
        let bytes = serde_json::to_vec(message)
            .map_err(|error| Error::system("encoding a message to the lab", error))?;
        if bytes.len() > LONGEST {
            let detail = format!("a message of {} bytes is too long", bytes.len());
            return Err(Error::topology(detail));
        }
        let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
        let mut control = SendAncillaryBuffer::new(&mut room);
        if !with.is_empty() && !control.push(SendAncillaryMessage::ScmRights(with)) {
            return Err(Error::topology("too many descriptors beside a message"));
        }
        // A closed peer is an error to report, not a signal to die of.
        let flags = SendFlags::NOSIGNAL;
        rustix::net::sendmsg(&self.0, &[IoSlice::new(&bytes)], &mut control, flags)
            .map_err(|error| Error::Gone { detail: format!("sending to it: {error}") })?;
        Ok(())
    }

    /// Waits for a message and its descriptors; `None` once the other end is closed.
    pub(super) fn receive<T: DeserializeOwned>(&self) -> Result<Option<(T, Vec<OwnedFd>)>> {
        let gone = |error: io::Error| Error::Gone { detail: format!("reading from it: {error}") };
        let mut bytes = vec![0; LONGEST];
        let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
        let mut control = RecvAncillaryBuffer::new(&mut room);
        let received = loop {
            let mut parts = [IoSliceMut::new(&mut bytes)];
            match rustix::net::recvmsg(&self.0, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC) {
                Err(rustix::io::Errno::INTR) => {}
                // A peer that died with unread messages resets the connection.
                Err(rustix::io::Errno::CONNRESET) => return Ok(None),
                other => break other.map_err(|error| gone(error.into()))?,
            }
        };
        let descriptors = control
            .drain()
            .filter_map(|message| match message {
                RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
                _ => None,
            })
            .flatten()
            .collect();
        if received.bytes == 0 {
            return Ok(None);
        }
        let message =
            serde_json::from_slice(&bytes[..received.bytes]).map_err(|error| gone(error.into()))?;
        Ok(Some((message, descriptors)))
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<OwnedFd> for Channel {
    fn from(descriptor: OwnedFd) -> Self {
        Self(descriptor)
    }
}

impl From<Channel> for OwnedFd {
    fn from(channel: Channel) -> Self {
        channel.0
    }
}

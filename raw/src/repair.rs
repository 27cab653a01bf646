//! Sequence numbers of one's own choice, and connections without a handshake (`TCP_REPAIR`).
//!
//! Linux lets a process with `CAP_NET_ADMIN` put a TCP socket into *repair mode*, made for moving
//! connections between machines: sequence numbers can then be set, and `connect` makes an
//! established connection without sending anything.
//!
//! ```text
//!  pin_sequence          closed ──repair on, SEND queue at n──▶ closed ──repair off──▶ closed
//!                                                 connect() later sends SYN seq=n
//!
//!  assume                closed ──repair on, both queues──▶ closed ──connect──▶ established
//!                        ──options, window──▶ established ──repair off──▶ established
//! ```
//!
//! Measured on Linux 6.18 in a user namespace. When a step fails, repair mode is left again; closing
//! a socket in repair mode sends nothing, so that nothing outlives it.

use std::io;
use std::mem::offset_of;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};

use ntcp_proto::command::Agreed;
use socket2::{SockAddr, SockRef};

use crate::option::{get_bytes, set, set_bytes};

/// `TCP_REPAIR` values and queues of `linux/tcp.h`; `libc` has them for some targets only.
mod number {
    pub(super) const REPAIR_ON: libc::c_int = 1;
    pub(super) const REPAIR_OFF: libc::c_int = 0;
    pub(super) const REPAIR_OFF_NO_PROBE: libc::c_int = -1;
    pub(super) const RECEIVE_QUEUE: libc::c_int = 1;
    pub(super) const SEND_QUEUE: libc::c_int = 2;
    pub(super) const QUEUE_SEQUENCE: libc::c_int = 21;
    pub(super) const REPAIR_WINDOW: libc::c_int = 29;
    /// Option numbers of RFC 9293 section 3.2, RFC 7323 and RFC 2018.
    pub(super) const MAX_SEGMENT_SIZE: u32 = 2;
    pub(super) const WINDOW_SCALE: u32 = 3;
    pub(super) const SACK_PERMITTED: u32 = 4;
}

/// Segments that may be under way before the first acknowledgment (RFC 6928 section 2): so much
/// window the peer certainly offers.
const INITIAL_SEGMENTS: u32 = 10;
/// Largest window a SYN can offer.
const UNSCALED_WINDOW: u32 = 65_535;
/// What a peer takes that announced no maximum segment size (RFC 9293 section 3.7.1).
const DEFAULT_SEGMENT_SIZE: (u16, u16) = (536, 1220);

/// What leaves at the moment an assumed connection begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Departure {
    /// An empty ACK, which opens the own NAT.
    Probe,
    /// Nothing: the first data is the first packet.
    Silent,
}

/// Has the SYN of a later `connect` carry this sequence number.
///
/// # Errors
///
/// [`io::ErrorKind::PermissionDenied`] without `CAP_NET_ADMIN`, and for a socket that is connecting
/// or connected; [`io::ErrorKind::InvalidInput`] for 0, which the system takes for "none chosen".
pub fn pin_sequence(socket: &impl AsFd, sequence: u32) -> io::Result<()> {
    if sequence == 0 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    repairing(socket.as_fd(), Departure::Probe, |socket| {
        set_queue(socket, number::SEND_QUEUE, sequence)
    })
}

/// Makes a bound socket that is not connected an established connection to `remote`, as if the
/// handshake had agreed on `agreed`. The peer has to do the same, mirrored.
///
/// Set TTLs before: with [`Departure::Probe`] a packet leaves within.
///
/// # Errors
///
/// [`io::ErrorKind::PermissionDenied`] without `CAP_NET_ADMIN`;
/// [`io::ErrorKind::InvalidInput`] when timestamps are agreed on, which are not supported, since no
/// clock of the peer is known; otherwise as `connect`.
pub fn assume(
    socket: &impl AsFd,
    remote: SocketAddr,
    agreed: &Agreed,
    departure: Departure,
) -> io::Result<()> {
    if agreed.options.timestamps.is_some() && agreed.peer_options.timestamps.is_some() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    repairing(socket.as_fd(), departure, |socket| {
        set_queue(socket, number::SEND_QUEUE, agreed.sequence.wrapping_add(1))?;
        set_queue(socket, number::RECEIVE_QUEUE, agreed.peer_sequence.wrapping_add(1))?;
        set(socket, libc::IPPROTO_TCP, libc::TCP_REPAIR_QUEUE, 0)?;
        let segment_size = agreed.peer_options.max_segment_size.unwrap_or_else(|| {
            let (v4, v6) = DEFAULT_SEGMENT_SIZE;
            if remote.is_ipv4() { v4 } else { v6 }
        });
        // The system computes its segments when it connects, from this.
        set(socket, libc::IPPROTO_TCP, libc::TCP_MAXSEG, segment_size.into())?;
        SockRef::from(&socket).connect(&SockAddr::from(remote))?;
        set_options(socket, agreed, segment_size)?;
        open_window(socket, agreed, segment_size)
    })
}

/// Does something in repair mode, and leaves it whatever happens.
fn repairing(
    socket: BorrowedFd<'_>,
    departure: Departure,
    work: impl FnOnce(BorrowedFd<'_>) -> io::Result<()>,
) -> io::Result<()> {
    let switch = |value| set(socket, libc::IPPROTO_TCP, libc::TCP_REPAIR, value);
    let shares_port = SockRef::from(&socket).reuse_address()?;
    switch(number::REPAIR_ON)?;
    let done = work(socket);
    let left = switch(match (&done, departure) {
        (Ok(()), Departure::Probe) => number::REPAIR_OFF,
        (Ok(()), Departure::Silent) | (Err(_), _) => number::REPAIR_OFF_NO_PROBE,
    });
    // Repair mode has overwritten it.
    let restored = SockRef::from(&socket).set_reuse_address(shares_port);
    done.and(left).and(restored)
}

fn set_queue(socket: BorrowedFd<'_>, queue: libc::c_int, sequence: u32) -> io::Result<()> {
    set(socket, libc::IPPROTO_TCP, libc::TCP_REPAIR_QUEUE, queue)?;
    set(socket, libc::IPPROTO_TCP, number::QUEUE_SEQUENCE, sequence.cast_signed())
}

/// `struct tcp_repair_opt` for each option: a number and a value.
fn set_options(socket: BorrowedFd<'_>, agreed: &Agreed, segment_size: u16) -> io::Result<()> {
    let (ours, theirs) = (&agreed.options, &agreed.peer_options);
    // Both or neither (RFC 7323 section 2.2). Without, zeros: `connect` has chosen a shift already.
    let (send, receive) = theirs.window_scale.zip(ours.window_scale).unwrap_or((0, 0));
    let scales = u32::from(send) | u32::from(receive) << 16;
    let mut options =
        vec![(number::MAX_SEGMENT_SIZE, u32::from(segment_size)), (number::WINDOW_SCALE, scales)];
    if ours.sack_permitted && theirs.sack_permitted {
        options.push((number::SACK_PERMITTED, 0));
    }
    let bytes: Vec<u8> = options
        .iter()
        .flat_map(|(kind, value)| [*kind, *value])
        .flat_map(u32::to_ne_bytes)
        .collect();
    set_bytes(socket, libc::IPPROTO_TCP, libc::TCP_REPAIR_OPTIONS, &bytes)
}

/// `struct tcp_repair_window`: five words.
#[repr(C)]
struct RepairWindow {
    last_update: u32,
    send_window: u32,
    max_window: u32,
    receive_window: u32,
    receive_edge: u32,
}

/// Lets data leave at once: without a window of the peer, the first segment would wait for an
/// answer to a probe.
fn open_window(socket: BorrowedFd<'_>, agreed: &Agreed, segment_size: u16) -> io::Result<()> {
    let mut bytes = [0; size_of::<RepairWindow>()];
    get_bytes(socket, libc::IPPROTO_TCP, number::REPAIR_WINDOW, &mut bytes)?;
    let window = UNSCALED_WINDOW.min(INITIAL_SEGMENTS * u32::from(segment_size));
    let mut put = |offset: usize, value: u32| {
        bytes[offset..][..4].copy_from_slice(&value.to_ne_bytes());
    };
    // As a SYN of the peer would have left it, so that its first segment updates it.
    put(offset_of!(RepairWindow, last_update), agreed.peer_sequence);
    put(offset_of!(RepairWindow, send_window), window);
    put(offset_of!(RepairWindow, max_window), window);
    set_bytes(socket, libc::IPPROTO_TCP, number::REPAIR_WINDOW, &bytes)
}

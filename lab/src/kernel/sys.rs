//! The system calls that no safe wrapper offers: leaving namespaces, packet sockets, work between
//! `fork` and `exec`, and the hook that lets any program of the workspace become the supervisor.
//!
//! All unsafe code of the lab is in this file; each block says why it is sound.
#![expect(unsafe_code, reason = "the one place for system calls without a safe wrapper")]

use std::io;
use std::mem;
use std::num::NonZeroU64;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use rustix::thread::UnshareFlags;

/// Runs before `main` of every program that links the lab. It returns at once unless this process
/// was started as a lab's warden or supervisor (see [`super::entry`]), in which case it never does.
///
/// A test cannot enter a user namespace: that takes a process with a single thread. So it starts its
/// own executable again, and the new process must not get as far as the test harness.
#[used]
// SAFETY: glibc and musl call each pointer of `.init_array` once, in the main thread, before `main`,
// with up to three integer arguments, which an `extern "C"` function without parameters ignores. The
// function uses only what works before `main`: the environment, file descriptors, processes, threads.
#[unsafe(link_section = ".init_array")]
static ENTRY: extern "C" fn() = {
    extern "C" fn enter() {
        super::entry::enter_if_asked();
    }
    enter
};

/// Leaves the namespaces in `flags`: the calling thread gets new ones.
///
/// # Errors
/// What the kernel says; `EPERM` and `ENOSPC` mean that such namespaces are forbidden here.
pub(super) fn leave(flags: UnshareFlags) -> io::Result<()> {
    assert!(!flags.contains(UnshareFlags::FILES), "descriptors stay shared between threads");
    // SAFETY: only `UnshareFlags::FILES` is a danger to I/O safety, and it was just excluded.
    unsafe { rustix::thread::unshare_unsafe(flags)? };
    Ok(())
}

/// The child is killed when the thread that starts it ends.
pub(super) fn die_with_parent(command: &mut Command) {
    let hook = || {
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        Ok(())
    };
    // SAFETY: the hook is one system call; it allocates nothing and takes no lock.
    unsafe { command.pre_exec(hook) };
}

/// The uid and gid of a program that is to run as an ordinary user: `nobody`.
const NOBODY: u32 = 65_534;

/// The child runs without any privilege over the lab's networks.
///
/// Real root simply becomes `nobody`. In a user namespace there is only one user, so the child
/// enters another user namespace within, where it has no power over the networks of the outer one,
/// and is `nobody` there.
pub(super) fn become_ordinary(command: &mut Command, within_user_namespace: bool) {
    let hook = move || {
        if within_user_namespace {
            // SAFETY: between fork and exec this process has one thread and shares nothing.
            unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWUSER)? };
            // Not `std::fs::write` with formatted strings: nothing may be allocated here.
            write_file(c"/proc/self/setgroups", b"deny")?;
            write_file(c"/proc/self/uid_map", b"65534 0 1")?;
            write_file(c"/proc/self/gid_map", b"65534 0 1")?;
        } else {
            // SAFETY: libc's setters, with valid arguments; this process has one thread.
            let failed = unsafe {
                libc::setgroups(0, std::ptr::null()) != 0
                    || libc::setgid(NOBODY) != 0
                    || libc::setuid(NOBODY) != 0
            };
            if failed {
                return Err(io::Error::last_os_error());
            }
        }
        rustix::thread::set_no_new_privs(true)?;
        Ok(())
    };
    // SAFETY: the hook makes system calls only; it allocates nothing and takes no lock.
    unsafe { command.pre_exec(hook) };
}

/// `CAP_NET_ADMIN` of linux/capability.h.
pub(super) const NET_ADMIN: libc::c_ulong = 12;
/// `CAP_NET_RAW` of the same.
pub(super) const NET_RAW: libc::c_ulong = 13;

/// The child runs without this capability: what is not in the bounding set is not given to root at exec.
pub(super) fn renounce(command: &mut Command, capability: libc::c_ulong) {
    let hook = move || {
        // SAFETY: prctl with numbers only; this process has one thread.
        let failed = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) } != 0;
        if failed { Err(io::Error::last_os_error()) } else { Ok(()) }
    };
    // SAFETY: the hook makes system calls only; it allocates nothing and takes no lock.
    unsafe { command.pre_exec(hook) };
}

fn write_file(path: &std::ffi::CStr, content: &[u8]) -> io::Result<()> {
    use rustix::fs::{Mode, OFlags};
    let file = rustix::fs::open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::io::write(&file, content)?;
    Ok(())
}

/// The length of the header that tells about offloads in front of each frame.
pub(super) const OFFLOAD_HEADER: usize = size_of::<OffloadHeader>();

/// `struct virtio_net_hdr` of the kernel's `virtio_net.h`, all fields in host order.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
pub(super) struct OffloadHeader {
    /// 1: the checksum is not filled in yet.
    pub(super) flags: u8,
    /// Kind of segments; 0: a single packet.
    pub(super) segments: u8,
    /// Length of the headers of a packet to be cut.
    pub(super) header_length: u16,
    /// Payload of each segment.
    pub(super) segment_size: u16,
    /// Where summing starts.
    pub(super) checksum_start: u16,
    /// Where the sum goes, counted from there.
    pub(super) checksum_offset: u16,
}

/// Which frames a packet socket hands out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Frames {
    /// Those that arrive: what a router wants.
    Arriving,
    /// Those that leave as well: what a trace wants.
    Both,
}

/// One frame as received.
#[derive(Debug, Clone, Copy)]
pub(super) struct Received {
    /// Bytes in the buffer, offload header included.
    pub(super) length: usize,
    /// How long ago the kernel had it in hand.
    pub(super) age: Duration,
    /// It left through this interface rather than arriving on it.
    pub(super) outgoing: bool,
}

/// An `AF_PACKET` socket on one interface of the calling thread's network namespace. Each frame
/// begins with an [`OffloadHeader`], so that large TCP segments pass in one piece.
#[derive(Debug)]
pub(super) struct PacketSocket {
    socket: OwnedFd,
}

impl PacketSocket {
    /// Opens it; non-blocking.
    ///
    /// # Errors
    /// What the kernel says: no such interface, no privilege over this namespace.
    pub(super) fn open(interface: &str, frames: Frames) -> io::Result<Self> {
        let index = interface_index(interface)?;
        // Protocol 0: nothing is received before `bind` chose the interface.
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // SAFETY: `socket` takes no pointers; a descriptor it returns is new and ours alone.
        let socket = unsafe {
            let fd = libc::socket(libc::AF_PACKET, kind, 0);
            if fd < 0 {
                return Err(io::Error::last_os_error());
            }
            OwnedFd::from_raw_fd(fd)
        };
        set(&socket, libc::SOL_PACKET, libc::PACKET_VNET_HDR, 1)?;
        let ignore = libc::c_int::from(frames == Frames::Arriving);
        set(&socket, libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, ignore)?;
        set(&socket, libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, 1)?;
        grow_receive_buffer(&socket)?;
        bind(&socket, index)?;
        Ok(Self { socket })
    }

    /// Takes the next frame; `WouldBlock` if there is none.
    pub(super) fn receive(&self, buffer: &mut [u8]) -> io::Result<Received> {
        // SAFETY: zeroed bytes are valid for these plain C structs.
        let (mut from, mut message): (libc::sockaddr_ll, libc::msghdr) =
            unsafe { (mem::zeroed(), mem::zeroed()) };
        let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
        let mut control = ControlBuffer([0; 64]);
        message.msg_name = (&raw mut from).cast();
        message.msg_namelen = size_of_val(&from) as libc::socklen_t;
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = (&raw mut control).cast();
        message.msg_controllen = size_of_val(&control.0) as _;
        // SAFETY: every pointer in `message` points to a live local with the length given beside it.
        let length = unsafe { libc::recvmsg(self.socket.as_raw_fd(), &raw mut message, 0) };
        if length < 0 {
            return Err(io::Error::last_os_error());
        }
        let outgoing = from.sll_pkttype == libc::PACKET_OUTGOING;
        Ok(Received { length: length as usize, age: age(&message), outgoing })
    }

    /// Sends a frame, offload header included. A full queue drops it, as a wire would.
    pub(super) fn send(&self, frame: &[u8]) -> io::Result<()> {
        match rustix::io::write(&self.socket, frame) {
            Ok(_) | Err(rustix::io::Errno::NOBUFS | rustix::io::Errno::AGAIN) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Frames that the kernel dropped since the last call because nobody fetched them in time.
    pub(super) fn dropped(&self) -> io::Result<u32> {
        // SAFETY: zeroed bytes are valid for this plain C struct.
        let mut statistics: libc::tpacket_stats = unsafe { mem::zeroed() };
        let mut length = size_of_val(&statistics) as libc::socklen_t;
        // SAFETY: the kernel writes at most `length` bytes to a live local of that size.
        let failed = unsafe {
            libc::getsockopt(
                self.socket.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_STATISTICS,
                (&raw mut statistics).cast(),
                &raw mut length,
            )
        };
        if failed == 0 { Ok(statistics.tp_drops) } else { Err(io::Error::last_os_error()) }
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Room for control messages, aligned as `struct cmsghdr` wants it.
#[repr(C, align(8))]
struct ControlBuffer([u8; 64]);

fn set(socket: &OwnedFd, level: i32, option: i32, value: libc::c_int) -> io::Result<()> {
    // SAFETY: the value is a live local of the length given.
    let failed = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            (&raw const value).cast(),
            size_of_val(&value) as libc::socklen_t,
        )
    };
    if failed == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// As large as allowed: a burst of large segments must wait here while this thread does not run.
fn grow_receive_buffer(socket: &OwnedFd) -> io::Result<()> {
    const WANTED: libc::c_int = 64 << 20;
    set(socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, WANTED)
        .or_else(|_| set(socket, libc::SOL_SOCKET, libc::SO_RCVBUF, WANTED))
}

fn bind(socket: &OwnedFd, index: i32) -> io::Result<()> {
    // SAFETY: zeroed bytes are valid for this plain C struct.
    let mut address: libc::sockaddr_ll = unsafe { mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
    address.sll_ifindex = index;
    // SAFETY: the address is a live local of the length given.
    let failed = unsafe {
        libc::bind(
            socket.as_raw_fd(),
            (&raw const address).cast(),
            size_of_val(&address) as libc::socklen_t,
        )
    };
    if failed == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn interface_index(interface: &str) -> io::Result<i32> {
    let name = std::ffi::CString::new(interface)?;
    // SAFETY: the name is a NUL-terminated string that outlives the call.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    if index == 0 { Err(io::Error::last_os_error()) } else { Ok(index as i32) }
}

/// How long ago the kernel stamped the message; zero if it did not.
fn age(message: &libc::msghdr) -> Duration {
    // SAFETY: the kernel filled `message`, so the control messages in it are well formed, and the
    // macros stay within `msg_controllen`.
    let stamp = unsafe {
        let mut header = libc::CMSG_FIRSTHDR(message);
        loop {
            if header.is_null() {
                break None;
            }
            if (*header).cmsg_level == libc::SOL_SOCKET
                && (*header).cmsg_type == libc::SCM_TIMESTAMPNS
            {
                break Some(libc::CMSG_DATA(header).cast::<libc::timespec>().read_unaligned());
            }
            header = libc::CMSG_NXTHDR(message, header);
        }
    };
    let Some(stamp) = stamp else { return Duration::ZERO };
    let stamp = Duration::new(stamp.tv_sec as u64, stamp.tv_nsec as u32);
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32).saturating_sub(stamp)
}

/// The child's process group becomes the foreground one of the terminal on its standard input.
pub(super) fn take_terminal(command: &mut Command) {
    // SAFETY: the hook makes system calls only; it allocates nothing and takes no lock.
    unsafe { command.pre_exec(claim_terminal) };
}

/// This process's group becomes the foreground one of the terminal on its standard input.
///
/// # Errors
/// `ENOTTY` if there is no terminal.
pub(super) fn claim_terminal() -> io::Result<()> {
    // SAFETY: ignoring a signal needs no handler that could do harm. Otherwise a background process
    // that touches the terminal would be stopped by it.
    let before = unsafe { libc::signal(libc::SIGTTOU, libc::SIG_IGN) };
    let own = rustix::process::getpgrp();
    let outcome = rustix::termios::tcsetpgrp(rustix::stdio::stdin(), own);
    // SAFETY: this is what the kernel said was there before.
    unsafe { libc::signal(libc::SIGTTOU, before) };
    Ok(outcome?)
}

/// The calling thread runs as soon as it has something to do, as far as this process may have that.
///
/// Real root gets it; an ordinary user does not, and then time stamps make up for late wake-ups.
pub(super) fn be_punctual() {
    // The kernel groups wake-ups within 50 µs unless told otherwise.
    let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
    let lowest = libc::sched_param { sched_priority: 1 };
    // SAFETY: the parameter is a live local; thread 0 is the calling one.
    unsafe { libc::sched_setscheduler(0, libc::SCHED_RR, &raw const lowest) };
}

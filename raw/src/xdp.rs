//! STUN answers from the network driver (XDP): plain Binding requests never reach a socket.
//!
//! A [`Responder`] loads a small program into the kernel (`raw/src/xdp/binding.rs`) and attaches it to an interface. The program
//! answers a Binding request of RFC 8489 without attributes, over IPv4, to one address and port, with the 32 bytes that
//! any STUN server with one address answers, and lets everything else pass to the sockets: other lengths, other attributes,
//! fragments, IP options, and sources that are over their budget. The attachment ends when the responder is dropped or the process ends.
//!
//! It needs `CAP_BPF` and `CAP_NET_ADMIN`, Linux 5.9, and a driver with XDP of its own; the generic form for the
//! others is not asked for, since it saves nothing.
//!
//! Why not a crate: aya loads programs that a compiler for BPF has made, which this project does not ask for; what
//! is needed here are four calls of bpf(2).

mod assembly;
mod binding;

use assembly::Program;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// `enum bpf_cmd`, `enum bpf_map_type`, `enum bpf_prog_type` and `enum bpf_attach_type` of `linux/bpf.h`.
const MAP_CREATE: libc::c_long = 0;
const MAP_LOOKUP: libc::c_long = 1;
const PROGRAM_LOAD: libc::c_long = 5;
const LINK_CREATE: libc::c_long = 28;
const ARRAY: u32 = 2;
const XDP_PROGRAM: u32 = 6;
const XDP_ATTACHMENT: u32 = 37;
/// `XDP_FLAGS_DRV_MODE` of `linux/if_link.h`: by the driver itself, or not at all.
const BY_THE_DRIVER: u32 = 1 << 2;
/// Cells of the budget: 128 KiB.
const CELLS: u32 = 1 << 14;

/// What a responder answers, and how much of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Where requests go to.
    pub address: SocketAddrV4,
    /// How many replies each IPv4 /24 may have; what is beyond them passes to the sockets.
    pub budget: Option<Bucket>,
    /// Which sources, by address and prefix, may have that many at once instead.
    pub neighbours: Option<(Ipv4Addr, u8, u32)>,
    /// Chooses which networks share a cell of the budget; drawn by the caller.
    pub key: u32,
}

/// Replies, on and on and at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// Replies a second, at least one.
    pub per_second: u32,
    /// Replies at once.
    pub burst: u32,
}

impl Bucket {
    /// Between two replies, in nanoseconds.
    fn interval(self) -> u32 {
        1_000_000_000 / self.per_second.max(1)
    }

    /// How far ahead of the present a cell may be.
    fn tolerance(self, burst: u32) -> u64 {
        u64::from(self.interval()) * u64::from(burst)
    }
}

/// An attached program.
#[derive(Debug)]
pub struct Responder {
    /// Detached when closed.
    _link: OwnedFd,
    answered: OwnedFd,
}

impl Responder {
    /// Attaches a program to the interface of this name.
    ///
    /// # Errors
    ///
    /// There is no such interface, no right to do it, or no driver that can; as the system says.
    pub fn attach(interface: &str, terms: &Terms) -> io::Result<Self> {
        let index = interface_index(interface)?;
        let answered = array(1)?;
        let cells = array(CELLS)?;
        let program = binding::program(terms, answered.as_raw_fd(), cells.as_raw_fd());
        let program = load(&program)?;
        let mut attributes = Attributes::new();
        attributes.u32(program.as_raw_fd() as u32).u32(index);
        attributes.u32(XDP_ATTACHMENT).u32(BY_THE_DRIVER);
        let link = attributes.create(LINK_CREATE)?;
        Ok(Self { _link: link, answered })
    }

    /// Requests answered so far.
    pub fn answered(&self) -> u64 {
        let (key, mut value) = (0_u32, 0_u64);
        let mut attributes = Attributes::new();
        attributes.u32(self.answered.as_raw_fd() as u32).u32(0);
        attributes.u64(&raw const key as u64).u64(&raw mut value as u64);
        // SAFETY: `key` and `value` are of the map's sizes and live until the call returns.
        let result = unsafe { attributes.call(MAP_LOOKUP) };
        if result.is_ok() { value } else { 0 }
    }
}

/// The attributes of one call of bpf(2): a union that begins with the fields of the command, the rest zero.
struct Attributes {
    bytes: [u8; 144],
    length: usize,
}

impl Attributes {
    fn new() -> Self {
        Self { bytes: [0; 144], length: 0 }
    }

    fn u32(&mut self, value: u32) -> &mut Self {
        self.bytes[self.length..self.length + 4].copy_from_slice(&value.to_ne_bytes());
        self.length += 4;
        self
    }

    fn u64(&mut self, value: u64) -> &mut Self {
        self.bytes[self.length..self.length + 8].copy_from_slice(&value.to_ne_bytes());
        self.length += 8;
        self
    }

    /// # Safety
    ///
    /// Pointers among the attributes must be to what the command expects, for as long as the call lasts.
    unsafe fn call(&mut self, command: libc::c_long) -> io::Result<RawFd> {
        // SAFETY: the attributes are a buffer of the length that is told; for what they point to the caller answers.
        let result = unsafe {
            libc::syscall(libc::SYS_bpf, command, self.bytes.as_mut_ptr(), self.bytes.len())
        };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as RawFd) }
    }

    /// A command that makes a descriptor and whose attributes hold no pointer.
    fn create(&mut self, command: libc::c_long) -> io::Result<OwnedFd> {
        // SAFETY: there is no pointer.
        let descriptor = unsafe { self.call(command) }?;
        // SAFETY: the kernel has just made it, and nobody else has it.
        Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
    }
}

/// A map from 0, 1, 2 ... to 64-bit numbers.
fn array(entries: u32) -> io::Result<OwnedFd> {
    let mut attributes = Attributes::new();
    attributes.u32(ARRAY).u32(size_of::<u32>() as u32).u32(size_of::<u64>() as u32).u32(entries);
    attributes.create(MAP_CREATE)
}

fn load(program: &Program) -> io::Result<OwnedFd> {
    let (code, licence) = (program.bytes(), c"MIT");
    let mut attributes = Attributes::new();
    attributes.u32(XDP_PROGRAM).u32((code.len() / 8) as u32);
    attributes.u64(code.as_ptr() as u64).u64(licence.as_ptr() as u64);
    // SAFETY: both live until the call returns, and the number of instructions of 8 bytes is told.
    let descriptor = unsafe { attributes.call(PROGRAM_LOAD) }?;
    // SAFETY: the kernel has just made it, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

fn interface_index(name: &str) -> io::Result<u32> {
    let name = std::ffi::CString::new(name).map_err(io::Error::other)?;
    // SAFETY: a string that ends with zero.
    match unsafe { libc::if_nametoindex(name.as_ptr()) } {
        0 => Err(io::Error::last_os_error()),
        index => Ok(index),
    }
}

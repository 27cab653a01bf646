//! Traces: copies of all frames of some interfaces.

use std::os::fd::AsFd as _;
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::event::{PollFd, PollFlags};

use super::control::{Channel, Frame, Reply, Tap};
use super::error::{Error, Result};
use super::space::Space;
use super::sys::{Frames, OFFLOAD_HEADER, PacketSocket};
use super::wire::LONGEST_FRAME;

/// Bytes kept of a packet.
const KEPT: usize = 1600;
/// Bytes kept of a longer TCP segment, so that a trace of a large transfer stays small: all headers.
const KEPT_OF_LONG_TCP: usize = 128;
/// Length of an Ethernet header.
const ETHERNET: usize = 14;

/// Opens a trace socket in a namespace.
pub(super) fn open(space: &Space, tap: &Tap) -> Result<PacketSocket> {
    let interface = tap.interface.clone();
    space.enter(move || {
        PacketSocket::open(&interface, Frames::Both)
            .map_err(|error| Error::system(format!("packet socket on {interface}"), error))
    })
}

/// Sends what the sockets see until nobody listens any more.
pub(super) fn start(sockets: Vec<PacketSocket>, answers: Channel) {
    if answers.send(&Reply::Done, &[]).is_ok() {
        thread::spawn(move || watch(&sockets, &answers));
    }
}

fn watch(sockets: &[PacketSocket], answers: &Channel) {
    let mut buffer = vec![0; LONGEST_FRAME];
    loop {
        let ready = {
            let mut polled: Vec<PollFd<'_>> = sockets
                .iter()
                .map(|socket| PollFd::from_borrowed_fd(socket.as_fd(), PollFlags::IN))
                .chain([PollFd::new(answers, PollFlags::IN)])
                .collect();
            match rustix::event::poll(&mut polled, None) {
                Err(rustix::io::Errno::INTR) => continue,
                Err(_) => return,
                Ok(_) => polled.iter().map(|it| !it.revents().is_empty()).collect::<Vec<_>>(),
            }
        };
        // The listener never speaks; its socket becomes readable when it stops listening. What the
        // interfaces have seen until then is still sent.
        let last = ready.last() == Some(&true);
        for (tap, socket) in sockets.iter().enumerate() {
            while let Ok(received) = socket.receive(&mut buffer) {
                let start = OFFLOAD_HEADER + ETHERNET;
                let Some(packet) = buffer.get(start..received.length) else { continue };
                let is_cut = is_tcp(packet) && packet.len() > KEPT;
                let kept = if is_cut { KEPT_OF_LONG_TCP } else { KEPT };
                let packet = &packet[..packet.len().min(kept)];
                let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                let time_ns = time.saturating_sub(received.age).as_nanos() as u64;
                let packet = packet.to_vec();
                let frame = Frame { tap, time_ns, outgoing: received.outgoing, packet };
                if answers.send(&Reply::Frame(frame), &[]).is_err() {
                    return;
                }
            }
        }
        if last {
            return;
        }
    }
}

/// IPv4 or IPv6 with TCP right behind its header.
pub(super) fn is_tcp(packet: &[u8]) -> bool {
    const TCP: u8 = 6;
    match packet.first().map(|first| first >> 4) {
        Some(4) => packet.get(9) == Some(&TCP),
        Some(6) => packet.get(6) == Some(&TCP),
        _ => false,
    }
}

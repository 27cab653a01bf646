//! The bound: a server that sends every datagram back, many a system call, and does nothing else.

use std::net::{SocketAddr, UdpSocket};

use ntcp_raw::batch::{Receiver, Sender};

const BATCH: usize = 64;

/// Serves until the process is ended.
pub(crate) fn run(address: SocketAddr) -> anyhow::Result<()> {
    let socket = UdpSocket::bind(address)?;
    let (mut receiver, mut sender) = (Receiver::new(BATCH), Sender::new(BATCH));
    loop {
        for index in 0..receiver.receive(&socket)? {
            let Some(datagram) = receiver.datagram(index) else { continue };
            let length = datagram.bytes.len();
            if sender.room(length).is_none() {
                sender.flush(&socket);
            }
            if let Some(room) = sender.room(length) {
                room[..length].copy_from_slice(datagram.bytes);
                sender.push(length, datagram.source, None);
            }
        }
        sender.flush(&socket);
    }
}

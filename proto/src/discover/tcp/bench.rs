//! What the tests of this room share: a server that has a port for everybody who asks.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ntcp_stun::Message;
use ntcp_stun::probe::Reply;

use super::super::outbox::Outbox;
use crate::address::Family;
use crate::command::{Command, CommandId, Ends, IoFailure, Owner, SocketId};
use crate::entropy::{Entropy, Seed};
use crate::machine::any_instant;

/// To the server.
pub(super) const RTT: Duration = Duration::from_millis(40);

/// An address.
pub(super) fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// A test as far as the server has told each of its connections that this port is reserved.
pub(super) fn reserve<T>(
    reserved: &str,
    new: impl FnOnce(Family, (SocketAddr, Duration), &mut Entropy, &mut Outbox, Instant) -> T,
    connected: impl Fn(&mut T, CommandId, &Result<Ends, IoFailure>, &mut Outbox, Instant),
    message: impl Fn(&mut T, SocketId, &[u8], &mut Outbox, Instant),
) -> (T, Outbox, Instant) {
    let (mut outbox, now) = (Outbox::new(Owner(1)), any_instant());
    let (server, mut entropy) = (at("203.0.113.1:3478"), Entropy::new(Seed::from_number(1)));
    let mut test = new(Family::V4, (server, RTT), &mut entropy, &mut outbox, now);
    let connects: Vec<_> = std::iter::from_fn(|| outbox.poll()).collect();
    for (port, command) in (5001..).zip(connects) {
        let Command::ConnectTcp { id, remote, .. } = command else { panic!("{command:?}") };
        assert_eq!(remote, server);
        let ends = Ends { local: SocketAddr::new(at("10.0.0.2:0").ip(), port), remote };
        connected(&mut test, id, &Ok(ends), &mut outbox, now);
    }
    let requests: Vec<_> = std::iter::from_fn(|| outbox.poll()).collect();
    for command in requests {
        let Command::SendTcp { socket, payload, .. } = command else { panic!("{command:?}") };
        let id = Message::parse(&payload).unwrap().transaction_id();
        let reply = Reply::Reserved(at(reserved)).write(id);
        message(&mut test, socket, &reply, &mut outbox, now);
    }
    (test, outbox, now)
}

//! A port of the server that was asked for on a connection, as several tests need one.

use std::net::SocketAddr;
use std::time::Duration;

use ntcp_stun::probe::{self, Interval, Reply, Test, Wish};
use ntcp_stun::{Message, TransactionId};

use super::super::outbox::Outbox;
use crate::address::canonical;
use crate::command::SocketId;

/// Asks for a port that does as `test` says, for the usual time.
pub(super) fn ask(socket: SocketId, request: TransactionId, test: Test, outbox: &mut Outbox) {
    let wish = Wish { test, patience: Interval::of(Duration::ZERO) };
    outbox.send_tcp(socket, probe::order(request, wish));
}

/// The port that a reply to `request` names; `None` of any other message. A server has no port elsewhere than at its
/// own address: no packet goes to anybody else.
pub(super) fn named(
    payload: &[u8],
    request: TransactionId,
    server: SocketAddr,
) -> Option<Result<SocketAddr, NoPort>> {
    let message = Message::parse(payload).ok()?;
    let reply = Some(message).filter(|it| it.transaction_id() == request)?;
    Some(match Reply::read(&reply)? {
        Reply::Reserved(port) if canonical(port).ip() == server.ip() && port.port() != 0 => {
            Ok(canonical(port))
        }
        _ => Err(NoPort),
    })
}

/// The server has named no port, or somebody else's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NoPort;

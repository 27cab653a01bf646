//! A node of this process, started within the deadline.

use crate::failure::Failure;
use async_io::Timer;
use futures::{FutureExt, select_biased};
use ntcp::{Config, Node, PeerUri};
use std::pin::pin;

/// Starts a node at the configured broker, or else at the one that `uri` names; `[node] deadline`
/// limits it, whatever the network does.
///
/// # Errors
/// [`Failure::NoBroker`], [`Failure::Start`] when the time is up, or why it could not be started.
pub async fn start(config: Config, uri: Option<&PeerUri>) -> Result<Node, Failure> {
    let configured = config.hole_punch.broker.is_some() || config.tcp.broker.is_some();
    let named = uri.filter(|uri| uri.broker.is_some());
    if !configured && named.is_none() {
        return Err(Failure::NoBroker);
    }
    let limit = config.node.deadline;
    let builder = Node::builder().config(config);
    let builder = match named {
        Some(uri) => builder.broker_of(uri),
        None => builder,
    };
    let mut starting = pin!(builder.start().fuse());
    let mut timer = FutureExt::fuse(Timer::after(limit));
    select_biased! {
        started = starting => Ok(started?),
        _ = timer => Err(Failure::Start(limit)),
    }
}

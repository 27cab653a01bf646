//! Waits for the signals that end a program: SIGINT and SIGTERM.

use std::io;

use async_signal::{Signal, Signals};
use futures::StreamExt as _;

/// A future that is ready once the process is asked to end.
pub(crate) fn signals() -> io::Result<impl Future<Output = ()>> {
    let mut signals = Signals::new([Signal::Int, Signal::Term])?;
    Ok(async move {
        // If the source of signals fails, nobody could end the program but by force: end it.
        let _ = signals.next().await;
    })
}

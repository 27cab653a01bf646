//! The signals that a server obeys: SIGHUP, SIGINT and SIGTERM.

use std::io;

use async_signal::{Signal, Signals};
use futures::{Stream, StreamExt as _};

/// What somebody asks of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    /// SIGHUP: read the configuration again.
    Reload,
    /// SIGTERM or SIGINT: stop; the second time at once.
    Stop {
        /// The exit status of who is ended by the signal: 128 and its number.
        status: i32,
    },
}

/// Wishes, as they come; from now on these signals do not end the process by themselves.
pub(crate) fn wishes() -> io::Result<impl Stream<Item = Wish> + Unpin> {
    let signals = Signals::new([Signal::Hup, Signal::Int, Signal::Term])?;
    // If the source of signals fails, nobody could end the program but by force: end it.
    Ok(signals.map(|signal| match signal {
        Ok(Signal::Hup) => Wish::Reload,
        Ok(Signal::Int) => Wish::Stop { status: 128 + 2 },
        Ok(_) | Err(_) => Wish::Stop { status: 128 + 15 },
    }))
}

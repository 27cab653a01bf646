//! Ends the server on SIGINT and SIGTERM.

use std::io;
use std::thread;

use nix::sys::signal::{SigSet, Signal};
use ntcp_stun_server::Stopper;

/// The signals, kept from their default effect in this thread and in those it starts.
pub(crate) struct Blocked(SigSet);

/// Must come before any thread is made.
pub(crate) fn block() -> io::Result<Blocked> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGINT);
    signals.add(Signal::SIGTERM);
    signals.thread_block()?;
    Ok(Blocked(signals))
}

impl Blocked {
    /// Waits for them in a thread that lives as long as the process.
    pub(crate) fn stop_on_arrival(self, stopper: Stopper) -> io::Result<()> {
        let wait = move || {
            match self.0.wait() {
                Ok(signal) => tracing::info!(%signal, "stopping"),
                // Nobody could end the server but by force: end it.
                Err(error) => tracing::error!(%error, "signals cannot be waited for, stopping"),
            }
            stopper.stop();
        };
        thread::Builder::new().name("signals".to_owned()).spawn(wait)?;
        Ok(())
    }
}

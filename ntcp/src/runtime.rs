//! Where the library's own futures run, whatever runtime the application uses.
//!
//! Sockets and timers come from `async-io`, whose reactor belongs to no executor, so every future
//! of this crate can be awaited under async-std, smol, tokio or a bare `block_on`. What must run on
//! its own (the driver of a node, QUIC) runs on one thread of the library, started at first use.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;
use std::thread;

use async_executor::{Executor, Task};

static EXECUTOR: OnceLock<Executor<'static>> = OnceLock::new();

/// Runs `future` on the library's thread. Dropping the task cancels it.
pub(crate) fn spawn<T: Send + 'static>(
    future: impl Future<Output = T> + Send + 'static,
) -> Task<T> {
    let mut fresh = false;
    let executor = EXECUTOR.get_or_init(|| {
        fresh = true;
        Executor::new()
    });
    if fresh {
        thread::Builder::new()
            .name("ntcp".into())
            .spawn(move || {
                let run = || async_io::block_on(executor.run(std::future::pending::<()>()));
                // One that panics ends alone: the other nodes of the process go on.
                while catch_unwind(AssertUnwindSafe(run)).is_err() {}
            })
            .expect("the system lets a process start one more thread");
    }
    executor.spawn(future)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_that_panics_does_not_take_the_others_with_it() {
        let (sender, panicked) = futures::channel::oneshot::channel::<()>();
        spawn(async move {
            let _dropped_while_unwinding = sender;
            panic!("on purpose");
        })
        .detach();
        async_io::block_on(panicked).unwrap_err();
        assert_eq!(async_io::block_on(spawn(async { 7 })), 7);
    }
}

//! [`Scribe`]: lines on their way to standard error, written by a thread of their own.
//!
//! Whoever reads a log may stop reading: a pipe fills up, and writing to it waits for ever. The serving thread must not
//! wait with it. So it leaves its lines here:
//!
//! ```text
//!   serving ──┐                 ┌─ up to 4 MiB ─┐
//!             ├─▶ write ──────▶ │ line line ... │ ─▶ scribe's thread ─▶ standard error
//!   supervisor┘   never waits   └───────────────┘        │
//!                     │ no room: counted                 └ once there is room again: says how many were lost
//! ```
//!
//! The thread starts late, since none may be there while privileges are given up; what is said before then waits. At the
//! end of the program [`Scribe::finish`] has everything written, but waits no longer than [`PATIENCE`].

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

/// Bytes of lines that wait: some ten thousand lines, more than any burst that a reader keeps up with.
const ROOM: usize = 4 << 20;
/// How long the end of the program waits for a reader.
const PATIENCE: Duration = Duration::from_secs(1);
/// Room for the scribe's thread: it copies bytes, and formats one line now and then.
const STACK: usize = 256 << 10;

/// Lines on their way.
#[derive(Debug)]
pub(crate) struct Scribe {
    desk: Mutex<Desk>,
    changed: Condvar,
    room: usize,
}

#[derive(Debug, Default)]
struct Desk {
    lines: VecDeque<Vec<u8>>,
    /// In all of these.
    bytes: usize,
    /// Lines that found no room, since the start.
    lost: u64,
    /// How many of those have been told of.
    told: u64,
    thread: Thread,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum Thread {
    #[default]
    NotStarted,
    /// Every line is written.
    Waiting,
    Writing,
}

/// That of this process, which has one standard error.
pub(crate) fn scribe() -> &'static Arc<Scribe> {
    static SCRIBE: OnceLock<Arc<Scribe>> = OnceLock::new();
    SCRIBE.get_or_init(|| Arc::new(Scribe::with_room_for(ROOM)))
}

impl Scribe {
    fn with_room_for(room: usize) -> Self {
        Self { desk: Mutex::default(), changed: Condvar::new(), room }
    }

    /// Begins to write to standard error; nothing if it has begun.
    ///
    /// # Errors
    ///
    /// The system has no room for a thread.
    pub(crate) fn start(self: &Arc<Self>) -> io::Result<()> {
        self.start_on(io::stderr())
    }

    fn start_on(self: &Arc<Self>, sink: impl Write + Send + 'static) -> io::Result<()> {
        let mut desk = self.desk();
        if desk.thread != Thread::NotStarted {
            return Ok(());
        }
        let own = Arc::clone(self);
        let thread = std::thread::Builder::new().name("log".to_owned()).stack_size(STACK);
        thread.spawn(move || own.write_all(sink))?;
        desk.thread = Thread::Writing;
        Ok(())
    }

    /// Takes a line, whole; never waits for a reader.
    pub(crate) fn take(&self, line: &[u8]) {
        let mut desk = self.desk();
        if desk.bytes + line.len() > self.room {
            desk.lost += 1;
        } else {
            desk.bytes += line.len();
            desk.lines.push_back(line.to_vec());
            self.changed.notify_all();
        }
    }

    /// Waits until everything is written, or no longer than a second: the reader may never come back.
    pub(crate) fn finish(self: &Arc<Self>) {
        let is_idle = {
            let desk = self.desk();
            desk.thread == Thread::NotStarted && desk.lines.is_empty() && desk.lost == 0
        };
        if is_idle {
            return;
        }
        if self.start().is_err() {
            // Nobody else is there to write it. The system is at its end, and so is this program.
            return self.write_directly(io::stderr());
        }
        let is_busy = |desk: &mut Desk| {
            !desk.lines.is_empty() || desk.thread != Thread::Waiting || desk.lost > desk.told
        };
        drop(self.changed.wait_timeout_while(self.desk(), PATIENCE, is_busy));
    }

    /// The thread.
    fn write_all(&self, mut sink: impl Write) {
        loop {
            let (line, lost) = self.next();
            // Where standard error takes nothing, as on a full disk, there is nobody to tell.
            let _ = sink.write_all(&line);
            if let Some(lost) = lost {
                tracing::error!(
                    lost,
                    "lines of this log were lost, so many since the start: its reader stood still"
                );
            }
        }
    }

    /// The next line, and how many have been lost if there is something new to tell and room for it.
    fn next(&self) -> (Vec<u8>, Option<u64>) {
        let mut desk = self.desk();
        loop {
            if let Some(line) = desk.lines.pop_front() {
                desk.thread = Thread::Writing;
                desk.bytes -= line.len();
                let is_news = desk.lost > desk.told && desk.bytes <= self.room / 2;
                let lost = is_news.then_some(desk.lost);
                desk.told = lost.unwrap_or(desk.told);
                return (line, lost);
            }
            desk.thread = Thread::Waiting;
            self.changed.notify_all();
            desk = self.changed.wait(desk).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn write_directly(&self, mut sink: impl Write) {
        let mut desk = self.desk();
        for line in std::mem::take(&mut desk.lines) {
            let _ = sink.write_all(&line);
        }
        desk.bytes = 0;
    }

    fn desk(&self) -> MutexGuard<'_, Desk> {
        // Nothing is left half done at any point where it could panic.
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One line for the scribe: whoever formats it writes it at once.
#[derive(Debug)]
pub(crate) struct Line;

impl Write for Line {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        scribe().take(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
    use std::time::Instant;

    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    /// A reader that takes a line when the test does.
    struct Gate(SyncSender<Vec<u8>>);

    impl Write for Gate {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            self.0.send(line.to_vec()).map_err(|_| io::ErrorKind::BrokenPipe)?;
            Ok(line.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn started(room: usize) -> (Arc<Scribe>, Receiver<Vec<u8>>) {
        let (gate, lines) = sync_channel(0);
        let scribe = Arc::new(Scribe::with_room_for(room));
        scribe.start_on(Gate(gate)).unwrap();
        (scribe, lines)
    }

    fn lost_and_told(scribe: &Scribe) -> (u64, u64) {
        let desk = scribe.desk();
        (desk.lost, desk.told)
    }

    #[test]
    fn every_line_is_written_in_order_also_those_from_before_the_start() {
        let scribe = Arc::new(Scribe::with_room_for(1000));
        scribe.take(b"first\n");
        let (sender, lines): (Sender<Vec<u8>>, _) = channel();
        struct Open(Sender<Vec<u8>>);
        impl Write for Open {
            fn write(&mut self, line: &[u8]) -> io::Result<usize> {
                self.0.send(line.to_vec()).map_err(|_| io::ErrorKind::BrokenPipe)?;
                Ok(line.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        scribe.start_on(Open(sender)).unwrap();
        scribe.take(b"second\n");
        scribe.finish();
        assert_eq!(lines.try_iter().collect::<Vec<_>>().concat(), b"first\nsecond\n");
    }

    #[test]
    fn a_reader_that_stands_still_keeps_nobody_waiting_and_what_is_lost_is_counted() {
        let (scribe, lines) = started(100);
        let before = Instant::now();
        // One is with the reader, ten have room.
        for _ in 0..50 {
            scribe.take(b"ten bytes\n");
        }
        assert!(before.elapsed() < LONG);
        let lost = scribe.desk().lost;
        assert!((39..=40).contains(&lost), "{lost}");
        scribe.finish();
        assert_eq!(lost_and_told(&scribe), (lost, 0), "finished without a reader");
        // It reads again.
        for _ in 0..50 - lost {
            assert_eq!(lines.recv_timeout(LONG).unwrap(), b"ten bytes\n");
        }
        scribe.finish();
        assert_eq!(lost_and_told(&scribe), (lost, lost));
    }
}

//! A trace in the making.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use rustix::net::Shutdown;

use super::control::{Channel, Frame, Reply, Tap};

/// A running trace of some interfaces; what they see is collected until it is stopped.
#[derive(Debug)]
pub struct Capture {
    stop: OwnedFd,
    seen: mpsc::Receiver<Frame>,
    taps: Vec<Tap>,
}

impl Capture {
    pub(super) fn new(channel: Channel, taps: Vec<Tap>) -> io::Result<Self> {
        let stop = channel.as_fd().try_clone_to_owned()?;
        let (frames, seen) = mpsc::channel();
        // Always read, so that the supervisor never has to wait.
        thread::spawn(move || {
            while let Ok(Some((Reply::Frame(frame), _))) = channel.receive() {
                if frames.send(frame).is_err() {
                    return;
                }
            }
        });
        Ok(Self { stop, seen, taps })
    }

    /// The interfaces watched; [`Frame::tap`] counts them.
    pub fn taps(&self) -> &[Tap] {
        &self.taps
    }

    /// The next frame, if one comes within this time.
    pub fn next(&self, limit: Duration) -> Option<Frame> {
        self.seen.recv_timeout(limit).ok()
    }

    /// Ends it; everything seen so far and not fetched yet, in the order of time.
    pub fn stop(self) -> Vec<Frame> {
        // The supervisor sees the end, sends what is left, and closes.
        let _ = rustix::net::shutdown(&self.stop, Shutdown::Write);
        let mut frames: Vec<Frame> = self.seen.iter().collect();
        frames.sort_by_key(|frame| frame.time_ns);
        frames
    }
}

//! A trace in the making.

use std::os::fd::AsFd as _;
use std::thread::{self, JoinHandle};

use super::control::{Channel, Frame, Reply, Tap};

/// A running trace of some interfaces; what they see is collected until it is stopped.
#[derive(Debug)]
pub struct Capture {
    stop: std::os::fd::OwnedFd,
    collector: JoinHandle<Vec<Frame>>,
    taps: Vec<Tap>,
}

impl Capture {
    pub(super) fn new(channel: Channel, taps: Vec<Tap>) -> std::io::Result<Self> {
        let stop = channel.as_fd().try_clone_to_owned()?;
        let collector = thread::spawn(move || {
            let mut frames = Vec::new();
            while let Ok(Some((Reply::Frame(frame), _))) = channel.receive() {
                frames.push(frame);
            }
            frames
        });
        Ok(Self { stop, collector, taps })
    }

    /// The interfaces watched; [`Frame::tap`] counts them.
    pub fn taps(&self) -> &[Tap] {
        &self.taps
    }

    /// Ends it; everything seen so far, in the order of time.
    pub fn stop(self) -> Vec<Frame> {
        // The supervisor sees the end, sends what is left, and closes.
        let _ = rustix::net::shutdown(&self.stop, rustix::net::Shutdown::Write);
        let mut frames = self.collector.join().unwrap_or_default();
        frames.sort_by_key(|frame| frame.time_ns);
        frames
    }
}

//! Bytes that tell where they belong: what is lost, doubled or swapped on the way does not fit.

use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

/// A prime, so that the pattern never lines up with anybody's buffers.
const PERIOD: usize = 65_521;

/// What one side says.
#[derive(Debug, Clone)]
pub(crate) struct Pattern(Vec<u8>);

/// What the other side heard.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Heard {
    /// Bytes that came.
    pub(crate) bytes: u64,
    /// From the first to the last.
    pub(crate) during: Duration,
    /// The first that was not what was said; `None` if all were.
    pub(crate) wrong_at: Option<u64>,
}

impl Pattern {
    pub(crate) fn new(seed: u32) -> Self {
        // The generator of Numerical Recipes; its upper bits are good enough here.
        let mut state = seed;
        let next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        Self(std::iter::repeat_with(next).take(PERIOD).collect())
    }

    /// Says this many bytes.
    pub(crate) fn say(&self, mut to: impl Write, bytes: u64) -> io::Result<()> {
        let mut left = bytes;
        while left > 0 {
            let length = left.min(PERIOD as u64) as usize;
            to.write_all(&self.0[..length])?;
            left -= length as u64;
        }
        to.flush()
    }

    /// Hears everything, and compares.
    pub(crate) fn hear(&self, mut from: impl Read) -> io::Result<Heard> {
        let mut heard = Heard { bytes: 0, during: Duration::ZERO, wrong_at: None };
        let mut first = None;
        let mut buffer = vec![0; PERIOD];
        loop {
            // Reading never crosses a period, so that one comparison suffices.
            let offset = (heard.bytes % PERIOD as u64) as usize;
            let length = from.read(&mut buffer[..PERIOD - offset])?;
            if length == 0 {
                return Ok(heard);
            }
            heard.during = first.get_or_insert_with(Instant::now).elapsed();
            let expected = &self.0[offset..offset + length];
            if heard.wrong_at.is_none() && buffer[..length] != *expected {
                heard.wrong_at = Some(heard.bytes);
            }
            heard.bytes += length as u64;
        }
    }
}

impl Heard {
    /// Whether it is what was said, whole.
    pub(crate) fn is_whole(&self, said: u64) -> bool {
        self.bytes == said && self.wrong_at.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_heard_whole_is_what_was_said() {
        let mut said = Vec::new();
        Pattern::new(1).say(&mut said, 200_000).unwrap();
        assert!(Pattern::new(1).hear(&said[..]).unwrap().is_whole(200_000));
        assert_eq!(Pattern::new(2).hear(&said[..]).unwrap().wrong_at, Some(0));
        assert!(!Pattern::new(1).hear(&said[..199_999]).unwrap().is_whole(200_000));
    }

    #[test]
    fn a_lost_chunk_does_not_fit() {
        let mut said = Vec::new();
        Pattern::new(1).say(&mut said, 200_000).unwrap();
        said.drain(65_536..131_072);
        let heard = Pattern::new(1).hear(&said[..]).unwrap();
        assert_eq!(heard.wrong_at, Some(PERIOD as u64));
    }
}

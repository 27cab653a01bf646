//! Where messages begin and end on a byte stream (RFC 8489, section 6.2.2).
//!
//! STUN over TCP or TLS has no framing of its own: each header says how long the message is. [`frame`] reads that
//! from the front of a buffer; [`Deframer`] keeps the buffer too. Both give up on a stream at the first bytes that
//! cannot be STUN, since nothing that follows can be trusted to start at a boundary.

use crate::message::{HEADER_LENGTH, MAGIC_COOKIE};

/// What the front of a stream holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame {
    /// A whole message of `length` bytes.
    Complete {
        /// Length of the message with its header.
        length: usize,
    },
    /// At least `bytes` more are needed before more can be told.
    Incomplete {
        /// How many; the rest of the header, or, once that is there, the rest of the message.
        bytes: usize,
    },
}

/// Why a stream cannot be split into messages any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FramingError {
    /// The bytes at a boundary do not start a STUN message.
    #[error("the stream does not carry STUN")]
    NotStun,
    /// A message is longer than the limit.
    #[error("a message of {length} bytes exceeds the limit of {maximum}")]
    TooLong {
        /// Length of the message with its header.
        length: usize,
        /// The limit.
        maximum: usize,
    },
}

/// Tells whether `bytes` starts with a whole message of at most `maximum` bytes.
///
/// # Errors
///
/// A [`FramingError`] as early as the bytes show it.
pub fn frame(bytes: &[u8], maximum: usize) -> Result<Frame, FramingError> {
    let cookie = bytes.get(4..).unwrap_or_default();
    let cookie = &cookie[..cookie.len().min(MAGIC_COOKIE.len())];
    if bytes.first().is_some_and(|first| first & 0xC0 != 0)
        || bytes.get(3).is_some_and(|low| low & 3 != 0)
        || !MAGIC_COOKIE.starts_with(cookie)
    {
        return Err(FramingError::NotStun);
    }
    if let Some(&[_, _, high, low]) = bytes.first_chunk() {
        let length = HEADER_LENGTH + usize::from(u16::from_be_bytes([high, low]));
        if length > maximum {
            return Err(FramingError::TooLong { length, maximum });
        }
        if bytes.len() >= length {
            return Ok(Frame::Complete { length });
        }
        if bytes.len() >= HEADER_LENGTH {
            return Ok(Frame::Incomplete { bytes: length - bytes.len() });
        }
    }
    Ok(Frame::Incomplete { bytes: HEADER_LENGTH - bytes.len() })
}

/// Splits a stream into messages, holding no more than one message of the greatest length.
///
/// Read from the stream into [`Deframer::spare`], tell how much with [`Deframer::filled`], then take messages
/// until there are none.
///
/// ```
/// use ntcp_stun::framing::Deframer;
///
/// let mut stream: &[u8] = b"\x00\x01\x00\x00\x21\x12\xa4\x42twelve bytes";
/// let mut deframer = Deframer::new(1024);
/// let mut messages = 0;
/// while let Ok(length @ 1..) = std::io::Read::read(&mut stream, deframer.spare()) {
///     deframer.filled(length);
///     while let Some(_message) = deframer.next_message()? {
///         messages += 1;
///     }
/// }
/// assert_eq!(messages, 1);
/// # Ok::<(), ntcp_stun::framing::FramingError>(())
/// ```
#[derive(Debug)]
pub struct Deframer {
    buffer: Box<[u8]>,
    /// Bytes before this were handed out as messages.
    start: usize,
    /// Bytes from here on are free.
    end: usize,
}

impl Deframer {
    /// A deframer for messages of up to `maximum` bytes, header included; at least that of a header.
    pub fn new(maximum: usize) -> Self {
        let buffer = vec![0; maximum.max(HEADER_LENGTH)].into_boxed_slice();
        Self { buffer, start: 0, end: 0 }
    }

    /// Where to read into. Never empty after [`Deframer::next_message`] has returned `None`.
    pub fn spare(&mut self) -> &mut [u8] {
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        &mut self.buffer[self.end..]
    }

    /// Says that `length` bytes of [`Deframer::spare`] were filled.
    ///
    /// # Panics
    ///
    /// If `length` is more than there was room for.
    pub fn filled(&mut self, length: usize) {
        assert!(
            length <= self.buffer.len() - self.end,
            "more bytes than the deframer has room for"
        );
        self.end += length;
    }

    /// The next whole message, or `None` until more bytes come. It is framed, not yet parsed.
    ///
    /// # Errors
    ///
    /// A [`FramingError`]; it repeats on each later call.
    pub fn next_message(&mut self) -> Result<Option<&[u8]>, FramingError> {
        let start = self.start;
        match frame(&self.buffer[start..self.end], self.buffer.len())? {
            Frame::Complete { length } => {
                self.start += length;
                Ok(Some(&self.buffer[start..start + length]))
            }
            Frame::Incomplete { .. } => Ok(None),
        }
    }

    /// Whether the stream stands at a boundary between messages, where it may end.
    pub fn is_at_boundary(&self) -> bool {
        self.start == self.end
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attribute::Padding;
    use crate::{Class, Method, TransactionId, Writer};

    /// A message of 20 + `body` bytes.
    fn message(body: u16) -> Vec<u8> {
        let mut buffer = vec![0; 20 + usize::from(body)];
        let id = TransactionId::new([body as u8; 12]);
        let mut writer =
            Writer::new(&mut buffer, Class::Request, Method::BINDING, id).expect("a header fits");
        if body > 0 {
            writer.attribute(&Padding { length: body - 4 }).expect("the padding fits");
        }
        assert_eq!(writer.finish(), buffer.len());
        buffer
    }

    /// All messages a deframer finds when the stream arrives in these pieces.
    fn deframe(pieces: &[&[u8]], maximum: usize) -> Result<Vec<Vec<u8>>, FramingError> {
        let mut deframer = Deframer::new(maximum);
        let mut messages = Vec::new();
        for mut piece in pieces.iter().copied() {
            while !piece.is_empty() {
                let spare = deframer.spare();
                let length = spare.len().min(piece.len());
                spare[..length].copy_from_slice(&piece[..length]);
                deframer.filled(length);
                piece = &piece[length..];
                while let Some(message) = deframer.next_message()? {
                    messages.push(message.to_vec());
                }
            }
        }
        Ok(messages)
    }

    #[test]
    fn a_stream_split_at_any_two_points_yields_the_same_messages() {
        let expected = vec![message(0), message(8), message(0), message(32)];
        let stream = expected.concat();
        for first in 0..=stream.len() {
            for second in first..=stream.len() {
                let pieces = [&stream[..first], &stream[first..second], &stream[second..]];
                assert_eq!(deframe(&pieces, 52), Ok(expected.clone()), "{first}, {second}");
            }
        }
    }

    #[test]
    fn a_message_one_byte_short_is_not_a_message() {
        for body in [0, 4, 8, 100] {
            let message = message(body);
            for length in 0..message.len() {
                let bytes = if length < 20 { 20 - length } else { message.len() - length };
                assert_eq!(frame(&message[..length], 200), Ok(Frame::Incomplete { bytes }));
            }
            assert_eq!(frame(&message, 200), Ok(Frame::Complete { length: message.len() }));
        }
    }

    #[test]
    fn the_limit_itself_is_allowed_and_one_word_more_is_not() {
        let stream = message(32);
        assert_eq!(frame(&stream, 52), Ok(Frame::Complete { length: 52 }));
        let too_long = FramingError::TooLong { length: 52, maximum: 51 };
        assert_eq!(frame(&stream[..4], 51), Err(too_long), "told before the body comes");
        assert_eq!(deframe(&[&stream], 51), Err(too_long));
    }

    #[test]
    fn what_is_not_stun_is_refused_at_the_first_byte_that_shows_it() {
        assert_eq!(frame(b"GET / HTTP/1.1", 200), Err(FramingError::NotStun));
        assert_eq!(frame(&[0x16, 3], 200), Ok(Frame::Incomplete { bytes: 18 }), "not yet");
        assert_eq!(frame(&[0x16, 3, 1, 2], 200), Err(FramingError::NotStun), "odd length");
        let mut wrong_cookie = message(0);
        wrong_cookie[7] ^= 1;
        assert_eq!(frame(&wrong_cookie[..7], 200), Ok(Frame::Incomplete { bytes: 13 }));
        assert_eq!(frame(&wrong_cookie[..8], 200), Err(FramingError::NotStun));
    }

    #[test]
    fn a_refused_stream_stays_refused() {
        let mut deframer = Deframer::new(64);
        deframer.spare()[0] = 0xFF;
        deframer.filled(1);
        assert_eq!(deframer.next_message(), Err(FramingError::NotStun));
        assert_eq!(deframer.next_message(), Err(FramingError::NotStun));
        assert!(!deframer.is_at_boundary());
    }

    #[test]
    fn there_is_always_room_to_read_into_once_messages_are_taken() {
        let stream = message(32).repeat(10);
        for size in 1..=stream.len() {
            let pieces: Vec<_> = stream.chunks(size).collect();
            assert_eq!(deframe(&pieces, 60).map(|it| it.len()), Ok(10), "pieces of {size}");
        }
    }
}

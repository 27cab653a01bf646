//! The options field of a TCP header (RFC 9293 section 3.1).
//!
//! Emitted in the order and with the padding that Linux uses in its own SYNs, so that a copy of a
//! captured one differs from it in nothing.

use pnet_packet::tcp::{TcpOption, TcpOptionNumber, TcpOptionNumbers};

use super::{Options, Timestamps};

/// Largest shift (RFC 7323 section 2.3): a larger one counts as this.
const MAX_WINDOW_SCALE: u8 = 14;

impl Options {
    /// Option by option, a multiple of four bytes altogether.
    pub(super) fn list(&self) -> Vec<TcpOption> {
        let mut list = Vec::new();
        list.extend(self.max_segment_size.map(TcpOption::mss));
        match (self.sack_permitted, self.timestamps) {
            (true, Some(Timestamps { value, echo })) => {
                list.extend([TcpOption::sack_perm(), TcpOption::timestamp(value, echo)]);
            }
            (true, None) => {
                list.extend([TcpOption::nop(), TcpOption::nop(), TcpOption::sack_perm()]);
            }
            (false, Some(Timestamps { value, echo })) => {
                let timestamp = TcpOption::timestamp(value, echo);
                list.extend([TcpOption::nop(), TcpOption::nop(), timestamp]);
            }
            (false, None) => {}
        }
        if let Some(shift) = self.window_scale {
            list.extend([TcpOption::nop(), TcpOption::wscale(shift)]);
        }
        list
    }

    /// Reads the options field. A malformed option ends the list, as the system's own parser does;
    /// unknown ones are skipped.
    pub(super) fn parse(mut field: &[u8]) -> Self {
        let mut options = Self::default();
        while let [number, rest @ ..] = field {
            match TcpOptionNumber(*number) {
                TcpOptionNumbers::EOL => break,
                TcpOptionNumbers::NOP => field = rest,
                number => {
                    // The length counts the bytes of number and length as well.
                    let Some(length) = rest.first().map(|&it| usize::from(it)) else { break };
                    let Some(data) = field.get(2..length) else { break };
                    options.note(number, data);
                    field = &field[length..];
                }
            }
        }
        options
    }

    fn note(&mut self, number: TcpOptionNumber, data: &[u8]) {
        match (number, data) {
            (TcpOptionNumbers::MSS, &[high, low]) => {
                self.max_segment_size = Some(u16::from_be_bytes([high, low]));
            }
            (TcpOptionNumbers::WSCALE, &[shift]) => {
                self.window_scale = Some(shift.min(MAX_WINDOW_SCALE));
            }
            (TcpOptionNumbers::SACK_PERMITTED, []) => self.sack_permitted = true,
            (TcpOptionNumbers::TIMESTAMPS, &[a, b, c, d, e, f, g, h]) => {
                self.timestamps = Some(Timestamps {
                    value: u32::from_be_bytes([a, b, c, d]),
                    echo: u32::from_be_bytes([e, f, g, h]),
                });
            }
            _ => {}
        }
    }
}

//! What brokers of one cluster write to each other.
//!
//! A letter is one version byte, one byte for its kind, and what the kind asks for. A name is preceded by its length
//! in one byte, and so is a key, of 32 bytes or none; a message is the bytes of `doc/protocol.md`, without a signature, and the last part of its letter.
//!
//! | kind | what | parts |
//! |---|---|---|
//! | 1 | a peer here calls a peer of yours | caller: registration, address, name, key; its Connect |
//! | 2 | for a peer of yours | registration; the message |
//! | 3 | a caller here tells something of a meeting that you arrange | registration; the message |
//! | 4 | somebody here wants this name of a peer of yours | name, key |
//! | 5 | somebody has come whom you asked for, or whose name you had | name |

use std::net::{IpAddr, SocketAddr};

use crate::secrecy::PublicKey;
use crate::signal::RegistrationId;
use crate::signal::message::Message;
use crate::uri::PeerName;

/// The version of this format; brokers of different ones do not understand each other.
const VERSION: u8 = 1;

/// A caller, as its broker introduces it to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Guest {
    pub(super) id: RegistrationId,
    pub(super) remote: SocketAddr,
    pub(super) name: Option<PeerName>,
    pub(super) identity: Option<PublicKey>,
}

/// A letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Letter {
    Call { guest: Guest, message: Message },
    Deliver { to: RegistrationId, message: Message },
    Tell { from: RegistrationId, message: Message },
    Challenge { name: PeerName, identity: Option<PublicKey> },
    Wake { name: PeerName },
}

impl Letter {
    pub(super) fn emit(&self) -> Vec<u8> {
        let mut bytes = vec![VERSION, self.kind()];
        match self {
            Self::Call { guest, message } => {
                bytes.extend(guest.id.0);
                match guest.remote.ip() {
                    IpAddr::V4(ip) => {
                        bytes.push(4);
                        bytes.extend(ip.octets());
                    }
                    IpAddr::V6(ip) => {
                        bytes.push(6);
                        bytes.extend(ip.octets());
                    }
                }
                bytes.extend(guest.remote.port().to_be_bytes());
                write_name(&mut bytes, guest.name.as_ref());
                write_key(&mut bytes, guest.identity);
                bytes.extend(message.emit(None));
            }
            Self::Deliver { to: id, message } | Self::Tell { from: id, message } => {
                bytes.extend(id.0);
                bytes.extend(message.emit(None));
            }
            Self::Challenge { name, identity } => {
                write_name(&mut bytes, Some(name));
                write_key(&mut bytes, *identity);
            }
            Self::Wake { name } => write_name(&mut bytes, Some(name)),
        }
        bytes
    }

    fn kind(&self) -> u8 {
        match self {
            Self::Call { .. } => 1,
            Self::Deliver { .. } => 2,
            Self::Tell { .. } => 3,
            Self::Challenge { .. } => 4,
            Self::Wake { .. } => 5,
        }
    }

    /// `None` if it is of another version, or no letter.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let ([VERSION, kind], rest) = bytes.split_first_chunk()? else { return None };
        let mut reader = Reader(rest);
        Some(match kind {
            1 => {
                let id = RegistrationId(reader.take()?);
                let remote = reader.address()?;
                let (name, identity) = (reader.name()?, reader.key()?);
                let guest = Guest { id, remote, name, identity };
                Self::Call { guest, message: reader.message()? }
            }
            2 => Self::Deliver { to: RegistrationId(reader.take()?), message: reader.message()? },
            3 => Self::Tell { from: RegistrationId(reader.take()?), message: reader.message()? },
            4 => Self::Challenge { name: reader.name()??, identity: reader.key()? },
            5 => Self::Wake { name: reader.name()?? },
            _ => return None,
        })
    }
}

fn write_name(bytes: &mut Vec<u8>, name: Option<&PeerName>) {
    let name = name.map_or("", PeerName::as_str);
    // No name is longer than 255 bytes.
    bytes.push(u8::try_from(name.len()).unwrap_or(0));
    bytes.extend(name.as_bytes());
}

/// A key is preceded by its length, 32 or 0.
pub(super) fn write_key(bytes: &mut Vec<u8>, key: Option<PublicKey>) {
    bytes.push(if key.is_some() { 32 } else { 0 });
    bytes.extend(key.iter().flat_map(|key| key.0));
}

pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl Reader<'_> {
    pub(super) fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }

    fn address(&mut self) -> Option<SocketAddr> {
        let ip = match self.take()? {
            [4] => IpAddr::from(self.take::<4>()?),
            [6] => IpAddr::from(self.take::<16>()?),
            _ => return None,
        };
        Some(SocketAddr::new(ip, u16::from_be_bytes(self.take()?)))
    }

    /// An empty one is none.
    fn name(&mut self) -> Option<Option<PeerName>> {
        let [length] = self.take()?;
        if length == 0 {
            return Some(None);
        }
        let (name, rest) = self.0.split_at_checked(length.into())?;
        self.0 = rest;
        std::str::from_utf8(name).ok()?.parse().ok().map(Some)
    }

    pub(super) fn key(&mut self) -> Option<Option<PublicKey>> {
        match self.take()? {
            [0] => Some(None),
            [32] => self.take().map(PublicKey).map(Some),
            _ => None,
        }
    }

    fn message(&mut self) -> Option<Message> {
        Message::parse(self.0).ok().map(|it| it.message)
    }
}

#[cfg(test)]
mod tests {
    use ntcp_stun::TransactionId;

    use super::*;
    use crate::signal::message::Body;

    fn letters() -> Vec<Letter> {
        let message = Message::new(TransactionId::new([7; 12]), Body::Pong);
        let id = RegistrationId([9; 8]);
        let name: PeerName = "bob".parse().unwrap();
        let guest = |remote: &str, name, key| Letter::Call {
            guest: Guest { id, remote: remote.parse().unwrap(), name, identity: key },
            message: message.clone(),
        };
        vec![
            guest("192.0.2.1:5", Some(name.clone()), Some(PublicKey([5; 32]))),
            guest("[2001:db8::1]:5", None, None),
            Letter::Deliver { to: id, message: message.clone() },
            Letter::Tell { from: id, message: message.clone() },
            Letter::Challenge { name: name.clone(), identity: None },
            Letter::Challenge { name: name.clone(), identity: Some(PublicKey([5; 32])) },
            Letter::Wake { name },
        ]
    }

    #[test]
    fn letters_are_read_as_they_were_written() {
        for letter in letters() {
            assert_eq!(Letter::parse(&letter.emit()), Some(letter));
        }
    }

    /// With `NTCP_BLESS=1` in the environment the corpus is rewritten instead of compared.
    #[test]
    fn the_corpus_of_the_fuzz_target_holds_every_letter() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/corpus/letter");
        for (number, letter) in letters().iter().enumerate() {
            let path = format!("{folder}/{}-{number}", letter.kind());
            if std::env::var_os("NTCP_BLESS").is_some() {
                std::fs::write(&path, letter.emit()).unwrap();
            }
            assert_eq!(std::fs::read(&path).unwrap(), letter.emit(), "{path}");
        }
    }

    #[test]
    fn damaged_letters_are_none() {
        for letter in letters() {
            let bytes = letter.emit();
            for length in 0..bytes.len() {
                assert_eq!(Letter::parse(&bytes[..length]), None, "{letter:?} cut at {length}");
            }
            let other_version = [&[VERSION + 1], &bytes[1..]].concat();
            assert_eq!(Letter::parse(&other_version), None);
        }
    }
}

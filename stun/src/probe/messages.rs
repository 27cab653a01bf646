//! The messages, whole.

use super::{METHOD, Outcome, ProbeAddress, Seen, Wish};
use crate::attribute::ErrorCode;
use crate::{Check, Class, Message, TransactionId, WriteError, Writer};
use std::net::SocketAddr;

/// Room for any message here: a header, an outcome and an IPv6 address.
const LONGEST: usize = 20 + 12 + 24;

fn write(
    class: Class,
    id: TransactionId,
    fill: impl FnOnce(&mut Writer<'_>) -> Result<(), WriteError>,
) -> Vec<u8> {
    let mut buffer = [0; LONGEST];
    let write = |buffer: &mut [u8]| -> Result<usize, WriteError> {
        let mut writer = Writer::new(buffer, class, METHOD, id)?;
        fill(&mut writer)?;
        Ok(writer.finish())
    };
    let length = write(&mut buffer).expect("the buffer holds every message of this protocol");
    buffer[..length].to_vec()
}

/// The request for a test.
pub fn order(id: TransactionId, wish: Wish) -> Vec<u8> {
    write(Class::Request, id, |writer| writer.attribute(&wish))
}

/// What a connection made for the request `id` carries, so that the client knows whose it is.
pub fn token(id: TransactionId) -> Vec<u8> {
    write(Class::Indication, id, |_| Ok(()))
}

/// The request whose token this message is, if it is one.
pub fn read_token(message: &Message<'_>) -> Option<TransactionId> {
    let is_token = message.method() == METHOD && message.class() == Class::Indication;
    is_token.then_some(message.transaction_id())
}

/// What a server answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// To [`super::Test::Reserve`] and [`super::Test::Refuse`]: this address is reserved, for a while.
    Reserved(SocketAddr),
    /// To [`super::Test::Look`]: how the SYN arrived.
    Seen(Seen),
    /// To all others.
    Ended {
        /// What came of it.
        outcome: Outcome,
        /// Where the server connected from, if it did.
        from: Option<SocketAddr>,
    },
    /// With this error code it refuses.
    Refused(u16),
}

impl Reply {
    /// Reads a response to a request for a test; `None` if it is none, or malformed.
    pub fn read(message: &Message<'_>) -> Option<Self> {
        if message.method() != METHOD || message.fingerprint() == Check::Invalid {
            return None;
        }
        match message.class() {
            Class::Request | Class::Indication => None,
            Class::Error => {
                let code = message.attribute::<ErrorCode<'_>>().ok().flatten();
                Some(Self::Refused(code.map_or(0, |it| it.code())))
            }
            Class::Success => {
                let address = message.attribute::<ProbeAddress>().ok()?.map(|it| it.0);
                match message.attribute::<Outcome>().ok()? {
                    Some(outcome) => Some(Self::Ended { outcome, from: address }),
                    None => {
                        let seen = message.attribute::<Seen>().ok()?;
                        address.map(Self::Reserved).or(seen.map(Self::Seen))
                    }
                }
            }
        }
    }

    /// The response to the request `id`.
    pub fn write(self, id: TransactionId) -> Vec<u8> {
        match self {
            Self::Reserved(address) => {
                write(Class::Success, id, |writer| writer.attribute(&ProbeAddress(address)))
            }
            Self::Seen(seen) => write(Class::Success, id, |writer| writer.attribute(&seen)),
            Self::Ended { outcome, from } => write(Class::Success, id, |writer| {
                writer.attribute(&outcome)?;
                from.map_or(Ok(()), |from| writer.attribute(&ProbeAddress(from)))
            }),
            Self::Refused(code) => write(Class::Error, id, |writer| {
                let error = ErrorCode::new(code, "").unwrap_or(ErrorCode::SERVER_ERROR);
                writer.attribute(&error.without_reason())
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Interval, Met, Offer, Test};
    use super::*;
    use std::time::Duration;

    const ID: TransactionId = TransactionId::new([7; 12]);

    fn read(bytes: &[u8]) -> Message<'_> {
        Message::parse(bytes).expect("well-formed")
    }

    #[test]
    fn a_request_is_what_was_asked_for() {
        for test in Test::ALL {
            let wish = Wish { test, patience: Interval::of(Duration::from_millis(450)) };
            let bytes = order(ID, wish);
            let message = read(&bytes);
            assert_eq!((message.class(), message.method()), (Class::Request, METHOD));
            assert_eq!(message.attribute(), Ok(Some(wish)));
        }
        assert_eq!(
            order(ID, Wish { test: Test::Cross, patience: Interval::of(Duration::from_secs(1)) }),
            [
                0x02, 0xc0, 0, 8, 0x21, 0x12, 0xa4, 0x42, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 0x4d,
                0, 0, 4, 5, 0, 3, 0xe8
            ]
        );
    }

    #[test]
    fn a_reply_survives_its_bytes() {
        let from = Some("[2001:db8::7]:4000".parse().unwrap());
        let seen = Seen {
            sequence: 0xdead_beef,
            timestamp: Some(77),
            mss: Some(1460),
            window_scale: Some(7),
            selective: true,
            window: 64_240,
            ttl: 61,
        };
        let plain =
            Seen { timestamp: None, mss: None, window_scale: None, selective: false, ..seen };
        let met = [
            Met::Connected,
            Met::Reset,
            Met::Icmp { kind: 3, code: 13 },
            Met::Silence,
            Met::NotTried,
        ];
        let ended = met.map(|result| {
            let outcome = Outcome { result, ttl: Some(60), elapsed: Duration::from_micros(1234) };
            Reply::Ended { outcome, from }
        });
        let outcome = Outcome { result: Met::Silence, ttl: None, elapsed: Duration::ZERO };
        let others = [
            Reply::Reserved("192.0.2.1:5000".parse().unwrap()),
            Reply::Ended { outcome, from: None },
            Reply::Seen(seen),
            Reply::Seen(plain),
            Reply::Refused(486),
        ];
        for reply in ended.into_iter().chain(others) {
            assert_eq!(Reply::read(&read(&reply.write(ID))), Some(reply));
        }
        assert_eq!(Reply::read(&read(&token(ID))), None);
        assert_eq!(read_token(&read(&token(ID))), Some(ID));
        assert_eq!(read_token(&read(&Reply::Refused(400).write(ID))), None);
    }

    #[test]
    fn values_of_a_wrong_length_or_number_are_refused() {
        let test = |value: &[u8]| <Wish as crate::Attribute<'_>>::decode(value, ID).is_ok();
        assert!(test(&[1, 0, 0, 9]));
        for value in [&[0, 0, 0, 9][..], &[12, 0, 0, 9], &[1, 0, 0], &[]] {
            assert!(!test(value), "{value:?}");
        }
        let outcome = |value: &[u8]| <Outcome as crate::Attribute<'_>>::decode(value, ID).is_ok();
        assert!(outcome(&[5; 8]) && !outcome(&[6; 8]) && !outcome(&[0; 8]) && !outcome(&[5; 7]));
        assert!(<Seen as crate::Attribute<'_>>::decode(&[0; 15], ID).is_err());
        assert!(<Offer as crate::Attribute<'_>>::decode(&[0; 5], ID).is_err());
    }

    #[test]
    fn an_offer_names_its_tests() {
        let offer = Offer::of(&[Test::OtherPort, Test::Cross]);
        let included: Vec<_> = Test::ALL.into_iter().filter(|it| offer.includes(*it)).collect();
        assert_eq!(included, [Test::OtherPort, Test::Cross]);
        assert_eq!(Offer::default(), Offer::of(&[]));
    }
}

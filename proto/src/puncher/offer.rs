//! What one peer must know of the other to meet it, as a line of text that people and programs can
//! carry.
//!
//! ```text
//! ntcp1 5f3a…(64 hexadecimal digits) h/tcp/192.168.1.5:5000 s/udp/198.51.100.7:40000 …
//!   │        │                       └ kind: h host, m mapped, s server-reflexive, p peer-reflexive
//!   │        └ SHA-256 of the certificate with which the peer secures a UDP path
//!   └ version
//! ```

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use crate::candidate::{Candidate, CandidateKind, MAX_CANDIDATES, Transport};
use crate::signal::Fingerprint;

/// The first word.
const VERSION: &str = "ntcp1";

/// Where a peer may be reached, and how it is recognised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// The certificate it shows.
    pub fingerprint: Fingerprint,
    /// Where it may be reached; at most [`MAX_CANDIDATES`].
    pub candidates: Vec<Candidate>,
}

/// Why a text is no offer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OfferError {
    /// It begins with something else than the version that is spoken here.
    #[error("an offer begins with `ntcp1`, not with {0:?}")]
    Version(
        /// The first word.
        String,
    ),
    /// The second word is no fingerprint.
    #[error("the second word of an offer is a fingerprint of 64 hexadecimal digits, not {0:?}")]
    Fingerprint(
        /// The second word.
        String,
    ),
    /// A word is no candidate.
    #[error("a candidate looks like `s/udp/198.51.100.7:40000`, not like {0:?}")]
    Candidate(
        /// The word.
        String,
    ),
    /// More candidates than a peer has.
    #[error("an offer has at most {MAX_CANDIDATES} candidates, not {0}")]
    TooMany(
        /// How many.
        usize,
    ),
}

impl fmt::Display for Offer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{VERSION} ")?;
        for byte in self.fingerprint.0 {
            write!(f, "{byte:02x}")?;
        }
        for Candidate { kind, transport, address } in &self.candidates {
            let kind = match kind {
                CandidateKind::Host => 'h',
                CandidateKind::Mapped => 'm',
                CandidateKind::ServerReflexive => 's',
                CandidateKind::PeerReflexive => 'p',
                CandidateKind::Reserve => 'r',
            };
            let transport = match transport {
                Transport::Tcp => "tcp",
                Transport::Udp => "udp",
            };
            write!(f, " {kind}/{transport}/{address}")?;
        }
        Ok(())
    }
}

impl FromStr for Offer {
    type Err = OfferError;

    fn from_str(text: &str) -> Result<Self, OfferError> {
        let mut words = text.split_ascii_whitespace();
        let version = words.next().unwrap_or_default();
        if version != VERSION {
            return Err(OfferError::Version(shortened(version)));
        }
        let digits = words.next().unwrap_or_default();
        let fingerprint =
            fingerprint(digits).ok_or_else(|| OfferError::Fingerprint(shortened(digits)))?;
        let rest = words.clone().count();
        if rest > MAX_CANDIDATES {
            return Err(OfferError::TooMany(rest));
        }
        let read = |word| candidate(word).ok_or_else(|| OfferError::Candidate(shortened(word)));
        let candidates = words.map(read).collect::<Result<_, _>>()?;
        Ok(Self { fingerprint, candidates })
    }
}

/// As much of a word as an error shows.
fn shortened(word: &str) -> String {
    word.chars().take(80).collect()
}

fn fingerprint(digits: &str) -> Option<Fingerprint> {
    let digits = digits.as_bytes();
    let mut bytes = [0; 32];
    if digits.len() != 2 * bytes.len() {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |at: usize| char::from(pair[at]).to_digit(16);
        *byte = u8::try_from(digit(0)? << 4 | digit(1)?).ok()?;
    }
    Some(Fingerprint(bytes))
}

fn candidate(word: &str) -> Option<Candidate> {
    let (kind, rest) = word.split_once('/')?;
    let (transport, address) = rest.split_once('/')?;
    let kind = match kind {
        "h" => CandidateKind::Host,
        "m" => CandidateKind::Mapped,
        "s" => CandidateKind::ServerReflexive,
        "p" => CandidateKind::PeerReflexive,
        "r" => CandidateKind::Reserve,
        _ => return None,
    };
    let transport = match transport {
        "tcp" => Transport::Tcp,
        "udp" => Transport::Udp,
        _ => return None,
    };
    let address: SocketAddr = address.parse().ok()?;
    Some(Candidate { kind, transport, address })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn offer() -> Offer {
        let candidate = |kind, transport, address: &str| Candidate {
            kind,
            transport,
            address: address.parse().unwrap(),
        };
        Offer {
            fingerprint: Fingerprint(std::array::from_fn(|at| at as u8)),
            candidates: vec![
                candidate(CandidateKind::Host, Transport::Tcp, "192.168.1.5:5000"),
                candidate(CandidateKind::ServerReflexive, Transport::Udp, "[2001:db8::7]:40000"),
            ],
        }
    }

    #[test]
    fn an_offer_is_one_line_that_people_can_read() {
        let digits = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
        let text = format!("ntcp1 {digits} h/tcp/192.168.1.5:5000 s/udp/[2001:db8::7]:40000");
        assert_eq!(offer().to_string(), text);
        assert_eq!(text.parse(), Ok(offer()));
    }

    #[test]
    fn an_error_names_the_word_that_is_wrong() {
        let good = offer().to_string();
        let wrong = |from: &str, to: &str| good.replace(from, to).parse::<Offer>().unwrap_err();
        assert_eq!(wrong("ntcp1", "ntcp9"), OfferError::Version("ntcp9".into()));
        assert_eq!(wrong("0001", "00"), OfferError::Fingerprint(good[6..70].replace("0001", "00")));
        let no_port = "192.168.1.5".to_owned();
        let expected = OfferError::Candidate(format!("h/tcp/{no_port}"));
        assert_eq!(wrong("192.168.1.5:5000", &no_port), expected);
        assert_eq!(
            wrong("s/udp", "s/sctp"),
            OfferError::Candidate("s/sctp/[2001:db8::7]:40000".into())
        );
        let many = format!("{good}{}", " h/tcp/192.0.2.1:1".repeat(MAX_CANDIDATES));
        assert_eq!(many.parse::<Offer>(), Err(OfferError::TooMany(MAX_CANDIDATES + 2)));
        assert_eq!("".parse::<Offer>(), Err(OfferError::Version(String::new())));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in ".{0,200}") {
            if let Ok(offer) = text.parse::<Offer>() {
                prop_assert_eq!(offer.to_string().parse(), Ok(offer));
            }
        }

        #[test]
        fn damaged_offers_do_no_harm(at in 0..110usize, by in any::<char>()) {
            let mut text: Vec<char> = offer().to_string().chars().collect();
            let at = at % text.len();
            text[at] = by;
            let _ = text.into_iter().collect::<String>().parse::<Offer>();
        }
    }
}

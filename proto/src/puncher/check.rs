//! The messages two peers recognise each other by.
//!
//! A check is a STUN Binding request (RFC 8445 section 2.2) that names the session and is
//! authenticated with the session's secret. Over UDP it is answered by a Binding success; over TCP
//! each side sends one at once, as a greeting, and none is answered. USE-CANDIDATE in a check of
//! the caller says that this path has been chosen (RFC 8445 section 7.1.1).
//!
//! Each side signs with a key of its own, derived from the secret and its role, so that a peer never
//! takes an echo of its own check for the other side: hosts in equal private networks do meet
//! themselves.
//!
//! ```text
//!  0                   1                   2                   3
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |0 0|  Binding request 0x0001   |         message length        |
//! |                         magic cookie                          |
//! |                        transaction id                         |
//! | USERNAME                      | 32: session id in hexadecimal |
//! | USE-CANDIDATE (optional)      | 0                             |
//! | MESSAGE-INTEGRITY-SHA256      | 32: key of the sender's role  |
//! | FINGERPRINT                   | 4                             |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! ```

use std::net::SocketAddr;

use hmac::{Hmac, Mac};
use ntcp_stun::attribute::{UseCandidate, Username, XorMappedAddress};
use ntcp_stun::{Check, Class, Key, Message, Method, TransactionId, WriteError, Writer};
use sha2::Sha256;

use crate::signal::{Role, SessionId, SessionSecret};

/// The session that a check or its response names, if the message names one.
pub fn session_named_in(message: &Message<'_>) -> Option<SessionId> {
    let username = message.attribute::<Username<'_>>().ok()??;
    let text = username.as_str();
    if text.len() != 32 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let mut id = [0; 16];
    for (byte, digits) in id.iter_mut().zip(text.as_bytes().chunks(2)) {
        let digits = std::str::from_utf8(digits).ok()?;
        *byte = u8::from_str_radix(digits, 16).ok()?;
    }
    Some(SessionId(id))
}

fn label(role: Role) -> &'static [u8] {
    match role {
        Role::Controlling => b"ntcp check controlling",
        Role::Controlled => b"ntcp check controlled",
    }
}

fn other(role: Role) -> Role {
    match role {
        Role::Controlling => Role::Controlled,
        Role::Controlled => Role::Controlling,
    }
}

/// Length of the longest message made here, with room to spare.
const MAX_LENGTH: usize = 160;

/// Writes and recognises the checks of one session.
#[derive(Debug, Clone)]
pub struct Authenticator {
    session: SessionId,
    username: String,
    ours: Key,
    theirs: Key,
}

/// A check that the peer really sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verified {
    /// Request or success.
    pub class: Class,
    /// Its transaction.
    pub transaction_id: TransactionId,
    /// The peer has chosen this path.
    pub nominates: bool,
}

impl Authenticator {
    /// For our `role` in `session`.
    pub fn new(session: SessionId, secret: &SessionSecret, role: Role) -> Self {
        let key = |role: Role| Key::short_term(&derive(secret, label(role)));
        Self { session, username: session.to_string(), ours: key(role), theirs: key(other(role)) }
    }

    /// A check of ours.
    pub fn request(&self, id: TransactionId, nominates: bool) -> Vec<u8> {
        self.write(Class::Request, id, |writer| {
            if nominates { writer.attribute(&UseCandidate) } else { Ok(()) }
        })
    }

    /// Our answer to the check `id` that arrived from `source`.
    pub fn response(&self, id: TransactionId, source: SocketAddr) -> Vec<u8> {
        self.write(Class::Success, id, |writer| writer.attribute(&XorMappedAddress(source)))
    }

    /// What `message` is, if it is of this session and the peer signed it.
    pub fn verify(&self, message: &Message<'_>) -> Option<Verified> {
        let ours = message.method() == Method::BINDING
            && session_named_in(message) == Some(self.session)
            && message.integrity_sha256(&self.theirs) == Check::Valid;
        ours.then(|| Verified {
            class: message.class(),
            transaction_id: message.transaction_id(),
            nominates: matches!(message.attribute::<UseCandidate>(), Ok(Some(_))),
        })
    }

    fn write(
        &self,
        class: Class,
        id: TransactionId,
        attributes: impl FnOnce(&mut Writer<'_>) -> Result<(), WriteError>,
    ) -> Vec<u8> {
        let mut buffer = [0; MAX_LENGTH];
        let write = || -> Result<usize, WriteError> {
            let mut writer = Writer::new(&mut buffer, class, Method::BINDING, id)?;
            writer.attribute(&Username::new(&self.username)?)?;
            attributes(&mut writer)?;
            writer.integrity_sha256(&self.ours)?;
            writer.fingerprint()?;
            Ok(writer.finish())
        };
        let length = write().expect("the buffer holds every message of this module");
        buffer[..length].to_vec()
    }
}

/// HMAC-SHA256 of `label` under the session's secret: one key for each use.
fn derive(secret: &SessionSecret, label: &[u8]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(&secret.0).expect("HMAC takes keys of any length");
    mac.update(label);
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: TransactionId = TransactionId::new([3; 12]);

    fn pair() -> (Authenticator, Authenticator) {
        let session = SessionId([0xAB; 16]);
        let side = |role| Authenticator::new(session, &SessionSecret([7; 32]), role);
        (side(Role::Controlling), side(Role::Controlled))
    }

    fn verify(by: &Authenticator, bytes: &[u8]) -> Option<Verified> {
        by.verify(&Message::parse(bytes).unwrap())
    }

    #[test]
    fn a_check_and_its_response_are_recognised_by_the_other_side() {
        let (caller, callee) = pair();
        let request = verify(&callee, &caller.request(ID, true)).unwrap();
        assert_eq!(
            request,
            Verified { class: Class::Request, transaction_id: ID, nominates: true }
        );
        let response = callee.response(ID, "192.0.2.1:9".parse().unwrap());
        let response = verify(&caller, &response).unwrap();
        assert_eq!((response.class, response.nominates), (Class::Success, false));
    }

    #[test]
    fn an_echo_of_an_own_check_is_not_the_peer() {
        let (caller, _) = pair();
        assert_eq!(verify(&caller, &caller.request(ID, false)), None);
    }

    #[test]
    fn a_check_of_another_session_or_secret_is_refused() {
        let (caller, _) = pair();
        let check = caller.request(ID, false);
        let other =
            Authenticator::new(SessionId([1; 16]), &SessionSecret([7; 32]), Role::Controlled);
        let guess =
            Authenticator::new(SessionId([0xAB; 16]), &SessionSecret([8; 32]), Role::Controlled);
        assert_eq!(verify(&other, &check), None);
        assert_eq!(verify(&guess, &check), None);
    }

    #[test]
    fn no_flipped_bit_passes() {
        let (caller, callee) = pair();
        let check = caller.request(ID, false);
        for bit in 0..check.len() * 8 {
            let mut forged = check.clone();
            forged[bit / 8] ^= 1 << (bit % 8);
            // FINGERPRINT follows the integrity and is not covered by it.
            let covered = bit / 8 < check.len() - 8;
            let taken = Message::parse(&forged).ok().and_then(|message| callee.verify(&message));
            assert!(taken.is_none() || !covered, "bit {bit}");
        }
    }
}

//! Any bytes as what a peer says or shows: a note that it has signed, an offer that somebody pastes, a URI.

use ntcp_proto::puncher::Offer;
use ntcp_proto::signal::{Role, SessionSecret};
use ntcp_proto::tcp_traversal::note::Notary;
use ntcp_proto::uri::PeerUri;

/// Reads the bytes as each, and writes again what they say.
///
/// # Panics
///
/// If anything that must hold does not.
pub fn check(bytes: &[u8]) {
    let secret = SessionSecret([7; 32]);
    let peer = Notary::new(&secret, Role::Controlling);
    let us = Notary::new(&secret, Role::Controlled);
    if let Some(standing) = us.read(&peer.sign(bytes)) {
        let again = us.read(&peer.write(&standing));
        assert_eq!(again.as_ref(), Some(&standing), "what it says does not depend on how");
    }
    assert!(us.read(&us.sign(bytes)).is_none(), "an echo proves nothing");
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(offer) = text.parse::<Offer>() {
        assert_eq!(offer.to_string().parse().as_ref(), Ok(&offer));
    }
    if let Ok(uri) = text.parse::<PeerUri>() {
        assert_eq!(uri.to_string().parse().as_ref(), Ok(&uri));
    }
}

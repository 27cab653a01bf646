//! What happened, in numbers.

/// Counts everything that was received, answered or dropped since the broker started.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counters {
    /// Messages that arrived.
    pub received: u64,
    /// Requests of registered peers that were answered with success.
    pub answered: u64,
    /// Requests that were answered with an error.
    pub refused: u64,
    /// Binding requests that were answered.
    pub bindings: u64,
    /// Dropped: longer than any message is.
    pub oversized: u64,
    /// Dropped: not STUN.
    pub not_stun: u64,
    /// Dropped: FINGERPRINT absent or wrong.
    pub damaged: u64,
    /// Dropped: STUN of a method that means nothing here.
    pub unknown_method: u64,
    /// Requests refused with 400, 420 or 505, and other messages dropped for the same reasons.
    pub malformed: u64,
    /// Dropped: an answer to nothing asked, or a message that only a broker sends.
    pub unexpected: u64,
    /// Dropped: an answer without a valid signature.
    pub unsigned: u64,
    /// Not answered, since the answer would have been longer than the request.
    pub would_amplify: u64,
    /// Refused with 401: a Register without a nonce.
    pub challenged: u64,
    /// Refused with 438: a nonce too old or of another address.
    pub stale_nonce: u64,
    /// Refused with 481: an unknown registration, or a wrong signature.
    pub unknown_registration: u64,
    /// Handshakes that were computed.
    pub handshakes: u64,
    /// Dropped: a handshake that was not made with the right keys, or was changed.
    pub broken_handshakes: u64,
    /// Refused with 470: a handshake meant for a key that this broker does not have.
    pub unknown_keys: u64,
    /// Dropped: a sealed message that was changed, or sealed with another key.
    pub broken_seals: u64,
    /// Dropped: a sealed message or a handshake that came before.
    pub replayed: u64,
    /// Refused with 426: a Register in the clear.
    pub in_the_clear: u64,
    /// Refused with 403: a name that is for another key.
    pub reserved_names: u64,
    /// Refused with 401 or 403: a closed broker does not let them in.
    pub kept_out: u64,
    /// Refused with 429: too many requests of one peer.
    pub rate_limited: u64,
    /// Refused with 429 or 503: a limit of the configuration was reached.
    pub at_limit: u64,
    /// Answered again as before, or ignored since the answer is still to come.
    pub repeated: u64,
    /// Peers that became registered.
    pub registered: u64,
    /// Peers whose lease ended.
    pub expired: u64,
    /// Peers that were let go since the broker stops.
    pub dismissed: u64,
    /// Registers refused with 409.
    pub name_conflicts: u64,
    /// Holders of a name that did not answer when somebody else asked for it.
    pub dead_holders: u64,
    /// Calls whose peers were told of each other.
    pub ordered: u64,
    /// Calls to a peer that was not registered, refused with 404.
    pub unknown_peers: u64,
    /// Calls that waited for their callee.
    pub parked: u64,
    /// News passed from one peer of a meeting to the other.
    pub relayed: u64,
    /// Requests to forge a SYN-ACK.
    pub forge_requests: u64,
    /// Of those, the ones refused otherwise than with a nonce.
    pub forge_refused: u64,
    /// SYN-ACKs forged.
    pub forged: u64,
    /// Datagrams sent in a consenting peer's name to find out what the network lets out.
    pub probes: u64,
    /// Probes that arrived.
    pub probes_heard: u64,
    /// Of the forged packets, those that a peer was asked to send that offered it.
    pub errands: u64,
    /// Reports of how strategies fared.
    pub outcomes: u64,
    /// Invitations that were answered.
    pub accepted: u64,
    /// Invitations that were declined.
    pub declined: u64,
    /// Invitations that were never answered.
    pub unanswered: u64,
    /// Letters of other brokers.
    pub letters: u64,
    /// Of those, the ones that made no sense.
    pub illegible_letters: u64,
}

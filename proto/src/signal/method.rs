//! The STUN methods of this protocol.
//!
//! RFC 8489 section 18.2 lets methods be 0x000 to 0x0FF where STUN shares a port with DTLS, since
//! only then is the first byte of a message 0 to 3 (RFC 7983), and QUIC's is at least 64 (RFC 9443).
//! These lie at the upper end of that range, in the part given out by expert review, where none is
//! assigned: far from STUN's and TURN's own (0x001 to 0x00C) and from 0x080, which is in use though
//! unassigned.

use ntcp_stun::Method;

/// What a message is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SignalMethod {
    /// 0x0F0: a peer makes itself known.
    Register,
    /// 0x0F1: a peer stays known, moves, or changes what it told.
    Refresh,
    /// 0x0F2: a peer leaves; as an indication, the broker lets it go since it stops.
    Unregister,
    /// 0x0F3: is somebody registered by that name?
    Lookup,
    /// 0x0F4: a caller wants a path to a peer; the success response is its order to punch.
    Connect,
    /// 0x0F5: the broker tells the callee; as an indication, the broker tells the caller what the
    /// callee said.
    Invite,
    /// 0x0F6: the broker orders the callee to punch, after it gave fresh candidates.
    Punch,
    /// 0x0F7: is the other end alive?
    Ping,
    /// 0x0F8: one peer of a meeting tells the other one something while both punch.
    Relay,
    /// 0x0F9: both peers of a meeting want the broker to answer their SYNs.
    Forge,
    /// 0x0FA: does the broker's network let forged sources out?
    Probe,
    /// 0x0FB: how the strategies of a meeting fared.
    Outcome,
    /// 0x0FF: an envelope around any other message, for those who have shaken hands.
    Sealed,
    /// 0x0FE: the broker sends a peer that offered it on an errand: one packet in another's name.
    Errand,
}

impl SignalMethod {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 14] = [
        Self::Register,
        Self::Refresh,
        Self::Unregister,
        Self::Lookup,
        Self::Connect,
        Self::Invite,
        Self::Punch,
        Self::Ping,
        Self::Relay,
        Self::Forge,
        Self::Probe,
        Self::Outcome,
        Self::Sealed,
        Self::Errand,
    ];

    /// The number in the message type.
    pub const fn number(self) -> u16 {
        match self {
            Self::Register => 0x0F0,
            Self::Refresh => 0x0F1,
            Self::Unregister => 0x0F2,
            Self::Lookup => 0x0F3,
            Self::Connect => 0x0F4,
            Self::Invite => 0x0F5,
            Self::Punch => 0x0F6,
            Self::Ping => 0x0F7,
            Self::Relay => 0x0F8,
            Self::Forge => 0x0F9,
            Self::Probe => 0x0FA,
            Self::Outcome => 0x0FB,
            Self::Sealed => 0x0FF,
            Self::Errand => 0x0FE,
        }
    }

    /// The method with this number; `None` for STUN's own and for those nobody gave a meaning yet.
    pub fn from_stun(method: Method) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.number() == method.number())
    }

    /// The method as the codec names it.
    pub const fn to_stun(self) -> Method {
        match Method::new(self.number()) {
            Some(method) => method,
            None => unreachable!(),
        }
    }
}

impl std::fmt::Display for SignalMethod {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self:?}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_survives_its_number_and_stays_below_the_first_byte_of_dtls() {
        for method in SignalMethod::ALL {
            assert_eq!(SignalMethod::from_stun(method.to_stun()), Some(method));
            assert!((0x080..=0x0FF).contains(&method.number()));
        }
        assert_eq!(SignalMethod::from_stun(Method::BINDING), None);
    }
}

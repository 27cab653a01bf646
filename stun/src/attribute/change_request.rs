//! CHANGE-REQUEST (RFC 5780, section 7.2; RFC 3489, section 11.2.4).

use super::{Attribute, AttributeError, AttributeType, Problem};
use crate::TransactionId;

/// The bit "A".
const CHANGE_IP: u32 = 0x4;
/// The bit "B".
const CHANGE_PORT: u32 = 0x2;

/// Where a Binding response shall come from, as seen from where the request went to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ChangeRequest {
    /// From where the request went to.
    Nothing,
    /// From the same address, another port.
    Port,
    /// From another IP address, the same port.
    Ip,
    /// From another IP address and another port.
    IpAndPort,
}

impl ChangeRequest {
    /// Whether another IP address is asked for.
    pub const fn changes_ip(self) -> bool {
        match self {
            Self::Ip | Self::IpAndPort => true,
            Self::Nothing | Self::Port => false,
        }
    }

    /// Whether another port is asked for.
    pub const fn changes_port(self) -> bool {
        match self {
            Self::Port | Self::IpAndPort => true,
            Self::Nothing | Self::Ip => false,
        }
    }
}

impl Attribute<'_> for ChangeRequest {
    const TYPE: AttributeType = AttributeType::CHANGE_REQUEST;

    fn decode(value: &[u8], _: TransactionId) -> Result<Self, AttributeError> {
        let bytes = value.try_into().map_err(|_| Self::TYPE.error(Problem::Length(value.len())))?;
        let flags = u32::from_be_bytes(bytes);
        Ok(match (flags & CHANGE_IP != 0, flags & CHANGE_PORT != 0) {
            (false, false) => Self::Nothing,
            (false, true) => Self::Port,
            (true, false) => Self::Ip,
            (true, true) => Self::IpAndPort,
        })
    }

    fn encoded_len(&self) -> usize {
        4
    }

    fn encode(&self, value: &mut [u8], _: TransactionId) {
        let flags = match self {
            Self::Nothing => 0,
            Self::Port => CHANGE_PORT,
            Self::Ip => CHANGE_IP,
            Self::IpAndPort => CHANGE_IP | CHANGE_PORT,
        };
        value.copy_from_slice(&flags.to_be_bytes());
    }
}

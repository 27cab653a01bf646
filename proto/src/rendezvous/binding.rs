//! Plain STUN: a peer may learn its mapping with nothing but a broker (RFC 8489 section 3).

use ntcp_stun::attribute::{ErrorCode, UnknownAttributes, XorMappedAddress};
use ntcp_stun::{AttributeType, Check, Class, Message, WriteError, Writer};

use super::{Broker, Command, Link, Registry};

/// Room for the longest response: an IPv6 address, or every unknown attribute that is told.
const MAX_RESPONSE_BYTES: usize = 128;

/// Comprehension-required attributes that a Binding request may carry and that change nothing here,
/// since this server asks nobody who they are (RFC 8489 section 9.1.3).
const KNOWN_REQUIRED: [AttributeType; 4] = [
    AttributeType::USERNAME,
    AttributeType::MESSAGE_INTEGRITY,
    AttributeType::MESSAGE_INTEGRITY_SHA256,
    AttributeType::PADDING,
];

impl<R: Registry> Broker<R> {
    /// Answers a Binding request.
    pub(super) fn on_binding(&mut self, link: Link, payload: &[u8]) {
        let Ok(request) = Message::parse(payload) else {
            self.counters.not_stun += 1;
            return;
        };
        if request.class() != Class::Request {
            self.counters.unexpected += 1;
            return;
        }
        if request.fingerprint() == Check::Invalid {
            self.counters.damaged += 1;
            return;
        }
        let mut buffer = [0; MAX_RESPONSE_BYTES];
        match respond(&request, link, &mut buffer) {
            Ok(length) => {
                self.counters.bindings += 1;
                let payload = buffer[..length].to_vec();
                self.commands.push_back(Command::Send { link, payload });
            }
            Err(error) => unreachable!("a Binding response is bounded: {error}"),
        }
    }
}

fn respond(request: &Message<'_>, link: Link, buffer: &mut [u8]) -> Result<usize, WriteError> {
    let unknown: UnknownAttributes = request.unknown_required(&KNOWN_REQUIRED).collect();
    let (method, id) = (request.method(), request.transaction_id());
    let class = if unknown.is_empty() { Class::Success } else { Class::Error };
    let mut writer = Writer::new(buffer, class, method, id)?;
    if unknown.is_empty() {
        writer.attribute(&XorMappedAddress(link.remote()))?;
    } else {
        // The source of a request may be forged: no more bytes than the answer needs.
        writer.attribute(&ErrorCode::UNKNOWN_ATTRIBUTE.without_reason())?;
        writer.attribute(&unknown)?;
    }
    if request.fingerprint() == Check::Valid {
        writer.fingerprint()?;
    }
    Ok(writer.finish())
}

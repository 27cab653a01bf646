//! The server's half of [`crate::spoof`].

use super::access::Asking;
use super::binding::{Answer, Kind};
use super::{Reply, Request, Server, Silence, Transport};
use crate::attribute::{Nonce, XorMappedAddress};
use crate::spoof::{METHOD, ProvenAddress};
use crate::{Class, Message, WriteError, Writer};
use std::net::SocketAddr;

impl Server {
    /// Gives a token to who asks for one; reports a source to whom the token was given.
    pub(super) fn answer_spoof_check(
        &mut self,
        message: &Message<'_>,
        request: Request<'_>,
        reply: &mut [u8],
    ) -> Result<Answer, Silence> {
        let source = SocketAddr::new(request.source.ip().to_canonical(), request.source.port());
        let is_served = self.policy.access.is_none() && request.transport == Transport::Udp;
        let mint = self.policy.mint.as_ref().filter(|_| is_served && source.port() != 0);
        let mint = mint.ok_or(Silence::UnknownMethod(METHOD))?;
        let asking = Asking { mint, source, now: self.policy.now.unwrap_or(mint.origin()) };
        let answer = match message.class() {
            Class::Request => give_token(message, asking, reply),
            Class::Indication => report(message, asking, reply),
            class => return Err(Silence::NotARequest(class)),
        };
        let (length, to) = answer?.map_err(Silence::NoRoom)?;
        if self.budget.as_mut().is_some_and(|budget| !budget.admits(to.ip())) {
            return Err(Silence::OverBudget);
        }
        let reply = Reply { length, from: request.local, to };
        Ok(Answer { reply, kind: Kind::SpoofCheck, is_classic: false })
    }
}

/// A reply's length and destination.
type Written = Result<(usize, SocketAddr), WriteError>;

/// The request brings as much NONCE as the reply has.
fn give_token(
    message: &Message<'_>,
    asking: Asking<'_>,
    reply: &mut [u8],
) -> Result<Written, Silence> {
    let token = asking.mint.token(asking.source, asking.now);
    let brought = message.attribute::<Nonce<'_>>().ok().flatten();
    if brought.is_none_or(|it| it.as_bytes().len() < token.len()) {
        return Err(Silence::UnknownMethod(METHOD));
    }
    let mut write = || {
        let mut writer = Writer::reply(reply, Class::Success, message)?;
        writer.attribute(&Nonce::new(&token)?)?;
        Ok((writer.finish(), asking.source))
    };
    Ok(write())
}

/// Whatever the source is, the report goes to the address in the token.
fn report(message: &Message<'_>, asking: Asking<'_>, reply: &mut [u8]) -> Result<Written, Silence> {
    let proven = message.attribute::<ProvenAddress>().ok().flatten();
    let token = message.attribute::<Nonce<'_>>().ok().flatten();
    let (Some(ProvenAddress(proven)), Some(token)) = (proven, token) else {
        return Err(Silence::NotARequest(Class::Indication));
    };
    // The socket that a datagram came to can only send to its own family.
    let is_proven = proven.is_ipv4() == asking.source.is_ipv4()
        && asking.mint.knows(token.as_bytes(), proven, asking.now);
    if !is_proven {
        return Err(Silence::NotARequest(Class::Indication));
    }
    let mut write = || {
        let mut writer = Writer::reply(reply, Class::Indication, message)?;
        writer.attribute(&XorMappedAddress(asking.source))?;
        Ok((writer.finish(), proven))
    };
    Ok(write())
}

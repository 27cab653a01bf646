//! Does the router take orders about its ports: PCP (RFC 6887), NAT-PMP (RFC 6886) or UPnP?
//!
//! ```text
//!  client ── PCP ANNOUNCE, 24 bytes ────────▶ gateway:5351
//!  client ── NAT-PMP external address, 2 ───▶ gateway:5351
//!  client ── SSDP M-SEARCH ─────────────────▶ gateway:1900
//!  client ◀──────────────────── an answer of each that is spoken
//! ```
//!
//! Nothing is mapped, and only the host's own gateway is asked. A refusal is an answer, too: it shows that
//! the protocol is spoken.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::outbox::Outbox;
use crate::command::{CommandId, IoFailure, SocketId};
use crate::machine::Deadline;

/// RFC 6887 section 19.1, RFC 6886 section 1.1.
const CONTROL_PORT: u16 = 5351;
/// UPnP Device Architecture 1.1 section 1.3: SSDP, which devices also answer unicast.
const SSDP_PORT: u16 = 1900;
/// When everything is sent (RFC 6886 section 3.1 begins with a quarter of a second).
const SENT_AT: [Duration; 2] = [Duration::ZERO, Duration::from_millis(250)];
/// When the last answer has come, or none will: a device waits up to the MX of the search, a second.
const PATIENCE: Duration = Duration::from_millis(1200);

/// Which protocols the router speaks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct PortControl {
    /// The Port Control Protocol.
    pub pcp: bool,
    /// NAT Port Mapping Protocol.
    pub nat_pmp: bool,
    /// UPnP: an Internet Gateway Device.
    pub upnp: bool,
    /// What NAT-PMP told as the router's own external address: another one than the outside sees means
    /// that a second NAT follows.
    pub external_address: Option<Ipv4Addr>,
}

/// The test.
#[derive(Debug)]
pub(super) struct PortControlTest {
    gateway: Ipv4Addr,
    bind: CommandId,
    socket: SocketId,
    stage: Stage,
    found: PortControl,
}

#[derive(Debug, Clone, Copy)]
enum Stage {
    Binding,
    /// Sent so many times since this moment.
    Asking(Instant, usize),
    Over,
    Failed,
}

impl PortControlTest {
    pub(super) fn new(gateway: Ipv4Addr, outbox: &mut Outbox) -> Self {
        let (bind, socket) = outbox.bind_udp(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)));
        Self { gateway, bind, socket, stage: Stage::Binding, found: PortControl::default() }
    }

    /// Whether a command or a socket belongs to it.
    pub(super) fn owns(&self, socket: SocketId) -> bool {
        self.socket == socket
    }

    pub(super) fn on_bound(
        &mut self,
        id: CommandId,
        result: &Result<SocketAddr, IoFailure>,
        outbox: &mut Outbox,
        now: Instant,
    ) {
        if id != self.bind || !matches!(self.stage, Stage::Binding) {
            return;
        }
        if result.is_ok() {
            self.stage = Stage::Asking(now, 0);
            self.handle_timeout(outbox, now);
        } else {
            outbox.forget(self.socket);
            self.stage = Stage::Failed;
        }
    }

    pub(super) fn on_datagram(&mut self, source: SocketAddr, payload: &[u8]) {
        let is_asked = matches!(self.stage, Stage::Asking(..));
        if !is_asked || source.ip() != IpAddr::V4(self.gateway) {
            return;
        }
        match source.port() {
            CONTROL_PORT => self.on_control(payload),
            _ => self.found.upnp |= is_gateway_device(payload),
        }
        let PortControl { pcp, nat_pmp, upnp, .. } = self.found;
        if pcp && nat_pmp && upnp {
            self.stage = Stage::Over;
        }
    }

    /// An answer has the highest bit of its second byte set in both protocols; the first is the version.
    fn on_control(&mut self, payload: &[u8]) {
        match payload {
            // A server of NAT-PMP alone answers PCP like this as well (RFC 6887 section 9).
            [0, operation, 0, result, _, _, _, _, ip @ ..] if operation & 0x80 != 0 => {
                self.found.nat_pmp = true;
                let ip = ip.first_chunk::<4>().map(|octets| Ipv4Addr::from(*octets));
                if *operation == 0x80 && *result == 0 {
                    self.found.external_address = ip.filter(|it| !it.is_unspecified());
                }
            }
            [0, operation, ..] if operation & 0x80 != 0 && payload.len() >= 8 => {
                self.found.nat_pmp = true;
            }
            [2, operation, ..] if operation & 0x80 != 0 && payload.len() >= 24 => {
                self.found.pcp = true;
            }
            _ => {}
        }
    }

    pub(super) fn handle_timeout(&mut self, outbox: &mut Outbox, now: Instant) {
        let Stage::Asking(since, sent) = &mut self.stage else { return };
        if *since + PATIENCE <= now {
            self.stage = Stage::Over;
            return;
        }
        while SENT_AT.get(*sent).is_some_and(|after| *since + *after <= now) {
            *sent += 1;
            let to = |port| SocketAddr::from((self.gateway, port));
            outbox.send_udp(self.socket, to(CONTROL_PORT), announce());
            outbox.send_udp(self.socket, to(CONTROL_PORT), vec![0, 0]);
            outbox.send_udp(self.socket, to(SSDP_PORT), SEARCH.as_bytes().to_vec());
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Deadline> {
        let Stage::Asking(since, sent) = self.stage else { return None };
        let after = SENT_AT.get(sent).copied().unwrap_or(PATIENCE);
        Some(Deadline::new(since + after, "ask the router for port control again"))
    }

    pub(super) fn is_settled(&self) -> bool {
        matches!(self.stage, Stage::Over | Stage::Failed)
    }

    /// What it speaks; `None` if it could not be asked.
    pub(super) fn finding(&self) -> Option<PortControl> {
        match self.stage {
            Stage::Asking(..) | Stage::Over => Some(self.found),
            Stage::Binding | Stage::Failed => None,
        }
    }
}

/// PCP's ANNOUNCE request (RFC 6887 sections 7.1 and 14.1): version 2, operation 0, lifetime 0. The client's
/// address is left open; a server that minds says so in an answer.
fn announce() -> Vec<u8> {
    let mut request = vec![0; 24];
    request[0] = 2;
    request[18..20].copy_from_slice(&[0xff, 0xff]);
    request
}

/// UPnP Device Architecture 1.1 section 1.3.2.
const SEARCH: &str = "M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\n\
    MAN: \"ssdp:discover\"\r\nMX: 1\r\n\
    ST: urn:schemas-upnp-org:device:InternetGatewayDevice:1\r\n\r\n";

fn is_gateway_device(payload: &[u8]) -> bool {
    let text = String::from_utf8_lossy(payload);
    text.starts_with("HTTP/1.1 200") && text.contains(":InternetGatewayDevice:")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{Command, Owner};

    const GATEWAY: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 1);

    #[expect(clippy::disallowed_methods, reason = "a test needs some instant to start from")]
    fn begun() -> (PortControlTest, Outbox, Instant) {
        let (mut outbox, now) = (Outbox::new(Owner(1)), Instant::now());
        let mut test = PortControlTest::new(GATEWAY, &mut outbox);
        let Some(Command::BindUdp { id, local, .. }) = outbox.poll() else { panic!("a socket") };
        test.on_bound(id, &Ok(local), &mut outbox, now);
        (test, outbox, now)
    }

    fn sent(outbox: &mut Outbox) -> Vec<(SocketAddr, Vec<u8>)> {
        std::iter::from_fn(|| outbox.poll())
            .map(|command| match command {
                Command::SendUdp { remote, payload, .. } => (remote, payload),
                other => panic!("{other:?}"),
            })
            .collect()
    }

    fn from(port: u16) -> SocketAddr {
        SocketAddr::from((GATEWAY, port))
    }

    #[test]
    fn the_gateway_alone_is_asked_twice_and_waited_for_no_longer_than_a_moment() {
        let (mut test, mut outbox, start) = begun();
        let first = sent(&mut outbox);
        let to: Vec<_> = first.iter().map(|it| it.0).collect();
        assert_eq!(to, [from(5351), from(5351), from(1900)]);
        let mut pcp = [0; 24];
        (pcp[0], pcp[18], pcp[19]) = (2, 255, 255);
        assert_eq!((&first[0].1[..], &first[1].1[..]), (&pcp[..], &[0, 0][..]));
        assert!(first[2].1.starts_with(b"M-SEARCH * HTTP/1.1\r\nHOST: "));
        assert!(first[2].1.ends_with(b":InternetGatewayDevice:1\r\n\r\n"));
        let again = test.poll_timeout().unwrap().at;
        assert_eq!(again, start + Duration::from_millis(250));
        test.handle_timeout(&mut outbox, again);
        assert_eq!(sent(&mut outbox), first);
        let end = test.poll_timeout().unwrap().at;
        assert_eq!(end, start + PATIENCE);
        test.handle_timeout(&mut outbox, end);
        assert!(test.is_settled() && sent(&mut outbox).is_empty());
        assert_eq!(test.finding(), Some(PortControl::default()));
    }

    #[test]
    fn each_protocol_is_told_by_its_answer_and_a_refusal_is_one() {
        let mut pcp = [0; 24];
        (pcp[0], pcp[1], pcp[3]) = (2, 0x80, 12);
        let nat_pmp = [0, 128, 0, 0, 0, 0, 0, 9, 203, 0, 113, 5];
        let too_new = [0, 128, 0, 1, 0, 0, 0, 9];
        let upnp =
            b"HTTP/1.1 200 OK\r\nST: urn:schemas-upnp-org:device:InternetGatewayDevice:1\r\n\r\n";
        let none = PortControl::default();
        let external_address = Some(Ipv4Addr::new(203, 0, 113, 5));
        let cases = [
            (from(5351), &pcp[..], PortControl { pcp: true, ..none }),
            (from(5351), &nat_pmp, PortControl { nat_pmp: true, external_address, ..none }),
            (from(5351), &too_new, PortControl { nat_pmp: true, ..none }),
            (from(1900), &upnp[..], PortControl { upnp: true, ..none }),
            (from(5351), &[2, 0, 0, 0], none),
            (from(5351), &[], none),
            (from(1900), b"HTTP/1.1 200 OK\r\nST: a:printer:1\r\n\r\n", none),
            ("203.0.113.9:5351".parse().unwrap(), &nat_pmp, none),
        ];
        for (source, payload, expected) in cases {
            let (mut test, ..) = begun();
            test.on_datagram(source, payload);
            assert_eq!(test.finding(), Some(expected), "{payload:?}");
        }
    }

    #[test]
    fn without_a_socket_nothing_is_told() {
        let (mut outbox, now) = (Outbox::new(Owner(1)), begun().2);
        let mut test = PortControlTest::new(GATEWAY, &mut outbox);
        let Some(Command::BindUdp { id, .. }) = outbox.poll() else { panic!("a socket") };
        test.on_bound(id, &Err(IoFailure::NotPermitted), &mut outbox, now);
        assert!(test.is_settled() && test.finding().is_none());
    }
}

//! QUIC (RFC 9000) on a punched UDP path.
//!
//! The caller is the client. Both sides show a raw public key (RFC 7250), and each accepts exactly the
//! one that was announced, which is the peer's identity ([`identity`](crate::identity)): with a
//! pinned peer not even the broker can put another one in its place. One bidirectional stream carries the application's bytes; the
//! caller opens it with one byte of its own, since a stream that carries nothing is not seen.

mod early;

use std::net::{SocketAddr, UdpSocket};
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::Future;
use ntcp_proto::signal::{Fingerprint, Role};
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{
    AsyncTimer, AsyncUdpSocket, ConnectionError, Endpoint, EndpointConfig, Runtime, SmolRuntime,
    StoppedError, VarInt,
};
use rustls::client::AlwaysResolvesClientRawPublicKeys;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::server::AlwaysResolvesServerRawPublicKeys;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, SignatureScheme};

pub(crate) use early::EarlyDatagrams;

use crate::identity::{Identity, fingerprint};
use crate::runtime;

/// The protocol in the TLS handshake (RFC 7301).
const ALPN: &[u8] = b"ntcp/1";
/// The byte that makes the stream visible to the callee.
const PREAMBLE: u8 = 1;
/// Keeps the NATs' mappings: below the shortest UDP timer seen, 30 s.
const KEEPALIVE: Duration = Duration::from_secs(15);
/// Silence after which the path is given up, in milliseconds: three keepalives and some loss.
const IDLE_MS: u32 = 60_000;
/// Bytes in flight on the stream: 1 Gbit/s at a round trip of 100 ms takes 12.5 MB.
const WINDOW: u32 = 16 << 20;
/// The round trip assumed before it is measured. Half of it is the first retransmission's delay.
const UNKNOWN_RTT: Duration = Duration::from_millis(100);

/// The code of a CONNECTION_CLOSE (RFC 9000 section 19.19) from a side that has read the other's stream to its end:
/// it acknowledges all of that stream.
///
/// QUIC's own acknowledgement may not do: where a wire reorders, a packet is taken for lost and what it carried is
/// sent again; the acknowledgement of the first packet then counts for nothing, and the one of the second never comes,
/// as the other side has everything and closes.
const ALL_READ: VarInt = VarInt::from_u32(1);

/// A QUIC connection with its one stream.
pub(crate) struct Secured {
    pub(crate) connection: quinn::Connection,
    pub(crate) send: quinn::SendStream,
    pub(crate) receive: quinn::RecvStream,
    /// The peer's stream was read to its end.
    pub(crate) all_read: bool,
    /// What QUIC's socket receives besides, and the way to end that.
    pub(crate) early: Arc<EarlyDatagrams>,
    /// When the first byte of the application could be sent.
    pub(crate) at: Instant,
}

impl Drop for Secured {
    fn drop(&mut self) {
        if self.all_read {
            self.connection.close(ALL_READ, b"");
        }
    }
}

/// Whether everything has arrived of a stream for which this was waited.
pub(crate) fn arrived(stopped: Result<Option<VarInt>, StoppedError>) -> std::io::Result<()> {
    match stopped {
        Ok(_) => Ok(()),
        Err(StoppedError::ConnectionLost(ConnectionError::ApplicationClosed(close)))
            if close.error_code == ALL_READ =>
        {
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}

/// Secures the path of `socket`, which is connected to `remote`.
///
/// Cancel safe: dropping the future closes the socket.
pub(crate) async fn secure(
    socket: UdpSocket,
    remote: SocketAddr,
    role: Role,
    identity: &Identity,
    peer: Fingerprint,
    rtt: Option<Duration>,
    early: Arc<EarlyDatagrams>,
) -> Result<Secured, String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let transport = Arc::new(transport(rtt));
    let server = match role {
        Role::Controlled => Some(server_config(identity, peer, transport.clone())?),
        Role::Controlling => None,
    };
    let mut config = EndpointConfig::default();
    // STUN checks that are still under way must not look like QUIC (RFC 9287).
    config.grease_quic_bit(false);
    let runtime = Arc::new(OwnRuntime);
    let socket = runtime.wrap_udp_socket(socket).map_err(|error| text(&error))?;
    let socket = early.clone().before(socket);
    let endpoint = Endpoint::new_with_abstract_socket(config, server, socket, runtime)
        .map_err(|error| text(&error))?;
    match role {
        Role::Controlling => {
            let config = client_config(identity, peer, transport)?;
            let connecting =
                endpoint.connect_with(config, remote, "ntcp").map_err(|it| text(&it))?;
            let connection = connecting.await.map_err(|it| text(&it))?;
            let at = Instant::now();
            let (mut send, receive) = connection.open_bi().await.map_err(|it| text(&it))?;
            send.write_all(&[PREAMBLE]).await.map_err(|it| text(&it))?;
            Ok(Secured { connection, send, receive, all_read: false, early, at })
        }
        Role::Controlled => {
            let incoming = endpoint.accept().await.ok_or("the endpoint was closed")?;
            let connection = incoming.await.map_err(|it| text(&it))?;
            let (send, mut receive) = connection.accept_bi().await.map_err(|it| text(&it))?;
            let mut preamble = [0];
            receive.read_exact(&mut preamble).await.map_err(|it| text(&it))?;
            if preamble != [PREAMBLE] {
                return Err("the peer speaks another version on its stream".into());
            }
            let at = Instant::now();
            Ok(Secured { connection, send, receive, all_read: false, early, at })
        }
    }
}

fn transport(rtt: Option<Duration>) -> quinn::TransportConfig {
    let mut config = quinn::TransportConfig::default();
    config
        .keep_alive_interval(Some(KEEPALIVE))
        .max_idle_timeout(Some(VarInt::from_u32(IDLE_MS).into()))
        .initial_rtt(rtt.unwrap_or(UNKNOWN_RTT).max(Duration::from_millis(5)))
        .max_concurrent_bidi_streams(1u8.into())
        .max_concurrent_uni_streams(0u8.into())
        .stream_receive_window(WINDOW.into())
        .receive_window(WINDOW.into())
        .send_window(WINDOW.into());
    config
}

fn client_config(
    identity: &Identity,
    peer: Fingerprint,
    transport: Arc<quinn::TransportConfig>,
) -> Result<quinn::ClientConfig, String> {
    let pinned = Arc::new(Pinned { peer, provider: provider() });
    let mut tls = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(pinned)
        .with_client_cert_resolver(Arc::new(AlwaysResolvesClientRawPublicKeys::new(
            identity.signer(),
        )));
    tls.alpn_protocols = vec![ALPN.to_vec()];
    let crypto = QuicClientConfig::try_from(tls).map_err(|error| error.to_string())?;
    let mut config = quinn::ClientConfig::new(Arc::new(crypto));
    config.transport_config(transport);
    Ok(config)
}

fn server_config(
    identity: &Identity,
    peer: Fingerprint,
    transport: Arc<quinn::TransportConfig>,
) -> Result<quinn::ServerConfig, String> {
    let pinned = Arc::new(Pinned { peer, provider: provider() });
    let mut tls = rustls::ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| error.to_string())?
        .with_client_cert_verifier(pinned)
        .with_cert_resolver(Arc::new(AlwaysResolvesServerRawPublicKeys::new(identity.signer())));
    tls.alpn_protocols = vec![ALPN.to_vec()];
    let crypto = QuicServerConfig::try_from(tls).map_err(|error| error.to_string())?;
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    config.transport_config(transport);
    Ok(config)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// Accepts one key, and a signature made with it.
#[derive(Debug)]
struct Pinned {
    peer: Fingerprint,
    provider: Arc<CryptoProvider>,
}

impl Pinned {
    fn check(&self, certificate: &CertificateDer<'_>) -> Result<(), rustls::Error> {
        if fingerprint(certificate) == Some(self.peer) {
            return Ok(());
        }
        Err(rustls::Error::General("not the key that was announced".into()))
    }

    fn signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        let key = SubjectPublicKeyInfoDer::from(certificate.as_ref());
        verify_tls13_signature_with_raw_key(message, &key, signature, algorithms)
    }
}

fn tls13_only() -> rustls::Error {
    rustls::Error::General("QUIC uses TLS 1.3 only (RFC 9001 section 4.2)".into())
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.check(certificate).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(tls13_only())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

impl ClientCertVerifier for Pinned {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.check(certificate).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(tls13_only())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

/// Quinn's sockets and timers on `async-io`, its tasks on the library's own thread.
#[derive(Debug)]
struct OwnRuntime;

impl Runtime for OwnRuntime {
    fn new_timer(&self, at: Instant) -> Pin<Box<dyn AsyncTimer>> {
        SmolRuntime.new_timer(at)
    }

    fn spawn(&self, future: Pin<Box<dyn Future<Output = ()> + Send>>) {
        runtime::spawn(future).detach();
    }

    fn wrap_udp_socket(&self, socket: UdpSocket) -> std::io::Result<Arc<dyn AsyncUdpSocket>> {
        SmolRuntime.wrap_udp_socket(socket)
    }
}

#[cfg(test)]
mod tests {
    use quinn::ApplicationClose;

    use super::*;

    #[test]
    fn only_who_says_that_all_was_read_acknowledges_by_closing() {
        let lost = |code| {
            let close = ApplicationClose { error_code: code, reason: Vec::new().into() };
            Err(StoppedError::ConnectionLost(ConnectionError::ApplicationClosed(close)))
        };
        assert!(arrived(Ok(None)).is_ok());
        assert!(arrived(lost(ALL_READ)).is_ok());
        assert!(arrived(lost(VarInt::from_u32(0))).is_err());
        assert!(arrived(Err(StoppedError::ConnectionLost(ConnectionError::TimedOut))).is_err());
    }
}

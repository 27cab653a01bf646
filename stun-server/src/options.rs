//! Where a server listens, and its limits.

use crate::partner::PartnerKey;
use crate::policy::{self, Policy, PolicyError};
use crate::tls::{CertificateFiles, Identity};
use ntcp_settings::{PublicAddress, Stun, StunMode};
use ntcp_stun::server::{BudgetLimits, Limits};
use std::net::SocketAddr;
use std::time::Duration;

/// Where a server listens, and its limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Where to listen over UDP and TCP, at most one address of each family. Default: every address, port 3478.
    /// Port 0 takes a free one, the same for UDP and TCP.
    pub listen: Vec<SocketAddr>,
    /// The alternate address of RFC 5780, at most one of each family; IP and port differ from those in `listen`, which
    /// must be concrete then. Default: none.
    pub alternate: Vec<SocketAddr>,
    /// Under which addresses clients know this host's own, which NATs hide. Default: none, under their own.
    pub public: Vec<PublicAddress>,
    /// Whose the alternate addresses are. Default: this host's.
    pub alternate_host: AlternateHost,
    /// Interfaces on which plain requests are answered in the driver, if that is possible. Default: none.
    pub xdp: Vec<String>,
    /// TLS, if it is spoken. Default: it is not.
    pub tls: Option<TlsOptions>,
    /// Threads that answer datagrams, each with sockets of its own; more than cores are of no use. Default: as many as
    /// there are cores for this process, at most 64.
    pub shards: usize,
    /// How many replies a source may have. `None` bounds nothing.
    pub budget: Option<BudgetLimits>,
    /// Whom it answers and how. Default: everybody, with as few words as possible.
    pub policy: Policy,
    /// Streams open at once on all listeners; a further one is closed as soon as it is accepted. Default 16,384, at
    /// about 1 KiB each while they are idle.
    pub max_streams: usize,
    /// DTLS sessions open at once on all sockets, a thirty-second part of them for each IPv4 address or IPv6 /64. Default 4,096.
    pub max_dtls_sessions: usize,
    /// How long a stream may stay without its first message. Default 30 s.
    pub first_message: Duration,
    /// How long a stream may stay without a further message. Default 180 s: peers keep the stream that found their
    /// mapping open and ask again each half minute or so.
    pub next_message: Duration,
    /// How long a peer may take to read a reply. Default 10 s. Until then no further request of it is read.
    pub unread_reply: Duration,
    /// Whether clients over TCP may have the server connect back to them ([`ntcp_stun::probe`]), so that they learn how
    /// their NAT treats TCP. Default: yes, within `probe_limits`.
    pub probes: bool,
    /// How much of that there may be.
    pub probe_limits: Limits,
}

/// Where TLS and DTLS are spoken, and with what certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsOptions {
    /// Where to listen for TLS. Port 0 takes a free one.
    pub listen: Vec<SocketAddr>,
    /// Where to listen for DTLS, which needs the feature `dtls` and a key for ECDSA. Port 0 takes a free one.
    pub dtls: Vec<SocketAddr>,
    /// The certificate.
    pub files: CertificateFiles,
}

/// Whose the alternate addresses are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum AlternateHost {
    /// This host's.
    #[default]
    ThisOne,
    /// Another host's, in whose name replies to CHANGE-REQUEST are sent. That host must have consented, and should run a
    /// STUN server on the same two ports.
    Forged,
    /// Another host's that runs this program too, with this host as its alternate and the same key.
    Partner(PartnerKey),
}

impl Default for Options {
    fn default() -> Self {
        Self::from(&Stun::default())
    }
}

impl From<&Stun> for Options {
    /// The section `[stun]` of the configuration, with the default limits, but without what stands in files of its own:
    /// its policy and the partner's key. [`Options::load`] has them too.
    fn from(stun: &Stun) -> Self {
        Self {
            listen: stun.listen.clone(),
            alternate: stun.alternate.clone(),
            public: stun.public.clone(),
            alternate_host: match stun.mode {
                StunMode::Forged => AlternateHost::Forged,
                StunMode::Auto | StunMode::Basic | StunMode::Dual | StunMode::Partner => {
                    AlternateHost::ThisOne
                }
            },
            xdp: stun.xdp.clone(),
            tls: tls(stun),
            shards: if stun.shards == 0 { cores() } else { stun.shards as usize },
            budget: match stun.replies_per_second {
                0 => None,
                per_second => Some(BudgetLimits::of_network(per_second)),
            },
            policy: Policy::default(),
            max_streams: 16_384,
            max_dtls_sessions: 4096,
            first_message: Duration::from_secs(30),
            next_message: Duration::from_secs(180),
            unread_reply: Duration::from_secs(10),
            probes: stun.probes,
            probe_limits: Limits::default(),
        }
    }
}

impl Options {
    /// The section `[stun]` of the configuration with all that it names.
    ///
    /// # Errors
    ///
    /// A [`PolicyError`] that names key, file and line; the certificate's files are looked at too.
    pub fn load(stun: &Stun) -> Result<Self, PolicyError> {
        let options = Self { policy: Policy::load(stun)?, ..Self::from(stun) };
        if let Some(tls) = &options.tls {
            Identity::load(tls)?;
        }
        match (&stun.partner_key, stun.mode) {
            (Some(path), StunMode::Partner) => {
                let alternate_host = AlternateHost::Partner(policy::partner_key(path)?);
                Ok(Self { alternate_host, ..options })
            }
            _ => Ok(options),
        }
    }
}

/// A configuration that has been checked has all three or none.
fn tls(stun: &Stun) -> Option<TlsOptions> {
    let (certificate, key) = (stun.tls_certificate.clone()?, stun.tls_key.clone()?);
    Some(TlsOptions {
        listen: stun.tls_listen.clone(),
        dtls: stun.dtls_listen.clone(),
        files: CertificateFiles { certificate, key },
    })
}

/// Cores that this process may use.
fn cores() -> usize {
    const MOST: usize = 64;
    std::thread::available_parallelism().map_or(1, usize::from).min(MOST)
}

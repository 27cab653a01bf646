//! TLS: the certificate, which can be read again while the server runs and is that of DTLS too, and the layer between a
//! stream and its messages.
//!
//! ALPN (RFC 7443): a client that offers `stun.nat-discovery` or `stun.turn` is answered with the first of them that it
//! offers; one that offers only others is refused, and one that offers none is served. `stun.turn` is answered because a TURN
//! client's Binding requests are; there is no TURN here.

#[cfg(feature = "dtls")]
use crate::dtls::Credentials;
use crate::options::TlsOptions;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, ServerConnection};
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

/// What a client may say that it wants (RFC 7443, section 2).
const PROTOCOLS: [&[u8]; 2] = [b"stun.nat-discovery", b"stun.turn"];
/// Bytes that may wait in the layer for a peer to read.
const BUFFER: usize = 16 << 10;

/// The files of a certificate and its key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CertificateFiles {
    /// PEM: the certificate, then those between it and the authority's.
    pub certificate: PathBuf,
    /// PEM: its private key.
    pub key: PathBuf,
}

/// Why TLS cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read.
    #[error("[stun] {key} = \"{}\" cannot be read: {source}; name a PEM file that this user may read", path.display())]
    Unreadable {
        /// The key of the configuration.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file holds nothing of the kind, or something broken.
    #[error("[stun] {key} = \"{}\" holds no {what}: {problem}; write it as PEM", path.display())]
    Broken {
        /// The key of the configuration.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What it should hold.
        what: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// The program speaks no DTLS.
    #[error(
        "[stun] dtls_listen: this program was built without DTLS; remove the key, or build with the feature \"dtls\""
    )]
    NoDtls,
    /// Certificate and key do not belong together, or are of a kind that is not known.
    #[error(
        "[stun] tls_certificate = \"{}\", tls_key = \"{}\" cannot be used: {problem}; name a certificate and the key that it was made for",
        files.certificate.display(),
        files.key.display()
    )]
    Unfit {
        /// The files.
        files: CertificateFiles,
        /// What is wrong.
        problem: String,
    },
}

/// What the files of a certificate hold.
struct Loaded {
    certified: Arc<CertifiedKey>,
    /// DER.
    #[cfg_attr(
        not(feature = "dtls"),
        expect(dead_code, reason = "what TLS needs is in the other field")
    )]
    key: PrivateKeyDer<'static>,
}

impl CertificateFiles {
    fn load(&self) -> Result<Loaded, TlsError> {
        let (name, what) = ("tls_certificate", "certificate");
        let bytes = read(name, &self.certificate)?;
        let broken = |problem: String| TlsError::Broken {
            key: name,
            path: self.certificate.clone(),
            what,
            problem,
        };
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
        let chain = chain.map_err(|error| broken(error.to_string()))?;
        if chain.is_empty() {
            return Err(broken("there is no certificate in it".to_owned()));
        }
        let (name, what) = ("tls_key", "private key");
        let key = PrivateKeyDer::from_pem_slice(&read(name, &self.key)?);
        let key = key.map_err(|error| TlsError::Broken {
            key: name,
            path: self.key.clone(),
            what,
            problem: error.to_string(),
        })?;
        let provider = ring::default_provider();
        let certified = CertifiedKey::from_der(chain, key.clone_key(), &provider);
        let certified = certified.map_err(|error| self.unfit(error.to_string()))?;
        Ok(Loaded { certified: Arc::new(certified), key })
    }

    fn unfit(&self, problem: String) -> TlsError {
        TlsError::Unfit { files: self.clone(), problem }
    }
}

fn read(key: &'static str, path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|source| TlsError::Unreadable { key, path: path.into(), source })
}

/// The certificate in use, which can be exchanged.
#[derive(Debug)]
struct Current(RwLock<Arc<CertifiedKey>>);

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        // Only exchanged as a whole.
        Some(Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

/// What the server is over TLS and DTLS.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    config: Arc<ServerConfig>,
    current: Arc<Current>,
    /// `None` where DTLS is not spoken.
    #[cfg(feature = "dtls")]
    pub(crate) datagrams: Option<Arc<Credentials>>,
}

/// What of it DTLS needs.
#[cfg(feature = "dtls")]
impl From<&Loaded> for dimpl::DtlsCertificate {
    fn from(loaded: &Loaded) -> Self {
        // There is one: it has been read so.
        let own = loaded.certified.cert.first();
        Self {
            certificate: own.map(|it| it.to_vec()).unwrap_or_default(),
            private_key: loaded.key.secret_der().to_vec(),
        }
    }
}

impl Identity {
    pub(crate) fn load(tls: &TlsOptions) -> Result<Self, TlsError> {
        let files = &tls.files;
        let loaded = files.load()?;
        let current = Arc::new(Current(RwLock::new(Arc::clone(&loaded.certified))));
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider);
        let builder = builder.with_safe_default_protocol_versions();
        let builder = builder.map_err(|error| files.unfit(error.to_string()))?;
        let resolver: Arc<dyn ResolvesServerCert> = Arc::<Current>::clone(&current);
        let mut config = builder.with_no_client_auth().with_cert_resolver(resolver);
        config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
        // A client asks once and goes: nothing is kept for its return.
        config.send_tls13_tickets = 0;
        #[cfg(not(feature = "dtls"))]
        if !tls.dtls.is_empty() {
            return Err(TlsError::NoDtls);
        }
        Ok(Self {
            config: Arc::new(config),
            current,
            #[cfg(feature = "dtls")]
            datagrams: match &tls.dtls[..] {
                [] => None,
                _ => Some(Credentials::new((&loaded).into()).map_err(|it| files.unfit(it))?),
            },
        })
    }

    /// Reads the files again; what is in use stays if they are no good. Whether the certificate is another one.
    pub(crate) fn reload(&self, files: &CertificateFiles) -> Result<bool, TlsError> {
        let loaded = files.load()?;
        #[cfg(feature = "dtls")]
        if let Some(credentials) = &self.datagrams {
            credentials.exchange((&loaded).into()).map_err(|it| files.unfit(it))?;
        }
        let mut current = self.current.0.write().unwrap_or_else(PoisonError::into_inner);
        let is_another = current.cert != loaded.certified.cert;
        *current = loaded.certified;
        Ok(is_another)
    }
}

/// What stands between a stream and its messages.
#[derive(Debug)]
pub(crate) enum Layer {
    /// Nothing.
    Plain,
    /// TLS.
    Tls(Box<ServerConnection>),
}

impl Layer {
    pub(crate) fn new(identity: Option<&Identity>) -> io::Result<Self> {
        let Some(identity) = identity else { return Ok(Self::Plain) };
        let connection = ServerConnection::new(Arc::clone(&identity.config));
        let mut connection = connection.map_err(io::Error::other)?;
        connection.set_buffer_limit(Some(BUFFER));
        Ok(Self::Tls(Box::new(connection)))
    }

    /// Takes in what has arrived. What it makes the layer itself say waits for [`Layer::flush`], even where this fails.
    pub(crate) fn receive(&mut self, mut stream: &TcpStream) -> io::Result<()> {
        let Self::Tls(connection) = self else { return Ok(()) };
        match connection.read_tls(&mut stream) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
        connection.process_new_packets().map(drop).map_err(io::Error::other)
    }

    /// Reads bytes of messages; 0 at the end.
    pub(crate) fn read(&mut self, mut stream: &TcpStream, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain => stream.read(into),
            Self::Tls(connection) => match connection.reader().read(into) {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(0),
                result => result,
            },
        }
    }

    /// Whether more can be read though nothing more arrives.
    pub(crate) fn may_hold_more(&self) -> bool {
        matches!(self, Self::Tls(_))
    }

    /// Sends some of `bytes`, and before them what the layer itself has to say.
    pub(crate) fn write(&mut self, mut stream: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain => stream.write(bytes),
            Self::Tls(connection) => {
                let written = connection.writer().write(bytes)?;
                if written == 0 {
                    // Its buffer is full until the peer reads.
                    connection.write_tls(&mut stream)?;
                }
                Ok(written)
            }
        }
    }

    /// Whether [`Layer::flush`] has something to send.
    pub(crate) fn wants_flush(&self) -> bool {
        match self {
            Self::Plain => false,
            Self::Tls(connection) => connection.wants_write(),
        }
    }

    /// Sends some of what the layer holds.
    pub(crate) fn flush(&mut self, mut stream: &TcpStream) -> io::Result<()> {
        match self {
            Self::Plain => Ok(()),
            Self::Tls(connection) => connection.write_tls(&mut stream).map(drop),
        }
    }
}

//! [`Policy`]: whom a server answers and how, from the section `[stun]` of the configuration and its file of users.

use crate::partner::PartnerKey;
use crate::tls::TlsError;
use ntcp_settings::{Stun, StunAccess, StunAmplification};
use ntcp_stun::server::{Access, Amplification, Conditions, Mint, Redirect, Server};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a nonce is fresh.
const NONCE_LIFETIME: Duration = Duration::from_secs(600);
/// The longest text that RFC 8489 lets a realm, a user or SOFTWARE have: 127 characters.
const MAX_TEXT: usize = 127;

/// Whom a server answers and how.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Who may ask. Default: everybody.
    pub credentials: Credentials,
    /// Where clients are sent instead. Default: nowhere.
    pub redirect: Option<Redirect>,
    /// What SOFTWARE says. Default: there is none.
    pub software: Option<String>,
    /// Whether RESPONSE-PORT needs no proof. Default: no.
    pub trusts_response_port: bool,
    /// How much longer than its request a reply over UDP may be. Default: as RFC 5780 has it, within the budget.
    pub amplification: Amplification,
}

/// Who may ask.
#[derive(Clone, Default, PartialEq, Eq)]
pub enum Credentials {
    /// Everybody.
    #[default]
    Open,
    /// These users, by name and password, with short-term credentials.
    ShortTerm(Vec<(String, String)>),
    /// These users, by name and password, with long-term credentials.
    LongTerm {
        /// Where the users are users.
        realm: String,
        /// Name and password.
        users: Vec<(String, String)>,
    },
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open => f.write_str("Open"),
            Self::ShortTerm(users) => write!(f, "ShortTerm({} users)", users.len()),
            Self::LongTerm { realm, users } => {
                write!(f, "LongTerm({} users of {realm:?})", users.len())
            }
        }
    }
}

/// Why a policy cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// The file of users cannot be read.
    #[error("[stun] credentials = \"{}\" cannot be read: {source}; name a file that this user may read", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A line of it is no user. What it says is not repeated: it may be a password.
    #[error("[stun] credentials = \"{}\", line {line}: {problem}; write name:password", path.display())]
    BadUser {
        /// The file.
        path: PathBuf,
        /// Which line, from 1.
        line: usize,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// There is no TLS to be had.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The partner's key cannot be read.
    #[error("[stun] partner_key = \"{}\" cannot be read: {source}; name a file that this user may read", path.display())]
    UnreadableKey {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The partner's key is too short.
    #[error(
        "[stun] partner_key = \"{}\" holds {length} bytes, {least} are needed; write 64 random hexadecimal digits into it, the same on both hosts",
        path.display(),
        least = PartnerKey::LEAST
    )]
    ShortKey {
        /// The file.
        path: PathBuf,
        /// Bytes in it.
        length: usize,
    },
    /// A text is longer than a message may carry.
    #[error("[stun] {key} is longer than {MAX_TEXT} characters; write a shorter one")]
    TooLong {
        /// The key.
        key: &'static str,
    },
}

impl Policy {
    /// The policy that `[stun]` describes; reads the file of users.
    ///
    /// # Errors
    ///
    /// A [`PolicyError`] that names key, file and line.
    pub fn load(stun: &Stun) -> Result<Self, PolicyError> {
        let texts = [
            ("realm", &stun.realm),
            ("software", &stun.software),
            ("redirect_domain", &stun.redirect_domain),
        ];
        for (key, text) in texts {
            let is_too_long = |it: &String| it.chars().count() > MAX_TEXT;
            if text.as_ref().is_some_and(is_too_long) {
                return Err(PolicyError::TooLong { key });
            }
        }
        let redirect =
            Redirect { servers: stun.redirect.clone(), domain: stun.redirect_domain.clone() };
        Ok(Self {
            credentials: Credentials::load(stun)?,
            redirect: (!redirect.servers.is_empty()).then_some(redirect),
            software: stun.software.clone(),
            trusts_response_port: stun.trusts_response_port,
            amplification: match stun.amplification {
                StunAmplification::Standard => Amplification::Standard,
                StunAmplification::Low => Amplification::Low,
                StunAmplification::None => Amplification::None,
            },
        })
    }

    /// Has a server act by it. All shards must be given clones of one server, so that they know each other's nonces.
    pub(crate) fn apply(&self, server: &mut Server, secret: [u8; 32], now: Instant) {
        server.demand_proof(Mint::new(secret, now, NONCE_LIFETIME));
        server.take_over(&self.conditions());
    }

    /// The same in the words of the protocol's server.
    pub(crate) fn conditions(&self) -> Conditions {
        Conditions {
            access: self.credentials.access().map(Arc::new),
            redirect: self.redirect.clone().map(Arc::new),
            software: self.software.as_deref().map(Into::into),
            trusts_response_port: self.trusts_response_port,
            amplification: self.amplification,
        }
    }

    /// The keys in which two policies differ.
    pub(crate) fn differences(&self, other: &Self) -> impl Iterator<Item = &'static str> {
        let differences = [
            ("[stun] access, realm, credentials", self.credentials != other.credentials),
            ("[stun] redirect, redirect_domain", self.redirect != other.redirect),
            ("[stun] software", self.software != other.software),
            (
                "[stun] trusts_response_port",
                self.trusts_response_port != other.trusts_response_port,
            ),
            ("[stun] amplification", self.amplification != other.amplification),
        ];
        differences.into_iter().filter(|(_, differ)| *differ).map(|(key, _)| key)
    }
}

impl Credentials {
    fn load(stun: &Stun) -> Result<Self, PolicyError> {
        let users = || stun.credentials.as_deref().map_or(Ok(Vec::new()), read_users);
        Ok(match stun.access {
            StunAccess::Open => Self::Open,
            StunAccess::ShortTerm => Self::ShortTerm(users()?),
            StunAccess::LongTerm => {
                Self::LongTerm { realm: stun.realm.clone().unwrap_or_default(), users: users()? }
            }
        })
    }

    fn access(&self) -> Option<Access> {
        match self {
            Self::Open => None,
            Self::ShortTerm(users) => {
                Some(Access::short_term(users.iter().map(|it| (&*it.0, &*it.1))))
            }
            Self::LongTerm { realm, users } => {
                Some(Access::long_term(realm, users.iter().map(|it| (&*it.0, &*it.1))))
            }
        }
    }
}

/// Reads the secret that two partners share; white space around it does not count.
pub(crate) fn partner_key(path: &Path) -> Result<PartnerKey, PolicyError> {
    let unreadable = |source| PolicyError::UnreadableKey { path: path.to_owned(), source };
    let bytes = std::fs::read(path).map_err(unreadable)?;
    let secret = bytes.trim_ascii();
    let short = || PolicyError::ShortKey { path: path.to_owned(), length: secret.len() };
    PartnerKey::new(secret).ok_or_else(short)
}

/// Reads `name:password` lines; empty ones and those that begin with `#` do not count.
fn read_users(path: &Path) -> Result<Vec<(String, String)>, PolicyError> {
    let unreadable = |source| PolicyError::Unreadable { path: path.to_owned(), source };
    let text = std::fs::read_to_string(path).map_err(unreadable)?;
    let mut users: Vec<(String, String)> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, password) = line.split_once(':').unwrap_or((line, ""));
        let problem = if name.is_empty() || password.is_empty() {
            Some("a name or a password is missing")
        } else if name.chars().count() > MAX_TEXT {
            Some("the name is longer than 127 characters")
        } else if users.iter().any(|it| it.0 == name) {
            Some("the name stands in an earlier line too")
        } else {
            None
        };
        if let Some(problem) = problem {
            return Err(PolicyError::BadUser { path: path.to_owned(), line: index + 1, problem });
        }
        users.push((name.to_owned(), password.to_owned()));
    }
    if users.is_empty() {
        let problem = "there is no user in the file";
        return Err(PolicyError::BadUser { path: path.to_owned(), line: 1, problem });
    }
    Ok(users)
}

//! Whom this node takes for its broker, across its lives.
//!
//! A file has a line for each broker: its host and port as they were configured, and a key. While a
//! broker changes its key there are two.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use ntcp_proto::secrecy::PublicKey;
use ntcp_proto::signal::client::{BrokerIdentity, Trust};
use ntcp_settings::{Config, Host};

use crate::error::{Error, ErrorKind};

/// What is known of one broker, and where it is written down.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    file: Option<PathBuf>,
    broker: String,
    pinned: Vec<PublicKey>,
    /// The key that it has proved to have, and whether that was known before.
    proven: Option<(PublicKey, bool)>,
}

impl Known {
    /// What the configuration and its file say about its broker.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or a line of it is none: nothing is trusted by mistake.
    pub(crate) fn of(config: &Config) -> Result<Self, Error> {
        let endpoint = config.hole_punch.broker.clone().or_else(|| config.tcp.broker.clone());
        let broker = endpoint.as_ref().map(ToString::to_string).unwrap_or_default();
        let keys = config.security.broker_keys.iter();
        let mut pinned: Vec<PublicKey> = keys.filter_map(|it| it.parse().ok()).collect();
        // Nobody stands between two programs of one machine.
        let here = endpoint.is_some_and(|it| matches!(it.host(), Host::Ip(ip) if ip.is_loopback()));
        let file = config.security.known_brokers.clone().filter(|_| pinned.is_empty() && !here);
        if let Some(path) = &file {
            pinned = noted(path, &broker).map_err(Error::system("cannot read known_brokers"))?;
        }
        Ok(Self { file, broker, pinned, proven: None })
    }

    /// Whom to trust.
    pub(crate) fn trust(&self) -> Trust {
        match self.pinned.as_slice() {
            [] => Trust::FirstUse,
            keys => Trust::Pinned(keys.to_vec()),
        }
    }

    /// The key that the broker has proved to have, and whether that was known before this node began.
    pub(crate) fn proven(&self) -> (Option<PublicKey>, bool) {
        (self.proven.map(|(key, _)| key), self.proven.is_some_and(|(_, known)| known))
    }

    /// Says who the broker is, if that was not known before, and notes it.
    pub(crate) fn learn(&mut self, identity: BrokerIdentity) {
        let BrokerIdentity::Proven { key, newest, .. } = identity else { return };
        let known = self.proven.map_or(!self.pinned.is_empty(), |(_, known)| known);
        self.proven = Some((key, known));
        let broker = &self.broker;
        if self.pinned.is_empty() {
            tracing::warn!(
                %broker,
                %key,
                "broker trusted at its first use; pin its key with [security] broker_keys"
            );
        } else if !self.pinned.contains(&newest) {
            tracing::warn!(%broker, key = %newest, "the broker changes its key");
        } else {
            return;
        }
        self.pinned = if key == newest { vec![key] } else { vec![newest, key] };
        if let Some(path) = &self.file
            && let Err(error) = note(path, broker, &self.pinned)
        {
            tracing::warn!(path = %path.display(), %error, "the broker's key could not be noted");
        }
    }
}

/// The keys of `broker` in a file that need not be there.
fn noted(path: &Path, broker: &str) -> io::Result<Vec<PublicKey>> {
    let mut keys = Vec::new();
    for line in read(path)?.lines() {
        match line.split_once(' ').map(|(name, key)| (name, key.trim().parse())) {
            Some((name, Ok(key))) if name == broker => keys.push(key),
            Some((_, Ok(_))) => {}
            _ if line.trim().is_empty() => {}
            _ => {
                let message = format!("{}: `{line}` is not a broker and its key", path.display());
                return Err(io::Error::new(io::ErrorKind::InvalidData, message));
            }
        }
    }
    Ok(keys)
}

fn read(path: &Path) -> io::Result<String> {
    match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        read => read,
    }
}

/// Replaces what is written of `broker`; nobody ever finds half a file.
fn note(path: &Path, broker: &str, keys: &[PublicKey]) -> io::Result<()> {
    let others = read(path)?;
    let others = others.lines().filter(|it| it.split(' ').next() != Some(broker));
    let own = keys.iter().map(|key| format!("{broker} {key}"));
    let lines: Vec<String> = others.map(str::to_owned).chain(own).collect();
    if let Some(folder) = path.parent().filter(|it| !it.as_os_str().is_empty()) {
        fs::create_dir_all(folder)?;
    }
    let draft = path.with_extension(format!("{}.new", std::process::id()));
    let mut file = fs::File::create(&draft)?;
    writeln!(file, "{}", lines.join("\n"))?;
    file.sync_all()?;
    fs::rename(&draft, path)
}

/// The private key of this node: that of the file, or one for its own life.
pub(crate) fn key(config: &Config) -> Result<[u8; 32], Error> {
    let Some(path) = &config.security.key else { return Ok(crate::node::seed()?.0) };
    let draw = || crate::node::seed().map(|it| it.0).map_err(io::Error::other);
    let key = ntcp_settings::key_file::read_or_make(path, draw);
    key.map_err(|error| {
        let source = io::Error::other(error);
        ErrorKind::System { what: "the key of this node", source }.into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u8) -> PublicKey {
        PublicKey([number; 32])
    }

    fn proven(key: PublicKey, newest: PublicKey) -> BrokerIdentity {
        BrokerIdentity::Proven { key, newest, pinned: false }
    }

    #[test]
    fn a_broker_is_noted_once_known_from_then_on_and_follows_its_new_key() {
        let folder = std::env::temp_dir().join(format!("ntcp-trust-{}", std::process::id()));
        let path = folder.join("known_brokers");
        let mut config = Config::from_toml("hole_punch.broker = 'broker.example'").unwrap();
        config.security.known_brokers = Some(path.clone());
        let mut other = Config::from_toml("hole_punch.broker = '192.0.2.1'").unwrap();
        other.security.known_brokers = Some(path.clone());
        let known = |config: &Config| Known::of(config).unwrap();
        assert_eq!(known(&config).trust(), Trust::FirstUse);
        known(&config).learn(proven(key(1), key(1)));
        known(&other).learn(proven(key(9), key(9)));
        assert_eq!(known(&config).trust(), Trust::Pinned(vec![key(1)]));
        known(&config).learn(proven(key(1), key(2)));
        assert_eq!(known(&config).trust(), Trust::Pinned(vec![key(2), key(1)]));
        assert_eq!(known(&other).trust(), Trust::Pinned(vec![key(9)]));
        config.security.broker_keys = vec![key(7).to_string()];
        assert_eq!(known(&config).trust(), Trust::Pinned(vec![key(7)]), "what is said goes first");
        config.security.broker_keys.clear();
        fs::write(&path, "broker.example:6060 nonsense\n").unwrap();
        assert!(Known::of(&config).is_err(), "a broken line is no reason to trust anybody");
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_broker_on_this_machine_is_not_noted() {
        let path = std::env::temp_dir().join(format!("ntcp-here-{}", std::process::id()));
        let mut config = Config::from_toml("hole_punch.broker = '127.0.0.1:7'").unwrap();
        config.security.known_brokers = Some(path.clone());
        Known::of(&config).unwrap().learn(proven(key(1), key(1)));
        assert!(!path.exists());
    }
}

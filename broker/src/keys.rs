//! The broker's keys, and which names are for which keys: read before anything is given up.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use ntcp_broker::fill_with_entropy;
use ntcp_proto::rendezvous::Names;
use ntcp_proto::secrecy::{PublicKey, SecretKey};
use ntcp_settings::{Config, key_file};

/// Why old keys alone are refused.
const NO_PLACE: &str = "[security] old_keys without a place for the new one: set [security] key";

/// Where the key is when the configuration does not say: in the folder that systemd has made for this
/// service (`StateDirectory=`), or else in the user's configuration folder.
pub(crate) fn place(config: &Config) -> Option<PathBuf> {
    let given = std::env::var_os("STATE_DIRECTORY").map(PathBuf::from);
    let folder = || given.or_else(ntcp_settings::user_folder);
    config.security.key.clone().or_else(|| Some(folder()?.join("broker.key")))
}

/// The keys, the newest first; it is made if it is not there. Without any place for it, there is none:
/// the broker then draws one for its own life.
pub(crate) fn read(config: &Config) -> anyhow::Result<Vec<SecretKey>> {
    let draw = || {
        let mut key = [0; 32];
        fill_with_entropy(&mut key).map(|()| key)
    };
    let mut keys = Vec::new();
    match place(config) {
        Some(path) => keys.push(SecretKey::from_bytes(key_file::read_or_make(&path, draw)?)),
        None if config.security.old_keys.is_empty() => return Ok(keys),
        None => bail!(NO_PLACE),
    }
    keys.extend(old(config)?);
    Ok(keys)
}

/// The keys as they are by now; none is made. Without a place for them there are none, and the one that was drawn stays.
pub(crate) fn read_again(config: &Config) -> anyhow::Result<Vec<SecretKey>> {
    let Some(path) = place(config) else { return Ok(Vec::new()) };
    let Some(key) = key_file::read(&path)? else {
        bail!("key file {} is not there any more", path.display())
    };
    let newest = std::iter::once(SecretKey::from_bytes(key));
    Ok(newest.chain(old(config)?).collect())
}

fn old(config: &Config) -> anyhow::Result<Vec<SecretKey>> {
    let mut keys = Vec::new();
    for path in &config.security.old_keys {
        match key_file::read(path)? {
            Some(key) => keys.push(SecretKey::from_bytes(key)),
            None => bail!("key file {} of [security] old_keys is not there", path.display()),
        }
    }
    Ok(keys)
}

/// What `--check` tells of the key; none is made for that.
pub(crate) fn describe(config: &Config) -> anyhow::Result<String> {
    // The start refuses what is missing of these.
    old(config)?;
    let Some(path) = place(config) else {
        if !config.security.old_keys.is_empty() {
            bail!(NO_PLACE);
        }
        return Ok("no place for a key: one is drawn at each start ([security] key)".into());
    };
    Ok(match key_file::read(&path)? {
        Some(key) => format!("key {}", SecretKey::from_bytes(key).public()),
        None => format!("key to be made in {}", path.display()),
    })
}

/// Which names are for which keys.
pub(crate) fn names(config: &Config) -> anyhow::Result<Names> {
    let only_reserved = config.security.only_names;
    let Some(path) = &config.security.names else {
        if only_reserved {
            bail!("[security] only_names without [security] names would refuse everybody");
        }
        return Ok(Names::default());
    };
    let reserved = read_names(path).with_context(|| format!("names in {}", path.display()))?;
    Ok(Names { reserved, only_reserved })
}

/// The lines of a file that say something, with their numbers; what follows `#` does not.
pub(crate) fn lines(path: &Path) -> io::Result<Vec<(usize, String)>> {
    let text = std::fs::read_to_string(path)?;
    let said = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
    let said = said.enumerate().filter(|(_, line)| !line.is_empty());
    Ok(said.map(|(place, line)| (place + 1, line.to_owned())).collect())
}

fn read_names(path: &Path) -> anyhow::Result<BTreeMap<ntcp_proto::uri::PeerName, Vec<PublicKey>>> {
    let mut reserved: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for (number, line) in lines(path)? {
        let place = || format!("line {number}: write a name, a space and a key");
        let (name, key) = line.split_once(char::is_whitespace).with_context(place)?;
        let key = key.trim().parse().with_context(place)?;
        reserved.entry(name.parse().with_context(place)?).or_default().push(key);
    }
    Ok(reserved)
}

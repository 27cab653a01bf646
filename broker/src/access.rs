//! Who is let in: accounts, and the keys of tokens, from their files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use ntcp_proto::access::{AccountName, KeyId, NamePattern, Token, TokenClaims, TokenKey};
use ntcp_proto::access::{long_term_key, password_digest};
use ntcp_proto::rendezvous::{Access, Account};
use ntcp_settings::{Config, key_file};

use crate::keys::lines;

/// Whom the configuration lets in; `None` is everybody.
pub(crate) fn read(config: &Config) -> anyhow::Result<Option<Access>> {
    let access = &config.access;
    if access.accounts.is_none() && access.token_keys.is_none() {
        return Ok(None);
    }
    let mut read = Access::default();
    if let Some(path) = &access.accounts {
        read.accounts =
            accounts(path).with_context(|| format!("accounts in {}", path.display()))?;
    }
    if let Some(path) = &access.token_keys {
        read.token_keys = token_keys(path)?;
    }
    Ok(Some(read))
}

/// The files with secrets that are open to every user of this system, one sentence each.
pub(crate) fn exposed(config: &Config) -> Vec<String> {
    let access = &config.access;
    let files = [("accounts", &access.accounts), ("token_keys", &access.token_keys)];
    let sentence = |(what, path): (&str, &Option<PathBuf>)| {
        let path = path.as_ref()?;
        // Whether it can be read at all is told where it is read.
        let mode = key_file::open_to_everybody(path).ok().flatten()?;
        let path = path.display();
        Some(format!(
            "[access] {what}: {path} is open to every user of this system (mode {mode:03o}): chmod o= {path}"
        ))
    };
    files.into_iter().filter_map(sentence).collect()
}

fn accounts(path: &Path) -> anyhow::Result<BTreeMap<AccountName, Account>> {
    let mut accounts = BTreeMap::new();
    for (number, line) in lines(path)? {
        let place = || format!("line {number}");
        let (name, account) = account(&line).with_context(place)?;
        ensure!(accounts.insert(name, account).is_none(), "line {number}: a second line for it");
    }
    Ok(accounts)
}

/// `NAME sha256:DIGITS [NAMES…]` or `NAME plain:PASSWORD [NAMES…]`. What is wrong is said without the password.
fn account(line: &str) -> anyhow::Result<(AccountName, Account)> {
    const SHAPE: &str = "write NAME sha256:64-DIGITS or plain:PASSWORD, and which names it is for";
    let mut words = line.split_whitespace();
    let name: AccountName = words.next().context(SHAPE)?.parse()?;
    ensure!(!name.as_str().contains(':'), "a name with `:` in it is that of a token");
    let secret = words.next().context(SHAPE)?;
    let key = match secret.split_once(':') {
        Some(("sha256", digits)) => password_digest(digits).context(SHAPE)?,
        Some(("plain", password)) if !password.is_empty() => long_term_key(name.as_str(), password),
        _ => bail!(SHAPE),
    };
    let names: Result<Vec<NamePattern>, _> = words.map(str::parse).collect();
    let names = names?;
    let names = if names.is_empty() { vec![NamePattern::EVERY] } else { names };
    Ok((name, Account { key, names }))
}

fn token_keys(path: &Path) -> anyhow::Result<BTreeMap<KeyId, TokenKey>> {
    read_token_keys(path).with_context(|| format!("keys of tokens in {}", path.display()))
}

fn read_token_keys(path: &Path) -> anyhow::Result<BTreeMap<KeyId, TokenKey>> {
    let mut keys = BTreeMap::new();
    for (number, line) in lines(path)? {
        let place = || format!("line {number}: write the key's name, a space and 64 digits");
        let (id, key) = line.split_once(char::is_whitespace).with_context(place)?;
        let key = key.trim().parse().with_context(place)?;
        let second = keys.insert(id.parse().with_context(place)?, key);
        ensure!(second.is_none(), "line {number}: a second key of that name");
    }
    Ok(keys)
}

/// What a token is to be.
#[derive(Debug, clap::Args)]
pub(crate) struct Wanted {
    /// The file with the keys, if not the one that `token_keys` of the configuration names.
    #[arg(long, value_name = "FILE")]
    keys: Option<PathBuf>,
    /// The name of the key to use [default: the only one].
    #[arg(long, value_name = "ID")]
    key: Option<KeyId>,
    /// Which names it is good for: bob, bob-*, or * for every name.
    #[arg(long, value_name = "NAMES")]
    names: NamePattern,
    /// How long it is good for: a number and s, m, h or d.
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = time)]
    valid: Duration,
}

/// Mints a token.
pub(crate) fn mint(wanted: Wanted, config: &Config) -> anyhow::Result<Token> {
    let Wanted { keys, key, names, valid } = wanted;
    let path = keys.or_else(|| config.access.token_keys.clone());
    let path = path.context("no keys: name their file with --keys or [access] token_keys")?;
    let mut keys = token_keys(&path)?.into_iter();
    let (id, key) = match (key, keys.len()) {
        (Some(id), _) => {
            let found = keys.find(|(it, _)| *it == id);
            found.with_context(|| format!("no key of the name {id} in {}", path.display()))?
        }
        (None, 1) => keys.next().context("no key")?,
        (None, _) => {
            bail!("{} does not have exactly one key: say which with --key", path.display())
        }
    };
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().context("the clock is before 1970")?;
    Ok(Token::mint(&key, TokenClaims::new(id, now.saturating_add(valid), names)?))
}

fn time(text: &str) -> Result<Duration, String> {
    let unit = text.chars().last().and_then(|unit| match unit {
        's' => Some(1),
        'm' => Some(60),
        'h' => Some(3600),
        'd' => Some(86_400),
        _ => None,
    });
    let number = text.get(..text.len().saturating_sub(1)).and_then(|it| it.parse::<u64>().ok());
    let seconds = unit.zip(number).and_then(|(unit, number)| number.checked_mul(unit));
    let seconds = seconds.filter(|it| *it > 0);
    let shape = "write a number and s, m, h or d, for example 12h";
    seconds.map(Duration::from_secs).ok_or_else(|| shape.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_a_name_a_secret_and_names() {
        let digits = "e97fe34aa3d6683ebcbad7abc5ba069dee2ded3764fe9462a45d98f84d0f4195";
        let (name, account) = account(&format!("alice sha256:{digits} alice alice-*")).unwrap();
        assert_eq!(name.as_str(), "alice");
        assert_eq!(account.key, long_term_key("alice", "a password"));
        assert_eq!(account.names.len(), 2);
        let (_, open) = super::account("bob plain:hush").unwrap();
        assert_eq!(
            (open.key, open.names),
            (long_term_key("bob", "hush"), vec![NamePattern::EVERY])
        );
    }

    #[test]
    fn a_bad_line_is_refused_without_its_password() {
        for line in ["alice", "alice hush", "alice md5:hush", "alice plain:", "t1:a plain:hush"] {
            let error = format!("{:#}", account(line).unwrap_err());
            assert!(!error.contains("hush"), "{error}");
        }
        assert!(account("alice sha256:12 bob").is_err());
        assert!(account("alice plain:hush b*b").is_err());
    }

    #[test]
    fn times_have_units() {
        for (text, seconds) in [("90s", 90), ("15m", 900), ("12h", 43_200), ("7d", 604_800)] {
            assert_eq!(time(text), Ok(Duration::from_secs(seconds)));
        }
        for text in ["", "h", "12", "0h", "-1h", "1.5h", "12ü", "99999999999999999d"] {
            assert!(time(text).is_err(), "{text}");
        }
    }
}

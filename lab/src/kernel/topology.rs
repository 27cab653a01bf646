//! What a laboratory consists of, before anything is built.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use super::access::Access;
use super::error::{Error, Result};

/// Most sites and carriers together: each owns sixteen addresses of 203.0.113.0/24.
pub(super) const MOST_SITES: usize = 15;
/// Most hosts in one home; a firewalled home has five public addresses to give.
pub(super) const MOST_HOSTS: usize = 5;

/// Homes, carriers and their access lines around one internet with one public server.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Topology {
    /// The homes; each has at least one host.
    pub homes: Vec<Home>,
    /// Carrier NATs that several homes share.
    pub carriers: Vec<Carrier>,
    /// The public server's line.
    pub server: Access,
    /// Everything random in the lab's own routers comes from this.
    pub seed: u64,
}

/// Who does the translating.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Form {
    /// Netfilter where it can, the lab's own NAT where it cannot.
    #[default]
    Auto,
    /// The kernel's netfilter.
    Netfilter,
    /// The lab's own NAT, as a router in user space.
    User,
}

/// One or more hosts and what stands between them and the internet.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Home {
    /// The site's name, and its first host's.
    pub name: String,
    /// Its boxes, in the language of [`crate::presets`]: `masq,in=reset@linux-random`.
    pub site: String,
    /// Who does the translating.
    #[serde(default)]
    pub form: Form,
    /// Further hosts on the same network.
    #[serde(default)]
    pub neighbours: Vec<String>,
    /// First address of its private /24; unset: 192.168.N.0, another for each home.
    #[serde(default)]
    pub lan: Option<Ipv4Addr>,
    /// The carrier it is behind; unset: none but those in `site`.
    #[serde(default)]
    pub carrier: Option<String>,
    /// Whether its hosts have public IPv6 addresses, behind a firewall that keeps state.
    #[serde(default)]
    pub ipv6: Ipv6,
    /// Its line to the internet, or to its carrier.
    #[serde(default)]
    pub access: Access,
}

/// Whether hosts have IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ipv6 {
    /// IPv4 only.
    #[default]
    Off,
    /// Both.
    On,
}

/// A NAT that several homes share.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Carrier {
    /// Its name.
    pub name: String,
    /// What it does.
    pub site: String,
    /// Who does it.
    #[serde(default)]
    pub form: Form,
    /// Its line to the internet.
    #[serde(default)]
    pub access: Access,
}

impl Topology {
    /// Refuses what cannot be built.
    pub(super) fn check(&self) -> Result<()> {
        if self.homes.len() + self.carriers.len() > MOST_SITES {
            return Err(Error::topology(format!("more than {MOST_SITES} homes and carriers")));
        }
        let mut names: Vec<&str> = vec!["server", "core", "wires"];
        for carrier in &self.carriers {
            take_name(&mut names, &carrier.name)?;
            check_access(&carrier.name, &carrier.access)?;
        }
        for home in &self.homes {
            check_access(&home.name, &home.access)?;
            if home.neighbours.len() >= MOST_HOSTS {
                let detail = format!("{}: more than {MOST_HOSTS} hosts", home.name);
                return Err(Error::topology(detail));
            }
            for name in [&home.name].into_iter().chain(&home.neighbours) {
                take_name(&mut names, name)?;
            }
            let known = |name: &String| self.carriers.iter().any(|carrier| carrier.name == *name);
            if let Some(name) = home.carrier.as_ref().filter(|name| !known(name)) {
                let detail = format!("{}: there is no carrier `{name}`", home.name);
                return Err(Error::topology(detail));
            }
        }
        check_access("server", &self.server)
    }
}

/// Names become namespaces and parts of interface names.
fn take_name<'a>(taken: &mut Vec<&'a str>, name: &'a str) -> Result<()> {
    let plain = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    if name.is_empty() || name.len() > 8 || !plain {
        let detail = format!("`{name}`: a name is one to eight lower-case letters and digits");
        return Err(Error::topology(detail));
    }
    if taken.contains(&name) {
        return Err(Error::topology(format!("the name `{name}` is taken")));
    }
    taken.push(name);
    Ok(())
}

fn check_access(name: &str, access: &Access) -> Result<()> {
    match access.fault() {
        Some(fault) => Err(Error::topology(format!("{name}: {fault}"))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn home(name: &str) -> Home {
        Home {
            name: name.into(),
            site: "masq".into(),
            form: Form::Auto,
            neighbours: Vec::new(),
            lan: None,
            carrier: None,
            ipv6: Ipv6::Off,
            access: Access::default(),
        }
    }

    #[test]
    fn what_cannot_be_built_is_refused_with_its_culprit() {
        let lossy = Access { loss: 1.5, ..Access::default() };
        let cases = [
            (vec![home("a"), home("a")], "`a` is taken"),
            (vec![home("core")], "`core` is taken"),
            (vec![home("Alice")], "Alice"),
            (vec![home("")], "one to eight"),
            (vec![Home { carrier: Some("cgn".into()), ..home("a") }], "no carrier `cgn`"),
            (vec![Home { access: lossy, ..home("a") }], "loss is 1.5"),
            (vec![Home { neighbours: vec!["b".into(), "b".into()], ..home("a") }], "`b` is taken"),
        ];
        for (homes, culprit) in cases {
            let error = Topology { homes, ..Topology::default() }.check().unwrap_err();
            assert!(error.to_string().contains(culprit), "{error}");
        }
    }
}

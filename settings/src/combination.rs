//! Values that are fine alone but cannot work together.

use crate::error::Error;
use crate::public_address::PublicAddress;
use crate::section::{Config, Stun};
use crate::stun_words::{StunAccess, StunMode};
use std::net::SocketAddr;

impl Config {
    /// Checks what no single value shows: call it after setting fields from flags.
    ///
    /// # Errors
    /// [`Error::Combination`] for the first pair that cannot work.
    pub fn check(&self) -> Result<(), Error> {
        self.check_stun_addresses()?;
        self.check_alternate_addresses()?;
        self.check_public_addresses()?;
        self.check_stun_mode()?;
        self.check_stun_access()?;
        self.check_stun_tls()?;
        self.check_access()?;
        self.check_listeners_differ()
    }

    fn check_stun_addresses(&self) -> Result<(), Error> {
        let twice = |list: &[SocketAddr]| {
            list.iter().filter(|a| a.is_ipv4()).count() > 1
                || list.iter().filter(|a| a.is_ipv6()).count() > 1
        };
        for (keys, list) in [
            ("[stun] listen", &self.stun.listen),
            ("[stun] alternate", &self.stun.alternate),
            ("[stun] redirect", &self.stun.redirect),
            ("[stun] tls_listen", &self.stun.tls_listen),
            ("[stun] dtls_listen", &self.stun.dtls_listen),
        ] {
            if twice(list) {
                let problem = "has two addresses of one family";
                let fix = "keep one IPv4 and one IPv6 address; the second address of a family goes \
                           to [stun] alternate";
                return Err(self.combination(keys, quoted(list), problem, fix));
            }
        }
        Ok(())
    }

    fn check_alternate_addresses(&self) -> Result<(), Error> {
        for alternate in &self.stun.alternate {
            let primary = self.stun.listen.iter().find(|a| a.is_ipv4() == alternate.is_ipv4());
            let complaint = match primary {
                None => Some((
                    "the alternate address has no primary address of its family beside it",
                    "add one to [stun] listen, or remove it",
                )),
                Some(primary)
                    if primary.ip().is_unspecified() || alternate.ip().is_unspecified() =>
                {
                    Some((
                        "a server with an alternate address must know its addresses",
                        "write concrete IP addresses in both keys instead of 0.0.0.0 or [::]",
                    ))
                }
                Some(primary) if primary.ip() == alternate.ip() => Some((
                    "RFC 5780 needs two different IP addresses",
                    "write the machine's second address, or remove [stun] alternate",
                )),
                Some(primary) if primary.port() == alternate.port() => Some((
                    "RFC 5780 needs two different ports",
                    "write another port, for example 3479, in [stun] alternate",
                )),
                Some(_) => None,
            };
            if let Some((problem, fix)) = complaint {
                let keys = "[stun] listen, alternate";
                let addresses: Vec<_> = primary.into_iter().chain([alternate]).copied().collect();
                return Err(self.combination(keys, quoted(&addresses), problem, fix));
            }
        }
        Ok(())
    }

    fn check_public_addresses(&self) -> Result<(), Error> {
        let Stun { listen, alternate, public, mode, .. } = &self.stun;
        // Elsewhere the alternate address is another machine's, by the name that the internet has for it.
        let alternate = match mode {
            StunMode::Forged | StunMode::Partner => &[],
            StunMode::Auto | StunMode::Basic | StunMode::Dual => &alternate[..],
        };
        let is_own = |ip| listen.iter().chain(alternate).any(|own| own.ip() == ip);
        let is_twice = |(index, pair): &(usize, &PublicAddress)| {
            public[..*index]
                .iter()
                .any(|other| other.local == pair.local || other.public == pair.public)
        };
        let stranger = public.iter().find(|pair| !is_own(pair.local));
        let twice = public.iter().enumerate().find(is_twice).map(|(_, pair)| pair);
        let (pair, problem, fix) = match (stranger, twice) {
            (Some(pair), _) => (
                pair,
                "the server does not listen on that address of its own",
                "write before the = an address that stands in [stun] listen, or in alternate if it is this machine's",
            ),
            (None, Some(pair)) => (
                pair,
                "one of the two addresses stands in another pair too",
                "give each address of this machine one public address of its own",
            ),
            (None, None) => return Ok(()),
        };
        let keys = "[stun] public, listen, alternate";
        Err(self.combination(keys, format!("\"{pair}\""), problem, fix))
    }

    fn check_stun_mode(&self) -> Result<(), Error> {
        let (mode, has_alternate) = (self.stun.mode, !self.stun.alternate.is_empty());
        let (problem, fix) = match mode {
            StunMode::Basic if has_alternate => {
                ("a basic server has no alternate address", "remove one of them")
            }
            StunMode::Dual | StunMode::Forged | StunMode::Partner if !has_alternate => {
                ("this mode needs an alternate address", "add [stun] alternate")
            }
            StunMode::Partner if self.stun.partner_key.is_none() => (
                "two partners know each other by a secret",
                "name a file with it in [stun] partner_key",
            ),
            mode if mode != StunMode::Partner && self.stun.partner_key.is_some() => {
                ("there is no partner", "set mode = \"partner\", or remove partner_key")
            }
            _ => return Ok(()),
        };
        let keys = "[stun] mode, alternate, partner_key";
        Err(self.combination(keys, format!("\"{mode}\""), problem, fix))
    }

    fn check_stun_access(&self) -> Result<(), Error> {
        let stun = &self.stun;
        let (has_realm, has_users) = (stun.realm.is_some(), stun.credentials.is_some());
        let (problem, fix) = match stun.access {
            StunAccess::Open if has_realm || has_users => {
                ("nobody is asked for credentials", "set access, or remove realm and credentials")
            }
            StunAccess::ShortTerm | StunAccess::LongTerm if !has_users => {
                ("nobody would be let in", "name a file with users in [stun] credentials")
            }
            StunAccess::LongTerm if !has_realm => {
                ("long-term credentials belong to a realm", "add [stun] realm")
            }
            StunAccess::ShortTerm if has_realm => {
                ("short-term credentials have no realm", "remove [stun] realm")
            }
            _ => return Ok(()),
        };
        let keys = "[stun] access, realm, credentials";
        Err(self.combination(keys, format!("\"{}\"", stun.access), problem, fix))
    }

    fn check_access(&self) -> Result<(), Error> {
        let access = &self.access;
        let (problem, fix) = match (access.user.is_some(), access.password.is_some()) {
            (true, false) => (
                "an account has a password",
                "set NTCP_ACCESS__PASSWORD, or add [access] password to a file that only you can read",
            ),
            (false, true) => ("a password belongs to an account", "add [access] user"),
            (true, true) | (false, false) => return Ok(()),
        };
        let user = access.user.as_deref().unwrap_or("none");
        Err(self.combination("[access] user, password", format!("\"{user}\""), problem, fix))
    }

    fn check_stun_tls(&self) -> Result<(), Error> {
        let stun = &self.stun;
        let listen = [&stun.tls_listen[..], &stun.dtls_listen[..]].concat();
        let (listens, certificate, key) =
            (!listen.is_empty(), stun.tls_certificate.is_some(), stun.tls_key.is_some());
        let (problem, fix) = match (listens, certificate, key) {
            (true, false, _) => {
                ("TLS needs a certificate", "name its file in [stun] tls_certificate")
            }
            (true, true, false) => {
                ("TLS needs the certificate's key", "name its file in [stun] tls_key")
            }
            (false, true, _) | (false, _, true) => (
                "nobody is served over TLS",
                "add [stun] tls_listen, for example [\"0.0.0.0:5349\"]",
            ),
            (true, true, true) | (false, false, false) => return Ok(()),
        };
        let keys = "[stun] tls_listen, dtls_listen, tls_certificate, tls_key";
        Err(self.combination(keys, quoted(&listen), problem, fix))
    }

    /// One machine cannot give one port to two servers.
    fn check_listeners_differ(&self) -> Result<(), Error> {
        let stun = [&self.stun.listen[..], &self.stun.alternate[..]].concat();
        let metrics = Vec::from_iter(self.metrics.listen);
        for (keys, one, other) in [
            ("[stun] listen, [hole_punch] listen", &stun, &self.hole_punch.listen),
            ("[stun] listen, [tcp] listen", &stun, &self.tcp.listen),
            ("[stun] listen, [metrics] listen", &stun, &metrics),
            ("[stun] listen, tls_listen", &stun, &self.stun.tls_listen),
            ("[stun] listen, dtls_listen", &stun, &self.stun.dtls_listen),
            (
                "[stun] dtls_listen, [hole_punch] listen",
                &self.stun.dtls_listen,
                &self.hole_punch.listen,
            ),
            ("[stun] tls_listen, [tcp] listen", &self.stun.tls_listen, &self.tcp.listen),
            ("[stun] tls_listen, [metrics] listen", &self.stun.tls_listen, &metrics),
            ("[tcp] listen, [metrics] listen", &self.tcp.listen, &metrics),
        ] {
            let clash = one.iter().find(|a| other.iter().any(|b| collide(**a, *b)));
            if let Some(clash) = clash {
                let problem = "two servers would share one port";
                let fix = "give one of them another port";
                return Err(self.combination(keys, quoted(&[*clash]), problem, fix));
            }
        }
        // Those of the STUN server have at most one address of each family.
        for (keys, list) in
            [("[hole_punch] listen", &self.hole_punch.listen), ("[tcp] listen", &self.tcp.listen)]
        {
            let pairs = list
                .iter()
                .enumerate()
                .flat_map(|(at, a)| list[..at].iter().map(move |b| (*b, *a)));
            if let Some((a, b)) = pairs.into_iter().find(|(a, b)| collide(*a, *b)) {
                let problem = "both cannot be listened at";
                let fix = "remove one of them, or give it another port; 0.0.0.0 and [::] are every address of this machine";
                return Err(self.combination(keys, quoted(&[a, b]), problem, fix));
            }
        }
        Ok(())
    }

    fn combination(
        &self,
        keys: &'static str,
        value: String,
        problem: &'static str,
        fix: &'static str,
    ) -> Error {
        let file = self.file().map(|path| path.display().to_string());
        let place = file.unwrap_or_else(|| "configuration".to_owned());
        Error::Combination { place, keys, value, problem, fix }
    }
}

/// Both cannot be bound at once. Port 0 is a free one each time.
fn collide(a: SocketAddr, b: SocketAddr) -> bool {
    let same_ip = a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified();
    a.port() != 0 && a.port() == b.port() && a.is_ipv4() == b.is_ipv4() && same_ip
}

fn quoted(addresses: &[SocketAddr]) -> String {
    let quoted: Vec<_> = addresses.iter().map(|address| format!("\"{address}\"")).collect();
    quoted.join(", ")
}

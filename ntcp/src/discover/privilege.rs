//! What this program may do that an ordinary one may not.

use std::fmt;

use serde::{Serialize, Serializer};

/// What a program may do with its host's network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Privilege {
    /// `CAP_NET_RAW`: its own packets may be captured, and raw ones sent.
    NetRaw,
    /// `CAP_NET_ADMIN`: sequence numbers may be chosen, and connections opened without a handshake.
    NetAdmin,
}

impl fmt::Display for Privilege {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NetRaw => "capture and send raw packets",
            Self::NetAdmin => "choose sequence numbers, open connections without a handshake",
        })
    }
}

/// All privileges there are, and whether this program has them, itself or through the helper
/// `ntcp-helper`. Programs get the list of those it has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Privileges {
    /// Those it has, and through what.
    pub held: Vec<(Privilege, String)>,
    /// Those it lacks, and what would help.
    pub missing: Vec<(Privilege, String)>,
}

impl Privileges {
    /// Those this process has now. May start the helper, to ask it.
    #[cfg(all(feature = "raw", target_os = "linux"))]
    pub fn current() -> Self {
        use ntcp_raw::privileged::Access;

        let ntcp_raw::privileged::Privileges { capture, inject, repair } = ntcp_raw::privileges();
        // Both are one capability; where one of them is refused all the same, that one tells.
        let raw = if capture.is_available() { inject } else { capture };
        let mut privileges = Self::default();
        for (privilege, access) in [(Privilege::NetRaw, raw), (Privilege::NetAdmin, repair)] {
            let words = access.to_string();
            match access {
                Access::Own | Access::Helper(_) => privileges.held.push((privilege, words)),
                Access::Missing(_) => privileges.missing.push((privilege, words)),
            }
        }
        privileges
    }

    /// Those this process has now: none.
    #[cfg(not(all(feature = "raw", target_os = "linux")))]
    pub fn current() -> Self {
        let why = "this program was built without them";
        let missing = [Privilege::NetRaw, Privilege::NetAdmin].map(|it| (it, why.to_owned()));
        Self { held: Vec::new(), missing: missing.into() }
    }
}

impl Privileges {
    /// What they let a strategy do.
    pub(crate) fn of_tcp(&self) -> ntcp_proto::tcp_traversal::plan::Privileges {
        let holds = |privilege| self.held.iter().any(|(held, _)| *held == privilege);
        let (raw, admin) = (holds(Privilege::NetRaw), holds(Privilege::NetAdmin));
        ntcp_proto::tcp_traversal::plan::Privileges { assume: admin, capture: raw, inject: raw }
    }
}

impl Serialize for Privileges {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.held.iter().map(|(privilege, _)| privilege))
    }
}

impl fmt::Display for Privileges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.held.is_empty() {
            writeln!(f, "  what any program may: sockets, nothing captured or forged")?;
        }
        for (privilege, through) in &self.held {
            writeln!(f, "  {privilege}: through {through}")?;
        }
        for (privilege, lack) in &self.missing {
            writeln!(f, "  not: {privilege}: {lack}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_get_what_is_held_and_people_also_what_is_missing() {
        let privileges = Privileges {
            held: vec![(Privilege::NetRaw, "x".into())],
            missing: vec![(Privilege::NetAdmin, "needs y".into())],
        };
        assert_eq!(serde_json::to_value(&privileges).unwrap(), serde_json::json!(["net_raw"]));
        let words = privileges.to_string();
        assert!(words.contains("raw packets: through x\n"), "{words}");
        assert!(words.contains("not: choose"), "{words}");
    }

    #[test]
    fn each_privilege_is_either_held_or_missing() {
        let Privileges { held, missing } = Privileges::current();
        let mut all: Vec<_> = held.into_iter().chain(missing).map(|(it, _)| it).collect();
        all.sort();
        assert_eq!(all, [Privilege::NetRaw, Privilege::NetAdmin]);
    }
}

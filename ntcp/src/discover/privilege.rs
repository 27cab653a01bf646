//! What this process may do that an ordinary one may not.

use std::fmt;

use serde::Serialize;

/// A capability of the process in its own network namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Privilege {
    /// `CAP_NET_RAW`: raw packets may be captured and sent.
    NetRaw,
    /// `CAP_NET_ADMIN`: TCP connections may be repaired, packet filters set.
    NetAdmin,
}

impl Privilege {
    const ALL: [Self; 2] = [Self::NetRaw, Self::NetAdmin];

    /// Those this process has now; none where the system does not tell.
    pub fn held() -> Vec<Self> {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let effective = effective_capabilities(&status);
        Self::ALL.into_iter().filter(|it| effective & (1 << it.number()) != 0).collect()
    }

    /// Its number in `linux/capability.h`.
    fn number(self) -> u32 {
        match self {
            Self::NetAdmin => 12,
            Self::NetRaw => 13,
        }
    }
}

/// The mask behind `CapEff:` in a `/proc/PID/status`.
fn effective_capabilities(status: &str) -> u64 {
    let mask = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

impl fmt::Display for Privilege {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NetRaw => "capture and send raw packets (CAP_NET_RAW)",
            Self::NetAdmin => "repair TCP connections and set packet filters (CAP_NET_ADMIN)",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mask_is_read_and_anything_else_counts_as_none() {
        let status = "Name:\tntcp\nCapPrm:\t0000000000000000\nCapEff:\t0000000000003000\n";
        assert_eq!(effective_capabilities(status), 0x3000);
        assert_eq!(effective_capabilities("CapEff:\tnonsense\n"), 0);
        assert_eq!(effective_capabilities(""), 0);
    }
}

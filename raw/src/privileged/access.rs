//! Who may do what.

use std::fmt;
use std::path::{Path, PathBuf};

use socket2::{Domain, Socket, Type};

/// Which operations a process is capable of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Abilities {
    /// Capture packets: `CAP_NET_RAW`.
    pub capture: bool,
    /// Send raw packets: `CAP_NET_RAW`.
    pub inject: bool,
    /// Pin sequence numbers and assume connections: `CAP_NET_ADMIN`.
    pub repair: bool,
}

impl Abilities {
    /// Those of this process, found by trying: a capability may be worth nothing in the network
    /// namespace that the process is in.
    pub fn own() -> Self {
        let opens = |domain, kind, protocol: i32| {
            Socket::new(domain, kind, (protocol != 0).then(|| protocol.into())).is_ok()
        };
        let repairs = Socket::new(Domain::IPV4, Type::STREAM, None)
            .is_ok_and(|socket| crate::repair::pin_sequence(&socket, 1).is_ok());
        Self {
            capture: opens(Domain::PACKET, Type::DGRAM, 0),
            inject: opens(Domain::IPV4, Type::RAW, libc::IPPROTO_RAW),
            repair: repairs,
        }
    }

    /// All there are.
    pub fn is_complete(self) -> bool {
        self.capture && self.inject && self.repair
    }
}

/// Through what an operation is available.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Access {
    /// Capabilities of this process.
    Own,
    /// The helper at this path.
    Helper(PathBuf),
    /// Not at all.
    Missing(Lack),
}

impl Access {
    /// Whether it is available.
    pub fn is_available(&self) -> bool {
        !matches!(self, Self::Missing(_))
    }
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Own => f.write_str("this program's own capabilities"),
            Self::Helper(path) => write!(f, "{}", path.display()),
            Self::Missing(lack) => lack.fmt(f),
        }
    }
}

/// What is missing, and how to get it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lack {
    /// The name of the capability in `capabilities(7)`.
    pub capability: &'static str,
    /// The helper that has not got it either; `None` if there is no helper.
    pub helper: Option<PathBuf>,
}

impl fmt::Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "needs {}: ", self.capability)?;
        match &self.helper {
            Some(path) => {
                write!(f, "sudo setcap cap_net_raw,cap_net_admin+ep {}", path.display())
            }
            None => f.write_str(
                "install ntcp-helper beside this program, then \
                 sudo setcap cap_net_raw,cap_net_admin+ep on it",
            ),
        }
    }
}

/// Which privileged operations are available, and through what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Privileges {
    /// Captures of own SYNs.
    pub capture: Access,
    /// Raw segments.
    pub inject: Access,
    /// Pinned sequence numbers and assumed connections.
    pub repair: Access,
}

impl Privileges {
    /// From what this process can do and what its helper can, if there is one.
    pub(super) fn new(own: Abilities, helper: Option<(&Path, Abilities)>) -> Self {
        let access = |own: bool, of_helper: fn(Abilities) -> bool, capability| match helper {
            _ if own => Access::Own,
            Some((path, abilities)) if of_helper(abilities) => Access::Helper(path.to_owned()),
            _ => {
                let helper = helper.map(|(path, _)| path.to_owned());
                Access::Missing(Lack { capability, helper })
            }
        };
        Self {
            capture: access(own.capture, |it| it.capture, "CAP_NET_RAW"),
            inject: access(own.inject, |it| it.inject, "CAP_NET_RAW"),
            repair: access(own.repair, |it| it.repair, "CAP_NET_ADMIN"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Abilities = Abilities { capture: true, inject: true, repair: true };

    #[test]
    fn own_capabilities_come_first_then_the_helpers() {
        let raw = Abilities { repair: false, ..ALL };
        let path = PathBuf::from("/opt/ntcp-helper");
        let both = Privileges::new(raw, Some((&path, ALL)));
        assert_eq!((both.capture, both.repair), (Access::Own, Access::Helper(path)));
    }

    #[test]
    fn what_is_missing_says_how_to_get_it() {
        let alone = Privileges::new(Abilities::default(), None);
        assert!(!alone.inject.is_available());
        assert!(alone.inject.to_string().contains("CAP_NET_RAW: install ntcp-helper"));
        let path = PathBuf::from("/opt/ntcp-helper");
        let powerless = Privileges::new(Abilities::default(), Some((&path, Abilities::default())));
        let advice = powerless.repair.to_string();
        assert!(advice.contains("CAP_NET_ADMIN: sudo setcap"), "{advice}");
        assert!(advice.ends_with("+ep /opt/ntcp-helper"), "{advice}");
    }
}

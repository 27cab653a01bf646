//! Gives up what the process may do, once its sockets are open.
//!
//! ```text
//!   root ─▶ sockets open ─▶ look up user ─▶ bounding set ─▶ groups, user ─▶ capabilities ─▶ no_new_privs ─▶ landlock
//!                                                                                                              │
//!   left: the sockets that are open, new ones without a privilege, and reading the configuration  ◀────────────┘
//! ```
//!
//! Capabilities, `no_new_privs` and landlock belong to a thread and are inherited by those it starts. So this comes
//! before the first of them: before anything is registered with the reactor.

use std::fmt;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;

use ntcp_settings::ServiceUser;

/// What the process needs for the rest of its life.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Whom to become if this is root; `None` is `nobody`.
    pub user: Option<ServiceUser>,
    /// The configuration file, to read it again.
    pub configuration: Option<PathBuf>,
    /// Files that it names, to read them again.
    pub files: Vec<PathBuf>,
    /// Whether raw packets are sent: `CAP_NET_RAW` is kept then, if it is there.
    pub raw_packets: RawPackets,
}

/// Whether raw packets are sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RawPackets {
    /// No capability is kept.
    #[default]
    None,
    /// `CAP_NET_RAW` is kept.
    Sent,
}

/// Why privileges could not be given up. A server that was told whom to become does not go on as somebody else.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfineError {
    /// The configured user does not exist.
    #[error("[service] user = \"{0}\": no such user on this machine: add it, or write another one")]
    NoSuchUser(ServiceUser),
    /// The system refused.
    #[error("[service] user = \"{user}\": this process cannot become that user: {source}")]
    User {
        /// Whom it was to become.
        user: ServiceUser,
        /// What the system said.
        source: io::Error,
    },
    /// The system refused.
    #[error("{what} cannot be given up: {source}")]
    Refused {
        /// What.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

/// What is left of the process's rights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Confined {
    /// Its user's number.
    pub user: u32,
    /// Its capabilities.
    pub capabilities: String,
    /// How far landlock keeps it from files.
    pub files: Files,
}

/// How far landlock keeps the process from files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Files {
    /// As far as this program knows to ask for.
    Closed,
    /// As far as this kernel knows.
    PartlyClosed,
    /// Not at all: the kernel has no landlock, or it is switched off.
    Open,
}

impl fmt::Display for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Closed => "closed",
            Self::PartlyClosed => "partly closed",
            Self::Open => "open",
        })
    }
}

/// Gives up everything but `needs`; returns what is left. `sockets` get the new user as their owner:
/// another socket can share their address only if it has the same.
///
/// # Errors
///
/// [`ConfineError`]; the process may then have given up a part, and should end.
#[cfg(target_os = "linux")]
pub fn confine<'a>(
    needs: &Needs,
    sockets: impl IntoIterator<Item = BorrowedFd<'a>>,
) -> Result<Confined, ConfineError> {
    let user = linux::change_user(needs, sockets)?;
    let capabilities = linux::drop_capabilities(needs)?;
    let files = linux::close_files(needs)?;
    Ok(Confined { user, capabilities, files })
}

impl Confined {
    /// Says in the log what is left.
    pub fn tell(&self) {
        let Self { user, capabilities, files } = self;
        match files {
            Files::Closed | Files::PartlyClosed => {
                tracing::info!(user, %capabilities, %files, "confined");
            }
            Files::Open => tracing::warn!(
                user,
                %capabilities,
                "no landlock in this kernel: files are protected by the user's rights alone"
            ),
        }
    }
}

/// Whether the start would refuse the user that is configured: only root becomes somebody.
///
/// # Errors
///
/// [`ConfineError::NoSuchUser`].
#[cfg(target_os = "linux")]
pub fn check_user(user: Option<&ServiceUser>) -> Result<(), ConfineError> {
    match user {
        Some(user) if linux::is_missing(user) => Err(ConfineError::NoSuchUser(user.clone())),
        Some(_) | None => Ok(()),
    }
}

/// Elsewhere nobody becomes somebody else.
///
/// # Errors
///
/// None.
#[cfg(not(target_os = "linux"))]
pub fn check_user(_: Option<&ServiceUser>) -> Result<(), ConfineError> {
    Ok(())
}

/// Elsewhere nothing is given up.
///
/// # Errors
///
/// None.
#[cfg(not(target_os = "linux"))]
pub fn confine<'a>(
    _: &Needs,
    _: impl IntoIterator<Item = BorrowedFd<'a>>,
) -> Result<Confined, ConfineError> {
    Ok(Confined { user: 0, capabilities: "unknown".to_owned(), files: Files::Open })
}

#[cfg(target_os = "linux")]
mod linux {
    use std::io;
    use std::os::fd::BorrowedFd;
    use std::path::{Path, PathBuf};

    use landlock::{
        ABI, Access, AccessFs, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset,
        RulesetAttr, RulesetCreatedAttr, RulesetStatus,
    };
    use nix::unistd::{Gid, Uid, geteuid, setgroups, setresgid, setresuid};
    use ntcp_settings::ServiceUser;
    use rustix::thread::{
        CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set,
        remove_capability_from_bounding_set, set_capabilities, set_keep_capabilities,
        set_no_new_privs,
    };

    use super::{ConfineError, Files, Needs, RawPackets};

    /// The user that owns nothing, where `/etc/passwd` does not tell its numbers (as in an empty container).
    const NOBODY: (u32, u32) = (65534, 65534);
    /// Folders that hold everybody's files: there only the file itself is opened up, not its folder.
    const SHARED: [&str; 8] = ["/", "/etc", "/home", "/root", "/tmp", "/usr", "/var", "/run"];

    fn refused(what: &'static str) -> impl Fn(rustix::io::Errno) -> ConfineError {
        move |source| ConfineError::Refused { what, source: source.into() }
    }

    /// Becomes the user, if this is root; returns who it is now.
    pub(super) fn change_user<'a>(
        needs: &Needs,
        sockets: impl IntoIterator<Item = BorrowedFd<'a>>,
    ) -> Result<u32, ConfineError> {
        let now = geteuid();
        if !now.is_root() {
            return Ok(now.as_raw());
        }
        let nobody = ServiceUser::Name("nobody".to_owned());
        let user = needs.user.as_ref().unwrap_or(&nobody);
        let (id, group) = match (look_up(user), &needs.user) {
            (Some(numbers), _) => numbers,
            (None, None) => NOBODY,
            (None, Some(_)) => return Err(ConfineError::NoSuchUser(user.clone())),
        };
        shrink_bounding_set(needs)?;
        if id == 0 {
            return Ok(0);
        }
        // Without this the change of user takes every capability away.
        set_keep_capabilities(needs.raw_packets == RawPackets::Sent)
            .map_err(refused("capabilities"))?;
        for socket in sockets {
            if let Err(error) = std::os::unix::fs::fchown(socket, Some(id), Some(group)) {
                tracing::debug!(%error, "a socket keeps its owner");
            }
        }
        let become_it = || {
            setgroups(&[])?;
            setresgid(Gid::from_raw(group), Gid::from_raw(group), Gid::from_raw(group))?;
            setresuid(Uid::from_raw(id), Uid::from_raw(id), Uid::from_raw(id))
        };
        match become_it() {
            Ok(()) => Ok(id),
            // Root of a user namespace in which nobody else exists is nobody outside already.
            Err(error) if needs.user.is_none() => {
                tracing::warn!(%error, "this root cannot become nobody, so it stays who it is");
                Ok(0)
            }
            Err(error) => {
                Err(ConfineError::User { user: user.clone(), source: io::Error::from(error) })
            }
        }
    }

    /// Whether this is root and would become somebody whom nobody knows.
    pub(super) fn is_missing(user: &ServiceUser) -> bool {
        geteuid().is_root() && look_up(user).is_none()
    }

    /// The numbers of a user and its group. Read by hand: the C library's look-up loads further libraries, which a
    /// static program cannot.
    fn look_up(user: &ServiceUser) -> Option<(u32, u32)> {
        let name = match user {
            ServiceUser::Numbers(user, group) => return Some((*user, *group)),
            ServiceUser::Name(name) if name == "root" => return Some((0, 0)),
            ServiceUser::Name(name) => name,
        };
        let text = std::fs::read_to_string("/etc/passwd").ok()?;
        text.lines().find_map(|line| {
            let mut fields = line.split(':');
            let is_it = fields.next() == Some(name);
            let (_password, user, group) = (fields.next()?, fields.next()?, fields.next()?);
            is_it.then_some((user.parse().ok()?, group.parse().ok()?))
        })
    }

    /// No program that this one might start gets a capability back.
    fn shrink_bounding_set(needs: &Needs) -> Result<(), ConfineError> {
        let mine = capabilities(None).map_err(refused("capabilities"))?;
        if !mine.effective.contains(CapabilitySet::SETPCAP) {
            return Ok(());
        }
        for capability in CapabilitySet::all().difference(kept(needs)).iter() {
            match remove_capability_from_bounding_set(capability) {
                // A capability that this kernel does not know.
                Ok(()) | Err(rustix::io::Errno::INVAL) => {}
                Err(error) => return Err(refused("the bounding set")(error)),
            }
        }
        Ok(())
    }

    fn kept(needs: &Needs) -> CapabilitySet {
        match needs.raw_packets {
            RawPackets::None => CapabilitySet::empty(),
            RawPackets::Sent => CapabilitySet::NET_RAW,
        }
    }

    /// Leaves no capability but the kept one; returns what is left, in words.
    pub(super) fn drop_capabilities(needs: &Needs) -> Result<String, ConfineError> {
        let what = "capabilities";
        let mine = capabilities(None).map_err(refused(what))?;
        let left = mine.permitted.intersection(kept(needs));
        // Kernels before 4.3 have none.
        let _ = clear_ambient_capability_set();
        let sets = CapabilitySets {
            effective: left,
            permitted: left,
            inheritable: CapabilitySet::empty(),
        };
        set_capabilities(None, sets).map_err(refused(what))?;
        set_no_new_privs(true).map_err(refused("the right to gain privileges"))?;
        let names: Vec<_> = left.iter_names().map(|(name, _)| name).collect();
        Ok(if names.is_empty() { "none".to_owned() } else { names.join(" ") })
    }

    /// Closes every file and folder but the configuration and what it names.
    pub(super) fn close_files(needs: &Needs) -> Result<Files, ConfineError> {
        let failed = |source| ConfineError::Refused {
            what: "access to files",
            source: io::Error::other(source),
        };
        let abi = ABI::V7;
        let rules = Ruleset::default()
            .set_compatibility(CompatLevel::BestEffort)
            .handle_access(AccessFs::from_all(abi))
            .and_then(Ruleset::create);
        let mut rules = rules.map_err(failed)?;
        let files = needs.configuration.iter().chain(&needs.files);
        for (place, access) in files.filter_map(|it| readable(it)) {
            if let Ok(place) = PathFd::new(place) {
                rules = rules.add_rule(PathBeneath::new(place, access)).map_err(failed)?;
            }
        }
        let status = rules.restrict_self().map_err(failed)?;
        Ok(match status.ruleset {
            RulesetStatus::FullyEnforced => Files::Closed,
            RulesetStatus::PartiallyEnforced => Files::PartlyClosed,
            RulesetStatus::NotEnforced => Files::Open,
        })
    }

    /// What stays readable for the sake of the configuration. A new version of the file usually replaces the old one,
    /// and is found only through its folder.
    fn readable(file: &Path) -> Option<(PathBuf, BitFlags<AccessFs>)> {
        let file = std::path::absolute(file).ok()?;
        let folder = file.parent()?.canonicalize().ok()?;
        let access = AccessFs::ReadFile.into();
        if SHARED.iter().any(|it| folder == Path::new(it)) {
            return Some((file, access));
        }
        Some((folder, access))
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn users_are_looked_up_by_name_and_by_number() {
            assert_eq!(look_up(&"root".parse().unwrap()), Some((0, 0)));
            assert_eq!(look_up(&"7:8".parse().unwrap()), Some((7, 8)));
            assert_eq!(look_up(&"nobody-of-this-name".parse().unwrap()), None);
        }

        #[test]
        fn the_folder_of_the_configuration_stays_readable_unless_it_is_everybodys() {
            let (place, _) = readable(Path::new("/etc/passwd")).unwrap();
            assert_eq!(place, Path::new("/etc/passwd"));
            let own = Path::new(env!("CARGO_MANIFEST_DIR"));
            let (place, _) = readable(&own.join("p2pNetwork.toml")).unwrap();
            assert_eq!(place, own.canonicalize().unwrap());
        }
    }
}

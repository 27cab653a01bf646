//! All that this process may do, itself or through the helper.

use std::io;
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use ntcp_proto::command::Agreed;
use ntcp_proto::segment::Segment;

use super::{Abilities, Access, Own, Privileged, Privileges};
use crate::helper::Helper;
use crate::repair::Departure;
use crate::sniffer::Sniffer;

/// The environment variable that names the helper.
pub const HELPER_VARIABLE: &str = "NTCP_HELPER";
/// Its name as a program.
const HELPER: &str = "ntcp-helper";
/// Where packages put programs that only programs start.
const DIRECTORIES: [&str; 2] = ["/usr/local/libexec", "/usr/libexec"];

/// What this process may do itself, and a helper for the rest if there is one.
#[derive(Debug)]
pub struct Powers {
    own: Own,
    helper: Option<Helper>,
    privileges: Privileges,
}

impl Powers {
    /// Finds out what this process may do. Starts a helper if that is not everything: the one that
    /// the environment variable [`HELPER_VARIABLE`] names, or else the first `ntcp-helper` beside
    /// this program or where packages put it. The helper ends when this value is dropped.
    pub fn acquire() -> Self {
        let own = Abilities::own();
        let path = if own.is_complete() { None } else { helper_path() };
        Self::with(own, path.as_deref())
    }

    /// The same value for all parts of a process, as long as any of them holds it.
    pub fn shared() -> Arc<Self> {
        static SHARED: Mutex<Weak<Powers>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            let powers = Arc::new(Self::acquire());
            *shared = Arc::downgrade(&powers);
            powers
        })
    }

    /// These abilities, and those of the helper at `path`.
    fn with(own: Abilities, path: Option<&Path>) -> Self {
        let helper = path.and_then(|path| Helper::start(path).ok());
        let told = helper.as_ref().map(Helper::abilities).unwrap_or_default();
        let privileges = Privileges::new(own, path.map(|path| (path, told)));
        Self { own: Own::default(), helper, privileges }
    }

    /// What is available, and through what.
    pub fn privileges(&self) -> &Privileges {
        &self.privileges
    }

    fn through(&self, access: &Access) -> io::Result<&dyn Privileged> {
        match (access, &self.helper) {
            (Access::Own, _) => Ok(&self.own),
            (Access::Helper(_), Some(helper)) => Ok(helper),
            (Access::Helper(_), None) | (Access::Missing(_), _) => {
                Err(io::ErrorKind::PermissionDenied.into())
            }
        }
    }
}

fn helper_path() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os(HELPER_VARIABLE) {
        return Some(path.into());
    }
    let beside = std::env::current_exe().ok().and_then(|it| Some(it.parent()?.to_owned()));
    let directories = beside.into_iter().chain(DIRECTORIES.map(PathBuf::from));
    directories.map(|directory| directory.join(HELPER)).find(|path| path.is_file())
}

impl Privileged for Powers {
    fn pin_sequence(&self, socket: BorrowedFd<'_>, sequence: u32) -> io::Result<()> {
        self.through(&self.privileges.repair)?.pin_sequence(socket, sequence)
    }

    fn assume(
        &self,
        socket: BorrowedFd<'_>,
        remote: SocketAddr,
        agreed: &Agreed,
        departure: Departure,
    ) -> io::Result<()> {
        self.through(&self.privileges.repair)?.assume(socket, remote, agreed, departure)
    }

    fn capture(&self, holder: BorrowedFd<'_>, remote: SocketAddr) -> io::Result<Box<dyn Sniffer>> {
        self.through(&self.privileges.capture)?.capture(holder, remote)
    }

    fn inject(&self, holder: BorrowedFd<'_>, segment: &Segment, ttl: u8) -> io::Result<()> {
        self.through(&self.privileges.inject)?.inject(holder, segment, ttl)
    }
}

//! Giving up what the helper does not need.

use std::io;

use rustix::process::{Resource, Rlimit, setrlimit};
use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};

/// Descriptors: the captures, their relays and a few of its own.
const DESCRIPTORS: u64 = 256;

/// Keeps standard input and two capabilities, and no way to get more.
pub(super) fn confine() -> io::Result<()> {
    crate::option::close_all_from(3)?;
    std::env::set_current_dir("/")?;
    let limit = |most| Rlimit { current: Some(most), maximum: Some(most) };
    setrlimit(Resource::Nofile, limit(DESCRIPTORS))?;
    setrlimit(Resource::Core, limit(0))?;
    setrlimit(Resource::Fsize, limit(0))?;
    let needed = CapabilitySet::NET_RAW | CapabilitySet::NET_ADMIN;
    let kept = capabilities(None)?.permitted & needed;
    let sets =
        CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() };
    set_capabilities(None, sets)?;
    rustix::thread::set_no_new_privs(true)?;
    Ok(())
}

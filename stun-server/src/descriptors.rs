//! Makes sure that a connection is refused by the server's limit, not by the system's.

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use ntcp_stun_server::Limits;

/// Descriptors for everything that is not a connection: at most eight sockets and eight listeners, and some more.
const OTHERS: u64 = 64;

/// Raises the number of descriptors this process may have, as far as it may itself; lowers the limit on connections to
/// what is left if that is not enough.
pub(crate) fn make_room_for(limits: &mut Limits) {
    let wanted = limits.max_connections as u64 + OTHERS;
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return };
    let mut allowed = soft;
    if soft < wanted && setrlimit(Resource::RLIMIT_NOFILE, wanted.min(hard), hard).is_ok() {
        allowed = wanted.min(hard);
    }
    if allowed < wanted {
        let connections = allowed.saturating_sub(OTHERS).max(1);
        tracing::warn!(
            descriptors = allowed,
            connections,
            "few file descriptors are allowed, so fewer TCP connections are"
        );
        limits.max_connections = usize::try_from(connections).unwrap_or(limits.max_connections);
    }
}

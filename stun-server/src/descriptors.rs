//! Makes sure that a stream is refused by the server's limit, not by the system's.

use ntcp_stun_server::Options;

/// Raises the number of descriptors this process may have, as far as it may itself; lowers the limit on streams to what
/// is left if that is not enough.
#[cfg(target_os = "linux")]
pub(crate) fn make_room_for(options: &mut Options) {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};

    /// For everything that is not a stream: sockets, listeners, the reactor's and the program's own,
    /// and two for each test towards a client, of which there are up to 256.
    const OTHERS: u64 = 64 + 2 * 256;

    let wanted = options.max_streams as u64 + OTHERS;
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return };
    let possible = wanted.min(hard);
    let raised = soft < possible && setrlimit(Resource::RLIMIT_NOFILE, possible, hard).is_ok();
    let allowed = if raised { possible } else { soft };
    if allowed < wanted {
        let streams = allowed.saturating_sub(OTHERS).max(1);
        tracing::warn!(descriptors = allowed, streams, "few descriptors, so fewer streams");
        options.max_streams = usize::try_from(streams).unwrap_or(options.max_streams);
    }
}

/// Elsewhere the system's limit stands.
#[cfg(not(target_os = "linux"))]
pub(crate) fn make_room_for(_: &mut Options) {}

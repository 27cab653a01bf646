//! Makes sure that a stream is refused by the server's limit, not by the system's.

/// For everything that is not a stream: sockets, listeners, metrics, the reactor's and the program's own.
#[cfg(target_os = "linux")]
const OTHERS: u64 = 64;

/// Raises the number of descriptors this process may have, as far as it may itself; returns how many of `streams` can
/// be had if that is not enough.
#[cfg(target_os = "linux")]
#[must_use]
pub fn room_for(streams: usize) -> usize {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};

    let wanted = streams as u64 + OTHERS;
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return streams };
    let possible = wanted.min(hard);
    let raised = soft < possible && setrlimit(Resource::RLIMIT_NOFILE, possible, hard).is_ok();
    let allowed = if raised { possible } else { soft };
    if allowed >= wanted {
        return streams;
    }
    let fewer = allowed.saturating_sub(OTHERS).max(1);
    tracing::warn!(descriptors = allowed, streams = fewer, "few descriptors, so fewer streams");
    usize::try_from(fewer).unwrap_or(streams)
}

/// Elsewhere the system's limit stands.
#[cfg(not(target_os = "linux"))]
#[must_use]
pub fn room_for(streams: usize) -> usize {
    streams
}

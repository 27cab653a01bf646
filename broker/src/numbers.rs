//! What a broker counts, under the names that Prometheus sees.

use ntcp_proto::rendezvous::Counters;
use ntcp_service::metrics::Metrics;

use crate::Status;

/// Every number of `status`.
pub(crate) fn of(status: &Status) -> Metrics {
    let mut metrics = Metrics::new();
    let version = [("version", env!("CARGO_PKG_VERSION"))];
    metrics.info("ntcp_broker_info", "The program, always 1.", &version);
    let uptime = status.uptime.as_secs();
    metrics.gauge("ntcp_broker_uptime_seconds", "How long it has been running.", uptime);
    let stopping = u64::from(status.is_stopping);
    metrics.gauge("ntcp_broker_stopping", "1 while it lets its peers go.", stopping);
    metrics.gauge("ntcp_broker_peers", "Peers registered now.", status.peers as u64);
    metrics.gauge("ntcp_broker_sessions", "Meetings remembered now.", status.sessions as u64);
    metrics.gauge("ntcp_broker_streams", "TCP streams open now.", status.streams as u64);
    if let Some(is_there) = status.directory {
        let help = "1 while the directory shared with other brokers answers.";
        metrics.gauge("ntcp_broker_directory_up", help, u64::from(is_there));
    }
    add_counters(&mut metrics, &status.counters);
    metrics.durations(
        "ntcp_broker_invitation_duration_seconds",
        "From the dispatch of an invitation until the callee accepted it.",
        &status.invitations,
    );
    metrics.durations(
        "ntcp_broker_set_up_duration_seconds",
        "From a call until the direct path stood, as peers reported.",
        &status.set_up,
    );
    metrics.counters(
        "ntcp_broker_paths_total",
        "Direct paths by the strategy that made them, as peers reported.",
        "strategy",
        status.won.iter().map(|(strategy, count)| (strategy, *count)),
    );
    metrics
}

/// Every counter of the machine, taken apart without `..` so that a new one cannot be forgotten.
fn add_counters(metrics: &mut Metrics, counters: &Counters) {
    let Counters {
        received,
        answered,
        refused,
        bindings,
        oversized,
        not_stun,
        damaged,
        unknown_method,
        malformed,
        unexpected,
        unsigned,
        would_amplify,
        challenged,
        stale_nonce,
        unknown_registration,
        handshakes,
        broken_handshakes,
        unknown_keys,
        broken_seals,
        replayed,
        in_the_clear,
        reserved_names,
        kept_out,
        rate_limited,
        at_limit,
        repeated,
        registered,
        expired,
        dismissed,
        name_conflicts,
        dead_holders,
        ordered,
        unknown_peers,
        parked,
        relayed,
        forge_requests,
        forge_refused,
        forged,
        probes,
        probes_heard,
        errands,
        outcomes,
        accepted,
        declined,
        unanswered,
        letters,
        illegible_letters,
    } = *counters;
    let each = [
        ("messages_received", "Messages that arrived.", received),
        ("requests_answered", "Requests of registered peers answered with success.", answered),
        ("requests_refused", "Requests answered with an error.", refused),
        ("bindings_answered", "Binding requests answered.", bindings),
        ("repeated", "Requests answered again as before, or still to be answered.", repeated),
        ("amplification_avoided", "Answers not sent, as longer than their request.", would_amplify),
        ("handshakes", "Handshakes computed.", handshakes),
        ("registrations", "Peers that became registered.", registered),
        ("registrations_expired", "Peers whose lease ended.", expired),
        ("registrations_dismissed", "Peers let go since the broker stops.", dismissed),
        ("name_conflicts", "Registers of a name that another peer holds.", name_conflicts),
        ("dead_holders", "Holders of a wanted name that did not answer.", dead_holders),
        ("calls", "Calls whose peers were told of each other.", ordered),
        ("calls_to_unknown_peers", "Calls to a peer that was not registered.", unknown_peers),
        ("calls_parked", "Calls that waited for their callee.", parked),
        ("forge_requests", "Requests to forge a SYN-ACK.", forge_requests),
        ("forge_requests_refused", "Of those, refused otherwise than with a nonce.", forge_refused),
        ("forged_segments", "SYN-ACKs forged for peers that both asked.", forged),
        ("probes", "Datagrams sent in a consenting peer's name.", probes),
        ("probes_heard", "Of those, arrived.", probes_heard),
        ("errands", "Forged packets left to peers that offered to send them.", errands),
        ("outcomes", "Reports of how strategies fared.", outcomes),
        ("relayed", "News passed from one peer of a meeting to the other.", relayed),
        ("letters", "Letters of other brokers.", letters),
        ("letters_illegible", "Of those, the ones that made no sense.", illegible_letters),
    ];
    for (name, help, value) in each {
        metrics.counter(&format!("ntcp_broker_{name}_total"), help, value);
    }
    metrics.counters(
        "ntcp_broker_messages_dropped_total",
        "Messages that were not answered, by reason.",
        "reason",
        [
            ("oversized", oversized),
            ("not_stun", not_stun),
            ("damaged", damaged),
            ("unknown_method", unknown_method),
            ("unexpected", unexpected),
            ("unsigned", unsigned),
            ("broken_handshake", broken_handshakes),
            ("broken_seal", broken_seals),
            ("replayed", replayed),
        ],
    );
    metrics.counters(
        "ntcp_broker_refusals_total",
        "Refusals by reason.",
        "reason",
        [
            ("malformed", malformed),
            ("no_nonce", challenged),
            ("stale_nonce", stale_nonce),
            ("unknown_registration", unknown_registration),
            ("unknown_key", unknown_keys),
            ("in_the_clear", in_the_clear),
            ("reserved_name", reserved_names),
            ("access", kept_out),
            ("rate_limited", rate_limited),
            ("at_limit", at_limit),
        ],
    );
    metrics.counters(
        "ntcp_broker_invitations_total",
        "Invitations by what the callee said.",
        "result",
        [("accepted", accepted), ("declined", declined), ("unanswered", unanswered)],
    );
}

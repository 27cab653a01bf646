//! What a server counts, under the names that Prometheus sees.

use crate::run::Meter;
use futures::FutureExt;
use futures::future::BoxFuture;
use ntcp_service::metrics::Metrics;
use ntcp_service::{Subject, View};
use ntcp_stun::server::Counters;

impl Subject for Meter {
    fn look(&self) -> BoxFuture<'static, Option<View>> {
        let meter = self.clone();
        async move {
            let counters = meter.read();
            let metrics = metrics(&counters);
            let summary = format!("{} requests answered", counters.successes);
            Some(View { page: page(&metrics), metrics, summary })
        }
        .boxed()
    }
}

fn metrics(counters: &Counters) -> Metrics {
    let mut metrics = Metrics::new();
    let version = [("version", env!("CARGO_PKG_VERSION"))];
    metrics.info("ntcp_stun_info", "The program, always 1.", &version);
    metrics.counters(
        "ntcp_stun_messages_received_total",
        "Messages that arrived, by transport.",
        "transport",
        [("udp", counters.udp), ("tcp", counters.tcp), ("dtls", counters.dtls)],
    );
    let mut count = |name: &str, help: &str, value| {
        metrics.counter(&format!("ntcp_stun_{name}_total"), help, value);
    };
    count("successes", "Binding success responses.", counters.successes);
    count("classic_responses", "Responses to clients of RFC 3489.", counters.classic);
    count("changed_source", "Successes from another address than the one asked.", counters.changed);
    count("spoof_checks", "Tokens given and reports sent for spoof checks.", counters.spoof_checks);
    count("forwarded", "Requests that the partner was asked to answer.", counters.forwarded);
    count(
        "answered_for_partner",
        "Answers to requests that the partner has forwarded.",
        counters.answered_for_partner,
    );
    count(
        "link_refused",
        "Datagrams from the partner's address that were not signed, not new or too many.",
        counters.link_refused,
    );
    count("answered_in_driver", "Successes of the network driver (XDP).", counters.in_driver);
    count("tls_refused", "Streams closed because of what came over TLS.", counters.tls_refused);
    count(
        "dtls_cookies",
        "Cookies given to who wants to speak DTLS; nothing is kept for them.",
        counters.dtls_cookies,
    );
    count("dtls_handshakes", "DTLS handshakes that were finished.", counters.dtls_handshakes);
    count(
        "dtls_refused",
        "DTLS hellos with a wrong cookie or beyond the bounds, and sessions that went wrong.",
        counters.dtls_refused,
    );
    count("replies_lost", "Replies that could not be sent.", counters.lost);
    metrics.counters(
        "ntcp_stun_errors_total",
        "Error responses, by code.",
        "code",
        [
            ("300", counters.redirected),
            ("400", counters.bad_requests),
            ("401", counters.unauthenticated),
            ("420", counters.unknown_attributes),
            ("438", counters.stale_nonces),
            ("500", counters.server_errors),
        ],
    );
    metrics.counters(
        "ntcp_stun_messages_dropped_total",
        "Messages that were not answered, by reason.",
        "reason",
        [
            ("malformed", counters.malformed),
            ("wrong_fingerprint", counters.wrong_fingerprints),
            ("not_a_request", counters.not_requests),
            ("unknown_method", counters.unknown_methods),
            ("over_budget", counters.over_budget),
            ("unanswerable", counters.unanswerable),
        ],
    );
    metrics
}

/// The numbers for people, with what they mean.
fn page(metrics: &Metrics) -> String {
    let text = metrics.text().replace('&', "&amp;").replace('<', "&lt;");
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>ntcp-stun-server</title>\
         <meta http-equiv=\"refresh\" content=\"10\"><style>:root{{color-scheme:light dark}}\
         body{{font:15px/1.5 system-ui,sans-serif;margin:2rem}}</style></head><body>\
         <h1>ntcp-stun-server</h1><pre>{text}</pre></body></html>\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_counter_has_a_sample() {
        let counters = format!("{:?}", Counters::default()).matches(':').count();
        let samples = metrics(&Counters::default());
        let samples = samples.text().lines().filter(|line| !line.starts_with('#')).count();
        // One more says what program it is.
        assert_eq!(samples, counters + 1);
    }
}

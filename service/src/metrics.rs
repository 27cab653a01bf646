//! Numbers with names, in the text exposition format of Prometheus (version 0.0.4).
//!
//! ```text
//! # HELP ntcp_broker_calls_total Calls whose peers were told of each other.
//! # TYPE ntcp_broker_calls_total counter
//! ntcp_broker_calls_total{result="accepted"} 7
//! ```
//!
//! The numbers are counted elsewhere, as plain fields of whoever counts; here they are copied out when somebody asks.
//! So nothing is shared, locked or atomic on the way of a packet.

use std::fmt::Write as _;
use std::time::Duration;

/// The media type of [`Metrics::text`].
pub(crate) const MEDIA_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Families of numbers, in the order in which they were added.
#[derive(Debug, Default)]
pub struct Metrics {
    text: String,
}

impl Metrics {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Something that only grows; `name` ends in `_total`.
    pub fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.family(name, help, "counter");
        self.sample(name, &[], value);
    }

    /// Something that grows, told apart by one label.
    pub fn counters<V: AsRef<str>>(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        values: impl IntoIterator<Item = (V, u64)>,
    ) {
        self.family(name, help, "counter");
        for (of, value) in values {
            self.sample(name, &[(label, of.as_ref())], value);
        }
    }

    /// Something that goes up and down.
    pub fn gauge(&mut self, name: &str, help: &str, value: u64) {
        self.family(name, help, "gauge");
        self.sample(name, &[], value);
    }

    /// Always 1; says something in its labels.
    pub fn info(&mut self, name: &str, help: &str, labels: &[(&str, &str)]) {
        self.family(name, help, "gauge");
        self.sample(name, labels, 1);
    }

    /// Durations, in seconds; `name` ends in `_seconds`.
    pub fn durations(&mut self, name: &str, help: &str, durations: &Durations) {
        self.family(name, help, "histogram");
        let bucket = format!("{name}_bucket");
        let mut count = 0;
        for (limit, in_bucket) in LIMITS_MS.iter().zip(durations.counts) {
            count += in_bucket;
            let limit = seconds(Duration::from_millis(*limit));
            self.sample(&bucket, &[("le", &limit)], count);
        }
        self.sample(&bucket, &[("le", "+Inf")], durations.count());
        let _ = writeln!(self.text, "{name}_sum {}", seconds(durations.sum));
        let _ = writeln!(self.text, "{name}_count {}", durations.count());
    }

    /// Everything.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    fn family(&mut self, name: &str, help: &str, kind: &str) {
        debug_assert!(is_name(name), "{name}");
        let help = help.replace('\\', "\\\\").replace('\n', "\\n");
        // Writing to a String cannot fail.
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: u64) {
        self.text.push_str(name);
        for (index, (label, of)) in labels.iter().enumerate() {
            let of = of.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let before = if index == 0 { '{' } else { ',' };
            let _ = write!(self.text, "{before}{label}=\"{of}\"");
        }
        self.text.push_str(if labels.is_empty() { " " } else { "} " });
        let _ = writeln!(self.text, "{value}");
    }
}

fn is_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|it| it.is_ascii_lowercase())
        && bytes.all(|it| it.is_ascii_lowercase() || it.is_ascii_digit() || it == b'_')
}

fn seconds(duration: Duration) -> String {
    duration.as_secs_f64().to_string()
}

/// The upper limits of the buckets of [`Durations`]. They lie closest where set-up times do: between a local network
/// and the deadline of an attempt.
const LIMITS_MS: [u64; 16] =
    [1, 2, 5, 10, 20, 50, 100, 200, 350, 500, 750, 1_000, 2_000, 5_000, 10_000, 30_000];

/// How long something took, over and over: a histogram of fixed size.
///
/// ```
/// use ntcp_service::metrics::Durations;
/// use std::time::Duration;
///
/// let mut took = Durations::default();
/// for ms in [3, 4, 120, 130, 900] {
///     took.note(Duration::from_millis(ms));
/// }
/// assert_eq!(took.at_most(50), Some(Duration::from_millis(200)));
/// assert_eq!(took.at_most(99), Some(Duration::from_millis(1000)));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Durations {
    counts: [u64; LIMITS_MS.len()],
    longer: u64,
    sum: Duration,
}

impl Durations {
    /// One more.
    pub fn note(&mut self, took: Duration) {
        match LIMITS_MS.iter().position(|limit| took <= Duration::from_millis(*limit)) {
            Some(bucket) => self.counts[bucket] += 1,
            None => self.longer += 1,
        }
        self.sum = self.sum.saturating_add(took);
    }

    /// How many there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum::<u64>() + self.longer
    }

    /// What `percent` of them took at most, to the precision of the buckets; `None` if there were none, or if it is
    /// longer than the last bucket (30 s).
    #[must_use]
    pub fn at_most(&self, percent: u64) -> Option<Duration> {
        let wanted = (self.count() * percent).div_ceil(100).max(1);
        let mut seen = 0;
        for (limit, count) in LIMITS_MS.iter().zip(self.counts) {
            seen += count;
            if seen >= wanted {
                return Some(Duration::from_millis(*limit));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_written_as_prometheus_reads_them() {
        let mut metrics = Metrics::new();
        metrics.counter("a_total", "How\nmany.", 3);
        metrics.counters("b_total", "By kind.", "kind", [("x", 1), ("y\"z", 2)]);
        metrics.gauge("c", "Now.", 0);
        metrics.info("d_info", "What.", &[("version", "1"), ("name", "\\")]);
        let expected = "# HELP a_total How\\nmany.\n# TYPE a_total counter\na_total 3\n\
            # HELP b_total By kind.\n# TYPE b_total counter\nb_total{kind=\"x\"} 1\nb_total{kind=\"y\\\"z\"} 2\n\
            # HELP c Now.\n# TYPE c gauge\nc 0\n\
            # HELP d_info What.\n# TYPE d_info gauge\nd_info{version=\"1\",name=\"\\\\\"} 1\n";
        assert_eq!(metrics.text(), expected);
    }

    #[test]
    fn the_buckets_of_a_histogram_add_up() {
        let mut took = Durations::default();
        [0, 1, 2, 60, 31_000].into_iter().for_each(|ms| took.note(Duration::from_millis(ms)));
        let mut metrics = Metrics::new();
        metrics.durations("t_seconds", "Took.", &took);
        let text = metrics.text();
        for line in [
            "t_seconds_bucket{le=\"0.001\"} 2",
            "t_seconds_bucket{le=\"0.1\"} 4",
            "t_seconds_bucket{le=\"30\"} 4",
            "t_seconds_bucket{le=\"+Inf\"} 5",
            "t_seconds_sum 31.063",
            "t_seconds_count 5",
        ] {
            assert!(text.lines().any(|it| it == line), "{line} is missing in\n{text}");
        }
        assert_eq!(took.at_most(100), None);
        assert_eq!(Durations::default().at_most(50), None);
    }
}

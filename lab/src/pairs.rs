//! Pairs of homes between real kernels, call after call: which connect, how, and how soon.
//!
//! A [`Pair`] says what the two homes are like, where they lie and as whom their programs run. [`Series::run`]
//! builds its laboratory with the real programs in it, calls as often as told under each of the wanted
//! [`Terms`], and hands out a [`Row`] for each of these.
//!
//! With a one-way delay of d between any two of the three hosts, a path verified both ways cannot stand
//! before 4 d after the call: 2 d until both peers know of each other, 2 d until each has heard that the
//! other hears it. Hosts of one network, or behind one carrier, need only the first half. A callee that
//! hears everything the servers say later by s opens its NAT 2 d + s after the call, and the caller hears
//! of it d later; a caller that hears them later knows of the callee only then.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use anyhow::Result;
use serde::{Serialize, Serializer};
use serde_json::Value;

use crate::kernel::{Access, Builder, Lab, User};
use crate::trial::{Call, Listener, Servers, UNMETERED, server_flags};

mod list;
mod settled;

pub use list::listed;
use settled::Settled;

/// Where two homes lie to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// Each has its own line to the internet.
    Apart,
    /// The same, and both have the same private range.
    OneRange,
    /// Both hosts are in the home of the callee.
    OneHome,
    /// Both homes are behind one carrier.
    OneCarrier,
    /// Apart, and with IPv6 as well.
    Ipv6,
}

impl Place {
    /// All of them, by name.
    const NAMES: [(&'static str, Self); 5] = [
        ("apart", Self::Apart),
        ("one-range", Self::OneRange),
        ("one-home", Self::OneHome),
        ("one-carrier", Self::OneCarrier),
        ("ipv6", Self::Ipv6),
    ];
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::NAMES.iter().find(|(name, _)| *name == text);
        let names = Self::NAMES.map(|(name, _)| name).join(", ");
        found.map(|(_, place)| *place).ok_or_else(|| format!("`{text}` is none of {names}"))
    }
}

/// The carrier of [`Place::OneCarrier`] unless told otherwise: it lets its customers reach each other.
const CARRIER: &str = "hairpin-cone";

/// Two homes and the programs in them.
#[derive(Debug, Clone, PartialEq)]
pub struct Pair {
    /// What the caller is behind.
    pub a: String,
    /// What the callee is behind.
    pub b: String,
    /// Where they lie.
    pub place: Place,
    /// The carrier's NAT of [`Place::OneCarrier`].
    pub carrier: String,
    /// As whom the caller and the callee run.
    pub users: [User; 2],
    /// Whether the broker answers SYNs in their names.
    pub spoof: bool,
    /// Over what they call.
    pub transports: Vec<&'static str>,
    /// The share of calls that has to connect, 0 to 1.
    pub least: f64,
}

impl Pair {
    /// Two homes apart, with programs that have no privileges, over TCP and over UDP.
    pub fn new(a: &str, b: &str) -> Self {
        Self {
            a: a.into(),
            b: b.into(),
            place: Place::Apart,
            carrier: CARRIER.into(),
            users: [User::Nobody; 2],
            spoof: false,
            transports: vec!["tcp", "udp"],
            least: 1.0,
        }
    }

    fn lab(&self, line: Access) -> Builder {
        const RANGE: std::net::Ipv4Addr = std::net::Ipv4Addr::new(192, 168, 0, 0);
        let lab = Lab::builder().server_access(line);
        let home = |lab: Builder, name, site: &str| lab.home(name, site).access(line);
        match self.place {
            Place::Apart => home(home(lab, "a", &self.a), "b", &self.b),
            Place::OneRange => {
                let lab = home(lab, "a", &self.a).lan(RANGE);
                home(lab, "b", &self.b).lan(RANGE)
            }
            Place::OneHome => home(lab, "b", &self.b).neighbour("a"),
            Place::OneCarrier => {
                let lab = lab.delay(line.delay).loss(line.loss).carrier("cgn", &self.carrier);
                let plain = Access::default();
                let lab = lab.home("a", &self.a).access(plain).behind("cgn");
                lab.home("b", &self.b).access(plain).behind("cgn")
            }
            Place::Ipv6 => home(home(lab, "a", &self.a).ipv6(), "b", &self.b).ipv6(),
        }
    }

    /// The line of a host; neighbours share one.
    fn line_of(&self, host: &'static str) -> &'static str {
        match self.place {
            Place::Apart | Place::OneRange | Place::Ipv6 => host,
            Place::OneHome => "b",
            Place::OneCarrier => "cgn",
        }
    }
}

impl fmt::Display for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place {
            Place::Apart => write!(f, "{} × {}", self.a, self.b),
            Place::OneRange => write!(f, "{} × {}, one private range", self.a, self.b),
            Place::OneHome => write!(f, "two hosts of one home, {}", self.b),
            Place::OneCarrier => {
                write!(f, "{} × {}, one carrier, {}", self.a, self.b, self.carrier)
            }
            Place::Ipv6 => write!(f, "{} × {}, IPv6", self.a, self.b),
        }
    }
}

/// Who hears the servers late.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Late {
    /// The caller.
    Caller,
    /// The callee.
    Callee,
}

/// Under what the calls are made.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Terms {
    /// One-way delay between any two hosts.
    pub delay: Duration,
    /// Share of packets that each line loses, 0 to 1; from host to host there are two.
    pub loss: f64,
    /// How much later one side hears what the servers say.
    pub skew: Duration,
    /// Which side.
    pub late: Late,
}

impl Terms {
    /// Before that, no path can stand.
    fn limit(&self, place: Place) -> Duration {
        let punch = match place {
            Place::Apart | Place::OneRange | Place::Ipv6 => 2 * self.delay,
            Place::OneHome | Place::OneCarrier => Duration::ZERO,
        };
        let known = 2 * self.delay;
        match self.late {
            Late::Caller => known + self.skew + punch,
            Late::Callee => (known + punch).max(known + self.skew + punch / 2),
        }
    }
}

/// The calls of one pair over one transport under the same terms.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// The pair, in words.
    pub pair: String,
    /// What the caller is behind.
    pub a: String,
    /// What the callee is behind.
    pub b: String,
    /// Where they lie.
    pub place: Place,
    /// As whom the caller and the callee ran.
    pub users: [&'static str; 2],
    /// Whether the broker answered SYNs in their names.
    pub spoof: bool,
    /// `tcp`, `udp` or `any`.
    pub transport: &'static str,
    /// One-way delay between any two hosts.
    #[serde(serialize_with = "milliseconds")]
    pub delay_ms: Duration,
    /// How much later one side heard the servers.
    #[serde(serialize_with = "milliseconds")]
    pub skew_ms: Duration,
    /// Which side.
    pub late: Late,
    /// Share of packets that each line lost.
    pub loss: f64,
    /// Calls.
    pub calls: usize,
    /// Those that connected directly.
    pub connected: usize,
    /// The share that had to.
    pub least: f64,
    /// Those that connected at the first try, without fresh ports.
    pub first: usize,
    /// How they connected, and how often.
    pub strategies: BTreeMap<String, usize>,
    /// Before that, no path can stand.
    #[serde(serialize_with = "milliseconds")]
    pub limit_ms: Duration,
    /// From the call to a path that was verified both ways, in milliseconds.
    pub elapsed_ms: Spread,
    /// From the call to the first byte that the application could send, in milliseconds.
    pub secured_ms: Spread,
    /// Why the others did not connect.
    pub reasons: Vec<String>,
    /// The reports of those.
    #[serde(skip)]
    pub failures: Vec<Value>,
    /// Frames that the laboratory itself lost for lack of time.
    pub overruns: u64,
}

impl Row {
    /// Whether as many connected as had to.
    pub fn suffices(&self) -> bool {
        self.connected as f64 >= self.least * self.calls as f64
    }
}

fn milliseconds<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(time.as_secs_f64() * 1e3)
}

/// Percentiles of what was measured; `null` where nothing was.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    /// The middle.
    pub p50: Option<f64>,
    /// 95 of 100 are not above.
    pub p95: Option<f64>,
    /// 99 of 100 are not above.
    pub p99: Option<f64>,
}

impl Spread {
    /// Of these values, by nearest rank.
    pub fn of(values: &mut [f64]) -> Self {
        values.sort_by(f64::total_cmp);
        let at = |percent: usize| {
            let rank = (values.len() * percent).div_ceil(100);
            values.get(rank.saturating_sub(1)).copied()
        };
        Self { p50: at(50), p95: at(95), p99: at(99) }
    }
}

/// What is done with each pair.
#[derive(Debug, Clone)]
pub struct Series {
    /// Delay and loss; each needs a laboratory of its own.
    pub lines: Vec<(Duration, f64)>,
    /// How much later one side hears the servers.
    pub skews: Vec<Duration>,
    /// Which side.
    pub late: Late,
    /// Over these instead of what each pair asks for, if there are any.
    pub transports: Vec<&'static str>,
    /// Calls under the same terms.
    pub calls: usize,
    /// All calls of a row are one node's, which has had so long to find out about its NAT; otherwise each
    /// is a program of its own, which calls as soon as it can.
    pub settled: Option<Duration>,
    /// Nodes keep to what they may begin in a minute by default.
    pub metered: bool,
    /// What the laboratories' own routers draw from.
    pub seed: u64,
}

impl Series {
    /// Calls under all terms; each row as soon as it is known.
    ///
    /// # Errors
    ///
    /// What did not start, or hung, with what it said.
    pub fn run(&self, pair: &Pair, mut each: impl FnMut(Row)) -> Result<()> {
        for &(delay, loss) in &self.lines {
            // Every line takes half, so that a packet takes `delay` from any host to any other.
            let line = Access { delay: delay / 2, loss, ..Access::default() };
            let lab = pair.lab(line).seed(self.seed).start()?;
            let enabled: &[(&str, &str)] =
                if pair.spoof { &[("NTCP_SPOOF__ENABLED", "true")] } else { &[] };
            let _servers = Servers::start_with(&lab, enabled)?;
            let budget: &[_] = if self.metered { &[] } else { &[UNMETERED] };
            let _listener =
                Listener::start_with(&lab, "b", pair.users[1], &server_flags(), budget)?;
            for &skew in &self.skews {
                let late = match self.late {
                    Late::Caller => "a",
                    Late::Callee => "b",
                };
                if self.skews.len() > 1 || skew > Duration::ZERO {
                    lab.set_access(pair.line_of(late), Access { lag: skew, ..line })?;
                }
                let terms = Terms { delay, loss, skew, late: self.late };
                let own = &pair.transports;
                let chosen = if self.transports.is_empty() { own } else { &self.transports };
                for transport in chosen {
                    each(self.call(&lab, pair, transport, terms)?);
                }
            }
        }
        Ok(())
    }

    fn call(&self, lab: &Lab, pair: &Pair, transport: &'static str, terms: Terms) -> Result<Row> {
        let mut row = Row::empty(pair, transport, terms);
        let before = lab.overruns()?;
        let (mut elapsed, mut secured) = (Vec::new(), Vec::new());
        let call = Call { user: pair.users[0], ..Call::bob("a", transport) };
        let node = self.settled.map(|after| Settled::start(lab, &call, after)).transpose()?;
        for _ in 0..self.calls {
            let report = match &node {
                Some(node) => node.call()?,
                None => call.run(lab)?.report,
            };
            elapsed.extend(report["elapsed_ms"].as_f64());
            secured.extend(report["secured_ms"].as_f64());
            row.count(report);
        }
        row.elapsed_ms = Spread::of(&mut elapsed);
        row.secured_ms = Spread::of(&mut secured);
        row.overruns = lab.overruns()?.saturating_sub(before);
        Ok(row)
    }
}

impl Row {
    fn empty(pair: &Pair, transport: &'static str, terms: Terms) -> Self {
        Self {
            pair: pair.to_string(),
            a: pair.a.clone(),
            b: pair.b.clone(),
            place: pair.place,
            users: pair.users.map(User::name),
            spoof: pair.spoof,
            transport,
            delay_ms: terms.delay,
            skew_ms: terms.skew,
            late: terms.late,
            loss: terms.loss,
            calls: 0,
            connected: 0,
            least: pair.least,
            first: 0,
            strategies: BTreeMap::new(),
            limit_ms: terms.limit(pair.place),
            elapsed_ms: Spread::of(&mut []),
            secured_ms: Spread::of(&mut []),
            reasons: Vec::new(),
            failures: Vec::new(),
            overruns: 0,
        }
    }

    fn count(&mut self, report: Value) {
        self.calls += 1;
        let direct = report["outcome"] == "connected" && report["relayed"] == false;
        if direct && (self.transport == "any" || report["transport"] == self.transport) {
            self.connected += 1;
            self.first += usize::from(came_about_at_once(&report));
            let strategy = report["strategy"].as_str().unwrap_or("?").to_owned();
            *self.strategies.entry(strategy).or_default() += 1;
        } else {
            self.reasons.push(report["reason"].as_str().unwrap_or("?").to_owned());
            self.failures.push(report);
        }
    }
}

/// Whether the attempt that won was the first of its kind: a later one says which it was.
fn came_about_at_once(report: &Value) -> bool {
    let attempts = report["attempts"].as_array().map(Vec::as_slice).unwrap_or_default();
    let won = attempts.iter().filter(|attempt| attempt["result"] == "won");
    let evidence = won.flat_map(|attempt| attempt["evidence"].as_array()).flatten();
    !evidence.filter_map(Value::as_str).any(|word| word.starts_with("try "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_nearest_rank() {
        let of = |values: &[f64]| {
            let Spread { p50, p95, p99 } = Spread::of(&mut values.to_vec());
            [p50, p95, p99]
        };
        assert_eq!(of(&[]), [None; 3]);
        assert_eq!(of(&[7.0]), [Some(7.0); 3]);
        let hundred: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        assert_eq!(of(&hundred), [Some(50.0), Some(95.0), Some(99.0)]);
        assert_eq!(of(&[3.0, 1.0]), [Some(1.0), Some(3.0), Some(3.0)]);
    }

    #[test]
    fn the_limit_follows_from_who_hears_of_the_other_when() {
        let limit = |place, late, skew| {
            let [delay, skew] = [20, skew].map(Duration::from_millis);
            Terms { delay, loss: 0.0, skew, late }.limit(place).as_millis()
        };
        assert_eq!(limit(Place::Apart, Late::Callee, 0), 80);
        assert_eq!(limit(Place::Apart, Late::Callee, 10), 80);
        assert_eq!(limit(Place::Apart, Late::Callee, 100), 160);
        assert_eq!(limit(Place::Apart, Late::Caller, 100), 180);
        assert_eq!(limit(Place::OneHome, Late::Callee, 0), 40);
    }

    #[test]
    fn a_later_try_is_told_from_the_first() {
        let report = |evidence: &[&str]| {
            serde_json::json!({"attempts": [
                {"result": "cancelled", "evidence": ["try 2"]},
                {"result": "won", "evidence": evidence},
            ]})
        };
        assert!(came_about_at_once(&report(&["sent 3", "the peer answered"])));
        assert!(!came_about_at_once(&report(&["try 2, from fresh ports", "sent 1"])));
    }
}

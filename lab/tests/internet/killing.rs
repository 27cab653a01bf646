//! NATs that give a port up over an RST, an ICMP unreachable or the end of a TTL, every two of them, and how many calls
//! need a second try: fresh programs, and nodes that know their NATs.
//!
//! `cargo test -p ntcp-lab --test internet killing -- --nocapture` prints the figures; with every pair (see [`EVERY`])
//! they are those of `doc/traversal.md`.

use std::time::Duration;

use ntcp_lab::link::Quality;
use ntcp_lab::meeting::{Meeting, Setup};
use ntcp_proto::nat::InboundSynAfterSyn::{Accepted, Dropped};

use super::scene::{setup, tries};
use super::traversal::knowing;

/// Of so many pairs one is tried; no divisor of the number of sites, so that each of them takes both parts.
const EVERY: usize = 5;

/// What takes the port away, and how strangers are answered, in every combination.
fn sites() -> Vec<String> {
    let mut sites = ["masq", "masq,in=reset", "masq,in=open"].map(str::to_owned).to_vec();
    for rst in ["", ",rst=kill"] {
        for ttlx in ["", ",ttlx=kill"] {
            for unreach in ["", ",unreach=kill"] {
                for answer in ["", ",in=reset", ",in=admin"] {
                    sites.push(format!("port-restricted{rst}{ttlx}{unreach}{answer}"));
                }
            }
        }
    }
    sites
}

/// Both nodes know what an RST and the end of a TTL do, as a discovery tells.
fn informed(setup: &Setup) -> Meeting {
    let knows = [&setup.a, &setup.b].map(|site| {
        let forgets = site.to_string().contains("ttlx=kill");
        // Each of them forgets at least what nobody has answered when an RST comes in.
        [Dropped, if forgets { Dropped } else { Accepted }]
    });
    knowing(setup, knows)
}

#[derive(Debug, Default)]
struct Share {
    calls: usize,
    first: usize,
    /// From the call to the path, over the limit and the skew.
    ratios: Vec<f64>,
    failed: Vec<String>,
}

impl Share {
    fn of(begin: impl Fn(&Setup) -> Meeting, line: Duration, skew: Duration) -> Self {
        let mut share = Self::default();
        let sites = sites();
        let pairs = sites.iter().flat_map(|a| sites.iter().map(move |b| (a, b)));
        for (a, b) in pairs.step_by(EVERY) {
            let setup = Setup { skew, access: Quality::delay(line), ..setup(a, b) };
            share.calls += 1;
            let outcome = begin(&setup).call();
            let Some((report, _)) = outcome.report.as_ref().zip(outcome.callee) else {
                share.failed.push(format!("{a} calls {b}"));
                continue;
            };
            share.first += usize::from(tries(report) == 1);
            let limit = (setup.limit() + skew).as_secs_f64() * 1e3;
            share.ratios.extend(report.elapsed_ms.map(|elapsed| elapsed / limit));
        }
        share.ratios.sort_by(f64::total_cmp);
        share
    }

    fn first(&self) -> f64 {
        self.first as f64 / self.calls as f64
    }

    fn within(&self, percent: usize) -> f64 {
        self.ratios.get((self.ratios.len() - 1) * percent / 100).copied().unwrap_or_default()
    }
}

/// Everybody meets, and this share at the first try.
fn meet(who: &str, begin: impl Fn(&Setup) -> Meeting, least: f64) {
    // Not a divisor of the skews: nothing arrives at the very instant at which something else ends.
    for line in [9_700, 24_700].map(Duration::from_micros) {
        for skew in [0, 30, 100, 300].map(Duration::from_millis) {
            let share = Share::of(&begin, line, skew);
            let [p50, p80, p95] = [50, 80, 95].map(|percent| share.within(percent));
            println!(
                "{who}, lines of {line:?}, {skew:?} late: {} calls, {:.1} % at the first try, \
                 {p50:.2}, {p80:.2} and {p95:.2} of the limit",
                share.calls,
                share.first() * 100.0
            );
            assert!(share.failed.is_empty(), "{who}, {skew:?}: {:#?}", share.failed);
            let least = if skew < 2 * line { 1.0 } else { least };
            assert!(share.first() >= least, "{who}, {skew:?} late: {}", share.first());
        }
    }
}

#[test]
fn fresh_programs_meet_and_mostly_at_the_first_try() {
    meet("fresh programs", Meeting::new, 0.85);
}

#[test]
fn nodes_that_know_their_nats_need_no_second_try() {
    meet("nodes that know their NATs", informed, 1.0);
}

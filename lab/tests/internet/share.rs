//! How many calls come through at the first attempt, and how soon: every site calls every other over TCP.
//!
//! A call is one attempt of its user, whatever goes on in it. `cargo test -p ntcp-lab --test internet share
//! -- --nocapture` prints the figures of `doc/traversal.md`.

use std::time::Duration;

use ntcp_lab::link::Quality;
use ntcp_lab::meeting::{Meeting, Setup};
use ntcp_lab::oracle::{Prospect, direct_path_possible};
use ntcp_lab::presets::{SITES, Site};
use ntcp_proto::candidate::Transport;
use ntcp_proto::puncher::report::Strategy;
use ntcp_proto::uri::TransportChoice;

use super::scene::tries;

const LINE: Duration = Duration::from_millis(10);

/// What became of all calls that should come through.
#[derive(Debug, Default)]
struct Share {
    calls: usize,
    /// Those that came through.
    connected: usize,
    /// Those of them without a round of recovery.
    at_once: usize,
    /// From the call to the path over its limit, of the pairs that cross their SYNs or open with a shield.
    over_limit: Vec<f64>,
    failed: Vec<String>,
}

impl Share {
    fn of(skew: Duration, loss: f64, every: usize) -> Self {
        let sites: Vec<Site> = SITES.iter().map(|text| text.parse().unwrap()).collect();
        let mut share = Self::default();
        let pairs = sites.iter().flat_map(|a| sites.iter().map(move |b| (a, b)));
        for (a, b) in pairs.step_by(every) {
            if direct_path_possible(a, b, Transport::Tcp) == Prospect::Certain {
                share.add(a, b, skew, loss);
            }
        }
        share
    }

    fn add(&mut self, a: &Site, b: &Site, skew: Duration, loss: f64) {
        let access = Quality::delay(LINE).with_loss(loss);
        // Equal seeds would lose the same packets of every pair.
        let seed = self.calls as u64 + 1;
        let transport = TransportChoice::Tcp;
        let setup = Setup { access, skew, transport, seed, ..Setup::new(a, b) };
        let outcome = Meeting::new(&setup).call();
        self.calls += 1;
        let Some((report, _)) = outcome.report.as_ref().zip(outcome.callee) else {
            return self.failed.push(format!("{a} calls {b}"));
        };
        self.connected += 1;
        self.at_once += usize::from(tries(report) == 1);
        let (Some(strategy), Some(elapsed)) = (report.strategy, report.elapsed_ms) else { return };
        if matches!(strategy, Strategy::SimultaneousOpen | Strategy::ShieldedOpener) {
            let limit = (setup.limit() + skew).as_secs_f64() * 1e3;
            self.over_limit.push(elapsed / limit);
        }
    }

    fn median(&mut self) -> f64 {
        self.over_limit.sort_by(f64::total_cmp);
        self.over_limit[self.over_limit.len() / 2]
    }
}

#[test]
fn the_share_of_calls_that_come_through() {
    // Every second pair where time is short; `every` 1 gives the figures of the documentation.
    for (skew, loss, every, least) in [
        (Duration::ZERO, 0.0, 1, 1.0),
        (Duration::from_millis(100), 0.0, 2, 1.0),
        (Duration::from_millis(300), 0.0, 2, 1.0),
        (Duration::ZERO, 0.05, 5, 0.93),
    ] {
        let mut share = Share::of(skew, loss, every);
        let median = share.median();
        let Share { calls, connected, at_once, failed, .. } = &share;
        println!(
            "{skew:?} late, {loss} lost: {connected} of {calls}, {at_once} without recovery, \
             p50 {median:.2} of the limit"
        );
        assert!(*connected as f64 >= least * *calls as f64, "{skew:?} {loss}: {failed:#?}");
        assert!(loss > 0.0 || !skew.is_zero() || median <= 1.15, "{median}");
    }
}

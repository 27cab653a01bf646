//! Calls over TCP between two sites, as most tests here make them.

use std::time::Duration;

use ntcp_lab::meeting::{Outcome, Setup};
use ntcp_lab::presets::Site;
use ntcp_proto::puncher::Report;
use ntcp_proto::puncher::report::{Evidence, Strategy};
use ntcp_proto::uri::TransportChoice;

/// The site of this description.
pub(crate) fn site(text: &str) -> Site {
    text.parse().unwrap()
}

/// A call over TCP from `a` to `b`.
pub(crate) fn setup(a: &str, b: &str) -> Setup {
    Setup { transport: TransportChoice::Tcp, ..Setup::new(&site(a), &site(b)) }
}

/// The caller's strategy and time, if both sides have the path.
pub(crate) fn met(outcome: &Outcome) -> Option<(Strategy, Duration)> {
    outcome.callee.as_ref()?;
    let report = &outcome.caller.as_ref()?.report;
    Some((report.strategy?, Duration::from_secs_f64(report.elapsed_ms? / 1e3)))
}

/// Which try it was that came through, from 1.
pub(crate) fn tries(report: &Report) -> u8 {
    let won = report.attempts.iter().find(|it| Some(it.remote) == report.remote);
    let number = |it: &Evidence| match it {
        Evidence::Try(number) => Some(*number),
        _ => None,
    };
    won.and_then(|it| it.evidence.iter().find_map(number)).unwrap_or(1)
}

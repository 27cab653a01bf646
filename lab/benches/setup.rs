//! How long two programs behind two NATs take to connect, against the limit.
//!
//! `cargo bench -p ntcp-lab --bench setup -- [--delay MS]… [--runs N] [--transport tcp|udp|any]… [--skew MS] [--loss PERCENT] [PAIR…]`
//! with pairs as `linux-masq+port-restricted`. It runs the real programs beside it in the lab of real
//! kernels: build them in the same profile first (`cargo build --release --workspace --bins`).
//!
//! With a one-way delay of d between any two of the three hosts, a path verified both ways cannot
//! stand before 4 d after the call: 2 d until both peers know of each other, 2 d until each has heard
//! that the other hears it. With `--skew` the callee hears everything that the servers say so much later
//! than the caller: it opens its NAT 2 d and the skew after the call, so that the limit is 3 d and the skew
//! if that is more; with `--loss` each line loses that share of packets. The table gives `elapsed_ms` and `secured_ms` of the caller's report.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use ntcp_lab::kernel::{Access, Lab, User};
use ntcp_lab::trial::Stage;

const PAIRS: [&str; 4] = [
    "linux-masq+linux-masq",
    "port-restricted+port-restricted",
    "masq,in=reset+masq,in=admin",
    "full-cone+linux-random",
];

struct Plan {
    delays: Vec<u64>,
    runs: usize,
    transports: Vec<String>,
    pairs: Vec<String>,
    skew: Duration,
    loss: f64,
}

fn main() -> Result<()> {
    let plan = Plan::from_arguments()?;
    println!(
        "| pair | over | d ms | direct | p50 ms | ÷ limit | p95 ms | ÷ limit | p99 ms | secured p50 |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
    for pair in &plan.pairs {
        for &delay in &plan.delays {
            measure(&plan, pair, delay)?;
        }
    }
    Ok(())
}

fn measure(plan: &Plan, pair: &str, delay: u64) -> Result<()> {
    let (one, other) = pair.split_once('+').with_context(|| format!("`{pair}` is not A+B"))?;
    // Every line takes half, so that a packet takes `delay` from any host to any other.
    let line = Duration::from_millis(delay) / 2;
    let lab = Lab::builder().delay(line).loss(plan.loss).home("a", one).home("b", other).start()?;
    let stage = Stage::set(&lab, "b", User::Root)?;
    stage.skew("b", Access { delay: line, loss: plan.loss, ..Access::default() }, plan.skew)?;
    for transport in &plan.transports {
        let (mut elapsed, mut secured) = (Vec::new(), Vec::new());
        for _ in 0..plan.runs {
            let report = stage.connect("a", transport)?;
            elapsed.extend(report["elapsed_ms"].as_f64());
            secured.extend(report["secured_ms"].as_f64());
        }
        let skew = plan.skew.as_secs_f64() * 1000.0;
        let limit = (4.0 * delay as f64).max(3.0 * delay as f64 + skew);
        let at = |share| percentile(&mut elapsed.clone(), share);
        let (p50, p95, p99) = (at(0.5), at(0.95), at(0.99));
        println!(
            "| {one} × {other} | {transport} | {delay} | {}/{} | {p50:.1} | {:.2} | {p95:.1} | {:.2} | {p99:.1} | {:.1} |",
            elapsed.len(),
            plan.runs,
            p50 / limit,
            p95 / limit,
            percentile(&mut secured, 0.5),
        );
    }
    let overruns = lab.overruns()?;
    if overruns > 0 {
        println!("(the machine was too busy: the lab itself lost {overruns} frames)");
    }
    Ok(())
}

/// NaN if nothing was measured.
fn percentile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let rank = (share * values.len() as f64).ceil() as usize;
    values.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}

impl Plan {
    fn from_arguments() -> Result<Self> {
        let (mut delays, mut transports, mut pairs, mut runs) =
            (Vec::new(), Vec::new(), Vec::new(), 20);
        let (mut skew, mut loss) = (Duration::ZERO, 0.0);
        // Cargo passes `--bench`.
        let mut words = std::env::args().skip(1).filter(|word| word != "--bench");
        while let Some(word) = words.next() {
            let mut value = || words.next().with_context(|| format!("{word} needs a value"));
            match word.as_str() {
                "--delay" => delays.push(value()?.parse().context("--delay takes milliseconds")?),
                "--runs" => runs = value()?.parse().context("--runs takes a number")?,
                "--skew" => {
                    let count = value()?.parse().context("--skew takes milliseconds")?;
                    skew = Duration::from_millis(count);
                }
                "--loss" => {
                    let percent: f64 = value()?.parse().context("--loss takes a percentage")?;
                    loss = percent / 100.0;
                }
                "--transport" => transports.push(value()?),
                other if other.starts_with('-') => bail!("unknown flag {other}"),
                pair => pairs.push(pair.to_owned()),
            }
        }
        let or = |given: Vec<String>, usual: &[&str]| {
            if given.is_empty() { usual.iter().map(ToString::to_string).collect() } else { given }
        };
        let delays = if delays.is_empty() { vec![10, 50, 100] } else { delays };
        Ok(Self {
            delays,
            runs,
            transports: or(transports, &["tcp", "udp"]),
            pairs: or(pairs, &PAIRS),
            skew,
            loss,
        })
    }
}

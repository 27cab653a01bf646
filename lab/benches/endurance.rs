//! Ten thousand connections of one node, and what is left of them.
//!
//! `cargo bench -p ntcp-lab --bench endurance -- [--calls N] [--transport tcp|udp] [--user root|raw|nobody] [A+B]`
//! runs the real programs beside it between real kernels; build them in the same profile first
//! (`cargo build --release --workspace --bins`). It prints descriptors, threads, sockets, rules, namespaces
//! and memory of both programs before and after. Memory is compared in the middle as well: what grows in
//! the first half only is no leak.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use ntcp_lab::endurance::{Endurance, Holdings};
use ntcp_lab::kernel::{Lab, User};

/// Enough for every buffer that is kept to have been made.
const WARM_UP: usize = 200;

struct Plan {
    calls: usize,
    transport: String,
    user: User,
    pair: String,
}

fn main() -> Result<()> {
    let plan = Plan::from_arguments()?;
    let (one, other) = plan.pair.split_once('+').context("a pair is written A+B")?;
    let lab = Lab::builder().home("a", one).home("b", other).start()?;
    let endurance = Endurance::start(&lab, &plan.transport, plan.user)?;
    endurance.connect(WARM_UP)?;
    // Nothing is held yet that settling could wait for, but what the warm-up left.
    std::thread::sleep(Duration::from_secs(2));
    let before = endurance.holdings()?;
    let began = Instant::now();
    let mut taken = endurance.connect(plan.calls / 2)?;
    let middle = endurance.holdings()?;
    taken.extend(endurance.connect(plan.calls - plan.calls / 2)?);
    let took = began.elapsed();
    let after = endurance.settle(&before)?;
    taken.sort();
    let at = |percent: usize| taken[(taken.len() * percent / 100).min(taken.len() - 1)];
    println!(
        "{} connections over {} between {one} and {other} in {took:.1?}; word back after p50 {:.1?}, p99 {:.1?}",
        taken.len(),
        plan.transport,
        at(50),
        at(99),
    );
    println!("| held | caller before | after | callee before | after |\n|---|---|---|---|---|");
    for name in before[0].counts.keys() {
        let of = |it: &Holdings| it.counts[name];
        let [a, b] = [0, 1].map(|side| format!("{} | {}", of(&before[side]), of(&after[side])));
        println!("| {name} | {a} | {b} |");
    }
    let of = |side: usize| {
        [&before, &middle, &after].map(|it| it[side].resident_kib.to_string()).join(", ")
    };
    println!("resident KiB before, in the middle, after: caller {}; callee {}", of(0), of(1));
    for (side, name) in ["caller", "callee"].into_iter().enumerate() {
        let more = after[side].beyond(&before[side]);
        ensure!(more.is_empty(), "the {name} holds more than before: {more:?}");
    }
    Ok(())
}

impl Plan {
    fn from_arguments() -> Result<Self> {
        let mut plan = Self {
            calls: 10_000,
            transport: "tcp".into(),
            user: User::Nobody,
            pair: "linux-masq+port-restricted".into(),
        };
        // Cargo passes `--bench`.
        let mut words = std::env::args().skip(1).filter(|word| word != "--bench");
        while let Some(word) = words.next() {
            let mut value = || words.next().with_context(|| format!("{word} needs a value"));
            match word.as_str() {
                "--calls" => plan.calls = value()?.parse().context("--calls takes a number")?,
                "--transport" => plan.transport = value()?,
                "--user" => plan.user = value()?.parse().map_err(anyhow::Error::msg)?,
                other if other.starts_with('-') => bail!("unknown flag {other}"),
                pair => plan.pair = pair.to_owned(),
            }
        }
        ensure!(plan.calls > 0, "--calls takes a number above 0");
        Ok(plan)
    }
}

//! Three brokers with one database, and what becomes of their peers when it is slow, restarted or wiped under load.

use std::time::Duration;

use anyhow::{Result, ensure};
use rustix::process::Signal;

use super::crowd::Manner;
use super::generator::{Generator, Load, What};
use super::plan::{OURS, REGISTERING, SERVERS};
use super::process::{Broker, Database, Process};
use super::sockets::Over;
use super::tally::{Kind, Tally};

const BROKERS: usize = 3;
/// Peers at first, and who come in each phase.
const PEERS: usize = 3_000;
const NEWCOMERS: usize = 300;
/// Requests and calls a second.
const RATE: f64 = 3_000.0;
const CALLS: f64 = 100.0;
const PHASE: Duration = Duration::from_secs(3);
/// How many seconds names may be missing after the last fault.
const RECOVERY: usize = 10;

/// Runs all faults; an acknowledged registration that is lost, or a name that is not found in the end, is an error.
pub(crate) fn run(manner: Manner) -> Result<()> {
    let mut database = Database::start(OURS)?;
    let start = |_| Broker::start(PEERS * 2, Over::Udp, Some(&database), SERVERS);
    let brokers = (0..BROKERS).map(start).collect::<Result<Vec<_>>>()?;
    let generator =
        Generator::new(manner, Over::Udp, brokers.iter().map(|it| it.address).collect())?;
    let mut run = Run { generator, brokers: &brokers, peers: 0 };
    println!("{BROKERS} brokers, {manner:?} peers, {RATE} requests and {CALLS} calls a second\n");
    println!(
        "| phase of {PHASE:?} | peers | came | refreshed | found | called | not found | no answer |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    run.come(PEERS)?;
    run.phase("calm")?;
    database.process.signal(Signal::STOP)?;
    run.phase("database stopped")?;
    database.process.signal(Signal::CONT)?;
    run.phase("database goes on")?;
    database.restart()?;
    run.phase("database killed, started empty")?;
    database.wipe()?;
    run.phase("database wiped")?;
    run.recover()?;
    let all = run.load(What::Each, None)?;
    let (missing, lost, refused) = (all.missing, all.lost, all.refused);
    ensure!(
        missing + lost + refused == 0,
        "in the end {missing} names are not found, {lost} requests not answered, {refused} refused"
    );
    println!(
        "\nall {} registrations that were acknowledged are there, and found from another broker; the database has {} keys",
        run.peers,
        database.keys()?
    );
    Ok(())
}

struct Run<'a> {
    generator: Generator,
    brokers: &'a [Broker],
    peers: usize,
}

impl Run<'_> {
    fn load(&mut self, what: What, rate: Option<f64>) -> Result<Tally> {
        let ends = matches!(what, What::Register | What::Each);
        let lasts = if ends { REGISTERING } else { PHASE };
        let servers: Vec<&Process> = self.brokers.iter().map(|it| &it.process).collect();
        self.generator.run(&Load { what, window: 64, rate, lasts }, &servers, None)
    }

    fn come(&mut self, count: usize) -> Result<Tally> {
        self.peers += count;
        self.generator.grow(self.peers);
        self.load(What::Register, None)
    }

    /// Some come, and everything goes on.
    fn phase(&mut self, name: &str) -> Result<()> {
        let came = self.come(NEWCOMERS)?;
        let tally = self.load(What::Everything { calls: CALLS }, Some(RATE))?;
        println!(
            "| {name} | {} | {} | {} | {} | {} | {} | {} |",
            self.peers,
            came.count(Kind::Register),
            tally.count(Kind::Refresh),
            tally.count(Kind::Lookup),
            tally.count(Kind::Connect),
            tally.missing,
            tally.lost + came.lost,
        );
        Ok(())
    }

    /// Goes on until every name is found.
    fn recover(&mut self) -> Result<()> {
        for second in 1..=RECOVERY {
            let what = What::Everything { calls: CALLS };
            let servers: Vec<&Process> = self.brokers.iter().map(|it| &it.process).collect();
            let load = Load { what, window: 64, rate: Some(RATE), lasts: Duration::from_secs(1) };
            let tally = self.generator.run(&load, &servers, None)?;
            println!(
                "second {second} after: {} not found, {} without answer",
                tally.missing, tally.lost
            );
            if tally.missing + tally.lost == 0 {
                return Ok(());
            }
        }
        Ok(())
    }
}

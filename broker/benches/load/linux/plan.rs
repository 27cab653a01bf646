//! What is measured, in which order, and what is printed.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use super::crowd::Manner;
use super::faults;
use super::generator::{Generator, Load, What};
use super::process::{Broker, Database, Echo, Process, prefer, prefer_session};
use super::sockets::Over;
use super::tally::{Kind, Tally, median, per};

/// The measured processes have this processor, the generator the other one, the database that one too.
pub(crate) const SERVERS: usize = 0;
pub(crate) const OURS: usize = 1;
/// Nobody needs as long to register.
pub(crate) const REGISTERING: Duration = Duration::from_secs(900);
/// Calls a second beside everything else.
const CALLS: f64 = 500.0;

pub(crate) struct Plan {
    peers: Vec<usize>,
    manner: Manner,
    over: Over,
    redis: bool,
    faults: bool,
    lasts: Duration,
    rounds: usize,
    window: usize,
}

impl Plan {
    pub(crate) fn parse(words: &[String]) -> Result<Self> {
        let mut plan = Self {
            peers: vec![10_000, 100_000],
            manner: Manner::Sealed,
            over: Over::Udp,
            redis: false,
            faults: false,
            lasts: Duration::from_secs(3),
            rounds: 3,
            window: 256,
        };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let mut value = || words.next().with_context(|| format!("{word} needs a value"));
            match word.as_str() {
                "--peers" => {
                    let sizes = value()?.split(',').map(|it| it.replace('_', "").parse::<usize>());
                    plan.peers =
                        sizes.collect::<Result<_, _>>().context("--peers takes numbers")?;
                }
                "--plain" => plan.manner = Manner::Plain,
                "--tcp" => plan.over = Over::Tcp,
                "--redis" => plan.redis = true,
                "--faults" => plan.faults = true,
                "--seconds" => plan.lasts = Duration::from_secs_f64(value()?.parse()?),
                "--rounds" => plan.rounds = value()?.parse()?,
                "--window" => plan.window = value()?.parse()?,
                other => bail!("{other} is not known here; see the top of the bench"),
            }
        }
        Ok(plan)
    }

    pub(crate) fn run(&self) -> Result<()> {
        prefer_session();
        prefer(None, OURS)?;
        if self.faults {
            return faults::run(self.manner);
        }
        let most = self.peers.iter().copied().max().unwrap_or(0);
        let database = self.redis.then(|| Database::start(OURS)).transpose()?;
        let echo = Echo::start(SERVERS)?;
        let count = if self.redis { 2 } else { 1 };
        let start = |_| Broker::start(most + count, self.over, database.as_ref(), SERVERS);
        let brokers = (0..count).map(start).collect::<Result<Vec<_>>>()?;
        let addresses = brokers.iter().map(|it| it.address).collect();
        let mut stage = Stage {
            plan: self,
            generator: Generator::new(self.manner, self.over, addresses)?,
            brokers: brokers.iter().map(|it| &it.process).collect(),
            database: database.as_ref(),
            echo: &echo,
        };
        let beside = if self.redis { ", with Redis" } else { "" };
        println!("{:?} peers over {:?}, {count} broker(s){beside}", self.manner, self.over);
        let empty = stage.empty()?;
        self.peers.iter().try_for_each(|size| stage.measure(*size, empty))
    }
}

/// Who takes part.
struct Stage<'a> {
    plan: &'a Plan,
    generator: Generator,
    brokers: Vec<&'a Process>,
    database: Option<&'a Database>,
    echo: &'a Echo,
}

impl Stage<'_> {
    /// The brokers' memory with one peer, so that everything has been used once.
    fn empty(&mut self) -> Result<u64> {
        self.generator.grow(self.brokers.len());
        self.load(What::Register, None, REGISTERING)?;
        self.resident()
    }

    fn resident(&self) -> Result<u64> {
        self.brokers.iter().map(|it| it.resident()).sum()
    }

    fn load(&mut self, what: What, rate: Option<f64>, lasts: Duration) -> Result<Tally> {
        let load = Load { what, window: self.plan.window, rate, lasts };
        let database = self.database.map(|it| &it.process);
        self.generator.run(&load, &self.brokers, database)
    }

    fn echo(&mut self) -> Result<Tally> {
        let what = What::Echo(self.echo.address);
        let load = Load { what, window: self.plan.window, rate: None, lasts: self.plan.lasts };
        self.generator.run(&load, &[&self.echo.process], None)
    }

    /// Grows the brokers to `size` peers and measures everything with them.
    fn measure(&mut self, size: usize, empty: u64) -> Result<()> {
        self.generator.grow(size);
        let registered = self.load(What::Register, None, REGISTERING)?;
        self.load(What::Settle, None, REGISTERING)?;
        println!("\n## {size} peers\n");
        println!(
            "| | a second | of a core | broker's \u{b5}s each | ratio to the echo | database's \u{b5}s each | lost, refused, missing |"
        );
        println!("|---|---|---|---|---|---|---|");
        let mut bounds = Vec::new();
        let mut asked = [(Kind::Refresh, What::Refresh), (Kind::Lookup, What::Lookup)]
            .map(|(kind, what)| (kind, what, Vec::new(), Vec::new(), Tally::default()));
        for _ in 0..self.plan.rounds {
            let echo = self.echo()?;
            let bound = per(echo.cpu, echo.count(Kind::Echo));
            bounds.push(bound);
            for (_, what, micros, ratios, last) in &mut asked {
                *last = self.load(*what, None, self.plan.lasts)?;
                micros.push(last.micros());
                ratios.push(last.micros() / bound);
            }
        }
        let bound = median(bounds);
        println!("| echo | | | {bound:.2} | 1.00 | | |");
        let micros = per(registered.cpu, registered.count(Kind::Register));
        row(Kind::Register, &registered, (micros, micros / bound));
        for (kind, _, micros, ratios, last) in &asked {
            row(*kind, last, (median(micros.clone()), median(ratios.clone())));
        }
        let dearest = asked.iter().map(|it| median(it.2.clone())).fold(0.0, f64::max);
        for _ in 0..self.plan.rounds {
            self.half_load(1e6 / dearest / 2.0)?;
        }
        self.tell_memory(size, empty)
    }

    /// Half of what one processor could do, and calls beside it: who waits how long.
    fn half_load(&mut self, rate: f64) -> Result<()> {
        let mut tally =
            self.load(What::Everything { calls: CALLS }, Some(rate), self.plan.lasts)?;
        println!(
            "\nAt half load ({:.0} requests a second, {:.2} of a core, {} lost, {} refused), milliseconds:\n",
            tally.a_second(),
            tally.share(),
            tally.lost,
            tally.refused
        );
        println!("| | answers | p50 | p99 | p99.9 |\n|---|---|---|---|---|");
        for kind in [Kind::Refresh, Kind::Lookup, Kind::Connect, Kind::Invite] {
            let [p50, p99, p999] = [500, 990, 999].map(|it| tally.within(kind, it));
            println!("| {kind} | {} | {p50:.3} | {p99:.3} | {p999:.3} |", tally.count(kind));
        }
        Ok(())
    }

    fn tell_memory(&self, size: usize, empty: u64) -> Result<()> {
        let resident = self.resident()?;
        println!(
            "\nresident: {:.1} MiB for {size} peers, {:.0} bytes each; without, {:.1} MiB",
            resident as f64 / (1 << 20) as f64,
            resident.saturating_sub(empty) as f64 / size as f64,
            empty as f64 / (1 << 20) as f64,
        );
        if let Some(database) = self.database {
            println!(
                "database: {} keys, {:.0} bytes each",
                database.keys()?,
                database.number("used_memory")? as f64 / database.keys()?.max(1) as f64,
            );
        }
        Ok(())
    }
}

fn row(kind: Kind, tally: &Tally, (micros, ratio): (f64, f64)) {
    let database = per(tally.database, tally.requests());
    println!(
        "| {kind} | {:.0} | {:.2} | {micros:.2} | {ratio:.2} | {database:.2} | {}, {}, {} |",
        tally.a_second(),
        tally.share(),
        tally.lost,
        tally.refused,
        tally.missing,
    );
    if let Some(why) = &tally.first_refused {
        println!("(refused: {why})");
    }
}

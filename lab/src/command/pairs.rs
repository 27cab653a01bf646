//! `ntcp-lab pairs`: the real programs between real kernels, pair after pair.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ntcp_lab::kernel::User;
use ntcp_lab::oracle::{self, Prospect};
use ntcp_lab::pairs::{Late, Pair, Place, Row, Series, Spread, listed};
use ntcp_lab::presets::{SITES, Site};
use ntcp_proto::candidate::Transport;

use super::{Failure, share};

/// Call from home to home with the real programs between real kernels, and show which pairs connect,
/// how, and how soon.
///
/// The programs are those beside this one. A row is one pair, transport, delay, skew and loss; `first`
/// are the calls that connected at the first try. Times are those of the caller's report, and the limit
/// is what no implementation can be below. Status 1 if a pair connected less often than it has to.
#[derive(Debug, clap::Args)]
pub(super) struct ShowPairs {
    /// Pairs such as linux-masq+port-restricted; a list of those that matter if none is named
    #[arg(value_name = "A+B", value_parser = pair)]
    pairs: Vec<(String, String)>,
    /// Every two of the lab's NATs instead, of which the oracle says that they connect
    #[arg(long, conflicts_with = "pairs")]
    matrix: bool,
    /// Only pairs whose names contain this word; repeatable
    #[arg(long, value_name = "WORD")]
    only: Vec<String>,
    /// One-way delay between any two hosts; repeatable
    #[arg(long, value_name = "TIME", default_value = "20ms", value_parser = humantime::parse_duration)]
    delay: Vec<Duration>,
    /// How much later one side hears what the servers say; repeatable
    #[arg(long, value_name = "TIME", default_value = "0ms", value_parser = humantime::parse_duration)]
    skew: Vec<Duration>,
    /// The side that is late is the caller, not the callee
    #[arg(long)]
    late_caller: bool,
    /// Share of packets that each line loses; repeatable
    #[arg(long, value_name = "SHARE", default_value = "0", value_parser = share)]
    loss: Vec<f64>,
    /// tcp, udp or any; repeatable; what the pair is there for if not given
    #[arg(long, value_name = "NAME", value_parser = transport)]
    transport: Vec<&'static str>,
    /// Calls for each row
    #[arg(long, value_name = "NUMBER", default_value_t = 10)]
    calls: usize,
    /// One node makes all calls of a row, after it has run for so long: it knows its NAT then, and plans
    /// accordingly. Otherwise each call is a program of its own, which calls as soon as it can
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    settled: Option<Duration>,
    /// As whom the caller and the callee of named pairs run: root, raw, admin or nobody
    #[arg(long, value_name = "A,B", default_value = "nobody,nobody", value_parser = users)]
    users: Users,
    /// Where the homes of named pairs lie: apart, one-range, one-home, one-carrier or ipv6
    #[arg(long, value_name = "PLACE", default_value = "apart")]
    place: Place,
    /// The NAT of the carrier of named pairs that have one in common
    #[arg(long, value_name = "NAT", default_value = "hairpin-cone")]
    carrier: String,
    /// Nodes keep to what they may begin in a minute by default, so that some pairs bear few calls in it
    #[arg(long)]
    metered: bool,
    /// The broker of named pairs answers SYNs in the peers' names
    #[arg(long)]
    spoof: bool,
    /// Laboratories at a time; times are worth something with one only
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    jobs: usize,
    /// Seed of everything random in the lab's own routers
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print a line of JSON for each row
    #[arg(long)]
    json: bool,
    /// Write the reports of calls that failed into this folder
    #[arg(long, value_name = "FOLDER")]
    failures: Option<PathBuf>,
}

/// As whom the two programs run.
#[derive(Debug, Clone, Copy)]
struct Users([User; 2]);

fn pair(text: &str) -> Result<(String, String), String> {
    let (a, b) = text.split_once('+').ok_or_else(|| format!("`{text}` is not A+B"))?;
    for site in [a, b] {
        site.parse::<Site>().map_err(|error| error.to_string())?;
    }
    Ok((a.into(), b.into()))
}

fn transport(text: &str) -> Result<&'static str, String> {
    let known = ["tcp", "udp", "any"].into_iter().find(|name| *name == text);
    known.ok_or_else(|| format!("`{text}` is none of tcp, udp, any"))
}

fn users(text: &str) -> Result<Users, String> {
    let (a, b) = text.split_once(',').ok_or_else(|| format!("`{text}` is not A,B"))?;
    Ok(Users([a.parse()?, b.parse()?]))
}

/// What all rows together say.
#[derive(Debug, Default)]
struct Total {
    calls: usize,
    connected: usize,
    first: usize,
    overruns: u64,
    missed: Vec<String>,
}

impl ShowPairs {
    pub(super) fn run(&self) -> Result<ExitCode, Failure> {
        let pairs = self.chosen();
        if !self.json {
            let mut out = std::io::stdout().lock();
            writeln!(
                out,
                "| pair | as | over | d ms | skew ms | loss | direct | first | by | limit ms | p50 ms | ÷ limit | p95 ms | ÷ limit | secured p50 |"
            )?;
            writeln!(out, "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|")?;
        }
        let total = Mutex::new((Total::default(), 0));
        let next = AtomicUsize::new(0);
        let broken = Mutex::new(None);
        std::thread::scope(|scope| {
            for _ in 0..self.jobs.max(1) {
                scope.spawn(|| {
                    while let Some(pair) = pairs.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let outcome = self.series().run(pair, |row| {
                            if let Ok(mut total) = total.lock() {
                                let (total, number) = &mut *total;
                                *number += 1;
                                if let Err(error) = self.show(&row, *number, total)
                                    && let Ok(mut broken) = broken.lock()
                                {
                                    *broken = Some(error);
                                }
                            }
                        });
                        if let (Err(error), Ok(mut total)) = (outcome, total.lock()) {
                            total.0.missed.push(format!("{pair}: {error:#}"));
                        }
                    }
                });
            }
        });
        if let Ok(Some(error)) = broken.into_inner() {
            return Err(error);
        }
        let (total, _) = total.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        self.conclude(&total)
    }

    fn series(&self) -> Series {
        let lines =
            self.delay.iter().flat_map(|delay| self.loss.iter().map(|loss| (*delay, *loss)));
        Series {
            lines: lines.collect(),
            skews: self.skew.clone(),
            late: if self.late_caller { Late::Caller } else { Late::Callee },
            transports: self.transport.clone(),
            calls: self.calls,
            settled: self.settled,
            metered: self.metered,
            seed: self.seed,
        }
    }

    fn chosen(&self) -> Vec<Pair> {
        let named = self.pairs.iter().map(|(a, b)| Pair {
            users: self.users.0,
            place: self.place,
            carrier: self.carrier.clone(),
            spoof: self.spoof,
            ..Pair::new(a, b)
        });
        let all = if self.matrix {
            foretold(self.users.0)
        } else if self.pairs.is_empty() {
            listed()
        } else {
            named.collect()
        };
        let wanted = |pair: &Pair| {
            let name = format!("{}+{} {pair}", pair.a, pair.b);
            self.only.is_empty() || self.only.iter().any(|word| name.contains(word.as_str()))
        };
        all.into_iter().filter(wanted).collect()
    }

    fn show(&self, row: &Row, number: usize, total: &mut Total) -> Result<(), Failure> {
        total.calls += row.calls;
        total.connected += row.connected;
        total.first += row.first;
        total.overruns += row.overruns;
        if !row.suffices() {
            let Row { pair, transport, delay_ms, skew_ms, loss, connected, calls, .. } = row;
            total.missed.push(format!(
                "{pair} as {} over {transport}, {delay_ms:?}, {skew_ms:?} late, loss {loss}: \
                 {connected} of {calls}; {}",
                row.users.join(" and "),
                row.reasons.first().map_or("", String::as_str)
            ));
        }
        self.keep(row, number)?;
        let mut out = std::io::stdout().lock();
        if self.json {
            let text = serde_json::to_string(row).map_err(std::io::Error::other)?;
            writeln!(out, "{text}")?;
        } else {
            writeln!(out, "{}", line(row))?;
        }
        Ok(())
    }

    /// Writes the reports of calls that failed.
    fn keep(&self, row: &Row, number: usize) -> Result<(), Failure> {
        let Some(folder) = &self.failures else { return Ok(()) };
        std::fs::create_dir_all(folder)?;
        for (at, report) in row.failures.iter().enumerate() {
            let text = format!("{}\n{report:#}\n", row.pair);
            std::fs::write(folder.join(format!("{number}-{at}.txt")), text)?;
        }
        Ok(())
    }

    fn conclude(&self, total: &Total) -> Result<ExitCode, Failure> {
        let share = |of: usize, all: usize| 100.0 * of as f64 / all.max(1) as f64;
        eprintln!(
            "{} of {} calls connected directly ({:.2} %), {:.2} % of them at the first try",
            total.connected,
            total.calls,
            share(total.connected, total.calls),
            share(total.first, total.connected),
        );
        if total.overruns > 0 {
            eprintln!("the machine was too busy: the lab itself lost {} frames", total.overruns);
        }
        for missed in &total.missed {
            eprintln!("too few: {missed}");
        }
        Ok(if total.missed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

/// Every two of the lab's sites, over what the oracle is sure of.
fn foretold(users: [User; 2]) -> Vec<Pair> {
    let sites: Vec<Site> = SITES.iter().filter_map(|text| text.parse().ok()).collect();
    let mut pairs = Vec::new();
    for (at, a) in sites.iter().enumerate() {
        for b in &sites[at..] {
            let certain =
                |transport| oracle::direct_path_possible(a, b, transport) == Prospect::Certain;
            let over = [("tcp", Transport::Tcp), ("udp", Transport::Udp)];
            let over = over.into_iter().filter(|(_, it)| certain(*it)).map(|(name, _)| name);
            let transports: Vec<_> = over.collect();
            if !transports.is_empty() {
                pairs.push(Pair { users, transports, ..Pair::new(&a.to_string(), &b.to_string()) });
            }
        }
    }
    pairs
}

fn line(row: &Row) -> String {
    let limit = row.limit_ms.as_secs_f64() * 1e3;
    let Spread { p50, p95, .. } = row.elapsed_ms;
    let number = |value: Option<f64>| value.map_or("-".into(), |it| format!("{it:.1}"));
    let ratio = |value: Option<f64>| value.map_or("-".into(), |it| format!("{:.2}", it / limit));
    let by: Vec<_> = row.strategies.iter().map(|(name, count)| format!("{name} {count}")).collect();
    format!(
        "| {} | {}{} | {} | {} | {} | {} % | {}/{} | {} | {} | {limit:.0} | {} | {} | {} | {} | {} |",
        row.pair,
        row.users.join("/"),
        if row.spoof { ", forging broker" } else { "" },
        row.transport,
        row.delay_ms.as_millis(),
        row.skew_ms.as_millis(),
        row.loss * 100.0,
        row.connected,
        row.calls,
        row.first,
        by.join(", "),
        number(p50),
        ratio(p50),
        number(p95),
        ratio(p95),
        number(row.secured_ms.p50),
    )
}

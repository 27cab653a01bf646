//! Every site against every other, over UDP and over TCP, as one table.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ntcp_proto::candidate::Transport;
use ntcp_proto::uri::TransportChoice;

use crate::chart::Chart;
use crate::meeting::{Meeting, Outcome, Setup};
use crate::presets::Site;

/// One pair over both transports.
#[derive(Debug, Clone)]
pub struct Cell {
    /// Over UDP alone: until the path was verified both ways, after the call.
    pub udp: Option<Duration>,
    /// Over TCP alone, likewise.
    pub tcp: Option<Duration>,
}

impl Cell {
    /// The time over `transport`.
    pub fn time(&self, transport: Transport) -> Option<Duration> {
        match transport {
            Transport::Tcp => self.tcp,
            Transport::Udp => self.udp,
        }
    }
}

/// All pairs.
#[derive(Debug, Clone)]
pub struct Matrix {
    sites: Vec<Site>,
    one_way: Duration,
    rows: Vec<Vec<Cell>>,
}

impl Matrix {
    /// Lets every site call every other; `change` sets what all calls have in common.
    pub fn run(sites: &[Site], change: impl Fn(&mut Setup) + Sync) -> Self {
        let mut template = Setup::new(&sites[0], &sites[0]);
        change(&mut template);
        let row = |a: &Site| sites.iter().map(|b| Self::cell(a, b, &template)).collect();
        Self {
            sites: sites.to_vec(),
            one_way: 2 * template.access.delay,
            rows: in_parallel(sites, row),
        }
    }

    fn cell(a: &Site, b: &Site, template: &Setup) -> Cell {
        let time = |transport| {
            let setup = Setup { a: a.clone(), b: b.clone(), transport, ..template.clone() };
            verified(&Meeting::new(&setup).call())
        };
        Cell { udp: time(TransportChoice::Udp), tcp: time(TransportChoice::Tcp) }
    }

    /// The pairs with their cells, caller first.
    pub fn cells(&self) -> impl Iterator<Item = (&Site, &Site, &Cell)> {
        self.sites
            .iter()
            .zip(&self.rows)
            .flat_map(move |(a, row)| self.sites.iter().zip(row).map(move |(b, cell)| (a, b, cell)))
    }
}

/// `work` on every item, as many at a time as there are processors; each item is a world of its own.
pub(crate) fn in_parallel<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let claim = || {
        let index = next.fetch_add(1, Ordering::Relaxed);
        items.get(index).map(|item| (index, work(item)))
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut done: Vec<(usize, R)> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|_| scope.spawn(|| std::iter::from_fn(claim).collect::<Vec<_>>()))
            .collect();
        let join = |worker: std::thread::ScopedJoinHandle<'_, _>| match worker.join() {
            Ok(results) => results,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        workers.into_iter().flat_map(join).collect()
    });
    done.sort_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, result)| result).collect()
}

/// When the path stood, as the caller reports it; nothing unless the callee has it too.
fn verified(outcome: &Outcome) -> Option<Duration> {
    outcome.callee.as_ref()?;
    let elapsed_ms = outcome.caller.as_ref()?.report.elapsed_ms?;
    Some(Duration::from_secs_f64(elapsed_ms / 1000.0))
}

/// `8/10` means: over UDP eight one-way delays after the call, over TCP ten; a dot is no path.
impl fmt::Display for Matrix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const NAME: usize = 27;
        const WIDTH: usize = 6;
        write!(f, "{:NAME$} ", "caller \\ callee")?;
        let numbers: String =
            (1..=self.sites.len()).map(|number| format!("{number:<WIDTH$}")).collect();
        writeln!(f, "{}", numbers.trim_end())?;
        let rows = self.sites.iter().zip(&self.rows).zip(1..);
        for ((site, row), number) in rows {
            let mut line = format!("{:NAME$} ", format!("{number:2} {site}"));
            for cell in row {
                let [udp, tcp] = [cell.udp, cell.tcp].map(|time| self.in_delays(time));
                line += &format!("{:<WIDTH$}", format!("{udp}/{tcp}"));
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

impl Matrix {
    /// The calls over one transport as a chart.
    pub fn chart(&self, transport: Transport) -> Chart {
        let (name, about) = match transport {
            Transport::Udp => {
                ("call-udp", "ntcp calls over UDP alone, from the call to a verified path")
            }
            Transport::Tcp => {
                ("call-tcp", "ntcp calls over TCP alone, from the call to a verified path")
            }
        };
        let times = |row: &Vec<Cell>| row.iter().map(|cell| cell.time(transport)).collect();
        let rows = self.rows.iter().map(times).collect();
        Chart::new([name, about, "nothing but a broker"], &self.sites, rows, self.one_way)
    }

    fn in_delays(&self, time: Option<Duration>) -> String {
        let Some(time) = time else { return ".".into() };
        let delays = time.as_secs_f64() / self.one_way.as_secs_f64();
        let rounded = (delays * 10.0).round() / 10.0;
        format!("{rounded}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::{Prospect, direct_path_possible};
    use crate::presets::SITES;

    /// What is foretold and did not come, or came and was not foretold.
    fn disagreements(matrix: &Matrix) -> Vec<String> {
        let mut wrong = Vec::new();
        for (a, b, cell) in matrix.cells() {
            for transport in [Transport::Udp, Transport::Tcp] {
                let came = cell.time(transport).is_some();
                let foretold = direct_path_possible(a, b, transport);
                if foretold == if came { Prospect::Impossible } else { Prospect::Certain } {
                    wrong.push(format!("{a} calls {b} over {transport:?}: {foretold:?}"));
                }
            }
        }
        wrong
    }

    #[test]
    fn every_site_calls_every_other_and_comes_as_far_as_the_oracle_says() {
        let sites: Vec<Site> = SITES.iter().map(|text| text.parse().unwrap()).collect();
        let matrix = Matrix::run(&sites, |setup| setup.patience = Duration::from_secs(3));
        let wrong = disagreements(&matrix);
        assert!(wrong.is_empty(), "{wrong:#?}");
        insta::assert_snapshot!("matrix", matrix);
    }

    #[test]
    fn to_know_what_the_nats_do_costs_no_pair_its_path() {
        let sites: Vec<Site> = SITES.iter().map(|text| text.parse().unwrap()).collect();
        let matrix = Matrix::run(&sites, |setup| {
            setup.patience = Duration::from_secs(6);
            setup.informed = true;
        });
        let wrong = disagreements(&matrix);
        assert!(wrong.is_empty(), "{wrong:#?}");
    }
}

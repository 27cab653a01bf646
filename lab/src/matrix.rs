//! Every site against every other, over UDP and over TCP, as one table.

use std::fmt;
use std::time::Duration;

use ntcp_proto::candidate::Transport;
use ntcp_proto::uri::TransportChoice;

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
    pub fn run(sites: &[Site], change: impl Fn(&mut Setup)) -> Self {
        let mut one_way = Duration::ZERO;
        let mut cell = |a: &Site, b: &Site| {
            let mut setup = Setup::new(a, b);
            change(&mut setup);
            one_way = 2 * setup.access.delay;
            let mut time = |transport| {
                setup.transport = transport;
                verified(&Meeting::new(&setup).call(transport))
            };
            Cell { udp: time(TransportChoice::Udp), tcp: time(TransportChoice::Tcp) }
        };
        let rows = sites.iter().map(|a| sites.iter().map(|b| cell(a, b)).collect()).collect();
        Self { sites: sites.to_vec(), one_way, rows }
    }

    /// The pairs with their cells, caller first.
    pub fn cells(&self) -> impl Iterator<Item = (&Site, &Site, &Cell)> {
        self.sites.iter().zip(&self.rows).flat_map(move |(a, row)| {
            self.sites.iter().zip(row).map(move |(b, cell)| (a, b, cell))
        })
    }
}

/// The later of both sides' claims.
fn verified(outcome: &Outcome) -> Option<Duration> {
    outcome.elapsed?;
    let ms = |report: &ntcp_proto::puncher::Report| report.elapsed_ms;
    let caller = outcome.caller.as_ref().and_then(|it| ms(&it.report))?;
    Some(Duration::from_secs_f64(caller / 1000.0))
}

/// `8/10` means: over UDP eight one-way delays after the call, over TCP ten; a dot is no path.
impl fmt::Display for Matrix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const NAME: usize = 26;
        const WIDTH: usize = 9;
        write!(f, "{:NAME$}", "caller \\ callee")?;
        for number in 1..=self.sites.len() {
            write!(f, "{number:<WIDTH$}")?;
        }
        writeln!(f)?;
        let rows = self.sites.iter().zip(&self.rows).zip(1..);
        for ((site, row), number) in rows {
            let mut line = format!("{:NAME$}", format!("{number:2} {site}"));
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

    #[test]
    fn zz() {
        let sites: Vec<Site> = SITES.iter().map(|text| text.parse().unwrap()).collect();
        let matrix = Matrix::run(&sites, |_| {});
        println!("{matrix}");
        let mut wrong = Vec::new();
        for (a, b, cell) in matrix.cells() {
            for transport in [Transport::Udp, Transport::Tcp] {
                let foretold = direct_path_possible(a, b, transport);
                let came = cell.time(transport).is_some();
                let agrees = match foretold {
                    Prospect::Certain => came,
                    Prospect::Chance => true,
                    Prospect::Impossible => !came,
                };
                if !agrees {
                    wrong.push(format!("{a} calls {b}, {transport:?}: {foretold:?}, came {came}"));
                }
            }
        }
        println!("{wrong:#?}");
    }
}

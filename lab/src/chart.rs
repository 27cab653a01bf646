//! Every technique between every two sites: as tables for terminals, and as a page of heat maps.

use std::fmt;
use std::time::Duration;

use crate::matrix::in_parallel;
use crate::presets::Site;
use crate::technique::Technique;
use crate::town::ONE_WAY;

mod page;

/// The sites that techniques tell apart: kinds of mapping and filter, answers to strangers, and each
/// habit of TCP that some technique depends on.
pub const SITES: &[&str] = &[
    "public",
    "firewall",
    "firewall,invalid=leak",
    "full-cone",
    "restricted",
    "port-restricted",
    "linux-masq",
    "masq,in=reset",
    "masq,in=admin",
    "masq,in=open",
    "masq,syn=strict",
    "masq,loose=no",
    "masq,window=liberal",
    "masq,window=off",
    "masq,isn=rewrite",
    "masq,ttlx=kill",
    "masq,udp=block",
    "symmetric-seq",
    "linux-random",
    "masq@port-restricted",
    "masq@linux-random",
];

/// Something that is tried between every two sites.
#[derive(Debug, Clone)]
pub struct Chart {
    /// Its name.
    pub name: String,
    /// What it is, for people.
    pub about: String,
    /// What it needs, for people.
    pub needs: String,
    sites: Vec<Site>,
    rows: Vec<Vec<Option<Duration>>>,
    one_way: Duration,
}

impl Chart {
    /// Lets every pair of sites try a technique, the column beginning `skew` later.
    pub fn of_technique(technique: Technique, sites: &[Site], skew: Duration) -> Self {
        let row =
            |a: &Site| sites.iter().map(|b| technique.attempt(a, b, skew)).collect::<Vec<_>>();
        Self {
            name: technique.name().into(),
            about: technique.about().into(),
            needs: technique.needs().into(),
            sites: sites.to_vec(),
            rows: in_parallel(sites, row),
            one_way: ONE_WAY,
        }
    }

    /// A chart of results known from elsewhere, row by row.
    pub fn new(
        [name, about, needs]: [&str; 3],
        sites: &[Site],
        rows: Vec<Vec<Option<Duration>>>,
        one_way: Duration,
    ) -> Self {
        let [name, about, needs] = [name, about, needs].map(String::from);
        Self { name, about, needs, sites: sites.to_vec(), rows, one_way }
    }

    /// The pairs with the time each took.
    pub fn cells(&self) -> impl Iterator<Item = (&Site, &Site, Option<Duration>)> {
        self.sites
            .iter()
            .zip(&self.rows)
            .flat_map(move |(a, row)| self.sites.iter().zip(row).map(move |(b, it)| (a, b, *it)))
    }

    /// A time in one-way delays, to a tenth.
    fn in_delays(&self, time: Duration) -> f64 {
        (time.as_secs_f64() / self.one_way.as_secs_f64() * 10.0).round() / 10.0
    }

    /// A page that shows all of these charts, in one file without any other.
    pub fn page(charts: &[Self]) -> String {
        page::of(charts)
    }
}

/// A number is the time in one-way delays from the start to the later side's connection; a dot is none.
impl fmt::Display for Chart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const NAME: usize = 24;
        const WIDTH: usize = 5;
        writeln!(f, "{}: {}; needs {}", self.name, self.about, self.needs)?;
        let numbers: String =
            (1..=self.sites.len()).map(|number| format!("{number:<WIDTH$}")).collect();
        writeln!(f, "{:NAME$} {}", "", numbers.trim_end())?;
        for ((site, row), number) in self.sites.iter().zip(&self.rows).zip(1..) {
            let mut line = format!("{:NAME$} ", format!("{number:2} {site}"));
            for cell in row {
                let text = cell.map_or(".".into(), |time| self.in_delays(time).to_string());
                line += &format!("{text:<WIDTH$}");
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::{Prospect, technique_works};

    #[test]
    fn every_technique_comes_as_far_as_the_oracle_says() {
        let sites: Vec<Site> = SITES.iter().map(|text| text.parse().unwrap()).collect();
        let (mut wrong, mut tables) = (Vec::new(), String::new());
        for technique in Technique::ALL {
            let chart = Chart::of_technique(technique, &sites, Duration::ZERO);
            for (a, b, time) in chart.cells() {
                let foretold = technique_works(technique, a, b);
                let came = time.is_some();
                if foretold == if came { Prospect::Impossible } else { Prospect::Certain } {
                    wrong.push(format!("{technique}: {a} × {b}: {foretold:?}"));
                }
            }
            tables += &format!("{chart}\n");
        }
        assert!(wrong.is_empty(), "{} wrong: {wrong:#?}", wrong.len());
        insta::assert_snapshot!("techniques", tables);
    }
}

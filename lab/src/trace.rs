//! What happened to every packet: as a ladder for people, as pcap for programs.

use std::fmt::Write as _;
use std::time::Duration;

use crate::packet::{Packet, Protocol, flag};

/// Names a node of a world in its trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place(pub usize);

/// Names a packet's journey in a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JourneyId(usize);

/// One station of a journey.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Station {
    /// When, since the start of the world.
    pub at: Duration,
    /// Where.
    pub place: Place,
    /// The packet as it left there, or arrived if it left no more.
    pub packet: Vec<u8>,
}

/// How a journey ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// It has not, yet.
    Travelling,
    /// It reached a host.
    Arrived,
    /// A link lost it.
    Lost,
    /// Something dropped it, for this reason.
    Dropped(String),
}

/// A packet from its sender to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Journey {
    /// Its stations, the sender first.
    pub stations: Vec<Station>,
    /// Its end.
    pub fate: Fate,
}

/// All journeys of a world.
#[derive(Debug, Clone, Default)]
pub struct Trace {
    names: Vec<(String, bool)>,
    journeys: Vec<Journey>,
    recording: bool,
}

impl Trace {
    /// A trace that keeps nothing until it is told to.
    pub fn new() -> Self {
        Self::default()
    }

    /// Keeps journeys from now on.
    pub fn record(&mut self) {
        self.recording = true;
    }

    /// Adds a node; `column` gives it a column in the ladder.
    pub(crate) fn add_place(&mut self, name: String, column: bool) -> Place {
        self.names.push((name, column));
        Place(self.names.len() - 1)
    }

    /// The journeys so far.
    pub fn journeys(&self) -> &[Journey] {
        &self.journeys
    }

    /// The name of a node.
    pub fn name(&self, place: Place) -> &str {
        self.names.get(place.0).map_or("", |(name, _)| name)
    }

    pub(crate) fn depart(&mut self, at: Duration, place: Place, packet: &[u8]) -> JourneyId {
        if self.recording {
            let station = Station { at, place, packet: packet.to_vec() };
            self.journeys.push(Journey { stations: vec![station], fate: Fate::Travelling });
        }
        JourneyId(self.journeys.len().saturating_sub(1))
    }

    pub(crate) fn pass(&mut self, id: JourneyId, at: Duration, place: Place, packet: &[u8]) {
        if let Some(journey) = self.journey(id) {
            journey.stations.push(Station { at, place, packet: packet.to_vec() });
        }
    }

    pub(crate) fn end(&mut self, id: JourneyId, fate: Fate) {
        if let Some(journey) = self.journey(id)
            && journey.fate == Fate::Travelling
        {
            journey.fate = fate;
        }
    }

    fn journey(&mut self, id: JourneyId) -> Option<&mut Journey> {
        self.recording.then(|| self.journeys.get_mut(id.0)).flatten()
    }

    /// One line for each packet: who sent it, how far it came, and what stopped it.
    ///
    /// ```text
    ///      ms  a          home-a     home-b     b
    ///   0.000  ├──SYN─────────────────✗         │    at home-b: NoMapping
    ///   5.000  │          │◀──────────────SYN───┤    25.000
    /// ```
    pub fn ladder(&self) -> String {
        const WIDTH: usize = 14;
        let columns: Vec<usize> =
            (0..self.names.len()).filter(|place| self.names[*place].1).collect();
        let mut text = String::from("      ms  ");
        for place in &columns {
            let name: String = self.names[*place].0.chars().take(WIDTH - 1).collect();
            let _ = write!(text, "{name:<WIDTH$}");
        }
        text.push('\n');
        for journey in &self.journeys {
            self.ladder_line(&mut text, journey, &columns, WIDTH);
        }
        text
    }

    fn ladder_line(&self, text: &mut String, journey: &Journey, columns: &[usize], width: usize) {
        let (Some(first), Some(last)) = (journey.stations.first(), journey.stations.last()) else {
            return;
        };
        let column = |place: Place| columns.iter().position(|other| *other == place.0);
        let from = journey.stations.iter().find_map(|station| column(station.place));
        let to = journey.stations.iter().rev().find_map(|station| column(station.place));
        let mut line: Vec<char> = " ".repeat(columns.len() * width).chars().collect();
        for at in 0..columns.len() {
            line[at * width] = '│';
        }
        if let (Some(from), Some(to)) = (from, to) {
            draw_arrow(&mut line, (from * width, to * width), journey, &summary(&first.packet));
        }
        let line: String = line.into_iter().collect();
        let _ =
            writeln!(text, "{:8.3}  {line}{}", milliseconds(first.at), self.fate(journey, last));
    }

    fn fate(&self, journey: &Journey, last: &Station) -> String {
        match &journey.fate {
            Fate::Travelling => "on its way".into(),
            Fate::Arrived => format!("{:.3}", milliseconds(last.at)),
            Fate::Lost => "lost".into(),
            Fate::Dropped(reason) => format!("at {}: {reason}", self.name(last.place)),
        }
    }

    /// Every packet as it passed `place`, in the pcap format with nanoseconds and raw IP.
    pub fn pcap(&self, place: Place) -> Vec<u8> {
        const MAGIC_NANOSECONDS: u32 = 0xa1b2_3c4d;
        const LINKTYPE_RAW: u32 = 101;
        const SNAPLEN: u32 = 65_535;
        let mut file = Vec::new();
        file.extend_from_slice(&MAGIC_NANOSECONDS.to_le_bytes());
        // Version 2.4, then time zone and accuracy, both always zero.
        file.extend_from_slice(&[2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        file.extend_from_slice(&SNAPLEN.to_le_bytes());
        file.extend_from_slice(&LINKTYPE_RAW.to_le_bytes());
        let mut seen: Vec<&Station> = self
            .journeys
            .iter()
            .flat_map(|journey| &journey.stations)
            .filter(|station| station.place == place)
            .collect();
        seen.sort_by_key(|station| station.at);
        for station in seen {
            let length = u32::try_from(station.packet.len()).unwrap_or(SNAPLEN);
            let seconds = u32::try_from(station.at.as_secs()).unwrap_or(u32::MAX);
            for field in [seconds, station.at.subsec_nanos(), length, length] {
                file.extend_from_slice(&field.to_le_bytes());
            }
            file.extend_from_slice(&station.packet);
        }
        file
    }

    /// A number that two equal runs share and two different ones hardly ever do.
    pub fn fingerprint(&self) -> u64 {
        let mut hash = 0xcbf2_9ce4_8422_2325u64;
        let mut mix = |bytes: &[u8]| {
            for byte in bytes {
                hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
            }
        };
        for journey in &self.journeys {
            for station in &journey.stations {
                mix(&station.at.as_nanos().to_le_bytes());
                mix(&station.place.0.to_le_bytes());
                mix(&station.packet);
            }
            mix(format!("{:?}", journey.fate).as_bytes());
        }
        hash
    }
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// Draws from one end to the other, in whichever direction, with the summary on the shaft.
fn draw_arrow(line: &mut [char], (from, to): (usize, usize), journey: &Journey, summary: &str) {
    let arrived = matches!(journey.fate, Fate::Arrived | Fate::Travelling);
    if from == to {
        line[from] = if arrived { '●' } else { '✗' };
        let room = line.len().saturating_sub(from + 2);
        for (at, letter) in summary.chars().take(room).enumerate() {
            line[from + 2 + at] = letter;
        }
        return;
    }
    let (left, right) = (from.min(to), from.max(to));
    line[left + 1..right].fill('─');
    line[from] = if from < to { '├' } else { '┤' };
    line[to] = if !arrived {
        '✗'
    } else if from < to {
        '▶'
    } else {
        '◀'
    };
    let room = right - left - 4;
    let label: Vec<char> = summary.chars().take(room).collect();
    let start = if from < to { left + 3 } else { right - 2 - label.len() };
    line[start..start + label.len()].copy_from_slice(&label);
}

/// A packet in a word or two.
pub fn summary(bytes: &[u8]) -> String {
    let Ok(packet) = Packet::parse(bytes) else { return "malformed".into() };
    let ttl = if packet.ttl() < 32 { format!(" ttl {}", packet.ttl()) } else { String::new() };
    let what = match packet.protocol() {
        Protocol::Udp => format!("UDP {}", packet.payload().len()),
        Protocol::Tcp => tcp_summary(&packet),
        Protocol::Icmp => match packet.icmp() {
            Some((error, _)) => format!("ICMP {error:?}"),
            None => "ICMP".into(),
        },
        Protocol::Other(number) => format!("protocol {number}"),
    };
    what + &ttl
}

fn tcp_summary(packet: &Packet) -> String {
    let Some(fields) = packet.tcp() else { return String::new() };
    let names = [(flag::SYN, "SYN"), (flag::FIN, "FIN"), (flag::RST, "RST"), (flag::ACK, "ACK")];
    let set: Vec<&str> =
        names.into_iter().filter(|(bit, _)| fields.has(*bit)).map(|(_, name)| name).collect();
    match fields.payload {
        0 => set.join("-"),
        payload => format!("TCP {payload}"),
    }
}

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

    /// One line for each packet, with a column for each place that has one.
    pub fn ladder(&self) -> String {
        let columns = (0..self.names.len()).filter(|place| self.names[*place].1).map(Place);
        self.ladder_of(&columns.collect::<Vec<_>>())
    }

    /// One line for each packet: who sent it, how far it came, and what stopped it; a column for each
    /// of these places, from left to right.
    ///
    /// ```text
    ///      ms  a                 home-a            home-b            b
    ///   0.000  ├──SYN──────────────────────────────✗                 │    at home-b: NoMapping
    ///   5.000  │                 │                 ◀─────────────SYN─┤    25.000
    /// ```
    pub fn ladder_of(&self, columns: &[Place]) -> String {
        const WIDTH: usize = 18;
        let mut text = String::from("      ms  ");
        for place in columns {
            let name: String = self.name(*place).chars().take(WIDTH - 1).collect();
            let _ = write!(text, "{name:<WIDTH$}");
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
        for journey in &self.journeys {
            self.ladder_line(&mut text, journey, columns, WIDTH);
        }
        text
    }

    fn ladder_line(&self, text: &mut String, journey: &Journey, columns: &[Place], width: usize) {
        let (Some(first), Some(last)) = (journey.stations.first(), journey.stations.last()) else {
            return;
        };
        let column = |station: &Station| columns.iter().position(|it| *it == station.place);
        let from = journey.stations.iter().find_map(column);
        let to = journey.stations.iter().rev().find_map(column);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::Quality;
    use crate::probe::Handle;
    use crate::world::World;

    fn a_short_story() -> (World, Place) {
        let mut world = World::new(1);
        world.record();
        let access = Quality::delay(Duration::from_millis(10));
        let server = world.public_host("s1", &["203.0.113.1"], access);
        let home = world.site("a", &"masq".parse().unwrap(), access);
        let host = world.host(home, "a");
        let a = Handle::start(&mut world, host);
        Handle::start(&mut world, server);
        let socket = a.bind(&mut world, "0.0.0.0:5000");
        a.send(&mut world, socket, "203.0.113.1:9".parse().unwrap(), b"anybody?");
        a.send_ttl(&mut world, socket, "203.0.113.1:9".parse().unwrap(), b"", Some(2));
        a.connect(&mut world, "0.0.0.0:5000", "203.0.113.1:80".parse().unwrap());
        world.advance(Duration::from_millis(100));
        let place = world.place(host);
        (world, place)
    }

    #[test]
    fn a_ladder_shows_who_sent_what_and_how_far_it_came() {
        let (world, _) = a_short_story();
        insta::assert_snapshot!("ladder", world.ladder());
    }

    #[test]
    fn a_pcap_holds_every_packet_of_a_place_in_order() {
        let (world, place) = a_short_story();
        let file = world.trace().pcap(place);
        assert_eq!(file[..4], 0xa1b2_3c4d_u32.to_le_bytes());
        assert_eq!(file[20..24], 101_u32.to_le_bytes());
        let mut rest = &file[24..];
        let mut seen = Vec::new();
        let field =
            |bytes: &[u8], at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
        while !rest.is_empty() {
            let length = field(rest, 8) as usize;
            assert_eq!(field(rest, 12) as usize, length);
            let packet = Packet::parse(&rest[16..16 + length]).unwrap();
            seen.push((field(rest, 1) / 1000, summary(packet.as_bytes())));
            rest = &rest[16 + length..];
        }
        let what: Vec<&str> = seen.iter().map(|(_, what)| what.as_str()).collect();
        let sent = ["UDP 8", "UDP 0 ttl 2", "SYN"];
        let received = ["ICMP TimeExceeded", "ICMP PortUnreachable", "RST-ACK"];
        assert_eq!(what[..3], sent);
        assert_eq!(what[3..], received);
    }

    #[test]
    fn nothing_is_kept_unless_it_was_asked_for() {
        let mut world = World::new(1);
        let host = world.public_host("a", &["203.0.113.1"], Quality::default());
        let a = Handle::start(&mut world, host);
        a.connect(&mut world, "0.0.0.0:5000", "203.0.113.9:80".parse().unwrap());
        world.advance(Duration::from_secs(1));
        assert!(world.trace().journeys().is_empty());
    }
}

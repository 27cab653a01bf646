//! Rounds over UDP: fresh ports on both sides, openers first, and checks only when both are open.
//!
//! ```text
//!  A                        NA              broker, STUN               NB                  B
//!  |--fresh port a1: whose?-->|---------------->| |<-------------------|<--fresh port b1---|
//!  |<-"a1 is A*:p"------------|<----------------| |------------------->|---"b1 is B*:q"--->|
//!  |== "round 1, I am A*:p" ===================>| |<======= "round 1, I am B*:q" ==========|
//!  |--check, TTL 2----------->|----->x                        x<-------|<---check, TTL 2---|
//!  |== "round 1: opened" ======================>| |<============ "round 1: opened" ========|
//!  |--check------------------>|----------------.   .-------------------|<---check----------|
//!  |<-------------------------|<----------------´X´------------------->|------------------>|
//! ```
//!
//! *Both steady*: a Linux NAT whose input chain is open takes a check that comes before its own host's for
//! its own, gives that host another port, and keeps it so as long as checks go on coming. Two such
//! NATs never meet from ports that one of them has used too early. Ends that nobody has used have no
//! past, and a check that comes after the word "opened" always finds its way.
//!
//! *One or both sequential*: the port towards the peer is the one after what the server has just seen, so the
//! peer is told that one as well. A steady side opens for a few more beside it; a sequential one has
//! one destination only, since the next has another port.
//!
//! A round that has brought nothing ends after a while; the next one's openers go one router further.
//! Who hears of a later round joins it.
//!
//! Preconditions: a STUN server over UDP, and notes through the broker. No privilege.

use super::sampling::Sampling;
use super::*;
use crate::tcp_traversal::shielded_opener::HIGHEST_TTL;
use crate::tcp_traversal::survey::{self, SAMPLES, Sample};

/// Most rounds.
const MAX_ROUNDS: u8 = 4;
/// How long the peer's word is waited for before checks go out all the same.
const PATIENCE: Duration = Duration::from_millis(1500);
/// How long a round lasts beyond six ways to the peer, once both sides have opened.
const MARGIN: Duration = Duration::from_millis(400);
/// Copies of an opener: one may be lost before the own NAT.
const COPIES: u32 = 2;
/// Ports of a peer that counts, which a steady side opens for: neighbours take some.
const FORETOLD: u16 = 3;

/// The present round.
#[derive(Debug)]
pub(super) struct Round {
    pub(super) number: u8,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// A server is asked what our fresh ports look like.
    Sampling(Sampling),
    /// The peer was told; where it can be met is awaited.
    Told(SocketId, Sample),
    /// Our NAT is open since then; the peer's word is awaited.
    Opened(SocketId, Sample, Instant),
    /// Checks go out until then.
    Fired(Sample, Instant),
    /// Nothing more comes of it.
    Over,
}

impl Round {
    pub(super) fn sampling(&mut self) -> Option<&mut Sampling> {
        match &mut self.stage {
            Stage::Sampling(sampling) => Some(sampling),
            Stage::Told(..) | Stage::Opened(..) | Stage::Fired(..) | Stage::Over => None,
        }
    }

    /// Our fresh port.
    pub(super) fn spare(&self) -> Option<Sample> {
        match &self.stage {
            Stage::Told(_, spare) | Stage::Opened(_, spare, _) | Stage::Fired(spare, _) => {
                Some(*spare)
            }
            Stage::Sampling(_) | Stage::Over => None,
        }
    }
}

impl Session {
    pub(super) fn begin_udp_round(&mut self, number: u8, now: Instant) {
        let count = if self.our_rule() == Rule::Steady { 1 } else { SAMPLES };
        let number = number.clamp(1, MAX_ROUNDS);
        let open = |session: &mut Self| session.open_fresh(Purpose::Round(number));
        let sockets: Vec<_> = (0..count).filter_map(|_| open(self)).collect();
        let stage = match sockets.is_empty() || self.udp_servers().is_empty() {
            true => Stage::Over,
            false => Stage::Sampling(Sampling::new(&sockets, &mut self.entropy, now)),
        };
        self.udp.round = Some(Round { number, stage });
    }

    /// Takes the next step of the present round.
    pub(super) fn go_udp_round(&mut self, now: Instant) {
        let Some(round) = &self.udp.round else { return };
        let number = round.number;
        let theirs = self.their_datagrams().map_or(0, |it| it.round.min(MAX_ROUNDS));
        if theirs > number {
            return self.begin_udp_round(theirs, now);
        }
        match &round.stage {
            Stage::Sampling(sampling) if sampling.is_complete() || sampling.is_over(now) => {
                self.judge_samples();
                self.go_udp_round(now);
            }
            Stage::Sampling(_) => self.ask_again(now),
            Stage::Told(socket, spare) => {
                let (socket, spare) = (*socket, *spare);
                if self.open_for_round(socket) {
                    self.udp.opened = number;
                    self.set_stage(Stage::Opened(socket, spare, now));
                    self.go_udp_round(now);
                }
            }
            Stage::Opened(socket, spare, since) => {
                let (socket, spare) = (*socket, *spare);
                let opened = self.their_datagrams().is_some_and(|it| it.opened == number);
                if opened || *since + PATIENCE <= now {
                    let way = self.introduction.path.unwrap_or(LIKELY_WAY);
                    for remote in self.udp_meeting_points() {
                        self.checklist.add(socket, remote, CandidateKind::ServerReflexive, now);
                    }
                    self.set_stage(Stage::Fired(spare, now + 6 * way + MARGIN));
                    self.race(now);
                }
            }
            Stage::Fired(_, until) if *until <= now => match number < MAX_ROUNDS {
                true => self.begin_udp_round(number + 1, now),
                false => self.set_stage(Stage::Over),
            },
            Stage::Fired(..) | Stage::Over => {}
        }
    }

    /// When the round goes on by itself.
    pub(super) fn udp_round_due(&self) -> Option<Instant> {
        match &self.udp.round.as_ref()?.stage {
            Stage::Sampling(sampling) => Some(sampling.next),
            Stage::Opened(_, _, since) => Some(*since + PATIENCE),
            Stage::Fired(_, until) => Some(*until),
            Stage::Told(..) | Stage::Over => None,
        }
    }

    fn set_stage(&mut self, stage: Stage) {
        if let Some(round) = &mut self.udp.round {
            round.stage = stage;
        }
    }

    /// The server has told, or will not.
    fn judge_samples(&mut self) {
        let Some(sampling) = self.udp.round.as_mut().and_then(Round::sampling) else { return };
        let told = sampling.samples();
        let samples: Vec<Sample> = told.iter().map(|(_, sample)| *sample).collect();
        let steady = self.our_rule() == Rule::Steady;
        let ports = match survey::pattern(&self.resources.udp_told, &samples) {
            _ if samples.is_empty() => self.udp.ports,
            _ if steady => Ports::Steady,
            Ports::Unknown | Ports::Steady => Ports::ANYWHERE,
            known @ (Ports::Sequential { .. } | Ports::Random { .. }) => known,
        };
        self.udp.ports = ports;
        let newest = match ports {
            Ports::Sequential { step } => survey::farthest(&samples, step).copied(),
            Ports::Unknown | Ports::Steady | Ports::Random { .. } => samples.last().copied(),
        };
        let chosen = told.into_iter().find(|(_, sample)| Some(*sample) == newest);
        match (chosen, ports) {
            // Draws are what is left.
            (_, Ports::Random { .. }) => self.udp.round = None,
            (Some((socket, sample)), _) => self.set_stage(Stage::Told(socket, sample)),
            (None, _) => self.set_stage(Stage::Over),
        }
    }

    /// Where the peer can be met in this round, if it has told: nowhere but where it was announced.
    fn udp_meeting_points(&self) -> Vec<SocketAddr> {
        let number = self.udp.round.as_ref().map(|it| it.number);
        let theirs = self.their_datagrams().filter(|it| Some(it.round) == number);
        let Some((theirs, mapped)) = theirs.and_then(|it| Some((it, it.mapped?))) else {
            return Vec::new();
        };
        let announced = self.udp_end().is_some_and(|end| end.ip() == mapped.ip());
        let points = match theirs.ports {
            Ports::Sequential { step } => {
                let count = if self.our_rule() == Rule::Steady { FORETOLD } else { 1 };
                let port = |n: u16| theirs.next.wrapping_add(step.cast_unsigned().wrapping_mul(n));
                (0..count).map(|n| SocketAddr::new(mapped.ip(), port(n))).collect()
            }
            Ports::Unknown | Ports::Steady | Ports::Random { .. } => vec![mapped],
        };
        let tried = |it: &SocketAddr| announced && self.is_worth_trying(*it);
        points.into_iter().filter(tried).collect()
    }

    /// Opens our NAT for the peer, if it is known where that is. Whether it was.
    fn open_for_round(&mut self, socket: SocketId) -> bool {
        let points = self.udp_meeting_points();
        let number = self.udp.round.as_ref().map_or(1, |it| it.number);
        let first = self.resources.opener_ttl.unwrap_or(OPENER_TTL);
        let ttl = first.saturating_add(number - 1).min(first.max(HIGHEST_TTL));
        for remote in &points {
            for _ in 0..COPIES {
                let payload = self.authenticator.request(self.entropy.transaction_id(), false);
                self.send_udp(socket, *remote, Some(ttl), payload);
            }
        }
        !points.is_empty()
    }
}

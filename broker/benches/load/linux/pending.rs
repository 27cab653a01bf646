//! Requests that wait for their answers.

use std::time::{Duration, Instant};

use ntcp_proto::secrecy::Initiation;
use ntcp_proto::signal::{SessionId, SessionSecret};
use ntcp_stun::TransactionId;

/// What was asked.
pub(crate) enum Asked {
    Echo,
    /// What a Register needs.
    Hello,
    Register(Option<Box<Initiation>>),
    Refresh,
    Lookup(usize),
    Call(Call),
}

/// A call until both peers have heard of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Call {
    pub(crate) callee: usize,
    pub(crate) ordered: Option<(SessionId, SessionSecret)>,
    pub(crate) invited: Option<(SessionId, SessionSecret)>,
}

/// A request that waits.
pub(crate) struct Request {
    pub(crate) asked: Asked,
    pub(crate) peer: usize,
    pub(crate) broker: usize,
    pub(crate) sent: Instant,
    /// Whether its answer is for the figures.
    pub(crate) counts: bool,
}

/// All of them, each in a place that its transaction names.
pub(crate) struct Pending {
    /// Tells the transactions of this run from all others.
    salt: u32,
    places: Vec<(u32, Option<Request>)>,
    free: Vec<usize>,
}

impl Pending {
    pub(crate) fn new() -> Self {
        Self { salt: std::process::id() ^ 0x6E74_6370, places: Vec::new(), free: Vec::new() }
    }

    pub(crate) fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    /// A transaction for a request to come.
    pub(crate) fn reserve(&mut self) -> (usize, TransactionId) {
        let place = self.free.pop().unwrap_or_else(|| {
            self.places.push((0, None));
            self.places.len() - 1
        });
        self.places[place].0 = self.places[place].0.wrapping_add(1);
        let mut id = [0; 12];
        id[..4].copy_from_slice(&self.salt.to_be_bytes());
        id[4..8].copy_from_slice(&(place as u32).to_be_bytes());
        id[8..].copy_from_slice(&self.places[place].0.to_be_bytes());
        (place, TransactionId::new(id))
    }

    pub(crate) fn put(&mut self, place: usize, request: Request) {
        self.places[place].1 = Some(request);
    }

    /// The place of a transaction of ours, if its request still waits.
    pub(crate) fn place(&self, id: TransactionId) -> Option<usize> {
        let word = |at: usize| id.as_bytes()[at..].first_chunk().map(|it| u32::from_be_bytes(*it));
        let place = word(4).filter(|_| word(0) == Some(self.salt))? as usize;
        let (generation, request) = self.places.get(place)?;
        (Some(*generation) == word(8) && request.is_some()).then_some(place)
    }

    /// Whether it was ever ours.
    pub(crate) fn is_ours(&self, id: TransactionId) -> bool {
        id.as_bytes()[..4] == self.salt.to_be_bytes()
    }

    pub(crate) fn get_mut(&mut self, place: usize) -> Option<&mut Request> {
        self.places.get_mut(place)?.1.as_mut()
    }

    pub(crate) fn take(&mut self, place: usize) -> Option<Request> {
        let request = self.places.get_mut(place)?.1.take()?;
        self.free.push(place);
        Some(request)
    }

    /// Takes out what has waited too long.
    pub(crate) fn expired(&mut self, patience: Duration, now: Instant) -> Vec<Request> {
        let is_old = |it: &Request| now.saturating_duration_since(it.sent) > patience;
        let old: Vec<usize> = (0..self.places.len())
            .filter(|place| self.places[*place].1.as_ref().is_some_and(is_old))
            .collect();
        old.into_iter().filter_map(|place| self.take(place)).collect()
    }
}

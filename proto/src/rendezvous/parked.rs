//! Calls that wait for their callee to register.

use std::collections::{BTreeMap, BTreeSet};

use crate::signal::RegistrationId;
use crate::signal::message::{Connect, Message};
use crate::uri::PeerName;

/// One waiting call.
#[derive(Debug)]
pub(super) struct Parked {
    pub(super) caller: RegistrationId,
    /// The request as it came.
    pub(super) message: Message,
    pub(super) connect: Connect,
}

/// All waiting calls, each with a ticket.
#[derive(Debug, Default)]
pub(super) struct ParkingLot {
    given: u64,
    calls: BTreeMap<u64, Parked>,
    by_callee: BTreeSet<(PeerName, u64)>,
}

impl ParkingLot {
    pub(super) fn len(&self) -> usize {
        self.calls.len()
    }

    pub(super) fn contains(&self, ticket: u64) -> bool {
        self.calls.contains_key(&ticket)
    }

    pub(super) fn park(&mut self, parked: Parked) -> u64 {
        self.given += 1;
        self.by_callee.insert((parked.connect.callee.clone(), self.given));
        self.calls.insert(self.given, parked);
        self.given
    }

    pub(super) fn take(&mut self, ticket: u64) -> Option<Parked> {
        let parked = self.calls.remove(&ticket)?;
        self.by_callee.remove(&(parked.connect.callee.clone(), ticket));
        Some(parked)
    }

    /// Who called, and with which request.
    pub(super) fn call(&self, ticket: u64) -> Option<(RegistrationId, &Message)> {
        self.calls.get(&ticket).map(|it| (it.caller, &it.message))
    }

    /// Whether a call waits only to hear from the directory.
    pub(super) fn is_impatient(&self, ticket: u64) -> bool {
        self.calls.get(&ticket).is_some_and(|it| it.connect.wait.is_zero())
    }

    /// The tickets of those who wait for `callee`, in the order they came.
    pub(super) fn waiting_for(&self, callee: &PeerName) -> Vec<u64> {
        let all = (callee.clone(), 0)..=(callee.clone(), u64::MAX);
        self.by_callee.range(all).map(|(_, ticket)| *ticket).collect()
    }
}

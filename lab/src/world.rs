//! The simulated internet: hosts, NATs, routers and links in virtual time.
//!
//! Life of a world: build it ([`World::site`], [`World::host`], [`World::public_host`]), put
//! machines and servers on its hosts ([`World::run`], [`World::serve`]), let time pass
//! ([`World::advance`]), and look at what the machines have told ([`World::events`]) and at what
//! happened to each packet ([`World::trace`]). Nothing happens twice: equal seeds give equal worlds,
//! byte for byte. A world knows no real time; a day passes as fast as its packets can be counted.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use ntcp_proto::entropy::{Entropy, Seed};

use crate::host::{Host, Notice, Socket};
use crate::link::Link;
use crate::nat::{Nat, Verdict};
use crate::packet::{Packet, flag};
use crate::runner::{Process, System};
use crate::trace::{Fate, JourneyId, Place, Trace};

mod machines;
pub mod router;
mod serving;
mod topology;

use router::{Forwarder, Forwarding};
pub use serving::ServerId;
pub use topology::{HostId, MAX_SITES, SiteId};

/// One end of a wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Port {
    wire: usize,
    /// 0 or 1.
    end: usize,
}

/// A wire between two nodes' ports, with a link in each direction.
struct Wire {
    /// Node and port number at each end.
    ends: [(usize, usize); 2],
    /// From end 0 to end 1, and back.
    links: [Link; 2],
    lag: Option<Lag>,
}

/// What the servers send from one end of a wire has a slower link to itself.
struct Lag {
    end: usize,
    link: Link,
}

enum Node {
    Host(Box<Host>),
    Nat(Box<Nat>),
    Forwarder(Forwarder),
}

struct Slot {
    node: Node,
    ports: Vec<Port>,
    place: Place,
    /// When a host's or a NAT's timer was last set to ring.
    alarm: Option<Instant>,
}

/// Port numbers of a NAT.
const INNER: usize = 0;
const OUTER: usize = 1;

enum Event {
    Arrival { node: usize, port: usize, journey: JourneyId, packet: Vec<u8> },
    HostTimer { node: usize },
    NatTimer { node: usize },
    ProcessTimer { process: usize },
}

struct ProcessSlot {
    host: usize,
    /// Taken out while it runs.
    process: Option<Box<dyn Process>>,
    alarm: Option<Instant>,
    /// It neither hears nor does anything any more.
    killed: bool,
}

/// Names a machine of type `M` on a host of a world.
#[derive(Debug)]
pub struct ProcessId<M> {
    index: usize,
    kind: std::marker::PhantomData<fn() -> M>,
}

impl<M> Clone for ProcessId<M> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<M> Copy for ProcessId<M> {}

/// A stream outside of any machine's hands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamHandle {
    host: usize,
    socket: Socket,
}

/// The simulated internet.
pub struct World {
    seed: u64,
    entropy: Entropy,
    epoch: Instant,
    now: Instant,
    slots: Vec<Slot>,
    wires: Vec<Wire>,
    events: BTreeMap<(Instant, u64), Event>,
    serial: u64,
    names: BTreeMap<String, Vec<IpAddr>>,
    processes: Vec<ProcessSlot>,
    sites: Vec<topology::SiteSlot>,
    /// What arrived on streams outside of any machine's hands.
    loose: BTreeMap<StreamHandle, Vec<u8>>,
    trace: Trace,
    core: usize,
    /// The host whose notices are being told.
    settling: Option<usize>,
}

impl World {
    /// The present moment since the start.
    pub fn clock(&self) -> Duration {
        self.now - self.epoch
    }

    /// The present moment, as machines are told it.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// The number all randomness comes from.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// A seed for something in this world.
    pub fn draw_seed(&mut self) -> Seed {
        self.entropy.seed()
    }

    /// Lets names be resolved; literal addresses always are.
    pub fn add_name(&mut self, name: &str, addresses: &[IpAddr]) {
        self.names.insert(name.into(), addresses.to_vec());
    }

    /// What happened to each packet, once [`World::record`] was called.
    pub fn trace(&self) -> &Trace {
        &self.trace
    }

    /// Keeps a trace from now on.
    pub fn record(&mut self) {
        self.trace.record();
    }

    // --- time --------------------------------------------------------------------------------

    /// Lets that much time pass.
    pub fn advance(&mut self, time: Duration) {
        let until = self.now + time;
        while self.events.first_key_value().is_some_and(|((at, _), _)| *at <= until) {
            self.step();
        }
        self.now = until;
    }

    /// Lets time pass until `done`, but no more than `limit`; says whether it was done.
    pub fn advance_until(&mut self, limit: Duration, done: impl Fn(&mut Self) -> bool) -> bool {
        let until = self.now + limit;
        loop {
            if done(self) {
                return true;
            }
            let next = self.events.first_key_value().map(|((at, _), _)| *at);
            if next.is_none_or(|at| at > until) {
                self.now = until;
                return done(self);
            }
            self.step();
        }
    }

    /// Handles the next event, if there is one.
    fn step(&mut self) {
        let Some(((at, _), event)) = self.events.pop_first() else { return };
        self.now = at;
        match event {
            Event::Arrival { node, port, journey, packet } => {
                self.arrive(node, port, journey, &packet);
            }
            Event::HostTimer { node } => {
                let slot = &mut self.slots[node];
                if slot.alarm != Some(at) {
                    return;
                }
                slot.alarm = None;
                if let Node::Host(host) = &mut slot.node {
                    host.handle_timeout(at);
                }
                self.settle(node);
            }
            Event::NatTimer { node } => {
                if self.slots[node].alarm == Some(at) {
                    self.slots[node].alarm = None;
                    self.answer_late(node);
                }
            }
            Event::ProcessTimer { process } => {
                let slot = &mut self.processes[process];
                if slot.alarm != Some(at) {
                    return;
                }
                slot.alarm = None;
                self.with_process(process, |process, system| process.handle_timeout(system));
            }
        }
    }

    fn schedule(&mut self, at: Instant, event: Event) {
        self.serial += 1;
        self.events.insert((at.max(self.now), self.serial), event);
    }

    // --- packets -----------------------------------------------------------------------------

    fn arrive(&mut self, node: usize, port: usize, journey: JourneyId, packet: &[u8]) {
        let (now, clock) = (self.now, self.clock());
        let place = self.slots[node].place;
        match &mut self.slots[node].node {
            Node::Host(host) => {
                self.trace.pass(journey, clock, place, packet);
                self.trace.end(journey, Fate::Arrived);
                host.handle_packet(packet, now);
                self.settle(node);
            }
            Node::Nat(nat) => {
                let verdict = if port == INNER {
                    nat.process_outbound(packet, now)
                } else {
                    nat.process_inbound(packet, now)
                };
                self.follow(node, port, journey, packet, verdict);
                self.answer_late(node);
            }
            Node::Forwarder(forwarder) => match forwarder.forward(packet, port) {
                Forwarding::To(to, packet) => {
                    self.trace.pass(journey, clock, place, &packet);
                    self.transmit(node, to, journey, &packet);
                }
                Forwarding::Drop(why) => self.lose(journey, node, packet, why.into()),
                Forwarding::Answer(answer, why) => {
                    self.lose(journey, node, packet, why.into());
                    self.originate(node, port, &answer);
                }
            },
        }
    }

    /// What a NAT's verdict means on its wires.
    fn follow(
        &mut self,
        node: usize,
        from: usize,
        journey: JourneyId,
        packet: &[u8],
        verdict: Verdict,
    ) {
        let (clock, place) = (self.clock(), self.slots[node].place);
        let (to, bytes) = match verdict {
            Verdict::Dropped(reason) => {
                return self.lose(journey, node, packet, format!("{reason:?}"));
            }
            Verdict::Outside(bytes) => (OUTER, bytes),
            Verdict::Inside(bytes) => (INNER, bytes),
        };
        if to != from || is_turned_around(packet, &bytes) {
            self.trace.pass(journey, clock, place, &bytes);
            self.transmit(node, to, journey, &bytes);
        } else {
            self.lose(journey, node, packet, "answered".into());
            self.originate(node, to, &bytes);
        }
    }

    /// Sends what a NAT has held back, and sets its timer.
    fn answer_late(&mut self, node: usize) {
        let now = self.now;
        while let Node::Nat(nat) = &mut self.slots[node].node {
            let Some(answer) = nat.next_answer(now) else { break };
            self.originate(node, OUTER, &answer);
        }
        let Slot { node: Node::Nat(nat), alarm, .. } = &mut self.slots[node] else { return };
        let deadline = nat.deadline();
        if deadline == *alarm {
            return;
        }
        *alarm = deadline;
        if let Some(at) = deadline {
            self.schedule(at, Event::NatTimer { node });
        }
    }

    fn lose(&mut self, journey: JourneyId, node: usize, packet: &[u8], why: String) {
        let (clock, place) = (self.clock(), self.slots[node].place);
        self.trace.pass(journey, clock, place, packet);
        self.trace.end(journey, Fate::Dropped(why));
    }

    /// Sends a packet that is `node`'s own.
    fn originate(&mut self, node: usize, port: usize, packet: &[u8]) {
        let journey = self.trace.depart(self.clock(), self.slots[node].place, packet);
        self.transmit(node, port, journey, packet);
    }

    fn transmit(&mut self, node: usize, port: usize, journey: JourneyId, packet: &[u8]) {
        let Some(port) = self.slots[node].ports.get(port).copied() else {
            return self.trace.end(journey, Fate::Dropped("no link".into()));
        };
        let wire = &mut self.wires[port.wire];
        let (node, entry) = wire.ends[1 - port.end];
        let lag = wire.lag.as_mut().filter(|lag| lag.end == port.end);
        let link = match lag.filter(|_| topology::is_from_servers(packet)) {
            Some(lag) => &mut lag.link,
            None => &mut wire.links[port.end],
        };
        let arrivals = link.transmit(self.now);
        if arrivals.is_empty() {
            self.trace.end(journey, Fate::Lost);
        }
        for at in arrivals {
            let packet = packet.to_vec();
            self.schedule(at, Event::Arrival { node, port: entry, journey, packet });
        }
    }

    // --- hosts and processes -----------------------------------------------------------------

    /// Sends what a host wants sent, tells its processes what happened, and sets its timer.
    fn settle(&mut self, node: usize) {
        if self.settling == Some(node) {
            // Told by the loop below, in order.
            return;
        }
        let outer = self.settling.replace(node);
        let mut notices = VecDeque::new();
        while let Node::Host(host) = &mut self.slots[node].node {
            let packet = host.next_packet(self.now);
            notices.extend(std::iter::from_fn(|| host.next_notice()));
            if let Some(packet) = packet {
                self.originate(node, 0, &packet);
            } else if let Some(notice) = notices.pop_front() {
                self.tell(node, notice);
            } else {
                break;
            }
        }
        self.settling = outer;
        self.set_host_timer(node);
    }

    fn set_host_timer(&mut self, node: usize) {
        let now = self.now;
        let Slot { node: Node::Host(host), alarm, .. } = &mut self.slots[node] else { return };
        let deadline = host.deadline(now);
        if deadline == *alarm {
            return;
        }
        *alarm = deadline.map(|at| at.max(now));
        if let Some(at) = *alarm {
            self.schedule(at, Event::HostTimer { node });
        }
    }

    fn tell(&mut self, node: usize, notice: Notice) {
        let owner = self.processes.iter().position(|slot| {
            slot.host == node
                && !slot.killed
                && slot.process.as_ref().is_some_and(|it| it.owns(&notice))
        });
        match (owner, notice) {
            (Some(process), notice) => {
                self.with_process(process, |process, system| {
                    process.handle_notice(notice, system);
                });
            }
            (None, Notice::Data { socket, bytes }) => {
                self.loose.entry(StreamHandle { host: node, socket }).or_default().extend(bytes);
            }
            (None, _) => {}
        }
    }

    /// Runs a process on its host, then sends what came of it.
    fn with_process(&mut self, index: usize, run: impl FnOnce(&mut dyn Process, &mut System<'_>)) {
        let (now, clock) = (self.now, self.clock());
        let node = self.processes[index].host;
        let Some(mut process) = self.processes[index].process.take() else { return };
        if let Node::Host(host) = &mut self.slots[node].node {
            let mut system = System { host, names: &self.names, now, clock };
            run(process.as_mut(), &mut system);
        }
        let deadline = process.deadline();
        let slot = &mut self.processes[index];
        slot.process = Some(process);
        let at = deadline.map(|deadline| deadline.at.max(now));
        if at != slot.alarm {
            slot.alarm = at;
            if let Some(at) = at {
                self.schedule(at, Event::ProcessTimer { process: index });
            }
        }
        self.settle(node);
    }
}

/// Whether a NAT sent a packet back in, rather than an answer to it.
fn is_turned_around(before: &[u8], after: &[u8]) -> bool {
    let (Ok(before), Ok(after)) = (Packet::parse(before), Packet::parse(after)) else {
        return false;
    };
    let resets = |packet: &Packet| packet.tcp().is_some_and(|fields| fields.has(flag::RST));
    before.protocol() == after.protocol() && resets(&before) == resets(&after)
}

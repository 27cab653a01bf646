//! A STUN server in the simulated internet: two addresses with two ports each.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Instant;

use ntcp_proto::{Deadline, IoFailure};
use ntcp_stun::probe::{Met, Outcome, Seen};
use ntcp_stun::server::{
    Lease, Limits, Order, Prober, Quartet, QuartetError, Request, Reservation, Server as StunLogic,
    Step, Transport, Wait,
};

use super::{Arrival, Departure, Server, StreamId, WishId};

/// Room for any reply: requests are no longer than a packet, and replies not longer than 124 bytes
/// or than their request.
const MAX_REPLY: usize = 2048;

/// A STUN server behind the interface of simulated servers.
pub struct StunServer {
    logic: StunLogic,
    prober: Prober,
    /// Both ends of each stream.
    streams: BTreeMap<StreamId, (SocketAddr, SocketAddr)>,
    /// How the SYN of each stream arrived.
    seen: BTreeMap<StreamId, Seen>,
    /// What is under way for the streams.
    tests: BTreeMap<StreamId, Test>,
    wishes: u64,
    departures: VecDeque<Departure>,
}

/// What a stream asked for.
enum Test {
    Reserving(WishId, Reservation),
    Reserved(WishId, SocketAddr, Instant, Lease),
    Waiting(Wait, Instant),
    Connecting(Connecting),
}

struct Connecting {
    order: Order,
    /// Those under way.
    wishes: Vec<WishId>,
    /// The port it connects from, if it was reserved.
    reserved: Option<WishId>,
    met: Met,
    began: Instant,
}

impl StunServer {
    /// A server that can answer from elsewhere, and the four addresses it must be started on.
    ///
    /// # Errors
    ///
    /// Unless the two differ in IP and port, within one family.
    pub fn new(
        primary: SocketAddr,
        alternate: SocketAddr,
    ) -> Result<(Self, [SocketAddr; 4]), QuartetError> {
        let quartet = Quartet::new(primary, alternate)?;
        let (mut logic, mut prober) = (StunLogic::new(), Prober::new(Limits::default(), 1));
        logic.add_quartet(quartet);
        logic.offer_probes();
        prober.add_quartet(quartet);
        let server = Self {
            logic,
            prober,
            streams: BTreeMap::new(),
            seen: BTreeMap::new(),
            tests: BTreeMap::new(),
            wishes: 0,
            departures: VecDeque::new(),
        };
        Ok((server, quartet.addresses()))
    }

    fn answer(&mut self, request: Request<'_>) -> Option<(SocketAddr, SocketAddr, Vec<u8>)> {
        let mut buffer = [0; MAX_REPLY];
        // Silence is an answer, too.
        let reply = self.logic.handle_request(request, &mut buffer).ok()?;
        Some((reply.from, reply.to, buffer[..reply.length].to_vec()))
    }

    fn on_message(&mut self, stream: StreamId, bytes: &[u8], now: Instant) {
        let Some((local, source)) = self.streams.get(&stream).copied() else { return };
        let request = Request { bytes, source, local, transport: Transport::Tcp };
        let reserved = match self.tests.get(&stream) {
            Some(Test::Reserving(..) | Test::Connecting(_)) => return,
            // It was to be silent.
            Some(Test::Waiting(..)) => return self.forget(stream),
            Some(Test::Reserved(_, reserved, ..)) => Some(*reserved),
            None => None,
        };
        match self.prober.handle_request(request, reserved, now) {
            None => {
                let reply = self.answer(request);
                self.departures
                    .extend(reply.map(|(_, _, payload)| Departure::Message { stream, payload }));
            }
            Some(Step::Reply(payload)) => {
                self.departures.push_back(Departure::Message { stream, payload });
            }
            Some(Step::Reserve(reservation)) => {
                let wish = self.wish();
                let (ip, conduct) = (reservation.ip, reservation.conduct);
                self.departures.push_back(Departure::Reserve { wish, ip, conduct });
                self.tests.insert(stream, Test::Reserving(wish, reservation));
            }
            Some(Step::Connect(order)) => self.connect(stream, order, now),
            Some(Step::Wait(wait)) => {
                self.tests.insert(stream, Test::Waiting(wait, now + wait.time));
            }
            Some(Step::Look(look)) => {
                self.prober.release(Lease::SHORT);
                let payload = look.reply(self.seen.get(&stream).copied());
                self.departures.push_back(Departure::Message { stream, payload });
            }
        }
    }

    fn wish(&mut self) -> WishId {
        self.wishes += 1;
        WishId(self.wishes)
    }

    fn connect(&mut self, stream: StreamId, order: Order, now: Instant) {
        let reserved = match self.tests.remove(&stream) {
            Some(Test::Reserved(wish, _, _, lease)) => {
                self.prober.release(lease);
                Some(wish)
            }
            _ => None,
        };
        let wishes: Vec<_> = (0..order.attempts).map(|_| self.wish()).collect();
        let connects = wishes.iter().map(|wish| Departure::Connect {
            wish: *wish,
            local: order.from,
            remote: order.to,
            ttl: order.ttl,
        });
        self.departures.extend(connects);
        let (met, began) = (Met::Silence, now);
        let connecting = Connecting { order, wishes, reserved, met, began };
        self.tests.insert(stream, Test::Connecting(connecting));
    }

    fn on_connected(&mut self, wish: WishId, result: Result<StreamId, IoFailure>, now: Instant) {
        let found = self.tests.iter_mut().find_map(|(stream, test)| match test {
            Test::Connecting(it) if it.wishes.contains(&wish) => Some((*stream, it)),
            _ => None,
        });
        let Some((stream, connecting)) = found else { return };
        connecting.wishes.retain(|it| *it != wish);
        let met = match result {
            Ok(opened) => {
                let payload = connecting.order.token();
                self.departures.push_back(Departure::Message { stream: opened, payload });
                self.departures.push_back(Departure::Close { stream: opened });
                Met::Connected
            }
            Err(IoFailure::Refused) => Met::Reset,
            // The host does not tell which error it was.
            Err(IoFailure::HostUnreachable) => Met::Icmp { kind: 0, code: 0 },
            Err(_) => Met::NotTried,
        };
        connecting.met = connecting.met.min(met);
        if connecting.wishes.is_empty() || met == Met::Connected {
            self.conclude(stream, now);
        }
    }

    /// Tells a stream what came of its test.
    fn conclude(&mut self, stream: StreamId, now: Instant) {
        let Some(Test::Connecting(connecting)) = self.tests.remove(&stream) else { return };
        let Connecting { order, wishes, reserved, met, began } = connecting;
        let given_up = wishes.into_iter().chain(reserved);
        self.departures.extend(given_up.map(|wish| Departure::GiveUp { wish }));
        let elapsed = now.saturating_duration_since(began);
        let payload = order.reply(Outcome { result: met, ttl: None, elapsed }, None);
        self.departures.push_back(Departure::Message { stream, payload });
        self.prober.release(Lease::SHORT);
    }

    fn forget(&mut self, stream: StreamId) {
        let (given_up, lease) = match self.tests.remove(&stream) {
            None => return,
            Some(Test::Reserving(wish, it)) => (vec![wish], it.lease),
            Some(Test::Reserved(wish, _, _, lease)) => (vec![wish], lease),
            Some(Test::Waiting(wait, _)) => (Vec::new(), wait.lease),
            Some(Test::Connecting(it)) => {
                (it.wishes.into_iter().chain(it.reserved).collect(), Lease::SHORT)
            }
        };
        self.departures.extend(given_up.into_iter().map(|wish| Departure::GiveUp { wish }));
        self.prober.release(lease);
    }

    fn deadlines(&self) -> impl Iterator<Item = (StreamId, Instant)> {
        self.tests.iter().filter_map(|(stream, test)| match test {
            Test::Reserving(..) => None,
            Test::Reserved(_, _, until, _) | Test::Waiting(_, until) => Some((*stream, *until)),
            Test::Connecting(it) => Some((*stream, it.began + it.order.patience)),
        })
    }
}

impl Server for StunServer {
    fn handle_arrival(&mut self, arrival: Arrival<'_>, now: Instant) {
        match arrival {
            Arrival::Datagram { local, source, payload } => {
                let transport = Transport::Udp;
                let reply = self.answer(Request { bytes: payload, source, local, transport });
                self.departures.extend(reply.map(|(local, remote, payload)| Departure::Datagram {
                    local,
                    remote,
                    payload,
                }));
            }
            Arrival::Opened { stream, local, source, syn } => {
                self.seen.extend(Seen::of_syn(syn).map(|seen| (stream, seen)));
                self.streams.insert(stream, (local, source));
            }
            Arrival::Message { stream, payload } => self.on_message(stream, payload, now),
            Arrival::Closed { stream } => {
                self.streams.remove(&stream);
                self.seen.remove(&stream);
                self.forget(stream);
            }
            Arrival::Reserved { wish, local } => {
                let found = self.tests.iter_mut().find_map(|(stream, test)| match test {
                    Test::Reserving(it, reservation) if *it == wish => {
                        Some((*stream, *reservation, test))
                    }
                    _ => None,
                });
                let Some((stream, reservation, test)) = found else { return };
                let Reservation { time, lease, .. } = reservation;
                *test = Test::Reserved(wish, local, now + time, lease);
                let payload = reservation.reply(Some(local));
                self.departures.push_back(Departure::Message { stream, payload });
            }
            Arrival::Connected { wish, result } => self.on_connected(wish, result, now),
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        let due: Vec<_> = self.deadlines().filter(|(_, at)| *at <= now).collect();
        for (stream, _) in due {
            match self.tests.get(&stream) {
                Some(Test::Connecting(_)) => self.conclude(stream, now),
                Some(Test::Waiting(wait, _)) => {
                    let payload = wait.reply();
                    self.departures.push_back(Departure::Message { stream, payload });
                    self.forget(stream);
                }
                _ => self.forget(stream),
            }
        }
    }

    fn poll_departure(&mut self) -> Option<Departure> {
        self.departures.pop_front()
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        let next = self.deadlines().map(|(_, at)| at).min();
        next.map(|at| Deadline::new(at, "end a test towards a client"))
    }
}

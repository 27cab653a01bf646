//! The load: so many requests at once, or so many a second, each answer checked.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use ntcp_proto::secrecy::Unsealed;
use ntcp_proto::signal::message::{Answer, Body, Message};
use ntcp_proto::signal::{ErrorCode, Punch, Role};
use ntcp_stun::TransactionId;

use super::crowd::{Crowd, LEASE, Manner};
use super::pending::{Asked, Call, Pending, Request};
use super::process::Process;
use super::sockets::{Over, Sockets};
use super::tally::{Kind, Tally};

/// After this time an answer does not come any more.
const PATIENCE: Duration = Duration::from_secs(2);
/// Before what is measured.
const WARM_UP: Duration = Duration::from_millis(300);
/// A peer refreshes for the first time so many seconds after it has registered, as clients do.
const FIRST_REFRESH: u32 = 20;
/// With more requests under way none is sent for a lease alone: what a broker's socket has no room for is lost.
const MOST_KEPT_UP: usize = 512;
/// The same where waiting is measured: leases that one generator looks after fall due together, those of real peers do not.
const MOST_KEPT_UP_BESIDE: usize = 32;
/// A peer that was not told of its lease for so long refreshes it, whatever else is measured.
const KEEP_UP: u32 = 120;
/// A paced load does not make up for more than this.
const ARREARS: f64 = 0.002;
/// Bytes of a datagram that is echoed: as long as a sealed Refresh.
const ECHOED: usize = 168;

/// What peers do.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum What {
    /// Speak to the echo at this address.
    Echo(SocketAddr),
    /// Register all that are not.
    Register,
    /// Nothing, until everybody who came has refreshed once.
    Settle,
    Refresh,
    /// Look others up that are registered at any broker.
    Lookup,
    /// Each refreshes once and is looked up once.
    Each,
    /// Half of them refresh, half look up, and so many a second call.
    Everything {
        calls: f64,
    },
}

/// A load.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    pub(crate) what: What,
    /// Requests that wait at once.
    pub(crate) window: usize,
    /// Requests a second, where it is not as many as are answered.
    pub(crate) rate: Option<f64>,
    pub(crate) lasts: Duration,
}

/// Everybody who speaks.
pub(crate) struct Generator {
    sockets: Sockets,
    pub(crate) crowd: Crowd,
    brokers: Vec<SocketAddr>,
    pending: Pending,
    /// Where the call of a caller waits.
    calls: HashMap<usize, usize>,
    tally: Tally,
    began: Instant,
    measuring: bool,
    /// For choosing peers; xorshift, since only its evenness matters.
    dice: u64,
    /// Who is looked at next for its lease.
    keeper: usize,
    /// Who has just registered, and the second in which it refreshes.
    fresh: VecDeque<(usize, u32)>,
    /// Who registers next.
    next_newcomer: usize,
    /// Whose turn is next where each has one, twice.
    next_one: usize,
}

impl Generator {
    pub(crate) fn new(manner: Manner, over: Over, brokers: Vec<SocketAddr>) -> Result<Self> {
        Ok(Self {
            sockets: Sockets::open(over)?,
            crowd: Crowd::new(manner),
            brokers,
            pending: Pending::new(),
            calls: HashMap::new(),
            tally: Tally::default(),
            began: Instant::now(),
            measuring: false,
            dice: 0x9E37_79B9_7F4A_7C15,
            keeper: 0,
            fresh: VecDeque::new(),
            next_newcomer: 0,
            next_one: 0,
        })
    }

    /// Everybody, and everybody who registers from now on, at these brokers: peer n at broker n mod their number.
    pub(crate) fn grow(&mut self, count: usize) {
        self.next_newcomer = self.crowd.peers.len();
        self.crowd.grow(count);
    }

    /// Puts the load on, and reads the processor time of the servers, and of the database behind them.
    pub(crate) fn run(
        &mut self,
        load: &Load,
        servers: &[&Process],
        database: Option<&Process>,
    ) -> Result<Tally> {
        self.tally = Tally::default();
        let start = Instant::now();
        // What ends by itself is measured whole.
        let is_finite = matches!(load.what, What::Register | What::Settle | What::Each);
        self.next_one = 0;
        let most_kept_up = if load.rate.is_some() { MOST_KEPT_UP_BESIDE } else { MOST_KEPT_UP };
        let measured_from = start + if is_finite { Duration::ZERO } else { WARM_UP };
        let ends = measured_from + load.lasts;
        let spent = || -> Result<(Duration, Duration)> {
            let servers = servers.iter().map(|it| it.cpu()).sum::<Result<Duration>>()?;
            Ok((servers, database.map_or(Ok(Duration::ZERO), Process::cpu)?))
        };
        let mut before = None;
        let (mut tokens, mut calls, mut filled, mut swept) = (0.0, 0.0, start, start);
        loop {
            let now = Instant::now();
            if now >= measured_from && before.is_none() {
                self.measuring = true;
                before = Some(spent()?);
            }
            let done = match load.what {
                What::Register => self.next_newcomer >= self.crowd.peers.len(),
                What::Settle => self.fresh.is_empty(),
                What::Each => self.next_one >= 2 * self.crowd.peers.len(),
                _ => now >= ends,
            };
            if done && (!is_finite || self.pending.len() == 0) {
                break;
            }
            ensure!(now < ends, "not everybody has had a turn after {:?}", load.lasts);
            self.receive()?;
            let elapsed = now.saturating_duration_since(filled).as_secs_f64();
            filled = now;
            if let What::Everything { calls: a_second } = load.what {
                calls = f64::min(calls + elapsed * a_second, 8.0);
                while calls >= 1.0 {
                    calls -= 1.0;
                    self.call()?;
                }
            }
            match load.rate {
                Some(rate) => {
                    tokens = f64::min(tokens + elapsed * rate, rate * ARREARS + 1.0);
                    while tokens >= 1.0 {
                        tokens -= 1.0;
                        self.ask(load.what)?;
                    }
                }
                None => while self.pending.len() < load.window && self.ask(load.what)? {},
            }
            self.keep_up(now, most_kept_up)?;
            self.sockets.flush();
            if now.saturating_duration_since(swept) > Duration::from_millis(50) {
                swept = now;
                self.sweep(now)?;
            }
        }
        self.tally.took = Instant::now().saturating_duration_since(measured_from);
        self.measuring = false;
        let (before, after) = (before.unwrap_or_default(), spent()?);
        self.tally.cpu = after.0.saturating_sub(before.0);
        self.tally.database = after.1.saturating_sub(before.1);
        self.settle()?;
        let tally = std::mem::take(&mut self.tally);
        ensure!(
            tally.wrong == 0,
            "{} wrong answers, the first: {}",
            tally.wrong,
            tally.first_wrong.unwrap_or_default()
        );
        Ok(tally)
    }

    /// What is still under way comes in, or is lost.
    fn settle(&mut self) -> Result<()> {
        let ends = Instant::now() + PATIENCE;
        while self.pending.len() > 0 && Instant::now() < ends {
            self.receive()?;
            self.sockets.flush();
        }
        let lost = self.pending.expired(Duration::ZERO, Instant::now());
        self.tally.lost += lost.len() as u64;
        self.calls.clear();
        Ok(())
    }

    /// Gives up on what has waited too long; who registers or refreshes tries again.
    fn sweep(&mut self, now: Instant) -> Result<()> {
        for Request { asked, peer, broker, .. } in self.pending.expired(PATIENCE, now) {
            self.tally.lost += 1;
            match asked {
                Asked::Hello | Asked::Register(_) => self.hello(peer, broker)?,
                Asked::Call(_) => drop(self.calls.remove(&peer)),
                // As a client does: nobody loses its lease because a datagram was lost.
                Asked::Refresh => self.refresh(peer)?,
                Asked::Echo | Asked::Lookup(_) => {}
            }
        }
        Ok(())
    }

    fn roll(&mut self, below: usize) -> usize {
        self.dice ^= self.dice << 13;
        self.dice ^= self.dice >> 7;
        self.dice ^= self.dice << 17;
        (self.dice >> 11) as usize % below.max(1)
    }

    /// Asks something; `false` if there is nothing to ask.
    fn ask(&mut self, what: What) -> Result<bool> {
        let count = self.crowd.peers.len();
        let peer = self.roll(count);
        match what {
            What::Echo(address) => self.echo(peer, address),
            What::Register => {
                let newcomer = self.next_newcomer;
                if newcomer >= count {
                    return Ok(false);
                }
                self.next_newcomer += 1;
                self.hello(newcomer, newcomer % self.brokers.len())?;
            }
            What::Settle => return Ok(false),
            What::Each => {
                let (one, refreshes) = (self.next_one / 2, self.next_one.is_multiple_of(2));
                if one >= count {
                    return Ok(false);
                }
                self.next_one += 1;
                if refreshes {
                    self.refresh(one)?;
                } else {
                    self.look_for((one + 1) % count, one)?;
                }
            }
            What::Refresh => self.refresh(peer)?,
            What::Lookup => self.look_up(peer)?,
            What::Everything { .. } if self.roll(2) == 0 => self.refresh(peer)?,
            What::Everything { .. } => self.look_up(peer)?,
        }
        Ok(true)
    }

    fn put(&mut self, place: usize, asked: Asked, peer: usize, broker: usize) {
        let counts = self.measuring;
        self.pending.put(place, Request { asked, peer, broker, sent: Instant::now(), counts });
    }

    fn echo(&mut self, peer: usize, address: SocketAddr) {
        let (place, transaction) = self.pending.reserve();
        self.put(place, Asked::Echo, peer, usize::MAX);
        self.sockets.send_datagram(peer, &echoed(transaction), address);
    }

    fn hello(&mut self, peer: usize, broker: usize) -> Result<()> {
        self.sockets.connect(peer, self.brokers[broker])?;
        let (place, transaction) = self.pending.reserve();
        let bytes = self.crowd.hello(transaction, peer, self.sockets.address(peer));
        self.put(place, Asked::Hello, peer, broker);
        self.sockets.send(peer, &bytes, self.brokers[broker])
    }

    fn request(&mut self, peer: usize, asked: Asked, body: Body) -> Result<usize> {
        let broker = self.crowd.peers[peer].as_ref().context("a peer is not registered")?.broker;
        let (place, transaction) = self.pending.reserve();
        let bytes = self.crowd.request(peer, transaction, body)?;
        self.put(place, asked, peer, broker);
        self.sockets.send(peer, &bytes, self.brokers[broker])?;
        Ok(place)
    }

    fn refresh(&mut self, peer: usize) -> Result<()> {
        self.request(peer, Asked::Refresh, Crowd::refresh()).map(drop)
    }

    fn look_up(&mut self, peer: usize) -> Result<()> {
        let wanted = self.other_than(peer);
        self.look_for(peer, wanted)
    }

    fn look_for(&mut self, peer: usize, wanted: usize) -> Result<()> {
        let body = Body::Lookup(Crowd::name(wanted));
        self.request(peer, Asked::Lookup(wanted), body).map(drop)
    }

    /// Somebody; where there are several brokers, at another one.
    fn other_than(&mut self, peer: usize) -> usize {
        let count = self.crowd.peers.len();
        let other = self.roll(count);
        match self.brokers.len() {
            1 => other,
            brokers if other % brokers == peer % brokers => (other + 1) % count,
            _ => other,
        }
    }

    fn call(&mut self) -> Result<()> {
        let count = self.crowd.peers.len();
        let caller = self.roll(count);
        let callee = self.other_than(caller);
        // An invitation is recognised by its caller.
        if caller == callee || self.calls.contains_key(&caller) {
            return Ok(());
        }
        let body = Crowd::connect(self.sockets.address(caller), caller, callee);
        let call = Call { callee, ordered: None, invited: None };
        let place = self.request(caller, Asked::Call(call), body)?;
        self.calls.insert(caller, place);
        Ok(())
    }

    /// Has some refresh whose lease has not been lengthened for long, as long as no more than `most` wait.
    fn keep_up(&mut self, now: Instant, most: usize) -> Result<()> {
        let second = self.second(now);
        let room = most.saturating_sub(self.pending.len());
        for _ in 0..room {
            let Some((peer, _)) = self.fresh.front().filter(|(_, due)| *due <= second) else {
                break;
            };
            let peer = *peer;
            self.fresh.pop_front();
            self.refresh(peer)?;
        }
        for _ in 0..room.min(8) {
            let count = self.crowd.peers.len();
            let peer = self.keeper % count.max(1);
            self.keeper = peer + 1;
            if let Some(Some(standing)) = self.crowd.peers.get_mut(peer)
                && second.saturating_sub(standing.told_at) > KEEP_UP
            {
                // Once, not until it is answered.
                standing.told_at = second;
                self.refresh(peer)?;
            }
        }
        Ok(())
    }

    fn second(&self, now: Instant) -> u32 {
        u32::try_from(now.saturating_duration_since(self.began).as_secs()).unwrap_or(u32::MAX)
    }

    fn receive(&mut self) -> Result<()> {
        let mut arrived: Vec<(usize, SocketAddr, Vec<u8>)> = Vec::new();
        self.sockets.receive(|peer, source, bytes| arrived.push((peer, source, bytes.to_vec())))?;
        let now = Instant::now();
        for (peer, source, bytes) in arrived {
            if let Err(error) = self.take(peer, source, &bytes, now) {
                self.tally.complain(|| format!("peer {peer} from {source}: {error:#}"));
            }
        }
        Ok(())
    }

    fn take(&mut self, peer: usize, source: SocketAddr, bytes: &[u8], now: Instant) -> Result<()> {
        let id = bytes.get(8..).and_then(<[u8]>::first_chunk::<12>).context("no transaction")?;
        let transaction = TransactionId::new(*id);
        let place = self.pending.place(transaction);
        if let Some(place) = place
            && let Some(request) = self.pending.get_mut(place)
        {
            ensure!(request.peer == peer, "the answer to somebody else");
            if let Asked::Echo = request.asked {
                ensure!(bytes == echoed(transaction), "not what was sent");
                return self.done(place, Kind::Echo, now);
            }
            ensure!(source == self.brokers[request.broker], "from elsewhere");
            if matches!(request.asked, Asked::Hello | Asked::Register(_)) {
                return self.on_newcomer(place, bytes, now);
            }
        }
        if self.crowd.peers.get(peer).is_none_or(Option::is_none) {
            ensure!(self.pending.is_ours(transaction), "to nobody");
            // The answer to a Register that was given up.
            self.tally.again += 1;
            return Ok(());
        }
        let message = match self.crowd.read(peer, bytes) {
            Ok(message) => message,
            // A late second answer to what registered it.
            Err(_) if place.is_none() && is_welcome(bytes) => {
                self.tally.again += 1;
                return Ok(());
            }
            // Orders come twice over UDP, the very same bytes.
            Err(error) if error.downcast_ref() == Some(&Unsealed::Repeated) => {
                self.tally.again += 1;
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        ensure!(message.transaction == transaction, "another transaction");
        match (&message.body, place) {
            (Body::Invite(punch), None) => self.on_invite(peer, &message, punch, now),
            (Body::CalleeAnswer(answer), None) => {
                // Nobody here declines: a broker has given up on the callee, or on a letter to it.
                self.tally.refused += u64::from(answer.result.is_err());
                Ok(())
            }
            (_, Some(place)) => self.on_answer(place, &message.body, now),
            (_, None) => {
                ensure!(self.pending.is_ours(transaction), "unasked: {:?}", message.body);
                self.tally.again += 1;
                Ok(())
            }
        }
    }

    fn done(&mut self, place: usize, kind: Kind, now: Instant) -> Result<()> {
        let request = self.pending.take(place).context("it waited")?;
        if request.counts && self.measuring {
            self.tally.note(kind, now.saturating_duration_since(request.sent));
        }
        Ok(())
    }

    fn on_newcomer(&mut self, place: usize, bytes: &[u8], now: Instant) -> Result<()> {
        let message = Message::parse(bytes)?.message;
        let second = self.second(now);
        let Request { asked, peer, broker, sent, counts } =
            self.pending.take(place).context("it waited")?;
        let own = self.sockets.address(peer);
        match (asked, &message.body) {
            (Asked::Hello, Body::Refused(refused)) if message.nonce.is_some() => {
                if let Some(key) = refused.identity {
                    let known = *self.crowd.broker_key.get_or_insert(key);
                    ensure!(known == key, "the broker shows another key");
                }
                let nonce = message.nonce.context("it was there")?;
                let (place, transaction) = self.pending.reserve();
                let (bytes, initiation) =
                    self.crowd.ask_to_be_known(transaction, (peer, own), nonce)?;
                let asked = Asked::Register(initiation);
                self.pending.put(place, Request { asked, peer, broker, sent, counts });
                self.sockets.send(peer, &bytes, self.brokers[broker])
            }
            (Asked::Register(initiation), _) => {
                self.crowd.be_known((peer, own), (broker, second), &message, initiation)?;
                self.fresh.push_back((peer, second + FIRST_REFRESH));
                if counts {
                    self.tally.note(Kind::Register, now.saturating_duration_since(sent));
                }
                Ok(())
            }
            (_, other) => anyhow::bail!("not what a Register is answered: {other:?}"),
        }
    }

    fn on_answer(&mut self, place: usize, body: &Body, now: Instant) -> Result<()> {
        let own = self.pending.get_mut(place).map(|it| self.sockets.address(it.peer));
        let second = self.second(now);
        let request = self.pending.get_mut(place).context("it waited")?;
        let peer = request.peer;
        if let Body::Refused(refused) = body {
            return self.on_refused(place, refused.code);
        }
        match (&mut request.asked, body) {
            (Asked::Refresh, Body::Refreshed(it)) => {
                ensure!((Some(it.observed), it.lease) == (own, LEASE), "{it:?}");
                if let Some(standing) = &mut self.crowd.peers[peer] {
                    standing.told_at = second;
                }
                self.done(place, Kind::Refresh, now)
            }
            (Asked::Lookup(wanted), Body::Found(it)) => {
                let wanted = *wanted;
                ensure!(self.crowd.is_of(wanted, (it.fingerprint, it.identity)), "{it:?}");
                self.done(place, Kind::Lookup, now)
            }
            (Asked::Call(call), Body::Connected(punch)) => {
                ensure!(punch.role == Role::Controlling, "{punch:?}");
                ensure!(punch.peer == Some(Crowd::name(call.callee)), "{punch:?}");
                let is_first = call.ordered.replace((punch.session, punch.secret)).is_none();
                let (call, sent, counts) = (*call, request.sent, request.counts && is_first);
                ensure!(
                    self.crowd.is_of(call.callee, (punch.fingerprint, punch.identity)),
                    "{punch:?}"
                );
                if counts && self.measuring {
                    self.tally.note(Kind::Connect, now.saturating_duration_since(sent));
                }
                self.finish_call(place, call)
            }
            (_, other) => anyhow::bail!("not what was asked: {other:?}"),
        }
    }

    fn on_refused(&mut self, place: usize, code: ErrorCode) -> Result<()> {
        let request = self.pending.take(place).context("it waited")?;
        match (request.asked, code) {
            (asked, ErrorCode::TooManyRequests | ErrorCode::TableFull) => {
                if let Asked::Call(_) = asked {
                    self.calls.remove(&request.peer);
                }
                self.tally.refused += 1;
                self.tally.first_refused.get_or_insert(format!("{code}"));
            }
            (Asked::Lookup(_), ErrorCode::UnknownPeer) => self.tally.missing += 1,
            (Asked::Call(_), ErrorCode::UnknownPeer) => {
                self.calls.remove(&request.peer);
                self.tally.missing += 1;
            }
            (_, code) => anyhow::bail!("refused: {code}"),
        }
        Ok(())
    }

    /// An invitation: the callee accepts it, each time it comes.
    fn on_invite(
        &mut self,
        callee: usize,
        invite: &Message,
        punch: &Punch,
        now: Instant,
    ) -> Result<()> {
        ensure!(punch.role == Role::Controlled, "{punch:?}");
        let caller = punch.peer.as_ref().and_then(Crowd::number).context("who calls?")?;
        ensure!(self.crowd.is_of(caller, (punch.fingerprint, punch.identity)), "{punch:?}");
        let answer = Answer { session: punch.session, candidates: Vec::new() };
        let bytes = self.crowd.write(callee, &invite.answer(Body::Answer(answer)))?;
        let broker = self.crowd.peers[callee].as_ref().map_or(0, |it| it.broker);
        self.sockets.send(callee, &bytes, self.brokers[broker])?;
        let Some(place) = self.calls.get(&caller).copied() else { return Ok(()) };
        let Some(request) = self.pending.get_mut(place) else { return Ok(()) };
        let Asked::Call(call) = &mut request.asked else { return Ok(()) };
        if call.invited.is_some() || call.callee != callee {
            return Ok(());
        }
        call.invited = Some((punch.session, punch.secret));
        let (call, sent, counts) = (*call, request.sent, request.counts);
        if counts && self.measuring {
            self.tally.note(Kind::Invite, now.saturating_duration_since(sent));
        }
        self.finish_call(place, call)
    }

    fn finish_call(&mut self, place: usize, call: Call) -> Result<()> {
        if let (Some(ordered), Some(invited)) = (call.ordered, call.invited) {
            if let Some(request) = self.pending.take(place) {
                self.calls.remove(&request.peer);
            }
            ensure!(ordered == invited, "the two were told of different meetings");
        }
        Ok(())
    }
}

/// What is sent to the echo in a transaction.
fn echoed(transaction: TransactionId) -> [u8; ECHOED] {
    let mut bytes = [0xEC; ECHOED];
    bytes[8..20].copy_from_slice(transaction.as_bytes());
    bytes
}

/// Whether it is in the clear, as only the answers are that register somebody.
fn is_welcome(bytes: &[u8]) -> bool {
    let parsed = Message::parse(bytes).map(|it| it.message.body);
    matches!(parsed, Ok(Body::Secured(_) | Body::Registered(_) | Body::Refused(_)))
}

//! The directory in Redis.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use futures::channel::mpsc::UnboundedSender;
use ntcp_proto::rendezvous::{BrokerId, Claim, Listing, Whereabouts};
use ntcp_proto::uri::PeerName;
use redis::{
    Client, Connection, ConnectionAddr, ConnectionInfo, Pipeline, RedisError, RedisResult, Value,
};

use super::{ANSWER_PATIENCE, DirectoryAddress, News, Order, State};

/// Orders that travel together; 512 small ones are some 100 KB.
const BATCH: usize = 512;
/// Between two signs of life, and how long one is good for: a broker that dies is missed after 4 to 5 s.
const HEARTBEAT: Duration = Duration::from_secs(1);
const LIFE: Duration = Duration::from_secs(5);
/// Between two attempts to reach the database.
const RETRY: Duration = Duration::from_millis(250);
/// Added to a lease: the broker lets go of a name before the directory does.
const LEASE_SLACK: Duration = Duration::from_secs(2);
/// How long the log does not hear the same complaint again.
const QUIET: Duration = Duration::from_secs(60);
/// How many complaints the log hears in that time.
const MAX_COMPLAINTS: usize = 16;

/// Enters a name unless another broker has it: a living one, or a dead one for a peer with another key, which may come back
/// until its lease ends. Answers with the holder, and then with whoever wanted it.
///
/// Two brokers have one name if the database was away, or has lost its memory. Then the peer that has had it for longer keeps it,
/// and of two with one key, which are one peer that has moved, the one that came last; whose it was is among
/// those who are answered. Only brokers say for how long, of peers that they have let in; a newcomer, of whom it is -1, takes
/// nothing. Brokers count by clocks of their own, and since when a name is had is reckoned by the database's: no two clocks
/// have to agree.
///
/// A value is the broker (8 bytes), since when (8 bytes), and the listing: the certificate (32), the key behind its length
/// (1 byte), the NAT.
const CLAIM: &str = "
local held = redis.call('GET', KEYS[1])
local holder = held and #held > 48 and string.sub(held, 1, 8) or ARGV[1]
local time, stay = redis.call('TIME'), tonumber(ARGV[4])
local since = time[1] * 1000 + math.floor(time[2] / 1000) - math.max(stay, 0)
if holder ~= ARGV[1] then
    local function owner(listing)
        return string.sub(listing, 33, 33 + (string.byte(listing, 33) or 0))
    end
    local own, other = owner(ARGV[2]), owner(string.sub(held, 17))
    local before = struct.unpack('>d', string.sub(held, 9, 16))
    local takes = stay >= 0 and since < before
    if own == other and redis.call('EXISTS', 'ntcp:broker:' .. holder) == 0 then
        takes = true
    elseif own == other and #own > 1 then
        takes = stay >= 0 and since > before
    end
    if not takes then
        return {holder}
    end
end
redis.call('SET', KEYS[1], ARGV[1] .. struct.pack('>d', since) .. ARGV[2], 'PX', ARGV[3])
local answer = redis.call('SMEMBERS', KEYS[2])
if #answer > 0 then
    redis.call('DEL', KEYS[2])
end
table.insert(answer, 1, ARGV[1])
if holder ~= ARGV[1] then
    table.insert(answer, holder)
end
return answer";

/// Strikes a name if it is this broker's.
const RELEASE: &str = "
local held = redis.call('GET', KEYS[1])
if held and string.sub(held, 1, 8) == ARGV[1] then
    redis.call('DEL', KEYS[1])
end
return 1";

/// Where a name is; notes who waits for it if it is nowhere.
const FIND: &str = "
local held = redis.call('GET', KEYS[1])
if held and redis.call('EXISTS', 'ntcp:broker:' .. string.sub(held, 1, 8)) == 1 then
    return held
end
if tonumber(ARGV[2]) > 0 then
    redis.call('SADD', KEYS[2], ARGV[1])
    if redis.call('PTTL', KEYS[2]) < tonumber(ARGV[2]) then
        redis.call('PEXPIRE', KEYS[2], ARGV[2])
    end
end
return false";

/// The channels between the threads and the broker's loop.
type Ends = (Receiver<Order>, UnboundedSender<News>);

/// Starts both threads.
pub(super) fn start(
    address: &DirectoryAddress,
    own: BrokerId,
    (orders, news): Ends,
    state: &Arc<State>,
) -> io::Result<Vec<JoinHandle<()>>> {
    let line = Line {
        clients: clients(address),
        host: address.host.clone(),
        own,
        news,
        state: state.clone(),
        said: None,
        complaints: BTreeMap::new(),
    };
    let post = Post { line: line.clone(), orders };
    let post = Builder::new().name("directory".into()).spawn(move || post.run())?;
    let letters = Builder::new().name("letters".into()).spawn(move || line.receive_letters())?;
    Ok(vec![post, letters])
}

fn clients(address: &DirectoryAddress) -> Vec<Client> {
    let client = |at: &SocketAddr| {
        let info: ConnectionInfo = address.settings.clone();
        Client::open(info.set_addr(ConnectionAddr::Tcp(at.ip().to_string(), at.port()))).ok()
    };
    address.addresses.iter().filter_map(client).collect()
}

/// What both threads need.
#[derive(Clone)]
struct Line {
    clients: Vec<Client>,
    host: String,
    own: BrokerId,
    news: UnboundedSender<News>,
    state: Arc<State>,
    /// Whether the database answers, as the log was told last.
    said: Option<bool>,
    /// What the log has heard, and when; no longer than [`QUIET`].
    complaints: BTreeMap<String, Instant>,
}

impl Line {
    fn has_ended(&self) -> bool {
        self.state.has_ended.load(Ordering::Relaxed)
    }

    fn tell(&self, news: News) {
        // Nobody listens once the broker has ended.
        let _ = self.news.unbounded_send(news);
    }

    fn connect(&self) -> RedisResult<Connection> {
        let mut last = None;
        for client in &self.clients {
            match client.get_connection_with_timeout(ANSWER_PATIENCE) {
                Ok(connection) => {
                    connection.set_read_timeout(Some(ANSWER_PATIENCE))?;
                    connection.set_write_timeout(Some(ANSWER_PATIENCE))?;
                    return Ok(connection);
                }
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| RedisError::from(io::Error::from(io::ErrorKind::NotFound))))
    }

    fn note(&mut self, state: Result<(), &RedisError>) {
        let is_there = state.is_ok();
        self.state.is_there.store(is_there, Ordering::Relaxed);
        if self.said == Some(is_there) {
            return;
        }
        match state {
            Ok(()) => tracing::info!(host = %self.host, "the directory is there"),
            // It may be there for a moment in between, each time.
            Err(error) if !self.is_new(error) => return,
            Err(error) => {
                tracing::warn!(host = %self.host, %error, "the directory is away: going on with this broker's own peers");
            }
        }
        self.said = Some(is_there);
    }

    /// One request had an error for an answer, and others need not.
    fn note_one(&mut self, order: &Order, error: &RedisError) {
        if self.is_new(error) {
            let name = order.name().map(PeerName::as_str);
            tracing::warn!(host = %self.host, name, %error, "the directory cannot answer for one name: is somebody else writing to it?");
        }
    }

    /// Whether the log has not heard this for a while.
    fn is_new(&mut self, error: &RedisError) -> bool {
        let now = Instant::now();
        self.complaints.retain(|_, heard| now < *heard + QUIET);
        // Most errors are of one kind; a database that makes up new ones all the time is heard often enough.
        if self.complaints.len() >= MAX_COMPLAINTS {
            return false;
        }
        match self.complaints.entry(kind(error)) {
            Entry::Vacant(place) => {
                place.insert(now);
                true
            }
            Entry::Occupied(_) => false,
        }
    }

    /// Hands on letters until the broker ends.
    fn receive_letters(self) {
        while !self.has_ended() {
            if let Err(error) = self.listen() {
                tracing::debug!(%error, "no letters for the moment");
                std::thread::sleep(RETRY);
            }
        }
    }

    fn listen(&self) -> RedisResult<()> {
        let mut connection = self.connect()?;
        let mut letters = connection.as_pubsub();
        letters.subscribe(key(b"letters", &self.own.0))?;
        // One that was lost may have said that a name is another's.
        self.tell(News::Reunited);
        // Also how long the end of the broker waits for this thread.
        letters.set_read_timeout(Some(HEARTBEAT))?;
        let mut silent = false;
        while !self.has_ended() {
            match letters.get_message() {
                Ok(message) => {
                    silent = false;
                    if let Some((from, letter)) = message.get_payload_bytes().split_first_chunk() {
                        self.tell(News::Letter { from: BrokerId(*from), letter: letter.to_vec() });
                    }
                }
                // A database that has gone without a word does not answer a ping either.
                Err(error) if error.is_timeout() && !silent => {
                    silent = true;
                    letters.ping::<Value>()?;
                }
                Err(error) if error.is_timeout() => silent = false,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// The thread that carries orders out.
struct Post {
    line: Line,
    orders: Receiver<Order>,
}

/// The broker has ended.
struct Ended;

/// Whether the database knows what it was told a moment ago. If not, it was emptied, or this broker was counted as dead:
/// its names are gone or may be others'.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Memory {
    Kept,
    Lost,
}

impl Post {
    fn run(mut self) {
        loop {
            let served = match self.line.connect() {
                Ok(mut connection) => self.serve(&mut connection),
                Err(error) => Err(error),
            };
            match served {
                Ok(Ended) => return,
                Err(error) => self.line.note(Err(&error)),
            }
            if let Some(Ended) = self.deny_for(RETRY) {
                return;
            }
        }
    }

    /// Answers orders while the database is away.
    fn deny_for(&self, time: Duration) -> Option<Ended> {
        let end = Instant::now() + time;
        loop {
            match self.orders.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(order) => self.deny(order),
                Err(RecvTimeoutError::Timeout) => return None,
                Err(RecvTimeoutError::Disconnected) => return Some(Ended),
            }
        }
    }

    fn deny(&self, order: Order) {
        if let Some(news) = order.denied() {
            self.line.tell(news);
        }
    }

    fn serve(&mut self, connection: &mut Connection) -> RedisResult<Ended> {
        let scripts = Scripts::load(connection)?;
        self.beat(connection)?;
        self.line.note(Ok(()));
        self.line.tell(News::Reunited);
        let mut beaten = Instant::now();
        loop {
            let patience = (beaten + HEARTBEAT).saturating_duration_since(Instant::now());
            match self.orders.recv_timeout(patience) {
                Ok(first) => {
                    let more = self.orders.try_iter().take(BATCH - 1);
                    let batch = std::iter::once(first).chain(more).collect();
                    self.carry_out(connection, &scripts, batch)?;
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    let mut last = redis::cmd("DEL");
                    last.arg(key(b"broker", &self.line.own.0)).query::<Value>(connection)?;
                    return Ok(Ended);
                }
            }
            if beaten.elapsed() >= HEARTBEAT {
                if self.beat(connection)? == Memory::Lost {
                    tracing::warn!(host = %self.line.host, "the directory has forgotten this broker: entering its names anew");
                    self.line.tell(News::Reunited);
                }
                beaten = Instant::now();
            }
        }
    }

    /// A sign of life; tells whether the one before was still there.
    fn beat(&self, connection: &mut Connection) -> RedisResult<Memory> {
        let own = key(b"broker", &self.line.own.0);
        let mut both = redis::pipe();
        both.cmd("EXISTS").arg(&own);
        both.cmd("SET").arg(&own).arg(1).arg("PX").arg(millis(LIFE)).ignore();
        let (known,) = both.query::<(bool,)>(connection)?;
        Ok(if known { Memory::Kept } else { Memory::Lost })
    }

    fn carry_out(
        &mut self,
        connection: &mut Connection,
        scripts: &Scripts,
        batch: Vec<Order>,
    ) -> RedisResult<()> {
        let mut pipeline = redis::pipe();
        for order in &batch {
            scripts.add(&mut pipeline, self.line.own, order);
        }
        match pipeline.ignore_errors().query::<Vec<RedisResult<Value>>>(connection) {
            Ok(answers) if answers.len() == batch.len() => {
                let mut served = Ok(());
                for (order, answer) in batch.into_iter().zip(answers) {
                    served = served.and(self.conclude(order, answer));
                }
                served
            }
            // Some may have been carried out; each may be carried out again.
            failed => {
                batch.into_iter().for_each(|order| self.deny(order));
                let short = || RedisError::from(io::Error::from(io::ErrorKind::InvalidData));
                Err(failed.err().unwrap_or_else(short))
            }
        }
    }

    /// Passes one answer on. Fails only by an error that others will have too.
    fn conclude(&mut self, order: Order, answer: RedisResult<Value>) -> RedisResult<()> {
        let error = match answer {
            Ok(answer) => {
                self.answer(order, &answer);
                return Ok(());
            }
            Err(error) => error,
        };
        let is_one = is_of_one_key(&error);
        if is_one {
            self.line.note_one(&order, &error);
        }
        self.deny(order);
        if is_one { Ok(()) } else { Err(error) }
    }

    fn answer(&self, order: Order, answer: &Value) {
        match order {
            Order::Claim { name, .. } => {
                let mut brokers = brokers(answer).into_iter();
                let claim = match brokers.next() {
                    Some(holder) if holder == self.line.own => Claim::Ours,
                    Some(holder) => Claim::Held(holder),
                    None => Claim::Unknown,
                };
                let wanted_by = brokers.filter(|it| *it != self.line.own).collect();
                self.line.tell(News::Claimed { name, claim, wanted_by });
            }
            Order::Find { name, .. } => {
                let at = match answer {
                    Value::BulkString(value) => whereabouts(value),
                    _ => None,
                };
                self.line.tell(News::Found { name, at });
            }
            Order::Release { .. } | Order::Post { .. } => {}
        }
    }
}

/// The scripts' names in the database.
struct Scripts {
    claim: String,
    release: String,
    find: String,
}

impl Scripts {
    fn load(connection: &mut Connection) -> RedisResult<Self> {
        let mut load =
            |text: &str| redis::cmd("SCRIPT").arg("LOAD").arg(text).query::<String>(connection);
        Ok(Self { claim: load(CLAIM)?, release: load(RELEASE)?, find: load(FIND)? })
    }

    fn add(&self, pipeline: &mut Pipeline, own: BrokerId, order: &Order) {
        let keys = |name: &PeerName| {
            let name = name.as_str().as_bytes();
            (key(b"name", name), key(b"want", name))
        };
        match order {
            Order::Claim { name, listing, lease, since } => {
                let (at, want) = keys(name);
                let command = pipeline.cmd("EVALSHA").arg(&self.claim).arg(2).arg(at).arg(want);
                let life = millis(*lease + LEASE_SLACK);
                command.arg(&own.0[..]).arg(listing.emit()).arg(life);
                match since {
                    Some(since) => command.arg(millis(since.elapsed())),
                    None => command.arg(-1),
                };
            }
            Order::Release { name } => {
                let command = pipeline.cmd("EVALSHA").arg(&self.release).arg(1);
                command.arg(keys(name).0).arg(&own.0[..]);
            }
            Order::Find { name, wait } => {
                let (at, want) = keys(name);
                let command = pipeline.cmd("EVALSHA").arg(&self.find).arg(2).arg(at).arg(want);
                command.arg(&own.0[..]).arg(millis(*wait));
            }
            Order::Post { broker, letter } => {
                let letter = [&own.0[..], letter].concat();
                pipeline.cmd("PUBLISH").arg(key(b"letters", &broker.0)).arg(letter);
            }
        }
    }
}

/// What an error is called.
const WRONG_TYPE: &str = "WRONGTYPE";

/// Whether an error says nothing but that something else lies where a name should. All others (no memory left, a copy that
/// takes no orders, a password that is missing) are the whole database's.
fn is_of_one_key(error: &RedisError) -> bool {
    // Before version 7 what happens in a script is told behind a code of its own.
    error.code() == Some(WRONG_TYPE) || error.detail().is_some_and(|it| it.contains(WRONG_TYPE))
}

/// What tells an error from others, whatever the name that it is about.
fn kind(error: &RedisError) -> String {
    if is_of_one_key(error) { WRONG_TYPE.to_owned() } else { error.to_string() }
}

fn key(kind: &[u8], rest: &[u8]) -> Vec<u8> {
    [b"ntcp:", kind, b":", rest].concat()
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn whereabouts(value: &[u8]) -> Option<Whereabouts> {
    let (broker, rest) = value.split_first_chunk()?;
    let (_since, listing) = rest.split_first_chunk::<8>()?;
    Some(Whereabouts { broker: BrokerId(*broker), listing: Listing::parse(listing)? })
}

fn brokers(answer: &Value) -> Vec<BrokerId> {
    let Value::Array(values) = answer else { return Vec::new() };
    let broker = |value: &Value| match value {
        Value::BulkString(bytes) => Some(BrokerId(bytes.as_slice().try_into().ok()?)),
        _ => None,
    };
    values.iter().filter_map(broker).collect()
}

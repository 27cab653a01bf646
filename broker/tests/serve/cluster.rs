//! Several brokers as one, with a real database between them.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use ntcp_proto::secrecy::PublicKey;
use ntcp_proto::signal::envelope::Envelope;
use ntcp_proto::signal::message::{Body, Refresh, Refused};
use ntcp_proto::signal::{ErrorCode, Punch};

use crate::peer::{Manner, Peer, Socket, connect};
use crate::program::Folder;

/// Longer than a dead broker is believed alive, and than the database takes to start.
const PATIENCE: Duration = Duration::from_secs(20);

/// Between two attempts: each may take two of the handshakes of which one address has 32 a second.
const PAUSE: Duration = Duration::from_millis(100);

/// A process that ends with its owner.
struct Process(Child);

impl Process {
    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.0.id() as i32), signal).unwrap();
    }

    fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A database in memory.
pub(crate) struct Database {
    process: Process,
    address: SocketAddr,
    /// Where its brokers have their key.
    pub(crate) folder: Folder,
}

impl Database {
    pub(crate) fn start() -> Self {
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
        let folder = Folder::new(&format!("cluster-{}", free.port()));
        Self { process: Self::spawn(free), address: free, folder }
    }

    fn spawn(address: SocketAddr) -> Process {
        let port = address.port().to_string();
        let mut command = Command::new("redis-server");
        command.args(["--bind", "127.0.0.1", "--port", &port, "--save", "", "--appendonly", "no"]);
        let process = command.stdout(Stdio::null()).spawn().expect("redis-server of Debian");
        let process = Process(process);
        until("the database answers", || TcpStream::connect(address).ok());
        process
    }

    /// Does what somebody at its console does, and says what it answers.
    fn tell(&self, command: &str) -> String {
        let mut line = TcpStream::connect(self.address).unwrap();
        line.write_all(format!("{command}\r\n").as_bytes()).unwrap();
        let mut answer = String::new();
        BufReader::new(line).read_line(&mut answer).unwrap();
        answer.trim_end().to_owned()
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://{}/", self.address)
    }
}

/// A broker of the cluster.
struct Member {
    process: Process,
    udp: SocketAddr,
}

impl Member {
    fn start(database: &Database) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ntcp-broker"));
        command.args(["udp", "--udp", "127.0.0.1:0"]).env_clear();
        command.env("NTCP_REGISTRY__URL", database.url());
        command.env("NTCP_SECURITY__PLAIN", "true");
        // Brokers of one name have one key.
        command.env("NTCP_SECURITY__KEY", database.folder.0.join("broker.key"));
        command.current_dir(env!("CARGO_TARGET_TMPDIR")).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let process = Process(child);
        let mut next = || lines.next().expect("it says where it listens").unwrap();
        let listening = loop {
            let line = next();
            if line.contains("listening on UDP") {
                break line;
            }
        };
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop::<String>));
        let udp = listening.split("address=").nth(1).unwrap().trim().parse().unwrap();
        Self { process, udp }
    }

    fn register(&self, name: &str) -> Peer {
        until(&format!("{name} is registered"), || self.try_register(name).ok())
    }

    /// With a key that belongs to the name.
    fn try_register(&self, name: &str) -> Result<Peer, ErrorCode> {
        let number = name.bytes().fold(0, u8::wrapping_add);
        self.try_register_as(name, &Manner::sealed(number))
    }

    fn try_register_as(&self, name: &str, manner: &Manner) -> Result<Peer, ErrorCode> {
        let registered = Peer::register_as(Socket::udp(self.udp), name, manner);
        registered.map_err(|refused| refused.code)
    }
}

/// Tries until something comes of it.
pub(crate) fn until<T>(what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = attempt() {
            return found;
        }
        assert!(start.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(PAUSE);
    }
}

/// Calls until both brokers have the database again, should it have been away.
fn meets_soon(caller: &mut Peer, callee: &mut Peer) {
    let punch = until("a call comes about", || match answer_to(caller, connect("bob")) {
        Body::Connected(punch) => Some(punch),
        answer if is_unknown(&answer) => None,
        answer => panic!("{answer:?}"),
    });
    is_invited(callee, &punch);
}

/// Calls once.
fn meets(caller: &mut Peer, callee: &mut Peer) {
    let answer = answer_to(caller, connect("bob"));
    let Body::Connected(punch) = answer else { panic!("{answer:?}") };
    is_invited(callee, &punch);
}

fn is_invited(callee: &mut Peer, punch: &Punch) {
    loop {
        // Invitations that nobody answers are repeated, those of earlier calls too.
        if let Body::Invite(invited) = callee.receive().body
            && invited.session == punch.session
        {
            assert_eq!(invited.secret, punch.secret);
            return;
        }
    }
}

/// The answer to a request, whatever else comes before.
fn answer_to(peer: &mut Peer, body: Body) -> Body {
    let (_, method) = body.kind();
    peer.send(body);
    let transaction = peer.transaction();
    loop {
        let message = peer.receive();
        if message.transaction == transaction && message.body.kind().1 == method {
            return message.body;
        }
    }
}

fn is_unknown(answer: &Body) -> bool {
    matches!(answer, Body::Refused(Refused { code: ErrorCode::UnknownPeer, .. }))
}

/// Two peers that want one name, and the brokers that they come to.
struct Rivals {
    database: Database,
    members: [Member; 2],
    /// Has been at the first broker for a while.
    owner: Peer,
    /// Asks the second broker whose the name is.
    asker: Peer,
}

const OWNER: u8 = 1;
const RIVAL: u8 = 2;

impl Rivals {
    fn come() -> Self {
        let database = Database::start();
        let members = [0; 2].map(|_| Member::start(&database));
        let owner = until("the owner is registered", || {
            members[0].try_register_as("bob", &Manner::sealed(OWNER)).ok()
        });
        let asker = members[1].register("asker");
        let start = Instant::now();
        until("it has been there for longer than brokers' reckoning is coarse", || {
            (start.elapsed() > 3 * PAUSE).then_some(())
        });
        Self { database, members, owner, asker }
    }

    /// The key that the name has, as the second broker knows.
    fn holder(&mut self) -> Option<PublicKey> {
        match answer_to(&mut self.asker, Body::Lookup("bob".parse().unwrap())) {
            Body::Found(found) => found.identity,
            answer => {
                assert!(is_unknown(&answer), "{answer:?}");
                None
            }
        }
    }

    /// The name is the owner's in the end, who was never without it.
    fn owner_has_it(&mut self, mut rival: Peer) {
        let own = Manner::sealed(OWNER).identity.map(|it| it.public());
        until("the name is back", || (self.holder() == own).then_some(()));
        until("the rival is forgotten", || (!is_known(&mut rival)).then_some(()));
        let taken = self.members[1].try_register_as("bob", &Manner::sealed(RIVAL)).err();
        assert_eq!(taken, Some(ErrorCode::NameTaken));
        assert!(is_known(&mut self.owner));
    }
}

/// Whether a broker still knows a sealed peer: if not, it has no key to seal its answer with.
fn is_known(peer: &mut Peer) -> bool {
    let lease = Duration::from_secs(60);
    peer.send(Body::Refresh(Refresh { lease, rtt: None, candidates: None, nat: None }));
    Envelope::parse(&peer.socket.receive()).is_some()
}

#[test]
fn a_living_owner_keeps_its_name_though_the_database_is_emptied_and_another_comes_at_once() {
    let mut rivals = Rivals::come();
    let rival = until("another one comes before the brokers notice", || {
        assert_eq!(rivals.database.tell("FLUSHALL"), "+OK");
        rivals.members[1].try_register_as("bob", &Manner::sealed(RIVAL)).ok()
    });
    let robbed = Instant::now();
    rivals.owner_has_it(rival);
    assert!(robbed.elapsed() < Duration::from_secs(5), "not only with the next refresh");
}

#[test]
fn a_living_owner_keeps_its_name_though_the_database_starts_empty_and_another_was_there_first() {
    let mut rivals = Rivals::come();
    rivals.database.process.kill();
    let rival = until("another one comes while nobody knows", || {
        rivals.members[1].try_register_as("bob", &Manner::sealed(RIVAL)).ok()
    });
    rivals.database.process = Database::spawn(rivals.database.address);
    rivals.owner_has_it(rival);
}

#[test]
fn a_peer_that_moved_while_the_database_was_away_stays_where_it_came_last() {
    let mut rivals = Rivals::come();
    rivals.database.process.kill();
    let mut moved = until("it comes to another broker", || {
        rivals.members[1].try_register_as("bob", &Manner::sealed(OWNER)).ok()
    });
    rivals.database.process = Database::spawn(rivals.database.address);
    until("the first broker forgets it", || (!is_known(&mut rivals.owner)).then_some(()));
    assert!(is_known(&mut moved));
}

#[test]
fn something_else_where_a_name_should_be_disturbs_no_other_name() {
    let database = Database::start();
    let members = [0; 2].map(|_| Member::start(&database));
    let _bob = members[0].register("bob");
    let mut asker = members[1].register("asker");
    let mut look_up = |name: &str| answer_to(&mut asker, Body::Lookup(name.parse().unwrap()));
    until("bob is found", || matches!(look_up("bob"), Body::Found(_)).then_some(()));
    assert_eq!(database.tell("LPUSH ntcp:name:broken x"), ":1");
    for _ in 0..10 {
        assert!(is_unknown(&look_up("broken")));
        let found = look_up("bob");
        assert!(matches!(found, Body::Found(_)), "{found:?}");
    }
}

#[test]
fn peers_of_three_brokers_find_and_call_each_other() {
    let database = Database::start();
    let members = [0; 3].map(|_| Member::start(&database));
    let mut bob = members[0].register("bob");
    for member in &members[1..] {
        let mut caller = member.register(&format!("caller{}", member.udp.port()));
        meets_soon(&mut caller, &mut bob);
        let mut caller = member.register(&format!("asker{}", member.udp.port()));
        let found = answer_to(&mut caller, Body::Lookup("bob".parse().unwrap()));
        assert!(matches!(found, Body::Found(_)), "{found:?}");
        let nobody = answer_to(&mut caller, Body::Lookup("nobody".parse().unwrap()));
        assert!(is_unknown(&nobody), "{nobody:?}");
    }
}

#[test]
fn a_peer_of_a_killed_broker_comes_back_on_another() {
    let database = Database::start();
    let mut members = [0; 2].map(|_| Member::start(&database));
    members[0].register("bob");
    let mut alice = members[1].register("alice");
    // Nobody answers a ping: as long as the broker lives and the peer may, the name is taken.
    assert_eq!(members[1].try_register("bob").err(), Some(ErrorCode::NameTaken));
    members[0].process.kill();
    let mut bob = members[1].register("bob");
    meets_soon(&mut alice, &mut bob);
}

#[test]
fn the_name_of_a_dead_broker_is_for_its_own_key_until_the_lease_ends() {
    let database = Database::start();
    let mut members = [0; 2].map(|_| Member::start(&database));
    let (own, other) = (Manner::sealed(1), Manner::sealed(2));
    let short = Manner { lease: Duration::from_secs(5), ..Manner::sealed(1) };
    for (name, manner) in [("bob", &own), ("witness", &own), ("short", &short)] {
        until(name, || members[0].try_register_as(name, manner).ok());
    }
    members[0].process.kill();
    // All of this comes from one address, which may not shake hands all the time.
    let slowly = |name, manner| {
        std::thread::sleep(10 * PAUSE);
        members[1].try_register_as(name, manner).ok()
    };
    until("the broker is missed", || slowly("witness", &own));
    let taken = Some(ErrorCode::NameTaken);
    assert_eq!(members[1].try_register_as("bob", &other).err(), taken);
    assert_eq!(members[1].try_register_as("bob", &Manner::CLEAR).err(), taken, "without a key");
    assert!(members[1].try_register_as("bob", &own).is_ok(), "its owner is back at once");
    until("the lease ends", || slowly("short", &other));
}

#[test]
fn peers_in_the_clear_and_sealed_ones_meet_across_brokers() {
    let database = Database::start();
    let members = [0; 2].map(|_| Member::start(&database));
    let mut bob = members[0].register("bob");
    let mut caller = until("a caller in the clear", || {
        members[1].try_register_as("caller", &Manner::CLEAR).ok()
    });
    meets_soon(&mut caller, &mut bob);
}

#[test]
fn a_peer_of_a_broker_that_stops_is_at_once_free_for_another() {
    let database = Database::start();
    let mut members = [0; 2].map(|_| Member::start(&database));
    let mut bob = members[0].register("bob");
    let mut alice = members[1].register("alice");
    members[0].process.signal(Signal::SIGTERM);
    assert_eq!(bob.receive().body, Body::Dismissed);
    members[0].process.0.wait().unwrap();
    let mut bob = members[1].try_register("bob").expect("the name was let go with its peer");
    meets(&mut alice, &mut bob);
}

#[test]
fn brokers_go_on_while_the_database_is_away_and_recover_when_it_is_back_empty() {
    let mut database = Database::start();
    let members = [0; 2].map(|_| Member::start(&database));
    let mut alice = members[0].register("alice");
    database.process.kill();
    // Its own peers are served.
    let mut local = members[0].register("bob");
    meets(&mut alice, &mut local);
    let mut other = members[1].register("carol");
    assert!(is_unknown(&answer_to(&mut other, Body::Lookup("bob".parse().unwrap()))));
    database.process = Database::spawn(database.address);
    until("the names are entered anew", || {
        let found = answer_to(&mut other, Body::Lookup("bob".parse().unwrap()));
        matches!(found, Body::Found(_)).then_some(())
    });
    meets_soon(&mut other, &mut local);
}

#[test]
fn a_database_that_was_emptied_is_told_everything_again() {
    let database = Database::start();
    let members = [0; 2].map(|_| Member::start(&database));
    let mut bob = members[0].register("bob");
    let mut alice = members[1].register("alice");
    meets_soon(&mut alice, &mut bob);
    assert_eq!(database.tell("FLUSHALL"), "+OK");
    // Nobody refreshes here: it is the brokers that notice.
    meets_soon(&mut alice, &mut bob);
}

#[test]
fn a_database_that_hangs_holds_nobody_up_for_long() {
    let database = Database::start();
    let members = [0; 2].map(|_| Member::start(&database));
    let mut alice = members[0].register("alice");
    database.process.signal(Signal::SIGSTOP);
    let mut bob = members[0].register("bob");
    meets(&mut alice, &mut bob);
    database.process.signal(Signal::SIGCONT);
    let mut carol = members[1].register("carol");
    until("the name is entered anew", || {
        let found = answer_to(&mut carol, Body::Lookup("bob".parse().unwrap()));
        matches!(found, Body::Found(_)).then_some(())
    });
    meets_soon(&mut carol, &mut bob);
}

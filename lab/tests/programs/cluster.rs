//! Three brokers that share a database, and peers behind NATs that know them by one name.

use std::time::{Duration, Instant};

use ntcp_lab::kernel::{Child, Lab, SERVER_ADDRESSES, Stream};
use ntcp_lab::scratch::Scratch;
use ntcp_lab::trial::{Call, Programs, ready};

use super::{PATIENCE, homes};

/// The port of the database, on the server's first address.
const DATABASE: &str = "6379";
/// The name under which peers know all brokers.
const NAME: &str = "brokers.lab";

/// A database, and three brokers at addresses of their own.
struct Cluster<'lab> {
    lab: &'lab Lab,
    _database: Child,
    _stun: Child,
    brokers: [Option<Child>; 3],
    /// To peers they are one.
    key: Scratch,
}

impl<'lab> Cluster<'lab> {
    fn start(lab: &'lab Lab) -> Self {
        let [first, ..] = SERVER_ADDRESSES.map(|it| it.to_string());
        let database = lab
            .command("server", "redis-server")
            .args(["--bind", &first, "--port", DATABASE, "--protected-mode", "no"])
            .args(["--save", "", "--appendonly", "no"])
            .stdout(Stream::Null);
        let programs = Programs::beside_this_one().unwrap();
        let stun = lab
            .command("server", programs.path("ntcp-stun-server"))
            .args(["--listen", &format!("{first}:3478")]);
        let mut cluster = Self {
            lab,
            _database: database.spawn().unwrap(),
            _stun: ready(stun, "listening").unwrap(),
            brokers: [None, None, None],
            key: Scratch::new("cluster-key"),
        };
        (0..3).for_each(|index| cluster.start_broker(index));
        cluster
    }

    fn start_broker(&mut self, index: usize) {
        let (first, own) = (SERVER_ADDRESSES[0], SERVER_ADDRESSES[index]);
        let program = Programs::beside_this_one().unwrap().path("ntcp-broker");
        let broker = self
            .lab
            .command("server", program)
            .args(["all", "--udp", &format!("{own}:6060"), "--tcp", &format!("{own}:9999")])
            .env("NTCP_SECURITY__KEY", self.key.path())
            .env("NTCP_REGISTRY__URL", &format!("redis://{first}:{DATABASE}/"));
        self.brokers[index] = Some(ready(broker, "directory is there").unwrap());
    }

    /// As an operator does it.
    fn stop_broker(&mut self, index: usize) {
        let mut broker = self.brokers[index].take().unwrap();
        broker.signal(libc::SIGTERM).unwrap();
        assert!(broker.wait_timeout(PATIENCE).unwrap().is_some(), "broker {index} does not stop");
    }

    fn kill_broker(&mut self, index: usize) {
        let mut broker = self.brokers[index].take().unwrap();
        broker.signal(libc::SIGKILL).unwrap();
        assert!(broker.wait_timeout(PATIENCE).unwrap().is_some());
    }

    /// Within a lease a call comes through again.
    fn finds_him_again(&self, what: &str) {
        let began = Instant::now();
        while self.call(NAME)["outcome"] != "connected" {
            assert!(began.elapsed() < Duration::from_secs(60), "{what}: not back within a lease");
        }
    }

    /// A call through this broker.
    fn call(&self, broker: &str) -> serde_json::Value {
        let stun = format!("{}:3478", SERVER_ADDRESSES[0]);
        let flags = ["--broker", broker, "--stun", &stun].map(String::from).to_vec();
        Call { flags, ..Call::bob("a", "any") }.run(self.lab).unwrap().report
    }
}

fn stands(report: &serde_json::Value, what: &str) {
    assert_eq!(report["outcome"], "connected", "{what}: {report:#}");
    assert_eq!(report["relayed"], false, "{what}: {report:#}");
}

#[test]
fn peers_of_different_brokers_connect_and_no_broker_is_missed() {
    let lab = homes("linux-masq", "port-restricted").start().unwrap();
    let mut cluster = Cluster::start(&lab);
    let stun = format!("{}:3478", SERVER_ADDRESSES[0]);
    let listener = lab
        .command("b", Programs::beside_this_one().unwrap().path("ntcp"))
        .args(["listen", "bob", "--exec", "cat", "--broker", NAME, "--stun", &stun])
        .env("NTCP_NODE__KEEPALIVE", "1s");
    let _listener = ready(listener, "listening").unwrap();
    // He is at one of them.
    for address in &SERVER_ADDRESSES[..3] {
        stands(&cluster.call(&address.to_string()), &format!("through {address}"));
    }
    // One after the other is stopped or killed, and started anew; one of them is his.
    for index in 0..3 {
        cluster.stop_broker(index);
        cluster.finds_him_again(&format!("without broker {index}"));
        cluster.start_broker(index);
    }
    for index in 0..3 {
        cluster.kill_broker(index);
        cluster.finds_him_again(&format!("after broker {index} died"));
        cluster.start_broker(index);
    }
}

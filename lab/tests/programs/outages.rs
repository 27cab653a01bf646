//! Servers that go away, come back, or never were there.

use std::time::{Duration, Instant};

use ntcp_lab::kernel::{QUIET_ADDRESS, SERVER_ADDRESSES};
use ntcp_lab::trial::Call;

use super::{Conversation, PATIENCE, connected, homes, on_stage, refused};

/// `[node] deadline` by default, and what a busy machine needs to start a program.
const DEADLINE: Duration = Duration::from_secs(10 + 5);

#[test]
fn a_broker_that_restarts_is_not_noticed_by_connections_and_found_again_by_peers() {
    on_stage(homes("linux-masq", "port-restricted"), |lab, stage| {
        let mut conversations = ["tcp", "udp"].map(|transport| Conversation::start(lab, transport));
        for conversation in &mut conversations {
            conversation.exchange("before");
        }
        stage.servers().kill_broker().unwrap();
        for conversation in &mut conversations {
            conversation.exchange("without a broker");
        }
        stage.servers().start_broker().unwrap();
        let began = Instant::now();
        loop {
            let report = stage.connect("a", "any").unwrap();
            if report["outcome"] == "connected" {
                break;
            }
            assert!(began.elapsed() < PATIENCE, "bob did not register again: {report:#}");
        }
        for mut conversation in conversations {
            conversation.exchange("after");
            assert!(conversation.end().success());
        }
    });
}

#[test]
fn without_a_stun_server_peers_connect_all_the_same() {
    on_stage(homes("linux-masq", "port-restricted"), |_, stage| {
        stage.servers().kill_stun().unwrap();
        for transport in ["tcp", "udp"] {
            connected(stage, transport, "no STUN server");
        }
    });
}

#[test]
fn a_broker_that_cannot_be_used_is_named_in_time() {
    let (down, silent) = (SERVER_ADDRESSES[0].to_string(), QUIET_ADDRESS.to_string());
    on_stage(homes("linux-masq", "port-restricted"), |lab, stage| {
        stage.servers().kill_broker().unwrap();
        for broker in [down.as_str(), silent.as_str(), "nowhere.invalid"] {
            let flags = ["--broker", broker, "--stun", "server.lab"].map(String::from).to_vec();
            let began = Instant::now();
            let outcome = Call { flags, ..Call::bob("a", "any") }.run(lab).unwrap();
            let reason = refused(&outcome);
            assert!(reason.contains(broker), "{reason} does not name {broker}");
            assert!(began.elapsed() < DEADLINE, "{broker}: {:?}", began.elapsed());
        }
    });
}

#[test]
fn a_peer_that_is_not_there_is_named() {
    on_stage(homes("linux-masq", "port-restricted"), |lab, _| {
        let call = Call { uri: "ntcp://nobody".into(), ..Call::bob("a", "any") };
        let reason = refused(&call.run(lab).unwrap());
        assert!(reason.contains("nobody"), "{reason}");
    });
}

//! What goes in on one side comes out on the other, both ways at once.

use std::io::{Read as _, Write as _};
use std::net::Ipv4Addr;
use std::thread;

use ntcp_lab::kernel::{Child, Lab, SocketKind, Stream};
use ntcp_lab::trial::{Call, Programs, Servers, ready, server_flags};

use super::{PATIENCE, homes, on_stage};

const LENGTH: usize = 20 << 20;
const TRANSPORTS: [&str; 2] = ["tcp", "udp"];

/// Bytes that no mistake reproduces (xorshift64*, Vigna 2016).
fn noise(seed: u64) -> Vec<u8> {
    let mut state = seed;
    let words = std::iter::repeat_with(|| {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        state.wrapping_mul(0x2545_f491_4f6c_dd1d)
    });
    words.take(LENGTH / 8).flat_map(u64::to_le_bytes).collect()
}

/// Feeds a program and hands out what it writes.
fn converse(mut child: Child, input: &[u8]) -> (Child, Vec<u8>) {
    let mut stdin = child.stdin.take().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let mut output = Vec::with_capacity(LENGTH);
    thread::scope(|scope| {
        scope.spawn(move || stdin.write_all(input).unwrap());
        stdout.read_to_end(&mut output).unwrap();
    });
    (child, output)
}

fn finish(mut child: Child) {
    let status = child.wait_timeout(PATIENCE).unwrap().expect("both directions have ended");
    assert!(status.success(), "{status:?}");
}

/// Both ways at once through standard input and output.
fn exchange(lab: &Lab, transport: &str) {
    let _servers = Servers::start(lab).unwrap();
    let (ours, theirs) = (noise(1), noise(2));
    let program = Programs::beside_this_one().unwrap().path("ntcp");
    let listener = lab.command("b", program).args(["listen", "bob"]).args(server_flags());
    let listener = listener.stdin(Stream::Piped).stdout(Stream::Piped);
    let listener = ready(listener, "listening").unwrap();
    let caller = Call::bob("a", transport).command(lab).unwrap();
    let caller = caller.stdin(Stream::Piped).stdout(Stream::Piped).spawn().unwrap();
    thread::scope(|scope| {
        let listening = scope.spawn(|| converse(listener, &theirs));
        let (caller, received) = converse(caller, &ours);
        let (listener, heard) = listening.join().unwrap();
        assert!(received == theirs, "{transport}: {} bytes came to the caller", received.len());
        assert!(heard == ours, "{transport}: {} bytes came to the listener", heard.len());
        finish(caller);
        finish(listener);
    });
}

#[test]
fn twenty_megabytes_each_way_arrive_unchanged() {
    for transport in TRANSPORTS {
        // A line with delay is a user-space router, which is not what this is about.
        let lab = Lab::builder().home("a", "linux-masq").home("b", "linux-masq").start().unwrap();
        exchange(&lab, transport);
    }
}

#[test]
fn a_forwarded_port_leads_to_the_service_at_the_other_end() {
    on_stage(homes("linux-masq", "port-restricted"), |lab, _| {
        for (transport, port) in TRANSPORTS.into_iter().zip([8022_u16, 8023]) {
            let call = Call::bob("a", transport).command(lab).unwrap();
            let call = call.args(["--forward", &port.to_string()]);
            let _forward = ready(call, "forwarding").unwrap();
            for word in ["one", "another"] {
                let client = lab.socket("a", SocketKind::Tcp).unwrap();
                client.set_read_timeout(Some(PATIENCE)).unwrap();
                client
                    .connect(&(std::net::SocketAddr::from((Ipv4Addr::LOCALHOST, port))).into())
                    .unwrap();
                let mut client = std::net::TcpStream::from(client);
                client.write_all(word.as_bytes()).unwrap();
                client.shutdown(std::net::Shutdown::Write).unwrap();
                let mut back = String::new();
                client.read_to_string(&mut back).unwrap();
                assert_eq!(back, word, "over {transport}");
            }
        }
    });
}

//! A broker that is closed to outsiders, as its operator meets it: files, tokens, reload.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use nix::sys::signal::Signal;
use ntcp_proto::access::{AccessDenied, Credentials};
use ntcp_proto::secrecy::SecretKey;
use ntcp_proto::signal::message::Body;

use crate::peer::{Manner, Peer, Socket, connect};
use crate::program::{Folder, Program};

const PROGRAM: &str = env!("CARGO_BIN_EXE_ntcp-broker");
/// Keys that tokens are minted with.
const ONE: &str = "one 000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\n";
const TWO: &str = "two # the new one\n";

/// A broker that reads everything from one folder.
struct Closed {
    folder: Folder,
    program: Program,
    udp: SocketAddr,
}

fn write_key(path: &Path, number: u8) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::write(path, format!("{number:02x}").repeat(32)).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

impl Closed {
    fn start(test: &str) -> Self {
        let folder = Folder::new(test);
        let closed = |name: &str| folder.0.join(name);
        std::fs::write(closed("token_keys"), ONE).unwrap();
        std::fs::write(closed("accounts"), "alice plain:hush alice alice-*\n").unwrap();
        write_key(&closed("first.key"), 1);
        write_key(&closed("second.key"), 2);
        let path = folder.configure(&Self::configuration(&folder, "first.key", "[]"));
        let arguments = ["udp", "--udp", "127.0.0.1:0", "--config", path.to_str().unwrap()];
        // Otherwise it could not read what root alone may read, once it is somebody else.
        let mut program = Program::start(PROGRAM, &arguments, &[("NTCP_SERVICE__USER", "root")]);
        let udp = program.address_after("listening on UDP address=");
        Self { folder, program, udp }
    }

    fn configuration(folder: &Folder, key: &str, old: &str) -> String {
        let folder = folder.0.display();
        format!(
            "[security]\nkey = '{folder}/{key}'\nold_keys = {old}\n[access]\n\
             accounts = '{folder}/accounts'\ntoken_keys = '{folder}/token_keys'\n"
        )
    }

    /// What `ntcp-broker token` prints.
    fn token(&self, arguments: &[&str]) -> String {
        let keys = self.folder.0.join("token_keys");
        let mut command = Command::new(PROGRAM);
        command.args(["token", "--keys", keys.to_str().unwrap()]).args(arguments);
        let output = command.env_clear().current_dir("/").output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    fn comes(&self, name: &str, shown: Option<Credentials>) -> Result<Peer, Option<AccessDenied>> {
        let manner = Manner { credentials: shown, ..Manner::sealed(name.len() as u8) };
        let registered = Peer::register_as(Socket::udp(self.udp), name, &manner);
        registered.map_err(|refused| refused.access)
    }
}

fn with_token(text: &str) -> Option<Credentials> {
    Some(Credentials::of_token(text).unwrap())
}

fn account(password: &str) -> Option<Credentials> {
    Some(Credentials::of_account("alice".parse().unwrap(), password))
}

#[test]
fn accounts_and_tokens_of_the_program_open_a_closed_broker() {
    let broker = Closed::start("broker-access");
    assert!(broker.comes("alice-1", account("hush")).is_ok());
    assert!(broker.comes("bob-1", with_token(&broker.token(&["--names", "bob-*"]))).is_ok());
    // Nobody has minted this one.
    let forged = "t1:one:0:bob:5b4d44e3e1b0e2d3a5a1f0f7e0c4a8f6f5f1b5b7a5c2b2c9a1a0d6a5f4e3d2c1";
    for (name, shown, reason) in [
        ("bob", None, AccessDenied::Needed),
        ("alice", account("wrong"), AccessDenied::Wrong),
        ("bob", account("hush"), AccessDenied::NameNotCovered),
        ("bob", with_token(forged), AccessDenied::Forged),
    ] {
        assert_eq!(broker.comes(name, shown).err(), Some(Some(reason)));
    }
}

#[test]
fn keys_accounts_and_tokens_are_read_again_while_peers_live_on() {
    let mut broker = Closed::start("broker-rotation");
    let first = broker.token(&["--names", "*", "--valid", "1d"]);
    let mut alice = broker.comes("alice", account("hush")).unwrap();
    let mut bob = broker.comes("bob", with_token(&first)).unwrap();
    // The new key beside the old one, the new broker's key before its old one; alice's account goes.
    let place = |name: &str| broker.folder.0.join(name);
    let two = TWO.replace("two", &format!("two {}", "7f".repeat(32)));
    std::fs::write(place("token_keys"), format!("{ONE}{two}")).unwrap();
    std::fs::write(place("accounts"), "# nobody\n").unwrap();
    let old = format!("['{}']", place("first.key").display());
    broker.folder.configure(&Closed::configuration(&broker.folder, "second.key", &old));
    broker.program.signal(Signal::SIGHUP);
    broker.program.wait_for("taken over");
    let second = broker.token(&["--names", "carol", "--key", "two"]);
    assert!(broker.comes("carol", with_token(&second)).is_ok());
    assert!(broker.comes("dave", with_token(&first)).is_ok(), "as long as its key is there");
    assert_eq!(broker.comes("alice-2", account("hush")).err(), Some(Some(AccessDenied::Wrong)));
    // The old key goes.
    std::fs::write(broker.folder.0.join("token_keys"), two).unwrap();
    broker.program.signal(Signal::SIGHUP);
    broker.program.wait_for("taken over");
    let late = broker.comes("erin", with_token(&first)).err();
    assert_eq!(late, Some(Some(AccessDenied::UnknownKey)));
    // What cannot be read stays as it was.
    std::fs::write(broker.folder.0.join("token_keys"), "nonsense\n").unwrap();
    broker.program.signal(Signal::SIGHUP);
    let refused = broker.program.wait_for("stay as they are");
    assert!(refused.contains("line 1: write the key's name"), "{refused}");
    broker.program.wait_for("taken over");
    assert!(broker.comes("frank", with_token(&second)).is_err(), "a token is for its name");
    // And who was there is there still.
    for peer in [&mut alice, &mut bob] {
        assert_eq!(peer.ask(Body::Ping), Body::Pong);
    }
    assert!(matches!(alice.ask(connect("bob")), Body::Connected(_)));
    let shown = Peer::shown_key(Socket::udp(broker.udp));
    assert_eq!(shown, SecretKey::from_bytes([2; 32]).public(), "newcomers are shown the new key");
}

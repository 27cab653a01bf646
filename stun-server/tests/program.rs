//! The program `ntcp-stun-server`: what it says, and its exit status.

use std::io::{BufRead, BufReader, Read};
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ntcp-stun-server"));
    // Nothing of the machine's own configuration.
    command.env_clear().current_dir(env!("CARGO_MANIFEST_DIR"));
    command
}

fn run(arguments: &[&str]) -> (Option<i32>, String) {
    let Output { status, stdout, stderr } =
        program().args(arguments).output().expect("the program starts");
    let text = String::from_utf8_lossy(&stdout) + String::from_utf8_lossy(&stderr);
    (status.code(), text.into_owned())
}

#[test]
fn check_says_where_it_would_listen() {
    let (status, text) = run(&["--check"]);
    assert_eq!(status, Some(0), "{text}");
    assert!(text.contains("0.0.0.0:3478 and [::]:3478, no alternate"), "{text}");
    let flags = ["--listen", "192.0.2.1:3478", "--alternate", "192.0.2.2", "--check"];
    let (status, text) = run(&flags);
    assert_eq!(status, Some(0), "{text}");
    assert!(text.contains("192.0.2.1:3478, alternate 192.0.2.2:3479"), "{text}");
}

#[test]
fn check_and_configuration_tell_the_mode() {
    let folder = std::env::temp_dir().join(format!("ntcp-stun-server-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let write = |name: &str, text: &str| {
        let path = folder.join(name);
        std::fs::write(&path, text).expect("written");
        path.to_str().expect("a path").to_owned()
    };
    let good = write("users", "# who\nalice:wonderland\n\nbob:a:b\n");
    let bad = write("bad-users", "alice:wonderland\nbob\n");
    let long_term = |users: &str| {
        format!("[stun]\naccess = 'long-term'\nrealm = 'example.org'\ncredentials = '{users}'")
    };
    let key = write("key", &"5e".repeat(32));
    let short = write("short-key", " 123456789\n");
    let partner = |key: &str| {
        let addresses = "listen = ['192.0.2.1:1']\nalternate = ['192.0.2.2:2']";
        format!("[stun]\nmode = 'partner'\n{addresses}\npartner_key = '{key}'")
    };
    let make = || rcgen::generate_simple_self_signed(vec!["stun.example.org".to_owned()]);
    let (one, other) = (make().expect("a certificate"), make().expect("a certificate"));
    let certificate = write("certificate.pem", &one.cert.pem());
    let broken = write("broken.pem", &one.cert.pem().replace("END CERT", "END OF CERT"));
    let own_key = write("key.pem", &one.signing_key.serialize_pem());
    let other_key = write("other-key.pem", &other.signing_key.serialize_pem());
    let ed25519 = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).expect("a key");
    let params = rcgen::CertificateParams::new(vec!["stun.example.org".to_owned()]);
    let edwards = params.expect("parameters").self_signed(&ed25519).expect("a certificate");
    let edwards = write("ed25519.pem", &edwards.pem());
    let ed25519 = write("ed25519-key.pem", &ed25519.serialize_pem());
    let dtls = |certificate: &str, key: &str| {
        let files = format!("tls_certificate = '{certificate}'\ntls_key = '{key}'");
        format!("[stun]\ndtls_listen = ['127.0.0.1:5349']\n{files}")
    };
    let without = "built without DTLS; remove the key, or build with the feature";
    let (dtls_served, dtls_refused) = match cfg!(feature = "dtls") {
        true => ((0, "DTLS on 127.0.0.1:5349"), "DTLS needs an ECDSA key on the curve P-256"),
        false => ((2, without), without),
    };
    let tls = |certificate: &str, key: &str| {
        let files = format!("tls_certificate = '{certificate}'\ntls_key = '{key}'");
        format!("[stun]\ntls_listen = ['127.0.0.1:5349']\n{files}")
    };
    let hidden = |pairs: &str| {
        let own = "listen = ['192.0.2.1:1']\nalternate = ['192.0.2.2:2']";
        format!("[stun]\n{own}\npublic = ['{pairs}']")
    };
    let forged = "[stun]\nmode = 'forged'\nlisten = ['192.0.2.1:1']\nalternate = ['192.0.2.2:2']";
    for (text, status, expected) in [
        ("", 0, "mode basic"),
        ("[stun]\nlisten = ['192.0.2.1:1']\nalternate = ['192.0.2.2:2']", 0, "mode dual"),
        (forged, 0, "mode forged"),
        (&hidden("192.0.2.1=198.51.100.1"), 0, "192.0.2.1:1, 192.0.2.1 known as 198.51.100.1"),
        (&hidden("192.0.2.3=198.51.100.1"), 2, "\"192.0.2.3=198.51.100.1\": the server does not"),
        (&hidden("192.0.2.1=a.example"), 2, "\"a.example\" is not an IP address; write one"),
        (
            &hidden("192.0.2.1=198.51.100.1', '192.0.2.2=198.51.100.1"),
            2,
            "give each address of this machine one public address of its own",
        ),
        (&partner(&key), 0, "mode partner, UDP and TCP on 192.0.2.1:1, together with the host at"),
        (&partner(&short), 2, "short-key\" holds 9 bytes, 32 are needed"),
        (&partner("/nowhere"), 2, "[stun] partner_key = \"/nowhere\" cannot be read"),
        (&tls(&key, &key), 2, "[stun] tls_certificate = "),
        (
            &tls(&key, &key),
            2,
            "holds no certificate: there is no certificate in it; write it as PEM",
        ),
        (&tls("/nowhere", &key), 2, "[stun] tls_certificate = \"/nowhere\" cannot be read"),
        (&tls(&certificate, &key), 2, "holds no private key"),
        (&tls(&certificate, "/nowhere"), 2, "[stun] tls_key = \"/nowhere\" cannot be read"),
        (&tls(&certificate, &other_key), 2, "name a certificate and the key that it was made for"),
        (&tls(&broken, &own_key), 2, "[stun] tls_certificate = "),
        (&tls(&certificate, &own_key), 0, "TLS on 127.0.0.1:5349"),
        (&tls(&edwards, &ed25519), 0, "TLS on 127.0.0.1:5349"),
        (&dtls(&certificate, &own_key), dtls_served.0, dtls_served.1),
        (&dtls(&edwards, &ed25519), 2, dtls_refused),
        ("[stun]\nmode = 'partners'", 2, "write auto, basic, dual, forged or partner"),
        (&long_term(&good), 0, "configuration is good"),
        (&long_term(&bad), 2, "line 2: a name or a password is missing; write name:password"),
        (&long_term("/nowhere"), 2, "[stun] credentials = \"/nowhere\" cannot be read"),
    ] {
        let path = write("config.toml", text);
        let (found, said) = run(&["--config", &path, "--check"]);
        assert_eq!(found, Some(status), "{text}: {said}");
        assert!(said.contains(expected), "{text}: {said}");
        assert!(!said.contains("wonderland"), "no password is shown: {said}");
    }
    std::fs::remove_dir_all(&folder).expect("removed");
}

#[test]
fn every_file_in_conf_is_good() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../conf");
    let files: Vec<PathBuf> = std::fs::read_dir(folder)
        .expect("the folder conf")
        .map(|file| file.expect("a file").path())
        .filter(|path| path.extension().is_some_and(|it| it == "toml"))
        .collect();
    assert!(!files.is_empty());
    for file in files {
        let path = file.to_str().expect("a path");
        let (status, text) = run(&["--config", path, "--check"]);
        assert_eq!(status, Some(0), "{path}: {text}");
    }
}

#[test]
fn wrong_usage_and_configuration_end_with_2_and_a_fix() {
    for (arguments, expected) in [
        (&["--bogus"][..], "--bogus"),
        (&["--listen", "3478"], "3478"),
        (&["--listen", "192.0.2.1:1", "--alternate", "nowhere"], "expected IP or IP:PORT"),
        (&["--listen", "192.0.2.1:1", "--listen", "192.0.2.2:1"], "two addresses of one family"),
        (&["--alternate", "192.0.2.2:3479"], "concrete IP addresses"),
        (&["--listen", "192.0.2.1:1", "--alternate", "192.0.2.1:2"], "two different IP"),
        (&["--listen", "192.0.2.1:1", "--alternate", "192.0.2.2:1"], "two different ports"),
        (&["--listen", "192.0.2.1:65535", "--alternate", "192.0.2.2"], "no port after 65535"),
        (&["--listen", "192.0.2.1:1", "--alternate", "[2001:db8::2]:3"], "family"),
        (&["--config", "no/such/file.toml"], "no/such/file.toml"),
    ] {
        let (status, text) = run(arguments);
        assert_eq!(status, Some(2), "{arguments:?}: {text}");
        assert!(text.contains(expected), "{arguments:?}: {text}");
    }
}

#[test]
fn a_port_in_use_ends_with_1_and_names_the_address_and_what_to_do() {
    let holder = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    let address = holder.local_addr().expect("bound").to_string();
    let (status, text) = run(&["--listen", &address]);
    assert_eq!(status, Some(1), "{text}");
    assert!(text.contains(&format!("UDP {address} is in use")), "{text}");
    assert!(text.contains("--listen"), "{text}");
    let (status, text) = run(&["--listen", "192.0.2.77:3478"]);
    assert_eq!(status, Some(1), "{text}");
    assert!(text.contains("192.0.2.77:3478 is not an address of this host"), "{text}");
}

#[test]
fn one_line_names_each_address_and_whether_change_requests_are_served() {
    // Of IPs that nobody else uses, a fixed port is as good as a free one.
    for (alternate, expected) in [
        (None, "127.77.0.1:34788; change requests: refused over IPv4 (no alternate address)"),
        (
            Some("127.77.0.2"),
            "127.77.0.1:34788, 127.77.0.1:34789, 127.77.0.2:34788, 127.77.0.2:34789; change requests: served over IPv4",
        ),
    ] {
        let mut command = program();
        command.args(["--listen", "127.77.0.1:34788"]).stderr(Stdio::piped());
        command.args(alternate.into_iter().flat_map(|it| ["--alternate", it]));
        let mut child = command.spawn().expect("the program starts");
        let mut line = String::new();
        let mut log = BufReader::new(child.stderr.take().expect("piped"));
        log.read_line(&mut line).expect("a line");
        child.kill().expect("it runs");
        wait(&mut child);
        assert!(line.trim_end().ends_with(&format!("UDP and TCP {expected}")), "{line}");
    }
}

#[test]
#[cfg(target_os = "linux")]
fn sigterm_and_sigint_stop_it_with_0() {
    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;

    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut child = program()
            .args(["--listen", "127.0.0.1:0"])
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let mut log = BufReader::new(child.stderr.take().expect("piped"));
        let mut line = String::new();
        log.read_line(&mut line).expect("a line");
        assert!(line.contains("listening on UDP and TCP"), "{line}");
        assert!(!line.contains('\u{1b}'), "no colour in a pipe: {line:?}");
        kill(Pid::from_raw(child.id().cast_signed()), signal).expect("it runs");
        let mut rest = String::new();
        log.read_to_string(&mut rest).expect("text");
        assert_eq!(wait(&mut child), Some(0), "{rest}");
        assert!(rest.contains("stopped"), "{rest}");
    }
}

fn wait(child: &mut Child) -> Option<i32> {
    child.wait().expect("it ends").code()
}

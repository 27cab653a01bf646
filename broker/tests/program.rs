//! The program: its flags, its messages, its exit status.

use std::io::{BufRead, BufReader};
use std::process::{Command, Output, Stdio};

fn broker(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ntcp-broker"));
    // Neither a file nor a variable of whoever runs the tests.
    command.args(arguments).env_clear().current_dir(env!("CARGO_TARGET_TMPDIR"));
    command
}

fn run(arguments: &[&str]) -> (Option<i32>, String) {
    let Output { status, stdout, stderr } = broker(arguments).output().unwrap();
    let text = [stdout, stderr].concat();
    (status.code(), String::from_utf8(text).unwrap())
}

#[test]
fn a_good_configuration_is_checked_and_described() {
    let (status, text) = run(&["--check", "--udp", "127.0.0.1:1"]);
    assert_eq!(status, Some(0));
    assert!(
        text.contains("UDP on 127.0.0.1:1, TCP on 0.0.0.0:9999 and [::]:9999, no metrics"),
        "{text}"
    );
    let (status, text) = run(&["udp", "--check"]);
    assert_eq!(status, Some(0));
    assert!(text.contains("no TCP"), "{text}");
}

#[test]
fn wrong_usage_and_wrong_configuration_end_with_2() {
    let absent = ["--config", "does-not-exist.toml", "--check"];
    let cases: [(&[&str], &str); 5] = [
        (&["--udp", "nonsense"], "nonsense"),
        (&["sideways"], "sideways"),
        (&["udp", "--tcp", "127.0.0.1:1"], "--tcp makes no sense"),
        (&["tcp", "--udp", "127.0.0.1:1"], "--udp makes no sense"),
        (&absent, "does-not-exist.toml"),
    ];
    for (arguments, culprit) in cases {
        let (status, text) = run(arguments);
        assert_eq!(status, Some(2), "{arguments:?}: {text}");
        assert!(text.contains(culprit), "{arguments:?}: {text}");
    }
}

#[test]
fn the_check_refuses_old_keys_that_are_not_there_and_for_root_a_user_that_is_not() {
    let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR"));
    let path = folder.join("broker-check.toml");
    let check = |toml: &str| {
        std::fs::write(&path, toml).unwrap();
        run(&["--check", "--config", path.to_str().unwrap()])
    };
    let (status, text) =
        check("[security]\nkey = '/nonexistent/n'\nold_keys = ['/nonexistent/k']\n");
    assert_eq!(status, Some(2), "{text}");
    assert!(text.contains("/nonexistent/k") && text.contains("old_keys"), "{text}");
    let (status, text) = check("[service]\nuser = 'nobody-knows-this-one'\n");
    if nix::unistd::geteuid().is_root() {
        assert_eq!(status, Some(2), "{text}");
        assert!(text.contains("nobody-knows-this-one"), "{text}");
    } else {
        assert_eq!(status, Some(0), "only root becomes somebody: {text}");
    }
}

#[cfg(unix)]
#[test]
fn secrets_that_everybody_may_read_are_warned_of() {
    use std::os::unix::fs::PermissionsExt;
    let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR"));
    let [config, accounts] =
        ["exposed.toml", "exposed-accounts"].map(|name| folder.join(format!("broker-{name}")));
    let toml = format!("[access]\naccounts = {accounts:?}\n");
    std::fs::write(&config, toml).unwrap();
    std::fs::write(&accounts, "alice plain:secret\n").unwrap();
    for (mode, warned) in [(0o644, true), (0o640, false), (0o600, false)] {
        std::fs::set_permissions(&accounts, PermissionsExt::from_mode(mode)).unwrap();
        let (status, text) = run(&["--check", "--config", config.to_str().unwrap()]);
        assert_eq!(status, Some(0), "{text}");
        let warning = format!("(mode 644): chmod o= {}", accounts.display());
        assert_eq!(text.contains(&warning), warned, "{mode:o}: {text}");
    }
}

#[test]
fn a_port_in_use_ends_with_1() {
    let taken = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (status, text) = run(&["udp", "--udp", &address]);
    assert_eq!(status, Some(1));
    assert!(text.contains(&address) && text.contains("in use"), "{text}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_signal_ends_it_gracefully_with_0() {
    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;

    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let arguments = ["--udp", "127.0.0.1:0", "--tcp", "127.0.0.1:0"];
        let mut child = broker(&arguments).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut listening = 0;
        while listening < 2 {
            let line = lines.next().expect("it says where it listens").unwrap();
            listening += usize::from(line.contains("listening"));
        }
        kill(Pid::from_raw(child.id() as i32), signal).unwrap();
        let rest: Vec<String> = lines.map_while(Result::ok).collect();
        assert!(rest.iter().any(|line| line.contains("stopped")), "{rest:?}");
        assert_eq!(child.wait().unwrap().code(), Some(0), "{signal}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn with_few_descriptors_it_serves_few_streams_and_says_so() {
    use std::io::Read;
    use std::net::TcpStream;
    use std::time::{Duration, Instant};

    let program = env!("CARGO_BIN_EXE_ntcp-broker");
    let line = format!("ulimit -n 66 && exec {program} tcp --tcp 127.0.0.1:0");
    let mut command = Command::new("sh");
    command.args(["-c", &line]).env_clear().current_dir(env!("CARGO_TARGET_TMPDIR"));
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let warned = lines.next().unwrap().unwrap();
    assert!(warned.contains("streams=2"), "{warned}");
    let listening = lines.map_while(Result::ok).find(|line| line.contains("listening")).unwrap();
    let address = listening.split("address=").nth(1).unwrap().trim().to_owned();
    let streams: Vec<TcpStream> = (0..3).map(|_| TcpStream::connect(&address).unwrap()).collect();
    // The one too many is closed; which one it is depends on the order of acceptance.
    let is_closed = |mut stream: &TcpStream| {
        stream.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
        matches!(stream.read(&mut [0]), Ok(0))
    };
    let deadline = Instant::now() + Duration::from_secs(10);
    while !streams.iter().any(is_closed) {
        assert!(Instant::now() < deadline, "all three are served");
    }
    assert_eq!(streams.iter().filter(|it| is_closed(it)).count(), 1);
    child.kill().unwrap();
    child.wait().unwrap();
}

#[cfg(target_os = "linux")]
#[test]
fn a_disk_without_room_for_the_log_stops_nobody() {
    // Free for a moment is enough: nobody else takes ports in this range at random.
    let free = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut command = broker(&["udp", "-vv", "--udp", &free.to_string()]);
    command.stdin(Stdio::null()).stderr(std::fs::File::create("/dev/full").unwrap());
    let mut child = command.spawn().unwrap();
    let client = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    client.set_read_timeout(Some(std::time::Duration::from_millis(100))).unwrap();
    // A Binding request (RFC 8489): answered, and logged, many times.
    let request = [&[0, 1, 0, 0, 0x21, 0x12, 0xA4, 0x42][..], &[7; 12]].concat();
    let mut answers = 0;
    for _ in 0..200 {
        // Nobody is there yet at first.
        let _ = client.send_to(&request, free);
        answers += usize::from(client.recv(&mut [0; 100]).is_ok());
        if answers == 20 {
            break;
        }
    }
    let ended = child.try_wait().unwrap();
    let _ = child.kill();
    let _ = child.wait();
    assert_eq!((answers, ended), (20, None));
}

//! Labs come and go without a trace, side by side, and without root.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::Instant;

use ntcp_lab::kernel::{Error, Lab, Stream, User};
use ntcp_lab::scratch::Scratch;
use rustix::process::{Pid, Signal, kill_process};

use super::{PATIENCE, address, carry, server, udp};

const PROGRAM: &str = env!("CARGO_BIN_EXE_ntcp-lab");

/// Processes that have this word in their command lines.
fn processes(marker: &str) -> BTreeSet<i32> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).split('\0').any(|word| word == marker)
    })
    .collect()
}

/// Network namespaces that processes are in.
fn namespaces_in_use() -> BTreeSet<PathBuf> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    entries.filter_map(|entry| fs::read_link(entry.path().join("ns/net")).ok()).collect()
}

fn namespace_of(pid: i32) -> PathBuf {
    fs::read_link(format!("/proc/{pid}/ns/net")).unwrap()
}

/// Waits until something is so.
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "still not so: {what}");
        thread::yield_now();
    }
}

fn parent_of(pid: u32) -> u32 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // The name in parentheses may contain anything.
    let (_, rest) = stat.rsplit_once(')').unwrap();
    rest.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn kill(pid: u32) {
    kill_process(Pid::from_raw(pid as i32).unwrap(), Signal::KILL).unwrap();
}

/// A lab in a process of its own, with a program that sleeps in it; its arguments are the marker.
fn lab_with_sleeper(marker: &str) -> (Child, i32) {
    let owner = Command::new(PROGRAM)
        .args(["run", "--delay", "1ms", "--", "sleep", marker])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut sleeper = None;
    until("the sleeper runs", || {
        let found = processes(marker);
        sleeper = found.iter().copied().find(|pid| {
            fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm == "sleep\n")
        });
        sleeper.is_some()
    });
    (owner, sleeper.unwrap())
}

fn names_on_this_machine() -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir("/run/netns") else { return Vec::new() };
    entries.flatten().map(|entry| entry.path()).collect()
}

#[test]
fn a_lab_whose_owner_is_killed_leaves_nothing() {
    let mounts = || fs::read_to_string("/proc/self/mountinfo").unwrap().lines().count();
    let before = (names_on_this_machine(), mounts());
    let (mut owner, sleeper) = lab_with_sleeper("86431.25");
    let namespace = namespace_of(sleeper);
    assert_eq!(before, (names_on_this_machine(), mounts()), "the lab shows outside");
    kill(owner.id());
    owner.wait().unwrap();
    until("its programs are gone", || processes("86431.25").is_empty());
    until("its namespaces are gone", || !namespaces_in_use().contains(&namespace));
    assert_eq!(before, (names_on_this_machine(), mounts()));
}

#[test]
fn a_lab_whose_warden_or_supervisor_is_killed_leaves_nothing_and_says_so() {
    for (part, marker) in [("warden", "86432.5"), ("supervisor", "86433.5")] {
        let lab = Lab::builder().home("a", "linux-masq").start().unwrap();
        let mut sleeper = lab.command("a", "sleep").arg(marker).spawn().unwrap();
        let mut pid = None;
        until("the sleeper runs", || {
            pid = processes(marker).first().copied();
            pid.is_some()
        });
        let pid = pid.unwrap();
        let supervisor = parent_of(pid as u32);
        assert_eq!(parent_of(supervisor), lab.process_id());
        kill(if part == "warden" { lab.process_id() } else { supervisor });
        assert!(matches!(sleeper.wait(), Err(Error::Gone { .. })), "{part}");
        until("its programs are gone", || processes(marker).is_empty());
        let error = lab.command("a", "true").status().unwrap_err();
        assert!(matches!(error, Error::Gone { .. }), "{part}: {error}");
    }
}

#[test]
fn a_dropped_lab_and_a_dropped_program_are_gone() {
    let lab = Lab::builder().home("a", "public").start().unwrap();
    let first = lab.command("a", "sh").args(["-c", "sleep 86434.5 & wait"]).spawn().unwrap();
    until("its child runs", || !processes("86434.5").is_empty());
    drop(first);
    until("it and its child are gone", || processes("86434.5").is_empty());
    let _second = lab.command("a", "sleep").arg("86435.5").spawn().unwrap();
    until("the second runs", || !processes("86435.5").is_empty());
    drop(lab);
    assert!(processes("86435.5").is_empty());
}

#[test]
fn labs_side_by_side_do_not_disturb_one_another() {
    thread::scope(|scope| {
        for number in 0..4u8 {
            scope.spawn(move || {
                let lab = Lab::builder().home("a", "linux-masq").start().unwrap();
                let (inside, outside) = (udp(&lab, "a", address(&lab, "a"), 4000), server(&lab, 9));
                for _ in 0..50 {
                    carry(&inside, &outside, outside.local_addr().unwrap());
                }
                inside.send_to(&[number], outside.local_addr().unwrap()).unwrap();
                let mut bytes = [0; 8];
                let (length, _) = outside.recv_from(&mut bytes).unwrap();
                assert_eq!(bytes[..length], [number]);
            });
        }
    });
}

#[test]
fn programs_are_run_as_told() {
    let lab = Lab::builder().home("a", "public").start().unwrap();
    let run = |user: User, script: &str| {
        let command = lab.command("a", "sh").args(["-c", script]).user(user).env("GREETING", "hi");
        command.stdin(Stream::Null).current_dir("/").output().unwrap()
    };
    let text = |output: Output| String::from_utf8(output.stdout).unwrap();
    assert_eq!(text(run(User::Root, "id -u; pwd; echo $GREETING")), "0\n/\nhi\n");
    assert_eq!(text(run(User::Nobody, "id -u")), "65534\n");
    let capabilities = text(run(User::Nobody, "grep CapEff /proc/self/status"));
    assert_eq!(capabilities.split_whitespace().last(), Some("0000000000000000"));
    assert_eq!(run(User::Root, "exit 7").status.code(), Some(7));
    assert!(!run(User::Nobody, "ip link set eth0 down").status.success());
    let error = lab.command("a", "/nowhere/at/all").status().unwrap_err();
    assert!(error.to_string().contains("/nowhere/at/all"), "{error}");
    let mut sleeper = lab.command("a", "sleep").arg("1000").spawn().unwrap();
    assert!(sleeper.wait_timeout(std::time::Duration::ZERO).unwrap().is_none());
    sleeper.kill().unwrap();
    let status = sleeper.wait().unwrap();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(libc::SIGKILL));
}

/// Runs the program as an ordinary user, whoever runs this test.
fn as_ordinary_user(arguments: &[&str], directory: &Path) -> Output {
    // The user may not be able to look into the build directory.
    let copy = directory.join("ntcp-lab");
    fs::copy(PROGRAM, &copy).unwrap();
    let mut command = Command::new(copy);
    command.args(arguments).current_dir("/").stdin(Stdio::null());
    if rustix::process::geteuid().is_root() {
        command.uid(65_534).gid(65_534);
    }
    command.output().unwrap()
}

#[test]
fn an_ordinary_user_needs_no_root() {
    let scratch = Scratch::new("ordinary");
    fs::create_dir(&scratch).unwrap();
    for arguments in [
        &["classify", "port-restricted", "--nat", "netfilter"][..],
        &["classify", "port-restricted", "--nat", "user"],
        &["run", "--delay", "2ms", "--loss", "1%", "--ladder", "--", "true"],
    ] {
        let output = as_ordinary_user(arguments, scratch.as_ref());
        assert!(output.status.success(), "{arguments:?}: {output:?}");
    }
}

#[test]
fn what_forbids_a_lab_is_named_with_the_way_out() {
    let script = "echo 0 > /proc/sys/user/max_user_namespaces && \
                  echo 0 > /proc/sys/user/max_net_namespaces && exec \"$0\" run -- true";
    let output =
        Command::new("unshare").args(["-Ur", "sh", "-c", script, PROGRAM]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("sysctl -w user.max_user_namespaces="), "{said}");
}

#[test]
fn the_server_has_a_name_on_a_system_without_a_hosts_file() {
    // Its /etc holds what looking names up takes, and a relative link.
    let script = "etc=$(mktemp -d) && trap 'rmdir $etc' EXIT && mount -t tmpfs tmpfs $etc && \
                  cp /etc/passwd /etc/nsswitch.conf $etc && ln -s nsswitch.conf $etc/link && \
                  mount --bind $etc /etc && umount $etc && \
                  \"$0\" run -- sh -c 'cmp /etc/link /etc/nsswitch.conf && getent hosts server.lab' && \
                  ! test -e /etc/hosts";
    let output =
        Command::new("unshare").args(["-Urm", "sh", "-c", script, PROGRAM]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("server.lab"), "{output:?}");
}

#[test]
fn the_program_tells_apart_failure_and_misuse() {
    let run = |arguments: &[&str]| Command::new(PROGRAM).args(arguments).output().unwrap();
    for (arguments, code, said) in [
        (&["run", "--a", "cone", "--", "true"][..], 2, "not a NAT preset"),
        (&["run", "--on", "nobody=true"], 2, "no host or box named `nobody`"),
        (&["run", "--loss", "200%", "--", "true"], 2, "200%"),
        (&["run"], 2, "nothing to run"),
        (&["run", "--topology", "/nowhere.json", "--", "true"], 2, "/nowhere.json"),
        (&["run", "--a", "sip-router", "--nat", "netfilter", "--", "true"], 2, "--nat user"),
        (&["run", "--", "false"], 1, ""),
        (&["run", "--on", "b=exit 3", "--on", "a=true"], 1, ""),
    ] {
        let output = run(arguments);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {errors}");
        assert!(errors.contains(said), "{arguments:?}: {errors}");
    }
    let output = run(&["run", "--json", "--on", "b=echo out; echo err >&2", "--ladder"]);
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(told["commands"][0]["stdout"], "out\n");
    assert_eq!(told["commands"][0]["stderr"], "err\n");
    assert_eq!(told["layout"]["hosts"][2]["name"], "server");
    let list: serde_json::Value = serde_json::from_slice(&run(&["list", "--json"]).stdout).unwrap();
    assert!(list.as_array().is_some_and(|presets| presets.len() >= 20));
}

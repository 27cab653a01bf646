//! Programs that are killed in the middle of a traversal: nothing of theirs stays, and the other side says
//! within its deadline how it ended.

use std::process::ExitStatus;
use std::thread;
use std::time::{Duration, Instant};

use ntcp_lab::endurance::Holdings;
use ntcp_lab::kernel::{Child, Command, Lab, Stream, User};
use ntcp_lab::scratch::Scratch;
use ntcp_lab::trial::{Call, Listener, Programs, Servers, ready, server_flags};

use super::homes;

/// When a program is killed after it or its peer was started: while it starts, gathers, calls, punches,
/// proves itself, and talks.
const MOMENTS: [u64; 8] = [3, 40, 70, 95, 110, 130, 200, 900];
/// What a session of the callee may take, and the kernel to give its sockets up.
const SETTLING: Duration = Duration::from_secs(30);
/// A caller's deadline, shorter than usual.
const DEADLINE: Duration = Duration::from_secs(4);
/// What a busy machine needs to start and to end a program.
const MARGIN: Duration = Duration::from_secs(10);
const STRICT: &str = "masq,syn=strict,loose=no";

/// A program that does nothing, whose host can be looked at.
fn witness(lab: &Lab, host: &str) -> Child {
    lab.command(host, "sleep").arg("600").spawn().unwrap()
}

/// Waits until a host holds no more than before; what it holds beyond that, if it never gets there.
fn remains(lab: &Lab, host: &str, child: &Child, before: &Holdings) -> Option<String> {
    let began = Instant::now();
    loop {
        let more = Holdings::of(lab, host, child).unwrap().beyond(before);
        if more.is_empty() {
            return None;
        }
        if began.elapsed() > SETTLING {
            return Some(format!("{host} holds more: {more:?}"));
        }
        thread::sleep(Duration::from_millis(100));
    }
}

/// A caller whose report goes into this file.
fn call<'lab>(lab: &'lab Lab, transport: &str, user: User, report: &str) -> Command<'lab> {
    let call = Call { user, ..Call::bob("a", transport) }.command(lab).unwrap();
    let deadline = format!("{}ms", DEADLINE.as_millis());
    let call = call.args(["--report", report]).env("NTCP_NODE__DEADLINE", &deadline);
    call.stdout(Stream::Null).stderr(Stream::Null)
}

fn kill_callers(a: &str, b: &str, user: User) {
    let lab = homes(a, b).start().unwrap();
    let _servers = Servers::start(&lab).unwrap();
    let listener = Listener::start(&lab, "b", user).unwrap();
    let here = witness(&lab, "a");
    let held = |host, child| Holdings::of(&lab, host, child).unwrap();
    let before = [held("a", &here), held("b", listener.child())];
    for transport in ["tcp", "udp"] {
        for moment in MOMENTS {
            let mut caller = call(&lab, transport, user, "/dev/null").spawn().unwrap();
            thread::sleep(Duration::from_millis(moment));
            caller.kill().unwrap();
            caller.wait().unwrap();
        }
    }
    let left =
        [remains(&lab, "a", &here, &before[0]), remains(&lab, "b", listener.child(), &before[1])];
    assert_eq!(left, [None, None], "{a} x {b} as {user:?}");
    let outcome = Call { user, ..Call::bob("a", "tcp") }.run(&lab).unwrap();
    assert_eq!(outcome.report["outcome"], "connected", "{:#}", outcome.report);
}

#[test]
fn callers_killed_at_any_moment_leave_nothing_and_their_callee_goes_on() {
    thread::scope(|scope| {
        scope.spawn(|| kill_callers("masq,in=reset", "port-restricted", User::Nobody));
        scope.spawn(|| kill_callers(STRICT, STRICT, User::Root));
    });
}

/// It ends by itself, in time.
fn end(mut caller: Child, what: &str) -> ExitStatus {
    let ended = caller.wait_timeout(DEADLINE + MARGIN).unwrap();
    ended.unwrap_or_else(|| panic!("{what}: it hangs"))
}

fn kill_callee(moment: u64, transport: &str) {
    let what = format!("killed after {moment} ms over {transport}");
    let lab = homes("linux-masq", "masq,in=reset").start().unwrap();
    let _servers = Servers::start(&lab).unwrap();
    let listener = Listener::start(&lab, "b", User::Nobody).unwrap();
    let [here, there] = ["a", "b"].map(|host| witness(&lab, host));
    let held = |host, child| Holdings::of(&lab, host, child).unwrap();
    let before = [held("a", &here), held("b", &there)];
    let report = Scratch::new(&format!("{transport}-{moment}"));
    let caller = call(&lab, transport, User::Root, report.path()).spawn().unwrap();
    thread::sleep(Duration::from_millis(moment));
    listener.child().kill().unwrap();
    let status = end(caller, &what);
    let report = report.json().unwrap();
    let connected = report["outcome"] == "connected";
    assert!(connected || (status.code() == Some(1) && !report["reason"].is_null()), "{report:#}");
    let left = [remains(&lab, "a", &here, &before[0]), remains(&lab, "b", &there, &before[1])];
    assert_eq!(left, [None, None], "{what}");
}

#[test]
fn a_callee_killed_at_any_moment_is_told_of_within_the_deadline() {
    thread::scope(|scope| {
        for (moment, transport) in [(15, "tcp"), (90, "tcp"), (120, "udp"), (400, "tcp")] {
            scope.spawn(move || kill_callee(moment, transport));
        }
    });
}

/// Runs a program without any privilege, but with a helper that has its own.
const WITH_HELPER: &str = r#"
cp "$1" "$2" && setcap cap_net_raw,cap_net_admin+ep "$2" || exit 99
export NTCP_HELPER="$2"
shift 2
exec setpriv --securebits=+noroot,+noroot_locked --inh-caps=-all -- "$@"
"#;

/// `ntcp` with a helper at this path.
fn helped<'lab>(lab: &'lab Lab, host: &str, helper: &Scratch) -> Command<'lab> {
    let programs = Programs::beside_this_one().unwrap();
    let [own, program] = ["ntcp-helper", "ntcp"].map(|name| programs.path(name));
    lab.command(host, "sh").args(["-c", WITH_HELPER, "sh"]).arg(own).arg(helper.path()).arg(program)
}

/// Kills the helper of a program as soon as it has one; whether there was any.
fn kill_helper(lab: &Lab, host: &str, child: &Child, moment: Duration) -> bool {
    const KILL: &str = r#"kill -9 $(cat /proc/$1/task/*/children)"#;
    thread::sleep(moment);
    let pid = child.id().to_string();
    lab.command(host, "sh")
        .args(["-c", KILL, "sh", &pid])
        .stderr(Stream::Null)
        .status()
        .unwrap()
        .success()
}

#[test]
fn a_helper_killed_in_the_middle_leaves_nothing_and_its_program_reports() {
    let lab = homes(STRICT, STRICT).start().unwrap();
    let _servers = Servers::start(&lab).unwrap();
    let theirs = Scratch::new("helper-b");
    let listener = helped(&lab, "b", &theirs).args(["listen", "bob", "--exec", "cat"]);
    let _listener = ready(listener.args(server_flags()), "listening").unwrap();
    let here = witness(&lab, "a");
    let before = Holdings::of(&lab, "a", &here).unwrap();
    let deadline = format!("{}ms", DEADLINE.as_millis());
    let mut killed = 0;
    for moment in [None, Some(150), Some(600), Some(1100)] {
        let (report, ours) = (Scratch::new("report"), Scratch::new("helper-a"));
        let caller = helped(&lab, "a", &ours).args(["connect", "ntcp://bob?transport=tcp"]);
        let caller = caller.args(server_flags()).args(["--report", report.path()]);
        let caller = caller.env("NTCP_NODE__DEADLINE", &deadline).stderr(Stream::Null);
        let caller = caller.stdout(Stream::Null).spawn().unwrap();
        if let Some(moment) = moment {
            let moment = Duration::from_millis(moment);
            killed += u32::from(kill_helper(&lab, "a", &caller, moment));
        }
        end(caller, &format!("its helper was killed after {moment:?} ms"));
        let report = report.json().unwrap();
        // Alone the helper is what makes the difference.
        assert!(moment.is_some() || report["outcome"] == "connected", "{report:#}");
        assert!(report["outcome"] == "connected" || !report["reason"].is_null(), "{report:#}");
        assert_eq!(remains(&lab, "a", &here, &before), None);
    }
    assert!(killed > 0, "no helper was there to be killed");
}

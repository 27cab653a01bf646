//! Running one test in namespaces of its own.

use std::process::Command;

/// Set in the process that is inside.
const INSIDE: &str = "NTCP_RAW_TEST_INSIDE";

/// Starts this test again in a user and a network namespace with a loopback interface, unless this
/// process is there already; `true` inside. The process outside fails if the one inside does.
pub(crate) fn inside(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let this = std::env::current_exe().unwrap();
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--net", "--", "sh", "-c"])
        .arg("ip link set lo up && exec \"$0\" --exact \"$1\" --nocapture")
        .arg(this)
        .arg(test)
        .env(INSIDE, "1")
        .output()
        .expect("unshare of util-linux is installed");
    let (out, errors) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && out.contains("1 passed"), "{test}:\n{out}\n{errors}");
    false
}

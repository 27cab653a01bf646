//! From an ordinary process to a supervisor in namespaces of its own.
//!
//! ```text
//! user of the lab ──starts──▶ warden ──starts──▶ supervisor ──starts──▶ programs in hosts
//!                             leaves the          first process of a new process
//!                             namespaces          namespace: when it ends, all in it end
//! ```
//!
//! All three hold together: the supervisor ends when the user's end of the control socket closes,
//! for whatever reason; the kernel kills it when the warden ends; and it kills everything else when
//! the supervisor ends. Namespaces, mounts, rules and interfaces are gone with the last process.

use std::fs;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::symlink;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio, exit};

use rustix::mount::{MountFlags, MountPropagationFlags};
use rustix::thread::UnshareFlags;

use super::control::{Channel, Reply};
use super::error::{Error, Result};
use super::layout::SERVER_ADDRESSES;
use super::space::NAMES;
use super::{supervisor, sys};

/// Which part a process has; the control socket is its standard input.
const STAGE: &str = "NTCP_LAB_STAGE";
/// In a user namespace; otherwise the supervisor has what real root gave it.
const NESTED: &str = "NTCP_LAB_NESTED";

/// The environment variables that no program in the lab may inherit.
pub(super) const PRIVATE_VARIABLES: [&str; 2] = [STAGE, NESTED];

/// Starts a warden, which starts a supervisor.
pub(super) fn command() -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.arg0("ntcp-lab-warden").env(STAGE, "warden").stdout(Stdio::null());
    command
}

/// Becomes warden or supervisor if this process was started as such.
pub(super) fn enter_if_asked() {
    let Ok(stage) = std::env::var(STAGE) else { return };
    let status = match stage.as_str() {
        "warden" => warden(),
        "supervisor" => supervise(),
        _ => return,
    };
    exit(status);
}

fn control() -> io::Result<Channel> {
    Ok(Channel::from(io::stdin().as_fd().try_clone_to_owned()?))
}

fn report(error: Error) -> i32 {
    let told = control().map_err(|error| Error::system("dup", error));
    // If even this fails, the end of the socket tells enough.
    let _ = told.and_then(|control| control.send(&Reply::Failed(error), &[]));
    1
}

fn warden() -> i32 {
    let nested = match leave_namespaces() {
        Ok(nested) => nested,
        Err(error) => return report(error),
    };
    let mut command = Command::new("/proc/self/exe");
    command.arg0("ntcp-lab-supervisor").env(STAGE, "supervisor");
    if nested == Nested::Yes {
        command.env(NESTED, "1");
    }
    sys::die_with_parent(&mut command);
    let mut supervisor = match command.spawn() {
        Ok(supervisor) => supervisor,
        Err(error) => return report(Error::system("starting the supervisor", error)),
    };
    release_control();
    match supervisor.wait() {
        Ok(status) => status.code().or(status.signal()).unwrap_or(1),
        Err(_) => 1,
    }
}

/// The supervisor alone holds the control socket, so that its end shows.
fn release_control() {
    if let Ok(null) = fs::File::open("/dev/null") {
        // Should this fail, a dead supervisor is noticed when the warden ends, a moment later.
        let _ = rustix::stdio::dup2_stdin(null);
    }
}

/// Whether the lab runs in a user namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Nested {
    /// It does: the supervisor is root within, and nobody outside.
    Yes,
    /// Real root needs none.
    No,
}

impl Nested {
    /// Of this supervisor.
    pub(super) fn current() -> Self {
        if std::env::var_os(NESTED).is_some() { Self::Yes } else { Self::No }
    }
}

fn leave_namespaces() -> Result<Nested> {
    let own =
        UnshareFlags::NEWNS | UnshareFlags::NEWNET | UnshareFlags::NEWPID | UnshareFlags::NEWIPC;
    let (user, group) = (rustix::process::geteuid(), rustix::process::getegid());
    if user.is_root() && sys::leave(own).is_ok() {
        return Ok(Nested::No);
    }
    sys::leave(UnshareFlags::NEWUSER).map_err(|error| forbidden("user namespace", &error))?;
    let write = |file: &str, content: String| {
        fs::write(file, content).map_err(|error| forbidden(file, &error))
    };
    write("/proc/self/setgroups", "deny".into())?;
    write("/proc/self/uid_map", format!("0 {} 1", user.as_raw()))?;
    write("/proc/self/gid_map", format!("0 {} 1", group.as_raw()))?;
    sys::leave(own).map_err(|error| forbidden("network namespace", &error))?;
    Ok(Nested::Yes)
}

/// Why namespaces are forbidden here: the first switch that is set so.
fn forbidden(what: &str, error: &io::Error) -> Error {
    let switches = [
        ("kernel/unprivileged_userns_clone", "0", "1"),
        ("kernel/apparmor_restrict_unprivileged_userns", "1", "0"),
        ("user/max_user_namespaces", "0", "10000"),
        ("user/max_net_namespaces", "0", "10000"),
    ];
    let set = switches.into_iter().find(|(file, bad, _)| {
        let value = fs::read_to_string(Path::new("/proc/sys").join(file));
        value.is_ok_and(|value| value.trim() == *bad)
    });
    let advice = match set {
        Some((file, bad, good)) => {
            let name = file.replace('/', ".");
            format!("{name} is {bad}; `sudo sysctl -w {name}={good}` allows it, or run as root")
        }
        None => "a container or security module forbids namespaces: allow them there (for \
                 containers, `--privileged`), or run as root"
            .to_owned(),
    };
    Error::Forbidden { detail: format!("{what}: {error}"), advice }
}

fn supervise() -> i32 {
    let ready = arrange_files().and_then(|()| {
        let control = control().map_err(|error| Error::system("dup", error))?;
        release_control();
        control.send(&Reply::Ready, &[])?;
        Ok(control)
    });
    match ready {
        Ok(control) => supervisor::serve(&control),
        Err(error) => report(error),
    }
}

/// Mounts of the lab's own: nobody outside sees them, and they end with it.
fn arrange_files() -> Result<()> {
    let failed = |action: &str, error: rustix::io::Errno| match error {
        rustix::io::Errno::PERM | rustix::io::Errno::ACCESS => forbidden(action, &error.into()),
        other => Error::system(action, other),
    };
    let alone = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    rustix::mount::mount_change("/", alone).map_err(|error| failed("mount", error))?;
    // Some containers forbid it; then programs see the outer processes' list, which does no harm.
    let _ = rustix::mount::mount("proc", "/proc", "proc", MountFlags::NOSUID, None);
    let resolver = resolved("/etc/resolv.conf");
    rustix::mount::mount("tmpfs", "/run", "tmpfs", MountFlags::NOSUID, None)
        .map_err(|error| failed("mounting /run", error))?;
    fs::create_dir(NAMES).map_err(|error| Error::system(format!("making {NAMES}"), error))?;
    arrange_names(&resolver);
    Ok(())
}

/// Follows links by hand: the target may be on `/run`, which is about to be covered.
fn resolved(path: &str) -> PathBuf {
    fs::canonicalize(path).unwrap_or_else(|_| PathBuf::from(path))
}

/// The server has names, and nobody waits for a name server that cannot be reached. Where the files
/// cannot be covered, programs in the lab use addresses, and whoever started it is told.
fn arrange_names(resolver: &Path) {
    let [server, alternate, third, ..] = SERVER_ADDRESSES;
    let hosts = format!(
        "127.0.0.1 localhost\n::1 localhost\n\
         {server} server.lab stun.lab broker.lab\n{alternate} alternate.lab\n\
         {server} brokers.lab\n{alternate} brokers.lab\n{third} brokers.lab\n"
    );
    if let Err(error) = cover("hosts", &hosts, Path::new("/etc/hosts")) {
        eprintln!("the lab cannot cover /etc/hosts ({error}): server.lab has no address in it");
    }
    if resolver.starts_with("/run") {
        let made = resolver.parent().map(fs::create_dir_all);
        if made.is_some_and(|made| made.is_ok()) {
            // An empty file will do: the library's default is 127.0.0.1, which refuses at once.
            let _ = fs::write(resolver, "");
        }
    } else if resolver.exists() {
        // Where there is none, the library's default holds already.
        let _ = cover("resolv.conf", "", resolver);
    }
}

/// Programs in the lab find `content` at `target`; the file outside stays as it is.
fn cover(name: &str, content: &str, target: &Path) -> io::Result<()> {
    let source = Path::new("/run").join(name);
    fs::write(&source, content)?;
    if !target.exists() {
        mirror(target.parent().unwrap_or(Path::new("/")))?;
        fs::write(target, "")?;
    }
    Ok(rustix::mount::mount_bind(&source, target)?)
}

/// Covers a folder with one of the lab's own in which there is the same, so that a file can be added.
fn mirror(folder: &Path) -> io::Result<()> {
    let original = Path::new("/run").join("mirrored");
    fs::create_dir(&original)?;
    rustix::mount::mount_bind_recursive(folder, &original)?;
    rustix::mount::mount("tmpfs", folder, "tmpfs", MountFlags::NOSUID, None)?;
    for entry in fs::read_dir(&original)? {
        let entry = entry?;
        // A link that is relative leads to the same place from here only.
        let leads = match entry.file_type()?.is_symlink() {
            true => fs::read_link(entry.path())?,
            false => entry.path(),
        };
        symlink(leads, folder.join(entry.file_name()))?;
    }
    Ok(())
}

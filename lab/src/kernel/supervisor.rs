//! The process that owns a laboratory: it builds it, starts programs in it, and changes its lines.
//!
//! It is the first process of its process namespace; when it ends, everything else does.

use std::collections::BTreeMap;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::process::{CommandExt as _, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command};
use std::sync::Arc;
use std::thread;

use rustix::event::{PollFd, PollFlags};
use rustix::process::{Pid, PidfdFlags, Signal};
use socket2::{Domain, Socket, Type};

use super::access::Access;
use super::capture;
use super::control::{Channel, Program, Reply, Request, SocketKind, Terminal, User, Word};
use super::entry::{Nested, PRIVATE_VARIABLES};
use super::error::{Error, Result};
use super::layout::{Layout, QUIET_ADDRESS};
use super::plan::{self, Plan, Role, SERVER, SpacePlan, WIRES};
use super::router::WHOLE_PACKETS;
use super::space::{Space, Tool};
use super::topology::{Form, Ipv6, Topology};
use super::wire::Wires;
use super::{netfilter, router, sys};

/// Serves requests until the user of the lab is gone. The exit status.
pub(super) fn serve(control: &Channel) -> i32 {
    let mut lab = Supervisor::default();
    loop {
        match control.receive::<Request>() {
            Ok(Some((request, descriptors))) => lab.handle(request, descriptors),
            Ok(None) => return 0,
            Err(_) => return 1,
        }
    }
}

#[derive(Default)]
struct Supervisor {
    spaces: BTreeMap<String, Arc<Space>>,
    wires: Option<Wires>,
}

impl Supervisor {
    fn handle(&mut self, request: Request, mut descriptors: Vec<OwnedFd>) {
        if descriptors.is_empty() {
            return;
        }
        let answers = Channel::from(descriptors.remove(0));
        let outcome = match request {
            Request::Build(topology) => self.build(&topology).map(Reply::Built),
            Request::Run(program) => return self.run(program, descriptors, answers),
            Request::SetAccess { name, access } => {
                self.set_access(&name, access).map(|()| Reply::Done)
            }
            Request::Capture(taps) => {
                let opened = taps.iter().map(|tap| capture::open(self.space(&tap.space)?, tap));
                match opened.collect::<Result<Vec<_>>>() {
                    Ok(sockets) => return capture::start(sockets, answers),
                    Err(error) => Err(error),
                }
            }
            Request::Socket { space, kind } => match self.socket(&space, kind) {
                Ok(socket) => {
                    let _ = answers.send(&Reply::Done, &[socket.as_fd()]);
                    return;
                }
                Err(error) => Err(error),
            },
            Request::Overruns => {
                Ok(Reply::Overruns(self.wires.as_ref().map_or(0, Wires::overruns)))
            }
        };
        // Whoever asked may be gone, and that is its own affair.
        let _ = answers.send(&outcome.unwrap_or_else(Reply::Failed), &[]);
    }

    fn space(&self, name: &str) -> Result<&Arc<Space>> {
        self.spaces.get(name).ok_or_else(|| Error::UnknownSpace {
            name: name.into(),
            known: self.spaces.keys().map(String::as_str).collect::<Vec<_>>().join(", "),
        })
    }

    fn build(&mut self, topology: &Topology) -> Result<Layout> {
        let kernel = if Path::new("/proc/sys/net/ipv6").exists() { Ipv6::On } else { Ipv6::Off };
        let plan = plan::plan(topology, kernel)?;
        Tool::ALL.into_iter().try_for_each(|tool| tool.path().map(drop))?;
        for space in &plan.spaces {
            let made = Space::create(&space.name)?;
            made.set(settings(space))?;
            self.spaces.insert(space.name.clone(), Arc::new(made));
        }
        self.cable(&plan)?;
        for space in &plan.spaces {
            let commands = space.commands.join("\n") + "\n";
            self.space(&space.name)?.tool(Tool::Ip, &["-batch", "-"], commands)?;
        }
        for nat in &plan.boxes {
            let space = self.space(&nat.space)?;
            match nat.form {
                Form::Auto | Form::Netfilter => {
                    let rules = netfilter::rules(nat)?;
                    space.tool(Tool::Nft, &["-f", "-"], rules.ruleset)?;
                    let settings = rules.settings.into_iter();
                    space.set(settings.map(|(file, value)| (file.to_owned(), value)).collect())?;
                }
                Form::User => router::start(space, nat, topology.seed)?,
            }
        }
        self.space(SERVER)?.tool(Tool::Nft, &["-f", "-"], quiet())?;
        if !plan.wires.is_empty() {
            self.wires = Some(Wires::start(self.space(WIRES)?, &plan.wires, topology.seed)?);
        }
        Ok(plan.layout)
    }

    fn cable(&self, plan: &Plan) -> Result<()> {
        let mut commands = String::new();
        for link in &plan.links {
            let [(space, interface), (other_space, other)] = &link.ends;
            // With a limit of one segment the kernel cuts packets in software before the cable.
            let limit = if link.cut_segments { "gso_max_segs 1" } else { "" };
            commands.push_str(&format!(
                "link add {interface} {limit} netns {space} type veth \
                 peer name {other} {limit} netns {other_space}\n"
            ));
        }
        self.space("core")?.tool(Tool::Ip, &["-batch", "-"], commands)
    }

    fn socket(&self, space: &str, kind: SocketKind) -> Result<Socket> {
        let (domain, shape, protocol) = match kind {
            SocketKind::Udp => (Domain::IPV4, Type::DGRAM, None),
            SocketKind::Tcp => (Domain::IPV4, Type::STREAM, None),
            SocketKind::UdpV6 => (Domain::IPV6, Type::DGRAM, None),
            SocketKind::TcpV6 => (Domain::IPV6, Type::STREAM, None),
            SocketKind::Packets => (Domain::IPV4, Type::RAW, Some(WHOLE_PACKETS.into())),
        };
        self.space(space)?.enter(move || {
            Socket::new(domain, shape, protocol).map_err(|error| Error::system("socket", error))
        })
    }

    fn set_access(&mut self, name: &str, access: Access) -> Result<()> {
        if let Some(fault) = access.fault() {
            return Err(Error::topology(format!("{name}: {fault}")));
        }
        let changed = self.wires.as_ref().is_some_and(|wires| wires.set(name, access));
        if changed { Ok(()) } else { Err(Error::topology(no_wire(name))) }
    }

    fn run(&self, program: Program, descriptors: Vec<OwnedFd>, answers: Channel) {
        let started = self
            .space(&program.space)
            .and_then(|space| space.enter(move || start(&program, descriptors)));
        let child = match started {
            Ok(child) => child,
            Err(error) => {
                let _ = answers.send(&Reply::Failed(error), &[]);
                return;
            }
        };
        thread::spawn(move || attend(child, &answers));
    }
}

/// What is sent to the quiet address arrives, for traces to see, and the kernel never answers.
fn quiet() -> String {
    format!(
        "table ip quiet {{
  chain input {{ type filter hook input priority filter;
    ip daddr {QUIET_ADDRESS} drop
  }}
}}
"
    )
}

fn no_wire(name: &str) -> String {
    format!(
        "the line of `{name}` was built as plain forwarding; start it with some delay to change it"
    )
}

/// Kernel settings of a new namespace, before it has any interface: nothing may depend on those of
/// the machine around it.
fn settings(space: &SpacePlan) -> Vec<(String, String)> {
    let forwarding = if space.role == Role::Host { "0" } else { "1" };
    let no_ipv6 = if space.ipv6 == Ipv6::Off { "1" } else { "0" };
    // Strict reverse path filtering at ISPs: no forged or private sources from their customers.
    let reverse_path = if space.role == Role::Isp { "1" } else { "0" };
    let mut settings = vec![("ipv4/ip_forward".to_owned(), forwarding.to_owned())];
    for scope in ["all", "default"] {
        for (setting, value) in [
            ("ipv4", "rp_filter", reverse_path),
            ("ipv4", "send_redirects", "0"),
            ("ipv4", "accept_redirects", "0"),
            ("ipv6", "disable_ipv6", no_ipv6),
            ("ipv6", "forwarding", forwarding),
            ("ipv6", "accept_ra", "0"),
            ("ipv6", "accept_dad", "0"),
        ]
        .map(|(family, name, value)| (format!("{family}/conf/{scope}/{name}"), value))
        {
            settings.push((setting, value.to_owned()));
        }
    }
    settings
}

/// Starts a program; runs in the thread of its namespace.
fn start(program: &Program, descriptors: Vec<OwnedFd>) -> Result<Child> {
    let Ok([input, output, errors]) = <[OwnedFd; 3]>::try_from(descriptors) else {
        return Err(Error::topology("a program needs three standard streams"));
    };
    let mut command = Command::new(&program.program);
    command.args(&program.arguments).current_dir(&program.directory).process_group(0);
    for name in PRIVATE_VARIABLES {
        command.env_remove(name);
    }
    for (name, value) in &program.environment {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command.stdin(input).stdout(output).stderr(errors);
    if program.terminal == Terminal::Foreground {
        sys::take_terminal(&mut command);
    }
    match program.user {
        User::Root => {}
        User::Raw => sys::renounce(&mut command, sys::NET_ADMIN),
        User::Admin => sys::renounce(&mut command, sys::NET_RAW),
        User::Nobody => sys::become_ordinary(&mut command, Nested::current() == Nested::Yes),
    }
    command
        .spawn()
        .map_err(|error| Error::system(format!("starting {}", program.program.display()), error))
}

/// Waits for the program's end and for its signals, and reports.
fn attend(mut child: Child, answers: &Channel) {
    let _ = answers.send(&Reply::Started { pid: child.id() }, &[]);
    let group = Pid::from_child(&child);
    if let Ok(process) = rustix::process::pidfd_open(group, PidfdFlags::empty()) {
        while let Some(word) = next_word(&process, answers) {
            let signal = match word {
                Some(Word::Signal(number)) => Signal::from_named_raw(number),
                // Nobody holds the handle any more.
                None => Some(Signal::KILL),
            };
            if let Some(signal) = signal {
                let _ = rustix::process::kill_process_group(group, signal);
            }
            if word.is_none() {
                break;
            }
        }
    }
    let status = child.wait().map_or(0, ExitStatusExt::into_raw);
    let _ = answers.send(&Reply::Exited { status }, &[]);
}

/// What is said to a program next; `Some(None)` if nobody is there to speak, `None` once it ended.
fn next_word(process: &OwnedFd, answers: &Channel) -> Option<Option<Word>> {
    loop {
        let (ended, spoken) = {
            let mut both =
                [PollFd::new(process, PollFlags::IN), PollFd::new(answers, PollFlags::IN)];
            match rustix::event::poll(&mut both, None) {
                Err(rustix::io::Errno::INTR) => continue,
                Err(_) => return None,
                Ok(_) => (!both[0].revents().is_empty(), !both[1].revents().is_empty()),
            }
        };
        if ended {
            return None;
        }
        if spoken {
            let word = answers.receive::<Word>().ok().flatten();
            return Some(word.map(|(word, _)| word));
        }
    }
}

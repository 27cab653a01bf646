//! The laboratory with its servers.

use anyhow::{Context, bail};
use ntcp_lab::kernel::{Child, Command, Lab, SERVER_ADDRESSES, Stream};
use ntcp_lab::presets::Site;
use serde_json::Value;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// A program on the server, its flags, and the address at which it accepts once it is up.
type Server = (&'static str, &'static [&'static str], (Ipv4Addr, u16));

/// The STUN server and the broker on their defaults, and a second STUN server with all of RFC 5780:
/// two addresses and two ports, which no program can take by default.
const SERVERS: [Server; 3] = [
    ("ntcp-stun-server", &[], (SERVER_ADDRESSES[0], 3478)),
    ("ntcp-broker", &[], (SERVER_ADDRESSES[0], 9999)),
    (
        "ntcp-stun-server",
        &["--listen", "198.51.100.4:3480", "--alternate", "198.51.100.5:3481"],
        (SERVER_ADDRESSES[2], 3480),
    ),
];
/// How long a server may take to come up.
const PATIENCE: Duration = Duration::from_secs(10);

/// Two homes, `alice` and `bob`, and a server that runs the STUN server and the broker.
pub(crate) struct Stage {
    lab: Lab,
    /// Ended with the stage.
    _servers: Vec<Child>,
}

impl Stage {
    pub(crate) fn build(
        alice: &Site,
        bob: &Site,
        line: Duration,
        verbose: bool,
    ) -> anyhow::Result<Self> {
        let builder = Lab::builder().delay(line);
        let builder = builder.home("alice", &alice.to_string()).home("bob", &bob.to_string());
        let lab = builder.start().context("the laboratory cannot be built")?;
        let mut servers = Vec::new();
        for (program, flags, address) in SERVERS {
            let output = || if verbose { Stream::Inherit } else { Stream::Null };
            let command = lab.command("server", executable(program)?).args(flags);
            let started = command.stdout(output()).stderr(output()).spawn();
            let mut server = started.with_context(|| format!("{program} cannot be started"))?;
            await_server(&lab, program, address.into(), &mut server)?;
            servers.push(server);
        }
        Ok(Self { lab, _servers: servers })
    }

    /// The server's address, as the peers know it.
    pub(crate) fn server(&self) -> IpAddr {
        SERVER_ADDRESSES[0].into()
    }

    /// `ntcp` with these words in a home.
    pub(crate) fn ntcp(&self, home: &str, words: &[&str]) -> anyhow::Result<Command<'_>> {
        let command = self.lab.command(home, executable("ntcp")?).args(words);
        let command = command.env_remove("NTCP_CONFIG").env("XDG_CONFIG_HOME", "/nonexistent");
        Ok(command.env("NO_COLOR", "1").env("NTCP_STUN__SERVERS", &self.server().to_string()))
    }

    /// What `ntcp doctor` says in a home.
    pub(crate) fn doctor(&self, home: &str) -> anyhow::Result<Value> {
        let servers = format!("{}:3480,{}", SERVER_ADDRESSES[2], SERVER_ADDRESSES[0]);
        let doctor = self.ntcp(home, &["doctor", "--json"])?.env("NTCP_STUN__SERVERS", &servers);
        let output = doctor.output()?;
        let verdict = serde_json::from_slice(&output.stdout);
        let said = String::from_utf8_lossy(&output.stderr);
        verdict.with_context(|| format!("ntcp doctor gave no verdict in {home}: {said}"))
    }
}

/// A program of ours: it lies beside this one.
fn executable(name: &str) -> anyhow::Result<PathBuf> {
    let path = std::env::current_exe()?.with_file_name(name);
    if !path.is_file() {
        bail!("{} is not there: run cargo build --workspace --bins", path.display());
    }
    Ok(path)
}

fn await_server(
    lab: &Lab,
    program: &str,
    address: SocketAddr,
    server: &mut Child,
) -> anyhow::Result<()> {
    const PAUSE: Duration = Duration::from_millis(10);
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        let socket = lab.tcp_socket("server", (SERVER_ADDRESSES[0], 0))?;
        if socket.connect_timeout(&address.into(), PATIENCE).is_ok() {
            return Ok(());
        }
        if let Some(status) = server.wait_timeout(PAUSE)? {
            bail!("{program} ended at once ({status}): run with --verbose to see its log");
        }
    }
    bail!("{program} does not accept on {address} after {PATIENCE:?}")
}

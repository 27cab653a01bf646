//! The laboratory with its servers.

use anyhow::Context;
use ntcp_lab::kernel::{Child, Command, Lab, SERVER_ADDRESSES, Stream};
use ntcp_lab::presets::Site;
use ntcp_lab::trial::{Programs, ready_overheard};
use serde_json::Value;
use std::net::IpAddr;
use std::time::Duration;

/// The STUN server and the broker on their defaults, and a second STUN server with all of RFC 5780:
/// two addresses and two ports, which no program can take by default.
const SERVERS: [(&str, &[&str]); 3] = [
    ("ntcp-stun-server", &[]),
    ("ntcp-broker", &[]),
    ("ntcp-stun-server", &["--listen", "198.51.100.4:3480", "--alternate", "198.51.100.5:3481"]),
];

/// Two homes, `alice` and `bob`, and a server that runs the STUN server and the broker.
pub(crate) struct Stage {
    lab: Lab,
    programs: Programs,
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
        let programs = Programs::beside_this_one()?;
        let mut servers = Vec::new();
        for (program, flags) in SERVERS {
            let command = lab.command("server", programs.path(program)).args(flags);
            let show = move |line: &str| {
                if verbose {
                    eprintln!("{line}");
                }
            };
            let server = ready_overheard(command.stdout(Stream::Null), "listening", show);
            servers.push(server.with_context(|| format!("{program} cannot be started"))?);
        }
        Ok(Self { lab, programs, _servers: servers })
    }

    /// The server's address, as the peers know it.
    pub(crate) fn server(&self) -> IpAddr {
        SERVER_ADDRESSES[0].into()
    }

    /// `ntcp` with these words in a home.
    pub(crate) fn ntcp(&self, home: &str, words: &[&str]) -> Command<'_> {
        let command = self.lab.command(home, self.programs.path("ntcp")).args(words);
        let command = command.env_remove("NTCP_CONFIG").env("XDG_CONFIG_HOME", "/nonexistent");
        command.env("NO_COLOR", "1").env("NTCP_STUN__SERVERS", &self.server().to_string())
    }

    /// What `ntcp doctor` says in a home.
    pub(crate) fn doctor(&self, home: &str) -> anyhow::Result<Value> {
        let servers = format!("{}:3480,{}", SERVER_ADDRESSES[2], SERVER_ADDRESSES[0]);
        let doctor = self.ntcp(home, &["doctor", "--json"]).env("NTCP_STUN__SERVERS", &servers);
        let output = doctor.output()?;
        let verdict = serde_json::from_slice(&output.stdout);
        let said = String::from_utf8_lossy(&output.stderr);
        verdict.with_context(|| format!("ntcp doctor gave no verdict in {home}: {said}"))
    }
}

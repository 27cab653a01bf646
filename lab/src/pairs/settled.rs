//! A caller that has been running for a while: it knows its NAT, and plans accordingly.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::kernel::{Child, Lab, SocketKind, Stream};
use crate::scratch::Scratch;
use crate::trial::{Call, UNMETERED, ready};

/// Where it accepts clients; each makes it call.
const CLIENTS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8022);
/// How long a client waits for its word: a call's deadline, and a margin.
const PATIENCE: Duration = Duration::from_secs(15);

/// `ntcp connect --forward`.
pub(super) struct Settled<'lab> {
    lab: &'lab Lab,
    report: Scratch,
    // Ended when dropped.
    _node: Child,
}

impl<'lab> Settled<'lab> {
    /// Starts the node and gives it so much time.
    pub(super) fn start(lab: &'lab Lab, call: &Call, after: Duration) -> Result<Self> {
        let report = Scratch::holding("report", "").context("making a file for reports")?;
        // The node may be another user's.
        std::fs::set_permissions(&report, std::fs::Permissions::from_mode(0o666))?;
        let node = call
            .command(lab)?
            .args(["--forward", &CLIENTS.to_string(), "--report", report.path()])
            .env(UNMETERED.0, UNMETERED.1)
            .stdout(Stream::Null);
        let node = ready(node, "forwarding")?;
        std::thread::sleep(after);
        Ok(Self { lab, report, _node: node })
    }

    /// Makes it call; the report.
    pub(super) fn call(&self) -> Result<Value> {
        let socket = self.lab.socket("a", SocketKind::Tcp)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.connect(&CLIENTS.into())?;
        let mut stream = TcpStream::from(socket);
        stream.write_all(b"word")?;
        stream.shutdown(Shutdown::Write)?;
        // How the stream ends is in the report.
        let _ = stream.read_to_end(&mut Vec::new());
        self.report.json().context("no report")
    }
}

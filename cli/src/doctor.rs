//! `ntcp doctor`: what NAT is this machine behind, what will work, what would help.

use crate::arguments::Doctor;
use crate::failure::Failure;
use crate::page;
use crate::spoof_check;
use crate::story::Terminal;
use ntcp::Config;
use ntcp::discover::{Diagnosis, Extent, diagnose_with};
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

/// Runs `ntcp doctor` to its end: the verdict goes to standard output.
///
/// # Errors
/// There is no server to ask, none answered, or the verdict cannot be written.
pub async fn run(arguments: &Doctor, config: Config, terminal: Terminal) -> Result<(), Failure> {
    let servers: Vec<_> = config.stun_servers().iter().map(ToString::to_string).collect();
    if !arguments.json && !servers.is_empty() {
        terminal.progress(&format!("asking {}", servers.join(", ")));
    }
    let mut extent = Extent::default();
    extent.port_control = true;
    extent.timers = arguments.timers.map(|seconds| Duration::from_secs(seconds.into()));
    let mut diagnosis = diagnose_with(&config, extent).await?;
    if arguments.spoof_check
        && let Some(server) = config.stun_servers().into_iter().next()
    {
        diagnosis.spoofing = Some(spoof_check::verdict(&server)?);
    }
    let words = if arguments.json { json(&diagnosis)? } else { diagnosis.to_string() };
    let failed = |path: &Path| {
        let path = path.to_owned();
        |source| Failure::Write { path, source }
    };
    writeln!(io::stdout(), "{}", words.trim_end()).map_err(failed(Path::new("standard output")))?;
    if let Some(path) = &arguments.html {
        std::fs::write(path, page::page(&diagnosis)).map_err(failed(path))?;
        terminal.success(&format!("wrote {}", path.display()));
    }
    let report = &diagnosis.findings.report;
    if report.udp.reachable || report.tcp.reachable {
        Ok(())
    } else {
        Err(Failure::NothingReachable)
    }
}

fn json(diagnosis: &Diagnosis) -> Result<String, Failure> {
    let unwritable = |error: serde_json::Error| Failure::Write {
        path: "standard output".into(),
        source: error.into(),
    };
    serde_json::to_string_pretty(diagnosis).map_err(unwritable)
}

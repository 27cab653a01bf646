//! `ntcp-lab shell`: a look around.

use std::process::ExitCode;

use ntcp_lab::kernel::Stream;

use super::{Failure, Site, print_layout};

/// Build a laboratory and open a shell in one of its hosts.
#[derive(Debug, clap::Args)]
pub(super) struct Shell {
    #[command(flatten)]
    site: Site,
    /// The host or box to be in
    #[arg(default_value = "a")]
    host: String,
}

impl Shell {
    pub(super) fn run(&self) -> Result<ExitCode, Failure> {
        let lab = self.site.start()?;
        let shell = std::env::var("SHELL").unwrap_or_else(|_| "/bin/sh".into());
        eprintln!(
            "This shell is in `{}`; `ip netns exec HOST COMMAND` reaches the others:",
            self.host
        );
        print_layout(&lab);
        let status = lab
            .command(&self.host, shell)
            .stdin(Stream::Inherit)
            .env("NTCP_LAB_HOST", &self.host)
            .foreground()
            .status()?;
        Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

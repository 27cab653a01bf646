//! The privilege helper (see `ntcp_raw::helper`): applications start it, nobody else.

use std::process::ExitCode;

#[cfg(target_os = "linux")]
fn main() -> ExitCode {
    use ntcp_raw::helper::{Refusal, run};

    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(Refusal::NotStarted) => {
            eprintln!(
                "ntcp-helper is started by programs that use ntcp, which then need no privileges.\n\
                 It needs its own: sudo setcap cap_net_raw,cap_net_admin+ep /path/to/ntcp-helper"
            );
            ExitCode::from(2)
        }
        Err(Refusal::NotConfined(error)) => {
            eprintln!("ntcp-helper could not give up what it does not need: {error}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(not(target_os = "linux"))]
fn main() -> ExitCode {
    eprintln!("ntcp-helper works on Linux only");
    ExitCode::from(2)
}

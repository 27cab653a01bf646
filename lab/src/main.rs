//! `ntcp-lab`: NATs by name, laboratories of real kernels, and what happens in them.

use std::process::ExitCode;

use clap::Parser as _;

mod command;

fn main() -> ExitCode {
    let arguments = command::Arguments::parse();
    match arguments.run() {
        Ok(code) => code,
        // Whoever reads our output has seen enough.
        Err(failure) if failure.is_closed_output() => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("ntcp-lab: {failure}");
            failure.code()
        }
    }
}

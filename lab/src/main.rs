//! `ntcp-lab`: NATs by name, laboratories of real kernels, and what happens in them.

use std::process::ExitCode;

use clap::Parser as _;

mod command;

fn main() -> ExitCode {
    let arguments = command::Arguments::parse();
    match arguments.run() {
        Ok(code) => code,
        Err(failure) => {
            eprintln!("ntcp-lab: {failure}");
            failure.code()
        }
    }
}

//! What a broker costs for each message and for each peer, beside a batched UDP echo in the same run.
//!
//! `cargo bench -p ntcp-broker --bench load -- [--peers N,N…] [--plain] [--tcp] [--redis] [--faults] [--seconds S] [--rounds N] [--window N]`
//!
//! The program `ntcp-broker` runs in a process of its own, pinned to one processor, and is spoken to by simulated peers from
//! another one: each has a loopback address, a name and keys of its own, shakes hands, registers, refreshes, looks others up
//! and calls them. Every answer is checked: who sent it, its seal and signature, its transaction, what it says. One that
//! is wrong ends the run with status 1.
//!
//! A figure is the processor time of the broker's process (all threads, user and system) divided by the answers of the same
//! time, and its ratio to that of an echo that does the same with the system's calls and nothing in between. So it
//! hardly matters what else the machine does. `--peers` grows one broker from the first number to the last; by default
//! 10,000 and 100,000. `--plain` has peers speak in the clear; `--tcp` gives each a stream; `--redis` starts a database and two brokers that share it;
//! `--faults` instead has three share one that is stopped, restarted and wiped under load. Everything is on loopback, and
//! ends with the run.

#[cfg(target_os = "linux")]
mod linux;

#[cfg(target_os = "linux")]
fn main() -> anyhow::Result<()> {
    linux::main()
}

#[cfg(not(target_os = "linux"))]
fn main() {
    eprintln!("this bench reads what the kernel says of processes in /proc, as on Linux only");
}

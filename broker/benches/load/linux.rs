//! The bench, on Linux.

mod crowd;
mod echo;
mod faults;
mod generator;
mod pending;
mod plan;
mod process;
mod sockets;
mod streams;
mod tally;

pub(crate) fn main() -> anyhow::Result<()> {
    // Cargo passes `--bench`.
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    match words.as_slice() {
        [echo, address] if echo == "--echo" => echo::run(address.parse()?),
        words => plan::Plan::parse(words)?.run(),
    }
}

//! Set-up times of real pairs against the limit.
use ntcp_lab::{
    kernel::{Lab, User},
    trial::Stage,
};
use std::time::Duration;
fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().collect();
    let delay: f64 = args[1].parse()?;
    let loss: f64 = args[2].parse()?;
    let runs: usize = args[3].parse()?;
    for transport in args[4].split(',') {
        for pair in &args[5..] {
            let (a, b) = pair.split_once('+').unwrap();
            let lab = Lab::builder()
                .delay(Duration::from_secs_f64(delay / 2e3))
                .loss(loss)
                .home("a", a)
                .home("b", b)
                .start()?;
            let stage = match Stage::set(&lab, "b", User::Root) {
                Ok(s) => s,
                Err(e) => {
                    println!("{pair} {transport}: {e:#}");
                    continue;
                }
            };
            let mut times = vec![];
            let mut strat = String::new();
            let mut fails = vec![];
            let mut sec = vec![];
            for _ in 0..runs {
                match stage.connect("a", transport) {
                    Ok(r) if r["outcome"] == "connected" => {
                        if std::env::var("SHOW").is_ok() {
                            println!("{}", r["attempts"]);
                        }
                        times.push(r["elapsed_ms"].as_f64().unwrap());
                        sec.push(r["secured_ms"].as_f64().unwrap());
                        strat = format!("{} {}", r["transport"], r["strategy"]);
                    }
                    Ok(r) => {
                        fails.push(r["reason"].to_string());
                        println!("{}", r["attempts"]);
                    }
                    Err(e) => fails.push(format!("{e:#}")),
                }
            }
            times.sort_by(f64::total_cmp);
            sec.sort_by(f64::total_cmp);
            let p = |v: &Vec<f64>, q: f64| {
                v.get(((v.len() as f64 - 1.0) * q).round() as usize).copied().unwrap_or(f64::NAN)
            };
            println!(
                "{pair:40} {transport}: {}/{runs} p50 {:.1} ({:.2}x) p95 {:.1} ({:.2}x) secured {:.1} {strat} {fails:?} overruns {}",
                times.len(),
                p(&times, 0.5),
                p(&times, 0.5) / (4.0 * delay),
                p(&times, 0.95),
                p(&times, 0.95) / (4.0 * delay),
                p(&sec, 0.5),
                lab.overruns()?
            );
        }
    }
    Ok(())
}

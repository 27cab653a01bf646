//! `ntcp-lab classify`: what a preset really does.

use std::io::Write as _;
use std::process::ExitCode;

use ntcp_lab::kernel::{self, Lab};
use ntcp_lab::presets::Site;
use ntcp_proto::nat::NatReport;
use serde::Serialize;

use super::{Failure, Nat};

/// Measure what a NAT preset really does, from both sides of it.
#[derive(Debug, clap::Args)]
pub(super) struct Classify {
    /// A preset with its settings, or several; all that `list` knows if there is none
    #[arg(value_name = "PRESET")]
    presets: Vec<String>,
    /// Who does the translating
    #[arg(long, value_enum, default_value = "auto")]
    nat: Nat,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// One preset's verdict.
#[derive(Debug, Serialize)]
struct Verdict {
    preset: String,
    /// It does what it declares.
    agrees: bool,
    measured: NatReport,
    declared: NatReport,
}

impl Classify {
    pub(super) fn run(&self) -> Result<ExitCode, Failure> {
        let all = || ntcp_lab::presets::PRESETS.iter().map(|it| it.name.to_owned()).collect();
        let presets = if self.presets.is_empty() { all() } else { self.presets.clone() };
        let mut verdicts = Vec::new();
        for preset in &presets {
            let verdict = self.verdict(preset)?;
            if !self.json {
                print(&verdict)?;
            }
            verdicts.push(verdict);
        }
        if self.json {
            let text = serde_json::to_string_pretty(&verdicts).map_err(std::io::Error::other)?;
            writeln!(std::io::stdout(), "{text}")?;
        }
        let agree = verdicts.iter().all(|verdict| verdict.agrees);
        Ok(if agree { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    fn verdict(&self, preset: &str) -> Result<Verdict, Failure> {
        let site: Site = preset
            .parse()
            .map_err(|error: ntcp_lab::presets::SiteError| Failure::Usage(error.to_string()))?;
        let lab = Lab::builder().home("a", preset).form(self.nat.into()).start()?;
        let measured = kernel::classify(&lab, "a")?;
        let mut declared = site.declared();
        // The probes here send nothing by hand.
        (declared.tcp.mid_stream, declared.tcp.syn_ack_after_syn) = (None, None);
        let mut comparable = measured.clone();
        (comparable.udp.public_address, comparable.tcp.public_address) = (None, None);
        let agrees = comparable == declared;
        Ok(Verdict { preset: preset.into(), agrees, measured, declared })
    }
}

fn print(verdict: &Verdict) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    let agrees = if verdict.agrees { "as declared" } else { "NOT as declared" };
    writeln!(out, "{}: {agrees}", verdict.preset)?;
    let (measured, declared) = (&verdict.measured, &verdict.declared);
    let sides = [
        ("udp", lines(&measured.udp), lines(&declared.udp)),
        ("tcp", lines(&measured.tcp), lines(&declared.tcp)),
    ];
    for (transport, measured, declared) in sides {
        for ((axis, told), (_, wanted)) in measured.iter().zip(&declared) {
            let differs = told != wanted && axis != "public_address";
            let note = if differs { format!("   declared: {wanted}") } else { String::new() };
            writeln!(out, "  {transport} {axis:<22} {told}{note}")?;
        }
    }
    Ok(())
}

/// A report's axes and their values, as its JSON names them; what is not measured is left out.
fn lines(report: &impl Serialize) -> Vec<(String, String)> {
    let Ok(serde_json::Value::Object(axes)) = serde_json::to_value(report) else {
        return Vec::new();
    };
    let word = |value: &serde_json::Value| match value {
        serde_json::Value::String(text) => text.clone(),
        serde_json::Value::Null => "-".into(),
        other => other.to_string(),
    };
    let measured = axes.iter().filter(|(axis, _)| *axis != "lifetime_s");
    measured.map(|(axis, value)| (axis.clone(), word(value))).collect()
}

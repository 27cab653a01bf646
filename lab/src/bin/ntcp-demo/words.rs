//! What happened, for people.

use crate::conversation::Conversation;
use crate::pattern::Heard;
use ntcp_lab::presets::{PRESETS, Site};
use serde_json::Value;
use std::io::{self, Write};
use std::net::IpAddr;
use std::time::Duration;

pub(crate) fn opening(
    out: &mut impl Write,
    alice: &Site,
    bob: &Site,
    line: Duration,
) -> io::Result<()> {
    writeln!(out, "Two homes and a public server, in network namespaces of their own.")?;
    writeln!(
        out,
        "A packet takes {} ms from any of the three to any other.\n",
        2 * line.as_millis()
    )?;
    for (name, site) in [("alice", alice), ("bob", bob)] {
        writeln!(out, "  {name:<6} behind {site}{}", described(site))?;
    }
    writeln!(
        out,
        "  server runs ntcp-stun-server and ntcp-broker on their defaults, and for ntcp doctor"
    )?;
    writeln!(out, "         a second STUN server with two addresses (RFC 5780)")?;
    Ok(())
}

/// What the boxes of a site are, as far as they are presets.
fn described(site: &Site) -> String {
    let about = site.boxes.iter().filter_map(|nat| {
        let name = nat.name.split(',').next()?;
        let preset = PRESETS.iter().find(|preset| preset.name == name)?;
        Some(preset.about)
    });
    let about: Vec<_> = about.collect();
    if about.is_empty() { String::new() } else { format!(": {}", about.join("; then ")) }
}

/// What each side finds out about its own NAT.
pub(crate) fn nats(out: &mut impl Write, alice: &Value, bob: &Value) -> io::Result<()> {
    writeln!(out, "\nWhat each finds out about its own NAT (ntcp doctor):\n")?;
    writeln!(out, "  {:<22}{:<34}bob", "", "alice")?;
    writeln!(out, "  {:<22}{:<34}{}", "NAT", word(&alice["nat"]), word(&bob["nat"]))?;
    for transport in ["udp", "tcp"] {
        for key in ["public_address", "mapping", "filtering", "port_allocation"] {
            let (alice, bob) = (&alice[transport][key], &bob[transport][key]);
            if !alice.is_null() || !bob.is_null() {
                let label = format!("{} {}", transport.to_uppercase(), key.replace('_', " "));
                writeln!(out, "  {label:<22}{:<34}{}", word(alice), word(bob))?;
            }
        }
    }
    Ok(())
}

fn word(value: &Value) -> String {
    match value {
        Value::Null => "not measured".to_owned(),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::String(text) => text.replace('_', " "),
        other => other.to_string(),
    }
}

/// The transport stands beside it already.
fn strategy(value: &Value) -> String {
    let words = word(value);
    words.strip_prefix("udp ").unwrap_or(&words).to_owned()
}

pub(crate) fn call(out: &mut impl Write, transport: &str, server: IpAddr) -> io::Result<()> {
    let flag = if transport == "any" { String::new() } else { format!(" --transport {transport}") };
    writeln!(out, "\nbob:   ntcp listen bob --broker {server}")?;
    writeln!(out, "alice: ntcp connect ntcp://bob@{server}{flag}")?;
    Ok(())
}

pub(crate) fn outcome(
    out: &mut impl Write,
    conversation: &Conversation,
    limit: Duration,
    with_ladder: bool,
) -> io::Result<()> {
    let report = &conversation.report;
    writeln!(out)?;
    if with_ladder || !conversation.is_connected() {
        ladder(out, report)?;
    }
    if !conversation.is_connected() {
        writeln!(out, "  no connection: {}", word(&report["reason"]))?;
        for line in report["advice"].as_array().into_iter().flatten() {
            writeln!(out, "    {}", line.as_str().unwrap_or_default())?;
        }
        if report["reason"].is_null() {
            writeln!(out, "    {}", conversation.complaint.trim())?;
        }
        return Ok(());
    }
    let (elapsed, limit) = (milliseconds(&report["elapsed_ms"]), limit.as_secs_f64() * 1e3);
    writeln!(
        out,
        "  {} by {} from {} to {}",
        word(&report["transport"]).to_uppercase(),
        strategy(&report["strategy"]),
        word(&report["local"]),
        word(&report["remote"]),
    )?;
    write!(out, "  path verified both ways after {elapsed:.1} ms")?;
    if limit > 0.0 {
        write!(out, ": {:.2} × the limit of {limit:.0} ms", elapsed / limit)?;
    }
    writeln!(out, ", first byte may leave after {:.1} ms", milliseconds(&report["secured_ms"]))?;
    data(out, conversation)
}

fn ladder(out: &mut impl Write, report: &Value) -> io::Result<()> {
    for attempt in report["attempts"].as_array().into_iter().flatten() {
        let evidence = attempt["evidence"].as_array().into_iter().flatten();
        let evidence: Vec<_> = evidence.filter_map(Value::as_str).collect();
        writeln!(
            out,
            "  {:>7.1} to {:>7.1} ms  {:<11}{} {} to {}: {}",
            milliseconds(&attempt["started_ms"]),
            milliseconds(&attempt["ended_ms"]),
            word(&attempt["result"]),
            word(&attempt["transport"]).to_uppercase(),
            strategy(&attempt["strategy"]),
            word(&attempt["remote"]),
            evidence.join(", "),
        )?;
    }
    writeln!(out)?;
    Ok(())
}

fn milliseconds(value: &Value) -> f64 {
    value.as_f64().unwrap_or(f64::NAN)
}

fn data(out: &mut impl Write, conversation: &Conversation) -> io::Result<()> {
    let megabytes = conversation.said / 1_000_000;
    if !conversation.is_whole() {
        writeln!(
            out,
            "  DAMAGED: of {megabytes} MB each way, bob heard {}",
            heard(&conversation.forth)
        )?;
        writeln!(out, "  and alice heard {}", heard(&conversation.back))?;
        return Ok(());
    }
    writeln!(
        out,
        "  {megabytes} MB each way at once, every byte as it was said: {:.0} and {:.0} Mbit/s",
        rate(&conversation.forth),
        rate(&conversation.back),
    )?;
    Ok(())
}

fn heard(heard: &Heard) -> String {
    match heard.wrong_at {
        None => format!("{} bytes", heard.bytes),
        Some(at) => format!("{} bytes, the first wrong one at {at}", heard.bytes),
    }
}

/// Megabits in a second.
fn rate(heard: &Heard) -> f64 {
    heard.bytes as f64 * 8.0 / 1e6 / heard.during.as_secs_f64().max(1e-9)
}

pub(crate) fn closing(out: &mut impl Write, connected: bool) -> io::Result<()> {
    if connected {
        writeln!(
            out,
            "\nTry other NATs: ./demo full-cone linux-random. ./demo --list names them all."
        )?;
    } else {
        writeln!(out, "\nNo direct path between these two NATs. ./demo --list names others.")?;
    }
    Ok(())
}

//! What happened, for people.

use crate::conversation::Conversation;
use crate::pattern::Heard;
use ntcp_lab::presets::{PRESETS, Site};
use serde_json::Value;
use std::net::IpAddr;
use std::time::Duration;

pub(crate) fn opening(alice: &Site, bob: &Site, line: Duration) {
    println!("Two homes and a public server, in network namespaces of their own.");
    println!("A packet takes {} ms from any of the three to any other.\n", 2 * line.as_millis());
    for (name, site) in [("alice", alice), ("bob", bob)] {
        println!("  {name:<6} behind {site}{}", described(site));
    }
    println!("  server runs ntcp-stun-server and ntcp-broker on their defaults");
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
pub(crate) fn nats(alice: &Value, bob: &Value) {
    println!("\nWhat each finds out about its own NAT (ntcp doctor):\n");
    println!("  {:<22}{:<34}bob", "", "alice");
    println!("  {:<22}{:<34}{}", "NAT", word(&alice["nat"]), word(&bob["nat"]));
    for transport in ["udp", "tcp"] {
        for key in ["public_address", "mapping", "filtering", "port_allocation"] {
            let (alice, bob) = (&alice[transport][key], &bob[transport][key]);
            if !alice.is_null() || !bob.is_null() {
                let label = format!("{} {}", transport.to_uppercase(), key.replace('_', " "));
                println!("  {label:<22}{:<34}{}", word(alice), word(bob));
            }
        }
    }
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

pub(crate) fn call(transport: &str, server: IpAddr) {
    let flag = if transport == "any" { String::new() } else { format!(" --transport {transport}") };
    println!("\nbob:   ntcp listen bob --broker {server}");
    println!("alice: ntcp connect ntcp://bob@{server}{flag}");
}

pub(crate) fn outcome(conversation: &Conversation, limit: Duration, with_ladder: bool) {
    let report = &conversation.report;
    println!();
    if with_ladder || !conversation.is_connected() {
        ladder(report);
    }
    if !conversation.is_connected() {
        println!("  no connection: {}", word(&report["reason"]));
        for line in report["advice"].as_array().into_iter().flatten() {
            println!("    {}", line.as_str().unwrap_or_default());
        }
        if report["reason"].is_null() {
            println!("    {}", conversation.complaint.trim());
        }
        return;
    }
    let (elapsed, limit) = (milliseconds(&report["elapsed_ms"]), limit.as_secs_f64() * 1e3);
    println!(
        "  {} by {} from {} to {}",
        word(&report["transport"]).to_uppercase(),
        strategy(&report["strategy"]),
        word(&report["local"]),
        word(&report["remote"]),
    );
    print!("  path verified both ways after {elapsed:.1} ms");
    if limit > 0.0 {
        print!(": {:.2} × the limit of {limit:.0} ms", elapsed / limit);
    }
    println!(", first byte may leave after {:.1} ms", milliseconds(&report["secured_ms"]));
    data(conversation);
}

fn ladder(report: &Value) {
    for attempt in report["attempts"].as_array().into_iter().flatten() {
        let evidence = attempt["evidence"].as_array().into_iter().flatten();
        let evidence: Vec<_> = evidence.filter_map(Value::as_str).collect();
        println!(
            "  {:>7.1} to {:>7.1} ms  {:<11}{} {} to {}: {}",
            milliseconds(&attempt["started_ms"]),
            milliseconds(&attempt["ended_ms"]),
            word(&attempt["result"]),
            word(&attempt["transport"]).to_uppercase(),
            strategy(&attempt["strategy"]),
            word(&attempt["remote"]),
            evidence.join(", "),
        );
    }
    println!();
}

fn milliseconds(value: &Value) -> f64 {
    value.as_f64().unwrap_or(f64::NAN)
}

fn data(conversation: &Conversation) {
    let megabytes = conversation.said / 1_000_000;
    if !conversation.is_whole() {
        println!("  DAMAGED: of {megabytes} MB each way, bob heard {}", heard(&conversation.forth));
        println!("  and alice heard {}", heard(&conversation.back));
        return;
    }
    println!(
        "  {megabytes} MB each way at once, every byte as it was said: {:.0} and {:.0} Mbit/s",
        rate(&conversation.forth),
        rate(&conversation.back),
    );
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

pub(crate) fn closing(connected: bool) {
    if connected {
        println!("\nTry other NATs: ./demo full-cone linux-random. ./demo --list names them all.");
    } else {
        println!("\nNo direct path between these two NATs. ./demo --list names others.");
    }
}

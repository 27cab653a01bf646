//! What `ntcp doctor` found out, as JSON and in words. The JSON is a contract: fields are added, never
//! changed; what was not measured is `null`.

use ntcp::NatReport;
use serde::Serialize;
use serde_json::Value;
use std::fmt::Write;

/// The verdict on this machine's network.
#[derive(Debug, Clone, Serialize)]
pub struct Verdict {
    /// Whether there is a NAT, and what it does to UDP and to TCP.
    #[serde(flatten)]
    pub nat: NatReport,
    /// Privileges of this process that matter for connecting, by their Linux names.
    pub privileges: Vec<String>,
    /// What the verdict means and what would help, a sentence each.
    pub advice: Vec<String>,
    /// What was seen on the way to the verdict, a line each.
    pub evidence: Vec<String>,
}

/// One line of the comparison of UDP and TCP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// What it is about.
    pub label: &'static str,
    /// The verdict over UDP.
    pub udp: String,
    /// The verdict over TCP.
    pub tcp: String,
}

/// Keys of the contract with their labels, most important first.
const ROWS: [(&str, &str); 10] = [
    ("reachable", "passes"),
    ("public_address", "public address"),
    ("mapping", "mapping"),
    ("filtering", "filtering"),
    ("port_allocation", "port allocation"),
    ("hairpin", "hairpin"),
    ("lifetime_s", "lifetime in seconds"),
    ("unsolicited_syn", "answer to an unsolicited SYN"),
    ("inbound_syn_after_syn", "inbound SYN after a SYN"),
    ("isn", "sequence numbers"),
];

impl Verdict {
    /// The verdict in one sentence.
    #[must_use]
    pub fn headline(&self) -> &'static str {
        match (self.nat.nat, self.nat.udp.reachable, self.nat.tcp.reachable) {
            (_, false, false) => "No STUN server answered: nothing is known about this network.",
            (Some(true), false, true) => "This machine is behind a NAT, and UDP does not pass.",
            (Some(true), true, _) => "This machine is behind a NAT.",
            (Some(false), false, true) => "This machine has a public address; UDP does not pass.",
            (Some(false), true, _) => "This machine has a public address.",
            (None, ..) => "It could not be told whether this machine is behind a NAT.",
        }
    }

    /// UDP and TCP side by side, without lines on which both are unknown.
    #[must_use]
    pub fn rows(&self) -> Vec<Row> {
        let side = |value: serde_json::Result<Value>| value.unwrap_or(Value::Null);
        let udp = side(serde_json::to_value(&self.nat.udp));
        let tcp = side(serde_json::to_value(&self.nat.tcp));
        let known = |(key, _): &&(&str, &str)| !udp[*key].is_null() || !tcp[*key].is_null();
        let row = |(key, label): &(&str, &'static str)| Row {
            label,
            udp: word(&udp[*key]),
            tcp: word(&tcp[*key]),
        };
        ROWS.iter().filter(known).map(row).collect()
    }

    /// The verdict for a terminal.
    #[must_use]
    pub fn words(&self) -> String {
        let mut text = format!("{}\n\n{:<30}{:<38}TCP\n", self.headline(), "", "UDP");
        for Row { label, udp, tcp } in self.rows() {
            let _ = writeln!(text, "{label:<30}{udp:<38}{tcp}");
        }
        for (title, lines) in [("Advice", &self.advice), ("Seen", &self.evidence)] {
            if !lines.is_empty() {
                let _ = write!(text, "\n{title}:\n");
                lines.iter().for_each(|line| {
                    let _ = writeln!(text, "  - {line}");
                });
            }
        }
        text
    }
}

/// A value of the contract in words.
fn word(value: &Value) -> String {
    match value {
        Value::Null => "not measured".to_owned(),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::String(text) => text.replace('_', " "),
        other => other.to_string(),
    }
}

/// Those of this process's capabilities that strategies may use, by their names.
#[must_use]
pub fn privileges() -> Vec<String> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    held(&status)
}

/// Bits of the capabilities as `linux/capability.h` numbers them.
const CAPABILITIES: [(u32, &str); 2] = [(12, "cap_net_admin"), (13, "cap_net_raw")];

fn held(status: &str) -> Vec<String> {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let bits = line.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok()).unwrap_or(0);
    let held = CAPABILITIES.iter().filter(|(bit, _)| bits >> bit & 1 == 1);
    held.map(|(_, name)| (*name).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ntcp::NatReport;

    fn verdict() -> Verdict {
        let mut nat = NatReport { nat: Some(true), ..NatReport::default() };
        nat.udp.reachable = true;
        nat.udp.public_address = Some("198.51.100.2:4000".parse().unwrap());
        nat.udp.hairpin = Some(false);
        Verdict {
            nat,
            privileges: vec!["cap_net_raw".into()],
            advice: vec!["Do this.".into()],
            evidence: vec!["Saw that.".into()],
        }
    }

    #[test]
    fn the_json_is_the_contract() {
        let json = serde_json::to_value(verdict()).unwrap();
        let expected = serde_json::json!({
            "nat": true,
            "udp": {
                "reachable": true, "public_address": "198.51.100.2:4000", "mapping": null,
                "filtering": null, "port_allocation": null, "hairpin": false, "lifetime_s": null,
            },
            "tcp": {
                "reachable": false, "public_address": null, "mapping": null, "filtering": null,
                "port_allocation": null, "hairpin": null, "lifetime_s": null,
                "unsolicited_syn": null, "inbound_syn_after_syn": null, "isn": null,
            },
            "privileges": ["cap_net_raw"],
            "advice": ["Do this."],
            "evidence": ["Saw that."],
        });
        assert_eq!(json, expected);
    }

    #[test]
    fn the_words_leave_out_what_neither_transport_knows() {
        let labels: Vec<_> = verdict().rows().iter().map(|row| row.label).collect();
        assert_eq!(labels, ["passes", "public address", "hairpin"]);
        let words = verdict().words();
        assert!(words.starts_with("This machine is behind a NAT.\n"), "{words}");
        assert!(words.contains("198.51.100.2:4000                     not measured"), "{words}");
        assert!(words.contains("Advice:\n  - Do this.\n"), "{words}");
    }

    #[test]
    fn every_key_of_the_contract_has_its_row() {
        let json = serde_json::to_value(verdict()).unwrap();
        for side in ["udp", "tcp"] {
            for key in json[side].as_object().unwrap().keys() {
                assert!(ROWS.iter().any(|(known, _)| known == key), "{key} has no row");
            }
        }
    }

    #[test]
    fn capabilities_are_read_from_the_effective_set() {
        assert_eq!(held("CapPrm:\t0000000000003000\nCapEff:\t0000000000002000\n"), ["cap_net_raw"]);
        assert_eq!(held("CapEff:\t000001ffffffffff\n"), ["cap_net_admin", "cap_net_raw"]);
        assert!(held("").is_empty() && held("CapEff:\tnonsense").is_empty());
    }
}

//! The verdict of `ntcp doctor` as one page that needs nothing else: inline SVG, no script.

use ntcp::NatReport;
use ntcp::discover::Diagnosis;
use serde_json::Value;
use std::fmt::Write;

/// Keys of the JSON contract with their labels, most important first.
const ROWS: [(&str, &str); 19] = [
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
    ("isn_follows_clock", "sequence numbers follow the clock"),
    ("new_port_each_connection", "another port for a second connection"),
    ("inbound_syn_after_rst", "inbound SYN after an RST"),
    ("inbound_syn_after_icmp", "inbound SYN after an ICMP error"),
    ("mid_stream", "packets of a connection not seen to begin"),
    ("syn_ack_after_syn", "outbound SYN-ACK after a SYN"),
    ("opener_ttl", "TTL that opens the outermost NAT"),
    ("hole_s", "lifetime of an unanswered SYN in seconds"),
    ("syn", "own SYN as it arrives"),
];

/// The page for `--html`.
#[must_use]
pub fn page(diagnosis: &Diagnosis) -> String {
    let findings = &diagnosis.findings;
    let headline = headline(&findings.report);
    let advice: Vec<_> = findings.advice.iter().map(ToString::to_string).collect();
    let evidence: Vec<_> = findings.evidence.iter().map(ToString::to_string).collect();
    let rows = rows(&findings.report);
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>ntcp doctor</title>\
         <style>{STYLE}</style></head><body><h1>{}</h1>{}\
         <table><thead><tr><td></td><th scope=\"col\">UDP</th><th scope=\"col\">TCP</th></tr></thead>\
         <tbody>{rows}</tbody></table>{}{}</body></html>\n",
        escaped(headline),
        drawing(&findings.report, headline),
        list("What it means and what would help", &advice),
        list("What was seen", &evidence),
    )
}

/// The verdict in one sentence.
fn headline(report: &NatReport) -> &'static str {
    match (report.nat, report.udp.reachable, report.tcp.reachable) {
        (_, false, false) => "No STUN server answered: nothing is known about this network",
        (Some(true), false, true) => "This machine is behind a NAT, and UDP does not pass",
        (Some(true), true, _) => "This machine is behind a NAT",
        (Some(false), false, true) => "This machine has a public address; UDP does not pass",
        (Some(false), true, _) => "This machine has a public address",
        (None, ..) => "It could not be told whether this machine is behind a NAT",
    }
}

/// UDP and TCP side by side, without lines on which both are unknown.
fn rows(report: &NatReport) -> String {
    let side = |value: serde_json::Result<Value>| value.unwrap_or(Value::Null);
    let udp = side(serde_json::to_value(&report.udp));
    let tcp = side(serde_json::to_value(&report.tcp));
    let mut rows = String::new();
    for (key, label) in ROWS {
        if udp[key].is_null() && tcp[key].is_null() {
            continue;
        }
        let [udp, tcp] = [&udp[key], &tcp[key]].map(|value| escaped(&word(value)));
        let _ = write!(rows, "<tr><th scope=\"row\">{label}</th><td>{udp}</td><td>{tcp}</td></tr>");
    }
    rows
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

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:46rem;margin:2rem auto;\
    padding:0 1rem;color:#1a1a1a;background:#fff}h1{font-size:1.4rem}h2{font-size:1.1rem}\
    table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:.3rem .6rem;\
    border-bottom:1px solid #ccc;font-weight:normal}thead th{font-weight:bold}svg{width:100%}\
    svg text{font:13px system-ui,sans-serif;fill:currentColor;text-anchor:middle}\
    svg .box{fill:none;stroke:currentColor}svg .open{stroke:#1a7f37}svg .shut{stroke:#b3261e;\
    stroke-dasharray:4}@media(prefers-color-scheme:dark){body{color:#eee;background:#111}}";

/// This machine, its NAT if there is one, and the internet; a line for each transport.
fn drawing(nat: &NatReport, headline: &str) -> String {
    let mut svg = String::from("<svg viewBox=\"0 0 700 150\" role=\"img\">");
    let title = escaped(headline);
    let _ = write!(svg, "<title>{title}</title>");
    let middle = match nat.nat {
        Some(true) => "NAT",
        Some(false) => "no NAT",
        None => "?",
    };
    for (x, label) in [(20, "this machine"), (240, middle), (560, "internet")] {
        let centre = x + 60;
        let _ = write!(
            svg,
            "<rect class=\"box\" x=\"{x}\" y=\"35\" width=\"120\" height=\"80\" rx=\"8\"/>\
             <text x=\"{centre}\" y=\"80\">{label}</text>"
        );
    }
    let sides = [
        ("UDP", 60, nat.udp.reachable, nat.udp.public_address),
        ("TCP", 95, nat.tcp.reachable, nat.tcp.public_address),
    ];
    for (name, y, reachable, address) in sides {
        let class = if reachable { "open" } else { "shut" };
        for (x, end) in [(140, 240), (360, 560)] {
            let _ = write!(
                svg,
                "<line class=\"{class}\" stroke-width=\"3\" x1=\"{x}\" y1=\"{y}\" x2=\"{end}\" y2=\"{y}\"/>"
            );
        }
        let above = y - 6;
        let state = if reachable { "" } else { " does not pass" };
        let _ = write!(svg, "<text x=\"190\" y=\"{above}\">{name}{state}</text>");
        if let Some(address) = address {
            let _ = write!(svg, "<text x=\"460\" y=\"{above}\">{address}</text>");
        }
    }
    svg.push_str("</svg>");
    svg
}

fn list(title: &str, lines: &[String]) -> String {
    if lines.is_empty() {
        return String::new();
    }
    let items: String = lines.iter().map(|line| format!("<li>{}</li>", escaped(line))).collect();
    format!("<h2>{title}</h2><ul>{items}</ul>")
}

/// Text that means nothing to a browser but itself.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use ntcp::discover::{Evidence, Findings};

    fn diagnosis() -> Diagnosis {
        let mut report = NatReport { nat: Some(true), ..NatReport::default() };
        report.udp.reachable = true;
        report.udp.public_address = Some("198.51.100.2:4000".parse().unwrap());
        report.udp.hairpin = Some(false);
        let evidence = vec![Evidence::PayloadRewritten];
        let findings = Findings { report, evidence, ..Findings::default() };
        Diagnosis { findings, privileges: ntcp::discover::Privileges::default(), spoofing: None }
    }

    #[test]
    fn the_page_stands_alone() {
        let page = page(&diagnosis());
        assert!(page.contains("<text x=\"460\" y=\"54\">198.51.100.2:4000</text>"));
        assert!(page.contains("TCP does not pass"));
        assert!(page.contains(&escaped(&Evidence::PayloadRewritten.to_string())));
        assert!(!page.contains("<script") && !page.contains("http"), "{page}");
        for tag in ["svg", "ul", "table", "tr", "body", "html"] {
            let opened = page.matches(&format!("<{tag}")).count();
            assert_eq!(opened, page.matches(&format!("</{tag}>")).count(), "{tag}");
        }
    }

    #[test]
    fn what_neither_transport_knows_is_left_out() {
        let rows = rows(&diagnosis().findings.report);
        assert!(rows.contains("hairpin</th><td>no</td><td>not measured</td>"), "{rows}");
        assert!(!rows.contains("mapping"), "{rows}");
    }

    #[test]
    fn every_key_of_the_contract_has_its_row() {
        let json = serde_json::to_value(diagnosis()).unwrap();
        for side in ["udp", "tcp"] {
            for key in json[side].as_object().unwrap().keys() {
                assert!(ROWS.iter().any(|(known, _)| known == key), "{key} has no row");
            }
        }
    }

    #[test]
    fn nothing_that_was_told_means_anything_to_a_browser() {
        assert_eq!(escaped("<b a=\"&\">"), "&lt;b a=&quot;&amp;&quot;&gt;");
    }
}

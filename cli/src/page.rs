//! The verdict of `ntcp doctor` as one page that needs nothing else: inline SVG, no script.

use crate::verdict::{Row, Verdict};
use std::fmt::Write;

/// The page for `--html`.
#[must_use]
pub fn page(verdict: &Verdict) -> String {
    let mut rows = String::new();
    for Row { label, udp, tcp } in verdict.rows() {
        let cells = [label, &udp, &tcp].map(escaped);
        let [label, udp, tcp] = cells;
        let _ = write!(rows, "<tr><th scope=\"row\">{label}</th><td>{udp}</td><td>{tcp}</td></tr>");
    }
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>ntcp doctor</title>\
         <style>{STYLE}</style></head><body><h1>{}</h1>{}\
         <table><thead><tr><td></td><th scope=\"col\">UDP</th><th scope=\"col\">TCP</th></tr></thead>\
         <tbody>{rows}</tbody></table>{}{}</body></html>\n",
        escaped(verdict.headline()),
        drawing(verdict),
        list("What it means and what would help", &verdict.advice),
        list("What was seen", &verdict.evidence),
    )
}

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:46rem;margin:2rem auto;\
    padding:0 1rem;color:#1a1a1a;background:#fff}h1{font-size:1.4rem}h2{font-size:1.1rem}\
    table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:.3rem .6rem;\
    border-bottom:1px solid #ccc;font-weight:normal}thead th{font-weight:bold}svg{width:100%}\
    svg text{font:13px system-ui,sans-serif;fill:currentColor;text-anchor:middle}\
    svg .box{fill:none;stroke:currentColor}svg .open{stroke:#1a7f37}svg .shut{stroke:#b3261e;\
    stroke-dasharray:4}@media(prefers-color-scheme:dark){body{color:#eee;background:#111}}";

/// This machine, its NAT if there is one, and the internet; a line for each transport.
fn drawing(verdict: &Verdict) -> String {
    let nat = &verdict.nat;
    let mut svg = String::from("<svg viewBox=\"0 0 640 150\" role=\"img\">");
    let title = escaped(verdict.headline());
    let _ = write!(svg, "<title>{title}</title>");
    let middle = match nat.nat {
        Some(true) => "NAT",
        Some(false) => "no NAT",
        None => "?",
    };
    for (x, label) in [(20, "this machine"), (260, middle), (500, "internet")] {
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
        for x in [140, 380] {
            let end = x + 120;
            let _ = write!(
                svg,
                "<line class=\"{class}\" stroke-width=\"3\" x1=\"{x}\" y1=\"{y}\" x2=\"{end}\" y2=\"{y}\"/>"
            );
        }
        let above = y - 6;
        let state = if reachable { "" } else { " does not pass" };
        let _ = write!(svg, "<text x=\"200\" y=\"{above}\">{name}{state}</text>");
        if let Some(address) = address {
            let _ = write!(svg, "<text x=\"440\" y=\"{above}\">{address}</text>");
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
    use ntcp::NatReport;

    #[test]
    fn the_page_stands_alone_and_escapes_what_it_was_told() {
        let mut nat = NatReport { nat: Some(true), ..NatReport::default() };
        nat.udp.reachable = true;
        nat.udp.public_address = Some("198.51.100.2:4000".parse().unwrap());
        let verdict = Verdict {
            nat,
            privileges: Vec::new(),
            advice: vec!["Ask <b>\"them\"</b> & wait.".into()],
            evidence: Vec::new(),
        };
        let page = page(&verdict);
        assert!(page.contains("Ask &lt;b&gt;&quot;them&quot;&lt;/b&gt; &amp; wait."));
        assert!(page.contains("<text x=\"440\" y=\"54\">198.51.100.2:4000</text>"));
        assert!(page.contains("TCP does not pass"));
        assert!(!page.contains("<script") && !page.contains("http"), "{page}");
        let opened = page.matches("<svg").count() + page.matches("<ul").count();
        assert_eq!(opened, page.matches("</svg>").count() + page.matches("</ul>").count());
    }
}

//! The status page: one HTML file without script, picture or font from elsewhere. It names no peer and no address.

use std::fmt::Write as _;
use std::time::Duration;

use ntcp_service::metrics::Durations;

use crate::Status;

/// Light and dark as the reader's system asks. Numbers stand in every bar, so that colour is not the only carrier.
const STYLE: &str = "\
:root{color-scheme:light dark;--page:#f6f7f9;--card:#fff;--ink:#1b2430;--soft:#5b6877;--line:#dde2e8;--bar:#3d7edb;\
--track:#e8ecf1;--good:#1a7f4b;--warn:#9a5b00}\
@media(prefers-color-scheme:dark){:root{--page:#11161c;--card:#1a212a;--ink:#e6ebf1;--soft:#9aa7b5;--line:#2c3641;\
--bar:#5b9bf0;--track:#27303b;--good:#4cc38a;--warn:#e5a13c}}\
*{box-sizing:border-box}body{margin:0;background:var(--page);color:var(--ink);\
font:15px/1.45 system-ui,-apple-system,'Segoe UI',Roboto,sans-serif}\
main{max-width:62rem;margin:0 auto;padding:1.5rem 1rem 3rem}\
header{display:flex;flex-wrap:wrap;gap:.3rem 1rem;align-items:baseline;margin-bottom:1rem}\
h1{font-size:1.35rem;margin:0}h2{font-size:1rem;margin:0 0 .6rem}p{margin:.2rem 0}\
.state{font-weight:600;color:var(--good)}.state.stopping{color:var(--warn)}.soft{color:var(--soft)}\
.tiles,.cards{display:grid;gap:.8rem;margin-bottom:.8rem}\
.tiles{grid-template-columns:repeat(auto-fit,minmax(8.5rem,1fr))}\
.cards{grid-template-columns:repeat(auto-fit,minmax(min(25rem,100%),1fr))}\
.tile,.card{background:var(--card);border:1px solid var(--line);border-radius:.6rem;padding:.8rem 1rem}\
.tile b{display:block;font-size:1.7rem;line-height:1.2;font-variant-numeric:tabular-nums}\
table{border-collapse:collapse;width:100%}th,td{padding:.2rem 0;text-align:left;vertical-align:middle}\
th{font-weight:400;white-space:nowrap}td.n{text-align:right;font-variant-numeric:tabular-nums;padding-left:.8rem;white-space:nowrap}\
td.b{width:99%;padding-left:.8rem}\
.bar{background:var(--track);border-radius:.25rem;height:.6rem;overflow:hidden}\
.bar i{display:block;height:100%;background:var(--bar);border-radius:.25rem}";

/// The page for `status`.
pub(crate) fn of(status: &Status) -> String {
    let mut page = String::with_capacity(8 << 10);
    let version = env!("CARGO_PKG_VERSION");
    let (class, state) =
        if status.is_stopping { ("state stopping", "stopping") } else { ("state", "serving") };
    // Writing to a String cannot fail, here and below.
    let _ = write!(
        page,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\">\
         <meta http-equiv=\"refresh\" content=\"10\"><title>ntcp-broker: {} peers</title>\
         <style>{STYLE}</style></head><body><main><header><h1>ntcp-broker</h1>\
         <span class=\"{class}\">{state}</span>\
         <span class=\"soft\">version {version}, up {}; this page renews itself every 10 s</span></header>",
        status.peers,
        span(status.uptime)
    );
    tiles(&mut page, status);
    page.push_str("<div class=\"cards\">");
    calls(&mut page, status);
    times(&mut page, status);
    strategies(&mut page, status);
    refusals(&mut page, status);
    page.push_str(
        "</div><p class=\"soft\">All numbers, for programs: <a href=\"/metrics\">/metrics</a>. \
        Counted since the start.</p></main></body></html>\n",
    );
    page
}

fn tiles(page: &mut String, status: &Status) {
    page.push_str("<div class=\"tiles\">");
    for (name, value) in [
        ("peers registered", status.peers as u64),
        ("sessions", status.sessions as u64),
        ("TCP streams", status.streams as u64),
        ("calls", status.counters.ordered),
        ("messages received", status.counters.received),
    ] {
        let value = grouped(value);
        let _ = write!(
            page,
            "<div class=\"tile\"><b>{value}</b><span class=\"soft\">{name}</span></div>"
        );
    }
    page.push_str("</div>");
}

fn calls(page: &mut String, status: &Status) {
    let counters = &status.counters;
    let rows = [
        ("accepted", counters.accepted),
        ("declined", counters.declined),
        ("not answered", counters.unanswered),
        ("nobody by that name", counters.unknown_peers),
    ];
    card(page, "What became of calls", |page| {
        bars(page, rows.map(|(name, n)| (name.to_owned(), n)));
    });
}

fn times(page: &mut String, status: &Status) {
    card(page, "How long it took", |page| {
        page.push_str(
            "<table><tr><th></th><td class=\"n soft\">50 %</td><td class=\"n soft\">90 %</td>\
            <td class=\"n soft\">99 %</td><td class=\"n soft\">of</td></tr>",
        );
        for (name, took) in
            [("direct path stood", &status.set_up), ("callee answered", &status.invitations)]
        {
            let _ = write!(page, "<tr><th>{name}</th>");
            for percent in [50, 90, 99] {
                let _ = write!(page, "<td class=\"n\">{}</td>", at_most(took, percent));
            }
            let _ = write!(page, "<td class=\"n\">{}</td></tr>", grouped(took.count()));
        }
        page.push_str("</table>");
    });
}

fn strategies(page: &mut String, status: &Status) {
    card(page, "Strategies that won", |page| {
        if status.won.is_empty() {
            page.push_str("<p class=\"soft\">No peer has reported yet how its path was made.</p>");
            return;
        }
        let mut won: Vec<_> =
            status.won.iter().map(|(name, count)| (name.replace('_', " "), *count)).collect();
        won.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        bars(page, won);
    });
}

fn refusals(page: &mut String, status: &Status) {
    let counters = &status.counters;
    let dropped = counters.oversized
        + counters.not_stun
        + counters.damaged
        + counters.unknown_method
        + counters.unexpected
        + counters.unsigned;
    let rows = [
        ("messages dropped", dropped),
        ("malformed", counters.malformed),
        ("too many requests", counters.rate_limited),
        ("a limit was reached", counters.at_limit),
        ("name taken", counters.name_conflicts),
    ];
    card(page, "Refused and dropped", |page| {
        bars(page, rows.map(|(name, n)| (name.to_owned(), n)));
    });
}

fn card(page: &mut String, title: &str, inside: impl FnOnce(&mut String)) {
    let _ = write!(page, "<section class=\"card\"><h2>{title}</h2>");
    inside(page);
    page.push_str("</section>");
}

fn bars(page: &mut String, rows: impl IntoIterator<Item = (String, u64)>) {
    let rows: Vec<_> = rows.into_iter().collect();
    let total: u64 = rows.iter().map(|(_, count)| count).sum();
    page.push_str("<table>");
    for (name, count) in rows {
        let percent = (count * 100).checked_div(total).unwrap_or(0);
        let _ = write!(
            page,
            "<tr><th>{}</th><td class=\"b\"><div class=\"bar\"><i style=\"width:{percent}%\"></i></div></td>\
             <td class=\"n\">{}</td></tr>",
            escaped(&name),
            grouped(count)
        );
    }
    page.push_str("</table>");
}

fn at_most(took: &Durations, percent: u64) -> String {
    match (took.count(), took.at_most(percent)) {
        (0, _) => "–".to_owned(),
        (_, None) => "&gt; 30 s".to_owned(),
        (_, Some(limit)) if limit < Duration::from_secs(1) => format!("≤ {} ms", limit.as_millis()),
        (_, Some(limit)) => format!("≤ {} s", limit.as_secs()),
    }
}

/// With a narrow space between each three digits.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

fn span(time: Duration) -> String {
    let seconds = time.as_secs();
    match (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, minutes) => format!("{minutes} min"),
        (0, hours, minutes) => format!("{hours} h {minutes} min"),
        (days, hours, _) => format!("{days} d {hours} h"),
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_needs_nothing_from_elsewhere_and_escapes_what_peers_say() {
        let mut status = Status { peers: 1_234_567, ..Status::default() };
        status.won.insert("<script>".to_owned(), 3);
        status.won.insert("shielded_opener".to_owned(), 1);
        status.set_up.note(Duration::from_millis(120));
        let page = of(&status);
        for expected in [
            "1\u{202f}234\u{202f}567",
            "&lt;script&gt;",
            "shielded opener",
            "width:75%",
            "≤ 200 ms",
        ] {
            assert!(page.contains(expected), "{expected} is missing");
        }
        for forbidden in ["<script", "http://", "https://", "src=", "@import", "url("] {
            assert!(!page.contains(forbidden), "{forbidden}");
        }
    }

    #[test]
    fn times_are_told_in_the_units_of_their_size() {
        let told = [5, 65, 3700, 90_000].map(|seconds| span(Duration::from_secs(seconds)));
        assert_eq!(told, ["5 s", "1 min", "1 h 1 min", "1 d 1 h"]);
    }
}

//! The heat maps as one page: no script, no other file, light and dark.

use std::fmt::Write as _;

use super::Chart;

const STYLE: &str = "\
:root { color-scheme: light dark; --ink: light-dark(#1c1f24, #e6e8eb);
  --paper: light-dark(#ffffff, #15181c); --line: light-dark(#d5d9df, #343a42);
  --dim: light-dark(#5d6570, #98a1ad); --none: light-dark(#eceef1, #22272d);
  --fast: light-dark(#7fcf9a, #1f7a45); --good: light-dark(#bfe3a3, #4d7a2c);
  --slow: light-dark(#f6dc8a, #8a6a16); --late: light-dark(#f3b48c, #8f4a22); }
body { font: 15px/1.45 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  margin: 2rem auto; max-width: 76rem; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin: 2.2rem 0 .2rem; }
p { margin: .2rem 0 .8rem; } .needs, nav { color: var(--dim); }
nav a { color: inherit; margin-right: .9rem; white-space: nowrap; }
.scroll { overflow-x: auto; }
table { border-collapse: separate; border-spacing: 2px; font-size: 12px; }
th { font-weight: 500; color: var(--dim); text-align: right; white-space: nowrap;
  padding-right: .4rem; position: sticky; left: 0; background: var(--paper); }
thead th { position: static; text-align: center; padding: 0; min-width: 2.3rem; }
td { text-align: center; width: 2.3rem; height: 1.5rem; border-radius: 3px;
  font-variant-numeric: tabular-nums; background: var(--none); color: var(--dim); }
td.fast { background: var(--fast); color: inherit; } td.good { background: var(--good); color: inherit; }
td.slow { background: var(--slow); color: inherit; } td.late { background: var(--late); color: inherit; }
.key span { display: inline-block; padding: .1rem .6rem; border-radius: 3px; margin-right: .4rem; }
.key .fast { background: var(--fast); } .key .good { background: var(--good); }
.key .slow { background: var(--slow); } .key .late { background: var(--late); }
.key .none { background: var(--none); }
";

/// How long a cell took, as a colour.
fn shade(delays: f64) -> &'static str {
    /// Two one-way delays are the least for anything that both sides know of; four the least for a
    /// call.
    const STEPS: [(f64, &str); 3] = [(4.0, "fast"), (8.0, "good"), (20.0, "slow")];
    STEPS.iter().find(|(most, _)| delays <= *most).map_or("late", |(_, name)| name)
}

pub(super) fn of(charts: &[Chart]) -> String {
    let mut page = String::from(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n\
         <title>What gets through which NATs</title>\n<style>\n",
    );
    page += STYLE;
    page += "</style>\n<h1>What gets through which NATs</h1>\n";
    page += "<p>Each row tries to reach each column. A number is the time until both sides were \
             connected and heard each other, in one-way delays; simulated, so that it is the same \
             in every run.</p>\n<p class=\"key\">";
    for (class, text) in
        [("fast", "up to 4"), ("good", "8"), ("slow", "20"), ("late", "more"), ("none", "never")]
    {
        page += &format!("<span class=\"{class}\">{text}</span>");
    }
    page += "</p>\n<nav>";
    for chart in charts {
        let name = escaped(&chart.name);
        page += &format!("<a href=\"#{name}\">{name}</a> ");
    }
    page += "</nav>\n";
    if charts.len() > 1 {
        page += &overview(charts);
    }
    charts.iter().for_each(|chart| page += &section(chart));
    page += "</html>\n";
    page
}

/// For each pair how many of all charts have a path, if they are about the same sites.
fn overview(charts: &[Chart]) -> String {
    let Some(first) = charts.first() else { return String::new() };
    if charts.iter().any(|chart| chart.sites != first.sites) {
        return String::new();
    }
    let cell = |row: usize, column: usize| {
        let works = charts.iter().filter(|chart| chart.rows[row][column].is_some());
        let names: Vec<&str> = works.map(|chart| chart.name.as_str()).collect();
        let class = match names.len() * 4 / charts.len() {
            _ if names.is_empty() => "",
            0 => "late",
            1 => "slow",
            2 => "good",
            _ => "fast",
        };
        (class, names.len().to_string(), names.join(", "))
    };
    let mut text = String::from(
        "<h2>All together</h2>\n<p>How many of the ways below have a path; their names show at each cell.</p>\n",
    );
    text += &table(first, cell);
    text
}

fn section(chart: &Chart) -> String {
    let name = escaped(&chart.name);
    let mut text = format!("<h2 id=\"{name}\">{name}</h2>\n<p>{}.<br>", escaped(&chart.about));
    text += &format!("<span class=\"needs\">Needs {}.</span></p>\n", escaped(&chart.needs));
    text += &table(chart, |row, column| match chart.rows[row][column] {
        Some(time) => {
            let delays = chart.in_delays(time);
            (shade(delays), delays.to_string(), format!("{} ms", time.as_millis()))
        }
        None => ("", "·".into(), "never".into()),
    });
    text
}

/// A table over the sites of a chart; a cell is its class, its text and its title.
fn table(chart: &Chart, cell: impl Fn(usize, usize) -> (&'static str, String, String)) -> String {
    let mut text = String::from("<div class=\"scroll\"><table>\n<thead><tr><th></th>");
    for (site, number) in chart.sites.iter().zip(1..) {
        let site = escaped(&site.to_string());
        // Writing into a string cannot fail.
        let _ = write!(text, "<th title=\"{site}\">{number}</th>");
    }
    text += "</tr></thead>\n";
    for (row, site) in chart.sites.iter().enumerate() {
        let a = escaped(&site.to_string());
        let _ = write!(text, "<tr><th scope=\"row\">{} {a}</th>", row + 1);
        for (column, other) in chart.sites.iter().enumerate() {
            let (class, inside, title) = cell(row, column);
            let b = escaped(&other.to_string());
            let class =
                if class.is_empty() { String::new() } else { format!(" class=\"{class}\"") };
            let title = escaped(&title);
            let _ = write!(text, "<td{class} title=\"{a} × {b}: {title}\">{inside}</td>");
        }
        text += "</tr>\n";
    }
    text += "</table></div>\n";
    text
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::presets::Site;

    #[test]
    fn a_page_holds_every_pair_of_every_chart_and_nothing_from_elsewhere() {
        let sites: Vec<Site> = ["public", "masq,in=reset"].map(|text| text.parse().unwrap()).into();
        let rows = vec![vec![Some(Duration::from_millis(40)), None], vec![None; 2]];
        let chart = |name| {
            let words = [name, "a < b & \"c\"", "nothing"];
            Chart::new(words, &sites, rows.clone(), Duration::from_millis(20))
        };
        let page = of(&[chart("one"), chart("two")]);
        assert_eq!(page.matches("<td").count(), 3 * 4);
        assert_eq!(page.matches("class=\"fast\" title=\"public × public: 40 ms\">2<").count(), 2);
        assert!(page.contains("a &lt; b &amp; &quot;c&quot;"));
        assert!(!page.contains("http") && !page.contains("<script"));
    }

    #[test]
    fn colours_follow_the_time() {
        let shades = [2.0, 4.0, 4.1, 8.0, 20.0, 20.1].map(shade);
        assert_eq!(shades, ["fast", "fast", "good", "good", "slow", "late"]);
    }
}

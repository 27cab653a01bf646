//! Durations with a unit: `"10 s"`, `"1m 30s"`, `"500 ms"`.

use crate::list;
use serde::de::{Deserializer, Error};
use std::time::Duration;

/// Reads a duration from `MIN` to `MAX` seconds, for serde.
pub(crate) fn seconds<'de, D: Deserializer<'de>, const MIN: u64, const MAX: u64>(
    deserializer: D,
) -> Result<Duration, D::Error> {
    let text = list::text(deserializer, "a duration with its unit, for example \"10 s\"")?;
    let duration = parse(&text).map_err(D::Error::custom)?;
    let (min, max) = (Duration::from_secs(MIN), Duration::from_secs(MAX));
    if (min..=max).contains(&duration) {
        return Ok(duration);
    }
    let [min, max] = [min, max].map(humantime::format_duration);
    Err(D::Error::custom(format!("out of range; write a duration from {min} to {max}")))
}

fn parse(text: &str) -> Result<Duration, String> {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return Err(format!("the unit is missing; write for example \"{text} s\""));
    }
    humantime::parse_duration(text)
        .map_err(|_| "not a duration; write a number and a unit, for example \"10 s\"".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_has_a_number_and_a_unit() {
        assert_eq!(parse("10 s"), Ok(Duration::from_secs(10)));
        assert_eq!(parse("10s"), Ok(Duration::from_secs(10)));
        assert_eq!(parse("1m 30s"), Ok(Duration::from_secs(90)));
        assert_eq!(parse("500 ms"), Ok(Duration::from_millis(500)));
        assert!(parse("10").unwrap_err().contains("\"10 s\""));
        for bad in ["", "s", "-1 s", "ten s", "10 parsecs", "99999999999999999999 s"] {
            assert!(parse(bad).unwrap_err().starts_with("not a duration"), "{bad}");
        }
    }
}

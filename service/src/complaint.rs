//! [`complain`]: the last words of a program that cannot do what it was told.

use std::error::Error;
use std::process::ExitCode;

use crate::scribe::scribe;

/// Says on standard error what happened and, for each cause, why, but nothing twice: many messages quote their cause. Where
/// standard error takes nothing, as on a full disk or into a pipe that nobody reads, the status must say it.
pub fn complain<'a>(
    program: &str,
    causes: impl Iterator<Item = &'a (dyn Error + 'static)>,
    status: u8,
) -> ExitCode {
    scribe().take(format!("{program}: {}\n", told_once(causes)).as_bytes());
    scribe().finish();
    ExitCode::from(status)
}

/// What happened and, for each cause, why, but nothing twice.
pub fn told_once<'a>(causes: impl Iterator<Item = &'a (dyn Error + 'static)>) -> String {
    let mut told = String::new();
    for cause in causes.map(ToString::to_string) {
        if told.is_empty() {
            told = cause;
        } else if !told.contains(&cause) {
            told = format!("{told}: {cause}");
        }
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_that_is_quoted_is_not_told_again() {
        let full = "no space left";
        let quoted = "the file /x: no space left; name another one";
        for (causes, told) in [
            (vec![full], full),
            (vec!["the file /x", full], "the file /x: no space left"),
            (vec![quoted, full], quoted),
        ] {
            let causes: Vec<Box<dyn Error>> = causes.into_iter().map(Into::into).collect();
            assert_eq!(told_once(causes.iter().map(|it| &**it)), told);
        }
    }
}

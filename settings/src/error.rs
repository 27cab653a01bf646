//! What can be wrong with a configuration: where, what, and the fix.

use std::path::PathBuf;
use thiserror::Error;

/// Why a configuration was refused. Every message names the place and the fix.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// The file that was asked for cannot be read.
    #[error("{}: cannot be read: {source}; check the path and its permissions", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A variable that is almost one of ours.
    #[error("environment variable {variable} means nothing; did you mean {meant}?")]
    Variable {
        /// The variable as it is set.
        variable: String,
        /// The variable with both underscores.
        meant: String,
    },
    /// The file is not TOML.
    #[error("{place}: not valid TOML: {problem}")]
    Syntax {
        /// The file.
        place: String,
        /// The parser's words, with line and column.
        problem: String,
    },
    /// A section that does not exist.
    #[error("{place}: unknown section [{section}]; {fix}")]
    UnknownSection {
        /// File or environment variable.
        place: String,
        /// The section as written.
        section: String,
        /// The nearest section, or all of them.
        fix: String,
    },
    /// A section that is planned but does nothing yet: accepting it would be a silent lie.
    #[error("{place}: section [{section}] is not available in this version; remove it")]
    NotAvailable {
        /// File or environment variable.
        place: String,
        /// The section as written.
        section: String,
    },
    /// A value where a section should be.
    #[error("{place}: {section} = {value} stands outside any section; {fix}")]
    NotASection {
        /// File or environment variable.
        place: String,
        /// The key as written.
        section: String,
        /// Its value.
        value: String,
        /// Where it belongs.
        fix: String,
    },
    /// A key that does not exist in its section.
    #[error("{place}: unknown key [{section}] {key} = {value}; {fix}")]
    UnknownKey {
        /// File or environment variable.
        place: String,
        /// The section.
        section: &'static str,
        /// The key as written.
        key: String,
        /// Its value.
        value: String,
        /// The nearest key, the section it belongs to, or all keys of the section.
        fix: String,
    },
    /// A value of the wrong shape or out of range.
    #[error("{place}: [{section}] {key} = {value}: {problem}")]
    BadValue {
        /// File or environment variable.
        place: String,
        /// The section.
        section: &'static str,
        /// The key.
        key: String,
        /// Its value as written.
        value: String,
        /// What is wrong with it and what to write.
        problem: String,
    },
    /// Values that are fine alone but cannot work together.
    #[error("{place}: {keys} = {value}: {problem}; {fix}")]
    Combination {
        /// The file, or "configuration" when there is none.
        place: String,
        /// The keys, with their sections.
        keys: &'static str,
        /// Their values.
        value: String,
        /// Why they cannot be together.
        problem: &'static str,
        /// What to change.
        fix: &'static str,
    },
}

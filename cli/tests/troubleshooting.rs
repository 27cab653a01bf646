//! `doc/troubleshooting.md` has one entry for each failure variant, and none for one that is gone.

use std::collections::BTreeSet;
use std::path::Path;

/// Each enum of failures that a user can meet, and the file that defines it.
const ENUMS: [(&str, &str); 6] = [
    ("ErrorKind", "ntcp/src/error.rs"),
    ("RegistrationError", "proto/src/signal/client/error.rs"),
    ("LinkError", "proto/src/signal/client/error.rs"),
    ("ConnectError", "proto/src/signal/client/error.rs"),
    ("UriError", "proto/src/uri.rs"),
    ("Failure", "cli/src/failure.rs"),
];

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The variants of an enum, read from formatted source: they stand four spaces deep.
fn variants(name: &str, source: &str) -> Vec<String> {
    let (_, body) = source.split_once(&format!("pub enum {name} {{\n")).expect(name);
    let body = body.split("\n}").next().unwrap();
    let names = body.lines().filter_map(|line| line.strip_prefix("    "));
    let names = names.filter(|line| line.starts_with(|c: char| c.is_ascii_uppercase()));
    let names = names.map(|line| line.split(['(', ' ', ',']).next().unwrap());
    names.map(|variant| format!("{name}::{variant}")).collect()
}

#[test]
fn every_failure_has_an_entry_and_every_entry_a_failure() {
    let page = read("doc/troubleshooting.md");
    let headings = page.lines().filter_map(|line| line.strip_prefix("### `")?.strip_suffix('`'));
    let headings: BTreeSet<String> = headings.map(str::to_owned).collect();
    let failures = ENUMS.iter().flat_map(|(name, file)| variants(name, &read(file)));
    let failures: BTreeSet<String> = failures.collect();
    assert!(failures.len() > 30, "only {} variants found", failures.len());
    let missing: Vec<_> = failures.difference(&headings).collect();
    assert!(missing.is_empty(), "doc/troubleshooting.md has no entry for {missing:?}");
    let stale: Vec<_> = headings.difference(&failures).collect();
    assert!(stale.is_empty(), "doc/troubleshooting.md has entries without failure: {stale:?}");
}

//! `doc/protocol.md` shows the bytes of every message; they are made here, so they cannot rot.
//!
//! With `NTCP_BLESS=1` in the environment the document is rewritten instead of compared.

use std::fmt::Write;
use std::path::PathBuf;

use ntcp_stun::{AttributeType, Message};

use crate::samples::{self, Sample};

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../doc/protocol.md")
}

/// The block of a sample: one line for the header's parts and for each attribute.
fn block(sample: &Sample) -> String {
    let bytes = sample.bytes();
    let view = Message::parse(&bytes).unwrap();
    let mut text = String::new();
    let mut line = |bytes: &[u8], what: &str| {
        let rows: Vec<String> = bytes.chunks(16).map(hex).collect();
        writeln!(text, "{:<47}  {what}", rows[0]).unwrap();
        rows[1..].iter().for_each(|row| writeln!(text, "{row}").unwrap());
    };
    let kind = format!("{:?} {}, {} bytes follow", view.class(), method(&view), bytes.len() - 20);
    line(&bytes[..4], &kind);
    line(&bytes[4..8], "magic cookie");
    line(&bytes[8..20], "transaction id");
    let mut offset = 20;
    for attribute in view.attributes() {
        let end = offset + 4 + attribute.value.len().next_multiple_of(4);
        let name = attribute_name(attribute.attribute_type);
        line(&bytes[offset..offset + 4], &name);
        if end > offset + 4 {
            line(&bytes[offset + 4..end], "");
        }
        offset = end;
    }
    assert_eq!(offset, bytes.len());
    let text: Vec<&str> = text.lines().map(str::trim_end).collect();
    format!("<!-- bytes: {} -->\n```text\n{}\n```\n", sample.name, text.join("\n"))
}

fn hex(bytes: &[u8]) -> String {
    let digits: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    digits.join(" ")
}

fn method(view: &Message<'_>) -> String {
    match ntcp_proto::signal::SignalMethod::from_stun(view.method()) {
        Some(method) => method.to_string(),
        None => panic!("{:?}", view.method()),
    }
}

fn attribute_name(attribute: AttributeType) -> String {
    let name = match attribute.number() {
        0x4E00 => "VERSION",
        0x4E01 => "NAME",
        0x4E02 => "REGISTRATION",
        0x4E03 => "REGISTRATION-KEY",
        0x4E04 => "CERTIFICATE",
        0x4E05 => "CANDIDATES",
        0x4E06 => "LEASE",
        0x4E07 => "TRANSPORTS",
        0x4E08 => "ROUND",
        0x4E09 => "SESSION",
        0x4E0A => "SESSION-SECRET",
        0x4E0B => "ROLE",
        0x4E0C => "START-AFTER",
        0x4E0D => "WAIT",
        0x4E0E => "NEWS",
        0x4E0F => "NOTE",
        0x4E10 => "PEER-ADDRESS",
        0x4E11 => "SYN",
        0x4E12 => "OUTCOMES",
        0x4E1C => "ERRAND",
        0x4E1D => "SOURCE-ADDRESS",
        0x4E1E => "ANSWERED-SYN",
        0x4E1F => "DATAGRAM",
        0x4E20 => "HANDSHAKE",
        0x4E21 => "SEALED",
        0xCE00 => "NAT-SUMMARY",
        0xCE01 => "ROUND-TRIP-TIME",
        0xCE02 => "PEER-ROUND-TRIP-TIME",
        0xCE04 => "CAPABILITIES",
        0xCE05 => "HINTS",
        0xCE06 => "CONSENT",
        0xCE11 => "IDENTITY",
        0xCE12 => "ACCOUNT",
        0xCE13 => "BARE",
        0xCE14 => "REFUSAL",
        0x8025 => "TRANSACTION-TRANSMIT-COUNTER",
        _ => return attribute.name().expect("a named attribute").to_owned(),
    };
    name.to_owned()
}

/// The document with every block made anew.
fn with_blocks(document: &str) -> String {
    let mut text = document.to_owned();
    for sample in samples::all() {
        let marker = format!("<!-- bytes: {} -->\n", sample.name);
        let start = text.find(&marker).unwrap_or_else(|| panic!("no place for {marker}"));
        let fence = text[start..].find("```text\n").map(|at| start + at + 8).unwrap();
        let end = text[fence..].find("```\n").map(|at| fence + at + 4).unwrap();
        text.replace_range(start..end, &block(&sample));
    }
    text
}

#[test]
fn the_document_shows_the_bytes_of_every_message() {
    let document = std::fs::read_to_string(path()).unwrap();
    let expected = with_blocks(&document);
    if std::env::var_os("NTCP_BLESS").is_some() {
        std::fs::write(path(), &expected).unwrap();
        return;
    }
    for (number, (is, should)) in document.lines().zip(expected.lines()).enumerate() {
        assert_eq!(is, should, "doc/protocol.md line {}: run with NTCP_BLESS=1", number + 1);
    }
    assert_eq!(document.lines().count(), expected.lines().count());
}

#[test]
fn the_document_names_every_attribute_and_every_error() {
    let document = std::fs::read_to_string(path()).unwrap();
    for number in (0x4E00..=0x4E12)
        .chain(0x4E1C..=0x4E21)
        .chain(0xCE11..=0xCE14)
        .chain(0xCE00..=0xCE02)
        .chain(0xCE04..=0xCE06)
    {
        let row = format!("| 0x{number:04X} | {} |", attribute_name(AttributeType::new(number)));
        assert!(document.contains(&row), "{row}");
    }
    for code in ntcp_proto::signal::ErrorCode::NAMED {
        assert!(document.contains(&format!("| {} |", code.number())), "{code}");
    }
    for method in ntcp_proto::signal::SignalMethod::ALL {
        let row = format!("| 0x{:03X} | {method} |", method.number());
        assert!(document.contains(&row), "{row}");
    }
}

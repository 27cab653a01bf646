//! Values as they stand in a layer: a file has numbers, strings and arrays, the environment only
//! strings. These readers take both, and nothing else.

use crate::key_file::parse_hex;
use crate::public_address::PublicAddress;
use serde::de::{Deserializer, Error, SeqAccess, Visitor};
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

/// A list of `IP:port`, for serde.
pub(crate) fn socket_addresses<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<SocketAddr>, D::Error> {
    let texts = texts(deserializer, "a list of \"IP:port\"")?;
    texts.iter().map(|text| parse_socket_address(text)).collect()
}

/// One `IP:port` that may be absent, for serde.
pub(crate) fn optional_socket_address<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<SocketAddr>, D::Error> {
    let text = text(deserializer, "one \"IP:port\"")?;
    parse_socket_address(&text).map(Some)
}

/// A list of files, for serde.
pub(crate) fn paths<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<PathBuf>, D::Error> {
    let texts = texts(deserializer, "a list of files")?;
    Ok(texts.into_iter().map(PathBuf::from).collect())
}

/// A list of public keys, for serde.
pub(crate) fn keys<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let texts = texts(deserializer, "a list of public keys")?;
    let wrong = texts.iter().find(|text| parse_hex(text).is_none());
    match wrong {
        None => Ok(texts),
        Some(text) => {
            let fix = "write the 64 hexadecimal digits that ntcp-broker --check shows";
            Err(D::Error::custom(format!("\"{text}\" is not a public key; {fix}")))
        }
    }
}

fn parse_socket_address<E: Error>(text: &str) -> Result<SocketAddr, E> {
    text.trim().parse().map_err(|_| {
        let shape = "write an IP address of this machine and a port";
        let examples = "\"0.0.0.0:3478\" or \"[::]:3478\"";
        E::custom(format!("\"{text}\" is not IP:port; {shape}, for example {examples}"))
    })
}

/// A list of names, for serde.
pub(crate) fn names<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    texts(deserializer, "a list of names")
}

/// A list of `LOCAL=PUBLIC`, for serde.
pub(crate) fn public_addresses<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<PublicAddress>, D::Error> {
    let texts = texts(deserializer, "a list of \"LOCAL=PUBLIC\"")?;
    texts.iter().map(|text| text.parse().map_err(D::Error::custom)).collect()
}

/// Reads an array of strings, or one string with commas. Empty elements do not count.
pub(crate) fn texts<'de, D: Deserializer<'de>>(
    deserializer: D,
    expected: &'static str,
) -> Result<Vec<String>, D::Error> {
    deserializer.deserialize_any(Texts(expected))
}

/// Reads one string, or one number as the string it would be.
pub(crate) fn text<'de, D: Deserializer<'de>>(
    deserializer: D,
    expected: &'static str,
) -> Result<String, D::Error> {
    deserializer.deserialize_any(Text(expected))
}

/// Reads a number up to `MAX`, for serde.
pub(crate) fn number<'de, D: Deserializer<'de>, const MAX: u32>(
    deserializer: D,
) -> Result<u32, D::Error> {
    let text = text(deserializer, "a number")?;
    let number = text.parse().ok().filter(|it| *it <= MAX);
    number.ok_or_else(|| D::Error::custom(format!("not a number from 0 to {MAX}; write one")))
}

struct Texts(&'static str);

impl<'de> Visitor<'de> for Texts {
    type Value = Vec<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(text.split(',').map(str::trim).filter(|t| !t.is_empty()).map(str::to_owned).collect())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Self::Value, A::Error> {
        let mut texts = Vec::new();
        while let Some(Element(text)) = elements.next_element()? {
            texts.push(text);
        }
        Ok(texts)
    }
}

/// A string inside an array; config would otherwise turn numbers and booleans into strings.
struct Element(String);

impl<'de> serde::Deserialize<'de> for Element {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Text("a string")).map(Self)
    }
}

struct Text(&'static str);

impl Visitor<'_> for Text {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<String, E> {
        Ok(text.trim().to_owned())
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<String, E> {
        Ok(number.to_string())
    }
}

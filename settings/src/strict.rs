//! From a tree of values to a typed [`Config`], refusing what it does not know.
//!
//! The names of sections and keys are those of the structs in `section`: serde tells them, so there
//! is no second list to keep.

use crate::error::Error;
use crate::section::{
    Access, Config, HolePunch, Log, Metrics, Node, Registry, Security, Service, Spoof, Stun, Tcp,
};
use config::{ConfigError, Map, Value, ValueKind};
use serde::de::{Deserialize, Deserializer, Visitor, value};
use std::collections::BTreeMap;

/// Sections of the design that do nothing yet.
const NOT_AVAILABLE: [&str; 1] = ["relay"];

/// Every section of the file with its keys, in the order of their documentation.
#[must_use]
pub fn sections() -> [(&'static str, &'static [&'static str]); 11] {
    [
        ("node", fields::<Node>()),
        ("stun", fields::<Stun>()),
        ("hole_punch", fields::<HolePunch>()),
        ("tcp", fields::<Tcp>()),
        ("registry", fields::<Registry>()),
        ("spoof", fields::<Spoof>()),
        ("security", fields::<Security>()),
        ("access", fields::<Access>()),
        ("log", fields::<Log>()),
        ("metrics", fields::<Metrics>()),
        ("service", fields::<Service>()),
    ]
}

/// Reads the merged layers.
pub(crate) fn read(tree: Map<String, Value>) -> Result<Config, Error> {
    let mut tree: BTreeMap<_, _> = tree.into_iter().collect();
    for (name, value) in &tree {
        check_section(name, value)?;
    }
    let mut config = Config::default();
    section(&mut tree, "node", &mut config.node)?;
    section(&mut tree, "stun", &mut config.stun)?;
    section(&mut tree, "hole_punch", &mut config.hole_punch)?;
    section(&mut tree, "tcp", &mut config.tcp)?;
    section(&mut tree, "registry", &mut config.registry)?;
    section(&mut tree, "spoof", &mut config.spoof)?;
    section(&mut tree, "security", &mut config.security)?;
    section(&mut tree, "access", &mut config.access)?;
    section(&mut tree, "log", &mut config.log)?;
    section(&mut tree, "metrics", &mut config.metrics)?;
    section(&mut tree, "service", &mut config.service)?;
    Ok(config)
}

fn check_section(name: &str, value: &Value) -> Result<(), Error> {
    if NOT_AVAILABLE.contains(&name) {
        return Err(Error::NotAvailable { place: place(value), section: name.to_owned() });
    }
    let known = sections().into_iter().find(|(section, _)| *section == name);
    let ValueKind::Table(table) = &value.kind else {
        let fix = match owner(name) {
            Some(owner) => format!("move it below [{owner}]"),
            None => format!("remove it; the sections are {}", joined(&section_names())),
        };
        let (place, section, value) = (place(value), name.to_owned(), shown(value));
        return Err(Error::NotASection { place, section, value, fix });
    };
    let Some((section, keys)) = known else {
        let fix = fix(name, &section_names(), "sections");
        return Err(Error::UnknownSection { place: place(value), section: name.to_owned(), fix });
    };
    let table: BTreeMap<_, _> = table.iter().collect();
    let unknown = table.into_iter().find(|(key, _)| !keys.contains(&key.as_str()));
    let Some((key, value)) = unknown else {
        return Ok(());
    };
    let fix = match owner(key) {
        Some(owner) if nearest(key, keys).is_none() => format!("it belongs to section [{owner}]"),
        _ => fix(key, keys, "keys"),
    };
    let (place, key, value) = (place(value), key.clone(), shown(value));
    Err(Error::UnknownKey { place, section, key, value, fix })
}

/// Deserializes one section; on failure finds the value that was to blame.
fn section<T: for<'de> Deserialize<'de>>(
    tree: &mut BTreeMap<String, Value>,
    name: &'static str,
    target: &mut T,
) -> Result<(), Error> {
    let Some(value) = tree.remove(name) else {
        return Ok(());
    };
    match value.clone().try_deserialize() {
        Ok(read) => *target = read,
        Err(error) => return Err(bad_value(name, value, error)),
    }
    Ok(())
}

fn bad_value(section: &'static str, table: Value, error: ConfigError) -> Error {
    let (key, problem) = key_and_problem(error);
    let key = key.split('[').next().unwrap_or_default().to_owned();
    let value = table.clone().into_table().ok().and_then(|mut table| table.remove(&key));
    let value = value.unwrap_or(table);
    Error::BadValue { place: place(&value), section, key, value: shown(&value), problem }
}

/// The key that `config` blames, and the bare complaint without its decoration.
fn key_and_problem(error: ConfigError) -> (String, String) {
    match error {
        ConfigError::At { error, key, .. } => (key.unwrap_or_default(), key_and_problem(*error).1),
        ConfigError::Type { unexpected, expected, key, .. } => {
            (key.unwrap_or_default(), format!("{unexpected} is not {expected}"))
        }
        ConfigError::Message(problem) => (String::new(), problem),
        other => (String::new(), other.to_string()),
    }
}

/// File or variable that a value came from.
fn place(value: &Value) -> String {
    let first_inside = match &value.kind {
        ValueKind::Table(table) => table.iter().min_by_key(|(key, _)| *key).map(|(_, v)| v),
        _ => None,
    };
    let origin = value.origin().or_else(|| first_inside?.origin());
    origin.unwrap_or("configuration").to_owned()
}

/// A value as it would be written in TOML.
fn shown(value: &Value) -> String {
    match &value.kind {
        ValueKind::String(text) => format!("{text:?}"),
        ValueKind::Array(elements) => {
            format!("[{}]", elements.iter().map(shown).collect::<Vec<_>>().join(", "))
        }
        ValueKind::Table(_) => "{ … }".to_owned(),
        _ => value.to_string(),
    }
}

fn section_names() -> Vec<&'static str> {
    sections().iter().map(|(name, _)| *name).collect()
}

/// The only section that knows this key.
fn owner(key: &str) -> Option<&'static str> {
    let mut owners = sections().into_iter().filter(|(_, keys)| keys.contains(&key));
    let (owner, _) = owners.next()?;
    owners.next().is_none().then_some(owner)
}

fn fix(written: &str, known: &[&str], what: &str) -> String {
    match nearest(written, known) {
        Some(name) => format!("did you mean {name}?"),
        None => format!("the {what} are {}", joined(known)),
    }
}

fn joined(names: &[&str]) -> String {
    names.join(", ")
}

/// The known name that differs least, if no more than half of it differs.
fn nearest<'a>(written: &str, known: &[&'a str]) -> Option<&'a str> {
    let plain = |text: &str| text.to_ascii_lowercase().replace(['_', '-'], "");
    let written = plain(written);
    let distances = known.iter().map(|name| (edit_distance(&written, &plain(name)), *name));
    let (distance, name) = distances.min()?;
    (distance * 2 <= name.len()).then_some(name)
}

/// How many characters must be inserted, removed or replaced (Levenshtein).
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

/// The field names of a struct, as serde announces them.
fn fields<'de, T: Deserialize<'de>>() -> &'static [&'static str] {
    let mut names: &'static [&'static str] = &[];
    // The probe always "fails": it only wants to hear the question.
    let _ = T::deserialize(FieldNames(&mut names));
    names
}

struct FieldNames<'a>(&'a mut &'static [&'static str]);

impl<'de> Deserializer<'de> for FieldNames<'_> {
    type Error = value::Error;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, value::Error> {
        *self.0 = fields;
        self.deserialize_any(visitor)
    }

    fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, value::Error> {
        Err(serde::de::Error::custom("only the field names were wanted"))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
        unit unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sections_are_those_of_the_struct() {
        assert_eq!(section_names(), fields::<Config>());
        assert_eq!(fields::<Node>(), ["name", "deadline", "keepalive"]);
    }

    #[test]
    fn edit_distance_counts_insertions_removals_and_replacements() {
        for (a, b, distance) in
            [("", "", 0), ("", "abc", 3), ("abc", "", 3), ("flaw", "lawn", 2), ("stun", "sutn", 2)]
        {
            assert_eq!(edit_distance(a, b), distance, "{a} {b}");
        }
    }

    #[test]
    fn a_near_miss_has_a_suggestion_and_a_far_one_has_none() {
        let known = section_names();
        assert_eq!(nearest("holePunch", &known), Some("hole_punch"));
        assert_eq!(nearest("nodes", &known), Some("node"));
        assert_eq!(nearest("database", &known), None);
        assert_eq!(nearest("x", &known), None);
    }
}

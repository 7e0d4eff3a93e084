//! Strict reading of what people write. An unknown field, a wrong type or a value out of range is
//! an [`Invalid`] that names the field and the remedy.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use schemars::{JsonSchema, Schema, SchemaGenerator, generate::SchemaSettings};
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, DeserializeOwned, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::error::Category;
use serde_path_to_error::{Path, Segment};

use crate::values::names::{self, quoted};

/// Why a document is refused: the field, and a reason that ends with the remedy.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct Invalid {
    /// Path of the field, such as `domains[1]`; `document` for the whole document.
    pub field: String,
    /// What is wrong, and the remedy.
    pub reason: String,
}

impl Invalid {
    pub(crate) fn at(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            reason: reason.into(),
        }
    }

    /// Refuses a feature that is planned but not built.
    pub(crate) fn not_yet(field: impl Into<String>, what: &str, remedy: &str) -> Self {
        Self::at(field, format!("{what} is not yet supported: {remedy}"))
    }
}

pub(crate) fn schema_generator() -> SchemaGenerator {
    SchemaSettings::draft2020_12().into_generator()
}

/// Parses a document. Every error names the field and the remedy.
pub(crate) fn read<T: DeserializeOwned>(json: &[u8]) -> Result<T, Invalid> {
    if json.starts_with(b"\xef\xbb\xbf") {
        return Err(Invalid::at(
            WHOLE,
            "begins with a byte order mark, which is not JSON: save it as UTF-8 without one",
        ));
    }
    // First checks that it is JSON at all: serde_json reports some wrong types as wrong syntax.
    serde_json::from_slice::<serde_json::Value>(json).map_err(|error| {
        Invalid::at(
            WHOLE,
            format!(
                "is not valid JSON, {} at {}: correct it there",
                bare_message(&error),
                position(&error)
            ),
        )
    })?;
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    serde_path_to_error::deserialize(&mut deserializer)
        .map(|Object(document)| document)
        .map_err(|error| explain(error.path(), error.inner()))
}

/// Reads an object with free keys. Refuses a key that appears twice: otherwise its first value
/// would be lost without a word.
pub(crate) fn unique_keys<'de, D, T>(deserializer: D) -> Result<BTreeMap<String, T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    struct UniqueKeys<T>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>> Visitor<'de> for UniqueKeys<T> {
        type Value = BTreeMap<String, T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut entries = BTreeMap::new();
            while let Some((key, value)) = map.next_entry::<String, T>()? {
                if entries.contains_key(&key) {
                    return Err(de::Error::custom(format!("duplicate field `{key}`")));
                }
                entries.insert(key, value);
            }
            Ok(entries)
        }
    }

    deserializer.deserialize_map(UniqueKeys(PhantomData))
}

/// Requires an object: serde would also accept a list of the fields' values.
#[derive(Default, Serialize)]
#[serde(transparent)]
pub(crate) struct Object<T>(pub(crate) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ObjectVisitor<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Object)
            }
        }

        deserializer.deserialize_map(ObjectVisitor(PhantomData))
    }
}

impl<T: JsonSchema> JsonSchema for Object<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn schema_id() -> Cow<'static, str> {
        T::schema_id()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

/// Returns a key in a form that fits into a field's path.
pub(crate) fn path_key(key: &str) -> String {
    let plain = !key.is_empty()
        && key.len() <= names::MAX_QUOTED
        && key
            .chars()
            .all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '$' | ':'));
    match plain {
        true => key.to_owned(),
        false => quoted(key),
    }
}

pub(crate) fn check_range(field: &str, value: u64, least: u64, most: u64) -> Result<(), Invalid> {
    match (least..=most).contains(&value) {
        true => Ok(()),
        false => Err(Invalid::at(
            field,
            format!("is {value}: give a whole number from {least} to {most}"),
        )),
    }
}

/// Turns serde's error into one for an operator. It does not repeat values: a value in the wrong
/// place may be a secret.
fn explain(path: &Path, error: &serde_json::Error) -> Invalid {
    let field = field_path(path);
    let message = bare_message(error);
    let at = position(error);
    let inside = |name: &str| match field.as_str() {
        WHOLE => path_key(name),
        parent => format!("{parent}.{}", path_key(name)),
    };

    if let Some(rest) = message.strip_prefix("unknown field `") {
        let known = rest.rsplit_once("`, expected ").map(|(_, known)| known);
        let known = known.map_or_else(String::new, without_grammar);
        return Invalid::at(
            field,
            format!(
                "is not a known field ({at}): remove it or correct its name; known here: {known}"
            ),
        );
    }
    if let Some(rest) = message.strip_prefix("unknown variant `")
        && let Some((variant, known)) = rest.rsplit_once("`, expected ")
    {
        return Invalid::at(
            field,
            format!(
                "{} is not known here ({at}): use one of {}",
                quoted(variant),
                without_grammar(known)
            ),
        );
    }
    if let Some(name) = between_backticks(&message, "missing field ") {
        return Invalid::at(
            inside(name),
            format!("is missing ({at}): it is required, add it"),
        );
    }
    if let Some(name) = between_backticks(&message, "duplicate field ") {
        return Invalid::at(
            inside(name),
            format!("is given twice ({at}): remove one of the two"),
        );
    }
    if message.starts_with("invalid type: ") || message.starts_with("invalid value: ") {
        let wanted = message
            .rsplit_once(", expected ")
            .map_or("another type", |(_, wanted)| wanted);
        return Invalid::at(
            field,
            format!("has the wrong type ({at}): give {}", operator_word(wanted)),
        );
    }
    if error.classify() == Category::Syntax {
        return Invalid::at(
            field,
            format!("has the wrong type ({at}): give a text in quotes"),
        );
    }
    Invalid::at(field, format!("{message} ({at}): correct it"))
}

/// Returns serde's list of names without its grammar.
fn without_grammar(known: &str) -> String {
    known
        .trim_start_matches("one of ")
        .replace(" or ", ", ")
        .replace('`', "")
}

fn between_backticks<'m>(message: &'m str, prefix: &str) -> Option<&'m str> {
    message
        .strip_prefix(prefix)?
        .strip_prefix('`')?
        .strip_suffix('`')
}

/// Returns an operator's word for a type that serde names.
fn operator_word(wanted: &str) -> &str {
    match wanted {
        "u64" => "a whole number, not negative",
        "f64" => "a number",
        "a string" => "a text in quotes",
        "a boolean" => "true or false",
        "a sequence" => "a list",
        "a map" => "an object",
        other => other,
    }
}

fn field_path(path: &Path) -> String {
    let mut field = String::new();
    for segment in path.iter() {
        match segment {
            Segment::Seq { index } => field.push_str(&format!("[{index}]")),
            Segment::Map { key } => {
                if !field.is_empty() {
                    field.push('.');
                }
                field.push_str(&path_key(key));
            }
            Segment::Enum { .. } | Segment::Unknown => {}
        }
    }
    match field.is_empty() {
        true => WHOLE.to_owned(),
        false => field,
    }
}

/// Returns serde_json's message without its "at line .. column ..".
fn bare_message(error: &serde_json::Error) -> String {
    let message = error.to_string();
    let suffix = format!(" at line {} column {}", error.line(), error.column());
    message.strip_suffix(&suffix).unwrap_or(&message).to_owned()
}

fn position(error: &serde_json::Error) -> String {
    format!("line {}, column {}", error.line(), error.column())
}

/// The `field` of an [`Invalid`] that concerns the whole document.
pub(crate) const WHOLE: &str = "document";

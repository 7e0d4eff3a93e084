//! The tables of members in `README.md`, made from the JSON Schemas in `schemas`. `UPDATE_DOCS=1`
//! writes them.

#![allow(
    clippy::expect_used,
    reason = "a test ends where something is not as it should be"
)]

use std::fs;
use std::path::Path;

use serde_json::{Map, Value};

#[test]
fn the_documented_members_are_those_of_the_schemas() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let path = folder.join("README.md");
    let committed = fs::read_to_string(&path).expect("README.md");
    let mut page = committed.clone();
    for document in ["settings", "certificate"] {
        let file = folder.join(format!("schemas/{document}.schema.json"));
        let schema = fs::read_to_string(file).expect("a schema");
        let schema: Value = serde_json::from_str(&schema).expect("JSON");
        page = with_part(&page, document, &Tables::of(&schema));
    }
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, page).expect("README.md can be written");
        return;
    }
    assert!(
        committed == page,
        "functions/certificates/README.md is not what the schemas say: \
         UPDATE_DOCS=1 cargo test --release --workspace documented"
    );
}

/// Replaces the text between the two marks of a part.
fn with_part(page: &str, name: &str, part: &str) -> String {
    let begin = format!("<!-- {name}: begin -->\n");
    let end = format!("<!-- {name}: end -->");
    let (before, rest) = page.split_once(&begin).expect("where the part begins");
    let (_, after) = rest.split_once(&end).expect("where the part ends");
    format!("{before}{begin}{part}{end}{after}")
}

/// A table for the document, and one for each kind of object in it.
struct Tables<'s> {
    schema: &'s Value,
    /// The kinds of objects, in the order of their first appearance, with their places.
    kinds: Vec<(String, Vec<String>)>,
}

impl<'s> Tables<'s> {
    fn of(schema: &'s Value) -> String {
        let mut tables = Self {
            schema,
            kinds: Vec::new(),
        };
        let mut text = tables.table(schema, "");
        let mut next = 0;
        while let Some((kind, places)) = tables.kinds.get(next).cloned() {
            let definition = &schema["$defs"][&kind];
            let first = places.first().expect("a place").clone();
            let table = tables.table(definition, &format!("{first}."));
            // Members of earlier kinds may have added places. When a kind has its turn, all its
            // places are known.
            let places: Vec<String> = places.iter().map(|place| format!("`{place}`")).collect();
            text += &format!("\n{}:\n\n{table}", places.join(", "));
            next += 1;
        }
        text
    }

    /// Writes the members of an object, whose names begin with a prefix elsewhere.
    fn table(&mut self, object: &Value, prefix: &str) -> String {
        let required = object["required"].as_array().cloned().unwrap_or_default();
        let mut text = String::from("| member | value | default | meaning |\n|---|---|---|---|\n");
        for (name, member) in properties(object) {
            let value = self.value(member, &format!("{prefix}{name}"));
            let default = match &member["default"] {
                _ if required.contains(&name.as_str().into()) => "required".to_owned(),
                Value::Null | Value::Object(_) => String::new(),
                default => format!("`{default}`"),
            };
            let meaning = member["description"].as_str().unwrap_or_default();
            let meaning = meaning.replace('\n', " ").replace('|', "\\|");
            text += &format!("| `{name}` | {value} | {default} | {meaning} |\n");
        }
        text
    }

    /// Says what a member may hold, and notes the kinds of objects in it.
    fn value(&mut self, member: &Value, place: &str) -> String {
        if let Some(kind) = member["$ref"].as_str() {
            return self.kind(kind.trim_start_matches("#/$defs/"), place);
        }
        if let Some(choices) = member["anyOf"].as_array() {
            let mut said: Vec<String> = Vec::new();
            for choice in choices.iter().filter(|choice| choice["type"] != "null") {
                said.push(self.value(choice, place));
            }
            return said.join(", or ");
        }
        if let Some(words) = member["enum"].as_array() {
            return listed(words.iter());
        }
        let types = match &member["type"] {
            Value::Array(types) => types.first().and_then(Value::as_str).unwrap_or_default(),
            one => one.as_str().unwrap_or_default(),
        };
        match types {
            "array" => format!(
                "list: {}",
                self.value(&member["items"], &format!("{place}[]"))
            ),
            "object" => match &member["additionalProperties"] {
                Value::Object(each) => {
                    let each = self.value(&each.clone().into(), &format!("{place}.*"));
                    format!("object, by key: {each}")
                }
                _ => "object".to_owned(),
            },
            "boolean" => match &member["const"] {
                Value::Null => "`true`, `false`".to_owned(),
                only => format!("`{only}`"),
            },
            "integer" | "number" => match (&member["minimum"], &member["maximum"]) {
                (Value::Null, _) | (_, Value::Null) => "number".to_owned(),
                (least, most) => format!("{least} to {most}"),
            },
            word => word.to_owned(),
        }
    }

    /// Says what a definition is: its words, or an object with a table of its own.
    fn kind(&mut self, kind: &str, place: &str) -> String {
        let definition = &self.schema["$defs"][kind];
        if let Some(words) = definition["oneOf"].as_array()
            && words.iter().all(|word| !word["const"].is_null())
        {
            return listed(words.iter().map(|word| &word["const"]));
        }
        if properties(definition).next().is_none() {
            return self.value(definition, place);
        }
        let known = self.kinds.iter().position(|(name, _)| name == kind);
        match known.and_then(|index| self.kinds.get_mut(index)) {
            Some((_, places)) => places.push(place.to_owned()),
            None => self.kinds.push((kind.to_owned(), vec![place.to_owned()])),
        }
        "object".to_owned()
    }
}

/// The members of an object, except the one for editors.
fn properties(object: &Value) -> impl Iterator<Item = (&String, &Value)> {
    let members = object["properties"].as_object().into_iter();
    members
        .flat_map(Map::iter)
        .filter(|(name, _)| *name != "$schema")
}

fn listed<'v>(words: impl Iterator<Item = &'v Value>) -> String {
    let words: Vec<String> = words.map(|word| format!("`{word}`")).collect();
    words.join(", ")
}

//! Documents as people type them: from flags, files and `--set`.

use std::fs;
use std::io::{self, Read};

use serde_json::{Map, Value, json};

use crate::cli::Document;
use crate::cli_error::CliError;
use crate::terminal::{ask, can_ask};

/// Returns the document that the flags or the file give.
pub(crate) fn given(name: &str, flags: &Document) -> Result<Value, CliError> {
    let Some(file) = &flags.file else {
        return composed(name, flags);
    };
    let shown = file.display();
    let text = match file.as_os_str() == "-" {
        true => {
            let mut text = String::new();
            io::stdin().read_to_string(&mut text).map(|_| text)
        }
        false => fs::read_to_string(file),
    };
    let text = text.map_err(|error| CliError::misused(format!("{shown}: {error}")))?;
    serde_json::from_str(&text).map_err(|error| CliError::misused(format!("{shown}: {error}")))
}

/// Returns the flags with what is missing asked for, where somebody is there.
pub(crate) fn completed(flags: &Document) -> Result<Document, CliError> {
    let mut flags = flags.clone();
    if flags.file.is_some() || !can_ask() {
        return Ok(flags);
    }
    if flags.domains.is_empty() {
        flags.domains = ask_for("Which names? (separated by blanks)")?;
    }
    if flags.listeners.is_empty() && flags.certificate_manager.is_empty() {
        flags.listeners = ask_for("ARN of the HTTPS listener that will serve it?")?;
    }
    Ok(flags)
}

fn ask_for(question: &str) -> Result<Vec<String>, CliError> {
    let answer = ask(question)?.unwrap_or_default();
    let words = answer
        .split([' ', ',', '\t'])
        .filter(|word| !word.is_empty());
    Ok(words.map(str::to_owned).collect())
}

/// Puts the flags together as a document.
fn composed(name: &str, flags: &Document) -> Result<Value, CliError> {
    let missing = |what: &str, flag: &str| {
        CliError::misused(format!("certificates/{name}.json: {what}")).try_next(flag)
    };
    if flags.domains.is_empty() {
        return Err(missing("which names?", "--domain DOMAIN, once for each"));
    }
    if flags.listeners.is_empty() && flags.certificate_manager.is_empty() {
        return Err(missing(
            "which targets?",
            "--listener ARN, --certificate-manager [REGION], or a whole document by --file",
        ));
    }
    let mut document = Map::new();
    document.insert("domains".to_owned(), json!(flags.domains));
    let listener = |arn: &String| match flags.default {
        true => json!({"type": "listener", "arn": arn, "as": "default"}),
        false => json!({"type": "listener", "arn": arn}),
    };
    let manager = |region: &String| match region.is_empty() {
        true => json!({"type": "certificateManager"}),
        false => json!({"type": "certificateManager", "region": region}),
    };
    let targets = flags.listeners.iter().map(listener);
    let targets = targets.chain(flags.certificate_manager.iter().map(manager));
    document.insert("targets".to_owned(), targets.collect());
    let mut set = |field: &str, value: Value| document.insert(field.to_owned(), value);
    match flags.authorities.as_slice() {
        [] => {}
        [one] => drop(set("authority", json!(one))),
        many => drop(set("authority", json!(many))),
    }
    if let Some(profile) = &flags.acme_profile {
        set("profile", json!(profile));
    }
    if let Some(key_type) = &flags.key_type {
        set("keyType", json!(key_type));
    }
    if flags.partial {
        set("partial", json!(true));
    }
    if !flags.supersedes.is_empty() {
        set("supersedes", json!(flags.supersedes));
    }
    if !flags.tags.is_empty() {
        set("tags", tags(&flags.tags)?);
    }
    Ok(Value::Object(document))
}

fn tags(all: &[String]) -> Result<Value, CliError> {
    let mut tags = Map::new();
    for tag in all {
        let (key, value) = tag.split_once('=').ok_or_else(|| {
            CliError::misused(format!("--tag {tag}: has no =")).try_next("--tag KEY=VALUE")
        })?;
        if tags.insert(key.to_owned(), json!(value)).is_some() {
            return Err(CliError::misused(format!(
                "--tag {tag}: the key is there twice"
            )));
        }
    }
    Ok(Value::Object(tags))
}

/// Returns the document with these fields set, each `field=json`; `null` takes a field out. What is
/// no JSON is a text.
pub(crate) fn changed(document: &Value, set: &[String]) -> Result<Value, CliError> {
    let mut document = document.clone();
    let fields = document.as_object_mut();
    let fields = fields.ok_or_else(|| CliError::failed("the document is no JSON object"))?;
    for one in set {
        let (field, text) = one.split_once('=').ok_or_else(|| {
            CliError::misused(format!("--set {one}: has no =")).try_next("--set FIELD=JSON")
        })?;
        match serde_json::from_str(text).unwrap_or_else(|_| json!(text)) {
            Value::Null => drop(fields.shift_remove(field)),
            value => drop(fields.insert(field.to_owned(), value)),
        }
    }
    Ok(document)
}

/// Returns a document as it is written into the bucket.
pub(crate) fn written(document: &Value) -> String {
    format!("{document:#}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(all: &[&str]) -> Vec<String> {
        all.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn the_flags_become_a_document() {
        let flags = Document {
            domains: texts(&["a.example.com", "b.example.com"]),
            listeners: texts(&["arn:l"]),
            default: true,
            certificate_manager: texts(&["", "us-east-1"]),
            authorities: texts(&["one", "two"]),
            acme_profile: Some("shortlived".to_owned()),
            key_type: Some("rsa-2048".to_owned()),
            partial: true,
            supersedes: texts(&["arn:s"]),
            tags: texts(&["team=web=site"]),
            file: None,
        };
        let document = composed("shop", &flags).unwrap();
        assert_eq!(
            document,
            json!({
                "domains": ["a.example.com", "b.example.com"],
                "targets": [
                    {"type": "listener", "arn": "arn:l", "as": "default"},
                    {"type": "certificateManager"},
                    {"type": "certificateManager", "region": "us-east-1"},
                ],
                "authority": ["one", "two"],
                "profile": "shortlived",
                "keyType": "rsa-2048",
                "partial": true,
                "supersedes": ["arn:s"],
                "tags": {"team": "web=site"},
            })
        );
    }

    #[test]
    fn what_is_missing_is_named_with_its_flag() {
        let mut flags = Document::default();
        assert!(
            composed("shop", &flags)
                .unwrap_err()
                .to_string()
                .contains("--domain")
        );
        flags.domains = texts(&["a.example.com"]);
        assert!(
            composed("shop", &flags)
                .unwrap_err()
                .to_string()
                .contains("--listener")
        );
        flags.listeners = texts(&["arn:l"]);
        assert!(composed("shop", &flags).is_ok());
        flags.tags = texts(&["a"]);
        assert!(
            composed("shop", &flags)
                .unwrap_err()
                .to_string()
                .contains("KEY=VALUE")
        );
    }

    #[test]
    fn fields_are_set_and_taken_out_where_they_stand() {
        let document = json!({"domains": ["a"], "paused": true, "targets": []});
        let set = texts(&[
            "paused=null",
            "keyType=\"rsa-2048\"",
            "profile=shortlived",
            "domains=[\"b\"]",
        ]);
        assert_eq!(
            changed(&document, &set).unwrap().to_string(),
            r#"{"domains":["b"],"targets":[],"keyType":"rsa-2048","profile":"shortlived"}"#
        );
        assert!(changed(&document, &texts(&["paused"])).is_err());
        assert!(changed(&json!([]), &texts(&["a=1"])).is_err());
    }
}

//! Writing documents: shown and checked against the settings before they leave the machine, and
//! never over somebody else's change.

use std::env;
use std::fs;
use std::io::Write;
use std::process::Command;

use certificates::adapters::aws::Bucket;
use certificates::contract::certificate::Wanted;
use certificates::contract::settings::Settings;
use certificates::life::read_settings;
use certificates::ports::store::{
    Condition, Store, StoreError, StoredObject, certificate_key, read_record, state_key,
};
use certificates::records::state::State;
use certificates::values::names::CertificateName;
use serde_json::{Value, json};
use similar::TextDiff;

use crate::cli;
use crate::cli_error::{CliError, Ends};
use crate::document::{changed, completed, given, written};
use crate::follow::Following;
use crate::installation::Installation;
use crate::losses::{GoneBack, ends_rollbacks, of_edit};
use crate::status::inventory;
use crate::terminal::{Ink, Screen, Spinner, can_ask, confirm, say, tell};
use crate::words::{clean, parsed};

/// Asks for a certificate.
pub(crate) async fn add(
    here: &Installation,
    asked: &cli::Add,
    screen: Screen,
    as_json: bool,
) -> Result<Ends, CliError> {
    let document = OpenDocument::open(here, &asked.name, screen, as_json).await?;
    let text = document.new_text(asked)?;
    let change = Change {
        after: text,
        draft: None,
        yes: asked.yes,
        wait: asked.wait,
    };
    document.put(here, change).await
}

/// Changes a document, by fields or in an editor.
pub(crate) async fn edit(
    here: &Installation,
    asked: &cli::Edit,
    screen: Screen,
    as_json: bool,
) -> Result<Ends, CliError> {
    let document = OpenDocument::open(here, &asked.name, screen, as_json).await?;
    let (after, draft) = match asked.set.as_slice() {
        [] => document.typed_text()?,
        set => (document.text_with(set)?, None),
    };
    let change = Change {
        after,
        draft,
        yes: asked.yes,
        wait: asked.wait,
    };
    document.put(here, change).await
}

/// Pauses the orders for a certificate, or resumes them.
pub(crate) async fn pause(
    here: &Installation,
    asked: &cli::Pause,
    paused: bool,
    screen: Screen,
    as_json: bool,
) -> Result<Ends, CliError> {
    let document = OpenDocument::open(here, &asked.name, screen, as_json).await?;
    let set = if paused { "paused=true" } else { "paused=null" };
    let change = Change {
        after: document.text_with(&[set.to_owned()])?,
        draft: None,
        yes: asked.yes,
        wait: false,
    };
    document.put(here, change).await
}

/// A change of a document.
struct Change {
    after: String,
    /// Where it was typed.
    draft: Option<Draft>,
    yes: bool,
    wait: bool,
}

/// One document in the bucket.
struct OpenDocument {
    bucket: Bucket,
    bucket_name: String,
    settings: Settings,
    name: CertificateName,
    key: String,
    there: Option<StoredObject>,
    screen: Screen,
    as_json: bool,
}

impl OpenDocument {
    /// Reads what is there.
    async fn open(
        here: &Installation,
        name: &str,
        screen: Screen,
        as_json: bool,
    ) -> Result<Self, CliError> {
        let name = parsed(name)?;
        let (bucket, bucket_name) = (here.bucket().await?, here.config().bucket()?);
        let settings = read_settings(&bucket).await;
        let settings = settings.map_err(|problem| CliError::of_problem(&problem, &bucket_name))?;
        let key = certificate_key(&name);
        let there = bucket.read(&key).await;
        let there = there.map_err(|error| CliError::of_store(&error, &bucket_name))?;
        Ok(Self {
            bucket,
            bucket_name,
            settings,
            name,
            key,
            there,
            screen,
            as_json,
        })
    }

    /// Returns the document that is asked for, whether it is there already or not.
    fn new_text(&self, asked: &cli::Add) -> Result<String, CliError> {
        let document = match &self.there {
            // Nobody is asked for what could not be used.
            Some(_) => given(&asked.name, &asked.document)?,
            None => given(&asked.name, &completed(&asked.document)?)?,
        };
        let text = written(&document);
        match &self.there {
            Some(there) if !is_same(&text_of(there), &text) => Err(CliError::failed(format!(
                "{} exists already, and is different",
                self.key
            ))
            .try_next(format!("certloop edit {}", self.name))),
            _ => Ok(text),
        }
    }

    /// Returns the document that is there with these fields set.
    fn text_with(&self, set: &[String]) -> Result<String, CliError> {
        let before = serde_json::from_slice(&self.there()?.body).map_err(|error| {
            CliError::failed(format!("{} is no JSON: {error}", self.key))
                .try_next(format!("certloop edit {}", self.name))
        })?;
        Ok(written(&changed(&before, set)?))
    }

    /// Returns the document that is there as somebody changes it in an editor.
    fn typed_text(&self) -> Result<(String, Option<Draft>), CliError> {
        let editor = editor()?;
        let draft = Draft::new(&self.name, &text_of(self.there()?))?;
        let (draft, text) = draft.typed(&editor, |text| self.check(text))?;
        Ok((text, Some(draft)))
    }

    /// Shows the change, checks and writes it, and follows what comes of it where that is wanted.
    async fn put(self, here: &Installation, change: Change) -> Result<Ends, CliError> {
        let Change {
            after,
            draft,
            yes,
            wait,
        } = change;
        self.check(&after)?;
        // Nothing is written that could not be followed.
        let function = match wait {
            true => Some(here.function().await?),
            false => None,
        };
        let before = self.there.as_ref().map(text_of);
        let changes = before
            .as_ref()
            .is_none_or(|before| !is_same(before, &after));
        if changes {
            self.show(here, before.as_deref(), &after).await?;
            let put = async {
                if !yes {
                    confirm("Write it?", "--yes")?;
                }
                self.write(after).await
            };
            // What was typed is kept until it is written.
            put.await.map_err(|cli_error| match draft {
                Some(draft) => draft.kept(cli_error),
                None => cli_error,
            })?;
        }
        let name = &self.name;
        match (function, changes) {
            (Some(function), _) => {
                Following::of(&function, name.as_str(), self.screen, self.as_json)
                    .follow()
                    .await
            }
            (None, _) if self.as_json => {
                say(&format!(
                    "{:#}\n",
                    json!({"name": name.as_str(), "written": changes})
                ))?;
                Ok(Ends::Well)
            }
            (None, true) => {
                let bucket = &self.bucket_name;
                say(&format!("{} is now in the bucket {bucket}\n", self.key))?;
                say(&format!("  what follows: certloop status {name}\n"))?;
                Ok(Ends::Well)
            }
            (None, false) => {
                say(&format!(
                    "{} already says so: nothing was written\n",
                    self.key
                ))?;
                Ok(Ends::Well)
            }
        }
    }

    /// Shows a change before it is written, with what visitors lose by it.
    async fn show(
        &self,
        here: &Installation,
        before: Option<&str>,
        after: &str,
    ) -> Result<(), CliError> {
        if !self.as_json {
            say(&self.shown(before, after))?;
        }
        for loss in self.losses(here, after).await {
            let ink = self.screen.ink(Ink::Warning, "note:");
            match self.as_json {
                true => tell(&format!("note: {loss}")),
                false => say(&format!("{ink} {}\n", clean(&loss)))?,
            }
        }
        Ok(())
    }

    fn shown(&self, before: Option<&str>, after: &str) -> String {
        match before {
            Some(before) => self.difference(before, after),
            None => format!(
                "{}\n{}",
                self.screen.ink(Ink::Strong, &self.key),
                clean(after)
            ),
        }
    }

    /// Says what visitors lose by a change of what is there, and whether it ends a rollback.
    async fn losses(&self, here: &Installation, after: &str) -> Vec<String> {
        let parsed = |text: &[u8]| Wanted::parse(&self.name, text, &self.settings, None).ok();
        let before = self.there.as_ref();
        let before = before.and_then(|there| Some((there, parsed(&there.body)?)));
        // One that is new, or that nobody could use, takes nothing from anybody.
        let Some(((there, before), after)) = before.zip(parsed(after.as_bytes())) else {
            return Vec::new();
        };
        let rollback = match ends_rollbacks(&before, &after) {
            true => self.rollback(here, &there.etag, &before).await,
            false => GoneBack::None,
        };
        of_edit(&before, &after, rollback)
    }

    /// Asks the function whether a rollback is in force, or reads it in the state where there is
    /// none to ask.
    async fn rollback(&self, here: &Installation, etag: &str, before: &Wanted) -> GoneBack {
        let _spinner = Spinner::start("asking whether a rollback is in force");
        let told = async {
            let names = [self.name.to_string()];
            inventory(&here.function().await?, &names).await
        };
        let in_force = match told.await {
            Ok(told) => told
                .certificates
                .first()
                .map(|one| one.rolled_back.is_some()),
            Err(_) => match read_record::<State>(&self.bucket, &state_key(&self.name)).await {
                Ok(state) => Some(state.is_some_and(|(mut state, _)| {
                    state.note_document(etag, Some(before));
                    state.held_back().is_some()
                })),
                Err(_) => None,
            },
        };
        match in_force {
            Some(true) => GoneBack::InForce,
            Some(false) => GoneBack::None,
            None => GoneBack::Unknown,
        }
    }

    fn there(&self) -> Result<&StoredObject, CliError> {
        self.there.as_ref().ok_or_else(|| {
            CliError::failed(format!(
                "{} is not in bucket {}",
                self.key, self.bucket_name
            ))
            .try_next("certloop status, for the names that are")
            .try_next(format!("certloop add {}", self.name))
        })
    }

    fn check(&self, text: &str) -> Result<(), CliError> {
        let checked = Wanted::parse(&self.name, text.as_bytes(), &self.settings, None);
        checked.map(drop).map_err(|invalid| {
            CliError::failed(format!("{}: {invalid}", self.key))
                .try_next("certloop schema certificate, for all that a document can say")
        })
    }

    async fn write(&self, text: String) -> Result<(), CliError> {
        let body = text.into_bytes();
        let condition = match &self.there {
            None => Condition::Absent,
            Some(there) => Condition::Matches(&there.etag),
        };
        match self.bucket.write(&self.key, body.clone(), condition).await {
            Ok(_) => Ok(()),
            // An answer that was lost is repeated, and then meets its own work.
            Err(StoreError::ConditionFailed { .. }) if self.reads(&body).await => Ok(()),
            Err(error) => Err(self.cli_error(&error)),
        }
    }

    async fn reads(&self, body: &[u8]) -> bool {
        let read = self.bucket.read(&self.key).await;
        matches!(read, Ok(Some(object)) if object.body == body)
    }

    fn cli_error(&self, error: &StoreError) -> CliError {
        let cli_error = CliError::of_store(error, &self.bucket_name);
        match error {
            StoreError::ConditionFailed { .. } => {
                cli_error.try_next(format!("certloop edit {}", self.name))
            }
            StoreError::Unavailable { person: true, .. } => cli_error.try_next(format!(
                "certloop issue {}, which writes through the function and needs no right to the \
                 bucket",
                self.name
            )),
            _ => cli_error,
        }
    }

    fn difference(&self, before: &str, after: &str) -> String {
        let difference = TextDiff::from_lines(before, after);
        let mut difference = difference.unified_diff();
        let text = clean(&difference.header(&self.key, "new").to_string());
        let lines = text.lines().map(|line| match line.bytes().next() {
            Some(b'+') => self.screen.ink(Ink::Good, line),
            Some(b'-') => self.screen.ink(Ink::Bad, line),
            Some(b'@') => self.screen.ink(Ink::Faint, line),
            _ => line.to_owned(),
        });
        lines.map(|line| line + "\n").collect()
    }
}

fn text_of(object: &StoredObject) -> String {
    String::from_utf8_lossy(&object.body).into_owned()
}

fn is_same(before: &str, after: &str) -> bool {
    let read = |text| serde_json::from_str::<Value>(text).ok();
    before == after || (read(before).is_some() && read(before) == read(after))
}

/// Returns the editor that is named, or the usual one where somebody can type.
fn editor() -> Result<String, CliError> {
    let named = ["VISUAL", "EDITOR"]
        .into_iter()
        .find_map(|name| env::var(name).ok().filter(|value| !value.trim().is_empty()));
    match named {
        Some(editor) => Ok(editor),
        None if can_ask() => Ok("vi".to_owned()),
        None => Err(
            CliError::misused("no editor is named, and this is no terminal")
                .try_next("--set FIELD=JSON, or EDITOR"),
        ),
    }
}

/// What somebody types in an editor: it stays until it is written, even if something goes wrong.
struct Draft {
    file: tempfile::NamedTempFile,
}

impl Draft {
    fn new(name: &CertificateName, text: &str) -> Result<Self, CliError> {
        let made = tempfile::Builder::new()
            .prefix(&format!("{name}-"))
            .suffix(".json")
            .tempfile();
        let written = made.and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            file.flush()?;
            Ok(file)
        });
        let file =
            written.map_err(|error| CliError::failed(format!("a temporary file: {error}")))?;
        Ok(Self { file })
    }

    /// Opens the editor, again and again until what is typed passes.
    fn typed(
        self,
        editor: &str,
        check: impl Fn(&str) -> Result<(), CliError>,
    ) -> Result<(Self, String), CliError> {
        loop {
            // By its path: most editors write another file in its place.
            let typed = self.open(editor).and_then(|()| {
                let path = self.file.path();
                fs::read_to_string(path)
                    .map_err(|error| CliError::failed(format!("{}: {error}", path.display())))
            });
            let cli_error = match typed {
                Ok(text) => match check(&text) {
                    Ok(()) => return Ok((self, text)),
                    Err(cli_error) => cli_error,
                },
                Err(cli_error) => return Err(self.kept(cli_error)),
            };
            if !can_ask() {
                return Err(self.kept(cli_error));
            }
            tell(&cli_error.to_string());
            if let Err(cli_error) = confirm("Edit it again?", "--set") {
                return Err(self.kept(cli_error));
            }
        }
    }

    fn open(&self, editor: &str) -> Result<(), CliError> {
        // As git does it: the variable may hold arguments.
        let ran = Command::new("sh")
            .args(["-c", &format!("{editor} \"$@\""), editor])
            .arg(self.file.path())
            .status();
        match ran {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(CliError::failed(format!("the editor {editor}: {status}"))
                .try_next("another one in EDITOR, or --set FIELD=JSON")),
            Err(error) => Err(CliError::failed(format!("the editor {editor}: {error}"))),
        }
    }

    /// Leaves what was typed where it can be found again.
    fn kept(self, cli_error: CliError) -> CliError {
        match self.file.into_temp_path().keep() {
            Ok(path) => cli_error.try_next(format!("what you typed is kept in {}", path.display())),
            Err(_) => cli_error,
        }
    }
}

//! The corpus of `tests/accents`: what an authority answers in a way of its own. Each file becomes
//! a fault of the wire to the authority.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde_json::{Map, Value};
use x509_parser::extensions::GeneralName;

use crate::http::Response;
use crate::proxy::{Fault, Sent, Service};
use crate::tls::{self, PrivateAuthority};

/// One file of the corpus.
#[derive(Clone, Debug)]
pub struct Accent {
    /// The file's name without its extension.
    pub name: String,
    /// The kind of answer that it is about.
    pub place: String,
    /// What must come of it.
    pub expect: Expect,
    /// Words that the report must hold.
    pub says: Vec<String>,
    /// Whether a client that asks as it should never meets it.
    pub is_avoidable: bool,
    /// Whether the certificate itself is another one than the authority's.
    pub changes_leaf: bool,
    when: When,
    changes: Vec<Value>,
}

/// What must come of an accent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// The pass issues.
    Issues,
    /// The next pass issues, an hour later, although the accent goes on.
    IssuesLater,
    /// The pass fails at once and says why.
    Fails,
    /// The pass waits as long as it may, and says what it waits for.
    Waits,
}

/// Which answers an accent applies to.
#[derive(Clone, Debug)]
struct When {
    answers: Vec<String>,
    /// Only an answer to this method.
    method: Option<String>,
    /// Members of the answer, by pointer, and their values. `null` is an absent member.
    with: Map<String, Value>,
    /// Only an answer with an HTTP status from 400 on.
    refused: bool,
    /// Members that the request's payload must have, or must not have.
    asked: Option<String>,
    not_asked: Option<String>,
    /// Only after an answer of this kind.
    since: Option<String>,
    after: usize,
    times: usize,
}

/// What happens with the accents of one installation: the wire shares it with the test.
#[derive(Debug)]
pub struct Struck {
    answers: AtomicUsize,
    met: AtomicUsize,
    since: AtomicBool,
}

impl Struck {
    /// Returns how many answers the accent has changed.
    pub fn answers(&self) -> usize {
        self.answers.load(Ordering::SeqCst)
    }
}

/// What an accent's changes need to know of the cloud.
#[derive(Clone, Debug)]
pub struct Setting {
    /// The renewing function that meets the accent.
    pub function: String,
    /// The scheme and host of the authority's directory.
    pub origin: String,
    /// The root that the authority's certificates lead to, as PEM.
    pub root: String,
    /// The name that is ordered.
    pub domain: String,
}

/// Reads the whole corpus, in the order of the names. Panics where a file is not as its README
/// says.
pub fn corpus() -> Vec<Accent> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("accents");
    let files = std::fs::read_dir(&folder).unwrap();
    let mut files: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|ending| ending == "json"));
    files.sort();
    files.iter().map(|file| Accent::read(file)).collect()
}

impl Accent {
    fn read(file: &Path) -> Self {
        let name = file.file_stem().unwrap().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(file).unwrap();
        let content: Value =
            serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        Self::parse(name, content)
    }

    fn parse(name: String, content: Value) -> Self {
        let Value::Object(mut content) = content else {
            panic!("{name}: no object");
        };
        for member in ["who", "source", "what"] {
            let text = content.remove(member);
            let is_text = text
                .as_ref()
                .and_then(Value::as_str)
                .is_some_and(|text| !text.is_empty());
            assert!(is_text, "{name}: {member} is missing");
        }
        let place = content.remove("where").unwrap_or_default();
        let place = place.as_str().unwrap_or_default().to_owned();
        assert!(PLACES.contains(&&*place), "{name}: where: {place:?}");
        let expect = match content.remove("expect").unwrap_or_default().as_str() {
            Some("issues") => Expect::Issues,
            Some("issues later") => Expect::IssuesLater,
            Some("fails") => Expect::Fails,
            Some("waits") => Expect::Waits,
            other => panic!("{name}: expect: {other:?}"),
        };
        let says = texts(content.remove("says"));
        let needs_words = matches!(expect, Expect::Fails | Expect::Waits);
        assert!(
            !says.is_empty() || !needs_words,
            "{name}: what does it say?"
        );
        let changes = match content.remove("change") {
            Some(Value::Array(changes)) => changes,
            Some(change) => vec![change],
            None => panic!("{name}: change is missing"),
        };
        let when = When::parse(&name, content.remove("when").unwrap_or_default());
        assert!(content.is_empty(), "{name}: unknown members: {content:?}");
        let chain = |change: &Value| change["chain"].as_str().map(str::to_owned);
        let changes_leaf = changes
            .iter()
            .filter_map(chain)
            .any(|to| to.contains("name"));
        Self {
            name,
            place,
            expect,
            says,
            is_avoidable: when.asked.is_some() || when.not_asked.is_some(),
            changes_leaf,
            when,
            changes,
        }
    }

    /// Returns the fault that speaks so to one installation, and what it has done so far.
    pub fn fault(&self, setting: &Setting) -> (Fault, Arc<Struck>) {
        let struck = Arc::new(Struck {
            answers: AtomicUsize::new(0),
            met: AtomicUsize::new(0),
            since: AtomicBool::new(self.when.since.is_none()),
        });
        let function = setting.function.clone();
        let mine = move |sent: &Sent| {
            sent.service == Service::Acme && sent.function.as_deref() == Some(&function)
        };
        let (accent, seen, setting) = (self.clone(), struck.clone(), setting.clone());
        let label = setting.function.clone();
        let fault = if self.changes.iter().any(|change| change["instead"] == true) {
            let matching = accent.clone();
            let counted = struck.clone();
            let builder = Fault::when(move |sent| {
                mine(sent) && matching.asks(sent, &counted) && matching.has_turn(&counted)
            });
            builder.always().labelled(&label).answer_by(move |sent| {
                let mut response = Response::default();
                accent.change(&setting, sent, &mut response, &seen);
                response
            })
        } else {
            let builder = Fault::when(mine).always().labelled(&label);
            builder.edit_by(move |sent, response| {
                let applies = accent.asks(sent, &seen) && accent.when.answered(response);
                if applies && accent.has_turn(&seen) {
                    accent.change(&setting, sent, response, &seen);
                }
            })
        };
        (fault, struck)
    }

    /// Whether a request gets the kind of answer that the accent is about.
    fn asks(&self, sent: &Sent, struck: &Struck) -> bool {
        let When {
            answers,
            method,
            asked,
            not_asked,
            since,
            ..
        } = &self.when;
        let kind = kind(sent);
        let has = |member: &Option<String>| {
            member
                .as_ref()
                .map(|member| sent.payload.get(member).is_some())
        };
        let begun = struck.since.load(Ordering::SeqCst);
        if since.as_deref() == Some(kind) {
            struck.since.store(true, Ordering::SeqCst);
        }
        begun
            && method.as_ref().is_none_or(|method| *method == sent.method)
            && answers
                .iter()
                .any(|answer| answer == kind || answer == "any")
            && has(asked) != Some(false)
            && has(not_asked) != Some(true)
    }

    fn has_turn(&self, struck: &Struck) -> bool {
        let number = struck.met.fetch_add(1, Ordering::SeqCst);
        (self.when.after..self.when.after.saturating_add(self.when.times)).contains(&number)
    }

    fn change(&self, setting: &Setting, sent: &Sent, response: &mut Response, struck: &Struck) {
        struck.answers.fetch_add(1, Ordering::SeqCst);
        for change in &self.changes {
            let url = format!("{}{}", setting.origin, sent.target);
            let change = change.to_string();
            let change = change.replace("{origin}", &setting.origin);
            let change = change.replace("{name}", &setting.domain);
            let change: Value = serde_json::from_str(&change.replace("{url}", &url)).unwrap();
            let is_for_this = change["in"]
                .as_str()
                .is_none_or(|place| place == kind(sent));
            if is_for_this {
                apply(&self.name, &change, setting, response);
            }
        }
    }
}

impl When {
    fn parse(name: &str, when: Value) -> Self {
        let Value::Object(mut when) = when else {
            panic!("{name}: when is missing");
        };
        let mut text = |member: &str| {
            let text = when.remove(member)?;
            Some(
                text.as_str()
                    .unwrap_or_else(|| panic!("{name}: {member}"))
                    .to_owned(),
            )
        };
        let (asked, not_asked, since) = (text("asked"), text("notAsked"), text("since"));
        let method = text("method");
        let answers = texts(when.remove("answer"));
        let kinds = || KINDS.iter().map(|(_, kind)| *kind).chain(["any"]);
        let unknown = answers
            .iter()
            .chain(&since)
            .find(|it| !kinds().any(|kind| kind == *it));
        assert!(
            unknown.is_none() && !answers.is_empty(),
            "{name}: answer: {unknown:?}"
        );
        let number = |value: Option<Value>, or: usize| {
            let number =
                value.map(|value| value.as_u64().unwrap_or_else(|| panic!("{name}: when")));
            number.map_or(or, |number| usize::try_from(number).unwrap())
        };
        let (after, times) = (when.remove("after"), when.remove("times"));
        let parsed = Self {
            answers,
            method,
            with: match when.remove("with") {
                Some(Value::Object(with)) => with,
                None => Map::new(),
                Some(_) => panic!("{name}: with"),
            },
            refused: when.remove("refused") == Some(Value::Bool(true)),
            asked,
            not_asked,
            since,
            after: number(after, 0),
            times: number(times, usize::MAX),
        };
        assert!(when.is_empty(), "{name}: when: {when:?}");
        parsed
    }

    fn answered(&self, response: &Response) -> bool {
        if self.refused != (response.status >= 400) {
            return false;
        }
        let mut body: Value = serde_json::from_slice(&response.body).unwrap_or_default();
        self.with.iter().all(|(pointer, wanted)| {
            let mut held = Vec::new();
            at(&mut body, pointer, &mut |value| held.push(value.clone()));
            match wanted {
                Value::Null => held.is_empty(),
                Value::Array(any) => held.iter().any(|value| any.contains(value)),
                one => held.contains(one),
            }
        })
    }
}

/// Returns the kind of answer to a request.
fn kind(sent: &Sent) -> &'static str {
    let found = KINDS.iter().find(|(path, _)| sent.target.starts_with(path));
    found.map_or("", |(_, kind)| kind)
}

fn apply(name: &str, change: &Value, setting: &Setting, response: &mut Response) {
    let text = |member: &str| change[member].as_str();
    if let Some(status) = change["status"].as_u64() {
        response.status = u16::try_from(status).unwrap();
    }
    for (header, value) in change["header"].as_object().into_iter().flatten() {
        response
            .headers
            .retain(|(held, _)| !held.eq_ignore_ascii_case(header));
        if let Some(value) = value.as_str() {
            response.headers.push((header.clone(), value.to_owned()));
        }
    }
    match &change["body"] {
        Value::Null => {}
        Value::String(body) => response.body = body.clone().into_bytes(),
        body => response.body = body.to_string().into_bytes(),
    }
    if let (Some(from), Some(to)) = (text("replace"), text("by")) {
        response.body = response.text().replace(from, to).into_bytes();
    }
    if let Some(chain) = text("chain") {
        response.body = chained(name, chain, &response.text(), setting);
    }
    if let Some(pointer) = text("set").or(text("remove")).or(text("append")) {
        let mut body: Value = serde_json::from_slice(&response.body).unwrap_or_default();
        if let Some(member) = text("remove") {
            remove(&mut body, member);
        } else if text("append").is_some() {
            at(&mut body, pointer, &mut |list| {
                list.as_array_mut().unwrap().push(change["to"].clone());
            });
        } else {
            set(&mut body, pointer, &change["to"]);
        }
        response.body = body.to_string().into_bytes();
    }
}

/// Visits what a pointer names (RFC 6901). In a list, `*` is each element, and a word is each
/// element of that `type`.
fn at(value: &mut Value, pointer: &str, visit: &mut dyn FnMut(&mut Value)) {
    let Some(rest) = pointer.strip_prefix('/') else {
        return visit(value);
    };
    let (member, rest) = match rest.find('/') {
        Some(end) => rest.split_at(end),
        None => (rest, ""),
    };
    match value {
        Value::Object(members) => {
            if let Some(value) = members.get_mut(member) {
                at(value, rest, visit);
            }
        }
        Value::Array(all) => {
            for (number, value) in all.iter_mut().enumerate() {
                let is_meant =
                    member == "*" || value["type"] == member || member.parse() == Ok(number);
                if is_meant {
                    at(value, rest, visit);
                }
            }
        }
        _ => {}
    }
}

fn set(body: &mut Value, pointer: &str, to: &Value) {
    let (parent, member) = pointer.rsplit_once('/').unwrap();
    at(body, parent, &mut |parent| match parent {
        Value::Object(members) => {
            members.insert(member.to_owned(), to.clone());
        }
        parent => at(parent, &format!("/{member}"), &mut |value| {
            *value = to.clone()
        }),
    });
}

fn remove(body: &mut Value, pointer: &str) {
    let (parent, member) = pointer.rsplit_once('/').unwrap();
    at(body, parent, &mut |parent| {
        if let Value::Object(members) = parent {
            members.remove(member);
        }
    });
}

/// Returns a chain in another form; `pem` is leaf and intermediate.
fn chained(name: &str, form: &str, pem: &str, setting: &Setting) -> Vec<u8> {
    const END: &str = "-----END CERTIFICATE-----";
    let blocks: Vec<String> = (pem.split_inclusive(END))
        .map(str::trim)
        .filter(|block| block.ends_with(END))
        .map(|block| format!("{block}\n"))
        .collect();
    let [leaf, intermediate] = &blocks[..] else {
        panic!("{name}: a chain of {} certificates", blocks.len());
    };
    let root = &setting.root;
    let der = tls::certificates(leaf)[0].to_vec();
    let authority = PrivateAuthority::new;
    let www = format!("www.{}", setting.domain);
    let text = match form {
        "intermediate twice" => format!("{leaf}{intermediate}{intermediate}"),
        "root before intermediate" => format!("{leaf}{root}{intermediate}"),
        "with root" => format!("{leaf}{intermediate}{root}"),
        "leaf last" => format!("{intermediate}{leaf}"),
        "leaf alone" => leaf.clone(),
        "leaf twice" => format!("{leaf}{leaf}{intermediate}"),
        "with a stranger" => format!("{leaf}{}{intermediate}", authority().root_pem()),
        "stranger alone" => format!("{leaf}{}", authority().root_pem()),
        "byte order mark" => format!("\u{feff}{leaf}{intermediate}"),
        "indented" => pem.replace('\n', "\n  "),
        "glued" => format!("{}{intermediate}", leaf.trim_end()),
        "CRLF" => format!("{leaf}{intermediate}").replace('\n', "\r\n"),
        "empty lines" => format!("\n\n{leaf}\n\n\n{intermediate}\n"),
        "no line end" => format!("{leaf}{intermediate}").trim_end().to_owned(),
        "with text" => {
            format!("subject=/CN=a\nissuer=/CN=b\n{leaf}\nsubject=/CN=b\n{intermediate}")
        }
        "one line" => {
            let one = |block: &String| {
                let body = block
                    .replace("-----BEGIN CERTIFICATE-----", "")
                    .replace(END, "");
                let body: String = body.split_whitespace().collect();
                format!("-----BEGIN CERTIFICATE-----\n{body}\n{END}\n")
            };
            format!("{}{}", one(leaf), one(intermediate))
        }
        "DER" => return der,
        "www name added" => {
            let names = names_of(&der);
            let names: Vec<&str> = names.iter().map(String::as_str).chain([&*www]).collect();
            authority().issue_again(&der, &names)
        }
        "other name" => authority().issue_again(&der, &[&www]),
        other => panic!("{name}: chain: {other:?}"),
    };
    text.into_bytes()
}

fn names_of(der: &[u8]) -> Vec<String> {
    let (_, certificate) = x509_parser::parse_x509_certificate(der).unwrap();
    let names = certificate.subject_alternative_name().unwrap().unwrap();
    let names = names.value.general_names.iter().map(|name| match name {
        GeneralName::DNSName(name) => (*name).to_owned(),
        other => other.to_string(),
    });
    names.collect()
}

fn texts(value: Option<Value>) -> Vec<String> {
    match value {
        Some(Value::String(text)) => vec![text],
        Some(Value::Array(values)) => values
            .into_iter()
            .flat_map(|one| texts(Some(one)))
            .collect(),
        _ => Vec::new(),
    }
}

/// Pebble's paths and what it answers there.
const KINDS: [(&str, &str); 11] = [
    ("/dir", "directory"),
    ("/nonce-plz", "nonce"),
    ("/sign-me-up", "newAccount"),
    ("/my-account/", "account"),
    ("/order-plz", "newOrder"),
    ("/my-order/", "order"),
    ("/authZ/", "authorization"),
    ("/chalZ/", "challenge"),
    ("/finalize-order/", "finalize"),
    ("/certZ/", "certificate"),
    ("/draft-ietf-acme-ari-03/renewalInfo", "renewalInfo"),
];
/// What an accent may be about.
pub const PLACES: [&str; 10] = [
    "directory",
    "nonce",
    "account",
    "order",
    "authorization",
    "challenge",
    "finalize",
    "certificate",
    "renewalInfo",
    "problem",
];

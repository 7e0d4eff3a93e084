//! The library's folders have an order, and its source keeps to it. Everything that a file names
//! (`use` and paths), and each inherent method that it calls, is in its own folder or in one above.
//! No files depend on each other in a circle. Code for tests does not count.
//!
//! A call counts if it is known which type has the method: `self.it()` in an `impl` block, or
//! `cycle.it()` for a type `Cycle` of ours. Other calls count if the inherent `impl` blocks of only
//! one file (for the order: of only one folder) define a method of that name, and no trait and
//! nothing outside does ([`ALSO_OUTSIDE`]).

#![allow(
    clippy::expect_used,
    reason = "a test ends where something is not as it should be"
)]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::{self, Display};
use std::fs;
use std::ops::Range;
use std::path::Path;

/// The folders. The first may be named by all others, the last by none.
const FOLDERS: [&str; 10] = [
    "values",
    "contract",
    "records",
    "ports",
    "rules",
    "pass",
    "life",
    "dry_run",
    "invocation",
    "adapters",
];

/// What may name something below it all the same: an invocation opens the real ports.
const MAY: [(&str, &str); 1] = [("invocation/", "adapters/live.rs")];

/// Methods of ours whose names the standard library or a crate has as well. A call does not show
/// which one it means.
const ALSO_OUTSIDE: [&str; 12] = [
    "all",
    "authority",
    "bucket",
    "der",
    "entry",
    "kind",
    "name",
    "next",
    "remove",
    "replace",
    "target",
    "validity",
];

#[test]
fn no_arrow_runs_back_up() {
    let house = House::read("src");
    for file in &house.files {
        let folder = file.split_once('/').map(|(folder, _)| folder);
        let is_known = folder.is_none_or(|folder| FOLDERS.contains(&folder));
        assert!(is_known, "{file}: its folder has no place in the order");
    }
    let arrows = house.arrows.iter().filter(|arrow| arrow.runs_up());
    let arrows: Vec<String> = arrows.map(ToString::to_string).collect();
    assert!(
        arrows.is_empty(),
        "a folder names one below it (in the order {FOLDERS:?}):\n{}",
        arrows.join("\n")
    );
}

#[test]
fn no_circle_of_files_stands() {
    for source in ["src", "../certloop/src"] {
        let house = House::read(source);
        let mut wrong = String::new();
        for circle in &house.circles() {
            wrong += &format!("\n{circle:?}\n");
            for arrow in house.shortest_way_round(circle) {
                wrong += &format!("    {arrow}\n");
            }
        }
        assert!(
            wrong.is_empty(),
            "files of {source} that need each other:\n{wrong}"
        );
    }
}

#[test]
fn a_type_keeps_its_methods_together() {
    let house = House::read("src");
    for (of, folder, most) in [("Cycle", "pass/", 60), ("Work", "life/", usize::MAX)] {
        let methods = house.methods.iter().filter(|(known, _)| known == of);
        let methods: Vec<&Place> = methods.map(|(_, place)| place).collect();
        assert!(!methods.is_empty(), "{of} has none any more");
        assert!(methods.len() <= most, "{of} has {} methods", methods.len());
        for place in methods {
            let is_there = place.file.starts_with(folder);
            assert!(is_there, "{place}: a method of {of} is in another folder");
        }
    }
}

#[test]
fn both_are_found() {
    let house = House::of([
        (
            "values/low.rs",
            "use crate::rules::high::High;\npub fn low() {}\n",
        ),
        (
            "rules/high.rs",
            "use crate::values::low::low;\npub struct High;\nfn f(l: Later) { l.later() }\n\
             #[cfg(test)]\nmod tests {\n    use crate::life::later::Later;\n}\n",
        ),
        (
            "life/later.rs",
            "// use crate::adapters::live;\nstruct Later;\n\
             impl<'a> Later {\n    pub(crate) fn later(&self) {}\n}\n",
        ),
    ]);
    let arrows = house.arrows.iter().filter(|arrow| arrow.runs_up());
    let arrows: Vec<String> = arrows.map(ToString::to_string).collect();
    assert_eq!(
        arrows,
        [
            "rules/high.rs:3 calls later, life/later.rs:4",
            "values/low.rs:1 names High, rules/high.rs:2",
        ]
    );
    assert_eq!(
        house.circles(),
        [BTreeSet::from(["rules/high.rs", "values/low.rs"])]
    );
}

/// A line of a file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    file: String,
    line: usize,
}

impl Place {
    /// The folder's place in the order. A file at the top is above all folders.
    fn floor(&self) -> usize {
        let folder = self.file.split_once('/').map(|(folder, _)| folder);
        let floor = folder.and_then(|folder| FOLDERS.iter().position(|known| *known == folder));
        floor.map_or(0, |floor| floor + 1)
    }
}

impl Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// One file needs another one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Arrow {
    from: Place,
    to: Place,
    /// What is called or named.
    what: String,
    is_call: bool,
    /// Whether the other file is certain: only that one defines the method.
    is_certain: bool,
}

impl Arrow {
    fn runs_up(&self) -> bool {
        let may =
            |(from, to): &(&str, &str)| self.from.file.starts_with(from) && self.to.file == *to;
        self.to.floor() > self.from.floor() && !MAY.iter().any(may)
    }
}

impl Display for Arrow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = if self.is_call { "calls" } else { "names" };
        write!(f, "{} {verb} {}, {}", self.from, self.what, self.to)
    }
}

/// The library's files, and what each needs of the others.
struct House {
    files: Vec<String>,
    arrows: Vec<Arrow>,
    /// The inherent methods, each with its type.
    methods: Vec<(String, Place)>,
}

impl House {
    fn read(source: &str) -> Self {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(source);
        let mut files = Vec::new();
        collect(&source, &source, &mut files);
        Self::of(
            files
                .iter()
                .map(|(name, text)| (name.as_str(), text.as_str())),
        )
    }

    fn of<'t>(files: impl IntoIterator<Item = (&'t str, &'t str)>) -> Self {
        let mut files: Vec<File> = files.into_iter().map(|(n, t)| File::read(n, t)).collect();
        let left_out: BTreeSet<Vec<String>> = files
            .iter()
            .flat_map(|file| file.test_modules.clone())
            .collect();
        files.retain(|file| {
            !left_out.contains(&file.module) && !matches!(file.name.as_str(), "lib.rs" | "main.rs")
        });
        let by_module: BTreeMap<&[String], &File> = files
            .iter()
            .map(|file| (file.module.as_slice(), file))
            .collect();
        let mut arrows = Vec::new();
        for file in &files {
            for (path, line) in &file.paths {
                let Some((to, what)) = find(&by_module, path, 0) else {
                    continue;
                };
                arrows.push((file, *line, what, to, false, true));
            }
        }
        let of_traits: BTreeSet<&str> = files
            .iter()
            .flat_map(|file| &file.of_traits)
            .map(String::as_str)
            .collect();
        let mut methods: BTreeMap<&str, Vec<(&File, &Method)>> = BTreeMap::new();
        for file in &files {
            for method in &file.methods {
                methods
                    .entry(&method.name)
                    .or_default()
                    .push((file, method));
            }
        }
        for file in &files {
            for call in &file.calls {
                let all = methods.get(call.name.as_str()).into_iter().flatten();
                let all = all.filter(|(_, method)| file.module.starts_with(&method.seen_by));
                let all: Vec<_> = all.collect();
                let of_type = |method: &Method| call.of.as_ref() == Some(&method.of);
                let is_known = all.iter().any(|(_, method)| of_type(method));
                let is_anyones = of_traits.contains(call.name.as_str())
                    || ALSO_OUTSIDE.contains(&call.name.as_str());
                if !is_known && is_anyones {
                    continue;
                }
                let meant = all
                    .iter()
                    .filter(|(_, method)| !is_known || of_type(method));
                let places: Vec<Place> = meant
                    .map(|(file, method)| Place {
                        file: file.name.clone(),
                        line: method.line,
                    })
                    .collect();
                let files: BTreeSet<&str> = places.iter().map(|p| p.file.as_str()).collect();
                let floors: BTreeSet<usize> = places.iter().map(Place::floor).collect();
                if floors.len() == 1 && !files.contains(file.name.as_str()) {
                    let to = places[0].clone();
                    let what = call.name.clone();
                    arrows.push((file, call.line, what, to, true, files.len() == 1));
                }
            }
        }
        let arrows = arrows
            .into_iter()
            .map(|(from, line, what, to, is_call, is_certain)| Arrow {
                from: Place {
                    file: from.name.clone(),
                    line,
                },
                to,
                what,
                is_call,
                is_certain,
            });
        let arrows = arrows.filter(|arrow| arrow.from.file != arrow.to.file);
        let arrows: BTreeSet<Arrow> = arrows.collect();
        let methods = files.iter().flat_map(|file| {
            file.methods.iter().map(|method| {
                let place = Place {
                    file: file.name.clone(),
                    line: method.line,
                };
                (method.of.clone(), place)
            })
        });
        Self {
            arrows: arrows.into_iter().collect(),
            methods: methods.collect(),
            files: files.iter().map(|file| file.name.clone()).collect(),
        }
    }

    /// Which files each needs.
    fn needs(&self) -> BTreeMap<&str, BTreeSet<&str>> {
        let mut needs: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for arrow in self.arrows.iter().filter(|arrow| arrow.is_certain) {
            needs
                .entry(&arrow.from.file)
                .or_default()
                .insert(&arrow.to.file);
        }
        needs
    }

    /// The sets of files that all need each other.
    fn circles(&self) -> Vec<BTreeSet<&str>> {
        let needs = self.needs();
        let reach = |from: &str| {
            let mut seen = BTreeSet::new();
            let mut todo: Vec<&str> = needs.get(from).into_iter().flatten().copied().collect();
            while let Some(file) = todo.pop() {
                if seen.insert(file) {
                    todo.extend(needs.get(file).into_iter().flatten());
                }
            }
            seen
        };
        let reached: BTreeMap<&str, BTreeSet<&str>> =
            needs.keys().map(|file| (*file, reach(file))).collect();
        let circles: BTreeSet<BTreeSet<&str>> = reached
            .iter()
            .filter(|(file, others)| others.contains(*file))
            .map(|(file, others)| {
                let back =
                    |other: &&&str| reached.get(**other).is_some_and(|all| all.contains(file));
                others.iter().filter(back).copied().collect()
            })
            .collect();
        circles.into_iter().collect()
    }

    /// Returns the arrows of the shortest circle within these files.
    fn shortest_way_round(&self, circle: &BTreeSet<&str>) -> Vec<&Arrow> {
        let needs = self.needs();
        let ways = circle.iter().filter_map(|start| {
            let mut before: BTreeMap<&str, &str> = BTreeMap::new();
            let mut todo = VecDeque::from([*start]);
            while let Some(file) = todo.pop_front() {
                for next in needs.get(file).into_iter().flatten() {
                    if next == start {
                        let mut way = vec![*start, file];
                        while let Some(earlier) = before.get(way[way.len() - 1]) {
                            way.push(earlier);
                        }
                        way.reverse();
                        return Some(way);
                    }
                    if circle.contains(next) && next != start && !before.contains_key(next) {
                        before.insert(next, file);
                        todo.push_back(next);
                    }
                }
            }
            None
        });
        let way = ways.min_by_key(Vec::len).unwrap_or_default();
        let steps = way.windows(2).flat_map(|step| {
            let is_one = |arrow: &&Arrow| {
                arrow.is_certain && arrow.from.file == step[0] && arrow.to.file == step[1]
            };
            self.arrows.iter().filter(is_one)
        });
        steps.collect()
    }
}

/// Finds the file that a path leads to, also through `pub use` in other files.
fn find(
    by_module: &BTreeMap<&[String], &File>,
    path: &[String],
    depth: usize,
) -> Option<(Place, String)> {
    let length = (1..=path.len())
        .rev()
        .find(|length| by_module.contains_key(&path[..*length]))?;
    let file = by_module[&path[..length]];
    let Some(item) = path.get(length) else {
        let what = path[length - 1].clone();
        return Some((
            Place {
                file: file.name.clone(),
                line: 1,
            },
            what,
        ));
    };
    if let Some(onward) = file.handed_on.get(item).filter(|_| depth < 4)
        && let Some(found) = find(by_module, onward, depth + 1)
    {
        return Some(found);
    }
    let line = file.items.get(item).copied().unwrap_or(1);
    Some((
        Place {
            file: file.name.clone(),
            line,
        },
        item.clone(),
    ))
}

/// What one file says.
#[derive(Debug, Default)]
struct File {
    /// Its path within `src`.
    name: String,
    /// Its module's path.
    module: Vec<String>,
    /// Modules that are for tests.
    test_modules: Vec<Vec<String>>,
    /// Paths within the crate that it names, in full, and where.
    paths: Vec<(Vec<String>, usize)>,
    /// What it re-exports, by its name.
    handed_on: BTreeMap<String, Vec<String>>,
    /// What it defines, and where.
    items: BTreeMap<String, usize>,
    /// Functions in inherent `impl` blocks.
    methods: Vec<Method>,
    /// Where the `impl` blocks are among the tokens, and the type of each.
    blocks: Vec<(Range<usize>, String)>,
    /// Functions of traits, where they are declared or implemented.
    of_traits: BTreeSet<String>,
    /// Methods that it calls.
    calls: Vec<Call>,
}

/// A function in an inherent `impl` block.
#[derive(Debug)]
struct Method {
    name: String,
    line: usize,
    /// Of which type.
    of: String,
    /// The module that may call it, with all modules in it.
    seen_by: Vec<String>,
}

/// A call of a method.
#[derive(Debug)]
struct Call {
    name: String,
    line: usize,
    /// The type it is called on, if the text says it.
    of: Option<String>,
}

impl File {
    fn read(name: &str, text: &str) -> Self {
        let stem = name.trim_end_matches(".rs");
        let stem = stem.strip_suffix("/mod").unwrap_or(stem);
        let mut file = Self {
            name: name.to_owned(),
            module: stem.split('/').map(str::to_owned).collect(),
            ..Self::default()
        };
        let tokens = tokens(text);
        let tokens = file.without_tests(&tokens);
        file.imports(&tokens);
        file.inline_paths(&tokens);
        file.definitions(&tokens);
        for (at, window) in tokens.windows(3).enumerate() {
            let [dot, name, open] = window else { continue };
            let is_call = match dot.text.as_str() {
                // A turbofish counts as well.
                "." => matches!(open.text.as_str(), "(" | "::"),
                "::" => {
                    open.text == "("
                        && at > 0
                        && tokens[at - 1].text.starts_with(char::is_uppercase)
                }
                _ => false,
            };
            if is_call && name.is_word() {
                let of = file.called_on(&tokens, at);
                file.calls.push(Call {
                    name: name.text.clone(),
                    line: name.line,
                    of,
                });
            }
        }
        file
    }

    /// Returns the type that a method is called on, if the word before the dot says it.
    fn called_on(&self, tokens: &[Token], dot: usize) -> Option<String> {
        let before = tokens.get(dot.checked_sub(1)?)?;
        let is_field = dot > 1 && tokens[dot - 2].text == ".";
        match before.text.as_str() {
            "self" | "Self" if !is_field => {
                let block = self.blocks.iter().find(|(range, _)| range.contains(&dot));
                block.map(|(_, of)| of.clone())
            }
            word if before.is_word() => Some(camel_case(word)),
            _ => None,
        }
    }

    /// Leaves out each item that is marked with `#[cfg(test)]`.
    fn without_tests(&mut self, tokens: &[Token]) -> Vec<Token> {
        let mut kept = Vec::new();
        let mut at = 0;
        while at < tokens.len() {
            if !says(&tokens[at..], &["#", "[", "cfg", "(", "test", ")", "]"]) {
                kept.push(tokens[at].clone());
                at += 1;
                continue;
            }
            at += 7;
            while says(&tokens[at..], &["#", "["]) {
                at = after_group(tokens, at + 1);
            }
            let start = at;
            while at < tokens.len() && !matches!(tokens[at].text.as_str(), "{" | ";") {
                at = match tokens[at].text.as_str() {
                    "(" | "[" => after_group(tokens, at),
                    _ => at + 1,
                };
            }
            if says(&tokens[start..], &["mod"]) && says(&tokens[at..], &[";"]) {
                let mut module = self.module.clone();
                module.push(tokens[at - 1].text.clone());
                self.test_modules.push(module);
            }
            at = match says(&tokens[at..], &["{"]) {
                true => after_group(tokens, at),
                false => at + 1,
            };
        }
        kept
    }

    /// Reads the `use` items.
    fn imports(&mut self, tokens: &[Token]) {
        let mut at = 0;
        while at < tokens.len() {
            if tokens[at].text != "use" {
                at += 1;
                continue;
            }
            let is_handed_on = at > 0 && matches!(tokens[at - 1].text.as_str(), "pub" | ")");
            let mut found = Vec::new();
            at = tree(tokens, at + 1, &[], &mut found);
            for (path, name, line) in found {
                let Some(path) = self.in_full(&path) else {
                    continue;
                };
                if is_handed_on {
                    self.handed_on.insert(name, path.clone());
                }
                self.paths.push((path, line));
            }
        }
    }

    /// Reads the paths outside of `use` that begin at the crate or above.
    fn inline_paths(&mut self, tokens: &[Token]) {
        let mut in_use = false;
        for at in 0..tokens.len() {
            match tokens[at].text.as_str() {
                "use" => in_use = true,
                ";" => in_use = false,
                "crate" | "super" if !in_use && says(&tokens[at + 1..], &["::"]) => {
                    if at > 0 && tokens[at - 1].text == "::" {
                        continue;
                    }
                    let mut path = vec![tokens[at].text.clone()];
                    let mut next = at + 1;
                    while says(&tokens[next..], &["::"]) && tokens[next + 1].is_word() {
                        path.push(tokens[next + 1].text.clone());
                        next += 2;
                    }
                    if let Some(path) = self.in_full(&path) {
                        self.paths.push((path, tokens[at].line));
                    }
                }
                _ => {}
            }
        }
    }

    /// Returns a path from the crate on, or `None` if it leads out of the crate.
    fn in_full(&self, path: &[String]) -> Option<Vec<String>> {
        let mut full = self.module.clone();
        let mut rest = path;
        match path.first()?.as_str() {
            "crate" => {
                full.clear();
                rest = &path[1..];
            }
            "self" => rest = &path[1..],
            "super" => {
                while rest.first().is_some_and(|word| word == "super") {
                    full.pop();
                    rest = &rest[1..];
                }
            }
            // A module below this one, if there is one: `find` does not find another crate.
            _ => {}
        }
        full.extend(rest.iter().cloned());
        (!full.is_empty()).then_some(full)
    }

    /// Reads what is defined.
    fn definitions(&mut self, tokens: &[Token]) {
        let mut at = 0;
        while at < tokens.len() {
            match tokens[at].text.as_str() {
                "impl" => at = self.implementation(tokens, at),
                "trait" => {
                    self.item(tokens, at);
                    let open = (at..tokens.len()).find(|at| tokens[*at].text == "{");
                    let Some(open) = open else { return };
                    let end = after_group(tokens, open);
                    for (name, ..) in functions(&tokens[open + 1..end]) {
                        self.of_traits.insert(name);
                    }
                    at = end;
                }
                "fn" | "struct" | "enum" | "const" | "static" | "type" | "union" => {
                    self.item(tokens, at);
                    at += 1;
                }
                // The code that a macro writes is in braces within braces.
                "macro_rules" => {
                    let end = after_group(tokens, (at + 3).min(tokens.len()));
                    let mut inside = at + 3;
                    while inside < end {
                        match tokens[inside].text.as_str() {
                            "impl" => inside = self.implementation(tokens, inside),
                            _ => inside += 1,
                        }
                    }
                    at = end;
                }
                // The items in a function do not matter to other files.
                "{" => at = after_group(tokens, at),
                _ => at += 1,
            }
        }
    }

    fn item(&mut self, tokens: &[Token], at: usize) {
        if let Some(name) = tokens.get(at + 1).filter(|name| name.is_word()) {
            self.items.entry(name.text.clone()).or_insert(name.line);
        }
    }

    /// Reads an `impl` block; returns where it ends.
    fn implementation(&mut self, tokens: &[Token], at: usize) -> usize {
        let mut open = at + 1;
        let mut is_of_trait = false;
        let mut angles = 0_i32;
        while open < tokens.len() && tokens[open].text != "{" {
            match tokens[open].text.as_str() {
                "<" => angles += 1,
                ">" => angles -= 1,
                "for" if angles == 0 => is_of_trait = true,
                "where" => angles = 1_000,
                _ => {}
            }
            open += 1;
        }
        let end = after_group(tokens, open);
        let of = implemented(&tokens[at + 1..open]);
        self.blocks.push((open..end, of.clone()));
        for (name, line, seen_by) in functions(&tokens[(open + 1).min(end)..end]) {
            if is_of_trait {
                self.of_traits.insert(name);
                continue;
            }
            let mut module = self.module.clone();
            match seen_by {
                SeenBy::All => module.clear(),
                SeenBy::Above => drop(module.pop()),
                SeenBy::Here => {}
            }
            self.methods.push(Method {
                name,
                line,
                of: of.clone(),
                seen_by: module,
            });
        }
        end
    }
}

/// Returns the type of an `impl` block, from the tokens before its brace.
fn implemented(tokens: &[Token]) -> String {
    let mut angles = 0;
    let mut of = String::new();
    for token in tokens {
        match token.text.as_str() {
            "<" => angles += 1,
            ">" => angles -= 1,
            "for" if angles == 0 => of.clear(),
            "where" if angles == 0 => break,
            word if angles == 0 && token.is_word() => word.clone_into(&mut of),
            _ => {}
        }
    }
    of
}

/// Writes a variable's name as a type's.
fn camel_case(word: &str) -> String {
    let words = word.split('_').filter(|word| !word.is_empty());
    let capital = |word: &str| word[..1].to_uppercase() + &word[1..];
    words.map(capital).collect()
}

/// Which modules may call a function.
enum SeenBy {
    All,
    /// The module above, and everything in it.
    Above,
    /// The module itself, and everything in it.
    Here,
}

/// Returns the functions that are directly in a block.
fn functions(tokens: &[Token]) -> Vec<(String, usize, SeenBy)> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        match tokens[at].text.as_str() {
            "{" => at = after_group(tokens, at),
            "fn" => {
                let before = tokens[..at].iter().rev();
                let before =
                    before.skip_while(|word| matches!(word.text.as_str(), "async" | "const"));
                let before: Vec<&str> = before.take(3).map(|word| word.text.as_str()).collect();
                let seen_by = match before.as_slice() {
                    ["pub", ..] | [")", "crate", ..] => SeenBy::All,
                    [")", ..] => SeenBy::Above,
                    _ => SeenBy::Here,
                };
                if let Some(name) = tokens.get(at + 1).filter(|name| name.is_word()) {
                    found.push((name.text.clone(), name.line, seen_by));
                }
                at += 1;
            }
            _ => at += 1,
        }
    }
    found
}

/// Reads a tree of `use`: each leaf's path, the name it gets, and its line. Returns where it ends.
fn tree(
    tokens: &[Token],
    mut at: usize,
    before: &[String],
    found: &mut Vec<(Vec<String>, String, usize)>,
) -> usize {
    let mut path = before.to_vec();
    while at < tokens.len() {
        let token = &tokens[at];
        match token.text.as_str() {
            "::" => at += 1,
            "{" => {
                at += 1;
                while at < tokens.len() && tokens[at].text != "}" {
                    at = tree(tokens, at, &path, found);
                    if says(&tokens[at..], &[","]) {
                        at += 1;
                    }
                }
                return at + 1;
            }
            "*" => {
                found.push((path, "*".to_owned(), token.line));
                return at + 1;
            }
            _ => {
                if token.text != "self" || path.is_empty() {
                    path.push(token.text.clone());
                }
                at += 1;
                if !says(&tokens[at..], &["::"]) {
                    let mut name = path.last().cloned().unwrap_or_default();
                    if says(&tokens[at..], &["as"]) {
                        name.clone_from(&tokens[at + 1].text);
                        at += 2;
                    }
                    found.push((path, name, token.line));
                    return at;
                }
            }
        }
    }
    at
}

/// Whether the tokens begin with these.
fn says(tokens: &[Token], expected: &[&str]) -> bool {
    tokens.len() >= expected.len()
        && tokens
            .iter()
            .zip(expected)
            .all(|(token, expected)| token.text == *expected)
}

/// Returns where the group ends that opens here.
fn after_group(tokens: &[Token], open: usize) -> usize {
    let mut depth = 0;
    for (at, token) in tokens.iter().enumerate().skip(open) {
        match token.text.as_str() {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => {
                depth -= 1;
                if depth == 0 {
                    return at + 1;
                }
            }
            _ => {}
        }
    }
    tokens.len()
}

/// A word or a sign.
#[derive(Clone, Debug)]
struct Token {
    text: String,
    line: usize,
}

impl Token {
    fn is_word(&self) -> bool {
        self.text
            .starts_with(|first: char| first.is_alphabetic() || first == '_')
    }
}

/// Splits source into words and signs; comments, texts, characters and lifetimes are left out.
fn tokens(text: &str) -> Vec<Token> {
    let chars: Vec<char> = text.chars().collect();
    let mut tokens = Vec::new();
    let mut line = 1;
    let mut at = 0;
    let get = |at: usize| chars.get(at).copied().unwrap_or('\0');
    while at < chars.len() {
        let start = at;
        let first = chars[at];
        match first {
            '/' if get(at + 1) == '/' => {
                while at < chars.len() && chars[at] != '\n' {
                    at += 1;
                }
            }
            '/' if get(at + 1) == '*' => {
                while at < chars.len() && !(chars[at] == '*' && get(at + 1) == '/') {
                    at += 1;
                }
                at += 2;
            }
            '"' => at = after_text(&chars, at),
            'r' | 'b' if is_text(&chars, at) => {
                let hashes_at = at + chars[at..].iter().take_while(|c| c.is_alphabetic()).count();
                let hashes = chars[hashes_at..].iter().take_while(|c| **c == '#').count();
                let is_raw = chars[at..hashes_at].contains(&'r');
                at = hashes_at + hashes;
                if is_raw {
                    at += 1;
                    let closes =
                        |at: usize| chars[at] == '"' && (1..=hashes).all(|n| get(at + n) == '#');
                    while at < chars.len() && !closes(at) {
                        at += 1;
                    }
                    at += 1 + hashes;
                } else {
                    at = after_text(&chars, at);
                }
            }
            '\'' => {
                // A character, or a lifetime.
                if get(at + 1) == '\\' {
                    at += 3;
                    while at < chars.len() && chars[at] != '\'' {
                        at += 1;
                    }
                    at += 1;
                } else if get(at + 2) == '\'' {
                    at += 3;
                } else {
                    at += 1;
                    while get(at).is_alphanumeric() || get(at) == '_' {
                        at += 1;
                    }
                }
            }
            ':' if get(at + 1) == ':' => {
                tokens.push(Token {
                    text: "::".to_owned(),
                    line,
                });
                at += 2;
            }
            '-' | '=' if get(at + 1) == '>' => at += 2,
            first if first.is_alphabetic() || first == '_' => {
                while get(at).is_alphanumeric() || get(at) == '_' {
                    at += 1;
                }
                tokens.push(Token {
                    text: chars[start..at].iter().collect(),
                    line,
                });
            }
            first if first.is_whitespace() => at += 1,
            first if first.is_ascii_digit() => {
                while get(at).is_alphanumeric() || get(at) == '_' {
                    at += 1;
                }
                tokens.push(Token {
                    text: "0".to_owned(),
                    line,
                });
            }
            first => {
                tokens.push(Token {
                    text: first.to_string(),
                    line,
                });
                at += 1;
            }
        }
        let end = at.min(chars.len());
        line += chars[start..end].iter().filter(|c| **c == '\n').count();
    }
    tokens
}

/// Whether a text with a prefix begins here.
fn is_text(chars: &[char], at: usize) -> bool {
    let before = at.checked_sub(1).and_then(|at| chars.get(at));
    if before.is_some_and(|c| c.is_alphanumeric() || *c == '_') {
        return false;
    }
    let prefix = chars[at..]
        .iter()
        .take_while(|c| matches!(c, 'r' | 'b'))
        .count();
    let rest = &chars[at + prefix..];
    let hashes = rest.iter().take_while(|c| **c == '#').count();
    prefix <= 2 && rest.get(hashes) == Some(&'"')
}

/// Returns where the text ends that begins here.
fn after_text(chars: &[char], open: usize) -> usize {
    let mut at = open + 1;
    while at < chars.len() && chars[at] != '"' {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    at + 1
}

/// Reads all files below a folder.
fn collect(root: &Path, folder: &Path, files: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            collect(root, &path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.strip_prefix(root).expect("below it").to_string_lossy();
            let text = fs::read_to_string(&path).expect("a file");
            files.push((name.into_owned(), text));
        }
    }
}

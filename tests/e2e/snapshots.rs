//! The output of a command, compared with the reviewed one. `UPDATE_SNAPSHOTS=1` writes it again.

use std::path::Path;

/// Compares a text with `e2e/snapshots/<name>.txt`. Parts that differ from run to run are left out.
#[track_caller]
pub(crate) fn assert_shows(name: &str, text: &str) {
    let seen = settled(text);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("e2e/snapshots/{name}.txt"));
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        std::fs::write(&path, &seen).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        seen == expected,
        "e2e/snapshots/{name}.txt differs from the output: read the output, then write the file \
         with UPDATE_SNAPSHOTS=1\n\
         -- expected\n{expected}\n-- shown\n{seen}"
    );
}

/// Replaces instants, spans, ARNs, serials and addresses by words in angle brackets.
fn settled(text: &str) -> String {
    let lines = text.lines().map(|line| {
        let mut words: Vec<String> = line.split(' ').map(settled_word).collect();
        for at in 1..words.len() {
            let unit = words[at].trim_matches(|c: char| !c.is_ascii_alphabetic());
            let unit = unit.trim_end_matches('s').to_owned();
            let count = words[at - 1].trim_start_matches('(').to_owned();
            let is_count = !count.is_empty() && count.bytes().all(|byte| byte.is_ascii_digit());
            if is_count && ["second", "minute", "hour", "day", "d", "h"].contains(&unit.as_str()) {
                words[at - 1] = words[at - 1].replace(&count, "<n>");
                words[at] = words[at]
                    .replace(&format!("{unit}s"), &unit)
                    .replace(&unit, "<unit>");
            }
        }
        words.join(" ").trim_end().to_owned() + "\n"
    });
    lines.collect()
}

fn settled_word(word: &str) -> String {
    if let Some((before, arn)) = word.split_once("arn:aws") {
        let end = arn.find(['\'', '"', ',', ')']).unwrap_or(arn.len());
        return format!("{before}<arn>{}", &arn[end..]);
    }
    let core = word.trim_matches(|c: char| !c.is_ascii_alphanumeric());
    // `app/web/f2f7dc8e`
    if let Some((before, _)) = word.rsplit_once('/').filter(|(_, id)| is_short_id(id)) {
        return format!("{before}/<id>");
    }
    let digits = |text: &str| text.bytes().filter(u8::is_ascii_digit).count();
    let is_made_of = |signs: &str| {
        core.chars()
            .all(|c| c.is_ascii_digit() || signs.contains(c))
    };
    let name = match core {
        _ if core.starts_with("https://") || core.starts_with("http://") => "url",
        _ if core.len() == 20 && core.ends_with('Z') && digits(core) == 14 => "instant",
        _ if core.len() == 10 && digits(core) == 8 && is_made_of("-") => "day",
        _ if core.len() == 8 && digits(core) == 6 && is_made_of(":") => "second",
        _ if core.len() == 5 && digits(core) == 4 && is_made_of(":") => "minute",
        _ if digits(core) > 3 && core.matches('.').count() == 3 && is_made_of(".:") => "address",
        // The beginning of an ARN's identifier.
        _ if is_short_id(core) => "id",
        _ if core.len() >= 12 && core.bytes().all(|byte| byte.is_ascii_hexdigit()) => "serial",
        _ => return word.to_owned(),
    };
    word.replace(core, &format!("<{name}>"))
}

fn is_short_id(text: &str) -> bool {
    let is_hex = text.bytes().all(|byte| byte.is_ascii_hexdigit());
    text.len() == 8 && is_hex && text.bytes().any(|byte| byte.is_ascii_digit())
}

#[test]
fn what_differs_from_run_to_run_is_put_aside() {
    assert_eq!(
        settled(
            "serial 5a1c0f9e2b7d44aa, valid until 2026-03-04 (in 89 days)  at 09:20:44 UTC, 1 \
             order\n"
        ),
        "serial <serial>, valid until <day> (in <n> <unit>)  at <second> UTC, 1 order\n"
    );
    assert_eq!(
        settled("listener app/web/f2f7dc8e (eu-west-1) for certificate 6d0ecf83 (x)\n"),
        "listener app/web/<id> (eu-west-1) for certificate <id> (x)\n"
    );
}

//! The trace, line by line: a failure shows the last lines, a file can get all of them, and a hash
//! covers them.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::io::Write as _;

use time::OffsetDateTime;

/// The lines of one simulated world.
pub(crate) struct Trace {
    last: VecDeque<String>,
    hash: u64,
    lines: u64,
    whole: Option<std::io::BufWriter<std::fs::File>>,
}

impl Trace {
    /// Starts an empty trace; `whole` names a file that gets every line.
    pub(crate) fn new(whole: Option<&str>) -> Self {
        Self {
            last: VecDeque::with_capacity(SHOWN + 1),
            hash: 0xcbf2_9ce4_8422_2325,
            lines: 0,
            whole: whole.map(|path| std::io::BufWriter::new(std::fs::File::create(path).unwrap())),
        }
    }

    /// Adds a line.
    pub(crate) fn line(&mut self, at: OffsetDateTime, who: std::fmt::Arguments<'_>) {
        let mut line = if self.last.len() >= SHOWN {
            self.last.pop_front().unwrap_or_default()
        } else {
            String::with_capacity(160)
        };
        line.clear();
        let _ = write!(
            line,
            "{:04}-{:02}-{:02} {:02}:{:02}:{:02}.{:03} {who}",
            at.year(),
            u8::from(at.month()),
            at.day(),
            at.hour(),
            at.minute(),
            at.second(),
            at.millisecond()
        );
        if line.contains("arn:aws:") {
            line = shorten(&line);
        }
        for byte in line.bytes() {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        }
        self.lines += 1;
        if let Some(file) = &mut self.whole {
            let _ = writeln!(file, "{line}");
        }
        self.last.push_back(line);
    }

    /// Returns the hash of all lines: two equal runs have the same one.
    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    /// Returns the number of lines.
    pub(crate) fn lines(&self) -> u64 {
        self.lines
    }

    /// Returns the last lines.
    pub(crate) fn last(&self) -> String {
        let mut text = String::new();
        for line in &self.last {
            text.push_str("  ");
            text.push_str(line);
            text.push('\n');
        }
        text
    }
}

/// Shortens ARNs for readers: `certificate/12`, `listener/web0`.
pub(crate) fn shorten(line: &str) -> String {
    let mut short = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = rest.find("arn:aws:") {
        short.push_str(&rest[..at]);
        let arn = &rest[at..];
        let is_part = |c: char| c.is_ascii_alphanumeric() || ":/-".contains(c);
        let end = arn.find(|c| !is_part(c)).unwrap_or(arn.len());
        let (arn, after) = arn.split_at(end);
        let trimmed = arn.trim_end_matches(':');
        let region = trimmed.split(':').nth(3).unwrap_or_default();
        let id = trimmed.rsplit('/').next().unwrap_or_default();
        if trimmed.contains(":certificate/") {
            short.push_str("certificate/");
            let number = id.rsplit('-').next().unwrap_or_default();
            short.push_str(number.trim_start_matches('0'));
            if region != "eu-central-1" {
                short.push('@');
                short.push_str(region);
            }
        } else {
            short.push_str("listener/");
            short.push_str(trimmed.split('/').nth(2).unwrap_or_default());
        }
        short.push_str(&arn[trimmed.len()..]);
        rest = after;
    }
    short.push_str(rest);
    short
}

/// The number of lines that a failure shows.
const SHOWN: usize = 60;

/// Counts of events, by their words: a simulation without a fault proves nothing about faults.
#[derive(Default)]
pub(crate) struct Tally(BTreeMap<String, u64>);

impl Tally {
    /// Counts one event.
    pub(crate) fn count(&mut self, what: &str) {
        match self.0.get_mut(what) {
            Some(count) => *count += 1,
            None => {
                self.0.insert(what.to_owned(), 1);
            }
        }
    }

    /// Returns the count of these words.
    pub(crate) fn of(&self, what: &str) -> u64 {
        self.0.get(what).copied().unwrap_or_default()
    }

    /// Returns the sum of all counts whose words begin with this text.
    pub(crate) fn under(&self, prefix: &str) -> u64 {
        let below = self.0.range(prefix.to_owned()..);
        below
            .take_while(|(what, _)| what.starts_with(prefix))
            .map(|(_, count)| count)
            .sum()
    }

    /// Adds another tally to this one.
    pub(crate) fn add(&mut self, other: &Self) {
        for (what, count) in &other.0 {
            *self.0.entry(what.clone()).or_default() += count;
        }
    }

    /// Returns all counts as lines.
    pub(crate) fn table(&self) -> String {
        let lines = self.0.iter();
        lines
            .map(|(what, count)| format!("{count:>9} {what}\n"))
            .collect()
    }
}

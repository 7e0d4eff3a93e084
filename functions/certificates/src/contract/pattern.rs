//! Which names and targets documents may ask for.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::contract::strict::Invalid;
use crate::values::names::{self, DnsName, quoted};
use crate::values::wildcard::fits_stars;

/// A text in which `*` matches any run of characters, also an empty one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pattern(String);

impl Pattern {
    /// Returns whether the whole of `text` matches.
    pub fn matches(&self, text: &str) -> bool {
        fits_stars(&self.0, text)
    }
}

fn permits(patterns: Option<&[Pattern]>, text: &str) -> bool {
    patterns.is_none_or(|patterns| patterns.iter().any(|pattern| pattern.matches(text)))
}

/// Returns the pattern with its international labels as A-labels, the form in which names are
/// matched.
fn domain_pattern(field: &str, text: &str) -> Result<Pattern, Invalid> {
    if text.is_empty() {
        return Err(empty_pattern(field));
    }
    let labels = text
        .split('.')
        .map(|label| match label.is_ascii() {
            true => Some(label.to_ascii_lowercase()),
            false if label.contains('*') => None,
            false => names::a_label(label),
        })
        .collect::<Option<Vec<_>>>();
    let Some(labels) = labels else {
        return Err(Invalid::at(
            field,
            format!(
                "{} mixes * with international letters, or holds letters no name has: write the \
                 label in its xn-- form",
                quoted(text)
            ),
        ));
    };
    Ok(Pattern(labels.join(".")))
}

fn empty_pattern(field: impl Into<String>) -> Invalid {
    Invalid::at(
        field,
        "is empty and fits nothing: write a pattern, or remove it",
    )
}

fn arn_patterns(
    field: &str,
    written: Option<Vec<String>>,
) -> Result<Option<Vec<Pattern>>, Invalid> {
    let patterns = written.map(|patterns| {
        patterns
            .into_iter()
            .enumerate()
            .map(|(index, text)| match text.is_empty() {
                true => Err(empty_pattern(format!("{field}[{index}]"))),
                false => Ok(Pattern(text)),
            })
            .collect()
    });
    patterns.transpose()
}

/// Which names and targets documents may ask for. `None` permits anything, an empty list nothing.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Permit {
    /// Patterns of DNS names, matched against A-labels in lower case.
    pub domains: Option<Vec<Pattern>>,
    /// Patterns of ARNs. A listener is matched by its ARN, a `certificateManager` target by
    /// `arn:aws:acm:<region>:<account>:certificate/*`, with `*` for a region or account that is not
    /// given.
    pub targets: Option<Vec<Pattern>>,
    /// Patterns of the ARNs of certificates that documents may take over from (`supersedes`).
    pub supersedes: Option<Vec<Pattern>>,
}

impl Permit {
    /// Returns whether a document may ask for `name`.
    pub fn permits_domain(&self, name: &DnsName) -> bool {
        permits(self.domains.as_deref(), name.as_str())
    }

    /// Returns whether a document may ask for the target that `arn` describes.
    pub fn permits_target(&self, arn: &str) -> bool {
        permits(self.targets.as_deref(), arn)
    }

    /// Returns whether a document may take over from the certificate of this ARN. Without patterns:
    /// from any certificate if nothing else is restricted, from none otherwise.
    pub fn permits_superseding(&self, arn: &str) -> bool {
        let is_restricted = self.domains.is_some() || self.targets.is_some();
        match &self.supersedes {
            None => !is_restricted,
            patterns => permits(patterns.as_deref(), arn),
        }
    }

    pub(crate) fn check(document: PermitDocument) -> Result<Self, Invalid> {
        let domains = document.domains.map(|patterns| {
            patterns
                .iter()
                .enumerate()
                .map(|(index, text)| domain_pattern(&format!("permit.domains[{index}]"), text))
                .collect::<Result<Vec<_>, _>>()
        });
        Ok(Self {
            domains: domains.transpose()?,
            targets: arn_patterns("permit.targets", document.targets)?,
            supersedes: arn_patterns("permit.supersedes", document.supersedes)?,
        })
    }
}

/// Which names and targets documents may ask for.
#[derive(Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
#[schemars(rename = "Permit")]
pub(crate) struct PermitDocument {
    /// Patterns of names; * matches any run of characters, and letter case does not matter. null
    /// permits any name, an empty list none.
    #[schemars(inner(length(min = 1)))]
    domains: Option<Vec<String>>,
    /// Patterns of ARNs; * matches any run of characters. A listener is matched by its ARN. A
    /// certificateManager target is matched by `arn:aws:acm:<region>:<account>:certificate/*`,
    /// where * is a region or account that the target leaves out. null permits any target, an empty
    /// list none.
    #[schemars(inner(length(min = 1)))]
    targets: Option<Vec<String>>,
    /// Patterns of the ARNs of certificates that documents may take over from (`supersedes`); *
    /// matches any run of characters. Left out or null: any certificate if nothing else is
    /// restricted here, else none.
    #[schemars(inner(length(min = 1)))]
    supersedes: Option<Vec<String>>,
}

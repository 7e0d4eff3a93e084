//! Pure: whether a document's word (what it says) counts yet (rule 12).
//!
//! A word counts once a leaf for exactly this document is issued. Until then the present leaf stays
//! where it is, and so do the certificates that it replaced.

use std::borrow::Cow;

use crate::contract::certificate::Wanted;
use crate::contract::report::TargetState;
use crate::contract::target::Target;
use crate::records::certificate::IssuedCertificate;
use crate::records::state::State;
use crate::values::names::DnsName;

impl State {
    /// Whether the current certificate is one for exactly this document.
    ///
    /// `directories` are those of the document's authorities. A changed profile waits for the next
    /// renewal, so it does not count here.
    pub(crate) fn is_for(&self, wanted: &Wanted, directories: &[&str]) -> bool {
        self.certificate.as_ref().is_some_and(|held| {
            held.key_type == wanted.key_type
                && directories.contains(&held.directory.as_str())
                && self.names_fit(held, wanted)
        })
    }

    /// Whether the names are those of the document. If the document allows that, names that made
    /// the order fail may be missing.
    fn names_fit(&self, held: &IssuedCertificate, wanted: &Wanted) -> bool {
        let stood_in_the_way = |name: &&DnsName| self.orders.missing.contains_key(*name);
        let mut lacking = (wanted.domains.iter()).filter(|name| !held.domains.contains(name));
        match wanted.partial {
            true => {
                let issued_for = self.in_force.as_ref().map(|word| &word.domains);
                let is_whole = held.domains == wanted.domains;
                (is_whole || issued_for == Some(&wanted.domains))
                    && held
                        .domains
                        .iter()
                        .all(|name| wanted.domains.contains(name))
                    && lacking.all(|name| stood_in_the_way(&name))
            }
            false => held.domains == wanted.domains,
        }
    }

    /// The names that are in force for a document.
    pub(crate) fn names_in_force<'s>(&'s self, wanted: &'s Wanted) -> &'s [DnsName] {
        let word = self.in_force.as_ref();
        word.map_or(&wanted.domains, |word| &word.domains)
    }

    /// Returns what is in force for a document: what it says now if its word counts, else what it
    /// said when its last leaf was issued.
    pub(crate) fn in_force<'w>(
        &self,
        wanted: &'w Wanted,
        directories: &[&str],
        home: &str,
    ) -> Cow<'w, Wanted> {
        if self.certificate.is_none() || self.is_for(wanted, directories) {
            return Cow::Borrowed(wanted);
        }
        let (targets, mut supersedes) = match &self.in_force {
            Some(word) => (word.targets.clone(), word.supersedes.clone()),
            // An older record does not say it: the certificate stays on the targets that hold it.
            None => (self.targets_held(wanted, home), Vec::new()),
        };
        // A certificate that the document no longer supersedes is not taken off.
        supersedes.retain(|arn| wanted.supersedes.contains(arn));
        Cow::Owned(Wanted {
            targets,
            supersedes,
            ..wanted.clone()
        })
    }

    /// Returns the targets that hold ours, for a record that does not say what the document wanted
    /// there.
    fn targets_held(&self, wanted: &Wanted, home: &str) -> Vec<Target> {
        let held = self.deployment.targets.iter().filter(|target| {
            target.certificate_arn.is_some() && target.state != TargetState::Detached
        });
        held.filter_map(|record| {
            let asked = wanted
                .targets
                .iter()
                .find(|target| target.id(self, home) == record.id);
            match asked {
                Some(target) => Some(target.beside_others()),
                None => Target::of_record(record.kind, &record.id),
            }
        })
        .collect()
    }

    /// Says what ended a rollback; `None` if it was not the document.
    pub(crate) fn rollback_ended_by(&self) -> Option<String> {
        let back = self.previous.rolled_back.as_ref()?;
        if self.held_back().is_some() {
            return None;
        }
        let says = self.says.as_ref()?;
        let changed = match &back.word {
            Some(word) => word.changed(says).join(", "),
            None => "its text".to_owned(),
        };
        let from = &back.from;
        Some(format!(
            "the document changed ({changed}), which ends the rollback from {from}"
        ))
    }
}

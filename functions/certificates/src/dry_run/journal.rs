//! The calls that a pass would make, in order.

use std::cell::{Cell, RefCell};

use serde::Serialize;
use time::OffsetDateTime;

use crate::values::names::CertificateName;

/// A call that changes something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Call {
    /// `s3`, `acme`, `acm` or `elbv2`.
    pub service: &'static str,
    /// The service's own name of the call. For an authority: the resource of RFC 8555 section 7.1.
    pub operation: &'static str,
    /// The object of the call. A part that is unknown before the call is in angle brackets:
    /// `challenges/<token of shop.example.com>`.
    pub resource: String,
}

/// The calls of the current certificate.
pub(super) struct Journal {
    /// The simulated time of the plan.
    pub(super) at: OffsetDateTime,
    calls: RefCell<Vec<Call>>,
    stand_ins: RefCell<Vec<(String, String)>>,
    certificate: RefCell<Option<CertificateName>>,
    made: Cell<u32>,
}

impl Journal {
    pub(super) fn new(at: OffsetDateTime) -> Self {
        Self {
            at,
            calls: RefCell::default(),
            stand_ins: RefCell::default(),
            certificate: RefCell::default(),
            made: Cell::default(),
        }
    }

    /// Makes this the current certificate.
    pub(super) fn turn_to(&self, certificate: Option<CertificateName>) {
        *self.certificate.borrow_mut() = certificate;
    }

    /// Returns the current certificate.
    pub(super) fn certificate(&self) -> Option<CertificateName> {
        self.certificate.borrow().clone()
    }

    pub(super) fn record(&self, service: &'static str, operation: &'static str, resource: &str) {
        let resource = self.shown(resource);
        self.calls.borrow_mut().push(Call {
            service,
            operation,
            resource,
        });
    }

    /// Returns the calls since the last time, and forgets them.
    pub(super) fn take(&self) -> Vec<Call> {
        self.calls.take()
    }

    /// Returns a number that no other made-up thing has.
    pub(super) fn next(&self) -> u32 {
        self.made.set(self.made.get() + 1);
        self.made.get()
    }

    /// Sets the text that replaces a made-up value.
    pub(super) fn show(&self, made_up: &str, shown: String) {
        let mut stand_ins = self.stand_ins.borrow_mut();
        if !stand_ins.iter().any(|(known, _)| known == made_up) {
            stand_ins.push((made_up.to_owned(), shown));
        }
    }

    /// Returns a text in which made-up values are replaced.
    pub(super) fn shown(&self, text: &str) -> String {
        let stand_ins = self.stand_ins.borrow();
        let made_up = stand_ins
            .iter()
            .filter(|(made_up, _)| text.contains(made_up));
        made_up.fold(text.to_owned(), |text, (made_up, shown)| {
            text.replace(made_up, shown)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_made_up_is_shown_as_what_it_stands_for() {
        let journal = Journal::new(OffsetDateTime::UNIX_EPOCH);
        journal.show("planned-token-1", "<token of a.example.com>".to_owned());
        journal.record("s3", "PutObject", "challenges/planned-token-1");
        let [call] = journal.take().try_into().unwrap();
        assert_eq!(call.resource, "challenges/<token of a.example.com>");
        assert_eq!(journal.take(), []);
    }
}

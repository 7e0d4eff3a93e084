//! The port to the ways of validation: how control over a name is shown. Only [`http_01`] knows the
//! challenge of its way.
//!
//! A new way is a variant here and a file beside that one. It records each file or record before it
//! creates it (rule 2). It checks whether the authority would see it (rule 9). It cleans up by what
//! it recorded, also in a later pass.

mod http_01;

use time::OffsetDateTime;

use crate::life::order::validation::http_01::File;
use crate::life::work::Work;
use crate::pass::stop::Stop;
use crate::ports::Ports;
use crate::ports::authority::Authorization;
use crate::records::state::{AskedFor, Leftovers};
use crate::values::names::DnsName;
use crate::values::problem::{AcmeError, Problem, UNSPECIFIED};

/// What an authority must see for a name, by the way of validation.
pub(super) enum Challenge {
    /// A file on the name's own host.
    Http01(File),
}

impl Challenge {
    /// Chooses the challenge by which a name is validated.
    pub(super) fn of(name: DnsName, authorization: Authorization) -> Result<Self, Problem> {
        File::of(name, authorization).map(Self::Http01)
    }

    pub(super) fn name(&self) -> &DnsName {
        match self {
            Self::Http01(file) => &file.name,
        }
    }
}

impl<P: Ports> Work<'_, '_, P> {
    /// Prepares what the authority must see. What can be left of it is recorded before it is
    /// created.
    pub(super) async fn prepare(&mut self, challenges: &[Challenge]) -> Result<(), Stop> {
        for challenge in challenges {
            match challenge {
                Challenge::Http01(file) => file.remember(&mut self.state.leftovers),
            }
        }
        self.note("presenting", names_of(challenges));
        self.save().await?;
        self.put_files(&files(challenges)).await
    }

    /// Checks whether the authority would see what was prepared (rule 9).
    pub(super) async fn see_for_ourselves(&mut self, challenges: &[Challenge]) -> Result<(), Stop> {
        self.fetch_files(&files(challenges)).await
    }
}

fn files(challenges: &[Challenge]) -> Vec<&File> {
    let files = challenges.iter().map(|challenge| match challenge {
        Challenge::Http01(file) => file,
    });
    files.collect()
}

/// Returns the names of challenges, as the history lists them.
pub(super) fn names_of(challenges: &[Challenge]) -> String {
    let names: Vec<&str> = challenges.iter().map(|it| it.name().as_str()).collect();
    names.join(", ")
}

/// Returns the error of an authorization's challenge.
pub(super) fn error_in(authorization: &Authorization) -> Option<&AcmeError> {
    http_01::error_in(authorization)
}

/// Returns why an authorization failed; `None` where it has not failed.
pub(super) fn failure_of(authorization: &Authorization) -> Option<AcmeError> {
    let unexplained = || AcmeError {
        kind: UNSPECIFIED.to_owned(),
        detail: "the authority holds its authorization for failed and does not say why".to_owned(),
        status: None,
        retry_after: None,
        unconnected: false,
    };
    match (error_in(authorization), authorization.has_failed()) {
        (Some(error), true) => Some(error.clone()),
        (None, true) => Some(unexplained()),
        // The error of a try that the authority repeats.
        (_, false) => None,
    }
}

/// Keeps what the authority may still ask for: it is validating this authorization.
pub(super) fn keep(authorization: &Authorization, leftovers: &mut Leftovers, until: AskedFor) {
    http_01::keep(authorization, leftovers, until);
}

/// Keeps all that was prepared for a while: the authority may be validating any of it.
pub(super) fn keep_all(leftovers: &mut Leftovers, until: AskedFor) {
    http_01::keep_all(leftovers, until);
}

/// Returns the objects that no authority asks for any more, and the leftovers without them.
pub(super) fn not_asked_for(
    leftovers: &Leftovers,
    now: OffsetDateTime,
) -> (Vec<String>, Leftovers) {
    http_01::not_asked_for(leftovers, now)
}

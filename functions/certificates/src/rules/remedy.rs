//! Pure: the next command to try, for a person who reads of a problem.

use crate::values::names::CertificateName;
use crate::values::problem::Problem;
use crate::values::problem_types::{ProblemType, Retry};

/// Returns the command that helps most with a problem of a certificate; `None` if no command is
/// needed. Also `None` for an invalid name: people copy the command, and such a name could add text
/// of an attacker to it.
pub fn command(problem: &Problem, name: &str) -> Option<String> {
    let is = |problem_type: ProblemType| problem.kind == Problem::kind_of(problem_type);
    let any = |of: &[ProblemType]| of.iter().any(|problem_type| is(*problem_type));
    let about_it = |verb: &str| {
        let name: CertificateName = name.parse().ok()?;
        Some(format!("certloop {verb} {name}"))
    };
    if any(&PATH) || AUTHORITY_ABOUT_NAMES.contains(&problem.word()) {
        about_it("check")
    } else if any(&DOCUMENT) || AUTHORITY_ABOUT_DOCUMENT.contains(&problem.word()) {
        about_it("edit")
    } else if any(&INSTALLATION) {
        Some("certloop doctor".to_owned())
    } else if is(ProblemType::ListenerFull) {
        Some("certloop status --unmanaged".to_owned())
    } else if is(ProblemType::Revoked) && problem.detail.contains("while it is paused") {
        about_it("resume")
    } else if is(ProblemType::Revoked) {
        about_it("renew").map(|command| command + " --force")
    } else if is(ProblemType::UnknownCertificate) {
        Some("certloop status".to_owned())
    } else if any(&DEPLOYMENT) || problem.retry == Retry::Person {
        about_it("history")
    } else {
        None
    }
}

/// Problems on the way from the authority to the challenge function.
const PATH: [ProblemType; 5] = [
    ProblemType::CaaForbids,
    ProblemType::ChallengePath,
    ProblemType::NamesMissing,
    ProblemType::SelfCheck,
    ProblemType::SelfCheckUnreachable,
];
/// Problems that a change of the document solves.
const DOCUMENT: [ProblemType; 9] = [
    ProblemType::ArnWouldChange,
    ProblemType::Contended,
    ProblemType::InvalidDocument,
    ProblemType::ListenerGone,
    ProblemType::ListenerNotHttps,
    ProblemType::ListenerNotMade,
    ProblemType::NoChallenge,
    ProblemType::Supersedes,
    ProblemType::Untrusted,
];
/// Problems of more than one certificate.
const INSTALLATION: [ProblemType; 9] = [
    ProblemType::AccountKey,
    ProblemType::AccountRefused,
    ProblemType::ExternalAccount,
    ProblemType::Record,
    ProblemType::Settings,
    ProblemType::SettingsMissing,
    ProblemType::State,
    ProblemType::Store,
    ProblemType::StoreDenied,
];
/// Problems on the targets: the certificate's history has the details.
const DEPLOYMENT: [ProblemType; 6] = [
    ProblemType::CertificateManager,
    ProblemType::Import,
    ProblemType::LoadBalancer,
    ProblemType::NotListed,
    ProblemType::StillDefault,
    ProblemType::Unproved,
];
const AUTHORITY_ABOUT_NAMES: [&str; 6] = [
    "caa",
    "connection",
    "dns",
    "incorrectResponse",
    "tls",
    "unauthorized",
];
const AUTHORITY_ABOUT_DOCUMENT: [&str; 5] = [
    "badCSR",
    "badPublicKey",
    "invalidProfile",
    "rejectedIdentifier",
    "unsupportedIdentifier",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_is_always_told_what_to_type() {
        for problem_type in ProblemType::ALL {
            let problem = Problem::ours(*problem_type, "");
            if problem.retry == Retry::Person {
                assert!(command(&problem, "shop").is_some(), "{}", problem.kind);
            }
        }
    }

    #[test]
    fn a_name_that_is_none_gets_into_no_command() {
        let problem = Problem::ours(ProblemType::InvalidDocument, "");
        assert_eq!(command(&problem, "x; rm -rf ~"), None);
    }

    #[test]
    fn the_command_fits_the_problem() {
        let of = |kind: &str, retry| {
            let problem = Problem {
                kind: kind.to_owned(),
                detail: String::new(),
                retry,
            };
            command(&problem, "shop")
        };
        for (kind, retry, wanted) in [
            (
                "certloop:challengePath",
                Retry::Person,
                Some("certloop check shop"),
            ),
            (
                "urn:ietf:params:acme:error:dns",
                Retry::Soon,
                Some("certloop check shop"),
            ),
            (
                "certloop:listenerFull",
                Retry::Person,
                Some("certloop status --unmanaged"),
            ),
            (
                "certloop:storeDenied",
                Retry::Person,
                Some("certloop doctor"),
            ),
            (
                "urn:ietf:params:acme:error:serverInternal",
                Retry::Soon,
                None,
            ),
            ("certloop:limit", Retry::At, None),
        ] {
            assert_eq!(of(kind, retry).as_deref(), wanted, "{kind}");
        }
    }
}

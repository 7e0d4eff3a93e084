//! The class of every problem; no other place decides it. The problem type decides first, the HTTP
//! status second. Everything here is pure.
//!
//! `events/README.md` shows these tables to readers; a test keeps the two equal.

use serde::{Deserialize, Serialize};

/// When a new attempt makes sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Retry {
    /// After our own waits: 1, 10, 100 minutes, then daily.
    Soon,
    /// Not before the instant that the other side named.
    At,
    /// A person must act. We still look again, after our own waits.
    Person,
    /// Not as things are now: only another document or build helps.
    Never,
}

macro_rules! ours {
    ($($(#[doc = $doc:literal])+ $word:literal $name:ident $retry:ident;)+) => {
        /// The problems that certloop itself finds: `certloop:<word>`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum ProblemType {
            $($(#[doc = $doc])+ $name,)+
        }

        impl ProblemType {
            /// All of them, by word.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// Returns the word after `certloop:`.
            pub fn word(self) -> &'static str {
                match self {
                    $(Self::$name => $word,)+
                }
            }

            /// Returns its class: when to try again.
            pub fn retry(self) -> Retry {
                match self {
                    $(Self::$name => Retry::$retry,)+
                }
            }

            /// Returns its meaning, as the documentation has it.
            pub fn meaning(self) -> &'static str {
                match self {
                    $(Self::$name => concat!($($doc,)+).trim_ascii(),)+
                }
            }
        }
    };
}

ours! {
    /// Other invocations keep changing the account's record.
    "account" Account Soon;
    /// The stored account key cannot be used: restore the object. certloop never makes another
    /// account in its place.
    "accountKey" AccountKey Person;
    /// The authority refuses requests of the account, which it may have deactivated. The detail
    /// says what to do.
    "accountRefused" AccountRefused Person;
    /// Other services use the ARN, and the certificate manager does not accept the new certificate
    /// under it.
    "arnWouldChange" ArnWouldChange Person;
    /// The authority gave no answer, or an answer that is not ACME: no connection, a stall, an
    /// error page.
    "authority" Authority Soon;
    /// The CAA records of a name forbid the authority, the account or this validation method; the
    /// detail says which record to change.
    "caaForbids" CaaForbids Person;
    /// A call to the certificate manager failed.
    "certificateManager" CertificateManager Soon;
    /// The issued chain cannot be used; certloop orders another.
    "chain" Chain Soon;
    /// The next challenge would get no answer; the detail says what is in front of it, and the
    /// command that repairs it.
    "challengePath" ChallengePath Person;
    /// Another document wants the same place on a listener and has it: the default, or a name with
    /// the same key type. The detail names both.
    "contended" Contended Person;
    /// There is already another document of this name; say `"replace": true`.
    "documentExists" DocumentExists Never;
    /// The secret of the external account cannot be read or is not a key.
    "externalAccount" ExternalAccount Person;
    /// An import failed.
    "import" Import Soon;
    /// The document is not valid; the detail names the field.
    "invalidDocument" InvalidDocument Never;
    /// certloop could not make a private key.
    "key" Key Soon;
    /// The key of an issued certificate is missing; certloop orders another certificate.
    "keyLost" KeyLost Soon;
    /// A limit allows nothing more for now: the detail says which, and until when.
    "limit" Limit At;
    /// The listener's certificate list is full. certloop removes nothing to make room.
    "listenerFull" ListenerFull Person;
    /// The listener does not exist.
    "listenerGone" ListenerGone Person;
    /// The listener cannot hold certificates: it is not HTTPS.
    "listenerNotHttps" ListenerNotHttps Person;
    /// The load balancer refuses to create the listener.
    "listenerNotMade" ListenerNotMade Person;
    /// A call to the load balancer failed.
    "loadBalancer" LoadBalancer Soon;
    /// Names cannot be validated and are left out of the certificate (`partial`). certloop tries
    /// them again on their own schedule.
    "namesMissing" NamesMissing Soon;
    /// There is no certificate to revoke, or it is not clear which one is served: the detail says
    /// why.
    "noCertificate" NoCertificate Never;
    /// The authority offers no challenge that certloop can answer.
    "noChallenge" NoChallenge Person;
    /// There is no earlier certificate to go back to.
    "noPrevious" NoPrevious Never;
    /// A listener does not list a certificate that it accepted; certloop removed nothing.
    "notListed" NotListed Soon;
    /// The order ended, or makes no progress, and the authority does not say why.
    "order" Order Soon;
    /// There is a certificate but no document any more: it is served and not renewed.
    "orphan" Orphan Person;
    /// The authority does not offer the profile.
    "profile" Profile Person;
    /// The authority's answer violates RFC 8555.
    "protocol" Protocol Person;
    /// An object of the bucket cannot be read, or a newer build wrote it: certloop does not
    /// overwrite it. Or the bucket may be an older copy; the detail says what speaks for that.
    "record" Record Person;
    /// The served certificate was revoked and has no replacement yet: the detail says why.
    "revoked" Revoked Person;
    /// Our own fetch of a challenge got another answer.
    "selfCheck" SelfCheck Soon;
    /// Our own fetch of a challenge could not connect. This blocks only one attempt.
    "selfCheckUnreachable" SelfCheckUnreachable Soon;
    /// The settings are not valid; the detail names the field.
    "settings" Settings Person;
    /// There are no settings.
    "settingsMissing" SettingsMissing Person;
    /// The certificate's state cannot be read, or a newer build wrote it. certloop does not
    /// overwrite it.
    "state" State Person;
    /// The removed certificate is still a listener's default. A listener must have one, so a person
    /// must choose another.
    "stillDefault" StillDefault Person;
    /// The bucket did not answer, or other writers kept changing the object.
    "store" Store Soon;
    /// The bucket refuses: the bucket or a permission is missing.
    "storeDenied" StoreDenied Person;
    /// A certificate that the document supersedes stays on the listener: without it visitors would
    /// lose names. The detail says which.
    "supersedes" Supersedes Person;
    /// A certificate of certloop lost its tags, so certloop imports nothing over it; the detail has
    /// the command that restores them.
    "tagsLost" TagsLost Person;
    /// There is no such document.
    "unknownCertificate" UnknownCertificate Never;
    /// Clients get another certificate than the deployed one; certloop restored the one that was
    /// served before.
    "unproved" Unproved Soon;
    /// Public clients do not trust the authority of a served certificate, and the settings do not
    /// say that it is private.
    "untrusted" Untrusted Person;
    /// The vault does not hold the certificate, or not its key; certloop orders another.
    "vaultEntryLost" VaultEntryLost Soon;
}

/// The problem types of authorities (RFC 8555 section 6.7, RFC 9773 section 5, profiles) with their
/// class and the remedy. The HTTP status decides for every other type.
pub const AUTHORITY: &[(&str, Retry, &str)] = &[
    (
        "accountDoesNotExist",
        Retry::Person,
        "The authority no longer knows the account. certloop makes no new one by itself: restore \
         `accounts/`, or delete the object there to start with a new account.",
    ),
    (
        "alreadyReplaced",
        Retry::Soon,
        "certloop orders once more without `replaces`, at once.",
    ),
    ("alreadyRevoked", Retry::Never, "It was revoked before."),
    (
        "badCSR",
        Retry::Person,
        "The authority does not accept such a request; see the key type and the names.",
    ),
    (
        "badNonce",
        Retry::Soon,
        "certloop repeats the request at once with the new nonce, a few times.",
    ),
    ("badPublicKey", Retry::Person, "Choose another key type."),
    ("badRevocationReason", Retry::Never, "Give another reason."),
    (
        "badSignatureAlgorithm",
        Retry::Person,
        "The authority does not accept the account's key.",
    ),
    (
        "caa",
        Retry::Person,
        "The name's CAA records forbid this authority or account.",
    ),
    (
        "compound",
        Retry::Soon,
        "Several problems at once; the detail has each.",
    ),
    (
        "connection",
        Retry::Soon,
        "The authority could not reach the name on port 80.",
    ),
    ("dns", Retry::Soon, "The name did not resolve."),
    (
        "externalAccountRequired",
        Retry::Person,
        "Set `externalAccount` at the authority in the settings.",
    ),
    (
        "incorrectResponse",
        Retry::Soon,
        "The challenge path gave another answer.",
    ),
    (
        "invalidContact",
        Retry::Person,
        "Change `contact` at the authority in the settings.",
    ),
    (
        "invalidProfile",
        Retry::Person,
        "Name a profile that the directory offers.",
    ),
    (
        "malformed",
        Retry::Person,
        "The authority does not accept the request; the detail says why.",
    ),
    (
        "orderNotReady",
        Retry::Soon,
        "certloop reads the order again.",
    ),
    (
        "rateLimited",
        Retry::At,
        "certloop sends nothing before the time of its Retry-After. Without one, the class is \
         `person` if the detail has a link, which a person must open. Otherwise it is `soon`.",
    ),
    (
        "rejectedIdentifier",
        Retry::Person,
        "The authority does not issue for this name.",
    ),
    ("serverInternal", Retry::Soon, "A fault of the authority."),
    (
        "tls",
        Retry::Soon,
        "A redirect led to a TLS server that failed.",
    ),
    (
        "unauthorized",
        Retry::Soon,
        "The challenge path did not give the expected answer, or the account may not do this.",
    ),
    (
        "unsupportedContact",
        Retry::Person,
        "Change `contact` at the authority in the settings.",
    ),
    (
        "unsupportedIdentifier",
        Retry::Person,
        "The authority does not issue for this kind of name.",
    ),
    (
        "userActionRequired",
        Retry::Person,
        "Open the link in the detail, often new terms of service.",
    ),
];

/// What an HTTP status means where the problem type is unknown.
pub const BY_STATUS: &[(&str, Retry, &str)] = &[
    (
        "429 or 503 with Retry-After",
        Retry::At,
        "certloop tries nothing before that time.",
    ),
    (
        "any other with Retry-After",
        Retry::At,
        "certloop tries nothing before that time.",
    ),
    (
        "429 with a link and without Retry-After",
        Retry::Person,
        "A person must open the link.",
    ),
    ("5xx, JSON or not", Retry::Soon, "A fault of the authority."),
    (
        "4xx",
        Retry::Soon,
        "Something in front of the authority, or an unknown type.",
    ),
    (
        "no answer",
        Retry::Soon,
        "No address, no connection, no TLS, a stall, or a closed connection.",
    ),
];

/// The error codes of AWS that do not go away without help; all others are `soon`.
pub const AWS: &[(&[&str], Retry, &str)] = &[
    (
        &[
            "AccessDenied",
            "AccessDeniedException",
            "UnauthorizedOperation",
            "UnrecognizedClientException",
        ],
        Retry::Person,
        "give the function's role this permission",
    ),
    (
        &["LimitExceededException"],
        Retry::Person,
        "ask for a higher quota or delete what is unused",
    ),
    (
        &[
            "InvalidTagException",
            "TagPolicyException",
            "TooManyTagsException",
        ],
        Retry::Person,
        "change the document's tags",
    ),
];

#[cfg(test)]
mod tests {
    use time::OffsetDateTime;

    use super::*;
    use crate::values::problem::{AcmeError, URN, of_acme, of_aws};

    fn refusal(word: &str, detail: &str, status: u16, retry_after: bool) -> AcmeError {
        AcmeError {
            kind: if word.contains(':') {
                word.to_owned()
            } else {
                format!("{URN}{word}")
            },
            detail: detail.to_owned(),
            status: (status > 0).then_some(status),
            retry_after: retry_after.then_some(OffsetDateTime::UNIX_EPOCH),
            unconnected: false,
        }
    }

    #[test]
    fn the_type_speaks_before_the_status() {
        let link = "paused: see https://portal.example.com/unpause";
        for (word, detail, status, retry_after, class) in [
            ("rateLimited", "too many", 429, true, Retry::At),
            ("rateLimited", link, 429, true, Retry::At),
            ("rateLimited", link, 429, false, Retry::Person),
            ("rateLimited", "too many", 429, false, Retry::Soon),
            ("certloop:authority", link, 429, false, Retry::Person),
            ("certloop:authority", "", 503, true, Retry::At),
            ("certloop:authority", "", 503, false, Retry::Soon),
            ("certloop:authority", "", 502, false, Retry::Soon),
            ("certloop:authority", "", 403, false, Retry::Soon),
            ("certloop:authority", "", 0, false, Retry::Soon),
            ("certloop:accountKey", "", 0, false, Retry::Person),
            ("serverInternal", "", 500, false, Retry::Soon),
            ("serverInternal", "", 500, true, Retry::At),
            ("rejectedIdentifier", "blocked", 400, false, Retry::Person),
            ("rejectedIdentifier", "blocked", 503, true, Retry::Person),
            ("accountDoesNotExist", "", 400, false, Retry::Person),
            ("unknownToAll", "", 400, false, Retry::Soon),
        ] {
            let told = refusal(word, detail, status, retry_after);
            assert_eq!(of_acme(&told), class, "{word} {status} {retry_after}");
        }
    }

    #[test]
    fn each_documented_status_is_judged_so() {
        let link = "see https://portal.example.com/unpause";
        let samples = [
            vec![("", 429, true), ("", 503, true)],
            vec![("", 500, true), ("", 403, true)],
            vec![(link, 429, false)],
            vec![("", 500, false), ("", 502, false)],
            vec![("", 403, false), ("", 404, false), ("", 429, false)],
            vec![("", 0, false)],
        ];
        assert_eq!(samples.len(), BY_STATUS.len());
        for (samples, (status, class, _)) in samples.iter().zip(BY_STATUS) {
            for (detail, code, retry_after) in samples {
                let told = refusal("certloop:authority", detail, *code, *retry_after);
                assert_eq!(of_acme(&told), *class, "{status}: {code}");
            }
        }
    }

    #[test]
    fn each_documented_type_is_judged_so() {
        for (word, class, _) in AUTHORITY {
            let told = refusal(word, "no", 400, *word == "rateLimited");
            assert_eq!(of_acme(&told), *class, "{word}");
        }
    }

    #[test]
    fn aws_says_what_does_not_pass() {
        assert_eq!(
            of_aws(ProblemType::Import, Some("ThrottlingException")).0,
            Retry::Soon
        );
        assert_eq!(of_aws(ProblemType::Import, None).0, Retry::Soon);
        assert_eq!(
            of_aws(ProblemType::Import, Some("LimitExceededException")).0,
            Retry::Person
        );
        assert_eq!(
            of_aws(ProblemType::ExternalAccount, Some("InternalServiceError")).0,
            Retry::Person
        );
    }

    fn class(retry: Retry) -> String {
        format!("{retry:?}").to_lowercase()
    }

    fn tables() -> String {
        let row = |first: String, retry: Retry, meaning: &str| {
            format!("| {first} | {} | {} |\n", class(retry), meaning.trim())
        };
        let mut text = String::from(
            "| an authority's type (`urn:ietf:params:acme:error:`) | class | |\n|---|---|---|\n",
        );
        for (word, retry, meaning) in AUTHORITY {
            text += &row(format!("`{word}`"), *retry, meaning);
        }
        text += "\n| no type that is known | class | |\n|---|---|---|\n";
        for (status, retry, meaning) in BY_STATUS {
            text += &row((*status).to_owned(), *retry, meaning);
        }
        text += "\n| ours (`certloop:`) | class | |\n|---|---|---|\n";
        for problem_type in ProblemType::ALL {
            text += &row(
                format!("`{}`", problem_type.word()),
                problem_type.retry(),
                problem_type.meaning(),
            );
        }
        text += "\n| AWS's error code | class | |\n|---|---|---|\n";
        for (codes, retry, remedy) in AWS {
            let codes: Vec<String> = codes.iter().map(|code| format!("`{code}`")).collect();
            text += &row(codes.join(", "), *retry, remedy);
        }
        text += &row(
            "any other".to_owned(),
            Retry::Soon,
            "the class of the problem it is part of, above",
        );
        text
    }

    #[test]
    fn the_documented_classes_are_these() {
        const BEGIN: &str = "<!-- classes: begin -->\n";
        const END: &str = "<!-- classes: end -->";
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../events/README.md");
        let text = std::fs::read_to_string(path).unwrap();
        let (before, rest) = text.split_once(BEGIN).unwrap();
        let (written, after) = rest.split_once(END).unwrap();
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(path, format!("{before}{BEGIN}{}{END}{after}", tables())).unwrap();
            return;
        }
        assert!(
            written == tables(),
            "events/README.md is out of date: UPDATE_DOCS=1 cargo test --release --workspace \
             the_documented_classes"
        );
    }

    #[test]
    fn words_are_unique_and_in_order() {
        let words: Vec<&str> = ProblemType::ALL
            .iter()
            .map(|problem_type| problem_type.word())
            .collect();
        assert!(words.is_sorted() && AUTHORITY.is_sorted_by_key(|(word, ..)| word));
    }
}

//! Pure: which class a problem is of, decided here and nowhere else. The problem type speaks first, the HTTP status second.
//!
//! `events/README.md` has these tables for the reader; a test keeps the two the same.

use serde::{Deserialize, Serialize};

/// When trying again makes sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Retry {
    /// By our own ladder: 1, 10, 100 minutes, then daily.
    Soon,
    /// Not before the instant the other side named.
    At,
    /// Somebody has to act; looked at again by the ladder all the same.
    Person,
    /// Never as things are: only another document or build helps.
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

            /// Returns what stands behind `certloop:`.
            pub fn word(self) -> &'static str {
                match self {
                    $(Self::$name => $word,)+
                }
            }

            /// Returns its class.
            pub fn retry(self) -> Retry {
                match self {
                    $(Self::$name => Retry::$retry,)+
                }
            }

            /// Returns what it means.
            pub fn meaning(self) -> &'static str {
                match self {
                    $(Self::$name => concat!($($doc,)+).trim_ascii(),)+
                }
            }
        }
    };
}

ours! {
    /// The account's record keeps being changed by other invocations.
    "account" Account Soon;
    /// The stored account key cannot be used: restore the object. No other account is ever made in its place.
    "accountKey" AccountKey Person;
    /// Others hold the ARN, and the certificate manager does not take the new certificate under it.
    "arnWouldChange" ArnWouldChange Person;
    /// The authority gave no answer, or one that is not ACME: no connection, a stall, an error page.
    "authority" Authority Soon;
    /// The CAA records of a name forbid the authority, the account or this way of validation; the detail says which record to change.
    "caaForbids" CaaForbids Person;
    /// A call to the certificate manager failed.
    "certificateManager" CertificateManager Soon;
    /// The issued chain cannot be used; another is ordered.
    "chain" Chain Soon;
    /// The next challenge would not be answered; the detail says what stands before it, and the command that repairs it.
    "challengePath" ChallengePath Person;
    /// Another document wants the same place on a listener, and holds it: the default, or a name with the same key type. The detail
    /// names both.
    "contended" Contended Person;
    /// Another document of this name is there; say `"replace": true`.
    "documentExists" DocumentExists Never;
    /// The secret of the external account cannot be read or is no key.
    "externalAccount" ExternalAccount Person;
    /// An import failed.
    "import" Import Soon;
    /// The document is not valid; the detail names the field.
    "invalidDocument" InvalidDocument Never;
    /// No private key could be made.
    "key" Key Soon;
    /// The key of an issued certificate is gone; another is ordered.
    "keyLost" KeyLost Soon;
    /// A limit leaves nothing for now: the detail says which, and until when.
    "limit" Limit At;
    /// The listener's certificate list is full. Nothing is taken off to make room.
    "listenerFull" ListenerFull Person;
    /// The listener does not exist.
    "listenerGone" ListenerGone Person;
    /// The listener holds no certificates: it is not HTTPS.
    "listenerNotHttps" ListenerNotHttps Person;
    /// The load balancer refuses to make the listener.
    "listenerNotMade" ListenerNotMade Person;
    /// A call to the load balancer failed.
    "loadBalancer" LoadBalancer Soon;
    /// Names cannot be validated and are left out of the certificate (`partial`). They are tried again on their own clock.
    "namesMissing" NamesMissing Soon;
    /// There is no certificate to revoke.
    "noCertificate" NoCertificate Never;
    /// The authority offers no challenge that certloop can answer.
    "noChallenge" NoChallenge Person;
    /// There is no earlier certificate that could be served again.
    "noPrevious" NoPrevious Never;
    /// A listener does not list what it accepted; nothing was taken off.
    "notListed" NotListed Soon;
    /// The order ended, or goes round in circles, and the authority does not say why.
    "order" Order Soon;
    /// There is a certificate and no document any more: it is served and not renewed.
    "orphan" Orphan Person;
    /// The authority does not offer the profile.
    "profile" Profile Person;
    /// The authority's answer goes against RFC 8555.
    "protocol" Protocol Person;
    /// An object of the bucket cannot be read, or is of a newer build. Nothing is written over it.
    "record" Record Person;
    /// The authority made an order that is no successor.
    "replacesNotEchoed" ReplacesNotEchoed Soon;
    /// The certificate that is served was revoked, and nothing has replaced it yet: the detail says why.
    "revoked" Revoked Person;
    /// Our own fetch of a challenge got something else.
    "selfCheck" SelfCheck Soon;
    /// Our own fetch of a challenge could not connect; it blocks one attempt.
    "selfCheckUnreachable" SelfCheckUnreachable Soon;
    /// The settings are not valid; the detail names the field.
    "settings" Settings Person;
    /// There are no settings.
    "settingsMissing" SettingsMissing Person;
    /// The certificate's state cannot be read, or is of a newer build. Nothing is written over it.
    "state" State Person;
    /// The removed certificate is still a listener's default: a listener must have one, so somebody has to choose another.
    "stillDefault" StillDefault Person;
    /// The bucket did not answer, or somebody else kept writing.
    "store" Store Soon;
    /// The bucket refuses: it is missing, or a permission is.
    "storeDenied" StoreDenied Person;
    /// A certificate that the document supersedes stays on the listener: without it visitors would lose names. The detail says which.
    "supersedes" Supersedes Person;
    /// A certificate of ours lost its tags, so nothing is imported over it; the detail has the command that puts them back.
    "tagsLost" TagsLost Person;
    /// There is no such document.
    "unknownCertificate" UnknownCertificate Never;
    /// Something else is served than was deployed; what was served before is back.
    "unproved" Unproved Soon;
    /// The public does not know the authority of a served certificate, and the settings do not say that it is private.
    "untrusted" Untrusted Person;
    /// The vault does not hold the certificate any more; another is ordered.
    "vaultEntryLost" VaultEntryLost Soon;
}

/// The problem types of authorities (RFC 8555 section 6.7, RFC 9773 section 5, profiles) with their class and what to do.
/// Any other is judged by its HTTP status.
pub const AUTHORITY: &[(&str, Retry, &str)] = &[
    (
        "accountDoesNotExist",
        Retry::Person,
        "The authority does not know the account any more. No other is made: restore `accounts/`, or delete the object to begin anew.",
    ),
    (
        "alreadyReplaced",
        Retry::Soon,
        "Ordered once more without `replaces`, at once.",
    ),
    ("alreadyRevoked", Retry::Never, "It is revoked."),
    (
        "badCSR",
        Retry::Person,
        "The authority does not take such a request; see the key type and the names.",
    ),
    (
        "badNonce",
        Retry::Soon,
        "Repeated at once with the new nonce, bounded.",
    ),
    ("badPublicKey", Retry::Person, "Choose another key type."),
    ("badRevocationReason", Retry::Never, "Give another reason."),
    (
        "badSignatureAlgorithm",
        Retry::Person,
        "The authority does not take the account's key.",
    ),
    (
        "caa",
        Retry::Person,
        "The name's CAA records forbid this authority or account.",
    ),
    (
        "compound",
        Retry::Soon,
        "Several at once; the detail has each.",
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
        "The challenge path answered something else.",
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
        "The authority does not take the request; the detail says why.",
    ),
    ("orderNotReady", Retry::Soon, "The order is read again."),
    (
        "rateLimited",
        Retry::At,
        "Nothing is asked before its Retry-After. Without one: `person` where the detail has a link, which somebody must open, else `soon`.",
    ),
    (
        "rejectedIdentifier",
        Retry::Person,
        "The authority does not issue for this name.",
    ),
    (
        "serverInternal",
        Retry::Soon,
        "A fault on the authority's side.",
    ),
    (
        "tls",
        Retry::Soon,
        "A redirect led to a TLS server that failed.",
    ),
    (
        "unauthorized",
        Retry::Soon,
        "The challenge path did not answer as it must, or the account may not do this.",
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

/// What an HTTP status says where the problem type says nothing.
pub const BY_STATUS: &[(&str, Retry, &str)] = &[
    (
        "429 or 503 with Retry-After",
        Retry::At,
        "Nothing is asked before.",
    ),
    (
        "any other with Retry-After",
        Retry::At,
        "Nothing is asked before.",
    ),
    (
        "429 with a link and without Retry-After",
        Retry::Person,
        "Somebody must open the link.",
    ),
    (
        "5xx, JSON or not",
        Retry::Soon,
        "A fault on the authority's side.",
    ),
    (
        "4xx",
        Retry::Soon,
        "Something before the authority, or a type nobody knows.",
    ),
    (
        "no answer",
        Retry::Soon,
        "No address, no connection, no TLS, a stall, a hang-up.",
    ),
];

/// The error codes of AWS that do not pass by themselves; all others are `soon`.
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
            "events/README.md is out of date: UPDATE_DOCS=1 cargo test --release --workspace the_documented_classes"
        );
    }

    #[test]
    fn words_are_told_once_and_in_order() {
        let words: Vec<&str> = ProblemType::ALL
            .iter()
            .map(|problem_type| problem_type.word())
            .collect();
        assert!(words.is_sorted() && AUTHORITY.is_sorted_by_key(|(word, ..)| word));
    }
}

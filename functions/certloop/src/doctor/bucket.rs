//! Pure: whether the bucket keeps what it holds, and keeps it to itself.

use certificates::values::problem::ServiceError;
use serde_json::Value;

use super::access::{Match, Principal, Request, says};
use super::{APPLY, Finding, Seen, finding};

const ABOUT: &str = "bucket";
const POLICY: &str = "bucket policy";

/// What was read of the bucket's configuration.
#[derive(Debug)]
pub(crate) struct Bucket {
    pub(crate) name: String,
    /// Whether versioning is on.
    pub(crate) versioning: Seen<bool>,
    /// How objects are encrypted by default: `AES256`, or `aws:kms` with the key.
    pub(crate) encryption: Seen<Option<(String, Option<String>)>>,
    /// Whether public access lists and policies are blocked and ignored: all of the four.
    pub(crate) is_blocked: Seen<bool>,
    /// `BucketOwnerEnforced` where access control lists do not count.
    pub(crate) ownership: Seen<Option<String>>,
    /// What is deleted by age.
    pub(crate) expiries: Seen<Vec<Expiry>>,
    /// Whether EventBridge gets events of new objects.
    pub(crate) tells_event_bridge: Seen<bool>,
    pub(crate) policy: Seen<Option<String>>,
}

/// A lifecycle rule that is on and goes by age alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Expiry {
    pub(crate) prefix: String,
    /// Days after which objects are deleted.
    pub(crate) days: Option<i32>,
    /// Days after which older versions are.
    pub(crate) noncurrent_days: Option<i32>,
}

/// Returns that there is no such bucket, if that is so.
fn missing(bucket: &Bucket) -> Option<Finding> {
    let gone = |error: &ServiceError| error.code.as_deref() == Some("NoSuchBucket");
    let is_gone =
        bucket.policy.as_ref().is_err_and(gone) || bucket.versioning.as_ref().is_err_and(gone);
    is_gone.then(|| {
        finding::wrong(ABOUT, format!("there is no bucket {}", bucket.name))
            .with("another --bucket, --region or --profile")
    })
}

/// Judges all of it. `roles` are the ARNs of renew's and challenge's.
pub(crate) fn judge(bucket: &Bucket, roles: [Option<&str>; 2]) -> Vec<Finding> {
    if let Some(missing) = missing(bucket) {
        return vec![missing];
    }
    let mut findings = vec![
        blocked(bucket),
        owned(&bucket.ownership),
        encrypted(&bucket.encryption),
        versioned(bucket),
        told(&bucket.tells_event_bridge),
    ];
    findings.extend(expiring(&bucket.expiries));
    findings.extend(guarded(bucket, roles));
    findings
}

fn blocked(bucket: &Bucket) -> Finding {
    match &bucket.is_blocked {
        Ok(true) => finding::ok(ABOUT, "public access is blocked"),
        Ok(false) => finding::wrong(
            ABOUT,
            "public access is not blocked: one careless policy or access list shows private keys \
             to everybody",
        )
        .with(format!(
            "aws s3api put-public-access-block --bucket {} --public-access-block-configuration \
             BlockPublicAcls=true,IgnorePublicAcls=true,BlockPublicPolicy=true,\
             RestrictPublicBuckets=true",
            bucket.name
        )),
        Err(error) => finding::could_not_tell(
            ABOUT,
            "whether public access is blocked",
            "s3:GetBucketPublicAccessBlock",
            error,
        ),
    }
}

fn owned(ownership: &Seen<Option<String>>) -> Finding {
    match ownership {
        Ok(Some(kind)) if kind == "BucketOwnerEnforced" => finding::ok(
            ABOUT,
            "access control lists do not count (BucketOwnerEnforced)",
        ),
        Ok(_) => finding::warning(
            ABOUT,
            "access control lists count: anybody who may write them can show an object to others",
        )
        .with(APPLY),
        Err(error) => finding::could_not_tell(
            ABOUT,
            "whether access control lists count",
            "s3:GetBucketOwnershipControls",
            error,
        ),
    }
}

fn encrypted(encryption: &Seen<Option<(String, Option<String>)>>) -> Finding {
    match encryption {
        // S3 does so itself where nothing is said.
        Ok(None) => finding::ok(
            ABOUT,
            "objects are encrypted by S3's own key unless said otherwise",
        ),
        Ok(Some((algorithm, _))) if algorithm == "AES256" => finding::ok(
            ABOUT,
            "objects are encrypted by S3's own key unless said otherwise",
        ),
        Ok(Some((algorithm, Some(key)))) => finding::wrong(
            ABOUT,
            format!(
                "all objects are encrypted by {algorithm} with {key}, challenges too, and the \
                 challenge function may use no key: authorities are answered 503"
            ),
        )
        .with(
            "SSE-S3 (AES256) as the bucket's default; private keys have a key of their own all the \
             same",
        ),
        Ok(Some((algorithm, None))) => finding::warning(
            ABOUT,
            format!(
                "all objects are encrypted by {algorithm} with AWS's key, challenges too: each \
                 read of a token asks KMS"
            ),
        )
        .with(
            "SSE-S3 (AES256) as the bucket's default; private keys have a key of their own all the \
             same",
        ),
        Err(error) => finding::could_not_tell(
            ABOUT,
            "how it encrypts",
            "s3:GetEncryptionConfiguration",
            error,
        ),
    }
}

fn versioned(bucket: &Bucket) -> Finding {
    match (&bucket.versioning, &bucket.expiries) {
        (Ok(false), _) => finding::ok(ABOUT, "no versions are kept"),
        (Ok(true), Ok(expiries)) => {
            let is_kept = |prefix: &&str| {
                !expiries
                    .iter()
                    .any(|it| it.noncurrent_days.is_some() && prefix.starts_with(&it.prefix))
            };
            let kept: Vec<&str> = ["accounts/", "vault/"]
                .into_iter()
                .filter(is_kept)
                .collect();
            match kept.is_empty() {
                true => finding::ok(
                    ABOUT,
                    "versions are kept, and those of secrets deleted by age",
                ),
                false => finding::warning(
                    ABOUT,
                    format!(
                        "versions are kept for ever, and in {} they are old private keys",
                        kept.join(" and ")
                    ),
                )
                .with("a lifecycle rule that deletes noncurrent versions there after a day"),
            }
        }
        (Ok(true), Err(_)) => finding::ok(ABOUT, "versions are kept"),
        (Err(error), _) => finding::could_not_tell(
            ABOUT,
            "whether versions are kept",
            "s3:GetBucketVersioning",
            error,
        ),
    }
}

fn told(tells: &Seen<bool>) -> Finding {
    match tells {
        Ok(true) => finding::ok(ABOUT, "EventBridge gets events of new documents"),
        Ok(false) => finding::warning(
            ABOUT,
            "EventBridge gets no events of new documents: the next scheduled pass works on them, \
             not one within seconds",
        )
        .with(APPLY),
        Err(error) => finding::could_not_tell(
            ABOUT,
            "whether EventBridge gets events of documents",
            "s3:GetBucketNotification",
            error,
        ),
    }
}

fn expiring(expiries: &Seen<Vec<Expiry>>) -> Vec<Finding> {
    let expiries = match expiries {
        Ok(expiries) => expiries,
        Err(error) => {
            return vec![finding::could_not_tell(
                ABOUT,
                "what it deletes by age",
                "s3:GetLifecycleConfiguration",
                error,
            )];
        }
    };
    let mut findings = Vec::new();
    for (prefix, what) in [
        ("settings.json", "the settings"),
        ("certificates/", "documents, which are then orphans,"),
        ("state/", "what is known of each certificate"),
        ("accounts/", "the authority's account"),
        ("limits/", "the count of what the authority's limits allow"),
    ] {
        if let Some(days) = shortest_below(expiries, prefix) {
            findings.push(
                finding::wrong(
                    ABOUT,
                    format!("a lifecycle rule deletes {what} after {}", days_of(days)),
                )
                .with(format!("take {prefix} out of that rule")),
            );
        }
    }
    if let Some(days) = shortest_below(expiries, "vault/").filter(|days| *days < SHORTEST_VAULT) {
        findings.push(
            finding::wrong(
                ABOUT,
                format!(
                    "a lifecycle rule deletes private keys after {}, perhaps while they are served",
                    days_of(days)
                ),
            )
            .with(
                "vault_days of the module: more than the longest lifetime that your authorities \
                 sign for",
            ),
        );
    }
    findings.push(match shortest_for_all(expiries, "challenges/") {
        Some(days) => finding::ok(
            ABOUT,
            format!("tokens that were left over go after {}", days_of(days)),
        ),
        None => finding::warning(ABOUT, "tokens that were left over stay for ever").with(APPLY),
    });
    findings
}

/// Returns after how many days all under a prefix is deleted, if it is.
fn shortest_for_all(expiries: &[Expiry], prefix: &str) -> Option<i32> {
    let days = expiries
        .iter()
        .filter(|it| prefix.starts_with(&it.prefix))
        .filter_map(|it| it.days);
    days.min()
}

/// Returns after how many days something under a prefix is deleted, if it is: a rule for a part of
/// the prefix deletes there as well.
fn shortest_below(expiries: &[Expiry], prefix: &str) -> Option<i32> {
    let below = expiries
        .iter()
        .filter(|it| it.prefix.starts_with(prefix))
        .filter_map(|it| it.days);
    below.chain(shortest_for_all(expiries, prefix)).min()
}

fn days_of(days: i32) -> String {
    crate::words::counted(i64::from(days), "day")
}

/// What the policy must forbid and may not: by requests that somebody might make.
fn guarded(bucket: &Bucket, roles: [Option<&str>; 2]) -> Vec<Finding> {
    let text = match &bucket.policy {
        Ok(Some(text)) => text,
        Ok(None) => {
            return vec![
                finding::wrong(
                    POLICY,
                    "there is none: everybody whom IAM lets use S3 can read private keys, and can \
                     have any name validated by a token of their own",
                )
                .with(APPLY),
            ];
        }
        Err(error) => {
            return vec![finding::could_not_tell(
                POLICY,
                "what it forbids",
                "s3:GetBucketPolicy",
                error,
            )];
        }
    };
    let Ok(policy) = serde_json::from_str::<Value>(text) else {
        return vec![finding::wrong(POLICY, "is no JSON").with(APPLY)];
    };
    let [Some(renew), Some(challenge)] = roles else {
        return vec![finding::unknown(
            POLICY,
            "the roles of the functions are not known, so nobody can say whom it lets through",
        )];
    };
    let trial = Trial {
        policy: &policy,
        bucket: &bucket.name,
        renew,
    };
    let mut findings = trial.strangers();
    findings.extend(trial.own(challenge));
    if !findings
        .iter()
        .any(|found| found.verdict > super::Verdict::Ok)
    {
        findings.push(finding::ok(
            POLICY,
            "keeps records, keys and tokens for renew, tokens for challenge, and asks for TLS",
        ));
    }
    findings
}

struct Trial<'t> {
    policy: &'t Value,
    bucket: &'t str,
    renew: &'t str,
}

impl Trial<'_> {
    fn denied(&self, who: &str, action: &str, key: &str, tls: bool) -> Match {
        let partition = who.split(':').nth(1).unwrap_or("aws");
        let resource = format!("arn:{partition}:s3:::{}/{key}", self.bucket);
        let tls = if tls { "true" } else { "false" };
        let context = [("aws:principalarn", who), ("aws:securetransport", tls)];
        let request = Request {
            action,
            resource: &resource,
            principal: Principal::Role(who),
            context: &context,
        };
        says(self.policy, "Deny", &request)
    }

    /// What anybody else in the account could do, if IAM lets.
    fn strangers(&self) -> Vec<Finding> {
        let stranger = match self.renew.rsplit_once('/') {
            Some((before, _)) => format!("{before}/certloop-doctor-is-nobody"),
            None => return Vec::new(),
        };
        let mut findings = Vec::new();
        for (what, actions, prefixes) in [
            (
                "read private keys and records",
                &["s3:GetObject"][..],
                &["vault/", "accounts/", "state/", "limits/"][..],
            ),
            (
                "have any name validated, by a token of their own",
                &["s3:PutObject"],
                &["challenges/"],
            ),
            (
                "write records and keys",
                &["s3:PutObject", "s3:DeleteObject"],
                &["vault/", "accounts/", "state/", "limits/"],
            ),
        ] {
            match self.left_open(&stranger, actions, prefixes) {
                Some((Match::No, open)) => findings.push(
                    finding::wrong(
                        POLICY,
                        format!(
                            "everybody whom IAM lets use S3 may {what}: nothing forbids it in {}",
                            open.join(", ")
                        ),
                    )
                    .with(APPLY),
                ),
                Some((_, open)) => findings.push(finding::unknown(
                    POLICY,
                    format!(
                        "whether others may {what} hangs on conditions that are not understood \
                         here, for {}",
                        open.join(", ")
                    ),
                )),
                None => {}
            }
        }
        if self.denied(self.renew, "s3:GetObject", "vault/shop/1.json", false) < Match::Yes {
            findings.push(
                finding::warning(POLICY, "lets private keys be read without TLS").with(APPLY),
            );
        }
        let nobody = Request {
            action: "s3:GetObject",
            resource: &format!("arn:aws:s3:::{}/certificates/shop.json", self.bucket),
            principal: Principal::Role("arn:aws:iam::000000000000:role/nobody"),
            context: &[("aws:securetransport", "true")],
        };
        if says(self.policy, "Allow", &nobody) == Match::Yes {
            findings.push(finding::wrong(POLICY, "lets everybody read").with(APPLY));
        }
        findings
    }

    /// Returns the prefixes under which somebody is not surely forbidden one of these actions, and
    /// how surely the least of them is.
    fn left_open<'p>(
        &self,
        who: &str,
        actions: &[&str],
        prefixes: &[&'p str],
    ) -> Option<(Match, Vec<&'p str>)> {
        let mut worst: Option<(Match, Vec<&str>)> = None;
        for prefix in prefixes {
            let key = format!("{prefix}shop/1.json");
            let denied = actions
                .iter()
                .map(|action| self.denied(who, action, &key, true));
            let denied = denied.min().unwrap_or(Match::No);
            if denied < Match::Yes {
                let (so_far, open) = worst.get_or_insert((Match::Perhaps, Vec::new()));
                *so_far = (*so_far).min(denied);
                open.push(prefix);
            }
        }
        worst
    }

    /// What the functions must be able to do.
    fn own(&self, challenge: &str) -> Vec<Finding> {
        let mut findings = Vec::new();
        let acts = [
            ("s3:PutObject", "state/shop.json"),
            ("s3:GetObject", "vault/shop/1.json"),
            ("s3:PutObject", "challenges/x"),
        ];
        let refused = acts
            .into_iter()
            .filter(|(action, key)| self.denied(self.renew, action, key, true) == Match::Yes);
        let refused: Vec<String> = refused
            .map(|(action, key)| format!("{action} of {key}"))
            .collect();
        if !refused.is_empty() {
            findings.push(
                finding::wrong(
                    POLICY,
                    format!(
                        "denies renew ({}) {}: nothing can be renewed",
                        self.renew,
                        refused.join(", ")
                    ),
                )
                .with(APPLY),
            );
        }
        if self.denied(challenge, "s3:GetObject", "challenges/x", true) == Match::Yes {
            findings.push(
                finding::wrong(
                    POLICY,
                    format!("denies challenge ({challenge}) the tokens: no name can be validated"),
                )
                .with(APPLY),
            );
        }
        findings
    }
}

/// In days: certificates of 90 days and what comes before their renewal.
const SHORTEST_VAULT: i32 = 100;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::Verdict;
    use super::*;

    const RENEW: &str = "arn:aws:iam::123456789012:role/certloop-renew";
    const CHALLENGE: &str = "arn:aws:iam::123456789012:role/certloop-challenge";

    /// As the module makes it.
    fn policy() -> Value {
        let arn = |key: &str| format!("arn:aws:s3:::b{key}");
        let but = |who: &[&str]| json!({"StringNotEquals": {"aws:PrincipalArn": who}});
        json!({"Version": "2012-10-17", "Statement": [
            {"Sid": "TlsOnly", "Effect": "Deny", "Principal": "*", "Action": "s3:*",
             "Resource": [arn(""), arn("/*")],
             "Condition": {"Bool": {"aws:SecureTransport": "false"}}},
            {"Sid": "OnlyRenewWrites", "Effect": "Deny", "Principal": "*",
             "NotAction": "s3:GetObject",
             "NotResource": [arn(""), arn("/settings.json"), arn("/certificates/*")],
              "Condition": but(&[RENEW])},
            {"Sid": "OnlyRenewReads", "Effect": "Deny", "Principal": "*", "Action": "s3:GetObject",
             "NotResource": [arn("/settings.json"), arn("/certificates/*"), arn("/challenges/*")],
              "Condition": but(&[RENEW])},
            {"Sid": "ChallengeReadsTokens", "Effect": "Deny", "Principal": "*",
             "Action": "s3:GetObject",
             "Resource": arn("/challenges/*"), "Condition": but(&[RENEW, CHALLENGE])},
        ]})
    }

    fn good() -> Bucket {
        let expiry = |prefix: &str, days, noncurrent_days| Expiry {
            prefix: prefix.to_owned(),
            days,
            noncurrent_days,
        };
        Bucket {
            name: "b".to_owned(),
            versioning: Ok(false),
            encryption: Ok(Some(("AES256".to_owned(), None))),
            is_blocked: Ok(true),
            ownership: Ok(Some("BucketOwnerEnforced".to_owned())),
            expiries: Ok(vec![
                expiry("challenges/", Some(1), Some(1)),
                expiry("vault/", Some(400), Some(1)),
                expiry("accounts/", None, Some(1)),
                expiry("", None, Some(90)),
            ]),
            tells_event_bridge: Ok(true),
            policy: Ok(Some(policy().to_string())),
        }
    }

    fn judged(bucket: &Bucket) -> Vec<Finding> {
        let mut findings = judge(bucket, [Some(RENEW), Some(CHALLENGE)]);
        findings.retain(|found| found.verdict > Verdict::Ok);
        findings
    }

    fn one(bucket: &Bucket) -> (Verdict, String) {
        let found = judged(bucket);
        let [only] = found.as_slice() else {
            panic!("{found:#?}");
        };
        (only.verdict, only.found.clone())
    }

    fn with_policy(policy: &Value) -> Bucket {
        Bucket {
            policy: Ok(Some(policy.to_string())),
            ..good()
        }
    }

    fn without(sid: &str) -> Bucket {
        let mut policy = policy();
        if let Some(all) = policy["Statement"].as_array_mut() {
            all.retain(|statement| statement["Sid"] != sid);
        }
        with_policy(&policy)
    }

    #[test]
    fn what_the_module_makes_is_right() {
        assert_eq!(judged(&good()), []);
    }

    #[test]
    fn each_statement_of_the_policy_is_missed() {
        for (sid, verdict, words) in [
            ("TlsOnly", Verdict::Warning, "without TLS"),
            ("OnlyRenewReads", Verdict::Wrong, "read private keys"),
        ] {
            let (found, said) = one(&without(sid));
            assert_eq!(found, verdict);
            assert!(said.contains(words), "{said}");
        }
        let said: Vec<_> = judged(&without("OnlyRenewWrites"))
            .into_iter()
            .map(|it| it.found)
            .collect();
        assert!(
            said[0].contains("validated") && said[1].contains("write records"),
            "{said:?}"
        );
        let none = Bucket {
            policy: Ok(None),
            ..good()
        };
        assert!(one(&none).1.contains("there is none"));
    }

    #[test]
    fn a_policy_that_denies_its_own_functions_is_wrong() {
        let text = policy()
            .to_string()
            .replace("certloop-renew", "certloop-former");
        let said: Vec<_> = judged(&with_policy(&serde_json::from_str(&text).unwrap()));
        assert!(
            said.iter().any(|it| it.found.contains("denies renew")),
            "{said:#?}"
        );
        let text = policy()
            .to_string()
            .replace("certloop-challenge", "certloop-former");
        let (_, said) = one(&with_policy(&serde_json::from_str(&text).unwrap()));
        assert!(said.contains("denies challenge"), "{said}");
    }

    #[test]
    fn a_policy_that_is_open_to_everybody_is_wrong() {
        let mut open = policy();
        let statement = json!({"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject",
            "Resource": "arn:aws:s3:::b/*"});
        open["Statement"].as_array_mut().unwrap().push(statement);
        assert_eq!(
            one(&with_policy(&open)),
            (Verdict::Wrong, "lets everybody read".to_owned())
        );
    }

    #[test]
    fn a_lifecycle_that_deletes_what_is_needed_is_wrong() {
        let with = |prefix: &str, days| {
            let mut bucket = good();
            bucket.expiries.as_mut().unwrap().push(Expiry {
                prefix: prefix.to_owned(),
                days: Some(days),
                noncurrent_days: None,
            });
            bucket
        };
        assert!(
            one(&with("vault/", 30))
                .1
                .contains("private keys after 30 days")
        );
        assert!(
            one(&with("state/shop", 1000))
                .1
                .contains("known of each certificate")
        );
        assert_eq!(judged(&with("", 90)).len(), 6);
        let none = Bucket {
            expiries: Ok(Vec::new()),
            ..good()
        };
        assert_eq!(one(&none).0, Verdict::Warning);
    }

    #[test]
    fn settings_of_the_bucket_are_judged_one_by_one() {
        let open = Bucket {
            is_blocked: Ok(false),
            ..good()
        };
        assert_eq!(one(&open).0, Verdict::Wrong);
        let lists = Bucket {
            ownership: Ok(Some("ObjectWriter".to_owned())),
            ..good()
        };
        assert_eq!(one(&lists).0, Verdict::Warning);
        let silent = Bucket {
            tells_event_bridge: Ok(false),
            ..good()
        };
        assert_eq!(one(&silent).0, Verdict::Warning);
        let keyed = |key: Option<&str>| Bucket {
            encryption: Ok(Some(("aws:kms".to_owned(), key.map(str::to_owned)))),
            ..good()
        };
        assert_eq!(one(&keyed(Some("arn:aws:kms:key/1"))).0, Verdict::Wrong);
        assert_eq!(one(&keyed(None)).0, Verdict::Warning);
        let mut versioned = Bucket {
            versioning: Ok(true),
            ..good()
        };
        assert_eq!(judged(&versioned), []);
        versioned.expiries = Ok(vec![Expiry {
            prefix: "challenges/".to_owned(),
            days: Some(1),
            noncurrent_days: None,
        }]);
        assert!(one(&versioned).1.contains("accounts/ and vault/"));
    }

    #[test]
    fn what_may_not_be_read_is_told_with_the_permission() {
        let denied = || ServiceError {
            operation: "GetBucketPolicy",
            code: Some("AccessDenied".to_owned()),
            message: "no".to_owned(),
            status: Some(403),
        };
        let blind = Bucket {
            policy: Err(denied()),
            ..good()
        };
        let [found] = judged(&blind).try_into().unwrap();
        assert_eq!(found.verdict, Verdict::CouldNotTell);
        assert!(
            found
                .remedy
                .is_some_and(|remedy| remedy.contains("s3:GetBucketPolicy"))
        );
        let gone = ServiceError {
            code: Some("NoSuchBucket".to_owned()),
            status: Some(404),
            ..denied()
        };
        let gone = Bucket {
            policy: Err(gone),
            ..good()
        };
        assert_eq!(
            one(&gone),
            (Verdict::Wrong, "there is no bucket b".to_owned())
        );
    }
}

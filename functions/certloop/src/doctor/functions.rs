//! Pure: whether both functions are configured to work together, and may be invoked by whom they
//! must be.

use serde_json::Value;

use super::access::{Match, Principal, Request, says};
use super::finding::is_denied;
use super::names::Names;
use super::{APPLY, Finding, Seen, finding};
use crate::words::counted;

/// What was read of a function.
#[derive(Debug)]
pub(crate) struct FoundFunction {
    pub(crate) name: String,
    /// `None` where there is none of the name.
    pub(crate) configuration: Seen<Option<Configuration>>,
    /// Executions reserved for it, if any are.
    pub(crate) reserved: Seen<Option<i32>>,
    /// Who may invoke it.
    pub(crate) policy: Seen<Option<String>>,
}

/// How a function is configured.
#[derive(Clone, Debug, Default)]
pub(crate) struct Configuration {
    pub(crate) arn: String,
    pub(crate) role: String,
    pub(crate) runtime: String,
    pub(crate) architecture: String,
    /// In seconds.
    pub(crate) timeout: i32,
    /// In MB.
    pub(crate) memory: i32,
    /// `CERTLOOP_BUCKET` of its environment.
    pub(crate) bucket: Option<String>,
    /// `Active`, and what else there is.
    pub(crate) state: String,
    /// `Successful`, and what else there is.
    pub(crate) last_update: String,
    /// Why, where one of the two is something else.
    pub(crate) reason: Option<String>,
    /// When it was last changed.
    pub(crate) modified: String,
}

impl FoundFunction {
    /// Returns the configuration, where it is known.
    pub(crate) fn known(&self) -> Option<&Configuration> {
        self.configuration.as_ref().ok().and_then(Option::as_ref)
    }
}

/// What a function of ours needs.
struct Needs {
    about: &'static str,
    timeout: i32,
    memory: i32,
    /// How many must be able to run at once.
    at_once: i32,
    /// What does not work without.
    otherwise: &'static str,
}

/// A pass is made within the function's time; the module takes no less.
const RENEW: Needs = Needs {
    about: "function renew",
    timeout: 60,
    memory: 256,
    at_once: 2,
    otherwise: "nothing is renewed",
};
/// Authorities ask from six places and more at once.
const CHALLENGE: Needs = Needs {
    about: "function challenge",
    timeout: 3,
    memory: 128,
    at_once: 10,
    otherwise: "no name can be validated",
};

/// Judges both, and the alias by which renew only looks: the version that it names.
pub(crate) fn judge(
    renew: &FoundFunction,
    challenge: Option<&FoundFunction>,
    view: &Seen<Option<String>>,
    bucket: &str,
    names: &Names,
) -> Vec<Finding> {
    let mut findings = configured(renew, &RENEW, bucket);
    findings.extend(documents(renew, names));
    findings.push(viewed(view));
    match challenge {
        Some(challenge) => findings.extend(configured(challenge, &CHALLENGE, bucket)),
        None => findings.push(finding::unknown(
            CHALLENGE.about,
            format!(
                "what it is called: {} does not end in -renew, as the module's does",
                names.function
            ),
        )),
    }
    findings
}

fn configured(function: &FoundFunction, needs: &Needs, bucket: &str) -> Vec<Finding> {
    let (about, name) = (needs.about, &function.name);
    let found = match &function.configuration {
        Ok(Some(found)) => found,
        Ok(None) => {
            let missing = finding::wrong(
                about,
                format!("there is none called {name}: {}", needs.otherwise),
            );
            return vec![
                missing.with("another --function, --region or --profile; or terraform apply"),
            ];
        }
        Err(error) => {
            return vec![finding::could_not_tell(
                about,
                "how it is configured",
                "lambda:GetFunctionConfiguration",
                error,
            )];
        }
    };
    let mut findings: Vec<Finding> = (why_it_cannot_work(name, found, needs, bucket).into_iter())
        .map(|said| finding::wrong(about, said).with(APPLY))
        .collect();
    if found.last_update == "InProgress" {
        findings.push(
            finding::warning(about, format!("{name} is being updated"))
                .with("certloop doctor, in a minute"),
        );
    }
    if found.memory < needs.memory {
        let said = format!(
            "{name} has {} MB, less than the {} it is tried with",
            found.memory, needs.memory
        );
        findings.push(finding::warning(about, said).with(APPLY));
    }
    findings.extend(reserved(function, needs));
    if findings.is_empty() {
        findings.push(finding::ok(
            about,
            format!(
                "{name}: {}, {}, {} MB, {} s, last changed {}",
                found.runtime, found.architecture, found.memory, found.timeout, found.modified
            ),
        ));
    }
    findings
}

/// Says what there is of its configuration with which it cannot do its work.
fn why_it_cannot_work(
    name: &str,
    found: &Configuration,
    needs: &Needs,
    bucket: &str,
) -> Vec<String> {
    let mut wrong = Vec::new();
    match &found.bucket {
        Some(named) if named == bucket => {}
        Some(named) => wrong.push(format!(
            "{name} works with the bucket {named}, not with {bucket} (CERTLOOP_BUCKET)"
        )),
        None => wrong.push(format!(
            "{name} knows no bucket (CERTLOOP_BUCKET): {}",
            needs.otherwise
        )),
    }
    let reason = found
        .reason
        .as_deref()
        .map(|reason| format!(": {reason}"))
        .unwrap_or_default();
    if !matches!(found.state.as_str(), "Active" | "Inactive" | "") {
        wrong.push(format!("{name} is {}{reason}", found.state));
    }
    if found.last_update == "Failed" {
        wrong.push(format!("the last update of {name} failed{reason}"));
    }
    if found.runtime != "provided.al2023" {
        wrong.push(format!(
            "{name} runs on {}; it is built for provided.al2023",
            found.runtime
        ));
    }
    if found.timeout < needs.timeout {
        wrong.push(format!(
            "{name} has {} only, and needs {} at least",
            counted(found.timeout.into(), "second"),
            needs.timeout
        ));
    }
    wrong
}

fn reserved(function: &FoundFunction, needs: &Needs) -> Option<Finding> {
    let (about, name) = (needs.about, &function.name);
    let free = format!("aws lambda delete-function-concurrency --function-name {name}");
    match &function.reserved {
        Ok(None) => None,
        Ok(Some(0)) => Some(
            finding::wrong(
                about,
                format!(
                    "{name} is switched off: 0 executions are reserved for it, and {}",
                    needs.otherwise
                ),
            )
            .with(free),
        ),
        Ok(Some(count)) if *count < needs.at_once => Some(
            finding::warning(
                about,
                format!(
                    "{name} runs {count} times at once at most, and {} may be needed",
                    needs.at_once
                ),
            )
            .with(free),
        ),
        Ok(Some(_)) => None,
        Err(error) => Some(finding::could_not_tell(
            about,
            "whether executions are reserved",
            "lambda:GetFunctionConcurrency",
            error,
        )),
    }
}

/// Whether the functions run on this machine: a stand-in for AWS Lambda invokes them and knows
/// nothing else of them.
pub(crate) fn are_local(renew: &FoundFunction) -> bool {
    let error = renew.configuration.as_ref().err();
    error.is_some_and(|error| error.code.as_deref() == Some("UnknownOperationException"))
}

/// Whether EventBridge may invoke renew for documents that are put.
fn documents(renew: &FoundFunction, names: &Names) -> Option<Finding> {
    const ABOUT: &str = "permissions";
    let arn = &renew.known()?.arn;
    let source = names.document_rule(arn)?;
    Some(
        match may_invoke(&renew.policy, "events.amazonaws.com", &source, arn) {
            Ok(Match::Yes) => finding::ok(ABOUT, "EventBridge may invoke renew for new documents"),
            Ok(Match::Perhaps) => finding::unknown(
                ABOUT,
                "whether EventBridge may invoke renew hangs on conditions that are not understood \
                 here",
            ),
            Ok(Match::No) => finding::warning(
                ABOUT,
                format!(
                    "EventBridge may not invoke renew for {source}: new documents wait for the \
                     next scheduled pass"
                ),
            )
            .with(APPLY),
            Err(error) => {
                finding::could_not_tell(ABOUT, "who may invoke renew", "lambda:GetPolicy", error)
            }
        },
    )
}

/// Whether load balancers may invoke challenge for a target group.
pub(crate) fn challenged(challenge: &FoundFunction, group: &str) -> Option<Finding> {
    const ABOUT: &str = "permissions";
    let arn = &challenge.known()?.arn;
    Some(
        match may_invoke(
            &challenge.policy,
            "elasticloadbalancing.amazonaws.com",
            group,
            arn,
        ) {
            Ok(Match::Yes) => finding::ok(
                ABOUT,
                format!(
                    "the load balancer may invoke challenge for {}",
                    group_name(group)
                ),
            ),
            Ok(Match::Perhaps) => finding::unknown(
                ABOUT,
                format!(
                    "whether the load balancer may invoke challenge for {} hangs on conditions \
                     that are not understood here",
                    group_name(group)
                ),
            ),
            Ok(Match::No) => finding::wrong(
                ABOUT,
                format!(
                    "the load balancer may not invoke challenge for {group}, and answers \
                     authorities 502; or that group's function is another"
                ),
            )
            .with(format!(
                "terraform apply; or aws lambda add-permission --function-name {} --statement-id \
                 load-balancer-{} --action lambda:InvokeFunction --principal \
                 elasticloadbalancing.amazonaws.com --source-arn {group}",
                challenge.name,
                group_name(group).replace('/', "-"),
            )),
            Err(error) => finding::could_not_tell(
                ABOUT,
                "who may invoke challenge",
                "lambda:GetPolicy",
                error,
            ),
        },
    )
}

/// Whether load balancers may surely invoke challenge for a target group: then it is challenge's,
/// and not that of another function.
pub(crate) fn is_of_challenge(challenge: &FoundFunction, group: &str) -> bool {
    let arn = challenge
        .known()
        .map(|known| known.arn.as_str())
        .unwrap_or_default();
    let may = may_invoke(
        &challenge.policy,
        "elasticloadbalancing.amazonaws.com",
        group,
        arn,
    );
    matches!(may, Ok(Match::Yes))
}

/// Returns what follows `targetgroup/`.
fn group_name(group: &str) -> &str {
    group
        .rsplit_once(":targetgroup/")
        .map_or(group, |(_, name)| name)
}

fn may_invoke<'e>(
    policy: &'e Seen<Option<String>>,
    service: &str,
    source: &str,
    function: &str,
) -> Result<Match, &'e certificates::values::problem::ServiceError> {
    let Some(text) = policy.as_ref()? else {
        return Ok(Match::No);
    };
    let Ok(policy) = serde_json::from_str::<Value>(text) else {
        return Ok(Match::Perhaps);
    };
    let account = function.split(':').nth(4).unwrap_or_default();
    // What opens the function URL is no permission for anybody else.
    let context = [
        ("aws:sourcearn", source),
        ("aws:sourceaccount", account),
        ("lambda:invokedviafunctionurl", "false"),
    ];
    let request = Request {
        action: "lambda:InvokeFunction",
        resource: function,
        principal: Principal::Service(service),
        context: &context,
    };
    Ok(says(&policy, "Allow", &request))
}

fn viewed(view: &Seen<Option<String>>) -> Finding {
    const ABOUT: &str = "alias view";
    match view {
        Ok(Some(version)) if version == "$LATEST" => finding::ok(ABOUT, "names what is deployed"),
        Ok(Some(version)) => finding::warning(
            ABOUT,
            format!("names version {version}: status, plan and check are of another build"),
        )
        .with(APPLY),
        Ok(None) => {
            finding::warning(ABOUT, "is missing: people who may only look cannot").with(APPLY)
        }
        Err(error) if is_denied(error) => {
            finding::could_not_tell(ABOUT, "which version it names", "lambda:GetAlias", error)
        }
        Err(error) => finding::unknown(ABOUT, error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use certificates::values::problem::ServiceError;
    use serde_json::json;

    use super::super::Verdict;
    use super::*;

    const ARN: &str = "arn:aws:lambda:us-east-1:123456789012:function:certloop-renew";
    const GROUP: &str = "arn:aws:elasticloadbalancing:us-east-1:123456789012:targetgroup/certloop-1/0123456789abcdef";

    fn function(statements: Value) -> FoundFunction {
        FoundFunction {
            name: "certloop-renew".to_owned(),
            configuration: Ok(Some(Configuration {
                arn: ARN.to_owned(),
                role: "arn:aws:iam::123456789012:role/certloop-renew".to_owned(),
                runtime: "provided.al2023".to_owned(),
                architecture: "arm64".to_owned(),
                timeout: 900,
                memory: 256,
                bucket: Some("b".to_owned()),
                state: "Active".to_owned(),
                last_update: "Successful".to_owned(),
                reason: None,
                modified: "2026-11-22T10:00:00.000+0000".to_owned(),
            })),
            reserved: Ok(None),
            policy: Ok(Some(json!({"Statement": statements}).to_string())),
        }
    }

    fn renew() -> FoundFunction {
        function(json!([{
            "Effect": "Allow", "Principal": {"Service": "events.amazonaws.com"},
             "Action": "lambda:InvokeFunction", "Resource": ARN,
            "Condition": {
                "ArnLike": {"AWS:SourceArn": "arn:aws:events:us-east-1:123456789012:rule/certloop-document"},
                "StringEquals": {"AWS:SourceAccount": "123456789012"},
            },
        }]))
    }

    fn change(how: impl FnOnce(&mut Configuration)) -> FoundFunction {
        let mut changed = renew();
        if let Ok(Some(found)) = &mut changed.configuration {
            how(found);
        }
        changed
    }

    fn judged(renew: &FoundFunction) -> Vec<(Verdict, String)> {
        let latest = Ok(Some("$LATEST".to_owned()));
        let found = judge(
            renew,
            Some(&super::tests::renew()),
            &latest,
            "b",
            &Names::of("certloop-renew"),
        );
        let worse = found.into_iter().filter(|it| it.verdict > Verdict::Ok);
        worse.map(|it| (it.verdict, it.found)).collect()
    }

    #[test]
    fn functions_as_the_module_makes_them_are_right() {
        assert_eq!(judged(&renew()), []);
    }

    #[test]
    fn each_thing_that_is_off_is_named() {
        for (changed, verdict, words) in [
            (
                change(|it| it.bucket = Some("other".to_owned())),
                Verdict::Wrong,
                "not with b",
            ),
            (
                change(|it| it.bucket = None),
                Verdict::Wrong,
                "knows no bucket",
            ),
            (change(|it| it.timeout = 3), Verdict::Wrong, "needs 60"),
            (change(|it| it.memory = 128), Verdict::Warning, "128 MB"),
            (
                change(|it| it.runtime = "provided.al2".to_owned()),
                Verdict::Wrong,
                "provided.al2;",
            ),
            (
                change(|it| it.last_update = "Failed".to_owned()),
                Verdict::Wrong,
                "last update",
            ),
            (
                change(|it| it.last_update = "InProgress".to_owned()),
                Verdict::Warning,
                "being updated",
            ),
            (
                change(|it| it.state = "Failed".to_owned()),
                Verdict::Wrong,
                "is Failed",
            ),
            (
                FoundFunction {
                    reserved: Ok(Some(0)),
                    ..renew()
                },
                Verdict::Wrong,
                "switched off",
            ),
            (
                FoundFunction {
                    reserved: Ok(Some(1)),
                    ..renew()
                },
                Verdict::Warning,
                "1 times at once",
            ),
            (
                FoundFunction {
                    policy: Ok(None),
                    ..renew()
                },
                Verdict::Warning,
                "EventBridge may not invoke",
            ),
            (
                FoundFunction {
                    configuration: Ok(None),
                    ..renew()
                },
                Verdict::Wrong,
                "there is none called",
            ),
        ] {
            let found = judged(&changed);
            let [(is, said)] = found.as_slice() else {
                panic!("{found:#?}");
            };
            assert_eq!(*is, verdict, "{said}");
            assert!(said.contains(words), "{said}");
        }
    }

    #[test]
    fn a_load_balancer_without_permission_is_found() {
        let let_in = |group: &str| {
            function(json!([{
                "Effect": "Allow", "Principal": {"Service": "elasticloadbalancing.amazonaws.com"},
                 "Action": "lambda:InvokeFunction",
                "Resource": ARN, "Condition": {"ArnLike": {"AWS:SourceArn": group}},
            }]))
        };
        assert_eq!(
            challenged(&let_in(GROUP), GROUP).unwrap().verdict,
            Verdict::Ok
        );
        let other = challenged(&let_in(&GROUP.replace("certloop-1", "other")), GROUP).unwrap();
        assert_eq!(other.verdict, Verdict::Wrong);
        assert!(other.remedy.unwrap().contains("add-permission"));
        assert!(
            is_of_challenge(&let_in(GROUP), GROUP) && !is_of_challenge(&let_in("arn:other"), GROUP)
        );
        // The function URL's opening is for all the world, but for nobody who does not come by it.
        let by_url = function(json!([{
            "Effect": "Allow", "Principal": "*", "Action": "lambda:InvokeFunction", "Resource": ARN,
            "Condition": {"Bool": {"lambda:InvokedViaFunctionUrl": "true"}},
        }]));
        assert_eq!(challenged(&by_url, GROUP).unwrap().verdict, Verdict::Wrong);
        let denied = ServiceError {
            operation: "GetPolicy",
            code: Some("AccessDeniedException".to_owned()),
            message: "no".to_owned(),
            status: Some(403),
        };
        let blind = FoundFunction {
            policy: Err(denied),
            ..renew()
        };
        let found = challenged(&blind, GROUP).unwrap();
        assert_eq!(found.verdict, Verdict::CouldNotTell);
        assert!(found.remedy.unwrap().contains("lambda:GetPolicy"));
    }

    #[test]
    fn an_alias_of_another_build_is_found() {
        let of = |version: Option<&str>| viewed(&Ok(version.map(str::to_owned))).verdict;
        assert_eq!(of(Some("$LATEST")), Verdict::Ok);
        assert_eq!(of(Some("7")), Verdict::Warning);
        assert_eq!(of(None), Verdict::Warning);
    }
}

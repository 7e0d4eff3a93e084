//! `certloop doctor`: is the whole installation as it has to be?
//!
//! `aws` fetches what AWS says; everything else is pure and judges one thing each. What may not be
//! read is shown with the permission that it takes, and is no error.

mod access;
mod aws;
mod bucket;
mod clock;
mod finding;
mod functions;
mod names;
mod numbers;
mod quotas;
mod route;
mod schedule;
mod tls;

use certificates::contract::settings::Settings;
use certificates::invocation::status::Inventory;
use certificates::life::read_settings;
use certificates::values::arn::TargetGroupArn;
use certificates::values::problem::Problem;
use certificates::values::problem_types::ProblemType;
use serde_json::json;
use time::{Duration, OffsetDateTime};

use self::aws::Look;
pub(crate) use self::finding::{APPLY, Finding, Seen, Verdict};
use self::names::Names;
use crate::cli_error::{CliError, Ends, NO_BUCKET};
use crate::installation::Installation;
use crate::status::{Health, command, inventory, revoked};
use crate::terminal::{Ink, Screen, Spinner, say};
use crate::words::wrapped;

/// Looks at the installation and shows what was found, the worst first.
pub(crate) async fn doctor(
    here: &Installation,
    screen: Screen,
    as_json: bool,
) -> Result<Ends, CliError> {
    let (bucket, function) = (here.config().bucket()?, here.config().function()?);
    let spinner = Spinner::start("looking at bucket, functions, schedule and load balancers");
    let mut findings = examine(here, &bucket, &function).await?;
    drop(spinner);
    findings.sort_by_key(|found| std::cmp::Reverse(found.verdict));
    if as_json {
        say(&format!("{:#}\n", json!({"findings": findings})))?;
    } else {
        say(&rendered(&findings, screen))?;
    }
    Ok(ends(&findings))
}

fn ends(findings: &[Finding]) -> Ends {
    match findings.iter().map(|found| found.verdict).max() {
        Some(Verdict::Wrong | Verdict::CouldNotTell) => Ends::NeedsPerson,
        _ => Ends::Well,
    }
}

async fn examine(
    here: &Installation,
    bucket: &str,
    function: &str,
) -> Result<Vec<Finding>, CliError> {
    let names = Names::of(function);
    let look = Look::new(here.aws().await);
    let store = here.bucket().await?;
    let sent = OffsetDateTime::now_utc();
    let asked = async {
        let told = inventory(&here.function().await?, &[]).await;
        told.map(|told| (told, OffsetDateTime::now_utc()))
    };
    let (seen_bucket, renew, challenge, view, seen_schedule, settings, told) = tokio::join!(
        look.bucket(bucket),
        look.function(&names.function),
        challenge_of(&names, &look),
        look.alias(&names.function, "view"),
        look.schedule(names.schedule()),
        read_settings(&store),
        asked,
    );
    let now = OffsetDateTime::now_utc();
    if functions::are_local(&renew) {
        let told = told.as_ref().map(|(told, _)| told);
        return Ok(local_findings(&look, &settings, told).await);
    }
    let role =
        |function: &functions::FoundFunction| function.known().map(|known| known.role.clone());
    let (renew_role, challenge_role) = (role(&renew), challenge.as_ref().and_then(role));

    let mut findings = bucket::judge(
        &seen_bucket,
        [renew_role.as_deref(), challenge_role.as_deref()],
    );
    findings.push(settings_found(&settings));
    findings.extend(functions::judge(
        &renew,
        challenge.as_ref(),
        &view,
        bucket,
        &names,
    ));
    let renew_arn = renew.known().map(|known| known.arn.as_str());
    findings.extend(schedule::judge(&seen_schedule, &names, renew_arn, now));
    findings.extend(passes(&look, &seen_schedule, &names, now).await);

    findings.extend(match &told {
        Ok((told, _)) => inventoried(&look, told, challenge.as_ref()).await,
        Err(cli_error) => vec![no_inventory(cli_error)],
    });
    // A function in this process has this machine's clock.
    let told = told.ok().filter(|_| !here.config().local());
    let function_clock = told.and_then(|(told, answered)| {
        told.at.map(|said| clock::Reading {
            sent,
            answered,
            said,
        })
    });
    findings.extend(clock::judge(look.clock(), function_clock));
    Ok(findings)
}

/// Judges a local installation, such as the demo: it has settings, functions and load balancers,
/// and nothing around them.
async fn local_findings(
    look: &Look<'_>,
    settings: &Result<Settings, Problem>,
    told: Result<&Inventory, &CliError>,
) -> Vec<Finding> {
    let missing = "a stand-in for AWS, which has no schedule, no metrics, no bucket policy, no \
                   versions, no alias and no configuration of functions: only what it has is \
                   looked at";
    let mut findings = vec![
        finding::absent("local installation", missing),
        settings_found(settings),
    ];
    match told {
        Ok(told) => findings.extend(inventoried(look, told, None).await),
        Err(cli_error) => findings.push(no_inventory(cli_error)),
    }
    findings
}

/// Looks at the challenge function, where its name is known.
async fn challenge_of(names: &Names, look: &Look<'_>) -> Option<functions::FoundFunction> {
    let name = names.challenge()?;
    Some(look.function(&name).await)
}

/// Judges what the function says of its certificates.
async fn inventoried(
    look: &Look<'_>,
    told: &Inventory,
    challenge: Option<&functions::FoundFunction>,
) -> Vec<Finding> {
    let mut findings = revoked_ones(told);
    findings.extend(quotas::judge(&told.limits));
    findings.extend(routes(look, told, challenge).await);
    findings
}

/// Certificates that were revoked and are served, or are not replaced.
fn revoked_ones(told: &Inventory) -> Vec<Finding> {
    let found = told.certificates.iter().filter_map(|standing| {
        let problem = revoked(standing)?;
        let about = format!("certificate {}", standing.name);
        let found = finding::wrong(&about, problem.detail.clone());
        let helps = command(Health::NeedsPerson, standing);
        Some(match helps {
            Some(command) => found.with(command),
            None => found,
        })
    });
    found.collect()
}

fn settings_found(settings: &Result<Settings, Problem>) -> Finding {
    const ABOUT: &str = "settings.json";
    match settings {
        Ok(settings) => {
            let authorities: Vec<&str> = settings.authorities.keys().map(String::as_str).collect();
            finding::ok(
                ABOUT,
                format!("is valid; authorities: {}", authorities.join(", ")),
            )
        }
        Err(problem) if problem.detail.contains(NO_BUCKET) => {
            finding::wrong(ABOUT, "cannot be read: there is no such bucket")
                .with("another --bucket, --region or --profile")
        }
        Err(problem) if problem.kind == Problem::kind_of(ProblemType::StoreDenied) => {
            finding::unknown(ABOUT, format!("its content: {}", problem.detail))
                .with("needs s3:GetObject of settings.json, and s3:ListBucket")
        }
        Err(problem)
            if [ProblemType::Settings, ProblemType::SettingsMissing]
                .map(Problem::kind_of)
                .contains(&problem.kind) =>
        {
            finding::wrong(ABOUT, format!("{}: no pass can be made", problem.detail))
                .with("correct it where it comes from, in Terraform or in the bucket")
        }
        Err(problem) => finding::unknown(ABOUT, problem.detail.clone()),
    }
}

fn no_inventory(cli_error: &CliError) -> Finding {
    const ABOUT: &str = "inventory";
    let next: Vec<&str> = (cli_error.next.iter().map(String::as_str))
        .filter(|next| *next != "certloop doctor")
        .collect();
    let has = |words| cli_error.what.contains(words);
    let is_unasked =
        has("AccessDenied") || has("could not be asked") && !has("ResourceNotFoundException");
    let words = format!(
        "{}; so neither the rules on port 80 nor quotas were looked at",
        cli_error.what
    );
    let found = if is_unasked {
        finding::unknown(ABOUT, words)
    } else {
        finding::wrong(ABOUT, words)
    };
    if next.is_empty() {
        found.with("its log in CloudWatch")
    } else {
        found.with(next.join("; or "))
    }
}

/// When the last pass was, and what the machinery counted.
async fn passes(
    look: &Look<'_>,
    schedule: &Seen<Option<schedule::Schedule>>,
    names: &Names,
    now: OffsetDateTime,
) -> Vec<Finding> {
    let expression = schedule
        .as_ref()
        .ok()
        .and_then(Option::as_ref)
        .map(|schedule| schedule.expression.as_str());
    let interval = expression.and_then(schedule::interval);
    let since = now - schedule::patience(interval).max(Duration::DAY);
    let [errors, throttles, unanswered] = numbers::of_the_last_day(names, now);
    let [dead, untold, strays] = numbers::of_the_last_hour(names, now);
    let (last, errors, throttles, unanswered, dead, untold, strays) = tokio::join!(
        look.last(
            ("certloop", "Passes"),
            ("Function", &names.function),
            since,
            now
        ),
        errors.read(look, now),
        throttles.read(look, now),
        unanswered.read(look, now),
        dead.read(look, now),
        untold.read(look, now),
        strays.read(look, now),
    );
    let counts: Vec<schedule::Count> = [errors, throttles, unanswered, dead, untold, strays]
        .into_iter()
        .flatten()
        .collect();
    let mut findings = vec![schedule::last_pass(&last, interval, since, now)];
    findings.extend(schedule::counts(&counts));
    findings
}

/// The way of challenges on each load balancer, and how full it is.
async fn routes(
    look: &Look<'_>,
    told: &Inventory,
    challenge: Option<&functions::FoundFunction>,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut groups = std::collections::BTreeSet::new();
    for (arn, served) in route::served(told) {
        let mut balancer = look.balancer(&arn, &served.listeners).await;
        if let (Ok(groups), Some(challenge)) = (&mut balancer.functions, challenge) {
            // A site may be a function as well, and must not be taken for challenge.
            let is_ours =
                |group: &TargetGroupArn| functions::is_of_challenge(challenge, group.as_str());
            if groups.iter().any(is_ours) {
                groups.retain(is_ours);
            }
        }
        let (found, to) = route::judge(&balancer, &served.names);
        findings.extend(found);
        groups.extend(to);
        findings.push(quotas::certificates(&balancer));
        findings.extend(tls::judge(&balancer.policies));
    }
    if let Some(challenge) = challenge {
        findings.extend(
            groups
                .iter()
                .filter_map(|group| functions::challenged(challenge, group)),
        );
    }
    findings
}

fn rendered(findings: &[Finding], screen: Screen) -> String {
    let mut text = String::new();
    for found in findings {
        let (mark, ink) = mark(found.verdict);
        let lines = wrapped(
            &format!("{}: {}", found.about, found.found),
            screen.width,
            INDENT,
        );
        let lines = lines.strip_prefix(INDENT).unwrap_or(&lines);
        text += &format!("{} {lines}", screen.ink(ink, &format!("{mark:<MARK$}")));
        if let Some(remedy) = &found.remedy {
            text += &screen.ink(
                Ink::Faint,
                wrapped(&format!("try: {remedy}"), screen.width, INDENT).trim_end(),
            );
            text.push('\n');
        }
    }
    let count = |verdict| {
        findings
            .iter()
            .filter(|found| found.verdict == verdict)
            .count()
    };
    let (wrong, unknown, warnings) = (
        count(Verdict::Wrong),
        count(Verdict::CouldNotTell),
        count(Verdict::Warning),
    );
    let summary = match (wrong, unknown) {
        (0, 0) if warnings == 0 && count(Verdict::Absent) > 0 => {
            screen.ink(Ink::Good, "What this installation has is as it should be.")
        }
        (0, 0) if warnings == 0 => screen.ink(Ink::Good, "The installation is as it should be."),
        (0, 0) => screen.ink(
            Ink::Good,
            &format!("The installation works; {warnings} could be better."),
        ),
        (0, unknown) => {
            format!("Nothing that could be read is wrong; {unknown} could not be read.")
        }
        (wrong, unknown) => screen.ink(
            Ink::Bad,
            &format!("{wrong} wrong, {unknown} could not be read, {warnings} could be better."),
        ),
    };
    text + "\n" + &summary + "\n"
}

fn mark(verdict: Verdict) -> (&'static str, Ink) {
    match verdict {
        Verdict::Ok => ("ok", Ink::Good),
        Verdict::Absent => ("absent", Ink::Faint),
        Verdict::Warning => ("warning", Ink::Warning),
        Verdict::CouldNotTell => ("unknown", Ink::Warning),
        Verdict::Wrong => ("wrong", Ink::Bad),
    }
}

const MARK: usize = 7;
/// As wide as a mark and a space.
const INDENT: &str = "        ";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_off_the_function() {
        let names =
            Names::of("arn:aws:lambda:us-east-1:123456789012:function:certloop-dev-renew:view");
        assert_eq!(names.function, "certloop-dev-renew");
        assert_eq!(names.challenge().as_deref(), Some("certloop-dev-challenge"));
        assert_eq!(
            names.schedule(),
            Some((
                "certloop-dev".to_owned(),
                "certloop-dev-reconcile".to_owned()
            ))
        );
        let rule = names
            .document_rule("arn:aws:lambda:us-east-1:123456789012:function:certloop-dev-renew");
        assert_eq!(
            rule.as_deref(),
            Some("arn:aws:events:us-east-1:123456789012:rule/certloop-dev-document")
        );
        assert_eq!(Names::of("mine").challenge(), None);
    }

    #[test]
    fn the_worst_decides_how_it_ends() {
        let of = |findings: &[Finding]| ends(findings);
        let (ok, warning) = (finding::ok("a", ""), finding::warning("a", ""));
        let (unknown, wrong) = (finding::unknown("a", ""), finding::wrong("a", ""));
        assert_eq!(of(&[ok.clone(), warning.clone()]), Ends::Well);
        let blind = of(&[ok.clone(), unknown.clone(), warning]);
        assert_eq!(blind, Ends::NeedsPerson);
        assert_eq!(of(&[ok, unknown, wrong]), Ends::NeedsPerson);
    }

    #[test]
    fn what_a_local_installation_does_not_have_is_named_and_ends_well() {
        let findings = [
            finding::absent("local installation", "no schedule"),
            finding::ok("a", "b"),
        ];
        assert_eq!(ends(&findings), Ends::Well);
        let screen = Screen {
            colours: false,
            width: 80,
        };
        let text = rendered(&findings, screen);
        assert!(
            text.starts_with("absent  local installation: no schedule\n"),
            "{text}"
        );
        assert!(
            text.ends_with("\nWhat this installation has is as it should be.\n"),
            "{text}"
        );
    }

    #[test]
    fn findings_are_shown_in_lines_with_what_to_do() {
        let screen = Screen {
            colours: false,
            width: 60,
        };
        let findings = [
            finding::wrong(
                "schedule",
                "certloop-reconcile is switched off: nothing is renewed",
            )
            .with(APPLY),
            finding::ok("bucket", "public access is blocked"),
        ];
        assert_eq!(
            rendered(&findings, screen),
            "wrong   schedule: certloop-reconcile is switched off:\n        nothing is \
                renewed\n        \
             try: terraform apply, which restores what the module\n        has\n\
             ok      bucket: public access is blocked\n\n\
             1 wrong, 0 could not be read, 0 could be better.\n"
        );
    }

    #[test]
    fn a_function_that_does_not_answer_is_wrong_and_one_that_may_not_be_asked_is_unknown() {
        let denied = CliError::failed(
            "the function f could not be asked: Invoke: AccessDeniedException: no",
        )
        .try_next("other credentials");
        assert_eq!(no_inventory(&denied).verdict, Verdict::CouldNotTell);
        let nobody = CliError::failed("the function f could not be asked: Invoke: no answer");
        assert_eq!(no_inventory(&nobody).verdict, Verdict::CouldNotTell);
        let gone = CliError::failed(
            "the function f could not be asked: Invoke: ResourceNotFoundException: f",
        );
        assert_eq!(no_inventory(&gone).verdict, Verdict::Wrong);
        let broken =
            CliError::failed("the function f cannot run: settings.json is not in the bucket")
                .try_next("certloop doctor");
        let found = no_inventory(&broken);
        assert_eq!(found.verdict, Verdict::Wrong);
        assert_eq!(found.remedy.as_deref(), Some("its log in CloudWatch"));
    }

    #[test]
    fn what_is_served_and_revoked_is_wrong() {
        let sample = include_str!("../../../../events/status.sample.json");
        let mut told: Inventory = serde_json::from_str(sample).unwrap();
        assert_eq!(revoked_ones(&told), []);
        let one = &mut told.certificates[0];
        one.problem = Some(Problem::ours(
            ProblemType::Revoked,
            "03ab is served and was revoked",
        ));
        let found = &revoked_ones(&told)[0];
        assert_eq!(found.verdict, Verdict::Wrong);
        assert_eq!(found.about, "certificate shop");
        assert_eq!(found.remedy.as_deref(), Some("certloop renew shop --force"));
    }
}

//! Every authority's accent (`tests/accents`) in a first issuance, in a renewal, and in the pass
//! that goes on after a death. None leaves anything stuck, and none makes an order that nobody
//! remembers.

#![allow(
    clippy::print_stdout,
    reason = "what came of each accent is worth seeing"
)]

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tests::accent::{Accent, Expect, PLACES, Setting, Struck, corpus};
use tests::{Installation, Invocation, LocalCloud, Moment, PebbleOptions, Plan, tls};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::evidence::{DAY, NEW_ORDER, later};
use crate::interruption::AFTERWARDS;

#[tokio::test(flavor = "multi_thread")]
async fn accents_of_directories_and_nonces() {
    each_issues_in_the_end(&["directory", "nonce"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn accents_of_accounts() {
    each_issues_in_the_end(&["account"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn accents_of_orders() {
    each_issues_in_the_end(&["order", "finalize"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn accents_of_authorizations_and_challenges() {
    each_issues_in_the_end(&["authorization", "challenge"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn accents_of_certificates() {
    each_issues_in_the_end(&["certificate"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn accents_of_problems_and_renewal_information() {
    each_issues_in_the_end(&["problem", "renewalInfo"]).await;
}

#[test]
fn the_corpus_is_about_every_kind_of_answer() {
    let all = corpus();
    println!("{} accents", all.len());
    assert!(all.len() >= 60, "{} accents", all.len());
    for place in PLACES {
        assert!(
            all.iter().any(|accent| accent.place == place),
            "none of {place}"
        );
    }
}

async fn each_issues_in_the_end(places: &[&str]) {
    let options = PebbleOptions {
        // An authorization that is valid already appears in the order that goes on after a death.
        reuse: Some(match places.contains(&"authorization") {
            true => 100,
            false => 0,
        }),
        profiles: vec![("default".into(), 90 * DAY.as_secs())],
        ..PebbleOptions::default()
    };
    let cloud = Arc::new(LocalCloud::start_with(options).await);
    let root = cloud.pebble().root().await;
    let at_once = Arc::new(Semaphore::new(AT_ONCE));
    let only = std::env::var("ACCENT").ok();
    let mut runs = JoinSet::new();
    for (number, accent) in corpus().into_iter().enumerate() {
        let is_wanted = only.as_ref().is_none_or(|only| accent.name.contains(only));
        if !places.contains(&&*accent.place) || !is_wanted {
            continue;
        }
        let (cloud, root, at_once) = (cloud.clone(), root.clone(), at_once.clone());
        runs.spawn(async move {
            let _one = at_once.acquire().await.unwrap();
            let site = cloud.install(&format!("accent-{number}")).await;
            Trial::new(&cloud, site, accent, root).run().await
        });
    }
    let mut all = runs.join_all().await;
    all.sort();
    let mut wrong = String::new();
    for (told, faults) in all {
        println!("{told}");
        for fault in faults {
            let _ = writeln!(wrong, "{fault}\n");
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// One accent at an installation of its own.
struct Trial<'c> {
    cloud: &'c LocalCloud,
    site: Installation,
    accent: Accent,
    setting: Setting,
    /// All that reports and states have said so far.
    remembered: String,
    met: usize,
    told: Vec<String>,
    faults: Vec<String>,
}

/// When the passes of a situation run.
#[derive(Clone, Copy)]
struct Situation {
    name: &'static str,
    document: &'static str,
    /// What a success is called.
    success: &'static str,
    clock: Duration,
}

impl<'c> Trial<'c> {
    fn new(cloud: &'c LocalCloud, site: Installation, accent: Accent, root: String) -> Self {
        let setting = Setting {
            function: site.renew.clone(),
            origin: cloud.directory().trim_end_matches("/dir").to_owned(),
            root,
            domain: format!("{}.example.com", accent.name),
        };
        Self {
            cloud,
            site,
            accent,
            setting,
            remembered: String::new(),
            met: 0,
            told: Vec::new(),
            faults: Vec::new(),
        }
    }

    /// Runs the three situations. Returns a line of the table, and what is wrong.
    async fn run(mut self) -> (String, Vec<String>) {
        let name = self.setting.domain.clone();
        let mut settings = self.site.settings();
        // The authority has one profile. Nothing of this is about profiles.
        settings["defaults"]
            .as_object_mut()
            .unwrap()
            .remove("profile");
        self.site.put_settings(&settings).await;
        self.want("first", &[&name]).await;
        self.meet(Situation {
            name: "first issuance",
            document: "first",
            success: "issued",
            clock: Duration::ZERO,
        })
        .await;
        self.meet(Situation {
            name: "renewal",
            document: "first",
            success: "renewed",
            clock: 62 * DAY,
        })
        .await;

        let other = format!("again.{name}");
        match &*self.accent.place {
            // One name has one certificate on a listener.
            "certificate" => self.want("again", &[&other]).await,
            _ => self.want("again", &[&name, &other]).await,
        }
        let dies = Plan::default().killed_on("POST /authZ/", Moment::Before);
        let death = self.pass("again", dies).await;
        if death.result.is_ok() {
            self.wrong("resumption", "the pass did not die", &death);
        }
        self.meet(Situation {
            name: "resumption",
            document: "again",
            success: "issued",
            clock: AFTERWARDS,
        })
        .await;
        self.count_orders();
        if self.met == 0 && !self.accent.is_avoidable {
            self.faults
                .push(format!("{}: no answer was of this kind", self.accent.name));
        }
        let line = format!(
            "{:<14} {:<44} {}",
            self.accent.place,
            self.accent.name,
            self.told.join(" | ")
        );
        (line, self.faults)
    }

    async fn want(&self, document: &str, domains: &[&str]) {
        let mut content = self.site.document(domains);
        if self.accent.place != "certificate" || self.accent.changes_leaf {
            // In the vault alone: what comes after that is no matter of the authority.
            content["targets"] = Value::Array(Vec::new());
        }
        self.site.put_document(document, &content).await;
    }

    /// Lets the accent begin, looks at what comes of it, lets it end, and looks for the
    /// certificate.
    async fn meet(&mut self, situation: Situation) {
        // A warm function has read the directory.
        self.cloud.lambda().forget(&self.site.renew);
        let before = self.serial(situation.document).await;
        let (fault, struck) = self.accent.fault(&self.setting);
        self.cloud.to_acme().inject(fault);
        let pass = self.pass(situation.document, later(situation.clock)).await;
        let mut issued = self.judge(situation, &pass, &struck);
        if self.accent.expect == Expect::IssuesLater && !issued {
            let hour = later(situation.clock + HOUR);
            let pass = self.pass(situation.document, hour).await;
            issued = self.has_issued(situation, &pass);
            if !issued {
                self.wrong(situation.name, "nothing is issued an hour later", &pass);
            }
        }
        self.met += struck.answers();
        self.cloud.to_acme().heal_labelled(&self.site.renew);
        let mut words = match (struck.answers(), issued) {
            (0, _) => "not met".to_owned(),
            (_, true) => "issues".to_owned(),
            (_, false) => outcome(&pass, situation.document).to_owned(),
        };
        for (when, wait) in [("an hour later", HOUR), ("a day later", DAY + HOUR)] {
            if issued {
                break;
            }
            let clock = later(situation.clock + wait);
            let pass = self.pass(situation.document, clock).await;
            // What could not be imported is replaced.
            let outcome = outcome(&pass, situation.document);
            issued = [situation.success, "renewed"].contains(&&*outcome);
            let _ = write!(words, ", {outcome} {when}");
            if !issued && wait > DAY {
                self.wrong(situation.name, "nothing is issued after a day", &pass);
            }
        }
        if issued {
            self.look_at_vault(situation, before.as_deref()).await;
        }
        self.told.push(words);
    }

    fn judge(&mut self, situation: Situation, pass: &Invocation, struck: &Struck) -> bool {
        let issued = self.has_issued(situation, pass);
        let expect = match struck.answers() {
            0 => Expect::Issues,
            _ => self.accent.expect,
        };
        let report = entry(pass, situation.document);
        let problem = report["problem"]["detail"].as_str().unwrap_or_default();
        let why = match expect {
            Expect::Issues if !issued => Some("nothing is issued".to_owned()),
            Expect::Fails | Expect::Waits if issued => Some("it is issued".to_owned()),
            Expect::Fails if problem.is_empty() => Some("no problem is said".to_owned()),
            Expect::Fails if pass.duration > AT_ONCE_IS => {
                Some(format!("it took {:?}", pass.duration))
            }
            Expect::Waits if outcome(pass, situation.document) != "waiting" => {
                Some("it does not wait".to_owned())
            }
            _ => self.unsaid(&report, struck),
        };
        if let Some(why) = why {
            self.wrong(situation.name, &why, pass);
        }
        issued
    }

    /// Returns the word that the report lacks.
    fn unsaid(&self, report: &Value, struck: &Struck) -> Option<String> {
        let text = report.to_string().to_lowercase();
        let mut words = self
            .accent
            .says
            .iter()
            .map(|word| word.replace("{name}", &self.accent.name));
        let unsaid = words.find(|word| !text.contains(&word.to_lowercase()));
        let unsaid = unsaid.filter(|_| struck.answers() > 0);
        unsaid.map(|word| format!("it does not say {word:?}"))
    }

    fn has_issued(&self, situation: Situation, pass: &Invocation) -> bool {
        outcome(pass, situation.document) == situation.success
    }

    /// The chain in the vault begins with the leaf, and each certificate has issued the one before.
    async fn look_at_vault(&mut self, situation: Situation, before: Option<&str>) {
        let serial = self.serial(situation.document).await.unwrap_or_default();
        if Some(&*serial) == before {
            let fault = format!("{}: {}: no new serial", self.accent.name, situation.name);
            self.faults.push(fault);
            return;
        }
        let entry = format!("vault/{}/{serial}.json", situation.document);
        let entry = self.site.read_json(&entry).await;
        let pem = entry["chain"].as_str().unwrap_or_default();
        let ders = tls::certificates(pem);
        let chain = ders.iter().map(|der| {
            let (_, certificate) = x509_parser::parse_x509_certificate(der).unwrap();
            (
                certificate.subject().to_string(),
                certificate.issuer().to_string(),
            )
        });
        let chain: Vec<_> = chain.collect();
        let follow = chain.windows(2).all(|pair| pair[0].1 == pair[1].0);
        let has_root = chain.iter().any(|(subject, issuer)| subject == issuer);
        if chain.is_empty() || !follow || has_root {
            let fault = format!("{}: {}: {chain:?}", self.accent.name, situation.name);
            self.faults.push(fault);
        }
    }

    async fn serial(&self, document: &str) -> Option<String> {
        let state = self.site.read(&format!("state/{document}.json")).await?;
        let state: Value = serde_json::from_slice(&state).unwrap();
        state["certificate"]["serial"].as_str().map(str::to_owned)
    }

    /// Runs a pass and keeps what it and the state say.
    async fn pass(&mut self, document: &str, plan: Plan) -> Invocation {
        let only = json!({"action": "reconcile", "certificates": [document]});
        let pass = self.site.invoke_with(&only, plan.within(PASS)).await;
        if let Ok(report) = &pass.result {
            self.remembered += &report.to_string();
        }
        let state = self.site.read(&format!("state/{document}.json")).await;
        self.remembered += &String::from_utf8_lossy(&state.unwrap_or_default());
        let made = pass.count(|sent| sent.is_acme(NEW_ORDER) && is_made(sent));
        if made > 1 {
            self.wrong(document, &format!("{made} orders in one pass"), &pass);
        }
        pass
    }

    /// No order is made that neither a state nor a report names.
    fn count_orders(&mut self) {
        let sent = crate::evidence::asked(self.cloud, &self.site, NEW_ORDER);
        let made = sent.iter().filter(|sent| is_made(sent));
        let urls: Vec<&str> = made.filter_map(|sent| sent.location.as_deref()).collect();
        let lost = urls.iter().filter(|url| {
            let order = url.rsplit('/').next().unwrap_or_default();
            !self.remembered.contains(order)
        });
        let lost = lost.count();
        if lost > 0 {
            self.faults
                .push(format!("{}: {lost} orders are lost", self.accent.name));
        }
        self.told
            .push(format!("{} orders, {lost} lost", urls.len()));
    }

    fn wrong(&mut self, situation: &str, why: &str, pass: &Invocation) {
        let report = match &pass.result {
            Ok(report) => format!("{report:#}"),
            Err(error) => error.to_string(),
        };
        let calls: Vec<String> = pass
            .requests
            .iter()
            .filter(|sent| crate::helpers::acme(sent))
            .map(ToString::to_string)
            .collect();
        self.faults.push(format!(
            "{} ({situation}): {why}\n{report}\n{}",
            self.accent.name,
            calls.join("\n")
        ));
    }
}

fn is_made(sent: &tests::Sent) -> bool {
    sent.status.is_some_and(|status| status < 300)
}

fn entry(pass: &Invocation, document: &str) -> Value {
    let report = pass.result.as_ref().ok();
    let all = report.and_then(|report| report["certificates"].as_array());
    let mut all = all.into_iter().flatten();
    all.find(|one| one["name"] == document)
        .cloned()
        .unwrap_or_default()
}

fn outcome(pass: &Invocation, document: &str) -> String {
    let entry = entry(pass, document);
    entry["outcome"].as_str().unwrap_or("no report").to_owned()
}

/// Accents of one test that run at the same time.
const AT_ONCE: usize = 4;
/// The time of a pass.
const PASS: Duration = Duration::from_secs(25);
/// A pass that fails at once takes at most this long, on a busy machine.
const AT_ONCE_IS: Duration = Duration::from_secs(15);
const HOUR: Duration = Duration::from_secs(60 * 60);

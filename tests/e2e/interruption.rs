//! Death at every request: the next passes complete anything that a pass had just done or was about
//! to do.

#![allow(
    clippy::print_stdout,
    reason = "how many deaths there were is worth seeing"
)]

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tests::{Installation, Invocation, LocalCloud, Moment, Plan};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use crate::evidence::{self, later};

/// The number of installations that are tested at the same time.
const AT_ONCE: usize = 3;

/// By now the lease of the dead invocation has ended.
pub(crate) const AFTERWARDS: Duration = Duration::from_secs(16 * 60);

/// The tokens of an abandoned order stay this long, and a little longer.
const STILL_ASKED_FOR: Duration = Duration::from_secs(11 * 60);

/// Runs `scenario` with death before and after a request, then the next one and so on, until a run
/// survives. Returns the number of deaths.
async fn at_every_request_from<S, F>(begin: usize, scenario: S) -> usize
where
    S: Fn(Death) -> F,
    F: Future<Output = bool> + Send + 'static,
{
    let mut deaths = 0;
    for first in (begin..).step_by(AT_ONCE) {
        let mut runs = JoinSet::new();
        for request in first..first + AT_ONCE {
            for moment in [Moment::Before, Moment::After] {
                runs.spawn(scenario(Death { request, moment }));
            }
        }
        let died = runs.join_all().await;
        deaths += died.iter().filter(|died| **died).count();
        if !died.contains(&true) {
            break;
        }
    }
    deaths
}

/// Where an invocation is killed.
#[derive(Clone, Copy)]
pub(crate) struct Death {
    pub(crate) request: usize,
    pub(crate) moment: Moment,
}

/// An invocation with a planned death.
pub(crate) struct Killed {
    pub(crate) invocation: Invocation,
    /// Whether the invocation reached that request.
    pub(crate) died: bool,
    /// What a failed assertion begins with.
    pub(crate) context: String,
}

impl Death {
    /// Returns a name for the things of this run of a scenario.
    pub(crate) fn label(self, scenario: &str) -> String {
        format!("{scenario}-{}-{:?}", self.request, self.moment).to_lowercase()
    }

    /// Kills a pass.
    pub(crate) async fn of_a_pass(self, site: &Installation) -> Killed {
        self.of_a_later_pass(site, Duration::ZERO).await
    }

    /// Kills a pass whose clock is ahead.
    pub(crate) async fn of_a_later_pass(self, site: &Installation, clock: Duration) -> Killed {
        self.told_by(site.pass_with(self.plan(clock)).await)
    }

    /// Kills the invocation that answers an event.
    pub(crate) async fn of_an_answer(self, site: &Installation, event: &Value) -> Killed {
        let plan = self.plan(Duration::ZERO);
        self.told_by(site.invoke_with(event, plan).await)
    }

    fn plan(self, clock: Duration) -> Plan {
        later(clock).killed_at(self.request, self.moment)
    }

    fn told_by(self, invocation: Invocation) -> Killed {
        let Self { request, moment } = self;
        let last = invocation.requests.last().map(ToString::to_string);
        Killed {
            died: invocation.result.is_err(),
            context: format!("{moment:?} request {request}: {}", last.unwrap_or_default()),
            invocation,
        }
    }
}

impl Killed {
    /// Releases an installation whose test is done; returns whether an invocation died.
    pub(crate) fn ended_at_all(self, cloud: &LocalCloud, site: &Installation) -> bool {
        cloud.lambda().forget(&site.renew);
        cloud.lambda().forget(&site.challenge);
        self.died
    }
}

/// Runs `scenario` with death before and after the first request, then the second one and so on,
/// until a run survives. All runs have `shared`; more than `least` must have died.
pub(crate) async fn survives<C, F>(least: usize, shared: C, scenario: impl Fn(Arc<C>, Death) -> F)
where
    F: Future<Output = bool> + Send + 'static,
{
    survives_from(1, least, shared, scenario).await;
}

/// Does the same from a later request on.
async fn survives_from<C, F>(
    begin: usize,
    least: usize,
    shared: C,
    scenario: impl Fn(Arc<C>, Death) -> F,
) where
    F: Future<Output = bool> + Send + 'static,
{
    let shared = Arc::new(shared);
    let deaths = at_every_request_from(begin, |death| scenario(shared.clone(), death)).await;
    println!("{deaths} deaths");
    assert!(
        deaths > least,
        "only {deaths} deaths: is every request counted?"
    );
}

/// Runs passes after a death until one keeps everything as it is.
pub(crate) async fn passes_afterwards(site: &Installation, name: &str, context: &str) {
    let mut told = Vec::new();
    for _ in 0..5 {
        let pass = site.pass_with(later(AFTERWARDS)).await;
        let outcome = pass.outcome(name).to_owned();
        assert!(
            !["failed", "waiting"].contains(&outcome.as_str()),
            "{context}: {:#}",
            pass.report()
        );
        if evidence::writes(&pass).is_empty() {
            assert_eq!(outcome, "kept", "{context}: {:#}", pass.report());
            return;
        }
        told.push(pass.report().clone());
    }
    panic!("{context}: no pass is the last one: {told:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_issuance_survives_death_at_every_request() {
    let cloud = LocalCloud::start().await;
    survives(60, cloud, |cloud, death| async move {
        let label = death.label("first");
        let domain = format!("{label}.example.com");
        let site = cloud.install(&label).await;
        site.want("shop", &[&domain]).await;

        let killed = death.of_a_pass(&site).await;
        let context = &killed.context;
        passes_afterwards(&site, "shop", context).await;

        evidence::assert_at_rest(&cloud, &site, "shop", &domain, 1).await;
        assert_eq!(evidence::issued(&cloud, &site), 1, "{context}");
        assert_eq!(evidence::accounts(&cloud, &site), 1, "{context}");
        killed.ended_at_all(&cloud, &site)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_changed_after_a_death_leaves_nothing_of_what_was_under_way() {
    let cloud = LocalCloud::start().await;
    survives(60, cloud, |cloud, death| async move {
        let label = death.label("changed");
        let [before, after] = ["before", "after"].map(|one| format!("{one}.{label}.example"));
        let site = cloud.install(&label).await;
        site.want("shop", &[&before]).await;

        let killed = death.of_a_pass(&site).await;
        let context = &killed.context;
        site.want("shop", &[&after]).await;
        passes_afterwards(&site, "shop", context).await;
        // The authority may be validating already, and may fetch the token of the abandoned order.
        site.pass_with(later(AFTERWARDS + STILL_ASKED_FOR)).await;

        let state = site.read_json("state/shop.json").await;
        let held = 1 + usize::from(state["previous"].is_string());
        evidence::assert_at_rest(&cloud, &site, "shop", &after, held).await;
        let old = evidence::ours(&cloud, &site, "shop", &before).await;
        assert!(old.is_empty(), "{context}: {old:?}");
        assert_eq!(evidence::accounts(&cloud, &site), 1, "{context}");
        killed.ended_at_all(&cloud, &site)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_type_switch_survives_death_at_every_request() {
    let cloud = LocalCloud::start().await;
    survives(60, cloud, |cloud, death| async move {
        let label = death.label("switch");
        let domain = format!("{label}.example.com");
        let site = Arc::new(cloud.install(&label).await);
        site.want("shop", &[&domain]).await;
        let pass = site.pass().await;
        assert_eq!(pass.outcome("shop"), "issued", "{:#}", pass.report());

        let visitor = Visitor::start(site.clone(), &domain);
        let mut document = site.document(&[&domain]);
        document["keyType"] = json!("rsa-2048");
        site.put_document("shop", &document).await;
        let killed = death.of_a_pass(&site).await;
        let context = &killed.context;
        let served = site.browser_trusts(&domain).await;
        assert!(served.is_ok(), "{context}: {served:?}");
        passes_afterwards(&site, "shop", context).await;

        let visits = visitor.stop().await;
        assert!(visits > 5, "{context}: only {visits} visits");
        // The previous one is kept in the vault.
        evidence::assert_at_rest(&cloud, &site, "shop", &domain, 2).await;
        let leaf = site.browser_trusts(&domain).await.unwrap();
        assert_eq!(leaf.key, "rsa", "{context}");
        assert_eq!(evidence::issued(&cloud, &site), 2, "{context}");
        killed.ended_at_all(&cloud, &site)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_switch_undone_at_once_survives_death_at_every_request() {
    let cloud = LocalCloud::start().await;
    // The order is the same as in any other switch: these requests are skipped.
    survives_from(26, 15, cloud, |cloud, death| async move {
        let label = death.label("undone");
        let domain = format!("{label}.example.com");
        let site = cloud.install(&label).await;
        site.want("shop", &[&domain]).await;
        let first = site.pass().await;
        let mut document = site.document(&[&domain]);
        document["keyType"] = json!("rsa-2048");
        site.put_document("shop", &document).await;
        let switched = site.pass().await;
        assert_eq!(switched.outcome("shop"), "renewed", "{switched:?}");

        site.want("shop", &[&domain]).await;
        let killed = death.of_a_pass(&site).await;
        let context = &killed.context;
        let served = site.browser_trusts(&domain).await;
        assert!(served.is_ok(), "{context}: {served:?}");
        passes_afterwards(&site, "shop", context).await;

        evidence::assert_at_rest(&cloud, &site, "shop", &domain, 2).await;
        // The first ARN still exists and is used again.
        let ours = evidence::ours(&cloud, &site, "shop", &domain).await;
        assert_eq!(
            ours,
            [first.certificate("shop")["certificateArn"].clone()],
            "{context}"
        );
        assert_eq!(evidence::issued(&cloud, &site), 3, "{context}");
        killed.ended_at_all(&cloud, &site)
    })
    .await;
}

/// A visitor who visits the site all the time.
pub(crate) struct Visitor {
    stop: oneshot::Sender<()>,
    visits: tokio::task::JoinHandle<Result<usize, String>>,
}

impl Visitor {
    pub(crate) fn start(site: Arc<Installation>, domain: &str) -> Self {
        let domain = domain.to_owned();
        let (stop, mut stopped) = oneshot::channel();
        let visits = tokio::spawn(async move {
            let mut visits = 0;
            while stopped.try_recv().is_err() {
                site.browser_trusts(&domain)
                    .await
                    .map_err(|why| format!("visit {visits}: {why}"))?;
                visits += 1;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            Ok(visits)
        });
        Self { stop, visits }
    }

    /// Returns the number of visits. All of them must have been served.
    pub(crate) async fn stop(self) -> usize {
        let _ = self.stop.send(());
        self.visits
            .await
            .unwrap()
            .unwrap_or_else(|why| panic!("{why}"))
    }
}

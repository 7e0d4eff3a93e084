//! From "in the vault" to "seen to be served": import, attach, prove, take over, clean up (rules 3
//! and 4, Proof).
//!
//! A deployment can be repeated from any point. It never needs the authority.

pub mod by_arn;
pub mod deployment;
pub mod destination;
pub mod issued;

use crate::contract::certificate::Wanted;
use crate::contract::word::Word;
use crate::life::deploy::deployment::Deployment;
use crate::life::deploy::destination::Family;
use crate::life::deploy::issued::{Brought, Issued};
use crate::life::work::Work;
use crate::pass::context::Cycle;
use crate::pass::stop::Stop;
use crate::ports::Ports;
use crate::records::state::State;
use crate::rules::renewal;
use crate::rules::targets::{Deployed, stray_targets};
use crate::values::instant::whole_seconds;
use crate::values::problem::Problem;
use crate::values::problem_types::ProblemType;

/// Returns why a deployment is needed, or `None` when everything is as wanted. Reads each place
/// once per pass.
pub(crate) async fn deployment_needed<P: Ports>(
    cycle: &Cycle<'_, P>,
    document: &Wanted,
    state: &State,
) -> Option<String> {
    let deployment = Deployment {
        cycle,
        document,
        wanted: &state.in_force(document, &cycle.judge().directories(document), &cycle.home),
        state,
        held: state.certificate.as_ref()?,
        now: cycle.clock.now(),
    };
    for family in Family::ALL {
        if let Some(why) = deployment.not_as_wanted(family).await {
            return Some(why);
        }
    }
    if let Some(why) = unfinished(deployment.wanted, state, &cycle.home) {
        return Some(why);
    }
    for family in Family::ALL {
        if let Some(why) = deployment.left_over(family).await {
            return Some(why);
        }
    }
    None
}

/// Returns why the record shows that the last deployment did not end, or `None`.
fn unfinished(wanted: &Wanted, state: &State, home: &str) -> Option<String> {
    if state.deployment.failure.is_some() {
        return Some("the last deployment did not succeed".to_owned());
    }
    if state.deployment.still_served.is_some() {
        return Some("the last deployment was not finished".to_owned());
    }
    let strays = stray_targets(wanted, state, home);
    let stray = strays.first()?;
    Some(format!("the document does not name {stray} any more"))
}

impl<P: Ports> Work<'_, '_, P> {
    /// Puts the current certificate on all targets in force and takes all other certificates of
    /// ours off.
    #[tracing::instrument(level = "error", skip_all)]
    pub(crate) async fn deploy(&mut self) -> Result<Deployed, Stop> {
        self.deployed = Deployed::default();
        self.take_the_documents_word();
        let outcome = self.deploy_in_force().await;
        self.state
            .note_served(whole_seconds(self.cycle.clock.now()));
        outcome.map(|()| std::mem::take(&mut self.deployed))
    }

    /// From here on the document is in force, if a certificate was issued for it (rule 12).
    pub(crate) fn take_the_documents_word(&mut self) {
        let directories = self.cycle.judge().directories(&self.wanted);
        if self.state.is_for(&self.wanted, &directories) {
            self.state.in_force = Some(Box::new(Word::from(&self.wanted)));
        }
        let in_force = (self.state).in_force(&self.wanted, &directories, &self.cycle.home);
        self.in_force = in_force.into_owned();
    }

    async fn deploy_in_force(&mut self) -> Result<(), Stop> {
        if self.state.certificate.is_none() {
            return Ok(());
        }
        if let Some(problem) = self.cycle.judge().distrusts(&self.in_force, &self.state) {
            self.deployed.note(problem);
            return Ok(());
        }
        for family in Family::ALL {
            self.take_up_again(family).await;
        }
        for _ in 0..MOST_ADOPTIONS {
            match self.bring().await? {
                Brought::Done => break,
                Brought::Adopted => {}
            }
        }
        for family in Family::ALL {
            self.forget_unnamed(family);
        }
        // Add before remove: what is served elsewhere stays there until ours is in its wanted
        // place.
        if self.deployed.problem.is_none() {
            self.take_off_strays().await?;
        }
        self.delete_superseded().await;
        Ok(())
    }

    /// Brings the current certificate to all places in force.
    async fn bring(&mut self) -> Result<Brought, Stop> {
        if self.in_force.targets.is_empty() {
            return Ok(Brought::Done);
        }
        let Some(issued) = self.what_is_to_be_served().await? else {
            return Ok(Brought::Done);
        };
        for family in Family::ALL {
            if let Brought::Adopted = self.bring_to(family, &issued).await? {
                return Ok(Brought::Adopted);
            }
        }
        Ok(Brought::Done)
    }

    /// Returns the current certificate from the vault. One that the vault does not hold is read
    /// from where it is used: it stays in service without its key, and a new one is ordered soon.
    async fn what_is_to_be_served(&mut self) -> Result<Option<Issued>, Stop> {
        let Some(held) = self.state.certificate.clone() else {
            return Ok(None);
        };
        let serial = &held.serial;
        let mut issued = self.issued(serial).await?;
        for family in Family::ALL {
            if issued.is_none() {
                issued = self.in_use(family, serial).await?;
            }
        }
        if let Some(issued) = issued {
            self.note_key(&issued);
            return Ok(Some(issued));
        }
        self.note("vault entry lost", serial.clone());
        self.state.certificate = None;
        let detail =
            format!("the vault does not hold {serial} any more; a new certificate will be ordered");
        Err(Problem::ours(ProblemType::VaultEntryLost, detail).into())
    }

    /// Notes whether the vault holds the key of the current certificate. One that has just lost it
    /// is renewed soon; not at once, since a fleet may have lost all its keys.
    fn note_key(&mut self, issued: &Issued) {
        let (now, is_lost) = (self.cycle.clock.now(), !issued.has_key());
        let held = self.state.certificate.as_mut();
        let Some(held) = held.filter(|held| held.adopted != is_lost) else {
            return;
        };
        held.adopted = is_lost;
        if is_lost {
            held.renewal.at = renewal::without_key(held, now, fastrand::f64());
            self.note("vault entry lost", issued.leaf().serial.clone());
        }
    }
}

/// Each of a few regions may hold a newer certificate.
const MOST_ADOPTIONS: usize = 4;

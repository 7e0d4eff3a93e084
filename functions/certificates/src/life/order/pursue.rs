//! From "an order is needed" to "chain and key are in the vault": the ACME part of the cycle.
//!
//! Each visit asks the authority for the order's status and takes the step it calls for (RFC 8555 section 7.1.6). What cannot
//! be undone is written down first: the order's URL before validation, the tokens before they are put, the key before
//! `finalize`. Every step can be repeated after a stop.

use std::time::Duration;

use time::OffsetDateTime;

use crate::challenge::Token;
use crate::contract::settings::CheckMode;
use crate::contract::word::Word;
use crate::life::order::route::OrderRoute;
use crate::life::work::Work;
use crate::pass::halt::{Failing, Halt};
use crate::ports::Ports;
use crate::ports::authority::{
    Account, Authorities, AuthorizationStatus, Http01, Order, OrderStatus,
};
use crate::ports::probe::Fetched;
use crate::ports::store::{self, Condition, Store, read_record, write_record};
use crate::records::certificate::Held;
use crate::records::order::{Rehearsed, Stage};
use crate::records::state::AskedFor;
use crate::records::vault::{PendingKey, VaultEntry};
use crate::rules::ledger::Outcome;
use crate::rules::order_names::{self, Blame};
use crate::rules::renewal;
use crate::values::chain::{Chain, check_issued};
use crate::values::instant;
use crate::values::key::PrivateKey;
use crate::values::names::DnsName;
use crate::values::problem::{self, Failure, Problem, Refusal, URN};
use crate::values::problem_types::Ours;

type OrderOf<P> = <<<P as Ports>::Authorities as Authorities>::Account as Account>::Order;

impl<P: Ports> Work<'_, '_, P> {
    /// Brings a certificate as wanted into the vault.
    pub(crate) async fn obtain(
        &mut self,
        route: &OrderRoute<'_>,
        reason: &str,
    ) -> Result<(), Halt> {
        let now = self.cycle.clock.now();
        if self.state.order.is_some() && !route.fits(&self.wanted, &self.state, now) {
            self.abandon("something else is to be ordered now", Outcome::Unknown)
                .await?;
        }
        self.grant("ordering", LEAST, LEAST)?;
        let account = self.cycle.accounts.account(route.authority).await?;
        let mut resumed = self.resume(&account).await?;
        if route.is_rehearsal && resumed.is_none() && self.may_not_rehearse(route).await? {
            return Ok(());
        }
        // An order that died while nobody looked is replaced once; one that dies under our hands is a failure.
        let mut last = Problem::ours(Ours::Order, "the order ended without saying why");
        for _ in 0..2 {
            let fresh = resumed.is_none();
            let mut order = match resumed.take() {
                Some(order) => order,
                None => self.place(route, &account, reason).await?,
            };
            match self.pursue(&mut order).await? {
                Ended::Issued => return Ok(()),
                Ended::Died(failing) if route.is_rehearsal && is_of_caa(&failing) => {
                    self.go_unrehearsed(route, &failing.problem.detail);
                    return Ok(());
                }
                Ended::Died(failing) if fresh || !failing.identifiers.is_empty() => {
                    return Err(Halt::Failed(failing));
                }
                // Each would cost a certificate: another is for the next attempt.
                Ended::Unusable(problem) if fresh => return Err(problem.into()),
                Ended::Died(Failing { problem, .. }) | Ended::Unusable(problem) => last = problem,
            }
        }
        Err(last.into())
    }

    async fn pursue(&mut self, order: &mut OrderOf<P>) -> Result<Ended, Halt> {
        for _ in 0..TURNS {
            match order.status() {
                OrderStatus::Pending => self.validate(order).await?,
                OrderStatus::Ready => self.finalize(order).await?,
                OrderStatus::Processing => {
                    self.wait(order, OrderStatus::Processing, FIRST_LOOK_AT_ISSUANCE)
                        .await?
                }
                OrderStatus::Valid => {
                    return match self.download(order).await? {
                        None => Ok(Ended::Issued),
                        Some(why) => {
                            self.abandon(&why.detail, Outcome::Issued).await?;
                            Ok(Ended::Unusable(why))
                        }
                    };
                }
                OrderStatus::Invalid => {
                    let failing = self.autopsy(order).await?;
                    return self.bury(failing).await;
                }
            }
        }
        Err(Problem::ours(
            Ours::Order,
            "the order's status keeps changing without an end",
        )
        .into())
    }

    /// Takes up the order under way, or `None` when there is none any more.
    async fn resume<A: Account>(&mut self, account: &A) -> Result<Option<A::Order>, Halt> {
        let Some(record) = &self.state.order else {
            return Ok(None);
        };
        match self.answered(account.order(&record.url)).await {
            Ok(order) if is_stuck(order.status(), record.ordered_at, self.cycle.clock.now()) => {
                self.abandon("it came to nothing in a day", Outcome::Unknown)
                    .await?;
                Ok(None)
            }
            Ok(order) => Ok(Some(order)),
            // Gone, or not an order of this account: it is the authority that says so, not something before it.
            Err(refusal)
                if matches!(refusal.status, Some(403 | 404)) && refusal.kind.starts_with(URN) =>
            {
                self.abandon("the authority does not know it any more", Outcome::Unknown)
                    .await?;
                Ok(None)
            }
            Err(refusal) => Err(refusal.into()),
        }
    }

    /// Puts all tokens, fetches them as the authority will, answers all challenges, waits for the outcome.
    async fn validate(&mut self, order: &mut OrderOf<P>) -> Result<(), Halt> {
        self.grant("validating", LEAST, LEAST)?;
        let mut challenges = Vec::new();
        for authorization in self.answered(order.authorizations(false)).await? {
            if authorization.status != AuthorizationStatus::Pending {
                continue;
            }
            let name = DnsName::parse(&authorization.identifier).map_err(|error| {
                Problem::ours(
                    Ours::Protocol,
                    format!("an authorization is for no DNS name: {error}"),
                )
            })?;
            let Some(challenge) = authorization.http01 else {
                let detail = format!(
                    "the authority offers no http-01 challenge for {name}; other validations are not yet built"
                );
                return Err(Problem::ours(Ours::NoChallenge, detail).into());
            };
            let token: Token = challenge.token.parse().map_err(|_| {
                Problem::ours(
                    Ours::Protocol,
                    format!("the token for {name} is not base64url (RFC 8555 section 8.3)"),
                )
            })?;
            challenges.push((name, token, challenge));
        }
        if !challenges.is_empty() {
            self.present(&challenges).await?;
            // Where it fails the tokens stay: others may share the authorization, and the next attempt presents the same ones.
            self.self_check(&challenges).await?;
            self.answered(order.answer()).await?;
            self.note(
                "answered",
                listed_names(challenges.iter().map(|(name, ..)| name)),
            );
        }
        self.wait(order, OrderStatus::Pending, FIRST_LOOK_AT_VALIDATION)
            .await?;
        if order.status() == OrderStatus::Invalid {
            // One failure ends the order; the others may still be validated.
            return Ok(());
        }
        // All authorizations are final now: nobody asks for the tokens any more.
        self.sweep().await
    }

    async fn present(&mut self, challenges: &[(DnsName, Token, Http01)]) -> Result<(), Halt> {
        self.state
            .leftovers
            .tokens
            .extend(challenges.iter().map(|(_, token, _)| token.to_string()));
        self.note(
            "presenting",
            listed_names(challenges.iter().map(|(name, ..)| name)),
        );
        self.save().await?;
        let store = self.cycle.ports.store();
        let puts = challenges.iter().map(|(_, token, challenge)| async move {
            let body = challenge.key_authorization.clone().into_bytes();
            store
                .write(&token.object_key(), body, Condition::None)
                .await
        });
        futures_util::future::try_join_all(puts).await?;
        Ok(())
    }

    /// Rule 9: no challenge is answered before our own fetch of it succeeded.
    async fn self_check(&mut self, challenges: &[(DnsName, Token, Http01)]) -> Result<(), Halt> {
        let check = &self.cycle.settings.self_check;
        if check.mode == CheckMode::Off {
            return Ok(());
        }
        let limit = self.grant("the self-check", SELF_CHECK, SELF_CHECK)?;
        let ports = self.cycle.ports;
        let fetches = challenges
            .iter()
            .map(|(name, token, challenge)| async move {
                let token = token.to_string();
                (
                    name,
                    ports
                        .fetch(
                            name,
                            &token,
                            &challenge.key_authorization,
                            check.connect_to.as_deref(),
                            limit,
                        )
                        .await,
                )
            });
        let (mut wrong, mut unreachable) = (Vec::new(), Vec::new());
        for (name, fetched) in futures_util::future::join_all(fetches).await {
            match fetched {
                Fetched::Right => {}
                Fetched::Wrong(why) => wrong.push((name, why)),
                Fetched::Unreachable(why) => unreachable.push((name, why)),
            }
        }
        let mode = check.mode;
        let listed = |found: &[(&DnsName, String)]| {
            let words = found.iter().map(|(name, why)| format!("{name}: {why}"));
            words.collect::<Vec<_>>().join("; ")
        };
        let blame = |found: &[(&DnsName, String)], ours: Ours| -> Vec<Blame> {
            let blame = |(name, why): &(&DnsName, String)| Blame {
                name: (*name).clone(),
                problem: Problem::ours(ours, why.clone()),
                not_before: None,
            };
            found.iter().map(blame).collect()
        };
        if !wrong.is_empty() {
            let detail = format!(
                "our own fetch of the challenge got something else; check the port-80 rule for /.well-known/acme-challenge/*: {}",
                listed(&wrong)
            );
            return self.self_check_failed(
                mode,
                Problem::ours(Ours::SelfCheck, detail),
                blame(&wrong, Ours::SelfCheck),
            );
        }
        if !unreachable.is_empty() {
            let detail = format!(
                "our own fetch of the challenge could not connect on port 80: {}",
                listed(&unreachable)
            );
            // It blocks once: the order, or a name that was left out of one for it.
            let blocked_before = (self.state.order.as_ref())
                .is_some_and(|order| order.unreachable_once)
                || (unreachable.iter()).all(|(name, _)| self.state.missing.contains_key(*name));
            if blocked_before {
                self.note(
                    "self-check",
                    format!("{detail}; answered all the same after one wait"),
                );
                return Ok(());
            }
            if let Some(order) = &mut self.state.order {
                order.unreachable_once = mode == CheckMode::Require;
            }
            return self.self_check_failed(
                mode,
                Problem::ours(Ours::SelfCheckUnreachable, detail),
                blame(&unreachable, Ours::SelfCheckUnreachable),
            );
        }
        crate::pass::preflight::checked(&mut self.state, self.cycle.clock.now());
        self.note(
            "fetched",
            listed_names(challenges.iter().map(|(name, ..)| name)),
        );
        Ok(())
    }

    fn self_check_failed(
        &mut self,
        mode: CheckMode,
        problem: Problem,
        blamed: Vec<Blame>,
    ) -> Result<(), Halt> {
        if mode == CheckMode::Require {
            return Err(Halt::Failed(Failing {
                blamed,
                ..Failing::from(problem)
            }));
        }
        self.note("self-check", problem.detail);
        Ok(())
    }

    /// Stores the key, then hands in the CSR.
    async fn finalize(&mut self, order: &mut OrderOf<P>) -> Result<(), Halt> {
        self.grant("finalizing", LEAST, LEAST)?;
        let key = match self.pending_key(order.url()).await? {
            Pending::Here(key) => key,
            Pending::Missing { replaced } => {
                self.make_pending_key(order.url(), replaced.as_deref())
                    .await?
            }
        };
        if let Some(record) = &mut self.state.order
            && record.stage != Stage::Finalizing
        {
            record.stage = Stage::Finalizing;
            self.note("finalizing", order.url());
            self.save().await?;
        }
        let csr = key
            .csr(self.ordered_names())
            .map_err(|error| Problem::ours(Ours::Key, error.to_string()))?;
        match self.answered(order.finalize(&csr)).await {
            Ok(wait) if order.status() == OrderStatus::Processing => {
                self.wait(
                    order,
                    OrderStatus::Processing,
                    wait.unwrap_or_default().max(FIRST_LOOK_AT_ISSUANCE),
                )
                .await
            }
            Ok(_) => Ok(()),
            // Perhaps an earlier visit has handed it in already: the status tells.
            Err(refusal) if refusal.word() == "orderNotReady" || refusal.status == Some(403) => {
                self.answered(order.refresh()).await?;
                if order.status() == OrderStatus::Ready {
                    Err(refusal.into())
                } else {
                    Ok(())
                }
            }
            Err(refusal) => Err(refusal.into()),
        }
    }

    /// Returns the names of the order under way.
    fn ordered_names(&self) -> &[DnsName] {
        let order = self.state.order.as_ref();
        order.map_or(&self.wanted.domains, |order| &order.domains)
    }

    /// Looks for the stored key of this order.
    async fn pending_key(&self, order: &str) -> Result<Pending, Halt> {
        let object = store::pending_key(&self.wanted.name);
        match read_record::<PendingKey>(self.cycle.ports.store(), &object).await? {
            None => Ok(Pending::Missing { replaced: None }),
            Some((record, etag)) if record.order != order => Ok(Pending::Missing {
                replaced: Some(etag),
            }),
            Some((record, _)) => Ok(Pending::Here(PrivateKey::from_pem(&record.private_key).map_err(|error| {
                Problem::ours(Ours::Record, format!("{object} holds no usable key: {error}; delete it and the order is made anew"))
            })?)),
        }
    }

    async fn make_pending_key(
        &self,
        order: &str,
        replaced: Option<&str>,
    ) -> Result<PrivateKey, Halt> {
        let made = self.cycle.ports.new_key(self.wanted.key_type).await;
        let key = made
            .map_err(|error| Problem::ours(Ours::Key, format!("no key could be made: {error}")))?;
        let object = store::pending_key(&self.wanted.name);
        let mut record = PendingKey::new(order.to_owned(), key.to_pem());
        let condition = replaced.map_or(Condition::Absent, Condition::Matches);
        write_record(self.cycle.ports.store(), &object, &mut record, condition).await?;
        Ok(key)
    }

    /// Downloads the chain and puts it with its key into the vault. A chain that is of no use to us says why.
    async fn download(&mut self, order: &mut OrderOf<P>) -> Result<Option<Problem>, Halt> {
        let Pending::Here(key) = self.pending_key(order.url()).await? else {
            let detail = "the key of the issued certificate is not in the vault; ordering anew";
            return Ok(Some(Problem::ours(Ours::KeyLost, detail)));
        };
        let pem = self.answered(order.certificate()).await?;
        let unusable = |error: &dyn std::fmt::Display| {
            let detail = format!("the downloaded chain cannot be used: {error}");
            Ok(Some(Problem::ours(Ours::Chain, detail)))
        };
        let chain = match Chain::parse(&pem) {
            Ok(chain) => chain,
            Err(error) => return unusable(&error),
        };
        let leaf = chain.leaf().clone();
        // A validity that begins in a moment is no reason to throw the certificate away: the import will wait for it.
        let at = self.cycle.clock.now().max(leaf.not_before);
        if let Err(error) = check_issued(&chain, &key, self.ordered_names(), at) {
            return unusable(&error);
        }
        if self
            .state
            .order
            .as_ref()
            .is_some_and(|order| order.rehearsal)
        {
            self.rehearsed().await?;
            return Ok(None);
        }
        let name = leaf.names.first().map_or("", DnsName::as_str);
        let public = self.cycle.ports.is_public(&pem, name, at);
        let mut entry = VaultEntry::new(&leaf, pem, key.to_pem());
        let object = store::vault_key(&self.wanted.name, &leaf.serial);
        write_record(
            self.cycle.ports.store(),
            &object,
            &mut entry,
            Condition::None,
        )
        .await?;

        if let Err(Halt::Failed(failing)) = self.settle(Outcome::Issued).await {
            // Bookkeeping that fails keeps no certificate back: it only counts a little longer.
            tracing::warn!(certificate.name = %self.wanted.name, problem.detail = %failing.problem.detail, "issuance not booked");
        }
        let Some(record) = self.state.order.take() else {
            return Ok(None);
        };
        self.state
            .has_ordered_at(&record.directory, self.cycle.clock.now());
        // What cannot be told of it is taken to be as with the one before.
        let before = self.state.certificate.as_ref();
        let before = before.filter(|held| held.directory == record.directory);
        let public = public.or_else(|| before?.public);
        let held = Held {
            serial: leaf.serial.clone(),
            fingerprint: leaf.fingerprint.clone(),
            not_before: leaf.not_before,
            not_after: leaf.not_after,
            domains: record.domains,
            key_type: record.key_type,
            authority: record.authority,
            directory: record.directory,
            profile: record.profile,
            identifier: leaf.identifier(),
            renewal: renewal::draw(
                leaf.not_before,
                leaf.not_after,
                self.state.certificate.as_ref(),
                self.cycle.clock.now(),
                fastrand::f64(),
            ),
            public,
            adopted: false,
            was_served: Some(false),
            revoked_at: None,
        };
        // What an earlier one that was never deployed left to be served ends first.
        let replaced =
            self.state
                .still_served
                .or(self.state.certificate.as_ref().map(Held::validity));
        (self.state.missing).retain(|name, _| !held.domains.contains(name));
        let before =
            (self.state.certificate.replace(held)).filter(|before| before.serial != leaf.serial);
        if let Some(before) = before {
            self.state.supersede(before);
        }
        self.state.rolled_back = None;
        self.state.in_force = Some(Box::new(Word::from(&self.wanted)));
        self.state.still_served = replaced;
        self.state.leftovers.pending_key = true;
        self.state.deployment_failure = None;
        self.note(
            "issued",
            format!(
                "serial {}, valid until {}",
                leaf.serial,
                instant::rfc3339(leaf.not_after)
            ),
        );
        self.save().await?;
        self.sweep().await?;
        self.ask_about_new().await;
        Ok(None)
    }

    /// Books that what was ordered for nothing would have been issued.
    async fn rehearsed(&mut self) -> Result<(), Halt> {
        self.settle(Outcome::Issued).await?;
        let Some(record) = self.state.order.take() else {
            return Ok(());
        };
        let names = listed_names(record.domains.iter());
        self.note("rehearsed", format!("{names} at {}", record.authority));
        let now = crate::values::instant::whole_seconds(self.cycle.clock.now());
        self.state.has_ordered_at(&record.directory, now);
        self.state.rehearsed = Some(Rehearsed {
            domains: record.domains,
            directory: record.directory,
            at: now,
        });
        self.state.leftovers.pending_key = true;
        self.save().await?;
        self.sweep().await
    }

    /// Whether CAA records surely forbid the rehearsal's authority, which says nothing about the one that is rehearsed for.
    async fn may_not_rehearse(&mut self, route: &OrderRoute<'_>) -> Result<bool, Halt> {
        let names = order_names::names_now(&self.wanted, &self.state, self.cycle.clock.now());
        let Some(why) = self.caa_against(route.authority, &names).await? else {
            return Ok(false);
        };
        self.go_unrehearsed(route, &why.problem.detail);
        Ok(true)
    }

    /// Books what cannot be ordered for nothing as if it had been.
    fn go_unrehearsed(&mut self, route: &OrderRoute<'_>, why: &str) {
        let now = self.cycle.clock.now();
        let domains = order_names::names_now(&self.wanted, &self.state, now);
        let key = &route.authority.key;
        self.note("not rehearsed", format!("CAA forbids {key}: {why}"));
        self.state.rehearsed = Some(Rehearsed {
            domains,
            directory: route.authority.directory.clone(),
            at: crate::values::instant::whole_seconds(now),
        });
        let is_of_it = |failure: &Failure| failure.directory == route.authority.directory;
        if self.state.order_failure.as_ref().is_some_and(is_of_it) {
            self.state.order_failure = None;
        }
    }

    /// Waits until the order has left a status, looking as often as the authority wants.
    async fn wait(
        &mut self,
        order: &mut OrderOf<P>,
        left: OrderStatus,
        first: Duration,
    ) -> Result<(), Halt> {
        let (mut pause, mut waited, mut unanswered) = (first, Duration::ZERO, 0);
        while order.status() == left {
            let too_long = waited + pause > LONGEST_WAIT;
            if (too_long || self.cycle.clock.left() < pause + LEAST)
                && let Some(record) = &mut self.state.order
            {
                record.not_before = Some(self.cycle.clock.now() + pause);
            }
            if too_long {
                return Err(Halt::Waiting {
                    reason: "the authority is still at it; the next pass looks again".to_owned(),
                    until: self.cycle.clock.now() + pause,
                    problem: None,
                });
            }
            if self.cycle.clock.left() < pause + LEAST {
                return Err(self.out_of_time("the authority's answer"));
            }
            tokio::time::sleep(pause).await;
            waited += pause;
            pause = match self.answered(order.refresh()).await {
                Ok(Some(wish)) => wish.max(SHORTEST_PAUSE),
                Ok(None) => pause.mul_f32(1.5).min(LONGEST_PAUSE),
                // A look can be repeated; a few that fail do not make the order fail.
                Err(refusal)
                    if refusal.retry_after.is_none()
                        && refusal.status.is_none_or(|status| status >= 500)
                        && unanswered < UNANSWERED =>
                {
                    unanswered += 1;
                    pause.mul_f32(2.0).min(LONGEST_PAUSE)
                }
                Err(refusal) => return Err(refusal.into()),
            };
        }
        Ok(())
    }

    /// Finds out which names made the order invalid, and why.
    async fn autopsy(&mut self, order: &mut OrderOf<P>) -> Result<Failing, Halt> {
        let authorizations = self.answered(order.authorizations(true)).await?;
        let until = AskedFor(
            crate::values::instant::whole_seconds(self.cycle.clock.now()) + STILL_ASKED_FOR,
        );
        let tokens = &self.state.leftovers.tokens;
        let still_asked_for: Vec<_> = authorizations
            .iter()
            .filter(|authorization| authorization.status == AuthorizationStatus::Pending)
            .filter_map(|authorization| Some(authorization.http01.as_ref()?.token.clone()))
            .filter(|token| tokens.contains(token))
            .map(|token| (token, until))
            .collect();
        self.state.leftovers.asked_for.extend(still_asked_for);
        let failed: Vec<(String, Refusal)> = authorizations
            .into_iter()
            .filter_map(|authorization| {
                Some((authorization.identifier, authorization.http01?.error?))
            })
            .collect();
        let Some((_, first)) = failed.first() else {
            let failing = order.error().map_or_else(
                || {
                    Problem::ours(
                        Ours::Order,
                        "the authority ended the order without saying why",
                    )
                    .into()
                },
                Failing::from,
            );
            return Ok(failing);
        };
        let blame = |(name, refusal): &(String, Refusal)| {
            Some(Blame {
                name: DnsName::parse(name).ok()?,
                problem: refusal.problem(),
                not_before: refusal.retry_after,
            })
        };
        let blamed = failed.iter().filter_map(blame).collect();
        let detail: Vec<String> = failed
            .iter()
            .map(|(name, refusal)| format!("{name}: {}", refusal.detail))
            .collect();
        let problem = Problem {
            kind: first.kind.clone(),
            detail: detail.join("; "),
            retry: first.retry(),
        };
        Ok(Failing {
            problem,
            not_before: first.retry_after,
            paused: problem::is_paused(first),
            identifiers: failed.into_iter().map(|(name, _)| name).collect(),
            unavailable: false,
            blamed,
        })
    }

    async fn bury(&mut self, failing: Failing) -> Result<Ended, Halt> {
        let failed = &failing.identifiers;
        self.abandon(&failing.problem.detail, Outcome::Ended { failed })
            .await?;
        Ok(Ended::Died(failing))
    }

    /// Books what came of the order under way.
    async fn settle(&self, outcome: Outcome<'_>) -> Result<(), Halt> {
        let Some(order) = &self.state.order else {
            return Ok(());
        };
        self.cycle
            .ledgers
            .settle(&order.authority, &order.directory, &order.reserved, outcome)
            .await
    }

    /// Forgets the order under way, with its tokens and its key.
    async fn abandon(&mut self, why: &str, outcome: Outcome<'_>) -> Result<(), Halt> {
        let was_finalized = self
            .state
            .order
            .as_ref()
            .is_some_and(|order| order.stage == Stage::Finalizing);
        let names: Vec<String> = (self.ordered_names().iter())
            .map(ToString::to_string)
            .collect();
        if matches!(outcome, Outcome::Unknown) && !was_finalized {
            self.keep_tokens_for_now();
        }
        let outcome = match outcome {
            // No certificate can come of an order without a CSR; its validations may have failed.
            Outcome::Unknown if !was_finalized => Outcome::Ended { failed: &names },
            outcome => outcome,
        };
        self.settle(outcome).await?;
        if was_finalized {
            self.gather_strays().await?;
        }
        if let Some(order) = self.state.order.take() {
            self.note("order ended", format!("{}: {why}", order.url));
            self.state.leftovers.pending_key = true;
            self.save().await?;
        }
        self.sweep().await
    }

    /// An order that is given up may be in validation: its authority goes on asking for the tokens for a while.
    fn keep_tokens_for_now(&mut self) {
        let now = crate::values::instant::whole_seconds(self.cycle.clock.now());
        let leftovers = &mut self.state.leftovers;
        for token in &leftovers.tokens {
            let until = AskedFor(now + STILL_ASKED_FOR);
            leftovers.asked_for.entry(token.clone()).or_insert(until);
        }
    }

    /// Notes what the vault holds and no record names: a stop came between the certificate and the state.
    async fn gather_strays(&mut self) -> Result<(), Halt> {
        let name = &self.wanted.name;
        let entries = self
            .cycle
            .ports
            .store()
            .list(&store::vault_prefix(name))
            .await?;
        let current = self.state.certificate.as_ref();
        let current = current.map(|held| held.serial.as_str());
        let previous = self.state.previous.as_deref();
        let strays = entries
            .iter()
            .filter_map(|entry| store::serial_of_vault_key(name, &entry.key))
            .filter(|serial| ![current, previous].contains(&Some(serial)))
            .filter(|serial| !self.state.is_to_be_revoked(serial));
        let strays: Vec<String> = strays.map(str::to_owned).collect();
        self.state.leftovers.serials.extend(strays);
        Ok(())
    }

    /// Forgets an order that nobody needs any more.
    pub(crate) async fn abandon_unneeded(&mut self) -> Result<(), Halt> {
        self.abandon("no order is needed any more", Outcome::Unknown)
            .await
    }
}

/// Whether an order waits for its authority for so long that another is the better bet.
fn is_stuck(status: OrderStatus, ordered_at: Option<OffsetDateTime>, now: OffsetDateTime) -> bool {
    matches!(status, OrderStatus::Pending | OrderStatus::Processing)
        && ordered_at.is_some_and(|at| now - at > LONGEST_LIFE)
}

/// Whether an order died of CAA records alone.
fn is_of_caa(failing: &Failing) -> bool {
    let of_caa = |blame: &Blame| blame.problem.kind.strip_prefix(URN) == Some("caa");
    !failing.blamed.is_empty() && failing.blamed.iter().all(of_caa)
}

/// What `vault/<name>/pending.json` holds.
enum Pending {
    /// The key of this order.
    Here(PrivateKey),
    /// No key of this order; perhaps an older one, by its ETag.
    Missing { replaced: Option<String> },
}

/// How an order ended.
enum Ended {
    /// Its certificate is in the vault.
    Issued,
    /// It is valid, but what it issued is of no use: somebody else finalized it, or it is too old.
    Unusable(Problem),
    /// It cannot be completed.
    Died(Failing),
}

fn listed_names<'n>(names: impl Iterator<Item = &'n DnsName>) -> String {
    names.map(DnsName::as_str).collect::<Vec<_>>().join(", ")
}

/// No step starts with less than this left.
const LEAST: Duration = Duration::from_secs(2);
/// An order that is neither ready nor dead by then is given up.
const LONGEST_LIFE: time::Duration = time::Duration::DAY;
/// How long an authority may go on validating what it has begun, after the order has died.
const STILL_ASKED_FOR: Duration = Duration::from_secs(600);
const SELF_CHECK: Duration = Duration::from_secs(5);
const FIRST_LOOK_AT_VALIDATION: Duration = Duration::from_millis(500);
const FIRST_LOOK_AT_ISSUANCE: Duration = Duration::from_millis(250);
const SHORTEST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
const LONGEST_WAIT: Duration = Duration::from_secs(180);
const UNANSWERED: u32 = 3;
/// More turns than any order needs.
const TURNS: usize = 12;

//! Answers an order's challenges: recorded, put, fetched by ourselves, then by the authority (rule
//! 9).

use std::time::Duration;

use crate::challenge::Token;
use crate::contract::settings::CheckMode;
use crate::life::order::poll::OrderOf;
use crate::life::work::Work;
use crate::pass::halt::{Failing, Halt};
use crate::ports::Ports;
use crate::ports::authority::{AuthorizationStatus, Http01, Order, OrderStatus};
use crate::ports::probe::Fetched;
use crate::ports::store::{Condition, Store};
use crate::rules::order_names::Blame;
use crate::values::names::DnsName;
use crate::values::problem::Problem;
use crate::values::problem_types::Ours;

impl<P: Ports> Work<'_, '_, P> {
    /// Puts all tokens, fetches them as the authority will, answers all challenges, waits for the outcome.
    pub(super) async fn validate(&mut self, order: &mut OrderOf<P>) -> Result<(), Halt> {
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
}

fn listed_names<'n>(names: impl Iterator<Item = &'n DnsName>) -> String {
    names.map(DnsName::as_str).collect::<Vec<_>>().join(", ")
}

/// No step starts with less than this left.
const LEAST: Duration = Duration::from_secs(2);
const SELF_CHECK: Duration = Duration::from_secs(5);
const FIRST_LOOK_AT_VALIDATION: Duration = Duration::from_millis(500);

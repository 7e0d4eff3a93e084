//! The adapter to authorities over instant-acme.

mod accent;
mod answer;
mod http;
mod registration;

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use instant_acme::{
    CertificateIdentifier, ChallengeType, Identifier, Key, NewOrder, RenewalInfo, RevocationReason,
    RevocationRequest,
};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::adapters::network::trust_roots;
use crate::contract::settings;
use crate::ports::authority::{
    Account, AccountKey, Authorities, Authorization, AuthorizationStatus, ChallengeStatus,
    ExternalBinding, Http01, Order, OrderStatus, Registered, Suggested,
};
use crate::values::names::DnsName;
use crate::values::problem::{AcmeError, URN};
use crate::values::revocation_reason::Reason;
use answer::{NONCE_ROUNDS, of_problem, ours};
use http::{Exchange, Wire};
use registration::Registration;

/// All authorities, each with one connection pool.
#[derive(Default)]
pub struct Acme {
    /// By directory URL and configured root.
    wires: Mutex<HashMap<Endpoint, Arc<Wire>>>,
}

#[derive(PartialEq, Eq, Hash)]
struct Endpoint {
    directory: String,
    root_certificate: Option<String>,
}

impl Acme {
    /// Returns how many requests this process has sent to an authority.
    pub fn requests(&self, authority: &settings::Authority) -> u64 {
        self.wire(authority)
            .map(|wire| wire.requests())
            .unwrap_or_default()
    }

    fn wire(&self, authority: &settings::Authority) -> Result<Arc<Wire>, AcmeError> {
        let endpoint = Endpoint {
            directory: authority.directory.clone(),
            root_certificate: authority.root_certificate.clone(),
        };
        let mut wires = self.wires.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(wire) = wires.get(&endpoint) {
            return Ok(wire.clone());
        }
        let wire = Arc::new(Wire::new(trust_roots(
            authority.root_certificate.as_deref(),
        ))?);
        wires.insert(endpoint, wire.clone());
        Ok(wire)
    }

    fn exchange(&self, authority: &settings::Authority) -> Result<Exchange, AcmeError> {
        Ok(Exchange::new(self.wire(authority)?))
    }
}

/// Repeats a call whose nonce was refused. The library gives up after three tries, which is not
/// enough under load.
macro_rules! with_fresh_nonces {
    ($exchange:expr, $call:expr) => {{
        let mut left = NONCE_ROUNDS;
        loop {
            left -= 1;
            // To the library a redirect is a success.
            let refusal = match $call.await {
                Ok(value) => match $exchange.accepted() {
                    Ok(()) => break Ok(value),
                    Err(refusal) => refusal,
                },
                Err(error) => $exchange.refusal(&error),
            };
            if left == 0 || refusal.word() != "badNonce" {
                break Err(refusal);
            }
        }
    }};
}

impl Authorities for Acme {
    type Account = AcmeAccount;

    fn new_key(&self) -> Result<AccountKey, AcmeError> {
        let (_, pkcs8) =
            Key::generate_pkcs8().map_err(|error| ours("accountKey", &error.to_string()))?;
        Ok(AccountKey(Zeroizing::new(
            BASE64_URL_SAFE_NO_PAD.encode(pkcs8.secret_pkcs8_der()),
        )))
    }

    async fn register(
        &self,
        authority: &settings::Authority,
        key: &AccountKey,
        contact: &[String],
        binding: Option<&ExternalBinding>,
    ) -> Result<Registered, AcmeError> {
        let der = der(key)?;
        let registration = Registration {
            directory: &authority.directory,
            key: &der,
            contact,
            binding,
        };
        registration.send(&self.exchange(authority)?).await
    }

    async fn sign_in(
        &self,
        authority: &settings::Authority,
        key: &AccountKey,
        url: &str,
    ) -> Result<AcmeAccount, AcmeError> {
        let exchange = self.exchange(authority)?;
        let der = der(key)?;
        let account = with_fresh_nonces!(exchange, async {
            instant_acme::Account::builder_with_http(Box::new(exchange.clone()))
                .from_parts(
                    url.to_owned(),
                    PrivatePkcs8KeyDer::from(&der[..]),
                    authority.directory.clone(),
                )
                .await
        })?;
        Ok(AcmeAccount {
            account,
            directory: authority.directory.clone(),
            exchange,
        })
    }

    async fn renewal_information(
        &self,
        authority: &settings::Authority,
        certificate: &str,
    ) -> Result<Option<Suggested>, AcmeError> {
        let exchange = self.exchange(authority)?;
        let directory: Directory = exchange.read(&authority.directory).await?;
        let Some(renewal_info) = directory.renewal_info else {
            return Ok(None);
        };
        // A plain GET without account or nonce (RFC 9773 section 4.1).
        let base = renewal_info.trim_end_matches('/');
        let RenewalInfo {
            suggested_window: window,
            explanation_url,
        } = exchange.read(&format!("{base}/{certificate}")).await?;
        Ok(Some(Suggested {
            start: window.start,
            end: window.end,
            explanation_url,
            retry_after: exchange.retry_after(),
        }))
    }

    async fn caa_identities(
        &self,
        authority: &settings::Authority,
    ) -> Result<Vec<String>, AcmeError> {
        let exchange = self.exchange(authority)?;
        let directory: DescribedDirectory = exchange.read(&authority.directory).await?;
        let meta = directory.meta.unwrap_or_default();
        Ok(meta.caa_identities.unwrap_or_default())
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Directory {
    renewal_info: Option<String>,
}

/// What a directory says about itself.
#[derive(Deserialize)]
struct DescribedDirectory {
    meta: Option<Meta>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Meta {
    caa_identities: Option<Vec<String>>,
}

fn der(key: &AccountKey) -> Result<Zeroizing<Vec<u8>>, AcmeError> {
    BASE64_URL_SAFE_NO_PAD
        .decode(key.0.as_bytes())
        .map(Zeroizing::new)
        .map_err(|_| {
            ours(
                "accountKey",
                "the stored account key is not base64url; restore the object from a backup",
            )
        })
}

/// A signed-in account.
pub struct AcmeAccount {
    account: instant_acme::Account,
    directory: String,
    exchange: Exchange,
}

impl AcmeAccount {
    async fn offers_renewal_information(&self) -> Result<bool, AcmeError> {
        let directory: Directory = self.exchange.read(&self.directory).await?;
        Ok(directory.renewal_info.is_some())
    }
}

impl Account for AcmeAccount {
    type Order = AcmeOrder;

    fn profiles(&self) -> Vec<String> {
        let mut names: Vec<String> = self
            .account
            .profiles()
            .map(|profile| profile.name.to_owned())
            .collect();
        names.sort();
        names
    }

    async fn set_contact(&self, contact: &[String]) -> Result<(), AcmeError> {
        let contact: Vec<&str> = contact.iter().map(String::as_str).collect();
        let told = with_fresh_nonces!(self.exchange, self.account.update_contacts(&contact));
        // Nothing in the answer is needed once the authority took the contacts.
        told.or_else(|refusal| match self.exchange.was_accepted() {
            true => Ok(()),
            false => Err(refusal),
        })
    }

    async fn new_order(
        &self,
        names: &[DnsName],
        profile: Option<&str>,
        replaces: Option<&str>,
    ) -> Result<AcmeOrder, AcmeError> {
        let identifiers: Vec<Identifier> = names
            .iter()
            .map(|name| Identifier::Dns(name.as_str().to_owned()))
            .collect();
        let mut wish = NewOrder::new(&identifiers);
        if let Some(profile) = profile {
            wish = wish.profile(profile);
        }
        // A directory without renewal information does not support `replaces` either. The directory
        // was read at sign-in.
        let replaces = match replaces {
            Some(_) if !self.offers_renewal_information().await? => None,
            replaces => replaces,
        };
        if let Some((authority_key_identifier, serial)) =
            replaces.and_then(|certificate| certificate.split_once('.'))
        {
            wish = wish.replaces(CertificateIdentifier {
                authority_key_identifier: authority_key_identifier.into(),
                serial: serial.into(),
            });
        }
        self.exchange.expect_replaces(replaces);
        let order = with_fresh_nonces!(self.exchange, self.account.new_order(&wish))?;
        let mut order = AcmeOrder::new(order, self.exchange.clone())?;
        order.ignores_replaces = !self.exchange.was_echoed();
        Ok(order)
    }

    async fn order(&self, url: &str) -> Result<AcmeOrder, AcmeError> {
        let order = with_fresh_nonces!(self.exchange, self.account.order(url.to_owned()))?;
        AcmeOrder::new(order, self.exchange.clone())
    }

    async fn revoke(&self, certificate: &[u8], reason: Reason) -> Result<(), AcmeError> {
        let certificate = CertificateDer::from(certificate);
        let request = RevocationRequest {
            certificate: &certificate,
            reason: match reason {
                // The same as no reason (RFC 5280 section 5.3.1).
                Reason::Unspecified => None,
                Reason::KeyCompromise => Some(RevocationReason::KeyCompromise),
                Reason::AffiliationChanged => Some(RevocationReason::AffiliationChanged),
                Reason::Superseded => Some(RevocationReason::Superseded),
                Reason::CessationOfOperation => Some(RevocationReason::CessationOfOperation),
            },
        };
        with_fresh_nonces!(self.exchange, self.account.revoke(&request))
    }
}

/// A pending order.
pub struct AcmeOrder {
    order: instant_acme::Order,
    status: OrderStatus,
    error: Option<AcmeError>,
    ignores_replaces: bool,
    exchange: Exchange,
}

impl AcmeOrder {
    fn new(order: instant_acme::Order, exchange: Exchange) -> Result<Self, AcmeError> {
        let mut order = Self {
            order,
            status: OrderStatus::Pending,
            error: None,
            ignores_replaces: false,
            exchange,
        };
        order.look();
        Ok(order)
    }

    fn look(&mut self) {
        let state = self.order.state();
        self.status = match state.status {
            instant_acme::OrderStatus::Pending => OrderStatus::Pending,
            instant_acme::OrderStatus::Ready => OrderStatus::Ready,
            instant_acme::OrderStatus::Processing => OrderStatus::Processing,
            // Some authorities name the certificate a moment later.
            instant_acme::OrderStatus::Valid if state.certificate.is_none() => {
                OrderStatus::Processing
            }
            instant_acme::OrderStatus::Valid => OrderStatus::Valid,
            instant_acme::OrderStatus::Invalid => OrderStatus::Invalid,
        };
        self.error = state.error.as_ref().map(of_problem);
    }

    async fn read_authorizations(
        &mut self,
        mut stale: Option<&mut BTreeSet<String>>,
    ) -> Result<Vec<Authorization>, instant_acme::Error> {
        // What was not read since the last look at the order is read in any case.
        if let Some(read_again) = stale.as_deref_mut() {
            let all = self.order.state().authorizations.iter();
            let unread = all.filter(|authorization| authorization.state.is_none());
            read_again.extend(unread.map(|authorization| authorization.url.clone()));
        }
        let mut seen = Vec::new();
        let mut handles = self.order.authorizations();
        while let Some(handle) = handles.next().await {
            let mut handle = handle?;
            // An authorization that was read again is not read again when a later one must be
            // repeated.
            if let Some(read_again) = &mut stale
                && !read_again.contains(handle.url())
            {
                handle.refresh().await?;
                read_again.insert(handle.url().to_owned());
            }
            let identifier = match handle.identifier().identifier {
                Identifier::Dns(name) => name.clone(),
                other => format!("{other:?}"),
            };
            let status = match handle.status {
                instant_acme::AuthorizationStatus::Pending => AuthorizationStatus::Pending,
                instant_acme::AuthorizationStatus::Valid => AuthorizationStatus::Valid,
                _ => AuthorizationStatus::Final,
            };
            // Unknown challenge types are ignored (RFC 8555 section 7.1.4).
            let http01 = handle
                .challenge(ChallengeType::Http01)
                .map(|challenge| Http01 {
                    token: challenge.token.clone(),
                    key_authorization: challenge.key_authorization().as_str().to_owned(),
                    status: match challenge.status {
                        instant_acme::ChallengeStatus::Pending => ChallengeStatus::Pending,
                        instant_acme::ChallengeStatus::Processing => ChallengeStatus::Processing,
                        instant_acme::ChallengeStatus::Valid => ChallengeStatus::Valid,
                        instant_acme::ChallengeStatus::Invalid => ChallengeStatus::Invalid,
                    },
                    error: challenge.error.as_ref().map(of_problem),
                });
            seen.push(Authorization {
                identifier,
                status,
                http01,
            });
        }
        Ok(seen)
    }

    /// Answers the pending, unanswered challenges. Returns whether all are answered; if not, the
    /// caller must read them again.
    async fn answer_pending(&mut self, done: &mut Answering) -> Result<bool, instant_acme::Error> {
        let mut handles = self.order.authorizations();
        while let Some(handle) = handles.next().await {
            let mut handle = handle?;
            let url = handle.url().to_owned();
            if done.answered.contains(&url) {
                continue;
            }
            if done.doubtful.contains(&url) {
                handle.refresh().await?;
            }
            let is_pending = handle.status == instant_acme::AuthorizationStatus::Pending;
            let outcome = match handle.challenge(ChallengeType::Http01) {
                Some(mut challenge)
                    if is_pending && challenge.status == instant_acme::ChallengeStatus::Pending =>
                {
                    match challenge.set_ready().await {
                        // Only that the authority took it counts: a look at the authorization says
                        // the rest. An error in the answer is that of an earlier try.
                        Err(_) if self.exchange.was_accepted() => {
                            self.exchange.forget_refusal();
                            Ok(())
                        }
                        outcome => outcome,
                    }
                }
                _ => Ok(()),
            };
            match outcome {
                Ok(()) => done.answered.insert(url),
                // Perhaps the answer to our request was lost, and the validation is already
                // running.
                Err(instant_acme::Error::Api(problem))
                    if problem.r#type.as_deref() == Some(MALFORMED)
                        && done.doubtful.insert(url) =>
                {
                    self.exchange.forget_refusal();
                    return Ok(false);
                }
                Err(error) => return Err(error),
            };
        }
        Ok(true)
    }
}

/// The progress in answering an order's challenges. Answered challenges stay answered when a later
/// one must be repeated.
#[derive(Default)]
struct Answering {
    /// The authorizations whose challenge is answered.
    answered: BTreeSet<String>,
    /// The authorizations whose challenge was refused as malformed: we read them again before that
    /// counts.
    doubtful: BTreeSet<String>,
}

impl Order for AcmeOrder {
    fn url(&self) -> &str {
        self.order.url()
    }

    fn status(&self) -> OrderStatus {
        self.status
    }

    fn error(&self) -> Option<AcmeError> {
        self.error.clone()
    }

    fn ignores_replaces(&self) -> bool {
        self.ignores_replaces
    }

    async fn refresh(&mut self) -> Result<Option<Duration>, AcmeError> {
        let exchange = self.exchange.clone();
        with_fresh_nonces!(exchange, async { self.order.refresh().await.map(|_| ()) })?;
        self.look();
        Ok(self.exchange.retry_after())
    }

    async fn authorizations(&mut self, fresh: bool) -> Result<Vec<Authorization>, AcmeError> {
        let exchange = self.exchange.clone();
        let mut read_again = fresh.then(BTreeSet::new);
        with_fresh_nonces!(exchange, self.read_authorizations(read_again.as_mut()))
    }

    async fn answer(&mut self) -> Result<(), AcmeError> {
        let exchange = self.exchange.clone();
        let mut done = Answering::default();
        while !with_fresh_nonces!(exchange, self.answer_pending(&mut done))? {}
        Ok(())
    }

    async fn finalize(&mut self, csr: &[u8]) -> Result<Option<Duration>, AcmeError> {
        let exchange = self.exchange.clone();
        if self.order.state().finalize.is_empty() {
            let url = self.order.url();
            let detail = format!("the order {url} is ready, but its member `finalize` is missing");
            // Some authorities name it a moment later.
            return Err(AcmeError {
                kind: format!("{URN}orderNotReady"),
                ..ours("authority", &detail)
            });
        }
        with_fresh_nonces!(exchange, self.order.finalize_csr(csr))?;
        self.look();
        Ok(self.exchange.retry_after())
    }

    async fn certificate(&mut self) -> Result<String, AcmeError> {
        let exchange = self.exchange.clone();
        let chain = with_fresh_nonces!(exchange, self.order.certificate())?;
        self.look();
        let chain = chain.ok_or_else(|| {
            ours(
                "authority",
                "the order is valid, yet the certificate is still being processed",
            )
        })?;
        // The page of a proxy is no certificate: the next try may bring it.
        match chain.contains("-----BEGIN ") {
            true => Ok(chain),
            false => Err(self.exchange.no_certificate()),
        }
    }
}

const MALFORMED: &str = "urn:ietf:params:acme:error:malformed";

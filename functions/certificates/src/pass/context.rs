//! The context of one pass.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use time::OffsetDateTime;

use crate::contract::certificate::Wanted;
use crate::contract::settings::Settings;
use crate::pass::accounts::Accounts;
use crate::pass::ledgers::Ledgers;
use crate::pass::memo::Memo;
use crate::pass::notifier::Notifier;
use crate::pass::preflight::Outlook;
use crate::ports::Ports;
use crate::ports::certificate_manager::{CertificateManager, Listed};
use crate::ports::load_balancer::{Holding, LoadBalancer};
use crate::rules::contention::{Claims, Lost};
use crate::rules::listener::balancer_of;
use crate::rules::standing::Judge;
use crate::values::arn::ListenerArn;
use crate::values::clock::Clock;
use crate::values::names::CertificateName;
use crate::values::problem::ServiceError;

/// One pass.
pub struct Cycle<'p, P: Ports> {
    /// The ports to everything outside.
    pub ports: &'p P,
    /// The checked settings.
    pub settings: Rc<Settings>,
    /// The bucket's name: the value of the tag `certloop:installation`.
    pub installation: String,
    /// The function's region.
    pub home: String,
    /// The function's account, where the invocation named it.
    pub account_id: Option<String>,
    /// The invocation's time.
    pub clock: Clock,
    /// Whether certificates without documents are kept: so many documents are gone that it may be a
    /// mistake.
    pub mass_deletion_suspected: bool,
    /// Whether the pass reads all documents. Then it knows without further reads what each of them
    /// wants.
    pub is_full: bool,
    /// Whether a forced order is made even if the current certificate is not on its targets yet.
    pub reissue: bool,
    pub(crate) owner: String,
    pub(crate) accounts: Accounts<'p, P>,
    /// The directories that gave no renewal information when asked.
    pub(crate) silent: RefCell<BTreeSet<String>>,
    pub(crate) ledgers: Ledgers<'p, P>,
    pub(crate) notifier: Notifier<'p, P>,
    pub(crate) outlook: Outlook<'p, P>,
    /// What documents want of listeners, and what their records say of that, by name.
    pub(crate) claims: RefCell<Claims>,
    /// The documents that could not be read.
    pub(crate) unknown_claims: RefCell<BTreeSet<String>>,
    /// The decision about that; `None` before all documents were read.
    pub(crate) contention: RefCell<Option<Lost>>,
    /// The load balancers that refused a certificate because they are full.
    pub(crate) full: RefCell<BTreeSet<String>>,
    holdings: Memo<Result<Holding, ServiceError>>,
    listings: Memo<(OffsetDateTime, Rc<Vec<Listed>>)>,
}

impl<'p, P: Ports> Cycle<'p, P> {
    /// Prepares a pass.
    pub fn new(
        ports: &'p P,
        settings: Settings,
        installation: String,
        home: String,
        account_id: Option<String>,
        clock: Clock,
    ) -> Self {
        let settings = Rc::new(settings);
        Self {
            accounts: Accounts::new(ports),
            ledgers: Ledgers::new(ports, settings.clone(), clock),
            notifier: Notifier::new(ports, settings.clone(), installation.clone(), clock),
            outlook: Outlook::new(ports, settings.clone(), clock),
            ports,
            settings,
            installation,
            home,
            account_id,
            clock,
            mass_deletion_suspected: false,
            is_full: false,
            reissue: false,
            owner: format!("{:032x}", fastrand::u128(..)),
            silent: RefCell::default(),
            claims: RefCell::default(),
            unknown_claims: RefCell::default(),
            contention: RefCell::default(),
            full: RefCell::default(),
            holdings: Memo::default(),
            listings: Memo::default(),
        }
    }

    /// Prepares the same pass over other ports, for a dry run without messages.
    pub(crate) fn over<Q: Ports>(self, ports: &Q) -> Cycle<'_, Q> {
        let mut settings = Rc::unwrap_or_clone(self.settings);
        settings.notify.channels.clear();
        Cycle {
            mass_deletion_suspected: self.mass_deletion_suspected,
            is_full: self.is_full,
            reissue: self.reissue,
            ..Cycle::new(
                ports,
                settings,
                self.installation,
                self.home,
                self.account_id,
                self.clock,
            )
        }
    }

    /// Returns what a listener holds, read once per pass: enough to see whether there is work, but
    /// not to act upon.
    pub(crate) async fn holding_seen(&self, arn: &ListenerArn) -> Result<Holding, ServiceError> {
        let cell = self.holdings.cell(arn.as_str());
        cell.get_or_init(|| async {
            self.ports
                .load_balancer(arn.region())
                .certificates(arn)
                .await
        })
        .await
        .clone()
    }

    /// Notes what a listener holds, as the work on it has just read.
    pub(crate) fn note_holding(&self, arn: &ListenerArn, holding: &Holding) {
        self.holdings.replace(arn.as_str(), Ok(holding.clone()));
    }

    /// Returns the certificates of a region, listed at this instant or later; without an instant,
    /// listed once per pass.
    pub(crate) async fn listing(
        &self,
        region: &str,
        not_before: Option<OffsetDateTime>,
    ) -> Result<Rc<Vec<Listed>>, ServiceError> {
        let cell = self.listings.cell(region);
        let read = || async {
            let at = self.clock.now();
            let listed = self.ports.certificate_manager(region).list().await?;
            Ok::<_, ServiceError>((at, Rc::new(listed)))
        };
        let (at, listed) = cell.get_or_try_init(read).await?;
        if not_before.is_none_or(|instant| instant < *at) {
            return Ok(listed.clone());
        }
        let (at, listed) = read().await?;
        self.listings.replace(region, (at, listed.clone()));
        Ok(listed)
    }

    /// Returns the judge of certificates, as of now.
    pub(crate) fn judge(&self) -> Judge<'_> {
        Judge {
            settings: &self.settings,
            installation: &self.installation,
            home: &self.home,
            mass_deletion_suspected: self.mass_deletion_suspected,
            reissue: self.reissue,
            now: self.clock.now(),
        }
    }

    /// Returns the two tags that make a certificate ours, and the document's own.
    pub(crate) fn tags(&self, wanted: &Wanted) -> BTreeMap<String, String> {
        let mut tags = wanted.tags.clone();
        tags.extend(self.own_tags(&wanted.name));
        tags
    }

    /// Returns the two tags that make something ours.
    pub(crate) fn own_tags(&self, name: &CertificateName) -> [(String, String); 2] {
        [
            (TAG_INSTALLATION.to_owned(), self.installation.clone()),
            (TAG_CERTIFICATE.to_owned(), name.to_string()),
        ]
    }

    /// Returns what the listeners that were looked at hold, by ARN.
    pub(crate) fn holdings_seen(&self) -> Vec<(String, Holding)> {
        let answers = self.holdings.answers().into_iter();
        let held = answers.filter_map(|(listener, cell)| {
            let holding = cell.get()?.as_ref().ok()?;
            Some((listener, holding.clone()))
        });
        held.collect()
    }

    /// Notes that a load balancer refused a certificate because it is full.
    pub(crate) fn note_full(&self, listener: &ListenerArn) {
        self.full.borrow_mut().insert(balancer_of(listener));
    }

    /// Whether these tags say that a certificate is this one of ours.
    pub(crate) fn is_ours(&self, tags: &BTreeMap<String, String>, name: &CertificateName) -> bool {
        tags.get(TAG_INSTALLATION)
            .is_some_and(|value| *value == self.installation)
            && tags
                .get(TAG_CERTIFICATE)
                .is_some_and(|value| value == name.as_str())
    }
}

/// The tag with the installation, by its bucket.
pub(crate) const TAG_INSTALLATION: &str = "certloop:installation";
/// The tag with the certificate, by its document.
pub(crate) const TAG_CERTIFICATE: &str = "certloop:certificate";

//! The certificate authorities, each by itself: orders as in Boulder, real certificates, renewal
//! information, and the limits of Let's Encrypt.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use certificates::contract::settings;
use certificates::ports::authority::{
    Account, AccountKey, Authorities, Authorization, AuthorizationStatus, ChallengeStatus,
    ExternalBinding, Http01, Order, OrderStatus, Registered, Suggested,
};
use certificates::values::names::DnsName;
use certificates::values::problem::{AcmeError, URN};
use certificates::values::revocation_reason::Reason;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, PublicKeyData, SerialNumber,
};
use time::{Duration, OffsetDateTime};
use x509_parser::certificate::X509Certificate;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer;
use zeroize::Zeroizing;

use crate::faults::{Disorder, Service};
use crate::rules;
use crate::run::RSA;
use crate::world::{ACCOUNT_KEY, Handle, Shared, THUMBPRINT, World, refusal};

/// The authorities: the preferred one, a fallback, and one for rehearsals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Site {
    First,
    Second,
    Staging,
}

impl Site {
    pub(crate) const ALL: [Self; 3] = [Self::First, Self::Second, Self::Staging];

    /// Returns its key in the settings.
    pub(crate) fn key(self) -> &'static str {
        match self {
            Self::First => "letsencrypt",
            Self::Second => "second",
            Self::Staging => "staging",
        }
    }

    /// Returns the prefix of all its URLs.
    pub(crate) fn base(self) -> &'static str {
        match self {
            Self::First => "https://ca.example",
            Self::Second => "https://second.example",
            Self::Staging => "https://staging.example",
        }
    }

    /// Returns its directory.
    pub(crate) fn directory(self) -> String {
        format!("{}/directory", self.base())
    }

    /// Returns the authority with this key in the settings.
    pub(crate) fn of_key(key: &str) -> Self {
        Self::ALL
            .into_iter()
            .find(|site| site.key() == key)
            .unwrap()
    }

    /// Returns the authority to which a URL belongs.
    pub(crate) fn of_url(url: &str) -> Self {
        Self::ALL
            .into_iter()
            .find(|site| url.starts_with(site.base()))
            .unwrap()
    }

    pub(crate) fn service(self) -> Service {
        match self {
            Self::First => Service::Authority,
            Self::Second => Service::Second,
            Self::Staging => Service::Staging,
        }
    }

    /// Returns the profiles it offers.
    fn profiles(self) -> &'static [Profile] {
        match self {
            Self::First | Self::Staging => &PROFILES,
            Self::Second => &PROFILES[..1],
        }
    }
}

/// The state of the authorities.
#[derive(Default)]
pub(crate) struct Ca {
    /// Accounts by authority and key.
    pub(crate) accounts: BTreeMap<(Site, String), String>,
    pub(crate) orders: BTreeMap<String, CaOrder>,
    pub(crate) authorizations: BTreeMap<u64, CaAuthorization>,
    pub(crate) issued: BTreeMap<String, Issued>,
    pub(crate) buckets: BTreeMap<String, Bucket>,
    /// The limits of the first authority. The second has the usual ones, the last has none.
    pub(crate) limits: Limits,
    /// When each authority last failed a call or refused it for a limit.
    pub(crate) trouble_at: BTreeMap<Site, OffsetDateTime>,
    /// When each set of names was last issued.
    sets: BTreeMap<String, OffsetDateTime>,
    /// Whether the directory offers no renewal information.
    pub(crate) windowless: bool,
    /// Names that a person must unpause at the first authority.
    pub(crate) paused: BTreeMap<String, OffsetDateTime>,
}

/// The enforced limits: a number and the seconds of its period.
#[derive(Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) orders: (f64, f64),
    pub(crate) domain: (f64, f64),
    pub(crate) set: (f64, f64),
    pub(crate) failures: (f64, f64),
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            orders: (300.0, 10_800.0),
            domain: (50.0, 604_800.0),
            set: (5.0, 604_800.0),
            failures: (5.0, 3_600.0),
        }
    }
}

/// A token bucket.
pub(crate) struct Bucket {
    level: f64,
    at: OffsetDateTime,
}

impl Bucket {
    /// Returns when a token will be available, `None` for now.
    fn wait(&mut self, limit: (f64, f64), now: OffsetDateTime) -> Option<OffsetDateTime> {
        let gained = (now - self.at).as_seconds_f64().max(0.0) * limit.0 / limit.1;
        self.level = (self.level + gained).min(limit.0);
        self.at = now;
        (self.level < 1.0)
            .then(|| now + Duration::seconds_f64((1.0 - self.level) * limit.1 / limit.0))
    }
}

pub(crate) struct CaOrder {
    pub(crate) site: Site,
    pub(crate) names: Vec<String>,
    pub(crate) profile: &'static Profile,
    pub(crate) status: OrderStatus,
    pub(crate) authorizations: Vec<u64>,
    expires: OffsetDateTime,
    pub(crate) replaces: Option<String>,
    error: Option<(String, String)>,
    request: Option<PublicKey>,
    /// The certificate this key was stored for.
    owner: Option<String>,
    done_at: OffsetDateTime,
    chain: Option<Rc<String>>,
}

pub(crate) struct CaAuthorization {
    site: Site,
    pub(crate) name: String,
    profile: &'static str,
    pub(crate) token: String,
    pub(crate) status: AuthorizationStatus,
    pub(crate) answered: bool,
    expires: OffsetDateTime,
    error: Option<(String, String)>,
}

/// A certificate the authority issued.
pub(crate) struct Issued {
    pub(crate) site: Site,
    /// When it was revoked.
    pub(crate) revoked: Option<OffsetDateTime>,
    pub(crate) names: Vec<String>,
    pub(crate) not_before: OffsetDateTime,
    pub(crate) not_after: OffsetDateTime,
    replaced: bool,
    pub(crate) window: Window,
    /// The earliest start of the windows that the authority has suggested.
    pub(crate) told: Option<OffsetDateTime>,
}

/// What the authority suggests for a certificate's renewal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Window {
    Usual,
    /// A window in the past: the certificate was revoked at this instant.
    Past(OffsetDateTime),
    /// Later than usual by this much.
    Later(Duration),
    /// An end before its start.
    Upside,
    /// The certificate is unknown.
    Missing,
    /// The request fails.
    Broken,
}

impl Issued {
    /// Returns the window, `None` where the authority suggests none.
    pub(crate) fn suggested(&self) -> Option<(OffsetDateTime, OffsetDateTime)> {
        let lifetime = self.not_after - self.not_before;
        let centre = if lifetime < Duration::days(10) {
            self.not_before + lifetime / 2
        } else {
            self.not_before + lifetime * 2 / 3
        };
        let (from, to) = (centre - lifetime / 100, centre + lifetime / 100);
        match self.window {
            Window::Usual => Some((from, to)),
            Window::Past(at) => Some((at - Duration::minutes(60), at - Duration::minutes(30))),
            Window::Later(by) => Some((from + by, to + by)),
            Window::Upside => Some((to, from)),
            Window::Missing | Window::Broken => None,
        }
    }
}

/// What a profile means (those of Let's Encrypt, July 2026).
pub(crate) struct Profile {
    pub(crate) name: &'static str,
    pub(crate) hours: i64,
    order_hours: i64,
    reuse_hours: i64,
    key_encipherment: bool,
}

pub(crate) const PROFILES: [Profile; 3] = [
    Profile {
        name: "classic",
        hours: 90 * 24,
        order_hours: 7 * 24,
        reuse_hours: 30 * 24,
        key_encipherment: true,
    },
    Profile {
        name: "shortlived",
        hours: 160,
        order_hours: 8,
        reuse_hours: 7,
        key_encipherment: false,
    },
    Profile {
        name: "tlsserver",
        hours: 45 * 24,
        order_hours: 8,
        reuse_hours: 7,
        key_encipherment: false,
    },
];

/// A public key as a signing request holds it.
#[derive(Clone)]
struct PublicKey {
    bits: Vec<u8>,
    algorithm: &'static rcgen::SignatureAlgorithm,
    rsa: bool,
}

impl PublicKeyData for PublicKey {
    fn der_bytes(&self) -> &[u8] {
        &self.bits
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        self.algorithm
    }
}

fn problem(word: &str, status: u16, detail: impl Into<String>) -> AcmeError {
    let kind = format!("{URN}{word}");
    refusal(kind, detail.into(), Some(status), None, false)
}

fn domain_of(name: &str) -> &str {
    let mut dots = name.rmatch_indices('.').map(|(at, _)| at);
    let _ = dots.next();
    dots.next().map_or(name, |at| &name[at + 1..])
}

impl World {
    fn limits(&self, site: Site) -> Limits {
        match site {
            Site::First => self.ca.limits,
            Site::Second => Limits::default(),
            Site::Staging => Limits {
                orders: (1_500.0, 10_800.0),
                domain: (30_000.0, 604_800.0),
                set: (30_000.0, 604_800.0),
                failures: (200.0, 3_600.0),
            },
        }
    }

    /// Whether a limit of an authority is nearly or completely used up, for any of these names.
    pub(crate) fn is_nearly_limited(&mut self, site: Site, names: &[String]) -> bool {
        let now = self.now();
        if site == Site::First && names.iter().any(|name| self.ca.paused.contains_key(name)) {
            return true;
        }
        let limits = self.limits(site);
        let mut buckets = vec![
            ("orders".to_owned(), limits.orders),
            (format!("set {}", names.join(",")), limits.set),
        ];
        for name in names {
            buckets.push((format!("failures {name}"), limits.failures));
            buckets.push((format!("domain {}", domain_of(name)), limits.domain));
        }
        buckets.into_iter().any(|(bucket, limit)| {
            let bucket = self.bucket(&format!("{} {bucket}", site.key()), limit);
            let _ = bucket.wait(limit, now);
            bucket.level < 3.0
        })
    }

    fn take(&mut self, bucket: &str, limit: (f64, f64)) {
        let now = self.now();
        let bucket = self.bucket(bucket, limit);
        // A limit that is only counted does not fall below zero.
        if bucket.wait(limit, now).is_none() {
            bucket.level -= 1.0;
        }
    }

    /// Whether exactly these names got a certificate in the last 120 days.
    fn is_renewal(&self, set: &str) -> bool {
        let last = self.ca.sets.get(set);
        last.is_some_and(|at| self.now() - *at < Duration::days(120))
    }

    fn bucket(&mut self, bucket: &str, limit: (f64, f64)) -> &mut Bucket {
        let now = self.now();
        (self.ca.buckets)
            .entry(bucket.to_owned())
            .or_insert_with(|| Bucket {
                level: limit.0,
                at: now,
            })
    }

    /// Updates orders: issues those that are ready, ends those that have expired.
    pub(crate) fn settle_orders(&mut self, url: &str) {
        let now = self.now();
        let Some(order) = self.ca.orders.get_mut(url) else {
            return;
        };
        match order.status {
            OrderStatus::Pending | OrderStatus::Ready if now > order.expires => {
                order.status = OrderStatus::Invalid;
                order.error = Some(("malformed".to_owned(), "the order has expired".to_owned()));
            }
            OrderStatus::Pending => {
                let all = &self.ca.authorizations;
                let ready = order.authorizations.iter().all(|id| {
                    all.get(id)
                        .is_some_and(|it| it.status == AuthorizationStatus::Valid)
                });
                if ready {
                    order.status = OrderStatus::Ready;
                }
            }
            OrderStatus::Processing if now >= order.done_at => self.issue(url),
            _ => {}
        }
    }

    fn issue(&mut self, url: &str) {
        let now = self.now();
        if self.rng.u16(..400) == 0 && self.weather.roughness > crate::faults::Roughness::Calm {
            self.tally.count("issuance failed");
            let order = self.ca.orders.get_mut(url).unwrap();
            order.status = OrderStatus::Invalid;
            order.error = Some(("serverInternal".to_owned(), "could not issue".to_owned()));
            return;
        }
        let mut serial: Vec<u8> = (0..16).map(|_| self.rng.u8(..)).collect();
        serial[0] |= 1;
        let order = &self.ca.orders[url];
        let (site, names) = (order.site, order.names.clone());
        let not_before = (now - Duration::hours(1)).replace_nanosecond(0).unwrap();
        let not_after = not_before + Duration::hours(order.profile.hours) - Duration::seconds(1);
        let key = order.request.clone().unwrap();
        let (replaces, owner) = (order.replaces.clone(), order.owner.clone());
        let chain = sign(&names, &key, order.profile, &serial, not_before, not_after);
        let mut hex: String = serial.iter().map(|byte| format!("{byte:02x}")).collect();
        if serial[0] >= 0x80 {
            hex.insert_str(0, "00");
        }
        let limits = self.limits(site);
        let key = site.key();
        let set = format!("{key} {}", names.join(","));
        self.take(&format!("{key} set {}", names.join(",")), limits.set);
        // The same names again do not count for a registered domain.
        if !self.is_renewal(&set) {
            let domains: BTreeSet<&str> = names.iter().map(|name| domain_of(name)).collect();
            for domain in domains {
                self.take(&format!("{key} domain {domain}"), limits.domain);
            }
        }
        self.ca.sets.insert(set, now);
        if let Some(replaced) = replaces.as_deref().and_then(serial_of)
            && let Some(replaced) = self.ca.issued.get_mut(&replaced)
        {
            replaced.replaced = true;
        }
        self.say(format_args!(
            "ca: {url} issues {hex} for {}",
            names.join(",")
        ));
        self.tally.count("issued");
        rules::issued(self, url, owner.as_deref(), &hex);
        self.ca.issued.insert(
            hex,
            Issued {
                site,
                revoked: None,
                names,
                not_before,
                not_after,
                replaced: false,
                window: Window::Usual,
                told: None,
            },
        );
        let order = self.ca.orders.get_mut(url).unwrap();
        order.status = OrderStatus::Valid;
        order.chain = Some(Rc::new(chain));
    }

    fn new_order(
        &mut self,
        site: Site,
        names: &[String],
        profile: Option<&str>,
        replaces: Option<&str>,
        skew: Duration,
    ) -> Result<String, AcmeError> {
        let now = self.now();
        let Some(profile) = site
            .profiles()
            .iter()
            .find(|known| known.name == profile.unwrap_or("classic"))
        else {
            return Err(problem("malformed", 400, "no such profile"));
        };
        let replaced = match replaces {
            None => None,
            Some(certificate) => Some(self.may_replace(site, certificate, names)?),
        };
        // A pending order for the same names is reused, even if it replaces something else; then
        // the answer has no `replaces`.
        let same: Vec<String> = (self.ca.orders.iter())
            .filter(|(_, order)| {
                order.site == site
                    && order.names == names
                    && order.profile.name == profile.name
                    && matches!(order.status, OrderStatus::Pending | OrderStatus::Ready)
                    && order.expires > now + Duration::minutes(10)
            })
            .map(|(url, _)| url.clone())
            .collect();
        for url in same {
            self.settle_orders(&url);
            let order = &self.ca.orders[&url];
            if matches!(order.status, OrderStatus::Pending | OrderStatus::Ready) {
                self.tally.count("order reused");
                if replaces.is_some() && order.replaces.as_deref() != replaces {
                    self.tally.count("replaces: not echoed");
                }
                return Ok(url);
            }
        }
        for name in names {
            if site == Site::First && self.ca.paused.contains_key(name) {
                self.tally.count("paused name asked for");
                self.ca.trouble_at.insert(site, now);
                let detail = format!(
                    "Your account is temporarily prevented from requesting certificates for {name}. Please visit https://unpause.example/now to unpause"
                );
                return Err(problem("rateLimited", 429, detail));
            }
        }
        self.check_limits(site, names, replaced, skew)?;
        let url = format!("{}/order/{}", site.base(), self.fresh());
        let mut authorizations = Vec::new();
        for name in names {
            let reusable = self.ca.authorizations.iter().rev().find(|(_, known)| {
                known.site == site
                    && known.name == *name
                    && known.profile == profile.name
                    && known.expires
                        > now + Duration::hours(1).min(Duration::hours(profile.reuse_hours) / 4)
                    && (known.status == AuthorizationStatus::Valid
                        || known.status == AuthorizationStatus::Pending && !known.answered)
            });
            let id = match reusable {
                Some((id, _)) => {
                    let id = *id;
                    self.tally.count("authorization reused");
                    id
                }
                None => {
                    let id = self.fresh();
                    let token: String = (0..30).map(|_| self.rng.alphanumeric()).collect();
                    self.ca.authorizations.insert(
                        id,
                        CaAuthorization {
                            site,
                            name: name.clone(),
                            profile: profile.name,
                            token,
                            status: AuthorizationStatus::Pending,
                            answered: false,
                            expires: now + Duration::hours(profile.order_hours),
                            error: None,
                        },
                    );
                    id
                }
            };
            authorizations.push(id);
        }
        self.ca.orders.insert(
            url.clone(),
            CaOrder {
                site,
                names: names.to_vec(),
                profile,
                status: OrderStatus::Pending,
                authorizations,
                expires: now + Duration::hours(profile.order_hours),
                replaces: replaces.map(str::to_owned),
                error: None,
                request: None,
                owner: None,
                done_at: now,
                chain: None,
            },
        );
        self.settle_orders(&url);
        Ok(url)
    }

    /// Whether an order may replace this certificate; if so, whether that exempts it from the
    /// limits.
    fn may_replace(
        &mut self,
        site: Site,
        certificate: &str,
        names: &[String],
    ) -> Result<bool, AcmeError> {
        let now = self.now();
        if self.weather.roughness > crate::faults::Roughness::Calm && self.rng.u8(..40) == 0 {
            self.tally.count("replaces: refused");
            return Err(match self.rng.u8(..3) {
                0 => problem(
                    "unauthorized",
                    403,
                    "requester account did not request the certificate being replaced",
                ),
                1 => problem("malformed", 404, "no such certificate"),
                _ => problem("malformed", 400, "certificate could not be replaced"),
            });
        }
        let issued = serial_of(certificate).and_then(|serial| self.ca.issued.get(&serial));
        let Some(issued) = issued.filter(|issued| issued.site == site) else {
            self.tally.count("replaces: unknown");
            return Err(problem("malformed", 404, "no such certificate"));
        };
        if !issued.names.iter().any(|name| names.contains(name)) {
            return Err(problem("malformed", 400, "no identifier in common"));
        }
        let under_way = self.ca.orders.values().any(|order| {
            order.replaces.as_deref() == Some(certificate)
                && (order.status == OrderStatus::Processing
                    || matches!(order.status, OrderStatus::Pending | OrderStatus::Ready)
                        && order.expires > now
                        && (order.names != names))
        });
        if issued.replaced || under_way {
            self.tally.count("replaces: alreadyReplaced");
            return Err(problem("alreadyReplaced", 409, "already replaced"));
        }
        self.tally.count("replaces: taken");
        Ok(issued
            .suggested()
            .is_some_and(|(from, to)| from <= now && now < to))
    }

    fn check_limits(
        &mut self,
        site: Site,
        names: &[String],
        replaced: Option<bool>,
        skew: Duration,
    ) -> Result<(), AcmeError> {
        let now = self.now();
        if replaced == Some(true) {
            self.tally.count("limits: exempt by its window");
            return Ok(());
        }
        let limits = self.limits(site);
        let key = site.key();
        let set = names.join(",");
        let renewal = self.is_renewal(&format!("{key} {set}"));
        let mut buckets = vec![(format!("{key} set {set}"), limits.set)];
        for name in names {
            buckets.push((format!("{key} failures {name}"), limits.failures));
            if !renewal {
                buckets.push((format!("{key} domain {}", domain_of(name)), limits.domain));
            }
        }
        if !renewal {
            buckets.push((format!("{key} orders"), limits.orders));
        }
        let mut waits = Vec::new();
        for (bucket, limit) in &buckets {
            if let Some(until) = self.bucket(bucket, *limit).wait(*limit, now) {
                waits.push((until, bucket.clone()));
            }
        }
        if let Some((until, bucket)) = waits.into_iter().max() {
            self.tally.count("limit met");
            self.ca.trouble_at.insert(site, now);
            rules::limit_met(self, site, &bucket, names);
            let mut refused = problem(
                "rateLimited",
                429,
                format!("too many certificates or failures ({bucket}); retry after {until}"),
            );
            refused.retry_after = Some(until + skew);
            return Err(refused);
        }
        if !renewal {
            self.take(&format!("{key} orders"), limits.orders);
        }
        Ok(())
    }
}

/// Returns the serial number in a unique identifier (RFC 9773 section 4.1).
fn serial_of(certificate: &str) -> Option<String> {
    let (_, serial) = certificate.split_once('.')?;
    let serial = BASE64_URL_SAFE_NO_PAD.decode(serial).ok()?;
    Some(serial.iter().map(|byte| format!("{byte:02x}")).collect())
}

thread_local! {
    static ISSUER: (Issuer<'static, KeyPair>, String) = issuer();
}

/// An intermediate: the chains of authorities end before the root.
fn issuer() -> (Issuer<'static, KeyPair>, String) {
    let authority = |name: &str, key: u8| {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.key_identifier_method = KeyIdMethod::PreSpecified(vec![key; 20]);
        params
    };
    let root = Issuer::new(authority("Simulated root", 6), KeyPair::generate().unwrap());
    let params = authority("Simulated CA", 7);
    let key = KeyPair::generate().unwrap();
    let pem = params.signed_by(&key, &root).unwrap().pem();
    (Issuer::new(params, key), pem)
}

fn sign(
    names: &[String],
    key: &PublicKey,
    profile: &Profile,
    serial: &[u8],
    not_before: OffsetDateTime,
    not_after: OffsetDateTime,
) -> String {
    let mut params = CertificateParams::new(names.to_vec()).unwrap();
    params.distinguished_name = DistinguishedName::new();
    params.not_before = not_before;
    params.not_after = not_after;
    params.serial_number = Some(SerialNumber::from(serial.to_vec()));
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    if key.rsa && profile.key_encipherment {
        params.key_usages.push(KeyUsagePurpose::KeyEncipherment);
    }
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    ISSUER.with(|(issuer, issuer_pem)| {
        let leaf = params.signed_by(key, issuer).unwrap();
        format!("{}{issuer_pem}", leaf.pem())
    })
}

/// Signs a certificate that is not ours. Returns its PEM alone.
pub(crate) fn foreign(
    names: &[&str],
    not_before: OffsetDateTime,
    not_after: OffsetDateTime,
    self_signed: bool,
) -> String {
    foreign_with(names, not_before, not_after, self_signed, false)
}

/// Signs one with a key of either kind.
pub(crate) fn foreign_with(
    names: &[&str],
    not_before: OffsetDateTime,
    not_after: OffsetDateTime,
    self_signed: bool,
    rsa: bool,
) -> String {
    let mut params = CertificateParams::new(
        names
            .iter()
            .map(|name| (*name).to_owned())
            .collect::<Vec<_>>(),
    )
    .unwrap();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, names[0]);
    params.not_before = not_before;
    params.not_after = not_after;
    // The serial follows from the content, not from the key: the same seed gives the same serials.
    let mut serial = [0x5a_u8; 16];
    for (n, byte) in format!("{names:?} {not_before} {not_after} {rsa}")
        .bytes()
        .enumerate()
    {
        serial[1 + n % 15] = serial[1 + n % 15].wrapping_mul(31) ^ byte;
    }
    params.serial_number = Some(SerialNumber::from(serial.to_vec()));
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    let key = match rsa {
        true => RSA.with(|pem| KeyPair::from_pem(pem).unwrap()),
        false => KeyPair::generate().unwrap(),
    };
    if self_signed {
        return params.self_signed(&key).unwrap().pem();
    }
    params.use_authority_key_identifier_extension = true;
    ISSUER.with(|(issuer, _)| params.signed_by(&key, issuer).unwrap().pem())
}

/// Reads the challenge from all perspectives during some seconds, then decides.
async fn validate(world: Shared, id: u64) {
    let (pauses, name, token) = {
        let world = &mut *world.borrow_mut();
        let now = world.now();
        let slow = world
            .weather
            .now(now)
            .any(|spell| matches!(spell.what, Disorder::Slow));
        let first = if slow {
            world.rng.u64(5_000..600_000)
        } else {
            world.rng.u64(100..3_000)
        };
        let mut pauses = vec![first];
        pauses.extend((0..4).map(|_| world.rng.u64(10..1_500)));
        let authorization = &world.ca.authorizations[&id];
        (
            pauses,
            authorization.name.clone(),
            authorization.token.clone(),
        )
    };
    let mut misses = Vec::new();
    for (n, pause) in pauses.iter().enumerate() {
        tokio::time::sleep(std::time::Duration::from_millis(*pause)).await;
        if let Err(why) = read_challenge(&world.borrow(), &name, &token) {
            misses.push((n, why));
        }
    }
    let world = &mut *world.borrow_mut();
    let now = world.now();
    let failed = misses.len() > 1 || misses.first().is_some_and(|(n, _)| *n == 0);
    let profile = world.ca.authorizations[&id].profile;
    let reuse = PROFILES
        .iter()
        .find(|known| known.name == profile)
        .map_or(0, |profile| profile.reuse_hours);
    let authorization = world.ca.authorizations.get_mut(&id).unwrap();
    if !failed {
        authorization.status = AuthorizationStatus::Valid;
        authorization.expires = now + Duration::hours(reuse);
        world.tally.count("validated");
        world.say(format_args!("ca: {name} is validated"));
        return;
    }
    let (_, why) = misses[0];
    authorization.status = AuthorizationStatus::Final;
    let word = if why == "nobody" {
        "connection"
    } else {
        "unauthorized"
    };
    authorization.error = Some((word.to_owned(), format!("{name}: {why} answered")));
    for order in world.ca.orders.values_mut() {
        if order.authorizations.contains(&id)
            && matches!(order.status, OrderStatus::Pending | OrderStatus::Ready)
        {
            order.status = OrderStatus::Invalid;
        }
    }
    let site = world.ca.authorizations[&id].site;
    let limit = world.limits(site).failures;
    world.take(&format!("{} failures {name}", site.key()), limit);
    world.tally.count("validation failed");
    world.say(format_args!("ca: {name} is not validated: {why} answered"));
    rules::validation_failed(world, &name, &token, why);
}

/// Reads a challenge as any client on the Internet does.
pub(crate) fn read_challenge(world: &World, name: &str, token: &str) -> Result<(), &'static str> {
    if let Some(astray) = world.astray.get(name)
        && astray.until > world.now()
    {
        return Err(if astray.answered {
            "somebody else"
        } else {
            "nobody"
        });
    }
    let body = world.objects.get(&format!("challenges/{token}"));
    match body {
        Some(stored) if stored.body == key_authorization(token).as_bytes() => Ok(()),
        Some(_) => Err("something else"),
        None => Err("404"),
    }
}

pub(crate) fn key_authorization(token: &str) -> String {
    format!("{token}.{THUMBPRINT}")
}

#[derive(Clone)]
pub(crate) struct SimAuthorities(pub(crate) Handle);

impl SimAuthorities {
    fn skew(&self) -> Duration {
        let world = self.0.world.borrow();
        world
            .passes
            .get(&self.0.pass)
            .map_or(Duration::ZERO, |pass| pass.skew)
    }
}

impl Authorities for SimAuthorities {
    type Account = SimAccount;

    fn new_key(&self) -> Result<AccountKey, AcmeError> {
        let number = self.0.world.borrow_mut().fresh();
        Ok(AccountKey(Zeroizing::new(format!("{ACCOUNT_KEY}{number}"))))
    }

    async fn register(
        &self,
        authority: &settings::Authority,
        key: &AccountKey,
        _contact: &[String],
        _binding: Option<&ExternalBinding>,
    ) -> Result<Registered, AcmeError> {
        let site = Site::of_url(&authority.directory);
        self.0
            .call(site.service(), "ca.register", "", |world| {
                let known = (site, key.0.to_string());
                if let Some(url) = world.ca.accounts.get(&known) {
                    return Ok(Registered {
                        url: url.clone(),
                        is_new: false,
                    });
                }
                rules::before_registration(world, site, &key.0);
                let url = format!("{}/account/{}", site.base(), world.fresh());
                world.ca.accounts.insert(known, url.clone());
                Ok(Registered { url, is_new: true })
            })
            .await
    }

    async fn sign_in(
        &self,
        authority: &settings::Authority,
        key: &AccountKey,
        url: &str,
    ) -> Result<SimAccount, AcmeError> {
        let site = Site::of_url(&authority.directory);
        self.0
            .call(site.service(), "ca.signIn", "", |world| {
                let accounts = &world.ca.accounts;
                let known = accounts
                    .get(&(site, key.0.to_string()))
                    .is_some_and(|known| known == url);
                if !known {
                    world.broken("rule 2: an account is used that the authority does not know");
                }
                Ok::<_, AcmeError>(())
            })
            .await?;
        Ok(SimAccount(self.clone(), site))
    }

    async fn caa_identities(
        &self,
        authority: &settings::Authority,
    ) -> Result<Vec<String>, AcmeError> {
        let site = Site::of_url(&authority.directory);
        self.0
            .call(site.service(), "ca.directory", "", |_| Ok(Vec::new()))
            .await
    }

    async fn renewal_information(
        &self,
        authority: &settings::Authority,
        certificate: &str,
    ) -> Result<Option<Suggested>, AcmeError> {
        let pass = self.0.pass;
        let site = Site::of_url(&authority.directory);
        self.0
            .call(site.service(), "ca.renewalInfo", certificate, |world| {
                if world.ca.windowless {
                    return Ok(None);
                }
                let Some(serial) = serial_of(certificate) else {
                    return Err(problem("malformed", 400, "not an identifier"));
                };
                rules::window_asked_for(world, pass, &serial);
                let wait = 21_600.0 * (0.8 + 0.4 * world.rng.f64());
                let wait = if world.rng.u8(..30) == 0 {
                    None
                } else {
                    Some(std::time::Duration::from_secs_f64(wait))
                };
                let issued = world.ca.issued.get_mut(&serial);
                let Some(issued) = issued.filter(|issued| issued.site == site) else {
                    return Err(problem("malformed", 404, "no such certificate"));
                };
                let (window, suggested) = (issued.window, issued.suggested());
                if let Some((start, end)) = suggested.filter(|(start, end)| start < end) {
                    let _ = end;
                    issued.told = Some(issued.told.map_or(start, |told| told.min(start)));
                }
                let word = format!("{window:?}");
                let word = word.split('(').next().unwrap_or_default().to_owned();
                world.tally.count(&format!("window: {word}"));
                match (suggested, window) {
                    (Some((start, end)), _) => Ok(Some(Suggested {
                        start,
                        end,
                        explanation_url: matches!(window, Window::Past(_))
                            .then(|| "https://ca.example/incident".to_owned()),
                        retry_after: wait,
                    })),
                    (None, Window::Broken) => Err(problem("serverInternal", 500, "no window now")),
                    (None, _) => Err(problem("malformed", 404, "no window")),
                }
            })
            .await
    }
}

pub(crate) struct SimAccount(SimAuthorities, Site);

impl SimAccount {
    fn handle(&self, world: &mut World, url: &str) -> SimOrder {
        world.settle_orders(url);
        let mut order = SimOrder {
            account: self.0.clone(),
            url: url.to_owned(),
            status: OrderStatus::Pending,
            error: None,
            ignores_replaces: false,
        };
        order.look(world);
        order
    }
}

impl Account for SimAccount {
    type Order = SimOrder;

    fn profiles(&self) -> Vec<String> {
        self.1
            .profiles()
            .iter()
            .map(|profile| profile.name.to_owned())
            .collect()
    }

    async fn set_contact(&self, _contact: &[String]) -> Result<(), AcmeError> {
        self.0
            .0
            .call(self.1.service(), "ca.setContact", "", |_| Ok(()))
            .await
    }

    async fn new_order(
        &self,
        names: &[DnsName],
        profile: Option<&str>,
        replaces: Option<&str>,
    ) -> Result<SimOrder, AcmeError> {
        let mut names: Vec<String> = names.iter().map(ToString::to_string).collect();
        names.sort();
        let (pass, skew) = (self.0.0.pass, self.0.skew());
        let about = names.join(",");
        let site = self.1;
        self.0
            .0
            .call(site.service(), "ca.newOrder", &about, |world| {
                rules::order_asked_for(world, pass, site, &names);
                let url = world.new_order(site, &names, profile, replaces, skew);
                rules::order_answered(world, pass, site, &names, &url);
                let url = url?;
                let line = format!("pass#{pass} ca.newOrder: {url}");
                world.say(format_args!("{line}"));
                let echo = world.ca.orders[&url].replaces.as_deref();
                let ignores_replaces = replaces.is_some() && echo != replaces;
                let mut order = self.handle(world, &url);
                order.ignores_replaces = ignores_replaces;
                Ok(order)
            })
            .await
    }

    async fn order(&self, url: &str) -> Result<SimOrder, AcmeError> {
        self.0
            .0
            .call(self.1.service(), "ca.order", url, |world| {
                if !world.ca.orders.contains_key(url) {
                    return Err(problem("malformed", 404, "no such order"));
                }
                Ok(self.handle(world, url))
            })
            .await
    }

    async fn revoke(&self, certificate_der: &[u8], reason: Reason) -> Result<(), AcmeError> {
        let (_, leaf) = X509Certificate::from_der(certificate_der).unwrap();
        let serial: String = (leaf.raw_serial().iter())
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let ends = leaf.validity().not_after.to_datetime();
        let (site, pass) = (self.1, self.0.0.pass);
        self.0
            .0
            .call(site.service(), "ca.revoke", &serial, |world| {
                rules::before_revocation(world, pass, &serial);
                let now = world.now();
                let issued = world.ca.issued.get_mut(&serial);
                let Some(issued) = issued.filter(|issued| issued.site == site) else {
                    return Err(problem("malformed", 404, "no such certificate"));
                };
                if issued.revoked.is_some() {
                    world.tally.count("alreadyRevoked");
                    return Err(problem("alreadyRevoked", 400, "revoked already"));
                }
                if ends <= now {
                    return Err(problem("unauthorized", 403, "the certificate has ended"));
                }
                issued.revoked = Some(now);
                issued.window = Window::Past(now);
                world.tally.count(&format!("revoked: {reason:?}"));
                Ok(())
            })
            .await
    }
}

pub(crate) struct SimOrder {
    account: SimAuthorities,
    url: String,
    status: OrderStatus,
    error: Option<AcmeError>,
    ignores_replaces: bool,
}

impl SimOrder {
    fn look(&mut self, world: &World) {
        let order = &world.ca.orders[&self.url];
        self.status = order.status;
        self.error = order
            .error
            .as_ref()
            .map(|(word, detail)| problem(word, 403, detail.clone()));
    }
}

impl Order for SimOrder {
    fn url(&self) -> &str {
        &self.url
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

    async fn refresh(&mut self) -> Result<Option<std::time::Duration>, AcmeError> {
        let handle = self.account.0.clone();
        let url = self.url.clone();
        handle
            .call(Site::of_url(&url).service(), "ca.refresh", &url, |world| {
                world.settle_orders(&url);
                self.look(world);
                let wait = (self.status == OrderStatus::Processing)
                    .then_some(std::time::Duration::from_secs(3));
                Ok(wait)
            })
            .await
    }

    async fn authorizations(&mut self, _fresh: bool) -> Result<Vec<Authorization>, AcmeError> {
        let handle = self.account.0.clone();
        let url = self.url.clone();
        handle
            .call(
                Site::of_url(&url).service(),
                "ca.authorizations",
                &url,
                |world| {
                    let order = &world.ca.orders[&url];
                    let all = &world.ca.authorizations;
                    Ok(order
                        .authorizations
                        .iter()
                        .filter_map(|id| all.get(id))
                        .map(|known| Authorization {
                            identifier: known.name.clone(),
                            status: known.status,
                            http01: Some(Http01 {
                                token: known.token.clone(),
                                key_authorization: key_authorization(&known.token),
                                status: match (known.status, known.answered) {
                                    (AuthorizationStatus::Pending, false) => {
                                        ChallengeStatus::Pending
                                    }
                                    (AuthorizationStatus::Pending, true) => {
                                        ChallengeStatus::Processing
                                    }
                                    (AuthorizationStatus::Valid, _) => ChallengeStatus::Valid,
                                    (AuthorizationStatus::Final, _) => ChallengeStatus::Invalid,
                                },
                                error: known
                                    .error
                                    .as_ref()
                                    .map(|(word, detail)| problem(word, 403, detail.clone())),
                            }),
                        })
                        .collect())
                },
            )
            .await
    }

    async fn answer(&mut self) -> Result<(), AcmeError> {
        let handle = self.account.0.clone();
        let url = self.url.clone();
        let shared = handle.world.clone();
        let pass = handle.pass;
        handle
            .call(Site::of_url(&url).service(), "ca.answer", &url, |world| {
                rules::before_answer(world, pass, &url);
                let ids = world.ca.orders[&url].authorizations.clone();
                for id in ids {
                    let known = world.ca.authorizations.get_mut(&id).unwrap();
                    if known.status == AuthorizationStatus::Pending && !known.answered {
                        known.answered = true;
                        tokio::task::spawn_local(validate(shared.clone(), id));
                    }
                }
                Ok(())
            })
            .await
    }

    async fn finalize(&mut self, csr: &[u8]) -> Result<Option<std::time::Duration>, AcmeError> {
        let handle = self.account.0.clone();
        let url = self.url.clone();
        let pass = handle.pass;
        handle
            .call(Site::of_url(&url).service(), "ca.finalize", &url, |world| {
                world.settle_orders(&url);
                let now = world.now();
                let status = world.ca.orders[&url].status;
                if status != OrderStatus::Ready {
                    world.tally.count("orderNotReady");
                    self.look(world);
                    return Err(problem("orderNotReady", 403, "the order is not ready"));
                }
                let (_, request) = X509CertificationRequest::from_der(csr).unwrap();
                let info = &request.certification_request_info.subject_pki;
                let owner = rules::before_finalize(world, pass, &url, info.raw);
                let rsa =
                    info.algorithm.algorithm == x509_parser::oid_registry::OID_PKCS1_RSAENCRYPTION;
                let p384 = !rsa && info.subject_public_key.data.len() > 80;
                let key = PublicKey {
                    bits: info.subject_public_key.data.to_vec(),
                    algorithm: match (rsa, p384) {
                        (true, _) => &rcgen::PKCS_RSA_SHA256,
                        (_, true) => &rcgen::PKCS_ECDSA_P384_SHA384,
                        _ => &rcgen::PKCS_ECDSA_P256_SHA256,
                    },
                    rsa,
                };
                let slow = world
                    .weather
                    .now(now)
                    .any(|spell| matches!(spell.what, Disorder::Slow));
                let takes = match world.rng.u8(..3) {
                    _ if slow => world.rng.i64(5..1_200),
                    0 => 0,
                    _ => world.rng.i64(1..8),
                };
                let order = world.ca.orders.get_mut(&url).unwrap();
                order.status = OrderStatus::Processing;
                order.request = Some(key);
                order.owner = owner;
                order.done_at = now + Duration::seconds(takes);
                world.settle_orders(&url);
                self.look(world);
                Ok((self.status == OrderStatus::Processing)
                    .then_some(std::time::Duration::from_secs(3)))
            })
            .await
    }

    async fn certificate(&mut self) -> Result<String, AcmeError> {
        let handle = self.account.0.clone();
        let url = self.url.clone();
        handle
            .call(
                Site::of_url(&url).service(),
                "ca.certificate",
                &url,
                |world| match &world.ca.orders[&url].chain {
                    Some(chain) => Ok(chain.to_string()),
                    None => Err(problem("malformed", 404, "no certificate")),
                },
            )
            .await
    }
}

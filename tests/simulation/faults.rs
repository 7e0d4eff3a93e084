//! What goes wrong, and when: drawn from the seed, for the whole world and for each call.

use time::{Duration, OffsetDateTime};

/// The service that a call goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Service {
    /// The bucket.
    Store,
    /// The preferred certificate authority.
    Authority,
    /// The fallback authority.
    Second,
    /// The authority for rehearsals.
    Staging,
    /// The certificate manager.
    CertificateManager,
    /// The load balancers.
    LoadBalancer,
    /// Our own fetch, and the look at the served certificate.
    Network,
}

impl Service {
    pub(crate) fn is_authority(self) -> bool {
        matches!(self, Self::Authority | Self::Second | Self::Staging)
    }
}

/// How a call fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// No answer arrived.
    NoAnswer,
    /// No connection was made.
    NoConnection,
    /// A fault of the service.
    Internal,
    /// Too many calls.
    Throttled,
    /// The service is busy. Seconds until the next attempt, if it names them.
    Busy(Option<i64>),
    /// The nonce was refused more often than the adapter retries.
    BadNonce,
    /// A conditional write succeeded, was repeated, and met its own result.
    MetItself,
}

/// The fate of one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It works.
    Works,
    /// It fails before it takes effect.
    Before(Fault),
    /// It takes effect, and the answer says the opposite or is lost.
    After(Fault),
    /// It hangs until the caller gives up; whether it takes effect.
    Stalls(bool),
    /// The process dies before the call.
    DiesBefore,
    /// The process dies after the call has taken effect.
    DiesAfter,
}

/// Probabilities per call.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Odds {
    pub(crate) before: f64,
    pub(crate) after: f64,
    pub(crate) stall: f64,
    pub(crate) death: f64,
}

impl Odds {
    fn draw(&self, service: Service, rng: &mut fastrand::Rng) -> Fate {
        let mut luck = rng.f64();
        let mut falls_in = |share: f64| {
            let inside = luck < share;
            luck -= share;
            inside
        };
        if falls_in(self.before) {
            return Fate::Before(fault(service, rng));
        }
        if falls_in(self.after) {
            let lost = match service {
                Service::Store => [Fault::NoAnswer, Fault::MetItself, Fault::Internal],
                _ => [Fault::NoAnswer, Fault::NoAnswer, Fault::Internal],
            };
            return Fate::After(lost[rng.usize(..lost.len())]);
        }
        if falls_in(self.stall) {
            return Fate::Stalls(rng.bool());
        }
        if falls_in(self.death) {
            return if rng.bool() {
                Fate::DiesBefore
            } else {
                Fate::DiesAfter
            };
        }
        Fate::Works
    }
}

fn fault(service: Service, rng: &mut fastrand::Rng) -> Fault {
    let faults: &[Fault] = match service {
        Service::Authority | Service::Second | Service::Staging => &[
            Fault::NoAnswer,
            Fault::NoConnection,
            Fault::Internal,
            Fault::Busy(None),
            Fault::Busy(Some(30)),
            Fault::Busy(Some(3600)),
            Fault::BadNonce,
        ],
        _ => &[Fault::NoAnswer, Fault::Internal, Fault::Throttled],
    };
    faults[rng.usize(..faults.len())]
}

/// A period in which something is out of order.
#[derive(Clone, Debug)]
pub(crate) struct Spell {
    pub(crate) from: OffsetDateTime,
    pub(crate) to: OffsetDateTime,
    pub(crate) what: Disorder,
}

/// What is out of order.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Disorder {
    /// Calls fail more often.
    Storm(Option<Service>, Odds),
    /// An authority fails all calls; with `None`, every authority does.
    AuthorityDown(Option<Service>, Fault),
    /// No pass runs.
    NoPasses,
    /// Clocks of passes are wrong by up to this much.
    WrongClocks(Duration),
    /// Validation and issuance take long.
    Slow,
}

impl Disorder {
    pub(crate) fn word(&self) -> &'static str {
        match self {
            Self::Storm(..) => "storm",
            Self::AuthorityDown(None, _) => "all authorities down",
            Self::AuthorityDown(..) => "authority down",
            Self::NoPasses => "no passes",
            Self::WrongClocks(_) => "wrong clocks",
            Self::Slow => "slow authority",
        }
    }
}

/// How much goes wrong in a world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Roughness {
    Calm,
    Light,
    Rough,
    Hostile,
}

/// Everything that goes wrong by itself.
pub(crate) struct Weather {
    pub(crate) roughness: Roughness,
    /// The probabilities outside of spells.
    always: Odds,
    pub(crate) spells: Vec<Spell>,
    /// Periods in which nothing goes wrong.
    pub(crate) lulls: Vec<(OffsetDateTime, OffsetDateTime)>,
    /// The share of passes that run together with another one.
    pub(crate) overlap: f64,
    /// The share of passes whose clock is off by minutes.
    pub(crate) skew: f64,
    /// The share of passes that get little time.
    pub(crate) short: f64,
}

impl Weather {
    /// Draws the weather of a world.
    pub(crate) fn draw(
        roughness: Roughness,
        from: OffsetDateTime,
        days: i64,
        rng: &mut fastrand::Rng,
    ) -> Self {
        let (always, spells_a_year, overlap, skew, short) = match roughness {
            Roughness::Calm => (0.0, 0.0, 0.02, 0.0, 0.0),
            Roughness::Light => (0.0005, 6.0, 0.1, 0.02, 0.02),
            Roughness::Rough => (0.002, 25.0, 0.25, 0.05, 0.05),
            Roughness::Hostile => (0.003, 60.0, 0.4, 0.1, 0.1),
        };
        let always = Odds {
            before: always,
            after: always / 2.0,
            stall: always / 8.0,
            death: always / 2.0,
        };
        let mut spells = Vec::new();
        #[allow(clippy::cast_possible_truncation)]
        let many = (spells_a_year * days as f64 / 365.0 + rng.f64()) as usize;
        for _ in 0..many {
            let from = from + Duration::seconds(rng.i64(0..days * 86_400));
            let what = disorder(roughness, rng);
            let longest = match what {
                Disorder::Storm(..) => 8 * 3600,
                // Long enough that certificates which are due have little lifetime left.
                Disorder::AuthorityDown(Some(Service::Authority), _) if rng.u8(..3) == 0 => {
                    40 * 86_400
                }
                Disorder::AuthorityDown(..) => 4 * 86_400,
                Disorder::NoPasses if rng.u8(..6) == 0 => 12 * 86_400,
                Disorder::NoPasses => 3 * 86_400,
                Disorder::WrongClocks(_) => 2 * 86_400,
                Disorder::Slow => 86_400,
            };
            // Mostly short, sometimes long.
            #[allow(clippy::cast_possible_truncation)]
            let length = 300 + (rng.f64().powi(3) * f64::from(longest)) as i64;
            spells.push(Spell {
                from,
                to: from + Duration::seconds(length),
                what,
            });
        }
        spells.sort_by_key(|spell| spell.from);
        Self {
            roughness,
            always,
            spells,
            lulls: Vec::new(),
            overlap,
            skew,
            short,
        }
    }

    pub(crate) fn is_lull(&self, at: OffsetDateTime) -> bool {
        self.lulls.iter().any(|(from, to)| *from <= at && at < *to)
    }

    /// Returns what is out of order now.
    pub(crate) fn now(&self, at: OffsetDateTime) -> impl Iterator<Item = &Spell> {
        let lull = self.is_lull(at);
        self.spells
            .iter()
            .filter(move |_| !lull)
            .take_while(move |spell| spell.from <= at)
            .filter(move |spell| spell.to > at)
    }

    /// Draws the fate of a call.
    pub(crate) fn fate(
        &self,
        service: Service,
        at: OffsetDateTime,
        rng: &mut fastrand::Rng,
    ) -> Fate {
        if self.is_lull(at) {
            return Fate::Works;
        }
        let mut odds = self.always;
        for spell in self.now(at) {
            match spell.what {
                Disorder::AuthorityDown(which, fault)
                    if service.is_authority() && which.is_none_or(|which| which == service) =>
                {
                    return Fate::Before(fault);
                }
                Disorder::Storm(only, storm) if only.is_none_or(|only| only == service) => {
                    odds = storm;
                }
                _ => {}
            }
        }
        odds.draw(service, rng)
    }
}

fn disorder(roughness: Roughness, rng: &mut fastrand::Rng) -> Disorder {
    match rng.u8(..12) {
        0..=4 => {
            let services = [
                None,
                Some(Service::Store),
                Some(Service::Authority),
                Some(Service::CertificateManager),
                Some(Service::LoadBalancer),
            ];
            let strength = if roughness == Roughness::Hostile {
                0.3
            } else {
                0.1
            };
            let mut part = || rng.f64() * strength;
            let odds = Odds {
                before: part(),
                after: part(),
                stall: part() / 6.0,
                death: part() / 2.0,
            };
            Disorder::Storm(services[rng.usize(..services.len())], odds)
        }
        5..=7 => {
            let faults = [
                Fault::NoConnection,
                Fault::NoAnswer,
                Fault::Internal,
                Fault::Busy(None),
                Fault::Busy(Some(600)),
                Fault::Busy(Some(7200)),
            ];
            let which = [
                None,
                Some(Service::Authority),
                Some(Service::Authority),
                Some(Service::Authority),
                Some(Service::Second),
                Some(Service::Staging),
            ];
            Disorder::AuthorityDown(
                which[rng.usize(..which.len())],
                faults[rng.usize(..faults.len())],
            )
        }
        8..=9 => Disorder::NoPasses,
        10 => {
            let most = [
                Duration::minutes(3),
                Duration::minutes(10),
                Duration::hours(5),
                Duration::days(3),
            ];
            Disorder::WrongClocks(most[rng.usize(..most.len())])
        }
        _ => Disorder::Slow,
    }
}

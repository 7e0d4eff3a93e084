//! The cycle in simulated worlds and virtual time, each world from a seed. Everything that can go
//! wrong does, and the rules are checked from outside.
//!
//! - [`world`] holds the truth; [`store`], [`ca`] and [`aws`] are its services.
//! - [`people`] change what they want; [`faults`] is what goes wrong by itself.
//! - [`rules`] says what must never happen; [`visitors`] and [`words`] say it about visitors.
//! - [`provocations`] are actions of people that provoke rule 12; [`run`] lets time pass.
//!
//! Only the cycle, the keys and the certificates are real, and no key influences a decision: a seed
//! always gives the same life.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a simulation that cannot go on should end its test, loudly"
)]

mod aws;
mod ca;
mod faults;
mod people;
mod provocations;
mod rules;
mod run;
mod store;
mod trace;
mod visitors;
mod words;
mod world;

use std::time::Instant;

use trace::Tally;

/// How many certificate-years `make test` simulates, over all shards.
const YEARS: f64 = 400.0;
const SHARDS: u64 = 4;
/// How many more years a shard simulates for events that it has not met yet, and how often.
const MORE_YEARS: f64 = 10.0;
const MORE: usize = 24;

/// Simulates worlds until they add up to this many certificate-years. Returns the counts.
fn live_years(years: f64, seeds: impl Iterator<Item = u64>) -> Tally {
    let started = Instant::now();
    let (mut lived, mut worlds, mut tally) = (0.0, 0_u64, Tally::default());
    for seed in seeds {
        if lived >= years {
            break;
        }
        let ended = run::live(seed, None);
        lived += ended.certificate_years;
        worlds += 1;
        tally.add(&ended.tally);
        if let Some(broken) = ended.broken {
            println!("{}", summary(lived, worlds, &tally, started));
            panic!("{broken}\nTo see it again: make soak SEED={seed} TRACE=trace.txt\n");
        }
    }
    println!("{}", summary(lived, worlds, &tally, started));
    tally
}

fn summary(years: f64, worlds: u64, tally: &Tally, started: Instant) -> String {
    let seconds = started.elapsed().as_secs_f64();
    format!(
        "{years:.0} certificate-years in {worlds} worlds: {} passes, {} orders, {} certificates, \
         {} faults, {} deaths; {seconds:.0} s, {:.1} years a second",
        tally.of("passes"),
        tally.of("ca.newOrder"),
        tally.of("issued"),
        tally.under("fault: "),
        tally.under("death: "),
        years / seconds.max(0.001)
    )
}

fn shard(number: u64) {
    let mut seeds = (0..).map(|n| n * SHARDS + number);
    let mut tally = live_years(YEARS / SHARDS as f64, &mut seeds);
    let never = |tally: &Tally| -> Vec<&str> {
        let met = |what: &&str| tally.under(what) > 0;
        COVERED.into_iter().filter(|what| !met(what)).collect()
    };
    // Rare events may take a few more years.
    for _ in 0..MORE {
        if never(&tally).is_empty() {
            break;
        }
        tally.add(&live_years(MORE_YEARS, &mut seeds));
    }
    println!("{}", tally.table());
    let never = never(&tally);
    assert!(
        never.is_empty(),
        "a simulation that is blind to something: it never met {never:?}"
    );
}

/// Every shard must have met each of these at least once. A count matches by the beginning of its
/// words.
const COVERED: [&str; 102] = [
    "CertificateNotFound",
    "TooManyCertificates",
    "authorization reused",
    "calm certificates looked at",
    "calm worlds looked at",
    "condition failed",
    "death: after ca.",
    "death: after elb.",
    "death: after acm.",
    "death: after s3.write",
    "death: before ca.",
    "death: before elb.",
    "death: before acm.",
    "death: before s3.write",
    "default replaced",
    "deletion of a superseded one",
    "expired one served for a reason",
    "fault: Authority BadNonce",
    "fault: Authority Busy(None)",
    "fault: Authority Busy(Some",
    "fault: Authority Internal after",
    "fault: Authority Internal before",
    "fault: Authority NoAnswer after",
    "fault: Authority NoAnswer before",
    "fault: Authority NoAnswer stalled after",
    "fault: Authority NoAnswer stalled before",
    "fault: Authority NoConnection",
    "fault: CertificateManager Internal after",
    "fault: CertificateManager NoAnswer after",
    "fault: CertificateManager NoAnswer stalled after",
    "fault: CertificateManager NoAnswer stalled before",
    "fault: CertificateManager Throttled",
    "fault: LoadBalancer NoAnswer after",
    "fault: LoadBalancer NoAnswer stalled",
    "fault: LoadBalancer Throttled",
    "fault: Network",
    "fault: Store MetItself after",
    "fault: Store NoAnswer after",
    "fault: Store NoAnswer stalled",
    "fault: Store Throttled",
    "fetched: Nothing",
    "fetched: Wrong",
    "first import",
    "import quota met",
    "issuance failed",
    "limits: exempt by its window",
    "order reused",
    "orderNotReady",
    "overlapping passes",
    "passes that could not run",
    "passes with a clock minutes off",
    "passes with a wrong clock",
    "passes with little time",
    "paused name asked for",
    "people: ",
    "proof: could not tell",
    "proof: wrong",
    "replaces: alreadyReplaced",
    "replaces: not echoed",
    "replaces: refused",
    "replaces: taken",
    "spell: authority down",
    "spell: no passes",
    "spell: slow authority",
    "spell: storm",
    "spell: wrong clocks",
    "step: ARN lost",
    "step: detached",
    "step: document changed",
    "step: new ARN needed",
    "step: order ended",
    "step: replaces refused",
    "step: undone",
    "superseded one of others taken off",
    "switch: old one taken off",
    "validation failed",
    "window: Past",
    "window: Later",
    "window: Upside",
    "fallback: ordered elsewhere",
    "fault: Second",
    "fault: Staging",
    "people: one name of several led astray",
    "people: put again",
    "people: asked again",
    "problem: certloop:namesMissing",
    "problem: certloop:orphan",
    "rehearsals",
    "removal: all forgotten",
    "removal: document deleted",
    "revoked: ",
    "rolled back",
    "spell: all authorities down",
    "step: in the way",
    "step: rehearsed",
    "told again",
    "told: Issued",
    "told: ProblemChanged",
    "told: ProblemEnded",
    "told: ProblemStarted",
    "told: Renewed",
    "told: RunningOut",
];

/// What a shard must have met for rule 12.
const COVERED_OF_RULE_12: [&str; 16] = [
    "passes with a clock months ahead",
    "people: rule 12: our tags taken away",
    "people: rule 12: one of ours superseded",
    "people: rule 12: one default wanted twice",
    "people: rule 12: name and key type shared",
    "people: rule 12: edited while the authority is down",
    "people: rule 12: one of others put on a listener",
    "people: rule 12: one of others superseded",
    "people: rule 12: behind a proof that never comes",
    "people: rule 12: listener full for days",
    "proof: something else for days",
    "rule 12: a way back",
    "word: as default",
    "word: document",
    "word: removed",
    "word: rolled back",
];

#[test]
fn four_hundred_certificate_years_first_quarter() {
    shard(0);
}

#[test]
fn four_hundred_certificate_years_second_quarter() {
    shard(1);
}

#[test]
fn four_hundred_certificate_years_third_quarter() {
    shard(2);
}

#[test]
fn four_hundred_certificate_years_last_quarter() {
    shard(3);
}

/// Worlds that satisfy rule 12 although people provoke it. Review any change of this list: a seed
/// leaves it only for a recorded reason. Those above 26 left when certloop stopped deploying
/// certificates that serve no visitor: their lives changed, and have not been reviewed yet.
const PROVOKED: [u64; 14] = [2, 8, 11, 12, 13, 14, 16, 17, 18, 20, 21, 22, 25, 26];

#[test]
fn provoked_worlds_take_nothing_from_a_visitor() {
    visitors::provoke();
    let tally = live_years(f64::INFINITY, PROVOKED.into_iter());
    println!("{}", tally.table());
    let met = |what: &&str| tally.under(what) > 0;
    let never: Vec<&str> = COVERED_OF_RULE_12
        .into_iter()
        .filter(|what| !met(what))
        .collect();
    assert!(never.is_empty(), "these worlds never met {never:?}");
}

#[test]
fn the_same_seed_lives_the_same_life() {
    for seed in [7, 1_000_003] {
        let (first, second) = (run::live(seed, None), run::live(seed, None));
        assert_eq!(
            (first.hash, first.lines),
            (second.hash, second.lines),
            "seed {seed}"
        );
        assert!(first.lines > 100 && first.seed == seed);
    }
}

/// `make soak`: with SEED one world again, with YEARS new ones.
#[test]
#[ignore = "as long as one likes: make soak YEARS=n, or make soak SEED=n"]
fn soak() {
    let number = |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty());
    if let Some(seed) = number("SEED") {
        let seed = seed.parse().unwrap();
        let trace = number("TRACE");
        let ended = run::live(seed, trace.as_deref());
        println!("{}", ended.tally.table());
        println!(
            "seed {seed}: {:.2} certificate-years, {} lines, hash {:016x}",
            ended.certificate_years, ended.lines, ended.hash
        );
        if let Some(broken) = ended.broken {
            panic!("{broken}");
        }
        return;
    }
    let years = number("YEARS").map_or(1_000.0, |years| years.parse().unwrap());
    let first = number("FIRST").map_or_else(
        || {
            let now = std::time::SystemTime::now();
            now.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() << 20
        },
        |first| first.parse().unwrap(),
    );
    println!("seeds from {first} on");
    println!("{}", live_years(years, first..).table());
}

/// Lists what breaks rule 12, seed by seed: `RULE12=list FIRST=0 LAST=60`, one line for each seed
/// and case.
#[test]
#[ignore = "a table for people: RULE12=list FIRST=0 LAST=60 cargo test --release --test \
            simulation -- --ignored --exact --nocapture rule_12_table"]
fn rule_12_table() {
    let number =
        |name: &str, other: u64| std::env::var(name).map_or(other, |text| text.parse().unwrap());
    for seed in number("FIRST", 0)..number("LAST", 60) {
        let ended = run::live(seed, None);
        for (case, first) in &ended.found {
            let times = ended.tally.of(&format!("rule 12: {case}"));
            println!("| {seed} | {case} | {times} | {first} |");
        }
        let broken = ended.broken.unwrap_or_default();
        let broken = broken
            .lines()
            .next()
            .unwrap_or("lives to its end")
            .to_owned();
        let years = ended.certificate_years;
        println!("| {seed} | end | | {years:.1} certificate-years; {broken} |");
    }
}

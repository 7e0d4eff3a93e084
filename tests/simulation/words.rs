//! What a person's word covers, for [`visitors`](crate::visitors).
//!
//! A document's word counts as soon as a leaf for exactly this document is issued. A word is about
//! our own leaves only.

use certificates::contract::settings::Orphans;
use certificates::invocation::actions::Action;
use certificates::records::state::State;
use certificates::values::chain::Leaf;
use time::Duration;

use crate::aws::covers;
use crate::ca::Site;
use crate::people::{Target, Wish};
use crate::rules;
use crate::visitors::{
    Call, Standing, Touch, View, Visitor, is_ecdsa, is_good, served_now, standing, was_served,
};
use crate::world::{HOME, Wished, World};

/// Whether a leaf is what exactly this document asks for.
fn fits(world: &World, leaf: &Leaf, wish: &Wish) -> bool {
    let site = world.ca.issued.get(&leaf.serial).map(|issued| issued.site);
    leaf.key_type == Some(wish.key_type)
        && site.is_some_and(|site| wish.sites().contains(&site))
        && leaf.names.len() == wish.domains.len()
        && leaf
            .names
            .iter()
            .all(|name| wish.domains.iter().any(|it| it == name.as_str()))
}

/// Whether a leaf was issued for exactly this document, without the names that could not be
/// validated.
fn fits_in_part(world: &World, name: &str, leaf: &Leaf, wish: &Wish) -> bool {
    let versions = world.wishes.get(name).map(|wished| &wished.versions);
    let mut versions = versions.into_iter().flatten();
    // A change of the place needs no other certificate.
    let is_same = |version: &Wish| {
        version.domains == wish.domains
            && version.key_type == wish.key_type
            && version.sites() == wish.sites()
            && version.partial == wish.partial
    };
    let since = versions.find(|(_, version)| version.as_ref().is_some_and(is_same));
    let site = world.ca.issued.get(&leaf.serial).map(|issued| issued.site);
    let wanted = |held: &str| wish.domains.iter().any(|it| it == held);
    wish.partial
        && leaf.key_type == Some(wish.key_type)
        && site.is_some_and(|site| wish.sites().contains(&site))
        && leaf.names.iter().all(|held| wanted(held.as_str()))
        && since.is_some_and(|(from, _)| leaf.not_before + Duration::HOUR >= *from)
}

/// Whether a leaf for exactly this document is issued: it should be served, or is in some place.
pub(crate) fn counts(world: &World, name: &str, wish: &Wish) -> bool {
    let held = world
        .states
        .get(name)
        .and_then(|state| state.certificate.as_ref());
    let mut issued = world.visitors.issued.iter();
    issued.any(|(serial, issued)| {
        let stands = || {
            let mut manager = world.manager.iter();
            manager.any(|(arn, it)| {
                it.leaf.serial == *serial && world.owner_of(arn).as_deref() == Some(name)
            })
        };
        issued.document == name
            && (fits(world, &issued.leaf, wish) || fits_in_part(world, name, &issued.leaf, wish))
            && is_good(world, &issued.leaf, world.now())
            && (held.is_some_and(|held| held.serial == *serial) || stands())
    })
}

/// Returns what was wanted of a certificate while a pass ran, as far as it counts. If nothing of it
/// counts yet, returns what counted last.
fn counting<'w>(world: &'w World, pass: u32, name: &str) -> Vec<&'w Wish> {
    let wishes = world.wishes_during(name, pass).into_iter().flatten();
    let counting: Vec<&Wish> = wishes.filter(|wish| counts(world, name, wish)).collect();
    if !counting.is_empty() {
        return counting;
    }
    let versions = world.wishes.get(name).map(|wished| &wished.versions);
    let versions = versions.into_iter().flatten().rev();
    let mut before = versions.filter_map(|(_, wish)| wish.as_ref());
    let last = before.find(|wish| counts(world, name, wish));
    last.into_iter().collect()
}

/// Returns the word that covers a visitor's loss.
pub(crate) fn covers_loss(
    world: &World,
    call: &Call<'_>,
    listener: &str,
    visitor: &Visitor,
    lost: &Standing,
    after: &View,
) -> Option<&'static str> {
    let Some(owner) = &lost.owner else {
        let moved = !visitor.sni && after.has(&lost.arn);
        let said = moved && said_default(world, call, listener);
        return said.then_some("as default");
    };
    if is_removed(world, owner) {
        return Some("removed");
    }
    // Without its tags it counts as one of others: it moves to the list where the document says so.
    if !visitor.sni
        && world.owner_of(&lost.arn).is_none()
        && after.has(&lost.arn)
        && said_default(world, call, listener)
    {
        return Some("as default");
    }
    if went_back(world, owner, &lost.leaf) {
        return Some("rolled back");
    }
    let taken = matches!(
        call.touch,
        Touch::SetDefault { arn, .. } if world.owner_of(arn).as_ref() != Some(owner)
    );
    // The states say which document holds a place, and they are of another day.
    if taken && !visitor.sni && is_restored(world) {
        return Some("restored");
    }
    for wish in counting(world, call.pass, owner) {
        let place = wish.listeners().find(|(arn, _)| *arn == listener);
        let wanted = wish.domains.contains(&visitor.name)
            && wish.key_type.is_ecdsa() == visitor.ecdsa
            && place.is_some_and(|(_, default)| visitor.sni || default);
        if !wanted {
            return Some("document");
        }
    }
    let mut heirs = after.all().filter(|it| it.owner.as_ref() == Some(owner));
    heirs
        .any(|heir| gives_way_to_partial(world, call, owner, &lost.leaf, &heir.leaf))
        .then_some("partial")
}

/// Whether a partial leaf may replace a wider one: a tenth of that one's lifetime is left.
fn gives_way_to_partial(
    world: &World,
    call: &Call<'_>,
    owner: &str,
    wider: &Leaf,
    partial: &Leaf,
) -> bool {
    let lifetime = wider.not_after - wider.not_before;
    let wishes = world.wishes_during(owner, call.pass);
    let mut wishes = wishes.into_iter().flatten();
    wider.not_after - call.at <= lifetime / 10 + Duration::minutes(1)
        && wishes.any(|wish| {
            let mut names = partial.names.iter();
            wish.partial && names.all(|name| wish.domains.iter().any(|it| it == name.as_str()))
        })
}

/// Whether the document for which the new default was issued says `"as": "default"`, and still
/// does.
fn said_default(world: &World, call: &Call<'_>, listener: &str) -> bool {
    let Touch::SetDefault { arn, .. } = call.touch else {
        return false;
    };
    // Also without its tags, if our state knows it.
    let ours = standing(world, arn);
    let Some((owner, leaf)) = ours.and_then(|it| Some((it.owner?, it.leaf))) else {
        return false;
    };
    let says = |wish: &Wish| wish.listeners().any(|at| at == (listener, true));
    let versions = world.wishes.get(&owner).map(|wished| &wished.versions);
    let mut versions = versions.into_iter().flatten();
    let now = world.wishes_during(&owner, call.pass);
    now.into_iter().flatten().any(says)
        && versions.any(|(_, wish)| {
            wish.as_ref()
                .is_some_and(|wish| says(wish) && fits(world, &leaf, wish))
        })
}

/// Whether a word covers the loss of those who follow an ARN.
pub(crate) fn content_is_covered(
    world: &World,
    call: &Call<'_>,
    owner: &str,
    name: &str,
    old: &Standing,
    new: Option<&Leaf>,
) -> bool {
    let mut wishes = counting(world, call.pass, owner).into_iter();
    is_removed(world, owner)
        || went_back(world, owner, &old.leaf)
        || wishes.any(|wish| {
            let wanted = wish.domains.iter().any(|it| it == name);
            !(wanted && names_arn(world, wish, &old.arn))
        })
        || new.is_some_and(|new| gives_way_to_partial(world, call, owner, &old.leaf, new))
}

/// Whether a person asked for its removal, or the settings do so for certificates without a
/// document.
fn is_removed(world: &World, name: &str) -> bool {
    let gone = world.wishes.get(name).and_then(Wished::now).is_none();
    rules::is_removed(world, name) || gone && world.settings.orphans == Orphans::Remove
}

/// Whether a person rolled back to an earlier one, and this is not it.
pub(crate) fn went_back(world: &World, name: &str, left: &Leaf) -> bool {
    rules::went_back_to(world, name).is_some_and(|serial| serial != left.serial)
}

/// Whether a person asked for the revocation of this one. The authority may not have revoked it
/// yet.
pub(crate) fn is_to_be_revoked(world: &World, name: &str, serial: &str) -> bool {
    let state = world.states.get(name);
    state.is_some_and(|state| state.revocations.is_pending(serial))
}

/// Whether the imported leaf is the one that the ARN held before, after a failed proof.
pub(crate) fn is_way_back(
    world: &World,
    name: &str,
    arn: &str,
    left: &str,
    back: Option<&str>,
) -> bool {
    let Some(state) = world.states.get(name) else {
        return false;
    };
    let held = state.certificate.as_ref();
    let mut imports = state.deployment.imports.values();
    held.is_some_and(|held| held.serial == left)
        && imports.any(|import| {
            let is_it = import
                .arn
                .as_ref()
                .is_some_and(|known| known.as_str() == arn);
            is_it && back.is_some() && import.replaced.as_deref() == back
        })
}

/// Returns the document in progress whose record says that this is put back on the listener.
pub(crate) fn brings_back(world: &World, pass: u32, listener: &str, arn: &str) -> Option<String> {
    let owner = world.passes.get(&pass)?.owner.as_ref()?;
    let puts_back = |state: &State| {
        let mut targets = state.deployment.targets.iter();
        let at_work = state.lease.as_ref().map(|lease| &lease.owner) == Some(owner);
        at_work && targets.any(|it| it.id == listener && it.to_restore.holds(arn))
    };
    let mut states = world.states.iter();
    let (name, _) = states.find(|(_, state)| puts_back(state))?;
    let current = current_arn(world, name, arn);
    (!current).then(|| name.clone())
}

/// Whether a serial belongs to a certificate that could be served for a while.
pub(crate) fn is_fresh(world: &World, serial: &str) -> bool {
    let issued = world.visitors.issued.get(serial);
    issued.is_some_and(|issued| is_good(world, &issued.leaf, world.now() + Duration::HOUR))
}

/// Whether a document's state names this ARN as the current one.
pub(crate) fn current_arn(world: &World, name: &str, arn: &str) -> bool {
    let state = world.states.get(name);
    let mut imports = state
        .into_iter()
        .flat_map(|state| state.deployment.imports.values());
    imports.any(|import| {
        import
            .arn
            .as_ref()
            .is_some_and(|known| known.as_str() == arn)
    })
}

/// Returns the documents that supersede an ARN on a listener.
pub(crate) fn who_supersedes(world: &World, pass: u32, arn: &str, listener: &str) -> Vec<String> {
    let takes = |wish: &&Wish| {
        wish.supersedes.iter().any(|old| old == arn)
            && wish.listeners().any(|(it, _)| it == listener)
    };
    let names = world.wishes.keys();
    names
        .filter(|name| {
            world
                .wishes_during(name, pass)
                .into_iter()
                .flatten()
                .any(|it| takes(&it))
        })
        .cloned()
        .collect()
}

/// Whether a document wanted a listener during the whole pass.
pub(crate) fn wants(world: &World, pass: u32, name: &str, listener: &str) -> bool {
    let wishes = world.wishes_during(name, pass);
    let on = |wish: &Wish| wish.listeners().any(|(arn, _)| arn == listener);
    !is_removed(world, name) && wishes.into_iter().all(|wish| wish.is_some_and(on))
}

/// Whether a document wanted to be the default of a listener during the whole pass.
pub(crate) fn wants_default(world: &World, pass: u32, name: &str, listener: &str) -> bool {
    let wishes = world.wishes_during(name, pass);
    let on = |wish: &Wish| wish.listeners().any(|at| at == (listener, true));
    !is_removed(world, name) && wishes.into_iter().all(|wish| wish.is_some_and(on))
}

/// Whether a document asks only for the ARN of a region, for those who follow it.
fn names_arn(world: &World, wish: &Wish, arn: &str) -> bool {
    let region = world.manager.get(arn).map(|held| held.region.as_str());
    let region = region.unwrap_or(HOME);
    let mut targets = wish.targets.iter();
    targets.any(|target| matches!(target, Target::Manager { region: it } if it == region))
}

/// Whether anyone follows this ARN.
pub(crate) fn is_followed(world: &World, name: &str, arn: &str) -> bool {
    let wish = world.wishes.get(name).and_then(Wished::now);
    wish.is_some_and(|wish| names_arn(world, wish, arn) && current_arn(world, name, arn))
}

/// Whether the bucket was restored to another day in the last days.
pub(crate) fn is_restored(world: &World) -> bool {
    let restored = world.visitors.restored_at;
    restored.is_some_and(|at| world.now() - at < Duration::days(14))
}

/// Returns the known kind of a finding, by its circumstances.
pub(crate) fn case(world: &World, call: &Call<'_>, lost: &Standing) -> String {
    let arn = call.touch.arn();
    let restored = is_restored(world);
    let actors = actors(world, call);
    let issued = actors.iter().all(|name| {
        let wish = world.wishes.get(name).and_then(Wished::now);
        wish.is_some_and(|wish| counts(world, name, wish))
    });
    if let Some(owner) = &lost.owner {
        let superseded = matches!(call.touch, Touch::Remove { .. })
            && world.wishes.iter().any(|(name, wished)| {
                let wish = wished.now().filter(|_| name != owner);
                wish.is_some_and(|wish| wish.supersedes.iter().any(|it| it == arn))
            });
        if superseded {
            return "case 3".to_owned();
        }
        if matches!(call.touch, Touch::SetDefault { .. }) && !actors.contains(owner) {
            return "case 4".to_owned();
        }
    }
    let mut stripped = world.visitors.was_ours.keys();
    let whose = if lost.owner.is_some() {
        "ours"
    } else {
        "others'"
    };
    match (restored, issued) {
        (true, _) => format!("case 2 ({whose})"),
        (false, false) => format!("case 1 ({whose})"),
        _ if stripped.any(|it| *it == lost.arn) => format!("case 5 ({whose})"),
        _ => format!("case 1b, issued ({whose})"),
    }
}

/// Returns the documents for which a call is made.
fn actors(world: &World, call: &Call<'_>) -> Vec<String> {
    let arn = call.touch.arn();
    let owner: Vec<String> = world.owner_of(arn).into_iter().collect();
    match call.touch {
        Touch::Remove { listener, .. } if owner.is_empty() => {
            who_supersedes(world, call.pass, arn, listener)
        }
        _ => owner,
    }
}

/// Checks what is written into a state: cases 7 and 8.
pub(crate) fn state_written(world: &mut World, pass: u32, name: &str, new: &State) {
    if !world.visitors.is_on() {
        return;
    }
    // Also the leaves for those who follow a new ARN.
    let served = served_now(world, name);
    world.visitors.note_served(served);
    if let Some((case, what)) = revoked_or_back(world, pass, name, new) {
        world.takes(case, &what);
    }
    if let Some(what) = ordered_by_force(world, pass, name, new) {
        world.takes("case 8", &what);
    }
}

fn revoked_or_back(
    world: &World,
    pass: u32,
    name: &str,
    new: &State,
) -> Option<(&'static str, String)> {
    let before = world.states.get(name)?;
    let (_, action) = world.passes.get(&pass)?.errand.as_ref()?;
    match action {
        Action::Revoke { serial: None, .. } => {
            let mut news = new.revocations.pending.iter().map(|it| it.serial.clone());
            let asked = news.find(|serial| !before.revocations.is_pending(serial))?;
            let mut served = served_now(world, name);
            served.retain(|serial| {
                let issued = world.ca.issued.get(serial);
                issued.is_some_and(|issued| issued.revoked.is_none())
            });
            // A certificate without a listener is served by those who pull it.
            let wish = world.wishes.get(name).and_then(Wished::now);
            if wish.is_none_or(|wish| wish.listeners().next().is_none()) {
                return None;
            }
            let stands = served.contains(&asked) || was_served(world, &asked);
            (!served.is_empty() && !stands).then(|| {
                let served: Vec<String> = served.into_iter().collect();
                let what = format!(
                    "{asked} of {name} is revoked, and {} served",
                    served.join(",")
                );
                ("case 7", what)
            })
        }
        Action::RollBack { serial: None } => {
            let (left, back) = (before.certificate.as_ref()?, new.certificate.as_ref()?);
            let has_place = (world.wishes.get(name)).and_then(Wished::now);
            // A certificate without a listener is served by those who pull it.
            let versions = (world.wishes.get(name)).map(|wished| &wished.versions);
            let mut versions = versions.into_iter().flatten().flat_map(|(_, wish)| wish);
            let has_place =
                has_place.is_some() && versions.all(|wish| wish.listeners().next().is_some());
            // The same pass may renew a certificate that is due by itself.
            let goes = (new.previous.rolled_back.as_ref()).is_some_and(|it| it.from == left.serial);
            let never = goes && left.serial != back.serial && !was_served(world, &back.serial);
            (never && has_place).then(|| {
                let what = format!(
                    "{name} goes back to {}, which was never served",
                    back.serial
                );
                ("case 7", what)
            })
        }
        _ => None,
    }
}

/// Rule 1 holds for people as well: an issued certificate that is not deployed is deployed, not
/// ordered again.
fn ordered_by_force(world: &World, pass: u32, name: &str, new: &State) -> Option<String> {
    let before = world.states.get(name)?;
    let url = |state: &State| state.orders.current.as_ref().map(|order| order.url.clone());
    let placed = url(new).filter(|placed| url(before).as_ref() != Some(placed))?;
    let held = before.certificate.as_ref()?;
    let wish = world.wishes.get(name).and_then(Wished::now)?;
    let leaf = &world.visitors.issued.get(&held.serial)?.leaf;
    let fits = fits(world, leaf, wish) && is_good(world, leaf, world.now() + Duration::DAY);
    // An order that was due already is not an order by force.
    let is_due = new
        .renew_at()
        .is_some_and(|at| at <= world.now() + Duration::minutes(5));
    let force = world.passes.get(&pass)?.force && before.orders.failure.is_none() && !is_due;
    let why = before.deployment.failure.as_ref()?;
    let undeployed = before.deployment.targets.iter().any(|it| {
        let is_wanted = wish.listeners().any(|(listener, _)| listener == it.id);
        is_wanted && it.serial.as_ref() != Some(&held.serial)
    });
    let rehearsal = Site::of_url(&placed) == Site::Staging;
    (force && fits && undeployed && !rehearsal).then(|| {
        format!(
            "{placed} is ordered for {name} by force, and {} is not deployed: {}",
            held.serial, why.problem.detail
        )
    })
}

/// What must hold in a calm: the reports about removed tags, and about two documents that want one
/// place.
pub(crate) fn calm(world: &mut World, name: &str, wish: &Wish) {
    if !world.visitors.is_on() {
        return;
    }
    if let Some(what) = stripped_untold(world, name, wish) {
        world.takes("case 5", &what);
    }
    if let Some(what) = contended_untold(world, name, wish) {
        world.takes("case 4", &what);
    }
}

/// One of ours without our tags is beside ours on a listener, and no report says so.
fn stripped_untold(world: &World, name: &str, wish: &Wish) -> Option<String> {
    let now = world.now();
    let report = world.visitors.reports.get(name)?;
    let stripped = world.visitors.was_ours.iter();
    let mut stripped =
        stripped.filter(|(_, (owner, since))| owner == name && now - *since > Duration::days(3));
    stripped.find_map(|(arn, _)| {
        let held = world.manager.get(arn)?;
        let rivals = is_good(world, &held.leaf, now)
            && is_ecdsa(&held.leaf) == wish.key_type.is_ecdsa()
            && wish.domains.iter().any(|name| covers(&held.leaf, name));
        let mut listeners = wish.listeners();
        let (listener, _) =
            listeners.find(|(listener, _)| world.listeners[*listener].holding.has(arn))?;
        // A report has one problem: a revocation comes first.
        let told = report.contains(arn.as_str()) || report.contains("certloop:revoked");
        let untold = rivals && world.owner_of(arn).is_none() && !told;
        untold.then(|| {
            format!(
                "{arn} of {name} lost our tags, stays on {listener}, and the report is {report}"
            )
        })
    })
}

/// Two documents share a place, and neither report says that another document holds one. A report
/// has one problem: of several rivals it names the first, and a problem that stops the document
/// comes before that.
fn contended_untold(world: &World, name: &str, wish: &Wish) -> Option<String> {
    let other = rival(world, name, wish)?;
    // A document that is paused before its first certificate is no rival.
    let is_idle = |of: &str| {
        let wish = world.wishes.get(of).and_then(Wished::now);
        let held = world
            .states
            .get(of)
            .and_then(|state| state.certificate.as_ref());
        wish.is_some_and(|wish| wish.paused) && held.is_none()
    };
    if is_idle(name) || is_idle(&other) {
        return None;
    }
    let told = |of: &str| {
        let report = world.visitors.reports.get(of);
        let told = [
            "certloop:contended",
            "certloop:invalidDocument",
            "certloop:tagsLost",
            "certloop:arnWouldChange",
            "certloop:revoked",
            // A failure of this pass.
            "\"outcome\":\"failed\"",
            "\"outcome\":\"waiting\"",
        ];
        report.is_some_and(|it| told.iter().any(|problem| it.contains(problem)))
    };
    let untold = !told(name) && !told(&other);
    untold.then(|| {
        let problem = |of: &str| {
            let report = world
                .visitors
                .reports
                .get(of)
                .map_or("none", String::as_str);
            report
                .split("\"problem\":")
                .nth(1)
                .unwrap_or(report)
                .to_owned()
        };
        let (one, two) = (problem(name), problem(&other));
        format!("{name} and {other} want one place, and neither report says so: {one} {two}")
    })
}

/// Returns another document that wants a place which a listener can give to one only.
pub(crate) fn rival(world: &World, name: &str, wish: &Wish) -> Option<String> {
    let contends = |theirs: &Wish| {
        let shared = theirs.key_type == wish.key_type
            && theirs.domains.iter().any(|it| wish.domains.contains(it));
        wish.listeners().any(|(listener, default)| {
            theirs
                .listeners()
                .any(|(it, theirs)| it == listener && (shared || default && theirs))
        })
    };
    let others = world.wishes.iter().filter(|(other, _)| *other != name);
    let mut rivals = others.filter(|(_, wished)| wished.now().is_some_and(contends));
    rivals.next().map(|(other, _)| other.clone())
}

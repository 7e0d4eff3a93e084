//! What people and the outside world do to a certificate, and how often.

use certificates::invocation::actions::Action;
use certificates::values::key::KeyType;
use certificates::values::revocation_reason::Reason;
use time::Duration;

use super::{
    DOMAINS, Default, Errand, Target, Wish, draw_authorities, draw_profile, draw_targets,
    draw_wish, foreign, has_default, want,
};
use crate::aws::change;
use crate::ca::Window;
use crate::provocations;
use crate::rules;
use crate::world::{Astray, Wished, World};

/// The deeds with their weights, out of the sum of all weights. A recorded seed gives the same life
/// only while the weights and their order stay the same: the drawn number counts through them.
const DEEDS: [(u8, Deed); 26] = [
    (2, edit_domains),
    (1, replace_all_domains),
    (2, edit_key_type),
    (1, edit_profile),
    (2, edit_targets),
    (1, pause_or_unpause),
    (1, delete_document),
    (1, take_over_from_another),
    (2, take_ours_off_a_listener),
    (1, add_a_foreign_one),
    (1, swap_the_default),
    (1, delete_ours),
    (1, take_our_tags_away),
    (2, lead_a_name_astray),
    (1, revoke_everything),
    (3, move_the_window),
    (1, pause_a_name),
    (1, lower_the_import_quota),
    (2, ask_for_rollback),
    (2, ask_for_revocation),
    (1, ask_for_removal),
    (3, put_one_again),
    (1, edit_authorities),
    (1, edit_partial),
    (2, lead_one_of_several_astray),
    (1, add_a_document),
];

/// What a person does to a certificate and its document. `None` if there is nothing to do, or
/// nothing to count.
type Deed = fn(&mut World, &str, Wish) -> Option<Done>;

/// The deed as it is counted.
struct Done {
    counted: &'static str,
    errand: Option<Action>,
}

/// Does one thing that people or the outside world do. The caller sends the returned request to the
/// functions.
pub(crate) fn act(world: &mut World) -> Option<Errand> {
    let names: Vec<String> = world
        .wishes
        .iter()
        .filter(|(_, wished)| wished.now().is_some())
        .map(|(name, _)| name.clone())
        .collect();
    let Some(name) = names.get(world.rng.usize(..names.len().max(1))).cloned() else {
        put_again(world);
        return None;
    };
    if provocations::is_due(world) {
        return provocations::provoke(world, &name);
    }
    let wish = world.wishes[&name].now().unwrap().clone();
    let deed = draw(world);
    let Done { counted, errand } = deed(world, &name, wish)?;
    world.disturb_certificate(&name);
    world.tally.count(&format!("people: {counted}"));
    world.say(format_args!("people: {counted} ({name})"));
    rules::after_event(world);
    errand.map(|action| Errand { name, action })
}

fn draw(world: &mut World) -> Deed {
    let all: u8 = DEEDS.iter().map(|(weight, _)| weight).sum();
    deed_of(world.rng.u8(..all))
}

/// Returns the deed for a number below the sum of all weights.
fn deed_of(mut number: u8) -> Deed {
    for (weight, deed) in DEEDS {
        let Some(rest) = number.checked_sub(weight) else {
            return deed;
        };
        number = rest;
    }
    unreachable!("a number beyond all weights")
}

fn edit_domains(world: &mut World, name: &str, mut wish: Wish) -> Option<Done> {
    let extra = format!(
        "y{}.{name}.{}",
        world.rng.u8(..9),
        DOMAINS[world.rng.usize(..DOMAINS.len())]
    );
    if wish.domains.contains(&extra) {
        if wish.domains.len() == 1 {
            return None;
        }
        wish.domains.retain(|name| *name != extra);
    } else {
        wish.domains.push(extra);
    }
    wish.domains.sort();
    want(world, name, Some(wish));
    done("domains edited")
}

/// Replaces all names at once: no name stays.
fn replace_all_domains(world: &mut World, name: &str, mut wish: Wish) -> Option<Done> {
    wish.domains = vec![format!("z{}.{name}.{}", world.rng.u16(..999), DOMAINS[0])];
    want(world, name, Some(wish));
    done("all domains replaced")
}

fn edit_key_type(world: &mut World, name: &str, mut wish: Wish) -> Option<Done> {
    wish.key_type = match wish.key_type {
        KeyType::EcdsaP256 => [KeyType::EcdsaP384, KeyType::Rsa2048][world.rng.usize(..2)],
        _ => KeyType::EcdsaP256,
    };
    want(world, name, Some(wish));
    done("key type edited")
}

fn edit_profile(world: &mut World, name: &str, mut wish: Wish) -> Option<Done> {
    wish.profile = draw_profile(world);
    want(world, name, Some(wish.sensible()));
    done("profile edited")
}

fn edit_targets(world: &mut World, name: &str, mut wish: Wish) -> Option<Done> {
    wish.targets = draw_targets(world);
    want(world, name, Some(wish));
    done("targets edited")
}

fn pause_or_unpause(world: &mut World, name: &str, mut wish: Wish) -> Option<Done> {
    wish.paused = !wish.paused;
    want(world, name, Some(wish));
    done("paused or unpaused")
}

/// In half of the cases another document is added instead.
fn delete_document(world: &mut World, name: &str, wish: Wish) -> Option<Done> {
    if !world.rng.bool() {
        return add_a_document(world, name, wish);
    }
    want(world, name, None);
    done("document deleted")
}

/// Supersedes a certificate of others.
fn take_over_from_another(world: &mut World, name: &str, mut wish: Wish) -> Option<Done> {
    let now = world.now();
    let listener = first_listener(&wish)?;
    let wanted = wish.domains[0].clone();
    let theirs = foreign(world, &wanted, Default::Good);
    world.book.touched.insert(listener.clone(), now);
    change(world, &listener, |holding| {
        holding.list.push(theirs.clone())
    });
    wish.supersedes.push(theirs);
    want(world, name, Some(wish));
    done("supersedes edited")
}

fn take_ours_off_a_listener(world: &mut World, name: &str, wish: Wish) -> Option<Done> {
    let now = world.now();
    let listener = first_listener(&wish)?;
    let ours: Vec<String> = world.listeners[&listener]
        .holding
        .list
        .iter()
        .filter(|arn| world.owner_of(arn).as_deref() == Some(name))
        .cloned()
        .collect();
    world.book.touched.insert(listener.clone(), now);
    change(world, &listener, |holding| {
        holding.list.retain(|arn| !ours.contains(arn))
    });
    done("ours taken off a listener")
}

fn add_a_foreign_one(world: &mut World, _: &str, wish: Wish) -> Option<Done> {
    let now = world.now();
    let listener = first_listener(&wish)?;
    let theirs = foreign(world, "new.foreign.net", Default::Good);
    world.book.touched.insert(listener.clone(), now);
    change(world, &listener, |holding| holding.list.push(theirs));
    world.disturb();
    done("foreign one added to a listener")
}

fn swap_the_default(world: &mut World, _: &str, wish: Wish) -> Option<Done> {
    let now = world.now();
    let listener = first_listener(&wish)?;
    let theirs = foreign(world, "default.foreign.net", Default::Good);
    world.book.touched.insert(listener.clone(), now);
    change(world, &listener, |holding| holding.default = Some(theirs));
    world.disturb();
    done("default swapped")
}

/// Detaches ours and deletes it from the certificate manager.
fn delete_ours(world: &mut World, name: &str, _: Wish) -> Option<Done> {
    let now = world.now();
    let ours: Vec<String> = world
        .manager
        .keys()
        .filter(|arn| world.owner_of(arn).as_deref() == Some(name))
        .filter(|arn| {
            world
                .listeners
                .values()
                .all(|it| it.holding.default.as_ref() != Some(*arn))
        })
        .cloned()
        .collect();
    let arn = ours.first().cloned()?;
    let listeners: Vec<String> = world.listeners.keys().cloned().collect();
    for listener in listeners {
        if world.listeners[&listener].holding.list.contains(&arn) {
            world.book.touched.insert(listener.clone(), now);
            change(world, &listener, |holding| {
                holding.list.retain(|it| *it != arn)
            });
        }
    }
    world.manager.remove(&arn);
    done("ours deleted from the certificate manager")
}

fn take_our_tags_away(world: &mut World, name: &str, _: Wish) -> Option<Done> {
    let now = world.now();
    let ours: Vec<String> = world
        .manager
        .keys()
        .filter(|arn| world.owner_of(arn).as_deref() == Some(name))
        .cloned()
        .collect();
    let arn = ours.first().cloned()?;
    world.book.touched.insert(arn.clone(), now);
    let held = world.manager.get_mut(&arn)?;
    held.tags.remove("certloop:certificate");
    (world.visitors.was_ours).insert(arn, (name.to_owned(), now));
    done("our tags taken away")
}

fn lead_a_name_astray(world: &mut World, _: &str, wish: Wish) -> Option<Done> {
    let now = world.now();
    let domain = wish.domains[world.rng.usize(..wish.domains.len())].clone();
    #[allow(clippy::cast_possible_truncation)]
    let length = 600 + (world.rng.f64().powi(2) * 5.0 * 86_400.0) as i64;
    let answered = world.rng.bool();
    let until = now + Duration::seconds(length);
    world.say(format_args!(
        "people: {domain} leads astray until {until}, answered: {answered}"
    ));
    world.astray.insert(domain, Astray { until, answered });
    done("name led astray")
}

fn revoke_everything(world: &mut World, _: &str, _: Wish) -> Option<Done> {
    let now = world.now();
    let serials: Vec<String> = world
        .states
        .values()
        .filter_map(|state| Some(state.certificate.as_ref()?.serial.clone()))
        .collect();
    world.say(format_args!("ca: everything is revoked"));
    for serial in serials {
        if let Some(issued) = world.ca.issued.get_mut(&serial) {
            issued.window = Window::Past(now);
        }
    }
    world.disturb();
    done("mass revocation")
}

fn move_the_window(world: &mut World, name: &str, _: Wish) -> Option<Done> {
    let now = world.now();
    let serial = world
        .states
        .get(name)
        .and_then(|state| Some(state.certificate.as_ref()?.serial.clone()));
    let serial = serial?;
    let windows = [
        Window::Past(now),
        Window::Later(Duration::days(world.rng.i64(1..40))),
        Window::Upside,
        Window::Missing,
        Window::Broken,
    ];
    let window = windows[world.rng.usize(..windows.len())];
    world.say(format_args!(
        "ca: the window of {serial} ({name}) is {window:?}"
    ));
    if let Some(issued) = world.ca.issued.get_mut(&serial) {
        issued.window = window;
    }
    done("window moved")
}

fn pause_a_name(world: &mut World, _: &str, wish: Wish) -> Option<Done> {
    let now = world.now();
    let domain = wish.domains.first()?.clone();
    world.say(format_args!("ca: {domain} is paused"));
    world
        .ca
        .paused
        .insert(domain, now + Duration::days(world.rng.i64(1..4)));
    done("name paused by the authority")
}

fn lower_the_import_quota(world: &mut World, _: &str, _: Wish) -> Option<Done> {
    let now = world.now();
    world.import_quota = world.imports + world.rng.u32(..3);
    let quota = world.import_quota;
    world.say(format_args!("aws: the import quota is {quota}"));
    world.book.quota_raised_at = Some(now + Duration::days(world.rng.i64(1..3)));
    world.disturb();
    done("import quota lowered")
}

fn ask_for_rollback(world: &mut World, name: &str, _: Wish) -> Option<Done> {
    let state = world.states.get(name)?;
    let previous = state.previous.serial.clone();
    if previous.is_none() && world.rng.u8(..4) != 0 {
        return None;
    }
    let serial = previous.filter(|_| world.rng.u8(..4) == 0);
    asked("rollback asked for", Action::RollBack { serial })
}

fn ask_for_revocation(world: &mut World, name: &str, _: Wish) -> Option<Done> {
    let reasons = [
        Reason::Unspecified,
        Reason::KeyCompromise,
        Reason::AffiliationChanged,
        Reason::Superseded,
        Reason::CessationOfOperation,
    ];
    let reason = reasons[world.rng.usize(..reasons.len())];
    let previous = world.states.get(name)?.previous.serial.clone();
    let serial = previous.filter(|_| world.rng.u8(..5) == 0);
    asked("revocation asked for", Action::Revoke { serial, reason })
}

fn ask_for_removal(_: &mut World, _: &str, _: Wish) -> Option<Done> {
    asked("removal asked for", Action::Remove)
}

fn put_one_again(world: &mut World, _: &str, _: Wish) -> Option<Done> {
    if !put_again(world) {
        return None;
    }
    done("document put again")
}

fn edit_authorities(world: &mut World, name: &str, mut wish: Wish) -> Option<Done> {
    wish.authorities = draw_authorities(world);
    want(world, name, Some(wish.sensible()));
    done("authorities edited")
}

fn edit_partial(world: &mut World, name: &str, mut wish: Wish) -> Option<Done> {
    wish.partial = !wish.partial;
    want(world, name, Some(wish));
    done("partial edited")
}

/// Leads one name of several elsewhere, for a long time.
fn lead_one_of_several_astray(world: &mut World, _: &str, _: Wish) -> Option<Done> {
    let now = world.now();
    let several: Vec<String> = (world.wishes.values())
        .filter_map(Wished::now)
        .filter(|wish| wish.partial && wish.domains.len() > 1)
        .map(|wish| wish.domains[wish.domains.len() / 2].clone())
        .collect();
    let domain = several
        .get(world.rng.usize(..several.len().max(1)))?
        .clone();
    #[allow(clippy::cast_possible_truncation)]
    let length = 7_200 + (world.rng.f64().powi(2) * 25.0 * 86_400.0) as i64;
    let answered = world.rng.bool();
    let until = now + Duration::seconds(length);
    world.say(format_args!(
        "people: {domain} leads astray until {until}, answered: {answered}"
    ));
    world.astray.insert(domain, Astray { until, answered });
    world.tally.count("people: one name of several led astray");
    None
}

fn add_a_document(world: &mut World, _: &str, _: Wish) -> Option<Done> {
    let number = world.rng.u16(100..999);
    let name = format!("n{number}");
    if world.wishes.contains_key(&name) || world.wishes.len() > 9 {
        return None;
    }
    let wish = draw_wish(world, usize::from(number));
    want(world, &name, Some(wish));
    done("document added")
}

/// Puts a deleted document again, perhaps a changed one. Returns whether there was such a document.
fn put_again(world: &mut World) -> bool {
    let gone: Vec<(String, Wish)> = (world.wishes.iter())
        .filter(|(name, wished)| wished.now().is_none() && !world.errands.contains_key(*name))
        .filter_map(|(name, wished)| {
            let mut versions = wished.versions.iter().rev();
            Some((name.clone(), versions.find_map(|(_, wish)| wish.clone())?))
        })
        .collect();
    let Some((name, mut wish)) = gone.get(world.rng.usize(..gone.len().max(1))).cloned() else {
        return false;
    };
    if world.rng.u8(..3) == 0 {
        wish.targets = draw_targets(world);
    }
    // The superseded certificates may be gone or in use again, and another one may be the default
    // by now.
    wish.supersedes.clear();
    for target in &mut wish.targets {
        if let Target::Listener { arn, default } = target {
            *default = *default && !has_default(world, arn);
        }
    }
    let removing = world.states.get(&name).map(|state| &state.removing);
    world.tally.count(match removing {
        Some(Some(_)) => "people: put again during a removal",
        Some(None) => "people: put again as an orphan",
        None => "people: put again after all was forgotten",
    });
    want(world, &name, Some(wish));
    true
}

fn first_listener(wish: &Wish) -> Option<String> {
    wish.listeners().next().map(|(arn, _)| arn.to_owned())
}

fn done(counted: &'static str) -> Option<Done> {
    Some(Done {
        counted,
        errand: None,
    })
}

fn asked(counted: &'static str, action: Action) -> Option<Done> {
    Some(Done {
        counted,
        errand: Some(action),
    })
}

//! The messages: sent under the lease, in the order of events, nothing twice.

use std::collections::BTreeSet;

use certificates::contract::message::{Kind, Message};

use crate::world::World;

/// A message arrives. It was sent under the lease, is identical when repeated, follows the order of
/// events, and reports no state twice.
pub(crate) fn told(world: &mut World, pass: u32, channel: &str, message: &Message) {
    let name = message.certificate.name.clone();
    world.needs_lease(pass, &name, "a message");
    world.tally.count(&format!("told: {:?}", message.kind));
    // With wrong clocks two passes can hold the lease at the same time.
    let is_steady = world.is_steady();
    // A restored bucket does not know which messages were sent since then.
    if world.visitors.restored_at.is_some() {
        return;
    }
    let key = (name.clone(), channel.to_owned());
    let heard = world.book.heard.entry(key).or_default();
    if let Some(before) = heard.messages.get(&message.id) {
        let is_same = before == message;
        let is_last = heard.last.contains(&message.id);
        if heard.retold.0 != pass {
            heard.retold = (pass, BTreeSet::new());
        }
        heard.retold.1.insert(message.id.clone());
        world.tally.count("told again");
        if is_steady && !(is_same && is_last) {
            world.broken(format!(
                "messages: {} is sent again for {name}, but it differs (same: {is_same}) or is \
                 late (last: {is_last})",
                message.id
            ));
        }
        return;
    }
    let had_problem = heard.has_problem;
    let wrong = match message.kind {
        Kind::Issued => std::mem::replace(&mut heard.was_issued, true),
        Kind::Renewed => {
            // The all-clear: after a rollback, the end of the earlier certificate is announced
            // again.
            heard.running_out.clear();
            !heard.was_issued
        }
        Kind::ProblemStarted => std::mem::replace(&mut heard.has_problem, true),
        Kind::ProblemChanged => !had_problem,
        Kind::ProblemEnded => !std::mem::replace(&mut heard.has_problem, false),
        Kind::RunningOut => {
            let until = message.certificate.not_after;
            until.is_none_or(|until| !heard.running_out.insert(until))
        }
    };
    if std::mem::replace(&mut heard.last_pass, pass) != pass {
        heard.last.clear();
        if heard.retold.0 == pass {
            heard.last.clone_from(&heard.retold.1);
        }
    }
    heard.last.insert(message.id.clone());
    heard.messages.insert(message.id.clone(), message.clone());
    if wrong && is_steady {
        world.broken(format!(
            "messages: {name} gets {:?} about {:?}, which does not follow from the messages before",
            message.kind,
            message.problem.as_ref().or(message.before.as_ref())
        ));
    }
}

/// Forgets the messages about a certificate whose record is gone.
pub(crate) fn forgotten(world: &mut World, name: &str) {
    world.book.heard.retain(|(known, _), _| known != name);
}

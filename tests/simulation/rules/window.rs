//! Rule 8: renewal windows, and how often they are asked for.

use certificates::records::state::State;
use time::Duration;

use crate::world::World;

/// Rule 8: the instant in a window is drawn once, and an invalid window is not kept.
pub(super) fn windows(world: &mut World, pass: u32, name: &str, new: &State) {
    let Some(held) = &new.certificate else {
        return;
    };
    let Some(window) = held.window() else { return };
    if window.end <= window.start || window.end <= held.not_before {
        world.broken(format!(
            "rule 8: pass#{pass} keeps {}..{} for {name}, which is no window",
            window.start, window.end
        ));
        return;
    }
    let before = world
        .states
        .get(name)
        .and_then(|state| state.certificate.as_ref());
    let before = before.filter(|before| before.serial == held.serial);
    // Two passes that overlap may each draw one, before either knows of the other.
    let is_alone = world.passes.len() < 2;
    if let Some(before) = before.and_then(|before| before.window())
        && is_alone
        && before.at != window.at
        && (window.start..=window.end).contains(&before.at)
    {
        world.broken(format!(
            "rule 8: pass#{pass} draws another instant for {name}: {} and now {}",
            before.at, window.at
        ));
    }
}

/// Renewal information is not requested for expired certificates, nor more often than the authority
/// allows.
pub(crate) fn window_asked_for(world: &mut World, pass: u32, serial: &str) {
    let now = world.now();
    let steady = world.is_steady();
    let clock = world.passes.get(&pass).map_or(now, |pass| pass.clock(now));
    let from = world.pass_from(pass);
    // Two documents that share an order may hold the same certificate: one of them is due.
    let holders = world.states.iter().filter_map(|(name, state)| {
        let held = state.certificate.as_ref()?;
        (held.serial == serial).then_some((name, held.renewal.information.as_ref()?.ask_again))
    });
    let holder = holders.min_by_key(|(_, ask_again)| *ask_again);
    if let Some((name, ask_again)) = holder
        // Passes that run at the same time may each ask.
        && world.book.state_written.get(name).is_none_or(|at| *at < from)
        && ask_again > clock + Duration::seconds(1)
        && ask_again < clock + Duration::hours(24)
    {
        world.broken(format!(
            "rule 7: a window is asked for {name} before {ask_again}"
        ));
    }
    if let Some(issued) = world.ca.issued.get(serial)
        && issued.not_after + Duration::minutes(1) < now
        && steady
    {
        world.broken(format!(
            "rule 8: a window is asked for {serial}, which has expired"
        ));
    }
}

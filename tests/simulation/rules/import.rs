//! Rules 1 to 6 on imports into the certificate manager.

use std::collections::BTreeMap;

use certificates::ports::certificate_manager::Material;
use certificates::values::chain::{Chain, Leaf, same_serial};

use crate::aws::reimport;
use crate::ca::Site;
use crate::world::World;

/// Rule 1: only a certificate in the vault goes to AWS.
fn from_vault(world: &mut World, name: &str, leaf: &Leaf, material: &Material<'_>) {
    let site = world.ca.issued.get(&leaf.serial).map(|issued| issued.site);
    if site == Some(Site::Staging) {
        world.broken(format!(
            "rehearsal: {} is imported for {name}, and comes from a rehearsal",
            leaf.serial
        ));
    }
    let prefix = format!("vault/{name}/");
    let stored = world.vault.iter().any(|(key, (chain, private))| {
        key.starts_with(&prefix)
            && private.as_str() == material.private_key
            && chain.starts_with(material.certificate.trim_end())
    });
    // The PEM may be formatted differently: then the leaf itself is compared.
    let stored = stored
        || world.vault.iter().any(|(key, (chain, private))| {
            key.starts_with(&prefix)
                && private.as_str() == material.private_key
                && Chain::parse(chain)
                    .is_ok_and(|chain| chain.leaf().fingerprint == leaf.fingerprint)
        });
    if !stored {
        world.broken(format!(
            "rule 1: {} is imported for {name} and is not in the vault",
            leaf.serial
        ));
    }
}

/// Rules 1, 2, 4, 5, 6.
pub(crate) fn before_first_import(
    world: &mut World,
    pass: u32,
    region: &str,
    leaf: &Leaf,
    material: &Material<'_>,
    tags: &BTreeMap<String, String>,
) {
    let name = tags
        .get("certloop:certificate")
        .cloned()
        .unwrap_or_default();
    if tags.get("certloop:installation") != Some(&world.installation) || name.is_empty() {
        world.broken("rule 3: imported without both tags");
        return;
    }
    world.needs_lease(pass, &name, "a first import");
    from_vault(world, &name, leaf, material);
    let Some(import) = world
        .states
        .get(&name)
        .and_then(|state| state.deployment.imports.get(region))
        .cloned()
    else {
        world.broken(format!(
            "rule 2: {name} is imported in {region} and its state says nothing of it"
        ));
        return;
    };
    if !import
        .importing
        .is_some_and(|intent| same_serial(&intent.serial, &leaf.serial))
    {
        world.broken(format!(
            "rule 2: {name} is imported in {region} without a stored intent"
        ));
    }
    let from = world.pass_from(pass);
    let mut broken = None;
    for (arn, held) in &world.manager {
        if held.region != region
            || world.owner_of(arn).as_deref() != Some(&name)
            || held.imported_at >= from
        {
            continue;
        }
        if same_serial(&held.leaf.serial, &leaf.serial) {
            broken = Some(format!(
                "rule 4: {} is imported a second time for {name}: it is under {arn}",
                leaf.serial
            ));
        }
        let current = import
            .arn
            .as_ref()
            .is_some_and(|current| current.as_str() == arn);
        if current && reimport(&held.leaf, leaf).is_ok() {
            broken = Some(format!(
                "rule 4: {name} gets a new ARN although {arn} could hold it"
            ));
        }
    }
    if let Some(broken) = broken {
        world.broken(broken);
    }
    world.tally.count("first import");
}

/// Rules 1, 3, 5.
pub(crate) fn before_reimport(
    world: &mut World,
    pass: u32,
    arn: &str,
    leaf: &Leaf,
    material: &Material<'_>,
) {
    let Some(name) = world.owner_of(arn) else {
        let touched = world
            .book
            .touched
            .get(arn)
            .is_some_and(|at| *at >= world.pass_from(pass));
        if world.manager.contains_key(arn) && !touched {
            world.broken(format!("rule 3: {arn} is not ours and is overwritten"));
        }
        return;
    };
    world.needs_lease(pass, &name, "a re-import");
    from_vault(world, &name, leaf, material);
}

//! Rule 12 on a listener: no edit, takeover or default takes a certificate from the visitors of
//! others.

use std::time::Duration;

use serde_json::{Value, json};
use tests::{Installation, Invocation, tls};

use crate::evidence::{self, DAY, MINUTE, NEW_ORDER, later};
use crate::helpers::{
    Foreign, arn, assert_person, assert_problem, changing, changing_a_listener, importing,
};
use crate::renewal_information::{HOUR, steady};

const CONTENDED: &str = "certloop:contended";
const INVALID: &str = "certloop:invalidDocument";
const SUPERSEDES: &str = "certloop:supersedes";

fn new_orders(pass: &Invocation) -> usize {
    pass.count(|sent| sent.is_acme(NEW_ORDER))
}

fn as_default(site: &Installation, domains: &[&str]) -> Value {
    let mut document = site.document(domains);
    document["targets"][0]["as"] = json!("default");
    document
}

fn superseding(site: &Installation, domains: &[&str], arns: &[&str]) -> Value {
    let mut document = site.document(domains);
    document["supersedes"] = json!(arns);
    document
}

/// Runs a pass that puts a certificate on its targets.
async fn first_pass(site: &Installation, name: &str) -> Invocation {
    let pass = site.pass().await;
    assert_eq!(pass.outcome(name), "issued", "{:#}", pass.report());
    pass
}

/// What an edit asks for besides one more name.
#[derive(Clone, Copy, Debug)]
enum Edit {
    /// The default of the listener.
    Default,
    /// The place of somebody else's certificate.
    Supersedes,
    /// Both.
    Both,
    /// Another listener.
    Moves,
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_to_the_default_takes_nothing_before_it_is_issued() {
    edit_while_the_authority_is_down(Edit::Default).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_that_supersedes_takes_nothing_before_it_is_issued() {
    edit_while_the_authority_is_down(Edit::Supersedes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_that_supersedes_the_default_takes_nothing_before_it_is_issued() {
    edit_while_the_authority_is_down(Edit::Both).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_to_another_listener_takes_nothing_before_it_is_issued() {
    edit_while_the_authority_is_down(Edit::Moves).await;
}

async fn edit_while_the_authority_is_down(edit: Edit) {
    let cloud = steady().await;
    let second = cloud.install("second").await;
    let label = format!("{edit:?}").to_lowercase();
    let site = cloud.install(&label).await;
    let own = format!("{label}.example.com");
    let more = format!("more.{label}.example.com");
    site.want("web", &[&own]).await;
    let ours = arn(&first_pass(&site, "web").await, "web");
    let theirs = Foreign::import(&cloud, &[&more]).await;
    match edit {
        Edit::Default | Edit::Both => site.set_default(&theirs.arn).await,
        Edit::Supersedes | Edit::Moves => site.add_to_listener(&theirs.arn).await,
    }
    let mut document = match edit {
        Edit::Default | Edit::Both => as_default(&site, &[&own, &more]),
        Edit::Supersedes | Edit::Moves => site.document(&[&own, &more]),
    };
    match edit {
        Edit::Supersedes | Edit::Both => document["supersedes"] = json!([theirs.arn]),
        Edit::Moves => document["targets"][0]["arn"] = json!(second.listener),
        Edit::Default => {}
    }
    let before = (site.listed().await, second.listed().await);

    cloud.to_acme().down().await;
    site.put_document("web", &document).await;
    // Also when the ladder tries again, and when the daily look repairs drift.
    for clock in [Duration::ZERO, 2 * MINUTE, 2 * HOUR, 25 * HOUR] {
        let pass = site.pass_with(later(clock)).await;
        let told = format!("{edit:?} after {clock:?}: {:#}", pass.report());
        assert_eq!(
            (site.listed().await, second.listed().await),
            before,
            "{told}"
        );
        assert!(theirs.is_seen(&site, &more).await, "{told}");
        assert!(site.browser_trusts(&own).await.is_ok(), "{told}");
    }

    // The document's word counts once the certificate is issued.
    cloud.to_acme().up().await;
    let pass = site.pass_with(later(4 * DAY)).await;
    let told = format!("{edit:?}: {:#}", pass.report());
    assert_eq!(pass.outcome("web"), "renewed", "{told}");
    let ours_now = arn(&pass, "web");
    let listed = site.listed().await;
    match edit {
        Edit::Default | Edit::Both => {
            assert_eq!(listed.default, ours_now, "{told}");
            assert!(!listed.sni.contains(&theirs.arn), "{told}");
        }
        Edit::Supersedes => assert_eq!(listed.sni, [ours_now].into(), "{told}"),
        Edit::Moves => {
            assert!(!listed.sni.contains(&ours), "{told}");
            assert!(second.listed().await.sni.contains(&ours_now), "{told}");
            return;
        }
    }
    let leaf = site.browser_trusts(&more).await;
    assert!(leaf.is_ok(), "{told}: {leaf:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_partial_leaves_out_is_not_taken_from_a_default() {
    leave_a_name_out(true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_partial_leaves_out_is_not_taken_from_what_is_superseded() {
    leave_a_name_out(false).await;
}

async fn leave_a_name_out(wants_default: bool) {
    let cloud = steady().await;
    let label = format!("partial-{wants_default}");
    let site = cloud.install(&label).await;
    let own = format!("{label}.example.com");
    let lost = format!("lost.{label}.example.com");
    site.want("web", &[&own]).await;
    let ours = arn(&first_pass(&site, "web").await, "web");
    let theirs = Foreign::import(&cloud, &[&lost]).await;
    let mut document = match wants_default {
        true => as_default(&site, &[&own, &lost]),
        false => superseding(&site, &[&own, &lost], &[&theirs.arn]),
    };
    document["partial"] = json!(true);
    match wants_default {
        true => site.set_default(&theirs.arn).await,
        false => site.add_to_listener(&theirs.arn).await,
    }
    site.put_document("web", &document).await;
    cloud.dns().set_servfail(&lost).await;

    for round in 0..3 {
        let pass = site.pass_with(later(2 * round * MINUTE)).await;
        let told = format!("{label}, pass {round}: {:#}", pass.report());
        assert!(theirs.is_seen(&site, &lost).await, "{told}");
        // Somebody removes ours by mistake, and the pass puts it back.
        if round == 1 && site.listed().await.sni.contains(&ours) {
            site.remove_from_listener(&ours).await;
        }
    }
    assert!(site.browser_trusts(&own).await.is_ok(), "{label}");

    cloud.dns().clear_servfail(&lost).await;
    let pass = site.pass_with(later(3 * HOUR)).await;
    let told = format!("{label}: {:#}", pass.report());
    assert_eq!(pass.outcome("web"), "renewed", "{told}");
    assert!(site.browser_trusts(&lost).await.is_ok(), "{told}");
    let listed = site.listed().await;
    assert!(!listed.sni.contains(&theirs.arn), "{told}");
    assert_ne!(listed.default, theirs.arn, "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_leaf_with_a_name_that_the_placed_one_lacks_stays() {
    let cloud = steady().await;
    let site = cloud.install("shop").await;
    let own = "shop.example.com";
    let theirs = Foreign::import(&cloud, &[own, "other.example.net", "*.example.org"]).await;
    site.add_to_listener(&theirs.arn).await;
    let document = superseding(&site, &[own], &[&theirs.arn]);
    site.put_document("shop", &document).await;

    let pass = site.pass().await;

    let listed = site.listed().await;
    assert!(listed.sni.contains(&theirs.arn), "{:#}", pass.report());
    assert!(listed.sni.contains(&arn(&pass, "shop")));
    assert!(theirs.is_seen(&site, "other.example.net").await);
    assert!(theirs.is_seen(&site, "any.example.org").await);
    assert!(site.browser_trusts(own).await.is_ok());
    let words = [theirs.arn.as_str(), "other.example.net", "*.example.org"];
    assert_person(&pass, "shop", SUPERSEDES, &words);
    for _ in 0..2 {
        let quiet = site.pass().await;
        assert_person(&quiet, "shop", SUPERSEDES, &words);
        assert_eq!(quiet.count(changing_a_listener), 0, "{:?}", quiet.requests);
        assert_eq!(new_orders(&quiet), 0);
    }
    assert_eq!(site.listed().await, listed);

    // The names are added: the new certificate covers every name it can, and nothing else is lost.
    let whole = Foreign::import(&cloud, &[own, "two.example.com"]).await;
    site.add_to_listener(&whole.arn).await;
    let document = superseding(&site, &[own, "two.example.com"], &[&whole.arn]);
    site.put_document("shop", &document).await;
    let pass = site.pass().await;
    let listed = site.listed().await.sni;
    assert!(!listed.contains(&whole.arn), "{:#}", pass.report());
    assert!(listed.contains(&theirs.arn));
    assert_eq!(pass.certificate("shop")["problem"], Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_rsa_leaf_stays_beside_an_ecdsa_one() {
    supersede_another_kind_of_key("ecdsa-p256").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_ecdsa_leaf_stays_beside_an_rsa_one() {
    supersede_another_kind_of_key("rsa-2048").await;
}

async fn supersede_another_kind_of_key(key_type: &str) {
    let cloud = steady().await;
    let own = "shop.example.com";
    let site = cloud.install(key_type).await;
    let theirs = match key_type {
        "ecdsa-p256" => Foreign::import_rsa(&cloud, &[own]).await,
        _ => Foreign::import(&cloud, &[own]).await,
    };
    site.add_to_listener(&theirs.arn).await;
    let mut document = superseding(&site, &[own], &[&theirs.arn]);
    document["keyType"] = json!(key_type);
    site.put_document("shop", &document).await;

    let pass = site.pass().await;

    let told = format!("{key_type}: {:#}", pass.report());
    let listed = site.listed().await.sni;
    assert!(listed.contains(&theirs.arn), "{told}");
    assert!(listed.contains(&arn(&pass, "shop")), "{told}");
    let kind = if key_type == "rsa-2048" {
        "ECDSA"
    } else {
        "RSA"
    };
    assert_person(&pass, "shop", SUPERSEDES, &[&theirs.arn, own, kind]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_leaf_that_cannot_be_read_stays_until_it_can() {
    let cloud = steady().await;
    let site = cloud.install("shop").await;
    let own = "shop.example.com";
    let theirs = Foreign::import(&cloud, &[own]).await;
    site.add_to_listener(&theirs.arn).await;
    let denied = json!({
        "service": "acm", "operation": "GetCertificate", "match": theirs.arn, "count": null,
        "status": 400, "code": "AccessDeniedException",
    });
    cloud.aws().fault(denied).await;
    let document = superseding(&site, &[own], &[&theirs.arn]);
    site.put_document("shop", &document).await;

    let pass = site.pass().await;

    let told = format!("{:#}", pass.report());
    assert!(site.listed().await.sni.contains(&theirs.arn), "{told}");
    assert_person(&pass, "shop", SUPERSEDES, &[&theirs.arn]);
    cloud.aws().admin("DELETE", "faults", None).await;
    let pass = site.pass_with(later(2 * HOUR)).await;
    let told = format!("{:#}", pass.report());
    assert!(!site.listed().await.sni.contains(&theirs.arn), "{told}");
    assert_eq!(pass.certificate("shop")["problem"], Value::Null, "{told}");
    assert!(site.browser_trusts(own).await.is_ok());
}

/// A certificate that serves nobody may be removed. A regression test: this holds today.
#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_leaf_that_nobody_trusts_leaves() {
    let cloud = steady().await;
    let site = cloud.install("shop").await;
    let own = "shop.example.com";
    let self_signed = site.add_foreign("other.example.net").await;
    let names = [own, "ended.example.net"];
    let ended = Foreign::import_for(&cloud, &names, time::Duration::days(20)).await;
    site.add_to_listener(&ended.arn).await;
    let document = superseding(&site, &[own], &[&self_signed, &ended.arn]);
    site.put_document("shop", &document).await;

    let pass = site.pass_with(later(21 * DAY)).await;

    assert_eq!(pass.outcome("shop"), "issued", "{:#}", pass.report());
    assert_eq!(pass.certificate("shop")["problem"], Value::Null);
    assert_eq!(site.listed().await.sni, [arn(&pass, "shop")].into());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_displaced_default_of_the_other_kind_of_key_moves_to_the_list() {
    let cloud = steady().await;
    let site = cloud.install("shop").await;
    let own = "shop.example.com";
    let theirs = Foreign::import_rsa(&cloud, &[own]).await;
    site.set_default(&theirs.arn).await;
    let document = as_default(&site, &[own]);
    site.put_document("shop", &document).await;

    let pass = first_pass(&site, "shop").await;

    let listed = site.listed().await;
    assert_eq!(listed.default, arn(&pass, "shop"));
    assert!(listed.sni.contains(&theirs.arn), "{:#}", pass.report());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_document_cannot_supersede_what_another_document_holds() {
    let cloud = steady().await;
    let site = cloud.install("shop").await;
    site.want("shop", &["shop.example.com"]).await;
    let shop = arn(&first_pass(&site, "shop").await, "shop");
    let document = superseding(&site, &["shop.example.com"], &[&shop]);
    site.put_document("other", &document).await;
    assert_refuses(&site, "other", &shop).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_cannot_take_over_from_another_document() {
    let cloud = steady().await;
    let site = cloud.install("shop").await;
    site.want("shop", &["shop.example.com"]).await;
    let shop = arn(&first_pass(&site, "shop").await, "shop");
    site.want("other", &["other.example.com"]).await;
    first_pass(&site, "other").await;
    // The names and the key type stay the same: no order is needed.
    let document = superseding(&site, &["other.example.com"], &[&shop]);
    site.put_document("other", &document).await;
    assert_refuses(&site, "other", &shop).await;
    assert!(site.browser_trusts("other.example.com").await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn two_documents_cannot_supersede_each_other() {
    let cloud = steady().await;
    let site = cloud.install("shop").await;
    let mut arns = Vec::new();
    for name in ["one", "two"] {
        site.want(name, &[&format!("{name}.example.com")]).await;
        arns.push(arn(&first_pass(&site, name).await, name));
    }
    for (name, theirs) in [("one", &arns[1]), ("two", &arns[0])] {
        let domain = format!("{name}.example.com");
        let document = superseding(&site, &[&domain], &[theirs]);
        site.put_document(name, &document).await;
    }
    let before = site.listed().await;
    for clock in [Duration::ZERO, 2 * MINUTE, 25 * HOUR] {
        let pass = site.pass_with(later(clock)).await;
        for (name, owner, theirs) in [("one", "two", &arns[1]), ("two", "one", &arns[0])] {
            let words = ["supersedes[0]", theirs.as_str(), owner];
            assert_problem(&pass, name, (INVALID, "never"), &words);
            let domain = format!("{name}.example.com");
            assert!(site.browser_trusts(&domain).await.is_ok());
        }
        assert_eq!(site.listed().await, before, "{:#}", pass.report());
    }
}

/// Asserts that a document which supersedes the certificate of `shop` changes nothing.
async fn assert_refuses(site: &Installation, name: &str, shop: &str) {
    let before = site.listed().await;
    for clock in [Duration::ZERO, 2 * MINUTE, 25 * HOUR] {
        let pass = site.pass_with(later(clock)).await;
        let told = format!("after {clock:?}: {:#}", pass.report());
        assert_eq!(site.listed().await, before, "{told}");
        let words = ["supersedes[0]", shop, "shop"];
        assert_problem(&pass, name, (INVALID, "never"), &words);
        assert_eq!(pass.certificate("shop")["problem"], Value::Null, "{told}");
        assert_eq!(new_orders(&pass), 0, "{told}");
        assert_eq!(pass.count(changing_a_listener), 0, "{told}");
        let seen = site.browser_trusts("shop.example.com").await;
        assert!(seen.is_ok(), "{told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_permit_allows_is_not_superseded() {
    let cloud = steady().await;
    let site = cloud.install("shop").await;
    let own = "shop.example.com";
    let theirs = Foreign::import(&cloud, &[own]).await;
    site.add_to_listener(&theirs.arn).await;
    let mut settings = site.settings();
    settings["permit"] = json!({"domains": ["*.example.com"]});
    site.put_settings(&settings).await;
    let document = superseding(&site, &[own], &[&theirs.arn]);
    site.put_document("shop", &document).await;

    for _ in 0..2 {
        let pass = site.pass().await;
        let words = ["supersedes[0]", theirs.arn.as_str()];
        assert_problem(&pass, "shop", (INVALID, "never"), &words);
        assert_eq!(new_orders(&pass), 0);
        assert!(site.listed().await.sni.contains(&theirs.arn));
    }
    // Without that document nothing forbids it.
    site.want("shop", &[own]).await;
    first_pass(&site, "shop").await;
    assert!(site.listed().await.sni.contains(&theirs.arn));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_permit_names_what_may_be_superseded() {
    let cloud = steady().await;
    let site = cloud.install("shop").await;
    let own = "shop.example.com";
    let theirs = Foreign::import(&cloud, &[own]).await;
    site.add_to_listener(&theirs.arn).await;
    let document = superseding(&site, &[own], &[&theirs.arn]);
    site.put_document("shop", &document).await;
    for refusing in [
        json!({"supersedes": []}),
        json!({"supersedes": ["arn:aws:acm:eu-*"]}),
    ] {
        let mut settings = site.settings();
        settings["permit"] = refusing;
        site.put_settings(&settings).await;
        let pass = site.pass().await;
        let words = ["supersedes[0]", theirs.arn.as_str()];
        assert_problem(&pass, "shop", (INVALID, "never"), &words);
        assert_eq!(new_orders(&pass), 0);
    }

    let mut settings = site.settings();
    let pattern = "arn:aws:acm:us-east-1:*:certificate/*";
    settings["permit"] = json!({"domains": ["*.example.com"], "supersedes": [pattern]});
    site.put_settings(&settings).await;
    let pass = first_pass(&site, "shop").await;
    assert_eq!(site.listed().await.sni, [arn(&pass, "shop")].into());
}

/// Asserts that no certificate is ordered or imported, that no listener changes, and that the loser
/// names the holder.
async fn assert_quiet(site: &Installation, (holder, loser): (&str, &str), words: &[&str]) {
    let before = site.listed().await;
    for clock in [Duration::ZERO, 2 * HOUR, 2 * HOUR] {
        let quiet = site.pass_with(later(clock)).await;
        let told = format!("after {clock:?}: {:#}", quiet.report());
        assert_person(&quiet, loser, CONTENDED, words);
        assert_eq!(quiet.certificate(holder)["problem"], Value::Null, "{told}");
        assert_eq!(quiet.outcome(holder), "kept", "{told}");
        assert_eq!(quiet.count(changing_a_listener), 0, "{told}");
        assert_eq!(quiet.count(importing), 0, "{told}");
        assert_eq!(new_orders(&quiet), 0, "{told}");
        assert_eq!(site.listed().await, before, "{told}");
    }
    // A third pass at the same instant has nothing to record either.
    let last = site.pass_with(later(2 * HOUR)).await;
    assert_eq!(last.count(changing), 0, "{:?}", evidence::writes(&last));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_that_want_one_default_the_one_that_was_there_first_holds_it() {
    let cloud = steady().await;
    let site = cloud.install("shop").await;
    let document = as_default(&site, &["zebra.example.com"]);
    site.put_document("zebra", &document).await;
    let zebra = arn(&first_pass(&site, "zebra").await, "zebra");
    let document = as_default(&site, &["apple.example.com"]);
    site.put_document("apple", &document).await;

    let pass = site.pass().await;

    let words = ["apple", "zebra", "default", site.listener.as_str()];
    assert_person(&pass, "apple", CONTENDED, &words);
    assert_eq!(new_orders(&pass), 0, "{:#}", pass.report());
    assert_eq!(pass.count(changing_a_listener), 0, "{:#}", pass.report());
    assert_eq!(site.listed().await.default, zebra);
    assert_quiet(&site, ("zebra", "apple"), &words).await;

    // The holder gives the place up.
    site.want("zebra", &["zebra.example.com"]).await;
    for clock in [3 * HOUR, 4 * HOUR] {
        site.pass_with(later(clock)).await;
    }
    let pass = site.pass_with(later(30 * HOUR)).await;
    let told = format!("{:#}", pass.report());
    assert_eq!(pass.certificate("apple")["problem"], Value::Null, "{told}");
    assert_eq!(site.listed().await.default, arn(&pass, "apple"), "{told}");
    for domain in ["apple.example.com", "zebra.example.com"] {
        assert!(
            site.browser_trusts(domain).await.is_ok(),
            "{domain}: {told}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_new_ones_that_want_one_default_the_first_by_name_is_served() {
    let cloud = steady().await;
    let site = cloud.install("shop").await;
    for name in ["zebra", "apple"] {
        let domain = format!("{name}.example.com");
        let document = as_default(&site, &[&domain]);
        site.put_document(name, &document).await;
    }

    let pass = site.pass().await;

    assert_eq!(pass.outcome("apple"), "issued", "{:#}", pass.report());
    assert_eq!(pass.certificate("apple")["problem"], Value::Null);
    assert_eq!(new_orders(&pass), 1, "{:#}", pass.report());
    assert_eq!(site.listed().await.default, arn(&pass, "apple"));
    let words = ["apple", "zebra", "default", site.listener.as_str()];
    assert_person(&pass, "zebra", CONTENDED, &words);
    assert_quiet(&site, ("apple", "zebra"), &words).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_with_a_name_and_a_key_type_in_common_the_one_that_was_there_first_holds_it() {
    let cloud = steady().await;
    let site = cloud.install("shop").await;
    site.want("zebra", &["a.example.com", "b.example.com"])
        .await;
    let zebra = first_pass(&site, "zebra").await;
    site.want("apple", &["b.example.com", "c.example.com"])
        .await;
    // A certificate with another key type is served beside it.
    let mut document = site.document(&["b.example.com"]);
    document["keyType"] = json!("rsa-2048");
    site.put_document("melon", &document).await;

    let pass = site.pass().await;

    let words = [
        "apple",
        "zebra",
        "b.example.com",
        "ecdsa",
        site.listener.as_str(),
    ];
    assert_person(&pass, "apple", CONTENDED, &words);
    assert_eq!(pass.outcome("melon"), "issued", "{:#}", pass.report());
    assert_eq!(pass.certificate("melon")["problem"], Value::Null);
    assert_eq!(new_orders(&pass), 1, "{:#}", pass.report());
    assert_quiet(&site, ("zebra", "apple"), &words).await;
    let leaf = site.browser_trusts("b.example.com").await.unwrap();
    assert_eq!(json!(leaf.serial), zebra.certificate("zebra")["serial"]);

    // On another listener there is no conflict.
    let second = cloud.install("second").await;
    let mut document = site.document(&["b.example.com", "c.example.com"]);
    document["targets"][0]["arn"] = json!(second.listener);
    site.put_document("apple", &document).await;
    let mut settings = site.settings();
    settings["proof"]["mode"] = json!("off");
    site.put_settings(&settings).await;
    let pass = site.pass_with(later(3 * HOUR)).await;
    assert_eq!(pass.outcome("apple"), "issued", "{:#}", pass.report());
    assert_eq!(pass.certificate("apple")["problem"], Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_new_ones_with_a_name_in_common_the_first_by_name_is_served() {
    let cloud = steady().await;
    let site = cloud.install("shop").await;
    for name in ["zebra", "apple"] {
        let domain = format!("{name}.example.com");
        site.want(name, &[&domain, "both.example.com"]).await;
    }

    let pass = site.pass().await;

    assert_eq!(pass.outcome("apple"), "issued", "{:#}", pass.report());
    assert_eq!(new_orders(&pass), 1, "{:#}", pass.report());
    let words = ["apple", "zebra", "both.example.com", site.listener.as_str()];
    assert_person(&pass, "zebra", CONTENDED, &words);
    assert_quiet(&site, ("apple", "zebra"), &words).await;
    let leaf = site.browser_trusts("both.example.com").await.unwrap();
    assert_eq!(json!(leaf.serial), pass.certificate("apple")["serial"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_attached_is_neither_ordered_nor_imported() {
    let cloud = steady().await;
    let site = cloud.install("shop").await;
    let mut document = site.document(&["shop.example.com"]);
    let mistyped = site.listener.replace("/app/shop/", "/app/shap/");
    document["targets"][0]["arn"] = json!(mistyped);
    site.put_document("shop", &document).await;

    let plan = json!({"action": "plan", "certificates": ["shop"]});
    let planned = site.invoke(&plan).await;
    let pass = site.pass().await;

    let gone = "certloop:listenerGone";
    assert_person(&pass, "shop", gone, &[&mistyped]);
    assert_eq!(new_orders(&pass), 0, "{:#}", pass.report());
    assert_eq!(pass.count(importing), 0, "{:#}", pass.report());
    assert_person(&planned, "shop", gone, &[&mistyped]);
    let calls = planned.certificate("shop")["calls"].to_string();
    for call in ["newOrder", "ImportCertificate", "AddListenerCertificates"] {
        assert!(!calls.contains(call), "{:#}", planned.report());
    }

    site.want("shop", &["shop.example.com"]).await;
    first_pass(&site, "shop").await;
    assert!(site.browser_trusts("shop.example.com").await.is_ok());
}

/// A look at the targets must delay no renewal. A regression test: this holds today.
#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_waits_neither_for_a_missing_listener_nor_for_a_full_one() {
    let cloud = steady().await;
    let site = cloud.install("shop").await;
    let second = cloud.install("second").await;
    let mut document = site.document(&["shop.example.com"]);
    let on = |listener: &str| json!({"type": "listener", "arn": listener});
    document["targets"] = json!([on(&site.listener), on(&second.listener)]);
    site.put_document("shop", &document).await;
    first_pass(&site, "shop").await;
    let before = site.browser_trusts("shop.example.com").await.unwrap();
    let delete = cloud.aws().elb().delete_listener();
    let delete = delete.listener_arn(&second.listener);
    delete.send().await.unwrap();
    fill(&site, 24).await;
    assert_eq!(site.listed().await.sni.len(), 25);

    let pass = site.pass_with(later(75 * DAY)).await;

    let told = format!("{:#}", pass.report());
    let seen = site.browser_trusts("shop.example.com").await.unwrap();
    assert_ne!(seen.serial, before.serial, "{told}");
    let gone = "certloop:listenerGone";
    assert_person(&pass, "shop", gone, &[&second.listener]);
}

/// Fills the listener's list with certificates of others.
async fn fill(site: &Installation, count: usize) {
    let (leaf, key) = tls::self_signed(&["filler.example.net"]);
    for _ in 0..count {
        let filler = site.import(&leaf, &key).await;
        site.add_to_listener(&filler).await;
    }
}

async fn want_twenty(site: &Installation) -> Vec<String> {
    let names: Vec<String> = (0..20).map(|number| format!("new{number:02}")).collect();
    for name in &names {
        site.want(name, &[&format!("{name}.example.com")]).await;
    }
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_documents_for_a_full_listener_cost_nothing() {
    let cloud = steady().await;
    let site = cloud.install("full").await;
    fill(&site, 25).await;
    let names = want_twenty(&site).await;

    let planned = site.invoke(&json!({"action": "plan"})).await;
    let passes = [
        site.pass().await,
        site.pass().await,
        site.pass_with(later(2 * HOUR)).await,
    ];

    let full = "certloop:listenerFull";
    for pass in &passes {
        assert_eq!(pass.count(importing), 0, "{:#}", pass.report());
        assert_eq!(new_orders(pass), 0, "{:#}", pass.report());
        for name in &names {
            assert_person(pass, name, full, &[&site.listener]);
        }
    }
    for name in &names {
        assert_person(&planned, name, full, &[&site.listener]);
        assert_ne!(planned.outcome(name), "issued");
    }
    // One place becomes free: one certificate is served.
    let filler = site.listed().await.sni.into_iter().next().unwrap();
    site.remove_from_listener(&filler).await;
    let mut settings = site.settings();
    settings["limits"]["concurrency"] = json!(1);
    site.put_settings(&settings).await;
    let pass = site.pass_with(later(5 * HOUR)).await;
    assert_eq!(pass.report()["summary"]["issued"], 1, "{:#}", pass.report());
    // One more place shows whether the quota was raised.
    assert!(pass.count(importing) <= 2, "{:#}", pass.report());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_for_want_of_room_is_believed_for_a_while() {
    let cloud = steady().await;
    let site = cloud.install("full").await;
    cloud
        .aws()
        .options(json!({"listenerCertificates": 5}))
        .await;
    let mut settings = site.settings();
    settings["limits"]["concurrency"] = json!(1);
    site.put_settings(&settings).await;
    fill(&site, 5).await;
    want_twenty(&site).await;

    let mut imports = 0;
    let mut orders = 0;
    for clock in [Duration::ZERO, 10 * MINUTE, 20 * MINUTE] {
        let pass = site.pass_with(later(clock)).await;
        imports += pass.count(importing);
        orders += new_orders(&pass);
    }

    assert!(imports <= 1, "{imports} imports");
    assert!(orders <= 1, "{orders} orders");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_raised_quota_is_a_setting() {
    let cloud = steady().await;
    let site = cloud.install("raised").await;
    cloud
        .aws()
        .options(json!({"listenerCertificates": 40}))
        .await;
    fill(&site, 25).await;
    site.want("shop", &["shop.example.com"]).await;
    let refused = site.pass().await;
    assert_person(&refused, "shop", "certloop:listenerFull", &[&site.listener]);

    let mut settings = site.settings();
    settings["limits"]["certificatesPerLoadBalancer"] = json!(40);
    site.put_settings(&settings).await;
    let pass = site.pass_with(later(2 * MINUTE)).await;

    assert_eq!(pass.outcome("shop"), "issued", "{:#}", pass.report());
    assert!(site.browser_trusts("shop.example.com").await.is_ok());
}

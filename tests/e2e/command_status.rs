//! `certloop status`, and which installation it asks, with the real command.

use serde_json::json;
use tests::{LocalCloud, Plan};

use crate::snapshots::assert_shows;

#[tokio::test(flavor = "multi_thread")]
async fn status_tells_at_a_glance_who_has_to_act() {
    let cloud = LocalCloud::start().await;
    let shop = cloud.install("shop").await;
    let operator = cloud.operator(&shop).await;

    let empty = operator.run(&["status"]).await;
    assert_eq!((empty.status, empty.err.as_str()), (0, ""), "{empty:?}");
    assert!(empty.out.contains("certloop add"), "{}", empty.out);

    shop.want("shop", &["shop.example.com", "www.shop.example.com"])
        .await;
    shop.pass().await;
    let fine = operator.in_terminal(&["status"], "").await;
    assert_eq!(fine.status, 0, "{}", fine.out);
    assert!(fine.out.contains("\u{1b}[32m"), "no colour: {:?}", fine.out);
    assert_shows("status-fine", &fine.seen());

    // One document is wrong, one name leads nowhere, and one certificate has not been looked at
    // yet.
    shop.put(
        "certificates/blog.json",
        r#"{"domains": [], "targets": []}"#,
    )
    .await;
    shop.want("api", &["api.example.com"]).await;
    cloud.dns().set_servfail("api.example.com").await;
    shop.pass().await;
    shop.want("new", &["new.example.com"]).await;
    let mixed = operator.in_terminal(&["status"], "").await;
    assert_eq!(mixed.status, 1, "{}", mixed.out);
    assert_shows("status-mixed", &mixed.seen());

    let one = operator.run(&["status", "shop"]).await;
    assert_eq!(one.status, 0, "{one:?}");
    assert!(
        !one.out.contains("blog") && !one.out.contains('\u{1b}'),
        "{}",
        one.out
    );
    let unknown = operator.run(&["status", "shopp"]).await;
    assert_eq!(
        (unknown.status, unknown.out.as_str()),
        (2, ""),
        "{unknown:?}"
    );
    let meant = "the certificate shopp is unknown; did you mean shop?";
    for command in ["status", "history", "check", "renew", "plan", "rollback"] {
        let unknown = operator.run(&[command, "shopp"]).await;
        assert_eq!(unknown.status, 2, "{unknown:?}");
        assert!(unknown.err.contains(meant), "{command}: {unknown:?}");
    }

    // A pipe is as wide as COLUMNS says.
    let mut narrow = cloud.operator(&shop).await;
    narrow.set("COLUMNS", "60");
    let piped = narrow.run(&["status"]).await;
    let is_wide = |line: &&str| line.chars().count() > 60 && line.trim().contains(' ');
    assert_eq!(piped.out.lines().find(is_wide), None, "{}", piped.out);

    let json = operator.run(&["status", "--json"]).await;
    assert_eq!(json.status, 1);
    assert_eq!(json.json()["certificates"].as_array().unwrap().len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_ours_is_shown_with_the_command_that_takes_it_over() {
    let cloud = LocalCloud::start().await;
    let shop = cloud.install("shop").await;
    let mut operator = cloud.operator(&shop).await;
    operator.set("NO_COLOR", "1");
    shop.want("shop", &["shop.example.com"]).await;
    shop.pass().await;
    let shown = operator.in_terminal(&["status", "--unmanaged", "--local"], "");
    let shown = shown.await;
    assert_eq!(shown.status, 0, "{}", shown.out);
    assert!(!shown.out.contains("\u{1b}[0m"), "colours: {:?}", shown.out);
    // No authority issues for a placeholder.
    let seen = shown.seen();
    assert!(seen.contains("placeholder.invalid"), "{seen}");
    assert!(!seen.contains("take over"), "{seen}");

    let foreign = shop.add_foreign("old.example.com").await;
    let shown = operator.run(&["status", "--unmanaged", "--local"]).await;
    let command = format!(
        "take over: certloop add old-example-com --domain old.example.com --listener {} \
         --supersedes {foreign}",
        shop.listener
    );
    assert!(shown.out.contains(&command), "{}", shown.out);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_names_what_a_local_installation_does_not_have() {
    let cloud = LocalCloud::start().await;
    let shop = cloud.install("shop").await;
    shop.want("shop", &["shop.example.com"]).await;
    shop.pass().await;
    let mut operator = cloud.operator(&shop).await;

    let fine = operator.run(&["doctor"]).await;
    assert_eq!(fine.status, 0, "{fine:?}");
    let first = "absent  local installation: a stand-in for AWS, which has no schedule, no metrics";
    assert!(fine.out.starts_with(first), "{}", fine.out);
    for bad in ["wrong", "unknown", "warning", "understood"] {
        assert!(!fine.out.contains(bad), "{bad}: {}", fine.out);
    }
    shop.unroute(1).await;
    let broken = operator.run(&["doctor"]).await;
    assert_eq!(broken.status, 1, "{broken:?}");
    assert!(broken.out.starts_with("wrong   port 80"), "{}", broken.out);

    // A bucket that is missing, a profile that is, and no right to the bucket.
    operator.set("CERTLOOP_BUCKET", "no-such-bucket");
    let edit = ["edit", "shop", "--set", "partial=true", "--yes"];
    let missing = operator.run(&edit).await;
    assert_eq!(missing.status, 1, "{missing:?}");
    let says = "there is no bucket no-such-bucket";
    assert!(missing.err.contains(says), "{}", missing.err);
    assert!(!missing.err.contains("permission"), "{}", missing.err);
    operator.set("AWS_PROFILE", "nosuch");
    let missing = operator.run(&edit).await;
    assert_eq!(missing.status, 2, "{missing:?}");
    let says = "there is no AWS profile nosuch in ";
    assert!(missing.err.contains(says), "{}", missing.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_runs_out_unrenewed_needs_a_person() {
    let cloud = LocalCloud::start().await;
    let shop = cloud.install("shop").await;
    shop.want("shop", &["shop.example.com"]).await;
    shop.pass().await;
    let operator = cloud.operator(&shop).await;
    let leaf = shop.browser_trusts("shop.example.com").await.unwrap();
    let days = (leaf.not_after - time::OffsetDateTime::now_utc()).whole_days();
    let days = u64::try_from(days).unwrap();

    operator.lambda().invoke_with(Plan::days_later(days - 2));
    let late = operator.run(&["status"]).await;
    assert_eq!(late.status, 1, "{late:?}");
    assert!(late.out.contains("overdue"), "{}", late.out);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_looks_goes_through_the_alias_where_there_is_one() {
    let cloud = LocalCloud::start().await;
    let shop = cloud.install("shop").await;
    let operator = cloud.operator(&shop).await;
    let qualifiers = || {
        let asked = operator.lambda().asked().into_iter();
        asked
            .map(|asked| asked.qualifier.unwrap_or_default())
            .collect::<Vec<_>>()
    };
    operator.run(&["status"]).await;
    assert_eq!(qualifiers(), ["view"]);
    operator.lambda().without_alias(&shop.renew);
    let without = operator.run(&["status"]).await;
    assert_eq!(without.status, 0, "{without:?}");
    assert_eq!(qualifiers(), ["view", "view", ""]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_through_the_alias_ends_the_command_as_an_error_does() {
    let cloud = LocalCloud::start().await;
    let shop = cloud.install("shop").await;
    let operator = cloud.operator(&shop).await;
    let past = ["plan", "--at", "2020-01-01T00:00:00Z"];
    let viewed = operator.run(&past).await;
    operator.lambda().without_alias(&shop.renew);
    let called = operator.run(&past).await;
    assert_eq!(viewed.status, 2, "{viewed:?}");
    assert!(viewed.err.contains("at: 2020-01-01"), "{viewed:?}");
    assert_eq!(viewed.err.lines().count(), 1, "{viewed:?}");
    assert_eq!(
        (viewed.status, &viewed.out, &viewed.err),
        (called.status, &called.out, &called.err)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_could_not_be_told_is_said_with_what_to_try() {
    let cloud = LocalCloud::start().await;
    let shop = cloud.install("shop").await;
    let mut operator = cloud.operator(&shop).await;

    operator.set("CERTLOOP_FUNCTION", "no-such-function");
    let missing = operator.run(&["status"]).await;
    assert_eq!(
        (missing.status, missing.out.as_str()),
        (1, ""),
        "{missing:?}"
    );
    assert!(
        missing.err.contains("no-such-function") && missing.err.contains("--function"),
        "{}",
        missing.err
    );

    operator.set("CERTLOOP_FUNCTION", "");
    let unnamed = operator.run(&["status"]).await;
    assert_eq!(unnamed.status, 2);
    assert!(unnamed.err.contains("CERTLOOP_FUNCTION"), "{}", unnamed.err);

    // The nearest certloop.toml names it, unless it may be another installation than the named one.
    // A flag has precedence.
    operator.write("certloop.toml", &format!("function = \"{}\"\n", shop.renew));
    let half = operator.run(&["status"]).await;
    assert_eq!(half.status, 2, "{half:?}");
    assert!(half.err.contains("another installation"), "{}", half.err);
    operator.set("CERTLOOP_BUCKET", "");
    assert_eq!(operator.run(&["status"]).await.status, 0);
    assert_eq!(
        operator
            .run(&["status", "--function", "other"])
            .await
            .status,
        1
    );
    operator.write("certloop.toml", "funktion = \"x\"\n");
    let typo = operator.run(&["status"]).await;
    assert_eq!(typo.status, 2);
    assert!(typo.err.contains("funktion"), "{}", typo.err);

    // So do the outputs of a Terraform stack.
    std::fs::remove_file(operator.directory().join("certloop.toml")).unwrap();
    std::fs::create_dir(operator.directory().join(".terraform")).unwrap();
    let outputs =
        json!({"bucket": {"value": shop.bucket}, "renew_function": {"value": shop.renew}});
    let terraform = operator.write(
        "terraform",
        &format!("#!/bin/sh\ncat <<'END'\n{outputs}\nEND\n"),
    );
    std::fs::set_permissions(
        &terraform,
        std::os::unix::fs::PermissionsExt::from_mode(0o755),
    )
    .unwrap();
    let path = std::env::var("PATH").unwrap();
    operator.set(
        "PATH",
        &format!("{}:{path}", operator.directory().display()),
    );
    let found = operator.run(&["status"]).await;
    assert_eq!(found.status, 0, "{found:?}");

    // The function exists and cannot run.
    shop.delete("settings.json").await;
    let cannot = operator.run(&["status"]).await;
    assert_eq!(cannot.status, 1);
    assert!(
        cannot.err.contains("settings.json") && cannot.err.contains("certloop doctor"),
        "{}",
        cannot.err
    );
}

/// Measures: `cargo test --release --workspace --test e2e -- --ignored --nocapture
/// status_of_five_thousand`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
#[allow(clippy::print_stdout)]
async fn status_of_five_thousand() {
    let cloud = LocalCloud::start().await;
    let shop = cloud.install("shop").await;
    shop.want("c0000", &["shop.example.com"]).await;
    shop.pass().await;
    let document = shop.read("certificates/c0000.json").await.unwrap();
    let state = shop.read("state/c0000.json").await.unwrap();
    for n in 1..5_000 {
        let (wanted, record) = (
            format!("certificates/c{n:04}.json"),
            format!("state/c{n:04}.json"),
        );
        tokio::join!(
            shop.put(&wanted, document.clone()),
            shop.put(&record, state.clone())
        );
    }
    let operator = cloud.operator(&shop).await;
    operator.run(&["status", "c0000"]).await;
    for arguments in [&["status"][..], &["status", "--all"], &["status", "--json"]] {
        let (asked, sent) = (operator.lambda().asked().len(), cloud.to_aws().sent().len());
        let begun = std::time::Instant::now();
        let ran = operator.run(arguments).await;
        println!(
            "{arguments:?}: {:.1} s, {} invocations, {} calls of the function to AWS, {} lines, \
             ends {}",
            begun.elapsed().as_secs_f64(),
            operator.lambda().asked().len() - asked,
            cloud.to_aws().sent().len() - sent,
            ran.out.lines().count(),
            ran.status
        );
    }
}

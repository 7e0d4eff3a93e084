//! The messages to people and programs, on every channel: one for each state, even if much happens
//! in between.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tests::http::{self, Request};
use tests::{Fault, Installation, LocalCloud, Receiver, Response, Sent};
use tokio::net::TcpStream;

use crate::authority_refusals::put_secret;
use crate::evidence::{DAY, NEW_ORDER, later};
use crate::helpers::{arn, delete_certificate, two_minutes_later, with};
use crate::interruption::{AFTERWARDS, survives};

/// Makes a topic, by hand.
async fn topic(cloud: &LocalCloud, name: &str) -> String {
    let address = cloud.aws().address();
    let mut request = Request::get(&address.to_string(), "/");
    request.method = "POST".into();
    let authorization = "AWS4-HMAC-SHA256 \
        Credential=local/20260101/us-east-1/sns/aws4_request, SignedHeaders=host, Signature=0";
    for (name, value) in [
        ("authorization", authorization),
        ("content-type", "application/x-www-form-urlencoded"),
    ] {
        request.headers.push((name.to_owned(), value.to_owned()));
    }
    request.body = format!("Action=CreateTopic&Version=2010-03-31&Name={name}").into_bytes();
    let stream = TcpStream::connect(address).await.unwrap();
    let response = http::exchange(stream, request).await.unwrap();
    assert_eq!(response.status, 200, "{}", response.text());
    format!("arn:aws:sns:us-east-1:123456789012:{name}")
}

/// Lets an installation notify a receiver, in one form or in all of them. The path names the form.
async fn tell(
    cloud: &LocalCloud,
    site: &Installation,
    receiver: &Receiver,
    formats: &[&str],
) -> Value {
    let mut webhooks = Vec::new();
    for format in formats {
        let url = receiver.url(&format!("/{format}/hidden-part"));
        let secret = put_secret(cloud, &format!("{}-{format}", site.bucket), &url).await;
        webhooks.push(json!({"secretArn": secret, "format": format}));
    }
    let settings = with(site.settings(), "notify", "webhooks", webhooks);
    site.put_settings(&settings).await;
    settings
}

const JSON: &str = "/json/hidden-part";

fn kinds(receiver: &Receiver) -> Vec<String> {
    let posts = receiver.taken(JSON);
    let kinds = posts.iter().map(|post| post.body["kind"].as_str().unwrap());
    kinds.map(str::to_owned).collect()
}

fn published(cloud: &LocalCloud) -> Vec<Value> {
    let sent = cloud.to_aws().sent();
    let taken = |sent: &&Sent| sent.is("Publish") && sent.status == Some(200);
    let published = sent.iter().filter(taken);
    published.map(|sent| sent.payload.clone()).collect()
}

fn message_of(published: &Value) -> Value {
    let by_protocol = published["Message"].as_str().unwrap();
    let by_protocol: Value = serde_json::from_str(by_protocol).unwrap();
    serde_json::from_str(by_protocol["default"].as_str().unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_problem_is_told_before_a_removal_is_forgotten() {
    let cloud = LocalCloud::start().await;
    let site = cloud.install("told").await;
    let receiver = Receiver::start().await;
    tell(&cloud, &site, &receiver, &["json"]).await;
    let mut document = site.document(&["shop.example.com"]);
    document["targets"][0]["as"] = json!("default");
    site.put_document("shop", &document).await;
    let pass = site.pass().await;
    let ours = arn(&pass, "shop");
    site.invoke(&json!({"action": "remove", "name": "shop"}))
        .await;
    site.pass_with(later(10 * DAY)).await;
    assert_eq!(
        kinds(&receiver).last().map(String::as_str),
        Some("problemStarted")
    );

    // A person takes everything away by hand, so one pass finds the removal done and old enough.
    site.set_default(&site.placeholder).await;
    delete_certificate(&cloud, &ours).await;
    for clock in [11 * DAY, 12 * DAY, 13 * DAY] {
        site.pass_with(later(clock)).await;
    }

    assert_eq!(
        kinds(&receiver).last().map(String::as_str),
        Some("problemEnded")
    );
    assert!(site.keys("state/").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn every_channel_is_told_once_of_the_first_certificate() {
    let cloud = LocalCloud::start().await;
    let site = cloud.install("told").await;
    let receiver = Receiver::start().await;
    let formats = ["slack", "teams", "mattermost", "json"];
    let mut settings = tell(&cloud, &site, &receiver, &formats).await;
    settings["notify"]["topicArn"] = topic(&cloud, "told").await.into();
    settings["notify"]["eventBus"] = "default".into();
    site.put_settings(&settings).await;
    site.want("shop", &["told.example.com"]).await;

    let pass = site.pass().await;
    assert_eq!(pass.outcome("shop"), "issued", "{:#}", pass.report());
    assert_eq!(pass.report()["messages"], json!({"sent": 6, "failed": []}));

    let message = receiver.taken(JSON).remove(0).body;
    assert_eq!(message["kind"], "issued");
    assert_eq!(message["installation"], site.bucket.as_str());
    assert_eq!(message["certificate"]["name"], "shop");
    assert_eq!(
        message["certificate"]["domains"],
        json!(["told.example.com"])
    );
    assert_eq!(
        message["certificate"]["serial"],
        pass.certificate("shop")["serial"]
    );
    let id = message["id"].as_str().unwrap();
    for format in formats {
        let posts = receiver.taken(&format!("/{format}/hidden-part"));
        assert_eq!(posts.len(), 1, "{format}: {posts:?}");
        assert_eq!(posts[0].id, id, "{format}");
    }
    let slack = receiver.taken("/slack/hidden-part").remove(0).body;
    assert!(
        slack["text"]
            .as_str()
            .unwrap()
            .contains("*certloop: shop issued*"),
        "{slack}"
    );
    let teams = receiver.taken("/teams/hidden-part").remove(0).body;
    let card = &teams["attachments"][0]["content"];
    assert_eq!(card["type"], "AdaptiveCard", "{teams}");

    let topics = published(&cloud);
    assert_eq!(topics.len(), 1, "{topics:?}");
    assert_eq!(topics[0]["Subject"], "certloop: shop issued");
    assert_eq!(message_of(&topics[0]), message);
    let sent = cloud.to_aws().sent();
    let events: Vec<&Sent> = sent.iter().filter(|sent| sent.is("PutEvents")).collect();
    assert_eq!(events.len(), 1);
    let event = &events[0].payload["Entries"][0];
    assert_eq!(
        (&event["Source"], &event["DetailType"]),
        (&json!("certloop"), &json!("Certificate Issued"))
    );
    let detail: Value = serde_json::from_str(event["Detail"].as_str().unwrap()).unwrap();
    assert_eq!(detail, message);

    let next = site.pass().await;
    assert_eq!(next.outcome("shop"), "kept");
    assert!(next.report()["messages"].is_null(), "{:#}", next.report());
    assert_eq!(receiver.posts().len(), formats.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_problem_is_told_when_it_starts_when_it_needs_a_person_and_when_it_ends() {
    let cloud = LocalCloud::start().await;
    let site = cloud.install("ends").await;
    let receiver = Receiver::start().await;
    tell(&cloud, &site, &receiver, &["json"]).await;
    let mut document = site.document(&["ends.example.com"]);
    document["keyTyp"] = "rsa-2048".into();
    site.put_document("shop", &document).await;

    site.pass().await;
    site.pass().await;
    assert_eq!(kinds(&receiver), ["problemStarted"]);
    let message = receiver.taken(JSON).remove(0).body;
    assert_eq!(message["problem"]["type"], "certloop:invalidDocument");
    assert_eq!(message["command"], "certloop edit shop");
    let text = message["text"].as_str().unwrap();
    assert!(
        text.contains("keyTyp") && text.ends_with("Try: certloop edit shop"),
        "{text}"
    );

    // The name is repaired, but now the authority is down; then it is up again.
    let stumbles = Fault::on(NEW_ORDER).always();
    cloud
        .to_acme()
        .inject(stumbles.answer(Response::new(500, "")));
    site.want("shop", &["ends.example.com"]).await;
    let pass = site.pass().await;
    assert_eq!(pass.outcome("shop"), "failed", "{:#}", pass.report());
    cloud.to_acme().heal();
    assert_eq!(kinds(&receiver), ["problemStarted", "problemChanged"]);
    let pass = site.pass_with(two_minutes_later()).await;
    assert_eq!(pass.outcome("shop"), "issued", "{:#}", pass.report());
    assert_eq!(
        kinds(&receiver),
        ["problemStarted", "problemChanged", "issued", "problemEnded"]
    );
    let ended = receiver.taken(JSON).pop().unwrap().body;
    assert!(
        ended["problem"].is_null() && ended["before"]["type"].is_string(),
        "{ended}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn three_overlapping_passes_send_one_message() {
    let cloud = LocalCloud::start().await;
    for round in 0..3 {
        let site = cloud.install(&format!("overlap-{round}")).await;
        let receiver = Receiver::start().await;
        tell(&cloud, &site, &receiver, &["json"]).await;
        let mut document = site.document(&["overlap.example.com"]);
        document["nonsense"] = 1.into();
        site.put_document("shop", &document).await;
        tokio::join!(site.pass(), site.pass(), site.pass());
        site.pass().await;
        assert_eq!(kinds(&receiver), ["problemStarted"], "round {round}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_repeated_after_a_death_has_the_same_id() {
    let cloud = LocalCloud::start().await;
    let told = topic(&cloud, "deaths").await;
    let repeated = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    survives(
        9,
        (cloud, told, repeated.clone()),
        |shared, death| async move {
            let (cloud, told, repeated) = &*shared;
            let name = death.label("death");
            let site = cloud.install(&name).await;
            let settings = with(site.settings(), "notify", "topicArn", told.as_str());
            site.put_settings(&settings).await;
            site.put_document(&name, &json!({"domains": [], "targets": []}))
                .await;
            let killed = death.of_a_pass(&site).await;
            site.pass_with(later(AFTERWARDS)).await;
            site.pass_with(later(AFTERWARDS)).await;
            let messages: Vec<Value> = published(cloud).iter().map(message_of).collect();
            let ours = messages
                .iter()
                .filter(|message| message["installation"] == site.bucket.as_str());
            let ids: Vec<String> = ours.map(|message| message["id"].to_string()).collect();
            let different: BTreeSet<&String> = ids.iter().collect();
            assert_eq!(different.len(), 1, "{name}: {ids:?}");
            assert!(ids.len() <= 2, "{name}: {ids:?}");
            repeated.fetch_add(ids.len() - 1, std::sync::atomic::Ordering::Relaxed);
            killed.died
        },
    )
    .await;
    let repeated = repeated.load(std::sync::atomic::Ordering::Relaxed);
    assert!((1..=4).contains(&repeated), "{repeated} repetitions");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_that_fails_is_reported_and_told_later_in_order() {
    let cloud = LocalCloud::start().await;
    let site = cloud.install("fails").await;
    let (receiver, other) = (Receiver::start().await, Receiver::start().await);
    let mut settings = tell(&cloud, &site, &receiver, &["json"]).await;
    let secret = put_secret(&cloud, "fails-other", &other.url("/json/hidden-part")).await;
    let webhooks = settings["notify"]["webhooks"].as_array_mut().unwrap();
    webhooks.push(json!({"secretArn": secret, "format": "json"}));
    site.put_settings(&settings).await;
    receiver.answer(500);
    site.put_document("shop", &json!({"domains": [], "targets": []}))
        .await;

    let pass = site.pass().await;
    assert_eq!(pass.report()["messages"]["sent"], 1);
    let failed = &pass.report()["messages"]["failed"];
    let (channel, detail) = (failed[0]["channel"].as_str(), failed[0]["detail"].as_str());
    assert!(
        channel
            .unwrap()
            .starts_with("the json webhook of arn:aws:secretsmanager:"),
        "{failed}"
    );
    assert_eq!(detail, Some("it answered 500"));
    let everything = format!("{} {:?}", pass.report(), pass.log);
    assert!(!everything.contains("hidden-part"), "{everything}");
    assert_eq!(pass.metrics()[0]["MessagesFailed"], 1);
    assert_eq!(kinds(&other), ["problemStarted"]);

    site.want("shop", &["fails.example.com"]).await;
    let pass = site.pass().await;
    assert_eq!(
        pass.outcome("shop"),
        "issued",
        "a channel delays no certificate"
    );
    let status = site.invoke(&json!({"action": "status"})).await;
    let untold = &status.report()["certificates"][0]["untold"];
    assert_eq!(untold.as_array().unwrap().len(), 3, "{untold}");
    assert_eq!(untold[0]["failure"], "it answered 500");

    receiver.answer(200);
    site.pass_with(later(Duration::from_secs(2 * 60 * 60)))
        .await;
    site.pass_with(later(Duration::from_secs(4 * 60 * 60)))
        .await;
    assert_eq!(
        kinds(&receiver),
        ["problemStarted", "issued", "problemEnded"]
    );
    assert_eq!(kinds(&other), ["problemStarted", "issued", "problemEnded"]);
    let status = site.invoke(&json!({"action": "status"})).await;
    assert!(status.report()["certificates"][0]["untold"].is_null());
}

#[tokio::test(flavor = "multi_thread")]
async fn little_left_with_nothing_done_is_told_once() {
    let cloud = LocalCloud::start().await;
    let site = cloud.install("little").await;
    let receiver = Receiver::start().await;
    let settings = tell(&cloud, &site, &receiver, &["json"]).await;
    site.put_settings(&with(settings, "notify", "renewals", true))
        .await;
    site.want("shop", &["little.example.com"]).await;
    let first = site.pass().await;
    let left = |share: f64| {
        let of = |field| crate::evidence::instant(&first.certificate("shop")[field]);
        let (from, to) = (of("notBefore"), of("notAfter"));
        (to - from).unsigned_abs().mul_f64(1.0 - share)
    };
    let paused = with_paused(site.document(&["little.example.com"]), true);
    site.put_document("shop", &paused).await;
    for (share, told) in [(0.27, 1), (0.24, 2), (0.2, 2), (0.1, 2)] {
        site.pass_with(later(left(share))).await;
        assert_eq!(
            kinds(&receiver).len(),
            told,
            "{share} left: {:?}",
            kinds(&receiver)
        );
    }
    assert_eq!(kinds(&receiver), ["issued", "runningOut"]);
    let resumed = with_paused(site.document(&["little.example.com"]), false);
    site.put_document("shop", &resumed).await;
    let pass = site.pass_with(later(left(0.09))).await;
    assert_eq!(pass.outcome("shop"), "renewed", "{:#}", pass.report());
    // The authority's clock is not ahead, so this one has as little lifetime left.
    let told = kinds(&receiver);
    assert_eq!(told, ["issued", "runningOut", "renewed", "runningOut"]);
}

fn with_paused(mut document: Value, paused: bool) -> Value {
    document["paused"] = paused.into();
    document
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_told_of_a_plan() {
    let cloud = LocalCloud::start().await;
    let site = cloud.install("plan").await;
    let receiver = Receiver::start().await;
    tell(&cloud, &site, &receiver, &["json"]).await;
    site.put_document("shop", &json!({"domains": [], "targets": []}))
        .await;
    site.invoke(&json!({"action": "plan"})).await;
    site.invoke(&json!({"action": "status"})).await;
    assert_eq!(kinds(&receiver), [] as [&str; 0]);
    assert!(site.read("state/shop.json").await.is_none());
}

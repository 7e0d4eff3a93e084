//! The second act: an operator adds a certificate, a person breaks the listener, a chat is
//! notified, and a pass repairs the listener.

use std::time::Duration;

use serde_json::json;
use tests::{Installation, LocalCloud, Operator, Plan, Receiver};

use crate::{browse, heading, tell};

const NAME: &str = "orders.example.com";

/// The parts that must live as long as the demo.
pub(crate) struct Cast {
    pub(crate) operator: Operator,
    _chat: Receiver,
}

/// Plays it. Returns whether everything went as expected.
pub(crate) async fn play(cloud: &LocalCloud, site: &Installation) -> (bool, Cast) {
    let chat = Receiver::start().await;
    let operator = cloud.operator(site).await;
    heading(
        "The operator wants to be notified: settings.json names a chat, whose address is a secret",
    );
    let secret = json!({
        "Name": "chat", "SecretString": chat.url("/hook"), "ClientRequestToken": "0".repeat(32),
    });
    let secret = cloud
        .aws()
        .json("secretsmanager", "secretsmanager.CreateSecret", &secret);
    let mut settings = site.settings();
    settings["notify"] =
        json!({"webhooks": [{"secretArn": secret.await["ARN"], "format": "mattermost"}]});
    site.put_settings(&settings).await;
    println!("   \"notify\": {{\"webhooks\": [{{\"secretArn\": …, \"format\": \"mattermost\"}}]}}");

    heading("The operator adds a certificate and waits for it");
    site.point(NAME).await;
    let listener = site.listener.as_str();
    let add = [
        "add",
        "orders",
        "--domain",
        NAME,
        "--listener",
        listener,
        "--wait",
        "--yes",
    ];
    let mut good = run(&operator, &add, 0).await;
    browse(site, NAME).await;
    let mut heard = 0;
    listen(&chat, &mut heard);

    heading("Somebody takes it off the listener and fills the list with 25 others");
    let state = site.read_json("state/orders.json").await;
    if let Some(ours) = state["targets"][0]["certificateArn"].as_str() {
        site.remove_from_listener(ours).await;
    }
    let mut others = Vec::new();
    while site.listed().await.sni.len() < 25 {
        let name = format!("other-{}.example.net", others.len());
        others.push(site.add_foreign(&name).await);
    }
    browse(site, NAME).await;

    heading("The schedule fires: no place is left, which only a person can change");
    tell(cloud, site, Plan::default()).await;
    listen(&chat, &mut heard);
    good &= run(&operator, &["status"], 1).await;

    heading("The operator makes room; a minute later the schedule repairs it");
    for other in &others {
        site.remove_from_listener(other).await;
    }
    let later = Plan {
        clock: Duration::from_secs(90),
        ..Plan::default()
    };
    good &= tell(cloud, site, later).await;
    browse(site, NAME).await;
    listen(&chat, &mut heard);
    good &= run(&operator, &["status"], 0).await;
    let cast = Cast {
        operator,
        _chat: chat,
    };
    (good && heard >= 3, cast)
}

/// Shows a command and its output. Returns whether it ended with this status.
async fn run(operator: &Operator, arguments: &[&str], expected: i32) -> bool {
    println!("   $ certloop {}", arguments.join(" "));
    let ran = operator.in_terminal(arguments, "").await;
    for line in ran.seen().lines() {
        println!("   | {line}");
    }
    println!("   (exit status {})", ran.status);
    ran.status == expected
}

/// Shows new messages in the chat.
fn listen(chat: &Receiver, heard: &mut usize) {
    for post in chat.posts().iter().skip(*heard) {
        *heard += 1;
        let text = post.body["text"].as_str().unwrap_or_default();
        for line in text.lines() {
            println!("   chat: {line}");
        }
    }
}

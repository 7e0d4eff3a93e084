//! `make demo`: the cycle as a story in the terminal. `make invoke`: sends one event to a demo that
//! still runs.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program for the terminal that has nothing to save when it fails"
)]

mod operator;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::http::{self, Request, Response};
use tests::{Installation, Invocation, LocalCloud, Operator, Plan, tool};
use tokio::net::{TcpListener, TcpStream};

const NAME: &str = "landing.example.com";

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = std::env::args().skip(1).collect::<Vec<_>>();
    match arguments.as_slice() {
        [] => story().await,
        [verb, event] if verb == "invoke" => invoke(event).await,
        _ => {
            eprintln!("usage: demo [invoke <event file>]");
            ExitCode::FAILURE
        }
    }
}

async fn story() -> ExitCode {
    let begun = Instant::now();
    let cloud = LocalCloud::start().await;
    let site = cloud.install("demo").await;
    println!(
        "A load balancer, a bucket, two functions and a certificate authority, all on this machine."
    );
    println!("({:.1} s to start)", begun.elapsed().as_secs_f64());
    let begun = Instant::now();

    heading("The listener holds a self-signed placeholder");
    browse(&site, NAME).await;

    heading("Somebody puts certificates/landing.json into the bucket");
    let mut document = site.document(&[NAME, "www.landing.example.com"]);
    site.put_document("landing", &document).await;
    println!(
        "   {{\"domains\": {}, \"targets\": [the HTTPS listener]}}",
        document["domains"]
    );

    heading("The schedule fires");
    let ok = tell(&cloud, &site, Plan::default()).await;
    browse(&site, NAME).await;

    heading("The schedule fires again");
    let ok = tell(&cloud, &site, Plan::default()).await && ok;

    heading("Somebody changes the key type: ACM wants a new ARN for that");
    document["keyType"] = "rsa-2048".into();
    site.put_document("landing", &document).await;
    let ok = tell(&cloud, &site, Plan::default()).await && ok;
    browse(&site, NAME).await;

    heading("The next pass cleans up");
    let ok = tell(&cloud, &site, Plan::default()).await && ok;
    println!(
        "   certificates in ACM: {} (ours and the placeholder)",
        site.imported().await.len()
    );

    let (played, cast) = operator::play(&cloud, &site).await;
    let ok = ok && played;

    println!("\nDone in {:.1} s.", begun.elapsed().as_secs_f64());
    if std::env::var("KEEP").is_ok_and(|keep| !keep.is_empty() && keep != "0") {
        keep(cloud, site, &cast.operator).await;
    }
    if ok {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn heading(text: &str) {
    println!("\n-- {text}");
}

/// A browser's view of the site.
async fn browse(site: &Installation, name: &str) {
    match site.browser_trusts(name).await {
        Ok(leaf) => {
            println!("   browser: trusts https://{name}/");
            println!("            names      {}", leaf.names.join(", "));
            println!("            issuer     {}", leaf.issuer);
            println!("            key        {}", leaf.key);
            println!("            not after  {}", leaf.until());
        }
        Err(reason) => println!("   browser: refuses https://{name}/ ({reason})"),
    }
}

/// Runs a pass and prints what happens while it happens.
async fn tell(cloud: &LocalCloud, site: &Installation, plan: Plan) -> bool {
    let begun = Instant::now();
    let mut seen = Seen {
        printed: cloud.lambda().printed(&site.renew).len(),
        visits: site.ports().visits().len(),
        sent: cloud.to_aws().sent().len(),
        asked: Vec::new(),
    };
    let mut pass = pin!(site.pass_with(plan));
    let invocation = loop {
        tokio::select! {
            invocation = &mut pass => break invocation,
            () = tokio::time::sleep(Duration::from_millis(10)) => seen.tell(cloud, site, begun),
        }
    };
    seen.tell(cloud, site, begun);
    conclude(&invocation, begun)
}

struct Seen {
    printed: usize,
    visits: usize,
    sent: usize,
    asked: Vec<String>,
}

impl Seen {
    fn tell(&mut self, cloud: &LocalCloud, site: &Installation, begun: Instant) {
        let at = |instant: Instant| instant.saturating_duration_since(begun).as_secs_f64();
        for visit in site.ports().visits().iter().skip(self.visits) {
            self.visits += 1;
            let asked = visit.port == 80 && visit.path.starts_with("/.well-known/acme-challenge/");
            let host = visit.host.split(':').next().unwrap_or_default().to_owned();
            if !asked {
                continue;
            }
            if !visit.agent.contains("Pebble") {
                said(at(visit.at), "own fetch", &host);
            } else if !self.asked.contains(&host) {
                // It asks from several places at once, as real ones do.
                said(at(visit.at), "authority asks", &host);
                self.asked.push(host);
            }
        }
        for sent in cloud.to_aws().sent().iter().skip(self.sent) {
            self.sent += 1;
            let listener = [
                "AddListenerCertificates",
                "ModifyListener",
                "RemoveListenerCertificates",
            ];
            if listener.iter().any(|call| sent.is(call)) {
                said(at(sent.at), "listener", &sent.call);
            }
        }
        for line in cloud
            .lambda()
            .printed(&site.renew)
            .iter()
            .skip(self.printed)
        {
            self.printed += 1;
            let line = serde_json::from_str::<Value>(line).unwrap_or_default();
            if let (Some(step), Some(detail)) = (line["step"].as_str(), line["detail"].as_str()) {
                said(at(Instant::now()), step, detail);
            }
        }
    }
}

fn conclude(invocation: &Invocation, begun: Instant) -> bool {
    let report = match &invocation.result {
        Ok(report) => report,
        Err(error) => {
            println!("   the function failed: {error}");
            return false;
        }
    };
    let mut good = true;
    for one in report["certificates"].as_array().into_iter().flatten() {
        let text = |field: &str| one[field].as_str().unwrap_or_default().to_owned();
        println!(
            "   {:5.2} s  {:<18} {}: {}",
            begun.elapsed().as_secs_f64(),
            "report",
            text("name"),
            [text("outcome"), text("reason")].join(", "),
        );
        if let Some(detail) = one["problem"]["detail"].as_str() {
            println!("            {detail}");
        }
        good &= text("outcome") != "failed";
    }
    let acme = invocation.count(|sent| sent.is_acme("/"));
    println!(
        "            {} calls to AWS, {acme} to the authority",
        invocation.requests.len() - acme
    );
    good
}

fn said(at: f64, what: &str, detail: &str) {
    println!("   {at:5.2} s  {what:<18} {}", short(detail));
}

/// Shortens an ARN to its distinguishing part, and a long line to its beginning.
fn short(text: &str) -> String {
    let words = text
        .split(' ')
        .map(|word| match word.strip_prefix("arn:aws:") {
            Some(rest) => rest.splitn(4, ':').last().unwrap_or(word),
            None => word,
        });
    let text = words.collect::<Vec<_>>().join(" ");
    if text.chars().count() <= 90 {
        return text;
    }
    text.chars().take(89).chain(['…']).collect()
}

fn address_file() -> PathBuf {
    tool("demo.json")
}

/// Answers `make invoke` until the terminal ends it.
async fn keep(cloud: LocalCloud, site: Installation, operator: &Operator) {
    let root = tool("demo-root.pem");
    std::fs::write(&root, cloud.pebble().root().await).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let control = listener.local_addr().unwrap();
    let addresses = json!({"control": control, "bucket": site.bucket, "listener": site.listener});
    std::fs::write(address_file(), addresses.to_string()).unwrap();

    let (http, https) = (site.ports().http(), site.ports().https());
    println!("\nStill running. In another terminal:");
    println!("   make invoke EVENT=events/status.json");
    println!("   make invoke EVENT=events/issue.json");
    println!(
        "   curl --cacert {} --connect-to ::{https} https://{NAME}/",
        root.display()
    );
    println!("   curl -i -H 'Host: {NAME}' http://{http}/.well-known/acme-challenge/some-token");
    println!(
        "   aws --endpoint-url http://{} s3 ls s3://{}/ --recursive",
        cloud.aws().address(),
        site.bucket
    );
    println!(
        "   (any credentials will do; a listener for documents is {})",
        site.listener
    );
    println!("   and, for certloop in that terminal:");
    for (name, value) in operator.environment() {
        println!("   export {name}={value}");
    }
    println!("   {} status", tests::binary("certloop").display());
    println!("Ctrl-C ends it.");

    let site = Arc::new(site);
    let lambda = cloud.lambda().clone();
    let _serving = http::listen(listener, move |stream, _| {
        let (site, lambda) = (site.clone(), lambda.clone());
        async move {
            let _ = http::serve(stream, |request| {
                let (site, lambda) = (site.clone(), lambda.clone());
                async move {
                    let event = serde_json::from_slice::<Value>(&request.body).unwrap_or_default();
                    // An event from a load balancer, a function URL or a gateway is for the
                    // challenge function.
                    let asked = event.get("requestContext").is_some();
                    let function = if asked { &site.challenge } else { &site.renew };
                    let invocation = lambda.invoke(function, &event).await;
                    Some(match invocation.result {
                        Ok(report) => Response::new(200, format!("{report:#}")),
                        Err(error) => Response::new(500, error.to_string()),
                    })
                }
            })
            .await;
        }
    });
    // The usual way to end it: the terminal's interrupt ends the process, and the children notice.
    std::future::pending::<()>().await;
}

async fn invoke(event: &str) -> ExitCode {
    let Ok(event) = std::fs::read(event) else {
        eprintln!("cannot read {event}");
        return ExitCode::FAILURE;
    };
    let addresses = std::fs::read(address_file()).ok();
    let addresses = addresses.and_then(|text| serde_json::from_slice::<Value>(&text).ok());
    let control = addresses.as_ref().and_then(|all| all["control"].as_str());
    let control = control.and_then(|text| text.parse::<SocketAddr>().ok());
    let stream = match control {
        Some(control) => TcpStream::connect(control).await.ok(),
        None => None,
    };
    let Some(stream) = stream else {
        eprintln!("no demo is running: start one with `make demo KEEP=1`");
        return ExitCode::FAILURE;
    };
    let mut request = Request::get("demo", "/");
    request.method = "POST".into();
    request.body = event;
    let response = http::exchange(stream, request).await.unwrap();
    println!("{}", response.text());
    if response.status == 200 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

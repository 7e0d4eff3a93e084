//! Challenges answered over the function URL, where no load balancer can reach the function: an
//! nginx in front proxies or redirects. The nginx configurations are those of infra/README.md.

use std::net::SocketAddr;

use serde_json::{Value, json};
use tests::http::{self, Request, Serving};
use tests::{Function, FunctionUrl, Installation, LocalCloud, Nginx};
use tokio::net::{TcpListener, TcpStream};

use crate::evidence::{MINUTE, later};
use crate::helpers::with;

const TOKEN: &str = "/.well-known/acme-challenge/token-1";

/// Many sites also have these lines: a snippet has to work among them.
const USUAL: &str = "proxy_set_header Host $host;\n";
const DOTFILES: &str = "location ~ /\\. { return 403; }\nlocation / {";

/// Returns a configuration from infra/README.md, with this function URL in place of the example's.
fn snippet(name: &str, url: &FunctionUrl) -> String {
    let readme = tests::root().join("infra/README.md");
    let readme = std::fs::read_to_string(readme).unwrap();
    let marker = format!("<!-- tests/e2e/function_url.rs: {name} -->\n```nginx\n");
    let (_, rest) = readme
        .split_once(&marker)
        .unwrap_or_else(|| panic!("no {marker:?} in infra/README.md"));
    let (snippet, _) = rest.split_once("```").unwrap();
    let example = "abcdefghijklmnopqrstuvwxyz012345.lambda-url.eu-west-1.on.aws";
    assert!(snippet.contains(example), "{snippet}");
    let snippet = snippet.replace(example, url.host());
    let snippet = snippet.replacen("location / {", DOTFILES, 1);
    let snippet = match url.address().port() {
        443 => snippet,
        port => [url.host(), "$challenge"]
            .iter()
            .fold(snippet, |snippet, host| {
                let host = format!("https://{host}");
                snippet.replace(&host, &format!("{host}:{port}"))
            }),
    };
    format!("{USUAL}{snippet}")
}

/// The internet that `connectTo` sees: TLS connections lead to the function URL, others to nginx.
async fn internet(nginx: &Nginx, url: &FunctionUrl) -> (SocketAddr, Serving) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (plain, encrypted) = (nginx.http(), url.address());
    let serving = http::listen(listener, move |mut near, _| async move {
        let mut first = [0];
        let _ = near.peek(&mut first).await;
        let to = match first {
            [0x16] => encrypted,
            _ => plain,
        };
        if let Ok(mut far) = TcpStream::connect(to).await {
            let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
        }
    });
    (address, serving)
}

/// Asks for a certificate (kept in the vault) of a name that leads to nginx. Our own fetch goes
/// there too.
async fn want_behind(
    cloud: &LocalCloud,
    shop: &Installation,
    nginx: &Nginx,
    (name, domain): (&str, &str),
    connect_to: SocketAddr,
) {
    let mut settings = shop.settings();
    settings["selfCheck"]["connectTo"] = connect_to.to_string().into();
    shop.put_settings(&settings).await;
    let document = json!({"domains": [domain], "targets": []});
    shop.put_document(name, &document).await;
    cloud.pebble().dns("clear-a", json!({"host": domain})).await;
    cloud.pebble().point(domain, nginx.http().ip()).await;
}

fn agents(url: &FunctionUrl) -> Vec<(String, u16)> {
    let visits = url.visits().into_iter();
    visits
        .map(|visit| {
            let agent = visit.agent.split('/').next().unwrap_or_default();
            (agent.to_owned(), visit.status)
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_url_sends_and_takes_payload_format_2() {
    let cloud = LocalCloud::start().await;
    let hello = Function::new("hello", "hello", std::time::Duration::from_secs(5));
    cloud.lambda().deploy(hello);
    let url = cloud.function_url("hello").await;

    let mut request = Request::get(url.host(), "/a%20b?x=1&y=&x=2");
    request.method = "POST".into();
    request.body = vec![0, 159, 146];
    for (name, value) in [
        ("X-Twice", "1"),
        ("x-twice", "2"),
        ("cookie", "a=b; c=d"),
        ("content-type", "image/png"),
    ] {
        request.headers.push((name.to_owned(), value.to_owned()));
    }
    let answer = url.request(request).await;

    assert_eq!(answer.status, 200);
    let event = serde_json::from_slice::<Value>(&answer.body).unwrap()["event"].take();
    assert_eq!(event["version"], "2.0");
    assert_eq!(event["rawPath"], "/a%20b");
    assert_eq!(event["rawQueryString"], "x=1&y=&x=2");
    assert_eq!(event["queryStringParameters"], json!({"x": "1,2", "y": ""}));
    assert_eq!(event["cookies"], json!(["a=b", "c=d"]));
    assert_eq!(event["headers"]["x-twice"], "1,2");
    assert_eq!(event["headers"]["host"], url.host());
    assert_eq!(event["headers"]["cookie"], Value::Null);
    assert_eq!(event["requestContext"]["domainName"], url.host());
    assert_eq!(event["requestContext"]["http"]["method"], "POST");
    assert_eq!(
        (&event["body"], &event["isBase64Encoded"]),
        (&json!("AJ+S"), &json!(true))
    );

    let plain = url.fetch("/").await;
    let event = serde_json::from_slice::<Value>(&plain.body).unwrap()["event"].take();
    for absent in ["body", "cookies", "queryStringParameters"] {
        assert_eq!(event.get(absent), None, "{event:#}");
    }

    // Any other Host header is refused. Without the name in the handshake there is no answer at
    // all.
    let invoked = cloud.lambda().printed("hello").len();
    let refused = url.request(Request::get("shop.example.com", "/")).await;
    assert_eq!(refused.status, 403);
    assert_eq!(cloud.lambda().printed("hello").len(), invoked);
    let client = tests::tls::client_config(url.root());
    let nameless = tests::tls::connect(client, url.address(), "127.0.0.1").await;
    assert!(nameless.is_err());

    let fail = json!({"do": "fail"});
    assert!(cloud.lambda().invoke("hello", &fail).await.result.is_err());
    cloud.lambda().deploy(Function {
        binary: "/bin/false".into(),
        ..Function::new("hello", "hello", std::time::Duration::from_secs(5))
    });
    assert_eq!(url.fetch("/").await.status, 502);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_challenge_function_answers_over_its_url() {
    let cloud = LocalCloud::start().await;
    let shop = cloud.install("shop").await;
    let url = cloud.function_url(&shop.challenge).await;
    shop.put("challenges/token-1", "token-1.thumbprint").await;
    let ask = async |method: &str, path: &str, body: &[u8]| {
        let mut request = Request::get(url.host(), path);
        request.method = method.into();
        request.body = body.to_vec();
        url.request(request).await
    };

    let answer = ask("GET", TOKEN, b"").await;
    assert_eq!(
        (answer.status, answer.text()),
        (200, "token-1.thumbprint".into())
    );
    for (header, value) in [
        ("content-type", "text/plain"),
        ("x-content-type-options", "nosniff"),
        ("cache-control", "no-store"),
    ] {
        assert_eq!(answer.header(header), Some(value), "{answer:?}");
    }
    let with_query = ask("GET", &format!("{TOKEN}?from=proxy"), b"").await;
    assert_eq!(with_query.text(), "token-1.thumbprint");

    let head = ask("HEAD", TOKEN, b"").await;
    assert_eq!((head.status, head.text()), (200, String::new()));
    let posted = ask("POST", TOKEN, &[0, 159]).await;
    assert_eq!(posted.status, 405);
    assert_eq!(posted.header("allow"), Some("GET, HEAD"));
    for path in [
        "/.well-known/acme-challenge/unknown",
        "/",
        "/state/shop.json",
    ] {
        let missing = ask("GET", path, b"").await;
        assert_eq!(missing.status, 404, "{path}");
        assert_eq!(missing.header("x-content-type-options"), Some("nosniff"));
    }
    let health = ask("GET", "/health", b"").await;
    assert_eq!((health.status, health.text()), (200, "OK".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn nginx_proxies_challenges_to_the_function_url() {
    if Nginx::is_missing("nginx_proxies_challenges_to_the_function_url") {
        return;
    }
    let cloud = LocalCloud::start().await;
    let shop = cloud.install("shop").await;
    let url = cloud.function_url(&shop.challenge).await;
    let nginx = cloud.nginx(&snippet("proxied", &url)).await;
    let domain = "shop.example.com";
    want_behind(&cloud, &shop, &nginx, ("shop", domain), nginx.http()).await;

    let pass = shop.pass().await;

    assert_eq!(pass.outcome("shop"), "issued", "{:#}", pass.report());
    assert_eq!(shop.keys("vault/shop/").await.len(), 1);
    let agents = agents(&url);
    assert_eq!(agents[0], ("certloop".into(), 200), "{agents:?}");
    assert!(agents.len() > 1, "{agents:?}");
    assert!(agents[1..].iter().all(|one| one.0 != "certloop"));
    assert!(shop.ports().visits().is_empty(), "the load balancer's");

    // Every other path of the name is the site's own.
    let page = nginx.fetch(domain, "/page?a=1").await;
    assert_eq!(page.status, 301);
    let secure = format!("https://{domain}/page?a=1");
    assert_eq!(page.header("location"), Some(secure.as_str()));

    shop.put("challenges/token-1", "token-1.thumbprint").await;
    let ask = async |method: &str, path: &str| {
        let mut request = Request::get(domain, path);
        request.method = method.into();
        let answer = nginx.request(request).await;
        (answer.status, answer.text())
    };
    let key_authorization = "token-1.thumbprint".to_owned();
    assert_eq!(ask("GET", TOKEN).await, (200, key_authorization));
    assert_eq!(ask("HEAD", TOKEN).await, (200, String::new()));
    assert_eq!(ask("POST", TOKEN).await.0, 405);
    // An operator can check the way before there is any challenge.
    let probe = "/.well-known/acme-challenge/certloop-probe";
    let probed = nginx.fetch(domain, probe).await;
    assert_eq!(probed.status, 404);
    assert_eq!(probed.header("x-content-type-options"), Some("nosniff"));
}

#[tokio::test(flavor = "multi_thread")]
async fn each_line_of_the_proxying_nginx_is_needed() {
    if Nginx::is_missing("each_line_of_the_proxying_nginx_is_needed") {
        return;
    }
    let cloud = LocalCloud::start().await;
    let shop = cloud.install("shop").await;
    let url = cloud.function_url(&shop.challenge).await;
    shop.put("challenges/token-1", "token-1.thumbprint").await;
    let whole = snippet("proxied", &url);

    for (line, without, status) in [
        ("", "", 200),
        ("proxy_set_header Host $challenge;", "", 403),
        ("location ^~ /.well-known", "location /.well-known", 403),
        ("proxy_ssl_server_name on;", "", 502),
        ("resolver ", "# resolver ", 502),
        ("location ^~", "return 301 https://$host; location ^~", 301),
    ] {
        assert!(whole.contains(line), "{line:?}");
        let nginx = cloud.nginx(&whole.replacen(line, without, 1)).await;
        let answer = nginx.fetch("shop.example.com", TOKEN).await;
        let log = nginx.output().join("\n");
        assert_eq!(answer.status, status, "without {line:?}:\n{log}");
    }

    // Without the check of the certificate, a machine between nginx and the function could answer.
    let trusted = "/etc/ssl/certs/ca-certificates.crt";
    assert!(whole.contains(trusted));
    let (strangers, _) = tests::tls::self_signed(&["strangers.example.com"]);
    let file = std::env::temp_dir().join(format!("strangers-{:08x}.pem", fastrand::u32(..)));
    std::fs::write(&file, strangers).unwrap();
    let strangers = whole.replace(trusted, &file.display().to_string());
    let nginx = cloud.nginx(&strangers).await;
    let answer = nginx.fetch("shop.example.com", TOKEN).await;
    assert_eq!(answer.status, 502, "{}", nginx.output().join("\n"));
    let unchecked = strangers.replace("proxy_ssl_verify on;", "");
    let nginx = cloud.nginx(&unchecked).await;
    assert_eq!(nginx.fetch("shop.example.com", TOKEN).await.status, 200);
    std::fs::remove_file(&file).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_sends_the_names_own_host_is_told_so() {
    if Nginx::is_missing("a_proxy_that_sends_the_names_own_host_is_told_so") {
        return;
    }
    let cloud = LocalCloud::start().await;
    let shop = cloud.install("shop").await;
    let url = cloud.function_url(&shop.challenge).await;
    let right = snippet("proxied", &url);
    let wrong = right.replace("proxy_set_header Host $challenge;", "");
    let nginx = cloud.nginx(&wrong).await;
    let of = ("shop", "shop.example.com");
    want_behind(&cloud, &shop, &nginx, of, nginx.http()).await;

    let pass = shop.pass().await;

    let problem = &pass.certificate("shop")["problem"];
    assert_eq!(problem["type"], "certloop:selfCheck", "{problem:#}");
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("answered 403 instead of 200"), "{detail}");
    assert_eq!(agents(&url), [("certloop".into(), 403)]);
    assert_eq!(url.visits()[0].host, "shop.example.com");

    let nginx = cloud.nginx(&right).await;
    want_behind(&cloud, &shop, &nginx, of, nginx.http()).await;
    let pass = shop.pass_with(later(2 * MINUTE)).await;
    assert_eq!(pass.outcome("shop"), "issued", "{:#}", pass.report());
}

#[tokio::test(flavor = "multi_thread")]
async fn nginx_redirects_challenges_to_the_function_url() {
    if Nginx::is_missing("nginx_redirects_challenges_to_the_function_url") {
        return;
    }
    let cloud = LocalCloud::start().await;
    let shop = cloud.install("shop").await;
    let url = cloud.function_url(&shop.challenge).await;
    // An unprivileged test cannot listen at 443. The authority still follows to another port; our
    // own fetch does not.
    let own_fetch = url.address().port() == 443;
    let found = snippet("redirected", &url);
    assert!(found.contains("return 302 https://"), "{found}");
    for status in ["302", "301", "307", "308"] {
        let redirecting =
            found.replace("return 302 https://", &format!("return {status} https://"));
        let nginx = cloud.nginx(&redirecting).await;
        let (address, _serving) = internet(&nginx, &url).await;
        let (name, domain) = (format!("by-{status}"), format!("by-{status}.example.com"));
        want_behind(&cloud, &shop, &nginx, (&name, &domain), address).await;
        if !own_fetch {
            let off = with(shop.settings(), "selfCheck", "mode", "off");
            shop.put_settings(&off).await;
        }
        let before = url.visits().len();

        let pass = shop.pass().await;

        assert_eq!(pass.outcome(&name), "issued", "{:#}", pass.report());
        let agents = agents(&url).split_off(before);
        let ours = agents.iter().filter(|one| one.0 == "certloop").count();
        assert_eq!(ours, usize::from(own_fetch), "{agents:?}");
        assert!(agents.len() > ours, "{agents:?}");
        let away = nginx.fetch(&domain, TOKEN).await;
        assert_eq!(away.status.to_string(), status);
        let there = away.header("location").unwrap();
        assert!(there.starts_with(&format!("https://{}", url.host())));
        assert!(there.ends_with(TOKEN), "{there}");
        assert_eq!(nginx.fetch(&domain, "/page").await.status, 301);
    }
}

//! `certloop page` in a browser: searched, on a phone, in dark mode, printed, and with hostile
//! names.

#![allow(clippy::print_stdout, reason = "the figures belong to the output")]

use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;

use serde_json::{Value, json};
use tests::chromium::Chromium;
use tests::http::{self, Request, Response};
use tokio::net::TcpListener;

/// Runs `certloop page` against a function that answers with this inventory, 500 certificates at a
/// time.
async fn run(inventory: &Value, arguments: &[&str], path: Option<&Path>) -> Output {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let whole = Arc::new(inventory.clone());
    let _serving = http::listen(listener, move |near, _| {
        let whole = whole.clone();
        async move {
            let answer = |request: Request| {
                let answer = answer(&whole, &request);
                async move { Some(answer) }
            };
            let _ = http::serve(near, answer).await;
        }
    });
    let mut command = Command::new(tests::binary("certloop"));
    command
        .args(["page", "--function", "certloop-renew"])
        .args(arguments)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("AWS_ENDPOINT_URL", endpoint)
        .env("AWS_ACCESS_KEY_ID", "none")
        .env("AWS_SECRET_ACCESS_KEY", "none")
        .env("AWS_REGION", tests::REGION);
    if let Some(path) = path {
        command.env("PATH", path).env("TMPDIR", path);
    }
    tokio::task::block_in_place(|| command.output().unwrap())
}

fn answer(whole: &Value, request: &Request) -> Response {
    assert!(
        request
            .path()
            .contains("/functions/certloop-renew/invocations")
    );
    let event: Value = serde_json::from_slice(&request.body).unwrap();
    assert_eq!(event["action"], "status");
    let after = event["after"].as_str().unwrap_or_default();
    let all = whole["certificates"].as_array().unwrap();
    let mut left = all
        .iter()
        .filter(|one| one["name"].as_str().unwrap() > after);
    let part: Vec<&Value> = left.by_ref().take(500).collect();
    let mut page = whole.clone();
    page["next"] = match left.next() {
        Some(_) => part.last().unwrap()["name"].clone(),
        None => Value::Null,
    };
    page["certificates"] = json!(part);
    Response::new(200, page.to_string())
}

async fn page(inventory: &Value) -> Vec<u8> {
    let output = run(inventory, &[], None).await;
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{told}");
    output.stdout
}

fn sample() -> Value {
    let path = tests::root().join("events/status.sample.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// Returns an entry in which the wanted certificate is the served one.
fn served(certificate: &Value) -> Value {
    match certificate["serial"].is_string() && certificate["targets"] != json!([]) {
        true => json!({
            "serial": certificate["serial"], "notAfter": certificate["notAfter"],
            "by": "handshake", "at": "2026-01-08T16:53:06Z",
        }),
        false => Value::Null,
    }
}

/// Returns an inventory of these certificates. Each is the sample with some fields of its own.
fn inventory(certificates: &[Value]) -> Value {
    let mut inventory = sample();
    let one = inventory["certificates"][0].clone();
    let mut all: Vec<Value> = (certificates.iter())
        .map(|own| {
            let mut certificate = one.clone();
            for (field, value) in own.as_object().unwrap() {
                certificate[field] = value.clone();
            }
            if own.get("served").is_none() {
                certificate["served"] = served(&certificate);
            }
            certificate
        })
        .collect();
    all.sort_by_key(|certificate| certificate["name"].as_str().unwrap().to_owned());
    inventory["total"] = json!(all.len());
    inventory["certificates"] = json!(all);
    inventory
}

/// One certificate for each thing that the page shows.
fn varied() -> Value {
    let problem = |kind: &str, retry: &str, detail: &str| {
        json!({
            "type": kind, "detail": detail, "retry": retry,
        })
    };
    let command = format!(
        "listener app/web on port 80 has no rule for the challenge path: aws elbv2 create-rule \
         --listener-arn {} --priority 1",
        "arn:aws:elasticloadbalancing:eu-west-1:123456789012:listener/app/web/50dc6c495c0c9188/\
         f2f7dc8efc522ab2"
    );
    let tenants: Vec<String> = (0..100)
        .map(|index| format!("tenant-{index}.customers.example.net"))
        .collect();
    let target = sample()["certificates"][0]["targets"][0].clone();
    let mut wrong = target.clone();
    wrong["proved"] = json!(false);
    wrong["detail"] = json!("203.0.113.7:443 serves 04ff of CN=Other, valid until 2026-02-01");
    let other = json!({
        "serial": "02ff6d0ecf831eec9f01", "notAfter": "2026-03-01T15:53:05Z", "by": "held",
        "at": "2026-01-08T16:53:06Z",
    });
    let revoked = "03ab6d0ecf831eec9f09 is served and was revoked at 2026-01-08T16:50:00Z: \
                   browsers may refuse it; its replacement is not there yet: the listener is full";
    let mut waits = target.clone();
    waits["state"] = json!("pending");
    waits["proved"] = Value::Null;
    waits["checkedAt"] = Value::Null;
    let mut failed = target.clone();
    failed["state"] = json!("failed");
    failed["proved"] = Value::Null;
    let mut inventory = inventory(&[
        json!({
            "name": "revoked", "domains": ["revoked.example.com"],
            "problem": problem("certloop:revoked", "person", revoked),
        }),
        json!({
            "name": "stuck", "domains": ["stuck.example.com"], "served": other, "targets": [failed],
            "problem": problem("certloop:listenerFull", "person", "the listener is full"),
        }),
        json!({"name": "unseen", "domains": ["unseen.example.com"], "served": null}),
        json!({
            "name": "waits", "domains": ["waits.example.com"], "served": null, "targets": [waits],
        }),
        json!({"name": "pulled", "domains": ["pulled.example.com"], "targets": []}),
        json!({"name": "shop"}),
        json!({
            "name": "api", "domains": ["api.example.com"],
            "problem": problem("certloop:challengePath", "person", &command),
            "nextAttempt": "2026-01-08T17:54:20Z",
        }),
        json!({
            "name": "ended", "domains": ["ended.example.com"], "notAfter": "2026-01-05T15:53:05Z",
            "notBefore": "2025-10-07T15:53:06Z", "renewAt": "2025-12-05T15:53:05Z",
            "lifetimeLeftShare": 0.0,
            "problem": problem(
                "urn:ietf:params:acme:error:dns", "soon",
                "NXDOMAIN looking up A for ended.example.com",
            ),
            "nextAttempt": "2026-01-08T17:04:20Z",
        }),
        json!({
            "name": "busy", "domains": ["busy.example.com"], "lifetimeLeftShare": 0.28,
            "notAfter": "2026-02-02T15:53:05Z", "notBefore": "2025-11-04T15:53:06Z",
            "problem": problem(
                "urn:ietf:params:acme:error:rateLimited", "at",
                "too many certificates (50) already issued for \"example.com\"",
            ),
            "nextAttempt": "2026-01-09T03:54:20Z",
        }),
        json!({
            "name": "drift", "domains": ["drift.example.com", "*.drift.example.com"],
            "targets": [target, wrong],
        }),
        json!({"name": "tenants", "domains": tenants}),
        json!({
            "name": "late", "domains": ["late.example.com"], "lifetimeLeftShare": 0.2,
            "notAfter": "2026-01-26T15:53:05Z", "notBefore": "2025-10-28T15:53:06Z",
            "renewAt": "2025-12-27T15:53:05Z",
        }),
        json!({"name": "halted", "domains": ["halted.example.com"], "paused": true}),
        json!({
            "name": "back", "domains": ["back.example.com"],
            "rolledBack": {"from": "04cd", "at": "2026-01-07T15:53:05Z", "document": "x"},
            "revoking": ["04cd"],
        }),
        json!({
            "name": "new", "domains": ["new.example.com"], "serial": null, "notAfter": null,
            "notBefore": null, "renewAt": null, "lifetimeLeftShare": null,
            "underWay": {
                "stage": "ordered", "reason": "no certificate yet",
                "orderUrl": "https://ca.example/order/1",
            },
        }),
        json!({
            "name": "partly", "domains": ["a.example.com", "b.example.com"],
            "problem": problem("certloop:namesMissing", "soon", "b.example.com is left out"),
            "missing": [{
                "domain": "b.example.com",
                "problem": problem("urn:ietf:params:acme:error:dns", "soon", "NXDOMAIN"),
                "nextAttempt": "2026-01-08T22:54:20Z",
            }],
        }),
        json!({
            "name": format!("a-{}", "very-".repeat(12)),
            "domains": [format!("{}.example.com", "x".repeat(63))],
        }),
    ]);
    inventory["orphans"] = json!(["gone"]);
    inventory["removing"] = json!(["leaving"]);
    inventory["limits"]["imports"]["eu-west-1"]["left"] = json!(12);
    inventory
}

const SHOWN: &str =
    "[...document.querySelectorAll('li.c:not([hidden]) h3')].map((name) => name.textContent)";
/// Opens everything that is folded, and lays out what is far down.
const UNFOLD: &str = "document.styleSheets[0].insertRule('.c { content-visibility: visible \
                      !important; }', document.styleSheets[0].cssRules.length);
    for (const folded of document.querySelectorAll('details')) folded.open = true;";

/// Clears the field and types. Returns the announcement and the names that are shown.
fn search(browser: &mut Chromium, text: &str) -> (String, Vec<String>) {
    browser.evaluate("document.getElementById('q').focus(); document.getElementById('q').select()");
    match text {
        "" => {
            browser.evaluate("document.execCommand('delete')");
        }
        text => browser.type_text(text),
    }
    browser.evaluate("new Promise((done) => setTimeout(done, 300))");
    let found = browser.evaluate("document.getElementById('found').textContent");
    (found.as_str().unwrap().to_owned(), browser.texts(SHOWN))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_search_finds_names_domains_and_problems() {
    if Chromium::is_missing("the_search_finds_names_domains_and_problems") {
        return;
    }
    let page = page(&varied()).await;
    let mut browser = Chromium::start();
    browser.open(&page, "");
    let all = browser.texts(SHOWN);
    assert_eq!(all.len(), 19, "{all:?}");
    let urgent = ["revoked", "ended", "late", "stuck", "api", "drift", "gone"];
    assert_eq!(all[..7], urgent);

    for (text, names) in [
        ("shop", &["shop"][..]),
        ("SHOP.example.com", &["shop"]),
        ("nxdomain ended", &["ended"]),
        ("ratelimited", &["busy"]),
        ("https://busy.example.com/checkout?a=1", &["busy"]),
        ("gone", &["gone"]),
        // A wildcard matches it.
        ("www.drift.example.com", &["drift"]),
        ("tenant-57.customers", &["tenants"]),
        ("arn:aws:elasticloadbalancing", &["api"]),
    ] {
        let (found, shown) = search(&mut browser, text);
        assert_eq!(shown, names, "{text}");
        assert_eq!(found, format!("{} of 20 match.", names.len()), "{text}");
    }
    // A name found among a hundred folded names is visible.
    search(&mut browser, "tenant-57.customers");
    let open = "document.querySelector('#certificate-tenants details.rest').open";
    assert_eq!(browser.evaluate(open), json!(true));
    let heading = "document.querySelector('#fine .count').textContent";
    assert_eq!(browser.evaluate(heading), "1 of 5");
    browser.keep_picture("search");

    let (found, shown) = search(&mut browser, "no such name");
    assert_eq!((found.as_str(), shown.len()), ("Nothing matches.", 0));
    let (found, shown) = search(&mut browser, "");
    assert_eq!((found.as_str(), shown), ("", all));
    assert_eq!(browser.evaluate(open), json!(false));

    // The address of a search can be sent to another person.
    search(&mut browser, "busy");
    assert_eq!(browser.evaluate("location.hash"), "#q=busy");
    browser.open(&page, "#q=b%C3%BCsy+x");
    assert_eq!(
        browser.evaluate("document.getElementById('q').value"),
        "büsy x"
    );
    browser.open(&page, "#q=api");
    assert_eq!(browser.texts(SHOWN), ["api"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_served_what_is_to_be_served_and_what_is_unknown_are_three_words() {
    if Chromium::is_missing(
        "what_is_served_what_is_to_be_served_and_what_is_unknown_are_three_words",
    ) {
        return;
    }
    let page = page(&varied()).await;
    let mut browser = Chromium::start();
    browser.resize(1200, 900, false);
    browser.open(&page, "");
    for name in ["revoked", "stuck", "unseen"] {
        let card = format!("document.getElementById('certificate-{name}')");
        browser.evaluate(&format!("{card}.scrollIntoView({{behavior: 'instant'}})"));
        browser.keep_picture(&format!("three-words-{name}"));
    }
    browser.evaluate(UNFOLD);
    let fine = "rgb(28, 107, 62)";
    for (name, bar, words) in [
        ("shop", Some(fine), ", served until 2026-04-08"),
        ("pulled", Some(fine), ", held ready until 2026-04-08"),
        (
            "revoked",
            Some("rgb(163, 23, 26)"),
            "Revoked, served until 2026-04-08",
        ),
        ("stuck", None, "51 days left, served until 2026-03-01"),
        (
            "stuck",
            None,
            "Next: 03ab6d0ecf831eec9f09, valid until 2026-04-08",
        ),
        (
            "unseen",
            None,
            "What is served is unknown\n\nNext: 03ab6d0ecf831eec9f09, valid until 2026-04-08",
        ),
        (
            "waits",
            None,
            "Nothing is served yet\n\nNext: 03ab6d0ecf831eec9f09, valid until 2026-04-08",
        ),
    ] {
        let card = format!("document.getElementById('certificate-{name}')");
        let life = browser.evaluate(&format!("{card}.querySelector('.life').innerText"));
        let life = life.as_str().unwrap();
        assert!(life.contains(words), "{name}: {words:?} is not in {life:?}");
        let fill = format!(
            "(() => {{ const left = {card}.querySelector('.left'); return left && \
             getComputedStyle(left).fill; }})()"
        );
        assert_eq!(browser.evaluate(&fill), json!(bar), "{name}");
    }
    let count = "document.querySelector('#unserved .count').textContent";
    assert_eq!(browser.evaluate(count), "1");

    let healthy: Vec<Value> = (varied()["certificates"].as_array().unwrap().iter())
        .filter(|one| ["shop", "unseen", "waits"].contains(&one["name"].as_str().unwrap()))
        .cloned()
        .collect();
    for (names, verdict) in [
        (
            &["shop", "unseen", "waits"][..],
            "1 certificate is not known to be served",
        ),
        (&["shop", "waits"], "1 certificate is being made"),
        (&["shop"], "1 certificate, and it is fine"),
    ] {
        let of = |one: &&Value| names.contains(&one["name"].as_str().unwrap());
        let some: Vec<Value> = healthy.iter().filter(of).cloned().collect();
        browser.open(&self::page(&inventory(&some)).await, "");
        let told = "document.getElementById('verdict').textContent";
        assert_eq!(browser.evaluate(told), verdict);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hostile_name_is_shown_and_does_nothing() {
    if Chromium::is_missing("a_hostile_name_is_shown_and_does_nothing") {
        return;
    }
    let hostile = [
        "<img src=x onerror=\"document.title='owned'\">",
        "\"><script>document.title='owned'</script>",
        "' onmouseover='document.title=1' autofocus onfocus='document.title=1' x='",
        "</style></script></title><script>document.title='owned'</script>",
        "<style>*{display:none}</style><base href=//evil.example><meta http-equiv=refresh content=0>",
        "javascript:document.title='owned'",
        "<!--",
        "\u{202e}moc.elpmaxe",
    ];
    let certificates: Vec<Value> = (hostile.iter())
        .map(|name| {
            let problem = json!({"type": name, "detail": name, "retry": "person"});
            let target = json!({
                "type": "listener", "arn": name, "certificateArn": name, "state": "failed",
                "proved": false, "trusted": false, "detail": name,
            });
            let step = json!({"at": "2026-01-08T16:53:04Z", "step": name, "detail": name});
            let suggestion = json!({"explanationURL": name, "askAgain": "2026-01-08T22:07:31Z"});
            json!({
                "name": name, "domains": [name, "a.example.com"], "authority": name,
                "problem": problem, "targets": [target],
                "history": [step], "renewalInformation": suggestion,
            })
        })
        .collect();
    let mut inventory = inventory(&certificates);
    inventory["orphans"] = json!(hostile);
    inventory["removing"] = json!(hostile);
    let page = page(&inventory).await;
    let mut browser = Chromium::start();
    for fragment in ["", "#q=%3Cimg+src%3Dx+onerror%3Ddocument.title%3D1%3E"] {
        browser.open(&page, fragment);
        browser.evaluate(UNFOLD);
        browser.evaluate(
            "for (const any of document.querySelectorAll('*')) { \
             any.dispatchEvent(new Event('mouseover')); any.focus?.(); }",
        );
        browser.evaluate("new Promise((done) => setTimeout(done, 300))");

        assert_eq!(
            browser.evaluate("document.title"),
            "16 need a person · certloop-renew"
        );
        let strange = "[...document.querySelectorAll('img, base, main script, main style, iframe, meta[http-equiv=refresh]')].length";
        assert_eq!(browser.evaluate(strange), 0);
        assert_eq!(browser.evaluate("document.scripts.length"), 1);
        let ours = browser.texts(
            "[...new Set([...document.querySelectorAll('*')].flatMap((any) => \
             [...any.attributes].map((one) => one.name)))].sort()",
        );
        assert!(!ours.iter().any(|name| name.starts_with("on")), "{ours:?}");
        let requests = browser.heard("Network.requestWillBeSent");
        assert_eq!(requests.len(), 1, "the page itself: {requests:#?}");
        // If hostile content had run, the policy would have refused it and reported that.
        for method in [
            "Log.entryAdded",
            "Runtime.exceptionThrown",
            "Page.javascriptDialogOpening",
        ] {
            assert_eq!(browser.heard(method), Vec::<Value>::new(), "{method}");
        }
    }
    browser.open(&page, "");
    browser.keep_picture("hostile");
    let shown = browser.texts(
        "[...document.querySelectorAll('#needs-person h3')].map((name) => name.textContent)",
    );
    for name in &hostile[..7] {
        assert!(shown.iter().any(|shown| shown == name), "{name}: {shown:?}");
    }
    assert!(
        shown.contains(&"\u{fffd}moc.elpmaxe".to_owned()),
        "{shown:?}"
    );
    let (_, found) = search(&mut browser, "<img");
    assert_eq!(
        found, [hostile[0]; 3],
        "the certificate, the orphan, the removal"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_there_without_scripts() {
    if Chromium::is_missing("everything_is_there_without_scripts") {
        return;
    }
    let page = page(&varied()).await;
    let mut browser = Chromium::start();
    browser.open(&page, "");
    let with: Vec<String> = browser.texts(SHOWN);
    let told = "document.getElementById('fleet').textContent";
    let with_scripts = browser.evaluate(told);

    browser.run_scripts(false);
    browser.open(&page, "#q=shop");
    browser.keep_picture("without-scripts");
    // The page's own scripts have not run: now only the test's questions do.
    browser.run_scripts(true);
    assert_eq!(browser.texts(SHOWN), with);
    assert_eq!(browser.evaluate(told), with_scripts);
    let form = "getComputedStyle(document.getElementById('search')).display";
    assert_eq!(browser.evaluate(form), "none");
    let said = "document.querySelector('noscript').textContent";
    assert!(
        browser
            .evaluate(said)
            .as_str()
            .unwrap()
            .contains("Scripts are off")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_phone_needs_no_scrolling_to_the_side() {
    if Chromium::is_missing("a_phone_needs_no_scrolling_to_the_side") {
        return;
    }
    let page = page(&varied()).await;
    let mut browser = Chromium::start();
    for (width, is_phone) in [
        (320, true),
        (360, true),
        (360, false),
        (768, false),
        (1920, false),
    ] {
        browser.resize(width, 800, is_phone);
        browser.open(&page, "");
        browser.keep_picture(&format!("width-{width}"));
        browser.evaluate(UNFOLD);
        let wide = "[document.documentElement.scrollWidth, innerWidth]";
        assert_eq!(browser.evaluate(wide), json!([width, width]));
        let over = browser.texts(
            "[...document.body.querySelectorAll('*')].filter((any) => \
             any.getBoundingClientRect().right > innerWidth)
               .map((any) => any.outerHTML.slice(0, 200))",
        );
        assert_eq!(over, Vec::<String>::new(), "{width}");
    }
    // Large enough for a finger, with some room around (WCAG 2.2, 2.5.8).
    browser.resize(360, 800, true);
    let small = browser.texts(
        "[...document.querySelectorAll('#summary a, summary, input')].filter((any) => \
         any.getBoundingClientRect().height < 20)
           .map((any) => any.outerHTML)",
    );
    assert_eq!(small, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn every_text_can_be_read_by_day_by_night_and_on_paper() {
    if Chromium::is_missing("every_text_can_be_read_by_day_by_night_and_on_paper") {
        return;
    }
    let page = page(&varied()).await;
    let mut browser = Chromium::start();
    let mut papers = Vec::new();
    for (medium, scheme) in [
        ("screen", "light"),
        ("screen", "dark"),
        ("print", "light"),
        ("print", "dark"),
    ] {
        browser.resize(1200, 900, false);
        browser.prefer(medium, scheme);
        browser.open(&page, "");
        browser.keep_picture(&format!("{medium}-{scheme}"));
        browser.evaluate(UNFOLD);
        let read = browser.evaluate(CONTRASTS);
        let (texts, faint) = (read["texts"].as_u64().unwrap(), &read["faint"]);
        assert!(texts > 150, "{medium} {scheme}: {read}");
        assert_eq!(faint, &json!([]), "{medium} {scheme}");
        papers.push(browser.evaluate("getComputedStyle(document.body).backgroundColor"));
        browser.keep_picture(&format!("{medium}-{scheme}-unfolded"));
    }
    assert_ne!(papers[0], papers[1], "light and dark");
    assert_eq!(papers[2], "rgb(255, 255, 255)");
    assert_eq!(papers[3], papers[2], "ink is for white paper");

    browser.prefer("", "dark");
    browser.open(&page, "");
    let printed = browser.print("printed");
    assert!(printed.starts_with(b"%PDF"));
}

/// Compares the colour of each visible text with its background (WCAG 2.2, 1.4.3).
const CONTRASTS: &str = r"(() => {
    const parse = (colour) => {
        const [red, green, blue, alpha = 1] = colour.match(/[\d.]+/g).map(Number);
        return { parts: [red, green, blue], alpha };
    };
    const luminance = ({ parts }) => parts.map((part) => part / 255)
        .map((part) => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4)
        .reduce((sum, part, index) => sum + part * [0.2126, 0.7152, 0.0722][index], 0);
    const behind = (element) => {
        for (let at = element; at; at = at.parentElement) {
            const colour = parse(getComputedStyle(at).backgroundColor);
            if (colour.alpha === 1) return colour;
            if (colour.alpha !== 0) throw new Error('half transparent');
        }
        return parse('rgb(255, 255, 255)');
    };
    let texts = 0;
    const faint = [];
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
        const element = walker.currentNode.parentElement;
        if (!walker.currentNode.data.trim()) continue;
        if (!element.checkVisibility()) continue;
        if (['SCRIPT', 'NOSCRIPT'].includes(element.tagName)) continue;
        const colours = [parse(getComputedStyle(element).color), behind(element)];
        const [one, other] = colours.map(luminance);
        const ratio = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
        texts += 1;
        if (ratio < 4.5) faint.push(`${ratio.toFixed(2)}: ${walker.currentNode.data.trim()}`);
    }
    return { texts, faint };
})()";

#[tokio::test(flavor = "multi_thread")]
async fn none_one_and_five_thousand_certificates_are_shown() {
    if Chromium::is_missing("none_one_and_five_thousand_certificates_are_shown") {
        return;
    }
    let mut browser = Chromium::start();
    browser.resize(1200, 900, false);
    let fleet = |count: usize| {
        let certificates: Vec<Value> = (0..count)
            .map(|index| {
                json!({
                    "name": format!("site-{index:04}"),
                    "domains": [format!("site-{index}.example.com")],
                })
            })
            .collect();
        inventory(&certificates)
    };
    for (count, verdict) in [
        (0, "No certificates yet"),
        (1, "1 certificate, and it is fine"),
        (5000, "5,000 certificates, all fine"),
    ] {
        let page = page(&fleet(count)).await;
        browser.open(&page, "");
        browser.keep_picture(&format!("count-{count}"));
        let took = browser.seconds_of_work();
        println!("{count}: {} bytes, {took:.1} s of work", page.len());
        assert!(took < 10.0, "{count}: {took}");
        let told = "document.getElementById('verdict').textContent";
        assert_eq!(browser.evaluate(told), verdict);
        assert_eq!(browser.texts(SHOWN).len(), count);
        let form = "document.getElementById('search').hidden";
        assert_eq!(browser.evaluate(form), json!(count == 0));
        assert_eq!(
            browser.heard("Runtime.exceptionThrown"),
            Vec::<Value>::new()
        );
        assert_eq!(browser.heard("Log.entryAdded"), Vec::<Value>::new());
    }
    let before = browser.seconds_of_work();
    let (found, shown) = search(&mut browser, "site-4321");
    let took = browser.seconds_of_work() - before;
    println!("search: {took:.1} s of work");
    assert!(took < 5.0, "{took}");
    assert_eq!(found, "1 of 5,000 match.");
    assert_eq!(shown, ["site-4321"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_is_opened_from_a_file_of_ones_own() {
    let folder = std::env::temp_dir().join(format!("certloop-open-{:08x}", fastrand::u32(..)));
    std::fs::create_dir_all(&folder).unwrap();
    let opener = folder.join("xdg-open");
    std::fs::write(&opener, "#!/bin/sh\necho \"$1\" > \"${0%/*}/opened\"\n").unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode;
    std::fs::set_permissions(&opener, mode(0o755)).unwrap();

    let output = run(&sample(), &["--open"], Some(&folder)).await;

    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{told}");
    assert!(output.stdout.is_empty());
    let opened = std::fs::read_to_string(folder.join("opened")).unwrap();
    assert!(told.contains(opened.trim()), "{told}");
    let page = std::fs::read_to_string(opened.trim()).unwrap();
    assert!(page.starts_with("<!doctype html>"));
    let permissions = std::fs::metadata(opened.trim()).unwrap().permissions();
    let bits = std::os::unix::fs::PermissionsExt::mode(&permissions);
    assert_eq!(bits & 0o777, 0o600);
    std::fs::remove_dir_all(&folder).unwrap();
}

//! Hosts outside AWS: the real command brings a certificate to the real nginx.

#![allow(clippy::print_stderr, reason = "the figures belong to the output")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::{Installation, LocalCloud, Nginx, binary, browser, tls};

const DOMAIN: &str = "shop.example.com";

/// A host with its own directory and its own credentials.
pub(crate) struct Host {
    endpoint: String,
    bucket: String,
    home: PathBuf,
}

/// The result of one run of the command.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) status: Option<i32>,
    pub(crate) out: String,
    err: String,
}

impl Ran {
    #[track_caller]
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|_| panic!("{self:?}"))
    }
}

impl Host {
    pub(crate) fn new(cloud: &LocalCloud, site: &Installation) -> Self {
        let name = format!("certloop-host-{:016x}", fastrand::u64(..));
        let home = std::env::temp_dir().join(name);
        fs::create_dir(&home).unwrap();
        Self {
            endpoint: format!("http://{}", cloud.aws().address()),
            bucket: site.bucket.clone(),
            home,
        }
    }

    fn directory(&self) -> PathBuf {
        self.home.join("tls")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary("certloop"));
        command
            .args(["pull", "shop", "--to"])
            .arg(self.directory())
            .args(arguments)
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("HOME", &self.home)
            .env("CERTLOOP_BUCKET", &self.bucket)
            .env("AWS_REGION", tests::REGION)
            .env("AWS_ENDPOINT_URL", &self.endpoint)
            .env("AWS_ACCESS_KEY_ID", "a-host")
            .env("AWS_SECRET_ACCESS_KEY", "local")
            .current_dir(&self.home)
            .stdin(Stdio::null());
        command
    }

    pub(crate) fn pull(&self, arguments: &[&str]) -> Ran {
        let output = self.command(arguments).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ran {
            status: output.status.code(),
            out: text(&output.stdout),
            err: text(&output.stderr),
        }
    }

    /// Returns the serial in the files, and asserts that the files belong together.
    #[track_caller]
    pub(crate) fn held(&self) -> String {
        let read = |name: &str| fs::read_to_string(self.directory().join(name)).unwrap();
        let [cert, chain, fullchain, key, bundle] =
            ["cert", "chain", "fullchain", "privkey", "bundle"]
                .map(|name| read(&format!("{name}.pem")));
        assert_eq!(fullchain, format!("{cert}{chain}"));
        assert_eq!(bundle, format!("{key}{fullchain}"));
        // Refuses a key of another certificate.
        tls::server_config(&fullchain, &key).unwrap();
        tests::Leaf::read(&tls::certificates(&fullchain)).serial
    }

    fn mode(&self, name: &str) -> u32 {
        let metadata = fs::metadata(self.directory().join(name)).unwrap();
        metadata.permissions().mode() & 0o7777
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.home);
    }
}

/// Issues a certificate that is kept in the vault.
async fn issued(cloud: &LocalCloud) -> Installation {
    let site = cloud.install("shop").await;
    let document = json!({"domains": [DOMAIN], "targets": []});
    site.put_document("shop", &document).await;
    let pass = site.pass().await;
    assert_eq!(pass.outcome("shop"), "issued", "{:#}", pass.report());
    site
}

/// Renews it and returns the new serial.
async fn renewed(site: &Installation) -> String {
    let force = json!({"action": "reconcile", "force": true});
    let pass = site.invoke(&force).await;
    assert_eq!(pass.outcome("shop"), "renewed", "{:#}", pass.report());
    serial(site).await
}

async fn serial(site: &Installation) -> String {
    let state = site.read_json("state/shop.json").await;
    state["certificate"]["serial"].as_str().unwrap().to_owned()
}

async fn served(nginx: &Nginx, roots: &str) -> String {
    let visited = browser::visit(nginx.http(), DOMAIN, roots).await;
    let (leaf, response) = visited.unwrap();
    assert_eq!(response.status, 200);
    leaf.serial
}

/// Waits until nginx has read its files again: a reload returns earlier.
async fn comes_to_serve(nginx: &Nginx, roots: &str, serial: &str) {
    let until = Instant::now() + Duration::from_secs(10);
    while served(nginx, roots).await != serial {
        let log = || nginx.output().join("\n");
        assert!(Instant::now() < until, "{serial} is not served:\n{}", log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nginx_serves_what_is_pulled_and_drops_nobody_when_it_changes() {
    if Nginx::is_missing("nginx_serves_what_is_pulled_and_drops_nobody_when_it_changes") {
        return;
    }
    let cloud = LocalCloud::start().await;
    let site = issued(&cloud).await;
    let host = Host::new(&cloud, &site);
    let first = host.pull(&[]);
    assert_eq!(first.status, Some(0), "{first:?}");
    let at = |name: &str| host.directory().join(name);
    let (chain, key) = (at("fullchain.pem"), at("privkey.pem"));
    let nginx = Arc::new(cloud.nginx_over_tls(&chain, &key).await);
    let roots = site.roots.clone();
    let one = serial(&site).await;
    assert_eq!(served(&nginx, &roots).await, one);
    let modes =
        ["cert.pem", "fullchain.pem", "privkey.pem", "bundle.pem"].map(|name| host.mode(name));
    assert_eq!(modes, [0o644, 0o644, 0o600, 0o600]);

    // A visitor who visits again and again.
    let (ended, visits) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicU32::new(0)),
    );
    let visitor = {
        let (nginx, roots, ended, visits) =
            (nginx.clone(), roots.clone(), ended.clone(), visits.clone());
        tokio::spawn(async move {
            let mut seen = vec![];
            while !ended.load(Ordering::Relaxed) {
                let serial = served(&nginx, &roots).await;
                // For a moment after a reload, old and new workers both answer.
                if !seen.contains(&serial) {
                    seen.push(serial);
                }
                visits.fetch_add(1, Ordering::Relaxed);
            }
            seen
        })
    };
    let runs = host.home.join("runs");
    let reload = format!(
        "echo $CERTLOOP_SERIAL >> {}; {} && {}",
        runs.display(),
        nginx.command("-t"),
        nginx.command("-s reload")
    );
    let pull = || host.pull(&["--exec", &reload, "--json"]);
    let mut wanted = vec![one.clone()];
    for _ in 0..3 {
        let serial = renewed(&site).await;
        let ran = pull();
        assert_eq!(ran.status, Some(0), "{ran:?}");
        let told = ran.json();
        assert_eq!(told["outcome"], "changed", "{told}");
        assert_eq!(told["serial"], serial, "{told}");
        assert_eq!(told["commandRan"], true, "{told}");
        assert_eq!(host.held(), serial);
        comes_to_serve(&nginx, &roots, &serial).await;
        wanted.push(serial);

        let again = pull();
        assert_eq!(again.json()["outcome"], "unchanged", "{again:?}");
        assert_eq!(again.json()["commandRan"], false, "{again:?}");
    }
    ended.store(true, Ordering::Relaxed);
    let seen = visitor.await.unwrap();
    assert_eq!(seen, wanted);
    assert!(visits.load(Ordering::Relaxed) > 20);
    let ran = fs::read_to_string(&runs).unwrap();
    assert_eq!(ran.lines().collect::<Vec<_>>(), wanted[1..]);

    // The host follows a rollback like a renewal.
    let back = json!({"action": "rollback", "name": "shop"});
    site.invoke(&back).await;
    let ran = pull();
    assert_eq!(ran.json()["serial"], wanted[2], "{ran:?}");
    comes_to_serve(&nginx, &roots, &wanted[2]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_nginx_refuses_brings_the_old_files_back() {
    if Nginx::is_missing("a_configuration_nginx_refuses_brings_the_old_files_back") {
        return;
    }
    let cloud = LocalCloud::start().await;
    let site = issued(&cloud).await;
    let host = Host::new(&cloud, &site);
    assert_eq!(host.pull(&[]).status, Some(0));
    let bundle = host.directory().join("bundle.pem");
    // A single file is enough, and is read in one step.
    let nginx = cloud.nginx_over_tls(&bundle, &bundle).await;
    let one = serial(&site).await;
    let two = renewed(&site).await;
    let good = fs::read_to_string(nginx.configuration()).unwrap();
    let bad = good.replace("worker_processes 1;", "worker_processes one;");
    assert_ne!(good, bad);
    fs::write(nginx.configuration(), bad).unwrap();
    let reload = format!("{} && {}", nginx.command("-t"), nginx.command("-s reload"));
    for _ in 0..2 {
        let ran = host.pull(&["--exec", &reload]);
        assert_eq!(ran.status, Some(1), "{ran:?}");
        assert!(ran.err.contains("worker_processes"), "{ran:?}");
        assert!(ran.err.contains("are back"), "{ran:?}");
        assert_eq!(host.held(), one);
        assert_eq!(served(&nginx, &site.roots).await, one);
    }
    let told = host.pull(&["--exec", &reload, "--json"]);
    assert_eq!(told.json()["outcome"], "failed", "{told:?}");
    assert_eq!(told.json()["serial"], two, "{told:?}");

    fs::write(nginx.configuration(), good).unwrap();
    let ran = host.pull(&["--exec", &reload]);
    assert_eq!(ran.status, Some(0), "{ran:?}");
    assert_eq!(host.held(), two);
    comes_to_serve(&nginx, &site.roots, &two).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_killed_at_any_moment_has_one_certificate_and_repairs_itself() {
    let cloud = LocalCloud::start().await;
    let site = issued(&cloud).await;
    let host = Host::new(&cloud, &site);
    let one = serial(&site).await;
    let two = renewed(&site).await;
    let begun = Instant::now();
    assert_eq!(host.pull(&[]).status, Some(0));
    let whole = begun.elapsed();
    assert_eq!(host.held(), two);

    let (mut deaths, mut changes, mut last) = (0, 0, two.clone());
    for round in 0..90_u32 {
        let wanted = [&one, &two][round as usize % 2];
        let mut state = site.read_json("state/shop.json").await;
        state["certificate"]["serial"] = json!(wanted);
        site.put("state/shop.json", state.to_string()).await;
        // The first half of a run reads the bucket: most deaths come later.
        let share = fastrand::f64() * 0.8 + 0.3;
        let mut child = host
            .command(&["--exec", "true"])
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        tokio::time::sleep(whole.mul_f64(share)).await;
        deaths += u32::from(child.try_wait().unwrap().is_none());
        let _ = child.kill();
        child.wait().unwrap();

        let held = host.held();
        assert!([&one, &two].contains(&&held), "{held}");
        changes += u32::from(held != last);
        for name in ["privkey.pem", "bundle.pem"] {
            assert_eq!(host.mode(name), 0o600);
        }
        last = held;
        if round % 6 == 5 {
            let ran = host.pull(&["--exec", "true", "--json"]);
            assert_eq!(ran.status, Some(0), "{ran:?}");
            assert_eq!(&host.held(), wanted);
            assert_eq!(host.pull(&["--json"]).json()["outcome"], "unchanged");
            last = wanted.clone();
        }
    }
    eprintln!("{deaths} deaths, {changes} after the switch");
    assert!(
        deaths > 20,
        "{deaths} of 90 were in time, with {whole:?} for a whole run"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_may_read_its_vault_alone_takes_the_newest() {
    let cloud = LocalCloud::start().await;
    let site = issued(&cloud).await;
    // The authority reports whole seconds: two certificates of the same second have the same age.
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    let two = renewed(&site).await;
    let host = Host::new(&cloud, &site);
    let denied = |operation: &str, what: &str| {
        json!({"service": "s3", "operation": operation, "match": what, "accessKey": "a-host",
               "count": null, "status": 403, "code": "AccessDenied"})
    };
    cloud
        .aws()
        .fault(denied("GetObject", "state/shop.json"))
        .await;
    let ran = host.pull(&["--json"]);
    assert_eq!(ran.status, Some(0), "{ran:?}");
    assert_eq!(ran.json()["chosen"], "newest", "{ran:?}");
    assert_eq!(host.held(), two);

    cloud.aws().fault(denied("GetObject", "vault/shop/")).await;
    let ran = host.pull(&[]);
    assert_eq!(ran.status, Some(1), "{ran:?}");
    assert!(
        ran.err.contains("AccessDenied") && ran.err.contains("pull_policy_arns"),
        "{ran:?}"
    );
    assert_eq!(host.held(), two);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_restored_from_an_older_copy_takes_no_newer_certificate_from_a_host() {
    let cloud = LocalCloud::start().await;
    let site = issued(&cloud).await;
    let one = serial(&site).await;
    let copy = site.read("state/shop.json").await.unwrap();
    // The authority reports whole seconds, and the second certificate has to begin later.
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    let two = renewed(&site).await;
    let host = Host::new(&cloud, &site);
    assert_eq!(host.pull(&[]).status, Some(0));
    site.put("state/shop.json", copy).await;
    site.delete(&format!("vault/shop/{two}.json")).await;

    let ran = host.pull(&[]);
    assert_eq!(ran.status, Some(1), "{ran:?}");
    for word in [&*one, &*two, "restored", "--replace"] {
        assert!(ran.err.contains(word), "{ran:?}");
    }
    assert_eq!(host.held(), two);

    // The next order brings a later one.
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    let three = renewed(&site).await;
    assert_eq!(host.pull(&[]).status, Some(0));
    assert_eq!(host.held(), three);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_watches_follows_until_it_is_ended() {
    let cloud = LocalCloud::start().await;
    let site = issued(&cloud).await;
    let host = Host::new(&cloud, &site);
    let mut watching = host.command(&["--watch", "--every", "1s", "--json"]);
    let mut child = watching.stdout(Stdio::null()).spawn().unwrap();
    let wait_for = async |serial: &str| {
        let until = Instant::now() + Duration::from_secs(15);
        let bundle = host.directory().join("bundle.pem");
        while !Path::exists(&bundle) || host.held() != serial {
            assert!(Instant::now() < until, "{serial} does not come");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    wait_for(&serial(&site).await).await;
    wait_for(&renewed(&site).await).await;
    let ended = Command::new("kill").arg(child.id().to_string()).status();
    assert!(ended.unwrap().success());
    let status = child.wait().unwrap();
    assert_eq!(status.code(), None, "{status}");
    host.held();
}

//! A host's directory through everything that can happen to it.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use certificates::ports::store::{
    Condition, ListedObject, Store, StoreError, StoredObject, state_key, vault_key,
};
use certificates::records::vault::VaultEntry;
use certificates::values::chain::{Chain, check_issued};
use certificates::values::key::{KeyType, PrivateKey};
use certificates::values::names::CertificateName;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair,
    SerialNumber,
};
use serde_json::{Value, json};
use tempfile::TempDir;
use time::OffsetDateTime;
use time::ext::NumericalDuration;
use time::format_description::well_known::Rfc3339;
use tokio::time::Instant;

use super::command::CommandFailure;
use super::directory::Directory;
use super::error::{After, PullError};
use super::files::NAMES;
use super::options::PullOptions;
use super::outcome::{Chosen, Done};
use super::owner::{Mode, Owner};
use super::round::{pull, take_up};
use super::wanted;
use super::watch::Failures;

thread_local! {
    /// How many more things may be done to the disk.
    static LIFE: Cell<Option<u32>> = const { Cell::new(None) };
}

/// Dies, if this is the place for it.
pub(super) fn may_die(path: &Path) -> Result<(), PullError> {
    LIFE.with(|life| match life.get() {
        Some(0) => Err(PullError::files(
            "outlive",
            path,
            io::ErrorKind::Other.into(),
        )),
        Some(left) => {
            life.set(Some(left - 1));
            Ok(())
        }
        None => Ok(()),
    })
}

/// A bucket of which some prefixes may not be read.
#[derive(Default)]
struct Memory {
    objects: RefCell<BTreeMap<String, Vec<u8>>>,
    denied: Vec<&'static str>,
}

impl Memory {
    fn refuse(&self, verb: &'static str, key: &str) -> Result<(), StoreError> {
        match self.denied.iter().any(|denied| key.starts_with(denied)) {
            true => Err(StoreError::Unavailable {
                verb,
                key: key.to_owned(),
                reason: "GetObject: AccessDenied".to_owned(),
                person: true,
            }),
            false => Ok(()),
        }
    }

    fn put(&self, key: String, body: Vec<u8>) {
        self.objects.borrow_mut().insert(key, body);
    }

    /// Has a certificate served, of those in the vault.
    fn serve(&self, issued: &Issued) {
        self.serve_as(&name(), issued);
    }

    fn serve_as(&self, name: &CertificateName, issued: &Issued) {
        self.say(name, &issued.serial, json!({}));
        self.keep_as(name, issued);
    }

    fn keep(&self, issued: &Issued) {
        self.keep_as(&name(), issued);
    }

    fn keep_as(&self, name: &CertificateName, issued: &Issued) {
        let chain = Chain::parse(&issued.chain).unwrap();
        let entry = VaultEntry::new(chain.leaf(), issued.chain.clone(), issued.key.to_pem());
        let key = vault_key(name, &issued.serial);
        self.put(key, serde_json::to_vec(&entry).unwrap());
    }

    /// Has the state name a serial, beside other things.
    fn say(&self, name: &CertificateName, serial: &str, more: Value) {
        let mut state = json!({
            "version": 1, "writeId": "0",
            "certificate": {"serial": serial, "fromALaterBuild": true},
        });
        for (field, value) in more.as_object().unwrap() {
            state[field] = value.clone();
        }
        self.put(state_key(name), state.to_string().into_bytes());
    }

    fn lose(&self, key: &str) {
        assert!(self.objects.borrow_mut().remove(key).is_some(), "{key}");
    }
}

impl Store for Memory {
    async fn read(&self, key: &str) -> Result<Option<StoredObject>, StoreError> {
        self.refuse("read", key)?;
        let body = self.objects.borrow().get(key).cloned();
        let etag = String::new();
        Ok(body.map(|body| StoredObject {
            body,
            etag,
            modified: None,
        }))
    }

    async fn write(&self, _: &str, _: Vec<u8>, _: Condition<'_>) -> Result<String, StoreError> {
        panic!("pull writes nothing")
    }

    async fn delete(&self, _: &str) -> Result<(), StoreError> {
        panic!("pull deletes nothing")
    }

    async fn delete_matching(&self, _: &str, _: &str) -> Result<(), StoreError> {
        panic!("pull deletes nothing")
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ListedObject>, StoreError> {
        self.refuse("list", prefix)?;
        self.refuse("list", &format!("list {prefix}"))?;
        let objects = self.objects.borrow();
        let keys = objects.keys().filter(|key| key.starts_with(prefix));
        let entry = |key: &String| ListedObject {
            key: key.clone(),
            etag: String::new(),
        };
        Ok(keys.map(entry).collect())
    }
}

struct Issued {
    serial: String,
    chain: String,
    key: PrivateKey,
}

/// Issues a certificate that is valid between two instants, in days from now.
fn issue_for(serial: u8, from: i64, until: i64) -> Issued {
    issue_to(
        &["www.example.com", "shop.example.com"],
        serial,
        from,
        until,
    )
}

fn issue_to(names: &[&str], serial: u8, from: i64, until: i64) -> Issued {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let mut called = DistinguishedName::new();
    called.push(DnType::CommonName, "an authority");
    params.distinguished_name = called;
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();

    let key = PrivateKey::generate(KeyType::EcdsaP256).unwrap();
    let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.serial_number = Some(SerialNumber::from_slice(&[serial]));
    params.not_before = OffsetDateTime::now_utc() + from.days();
    params.not_after = OffsetDateTime::now_utc() + until.days();
    params.use_authority_key_identifier_extension = true;
    let pair = KeyPair::from_pem(&key.to_pem()).unwrap();
    let leaf = params.signed_by(&pair, &issuer).unwrap();
    Issued {
        serial: format!("{serial:02x}"),
        chain: format!("{}{}", leaf.pem(), issuer.pem()),
        key,
    }
}

/// The intermediate of another authority.
fn stranger() -> String {
    let authority = |name: &str| {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let mut called = DistinguishedName::new();
        called.push(DnType::CommonName, name);
        params.distinguished_name = called;
        params
    };
    let key = || KeyPair::generate().unwrap();
    let root = CertifiedIssuer::self_signed(authority("another root"), key()).unwrap();
    let between = CertifiedIssuer::signed_by(authority("another authority"), key(), &root);
    between.unwrap().pem()
}

fn issue(serial: u8) -> Issued {
    issue_for(serial, -1, 60)
}

fn name() -> CertificateName {
    "shop".parse().unwrap()
}

fn blog() -> CertificateName {
    "blog".parse().unwrap()
}

/// A directory that is not there yet, in one that goes with the test.
fn options(host: &TempDir, command: Option<&str>) -> PullOptions {
    PullOptions {
        name: name(),
        directory: host.path().join("tls"),
        command: command.map(str::to_owned),
        timeout: Duration::from_secs(20),
        owner: None,
        mode: "0600".parse().unwrap(),
        replace: false,
    }
}

/// In memory where that can be had: hundreds of deaths, and each thing done is synced.
fn host() -> TempDir {
    let memory = Path::new("/dev/shm");
    match memory.is_dir() {
        true => tempfile::tempdir_in(memory).unwrap(),
        false => tempfile::tempdir().unwrap(),
    }
}

/// Returns the serial of the set that the five names lead to, and asserts that they belong
/// together.
#[track_caller]
fn held(directory: &Path) -> String {
    let read = |name: &str| fs::read_to_string(directory.join(name)).unwrap();
    let [cert, chain, fullchain, privkey, bundle] = NAMES.map(read);
    assert_eq!(fullchain, format!("{cert}{chain}"));
    assert_eq!(bundle, format!("{privkey}{fullchain}"));
    serial_of(&fullchain, &privkey)
}

#[track_caller]
fn serial_of(chain: &str, key: &str) -> String {
    let chain = Chain::parse(chain).unwrap();
    let key = PrivateKey::from_pem(key).unwrap();
    let names = chain.leaf().names.clone();
    let now = chain.leaf().not_before;
    check_issued(&chain, &key, &names, now).unwrap();
    chain.leaf().serial.clone()
}

/// Returns what a command has written so far, a word for each run.
fn runs(host: &TempDir) -> String {
    let text = fs::read_to_string(host.path().join("runs")).unwrap_or_default();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

const NOTE: &str = "echo $CERTLOOP_SERIAL >> $CERTLOOP_DIRECTORY/../runs";

fn mode_of(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o7777
}

/// Returns the name of the certificate that a directory is for.
#[track_caller]
fn noted(directory: &Path) -> String {
    fs::read_to_string(directory.join(".certloop/name")).unwrap()
}

fn sets(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory.join(".certloop")).unwrap();
    let entries = entries.map(Result::unwrap);
    let sets = entries.filter(|entry| entry.file_type().unwrap().is_dir());
    let mut sets: Vec<_> = sets
        .map(|set| set.file_name().into_string().unwrap())
        .collect();
    sets.sort();
    sets
}

#[tokio::test]
async fn the_five_files_appear_change_and_stay() {
    let (host, store) = (host(), Memory::default());
    let options = options(&host, Some(NOTE));
    let directory = &options.directory;
    store.serve(&issue(1));

    let first = pull(&store, &options).await.unwrap();
    assert_eq!(first.outcome, Done::Changed);
    assert!(first.command_ran);
    assert_eq!(first.chosen, Chosen::State);
    assert_eq!(first.domains, ["shop.example.com", "www.example.com"]);
    assert_eq!(held(directory), "01");
    for (name, mode) in NAMES.into_iter().zip([0o644, 0o644, 0o644, 0o600, 0o600]) {
        assert_eq!(mode_of(&directory.join(name)), mode, "{name}");
    }
    assert_eq!(mode_of(directory), 0o755);

    let again = pull(&store, &options).await.unwrap();
    assert_eq!(again.outcome, Done::Unchanged);
    assert!(!again.command_ran);
    assert_eq!(runs(&host), "01");

    for serial in [2, 3, 4] {
        store.serve(&issue(serial));
        let next = pull(&store, &options).await.unwrap();
        assert_eq!(next.outcome, Done::Changed);
        assert_eq!(held(directory), next.serial);
    }
    assert_eq!(runs(&host), "01 02 03 04");
    // The one before stays for a program that is reading it.
    assert_eq!(sets(directory), ["03", "04"]);
}

#[tokio::test]
async fn the_command_is_told_which_certificate_it_is_and_prints_to_standard_error() {
    let (host, store) = (host(), Memory::default());
    let command = "env | grep ^CERTLOOP_ | sort > $CERTLOOP_DIRECTORY/../told; cat; echo printed";
    let options = options(&host, Some(command));
    store.serve(&issue(1));
    let outcome = pull(&store, &options).await.unwrap();

    let told = fs::read_to_string(host.path().join("told")).unwrap();
    let expected = format!(
        "CERTLOOP_DIRECTORY={}\nCERTLOOP_DOMAINS=shop.example.com www.example.com\nCERTLOOP_NAME=shop\n\
         CERTLOOP_NOT_AFTER={}\nCERTLOOP_SERIAL=01\n",
        options.directory.display(),
        outcome.not_after.format(&Rfc3339).unwrap(),
    );
    assert_eq!(told, expected);
}

#[tokio::test]
async fn a_rollback_is_followed_and_without_the_state_the_newest_is_taken() {
    let (host, mut store) = (host(), Memory::default());
    let options = options(&host, None);
    let (older, newer) = (issue_for(1, -9, 60), issue_for(2, -8, 60));
    store.keep(&newer);
    store.serve(&older);
    store.put("vault/shop/pending.json".to_owned(), b"{}".to_vec());
    let outcome = pull(&store, &options).await.unwrap();
    assert_eq!((&*outcome.serial, outcome.chosen), ("01", Chosen::State));

    store.denied = vec!["state/", "accounts/"];
    let outcome = pull(&store, &options).await.unwrap();
    assert_eq!((&*outcome.serial, outcome.chosen), ("02", Chosen::Newest));
    assert!(outcome.to_string().contains("a rollback is not followed"));
    assert_eq!(held(&options.directory), "02");

    store.denied = vec!["state/", "vault/"];
    let error = pull(&store, &options).await.unwrap_err();
    assert!(matches!(error, PullError::Denied { .. }), "{error}");
    assert!(error.to_string().contains("pull_policy_arns"), "{error}");
    assert_eq!(held(&options.directory), "02");
}

#[test]
fn a_bucket_that_does_not_exist_is_no_matter_of_permissions() {
    let missing = StoreError::Unavailable {
        verb: "read",
        key: "state/shop.json".to_owned(),
        reason: "GetObject: NoSuchBucket".to_owned(),
        person: true,
    };
    let told = PullError::NoBucket(missing).to_string();
    assert!(
        told.contains("--bucket") && !told.contains("policy"),
        "{told}"
    );
}

#[tokio::test]
async fn what_cannot_be_served_changes_nothing() {
    let (host, store) = (host(), Memory::default());
    let options = options(&host, Some(NOTE));
    store.serve(&issue(1));
    pull(&store, &options).await.unwrap();

    let (expired, early) = (issue_for(2, -9, -1), issue_for(3, 1, 9));
    let (mut other_key, mut backwards, mut renamed) = (issue(4), issue(5), issue(6));
    other_key.key = issue(4).key;
    backwards.chain = {
        let chain = Chain::parse(&backwards.chain).unwrap();
        format!("{}{}", chain.leaf_pem(), stranger())
    };
    renamed.serial = "aa".to_owned();
    for (bad, why) in [
        (&expired, "it was valid until"),
        (&early, "set the clock"),
        (&other_key, "another public key"),
        (&backwards, "other certificates than the issuer"),
        (&renamed, "has serial 06"),
    ] {
        store.serve(bad);
        let error = pull(&store, &options).await.unwrap_err();
        let told = error.to_string();
        assert!(told.contains(why), "{told}");
        assert!(told.contains(&format!("vault/shop/{}.json", bad.serial)));
        assert_eq!(held(&options.directory), "01");
        assert_eq!(sets(&options.directory), ["01"]);
    }
    store.lose("vault/shop/aa.json");
    let error = pull(&store, &options).await.unwrap_err();
    assert!(matches!(error, PullError::Lost { .. }), "{error}");
    for state in [
        &br#"{"version": 1}"#[..],
        br#"{"version": 1, "certificate": null}"#,
    ] {
        store.put(state_key(&name()), state.to_vec());
        let error = pull(&store, &options).await.unwrap_err();
        assert!(matches!(error, PullError::NoCertificate { .. }), "{error}");
    }
    for state in [&br#"{"version": 2, "certificate": null}"#[..], b"no"] {
        store.put(state_key(&name()), state.to_vec());
        let error = pull(&store, &options).await.unwrap_err();
        assert!(matches!(error, PullError::Store(_)), "{error}");
    }
    assert_eq!(held(&options.directory), "01");
    assert_eq!(runs(&host), "01");
}

#[tokio::test]
async fn a_command_that_fails_brings_the_old_files_back_and_is_run_on_them() {
    let (host, store) = (host(), Memory::default());
    let picky = format!("{NOTE}; test $CERTLOOP_SERIAL != 02");
    let options = options(&host, Some(&picky));
    store.serve(&issue(1));
    pull(&store, &options).await.unwrap();

    store.serve(&issue(2));
    for _ in 0..2 {
        let error = pull(&store, &options).await.unwrap_err();
        assert!(
            matches!(&error, PullError::Command { serial, after: After::Back(back, None), .. } if serial == "02" && back == "01"),
            "{error}"
        );
        assert_eq!(held(&options.directory), "01");
    }
    assert_eq!(runs(&host), "01 02 01 02 01");

    // Once somebody mends the command, the next pull runs it.
    let mended = PullOptions {
        command: Some(NOTE.to_owned()),
        ..options.clone()
    };
    let outcome = pull(&store, &mended).await.unwrap();
    assert_eq!(outcome.outcome, Done::Changed);
    assert_eq!(held(&options.directory), "02");
    let again = pull(&store, &mended).await.unwrap();
    assert_eq!(again.outcome, Done::Unchanged);
    assert_eq!(runs(&host), "01 02 01 02 01 02");
}

#[tokio::test]
async fn without_valid_old_files_the_new_ones_stay_and_the_command_is_repeated() {
    let (host, store) = (host(), Memory::default());
    let failing = options(&host, Some("exit 3"));
    let working = options(&host, Some(NOTE));
    store.serve(&issue(1));
    for _ in 0..2 {
        let error = pull(&store, &failing).await.unwrap_err();
        let told = error.to_string();
        assert!(told.contains("exit status: 3"), "{told}");
        assert!(told.contains("the new files stay"), "{told}");
        assert_eq!(held(&failing.directory), "01");
    }
    // Nor does one take the place of another that never worked.
    store.serve(&issue(2));
    pull(&store, &failing).await.unwrap_err();
    assert_eq!(held(&failing.directory), "02");

    let outcome = pull(&store, &working).await.unwrap();
    assert_eq!(outcome.outcome, Done::CommandRepeated);
    assert!(outcome.command_ran);
    assert_eq!(runs(&host), "02");
    let outcome = pull(&store, &working).await.unwrap();
    assert_eq!(outcome.outcome, Done::Unchanged);
    assert!(!outcome.command_ran);
}

#[tokio::test]
async fn an_expired_set_does_not_come_back() {
    let (host, store) = (host(), Memory::default());
    let failing = options(&host, Some("false"));
    store.serve(&issue_for(1, -9, 60));
    let now = OffsetDateTime::now_utc();
    let pulled = wanted::find(&store, &name(), now).await.unwrap();
    let working = options(&host, None);
    take_up(&store, &working, &pulled, now).await.unwrap();
    store.serve(&issue_for(2, -1, 90));
    let later = now + 61.days();
    let pulled = wanted::find(&store, &name(), later).await.unwrap();
    let pulled = take_up(&store, &failing, &pulled, later).await;
    let error = pulled.unwrap_err();
    assert!(error.to_string().contains("stay"), "{error}");
    assert_eq!(held(&failing.directory), "02");
}

#[tokio::test]
async fn a_command_that_hangs_is_stopped_with_all_it_started() {
    let (host, store) = (host(), Memory::default());
    let mut options = options(&host, None);
    store.serve(&issue(1));
    pull(&store, &options).await.unwrap();
    store.serve(&issue(2));
    options.timeout = Duration::from_millis(300);
    options.command = Some(
        "test $CERTLOOP_SERIAL = 01 || { sleep 60 & echo $! > $CERTLOOP_DIRECTORY/../child; wait; }"
            .to_owned(),
    );
    let error = pull(&store, &options).await.unwrap_err();
    assert!(
        error.to_string().contains("did not end within 0 s"),
        "{error}"
    );
    assert_eq!(held(&options.directory), "01");
    let child = fs::read_to_string(host.path().join("child")).unwrap();
    let child = Path::new("/proc").join(child.trim());
    let stat = fs::read_to_string(child.join("stat")).unwrap_or_default();
    assert!(stat.is_empty() || stat.contains(") Z "), "{stat}");
}

#[tokio::test]
async fn what_somebody_changed_is_put_right() {
    let (host, store) = (host(), Memory::default());
    let options = options(&host, Some(NOTE));
    let directory = &options.directory;
    store.serve(&issue(1));
    pull(&store, &options).await.unwrap();
    let key = directory.join("privkey.pem");
    let changes: [&dyn Fn(); 6] = [
        &|| fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap(),
        &|| fs::write(&key, "not a key").unwrap(),
        &|| fs::remove_file(&key).unwrap(),
        &|| {
            fs::remove_file(&key).unwrap();
            fs::write(&key, "another key").unwrap();
        },
        &|| fs::remove_file(directory.join(".certloop/current")).unwrap(),
        &|| fs::remove_dir_all(directory.join(".certloop")).unwrap(),
    ];
    for (number, change) in changes.iter().enumerate() {
        change();
        let outcome = pull(&store, &options).await.unwrap();
        assert_eq!(outcome.outcome, Done::Changed, "{number}");
        assert!(outcome.command_ran);
        assert_eq!(held(directory), "01", "{number}");
        assert_eq!(mode_of(&key), 0o600, "{number}");
        let outcome = pull(&store, &options).await.unwrap();
        assert_eq!(outcome.outcome, Done::Unchanged, "{number}");
    }
}

#[tokio::test]
async fn files_that_were_there_before_are_left_at_one_instant_and_can_come_back() {
    let (host, store) = (host(), Memory::default());
    let options = options(&host, Some("test $CERTLOOP_SERIAL = 01"));
    let directory = &options.directory;
    fs::create_dir(directory).unwrap();
    let before = issue(1);
    fs::write(directory.join("fullchain.pem"), &before.chain).unwrap();
    fs::write(directory.join("privkey.pem"), &*before.key.to_pem()).unwrap();
    store.serve(&issue(2));

    let error = pull(&store, &options).await.unwrap_err();
    assert!(
        matches!(&error, PullError::Command { after: After::Back(back, None), .. } if back == "01"),
        "{error}"
    );
    let read = |name: &str| fs::read_to_string(directory.join(name)).unwrap();
    assert_eq!(
        serial_of(&read("fullchain.pem"), &read("privkey.pem")),
        "01"
    );
    assert!(!directory.join("bundle.pem").exists());

    let working = PullOptions {
        command: None,
        ..options.clone()
    };
    pull(&store, &working).await.unwrap();
    assert_eq!(held(directory), "02");
}

#[tokio::test]
async fn nothing_of_anybody_elses_is_touched() {
    let store = Memory::default();
    store.serve(&issue(1));
    type Spot<'p> = (&'p str, &'p dyn Fn(&Path));
    let places: [Spot<'_>; 4] = [
        ("a link to ../elsewhere", &|directory| {
            symlink("../elsewhere", directory.join("cert.pem")).unwrap();
        }),
        ("a directory", &|directory| {
            fs::create_dir(directory.join("bundle.pem")).unwrap();
        }),
        ("a link to /nowhere", &|directory| {
            symlink("/nowhere", directory.join(".certloop")).unwrap();
        }),
        ("everybody may write", &|directory| {
            fs::set_permissions(directory, fs::Permissions::from_mode(0o777)).unwrap();
        }),
    ];
    for (told, put) in places {
        let host = host();
        let options = options(&host, None);
        fs::create_dir(&options.directory).unwrap();
        put(&options.directory);
        let error = pull(&store, &options).await.unwrap_err();
        assert!(error.to_string().contains(told), "{error}");
        assert!(!options.directory.join("privkey.pem").exists());
    }
}

#[tokio::test]
async fn only_one_works_on_a_directory() {
    let (host, store) = (host(), Memory::default());
    let options = options(&host, None);
    store.serve(&issue(1));
    let held = Directory::open(&options.directory).unwrap();
    let error = pull(&store, &options).await.unwrap_err();
    assert!(matches!(error, PullError::Busy { .. }), "{error}");
    drop(held);
    pull(&store, &options).await.unwrap();
}

/// A host that follows a bucket to the certificate 02, which is then restored as it was with 01.
async fn restored(host: &TempDir, newer: &Issued) -> (Memory, PullOptions) {
    let (store, options) = (Memory::default(), options(host, Some(NOTE)));
    store.serve(&issue_for(1, -9, 30));
    let backup = store.objects.borrow().clone();
    store.serve(newer);
    pull(&store, &options).await.unwrap();
    assert_eq!(held(&options.directory), "02");
    store.objects.replace(backup);
    (store, options)
}

/// Returns what there is in a directory: names, and when each was changed last.
fn traces(directory: &Path) -> BTreeMap<String, (i64, i64)> {
    let mut traces = BTreeMap::new();
    for place in [".", ".certloop", ".certloop/02"] {
        for entry in fs::read_dir(directory.join(place)).unwrap() {
            let entry = entry.unwrap();
            let at = entry.path().symlink_metadata().unwrap();
            let path = entry.path().display().to_string();
            traces.insert(path, (at.ctime(), at.ctime_nsec()));
        }
    }
    traces
}

#[tokio::test]
async fn a_restored_bucket_takes_no_newer_certificate_away() {
    let host = host();
    let newer = issue_for(2, -1, 60);
    let (store, options) = restored(&host, &newer).await;
    let before = traces(&options.directory);
    for _ in 0..2 {
        let error = pull(&store, &options).await.unwrap_err();
        assert!(matches!(error, PullError::Newer { .. }), "{error}");
        let told = error.to_string();
        let ends =
            [30, 60].map(|days| (OffsetDateTime::now_utc() + days.days()).date().to_string());
        for word in ["01", "02", &*ends[0], &*ends[1], "restored", "--replace"] {
            assert!(told.contains(word), "{word}: {told}");
        }
        assert_eq!(held(&options.directory), "02");
        assert_eq!(runs(&host), "02");
    }
    assert_eq!(traces(&options.directory), before);

    store.serve(&issue_for(3, 0, 60));
    let outcome = pull(&store, &options).await.unwrap();
    assert_eq!(outcome.outcome, Done::Changed);
    assert_eq!(held(&options.directory), "03");
    assert_eq!(runs(&host), "02 03");
}

#[tokio::test]
async fn a_certificate_that_stays_still_gets_its_command() {
    let host = host();
    let (store, working) = restored(&host, &issue_for(2, -1, 60)).await;
    fs::remove_dir_all(&working.directory).unwrap();
    let backup = store.objects.borrow().clone();
    store.serve(&issue_for(2, -1, 60));
    let failing = PullOptions {
        command: Some("false".to_owned()),
        ..working.clone()
    };
    pull(&store, &failing).await.unwrap_err();
    store.objects.replace(backup);

    fs::remove_file(host.path().join("runs")).unwrap();
    let error = pull(&store, &failing).await.unwrap_err();
    assert!(
        matches!(&error, PullError::Command { serial, after: After::Stays, .. } if serial == "02"),
        "{error}"
    );
    for _ in 0..2 {
        let error = pull(&store, &working).await.unwrap_err();
        assert!(matches!(error, PullError::Newer { .. }), "{error}");
        assert_eq!(runs(&host), "02");
        assert_eq!(held(&working.directory), "02");
    }
}

#[tokio::test]
async fn an_older_certificate_is_taken_where_the_bucket_knows_the_newer_one() {
    let newer = issue_for(2, -1, 60);
    let knows = [
        json!({"previous": "02"}),
        json!({"previousHeld": {"serial": "02"}}),
        json!({"rolledBack": {"from": "02", "at": "2026-01-01T00:00:00Z"}}),
        json!({"revoked": {"02": {"at": "2026-01-01T00:00:00Z"}}}),
        json!({"revoking": [{"serial": "02"}]}),
        json!({"leftovers": {"serials": ["02"]}}),
        // As the certificate manager writes it.
        json!({"previous": "2"}),
    ];
    for state in knows {
        let host = host();
        let (store, options) = restored(&host, &newer).await;
        store.say(&name(), "01", state.clone());
        let outcome = pull(&store, &options).await.unwrap();
        assert_eq!(outcome.outcome, Done::Changed, "{state}");
        assert_eq!(held(&options.directory), "01", "{state}");
        assert_eq!(runs(&host), "02 01");
    }
    // The vault knows it, and the state says nothing of it.
    let host = host();
    let (store, options) = restored(&host, &newer).await;
    store.keep(&newer);
    pull(&store, &options).await.unwrap();
    assert_eq!(held(&options.directory), "01");
}

#[tokio::test]
async fn what_was_only_seen_elsewhere_or_is_not_understood_makes_nothing_known() {
    let states = [
        json!({"served": {"serial": "02"}, "targets": [{"serial": "02"}]}),
        json!({"imports": {"eu-central-1": {"serial": "02"}}, "history": [{"detail": "02"}]}),
        json!({"previous": null, "revoked": [], "revoking": {}, "leftovers": 2, "rolledBack": 7}),
        json!({"previous": "020", "revoking": [{}, 2, {"serial": 2}]}),
    ];
    for state in states {
        let host = host();
        let (store, options) = restored(&host, &issue_for(2, -1, 60)).await;
        store.say(&name(), "01", state.clone());
        let error = pull(&store, &options).await.unwrap_err();
        assert!(matches!(error, PullError::Newer { .. }), "{state}: {error}");
        assert_eq!(held(&options.directory), "02");
    }
}

#[tokio::test]
async fn where_the_vault_cannot_be_listed_the_files_stay_until_it_can() {
    let host = host();
    let (mut store, options) = restored(&host, &issue_for(2, -1, 60)).await;
    // Its entries may be read, the list may not.
    store.denied = vec!["list vault/"];
    let error = pull(&store, &options).await.unwrap_err();
    assert!(matches!(error, PullError::Store(_)), "{error}");
    assert_eq!(held(&options.directory), "02");
    // What the state knows needs no list.
    store.say(&name(), "01", json!({"previous": "02"}));
    pull(&store, &options).await.unwrap();
    assert_eq!(held(&options.directory), "01");
}

#[tokio::test]
async fn a_host_with_the_vault_alone_goes_by_the_vault() {
    let host = host();
    let newer = issue_for(2, -1, 60);
    let (mut store, options) = restored(&host, &newer).await;
    store.say(&name(), "01", json!({"previous": "02"}));
    store.denied = vec!["state/"];
    let error = pull(&store, &options).await.unwrap_err();
    assert!(matches!(error, PullError::Newer { .. }), "{error}");
    assert_eq!(held(&options.directory), "02");

    store.keep(&newer);
    let outcome = pull(&store, &options).await.unwrap();
    assert_eq!(
        (outcome.outcome, outcome.chosen),
        (Done::Unchanged, Chosen::Newest)
    );
    store.lose("vault/shop/02.json");
    store.keep(&issue_for(3, 0, 60));
    pull(&store, &options).await.unwrap();
    assert_eq!(held(&options.directory), "03");
}

#[tokio::test]
async fn a_set_stays_only_where_it_serves_all_that_the_wanted_one_does() {
    let both = ["www.example.com", "shop.example.com"];
    let cases: [(&str, Issued, bool); 6] = [
        ("it lacks a name", issue_to(&both[..1], 2, -1, 60), false),
        ("it has ended", issue_to(&both, 2, -5, -1), false),
        ("it ends before", issue_to(&both, 2, -1, 20), false),
        ("it begins before", issue_to(&both, 2, -10, 60), false),
        (
            "it has more names",
            issue_to(&[both[0], both[1], "example.org"], 2, -1, 60),
            true,
        ),
        (
            "a wildcard serves both",
            issue_to(&["*.example.com"], 2, -1, 60),
            true,
        ),
    ];
    for (case, newer, stays) in cases {
        let host = host();
        let store = Memory::default();
        let options = options(&host, None);
        store.serve(&newer);
        // The clock of then: what has ended was pulled before that.
        let now = OffsetDateTime::now_utc();
        let then = now - 1.days() - 1.hours();
        let then = if case == "it has ended" { then } else { now };
        let wanted = wanted::find(&store, &name(), then).await.unwrap();
        take_up(&store, &options, &wanted, then).await.unwrap();
        store.lose("vault/shop/02.json");
        store.serve(&issue_for(1, -9, 30));
        let pulled = pull(&store, &options).await;
        match stays {
            true => assert!(
                matches!(pulled, Err(PullError::Newer { .. })),
                "{case}: {pulled:?}"
            ),
            false => assert_eq!(pulled.unwrap().outcome, Done::Changed, "{case}"),
        }
        let serial = if stays { "02" } else { "01" };
        assert_eq!(held(&options.directory), serial, "{case}");
    }
}

#[tokio::test]
async fn a_set_that_no_server_could_serve_keeps_nothing_out() {
    type Harm<'h> = (&'h str, &'h dyn Fn(&Path));
    let harms: [Harm<'_>; 4] = [
        ("no set", &|inner| {
            fs::remove_dir_all(inner.join("02")).unwrap()
        }),
        ("no link", &|inner| {
            fs::remove_file(inner.join("current")).unwrap()
        }),
        ("no certificate", &|inner| {
            for name in NAMES {
                fs::write(inner.join("02").join(name), "nothing").unwrap();
            }
        }),
        ("another key", &|inner| {
            let key = issue(9).key.to_pem();
            fs::write(inner.join("02/privkey.pem"), &*key).unwrap();
            fs::write(inner.join("02/bundle.pem"), &*key).unwrap();
        }),
    ];
    for (case, harm) in harms {
        let host = host();
        let (store, options) = restored(&host, &issue_for(2, -1, 60)).await;
        harm(&options.directory.join(".certloop"));
        let outcome = pull(&store, &options).await.unwrap();
        assert_eq!(outcome.outcome, Done::Changed, "{case}");
        assert_eq!(held(&options.directory), "01", "{case}");
    }
    // What is left of it is enough.
    let host = host();
    let (store, options) = restored(&host, &issue_for(2, -1, 60)).await;
    fs::write(options.directory.join("privkey.pem"), "nothing").unwrap();
    let error = pull(&store, &options).await.unwrap_err();
    assert!(matches!(error, PullError::Newer { .. }), "{error}");
    assert_eq!(held(&options.directory), "02");
    assert_eq!(runs(&host), "02 02");
}

#[tokio::test]
async fn replace_takes_the_certificate_of_the_bucket() {
    let host = host();
    let (store, options) = restored(&host, &issue_for(2, -1, 60)).await;
    let replacing = PullOptions {
        replace: true,
        ..options.clone()
    };
    let outcome = pull(&store, &replacing).await.unwrap();
    assert_eq!(outcome.outcome, Done::Changed);
    assert_eq!(held(&options.directory), "01");
    let outcome = pull(&store, &options).await.unwrap();
    assert_eq!(outcome.outcome, Done::Unchanged);
    assert_eq!(runs(&host), "02 01");
}

#[tokio::test]
async fn what_was_adopted_stays_where_it_is_held_and_the_one_before_serves_elsewhere() {
    let host = host();
    let (store, options) = restored(&host, &issue_for(2, -1, 60)).await;
    store.say(&name(), "02", json!({"previous": "01"}));
    let outcome = pull(&store, &options).await.unwrap();
    assert_eq!(outcome.outcome, Done::Unchanged);
    assert_eq!((&*outcome.serial, outcome.chosen), ("02", Chosen::State));
    assert_eq!(runs(&host), "02");
    // What somebody changed is put right from what is left.
    fs::remove_file(options.directory.join("privkey.pem")).unwrap();
    let outcome = pull(&store, &options).await.unwrap();
    assert_eq!(outcome.outcome, Done::Changed);
    assert_eq!(held(&options.directory), "02");

    let elsewhere = PullOptions {
        directory: host.path().join("elsewhere"),
        ..options.clone()
    };
    let lost = async |options: &PullOptions| {
        let error = pull(&store, options).await.unwrap_err();
        assert!(matches!(error, PullError::Lost { .. }), "{error}");
        let told = error.to_string();
        for words in [
            "vault/shop/02.json",
            "nowhere in the bucket",
            "next renewal",
        ] {
            assert!(told.contains(words), "{told}");
        }
    };
    // One that must not be served again is no way out.
    for why in [
        json!({}),
        json!({"previous": "03"}),
        json!({"previous": "01", "revoked": {"01": {}}}),
        json!({"previous": "01", "revoking": [{"serial": "01"}]}),
        json!({"previous": "01", "previousHeld": {"revokedAt": "2026-01-01T00:00:00Z"}}),
        json!({"previous": "01", "rolledBack": {"from": "01"}}),
    ] {
        store.say(&name(), "02", why);
        lost(&elsewhere).await;
        assert!(!elsewhere.directory.exists());
    }

    store.say(&name(), "02", json!({"previous": "01"}));
    for expected in [Done::Changed, Done::Unchanged] {
        let outcome = pull(&store, &elsewhere).await.unwrap();
        assert_eq!((&*outcome.serial, outcome.chosen), ("01", Chosen::Before));
        assert_eq!(outcome.outcome, expected);
        assert!(outcome.to_string().contains("nowhere in the bucket"));
        assert_eq!(held(&elsewhere.directory), "01");
    }
    // It takes no newer one away.
    store.serve(&issue_for(3, -2, 50));
    pull(&store, &elsewhere).await.unwrap();
    store.say(&name(), "02", json!({"previous": "01"}));
    lost(&elsewhere).await;
    assert_eq!(held(&elsewhere.directory), "03");

    store.say(&name(), "02", json!({}));
    let wanted = wanted::find(&store, &name(), OffsetDateTime::now_utc()).await;
    let later = OffsetDateTime::now_utc() + 61.days();
    let pulled = take_up(&store, &options, &wanted.unwrap(), later).await;
    assert!(matches!(pulled, Err(PullError::Lost { .. })), "{pulled:?}");
}

#[tokio::test]
async fn a_directory_is_for_one_certificate_until_it_is_taken_over() {
    let host = host();
    let store = Memory::default();
    let shop = options(&host, Some(NOTE));
    let blog = PullOptions {
        name: blog(),
        ..shop.clone()
    };
    store.serve(&issue(1));
    // The same names: it is the document that counts.
    store.serve_as(&blog.name, &issue(2));
    pull(&store, &shop).await.unwrap();
    assert_eq!(noted(&shop.directory), "shop");

    let error = pull(&store, &blog).await.unwrap_err();
    let is_refused = matches!(error, PullError::AnotherCertificate { .. });
    assert!(is_refused, "{error}");
    let told = error.to_string();
    for word in ["shop", "blog", "--replace"] {
        assert!(told.contains(word), "{told}");
    }
    assert_eq!(held(&shop.directory), "01");
    assert_eq!(noted(&shop.directory), "shop");

    let replacing = PullOptions {
        replace: true,
        ..blog.clone()
    };
    pull(&store, &replacing).await.unwrap();
    assert_eq!(held(&shop.directory), "02");
    assert_eq!(noted(&shop.directory), "blog");
    let outcome = pull(&store, &blog).await.unwrap();
    assert_eq!(outcome.outcome, Done::Unchanged);
    let error = pull(&store, &shop).await.unwrap_err();
    let is_refused = matches!(error, PullError::AnotherCertificate { .. });
    assert!(is_refused, "{error}");
    assert_eq!(runs(&host), "01 02");
}

#[tokio::test]
async fn a_directory_without_a_name_is_judged_by_its_certificate() {
    let host = host();
    let store = Memory::default();
    let shop = options(&host, None);
    let blog = PullOptions {
        name: blog(),
        ..shop.clone()
    };
    let note = shop.directory.join(".certloop/name");
    store.serve(&issue(1));
    store.serve_as(&blog.name, &issue_to(&["blog.example.org"], 2, 0, 60));
    pull(&store, &shop).await.unwrap();

    for text in [None, Some("no name, but two words")] {
        match text {
            None => fs::remove_file(&note).unwrap(),
            Some(text) => fs::write(&note, text).unwrap(),
        }
        let error = pull(&store, &blog).await.unwrap_err();
        let told = error.to_string();
        let is_refused = matches!(error, PullError::AnotherCertificate { .. });
        assert!(is_refused && told.contains("shop.example.com"), "{told}");
        assert_eq!(held(&shop.directory), "01");
        // Its own certificate has the name written down.
        let outcome = pull(&store, &shop).await.unwrap();
        assert_eq!(outcome.outcome, Done::Unchanged);
        assert_eq!(noted(&shop.directory), "shop");
    }

    fs::remove_file(&note).unwrap();
    let names = ["*.example.com", "example.com"];
    store.serve(&issue_to(&names, 3, 0, 60));
    pull(&store, &shop).await.unwrap();
    assert_eq!(held(&shop.directory), "03");

    // With its name written down all its names may change.
    store.serve(&issue_to(&["example.net"], 4, 0, 60));
    pull(&store, &shop).await.unwrap();
    assert_eq!(held(&shop.directory), "04");
}

#[tokio::test]
async fn files_of_before_are_nobodys_and_keep_nothing_out() {
    let host = host();
    let store = Memory::default();
    let options = options(&host, Some("test $CERTLOOP_SERIAL = 01"));
    let directory = &options.directory;
    for names in [&["mail.example.org"][..], &["*.example.com"]] {
        let before = issue_to(names, 1, 0, 90);
        fs::create_dir(directory).unwrap();
        fs::write(directory.join("fullchain.pem"), &before.chain).unwrap();
        fs::write(directory.join("privkey.pem"), &*before.key.to_pem()).unwrap();
        store.serve(&issue(2));
        for _ in 0..2 {
            // The files of before come back.
            let error = pull(&store, &options).await.unwrap_err();
            assert!(matches!(error, PullError::Command { .. }), "{error}");
            // As an older build left it.
            fs::remove_file(directory.join(".certloop/name")).unwrap();
        }
        let working = PullOptions {
            command: None,
            ..options.clone()
        };
        pull(&store, &working).await.unwrap();
        assert_eq!(held(directory), "02");
        fs::remove_dir_all(directory).unwrap();
    }
}

/// Dies at each thing that is done to the disk. Readers see one whole set, and the next run ends
/// where the first would have ended.
#[tokio::test]
async fn a_death_at_any_step_leaves_one_set_and_the_next_run_repairs() {
    let (first, second) = (issue(1), issue(2));
    let mut deaths = 0;
    for (case, adopted, command) in [
        ("a first time", false, Some(NOTE)),
        ("a change", false, Some(NOTE)),
        ("a change without a command", false, None),
        ("files from before", true, Some(NOTE)),
        (
            "a command that fails",
            false,
            Some("test $CERTLOOP_SERIAL = 01"),
        ),
        ("another certificate's directory", false, Some(NOTE)),
        ("a directory without a name", false, Some(NOTE)),
    ] {
        for life in 0.. {
            let (host, store) = (host(), Memory::default());
            let options = PullOptions {
                replace: case == "another certificate's directory",
                ..options(&host, command)
            };
            let directory = &options.directory;
            let begun = case != "a first time";
            if adopted {
                fs::create_dir(directory).unwrap();
                fs::write(directory.join("fullchain.pem"), &first.chain).unwrap();
                fs::write(directory.join("privkey.pem"), &*first.key.to_pem()).unwrap();
            } else if begun {
                let quiet = PullOptions {
                    name: if options.replace { blog() } else { name() },
                    command: None,
                    ..options.clone()
                };
                store.serve_as(&quiet.name, &first);
                pull(&store, &quiet).await.unwrap();
            }
            if case == "a directory without a name" {
                fs::remove_file(directory.join(".certloop/name")).unwrap();
            }
            store.serve(&second);

            LIFE.set(Some(life));
            let outcome = pull(&store, &options).await;
            LIFE.set(None);

            let died = matches!(
                &outcome,
                Err(PullError::Files {
                    doing: "outlive",
                    ..
                })
            );
            let told = format!("{case}, dead after {life}: {outcome:?}");
            let there = |name: &str| fs::read_to_string(directory.join(name));
            if adopted && there("bundle.pem").is_err() {
                let [chain, key] =
                    ["fullchain.pem", "privkey.pem"].map(|name| there(name).unwrap());
                serial_of(&chain, &key);
            } else if begun {
                held(directory);
            } else {
                // Nothing was there, so there may be less than five, but not of two.
                for name in NAMES {
                    assert!(there(name).is_ok() || died, "{told}: {name}");
                }
            }
            let counts = fs::read_link(directory.join(".certloop/current"));
            if counts.is_ok_and(|set| set == Path::new("02")) {
                assert_eq!(noted(directory), "shop", "{told}");
            }
            for entry in fs::read_dir(directory).into_iter().flatten() {
                let path = entry.unwrap().path();
                let secret = path.ends_with("privkey.pem") || path.ends_with("bundle.pem");
                let ours = fs::read_link(&path).is_ok();
                if secret && ours && path.exists() && !adopted {
                    assert_eq!(mode_of(&path), 0o600, "{told}");
                }
            }

            let ran = runs(&host).matches("02").count();
            let repaired = pull(&store, &options).await;
            match case {
                "a command that fails" => {
                    assert!(matches!(repaired, Err(PullError::Command { .. })), "{told}");
                    assert_eq!(held(directory), "01", "{told}");
                }
                _ => {
                    repaired.unwrap();
                    assert_eq!(held(directory), "02", "{told}");
                    // Never the new files without the command having seen them.
                    let runs = runs(&host).matches("02").count();
                    assert!(command.is_none() || runs >= 1, "{told}");
                    assert!(runs <= ran + 1, "{told}");
                }
            }
            if !died {
                assert!(life > 20, "{told}");
                break;
            }
            deaths += 1;
        }
    }
    assert!(deaths > 150, "{deaths}");
}

/// A program that goes to the set once, as a shell with `cd` does, reads one certificate's files.
/// So does a program that reads the bundle.
#[test]
fn a_reader_never_sees_two_certificates() {
    let (host, store) = (host(), Memory::default());
    let options = options(&host, None);
    let issued = [issue(1), issue(2)];
    let pull = || {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        runtime.unwrap().block_on(pull(&store, &options)).unwrap()
    };
    store.serve(&issued[1]);
    pull();
    let (ended, looks) = (AtomicBool::new(false), AtomicU32::new(0));
    let directory = options.directory.clone();
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            while !ended.load(Ordering::Relaxed) {
                let bundle = fs::read_to_string(directory.join("bundle.pem")).unwrap();
                serial_of(&bundle, &bundle);
                let set = fs::canonicalize(directory.join(".certloop/current")).unwrap();
                let read = |name: &str| fs::read_to_string(set.join(name)).unwrap();
                serial_of(&read("fullchain.pem"), &read("privkey.pem"));
                looks.fetch_add(1, Ordering::Relaxed);
            }
        });
        for round in 0..200 {
            store.serve(&issued[round % 2]);
            let changed = pull().outcome == Done::Changed;
            // The set before stays for a look that has begun, but not for two changes.
            let seen = looks.load(Ordering::Relaxed);
            while looks.load(Ordering::Relaxed) == seen && !reader.is_finished() {
                std::thread::yield_now();
            }
            if !changed || reader.is_finished() {
                ended.store(true, Ordering::Relaxed);
                panic!("round {round}: changed {changed}");
            }
        }
        ended.store(true, Ordering::Relaxed);
        reader.join().unwrap();
    });
}

#[test]
fn owners_and_modes_are_read_or_refused_in_words() {
    let owner = |text: &str| text.parse::<Owner>();
    let root = Owner {
        user: Some(0),
        group: None,
    };
    assert_eq!(owner("root"), Ok(root));
    assert_eq!(owner("0"), Ok(root));
    let group = Some(0);
    assert_eq!(owner("root:root"), Ok(Owner { group, ..root }));
    assert_eq!(owner(":root"), Ok(Owner { user: None, group }));
    for bad in [
        "nobody-of-that-name",
        "root:nobody-of-that-name",
        "",
        ":",
        "root:",
    ] {
        assert!(owner(bad).unwrap_err().starts_with("there is no "), "{bad}");
    }
    for (good, bits) in [
        ("0600", 0o600),
        ("640", 0o640),
        ("0440", 0o440),
        ("400", 0o400),
    ] {
        assert_eq!(good.parse::<Mode>().map(Mode::bits), Ok(bits));
    }
    for bad in ["0644", "0604", "0700", "4600", "0200", "0", "rw", ""] {
        assert!(bad.parse::<Mode>().is_err(), "{bad}");
    }
}

#[tokio::test]
async fn a_certificate_that_failed_is_left_alone_for_longer_and_longer() {
    let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
    let failed = |serial: &str| {
        Err(PullError::Command {
            failure: CommandFailure::TooLong(minutes(2)),
            serial: serial.to_owned(),
            after: After::Stays,
        })
    };
    let (mut failures, every, mut now) = (Failures::default(), minutes(60), Instant::now());
    // A restored bucket wants 01, and the directory keeps the newer 02.
    let kept = failed("02");
    for expected in [5, 10, 20, 40, 60, 60] {
        let wait = failures.after("01", Some(&kept), every, now);
        assert_eq!(wait, minutes(expected));
        assert!(failures.waits("01", now + minutes(expected) - minutes(1)));
        assert!(!failures.waits("02", now));
        now += minutes(24 * 60);
        assert!(!failures.waits("01", now));
    }
    // While it is left alone others are looked for as often as ever, and begin anew.
    failures.after("01", Some(&failed("01")), every, now);
    assert_eq!(failures.after("02", None, every, now), every);
    let wait = failures.after("02", Some(&failed("02")), every, now);
    assert_eq!(wait, minutes(5));

    let unheard = || Err(PullError::NoCertificate { name: name() });
    let mut failures = Failures::default();
    for expected in [1, 2, 4, 8, 16, 32, 60, 60] {
        let wait = failures.after("", Some(&unheard()), every, now);
        assert_eq!(wait, minutes(expected));
    }
}

#[test]
fn no_error_tells_anything_of_a_key() {
    let issued = issue(1);
    let key = issued.key.to_pem();
    let secret = key.lines().nth(1).unwrap();
    let store = Memory::default();
    let entry =
        json!({"version": 1, "writeId": "", "serial": "01", "chain": "x", "privateKey": *key});
    store.serve(&issued);
    store.put(
        "vault/shop/01.json".to_owned(),
        entry.to_string().into_bytes(),
    );
    let host = host();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let pulled = runtime.block_on(pull(&store, &options(&host, None)));
    let error = pulled.unwrap_err();
    assert!(!format!("{error} {error:?}").contains(secret), "{error}");
}

//! Every crash: each operation of a publisher on its store fails, or is the last one that it does,
//! in a run of its own. After each, what is served is right, and the next run heals what is left.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use futures::FutureExt;
use jiff::Timestamp;
use object_store::memory::InMemory;
use object_store::path::Path as Key;
use object_store::{ObjectStore, ObjectStoreExt};
use publish::config;
use publish::image::Image;
use publish::name::{Folder, Sha256};
use publish::report::Progress;
use publish::repository::Published;
use publish::repository::commit::{self, Change, CommitError, Record};
use publish::repository::derived::DerivedFile;
use publish::sign::key::Kind;
use publish::sign::{Signer, SigningKey};
use publish::store::{Access, Store};
use publish::sync::{self, Run};
use tempfile::TempDir;
use tokio::sync::Notify;

use crate::objects::{Gate, Turn, gated};
use crate::pack::noise;
use crate::repo::{Repo, listed, until};
use crate::web::sha256;

/// To have read something and not to have read it leave the same behind.
fn ways(operation: &str) -> &'static [Turn] {
    let reads = ["get ", "list "].iter().any(|read| operation.starts_with(read));
    if reads {
        &[Turn::Fail, Turn::Die]
    } else {
        &[Turn::Fail, Turn::Die, Turn::Lose, Turn::DieAfter]
    }
}

/// A store before the run, in as many copies as there are ways to break it.
enum Before {
    Bucket(InMemory),
    Directory(TempDir),
}

/// One copy.
enum Copied {
    Bucket(InMemory),
    Directory(TempDir),
}

impl Before {
    fn copy(&self) -> Copied {
        match self {
            Self::Bucket(objects) => Copied::Bucket(objects.fork()),
            Self::Directory(folder) => {
                let copy = tempfile::Builder::new().prefix("publish-it-").tempdir().unwrap();
                copy_all(folder.path(), copy.path());
                Copied::Directory(copy)
            }
        }
    }
}

fn copy_all(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            fs::create_dir(&to).unwrap();
            copy_all(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

impl Copied {
    fn store(&self) -> Store {
        match self {
            Self::Bucket(objects) => Store::with_objects(Arc::new(objects.clone())),
            Self::Directory(folder) => Store::directory(folder.path(), Access::Write).unwrap(),
        }
    }

    /// What a client may take: name → digest, each of a file that is there and has it.
    async fn served(&self, folder: &str) -> Vec<String> {
        match self {
            Self::Directory(root) => {
                let folder = root.path().join(folder);
                if folder.join("SHA256SUMS").exists() { listed(&folder) } else { Vec::new() }
            }
            Self::Bucket(objects) => served(objects, folder).await,
        }
    }
}

/// The names in a manifest, each of an object that is there and has the digest.
pub async fn served(objects: &dyn ObjectStore, folder: &str) -> Vec<String> {
    let get = async |name: &str| {
        let found = objects.get(&Key::from(format!("{folder}/{name}"))).await?;
        found.bytes().await
    };
    let text = match get("SHA256SUMS").await {
        Ok(bytes) => String::from_utf8(bytes.to_vec()).unwrap(),
        Err(object_store::Error::NotFound { .. }) => return Vec::new(),
        Err(error) => panic!("{error}"),
    };
    let mut names = Vec::new();
    for line in text.lines() {
        let (digest, name) = line.split_once("  ").expect("a line");
        let bytes = get(name).await.unwrap_or_else(|error| panic!("{name} is listed: {error}"));
        assert_eq!(sha256(&bytes), digest, "{name} is not what the manifest says");
        names.push(name.to_owned());
    }
    names
}

/// Whether both signatures of a folder are right, and one and the same.
pub async fn is_signed(store: &Store, folder: &str, signer: &Signer) -> bool {
    let published = Published::read(store, &folder.parse().unwrap()).await.unwrap();
    let signatures: Vec<_> = published.signatures().map(|(_, bytes)| bytes).collect();
    let served = published.served().unwrap_or_default();
    signer.vouches(served, signatures[0], signatures[1], Timestamp::now())
}

/// Lets everything pass but the operation of this number.
struct Breaker {
    at: usize,
    way: Turn,
    count: AtomicUsize,
    seen: Mutex<Vec<String>>,
    dead: Notify,
}

impl Breaker {
    fn new(at: usize, way: Turn) -> Arc<Self> {
        Arc::new(Self { at, way, count: 0.into(), seen: Mutex::default(), dead: Notify::new() })
    }

    fn gate(self: &Arc<Self>) -> Gate {
        let this = self.clone();
        Arc::new(move |what, path| {
            let number = this.count.fetch_add(1, Ordering::SeqCst);
            this.seen.lock().unwrap().push(format!("{what} {path}"));
            let dies = matches!(this.way, Turn::Die | Turn::DieAfter);
            let turn = match number {
                number if number == this.at => this.way,
                // Nobody does anything after his death.
                number if number > this.at && dies => Turn::Die,
                _ => Turn::Go,
            };
            if dies && number >= this.at {
                this.dead.notify_one();
            }
            futures::future::ready(turn).boxed()
        })
    }

    /// Runs until it ends, or until it is dead.
    fn run(&self, work: impl Future<Output = ()>) {
        alone(async {
            let dead = async {
                self.dead.notified().await;
                // What is done last gets done.
                for _ in 0..50 {
                    tokio::task::yield_now().await;
                }
            };
            tokio::select! { () = work => {}, () = dead => {} }
        });
    }
}

/// Runs something in a runtime of its own, which ends with all that it still does on its threads:
/// the dead do nothing after their death.
fn alone<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(work)
}

/// Breaks each operation of `work` in each way; `heal` then runs on the same store, unbroken, and
/// must lead to `wanted` in each of the folders. Lines that are served before stay, but for those
/// that are to go.
fn break_everywhere(
    name: &str,
    before: &Before,
    wanted: &BTreeMap<&str, Vec<String>>,
    goes: &[&str],
    work: impl AsyncFn(Store),
    heal: impl AsyncFn(Store),
) {
    let started = Instant::now();
    let whole = Breaker::new(usize::MAX, Turn::Go);
    let copy = before.copy();
    let gate = whole.gate();
    alone(work(copy.store().through(move |objects| gated(objects, gate.clone()))));
    for (folder, names) in wanted {
        assert_eq!(alone(copy.served(folder)), *names, "unbroken");
    }
    let points = whole.count.load(Ordering::SeqCst);
    let mut old = BTreeMap::new();
    for folder in wanted.keys() {
        old.insert(*folder, alone(before.copy().served(folder)));
    }
    let operations = whole.seen.lock().unwrap().clone();
    let mut runs = 0;
    for (at, operation) in operations.iter().enumerate() {
        for &way in ways(operation) {
            runs += 1;
            let breaker = Breaker::new(at, way);
            let copy = before.copy();
            let gate = breaker.gate();
            let store = copy.store().through(move |objects| gated(objects, gate.clone()));
            breaker.run(work(store));
            let what = breaker.seen.lock().unwrap().get(at).cloned().unwrap_or_default();
            for (folder, before) in &old {
                let now = alone(copy.served(folder));
                let stays = |name: &&String| !goes.contains(&name.as_str());
                let lost = before.iter().filter(stays).find(|name| !now.contains(name));
                assert_eq!(lost, None, "{name}: {way:?} at {at}, {what}");
            }
            alone(heal(copy.store()));
            for (folder, names) in wanted {
                let now = alone(copy.served(folder));
                assert_eq!(now, *names, "{name}: {way:?} at {at}, {what}");
            }
        }
    }
    assert!(points > 5, "{points} points are no sync");
    let took = started.elapsed().as_secs_f32();
    eprintln!("{name}: {points} operations, broken in {runs} ways, in {took:.1} s");
}

/// Two components, of which one is published already, and a new version of each.
fn scene() -> (Repo, BTreeMap<&'static str, Vec<String>>) {
    let repo = Repo::with("[signing]\nkey = { file = \"signing.key\" }\n");
    let key = SigningKey::generate(Kind::Ed25519, "Test <test@example.com>", Timestamp::now());
    repo.write("signing.key", &*key.unwrap());
    for name in ["x", "y"] {
        repo.simple(name);
    }
    repo.release("x", "1.0", "one");
    let file = |name: &str, version: &str| format!("{name}-{version}-x86-64.raw");
    let wanted = BTreeMap::from([
        ("x", vec![file("x", "1.0"), file("x", "1.1")]),
        ("y", vec![file("y", "2.0")]),
    ]);
    (repo, wanted)
}

async fn sync_to(repo: &Repo, store: Store) -> usize {
    let config = config::load(&repo.path("publish.toml")).unwrap();
    match sync::sync_to(store, &config, Run::Real, &Progress::new(true)).await {
        Ok(outcomes) => outcomes.iter().map(|outcome| outcome.errors.len()).sum(),
        Err(_) => 1,
    }
}

fn every_crash_of_a_sync(name: &str, before: &Before) {
    let (repo, wanted) = scene();
    fs::remove_file(repo.path("components/y.toml")).unwrap();
    let store = match before {
        Before::Bucket(objects) => Store::with_objects(Arc::new(objects.clone())),
        Before::Directory(folder) => Store::directory(folder.path(), Access::Write).unwrap(),
    };
    assert_eq!(alone(sync_to(&repo, store)), 0);
    repo.simple("y");
    repo.release("x", "1.1", "two");
    repo.release("y", "2.0", "three");
    let work = async |store| {
        sync_to(&repo, store).await;
    };
    let config = config::load(&repo.path("publish.toml")).unwrap();
    let signer = Signer::open(&config).unwrap();
    let heal = async |store: Store| {
        assert_eq!(sync_to(&repo, store.clone()).await, 0);
        for folder in ["x", "y"] {
            assert!(is_signed(&store, folder, &signer).await, "{folder} is not signed right");
        }
    };
    break_everywhere(name, before, &wanted, &[], work, heal);
}

/// A sync that publishes a version, takes the line of an older one out, and deletes the file of an
/// even older one.
fn every_crash_of_letting_go(name: &str, before: &Before) {
    let repo = Repo::with("[retention]\ngrace = \"0s\"\n");
    repo.simple("x");
    let rules = fs::read_to_string(repo.path("components/x.toml")).unwrap();
    repo.component("x", &format!("{rules}\n[versions]\nnewest = 1\n"));
    let store = match before {
        Before::Bucket(objects) => Store::with_objects(Arc::new(objects.clone())),
        Before::Directory(folder) => Store::directory(folder.path(), Access::Write).unwrap(),
    };
    for version in ["1.0", "1.1"] {
        repo.release("x", version, version);
        assert_eq!(alone(sync_to(&repo, store.clone())), 0);
    }
    let file = |version: &str| format!("x-{version}-x86-64.raw");
    // Whether a manifest lists them or not.
    let images = async |store: &Store| {
        let files = store.list("x").await.unwrap().into_iter().map(|listed| listed.name);
        files.filter(|name| name.starts_with("x-")).collect::<Vec<_>>()
    };
    assert_eq!(alone(images(&store)), [file("1.0"), file("1.1")]);
    repo.release("x", "1.2", "1.2");
    let work = async |store| {
        sync_to(&repo, store).await;
    };
    let heal = async |store: Store| {
        for _ in 0..2 {
            assert_eq!(sync_to(&repo, store.clone()).await, 0);
        }
        assert_eq!(images(&store).await, [file("1.2")], "a file was forgotten");
    };
    let wanted = BTreeMap::from([("x", vec![file("1.2")])]);
    break_everywhere(name, before, &wanted, &[&file("1.1")], work, heal);
}

/// A sync that writes the files for nodes anew, and after it one that would write others: whatever is
/// left of the first is never taken for somebody else's.
fn every_crash_of_files_for_nodes(name: &str, before: &Before) {
    let repo = Repo::new();
    let at = |host: &str| {
        let text = format!(
            "[repository]\nurl = \"https://{host}.example.com/\"\narchitectures = [\"x86-64\"]\n"
        );
        repo.write("publish.toml", text);
    };
    at("one");
    repo.simple("x");
    repo.release("x", "1.0", "x");
    let store = match before {
        Before::Bucket(objects) => Store::with_objects(Arc::new(objects.clone())),
        Before::Directory(folder) => Store::directory(folder.path(), Access::Write).unwrap(),
    };
    assert_eq!(alone(sync_to(&repo, store)), 0);
    at("two");
    let work = async |store| {
        sync_to(&repo, store).await;
    };
    let heal = async |store: Store| {
        at("three");
        assert_eq!(sync_to(&repo, store.clone()).await, 0);
        at("two");
        for file in ["x.transfer", "x.bu", "x.ign", "x.sh"] {
            let bytes = store.read(&format!("x/{file}")).await.unwrap().unwrap();
            let text = String::from_utf8(bytes.to_vec()).unwrap();
            assert!(text.contains("https://three.example.com/"), "{file}: {text}");
        }
        let published = Published::read(&store, &"x".parse().unwrap()).await.unwrap();
        let is_settled = |file: &DerivedFile| !file.theirs && file.writing.is_none();
        assert!(published.clients.files.values().all(is_settled));
    };
    let wanted = BTreeMap::from([("x", vec!["x-1.0-x86-64.raw".to_owned()])]);
    break_everywhere(name, before, &wanted, &[], work, heal);
}

#[test]
fn every_crash_of_files_for_nodes_in_a_bucket() {
    every_crash_of_files_for_nodes("files in a bucket", &Before::Bucket(InMemory::new()));
}

#[test]
fn every_crash_of_files_for_nodes_in_a_directory() {
    let folder = tempfile::Builder::new().prefix("publish-it-").tempdir().unwrap();
    every_crash_of_files_for_nodes("files in a directory", &Before::Directory(folder));
}

#[test]
fn every_crash_of_letting_go_in_a_bucket() {
    every_crash_of_letting_go("letting go in a bucket", &Before::Bucket(InMemory::new()));
}

#[test]
fn every_crash_of_letting_go_in_a_directory() {
    let folder = tempfile::Builder::new().prefix("publish-it-").tempdir().unwrap();
    every_crash_of_letting_go("letting go in a directory", &Before::Directory(folder));
}

#[test]
fn every_crash_of_a_sync_to_a_bucket() {
    every_crash_of_a_sync("sync to a bucket", &Before::Bucket(InMemory::new()));
}

#[test]
fn every_crash_of_a_sync_to_a_directory() {
    let folder = tempfile::Builder::new().prefix("publish-it-").tempdir().unwrap();
    every_crash_of_a_sync("sync to a directory", &Before::Directory(folder));
}

/// An image as a build leaves it.
pub fn image(folder: &Path, name: &str, bytes: &[u8]) -> (Image, Record) {
    let path: PathBuf = folder.join(name);
    fs::write(&path, bytes).unwrap();
    let (sha256, size) = Sha256::of_reader(&mut File::open(&path).unwrap()).unwrap();
    let record = Record {
        version: 1,
        tool: "test".to_owned(),
        sha256,
        size,
        time: 0,
        release: None,
        revision: 0,
        recipe: None,
        inputs: Vec::new(),
        companions: std::collections::BTreeMap::new(),
        contents: None,
        published: None,
    };
    let (name, findings) = (name.parse().unwrap(), Vec::new());
    (Image { name, path, sha256, size, findings, contents: None }, record)
}

/// Images that go up in parts, without the time that it takes to build such.
fn every_crash_of_an_upload_in_parts(name: &str, before: &Before) {
    let folder = tempfile::Builder::new().prefix("publish-it-").tempdir().unwrap();
    let images = [image(folder.path(), "x-1.0-x86-64.raw", &noise(9 << 20))];
    let wanted = BTreeMap::from([("x", vec!["x-1.0-x86-64.raw".to_owned()])]);
    let publish = async |store: Store| {
        let to: Folder = "x".parse().unwrap();
        let lock = store.lock().await?;
        store.sweep("x", &lock)?;
        let published = Published::read(&store, &to).await?;
        let change = Change { images: &images, ..Change::default() };
        let signer = Signer::Unsigned;
        commit::commit(&store, &lock, &to, &published, &change, &signer).await?;
        Ok::<_, CommitError>(())
    };
    let work = async |store| {
        let _ = publish(store).await;
    };
    let heal = async |store| {
        publish(store).await.expect("it heals");
    };
    break_everywhere(name, before, &wanted, &[], work, heal);
    if let Before::Directory(folder) = before {
        assert!(!folder.path().join("x").exists(), "only copies are broken");
    }
}

#[test]
fn every_crash_of_an_upload_in_parts_to_a_bucket() {
    every_crash_of_an_upload_in_parts("parts to a bucket", &Before::Bucket(InMemory::new()));
}

#[test]
fn every_crash_of_an_upload_in_parts_to_a_directory() {
    let folder = tempfile::Builder::new().prefix("publish-it-").tempdir().unwrap();
    every_crash_of_an_upload_in_parts("parts to a directory", &Before::Directory(folder));
}

/// The real program, really killed, at times that nobody chose.
#[test]
fn killed_at_any_time_the_next_sync_heals() {
    let repo = Repo::new();
    repo.simple("x");
    for number in 0..8 {
        repo.release("x", &format!("1.{number}"), noise(300 << 10));
    }
    let mut killed = 0;
    for wait in 0..12 {
        let text = fs::read_to_string(repo.path("components/x.toml")).unwrap();
        let newest = 1 + wait / 2;
        let text = text.split("[versions]").next().unwrap().to_owned();
        repo.component("x", &format!("{text}[versions]\nnewest = {newest}\n"));
        let running = crate::repo::Running::start(
            repo.command(&["sync", "-q"])
                .stdout(std::process::Stdio::null())
                .stderr(std::process::Stdio::null()),
        );
        std::thread::sleep(std::time::Duration::from_millis(7 * wait));
        running.signal(rustix::process::Signal::KILL);
        let (status, _) = running.wait();
        killed += usize::from(!status.success());
        if repo.path("public/x/SHA256SUMS").exists() {
            repo.listed("x");
        }
        repo.clean_up();
    }
    assert!(killed > 0);
    until("the heal", || repo.sync().status.success());
    assert!(repo.listed("x").len() >= 6);
    let names = fs::read_dir(repo.path("public/x")).unwrap();
    assert!(names.flatten().all(|entry| !entry.file_name().to_str().unwrap().contains('#')));
    repo.publish(&["verify"]).ok();
}

//! Every interleaving: several publishers at one bucket, of which a seeded scheduler lets one at a
//! time do one operation. Whatever the order: no line is lost, no line is without its file, and what
//! was to go is gone.

use std::collections::{BTreeSet, HashSet};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::FutureExt;
use jiff::Timestamp;
use object_store::memory::InMemory;
use publish::config::component;
use publish::image::Image;
use publish::name::{FileName, Folder};
use publish::repository::commit::{self, Change, CommitError, Gone, Record, Removal};
use publish::repository::derived::Wanted;
use publish::repository::shelf::Shelf;
use publish::repository::yank::{self, YankError};
use publish::repository::{Place, Published, retention};
use publish::sign::key::Kind;
use publish::sign::{Signer, SigningKey};
use publish::store::{Listed, Store};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::sync::Notify;

use crate::crash::{image, is_signed, served};
use crate::objects::{Gate, Turn, gated};

/// Where one publisher waits for its turn.
#[derive(Default)]
struct Post {
    /// Operations of one publisher may wait at once: it reads some things side by side.
    waiting: AtomicUsize,
    go: Notify,
}

impl Post {
    fn gate(self: &Arc<Self>) -> Gate {
        let this = self.clone();
        Arc::new(move |_, _| {
            let this = this.clone();
            async move {
                this.waiting.fetch_add(1, Ordering::SeqCst);
                this.go.notified().await;
                Turn::Go
            }
            .boxed()
        })
    }
}

/// What one publisher wants.
#[derive(Clone, Default)]
struct Wish {
    images: Vec<(Image, Record)>,
    removals: Vec<Removal>,
    sign: bool,
}

/// As `sync` does it: read, plan, commit; and again, if somebody was faster.
async fn publish(store: Store, wish: Wish, signer: Arc<Signer>) {
    let folder: Folder = "x".parse().unwrap();
    let lock = store.lock().await.unwrap();
    for _ in 0..20 {
        let published = Published::read(&store, &folder).await.unwrap();
        let change = Change {
            images: &wish.images,
            removals: &wish.removals,
            restored: &[],
            sign: wish.sign,
        };
        match commit::commit(&store, &lock, &folder, &published, &change, &signer).await {
            Ok(_) => return,
            Err(CommitError::Raced { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
    panic!("twenty races in a row are lost");
}

type Publisher = Pin<Box<dyn Future<Output = ()>>>;

/// Lets the publisher go on until it waits again, or ends.
async fn step(publisher: &mut Publisher, post: &Post) -> bool {
    if post.waiting.load(Ordering::SeqCst) > 0 {
        post.waiting.fetch_sub(1, Ordering::SeqCst);
        post.go.notify_one();
    }
    std::future::poll_fn(|context| {
        let ended = publisher.as_mut().poll(context).is_ready();
        if ended || post.waiting.load(Ordering::SeqCst) > 0 {
            return std::task::Poll::Ready(ended);
        }
        std::task::Poll::Pending
    })
    .await
}

/// One schedule of publishers, each started with a store of its own; gives whose turn it was.
async fn race(
    objects: &InMemory,
    publishers: impl IntoIterator<Item = Box<dyn FnOnce(Store) -> Publisher + '_>>,
    random: &mut StdRng,
) -> Vec<u8> {
    let mut running: Vec<(u8, Publisher, Arc<Post>)> = Vec::new();
    for (number, start) in (0..).zip(publishers) {
        let post: Arc<Post> = Arc::default();
        let gate = post.gate();
        let store = Store::with_objects(Arc::new(objects.clone()))
            .through(move |objects| gated(objects, gate.clone()));
        running.push((number, start(store), post));
    }
    let mut turns = Vec::new();
    while !running.is_empty() {
        let turn = random.gen_range(0..running.len());
        let (number, publisher, post) = &mut running[turn];
        turns.push(*number);
        if step(publisher, post).await {
            drop(running.swap_remove(turn));
        }
        // Clients read at any time.
        if turns.len() % 7 == 0 {
            served(objects, "x").await;
        }
    }
    turns
}

/// Runs so many schedules.
async fn races(signer: Signer, publishers: usize, schedules: u64) {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let signer = Arc::new(signer);
    let name = |text: &str| format!("x-{text}-x86-64.raw");
    let there: Vec<_> =
        ["1.0", "1.1"].iter().map(|v| image(folder, &name(v), v.as_bytes())).collect();
    let before = InMemory::new();
    publish(
        Store::with_objects(Arc::new(before.clone())),
        Wish { images: there, ..Wish::default() },
        signer.clone(),
    )
    .await;
    // Each adds one of its own; two add the same one; one takes a line out.
    let same = image(folder, &name("2.0"), b"the same");
    let mut wishes: Vec<Wish> = (0..publishers)
        .map(|number| {
            let version = format!("3.{number}");
            let own = image(folder, &name(&version), version.as_bytes());
            Wish { images: vec![own], ..Wish::default() }
        })
        .collect();
    wishes[0].images.push(same.clone());
    wishes[1].images.push(same);
    wishes[1].removals.push(Removal { name: name("1.0").parse().unwrap(), why: Gone::Pruned });
    // One more only renews the signature.
    let signs = matches!(*signer, Signer::Key { .. });
    wishes.extend(signs.then(|| Wish { sign: true, ..Wish::default() }));
    let mut wanted: BTreeSet<String> = ["1.1", "2.0"].map(name).into();
    wanted.extend((0..publishers).map(|number| name(&format!("3.{number}"))));

    let mut different = HashSet::new();
    for seed in 0..schedules {
        let objects = before.fork();
        let mut random = StdRng::seed_from_u64(seed);
        let started = wishes.iter().map(|wish| {
            let start: Box<dyn FnOnce(Store) -> Publisher> =
                Box::new(|store| Box::pin(publish(store, wish.clone(), signer.clone())));
            start
        });
        different.insert(race(&objects, started, &mut random).await);
        let now: BTreeSet<String> = served(&objects, "x").await.into_iter().collect();
        assert_eq!(now, wanted, "{publishers} publishers, seed {seed}");
        let is_right = is_signed(&Store::with_objects(Arc::new(objects)), "x", &signer).await;
        assert!(is_right, "{publishers} publishers, seed {seed}: the signature is not right");
    }
    let lengths: BTreeSet<usize> = different.iter().map(Vec::len).collect();
    assert!(lengths.len() > 1, "nobody ever lost a race: {lengths:?}");
    eprintln!(
        "{publishers} publishers: {schedules} schedules, {} of them different, of {} to {} steps",
        different.len(),
        lengths.first().unwrap(),
        lengths.last().unwrap()
    );
}

#[tokio::test]
async fn two_publishers_in_every_order() {
    races(Signer::Unsigned, 2, 6_000).await;
}

#[tokio::test]
async fn three_publishers_in_every_order() {
    races(Signer::Unsigned, 3, 4_000).await;
}

#[tokio::test]
async fn signatures_of_two_and_a_renewal_in_every_order() {
    races(key(), 2, SIGNED).await;
}

#[tokio::test]
async fn signatures_of_three_and_a_renewal_in_every_order() {
    races(key(), 3, SIGNED).await;
}

/// Unoptimised, signing takes most of the time.
const SIGNED: u64 = 500;

fn key() -> Signer {
    let now = jiff::Timestamp::now();
    let text = SigningKey::generate(Kind::Ed25519, "Test <test@example.com>", now).unwrap();
    let key = SigningKey::read(&text, None, now).unwrap();
    Signer::with_key(key, None)
}

/// One deletes a file whose grace is over, one publishes the same version again, and one takes
/// another version out: what is listed is there at every instant, and nothing is forgotten.
#[tokio::test]
async fn a_deletion_and_who_wants_the_file_back_in_every_order() {
    const SCHEDULES: u64 = 1_000;
    let temporary = tempfile::tempdir().unwrap();
    let name = |text: &str| format!("x-{text}-x86-64.raw").parse::<FileName>().unwrap();
    let made = |version: &str| image(temporary.path(), name(version).as_str(), version.as_bytes());
    let component = |text: &str| {
        let text = format!("[source.github]\nrepo = \"o/r\"\n{text}");
        component::parse("x".parse().unwrap(), Path::new("x.toml"), &text).unwrap()
    };
    let component = component("");
    let folder: Folder = "x".parse().unwrap();
    let long_ago = Timestamp::UNIX_EPOCH;

    // 1.0 lost its line long ago; 1.1 and 1.2 are offered.
    let before = InMemory::new();
    let store = Store::with_objects(Arc::new(before.clone()));
    let images = ["1.0", "1.1", "1.2"].map(made).to_vec();
    publish(store.clone(), Wish { images, ..Wish::default() }, Arc::default()).await;
    let lock = store.lock().await.unwrap();
    let place = Place { store: &store, lock: &lock, folder: &folder, signer: &Signer::Unsigned };
    let mut published = Published::read(&store, &folder).await.unwrap();
    let shelf = Shelf::new(&component, &published, &BTreeSet::new());
    let gone = [Removal { name: name("1.0"), why: Gone::Pruned }];
    retention::retire(&place, &mut published, &shelf, &gone, long_ago).await.unwrap();

    let deletes = |store: Store| -> Publisher {
        let folder = folder.clone();
        Box::pin(async move {
            let lock = store.lock().await.unwrap();
            let signer = Signer::Unsigned;
            let place = Place { store: &store, lock: &lock, folder: &folder, signer: &signer };
            loop {
                let mut published = Published::read(&store, &folder).await.unwrap();
                let (due, _) =
                    retention::due(&published, Duration::from_secs(3600), Timestamp::now());
                match retention::delete(&place, &mut published, &due).await {
                    Err(CommitError::Raced { .. }) => {}
                    done => return done.map(drop).unwrap(),
                }
            }
        })
    };
    let (again, revision) = (made("1.0"), made("1.0-r1"));
    // As a plan decides it: under the same name as long as that is not spent.
    let returns = |store: Store| -> Publisher {
        let (folder, again, revision) = (folder.clone(), again.clone(), revision.clone());
        Box::pin(async move {
            let lock = store.lock().await.unwrap();
            let signer = Signer::Unsigned;
            let place = Place { store: &store, lock: &lock, folder: &folder, signer: &signer };
            loop {
                let mut published = Published::read(&store, &folder).await.unwrap();
                let spent = published.catalogue.floor.contains_key(&"1.0".parse().unwrap());
                let images = [if spent { revision.clone() } else { again.clone() }];
                let names = images.iter().map(|(image, _)| &image.name);
                let change = Change { images: &images, ..Change::default() };
                let reclaimed = retention::reclaim(&place, &mut published, names).await;
                let done = match reclaimed {
                    Ok(()) => {
                        commit::commit(&store, &lock, &folder, &published, &change, &signer).await
                    }
                    Err(error) => Err(error),
                };
                match done {
                    Err(CommitError::Raced { .. }) => {}
                    done => return done.map(drop).unwrap(),
                }
            }
        })
    };
    let yanks = |store: Store| -> Publisher {
        let (folder, component) = (folder.clone(), component.clone());
        Box::pin(async move {
            let lock = store.lock().await.unwrap();
            let signer = Signer::Unsigned;
            let place = Place { store: &store, lock: &lock, folder: &folder, signer: &signer };
            let version = "1.2".parse().unwrap();
            loop {
                let now = Timestamp::now();
                match yank::yank(&place, &component, &version, None, false, now).await {
                    Err(YankError::Commit(CommitError::Raced { .. })) => {}
                    done => return done.map(drop).unwrap(),
                }
            }
        })
    };
    let (mut same, mut other) = (0, 0);
    for seed in 0..SCHEDULES {
        let objects = before.fork();
        let mut random = StdRng::seed_from_u64(seed);
        let publishers: [Box<dyn FnOnce(Store) -> Publisher>; 3] =
            [Box::new(deletes), Box::new(returns), Box::new(yanks)];
        race(&objects, publishers, &mut random).await;
        let now = served(&objects, "x").await;
        let is_offered = |version: &str| now.contains(&name(version).to_string());
        assert!(is_offered("1.1") && !is_offered("1.2"), "seed {seed}: {now:?}");
        assert!(is_offered("1.0") != is_offered("1.0-r1"), "seed {seed}: {now:?}");
        *(if is_offered("1.0") { &mut same } else { &mut other }) += 1;
        let store = Store::with_objects(Arc::new(objects));
        let left = Published::read(&store, &folder).await.unwrap();
        let files = store.list(folder.as_str()).await.unwrap();
        nothing_is_forgotten(&left, &files, &name("1.2"), seed);
    }
    assert!(same > 50 && other > 50, "{same} came back, {other} got another name");
    eprintln!("a deletion against a return: {SCHEDULES} schedules, {same} came back");
}

/// Two files for nodes.
fn wanted(text: &str) -> Wanted {
    let name = |name: &str| name.parse::<FileName>().unwrap();
    [(name("x.sh"), format!("{text}\n")), (name("x.bu"), format!("{text}: the other\n"))].into()
}

/// Writes them once; gives whether nobody was faster.
async fn keep(store: &Store, text: &str) -> bool {
    let folder: Folder = "x".parse().unwrap();
    let lock = store.lock().await.unwrap();
    let place = Place { store, lock: &lock, folder: &folder, signer: &Signer::Unsigned };
    let mut published = Published::read(store, &folder).await.unwrap();
    let kept = published.keep_clients(&place, &wanted(text)).await;
    if matches!(kept, Err(CommitError::Raced { .. })) {
        return false;
    }
    kept.unwrap();
    assert_eq!(published.clients.theirs().count(), 0, "{text}");
    true
}

/// Publishers that write the files for nodes stand in the way of nobody who publishes; whoever is overtaken
/// tries again, and whatever they leave is known to be ours.
#[tokio::test]
async fn files_for_nodes_in_every_order() {
    const SCHEDULES: u64 = 2_000;
    let temporary = tempfile::tempdir().unwrap();
    let folder: Folder = "x".parse().unwrap();
    let made = |version: &str| {
        let name = format!("x-{version}-x86-64.raw");
        image(temporary.path(), &name, version.as_bytes())
    };
    let before = InMemory::new();
    let store = Store::with_objects(Arc::new(before.clone()));
    let images = vec![made("1.0")];
    publish(store.clone(), Wish { images, ..Wish::default() }, Arc::default()).await;
    assert!(keep(&store, "before").await);
    let (new, lost) = (made("1.1"), Arc::new(AtomicUsize::new(0)));
    for seed in 0..SCHEDULES {
        let objects = before.fork();
        let mut random = StdRng::seed_from_u64(seed);
        let keeper = |text: &'static str| -> Box<dyn FnOnce(Store) -> Publisher> {
            let lost = lost.clone();
            Box::new(move |store| {
                Box::pin(async move {
                    lost.fetch_add(usize::from(!keep(&store, text).await), Ordering::SeqCst);
                })
            })
        };
        let commits: Box<dyn FnOnce(Store) -> Publisher> = Box::new(|store| {
            let (folder, images) = (folder.clone(), [new.clone()]);
            Box::pin(async move {
                let lock = store.lock().await.unwrap();
                let published = Published::read(&store, &folder).await.unwrap();
                let change = Change { images: &images, ..Change::default() };
                let signer = Signer::Unsigned;
                let done = commit::commit(&store, &lock, &folder, &published, &change, &signer);
                done.await.expect("nobody else changes the manifest");
            })
        });
        race(&objects, [keeper("one"), keeper("two"), keeper("three"), commits], &mut random).await;
        let store = Store::with_objects(Arc::new(objects));
        assert!(keep(&store, "after").await, "seed {seed}: alone, it heals");
        for (name, text) in wanted("after") {
            let there = store.read(&format!("x/{name}")).await.unwrap().unwrap();
            assert_eq!(there, text, "seed {seed}: {name}");
        }
    }
    assert!(lost.load(Ordering::SeqCst) > 100, "they never met");
}

/// The yank of 1.2 stands, and each file is listed or remembered as one that is to go.
fn nothing_is_forgotten(left: &Published, files: &[Listed], yanked: &FileName, seed: u64) {
    let catalogue = &left.catalogue;
    assert!(catalogue.yanked.contains_key(&"1.2".parse().unwrap()), "seed {seed}");
    assert!(catalogue.removed.contains_key(yanked), "seed {seed}");
    for file in files.iter().filter(|file| file.name.starts_with("x-")) {
        let file: FileName = file.name.parse().unwrap();
        let known = left.manifest.get(&file).is_some() || catalogue.removed.contains_key(&file);
        assert!(known, "seed {seed}: {file} is forgotten");
    }
}

//! Releases on GitHub as the store: whole runs against a GitHub that behaves like the real one.

use std::fs;
use std::process::Stdio;
use std::time::{Duration, SystemTime};

use crate::github::{Death, GitHub, Release};
use crate::pack::noise;
use crate::repo::{Ran, Repo, Running, until};
use crate::web::{Fault, Web, sha256};

const TOKEN: &str = "ghs_that_nobody_may_read";
const STATE: &str = "publish-state";

/// A project on GitHub, and a configuration that publishes there.
struct Scene {
    github: GitHub,
    repo: Repo,
}

impl Scene {
    /// One component, `x`, with 1.0.
    fn new(sections: &str) -> Self {
        let github = GitHub::start();
        github.repo("o/r");
        github.require_token(TOKEN);
        let mut repo = Repo::new();
        repo.write(
            "publish.toml",
            format!(
                "[repository]\nurl = \"{}/o/r/releases/download/\"\nstore = \"github-release://o/r/{{component}}\"\narchitectures = [\"x86-64\"]\n{sections}",
                github.web()
            ),
        );
        repo.env("GITHUB_API_URL", &github.api());
        repo.env("GITHUB_TOKEN", TOKEN);
        repo.simple("x");
        repo.release("x", "1.0", "one");
        Self { github, repo }
    }

    fn sync(&self) -> Ran {
        keeps_the_secret(self.repo.sync())
    }

    /// What a node reads: the lines of a manifest, each of a file that is there and has the digest.
    /// `None` for the moment in which there is no manifest.
    fn served(&self, folder: &str) -> Option<Vec<String>> {
        let sums = self.github.asset_bytes("o/r", folder, "SHA256SUMS")?;
        let sums = String::from_utf8(sums).unwrap();
        let names = sums.lines().map(|line| {
            let (digest, name) = line.split_once("  ").expect("a line");
            if !name.starts_with("BEST-BEFORE-") {
                let bytes = self.github.asset_bytes("o/r", folder, name);
                let bytes = bytes.unwrap_or_else(|| panic!("{name} is listed, and not there"));
                assert_eq!(sha256(&bytes), digest, "{name} is not what the manifest says");
            }
            name.to_owned()
        });
        Some(names.collect())
    }
}

#[track_caller]
fn keeps_the_secret(ran: Ran) -> Ran {
    assert!(!ran.stderr.contains(TOKEN) && !ran.stdout.contains(TOKEN), "{ran}");
    ran
}

fn file(version: &str) -> String {
    format!("x-{version}-x86-64.raw")
}

#[test]
fn a_repository_in_releases() {
    let scene = Scene::new("");
    let Scene { github, repo } = &scene;
    scene.sync().ok().prints(&["published 1 image to github-release://o/r/{component}"]);
    assert_eq!(scene.served("x").unwrap(), [file("1.0")]);
    assert_eq!(
        (github.is_draft("o/r", "x"), github.is_draft("o/r", STATE)),
        (Some(false), Some(true)),
        "what is for publish alone is for nobody else"
    );
    let private = github.assets("o/r", STATE);
    assert!(private.contains(&"images_2Fx_2Fx-1.0-x86-64.raw.json".to_owned()), "{private:?}");
    assert!(!private.contains(&"lock".to_owned()), "it is given back: {private:?}");
    assert!(github.assets("o/r", "x").iter().all(|name| !name.contains("publish")));

    // Nothing is new: nothing is written, and little is asked.
    github.clear_all_requests();
    scene.sync().ok().prints(&["nothing to do: 1 component is up to date"]);
    assert_eq!(github.changes(), Vec::<String>::new());
    let asked = github.requests().len();
    assert_eq!(
        asked,
        6,
        "releases, 2 listings, manifest, files for nodes, record: {:#?}",
        github.requests()
    );

    // The manifest is replaced beside the old one.
    repo.release("x", "1.1", "two");
    github.clear_all_requests();
    scene.sync().ok().prints(&["published 1 image"]);
    assert_eq!(scene.served("x").unwrap(), [file("1.0"), file("1.1")]);
    let changes = github.changes();
    assert!(changes.iter().any(|change| change.ends_with("name=SHA256SUMS.next")), "{changes:#?}");
    let left = [github.assets("o/r", "x"), github.assets("o/r", STATE)].concat();
    assert!(left.iter().all(|name| !name.contains(".next")), "{left:?}");

    repo.publish(&["plan"]).ok().prints(&["nothing to do"]);
    for target in
        [&["verify"][..], &["verify", "--quick"], &["verify", "github-release://o/r/{component}"]]
    {
        keeps_the_secret(repo.publish(target)).ok();
    }
    // As a node reads it, through the redirects, without a token.
    let url = format!("{}/o/r/releases/download/x/", github.web());
    repo.publish(&["verify", &url]).ok().prints(&["every byte is right"]);
    let transfer = repo.publish(&["client", "x"]).ok();
    assert!(transfer.stdout.contains(&format!("Path={url}\n")), "{transfer}");
    repo.publish(&["serve"]).code(1).says(&["is no directory", "hint: "]);
    for request in github.storage_requests() {
        assert_eq!(request.header("authorization"), None, "the storage got the token");
    }
    assert!(github.web_requests().iter().all(|request| request.header("authorization").is_none()));
}

#[test]
fn versions_go_and_come_back() {
    let scene = Scene::new("[retention]\ngrace = \"0s\"\n");
    let Scene { github, repo } = &scene;
    let rules = fs::read_to_string(repo.path("components/x.toml")).unwrap();
    repo.component("x", &format!("{rules}\n[versions]\nnewest = 2\n"));
    for version in ["1.0", "1.1", "1.2"] {
        repo.release("x", version, version);
        scene.sync().ok();
    }
    assert_eq!(scene.served("x").unwrap(), [file("1.1"), file("1.2")]);
    repo.publish(&["prune"]).ok();
    assert!(!github.assets("o/r", "x").contains(&file("1.0")), "the file follows its line");
    let records = github.assets("o/r", STATE);
    assert!(!records.iter().any(|name| name.contains("x-1.0-")), "{records:?}");

    repo.publish(&["yank", "x", "1.2"]).ok();
    assert_eq!(scene.served("x").unwrap(), [file("1.1")]);
    github.clear_all_requests();
    repo.publish(&["restore", "x", "1.2"]).ok();
    assert_eq!(scene.served("x").unwrap(), [file("1.1"), file("1.2")]);
    // GitHub tells the digests; the page reads how the image was made.
    let asked = github.storage_requests();
    let mut of_it =
        asked.iter().map(|request| &request.path).filter(|path| path.contains("x-1.2-"));
    assert!(of_it.all(|path| path.contains(".raw.json")), "{asked:#?}");
}

#[test]
fn a_page_is_there_for_who_asks() {
    let scene = Scene::new("page = true\n");
    let Scene { github, repo } = &scene;
    scene.sync().ok();
    let mut root = github.assets("o/r", "repository");
    root.sort();
    assert_eq!(root, ["catalog.json", "feed.xml", "index.html"]);
    assert!(github.assets("o/r", "x").contains(&"x.html".to_owned()));
    scene.sync().ok().prints(&["nothing to do"]);
    repo.publish(&["verify"]).ok();

    let config = fs::read_to_string(repo.path("publish.toml")).unwrap();
    repo.write("publish.toml", config.replace("page = true\n", ""));
    scene.sync().ok();
    assert_eq!(github.assets("o/r", "repository"), Vec::<String>::new());
    assert!(!github.assets("o/r", "x").contains(&"x.html".to_owned()));
    assert_eq!(scene.served("x").unwrap(), [file("1.0")]);
}

#[test]
fn signed_and_with_a_keyring() {
    let scene = Scene::new("[signing]\nkey = { file = \"signing.key\" }\n");
    let Scene { github, repo } = &scene;
    repo.publish(&["key", "generate", "--output", "signing.key"]).ok();
    scene.sync().ok();
    let root = github.assets("o/r", "repository");
    assert_eq!(root, ["import-pubring.gpg"]);
    let files = github.assets("o/r", "x");
    assert!(files.contains(&"SHA256SUMS.gpg".to_owned()), "{files:?}");
    repo.publish(&["verify"]).ok().prints(&["signed by"]);
    github.clear_all_requests();
    scene.sync().ok().prints(&["nothing to do"]);
    assert_eq!(github.changes(), Vec::<String>::new());
}

#[test]
fn a_large_image_is_streamed() {
    let scene = Scene::new("");
    scene.repo.release("x", "1.1", noise(20 << 20));
    scene.sync().ok();
    assert_eq!(scene.served("x").unwrap(), [file("1.0"), file("1.1")]);
    let requests = scene.github.upload_requests();
    let image = requests.iter().find(|request| request.path.contains("x-1.1-")).unwrap();
    assert_eq!(image.header("content-type"), Some("application/octet-stream"));
    let length: usize = image.header("content-length").unwrap().parse().unwrap();
    assert!(length > 20 << 20, "{length}");
}

#[test]
fn what_broke_off_is_sent_again() {
    let scene = Scene::new("");
    let Scene { github, repo } = &scene;
    scene.sync().ok();
    repo.release("x", "1.1", "two");
    // GitHub's own failure leaves half of something that has the name.
    for good in 0..5 {
        github.fail_uploads(good, 1);
        repo.release("x", &format!("1.{}", good + 1), format!("{good}"));
        scene.sync().ok();
        assert!(scene.served("x").unwrap().contains(&file(&format!("1.{}", good + 1))));
    }
    // So does a publisher that was killed, or a line that broke.
    repo.release("x", "2.0", "new");
    github.put_asset("o/r", "x", &file("2.0"), b"", false);
    github.upload_fault("/repos/o/r/releases/*", Fault::Reset, 1);
    scene.sync().ok();
    assert!(scene.served("x").unwrap().contains(&file("2.0")));
    repo.publish(&["verify"]).ok();
}

/// What is done, and answered by nobody, is met again by who asks again.
#[test]
fn answers_that_are_lost() {
    let scene = Scene::new("");
    let Scene { github, repo } = &scene;
    scene.sync().ok();
    for (number, path) in ["/repos/o/r/releases/assets/*", "/repos/o/r/releases*", "/repos/o/r/*"]
        .into_iter()
        .enumerate()
    {
        let version = format!("1.{}", number + 1);
        repo.release("x", &version, &version);
        github.api_fault(path, Fault::Reset, 2);
        github.upload_fault(path, Fault::Reset, 1);
        scene.sync().ok();
        assert!(scene.served("x").unwrap().contains(&file(&version)));
    }
    let left = [github.assets("o/r", "x"), github.assets("o/r", STATE)].concat();
    assert!(left.iter().all(|name| !name.contains(".next") && name != "lock"), "{left:?}");
    repo.publish(&["verify"]).ok();
}

#[test]
fn what_nodes_miss_between_two_requests_comes_back_with_the_next_sync() {
    let scene = Scene::new("");
    let Scene { github, repo } = &scene;
    scene.sync().ok();
    let sums = github.asset_bytes("o/r", "x", "SHA256SUMS").unwrap();
    github.remove_asset("o/r", "x", "SHA256SUMS");
    github.put_asset("o/r", "x", "SHA256SUMS.next", &sums, true);
    // Who only looks changes nothing.
    github.clear_all_requests();
    repo.publish(&["plan"]).ok().prints(&["nothing to do"]);
    repo.publish(&["verify"]).ok();
    assert_eq!(github.changes(), Vec::<String>::new());
    scene.sync().ok().prints(&["nothing to do"]);
    assert_eq!(scene.served("x").unwrap(), [file("1.0")]);
    assert_eq!(github.changes().len(), 1, "{:?}", github.changes());
}

#[test]
fn a_second_publisher_is_told_who_is_at_it() {
    let scene = Scene::new("");
    let Scene { github, repo } = &scene;
    let web = Web::start();
    web.put("/list", "1.0");
    web.put("/y-1.0", "one");
    web.fault("/y-1.0", Fault::Stall, 1);
    repo.component(
        "y",
        &format!(
            "[source.http]\nurl = \"{0}/list\"\nmatch = '(?<version>[0-9.]+)'\n[[asset]]\nurl = \"{0}/y-{{version}}\"\n[asset.files]\n\"usr/bin/y\" = \"y-{{version}}\"\n",
            web.url()
        ),
    );
    let running =
        Running::start(repo.command(&["sync"]).stdout(Stdio::null()).stderr(Stdio::piped()));
    until("the lock", || github.assets("o/r", STATE).contains(&"lock".to_owned()));
    let process = format!("process {}", running.id());
    let second = Ran::of(&mut repo.command(&["sync"])).code(5);
    second.says(&["another publisher holds github-release://o/r/{component}", &process]);
    running.signal(rustix::process::Signal::KILL);
    running.wait();
    repo.clean_up();
    // Its time is not over, and then it is.
    repo.sync().code(5);
    github.an_hour_passes("o/r", STATE);
    scene.sync().ok();
    assert_eq!(scene.served("y").unwrap(), ["y-1.0-x86-64.raw"]);
    assert!(!github.assets("o/r", STATE).contains(&"lock".to_owned()));
    // Half a lock is somebody's as long as it is young.
    github.put_asset("o/r", STATE, "lock", b"", false);
    repo.release("x", "1.1", "two");
    repo.sync().code(5);
    github.an_hour_passes("o/r", STATE);
    scene.sync().ok();
}

/// A publisher that slept over its lock, and wakes while another has it.
#[test]
fn whoever_lost_the_lock_writes_over_nobody() {
    let scene = Scene::new("");
    let Scene { github, repo } = &scene;
    scene.sync().ok();
    repo.release("x", "1.1", "two");
    // What answers the new manifest, which is there under its other name, comes slowly.
    let uploads = github.upload_requests();
    let manifest = uploads.iter().find(|request| request.path.ends_with("name=SHA256SUMS"));
    let slow = Fault::Slow { chunk: 100, delay: Duration::from_millis(300) };
    github.upload_fault(&format!("{}.next", manifest.unwrap().path), slow, 1);
    let running =
        Running::start(repo.command(&["sync"]).stdout(Stdio::null()).stderr(Stdio::piped()));
    let next = "SHA256SUMS.next".to_owned();
    until("the new manifest", || github.assets("o/r", "x").contains(&next));
    running.signal(rustix::process::Signal::STOP);
    assert!(github.assets("o/r", "x").contains(&next), "it was too fast for this test");
    github.an_hour_passes("o/r", STATE);
    repo.release("x", "1.2", "three");
    let second = Ran::of(&mut repo.command(&["sync"]));
    running.signal(rustix::process::Signal::CONT);
    let (status, said) = running.wait();
    assert_eq!(second.status.code(), Some(0), "{second}\n{said}");
    assert_eq!(status.code(), Some(3), "{said}");
    assert!(said.contains("somebody else writes it, too"), "{said}");
    let names = scene.served("x").unwrap();
    assert_eq!(names, [file("1.0"), file("1.1"), file("1.2")], "{said}");
}

#[test]
fn two_that_begin_at_once() {
    let scene = Scene::new("");
    let Scene { github, repo } = &scene;
    repo.simple("y");
    repo.release("y", "1.0", "y");
    let start =
        || Running::start(repo.command(&["sync"]).stdout(Stdio::null()).stderr(Stdio::piped()));
    let both = [start(), start()];
    for running in both {
        let (status, said) = running.wait();
        assert!([Some(0), Some(5)].contains(&status.code()), "{said}");
    }
    scene.sync().ok();
    for (folder, name) in [("x", file("1.0")), ("y", "y-1.0-x86-64.raw".to_owned())] {
        assert_eq!(scene.served(folder).unwrap(), [name]);
    }
    assert!(!github.assets("o/r", STATE).contains(&"lock".to_owned()));
    assert_eq!(
        github.tagged("o/r", STATE),
        1,
        "both found no draft, and one made the draft of both"
    );
}

#[test]
fn what_github_refuses_is_said_with_a_way_out() {
    // No token.
    let mut scene = Scene::new("");
    scene.repo.env("GITHUB_TOKEN", "");
    scene.repo.sync().says(&["there is no token to write releases of o/r with", "GITHUB_TOKEN"]);
    // One that may only read.
    let scene = Scene::new("");
    scene.github.read_only();
    let ran = scene.sync().says(&["Resource not accessible by integration", "contents: write"]);
    assert_ne!(ran.status.code(), Some(0));
    // No such project: that is not an empty one.
    let scene = Scene::new("");
    let text = fs::read_to_string(scene.repo.path("publish.toml")).unwrap();
    scene.repo.write("publish.toml", text.replace("//o/r/", "//o/other/"));
    scene.sync().code(3).says(&["cannot list the releases of o/other", "404", "hint: "]);
    // Releases that stay as they are.
    let scene = Scene::new("");
    scene.github.release("o/r", Release::new("x").immutable());
    scene.sync().code(3).says(&["the release x is immutable", "turn immutable releases off"]);
    // A name that would become another.
    let scene = Scene::new("");
    let rules = fs::read_to_string(scene.repo.path("components/x.toml")).unwrap();
    let named = format!("{rules}\n[image]\nname = \"{{name}},{{version}}-{{arch}}.raw\"\n");
    scene.repo.component("x", &named);
    scene.sync().code(3).says(&["github calls it x.1.0-x86-64.raw", "hint: "]);
    let there = scene.github.assets("o/r", "x");
    assert!(!there.iter().any(|name| name.contains(".raw")), "{there:?}");
    assert_eq!(scene.served("x"), None);
}

#[test]
fn a_release_that_is_full_says_so() {
    let scene = Scene::new("");
    let Scene { github, repo } = &scene;
    scene.sync().ok();
    for number in 0..1000 - github.assets("o/r", "x").len() {
        github.put_asset("o/r", "x", &format!("theirs-{number}"), b"theirs", true);
    }
    repo.release("x", "1.1", "two");
    scene.sync().code(3).says(&["the release x has 1000 files", "hint: "]);
    assert_eq!(scene.served("x").unwrap(), [file("1.0")]);
    // They came in ten pages.
    github.remove_asset("o/r", "x", "theirs-7");
    github.remove_asset("o/r", "x", "theirs-8");
    scene.sync().ok();
    assert_eq!(scene.served("x").unwrap(), [file("1.0"), file("1.1")]);
}

#[test]
fn github_wants_fewer_requests() {
    let scene = Scene::new("");
    let Scene { github, repo } = &scene;
    scene.sync().ok();
    repo.release("x", "1.1", "two");
    // A moment is waited for.
    github.secondary_limit(1, 1);
    scene.sync().ok();
    assert_eq!(scene.served("x").unwrap(), [file("1.0"), file("1.1")]);
    // An hour is not.
    repo.release("x", "1.2", "three");
    github.secondary_limit(3600, usize::MAX);
    let ran = scene.sync().says(&["secondary rate limit", "hint: "]);
    assert_eq!(ran.status.code(), Some(3), "{ran}");
    github.secondary_limit(0, 0);
    scene.sync().ok();
    assert_eq!(scene.served("x").unwrap().len(), 3);
}

#[test]
fn what_others_have_in_the_project_stays() {
    let scene = Scene::new("");
    let Scene { github, repo } = &scene;
    github.release("o/r", Release::new("v1.0").asset("program.tgz", "theirs"));
    github.release("o/r", Release::new("x").asset("notes.txt", "theirs"));
    github.release("o/r", Release::new("y").draft(true).asset("plan", "theirs"));
    scene.sync().ok();
    repo.publish(&["verify", "github-release://o/r/{component}"]).ok();
    assert_eq!(github.asset_bytes("o/r", "v1.0", "program.tgz").unwrap(), b"theirs");
    assert_eq!(github.asset_bytes("o/r", "x", "notes.txt").unwrap(), b"theirs");
    assert_eq!(scene.served("x").unwrap(), [file("1.0")]);
}

#[test]
fn one_release_is_one_component() {
    let scene = Scene::new("");
    let Scene { repo, .. } = &scene;
    let text = fs::read_to_string(repo.path("publish.toml")).unwrap();
    repo.write("publish.toml", text.replace("{component}", "images"));
    repo.sync()
        .code(4)
        .says(&["is one release, which is the folder `images`", "path = \"images\""]);
    let rules = fs::read_to_string(repo.path("components/x.toml")).unwrap();
    repo.component("x", &format!("path = \"images\"\n{rules}"));
    scene.sync().ok();
    assert_eq!(scene.served("images").unwrap(), [file("1.0")]);
    repo.component("x", &format!("path = \"publish-state\"\n{rules}"));
    repo.write("publish.toml", text);
    repo.sync().code(4).says(&["a release of publish's own"]);
}

/// The real program, really killed, before the first request that changes something, and after each of
/// them: what it only asks in between leaves nothing behind.
#[test]
fn every_death_of_a_sync() {
    let scene =
        Scene::new("[retention]\ngrace = \"0s\"\n[signing]\nkey = { file = \"signing.key\" }\n");
    let Scene { github, repo } = &scene;
    repo.publish(&["key", "generate", "--output", "signing.key"]).ok();
    let rules = fs::read_to_string(repo.path("components/x.toml")).unwrap();
    repo.component("x", &format!("{rules}\n[versions]\nnewest = 1\n"));
    scene.sync().ok();
    repo.release("x", "1.1", "two");
    scene.sync().ok();
    repo.release("x", "1.2", "three");
    let before = github.world();
    github.die(Death::Before(usize::MAX));
    scene.sync().ok();
    let changes = github.revive();
    assert_eq!(scene.served("x").unwrap(), [file("1.2")]);
    assert!(changes > 20, "{changes} changes are no sync");
    let mut gaps = 0;
    let deaths: Vec<Death> =
        std::iter::once(Death::Before(0)).chain((0..changes).map(Death::After)).collect();
    for &death in &deaths {
        github.restore(&before);
        github.rate_limit(5000, SystemTime::now() + Duration::from_secs(3600));
        github.die(death);
        let mut running = Running::start(
            repo.command(&["sync", "-q"]).stdout(Stdio::null()).stderr(Stdio::null()),
        );
        // On a slow machine the lock is renewed now and then: not every run has the same changes.
        until("the death", || github.is_dead() || running.is_over());
        drop(running);
        github.revive();
        repo.clean_up();
        // The old one, the new one, or for a moment none: never a wrong one.
        let newest = scene.served("x").map(|mut names| names.pop().expect("a line"));
        match newest {
            Some(name) => {
                assert!([file("1.1"), file("1.2")].contains(&name), "{death:?}: {name}");
            }
            None => gaps += 1,
        }
        github.an_hour_passes("o/r", STATE);
        let images = || {
            let mut files = github.assets("o/r", "x");
            files.retain(|name| name.contains(".raw"));
            files
        };
        // The line of the old one may go in the first, and its file in the second.
        for again in [false, true] {
            if !again || images() != [file("1.2")] {
                let ran = repo.sync();
                assert_eq!(ran.status.code(), Some(0), "{death:?}: {ran}");
            }
        }
        assert_eq!(scene.served("x").unwrap(), [file("1.2")], "{death:?}");
        assert_eq!(images(), [file("1.2")], "{death:?}: a file was forgotten");
    }
    repo.publish(&["verify"]).ok().prints(&["signed by"]);
    assert!(gaps > 0, "nobody died between the two requests");
    eprintln!("{} deaths, {gaps} of them without a manifest", deaths.len());
}

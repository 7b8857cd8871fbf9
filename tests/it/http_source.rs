//! Sources `http` and `directory`: pages that list versions, and folders of releases.

use std::fs;
use std::os::unix::fs::symlink;

use crate::repo::Repo;
use crate::web::{Fault, Web};

fn follow(repo: &Repo, name: &str, web: &Web, page: &str, pattern: &str) {
    repo.component(
        name,
        &format!(
            "[source.http]\nurl = \"{0}{page}\"\nmatch = '{pattern}'\n[[asset]]\nurl = \"{0}/files/{{version}}\"\n[asset.files]\n\"usr/bin/{name}\" = \"{{version}}\"\n",
            web.url()
        ),
    );
}

#[test]
fn versions_are_read_from_a_page_and_from_json() {
    let (repo, web) = (Repo::new(), Web::start());
    web.put(
        "/",
        "<a href=\"x_1.58.0_amd64.tgz\">x_1.58.0</a> <a href=\"x_1.58.1_amd64.tgz\">x_1.58.1</a>",
    );
    web.put("/api.json", r#"{"versions":{"2.0.0":{"dist":{}},"2.1.0":{}},"latest":"2.1.0"}"#);
    for version in ["1.58.0", "1.58.1", "2.0.0", "2.1.0"] {
        web.put(&format!("/files/{version}"), version);
    }
    follow(&repo, "page", &web, "/", r"x_(?<version>[0-9.]+)_amd64\.tgz");
    follow(&repo, "json", &web, "/api.json", r#""(?<version>[0-9.]+)":"#);
    repo.sync().ok().prints(&["published 4 images", "newest 1.58.1", "newest 2.1.0"]);
    assert_eq!(repo.listed("page"), ["page-1.58.0-x86-64.raw", "page-1.58.1-x86-64.raw"]);
    assert_eq!(repo.listed("json"), ["json-2.0.0-x86-64.raw", "json-2.1.0-x86-64.raw"]);
    assert_eq!(repo.image("json", "json-2.0.0-x86-64.raw").text("usr/bin/json"), "2.0.0");
}

#[test]
fn a_second_sync_only_asks_whether_anything_changed() {
    let (repo, web) = (Repo::new(), Web::start());
    web.put("/list", "1.0");
    web.put("/files/1.0", "x");
    follow(&repo, "x", &web, "/list", "(?<version>[0-9.]+)");
    repo.sync().ok();
    web.clear_requests();
    let before = repo.snapshot();
    repo.sync().ok().prints(&["nothing to do"]);
    let asked: Vec<_> =
        web.requests().into_iter().map(|request| (request.path, request.status)).collect();
    assert_eq!(asked, [("/list".to_owned(), 304)]);
    assert_eq!(repo.snapshot(), before);

    // What changed upstream is seen, and nothing that is known is fetched again.
    web.put("/list", "1.0 1.1");
    web.put("/files/1.1", "y");
    web.clear_requests();
    repo.sync().ok().prints(&["published 1 image"]);
    let asked: Vec<_> =
        web.requests().into_iter().map(|request| (request.path, request.status)).collect();
    assert_eq!(asked, [("/list".to_owned(), 200), ("/files/1.1".to_owned(), 200)]);
    repo.sync().ok();
    assert_eq!(web.requests().last().unwrap().status, 304);
}

#[test]
fn a_server_without_validators_is_just_asked_again() {
    let (repo, web) = (Repo::new(), Web::start());
    let listing = Fault::Answer { status: 200, headers: Vec::new(), body: "1.0".to_owned() };
    web.fault("/list", listing, usize::MAX);
    web.put("/files/1.0", "x");
    follow(&repo, "x", &web, "/list", "(?<version>[0-9.]+)");
    repo.sync().ok();
    let before = repo.snapshot();
    repo.sync().ok().prints(&["nothing to do"]);
    assert_eq!(repo.snapshot(), before, "nothing to keep, nothing to write");
}

#[test]
fn a_cache_that_is_broken_costs_a_request_and_no_more() {
    let (repo, web) = (Repo::new(), Web::start());
    web.put("/list", "1.0");
    web.put("/files/1.0", "x");
    follow(&repo, "x", &web, "/list", "(?<version>[0-9.]+)");
    repo.sync().ok();
    for answers in answers(&repo) {
        fs::write(answers, "rubbish").unwrap();
    }
    // What versions before this one kept, an object a component.
    repo.write("public/.publish/upstream/x.json.zst", "rubbish");
    web.clear_requests();
    repo.sync().ok().prints(&["nothing to do"]);
    assert_eq!(web.requests().last().unwrap().status, 200);
    repo.sync().ok();
    assert_eq!(web.requests().last().unwrap().status, 304);
    assert!(!repo.path("public/.publish/upstream/x.json.zst").exists());
}

/// The files of what upstreams answered.
fn answers(repo: &Repo) -> Vec<std::path::PathBuf> {
    let folder = fs::read_dir(repo.path("public/.publish/upstream")).unwrap();
    let files = folder.map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = files.filter(|path| path.extension().unwrap() == "answers").collect();
    files.sort();
    files
}

#[test]
fn a_rewritten_address_is_asked_instead() {
    let web = Web::start();
    let repo = Repo::with(&format!(
        "[network]\nrewrite = {{ \"https://upstream.example/\" = \"{0}/wrong/\", \"https://upstream.example/pub/\" = \"{0}/\" }}\n",
        web.url()
    ));
    web.put("/list", "1.0");
    web.put("/x-1.0", "x");
    repo.component(
        "x",
        r#"[source.http]
url = "https://upstream.example/pub/list"
match = '(?<version>[0-9.]+)'
[[asset]]
url = "https://upstream.example/pub/x-{version}"
[asset.files]
"usr/bin/x" = "x-{version}"
"#,
    );
    repo.sync().ok();
    // What is kept of it names the upstream, not this machine's way to it.
    let record =
        fs::read_to_string(repo.path("public/.publish/images/x/x-1.0-x86-64.raw.json")).unwrap();
    assert!(record.contains("https://upstream.example/pub/x-1.0"), "{record}");
    web.remove("/x-1.0");
    fs::remove_file(repo.path("public/x/x-1.0-x86-64.raw")).unwrap();
    let asked = format!(
        "https://upstream.example/pub/x-1.0 (rewritten to {}/x-1.0) answered 404",
        web.url()
    );
    repo.sync().code(3).says(&[&asked]);
}

#[test]
fn only_the_newest_versions_are_kept_up() {
    let repo = Repo::new();
    repo.simple("x");
    for version in ["1.8", "1.9", "1.10", "1.11"] {
        repo.release("x", version, version);
    }
    repo.sync().ok();
    // Three by default, and 1.9 is older than 1.10.
    assert_eq!(repo.listed("x"), ["x-1.10-x86-64.raw", "x-1.11-x86-64.raw", "x-1.9-x86-64.raw"]);
    repo.release("x", "2.0", "2.0");
    repo.sync().ok().prints(&["published 1 image", "newest 2.0"]);
    assert_eq!(repo.listed("x"), ["x-1.10-x86-64.raw", "x-1.11-x86-64.raw", "x-2.0-x86-64.raw"]);
}

#[test]
fn a_folder_may_hold_other_things_too() {
    let repo = Repo::new();
    repo.simple("x");
    repo.release("x", "1.0", "one");
    repo.write("components/x-releases/README", "no release");
    repo.write("components/x-releases/x-2.0/inside", "a folder");
    symlink("x-1.0", repo.path("components/x-releases/x-1.1")).unwrap();
    symlink("nowhere", repo.path("components/x-releases/x-3.0")).unwrap();
    repo.sync().ok();
    assert_eq!(repo.listed("x"), ["x-1.0-x86-64.raw", "x-1.1-x86-64.raw"]);
}

#[test]
fn a_folder_that_is_gone_or_empty_is_an_error_and_nothing_is_lost() {
    let repo = Repo::new();
    repo.simple("x");
    repo.release("x", "1.0", "one");
    repo.sync().ok();
    let before = repo.snapshot();
    fs::rename(repo.path("components/x-releases/x-1.0"), repo.path("components/x-releases/y"))
        .unwrap();
    repo.sync()
        .code(3)
        .says(&["error: x: no file in components/x-releases matches `x-{version}`", "hint: "]);
    fs::remove_dir_all(repo.path("components/x-releases")).unwrap();
    repo.sync().code(3).says(&[
        "error: x: cannot read the folder components/x-releases",
        "[source.directory] path",
    ]);
    assert_eq!(repo.snapshot(), before);
}

/// The bytes under a version changed upstream. Nodes have the old ones, and keep them.
#[test]
fn a_published_version_never_gets_other_bytes() {
    let repo = Repo::new();
    repo.simple("x");
    repo.release("x", "1.0", "one");
    repo.sync().ok();
    let before = repo.snapshot();
    repo.release("x", "1.0", "another one");
    repo.sync().ok().prints(&["nothing to do"]);
    assert_eq!(repo.snapshot(), before);

    // Not even where the file has to be built again.
    let manifest = repo.manifest("x");
    fs::remove_file(repo.path("public/x/x-1.0-x86-64.raw")).unwrap();
    repo.release("x", "1.1", "new");
    repo.sync()
        .code(3)
        .says(&["error: x 1.0 x86-64: upstream replaced x-1.0", "what is published stays"]);
    assert!(repo.manifest("x").contains(manifest.trim_end()), "the line stays");
    repo.release("x", "1.0", "one");
    repo.sync().ok();
    assert_eq!(repo.listed("x").len(), 2);
}

#[test]
fn a_branch_is_kept_up_for_itself() {
    let repo = Repo::new();
    repo.simple("k");
    let text = fs::read_to_string(repo.path("components/k.toml")).unwrap();
    repo.component("k", &format!("{text}[versions]\nnewest = 1\nper = \"minor\"\n"));
    for version in ["1.30.1", "1.30.9", "1.30.10", "1.31.0", "1.31.2"] {
        repo.release("k", version, version);
    }
    repo.sync().ok();
    assert_eq!(repo.listed("k"), ["k-1.30.10-x86-64.raw", "k-1.31.2-x86-64.raw"]);
}

/// Eight upstreams that take half a second each: at once, they take hardly more than one.
#[test]
fn upstreams_are_asked_at_once_but_not_too_many() {
    for (per_host, least, most) in [(8, 0, 2500), (2, 2000, 10_000)] {
        let web = Web::start();
        // How many builds may run has nothing to do with it.
        let config = format!("[network]\nconcurrency = 1\nper-host = {per_host}\n");
        let repo = Repo::with(&config);
        for number in 0..8 {
            let (name, page) = (format!("x{number}"), format!("/list{number}"));
            web.put(&page, "1.0   ");
            let delay = std::time::Duration::from_millis(500);
            web.fault(&page, Fault::Slow { chunk: 3, delay }, 1);
            follow(&repo, &name, &web, &page, "(?<version>[0-9.]+)");
        }
        let started = std::time::Instant::now();
        repo.publish(&["plan"]).ok();
        let took = started.elapsed().as_millis();
        assert!((least..most).contains(&took), "{per_host} at once took {took} ms");
    }
}

//! Releases whose files come one after the other.

use std::fs;

use crate::repo::Repo;
use crate::scene::Scene;
use crate::web::Web;

const COMPONENT: &str = r#"[source.directory]
path = "x-releases"
match = "x-{version}-{arch}"

[[asset]]
name = "x-{version}-{arch}"
[asset.files]
"usr/bin/x" = "x-{version}-{arch}"
"#;

fn put(repo: &Repo, version: &str, arches: &[&str]) {
    for arch in arches {
        repo.write(&format!("components/x-releases/x-{version}-{arch}"), version);
    }
}

fn scene(rules: &str) -> Repo {
    let repo = Repo::new();
    let config = fs::read_to_string(repo.path("publish.toml")).unwrap();
    repo.write("publish.toml", config.replace("[\"x86-64\"]", "[\"x86-64\", \"arm64\"]"));
    repo.component("x", &format!("{COMPONENT}\n[versions]\n{rules}\n"));
    put(&repo, "1.0", &["x86-64", "arm64"]);
    repo.sync().ok();
    put(&repo, "1.1", &["x86-64"]);
    repo
}

#[test]
fn the_second_architecture_is_waited_for() {
    let repo = scene("");
    repo.publish(&["plan"])
        .ok()
        .prints(&["x: 1 version waited for", "1.1 waits for `x-1.1-arm64` since 20"]);
    repo.sync().ok().prints(&[
        "nothing to do: 1 component waits for upstream",
        "1.1 waits for `x-1.1-arm64` since 20",
    ]);
    assert_eq!(repo.listed("x").len(), 2, "no half set is published");
    let before = repo.snapshot();
    repo.sync().ok();
    assert_eq!(repo.snapshot(), before, "it is remembered once");
    repo.publish(&["status"]).ok().prints(&[
        "x: waiting, published 1.0, upstream 1.1",
        "waiting    1.1 waits for `x-1.1-arm64` since 20",
    ]);
    let line = repo.publish(&["status", "--check"]).ok();
    assert_eq!(line.stdout, "OK: 1 component current, 1 waits for upstream: x\n");
    let json = repo.publish(&["sync", "--json"]).ok().json();
    assert_eq!(json["components"][0]["waiting"][0]["version"], "1.1");

    put(&repo, "1.1", &["arm64"]);
    repo.sync().ok().prints(&["published 2 images"]);
    repo.publish(&["status"]).ok().prints(&["x: current, published 1.1"]);
    repo.sync().ok().prints(&["nothing to do"]);
}

#[test]
fn not_for_ever() {
    let repo = scene("");
    repo.sync().ok();
    // A day passes.
    let catalogue = repo.path("public/.publish/folders/x.json");
    let text = fs::read_to_string(&catalogue).unwrap();
    let at = text.find("\"since\": \"").unwrap() + 10;
    fs::write(&catalogue, format!("{}2020{}", &text[..at], &text[at + 4..])).unwrap();
    repo.publish(&["status"]).code(3).prints(&["x: failed"]);
    repo.sync()
        .code(3)
        .says(&["error: x 1.1: the release has no asset `x-1.1-arm64`", "hint: it has "]);
    assert_eq!(repo.listed("x").len(), 2);
    put(&repo, "1.1", &["arm64"]);
    repo.sync().ok();
    assert_eq!(repo.listed("x").len(), 4);
}

#[test]
fn half_a_set_goes_out_if_that_is_wanted() {
    let repo = scene("partial = true");
    repo.sync().ok().prints(&["published 1 image"]);
    assert_eq!(repo.listed("x").len(), 3);
    repo.sync().ok().prints(&["nothing to do"]);
    put(&repo, "1.1", &["arm64"]);
    repo.sync().ok().prints(&["new architecture"]);
    assert_eq!(repo.listed("x").len(), 4);
}

#[test]
fn a_url_that_is_not_there_yet_is_tried_again() {
    let scene = Scene::program();
    scene.web.remove("/bad-1.1");
    let Scene { repo, web, .. } = scene;
    repo.sync().ok().prints(&["1.1 waits for `bad-1.1` since 20"]);
    let snapshot = || {
        let mut all = repo.snapshot();
        // The lock of another try came and went.
        all.remove(".publish");
        all
    };
    let before = snapshot();
    repo.sync().ok();
    assert_eq!(snapshot(), before, "it is remembered once");
    repo.publish(&["plan"]).ok().prints(&["1.1 waits for `bad-1.1`"]);
    repo.publish(&["status"]).ok().prints(&["bad: waiting, published 1.0, upstream 1.1"]);
    web.put("/bad-1.1", "bad 1.1");
    repo.sync().ok().prints(&["published 1 image"]);
    repo.publish(&["status"]).ok().prints(&["bad: current, published 1.1"]);
}

#[test]
fn an_older_version_takes_the_place_in_the_same_run() {
    let (repo, web) = (Repo::new(), Web::start());
    let component = |newest: usize| {
        format!(
            "[source.http]\nurl = \"{0}/list\"\nmatch = 'x(?<version>[0-9.]+);'\n[versions]\nnewest = {newest}\n[[asset]]\nurl = \"{0}/x-{{version}}\"\n[asset.files]\n\"usr/bin/x\" = \"*\"\n",
            web.url()
        )
    };
    web.put("/list", "x1.0;");
    web.put("/x-1.0", "1.0");
    repo.component("x", &component(1));
    repo.sync().ok();
    web.put("/list", "x1.0; x1.1; x1.2;");
    web.put("/x-1.1", "1.1");
    repo.sync().ok().prints(&["x-1.1-x86-64.raw", "1.2 waits for `x-1.2`"]);
    assert_eq!(repo.listed("x"), ["x-1.1-x86-64.raw"]);
    web.put("/x-1.2", "1.2");
    repo.sync().ok();
    assert_eq!(repo.listed("x"), ["x-1.2-x86-64.raw"]);
    repo.sync().ok().prints(&["nothing to do"]);
}

/// A wrong address must not look like an upstream that is slow.
#[test]
fn what_never_worked_is_an_error_at_once() {
    let (repo, web) = (Repo::new(), Web::start());
    web.put("/list", "1.0");
    repo.component(
        "x",
        &format!("[source.http]\nurl = \"{0}/list\"\nmatch = '(?<version>[0-9.]+)'\n[[asset]]\nurl = \"{0}/typo\"\n[asset.files]\n\"usr/bin/x\" = \"*\"\n", web.url()),
    );
    repo.sync().code(3).says(&["error: x 1.0 x86-64: cannot fetch typo", "404"]);
}

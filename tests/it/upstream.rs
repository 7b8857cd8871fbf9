//! Upstreams that go wrong: each costs its own component this sync, and nothing else.

use std::time::{Duration, Instant};

use crate::pack::noise;
use crate::repo::Repo;
use crate::scene::{PROGRAM, Scene};
use crate::web::{Fault, sha256};

const ALWAYS: usize = usize::MAX;

#[test]
fn down() {
    let scene = Scene::program();
    let address = scene.web.url();
    let Scene { web, repo, .. } = scene;
    repo.release("good", "1.1", "good");
    drop(web);
    let ran = repo.sync().code(3).says(&[
        "error: bad: cannot ask upstream",
        "cannot reach",
        &address,
        "hint: ",
    ]);
    assert_eq!(repo.listed("bad"), ["bad-1.0-x86-64.raw"], "{ran}");
    assert_eq!(repo.listed("good").len(), 2, "{ran}");
}

#[test]
fn answers_that_are_none() {
    for (status, text) in [
        (401, "401 Unauthorized"),
        (403, "403 Forbidden"),
        (404, "404 Not Found"),
        (410, "410 Gone"),
    ] {
        let scene = Scene::program().impatient();
        scene.web.fault("/bad-1.1", Fault::Status(status), ALWAYS);
        let before = scene.repo.sync();
        let address = format!("{}/bad-1.1 answered {text}", scene.web.url());
        let ran = before.code(3).says(&["error: bad 1.1 x86-64: cannot fetch bad-1.1", &address]);
        // What will not pass is not asked for again and again.
        let asked =
            scene.web.requests().iter().filter(|request| request.path == "/bad-1.1").count();
        assert_eq!(asked, 1, "{ran}");
        scene.web.heal();
        scene.heals();
    }
}

#[test]
fn what_people_meet_most_has_a_hint() {
    for status in [401, 403, 404] {
        let scene = Scene::program().impatient();
        scene.web.fault("/bad-1.1", Fault::Status(status), ALWAYS);
        scene.fails("bad 1.1 x86-64", &[]);
    }
}

#[test]
fn a_server_error_is_tried_again_but_not_for_ever() {
    let scene = Scene::program();
    scene.web.fault("/bad-1.1", Fault::Status(500), ALWAYS);
    scene.web.clear_requests();
    scene.fails(
        "bad 1.1 x86-64: cannot fetch bad-1.1",
        &["answered 500 Internal Server Error", "the next sync tries again"],
    );
    let asked = scene.web.requests().iter().filter(|request| request.path == "/bad-1.1").count();
    assert_eq!(asked, 3);
    scene.web.heal();
    scene.web.fault("/bad-1.1", Fault::Status(502), 1);
    scene.heals();
}

#[test]
fn too_many_requests() {
    let scene = Scene::program();
    let headers = vec![("retry-after".to_owned(), "3600".to_owned())];
    scene.web.fault(
        "/bad-1.1",
        Fault::Answer { status: 429, headers, body: String::new() },
        ALWAYS,
    );
    let started = Instant::now();
    scene.fails("bad 1.1 x86-64: cannot fetch bad-1.1", &["429", "too many requests until 2"]);
    assert!(started.elapsed() < Duration::from_secs(10), "nobody waits for an hour");
}

#[test]
fn the_listing_fails() {
    for (fault, text) in [
        (Fault::Status(404), "/versions answered 404 Not Found"),
        (Fault::Endless, "/versions is larger than"),
        (Fault::Redirect("ftp://example.com/".to_owned()), "/versions"),
    ] {
        let scene = Scene::program();
        // Large enough that an endless one does not come in crumbs.
        scene.web.put("/versions", "bad 1.0; ".repeat(100_000));
        scene.web.fault("/versions", fault, ALWAYS);
        scene.fails("bad: cannot ask upstream", &[text]);
    }
}

#[test]
fn a_listing_with_nothing_in_it_is_no_news() {
    let scene = Scene::program();
    scene.web.put("/versions", "<html>under maintenance</html>");
    scene.fails("bad", &["/versions matches `bad (?<version>", "check `match`"]);
}

#[test]
fn a_circle_of_redirects_ends() {
    let scene = Scene::program();
    scene.web.fault("/bad-1.1", Fault::Redirect(format!("{}/bad-1.1", scene.web.url())), ALWAYS);
    scene.fails("bad 1.1 x86-64", &["cannot reach", "redirects"]);
}

#[test]
fn stalled() {
    let scene = Scene::patient("500ms");
    scene.web.fault("/bad-1.1", Fault::Stall, ALWAYS);
    scene.fails(
        "bad 1.1 x86-64: cannot fetch bad-1.1",
        &["sent nothing for 0.5 s", "[network] timeout"],
    );
}

#[test]
fn crawling() {
    let scene = Scene::patient("500ms");
    // Never silent for long, but 100 bytes a second.
    let delay = Duration::from_millis(100);
    scene.web.fault("/bad-1.1", Fault::Slow { chunk: 10, delay }, ALWAYS);
    scene.fails("bad 1.1 x86-64: cannot fetch bad-1.1", &["bytes a second", "[network] timeout"]);
}

#[test]
fn reset_once_is_nothing() {
    let scene = Scene::program();
    scene.web.fault("/bad-1.1", Fault::Reset, 1);
    scene.web.fault("/bad-1.1", Fault::Truncate(100), 1);
    scene.heals();
}

#[test]
fn truncated() {
    let scene = Scene::program();
    scene.web.fault("/bad-1.1", Fault::Truncate(100), ALWAYS);
    scene.fails(
        "bad 1.1 x86-64: cannot fetch bad-1.1",
        &["/bad-1.1 ended early", "the next sync tries again"],
    );
    scene.web.heal();
    scene.heals();
}

#[test]
fn without_a_length_is_fine() {
    let scene = Scene::program();
    scene.web.fault("/bad-1.1", Fault::NoLength, ALWAYS);
    scene.heals();
    assert_eq!(
        scene.repo.image("bad", "bad-1.1-x86-64.raw").text("usr/bin/bad"),
        "bad 1.1 ".repeat(1000)
    );
}

#[test]
fn a_body_without_an_end_stops_at_the_limit() {
    let scene = Scene::new("[limits]\ndownload = \"2MiB\"\n", &PROGRAM, "bad 1.0");
    scene.serve(&PROGRAM, "1.1", noise(100_000));
    scene.web.fault("/bad-1.1", Fault::Endless, ALWAYS);
    scene.fails("bad 1.1 x86-64", &["/bad-1.1 is larger than 2097152 bytes", "[limits] download"]);
    scene.web.heal();
    // And one that says beforehand how large it is.
    scene.serve(&PROGRAM, "1.1", noise(3 << 20));
    scene.fails("bad 1.1 x86-64", &["/bad-1.1 is larger than 2097152 bytes"]);
    scene.serve(&PROGRAM, "1.1", noise(100_000));
    scene.heals();
}

/// A checksum file is asked for from 1.1 on; 1.0 is out already.
fn summed() -> Scene {
    let scene = Scene::program();
    let file = scene.repo.path("components/bad.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(file, text.replace("[asset.files]", "sha256 = \"{url}.sha256\"\n[asset.files]"))
        .unwrap();
    scene.serve(&PROGRAM, "1.1", "bad 1.1");
    scene
}

#[test]
fn a_checksum_file_decides() {
    let scene = summed().impatient();
    let right = format!("{}  bad-1.1\n", sha256(b"bad 1.1"));
    // It is not there: what was asked to be checked is not taken unchecked.
    scene.fails("bad 1.1 x86-64: cannot trust bad-1.1", &["/bad-1.1.sha256 answered 404"]);
    // It is about other files.
    scene.web.put("/bad-1.1.sha256", format!("{0}  a\n{0}  b\n", sha256(b"x")));
    scene.fails(
        "bad 1.1 x86-64",
        &["/bad-1.1.sha256", "no line for `bad-1.1`", "hint: check the template in `sha256`"],
    );
    // It is a page for people.
    scene.web.put("/bad-1.1.sha256", "<html>not found</html>");
    scene.fails("bad 1.1 x86-64", &["/bad-1.1.sha256", "no SHA-256 digest in it"]);
    // The file is not the one it is about.
    scene.web.put("/bad-1.1.sha256", right.clone());
    scene.web.fault("/bad-1.1", Fault::Corrupt, ALWAYS);
    scene.fails(
        "bad 1.1 x86-64",
        &[
            "/bad-1.1 has SHA-256",
            &format!("/bad-1.1.sha256 says {}", sha256(b"bad 1.1")),
            "do not publish it",
        ],
    );
    scene.web.heal();
    scene.heals();
    let record = std::fs::read_to_string(
        scene.repo.path("public/.publish/images/bad/bad-1.1-x86-64.raw.json"),
    )
    .unwrap();
    let record: serde_json::Value = serde_json::from_str(&record).unwrap();
    assert_eq!(record["inputs"][0]["sha256"], sha256(b"bad 1.1"));
    assert_eq!(
        record["inputs"][0]["promised_by"][0],
        format!("{}/bad-1.1.sha256", scene.web.url())
    );
}

#[test]
fn a_version_that_no_client_can_read() {
    for (version, text) in [
        ("1.1~git", "`1.1~git` has a `~`"),
        ("1/2", "`1/2` has a character outside"),
        ("1.1^git", "^"),
        ("1:2", "`1:2` has a character outside"),
        ("-1.1", "must start with a letter or a digit"),
    ] {
        let scene = Scene::program();
        scene.versions(&["1.0", version]);
        scene.fails("bad", &[version, text, "exclude it in [versions]"]);
        // A good one beside it is not held up.
        scene.versions(&["1.0", "1.1", version]);
        scene.repo.sync().code(3);
        assert_eq!(
            scene.repo.listed("bad"),
            ["bad-1.0-x86-64.raw", "bad-1.1-x86-64.raw"],
            "{version}"
        );
    }
}

#[test]
fn an_excluded_version_is_no_error() {
    let scene = Scene::program();
    let file = scene.repo.path("components/bad.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    scene.versions(&["1.0", "1.1", "1.1~rc1"]);
    std::fs::write(file, format!("{text}\n[versions]\nexclude = [\"1.1~rc1\"]\n")).unwrap();
    scene.heals();
}

#[test]
fn orders_that_disagree_are_refused() {
    // For clients 1.0-rc1 is newer than 1.0, so a node would never leave it.
    let scene = Scene::program();
    let file = scene.repo.path("components/bad.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(file, format!("{text}\n[versions]\nprerelease = true\n")).unwrap();
    scene.versions(&["1.0", "1.1-rc1"]);
    scene.serve(&PROGRAM, "1.1-rc1", "rc");
    scene.fails("bad", &["1.1-rc1", "newer than its final release", "prerelease = false"]);
}

#[test]
fn a_version_goes_out_for_all_architectures_or_none() {
    let repo = Repo::new();
    let config = std::fs::read_to_string(repo.path("publish.toml")).unwrap();
    repo.write("publish.toml", config.replace("[\"x86-64\"]", "[\"x86-64\", \"arm64\"]"));
    let web = crate::web::Web::start();
    web.put("/list", "1.0");
    web.put("/x-x86-64", "x");
    repo.component(
        "x",
        &format!(
            "[source.http]\nurl = \"{0}/list\"\nmatch = '(?<version>[0-9.]+)'\n[[asset]]\nurl = \"{0}/x-{{arch}}\"\n[asset.files]\n\"usr/bin/x\" = \"x-{{arch}}\"\n",
            web.url()
        ),
    );
    repo.sync().code(3).says(&["error: x 1.0 arm64", "x-arm64 answered 404"]);
    assert!(!repo.path("public/x/SHA256SUMS").exists(), "half of a version is out");
    web.put("/x-arm64", "x");
    repo.sync().ok().prints(&["published 2 images"]);
}

#[test]
fn a_secret_in_a_url_is_not_told() {
    // Credentials belong elsewhere, but who has them in a proxy's address must not find them in a log.
    let scene = Scene::program().impatient();
    let config = std::fs::read_to_string(scene.repo.path("publish.toml")).unwrap();
    let host = scene.web.url().trim_start_matches("http://").to_owned();
    scene.repo.write(
        "publish.toml",
        config.replace("[network]", &format!("[network]\nrewrite = {{ \"http://{host}/bad-1.1\" = \"http://user:hunter2@{host}/none\" }}")),
    );
    let ran = scene.fails("bad 1.1 x86-64", &["404"]);
    assert!(!ran.stderr.contains("hunter2"), "{ran}");
}

//! `publish status`: what an operator and a monitoring system read.

use std::fs;

use crate::repo::Repo;
use crate::web::sha256;

fn published() -> Repo {
    let repo = Repo::new();
    repo.simple("x");
    repo.simple("y");
    for name in ["x", "y"] {
        repo.release(name, "1.0", "one");
    }
    repo.sync().ok();
    repo
}

#[test]
fn it_tells_what_is_behind_and_writes_nothing() {
    let repo = Repo::new();
    repo.simple("x");
    repo.release("x", "1.0", "one");
    repo.publish(&["status"]).code(3).prints(&["x: behind, published none, upstream 1.0"]);
    assert!(!repo.path("public").exists());

    let repo = published();
    let before = repo.snapshot();
    repo.publish(&["status"])
        .ok()
        .prints(&["x: current, published 1.0, upstream 1.0", "changed    20"]);
    repo.publish(&["status", "--check"]).ok().prints(&["OK: 2 components current\n"]);
    repo.release("x", "1.1", "two");
    repo.publish(&["status"]).code(3).prints(&[
        "x: behind, published 1.0, upstream 1.1",
        "to build   x-1.1-x86-64.raw",
        "y: current",
    ]);
    let ran = repo.publish(&["status", "--check"]).code(3);
    assert_eq!(ran.stdout, "BEHIND: 1 of 2 components: x behind 1.0 of 1.1\n");
    assert_eq!(repo.snapshot(), before);
    let json = repo.publish(&["status", "--json"]).code(3).json();
    assert_eq!(json["components"][0]["state"], "behind");
    assert_eq!(json["components"][0]["missing"][0], "x-1.1-x86-64.raw");
    assert_eq!(json["components"][1]["published"], "1.0");
    let ran = repo.publish(&["status", "--check", "--only", "y"]).ok();
    assert_eq!(ran.stdout, "OK: 1 component current\n");
}

#[test]
fn an_upstream_that_is_down_is_no_good_state() {
    let repo = published();
    fs::remove_dir_all(repo.path("components/x-releases")).unwrap();
    repo.publish(&["status"]).code(3).prints(&["x: failed"]).says(&["cannot read the folder"]);
    let ran = repo.publish(&["status", "--check"]).code(3);
    assert_eq!(ran.stdout, "BEHIND: 1 of 2 components: x failed\n");
}

#[test]
fn an_architecture_that_is_missing_is_named() {
    let repo = published();
    let config = fs::read_to_string(repo.path("publish.toml")).unwrap();
    repo.write("publish.toml", config.replace("[\"x86-64\"]", "[\"x86-64\", \"arm64\"]"));
    repo.publish(&["status"]).code(3).prints(&["lacks      arm64 of 1.0"]);
}

#[test]
fn it_warns_before_the_manifest_expires() {
    let today = jiff::tz::TimeZone::UTC.to_datetime(jiff::Timestamp::now()).date();
    let day = |days: i64| today.saturating_add(jiff::Span::new().days(days));
    // It expires at the start of that day.
    for (days, code, text) in [
        (10, 0, "x: current"),
        (2, 0, "x: expires soon"),
        (0, 3, "x: expired"),
        (-5, 3, "x: expired"),
    ] {
        let repo = published();
        let line = format!("{}  BEST-BEFORE-{}\n", sha256(b""), day(days));
        repo.write("public/x/SHA256SUMS", line + &repo.manifest("x"));
        repo.publish(&["status"]).code(code).prints(&[text, &format!("expires    {}", day(days))]);
    }
}

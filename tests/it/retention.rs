//! Retention: lines that newer versions push out, and their files after the grace.

use std::fs;

use serde_json::Value;

use crate::repo::Repo;

const CATALOGUE: &str = "public/.publish/folders/x.json";

/// A component that holds `newest` versions, and these are out.
fn holding(newest: usize, versions: &[&str]) -> Repo {
    with("", newest, versions)
}

fn with(sections: &str, newest: usize, versions: &[&str]) -> Repo {
    let repo = Repo::with(sections);
    repo.simple("x");
    hold(&repo, newest);
    for version in versions {
        repo.release("x", version, version);
    }
    repo.sync().ok();
    repo
}

fn hold(repo: &Repo, newest: usize) {
    let text = fs::read_to_string(repo.path("components/x.toml")).unwrap();
    let text = text.split("[versions]").next().unwrap();
    repo.component("x", &format!("{text}[versions]\nnewest = {newest}\n"));
}

fn image(version: &str) -> String {
    format!("x-{version}-x86-64.raw")
}

fn images(versions: &[&str]) -> Vec<String> {
    versions.iter().map(|version| image(version)).collect()
}

fn is_there(repo: &Repo, version: &str) -> bool {
    let file = repo.path(&format!("public/x/{}", image(version))).exists();
    let record = repo.path(&format!("public/.publish/images/x/{}.json", image(version))).exists();
    assert_eq!(file, record, "a file and its record go together");
    file
}

fn catalogue(repo: &Repo) -> Value {
    serde_json::from_slice(&fs::read(repo.path(CATALOGUE)).unwrap()).unwrap()
}

fn nothing_to_do(repo: &Repo) {
    let before = repo.snapshot();
    repo.sync().ok().prints(&["nothing to do"]);
    repo.publish(&["prune"]).ok().prints(&["nothing to do"]);
    assert_eq!(repo.snapshot(), before);
}

#[test]
fn a_line_goes_at_once_and_its_file_after_the_grace() {
    let repo = holding(2, &["1.9", "1.10"]);
    repo.release("x", "1.11", "1.11");
    repo.sync()
        .ok()
        .prints(&["took 1 line out", "x-1.9-x86-64.raw  out: newer ones took its place"]);
    assert_eq!(repo.listed("x"), images(&["1.10", "1.11"]));
    assert!(is_there(&repo, "1.9"), "a node may have read the line just before");
    nothing_to_do(&repo);

    repo.two_days_pass("x");
    let before = repo.snapshot();
    repo.publish(&["sync", "--dry-run"]).ok().prints(&["would delete 1 file"]);
    repo.publish(&["plan"]).ok().prints(&["1 file to delete", "deleted: its grace is over"]);
    assert_eq!(repo.snapshot(), before);
    repo.sync().ok().prints(&["deleted 1 file", "x-1.9-x86-64.raw  deleted"]);
    assert!(!is_there(&repo, "1.9"));
    assert!(catalogue(&repo)["removed"].as_object().unwrap().is_empty());
    nothing_to_do(&repo);
    repo.publish(&["verify"]).ok();
}

#[test]
fn prune_needs_no_upstream() {
    let repo = holding(3, &["1.1", "1.2", "1.3"]);
    hold(&repo, 1);
    fs::remove_dir_all(repo.path("components/x-releases")).unwrap();
    let before = repo.snapshot();
    let ran = repo.publish(&["prune", "--dry-run"]).ok();
    assert_eq!(repo.snapshot(), before);
    for text in ["would take 2 lines out", "x-1.1-x86-64.raw", "x-1.2-x86-64.raw"] {
        assert!(ran.stdout.contains(text), "{ran}");
    }
    repo.publish(&["prune"]).ok().prints(&["took 2 lines out"]);
    assert_eq!(repo.listed("x"), images(&["1.3"]));
    repo.two_days_pass("x");
    let ran = repo.publish(&["prune", "--json"]).ok();
    assert_eq!(ran.json()["components"][0]["deleted"].as_array().unwrap().len(), 2, "{ran}");
    assert!(!is_there(&repo, "1.1") && !is_there(&repo, "1.2") && is_there(&repo, "1.3"));
}

#[test]
fn what_comes_back_in_time_is_the_same_file() {
    let repo = holding(2, &["1.1", "1.2"]);
    hold(&repo, 1);
    repo.sync().ok();
    let bytes = fs::read(repo.path("public/x/x-1.1-x86-64.raw")).unwrap();
    assert_eq!(repo.listed("x"), images(&["1.2"]));
    hold(&repo, 2);
    repo.sync().ok().prints(&["x-1.1-x86-64.raw"]);
    assert_eq!(repo.listed("x"), images(&["1.1", "1.2"]));
    assert_eq!(fs::read(repo.path("public/x/x-1.1-x86-64.raw")).unwrap(), bytes);
    repo.two_days_pass("x");
    nothing_to_do(&repo);
    // Its grace starts anew.
    hold(&repo, 1);
    repo.sync().ok();
    assert!(is_there(&repo, "1.1"));
    nothing_to_do(&repo);

    // Made otherwise meanwhile, it is a revision: the name is taken.
    let text = fs::read_to_string(repo.path("components/x.toml")).unwrap();
    repo.component("x", &format!("{text}[files]\n\"usr/share/x\" = {{ text = \"x\" }}\n"));
    repo.sync().ok().prints(&["x-1.2-r1-x86-64.raw"]);
    let text = fs::read_to_string(repo.path("components/x.toml")).unwrap();
    repo.component("x", &text.replace("newest = 1", "newest = 2"));
    repo.sync().ok().prints(&["x-1.1-r1-x86-64.raw"]);
    nothing_to_do(&repo);
}

#[test]
fn a_run_that_would_delete_much_deletes_nothing() {
    let versions = ["1.1", "1.2", "1.3", "1.4"];
    let repo = with("[retention]\nmax-delete = 2\n", 4, &versions);
    hold(&repo, 1);
    repo.sync().ok();
    repo.two_days_pass("x");
    repo.release("x", "1.5", "1.5");
    let ran = repo.sync().code(3).says(&[
        "error: x: nothing is deleted: 3 files are due in all, more than max-delete = 2",
        "publish prune --dry-run",
    ]);
    assert_eq!(repo.listed("x"), images(&["1.5"]), "the rest is done\n{ran}");
    assert!(versions.iter().all(|version| is_there(&repo, version)));
    repo.publish(&["prune"]).code(3).says(&["nothing is deleted"]);
    repo.publish(&["status"]).code(3).prints(&["x: failed"]).says(&["nothing is deleted: 3 files"]);
    let ran = repo.publish(&["status", "--check"]).code(3);
    assert_eq!(ran.stdout, "BEHIND: 1 of 1 component: x failed\n");
    assert!(versions.iter().all(|version| is_there(&repo, version)));
    repo.publish(&["prune", "--max-delete", "3"]).ok().prints(&["deleted 3 files"]);
    assert!(!versions[..3].iter().any(|version| is_there(&repo, version)));
    assert!(is_there(&repo, "1.4"), "its grace is not over");
    nothing_to_do(&repo);
}

#[test]
fn nothing_is_deleted_that_is_not_ours() {
    let repo = holding(1, &["1.1"]);
    // Of somebody else: a file without a line, a line of another component.
    repo.write("public/x/x-0.9-x86-64.raw", "stray");
    repo.write("public/x/other-1.0-x86-64.raw", "other");
    let line = format!("{}  other-1.0-x86-64.raw\n", crate::web::sha256(b"other"));
    repo.write("public/x/SHA256SUMS", line + &repo.manifest("x"));
    repo.release("x", "1.2", "1.2");
    repo.sync().ok();
    // And one that somebody put in the place of ours.
    repo.write("public/x/x-1.1-x86-64.raw", "mine now");
    repo.two_days_pass("x");
    repo.sync().ok();
    for (name, text) in [
        ("x-0.9-x86-64.raw", "stray"),
        ("other-1.0-x86-64.raw", "other"),
        ("x-1.1-x86-64.raw", "mine now"),
    ] {
        assert_eq!(fs::read_to_string(repo.path(&format!("public/x/{name}"))).unwrap(), text);
    }
    assert_eq!(repo.listed("x"), ["other-1.0-x86-64.raw".to_owned(), image("1.2")]);
    nothing_to_do(&repo);
}

#[test]
fn what_upstream_no_longer_has_stays_until_newer_ones_push_it_out() {
    let repo = holding(2, &["1.1", "1.2", "1.3"]);
    assert_eq!(repo.listed("x"), images(&["1.2", "1.3"]));
    let gone = |version: &str| {
        fs::remove_file(repo.path(&format!("components/x-releases/x-{version}"))).unwrap();
    };
    gone("1.3");
    // Neither does 1.3 go, nor does 1.1 come in its place.
    nothing_to_do(&repo);
    repo.release("x", "1.4", "1.4");
    repo.sync().ok();
    assert_eq!(repo.listed("x"), images(&["1.3", "1.4"]));
    nothing_to_do(&repo);
    repo.release("x", "1.5", "1.5");
    repo.sync().ok();
    assert_eq!(repo.listed("x"), images(&["1.4", "1.5"]));
    nothing_to_do(&repo);
}

#[test]
fn the_newest_complete_version_stays() {
    let repo = Repo::new();
    let config = fs::read_to_string(repo.path("publish.toml")).unwrap();
    repo.write("publish.toml", config.replace("[\"x86-64\"]", "[\"x86-64\", \"arm64\"]"));
    repo.simple("x");
    hold(&repo, 1);
    repo.release("x", "1.0", "1.0");
    repo.sync().ok();
    assert_eq!(repo.listed("x").len(), 2);
    // Somebody published the next one for one architecture alone, by hand.
    repo.write("public/x/x-1.1-x86-64.raw", "half");
    let line = format!("{}  x-1.1-x86-64.raw\n", crate::web::sha256(b"half"));
    repo.write("public/x/SHA256SUMS", repo.manifest("x") + &line);
    repo.publish(&["prune"]).ok().prints(&["nothing to do"]);
    assert_eq!(repo.listed("x").len(), 3);
}

#[test]
fn a_version_that_could_not_be_built_pushes_nothing_out() {
    let repo = holding(1, &["1.1"]);
    let text = fs::read_to_string(repo.path("components/x.toml")).unwrap();
    repo.component(
        "x",
        &text.replace("\"usr/bin/x\" = \"x-{version}\"", "\"usr/bin/x\" = \"x-1.1\""),
    );
    repo.release("x", "1.2", "1.2");
    repo.sync().code(3).says(&["error: x 1.2"]);
    assert_eq!(repo.listed("x"), images(&["1.1"]));
    // Nothing went, so there is nothing to remember.
    assert!(!repo.path(CATALOGUE).exists());
}

#[test]
fn a_catalogue_that_nobody_can_read_stops_its_component() {
    let repo = holding(1, &["1.1"]);
    repo.simple("good");
    repo.release("good", "1.0", "good");
    for text in ["rubbish", "{\"format\": 2}", "{\"removed\": 1}"] {
        repo.write(CATALOGUE, text);
        repo.release("x", "1.2", "1.2");
        for command in ["sync", "prune"] {
            repo.publish(&[command]).code(3).says(&[
                "error: x: public/.publish/folders/x.json cannot be used",
                "hint: repair it by hand",
            ]);
        }
        assert_eq!(repo.listed("x"), images(&["1.1"]));
        assert_eq!(fs::read_to_string(repo.path(CATALOGUE)).unwrap(), text);
    }
    assert_eq!(repo.listed("good").len(), 1);
}

#[test]
fn the_section_has_its_own_errors() {
    for (text, part) in [
        ("grace = \"soon\"", "not a time"),
        ("max-delete = -1", "max-delete"),
        ("keep = 3", "unknown field `keep`"),
    ] {
        let repo = Repo::with(&format!("[retention]\n{text}\n"));
        repo.sync().code(4).says(&[part]);
    }
    // No grace at all: the file goes with its line.
    let repo = with("[retention]\ngrace = \"0s\"\n", 1, &["1.1"]);
    repo.release("x", "1.2", "1.2");
    repo.sync().ok();
    repo.sync().ok();
    assert!(!is_there(&repo, "1.1"));
}

#[test]
fn prune_knows_revisions_by_their_records() {
    let repo = holding(2, &["1.0", "1.1"]);
    let text = fs::read_to_string(repo.path("components/x.toml")).unwrap();
    repo.component("x", &format!("{text}[files]\n\"usr/share/x\" = {{ text = \"x\" }}\n"));
    let manifest = repo.manifest("x");
    repo.sync().ok();
    assert_eq!(repo.listed("x"), images(&["1.0-r1", "1.1-r1"]));
    // As if the run had been killed before the old lines went.
    repo.write("public/x/SHA256SUMS", manifest + &repo.manifest("x"));
    assert_eq!(repo.listed("x").len(), 4);
    repo.publish(&["prune"]).ok().prints(&["took 2 lines out"]);
    assert_eq!(repo.listed("x"), images(&["1.0-r1", "1.1-r1"]));
    nothing_to_do(&repo);
}

#[test]
fn half_a_deletion_is_finished() {
    let repo = holding(1, &["1.1"]);
    repo.release("x", "1.2", "1.2");
    repo.sync().ok();
    repo.two_days_pass("x");
    fs::remove_file(repo.path("public/x/x-1.1-x86-64.raw")).unwrap();
    repo.sync().ok().prints(&["deleted 1 file"]);
    assert!(!is_there(&repo, "1.1"));
    nothing_to_do(&repo);
}

#[test]
fn a_version_whose_file_went_comes_back_as_a_revision() {
    let repo = holding(1, &["1.1", "1.2"]);
    assert_eq!(repo.listed("x"), images(&["1.2"]));
    repo.release("x", "1.3", "1.3");
    repo.sync().ok();
    repo.two_days_pass("x");
    repo.sync().ok().prints(&["deleted 1 file"]);
    hold(&repo, 3);
    // Of 1.2 nodes may know a file; of 1.1 nobody does.
    repo.sync().ok();
    assert_eq!(repo.listed("x"), images(&["1.1", "1.2-r1", "1.3"]));
    nothing_to_do(&repo);
}

#[test]
fn a_component_that_fails_to_poll_is_not_pruned_by_sync() {
    let repo = holding(3, &["1.1", "1.2", "1.3"]);
    hold(&repo, 1);
    fs::remove_dir_all(repo.path("components/x-releases")).unwrap();
    repo.sync().code(3);
    assert_eq!(repo.listed("x"), images(&["1.1", "1.2", "1.3"]));
}

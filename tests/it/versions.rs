//! Which versions are published, and what the commands say of the others.

use std::fs;

use crate::repo::Repo;

/// A component that follows a folder, with these rules.
fn following(rules: &str, versions: &[&str]) -> Repo {
    let repo = Repo::new();
    repo.simple("x");
    ruled(&repo, rules);
    for version in versions {
        repo.release("x", version, version);
    }
    repo
}

/// Gives the component other rules.
fn ruled(repo: &Repo, rules: &str) {
    let text = fs::read_to_string(repo.path("components/x.toml")).unwrap();
    let text = text.split("[versions]").next().unwrap().trim_end().to_owned();
    repo.component("x", &format!("{text}\n[versions]\n{rules}\n"));
}

#[test]
fn four_branches_at_once_and_the_oldest_falls_out() {
    let rules = "per = \"minor\"\nnewest = 1\nbranches = 4";
    let repo = following(rules, &["1.28.9", "1.29.1", "1.30.2", "1.30.3", "1.31.0", "1.32.1"]);
    repo.sync().ok();
    let images = |versions: [&str; 4]| versions.map(|version| format!("x-{version}-x86-64.raw"));
    assert_eq!(repo.listed("x"), images(["1.29.1", "1.30.3", "1.31.0", "1.32.1"]));
    repo.publish(&["plan", "-v"]).ok().prints(&[
        "1.28.9  out: its branch is not among the newest 4",
        "1.30.2  out: there are enough newer ones",
    ]);
    repo.release("x", "1.33.0", "new");
    repo.sync().ok().prints(&["x-1.29.1-x86-64.raw  out: newer ones took its place"]);
    assert_eq!(repo.listed("x"), images(["1.30.3", "1.31.0", "1.32.1", "1.33.0"]));
    repo.sync().ok().prints(&["nothing to do"]);
    repo.publish(&["prune", "--dry-run"]).ok().prints(&["nothing to"]);
}

#[test]
fn a_pin_holds_and_what_is_newer_is_told() {
    let repo = following("pin = \"1.1\"", &["1.0", "1.1", "1.2"]);
    repo.sync().ok();
    assert_eq!(repo.listed("x"), ["x-1.1-x86-64.raw"]);
    repo.publish(&["plan"]).ok().prints(&["nothing to do", "1.1 is pinned; newer: 1.2"]);
    repo.publish(&["status"]).ok().prints(&["x: current", "pinned     1.1 is pinned; newer: 1.2"]);
    let json = repo.publish(&["status", "--json"]).ok().json();
    assert_eq!(json["components"][0]["pinned"]["newer"][0], "1.2");
    repo.publish(&["plan", "-v"]).ok().prints(&["1.2  out: another version is pinned"]);
}

/// Who pins an old version while newer ones are published gets it, and it stays.
#[test]
fn a_pinned_version_stays_among_newer_ones() {
    let repo = following("newest = 2", &["1.0", "1.1", "1.2"]);
    repo.sync().ok();
    ruled(&repo, "newest = 2\npin = \"1.0\"");
    repo.sync().ok();
    assert_eq!(repo.listed("x").len(), 3);
    repo.sync().ok().prints(&["nothing to do"]);
}

#[test]
fn what_upstream_took_back_stays_and_is_told() {
    let repo = following("newest = 3", &["1.0", "1.1", "1.2"]);
    repo.sync().ok();
    fs::remove_file(repo.path("components/x-releases/x-1.1")).unwrap();
    let told = "upstream no longer lists 1.1; what is published stays";
    repo.publish(&["plan"]).ok().prints(&[told]);
    repo.publish(&["status"]).ok().prints(&["x: current", told]);
    assert_eq!(
        repo.publish(&["plan", "--json"]).ok().json()["components"][0]["withdrawn"][0],
        "1.1"
    );
    repo.sync().ok();
    assert_eq!(repo.listed("x").len(), 3);
}

#[test]
fn a_build_tag_is_written_as_the_configuration_says() {
    let repo = following(
        "replace = { \"+\" = \"-\" }\nrequire = \">=1.31\"",
        &["1.30.9+k3s1", "1.31.2+k3s1", "1.31.2+k3s2"],
    );
    repo.sync().ok();
    assert_eq!(repo.listed("x"), ["x-1.31.2-k3s1-x86-64.raw", "x-1.31.2-k3s2-x86-64.raw"]);
    repo.publish(&["plan", "-v"]).ok().prints(&["1.31.2+k3s2  wanted, as 1.31.2-k3s2"]);
    repo.publish(&["verify"]).ok();
    let before = repo.snapshot();
    repo.sync().ok().prints(&["nothing to do"]);
    assert_eq!(repo.snapshot(), before);
    // Both ways to say it mean the same.
    repo.publish(&["build", "x", "1.31.2+k3s1"]).ok().prints(&["x-1.31.2-k3s1-x86-64.raw"]);
    repo.publish(&["build", "x", "1.31.2-k3s1", "--check"]).ok().prints(&[": same"]);
    // A changed recipe is a revision, here too.
    let text = fs::read_to_string(repo.path("components/x.toml")).unwrap();
    repo.component(
        "x",
        &format!("{text}\n[files]\n\"usr/share/x\" = {{ text = \"{{version}}\" }}\n"),
    );
    repo.sync().ok();
    let image = repo.image("x", "x-1.31.2-k3s2-r1-x86-64.raw");
    assert_eq!(image.text("usr/share/x"), "1.31.2+k3s2");
    repo.sync().ok().prints(&["nothing to do"]);
}

#[test]
fn dates_are_versions_too() {
    let rules = "require = \">=2024-05-01\"\nper = \"minor\"\nnewest = 1";
    let repo = following(rules, &["2024-04-30", "2024-05-01", "2024-05-20", "2024-06-03"]);
    repo.sync().ok();
    assert_eq!(repo.listed("x"), ["x-2024-05-20-x86-64.raw", "x-2024-06-03-x86-64.raw"]);
}

#[test]
fn three_hundred_releases_are_a_table() {
    let versions: Vec<String> = (0..300).map(|patch| format!("1.{}.{patch}", patch / 50)).collect();
    let versions: Vec<&str> = versions.iter().map(String::as_str).collect();
    let repo = following("newest = 1", &versions);
    let ran = repo.publish(&["plan", "-v"]).ok();
    let table: Vec<&str> = ran.stdout.lines().filter(|line| line.starts_with("    1.")).collect();
    assert_eq!(table.len(), 300, "{ran}");
    assert_eq!(table[0], "    1.5.299  wanted");
    assert!(table[1..].iter().all(|line| line[13..].starts_with("out: ")), "{ran}");
    let short = repo.publish(&["plan"]).ok();
    assert_eq!(short.stdout.lines().count(), 3, "{short}");
}

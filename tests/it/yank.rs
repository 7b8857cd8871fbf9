//! Yanking a version, and restoring it.

use std::fs;

use crate::repo::Repo;

const CATALOGUE: &str = "public/.publish/folders/x.json";

/// Three versions are out.
fn published() -> Repo {
    let repo = Repo::new();
    repo.simple("x");
    for version in ["1.0", "1.1", "1.2"] {
        repo.release("x", version, version);
    }
    repo.sync().ok();
    repo
}

fn images(versions: &[&str]) -> Vec<String> {
    versions.iter().map(|version| format!("x-{version}-x86-64.raw")).collect()
}

fn nothing_to_do(repo: &Repo) {
    let before = repo.snapshot();
    repo.sync().ok().prints(&["nothing to do"]);
    assert_eq!(repo.snapshot(), before);
}

#[test]
fn a_yanked_version_is_out_and_stays_out() {
    let repo = published();
    repo.publish(&["yank", "x", "1.2", "--reason", "eats data"])
        .ok()
        .prints(&[
            "took x-1.2-x86-64.raw out of x",
            "the newest version that is offered is 1.1 now",
        ])
        .says(&[
            "warning: nodes that have 1.2 keep it",
            "hint: they move on with the next newer one",
        ]);
    assert_eq!(repo.listed("x"), images(&["1.0", "1.1"]));
    assert!(repo.path("public/x/x-1.2-x86-64.raw").exists(), "for the grace");
    nothing_to_do(&repo);
    repo.publish(&["plan", "-v"]).ok().prints(&["out: yanked: eats data"]);
    repo.publish(&["status"]).ok().prints(&[
        "yanked     1.2 at 20",
        ": eats data",
        "to delete  1 file",
    ]);
    repo.publish(&["yank", "x", "1.2"]).ok().prints(&["x 1.2 is yanked already"]);
    nothing_to_do(&repo);

    repo.publish(&["restore", "x", "1.2"]).ok().prints(&["put x-1.2-x86-64.raw back into x"]);
    assert_eq!(repo.listed("x"), images(&["1.0", "1.1", "1.2"]));
    repo.two_days_pass("x");
    nothing_to_do(&repo);
    repo.publish(&["verify"]).ok();
    let ran = repo.publish(&["restore", "x", "1.2"]).says(&["version `1.2` is not yanked in x"]);
    assert!(!ran.status.success(), "{ran}");
}

#[test]
fn older_ones_fill_the_place() {
    let repo = published();
    let text = fs::read_to_string(repo.path("components/x.toml")).unwrap();
    repo.component("x", &format!("{text}[versions]\nnewest = 2\n"));
    repo.sync().ok();
    assert_eq!(repo.listed("x"), images(&["1.1", "1.2"]));
    repo.publish(&["yank", "x", "1.2"]).ok();
    repo.sync().ok().prints(&["x-1.0-x86-64.raw"]);
    assert_eq!(repo.listed("x"), images(&["1.0", "1.1"]));
    nothing_to_do(&repo);
    repo.publish(&["restore", "x", "1.2"]).ok();
    repo.sync().ok();
    assert_eq!(repo.listed("x"), images(&["1.1", "1.2"]));
    nothing_to_do(&repo);
}

#[test]
fn a_restored_version_whose_file_is_gone_is_a_revision() {
    let repo = published();
    repo.publish(&["yank", "x", "1.2"]).ok();
    repo.two_days_pass("x");
    repo.sync().ok().prints(&["deleted 1 file"]);
    assert!(!repo.path("public/x/x-1.2-x86-64.raw").exists());
    nothing_to_do(&repo);
    repo.publish(&["restore", "x", "1.2"]).ok().prints(&[
        "its files are not there as they were: the next sync builds x 1.2 anew, as revision r1",
    ]);
    repo.sync().ok().prints(&["x-1.2-r1-x86-64.raw", "new version"]);
    assert_eq!(repo.listed("x"), images(&["1.0", "1.1", "1.2-r1"]));
    nothing_to_do(&repo);
}

#[test]
fn a_file_that_changed_is_not_put_back() {
    let repo = published();
    repo.publish(&["yank", "x", "1.2"]).ok();
    repo.write("public/x/x-1.2-x86-64.raw", "other");
    repo.publish(&["restore", "x", "1.2"]).ok().prints(&["as revision r1"]);
    assert_eq!(repo.listed("x"), images(&["1.0", "1.1"]));
    repo.sync().ok().prints(&["x-1.2-r1-x86-64.raw"]);
    nothing_to_do(&repo);
}

#[test]
fn a_fixed_recipe_replaces_what_was_yanked() {
    let repo = published();
    repo.publish(&["yank", "x", "1.2", "--reason", "no unit"]).ok();
    let text = fs::read_to_string(repo.path("components/x.toml")).unwrap();
    repo.component("x", &format!("{text}[files]\n\"usr/share/x\" = {{ text = \"fixed\" }}\n"));
    repo.sync().ok();
    assert_eq!(repo.listed("x"), images(&["1.0-r1", "1.1-r1"]), "yanked is yanked");
    repo.publish(&["restore", "--rebuild", "x", "1.2"]).ok().prints(&["as revision r1"]);
    repo.sync().ok().prints(&["x-1.2-r1-x86-64.raw"]);
    assert_eq!(repo.image("x", "x-1.2-r1-x86-64.raw").text("usr/share/x"), "fixed");
    nothing_to_do(&repo);

    // One revision alone: the next recipe makes the next one.
    repo.publish(&["yank", "x", "1.2-r1"]).ok();
    nothing_to_do(&repo);
    repo.publish(&["plan", "-v"]).ok().prints(&["out: yanked"]);
    repo.component("x", &format!("{text}[files]\n\"usr/share/x\" = {{ text = \"better\" }}\n"));
    repo.sync().ok().prints(&["x-1.2-r2-x86-64.raw"]);
    assert_eq!(repo.listed("x"), images(&["1.0-r2", "1.1-r2", "1.2-r2"]));
    nothing_to_do(&repo);
}

#[test]
fn every_revision_goes_with_its_version() {
    let repo = published();
    let text = fs::read_to_string(repo.path("components/x.toml")).unwrap();
    repo.component("x", &format!("{text}[files]\n\"usr/share/x\" = {{ text = \"x\" }}\n"));
    repo.sync().ok();
    repo.publish(&["yank", "x", "1.2"]).ok().prints(&["took x-1.2-r1-x86-64.raw out"]);
    assert_eq!(repo.listed("x"), images(&["1.0-r1", "1.1-r1"]));
    nothing_to_do(&repo);
    repo.publish(&["restore", "x", "1.2"]).ok();
    assert_eq!(repo.listed("x"), images(&["1.0-r1", "1.1-r1", "1.2-r1"]));
    nothing_to_do(&repo);
}

#[test]
fn what_cannot_be_yanked_is_told() {
    let repo = published();
    let before = repo.manifest("x");
    let catalogue = fs::read(repo.path(CATALOGUE)).ok();
    repo.publish(&["yank", "x", "9.9"])
        .code(2)
        .says(&["version `9.9` is not published in x", "hint: published: 1.0, 1.1, 1.2"]);
    repo.publish(&["yank", "x", "1.2.0"]).code(2).says(&["hint: published: 1.2, 1.0, 1.1"]);
    repo.publish(&["restore", "x", "1.0"])
        .code(2)
        .says(&["version `1.0` is not yanked in x", "hint: nothing is yanked"]);
    repo.publish(&["yank", "y", "1.0"]).code(2).says(&["there is no component `y`"]);
    repo.publish(&["yank", "x", "1/0"]).code(2);
    repo.publish(&["yank", "x"]).code(2);
    assert_eq!(repo.manifest("x"), before);
    assert_eq!(fs::read(repo.path(CATALOGUE)).ok(), catalogue);
    // Not even a store is made.
    let repo = Repo::new();
    repo.simple("x");
    let ran = repo.publish(&["yank", "x", "1.0"]).says(&["there is no repository yet"]);
    assert!(!ran.status.success() && !repo.path("public").exists(), "{ran}");
}

#[test]
fn the_last_version_needs_force() {
    let repo = Repo::new();
    repo.simple("x");
    repo.release("x", "1.0", "one");
    repo.sync().ok();
    let ran = repo.publish(&["yank", "x", "1.0"]).says(&[
        "version `1.0` is all that x offers",
        "systemd 257",
        "--force",
    ]);
    assert!(!ran.status.success(), "{ran}");
    assert_eq!(repo.listed("x"), images(&["1.0"]));
    repo.publish(&["yank", "x", "1.0", "--force"]).ok().prints(&["nothing is offered now"]);
    assert_eq!(repo.manifest("x"), "");
    nothing_to_do(&repo);
    repo.release("x", "1.1", "two");
    repo.sync().ok();
    assert_eq!(repo.listed("x"), images(&["1.1"]));
}

/// The catalogue is written first: a yank that was killed before the manifest is finished later.
#[test]
fn half_a_yank_is_finished() {
    let repo = published();
    let manifest = repo.manifest("x");
    repo.publish(&["yank", "x", "1.2"]).ok();
    repo.write("public/x/SHA256SUMS", manifest);
    repo.publish(&["plan"]).ok().prints(&["x-1.2-x86-64.raw  out: yanked"]);
    repo.sync().ok().prints(&["took 1 line out", "x-1.2-x86-64.raw  out: yanked"]);
    assert_eq!(repo.listed("x"), images(&["1.0", "1.1"]));
    nothing_to_do(&repo);
}

/// What was published under an earlier `[image] name` is no less bad.
#[test]
fn a_version_goes_under_all_of_its_names() {
    let repo = published();
    let text = fs::read_to_string(repo.path("components/x.toml")).unwrap();
    repo.component("x", &format!("{text}[image]\nname = \"{{name}}_{{version}}_{{arch}}.raw\"\n"));
    repo.sync().ok();
    assert_eq!(repo.listed("x").len(), 6);
    // Somebody else's, and one whose record was lost, are nobody's to take.
    fs::remove_file(repo.path("public/.publish/images/x/x-1.1-x86-64.raw.json")).unwrap();
    let manifest = repo.manifest("x");
    repo.publish(&["yank", "x", "1.2"])
        .ok()
        .prints(&["took x-1.2-x86-64.raw out of x", "took x_1.2_x86-64.raw out of x"]);
    let left =
        [images(&["1.0", "1.1"]), vec!["x_1.0_x86-64.raw".into(), "x_1.1_x86-64.raw".into()]];
    assert_eq!(repo.listed("x"), left.concat());
    nothing_to_do(&repo);
    // A crash before the manifest was written: the next sync finishes it.
    repo.write("public/x/SHA256SUMS", &manifest);
    repo.sync().ok().prints(&["took 2 lines out", "x-1.2-x86-64.raw  out: yanked"]);
    assert_eq!(repo.listed("x"), left.concat());
    repo.two_days_pass("x");
    repo.sync().ok().prints(&["deleted 2 files"]);
    assert!(!repo.path("public/x/x-1.2-x86-64.raw").exists());
    nothing_to_do(&repo);

    repo.publish(&["yank", "x", "1.1"]).ok();
    assert_eq!(repo.listed("x").len(), 3, "one has no record");
    repo.publish(&["yank", "x", "1.0"]).ok();
    repo.publish(&["restore", "x", "1.0"])
        .ok()
        .prints(&["put x-1.0-x86-64.raw back", "put x_1.0_x86-64.raw back"]);
    nothing_to_do(&repo);
}

#[test]
fn programs_read_it_too() {
    let repo = published();
    let ran = repo.publish(&["yank", "x", "1.2", "--json"]).ok();
    let json = ran.json();
    assert_eq!(json["command"], "yank");
    assert_eq!(json["release"], "1.2");
    assert_eq!(json["images"][0], "x-1.2-x86-64.raw");
    assert_eq!(json["newest"], "1.1");
    let json = repo.publish(&["restore", "x", "1.2", "--json"]).ok().json();
    assert_eq!(json["newest"], "1.2");
}

#[test]
fn nobody_yanks_while_somebody_publishes() {
    let repo = published();
    let lock = fs::File::create(repo.path("public/.publish/lock")).unwrap();
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive).unwrap();
    for args in [&["yank", "x", "1.2"][..], &["restore", "x", "1.2"]] {
        repo.publish(args).code(5).says(&["another publisher holds public"]);
    }
    assert_eq!(repo.listed("x").len(), 3);
}

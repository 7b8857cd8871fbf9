//! `[build] dispatch`: a workflow on GitHub makes what is in an image.

use crate::github::{GitHub, Workflow};
use crate::pack::{Tar, zip};
use crate::repo::Repo;
use crate::web::sha256;

const TOKEN: &str = "ghp_secret";

/// What the workflow leaves: a tar archive in the zip that every artifact is.
fn artifact() -> Vec<u8> {
    let tar = Tar::new().folder("usr/").folder("usr/bin/").file("usr/bin/x", 0o755, "x 1.0");
    zip(&[("root.tar.gz", 0o644, tar.gz())])
}

fn workflow() -> Workflow {
    Workflow {
        inputs: vec!["version", "arch", "id"],
        tells: true,
        polls: 1,
        conclusion: "success",
        artifacts: vec![("image", artifact())],
        digest: None,
    }
}

/// A repository whose component `x` a workflow of this kind makes of the release `x-1.0`.
fn scene(workflow: Workflow, rule: &str) -> (Repo, GitHub) {
    let (mut repo, github) = (Repo::new(), GitHub::start());
    github.repo("o/r");
    github.workflow("o/r", "image.yml", workflow);
    github.require_token(TOKEN);
    repo.env("GITHUB_API_URL", &github.api());
    repo.env("GITHUB_TOKEN", TOKEN);
    repo.simple("x");
    repo.component(
        "x",
        &format!(
            "[source.directory]\npath = \"x-releases\"\nmatch = \"x-{{version}}\"\n[build]\ndispatch = \"o/r/image.yml\"\n{rule}\n"
        ),
    );
    repo.release("x", "1.0", "");
    (repo, github)
}

fn fails(workflow: Workflow, rule: &str, texts: &[&str]) -> GitHub {
    let (repo, github) = scene(workflow, rule);
    let ran =
        repo.sync().code(3).says(&["error: x 1.0 x86-64: cannot build", "hint: "]).says(texts);
    assert!(!ran.stderr.contains(TOKEN), "{ran}");
    assert!(!repo.path("public/x").exists());
    github
}

#[test]
fn what_a_workflow_leaves_becomes_the_image() {
    // Older servers tell no run: it is found by what nobody else gave it.
    for tells in [true, false] {
        let left = artifact();
        let artifacts = vec![("image", left.clone())];
        let (repo, github) = scene(Workflow { tells, artifacts, ..workflow() }, "");
        repo.publish(&["plan"]).ok().prints(&["made by o/r/image.yml\n"]);
        let ran = repo.sync().ok().says(&["ran o/r/image.yml for x-1.0-x86-64.raw"]);
        assert!(!ran.stderr.contains(TOKEN), "{ran}");
        let image = repo.image("x", "x-1.0-x86-64.raw");
        assert_eq!((image.text("usr/bin/x"), image.mode("usr/bin/x")), ("x 1.0", 0o755));
        let runs = github.runs("o/r");
        assert_eq!(runs.len(), 1);
        assert_eq!((&runs[0].0["version"], &runs[0].0["arch"]), (&"1.0".into(), &"x86-64".into()));
        let before = repo.snapshot();
        repo.sync().ok().prints(&["nothing to do"]);
        assert_eq!(repo.snapshot(), before);
        // What it was made of is recorded.
        let record = repo.path("public/.publish/images/x/x-1.0-x86-64.raw.json");
        let record = std::fs::read_to_string(record).unwrap();
        assert!(
            record.contains("/o/r/actions/runs/") && record.contains(&sha256(&left)),
            "{record}"
        );
        // The token is not shown to where the artifact lies.
        assert!(
            github.storage_requests().iter().all(|asked| asked.header("authorization").is_none())
        );
    }
}

#[test]
fn a_run_that_does_not_succeed_is_told_with_its_address() {
    fails(
        Workflow { conclusion: "failure", ..workflow() },
        "",
        &["/o/r/actions/runs/", " ended with `failure`", "hint: look at the run's log there"],
    );
    // Nobody waits any more, so it need not go on.
    let github = fails(
        Workflow { polls: usize::MAX, ..workflow() },
        "timeout = \"1s\"",
        &["/o/r/actions/runs/", "is not over after 1 s"],
    );
    assert!(github.runs("o/r")[0].1, "the run is cancelled");
}

#[test]
fn a_workflow_that_cannot_be_started() {
    fails(
        Workflow { inputs: vec!["version"], ..workflow() },
        "",
        &[
            "cannot start o/r/image.yml",
            "Unexpected inputs provided",
            "with the inputs version, arch and id",
        ],
    );
    fails(workflow(), "ref = \"other\"", &["No ref found for: other"]);
    let (mut repo, github) = scene(workflow(), "");
    repo.env("GITHUB_TOKEN", "");
    repo.sync().code(3).says(&["no token to start o/r/image.yml with", "hint: set GITHUB_TOKEN"]);
    assert_eq!(github.runs("o/r").len(), 0);
}

#[test]
fn an_artifact_is_one_archive_of_the_promised_digest() {
    let with = |artifacts| Workflow { artifacts, ..workflow() };
    fails(with(vec![]), "", &["left no artifact"]);
    let two = with(vec![("image", artifact()), ("log", artifact())]);
    fails(two.clone(), "", &["it has image, log", "artifact = \"…\""]);
    fails(two.clone(), "artifact = \"other\"", &["it has image, log"]);
    let (repo, _github) = scene(two, "artifact = \"image\"");
    repo.sync().ok();
    let plain = zip(&[("usr/bin/x", 0o755, "x"), ("usr/bin/y", 0o755, "y")]);
    fails(
        with(vec![("image", plain)]),
        "",
        &["2 files instead of one archive", "upload a tar archive"],
    );
    let page = zip(&[("root.tar", 0o644, "no archive at all")]);
    fails(with(vec![("image", page)]), "", &["cannot unpack what the workflow left"]);
    let hostile = Tar::new().file("../x", 0o644, "x").gz();
    let hostile = zip(&[("root.tar.gz", 0o644, hostile)]);
    fails(with(vec![("image", hostile)]), "", &["`../x` leaves the image root"]);
    let lie = Workflow { digest: Some(format!("sha256:{}", "0".repeat(64))), ..workflow() };
    fails(lie, "", &["has an artifact of SHA-256 0000000", " came"]);
}

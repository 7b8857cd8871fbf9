//! What GitHub Actions is told: annotations, outputs and a summary, whatever upstreams call their things;
//! and the action's own scripts and workflows.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::repo::{Ran, Repo};

/// A repository on a runner.
fn runner() -> Repo {
    let mut repo = Repo::new();
    let file = |repo: &Repo, name: &str| repo.path(name).to_str().unwrap().to_owned();
    for (variable, name) in [("GITHUB_OUTPUT", "output"), ("GITHUB_STEP_SUMMARY", "summary.md")] {
        let path = file(&repo, name);
        repo.env(variable, &path);
    }
    repo.env("GITHUB_ACTIONS", "true");
    repo
}

fn text(repo: &Repo, name: &str) -> String {
    fs::read_to_string(repo.path(name)).unwrap_or_default()
}

/// The runner's rule for a line that is a command, in its newer and its older form.
fn commands(text: &str) -> Vec<&str> {
    let lines = text.split(['\n', '\r']);
    lines.filter(|line| line.trim_start().starts_with("::") || line.contains("##[")).collect()
}

fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn a_sync_tells_what_changed_and_what_failed() {
    let repo = runner();
    repo.simple("good");
    repo.release("good", "1.0", "good");
    repo.simple("bad");
    repo.release("bad", "1.0", "bad");
    let broken = text(&repo, "components/bad.toml")
        .replace("\"bad-{version}\"\n[asset", "\"no-{version}\"\n[asset");
    repo.component("bad", &broken);
    let ran = repo.sync().code(3);
    let told = commands(&ran.stderr);
    assert_eq!(told.len(), 1, "{ran}");
    assert!(told[0].starts_with("::error title=publish::bad 1.0: "), "{ran}");
    assert!(told[0].contains("%0A  hint: "), "{ran}");
    assert_eq!(text(&repo, "output"), "changed=true\n");
    let summary = text(&repo, "summary.md");
    for part in [
        "### 1 image published in public",
        "**1 component failed**",
        "| good | good&#45;1&#46;0&#45;x86&#45;64&#46;raw | 4.0 KiB | new version |",
        "#### Failures\n\n- bad 1&#46;0&#58; ",
        "<br>hint: ",
    ] {
        assert!(summary.contains(part), "{part}\n{summary}");
    }
    repo.write("output", "");
    repo.publish(&["sync", "--only", "good"]).ok();
    assert_eq!(text(&repo, "output"), "changed=false\n");
    assert!(text(&repo, "summary.md").contains("### Nothing new in public"));
}

#[test]
fn no_upstream_gives_the_runner_commands() {
    let repo = runner();
    // A command's words are all that its author likes.
    repo.write(
        "components/evil/say",
        "#!/bin/sh\nprintf '::add-mask::a\\n  ::stop-commands::b\\n##[add-matcher]c\\nx\\r::error::d\\n' >&2\nexit 1\n",
    );
    let run = ["chmod", "+x", "components/evil/say"];
    let mut chmod = Command::new(run[0]);
    repo.prepare(&mut chmod);
    chmod.env("PATH", "/usr/bin:/bin").args(&run[1..]);
    assert!(chmod.status().unwrap().success());
    repo.component(
        "evil",
        "[source.directory]\npath = \"evil-releases\"\nmatch = \"evil-{version}\"\n\n[build]\ncommand = [\"./say\"]\n",
    );
    repo.release("evil", "1.0", "x");
    repo.release("evil", "##[add-mask]z", "x");
    for args in [&["sync"][..], &["plan", "-v"], &["sync", "--json"], &["status", "-v"]] {
        let ran = repo.publish(args);
        let told = commands(&ran.stderr);
        let ours = |line: &&str| {
            ["::error title=publish::", "::warning title=publish::"]
                .iter()
                .any(|begin| line.starts_with(begin) && !line.contains("##["))
        };
        assert!(told.iter().all(ours), "{told:?}\n{ran}");
        assert_eq!(commands(&ran.stdout), Vec::<&str>::new(), "{ran}");
        if args.contains(&"--json") {
            ran.json();
        }
    }
    let summary = text(&repo, "summary.md");
    assert!(
        summary.contains("evil 1&#46;0 x86&#45;64&#58; cannot build<br>caused by: ")
            && commands(&summary).is_empty(),
        "{summary}"
    );
    // Elsewhere nothing is changed.
    let plain = Ran::of(repo.command(&["sync"]).env_remove("GITHUB_ACTIONS"));
    assert!(plain.stderr.contains("error: evil 1.0 x86-64: "), "{plain}");
}

#[test]
fn a_plan_sets_its_outputs() {
    let repo = runner();
    repo.simple("x");
    let ran = repo.publish(&["plan", "--matrix"]).ok();
    assert_eq!(text(&repo, "output"), "jobs=0\nmatrix={\"include\":[]}\n");
    assert_eq!(ran.stdout, "{\"include\":[]}\n");
    assert_eq!(text(&repo, "summary.md"), "### Nothing to build\n");
    repo.write("output", "");
    repo.release("x", "1.0", "x");
    let ran = repo.publish(&["plan", "--matrix"]).ok();
    assert_eq!(text(&repo, "output"), format!("jobs=1\nmatrix={}", ran.stdout));
    assert!(
        text(&repo, "summary.md")
            .contains("### 1 image to build, in 1 job\n\n- x 1&#46;0 x86&#45;64\n")
    );
}

/// The action's script, run as a step of the runner does.
fn step(repo: &Repo, inputs: &[(&str, &str)]) -> Ran {
    let bin = repo.path("publish-bin");
    let program = PathBuf::from(env!("CARGO_BIN_EXE_publish"));
    if !bin.exists() {
        fs::create_dir(&bin).unwrap();
        std::os::unix::fs::symlink(program, bin.join("publish")).unwrap();
    }
    let mut command = Command::new(project().join("config/actions/run"));
    repo.prepare(&mut command);
    command
        .env("PATH", "/usr/bin:/bin")
        .env("RUNNER_TEMP", repo.path(""))
        .envs(inputs.iter().copied());
    Ran::of(&mut command)
}

#[test]
fn the_action_runs_the_three_commands() {
    let repo = runner();
    repo.simple("x");
    repo.simple("y");
    repo.release("x", "1.0", "x");
    repo.release("y", "1.0", "y");
    let output = |name: &str| {
        let text = text(&repo, "output");
        let line = text.lines().rev().find_map(|line| line.strip_prefix(&format!("{name}=")));
        line.unwrap_or_else(|| panic!("no output {name}: {text}")).to_owned()
    };
    let only = ("PUBLISH_ACTION_ONLY", "x");
    step(&repo, &[("PUBLISH_ACTION_COMMAND", "plan"), ("PUBLISH_ACTION_STAGED", "s"), only]).ok();
    assert_eq!(output("jobs"), "1");
    let matrix: serde_json::Value = serde_json::from_str(&output("matrix")).unwrap();
    let job = matrix["include"][0]["job"].as_str().unwrap();
    let build = ("PUBLISH_ACTION_COMMAND", "build");
    step(&repo, &[build, ("PUBLISH_ACTION_STAGED", "s"), ("PUBLISH_JOB", job)]).ok();
    let report: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(output("report")).unwrap()).unwrap();
    assert_eq!(report["images"][0]["component"], "x");
    step(&repo, &[("PUBLISH_ACTION_STAGED", "s"), only]).ok();
    assert_eq!(output("changed"), "true");
    assert_eq!(repo.listed("x"), ["x-1.0-x86-64.raw"]);
    step(&repo, &[]).ok();
    assert_eq!(repo.listed("y"), ["y-1.0-x86-64.raw"]);
    // No input is ever a part of a script.
    for (name, value) in [
        ("PUBLISH_ACTION_COMMAND", "sync; touch owned"),
        ("PUBLISH_ACTION_ONLY", "$(touch owned)"),
        ("PUBLISH_ACTION_CONFIG", "`touch owned`"),
    ] {
        let ran = step(&repo, &[(name, value)]);
        assert_ne!(ran.status.code(), Some(0), "{ran}");
    }
    assert!(!repo.path("owned").exists());
}

/// `gh`, which has one release and attests it, or not.
const GH: &str = r#"#!/bin/sh
case "$1 $2" in
"api repos/owner/publish/releases/tags/v0.1.0") echo v0.1.0 ;;
"api "*) echo "gh: Not Found (HTTP 404)" >&2; exit 1 ;;
"release download") cp "$RELEASE"/* . ;;
"attestation verify")
    case "$*" in *" --signer-workflow owner/publish/.github/workflows/release.yml"*) test -n "$ATTESTED" ;; *) exit 2 ;; esac
    ;;
*) exit 2 ;;
esac
"#;

#[test]
fn a_release_is_taken_only_if_it_is_right() {
    let repo = runner();
    let script = |path: &str, text: &str| {
        repo.write(path, text);
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(repo.path(path), mode).unwrap();
    };
    script("bin/gh", GH);
    script("release/publish", "#!/bin/sh\necho publish of the release\n");
    let name = format!("publish-{}-unknown-linux-musl.tar.gz", std::env::consts::ARCH);
    let mut tar = Command::new("tar");
    repo.prepare(&mut tar);
    tar.env("PATH", "/usr/bin:/bin").args([
        "-C",
        "release",
        "-czf",
        &format!("assets/{name}"),
        "publish",
    ]);
    fs::create_dir(repo.path("assets")).unwrap();
    assert!(tar.status().unwrap().success());
    let archive = fs::read(repo.path(&format!("assets/{name}"))).unwrap();
    let sums = |digest: &str| repo.write("assets/SHA256SUMS", format!("{digest}  {name}\n"));
    let run = |what: &str, attested: &str| {
        let mut command = Command::new(project().join("config/actions/install"));
        repo.prepare(&mut command);
        command
            .arg(what)
            .env("PATH", format!("{}:/usr/bin:/bin", repo.path("bin").display()))
            .env("GITHUB_ACTION_PATH", project())
            .env("GITHUB_PATH", repo.path("path"))
            .env("RUNNER_TEMP", repo.path(""))
            .env("PUBLISH_ACTION_REPOSITORY", "owner/publish")
            .env("PUBLISH_RELEASE", "v0.1.0")
            .env("RELEASE", repo.path("assets"))
            .env("ATTESTED", attested);
        let ran = Ran::of(&mut command);
        repo.clean_up();
        ran
    };
    run("find", "").ok();
    assert_eq!(text(&repo, "output"), "release=v0.1.0\n");
    let right = crate::web::sha256(&archive);
    for (digest, attested, said) in [
        ("0".repeat(64), "yes", "is not what SHA256SUMS of the release v0.1.0 says"),
        (right.clone(), "", "the release workflow of owner/publish does not attest"),
    ] {
        sums(&digest);
        run("install", attested).code(1).says(&["::error title=publish::", said]);
        assert!(!repo.path("publish-bin/publish").exists());
    }
    sums(&right);
    run("install", "yes").ok().prints(&["publish of the release"]);
    assert!(Path::new(text(&repo, "path").trim()) == repo.path("publish-bin"));
}

#[test]
fn init_writes_a_workflow() {
    let repo = Repo::empty();
    let ran = repo.publish(&["init", "--github"]).ok().prints(&[".github/workflows/publish.yml"]);
    let workflow = text(&repo, ".github/workflows/publish.yml");
    assert!(workflow.contains("cron:") && workflow.contains("cancel-in-progress: false"), "{ran}");
    assert!(!workflow.contains("uses: ./"), "it is the action of this project");
    repo.sync().ok();
    let before = workflow;
    let ran = repo.publish(&["init", "--github=matrix"]).says(&["is there already"]);
    assert_ne!(ran.status.code(), Some(0), "{ran}");
    assert_eq!(text(&repo, ".github/workflows/publish.yml"), before);
    fs::remove_file(repo.path(".github/workflows/publish.yml")).unwrap();
    repo.publish(&["init", "--github=matrix"]).ok().prints(&["wrote a workflow"]);
    assert!(text(&repo, ".github/workflows/publish.yml").contains("fromJSON"));
}

/// What `uses` in a workflow, with what it is pinned to.
fn used(text: &str) -> Vec<(&str, &str)> {
    let lines = text.lines().filter_map(|line| line.split_once("uses: ")).map(|(_, used)| used);
    lines.filter_map(|used| used.split_once('@')).collect()
}

#[test]
fn every_action_is_pinned_by_its_commit_and_the_same_everywhere() {
    let files = [
        "action.yml",
        ".github/workflows/ci.yml",
        ".github/workflows/publish.yml",
        "config/actions/publish-matrix.yml",
    ];
    let mut pins = std::collections::BTreeMap::new();
    for file in files {
        let text = fs::read_to_string(project().join(file)).unwrap();
        for (action, pin) in used(&text) {
            let (commit, version) = pin.split_once(" # v").expect("a version in a comment");
            let is_commit = commit.len() == 40 && commit.bytes().all(|b| b.is_ascii_hexdigit());
            assert!(is_commit && !version.is_empty(), "{file}: {action}@{pin}");
            assert_eq!(*pins.entry(action.to_owned()).or_insert(pin.to_owned()), pin, "{file}");
        }
    }
    assert!(pins.len() >= 5, "{pins:?}");
}

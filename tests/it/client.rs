//! `publish client`, the files for nodes that a sync leaves beside the images, and lines that would
//! mislead nodes.

use std::fs;
use std::process::Command;

use serde_json::Value;

use crate::repo::{Ran, Repo};

/// A signed repository for two architectures, with one version of `x`, which has a service.
fn signed() -> Repo {
    let repo = Repo::empty();
    repo.write(
        "publish.toml",
        "[repository]\nurl = \"https://files.example.com/\"\n[signing]\nkey = { file = \"signing.key\" }\n",
    );
    repo.simple("x");
    let text = fs::read_to_string(repo.path("components/x.toml")).unwrap();
    repo.component(
        "x",
        &format!("description = \"It's a \\\"test\\\" $(id) `id` %n \\\\\"\n{text}\n[files]\n\"usr/lib/systemd/system/x.service\" = {{ text = \"[Service]\\nExecStart=/usr/bin/x\\n\" }}\n[services]\nenable = [\"x.service\"]\n"),
    );
    repo.publish(&["key", "generate"]).ok();
    repo.release("x", "1.0", "x 1.0");
    repo
}

fn published() -> Repo {
    let repo = signed();
    repo.sync().ok();
    repo
}

fn beside(repo: &Repo, name: &str) -> String {
    fs::read_to_string(repo.path(&format!("public/x/{name}"))).unwrap()
}

/// Whether this machine has a program; else the test says that it did not look.
fn has(program: &str, argument: &str) -> bool {
    let has = Command::new(program).arg(argument).output().is_ok();
    if !has {
        eprintln!("skipped: there is no {program}");
    }
    has
}

#[test]
fn every_format_is_what_lies_beside_the_images() {
    let repo = published();
    let client = |args: &[&str]| repo.publish(&[&["client", "x"], args].concat()).ok().stdout;
    assert_eq!(client(&[]), beside(&repo, "x.transfer"));
    assert_eq!(client(&["--format", "butane"]), beside(&repo, "x.bu"));
    assert_eq!(client(&["--format", "ignition"]), beside(&repo, "x.ign"));
    assert_eq!(client(&["--format", "script"]), beside(&repo, "x.sh"));
    repo.publish(&["client", "x", "--format", "butane", "--arch", "riscv64"])
        .code(2)
        .says(&["nothing is published of x for riscv64", "there are: x86-64, arm64"]);
    let arm = client(&["--format", "butane", "--arch", "arm64"]);
    assert_eq!(arm, beside(&repo, "x-arm64.bu"));
    assert!(arm.contains("source: https://files.example.com/x/x-1.0-arm64.raw\n"), "{arm}");
    assert_eq!(client(&["--format", "ignition", "--arch", "arm64"]), beside(&repo, "x-arm64.ign"));
    assert!(client(&["--format", "component"]).starts_with("[Component]\nDescription=It's a"));
    assert!(client(&["--format", "feature"]).contains("\n[Feature]\n"));
    assert!(client(&["--format", "butane", "--variant", "fcos"]).contains("variant: fcos\n"));
    let moved = client(&["--url", "https://other.example.com/a"]);
    assert!(moved.contains("\nPath=https://other.example.com/a/x/\n"), "{moved}");
    // No client is told of them.
    assert_eq!(repo.listed("x"), ["x-1.0-arm64.raw", "x-1.0-x86-64.raw"]);
}

#[test]
fn files_go_to_a_folder() {
    let repo = published();
    let ran = repo.publish(&["client", "--all", "-o", "out", "--format", "transfer"]).ok();
    assert_eq!(ran.stdout, "wrote out/x.transfer  goes to /etc/sysupdate.x.d/x.transfer\n");
    assert_eq!(
        fs::read_to_string(repo.path("out/x.transfer")).unwrap(),
        beside(&repo, "x.transfer")
    );
    let json = repo.publish(&["--json", "client", "x", "--format", "script"]).ok().json();
    assert_eq!(json["files"][0]["name"], "x.sh");
    assert_eq!(json["files"][0]["text"], beside(&repo, "x.sh"));
}

#[test]
fn what_cannot_be_made_says_why() {
    let repo = signed();
    repo.publish(&["client", "x"]).ok().prints(&["Verify=yes"]);
    repo.publish(&["client", "x", "--format", "butane"])
        .code(1)
        .says(&["error: nothing is published of x for x86-64", "hint: `publish sync` first"]);
    repo.publish(&["client", "y"]).code(2).says(&["no component `y`", "there are: x"]);
    repo.publish(&["client"]).code(2);
    repo.publish(&["client", "x", "--branch", "1.0"]).code(2).says(&["has no branch `1.0`"]);
    repo.publish(&["client", "x", "--base", "x"]).code(2).says(&["--base goes with"]);
    repo.simple("y");
    repo.publish(&["client", "--all"]).code(2).says(&["these are 2 files", "--output"]);
    repo.publish(&["client", "x", "--url", "javascript:x"]).code(2).says(&["http and https"]);
    repo.write("publish.toml", "[repository]\n");
    repo.publish(&["client", "x"]).code(1).says(&["add `url` to [repository]", "--url"]);
    repo.publish(&["client", "x", "--url", "https://e.org/"]).ok().prints(&["Verify=no"]);
}

#[test]
fn a_keyring_is_found_where_the_key_is_not() {
    let repo = published();
    fs::rename(repo.path("signing.key"), repo.path("away.key")).unwrap();
    let text = repo.publish(&["client", "x", "--format", "butane"]).ok().stdout;
    assert_eq!(text, beside(&repo, "x.bu"));
}

#[test]
fn a_base_keeps_its_lines() {
    let repo = published();
    let base = "variant: flatcar\nversion: 1.0.0\n# mine\nstorage:\n  files:\n    - path: /etc/hostname\n      contents:\n        inline: node\n";
    repo.write("base.bu", base);
    let ran = repo.publish(&["client", "x", "--format", "butane", "--base", "base.bu"]).ok();
    let mut lines = ran.stdout.lines();
    assert!(base.lines().all(|line| lines.any(|other| other == line)), "{ran}");
    repo.write("base.bu", base.replace("/etc/hostname", "/etc/sysupdate.x.d/x.transfer"));
    repo.publish(&["client", "x", "--format", "butane", "--base", "base.bu"]).code(1).says(&[
        "base.bu",
        "`storage.files /etc/sysupdate.x.d/x.transfer` is there already",
        "hint:",
    ]);
}

#[test]
fn a_base_that_nothing_can_be_put_into_is_refused_by_name() {
    let repo = published();
    let head = "variant: flatcar\nversion: 1.0.0\n";
    let refused = |base: &str, says: &[&str]| {
        repo.write("base.bu", base);
        repo.publish(&["client", "x", "--format", "butane", "--base", "base.bu"])
            .code(1)
            .says(says);
    };
    let files = "  files:\n    - path: /etc/mine\n";
    let merged = format!("{head}x-any: &any\n{files}storage:\n  <<: *any\n");
    refused(&merged, &["`storage <<` is written in a way that nothing can be added to"]);
    let twice = format!("{head}storage:\n{files}storage:\n  links: []\n");
    refused(&twice, &["`storage` is there twice"]);
    refused(&head.replace('\n', "\r\n"), &["its lines end with CRLF", "hint: "]);
}

#[test]
fn they_are_written_when_they_change_and_only_then() {
    let repo = published();
    let before = repo.snapshot();
    repo.sync().ok().prints(&["nothing to do"]);
    assert_eq!(repo.snapshot(), before);
    // A new version changes what a node begins with, but not what it follows.
    repo.release("x", "1.1", "x 1.1");
    repo.sync().ok();
    let after = repo.snapshot();
    assert_ne!(after["x/x.bu"], before["x/x.bu"]);
    assert_eq!(after["x/x.transfer"], before["x/x.transfer"]);
    assert_eq!(after["x/x.sh"], before["x/x.sh"]);
    // So does the configuration, without a build.
    let text = fs::read_to_string(repo.path("publish.toml")).unwrap();
    repo.write("publish.toml", text.replace("files.example.com", "new.example.com"));
    repo.sync().ok();
    assert!(beside(&repo, "x.transfer").contains("Path=https://new.example.com/x/"));
    assert_eq!(repo.listed("x").len(), 4);
    // Who does not want them has none.
    repo.write("publish.toml", text.replace("[signing]", "client-files = false\n[signing]"));
    repo.sync().ok();
    let names: Vec<String> = repo
        .snapshot()
        .into_keys()
        .filter(|name| name.starts_with("x/x") && !name.contains(".raw"))
        .collect();
    assert_eq!(names, ["x/x.html"]);
    let before = repo.snapshot();
    repo.sync().ok();
    assert_eq!(repo.snapshot(), before);
}

#[test]
fn somebody_elses_file_stays() {
    let repo = signed();
    repo.write("public/x/x.sh", "mine\n");
    repo.sync()
        .ok()
        .says(&["warning: public/x/x.sh is somebody else's, and stays", "client-files"]);
    assert_eq!(beside(&repo, "x.sh"), "mine\n");
    assert!(beside(&repo, "x.transfer").contains("Verify=yes"));
    // It is said in every run, whatever the run does.
    let before = repo.snapshot();
    repo.sync().ok().says(&["x.sh is somebody else's"]);
    repo.publish(&["-q", "sync"]).ok().says(&["x.sh is somebody else's"]);
    assert_eq!(repo.snapshot(), before);
    // Neither is one that was ours.
    repo.write("public/x/x.bu", "edited\n");
    repo.release("x", "1.1", "x 1.1");
    let ran = repo.sync().ok().says(&["x.bu is somebody else's"]);
    assert_eq!(ran.stderr.matches("warning: ").count(), 2, "{ran}");
    assert_eq!(beside(&repo, "x.bu"), "edited\n");
    repo.publish(&["verify"]).ok().prints(&["warning: x.bu: is somebody else's"]);
    // Once it is moved away, ours is written.
    fs::remove_file(repo.path("public/x/x.bu")).unwrap();
    assert!(!repo.sync().ok().stderr.contains("x.bu"));
    assert!(beside(&repo, "x.bu").contains("x-1.1-x86-64.raw"));
}

#[test]
fn a_folder_in_the_place_of_a_file_stays_and_keeps_no_other_from_its_place() {
    let repo = signed();
    fs::create_dir_all(repo.path("public/x/x.bu/mine")).unwrap();
    for _ in 0..2 {
        repo.sync().ok().says(&["warning: public/x/x.bu is somebody else's, and stays"]);
        assert!(repo.path("public/x/x.bu/mine").exists());
        assert!(repo.path("public/x/x.transfer").exists());
        assert!(repo.path("public/x/x-arm64.ign").exists());
    }
}

#[test]
fn what_is_gone_or_cut_short_is_written_again() {
    let repo = published();
    let whole = repo.snapshot();
    fs::remove_file(repo.path("public/x/x.transfer")).unwrap();
    repo.write("public/x/x.ign", "");
    repo.write("public/x/x.sh", &whole["x/x.sh"].0[..100]);
    repo.publish(&["verify"]).code(3).prints(&[
        "error: x.transfer: was written for nodes, but is not there",
        "error: x.ign: has other bytes",
        "error: x.sh: has other bytes",
        "it is not right",
    ]);
    repo.publish(&["verify", "--quick"]).code(3).prints(&["error: x.transfer: was written"]);
    let ran = repo.sync().ok();
    assert!(!ran.stderr.contains("warning"), "{ran}");
    repo.publish(&["verify"]).ok().prints(&["6 files for nodes, signed by", "every byte is right"]);
    for name in ["x.transfer", "x.ign", "x.sh"] {
        let name = format!("x/{name}");
        assert_eq!(repo.snapshot()[&name].0, whole[&name].0, "{name}");
    }
}

#[test]
fn status_tells_what_is_missing_or_not_as_it_should_be() {
    let repo = published();
    let status = |args: &[&str]| repo.publish(&[&["status"], args].concat());
    assert!(!status(&[]).ok().stdout.contains("for nodes"));
    fs::remove_file(repo.path("public/x/x.transfer")).unwrap();
    repo.write("public/x/x.bu", "");
    status(&[]).code(3).prints(&["x: behind", "  for nodes  not up to date: x.bu, x.transfer\n"]);
    status(&["--check"]).code(3).prints(&["BEHIND: 1 of 1 component: x behind"]);
    let json = status(&["--json"]).code(3).json();
    assert_eq!(json["components"][0]["client_files"], serde_json::json!(["x.bu", "x.transfer"]));
    repo.sync().ok();
    status(&[]).ok();
    // So does a new address.
    let text = fs::read_to_string(repo.path("publish.toml")).unwrap();
    repo.write("publish.toml", text.replace("files.example.com", "new.example.com"));
    status(&[]).code(3).prints(&["x.transfer"]);
}

const RECORD: &str = "public/.publish/clients/x.json";

#[test]
fn what_an_older_publish_wrote_is_ours() {
    const CATALOGUE: &str = "public/.publish/folders/x.json";
    let repo = published();
    let read = |path: &str| -> Value {
        serde_json::from_slice(&fs::read(repo.path(path)).unwrap()).unwrap()
    };
    let age = || {
        let mut catalogue = read(CATALOGUE);
        catalogue["clients"] = read(RECORD)["files"].clone();
        repo.write(CATALOGUE, catalogue.to_string());
        fs::remove_file(repo.path(RECORD)).unwrap();
    };
    let is_new = || {
        assert_eq!(read(CATALOGUE)["clients"], Value::Null);
        assert_eq!(read(RECORD)["files"].as_object().unwrap().len(), 6);
    };
    age();
    repo.publish(&["verify"]).ok().prints(&["6 files for nodes"]);
    repo.publish(&["status"]).ok();
    repo.sync().ok().prints(&["nothing to do"]);
    is_new();
    let before = repo.snapshot();
    repo.sync().ok();
    assert_eq!(repo.snapshot(), before);
    // Neither is it a stranger's where it is to be written anew.
    age();
    repo.release("x", "1.1", "x 1.1");
    let ran = repo.sync().ok();
    assert!(!ran.stderr.contains("warning"), "{ran}");
    assert!(beside(&repo, "x.bu").contains("x-1.1-x86-64.raw"));
    is_new();
    // Nor where it is to go.
    age();
    fs::remove_file(repo.path("components/x.toml")).unwrap();
    repo.publish(&["retire", "x"]).ok();
    assert!(!repo.path("public/x/x.sh").exists());
}

#[test]
fn a_record_that_cannot_be_read_is_written_anew_and_told() {
    let repo = published();
    let whole = fs::read(repo.path(RECORD)).unwrap();
    repo.write(RECORD, "nonsense");
    repo.publish(&["verify"]).prints(&["warning: .publish/clients/x.json: cannot be read"]);
    repo.sync().ok().says(&["warning: x: public/.publish/clients/x.json cannot be read, and is"]);
    assert!(fs::read(repo.path(RECORD)).unwrap() == whole);
    assert!(!repo.sync().ok().stderr.contains("warning"));
}

#[test]
fn the_files_of_a_retired_folder_go_with_it() {
    let repo = published();
    repo.write("public/x/x.sh", "mine\n");
    fs::remove_file(repo.path("components/x.toml")).unwrap();
    repo.publish(&["retire", "x"]).ok();
    let names = repo.snapshot().into_keys().filter(|name| name.starts_with("x/x."));
    assert_eq!(names.collect::<Vec<_>>(), ["x/x.sh"], "what is somebody else's stays");
}

#[test]
fn without_an_address_nothing_is_written() {
    let repo = Repo::new();
    repo.write("publish.toml", "[repository]\narchitectures = [\"x86-64\"]\n");
    repo.simple("x");
    repo.release("x", "1.0", "x");
    repo.sync().ok();
    assert!(!repo.path("public/x/x.transfer").exists());
}

/// Adds a line to the manifest of `x`, as somebody with an editor does.
fn line(repo: &Repo, name: &str) {
    repo.write(&format!("public/x/{name}"), "foreign");
    let digest = crate::web::sha256(b"foreign");
    let manifest = format!("{digest}  {name}\n{}", repo.manifest("x"));
    repo.write("public/x/SHA256SUMS", manifest);
}

fn misled(ran: &Ran) -> bool {
    ran.stderr.contains("would take x-9.9-custom-x86-64.raw instead of")
}

#[test]
fn a_line_that_would_mislead_nodes_stops_the_sync() {
    let repo = Repo::new();
    repo.simple("x");
    repo.release("x", "1.0", "x 1.0");
    repo.sync().ok();
    line(&repo, "x-9.9-custom-x86-64.raw");
    let told = "error: x: systemd 257 on x86-64 with x.transfer would take x-9.9-custom-x86-64.raw instead of x-1.0-x86-64.raw";
    repo.sync().code(3).says(&[told, "hint: ", "`publish yank x 9.9-custom`"]);
    repo.publish(&["sync", "--dry-run"]).code(3).says(&[told]);
    // Nothing is published that no node would ever take.
    repo.release("x", "1.1", "x 1.1");
    let manifest = repo.manifest("x");
    let ran = repo.sync().code(3).says(&["instead of x-1.1-x86-64.raw"]);
    assert_eq!(ran.stderr.matches("error: ").count(), 1, "{ran}");
    assert_eq!(repo.manifest("x"), manifest);
    // The way out is the one that is told.
    repo.publish(&["yank", "x", "9.9-custom"]).ok();
    assert!(!misled(&repo.sync().ok().prints(&["newest 1.1"])));
}

#[test]
fn verify_tells_what_nodes_would_take() {
    let repo = Repo::new();
    repo.simple("x");
    repo.release("x", "1.0", "x 1.0");
    repo.sync().ok();
    repo.publish(&["verify"]).ok();
    line(&repo, "x-9.9-custom-x86-64.raw");
    // A line that no sync would let in is told by the sync; here, nobody asks upstream.
    repo.publish(&["verify"]).prints(&[
        "warning: x-9.9-custom-x86-64.raw: nodes on x86-64 take it, but nothing tells who made it",
    ]);
}

#[test]
fn ignition_takes_what_is_written_without_a_word() {
    if !has("ignition-validate", "--version") {
        return;
    }
    let repo = published();
    for name in ["x.ign", "x-arm64.ign"] {
        let path = repo.path(&format!("public/x/{name}"));
        let ran = Ran::of(Command::new("ignition-validate").arg(path)).ok();
        assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("", ""), "{name}");
        let json: Value = serde_json::from_str(&beside(&repo, name)).unwrap();
        assert_eq!(json["ignition"]["version"], "3.3.0");
    }
}

#[test]
fn the_installer_is_a_clean_script() {
    let repo = published();
    let path = repo.path("public/x/x.sh");
    Ran::of(Command::new("sh").arg("-n").arg(&path)).ok();
    if has("shellcheck", "--version") {
        let ran = Ran::of(Command::new("shellcheck").args(["--shell=sh"]).arg(&path));
        assert_eq!((ran.stdout.as_str(), ran.status.code()), ("", Some(0)));
    }
    // It refuses before it changes anything.
    let script = beside(&repo, "x.sh").replace("$(uname -m)", "vax");
    let mut command = Command::new("sh");
    repo.prepare(&mut command);
    command.env("PATH", "/usr/bin:/bin").args(["-c", &script]);
    Ran::of(&mut command)
        .code(1)
        .says(&["error: x is not published for vax", "hint: there are images for"]);
}

//! Source `command`: a program that prints versions, and all that such a program may do.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use crate::repo::{Ran, Repo, Running, until};
use crate::web::{Web, sha256};

/// A repository with a component `x` that runs this script.
fn scripted(script: &str, timeout: &str) -> (Repo, Web) {
    let (mut repo, web) = (Repo::new(), Web::start());
    repo.env("PATH", &std::env::var("PATH").unwrap());
    for version in ["1.0.0", "1.1.0", "1.2.0"] {
        web.put(&format!("/files/{version}"), version);
    }
    repo.component(
        "x",
        &format!(
            "[source.command]\nrun = [\"./versions.sh\", \"two words\"]\ntimeout = \"{timeout}\"\n[[asset]]\nurl = \"{}/files/{{version}}\"\n[asset.files]\n\"usr/bin/x\" = \"{{version}}\"\n",
            web.url()
        ),
    );
    rewrite(&repo, script);
    (repo, web)
}

fn rewrite(repo: &Repo, script: &str) {
    // Under another name first: a program that is open for writing cannot be run.
    repo.write("components/new", format!("#!/bin/sh\n{script}\n"));
    fs::set_permissions(repo.path("components/new"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::rename(repo.path("components/new"), repo.path("components/versions.sh")).unwrap();
}

fn fails(script: &str, texts: &[&str]) -> Ran {
    let (repo, _web) = scripted(script, "20s");
    repo.sync().code(3).says(&["error: x: `./versions.sh` ", "hint: "]).says(texts)
}

#[test]
fn versions_come_one_a_line() {
    let (repo, _web) = scripted("printf '1.0.0\\n\\n  1.1.0  \\n'", "20s");
    repo.sync().ok();
    assert_eq!(repo.listed("x"), ["x-1.0.0-x86-64.raw", "x-1.1.0-x86-64.raw"]);
    let before = repo.snapshot();
    repo.sync().ok().prints(&["nothing to do"]);
    assert_eq!(repo.snapshot(), before);
}

#[test]
fn the_short_form_runs_a_program_of_the_path() {
    let (mut repo, web) = (Repo::new(), Web::start());
    repo.env("PATH", &std::env::var("PATH").unwrap());
    web.put("/files/1.0.0", "x");
    repo.component(
        "x",
        &format!(
            "[source]\ncommand = [\"echo\", \"1.0.0\"]\n[[asset]]\nurl = \"{}/files/{{version}}\"\n[asset.files]\n\"usr/bin/x\" = \"{{version}}\"\n",
            web.url()
        ),
    );
    repo.sync().ok();
    assert_eq!(repo.listed("x"), ["x-1.0.0-x86-64.raw"]);
}

#[test]
fn versions_come_as_json_with_dates_and_files() {
    let (repo, web) = scripted("cat list.json", "20s");
    let good = sha256(b"1.0.0");
    let list = |digest: &str| {
        let url = format!("{}/files/1.0.0", web.url());
        format!(
            r#"[{{ "version": "1.0.0", "date": "2024-01-02", "assets": [{{ "name": "x.bin", "url": "{url}", "sha256": "{digest}", "size": 5 }}] }},
               {{ "version": "1.1.0", "prerelease": true }}]"#
        )
    };
    let text = fs::read_to_string(repo.path("components/x.toml")).unwrap();
    let from = text.find("[[asset]]").unwrap();
    let text = format!(
        "{}[versions]\nmin-age = \"1d\"\n[[asset]]\nname = \"x.bin\"\n[asset.files]\n\"usr/bin/x\" = \"x.bin\"\n",
        &text[..from]
    );
    repo.component("x", &text);
    repo.write("components/list.json", list(&sha256(b"other")));
    repo.sync().code(3).says(&["has SHA-256", "but the release says"]);
    repo.write("components/list.json", list(&good));
    repo.sync().ok();
    assert_eq!(repo.listed("x"), ["x-1.0.0-x86-64.raw"]);
    repo.publish(&["inspect", "public/x/x-1.0.0-x86-64.raw"])
        .ok()
        .prints(&["2024-01-02T00:00:00Z"]);
    repo.publish(&["plan", "-v"]).ok().prints(&["1.1.0  out: a pre-release"]);
}

/// It runs beside the component's file, with its arguments as they are, nothing to read, and nothing
/// of our environment that may be a secret.
#[test]
fn the_world_of_a_program_is_small() {
    let script = "env > seen; pwd > folder; printf '%s' \"$1\" > argument; cat > input; echo 1.0.0";
    let (mut repo, _web) = scripted(script, "20s");
    repo.env("GITHUB_TOKEN", "ghp_secret");
    repo.env("PUBLISH_SIGNING_KEY", "secret");
    repo.env("HOME", "/home/somebody");
    repo.publish(&["plan"]).ok();
    let read = |name: &str| fs::read_to_string(repo.path(&format!("components/{name}"))).unwrap();
    let seen = read("seen");
    assert!(!seen.contains("secret"), "{seen}");
    assert!(seen.contains("HOME=/home/somebody") && seen.contains("PUBLISH_COMPONENT=x"), "{seen}");
    let folder = fs::canonicalize(repo.path("components")).unwrap();
    assert_eq!(read("folder").trim(), folder.to_str().unwrap());
    assert_eq!((read("argument"), read("input")), ("two words".to_owned(), String::new()));
}

#[test]
fn a_failure_is_told_with_what_was_said() {
    let script = "echo 1.0.0; echo 'no route to upstream\x1b[2J' >&2; exit 3";
    let ran = fails(script, &["ended with exit code 3, and said: no route to upstream\\u{1b}"]);
    assert!(!ran.stderr.contains('\u{1b}'), "{ran}");
    fails("kill -9 $$", &["was killed by signal 9"]);
    // Only the end of it, however long it is.
    let ran = fails(
        "yes noise | head -n 200000 >&2; echo last >&2; exit 1",
        &["and said: noise; ", "noise; last\n"],
    );
    assert!(ran.stderr.len() < 1_000, "{}", ran.stderr.len());
}

#[test]
fn nothing_is_never_no_news() {
    fails("true", &["printed no version"]);
    fails("echo '[]'; echo nothing there >&2", &["printed no version, and said: nothing there"]);
    fails("printf '\\n \\n'", &["printed no version"]);
}

#[test]
fn what_is_no_list_of_versions_is_refused() {
    fails("echo '<html> down'", &["printed `<html> down`, which is no version"]);
    fails("head -c 10000 /dev/zero | tr '\\0' 9", &["which is no version"]);
    fails("printf '\\377'", &["printed no text"]);
    fails("echo '[{\"version\":\"1\",\"sha\":1}]'", &["no list of versions: unknown field `sha`"]);
    fails("echo '[1'", &["no list of versions"]);
    fails(
        "echo '[{\"version\":\"1\",\"date\":\"soon\"}]'",
        &["a date that cannot be read: `soon`"],
    );
    let asset =
        "[{\"version\":\"1\",\"assets\":[{\"name\":\"x\",\"url\":\"file:///etc/passwd\"}]}]";
    fails(&format!("echo '{asset}'"), &["`file:///etc/passwd` is not an http or https URL"]);
    let twice = "{\"name\":\"x\",\"url\":\"http://e.org/\"}";
    fails(
        &format!("echo '[{{\"version\":\"1\",\"assets\":[{twice},{twice}]}}]'"),
        &["printed two assets `x` of version `1`"],
    );
    fails("seq 100001", &["printed more than 100000 versions"]);
    fails("yes 1.0.0", &["printed more than 16 MiB"]);
    let (repo, _web) = scripted("echo '[{\"version\":\"\"}]'", "20s");
    repo.sync().code(3).says(&["error: x: one release has no name that can be shown"]);
    let (repo, _web) = scripted("printf '1.0.0\\n1/2\\n1%%n\\n\\033[2J\\n'", "20s");
    let ran =
        repo.sync().code(3).says(&["one release has no name that can be shown", "error: x 1/2"]);
    assert!(!ran.stderr.contains('\u{1b}'), "{ran}");
    assert_eq!(repo.listed("x"), ["x-1.0.0-x86-64.raw"]);
}

#[test]
fn a_program_that_cannot_be_run() {
    let (repo, _web) = scripted("true", "20s");
    fs::set_permissions(repo.path("components/versions.sh"), fs::Permissions::from_mode(0o644))
        .unwrap();
    repo.sync().code(3).says(&["cannot run `./versions.sh`", "hint: make it executable"]);
    fs::remove_file(repo.path("components/versions.sh")).unwrap();
    repo.sync().code(3).says(&["cannot run `./versions.sh`", "relative to the component's file"]);
}

/// Whether a process of this number is there and not just waiting to be taken away.
fn lives(repo: &Repo, name: &str) -> bool {
    let id = fs::read_to_string(repo.path(&format!("components/{name}"))).unwrap();
    let state = fs::read_to_string(format!("/proc/{}/stat", id.trim())).unwrap_or_default();
    !state.is_empty() && !state.contains(") Z ")
}

const CHILDREN: &str = "sleep 1000 & echo $! > child; echo $$ > own; sleep 1000";

#[test]
fn a_program_that_takes_too_long_is_killed_with_its_children() {
    let (repo, _web) = scripted(CHILDREN, "1s");
    repo.sync().code(3).says(&["`./versions.sh` took longer than 1 s and was killed", "`timeout`"]);
    until("the end of the children", || !lives(&repo, "child") && !lives(&repo, "own"));
}

/// Neither a session of one's own nor a parent that is gone hides a process.
#[test]
fn a_child_that_leaves_its_group_is_killed_too() {
    let leaves = "setsid sh -c 'echo $$ > child; setsid sleep 1000 & echo $! > grandchild; sleep 1000' >/dev/null 2>&1 &";
    let there = "while [ ! -s child ] || [ ! -s grandchild ]; do sleep 0.01; done";
    for (end, timeout) in [("sleep 1000", "3s"), ("echo 1.0.0", "20s")] {
        let (repo, _web) = scripted(&format!("{leaves}\n{there}\n{end}"), timeout);
        repo.publish(&["plan"]);
        until("the end of the children", || !lives(&repo, "child") && !lives(&repo, "grandchild"));
    }
}

#[test]
fn an_interrupt_kills_it_with_its_children() {
    for signal in [rustix::process::Signal::INT, rustix::process::Signal::TERM] {
        let (repo, _web) = scripted(CHILDREN, "1000s");
        let mut command = repo.command(&["sync"]);
        let running = Running::start(command.stdout(Stdio::null()).stderr(Stdio::null()));
        until("the start", || {
            repo.path("components/own").metadata().is_ok_and(|own| own.len() > 0)
        });
        running.signal(signal);
        running.wait();
        until("the end of the children", || !lives(&repo, "child") && !lives(&repo, "own"));
    }
}

/// No signal of ours can be caught there, but the kernel sees to it that the program itself ends.
#[test]
fn it_is_killed_when_we_are() {
    let (repo, _web) = scripted("echo $$ > new; mv new own; exec sleep 1000", "1000s");
    let mut command = repo.command(&["sync"]);
    let running = Running::start(command.stdout(Stdio::null()).stderr(Stdio::null()));
    until("the start", || repo.path("components/own").exists());
    running.signal(rustix::process::Signal::KILL);
    running.wait();
    until("the end of the program", || !lives(&repo, "own"));
}

/// Whoever holds on to the output is not waited for longer than the limit, and does not survive.
#[test]
fn a_child_in_the_background_does_not_outlive_the_program() {
    let (repo, _web) = scripted("sleep 1000 >/dev/null 2>&1 & echo $! > child; echo 1.0.0", "20s");
    repo.publish(&["plan"]).ok().prints(&["1.0.0"]);
    until("the end of the child", || !lives(&repo, "child"));
}

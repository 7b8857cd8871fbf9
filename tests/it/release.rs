//! `publish` as an extension image: the component that a release is made with takes what is in a release's
//! archive, and so does the one that the page shows for a repository of one's own. And what is put on GitHub
//! is there at once.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use toml::Table;

use crate::catalog::program;
use crate::github::{GitHub, Release};
use crate::pack::Tar;
use crate::repo::{Ran, Repo};
use crate::web::sha256;

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// What `.github/release package` packs, with a program of a few bytes.
fn archive(repo: &Repo, machine: u8) -> Vec<u8> {
    repo.publish(&["man", "man"]).ok();
    let mut tar = Tar::new().file("publish", 0o755, program("publish", machine));
    for entry in fs::read_dir(repo.path("man")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        tar = tar.file(&format!("man/{name}.gz"), 0o644, name);
    }
    for (shell, name) in [("bash", "publish.bash"), ("zsh", "_publish"), ("fish", "publish.fish")] {
        let script = repo.publish(&["completions", shell]).ok().stdout;
        tar = tar.file(&format!("completions/{name}"), 0o644, script);
    }
    for unit in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("config/systemd")).unwrap()
    {
        let name = unit.unwrap().file_name().into_string().unwrap();
        let text = read(&format!("config/systemd/{name}"));
        tar = tar.file(&format!("systemd/{name}"), 0o644, text);
    }
    for text in ["LICENSE-APACHE", "LICENSE-MIT", "THIRD-PARTY", "docs/hosting.md"] {
        tar = tar.file(text, 0o644, text);
    }
    tar.gz()
}

/// Images for both architectures, with units that are there and not enabled, and nothing to complain of.
fn check(repo: &Repo, folder: &str) {
    let ran = repo.publish(&["sync"]).ok();
    assert!(!ran.stderr.contains("warning"), "{ran}");
    let names = ["publish-0.1.0-arm64.raw", "publish-0.1.0-x86-64.raw"];
    assert_eq!(repo.listed(folder), names);
    for name in names {
        let image = repo.image(folder, name);
        let paths = image.paths();
        for path in [
            "usr/bin/publish",
            "usr/lib/systemd/system/publish.service",
            "usr/lib/systemd/system/publish.timer",
            "usr/lib/systemd/system/publish-watch.service",
            "usr/lib/sysusers.d/publish.conf",
            "usr/share/bash-completion/completions/publish",
            "usr/share/man/man1/publish.1.gz",
            "usr/share/doc/publish/LICENSE-MIT",
            "usr/share/doc/publish/hosting.md",
        ] {
            assert!(paths.contains(&path), "{path} is not in {paths:?}");
        }
        assert!(!paths.iter().any(|path| path.contains(".d/10-") || path.contains(".wants")));
        let release = image.text("usr/lib/extension-release.d/extension-release.publish");
        assert!(release.contains("EXTENSION_RELOAD_MANAGER=1"), "{release}");
    }
}

#[test]
fn it_publishes_itself() {
    let repo = Repo::empty();
    repo.write(
        "publish.toml",
        "[repository]\nurl = \"https://github.com/octocat/publish/releases/latest/\"\nstore = \"public\"\narchitectures = [\"x86-64\", \"arm64\"]\n",
    );
    repo.component("publish", &read("config/release/publish.toml"));
    for (arch, machine) in [("x86_64", 62), ("aarch64", 183)] {
        let path = format!("components/archives/publish-0.1.0-{arch}.tar.gz");
        repo.write(&path, archive(&repo, machine));
    }
    check(&repo, "download");
    // Where a release's own files are.
    repo.publish(&["client", "publish"])
        .ok()
        .prints(&["\nPath=https://github.com/octocat/publish/releases/latest/download/\n"]);
}

/// The component on the page, for whoever has a repository.
fn shown() -> String {
    let page = read("docs/install.md");
    let begin = "```toml\n# components/publish.toml\n";
    let text = page.split_once(begin).expect("the page has a component").1;
    text.split_once("```").unwrap().0.to_owned()
}

#[test]
fn others_publish_it_from_its_releases() {
    let (mut repo, github) = (Repo::empty(), GitHub::start());
    repo.env("GITHUB_API_URL", &github.api());
    repo.write(
        "publish.toml",
        format!(
            "[repository]\nurl = \"https://files.example.com/\"\nstore = \"public\"\narchitectures = [\"x86-64\", \"arm64\"]\n[network]\nrewrite = {{ \"https://github.com/\" = \"{}/\" }}\n",
            github.web()
        ),
    );
    // Who made it is what a release on this stand-in cannot prove: trust.rs has that.
    let component: String = shown()
        .lines()
        .filter(|line| !line.starts_with("attestation = "))
        .flat_map(|line| [line, "\n"])
        .collect();
    repo.component("publish", &component);
    let mut sums = String::new();
    let mut release = Release::new("v0.1.0");
    for (arch, machine) in [("x86_64", 62), ("aarch64", 183)] {
        let name = format!("publish-{arch}-unknown-linux-musl.tar.gz");
        let bytes = archive(&repo, machine);
        writeln!(sums, "{}  {name}", sha256(&bytes)).unwrap();
        release = release.asset(&name, bytes);
    }
    github.release("OWNER/publish", release.asset("SHA256SUMS", sums));
    check(&repo, "publish");
}

#[test]
fn both_take_the_same_files() {
    let parts = |text: &str| {
        let table: Table = text.parse().unwrap();
        (table["asset"][0]["files"].clone(), table["require"].clone(), table["extension"].clone())
    };
    assert_eq!(parts(&shown()), parts(&read("config/release/publish.toml")));
}

/// `gh`, which writes down what is asked of it, and knows of a release what `$STATE` says.
const GH: &str = r#"#!/bin/sh
case "$1 $2" in
"release view")
    case $STATE in
    none) echo "release not found" >&2; exit 1 ;;
    broken) echo "HTTP 502" >&2; exit 1 ;;
    *) echo "$STATE" ;;
    esac
    ;;
*) echo "$*" >>calls ;;
esac
"#;

#[test]
fn a_release_is_published_at_once_and_once() {
    let repo = Repo::empty();
    let calls = repo.path("calls");
    repo.write("bin/gh", GH.replace(">>calls", &format!(">>{}", calls.display())));
    fs::set_permissions(repo.path("bin/gh"), fs::Permissions::from_mode(0o755)).unwrap();
    repo.write("out/a.raw", "a");
    let sums = format!("{}  a.raw\n", sha256(b"a"));
    repo.write("out/SHA256SUMS", &sums);
    let run = |tag: &str, state: &str| {
        repo.write("calls", "");
        let mut command =
            Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join(".github/release"));
        repo.prepare(&mut command);
        command
            .arg("publish")
            .arg(repo.path("out"))
            .arg(tag)
            .env("PATH", format!("{}:/usr/bin:/bin", repo.path("bin").display()))
            .env("STATE", state);
        let ran = Ran::of(&mut command);
        let calls = fs::read_to_string(&calls).unwrap();
        (ran, calls.replace(repo.path("").to_str().unwrap(), ""))
    };
    let created = "release create v1.0.0 --draft --verify-tag --title publish 1.0.0 --generate-notes out/SHA256SUMS out/a.raw\nrelease edit v1.0.0 --draft=false\n";
    let (ran, calls) = run("v1.0.0", "none");
    ran.ok();
    assert_eq!(calls, created);
    // What a run left that was cut off.
    let (ran, calls) = run("v1.0.0", "true");
    ran.ok();
    assert_eq!(calls, format!("release delete v1.0.0 --yes\n{created}"));
    for (state, said) in [("false", "is published: make a new version"), ("broken", "HTTP 502")] {
        let (ran, calls) = run("v1.0.0", state);
        ran.code(1).says(&["error: ", said]);
        assert_eq!(calls, "");
    }
    let (ran, calls) = run("v1.0.0-rc1", "none");
    ran.ok();
    assert!(calls.contains(" --prerelease "), "{calls}");
    // Cut off on its way from the job that made it.
    repo.write("out/a.raw", "");
    let (ran, calls) = run("v1.0.0", "none");
    ran.code(1).says(&["is not what was made"]);
    assert_eq!(calls, "");
}

//! The commands beside `sync`, and what all of them have in common.

use std::fs;

use serde_json::Value;

use crate::offline::{example, serve};
use crate::pack::noise;
use crate::repo::{Image, Repo};
use crate::web::sha256;

#[test]
fn build_makes_the_same_image_as_sync_and_publishes_nothing() {
    let repo = example();
    let ran =
        repo.publish(&["build", "pulse", "1.0.0", "--arch", "arm64", "--output", "out/here"]).ok();
    let built = fs::read(repo.path("out/here/pulse-1.0.0-arm64.raw")).unwrap();
    assert!(ran.stdout.starts_with(&sha256(&built)), "{ran}");
    assert_eq!(fs::read_dir(repo.path("out/here")).unwrap().count(), 1);
    assert!(!repo.path("public").exists());
    repo.sync().ok();
    assert!(built == fs::read(repo.path("public/pulse/pulse-1.0.0-arm64.raw")).unwrap());
}

#[test]
fn build_takes_the_newest_version_for_every_architecture_by_itself() {
    let repo = example();
    let json = repo.publish(&["build", "pulse", "--json"]).ok().json();
    assert_eq!(json["version"], 1);
    let images = json["images"].as_array().unwrap();
    let names: Vec<_> = images
        .iter()
        .map(|image| image["path"].as_str().unwrap().trim_start_matches("./"))
        .collect();
    assert_eq!(names, ["pulse-1.1.0-x86-64.raw", "pulse-1.1.0-arm64.raw"]);
    for image in images {
        let bytes = fs::read(repo.path(image["path"].as_str().unwrap())).unwrap();
        assert_eq!(image["sha256"], sha256(&bytes));
        assert_eq!(image["size"], bytes.len());
    }
}

#[test]
fn build_names_what_there_is_none_of() {
    let repo = example();
    let ran = repo.publish(&["build", "pulse", "9.9"]).says(&["pulse", "9.9"]);
    assert!(!ran.status.success(), "{ran}");
    repo.publish(&["build", "plse"])
        .code(2)
        .says(&["there is no component `plse`", "there are: pulse"]);
    let ran = repo.publish(&["build", "pulse", "--arch", "riscv64"]).says(&["pulse", "riscv64"]);
    assert!(!ran.status.success(), "{ran}");
    repo.publish(&["build", "pulse", "--arch", "amd64"]).code(2).says(&["systemd calls it x86-64"]);
    repo.publish(&["build"]).code(2).says(&["Usage"]);
}

#[test]
fn plan_tells_of_every_release_why() {
    let repo = Repo::new();
    repo.simple("tool");
    let file = repo.path("components/tool.toml");
    let text = fs::read_to_string(&file).unwrap();
    repo.component(
        "tool",
        &format!("{text}\n[versions]\nnewest = 1\nrequire = \">=1.1\"\nexclude = [\"1.3.0\"]\n"),
    );
    for version in ["1.0.0", "1.1.0", "1.2.0", "1.3.0", "1.4.0-rc1"] {
        repo.release("tool", version, version);
    }
    let ran = repo.publish(&["plan", "-v"]).ok().prints(&[
        "1.0.0      out: does not meet `require`",
        "1.1.0      out: there are enough newer ones",
        "1.2.0      wanted",
        "1.3.0      out: excluded",
        "1.4.0-rc1  out: a pre-release",
        "tool-1.2.0-x86-64.raw",
    ]);
    assert!(!repo.path("public").exists(), "{ran}");
    let short = repo.publish(&["plan"]).ok().prints(&["1 release left out: excluded"]);
    assert!(!short.stdout.contains("wanted"), "{short}");
}

#[test]
fn inspect_shows_what_is_inside_and_whether_a_node_takes_it() {
    let repo = example();
    repo.publish(&["build", "pulse", "1.1.0", "--arch", "x86-64"]).ok();
    let image = "pulse-1.1.0-x86-64.raw";
    let digest = sha256(&fs::read(repo.path(image)).unwrap());
    repo.publish(&["inspect", image]).ok().prints(&[
        image,
        &digest,
        "zstd",
        "2025-06-15T12:00:00Z",
        "ID=_any",
        "ARCHITECTURE=x86-64",
        "verdict    systemd-sysext takes it",
    ]);
    repo.publish(&["inspect", image, "--list"]).ok().prints(&[
        "l0777 0:0",
        "usr/bin/heartbeat -> pulse",
        "-0755 0:0",
    ]);

    let json = repo.publish(&["inspect", image, "--list", "--json"]).ok().json();
    let listed: Vec<&str> =
        json["entries"].as_array().unwrap().iter().map(|e| e["path"].as_str().unwrap()).collect();
    let read = Image::open(&repo.path(image));
    assert_eq!(listed, read.files.keys().collect::<Vec<_>>());

    // Under another name no node would merge it.
    fs::copy(repo.path(image), repo.path("other.raw")).unwrap();
    repo.publish(&["inspect", "other.raw"])
        .code(3)
        .prints(&["extension-release.other", "cannot be merged"]);
    repo.write("noise.raw", noise(5000));
    let ran = repo
        .publish(&["inspect", "noise.raw"])
        .says(&["noise.raw is not a squashfs or EROFS image"]);
    assert!(!ran.status.success(), "{ran}");
    // The tables of a squashfs are at its end.
    repo.write("config/example/pulse/usr/lib/noise", noise(50_000));
    repo.publish(&["build", "pulse", "1.1.0", "--arch", "x86-64"]).ok();
    let whole = fs::read(repo.path(image)).unwrap();
    repo.write("half.raw", &whole[..whole.len() / 2]);
    let ran = repo.publish(&["inspect", "half.raw"]).says(&["half.raw is not a squashfs image"]);
    ran.code(3);
    let ran = repo.publish(&["inspect", "none.raw"]).says(&["none.raw", "hint: "]);
    ran.code(1);
}

#[test]
fn only_narrows_to_the_components_that_are_named() {
    let repo = Repo::new();
    for name in ["a", "b", "c"] {
        repo.simple(name);
        repo.release(name, "1.0", name);
    }
    repo.publish(&["--only", "a", "sync"]).ok().prints(&["published 1 image"]);
    assert!(!repo.path("public/b").exists() && !repo.path("public/c").exists());
    repo.publish(&["sync", "--only", "a", "--only", "b"]).ok().prints(&["published 1 image"]);
    assert!(repo.path("public/b").exists() && !repo.path("public/c").exists());
    repo.publish(&["sync", "--only", "a,c"]).ok().prints(&["published 1 image"]);
    repo.publish(&["sync", "--only", "d"])
        .code(2)
        .says(&["there is no component `d`", "there are: a, b, c"]);
}

/// What was asked for must not be dropped without a word.
#[test]
fn only_counts_before_and_after_the_command() {
    let repo = Repo::new();
    for name in ["a", "b", "c"] {
        repo.simple(name);
        repo.release(name, "1.0", name);
    }
    repo.publish(&["--only", "a", "sync", "--only", "b"]).ok().prints(&["published 2 images"]);
}

#[test]
fn quiet_leaves_only_results_and_errors() {
    let repo = example();
    let ran = repo.publish(&["-q", "sync"]).ok();
    assert_eq!(ran.stderr, "", "{ran}");
    assert!(ran.stdout.contains("published 4 images"), "{ran}");
    fs::remove_dir_all(repo.path("config/example/pulse-releases")).unwrap();
    repo.publish(&["-q", "sync"]).code(3).says(&["error: pulse"]);
}

#[test]
fn ci_logs_get_plain_lines() {
    let repo = example();
    let ran = repo.sync().ok().says(&[
        "polled pulse",
        "built pulse-1.0.0-arm64.raw",
        "published pulse 1.1.0",
    ]);
    assert!(!ran.stderr.contains(['\u{1b}', '\r']), "{ran}");
    assert!(ran.stderr.lines().count() < 20, "{ran}");
}

#[test]
fn every_command_answers_in_json_if_asked() {
    let repo = example();
    let dry = repo.publish(&["sync", "--dry-run", "--json"]).ok().json();
    assert_eq!((&dry["dry_run"], &dry["changed"]), (&Value::Bool(true), &Value::Bool(false)));
    let plan = repo.publish(&["--json", "plan"]).ok().json();
    assert_eq!(plan["components"][0]["builds"].as_array().unwrap().len(), 4);
    assert_eq!(plan["components"][0]["builds"][0]["why"], "new-version");

    let sync = repo.publish(&["sync", "--json"]).ok().json();
    assert_eq!(sync["changed"], true);
    let images = sync["components"][0]["published"].as_array().unwrap();
    assert_eq!(images.len(), 4);
    for image in images {
        let path = repo.path(&format!("public/pulse/{}", image["image"].as_str().unwrap()));
        assert_eq!(image["sha256"], sha256(&fs::read(path).unwrap()));
    }
    assert_eq!(repo.publish(&["sync", "--json"]).ok().json()["changed"], false);

    let verify = repo.publish(&["verify", "--json"]).ok().json();
    assert_eq!(
        (&verify["right"], &verify["folders"][0]["files"]),
        (&Value::Bool(true), &Value::from(4))
    );
    let inspect =
        repo.publish(&["inspect", "public/pulse/pulse-1.0.0-arm64.raw", "--json"]).ok().json();
    assert_eq!(inspect["releases"]["pulse"]["ARCHITECTURE"], "arm64");
    let init = repo.publish(&["init", "new", "--json"]).ok().json();
    assert_eq!(init["files"][0], "new/publish.toml");

    let mut command = repo.command(&["serve", "--listen", "127.0.0.1:0", "--json"]);
    let mut server = crate::repo::Running::start(command.stdout(std::process::Stdio::piped()));
    let mut text = String::new();
    while !text.ends_with("}\n") {
        text += &server.line();
    }
    let json: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(json["version"], 1);
    assert!(json["url"].as_str().unwrap().starts_with("http://127.0.0.1:"));
}

#[test]
fn errors_are_json_too_and_readable_as_well() {
    let repo = example();
    fs::remove_dir_all(repo.path("config/example/pulse-releases")).unwrap();
    let ran = repo.publish(&["sync", "--json"]).code(3).says(&["error: pulse", "hint: "]);
    let error = &ran.json()["components"][0]["errors"][0];
    assert!(error["message"].as_str().unwrap().starts_with("pulse: "), "{ran}");
    assert!(error["hint"].is_string(), "{ran}");

    repo.write("config/publish.toml", "[repositry]\n");
    let ran = repo.publish(&["plan", "--json"]).code(4).says(&["repositry"]);
    let document = ran.json();
    assert!(document["errors"][0]["message"].as_str().unwrap().contains("repositry"), "{ran}");
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let repo = example();
    let mut shell = std::process::Command::new("sh");
    repo.prepare(&mut shell);
    shell.args(["-c", "\"$0\" plan -v | true", env!("CARGO_BIN_EXE_publish")]);
    let ran = repo.run(&mut shell);
    assert!(!ran.stderr.contains("error") && !ran.stderr.contains("panic"), "{ran}");
}

#[test]
fn a_port_that_is_taken_is_named() {
    let repo = example();
    repo.sync().ok();
    let (_server, url) = serve(&repo);
    let address = url.trim_start_matches("http://").trim_end_matches('/').to_owned();
    let ran = repo.publish(&["serve", "--listen", &address]).says(&["cannot listen on", &address]);
    assert!(!ran.status.success(), "{ran}");
}

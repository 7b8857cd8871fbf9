//! What an operator fears: a node that breaks because of what was published, something that should
//! not get through, and a repository that stops without a word.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use crate::pack::{Tar, gz};
use crate::repo::Repo;
use crate::scene::{ARCHIVE, Rule, Scene};
use crate::web::{Fault, Web};

/// More often than any test asks.
const ALWAYS: usize = usize::MAX;

fn answer(status: u16, body: &str) -> Fault {
    Fault::Answer { status, headers: Vec::new(), body: body.to_owned() }
}

fn program(repo: &Repo) {
    repo.simple("x");
    repo.release("x", "1.0", "x 1.0");
}

#[test]
fn a_log_that_is_full_stops_nothing() {
    let repo = Repo::new();
    program(&repo);
    let full = File::options().write(true).open("/dev/full").unwrap();
    let status = repo.command(&["sync"]).stdout(Stdio::null()).stderr(full).status().unwrap();
    assert_eq!(status.code(), Some(0));
    assert_eq!(repo.listed("x"), ["x-1.0-x86-64.raw"]);
}

#[test]
fn a_server_that_says_not_modified_unasked_fails_alone() {
    let web = Web::start();
    let mut repo = Repo::new();
    program(&repo);
    repo.component("z", "[source.github]\nrepo = \"o/z\"\n[files]\n\"usr/z\" = { text = \"\" }\n");
    repo.component(
        "y",
        &format!("[source.http]\nurl = \"{}/y\"\nmatch = 'y(?<version>.)'\n[files]\n\"usr/y\" = {{ text = \"\" }}\n", web.url()),
    );
    repo.env("GITHUB_API_URL", &web.url());
    web.fault("/*", answer(304, ""), ALWAYS);
    let ran = repo.publish(&["sync", "--json"]).code(3).says(&["error: z: ", "error: y: ", "304"]);
    assert_eq!(ran.json()["components"].as_array().unwrap().len(), 3);
    assert_eq!(repo.listed("x"), ["x-1.0-x86-64.raw"]);
}

#[test]
fn a_part_is_not_the_whole() {
    let scene = Scene::program();
    scene.web.fault("/bad-1.1", answer(206, "half of it"), ALWAYS);
    scene.fails("bad 1.1 x86-64: cannot fetch bad-1.1", &["206 Partial Content"]);
}

#[test]
fn an_error_page_is_no_program() {
    let page = "<!DOCTYPE html>\n<html><body>Sorry</body></html>\n";
    let scene = Scene::program();
    scene.web.put("/bad-1.1", page);
    scene.fails("bad 1.1 x86-64: cannot build", &["the file is a page of HTML"]);
    let everything = Rule { files: "\"usr/bin/\" = \"*\"", ..ARCHIVE };
    let scene = Scene::new("", &everything, Tar::new().file("bad", 0o755, "bad").gz());
    for wrong in [page.as_bytes(), b"Service Unavailable", &[0; 1024]] {
        scene.web.put("/bad-1.1.tgz", wrong);
        scene.fails(
            "bad 1.1 x86-64: cannot build",
            &["the file is no archive, although its name says so"],
        );
    }
}

#[test]
fn nothing_hides_a_folder_of_the_host() {
    let archive = |tar: Tar| tar.file("share/bad", 0o644, "bad").gz();
    let everything = Rule { files: "\"usr/\" = \"*\"", ..ARCHIVE };
    let scene = Scene::new("", &everything, archive(Tar::new()));
    for (tar, what) in [
        (Tar::new().file("bin", 0o755, "x"), "`usr/bin` must be a folder: as a file"),
        (Tar::new().symlink("lib64", "lib"), "`usr/lib64` must be a folder: as a symlink"),
        (
            Tar::new().file("lib/extension-release.d/extension-release.other", 0o644, "ID=x\n"),
            "extension-release.other` is an extension-release of another image",
        ),
    ] {
        scene.serve(&everything, "1.1", archive(tar));
        scene.fails("bad 1.1 x86-64: cannot build", &[what]);
    }
}

#[test]
fn a_program_that_could_not_run_is_refused() {
    let here = fs::read(env!("CARGO_BIN_EXE_publish")).unwrap();
    let scene = Scene::program();
    // Machine 22 is S/390.
    let mut other = here[..4096].to_vec();
    other[18..20].copy_from_slice(&[22, 0]);
    scene.web.put("/bad-1.1", other);
    scene.fails(
        "bad 1.1 x86-64: cannot build",
        &["is a program for s390x, but the image is for x86-64"],
    );
    let mut half = here[..4096].to_vec();
    // The same answer wherever the tests run.
    half[18..20].copy_from_slice(&[62, 0]);
    scene.web.put("/bad-1.1", half);
    scene.fails("bad 1.1 x86-64: cannot build", &["`usr/bin/bad` is cut"]);
}

#[test]
fn links_count_against_the_limit() {
    let mut tar = Tar::new().file("bad", 0o755, vec![1; 100 << 10]);
    for number in 0..50 {
        tar = tar.hard_link(&format!("link{number}"), "bad");
    }
    let first = Tar::new().file("bad", 0o755, "bad").gz();
    let scene = Scene::new("[limits]\nunpacked = \"1MiB\"\n", &ARCHIVE, first);
    scene.serve(&ARCHIVE, "1.1", tar.gz());
    scene.fails("bad 1.1 x86-64: cannot build", &["unpacks to more than 1048576 bytes"]);
}

#[test]
fn an_upstream_that_changes_its_tags_is_told() {
    let repo = Repo::new();
    program(&repo);
    let rules = fs::read_to_string(repo.path("components/x.toml")).unwrap();
    repo.component("x", &format!("{rules}[versions]\nrequire = \">=99\"\n"));
    repo.sync().code(3).says(&["error: x 1.0: none of upstream's releases is wanted", "`require`"]);
}

#[test]
fn pre_releases_are_known_by_their_words() {
    let repo = Repo::new();
    repo.simple("x");
    let versions =
        ["1.1.0", "1.2.0rc1", "1.2.0b2", "1.2.0.alpha1", "1.2.0_beta1", "1.2.0dev", "1.2.0-rc.1"];
    for version in versions {
        repo.release("x", version, version);
    }
    repo.sync().ok();
    assert_eq!(repo.listed("x"), ["x-1.1.0-x86-64.raw"]);
    // Dates and patch letters are none.
    repo.release("x", "2024-01-05", "a date");
    repo.release("x", "1.1.0a", "a patch");
    repo.sync().ok();
    assert_eq!(repo.listed("x").len(), 3);
}

#[test]
fn versions_with_and_without_a_v_are_not_mixed() {
    let repo = Repo::new();
    repo.simple("x");
    for version in ["1.1.0", "v1.2.0"] {
        repo.release("x", version, version);
    }
    repo.sync()
        .code(3)
        .says(&["error: x v1.2.0: nodes would take", "older than every version without a `v`"]);
    assert_eq!(repo.listed("x"), ["x-1.1.0-x86-64.raw"]);
}

#[test]
fn a_web_server_can_read_it_whatever_the_umask() {
    let repo = Repo::new();
    program(&repo);
    let mut command = Command::new("sh");
    repo.prepare(&mut command);
    command.args(["-c", "umask 077; exec \"$0\" sync", env!("CARGO_BIN_EXE_publish")]);
    repo.run(&mut command).ok();
    for (path, mode) in
        [("", 0o755), ("/x", 0o755), ("/x/SHA256SUMS", 0o644), ("/x/x-1.0-x86-64.raw", 0o644)]
    {
        let metadata = fs::metadata(repo.path(&format!("public{path}"))).unwrap();
        assert_eq!(metadata.permissions().mode() & 0o777, mode, "{path}");
    }
}

#[test]
fn a_damaged_file_is_healed() {
    let repo = Repo::new();
    program(&repo);
    repo.sync().ok();
    let before = repo.listed("x");
    let image = repo.path("public/x/x-1.0-x86-64.raw");
    File::options().write(true).open(&image).unwrap().set_len(100).unwrap();
    repo.publish(&["verify"]).code(3);
    repo.sync().ok().prints(&["listed, but the file is damaged"]);
    assert_eq!(repo.listed("x"), before);
    repo.sync().ok().prints(&["nothing to do"]);
}

#[test]
fn a_lock_that_leads_elsewhere_is_not_followed() {
    let repo = Repo::new();
    program(&repo);
    repo.write("precious", "precious");
    fs::create_dir_all(repo.path("public/.publish")).unwrap();
    std::os::unix::fs::symlink(repo.path("precious"), repo.path("public/.publish/lock")).unwrap();
    repo.sync().code(1).says(&["public/.publish/lock"]);
    assert_eq!(fs::read(repo.path("precious")).unwrap(), b"precious");
}

#[test]
fn the_configuration_is_not_served() {
    for store in [".", "..", "components"] {
        let repo = Repo::new();
        let config = fs::read_to_string(repo.path("publish.toml")).unwrap();
        let config: String = config
            .lines()
            .filter(|line| !line.starts_with("store"))
            .flat_map(|line| [line, "\n"])
            .collect();
        repo.write(
            "publish.toml",
            config.replace("[repository]\n", &format!("[repository]\nstore = \"{store}\"\n")),
        );
        repo.sync().code(4).says(&["would hold the configuration itself"]);
    }
}

#[test]
fn a_compressed_archive_in_a_compressed_stream_is_not_a_program() {
    let everything = Rule { files: "\"usr/bin/\" = \"*\"", ..ARCHIVE };
    let archive = Tar::new().file("bad", 0o755, "bad").gz();
    let scene = Scene::new("", &everything, archive.clone());
    // As a server does that compresses what is compressed, and a client that does not undo it.
    scene.serve(&everything, "1.1", gz(&archive));
    scene.fails("bad 1.1 x86-64: cannot build", &["no archive"]);
}

#[test]
fn a_link_does_not_leave_through_another_link() {
    let everything = Rule { files: "\"usr/share/bad/\" = \".\"", ..ARCHIVE };
    let scene = Scene::new("", &everything, Tar::new().file("bad", 0o644, "bad").gz());
    let tar = Tar::new().symlink("a/b/l1", "/usr").symlink("a/b/l2", "l1/../etc/shadow");
    scene.serve(&everything, "1.1", tar.gz());
    scene.fails("bad 1.1 x86-64: cannot build", &["`l1/../etc/shadow` leaves the image"]);
}

#[test]
fn what_upstreams_answered_is_for_nobody_else() {
    let web = Web::start();
    web.put("/x", "x1");
    let repo = Repo::new();
    let url = web.url().replace("http://", "http://user:hunter2@");
    repo.component(
        "x",
        &format!("[source.http]\nurl = \"{url}/x\"\nmatch = 'x(?<version>.)'\n[files]\n\"usr/x\" = {{ text = \"\" }}\n"),
    );
    repo.sync().ok();
    let metadata = fs::metadata(repo.path("public/.publish")).unwrap();
    assert_eq!(metadata.permissions().mode() & 0o777, 0o700);
    let folder = repo.path("public/.publish/upstream");
    let saved: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(saved.len(), 1, "{saved:?}");
    let saved = String::from_utf8_lossy(&fs::read(&saved[0]).unwrap()).into_owned();
    assert!(saved.contains("etag") && !saved.contains("hunter2") && !saved.contains("127.0.0.1"));
}

#[test]
fn a_download_that_fails_for_one_build_is_not_tried_for_the_next() {
    let web = Web::start();
    web.put("/versions", "x1");
    web.fault("/asset", Fault::Status(500), ALWAYS);
    let repo = Repo::new();
    let config = fs::read_to_string(repo.path("publish.toml")).unwrap();
    repo.write("publish.toml", config.replace("[\"x86-64\"]", "[\"x86-64\", \"arm64\"]"));
    let url = web.url();
    repo.component(
        "x",
        &format!("[source.http]\nurl = \"{url}/versions\"\nmatch = 'x(?<version>.)'\n[[asset]]\nurl = \"{url}/asset\"\n[asset.files]\n\"usr/x\" = \"asset\"\n"),
    );
    repo.sync().code(3).says(&[
        "x 1 x86-64: cannot fetch asset",
        "x 1 arm64: cannot fetch asset",
        "500",
    ]);
    let asked = web.requests().iter().filter(|request| request.path == "/asset").count();
    assert_eq!(asked, 3);
}

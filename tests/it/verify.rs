//! `publish verify`: what is wrong is named, and what is right passes, wherever it is read from.

use std::fs;
use std::io::Cursor;

use backhand::{FilesystemReader, FilesystemWriter};

use crate::gpg::{Gpg, gpgv};
use crate::repo::{Ran, Repo};
use crate::web::{Fault, Web, sha256};

const MANIFEST: &str = "public/x/SHA256SUMS";
const SIGNATURE: &str = "public/x/SHA256SUMS.gpg";
const ARMORED: &str = "public/x/SHA256SUMS.sha256.asc";

/// A signed repository with two versions of one component.
fn signed() -> Repo {
    let repo = Repo::with("[signing]\nkey = { file = \"signing.key\" }\n");
    repo.publish(&["key", "generate"]).ok();
    repo.simple("x");
    for version in ["1.0", "1.1"] {
        repo.release("x", version, format!("#!/bin/sh\necho {version}\n"));
    }
    repo.sync().ok();
    repo
}

/// Lists a file that is there, and signs nothing.
fn list(repo: &Repo, name: &str, content: &[u8]) {
    repo.write(&format!("public/x/{name}"), content);
    let manifest = repo.manifest("x");
    repo.write(MANIFEST, format!("{manifest}{}  {name}\n", sha256(content)));
}

#[test]
fn every_lie_about_a_signature_has_a_name() {
    let Some(gpg) = Gpg::new() else { return };
    let foreign = gpg.key("foreign <f@e.org>", "rsa3072", "sign");
    let repo = signed();
    repo.publish(&["verify"]).ok().prints(&["signed by publish"]);
    let good = fs::read(repo.path(SIGNATURE)).unwrap();
    let armored = fs::read(repo.path(ARMORED)).unwrap();
    let manifest = repo.manifest("x");
    let restore = || {
        repo.write(SIGNATURE, &good);
        repo.write(ARMORED, &armored);
        repo.write(MANIFEST, &manifest);
    };
    let wrong = |texts: &[&str]| -> Ran {
        let ran = repo.publish(&["verify"]).code(3).prints(&["it is not right"]).prints(texts);
        restore();
        ran
    };
    let both = |name: &str| fs::copy(repo.path(name), repo.path(ARMORED)).unwrap();

    fs::remove_file(repo.path(SIGNATURE)).unwrap();
    wrong(&["SHA256SUMS.gpg: is missing: systemd 257"]);
    fs::remove_file(repo.path(SIGNATURE)).unwrap();
    fs::remove_file(repo.path(ARMORED)).unwrap();
    wrong(&["SHA256SUMS.gpg: is missing: nodes with Verify=yes refuse"]);
    fs::remove_file(repo.path(ARMORED)).unwrap();
    repo.publish(&["verify"]).ok().prints(&["warning: SHA256SUMS.sha256.asc: is missing"]);
    restore();

    // Somebody puts another image in, with its right digest.
    let image = "public/x/x-1.1-x86-64.raw";
    let other = fs::read(repo.path("public/x/x-1.0-x86-64.raw")).unwrap();
    let real = fs::read(repo.path(image)).unwrap();
    repo.write(image, &other);
    repo.write(MANIFEST, manifest.replace(&sha256(&real), &sha256(&other)));
    wrong(&["SHA256SUMS.gpg: by key ", "the manifest or the signature was changed"]);
    repo.write(image, &other);
    wrong(&["x-1.1-x86-64.raw: has SHA-256"]);
    repo.write(image, &real);
    // Even where the manifest cannot be read any more.
    repo.write(MANIFEST, format!("{manifest}\n"));
    wrong(&["refuse the whole manifest", "the manifest or the signature was changed"]);

    gpg.sign(&repo.path(MANIFEST), &repo.path(SIGNATURE), &[]);
    wrong(&[
        "SHA256SUMS.gpg: is by another key",
        &foreign,
        "sha256.asc: is not the same signature",
    ]);
    gpg.sign(&repo.path(MANIFEST), &repo.path(SIGNATURE), &["--digest-algo", "SHA1"]);
    both(SIGNATURE);
    wrong(&["SHA256SUMS.gpg: uses SHA1, which is too weak"]);
    let then = ["--faked-system-time", "20300101T000000!", "--default-sig-expire", "1d"];
    gpg.sign(&repo.path(MANIFEST), &repo.path(SIGNATURE), &then);
    both(SIGNATURE);
    wrong(&["SHA256SUMS.gpg: is by another key"]);
    repo.write(SIGNATURE, [good.clone(), good.clone()].concat());
    wrong(&["SHA256SUMS.gpg: has 2 signatures"]);
    let (file, to) = (repo.path(MANIFEST), repo.path(SIGNATURE));
    gpg.run(&["--yes", "--output", to.to_str().unwrap(), "--clearsign", file.to_str().unwrap()]);
    wrong(&["SHA256SUMS.gpg: is a signed message"]);
    repo.write(SIGNATURE, "<html>not found</html>");
    wrong(&["SHA256SUMS.gpg: is not a detached OpenPGP signature"]);
    repo.publish(&["verify"]).ok();
}

#[test]
fn who_signed_is_what_the_keyring_says() {
    let Some(gpg) = Gpg::new() else { return };
    let key = gpg.key("foreign <f@e.org>", "ed25519", "sign");
    let repo = signed();
    repo.publish(&["key", "export", "--output", "ours.gpg"]).ok();
    repo.write("other.gpg", gpg.run(&["--export", &key]));
    repo.write("other.asc", gpg.run(&["--armor", "--export", &key]));
    // Somebody else's repository, as far as the program knows.
    fs::remove_dir_all(repo.path("components")).unwrap();
    fs::remove_file(repo.path("publish.toml")).unwrap();
    let verify = |more: &[&str]| repo.publish(&[&["verify", "public"], more].concat());
    verify(&["--keyring", "ours.gpg"]).ok().prints(&["signed by publish"]);
    for other in ["other.gpg", "other.asc"] {
        verify(&["--keyring", other]).code(3).prints(&["SHA256SUMS.gpg: is by another key"]);
    }
    // The keyring beside the images tells what is broken, not who signed.
    verify(&[]).ok().prints(&["signed by publish", "which does not tell who signed"]);
    fs::remove_file(repo.path("public/import-pubring.gpg")).unwrap();
    let ran = verify(&[]).ok().prints(&["was not checked: --keyring FILE"]);
    assert!(!ran.stdout.contains("signed by"), "{ran}");

    // Signed by them, with a key that is then revoked or expires.
    gpg.sign(&repo.path(MANIFEST), &repo.path(SIGNATURE), &[]);
    fs::copy(repo.path(SIGNATURE), repo.path(ARMORED)).unwrap();
    verify(&["--keyring", "other.gpg"]).ok().prints(&["signed by foreign"]);
    gpg.run(&["--quick-set-expire", &key, "seconds=1"]);
    std::thread::sleep(std::time::Duration::from_millis(2100));
    repo.write("expired.gpg", gpg.run(&["--export", &key]));
    verify(&["--keyring", "expired.gpg"]).ok().prints(&[
        "signed by foreign",
        "warning: SHA256SUMS.gpg: is by key",
        "which expired on",
    ]);
    // That is what clients do, too.
    gpgv(&repo.path("expired.gpg"), &repo.path(SIGNATURE), &repo.path(MANIFEST)).unwrap();

    for (file, says) in [
        ("nowhere.gpg", "cannot read nowhere.gpg"),
        ("public/x/SHA256SUMS", "is no keyring"),
        ("signing.key", "a secret key in it"),
    ] {
        verify(&["--keyring", file]).code(1).says(&[says]);
    }
}

#[test]
fn what_differs_between_clients_is_told() {
    let repo = signed();
    let image = fs::read(repo.path("public/x/x-1.1-x86-64.raw")).unwrap();
    list(&repo, "x-1.2~rc1-x86-64.raw", &image);
    let ran = repo.publish(&["verify"]).code(3).prints(&[
        "warning: x-1.2~rc1-x86-64.raw: is seen by systemd 262 alone",
        "systemd 262 takes 1.2~rc1 for the newest version, but 257 takes 1.1",
    ]);
    assert!(!ran.stdout.contains("refuse the whole manifest"), "{ran}");
}

#[test]
fn versions_without_an_architecture_and_strays_are_told() {
    let repo = signed();
    let text = fs::read_to_string(repo.path("publish.toml")).unwrap();
    repo.write("publish.toml", text.replace("[\"x86-64\"]", "[\"x86-64\", \"arm64\"]"));
    repo.publish(&["verify"]).ok().prints(&[
        "warning: SHA256SUMS: version 1.0 is not there for arm64",
        "warning: SHA256SUMS: version 1.1 is not there for arm64",
    ]);
    repo.write("public/x/x-0.9-x86-64.raw", "left behind");
    repo.publish(&["verify"]).ok().prints(&["warning: x-0.9-x86-64.raw: is not listed"]);
}

#[test]
fn programs_for_other_machines_are_a_problem() {
    let repo = Repo::new();
    repo.simple("x");
    // The program itself: an ELF file of this machine. Renamed, it claims to be for another.
    let program = fs::read(std::env::current_exe().unwrap()).unwrap();
    let mut program = program[..4096].to_vec();
    // A header that speaks of no tables, so that it is whole.
    for at in [32..48, 54..62] {
        program[at].fill(0);
    }
    program[18] = 62;
    repo.release("x", "1.0", &program);
    repo.sync().ok();
    repo.publish(&["verify"]).ok();
    program[18] = 183;
    repo.release("x", "1.1", &program);
    repo.sync().code(3).says(&["is a program for arm64, but the image is for x86-64"]);
    // So it must come from elsewhere: the image as another tool might write it.
    let image = fs::read(repo.path("public/x/x-1.0-x86-64.raw")).unwrap();
    let reader = FilesystemReader::from_reader(Cursor::new(image)).unwrap();
    let mut writer = FilesystemWriter::from_fs_reader(&reader).unwrap();
    writer.replace_file("usr/bin/x", Cursor::new(program)).unwrap();
    let mut image = Cursor::new(Vec::new());
    writer.write(&mut image).unwrap();
    let image = image.into_inner();
    list(&repo, "x-1.2-x86-64.raw", &image);
    let problem = "`usr/bin/x` is a program for arm64, but the image is for x86-64";
    let ran = repo.publish(&["verify"]).code(3).prints(&[&format!("x-1.2-x86-64.raw: {problem}")]);
    assert!(!ran.stdout.contains("x-1.0-x86-64.raw: "), "{ran}");
    repo.publish(&["inspect", "public/x/x-1.2-x86-64.raw"]).code(3).prints(&[problem]);
}

#[test]
fn a_quick_look_downloads_nothing() {
    let repo = signed();
    let web = Web::start();
    web.put_dir("/", &repo.path("public"));
    web.clear_requests();
    let url = web.url();
    let quick = || repo.publish(&["verify", &url, "--quick"]);
    quick().ok().prints(&["every file is there; what is in them was not read", "2 files"]);
    let images: Vec<_> =
        web.requests().into_iter().filter(|request| request.path.contains(".raw")).collect();
    assert!(images.len() == 2 && images.iter().all(|request| request.method == http::Method::HEAD));
    web.fault("/x/x-1.0-x86-64.raw", Fault::Status(404), 1);
    quick().code(3).prints(&["x-1.0-x86-64.raw: is listed, but the server has no such file"]);
    web.put("/x/x-1.0-x86-64.raw", "");
    quick().code(3).prints(&["x-1.0-x86-64.raw: is empty"]);
    web.fault("/x/x-1.0-x86-64.raw", Fault::Status(403), 9);
    quick().code(3).prints(&["x-1.0-x86-64.raw: ", "403"]);

    // In a folder, the sizes that images were published with are known.
    repo.publish(&["verify", "--quick"]).ok();
    repo.write("public/x/x-1.0-x86-64.raw", "short");
    repo.publish(&["verify", "--quick"]).code(3).prints(&["has 5 bytes, but was published with"]);
    fs::remove_file(repo.path("public/x/x-1.0-x86-64.raw")).unwrap();
    repo.publish(&["verify", "--quick"]).code(3).prints(&["is listed, but not there"]);
}

#[test]
fn what_a_server_gives_out_is_checked_with_its_signature() {
    let repo = signed();
    let web = Web::start();
    web.put_dir("/", &repo.path("public"));
    let url = web.url();
    repo.publish(&["verify", &url]).ok().prints(&["signed by publish", "every byte is right"]);
    repo.publish(&["verify", &format!("{url}/x/")]).ok().prints(&["signed by publish"]);
    // A bucket that says 403 of what is not there: nodes would stop, and it is no "not found".
    web.fault("/x/SHA256SUMS.sha256.asc", Fault::Status(403), 9);
    let told = "SHA256SUMS.sha256.asc: is answered with 403";
    repo.publish(&["verify", &url]).code(3).prints(&[&format!("error: {told}")]);
    // Of a repository that is not signed, no node asks for one.
    web.fault("/x/SHA256SUMS.gpg", Fault::Status(403), 9);
    let none = Repo::new();
    fs::remove_file(none.path("publish.toml")).unwrap();
    web.fault("/x/import-pubring.gpg", Fault::Status(403), 9);
    none.publish(&["verify", &format!("{url}/x/")]).ok().prints(&[&format!("warning: {told}")]);
    web.heal();
    web.fault("/x/SHA256SUMS.gpg", Fault::Status(404), 1);
    repo.publish(&["verify", &url]).code(3).prints(&["SHA256SUMS.gpg: is missing"]);
}

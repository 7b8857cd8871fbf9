//! Mirrors: other people's repositories, well and unwell, published again.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

use crate::gpg::{Gpg, gpgv};
use crate::pack::Tar;
use crate::recipe::Bench;
use crate::repo::{Ran, Repo};
use crate::web::{Fault, Web, sha256};

const MANIFEST: &str = "/k/SHA256SUMS";
const UNSIGNED: &str = "unsigned = true";

/// Their repository, and ours that mirrors it.
struct Mirror {
    web: Web,
    repo: Repo,
    /// What their manifest lists.
    files: BTreeMap<String, Vec<u8>>,
    gpg: Option<(Gpg, String)>,
}

impl Mirror {
    /// Nobody signs there.
    fn unsigned(lines: &str) -> Self {
        Self::with("", &format!("{UNSIGNED}\n{lines}"), None)
    }

    /// They sign with a key of gpg, whose public half is beside the component.
    fn signed(sections: &str, lines: &str) -> Option<Self> {
        let gpg = Gpg::new()?;
        // Long ago, so that they may have signed things since then.
        let make = ["--quick-generate-key", "their <t@e.org>", "ed25519", "sign", "never"];
        gpg.run(&[&["--faked-system-time", "20230101T000000"], &make[..]].concat());
        let key = gpg.fingerprint("t@e.org");
        Some(Self::with(sections, &format!("keyring = \"their.gpg\"\n{lines}"), Some((gpg, key))))
    }

    fn with(sections: &str, lines: &str, gpg: Option<(Gpg, String)>) -> Self {
        let mirror =
            Self { web: Web::start(), repo: Repo::with(sections), files: BTreeMap::new(), gpg };
        mirror.component(lines);
        if let Some((gpg, key)) = &mirror.gpg {
            mirror.repo.write("components/their.gpg", gpg.run(&["--export", key]));
        }
        mirror
    }

    fn component(&self, lines: &str) {
        let url = self.web.url();
        let (rule, rest) = match lines.split_once("\n[") {
            Some((rule, rest)) => (rule, format!("[{rest}")),
            None => (lines, String::new()),
        };
        let pattern = if rule.contains("match") || rule.contains("verbatim") {
            ""
        } else {
            "match = \"k-v{version}-{arch}.raw\"\n"
        };
        let text = format!("[source.repository]\nurl = \"{url}/k/\"\n{pattern}{rule}\n{rest}");
        self.repo.component("k", &text);
    }

    /// They have these versions, for x86-64 and arm64.
    fn versions(&mut self, versions: &[&str]) {
        self.files.clear();
        for version in versions {
            for arch in ["x86-64", "arm64"] {
                let name = format!("k-v{version}-{arch}.raw");
                self.files.insert(name, disk(&format!("{version} for {arch}")));
            }
        }
        self.publish();
    }

    /// They publish what they have.
    fn publish(&self) {
        let mut manifest = String::new();
        for (name, bytes) in &self.files {
            self.web.put(&format!("/k/{name}"), bytes.clone());
            let _ = writeln!(manifest, "{}  {name}", sha256(bytes));
        }
        self.serve(&manifest);
    }

    /// They publish this manifest.
    fn serve(&self, manifest: impl AsRef<[u8]>) {
        self.web.put(MANIFEST, manifest.as_ref());
        if self.gpg.is_some() {
            self.web.put("/k/SHA256SUMS.gpg", self.signature(manifest, &[]));
        }
    }

    fn signature(&self, manifest: impl AsRef<[u8]>, more: &[&str]) -> Vec<u8> {
        let (gpg, key) = self.gpg.as_ref().unwrap();
        self.repo.write("their/manifest", manifest);
        let (from, to) = (self.repo.path("their/manifest"), self.repo.path("their/signature"));
        gpg.sign(&from, &to, &[more, &["--local-user", key]].concat());
        fs::read(to).unwrap()
    }

    fn manifest(&self) -> String {
        let lines = self.files.iter().map(|(name, bytes)| format!("{}  {name}\n", sha256(bytes)));
        lines.collect()
    }

    /// An image that somebody made with tools of theirs: an extension-release, and a program of this mode.
    fn image(&self, release: &str, text: &str, mode: u32) -> Vec<u8> {
        self.image_with(release, text, mode, &[])
    }

    fn image_with(&self, release: &str, text: &str, mode: u32, arguments: &[&str]) -> Vec<u8> {
        let tree = self.repo.path("tree");
        let _ = fs::remove_dir_all(&tree);
        let release = format!("tree/usr/lib/extension-release.d/extension-release.{release}");
        self.repo.write(&release, text);
        self.repo.write("tree/usr/bin/k", "#!/bin/sh\n");
        let program = self.repo.path("tree/usr/bin/k");
        fs::set_permissions(program, fs::Permissions::from_mode(mode)).unwrap();
        let to = self.repo.path("image");
        let _ = fs::remove_file(&to);
        let mut make = Command::new("mksquashfs");
        let ran = make
            .arg(&tree)
            .arg(&to)
            .args(["-quiet", "-all-root"])
            .args(arguments)
            .output()
            .unwrap();
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
        fs::read(to).unwrap()
    }

    /// The paths that were asked for since the last time, and what was answered.
    fn asked(&self) -> Vec<(String, u16)> {
        let asked = self.web.requests().into_iter().map(|r| (r.path, r.status)).collect();
        self.web.clear_requests();
        asked
    }

    /// A sync that is refused: nothing changes, and it says why.
    #[track_caller]
    fn refuses(&self, says: &[&str]) -> Ran {
        let before = self.repo.snapshot();
        let ran = self.repo.sync().code(3).says(says).says(&["error: k", "hint: "]);
        let mut after = self.repo.snapshot();
        // Whom they answered what is kept even so.
        after.retain(|path, _| !path.starts_with(".publish") && path != ".");
        let mut before = before;
        before.retain(|path, _| !path.starts_with(".publish") && path != ".");
        assert_eq!(after, before, "{ran}");
        ran
    }
}

/// What begins like a disk, as far as anybody looks.
fn disk(text: &str) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    bytes.resize(510, 0);
    bytes.extend(b"\x55\xaa");
    bytes
}

fn names(versions: &[&str]) -> Vec<String> {
    versions.iter().map(|version| format!("k-v{version}-x86-64.raw")).collect()
}

#[test]
fn what_is_wanted_comes_over_as_it_is_and_nothing_comes_twice() {
    let mut mirror = Mirror::unsigned("[versions]\nnewest = 2\nrequire = \">=1.1\"\n");
    mirror.versions(&["1.0", "1.1", "1.2", "1.10"]);
    let ran = mirror.repo.sync().ok();
    assert_eq!(mirror.repo.listed("k"), names(&["1.10", "1.2"]), "{ran}");
    let image = fs::read(mirror.repo.path("public/k/k-v1.10-x86-64.raw")).unwrap();
    assert_eq!(image, disk("1.10 for x86-64"));
    mirror.asked();

    // Nothing new: one question, and nothing is written.
    let before = mirror.repo.snapshot();
    mirror.repo.sync().ok().prints(&["nothing to do"]);
    assert_eq!(mirror.asked(), [(MANIFEST.to_owned(), 304)]);
    assert_eq!(mirror.repo.snapshot(), before);

    // A new version is all that is fetched.
    mirror.versions(&["1.1", "1.2", "1.10", "1.11"]);
    mirror.repo.sync().ok();
    assert_eq!(mirror.repo.listed("k"), names(&["1.10", "1.11"]));
    let asked = mirror.asked();
    assert_eq!(asked, [(MANIFEST.to_owned(), 200), ("/k/k-v1.11-x86-64.raw".to_owned(), 200)]);
    mirror.repo.publish(&["verify"]).ok();
    // However the component puts it, these are the same files.
    mirror.component(&format!(
        "{UNSIGNED}\nmatch = \"k-{{version}}-{{arch}}.raw\"\n[versions]\nnewest = 2\n"
    ));
    let before = mirror.repo.snapshot();
    mirror.repo.sync().ok().prints(&["nothing to do", "newest v1.11"]);
    let image = "k/k-v1.11-x86-64.raw";
    assert_eq!(mirror.repo.snapshot()[image], before[image]);
    assert_eq!(mirror.asked(), [(MANIFEST.to_owned(), 304)]);
}

#[test]
fn a_mirror_is_signed_by_us_if_they_are_signed_by_them() {
    let sections = "[signing]\nkey = { file = \"signing.key\" }\nbest-before = \"14d\"\n";
    let Some(mut mirror) = Mirror::signed(sections, "") else { return };
    mirror.repo.publish(&["key", "generate"]).ok();
    mirror.versions(&["1.0"]);
    mirror.repo.sync().ok();
    let path = |name: &str| mirror.repo.path(&format!("public/{name}"));
    gpgv(&path("import-pubring.gpg"), &path("k/SHA256SUMS.gpg"), &path("k/SHA256SUMS")).unwrap();
    mirror.repo.publish(&["verify"]).ok();
    mirror.asked();
    // The signature is asked for only if the manifest changed.
    mirror.repo.sync().ok();
    assert_eq!(mirror.asked(), [(MANIFEST.to_owned(), 304)]);
    mirror.versions(&["1.0", "1.1"]);
    mirror.repo.sync().ok();
    let paths: Vec<String> = mirror.asked().into_iter().map(|(path, _)| path).collect();
    // As a client asks: what is not there leads on to the next name.
    let expected = ["", ".sha256.asc", ".sha256.gpg", ".gpg"].map(|end| format!("{MANIFEST}{end}"));
    assert_eq!(paths[..4], expected);
}

#[test]
fn a_signature_may_have_any_of_the_names_that_clients_know_and_be_armored() {
    for name in ["SHA256SUMS.sha256.asc", "SHA256SUMS.sha256.gpg", "SHA256SUMS.asc"] {
        let Some(mut mirror) = Mirror::signed("", "") else { return };
        mirror.versions(&["1.0"]);
        mirror.web.remove("/k/SHA256SUMS.gpg");
        let signature = mirror.signature(mirror.manifest(), &["--armor"]);
        mirror.web.put(&format!("/k/{name}"), signature);
        mirror.repo.sync().ok();
        assert_eq!(mirror.repo.listed("k"), names(&["1.0"]), "{name}");
    }
}

#[test]
fn who_is_not_believed_changes_nothing() {
    let Some(mut mirror) = Mirror::signed("", "") else { return };
    mirror.versions(&["1.0"]);
    mirror.repo.sync().ok();
    mirror.versions(&["1.0", "1.1"]);
    let manifest = mirror.manifest();
    let put = |bytes: Vec<u8>| mirror.web.put("/k/SHA256SUMS.gpg", bytes);

    mirror.web.remove("/k/SHA256SUMS.gpg");
    mirror.refuses(&["has no signature"]);
    put(mirror.signature("another", &[]));
    mirror.refuses(&["does not fit"]);
    put(b"<html>".to_vec());
    mirror.refuses(&["not a detached OpenPGP signature"]);
    put(vec![b'x'; 200_000]);
    mirror.refuses(&["not a detached OpenPGP signature"]);
    let (gpg, key) = mirror.gpg.as_ref().unwrap();
    let other = gpg.key("other <o@e.org>", "ed25519", "sign");
    put(mirror.signature(&manifest, &["--default-key", &other, "--local-user", &other]));
    mirror.refuses(&["2 signatures"]);
    fs::write(mirror.repo.path("their/manifest"), &manifest).unwrap();
    let to = mirror.repo.path("their/signature");
    gpg.sign(&mirror.repo.path("their/manifest"), &to, &["--local-user", &other]);
    put(fs::read(&to).unwrap());
    mirror.refuses(&["is by another key", "add it to the keyring"]);
    // A server that does not say that there is none.
    put(mirror.signature(&manifest, &[]));
    mirror.web.fault("/k/SHA256SUMS.sha256.asc", Fault::Status(403), usize::MAX);
    mirror.refuses(&["403"]);
    mirror.web.heal();
    // A key that its owner gave up.
    let revoked = gpg.run(&["--export", key]);
    gpg.revoke(key);
    mirror.repo.write("components/their.gpg", gpg.run(&["--export", key]));
    mirror.refuses(&["is revoked"]);
    mirror.repo.write("components/their.gpg", "no keyring");
    mirror.refuses(&["no keyring"]);
    mirror.repo.write("components/their.gpg", revoked);
    mirror.repo.sync().ok();
    assert_eq!(mirror.repo.listed("k"), names(&["1.0", "1.1"]));
}

#[test]
fn a_manifest_that_changes_between_it_and_its_signature_is_read_again() {
    let Some(mut mirror) = Mirror::signed("", "") else { return };
    mirror.versions(&["1.0"]);
    let old = mirror.manifest();
    mirror.versions(&["1.0", "1.1"]);
    let answer = Fault::Answer { status: 200, headers: Vec::new(), body: old };
    mirror.web.fault(MANIFEST, answer, 1);
    mirror.repo.sync().ok();
    assert_eq!(mirror.repo.listed("k"), names(&["1.0", "1.1"]));
}

#[test]
fn an_old_state_of_theirs_is_not_let_in_again() {
    let Some(mut mirror) = Mirror::signed("", "follow-yanks = true\n") else { return };
    mirror.versions(&["1.0", "1.1"]);
    let manifest = mirror.manifest();
    let old = mirror.signature(&manifest, &["--faked-system-time", "20240101T000000"]);
    mirror.versions(&["1.0", "1.1", "1.2"]);
    mirror.repo.sync().ok();
    mirror.web.put(MANIFEST, manifest);
    mirror.web.put("/k/SHA256SUMS.gpg", old);
    mirror.refuses(&["earlier than the one before", "old state"]);
    assert_eq!(mirror.repo.listed("k"), names(&["1.0", "1.1", "1.2"]));
}

#[test]
fn what_is_remembered_of_them_is_never_just_forgotten() {
    const MEMORY: &str = "public/.publish/mirrors/k.json.zst";
    let Some(mut mirror) = Mirror::signed("", "follow-yanks = true\n") else { return };
    mirror.versions(&["1.0"]);
    mirror.repo.sync().ok();
    mirror.repo.write(MEMORY, "nonsense");
    mirror.versions(&["1.0", "1.1"]);
    let told = "error: k: public/.publish/mirrors/k.json.zst cannot be read: ";
    mirror.refuses(&[told, "hint: ", "`publish sync --adopt` begins it anew"]);
    assert_eq!(mirror.repo.listed("k"), names(&["1.0"]));
    assert_eq!(fs::read(mirror.repo.path(MEMORY)).unwrap(), b"nonsense");
    mirror.repo.publish(&["sync", "--adopt"]).ok();
    assert_eq!(mirror.repo.listed("k"), names(&["1.0", "1.1"]));
    mirror.repo.sync().ok().prints(&["nothing to do"]);
}

#[test]
fn a_clock_of_theirs_that_was_ahead_once_stops_nothing() {
    let Some(mut mirror) = Mirror::signed("", "") else { return };
    mirror.versions(&["1.0"]);
    let ahead = ["--faked-system-time", "20990101T000000"];
    mirror.web.put("/k/SHA256SUMS.gpg", mirror.signature(mirror.manifest(), &ahead));
    mirror.repo.sync().ok();
    mirror.versions(&["1.0", "1.1"]);
    mirror.repo.sync().ok();
    assert_eq!(mirror.repo.listed("k"), names(&["1.0", "1.1"]));
}

#[test]
fn a_promise_that_they_did_not_keep_refuses_them() {
    let mut mirror = Mirror::unsigned("");
    mirror.versions(&["1.0"]);
    mirror.repo.sync().ok();
    let today = Timestamp::now().to_zoned_datetime(TimeZone::UTC).date();
    let fresh = |days: i64| {
        let day = today.checked_add(days.days()).unwrap();
        format!("{}  BEST-BEFORE-{day}\n", sha256(b""))
    };
    mirror.versions(&["1.0", "1.1"]);
    mirror.serve(fresh(0) + &mirror.manifest());
    mirror.refuses(&["was to be believed until", "nobody has renewed it"]);
    mirror.serve(fresh(2) + &mirror.manifest());
    mirror.repo.sync().ok();
    assert_eq!(mirror.repo.listed("k"), names(&["1.0", "1.1"]));
    assert!(!mirror.repo.manifest("k").contains("BEST-BEFORE"), "that was theirs to promise");
}

#[test]
fn a_bad_line_of_theirs_does_not_spoil_ours() {
    let mut mirror = Mirror::unsigned("");
    mirror.versions(&["1.0", "1.1", "1.2", "1.3"]);
    let digest = |name: &str| sha256(&mirror.files[name]);
    let (b, c, d) = ("k-v1.1-x86-64.raw", "k-v1.2-x86-64.raw", "k-v1.3-x86-64.raw");
    let text = format!(
        "{}  k-v1.0-x86-64.raw\n\n# more\n{}  {b}\r\n{} *{c}\n{}  ../{d}\n{}  {d}\n{}  {d}\n{}  %2e\n{}  x\u{7}\n",
        digest("k-v1.0-x86-64.raw"),
        digest(b),
        digest(c).to_uppercase(),
        digest(d),
        digest(d),
        digest(c),
        digest(d),
        digest(d),
    );
    mirror.serve(text);
    let ran = mirror.repo.sync().ok().says(&[
        "warning: k: ",
        "line 2: ",
        "carriage return",
        "and 2 more",
    ]);
    assert!(!ran.stderr.contains('\u{7}'), "{ran}");
    assert_eq!(mirror.repo.listed("k"), names(&["1.0", "1.2"]));
    // It was told.
    let ran = mirror.repo.sync().ok();
    assert!(!ran.stderr.contains("warning"), "{ran}");
}

#[test]
fn nothing_that_matches_is_an_error_with_what_would_fit() {
    let mut mirror = Mirror::unsigned("match = \"x_{version}.raw\"\n");
    mirror.versions(&["1.0"]);
    mirror.refuses(&["none of the 2 files of", "match = \"k-v{version}-{arch}.raw\""]);
    mirror.serve("");
    mirror.refuses(&["lists nothing"]);
    mirror.serve("<html>\n");
    mirror.refuses(&["no line that can be used", "line 1"]);
}

#[test]
fn a_file_that_is_not_there_or_not_what_they_say_leaves_its_version_out() {
    let mut mirror = Mirror::unsigned("");
    mirror.versions(&["1.0", "1.1", "1.2", "1.3"]);
    mirror.component(&format!("{UNSIGNED}\n[versions]\nnewest = 4\n"));
    mirror.web.remove("/k/k-v1.1-x86-64.raw");
    mirror.web.put("/k/k-v1.2-x86-64.raw", "something else");
    let ran = mirror.repo.sync().code(3).says(&[
        "error: k 1.1 x86-64: cannot fetch k-v1.1-x86-64.raw",
        "404",
        "error: k 1.2 x86-64",
        "has SHA-256",
    ]);
    assert_eq!(mirror.repo.listed("k"), names(&["1.0", "1.3"]), "{ran}");
    mirror.publish();
    mirror.repo.sync().ok();
    assert_eq!(mirror.repo.listed("k"), names(&["1.0", "1.1", "1.2", "1.3"]));
}

#[test]
fn other_bytes_under_a_published_name_are_an_alarm() {
    let mut mirror = Mirror::unsigned("");
    mirror.versions(&["1.0"]);
    mirror.repo.sync().ok();
    mirror.files.insert("k-v1.0-x86-64.raw".to_owned(), disk("other"));
    mirror.publish();
    mirror.refuses(&["upstream replaced k-v1.0-x86-64.raw", "accept = {"]);
    // Wherever it comes from, and whether or not anybody knows how it was made.
    fs::remove_dir_all(mirror.repo.path("public/.publish")).unwrap();
    let other = Web::start();
    for (name, bytes) in &mirror.files {
        other.put(&format!("/{name}"), bytes.clone());
    }
    other.put("/SHA256SUMS", mirror.manifest());
    let text = format!(
        "[source.repository]\nurl = \"{}\"\n{UNSIGNED}\nmatch = \"k-v{{version}}-{{arch}}.raw\"\n",
        other.url()
    );
    mirror.repo.component("k", &text);
    mirror.refuses(&["upstream replaced"]);
    let accept = format!("[versions.accept]\n\"1.0\" = [\"{}\"]\n", sha256(&disk("other")));
    mirror.repo.component("k", &format!("{text}{accept}"));
    mirror.repo.sync().ok();
    assert_eq!(mirror.repo.listed("k"), ["k-v1.0-r1-x86-64.raw"]);
}

#[test]
fn what_they_take_out_stays_and_is_told_or_goes_as_well() {
    let Some(mut mirror) = Mirror::signed("", "") else { return };
    mirror.versions(&["1.0", "1.1", "1.2"]);
    mirror.repo.sync().ok();
    // What only got old there is not worth a word.
    mirror.versions(&["1.1", "1.2"]);
    mirror.repo.sync().ok();
    assert_eq!(mirror.repo.listed("k"), names(&["1.0", "1.1", "1.2"]));
    mirror.versions(&["1.0", "1.2"]);
    mirror.refuses(&[
        "error: k 1.1: upstream no longer lists it, although it lists older ones",
        "publish yank k 1.1",
    ]);
    mirror.versions(&["1.0", "1.1"]);
    mirror.refuses(&["error: k 1.2: upstream no longer lists it, although it was the newest"]);
    mirror.repo.publish(&["status"]).code(3).says(&["no longer lists it"]);

    let keyring = "keyring = \"their.gpg\"\n";
    mirror.component(&format!("{keyring}[versions]\nexclude = [\"1.2\"]\n"));
    mirror.repo.sync().ok();
    assert_eq!(mirror.repo.listed("k"), names(&["1.0", "1.1", "1.2"]));

    mirror.component(&format!("{keyring}follow-yanks = true\n"));
    mirror.repo.publish(&["plan"]).ok().prints(&["1.2", "upstream took it out"]);
    mirror.repo.sync().ok().prints(&["k-v1.2-x86-64.raw", "yanked"]);
    assert_eq!(mirror.repo.listed("k"), names(&["1.0", "1.1"]));
    let before = mirror.repo.snapshot();
    mirror.repo.sync().ok().prints(&["nothing to do"]);
    assert_eq!(mirror.repo.snapshot(), before);
    // What comes back there waits for somebody here.
    mirror.versions(&["1.0", "1.1", "1.2"]);
    mirror.repo.sync().ok();
    assert_eq!(mirror.repo.listed("k"), names(&["1.0", "1.1"]));
    mirror.repo.publish(&["restore", "k", "1.2"]).ok();
    mirror.repo.sync().ok();
    assert_eq!(mirror.repo.listed("k"), names(&["1.0", "1.1", "1.2"]));
}

#[test]
fn a_mass_of_versions_that_go_at_once_is_no_yank() {
    let Some(mut mirror) = Mirror::signed(
        "[retention]\nmax-delete = 2\n",
        "follow-yanks = true\n[versions]\nnewest = 9\n",
    ) else {
        return;
    };
    mirror.versions(&["1.0", "1.1", "1.2", "1.3"]);
    mirror.repo.sync().ok();
    mirror.versions(&["1.0"]);
    mirror.refuses(&["and 2 more", "too much to follow at once"]);
}

#[test]
fn a_version_waits_from_when_it_was_first_seen() {
    let mut mirror = Mirror::unsigned("[versions]\nmin-age = \"2d\"\n");
    mirror.versions(&["1.0"]);
    mirror.repo.sync().ok();
    assert!(!mirror.repo.path("public/k/SHA256SUMS").exists());
    mirror.repo.publish(&["plan", "-v"]).ok().prints(&["younger than `min-age`"]);
    // What they signed days ago was there by then.
    let Some(mut mirror) = Mirror::signed("", "[versions]\nmin-age = \"2d\"\n") else { return };
    mirror.versions(&["1.0"]);
    let old = mirror.signature(mirror.manifest(), &["--faked-system-time", "20240101T000000"]);
    mirror.web.put("/k/SHA256SUMS.gpg", old);
    mirror.repo.sync().ok();
    assert_eq!(mirror.repo.listed("k"), names(&["1.0"]));
}

#[test]
fn files_may_be_renamed_and_lie_elsewhere() {
    let mut mirror = Mirror::unsigned("");
    let blobs = Web::start();
    let url = blobs.url();
    mirror.component(&format!(
        "{UNSIGNED}\nfiles = \"{url}/download/k-v{{version}}\"\n[image]\nname = \"k_{{version}}_{{arch}}.raw\"\n"
    ));
    mirror.versions(&["1.0"]);
    let name = "k-v1.0-x86-64.raw";
    mirror.web.remove(&format!("/k/{name}"));
    blobs.put(&format!("/download/k-v1.0/{name}"), "elsewhere");
    blobs.fault(&format!("/download/k-v1.0/{name}"), Fault::Redirect(format!("{url}/blob")), 1);
    blobs.put("/blob", mirror.files[name].clone());
    mirror.repo.sync().ok();
    assert_eq!(mirror.repo.listed("k"), ["k_1.0_x86-64.raw"]);
}

#[test]
fn the_files_of_an_os_come_and_go_together() {
    let mut mirror = Mirror::unsigned(
        "match = [\"os_{version}.efi\", \"os_{version}.root.raw.xz\"]\n[versions]\nnewest = 2\n",
    );
    for version in ["1", "2", "3"] {
        // What looks like an archive, or an image, is nobody's to look into.
        mirror.files.insert(format!("os_{version}.efi"), format!("MZ{version}").into_bytes());
        let root = [b"\xfd7zXZ\0".as_slice(), version.as_bytes()].concat();
        mirror.files.insert(format!("os_{version}.root.raw.xz"), root);
    }
    mirror.files.insert("os_4.root.raw.xz".to_owned(), b"alone".to_vec());
    mirror.publish();
    mirror.repo.sync().ok();
    let both = |versions: &[&str]| -> Vec<String> {
        let both =
            versions.iter().flat_map(|v| [format!("os_{v}.efi"), format!("os_{v}.root.raw.xz")]);
        both.collect()
    };
    assert_eq!(mirror.repo.listed("k"), both(&["2", "3"]));
    let root = fs::read(mirror.repo.path("public/k/os_3.root.raw.xz")).unwrap();
    assert_eq!(root, mirror.files["os_3.root.raw.xz"]);
    mirror.repo.publish(&["verify"]).ok().prints(&["4 files", "every byte is right"]);
    let before = mirror.repo.snapshot();
    mirror.repo.sync().ok().prints(&["nothing to do"]);
    assert_eq!(mirror.repo.snapshot(), before);

    mirror.files.insert("os_4.efi".to_owned(), b"MZ4".to_vec());
    mirror.publish();
    mirror.repo.sync().ok();
    assert_eq!(mirror.repo.listed("k"), both(&["3", "4"]));
    mirror.repo.publish(&["yank", "k", "4"]).ok();
    assert_eq!(mirror.repo.listed("k"), both(&["3"]));
    // One of two that is gone comes back.
    fs::remove_file(mirror.repo.path("public/k/os_3.root.raw.xz")).unwrap();
    mirror.repo.sync().ok();
    assert_eq!(mirror.repo.listed("k"), both(&["2", "3"]));
    // Half a version is none.
    mirror.web.remove("/k/os_5.efi");
    mirror.files.insert("os_5.efi".to_owned(), b"MZ5".to_vec());
    mirror.publish();
    mirror.repo.sync().code(3).says(&["error: k 5: ", "os_5.root.raw.xz"]);
}

#[test]
fn an_upstream_that_is_down_slow_or_endless_stops_nothing() {
    let mut mirror = Mirror::with("[network]\ntimeout = \"1s\"\n", &format!("{UNSIGNED}\n"), None);
    mirror.versions(&["1.0"]);
    mirror.repo.sync().ok();
    for (fault, says) in [
        (Fault::Status(503), "503"),
        (Fault::Stall, "sent nothing for"),
        (Fault::Truncate(10), "ended early"),
    ] {
        mirror.versions(&["1.0", "1.1"]);
        mirror.web.fault(MANIFEST, fault, usize::MAX);
        mirror.refuses(&[says]);
        mirror.web.heal();
    }
    mirror.repo.sync().ok();
    assert_eq!(mirror.repo.listed("k"), names(&["1.0", "1.1"]));
}

fn has_mksquashfs() -> bool {
    let there = Command::new("mksquashfs").arg("-version").output().is_ok();
    if !there {
        eprintln!("skipped: this machine has no mksquashfs");
    }
    there
}

#[test]
fn an_image_that_would_stop_nodes_is_refused() {
    if !has_mksquashfs() {
        return;
    }
    let mut mirror = Mirror::unsigned("");
    let image = |release: &str, text: &str| mirror.image(release, text, 0o755);
    let any = "ID=_any\nARCHITECTURE=x86-64\n";
    let images = BTreeMap::from([
        // For a link, as the bakery makes them; for the file itself; wrong; of no kind; another system.
        ("k-v1.0-x86-64.raw".to_owned(), image("k", any)),
        ("k-v1.1-x86-64.raw".to_owned(), image("k-v1.1-x86-64", any)),
        ("k-v1.2-x86-64.raw".to_owned(), image("other", any)),
        ("k-v1.3-x86-64.raw".to_owned(), image("k", "ID=_any\nARCHITECTURE=arm64\n")),
        ("k-v1.4-x86-64.raw".to_owned(), image("k", "ID=flatcar\n")),
        ("k-v1.5-x86-64.raw".to_owned(), b"hsqs, and no more".to_vec()),
        ("k-v1.6-x86-64.raw".to_owned(), disk("another file system")),
    ]);
    mirror.files = images;
    mirror.component(&format!("{UNSIGNED}\n[versions]\nnewest = 9\n"));
    mirror.publish();
    let ran = mirror.repo.sync().code(3).says(&[
        "error: k 1.2 x86-64: k-v1.2-x86-64.raw of their repository would stop nodes: its extension-release is for other, but nodes link to it as k.raw",
        "call the component other: its file is other.toml",
        "error: k 1.1 x86-64",
        "error: k 1.3 x86-64",
        "error: k 1.4 x86-64",
        "neither SYSEXT_LEVEL= nor VERSION_ID=",
        "error: k 1.5 x86-64",
        "inspect = false",
    ]);
    assert_eq!(mirror.repo.listed("k"), names(&["1.0", "1.6"]), "{ran}");
    mirror.component(&format!("{UNSIGNED}\ninspect = false\n[versions]\nnewest = 9\n"));
    mirror.repo.sync().ok();
    assert_eq!(mirror.repo.listed("k").len(), 7);
}

#[test]
fn an_image_that_would_take_files_from_the_host_is_refused() {
    if !has_mksquashfs() {
        return;
    }
    let mut mirror = Mirror::unsigned("[versions]\nnewest = 9\n");
    let any = "ID=_any\nARCHITECTURE=x86-64\n";
    for (version, pseudo) in [
        ("1.0", "usr/lib/k d 755 0 0"),
        ("1.1", "usr/bin/gone c 644 0 0 0 0"),
        ("1.2", "usr m 000 0 0"),
        ("1.3", "usr/share s 777 0 0 /nowhere"),
        ("1.4", "usr/lib/systemd f 644 0 0 true"),
    ] {
        let image = mirror.image_with("k", any, 0o755, &["-p", pseudo]);
        mirror.files.insert(format!("k-v{version}-x86-64.raw"), image);
    }
    mirror.publish();
    mirror.repo.sync().code(3).says(&[
        "error: k 1.1 x86-64: k-v1.1-x86-64.raw of their repository would stop nodes: `usr/bin/gone` is a device",
        "error: k 1.2 x86-64",
        "[folder-mode]",
        "error: k 1.3 x86-64",
        "`usr/share` is no folder: merged, it would hide",
        "error: k 1.4 x86-64",
        "`usr/lib/systemd` is no folder",
    ]);
    assert_eq!(mirror.repo.listed("k"), names(&["1.0"]));
    let image = &mirror.files["k-v1.3-x86-64.raw"];
    mirror.repo.write("k.raw", image);
    mirror.repo.publish(&["inspect", "k.raw"]).code(3).prints(&["problem", "[hides-folder]"]);
    // A mode that is meant.
    let allow =
        format!("{UNSIGNED}\n[versions]\nrequire = \"=1.2\"\n[lint]\nallow = [\"folder-mode\"]\n");
    mirror.component(&allow);
    mirror.repo.sync().ok();
    // An image that is published as it is, is looked into, too.
    let sections = "[image]\nformat = \"none\"\n";
    let pick = "[asset.files]\n\"image.raw\" = \"it.raw\"\n";
    for (version, says) in [("1.1", "[special-file]"), ("1.3", "[hides-folder]")] {
        let image = &mirror.files[&format!("k-v{version}-x86-64.raw")];
        let tar = Tar::new().file("it.raw", 0o644, image).gz();
        Bench::with(sections, "it.tgz", tar, pick).refuses(&[says]);
    }
}

#[test]
fn what_is_no_image_is_not_published_as_one() {
    let mut mirror = Mirror::unsigned("[versions]\nnewest = 9\n");
    let mut old = b"hsqs".to_vec();
    old.resize(28, 0);
    old.extend([3, 0, 1, 0]);
    old.resize(4096, 0);
    for (version, bytes) in [
        ("1.0", disk("a disk")),
        ("1.1", b"<!DOCTYPE html>".to_vec()),
        ("1.2", Vec::new()),
        ("1.3", old),
    ] {
        mirror.files.insert(format!("k-v{version}-x86-64.raw"), bytes);
    }
    mirror.publish();
    mirror.repo.sync().code(3).says(&[
        "error: k 1.1 x86-64",
        "begins like no file system and no disk",
        "error: k 1.2 x86-64",
        "it is empty",
        "error: k 1.3 x86-64",
        "it is of version 3.1, not 4.0",
        "inspect = false",
    ]);
    assert_eq!(mirror.repo.listed("k"), names(&["1.0"]));
    let Some(mut mirror) = verbatim() else { return };
    mirror.versions(&["1.0"]);
    mirror.repo.sync().ok();
    mirror.files.insert("k-v1.1-x86-64.raw".to_owned(), b"an error\n".to_vec());
    mirror.publish();
    mirror.refuses(&["error: k k-v1.1-x86-64.raw", "begins like no file system and no disk"]);
}

#[test]
fn what_is_odd_about_an_image_of_theirs_is_told_and_may_be_denied() {
    if !has_mksquashfs() {
        return;
    }
    let any = "ID=_any\nARCHITECTURE=x86-64\n";
    let mut mirror = Mirror::unsigned("[lint]\ndeny = [\"setuid\"]\n");
    let setuid = mirror.image("k", any, 0o4755);
    mirror.files.insert("k-v1.0-x86-64.raw".to_owned(), mirror.image("k", any, 0o755));
    mirror.files.insert("k-v1.1-x86-64.raw".to_owned(), setuid.clone());
    mirror.publish();
    let found =
        "`usr/bin/k` has mode 4755: it runs as its owner or group, whoever starts it [setuid]";
    let ran = mirror.repo.sync().code(3).says(&[
        "error: k 1.1 x86-64: k-v1.1-x86-64.raw of their repository is refused: ",
        found,
        "hint: it is not published: [lint] deny says so",
    ]);
    assert_eq!(mirror.repo.listed("k"), names(&["1.0"]), "{ran}");
    // Told, but their affair.
    mirror.component(UNSIGNED);
    let ran = mirror.repo.publish(&["--json", "sync"]).ok();
    let ran = ran.says(&[&format!("warning: k k-v1.1-x86-64.raw: {found}")]);
    let published = &ran.json()["components"][0]["published"][0];
    assert_eq!(published["findings"][0]["lint"], "setuid", "{ran}");
    assert_eq!(mirror.repo.listed("k"), names(&["1.0", "1.1"]));
    // Meant, so that nobody need hear of it.
    mirror.files.insert("k-v1.2-x86-64.raw".to_owned(), setuid);
    mirror.publish();
    mirror.component(&format!("{UNSIGNED}\n[lint]\nallow = [\"setuid\"]\n"));
    let ran = mirror.repo.sync().ok();
    assert!(!ran.stderr.contains("setuid"), "{ran}");
    // What they made of another size is worth a word, too.
    let large: Vec<u8> =
        (0..200_000_u32).flat_map(|n| n.wrapping_mul(0x9e37_79b1).to_le_bytes()).collect();
    let large = [disk("large"), large].concat();
    mirror.files.insert("k-v1.3-x86-64.raw".to_owned(), large);
    mirror.publish();
    mirror.repo.sync().ok().says(&["warning: k 1.3 x86-64: the image grew from", "[size-changed]"]);
}

#[test]
fn a_verbatim_mirror_with_an_image_that_would_stop_nodes_stays_as_it_is_and_says_so() {
    if !has_mksquashfs() {
        return;
    }
    let Some(mut mirror) = verbatim() else { return };
    mirror.versions(&["1.0"]);
    mirror.repo.sync().ok();
    let bad = mirror.image("other", "ID=_any\n", 0o4755);
    mirror.files.insert("k-v1.1-x86-64.raw".to_owned(), bad);
    mirror.publish();
    mirror.refuses(&[
        "error: k k-v1.1-x86-64.raw: k-v1.1-x86-64.raw of their repository would stop nodes: ",
        "extension-release is for other",
        "hint: it is not published; if it is meant to be so, say `inspect = false`",
    ]);
    mirror.component("keyring = \"their.gpg\"\nverbatim = true\ninspect = false\n");
    mirror.repo.sync().ok();
    mirror.is_served_as_theirs();
    // What nodes would live with keeps nothing back.
    let odd = mirror.image("k", "ID=_any\n", 0o4755);
    mirror.files.insert("k-v1.2-x86-64.raw".to_owned(), odd);
    mirror.publish();
    mirror.component("keyring = \"their.gpg\"\nverbatim = true\n");
    mirror.repo.sync().ok().says(&["warning: k k-v1.2-x86-64.raw: ", "[setuid]"]);
    mirror.is_served_as_theirs();
}

#[test]
fn files_that_never_end_lead_in_circles_or_are_too_large_are_given_up() {
    let sections = "[limits]\ndownload = \"1MiB\"\n[network]\ntimeout = \"1s\"\n";
    let mut mirror = Mirror::with(sections, &format!("{UNSIGNED}\n[versions]\nnewest = 9\n"), None);
    let url = mirror.web.url();
    mirror.versions(&["1.0", "1.1", "1.2", "1.3", "1.4"]);
    mirror.files.insert("k-v1.5-x86-64.raw".to_owned(), vec![7; 2 << 20]);
    mirror.publish();
    let file = |version: &str| format!("/k/k-v{version}-x86-64.raw");
    let around = Fault::Redirect(format!("{url}{}", file("1.1")));
    mirror.web.fault(&file("1.1"), around, usize::MAX);
    mirror.web.fault(&file("1.2"), Fault::Endless, usize::MAX);
    mirror.web.fault(&file("1.3"), Fault::Stall, usize::MAX);
    mirror.web.fault(&file("1.4"), Fault::Redirect("file:///etc/passwd".to_owned()), usize::MAX);
    let ran = mirror.repo.sync().code(3).says(&[
        "error: k 1.1 x86-64",
        "redirect",
        "error: k 1.2 x86-64",
        "error: k 1.3 x86-64",
        "error: k 1.4 x86-64",
        "error: k 1.5 x86-64",
        "larger than",
    ]);
    assert_eq!(mirror.repo.listed("k"), names(&["1.0"]), "{ran}");
    mirror.web.fault(MANIFEST, Fault::Endless, usize::MAX);
    mirror.refuses(&["larger than"]);
    mirror.web.heal();
    mirror.web.fault(MANIFEST, Fault::Redirect(format!("{url}{MANIFEST}")), usize::MAX);
    mirror.refuses(&["redirect"]);
}

#[test]
fn a_signature_that_expired_is_none() {
    let Some(mut mirror) = Mirror::signed("", "") else { return };
    mirror.versions(&["1.0"]);
    mirror.repo.sync().ok();
    mirror.versions(&["1.0", "1.1"]);
    let past = ["--faked-system-time", "20240101T000000", "--default-sig-expire", "2d"];
    mirror.web.put("/k/SHA256SUMS.gpg", mirror.signature(mirror.manifest(), &past));
    mirror.refuses(&["expired on 2024-01-03"]);
}

#[test]
fn a_run_that_is_cut_short_goes_on_where_it_was() {
    let mut mirror = Mirror::unsigned("[versions]\nnewest = 3\n");
    mirror.versions(&["1.0", "1.1", "1.2"]);
    mirror.web.fault("/k/k-v1.0-x86-64.raw", Fault::Status(500), 3);
    mirror.repo.sync().code(3);
    mirror.asked();
    mirror.repo.sync().ok();
    assert_eq!(
        mirror.asked(),
        [(MANIFEST.to_owned(), 304), ("/k/k-v1.0-x86-64.raw".to_owned(), 200)]
    );
}

/// Published as they have it, while everything else here is signed by us.
fn verbatim() -> Option<Mirror> {
    let sections = "[signing]\nkey = { file = \"signing.key\" }\nbest-before = \"14d\"\n[retention]\ngrace = \"0s\"\n";
    let mirror = Mirror::signed(sections, "verbatim = true\n")?;
    mirror.repo.publish(&["key", "generate"]).ok();
    Some(mirror)
}

impl Mirror {
    /// What is served here is what they serve, byte for byte, and every file is there.
    #[track_caller]
    fn is_served_as_theirs(&self) {
        let served = |name: &str| fs::read(self.repo.path(&format!("public/k/{name}"))).ok();
        assert_eq!(served("SHA256SUMS").unwrap(), self.manifest().into_bytes());
        let (keyring, signature, manifest) =
            ("components/their.gpg", "public/k/SHA256SUMS.gpg", "public/k/SHA256SUMS");
        let [keyring, signature, manifest] =
            [keyring, signature, manifest].map(|p| self.repo.path(p));
        gpgv(&keyring, &signature, &manifest).unwrap();
        assert_eq!(served("SHA256SUMS.sha256.asc"), None);
        for (name, bytes) in &self.files {
            assert_eq!(served(name).as_ref(), Some(bytes), "{name}");
        }
        self.repo.listed("k");
    }
}

#[test]
fn a_verbatim_mirror_is_theirs_byte_for_byte() {
    let Some(mut mirror) = verbatim() else { return };
    mirror.repo.simple("ours");
    mirror.repo.release("ours", "1.0", "ours");
    mirror.files.insert("os.root.raw.xz".to_owned(), b"whatever".to_vec());
    mirror.files.insert("os.efi".to_owned(), b"MZ".to_vec());
    mirror.publish();
    mirror.repo.publish(&["plan"]).ok().prints(&[
        "os.efi",
        "os.root.raw.xz",
        "to be signed: as upstream signed it",
    ]);
    mirror.repo.sync().ok().prints(&["os.root.raw.xz"]);
    mirror.is_served_as_theirs();
    mirror.repo.publish(&["verify"]).ok().prints(&["signed by their", "every byte is right"]);
    mirror.asked();
    let before = mirror.repo.snapshot();
    mirror.repo.sync().ok().prints(&["nothing to do"]);
    assert_eq!(mirror.repo.snapshot(), before);
    assert_eq!(mirror.asked(), [(MANIFEST.to_owned(), 304)]);
    mirror.repo.publish(&["status"]).ok().prints(&["k: current"]);

    // What they take out goes, its file after the grace, which is none here.
    mirror.files.remove("os.efi");
    mirror.files.insert("os2.efi".to_owned(), b"MZ2".to_vec());
    mirror.publish();
    mirror.repo.sync().ok().prints(&["os.efi", "upstream no longer lists it", "os2.efi"]);
    mirror.is_served_as_theirs();
    mirror.repo.sync().ok().prints(&["deleted"]);
    assert!(!mirror.repo.path("public/k/os.efi").exists());
    // A signature of another name, over the same lines and a promise.
    let day =
        Timestamp::now().to_zoned_datetime(TimeZone::UTC).date().checked_add(9.days()).unwrap();
    let text = format!("{}  BEST-BEFORE-{day}\n{}", sha256(b""), mirror.manifest());
    mirror.serve(&text);
    mirror.web.put("/k/SHA256SUMS.sha256.asc", mirror.signature(&text, &["--armor"]));
    mirror.repo.sync().ok().prints(&["as upstream signed it"]);
    assert_eq!(mirror.repo.manifest("k"), text);
    assert!(mirror.repo.path("public/k/SHA256SUMS.sha256.asc").exists());
    // And back to one.
    mirror.web.remove("/k/SHA256SUMS.sha256.asc");
    mirror.publish();
    mirror.repo.sync().ok();
    mirror.is_served_as_theirs();
    mirror.repo.publish(&["yank", "k", "1.0"]).code(1).says(&["its manifest is its upstream's"]);
    mirror.repo.publish(&["prune"]).ok();
    mirror.is_served_as_theirs();
}

#[test]
fn a_verbatim_mirror_takes_all_or_nothing() {
    let Some(mut mirror) = verbatim() else { return };
    mirror.versions(&["1.0"]);
    mirror.repo.sync().ok();
    mirror.versions(&["1.0", "1.1", "1.2"]);
    mirror.web.remove("/k/k-v1.1-arm64.raw");
    let ran = mirror.repo.sync().code(3).says(&["error: k k-v1.1-arm64.raw: cannot fetch", "404"]);
    assert_eq!(mirror.repo.listed("k"), ["k-v1.0-arm64.raw", "k-v1.0-x86-64.raw"], "{ran}");
    mirror.asked();
    // What has come already does not come again.
    mirror.publish();
    mirror.repo.sync().ok();
    mirror.is_served_as_theirs();
    let fetched: Vec<String> =
        mirror.asked().into_iter().map(|(path, _)| path).filter(|p| p.contains(".raw")).collect();
    assert_eq!(fetched, ["/k/k-v1.1-arm64.raw"]);

    let good = mirror.manifest();
    mirror.files.insert("k-v1.0-arm64.raw".to_owned(), disk("other"));
    mirror.publish();
    mirror.refuses(&["error: k k-v1.0-arm64.raw: upstream replaced it"]);
    mirror.serve(format!("{good}x\n"));
    mirror.refuses(&["cannot be published as it is", "leave `verbatim` out"]);
    for name in ["SHA256SUMS", "SHA256SUMS.gpg"] {
        mirror.serve(format!("{good}{}  {name}\n", sha256(b"x")));
        mirror.refuses(&[&format!("SHA256SUMS lists {name}, which is"), "leave `verbatim` out"]);
    }
    mirror.files.clear();
    for number in 0..30 {
        mirror.files.insert(format!("n{number}.raw"), disk(&number.to_string()));
    }
    mirror.publish();
    mirror.repo.component("k", &fs::read_to_string(mirror.repo.path("components/k.toml")).unwrap());
    mirror.repo.sync().code(0);
    mirror.is_served_as_theirs();
    mirror.files.clear();
    mirror.files.insert("n1.raw".to_owned(), disk("1"));
    mirror.publish();
    mirror.refuses(&["and 28 more", "too much to follow at once"]);
}

#[test]
fn what_half_a_run_left_gives_way_to_what_they_have_now() {
    let Some(mut mirror) = verbatim() else { return };
    mirror.versions(&["1.0"]);
    mirror.repo.sync().ok();
    mirror.versions(&["1.0", "1.1"]);
    mirror.web.remove("/k/k-v1.1-arm64.raw");
    mirror.repo.sync().code(3).says(&["k-v1.1-arm64.raw: cannot fetch"]);
    assert!(mirror.repo.path("public/k/k-v1.1-x86-64.raw").exists());
    // They make the whole release anew.
    for arch in ["x86-64", "arm64"] {
        mirror.files.insert(format!("k-v1.1-{arch}.raw"), disk(&format!("anew {arch}")));
    }
    mirror.publish();
    mirror.repo.sync().ok();
    mirror.is_served_as_theirs();
    // A file that nobody knows of stays, and stops them.
    mirror.files.insert("k-v1.2-arm64.raw".to_owned(), disk("theirs"));
    mirror.publish();
    mirror.repo.write("public/k/k-v1.2-arm64.raw", "somebody's");
    mirror.repo.sync().code(3).says(&["k-v1.2-arm64.raw is there already"]);
}

#[test]
fn a_verbatim_mirror_that_a_crash_left_without_its_signature_heals() {
    let Some(mut mirror) = verbatim() else { return };
    mirror.versions(&["1.0"]);
    mirror.repo.sync().ok();
    let old = fs::read(mirror.repo.path("public/k/SHA256SUMS.gpg")).unwrap();
    mirror.versions(&["1.0", "1.1"]);
    mirror.repo.sync().ok();
    mirror.repo.write("public/k/SHA256SUMS.gpg", old);
    mirror.repo.sync().ok();
    mirror.is_served_as_theirs();
    fs::remove_file(mirror.repo.path("public/k/k-v1.1-arm64.raw")).unwrap();
    mirror.repo.sync().ok().prints(&["listed, but the file is gone"]);
    mirror.is_served_as_theirs();
    // While they are down, nothing of theirs is signed by us.
    mirror.web.fault(MANIFEST, Fault::Status(500), usize::MAX);
    mirror.repo.sync().code(3);
    mirror.is_served_as_theirs();
}

/// What is remembered of the folder.
fn catalogue(mirror: &Mirror) -> String {
    fs::read_to_string(mirror.repo.path("public/.publish/folders/k.json")).unwrap()
}

#[test]
fn nobody_signs_a_verbatim_folder_that_no_component_has_any_more() {
    let Some(mut mirror) = verbatim() else { return };
    mirror.versions(&["1.0"]);
    mirror.repo.sync().ok();
    assert!(catalogue(&mirror).contains("\"verbatim\": true"), "{}", catalogue(&mirror));
    fs::remove_file(mirror.repo.path("components/k.toml")).unwrap();
    mirror.repo.simple("ours");
    mirror.repo.release("ours", "1.0", "ours");
    let ran = mirror.repo.sync().ok().says(&["k/ has no component any more"]);
    mirror.is_served_as_theirs();
    assert!(!ran.stdout.contains("signed"), "{ran}");
    mirror.repo.publish(&["sync", "--adopt"]).ok();
    mirror.is_served_as_theirs();
    mirror.repo.publish(&["retire", "k"]).code(1).says(&[
        "the manifest of k is its upstream's",
        "hint: to let go of it, remove k/ from the store",
    ]);
    mirror.is_served_as_theirs();
}

#[test]
fn a_verbatim_folder_becomes_ours_only_if_somebody_says_so() {
    let Some(mut mirror) = verbatim() else { return };
    mirror.versions(&["1.0"]);
    mirror.repo.sync().ok();
    let (theirs, ours) =
        ("keyring = \"their.gpg\"\nverbatim = true\n", "keyring = \"their.gpg\"\n");
    mirror.component(ours);
    mirror.refuses(&["not as any key of [signing] has signed it", "publish sync --adopt"]);
    mirror.is_served_as_theirs();
    // Nothing came of it, so it is still theirs, whatever becomes of the component.
    assert!(catalogue(&mirror).contains("\"verbatim\": true"));
    mirror.component(theirs);
    mirror.repo.sync().ok().prints(&["nothing to do"]);
    mirror.component(ours);
    mirror.repo.publish(&["sync", "--adopt"]).ok();
    // Under the names that nodes have.
    let listed = mirror.repo.listed("k");
    assert!(listed.contains(&names(&["1.0"])[0]), "{listed:?}");
    assert!(!listed.iter().any(|name| name.contains("-r1")), "{listed:?}");
    assert!(!catalogue(&mirror).contains("verbatim"), "{}", catalogue(&mirror));
    let path = |name: &str| mirror.repo.path(&format!("public/{name}"));
    gpgv(&path("import-pubring.gpg"), &path("k/SHA256SUMS.gpg"), &path("k/SHA256SUMS")).unwrap();
    mirror.repo.publish(&["verify"]).ok();
    mirror.repo.sync().ok().prints(&["nothing to do"]);
    // And back: what we promised is not theirs, and goes with our signature; so do files for nodes.
    assert!(path("k/k.transfer").exists());
    mirror.component(theirs);
    let loud = "warning: k: with `verbatim`, the signature of k/ is no longer ours but theirs";
    let snapshot = |mirror: &Mirror| {
        let mut there = mirror.repo.snapshot();
        // What they answered is kept even so, and a lock comes and goes.
        there.retain(|path, _| !path.starts_with(".publish") && path != ".");
        there
    };
    let before = snapshot(&mirror);
    let refused = "the signature of k/ would no longer be ours but theirs";
    let hint = "`publish sync --adopt` gives our signature up";
    for command in [&["sync", "--dry-run"][..], &["sync"], &["plan"], &["status"]] {
        let ran = mirror.repo.publish(command).code(3);
        let told = format!("{}{}", ran.stdout, ran.stderr);
        assert!(told.contains(refused) && told.contains(hint), "{ran}");
    }
    assert_eq!(snapshot(&mirror), before);
    mirror.repo.publish(&["sync", "--dry-run", "--adopt"]).ok().says(&[loud]);
    let ran = mirror.repo.publish(&["sync", "--adopt"]);
    ran.ok().says(&[loud, "hint: give nodes their keyring"]);
    let ran = mirror.repo.sync().ok().prints(&["nothing to do"]);
    assert!(!ran.stderr.contains("warning"), "{ran}");
    let left = fs::read_dir(path("k")).unwrap().flatten().map(|entry| entry.file_name());
    let is_ours = |name: &std::ffi::OsString| {
        // The page tells of theirs, too.
        name.to_str().unwrap().starts_with("k.") && name != "k.html"
    };
    assert_eq!(left.filter(is_ours).count(), 0);
    mirror.is_served_as_theirs();
    assert!(catalogue(&mirror).contains("\"verbatim\": true"));
    mirror.repo.publish(&["restore", "k", "1.0"]).code(1).says(&["its manifest is its upstream's"]);
    mirror.repo.publish(&["verify"]).ok().prints(&["signed by their"]);
}

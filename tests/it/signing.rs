//! Signatures, keys and freshness, as an operator lives with them. gpg says whether they are right.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use jiff::Timestamp;

use crate::gpg::{Gpg, gpgv};
use crate::repo::{Ran, Repo};
use crate::web::sha256;

const OURS: &str = "[signing]\nkey = { file = \"signing.key\" }\n";
const MANIFEST: &str = "public/x/SHA256SUMS";
const SIGNATURE: &str = "public/x/SHA256SUMS.gpg";
const ARMORED: &str = "public/x/SHA256SUMS.sha256.asc";
const KEYRING: &str = "public/import-pubring.gpg";

/// One component with one release waiting, and whatever `sections` says of signing.
fn waiting(sections: &str) -> Repo {
    let repo = Repo::with(sections);
    repo.simple("x");
    repo.release("x", "1.0", "one");
    repo
}

/// The same, published with a key that `publish` made.
fn signed(sections: &str) -> Repo {
    let repo = waiting(&format!("{OURS}{sections}"));
    repo.publish(&["key", "generate"]).ok();
    repo.sync().ok();
    repo
}

/// A secret, readable for its owner alone.
fn secret(repo: &Repo, name: &str, content: impl AsRef<[u8]>) {
    repo.write(name, content);
    fs::set_permissions(repo.path(name), fs::Permissions::from_mode(0o600)).unwrap();
}

fn configure(repo: &Repo, sections: &str) {
    let text = fs::read_to_string(repo.path("publish.toml")).unwrap();
    let base = text.split("[signing]").next().unwrap();
    repo.write("publish.toml", format!("{base}{sections}"));
}

/// Both signatures are right for a client with the served keyring.
#[track_caller]
fn gpg_takes(repo: &Repo) -> String {
    let check = |signature| {
        gpgv(&repo.path(KEYRING), &repo.path(signature), &repo.path(MANIFEST))
            .unwrap_or_else(|said| panic!("{signature}: {said}"))
    };
    assert!(fs::read(repo.path(ARMORED)).unwrap().starts_with(b"-----BEGIN PGP SIGNATURE-----"));
    check(ARMORED);
    check(SIGNATURE)
}

#[test]
fn a_key_of_ours_signs_what_gpg_verifies() {
    let Some(_gpg) = Gpg::new() else { return };
    for (more, name) in [(&[][..], "EDDSA"), (&["--rsa"], "RSA")] {
        let repo = waiting(OURS);
        let told = repo.publish(&[&["key", "generate", "--json"], more].concat()).ok().json();
        assert_eq!(told["file"], "signing.key");
        let mode = fs::metadata(repo.path("signing.key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        repo.sync().ok().prints(&["published 1 image", "/etc/systemd/import-pubring.gpg"]);
        let said = gpg_takes(&repo);
        assert!(said.contains(&format!("using {name} key")), "{said}");
        assert!(said.contains("publish (files.example.com)"), "{said}");
        assert!(said.contains(told["fingerprint"].as_str().unwrap()), "{said}");
        let user = "signed by publish (files.example.com)";
        repo.publish(&["verify"]).ok().prints(&[user, "every byte is right"]);

        // Nothing is new, so nothing is written: signatures are not made again.
        let before = repo.snapshot();
        repo.sync().ok().prints(&["nothing to do"]);
        assert_eq!(repo.snapshot(), before);
        repo.release("x", "1.1", "one more");
        repo.sync().ok();
        gpg_takes(&repo);
        repo.publish(&["verify"]).ok();
    }
}

#[test]
fn keys_of_gpg_sign_what_gpg_verifies() {
    let Some(gpg) = Gpg::new() else { return };
    // An offline primary key that only certifies, with an older and a newer signing subkey.
    let then = ["--faked-system-time", "20240101T000000!"];
    let first = ["--quick-generate-key", "offline <o@e.org>", "ed25519", "cert", "never"];
    gpg.run(&[&then[..], &first].concat());
    let offline = gpg.fingerprint("o@e.org");
    gpg.run(&[&then[..], &["--quick-add-key", &offline, "rsa2048", "sign", "never"]].concat());
    gpg.run(&["--quick-add-key", &offline, "ed25519", "sign", "never"]);
    gpg.run(&["--quick-add-key", &offline, "cv25519", "encr", "never"]);
    gpg.key("rsa <r@e.org>", "rsa3072", "sign");
    gpg.key("curve <c@e.org>", "nistp256", "sign");
    gpg.key("locked <l@e.org>", "ed25519", "sign");
    let listed = gpg.run(&["--with-colons", "--list-keys", &offline]);
    let listed = String::from_utf8(listed).unwrap();
    let newest = listed.lines().filter(|line| line.starts_with("fpr:")).nth(2).unwrap();
    let newest = newest.split(':').nth(9).unwrap().to_owned();

    let export = |how: &str, user: &str| gpg.run(&["--armor", how, user]);
    let stub = export("--export-secret-subkeys", &offline);
    let locked = gpg.run(&["--passphrase", "", "--armor", "--export-secret-keys", "l@e.org"]);
    for (key, user) in [
        (stub, newest.as_str()),
        (export("--export-secret-keys", &offline), newest.as_str()),
        (export("--export-secret-keys", "r@e.org"), "rsa <r@e.org>"),
        (gpg.run(&["--export-secret-keys", "r@e.org"]), "rsa <r@e.org>"),
        (export("--export-secret-keys", "c@e.org"), "curve <c@e.org>"),
        (locked, "locked <l@e.org>"),
    ] {
        let repo = waiting(OURS);
        secret(&repo, "signing.key", key);
        let ran = repo.sync().ok();
        assert!(!ran.stderr.contains("readable for others"), "{ran}");
        let said = gpg_takes(&repo);
        assert!(said.contains(user), "{said}");
        repo.publish(&["verify"]).ok();
        repo.publish(&["verify", "public", "--keyring", KEYRING]).ok();
    }
}

#[test]
fn a_locked_key_is_opened_with_its_passphrase_and_neither_is_ever_seen() {
    let Some(gpg) = Gpg::new() else { return };
    gpg.run(&[
        "--passphrase",
        "hunter2 is long",
        "--quick-generate-key",
        "l <l@e.org>",
        "nistp256",
        "sign",
        "never",
    ]);
    let key =
        gpg.run(&["--passphrase", "hunter2 is long", "--armor", "--export-secret-keys", "l@e.org"]);
    let key = String::from_utf8(key).unwrap();
    let text = "[signing]\nkey = { env = \"KEY\" }\n";

    let mut repo = waiting(text);
    repo.sync().code(4).says(&["[signing] key: the environment has no KEY", "hint: "]);
    repo.env("KEY", " ");
    repo.sync().code(4).says(&["[signing] key: the environment's KEY is empty", "hint: "]);
    repo.env("KEY", &key);
    let locked =
        repo.sync().code(4).says(&["locked with a passphrase", "hint: [signing] passphrase"]);
    configure(&repo, &format!("{text}passphrase = {{ file = \"pass\" }}\n"));
    secret(&repo, "pass", "wrong\n");
    let wrong = repo.sync().code(4).says(&["the passphrase does not open it"]);
    secret(&repo, "pass", "hunter2 is long\n");
    let before = repo.path("public").exists();
    assert!(!before, "nothing is written before the key is there");
    let right = repo.publish(&["-vvv", "sync"]).ok();
    gpg_takes(&repo);
    let verified = repo.publish(&["-vvv", "verify", "--json"]).ok();

    let lines: Vec<&str> = key.lines().filter(|line| line.len() > 40).collect();
    assert!(lines.len() > 3);
    let mut seen: Vec<Vec<u8>> = repo.snapshot().into_values().map(|(bytes, ..)| bytes).collect();
    for ran in [locked, wrong, right, verified] {
        seen.push(ran.to_string().into_bytes());
    }
    for text in lines.into_iter().chain(["hunter2"]) {
        for seen in &seen {
            let found = seen.windows(text.len()).any(|window| window == text.as_bytes());
            assert!(!found, "a secret is shown: {}", String::from_utf8_lossy(seen));
        }
    }
}

#[test]
fn keys_that_cannot_sign_stop_the_sync_before_anything_is_done() {
    let Some(gpg) = Gpg::new() else { return };
    gpg.key("good <g@e.org>", "ed25519", "sign");
    gpg.key("dsa <d@e.org>", "dsa2048", "sign");
    gpg.run(&[
        "--faked-system-time",
        "20200101T000000!",
        "--quick-generate-key",
        "old <o@e.org>",
        "ed25519",
        "sign",
        "1y",
    ]);
    let secret_key = |user: &str| gpg.run(&["--armor", "--export-secret-keys", user]);
    for (key, says) in [
        (gpg.run(&["--armor", "--export", "g@e.org"]), "it is a public key"),
        (gpg.run(&["--export", "g@e.org"]), "it is a public key"),
        (secret_key("d@e.org"), "is a DSA key"),
        (secret_key("o@e.org"), "expired on 2020-12-31"),
        (gpg.run(&["--armor", "--export-secret-keys"]), "it has 3 keys in it"),
        (b"not a key\n".to_vec(), "it is not an OpenPGP key"),
        (b"\n".to_vec(), "is empty"),
    ] {
        let repo = waiting(OURS);
        secret(&repo, "signing.key", key);
        repo.sync().code(4).says(&["error: publish.toml: [signing] key: ", says, "hint: "]);
        assert!(!repo.path("public").exists(), "{says}");
    }
    let repo = waiting(OURS);
    repo.sync().code(4).says(&["cannot read signing.key", "`publish key generate`"]);
    fs::create_dir(repo.path("signing.key")).unwrap();
    repo.sync().code(4).says(&["not a regular file"]);
}

#[test]
fn a_key_that_others_can_read_is_warned_of() {
    let repo = signed("");
    fs::set_permissions(repo.path("signing.key"), fs::Permissions::from_mode(0o644)).unwrap();
    repo.sync().ok().says(&["signing.key is readable for others", "chmod 600"]);
}

#[test]
fn a_key_is_never_written_over() {
    let repo = waiting(OURS);
    repo.publish(&["key", "generate"]).ok().prints(&["fingerprint", "[signing]", "key export"]);
    let before = fs::read(repo.path("signing.key")).unwrap();
    repo.publish(&["key", "generate"]).code(1).says(&["signing.key is there already", "hint: "]);
    std::os::unix::fs::symlink("nowhere", repo.path("link.key")).unwrap();
    repo.publish(&["key", "generate", "--output", "link.key"]).code(1).says(&["is there already"]);
    assert_eq!(fs::read(repo.path("signing.key")).unwrap(), before);
    repo.publish(&["key", "generate", "--user-id", "a\nb", "--output", "b.key"])
        .code(1)
        .says(&["is no user ID"]);
    assert!(!repo.path("b.key").exists());
    // For a pipe into a secret store: the key alone on stdout, and what to do on stderr.
    let ran = repo.publish(&["key", "generate", "--output", "-"]).ok().says(&["fingerprint"]);
    assert!(ran.stdout.starts_with("-----BEGIN PGP PRIVATE KEY BLOCK-----"), "{ran}");
    assert!(ran.stdout.trim_end().ends_with("-----END PGP PRIVATE KEY BLOCK-----"), "{ran}");
    assert!(!ran.stderr.contains("BEGIN PGP"), "{ran}");
    let mut repo = waiting("[signing]\nkey = { env = \"KEY\" }\n");
    repo.env("KEY", &ran.stdout);
    repo.sync().ok();
    repo.publish(&["verify"]).ok().prints(&["signed by"]);
}

#[test]
fn the_keyring_is_the_same_wherever_it_is_given_out() {
    let repo = signed("");
    repo.publish(&["key", "export", "--output", "ring"]).ok().prints(&["/etc/systemd/"]);
    let ring = fs::read(repo.path("ring")).unwrap();
    assert_eq!(ring, fs::read(repo.path(KEYRING)).unwrap());
    assert!(ring[0] & 0x80 != 0, "nodes read only the binary form");
    let ran = repo.publish(&["key", "export", "--armor"]).ok();
    assert!(ran.stdout.starts_with("-----BEGIN PGP PUBLIC KEY BLOCK-----"), "{ran}");
    // Damaged or gone, it is put back, although there is nothing else to do.
    repo.write(KEYRING, "damaged");
    repo.publish(&["sync", "--dry-run"]).ok();
    assert_eq!(fs::read(repo.path(KEYRING)).unwrap(), b"damaged");
    repo.sync().ok().says(&["published import-pubring.gpg"]);
    assert_eq!(fs::read(repo.path(KEYRING)).unwrap(), ring);
    waiting("").publish(&["key", "export"]).code(1).says(&["has no [signing]", "hint: "]);
}

#[test]
fn a_key_is_rotated_without_a_moment_in_which_a_node_would_stop() {
    let Some(_gpg) = Gpg::new() else { return };
    let repo = signed("");
    repo.publish(&["key", "generate", "--output", "next.key", "--user-id", "the next one"]).ok();
    let old_ring = fs::read(repo.path(KEYRING)).unwrap();
    // Its public half, and that of the old one for later.
    for (key, public) in [("next.key", "next.pub"), ("signing.key", "old.pub")] {
        repo.publish(&["key", "export", "--key", key, "--armor", "--output", public]).ok();
    }
    repo.publish(&["key", "export", "--key", "next.pub"]).code(1).says(&[
        "cannot use next.pub",
        "it is a public key",
        "hint: ",
    ]);

    // Both keys into the keyring; the old one still signs.
    configure(&repo, &format!("{OURS}keyring = [\"next.pub\"]\n"));
    repo.sync().ok();
    let both = fs::read(repo.path(KEYRING)).unwrap();
    assert!(both.len() > old_ring.len());
    repo.write("node.gpg", &both);
    assert!(gpg_takes(&repo).contains("publish (files.example.com)"));

    // The next key signs: nodes with both keys never notice, and one without it would refuse.
    configure(&repo, "[signing]\nkey = { file = \"next.key\" }\nkeyring = [\"old.pub\"]\n");
    repo.publish(&["plan"]).ok().prints(&["to be signed", "not this key's"]);
    repo.sync().ok().prints(&["signed 1 manifest"]);
    let check = |ring: &str| gpgv(&repo.path(ring), &repo.path(SIGNATURE), &repo.path(MANIFEST));
    assert!(check("node.gpg").unwrap().contains("the next one"));
    repo.write("late.gpg", &old_ring);
    assert!(check("late.gpg").is_err());

    // The old one goes.
    configure(&repo, "[signing]\nkey = { file = \"next.key\" }\n");
    repo.sync().ok();
    assert!(gpg_takes(&repo).contains("the next one"));
    assert!(fs::read(repo.path(KEYRING)).unwrap().len() < both.len());

    // What must not be in a keyring.
    configure(&repo, "[signing]\nkey = { file = \"next.key\" }\nkeyring = [\"signing.key\"]\n");
    repo.sync().code(4).says(&["[signing] keyring: signing.key", "a secret key in it", "hint: "]);
}

#[test]
fn an_unsigned_repository_becomes_a_signed_one() {
    let repo = waiting("");
    repo.sync().ok().prints(&["Verify=no"]);
    let before = repo.manifest("x");
    configure(&repo, OURS);
    repo.publish(&["key", "generate"]).ok();
    let dry = repo.snapshot();
    // Who wrote it is not known: somebody must have looked.
    for command in [&["plan"][..], &["sync", "--dry-run"]] {
        repo.publish(command).code(3).says(&["SHA256SUMS is not as any key", "sync --adopt"]);
    }
    repo.publish(&["status", "--check"]).code(3);
    let told = repo.publish(&["sync", "--dry-run", "--adopt", "--json"]).ok().json();
    assert_eq!(told["components"][0]["signed"], "not-signed");
    assert_eq!(repo.snapshot(), dry);
    repo.publish(&["verify"]).code(3).prints(&["SHA256SUMS.gpg: is missing"]);
    let adopted = repo.publish(&["sync", "--adopt"]);
    adopted.ok().prints(&["signed 1 manifest", "not signed yet"]);
    assert_eq!(repo.manifest("x"), before, "not one line changes");
    repo.publish(&["verify"]).ok();
    repo.sync().ok().prints(&["nothing to do"]);
}

/// Who can write to the web root, but has no key, gets nothing signed: neither a version of his own,
/// nor other bytes, nor a repository that was never signed, as far as can be told.
#[test]
fn lines_of_somebody_else_are_not_signed() {
    let repo = signed("");
    let ours = fs::read_to_string(repo.path(MANIFEST)).unwrap();
    let line = format!("{}  x-9.0-x86-64.raw\n", sha256(b"evil"));
    let other = ours.replace(&ours[..64], &sha256(b"evil"));
    for planted in [format!("{ours}{line}"), other] {
        for signatures_go in [false, true] {
            repo.write("public/x/x-9.0-x86-64.raw", "evil");
            repo.write(MANIFEST, &planted);
            for path in [SIGNATURE, ARMORED].iter().filter(|_| signatures_go) {
                let _ = fs::remove_file(repo.path(path));
            }
            repo.release("x", "1.1", "one more");
            let before = repo.snapshot();
            repo.sync().code(3).says(&["SHA256SUMS is not as any key", "sync --adopt"]);
            for command in [&["yank", "x", "1.0"][..], &["prune"]] {
                repo.publish(command);
                assert_eq!(repo.manifest("x"), planted, "{command:?}");
            }
            let image = "public/x/x-1.1-x86-64.raw".to_owned();
            assert!(!repo.path(&image).exists());
            let now = repo.snapshot();
            let changed =
                |path: &&String| !path.contains(".publish") && now[*path] != before[*path];
            assert_eq!(before.keys().filter(|path| now.contains_key(*path)).find(changed), None);
        }
    }
    // As it was, it is as good as before.
    repo.write(MANIFEST, &ours);
    fs::remove_file(repo.path("public/x/x-9.0-x86-64.raw")).unwrap();
    repo.sync().ok();
    repo.publish(&["verify"]).ok();
}

#[test]
fn an_upstream_that_is_gone_does_not_stop_signing() {
    let repo = signed("best-before = \"14d\"\n");
    fs::rename(repo.path("components/x-releases"), repo.path("components/away")).unwrap();
    for path in [SIGNATURE, ARMORED] {
        fs::remove_file(repo.path(path)).unwrap();
    }
    // Who has not the key sees that something is missing all the same.
    fs::rename(repo.path("signing.key"), repo.path("away.key")).unwrap();
    repo.publish(&["verify"]).code(3).prints(&["SHA256SUMS.gpg: is missing"]);
    fs::rename(repo.path("away.key"), repo.path("signing.key")).unwrap();
    repo.sync().code(3).says(&["error: x"]).prints(&["signed 1 manifest"]);
    repo.publish(&["verify"]).ok();
}

#[test]
fn nothing_is_yanked_from_a_signed_folder_without_the_key() {
    let repo = signed("");
    repo.release("x", "1.1", "one more");
    repo.sync().ok();
    configure(&repo, "");
    let before = repo.manifest("x");
    repo.publish(&["yank", "x", "1.1"]).code(1).says(&["SHA256SUMS.gpg is served", "[signing]"]);
    assert_eq!(repo.manifest("x"), before);
    configure(&repo, OURS);
    repo.publish(&["verify"]).ok();
}

#[test]
fn a_signed_repository_is_not_left_behind_unsigned() {
    let repo = signed("");
    configure(&repo, "");
    repo.release("x", "1.1", "one more");
    let before = repo.snapshot();
    for command in ["sync", "plan"] {
        repo.publish(&[command]).code(3).says(&[
            "x: SHA256SUMS.gpg is served, but the configuration has no [signing]",
            "hint: ",
        ]);
    }
    assert_eq!(repo.snapshot(), before);
    fs::remove_file(repo.path(SIGNATURE)).unwrap();
    repo.sync().code(3).says(&["SHA256SUMS.sha256.asc is served"]);
    // As the hint says.
    fs::remove_file(repo.path(ARMORED)).unwrap();
    repo.sync().ok().prints(&["published 1 image"]);
    assert!(!repo.path(SIGNATURE).exists());
}

#[test]
fn a_stale_signature_is_healed_whatever_is_wrong_with_it() {
    let Some(gpg) = Gpg::new() else { return };
    gpg.key("foreign <f@e.org>", "ed25519", "sign");
    let repo = signed("");
    let damage: [(&str, &dyn Fn()); 6] = [
        ("gone", &|| fs::remove_file(repo.path(SIGNATURE)).unwrap()),
        ("gone", &|| fs::remove_file(repo.path(ARMORED)).unwrap()),
        ("cut", &|| repo.write(SIGNATURE, &fs::read(repo.path(SIGNATURE)).unwrap()[..50])),
        ("empty", &|| repo.write(ARMORED, "")),
        ("foreign", &|| gpg.sign(&repo.path(MANIFEST), &repo.path(SIGNATURE), &[])),
        ("of another manifest", &|| {
            let (one, other) =
                (fs::read(repo.path(SIGNATURE)).unwrap(), fs::read(repo.path(ARMORED)).unwrap());
            repo.release("x", "1.1", "one more");
            repo.sync().ok();
            // As a crash between the two leaves it.
            repo.write(SIGNATURE, one);
            repo.write(ARMORED, other);
        }),
    ];
    for (what, damage) in damage {
        damage();
        repo.publish(&["verify"]).prints(&["SHA256SUMS."]);
        repo.publish(&["plan"]).ok().prints(&["to be signed"]);
        repo.sync().ok().prints(&["signed 1 manifest"]);
        gpg_takes(&repo);
        repo.publish(&["verify"]).ok().prints(&["every byte is right"]);
        repo.sync().ok().prints(&["nothing to do"]);
        assert!(!what.is_empty());
    }
}

#[test]
fn a_stale_signature_is_healed_before_the_builds_that_may_fail() {
    let repo = signed("");
    fs::remove_file(repo.path(SIGNATURE)).unwrap();
    repo.release("x", "1.1", "one more");
    fs::create_dir(repo.path("public/x/x-1.1-x86-64.raw")).unwrap();
    repo.sync().code(3);
    repo.publish(&["verify"]).ok().prints(&["signed by"]);
}

/// The promise in a manifest.
fn promise(repo: &Repo) -> String {
    let manifest = repo.manifest("x");
    let lines: Vec<_> =
        manifest.lines().filter_map(|line| line.split_once("  BEST-BEFORE-")).collect();
    let [(digest, day)] = lines[..] else { panic!("not one promise: {manifest}") };
    assert_eq!(digest, sha256(b""));
    day.to_owned()
}

/// The day that begins after so many days.
fn day(days: i64) -> String {
    let at = Timestamp::now() + jiff::SignedDuration::from_hours(24 * (days + 1));
    at.strftime("%Y-%m-%d").to_string()
}

#[test]
fn what_is_promised_is_renewed_in_time_although_nothing_else_changes() {
    let Some(gpg) = Gpg::new() else { return };
    let repo = signed("best-before = \"14d\"\n");
    assert_eq!(promise(&repo), day(14));
    gpg_takes(&repo);
    let before = repo.snapshot();
    repo.sync().ok().prints(&["nothing to do"]);
    assert_eq!(repo.snapshot(), before);
    let until = format!("good until {}", day(14));
    repo.publish(&["verify"]).ok().prints(&[&until]);

    // The same manifest as it would be some days later, signed with the same key by gpg.
    gpg.run(&["--import", repo.path("signing.key").to_str().unwrap()]);
    let age = |left: i64| {
        let manifest = repo.manifest("x").replace(&promise(&repo), &day(left - 1));
        repo.write(MANIFEST, manifest);
        gpg.sign(&repo.path(MANIFEST), &repo.path(SIGNATURE), &[]);
        let armored =
            gpg.run(&["--enarmor", "--output", "-", repo.path(SIGNATURE).to_str().unwrap()]);
        let armored = String::from_utf8(armored).unwrap();
        repo.write(ARMORED, armored.replace("PGP ARMORED FILE", "PGP SIGNATURE"));
        gpg_takes(&repo);
    };
    age(9);
    repo.sync().ok().prints(&["nothing to do"]);
    age(5);
    repo.publish(&["plan"]).ok().prints(&["x: to be signed: in time before it expires"]);
    let told = repo.publish(&["sync", "--json"]).ok().json();
    assert_eq!(
        (&told["changed"], &told["components"][0]["signed"]),
        (&true.into(), &"renew".into())
    );
    assert_eq!(promise(&repo), day(14));
    repo.publish(&["verify"]).ok();
    // Soon over, and over: who watches is told.
    age(1);
    repo.publish(&["verify"]).ok().prints(&["warning: SHA256SUMS: is out of date at"]);
    age(-3);
    repo.publish(&["verify"]).code(3).prints(&["error: SHA256SUMS: is out of date since"]);
    repo.sync().ok();
    repo.publish(&["verify"]).ok();
    assert_eq!(promise(&repo), day(14));
}

#[test]
fn another_period_or_none_is_another_promise() {
    let repo = signed("best-before = \"14d\"\n");
    configure(&repo, &format!("{OURS}best-before = \"60d\"\n"));
    repo.sync().ok().prints(&["signed 1 manifest", "in time before it expires"]);
    assert_eq!(promise(&repo), day(60));
    // Left out, it would stop every node one day.
    configure(&repo, OURS);
    repo.sync().ok().prints(&["signed 1 manifest"]);
    assert!(!repo.manifest("x").contains("BEST-BEFORE"));
    repo.sync().ok().prints(&["nothing to do"]);
    repo.publish(&["verify"]).ok();
}

#[test]
fn who_only_looks_needs_no_secret() {
    let repo = signed("");
    repo.release("x", "1.1", "one more");
    let key = fs::read(repo.path("signing.key")).unwrap();
    fs::remove_file(repo.path("signing.key")).unwrap();
    let told = "the signing key is not here";
    repo.publish(&["plan"]).ok().says(&[told]).prints(&["1 image to build"]);
    repo.publish(&["sync", "--dry-run"]).ok().says(&[told]);
    repo.publish(&["verify"]).ok().prints(&["the keyring of the repository itself"]);
    repo.sync().code(4);
    secret(&repo, "signing.key", key);
    repo.sync().ok();
}

#[test]
fn what_a_configuration_must_not_say_of_signing() {
    let config = |sections: &str| -> Ran {
        let repo = waiting(sections);
        secret(&repo, "signing.key", "x");
        repo.sync().code(4)
    };
    for (period, says) in [
        ("1d", "less than two days"),
        ("0s", "less than two days"),
        ("400000d", "more than ten years"),
        ("4000d", "more than ten years"),
        ("soon", "not a time"),
    ] {
        config(&format!("{OURS}best-before = \"{period}\"\n")).says(&[says]);
    }
    // A secret in the wrong place is not shown to whoever reads the log.
    for line in ["key = \"hunter2\"", "key = { env = \"-----BEGIN hunter2\" }"] {
        let ran = config(&format!("[signing]\n{line}\n")).says(&[
            "publish.toml:6:",
            "a secret has no place in this file",
            "hint: ",
        ]);
        assert!(!ran.stderr.contains("hunter2"), "{ran}");
    }
    config("[signing]\nbest-before = \"14d\"\n").says(&["missing field `key`"]);
    config(&format!("{OURS}kyring = []\n")).says(&["unknown field `kyring`"]);
    let repo = waiting("[signing]\nkey = { file = \"public/signing.key\" }\n");
    secret(&repo, "public/signing.key", "x");
    repo.sync().code(4).says(&["would be in the store", "hint: "]);
}

//! Images that protect themselves: what `[image] verity` makes, that nothing in it can be changed unseen,
//! who signs, and what nodes are told.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use publish::config::verity::Certificate;
use publish::image::inspect;

use crate::pack::{Tar, noise};
use crate::recipe::Bench;
use crate::repo::{Ran, Running, until};

const ALL: &str = "[asset.files]\n\"usr/share/it/\" = \".\"\n";
const TREE: &str = "[image]\nverity = true\n";
const SIGNED: &str =
    "[image]\nverity = { key = { file = \"ours.key\" }, certificate = { file = \"ours.crt\" } }\n";

const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/data/verity/");

fn files() -> Vec<(&'static str, Vec<u8>)> {
    vec![("a", noise(700_000)), ("b", b"b\n".to_vec()), ("c", noise(700_000)), ("d", noise(5000))]
}

fn bench(sections: &str) -> Bench {
    with(sections, tar(&files()))
}

fn tar(files: &[(&'static str, Vec<u8>)]) -> Vec<u8> {
    files.iter().fold(Tar::new(), |tar, (path, bytes)| tar.file(path, 0o644, bytes)).gz()
}

fn with(sections: &str, archive: Vec<u8>) -> Bench {
    let bench = Bench::with(sections, "it.tgz", archive, ALL);
    for name in ["ours.key", "ours.crt", "other.key", "other.crt", "curve.crt"] {
        let to = bench.repo.path(&format!("components/{name}"));
        fs::copy(Path::new(DATA).join(name), &to).unwrap();
        fs::set_permissions(to, fs::Permissions::from_mode(0o600)).unwrap();
    }
    bench
}

/// What it publishes.
#[track_caller]
fn published(bench: &Bench) -> PathBuf {
    bench.sync().ok();
    bench.repo.path("public/it/it-1.2.3-x86-64.raw")
}

fn look(bench: &Bench, image: &Path, more: &[&str]) -> Ran {
    bench.repo.publish(&[&["inspect", image.to_str().unwrap()], more].concat())
}

/// First byte and end of each partition.
fn partitions(image: &[u8]) -> Vec<(usize, usize)> {
    let long = |at: usize| u64::from_le_bytes(image[at..at + 8].try_into().unwrap());
    let bytes = |sector: u64| usize::try_from(sector * 512).unwrap();
    let rows = (0..128).map(|row| 1024 + 128 * row).filter(|at| image[*at] != 0);
    rows.map(|at| (bytes(long(at + 32)), bytes(long(at + 40) + 1))).collect()
}

#[test]
fn the_file_system_is_the_same_as_without_and_all_of_it_is_the_same_bytes_everywhere() {
    let image = |sections: &str, archive| fs::read(published(&with(sections, archive))).unwrap();
    let bare = image("", tar(&files()));
    for (sections, parts) in [(TREE, 2), (SIGNED, 3)] {
        let made = image(sections, tar(&files()));
        let places = partitions(&made);
        assert_eq!(places.len(), parts);
        let (start, end) = places[0];
        assert_eq!(start, 20480);
        assert!(made[start..end] == bare, "the file system is another one");
        assert_eq!(made.len() % 4096, 0);

        // Files that come in another order are put right, and the hashes with them.
        let again = image(sections, tar(&files().into_iter().rev().collect::<Vec<_>>()));
        assert!(made == again, "the order of the archive can be seen");
    }
}

#[test]
fn the_smallest_file_system_is_its_own_tree() {
    let bench = with(TREE, Tar::new().file("empty", 0o644, "").gz());
    let image = published(&bench);
    let places = partitions(&fs::read(&image).unwrap());
    assert_eq!(places, [(20480, 24576), (24576, 28672)]);
    look(&bench, &image, &[]).ok().prints(&["over 1 blocks of 4 KiB", "systemd-sysext takes it"]);
}

#[test]
fn inspect_tells_what_protects_an_image_and_who_signed_it() {
    let bench = bench(SIGNED);
    let image = published(&bench);
    let fingerprint = Certificate::open(&Path::new(DATA).join("ours.crt")).unwrap().fingerprint();
    look(&bench, &image, &[]).ok().prints(&[
        "disk image, squashfs, zstd",
        "  verity     ",
        &format!("  signed by  CN=ours, certificate {fingerprint}"),
        "systemd-sysext takes it",
    ]);
    let certificate = |name: &str| bench.repo.path(&format!("components/{name}"));
    let given = |name: &str| certificate(name).to_str().unwrap().to_owned();
    let shown = look(&bench, &image, &["--json", "--certificate", &given("ours.crt")]).ok().json();
    assert_eq!(shown["verity"]["signed"]["known"], true);
    assert_eq!(shown["verity"]["signed"]["certificate"], fingerprint.to_string());
    let root = shown["verity"]["root_hash"].as_str().unwrap();
    assert_eq!(root.len(), 64);
    look(&bench, &image, &["--certificate", &given("other.crt")])
        .code(3)
        .prints(&["its signature is by CN=ours, and not by the certificate that it should be by"]);
    look(&bench, &image, &["--certificate", &given("ours.key")])
        .code(1)
        .says(&["is a key, and no certificate"]);

    let other = self::bench("");
    look(&bench, &published(&other), &["--certificate", &given("ours.crt")])
        .code(3)
        .prints(&["it is a bare file system: nothing in it is signed"]);
    let other = self::bench(TREE);
    look(&bench, &published(&other), &["--certificate", &given("ours.crt")])
        .code(3)
        .prints(&["it has no signature"]);
}

#[test]
fn a_changed_block_is_named_by_its_place() {
    let bench = bench(TREE);
    let image = published(&bench);
    let whole = fs::read(&image).unwrap();
    // A block of data; the first one, without which nothing can be read; one of hashes.
    let hashes = partitions(&whole)[1].0;
    for (at, texts) in [
        (20480 + 4096 * 50 + 7, "the block of the file system at byte 225280 is not the one"),
        (20480, "was changed: the block of the file system at byte 20480 is not the one"),
        (hashes + 4096 + 40, "the block of the hash tree at byte"),
    ] {
        let mut changed = whole.clone();
        changed[at] ^= 1;
        fs::write(&image, changed).unwrap();
        let ran = look(&bench, &image, &[]);
        let said = format!("{ran}");
        assert!(said.contains(texts), "{at}: {said}");
        ran.code(3);
    }
}

/// Every part of the image, and between the parts.
#[test]
fn one_flipped_bit_anywhere_is_found() {
    let bench = with(SIGNED, tar(&[("a", noise(60_000))]));
    let image = published(&bench);
    let whole = fs::read(&image).unwrap();
    assert_eq!(inspect::inspect(&image, None, None).unwrap().problems, Vec::<String>::new());
    let places = partitions(&whole);
    let edges = places.iter().flat_map(|(start, end)| [*start, start + 20, end - 1]);
    let ends = [0, 440, 511, 512, 530, 600, 1024, 1030, 17408, 20479, whole.len() - 1];
    let signature = places[2].0..places[2].0 + 3000;
    let all = (0..whole.len()).step_by(1499).chain(signature.step_by(83)).chain(edges).chain(ends);
    let copy = image.with_file_name("copy.raw");
    let mut changed = whole.clone();
    for at in all {
        changed[at] ^= 0x10;
        fs::write(&copy, &changed).unwrap();
        changed[at] ^= 0x10;
        // Its name is another one, which is a problem too.
        let found = inspect::inspect(&copy, Some("it"), None);
        let seen = found.is_err_and(|error| !error.to_string().is_empty())
            || inspect::inspect(&copy, Some("it"), None)
                .is_ok_and(|image| image.findings.iter().any(|it| it.lint.name() == "verity"));
        assert!(seen, "byte {at} of {places:?}");
    }
}

#[test]
fn nothing_changed_is_nothing_made_and_another_certificate_is_another_image() {
    let bench = bench(SIGNED);
    let first = fs::read(published(&bench)).unwrap();
    let before = bench.repo.snapshot();
    bench.sync().ok();
    assert!(bench.repo.snapshot() == before, "the second sync wrote something");
    bench.repo.publish(&["verify"]).ok();

    let path = bench.repo.path("components/it.toml");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("ours.", "other.")).unwrap();
    bench.repo.publish(&["verify"]).code(3).prints(&["its signature is by CN=ours, and not by"]);
    bench.sync().ok();
    let second = bench.repo.path("public/it/it-1.2.3-r1-x86-64.raw");
    look(&bench, &second, &[]).ok().prints(&["signed by  CN=other"]);
    let places = partitions(&first);
    // The salt comes from the name, so only the file system is the same.
    let second = fs::read(second).unwrap();
    assert_eq!(partitions(&second).len(), places.len());
}

#[test]
fn who_cannot_sign_builds_nothing_and_says_why() {
    let refused = |rule: &str, texts: &[&str]| {
        let bench = bench(&format!("[image]\nverity = {rule}\n"));
        let said = bench.refuses(texts);
        assert!(!format!("{said}").contains("PRIVATE"), "{said}");
    };
    let at = "certificate = { file = \"ours.crt\" }";
    refused(
        &format!("{{ key = {{ env = \"NO_SUCH_KEY\" }}, {at} }}"),
        &[
            "the key for verity cannot be read",
            "the environment has no NO_SUCH_KEY",
            "hint: [image] verity key",
        ],
    );
    refused(
        &format!("{{ key = {{ file = \"other.key\" }}, {at} }}"),
        &["the key for verity is not that of the certificate, CN=ours"],
    );
    refused(
        &format!("{{ key = {{ file = \"ours.crt\" }}, {at} }}"),
        &["the key for verity is no RSA key"],
    );
}

#[test]
fn a_certificate_that_is_none_is_a_mistake_where_it_is_named() {
    for (file, text) in [
        ("none.crt", "`none.crt` cannot be read"),
        ("ours.key", "`ours.key` is a key, and no certificate"),
        ("it.toml", "`it.toml` is no certificate"),
        ("curve.crt", "`curve.crt` is for no RSA key"),
    ] {
        let rule =
            format!("{{ key = {{ env = \"KEY\" }}, certificate = {{ file = \"{file}\" }} }}");
        let bench = bench(&format!("[image]\nverity = {rule}\n"));
        bench.repo.publish(&["plan"]).code(4).says(&[text, "components/it.toml:5:", "hint: "]);
    }
}

/// What stands in the signature of an image: the root hash and the bare signature.
fn signature(image: &Path) -> (String, Vec<u8>) {
    let whole = fs::read(image).unwrap();
    let (start, end) = partitions(&whole)[2];
    let text = whole[start..end].split(|byte| *byte == 0).next().unwrap();
    let statement: serde_json::Value = serde_json::from_slice(text).unwrap();
    let message = STANDARD.decode(statement["signature"].as_str().unwrap()).unwrap();
    // 2048 bits, at its end.
    let bare = message[message.len() - 256..].to_vec();
    (statement["rootHash"].as_str().unwrap().to_owned(), bare)
}

#[test]
fn a_program_may_sign_instead_of_us() {
    let ours = bench(SIGNED);
    let first = published(&ours);
    let (root, bare) = signature(&first);
    let rule = "[image]\nverity = { command = [\"./sign.sh\", \"an argument\"], certificate = { file = \"ours.crt\" } }\n";
    let bench = bench(rule);
    let sign = |script: &str| {
        bench.repo.write("components/sign.sh", format!("#!/bin/sh\n{script}\n"));
        let path = bench.repo.path("components/sign.sh");
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    };
    bench.repo.write("components/signature", &bare);
    sign("echo the token is away >&2; exit 7");
    bench.refuses(&[
        "`./sign.sh` ended with exit code 7",
        "the token is away",
        "hint: run it by hand",
    ]);
    sign("cat");
    bench.refuses(&["`./sign.sh` wrote 64 bytes that are no signature by the key of CN=ours"]);
    sign(&format!("[ \"$1\" = 'an argument' ] && [ \"$(cat)\" = {root} ] && cat signature"));
    let image = published(&bench);
    assert!(fs::read(image).unwrap() == fs::read(first).unwrap(), "it is another image");
}

/// Neither a signal that we answer nor one that nobody can leaves it alone with the key.
#[test]
fn a_program_that_signs_ends_when_we_do() {
    use rustix::process::{Pid, Signal, test_kill_process};

    const SIGNER: &str = "#!/bin/sh\nsetsid sleep 1000 & echo $! >child; echo $$ >new; mv new own; sleep 1000; true\n";

    for signal in [Signal::TERM, Signal::INT, Signal::KILL] {
        let bench = bench(
            "[image]\nverity = { command = [\"./sign.sh\"], certificate = { file = \"ours.crt\" } }\n",
        );
        let repo = &bench.repo;
        let program = repo.path("components/sign.sh");
        repo.write("components/sign.sh", SIGNER);
        fs::set_permissions(program, fs::Permissions::from_mode(0o755)).unwrap();
        let mut command = repo.command(&["sync"]);
        let errors = fs::File::create(repo.path("errors")).unwrap();
        let running = Running::start(command.stdout(Stdio::null()).stderr(errors));
        until("the start", || repo.path("components/own").exists());
        running.signal(signal);
        running.wait();
        let own = fs::read_to_string(repo.path("components/own")).unwrap();
        let own = Pid::from_raw(own.trim().parse().unwrap()).unwrap();
        until("the end of the program", || test_kill_process(own).is_err());
        // What it started has no mark of the kernel's that it ends with us.
        if signal != Signal::KILL {
            let child = fs::read_to_string(repo.path("components/child")).unwrap();
            let child = Pid::from_raw(child.trim().parse().unwrap()).unwrap();
            until("the end of its child", || test_kill_process(child).is_err());
        }
        let errors = fs::read_to_string(repo.path("errors")).unwrap();
        assert!(!errors.contains("panicked"), "{errors}");
        assert!(!repo.path("public/it/SHA256SUMS").exists());
    }
}

/// What was published before somebody asked for it stays, and whoever looks is told.
#[test]
fn an_image_without_what_the_configuration_asks_for_is_odd() {
    let bench = bench("");
    published(&bench);
    let before = format!("{}", bench.repo.publish(&["verify"]).ok());
    assert!(!before.contains("hash tree"), "{before}");
    let file = bench.repo.path("components/it.toml");
    let text = fs::read_to_string(&file).unwrap();
    for rule in [TREE, SIGNED] {
        fs::write(&file, format!("{text}\n{rule}")).unwrap();
        bench.repo.publish(&["verify"]).ok().prints(&[
            "warning: it-1.2.3-x86-64.raw: has no hash tree, which [image] verity asks for",
        ]);
    }
}

#[test]
fn nodes_are_told_the_certificate_and_the_policy_if_somebody_asks() {
    let bench = bench(SIGNED);
    published(&bench);
    let pem = fs::read_to_string(Path::new(DATA).join("ours.crt")).unwrap();
    let client = |more: &[&str]| bench.repo.publish(&[&["client", "it"], more].concat());
    for format in ["butane", "script"] {
        let line = pem.lines().nth(1).unwrap();
        client(&["--format", format]).ok().prints(&["/etc/verity.d/it.crt", line]);
        let strict = client(&["--format", format, "--image-policy"]).ok();
        strict.prints(&["systemd-sysext --image-policy=root=signed refresh"]);
    }
    client(&["--image-policy"]).code(2).says(&["--image-policy goes with --format butane"]);
    // What is published for nodes has it as well.
    let text = fs::read_to_string(bench.repo.path("public/it/it.bu")).unwrap();
    assert!(text.contains("/etc/verity.d/it.crt") && !text.contains("--image-policy"), "{text}");

    let unsigned = self::bench(TREE);
    published(&unsigned);
    unsigned
        .repo
        .publish(&["client", "it", "--format", "butane", "--image-policy"])
        .code(1)
        .says(&["images of it are not signed", "hint: [image] verity"]);
}

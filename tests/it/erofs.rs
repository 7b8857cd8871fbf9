//! EROFS: what `[image] format = "erofs"` makes, and what is made of such images, ours and others'.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use publish::image::unpack::unpack;

use crate::pack::{Tar, noise};
use crate::recipe::Bench;
use crate::repo::{Ran, Repo};
use crate::web::{Web, sha256};

const ALL: &str = "[asset.files]\n\"usr/share/it/\" = \".\"\n";
const EROFS: &str = "[image]\nformat = \"erofs\"\n";

/// Small files, large ones, equal ones and empty ones, more than one block of a folder holds.
fn contents() -> BTreeMap<String, Vec<u8>> {
    let mut files: BTreeMap<_, _> = (0..200)
        .map(|n| (format!("small/a name of some length {n:03}"), format!("file {n}\n").repeat(n)))
        .map(|(path, text)| (path, text.into_bytes()))
        .collect();
    files.insert("large".to_owned(), noise(700_000));
    files.insert("large-again".to_owned(), noise(700_000));
    files.insert("zeros".to_owned(), vec![0; 300_000]);
    files.insert("both".to_owned(), [noise(300_000), vec![b'x'; 300_000]].concat());
    files
}

fn tar<'f>(files: impl IntoIterator<Item = (&'f String, &'f Vec<u8>)>) -> Tar {
    let add = |tar: Tar, (path, bytes): (&String, &Vec<u8>)| tar.file(path, 0o644, bytes);
    files.into_iter().fold(Tar::new(), add).symlink("link", "small/nowhere")
}

#[track_caller]
fn published(bench: &Bench) -> PathBuf {
    bench.sync().ok();
    bench.repo.path("public/it/it-1.2.3-x86-64.raw")
}

fn inspect(bench: &Bench, image: &Path, more: &[&str]) -> Ran {
    bench.repo.publish(&[&["inspect", image.to_str().unwrap()], more].concat())
}

/// Compares a folder that an image was unpacked into with what it was made of.
#[track_caller]
fn check(folder: &Path) {
    let folder = folder.join("usr/share/it");
    for (path, bytes) in contents() {
        assert!(fs::read(folder.join(&path)).unwrap() == bytes, "{path}");
    }
    assert_eq!(fs::read_link(folder.join("link")).unwrap(), Path::new("small/nowhere"));
    assert_eq!(fs::read_dir(folder.join("small")).unwrap().count(), 200);
}

/// Every compressor, read by us, and by fsck.erofs where this machine has one that knows it.
#[test]
fn what_goes_in_comes_out() {
    let theirs = Command::new("fsck.erofs").arg("--help").output().is_ok();
    if !theirs {
        eprintln!("skipped: this machine has no fsck.erofs");
    }
    for (rule, compression, known) in [
        ("", "lz4", true),
        ("preset = \"fast\"", "lz4", true),
        ("compression = \"lz4\"\nblock-size = \"4KiB\"", "lz4", true),
        ("compression = \"lz4\"\nblock-size = \"1MiB\"", "lz4", true),
        ("compression = \"zstd\"", "zstd", false),
        ("preset = \"small\"\nlevel = 3", "zstd", false),
        ("compression = \"gzip\"\nblock-size = \"64KiB\"", "deflate", false),
    ] {
        let sections = format!("{EROFS}{rule}\n");
        let bench = Bench::with(&sections, "a.tar.gz", tar(&contents()).gz(), ALL);
        let image = published(&bench);
        let shown = inspect(&bench, &image, &["--json"]).ok().json();
        assert_eq!(
            (&shown["format"], &shown["compression"]),
            (&"erofs".into(), &compression.into())
        );
        let folder = tempfile::tempdir().unwrap();
        unpack(&image, folder.path()).unwrap();
        check(folder.path());
        if theirs && known {
            let folder = tempfile::tempdir().unwrap();
            let mut fsck = Command::new("fsck.erofs");
            fsck.arg(format!("--extract={}", folder.path().display()));
            // It asks for a folder that is its own.
            let ran = fsck.args(["--overwrite", "--no-preserve"]).arg(&image).output().unwrap();
            assert!(ran.status.success(), "{rule}: {}", String::from_utf8_lossy(&ran.stderr));
            check(folder.path());
        }
    }
}

#[test]
fn neither_the_machine_nor_the_way_there_can_be_seen() {
    let image =
        |archive: Vec<u8>| fs::read(published(&Bench::with(EROFS, "a.tar", archive, ALL))).unwrap();
    let files = contents();
    let first = image(tar(&files).gz());
    assert!(first == image(tar(files.iter().rev()).plain()), "the order can be seen");

    let mut other = Bench::with(EROFS, "a.tar", tar(&files).gz(), ALL);
    for (name, value) in [("TZ", "Pacific/Kiritimati"), ("LC_ALL", "tr_TR.UTF-8"), ("HOME", "/")] {
        other.repo.env(name, value);
    }
    let publish = other.repo.command(&["sync"]);
    let mut shell = Command::new("sh");
    shell.args(["-c", "umask 077; exec \"$0\" sync"]).arg(publish.get_program());
    other.repo.prepare(&mut shell);
    other.repo.run(&mut shell).ok();
    let image = other.repo.path("public/it/it-1.2.3-x86-64.raw");
    assert!(first == fs::read(image).unwrap(), "the machine can be seen");
}

#[test]
fn it_is_published_verified_compared_and_left_alone() {
    let bench = Bench::with("", "a.tgz", tar(&contents()).gz(), ALL);
    let bare = published(&bench);
    let path = bench.repo.path("components/it.toml");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("[[asset]]", &format!("{EROFS}[[asset]]"))).unwrap();
    // Another format is another recipe, and so a revision.
    bench.repo.publish(&["plan"]).ok().prints(&["1.2.3-r1", "recipe"]);
    bench.sync().ok();
    let image = bench.repo.path("public/it/it-1.2.3-r1-x86-64.raw");
    inspect(&bench, &image, &[]).ok().prints(&["(EROFS, lz4, blocks of 4.0 KiB)", "takes it"]);
    bench.repo.publish(&["verify"]).ok();
    let before = bench.repo.snapshot();
    bench.sync().ok();
    assert_eq!(bench.repo.snapshot(), before);

    // The same files in both, but for the extension-release, which is for another name.
    let differ = inspect(&bench, &bare, &[image.to_str().unwrap()]).ok();
    differ.prints(&["~ the image: format squashfs → erofs", "~ the image: compression zstd → lz4"]);
    let differ = inspect(&bench, &bare, &[image.to_str().unwrap(), "--json"]).ok().json();
    let paths = differ["entries"].as_array().unwrap().iter().map(|entry| entry["path"].to_string());
    let others: Vec<_> =
        paths.filter(|path| !path.contains("extension-release.it-1.2.3")).collect();
    assert_eq!(others, Vec::<String>::new());

    let listed = inspect(&bench, &image, &["--json", "--list"]).ok().json();
    let theirs = inspect(&bench, &bare, &["--json", "--list"]).ok().json();
    let modes = |shown: &serde_json::Value| {
        let entries = shown["entries"].as_array().unwrap().iter().cloned();
        entries.filter(|it| !it["path"].to_string().contains("1.2.3")).collect::<Vec<_>>()
    };
    assert_eq!(modes(&listed), modes(&theirs));
}

#[test]
fn what_erofs_cannot_be_is_refused_where_it_is_written() {
    let repo = Repo::new();
    repo.simple("it");
    let path = repo.path("components/it.toml");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, format!("{text}\n{EROFS}compression = \"xz\"\n")).unwrap();
    let ran = repo.publish(&["plan"]);
    ran.code(4).says(&["components/it.toml:", "EROFS has no xz", "hint: `compression = \"zstd\"`"]);
}

#[test]
fn a_hash_tree_goes_around_it() {
    let bare = Bench::with(EROFS, "a.tgz", tar(&contents()).gz(), ALL);
    let bare = fs::read(published(&bare)).unwrap();
    let sections = format!("{EROFS}verity = true\n");
    let bench = Bench::with(&sections, "a.tgz", tar(&contents()).gz(), ALL);
    let image = published(&bench);
    let whole = fs::read(&image).unwrap();
    assert!(whole[20480..20480 + bare.len()] == bare, "the file system is another one");
    inspect(&bench, &image, &[]).ok().prints(&["disk image, EROFS, lz4", "  verity     "]);
    for (at, says) in [
        (4096 * 20 + 7, "the block of the file system at byte 102400 is not the one"),
        (1024 + 3, "was changed: the block of the file system at byte 20480 is not the one"),
        (1024 + 90, "was changed: the block of the file system at byte 20480 is not the one"),
    ] {
        let mut changed = whole.clone();
        changed[20480 + at] ^= 1;
        fs::write(&image, changed).unwrap();
        let ran = inspect(&bench, &image, &[]);
        assert!(format!("{ran}").contains(says), "{ran}");
        ran.code(3);
    }
}

#[test]
fn damage_is_told() {
    let bench = Bench::with(EROFS, "a.tgz", tar(&contents()).gz(), ALL);
    let image = published(&bench);
    let whole = fs::read(&image).unwrap();
    let told = |bytes: &[u8], code, says: &str| {
        fs::write(&image, bytes).unwrap();
        inspect(&bench, &image, &[]).code(code).says(&["x86-64.raw is", says, "hint: "]);
        bench.repo.publish(&["verify"]).code(3);
    };
    told(&whole[..whole.len() / 2], 3, "not an EROFS image: it is cut short");
    let mut changed = whole.clone();
    changed[1024 + 50] ^= 1;
    told(&changed, 3, "not an EROFS image: its superblock is damaged");
    let mut newer = whole.clone();
    newer[1024 + 81] = 1;
    // Of that, nobody here can say what it is worth.
    told(
        &newer,
        1,
        "an EROFS image that cannot be looked into here: it needs features that are unknown",
    );
}

/// Theirs is looked into as theirs of squashfs is, but for what is newer than what is known here.
#[test]
fn an_image_of_theirs_that_would_stop_nodes_is_refused() {
    let bench = Bench::with(EROFS, "a.tgz", tar(&contents()).gz(), ALL);
    let image = fs::read(published(&bench)).unwrap();
    let mut newer = image.clone();
    newer[1024 + 81] = 1;
    let web = Web::start();
    let repo = Repo::new();
    let files = [
        ("it-v1.0-x86-64.raw", image.clone()),
        ("it-v1.1-x86-64.raw", newer),
        ("it-v1.2-x86-64.raw", image[..image.len() / 2].to_vec()),
    ];
    let lines = files.iter().map(|(name, bytes)| format!("{}  {name}\n", sha256(bytes)));
    web.put("/k/SHA256SUMS", lines.collect::<String>());
    for (name, bytes) in files {
        web.put(&format!("/k/{name}"), bytes);
    }
    for (component, code, says) in [
        ("it", 3, "it 1.2 x86-64: it-v1.2-x86-64.raw of their repository cannot be looked into"),
        (
            "other",
            3,
            "error: other 1.0 x86-64: it-v1.0-x86-64.raw of their repository would stop nodes: its extension-release is for it, it-1.2.3-x86-64, but nodes link to it as other.raw",
        ),
    ] {
        repo.component(component, &format!("[source.repository]\nurl = \"{}/k/\"\nmatch = \"it-v{{version}}-{{arch}}.raw\"\nunsigned = true\n[versions]\nnewest = 9\n", web.url()));
        repo.publish(&["sync", "--only", component]).code(code).says(&[says]);
    }
    assert_eq!(repo.listed("it"), ["it-v1.0-x86-64.raw", "it-v1.1-x86-64.raw"]);
    assert_eq!(repo.listed("other"), ["it-v1.1-x86-64.raw"]);
}

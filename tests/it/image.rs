//! Images: what `[image]`, `[xattrs]` and `[extension]` make of them, and that it is the same bytes
//! whatever the way there.

use std::fs;
use std::time::Duration;

use crate::pack::{Tar, noise};
use crate::recipe::Bench;
use crate::web::Fault;

const ALL: &str = "[asset.files]\n\"usr/share/it/\" = \".\"\n";

/// Small files, large ones, equal ones and empty ones.
fn contents() -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = (0..200)
        .map(|n| (format!("small/{n:03}"), format!("file {n}\n").repeat(n).into()))
        .collect();
    files.push(("large".to_owned(), noise(700_000)));
    files.push(("large-again".to_owned(), noise(700_000)));
    files.push(("zeros".to_owned(), vec![0; 300_000]));
    files
}

fn tar(files: &[(String, Vec<u8>)]) -> Tar {
    files.iter().fold(Tar::new(), |tar, (path, bytes)| tar.file(path, 0o644, bytes))
}

#[test]
fn the_order_of_the_archive_and_its_compression_cannot_be_seen() {
    let files = contents();
    let backwards: Vec<_> = files.iter().rev().cloned().collect();
    let image =
        |name: &str, bytes: Vec<u8>| fs::read(Bench::new(name, bytes, ALL).image().path).unwrap();
    let first = image("a.tar.gz", tar(&files).gz());
    assert!(first == image("a.tar.xz", tar(&backwards).xz()));
    assert!(first == image("a.tar", tar(&backwards).plain()));
}

#[test]
fn neither_the_machine_nor_the_folder_can_be_seen() {
    let one = Bench::new("a.tar.gz", tar(&contents()).gz(), ALL);
    let first = fs::read(one.image().path).unwrap();
    let mut other = Bench::new("a.tar.gz", tar(&contents()).gz(), ALL);
    for (name, value) in [("TZ", "Pacific/Kiritimati"), ("LC_ALL", "tr_TR.UTF-8"), ("HOME", "/")] {
        other.repo.env(name, value);
    }
    let image = other.repo.path("public/it/it-1.2.3-x86-64.raw");
    let publish = other.repo.command(&["sync"]);
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", "umask 077; exec \"$0\" sync"]).arg(publish.get_program());
    other.repo.prepare(&mut shell);
    other.repo.run(&mut shell).ok();
    assert!(first == fs::read(image).unwrap());
}

#[test]
fn source_date_epoch_dates_everything() {
    let mut bench = Bench::new("a.tar.gz", tar(&contents()).gz(), ALL);
    bench.repo.env("SOURCE_DATE_EPOCH", "86400");
    bench.image();
    let image = bench.repo.path("public/it/it-1.2.3-x86-64.raw");
    let shown = bench.repo.publish(&["inspect", image.to_str().unwrap(), "--json"]).ok();
    assert_eq!(shown.json()["time"], 86400);
}

#[test]
fn compression_level_and_block_size_are_what_was_asked_for() {
    for (rule, compression, block) in [
        ("", "zstd", 256 << 10),
        ("preset = \"small\"\nblock-size = \"64KiB\"\nlevel = 3", "zstd", 64 << 10),
        ("compression = \"xz\"\nbcj = true\nlevel = 1\nblock-size = \"1MiB\"", "xz", 1 << 20),
        ("compression = \"gzip\"\nblock-size = \"4KiB\"", "gzip", 4 << 10),
        ("preset = \"fast\"", "lz4", 128 << 10),
    ] {
        let sections = format!("[image]\n{rule}\n");
        let bench = Bench::with(&sections, "a.tar.gz", tar(&contents()).gz(), ALL);
        let image = bench.image();
        assert_eq!(image.paths().len(), 203, "{rule}");
        for (path, bytes) in contents() {
            assert!(image.bytes(&format!("usr/share/it/{path}")) == bytes, "{rule}: {path}");
        }
        let path = image.path.to_str().unwrap();
        let shown = bench.repo.publish(&["inspect", path, "--json"]).ok().json();
        assert_eq!(shown["compression"], compression, "{rule}");
        assert_eq!(shown["block_size"], block, "{rule}");
    }
}

#[test]
fn a_picked_link_to_a_file_that_is_not_picked_has_its_content() {
    let tar = Tar::new().file("real", 0o755, "#!/bin/sh\n").hard_link("linked", "real");
    let pick = "[asset.files]\n\"usr/bin/it\" = \"linked\"\n";
    assert_eq!(Bench::new("a.tgz", tar.gz(), pick).image().text("usr/bin/it"), "#!/bin/sh\n");
    let tar = Tar::new().file("real", 0o755, "#!/bin/sh\n").hard_link("linked", "real");
    let pick = "[asset.files]\n\"usr/bin/real\" = \"real\"\n\"usr/bin/it\" = { from = \"linked\", replace = { sh = \"bash\" } }\n";
    let image = Bench::new("a.tgz", tar.gz(), pick).image();
    assert_eq!(image.text("usr/bin/real"), "#!/bin/sh\n");
    assert_eq!(image.text("usr/bin/it"), "#!/bin/bash\n");
}

#[test]
fn a_download_that_is_begun_anew_makes_the_same_image() {
    let bench = Bench::new("a.tar.gz", tar(&contents()).gz(), ALL);
    bench.web.fault("/a.tar.gz", Fault::Truncate(600_000), 1);
    let broken = fs::read(bench.image().path).unwrap();
    assert!(
        broken
            == fs::read(Bench::new("a.tar.gz", tar(&contents()).gz(), ALL).image().path).unwrap()
    );
    let asked = bench.web.requests().into_iter().filter(|asked| asked.path == "/a.tar.gz");
    assert_eq!(asked.count(), 2);
}

#[test]
fn an_image_of_a_download_that_is_not_what_was_promised_never_gets_its_name() {
    let rest = format!("sha256 = \"{{url}}.sha256\"\n{ALL}");
    let bench = Bench::new("a.tar.gz", tar(&contents()).gz(), &rest);
    bench.web.put("/a.tar.gz.sha256", format!("{}  a.tar.gz\n", "0".repeat(64)));
    let delay = Duration::from_millis(1);
    bench.web.fault("/a.tar.gz", Fault::Slow { chunk: 64 << 10, delay }, 1);
    bench.refuses(&["a.tar.gz.sha256", &"0".repeat(64)]);
    assert_eq!(bench.repo.temporary(), Vec::<String>::new());
}

#[test]
fn a_configuration_extension_is_for_etc() {
    let sections = "[extension]\nkind = \"confext\"\nid = \"debian\"\nconfext-level = \"1\"\n[files]\n\"etc/it/links\" = { symlink = \"/usr/share/it\" }\n[services]\nenable = [\"it.service\"]\n";
    let tar = Tar::new().file("it.conf", 0o644, "a = 1\n").file("it.service", 0o644, "[Service]\n");
    let rest =
        "[asset.files]\n\"etc/it/\" = \"it.conf\"\n\"etc/systemd/system/\" = \"it.service\"\n";
    let bench = Bench::with(sections, "a.tgz", tar.gz(), rest);
    let image = bench.image();
    let release = image.text("etc/extension-release.d/extension-release.it");
    assert_eq!(
        release,
        "ID=debian\nARCHITECTURE=x86-64\nCONFEXT_LEVEL=1\nEXTENSION_RELOAD_MANAGER=1\n"
    );
    assert_eq!(
        image.text("etc/systemd/system/multi-user.target.d/10-it-it.service.conf"),
        "[Unit]\nUpholds=it.service\n"
    );
    assert!(!image.files.contains_key("usr"));
    bench
        .repo
        .publish(&["inspect", image.path.to_str().unwrap()])
        .ok()
        .prints(&["use as     confext, for x86-64", "systemd-confext takes it"]);
    bench.repo.publish(&["verify"]).ok();
}

#[test]
fn what_is_an_image_already_is_published_as_it_is() {
    let sections = "[image]\nformat = \"none\"\nname = \"{name}-{version}-{arch}.efi\"\n";
    let bytes = noise(100_000);
    let bare = Bench::with(sections, "it.efi", bytes.clone(), "");
    bare.sync().ok();
    let published = bare.repo.path("public/it/it-1.2.3-x86-64.efi");
    assert!(fs::read(published).unwrap() == bytes);
    bare.repo.sync().ok();
    bare.repo.publish(&["verify"]).ok();

    let tar = Tar::new().file("dir/it.efi", 0o644, &bytes).file("README", 0o644, "x");
    let pick = "[asset.files]\n\"image.efi\" = \"dir/it.efi\"\n";
    let packed = Bench::with(sections, "it.tgz", tar.gz(), pick);
    packed.sync().ok();
    assert!(fs::read(packed.repo.path("public/it/it-1.2.3-x86-64.efi")).unwrap() == bytes);

    let two = Tar::new().file("a", 0o644, "a").file("b", 0o644, "b");
    Bench::with(sections, "it.tgz", two.gz(), "").refuses(&["to be one file", "there are 2"]);
}

#[test]
fn attributes_that_concern_nothing_are_a_mistake() {
    let sections = "[xattrs]\n\"usr/bin/*\" = { selinux = \"system_u:object_r:bin_t:s0\" }\n";
    Bench::with(sections, "a.tgz", tar(&contents()).gz(), ALL)
        .refuses(&["[xattrs] `usr/bin/*` matches nothing"]);
}

#[test]
fn inspect_tells_in_what_two_images_differ() {
    let one = Bench::new("a.tar.gz", tar(&contents()).gz(), ALL);
    let mut files = contents();
    files[3].1 = b"file 4\n".repeat(3);
    files.retain(|(path, _)| path != "zeros");
    let changed = tar(&files).file("new", 0o755, "#!/bin/sh\n");
    let other = Bench::with("[image]\nlevel = 3\n", "a.tar.gz", changed.gz(), ALL);
    let [first, second] = [&one, &other].map(|bench| bench.image().path);
    let paths = [first.to_str().unwrap(), second.to_str().unwrap()];
    let ran = one.repo.publish(&["inspect", paths[0], paths[1]]).ok();
    assert_eq!(
        ran.stdout,
        "+ usr/share/it/new (10 B)\n~ usr/share/it/small/003: other bytes\n- usr/share/it/zeros (293.0 KiB)\n"
    );
    one.repo.publish(&["inspect", paths[0], paths[0]]).ok().prints(&["no difference"]);
    let json = one.repo.publish(&["inspect", paths[0], paths[1], "--json"]).ok().json();
    assert_eq!(json["same"], false);
    assert_eq!(json["entries"][1]["content"], true);
    one.repo.publish(&["inspect", paths[0], "/nowhere.raw"]).code(1).says(&["/nowhere.raw"]);
}

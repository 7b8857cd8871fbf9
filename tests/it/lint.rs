//! What is found in images: shown, allowed, denied.

use crate::pack::Tar;
use crate::recipe::Bench;
use crate::repo::Repo;

/// A program for a machine (62 is x86-64), started by a dynamic linker and in need of libraries.
pub fn elf(machine: u16, interpreter: &str, needed: &[&str]) -> Vec<u8> {
    let mut texts = vec![0];
    let mut dynamic: Vec<(u64, u64)> = Vec::new();
    for name in needed {
        dynamic.push((1, texts.len() as u64));
        texts.extend(name.bytes().chain([0]));
    }
    let interpreter: Vec<u8> = interpreter.bytes().chain([0]).collect();
    let (begin, base) = (64 + 3 * 56, 0x40_0000_u64);
    let at_texts = begin + interpreter.len() as u64;
    let at_dynamic = (at_texts + texts.len() as u64).next_multiple_of(8);
    dynamic.extend([(5, base + at_texts), (10, texts.len() as u64), (0, 0)]);
    let end = at_dynamic + 16 * dynamic.len() as u64;
    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0".to_vec();
    file.extend(machine.to_le_bytes());
    file.extend(1_u32.to_le_bytes());
    for number in [base, 64, 0] {
        file.extend(number.to_le_bytes());
    }
    file.extend(0_u32.to_le_bytes());
    for number in [64_u16, 56, 3, 64, 0, 0] {
        file.extend(number.to_le_bytes());
    }
    for (kind, at, size) in [
        (3_u32, begin, interpreter.len() as u64),
        (1, 0, end),
        (2, at_dynamic, 16 * dynamic.len() as u64),
    ] {
        file.extend(kind.to_le_bytes());
        file.extend(4_u32.to_le_bytes());
        for number in [at, base + at, base + at, size, size, 8] {
            file.extend(number.to_le_bytes());
        }
    }
    file.extend(interpreter);
    file.extend(texts);
    file.resize(usize::try_from(at_dynamic).unwrap(), 0);
    for (tag, value) in dynamic {
        file.extend(tag.to_le_bytes());
        file.extend(value.to_le_bytes());
    }
    file
}

const GLIBC: &str = "/lib64/ld-linux-x86-64.so.2";

/// An image with a good deal that is odd.
fn odd() -> Tar {
    Tar::new()
        .file("usr/bin/fine", 0o755, elf(62, GLIBC, &["libc.so.6"]))
        .file("usr/bin/needs", 0o755, elf(62, GLIBC, &["libc.so.6", "libodd.so.3"]))
        .file("usr/bin/alpine", 0o755, elf(62, "/lib/ld-musl-x86_64.so.1", &["libc.so"]))
        .file("usr/bin/script", 0o755, "#!/usr/bin/python3\n")
        .file("usr/lib/systemd/system/d.service", 0o644, "[Service]\nExecStart=/usr/bin/absent\n")
        .symlink("usr/lib/it/gone", "nothing")
        .file("usr/lib/it/x", 0o644, "x")
        .file("usr/sbin/s", 0o755, "#!/bin/sh\n")
}

const ALL: &str = "[asset.files]\n\"usr\" = \"usr\"\n";

#[test]
fn what_is_odd_is_shown_with_its_name_and_published() {
    let bench = Bench::new("it.tgz", odd().gz(), ALL);
    let ran = bench.sync().ok();
    let warnings: Vec<_> =
        ran.stderr.lines().filter(|line| line.starts_with("warning: ")).collect();
    let expected = [
        ("usr/bin/alpine", "[missing-interpreter]"),
        ("usr/bin/script", "[missing-interpreter]"),
        ("needs `libodd.so.3`, neither in the image nor on every system", "[missing-library]"),
        ("ExecStart=/usr/bin/absent", "[missing-program]"),
        ("usr/lib/it/gone", "[dangling-symlink]"),
        ("usr/sbin", "[usr-sbin]"),
    ];
    assert_eq!(warnings.len(), expected.len(), "{ran}");
    for (text, name) in expected {
        let told = warnings.iter().any(|line| line.contains(text) && line.ends_with(name));
        assert!(told, "{text} {name}\n{ran}");
    }
    let image = bench.repo.image("it", "it-1.2.3-x86-64.raw").path;
    let image = image.to_str().unwrap();
    // Whoever looks into the image finds the same.
    bench.repo.publish(&["inspect", image]).ok().prints(&[
        "warning    ",
        "[missing-library]",
        "verdict",
    ]);
    let json = bench.repo.publish(&["inspect", "--json", image]).ok().json();
    let findings = json["findings"].as_array().unwrap();
    assert_eq!(findings.len(), expected.len());
    let library = findings.iter().find(|found| found["lint"] == "missing-library").unwrap();
    assert_eq!((&library["level"], &library["path"]), (&"warning".into(), &"usr/bin/needs".into()));
    // Told once, when it is made.
    assert!(!bench.sync().ok().stderr.contains("warning: "));
}

#[test]
fn a_component_allows_and_denies_by_name_and_path() {
    let sections = |lint: &str| format!("\n[lint]\n{lint}\n");
    let everything = "allow = [\"missing-interpreter\", \"missing-library\", \"missing-program\", \"dangling-symlink\", \"usr-sbin\"]";
    let bench = Bench::with(&sections(everything), "it.tgz", odd().gz(), ALL);
    assert!(!bench.sync().ok().stderr.contains("warning: "));
    let some =
        "deny = [\"missing-library\"]\n[lint.allow]\nmissing-interpreter = [\"usr/bin/al*\"]";
    let bench = Bench::with(&sections(some), "it.tgz", odd().gz(), ALL);
    let ran = bench.refuses(&[
        "`usr/bin/needs` needs `libodd.so.3`",
        "or take missing-library out of [lint] deny",
    ]);
    assert!(!ran.stderr.contains("alpine"), "{ran}");
    let bench = Bench::with(&sections("allow = [\"no-such\"]"), "it.tgz", odd().gz(), ALL);
    bench.sync().code(4).says(&["components/it.toml", "`no-such`", "hint: one of elf-arch"]);
}

#[test]
fn what_is_required_must_be_there() {
    let tar = || Tar::new().file("usr/bin/it", 0o755, "#!/bin/sh\n").gz();
    let with = |paths: &str| {
        Bench::with(&format!("\n[require]\npaths = [{paths}]\n"), "it.tgz", tar(), ALL)
    };
    with("\"usr/bin/it\", \"usr/**/i?\"").image();
    with("\"usr/bin/it\", \"usr/lib/*.so\"").refuses(&[
        "[require] `usr/lib/*.so` is not in the image",
        "take it out of [require] paths",
    ]);
}

#[test]
fn a_program_for_other_machines_can_be_meant() {
    let tar = || Tar::new().file("usr/bin/firmware", 0o755, elf(183, GLIBC, &[])).gz();
    Bench::new("it.tgz", tar(), ALL).refuses(&["`usr/bin/firmware` is a program for arm64"]);
    let allow = "\n[lint.allow]\nelf-arch = [\"usr/bin/firm*\"]\n";
    let image = Bench::with(allow, "it.tgz", tar(), ALL).image();
    assert_eq!(image.paths(), ["usr/bin/firmware"]);
}

/// A stripped program without section headers ends where its last segment does.
#[test]
fn a_program_that_is_cut_is_told_from_its_segments() {
    let whole = elf(62, GLIBC, &["libc.so.6"]);
    let tar = |program: &[u8]| Tar::new().file("usr/bin/it", 0o755, program).gz();
    Bench::new("it.tgz", tar(&whole), ALL).image();
    let cut = &whole[..whole.len() - 1];
    Bench::new("it.tgz", tar(cut), ALL).refuses(&["`usr/bin/it` is cut: it has ", "hint: "]);
    let allow = "\n[lint]\nallow = [\"cut-program\"]\n";
    Bench::with(allow, "it.tgz", tar(cut), ALL).image();
}

#[test]
fn an_image_that_shrank_or_grew_is_told() {
    let repo = Repo::new();
    repo.simple("it");
    let noise = crate::pack::noise;
    repo.release("it", "1.0", noise(300_000));
    repo.sync().ok();
    repo.release("it", "1.1", noise(310_000));
    assert!(!repo.sync().ok().stderr.contains("warning: "));
    repo.release("it", "1.2", noise(50_000));
    let ran =
        repo.sync().ok().says(&["warning: it 1.2 x86-64: the image shrank from", "[size-changed]"]);
    assert!(ran.stdout.contains("1.2"), "{ran}");
    let text = std::fs::read_to_string(repo.path("components/it.toml")).unwrap();
    repo.component("it", &format!("{text}[lint]\ndeny = [\"size-changed\"]\n"));
    repo.release("it", "1.3", noise(400_000));
    repo.sync().code(3).says(&["it 1.3 x86-64: the image grew from", "[size-changed]", "hint: "]);
    assert!(!repo.listed("it").contains(&"it-1.3-x86-64.raw".to_owned()));
}

#[test]
fn packages_of_distributions_are_assets() {
    let seeds = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/seeds/archive");
    for (seed, names) in [("zstd.deb", 4), ("xz.rpm", 7)] {
        // The first byte of a seed is for the fuzzer.
        let bytes = std::fs::read(seeds.join(seed)).unwrap()[1..].to_vec();
        let image = Bench::new(seed, bytes, ALL).image();
        assert_eq!(image.paths().len(), names, "{seed}: {:?}", image.paths());
        assert_eq!(image.text("usr/bin/tool-again"), "#!/bin/sh\necho tool\n");
        assert_eq!((image.mode("usr/bin/tool"), image.link("usr/bin/t")), (0o755, "tool"));
    }
}

#[test]
fn images_of_others_are_judged_as_ours() {
    let repo = Repo::new();
    for (path, text) in [
        ("tree/usr/lib/extension-release.d/extension-release.it", "ID=_any\n"),
        ("tree/usr/bin/s", "#!/usr/bin/python3\n"),
        ("tree/usr/lib/it/x", "x"),
    ] {
        repo.write(path, text);
    }
    std::fs::set_permissions(
        repo.path("tree/usr/bin/s"),
        std::os::unix::fs::PermissionsExt::from_mode(0o4755),
    )
    .unwrap();
    std::fs::set_permissions(
        repo.path("tree/usr/bin"),
        std::os::unix::fs::PermissionsExt::from_mode(0o700),
    )
    .unwrap();
    std::os::unix::fs::symlink("y", repo.path("tree/usr/lib/it/z")).unwrap();
    let mut mksquashfs = std::process::Command::new("mksquashfs");
    mksquashfs.args(["tree", "it.raw", "-all-root", "-quiet", "-no-progress"]);
    let made = mksquashfs.current_dir(repo.path("")).output();
    if !made.is_ok_and(|made| made.status.success()) {
        eprintln!("skipped: this machine has no mksquashfs");
        return;
    }
    repo.publish(&["inspect", "it.raw"]).code(3).prints(&[
        "problem    `usr/bin` has mode 0700",
        "[folder-mode]",
        "[missing-interpreter]",
        "[setuid]",
        "`usr/lib/it/z` leads to `y`, which is not in the image [dangling-symlink]",
    ]);
}

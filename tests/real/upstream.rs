//! Upstream releases: the tarballs of a small service, as its authors would drop them into a folder.
//!
//! They are made by `tar` and `gzip`, not by a crate that the program under test may share.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The service's name, and that of every component that ships it unchanged.
pub const NAME: &str = "greeter";

/// The architecture these tests run on, in systemd's words.
pub const NATIVE: &str = if cfg!(target_arch = "aarch64") { "arm64" } else { "x86-64" };

/// An architecture that this machine is not.
pub const FOREIGN: &str = if cfg!(target_arch = "aarch64") { "x86-64" } else { "arm64" };

/// What a release holds below its top folder: path and mode.
///
/// `usr/` is not part of it: where a file goes is the component's business.
pub const FILES: [(&str, u32); 6] = [
    ("greeter", 0o755),
    ("greeter.service", 0o644),
    ("share/greeter.conf", 0o644),
    ("share/blocks", 0o644),
    ("share/same-first-block", 0o644),
    ("share/empty", 0o644),
];

/// It stays active after its program ended, to be seen as started.
const SERVICE: &str = "[Unit]
Description=Greets

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/bin/greeter
";

/// The architecture in upstream's words, as file names have it.
pub fn word(arch: &str) -> &'static str {
    match arch {
        "x86-64" => "amd64",
        "arm64" => "aarch64",
        _ => unreachable!("{arch} is none of the two that these tests publish"),
    }
}

/// What the program prints.
pub fn greeting(version: &str, arch: &str) -> String {
    format!("{NAME} {version} {arch}\n")
}

/// Drops the release `version` for both architectures into `folder`.
pub fn release(folder: &Path, version: &str) {
    for arch in [NATIVE, FOREIGN] {
        tarball(folder, version, arch);
    }
}

/// The folder that the tarball of `version` and `arch` was packed from, to compare an image with.
pub fn unpacked(folder: &Path, version: &str, arch: &str) -> PathBuf {
    folder.join(".unpacked").join(stem(version, arch))
}

fn stem(version: &str, arch: &str) -> String {
    format!("{NAME}_{version}_{}", word(arch))
}

fn tarball(folder: &Path, version: &str, arch: &str) {
    let tree = unpacked(folder, version, arch);
    for (path, mode) in FILES {
        let file = tree.join(path);
        fs::create_dir_all(file.parent().expect("a file of the release has a folder")).unwrap();
        fs::write(&file, content(path, version, arch)).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
    }

    // Owners as a build machine leaves them: an image must not inherit them.
    let made = Command::new("tar")
        .args(["--create", "--gzip", "--owner=builder:1000", "--group=builder:1000"])
        .arg("--file")
        .arg(folder.join(format!("{}.tar.gz", stem(version, arch))))
        .arg("--directory")
        .arg(folder.join(".unpacked"))
        .arg(stem(version, arch))
        .status()
        .expect("tar runs");
    assert!(made.success(), "tar could not pack {}", tree.display());
}

fn content(path: &str, version: &str, arch: &str) -> Vec<u8> {
    match path {
        "greeter" => format!("#!/bin/sh\necho {NAME} {version} {arch}\n").into_bytes(),
        "greeter.service" => SERVICE.as_bytes().to_vec(),
        "share/greeter.conf" => format!("# {NAME} {version}\n").into_bytes(),
        // Several blocks that do not compress, and two files that differ only behind the first block:
        // what a writer gets wrong that looks for duplicates too eagerly.
        "share/blocks" => noise(5 * 128 * 1024 + 77),
        "share/same-first-block" => {
            let mut bytes = noise(2 * 128 * 1024);
            bytes.extend_from_slice(b"another end");
            bytes
        }
        "share/empty" => Vec::new(),
        _ => unreachable!("{path} is not a file of the release"),
    }
}

/// The same incompressible bytes every time (xorshift).
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

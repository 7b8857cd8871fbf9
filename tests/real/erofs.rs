//! EROFS images, read by the kernel and by fsck.erofs, and merged by a node.
//!
//! A kernel without EROFS, or without one of its compressors, cannot tell anything about such an image:
//! that is said, and left out.

use std::fs;
use std::path::Path;
use std::process::Command;

use publish::image::unpack::unpack;

use crate::node::Node;
use crate::sysupdate::Sysupdate;
use crate::upstream::{NAME, NATIVE, greeting};
use crate::workspace::{ANY, Workspace};

/// A repository whose images are EROFS.
fn workspace(more: &str) -> Workspace {
    let workspace = Workspace::new();
    workspace.component(NAME, ANY);
    let path = workspace.public().with_file_name(format!("components/{NAME}.toml"));
    let text = fs::read_to_string(&path).unwrap();
    fs::write(path, format!("{text}\n[image]\nformat = \"erofs\"\n{more}\n")).unwrap();
    workspace.publish_version("1.0.0");
    workspace
}

fn has_erofs() -> bool {
    // It may be a module.
    let _ = Command::new("modprobe").arg("erofs").output();
    let known = fs::read_to_string("/proc/filesystems").unwrap();
    let has = known.split_whitespace().any(|word| word == "erofs");
    if !has {
        eprintln!("SKIPPED: this kernel has no EROFS");
    }
    has
}

/// A mounted image, until it goes.
struct Mounted<'f>(&'f Path);

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        assert!(Command::new("umount").arg(self.0).status().unwrap().success());
    }
}

#[test]
#[ignore = "needs root and tests/real/setup"]
fn the_kernel_reads_what_we_read() {
    if !has_erofs() {
        return;
    }
    for (more, needed) in [
        ("", true),
        ("preset = \"fast\"", true),
        ("compression = \"gzip\"", false),
        ("compression = \"zstd\"\nblock-size = \"1MiB\"", false),
        ("[xattrs]\n\"usr/bin/*\" = { capabilities = \"cap_net_raw+ep\" }", true),
    ] {
        let workspace = workspace(more);
        let image = workspace.image(NAME, "1.0.0", NATIVE);
        let folder = tempfile::tempdir().unwrap();
        let [ours, theirs] = ["ours", "theirs"].map(|name| folder.path().join(name));
        fs::create_dir(&ours).unwrap();
        fs::create_dir(&theirs).unwrap();
        unpack(&image, &ours).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "erofs", "-o", "loop,ro"]).arg(&image).arg(&theirs);
        let ran = mount.output().unwrap();
        if !ran.status.success() && !needed {
            eprintln!("SKIPPED: this kernel cannot mount EROFS with {more}");
            continue;
        }
        assert!(ran.status.success(), "{more}: {}", String::from_utf8_lossy(&ran.stderr));
        let _mounted = Mounted(&theirs);
        let mut diff = Command::new("diff");
        let ran = diff.args(["-r", "--no-dereference"]).args([&ours, &theirs]).output().unwrap();
        assert!(ran.status.success(), "{more}: {}", String::from_utf8_lossy(&ran.stdout));
    }
}

#[test]
#[ignore = "needs root and tests/real/setup"]
fn their_own_checker_takes_it() {
    if Command::new("fsck.erofs").arg("--help").output().is_err() {
        eprintln!("SKIPPED: this machine has no fsck.erofs");
        return;
    }
    let workspace = workspace("");
    let mut fsck = Command::new("fsck.erofs");
    let ran = fsck.arg("--extract").arg(workspace.image(NAME, "1.0.0", NATIVE)).output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
}

#[test]
#[ignore = "needs root and tests/real/setup"]
fn a_node_follows_and_merges_it() {
    if !has_erofs() {
        return;
    }
    let workspace = workspace("");
    let node = Node::new();
    let before = node.tree();
    node.show(&workspace.public(), "repository");
    let shown = format!("/srv/repository/{NAME}/{NAME}-1.0.0-{NATIVE}.raw");
    node.ok(&format!("systemd-dissect --validate {shown}"));
    let client = Sysupdate::follow(&node, "file:///srv/repository");
    client.update().unwrap();
    node.ok("systemd-sysext --no-reload merge");
    assert_eq!(node.greet(), greeting("1.0.0", NATIVE));
    workspace.publish_version("1.1.0");
    client.update().unwrap();
    node.ok("systemd-sysext --no-reload refresh");
    assert_eq!(node.greet(), greeting("1.1.0", NATIVE));
    node.ok("systemd-sysext --no-reload unmerge");
    assert_eq!(node.tree(), before);
}

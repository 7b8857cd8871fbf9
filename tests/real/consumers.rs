//! Readers of images that are not ours: `unsquashfs`, the kernel, `systemd-dissect`.

use std::process::Command;

use serde_json::Value;

use crate::node::Node;
use crate::upstream::{FOREIGN, NAME, NATIVE, unpacked};
use crate::workspace::{ANY, FLATCAR, Workspace};

/// Where the component puts upstream's files.
const PLACES: [(&str, &str); 6] = [
    ("greeter", "usr/bin/greeter"),
    ("greeter.service", "usr/lib/systemd/system/greeter.service"),
    ("share/greeter.conf", "usr/share/greeter/greeter.conf"),
    ("share/blocks", "usr/share/greeter/blocks"),
    ("share/same-first-block", "usr/share/greeter/same-first-block"),
    ("share/empty", "usr/share/greeter/empty"),
];

/// A published repository, shown to a node at `/srv/repository`.
fn published(name: &str, extension: &str) -> (Workspace, Node) {
    let workspace = Workspace::new();
    workspace.component(name, extension);
    workspace.publish_version("1.0.0");
    let node = Node::new();
    node.show(&workspace.public(), "repository");
    (workspace, node)
}

fn image(name: &str, arch: &str) -> String {
    format!("/srv/repository/{name}/{name}-1.0.0-{arch}.raw")
}

#[test]
#[ignore = "needs root and tests/real/setup"]
fn unsquashfs_lists_owners_and_modes() {
    let (_workspace, node) = published(NAME, ANY);
    for arch in [NATIVE, FOREIGN] {
        let listing = node.ok(&format!("unsquashfs -lls {}", image(NAME, arch)));
        // drwxr-xr-x 0/0  38 2026-01-01 00:00 squashfs-root/usr/bin
        let entries: Vec<(&str, &str, &str)> = listing
            .lines()
            .filter_map(|line| {
                let mut words = line.split_whitespace();
                let (mode, owner) = (words.next()?, words.next()?);
                let path = words.nth(3)?.strip_prefix("squashfs-root")?;
                Some((path, mode, owner))
            })
            .collect();

        for (path, mode, owner) in &entries {
            // As numbers where there is no name for them, and unsquashfs takes the names from the machine.
            assert!(matches!(*owner, "0/0" | "root/root"), "{path} belongs to {owner}");
            if mode.starts_with('d') {
                assert_eq!(*mode, "drwxr-xr-x", "{path}");
            }
        }
        for (path, expected) in [
            ("/usr", "drwxr-xr-x"),
            ("/usr/bin/greeter", "-rwxr-xr-x"),
            ("/usr/bin/greet", "lrwxrwxrwx"),
            ("/usr/lib/systemd/system/greeter.service", "-rw-r--r--"),
            ("/usr/share/greeter/greeter.conf", "-rw-r--r--"),
            ("/usr/share/greeter/empty", "-rw-r--r--"),
            ("/usr/lib/extension-release.d/extension-release.greeter", "-rw-r--r--"),
        ] {
            let mode = entries.iter().find(|entry| entry.0 == path).map(|entry| entry.1);
            assert_eq!(mode, Some(expected), "{path} in\n{listing}");
        }
    }
}

#[test]
#[ignore = "needs root and tests/real/setup"]
fn the_kernel_reads_back_every_byte() {
    let (workspace, node) = published(NAME, ANY);
    for arch in [NATIVE, FOREIGN] {
        node.show(&unpacked(&workspace.releases(), "1.0.0", arch), arch);
        node.ok(&format!("mkdir /tmp/{arch}; mount -o loop,ro {} /tmp/{arch}", image(NAME, arch)));
        for (from, to) in PLACES {
            node.ok(&format!("cmp /srv/{arch}/{from} /tmp/{arch}/{to}"));
        }
        assert_eq!(node.ok(&format!("readlink /tmp/{arch}/usr/bin/greet")), "greeter\n");
        assert_eq!(node.ok(&format!("cat /tmp/{arch}/usr/share/greeter/version")), "1.0.0\n");
    }
}

#[test]
#[ignore = "needs root and tests/real/setup"]
fn systemd_dissect_reports_an_extension() {
    for (name, extension, claims) in [
        (NAME, ANY, &["ID=_any", "EXTENSION_RELOAD_MANAGER=1"][..]),
        ("greeter-flatcar", FLATCAR, &["ID=flatcar", "SYSEXT_LEVEL=1.0"]),
    ] {
        let (_workspace, node) = published(name, extension);
        let printed = node.ok(&format!("systemd-dissect --json=short {}", image(name, NATIVE)));
        let report: Value = serde_json::from_str(&printed).expect("systemd-dissect prints JSON");
        let release: Vec<&str> = report["sysextRelease"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        for claim in claims {
            assert!(release.contains(claim), "{claim} is not in {printed}");
        }
        assert_eq!(report["useSystemExtension"], true, "{printed}");
    }
}

#[test]
#[ignore = "needs root and tests/real/setup"]
fn unsquashfs_and_the_kernel_read_extended_attributes() {
    let workspace = Workspace::new();
    workspace.configuration(
        NAME,
        "usr/share/greeter",
        r#"[xattrs]
"**" = { selinux = "system_u:object_r:usr_t:s0" }
"usr/share/greeter/*.conf" = { capabilities = "cap_net_raw+ep", "user.comment" = "as written" }
"usr/lib/extension-release.d/*" = { "user.extension-release.strict" = "0" }
"#,
    );
    workspace.publish_version("1.0.0");
    let image = workspace.image(NAME, "1.0.0", NATIVE);
    let folder = tempfile::tempdir().unwrap();
    let [unpacked, copied] = ["unpacked", "copied"].map(|name| folder.path().join(name));
    // Attributes of the security namespace are only for root to write, wherever they came from.
    let script = r#"
unsquashfs -quiet -no-progress -xattrs -dest "$2" "$1" >&2
mount -o loop,ro "$1" /mnt
cp --archive /mnt "$3"
"#;
    let run = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "bash", "-euc", script, "attributes"])
        .args([&image, &unpacked, &copied])
        .output()
        .expect("unshare runs");
    assert!(run.status.success(), "{}: {}", run.status, String::from_utf8_lossy(&run.stderr));

    let label = &b"system_u:object_r:usr_t:s0\0"[..];
    let capability: Vec<u8> = [1, 0, 0, 2, 0, 0x20].into_iter().chain([0; 14]).collect();
    let release = format!("usr/lib/extension-release.d/extension-release.{NAME}");
    for root in [&unpacked, &copied] {
        for (path, name, value) in [
            ("", "security.selinux", label),
            ("usr/share/greeter", "security.selinux", label),
            ("usr/share/greeter/greeter.conf", "security.selinux", label),
            ("usr/share/greeter/greeter.conf", "security.capability", &capability),
            ("usr/share/greeter/greeter.conf", "user.comment", b"as written"),
            (&release, "user.extension-release.strict", b"0"),
        ] {
            let mut found = vec![0; 256];
            let at = root.join(path);
            let length = rustix::fs::getxattr(&at, name, &mut found[..])
                .unwrap_or_else(|error| panic!("{}: {name}: {error}", at.display()));
            assert_eq!(&found[..length], value, "{}: {name}", at.display());
        }
    }
}

//! A Flatcar-like node merges images with the real systemd-sysext, runs what is inside, and unmerges.
//!
//! systemd-sysext skips an image that does not fit and still succeeds, so every test looks at files. It
//! also fails after a merge that worked when no service manager runs that it could reload, as on these
//! nodes: hence `--no-reload`, for images that ask for one.

use std::process::Command;

use crate::node::Node;
use crate::sysupdate::Sysupdate;
use crate::upstream::{FOREIGN, NAME, NATIVE, greeting};
use crate::workspace::{ANY, FLATCAR, Workspace};

/// The files that an image of the service brings, besides those that make it an extension.
const BROUGHT: [&str; 6] = [
    "/usr/bin/greeter",
    "/usr/bin/greet",
    "/usr/lib/systemd/system/greeter.service",
    "/usr/share/greeter/greeter.conf",
    "/usr/share/greeter/blocks",
    "/usr/share/greeter/version",
];

/// A drop-in below `multi-user.target.d` that starts the service when the image is merged.
const UPHOLDS: &str =
    "grep -rhx 'Upholds=greeter.service' /usr/lib/systemd/system/multi-user.target.d/";

#[test]
#[ignore = "needs root and tests/real/setup"]
fn a_node_follows_merges_and_moves_on() {
    let workspace = Workspace::new();
    workspace.component(NAME, ANY);
    workspace.publish_version("1.0.0");

    let node = Node::new();
    let before = node.tree();
    node.show(&workspace.public(), "repository");
    let client = Sysupdate::follow(&node, "file:///srv/repository");
    client.update().unwrap();

    node.ok("systemd-sysext --no-reload merge");
    for path in BROUGHT {
        assert!(node.has(path), "{path} is not there after the merge");
    }
    assert_eq!(node.greet(), greeting("1.0.0", NATIVE));
    assert_eq!(node.ok("greet"), greeting("1.0.0", NATIVE));
    assert_eq!(node.ok("cat /usr/share/greeter/version"), "1.0.0\n");
    assert_eq!(node.ok(UPHOLDS), "Upholds=greeter.service\n");
    node.ok("systemd-analyze verify --man=no /usr/lib/systemd/system/greeter.service");
    // The system's own files are still there, and as accessible as before.
    node.ok("test -x /usr/bin/bash && test \"$(stat -c %a:%u:%g /usr /usr/bin)\" = $'755:0:0\\n755:0:0'");

    workspace.publish_version("1.1.0");
    client.update().unwrap();
    node.ok("systemd-sysext --no-reload refresh");
    assert_eq!(node.greet(), greeting("1.1.0", NATIVE));

    node.ok("systemd-sysext --no-reload unmerge");
    assert!(!node.has("/usr/bin/greeter"), "the program outlived the unmerge");
    assert_eq!(node.tree(), before);
}

/// With a service manager: the merge makes it reload, and the drop-in makes it start the service.
#[test]
#[ignore = "needs root and tests/real/setup"]
fn a_booted_node_starts_the_service() {
    let workspace = Workspace::new();
    workspace.component(NAME, ANY);
    workspace.publish_version("1.0.0");

    let mut node = Node::new();
    node.boot();
    node.show(&workspace.public(), "repository");
    Sysupdate::follow(&node, "file:///srv/repository").update().unwrap();
    assert_eq!(node.ok("systemctl is-active multi-user.target"), "active\n");
    node.ok("! systemctl is-active greeter.service");

    node.ok("systemd-sysext merge");
    node.until("the service is started", "systemctl is-active greeter.service", "active");
}

#[test]
#[ignore = "needs root and tests/real/setup"]
fn an_image_for_flatcar_merges_by_its_level() {
    let workspace = Workspace::new();
    workspace.component("greeter-flatcar", FLATCAR);
    workspace.publish_version("1.0.0");

    let node = Node::new();
    let before = node.tree();
    install(&node, &workspace, "greeter-flatcar", NATIVE);
    node.ok("systemd-sysext --no-reload merge");
    assert_eq!(node.greet(), greeting("1.0.0", NATIVE));
    node.ok("systemd-sysext --no-reload unmerge");
    assert_eq!(node.tree(), before);
}

/// The other side of the tests above: the files they look for are missing where they should be.
#[test]
#[ignore = "needs root and tests/real/setup"]
fn an_image_that_does_not_fit_is_not_merged() {
    let workspace = Workspace::new();
    workspace.component("other-level", "id = \"flatcar\"\nsysext-level = \"2.0\"");
    workspace.component("other-system", "id = \"fedora\"\nsysext-level = \"1.0\"");
    workspace.component("other-machine", ANY);
    workspace.publish_version("1.0.0");

    for (name, arch) in
        [("other-level", NATIVE), ("other-system", NATIVE), ("other-machine", FOREIGN)]
    {
        let node = Node::new();
        let before = node.tree();
        install(&node, &workspace, name, arch);
        node.run("systemd-sysext --no-reload merge");
        assert_eq!(node.tree(), before, "{name} for {arch} was merged");
    }
}

#[test]
#[ignore = "needs root and tests/real/setup"]
fn a_configuration_extension_is_merged_into_etc() {
    let workspace = Workspace::new();
    workspace.configuration(
        "settings",
        "etc/greeter",
        "[extension]\nkind = \"confext\"\nid = \"flatcar\"\nconfext-level = \"1.0\"",
    );
    workspace.publish_version("1.0.0");

    let node = Node::new();
    node.show(&workspace.public(), "repository");
    node.ok("echo CONFEXT_LEVEL=1.0 >>/etc/os-release");
    node.ok(&format!(
        "mkdir -p /var/lib/confexts; cp /srv/repository/settings/settings-1.0.0-{NATIVE}.raw /var/lib/confexts/settings.raw"
    ));
    node.ok("systemd-dissect --json=short /var/lib/confexts/settings.raw | grep '\"useConfigurationExtension\":true'");
    node.ok("systemd-confext --no-reload merge");
    node.ok("grep . /etc/greeter/greeter.conf");
    node.ok("systemd-confext --no-reload unmerge");
    assert!(!node.has("/etc/greeter/greeter.conf"));
}

/// Whatever version this machine has, which is an older one than the node's.
#[test]
#[ignore = "needs root and tests/real/setup"]
fn the_hosts_own_sysext_merges_it_too() {
    // `/run` is made a mount because the older systemd-sysext insists on it; images lie in the tree
    // itself because a symlink there would be followed outside.
    const SCRIPT: &str = r#"
tree=$1 image=$2
mkdir -p "$tree"/{etc/extensions,usr/lib,usr/bin,opt,run,var,proc,sys,dev,tmp}
printf 'ID=flatcar\nVERSION_ID=4230.2.0\nSYSEXT_LEVEL=1.0\n' >"$tree/etc/os-release"
cp "$tree/etc/os-release" "$tree/usr/lib/os-release"
cp "$image" "$tree/etc/extensions/greeter.raw"
mount -t tmpfs run /run
mount --bind "$tree" "$tree"
mount --make-rshared "$tree"
systemd-sysext --root="$tree" merge >&2 || true # files tell, see above
test -x "$tree/usr/bin/greeter"
"$tree/usr/bin/greeter"
systemd-sysext --root="$tree" unmerge >&2 || true
test ! -e "$tree/usr/bin/greeter"
test -e "$tree/usr/lib/os-release"
"#;

    let workspace = Workspace::new();
    workspace.component(NAME, ANY);
    workspace.publish_version("1.0.0");
    let tree = tempfile::tempdir().unwrap();
    let run = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "bash", "-euc", SCRIPT, "merge"])
        .arg(tree.path())
        .arg(workspace.image(NAME, "1.0.0", NATIVE))
        .output()
        .expect("unshare runs");
    assert!(run.status.success(), "{}: {}", run.status, String::from_utf8_lossy(&run.stderr));
    assert_eq!(String::from_utf8_lossy(&run.stdout), greeting("1.0.0", NATIVE));
}

/// Puts the image of version 1.0.0 onto the node, past systemd-sysupdate.
fn install(node: &Node, workspace: &Workspace, name: &str, arch: &str) {
    node.show(&workspace.public(), "repository");
    node.install(name, &format!("repository/{name}/{name}-1.0.0-{arch}.raw"));
}

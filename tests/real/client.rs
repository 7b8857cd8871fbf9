//! What `publish client` writes, on a node: every transfer is followed over updates, and the installer
//! makes a node that keeps itself up to date, restarts what runs, and can be set back.

use std::fs;

use crate::node::Node;
use crate::sysupdate::Sysupdate;
use crate::upstream::{NAME, NATIVE, greeting};
use crate::web::Web;
use crate::workspace::{ANY, Workspace};

/// What `publish client` prints.
fn client(workspace: &Workspace, web: &Web, arguments: &[&str]) -> String {
    let mut command = workspace.publish();
    let run = command.args(["client", NAME, "--url", web.url()]).args(arguments).output();
    let run = run.expect("publish runs");
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    String::from_utf8(run.stdout).expect("a text")
}

fn update(client: &Sysupdate<'_>, version: &str) {
    client.update().unwrap_or_else(|said| panic!("the update to {version} failed:\n{said}"));
    assert_eq!(client.installed().1, Sysupdate::path(version));
    assert_eq!(client.check_new(), None);
}

#[test]
#[ignore = "needs root and tests/real/setup"]
fn the_transfer_is_followed_over_versions_and_revisions() {
    let workspace = Workspace::new();
    workspace.component(NAME, ANY);
    workspace.publish_version("1.0.0");
    let web = Web::plain(&workspace.public());
    let node = Node::new();
    let transfer = client(&workspace, &web, &[]);
    let node_client = Sysupdate::with(&node, &transfer);
    update(&node_client, "1.0.0");
    workspace.component(NAME, &format!("{ANY}\n\n[image]\ncompression = \"gzip\""));
    workspace.sync();
    update(&node_client, "1.0.0-r1");
    workspace.publish_version("1.10.0");
    update(&node_client, "1.10.0");
    let (images, _) = node_client.installed();
    assert_eq!(images, [Sysupdate::image("1.0.0-r1"), Sysupdate::image("1.10.0")]);
}

#[test]
#[ignore = "needs root and tests/real/setup"]
fn a_branch_is_followed_alone() {
    let workspace = Workspace::new();
    workspace.component(NAME, &format!("{ANY}\n\n[versions]\nper = \"minor\""));
    for version in ["1.1.9", "1.2.0", "1.10.0"] {
        workspace.release(version);
    }
    workspace.sync();
    let web = Web::plain(&workspace.public());
    let node = Node::new();
    let node_client = Sysupdate::with(&node, &client(&workspace, &web, &["--branch", "1.1"]));
    assert_eq!(node_client.list(), (None, vec!["9".to_owned()]));
    update(&node_client, "1.1.9");
    workspace.publish_version("1.1.10");
    workspace.publish_version("1.2.1");
    update(&node_client, "1.1.10");
    // Over to the next branch, and then to all.
    let node_client = Sysupdate::with(&node, &client(&workspace, &web, &["--branch", "v1.2"]));
    update(&node_client, "1.2.1");
    let node_client = Sysupdate::with(&node, &client(&workspace, &web, &[]));
    update(&node_client, "1.10.0");
}

#[test]
#[ignore = "needs root and tests/real/setup"]
fn the_installer_makes_a_node_that_keeps_itself_up_to_date() {
    let workspace = Workspace::new();
    workspace.component(NAME, ANY);
    workspace.sign("key = { file = \"signing.key\" }\nbest-before = \"14d\"");
    let (made, said) = workspace.run(&["key", "generate"]);
    assert!(made, "{said}");
    workspace.publish_version("1.0.0");
    let web = Web::plain(&workspace.public());
    let mut node = Node::new();
    node.boot();
    let script = client(&workspace, &web, &["--format", "script"]);
    let scripts = tempfile::tempdir().expect("a temporary folder");
    fs::write(scripts.path().join("install.sh"), script).unwrap();
    node.show(scripts.path(), "scripts");

    let said = node.ok("sh /srv/scripts/install.sh");
    assert!(said.ends_with(&format!("installed {}\n", Sysupdate::image("1.0.0"))), "{said}");
    assert_eq!(node.greet(), greeting("1.0.0", NATIVE));
    node.until("the service runs", "systemctl is-active greeter.service", "active");
    // The timer is not for containers, and this machine is one.
    for unit in ["systemd-sysupdate.timer", "systemd-sysext.service", "greeter-restart.path"] {
        let state = node.ok(&format!("systemctl is-enabled {unit}"));
        // systemd 262 has another name for the timer.
        assert!(["enabled\n", "alias\n"].contains(&state.as_str()), "{unit}: {state}");
    }
    assert_eq!(node.ok("systemctl is-active greeter-restart.path"), "active\n");
    let before = node.ok("find /etc -newer /etc/os-release -type f | sort | xargs sha256sum");
    let said = node.ok("sh /srv/scripts/install.sh");
    assert_eq!(said, format!("{NAME} is up to date: {}\n", Sysupdate::image("1.0.0")));
    assert_eq!(
        node.ok("find /etc -newer /etc/os-release -type f | sort | xargs sha256sum"),
        before
    );

    // What the timer starts.
    node.ok("mkdir -p /run/systemd/system/systemd-sysupdate.service.d
             printf '[Unit]\\nConditionVirtualization=\\n' >/run/systemd/system/systemd-sysupdate.service.d/here.conf
             systemctl daemon-reload");
    let invocation = "systemctl show --value --property InvocationID greeter.service";
    let first = node.ok(invocation);
    workspace.publish_version("1.1.0");
    node.ok("systemctl start systemd-sysupdate.service");
    node.until(
        "the new version is merged",
        "/usr/bin/greeter",
        greeting("1.1.0", NATIVE).trim_end(),
    );
    let restarted = format!("test \"$({invocation})\" != '{}' && echo yes", first.trim_end());
    node.until("the service is restarted", &restarted, "yes");
    let state = "systemctl show --value --property ActiveState systemd-sysupdate.service";
    node.until("the update is over", state, "inactive");
    assert_eq!(
        node.ok("systemctl show --value --property Result systemd-sysupdate.service"),
        "success\n"
    );

    let restarting = "systemctl show --value --property ActiveState greeter-restart.service";
    node.until("the restart is over", restarting, "inactive");
    // A download that was cut off, as systemd 262 remembers it, which keeps it from trying again.
    workspace.publish_version("1.2.0");
    let image = Sysupdate::image("1.2.0");
    node.ok(&format!("echo half >/opt/extensions/{NAME}/.sysupdate.partial.{image}"));
    node.ok("systemctl start systemd-sysupdate.service");
    let new = greeting("1.2.0", NATIVE);
    node.until("the version after a broken one is merged", "/usr/bin/greeter", new.trim_end());
    node.until("the update is over", state, "inactive");
    node.until("the restart is over", restarting, "inactive");
    // Back to the version before, by the link alone.
    let second = node.ok(invocation);
    node.ok(&format!("ln -sfn {} /etc/extensions/{NAME}.raw", Sysupdate::path("1.1.0")));
    let old = greeting("1.1.0", NATIVE);
    node.until("the old version is merged", "/usr/bin/greeter", old.trim_end());
    let restarted = format!("test \"$({invocation})\" != '{}' && echo yes", second.trim_end());
    node.until("the service is restarted", &restarted, "yes");
}

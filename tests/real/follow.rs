//! A node follows a repository with the real systemd-sysupdate: from nothing, over an update, to a
//! third version that pushes the first out; from each place that a repository can be served from.

use std::fs;

use crate::node::Node;
use crate::sysupdate::Sysupdate;
use crate::upstream::{NAME, NATIVE};
use crate::web::Web;
use crate::workspace::{ANY, Workspace, read};

/// Follows `workspace` at `url` over three versions, each published while the node and the server run.
fn follow(workspace: &Workspace, node: &Node, url: &str) {
    let client = Sysupdate::follow(node, url);
    assert_eq!(client.list(), (None, vec!["1.0.0".to_owned()]));

    for (version, disk) in [
        ("1.0.0", &["1.0.0"][..]),
        ("1.1.0", &["1.0.0", "1.1.0"]),
        // Not 1.2.0: text order and version order must not agree by chance.
        ("1.10.0", &["1.1.0", "1.10.0"]),
    ] {
        if version != "1.0.0" {
            workspace.publish_version(version);
        }
        assert_eq!(client.check_new().as_deref(), Some(version));
        client.update().unwrap_or_else(|said| panic!("the update to {version} failed:\n{said}"));

        let (images, current) = client.installed();
        let mut expected: Vec<_> = disk.iter().map(|version| Sysupdate::image(version)).collect();
        expected.sort();
        assert_eq!(images, expected);
        assert_eq!(current, Sysupdate::path(version));
        node.show(&workspace.public(), "published");
        node.ok(&format!(
            "cmp {} /srv/published/{NAME}/{}",
            Sysupdate::path(version),
            Sysupdate::image(version)
        ));

        assert_eq!(client.list().0.as_deref(), Some(version));
        assert_eq!(client.check_new(), None);
        client.update().expect("an update with nothing new is no failure");
    }
    assert_eq!(client.list().1, ["1.10.0", "1.1.0", "1.0.0"]);
}

/// A repository that holds version 1.0.0.
fn published() -> Workspace {
    let workspace = Workspace::new();
    workspace.component(NAME, ANY);
    workspace.publish_version("1.0.0");
    workspace
}

#[test]
#[ignore = "needs root and tests/real/setup"]
fn from_publish_serve() {
    let workspace = published();
    let web = Web::publish(&workspace);
    follow(&workspace, &Node::new(), web.url());
}

#[test]
#[ignore = "needs root and tests/real/setup"]
fn from_a_plain_web_server() {
    let workspace = published();
    let web = Web::plain(&workspace.public());
    follow(&workspace, &Node::new(), web.url());
}

#[test]
#[ignore = "needs root and tests/real/setup"]
fn from_a_folder() {
    let workspace = published();
    let node = Node::new();
    node.show(&workspace.public(), "repository");
    follow(&workspace, &node, "file:///srv/repository");
}

/// What the tests above take for granted: that the client checks what it fetches.
#[test]
#[ignore = "needs root and tests/real/setup"]
fn an_image_that_was_changed_is_refused() {
    let workspace = published();
    let image = workspace.image(NAME, "1.0.0", NATIVE);
    let mut bytes = read(&image);
    *bytes.last_mut().expect("an image has bytes") ^= 1;
    fs::write(&image, bytes).unwrap();

    let web = Web::plain(&workspace.public());
    let node = Node::new();
    let client = Sysupdate::follow(&node, web.url());
    assert_eq!(client.check_new().as_deref(), Some("1.0.0"));
    client.update().expect_err("a changed image was installed");
    assert!(!node.has(&Sysupdate::path("1.0.0")));
    assert!(!node.has(&format!("/etc/extensions/{NAME}.raw")));
}

//! The same version made otherwise, and a version that was taken back, as a node sees them.

use std::fs;

use crate::node::Node;
use crate::sysupdate::Sysupdate;
use crate::upstream::{NAME, NATIVE};
use crate::web::Web;
use crate::workspace::{ANY, Workspace};

/// A repository that holds these versions.
fn published(versions: &[&str]) -> Workspace {
    let workspace = Workspace::new();
    workspace.component(NAME, ANY);
    for version in versions {
        workspace.publish_version(version);
    }
    workspace
}

fn update(client: &Sysupdate<'_>, version: &str) {
    assert_eq!(client.check_new().as_deref(), Some(version));
    client.update().unwrap_or_else(|said| panic!("the update to {version} failed:\n{said}"));
    assert_eq!(client.installed().1, Sysupdate::path(version));
    assert_eq!(client.check_new(), None);
}

#[test]
#[ignore = "needs root and tests/real/setup"]
fn a_revision_is_an_update() {
    let workspace = published(&["1.0.0"]);
    let web = Web::plain(&workspace.public());
    let node = Node::new();
    let client = Sysupdate::follow(&node, web.url());
    update(&client, "1.0.0");

    for (codec, revision) in [("gzip", "1.0.0-r1"), ("lz4", "1.0.0-r2")] {
        workspace.component(NAME, &format!("{ANY}\n\n[image]\ncompression = \"{codec}\""));
        workspace.sync();
        assert!(workspace.image(NAME, revision, NATIVE).exists());
        update(&client, revision);
        assert_eq!(client.list().1[0], revision);
    }
    // What upstream releases next is newer than every revision.
    workspace.publish_version("1.0.1");
    update(&client, "1.0.1");
    let (images, _) = client.installed();
    assert_eq!(images, [Sysupdate::image("1.0.0-r2"), Sysupdate::image("1.0.1")]);
}

#[test]
#[ignore = "needs root and tests/real/setup"]
fn a_yank_takes_nobody_back() {
    let workspace = published(&["1.0.0", "1.1.0"]);
    let web = Web::plain(&workspace.public());
    let node = Node::new();
    let client = Sysupdate::follow(&node, web.url());
    update(&client, "1.1.0");

    let run = workspace.publish().args(["yank", NAME, "1.1.0"]).output().expect("publish runs");
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    workspace.sync();
    let manifest =
        fs::read_to_string(workspace.public().join(NAME).join("SHA256SUMS")).expect("a manifest");
    assert!(!manifest.contains("1.1.0") && manifest.contains("1.0.0"), "{manifest}");

    // A node that has it keeps it, as publish warned, and sees the older one.
    let (current, all) = client.list();
    assert_eq!(current.as_deref(), Some("1.1.0"));
    assert_eq!(all, ["1.1.0", "1.0.0"]);
    assert_eq!(client.check_new(), None);
    client.update().expect("an update with nothing new is no failure");
    assert_eq!(client.installed().1, Sysupdate::path("1.1.0"));
    // A new one never gets it.
    let fresh = Node::new();
    update(&Sysupdate::follow(&fresh, web.url()), "1.0.0");

    // Built anew, it is an update for both.
    let run = workspace
        .publish()
        .args(["restore", "--rebuild", NAME, "1.1.0"])
        .output()
        .expect("publish runs");
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    workspace.sync();
    update(&client, "1.1.0-r1");
    update(&Sysupdate::follow(&fresh, web.url()), "1.1.0-r1");
}

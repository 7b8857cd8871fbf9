//! A node follows a repository in releases on GitHub: through the redirects to the storage.

use crate::node::Node;
use crate::standin::github::GitHub;
use crate::sysupdate::Sysupdate;
use crate::upstream::NAME;
use crate::workspace::{ANY, Workspace};

#[test]
#[ignore = "needs root and tests/real/setup"]
fn from_releases_on_github() {
    let github = GitHub::start();
    github.repo("o/r");
    let mut workspace = Workspace::new();
    workspace.on_github(&github.api(), &github.web());
    workspace.component(NAME, ANY);
    workspace.publish_version("1.0.0");

    let node = Node::new();
    let client = Sysupdate::follow(&node, &format!("{}/o/r/releases/download", github.web()));
    assert_eq!(client.list(), (None, vec!["1.0.0".to_owned()]));
    for version in ["1.0.0", "1.1.0", "1.10.0"] {
        if version != "1.0.0" {
            workspace.publish_version(version);
        }
        assert_eq!(client.check_new().as_deref(), Some(version));
        client.update().unwrap_or_else(|said| panic!("the update to {version} failed:\n{said}"));
        assert_eq!(client.installed().1, Sysupdate::path(version));
        assert_eq!(client.check_new(), None);
    }

    // The moment between two requests: the node says that it found nothing, and loses nothing.
    let sums = github.asset_bytes("o/r", NAME, "SHA256SUMS").expect("a manifest");
    github.remove_asset("o/r", NAME, "SHA256SUMS");
    client.update().expect_err("there is no manifest");
    assert_eq!(client.installed().1, Sysupdate::path("1.10.0"));
    github.put_asset("o/r", NAME, "SHA256SUMS", &sums, true);
    client.update().expect("it is back");
}

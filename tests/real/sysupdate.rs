//! systemd-sysupdate on a node, following one component.

use serde_json::Value;

use crate::node::Node;
use crate::upstream::{NAME, NATIVE};

/// A node that follows [`NAME`].
pub struct Sysupdate<'a> {
    node: &'a Node,
}

impl<'a> Sysupdate<'a> {
    /// Configures the node to follow the repository at `url`, which has no final slash, whoever
    /// signed it.
    pub fn follow(node: &'a Node, url: &str) -> Self {
        Self::configure(node, url, "no")
    }

    /// The same, but it takes only what a key of this keyring signed, a file that the node sees.
    pub fn follow_signed(node: &'a Node, url: &str, keyring: &str) -> Self {
        node.ok(&format!("install -m 0644 -D '{keyring}' /etc/systemd/import-pubring.gpg"));
        Self::configure(node, url, "yes")
    }

    /// A node whose transfer is this one.
    pub fn with(node: &'a Node, transfer: &str) -> Self {
        node.ok(&format!(
            "mkdir -p /etc/sysupdate.{NAME}.d /opt/extensions/{NAME}
             cat >/etc/sysupdate.{NAME}.d/{NAME}.transfer <<'end'\n{transfer}end"
        ));
        Self { node }
    }

    fn configure(node: &'a Node, url: &str, verify: &str) -> Self {
        node.ok(&format!(
            "mkdir -p /etc/sysupdate.{NAME}.d /opt/extensions/{NAME}
             cat >/etc/sysupdate.{NAME}.d/{NAME}.transfer <<'end'
[Transfer]
Verify={verify}

[Source]
Type=url-file
Path={url}/{NAME}/
MatchPattern={NAME}-@v-%a.raw

[Target]
Type=regular-file
Path=/opt/extensions/{NAME}
MatchPattern={NAME}-@v-%a.raw
CurrentSymlink=/etc/extensions/{NAME}.raw
Mode=0644
InstancesMax=2
end"
        ));
        Self { node }
    }

    /// The current version, and all versions that are known, newest first.
    pub fn list(&self) -> (Option<String>, Vec<String>) {
        let printed = self.node.ok(&Self::command("--json=short list"));
        let list: Value = serde_json::from_str(&printed).expect("systemd-sysupdate prints JSON");
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let all = list["all"].as_array().expect("a list of versions");
        (text(&list["current"]), all.iter().filter_map(text).collect())
    }

    /// The version that an update would bring.
    pub fn check_new(&self) -> Option<String> {
        let run = self.node.run(&Self::command("check-new"));
        let version = String::from_utf8_lossy(&run.stdout).trim().to_owned();
        // Both say it; one that disagrees with the other would be a crash taken for «nothing new».
        assert_eq!(
            run.status.code(),
            Some(i32::from(version.is_empty())),
            "check-new: `{version}` {}",
            String::from_utf8_lossy(&run.stderr)
        );
        (!version.is_empty()).then_some(version)
    }

    /// Updates; what it said when it could not.
    pub fn update(&self) -> Result<(), String> {
        let run = self.node.run(&Self::command("update"));
        if run.status.success() {
            Ok(())
        } else {
            Err(String::from_utf8_lossy(&run.stderr).into_owned())
        }
    }

    /// Takes away what failed updates left, without which systemd 262 does not try again.
    pub fn vacuum(&self) {
        self.node.ok(&Self::command("vacuum"));
    }

    /// The images on the node's disk, and the one that is current.
    pub fn installed(&self) -> (Vec<String>, String) {
        let images = self.node.ok(&format!("ls /opt/extensions/{NAME}"));
        let current = self.node.ok(&format!("readlink -f /etc/extensions/{NAME}.raw"));
        (images.lines().map(str::to_owned).collect(), current.trim_end().to_owned())
    }

    /// The path that the image of `version` has on the node.
    pub fn path(version: &str) -> String {
        format!("/opt/extensions/{NAME}/{}", Self::image(version))
    }

    /// The file name of the image of `version`.
    pub fn image(version: &str) -> String {
        format!("{NAME}-{version}-{NATIVE}.raw")
    }

    fn command(arguments: &str) -> String {
        format!("/usr/lib/systemd/systemd-sysupdate -C {NAME} {arguments}")
    }
}

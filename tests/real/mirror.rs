//! Nodes that follow mirrors of a repository which nothing of ours had a hand in: its images are made by
//! mksquashfs and mkfs.erofs, its manifest by sha256sum, its signature by gpg.

use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::gpg::Gpg;
use crate::node::Node;
use crate::sysupdate::Sysupdate;
use crate::upstream::{FOREIGN, NAME, NATIVE};
use crate::web::Web;
use crate::workspace::Workspace;

const SIGNING: &str = "key = { file = \"signing.key\" }\nbest-before = \"14d\"";

/// Somebody else's repository.
struct Theirs {
    folder: TempDir,
    gpg: Gpg,
    make: &'static str,
    /// What their web server tells changes apart by is as coarse as a second.
    second: Cell<u64>,
}

impl Theirs {
    /// `None` where the machine lacks their tools.
    fn new(make: &'static str) -> Option<Self> {
        let program = make.split(' ').next().expect("a program");
        if Command::new(program).arg("--help").output().is_err() {
            eprintln!("skipped: this machine has no {program}");
            return None;
        }
        let gpg = Gpg::new()?;
        gpg.key("their <t@e.org>", "rsa3072", "sign");
        let folder = tempfile::tempdir().expect("a temporary folder");
        fs::create_dir(folder.path().join(NAME)).unwrap();
        Some(Self { folder, gpg, make, second: Cell::new(1_700_000_000) })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(NAME).join(name)
    }

    fn keyring(&self) -> Vec<u8> {
        self.gpg.run(&["--armor", "--export", "t@e.org"])
    }

    /// They release a version.
    fn release(&self, version: &str) {
        for arch in [NATIVE, FOREIGN] {
            let script = format!(
                r#"tree=$(mktemp -d); trap 'rm -r "$tree"' EXIT
                mkdir -p "$tree/usr/lib/extension-release.d" "$tree/usr/bin"
                printf 'ID=flatcar\nSYSEXT_LEVEL=1.0\nARCHITECTURE={arch}\n' >"$tree/usr/lib/extension-release.d/extension-release.{NAME}"
                printf '#!/bin/sh\necho {version}\n' >"$tree/usr/bin/{NAME}"
                chmod 755 "$tree" "$tree/usr/bin/{NAME}"
                cd {NAME}
                {}
"#,
                self.make.replace("IMAGE", &Sysupdate::image(version).replace(NATIVE, arch))
            );
            self.sh(&script);
        }
        self.list();
        let (manifest, signature) = (self.path("SHA256SUMS"), self.path("SHA256SUMS.gpg"));
        self.gpg.sign(&manifest, &signature, &["--local-user", "t@e.org"]);
    }

    fn list(&self) {
        self.second.set(self.second.get() + 1);
        let second = self.second.get();
        self.sh(&format!("cd {NAME}; sha256sum *.raw >SHA256SUMS; touch -d @{second} SHA256SUMS"));
    }

    fn sh(&self, script: &str) {
        let run =
            Command::new("bash").args(["-euc", script]).current_dir(self.folder.path()).output();
        let run = run.expect("bash runs");
        assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    }
}

/// A repository that mirrors theirs, and signs what is its own.
fn mirror(theirs: &Theirs, web: &Web, lines: &str) -> Workspace {
    let workspace = Workspace::new();
    workspace.sign(SIGNING);
    let (made, said) = workspace.run(&["key", "generate"]);
    assert!(made, "{said}");
    workspace.write("components/their.asc", theirs.keyring());
    let text = format!(
        "[source.repository]\nurl = \"{}/{NAME}/\"\nkeyring = \"their.asc\"\n{lines}\n",
        web.url()
    );
    workspace.write(&format!("components/{NAME}.toml"), text);
    workspace.sync();
    workspace
}

/// Over two versions, and back from a lie.
fn takes(theirs: &Theirs, lines: &str, keyring: impl Fn(&Workspace) -> PathBuf) {
    theirs.release("1.0.0");
    let upstream = Web::plain(theirs.folder.path());
    let workspace = mirror(theirs, &upstream, lines);
    let web = Web::plain(&workspace.public());
    let node = Node::new();
    let folder: &Path = &keyring(&workspace);
    node.show(folder, "keys");
    let client = Sysupdate::follow_signed(&node, web.url(), "/srv/keys/import-pubring.gpg");
    for version in ["1.0.0", "1.1.0"] {
        if version != "1.0.0" {
            theirs.release(version);
            workspace.sync();
        }
        client.update().unwrap_or_else(|said| panic!("{version} was refused:\n{said}"));
        assert_eq!(client.installed().1, Sysupdate::path(version));
        node.ok("systemd-sysext --no-reload refresh");
        assert_eq!(node.ok(&format!("/usr/bin/{NAME}")), format!("{version}\n"));
    }
    let (right, said) = workspace.run(&["verify"]);
    assert!(right && said.contains("signed by"), "{said}");

    // Somebody who is not them changes what they have: it does not get as far as the node.
    theirs.release("1.2.0");
    theirs.sh(&format!("echo x >>{NAME}/{}", Sysupdate::image("1.2.0")));
    theirs.list();
    let (synced, said) = workspace.run(&["sync"]);
    assert!(!synced && said.contains("does not fit"), "{said}");
    assert_eq!(client.check_new(), None);
    theirs.release("1.2.0");
    workspace.sync();
    assert_eq!(client.check_new().as_deref(), Some("1.2.0"));
    client.update().unwrap();
}

#[test]
#[ignore = "needs root and tests/real/setup"]
fn signed_by_us() {
    let ours = |workspace: &Workspace| workspace.public();
    for make in [
        r#"mksquashfs "$tree" IMAGE -quiet -noappend -all-root -no-xattrs"#,
        r#"mkfs.erofs --quiet IMAGE "$tree""#,
    ] {
        let Some(theirs) = Theirs::new(make) else { continue };
        takes(&theirs, "", ours);
    }
}

#[test]
#[ignore = "needs root and tests/real/setup"]
fn signed_by_them() {
    let make = r#"mksquashfs "$tree" IMAGE -quiet -noappend -all-root -comp zstd"#;
    let Some(theirs) = Theirs::new(make) else { return };
    let keys = tempfile::tempdir().expect("a temporary folder");
    let ring = theirs.gpg.run(&["--export", "t@e.org"]);
    fs::write(keys.path().join("import-pubring.gpg"), ring).unwrap();
    takes(&theirs, "verbatim = true", |_| keys.path().to_owned());
}

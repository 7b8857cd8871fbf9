//! A node with `Verify=yes`: it takes what every kind of key signed, and refuses every lie; and
//! `publish verify` gives each lie its name.

use std::fs;
use std::path::PathBuf;

use crate::gpg::Gpg;
use crate::node::Node;
use crate::sysupdate::Sysupdate;
use crate::upstream::{NAME, NATIVE};
use crate::web::Web;
use crate::workspace::{ANY, Workspace, read};

const KEY: &str = "key = { file = \"signing.key\" }";

/// A repository that holds version 1.0.0, signed with the key that `key` puts there.
fn published(key: impl FnOnce(&Workspace)) -> Workspace {
    let workspace = Workspace::new();
    workspace.component(NAME, ANY);
    workspace.sign(&format!("{KEY}\nbest-before = \"14d\""));
    key(&workspace);
    workspace.publish_version("1.0.0");
    workspace
}

fn generated(more: &'static [&'static str]) -> impl FnOnce(&Workspace) {
    move |workspace| {
        let (made, said) = workspace.run(&[&["key", "generate"], more].concat());
        assert!(made, "{said}");
    }
}

/// A node that knows the keyring in the repository's root, and follows over `web`.
fn follow<'n>(workspace: &Workspace, node: &'n Node, web: &Web) -> Sysupdate<'n> {
    node.show(&workspace.public(), "published");
    Sysupdate::follow_signed(node, web.url(), "/srv/published/import-pubring.gpg")
}

/// Over two versions.
fn takes(what: &str, workspace: &Workspace) {
    let web = Web::plain(&workspace.public());
    let node = Node::new();
    let client = follow(workspace, &node, &web);
    for version in ["1.0.0", "1.1.0"] {
        if version != "1.0.0" {
            workspace.publish_version(version);
        }
        client.update().unwrap_or_else(|said| panic!("{what}: {version} was refused:\n{said}"));
        assert_eq!(client.installed().1, Sysupdate::path(version), "{what}");
    }
    let (right, said) = workspace.run(&["verify"]);
    assert!(right && said.contains("signed by"), "{what}: {said}");
}

#[test]
#[ignore = "needs root and tests/real/setup"]
fn with_keys_of_ours() {
    takes("Ed25519", &published(generated(&[])));
    takes("RSA", &published(generated(&["--rsa"])));
}

#[test]
#[ignore = "needs root and tests/real/setup"]
fn with_keys_of_gpg() {
    let Some(gpg) = Gpg::new() else { return };
    let offline = gpg.key("offline <o@e.org>", "ed25519", "cert");
    gpg.run(&["--quick-add-key", &offline, "ed25519", "sign", "never"]);
    gpg.key("rsa <r@e.org>", "rsa4096", "sign");
    let locked = ["--passphrase", "a secret"];
    let make = ["--quick-generate-key", "locked <l@e.org>", "nistp256", "sign", "never"];
    gpg.run(&[&locked[..], &make].concat());
    for (how, user) in [("--export-secret-subkeys", "o@e.org"), ("--export-secret-keys", "r@e.org")]
    {
        let key = gpg.run(&["--armor", how, user]);
        takes(user, &published(|workspace| workspace.write("signing.key", key)));
    }
    let key = gpg.run(&[&locked[..], &["--export-secret-keys", "l@e.org"]].concat());
    takes(
        "a passphrase",
        &published(|workspace| {
            workspace.write("signing.key", key);
            workspace.write("passphrase", "a secret\n");
            workspace.sign(&format!("{KEY}\npassphrase = {{ file = \"passphrase\" }}"));
        }),
    );
}

#[test]
#[ignore = "needs root and tests/real/setup"]
fn over_the_rotation_of_a_key() {
    let workspace = published(generated(&[]));
    let (made, said) = workspace.run(&["key", "generate", "--output", "next.key"]);
    assert!(made, "{said}");
    workspace.sign("key = { file = \"next.key\" }");
    let (made, said) = workspace.run(&["key", "export", "--output", "next.pub"]);
    assert!(made, "{said}");

    workspace.sign(&format!("{KEY}\nkeyring = [\"next.pub\"]"));
    workspace.sync();
    let web = Web::plain(&workspace.public());
    let node = Node::new();
    let client = follow(&workspace, &node, &web);
    client.update().expect("signed with the old key, and both are known");
    let old = &["key", "export", "--key", "signing.key", "--output", "old.pub"];
    let (made, said) = workspace.run(old);
    assert!(made, "{said}");
    // What the old key signed is known by its public half.
    workspace.sign("key = { file = \"next.key\" }\nkeyring = [\"old.pub\"]");
    workspace.publish_version("1.1.0");
    client.update().expect("signed with the next key, and both are known");
    assert_eq!(client.installed().1, Sysupdate::path("1.1.0"));
}

#[test]
#[ignore = "needs root and tests/real/setup"]
fn every_lie_is_refused_and_has_a_name() {
    let workspace = published(generated(&[]));
    let folder = workspace.public().join(NAME);
    let path = |name: &str| -> PathBuf { folder.join(name) };
    let signatures = [path("SHA256SUMS.gpg"), path("SHA256SUMS.sha256.asc")];
    let manifest = path("SHA256SUMS");
    let image = workspace.image(NAME, "1.0.0", NATIVE);
    let originals: Vec<_> = signatures
        .iter()
        .chain([&manifest, &image])
        .map(|file| (file.clone(), read(file)))
        .collect();
    let other = published(generated(&[]));
    let flip = |file: &PathBuf, at: usize| {
        let mut bytes = read(file);
        let at = if at == usize::MAX { bytes.len() - 1 } else { at };
        bytes[at] ^= 1;
        fs::write(file, bytes).unwrap();
    };

    let lies: [(&str, &str, &dyn Fn()); 6] = [
        ("an image that was changed", "has SHA-256", &|| flip(&image, usize::MAX)),
        ("a manifest that was changed", "does not fit", &|| {
            // The image is what the manifest says: only the signature tells.
            flip(&image, usize::MAX);
            let text = String::from_utf8(read(&manifest)).unwrap();
            let digest = |bytes: &[u8]| publish::name::Sha256::of(bytes).to_string();
            let old = digest(&originals.last().unwrap().1);
            fs::write(&manifest, text.replace(&old, &digest(&read(&image)))).unwrap();
        }),
        ("a signature that was changed", "does not fit", &|| {
            flip(&signatures[0], usize::MAX);
            // systemd 262 would read this one first.
            fs::remove_file(&signatures[1]).unwrap();
        }),
        ("no signature", "is missing: nodes with Verify=yes refuse", &|| {
            for file in &signatures {
                fs::remove_file(file).unwrap();
            }
        }),
        ("a signature of another key", "is by another key", &|| {
            // Over the very same manifest, so that it is the key alone.
            fs::write(other.public().join(NAME).join("SHA256SUMS"), read(&manifest)).unwrap();
            let (adopted, said) = other.run(&["sync", "--adopt"]);
            assert!(adopted, "{said}");
            for file in &signatures {
                let name = file.file_name().unwrap();
                fs::write(file, read(&other.public().join(NAME).join(name))).unwrap();
            }
        }),
        ("two signatures", "has 2 signatures", &|| {
            let twice =
                [read(&signatures[0]), read(&other.public().join(NAME).join("SHA256SUMS.gpg"))];
            fs::write(&signatures[0], twice.concat()).unwrap();
            fs::remove_file(&signatures[1]).unwrap();
        }),
    ];
    for (what, name, lie) in lies {
        lie();
        let web = Web::plain(&workspace.public());
        let node = Node::new();
        let client = follow(&workspace, &node, &web);
        client.update().expect_err(what);
        assert!(!node.has(&Sysupdate::path("1.0.0")), "{what} was installed");
        assert!(!node.has(&format!("/etc/extensions/{NAME}.raw")), "{what}");
        for target in [&["verify"][..], &["verify", web.url()]] {
            let (right, said) = workspace.run(target);
            assert!(!right && said.contains(name), "{what}: {said}");
        }
        for (file, bytes) in &originals {
            fs::write(file, bytes).unwrap();
        }
        // It was the lie, and nothing else; as the units of `publish client` go on after a failure.
        client.vacuum();
        client.update().unwrap_or_else(|said| panic!("after {what}: {said}"));
    }
}

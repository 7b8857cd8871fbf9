//! Images with a hash tree and a signature, read by those who made the format: systemd-dissect of this
//! machine and of the node, veritysetup, systemd-repart, openssl; and merged under an image policy.
//!
//! A kernel without the device mapper cannot use a hash tree, and systemd-sysext then refuses a signed image.
//! What a node needs that for is left out there, and the rest is tested.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output};

use publish::image::disk::verity::Tree;
use serde_json::Value;

use crate::node::Node;
use crate::sysupdate::Sysupdate;
use crate::upstream::{NAME, NATIVE, greeting};
use crate::workspace::{ANY, Workspace};

const SIGNED: &str = "[image]\nverity = { key = { file = \"../verity.key\" }, certificate = { file = \"../verity.crt\" } }\n";

/// A repository with one image.
struct Made {
    workspace: Workspace,
    image: PathBuf,
}

impl Made {
    fn new(section: &str) -> Self {
        let workspace = Workspace::new();
        let folder = workspace.public().parent().expect("it is in the workspace").to_owned();
        run(Command::new("openssl").current_dir(&folder).args([
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-keyout",
            "verity.key",
            "-out",
            "verity.crt",
            "-days",
            "30",
            "-subj",
            "/CN=greeter images",
        ]));
        fs::set_permissions(folder.join("verity.key"), fs::Permissions::from_mode(0o600)).unwrap();
        workspace.component(NAME, ANY);
        let path = folder.join(format!("components/{NAME}.toml"));
        let text = fs::read_to_string(&path).unwrap();
        fs::write(path, format!("{text}\n{section}")).unwrap();
        workspace.publish_version("1.0.0");
        let image = workspace.image(NAME, "1.0.0", NATIVE);
        Self { workspace, image }
    }

    fn beside(&self, name: &str) -> PathBuf {
        self.workspace.public().with_file_name(name)
    }

    /// The bytes of each partition.
    fn partitions(&self) -> Vec<Vec<u8>> {
        let image = fs::read(&self.image).unwrap();
        let long = |at: usize| u64::from_le_bytes(image[at..at + 8].try_into().unwrap());
        let bytes = |sector: u64| usize::try_from(sector * 512).unwrap();
        let rows = (0..3).map(|row| 1024 + 128 * row).filter(|at| image[*at] != 0);
        rows.map(|at| image[bytes(long(at + 32))..bytes(long(at + 40) + 1)].to_vec()).collect()
    }

    fn root_hash(&self) -> String {
        let (_, said) = self.workspace.run(&["inspect", "--json", self.image.to_str().unwrap()]);
        let shown: Value = serde_json::from_str(&said).unwrap();
        shown["verity"]["root_hash"].as_str().expect("it has one").to_owned()
    }
}

#[track_caller]
fn run(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().expect("the program runs");
    let text = String::from_utf8_lossy(&stdout).into_owned();
    assert!(status.success(), "{command:?}: {text}{}", String::from_utf8_lossy(&stderr));
    text
}

/// What a line of `veritysetup` says behind its title.
fn line<'t>(text: &'t str, title: &str) -> &'t str {
    let line = text.lines().find_map(|line| line.strip_prefix(title));
    line.unwrap_or_else(|| panic!("there is no `{title}` in {text}")).trim()
}

/// Tree and root hash, by the tool whose format it is.
#[test]
#[ignore = "needs root and tests/real/setup"]
fn veritysetup_makes_the_same_tree_and_finds_what_was_changed() {
    for format in ["squashfs", "erofs"] {
        compare_trees(format);
    }
}

fn compare_trees(format: &str) {
    let made = Made::new(&format!("[image]\nformat = \"{format}\"\nverity = true\n"));
    let [data, hashes] = &made.partitions()[..] else { panic!("there are two") };
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::write(at("data"), data).unwrap();
    fs::write(at("hashes"), hashes).unwrap();
    let dump = run(Command::new("veritysetup").arg("dump").arg(at("hashes")));
    let [salt, uuid] = ["Salt:", "UUID:"].map(|title| line(&dump, title));
    let mut format = Command::new("veritysetup");
    format.arg("format").args([at("data"), at("theirs")]);
    format.args([format!("--salt={salt}"), format!("--uuid={uuid}")]);
    let root = made.root_hash();
    assert_eq!(line(&run(&mut format), "Root hash:"), root);
    assert!(fs::read(at("theirs")).unwrap() == *hashes, "the trees differ");

    let verify = || {
        let mut verify = Command::new("veritysetup");
        verify.arg("verify").args([at("data"), at("hashes")]).arg(&root);
        verify.status().unwrap().success()
    };
    assert!(verify());
    let mut changed = data.clone();
    changed[5000] ^= 1;
    fs::write(at("data"), changed).unwrap();
    assert!(!verify());
}

/// A loop device, until it goes.
struct Device(String);

impl Drop for Device {
    fn drop(&mut self) {
        run(Command::new("losetup").args(["--detach", &self.0]));
    }
}

/// The tree by systemd's own builder of images, with its salt, over the same file system.
#[test]
#[ignore = "needs root and tests/real/setup"]
fn repart_makes_the_same_tree() {
    let made = Made::new("[image]\nverity = true\n");
    let [data, hashes] = &made.partitions()[..] else { panic!("there are two") };
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::write(at("data"), data).unwrap();
    fs::create_dir(at("definitions")).unwrap();
    for (name, kind, size, more) in [
        ("1.conf", "root", data.len(), format!("CopyBlocks={}\nVerity=data", at("data").display())),
        ("2.conf", "root-verity", hashes.len(), "Verity=hash".to_owned()),
    ] {
        let text = format!(
            "[Partition]\nType={kind}\nVerityMatchKey=x\nSizeMinBytes={size}\nSizeMaxBytes={size}\n{more}\n"
        );
        fs::write(at("definitions").join(name), text).unwrap();
    }
    // Blocks of hashes have the size of the device's sectors in older ones.
    let mib = (data.len() + hashes.len()).div_ceil(1 << 20) + 4;
    File::create(at("theirs.raw")).unwrap().set_len((mib as u64) << 20).unwrap();
    let mut losetup = Command::new("losetup");
    losetup.args(["--sector-size=4096", "--show", "--find"]).arg(at("theirs.raw"));
    let device = Device(run(&mut losetup).trim().to_owned());
    let mut repart = Command::new("systemd-repart");
    repart.args(["--empty=allow", "--dry-run=no", "--json=short"]);
    repart.arg(format!("--definitions={}", at("definitions").display())).arg(&device.0);
    let said: Value = serde_json::from_str(&run(&mut repart)).unwrap();
    let theirs =
        said.as_array().unwrap().iter().find(|part| part["type"] != said[0]["type"]).unwrap();
    drop(device);
    let image = fs::read(at("theirs.raw")).unwrap();
    let start = usize::try_from(theirs["offset"].as_u64().unwrap()).unwrap();
    let theirs_hashes = &image[start..start + hashes.len()];
    let length = usize::from(u16::from_le_bytes([theirs_hashes[80], theirs_hashes[81]]));
    let tree = Tree::of(&mut &data[..], &theirs_hashes[88..88 + length]).unwrap();
    let ours: Vec<u8> = tree.bytes().flatten().copied().collect();
    assert!(ours == theirs_hashes[4096..], "the trees differ");
    let bytes = (0..64).step_by(2).map(|at| {
        u8::from_str_radix(&theirs["roothash"].as_str().unwrap()[at..at + 2], 16).unwrap()
    });
    assert!(bytes.eq(tree.root), "the root hashes differ");
}

/// The signature, by the tool that everybody makes them with: it makes the same, and takes ours.
#[test]
#[ignore = "needs root and tests/real/setup"]
fn openssl_makes_the_same_signature() {
    let made = Made::new(SIGNED);
    let part = &made.partitions()[2];
    let text = part.split(|byte| *byte == 0).next().unwrap();
    let statement: Value = serde_json::from_slice(text).unwrap();
    let root = made.root_hash();
    assert_eq!(statement["rootHash"], root);
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::write(at("root"), &root).unwrap();
    let mut sign = Command::new("openssl");
    sign.args(["smime", "-sign", "-noattr", "-binary", "-outform", "der"]);
    sign.arg("-in").arg(at("root")).arg("-inkey").arg(made.beside("verity.key"));
    sign.arg("-signer").arg(made.beside("verity.crt")).arg("-out").arg(at("theirs"));
    run(&mut sign);
    let theirs = run(Command::new("base64").arg("-w0").arg(at("theirs")));
    assert_eq!(statement["signature"], theirs);
    let mut verify = Command::new("openssl");
    verify.args(["smime", "-verify", "-binary", "-inform", "der", "-purpose", "any"]);
    verify.arg("-in").arg(at("theirs")).arg("-content").arg(at("root"));
    verify.arg("-CAfile").arg(made.beside("verity.crt"));
    assert_eq!(run(&mut verify), root);
    let der = run(Command::new("openssl")
        .args(["x509", "-noout", "-fingerprint", "-sha256"])
        .arg("-in")
        .arg(made.beside("verity.crt")));
    let fingerprint = der.split('=').nth(1).unwrap().trim().replace(':', "").to_lowercase();
    assert_eq!(statement["certificateFingerprint"], fingerprint);
}

fn dissected(text: &str, verity: &str, system: &str) {
    let shown: Value = serde_json::from_str(text).unwrap();
    let mounts = shown["mounts"].as_array().expect("it has partitions");
    let words: Vec<_> = mounts.iter().map(|it| it["designator"].as_str().unwrap()).collect();
    let all = ["root", "root-verity", "root-verity-sig"];
    assert_eq!(words, all[..words.len()], "{text}");
    assert_eq!(mounts[0]["verity"], verity, "{text}");
    assert_eq!(mounts[0]["fstype"], system, "{text}");
    assert_eq!(mounts[0]["rw"], "ro", "{text}");
}

#[test]
#[ignore = "needs root and tests/real/setup"]
fn both_systemds_take_it_apart_and_see_what_protects_it() {
    for (section, policy, system) in [
        ("[image]\nverity = true\n", "root=verity", "squashfs"),
        (SIGNED, "root=signed", "squashfs"),
        ("[image]\nformat = \"erofs\"\nverity = true\n", "root=verity", "erofs"),
    ] {
        let made = Made::new(section);
        let node = Node::new();
        node.show(&made.workspace.public(), "repository");
        let shown = format!("/srv/repository/{NAME}/{NAME}-1.0.0-{NATIVE}.raw");
        let check = |told: &str, verity: &str| {
            let mut dissect = Command::new("systemd-dissect");
            dissect.arg("--json=short").args(told.split_whitespace()).arg(&made.image);
            dissected(&run(&mut dissect), verity, system);
            let theirs = node.ok(&format!("systemd-dissect --json=short {told} {shown}"));
            dissected(&theirs, verity, system);
        };
        // Without a signature, a tree counts for who has its root hash.
        if section == SIGNED {
            check("", "signed");
        } else {
            check("", "no");
            check(&format!("--root-hash={}", made.root_hash()), "yes");
        }
        node.ok(&format!("systemd-dissect --validate --image-policy={policy} {shown}"));
        node.ok(&format!("! systemd-dissect --validate --image-policy=root=absent {shown}"));
    }
}

#[test]
#[ignore = "needs root and tests/real/setup"]
fn a_node_follows_it_and_merges_it_under_a_policy() {
    let made = Made::new(SIGNED);
    let node = Node::new();
    node.show(&made.workspace.public(), "repository");
    node.ok("mkdir -p /etc/verity.d");
    let client = Sysupdate::follow(&node, "file:///srv/repository");
    client.update().unwrap();
    assert_eq!(client.installed().1, Sysupdate::path("1.0.0"));
    // What has a hash tree may be merged with it, or without the root hash that only a signature tells.
    node.ok("systemd-sysext --no-reload --image-policy=root=verity merge");
    assert_eq!(node.greet(), greeting("1.0.0", NATIVE));
    node.ok("systemd-sysext --no-reload unmerge");
    // What asks for a bare file system does not get this one for it.
    node.ok("! systemd-sysext --no-reload --image-policy=root=absent merge");
    assert!(!node.has("/usr/bin/greeter"));
    if !fs::read_to_string("/proc/misc").unwrap().contains("device-mapper") {
        return;
    }
    let (_, pem) = made.workspace.run(&["client", NAME, "--format", "script"]);
    assert!(pem.contains("/etc/verity.d/"), "{pem}");
    let certificate = fs::read_to_string(made.beside("verity.crt")).unwrap();
    node.ok(&format!("cat >/etc/verity.d/greeter.crt <<'end'\n{certificate}end"));
    node.ok("systemd-sysext --no-reload --image-policy=root=signed merge");
    assert_eq!(node.greet(), greeting("1.0.0", NATIVE));
    node.ok("systemd-sysext --no-reload unmerge");
}

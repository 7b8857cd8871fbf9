//! The project's own catalogue: every component of `config/components`, built from what its upstream's
//! releases look like.
//!
//! `catalog/NAME.toml` has the layout of an upstream: the names of its files, what is in them, and
//! where they are. It is written from the upstream's releases, not from the component's file, so that
//! one finds mistakes of the other. The images are told in `snapshots/it__catalog__NAME.snap`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Deserialize;
use tempfile::TempDir;

use crate::github::{GitHub, Release};
use crate::gpg::Gpg;
use crate::matrix::{fleet, published};
use crate::pack::{Tar, zip};
use crate::repo::{Image, Node, Repo};
use crate::web::{Web, sha256};

/// systemd's names, and how ELF calls their machines.
const MACHINES: [(&str, u8); 2] = [("x86-64", 62), ("arm64", 183)];

/// What an upstream has.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Layout {
    /// Whose upstream it is; left out, the component called like the file.
    #[serde(default)]
    components: Vec<String>,
    /// Pages that list versions.
    #[serde(default, rename = "page")]
    pages: Vec<Page>,
    #[serde(rename = "release")]
    releases: Vec<Published>,
    /// What `{arch}` stands for in the paths of members.
    #[serde(default)]
    arch: BTreeMap<String, String>,
    /// Members whose text matters, as far as it does.
    #[serde(default)]
    text: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Page {
    url: String,
    text: String,
}

/// A release on GitHub, or a folder of a web server.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Published {
    github: Option<String>,
    #[serde(default)]
    tag: String,
    #[serde(default)]
    at: String,
    #[serde(default, rename = "asset")]
    assets: Vec<Asset>,
    /// Files with the checksums of all assets.
    #[serde(default)]
    sums: Vec<String>,
    /// The key in `config/components` that the first of them is signed with, in `….sig`.
    signed: Option<String>,
}

/// A file for each architecture, or one for all.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Asset {
    x86_64: Option<String>,
    arm64: Option<String>,
    any: Option<String>,
    /// What is in it, as `ls -F` writes it: `program*`, `folder/`, `link@ -> target`. Without, it is a
    /// program.
    members: Option<String>,
    /// What its own checksum file has behind its name.
    sum: Option<String>,
}

impl Layout {
    fn read(path: &Path) -> Self {
        toml::from_str(&fs::read_to_string(path).unwrap())
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// The files of a release: names and bytes.
    fn files(&self, release: &Published, signers: Option<&Signers>) -> Vec<(String, Vec<u8>)> {
        let mut files = Vec::new();
        for asset in &release.assets {
            let names = [&asset.x86_64, &asset.arm64].into_iter().zip(MACHINES);
            let any = asset.any.iter().map(|name| (name, ("any", 0)));
            let each = names.filter_map(|(name, machine)| Some((name.as_ref()?, machine)));
            for (name, (arch, machine)) in each.chain(any) {
                files.push((name.clone(), self.pack(name, asset, arch, machine)));
            }
        }
        let sum = |(name, bytes): &(String, Vec<u8>)| {
            format!("{}  {}\n", sha256(bytes), name.rsplit('/').next().unwrap())
        };
        let all: String = files.iter().map(sum).collect();
        let own = |name: &str| {
            let named = |asset: &&Asset| {
                [&asset.x86_64, &asset.arm64, &asset.any].into_iter().flatten().any(|n| n == name)
            };
            release.assets.iter().find(named).and_then(|asset| asset.sum.clone())
        };
        let beside: Vec<_> = files
            .iter()
            .filter_map(|file| Some((format!("{}{}", file.0, own(&file.0)?), sum(file).into())))
            .collect();
        files.extend(beside);
        files.extend(release.sums.iter().map(|name| (name.clone(), all.clone().into())));
        if let (Some(key), Some(signers)) = (&release.signed, signers) {
            files.push((format!("{}.sig", release.sums[0]), signers.sign(key, &all)));
        }
        files
    }

    fn pack(&self, name: &str, asset: &Asset, arch: &str, machine: u8) -> Vec<u8> {
        let Some(members) = &asset.members else { return program(name, machine) };
        let theirs = self.arch.get(arch).map_or("", String::as_str);
        let content = |line: &str| {
            let path = line.trim_end_matches('*');
            match self.text.get(path) {
                Some(text) => text.clone().into_bytes(),
                None if line.ends_with('*') && ending(path) != "sh" => program(path, machine),
                None if ending(path) == "sh" => b"#!/bin/sh\n".to_vec(),
                None => format!("{path}\n").into_bytes(),
            }
        };
        let members = members.lines().map(|line| (line.replace("{arch}", theirs), content(line)));
        if ending(name) == "zip" {
            let files: Vec<_> = members.collect();
            let mode = |line: &str| if line.ends_with('*') { 0o755 } else { 0o644 };
            let files =
                files.iter().map(|(line, bytes)| (line.trim_end_matches('*'), mode(line), bytes));
            return zip(&files.collect::<Vec<_>>());
        }
        let tar = members.fold(Tar::new(), |tar, (line, content)| {
            if let Some((path, target)) = line.split_once("@ -> ") {
                tar.symlink(path, target)
            } else if line.ends_with('/') {
                tar.folder(&line)
            } else if let Some(path) = line.strip_suffix('*') {
                tar.file(path, 0o755, content)
            } else {
                tar.file(&line, 0o644, content)
            }
        });
        match ending(name) {
            "gz" | "tgz" => tar.gz(),
            "xz" => tar.xz(),
            "zst" => tar.zst(),
            "tbz" => tar.bz2(),
            "deb" => tar.deb(),
            _ => panic!("{name}: what archive is it?"),
        }
    }
}

/// What is behind the last dot of a name.
fn ending(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or_default()
}

/// The start of a static program for a machine, and its name.
pub fn program(name: &str, machine: u8) -> Vec<u8> {
    if machine == 0 {
        return name.into();
    }
    // System V ABI, "ELF Header": 64 bits, little-endian, an executable without any table.
    let mut bytes = vec![0; 64];
    bytes[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    bytes[16] = 2;
    bytes[18] = machine;
    bytes[20] = 1;
    bytes[52] = 64;
    bytes.extend(name.bytes());
    bytes
}

/// Upstreams that sign: with keys of ours in the place of theirs, by OpenPGP (`.asc`) or as cosign does
/// with a key (`.pub`).
struct Signers {
    gpg: Gpg,
    folder: TempDir,
}

impl Signers {
    /// `None` where the machine lacks a program for it.
    fn new() -> Option<Self> {
        let signers = Self { gpg: Gpg::new()?, folder: tempfile::tempdir().unwrap() };
        signers.gpg.key("Upstream <up@e.org>", "ed25519", "sign");
        let curve = ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out"];
        Self::openssl(&[&["genpkey"], &curve[..], &[&signers.path("key.pem")]].concat())?;
        Some(signers)
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    fn openssl(args: &[&str]) -> Option<Vec<u8>> {
        let output = Command::new("openssl").args(args).stderr(Stdio::null()).output().ok()?;
        output.status.success().then_some(output.stdout)
    }

    fn sign(&self, key: &str, text: &str) -> Vec<u8> {
        let (file, to) = (self.path("text"), self.path("signature"));
        fs::write(&file, text).unwrap();
        if ending(key) == "asc" {
            self.gpg.sign(file.as_ref(), to.as_ref(), &["--local-user", "up@e.org"]);
            return fs::read(to).unwrap();
        }
        let signature = Self::openssl(&["dgst", "-sha256", "-sign", &self.path("key.pem"), &file]);
        BASE64.encode(signature.expect("openssl signs")).into()
    }

    fn public(&self, key: &str) -> Vec<u8> {
        if ending(key) == "asc" {
            return self.gpg.run(&["--export", "--armor", "up@e.org"]);
        }
        let key = Self::openssl(&["pkey", "-pubout", "-in", &self.path("key.pem")]);
        key.expect("openssl has the key")
    }
}

/// The project's own configuration in a folder, and all its upstreams.
struct Bench {
    repo: Repo,
    _web: Web,
    _github: GitHub,
}

impl Bench {
    fn new(layouts: &[Layout]) -> Self {
        let (web, github, mut repo) = (Web::start(), GitHub::start(), Repo::empty());
        let signers = Signers::new();
        repo.env("GITHUB_API_URL", &github.api());
        let mut hosts = BTreeMap::from([("https://github.com/".to_owned(), github.web())]);
        let mut put = |url: &str, bytes: Vec<u8>| {
            let path = url.strip_prefix("https:/").expect("upstreams have https");
            let host = path.split('/').nth(1).unwrap();
            hosts.insert(format!("https://{host}/"), format!("{}/{host}", web.url()));
            web.put(path, bytes);
        };
        for layout in layouts {
            for page in &layout.pages {
                put(&page.url, page.text.clone().into_bytes());
            }
            for release in &layout.releases {
                let files = layout.files(release, signers.as_ref());
                match &release.github {
                    Some(repo) => {
                        let new = Release::new(&release.tag);
                        let add = |release: Release, (name, bytes)| release.asset(name, bytes);
                        let pairs =
                            files.iter().map(|(name, bytes)| (name.as_str(), bytes.clone()));
                        github.release(repo, pairs.fold(new, add));
                    }
                    None => files
                        .into_iter()
                        .for_each(|(name, bytes)| put(&format!("{}{name}", release.at), bytes)),
                }
            }
        }
        let rewrite: Vec<_> =
            hosts.iter().map(|(from, to)| format!("\"{from}\" = \"{to}/\"")).collect();
        let catalog = fs::read_to_string(config().join("catalog.toml")).unwrap();
        repo.write(
            "config/catalog.toml",
            format!("{catalog}\n[network]\nrewrite = {{ {} }}\n", rewrite.join(", ")),
        );
        let mut copy = Command::new("cp");
        copy.arg("-r").arg(config().join("components")).arg(repo.path("config/components"));
        assert!(copy.status().unwrap().success());
        let keys: BTreeSet<_> = layouts
            .iter()
            .flat_map(|layout| layout.releases.iter().filter_map(|release| release.signed.as_ref()))
            .collect();
        for key in keys {
            let file = format!("config/components/{key}");
            assert!(repo.path(&file).exists(), "{key} is not there to be replaced");
            match &signers {
                Some(signers) => repo.write(&file, signers.public(key)),
                None => leave_signatures_out(&repo),
            }
        }
        Self { repo, _web: web, _github: github }
    }

    fn publish(&self, args: &[&str]) -> crate::repo::Ran {
        self.repo.publish(&[&["--config", "config/catalog.toml"], args].concat())
    }
}

/// Where nobody can sign, nothing is asked of signatures.
fn leave_signatures_out(repo: &Repo) {
    eprintln!("signatures are left out: this machine has no gpg or no openssl");
    for name in stems(&repo.path("config/components")) {
        let file = format!("config/components/{name}.toml");
        let text = fs::read_to_string(repo.path(&file)).unwrap();
        let lines = text.lines().filter(|line| !line.starts_with("signature = "));
        repo.write(&file, lines.flat_map(|line| [line, "\n"]).collect::<String>());
    }
}

fn config() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("config")
}

/// The stems of the TOML files of a folder.
fn stems(folder: &Path) -> BTreeSet<String> {
    let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let files = paths.filter(|path| path.extension().is_some_and(|end| end == "toml"));
    files.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect()
}

/// All upstreams, and the components that they are described for.
fn layouts() -> (Vec<Layout>, BTreeSet<String>) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/catalog");
    let mut layouts = Vec::new();
    let mut described = BTreeSet::new();
    for stem in stems(&folder) {
        let layout = Layout::read(&folder.join(format!("{stem}.toml")));
        described.extend(layout.components.iter().cloned());
        if layout.components.is_empty() {
            described.insert(stem);
        }
        layouts.push(layout);
    }
    (layouts, described)
}

#[test]
fn four_machines_build_what_one_builds() {
    let bench = Bench::new(&layouts().0);
    let names = stems(&config().join("components"));
    let plain: Vec<String> =
        names.into_iter().filter(|name| !document(name).contains_key("build")).collect();
    let only = plain.join(",");
    let text = fs::read_to_string(bench.repo.path("config/catalog.toml")).unwrap();
    for (file, store) in [("builder", "s3://nobody-reaches-it/x"), ("plain", "../plain")] {
        let text = text.replace("store = \"../public\"", &format!("store = \"{store}\""));
        assert!(text.contains(store));
        bench.repo.write(&format!("config/{file}.toml"), text);
    }
    let planned = ["plan", "--matrix", "--staged", "staged", "--only", &only];
    let matrix = bench.publish(&planned).ok();
    let matrix: serde_json::Value = serde_json::from_str(&matrix.stdout).unwrap();
    let jobs = matrix["include"].as_array().unwrap();
    assert!(jobs.len() >= plain.len(), "{}", jobs.len());
    fleet(jobs, &bench.repo, |job, to| {
        let job = job["job"].as_str().unwrap();
        let config = ["--config", "config/builder.toml"];
        bench.repo.command(&[&config[..], &["build", "--staged", to, "--job", job]].concat())
    });
    let lock = bench.repo.path("config/publish.lock");
    assert!(!lock.exists());
    bench.publish(&["sync", "--staged", "staged", "--only", &only]).ok();
    let locked = fs::read_to_string(&lock).ok();
    let _ = fs::remove_file(&lock);
    bench.repo.publish(&["--config", "config/plain.toml", "sync", "--only", &only]).ok();
    assert_eq!(fs::read_to_string(&lock).ok(), locked);
    let (staged, one) =
        (published(&bench.repo.path("public")), published(&bench.repo.path("plain")));
    assert_eq!(staged.keys().collect::<Vec<_>>(), one.keys().collect::<Vec<_>>());
    for (path, bytes) in &one {
        assert!(staged[path] == *bytes, "{path} is another one");
    }
}

#[test]
fn every_component_becomes_what_is_told_of_it() {
    let (layouts, described) = layouts();
    let names = stems(&config().join("components"));
    assert_eq!(
        described, names,
        "each component has its upstream's layout, and the other way round"
    );

    let bench = Bench::new(&layouts);
    // What a command makes in a container, only a machine with one can build.
    let (made, plain): (BTreeSet<&String>, BTreeSet<&String>) =
        names.iter().partition(|name| document(name).contains_key("build"));
    let only = |names: &BTreeSet<&String>| {
        names.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(",")
    };
    let (made, only_plain) = (only(&made), only(&plain));
    let ran = bench.publish(&["sync", "--only", &only_plain]).ok();
    assert!(!ran.stderr.contains("warning") && !ran.stderr.contains("error"), "{ran}");
    let status = bench.publish(&["status", "--only", &only_plain]).ok();
    assert!(!status.stdout.contains("unverified"), "something vouches for each\n{status}");
    bench.publish(&["verify", "--only", &only_plain]).ok();
    bench.publish(&["sync", "--only", &only_plain]).ok().prints(&["nothing to do"]);
    let planned = bench.publish(&["plan", "--only", &made]).ok();
    assert!(!planned.stdout.contains("unverified"), "something vouches for each\n{planned}");
    for name in made.split(',') {
        let of_it = planned.stdout.split(&format!("{name}: ")).nth(1).unwrap_or_default();
        let of_it = of_it.split("\n  made by ./build.sh in docker.io/library/").next();
        let images: Vec<_> = of_it.unwrap_or_default().lines().skip(1).collect();
        assert_eq!(images.len(), MACHINES.len(), "{name}: one version for each machine\n{planned}");
        let script = config().join(format!("components/{name}/build.sh"));
        assert_eq!(fs::metadata(&script).unwrap().permissions().mode() & 0o111, 0o111, "{name}");
    }

    let folders: BTreeMap<_, _> = plain.iter().map(|name| (name, folder_of(name))).collect();
    for (name, folder) in folders {
        let told = tell(&bench.repo, &folder);
        insta::assert_snapshot!(name.as_str(), told);
        let test = document(name)["test"]["run"][0].as_str().unwrap().to_owned();
        assert!(told.contains(&test), "{name} is tested with `{test}`, which it has not");
    }
}

#[test]
fn the_page_about_it_leaves_none_out() {
    let page = config().parent().unwrap().join("docs/catalog.md");
    let page = fs::read_to_string(page).unwrap();
    let (_, checked) = page.split_once("## What verifies each").expect("the page has its sections");
    for name in stems(&config().join("components")) {
        let link = format!("[`{name}`](../config/components/{name}.toml)");
        assert!(page.contains(&link), "{name} is not in the table of what there is");
        let times = checked.matches(&format!("`{name}`")).count();
        assert!(times >= 1, "{name} is not in the table of what verifies each");
    }
}

/// A component's file.
fn document(name: &str) -> toml::Table {
    let text = fs::read_to_string(config().join(format!("components/{name}.toml"))).unwrap();
    toml::from_str(&text).unwrap()
}

/// The folder of a component in the repository.
fn folder_of(name: &str) -> String {
    document(name).get("path").map_or(name, |path| path.as_str().unwrap()).to_owned()
}

/// The images of a folder, and what is in them: once where all architectures have the same.
fn tell(repo: &Repo, folder: &str) -> String {
    let mut images: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for name in repo.listed(folder) {
        let (arch, machine) = MACHINES
            .into_iter()
            .find(|(arch, _)| name.ends_with(&format!("-{arch}.raw")))
            .expect("an image is for one of them");
        let contents = contents(&repo.image(folder, &name), arch, machine);
        images.entry(contents).or_default().push(name);
    }
    let mut told = String::new();
    for (contents, names) in images {
        let (first, rest) = names.split_first().unwrap();
        assert_eq!(rest.len() + 1, MACHINES.len(), "{first} differs from its other architecture");
        writeln!(told, "{}\n{contents}", names.join(" ")).unwrap();
    }
    told
}

/// Every file with its mode, every link with its target, and of units what they start and read.
fn contents(image: &Image, arch: &str, machine: u8) -> String {
    let mut told = String::new();
    for (path, node) in &image.files {
        let shown = path.replace(arch, "{arch}");
        assert!(!path.starts_with("opt"), "{path}: an image with an /opt makes a node's read-only");
        match node {
            Node::Folder => {}
            Node::Symlink(target) => writeln!(told, "     {shown} -> {target}").unwrap(),
            Node::File { mode, bytes } => {
                writeln!(told, "{mode:04o} {shown}").unwrap();
                let elf = bytes.starts_with(b"\x7fELF");
                assert!(!elf || bytes[18] == machine, "{path} is a program for another machine");
                if path.starts_with("usr/lib/systemd/system/") {
                    tell_unit(&mut told, std::str::from_utf8(bytes).expect("units are text"));
                }
            }
            Node::Other => panic!("{path} is neither a file nor a link"),
        }
    }
    told
}

fn tell_unit(told: &mut String, unit: &str) {
    let keys = ["Condition", "Exec", "Environment", "Listen", "Upholds", "User", "DynamicUser"];
    for line in unit.lines().filter(|line| keys.iter().any(|key| line.starts_with(key))) {
        writeln!(told, "       {line}").unwrap();
    }
}

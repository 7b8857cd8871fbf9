//! Syncs of a repository with many lines, against one that is the same but for a twentieth of them:
//! what a sync costs should grow with what changed, not with what is there.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use publish::name::Sha256;

use crate::measure::{self, Cost};
use crate::{Extent, table};

const COMPONENTS: usize = 500;

/// Lines of a component.
const FEW: usize = 5;
const MANY: usize = 100;

/// The versions upstream still has: the last ones of each component.
const UPSTREAM: usize = 3;

/// How many of the changed components are built by a sync of one image.
const CHANGED: &str = "c000";

pub fn run(folder: &Path, extent: Extent) -> Result<()> {
    let components = extent.of(COMPONENTS);
    eprintln!("making {} and {} lines", components * FEW, components * MANY);
    let few = Project::new(&folder.join("few"), components)?;
    let many = Project::new(&folder.join("many"), components)?;
    few.sync(true)?;
    many.sync(true)?;
    for component in 0..components {
        few.add_lines(component, FEW)?;
        many.add_lines(component, MANY)?;
    }

    let title = |what: &str| format!("{what}, {}/{} lines", components * MANY, components * FEW);
    let (large, small) = table::alternate(extent.pairs, |_| many.sync(false), |_| few.sync(false))?;
    table::compare(&title("sync of nothing"), &large, &small, Some(1.1));
    let add = |project: &Project, pair: usize| {
        project.release(CHANGED, MANY + 1 + pair)?;
        project.sync(true)
    };
    let (large, small) =
        table::alternate(extent.pairs, |pair| add(&many, pair), |pair| add(&few, pair))?;
    table::compare(&title("sync of one image"), &large, &small, Some(1.1));
    if let (Ok(large), Ok(small)) = (many.calls(), few.calls()) {
        for ((name, large), (_, small)) in large.iter().zip(&small) {
            println!("{:<44} {large}/{small}", title(&format!("{name} in a sync of nothing")));
        }
    }

    // What it would cost to look at everything.
    let public = many.0.join("public");
    let script = "find . -name '*.raw' -print0 | xargs -0 sha256sum > /dev/null";
    let (ours, theirs) = table::alternate(
        extent.pairs,
        |_| many.sync(false),
        |_| measure::run(&["sh", "-c", script], &public, &many.toml()),
    )?;
    let title = format!("sync of nothing/sha256sum, {} lines", components * MANY);
    table::compare(&title, &ours, &theirs, None);
    Ok(())
}

/// A configuration with its releases and its repository.
struct Project(PathBuf);

impl Project {
    fn new(folder: &Path, components: usize) -> Result<Self> {
        let project = Self(folder.to_owned());
        for path in ["components", "releases", "tmp"] {
            fs::create_dir_all(folder.join(path))?;
        }
        let repository = "[repository]\nstore = \"public\"\narchitectures = [\"x86-64\"]\n";
        fs::write(project.toml(), repository)?;
        for component in 0..components {
            let name = name_of(component);
            let text = format!(
                "[source.directory]
                path = \"../releases/{name}\"
                match = \"{name}_{{version}}.txt\"
                [versions]
                newest = 1000
                [[asset]]
                name = \"{name}_{{version}}.txt\"
                [asset.files]
                \"usr/share/{name}/release\" = \"*\"
                [image]
                preset = \"fast\"\n"
            );
            fs::write(folder.join(format!("components/{name}.toml")), text)?;
            fs::create_dir(folder.join("releases").join(&name))?;
            for version in MANY - UPSTREAM + 1..=MANY {
                project.release(&name, version)?;
            }
        }
        Ok(project)
    }

    fn toml(&self) -> PathBuf {
        self.0.join("publish.toml")
    }

    /// A new release of a component.
    fn release(&self, name: &str, version: usize) -> Result<()> {
        let at = format!("releases/{name}/{name}_{version}.0.txt");
        Ok(fs::write(self.0.join(at), format!("{name} {version}\n"))?)
    }

    /// Lists older images of a component, so that it has so many, as if they had been published
    /// long ago and upstream had forgotten them.
    fn add_lines(&self, component: usize, lines: usize) -> Result<()> {
        let name = name_of(component);
        let folder = self.0.join("public").join(&name);
        let records = self.0.join("public/.publish/images").join(&name);
        let manifest = folder.join("SHA256SUMS");
        let mut text = fs::read_to_string(&manifest)?;
        let listed = text.lines().count();
        ensure!(listed == UPSTREAM, "{name} has {listed} lines");
        let image = |version: usize| format!("{name}-{version}.0-x86-64.raw");
        let record = fs::read_to_string(records.join(image(MANY) + ".json"))?;
        let mut record: serde_json::Value = serde_json::from_str(&record)?;
        for version in MANY - lines + 1..=MANY - UPSTREAM {
            let bytes = format!("an old image of {name} {version}\n").repeat(100);
            let sha256 = Sha256::of(bytes.as_bytes());
            record["sha256"] = sha256.to_string().into();
            record["size"] = bytes.len().into();
            record["release"] = format!("{version}.0").into();
            fs::write(folder.join(image(version)), bytes)?;
            let text_of_record = serde_json::to_string_pretty(&record)?;
            fs::write(records.join(image(version) + ".json"), text_of_record)?;
            let _ = writeln!(text, "{sha256}  {}", image(version));
        }
        Ok(fs::write(manifest, text)?)
    }

    fn command(&self) -> [String; 6] {
        let program = env!("CARGO_BIN_EXE_publish");
        let temporary = format!("TMPDIR={}", self.0.join("tmp").display());
        ["env", &temporary, program, "--quiet", "--json", "sync"].map(str::to_owned)
    }

    /// Syncs, and makes sure that there was something to do, or nothing.
    fn sync(&self, changes: bool) -> Result<Cost> {
        let manifest = || -> Result<String> {
            Ok(fs::read_to_string(self.0.join("public/c000/SHA256SUMS")).unwrap_or_default())
        };
        let before = manifest()?;
        let command = self.command();
        let cost = measure::run(&command.each_ref().map(String::as_str), &self.0, &self.toml())?;
        ensure!(changes == (before != manifest()?), "a sync did something else than expected");
        Ok(cost)
    }

    /// How often the system is asked for files, by the name of the call.
    fn calls(&self) -> Result<Vec<(String, u64)>> {
        let told = self.0.join("strace");
        let status = Command::new("strace")
            .args(["-f", "-c", "-U", "name,calls", "-e", "trace=openat,?statx,getdents64", "-o"])
            .arg(&told)
            .args(self.command())
            .current_dir(&self.0)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .context("cannot run strace")?;
        ensure!(status.success(), "strace failed");
        let text = fs::read_to_string(told)?;
        let mut calls: Vec<(String, u64)> = Vec::new();
        for name in ["openat", "statx", "getdents64"] {
            let line = text.lines().find(|line| line.split_whitespace().next() == Some(name));
            let number = line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
            calls.push((name.to_owned(), number.unwrap_or(0)));
        }
        Ok(calls)
    }
}

fn name_of(component: usize) -> String {
    format!("c{component:03}")
}

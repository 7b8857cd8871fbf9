//! What mirroring somebody's repository costs, against `rclone copy` of the same files from the same
//! server with as many transfers at once. rclone checks nothing but lengths, and its files are in memory when
//! it ends; publish hashes every byte, and publishes what is on the disk. So there is a second row, in which
//! rclone's files are brought there, too.
//!
//! ```text
//! cargo bench --bench mirror                       2 GiB in 100 files: some minutes, and 8 GiB of disk
//! cargo bench --bench mirror -- scale=0.1 pairs=9  a tenth of the bytes; more pairs than five
//! cargo bench --bench mirror -- in=/dev/shm        where nobody waits for a disk
//! ```
//!
//! Every row is the median of alternating pairs, from a warm cache. `wall` and `cpu` are times of the
//! program, `peak` is its resident memory. A ratio is the median of the pairs' own ratios; under 1
//! means that publish took less. The last lines are what a repeat with nothing new asks for.
//!
//! Needs the packages `time` and `rclone`.

#[expect(dead_code, reason = "nobody asks for sizes here")]
#[path = "../images/measure.rs"]
mod measure;
#[path = "../repository/table.rs"]
mod table;
mod web;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use publish::name::Sha256;
use rand::rngs::StdRng;
use rand::{RngCore as _, SeedableRng as _};

use crate::measure::Cost;
use crate::web::Web;

const FILES: usize = 100;

/// All files together.
const MIB: f64 = 2048.0;

/// What both may fetch at once.
const TRANSFERS: usize = 8;

/// The folder that everything is in. It goes with this.
struct Folder(PathBuf);

impl Folder {
    fn new(parent: &Path) -> Result<Self> {
        let folder = Self(parent.join("bench-mirror"));
        // An earlier run was killed.
        if folder.0.exists() {
            fs::remove_dir_all(&folder.0)?;
        }
        fs::create_dir_all(folder.0.join("theirs"))?;
        fs::create_dir_all(folder.0.join("tmp"))?;
        Ok(folder)
    }

    /// Their repository.
    fn fill(&self, each: usize) -> Result<()> {
        let mut random = StdRng::seed_from_u64(1);
        let mut manifest = String::new();
        let mut names = String::new();
        for number in 0..FILES {
            let mut bytes = vec![0; each];
            random.fill_bytes(&mut bytes);
            // A disk: what begins like no image is not mirrored as one.
            bytes[510..512].copy_from_slice(b"\x55\xaa");
            let arch = if number % 2 == 0 { "x86-64" } else { "arm64" };
            let name = format!("m-{}.0-{arch}.raw", number / 2);
            let _ = writeln!(manifest, "{}  {name}", Sha256::of(&bytes));
            let _ = writeln!(names, "{name}");
            fs::write(self.0.join("theirs").join(name), bytes)?;
        }
        fs::write(self.0.join("theirs/SHA256SUMS"), manifest)?;
        fs::write(self.0.join("names"), names)?;
        Ok(())
    }

    fn configure(&self, url: &str) -> Result<()> {
        for (kind, lines) in [
            (
                "resigned",
                format!("match = \"m-{{version}}-{{arch}}.raw\"\n[versions]\nnewest = {FILES}\n"),
            ),
            ("verbatim", "verbatim = true\n".to_owned()),
        ] {
            let components = self.0.join(kind);
            fs::create_dir_all(&components)?;
            let text = format!("[source.repository]\nurl = \"{url}\"\nunsigned = true\n{lines}");
            fs::write(components.join("m.toml"), text)?;
            let text = format!(
                "[repository]\nstore = \"public\"\ncomponents = \"{kind}\"\n[network]\nconcurrency = {TRANSFERS}\n"
            );
            fs::write(self.0.join(format!("{kind}.toml")), text)?;
        }
        Ok(())
    }

    fn run(&self, command: &[&str]) -> Result<Cost> {
        let temporary = format!("TMPDIR={}", self.0.join("tmp").display());
        let line = [&["env", &temporary, "RCLONE_CONFIG=/dev/null"], command].concat();
        measure::run(&line, &self.0, &self.0.join("names"))
    }

    fn sync(&self, kind: &str) -> Result<Cost> {
        let config = format!("{kind}.toml");
        self.run(&[env!("CARGO_BIN_EXE_publish"), "--quiet", "--config", &config, "sync"])
    }

    /// What one run wrote is not to be written to the disk while the other runs.
    fn afresh(&self) -> Result<()> {
        for name in ["public", "copy"] {
            let path = self.0.join(name);
            if path.exists() {
                fs::remove_dir_all(path)?;
            }
        }
        ensure!(Command::new("sync").status()?.success(), "sync(1) failed");
        Ok(())
    }

    fn count(&self, name: &str) -> Result<()> {
        let there = fs::read_dir(self.0.join(name))?.flatten();
        let there =
            there.filter(|entry| entry.path().extension().is_some_and(|e| e == "raw")).count();
        ensure!(there == FILES, "{there} files arrived in {name}");
        Ok(())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn main() -> Result<()> {
    let (mut scale, mut pairs) = (1.0, 5);
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().context("a target folder")?;
    let mut parent = target.to_owned();
    // Cargo itself adds `--bench`.
    for argument in std::env::args().skip(1).filter(|argument| !argument.starts_with("--")) {
        if let Some(number) = argument.strip_prefix("pairs=") {
            pairs = number.parse().context("pairs=N")?;
        } else if let Some(number) = argument.strip_prefix("scale=") {
            scale = number.parse().context("scale=N")?;
        } else if let Some(path) = argument.strip_prefix("in=") {
            parent = path.into();
        } else {
            anyhow::bail!("{argument} means nothing: pairs=N, scale=N or in=FOLDER");
        }
    }
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    println!("{cores} cores, medians of {pairs} pairs, {scale} of the whole");
    let folder = Folder::new(&parent)?;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a size")]
    #[expect(clippy::cast_precision_loss, reason = "a small number")]
    folder.fill((MIB * scale * f64::from(1 << 20) / FILES as f64) as usize)?;
    let web = Web::start(&folder.0.join("theirs"))?;
    folder.configure(&web.url())?;

    let remote = format!(":http,url='{}':", web.url());
    let copy = format!(
        "rclone copy --files-from names --no-traverse --transfers {TRANSFERS} \"{remote}\" copy"
    );
    for kind in ["resigned", "verbatim"] {
        for (name, command) in [
            ("rclone copy", copy.clone()),
            ("rclone copy, sync", format!("{copy} && sync -f copy")),
        ] {
            let ours = |_| {
                folder.afresh()?;
                let cost = folder.sync(kind)?;
                folder.count("public/m")?;
                Ok(cost)
            };
            let theirs = |_| {
                folder.afresh()?;
                let cost = folder.run(&["sh", "-c", &command])?;
                folder.count("copy")?;
                Ok(cost)
            };
            let (ours, theirs) = table::alternate(pairs, ours, theirs)?;
            let title = format!("{kind}/{name}, {FILES} files, {:.0} MiB", MIB * scale);
            table::compare(&title, &ours, &theirs, Some(1.0));
        }
        folder.afresh()?;
        folder.sync(kind)?;
        web.asked();
        folder.sync(kind)?;
        println!("{kind}, nothing new: {}", web.asked().join(", "));
    }
    Ok(())
}

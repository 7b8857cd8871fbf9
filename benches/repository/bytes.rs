//! A repository of large images that nothing can compress: uploaded against rclone, and verified
//! against sha256sum.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use rand::rngs::StdRng;
use rand::{RngCore as _, SeedableRng as _};

use crate::measure::{self, Cost, median};
use crate::s3::{BUCKET, Server};
use crate::{Extent, table};

const COMPONENTS: usize = 10;
const VERSIONS: usize = 2;
const ARCHES: [&str; 2] = ["x86-64", "arm64"];

/// All images together.
const MIB: usize = 2048;

/// What publish may take of memory for an upload, in MiB.
const PEAK: f64 = 150.0;

/// A repository in a directory.
pub struct Repository {
    folder: PathBuf,
    images: usize,
}

impl Repository {
    /// Builds one.
    pub fn new(folder: &Path, extent: Extent) -> Result<Self> {
        let images = COMPONENTS * VERSIONS * ARCHES.len();
        let each = extent.of(MIB) * (1 << 20) / images;
        eprintln!("making {images} images of {} MiB", each >> 20);
        let repository = Self { folder: folder.to_owned(), images };
        for path in ["components", "uploads", "releases", "tmp", "split"] {
            fs::create_dir_all(folder.join(path))?;
        }
        let arches = "architectures = [\"x86-64\", \"arm64\"]\n";
        let here = format!("[repository]\nstore = \"public\"\n{arches}");
        fs::write(folder.join("publish.toml"), here)?;
        // What was built here is published there as it is, so that rclone has the same to do.
        let there = format!(
            "[repository]\nstore = \"s3://{BUCKET}/repository\"\ncomponents = \"uploads\"\n{arches}"
        );
        fs::write(folder.join("upload.toml"), there)?;
        let mut random = StdRng::seed_from_u64(1);
        for component in 0..COMPONENTS {
            let name = format!("c{component}");
            let file = format!("{name}_{{version}}_{{arch}}.bin");
            let text = format!(
                "[source.directory]\npath = \"../releases\"\nmatch = \"{file}\"\n
                [[asset]]\nname = \"{file}\"\n
                [asset.files]\n\"usr/share/{name}/random\" = \"*\"\n
                [image]\npreset = \"fast\"\n"
            );
            fs::write(folder.join(format!("components/{name}.toml")), text)?;
            let file = format!("{name}-{{version}}-{{arch}}.raw");
            let text = format!(
                "[source.directory]\npath = \"../public/{name}\"\nmatch = \"{file}\"\n
                [[asset]]\nname = \"{file}\"\n
                [image]\nformat = \"none\"\n"
            );
            fs::write(folder.join(format!("uploads/{name}.toml")), text)?;
            for version in 1..=VERSIONS {
                for arch in ARCHES {
                    let at = folder.join(format!("releases/{name}_{version}.0_{arch}.bin"));
                    let mut bytes = vec![0; each];
                    random.fill_bytes(&mut bytes);
                    fs::File::create(at)?.write_all(&bytes)?;
                }
            }
        }
        repository.publish(&[], &["sync"])?;
        let listed = repository.manifest()?.lines().count();
        ensure!(listed == images, "{listed} images were built");
        fs::remove_dir_all(folder.join("releases"))?;
        Ok(repository)
    }

    /// Every line, with paths below `public`.
    fn manifest(&self) -> Result<String> {
        let mut all = String::new();
        for component in 0..COMPONENTS {
            let manifest = self.folder.join(format!("public/c{component}/SHA256SUMS"));
            for line in fs::read_to_string(manifest)?.lines() {
                let (digest, name) = line.split_once("  ").context("a line of a manifest")?;
                let _ = writeln!(all, "{digest}  c{component}/{name}");
            }
        }
        Ok(all)
    }

    /// Runs a command.
    fn run(&self, environment: &[String], command: &[&str]) -> Result<Cost> {
        let temporary = format!("TMPDIR={}", self.folder.join("tmp").display());
        // A machine's own certificates are nothing for a server without any, and rclone stops there.
        let mut line = vec!["env", "--unset=AWS_CA_BUNDLE", &temporary];
        line.extend(environment.iter().map(String::as_str));
        line.extend(command);
        measure::run(&line, &self.folder, &self.folder.join("publish.toml"))
    }

    fn publish(&self, environment: &[String], arguments: &[&str]) -> Result<Cost> {
        let program = [env!("CARGO_BIN_EXE_publish"), "--quiet"];
        self.run(environment, &[&program[..], arguments].concat())
    }

    /// Checks every byte, against sha256sum on as many cores.
    pub fn verify(&self, extent: Extent) -> Result<()> {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let manifest = self.manifest()?;
        for core in 0..cores {
            let share: Vec<&str> = manifest.lines().skip(core).step_by(cores).collect();
            fs::write(self.folder.join(format!("split/{core}")), share.join("\n") + "\n")?;
        }
        let check = format!(
            "cd public && ls -d $PWD/../split/* | xargs -n1 -P{cores} sha256sum --check --quiet"
        );
        // Into the page cache.
        self.run(&[], &["sh", "-c", &check])?;
        let (ours, theirs) = table::alternate(
            extent.pairs,
            |_| self.publish(&[], &["verify"]),
            |_| self.run(&[], &["sh", "-c", &check]),
        )?;
        let title = format!("verify/sha256sum -c, {} MiB", extent.of(MIB));
        table::compare(&title, &ours, &theirs, Some(1.0));
        Ok(())
    }

    /// Publishes to a bucket, against rclone.
    pub fn upload(&self, extent: Extent) -> Result<()> {
        let buckets = self.folder.join("buckets");
        fs::create_dir_all(&buckets)?;
        let server = Server::start(&buckets)?;
        let bucket = buckets.join(BUCKET);
        let afresh = || -> Result<()> {
            if bucket.exists() {
                fs::remove_dir_all(&bucket)?;
            }
            fs::create_dir(&bucket)?;
            // What one wrote is not to be written to the disk while the other runs.
            ensure!(Command::new("sync").status()?.success(), "sync(1) failed");
            Ok(())
        };
        let finish = |cost: Cost| -> Result<(Cost, f64, f64)> {
            let arrived = count(&bucket)?;
            ensure!(arrived == self.images, "{arrived} images arrived");
            Ok((cost, server.busy(), cpu()?))
        };
        let ours = |_| {
            afresh()?;
            let before = cpu()?;
            let arguments = ["--config", "upload.toml", "sync"];
            let (cost, busy, after) = finish(self.publish(&server.environment(), &arguments)?)?;
            Ok((cost, busy, after - before))
        };
        let theirs = |_| {
            afresh()?;
            let before = cpu()?;
            let to = format!("there:{BUCKET}/repository");
            let command = ["rclone", "copy", "--exclude", ".publish/**", "public", &to];
            let (cost, busy, after) = finish(self.run(&server.environment_of_rclone(), &command)?)?;
            Ok((cost, busy, after - before))
        };
        let (ours, theirs) = table::alternate(extent.pairs, ours, theirs)?;
        let size = format!("{} images, {} MiB", self.images, extent.of(MIB));
        let part = |of: fn(&(Cost, f64, f64)) -> f64| {
            let ratio = median(ours.iter().zip(&theirs).map(|(a, b)| of(a) / of(b)));
            (median(ours.iter().map(of)), median(theirs.iter().map(of)), ratio)
        };
        let (busy, server) = (part(|run| run.1), part(|run| run.2));
        println!(
            "{:<44} wall {:>6.2}/{:<6.2}s {}",
            format!("first to last byte, {size}"),
            busy.0,
            busy.1,
            table::judged(busy.2, Some(1.0))
        );
        println!(
            "{:<44} cpu  {:>6.2}/{:<6.2}s {:.2}",
            "what the server had to do", server.0, server.1, server.2
        );
        let costs = |runs: Vec<(Cost, f64, f64)>| runs.into_iter().map(|run| run.0).collect();
        let (ours, theirs): (Vec<Cost>, Vec<Cost>) = (costs(ours), costs(theirs));
        table::compare(&format!("whole sync/rclone copy, {size}"), &ours, &theirs, None);
        let peak = ours.iter().map(|cost| cost.peak).fold(0.0, f64::max);
        println!("{:<44} peak {} MiB", "the most of all syncs", table::judged(peak, Some(PEAK)));
        Ok(())
    }
}

/// How many images are below a folder.
fn count(folder: &Path) -> Result<usize> {
    let mut number = 0;
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            number += count(&path)?;
        } else if path.extension().is_some_and(|ending| ending == "raw") {
            number += 1;
        }
    }
    Ok(number)
}

/// Seconds that this process has spent on all cores.
fn cpu() -> Result<f64> {
    let text = fs::read_to_string("/proc/self/stat")?;
    let (_, numbers) = text.rsplit_once(')').context("a name in parentheses")?;
    let mut numbers = numbers.split_whitespace().skip(11).map(str::parse::<f64>);
    let (user, system) = (numbers.next(), numbers.next());
    // In hundredths, whatever the machine's clock does.
    Ok((user.context("a time")?? + system.context("a time")??) / 100.0)
}

//! What a large repository costs: syncs of many lines, uploads and checks of many bytes, as ratios
//! to other programs in the same run.
//!
//! ```text
//! cargo bench --bench repository                    all rows: some minutes, and 12 GiB of disk
//! cargo bench --bench repository -- lines upload    some of lines, upload and verify
//! cargo bench --bench repository -- scale=0.1 pairs=9    a tenth of the size; more pairs than five
//! ```
//!
//! Every row is the median of alternating pairs, from a warm cache: one, other; other, one; and so
//! on. `wall` and `cpu` are times of the program and what it started, `peak` is the resident memory
//! of the largest process. A ratio is the median of the pairs' own ratios; under 1 means that the
//! first took less. What it should be at most stands behind it.
//!
//! Needs the packages `time`, `rclone` for the uploads and, for the number of files opened, `strace`.

mod bytes;
mod lines;
#[expect(dead_code, reason = "nobody asks for sizes here")]
#[path = "../images/measure.rs"]
mod measure;
mod s3;
mod table;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// How much is done.
#[derive(Debug, Clone, Copy)]
pub struct Extent {
    /// 1 is the whole.
    pub scale: f64,
    /// How often.
    pub pairs: usize,
}

impl Extent {
    /// That share of a number, at least 1.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small number")]
    #[expect(clippy::cast_precision_loss, reason = "a small number")]
    #[must_use]
    pub fn of(&self, whole: usize) -> usize {
        (whole as f64 * self.scale).round().max(1.0) as usize
    }
}

/// The folder that everything is written to. It goes with this.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Self> {
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().context("a target folder")?;
        let folder = Self(target.join("bench-repository"));
        // An earlier run was killed.
        if folder.0.exists() {
            fs::remove_dir_all(&folder.0)?;
        }
        fs::create_dir_all(&folder.0)?;
        Ok(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn main() -> Result<()> {
    let mut extent = Extent { scale: 1.0, pairs: 5 };
    let mut words = Vec::new();
    // Cargo itself adds `--bench`.
    for argument in std::env::args().skip(1).filter(|argument| !argument.starts_with("--")) {
        if let Some(number) = argument.strip_prefix("pairs=") {
            extent.pairs = number.parse().context("pairs=N")?;
        } else if let Some(number) = argument.strip_prefix("scale=") {
            extent.scale = number.parse().context("scale=N")?;
        } else {
            words.push(argument);
        }
    }
    let rows = ["lines", "upload", "verify"];
    for word in &words {
        anyhow::ensure!(rows.contains(&word.as_str()), "no row is called {word}");
    }
    let wanted = |row: &str| words.is_empty() || words.iter().any(|word| word == row);

    let folder = Folder::new()?;
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    println!("{cores} cores, medians of {} pairs, {} of the whole", extent.pairs, extent.scale);
    if wanted("lines") {
        lines::run(&folder.0.join("lines"), extent)?;
    }
    if wanted("upload") || wanted("verify") {
        let repository = bytes::Repository::new(&folder.0.join("bytes"), extent)?;
        if wanted("verify") {
            repository.verify(extent)?;
        }
        if wanted("upload") {
            repository.upload(extent)?;
        }
    }
    Ok(())
}

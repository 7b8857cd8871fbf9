//! What a command costs: time, processor time and memory, told by time(1).

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};

/// What it cost to make an image.
pub struct Cost {
    /// Seconds.
    pub wall: f64,
    /// Seconds of all cores together.
    pub cpu: f64,
    /// Bytes.
    pub size: f64,
    /// MiB of the largest process.
    pub peak: f64,
}

/// Runs a command that makes the image `out`, in `folder`.
pub fn run(command: &[&str], folder: &Path, out: &Path) -> Result<Cost> {
    let told = folder.join("time");
    let begun = Instant::now();
    let done = Command::new("time")
        .args(["--format", "%U %S %M", "--output"])
        .arg(&told)
        .args(command)
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .context("cannot run time(1): it is in the package `time`")?;
    let wall = begun.elapsed().as_secs_f64();
    let text = String::from_utf8_lossy(&done.stderr);
    ensure!(done.status.success(), "{} failed: {text}", command.join(" "));
    let told = std::fs::read_to_string(&told)?;
    let numbers: Vec<f64> = told.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
    let [user, system, peak] = numbers[..] else { anyhow::bail!("time(1) said: {told}") };
    #[expect(clippy::cast_precision_loss, reason = "nobody looks at the last byte")]
    let size = std::fs::metadata(out)?.len() as f64;
    Ok(Cost { wall, cpu: user + system, size, peak: peak / 1024.0 })
}

/// The one in the middle.
pub fn median(of: impl Iterator<Item = f64>) -> f64 {
    let mut all: Vec<f64> = of.collect();
    all.sort_by(f64::total_cmp);
    let middle = all.len() / 2;
    if all.len().is_multiple_of(2) {
        f64::midpoint(all[middle - 1], all[middle])
    } else {
        all[middle]
    }
}

//! `publish completions` and `publish man`: what a shell and `man` know of the command line.

use std::fs;
use std::path::Path;

use anyhow::Context as _;
use clap::CommandFactory as _;
use clap_complete::Shell;

use super::{Args, Ended, print};

/// The script by which a shell completes what is typed.
pub(super) fn completions(shell: Shell) -> anyhow::Result<Ended> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), "publish", &mut script);
    print(&String::from_utf8(script).context("the script is no text")?)?;
    Ok(Ended::Well)
}

/// A page for the program and one for each of its commands.
pub(super) fn man(directory: &Path) -> anyhow::Result<Ended> {
    fs::create_dir_all(directory)
        .and_then(|()| clap_mangen::generate_to(Args::command(), directory))
        .with_context(|| format!("cannot write the pages into {}", directory.display()))?;
    Ok(Ended::Well)
}

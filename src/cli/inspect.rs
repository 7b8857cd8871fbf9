//! `publish inspect`

use std::fmt::Write as _;
use std::fs::File;
use std::path::Path;

use jiff::Timestamp;
use serde::Serialize;

use super::{Context, Ended, print, print_json};
use crate::image::inspect::{self, Inspection, Listed};
use crate::name::Sha256;
use crate::report::{count, human_size};

#[derive(Serialize)]
struct Result {
    sha256: Sha256,
    #[serde(flatten)]
    image: Inspection,
}

pub(super) fn run(context: &Context, path: &Path, list: bool) -> anyhow::Result<Ended> {
    let mut image = inspect::inspect(path, None)?;
    let (sha256, _) = Sha256::of_reader(&mut File::open(path)?)?;
    let entries = std::mem::take(&mut image.entries);
    if list && context.json {
        image.entries.clone_from(&entries);
    }
    let taken = image.problems.is_empty();
    let result = Result { sha256, image };
    if context.json {
        print_json("inspect", &result)?;
    } else {
        let mut out = text(&result);
        if list {
            out.push_str(&listing(&entries));
        }
        print(&out)?;
    }
    Ok(if taken { Ended::Well } else { Ended::Partly })
}

fn text(result: &Result) -> String {
    let Result { sha256, image } = result;
    let mut out = String::new();
    let date =
        Timestamp::from_second(image.time.into()).map(|at| at.to_string()).unwrap_or_default();
    let _ = writeln!(out, "{}", image.name);
    let _ = writeln!(
        out,
        "  size       {} (squashfs, {}, blocks of {})",
        human_size(image.size),
        image.compression,
        human_size(image.block_size.into())
    );
    let _ = writeln!(out, "  sha256     {sha256}");
    let _ = writeln!(out, "  dated      {date}");
    let files = usize::try_from(image.files).unwrap_or(usize::MAX);
    let _ = writeln!(
        out,
        "  content    {}, {} unpacked",
        count(files, "file"),
        human_size(image.unpacked)
    );
    for (name, keys) in &image.releases {
        let keys =
            keys.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(" ");
        let _ = writeln!(out, "  extension  {}: {}", name.escape_debug(), keys.escape_debug());
    }
    if image.problems.is_empty() {
        out.push_str("  verdict    systemd-sysext takes it\n");
    }
    for problem in &image.problems {
        let _ = writeln!(out, "  problem    {}", problem.escape_debug());
    }
    out
}

fn listing(entries: &[Listed]) -> String {
    let mut out = String::new();
    for entry in entries {
        let target = entry
            .target
            .as_ref()
            .map(|target| format!(" -> {}", target.escape_debug()))
            .unwrap_or_default();
        let (user, group) = entry.owner;
        let _ = writeln!(
            out,
            "{}{:04o} {user}:{group} {:>10} {}{target}",
            entry.kind,
            entry.mode,
            entry.size,
            entry.path.escape_debug()
        );
    }
    out
}

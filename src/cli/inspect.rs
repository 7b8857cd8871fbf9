//! `publish inspect`

use std::fmt::Write as _;
use std::fs::File;
use std::path::Path;

use jiff::Timestamp;
use serde::Serialize;

use super::{Context, Ended, print, print_json};
use crate::config::verity::Certificate;
use crate::image::compare::{self, Changed, Comparison, Difference};
use crate::image::disk::check::Verity;
use crate::image::inspect::{self, Inspection, Listed, Use};
use crate::lint::{self, Level};
use crate::name::Sha256;
use crate::report::{count, human_size};

#[derive(Serialize)]
struct Result {
    sha256: Sha256,
    #[serde(flatten)]
    image: Inspection,
}

pub(super) fn run(
    context: &Context,
    path: &Path,
    list: bool,
    certificate: Option<&Path>,
) -> anyhow::Result<Ended> {
    let certificate = certificate.map(|file| {
        Certificate::open(file)
            .map_err(|error| anyhow::anyhow!("{} {error}\nhint: {}", file.display(), error.hint()))
    });
    let certificate = certificate.transpose()?;
    let mut image = inspect::inspect_closely(path, None, certificate.as_ref())?;
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

/// In what two images differ.
pub(super) fn compare(context: &Context, first: &Path, second: &Path) -> anyhow::Result<Ended> {
    #[derive(Serialize)]
    struct Result {
        same: bool,
        #[serde(flatten)]
        comparison: Comparison,
    }
    let comparison = compare::compare(first, second)?;
    let result = Result { same: comparison.is_same(), comparison };
    if context.json {
        print_json("inspect", &result)?;
    } else {
        print(&differences(&result.comparison))?;
    }
    Ok(Ended::Well)
}

/// As `diff` marks them: `-` is only in the first, `+` only in the second.
fn differences(comparison: &Comparison) -> String {
    let changed = |Changed { what, first, second }: &Changed| {
        format!("{what} {} → {}", first.escape_debug(), second.escape_debug())
    };
    let mut out = String::new();
    for change in &comparison.image {
        let _ = writeln!(out, "~ the image: {}", changed(change));
    }
    for difference in &comparison.entries {
        let path = difference.path().escape_debug();
        let _ = match difference {
            Difference::Removed(entry) => writeln!(out, "- {path} ({})", what(entry)),
            Difference::Added(entry) => writeln!(out, "+ {path} ({})", what(entry)),
            Difference::Changed { in_what, content, .. } => {
                let content = content.then(|| "other bytes".to_owned());
                let all: Vec<_> = in_what.iter().map(changed).chain(content).collect();
                writeln!(out, "~ {path}: {}", all.join(", "))
            }
        };
    }
    if comparison.is_same() {
        out.push_str("no difference\n");
    }
    out
}

fn what(entry: &Listed) -> String {
    match (entry.kind, &entry.target) {
        ('-', _) => human_size(entry.size),
        ('d', _) => "a folder".to_owned(),
        (_, Some(target)) => format!("→ {}", target.escape_debug()),
        _ => "a special file".to_owned(),
    }
}

fn text(result: &Result) -> String {
    let Result { sha256, image } = result;
    let mut out = String::new();
    let date =
        Timestamp::from_second(image.time.into()).map(|at| at.to_string()).unwrap_or_default();
    let _ = writeln!(out, "{}", image.name);
    let _ = writeln!(
        out,
        "  size       {} ({}{}, {}, blocks of {})",
        human_size(image.size),
        if image.is_disk { "disk image, " } else { "" },
        if image.format == "erofs" { "EROFS" } else { image.format },
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
    if let Some(verity) = &image.verity {
        protection(&mut out, verity);
    }
    for (name, keys) in &image.releases {
        let keys =
            keys.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(" ");
        let _ = writeln!(out, "  extension  {}: {}", name.escape_debug(), keys.escape_debug());
    }
    if !image.uses.is_empty() {
        let uses: Vec<_> = image.uses.iter().map(|usable| usable.as_str()).collect();
        let arch = image.architecture.as_ref();
        let arch = arch.map_or_else(String::new, |arch| format!(", for {}", arch.escape_debug()));
        let _ = writeln!(out, "  use as     {}{arch}", uses.join(", "));
    }
    if image.problems.is_empty() {
        let tool = match image.uses.first() {
            Some(Use::Confext) => "systemd-confext",
            _ => "systemd-sysext",
        };
        let _ = writeln!(out, "  verdict    {tool} takes it");
    }
    for (level, lint, text) in lint::told(&image.findings) {
        let level = match level {
            Level::Error => "problem",
            Level::Warning => "warning",
        };
        let _ = writeln!(out, "  {level}    {} [{lint}]", text.escape_debug());
    }
    out
}

/// What protects it, and who vouches for that.
fn protection(out: &mut String, verity: &Verity) {
    let Verity { root_hash, blocks, signed, .. } = verity;
    let _ = writeln!(out, "  verity     {root_hash}, over {blocks} blocks of 4 KiB");
    let Some(signed) = signed else { return };
    let by = match (&signed.by, &signed.certificate) {
        (Some(by), Some(certificate)) => {
            let which = if signed.known { "the given certificate" } else { "certificate" };
            format!("{}, {which} {certificate}", by.escape_debug())
        }
        _ => "somebody: only --certificate FILE can tell whom".to_owned(),
    };
    let _ = writeln!(out, "  signed by  {by}");
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

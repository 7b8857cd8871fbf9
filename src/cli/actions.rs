//! What GitHub Actions gets besides the log: outputs of a step, and its summary.
//!
//! Owns their files and their Markdown. Names and texts of upstreams are in it, so every value is
//! written in a way that no Markdown and no HTML is in it. What cannot be written stops nothing.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;

use crate::report::{Told, count, human_size, runner, say};
use crate::stage::Matrix;
use crate::sync::{Left, Outcome};

/// The longest summary that a step may have is 1 MiB.
const LONGEST: usize = 900 << 10;

/// Sets an output of the step. The value has no line end in it.
pub(super) fn output(name: &str, value: &str) {
    append("GITHUB_OUTPUT", &format!("{name}={value}\n"));
}

fn append(variable: &str, text: &str) {
    if !runner::is_there() {
        return;
    }
    let Some(path) = std::env::var_os(variable).filter(|path| !path.is_empty()) else { return };
    let file = File::options().append(true).create(true).open(&path);
    if let Err(error) = file.and_then(|mut file| file.write_all(text.as_bytes())) {
        say(&format!("warning: cannot write the file of ${variable}: {error}\n"));
    }
}

/// The summary of a plan that others carry out.
pub(super) fn planned(matrix: &Matrix) {
    let images: usize = matrix.include.iter().map(|entry| entry.images).sum();
    let jobs = count(matrix.include.len(), "job");
    let mut out = match images {
        0 => "### Nothing to build\n".to_owned(),
        images => format!("### {} to build, in {jobs}\n\n", count(images, "image")),
    };
    for entry in &matrix.include {
        let _ = writeln!(out, "- {}", plain(&entry.name));
    }
    append("GITHUB_STEP_SUMMARY", &bounded(out));
}

/// The summary of a sync: what changed and why, how large it is, and what went wrong.
pub(super) fn synced(store: &str, outcomes: &[Outcome], left: &[Left]) {
    if runner::is_there() {
        append("GITHUB_STEP_SUMMARY", &bounded(summary(store, outcomes, left)));
    }
}

fn summary(store: &str, outcomes: &[Outcome], left: &[Left]) -> String {
    let images: usize = outcomes.iter().map(|outcome| outcome.published.len()).sum();
    let failed = outcomes.iter().filter(|outcome| !outcome.errors.is_empty()).count();
    let what = match images {
        0 if outcomes.iter().all(Outcome::is_unchanged) => "Nothing new".to_owned(),
        0 => "Repository tended".to_owned(),
        images => format!("{} published", count(images, "image")),
    };
    let mut out = format!("### {what} in {}\n", plain(store));
    if failed > 0 {
        let _ = writeln!(
            out,
            "\n**{} failed**; what is published of it stays.",
            count(failed, "component")
        );
    }
    let mut rows = String::new();
    for outcome in outcomes {
        let component = plain(outcome.component.as_str());
        for image in &outcome.published {
            let size = image.size.map(human_size).unwrap_or_default();
            let (name, why) = (plain(image.image.as_str()), plain(&image.why.to_string()));
            let _ = writeln!(rows, "| {component} | {name} | {size} | {why} |");
        }
        if let Some(why) = outcome.signed {
            let _ = writeln!(
                rows,
                "| {component} | SHA256SUMS | | signed: {} |",
                plain(&why.to_string())
            );
        }
        for removal in &outcome.removed {
            let (name, why) = (plain(removal.name.as_str()), plain(&removal.why.to_string()));
            let _ = writeln!(rows, "| {component} | {name} | | out: {why} |");
        }
        for name in &outcome.deleted {
            let name = plain(name.as_str());
            let _ = writeln!(rows, "| {component} | {name} | | deleted: its grace is over |");
        }
    }
    if !rows.is_empty() {
        let _ =
            write!(out, "\n| component | file | size | why |\n| --- | --- | ---: | --- |\n{rows}");
    }
    let errors = outcomes.iter().flat_map(|outcome| &outcome.errors);
    list(
        &mut out,
        "Failures",
        errors.chain(left.iter().flat_map(|left| &left.errors)).map(failure),
    );
    let waiting = outcomes.iter().flat_map(|outcome| {
        let component = &outcome.component;
        outcome.waiting.iter().map(move |awaited| plain(&format!("{component}: {awaited}")))
    });
    list(&mut out, "Waiting for upstream", waiting);
    let warnings = outcomes.iter().flat_map(|outcome| &outcome.warnings);
    list(&mut out, "Warnings", warnings.map(|warning| plain(warning)));
    out
}

fn list(out: &mut String, title: &str, items: impl Iterator<Item = String>) {
    let items: Vec<String> = items.collect();
    if !items.is_empty() {
        let _ = write!(out, "\n#### {title}\n\n");
        for item in items {
            let _ = writeln!(out, "- {item}");
        }
    }
}

fn failure(told: &Told) -> String {
    let mut text = plain(&told.message);
    for cause in &told.causes {
        let _ = write!(text, "<br>caused by: {}", plain(cause));
    }
    if let Some(hint) = &told.hint {
        let _ = write!(text, "<br>hint: {}", plain(hint));
    }
    text
}

/// A text that Markdown shows as it is, in one line of its own: whatever could mean something is a number.
fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.trim().chars() {
        match c {
            c if c.is_alphanumeric() || " ,;/=()".contains(c) => out.push(c),
            '\n' => out.push_str("<br>"),
            c if c.is_control() => out.push(' '),
            c => {
                let _ = write!(out, "&#{};", u32::from(c));
            }
        }
    }
    out
}

/// As much of a summary as GitHub takes, by whole lines.
fn bounded(mut text: String) -> String {
    if text.len() > LONGEST {
        let line_end = text.as_bytes()[..LONGEST].iter().rposition(|byte| *byte == b'\n');
        text.truncate(line_end.map_or(0, |at| at + 1));
        text.push_str("\n… and more; the log has all of it.\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_summary_is_markdown_of_somebody_else() {
        let shown = plain("<img src=x> [a](b) | `c`\r# d **e** http://f @g");
        assert!(!shown.contains(['<', '>', '[', ']', '|', '`', '\n', '*', ':', '@']), "{shown}");
        assert!(shown.starts_with("&#60;img src=x&#62; "), "{shown}");
        assert_eq!(plain("tailscale 1\n::x\n"), "tailscale 1<br>&#58;&#58;x");
    }

    #[test]
    fn a_long_summary_ends_at_a_line() {
        let long = bounded("| é |\n".repeat(LONGEST));
        assert!(long.len() < LONGEST + 100);
        assert!(long.ends_with("| é |\n\n… and more; the log has all of it.\n"));
    }
}

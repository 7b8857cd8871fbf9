//! GitHub's runner, which reads commands in what a program says.
//!
//! Owns telling it of errors and warnings, and that nobody else does: names and texts of upstreams are
//! in our lines, and a line that begins with `::`, or has `##[` anywhere in it, would be a command.

use std::borrow::Cow;
use std::sync::OnceLock;

/// Whether it is there and reads along.
#[must_use]
pub fn is_there() -> bool {
    static IS_THERE: OnceLock<bool> = OnceLock::new();
    *IS_THERE.get_or_init(|| std::env::var_os("GITHUB_ACTIONS").is_some_and(|is| is == "true"))
}

/// A text for the log, if the runner is there: errors and warnings become its annotations, and nothing
/// else is a command.
#[must_use]
pub fn told(text: &str) -> Cow<'_, str> {
    if !is_there() {
        return text.into();
    }
    match text.strip_prefix("error: ").map(|rest| ("error", rest)) {
        Some((kind, rest)) => annotation(kind, rest).into(),
        None => match text.strip_prefix("warning: ") {
            Some(rest) => annotation("warning", rest).into(),
            None => tame(text),
        },
    }
}

/// A text for stdout, if the runner is there: nothing in it is a command.
#[must_use]
pub fn shown(text: &str) -> Cow<'_, str> {
    if is_there() { tame(text) } else { text.into() }
}

/// JSON, which says the same afterwards.
#[must_use]
pub fn json(text: String) -> String {
    // Only in a string can there be such a thing, and a line of JSON begins with no colon.
    if is_there() { text.replace("##[", "##\\u005b") } else { text }
}

/// The runner's command for an annotation, escaped by its rules.
fn annotation(kind: &str, text: &str) -> String {
    let text = text.trim_end().replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A");
    // The older form of a command counts anywhere in a line.
    format!("::{kind} title=publish::{}\n", text.replace("##[", "## ["))
}

/// The same text without commands.
fn tame(text: &str) -> Cow<'_, str> {
    if !text.contains("::") && !text.contains("##[") {
        return text.into();
    }
    let text = text.replace("##[", "## [");
    let mut out = String::with_capacity(text.len() + 8);
    // It takes a lone carriage return for the end of a line, too.
    for line in text.split_inclusive(['\n', '\r']) {
        let begins = |c: char| !(c.is_whitespace() || c.is_control() || c == '\u{feff}');
        match line.find(begins) {
            Some(at) if line[at..].starts_with("::") => {
                out.push_str(&line[..at]);
                out.push_str(": :");
                out.push_str(&line[at + 2..]);
            }
            _ => out.push_str(line),
        }
    }
    out.into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Whether the runner would take a line for a command: as its `ActionCommand` does, but for the
    /// names of commands.
    fn is_command(line: &str) -> bool {
        line.trim_start().starts_with("::") || line.contains("##[")
    }

    fn lines(text: &str) -> impl Iterator<Item = &str> {
        text.split(['\n', '\r'])
    }

    #[test]
    fn an_annotation_is_one_line() {
        assert_eq!(
            annotation("error", "a: 100%\n  hint: b\r::warning::x\n"),
            "::error title=publish::a: 100%25%0A  hint: b%0D::warning::x\n"
        );
        assert_eq!(tame("a::b\n"), "a::b\n");
        assert_eq!(tame("a\n \t::add-mask::x\n"), "a\n \t: :add-mask::x\n");
        assert_eq!(tame("a ##[add-mask]x"), "a ## [add-mask]x");
    }

    proptest! {
        #[test]
        fn no_text_has_a_command(text in "[\\s:#\\[\u{feff}ax]{0,40}") {
            prop_assert!(!lines(&tame(&text)).any(is_command));
            let annotated = annotation("error", &text);
            prop_assert_eq!(annotated.matches('\n').count(), 1);
            let data = annotated.strip_prefix("::error title=publish::").unwrap();
            prop_assert!(!data.contains("##["));
        }
    }
}

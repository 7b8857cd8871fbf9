//! Texts of users and upstreams, made harmless where they go.
//!
//! Owns what a description may be in a unit file, a shell script, YAML or JSON: one line of visible
//! characters that ends nothing, continues nothing and expands to nothing. Knows nothing of what is told.

use url::Url;

/// The most characters of a description that are told.
const LONGEST: usize = 160;

/// The most characters of a URL or a path that are told.
const LONGEST_TEXT: usize = 2000;

/// One plain line of a text: no control or formatting character, no blanks at its ends, not too long.
#[must_use]
pub fn line(text: &str) -> String {
    at_most(text, LONGEST)
}

/// The same of what people do not write by hand, such as a URL.
#[must_use]
pub fn text(text: &str) -> String {
    at_most(text, LONGEST_TEXT)
}

/// A text of any length, in which lines stay lines.
#[must_use]
pub fn lines(text: &str) -> String {
    let keep = |c: char| if is_plain(c) || matches!(c, '\n' | '\t') { c } else { ' ' };
    text.chars().map(keep).collect()
}

fn at_most(text: &str, longest: usize) -> String {
    let visible = text.chars().map(|c| if is_plain(c) { c } else { ' ' }).collect::<String>();
    let words: Vec<&str> = visible.split_whitespace().collect();
    let joined = words.join(" ");
    let mut short: String = joined.chars().take(longest).collect();
    if short.len() < joined.len() {
        short.push('…');
    }
    // At the end of a line it would take the next one in, in a unit file and in a shell.
    short.trim_end_matches(|c: char| c == '\\' || c.is_whitespace()).to_owned()
}

/// The same as the value of a setting in a unit file that expands specifiers.
#[must_use]
pub fn setting(text: &str) -> String {
    line(text).replace('%', "%%")
}

/// A URL as the value of a setting that expands specifiers.
#[must_use]
pub fn url(url: &Url) -> String {
    url.as_str().replace('%', "%%")
}

/// The same where `@v` would be replaced by a version too.
#[must_use]
pub fn changelog(url: &Url) -> String {
    url.as_str().replace('@', "%40").replace('%', "%%")
}

/// A word of a command line in a unit file (systemd.service(5)).
#[must_use]
pub fn word(text: &str) -> String {
    text.replace('\\', "\\\\").replace('%', "%%").replace('$', "$$")
}

/// A text as one word of a POSIX shell.
#[must_use]
pub fn shell(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// A scalar of YAML: as it is where nothing in it could mean something else, or in double quotes.
#[must_use]
pub fn yaml(text: &str) -> String {
    let plain = text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '/')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "/._+-,;:%=".contains(c))
        && !text.ends_with(':')
        && !super::yaml::is_ambiguous(text);
    if plain { text.to_owned() } else { serde_json::Value::from(text).to_string() }
}

/// Whether a character is seen where it stands, and changes nothing around it.
fn is_plain(c: char) -> bool {
    let formats = matches!(u32::from(c),
        0xAD | 0x61C | 0x180E | 0x200B..=0x200F | 0x2028..=0x202E | 0x2060..=0x206F
        | 0xE000..=0xF8FF | 0xFEFF | 0xFFF0..=0xFFFF | 0xE0000..);
    // The last two of each plane are no characters, and YAML refuses them.
    !c.is_control() && !formats && u32::from(c) & 0xFFFE != 0xFFFE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_ends_nothing_and_continues_nothing() {
        assert_eq!(line(" a\n\tb\u{202e}c\\ \\"), "a b c");
        assert_eq!(line("\u{0}\n"), "");
        assert_eq!(line(&"x".repeat(10_000)).chars().count(), LONGEST + 1);
        assert_eq!(setting("100% %n"), "100%% %%n");
    }

    #[test]
    fn what_yaml_could_read_otherwise_is_quoted() {
        for plain in
            ["/opt/x-1.0+a,b.raw", "https://e.org/a%20b", "sha256-00ff", "data:;base64,QQ=="]
        {
            assert_eq!(yaml(plain), plain);
        }
        for odd in
            ["", "yes", "No", "1.0", "a: b", "a #b", "- a", "x:", "\u{e9}", "{a}", "0644", "~"]
        {
            assert!(yaml(odd).starts_with('"'), "{odd}");
        }
    }

    #[test]
    fn a_shell_takes_a_word_as_it_is() {
        assert_eq!(shell("a'b$(c)"), r"'a'\''b$(c)'");
    }
}

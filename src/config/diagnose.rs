//! Errors of the configuration: file, line, column, the line itself with a caret, and a hint.
//!
//! Owns how such an error reads. Knows nothing of what the configuration means.

use std::fmt;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

/// How a message begins about a line that may hold a secret: such a line is not shown.
pub(super) const SECRET: &str = "a secret has no place in this file";

/// Something that is wrong in a configuration file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    file: PathBuf,
    place: Option<Place>,
    message: String,
    hint: Option<String>,
    /// Whether it is the command line that names what the files do not have.
    asked: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    line: usize,
    column: usize,
    text: String,
    width: usize,
}

impl ConfigError {
    /// An error about the file as a whole.
    #[must_use]
    pub fn new(file: &Path, message: impl Into<String>) -> Self {
        Self {
            file: file.to_owned(),
            place: None,
            message: message.into(),
            hint: None,
            asked: false,
        }
    }

    /// The same, with what to do about it.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same, where the files are right, but somebody asks for what they do not have.
    #[must_use]
    pub(super) fn asked_for(mut self) -> Self {
        self.asked = true;
        self
    }

    /// Whether the files are right, but somebody asks for what they do not have.
    #[must_use]
    pub fn is_asked_for(&self) -> bool {
        self.asked
    }

    /// What the TOML reader or one of our own types said of `text`. A line `hint: …` at the end of
    /// its message becomes the hint.
    #[must_use]
    pub fn from_toml(file: &Path, text: &str, error: &toml::de::Error) -> Self {
        let (message, hint) = match error.message().split_once("\nhint: ") {
            Some((message, hint)) => (message, Some(hint.to_owned())),
            None => (error.message(), None),
        };
        let place = error.span().map(|span| {
            let place = Place::new(text, narrow(text, span, message));
            if message.starts_with(SECRET) { place.masked() } else { place }
        });
        let message = message.trim_end().replace('\n', ", ");
        Self { file: file.to_owned(), place, message, hint, asked: false }
    }

    /// An error that the whole of `text` shows. One that begins with what it is about, such as
    /// `[versions] pin: `, is marked there; any other where the first name that the message quotes
    /// stands as a string, if it stands there once. A hint as in [`ConfigError::from_toml`].
    #[must_use]
    pub fn in_text(file: &Path, text: &str, message: &str) -> Self {
        let (message, hint) = match message.split_once("\nhint: ") {
            Some((message, hint)) => (message, Some(hint.to_owned())),
            None => (message, None),
        };
        let quoted = message.split('`').nth(1).map(|name| format!("\"{name}\""));
        let as_string = || {
            let name = quoted?;
            let mut found = text.match_indices(&name);
            match (found.next(), found.next()) {
                (Some((at, _)), None) => Some(at + 1..at + name.len() - 1),
                _ => None,
            }
        };
        let place = value_of(text, message).or_else(as_string);
        let place = place.map(|span| Place::new(text, span));
        Self { file: file.to_owned(), place, message: message.to_owned(), hint, asked: false }
    }

    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }
}

/// The reader marks a whole array or table where one of its elements is wrong; the name that the
/// message quotes tells which, if it stands there once.
fn narrow(text: &str, span: std::ops::Range<usize>, message: &str) -> std::ops::Range<usize> {
    let Some(name) = message.split('`').nth(1).filter(|name| !name.is_empty()) else { return span };
    let Some(marked) = text.get(span.clone()) else { return span };
    let mut found = marked.match_indices(name);
    match (found.next(), found.next()) {
        (Some((at, _)), None) => span.start + at..span.start + at + name.len(),
        _ => span,
    }
}

/// Where the value stands that a message begins with, as `[section] key: …`: the name that it quotes,
/// if that is in the value once, or all of it. Of several sections of one name it must be the only one
/// with such a key.
fn value_of(text: &str, message: &str) -> Option<std::ops::Range<usize>> {
    let (path, rest) = message.strip_prefix('[')?.split_once(']')?;
    let (key, _) = rest.trim_start_matches(']').trim_start().split_once(": ")?;
    let document = DeTable::parse(text).ok()?;
    let mut tables = vec![document.get_ref()];
    for name in path.trim_start_matches('[').split('.') {
        let values = tables.iter().filter_map(|table| Some(table.get(name)?.get_ref()));
        tables = values.flat_map(tables_of).collect();
    }
    let mut values = tables.iter().filter_map(|table| table.get(key));
    let value = values.next().filter(|_| values.next().is_none())?;
    // The lines of a table with a header of its own are not between its ends.
    let quoted = message.split('`').nth(1);
    let lines = value.get_ref().as_table().into_iter().flatten();
    let line = lines.into_iter().find_map(|(key, value)| match quoted {
        Some(name) if key.get_ref() == name => Some(key.span()),
        Some(name) if value.get_ref().as_str() == Some(name) => Some(value.span()),
        _ => None,
    });
    Some(narrow(text, line.unwrap_or_else(|| value.span()), message))
}

/// The tables that a value is, or has in its list.
fn tables_of<'v, 't>(value: &'v DeValue<'t>) -> Vec<&'v DeTable<'t>> {
    match value {
        DeValue::Table(table) => vec![table],
        DeValue::Array(values) => {
            values.iter().filter_map(|value| value.get_ref().as_table()).collect()
        }
        _ => Vec::new(),
    }
}

impl Place {
    /// The same place, with nothing to be read from where it begins.
    fn masked(mut self) -> Self {
        self.text = self.text.chars().take(self.column - 1).chain("\u{2026}".chars()).collect();
        self.width = 1;
        self
    }

    fn new(text: &str, span: std::ops::Range<usize>) -> Self {
        let start = span.start.min(text.len());
        let from = text[..start].rfind('\n').map_or(0, |at| at + 1);
        let line = text[from..].lines().next().unwrap_or_default();
        let end = span.end.clamp(start, from + line.len().max(start - from));
        Self {
            line: text[..start].matches('\n').count() + 1,
            column: text[from..start].chars().count() + 1,
            text: line.to_owned(),
            width: text.get(start..end).map_or(1, |marked| marked.chars().count().max(1)),
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = self.file.display();
        let Some(place) = &self.place else { return write!(f, "{file}: {}", self.message) };
        writeln!(f, "{file}:{}:{}: {}", place.line, place.column, self.message)?;
        let number = place.line.to_string();
        let margin = " ".repeat(number.len());
        // Tabs keep their width only if the line below has the same ones.
        let indent: String = place
            .text
            .chars()
            .take(place.column - 1)
            .map(|c| if c == '\t' { '\t' } else { ' ' })
            .collect();
        writeln!(f, "  {margin} |")?;
        writeln!(f, "  {number} | {}", place.text)?;
        write!(f, "  {margin} | {indent}{}", "^".repeat(place.width))
    }
}

impl std::error::Error for ConfigError {}

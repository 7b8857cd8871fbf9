//! YAML that somebody wrote, read with the places of things, so that text can be put between its lines.
//!
//! Owns the tree and its bounds. Scalars stay the text they are: what `0644` is, is for Butane to say.

use saphyr_parser::{Event, Parser, ScalarStyle, Span};
use thiserror::Error;

/// How deep a document may be.
const DEEPEST: usize = 64;

/// The longest document that is read, in bytes.
pub const LONGEST: usize = 1 << 20;

/// A document that cannot be read.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum YamlError {
    /// It is not YAML.
    #[error("line {line}: {problem}")]
    Syntax {
        /// Which line, from 1.
        line: usize,
        /// What is wrong.
        problem: String,
    },
    /// It is larger or deeper than any that a person writes.
    #[error("it is longer than {LONGEST} bytes, or deeper than {DEEPEST} levels")]
    TooMuch,
    /// There is nothing in it, or more than one document.
    #[error("it is not one document")]
    Count,
}

/// A part of a document, and where it stands.
#[derive(Debug, Clone)]
pub struct Node {
    /// What it is.
    pub value: Value,
    /// Where it stands.
    pub at: Place,
}

/// Where something stands is nothing that it says.
impl PartialEq for Node {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl Eq for Node {}

/// What a part of a document is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// A scalar; whether it may be something else than a text: a number, or nothing.
    Scalar(String, bool),
    /// A list.
    List(Vec<Node>),
    /// Keys and values, in their order.
    Map(Vec<(Node, Node)>),
    /// What stands elsewhere in the document, by its number.
    Alias(usize),
}

/// Where something stands in a text.
#[derive(Debug, Clone, Copy, Default)]
pub struct Place {
    /// Its first line, from 1.
    pub line: usize,
    /// The column of its first character, from 0.
    pub col: usize,
    /// Its last line that is not blank.
    pub last: usize,
    /// Whether it is written between brackets or braces.
    pub flow: bool,
}

impl Node {
    /// The value of a key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Self> {
        let Value::Map(entries) = &self.value else { return None };
        entries.iter().find(|(known, _)| known.text() == Some(key)).map(|(_, value)| value)
    }

    /// The same, with its key.
    #[must_use]
    pub fn entry(&self, key: &str) -> Option<&(Self, Self)> {
        let Value::Map(entries) = &self.value else { return None };
        entries.iter().find(|(known, _)| known.text() == Some(key))
    }

    /// The text of a scalar.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar(text, _) => Some(text),
            Value::List(_) | Value::Map(_) | Value::Alias(_) => None,
        }
    }

    /// The items of a list; none of anything else.
    #[must_use]
    pub fn items(&self) -> &[Self] {
        match &self.value {
            Value::List(items) => items,
            Value::Scalar(..) | Value::Map(_) | Value::Alias(_) => &[],
        }
    }

    /// Whether nothing is written where a value could be.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        matches!(&self.value, Value::Scalar(text, true) if text.is_empty())
    }
}

/// What is begun and not ended yet.
struct Open {
    at: Place,
    map: bool,
    nodes: Vec<Node>,
}

/// Reads one document.
///
/// # Errors
/// It is none.
pub fn read(text: &str) -> Result<Node, YamlError> {
    if text.len() > LONGEST {
        return Err(YamlError::TooMuch);
    }
    let chars: Vec<char> = text.chars().collect();
    let mut open: Vec<Open> = Vec::new();
    let mut root = None;
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| YamlError::Syntax {
            line: error.marker().line(),
            problem: error.info().to_owned(),
        })?;
        let node = match event {
            Event::Scalar(text, style, ..) => {
                let odd = style == ScalarStyle::Plain && is_ambiguous(&text);
                let value = Value::Scalar(text.into_owned(), odd);
                Node { value, at: place(&span, &chars) }
            }
            Event::Alias(number) => Node { value: Value::Alias(number), at: place(&span, &chars) },
            Event::SequenceStart(..) | Event::MappingStart(..) => {
                if open.len() == DEEPEST {
                    return Err(YamlError::TooMuch);
                }
                let map = matches!(event, Event::MappingStart(..));
                let flow = chars.get(span.start.index()).is_some_and(|c| matches!(c, '[' | '{'));
                let mut at = Place { flow, ..place(&span, &chars) };
                if !map && !flow {
                    at.col = dash(&span, &chars);
                }
                open.push(Open { at, map, nodes: Vec::new() });
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let Open { mut at, map, nodes } = open.pop().ok_or(YamlError::Count)?;
                let inner = nodes.iter().map(|node| node.at.last).max().unwrap_or(at.last);
                at.last = if at.flow { span.end.line().max(inner) } else { inner };
                let value = if map { Value::Map(pairs(nodes)) } else { Value::List(nodes) };
                Node { value, at }
            }
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd => continue,
        };
        match open.last_mut() {
            Some(open) => open.nodes.push(node),
            None if root.is_some() => return Err(YamlError::Count),
            None => root = Some(node),
        }
    }
    root.ok_or(YamlError::Count)
}

/// Whether a scalar without quotes may be something else than a text, by any version of YAML.
#[must_use]
pub fn is_ambiguous(text: &str) -> bool {
    let words =
        ["", "~", "null", "true", "false", "yes", "no", "on", "off", "y", "n", ".inf", ".nan"];
    let number = |c: char| c.is_ascii_hexdigit() || "+-._:xobT ".contains(c);
    let starts = text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.'));
    words.contains(&text.to_ascii_lowercase().as_str()) || starts && text.chars().all(number)
}

fn pairs(nodes: Vec<Node>) -> Vec<(Node, Node)> {
    let mut nodes = nodes.into_iter();
    std::iter::from_fn(|| Some((nodes.next()?, nodes.next()?))).collect()
}

/// The place of a leaf: blanks and line ends behind it are not its own.
fn place(span: &Span, chars: &[char]) -> Place {
    let (start, end) = (span.start.index(), span.end.index().min(chars.len()));
    let inner = chars.get(start..end).unwrap_or_default();
    let used = inner.iter().rposition(|c| !c.is_whitespace()).map_or(0, |at| at + 1);
    let lines = inner[..used].iter().filter(|c| **c == '\n').count();
    let (line, col) = (span.start.line(), span.start.col());
    Place { line, col, last: line + lines, flow: false }
}

/// The column of a list's first dash: a list that is no farther in than its key is told to begin behind it.
fn dash(span: &Span, chars: &[char]) -> usize {
    let (index, col) = (span.start.index(), span.start.col());
    let line = chars.get(index.saturating_sub(col)..(index + 1).min(chars.len()));
    line.unwrap_or_default().iter().rposition(|c| *c == '-').unwrap_or(col)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn things_are_where_they_stand() {
        let text =
            "# c\na:\n  - x: |\n      one\n\n      two\n\n    # more\n  - y\nb: [1,\n  2]\nc:\n";
        let root = read(text).unwrap();
        let at = |node: &Node| (node.at.line, node.at.col, node.at.last, node.at.flow);
        let list = root.get("a").unwrap();
        assert_eq!(at(list), (3, 2, 9, false));
        assert_eq!(at(&list.items()[0]), (3, 4, 6, false));
        assert_eq!(list.items()[0].get("x").unwrap().text(), Some("one\n\ntwo\n"));
        assert_eq!(at(root.get("b").unwrap()), (10, 3, 11, true));
        assert!(root.get("c").unwrap().is_nothing());
        assert_eq!(root.at.last, 12);
    }

    #[test]
    fn what_is_no_document_is_refused() {
        for bad in ["", "a: 1\n---\nb: 2\n", "a: [", "a: b: c"] {
            assert!(read(bad).is_err(), "{bad:?}");
        }
        assert_eq!(read(&"- ".repeat(1000)), Err(YamlError::TooMuch));
        assert_eq!(read(&"x".repeat(LONGEST + 1)), Err(YamlError::TooMuch));
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[-a-z:\\[\\]{}|>&*!\"'# \n\t]{0,80}") {
            let _ = read(&text);
        }
    }
}

//! Putting what a node needs into a Butane file that somebody wrote, without losing a line of it.
//!
//! Owns where the new lines go. Lines are only added between others, and what came out is read again:
//! it must say all that the base said, in its order, and what was added, and nothing else. What cannot be
//! put in that way is refused, by the name of what is in its way.

use std::collections::BTreeSet;

use thiserror::Error;

use super::butane::{self, Variant, indented};
use super::machine::{File, Link, Machine, Unit};
use super::yaml::{self, Node, Value, YamlError};

/// A base that nothing can be put into.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum BaseError {
    /// It is not YAML.
    #[error("it cannot be read as YAML")]
    Yaml(#[from] YamlError),
    /// It is not Butane, or of another variant.
    #[error("its variant is {found}, not {wanted}")]
    Variant {
        /// What it says.
        found: String,
        /// What is asked for.
        wanted: String,
    },
    /// Something of that name is there, and is not what it would have to be.
    #[error("`{0}` is there already, and says something else")]
    Clash(String),
    /// It is written so that no line can be put into it.
    #[error("`{0}` is written in a way that nothing can be added to")]
    Closed(String),
    /// A key that only one of its values would count for.
    #[error("`{0}` is there twice")]
    Twice(String),
    /// Lines would be added that end otherwise.
    #[error("its lines end with CRLF")]
    Crlf,
    /// What came out does not say what it should.
    #[error("the lines that would be added change what is there")]
    Unproved,
}

impl BaseError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Yaml(_) => "give a file that butane takes",
            Self::Variant { .. } => {
                "--variant says which one; a Butane file begins with `variant: flatcar` and a `version`"
            }
            Self::Clash(_) => {
                "take it out of the base, or merge the two by hand: without --base, the file has all that is needed"
            }
            Self::Closed(_) => {
                "write it as a block, one item a line, without brackets, braces or anchors"
            }
            Self::Twice(_) => "make one of both: whoever reads the file would see one alone",
            Self::Crlf => "end them with LF alone, as `sed 's/\\r$//'` does",
            Self::Unproved => {
                "merge the two by hand: without --base, the file has all that is needed"
            }
        }
    }
}

/// Lines to be added.
struct Insertion {
    /// After this line, from 1.
    after: usize,
    /// How far in they are: of two for one place, what belongs to an inner part comes first.
    col: usize,
    /// Whether they begin a key, which comes after the items of a list that is as far in.
    key: bool,
    lines: Vec<String>,
}

/// A base with what is to be added.
struct Work {
    /// As it is written.
    base: Node,
    /// What must come out.
    goal: Node,
    insertions: Vec<Insertion>,
}

/// The variant that a base is of.
///
/// # Errors
/// It is no Butane that is known.
pub fn variant(base: &str) -> Result<Variant, BaseError> {
    let root = yaml::read(base)?;
    let found = root.get("variant").and_then(Node::text).unwrap_or("missing");
    [Variant::Flatcar, Variant::Fcos].into_iter().find(|known| known.name() == found).ok_or_else(
        || BaseError::Variant {
            found: super::inert::line(found),
            wanted: "flatcar or fcos".to_owned(),
        },
    )
}

/// The base with a machine in it.
///
/// # Errors
/// It is not Butane of this variant, or something in it is in the way.
pub fn merge(base: &str, machine: &Machine, variant: Variant) -> Result<String, BaseError> {
    let found = self::variant(base)?;
    if found != variant {
        let (found, wanted) = (found.to_string(), variant.to_string());
        return Err(BaseError::Variant { found, wanted });
    }
    let root = yaml::read(base)?;
    if base.contains('\r') {
        return Err(BaseError::Crlf);
    }
    check_keys(&root, "")?;
    if root.at.flow {
        return Err(BaseError::Closed("the whole file".to_owned()));
    }
    let mut work = Work { goal: root.clone(), base: root, insertions: Vec::new() };
    let files = machine.files.iter().map(|file: &File| (file.path.as_str(), butane::file(file)));
    work.add_entries("files", files.collect())?;
    let links = machine.links.iter().map(|link: &Link| (link.path.as_str(), butane::link(link)));
    work.add_entries("links", links.collect())?;
    work.add_units(&machine.units)?;
    let merged = work.written(base);
    let proved = yaml::read(&merged).is_ok_and(|root| root == work.goal);
    if proved && keeps_lines(base, &merged) { Ok(merged) } else { Err(BaseError::Unproved) }
}

/// Whether every line of the base is there, in its order.
fn keeps_lines(base: &str, merged: &str) -> bool {
    let mut merged = merged.lines();
    base.lines().all(|line| merged.any(|other| other == line))
}

impl Work {
    /// Adds files or links whose paths nothing else has.
    fn add_entries(
        &mut self,
        list: &str,
        entries: Vec<(&str, Vec<String>)>,
    ) -> Result<(), BaseError> {
        let mut items = Vec::new();
        for (path, lines) in entries {
            let item = item(&lines)?;
            match self.entry_at(path) {
                None => items.push((item, lines)),
                Some((kind, known)) if kind == list && *known == item => {}
                Some((kind, _)) => return Err(BaseError::Clash(format!("storage.{kind} {path}"))),
            }
        }
        self.add_items("storage", list, items)
    }

    /// What of the base's storage has a path.
    fn entry_at(&self, path: &str) -> Option<(&str, &Node)> {
        let Value::Map(lists) = &self.base.get("storage")?.value else { return None };
        lists.iter().find_map(|(kind, list)| {
            let has_path = |item: &&Node| item.get("path").and_then(Node::text) == Some(path);
            Some((kind.text()?, list.items().iter().find(has_path)?))
        })
    }

    fn add_units(&mut self, units: &[Unit]) -> Result<(), BaseError> {
        let mut items = Vec::new();
        for unit in units {
            let known = self.base.get("systemd").and_then(|systemd| systemd.get("units"));
            let known = known.map(Node::items).unwrap_or_default();
            let has_name =
                |item: &Node| item.get("name").and_then(Node::text) == Some(unit.name.as_str());
            match known.iter().position(has_name) {
                None => items.push((item(&butane::unit(unit))?, butane::unit(unit))),
                Some(index) => {
                    let known = known[index].clone();
                    self.extend_unit(unit, index, &known)?;
                }
            }
        }
        self.add_items("systemd", "units", items)
    }

    /// Adds to a unit of the base what it lacks.
    fn extend_unit(&mut self, unit: &Unit, index: usize, known: &Node) -> Result<(), BaseError> {
        let clash = |key: &str| BaseError::Clash(format!("systemd.units {} {key}", unit.name));
        let closed = || BaseError::Closed(format!("systemd.units {}", unit.name));
        let wanted = item(&butane::unit(unit))?;
        if known.at.flow {
            return Err(closed());
        }
        if known.get("mask").is_some_and(|mask| mask.text() != Some("false")) {
            return Err(clash("mask"));
        }
        let mut lacks = Vec::new();
        for key in ["enabled", "contents"] {
            match (wanted.get(key), known.get(key)) {
                (None, _) => {}
                (Some(wanted), Some(known)) if wanted == known => {}
                (Some(_), Some(_)) => return Err(clash(key)),
                // A unit of theirs with our name, without contents, is one that the system has.
                (Some(_), None) if key == "contents" => return Err(clash(key)),
                (Some(_), None) => lacks.push(key),
            }
        }
        let col = known.at.col;
        for key in lacks {
            self.insert(known.at.last, col, true, vec![indented(&format!("{key}: true"), col)]);
            let entry = wanted.entry(key).cloned().ok_or_else(closed)?;
            map_of(&mut self.goal, index).ok_or_else(closed)?.push(entry);
        }
        let mut dropins = Vec::new();
        for dropin in &unit.dropins {
            let lines = butane::dropin(dropin);
            let wanted = item(&lines)?;
            let theirs = known.get("dropins").map(Node::items).unwrap_or_default();
            let same =
                |item: &&Node| item.get("name").and_then(Node::text) == Some(dropin.0.as_str());
            match theirs.iter().find(same) {
                Some(known) if *known == wanted => {}
                Some(_) => return Err(clash(&format!("dropins {}", dropin.0))),
                None => dropins.push((wanted, lines)),
            }
        }
        if dropins.is_empty() {
            return Ok(());
        }
        let (nodes, lines): (Vec<Node>, Vec<Vec<String>>) = dropins.into_iter().unzip();
        let lines = lines.concat();
        let goal = map_of(&mut self.goal, index).ok_or_else(closed)?;
        match known.entry("dropins") {
            None => {
                goal.push((scalar("dropins"), list(nodes)));
                let mut all = vec![indented("dropins:", col)];
                all.extend(lines.iter().map(|line| indented(line, col + 2)));
                self.insert(known.at.last, col, true, all);
            }
            Some((_, there)) => {
                if there.at.flow || !matches!(there.value, Value::List(_)) {
                    return Err(closed());
                }
                let goal = goal.iter_mut().find(|(key, _)| key.text() == Some("dropins"));
                let Some((_, Node { value: Value::List(items), .. })) = goal else {
                    return Err(closed());
                };
                items.extend(nodes);
                let (after, col) = (there.at.last, there.at.col);
                self.insert(
                    after,
                    col,
                    false,
                    lines.iter().map(|line| indented(line, col)).collect(),
                );
            }
        }
        Ok(())
    }

    /// Adds items to a list of a section; makes what is not there.
    fn add_items(
        &mut self,
        section: &str,
        name: &str,
        items: Vec<(Node, Vec<String>)>,
    ) -> Result<(), BaseError> {
        if items.is_empty() {
            return Ok(());
        }
        let (nodes, lines): (Vec<Node>, Vec<Vec<String>>) = items.into_iter().unzip();
        let lines = lines.concat();
        let indented = |by: usize| lines.iter().map(move |line| indented(line, by));
        let closed = |what: &str| BaseError::Closed(what.to_owned());
        let path = format!("{section}.{name}");
        let root = self.base.clone();
        match root.entry(section) {
            None => {
                // A section that was made for the list before is the last thing in the file.
                let made = self.goal.get(section).is_some();
                let mut all = Vec::new();
                if !made {
                    all.push(format!("{section}:"));
                }
                all.push(format!("  {name}:"));
                all.extend(indented(4));
                self.insert(root.at.last, 0, true, all);
            }
            Some((key, there)) if there.is_nothing() => {
                let mut all = vec![format!("  {name}:")];
                all.extend(indented(4));
                self.insert(key.at.last, key.at.col, true, all);
            }
            Some((_, there)) if there.at.flow || !matches!(there.value, Value::Map(_)) => {
                return Err(closed(section));
            }
            Some((_, there)) => match there.entry(name) {
                None => {
                    let col = there.at.col;
                    let mut all = vec![butane::indented(&format!("{name}:"), col)];
                    all.extend(indented(col + 2));
                    self.insert(there.at.last, col, true, all);
                }
                Some((key, known)) if known.is_nothing() => {
                    let col = key.at.col + 2;
                    self.insert(key.at.last, col, false, indented(col).collect());
                }
                Some((_, known)) if known.at.flow || !matches!(known.value, Value::List(_)) => {
                    return Err(closed(&path));
                }
                Some((_, known)) => {
                    let col = known.at.col;
                    self.insert(known.at.last, col, false, indented(col).collect());
                }
            },
        }
        let section = child(&mut self.goal, section).ok_or_else(|| closed(section))?;
        let known = child(section, name).ok_or_else(|| closed(&path))?;
        if known.is_nothing() {
            known.value = Value::List(Vec::new());
        }
        let Value::List(items) = &mut known.value else { return Err(closed(&path)) };
        items.extend(nodes);
        Ok(())
    }

    fn insert(&mut self, after: usize, col: usize, key: bool, lines: Vec<String>) {
        self.insertions.push(Insertion { after, col, key, lines });
    }

    /// The base with all that is to be added.
    fn written(&mut self, base: &str) -> String {
        // Stable: what is alike stays in the order in which it was asked for.
        self.insertions.sort_by_key(|at| (at.after, std::cmp::Reverse(at.col), at.key));
        let mut out = String::new();
        let mut waiting = self.insertions.iter().peekable();
        for (index, line) in base.lines().enumerate() {
            out.push_str(line);
            out.push('\n');
            while let Some(next) = waiting.next_if(|next| next.after <= index + 1) {
                for line in &next.lines {
                    out.push_str(line);
                    out.push('\n');
                }
            }
        }
        out
    }
}

/// Refuses what would hide lines that are there: a key that stands twice; and one that brings others
/// from elsewhere, wherever lines may be added.
fn check_keys(node: &Node, path: &str) -> Result<(), BaseError> {
    let Value::Map(entries) = &node.value else {
        return node.items().iter().try_for_each(|item| check_keys(item, path));
    };
    let mut seen = BTreeSet::new();
    for (key, value) in entries {
        let Some(key) = key.text() else { continue };
        let at = if path.is_empty() { key.to_owned() } else { format!("{path} {key}") };
        if !seen.insert(key) {
            return Err(BaseError::Twice(at));
        }
        if key == "<<" && MERGED.contains(&path) {
            return Err(BaseError::Closed(at));
        }
        check_keys(value, &at)?;
    }
    Ok(())
}

/// Where keys are added, the items of a list being where the list is.
const MERGED: [&str; 4] = ["", "storage", "systemd", "systemd units"];

/// The only item of a list that is written as these lines.
fn item(lines: &[String]) -> Result<Node, BaseError> {
    let Node { value, .. } = yaml::read(&(lines.join("\n") + "\n"))?;
    match value {
        Value::List(mut items) if items.len() == 1 => items.pop().ok_or(BaseError::Unproved),
        _ => Err(BaseError::Unproved),
    }
}

fn scalar(text: &str) -> Node {
    Node {
        value: Value::Scalar(text.to_owned(), yaml::is_ambiguous(text)),
        at: yaml::Place::default(),
    }
}

fn list(items: Vec<Node>) -> Node {
    Node { value: Value::List(items), at: yaml::Place::default() }
}

/// The value of a key, which is put there if it is not; nothing where there can be no key.
fn child<'n>(node: &'n mut Node, key: &str) -> Option<&'n mut Node> {
    if node.is_nothing() {
        node.value = Value::Map(Vec::new());
    }
    let Value::Map(entries) = &mut node.value else { return None };
    let at = entries.iter().position(|(known, _)| known.text() == Some(key));
    let at = at.unwrap_or_else(|| {
        entries.push((scalar(key), scalar("")));
        entries.len() - 1
    });
    entries.get_mut(at).map(|(_, value)| value)
}

/// The keys and values of a unit of a document.
fn map_of(root: &mut Node, unit: usize) -> Option<&mut Vec<(Node, Node)>> {
    let units = child(child(root, "systemd")?, "units")?;
    let Value::List(items) = &mut units.value else { return None };
    match &mut items.get_mut(unit)?.value {
        Value::Map(entries) => Some(entries),
        Value::Scalar(..) | Value::List(_) | Value::Alias(_) => None,
    }
}

#[cfg(test)]
mod tests;

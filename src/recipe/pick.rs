//! Picking: which entries of an asset go where, with `cp`'s meaning of a final slash.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use globset::{GlobBuilder, GlobMatcher};

use super::archive::{Archive, Entry};
use super::intake::Want;
use super::spool::Content;
use super::tree::{Node, Tree};
use super::{Input, RecipeError, literal, normal_mode};
use crate::config::extension::Kind;
use crate::config::files::{Destination, FileRule, Mode};
use crate::template::{Text, Vars};

/// The largest file in which texts are replaced, in bytes: it is a unit or a script, no program.
const TEXT_LIMIT: u64 = 16 << 20;

/// How many names an error lists.
const SHOWN: usize = 12;

/// What the content of each entry will be wanted for, told before the archive is read. It may say
/// of more than is picked in the end that it is wanted, never of less.
pub(super) struct Wanted {
    strip: usize,
    rules: Vec<(Pattern, Want)>,
}

impl Wanted {
    pub(super) fn new(input: &Input<'_>, vars: &Vars<'_>) -> Result<Self, RecipeError> {
        let mut rules = Vec::new();
        for rule in input.rule.files.values() {
            let FileRule::Pick { from, replace, .. } = rule else { continue };
            let want = if replace.is_empty() { Want::Image } else { Want::Recipe };
            for pattern in from {
                rules.push((Pattern::new(&pattern.expand(vars))?, want));
            }
        }
        Ok(Self { strip: input.rule.strip_components, rules })
    }

    pub(super) fn of(&self, path: &str) -> Want {
        let Some(path) = stripped(path, self.strip) else { return Want::Nothing };
        let wants = self.rules.iter().filter(|(pattern, _)| pattern.covers(path));
        wants.map(|(_, want)| *want).fold(Want::Nothing, |most, want| match (most, want) {
            // What can be read again can also go into the image.
            (Want::Recipe, _) | (_, Want::Recipe) => Want::Recipe,
            (Want::Image, _) | (_, Want::Image) => Want::Image,
            (Want::Nothing, Want::Nothing) => Want::Nothing,
        })
    }
}

/// As `tar --strip-components`: what has no more than that is left out.
fn stripped(path: &str, strip: usize) -> Option<&str> {
    path.splitn(strip + 1, '/').nth(strip)
}

/// A path or glob of `[asset.files]`.
struct Pattern {
    /// Without what does not matter; empty for the whole asset.
    path: String,
    glob: Option<GlobMatcher>,
}

impl Pattern {
    fn new(pattern: &str) -> Result<Self, RecipeError> {
        let path = pattern.trim_start_matches("./").trim_end_matches('/');
        let path = if path == "." { "" } else { path };
        let special = path.contains(['*', '?', '[', '{']);
        let glob = special.then(|| GlobBuilder::new(path).literal_separator(true).build());
        let glob = glob.transpose().map_err(|error| RecipeError::Glob {
            pattern: pattern.to_owned(),
            problem: error.kind().to_string(),
        })?;
        Ok(Self { path: path.to_owned(), glob: glob.map(|glob| glob.compile_matcher()) })
    }

    /// Whether it can stand for an entry, or for a folder above it.
    fn covers(&self, path: &str) -> bool {
        let below = || path.strip_prefix(&self.path).is_some_and(|rest| rest.starts_with('/'));
        let globbed = |glob: &GlobMatcher| with_parents(path).any(|path| glob.is_match(path));
        self.path.is_empty()
            || self.path == path
            || below()
            || self.glob.as_ref().is_some_and(globbed)
    }
}

/// A path and all folders above it.
fn with_parents(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('/').map(|(at, _)| &path[..at]).chain([path])
}

/// An asset's entries, `strip-components` applied.
pub(super) struct Picker<'a> {
    entries: BTreeMap<String, Entry>,
    asset: &'a str,
    vars: &'a Vars<'a>,
    kind: Kind,
}

impl<'a> Picker<'a> {
    pub(super) fn new(
        archive: Archive,
        input: &'a Input<'_>,
        vars: &'a Vars<'a>,
        kind: Kind,
    ) -> Self {
        let strip = input.rule.strip_components;
        let entries = match strip {
            0 => archive.entries,
            _ => archive
                .entries
                .into_iter()
                .filter_map(|(path, entry)| Some((stripped(&path, strip)?.to_owned(), entry)))
                .collect(),
        };
        Self { entries, asset: &input.name, vars, kind }
    }

    /// For something that has no rule of its own.
    pub(super) fn of_all(archive: Archive, what: &'a str, vars: &'a Vars<'a>, kind: Kind) -> Self {
        Self { entries: archive.entries, asset: what, vars, kind }
    }

    /// Takes every entry, under the path it has.
    pub(super) fn all(&self, tree: &mut Tree) -> Result<(), RecipeError> {
        let nothing = BTreeMap::new();
        let mut replacer = Replacer::new(&nothing, self.vars);
        for (path, entry) in &self.entries {
            self.insert(entry, path, None, &mut replacer, tree)?;
        }
        Ok(())
    }

    /// Does what one line of `[asset.files]` says, but for `delete`.
    pub(super) fn apply(
        &mut self,
        to: &Destination,
        rule: &FileRule,
        tree: &mut Tree,
    ) -> Result<(), RecipeError> {
        let FileRule::Pick { from, mode, replace } = rule else {
            if let Some(node) = literal(rule, self.vars) {
                tree.insert(to.path(), node)?;
            }
            return Ok(());
        };
        let mut replacer = Replacer::new(replace, self.vars);
        for pattern in from {
            let pattern = pattern.expand(self.vars);
            let found = self.find(&pattern)?;
            if found.is_empty() {
                return Err(self.missing(pattern));
            }
            let whole = found == [""];
            if !whole && !to.is_folder() && (found.len() > 1 || from.len() > 1) {
                return Err(RecipeError::Several {
                    asset: self.asset.to_owned(),
                    count: found.len().max(from.len()),
                    pattern,
                    to: to.to_string(),
                });
            }
            for path in found {
                let name = path.rsplit('/').next().unwrap_or(&path);
                let target = match (whole, to.is_folder()) {
                    (false, true) => format!("{}/{name}", to.path()),
                    _ => to.path().to_owned(),
                };
                self.place(&path, &target, *mode, &mut replacer, tree)?;
            }
        }
        match replacer.unseen() {
            None => Ok(()),
            Some(text) => {
                let file = from.iter().map(Text::as_str).collect::<Vec<_>>().join(", ");
                Err(RecipeError::Replace { file, text: text.to_owned() })
            }
        }
    }

    /// The entries that a path or glob names; `""` stands for the whole asset.
    fn find(&self, pattern: &str) -> Result<Vec<String>, RecipeError> {
        let Pattern { path, glob } = Pattern::new(pattern)?;
        if path.is_empty() {
            return Ok(if self.entries.is_empty() { Vec::new() } else { vec![path] });
        }
        if self.entries.contains_key(&path) || self.below(&path).next().is_some() {
            return Ok(vec![path]);
        }
        let Some(glob) = glob else { return Ok(Vec::new()) };
        // Folders count even where the archive lists only what they hold.
        let mut found = BTreeSet::new();
        for path in self.entries.keys() {
            found.extend(with_parents(path).filter(|path| glob.is_match(path)).map(str::to_owned));
        }
        Ok(found.into_iter().collect())
    }

    fn below(&self, path: &str) -> impl Iterator<Item = (&String, &Entry)> {
        let prefix = if path.is_empty() { String::new() } else { format!("{path}/") };
        let from = (Bound::Included(prefix.clone()), Bound::Unbounded);
        self.entries.range::<String, _>(from).take_while(move |(path, _)| path.starts_with(&prefix))
    }

    fn place(
        &self,
        path: &str,
        target: &str,
        mode: Option<Mode>,
        replacer: &mut Replacer<'_>,
        tree: &mut Tree,
    ) -> Result<(), RecipeError> {
        if let Some(entry) = self.entries.get(path) {
            self.insert(entry, target, mode, replacer, tree)?;
        }
        for (below, entry) in self.below(path) {
            let rest = below[path.len()..].trim_start_matches('/');
            self.insert(entry, &format!("{target}/{rest}"), mode, replacer, tree)?;
        }
        Ok(())
    }

    fn insert(
        &self,
        entry: &Entry,
        target: &str,
        mode: Option<Mode>,
        replacer: &mut Replacer<'_>,
        tree: &mut Tree,
    ) -> Result<(), RecipeError> {
        let node = match entry {
            Entry::Directory { .. } => Node::Folder,
            Entry::Symlink { target: to } => {
                if leaves(target, to, self.kind) {
                    return Err(RecipeError::Escape {
                        path: target.to_owned(),
                        target: to.clone(),
                    });
                }
                Node::Symlink { target: to.clone() }
            }
            Entry::File { mode: theirs, content } => Node::File {
                mode: mode.map_or_else(|| normal_mode(*theirs), Mode::bits),
                content: replacer
                    .run(content)
                    .map_err(|source| RecipeError::Disk { path: self.asset.into(), source })?,
            },
        };
        Ok(tree.insert(target, node)?)
    }

    fn missing(&self, pattern: String) -> RecipeError {
        let names: Vec<_> = self
            .entries
            .iter()
            .filter(|(_, entry)| !matches!(entry, Entry::Directory { .. }))
            .map(|(path, _)| path)
            .collect();
        // What has the wanted name elsewhere is most likely what was meant.
        let wanted = pattern.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
        let alike: Vec<_> =
            names.iter().filter(|path| path.rsplit('/').next() == Some(wanted)).collect();
        let list = |names: &[&&String]| {
            names.iter().map(|path| format!("`{path}`")).collect::<Vec<_>>().join(", ")
        };
        let there = if !alike.is_empty() {
            format!("there is {}; see `strip-components`", list(&alike[..alike.len().min(SHOWN)]))
        } else if names.is_empty() {
            "there is nothing in it; see `strip-components`".to_owned()
        } else {
            let shown: Vec<_> = names.iter().take(SHOWN).collect();
            let more = names.len() - shown.len();
            let more = if more == 0 { String::new() } else { format!(" and {more} more") };
            format!("it has {}{more}", list(&shown))
        };
        RecipeError::Missing { asset: self.asset.to_owned(), pattern, there }
    }
}

/// Whether a link of an asset at `path` leads anywhere but into what a node merges.
///
/// The link would only be followed on a node, long after the build. But nothing that an upstream
/// ships needs to point at `/etc/passwd`; who wants that can say so in `[files]`.
fn leaves(path: &str, target: &str, kind: Kind) -> bool {
    let mut at: Vec<&str> = match target.strip_prefix('/') {
        Some(_) => Vec::new(),
        None => path.split('/').rev().skip(1).collect::<Vec<_>>().into_iter().rev().collect(),
    };
    let mut below = false;
    for part in target.split('/') {
        match part {
            "" | "." => {}
            // After a name, it depends on what that name is on the node: it may be a link.
            ".." if below => return true,
            ".." => {
                if at.pop().is_none() {
                    return true;
                }
            }
            name => {
                below = true;
                at.push(name);
            }
        }
    }
    match at.first() {
        Some(&("usr" | "opt")) => false,
        Some(top) => !kind.tops().contains(top),
        None => true,
    }
}

/// Replaces texts and remembers which ever occurred.
struct Replacer<'r> {
    rules: Vec<(&'r str, String, bool)>,
}

impl<'r> Replacer<'r> {
    fn new(replace: &'r BTreeMap<String, Text>, vars: &Vars<'_>) -> Self {
        Self {
            rules: replace
                .iter()
                .map(|(from, to)| (from.as_str(), to.expand(vars), false))
                .collect(),
        }
    }

    fn run(&mut self, content: &Content) -> std::io::Result<Content> {
        if self.rules.is_empty() {
            return Ok(content.clone());
        }
        let mut bytes = content.read_all(TEXT_LIMIT)?;
        let mut replaced_any = false;
        for (from, to, seen) in &mut self.rules {
            let (replaced, count) = replace(&bytes, from.as_bytes(), to.as_bytes());
            *seen |= count > 0;
            replaced_any |= count > 0;
            bytes = replaced;
        }
        // What did not change stays where it is, out of memory.
        Ok(if replaced_any { Content::from_bytes(bytes) } else { content.clone() })
    }

    fn unseen(&self) -> Option<&'r str> {
        self.rules.iter().find(|(_, _, seen)| !seen).map(|(from, _, _)| *from)
    }
}

/// Bytes, not text: a script may hold anything.
fn replace(bytes: &[u8], from: &[u8], to: &[u8]) -> (Vec<u8>, usize) {
    let mut out = Vec::with_capacity(bytes.len());
    let (mut at, mut count) = (0, 0);
    while at < bytes.len() {
        if bytes[at..].starts_with(from) {
            out.extend_from_slice(to);
            at += from.len();
            count += 1;
        } else {
            out.push(bytes[at]);
            at += 1;
        }
    }
    (out, count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_stay_in_what_is_merged() {
        for (path, target) in [
            ("usr/bin/a", "b"),
            ("usr/bin/a", "../lib/b"),
            ("usr/bin/a", "/usr/lib/b"),
            ("usr/bin/a", "/opt/x"),
            ("usr/bin/a", "../../opt/x"),
        ] {
            assert!(!leaves(path, target, Kind::Sysext), "{path} → {target}");
        }
        for (path, target) in [
            ("usr/bin/a", "../../../etc/passwd"),
            ("usr/bin/a", "../../etc/passwd"),
            ("usr/bin/a", "/etc/passwd"),
            ("usr/bin/a", "/"),
            ("usr/a", "../.."),
            ("usr/bin/a", "/usr/../etc"),
            ("usr/share/x/l2", "l1/../etc/shadow"),
        ] {
            assert!(leaves(path, target, Kind::Sysext), "{path} → {target}");
        }
        assert!(!leaves("etc/x/a", "/usr/lib/b", Kind::Confext));
        assert!(!leaves("etc/x/a", "../b", Kind::Confext));
        assert!(leaves("etc/x/a", "/var/b", Kind::Confext));
    }

    #[test]
    fn a_pattern_covers_what_it_may_pick() {
        for (pattern, path, covers) in [
            ("a/b", "a/b", true),
            ("./a/b/", "a/b", true),
            ("a", "a/b/c", true),
            ("a", "ab", false),
            (".", "any/thing", true),
            ("./", "any/thing", true),
            ("a/*", "a/b", true),
            ("a/*", "a/b/c", true),
            ("*.service", "x.service", true),
            ("*.service", "d/x.service", false),
            ("a-*", "a-1/bin/a", true),
        ] {
            assert_eq!(Pattern::new(pattern).unwrap().covers(path), covers, "{pattern} {path}");
        }
    }

    #[test]
    fn every_occurrence_is_replaced() {
        assert_eq!(replace(b"aXbXX", b"X", b"yy"), (b"ayybyyyy".to_vec(), 3));
        assert_eq!(replace(b"a", b"aa", b""), (b"a".to_vec(), 0));
    }
}

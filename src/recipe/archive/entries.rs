//! The virtual tree while it grows: which paths, links and amounts are taken.
//!
//! Owns the rules that hold for every archive format. It refuses to know any format: the readers
//! of tar and zip hand in raw names and streams of content.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::ops::Bound;

use super::{ArchiveError, Entry, Limits, Problem, layers};
use crate::recipe::intake::{Intake, Want};
use crate::recipe::spool::{Content, SpoolError};

/// `PATH_MAX` of Linux, for paths and for symlink targets, in bytes.
pub(super) const PATH_MAX: usize = 4096;
/// Names in a path. Real trees have a few dozen; every folder on the way costs work later on.
const DEPTH_MAX: usize = 100;
/// `NAME_MAX` of Linux, in bytes.
const NAME_MAX: usize = 255;
/// All paths and targets together, in bytes. They stay in memory for the whole build, while
/// [`Limits`] alone would allow names of more than a gigabyte.
const NAMES_MAX: usize = 64 << 20;
/// How much of a hostile name a message repeats, in characters.
const QUOTE_MAX: usize = 200;

/// The entries so far, and what is left of the limits.
pub(super) struct Entries<'w> {
    limits: Limits,
    wants: &'w dyn Fn(&str) -> Want,
    map: BTreeMap<String, Entry>,
    /// The layers below this one, where there are layers.
    below: Option<BTreeMap<String, Entry>>,
    seen: usize,
    bytes: u64,
    names: usize,
    newest: Option<u64>,
}

impl<'w> Entries<'w> {
    pub(super) fn new(limits: Limits, wants: &'w dyn Fn(&str) -> Want) -> Self {
        Self {
            limits,
            wants,
            map: BTreeMap::new(),
            below: None,
            seen: 0,
            bytes: 0,
            names: 0,
            newest: None,
        }
    }

    pub(super) fn limits(&self) -> Limits {
        self.limits
    }

    /// The newest date so far, in seconds since 1970.
    pub(super) fn newest(&self) -> Option<u64> {
        self.newest
    }

    /// Hears of the date of one file.
    pub(super) fn dated(&mut self, seconds: u64) {
        self.newest = self.newest.max(Some(seconds));
    }

    /// Counts one more entry of the archive, whether it is kept in the end or not.
    pub(super) fn begin(&mut self) -> Result<(), ArchiveError> {
        self.seen += 1;
        if self.seen > self.limits.entries {
            return Err(ArchiveError::TooMany { limit: self.limits.entries });
        }
        Ok(())
    }

    /// Counts so many bytes of names that are kept.
    pub(super) fn name(&mut self, bytes: usize) -> Result<(), ArchiveError> {
        self.names += bytes;
        if self.names > NAMES_MAX {
            return Err(ArchiveError::Names { limit: NAMES_MAX });
        }
        Ok(())
    }

    /// Refuses a size which an archive only announces, so that a liar is caught before its bytes
    /// are unpacked. What is really unpacked counts in [`Entries::take`].
    pub(super) fn announce(&self, size: u64) -> Result<(), ArchiveError> {
        if size > self.limits.bytes - self.bytes {
            return Err(ArchiveError::TooLarge { limit: self.limits.bytes });
        }
        Ok(())
    }

    /// Takes the content of one file in. The inner error is that of `reader`, which its owner can
    /// explain best.
    pub(super) fn take(
        &mut self,
        path: &str,
        reader: &mut dyn Read,
        intake: &mut Intake<'_>,
    ) -> Result<Result<Content, io::Error>, ArchiveError> {
        match intake.take(reader, self.limits.bytes - self.bytes, (self.wants)(path)) {
            Ok(content) => {
                self.bytes += content.len();
                Ok(Ok(content))
            }
            Err(SpoolError::Read(source)) => Ok(Err(source)),
            Err(SpoolError::Write(source)) => Err(ArchiveError::Spool(source)),
            Err(SpoolError::Limit { .. }) => {
                Err(ArchiveError::TooLarge { limit: self.limits.bytes })
            }
        }
    }

    /// Takes one entry. A later entry of the same path replaces the earlier one, as with tar, but
    /// only a directory can replace a directory: anything else would change what its children
    /// mean. The empty path is the root of the archive and not kept.
    pub(super) fn insert(&mut self, path: String, entry: Entry) -> Result<(), ArchiveError> {
        let directory = matches!(entry, Entry::Directory { .. });
        if path.is_empty() {
            return if directory {
                Ok(())
            } else {
                Err(ArchiveError::entry(b"", Problem::EmptyPath))
            };
        }
        let target = if let Entry::Symlink { target } = &entry { target.len() } else { 0 };
        self.name(path.len() + target)?;
        let earlier = self.map.get(&path);
        if earlier.is_some_and(|entry| matches!(entry, Entry::Directory { .. }) != directory) {
            return Err(ArchiveError::entry(path.as_bytes(), Problem::ChangesType));
        }
        self.map.insert(path, entry);
        Ok(())
    }

    /// Takes a hard link: a file which shares the content and the mode of an earlier one.
    pub(super) fn hard_link(&mut self, path: String, target: &[u8]) -> Result<(), ArchiveError> {
        let refuse = |problem: fn(String) -> Problem| {
            ArchiveError::entry(path.as_bytes(), problem(quote(target)))
        };
        let name = match check(target) {
            Ok(name) => name,
            Err(Problem::LeavesRoot | Problem::Absolute) => {
                return Err(refuse(Problem::LinkLeavesRoot));
            }
            Err(_) => return Err(refuse(Problem::LinkMissing)),
        };
        let below = || self.below.as_ref().and_then(|below| below.get(&name));
        let file = match self.map.get(&name).or_else(below) {
            Some(file @ Entry::File { .. }) => file.clone(),
            Some(_) => return Err(refuse(Problem::LinkNotFile)),
            None => return Err(refuse(Problem::LinkMissing)),
        };
        if let Entry::File { content, .. } = &file {
            let fits = match (self.wants)(&path) {
                Want::Nothing => true,
                Want::Image => !matches!(content, Content::Absent { .. }),
                Want::Recipe => !matches!(content, Content::Absent { .. } | Content::Kept(_)),
            };
            if !fits {
                return Err(ArchiveError::Again);
            }
        }
        // An image has room for one copy, but everything that reads it in between counts each.
        if let Entry::File { content, .. } = &file {
            self.announce(content.len())?;
            self.bytes += content.len();
        }
        self.insert(path, file)
    }

    /// Takes a symlink. Where it leads is not judged here.
    pub(super) fn symlink(&mut self, path: String, target: &[u8]) -> Result<(), ArchiveError> {
        let usable = !target.is_empty() && target.len() <= PATH_MAX && !target.contains(&0);
        match std::str::from_utf8(target) {
            Ok(target) if usable => self.insert(path, Entry::Symlink { target: target.to_owned() }),
            _ => Err(ArchiveError::entry(path.as_bytes(), Problem::BadTarget)),
        }
    }

    /// Whether these are layers of a container image: the devices that such a file system has are
    /// no reason to refuse the rest.
    pub(super) fn are_layers(&self) -> bool {
        self.below.is_some()
    }

    /// Begins a layer, the first or one that lies on the ones before.
    pub(super) fn begin_layer(&mut self) {
        let upper = std::mem::take(&mut self.map);
        let below = self.below.take().unwrap_or_default();
        self.below = Some(layers::lay(below, upper));
    }

    /// The finished tree. Only now it is known whether a path goes through something that is not
    /// a directory, because an archive can name the two in either order.
    pub(super) fn finish(mut self) -> Result<BTreeMap<String, Entry>, ArchiveError> {
        if let Some(below) = self.below.take() {
            self.map = layers::lay(below, self.map);
        }
        for (path, entry) in &self.map {
            let through: fn(String) -> Problem = match entry {
                Entry::Directory { .. } => continue,
                Entry::Symlink { .. } => Problem::ThroughSymlink,
                Entry::File { .. } => Problem::ThroughFile,
            };
            // One look per entry, because a look per parent lets deep hostile paths cost hours.
            let below = format!("{path}/");
            let range = (Bound::Included(below.as_str()), Bound::Unbounded);
            if let Some((child, _)) = self.map.range::<str, _>(range).next()
                && child.starts_with(&below)
            {
                let problem = through(quote(path.as_bytes()));
                return Err(ArchiveError::entry(child.as_bytes(), problem));
            }
        }
        Ok(self.map)
    }
}

/// Brings a path of an archive into the form of [`super::Archive::entries`]. The root of the
/// archive, as in `./`, gives the empty path.
pub(super) fn normalise(raw: &[u8]) -> Result<String, ArchiveError> {
    check(raw).map_err(|problem| ArchiveError::entry(raw, problem))
}

fn check(raw: &[u8]) -> Result<String, Problem> {
    if raw.is_empty() {
        return Err(Problem::EmptyPath);
    }
    if raw.len() > PATH_MAX {
        return Err(Problem::TooLong);
    }
    let path = std::str::from_utf8(raw).map_err(|_| Problem::NotUtf8)?;
    if path.chars().any(char::is_control) {
        return Err(Problem::Control);
    }
    if path.starts_with('/') {
        return Err(Problem::Absolute);
    }
    let mut normal = String::with_capacity(path.len());
    let mut depth = 0;
    for component in path.split('/') {
        match component {
            "" | "." => continue,
            ".." => return Err(Problem::LeavesRoot),
            _ if component.len() > NAME_MAX => return Err(Problem::TooLong),
            _ => {}
        }
        if !normal.is_empty() {
            normal.push('/');
        }
        normal.push_str(component);
        depth += 1;
        if depth > DEPTH_MAX {
            return Err(Problem::TooDeep);
        }
    }
    Ok(normal)
}

/// A name of an archive for a message: escaped, so that it cannot drive a terminal, and short.
pub(super) fn quote(raw: &[u8]) -> String {
    let escaped = match std::str::from_utf8(raw) {
        Ok(text) => {
            let quoted = format!("{text:?}");
            quoted[1..quoted.len() - 1].to_owned()
        }
        Err(_) => raw.escape_ascii().to_string(),
    };
    match escaped.char_indices().nth(QUOTE_MAX) {
        Some((end, _)) => format!("{}…", &escaped[..end]),
        None => escaped,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(raw: &[u8]) -> Problem {
        check(raw).unwrap_err()
    }

    fn file() -> Entry {
        Entry::File { mode: 0o644, content: Content::from_bytes(*b"x") }
    }

    fn tree(items: &[(&str, Entry)]) -> Result<BTreeMap<String, Entry>, ArchiveError> {
        let mut entries = Entries::new(Limits::default(), &|_| Want::Image);
        for (path, entry) in items {
            entries.insert((*path).to_owned(), entry.clone())?;
        }
        entries.finish()
    }

    fn link(target: &str) -> Entry {
        Entry::Symlink { target: target.to_owned() }
    }

    #[test]
    fn paths_are_normalised() {
        for (raw, normal) in [
            ("a//b", "a/b"),
            ("./a", "a"),
            ("./a/./b/", "a/b"),
            ("./", ""),
            (".", ""),
            ("...", "..."),
            ("a/..b", "a/..b"),
        ] {
            assert_eq!(check(raw.as_bytes()).unwrap(), normal, "{raw}");
        }
    }

    #[test]
    fn hostile_paths_are_refused() {
        assert_eq!(problem(b""), Problem::EmptyPath);
        assert_eq!(problem(b"/etc/passwd"), Problem::Absolute);
        assert_eq!(problem(b"//etc"), Problem::Absolute);
        for raw in ["..", "../x", "a/../../x", "a/..", "./../x", "a/../b"] {
            assert_eq!(problem(raw.as_bytes()), Problem::LeavesRoot, "{raw}");
        }
        for raw in ["a\0b", "a\nb", "\x1b[31m", "a\x7f", "a\u{85}"] {
            assert_eq!(problem(raw.as_bytes()), Problem::Control, "{raw:?}");
        }
        assert_eq!(problem(b"a/\xff"), Problem::NotUtf8);
        assert_eq!(problem(&[b'a'; 256]), Problem::TooLong);
        assert!(check(&[b'a'; 255]).is_ok());
        assert_eq!(problem(&b"ab/".repeat(1366)), Problem::TooLong);
        assert!(check(&b"ab/".repeat(100)).is_ok());
        assert_eq!(check(&b"ab/".repeat(101)), Err(Problem::TooDeep));
    }

    #[test]
    fn messages_cannot_drive_a_terminal_nor_flood_it() {
        let error = normalise(b"\x1b]0;x\x07`").unwrap_err().to_string();
        assert_eq!(error, r"archive entry `\u{1b}]0;x\u{7}`` has a control character in its path");
        let error = normalise(b"\x1b\xff").unwrap_err().to_string();
        assert!(error.contains(r"`\x1b\xff`"), "{error}");
        let error = normalise(&vec![0x1b; 1 << 20]).unwrap_err().to_string();
        assert!(error.len() < 400, "{}", error.len());
        let error = normalise("\u{202e}/../x".as_bytes()).unwrap_err().to_string();
        assert!(error.contains(r"\u{202e}"), "{error}");
    }

    #[test]
    fn parents_must_be_directories_in_either_order() {
        let symlink = link("/etc");
        for items in [
            [("link", symlink.clone()), ("link/passwd", file())],
            [("link/passwd", file()), ("link", symlink.clone())],
        ] {
            assert_eq!(
                tree(&items).unwrap_err().to_string(),
                "archive entry `link/passwd` goes through the symlink `link`"
            );
        }
        for items in [[("a", file()), ("a/b/c", file())], [("a/b/c", file()), ("a", file())]] {
            assert_eq!(
                tree(&items).unwrap_err().to_string(),
                "archive entry `a/b/c` goes through the file `a`"
            );
        }
        // Names that sort between a directory and its children must not hide them.
        let error = tree(&[("a", symlink), ("a-b", file()), ("a.b", file()), ("a/b", file())]);
        assert!(error.is_err());
        assert_eq!(tree(&[("a", file()), ("a-b", file()), ("ab/c", file())]).unwrap().len(), 3);
    }

    #[test]
    fn the_last_of_a_path_wins_unless_the_type_changes() {
        let tree_of = tree(&[("a", file()), ("a", link("b"))]).unwrap();
        assert!(matches!(&tree_of["a"], Entry::Symlink { target } if target == "b"));
        let directory = |mode| Entry::Directory { mode };
        let tree_of = tree(&[("d", directory(0o700)), ("d", directory(0o755))]).unwrap();
        assert!(matches!(tree_of["d"], Entry::Directory { mode: 0o755 }));
        for items in [
            [("d", directory(0o755)), ("d", file())],
            [("d", file()), ("d", directory(0o755))],
            [("d", directory(0o755)), ("d", link("x"))],
        ] {
            let error = tree(&items).unwrap_err();
            assert!(matches!(error, ArchiveError::Entry { problem: Problem::ChangesType, .. }));
        }
    }

    #[test]
    fn hard_links_lead_to_earlier_files_only() {
        let link_to = |target: &[u8]| {
            let mut entries = Entries::new(Limits::default(), &|_| Want::Image);
            entries.insert("f".into(), file()).unwrap();
            entries.insert("d".into(), Entry::Directory { mode: 0o755 }).unwrap();
            entries.insert("s".into(), link("f")).unwrap();
            entries.hard_link("l".into(), target)?;
            entries.finish()
        };
        assert!(matches!(link_to(b"./f").unwrap()["l"], Entry::File { mode: 0o644, .. }));
        for (target, want) in [
            ("../f", Problem::LinkLeavesRoot("../f".into())),
            ("/f", Problem::LinkLeavesRoot("/f".into())),
            ("l", Problem::LinkMissing("l".into())),
            ("", Problem::LinkMissing(String::new())),
            ("d", Problem::LinkNotFile("d".into())),
            ("s", Problem::LinkNotFile("s".into())),
        ] {
            match link_to(target.as_bytes()).unwrap_err() {
                ArchiveError::Entry { path, problem } => {
                    assert_eq!((path.as_str(), problem), ("l", want));
                }
                other => panic!("{other}"),
            }
        }
    }

    #[test]
    fn symlink_targets_are_kept_as_they_are_or_refused() {
        let with = |target: &[u8]| {
            let mut entries = Entries::new(Limits::default(), &|_| Want::Image);
            entries.symlink("l".into(), target).map(|()| entries.finish().unwrap())
        };
        let long = [b'x'; PATH_MAX];
        for target in [&b"../../x"[..], b"/etc/passwd", b"a//b/./c", &long] {
            let kept = with(target).unwrap();
            assert!(matches!(&kept["l"], Entry::Symlink { target: t } if t.as_bytes() == target));
        }
        for target in [&b""[..], b"a\0b", b"\xff", &[b'x'; PATH_MAX + 1]] {
            let error = with(target).unwrap_err();
            assert!(matches!(error, ArchiveError::Entry { problem: Problem::BadTarget, .. }));
        }
    }

    #[test]
    fn names_cannot_fill_the_memory() {
        let mut entries = Entries::new(Limits::default(), &|_| Want::Image);
        let error = (0..).find_map(|n| {
            let path = format!("{n}/{}", "ab/".repeat(1300));
            entries.symlink(path, &[b'x'; PATH_MAX]).err()
        });
        assert!(matches!(error, Some(ArchiveError::Names { .. })));
        assert!(entries.map.len() < 10_000);
    }

    #[test]
    fn the_root_is_a_directory_or_an_error() {
        let mut entries = Entries::new(Limits::default(), &|_| Want::Image);
        entries.insert(String::new(), Entry::Directory { mode: 0o755 }).unwrap();
        let error = entries.insert(String::new(), file()).unwrap_err();
        assert!(matches!(error, ArchiveError::Entry { problem: Problem::EmptyPath, .. }));
        assert!(entries.finish().unwrap().is_empty());
    }
}

//! `publish.lock`: what was met at the first use of an asset that nothing else vouches for.
//!
//! Owns the file beside `publish.toml`: one line an asset, sorted, to be kept under version control
//! and read in a diff. Knows nothing of how digests come about.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Deserialize;
use thiserror::Error;
use toml::Spanned;

use super::TrustError;
use super::digest::Digest;
use crate::fetch::for_records;
use crate::name::{ComponentName, FileName, Sha256};

/// The file's name.
pub const NAME: &str = "publish.lock";

/// The version of its format.
const VERSION: u32 = 1;

/// The largest one that is read, in bytes.
const LARGEST: u64 = 64 << 20;

const HEAD: &str = "\
# What `publish` met at the first use of each asset with trust = \"first-use\". Keep this file under
# version control: a line whose digest changes is a file that upstream replaced.
version = 1
";

/// A lock file that cannot be used.
#[derive(Debug, Error)]
pub enum LockfileError {
    /// It cannot be read.
    #[error("cannot read {path}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Somebody spoilt it.
    #[error("{path}:{line}: {problem}", path = path.display())]
    Broken {
        /// The file.
        path: PathBuf,
        /// The line.
        line: usize,
        /// What is wrong there.
        problem: String,
    },
    /// It cannot be written.
    #[error("cannot write {path}", path = path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Two runs met the same asset, and not the same bytes.
    #[error("{path}: another run has just met {from} with SHA-256 {theirs}, and here it has {ours}", path = path.display())]
    Raced {
        /// The file.
        path: PathBuf,
        /// The asset.
        from: String,
        /// What the other run met.
        theirs: Sha256,
        /// What this one met.
        ours: Sha256,
    },
}

impl LockfileError {
    /// Whether what is there cannot be used: that is for who wrote it to mend.
    #[must_use]
    pub fn is_unreadable(&self) -> bool {
        matches!(self, Self::Read { .. } | Self::Broken { .. })
    }

    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::Read { .. } => "it is a text file beside publish.toml",
            Self::Broken { .. } => {
                "bring it back from version control; after a merge, keep the lines of both sides"
            }
            Self::Write { .. } => {
                "nothing was published of what it would not remember: run `publish build NAME` where the file can be written and committed, then sync with --locked"
            }
            Self::Raced { .. } => "do not publish it before you know why",
        }
        .to_owned()
    }
}

/// What a lock file says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lockfile {
    entries: BTreeMap<ComponentName, BTreeMap<String, Entry>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    sha256: Sha256,
    /// Where it stands in the file; 0 before it stands there.
    line: usize,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    version: Spanned<u32>,
    #[serde(default)]
    component: BTreeMap<ComponentName, BTreeMap<String, Spanned<Digest>>>,
}

impl Lockfile {
    /// Reads the text of a lock file. Pure; `path` is only named.
    ///
    /// # Errors
    /// What is wrong, and in which line.
    pub fn parse(path: &Path, text: &str) -> Result<Self, LockfileError> {
        let line = |at: usize| text[..at.min(text.len())].matches('\n').count() + 1;
        let broken = |at: usize, problem: String| LockfileError::Broken {
            path: path.to_owned(),
            line: line(at),
            problem,
        };
        let raw: Raw = toml::from_str(text).map_err(|error| {
            let message = error.message().split("\nhint: ").next().unwrap_or_default();
            let at = error.span().map_or(0, |span| span.start);
            broken(at, message.trim_end().replace('\n', ", "))
        })?;
        if *raw.version.get_ref() != VERSION {
            let problem = format!("version {} is not known here", raw.version.get_ref());
            return Err(broken(raw.version.span().start, problem));
        }
        let mut entries: BTreeMap<_, BTreeMap<_, _>> = BTreeMap::new();
        for (component, assets) in raw.component {
            for (from, digest) in assets {
                let at = digest.span().start;
                let Digest::Sha256(sha256) = digest.into_inner() else {
                    return Err(broken(at, "it keeps SHA-256 digests".to_owned()));
                };
                let entry = Entry { sha256, line: line(at) };
                // As records have it, however old the line is.
                let from = if from.contains("://") { for_records(&from) } else { from };
                entries.entry(component.clone()).or_default().insert(from, entry);
            }
        }
        Ok(Self { entries })
    }

    /// The text of the file: sorted, and one line an asset.
    #[must_use]
    pub fn render(&self) -> String {
        let mut out = HEAD.to_owned();
        for (component, assets) in self.entries.iter().filter(|(_, assets)| !assets.is_empty()) {
            let _ = writeln!(out, "\n[component.{}]", key(component.as_str()));
            for (from, entry) in assets {
                let _ = writeln!(out, "{} = \"sha256:{}\"", quoted(from), entry.sha256);
            }
        }
        out
    }

    /// The digest of an asset.
    #[must_use]
    pub fn get(&self, component: &ComponentName, from: &str) -> Option<Sha256> {
        self.entry(component, from).map(|entry| entry.sha256)
    }

    fn entry(&self, component: &ComponentName, from: &str) -> Option<&Entry> {
        self.entries.get(component)?.get(from)
    }

    /// Notes the digest of an asset.
    pub fn put(&mut self, component: &ComponentName, from: &str, sha256: Sha256) {
        let entry = Entry { sha256, line: 0 };
        self.entries.entry(component.clone()).or_default().insert(from.to_owned(), entry);
    }

    fn remove(&mut self, component: &ComponentName, from: &str) {
        if let Some(assets) = self.entries.get_mut(component) {
            assets.remove(from);
        }
    }

    fn read(path: &Path) -> Result<Self, LockfileError> {
        let failed = |source| LockfileError::Read { path: path.to_owned(), source };
        let metadata = match fs::metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            metadata => metadata.map_err(failed)?,
        };
        if !metadata.is_file() || metadata.len() > LARGEST {
            return Err(failed(io::Error::other("it is too large, or no regular file")));
        }
        Self::parse(path, &fs::read_to_string(path).map_err(failed)?)
    }
}

/// A name as TOML takes it without quotes, else with them.
fn key(name: &str) -> String {
    let is_bare = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    if !name.is_empty() && name.chars().all(is_bare) { name.to_owned() } else { quoted(name) }
}

fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04X}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// The lock file during a run: what it says, and what is to be written to it.
#[derive(Debug)]
pub struct Ledger {
    path: PathBuf,
    locked: bool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// What was read, with what is new in it; nothing before it is first needed.
    lockfile: Option<Lockfile>,
    /// What is not written yet.
    pending: BTreeMap<(ComponentName, String), Pending>,
}

#[derive(Debug, Clone, Copy)]
enum Pending {
    /// A digest, and the one that stood there before somebody accepted this one.
    Note { now: Sha256, before: Option<Sha256> },
    /// An entry that goes.
    Gone,
}

impl Ledger {
    /// Of the file at `path`, which need not be there. `locked`: it stays as it is.
    #[must_use]
    pub fn at(path: PathBuf, locked: bool) -> Self {
        Self { path, locked, state: Mutex::default() }
    }

    /// Reads the file, so that one that nobody can use is told of before anything is asked.
    ///
    /// # Errors
    /// The file cannot be used.
    pub fn open(&self) -> Result<(), LockfileError> {
        self.state().read(&self.path).map(drop)
    }

    /// Compares what an image was made from with what the file says now. `accepted` are digests that
    /// somebody found right since.
    ///
    /// # Errors
    /// The two say two things: one of them was changed by hand, or merged wrongly.
    pub fn check_published(
        &self,
        component: &ComponentName,
        image: &FileName,
        (from, published): (&str, Sha256),
        accepted: &[Sha256],
    ) -> Result<(), TrustError> {
        let mut state = self.state();
        match state.read(&self.path)?.entry(component, from) {
            Some(Entry { sha256, line })
                if *sha256 != published
                    && !accepted.contains(sha256)
                    && !accepted.contains(&published) =>
            {
                Err(TrustError::Contradicted {
                    file: self.path.clone(),
                    line: *line,
                    from: from.to_owned(),
                    says: *sha256,
                    image: image.clone(),
                    published,
                })
            }
            _ => Ok(()),
        }
    }

    /// Compares an asset's digest with the one that it had first. Where this is the first time, it
    /// may be noted with [`Ledger::note`]. `accepted` are digests that somebody found right since.
    ///
    /// # Errors
    /// It is another one, or it is the first time and nothing may be noted.
    pub fn check(
        &self,
        component: &ComponentName,
        from: &str,
        now: Option<Sha256>,
        accepted: &[Sha256],
    ) -> Result<(), TrustError> {
        let mut state = self.state();
        let known = state.read(&self.path)?.entry(component, from).copied();
        match (known, now) {
            (Some(Entry { sha256: before, line }), Some(now))
                if before != now && (self.locked || !accepted.contains(&now)) =>
            {
                Err(TrustError::Replaced {
                    file: self.path.clone(),
                    line,
                    from: from.to_owned(),
                    before,
                    now,
                })
            }
            (None, _) if self.locked => {
                Err(TrustError::Unknown { file: self.path.clone(), from: from.to_owned() })
            }
            _ => Ok(()),
        }
    }

    /// Notes a digest that was checked, for [`Ledger::save`].
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn note(
        &self,
        component: &ComponentName,
        from: &str,
        now: Sha256,
    ) -> Result<(), LockfileError> {
        let mut state = self.state();
        let lockfile = state.read(&self.path)?;
        let before = lockfile.get(component, from);
        if before != Some(now) {
            lockfile.put(component, from, now);
            let key = (component.clone(), from.to_owned());
            state.pending.insert(key, Pending::Note { now, before });
        }
        Ok(())
    }

    /// Lets go what `keep` does not want of a component.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn retain(
        &self,
        component: &ComponentName,
        keep: impl Fn(&str) -> bool,
    ) -> Result<(), LockfileError> {
        if self.locked {
            return Ok(());
        }
        let mut state = self.state();
        let lockfile = state.read(&self.path)?;
        let assets = lockfile.entries.get(component).into_iter().flat_map(BTreeMap::keys);
        let going: Vec<String> = assets.filter(|from| !keep(from)).cloned().collect();
        for from in &going {
            lockfile.remove(component, from);
        }
        let gone = going.into_iter().map(|from| ((component.clone(), from), Pending::Gone));
        state.pending.extend(gone);
        Ok(())
    }

    /// Writes what is new, in one step and beside whatever another run wrote meanwhile. Gives how
    /// many digests were added. May wait for another run.
    ///
    /// # Errors
    /// It cannot be written, or another run met other bytes.
    pub fn save(&self) -> Result<usize, LockfileError> {
        let mut state = self.state();
        if state.pending.is_empty() {
            return Ok(0);
        }
        let failed = |source| LockfileError::Write { path: self.path.clone(), source };
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.unwrap_or(Path::new("."));
        // The folder, because the file is replaced. It ends with the descriptor.
        let turn = File::open(folder).map_err(failed)?;
        rustix::fs::flock(&turn, rustix::fs::FlockOperation::LockExclusive)
            .map_err(|error| failed(error.into()))?;
        let there = Lockfile::read(&self.path)?;
        let mut lockfile = there.clone();
        let mut added = 0;
        for ((component, from), pending) in &state.pending {
            match (*pending, there.get(component, from)) {
                (Pending::Gone, _) => lockfile.remove(component, from),
                (Pending::Note { now, .. }, Some(theirs)) if theirs == now => {}
                (Pending::Note { now, before }, theirs) if theirs.is_none() || theirs == before => {
                    lockfile.put(component, from, now);
                    added += 1;
                }
                (Pending::Note { now: ours, .. }, theirs) => {
                    return Err(LockfileError::Raced {
                        path: self.path.clone(),
                        from: from.clone(),
                        theirs: theirs.unwrap_or(ours),
                        ours,
                    });
                }
            }
        }
        let text = lockfile.render();
        if text != there.render() {
            write(folder, &self.path, &text).map_err(failed)?;
        }
        state.lockfile = Some(Lockfile::parse(&self.path, &text)?);
        state.pending.clear();
        Ok(added)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing in it is half done where somebody may panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn read(&mut self, path: &Path) -> Result<&mut Lockfile, LockfileError> {
        if self.lockfile.is_none() {
            self.lockfile = Some(Lockfile::read(path)?);
        }
        Ok(self.lockfile.as_mut().expect("it was just read"))
    }
}

fn write(folder: &Path, path: &Path, text: &str) -> io::Result<()> {
    let mode = fs::metadata(path).map_or(0o644, |metadata| metadata.permissions().mode() & 0o7777);
    let mut file = tempfile::Builder::new().prefix(".publish.lock.").tempfile_in(folder)?;
    file.write_all(text.as_bytes())?;
    file.as_file().set_permissions(Permissions::from_mode(mode))?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> ComponentName {
        text.parse().unwrap()
    }

    fn digest(number: u8) -> Sha256 {
        Sha256::of(&[number])
    }

    fn ledger(folder: &Path, locked: bool) -> Ledger {
        Ledger::at(folder.join(NAME), locked)
    }

    #[test]
    fn it_reads_back_and_is_sorted_whatever_the_order() {
        let mut lockfile = Lockfile::default();
        lockfile.put(&name("b"), "https://e.org/\"\\\u{1}\u{7f}x", digest(1));
        lockfile.put(&name("b"), "https://e.org/a", digest(2));
        lockfile.put(&name("a"), "x-1.0", digest(3));
        let text = lockfile.render();
        let again = Lockfile::parse(Path::new(NAME), &text).unwrap();
        assert_eq!(again.render(), text);
        assert_eq!(again.get(&name("b"), "https://e.org/\"\\\u{1}\u{7f}x"), Some(digest(1)));
        let at = |part: &str| text.lines().position(|line| line.contains(part)).unwrap();
        assert!(at("[component.a]") < at("x-1.0") && at("x-1.0") < at("[component.b]"), "{text}");
        assert_eq!(again.entry(&name("a"), "x-1.0").unwrap().line, at("x-1.0") + 1);
    }

    #[test]
    fn what_is_spoilt_is_named_with_its_line() {
        for (text, line, part) in [
            ("", 1, "version"),
            ("version = 2\n", 1, "version 2"),
            ("version = 1\n<<<<<<< ours\n", 2, ""),
            ("version = 1\n[component.a]\n\"x\" = \"abc\"\n", 3, "no digest"),
            ("version = 1\n[components.a]\n", 2, "components"),
            ("version = 1\n[component.\"../a\"]\n", 2, ""),
        ] {
            match Lockfile::parse(Path::new(NAME), text) {
                Err(LockfileError::Broken { line: told, problem, .. }) => {
                    assert_eq!(told, line, "{text}: {problem}");
                    assert!(problem.contains(part), "{text}: {problem}");
                }
                other => panic!("{text}: {other:?}"),
            }
        }
    }

    #[test]
    fn the_first_digest_is_kept_and_another_is_an_alarm() {
        let folder = tempfile::tempdir().unwrap();
        let (a, first) = (name("a"), ledger(folder.path(), false));
        first.check(&a, "x", Some(digest(1)), &[]).unwrap();
        first.note(&a, "x", digest(1)).unwrap();
        assert_eq!(first.save().unwrap(), 1);
        assert_eq!(first.save().unwrap(), 0);
        let later = ledger(folder.path(), false);
        later.check(&a, "x", Some(digest(1)), &[]).unwrap();
        let error = later.check(&a, "x", Some(digest(2)), &[]).unwrap_err().to_string();
        assert!(error.contains("publish.lock:6: x had SHA-256"), "{error}");
        // Somebody found the other one right.
        later.check(&a, "x", Some(digest(2)), &[digest(2)]).unwrap();
        later.note(&a, "x", digest(2)).unwrap();
        assert_eq!(later.save().unwrap(), 1);
        let text = fs::read_to_string(folder.path().join(NAME)).unwrap();
        assert!(text.contains(&digest(2).to_string()) && !text.contains(&digest(1).to_string()));
    }

    #[test]
    fn a_locked_one_takes_nothing_new() {
        let folder = tempfile::tempdir().unwrap();
        let a = name("a");
        let open = ledger(folder.path(), false);
        open.note(&a, "x", digest(1)).unwrap();
        open.save().unwrap();
        let locked = ledger(folder.path(), true);
        locked.check(&a, "x", Some(digest(1)), &[]).unwrap();
        for (from, now) in [("y", None), ("y", Some(digest(1))), ("x", Some(digest(2)))] {
            assert!(locked.check(&a, from, now, &[digest(2)]).is_err(), "{from}");
        }
    }

    #[test]
    fn two_runs_lose_nothing_of_each_other() {
        let folder = tempfile::tempdir().unwrap();
        let (a, b) = (name("a"), name("b"));
        let (one, two) = (ledger(folder.path(), false), ledger(folder.path(), false));
        for ledger in [&one, &two] {
            ledger.check(&a, "x", None, &[]).unwrap();
        }
        one.note(&a, "x", digest(1)).unwrap();
        one.note(&a, "old", digest(1)).unwrap();
        two.note(&b, "y", digest(2)).unwrap();
        one.save().unwrap();
        two.save().unwrap();
        let lockfile = Lockfile::read(&folder.path().join(NAME)).unwrap();
        assert_eq!(lockfile.get(&a, "x"), Some(digest(1)));
        assert_eq!(lockfile.get(&b, "y"), Some(digest(2)));
        one.retain(&a, |from| from != "old").unwrap();
        one.save().unwrap();
        let lockfile = Lockfile::read(&folder.path().join(NAME)).unwrap();
        assert_eq!(lockfile.get(&a, "old"), None);
        assert_eq!(lockfile.get(&b, "y"), Some(digest(2)));

        // Not the same bytes: one of the two was lied to.
        let (one, two) = (ledger(folder.path(), false), ledger(folder.path(), false));
        one.note(&a, "z", digest(1)).unwrap();
        two.note(&a, "z", digest(2)).unwrap();
        one.save().unwrap();
        assert!(matches!(two.save(), Err(LockfileError::Raced { .. })));
    }
}

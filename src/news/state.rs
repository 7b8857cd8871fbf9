//! What must be known of earlier runs: since when something fails, and who knows it.
//!
//! It lies on the machine that publishes, not in the store. A store that is down is the first thing
//! that is worth a message; a run with nothing to do writes nothing there; and of two publishers of one
//! store each tells what it sees itself, so that neither takes back what the other said.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::Digest as _;

use super::{Ran, message};
use crate::config::Config;
use crate::report::Told;
use crate::sync::{Outcome, Standing};

/// The version of the document.
const FORMAT: u32 = 1;

/// The longest one that is read, in bytes.
const LONGEST: u64 = 64 << 20;

/// The run as a whole, among names of components, none of which is empty.
pub(super) const WHOLE: &str = "";

/// How many failures of one component are told apart; an upstream that fails in another way each time
/// is told no more after that.
const MOST: usize = 32;

/// What is known of earlier runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct State {
    format: u32,
    /// By name; the run as a whole has none.
    pub(super) subjects: BTreeMap<String, Subject>,
    /// Who was told which failures: by hook, then by name.
    told: BTreeMap<String, BTreeMap<String, BTreeSet<String>>>,
}

/// A component, or the run as a whole.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Subject {
    /// The last time that nothing was wrong.
    pub success: Option<Timestamp>,
    /// Since when something is.
    pub failing_since: Option<Timestamp>,
    /// How it stood when that could be read last.
    pub standing: Option<Standing>,
}

impl Subject {
    fn learn(&mut self, at: Timestamp, is_well: bool) {
        if is_well {
            self.success = Some(at);
            self.failing_since = None;
        } else {
            self.failing_since.get_or_insert(at);
        }
    }
}

/// The file for a configuration, if there is a folder for it: the one that is configured, the
/// service's own, or the user's.
#[must_use]
pub fn place(config: &Config) -> Option<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    let service = || {
        let folders = set("STATE_DIRECTORY")?.into_string().ok()?;
        folders.split(':').next().map(PathBuf::from)
    };
    let user = || Some(PathBuf::from(set("XDG_STATE_HOME")?).join("publish"));
    let home = || Some(PathBuf::from(set("HOME")?).join(".local/state/publish"));
    let configured = config.document.report.state.clone();
    let folder = configured.or_else(service).or_else(user).or_else(home)?;
    // One user may publish several repositories.
    let file = std::path::absolute(&config.file).unwrap_or_else(|_| config.file.clone());
    let hash = sha2::Sha256::new().chain_update(format!("{}\n{}", file.display(), config.store()));
    Some(folder.join(format!("told-{}.json", short(hash))))
}

impl State {
    /// Reads it; `None` if there is none yet.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn load(path: &Path) -> Result<Option<Self>, String> {
        let problem = |text: String| format!("{}: {text}", path.display());
        match std::fs::metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(problem(error.to_string())),
            Ok(metadata) if !metadata.is_file() || metadata.len() > LONGEST => {
                return Err(problem("it is none that publish wrote".to_owned()));
            }
            Ok(_) => {}
        }
        let bytes = std::fs::read(path).map_err(|error| problem(error.to_string()))?;
        let state: Self =
            serde_json::from_slice(&bytes).map_err(|error| problem(error.to_string()))?;
        if state.format == FORMAT {
            Ok(Some(state))
        } else {
            Err(problem("a newer version of publish wrote it".to_owned()))
        }
    }

    /// Writes it, in one step.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn save(&mut self, path: &Path) -> io::Result<()> {
        self.format = FORMAT;
        let mut text = serde_json::to_vec_pretty(self).map_err(io::Error::other)?;
        text.push(b'\n');
        super::put(path, &text, 0o600)
    }

    /// Takes in what a run came to.
    pub(super) fn learn(&mut self, config: &Config, ran: &Ran<'_>) {
        if config.whole {
            let known = |name: &String| {
                let is = |component: &std::sync::Arc<crate::config::Component>| {
                    component.name.as_str() == name
                };
                name == WHOLE || config.components.iter().any(is)
            };
            self.subjects.retain(|name, _| known(name));
            for told in self.told.values_mut() {
                told.retain(|name, _| known(name));
            }
        }
        let whole = self.subjects.entry(WHOLE.to_owned()).or_default();
        whole.learn(ran.at, ran.outcomes.is_ok() && ran.errors.is_empty());
        for Outcome { component, errors, standing, .. } in ran.outcomes.into_iter().flatten() {
            let subject = self.subjects.entry(component.to_string()).or_default();
            subject.learn(ran.at, errors.is_empty());
            if let Some(standing) = standing {
                subject.standing = Some(standing.clone());
            }
        }
    }

    /// Since when a component fails, if it does.
    #[must_use]
    pub fn failing_since(&self, name: &str) -> Option<Timestamp> {
        self.subjects.get(name)?.failing_since
    }

    /// Whether somebody was told of this failure, or of so many others that one more helps nobody.
    pub(super) fn knows(&self, hook: &str, name: &str, told: &Told) -> bool {
        let known = self.told.get(hook).and_then(|names| names.get(name));
        known.is_some_and(|known| known.len() >= MOST || known.contains(&fingerprint(told)))
    }

    /// What somebody was told of that fails, by name.
    pub(super) fn told_of(&self, hook: &str) -> impl Iterator<Item = &str> {
        self.told.get(hook).into_iter().flat_map(BTreeMap::keys).map(String::as_str)
    }

    /// Lets somebody forget what does not fail any more, without a word.
    pub(super) fn forget_well(&mut self, hook: &str) {
        let subjects = &self.subjects;
        let fails = |name: &str| subjects.get(name).is_some_and(|it| it.failing_since.is_some());
        if let Some(names) = self.told.get_mut(hook) {
            names.retain(|name, _| fails(name));
        }
    }

    /// Notes what somebody was told.
    pub(super) fn told(&mut self, hook: String, news: &message::News<'_>) {
        let names = self.told.entry(hook).or_default();
        for recovered in &news.recovered {
            names.remove(recovered.name());
        }
        for failed in &news.failed {
            let known = names.entry(failed.name().to_owned()).or_default();
            known.extend(failed.errors.iter().map(|told| fingerprint(told)));
        }
    }
}

/// What tells one failure from another. Numbers do not: the time, a port or a count is another one each
/// time.
#[must_use]
pub fn fingerprint(told: &Told) -> String {
    let mut hash = sha2::Sha256::new();
    for text in std::iter::once(&told.message).chain(&told.causes) {
        let letters = text.chars().map(|c| if c.is_ascii_digit() { '0' } else { c });
        let mut letters: Vec<char> = letters.collect();
        letters.dedup_by(|one, other| *one == '0' && *other == '0');
        hash.update(letters.into_iter().collect::<String>());
        hash.update("\n");
    }
    short(hash)
}

/// Enough of a digest to tell a few things apart.
fn short(hash: sha2::Sha256) -> String {
    let digest: [u8; 32] = hash.finalize().into();
    digest
        .first_chunk()
        .map(|head| format!("{:016x}", u64::from_be_bytes(*head)))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(message: &str, cause: &str) -> Told {
        Told { message: message.to_owned(), causes: vec![cause.to_owned()], hint: None }
    }

    #[test]
    fn the_same_failure_at_another_time_is_the_same() {
        let one = fingerprint(&told("x: not before 12:03:05", "port 8080"));
        assert_eq!(one, fingerprint(&told("x: not before 9:59:59", "port 80")));
        assert_ne!(one, fingerprint(&told("x: not before 12:03:05", "port closed")));
        assert_ne!(fingerprint(&told("a", "b")), fingerprint(&told("a b", "")));
    }

    #[test]
    fn what_is_kept_reads_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/told.json");
        assert_eq!(State::load(&path), Ok(None));
        let mut state = State::default();
        state.subjects.entry("x".to_owned()).or_default().learn(Timestamp::UNIX_EPOCH, false);
        state.save(&path).unwrap();
        assert_eq!(State::load(&path), Ok(Some(state)));
        for broken in ["", "{", "{\"format\":2}", "[]"] {
            std::fs::write(&path, broken).unwrap();
            assert!(State::load(&path).is_err(), "{broken} was taken");
        }
    }

    #[test]
    fn it_fails_since_the_first_time() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let mut subject = Subject::default();
        subject.learn(at(1), true);
        subject.learn(at(2), false);
        subject.learn(at(3), false);
        assert_eq!((subject.success, subject.failing_since), (Some(at(1)), Some(at(2))));
        subject.learn(at(4), true);
        assert_eq!((subject.success, subject.failing_since), (Some(at(4)), None));
    }
}

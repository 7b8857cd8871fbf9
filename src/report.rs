//! What people and programs read: progress on stderr while it runs, errors as chains with a hint.
//!
//! Owns how things are said. Knows nothing of what is done. Nothing here writes to stdout: results
//! are the commands' own.

use std::error::Error;
use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use serde::{Deserialize, Serialize};

use crate::build::BuildError;
use crate::client::ClientError;
use crate::client::base::BaseError;
use crate::config::ConfigError;
use crate::fetch::FetchError;
use crate::image::inspect::InspectError;
use crate::recipe::RecipeError;
use crate::recipe::archive::ArchiveError;
use crate::repository::SnapshotError;
use crate::repository::commit::CommitError;
use crate::repository::seal::SealError;
use crate::repository::yank::YankError;
use crate::sign::{KeyError, KeyringError};
use crate::source::SourceError;
use crate::source::memory::MemoryError;
use crate::stage::StageError;
use crate::store::StoreError;
use crate::trial::TrialError;
use crate::trust::TrustError;
use crate::trust::lockfile::LockfileError;

pub mod runner;

/// What is going on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// An upstream is asked what it has.
    Poll,
    /// An asset is downloaded.
    Fetch,
    /// A command makes what is in an image.
    Run,
    /// An image is built.
    Build,
    /// Images and manifest go into the store.
    Publish,
    /// A published file is read.
    Verify,
}

impl Step {
    fn doing(self) -> &'static str {
        match self {
            Self::Poll => "polling",
            Self::Fetch => "fetching",
            Self::Run => "running",
            Self::Build => "building",
            Self::Publish => "publishing",
            Self::Verify => "verifying",
        }
    }

    fn done(self) -> &'static str {
        match self {
            Self::Poll => "polled",
            Self::Fetch => "fetched",
            Self::Run => "ran",
            Self::Build => "built",
            Self::Publish => "published",
            Self::Verify => "verified",
        }
    }
}

/// Progress on stderr: bars on a terminal, a line for each finished step elsewhere.
#[derive(Debug, Clone)]
pub struct Progress(Mode, Arc<Pulse>);

#[derive(Debug, Clone)]
enum Mode {
    Quiet,
    Lines,
    /// As lines, but for what every run does.
    Calm,
    /// With one reference for each bar that is shown.
    Bars(MultiProgress, Arc<()>),
}

/// Whether anything goes on.
#[derive(Debug, Default)]
struct Pulse {
    /// How often something began, went on or ended.
    moved: AtomicU64,
    /// How many commands are running, of which nobody knows how far they are: their own limits of
    /// time end them.
    commands: AtomicUsize,
}

/// How many bars are on the screen at once: hundreds of upstreams are polled together.
const BARS: usize = 12;

impl Progress {
    /// Bars if stderr is a terminal, else lines; nothing if `quiet`.
    #[must_use]
    pub fn new(quiet: bool) -> Self {
        let bars = std::io::stderr().is_terminal() && !speaks_json();
        let mode = match (quiet, bars) {
            (true, _) => Mode::Quiet,
            (false, true) => Mode::Bars(MultiProgress::new(), Arc::default()),
            (false, false) => Mode::Lines,
        };
        Self(mode, Arc::default())
    }

    /// The same, for a log of run after run: without what every run does.
    #[must_use]
    pub fn calm(&self) -> Self {
        let mode = if matches!(self.0, Mode::Quiet) { Mode::Quiet } else { Mode::Calm };
        Self(mode, self.1.clone())
    }

    /// A number that is another one whenever something began, went on or ended; `None` while a command
    /// runs, of which nobody knows how far it is.
    #[must_use]
    pub fn pulse(&self) -> Option<u64> {
        let Pulse { moved, commands } = &*self.1;
        (commands.load(Ordering::Relaxed) == 0).then(|| moved.load(Ordering::Relaxed))
    }

    fn beat(&self) {
        self.1.moved.fetch_add(1, Ordering::Relaxed);
    }

    /// Something begins.
    #[must_use]
    pub fn begin(&self, step: Step, what: &str) -> Task {
        self.beat();
        if step == Step::Run {
            self.1.commands.fetch_add(1, Ordering::Relaxed);
        }
        let bar = match &self.0 {
            Mode::Bars(bars, shown) if Arc::strong_count(shown) <= BARS => {
                let style =
                    ProgressStyle::with_template("{spinner} {prefix:>10} {wide_msg} {elapsed}")
                        .expect("a literal template");
                let bar = bars.add(ProgressBar::no_length().with_style(style));
                bar.set_prefix(step.doing());
                bar.set_message(what.to_owned());
                bar.enable_steady_tick(std::time::Duration::from_millis(120));
                Some((bar, shown.clone()))
            }
            Mode::Bars(..) | Mode::Quiet | Mode::Lines | Mode::Calm => None,
        };
        Task { progress: self.clone(), bar, step, what: what.to_owned() }
    }

    /// A line for people, between the bars.
    pub fn line(&self, text: &str) {
        match &self.0 {
            Mode::Quiet => {}
            Mode::Lines | Mode::Calm => say(&format!("{text}\n")),
            Mode::Bars(bars, _) => {
                // A terminal that is gone is nobody's loss.
                let _ = bars.println(text);
            }
        }
    }
}

/// Something that is going on. It vanishes from the screen when it is dropped.
#[derive(Debug)]
pub struct Task {
    progress: Progress,
    bar: Option<(ProgressBar, Arc<()>)>,
    step: Step,
    what: String,
}

impl Task {
    /// So many bytes are done, of so many if that is known.
    pub fn bytes(&self, done: u64, total: Option<u64>) {
        self.progress.beat();
        if let Some((bar, _)) = &self.bar {
            if bar.position() == 0 {
                let template = match total {
                    Some(_) => {
                        "{spinner} {prefix:>10} {wide_msg} {bar:20} {bytes:>11}/{total_bytes}"
                    }
                    None => "{spinner} {prefix:>10} {wide_msg} {bytes:>11}",
                };
                bar.set_style(ProgressStyle::with_template(template).expect("a literal template"));
                if let Some(total) = total {
                    bar.set_length(total);
                }
            }
            bar.set_position(done);
        }
    }

    /// It is done, and came to so many bytes; 0 if that means nothing.
    pub fn finish(self, bytes: u64) {
        if matches!(self.progress.0, Mode::Calm) && self.step == Step::Poll {
            return;
        }
        let size = if bytes == 0 { String::new() } else { format!(" ({})", human_size(bytes)) };
        self.progress.line(&format!("{:>10} {}{size}", self.step.done(), self.what));
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.progress.beat();
        if self.step == Step::Run {
            self.progress.1.commands.fetch_sub(1, Ordering::Relaxed);
        }
        if let Some((bar, _)) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Whether every line on stderr is to be a JSON document.
static JSON: AtomicBool = AtomicBool::new(false);

/// The target of what is said, for the filter of the log.
pub const SAID: &str = "publish::said";

/// From now on, what is said goes through the log, which writes JSON.
pub fn speak_json() {
    JSON.store(true, Ordering::Relaxed);
}

fn speaks_json() -> bool {
    JSON.load(Ordering::Relaxed)
}

/// Writes to stderr, as well as that goes: a log that is full or gone stops no sync.
pub fn say(text: &str) {
    if !speaks_json() {
        let _ = std::io::stderr().lock().write_all(runner::told(text).as_bytes());
        return;
    }
    // Several errors may come as one text; each begins at the left.
    let mut texts = vec![String::new()];
    for line in text.lines() {
        let begins = ["error: ", "warning: "].iter().any(|word| line.starts_with(word));
        if begins && !texts.last().is_some_and(String::is_empty) {
            texts.push(String::new());
        }
        if let Some(last) = texts.last_mut() {
            last.push_str(line);
            last.push('\n');
        }
    }
    for text in &texts {
        log(text);
    }
}

/// One error or line, as a document with its causes and its hint apart.
fn log(text: &str) {
    let mut lines = text.lines();
    let first = lines.next().unwrap_or_default().trim();
    let mut message = first.to_owned();
    let (mut causes, mut hint) = (Vec::new(), None);
    for line in lines {
        let line = line.trim();
        if let Some(cause) = line.strip_prefix("caused by: ") {
            causes.push(cause);
        } else if let Some(text) = line.strip_prefix("hint: ") {
            hint = Some(text);
        } else {
            let _ = write!(message, "\n{line}");
        }
    }
    let causes = (!causes.is_empty()).then(|| causes.join(": "));
    if let Some(message) = message.strip_prefix("error: ") {
        tracing::error!(target: SAID, causes, hint, "{message}");
    } else if let Some(message) = message.strip_prefix("warning: ") {
        tracing::warn!(target: SAID, hint, "{message}");
    } else if !message.is_empty() {
        tracing::info!(target: SAID, "{message}");
    }
}

/// Stderr, for what others write there.
#[derive(Debug, Clone, Copy)]
pub struct Log;

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let text = String::from_utf8_lossy(bytes);
        std::io::stderr().lock().write_all(runner::shown(&text).as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        std::io::stderr().flush()
    }
}

/// A size in bytes for people: `24.1 MiB`.
#[must_use]
pub fn human_size(bytes: u64) -> String {
    let mut unit = "B";
    let mut tenths = u128::from(bytes) * 10;
    for next in ["KiB", "MiB", "GiB", "TiB"] {
        if tenths < 10 * 1024 {
            break;
        }
        tenths = (tenths + 512) / 1024;
        unit = next;
    }
    if unit == "B" {
        format!("{bytes} B")
    } else {
        format!("{}.{} {unit}", tenths / 10, tenths % 10)
    }
}

/// `1 image`, `2 images`
#[must_use]
pub fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// `1.2.0, 1.2.1 and 7 more`: what somebody may have meant by a name that there is not, the nearest
/// first.
#[must_use]
pub fn likely<'n>(meant: &str, names: impl IntoIterator<Item = &'n String>) -> String {
    const SHOWN: usize = 8;
    let alike = |name: &str| {
        let same = meant.chars().zip(name.chars()).take_while(|(one, other)| one == other).count();
        let inside = name.contains(meant) || meant.contains(name);
        (inside, same)
    };
    let mut names: Vec<&str> = names.into_iter().map(String::as_str).collect();
    names.sort_by_key(|name| std::cmp::Reverse(alike(name)));
    match names.len() {
        0..=SHOWN => names.join(", "),
        all => format!("{} and {} more", names[..SHOWN].join(", "), all - SHOWN),
    }
}

/// An error as data: what happened, what caused it, what to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// What happened.
    pub message: String,
    /// The causes, the outermost first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<String>,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl Told {
    /// What an error has to say, each thing once. A line `hint: …` at the end of its text is its
    /// hint; otherwise the first error of the chain that knows one gives it.
    #[must_use]
    pub fn new(error: &(dyn Error + 'static)) -> Self {
        let text = error.to_string();
        let (message, own) = match text.split_once("\nhint: ") {
            Some((message, hint)) => (message.to_owned(), Some(hint.to_owned())),
            None => (text, None),
        };
        let mut told = Self { message, causes: Vec::new(), hint: own.or_else(|| hint(error)) };
        let mut cause = error.source();
        while let Some(error) = cause {
            let text = error.to_string();
            // Many libraries repeat their cause in their own text.
            let known = told.causes.last().unwrap_or(&told.message);
            if !known.contains(&text) {
                told.causes.push(text);
            }
            cause = error.source();
        }
        told
    }

    /// The same, as something that happened to `subject`.
    #[must_use]
    pub fn of(subject: &str, error: &(dyn Error + 'static)) -> Self {
        let mut told = Self::new(error);
        told.message = format!("{subject}: {}", told.message);
        told
    }

    /// The lines that people read.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = format!("error: {}\n", self.message);
        for cause in &self.causes {
            let _ = writeln!(out, "  caused by: {cause}");
        }
        if let Some(hint) = &self.hint {
            let _ = writeln!(out, "  hint: {hint}");
        }
        out
    }
}

/// The hint of the outermost error in a chain that has one.
fn hint(error: &(dyn Error + 'static)) -> Option<String> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        let hint = None
            .or_else(|| error.downcast_ref::<ConfigError>()?.hint().map(str::to_owned))
            .or_else(|| error.downcast_ref::<SourceError>()?.hint())
            .or_else(|| error.downcast_ref::<FetchError>()?.hint())
            .or_else(|| error.downcast_ref::<BuildError>()?.hint())
            .or_else(|| error.downcast_ref::<TrustError>()?.hint())
            .or_else(|| error.downcast_ref::<TrialError>()?.hint().map(str::to_owned))
            .or_else(|| error.downcast_ref::<LockfileError>().map(LockfileError::hint))
            .or_else(|| error.downcast_ref::<RecipeError>()?.hint())
            .or_else(|| error.downcast_ref::<ArchiveError>()?.hint())
            .or_else(|| error.downcast_ref::<ClientError>().map(ClientError::hint))
            .or_else(|| error.downcast_ref::<BaseError>().map(|error| error.hint().to_owned()))
            .or_else(|| error.downcast_ref::<YankError>()?.hint())
            .or_else(|| error.downcast_ref::<CommitError>()?.hint())
            .or_else(|| error.downcast_ref::<SnapshotError>()?.hint())
            .or_else(|| error.downcast_ref::<StoreError>()?.hint())
            .or_else(|| error.downcast_ref::<SealError>()?.hint())
            .or_else(|| error.downcast_ref::<StageError>().map(|error| error.hint().to_owned()))
            .or_else(|| error.downcast_ref::<MemoryError>().map(MemoryError::hint))
            .or_else(|| error.downcast_ref::<KeyError>()?.hint())
            .or_else(|| error.downcast_ref::<KeyringError>()?.hint())
            .or_else(|| error.downcast_ref::<InspectError>().map(|error| error.hint().to_owned()));
        if hint.is_some() {
            return hint;
        }
        cause = error.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_likeliest_comes_first() {
        let names: Vec<String> = (0..20).map(|n| format!("1.{n}.0")).collect();
        assert!(likely("1.1", &names).starts_with("1.1.0, 1.10.0, "), "{}", likely("1.1", &names));
        assert!(likely("v1.19.0", &names).starts_with("1.19.0, "));
        assert!(likely("x", &names).ends_with(" and 12 more"));
        assert_eq!(likely("x", &names[..2]), "1.0.0, 1.1.0");
    }

    #[test]
    fn sizes_read_well() {
        assert_eq!(human_size(0), "0 B");
        assert_eq!(human_size(1023), "1023 B");
        assert_eq!(human_size(1024), "1.0 KiB");
        assert_eq!(human_size(25 * 1024 * 1024 + 512 * 1024), "25.5 MiB");
        assert_eq!(human_size(u64::MAX).split(' ').nth(1), Some("TiB"));
    }
}

//! What a command says, kept for who asks later.
//!
//! Owns where that is: with the state of the user who runs it, never in the repository, because a
//! command may say anything. A log that cannot be written stops no build.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::child::LastWords;
use crate::name::ComponentName;

/// The longest log that is kept, in bytes: the rest of it is only heard.
const LONGEST: u64 = 64 << 20;

/// How many logs of a component are kept.
const KEPT: usize = 20;

/// How many lines of it are shown.
const SHOWN: usize = 20;

/// A log under way.
pub(super) struct Log {
    words: LastWords,
    file: Option<(PathBuf, File)>,
    left: u64,
}

impl Log {
    /// One for the image of this name, in place of an older one.
    pub(super) fn new(component: &ComponentName, image: &str) -> Self {
        let file = folder().and_then(|folder| {
            let folder = folder.join(component.as_str());
            open(&folder, image)
                .inspect_err(
                    |error| tracing::warn!(folder = %folder.display(), %error, "no log is kept"),
                )
                .ok()
        });
        Self { words: LastWords::new(SHOWN), file, left: LONGEST }
    }

    /// It says more.
    pub(super) fn hear(&mut self, bytes: &[u8]) {
        self.words.hear(bytes);
        let some = &bytes[..bytes.len().min(usize::try_from(self.left).unwrap_or(usize::MAX))];
        self.left -= some.len() as u64;
        if let Some((_, file)) = &mut self.file
            && let Err(error) = file.write_all(some)
        {
            tracing::warn!(%error, "the log ends here");
            self.left = 0;
        }
    }

    /// Where it is.
    pub(super) fn path(&self) -> Option<&Path> {
        self.file.as_ref().map(|(path, _)| path.as_path())
    }

    /// The end of it, fit to be shown.
    pub(super) fn lines(self) -> Vec<String> {
        self.words.lines()
    }
}

/// Where logs are: what systemd gives a service, or what a user's programs have for such things.
fn folder() -> Option<PathBuf> {
    let set = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    set("LOGS_DIRECTORY")
        .or_else(|| Some(set("XDG_STATE_HOME")?.join("publish/logs")))
        .or_else(|| Some(set("HOME")?.join(".local/state/publish/logs")))
}

fn open(folder: &Path, image: &str) -> io::Result<(PathBuf, File)> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let path = folder.join(format!("{image}.log"));
    // Another build of the same image may still write to the old one.
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let file = File::options().write(true).create_new(true).mode(0o600).open(&path)?;
    forget_old(folder)?;
    Ok((path, file))
}

/// Takes the oldest away, so that a folder does not grow for ever.
fn forget_old(folder: &Path) -> io::Result<()> {
    let mut all: Vec<(SystemTime, PathBuf)> = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|end| end == "log") {
            all.push((fs::symlink_metadata(&path)?.modified()?, path));
        }
    }
    all.sort();
    let old = all.len().saturating_sub(KEPT);
    all[..old].iter().try_for_each(|(_, path)| fs::remove_file(path))
}

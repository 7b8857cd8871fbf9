//! Folders for what is only needed for a while, in the system's folder for such things.
//!
//! Owns their names and their end. A run that is killed cannot take its own away, so the next one
//! does: whoever uses such a folder holds the kernel's lock on it, which ends with the process. Knows
//! nothing of what is in them.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Once;
use std::time::{Duration, SystemTime};

use rustix::fs::{FlockOperation, OFlags, flock};

/// What their names begin with; six letters and digits follow.
const PREFIX: &str = "publish-";

/// A folder is made first and locked then: a young one may just be between the two.
const YOUNG: Duration = Duration::from_secs(60 * 60);

/// How often taking a folder away is tried.
const TRIES: usize = 50;

/// A folder of this run. It goes when this does.
#[derive(Debug)]
pub struct Scratch {
    folder: tempfile::TempDir,
    /// Locked, so that nobody takes the folder for one that was left behind.
    _lock: File,
}

impl Scratch {
    /// Makes one. The first of a process takes away what killed runs of the same user left.
    ///
    /// # Errors
    /// There is no folder for temporary files, or it cannot be written.
    pub fn new() -> io::Result<Self> {
        static SWEPT: Once = Once::new();
        SWEPT.call_once(|| sweep(&std::env::temp_dir()));
        let folder = tempfile::Builder::new().prefix(PREFIX).rand_bytes(6).tempdir()?;
        let lock = File::open(folder.path())?;
        // Where there are no such locks, nobody gets one for sweeping either.
        let _ = flock(&lock, FlockOperation::NonBlockingLockExclusive);
        Ok(Self { folder, _lock: lock })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Threads of a run that was ended before its time may still write here, and put a file into a
        // folder that is being emptied. With the folder gone, they fail.
        for _ in 0..TRIES {
            match fs::remove_dir_all(self.folder.path()) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                _ => return,
            }
        }
    }
}

/// Takes away the folders that nobody holds any more. What cannot be taken away stays: it is in
/// nobody's way but the disk's.
fn sweep(below: &Path) {
    let Ok(entries) = fs::read_dir(below) else { return };
    for entry in entries.flatten().filter(|entry| is_ours(&entry.file_name())) {
        let _ = take_away(&entry.path());
    }
}

fn is_ours(name: &OsStr) -> bool {
    let rest = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
    rest.is_some_and(|rest| rest.len() == 6 && rest.bytes().all(|c| c.is_ascii_alphanumeric()))
}

fn take_away(path: &Path) -> io::Result<()> {
    // Never along a link that somebody else put here.
    let flags = (OFlags::NOFOLLOW | OFlags::DIRECTORY).bits().cast_signed();
    let folder = File::options().read(true).custom_flags(flags).open(path)?;
    let metadata = folder.metadata()?;
    let age = SystemTime::now().duration_since(metadata.modified()?).unwrap_or_default();
    let is_own = metadata.uid() == rustix::process::geteuid().as_raw();
    if !is_own || age < YOUNG {
        return Ok(());
    }
    flock(&folder, FlockOperation::NonBlockingLockExclusive)?;
    tracing::debug!(path = %path.display(), "a killed run left this");
    fs::remove_dir_all(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn old(path: &Path) -> File {
        let folder = File::open(path).unwrap();
        folder.set_modified(SystemTime::now() - 2 * YOUNG).unwrap();
        folder
    }

    #[test]
    fn only_what_nobody_holds_is_taken_away() {
        let below = tempfile::tempdir().unwrap();
        let path = |name: &str| below.path().join(name);
        for name in
            ["publish-dead01", "publish-live01", "publish-young1", "publish-it-xyz", "other"]
        {
            fs::create_dir(path(name)).unwrap();
            fs::write(path(name).join("half"), "x").unwrap();
        }
        fs::create_dir(path("elsewhere")).unwrap();
        std::os::unix::fs::symlink(path("elsewhere"), path("publish-link01")).unwrap();
        for name in ["publish-dead01", "publish-it-xyz", "other", "elsewhere"] {
            old(&path(name));
        }
        let live = old(&path("publish-live01"));
        flock(&live, FlockOperation::NonBlockingLockExclusive).unwrap();
        sweep(below.path());
        let mut left: Vec<_> =
            fs::read_dir(below.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        left.sort();
        let stay = ["elsewhere", "other", "publish-it-xyz", "publish-link01", "publish-live01"];
        assert_eq!(left, [&stay[..], &["publish-young1"]].concat());
        drop(live);
        sweep(below.path());
        assert!(!path("publish-live01").exists());
    }
}

//! A download that is read while it still comes in.
//!
//! Owns the meeting of one who writes a file and those who read it behind him. Knows nothing of
//! where the bytes come from or what they are; and nothing that is read here is verified yet: the
//! digest is known when the last byte is here.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// A file that is here, or on its way. A clone is the same one.
#[derive(Debug, Clone)]
pub struct Arriving {
    shared: Arc<Shared>,
    /// Whether those who read by this handle should stop waiting.
    abandoned: Arc<AtomicBool>,
}

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// How often the download was begun.
    begun: u32,
    file: Option<Arc<File>>,
    /// Bytes that can be read.
    length: u64,
    end: Option<End>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Whole,
    Failed,
}

impl Arriving {
    /// A file that will come to this path.
    #[must_use]
    pub fn at(path: PathBuf) -> Self {
        let shared = Shared { path, state: Mutex::default(), changed: Condvar::new() };
        Self { shared: Arc::new(shared), abandoned: Arc::default() }
    }

    /// The same file, for one who may give it up while others still wait for it.
    #[must_use]
    pub fn for_one(&self) -> Self {
        Self { shared: self.shared.clone(), abandoned: Arc::default() }
    }

    /// Ends all waiting by this handle and its clones.
    pub fn abandon(&self) {
        // Under the lock, so that it is not missed by who is just about to wait.
        let state = self.state();
        self.abandoned.store(true, Ordering::Relaxed);
        drop(state);
        self.shared.changed.notify_all();
    }

    fn is_abandoned(&self) -> bool {
        self.abandoned.load(Ordering::Relaxed)
    }

    /// Where it is, or will be.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.shared.path
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nobody panics while holding it.
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How often it was begun: what was read at an earlier time of another one is worthless.
    #[must_use]
    pub fn begun(&self) -> u32 {
        self.state().begun
    }

    /// Says that all of a file lies there already.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn is_here(&self) -> io::Result<()> {
        let file = File::open(&self.shared.path)?;
        let length = file.metadata()?.len();
        let mut state = self.state();
        *state = State { begun: 1, file: Some(file.into()), length, end: Some(End::Whole) };
        self.shared.changed.notify_all();
        Ok(())
    }

    /// Begins to write it, in a new file: who still reads an earlier one gets an error.
    ///
    /// # Errors
    /// The file cannot be made.
    pub fn begin(&self) -> io::Result<Feed> {
        match std::fs::remove_file(&self.shared.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file =
            File::options().read(true).write(true).create_new(true).open(&self.shared.path)?;
        let file = Arc::new(file);
        let mut state = self.state();
        let begun = state.begun + 1;
        *state = State { begun, file: Some(file.clone()), length: 0, end: None };
        drop(state);
        self.shared.changed.notify_all();
        Ok(Feed { arriving: self.clone(), file, begun })
    }

    /// Reads it from its first byte, waiting for what is not here yet. Blocks: not for a thread
    /// that has other things to do.
    #[must_use]
    pub fn open(&self) -> Follower {
        Follower { arriving: self.clone(), begun: None, at: 0 }
    }

    /// Waits until all of it is here. Blocks.
    ///
    /// # Errors
    /// It will never come, or cannot be opened.
    pub fn whole(&self) -> io::Result<File> {
        let unfinished = |state: &mut State| state.end.is_none() && !self.is_abandoned();
        let state = self.shared.changed.wait_while(self.state(), unfinished);
        match state.unwrap_or_else(PoisonError::into_inner).end {
            Some(End::Whole) => File::open(&self.shared.path),
            _ => Err(gone()),
        }
    }
}

fn gone() -> io::Error {
    io::Error::other("the download failed")
}

/// The writing end. Dropped before it is closed, the download has failed.
#[derive(Debug)]
pub struct Feed {
    arriving: Arriving,
    file: Arc<File>,
    begun: u32,
}

impl Feed {
    /// Appends bytes, which can be read from now on.
    ///
    /// # Errors
    /// The disk, most likely.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        (&*self.file).write_all(bytes)?;
        let mut state = self.arriving.state();
        if state.begun == self.begun {
            state.length += bytes.len() as u64;
        }
        drop(state);
        self.arriving.shared.changed.notify_all();
        Ok(())
    }

    /// Says that this was all.
    pub fn close(self) {
        self.end(End::Whole);
    }

    fn end(&self, end: End) {
        let mut state = self.arriving.state();
        if state.begun == self.begun {
            state.end.get_or_insert(end);
        }
        drop(state);
        self.arriving.shared.changed.notify_all();
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.end(End::Failed);
    }
}

/// Reads behind the one who writes.
#[derive(Debug)]
pub struct Follower {
    arriving: Arriving,
    /// Which beginning it follows; none before the first byte.
    begun: Option<u32>,
    at: u64,
}

impl Read for Follower {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if into.is_empty() {
            return Ok(0);
        }
        let begun = self.begun;
        let nothing_yet = |state: &mut State| {
            state.end.is_none()
                && !self.arriving.is_abandoned()
                && state.length <= self.at
                && begun.is_none_or(|begun| begun == state.begun)
        };
        let state = self.arriving.shared.changed.wait_while(self.arriving.state(), nothing_yet);
        let state = state.unwrap_or_else(PoisonError::into_inner);
        if state.end == Some(End::Failed) || self.arriving.is_abandoned() {
            return Err(gone());
        }
        if *self.begun.get_or_insert(state.begun) != state.begun {
            return Err(io::Error::other("the download was begun anew"));
        }
        let Some(file) = state.file.clone() else { return Err(gone()) };
        let left = usize::try_from(state.length - self.at).unwrap_or(usize::MAX);
        drop(state);
        let want = left.min(into.len());
        let got = file.read_at(&mut into[..want], self.at)?;
        if got == 0 && want > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.at += got as u64;
        Ok(got)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arriving() -> (tempfile::TempDir, Arriving) {
        let folder = tempfile::tempdir().unwrap();
        let arriving = Arriving::at(folder.path().join("x"));
        (folder, arriving)
    }

    #[test]
    fn a_reader_waits_for_each_byte_and_sees_the_end() {
        let (_folder, arriving) = arriving();
        std::thread::scope(|scope| {
            let readers = [(); 3].map(|()| {
                scope.spawn(|| {
                    let mut all = Vec::new();
                    arriving.open().read_to_end(&mut all).map(|_| all)
                })
            });
            let mut feed = arriving.begin().unwrap();
            for byte in 0..200 {
                feed.write(&[byte]).unwrap();
            }
            feed.close();
            for reader in readers {
                assert_eq!(reader.join().unwrap().unwrap(), (0..200).collect::<Vec<u8>>());
            }
        });
        let mut whole = Vec::new();
        arriving.whole().unwrap().read_to_end(&mut whole).unwrap();
        assert_eq!(whole.len(), 200);
    }

    #[test]
    fn a_download_that_is_given_up_ends_all_waiting() {
        let (_folder, arriving) = arriving();
        let mut feed = arriving.begin().unwrap();
        feed.write(b"half").unwrap();
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| arriving.open().read_to_end(&mut Vec::new()));
            let whole = scope.spawn(|| arriving.whole());
            drop(feed);
            assert!(reader.join().unwrap().is_err());
            assert!(whole.join().unwrap().is_err());
        });
    }

    #[test]
    fn who_gives_up_does_not_stop_the_others() {
        let (_folder, arriving) = arriving();
        let mut feed = arriving.begin().unwrap();
        let one = arriving.for_one();
        std::thread::scope(|scope| {
            let given_up = scope.spawn(|| one.open().read_to_end(&mut Vec::new()));
            let other = scope.spawn(|| arriving.open().read_to_end(&mut Vec::new()));
            one.abandon();
            assert!(given_up.join().unwrap().is_err());
            assert!(one.whole().is_err());
            feed.write(b"all").unwrap();
            feed.close();
            assert_eq!(other.join().unwrap().unwrap(), 3);
        });
    }

    #[test]
    fn who_read_of_an_earlier_try_never_goes_on_with_a_later_one() {
        let (_folder, arriving) = arriving();
        let mut early = arriving.open();
        let mut feed = arriving.begin().unwrap();
        feed.write(b"first").unwrap();
        let mut reader = arriving.open();
        let mut bytes = [0; 3];
        reader.read_exact(&mut bytes).unwrap();
        let mut again = arriving.begin().unwrap();
        drop(feed);
        again.write(b"second").unwrap();
        again.close();
        assert!(reader.read(&mut bytes).is_err());
        // Who had nothing yet lost nothing.
        let mut all = Vec::new();
        early.read_to_end(&mut all).unwrap();
        assert_eq!(all, b"second");
        assert_eq!(arriving.begun(), 2);
    }

    #[test]
    fn a_file_that_lies_there_needs_no_download() {
        let (_folder, arriving) = arriving();
        assert!(arriving.is_here().is_err());
        std::fs::write(arriving.path(), b"all").unwrap();
        arriving.is_here().unwrap();
        let mut all = Vec::new();
        arriving.open().read_to_end(&mut all).unwrap();
        assert_eq!(all, b"all");
    }
}

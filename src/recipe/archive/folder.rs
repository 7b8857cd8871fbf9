//! Reads a folder of this machine that a command has filled, by the rules for archives.
//!
//! Owns walking it: each step is taken from the folder before, never along a link, so that nothing
//! outside of it is read whatever happens meanwhile. Refuses to know who filled it.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, openat, readlinkat, statat};
use rustix::io::Errno;

use super::entries::{self, Entries};
use super::{Archive, ArchiveError, Entry, Kind, Limits, Problem};
use crate::recipe::intake::{Intake, Want};

/// Reads a folder into a virtual tree. All of it is wanted.
///
/// # Errors
/// As [`read`](super::read).
pub fn read_folder(
    folder: &Path,
    limits: &Limits,
    intake: &mut Intake<'_>,
) -> Result<Archive, ArchiveError> {
    let entries = Entries::new(*limits, &|_| Want::Image);
    let mut walk = Walk { entries, intake, names: HashMap::new() };
    let root = open(CWD, folder.as_os_str().as_bytes(), OFlags::DIRECTORY);
    walk.folder(&root.map_err(|error| ArchiveError::Read(error.into()))?, "")?;
    Ok(Archive { kind: Kind::Folder, newest: None, entries: walk.entries.finish()? })
}

struct Walk<'w, 'k> {
    entries: Entries<'w>,
    intake: &'w mut Intake<'k>,
    /// The first name of each file that has several.
    names: HashMap<(u64, u64), String>,
}

impl Walk<'_, '_> {
    fn folder(&mut self, folder: &OwnedFd, path: &str) -> Result<(), ArchiveError> {
        // In the order of the image, what is taken in need not be moved.
        for name in names(folder).map_err(|error| unreadable(path.as_bytes(), &error))? {
            self.entries.begin()?;
            let mut raw = Vec::from(path);
            if !path.is_empty() {
                raw.push(b'/');
            }
            raw.extend(&name);
            let path = entries::normalise(&raw)?;
            self.entry(folder, &name, path).map_err(|error| match error {
                Failed::Archive(error) => error,
                Failed::Here(error) => unreadable(&raw, &error),
            })?;
        }
        Ok(())
    }

    fn entry(&mut self, folder: &OwnedFd, name: &[u8], path: String) -> Result<(), Failed> {
        let found = statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let mode = found.st_mode & 0o7777;
        match FileType::from_raw_mode(found.st_mode) {
            FileType::Directory => {
                self.entries.insert(path.clone(), Entry::Directory { mode })?;
                let below = open(folder.as_fd(), name, OFlags::DIRECTORY)?;
                self.folder(&below, &path)?;
            }
            FileType::Symlink => {
                let target = readlinkat(folder, name, Vec::new())?;
                self.entries.symlink(path, target.as_bytes())?;
            }
            FileType::RegularFile => {
                if found.st_nlink > 1 {
                    match self.names.entry((found.st_dev, found.st_ino)) {
                        Slot::Occupied(first) => {
                            return Ok(self.entries.hard_link(path, first.get().as_bytes())?);
                        }
                        Slot::Vacant(slot) => drop(slot.insert(path.clone())),
                    }
                }
                // Nothing to wait for, if it became a pipe since.
                let mut file = File::from(open(folder.as_fd(), name, OFlags::NONBLOCK)?);
                if !file.metadata()?.is_file() {
                    return Err(io::Error::other("it changed while it was read").into());
                }
                self.entries.announce(found.st_size.try_into().unwrap_or(u64::MAX))?;
                let content = self.entries.take(&path, &mut file, self.intake)??;
                self.entries.insert(path, Entry::File { mode, content })?;
            }
            other => {
                let what = match other {
                    FileType::CharacterDevice => "character device",
                    FileType::BlockDevice => "block device",
                    FileType::Fifo => "FIFO",
                    FileType::Socket => "socket",
                    _ => "thing of an unknown kind",
                };
                let refused = ArchiveError::entry(path.as_bytes(), Problem::Special(what));
                return Err(refused.into());
            }
        }
        Ok(())
    }
}

/// What went wrong with an entry: by the rules, or on this machine.
enum Failed {
    Archive(ArchiveError),
    Here(io::Error),
}

impl From<ArchiveError> for Failed {
    fn from(error: ArchiveError) -> Self {
        Self::Archive(error)
    }
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        Self::Here(error)
    }
}

impl From<Errno> for Failed {
    fn from(error: Errno) -> Self {
        Self::Here(error.into())
    }
}

fn unreadable(path: &[u8], error: &io::Error) -> ArchiveError {
    ArchiveError::entry(path, Problem::Unreadable(error.to_string()))
}

fn open(at: impl AsFd, name: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    let flags = flags | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(at, name, flags, Mode::empty())
}

/// The names in a folder, sorted.
fn names(folder: &OwnedFd) -> io::Result<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(name.to_owned());
        }
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn read(folder: &Path, limits: Limits) -> Result<Archive, String> {
        let mut intake = Intake::on_disk(folder);
        read_folder(folder, &limits, &mut intake).map_err(|error| error.to_string())
    }

    #[test]
    fn files_links_and_folders_are_told_as_they_are() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::create_dir_all(path("usr/bin")).unwrap();
        fs::write(path("usr/bin/a"), "program").unwrap();
        fs::hard_link(path("usr/bin/a"), path("usr/bin/b")).unwrap();
        symlink("../../../../etc/passwd", path("usr/bin/c")).unwrap();
        let archive = read(folder.path(), Limits::default()).unwrap();
        assert_eq!(
            archive.entries.keys().collect::<Vec<_>>(),
            ["usr", "usr/bin", "usr/bin/a", "usr/bin/b", "usr/bin/c"]
        );
        for name in ["usr/bin/a", "usr/bin/b"] {
            let Entry::File { content, .. } = &archive.entries[name] else { panic!("a file") };
            assert_eq!(content.read_all(7).unwrap(), b"program");
        }
        let Entry::Symlink { target } = &archive.entries["usr/bin/c"] else { panic!("a link") };
        assert_eq!(target, "../../../../etc/passwd");
    }

    #[test]
    fn what_no_image_can_hold_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::create_dir(path("usr")).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(path("usr/socket")).unwrap();
        let error = read(folder.path(), Limits::default()).unwrap_err();
        assert_eq!(error, "archive entry `usr/socket` is a socket, which an image cannot hold");
        fs::remove_file(path("usr/socket")).unwrap();
        fs::write(path("usr/a\nb"), "x").unwrap();
        let error = read(folder.path(), Limits::default()).unwrap_err();
        assert!(error.contains("control character"), "{error}");
    }

    #[test]
    fn the_limits_hold() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        // A file with nothing in it but its length costs nothing to make.
        File::create(path("large")).unwrap().set_len(1 << 40).unwrap();
        let error = read(folder.path(), Limits { bytes: 1 << 20, entries: 9 }).unwrap_err();
        assert!(error.contains("more than 1048576 bytes"), "{error}");
        fs::remove_file(path("large")).unwrap();
        (0..9).for_each(|number| fs::write(path(&number.to_string()), "").unwrap());
        assert!(read(folder.path(), Limits { bytes: 0, entries: 9 }).is_ok());
        let error = read(folder.path(), Limits { bytes: 0, entries: 8 }).unwrap_err();
        assert!(error.contains("more than 8 entries"), "{error}");
        fs::create_dir_all(path(&"d/".repeat(101))).unwrap();
        let error = read(folder.path(), Limits::default()).unwrap_err();
        assert!(error.contains("too many folders"), "{error}");
    }
}

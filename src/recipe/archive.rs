//! Reads an upstream archive of unknown kind into a virtual tree.
//!
//! Owns what an archive may contain: which paths, which kinds of entries, how much of each. It
//! reads hostile input, so it takes an archive whole or refuses it whole, and an error names the
//! entry at fault. It refuses to know where the entries end up in an image: where a symlink leads
//! and what a setuid bit is worth are judged by the tree. Contents go to an [`Intake`], in one pass
//! over an archive that may still be on its way here; only zip, whose directory is at its end, is
//! waited for.

mod cpio;
mod deb;
mod entries;
mod folder;
mod layers;
mod rpm;
mod sniff;
mod tar;
mod zip;

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Read};

use thiserror::Error;

use super::intake::{Intake, Want};
use super::spool::Content;
use crate::fetch::arriving::Arriving;
use entries::Entries;
pub use folder::read_folder;
pub use layers::read_layers;
use sniff::{Stream, Wrapping};

/// Mode of a file which came without one because it was not in an archive: such an asset is the
/// program itself.
const PROGRAM_MODE: u32 = 0o755;

/// How much one archive may unpack to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Total size of all files once unpacked, in bytes.
    pub bytes: u64,
    /// Number of entries, counting those which a later one of the same path replaces.
    pub entries: usize,
}

impl Default for Limits {
    /// 4 GiB in 200 000 entries.
    fn default() -> Limits {
        Limits { bytes: 4 << 30, entries: 200_000 }
    }
}

/// One entry of an archive.
#[derive(Clone, Debug)]
pub enum Entry {
    /// A directory.
    Directory {
        /// Permission bits, at most `0o7777`.
        mode: u32,
    },
    /// A regular file. A hard link is a file that shares the content of another.
    File {
        /// Permission bits, at most `0o7777`.
        mode: u32,
        /// The bytes.
        content: Content,
    },
    /// A symbolic link.
    Symlink {
        /// Where it points, as the archive says it: 1 to 4096 bytes without NUL, absolute or
        /// relative, possibly outside of the archive.
        target: String,
    },
}

/// What the bytes of an asset turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A tar archive, compressed or not.
    Tar,
    /// A zip archive.
    Zip,
    /// A Debian package.
    Deb,
    /// An RPM package.
    Rpm,
    /// The layers of a container image.
    Layers,
    /// A folder of this machine.
    Folder,
    /// A single compressed file.
    Compressed,
    /// Anything else: a single file as it is.
    Bare,
}

/// A whole archive.
#[derive(Clone, Debug)]
pub struct Archive {
    /// What it was.
    pub kind: Kind,
    /// The entries by path. Paths are relative and `/`-separated, have no empty, `.` or `..`
    /// component and no trailing slash; each component is 1 to 255 bytes and each path at most
    /// 4096. No entry lies below a symlink or a file. Parents which the archive leaves out are
    /// not made up, and an entry for the root directory itself is not kept.
    pub entries: BTreeMap<String, Entry>,
    /// The newest date of a file in a tar or cpio archive, in seconds since 1970. Other formats have
    /// none, or one without a time zone.
    pub newest: Option<u64>,
}

/// The format that was being read when something went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// No compression around the archive.
    Plain,
    /// gzip, RFC 1952.
    Gzip,
    /// The .xz file format 1.2.
    Xz,
    /// Zstandard, RFC 8878.
    Zstd,
    /// bzip2.
    Bzip2,
    /// tar: POSIX.1 ustar and pax, GNU and v7.
    Tar,
    /// zip, APPNOTE 6.3.
    Zip,
    /// A Debian package, deb(5) 2.0.
    Deb,
    /// An RPM package, formats 3, 4 and 6.
    Rpm,
    /// cpio, as it is in an RPM package.
    Cpio,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Format::Plain => "file",
            Format::Gzip => "gzip stream",
            Format::Xz => "xz stream",
            Format::Zstd => "zstd stream",
            Format::Bzip2 => "bzip2 stream",
            Format::Tar => "tar archive",
            Format::Zip => "zip archive",
            Format::Deb => "Debian package",
            Format::Rpm => "RPM package",
            Format::Cpio => "cpio archive",
        })
    }
}

/// Why an archive is refused.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ArchiveError {
    /// The asset itself cannot be read.
    #[error("cannot read the archive")]
    Read(#[source] io::Error),
    /// What was not wanted is linked to by what is: it must be read again, with all of it kept.
    #[error("a hard link leads to what was read over")]
    Again,
    /// There is no place for more bytes.
    #[error("cannot keep the unpacked bytes")]
    Spool(#[source] io::Error),
    /// The asset, or what it unpacks to, has no bytes.
    #[error("file is empty")]
    Empty,
    /// The archive ends too early.
    #[error("{0} is truncated")]
    Truncated(Format),
    /// The bytes do not follow the format, or a checksum does not match.
    #[error("{format} is damaged")]
    Damaged {
        /// What was being read.
        format: Format,
        /// What the decoder says.
        #[source]
        source: io::Error,
    },
    /// What is in a package is packed in a way that cannot be unpacked.
    #[error("{0} is packed in a way that cannot be unpacked")]
    Packing(Format),
    /// The zip archive has no usable central directory, which is at its end.
    #[error("zip archive is truncated or damaged")]
    Directory(#[source] io::Error),
    /// The compressed stream asks for more memory than this program gives to a decoder.
    #[error("{0} needs too much memory to unpack")]
    Memory(Format),
    /// More bytes than [`Limits::bytes`].
    #[error("archive unpacks to more than {limit} bytes")]
    TooLarge {
        /// The limit in bytes.
        limit: u64,
    },
    /// More entries than [`Limits::entries`].
    #[error("archive has more than {limit} entries")]
    TooMany {
        /// The limit.
        limit: usize,
    },
    /// The paths and symlink targets together would take too much memory.
    #[error("names in the archive take more than {limit} bytes")]
    Names {
        /// The limit in bytes.
        limit: usize,
    },
    /// A file that its name calls an archive, but that is none: an error page, or half of one.
    #[error("the file is no archive, although its name says so")]
    NoArchive,
    /// A page of HTML where something else was expected.
    #[error("the file is a page of HTML")]
    Html,
    /// One entry cannot be taken.
    #[error("archive entry `{path}` {problem}")]
    Entry {
        /// The path as the archive has it, shortened and with control characters escaped.
        path: String,
        /// What is wrong with it.
        problem: Problem,
    },
    /// The content of one entry of a zip archive cannot be unpacked.
    #[error("archive entry `{path}` is damaged")]
    Content {
        /// The path as the archive has it, shortened and with control characters escaped.
        path: String,
        /// What the decoder says.
        #[source]
        source: io::Error,
    },
}

/// What is wrong with one entry. Each reads as the end of a sentence that starts with the entry.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Problem {
    /// A `..` component.
    #[error("leaves the image root")]
    LeavesRoot,
    /// A path that starts with `/`.
    #[error("has an absolute path")]
    Absolute,
    /// A path without a single name in it.
    #[error("has an empty path")]
    EmptyPath,
    /// A path through more folders than any real one.
    #[error("lies in too many folders")]
    TooDeep,
    /// A path with NUL or another control character.
    #[error("has a control character in its path")]
    Control,
    /// A path that is not UTF-8.
    #[error("has a path which is not UTF-8")]
    NotUtf8,
    /// A component over 255 bytes or a path over 4096 bytes.
    #[error("has a path which is too long")]
    TooLong,
    /// A zip path with `\`, which the zip specification forbids (APPNOTE 4.4.17.1).
    #[error("has a backslash in its path")]
    Backslash,
    /// A parent is a symlink.
    #[error("goes through the symlink `{0}`")]
    ThroughSymlink(String),
    /// A parent is a regular file.
    #[error("goes through the file `{0}`")]
    ThroughFile(String),
    /// Two entries of this path, one of them a directory and the other one not.
    #[error("is a directory and also something else")]
    ChangesType,
    /// A hard link to a path with a `..` component or an absolute path.
    #[error("is a hard link to `{0}`, which leaves the image root")]
    LinkLeavesRoot(String),
    /// A hard link to a path that no earlier entry has.
    #[error("is a hard link to `{0}`, which is not in the archive before it")]
    LinkMissing(String),
    /// A hard link to a symlink or a directory.
    #[error("is a hard link to `{0}`, which is not a regular file")]
    LinkNotFile(String),
    /// A symlink target which is empty, over 4096 bytes, not UTF-8, or has a NUL.
    #[error("is a symlink with an unusable target")]
    BadTarget,
    /// A device node, a FIFO or a socket.
    #[error("is a {0}, which an image cannot hold")]
    Special(&'static str),
    /// A tar entry of a type that no current specification names.
    #[error("is of the unknown type `{0}`")]
    UnknownType(String),
    /// An entry which is not a file, but has content.
    #[error("has content although it is not a regular file")]
    Misplaced,
    /// A header with a field which is not a number, or an extension header that breaks its
    /// format.
    #[error("has a malformed header")]
    Header,
    /// Extension headers over 1 MiB.
    #[error("has extension headers of more than 1 MiB")]
    HeaderTooLarge,
    /// A pax global header that gives the same path or size to all entries.
    #[error("is a pax global header which renames or resizes other entries")]
    Global,
    /// A map of a sparse file that is wrong, or of one of the GNU forms 0.0 and 0.1.
    #[error("has an unusable sparse map")]
    Sparse,
    /// A file of this machine that cannot be read.
    #[error("cannot be read: {0}")]
    Unreadable(String),
    /// An encrypted zip entry.
    #[error("is encrypted")]
    Encrypted,
    /// A zip entry with a compression method that cannot be unpacked within bounded memory.
    #[error("uses the unsupported compression method {0}")]
    Method(String),
}

impl ArchiveError {
    /// What the reader of the message can do next, where there is something: a short fragment.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            ArchiveError::TooLarge { .. } => {
                "raise `unpacked` in [limits] if the upstream is trusted"
            }
            ArchiveError::Truncated(_)
            | ArchiveError::Damaged { .. }
            | ArchiveError::Directory(_)
            | ArchiveError::Content { .. } => {
                "download the asset again, and tell the upstream if it stays this way"
            }
            ArchiveError::TooMany { .. } => {
                "raise `entries` in [limits] if the upstream is trusted"
            }
            ArchiveError::NoArchive | ArchiveError::Html => {
                "the server sent something else than the asset: look at what is at its URL"
            }
            ArchiveError::Empty => "check that the recipe picks the right asset",
            ArchiveError::Spool(_) => "make room on the file system of the temporary directory",
            ArchiveError::Memory(_)
            | ArchiveError::Packing(_)
            | ArchiveError::Entry { problem: Problem::Method(_) | Problem::Encrypted, .. } => {
                "pick another asset of the release"
            }
            ArchiveError::Entry { .. } | ArchiveError::Names { .. } => {
                "no honest archive has such an entry: do not use it before you know why"
            }
            ArchiveError::Read(_) | ArchiveError::Again => return None,
        };
        Some(hint.to_owned())
    }

    /// Bytes that do not follow the format.
    fn damaged(format: Format, what: &'static str) -> ArchiveError {
        let source = io::Error::new(io::ErrorKind::InvalidData, what);
        ArchiveError::Damaged { format, source }
    }

    fn entry(path: &[u8], problem: Problem) -> ArchiveError {
        ArchiveError::Entry { path: entries::quote(path), problem }
    }
}

/// Reads an asset into a virtual tree. `wants` says of each path what its content is wanted for.
///
/// The bytes alone decide what it is. `name` is the asset's file name: it names the entry of a
/// bare file ("kubectl" stays "kubectl") or of a single compressed file ("btop-1.2.gz" becomes
/// "btop-1.2"). Such an entry has mode `0o755`.
///
/// # Errors
///
/// The archive is refused whole when any part of it is unsafe, damaged, truncated or beyond
/// `limits`. What was taken in up to there stays there. [`ArchiveError::Again`] asks for another
/// call in which everything is wanted.
pub fn read(
    asset: &Arriving,
    name: &str,
    limits: &Limits,
    wants: &dyn Fn(&str) -> Want,
    intake: &mut Intake<'_>,
) -> Result<Archive, ArchiveError> {
    let mut file = asset.open();
    let mut head = Vec::new();
    (&mut file).take(sniff::HEAD as u64).read_to_end(&mut head).map_err(ArchiveError::Read)?;
    if head.is_empty() {
        return Err(ArchiveError::Empty);
    }
    let mut entries = Entries::new(*limits, wants);
    let wrapping = sniff::wrapping(&head);
    let (is_tar, is_html) = (sniff::is_tar(&head), sniff::is_html(&head));
    let bytes = io::Cursor::new(head).chain(file);
    let kind = match wrapping {
        Wrapping::Zip => {
            let again = asset.whole().map_err(ArchiveError::Read)?;
            let file = asset.whole().map_err(ArchiveError::Read)?;
            zip::read(file, again, &mut entries, intake)?;
            Kind::Zip
        }
        Wrapping::Deb => {
            deb::read(bytes, &mut entries, intake)?;
            Kind::Deb
        }
        Wrapping::Rpm => {
            rpm::read(bytes, &mut entries, intake)?;
            Kind::Rpm
        }
        Wrapping::None if is_tar => {
            let mut stream = Stream::plain(bytes, *limits);
            tar::read(&mut stream, tar::End::Marked, &mut entries, intake)?;
            Kind::Tar
        }
        Wrapping::None if sniff::names_an_archive(name) => return Err(ArchiveError::NoArchive),
        Wrapping::None if is_html && !sniff::names_html(name) => {
            return Err(ArchiveError::Html);
        }
        Wrapping::None => {
            single(name, &mut Stream::plain(bytes, *limits), &mut entries, intake)?;
            Kind::Bare
        }
        Wrapping::Compressed(format) => {
            let mut stream = Stream::decode(bytes, format, *limits)?;
            if stream.holds_tar()? {
                tar::read(&mut stream, tar::End::Any, &mut entries, intake)?;
                Kind::Tar
            } else if sniff::names_a_tar(name) {
                return Err(ArchiveError::NoArchive);
            } else {
                single(sniff::uncompressed_name(name), &mut stream, &mut entries, intake)?;
                Kind::Compressed
            }
        }
    };
    Ok(Archive { kind, newest: entries.newest(), entries: entries.finish()? })
}

/// Makes the one entry of an asset that is not an archive.
fn single(
    name: &str,
    stream: &mut Stream,
    entries: &mut Entries<'_>,
    intake: &mut Intake<'_>,
) -> Result<(), ArchiveError> {
    let path = entries::normalise(name.as_bytes())?;
    let content = entries.take(&path, stream, intake)?.map_err(|source| stream.error(source))?;
    if content.is_empty() {
        return Err(ArchiveError::Empty);
    }
    entries.begin()?;
    entries.insert(path, Entry::File { mode: PROGRAM_MODE, content })
}

#[cfg(test)]
mod tests;

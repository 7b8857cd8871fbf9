//! Reads a zip archive.
//!
//! Owns what is particular to zip: the central directory, modes made on other systems, methods
//! and encryption. It refuses to know what a tree may contain, which is the business of
//! [`Entries`], and it trusts no size: declared ones are only used to refuse early.

use std::fs::File;
use std::io::{self, BufReader, Read};

use ::zip::CompressionMethod;
use ::zip::ZipReadOptions;
use ::zip::read::{ArchiveOffset, Config, ZipFileEntry};
use ::zip::unstable::read::ZipIterable;

use super::entries::{self, Entries, PATH_MAX};
use super::{ArchiveError, Entry, Problem};
use crate::recipe::intake::Intake;

/// Size of the buffers over the archive, in bytes.
const BUFFER: usize = 128 * 1024;
/// Signature of an entry of the central directory (APPNOTE 4.3.12).
const DIRECTORY_ENTRY: [u8; 4] = *b"PK\x01\x02";
/// Signature of the end of the central directory (APPNOTE 4.3.16). An archive without entries has
/// nothing else.
const DIRECTORY_END: [u8; 4] = *b"PK\x05\x06";

/// Reads all entries. `directory` and `bodies` are the same archive, opened twice: walking the
/// central directory and reading an entry have different positions.
pub(super) fn read(
    directory: File,
    bodies: File,
    entries: &mut Entries<'_>,
    intake: &mut Intake<'_>,
) -> Result<(), ArchiveError> {
    let damaged = |error| ArchiveError::Directory(io::Error::from(error));
    // The archive starts at the first byte, otherwise it would not have been taken for one.
    let config = Config { archive_offset: ArchiveOffset::Known(0) };
    // The iterator holds one entry at a time. The crate's map of all of them takes several times
    // the size of the central directory before anybody can look at the number of entries.
    let mut archive = ZipIterable::try_new(BufReader::with_capacity(BUFFER, directory), config)
        .map_err(damaged)?;
    if archive.len() > entries.limits().entries {
        return Err(ArchiveError::TooMany { limit: entries.limits().entries });
    }
    let mut bodies = BufReader::with_capacity(BUFFER, bodies);
    let mut magic = [0; 4];
    bodies.read_exact(&mut magic).map_err(ArchiveError::Directory)?;
    let mut from_start = archive.is_empty() && magic == DIRECTORY_END;
    let walk = archive.files().map_err(damaged)?;
    for entry in walk.by_ref() {
        let entry = entry.map_err(damaged)?;
        from_start |= entry.header_start() == 0;
        entries.begin()?;
        take(entry, &mut bodies, entries, intake)?;
    }
    // An archive cut short can end with the central directory of an archive inside of it, and a
    // 16-bit count of entries can have wrapped around. Both would pass for a smaller archive.
    let mut next = [0; 4];
    let more = walk.reader_mut().read_exact(&mut next).is_ok() && next == DIRECTORY_ENTRY;
    if !from_start || more {
        let message = "the central directory does not describe the whole file";
        let source = io::Error::new(io::ErrorKind::InvalidData, message);
        return Err(ArchiveError::Directory(source));
    }
    Ok(())
}

/// Type and permissions of an entry.
#[derive(Debug, PartialEq, Eq)]
enum Type {
    Directory,
    File,
    Symlink,
    Special,
}

/// Reads `st_mode` from the upper half of the external attributes, where all tools which know
/// modes put it, whatever system they claim to run on. It is zero when made on DOS.
fn type_and_mode(attributes: u32, trailing_slash: bool) -> (Type, u32) {
    let mode = attributes >> 16;
    let kind = match mode & 0o170_000 {
        0o040_000 => Type::Directory,
        0o120_000 => Type::Symlink,
        0 | 0o100_000 if trailing_slash => Type::Directory,
        0 | 0o100_000 => Type::File,
        _ => Type::Special,
    };
    let default = if kind == Type::Directory { 0o755 } else { 0o644 };
    // A mode without a single permission means that nobody cared to set one.
    let mode = mode & 0o7777;
    (kind, if mode == 0 { default } else { mode })
}

fn take(
    entry: ZipFileEntry<'_>,
    bodies: &mut BufReader<File>,
    entries: &mut Entries<'_>,
    intake: &mut Intake<'_>,
) -> Result<(), ArchiveError> {
    let raw = entry.name_raw().to_vec();
    let refuse = |problem| ArchiveError::entry(&raw, problem);
    let path = entries::normalise(&raw)?;
    if raw.contains(&b'\\') {
        return Err(refuse(Problem::Backslash));
    }
    if entry.encrypted() {
        return Err(refuse(Problem::Encrypted));
    }
    // The decoders which the crate has for LZMA and xz take the size of their window from the
    // archive without a limit.
    let method = entry.compression();
    if !matches!(
        method,
        CompressionMethod::Stored | CompressionMethod::Deflated | CompressionMethod::Bzip2
    ) {
        return Err(refuse(Problem::Method(method.to_string())));
    }
    let (kind, mode) = type_and_mode(entry.external_attributes(), raw.ends_with(b"/"));
    match kind {
        Type::Special => return Err(refuse(Problem::Special("special file"))),
        Type::Directory if entry.size() != 0 => return Err(refuse(Problem::Misplaced)),
        Type::Directory => return entries.insert(path, Entry::Directory { mode }),
        Type::File => entries.announce(entry.size())?,
        Type::Symlink => {}
    }
    let damaged = |source| ArchiveError::Content { path: entries::quote(&raw), source };
    let mut body = entry
        .with_reader(bodies, ZipReadOptions::new())
        .map_err(|error| damaged(io::Error::from(error)))?;
    if kind == Type::Symlink {
        let mut target = Vec::new();
        // One byte more than allowed tells a long target from one that just fits, and lets the
        // reader come to its end, where it compares the checksum.
        body.take(PATH_MAX as u64 + 1).read_to_end(&mut target).map_err(damaged)?;
        return entries.symlink(path, &target);
    }
    let content = entries.take(&path, &mut body, intake)?.map_err(damaged)?;
    entries.insert(path, Entry::File { mode, content })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_of_all_makers() {
        for (attributes, slash, want) in [
            (0o100_755 << 16, false, (Type::File, 0o755)),
            (0o104_755 << 16, false, (Type::File, 0o4755)),
            (0o644 << 16, false, (Type::File, 0o644)),
            (0x20, false, (Type::File, 0o644)),
            (0x10, true, (Type::Directory, 0o755)),
            (0o040_700 << 16, true, (Type::Directory, 0o700)),
            (0o040_700 << 16, false, (Type::Directory, 0o700)),
            (0o120_777 << 16, false, (Type::Symlink, 0o777)),
            (0o010_644 << 16, false, (Type::Special, 0o644)),
            (0o020_644 << 16, false, (Type::Special, 0o644)),
            (0o060_644 << 16, false, (Type::Special, 0o644)),
            (0o140_644 << 16, false, (Type::Special, 0o644)),
        ] {
            assert_eq!(type_and_mode(attributes, slash), want, "{attributes:o}");
        }
    }
}

//! Reads an RPM package: the files it installs, and nothing of its scripts.
//!
//! Owns the framing of a package: the lead, the header with the signatures, the header with
//! everything else, and the archive of files behind it. Signatures are not looked at: what vouches
//! for an asset is told in its component. Refuses to know what the archive holds, which is the
//! business of [`cpio`](super::cpio).
//!
//! Source: the RPM manual, "Package Format".

mod table;

use std::io::{self, BufReader, Read};

use super::entries::Entries;
use super::sniff::Stream;
use super::{ArchiveError, Format, cpio};
use crate::recipe::intake::Intake;
pub(super) use table::{Described, Table};

/// Length of the lead, in bytes.
const LEAD: u64 = 96;
/// What a header begins with.
const MAGIC: [u8; 4] = [0x8e, 0xad, 0xe8, 1];
/// Length of an entry of a header's index, in bytes.
const ENTRY: usize = 16;
/// Longest header, in bytes. That of a package with 100 000 files has about 15 MB.
const HEADER_MAX: u64 = 32 << 20;

/// Reads the files of a package.
pub(super) fn read(
    file: impl Read + 'static,
    entries: &mut Entries<'_>,
    intake: &mut Intake<'_>,
) -> Result<(), ArchiveError> {
    let mut file = BufReader::new(file);
    skip(&mut file, LEAD)?;
    let signatures = header(&mut file)?;
    // What comes next begins at a multiple of eight bytes.
    skip(&mut file, (signatures.length().next_multiple_of(8)) - signatures.length())?;
    drop(signatures);
    let header = header(&mut file)?;
    let (stream, head) = Stream::of_payload(file, entries.limits())?;
    // LZMA of old has no magic that could be relied on.
    let mut stream = stream.holding(Format::Cpio);
    if stream.is_plain() && !head.starts_with(b"0707") {
        return Err(ArchiveError::Packing(Format::Rpm));
    }
    cpio::read(&mut stream, &header, entries, intake)
}

/// A header, as it is in the file: numbers, texts and where they are.
pub(super) struct Header {
    index: Vec<u8>,
    store: Vec<u8>,
}

impl Header {
    fn length(&self) -> u64 {
        (ENTRY + self.index.len() + self.store.len()) as u64
    }
}

fn header(file: &mut impl Read) -> Result<Header, ArchiveError> {
    let mut intro = [0; ENTRY];
    file.read_exact(&mut intro).map_err(failed)?;
    if intro[..4] != MAGIC {
        return Err(ArchiveError::damaged(Format::Rpm, "it has no header where one must be"));
    }
    let number = |at: usize| u64::from(u32::from_be_bytes([0, 1, 2, 3].map(|n| intro[at + n])));
    let (index, store) = (number(8) * ENTRY as u64, number(12));
    if index > HEADER_MAX || store > HEADER_MAX {
        return Err(ArchiveError::damaged(Format::Rpm, "its header is longer than any real one"));
    }
    Ok(Header { index: take(file, index)?, store: take(file, store)? })
}

/// Reads so many bytes; there is memory only for those that come.
fn take(file: &mut impl Read, length: u64) -> Result<Vec<u8>, ArchiveError> {
    let mut bytes = Vec::new();
    file.take(length).read_to_end(&mut bytes).map_err(failed)?;
    if (bytes.len() as u64) < length {
        return Err(ArchiveError::Truncated(Format::Rpm));
    }
    Ok(bytes)
}

fn skip(file: &mut impl Read, length: u64) -> Result<(), ArchiveError> {
    match io::copy(&mut file.take(length), &mut io::sink()) {
        Ok(skipped) if skipped < length => Err(ArchiveError::Truncated(Format::Rpm)),
        Ok(_) => Ok(()),
        Err(error) => Err(failed(error)),
    }
}

fn failed(error: io::Error) -> ArchiveError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => ArchiveError::Truncated(Format::Rpm),
        _ => ArchiveError::Read(error),
    }
}

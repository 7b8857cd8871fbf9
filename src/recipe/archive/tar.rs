//! Reads a tar archive: v7, ustar, pax and GNU.
//!
//! Owns the framing of tar: which blocks are headers, what an extension header says about the
//! entry behind it, and how sparse files unfold. It refuses to know what a tree may contain, which
//! is the business of [`Entries`].
//!
//! The `tar` crate decodes the fields of a header, but its iterator is not used. It reads
//! extension headers of any size into memory, takes a file that ends too early for a short one,
//! splits pax records at newlines, which extended attributes contain, so that a path behind one
//! can be lost, and does not know the sparse files of bsdtar.
//!
//! Sources: POSIX.1-2024 `pax` for ustar and pax, the GNU tar manual ("Basic Tar Format", "Storing
//! Sparse Files") for the rest.

mod pax;
mod sparse;

use std::io::{self, Read};

use ::tar::Header;

use self::pax::Pax;
use self::sparse::{Map, Unfold};
use super::entries::{self, Entries};
use super::sniff::{self, Stream};
use super::{ArchiveError, Entry, Format, Problem};
use crate::recipe::intake::Intake;

/// Size of a block, in bytes.
const BLOCK: usize = 512;
/// Largest extension header, in bytes. Paths and targets end at 4096 bytes; what is left is for
/// extended attributes, which are read over.
const EXTENSION_MAX: u64 = 1 << 20;

/// What must stand behind the last entry.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// At least a block of zeros: without it, a cut between two entries would pass for the end.
    Marked,
    /// Anything: the compression around it has an end of its own, and some writers mark none.
    Any,
}

/// Reads all entries, and the stream to its end.
pub(super) fn read(
    stream: &mut Stream,
    end: End,
    entries: &mut Entries<'_>,
    intake: &mut Intake<'_>,
) -> Result<(), ArchiveError> {
    let mut extensions = Extensions::default();
    while let Some(header) = next_header(stream, end)? {
        match header.entry_type().as_byte() {
            b'L' => {
                let name = extension(stream, &header)?;
                extensions.path = Some(strip_nul(name));
            }
            b'K' => {
                let name = extension(stream, &header)?;
                extensions.link = Some(strip_nul(name));
            }
            // Solaris wrote X before POSIX chose x.
            b'x' | b'X' => {
                let records = extension(stream, &header)?;
                extensions.pax = Pax::parse(&records).ok_or_else(|| malformed(&header))?;
            }
            b'g' => {
                entries.begin()?;
                let records = extension(stream, &header)?;
                let pax = Pax::parse(&records).ok_or_else(|| malformed(&header))?;
                if pax != Pax::default() {
                    return Err(ArchiveError::entry(&name_of(&header), Problem::Global));
                }
            }
            _ => {
                let extensions = std::mem::take(&mut extensions);
                entries.begin()?;
                member(stream, &header, extensions, entries, intake)?;
            }
        }
    }
    if extensions != Extensions::default() {
        return Err(ArchiveError::Truncated(Format::Tar));
    }
    stream.drain()
}

/// What extension headers say about the entry behind them.
#[derive(Default, PartialEq)]
struct Extensions {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    pax: Pax,
}

/// The next header, or nothing at the end. POSIX wants two blocks of zeros there, but there are
/// archives with one, and with none.
fn next_header(stream: &mut Stream, end: End) -> Result<Option<Header>, ArchiveError> {
    let mut header = Header::new_old();
    if !read_block(stream, header.as_mut_bytes())? {
        return match end {
            End::Marked => Err(ArchiveError::Truncated(Format::Tar)),
            End::Any => Ok(None),
        };
    }
    if header.as_bytes().iter().all(|b| *b == 0) {
        return Ok(None);
    }
    if !sniff::checksum_matches(header.as_bytes()) {
        return Err(ArchiveError::damaged(Format::Tar, "the checksum of a header does not match"));
    }
    Ok(Some(header))
}

/// Fills a block, or returns false when the stream ends right before it.
fn read_block(stream: &mut Stream, block: &mut [u8; BLOCK]) -> Result<bool, ArchiveError> {
    let mut filled = 0;
    while filled < BLOCK {
        match stream.read(&mut block[filled..]) {
            Ok(0) if filled == 0 => return Ok(false),
            Ok(0) => return Err(ArchiveError::Truncated(Format::Tar)),
            Ok(got) => filled += got,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(stream.error(error)),
        }
    }
    Ok(true)
}

/// Reads over what fills the last block of data of `size` bytes.
fn skip_padding(stream: &mut Stream, size: u64) -> Result<(), ArchiveError> {
    let left = size.next_multiple_of(BLOCK as u64) - size;
    stream.skip(left)
}

/// Reads the content of an extension header.
fn extension(stream: &mut Stream, header: &Header) -> Result<Vec<u8>, ArchiveError> {
    let size = header.entry_size().map_err(|_| malformed(header))?;
    if size > EXTENSION_MAX {
        return Err(ArchiveError::entry(&name_of(header), Problem::HeaderTooLarge));
    }
    let mut bytes = Vec::new();
    if let Err(error) = stream.part(size).read_to_end(&mut bytes) {
        return Err(stream.error(error));
    }
    skip_padding(stream, size)?;
    Ok(bytes)
}

/// GNU ends long names with a NUL, as in C.
fn strip_nul(mut name: Vec<u8>) -> Vec<u8> {
    let len = name.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    name.truncate(len);
    name
}

/// The path in a header alone. The crate looks for the prefix of ustar only when the version
/// field is right, and some writers leave that empty.
fn name_of(header: &Header) -> Vec<u8> {
    let block = header.as_bytes();
    let text = |field: &[u8]| field.split(|byte| *byte == 0).next().unwrap_or_default().to_vec();
    let name = text(&block[..100]);
    if block[257..263] != *b"ustar\0" || block[345] == 0 {
        return name;
    }
    let mut path = text(&block[345..500]);
    path.push(b'/');
    path.extend(name);
    path
}

fn malformed(header: &Header) -> ArchiveError {
    ArchiveError::entry(&name_of(header), Problem::Header)
}

/// Takes an entry that is not an extension header.
fn member(
    stream: &mut Stream,
    header: &Header,
    extensions: Extensions,
    entries: &mut Entries<'_>,
    intake: &mut Intake<'_>,
) -> Result<(), ArchiveError> {
    let Extensions { path, link, pax } = extensions;
    let folded = header.entry_type().is_gnu_sparse() || pax.sparse.is_some();
    let sparse_name = pax.sparse.as_ref().and_then(|sparse| sparse.name.clone());
    let raw = sparse_name.or(pax.path).or(path).unwrap_or_else(|| name_of(header));
    let refuse = |problem| ArchiveError::entry(&raw, problem);
    let target = || {
        let short = || header.link_name_bytes().map(std::borrow::Cow::into_owned);
        pax.link.clone().or(link.clone()).or_else(short).unwrap_or_default()
    };
    let size = match pax.size {
        Some(size) => size,
        None => header.entry_size().map_err(|_| refuse(Problem::Header))?,
    };
    let mode = header.mode().map_err(|_| refuse(Problem::Header))? & 0o7777;
    let path = entries::normalise(&raw)?;

    let kind = header.entry_type().as_byte();
    // v7 had no type for directories and told them by a slash.
    let kind = if matches!(kind, 0 | b'0') && raw.ends_with(b"/") { b'5' } else { kind };
    match kind {
        b'3' | b'4' | b'6' if entries.are_layers() => return Ok(()),
        b'3' => return Err(refuse(Problem::Special("character device"))),
        b'4' => return Err(refuse(Problem::Special("block device"))),
        b'6' => return Err(refuse(Problem::Special("FIFO"))),
        // Tars disagree whether such content exists, that is, where the next header is.
        b'1' | b'2' | b'5' if size != 0 => return Err(refuse(Problem::Misplaced)),
        b'1' => return entries.hard_link(path, &target()),
        b'2' => return entries.symlink(path, &target()),
        b'5' => return entries.insert(path, Entry::Directory { mode }),
        0 | b'0' | b'7' | b'S' => {}
        other => return Err(refuse(Problem::UnknownType(entries::quote(&[other])))),
    }

    let content = if folded {
        let map = match pax.sparse {
            Some(sparse) => Map::of_pax(&sparse, stream, size),
            None => Map::of_gnu(header, stream, size),
        };
        let map = map?.ok_or_else(|| refuse(Problem::Sparse))?;
        entries.announce(map.unfolded())?;
        let data = stream.part(map.folded());
        entries.take(&path, &mut Unfold::new(data, map), intake)?
    } else {
        entries.announce(size)?;
        entries.take(&path, &mut stream.part(size), intake)?
    };
    let content = content.map_err(|error| stream.error(error))?;
    skip_padding(stream, size)?;
    if let Ok(seconds) = header.mtime() {
        entries.dated(seconds);
    }
    entries.insert(path, Entry::File { mode, content })
}

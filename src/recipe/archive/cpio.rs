//! Reads the cpio archive of an RPM package: "new ASCII", and RPM's own form of it whose headers are
//! only numbers of files that the package's header describes.
//!
//! Owns the framing, and which of several names of a file has its content. It refuses to know what a
//! tree may contain, which is the business of [`Entries`].
//!
//! Sources: cpio(5), "New ASCII Format"; the RPM manual, "Package Format", payload.

use std::collections::HashMap;
use std::io::{self, Read};

use super::entries::{self, Entries, PATH_MAX};
use super::rpm::{Described, Header, Table};
use super::sniff::Stream;
use super::{ArchiveError, Entry, Format, Problem};
use crate::recipe::intake::Intake;

/// A header that describes its entry: thirteen numbers of eight digits behind this.
const FULL: &[u8; 6] = b"070701";
/// A header that is the number of a file.
const NUMBERED: &[u8; 6] = b"07070X";
/// Length of the rest of a full header, in bytes.
const FIELDS: usize = 104;
/// Everything begins at a multiple of this, in bytes, counted from the header.
const ALIGNED: u64 = 4;
/// The name of what is behind the last entry.
const TRAILER: &[u8] = b"TRAILER!!!";

/// Which file it is that has several names.
type File = (u64, u64, u64);

/// Reads all entries, and the stream to its end.
pub(super) fn read(
    stream: &mut Stream,
    header: &Header,
    entries: &mut Entries<'_>,
    intake: &mut Intake<'_>,
) -> Result<(), ArchiveError> {
    let mut table = None;
    let mut links = Links::default();
    loop {
        let mut magic = [0; FULL.len()];
        fill(stream, &mut magic)?;
        let member = match &magic {
            FULL => match full(stream)? {
                Some(member) => member,
                None => break,
            },
            NUMBERED => {
                let table = match &table {
                    Some(table) => table,
                    None => table.insert(Table::new(header).ok_or_else(|| {
                        ArchiveError::damaged(Format::Rpm, "its header has no list of its files")
                    })?),
                };
                numbered(stream, table)?
            }
            _ => return Err(ArchiveError::damaged(Format::Cpio, "an entry has no header")),
        };
        entries.begin()?;
        take(stream, member, &mut links, entries, intake)?;
    }
    links.finish(entries, intake)?;
    stream.drain()
}

/// One entry.
struct Member {
    raw: Vec<u8>,
    mode: u32,
    size: u64,
    date: u64,
    /// Which file it is, if that has several names.
    file: Option<File>,
}

/// Reads the rest of a full header; nothing for the end of the archive.
fn full(stream: &mut Stream) -> Result<Option<Member>, ArchiveError> {
    let mut digits = [0; FIELDS];
    fill(stream, &mut digits)?;
    let mut fields = [0; FIELDS / 8];
    for (field, digits) in fields.iter_mut().zip(digits.chunks_exact(8)) {
        *field = hexadecimal(digits)?;
    }
    let [inode, mode, _, _, links, date, size, major, minor, _, _, length, _] = fields;
    if length == 0 || length > PATH_MAX as u64 + 1 {
        return Err(ArchiveError::damaged(
            Format::Cpio,
            "the name of an entry is too long, or none",
        ));
    }
    let mut raw = Vec::new();
    if let Err(error) = stream.part(length).read_to_end(&mut raw) {
        return Err(stream.error(error));
    }
    let header = (FULL.len() + FIELDS) as u64 + length;
    stream.skip(header.next_multiple_of(ALIGNED) - header)?;
    if raw.pop() != Some(0) {
        return Err(ArchiveError::damaged(Format::Cpio, "the name of an entry has no end"));
    }
    if raw == TRAILER {
        return Ok(None);
    }
    let mode = u32::try_from(mode).unwrap_or(u32::MAX);
    let file = (links > 1).then_some((major, minor, inode));
    Ok(Some(Member { raw, mode, size, date, file }))
}

/// Reads the rest of a header that is a number.
fn numbered(stream: &mut Stream, table: &Table<'_>) -> Result<Member, ArchiveError> {
    let mut digits = [0; 8];
    fill(stream, &mut digits)?;
    let number = hexadecimal(&digits)?;
    let header = (NUMBERED.len() + digits.len()) as u64;
    stream.skip(header.next_multiple_of(ALIGNED) - header)?;
    let described = usize::try_from(number).ok().and_then(|number| table.get(number));
    let Some(Described { path, mode, size, date, shared }) = described else {
        return Err(ArchiveError::damaged(Format::Cpio, "an entry is not in the package's header"));
    };
    let file = shared.map(|(device, inode)| (device, 0, inode));
    Ok(Member { raw: path, mode, size, date, file })
}

/// Takes one entry.
fn take(
    stream: &mut Stream,
    member: Member,
    links: &mut Links,
    entries: &mut Entries<'_>,
    intake: &mut Intake<'_>,
) -> Result<(), ArchiveError> {
    let Member { raw, mode, size, date, file } = member;
    let refuse = |problem| ArchiveError::entry(&raw, problem);
    let path = entries::normalise(&raw)?;
    let bits = mode & 0o7777;
    match mode & !0o7777 {
        0o040_000 if size != 0 => Err(refuse(Problem::Misplaced)),
        0o040_000 => entries.insert(path, Entry::Directory { mode: bits }),
        0o120_000 if size > PATH_MAX as u64 => Err(refuse(Problem::BadTarget)),
        0o120_000 => {
            let mut target = Vec::new();
            if let Err(error) = stream.part(size).read_to_end(&mut target) {
                return Err(stream.error(error));
            }
            skip_padding(stream, size)?;
            entries.symlink(path, &target)
        }
        0o100_000 => {
            entries.dated(date);
            if let Some(file) = file.filter(|_| size == 0) {
                return links.without_content(file, path, bits, entries);
            }
            entries.announce(size)?;
            let content = entries.take(&path, &mut stream.part(size), intake)?;
            let content = content.map_err(|error| stream.error(error))?;
            skip_padding(stream, size)?;
            entries.insert(path.clone(), Entry::File { mode: bits, content })?;
            match file {
                Some(file) => links.with_content(file, path, entries),
                None => Ok(()),
            }
        }
        0o020_000 => Err(refuse(Problem::Special("character device"))),
        0o060_000 => Err(refuse(Problem::Special("block device"))),
        0o010_000 => Err(refuse(Problem::Special("FIFO"))),
        0o140_000 => Err(refuse(Problem::Special("socket"))),
        _ => Err(refuse(Problem::UnknownType(format!("{mode:o}")))),
    }
}

/// Names of one file: only one of them comes with the content, most often the last.
#[derive(Default)]
struct Links {
    waiting: HashMap<File, Vec<(String, u32)>>,
    known: HashMap<File, String>,
}

impl Links {
    fn without_content(
        &mut self,
        file: File,
        path: String,
        mode: u32,
        entries: &mut Entries<'_>,
    ) -> Result<(), ArchiveError> {
        if let Some(known) = self.known.get(&file) {
            return entries.hard_link(path, known.as_bytes());
        }
        entries.name(path.len())?;
        self.waiting.entry(file).or_default().push((path, mode));
        Ok(())
    }

    fn with_content(
        &mut self,
        file: File,
        path: String,
        entries: &mut Entries<'_>,
    ) -> Result<(), ArchiveError> {
        for (waiting, _) in self.waiting.remove(&file).unwrap_or_default() {
            entries.hard_link(waiting, path.as_bytes())?;
        }
        entries.name(path.len())?;
        self.known.insert(file, path);
        Ok(())
    }

    /// What still waits for a content has none.
    fn finish(
        self,
        entries: &mut Entries<'_>,
        intake: &mut Intake<'_>,
    ) -> Result<(), ArchiveError> {
        // In their order, because each content gets a number.
        let mut empty: Vec<_> = self.waiting.into_values().flatten().collect();
        empty.sort_unstable();
        for (path, mode) in empty {
            let content = entries.take(&path, &mut io::empty(), intake)?;
            let content = content.map_err(ArchiveError::Read)?;
            entries.insert(path, Entry::File { mode, content })?;
        }
        Ok(())
    }
}

fn fill(stream: &mut Stream, bytes: &mut [u8]) -> Result<(), ArchiveError> {
    let read = stream.part(bytes.len() as u64).read_exact(bytes);
    read.map_err(|error| stream.error(error))
}

fn skip_padding(stream: &mut Stream, size: u64) -> Result<(), ArchiveError> {
    stream.skip(size.next_multiple_of(ALIGNED) - size)
}

/// Eight hexadecimal digits.
fn hexadecimal(digits: &[u8]) -> Result<u64, ArchiveError> {
    let text = std::str::from_utf8(digits).ok();
    let text = text.filter(|text| text.bytes().all(|digit| digit.is_ascii_hexdigit()));
    text.and_then(|text| u64::from_str_radix(text, 16).ok())
        .ok_or_else(|| ArchiveError::damaged(Format::Cpio, "a field of a header is no number"))
}

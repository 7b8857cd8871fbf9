//! Inodes: the fixed-width records of files, folders and links.
//!
//! Owns which of the two forms of each an inode needs, the short or the extended one, and the
//! order of their fields. Refuses to know where an inode lies and what it is called.

use super::SquashfsError;
use super::contents::{Data, Stored};
use super::directory::Listing;
use super::xattr;

/// What kind of inode a directory entry leads to: always the number of the short form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Directory = 1,
    File = 2,
    Symlink = 3,
}

/// From the number of the short form to that of the extended one.
const EXTENDED: u16 = 7;
/// The place of a tail that is not in any fragment.
const NO_FRAGMENT: u32 = u32::MAX;

/// What every inode has.
#[derive(Debug, Clone, Copy)]
pub(super) struct Common {
    pub(super) mode: u16,
    pub(super) time: u32,
    pub(super) number: u32,
    /// Its set of extended attributes.
    pub(super) xattrs: Option<u32>,
}

/// Fields one after another.
struct Record(Vec<u8>);

impl Record {
    fn new(kind: Kind, extended: bool, common: &Common) -> Self {
        let mut record = Self(Vec::with_capacity(64));
        record.u16(kind as u16 + if extended { EXTENDED } else { 0 });
        record.u16(common.mode & 0o7777);
        // Owner and group: the first and only rows of the table of ids.
        record.u16(0);
        record.u16(0);
        record.u32(common.time);
        record.u32(common.number);
        record
    }

    fn u16(&mut self, value: u16) {
        self.0.extend(value.to_le_bytes());
    }

    fn u32(&mut self, value: u32) {
        self.0.extend(value.to_le_bytes());
    }

    fn u64(&mut self, value: u64) {
        self.0.extend(value.to_le_bytes());
    }
}

/// A regular file with so many names.
pub(super) fn file(common: &Common, links: u32, data: &Data, stored: &Stored) -> Vec<u8> {
    let holes = data.holes(stored);
    let (fragment, offset) =
        stored.tail.map_or((NO_FRAGMENT, 0), |tail| (tail.fragment, tail.offset));
    let short = match (u32::try_from(stored.start()), u32::try_from(stored.size)) {
        (Ok(start), Ok(size)) if links == 1 && holes == 0 && common.xattrs.is_none() => {
            Some((start, size))
        }
        _ => None,
    };
    let mut record = Record::new(Kind::File, short.is_none(), common);
    if let Some((start, size)) = short {
        for field in [start, fragment, offset, size] {
            record.u32(field);
        }
    } else {
        record.u64(stored.start());
        record.u64(stored.size);
        // Readers subtract this from the size to tell how much room the file takes. Other writers
        // never let nothing be left.
        record.u64(holes.min(stored.size.saturating_sub(1)));
        for field in [links, fragment, offset, common.xattrs.unwrap_or(xattr::NONE)] {
            record.u32(field);
        }
    }
    for length in data.blocks(stored) {
        record.u32(*length);
    }
    record.0
}

/// A symbolic link with so many names.
pub(super) fn symlink(common: &Common, links: u32, target: &str) -> Vec<u8> {
    let mut record = Record::new(Kind::Symlink, common.xattrs.is_some(), common);
    record.u32(links);
    record.u32(u32::try_from(target.len()).expect("targets are short"));
    record.0.extend(target.as_bytes());
    if let Some(xattrs) = common.xattrs {
        record.u32(xattrs);
    }
    record.0
}

/// A folder with so many folders right in it. `parent` is the inode number of the one it is in.
pub(super) fn directory(
    common: &Common,
    folders: u32,
    parent: u32,
    listing: &Listing,
) -> Result<Vec<u8>, SquashfsError> {
    // Readers count `.` and `..`, which are not stored, as three bytes.
    let length = listing.length.checked_add(3).ok_or(SquashfsError::TooLarge("a folder"))?;
    // A folder is also linked from its parent, by its own `.`, and by the `..` of those in it.
    let links = folders.checked_add(2).ok_or(SquashfsError::TooLarge("a folder"))?;
    let rows = u16::try_from(listing.rows).map_err(|_| SquashfsError::TooLarge("a folder"))?;
    let short = match u16::try_from(length) {
        Ok(length) if rows == 0 && common.xattrs.is_none() => Some(length),
        _ => None,
    };
    let mut record = Record::new(Kind::Directory, short.is_none(), common);
    if let Some(length) = short {
        record.u32(listing.place.block);
        record.u32(links);
        record.u16(length);
        record.u16(listing.place.offset);
        record.u32(parent);
    } else {
        record.u32(links);
        record.u32(length);
        record.u32(listing.place.block);
        record.u32(parent);
        record.u16(rows);
        record.u16(listing.place.offset);
        record.u32(common.xattrs.unwrap_or(xattr::NONE));
        record.0.extend(&listing.index);
    }
    Ok(record.0)
}

//! What is in a folder: runs of names that lead to inodes, and an index over them.
//!
//! Owns how the runs are cut. Refuses to know what an inode says.

use super::SquashfsError;
use super::inode::Kind;
use super::metadata::{Metadata, Place};

/// As many names as one header may stand for.
const RUN: usize = 256;

/// A name in a folder.
pub(super) struct Child<'e> {
    pub(super) name: &'e str,
    pub(super) kind: Kind,
    /// Of the inode.
    pub(super) place: Place,
    pub(super) number: u32,
}

/// A folder's names, as its inode tells of them.
pub(super) struct Listing {
    pub(super) place: Place,
    pub(super) length: u32,
    /// The rows of the index, ready to follow the inode.
    pub(super) index: Vec<u8>,
    pub(super) rows: u32,
}

/// Writes the names in a folder, which come in the order of their bytes.
///
/// A header holds what the names behind it have in common: the metadata block of their inodes,
/// and a number near those of the inodes. The index has a row for the first header in each
/// further metadata block, so that a name in a huge folder is found without reading all of it.
pub(super) fn write(out: &mut Metadata, children: &[Child<'_>]) -> Result<Listing, SquashfsError> {
    let place = out.place()?;
    let mut listing = Listing { place, length: 0, index: Vec::new(), rows: 0 };
    let mut indexed = place.block;
    let mut run = Vec::new();
    let mut left = children;
    while let Some(head) = left.first() {
        let same = left.iter().take(RUN).take_while(|child| {
            child.place.block == head.place.block && delta(head, child).is_some()
        });
        let (now, later) = left.split_at(same.count());
        left = later;

        let block = out.place()?.block;
        if block != indexed {
            indexed = block;
            listing.rows += 1;
            let length = short(head.name)?;
            for field in [listing.length, block, u32::from(length)] {
                listing.index.extend(field.to_le_bytes());
            }
            listing.index.extend(head.name.as_bytes());
        }

        run.clear();
        let count = u32::try_from(now.len() - 1).expect("a run is short");
        for field in [count, head.place.block, head.number] {
            run.extend(field.to_le_bytes());
        }
        for child in now {
            let delta = delta(head, child).expect("it was looked at");
            run.extend(child.place.offset.to_le_bytes());
            run.extend(delta.to_le_bytes());
            run.extend((child.kind as u16).to_le_bytes());
            run.extend(short(child.name)?.to_le_bytes());
            run.extend(child.name.as_bytes());
        }
        out.put(&run)?;
        listing.length = u32::try_from(run.len())
            .ok()
            .and_then(|run| listing.length.checked_add(run))
            .ok_or(SquashfsError::TooLarge("a folder"))?;
    }
    Ok(listing)
}

/// How far a child's inode number is from that of its header.
fn delta(head: &Child<'_>, child: &Child<'_>) -> Option<i16> {
    i16::try_from(i64::from(child.number) - i64::from(head.number)).ok()
}

/// A name's length as it is stored: names are never empty, so one less.
fn short(name: &str) -> Result<u16, SquashfsError> {
    name.len()
        .checked_sub(1)
        .and_then(|length| u16::try_from(length).ok())
        .ok_or(SquashfsError::TooLarge("a name"))
}

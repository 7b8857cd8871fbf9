//! Extended attributes: sets of names and values that inodes point to.
//!
//! Owns which names can be stored, and that equal sets are stored once: a label that all files
//! have costs a few bytes. Refuses to know whose they are.

use std::collections::HashMap;
use std::io::{Seek, Write};

use super::SquashfsError;
use super::compress::Compression;
use super::metadata::{Metadata, write_table};
use super::output::Output;

/// The set of an inode that has none.
pub(super) const NONE: u32 = u32::MAX;
/// What names begin with; a number stands for it. There are no others in the format.
const PREFIXES: [(&str, u16); 3] = [("user.", 0), ("trusted.", 1), ("security.", 2)];
/// The kernel's limits, of whole names and of values.
const NAME: usize = 255;
const VALUE: usize = 65536;

/// All sets of an image.
pub(super) struct Xattrs {
    compression: Compression,
    sets: Metadata,
    /// Place, number of names and length of each set.
    rows: Vec<u8>,
    known: HashMap<Vec<u8>, u32>,
}

impl Xattrs {
    pub(super) fn new(compression: Compression) -> Result<Self, SquashfsError> {
        let sets = Metadata::new(compression)?;
        Ok(Self { compression, sets, rows: Vec::new(), known: HashMap::new() })
    }

    /// Adds what the inode of `path` has; `None` if that is nothing.
    pub(super) fn add(
        &mut self,
        path: &str,
        xattrs: &[(String, Vec<u8>)],
    ) -> Result<Option<u32>, SquashfsError> {
        if xattrs.is_empty() {
            return Ok(None);
        }
        // The order in which they come means nothing.
        let mut sorted: Vec<_> = xattrs.iter().collect();
        sorted.sort_unstable();
        let mut set = Vec::new();
        for (at, (name, value)) in sorted.iter().enumerate() {
            let refused =
                |reason| SquashfsError::Xattr { path: path.to_owned(), name: name.clone(), reason };
            if at > 0 && sorted[at - 1].0 == *name {
                return Err(refused("is there twice"));
            }
            let (kind, short) = PREFIXES
                .iter()
                .find_map(|(prefix, kind)| Some((*kind, name.strip_prefix(prefix)?)))
                .ok_or_else(|| refused("is not in user, trusted or security"))?;
            if short.is_empty() || short.contains('\0') || name.len() > NAME {
                return Err(refused("is not a name"));
            }
            if value.len() > VALUE {
                return Err(refused("has more than 64 KiB"));
            }
            let length = u16::try_from(short.len()).expect("names are short");
            set.extend(kind.to_le_bytes());
            set.extend(length.to_le_bytes());
            set.extend(short.as_bytes());
            set.extend(u32::try_from(value.len()).expect("values are short").to_le_bytes());
            set.extend(value);
        }
        if let Some(known) = self.known.get(&set) {
            return Ok(Some(*known));
        }
        let number =
            u32::try_from(self.known.len()).map_err(|_| SquashfsError::TooLarge("attributes"))?;
        let length = u32::try_from(set.len()).map_err(|_| SquashfsError::TooLarge("attributes"))?;
        let count = u32::try_from(sorted.len()).expect("their length is a number of 32 bits");
        self.rows.extend(self.sets.place()?.packed().to_le_bytes());
        self.rows.extend(count.to_le_bytes());
        self.rows.extend(length.to_le_bytes());
        self.sets.put(&set)?;
        self.known.insert(set, number);
        Ok(Some(number))
    }

    /// True if no inode has any.
    pub(super) fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// Writes all sets; returns where their table is found.
    pub(super) fn write<W: Write + Seek>(self, out: &mut Output<W>) -> Result<u64, SquashfsError> {
        let count = u32::try_from(self.known.len()).expect("each has a number of 32 bits");
        let mut head = out.position().to_le_bytes().to_vec();
        head.extend(count.to_le_bytes());
        head.extend([0; 4]);
        out.write(&self.sets.end()?)?;
        write_table(out, self.compression, &self.rows, &head)
    }
}

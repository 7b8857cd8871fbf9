//! The list of files in the header of an RPM package, where its archive says only their numbers.
//!
//! Refuses to know all the other things a header tells.

use std::collections::HashMap;

use super::{ENTRY, Header};

const FILE_SIZES: u32 = 1028;
const FILE_MODES: u32 = 1030;
const FILE_DATES: u32 = 1034;
const FILE_DEVICES: u32 = 1095;
const FILE_INODES: u32 = 1096;
const FOLDER_NUMBERS: u32 = 1116;
const NAMES: u32 = 1117;
const FOLDERS: u32 = 1118;
const LONG_FILE_SIZES: u32 = 5008;

/// Longest path that is put together, in bytes; what is longer than a path can be is refused later.
const LONGEST: usize = 2 * crate::recipe::archive::entries::PATH_MAX;

/// The files of a package, by number.
pub(in crate::recipe::archive) struct Table<'h> {
    folders: Vec<&'h [u8]>,
    folder_numbers: Numbers<'h>,
    names: Vec<&'h [u8]>,
    modes: Numbers<'h>,
    sizes: Numbers<'h>,
    dates: Numbers<'h>,
    devices: Numbers<'h>,
    inodes: Numbers<'h>,
    /// For every file with several names, how many there are and the number of the last.
    shared: HashMap<(u64, u64), (u32, usize)>,
}

/// What a header says of a file.
pub(in crate::recipe::archive) struct Described {
    pub(in crate::recipe::archive) path: Vec<u8>,
    pub(in crate::recipe::archive) mode: u32,
    /// Bytes in the archive.
    pub(in crate::recipe::archive) size: u64,
    pub(in crate::recipe::archive) date: u64,
    /// Set for a file with several names: which file it is.
    pub(in crate::recipe::archive) shared: Option<(u64, u64)>,
}

impl<'h> Table<'h> {
    /// Reads the list; `None` if the header has none that is whole.
    pub(in crate::recipe::archive) fn new(header: &'h Header) -> Option<Self> {
        let sizes = header.numbers(LONG_FILE_SIZES).or_else(|| header.numbers(FILE_SIZES))?;
        let mut table = Self {
            folders: header.texts(FOLDERS)?,
            folder_numbers: header.numbers(FOLDER_NUMBERS)?,
            names: header.texts(NAMES)?,
            modes: header.numbers(FILE_MODES)?,
            sizes,
            dates: header.numbers(FILE_DATES)?,
            devices: header.numbers(FILE_DEVICES)?,
            inodes: header.numbers(FILE_INODES)?,
            shared: HashMap::new(),
        };
        for number in 0..table.names.len() {
            let file = (table.devices.get(number)?, table.inodes.get(number)?);
            let (names, last) = table.shared.entry(file).or_default();
            (*names, *last) = (*names + 1, number);
        }
        table.shared.retain(|_, (names, _)| *names > 1);
        Some(table)
    }

    /// What is said of the file with this number; `None` if there is none, or too little is said.
    pub(in crate::recipe::archive) fn get(&self, number: usize) -> Option<Described> {
        let folder = self.folders.get(usize::try_from(self.folder_numbers.get(number)?).ok()?)?;
        let name = self.names.get(number)?;
        if folder.len() + name.len() > LONGEST {
            return None;
        }
        // Where the archive has names, they begin with a dot; here, with a slash.
        let folder = folder.strip_prefix(b"/").unwrap_or(folder);
        let mode = u32::try_from(self.modes.get(number)?).ok()?;
        let file = (self.devices.get(number)?, self.inodes.get(number)?);
        let last = self.shared.get(&file).map(|(_, last)| *last);
        // Of a file with several names, the last has the content.
        let empty = last.is_some_and(|last| last != number) && mode & 0o170_000 == 0o100_000;
        Some(Described {
            path: [folder, name].concat(),
            mode,
            size: if empty { 0 } else { self.sizes.get(number)? },
            date: self.dates.get(number)?,
            shared: last.map(|_| file),
        })
    }
}

/// Numbers of one width, each behind the other.
struct Numbers<'h> {
    bytes: &'h [u8],
    width: usize,
}

impl Numbers<'_> {
    fn get(&self, at: usize) -> Option<u64> {
        let from = at.checked_mul(self.width)?;
        let bytes = self.bytes.get(from..from.checked_add(self.width)?)?;
        Some(bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }
}

impl Header {
    /// Type, place and count of what the header has under a number.
    fn find(&self, wanted: u32) -> Option<(u32, &[u8], usize)> {
        self.index.chunks_exact(ENTRY).find_map(|entry| {
            let word = |at: usize| u32::from_be_bytes([0, 1, 2, 3].map(|n| entry[at + n]));
            if word(0) != wanted {
                return None;
            }
            let bytes = self.store.get(usize::try_from(word(8)).ok()?..)?;
            Some((word(4), bytes, usize::try_from(word(12)).ok()?))
        })
    }

    fn numbers(&self, wanted: u32) -> Option<Numbers<'_>> {
        let (kind, bytes, count) = self.find(wanted)?;
        let width = match kind {
            3 => 2,
            4 => 4,
            5 => 8,
            _ => return None,
        };
        Some(Numbers { bytes: bytes.get(..count.checked_mul(width)?)?, width })
    }

    fn texts(&self, wanted: u32) -> Option<Vec<&[u8]>> {
        let (kind, bytes, count) = self.find(wanted)?;
        // Each text ends with a NUL, the last too.
        let mut texts = bytes.split(|byte| *byte == 0);
        texts.next_back()?;
        let texts: Vec<_> = texts.take(count).collect();
        (kind == 8 && texts.len() == count).then_some(texts)
    }
}

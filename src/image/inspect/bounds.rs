//! How much an image may ask of whoever reads it.
//!
//! Owns the look ahead: the tables of inodes and folders are read once, sparingly, before the
//! reader gets them, and what an honest image never has is refused: sizes without anything behind
//! them, folders in themselves, few bytes that unpack to many. Refuses to know what files hold.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use backhand::compression::{CompressionAction, Compressor, DefaultCompressor};
use backhand::{BackhandError, FilesystemCompressor, SuperBlock};

use super::attributes::{self, Attributes};

/// The most entries of an image, and the most inodes.
const MOST_ENTRIES: usize = 500_000;
/// The most bytes that all their paths may have together, and all their lists of blocks.
const MOST_PATHS: usize = 128 << 20;
const MOST_LISTS: usize = 64 << 20;
/// The deepest folder, which no path of 4096 bytes reaches: the reader needs stack for each.
const DEEPEST: usize = 2048;
/// The bytes of an unpacked metadata block, of the length before it, and the most blocks of a table.
const METADATA: usize = 8 << 10;
const HEADER: usize = 2;
const MOST_BLOCKS: u64 = 4096;
/// In the length of a metadata block: it is stored as it is.
const RAW: u16 = 1 << 15;
const SUPERBLOCK: usize = 96;
const NO_TABLE: u64 = u64::MAX;
const NO_FRAGMENT: u32 = u32::MAX;
/// Of an inode without attributes.
const NO_SET: u32 = u32::MAX;
/// The flag that there is an export table.
const EXPORTABLE: u16 = 1 << 7;

/// Decompresses what is a block, and refuses what unpacks to more.
pub(super) static BOUNDED: Bounded = Bounded;

/// The decompressors that the reader brings, kept to the room that it has for a block.
pub(super) struct Bounded;

impl CompressionAction for Bounded {
    type Error = BackhandError;
    type Compressor = Compressor;
    type FilesystemCompressor = FilesystemCompressor;
    type SuperBlock = SuperBlock;

    fn decompress(
        &self,
        bytes: &[u8],
        out: &mut Vec<u8>,
        compressor: Compressor,
    ) -> Result<(), BackhandError> {
        let room = out.capacity();
        DefaultCompressor.decompress(bytes, out, compressor)?;
        if out.len() > room {
            return Err(BackhandError::CorruptedOrInvalidSquashfs);
        }
        Ok(())
    }

    fn compress(
        &self,
        _: &[u8],
        _: FilesystemCompressor,
        _: u32,
    ) -> Result<Vec<u8>, BackhandError> {
        Err(BackhandError::CorruptedOrInvalidSquashfs)
    }
}

/// Refuses an image that would cost more than an honest one. `size` is the file's length.
pub(super) fn check(file: &File, size: u64) -> io::Result<Result<Attributes, String>> {
    let mut bytes = [0; SUPERBLOCK];
    match file.read_exact_at(&mut bytes, 0) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            return Ok(Err(CUT.to_owned()));
        }
        other => other?,
    }
    let image = Image { file, size, superblock: Fields { bytes: &bytes, at: 0 } };
    match image.check() {
        Ok(attributes) => Ok(Ok(attributes)),
        Err(Refused::Because(why)) => Ok(Err(why)),
        Err(Refused::Disk(error)) => Err(error),
    }
}

const CUT: &str = "it is cut short";
const BROKEN_INODE: &str = "an inode is broken";
const BROKEN_FOLDER: &str = "a folder is broken";

pub(super) enum Refused {
    Because(String),
    Disk(io::Error),
}

impl From<&str> for Refused {
    fn from(why: &str) -> Self {
        Self::Because(why.to_owned())
    }
}

pub(super) struct Image<'f> {
    file: &'f File,
    size: u64,
    superblock: Fields<'f>,
}

/// An unpacked table, and where in it each metadata block begins that begins there on the disk.
pub(super) struct Table {
    pub(super) bytes: Vec<u8>,
    pub(super) starts: HashMap<u64, usize>,
}

/// What matters of an inode.
#[derive(Clone, Copy)]
enum Inode {
    Folder {
        block: u32,
        offset: u16,
        size: u32,
    },
    /// Anything else, and the bytes of its list of blocks.
    Leaf(usize),
}

/// By number.
type Inodes = HashMap<u32, Inode>;

impl Image<'_> {
    fn check(&self) -> Result<Attributes, Refused> {
        let mut fields = self.superblock;
        let mut field = |width| fields.number(width).unwrap_or_default();
        let [_magic, inodes, _time, block_size, fragments] = [(); 5].map(|()| field(4));
        let [compressor, block_log, flags, _ids, major, minor] = [(); 6].map(|()| field(2));
        let [root, used, ids_at, xattrs_at, inodes_at, folders_at, fragments_at, export_at] =
            [(); 8].map(|()| field(8));
        // The kernel mounts no other.
        if (major, minor) != (4, 0) {
            return Err(Refused::Because(format!("it is of version {major}.{minor}, not 4.0")));
        }
        if used > self.size {
            return Err(CUT.into());
        }
        if !block_size.is_power_of_two() || u64::from(block_size.ilog2()) != block_log {
            return Err("its block size is none".into());
        }
        if inodes > MOST_ENTRIES as u64 {
            return Err(Refused::Because(format!("more than {MOST_ENTRIES} inodes")));
        }
        // Every file has at most one tail.
        if fragments > inodes {
            return Err("more fragments than inodes".into());
        }
        let compressor = match compressor {
            1 => Compressor::Gzip,
            4 => Compressor::Xz,
            5 => Compressor::Lz4,
            6 => Compressor::Zstd,
            other => {
                return Err(Refused::Because(format!(
                    "its compressor, number {other}, is unknown"
                )));
            }
        };
        let table = self.table(inodes_at, folders_at, compressor)?;
        let (known, sets) = read_inodes(&table.bytes, block_log)?;
        if known.len() as u64 != inodes {
            return Err("it has other inodes than it says".into());
        }
        let root = table.starts.get(&(root >> 16)).map(|start| start + (root & 0xffff) as usize);
        let root = root
            .and_then(|at| Fields { bytes: &table.bytes, at }.inode(block_log))
            .ok_or("it has no root")?;
        let root = (root.0, root.1);
        let mut attributes = match xattrs_at {
            NO_TABLE => Attributes::default(),
            at => attributes::read(self, at, compressor)?,
        };

        // The folders end where the first of the tables behind them begins, which is told by the
        // first row of that one's index.
        let behind = if fragments > 0 && fragments_at != NO_TABLE {
            fragments_at
        } else if flags & u64::from(EXPORTABLE) != 0 && export_at != NO_TABLE {
            export_at
        } else {
            ids_at
        };
        let mut row = [0; 8];
        self.read(behind, &mut row)?;
        let folders = self.table(folders_at, u64::from_le_bytes(row), compressor)?;
        let mut meet = |number: u32, folder: &[u8], name: &[u8]| {
            if let Some(set) = sets.get(&number) {
                attributes.meet(*set, folder, name);
            }
        };
        meet(root.0, b"", b"");
        walk(root, &known, &folders, meet)?;
        Ok(attributes)
    }

    pub(super) fn read(&self, at: u64, into: &mut [u8]) -> Result<(), Refused> {
        if at.checked_add(into.len() as u64).is_none_or(|end| end > self.size) {
            return Err(CUT.into());
        }
        self.file.read_exact_at(into, at).map_err(Refused::Disk)
    }

    pub(super) fn table(
        &self,
        from: u64,
        to: u64,
        compressor: Compressor,
    ) -> Result<Table, Refused> {
        let length = to.checked_sub(from).ok_or("its tables are out of order")?;
        if length > MOST_BLOCKS * (METADATA + HEADER) as u64 {
            return Err("a table is larger than any honest one".into());
        }
        if to > self.size {
            return Err(CUT.into());
        }
        let mut packed = vec![0; usize::try_from(length).map_err(|_| CUT)?];
        self.read(from, &mut packed)?;
        let mut table = Table { bytes: Vec::new(), starts: HashMap::new() };
        let mut fields = Fields { bytes: &packed, at: 0 };
        while fields.at < packed.len() {
            table.starts.insert(fields.at as u64, table.bytes.len());
            if table.starts.len() as u64 > MOST_BLOCKS {
                return Err("a table is larger than any honest one".into());
            }
            let header = u16::try_from(fields.number(2).ok_or(CUT)?).unwrap_or_default();
            let block = fields.take(usize::from(header & !RAW)).ok_or(CUT)?;
            if header & RAW != 0 {
                table.bytes.extend(block);
            } else {
                let mut out = Vec::with_capacity(METADATA);
                BOUNDED
                    .decompress(block, &mut out, compressor)
                    .map_err(|_| "a metadata block is broken")?;
                table.bytes.append(&mut out);
            }
        }
        if table.bytes.len() > table.starts.len() * METADATA {
            return Err("a metadata block is larger than any".into());
        }
        Ok(table)
    }
}

/// All inodes of a table, by number; and the set of attributes of those that have one.
fn read_inodes(table: &[u8], block_log: u64) -> Result<(Inodes, HashMap<u32, u32>), Refused> {
    let (mut known, mut sets) = (HashMap::new(), HashMap::new());
    let mut fields = Fields { bytes: table, at: 0 };
    while fields.at < table.len() {
        let (number, inode, set) = fields.inode(block_log).ok_or(BROKEN_INODE)?;
        if set != NO_SET {
            sets.insert(number, set);
        }
        if known.insert(number, inode).is_some() {
            return Err("two inodes have one number".into());
        }
    }
    Ok((known, sets))
}

/// Goes through all folders, as the reader will. Each inode is met by its number, the path of its folder
/// and its name.
fn walk(
    root: (u32, Inode),
    known: &Inodes,
    folders: &Table,
    mut meet: impl FnMut(u32, &[u8], &[u8]),
) -> Result<(), Refused> {
    let (mut entries, mut paths, mut lists) = (0, 0, 0);
    let mut seen = HashSet::from([root.0]);
    let mut left = vec![(root.1, 0, Vec::new())];
    while let Some((inode, depth, above)) = left.pop() {
        let Inode::Folder { block, offset, size } = inode else {
            return Err("a folder is none".into());
        };
        // Three bytes stand for `.` and `..`, which are not stored.
        let length = (size as usize).saturating_sub(3);
        if length == 0 {
            continue;
        }
        let start = folders.starts.get(&u64::from(block)).ok_or(BROKEN_FOLDER)?;
        let start = start + usize::from(offset);
        let listing = folders.bytes.get(start..start + length).ok_or(BROKEN_FOLDER)?;
        let mut fields = Fields { bytes: listing, at: 0 };
        while fields.at < listing.len() {
            let mut header = || fields.number(4);
            let [Some(count), Some(_start), Some(near)] = [header(), header(), header()] else {
                return Err(BROKEN_FOLDER.into());
            };
            for _ in 0..=count {
                let (number, kind, name) = fields.entry(near).ok_or(BROKEN_FOLDER)?;
                if matches!(name, b"" | b"." | b"..") || name.iter().any(|b| matches!(b, b'/' | 0))
                {
                    return Err("a name is none".into());
                }
                let inode = *known.get(&number).ok_or("a name leads nowhere")?;
                entries += 1;
                paths += above.len() + 1 + name.len();
                if let Inode::Leaf(list) = inode {
                    lists += list;
                }
                if entries > MOST_ENTRIES || paths > MOST_PATHS || lists > MOST_LISTS {
                    return Err("more entries than any honest image".into());
                }
                meet(number, &above, name);
                if kind == 1 {
                    if !seen.insert(number) {
                        return Err("a folder is in two folders".into());
                    }
                    if depth == DEEPEST {
                        return Err(Refused::Because(format!("deeper than {DEEPEST} folders")));
                    }
                    let path =
                        if above.is_empty() { name.to_vec() } else { [&*above, name].join(&b'/') };
                    left.push((inode, depth + 1, path));
                }
            }
        }
    }
    Ok(())
}

/// Reads little-endian fields one after another.
#[derive(Clone, Copy)]
pub(super) struct Fields<'b> {
    pub(super) bytes: &'b [u8],
    pub(super) at: usize,
}

impl<'b> Fields<'b> {
    pub(super) fn take(&mut self, length: usize) -> Option<&'b [u8]> {
        let taken = self.bytes.get(self.at..self.at.checked_add(length)?)?;
        self.at += length;
        Some(taken)
    }

    /// A number of so many bytes, at most eight.
    pub(super) fn number(&mut self, width: usize) -> Option<u64> {
        let bytes = self.take(width)?;
        Some(bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    pub(super) fn short(&mut self) -> Option<u16> {
        u16::try_from(self.number(2)?).ok()
    }

    pub(super) fn word(&mut self) -> Option<u32> {
        u32::try_from(self.number(4)?).ok()
    }

    /// A name in a folder: its inode, of what kind that is, and the name itself. `near` is what the
    /// inode's number is told from.
    fn entry(&mut self, near: u64) -> Option<(u32, u16, &'b [u8])> {
        let _offset = self.short()?;
        let distance = self.short()?.cast_signed();
        let kind = self.short()?;
        let name = usize::from(self.short()?) + 1;
        let number = u32::try_from(near).ok()?.checked_add_signed(distance.into())?;
        // Entries have the short forms of kinds; seven more is the extended one of each.
        let kind = if kind > 7 { kind - 7 } else { kind };
        Some((number, kind, self.take(name)?))
    }

    /// An inode: its number, what it is, and the number of its set of attributes, or [`NO_SET`].
    fn inode(&mut self, block_log: u64) -> Option<(u32, Inode, u32)> {
        let kind = self.short()?;
        self.take(10)?;
        let number = self.word()?;
        let mut set = NO_SET;
        let inode = match kind {
            1 => {
                let block = self.word()?;
                let _links = self.word()?;
                let size = self.short()?.into();
                let offset = self.short()?;
                let _parent = self.word()?;
                Inode::Folder { block, offset, size }
            }
            8 => {
                let _links = self.word()?;
                let size = self.word()?;
                let block = self.word()?;
                let _parent = self.word()?;
                let rows = self.short()?;
                let offset = self.short()?;
                set = self.word()?;
                for _ in 0..rows {
                    self.take(8)?;
                    let name = self.word()? as usize + 1;
                    self.take(name)?;
                }
                Inode::Folder { block, offset, size }
            }
            2 => {
                let _start = self.word()?;
                let fragment = self.word()?;
                let _offset = self.word()?;
                let size = self.word()?.into();
                self.blocks(size, fragment, block_log)?
            }
            9 => {
                let _start = self.number(8)?;
                let size = self.number(8)?;
                let _holes = self.number(8)?;
                let _links = self.word()?;
                let fragment = self.word()?;
                let _offset = self.word()?;
                set = self.word()?;
                self.blocks(size, fragment, block_log)?
            }
            3 | 10 => {
                let _links = self.word()?;
                let target = self.word()? as usize;
                self.take(target)?;
                if kind == 10 {
                    set = self.word()?;
                }
                Inode::Leaf(target)
            }
            4..=7 | 11..=14 => {
                let _links = self.word()?;
                if matches!(kind, 4 | 5 | 11 | 12) {
                    let _device = self.word()?;
                }
                if kind > 7 {
                    set = self.word()?;
                }
                Inode::Leaf(0)
            }
            _ => return None,
        };
        Some((number, inode, set))
    }

    /// The list of a file's blocks, which must be there.
    fn blocks(&mut self, size: u64, fragment: u32, block_log: u64) -> Option<Inode> {
        let tail = u64::from(fragment == NO_FRAGMENT && size & ((1 << block_log) - 1) != 0);
        let list = usize::try_from((size >> block_log) + tail).ok()?.checked_mul(4)?;
        self.take(list)?;
        Some(Inode::Leaf(list))
    }
}

#[cfg(test)]
mod tests;

//! Reading an image: its superblock, and every path in it.
//!
//! Owns what is believed of an image that anybody may have made: nothing. Entries, paths, attributes and
//! folders are bounded, and what an honest image never has is refused. Contents are read by `data`.
//!
//! All is known here that mkfs.erofs(1) makes on one device: inodes of both forms, contents in blocks, in
//! chunks, beside their inodes, in pieces of every compressor, with the ends of files in a file of their
//! own. Images of other devices, and those of more than 32 bits of blocks, are not.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};

use super::data::Content;
use super::{MAGIC, NAME, PREFIXES, SLOT, SUPERBLOCK, compressor, crc32c, feature, layout};

/// The most entries of an image.
const MOST_ENTRIES: usize = 500_000;
/// The most bytes that all paths and targets may have together, all folders, and all attributes by their
/// whole names.
const MOST_PATHS: usize = 128 << 20;
const MOST_FOLDERS: u64 = 128 << 20;
const MOST_ATTRIBUTES: usize = 64 << 20;
/// The most attributes of one entry that overlayfs takes for its own, and that are told.
const MOST_HIDING: usize = 8;
/// The deepest folder, which no path of 4096 bytes reaches.
const DEEPEST: usize = 2048;
/// The longest target of a link.
const TARGET: u64 = 4096;
/// The bytes of an entry of a folder without its name.
const ENTRY: usize = 12;
/// Names of attributes that overlayfs takes for its own.
const OVERLAY: &str = "trusted.overlay.";
/// Says of an extension-release that it is for an image of any name, if it is false.
const STRICT: &str = "user.extension-release.strict";

/// What is wrong with an image.
pub(super) fn broken(why: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.into())
}

/// What an image has that is unknown here, so that nobody can say whether it is sound.
pub(super) fn unknown(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, what.into())
}

const TOO_MANY: &str = "more entries than any honest image";
const CUT: &str = "it is cut short";
const BROKEN_INODE: &str = "an inode is broken";
const BROKEN_FOLDER: &str = "a folder is broken";
const BROKEN_ATTRIBUTE: &str = "an extended attribute is broken";

/// A little-endian number in bytes that are there.
pub(super) fn number(bytes: &[u8], at: usize, width: usize) -> u64 {
    let bytes = bytes.get(at..at + width).unwrap_or_default();
    bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

pub(super) fn short(bytes: &[u8], at: usize) -> u16 {
    u16::try_from(number(bytes, at, 2)).unwrap_or_default()
}

/// An image that was opened.
#[derive(Debug)]
pub(in crate::image) struct Image {
    file: File,
    /// Where it begins in the file, and its length.
    base: u64,
    size: u64,
    pub(super) block_bits: u32,
    /// Its date, in seconds since 1970.
    time: u64,
    /// Where inodes begin, and shared attributes.
    inodes_at: u64,
    shared_at: u64,
    root: u64,
    /// Whether what is compressed stands at the end of its blocks.
    pub(super) padded: bool,
    /// The compressors that it may have.
    compressors: u16,
    /// The file with the ends of others.
    packed: Option<u64>,
    /// Long beginnings of the names of attributes.
    prefixes: Vec<Vec<u8>>,
    /// How many bytes were unpacked in vain.
    in_vain: AtomicU64,
}

/// An inode.
#[derive(Debug, Clone)]
pub(in crate::image) struct Inode {
    pub(super) number: u64,
    /// How its bytes are stored, and where.
    pub(super) layout: u16,
    pub(super) place: u32,
    /// Where the inode ends, attributes included.
    pub(super) end: u64,
    attributes: usize,
    /// The kind, and permission bits.
    pub(in crate::image) mode: u16,
    pub(in crate::image) owner: (u32, u32),
    pub(in crate::image) size: u64,
    pub(in crate::image) time: u64,
}

/// Something with a path.
#[derive(Debug)]
pub(in crate::image) struct Entry {
    /// Without a slash before it; that of the root is empty.
    pub(in crate::image) path: String,
    pub(in crate::image) inode: Inode,
    /// Where a link leads.
    pub(in crate::image) target: Option<String>,
    /// Its attributes that overlayfs takes for its own.
    pub(in crate::image) hides: Vec<String>,
    /// Whether it is an extension-release for an image of any name.
    pub(in crate::image) loose: bool,
}

impl Inode {
    /// The type, as `ls` shows it.
    pub(in crate::image) fn kind(&self) -> char {
        match self.mode >> 12 {
            0o01 => 'p',
            0o02 => 'c',
            0o04 => 'd',
            0o06 => 'b',
            0o10 => '-',
            0o12 => 'l',
            _ => 's',
        }
    }
}

impl Image {
    /// Opens the image that begins at `base` in a file, and has `size` bytes.
    ///
    /// # Errors
    /// The file cannot be read; of kind [`io::ErrorKind::InvalidData`], what is wrong with the image; of kind
    /// [`io::ErrorKind::Unsupported`], what is unknown here.
    pub(in crate::image) fn open(file: File, base: u64, size: u64) -> io::Result<Self> {
        let mut image = Self {
            file,
            base,
            size,
            block_bits: 12,
            time: 0,
            inodes_at: 0,
            shared_at: 0,
            root: 0,
            padded: false,
            compressors: 0,
            packed: None,
            prefixes: Vec::new(),
            in_vain: AtomicU64::new(0),
        };
        let mut block = vec![0; 128];
        image.read(SUPERBLOCK, &mut block)?;
        let word = |at| u32::try_from(number(&block, at, 4)).unwrap_or_default();
        if word(0) != MAGIC {
            return Err(broken("it does not begin like one"));
        }
        let bits = u32::from(block[12]);
        if !(9..=16).contains(&bits) {
            return Err(unknown("its blocks have no size that is known"));
        }
        let (has, needs) = (word(8), word(80));
        let known = feature::PADDED
            | feature::PARAMETERS
            | feature::CHUNKS
            | feature::SECOND
            | feature::BESIDE
            | feature::FRAGMENTS
            | feature::PREFIXES;
        if needs & !known != 0 {
            let unknown = needs & !known;
            return Err(self::unknown(format!(
                "it needs features that are unknown ({unknown:#x})"
            )));
        }
        // More than the usual superblock needs room, too; and folders of larger blocks are none yet.
        if 128 + 16 * usize::from(block[13]) > (1 << bits.max(12)) - 1024 {
            return Err(broken("its superblock is larger than a block"));
        }
        if block[90] != 0 {
            return Err(unknown("its folders have blocks of their own"));
        }
        if short(&block, 86) != 0 {
            return Err(unknown("parts of it are on other devices"));
        }
        image.block_bits = bits;
        image.time = number(&block, 24, 8);
        image.inodes_at = u64::from(word(40)) << bits;
        image.shared_at = u64::from(word(44)) << bits;
        image.root = short(&block, 14).into();
        image.padded = needs & feature::PADDED != 0;
        let parameters = needs & feature::PARAMETERS != 0;
        image.compressors = if parameters { short(&block, 84) } else { 1 };
        if image.compressors >> compressor::NAMES.len() != 0 {
            return Err(unknown("it has compressors that are unknown"));
        }
        if needs & feature::FRAGMENTS != 0 {
            image.packed = Some(number(&block, 96, 8)).filter(|packed| *packed != 0);
        }
        let blocks = u64::from(word(36));
        if blocks << bits > size {
            return Err(broken(CUT));
        }
        if has & feature::CHECKSUM != 0 {
            let whole = 1usize << bits;
            let offset = usize::try_from(SUPERBLOCK).unwrap_or(0);
            let length = if whole > offset { whole - offset } else { whole };
            let mut bytes = vec![0; length];
            image.read(SUPERBLOCK, &mut bytes)?;
            let told = u32::try_from(number(&bytes, 4, 4)).unwrap_or_default();
            bytes[4..8].fill(0);
            if crc32c(&bytes) != told {
                return Err(broken("its superblock is damaged"));
            }
        }
        if needs & feature::PREFIXES != 0 {
            let at = number(&block, 92, 4) << 2;
            image.prefixes = image.long_prefixes(block[91], at)?;
        }
        Ok(image)
    }

    /// How it is compressed, as far as the superblock tells.
    pub(in crate::image) fn compression(&self) -> String {
        let names = compressor::NAMES.iter().enumerate();
        let names: Vec<_> = names
            .filter(|(number, _)| self.compressors >> number & 1 == 1)
            .map(|(_, name)| *name)
            .collect();
        if names.is_empty() { "none".to_owned() } else { names.join("+") }
    }

    /// The size of a block in bytes.
    pub(in crate::image) fn block_size(&self) -> u32 {
        1 << self.block_bits
    }

    /// Its date, in seconds since 1970.
    pub(in crate::image) fn time(&self) -> u64 {
        self.time
    }

    /// Reads a part of it.
    pub(super) fn read(&self, at: u64, into: &mut [u8]) -> io::Result<()> {
        if at.checked_add(into.len() as u64).is_none_or(|end| end > self.size) {
            return Err(broken(CUT));
        }
        self.file.read_exact_at(into, self.base + at)
    }

    /// Whether there are so many bytes from a place on.
    pub(super) fn has(&self, at: u64, length: u64) -> bool {
        at.checked_add(length).is_some_and(|end| end <= self.size)
    }

    /// Counts what was unpacked in vain, and tells how much that is by now.
    pub(super) fn is_in_vain(&self, bytes: u64) -> u64 {
        self.in_vain.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes)
    }

    /// The bytes of an inode.
    pub(in crate::image) fn content<'i>(&'i self, inode: &Inode) -> io::Result<Content<'i>> {
        Content::new(self, inode)
    }

    /// The file with the ends of others.
    pub(super) fn packed(&self) -> io::Result<Inode> {
        self.inode(self.packed.ok_or_else(|| broken("it has no file with the ends of others"))?)
    }

    /// The inode of a number.
    pub(super) fn inode(&self, of: u64) -> io::Result<Inode> {
        let at = of
            .checked_mul(SLOT)
            .and_then(|at| at.checked_add(self.inodes_at))
            .ok_or_else(|| broken(BROKEN_INODE))?;
        let mut bytes = [0; 64];
        self.read(at, &mut bytes[..32])?;
        let format = short(&bytes, 0);
        if format >> 4 != 0 {
            return Err(unknown("an inode is of an unknown form"));
        }
        let is_long = format & 1 == 1;
        if is_long {
            self.read(at, &mut bytes)?;
        }
        let length = if is_long { 64 } else { 32 };
        let attributes = match usize::from(short(&bytes, 2)) {
            0 => 0,
            count => 12 + (count - 1) * 4,
        };
        let field = |at, width| number(&bytes, at, width);
        let word = |at| u32::try_from(field(at, 4)).unwrap_or_default();
        let inode = Inode {
            number: of,
            layout: format >> 1 & 7,
            place: word(16),
            end: at + length + attributes as u64,
            attributes,
            mode: short(&bytes, 4),
            owner: if is_long {
                (word(24), word(28))
            } else {
                (short(&bytes, 24).into(), short(&bytes, 26).into())
            },
            size: if is_long { field(8, 8) } else { field(8, 4) },
            time: if is_long { field(32, 8) } else { self.time },
        };
        Ok(inode)
    }

    /// All that is in it, the root first.
    pub(in crate::image) fn entries(&self) -> io::Result<Vec<Entry>> {
        let mut walk = Walk::default();
        let root = self.inode(self.root)?;
        if root.kind() != 'd' {
            return Err(broken("its root is no folder"));
        }
        let mut folders = HashSet::from([root.number]);
        let mut left = vec![(root.clone(), String::new(), 0)];
        self.meet(&mut walk, String::new(), root)?;
        while let Some((folder, above, depth)) = left.pop() {
            for (name, number) in self.names(&folder, &mut walk)? {
                let path = if above.is_empty() { name } else { format!("{above}/{name}") };
                let inode = self.inode(number)?;
                if inode.kind() == 'd' {
                    if !folders.insert(number) {
                        return Err(broken("a folder is in two folders"));
                    }
                    if depth == DEEPEST {
                        return Err(broken(format!("deeper than {DEEPEST} folders")));
                    }
                    left.push((inode.clone(), path.clone(), depth + 1));
                }
                self.meet(&mut walk, path, inode)?;
            }
        }
        Ok(walk.entries)
    }

    fn meet(&self, walk: &mut Walk, path: String, inode: Inode) -> io::Result<()> {
        let mut target = None;
        // What anybody may have by the thousand must be quick to read.
        let is_quick = matches!(inode.layout, layout::PLAIN | layout::BESIDE);
        if matches!(inode.kind(), 'l' | 'd') && !is_quick {
            return Err(unknown("a folder or a link is compressed"));
        }
        if inode.kind() == 'l' {
            if inode.size > TARGET {
                return Err(broken("a link leads too far"));
            }
            let mut bytes = Vec::new();
            self.content(&inode)?.read_to_end(&mut bytes)?;
            if bytes.contains(&0) {
                return Err(broken("where a link leads is no path"));
            }
            target = Some(String::from_utf8_lossy(&bytes).into_owned());
        }
        walk.paths += path.len() + target.as_ref().map_or(0, String::len);
        walk.attributes += inode.attributes;
        if walk.entries.len() == MOST_ENTRIES
            || walk.paths > MOST_PATHS
            || walk.attributes > MOST_ATTRIBUTES
        {
            return Err(broken(TOO_MANY));
        }
        let (mut hides, mut loose) = (Vec::new(), false);
        self.attributes(&inode, &mut walk.attributes, |name, value| {
            if name.starts_with(OVERLAY.as_bytes()) {
                if hides.len() == MOST_HIDING {
                    return;
                }
                hides.push(String::from_utf8_lossy(name).into_owned());
            } else if name == STRICT.as_bytes() && crate::image::inspect::is_false(value) {
                loose = true;
            }
        })?;
        walk.entries.push(Entry { path, inode, target, hides, loose });
        Ok(())
    }

    /// What is in a folder, and the numbers of the inodes.
    fn names(&self, folder: &Inode, walk: &mut Walk) -> io::Result<Vec<(String, u64)>> {
        walk.folders = walk.folders.saturating_add(folder.size);
        if walk.folders > MOST_FOLDERS {
            return Err(broken("its folders are larger than any honest ones"));
        }
        let mut bytes = Vec::new();
        self.content(folder)?.read_to_end(&mut bytes)?;
        let mut names = Vec::new();
        let mut before: Option<&[u8]> = None;
        let wrong = || broken(BROKEN_FOLDER);
        for block in bytes.chunks(1 << self.block_bits) {
            let first = usize::from(short(block, 8));
            if block.len() < ENTRY || first % ENTRY != 0 || first == 0 || first > block.len() {
                return Err(wrong());
            }
            for at in (0..first).step_by(ENTRY) {
                let from = usize::from(short(block, at + 8));
                let to = match at + ENTRY {
                    next if next < first => usize::from(short(block, next + 8)),
                    _ => block.len(),
                };
                let name = block.get(from..to).ok_or_else(wrong)?;
                // The last one of a block ends with the block, or with what fills that up.
                let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
                // The kernel looks for a name by halves, and finds in another order what nobody sees.
                if before.is_some_and(|before| before >= name) {
                    return Err(broken("the names in a folder are not in their order"));
                }
                before = Some(name);
                if matches!(name, b"." | b"..") {
                    continue;
                }
                if name.is_empty() || name.len() > NAME || name.contains(&b'/') {
                    return Err(broken("a name is none"));
                }
                if walk.entries.len() + names.len() == MOST_ENTRIES {
                    return Err(broken(TOO_MANY));
                }
                names.push((String::from_utf8_lossy(name).into_owned(), number(block, at, 8)));
            }
        }
        Ok(names)
    }

    /// Tells the attributes of an inode, by their whole names.
    fn attributes(
        &self,
        inode: &Inode,
        read: &mut usize,
        mut tell: impl FnMut(&[u8], &[u8]),
    ) -> io::Result<()> {
        if inode.attributes == 0 {
            return Ok(());
        }
        let mut bytes = vec![0; inode.attributes];
        self.read(inode.end - inode.attributes as u64, &mut bytes)?;
        let wrong = || broken(BROKEN_ATTRIBUTE);
        let own = 12 + usize::from(bytes[4]) * 4;
        let shared = bytes.get(12..own).ok_or_else(wrong)?;
        for id in shared.chunks_exact(4) {
            let at = self.shared_at + number(id, 0, 4) * 4;
            let mut head = [0; 4];
            self.read(at, &mut head)?;
            let mut bytes = vec![0; 4 + usize::from(head[0]) + usize::from(short(&head, 2))];
            self.read(at, &mut bytes)?;
            self.attribute(&bytes, read, &mut tell)?.ok_or_else(wrong)?;
        }
        // To the very end, as the kernel does: one without a name hides none behind it.
        let mut rest = &bytes[own..];
        while rest.len() >= 4 {
            let length = self.attribute(rest, read, &mut tell)?.ok_or_else(wrong)?;
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
        Ok(())
    }

    /// Tells one, and how long it is; `None` if it is none. What it has by its whole name counts.
    fn attribute(
        &self,
        bytes: &[u8],
        read: &mut usize,
        tell: &mut impl FnMut(&[u8], &[u8]),
    ) -> io::Result<Option<usize>> {
        let parts = || {
            let name_end = 4 + usize::from(*bytes.first()?);
            let end = name_end + usize::from(short(bytes, 2));
            let (short_name, value) = (bytes.get(4..name_end)?, bytes.get(name_end..end)?);
            let kind = bytes[1];
            let prefix = if kind & 0x80 != 0 {
                self.prefixes.get(usize::from(kind & 0x7f))?.as_slice()
            } else {
                beginning(kind)
            };
            let is_short = prefix.len() + short_name.len() <= NAME;
            is_short.then_some((prefix, short_name, value, end))
        };
        let Some((prefix, short_name, value, end)) = parts() else { return Ok(None) };
        *read += 4 + prefix.len() + short_name.len() + value.len();
        if *read > MOST_ATTRIBUTES {
            return Err(broken("more extended attributes than any honest image"));
        }
        tell(&[prefix, short_name].concat(), value);
        Ok(Some(end))
    }

    /// The long beginnings of names, which are at this place of the image or of the file with the ends
    /// of others.
    fn long_prefixes(&self, count: u8, mut at: u64) -> io::Result<Vec<Vec<u8>>> {
        let mut content = match self.packed {
            Some(packed) => Some(self.content(&self.inode(packed)?)?),
            None => None,
        };
        let mut read = |at: u64, into: &mut [u8]| match &mut content {
            Some(content) => {
                content.seek(at)?;
                content.read_exact(into).map_err(|_| broken(BROKEN_ATTRIBUTE))
            }
            None => self.read(at, into),
        };
        let mut prefixes = Vec::new();
        for _ in 0..count {
            let mut length = [0; 2];
            read(at, &mut length)?;
            let mut bytes = vec![0; u16::from_le_bytes(length).into()];
            read(at + 2, &mut bytes)?;
            at = (at + 2 + bytes.len() as u64).next_multiple_of(4);
            let [kind, rest @ ..] = &bytes[..] else { return Err(broken(BROKEN_ATTRIBUTE)) };
            prefixes.push([beginning(*kind), rest].concat());
        }
        Ok(prefixes)
    }
}

/// What a number stands for in names. Nothing else matters here.
fn beginning(kind: u8) -> &'static [u8] {
    PREFIXES.iter().find(|(_, number)| *number == kind).map_or(b"", |(name, _)| name.as_bytes())
}

/// What was met so far.
#[derive(Default)]
struct Walk {
    entries: Vec<Entry>,
    paths: usize,
    folders: u64,
    attributes: usize,
}

//! From paths to inodes and folders.
//!
//! Owns where each inode goes and how it is encoded. Which trees can be stored is the same as for
//! squashfs, and its plan of one is used here. Everything is dated by the superblock.

use std::io::{Read, Seek, Write};

use super::{BLOCK, LARGE, NAME, PREFIXES, SLOT, layout, row, word};
use crate::image::squashfs::contents::{Data, RAW, Stored};
use crate::image::squashfs::output::Tails;
use crate::image::squashfs::pipeline::Buffer;
use crate::image::squashfs::tree::{Plan, ROOT};
use crate::image::squashfs::{Entry, GRAIN, Node, SquashfsError};

/// The bytes of an inode, short and long, of a row, of what comes before rows, and of an entry of a
/// folder without its name.
const SHORT: usize = 32;
const LONG: usize = 64;
const ROW: usize = 8;
const BEFORE_ROWS: usize = 16;
const ENTRY: usize = 12;
/// The bytes before attributes, and of one without name and value; they begin at multiples of four.
const BEFORE_ATTRIBUTES: usize = 12;
const ATTRIBUTE: usize = 4;
/// The kernel's limit of all attributes of an inode.
const MOST_ATTRIBUTES: usize = 128 << 10;

/// Where the bytes of an inode are.
#[derive(Clone, Copy)]
enum Place {
    /// Nowhere: there are none.
    Nowhere,
    /// The end is beside the inode; so many full blocks come before it, from this one behind all inodes.
    Beside { first: u64, full: u64 },
    /// All in blocks behind the inodes.
    Behind { first: u64, blocks: u64 },
    /// In whole blocks of the data, as they are.
    Data,
    /// In compressed pieces.
    Pieces,
}

/// An inode that has its place.
struct Placed {
    /// Where it begins, from the first one's place.
    at: u64,
    size: u64,
    place: Place,
    /// The bytes of its attributes.
    attributes: usize,
}

/// Where all inodes and folders of a tree go.
pub(super) struct Layout<'p> {
    plan: &'p Plan<'p>,
    data: &'p Data,
    /// Inodes begin in this block of the image.
    start: u64,
    compressor: u8,
    time: u64,
    /// By their places in the plan; `None` for a second name.
    placed: Vec<Option<Placed>>,
    /// How many blocks inodes take.
    inodes: u64,
}

impl<'p> Layout<'p> {
    /// Gives everything its place. Inodes begin in block `start`.
    pub(super) fn new(
        plan: &'p Plan<'p>,
        data: &'p Data,
        start: u64,
        (compressor, time): (u8, u64),
    ) -> Result<Self, SquashfsError> {
        let placed = Vec::with_capacity(plan.nodes.len());
        let mut layout = Self { plan, data, start, compressor, time, placed, inodes: 0 };
        // The number 0 is no inode's to whoever lists a folder.
        let (mut end, mut behind) = (SLOT, 0);
        for at in 0..plan.nodes.len() {
            let placed = (plan.targets[at] as usize == at)
                .then(|| layout.place(at, &mut end, &mut behind))
                .transpose()?;
            layout.placed.push(placed);
        }
        layout.inodes = end.div_ceil(BLOCK);
        Ok(layout)
    }

    /// The number of the root, for which there is less room than for others.
    pub(super) fn root(&self) -> Result<u16, SquashfsError> {
        u16::try_from(self.number(ROOT)).map_err(|_| SquashfsError::TooLarge("the root"))
    }

    fn number(&self, at: usize) -> u64 {
        let target = self.plan.targets[at] as usize;
        self.placed[target].as_ref().map_or(0, |placed| placed.at / SLOT)
    }

    fn place(&self, at: usize, end: &mut u64, behind: &mut u64) -> Result<Placed, SquashfsError> {
        let attributes = attributes(self.plan.nodes[at])?.len();
        let (size, mut place) = match &self.plan.nodes[at].node {
            Node::Directory => {
                let (full, rest) = folder_size(self.plan, at);
                (full * BLOCK + rest, Place::Beside { first: 0, full })
            }
            Node::Symlink(target) => (target.len() as u64, Place::Beside { first: 0, full: 0 }),
            Node::File(content) => {
                let stored = self.data.stored.get(content.0).ok_or_else(|| {
                    let path = self.plan.nodes[at].path.clone();
                    SquashfsError::Path { path, reason: "has no content" }
                })?;
                let is_raw = self.data.blocks(stored).iter().all(|length| length & RAW != 0);
                let place = match stored.size {
                    0 => Place::Nowhere,
                    _ if stored.waits.is_some() => Place::Beside { first: 0, full: 0 },
                    _ if is_raw => Place::Data,
                    _ => Place::Pieces,
                };
                (stored.size, place)
            }
            Node::HardLink(_) => unreachable!("the plan has resolved it"),
        };
        let before = self.head(at, size) + attributes;
        let mut length = before as u64;
        let begin = end.next_multiple_of(SLOT);
        let mut begin_at = begin;
        match &mut place {
            Place::Beside { first, full } => {
                let rest = size - *full * BLOCK;
                if length + rest <= BLOCK {
                    // What is beside an inode must be in one block.
                    let from = (begin + length) % BLOCK;
                    if from + rest > BLOCK {
                        begin_at = begin.next_multiple_of(BLOCK);
                    }
                    (*first, length) = (*behind, length + rest);
                    *behind += *full;
                } else {
                    let blocks = size.div_ceil(BLOCK);
                    place = Place::Behind { first: *behind, blocks };
                    *behind += blocks;
                }
            }
            Place::Pieces => {
                length = length.next_multiple_of(ROW as u64)
                    + (BEFORE_ROWS as u64)
                    + size.div_ceil(BLOCK) * ROW as u64;
            }
            Place::Nowhere | Place::Behind { .. } | Place::Data => {}
        }
        *end = begin_at + length;
        Ok(Placed { at: begin_at, size, place, attributes })
    }

    /// How many names an inode has; a folder is named in those that it holds, too.
    fn links(&self, at: usize) -> u32 {
        let links = self.plan.links[at];
        if matches!(self.plan.nodes[at].node, Node::Directory) { links + 2 } else { links }
    }

    /// The length of an inode without all that follows.
    fn head(&self, at: usize, size: u64) -> usize {
        let is_short = u32::try_from(size).is_ok() && u16::try_from(self.links(at)).is_ok();
        if is_short { SHORT } else { LONG }
    }

    /// Writes all inodes, and all that is behind them, to the end of a block.
    pub(super) fn write<S: Read + Write + Seek>(
        &self,
        tails: &mut Tails<S>,
        mut out: impl FnMut(&[u8]) -> Result<(), SquashfsError>,
    ) -> Result<(), SquashfsError> {
        let mut position = 0;
        let fill = |position: &mut u64,
                    to: u64,
                    out: &mut dyn FnMut(&[u8]) -> Result<(), SquashfsError>| {
            let zeros = usize::try_from(to - *position).expect("it is less than a block");
            *position = to;
            out(&vec![0; zeros])
        };
        for (at, placed) in self.placed.iter().enumerate() {
            let Some(placed) = placed else { continue };
            fill(&mut position, placed.at, &mut out)?;
            let bytes = self.inode(at, placed, tails)?;
            position += bytes.len() as u64;
            out(&bytes)?;
        }
        fill(&mut position, self.inodes * BLOCK, &mut out)?;
        for (at, placed) in self.placed.iter().enumerate() {
            let Some(placed) = placed else { continue };
            let blocks = match placed.place {
                Place::Beside { full, .. } => full,
                Place::Behind { blocks, .. } => blocks,
                Place::Nowhere | Place::Data | Place::Pieces => 0,
            };
            if blocks > 0 {
                let mut bytes = self.bytes(at, placed, tails)?;
                bytes.resize(usize::try_from(blocks * BLOCK).unwrap_or(0), 0);
                out(&bytes)?;
            }
        }
        Ok(())
    }

    /// An inode and all that stands beside it.
    fn inode<S: Read + Write + Seek>(
        &self,
        at: usize,
        placed: &Placed,
        tails: &mut Tails<S>,
    ) -> Result<Vec<u8>, SquashfsError> {
        let Entry { mode, node, .. } = self.plan.nodes[at];
        let Placed { size, place, attributes: length, .. } = *placed;
        let behind = self.start + self.inodes;
        let (kind, where_) = match place {
            Place::Nowhere => (layout::PLAIN, 0),
            Place::Beside { first, .. } => (layout::BESIDE, behind + first),
            Place::Behind { first, .. } => (layout::PLAIN, behind + first),
            Place::Data => (layout::PLAIN, self.stored(node).start() / BLOCK),
            Place::Pieces => {
                let lengths = self.data.blocks(self.stored(node)).iter();
                let bytes: u64 = lengths.map(|length| u64::from(length & !RAW)).sum();
                (layout::PIECES, bytes / BLOCK)
            }
        };
        let where_ = word(where_)?;
        let mode = match node {
            Node::Directory => 0o040_000 | mode,
            // A link's own mode means nothing; this is the one that Linux shows.
            Node::Symlink(_) => 0o120_777,
            Node::File(_) | Node::HardLink(_) => 0o100_000 | mode,
        };
        let count = match length {
            0 => 0,
            length => (length - BEFORE_ATTRIBUTES) / 4 + 1,
        };
        let count = u16::try_from(count).expect("they are bounded");
        let (number, links) = (self.plan.numbers[at], self.links(at));
        let mut out = Vec::with_capacity(LONG + length);
        let is_short = self.head(at, size) == SHORT;
        out.extend((kind << 1 | u16::from(!is_short)).to_le_bytes());
        out.extend(count.to_le_bytes());
        out.extend(mode.to_le_bytes());
        if is_short {
            out.extend(u16::try_from(links).expect("else it is long").to_le_bytes());
            out.extend(word(size)?.to_le_bytes());
            out.extend([0; 4]);
            out.extend(where_.to_le_bytes());
            out.extend(number.to_le_bytes());
        } else {
            out.extend([0; 2]);
            out.extend(size.to_le_bytes());
            out.extend(where_.to_le_bytes());
            out.extend(number.to_le_bytes());
            // Owner and group.
            out.extend([0; 8]);
            out.extend(self.time.to_le_bytes());
            out.extend([0; 4]);
            out.extend(links.to_le_bytes());
        }
        out.resize(if is_short { SHORT } else { LONG }, 0);
        out.extend(attributes(self.plan.nodes[at])?);
        match place {
            Place::Beside { full, .. } => {
                let bytes = self.bytes(at, placed, tails)?;
                out.extend(&bytes[usize::try_from(full * BLOCK).unwrap_or(bytes.len())..]);
            }
            Place::Pieces => self.rows(node, &mut out)?,
            Place::Nowhere | Place::Behind { .. } | Place::Data => {}
        }
        Ok(out)
    }

    /// The bytes of a folder, a link or a short content.
    fn bytes<S: Read + Write + Seek>(
        &self,
        at: usize,
        placed: &Placed,
        tails: &mut Tails<S>,
    ) -> Result<Vec<u8>, SquashfsError> {
        match &self.plan.nodes[at].node {
            Node::Directory => Ok(self.folder(at)),
            Node::Symlink(target) => Ok(target.clone().into_bytes()),
            node @ (Node::File(_) | Node::HardLink(_)) => {
                let waits = self.stored(node).waits.expect("it is short");
                let mut bytes = Buffer::new(usize::try_from(placed.size).unwrap_or(GRAIN));
                tails.read(waits, placed.size, &mut bytes)?;
                Ok(bytes.to_vec())
            }
        }
    }

    fn stored(&self, node: &Node) -> &Stored {
        let Node::File(content) = node else { unreachable!("only files have contents") };
        &self.data.stored[content.0]
    }

    /// The blocks of a folder, of which the last ends with the last name.
    fn folder(&self, at: usize) -> Vec<u8> {
        let names = names(self.plan, at);
        let mut out: Vec<u8> = Vec::new();
        for now in blocks(&names) {
            // The one before is not the last.
            out.resize(out.len().next_multiple_of(GRAIN), 0);
            let mut from = now.len() * ENTRY;
            for (name, at) in now {
                out.extend(self.number(*at).to_le_bytes());
                out.extend(u16::try_from(from).expect("a block is short").to_le_bytes());
                let target = self.plan.targets[*at] as usize;
                out.extend([kind(&self.plan.nodes[target].node), 0]);
                from += name.len();
            }
            out.extend(now.iter().flat_map(|(name, _)| name.bytes()));
        }
        out
    }

    /// The rows of a content: what each block of it is to its piece.
    fn rows(&self, node: &Node, out: &mut Vec<u8>) -> Result<(), SquashfsError> {
        let stored = self.stored(node);
        let mut block = word(stored.start() / BLOCK)?;
        let mut left = stored.size;
        out.resize(out.len().next_multiple_of(ROW), 0);
        let begin = out.len();
        out.extend([0; 4]);
        out.extend(LARGE.to_le_bytes());
        out.extend([self.compressor, 0]);
        out.resize(begin + BEFORE_ROWS, 0);
        let mut put = |kind: u16, what: [u8; 4]| {
            out.extend(kind.to_le_bytes());
            out.extend([0; 2]);
            out.extend(what);
        };
        for length in self.data.blocks(stored) {
            let size = left.min(self.data.block_size.into());
            left -= size;
            let rows = u16::try_from(size.div_ceil(BLOCK)).expect("a piece is short");
            let blocks = word(u64::from(length & !RAW) / BLOCK)?;
            if length & RAW != 0 {
                for number in 0..blocks {
                    put(row::PLAIN, (block + number).to_le_bytes());
                }
            } else {
                put(row::HEAD, block.to_le_bytes());
                for number in 1..rows {
                    let known = u16::try_from(blocks).expect("a piece is short") | row::BLOCKS;
                    let back = if number == 1 { known } else { number };
                    let [a, b] = back.to_le_bytes();
                    let [c, d] = (rows - number).to_le_bytes();
                    put(row::REST, [a, b, c, d]);
                }
            }
            block += blocks;
        }
        Ok(())
    }
}

/// What is in a folder, itself and the one above included, as EROFS wants it: in the order of names.
fn names<'p>(plan: &'p Plan<'_>, at: usize) -> Vec<(&'p str, usize)> {
    let above = if at == ROOT { ROOT } else { plan.parents[at] as usize };
    let mut names = vec![(".", at), ("..", above)];
    names.extend(plan.children(at).iter().map(|at| {
        let path = plan.nodes[*at as usize].path.as_str();
        (path.rsplit_once('/').map_or(path, |(_, name)| name), *at as usize)
    }));
    names.sort_unstable();
    names
}

/// The names of a folder, as many in each block as fit.
fn blocks<'n, 'p>(
    mut names: &'n [(&'p str, usize)],
) -> impl Iterator<Item = &'n [(&'p str, usize)]> {
    std::iter::from_fn(move || {
        let lengths = names.iter().scan(0, |sum, (name, _)| {
            *sum += ENTRY + name.len();
            Some(*sum)
        });
        let fit = lengths.take_while(|sum| *sum <= GRAIN).count();
        let (now, later) = names.split_at(fit);
        names = later;
        (!now.is_empty()).then_some(now)
    })
}

/// How many blocks of a folder are full, and how many bytes are in its last one.
fn folder_size(plan: &Plan<'_>, at: usize) -> (u64, u64) {
    let names = names(plan, at);
    let (count, last) = blocks(&names).fold((0, &[][..]), |(count, _), now| (count + 1, now));
    let bytes: usize = last.iter().map(|(name, _)| ENTRY + name.len()).sum();
    (count - 1, bytes as u64)
}

/// What kind of inode an entry leads to.
fn kind(node: &Node) -> u8 {
    match node {
        Node::File(_) | Node::HardLink(_) => 1,
        Node::Directory => 2,
        Node::Symlink(_) => 7,
    }
}

/// The attributes of an inode, as they stand behind it.
fn attributes(entry: &Entry) -> Result<Vec<u8>, SquashfsError> {
    let mut out = Vec::new();
    // The order in which they come means nothing.
    let mut sorted: Vec<_> = entry.xattrs.iter().collect();
    sorted.sort_unstable();
    for (at, (name, value)) in sorted.iter().enumerate() {
        let refused =
            |reason| SquashfsError::Xattr { path: entry.path.clone(), name: name.clone(), reason };
        if at == 0 {
            out.resize(BEFORE_ATTRIBUTES, 0);
        } else if sorted[at - 1].0 == *name {
            return Err(refused("is there twice"));
        }
        let (short, number) = PREFIXES
            .iter()
            .find_map(|(prefix, number)| Some((name.strip_prefix(prefix)?, *number)))
            .ok_or_else(|| refused("is not in user, trusted or security"))?;
        if short.is_empty() || short.contains('\0') || name.len() > NAME {
            return Err(refused("is not a name"));
        }
        let length = u16::try_from(value.len()).map_err(|_| refused("has more than 64 KiB"))?;
        out.extend([u8::try_from(short.len()).expect("it was checked"), number]);
        out.extend(length.to_le_bytes());
        out.extend(short.as_bytes());
        out.extend(value);
        out.resize(out.len().next_multiple_of(ATTRIBUTE), 0);
        if out.len() > MOST_ATTRIBUTES {
            return Err(refused("is one too many: together they have more than 128 KiB"));
        }
    }
    Ok(out)
}

//! The bytes of files: data blocks, fragments, holes, and equal contents stored once.
//!
//! Owns the part of the image between the superblock and the inodes, and what inodes must know of
//! it. Contents come in any order, and wait: their blocks compressed, their tails as they are. At
//! the end they are put into the image in the order that is asked for, so that the image does not
//! depend on the order in which they came. Refuses to know what files are called and how many names
//! a content has.

use std::collections::{HashMap, HashSet, VecDeque};
use std::io::{Read, Seek, Write};
use std::mem::replace;

use sha2::{Digest as _, Sha256};

use super::compress::bound;
use super::output::{Output, Tails};
use super::pipeline::{Buffer, Pipeline};
use super::{Kind, Options, Pool, SquashfsError};

/// In the length of a data or fragment block: it is stored as it is.
const RAW: u32 = 1 << 24;
/// How many blocks of a file that begins like an earlier one are kept back until it ends or goes
/// on differently: a second copy of a file that is not larger is then never compressed.
const HELD: usize = 4;
/// How much is copied at once.
const COPIED: usize = 256 << 10;

/// The end of a file in a block that it shares with others.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tail {
    pub(super) fragment: u32,
    pub(super) offset: u32,
}

/// Where a content is.
#[derive(Debug)]
pub(super) struct Stored {
    /// Its first byte where it waits, and later in the image; `None` if it has no data blocks, or
    /// only holes.
    start: Option<u64>,
    pub(super) size: u64,
    /// The first of its blocks in [`Data::lengths`].
    first: usize,
    /// Where its tail waits.
    waits: Option<u64>,
    /// Where its tail is in the image.
    pub(super) tail: Option<Tail>,
}

impl Stored {
    pub(super) fn start(&self) -> u64 {
        self.start.unwrap_or(0)
    }
}

/// Where all contents are.
pub(super) struct Data {
    block_size: u32,
    pub(super) stored: Vec<Stored>,
    /// The stored lengths of all data blocks, one file after another: 0 is a hole.
    pub(super) lengths: Vec<u32>,
    /// Start and stored length of each fragment block.
    pub(super) fragments: Vec<(u64, u32)>,
}

impl Data {
    /// The stored lengths of a content's blocks.
    pub(super) fn blocks(&self, stored: &Stored) -> &[u32] {
        let size = u64::from(self.block_size);
        let count =
            if stored.waits.is_some() { stored.size / size } else { stored.size.div_ceil(size) };
        let count = usize::try_from(count).expect("there was an entry in memory for each");
        &self.lengths[stored.first..stored.first + count]
    }

    /// How many bytes of a content are not in the image.
    pub(super) fn holes(&self, stored: &Stored) -> u64 {
        let size = u64::from(self.block_size);
        let mut left = stored.size;
        let mut holes = 0;
        for length in self.blocks(stored) {
            let block = size.min(left);
            left -= block;
            if *length == 0 {
                holes += block;
            }
        }
        holes
    }
}

/// What a block under way is for.
enum Target {
    /// A block of a content, by their places in the lists.
    Block { content: usize, length: usize },
    /// A fragment block.
    Fragment(usize),
    /// Nothing any more: it belonged to a content that turned out to be there already.
    Nowhere,
}

/// A content that was read to its end.
struct Incoming {
    digest: [u8; 32],
    size: u64,
    /// Whole blocks that were kept back.
    held: VecDeque<Buffer>,
    /// What is left after the whole blocks.
    tail: Buffer,
}

/// Takes contents in, and puts them into an image.
pub(super) struct Contents<S> {
    /// Where compressed blocks wait.
    blocks: Output<S>,
    tails: Tails<S>,
    pipeline: Pipeline<Target, Kind>,
    data: Data,
    known: HashMap<[u8; 32], usize>,
    /// Of the first blocks of all contents that have one, enough of a digest to suspect equals.
    beginnings: HashSet<u64>,
    broken: bool,
}

impl<S: Read + Write + Seek> Contents<S> {
    /// Both are empty files, of no use afterwards.
    pub(super) fn new(blocks: S, tails: S, options: &Options, pool: &Pool) -> Self {
        let Options { compression, block_size } = *options;
        let capacity = (block_size as usize, bound(block_size));
        let kind = Kind { compression, block_size };
        Self {
            blocks: Output::new(blocks),
            tails: Tails::new(tails),
            pipeline: Pipeline::new(pool.0.clone(), kind, capacity),
            data: Data {
                block_size,
                stored: Vec::new(),
                lengths: Vec::new(),
                fragments: Vec::new(),
            },
            known: HashMap::new(),
            beginnings: HashSet::new(),
            broken: false,
        }
    }

    /// Takes in one content; returns its place in [`Data::stored`].
    pub(super) fn add(&mut self, reader: &mut dyn Read) -> Result<usize, SquashfsError> {
        if self.broken {
            return Err(SquashfsError::Broken);
        }
        let result = self.try_add(reader);
        self.broken = !matches!(result, Ok(_) | Err(SquashfsError::Read(_)));
        result
    }

    fn try_add(&mut self, reader: &mut dyn Read) -> Result<usize, SquashfsError> {
        let content = self.data.stored.len();
        let first = self.data.lengths.len();
        self.data.stored.push(Stored { start: None, size: 0, first, waits: None, tail: None });
        let incoming = match self.read(reader, content) {
            Ok(incoming) => incoming,
            Err(error) => {
                self.forget(content)?;
                return Err(error);
            }
        };
        if let Some(&known) = self.known.get(&incoming.digest) {
            for buffer in incoming.held.into_iter().chain([incoming.tail]) {
                self.pipeline.recycle(buffer);
            }
            self.forget(content)?;
            return Ok(known);
        }
        self.known.insert(incoming.digest, content);
        for block in incoming.held {
            self.put_block(content, block)?;
        }
        self.data.stored[content].size = incoming.size;
        self.data.stored[content].waits = self.put_tail(incoming.tail)?;
        Ok(content)
    }

    /// Reads to the end, and sends whole blocks on their way as they come.
    fn read(&mut self, reader: &mut dyn Read, content: usize) -> Result<Incoming, SquashfsError> {
        let mut hash = Sha256::new();
        let mut size = 0;
        let mut held = VecDeque::new();
        let mut keep = 0;
        loop {
            let mut block = self.pipeline.buffer();
            block.fill(reader).map_err(SquashfsError::Read)?;
            hash.update(&block[..]);
            let whole = block.len() == self.data.block_size as usize;
            if whole && size == 0 {
                let digest: [u8; 32] = hash.clone().finalize().into();
                let (beginning, _) = digest.split_first_chunk().expect("it is longer");
                let new = self.beginnings.insert(u64::from_le_bytes(*beginning));
                keep = if new { 0 } else { HELD };
            }
            size += block.len() as u64;
            if !whole {
                return Ok(Incoming { digest: hash.finalize().into(), size, held, tail: block });
            }
            held.push_back(block);
            while held.len() > keep {
                let block = held.pop_front().expect("there is more than none");
                self.put_block(content, block)?;
            }
        }
    }

    /// Takes back all that was done for the last content.
    fn forget(&mut self, content: usize) -> Result<(), SquashfsError> {
        for target in self.pipeline.tags() {
            match target {
                Target::Block { content: of, .. } if *of == content => *target = Target::Nowhere,
                Target::Nowhere => {}
                _ => break,
            }
        }
        let Stored { start, first, .. } = self.data.stored.pop().expect("it was pushed");
        self.data.lengths.truncate(first);
        // Blocks are written in order: with one of this content's, all before are written, and the
        // place where it began is the end of what counts.
        start.map_or(Ok(()), |start| self.blocks.seek(start))
    }

    fn put_block(&mut self, content: usize, block: Buffer) -> Result<(), SquashfsError> {
        let length = self.data.lengths.len();
        self.data.lengths.push(0);
        if is_zero(&block) {
            self.pipeline.recycle(block);
            return Ok(());
        }
        self.submit(Target::Block { content, length }, block)
    }

    /// Keeps a tail; `None` if there is nothing to keep.
    fn put_tail(&mut self, tail: Buffer) -> Result<Option<u64>, SquashfsError> {
        let mut waits = None;
        if !tail.is_empty() && is_zero(&tail) {
            self.data.lengths.push(0);
        } else if !tail.is_empty() {
            waits = Some(self.tails.push(&tail)?);
        }
        self.pipeline.recycle(tail);
        Ok(waits)
    }

    fn submit(&mut self, target: Target, block: Buffer) -> Result<(), SquashfsError> {
        while self.pipeline.is_full() {
            self.keep_next()?;
        }
        self.pipeline.submit(target, block);
        Ok(())
    }

    /// Waits for the oldest block and keeps it. False if there is none.
    fn keep_next(&mut self) -> Result<bool, SquashfsError> {
        let Some(finished) = self.pipeline.next().map_err(SquashfsError::Compress)? else {
            return Ok(false);
        };
        let (bytes, written) = stored_as(finished.bytes())?;
        if let Target::Block { content, length } = finished.tag {
            self.data.lengths[length] = written;
            self.data.stored[content].start.get_or_insert(self.blocks.position());
            self.blocks.write(bytes)?;
        }
        self.pipeline.done(finished);
        Ok(true)
    }

    /// Puts contents into an image, in this order; what does not occur there is left out.
    ///
    /// All blocks come first and all fragments after them: when a fragment is ready depends on the
    /// number of threads, and must not be seen.
    pub(super) fn finish<W: Write + Seek>(
        mut self,
        order: impl Iterator<Item = usize>,
        out: &mut Output<W>,
    ) -> Result<Data, SquashfsError> {
        if self.broken {
            return Err(SquashfsError::Broken);
        }
        while self.keep_next()? {}
        let mut seen = vec![false; self.data.stored.len()];
        // Whether an id is one of ours is for the tree to say.
        let mut first = |at: &usize| seen.get_mut(*at).is_some_and(|seen| !replace(seen, true));
        let order: Vec<usize> = order.filter(|at| first(at)).collect();
        let mut buffer = vec![0; COPIED];
        for at in &order {
            let blocks = self.data.blocks(&self.data.stored[*at]).iter();
            let length = blocks.map(|length| u64::from(length & !RAW)).sum();
            if let Some(start) = self.data.stored[*at].start {
                self.data.stored[*at].start = Some(out.position());
                self.blocks.copy(start, length, &mut buffer, out)?;
            }
        }
        let mut fragment = self.pipeline.buffer();
        let mut tail = self.pipeline.buffer();
        for at in order {
            let Some(waits) = self.data.stored[at].waits else { continue };
            let length = self.data.stored[at].size % u64::from(self.data.block_size);
            tail.clear();
            self.tails.read(waits, length, &mut tail)?;
            if fragment.len() + tail.len() > self.data.block_size as usize {
                let empty = self.pipeline.buffer();
                self.put_fragment(replace(&mut fragment, empty), out)?;
            }
            self.data.stored[at].tail = Some(Tail {
                fragment: number(self.data.fragments.len(), "too many fragments")?,
                offset: number(fragment.len(), "too large a fragment")?,
            });
            let fits = fragment.append(&tail);
            debug_assert!(fits, "room was made");
        }
        if !fragment.is_empty() {
            self.put_fragment(fragment, out)?;
        }
        while self.write_fragment(out)? {}
        Ok(self.data)
    }

    fn put_fragment<W: Write + Seek>(
        &mut self,
        block: Buffer,
        out: &mut Output<W>,
    ) -> Result<(), SquashfsError> {
        while self.pipeline.is_full() {
            self.write_fragment(out)?;
        }
        self.pipeline.submit(Target::Fragment(self.data.fragments.len()), block);
        self.data.fragments.push((0, 0));
        Ok(())
    }

    /// Waits for the oldest fragment and writes it. False if there is none.
    fn write_fragment<W: Write + Seek>(
        &mut self,
        out: &mut Output<W>,
    ) -> Result<bool, SquashfsError> {
        let Some(finished) = self.pipeline.next().map_err(SquashfsError::Compress)? else {
            return Ok(false);
        };
        let (bytes, written) = stored_as(finished.bytes())?;
        if let Target::Fragment(at) = finished.tag {
            self.data.fragments[at] = (out.position(), written);
            out.write(bytes)?;
        }
        self.pipeline.done(finished);
        Ok(true)
    }
}

/// A block's bytes, and its length as the image says it.
fn stored_as((bytes, compressed): (&[u8], bool)) -> Result<(&[u8], u32), SquashfsError> {
    let length = number(bytes.len(), "too large a block")?;
    Ok((bytes, length | if compressed { 0 } else { RAW }))
}

fn number(number: usize, what: &'static str) -> Result<u32, SquashfsError> {
    u32::try_from(number).map_err(|_| SquashfsError::TooLarge(what))
}

fn is_zero(bytes: &[u8]) -> bool {
    // Chunk by chunk, because that is done many bytes at a time.
    bytes.chunks(64).all(|chunk| chunk.iter().fold(0, |any, byte| any | byte) == 0)
}

//! The bytes of files: data blocks, fragments, holes, and equal contents stored once.
//!
//! Owns the part of the image between the superblock and the inodes, and what inodes must know of
//! it. Refuses to know what files are called and how many names a content has.

use std::collections::{HashMap, HashSet, VecDeque};
use std::io::{Read, Seek, Write};

use sha2::{Digest as _, Sha256};

use super::compress::{Codec, bound};
use super::output::Output;
use super::pipeline::{Buffer, Pipeline};
use super::{Options, SquashfsError};

/// In the length of a data or fragment block: it is stored as it is.
const RAW: u32 = 1 << 24;
/// How many blocks of a file that begins like an earlier one are kept back until it ends or goes
/// on differently: a second copy of a file that is not larger is then never compressed.
const HELD: usize = 4;

/// The end of a file in a block that it shares with others.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tail {
    pub(super) fragment: u32,
    pub(super) offset: u32,
}

/// Where a content is.
#[derive(Debug)]
pub(super) struct Stored {
    /// Its first byte in the image; `None` if it has no data blocks, or only holes.
    start: Option<u64>,
    pub(super) size: u64,
    /// The first of its blocks in [`Data::lengths`].
    first: usize,
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
            if stored.tail.is_some() { stored.size / size } else { stored.size.div_ceil(size) };
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

/// Takes contents in and writes their blocks.
pub(super) struct Contents<W> {
    out: Output<W>,
    pipeline: Pipeline<Target>,
    data: Data,
    /// The fragment block that is being filled.
    fragment: Buffer,
    known: HashMap<[u8; 32], usize>,
    /// Of the first blocks of all contents that have one, enough of a digest to suspect equals.
    beginnings: HashSet<u64>,
    broken: bool,
}

impl<W: Write + Seek> Contents<W> {
    /// `out` is where the first block goes.
    pub(super) fn new(out: Output<W>, options: &Options) -> Result<Self, SquashfsError> {
        let Options { compression, block_size, threads, .. } = *options;
        let capacity = (block_size as usize, bound(block_size));
        let compressor = || {
            let mut codec = Codec::for_data(compression, block_size)?;
            Ok(move |block: &[u8], into: &mut [u8]| codec.compress(block, into))
        };
        let mut pipeline =
            Pipeline::new(threads, capacity, compressor).map_err(SquashfsError::Threads)?;
        Ok(Self {
            out,
            fragment: pipeline.buffer(),
            pipeline,
            data: Data {
                block_size,
                stored: Vec::new(),
                lengths: Vec::new(),
                fragments: Vec::new(),
            },
            known: HashMap::new(),
            beginnings: HashSet::new(),
            broken: false,
        })
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
        self.data.stored.push(Stored { start: None, size: 0, first, tail: None });
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
        self.data.stored[content].tail = self.put_tail(incoming.tail)?;
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
        start.map_or(Ok(()), |start| self.out.seek(start))
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

    fn put_tail(&mut self, tail: Buffer) -> Result<Option<Tail>, SquashfsError> {
        if tail.is_empty() || is_zero(&tail) {
            if !tail.is_empty() {
                self.data.lengths.push(0);
            }
            self.pipeline.recycle(tail);
            return Ok(None);
        }
        if self.fragment.len() + tail.len() > self.data.block_size as usize {
            self.close_fragment()?;
        }
        let place = Tail {
            fragment: number(self.data.fragments.len(), "too many fragments")?,
            offset: number(self.fragment.len(), "too large a fragment")?,
        };
        let fits = self.fragment.append(&tail);
        debug_assert!(fits, "room was made");
        self.pipeline.recycle(tail);
        Ok(Some(place))
    }

    fn close_fragment(&mut self) -> Result<(), SquashfsError> {
        let empty = self.pipeline.buffer();
        let block = std::mem::replace(&mut self.fragment, empty);
        let target = Target::Fragment(self.data.fragments.len());
        self.data.fragments.push((0, 0));
        self.submit(target, block)
    }

    fn submit(&mut self, target: Target, block: Buffer) -> Result<(), SquashfsError> {
        while self.pipeline.is_full() {
            self.write_next()?;
        }
        self.pipeline.submit(target, block);
        Ok(())
    }

    /// Waits for the oldest block and writes it. False if there is none.
    fn write_next(&mut self) -> Result<bool, SquashfsError> {
        let Some(finished) = self.pipeline.next().map_err(SquashfsError::Compress)? else {
            return Ok(false);
        };
        let (bytes, compressed) = finished.bytes();
        let written = number(bytes.len(), "too large a block")? | if compressed { 0 } else { RAW };
        let position = self.out.position();
        match finished.tag {
            Target::Block { content, length } => {
                self.data.lengths[length] = written;
                self.data.stored[content].start.get_or_insert(position);
                self.out.write(bytes)?;
            }
            Target::Fragment(at) => {
                self.data.fragments[at] = (position, written);
                self.out.write(bytes)?;
            }
            Target::Nowhere => {}
        }
        self.pipeline.done(finished);
        Ok(true)
    }

    /// Writes what is still under way and ends the threads.
    pub(super) fn finish(mut self) -> Result<(Output<W>, Data), SquashfsError> {
        if self.broken {
            return Err(SquashfsError::Broken);
        }
        if !self.fragment.is_empty() {
            self.close_fragment()?;
        }
        while self.write_next()? {}
        Ok((self.out, self.data))
    }
}

fn number(number: usize, what: &'static str) -> Result<u32, SquashfsError> {
    u32::try_from(number).map_err(|_| SquashfsError::TooLarge(what))
}

fn is_zero(bytes: &[u8]) -> bool {
    // Chunk by chunk, because that is done many bytes at a time.
    bytes.chunks(64).all(|chunk| chunk.iter().fold(0, |any, byte| any | byte) == 0)
}

//! The bytes of files: data blocks, fragments, holes, and equal contents stored once.
//!
//! Owns the part of the image between the superblock and the inodes, and what inodes must know of
//! it. Contents come in any order. Their blocks are written as they come, and their tails, which
//! share blocks with others, wait. At the end all is put into the order that is asked for, so that
//! the image does not depend on how it came; if it came in that order, nothing is moved. Refuses to
//! know what files are called and how many names a content has.
//!
//! For EROFS it does the same, but for three things: every block fills whole ones of 4 KiB, there are
//! neither holes nor fragments, and what is short waits to stand beside its inode.

use std::collections::HashMap;
use std::io::{Read, Seek, Write};
use std::mem::replace;

use sha2::{Digest as _, Sha256};

use super::compress::bound;
use super::output::{Output, Tails};
use super::pipeline::{Buffer, Pipeline};
use super::{GRAIN, Kind, Options, Pool, Shape, SquashfsError};

/// In the length of a data or fragment block: it is stored as it is.
pub(in crate::image) const RAW: u32 = 1 << 24;
/// What blocks of EROFS are filled up with.
static ZEROS: [u8; GRAIN] = [0; GRAIN];
/// The longest content that stands beside its inode in EROFS.
const BESIDE: usize = 3 << 10;
/// How much is copied at once.
const COPIED: usize = 256 << 10;

/// The end of a file in a block that it shares with others.
#[derive(Debug, Clone, Copy)]
pub(in crate::image) struct Tail {
    pub(in crate::image) fragment: u32,
    pub(in crate::image) offset: u32,
}

/// Where a content is.
#[derive(Debug, Clone, Copy)]
pub(in crate::image) struct Stored {
    /// Its first byte in the image; `None` if it has no data blocks, or only holes.
    start: Option<u64>,
    pub(in crate::image) size: u64,
    /// The first of its blocks in [`Data::lengths`].
    first: usize,
    /// Where its tail waits.
    pub(in crate::image) waits: Option<u64>,
    /// Where its tail is in the image.
    pub(in crate::image) tail: Option<Tail>,
}

impl Stored {
    pub(in crate::image) fn start(&self) -> u64 {
        self.start.unwrap_or(0)
    }
}

/// Where all contents are.
pub(in crate::image) struct Data {
    pub(in crate::image) block_size: u32,
    pub(in crate::image) stored: Vec<Stored>,
    /// The stored lengths of all data blocks, one file after another: 0 is a hole.
    pub(in crate::image) lengths: Vec<u32>,
    /// Start and stored length of each fragment block.
    pub(in crate::image) fragments: Vec<(u64, u32)>,
}

impl Data {
    /// The stored lengths of a content's blocks.
    pub(in crate::image) fn blocks(&self, stored: &Stored) -> &[u32] {
        let size = u64::from(self.block_size);
        let count =
            if stored.waits.is_some() { stored.size / size } else { stored.size.div_ceil(size) };
        let count = usize::try_from(count).expect("there was an entry in memory for each");
        &self.lengths[stored.first..stored.first + count]
    }

    /// How many bytes the blocks of a content take.
    fn written(&self, stored: &Stored) -> u64 {
        self.blocks(stored).iter().map(|length| u64::from(length & !RAW)).sum()
    }

    /// How many bytes of a content are not in the image.
    pub(in crate::image) fn holes(&self, stored: &Stored) -> u64 {
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

/// Takes contents in, and puts them into an image.
pub(in crate::image) struct Contents<S> {
    /// The image, as far as it is written.
    out: Output<S>,
    /// Where the first block is in it.
    begin: u64,
    tails: Tails<S>,
    pipeline: Pipeline<Target, Kind>,
    data: Data,
    shape: Shape,
    broken: bool,
}

impl<S: Read + Write + Seek> Contents<S> {
    /// Blocks go to `out`, from where it is; `tails` is an empty file of no use afterwards.
    pub(in crate::image) fn new(
        out: Output<S>,
        tails: S,
        (options, shape): (&Options, Shape),
        pool: &Pool,
    ) -> Self {
        let Options { compression, block_size } = *options;
        let capacity = (block_size as usize, bound(block_size));
        let kind = Kind { compression, block_size, shape };
        Self {
            begin: out.position(),
            out,
            tails: Tails::new(tails),
            pipeline: Pipeline::new(pool.0.clone(), kind, capacity),
            data: Data {
                block_size,
                stored: Vec::new(),
                lengths: Vec::new(),
                fragments: Vec::new(),
            },
            shape,
            broken: false,
        }
    }

    /// Takes in one content; returns its place in [`Data::stored`].
    pub(in crate::image) fn add(&mut self, reader: &mut dyn Read) -> Result<usize, SquashfsError> {
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
        let mut size = 0;
        loop {
            let mut block = self.pipeline.buffer();
            if let Err(error) = block.fill(reader) {
                self.pipeline.recycle(block);
                self.forget(content)?;
                return Err(SquashfsError::Read(error));
            }
            size += block.len() as u64;
            if block.len() < self.data.block_size as usize {
                self.data.stored[content].size = size;
                match self.shape {
                    Shape::Squashfs => self.data.stored[content].waits = self.put_tail(block)?,
                    Shape::Erofs => self.put_end(content, size, block)?,
                }
                return Ok(content);
            }
            self.put_block(content, block)?;
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
        if self.shape == Shape::Squashfs && is_zero(&block) {
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

    /// The same in EROFS: it is a block like any other, but of a content that is short.
    fn put_end(&mut self, content: usize, size: u64, end: Buffer) -> Result<(), SquashfsError> {
        if end.is_empty() {
            self.pipeline.recycle(end);
            return Ok(());
        }
        if size > BESIDE as u64 {
            return self.put_block(content, end);
        }
        self.data.stored[content].waits = Some(self.tails.push(&end)?);
        self.pipeline.recycle(end);
        Ok(())
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
        // What is compressed stands at the end of its blocks, what is not at their beginning.
        let padding = match self.shape {
            Shape::Squashfs => &[][..],
            Shape::Erofs => &ZEROS[..bytes.len().next_multiple_of(GRAIN) - bytes.len()],
        };
        let (before, behind) = if compressed { (padding, &[][..]) } else { (&[][..], padding) };
        let length = number(bytes.len() + padding.len(), "too large a block")?;
        let written = length | if compressed { 0 } else { RAW };
        let position = self.out.position();
        match finished.tag {
            Target::Block { content, length } => {
                self.data.lengths[length] = written;
                self.data.stored[content].start.get_or_insert(position);
                for bytes in [before, bytes, behind] {
                    self.out.write(bytes)?;
                }
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

    /// Puts contents into this order; what does not occur there is left out. If they are not in it
    /// already, the image goes on in `other`, which must be where the first block goes.
    ///
    /// All blocks come first and all fragments after them: when a fragment is ready depends on the
    /// number of threads, and must not be seen.
    pub(in crate::image) fn finish(
        mut self,
        order: impl Iterator<Item = usize>,
        other: impl FnOnce() -> Result<Output<S>, SquashfsError>,
    ) -> Result<(Output<S>, Data, Tails<S>), SquashfsError> {
        if self.broken {
            return Err(SquashfsError::Broken);
        }
        while self.write_next()? {}
        let mut seen = vec![false; self.data.stored.len()];
        // Whether an id is one of ours is for the tree to say.
        let mut first = |at: &usize| seen.get_mut(*at).is_some_and(|seen| !replace(seen, true));
        let order: Vec<usize> = order.filter(|at| first(at)).collect();
        let twins = self.twins(&order)?;
        let order: Vec<usize> = order.into_iter().filter(|at| !twins.contains_key(at)).collect();
        if !self.is_ordered(&order) {
            self.reorder(&order, other()?)?;
        }
        if self.shape == Shape::Squashfs {
            self.put_fragments(&order)?;
        }
        for (twin, of) in twins {
            self.data.stored[twin] = self.data.stored[of];
        }
        Ok((self.out, self.data, self.tails))
    }

    /// The contents that are equal to one before them in the order, and that one, by place.
    ///
    /// Equal ones have equal lengths, before and after compression. Only what is alike in all of
    /// these is read again, and compared by digest.
    fn twins(&mut self, order: &[usize]) -> Result<HashMap<usize, usize>, SquashfsError> {
        let mut alike: HashMap<(u64, &[u32]), Vec<usize>> = HashMap::new();
        for at in order {
            let stored = &self.data.stored[*at];
            alike.entry((stored.size, self.data.blocks(stored))).or_default().push(*at);
        }
        let mut twins = HashMap::new();
        let alike = alike.into_iter().filter(|((size, _), ats)| *size > 0 && ats.len() > 1);
        let mut alike: Vec<Vec<usize>> = alike.map(|(_, ats)| ats).collect();
        // A hash table has an order of its own, which would have us go to and fro in the files.
        alike.sort_unstable();
        let mut buffer = vec![0; COPIED];
        for ats in alike {
            let mut known = HashMap::new();
            for at in ats {
                let stored = &self.data.stored[at];
                let mut hash = Sha256::new();
                if let Some(start) = stored.start {
                    let length = self.data.written(stored);
                    self.out.read(start, length, &mut buffer, |piece| {
                        hash.update(piece);
                        Ok(())
                    })?;
                }
                if let Some(waits) = stored.waits {
                    let mut tail = self.pipeline.buffer();
                    let length = stored.size % u64::from(self.data.block_size);
                    self.tails.read(waits, length, &mut tail)?;
                    hash.update(&tail[..]);
                    self.pipeline.recycle(tail);
                }
                let digest: [u8; 32] = hash.finalize().into();
                if let Some(of) = known.get(&digest) {
                    twins.insert(at, *of);
                } else {
                    known.insert(digest, at);
                }
            }
        }
        Ok(twins)
    }

    /// Whether the blocks lie as they should, and nothing else lies between them.
    fn is_ordered(&self, order: &[usize]) -> bool {
        let mut end = self.begin;
        for at in order {
            let stored = &self.data.stored[*at];
            if let Some(start) = stored.start {
                if start != end {
                    return false;
                }
                end += self.data.written(stored);
            }
        }
        end == self.out.position()
    }

    fn reorder(&mut self, order: &[usize], mut to: Output<S>) -> Result<(), SquashfsError> {
        let mut buffer = vec![0; COPIED];
        for at in order {
            let length = self.data.written(&self.data.stored[*at]);
            if let Some(start) = &mut self.data.stored[*at].start {
                let from = replace(start, to.position());
                self.out.read(from, length, &mut buffer, |piece| to.write(piece))?;
            }
        }
        self.out = to;
        Ok(())
    }

    /// Fills fragments with the tails, in this order.
    fn put_fragments(&mut self, order: &[usize]) -> Result<(), SquashfsError> {
        let mut fragment = self.pipeline.buffer();
        let mut tail = self.pipeline.buffer();
        for at in order {
            let Some(waits) = self.data.stored[*at].waits else { continue };
            let length = self.data.stored[*at].size % u64::from(self.data.block_size);
            tail.clear();
            self.tails.read(waits, length, &mut tail)?;
            if fragment.len() + tail.len() > self.data.block_size as usize {
                let empty = self.pipeline.buffer();
                self.put_fragment(replace(&mut fragment, empty))?;
            }
            self.data.stored[*at].tail = Some(Tail {
                fragment: number(self.data.fragments.len(), "too many fragments")?,
                offset: number(fragment.len(), "too large a fragment")?,
            });
            let fits = fragment.append(&tail);
            debug_assert!(fits, "room was made");
        }
        if !fragment.is_empty() {
            self.put_fragment(fragment)?;
        }
        while self.write_next()? {}
        Ok(())
    }

    fn put_fragment(&mut self, block: Buffer) -> Result<(), SquashfsError> {
        let target = Target::Fragment(self.data.fragments.len());
        self.data.fragments.push((0, 0));
        self.submit(target, block)
    }
}

fn number(number: usize, what: &'static str) -> Result<u32, SquashfsError> {
    u32::try_from(number).map_err(|_| SquashfsError::TooLarge(what))
}

fn is_zero(bytes: &[u8]) -> bool {
    // Chunk by chunk, because that is done many bytes at a time.
    bytes.chunks(64).all(|chunk| chunk.iter().fold(0, |any, byte| any | byte) == 0)
}

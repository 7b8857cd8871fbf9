//! A writer of squashfs 4.0: parallel, streaming, and the same bytes for the same input.
//!
//! Owns the layout of an image, from the superblock to the padding at its end. Refuses to know
//! where contents and paths come from: they are pushed in, contents first and in any order, then
//! all paths at once. Reading images is somebody else's work.
//!
//! # The format
//! The kernel describes it in `Documentation/filesystems/squashfs.rst`, and squashfs-tools field by
//! field in `squashfs_fs.h`; all numbers are little-endian. In the order in which they are written:
//!
//! | part | what | module |
//! |---|---|---|
//! | superblock | 96 bytes that say where the rest is | here |
//! | compressor options | a metadata block, only if they are not the default | `compress` |
//! | data | the blocks of files, then fragment blocks with the tails of many | `contents` |
//! | inode table | metadata blocks of inodes | `inode`, `tree` |
//! | directory table | metadata blocks of names | `directory` |
//! | fragment table | where each fragment block is | here |
//! | export table | where the inode of each number is | here |
//! | id table | owners and groups: only 0 | here |
//! | xattr table | extended attributes | `xattr` |
//! | padding | zeros up to 4 KiB, for loop devices | here |
//!
//! A *metadata block* is 8 KiB of that table, compressed, behind its length (`metadata`).
//! The kernel insists that tables touch: each ends where the next begins.
//!
//! # How it works
//! The caller's thread reads and writes; a [`Pool`] of threads, which images share that are
//! written at the same time, compresses (`pipeline`). Contents can so be taken in as they come out
//! of an archive that is still being downloaded. Their blocks are written as they come, and the
//! tails of files, which share blocks with others, wait in another file. Only when all paths are
//! known, contents are put into the order of their paths, so that neither the order in which they
//! came nor the number of threads can be seen. Contents that turn out to be equal are stored once.
//! No clock is read, and nothing depends on the order of a hash table.
//!
//! [`super::erofs`] takes its contents in by the same code: what they have in common is what comes before
//! the tables.

use std::fmt;
use std::io::{self, Read, Seek, Write};
use std::sync::Arc;

use thiserror::Error;

mod compress;
pub(super) mod contents;
mod directory;
mod inode;
mod metadata;
pub(super) mod output;
pub(super) mod pipeline;
#[cfg(test)]
mod tests;
pub(super) mod tree;
mod xattr;

use compress::Codec;
pub use compress::{Bcj, Compression};
use contents::Contents;
use metadata::write_table;
use output::Output;
use tree::Tables;

/// An image that could not be written.
#[derive(Debug, Error)]
pub enum SquashfsError {
    /// A block size that the format does not have.
    #[error("blocks of {0} bytes: not a power of two from 4 KiB to 1 MiB")]
    BlockSize(u32),
    /// A level that the compressor does not have.
    #[error("{compressor} level {level}: not from {first} to {last}")]
    Level {
        /// The compressor.
        compressor: &'static str,
        /// The level.
        level: i64,
        /// Its lowest level.
        first: i64,
        /// Its highest level.
        last: i64,
    },
    /// The compressing threads could not be started.
    #[error("cannot start compressing")]
    Threads(#[source] io::Error),
    /// A content could not be read. The image is as it was before, and can go on.
    #[error("cannot read the content")]
    Read(#[source] io::Error),
    /// A compressor gave up.
    #[error("cannot compress")]
    Compress(#[source] io::Error),
    /// The image's file gave up: the disk, most likely.
    #[error("cannot write the image")]
    Write(#[source] io::Error),
    /// It is of no use to go on after an error.
    #[error("the image was given up after an earlier error")]
    Broken,
    /// A path that cannot be stored.
    #[error("`{path}` {reason}")]
    Path {
        /// The path.
        path: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A hard link to nothing, or to something else than a file or a symlink.
    #[error("`{path}` is a hard link to `{target}`, which is no file")]
    Link {
        /// The link.
        path: String,
        /// Where it leads.
        target: String,
    },
    /// An extended attribute that cannot be stored.
    #[error("the attribute `{name}` of `{path}` {reason}")]
    Xattr {
        /// Whose it is.
        path: String,
        /// What it is called.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// More than the format has numbers for.
    #[error("too large for the format: {0}")]
    TooLarge(&'static str),
}

/// What all of an image has in common.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// The compressor.
    pub compression: Compression,
    /// How much of a file is compressed at once: a power of two from 4 KiB to 1 MiB.
    pub block_size: u32,
}

/// A content in the image that [`Writer::content`] took it into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContentId(pub(super) usize);

/// Something with a path.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Relative to the root, without `.` and `..`. The root's own is empty.
    pub path: String,
    /// Permission bits. Of no meaning for links.
    pub mode: u16,
    /// What it is.
    pub node: Node,
    /// Extended attributes, in any order. Hard links have those of what they lead to.
    pub xattrs: Vec<(String, Vec<u8>)>,
}

/// What can be in a tree. All belongs to 0:0.
#[derive(Debug, Clone)]
pub enum Node {
    /// A folder.
    Directory,
    /// A regular file.
    File(ContentId),
    /// A symbolic link to this target.
    Symlink(String),
    /// Another name of the file or symlink that has this path.
    HardLink(String),
}

/// A complete image.
#[derive(Debug)]
pub struct Written<S> {
    /// The file that holds it.
    pub image: S,
    /// Its length. The file can be longer, with what was written in vain: cut it off.
    pub size: u64,
}

/// What two blocks have in common that are compressed alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Kind {
    compression: Compression,
    block_size: u32,
    shape: Shape,
}

/// What blocks are for. [`super::erofs`] has its contents taken in and compressed here, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// Blocks of any length, one behind the other.
    Squashfs,
    /// Blocks that fill whole ones of [`GRAIN`].
    Erofs,
}

/// The bytes of a block of EROFS.
pub(super) const GRAIN: usize = 4096;

/// The threads that compress, for all images that are written at the same time. A clone is the
/// same threads; they end with the last one.
#[derive(Clone)]
pub struct Pool(Arc<pipeline::Pool<Kind>>);

impl Pool {
    /// Starts so many threads.
    ///
    /// # Errors
    /// [`SquashfsError::Threads`]
    pub fn new(threads: usize) -> Result<Self, SquashfsError> {
        let make = |kind: &Kind| {
            let mut codec = Codec::for_data(kind)?;
            let shape = kind.shape;
            let compress: pipeline::Compress = Box::new(move |block, into| {
                let length = codec.compress(block, into)?;
                Ok(match shape {
                    Shape::Squashfs => length,
                    // It must spare a block, and what begins with a zero looks like padding.
                    Shape::Erofs => length.filter(|length| {
                        length.div_ceil(GRAIN) < block.len().div_ceil(GRAIN) && into[0] != 0
                    }),
                })
            });
            Ok(compress)
        };
        let pool = pipeline::Pool::new(threads, make).map_err(SquashfsError::Threads)?;
        Ok(Self(Arc::new(pool)))
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").finish_non_exhaustive()
    }
}

/// Writes one image, into an `S`.
///
/// Dropping it leaves behind what is no image.
pub struct Writer<S: Read + Write + Seek> {
    contents: Contents<S>,
    options: Options,
}

impl<S: Read + Write + Seek> Writer<S> {
    /// Begins an image in `image`; tails of files wait in `tails`. Both are empty files.
    ///
    /// # Errors
    /// Options that the format does not have; a disk that is full already.
    pub fn new(image: S, tails: S, options: &Options, pool: &Pool) -> Result<Self, SquashfsError> {
        let Options { compression, block_size } = *options;
        if !block_size.is_power_of_two() || !BLOCK_SIZES.contains(&block_size) {
            return Err(SquashfsError::BlockSize(block_size));
        }
        compression.check()?;
        let out = begin(image, options)?;
        Ok(Self {
            contents: Contents::new(out, tails, (options, Shape::Squashfs), pool),
            options: *options,
        })
    }

    /// Reads one file's content to its end. Equal contents are stored once in the end.
    ///
    /// # Errors
    /// [`SquashfsError::Read`], after which the writer can go on without that content; all others
    /// are final.
    pub fn content(&mut self, reader: &mut dyn Read) -> Result<ContentId, SquashfsError> {
        self.contents.add(reader).map(ContentId)
    }

    /// Completes the image; the superblock comes last, so that until then nothing takes it for one.
    ///
    /// `entries` are in the order of the bytes of their paths, each in a folder that is there too;
    /// a root that is not there has mode 0755. A content that no entry has is left out. `time` is
    /// what everything is dated, in seconds since 1970. `other` makes a second empty file: the image
    /// is written there if contents did not come in the order of their paths.
    ///
    /// # Errors
    /// A tree that cannot be stored, or a failing disk.
    pub fn finish(
        self,
        entries: &[Entry],
        time: u32,
        other: impl FnOnce() -> io::Result<S>,
    ) -> Result<Written<S>, SquashfsError> {
        let options = self.options;
        let Options { compression, block_size } = options;
        let order = entries.iter().filter_map(|entry| match entry.node {
            Node::File(ContentId(at)) => Some(at),
            _ => None,
        });
        let other = || begin(other().map_err(SquashfsError::Write)?, &options);
        let (mut out, data, _) = self.contents.finish(order, other)?;
        let tables = tree::tables(entries, &data, compression, time)?;
        let fragments = data.fragments;
        drop((data.stored, data.lengths));
        let Tables { inodes, directories, places, root, xattrs } = tables;

        let inode_table = out.position();
        out.write(&inodes)?;
        let directory_table = out.position();
        out.write(&directories)?;
        drop((inodes, directories));
        let rows: Vec<u8> = fragments.iter().flat_map(|fragment| fragment_row(*fragment)).collect();
        let fragment_table = if rows.is_empty() {
            NO_TABLE
        } else {
            write_table(&mut out, compression, &rows, &[])?
        };
        let rows: Vec<u8> = places.iter().flat_map(|place| place.packed().to_le_bytes()).collect();
        let export_table = write_table(&mut out, compression, &rows, &[])?;
        let id_table = write_table(&mut out, compression, &0u32.to_le_bytes(), &[])?;
        let no_xattrs = xattrs.is_empty();
        let xattr_table = if no_xattrs { NO_TABLE } else { xattrs.write(&mut out)? };
        let used = out.position();
        let padding = vec![0; usize::try_from(used.next_multiple_of(PADDING) - used).unwrap_or(0)];
        out.write(&padding)?;
        let size = out.position();

        let mut flags = flag::EXPORTABLE | flag::DUPLICATES | flag::ALWAYS_FRAGMENTS;
        if compression.options(block_size).is_some() {
            flags |= flag::COMPRESSOR_OPTIONS;
        }
        if fragments.is_empty() {
            flags |= flag::NO_FRAGMENTS;
        }
        if no_xattrs {
            flags |= flag::NO_XATTRS;
        }
        let count =
            |count: usize, what| u32::try_from(count).map_err(|_| SquashfsError::TooLarge(what));
        let mut superblock = Vec::with_capacity(SUPERBLOCK);
        superblock.extend(b"hsqs");
        superblock.extend(count(places.len(), "a tree")?.to_le_bytes());
        superblock.extend(time.to_le_bytes());
        superblock.extend(block_size.to_le_bytes());
        superblock.extend(count(fragments.len(), "too many fragments")?.to_le_bytes());
        let log = u16::try_from(block_size.trailing_zeros()).expect("it has 32 bits");
        // The compressor, the block size again, flags, the number of ids, and the version.
        for field in [compression.id(), log, flags, 1, 4, 0] {
            superblock.extend(field.to_le_bytes());
        }
        for field in [
            root.packed(),
            used,
            id_table,
            xattr_table,
            inode_table,
            directory_table,
            fragment_table,
            export_table,
        ] {
            superblock.extend(field.to_le_bytes());
        }
        debug_assert_eq!(superblock.len(), SUPERBLOCK);
        out.seek(0)?;
        out.write(&superblock)?;
        out.flush()?;
        Ok(Written { image: out.into_inner(), size })
    }
}

/// What comes before the first block. Until there is an image, nothing shall take it for one.
fn begin<S: Write + Seek>(image: S, options: &Options) -> Result<Output<S>, SquashfsError> {
    let mut out = Output::new(image);
    out.seek(0)?;
    out.write(&[0; SUPERBLOCK])?;
    if let Some(options) = options.compression.options(options.block_size) {
        let length = u16::try_from(options.len()).expect("they are a few words");
        out.write(&(length | metadata::RAW).to_le_bytes())?;
        out.write(&options)?;
    }
    Ok(out)
}

const BLOCK_SIZES: std::ops::RangeInclusive<u32> = 4 << 10..=1 << 20;
/// The length of the superblock.
const SUPERBLOCK: usize = 96;
/// Images end at a multiple of this.
const PADDING: u64 = 4096;
/// Where a table is that is not there.
const NO_TABLE: u64 = u64::MAX;

/// What the superblock says of the image.
mod flag {
    /// There are no fragments.
    pub(super) const NO_FRAGMENTS: u16 = 0x0010;
    /// Tails of large files are in fragments too.
    pub(super) const ALWAYS_FRAGMENTS: u16 = 0x0020;
    /// Equal contents are stored once.
    pub(super) const DUPLICATES: u16 = 0x0040;
    /// There is an export table.
    pub(super) const EXPORTABLE: u16 = 0x0080;
    /// There are no extended attributes.
    pub(super) const NO_XATTRS: u16 = 0x0200;
    /// Compressor options follow the superblock.
    pub(super) const COMPRESSOR_OPTIONS: u16 = 0x0400;
}

/// Where a fragment block is, its stored length, and a field without a use.
fn fragment_row((start, length): (u64, u32)) -> [u8; 16] {
    let mut row = [0; 16];
    row[..8].copy_from_slice(&start.to_le_bytes());
    row[8..12].copy_from_slice(&length.to_le_bytes());
    row
}

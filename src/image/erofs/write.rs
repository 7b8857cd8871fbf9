//! Writing an image: what comes before the data and behind it.
//!
//! Owns the superblock, and the order in which the parts are written. Refuses to know how a piece is
//! compressed and how an inode is encoded.

use std::io::{self, Read, Seek, Write};

use sha2::{Digest as _, Sha256};

use super::tree::Layout;
use super::{BLOCK, MAGIC, SUPERBLOCK, compressor, crc32c, feature, word};
use crate::image::squashfs::contents::Contents;
use crate::image::squashfs::output::Output;
use crate::image::squashfs::tree::Plan;
use crate::image::squashfs::{
    Compression, ContentId, Entry, GRAIN, Node, Options, Pool, Shape, SquashfsError, Written,
};

/// How far back lz4 may refer.
const DISTANCE: u16 = u16::MAX;
/// The window of deflate, as a power of two.
const WINDOW: u8 = 15;
/// The smallest window of zstd, which levels are told from.
const SMALLEST: u32 = 10;

/// Writes one image, into an `S`: as [`crate::image::squashfs::Writer`] does it.
///
/// Dropping it leaves behind what is no image.
pub(in crate::image) struct Writer<S: Read + Write + Seek> {
    contents: Contents<S>,
    options: Options,
}

impl<S: Read + Write + Seek> Writer<S> {
    /// Begins an image in `image`; short contents wait in `tails`. Both are empty files.
    pub(in crate::image) fn new(
        image: S,
        tails: S,
        options: &Options,
        pool: &Pool,
    ) -> Result<Self, SquashfsError> {
        options.compression.check()?;
        let out = begin(image)?;
        let contents = Contents::new(out, tails, (options, Shape::Erofs), pool);
        Ok(Self { contents, options: *options })
    }

    /// Reads one file's content to its end. Equal contents are stored once in the end.
    pub(in crate::image) fn content(
        &mut self,
        reader: &mut dyn Read,
    ) -> Result<ContentId, SquashfsError> {
        self.contents.add(reader).map(ContentId)
    }

    /// Completes the image; the superblock comes last. `entries`, `time` and `other` are as for
    /// squashfs.
    pub(in crate::image) fn finish(
        self,
        entries: &[Entry],
        time: u64,
        other: impl FnOnce() -> io::Result<S>,
    ) -> Result<Written<S>, SquashfsError> {
        let Self { contents, options } = self;
        let order = entries.iter().filter_map(|entry| match entry.node {
            Node::File(ContentId(at)) => Some(at),
            _ => None,
        });
        let other = || begin(other().map_err(SquashfsError::Write)?);
        let (mut out, data, mut tails) = contents.finish(order, other)?;
        let implied =
            Entry { path: String::new(), mode: 0o755, node: Node::Directory, xattrs: Vec::new() };
        let root = entries.first().is_none_or(|entry| !entry.path.is_empty()).then_some(&implied);
        let plan = Plan::new(root.into_iter().chain(entries).collect())?;
        let compressor = parameters(&options).0;
        let start = out.position() / BLOCK;
        let layout = Layout::new(&plan, &data, start, (compressor, time))?;
        // The name of the file system: that of all that is told about its files.
        let mut name = Sha256::new_with_prefix("publish erofs\0");
        layout.write(&mut tails, |bytes| {
            name.update(bytes);
            out.write(bytes)
        })?;
        let size = out.position();
        let counted = Counted {
            inodes: plan.inodes as u64,
            root: layout.root()?,
            start: word(start)?,
            blocks: word(size / BLOCK)?,
        };
        let block = Self::superblock(&options, &counted, time, &name.finalize());
        out.seek(0)?;
        out.write(&block)?;
        out.flush()?;
        Ok(Written { image: out.into_inner(), size })
    }

    /// The first block.
    fn superblock(options: &Options, counted: &Counted, time: u64, name: &[u8]) -> Vec<u8> {
        let mut id: [u8; 16] = name[..16].try_into().expect("a digest has more");
        // A UUID of its own kind, version 8.
        id[6] = id[6] & 0x0f | 0x80;
        id[8] = id[8] & 0x3f | 0x80;
        let (compressor, parameters) = parameters(options);
        let mut block = vec![0; GRAIN];
        let mut at = usize::try_from(SUPERBLOCK).expect("it is small");
        let mut put = |bytes: &[u8]| {
            block[at..at + bytes.len()].copy_from_slice(bytes);
            at += bytes.len();
        };
        put(&MAGIC.to_le_bytes());
        put(&[0; 4]);
        put(&(feature::CHECKSUM | feature::DATES).to_le_bytes());
        // The size of a block as a power of two, and no more than the usual superblock.
        put(&[12, 0]);
        put(&counted.root.to_le_bytes());
        put(&counted.inodes.to_le_bytes());
        put(&time.to_le_bytes());
        put(&[0; 4]);
        put(&counted.blocks.to_le_bytes());
        put(&counted.start.to_le_bytes());
        // No attributes are shared, and the volume is called nothing.
        put(&[0; 4]);
        put(&id);
        put(&[0; 16]);
        put(&(feature::PADDED | feature::PARAMETERS).to_le_bytes());
        put(&(1u16 << compressor).to_le_bytes());
        put(&[0; 128 - 86]);
        put(&u16::try_from(parameters.len()).expect("they are a few bytes").to_le_bytes());
        put(&parameters);
        let sum = crc32c(&block[1024..]);
        block[1028..1032].copy_from_slice(&sum.to_le_bytes());
        block
    }
}

/// What the superblock says of the rest.
struct Counted {
    inodes: u64,
    root: u16,
    /// The block in which inodes begin.
    start: u32,
    blocks: u32,
}

/// The compressor's number, and what readers must know of it.
fn parameters(options: &Options) -> (u8, Vec<u8>) {
    let Options { compression, block_size } = *options;
    match compression {
        Compression::Lz4 { .. } => {
            let mut parameters = DISTANCE.to_le_bytes().to_vec();
            let blocks = u16::try_from(u64::from(block_size) / BLOCK).unwrap_or(1);
            parameters.extend(blocks.to_le_bytes());
            parameters.resize(14, 0);
            (compressor::LZ4, parameters)
        }
        Compression::Gzip { .. } => (compressor::DEFLATE, vec![WINDOW, 0, 0, 0, 0, 0]),
        Compression::Zstd { .. } => {
            let window = block_size.ilog2().saturating_sub(SMALLEST);
            let window = u8::try_from(window).expect("it has 32 bits");
            (compressor::ZSTD, vec![0, window, 0, 0, 0, 0])
        }
        Compression::Xz { .. } => unreachable!("the configuration has no such image"),
    }
}

/// What comes before the first piece. Until there is an image, nothing shall take it for one.
fn begin<S: Write + Seek>(image: S) -> Result<Output<S>, SquashfsError> {
    let mut out = Output::new(image);
    out.seek(0)?;
    out.write(&[0; GRAIN])?;
    Ok(out)
}

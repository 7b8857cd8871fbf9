//! Metadata blocks: 8 KiB of inodes, directory entries or table rows each, behind a two-byte length.
//!
//! Owns how a stream of bytes is cut into them, what a place in that stream is called, and the
//! lookup tables made of them. Refuses to know what the bytes mean.

use std::io::{Seek, Write};

use super::SquashfsError;
use super::compress::{Codec, Compression, bound};
use super::output::Output;

/// What a metadata block holds before it is compressed.
pub(super) const BLOCK_SIZE: u32 = 8192;
/// In a block's length: it is stored as it is.
pub(super) const RAW: u16 = 1 << 15;

/// Where something begins in a stream of metadata blocks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Place {
    /// The block's first byte, counted from the first block of the stream.
    pub(super) block: u32,
    /// The offset in that block once it is decompressed.
    pub(super) offset: u16,
}

impl Place {
    /// As tables and the superblock write it.
    pub(super) fn packed(self) -> u64 {
        u64::from(self.block) << 16 | u64::from(self.offset)
    }
}

/// A stream of metadata blocks, kept in memory until it is complete.
pub(super) struct Metadata {
    codec: Codec,
    open: Vec<u8>,
    packed: Vec<u8>,
    blocks: Vec<u8>,
}

impl Metadata {
    pub(super) fn new(compression: Compression) -> Result<Self, SquashfsError> {
        Ok(Self {
            codec: Codec::for_metadata(compression).map_err(SquashfsError::Compress)?,
            open: Vec::with_capacity(BLOCK_SIZE as usize),
            packed: vec![0; bound(BLOCK_SIZE)],
            blocks: Vec::new(),
        })
    }

    /// Where the next byte goes.
    pub(super) fn place(&self) -> Result<Place, SquashfsError> {
        let block = u32::try_from(self.blocks.len())
            .map_err(|_| SquashfsError::TooLarge("4 GiB of metadata"))?;
        let offset = u16::try_from(self.open.len()).expect("an open block has less than 8 KiB");
        Ok(Place { block, offset })
    }

    /// Appends bytes, which may lie across blocks.
    pub(super) fn put(&mut self, mut bytes: &[u8]) -> Result<(), SquashfsError> {
        while !bytes.is_empty() {
            let room = BLOCK_SIZE as usize - self.open.len();
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.open.extend_from_slice(now);
            bytes = later;
            if self.open.len() == BLOCK_SIZE as usize {
                self.close()?;
            }
        }
        Ok(())
    }

    /// Ends the stream and returns its blocks.
    pub(super) fn end(mut self) -> Result<Vec<u8>, SquashfsError> {
        self.close()?;
        Ok(self.blocks)
    }

    fn close(&mut self) -> Result<(), SquashfsError> {
        if self.open.is_empty() {
            return Ok(());
        }
        let packed = self.codec.compress(&self.open, &mut self.packed);
        let (bytes, flag) = match packed.map_err(SquashfsError::Compress)? {
            Some(length) => (&self.packed[..length], 0),
            None => (&self.open[..], RAW),
        };
        let length = u16::try_from(bytes.len()).expect("a block has at most 8 KiB");
        self.blocks.extend((length | flag).to_le_bytes());
        self.blocks.extend_from_slice(bytes);
        self.open.clear();
        Ok(())
    }
}

/// Writes the rows of a table: its metadata blocks, then `head` and where each of them is. Returns
/// where the head and the list are, by which the table is found.
pub(super) fn write_table<W: Write + Seek>(
    out: &mut Output<W>,
    compression: Compression,
    rows: &[u8],
    head: &[u8],
) -> Result<u64, SquashfsError> {
    let start = out.position();
    let mut blocks = Metadata::new(compression)?;
    let mut index = Vec::new();
    for rows in rows.chunks(BLOCK_SIZE as usize) {
        index.extend((start + u64::from(blocks.place()?.block)).to_le_bytes());
        blocks.put(rows)?;
    }
    out.write(&blocks.end()?)?;
    let found_by = out.position();
    out.write(head)?;
    out.write(&index)?;
    Ok(found_by)
}

//! EROFS: a writer that streams and is the same everywhere, and a reader for whatever comes.
//!
//! Owns the layout of such an image. Refuses to know where contents and paths come from, and what
//! files are for.
//!
//! # The format
//! The kernel describes it in `Documentation/filesystems/erofs.rst`, and field by field in
//! `fs/erofs/erofs_fs.h`; all numbers are little-endian, and a block has 4 KiB. What we write, in order:
//!
//! | part | what | module |
//! |---|---|---|
//! | superblock | in the first block, from byte 1024 | `write` |
//! | data | contents, each compressed piece in whole blocks | [`super::squashfs`] |
//! | inodes | with their attributes, lists of pieces, short contents and ends of folders | `tree` |
//! | folders | their blocks that are full | `tree` |
//!
//! Contents are taken in, compressed and put in order by what does that for squashfs. A content that
//! is short stands beside its inode as it is; so does the end of a folder, and where a link leads.
//!
//! No tool of the host has a hand in it, so that the same tree gives the same bytes on every
//! machine. Of what others write, the reader knows all that mkfs.erofs(1) makes by default and by its
//! common options; see [`read`].

mod data;
pub mod read;
#[cfg(test)]
mod tests;
mod tree;
mod write;

use super::squashfs::SquashfsError;
pub(super) use write::Writer;

/// The bytes of a block.
const BLOCK: u64 = super::squashfs::GRAIN as u64;
/// Where the superblock begins, and how.
pub(super) const SUPERBLOCK: u64 = 1024;
pub(super) const MAGIC: u32 = 0xe0f5_e1e2;
/// Inodes begin at multiples of this, and are numbered by it.
const SLOT: u64 = 32;

/// What the superblock says an image needs, or has.
mod feature {
    /// There is a checksum of the superblock.
    pub(super) const CHECKSUM: u32 = 1;
    /// Dates are those of contents.
    pub(super) const DATES: u32 = 2;
    /// What is compressed stands at the end of its blocks.
    pub(super) const PADDED: u32 = 1;
    /// Compressors have parameters behind the superblock, and pieces more than one block.
    pub(super) const PARAMETERS: u32 = 2;
    /// Files are in chunks.
    pub(super) const CHUNKS: u32 = 4;
    /// There are two compressors to a file. The same number stands for other devices.
    pub(super) const SECOND: u32 = 8;
    /// The last piece of a file may stand beside its inode.
    pub(super) const BESIDE: u32 = 16;
    /// The ends of files may be in a file of their own, and pieces be shared.
    pub(super) const FRAGMENTS: u32 = 32;
    /// Names of attributes may have long beginnings.
    pub(super) const PREFIXES: u32 = 64;
}

/// How the bytes of an inode are stored.
mod layout {
    /// In blocks.
    pub(super) const PLAIN: u16 = 0;
    /// In pieces, each with a row of eight bytes for every block of the file.
    pub(super) const PIECES: u16 = 1;
    /// In blocks, but for its end, which is beside the inode.
    pub(super) const BESIDE: u16 = 2;
    /// In pieces, with rows of two or four bytes.
    pub(super) const PACKED_PIECES: u16 = 3;
    /// In chunks of blocks.
    pub(super) const CHUNKS: u16 = 4;
}

/// What a block of a file is to its piece.
mod row {
    /// The piece begins here, and is not compressed.
    pub(super) const PLAIN: u16 = 0;
    /// The piece begins here.
    pub(super) const HEAD: u16 = 1;
    /// It began before.
    pub(super) const REST: u16 = 2;
    /// As [`HEAD`], by the second compressor.
    pub(super) const SECOND: u16 = 3;
    /// In the first distance of the first [`REST`]: instead of it the number of blocks of the piece.
    pub(super) const BLOCKS: u16 = 1 << 11;
}

/// Files may have pieces of several blocks.
const LARGE: u16 = 2;

/// What stands for a compressor.
mod compressor {
    pub(super) const LZ4: u8 = 0;
    pub(super) const LZMA: u8 = 1;
    pub(super) const DEFLATE: u8 = 2;
    pub(super) const ZSTD: u8 = 3;
    pub(super) const NAMES: [&str; 4] = ["lz4", "lzma", "deflate", "zstd"];
}

/// The longest name of an entry, and of an attribute with its beginning.
const NAME: usize = 255;

/// What names of attributes begin with, and the number that stands for it.
const PREFIXES: [(&str, u8); 3] = [("user.", 1), ("trusted.", 4), ("security.", 6)];

/// A number of blocks, or of bytes in a short inode, as it is written.
fn word(number: u64) -> Result<u32, SquashfsError> {
    u32::try_from(number).map_err(|_| SquashfsError::TooLarge("more than 16 TiB"))
}

/// CRC-32C as the kernel computes it, without the last inversion. It is over one block of an image, so
/// no table is worth its while.
fn crc32c(bytes: &[u8]) -> u32 {
    bytes.iter().fold(u32::MAX, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| {
            sum >> 1 ^ if sum & 1 == 1 { 0x82f6_3b78 } else { 0 }
        })
    })
}

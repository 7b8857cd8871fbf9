//! One block in, one smaller block out: the compressors that squashfs knows.
//!
//! Owns the levels, the parameters behind them, what an image says of them in its compressor
//! options, and the contexts that one thread reuses for every block. Refuses to know what a block
//! holds, where it goes and which thread asks.

use std::io;

use liblzma::stream::{Action, Check, Filters, LzmaOptions, Status, Stream};
use lz4::block::CompressionMode;
use zstd::zstd_safe::{CParameter, Strategy};

use super::metadata;
use super::{Kind, Shape, SquashfsError};

/// How blocks are made small.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Fast to read; level 1 to 22.
    Zstd {
        /// The level.
        level: i32,
    },
    /// Smallest and slowest to read.
    Xz {
        /// The preset, 0 to 9; the dictionary is always as large as a block.
        level: u32,
        /// A filter for machine code; each block is stored with or without it, whichever is smaller.
        bcj: Option<Bcj>,
    },
    /// What every kernel can read, compressed by libdeflate; level 1 to 12.
    Gzip {
        /// The level.
        level: u32,
    },
    /// Fastest to read, and largest.
    Lz4 {
        /// The same format, searched for longer.
        hc: bool,
    },
}

/// Filters that make jumps in machine code compress better.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bcj {
    /// x86, 32 and 64 bits.
    X86,
    /// ARM, 32 bits.
    Arm,
    /// ARM in thumb mode.
    ArmThumb,
    /// ARM, 64 bits. Kernels before 6.10 cannot read it.
    Arm64,
    /// `RISC-V`. Kernels before 6.10 cannot read it.
    RiscV,
}

/// The level that readers take for granted when an image has no compressor options.
const ZSTD_DEFAULT: i32 = 15;
const GZIP_DEFAULT: u32 = 9;
/// The highest level of the C library, and the one that `mksquashfs -Xhc` takes.
const LZ4_HC: i32 = 12;
/// Over this block size zstd's levels turn to tables made for long streams.
const ZSTD_LONG: u32 = 256 << 10;

impl Compression {
    /// The number in the superblock.
    pub(super) fn id(self) -> u16 {
        match self {
            Self::Gzip { .. } => 1,
            Self::Xz { .. } => 4,
            Self::Lz4 { .. } => 5,
            Self::Zstd { .. } => 6,
        }
    }

    /// Refuses levels that the libraries do not have.
    pub(in crate::image) fn check(self) -> Result<(), SquashfsError> {
        let (compressor, level, range) = match self {
            Self::Zstd { level } => ("zstd", i64::from(level), 1..=22),
            Self::Xz { level, .. } => ("xz", i64::from(level), 0..=9),
            Self::Gzip { level } => ("gzip", i64::from(level), 1..=12),
            Self::Lz4 { .. } => return Ok(()),
        };
        if range.contains(&level) {
            return Ok(());
        }
        Err(SquashfsError::Level { compressor, level, first: *range.start(), last: *range.end() })
    }

    /// What follows the superblock to tell readers, and the curious, how blocks were made. `None`
    /// where the format's defaults say the same.
    pub(super) fn options(self, block_size: u32) -> Option<Vec<u8>> {
        match self {
            // lz4 alone always has them: version 1 of the format ("legacy"), and whether hc made it.
            Self::Lz4 { hc } => Some(words(&[1, u32::from(hc)])),
            Self::Zstd { level } => (level != ZSTD_DEFAULT).then(|| level.to_le_bytes().to_vec()),
            Self::Gzip { level } => (level < GZIP_DEFAULT).then(|| {
                // Then the window, 15 bits, and no strategies: libdeflate has no others.
                let mut options = level.to_le_bytes().to_vec();
                options.extend([15, 0, 0, 0]);
                options
            }),
            // The kernel makes its decoder for this dictionary, and metadata needs one of 8 KiB.
            Self::Xz { bcj, .. } => {
                bcj.map(|bcj| words(&[block_size.max(metadata::BLOCK_SIZE), bcj.flag()]))
            }
        }
    }
}

impl Bcj {
    fn flag(self) -> u32 {
        match self {
            Self::X86 => 0x01,
            Self::Arm => 0x08,
            Self::ArmThumb => 0x10,
            Self::Arm64 => 0x40,
            Self::RiscV => 0x80,
        }
    }
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// The context of one thread.
pub(super) enum Codec {
    Zstd(zstd::bulk::Compressor<'static>),
    // An encoder cannot be used twice and its filters cannot change threads: each block makes its
    // own, which takes no time that could be measured.
    Xz {
        level: u32,
        dictionary: u32,
        bcj: Option<Bcj>,
        second: Vec<u8>,
    },
    /// Within the frame of zlib, or bare, as EROFS has it.
    Gzip {
        deflate: libdeflater::Compressor,
        bare: bool,
    },
    Lz4(CompressionMode),
}

impl Codec {
    /// For blocks of files.
    pub(super) fn for_data(kind: &Kind) -> io::Result<Self> {
        let Kind { compression, block_size, shape } = *kind;
        let mut codec = Self::new(compression, block_size, true)?;
        if let (Self::Gzip { bare, .. }, Shape::Erofs) = (&mut codec, shape) {
            *bare = true;
        }
        if let (Self::Zstd(zstd), Compression::Zstd { level: level @ 15..=17 }) =
            (&mut codec, compression)
            && block_size > ZSTD_LONG
        {
            // In the table for long streams these levels search binary trees at length without
            // looking for the cheapest way through what they find. An optimal parser that searches
            // little takes the same time and makes smaller blocks.
            let log = block_size.trailing_zeros();
            for parameter in [
                CParameter::WindowLog(log),
                CParameter::ChainLog(log + 1),
                CParameter::HashLog(log),
                CParameter::SearchLog(if level > 15 { 3 } else { 2 }),
                CParameter::MinMatch(3),
                CParameter::TargetLength(32),
                CParameter::Strategy(Strategy::ZSTD_btopt),
            ] {
                zstd.set_parameter(parameter)?;
            }
        }
        Ok(codec)
    }

    /// For the small blocks that hold inodes, directories and tables.
    pub(super) fn for_metadata(compression: Compression) -> io::Result<Self> {
        Self::new(compression, metadata::BLOCK_SIZE, false)
    }

    fn new(compression: Compression, block_size: u32, data: bool) -> io::Result<Self> {
        Ok(match compression {
            Compression::Zstd { level } => Self::Zstd(zstd::bulk::Compressor::new(level)?),
            Compression::Xz { level, bcj } => {
                let bcj = bcj.filter(|_| data);
                let second = if bcj.is_some() { vec![0; bound(block_size)] } else { Vec::new() };
                Self::Xz { level, dictionary: block_size, bcj, second }
            }
            Compression::Gzip { level } => {
                let level = i32::try_from(level).unwrap_or(i32::MAX);
                let level = libdeflater::CompressionLvl::new(level)
                    .map_err(|_| io::Error::other("libdeflate has no such level"))?;
                Self::Gzip { deflate: libdeflater::Compressor::new(level), bare: false }
            }
            Compression::Lz4 { hc: true } => Self::Lz4(CompressionMode::HIGHCOMPRESSION(LZ4_HC)),
            Compression::Lz4 { hc: false } => Self::Lz4(CompressionMode::DEFAULT),
        })
    }

    /// Compresses a block into the start of `into`, which has room for [`bound`] bytes. `None` if
    /// that did not make it smaller: then it is stored as it is.
    ///
    /// There is always room for the worst case, so that an error is never just "too large" and
    /// cannot silently make an image of uncompressed blocks.
    pub(super) fn compress(&mut self, block: &[u8], into: &mut [u8]) -> io::Result<Option<usize>> {
        let length = match self {
            Self::Zstd(zstd) => zstd.compress_to_buffer(block, into)?,
            Self::Gzip { deflate, bare: true } => deflate
                .deflate_compress(block, into)
                .map_err(|_| io::Error::other("libdeflate found no room"))?,
            Self::Gzip { deflate, bare: false } => deflate
                .zlib_compress(block, into)
                .map_err(|_| io::Error::other("libdeflate found no room"))?,
            Self::Lz4(mode) => lz4::block::compress_to_buffer(block, Some(*mode), false, into)?,
            Self::Xz { level, dictionary, bcj, second } => {
                let first = xz(*level, *dictionary, None, block, into)?;
                if bcj.is_some() {
                    let filtered = xz(*level, *dictionary, *bcj, block, second)?;
                    if filtered < first {
                        into[..filtered].copy_from_slice(&second[..filtered]);
                    }
                    filtered.min(first)
                } else {
                    first
                }
            }
        };
        Ok((length < block.len()).then_some(length))
    }
}

/// Room for a block that no compressor can make smaller.
pub(super) fn bound(block_size: u32) -> usize {
    let block_size = block_size as usize;
    block_size + block_size / 16 + 1024
}

fn xz(
    level: u32,
    dictionary: u32,
    bcj: Option<Bcj>,
    block: &[u8],
    into: &mut [u8],
) -> io::Result<usize> {
    let mut lzma = LzmaOptions::new_preset(level)?;
    lzma.dict_size(dictionary);
    let mut filters = Filters::new();
    match bcj {
        None => &mut filters,
        Some(Bcj::X86) => filters.x86(),
        Some(Bcj::Arm) => filters.arm(),
        Some(Bcj::ArmThumb) => filters.arm_thumb(),
        Some(Bcj::Arm64) => filters.arm64(),
        Some(Bcj::RiscV) => filters.riscv(),
    }
    .lzma2(&lzma);
    // The kernel's decoder knows no check but CRC32.
    let mut stream = Stream::new_stream_encoder(&filters, Check::Crc32)?;
    match stream.process(block, into, Action::Finish)? {
        Status::StreamEnd => {
            usize::try_from(stream.total_out()).map_err(|_| io::Error::other("too much output"))
        }
        _ => Err(io::Error::other("liblzma did not come to an end")),
    }
}

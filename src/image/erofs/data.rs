//! Reading contents, however they are stored.
//!
//! Owns the ways from a place in a file to the bytes there. Holds one piece of a content at a time, and
//! believes nothing: what a piece may have, packed and unpacked, is bounded as in the kernel.

use std::io::{self, Read};

use liblzma::stream::{Filters, LzmaOptions, Stream};

use super::read::{Image, Inode, broken, number, short, unknown};
use super::{compressor, layout, row};

/// The most bytes of a piece, packed and unpacked.
const MOST_PACKED: u64 = 1 << 20;
const MOST_UNPACKED: u64 = 12 << 20;
/// How much of what is not compressed is read at once.
const AT_ONCE: u64 = 64 << 10;
/// The bytes of a row, of what comes before rows, and before rows of eight bytes.
const ROW: u64 = 8;
const HEADER: u64 = 8;
/// The most bytes of an image that may be unpacked in vain: pieces that files share have more than each of
/// them wants.
const MOST_IN_VAIN: u64 = 1 << 30;
const BROKEN: &str = "the list of its pieces is broken";
/// A chunk without anything in it.
const HOLE: u64 = 0xffff_ffff;

/// What the rows of a file have in common.
mod advice {
    /// Some rows have two bytes; of rows of eight, that there are no rows.
    pub(super) const TWO_BYTES: u16 = 1;
    /// Pieces of the first compressor, and of the second one, may have several blocks.
    pub(super) const LARGE: u16 = 2;
    pub(super) const LARGE_SECOND: u16 = 4;
    /// The last piece is beside the inode.
    pub(super) const BESIDE: u16 = 8;
    /// What is not compressed is where it would be in its block.
    pub(super) const INTERLACED: u16 = 16;
    /// The end is in another file.
    pub(super) const FRAGMENT: u16 = 32;
}

/// The bytes of an inode.
pub(in crate::image) struct Content<'i> {
    image: &'i Image,
    inode: Inode,
    way: Way,
    /// What was read last, where it begins in the file, and where the next byte is that is asked for.
    piece: Vec<u8>,
    piece_at: u64,
    position: u64,
    /// Rows that were read last, and where they are.
    rows: (u64, Vec<u8>),
    /// The file with the ends of others, where this has a part of it.
    other: Option<Box<Content<'i>>>,
}

/// How contents are stored.
#[derive(Clone, Copy)]
enum Way {
    /// In blocks; so many bytes of it, and the rest beside the inode.
    Blocks { full: u64 },
    /// In chunks of so many bytes, as a power of two. Their places are told in so many bytes each.
    Chunks { bits: u32, width: u64 },
    /// In pieces.
    Pieces(Pieces),
    /// All of it in the file with the ends of others, from there on.
    Elsewhere(u64),
}

/// What the pieces of a file have in common.
#[derive(Clone, Copy)]
struct Pieces {
    advice: u16,
    /// The two compressors.
    by: [u8; 2],
    /// The bytes of the file that a row stands for, as a power of two.
    bits: u32,
    /// How many bytes of the last piece are beside the inode.
    beside: u64,
    /// Where the end is in the file with the ends of others.
    elsewhere: u64,
}

/// What a row tells.
struct Row {
    kind: u16,
    /// Where in its part of the file a piece begins.
    offset: u64,
    /// The block of a piece that begins.
    block: u64,
    /// How many blocks a piece has that began before, where that is told.
    blocks: Option<u64>,
    /// Where the rows end that stand together with it.
    end: u64,
}

impl<'i> Content<'i> {
    pub(super) fn new(image: &'i Image, inode: &Inode) -> io::Result<Self> {
        let bits = image.block_bits;
        let way = match inode.layout {
            // Neither have bytes of their own.
            _ if !matches!(inode.kind(), '-' | 'd' | 'l') => {
                return Err(broken("it is neither a file nor a link"));
            }
            layout::PLAIN => Way::Blocks { full: inode.size },
            layout::BESIDE => Way::Blocks { full: inode.size >> bits << bits },
            layout::CHUNKS => {
                if inode.place >> 6 != 0 {
                    return Err(unknown("its chunks are of an unknown form"));
                }
                let width = if inode.place & 0x20 != 0 { 8 } else { 4 };
                Way::Chunks { bits: bits + (inode.place & 0x1f), width }
            }
            layout::PIECES | layout::PACKED_PIECES => pieces(image, inode)?,
            _ => return Err(unknown("it is stored in an unknown form")),
        };
        let content = Self {
            image,
            inode: inode.clone(),
            way,
            piece: Vec::new(),
            piece_at: 0,
            position: 0,
            rows: (0, Vec::new()),
            other: None,
        };
        // A few bytes cannot stand for a file without an end.
        let size = inode.size;
        let sound = match way {
            Way::Blocks { full } => image.has(u64::from(inode.place) << bits, full) || full == 0,
            Way::Chunks { bits, width } => {
                image.has(inode.end, size.div_ceil(1 << bits).saturating_mul(width))
            }
            Way::Pieces(Pieces { bits, .. }) => {
                let width = if inode.layout == layout::PIECES { ROW } else { 2 };
                image.has(inode.end, size.div_ceil(1 << bits).saturating_mul(width))
            }
            Way::Elsewhere(_) => size <= MOST_UNPACKED,
        };
        if sound { Ok(content) } else { Err(broken("it has less than it says")) }
    }

    /// Goes to a place in the file.
    pub(super) fn seek(&mut self, to: u64) -> io::Result<()> {
        self.position = to;
        if to > self.inode.size {
            return Err(broken("it ends before that"));
        }
        Ok(())
    }

    /// Reads what is at the position.
    fn fill(&mut self) -> io::Result<()> {
        let (at, left) = (self.position, self.inode.size - self.position);
        match self.way {
            Way::Blocks { full } if at < full => {
                let place = u64::from(self.inode.place) << self.image.block_bits;
                self.take(place + at, (full - at).min(AT_ONCE))
            }
            Way::Blocks { full } => {
                let place = self.inode.end + (at - full);
                self.take(place, left)
            }
            Way::Chunks { bits, width } => {
                let mut bytes = vec![0; usize::try_from(width).unwrap_or(8)];
                let first = self.inode.end.next_multiple_of(width);
                self.image.read(first + (at >> bits) * width, &mut bytes)?;
                let block = if width == 8 {
                    if number(&bytes, 0, 4) != 0 && number(&bytes, 4, 4) != HOLE {
                        return Err(unknown("parts of it are on other devices"));
                    }
                    number(&bytes, 4, 4)
                } else {
                    number(&bytes, 0, 4)
                };
                let within = at & ((1 << bits) - 1);
                let now = left.min((1 << bits) - within).min(AT_ONCE);
                if block == HOLE {
                    self.piece = vec![0; usize::try_from(now).unwrap_or(0)];
                    self.piece_at = at;
                    return Ok(());
                }
                self.take((block << self.image.block_bits) + within, now)
            }
            Way::Elsewhere(from) => self.take_elsewhere(at, from + at, left),
            Way::Pieces(pieces) => self.take_piece(pieces),
        }
    }

    /// Reads bytes that are in the image as they are.
    fn take(&mut self, from: u64, length: u64) -> io::Result<()> {
        self.piece_at = self.position;
        self.piece.resize(usize::try_from(length).unwrap_or(0), 0);
        self.image.read(from, &mut self.piece)
    }

    /// Reads bytes of the file with the ends of others.
    fn take_elsewhere(&mut self, at: u64, from: u64, length: u64) -> io::Result<()> {
        if length > MOST_UNPACKED {
            return Err(broken(BROKEN));
        }
        let other = match &mut self.other {
            Some(other) => other,
            none => {
                let packed = self.image.packed()?;
                let content = Content::new(self.image, &packed)?;
                if packed.number == self.inode.number || matches!(content.way, Way::Elsewhere(_)) {
                    return Err(broken(BROKEN));
                }
                none.insert(Box::new(content))
            }
        };
        // No more than is asked for soon; what it unpacked for that is still there for the next time.
        let now = length.min(AT_ONCE);
        other.seek(from)?;
        self.piece_at = at;
        self.piece.clear();
        other.take(now).read_to_end(&mut self.piece)?;
        if self.piece.len() as u64 != now {
            return Err(broken(BROKEN));
        }
        Ok(())
    }

    /// Unpacks the piece at the position.
    fn take_piece(&mut self, pieces: Pieces) -> io::Result<()> {
        let Pieces { advice, by, bits, beside, elsewhere } = pieces;
        let wrong = || broken(BROKEN);
        let (size, position) = (self.inode.size, self.position);
        let rows = size.div_ceil(1 << bits);
        let most = MOST_UNPACKED >> bits;
        // Back to where it begins.
        let mut at = position >> bits;
        let first = loop {
            let row = self.row(pieces, at)?;
            if row.kind != row::REST && (at << bits) + row.offset <= position {
                break row;
            }
            at = at.checked_sub(1).ok_or_else(wrong)?;
            if (position >> bits) - at > most {
                return Err(wrong());
            }
        };
        let start = (at << bits) + first.offset;
        // On to where the next one begins.
        let (mut next, mut end) = (at + 1, size);
        let mut blocks = None;
        while next < rows {
            let row = self.row(pieces, next)?;
            if row.kind != row::REST {
                end = (next << bits) + row.offset;
                break;
            }
            if next == at + 1 {
                blocks = row.blocks;
            }
            next += 1;
            if next - at > most + 1 {
                return Err(wrong());
            }
        }
        let length =
            end.checked_sub(start).filter(|length| *length <= MOST_UNPACKED && *length > 0);
        let length = length.ok_or_else(wrong)?;
        // The end itself may be told as one more that begins.
        let is_last = end >= size;
        if is_last && advice & advice::FRAGMENT != 0 {
            let into = position - start;
            return self.take_elsewhere(position, elsewhere + into, length - into);
        }
        let large = match first.kind {
            row::HEAD => advice & advice::LARGE != 0,
            _ => advice & advice::LARGE_SECOND != 0,
        };
        let (from, packed) = if is_last && beside > 0 {
            (self.row(pieces, rows - 1)?.end, beside)
        } else {
            let one = 1 << bits >> self.image.block_bits;
            let blocks = if large { blocks.unwrap_or(one) } else { one };
            (first.block << self.image.block_bits, blocks << self.image.block_bits)
        };
        if packed > MOST_PACKED || packed == 0 {
            return Err(wrong());
        }
        let mut bytes = vec![0; usize::try_from(packed).map_err(|_| wrong())?];
        self.image.read(from, &mut bytes)?;
        let length = usize::try_from(length).map_err(|_| wrong())?;
        self.piece_at = start;
        if first.kind == row::PLAIN {
            if bytes.len() < length {
                return Err(wrong());
            }
            if advice & advice::INTERLACED != 0 && !(is_last && beside > 0) {
                let offset =
                    usize::try_from(start).unwrap_or(0) & ((1 << self.image.block_bits) - 1);
                bytes.rotate_left(offset);
            }
            bytes.truncate(length);
            self.piece = bytes;
            return Ok(());
        }
        let by = by[usize::from(first.kind == row::SECOND)];
        let bytes = if self.image.padded {
            let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
            &bytes[zeros..]
        } else {
            return Err(unknown(
                "it is compressed as the first EROFS was, which nothing here reads",
            ));
        };
        let in_vain = |bytes: usize| self.image.is_in_vain(bytes as u64) <= MOST_IN_VAIN;
        self.piece = unpack(by, bytes, length, in_vain)
            .map_err(|error| broken(format!("a piece of it cannot be unpacked ({error})")))?;
        Ok(())
    }

    /// A row, by its number.
    fn row(&mut self, pieces: Pieces, at: u64) -> io::Result<Row> {
        let begin = self.inode.end.next_multiple_of(8) + HEADER;
        if self.inode.layout == layout::PIECES {
            let place = begin + ROW + at * ROW;
            let bytes = self.rows(place, ROW)?;
            let back = short(&bytes, 4);
            return Ok(Row {
                kind: short(&bytes, 0) & 3,
                offset: short(&bytes, 2).into(),
                block: number(&bytes, 4, 4),
                blocks: (back & row::BLOCKS != 0).then_some((back & !row::BLOCKS).into()),
                end: place + ROW,
            });
        }
        // Rows of four bytes up to a multiple of 32, then as many of two as fill up such, then of
        // four again.
        let rows = self.inode.size.div_ceil(1 << pieces.bits);
        let before = (32 - begin % 32) / 4 % 8;
        let two_bytes = pieces.advice & advice::TWO_BYTES != 0 && before < rows;
        let twos = if two_bytes { (rows - before) / 16 * 16 } else { 0 };
        let (place, width) = match at {
            at if at < before => (begin + at * 4, 4),
            at if at - before < twos => (begin + before * 4 + (at - before) * 2, 2),
            at => (begin + before * 4 + twos * 2 + (at - before - twos) * 4, 4),
        };
        let count: u64 = if width == 4 { 2 } else { 16 };
        let together = count * width;
        if width == 2 && pieces.bits > 12 || pieces.bits > 14 {
            return Err(broken(BROKEN));
        }
        let from = place / together * together;
        let bytes = self.rows(from, together)?;
        let this = (place - from) / width;
        let large = pieces.advice & advice::LARGE != 0;
        packed_row(&bytes, this, count, pieces.bits.max(12), large)
            .map(|row| Row { end: from + together, ..row })
            .ok_or_else(|| broken(BROKEN))
    }

    /// The bytes of rows, through those that were read last.
    fn rows(&mut self, at: u64, length: u64) -> io::Result<Vec<u8>> {
        const WINDOW: u64 = 4096;
        let (begin, bytes) = &mut self.rows;
        let is_here = at >= *begin && at + length <= *begin + bytes.len() as u64;
        if !is_here {
            let window = if self.image.has(at, WINDOW) { WINDOW } else { length };
            *begin = at;
            bytes.resize(usize::try_from(window).unwrap_or(0), 0);
            self.image.read(at, bytes)?;
        }
        let from = usize::try_from(at - *begin).unwrap_or(0);
        Ok(bytes[from..from + usize::try_from(length).unwrap_or(0)].to_vec())
    }
}

/// One of `count` rows that stand together, before the block that they all count from.
fn packed_row(bytes: &[u8], this: u64, count: u64, low: u32, large: bool) -> Option<Row> {
    let each = (bytes.len() as u64 - 4) * 8 / count;
    let read = |at: u64| {
        let bit = each * at;
        let at = usize::try_from(bit / 8).unwrap_or(usize::MAX);
        // The last ones reach into what is behind them, which does not count.
        let value =
            number(&[bytes.get(at..).unwrap_or_default(), &[0; 4]].concat(), 0, 4) >> (bit & 7);
        let kind = u16::try_from(value >> low & 3).unwrap_or_default();
        (value & ((1 << low) - 1), kind)
    };
    let told = |low: u64| {
        let mark = u64::from(row::BLOCKS);
        (low & mark != 0).then_some(low & !mark)
    };
    let (value, kind) = read(this);
    if kind == row::REST {
        return Some(Row { kind, offset: 0, block: 0, blocks: told(value), end: 0 });
    }
    // How many blocks the pieces have that begin before it.
    let mut blocks = u64::from(!large);
    let mut at = this;
    while at > 0 {
        at -= 1;
        let (value, kind) = read(at);
        if kind != row::REST {
            blocks += 1;
        } else if !large {
            if value > at {
                break;
            }
            at -= value;
            blocks += 1;
        } else if let Some(told) = told(value) {
            blocks += told;
            if at == 0 {
                break;
            }
            at -= 1;
        } else {
            let back = value.checked_sub(2)?;
            if back > at {
                break;
            }
            at -= back;
        }
    }
    let base = number(bytes, bytes.len() - 4, 4);
    Some(Row { kind, offset: value, block: base + blocks, blocks: None, end: 0 })
}

impl Read for Content<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.position >= self.inode.size || into.is_empty() {
            return Ok(0);
        }
        let is_here = |content: &Self| {
            let at = content.position.checked_sub(content.piece_at)?;
            usize::try_from(at).ok().filter(|at| *at < content.piece.len())
        };
        if is_here(self).is_none() {
            self.fill()?;
        }
        let at = is_here(self).ok_or_else(|| broken(BROKEN))?;
        let left = usize::try_from(self.inode.size - self.position).unwrap_or(usize::MAX);
        let now = into.len().min(self.piece.len() - at).min(left);
        into[..now].copy_from_slice(&self.piece[at..at + now]);
        self.position += now as u64;
        Ok(now)
    }
}

/// What stands before the rows of a file.
fn pieces(image: &Image, inode: &Inode) -> io::Result<Way> {
    let mut header = [0; 8];
    image.read(inode.end.next_multiple_of(8), &mut header)?;
    if header[7] >> 7 == 1 {
        return Ok(Way::Elsewhere(number(&header, 0, 8) & !(1 << 63)));
    }
    let advice = short(&header, 4);
    if inode.layout == layout::PIECES && advice & advice::TWO_BYTES != 0 {
        return Err(unknown("its pieces are listed in an unknown form"));
    }
    Ok(Way::Pieces(Pieces {
        advice,
        by: [header[6] & 15, header[6] >> 4],
        bits: image.block_bits + u32::from(header[7] & 7),
        beside: if advice & advice::BESIDE != 0 { number(&header, 2, 2) } else { 0 },
        elsewhere: number(&header, 0, 4),
    }))
}

/// Unpacks the beginning of a piece.
///
/// `in_vain` is told of what is unpacked and not wanted, and says whether that may go on.
fn unpack(
    by: u8,
    bytes: &[u8],
    length: usize,
    in_vain: impl Fn(usize) -> bool,
) -> io::Result<Vec<u8>> {
    let most = usize::try_from(MOST_UNPACKED).unwrap_or(length);
    let mut out = vec![0; length];
    match by {
        compressor::LZ4 => {
            // A piece that files share may have more than this one has of it.
            let into = |room: usize, out: &mut Vec<u8>| {
                out.resize(room, 0);
                let size = i32::try_from(room).map_err(io::Error::other)?;
                lz4::block::decompress_to_buffer(bytes, Some(size), out)
            };
            let unpacked = match into(length, &mut out) {
                Ok(unpacked) => unpacked,
                Err(_) if !in_vain(most - length) => {
                    return Err(io::Error::other("files share more than any honest ones"));
                }
                Err(_) => into(most, &mut out)?,
            };
            if unpacked < length {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            out.truncate(length);
        }
        compressor::LZMA => {
            // Its first byte, which is always zero, has the properties in its place, inverted.
            let [properties, rest @ ..] = bytes else {
                return Err(io::ErrorKind::UnexpectedEof.into());
            };
            let properties = u32::from(!properties);
            let mut options = LzmaOptions::new_preset(6)?;
            options.literal_context_bits(properties % 9);
            options.literal_position_bits(properties / 9 % 5);
            options.position_bits(properties / 45);
            options.dict_size(8 << 20);
            let stream = Stream::new_raw_decoder(Filters::new().lzma1(&options))?;
            let from = (&[0u8][..]).chain(rest);
            liblzma::read::XzDecoder::new_stream(from, stream).read_exact(&mut out)?;
        }
        compressor::DEFLATE => flate2::read::DeflateDecoder::new(bytes).read_exact(&mut out)?,
        compressor::ZSTD => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(bytes)?;
            decoder.window_log_max(MOST_PACKED.ilog2())?;
            decoder.read_exact(&mut out)?;
        }
        other => return Err(io::Error::other(format!("compressor {other}"))),
    }
    Ok(out)
}

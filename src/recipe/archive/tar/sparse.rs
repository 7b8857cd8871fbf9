//! Sparse files: where their data lies between the holes, and the whole file made of it.
//!
//! Knows the old GNU form (type `S`, map in the headers) and the form 1.0 (pax header, map before
//! the data), which GNU tar and bsdtar write today. Refuses to know the forms 0.0 and 0.1.

use std::io::{self, Read};

use ::tar::{GnuExtSparseHeader, GnuSparseHeader, Header};

use super::pax::{self, Sparse};
use super::{ArchiveError, BLOCK, EXTENSION_MAX, Stream, read_block};
use crate::recipe::archive::Format;
use crate::recipe::archive::sniff::Part;

/// Where the data of a sparse file goes, checked: pieces are in order, do not overlap, end within
/// the file, and are together as long as the data in the archive.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Map {
    /// Offset and length of each piece, in bytes of the unfolded file.
    pieces: Vec<(u64, u64)>,
    real_size: u64,
    folded: u64,
}

impl Map {
    /// Reads the map of the old GNU form, whose rest lies between the header and the data. The
    /// inner nothing means that there is no usable map.
    pub(super) fn of_gnu(
        header: &Header,
        stream: &mut Stream,
        size: u64,
    ) -> Result<Option<Map>, ArchiveError> {
        let Some(gnu) = header.as_gnu() else {
            return Ok(None);
        };
        let Ok(real_size) = gnu.real_size() else {
            return Ok(None);
        };
        let mut pieces = Vec::new();
        if !add_pieces(&mut pieces, &gnu.sparse) {
            return Ok(None);
        }
        let mut more = gnu.is_extended();
        let mut read = 0;
        while more {
            let mut block = GnuExtSparseHeader::new();
            read += BLOCK as u64;
            if read > EXTENSION_MAX {
                return Ok(None);
            }
            if !read_block(stream, block.as_mut_bytes())? {
                return Err(ArchiveError::Truncated(Format::Tar));
            }
            if !add_pieces(&mut pieces, &block.sparse) {
                return Ok(None);
            }
            more = block.is_extended();
        }
        Ok(Map::checked(pieces, real_size, size))
    }

    /// Reads the map of the form 1.0: decimal lines, first their number, then offset and length
    /// of each piece, filled up to a whole block. `size` includes the map.
    pub(super) fn of_pax(
        sparse: &Sparse,
        stream: &mut Stream,
        size: u64,
    ) -> Result<Option<Map>, ArchiveError> {
        let (Some(real_size), (1, 0)) = (sparse.real_size, sparse.version) else {
            return Ok(None);
        };
        let mut numbers = Vec::new();
        let mut line = Vec::new();
        let mut read = 0;
        let mut block = [0; BLOCK];
        while !is_whole(&numbers) {
            read += BLOCK as u64;
            if read > size.min(EXTENSION_MAX) {
                return Ok(None);
            }
            if !read_block(stream, &mut block)? {
                return Err(ArchiveError::Truncated(Format::Tar));
            }
            for byte in block {
                if is_whole(&numbers) {
                    break;
                }
                if byte != b'\n' {
                    line.push(byte);
                    continue;
                }
                let Some(number) = pax::number(&line) else {
                    return Ok(None);
                };
                numbers.push(number);
                line.clear();
            }
        }
        let pieces = numbers[1..].chunks_exact(2).map(|pair| (pair[0], pair[1])).collect();
        Ok(Map::checked(pieces, real_size, size - read))
    }

    fn checked(pieces: Vec<(u64, u64)>, real_size: u64, folded: u64) -> Option<Map> {
        let mut end = 0u64;
        let mut data = 0u64;
        for (offset, length) in &pieces {
            if *offset < end {
                return None;
            }
            end = offset.checked_add(*length)?;
            data = data.checked_add(*length)?;
        }
        (end <= real_size && data == folded).then_some(Map { pieces, real_size, folded })
    }

    /// Bytes of the file with its holes.
    pub(super) fn unfolded(&self) -> u64 {
        self.real_size
    }

    /// Bytes of data in the archive, behind the map.
    pub(super) fn folded(&self) -> u64 {
        self.folded
    }
}

/// Whether all lines of a map of the form 1.0 have been read.
fn is_whole(numbers: &[u64]) -> bool {
    numbers.first().is_some_and(|pieces| (numbers.len() as u64 - 1) / 2 >= *pieces)
}

/// Adds the used fields of a header, and returns whether all of them are numbers.
fn add_pieces(pieces: &mut Vec<(u64, u64)>, fields: &[GnuSparseHeader]) -> bool {
    for field in fields.iter().filter(|field| !field.is_empty()) {
        let (Ok(offset), Ok(length)) = (field.offset(), field.length()) else {
            return false;
        };
        pieces.push((offset, length));
    }
    true
}

/// Reads a sparse file with its holes filled by zeros.
pub(super) struct Unfold<'a> {
    data: Part<&'a mut Stream>,
    map: Map,
    /// The piece at or behind `at`.
    piece: usize,
    /// Bytes read so far.
    at: u64,
}

impl<'a> Unfold<'a> {
    pub(super) fn new(data: Part<&'a mut Stream>, map: Map) -> Unfold<'a> {
        Unfold { data, map, piece: 0, at: 0 }
    }
}

impl Read for Unfold<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let (in_data, end) = loop {
            match self.map.pieces.get(self.piece) {
                Some((offset, length)) if self.at >= offset + length => self.piece += 1,
                Some((offset, length)) if self.at >= *offset => break (true, offset + length),
                Some((offset, _)) => break (false, *offset),
                None => break (false, self.map.real_size),
            }
        };
        let want = usize::try_from(end - self.at).unwrap_or(usize::MAX).min(into.len());
        let got = if in_data {
            self.data.read(&mut into[..want])?
        } else {
            into[..want].fill(0);
            want
        };
        self.at += got as u64;
        Ok(got)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_that_lie_are_refused() {
        let map = |pieces: &[(u64, u64)], real, folded| Map::checked(pieces.to_vec(), real, folded);
        assert!(map(&[(0, 5), (10, 5)], 20, 10).is_some());
        assert!(map(&[(20, 0)], 20, 0).is_some());
        assert!(map(&[], 20, 0).is_some());
        assert!(map(&[(0, 5), (4, 5)], 20, 10).is_none(), "overlap");
        assert!(map(&[(10, 5), (0, 5)], 20, 10).is_none(), "order");
        assert!(map(&[(0, 5)], 4, 5).is_none(), "behind the end");
        assert!(map(&[(0, 5)], 20, 6).is_none(), "data left over");
        assert!(map(&[(0, 5)], 20, 4).is_none(), "data missing");
        assert!(map(&[(u64::MAX, 5)], u64::MAX, 5).is_none(), "overflow");
    }
}

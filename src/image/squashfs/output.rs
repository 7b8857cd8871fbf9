//! The files being written: the image, and what waits to get into it.
//!
//! Owns the positions in them. Refuses to know what is written.

use std::io::{Read, Seek, SeekFrom, Write};

use super::SquashfsError;
use super::pipeline::Buffer;

/// Tails are written this many bytes at a time: there may be one to each of a hundred thousand files.
const TOGETHER: usize = 256 << 10;

/// A writer that knows where it is.
pub(in crate::image) struct Output<W> {
    inner: W,
    position: u64,
}

impl<W: Write + Seek> Output<W> {
    pub(in crate::image) fn new(inner: W) -> Self {
        Self { inner, position: 0 }
    }

    pub(in crate::image) fn position(&self) -> u64 {
        self.position
    }

    pub(in crate::image) fn write(&mut self, bytes: &[u8]) -> Result<(), SquashfsError> {
        self.inner.write_all(bytes).map_err(SquashfsError::Write)?;
        self.position += bytes.len() as u64;
        Ok(())
    }

    /// Goes to a place; what is written there next replaces what there was.
    pub(in crate::image) fn seek(&mut self, to: u64) -> Result<(), SquashfsError> {
        self.inner.seek(SeekFrom::Start(to)).map_err(SquashfsError::Write)?;
        self.position = to;
        Ok(())
    }

    pub(in crate::image) fn flush(&mut self) -> Result<(), SquashfsError> {
        self.inner.flush().map_err(SquashfsError::Write)
    }
}

impl<S: Read + Write + Seek> Output<S> {
    /// Reads a part of what was written, piece by piece; what is written next goes where it would
    /// have gone.
    pub(in crate::image) fn read(
        &mut self,
        from: u64,
        length: u64,
        buffer: &mut [u8],
        mut then: impl FnMut(&[u8]) -> Result<(), SquashfsError>,
    ) -> Result<(), SquashfsError> {
        let position = self.position;
        self.seek(from)?;
        let mut left = length;
        while left > 0 {
            let now = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
            self.inner.read_exact(&mut buffer[..now]).map_err(SquashfsError::Write)?;
            then(&buffer[..now])?;
            left -= now as u64;
        }
        self.seek(position)
    }

    /// The file itself.
    pub(in crate::image) fn into_inner(self) -> S {
        self.inner
    }
}

/// The ends of files, one behind the other.
pub(in crate::image) struct Tails<S> {
    file: Output<S>,
    unwritten: Vec<u8>,
}

impl<S: Read + Write + Seek> Tails<S> {
    pub(in crate::image) fn new(file: S) -> Self {
        Self { file: Output::new(file), unwritten: Vec::new() }
    }

    /// Keeps a tail; returns where.
    pub(in crate::image) fn push(&mut self, tail: &[u8]) -> Result<u64, SquashfsError> {
        let at = self.file.position() + self.unwritten.len() as u64;
        self.unwritten.extend_from_slice(tail);
        if self.unwritten.len() >= TOGETHER {
            self.write()?;
        }
        Ok(at)
    }

    fn write(&mut self) -> Result<(), SquashfsError> {
        self.file.write(&self.unwritten)?;
        self.unwritten.clear();
        Ok(())
    }

    /// Reads one back. None can be added afterwards.
    pub(in crate::image) fn read(
        &mut self,
        at: u64,
        length: u64,
        into: &mut Buffer,
    ) -> Result<(), SquashfsError> {
        self.write()?;
        self.file.seek(at)?;
        into.fill(&mut (&mut self.file.inner).take(length)).map_err(SquashfsError::Write)?;
        if into.len() as u64 != length {
            return Err(SquashfsError::Write(std::io::ErrorKind::UnexpectedEof.into()));
        }
        Ok(())
    }
}

//! The file being written.
//!
//! Owns the position in it. Refuses to know what is written.

use std::io::{Seek, SeekFrom, Write};

use super::SquashfsError;

/// A writer that knows where it is.
pub(super) struct Output<W> {
    inner: W,
    position: u64,
}

impl<W: Write + Seek> Output<W> {
    pub(super) fn new(inner: W) -> Self {
        Self { inner, position: 0 }
    }

    pub(super) fn position(&self) -> u64 {
        self.position
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), SquashfsError> {
        self.inner.write_all(bytes).map_err(SquashfsError::Write)?;
        self.position += bytes.len() as u64;
        Ok(())
    }

    /// Goes to a place; what is written there next replaces what there was.
    pub(super) fn seek(&mut self, to: u64) -> Result<(), SquashfsError> {
        self.inner.seek(SeekFrom::Start(to)).map_err(SquashfsError::Write)?;
        self.position = to;
        Ok(())
    }

    pub(super) fn flush(&mut self) -> Result<(), SquashfsError> {
        self.inner.flush().map_err(SquashfsError::Write)
    }
}

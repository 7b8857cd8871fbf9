//! The file of an image under way, seen as what its file system takes it for: from its own first byte.
//!
//! Owns where in the file that is, and hashes what is written if hashes are wanted. Refuses to know
//! what a file system is. Hashing follows the writing: what is written over what was there before
//! begins anew from there, and what replaces the very beginning is the header, which comes last.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;

use super::verity::{BLOCK, Leaves, Salted, Tree};

/// A file from a place on.
#[derive(Debug)]
pub(in crate::image) struct Medium {
    file: File,
    base: u64,
    position: u64,
    leaves: Option<Leaves>,
    /// Whether the first block is another one than when it was hashed.
    patched: bool,
}

impl Medium {
    /// The whole file, which is empty.
    pub(in crate::image) fn whole(file: File) -> Self {
        Self { file, base: 0, position: 0, leaves: None, patched: false }
    }

    /// What begins at `base`, and is hashed.
    pub(super) fn hashed(mut file: File, base: u64, salted: Salted) -> io::Result<Self> {
        file.seek(SeekFrom::Start(base))?;
        let leaves = Some(Leaves::new(salted));
        Ok(Self { file, base, position: 0, leaves, patched: false })
    }

    /// The file, and the tree over what was written, if it was hashed.
    pub(in crate::image) fn into_parts(self) -> io::Result<(File, Option<Tree>)> {
        let Self { file, base, leaves, patched, .. } = self;
        let Some(mut leaves) = leaves else { return Ok((file, None)) };
        if patched {
            let mut block = [0; BLOCK];
            file.read_exact_at(&mut block, base)?;
            leaves.replace_first(&block);
        }
        Ok((file, Some(leaves.tree())))
    }

    /// Hashes what was just written at a place.
    fn hash(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        let Self { file, base, leaves: Some(leaves), patched, .. } = self else { return Ok(()) };
        let end = leaves.end();
        if at == 0 && end >= BLOCK as u64 && bytes.len() <= BLOCK {
            *patched = true;
            return Ok(());
        }
        if at > end {
            return Err(io::Error::other("nothing was written before it"));
        }
        if at < end {
            leaves.cut(at, |from, into| file.read_exact_at(into, *base + from))?;
        }
        leaves.append(bytes);
        Ok(())
    }
}

impl Read for Medium {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(into)?;
        self.position += read as u64;
        Ok(read)
    }
}

impl Write for Medium {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hash(self.position, &bytes[..written])?;
        self.position += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Seek for Medium {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let to = match to {
            SeekFrom::Start(to) => Some(to),
            SeekFrom::Current(by) => self.position.checked_add_signed(by),
            // Where it ends is not known before it does.
            SeekFrom::End(_) => None,
        };
        let absolute = to.and_then(|to| to.checked_add(self.base));
        let (Some(to), Some(absolute)) = (to, absolute) else {
            return Err(io::ErrorKind::Unsupported.into());
        };
        self.file.seek(SeekFrom::Start(absolute))?;
        self.position = to;
        Ok(to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is written, and what is read back of it, whole blocks.
    fn check(writes: &[(u64, usize, u8)]) {
        let salted = Salted::new(b"salt");
        let mut medium =
            Medium::hashed(tempfile::tempfile().unwrap(), 20480, salted.clone()).unwrap();
        let mut expected = Vec::new();
        for (at, length, byte) in writes {
            let at_byte = usize::try_from(*at).unwrap();
            medium.seek(SeekFrom::Start(*at)).unwrap();
            medium.write_all(&vec![*byte; *length]).unwrap();
            // The header alone leaves what is behind it.
            if *at > 0 {
                expected.truncate(at_byte);
            }
            expected.resize(expected.len().max(at_byte + length), 0);
            expected[at_byte..at_byte + length].fill(*byte);
        }
        let (_, tree) = medium.into_parts().unwrap();
        let tree = tree.unwrap();
        let other = Tree::of(&mut &expected[..], b"salt").unwrap();
        assert_eq!(tree.blocks, (expected.len() / BLOCK) as u64);
        assert_eq!(tree.root, other.root);
        assert!(tree.bytes().eq(other.bytes()));
    }

    #[test]
    fn what_was_written_is_what_is_hashed_whatever_the_order() {
        check(&[(0, 96, 0), (96, 8096, 1), (0, 96, 2)]);
        check(&[(0, 96, 0), (96, 4000, 1), (0, 96, 2)]);
        // Taken back within the open block, across hashed ones, and to the very first.
        check(&[(0, 96, 0), (96, 10_000, 1), (9000, 3288, 3), (0, 96, 2)]);
        check(&[(0, 96, 0), (96, 100_000, 1), (5000, 3192, 3), (0, 96, 2)]);
        check(&[(0, 96, 0), (96, 100_000, 1), (96, 100, 3), (196, 8092 - 96, 4), (0, 96, 2)]);
        check(&[(0, 96, 0), (96, 1_000_000, 1), (4096, 600 << 10, 3), (0, 96, 2)]);
    }
}

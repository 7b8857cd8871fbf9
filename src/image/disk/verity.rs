//! dm-verity: a tree of hashes over the blocks of a file system, of which the root vouches for all.
//!
//! Owns the format that veritysetup(8) writes and the kernel reads (`Documentation/admin-guide/
//! device-mapper/verity.rst`): SHA-256 over blocks of 4 KiB, each behind the salt, then over the
//! blocks of those hashes, up to one. Refuses to know where in a file any of it lies, and what a root
//! hash is worth.
//!
//! A file system is hashed while it is written: 32 bytes are kept of each 4 KiB, and nothing of what is
//! on the disk already is read again but the one block with the header, which comes last.

use std::io;

use sha2::{Digest as _, Sha256};

/// The bytes of a block of data or of hashes.
pub const BLOCK: usize = 4096;
/// The same, as it is written down.
const SIZE: [u8; 4] = 4096u32.to_le_bytes();
/// The bytes of a hash.
const HASH: usize = 32;
/// The bytes of the superblock that mean something.
const SUPERBLOCK: usize = 512;
/// How the superblock begins: with the version of the format, and that of the hashing (salt first).
const MAGIC: &[u8; 16] = b"verity\0\0\x01\0\0\0\x01\0\0\0";
/// The most bytes of a salt.
const MOST_SALT: usize = 256;

/// What vouches for a file system.
pub type RootHash = [u8; HASH];

/// A hash that has taken in the salt.
#[derive(Debug, Clone)]
pub struct Salted(Sha256);

impl Salted {
    /// With this salt.
    #[must_use]
    pub fn new(salt: &[u8]) -> Self {
        Self(Sha256::new_with_prefix(salt))
    }

    /// The hash of a block.
    #[must_use]
    pub fn hash(&self, block: &[u8]) -> RootHash {
        self.0.clone().chain_update(block).finalize().into()
    }
}

/// The hashes of blocks that come one after another.
#[derive(Debug)]
pub(super) struct Leaves {
    salted: Salted,
    hashes: Vec<u8>,
    /// The beginning of a block of which there is no hash yet.
    open: Vec<u8>,
}

impl Leaves {
    pub(super) fn new(salted: Salted) -> Self {
        Self { salted, hashes: Vec::new(), open: Vec::with_capacity(BLOCK) }
    }

    /// How many bytes were taken in.
    pub(super) fn end(&self) -> u64 {
        (self.hashes.len() / HASH * BLOCK + self.open.len()) as u64
    }

    /// Takes in what comes next.
    pub(super) fn append(&mut self, mut bytes: &[u8]) {
        if !self.open.is_empty() {
            let now = bytes.len().min(BLOCK - self.open.len());
            self.open.extend_from_slice(&bytes[..now]);
            bytes = &bytes[now..];
            if self.open.len() < BLOCK {
                return;
            }
            self.hashes.extend(self.salted.hash(&self.open));
            self.open.clear();
        }
        let mut blocks = bytes.chunks_exact(BLOCK);
        for block in &mut blocks {
            self.hashes.extend(self.salted.hash(block));
        }
        self.open.extend_from_slice(blocks.remainder());
    }

    /// Forgets what comes behind this place. `read` gives what is before it in its block, if that was
    /// hashed already: from where, and into what.
    pub(super) fn cut(
        &mut self,
        end: u64,
        read: impl FnOnce(u64, &mut [u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        let end = usize::try_from(end).map_err(io::Error::other)?;
        let (blocks, rest) = (end / BLOCK, end % BLOCK);
        if blocks < self.hashes.len() / HASH {
            self.hashes.truncate(blocks * HASH);
            self.open.resize(rest, 0);
            read((blocks * BLOCK) as u64, &mut self.open)?;
        } else {
            self.open.truncate(rest);
        }
        Ok(())
    }

    /// The first block is another one than it was when it came.
    pub(super) fn replace_first(&mut self, block: &[u8]) {
        let hash = self.salted.hash(block);
        if let Some(first) = self.hashes.get_mut(..HASH) {
            first.copy_from_slice(&hash);
        }
    }

    /// The tree over whole blocks.
    pub(super) fn tree(mut self) -> Tree {
        debug_assert!(self.open.is_empty(), "a file system ends with a block");
        let blocks = (self.hashes.len() / HASH) as u64;
        let mut levels = Vec::new();
        while self.hashes.len() > HASH {
            let mut level = self.hashes;
            level.resize(level.len().next_multiple_of(BLOCK), 0);
            let above = level.chunks_exact(BLOCK).flat_map(|block| self.salted.hash(block));
            self.hashes = above.collect();
            levels.push(level);
        }
        let root = self.hashes.try_into().unwrap_or_default();
        levels.reverse();
        Tree { root, blocks, levels }
    }
}

/// A tree, the highest level first.
#[derive(Debug)]
pub struct Tree {
    /// The root hash.
    pub root: RootHash,
    /// How many blocks it is over.
    pub blocks: u64,
    levels: Vec<Vec<u8>>,
}

impl Tree {
    /// The tree over what a reader gives, whole blocks.
    ///
    /// # Errors
    /// That of the reader.
    pub fn of(reader: &mut dyn io::Read, salt: &[u8]) -> io::Result<Self> {
        let mut leaves = Leaves::new(Salted::new(salt));
        let mut piece = vec![0; 64 * BLOCK];
        loop {
            match reader.read(&mut piece) {
                Ok(0) => return Ok(leaves.tree()),
                Ok(read) => leaves.append(&piece[..read]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Its bytes, as they stand behind the superblock.
    pub fn bytes(&self) -> impl Iterator<Item = &[u8]> {
        self.levels.iter().map(Vec::as_slice)
    }

    /// How many bytes it has with a superblock.
    #[must_use]
    pub fn size(&self) -> u64 {
        (BLOCK + self.levels.iter().map(Vec::len).sum::<usize>()) as u64
    }
}

/// What stands before a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Superblock {
    pub(super) id: [u8; 16],
    /// How many blocks there are of data.
    pub(super) blocks: u64,
    pub(super) salt: Vec<u8>,
}

impl Superblock {
    /// A whole block.
    pub(super) fn render(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(BLOCK);
        out.extend(MAGIC);
        out.extend(self.id);
        out.extend(b"sha256");
        out.resize(64, 0);
        out.extend(SIZE);
        out.extend(SIZE);
        out.extend(self.blocks.to_le_bytes());
        let salt = u16::try_from(self.salt.len()).expect("a salt is short");
        out.extend(salt.to_le_bytes());
        out.extend([0; 6]);
        out.extend(&self.salt);
        out.resize(BLOCK, 0);
        out
    }

    /// Reads one; why not, if it is none that can be checked.
    pub(super) fn parse(block: &[u8]) -> Result<Self, &'static str> {
        let block = block.get(..SUPERBLOCK).ok_or("its hash tree is cut short")?;
        if !block.starts_with(MAGIC) {
            return Err("its hash tree does not begin like one");
        }
        if !block[32..].starts_with(b"sha256\0") {
            return Err("its hash tree is not of SHA-256");
        }
        if block[64..68] != SIZE || block[68..72] != SIZE {
            return Err("its hash tree is not over blocks of 4 KiB");
        }
        let blocks = u64::from_le_bytes(block[72..80].try_into().map_err(|_| "it is cut short")?);
        let length = usize::from(u16::from_le_bytes([block[80], block[81]]));
        if length > MOST_SALT {
            return Err("its salt is longer than any");
        }
        let id = block[16..32].try_into().map_err(|_| "it is cut short")?;
        Ok(Self { id, blocks, salt: block[88..88 + length].to_vec() })
    }
}

/// How many blocks each level has over so many blocks of data, the highest first.
pub(super) fn levels(blocks: u64) -> Vec<u64> {
    let mut levels = Vec::new();
    let mut below = blocks;
    while below > 1 {
        below = below.div_ceil((BLOCK / HASH) as u64);
        levels.push(below);
    }
    levels.reverse();
    levels
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_those_of_the_tree() {
        for blocks in [1, 2, 127, 128, 129, 128 * 128, 128 * 128 + 1] {
            let mut leaves = Leaves::new(Salted::new(b""));
            leaves.hashes = vec![1; blocks * HASH];
            let tree = leaves.tree();
            let levels = levels(blocks as u64);
            let sizes: Vec<u64> = tree.bytes().map(|level| (level.len() / BLOCK) as u64).collect();
            assert_eq!(sizes, levels, "{blocks}");
            assert_eq!(tree.size(), (1 + levels.iter().sum::<u64>()) * BLOCK as u64);
        }
    }

    #[test]
    fn a_superblock_is_read_as_it_was_written() {
        let superblock = Superblock { id: [3; 16], blocks: 752, salt: vec![5; 32] };
        assert_eq!(Superblock::parse(&superblock.render()), Ok(superblock.clone()));
        let broken = |at: usize, byte: u8| {
            let mut bytes = superblock.render();
            bytes[at] = byte;
            Superblock::parse(&bytes).is_err()
        };
        // Its name, its version, the hash, the sizes of blocks, a salt of 512 bytes.
        assert!(
            [(0, 0), (8, 2), (35, b'5'), (64, 1), (68, 1), (81, 2)]
                .iter()
                .all(|(at, byte)| broken(*at, *byte))
        );
        assert!(Superblock::parse(b"verity").is_err());
    }
}

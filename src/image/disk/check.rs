//! Whether a disk image is what its root hash says, block by block, and who signed that.
//!
//! Owns what is compared with what, and how a difference is told: by its offset in the file. Refuses to
//! trust any of it: sizes are checked before anything is read, and one block is in memory at a time,
//! with one of hashes for each level.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use serde::Serialize;

use super::designation::READ_ONLY;
use super::gpt::{self, Partition};
use super::signature::{self, Signed, hex};
use super::verity::{self, BLOCK, RootHash, Salted, Superblock};
use super::{BASE, Disk, GRAIN, derived};
use crate::config::verity::Certificate;

/// The most differences that are told one by one.
const MOST_TOLD: usize = 8;
/// How much is read at once.
const PIECE: usize = 64 * BLOCK;

/// What protects a disk image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verity {
    /// The root hash, in hexadecimal digits.
    pub root_hash: String,
    /// How many blocks of 4 KiB it is over.
    pub blocks: u64,
    /// Who signed it; `None` if nobody did, or it does not hold.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signed: Option<Signed>,
    /// Whether every block was compared.
    pub compared: bool,
}

/// How closely it is looked at.
#[derive(Debug, Clone, Copy)]
pub struct How<'a> {
    /// Whether every block is compared with its hash.
    pub blocks: bool,
    /// Of these, one must have signed it, if there are any.
    pub certificates: &'a [Certificate],
}

impl Disk {
    /// What protects it, if anything does, and what is wrong with it.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn check(&self, file: &File, how: How<'_>) -> io::Result<(Option<Verity>, Vec<String>)> {
        let mut problems = Vec::new();
        let Some(hashes) = &self.hashes else {
            if self.signature.is_some() {
                problems.push("it has a signature, but no hash tree".to_owned());
            } else if !how.certificates.is_empty() {
                problems.push("it has neither a hash tree nor a signature".to_owned());
            }
            return Ok((None, problems));
        };
        // What a node takes for the root hash, unless somebody tells it another.
        let mut root: RootHash = [0; 32];
        root[..16].copy_from_slice(&self.data.id);
        root[16..].copy_from_slice(&hashes.id);
        let ours = self.table.id == derived(&root, "disk");
        let signed = self.signed(file, &root, how, ours)?.unwrap_or_else(|problem| {
            problems.push(problem);
            None
        });
        let mut block = vec![0; BLOCK.min(usize::try_from(length(hashes)).unwrap_or(BLOCK))];
        file.read_exact_at(&mut block, hashes.at.start)?;
        let superblock = match Superblock::parse(&block) {
            Ok(superblock) => superblock,
            Err(problem) => {
                problems.push(problem.to_owned());
                return Ok((None, problems));
            }
        };
        let levels = verity::levels(superblock.blocks);
        let needed = levels.iter().try_fold(1u64, |sum, level| sum.checked_add(*level));
        let sizes = [&self.data, hashes].map(|part| length(part) / BLOCK as u64);
        if ours {
            // Every byte of it is known.
            problems.extend(self.outside(file)?);
            if (superblock.blocks, needed) != (sizes[0], Some(sizes[1])) {
                problems.push("its partitions were made larger".to_owned());
            }
            let expected = Superblock { id: derived(&root, "hashes"), ..superblock.clone() };
            if expected.render() != block {
                let at = hashes.at.start;
                problems.push(format!("the beginning of its hash tree, at byte {at}, was changed"));
            }
            let parts = [Some(&self.data), Some(hashes), self.signature.as_ref()];
            if parts.into_iter().flatten().any(|part| part.flags != READ_ONLY) {
                problems.push("its partitions were made writable".to_owned());
            }
        }
        if superblock.blocks > sizes[0] || needed.is_none_or(|needed| needed > sizes[1]) {
            problems.push("its hash tree is not over its file system".to_owned());
            return Ok((None, problems));
        }
        if how.blocks {
            let salted = Salted::new(&superblock.salt);
            let mut walk = Walk { file, salted, wrong: Vec::new(), count: 0 };
            walk.tree(root, &levels, hashes, (&self.data, superblock.blocks))?;
            problems.extend(walk.told());
        }
        let (blocks, compared) = (superblock.blocks, how.blocks);
        Ok((Some(Verity { root_hash: hex(&root), blocks, signed, compared }), problems))
    }

    /// Who signed it, if anybody did; why that is not to be believed, or why there is nobody.
    fn signed(
        &self,
        file: &File,
        root: &RootHash,
        how: How<'_>,
        ours: bool,
    ) -> io::Result<Result<Option<Signed>, String>> {
        let Some(partition) = &self.signature else {
            let needless = how.certificates.is_empty();
            let none = || "it has no signature".to_owned();
            return Ok(needless.then_some(None).ok_or_else(none));
        };
        if length(partition) > signature::LONGEST {
            return Ok(Err("its signature is longer than any".to_owned()));
        }
        let mut bytes = vec![0; usize::try_from(length(partition)).unwrap_or(0)];
        file.read_exact_at(&mut bytes, partition.at.start)?;
        Ok(signature::check(&bytes, root, how.certificates, ours).map(Some))
    }

    /// What stands outside of all partitions of an image of ours: the table, again at the end, and
    /// zeros.
    fn outside(&self, file: &File) -> io::Result<Vec<String>> {
        let parts = [Some(&self.data), self.hashes.as_ref(), self.signature.as_ref()];
        let ends = parts.into_iter().flatten().map(|part| part.at.end);
        let end = ends.max().unwrap_or(0);
        let size = (end + gpt::BEHIND).next_multiple_of(GRAIN);
        if self.size != size {
            return Ok(vec![format!("it has {} bytes instead of {size}", self.size)]);
        }
        let (mut before, behind) = self.table.render(size);
        before.resize(usize::try_from(BASE).unwrap_or(before.len()), 0);
        let room = usize::try_from(size - gpt::BEHIND - end).unwrap_or(0);
        let behind = [vec![0; room], behind].concat();
        let mut problems = Vec::new();
        for (expected, at) in [(before, 0), (behind, end)] {
            let mut found = vec![0; expected.len()];
            file.read_exact_at(&mut found, at)?;
            if let Some(wrong) = expected.iter().zip(&found).position(|(a, b)| a != b) {
                let at = at + wrong as u64;
                problems.push(format!("its partition table is not what it should be at byte {at}"));
            }
        }
        Ok(problems)
    }
}

fn length(partition: &Partition) -> u64 {
    partition.at.end - partition.at.start
}

/// A tree that is compared from its root down.
struct Walk<'f> {
    file: &'f File,
    salted: Salted,
    wrong: Vec<String>,
    count: usize,
}

impl Walk<'_> {
    fn tree(
        &mut self,
        root: RootHash,
        levels: &[u64],
        hashes: &Partition,
        (data, blocks): (&Partition, u64),
    ) -> io::Result<()> {
        let mut at = hashes.at.start + BLOCK as u64;
        // Where the hashes are that a level is compared with; those of the highest are the root.
        let mut above = None;
        for level in levels {
            self.level("the hash tree", root, above, at, *level)?;
            above = Some(at);
            at += level * BLOCK as u64;
        }
        self.level("the file system", root, above, data.at.start, blocks)
    }

    /// Compares so many blocks from a place on with the hashes at another one.
    fn level(
        &mut self,
        what: &str,
        root: RootHash,
        above: Option<u64>,
        start: u64,
        blocks: u64,
    ) -> io::Result<()> {
        let mut piece = vec![0; PIECE];
        let mut hashes = vec![0; PIECE / BLOCK * root.len()];
        let per_piece = (PIECE / BLOCK) as u64;
        let mut first = 0;
        while first < blocks {
            let now = usize::try_from(per_piece.min(blocks - first)).unwrap_or(0);
            let from = start + first * BLOCK as u64;
            let piece = &mut piece[..now * BLOCK];
            self.file.read_exact_at(piece, from)?;
            let hashes = &mut hashes[..now * root.len()];
            match above {
                Some(above) => {
                    self.file.read_exact_at(hashes, above + first * root.len() as u64)?;
                }
                None => hashes.copy_from_slice(&root.repeat(now)),
            }
            let compared = piece.chunks_exact(BLOCK).zip(hashes.chunks_exact(root.len()));
            for (number, (block, expected)) in compared.enumerate() {
                if self.salted.hash(block) != expected {
                    let at = from + (number * BLOCK) as u64;
                    self.count += 1;
                    if self.wrong.len() < MOST_TOLD {
                        self.wrong.push(format!(
                            "the block of {what} at byte {at} is not the one that was hashed"
                        ));
                    }
                }
            }
            first += now as u64;
        }
        Ok(())
    }

    fn told(mut self) -> Vec<String> {
        let more = self.count - self.wrong.len();
        if more > 0 {
            self.wrong.push(format!("{more} more blocks are not those that were hashed"));
        }
        self.wrong
    }
}

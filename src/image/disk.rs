//! Disk images that protect themselves: a file system, the tree of hashes over it and a signature of
//! the root hash, as partitions of one file (a Discoverable Disk Image).
//!
//! Owns the layout of the file, and what all of it is derived from: the bytes of the file system and
//! the file's name decide everything but the signature. Refuses to know what the file system is.
//!
//! | part | where | module |
//! |---|---|---|
//! | protective MBR, partition table | from the first byte | [`gpt`] |
//! | the file system | from byte 20,480 | [`medium`] |
//! | its hash tree | behind it | [`verity`] |
//! | the signature | behind that, if there is one | [`signature`] |
//! | the partition table again | at the end | [`gpt`] |
//!
//! UUIDs of types are in [`designation`]; [`check`] is the way back.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use sha2::{Digest as _, Sha256};
use thiserror::Error;

use crate::name::{Arch, FileName};

pub mod check;
mod designation;
mod gpt;
pub(super) mod medium;
pub mod signature;
pub mod verity;

use designation::{READ_ONLY, Role};
use gpt::{GptError, Partition, Table, Uuid};
use medium::Medium;
use signature::{Seal, SealError};
use verity::{RootHash, Salted, Superblock, Tree};

/// Parts begin at multiples of this: a page, and a block of the hash tree.
const GRAIN: u64 = 4096;
/// Where the file system begins.
const BASE: u64 = gpt::BEFORE.next_multiple_of(GRAIN);

/// A disk that could not be completed.
#[derive(Debug, Error)]
pub enum DiskError {
    /// The file cannot be written.
    #[error("cannot write the partitions")]
    Write(#[from] io::Error),
    /// The root hash cannot be signed.
    #[error("cannot sign the root hash")]
    Seal(#[from] SealError),
}

/// What an image is protected with.
#[derive(Debug)]
pub struct Protection {
    arch: Arch,
    salt: [u8; 32],
    seal: Option<Seal>,
}

impl Protection {
    /// For an image of this name and architecture. The salt must be there before the first byte of the
    /// image is, so it comes from the name.
    #[must_use]
    pub fn new(name: &FileName, arch: Arch, seal: Option<Seal>) -> Self {
        let salt = Sha256::new_with_prefix("publish verity salt\0").chain_update(name.as_str());
        Self { arch, salt: salt.finalize().into(), seal }
    }

    /// Where the file system is written, in an empty file.
    pub(super) fn medium(&self, file: File) -> io::Result<Medium> {
        Medium::hashed(file, BASE, Salted::new(&self.salt))
    }

    /// Completes the file behind a file system: its tree, the signature, the tables. The first table comes last,
    /// so that until then nothing takes it for an image.
    pub(super) fn complete(&self, file: &File, tree: &Tree) -> Result<(), DiskError> {
        let Self { arch, salt, seal } = self;
        let root = &tree.root;
        let data = BASE..BASE + tree.blocks * verity::BLOCK as u64;
        let hashes = data.end..data.end + tree.size();
        let [first, second] = halves(root);
        let mut parts = vec![(Role::Data, data.clone(), first), (Role::Hashes, hashes, second)];

        let superblock =
            Superblock { id: derived(root, "hashes"), blocks: tree.blocks, salt: salt.to_vec() };
        let mut at = data.end;
        // What was written in vain behind it must not be seen between the parts.
        file.set_len(at)?;
        let superblock = superblock.render();
        for bytes in std::iter::once(&superblock[..]).chain(tree.bytes()) {
            file.write_all_at(bytes, at)?;
            at += bytes.len() as u64;
        }
        if let Some(seal) = seal {
            let signature = seal.statement(root)?;
            file.write_all_at(&signature, at)?;
            let end = at + (signature.len() as u64).next_multiple_of(GRAIN);
            parts.push((Role::Signature, at..end, derived(root, "signature")));
            at = end;
        }
        let size = (at + gpt::BEHIND).next_multiple_of(GRAIN);
        let partitions = parts.into_iter().map(|(role, at, id)| Partition {
            kind: designation::kind(*arch, role),
            id,
            at,
            flags: READ_ONLY,
            name: designation::name(*arch, role),
        });
        let table = Table { id: derived(root, "disk"), partitions: partitions.collect() };
        let (before, behind) = table.render(size);
        file.set_len(size)?;
        file.write_all_at(&behind, size - gpt::BEHIND)?;
        file.write_all_at(&before, 0)?;
        Ok(())
    }
}

/// The two halves of a root hash: which data and which hashes belong together, to who has the root hash alone.
fn halves(root: &RootHash) -> [Uuid; 2] {
    let (first, second) = root.split_at(16);
    [first, second].map(|half| half.try_into().expect("a half has sixteen bytes"))
}

/// A UUID of its own kind (version 8) for something of this root hash.
fn derived(root: &RootHash, what: &str) -> Uuid {
    let hash = Sha256::new_with_prefix("publish ").chain_update(what).chain_update(root);
    let mut id: Uuid = hash.finalize()[..16].try_into().expect("it has thirty-two bytes");
    id[6] = id[6] & 0x0f | 0x80;
    id[8] = id[8] & 0x3f | 0x80;
    id
}

/// The partitions of a disk image that belong together.
#[derive(Debug, Clone)]
pub struct Disk {
    size: u64,
    table: Table,
    arch: Arch,
    data: Partition,
    hashes: Option<Partition>,
    signature: Option<Partition>,
}

impl Disk {
    /// Reads the partition table of a file of so many bytes. `None` if it has none; why not, if it has
    /// none that makes sense, or there is nothing in it that an extension could be in.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn find(file: &File, size: u64) -> io::Result<Result<Option<Self>, String>> {
        let table = match Table::read(file, size) {
            Ok(Some(table)) => table,
            Ok(None) => return Ok(Ok(None)),
            Err(GptError::Disk(error)) => return Err(error),
            Err(error) => return Ok(Err(error.to_string())),
        };
        let of = |wanted: Role, machine: Option<Arch>| {
            let mut found = table.partitions.iter().filter_map(|partition| {
                let (arch, role) = designation::role(partition.kind)?;
                let fits = role == wanted && machine.is_none_or(|machine| machine == arch);
                fits.then_some((arch, partition.clone()))
            });
            (found.next(), found.next())
        };
        let (arch, data) = match of(Role::Data, None) {
            (Some(found), None) => found,
            (None, _) => return Ok(Err("no partition of it is a root file system".to_owned())),
            _ => return Ok(Err("several partitions of it are root file systems".to_owned())),
        };
        let mut beside = [None, None];
        for (place, role) in beside.iter_mut().zip([Role::Hashes, Role::Signature]) {
            *place = match of(role, Some(arch)) {
                (_, Some(_)) => {
                    let name = designation::name(arch, role);
                    return Ok(Err(format!("several partitions of it are {name}")));
                }
                (found, None) => found.map(|(_, partition)| partition),
            };
        }
        let [hashes, signature] = beside;
        Ok(Ok(Some(Self { size, table, arch, data, hashes, signature })))
    }

    /// Where the file system is, in bytes.
    #[must_use]
    pub fn data(&self) -> Range<u64> {
        self.data.at.clone()
    }

    /// The machine that it is for.
    #[must_use]
    pub fn arch(&self) -> Arch {
        self.arch
    }
}

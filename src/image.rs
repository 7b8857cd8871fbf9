//! Images: from a tree to a `.raw` file, and back to what is in one.
//!
//! Owns the file system and the extension-release in it. Knows nothing of where a tree came from or
//! where an image goes.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::config::extension::Extension;
use crate::config::image::{Compression, Format};
use crate::config::xattrs::XattrRules;
use crate::lint::Finding;
use crate::name::{Arch, ComponentName, FileName, Sha256};
use crate::recipe::spool::{Content, SpoolError};
use crate::recipe::tree::{Node, Tree, TreeError};

pub mod compare;
pub mod contents;
pub mod disk;
pub mod erofs;
pub mod inspect;
mod pack;
pub mod release;
pub mod squashfs;
pub mod unpack;

use contents::Contents;
use disk::{DiskError, Protection};
use pack::Packer;
use release::ExtensionRelease;
use squashfs::Pool;

/// An image that could not be written.
#[derive(Debug, Error)]
pub enum ImageError {
    /// The disk, most likely.
    #[error("cannot write {path}", path = path.display())]
    Disk {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The writer of the file system gave up.
    #[error("cannot write the file system {path}", path = path.display())]
    Squashfs {
        /// The file.
        path: PathBuf,
        /// Why.
        source: squashfs::SquashfsError,
    },
    /// What protects it could not be added.
    #[error("cannot protect the image {path}", path = path.display())]
    Protection {
        /// The file.
        path: PathBuf,
        /// Why.
        source: DiskError,
    },
    /// A rule for attributes that concerns nothing.
    #[error("[xattrs] `{0}` matches nothing in the image")]
    Xattrs(String),
    /// The extension-release has no place in the tree.
    #[error(transparent)]
    Tree(#[from] TreeError),
}

/// A finished image on this machine, not yet published.
#[derive(Debug, Clone)]
pub struct Image {
    /// What it is called.
    pub name: FileName,
    /// Where it lies.
    pub path: PathBuf,
    /// The digest of the whole file.
    pub sha256: Sha256,
    /// Its length in bytes.
    pub size: u64,
    /// What is odd about it.
    pub findings: Vec<Finding>,
    /// What is in it, where we put that there.
    pub contents: Option<Contents>,
}

/// Hears how many bytes of files were taken in.
pub type Progress<'p> = dyn Fn(u64) + Sync + 'p;

/// What an image says of itself.
#[derive(Debug, Clone, Copy)]
pub struct Identity<'a> {
    /// The component, which is the name a node merges it under.
    pub component: &'a ComponentName,
    /// What the file is called.
    pub name: &'a FileName,
    /// Its architecture.
    pub arch: Arch,
    /// What it extends.
    pub extension: &'a Extension,
    /// Whether it brings units that run.
    pub services: bool,
}

/// An image under way. It takes contents in as they come, and gets its paths at the end.
pub struct Draft<'p> {
    packer: Packer<'p>,
    path: PathBuf,
}

impl<'p> Draft<'p> {
    /// Begins an image at `path`, where no file is yet. It is none before it is finished. With a
    /// `protection` it is in a disk image, beside its hashes.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn new(
        packing: Packing,
        arch: Arch,
        pool: &Pool,
        path: &Path,
        protection: Option<Protection>,
        progress: &'p Progress<'p>,
    ) -> Result<Self, ImageError> {
        let packer = Packer::new(packing, arch, pool, path, protection, progress)?;
        Ok(Self { packer, path: path.to_owned() })
    }

    /// Takes a content in; the tree refers to it by the number that is given back.
    ///
    /// # Errors
    /// That of the reader, after which the draft can go on, or of the disk.
    pub fn take(&mut self, reader: &mut dyn Read) -> Result<usize, SpoolError> {
        self.packer.take(reader)
    }

    /// Completes the image with the paths of a tree. `time` is what every file in it is dated, in seconds
    /// since 1970: the same tree, identity, attributes and time give the same bytes.
    ///
    /// # Errors
    /// The file cannot be written. What is there then is not to be used.
    pub fn finish(
        self,
        mut tree: Tree,
        identity: &Identity<'_>,
        xattrs: &XattrRules,
        time: u64,
    ) -> Result<Image, ImageError> {
        let release = ExtensionRelease::new(identity);
        // A node looks for the name it merges the image under: that of the link when it follows the
        // repository, that of the file when somebody just drops it into /etc/extensions.
        for name in [identity.component.as_str(), identity.name.stem()] {
            let content = Content::from_bytes(release.to_string().into_bytes());
            let at = release::path(identity.extension.kind, name);
            tree.insert(&at, Node::file(0o644, content))?;
        }
        self.packer.finish(&tree, xattrs, time)?;
        let image = measured(identity.name, &self.path)?;
        Ok(Image { contents: Contents::of(&tree), ..image })
    }
}

/// Writes a file that is an image already, as it is.
///
/// # Errors
/// The file cannot be written. What is at `path` then is not to be used.
pub fn copy(content: &Content, name: &FileName, path: &Path) -> Result<Image, ImageError> {
    let copied = File::create(path).and_then(|mut to| io::copy(&mut content.open(), &mut to));
    copied.map_err(|source| ImageError::Disk { path: path.to_owned(), source })?;
    measured(name, path)
}

fn measured(name: &FileName, path: &Path) -> Result<Image, ImageError> {
    let (sha256, size) = File::open(path)
        .and_then(|mut file| Sha256::of_reader(&mut file))
        .map_err(|source| ImageError::Disk { path: path.to_owned(), source })?;
    let (name, path) = (name.clone(), path.to_owned());
    Ok(Image { name, path, sha256, size, findings: Vec::new(), contents: None })
}

/// A date as squashfs has it and images are told of: what is later than 32 bits can say is as late as they can.
#[must_use]
pub fn dated(time: u64) -> u32 {
    u32::try_from(time).unwrap_or(u32::MAX)
}

/// How an image is made of a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packing {
    /// Which file system it has.
    pub system: System,
    /// How its blocks are compressed.
    pub compression: Compression,
    /// How much of a file is compressed at once, in bytes.
    pub block_size: u32,
}

/// The file systems that images of ours have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum System {
    /// squashfs 4.0
    Squashfs,
    /// EROFS
    Erofs,
}

/// How images of this format are made, if that is done by us.
#[must_use]
pub fn packed(format: Format) -> Option<Packing> {
    let (system, compression, block_size) = match format {
        Format::Squashfs { compression, block_size } => (System::Squashfs, compression, block_size),
        Format::Erofs { compression, block_size } => (System::Erofs, compression, block_size),
        Format::None | Format::Mirrored => return None,
    };
    Some(Packing { system, compression, block_size })
}

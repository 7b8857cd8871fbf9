//! Images: from a tree to a `.raw` file, and back to what is in one.
//!
//! Owns the file system and the extension-release in it. Knows nothing of where a tree came from or
//! where an image goes.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::config::component::{Extension, Format, ImageRule};
use crate::name::{Arch, ComponentName, FileName, Sha256};
use crate::recipe::spool::Content;
use crate::recipe::tree::{Node, Tree, TreeError};

pub mod inspect;
mod pack;
pub mod release;
pub mod squashfs;

use release::ExtensionRelease;

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
    /// The squashfs writer gave up.
    #[error("cannot write the squashfs {path}", path = path.display())]
    Squashfs {
        /// The file.
        path: PathBuf,
        /// Why.
        source: squashfs::SquashfsError,
    },
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
}

/// Hears how many bytes of files are in the image, and of how many.
pub type Progress<'p> = dyn Fn(u64, u64) + Sync + 'p;

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

/// Writes the image of a tree to `path`. `time` is what every file in it is dated, in seconds since
/// 1970: the same tree, identity and time give the same bytes.
///
/// # Errors
/// The file cannot be written. What is at `path` then is not to be used.
pub fn write(
    mut tree: Tree,
    identity: &Identity<'_>,
    rule: &ImageRule,
    time: u64,
    path: &Path,
    progress: &Progress<'_>,
) -> Result<Image, ImageError> {
    let release = ExtensionRelease::new(identity);
    // A node looks for the name it merges the image under: that of the link when it follows the
    // repository, that of the file when somebody just drops it into /etc/extensions.
    for name in [identity.component.as_str(), identity.name.stem()] {
        let content = Content::from_bytes(release.to_string().into_bytes());
        tree.insert(&release::path(name), Node::file(0o644, content))?;
    }
    match rule.format {
        Format::Squashfs => pack::write(&tree, rule.compression, time, path, progress)?,
    }
    let disk = |source| ImageError::Disk { path: path.to_owned(), source };
    let (sha256, size) =
        File::open(path).and_then(|mut file| Sha256::of_reader(&mut file)).map_err(disk)?;
    Ok(Image { name: identity.name.clone(), path: path.to_owned(), sha256, size })
}

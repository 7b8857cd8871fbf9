//! The file system in an image, whichever it is.
//!
//! Owns what its readers have in common: entries, and the bytes of a file. Refuses to know how either
//! stores them, and what is made of them.

use std::io::{self, Read};

use backhand::{FilesystemReader, InnerNode, Node, SquashfsFileReader};

use super::Listed;
use super::attributes::Attributes;
use crate::image::dated;
use crate::image::erofs::read as erofs;

/// A file system that was opened.
pub(in crate::image) struct FileSystem {
    reader: Reader,
    pub(super) attributes: Attributes,
}

enum Reader {
    Squashfs(FilesystemReader<'static>),
    Erofs(erofs::Image, Vec<erofs::Entry>),
}

/// Something in a file system.
#[derive(Clone, Copy)]
pub(in crate::image) struct Item<'i>(Of<'i>);

#[derive(Clone, Copy)]
enum Of<'i> {
    Squashfs(&'i Node<SquashfsFileReader>),
    Erofs(&'i erofs::Entry),
}

impl FileSystem {
    pub(super) fn squashfs(reader: FilesystemReader<'static>, attributes: Attributes) -> Self {
        Self { reader: Reader::Squashfs(reader), attributes }
    }

    /// # Errors
    /// It cannot be read, or something in it is broken.
    pub(super) fn erofs(image: erofs::Image) -> io::Result<Self> {
        let entries = image.entries()?;
        let mut attributes = Attributes::default();
        for entry in &entries {
            entry.hides.iter().for_each(|name| attributes.hides(name, &entry.path));
        }
        Ok(Self { reader: Reader::Erofs(image, entries), attributes })
    }

    /// What it is called.
    pub(in crate::image) fn name(&self) -> &'static str {
        match &self.reader {
            Reader::Squashfs(_) => "squashfs",
            Reader::Erofs(..) => "erofs",
        }
    }

    /// How it is compressed.
    pub(in crate::image) fn compression(&self) -> String {
        match &self.reader {
            Reader::Squashfs(image) => match image.compressor {
                Some(compressor) => format!("{compressor:?}").to_lowercase(),
                None => "none".to_owned(),
            },
            Reader::Erofs(image, _) => image.compression(),
        }
    }

    /// The size of a block in bytes.
    pub(in crate::image) fn block_size(&self) -> u32 {
        match &self.reader {
            Reader::Squashfs(image) => image.block_size,
            Reader::Erofs(image, _) => image.block_size(),
        }
    }

    /// Its date, in seconds since 1970.
    pub(in crate::image) fn time(&self) -> u32 {
        match &self.reader {
            Reader::Squashfs(image) => image.mod_time,
            Reader::Erofs(image, _) => dated(image.time()),
        }
    }

    /// All that is in it, the root too; folders come before what they hold.
    pub(in crate::image) fn items(&self) -> Box<dyn Iterator<Item = Item<'_>> + '_> {
        match &self.reader {
            Reader::Squashfs(image) => Box::new(image.files().map(|node| Item(Of::Squashfs(node)))),
            Reader::Erofs(_, entries) => {
                Box::new(entries.iter().map(|entry| Item(Of::Erofs(entry))))
            }
        }
    }

    /// Whether an extension-release is for an image of any name.
    pub(super) fn is_loose(&self, item: Item<'_>) -> bool {
        match item.0 {
            Of::Squashfs(node) => self.attributes.is_loose(node),
            Of::Erofs(entry) => entry.loose,
        }
    }

    /// The bytes of a file of this image, or of one that was opened from the same file.
    ///
    /// # Errors
    /// It is none, or cannot be read.
    pub(in crate::image) fn content<'r>(
        &'r self,
        item: Item<'r>,
    ) -> io::Result<Box<dyn Read + 'r>> {
        match (&self.reader, item.0) {
            (Reader::Squashfs(image), Of::Squashfs(Node { inner: InnerNode::File(file), .. })) => {
                Ok(Box::new(image.file(file).reader_checked().map_err(io::Error::other)?))
            }
            (Reader::Erofs(image, _), Of::Erofs(entry)) if item.is_file() => {
                Ok(Box::new(image.content(&entry.inode)?))
            }
            _ => Err(io::Error::other("it is no file of the image")),
        }
    }
}

impl Item<'_> {
    /// Relative to the root, whose own is empty.
    pub(in crate::image) fn path(&self) -> String {
        match self.0 {
            Of::Squashfs(node) => {
                node.fullpath.to_string_lossy().trim_start_matches('/').to_owned()
            }
            Of::Erofs(entry) => entry.path.clone(),
        }
    }

    /// Whether it is a regular file.
    pub(in crate::image) fn is_file(&self) -> bool {
        match self.0 {
            Of::Squashfs(node) => matches!(node.inner, InnerNode::File(_)),
            Of::Erofs(entry) => entry.inode.kind() == '-',
        }
    }

    /// When it was changed, in seconds since 1970.
    pub(in crate::image) fn time(&self) -> u64 {
        match self.0 {
            Of::Squashfs(node) => node.header.mtime.into(),
            Of::Erofs(entry) => entry.inode.time,
        }
    }

    /// The block with the ends of files that this one's is in: the reader keeps each.
    pub(in crate::image) fn fragment(&self) -> Option<usize> {
        match self.0 {
            Of::Squashfs(Node { inner: InnerNode::File(file), .. }) => Some(file.frag_index()),
            Of::Squashfs(_) | Of::Erofs(_) => None,
        }
    }

    /// What `ls` would show of it.
    pub(in crate::image) fn listed(&self) -> Listed {
        let path = self.path();
        match self.0 {
            Of::Squashfs(node) => list(path, node),
            Of::Erofs(entry) => {
                let inode = &entry.inode;
                Listed {
                    path,
                    kind: inode.kind(),
                    mode: inode.mode & 0o7777,
                    owner: inode.owner,
                    size: if self.is_file() { inode.size } else { 0 },
                    target: entry.target.clone(),
                }
            }
        }
    }
}

fn list(path: String, node: &Node<SquashfsFileReader>) -> Listed {
    let (kind, size, target) = match &node.inner {
        InnerNode::File(file) => ('-', file.file_len() as u64, None),
        InnerNode::Symlink(link) => ('l', 0, Some(link.link.to_string_lossy().into_owned())),
        InnerNode::Dir(_) => ('d', 0, None),
        InnerNode::CharacterDevice(_) => ('c', 0, None),
        InnerNode::BlockDevice(_) => ('b', 0, None),
        InnerNode::NamedPipe => ('p', 0, None),
        InnerNode::Socket => ('s', 0, None),
    };
    let header = &node.header;
    Listed {
        path,
        kind,
        mode: header.permissions & 0o7777,
        owner: (header.uid, header.gid),
        size,
        target,
    }
}

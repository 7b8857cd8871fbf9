//! From a tree to a squashfs file: which compressor, which attributes, and the tree's contents in
//! the order of their paths, so that the bytes do not depend on where they came from.

use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use super::squashfs::{
    Bcj, Compression as Codec, ContentId, Entry, Node as Packed, Options, Pool, SquashfsError,
    Writer,
};
use super::{ImageError, Progress};
use crate::config::image::Compression;
use crate::config::xattrs::XattrRules;
use crate::name::Arch;
use crate::recipe::spool::{Content, SpoolError};
use crate::recipe::tree::{Node, Tree};

/// An image that takes contents in.
pub(super) struct Packer<'p> {
    writer: Writer<File>,
    /// What the writer calls the contents that were taken in ahead.
    taken: Vec<ContentId>,
    folder: PathBuf,
    done: u64,
    progress: &'p Progress<'p>,
}

impl<'p> Packer<'p> {
    /// Contents wait in files without names in `folder`.
    pub(super) fn new(
        compression: Compression,
        block_size: u32,
        arch: Arch,
        pool: &Pool,
        folder: &Path,
        progress: &'p Progress<'p>,
    ) -> Result<Self, ImageError> {
        let options = Options { compression: codec(compression, arch), block_size };
        let disk = |source| ImageError::Disk { path: folder.to_owned(), source };
        let waiting = [tempfile::tempfile_in(folder), tempfile::tempfile_in(folder)];
        let [blocks, tails] = waiting.map(|file| file.map_err(disk));
        let writer = Writer::new([blocks?, tails?], &options, pool);
        let writer =
            writer.map_err(|source| ImageError::Squashfs { path: folder.to_owned(), source })?;
        Ok(Self { writer, taken: Vec::new(), folder: folder.to_owned(), done: 0, progress })
    }

    /// Takes a content in, of which the tree will only know the number.
    pub(super) fn take(&mut self, reader: &mut dyn Read) -> Result<usize, SpoolError> {
        let mut counted = Counted { inner: reader, done: &mut self.done, progress: self.progress };
        let id = self.writer.content(&mut counted).map_err(|error| match error {
            SquashfsError::Read(source) => SpoolError::Read(source),
            SquashfsError::Write(source) => SpoolError::Write(source),
            other => SpoolError::Write(io::Error::other(other)),
        })?;
        self.taken.push(id);
        Ok(self.taken.len() - 1)
    }

    /// Writes the image. Owners are 0:0, folders 0755, and every date is `time`.
    pub(super) fn finish(
        mut self,
        tree: &Tree,
        xattrs: &XattrRules,
        time: u64,
        path: &Path,
    ) -> Result<(), ImageError> {
        let failed = |path: &Path, error: SquashfsError| match error {
            SquashfsError::Read(source) | SquashfsError::Write(source) => {
                ImageError::Disk { path: path.to_owned(), source }
            }
            source => ImageError::Squashfs { path: path.to_owned(), source },
        };
        let mut idle: Vec<_> = xattrs.rules().iter().map(|rule| Some(&rule.pattern)).collect();
        let mut attributes = |path: &str| {
            let (attributes, matching) = xattrs.of(path);
            for at in matching {
                idle[at] = None;
            }
            attributes.into_iter().collect()
        };
        let mut entries = vec![Entry {
            path: String::new(),
            mode: 0o755,
            node: Packed::Directory,
            xattrs: attributes(""),
        }];
        for (at, node) in tree {
            let (mode, packed) = match node {
                Node::Folder => (0o755, Packed::Directory),
                Node::File { mode, content: Content::Kept(kept) } => {
                    (*mode, Packed::File(self.taken[kept.number]))
                }
                Node::File { mode, content } => {
                    let mut reader = content.open();
                    let mut counted = Counted {
                        inner: &mut reader,
                        done: &mut self.done,
                        progress: self.progress,
                    };
                    let id = self.writer.content(&mut counted);
                    (*mode, Packed::File(id.map_err(|error| failed(&self.folder, error))?))
                }
                Node::Symlink { target } => (0o777, Packed::Symlink(target.clone())),
            };
            let mode = u16::try_from(mode & 0o7777).expect("twelve bits");
            entries.push(Entry { path: at.clone(), mode, node: packed, xattrs: attributes(at) });
        }
        if let Some(pattern) = idle.into_iter().flatten().next() {
            return Err(ImageError::Xattrs(pattern.clone()));
        }
        let disk = |source: io::Error| ImageError::Disk { path: path.to_owned(), source };
        let file = File::create(path).map_err(disk)?;
        let mut out = BufWriter::with_capacity(256 << 10, file);
        // squashfs dates are 32 bits wide, unsigned.
        let time = u32::try_from(time).unwrap_or(u32::MAX);
        self.writer.finish(&entries, time, &mut out).map_err(|error| failed(path, error))?;
        out.flush().map_err(disk)
    }
}

/// What the writer is told for an image of this architecture.
fn codec(compression: Compression, arch: Arch) -> Codec {
    match compression {
        Compression::Zstd(level) => Codec::Zstd { level: level.cast_signed() },
        Compression::Xz { level, bcj } => {
            Codec::Xz { level, bcj: bcj.then(|| filter(arch)).flatten() }
        }
        Compression::Gzip(level) => Codec::Gzip { level },
        Compression::Lz4(level) => Codec::Lz4 { hc: level > 1 },
    }
}

/// The filter for an architecture's machine code, if there is one.
fn filter(arch: Arch) -> Option<Bcj> {
    match arch {
        Arch::X86_64 | Arch::X86 => Some(Bcj::X86),
        Arch::Arm64 => Some(Bcj::Arm64),
        Arch::Arm => Some(Bcj::Arm),
        Arch::Riscv64 | Arch::Riscv32 => Some(Bcj::RiscV),
        _ => None,
    }
}

/// A reader that tells how far all readers together have come.
struct Counted<'r, 'p> {
    inner: &'r mut dyn Read,
    done: &'r mut u64,
    progress: &'p Progress<'p>,
}

impl Read for Counted<'_, '_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(into)?;
        *self.done += read as u64;
        (self.progress)(*self.done);
        Ok(read)
    }
}

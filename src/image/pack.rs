//! From a tree to a file system: which compressor, which attributes, and the tree's contents in
//! the order of their paths, so that the bytes do not depend on where they came from.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::disk::medium::Medium;
use super::disk::{DiskError, Protection};
use super::squashfs::{
    self, Bcj, Compression as Codec, ContentId, Entry, Node as Packed, Options, Pool,
    SquashfsError, Written,
};
use super::{ImageError, Packing, Progress, System, dated, erofs};
use crate::config::image::Compression;
use crate::config::xattrs::XattrRules;
use crate::name::Arch;
use crate::recipe::spool::{Content, SpoolError};
use crate::recipe::tree::{Node, Tree};

/// What writes the file system.
enum Writer {
    Squashfs(squashfs::Writer<Medium>),
    Erofs(erofs::Writer<Medium>),
}

impl Writer {
    fn content(&mut self, reader: &mut dyn Read) -> Result<ContentId, SquashfsError> {
        match self {
            Self::Squashfs(writer) => writer.content(reader),
            Self::Erofs(writer) => writer.content(reader),
        }
    }

    fn finish(
        self,
        entries: &[Entry],
        time: u64,
        other: impl FnOnce() -> io::Result<Medium>,
    ) -> Result<Written<Medium>, SquashfsError> {
        match self {
            Self::Squashfs(writer) => writer.finish(entries, dated(time), other),
            Self::Erofs(writer) => writer.finish(entries, time, other),
        }
    }
}

/// An image that takes contents in.
pub(super) struct Packer<'p> {
    writer: Writer,
    /// What it is protected with.
    protection: Option<Protection>,
    /// What the writer calls the contents that were taken in ahead.
    taken: Vec<ContentId>,
    /// The image.
    path: PathBuf,
    done: u64,
    progress: &'p Progress<'p>,
}

impl<'p> Packer<'p> {
    /// The image will be at `path`. What must wait does so in a file without a name beside it.
    pub(super) fn new(
        Packing { system, compression, block_size }: Packing,
        arch: Arch,
        pool: &Pool,
        path: &Path,
        protection: Option<Protection>,
        progress: &'p Progress<'p>,
    ) -> Result<Self, ImageError> {
        let options = Options { compression: codec(compression, arch), block_size };
        let disk = |source| ImageError::Disk { path: path.to_owned(), source };
        let tails = tempfile::tempfile_in(path.parent().unwrap_or(Path::new(""))).map_err(disk)?;
        let image = create(path, protection.as_ref()).map_err(disk)?;
        let tails = Medium::whole(tails);
        let writer = match system {
            System::Squashfs => {
                squashfs::Writer::new(image, tails, &options, pool).map(Writer::Squashfs)
            }
            System::Erofs => erofs::Writer::new(image, tails, &options, pool).map(Writer::Erofs),
        };
        let writer = writer.map_err(|error| failed(path, error))?;
        let path = path.to_owned();
        Ok(Self { writer, protection, taken: Vec::new(), path, done: 0, progress })
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

    /// Completes the image. Owners are 0:0, folders 0755, and every date is `time`.
    pub(super) fn finish(
        mut self,
        tree: &Tree,
        xattrs: &XattrRules,
        time: u64,
    ) -> Result<(), ImageError> {
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
                    (*mode, Packed::File(id.map_err(|error| failed(&self.path, error))?))
                }
                Node::Symlink { target } => (0o777, Packed::Symlink(target.clone())),
            };
            let mode = u16::try_from(mode & 0o7777).expect("twelve bits");
            entries.push(Entry { path: at.clone(), mode, node: packed, xattrs: attributes(at) });
        }
        if let Some(pattern) = idle.into_iter().flatten().next() {
            return Err(ImageError::Xattrs(pattern.clone()));
        }
        let Self { path, protection, .. } = self;
        let other = || {
            // The first file lives as long as it is read.
            std::fs::remove_file(&path)?;
            create(&path, protection.as_ref())
        };
        let written = self.writer.finish(&entries, time, other);
        let written = written.map_err(|error| failed(&path, error))?;
        let (file, tree) = match written.image.into_parts() {
            Ok(parts) => parts,
            Err(source) => return Err(ImageError::Disk { path, source }),
        };
        let completed = match (protection, tree) {
            (Some(protection), Some(tree)) => protection.complete(&file, &tree),
            _ => file.set_len(written.size).map_err(DiskError::Write),
        };
        completed.map_err(|error| match error {
            DiskError::Write(source) => ImageError::Disk { path, source },
            source @ DiskError::Seal(_) => ImageError::Protection { path, source },
        })
    }
}

/// A new file, and where in it the squashfs goes.
fn create(path: &Path, protection: Option<&Protection>) -> io::Result<Medium> {
    let file = File::options().read(true).write(true).create_new(true).open(path)?;
    match protection {
        Some(protection) => protection.medium(file),
        None => Ok(Medium::whole(file)),
    }
}

fn failed(path: &Path, error: SquashfsError) -> ImageError {
    let path = path.to_owned();
    match error {
        SquashfsError::Read(source) | SquashfsError::Write(source) => {
            ImageError::Disk { path, source }
        }
        source => ImageError::Squashfs { path, source },
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

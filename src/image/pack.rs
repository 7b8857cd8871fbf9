//! From a tree to a squashfs file: which compressor, which block size, and the tree's contents in
//! the order of their paths, so that the bytes do not depend on where they came from.

use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use super::squashfs::{
    Compression as Codec, Entry, Node as Packed, Options, SquashfsError, Writer,
};
use super::{ImageError, Progress};
use crate::config::component::Compression;
use crate::recipe::tree::{Node, Tree};

/// 256 KiB: a node that starts a program reads whole blocks, and larger ones compress better; but a
/// tree of small files is read fastest at this size.
const BLOCK: u32 = 256 << 10;

/// Writes a tree. Owners are 0:0, folders 0755, and every date is `time`.
pub(super) fn write(
    tree: &Tree,
    compression: Compression,
    time: u64,
    path: &Path,
    progress: &Progress<'_>,
) -> Result<(), ImageError> {
    let disk = |source: io::Error| ImageError::Disk { path: path.to_owned(), source };
    let failed = |error: SquashfsError| match error {
        SquashfsError::Read(source) | SquashfsError::Write(source) => disk(source),
        source => ImageError::Squashfs { path: path.to_owned(), source },
    };
    let options = Options {
        compression: match compression {
            Compression::Zstd => Codec::Zstd { level: 9 },
            Compression::Xz => Codec::Xz { level: 6, bcj: None },
            Compression::Gzip => Codec::Gzip { level: 9 },
            Compression::Lz4 => Codec::Lz4 { hc: true },
        },
        block_size: BLOCK,
        threads: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        // squashfs dates are 32 bits wide, unsigned.
        time: u32::try_from(time).unwrap_or(u32::MAX),
    };
    let file = File::create(path).map_err(disk)?;
    let mut out = BufWriter::with_capacity(1 << 20, file);
    let mut writer = Writer::new(&mut out, &options).map_err(failed)?;

    let total = tree.iter().map(|(_, node)| node.size()).sum();
    let done = AtomicU64::new(0);
    let mut entries = Vec::new();
    for (at, node) in tree {
        let (mode, packed) = match node {
            Node::Folder => (0o755, Packed::Directory),
            Node::File { mode, content } => {
                let mut reader = Counted { inner: content.open(), done: &done, total, progress };
                (*mode, Packed::File(writer.content(&mut reader).map_err(failed)?))
            }
            Node::Symlink { target } => (0o777, Packed::Symlink(target.clone())),
        };
        let mode = u16::try_from(mode & 0o7777).expect("twelve bits");
        entries.push(Entry { path: at.clone(), mode, node: packed, xattrs: Vec::new() });
    }
    let written = writer.finish(&entries).map_err(failed)?;
    out.flush().map_err(disk)?;
    let file = out.into_inner().map_err(|error| disk(error.into_error()))?;
    // What turned out to be there already was written in vain, and may lie behind the end.
    file.set_len(written.size).map_err(disk)
}

/// A reader that tells how far all readers together have come.
struct Counted<'p, R> {
    inner: R,
    done: &'p AtomicU64,
    total: u64,
    progress: &'p Progress<'p>,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(into)?;
        let before = self.done.fetch_add(read as u64, Ordering::Relaxed);
        (self.progress)(before + read as u64, self.total);
        Ok(read)
    }
}

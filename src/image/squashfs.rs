//! squashfs 4.0 images, written by `backhand`.

use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use backhand::compression::{CompressionOptions, Compressor, Gzip, Lz4, Zstd};
use backhand::{BackhandError, FilesystemCompressor, FilesystemWriter, NodeHeader};

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
    let failed = |source: BackhandError| match source {
        BackhandError::StdIo(source) => ImageError::Disk { path: path.to_owned(), source },
        source => ImageError::Squashfs { path: path.to_owned(), source },
    };
    // squashfs dates are 32 bits wide, unsigned.
    let time = u32::try_from(time).unwrap_or(u32::MAX);
    let header =
        |mode: u32| NodeHeader::new(u16::try_from(mode & 0o7777).unwrap_or(0o644), 0, 0, time);

    let done = AtomicU64::new(0);
    let mut writer = FilesystemWriter::default();
    writer.set_block_size(BLOCK);
    writer.set_time(time);
    writer.set_root_mode(0o755);
    writer.set_root_uid(0);
    writer.set_root_gid(0);
    writer.set_compressor(compressor(compression).map_err(failed)?);
    let total = tree.iter().map(|(_, node)| node.size()).sum();
    for (at, node) in tree {
        match node {
            Node::Folder => writer.push_dir(at, header(0o755)),
            Node::File { mode, content } => {
                let reader = Counted { inner: content.open(), done: &done, total, progress };
                writer.push_file(reader, at, header(*mode))
            }
            Node::Symlink { target } => writer.push_symlink(target, at, header(0o777)),
        }
        .map_err(failed)?;
    }
    let disk = |source: io::Error| ImageError::Disk { path: path.to_owned(), source };
    let file = File::create(path).map_err(disk)?;
    let mut out = BufWriter::with_capacity(1 << 20, file);
    let (_, length) = writer.write(&mut out).map_err(failed)?;
    out.flush().map_err(disk)?;
    let file = out.into_inner().map_err(|error| disk(error.into_error()))?;
    // The writer may have left more behind the end than it says the image has.
    file.set_len(length).map_err(disk)
}

fn compressor(compression: Compression) -> Result<FilesystemCompressor, BackhandError> {
    let (id, options) = match compression {
        Compression::Zstd => {
            (Compressor::Zstd, Some(CompressionOptions::Zstd(Zstd { compression_level: 9 })))
        }
        Compression::Gzip => {
            let options = Gzip { compression_level: 9, window_size: 15, strategies: 0 };
            (Compressor::Gzip, Some(CompressionOptions::Gzip(options)))
        }
        Compression::Lz4 => {
            (Compressor::Lz4, Some(CompressionOptions::Lz4(Lz4 { version: 1, flags: 0 })))
        }
        Compression::Xz => (Compressor::Xz, None),
    };
    FilesystemCompressor::new(id, options)
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

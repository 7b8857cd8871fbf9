//! Images being opened: a bare file system, or one in a partition of a disk image.
//!
//! Owns where in the file the reader of a file system begins, and that nothing reaches it unchecked. Refuses to know
//! what files there are.

use std::fs::File;
use std::io::{self, BufReader};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

use backhand::FilesystemReader;

use super::system::FileSystem;
use super::{InspectError, bounds};
use crate::image::disk::Disk;
use crate::image::disk::check::{How, Verity};
use crate::image::erofs;
use crate::lint::{Finding, Lint};

/// The first bytes of squashfs 4.0, little-endian.
const MAGIC: [u8; 4] = *b"hsqs";
/// What is said of that which is neither.
const NEITHER: &str = "a squashfs or EROFS";

/// The file systems that can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Squashfs,
    Erofs,
}

/// The stack of the thread that reads an image, in bytes.
const STACK: usize = 64 << 20;

/// What is around a file system, and what is wrong with that.
pub(super) struct Guarded {
    pub(super) size: u64,
    pub(super) disk: Option<Disk>,
    pub(super) verity: Option<Verity>,
    pub(super) findings: Vec<Finding>,
}

/// Opens an image and checks what protects it.
pub(super) fn open_guarded(
    path: &Path,
    how: How<'_>,
) -> Result<(FileSystem, Guarded), InspectError> {
    let opened = find(path)?;
    let (size, disk) = (opened.size, opened.disk.clone());
    let (verity, problems) = match &disk {
        Some(disk) => disk
            .check(&opened.file, how)
            .map_err(|source| InspectError::Disk { path: path.to_owned(), source })?,
        None => (None, Vec::new()),
    };
    let image = read(path, opened).map_err(|error| match (error, &problems[..]) {
        (
            InspectError::Format { path, .. } | InspectError::Unsupported { path, .. },
            [problem, ..],
        ) => InspectError::Changed { path, problem: problem.clone() },
        (error, _) => error,
    })?;
    let findings = problems.into_iter().map(|problem| Finding::of_image(Lint::Verity, problem));
    let findings = findings.collect();
    Ok((image, Guarded { size, disk, verity, findings }))
}

/// Opens the file system in an image.
pub(in crate::image) fn open(path: &Path) -> Result<FileSystem, InspectError> {
    read(path, find(path)?)
}

/// An image's file, and what of it is the file system.
struct Opened {
    file: File,
    size: u64,
    disk: Option<Disk>,
}

/// Whether it is a file system that can be read, or a disk with one in it.
pub(super) fn is_ours(path: &Path) -> io::Result<bool> {
    let file = File::open(path)?;
    if begins(&file, 0)?.is_some() {
        return Ok(true);
    }
    let Ok(Some(disk)) = Disk::find(&file, file.metadata()?.len())? else { return Ok(false) };
    begins(&file, disk.data().start).map(|kind| kind.is_some())
}

/// Which one there is at this place of a file, by its first bytes.
fn begins(file: &File, at: u64) -> io::Result<Option<Kind>> {
    let magic = |at: u64| {
        let mut magic = [0; MAGIC.len()];
        match file.read_exact_at(&mut magic, at) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            read => read.map(|()| Some(magic)),
        }
    };
    if magic(at)?.is_some_and(|magic| magic == MAGIC) {
        return Ok(Some(Kind::Squashfs));
    }
    let is_erofs = magic(at + erofs::SUPERBLOCK)?.map(u32::from_le_bytes) == Some(erofs::MAGIC);
    Ok(is_erofs.then_some(Kind::Erofs))
}

fn find(path: &Path) -> Result<Opened, InspectError> {
    let disk = |source| InspectError::Disk { path: path.to_owned(), source };
    // Before it is opened, because opening a pipe waits for somebody to write.
    let metadata = std::fs::metadata(path).map_err(disk)?;
    if !metadata.is_file() {
        let problem = "it is not a regular file".to_owned();
        return Err(InspectError::Format { path: path.to_owned(), system: NEITHER, problem });
    }
    let file = File::open(path).map_err(disk)?;
    let size = metadata.len();
    let format =
        |problem: String| InspectError::Format { path: path.to_owned(), system: NEITHER, problem };
    // What begins like a file system is one, whatever its first blocks hold.
    let found = if begins(&file, 0).map_err(disk)?.is_some() {
        Ok(None)
    } else {
        Disk::find(&file, size).map_err(disk)?
    };
    Ok(Opened { file, size, disk: found.map_err(format)? })
}

/// Reads the file system of an image.
fn read(path: &Path, Opened { file, size, disk }: Opened) -> Result<FileSystem, InspectError> {
    let place = disk.map_or(0..size, |disk| disk.data());
    let failed = |source| InspectError::Disk { path: path.to_owned(), source };
    match begins(&file, place.start).map_err(failed)? {
        Some(Kind::Squashfs) => read_squashfs(path, file, place),
        Some(Kind::Erofs) => {
            let opened = erofs::read::Image::open(file, place.start, place.end - place.start);
            opened.and_then(FileSystem::erofs).map_err(|error| match error.kind() {
                io::ErrorKind::InvalidData => InspectError::Format {
                    path: path.to_owned(),
                    system: "an EROFS",
                    problem: error.to_string(),
                },
                io::ErrorKind::Unsupported => {
                    let problem = error.to_string();
                    InspectError::Unsupported { path: path.to_owned(), problem }
                }
                _ => failed(error),
            })
        }
        None => {
            let problem = "it does not begin like one".to_owned();
            Err(InspectError::Format { path: path.to_owned(), system: NEITHER, problem })
        }
    }
}

/// Reads the squashfs at this place of a file.
fn read_squashfs(path: &Path, file: File, place: Range<u64>) -> Result<FileSystem, InspectError> {
    let disk = |source| InspectError::Disk { path: path.to_owned(), source };
    let format = |problem: String| InspectError::Format {
        path: path.to_owned(),
        system: "a squashfs",
        problem,
    };
    let length = place.end - place.start;
    let attributes = bounds::check(&file, place.start, length).map_err(disk)?.map_err(format)?;
    let reader = BufReader::with_capacity(128 << 10, file);
    let kind = backhand::kind::Kind::new_v4(&bounds::BOUNDED);
    // The reader calls itself for every folder in a folder, so it gets a stack for the deepest tree.
    // Whatever it cannot stand is the image's fault, not a mistake of whoever wants it read.
    let read = std::thread::Builder::new().stack_size(STACK).spawn(move || {
        FilesystemReader::from_reader_with_offset_and_kind(reader, place.start, kind)
            .map_err(|error| error.to_string().lines().next().unwrap_or_default().to_owned())
    });
    let image = read.map_err(disk)?.join();
    let image = image.map_err(|_| format("it cannot be made sense of".to_owned()))?;
    Ok(FileSystem::squashfs(image.map_err(format)?, attributes))
}

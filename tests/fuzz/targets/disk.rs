//! Disk images from anywhere: partition tables, superblocks of hash trees, trees, signatures.
//!
//! The checksums of the table are put right, or nothing behind them would ever be reached.
#![no_main]

use std::fs::{self, File};
use std::path::PathBuf;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use publish::image::disk::Disk;
use publish::image::disk::check::How;
use tempfile::TempDir;

static FOLDER: LazyLock<TempDir> = LazyLock::new(|| tempfile::tempdir().unwrap());
static IMAGE: LazyLock<PathBuf> = LazyLock::new(|| FOLDER.path().join("x.raw"));

/// The parts of an input: a header, four rows of the table, and what is from the first partition on.
const HEADER: usize = 92;
const ROWS: usize = 4 * 128;
const FIRST: usize = 20480;

fuzz_target!(|bytes: &[u8]| {
    let (header, rest) = bytes.split_at(bytes.len().min(HEADER));
    let (rows, rest) = rest.split_at(rest.len().min(ROWS));
    let mut image = vec![0; FIRST];
    image[512..512 + header.len()].copy_from_slice(header);
    image[1024..1024 + rows.len()].copy_from_slice(rows);
    let sum = crc32fast::hash(&image[1024..1024 + 128 * 128]);
    image[512 + 88..512 + 92].copy_from_slice(&sum.to_le_bytes());
    image[512 + 16..512 + 20].fill(0);
    let sum = crc32fast::hash(&image[512..512 + HEADER]);
    image[512 + 16..512 + 20].copy_from_slice(&sum.to_le_bytes());
    image.extend(rest);
    fs::write(&*IMAGE, &image).unwrap();
    let file = File::open(&*IMAGE).unwrap();
    let size = image.len() as u64;
    if let Ok(Some(disk)) = Disk::find(&file, size).unwrap() {
        let data = disk.data();
        assert!(data.start < data.end && data.end <= size);
        let (verity, problems) =
            disk.check(&file, How { blocks: true, certificates: &[] }).unwrap();
        assert!(verity.is_none_or(|verity| verity.blocks <= size / 4096));
        assert!(problems.len() < 32);
    }
});

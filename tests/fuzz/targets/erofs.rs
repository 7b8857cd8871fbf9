//! EROFS images from anywhere: superblocks, inodes, folders, attributes, lists of pieces, pieces.
//!
//! The superblock is made to have no checksum, or nothing behind it would ever be reached.
#![no_main]

use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use publish::image::inspect::inspect_closely;
use publish::image::unpack::unpack;
use tempfile::TempDir;

static FOLDER: LazyLock<TempDir> = LazyLock::new(|| tempfile::tempdir().unwrap());
static IMAGE: LazyLock<PathBuf> = LazyLock::new(|| FOLDER.path().join("x-1-x86-64.raw"));

/// The most bytes of all files of an image that is unpacked.
const MOST: u64 = 1 << 20;

fuzz_target!(|bytes: &[u8]| {
    let mut bytes = bytes.to_vec();
    if let Some(flags) = bytes.get_mut(1024 + 8) {
        *flags &= !1;
    }
    fs::write(&*IMAGE, bytes).unwrap();
    match inspect_closely(&IMAGE, Some("x"), None) {
        Ok(image) => {
            for entry in &image.entries {
                assert!(!entry.path.split('/').any(|part| matches!(part, "" | "." | "..")));
            }
            if image.unpacked < MOST && image.entries.len() < 100 {
                let folder = FOLDER.path().join("tree");
                fs::create_dir(&folder).unwrap();
                let _ = unpack(&IMAGE, &folder);
                fs::remove_dir_all(&folder).unwrap();
            }
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});

//! Images from anywhere.
#![no_main]

use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use publish::image::inspect::inspect;
use tempfile::TempDir;

static FOLDER: LazyLock<TempDir> = LazyLock::new(|| tempfile::tempdir().unwrap());
static IMAGE: LazyLock<PathBuf> = LazyLock::new(|| FOLDER.path().join("x-1-x86-64.raw"));

fuzz_target!(|bytes: &[u8]| {
    fs::write(&*IMAGE, bytes).unwrap();
    match inspect(&IMAGE, Some("x"), None) {
        Ok(image) => {
            assert!(image.block_size.is_power_of_two());
            for entry in &image.entries {
                assert!(!entry.path.split('/').any(|part| matches!(part, "" | "." | "..")));
            }
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});

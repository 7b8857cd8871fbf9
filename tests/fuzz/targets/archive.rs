//! Archives from upstream. The first byte chooses the asset's file name, which has a say in what a
//! file that is no archive is taken for.
#![no_main]

use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use publish::fetch::arriving::Arriving;
use publish::recipe::archive::{Entry, Limits, read};
use publish::recipe::intake::{Intake, Want};
use tempfile::TempDir;

static FOLDER: LazyLock<TempDir> = LazyLock::new(|| tempfile::tempdir().unwrap());
static ASSET: LazyLock<PathBuf> = LazyLock::new(|| FOLDER.path().join("asset"));

const NAMES: [&str; 5] = ["tool", "tool-1.0.tar.gz", "tool.gz", "index.html", "tool.rpm"];
const LIMITS: Limits = Limits { bytes: 4 << 20, entries: 1000 };

fuzz_target!(|bytes: &[u8]| {
    let Some((first, bytes)) = bytes.split_first() else { return };
    fs::write(&*ASSET, bytes).unwrap();
    let asset = Arriving::at(ASSET.clone());
    asset.is_here().unwrap();
    let name = NAMES[usize::from(*first) % NAMES.len()];
    // Contents are looked at again, taken over, or only skipped.
    let wants = |path: &str| match path.len() % 3 {
        0 => Want::Recipe,
        1 => Want::Image,
        _ => Want::Nothing,
    };
    let mut intake = Intake::on_disk(FOLDER.path());
    let Ok(archive) = read(&asset, name, &LIMITS, &wants, &mut intake) else { return };
    assert!(archive.entries.len() <= LIMITS.entries);
    let mut unpacked = 0;
    for (path, entry) in &archive.entries {
        assert!(path.len() <= 4096, "{path}");
        for part in path.split('/') {
            assert!(!matches!(part, "" | "." | "..") && part.len() <= 255, "{path}");
        }
        match entry {
            Entry::File { mode, content } => {
                assert!(*mode <= 0o7777);
                unpacked += content.len();
            }
            Entry::Directory { mode } => assert!(*mode <= 0o7777),
            Entry::Symlink { target } => assert!(!target.is_empty() && !target.contains('\0')),
        }
        let above = path.match_indices('/').map(|(at, _)| &path[..at]);
        for above in above {
            let above = archive.entries.get(above);
            assert!(matches!(above, None | Some(Entry::Directory { .. })), "{path}");
        }
    }
    // Hard links are contents that several names share.
    assert!(unpacked <= LIMITS.bytes * LIMITS.entries as u64);
});

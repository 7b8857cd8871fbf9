//! Layers of container images. The first byte says where the first layer ends.
#![no_main]

use std::fs;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use publish::fetch::arriving::Arriving;
use publish::recipe::archive::{Entry, Limits, read_layers};
use publish::recipe::intake::{Intake, Want};
use tempfile::TempDir;

static FOLDER: LazyLock<TempDir> = LazyLock::new(|| tempfile::tempdir().unwrap());

const LIMITS: Limits = Limits { bytes: 4 << 20, entries: 1000 };

fuzz_target!(|bytes: &[u8]| {
    let Some((first, bytes)) = bytes.split_first() else { return };
    let at = (usize::from(*first) * 512).min(bytes.len());
    let layers = [&bytes[..at], &bytes[at..]].into_iter().enumerate().map(|(number, bytes)| {
        let path = FOLDER.path().join(number.to_string());
        fs::write(&path, bytes).unwrap();
        let layer = Arriving::at(path);
        layer.is_here().unwrap();
        layer
    });
    let layers: Vec<_> = layers.collect();
    let wants = |path: &str| if path.len() % 2 == 0 { Want::Image } else { Want::Nothing };
    let mut intake = Intake::on_disk(FOLDER.path());
    let Ok(archive) = read_layers(&layers, &LIMITS, &wants, &mut intake) else { return };
    assert!(archive.entries.len() <= LIMITS.entries);
    for path in archive.entries.keys() {
        for part in path.split('/') {
            assert!(!matches!(part, "" | "." | "..") && !part.starts_with(".wh."), "{path}");
        }
        let mut above = path.match_indices('/').map(|(at, _)| archive.entries.get(&path[..at]));
        assert!(above.all(|above| matches!(above, None | Some(Entry::Directory { .. }))), "{path}");
    }
});

//! `SHA256SUMS` of other people.
#![no_main]

use libfuzzer_sys::fuzz_target;
use publish::manifest::Manifest;

fuzz_target!(|bytes: &[u8]| {
    let Ok(manifest) = Manifest::parse(bytes) else { return };
    let again = Manifest::parse(&manifest.render()).expect("what is written can be read");
    assert_eq!(again, manifest);
    assert!(again.includes(&manifest));
    for (name, sha256) in manifest.files() {
        assert_eq!(manifest.get(name), Some(sha256));
    }
});

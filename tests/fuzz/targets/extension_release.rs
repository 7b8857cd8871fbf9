//! What an image says of itself.
#![no_main]

use libfuzzer_sys::fuzz_target;
use publish::image::release::ExtensionRelease;

fuzz_target!(|text: &str| {
    let release = ExtensionRelease::parse(text);
    for (key, value) in release.keys() {
        assert!(!key.contains(['\n', '=']) && !value.contains('\n'));
        assert_eq!(release.get(key), Some(value.as_str()));
    }
});

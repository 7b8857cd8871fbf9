//! Keyrings and signatures of other people. The first byte tells which of the two follows.
#![no_main]

use std::sync::LazyLock;

use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;
use publish::sign::Keyring;

/// A key made for this alone, which signed `data` and a newline in the seeds.
static KEYRING: LazyLock<Keyring> =
    LazyLock::new(|| Keyring::parse(include_bytes!("keyring.gpg")).unwrap());

fuzz_target!(|bytes: &[u8]| {
    let Some((first, bytes)) = bytes.split_first() else { return };
    let now = Timestamp::from_second(1_900_000_000).unwrap();
    if first % 2 == 0 {
        let Ok(keyring) = Keyring::parse(bytes) else { return };
        let again = Keyring::parse(&keyring.to_bytes()).expect("what is written can be read");
        assert_eq!(again.fingerprints(), keyring.fingerprints());
        let _ = keyring.to_armored();
        let _ = keyring.verify(b"data\n", bytes, now).map_err(|error| error.to_string());
    } else {
        let _ = KEYRING.verify(b"data\n", bytes, now).map_err(|error| error.to_string());
        assert!(KEYRING.verify(b"other\n", bytes, now).is_err());
    }
});

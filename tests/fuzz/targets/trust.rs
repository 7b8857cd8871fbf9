//! What vouches for an asset: checksum files, signatures, bundles, the lock file. The first byte tells
//! which of them follows.
#![no_main]

use std::path::Path;
use std::sync::LazyLock;

use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;
use publish::sign::Keyring;
use publish::trust::checksum;
use publish::trust::digest::{Algorithm, Word};
use publish::trust::lockfile::Lockfile;
use publish::trust::signature::Signed;
use publish::trust::{minisign, openpgp, sigstore};

/// What the seeds sign.
const SIGNED: Signed<'static> = Signed::Document(b"tool 1.1\n");
const OTHER: Signed<'static> = Signed::Document(b"tool 1.2\n");

static KEYRING: LazyLock<Keyring> =
    LazyLock::new(|| Keyring::parse(include_bytes!("keyring.gpg")).unwrap());
static MINISIGN: LazyLock<minisign::Key> = LazyLock::new(|| {
    let file = include_str!("../../it/data/minisign/minisign.pub");
    minisign::Key::try_from(file.lines().nth(1).unwrap().to_owned()).unwrap()
});
static VERIFIER: LazyLock<sigstore::Verifier> =
    LazyLock::new(|| sigstore::Verifier::new(None).unwrap());
static WHO: LazyLock<sigstore::Identity> = LazyLock::new(|| sigstore::Identity {
    identity: "https://github.com/prefix-dev/sigstore-example/.github/workflows/action.yaml@refs/heads/main".to_owned(),
    issuer: "https://token.actions.githubusercontent.com".to_owned(),
    repository: None,
    predicate: None,
});

fuzz_target!(|bytes: &[u8]| {
    let Some((first, bytes)) = bytes.split_first() else { return };
    match first % 5 {
        0 => {
            for wanted in [Algorithm::Sha256, Algorithm::Sha512] {
                if let Ok(digest) = checksum::find(bytes, "x", wanted) {
                    assert_eq!(digest.algorithm(), wanted);
                    assert_eq!(Word::read(&digest.to_string()), Word::Digest(digest));
                }
                let _ = checksum::at(bytes, "/a/0", wanted).map_err(|error| error.to_string());
            }
        }
        1 => {
            let _ = MINISIGN.verify(bytes, &SIGNED, "tool-1.1", false);
            assert!(MINISIGN.verify(bytes, &OTHER, "tool-1.1", true).is_err());
        }
        2 => {
            let now = Timestamp::from_second(1_900_000_000).unwrap();
            assert!(openpgp::verify(&KEYRING, &[], bytes, &SIGNED, now).is_err());
        }
        3 => assert!(sigstore::by_identity(&VERIFIER, &WHO, bytes, &SIGNED).is_err()),
        _ => {
            let Ok(text) = std::str::from_utf8(bytes) else { return };
            if let Ok(lockfile) = Lockfile::parse(Path::new("publish.lock"), text) {
                let again = Lockfile::parse(Path::new("publish.lock"), &lockfile.render());
                assert_eq!(again.expect("what is written can be read").render(), lockfile.render());
            }
        }
    }
});

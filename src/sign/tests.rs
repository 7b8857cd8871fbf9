//! Keys and signatures of every kind, made with the library itself; those of gpg are in `tests/it`.

use std::time::Duration;

use pgp::composed::{
    EncryptionCaps, KeyType, SecretKeyParamsBuilder, SignedSecretKey, SubkeyParamsBuilder,
    SubpacketConfig,
};
use pgp::crypto::ecc_curve::ECCCurve;
use pgp::crypto::hash::HashAlgorithm;
use pgp::packet::{KeyFlags, Signature, SignatureConfig, SignatureType, Subpacket, SubpacketData};
use pgp::ser::Serialize;
use pgp::types::{KeyDetails, KeyVersion, Password, Tag, Timestamp as PgpTime};

use super::*;
use crate::sign::key::Kind;

const DATA: &[u8] = b"a manifest\n";

fn now() -> Timestamp {
    "2026-01-10T00:00:00Z".parse().unwrap()
}

fn before(days: u64) -> PgpTime {
    let at = now() - Duration::from_secs(days * 24 * 60 * 60);
    PgpTime::from_secs(u32::try_from(at.as_second()).unwrap())
}

fn make(kind: KeyType, signs: bool, subkeys: &[(KeyType, bool, u64)]) -> SignedSecretKey {
    let subkeys: Vec<_> = subkeys
        .iter()
        .map(|(kind, signs, age)| {
            SubkeyParamsBuilder::default()
                .key_type(kind.clone())
                .can_sign(*signs)
                .can_encrypt(if *signs { EncryptionCaps::None } else { EncryptionCaps::All })
                .created_at(before(*age))
                .build()
                .unwrap()
        })
        .collect();
    SecretKeyParamsBuilder::default()
        .key_type(kind)
        .can_certify(true)
        .can_sign(signs)
        .created_at(before(100))
        .primary_user_id("t <t@e.org>".to_owned())
        .subkeys(subkeys)
        .build()
        .unwrap()
        .generate(rand::rngs::OsRng)
        .unwrap()
}

fn read(key: &SignedSecretKey) -> Result<SigningKey, KeyError> {
    SigningKey::read(&key.to_bytes().unwrap(), None, now())
}

/// The key again, with a self-signature of this kind in the place of its own.
fn with_self_signature(
    mut key: SignedSecretKey,
    hash: HashAlgorithm,
    more: Vec<SubpacketData>,
) -> SignedSecretKey {
    let mut config =
        SignatureConfig::v4(SignatureType::CertPositive, key.primary_key.algorithm(), hash);
    let mut flags = KeyFlags::default();
    flags.set_sign(true);
    let mut subpackets = vec![
        SubpacketData::IssuerFingerprint(key.primary_key.fingerprint()),
        SubpacketData::SignatureCreationTime(before(1)),
        SubpacketData::KeyFlags(flags),
    ];
    subpackets.extend(more);
    config.hashed_subpackets =
        subpackets.into_iter().map(|data| Subpacket::regular(data).unwrap()).collect();
    let user = &mut key.details.users[0];
    let signature = config
        .sign_certification(
            &key.primary_key,
            key.primary_key.public_key(),
            &Password::empty(),
            Tag::UserId,
            &user.id,
        )
        .unwrap();
    user.signatures = vec![signature];
    key
}

fn revoked(mut key: SignedSecretKey) -> SignedSecretKey {
    let mut config = SignatureConfig::v4(
        SignatureType::KeyRevocation,
        key.primary_key.algorithm(),
        HashAlgorithm::Sha256,
    );
    config.hashed_subpackets = [
        SubpacketData::IssuerFingerprint(key.primary_key.fingerprint()),
        SubpacketData::SignatureCreationTime(before(1)),
    ]
    .map(|data| Subpacket::regular(data).unwrap())
    .to_vec();
    let signature = config
        .sign_key(&key.primary_key, &Password::empty(), key.primary_key.public_key())
        .unwrap();
    key.details.revocation_signatures.push(signature);
    key
}

fn signature(key: &SignedSecretKey, hash: HashAlgorithm, lifetime: Option<u32>) -> Vec<u8> {
    let mut hashed = vec![
        SubpacketData::IssuerFingerprint(key.primary_key.fingerprint()),
        SubpacketData::SignatureCreationTime(before(10)),
    ];
    hashed.extend(lifetime.map(|days| {
        SubpacketData::SignatureExpirationTime(pgp::types::Duration::from_secs(days * 24 * 60 * 60))
    }));
    let subpackets = SubpacketConfig::UserDefined {
        hashed: hashed.into_iter().map(|data| Subpacket::regular(data).unwrap()).collect(),
        unhashed: Vec::new(),
    };
    let made = DetachedSignature::sign_binary_data_with_subpackets(
        rand::rngs::OsRng,
        &key.primary_key,
        &Password::empty(),
        hash,
        DATA,
        subpackets,
    );
    made.unwrap().to_bytes().unwrap()
}

#[test]
fn every_kind_of_key_that_clients_take_signs_and_is_verified() {
    for (kind, name) in [
        (KeyType::Ed25519Legacy, "Ed25519"),
        (KeyType::Rsa(2048), "RSA 2048"),
        (KeyType::ECDSA(ECCCurve::P256), "P-256"),
        (KeyType::ECDSA(ECCCurve::P384), "P-384"),
        (KeyType::ECDSA(ECCCurve::P521), "P-521"),
    ] {
        let key = read(&make(kind, true, &[])).unwrap();
        assert_eq!(key.algorithm(), name);
        let (binary, armored) = forms(&key.sign(DATA, now()).unwrap()).unwrap();
        for form in [&binary, &armored] {
            let by = key.public().verify(DATA, form, now()).unwrap();
            assert_eq!((by.primary, by.expired), (key.fingerprint(), None), "{name}");
            assert_eq!(by.user.as_deref(), Some("t <t@e.org>"));
        }
        assert!(same_signature(&binary, &armored));
        assert!(armored.starts_with(b"-----BEGIN PGP SIGNATURE-----"));
        assert_eq!(
            key.public().verify(b"another manifest\n", &binary, now()),
            Err(SignatureError::Tampered(key.fingerprint()))
        );
    }
}

#[test]
fn what_publish_generates_is_what_it_reads() {
    let text = SigningKey::generate(Kind::Ed25519, "me <me@e.org>", now()).unwrap();
    let key = SigningKey::read(&text, None, now()).unwrap();
    assert_eq!(key.algorithm(), "Ed25519");
    let padded = [b"\n  \r\n".as_slice(), &text, b"\n\n"].concat();
    assert_eq!(
        SigningKey::read(&padded, None, now()).unwrap().fingerprint(),
        key.fingerprint(),
        "blanks around it, as variables of CI systems have them"
    );
    for bad in ["", "  ", "a\nb", "\u{7}", &"x".repeat(256)] {
        assert!(SigningKey::generate(Kind::Ed25519, bad, now()).is_err(), "{bad:?} was taken");
    }
}

#[test]
fn the_newest_valid_signing_subkey_signs_else_the_primary_key() {
    let ed = || KeyType::Ed25519Legacy;
    let ecdh = KeyType::ECDH(ECCCurve::Curve25519Legacy);
    // Age in days, whether it signs.
    for (primary, subkeys, expected) in [
        (true, vec![], None),
        (true, vec![(ecdh.clone(), false, 1)], None),
        (true, vec![(ed(), true, 5)], Some(0)),
        (false, vec![(ed(), true, 5), (ed(), true, 2), (ecdh, false, 1)], Some(1)),
        (false, vec![(ed(), true, 2), (ed(), true, 5)], Some(0)),
        // One that no client knows is passed over.
        (false, vec![(KeyType::Ed25519, true, 1), (ed(), true, 5)], Some(1)),
    ] {
        let secret = make(ed(), primary, &subkeys);
        let key = read(&secret).unwrap();
        let signed = key.sign(DATA, now()).unwrap().to_bytes().unwrap();
        let by = key.public().verify(DATA, &signed, now()).unwrap();
        let part = match expected {
            None => keyring::fingerprint(&secret.primary_key),
            Some(at) => keyring::fingerprint(&secret.secret_subkeys[at].key),
        };
        assert_eq!((by.key, by.primary), (part, key.fingerprint()));
    }
}

#[test]
fn keys_that_clients_do_not_take_are_refused_with_the_reason() {
    let ed = || make(KeyType::Ed25519Legacy, true, &[]);
    let refused = |key: &SignedSecretKey, why: &str| {
        let error = read(key).unwrap_err();
        assert!(error.to_string().contains(why), "{error} lacks {why}");
        assert!(error.hint().is_some());
    };
    refused(&make(KeyType::Ed25519, true, &[]), "algorithm 27");
    refused(&make(KeyType::ECDSA(ECCCurve::Secp256k1), true, &[]), "on the curve");
    refused(&make(KeyType::Ed25519Legacy, false, &[]), "is not made for signing");
    refused(&revoked(ed()), "is revoked");
    // The library makes no such signature with Ed25519.
    let weak =
        with_self_signature(make(KeyType::Rsa(2048), true, &[]), HashAlgorithm::Md5, Vec::new());
    refused(&weak, "no valid self-signature");
    let lifetime = SubpacketData::KeyExpirationTime(pgp::types::Duration::from_secs(86400));
    refused(
        &with_self_signature(ed(), HashAlgorithm::Sha256, vec![lifetime]),
        "expired on 2025-10-03",
    );
    let six = SecretKeyParamsBuilder::default()
        .version(KeyVersion::V6)
        .key_type(KeyType::Ed25519)
        .can_sign(true)
        .build()
        .unwrap()
        .generate(rand::rngs::OsRng)
        .unwrap();
    refused(&six, "version 6");

    let key = ed();
    let public = key.to_public_key();
    let two = [key.to_bytes().unwrap(), ed().to_bytes().unwrap()].concat();
    for (bytes, error) in [
        (public.to_bytes().unwrap(), KeyError::Public),
        (public.to_armored_bytes(ArmorOptions::default()).unwrap(), KeyError::Public),
        (two, KeyError::Several(2)),
        (b"hello".to_vec(), KeyError::NotAKey),
        (b"-----BEGIN OPENSSH PRIVATE KEY-----\n".to_vec(), KeyError::NotAKey),
        (vec![0x95, 1, 2, 3], KeyError::NotAKey),
    ] {
        assert_eq!(SigningKey::read(&bytes, None, now()).unwrap_err(), error);
    }
    // Half a key is none, wherever it was cut.
    let whole = key.to_bytes().unwrap();
    for end in 0..whole.len() {
        assert!(SigningKey::read(&whole[..end], None, now()).is_err(), "{end} bytes were taken");
    }
}

#[test]
fn a_passphrase_opens_what_it_locks() {
    let mut key = make(KeyType::Ed25519Legacy, true, &[]);
    key.primary_key.set_password(rand::rngs::OsRng, &"hunter2".into()).unwrap();
    let bytes = key.to_bytes().unwrap();
    let read = |passphrase: Option<&[u8]>| SigningKey::read(&bytes, passphrase, now());
    assert_eq!(read(None).unwrap_err(), KeyError::Locked);
    assert_eq!(read(Some(b"hunter3")).unwrap_err(), KeyError::Passphrase);
    assert!(read(Some(b"hunter2")).unwrap().sign(DATA, now()).is_ok());
    assert_eq!(without_newline(b"hunter2\r\n"), b"hunter2");
}

#[test]
fn signatures_that_prove_nothing_are_named() {
    let key = make(KeyType::Ed25519Legacy, true, &[]);
    let ring = read(&key).unwrap().public();
    let verify = |signature: &[u8]| ring.verify(DATA, signature, now());
    let good = signature(&key, HashAlgorithm::Sha256, None);
    assert!(verify(&good).is_ok());
    assert!(verify(&signature(&key, HashAlgorithm::Sha512, Some(11))).is_ok());

    let other = make(KeyType::Ed25519Legacy, true, &[]);
    let wrong = SignatureError::WrongKey(keyring::fingerprint(&other.primary_key));
    assert_eq!(verify(&signature(&other, HashAlgorithm::Sha256, None)), Err(wrong));
    for weak in [HashAlgorithm::Sha1, HashAlgorithm::Md5] {
        let made = signature(&make(KeyType::Rsa(2048), true, &[]), weak, None);
        assert!(matches!(verify(&made), Err(SignatureError::WeakHash(_))), "{weak} was taken");
    }
    assert_eq!(
        verify(&signature(&key, HashAlgorithm::Sha256, Some(9))),
        Err(SignatureError::Expired("2026-01-09".to_owned()))
    );
    assert_eq!(verify(&[good.clone(), good.clone()].concat()), Err(SignatureError::Several(2)));
    let inline = b"-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\nx\n";
    assert_eq!(verify(inline), Err(SignatureError::Inline));
    for none in [b"".as_slice(), b"x", b"<html>404</html>", &[0x88, 0xff]] {
        assert_eq!(verify(none), Err(SignatureError::NotASignature), "{none:?}");
    }
    let large = vec![0x88; keyring::LARGEST_SIGNATURE + 1];
    assert_eq!(verify(&large), Err(SignatureError::NotASignature));
    // No byte of it can be changed, and nothing crashes. Only the lengths of its two numbers are
    // counted in bits, of which some make the same bytes.
    let bits = |at: usize| usize::from(u16::from_be_bytes([good[at], good[at + 1]]));
    let first = 41;
    let second = first + 2 + bits(first).div_ceil(8);
    assert_eq!(second + 2 + bits(second).div_ceil(8), good.len());
    for at in (0..good.len()).filter(|at| ![first, first + 1, second, second + 1].contains(at)) {
        let mut bad = good.clone();
        bad[at] ^= 0x01;
        assert!(verify(&bad).is_err(), "byte {at} does not matter");
    }
}

#[test]
fn revoked_keys_vouch_for_nothing_and_expired_ones_say_so() {
    let key = make(KeyType::Ed25519Legacy, true, &[]);
    let good = signature(&key, HashAlgorithm::Sha256, None);
    let ring = |key: &SignedSecretKey| Keyring::parse(&key.to_public_key().to_bytes().unwrap());
    assert!(matches!(
        ring(&revoked(key.clone())).unwrap().verify(DATA, &good, now()),
        Err(SignatureError::Unfit { .. })
    ));
    let lifetime = SubpacketData::KeyExpirationTime(pgp::types::Duration::from_secs(86400));
    let expired = with_self_signature(key.clone(), HashAlgorithm::Sha256, vec![lifetime]);
    let by = ring(&expired).unwrap().verify(DATA, &good, now()).unwrap();
    assert_eq!(by.expired.as_deref(), Some("2025-10-03"));
    // A key without a self-signature is nobody's.
    let key = make(KeyType::Rsa(2048), true, &[]);
    let good = signature(&key, HashAlgorithm::Sha256, None);
    let unbound = with_self_signature(key, HashAlgorithm::Md5, Vec::new());
    assert!(matches!(
        ring(&unbound).unwrap().verify(DATA, &good, now()),
        Err(SignatureError::Unfit { .. })
    ));
}

#[test]
fn keyrings_hold_many_keys_in_any_form_but_no_secret() {
    let keys = [make(KeyType::Ed25519Legacy, true, &[]), make(KeyType::Ed25519Legacy, true, &[])];
    let [one, two] = keys.each_ref().map(SignedSecretKey::to_public_key);
    let text = |key: &pgp::composed::SignedPublicKey| {
        key.to_armored_bytes(ArmorOptions::default()).unwrap()
    };
    let binary = [one.to_bytes().unwrap(), two.to_bytes().unwrap()].concat();
    let fingerprints = [&one, &two].map(keyring::fingerprint).to_vec();
    for form in [
        binary.clone(),
        [text(&one), text(&two)].concat(),
        [b"a comment\n".to_vec(), text(&one), b"\n\n".to_vec(), text(&two), text(&one)].concat(),
        Keyring::parse(&binary).unwrap().to_armored(),
    ] {
        let ring = Keyring::parse(&form).unwrap();
        assert_eq!(ring.fingerprints(), fingerprints);
        assert_eq!(ring.to_bytes(), binary);
        for key in &keys {
            let made = signature(key, HashAlgorithm::Sha256, None);
            assert!(ring.verify(DATA, &made, now()).is_ok());
        }
    }
    let secret = keys[0].to_bytes().unwrap();
    let armored = keys[0].to_armored_bytes(ArmorOptions::default()).unwrap();
    for secret in [&secret, &armored] {
        assert!(matches!(Keyring::parse(secret), Err(KeyringError::Secret)));
    }
    let keybox = b"\0\0\0\x20\x01\x01\0\x02KBXf\0\0\0\0";
    assert!(matches!(Keyring::parse(keybox), Err(KeyringError::Keybox)));
    for none in [b"".as_slice(), b"x", b"\xff\xff"] {
        assert!(Keyring::parse(none).is_err());
    }
}

#[test]
fn a_signer_knows_its_own_work() {
    let period = Some(Duration::from_secs(14 * 24 * 60 * 60));
    let with = |key: SigningKey| Signer::with_key(key, period);
    let own = with(read(&make(KeyType::Ed25519Legacy, true, &[])).unwrap());
    let mut manifest = Manifest::default();
    manifest.add("x.raw".parse().unwrap(), crate::name::Sha256::of(b"x")).unwrap();
    let signed = own.sign_at(&manifest, now()).unwrap();
    let [(first, text), (second, binary), (third, armored)] = signed.files() else {
        panic!("three files")
    };
    assert_eq!([*first, *second, *third], [manifest::FILE, SIGNATURE, ARMORED]);
    assert!(String::from_utf8_lossy(text).contains("  BEST-BEFORE-2026-01-24\n"));
    assert_eq!(Manifest::parse(text).unwrap(), *signed.lines());
    let vouches = |text: &[u8], one: Option<&[u8]>, other: Option<&[u8]>| {
        own.vouches(text, one, other, now())
    };
    assert!(vouches(text, Some(binary), Some(armored)));
    assert!(vouches(text, Some(armored), Some(binary)), "the form is all one to clients");
    assert!(!vouches(text, Some(binary), None) && !vouches(text, None, Some(armored)));
    assert!(!vouches(b"changed\n", Some(binary), Some(armored)));
    let again = own.sign_at(&manifest, now() + Duration::from_secs(1)).unwrap();
    assert!(!vouches(text, Some(binary), Some(&again.files()[2].1)), "two signatures");
    let other = with(read(&make(KeyType::Ed25519Legacy, true, &[])).unwrap());
    assert!(!other.vouches(text, Some(binary), Some(armored), now()));
    assert!(!own.is_due(signed.lines(), now()));
    assert!(own.is_due(&manifest, now()));
    // Unsigned, a manifest is what it was, to the byte.
    let plain = Signer::Unsigned.sign_at(&manifest, now()).unwrap();
    assert_eq!(plain.files(), [(manifest::FILE, manifest.render())]);
}

#[test]
fn nothing_shows_a_secret() {
    let secret = make(KeyType::Ed25519Legacy, true, &[]);
    let mut wire = Vec::new();
    let pgp::types::SecretParams::Plain(params) = secret.primary_key.secret_params() else {
        panic!("not locked")
    };
    params.to_writer(&mut wire, KeyVersion::V4).unwrap();
    let hex: String = wire[2..wire.len() - 2].iter().fold(String::new(), |text, byte| {
        use std::fmt::Write;
        let mut text = text;
        write!(text, "{byte:02x}").unwrap();
        text
    });
    assert_eq!(hex.len(), 64);
    let key = read(&secret).unwrap();
    let fingerprint = key.fingerprint();
    let signer = Signer::with_key(key, None);
    let shown = format!("{signer:?} {signer:#?}");
    assert!(shown.contains(&fingerprint), "{shown}");
    assert!(!shown.to_lowercase().contains(&hex), "{shown}");
    let decimal = wire[2..10].iter().map(u8::to_string).collect::<Vec<_>>().join(", ");
    assert!(!shown.contains(&decimal), "{shown}");
}

#[test]
fn signatures_of_other_things_are_none_over_a_manifest() {
    // A certification is a signature packet too.
    let key = make(KeyType::Ed25519Legacy, true, &[]);
    let packet: &Signature = &key.details.users[0].signatures[0];
    let bytes = DetachedSignature::new(packet.clone()).to_bytes().unwrap();
    assert_eq!(
        read(&key).unwrap().public().verify(DATA, &bytes, now()),
        Err(SignatureError::NotASignature)
    );
}

#[test]
fn damaged_keyrings_and_signatures_are_refused_without_a_crash() {
    let key = make(KeyType::Ed25519Legacy, true, &[(KeyType::Ed25519Legacy, true, 2)]);
    let ring = key.to_public_key().to_bytes().unwrap();
    let by_primary = signature(&key, HashAlgorithm::Sha256, None);
    // Curves are slow without optimisation: not every byte.
    for at in (0..ring.len()).step_by(3) {
        let mut bad = ring.clone();
        bad[at] ^= 0x81;
        let Ok(bad) = Keyring::parse(&bad) else { continue };
        // Whoever it is now, it is not who signed; or what was changed is not what signs.
        if let Ok(by) = bad.verify(DATA, &by_primary, now()) {
            assert_eq!(by.primary, keyring::fingerprint(&key.primary_key), "byte {at}");
        }
    }
    for end in (0..ring.len()).step_by(11) {
        let _ = Keyring::parse(&ring[..end]);
    }
}

#[test]
fn a_key_that_expires_soon_says_so() {
    let lives = |days: u32| {
        let lifetime =
            SubpacketData::KeyExpirationTime(pgp::types::Duration::from_secs(days * 24 * 60 * 60));
        let key = make(KeyType::Ed25519Legacy, true, &[]);
        read(&with_self_signature(key, HashAlgorithm::Sha256, vec![lifetime])).unwrap()
    };
    // It was made a hundred days ago.
    assert_eq!(lives(110).expires_soon(now()).as_deref(), Some("2026-01-20"));
    assert_eq!(lives(200).expires_soon(now()), None);
    assert_eq!(lives(0).expires_soon(now()), None);
}

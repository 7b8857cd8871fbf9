//! Certificates: which parts of an OpenPGP key may sign, and since when not any more.
//!
//! Owns the reading of self-signatures as gpg reads them: the newest valid one counts. Knows nothing
//! of secrets or of what is signed.

use jiff::Timestamp;
use pgp::composed::{SignedPublicKey, SignedPublicSubKey};
use pgp::crypto::hash::HashAlgorithm;
use pgp::crypto::public_key::PublicKeyAlgorithm;
use pgp::packet::{Signature, SignatureType, SubpacketData};
use pgp::ser::Serialize;
use pgp::types::{EcdsaPublicParams, KeyDetails, KeyVersion, PublicParams, RsaPublicParams, Tag};

/// What the self-signatures say of a key or subkey.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Standing {
    /// A valid self-signature holds it to the certificate.
    pub(super) bound: bool,
    /// Its owner has revoked it.
    pub(super) revoked: bool,
    /// When it expires, in seconds since 1970.
    pub(super) expires: Option<u64>,
    /// It may sign data.
    pub(super) signs: bool,
}

impl Standing {
    /// Whether it is expired.
    pub(super) fn is_expired(self, now: Timestamp) -> bool {
        self.expires.is_some_and(|at| at <= seconds(now))
    }

    /// Why nothing may be signed with it any more, if so.
    pub(super) fn flaw(self, now: Timestamp) -> Option<String> {
        if !self.bound {
            Some("has no valid self-signature of SHA-1 or better".to_owned())
        } else if self.revoked {
            Some("is revoked".to_owned())
        } else if self.is_expired(now) {
            Some(format!("expired on {}", date(self.expires.unwrap_or_default())))
        } else if !self.signs {
            Some("is not made for signing".to_owned())
        } else {
            None
        }
    }
}

/// Seconds since 1970, never negative.
pub(super) fn seconds(at: Timestamp) -> u64 {
    u64::try_from(at.as_second()).unwrap_or(0)
}

/// The day of a time, for people.
pub(super) fn date(seconds: u64) -> String {
    i64::try_from(seconds)
        .ok()
        .and_then(|seconds| Timestamp::from_second(seconds).ok())
        .map_or_else(|| "an unknown day".to_owned(), |at| at.strftime("%Y-%m-%d").to_string())
}

/// What the self-signatures say of the primary key.
pub(super) fn of_primary(certificate: &SignedPublicKey) -> Standing {
    let key = &certificate.primary_key;
    let details = &certificate.details;
    let on_users = details.users.iter().flat_map(|user| {
        let own = user.signatures.iter().filter(|signature| is_strong(signature));
        let own: Vec<_> = own
            .filter(|signature| signature.verify_certification(key, Tag::UserId, &user.id).is_ok())
            .collect();
        // A user ID whose last word is a revocation says nothing any more.
        let last = own.iter().max_by_key(|signature| signature.created());
        let revoked = last.is_some_and(|last| last.typ() == Some(SignatureType::CertRevocation));
        own.into_iter().filter(move |signature| {
            !revoked && signature.typ() != Some(SignatureType::CertRevocation)
        })
    });
    let direct = details.direct_signatures.iter().filter(|signature| {
        is_strong(signature)
            && signature.typ() == Some(SignatureType::Key)
            && signature.verify_key(key).is_ok()
    });
    let binding = on_users.chain(direct).max_by_key(|signature| signature.created());
    let revoked =
        details.revocation_signatures.iter().any(|signature| signature.verify_key(key).is_ok());
    standing(key, binding, revoked)
}

/// What the self-signatures say of a subkey.
pub(super) fn of_subkey(certificate: &SignedPublicKey, subkey: &SignedPublicSubKey) -> Standing {
    let primary = &certificate.primary_key;
    let valid = |signature: &&Signature| {
        is_strong(signature) && signature.verify_subkey_binding(primary, &subkey.key).is_ok()
    };
    let of_type = |typ: SignatureType| {
        subkey.signatures.iter().filter(move |signature| signature.typ() == Some(typ))
    };
    let binding =
        of_type(SignatureType::SubkeyBinding).filter(valid).max_by_key(|binding| binding.created());
    let revoked = of_type(SignatureType::SubkeyRevocation).any(|revocation| valid(&revocation));
    let mut standing = standing(&subkey.key, binding, revoked);
    // A subkey that signs must say itself that it belongs to the primary key: anybody could claim it.
    standing.signs &= binding
        .and_then(Signature::embedded_signature)
        .is_some_and(|back| back.verify_primary_key_binding(&subkey.key, primary).is_ok());
    standing
}

fn standing(key: &impl KeyDetails, binding: Option<&Signature>, revoked: bool) -> Standing {
    let lifetime = binding
        .and_then(Signature::key_expiration_time)
        .map(|lifetime| u64::from(lifetime.as_secs()))
        .filter(|lifetime| *lifetime != 0);
    Standing {
        bound: binding.is_some(),
        revoked,
        expires: lifetime.map(|lifetime| u64::from(key.created_at().as_secs()) + lifetime),
        signs: binding.is_some_and(|binding| signs(binding, key.algorithm())),
    }
}

/// Without key flags, a key may do whatever its algorithm can.
fn signs(binding: &Signature, algorithm: PublicKeyAlgorithm) -> bool {
    let flags = binding.config().and_then(|config| {
        config.hashed_subpackets().find_map(|subpacket| match &subpacket.data {
            SubpacketData::KeyFlags(flags) => Some(flags.sign()),
            _ => None,
        })
    });
    flags.unwrap_or_else(|| algorithm.can_sign())
}

/// Anybody can forge what MD5 holds together.
fn is_strong(signature: &Signature) -> bool {
    !matches!(signature.hash_alg(), None | Some(HashAlgorithm::Md5 | HashAlgorithm::None))
}

/// The name of a key's algorithm, if every known client takes its signatures; else what is wrong.
pub(super) fn algorithm(key: &impl KeyDetails) -> Result<String, String> {
    match key.version() {
        KeyVersion::V4 => {}
        KeyVersion::V6 => return Err("is a version 6 key, which no gpg reads".to_owned()),
        other => {
            return Err(format!("is a version {} key, which clients refuse", u8::from(other)));
        }
    }
    match key.public_params() {
        PublicParams::EdDSALegacy(_) => Ok("Ed25519".to_owned()),
        PublicParams::RSA(key) => match bits(key) {
            few @ 0..2048 => Err(format!("has only {few} bits of RSA")),
            bits => Ok(format!("RSA {bits}")),
        },
        PublicParams::ECDSA(EcdsaPublicParams::P256 { .. }) => Ok("P-256".to_owned()),
        PublicParams::ECDSA(EcdsaPublicParams::P384 { .. }) => Ok("P-384".to_owned()),
        PublicParams::ECDSA(EcdsaPublicParams::P521 { .. }) => Ok("P-521".to_owned()),
        PublicParams::ECDSA(other) => {
            Err(format!("is on the curve {}, which clients may not know", other.curve().name()))
        }
        PublicParams::DSA(_) => Err("is a DSA key, which clients no longer trust".to_owned()),
        PublicParams::Ed25519(_) => {
            Err("is Ed25519 in its new form (algorithm 27), which gpg does not know".to_owned())
        }
        _ => Err(format!("has an algorithm that no client takes ({:?})", key.algorithm())),
    }
}

/// Why signatures by a key prove nothing, whoever reads them.
pub(super) fn weakness(key: &impl KeyDetails) -> Option<String> {
    match key.public_params() {
        PublicParams::RSA(key) => match bits(key) {
            few @ 0..2048 => Some(format!("has only {few} bits of RSA")),
            _ => None,
        },
        PublicParams::DSA(_) => Some("is a DSA key, which is too weak".to_owned()),
        _ => None,
    }
}

/// The bits of the modulus: the first number on the wire, where its length stands before it.
fn bits(key: &RsaPublicParams) -> u16 {
    let mut wire = Vec::new();
    match key.to_writer(&mut wire) {
        Ok(()) if wire.len() > 1 => u16::from_be_bytes([wire[0], wire[1]]),
        _ => 0,
    }
}

//! The signing key: which secret vouches for manifests.
//!
//! Owns what a usable key is: one whose signatures every known client takes. The secret stays in
//! here; nothing prints it, and it is wiped from memory when the key is dropped.

use std::fmt;

use jiff::Timestamp;
use pgp::composed::{
    ArmorOptions, DetachedSignature, EncryptionCaps, KeyType, PublicOrSecret,
    SecretKeyParamsBuilder, SignedPublicKey, SignedSecretKey, SubpacketConfig,
};
use pgp::crypto::hash::HashAlgorithm;
use pgp::packet::{SecretKey, SecretSubkey, Subpacket, SubpacketData};
use pgp::types::{
    KeyDetails, Password, S2kParams, SecretParams, StringToKey, Timestamp as PgpTime,
};
use thiserror::Error;
use zeroize::Zeroizing;

use super::certificate::{self, seconds};
use super::keyring::{Keyring, fingerprint};

/// A key that cannot be used, and why. Never says anything of the secret itself.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum KeyError {
    /// Not OpenPGP, or broken.
    #[error("it is not an OpenPGP key")]
    NotAKey,
    /// The half that everybody may have.
    #[error("it is a public key, and only the secret one can sign")]
    Public,
    /// It would be unclear which is meant.
    #[error("it has {0} keys in it")]
    Several(usize),
    /// There is no key or subkey that could sign.
    #[error("it cannot be used: {0}")]
    Unusable(String),
    /// It needs a passphrase.
    #[error("it is locked with a passphrase")]
    Locked,
    /// The passphrase does not open it.
    #[error("the passphrase does not open it")]
    Passphrase,
    /// What the library said when it made one.
    #[error("it cannot be made: {0}")]
    Generate(String),
}

impl KeyError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let text = match self {
            Self::NotAKey => {
                "all of it, from -----BEGIN to -----END: `publish key generate` or `gpg --export-secret-keys --armor KEY` write one"
            }
            Self::Public => "`gpg --export-secret-keys --armor KEY` writes the secret one",
            Self::Several(_) => "one alone: `gpg --export-secret-keys --armor KEY`",
            Self::Unusable(_) => {
                "`publish key generate` makes one that every client takes; so are RSA, NIST P-256 and Ed25519 keys of gpg"
            }
            Self::Locked => "[signing] passphrase = { env = \"NAME\" } or { file = \"FILE\" }",
            Self::Passphrase => "look at [signing] passphrase; a final newline is not part of it",
            Self::Generate(_) => return None,
        };
        Some(text.to_owned())
    }
}

/// A key that expires so soon, in seconds, is worth a warning: nodes need the next one before.
const SOON: u64 = 30 * 24 * 60 * 60;

/// What kind of key to make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Small and fast, in the form that every gpg since 2.1 reads.
    Ed25519,
    /// For who must have RSA: 4096 bits.
    Rsa,
}

/// A secret key that can sign, and its public half.
pub struct SigningKey {
    secret: Secret,
    certificate: SignedPublicKey,
    algorithm: String,
    /// In seconds since 1970.
    expires: Option<u64>,
}

/// The one part that signs. The others are not kept.
enum Secret {
    Primary(SecretKey),
    Subkey(SecretSubkey),
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey")
            .field("fingerprint", &self.fingerprint())
            .field("algorithm", &self.algorithm)
            .finish_non_exhaustive()
    }
}

impl SigningKey {
    /// Reads a secret key, armored or binary, and picks the part that signs as gpg would: the newest
    /// valid signing subkey, else the primary key.
    ///
    /// # Errors
    /// It is none, or clients would not take its signatures.
    pub fn read(bytes: &[u8], passphrase: Option<&[u8]>, now: Timestamp) -> Result<Self, KeyError> {
        let key = parse(bytes)?;
        let certificate = key.to_public_key();
        // Clients must be able to read the certificate as a whole.
        certificate::algorithm(&key.primary_key)
            .map_err(|problem| unusable("key", &key.primary_key, &problem))?;
        let primary = certificate::of_primary(&certificate);
        if primary.revoked || !primary.bound || primary.is_expired(now) {
            let problem = primary.flaw(now).unwrap_or_default();
            return Err(unusable("key", &key.primary_key, &problem));
        }

        let mut reasons = Vec::new();
        let mut subkeys = key.secret_subkeys;
        subkeys.sort_by_key(|subkey| std::cmp::Reverse(subkey.key.created_at()));
        for subkey in subkeys {
            let public = subkey.signed_public_key();
            let standing = certificate::of_subkey(&certificate, &public);
            // One for encryption is not what anybody meant.
            if standing.bound && !standing.signs {
                continue;
            }
            match judge(&subkey.key, subkey.key.secret_params(), standing.flaw(now)) {
                Ok(algorithm) => {
                    let mut secret = subkey.key;
                    let password = unlocking(secret.secret_params(), passphrase)?;
                    secret.remove_password(&password).map_err(|_| KeyError::Passphrase)?;
                    let expires = earlier(primary.expires, standing.expires);
                    let secret = Secret::Subkey(secret);
                    return Ok(Self { secret, certificate, algorithm, expires });
                }
                Err(problem) => reasons.push(about("subkey", &subkey.key, &problem)),
            }
        }
        match judge(&key.primary_key, key.primary_key.secret_params(), primary.flaw(now)) {
            Ok(algorithm) => {
                let mut secret = key.primary_key;
                let password = unlocking(secret.secret_params(), passphrase)?;
                secret.remove_password(&password).map_err(|_| KeyError::Passphrase)?;
                let secret = Secret::Primary(secret);
                Ok(Self { secret, certificate, algorithm, expires: primary.expires })
            }
            Err(problem) => {
                reasons.push(about("key", &key.primary_key, &problem));
                Err(KeyError::Unusable(reasons.join("; ")))
            }
        }
    }

    /// Makes a key, armored, without a passphrase.
    ///
    /// # Errors
    /// The user ID is none.
    pub fn generate(
        kind: Kind,
        user: &str,
        now: Timestamp,
    ) -> Result<Zeroizing<Vec<u8>>, KeyError> {
        if user.trim().is_empty() || user.len() > 255 || user.chars().any(char::is_control) {
            let user = user.escape_debug();
            return Err(KeyError::Generate(format!(
                "`{user}` is no user ID such as \"Name <me@example.com>\""
            )));
        }
        let made = |error: &dyn fmt::Display| KeyError::Generate(error.to_string());
        let params = SecretKeyParamsBuilder::default()
            .key_type(match kind {
                Kind::Ed25519 => KeyType::Ed25519Legacy,
                Kind::Rsa => KeyType::Rsa(4096),
            })
            .can_certify(true)
            .can_sign(true)
            .can_encrypt(EncryptionCaps::None)
            .created_at(time(now))
            .preferred_hash_algorithms(
                [HashAlgorithm::Sha512, HashAlgorithm::Sha384, HashAlgorithm::Sha256]
                    .into_iter()
                    .collect(),
            )
            .primary_user_id(user.to_owned())
            .build()
            .map_err(|error| made(&error))?;
        let key = params.generate(rand::rngs::OsRng).map_err(|error| made(&error))?;
        let text = key.to_armored_bytes(ArmorOptions::default()).map_err(|error| made(&error))?;
        Ok(Zeroizing::new(text))
    }

    /// The fingerprint of the primary key, as gpg prints it.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        fingerprint(&self.certificate)
    }

    /// `Ed25519`, `RSA 4096`.
    #[must_use]
    pub fn algorithm(&self) -> &str {
        &self.algorithm
    }

    /// The day on which it expires, if that is so soon that somebody should know.
    #[must_use]
    pub fn expires_soon(&self, now: Timestamp) -> Option<String> {
        let soon = seconds(now) + SOON;
        self.expires.filter(|at| *at < soon).map(certificate::date)
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> Keyring {
        Keyring::of(self.certificate.clone())
    }

    /// Signs bytes with SHA-256 or better. The signature does not expire: freshness is for the
    /// manifest to say.
    pub(super) fn sign(
        &self,
        data: &[u8],
        now: Timestamp,
    ) -> Result<DetachedSignature, pgp::errors::Error> {
        match &self.secret {
            Secret::Primary(key) => detached(key, data, now),
            Secret::Subkey(key) => detached(key, data, now),
        }
    }
}

fn detached(
    key: &impl pgp::types::SigningKey,
    data: &[u8],
    now: Timestamp,
) -> Result<DetachedSignature, pgp::errors::Error> {
    // The larger curves need a digest of their own length.
    let hash = match key.hash_alg() {
        longer @ (HashAlgorithm::Sha384 | HashAlgorithm::Sha512) => longer,
        _ => HashAlgorithm::Sha256,
    };
    // A clock that runs behind the one that made the key must not date the signature before it.
    let at = time(now).max(key.created_at());
    let subpackets = SubpacketConfig::UserDefined {
        hashed: vec![
            Subpacket::regular(SubpacketData::IssuerFingerprint(key.fingerprint()))?,
            Subpacket::regular(SubpacketData::SignatureCreationTime(at))?,
        ],
        unhashed: vec![Subpacket::regular(SubpacketData::IssuerKeyId(key.legacy_key_id()))?],
    };
    DetachedSignature::sign_binary_data_with_subpackets(
        rand::rngs::OsRng,
        key,
        &Password::empty(),
        hash,
        data,
        subpackets,
    )
}

fn earlier(one: Option<u64>, other: Option<u64>) -> Option<u64> {
    one.into_iter().chain(other).min()
}

fn time(at: Timestamp) -> PgpTime {
    PgpTime::from_secs(u32::try_from(seconds(at)).unwrap_or(u32::MAX))
}

fn parse(bytes: &[u8]) -> Result<SignedSecretKey, KeyError> {
    // The library's own words may quote what it read, so they are not passed on.
    let not_a_key = |_: pgp::errors::Error| KeyError::NotAKey;
    let bytes = bytes.trim_ascii_start();
    let (keys, _) = PublicOrSecret::from_reader_many_buf(bytes).map_err(not_a_key)?;
    let mut keys = keys.collect::<Result<Vec<_>, _>>().map_err(not_a_key)?;
    match (keys.len(), keys.pop()) {
        (1, Some(PublicOrSecret::Secret(key))) => Ok(key),
        (1, Some(PublicOrSecret::Public(_))) => Err(KeyError::Public),
        (_, None) => Err(KeyError::NotAKey),
        (more, _) => Err(KeyError::Several(more)),
    }
}

/// The algorithm of a part that may sign; else why not.
fn judge(
    key: &impl KeyDetails,
    secret: &SecretParams,
    flaw: Option<String>,
) -> Result<String, String> {
    if let Some(flaw) = flaw {
        return Err(flaw);
    }
    if is_elsewhere(secret) {
        return Err("has its secret elsewhere, not in this file".to_owned());
    }
    certificate::algorithm(key)
}

/// gpg leaves a stub where a secret is kept offline or on a card.
fn is_elsewhere(secret: &SecretParams) -> bool {
    let SecretParams::Encrypted(secret) = secret else { return false };
    match secret.string_to_key_params() {
        S2kParams::Aead { s2k, .. }
        | S2kParams::Cfb { s2k, .. }
        | S2kParams::MalleableCfb { s2k, .. } => {
            matches!(s2k, StringToKey::Private { .. } | StringToKey::Other { .. })
        }
        S2kParams::Unprotected | S2kParams::LegacyCfb { .. } => false,
    }
}

fn unlocking(secret: &SecretParams, passphrase: Option<&[u8]>) -> Result<Password, KeyError> {
    match passphrase {
        _ if !secret.is_encrypted() => Ok(Password::empty()),
        Some(passphrase) => Ok(passphrase.into()),
        None => Err(KeyError::Locked),
    }
}

fn about(what: &str, key: &impl KeyDetails, problem: &str) -> String {
    format!("the {what} {} {problem}", fingerprint(key))
}

fn unusable(what: &str, key: &impl KeyDetails, problem: &str) -> KeyError {
    KeyError::Unusable(about(what, key, problem))
}

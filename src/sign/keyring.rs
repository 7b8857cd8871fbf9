//! Keyrings: whose signatures count, and whether a signature is one of theirs.
//!
//! Owns the verification of detached signatures. Clients take signatures of expired and of revoked
//! keys; here a revoked key is refused, because somebody said that it is lost, and an expired one is
//! reported with the answer, because most are only renewed elsewhere.

use std::cell::Cell;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use pgp::armor::BlockType;
use pgp::composed::{Deserializable, DetachedSignature, PublicOrSecret, SignedPublicKey};
use pgp::crypto::hash::HashAlgorithm;
use pgp::packet::{Signature, SignatureType, SignatureVersion};
use pgp::ser::Serialize;
use pgp::types::{KeyDetails, VerifyingKey};
use thiserror::Error;

use super::certificate::{self, Standing, date, seconds};

/// The largest signature that is read, in bytes; real ones have less than 2 KiB.
pub const LARGEST_SIGNATURE: usize = 64 << 10;

/// The largest keyring that is read, in bytes.
const LARGEST_KEYRING: u64 = 16 << 20;

/// How far a signer's clock may be ahead of ours, in seconds.
const SKEW: u64 = 24 * 60 * 60;

/// How gpg begins the keyring format of its own that cannot be shipped: at the ninth byte.
const KEYBOX: &[u8] = b"KBXf";

const BEGIN_PUBLIC: &str = "-----BEGIN PGP PUBLIC KEY BLOCK-----";

/// A file that is no keyring.
#[derive(Debug, Error)]
pub enum KeyringError {
    /// Not OpenPGP at all.
    #[error("it has no OpenPGP public key in it")]
    NotAKeyring,
    /// gpg's own database.
    #[error("it is a keybox, the format of gpg's own database")]
    Keybox,
    /// Somebody mixed up two files.
    #[error("it has a secret key in it, which must not be given away")]
    Secret,
    /// A broken key.
    #[error("it is broken: {0}")]
    Broken(String),
    /// The file cannot be read.
    #[error("cannot read {path}", path = path.display())]
    Disk {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file can be read, but is none.
    #[error("{path} is no keyring", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<KeyringError>,
    },
}

impl KeyringError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let text = match self {
            Self::Disk { .. } => return None,
            Self::File { source, .. } => return source.hint(),
            Self::NotAKeyring | Self::Broken(_) => {
                "`gpg --export KEY >FILE` or `publish key export` write one"
            }
            Self::Keybox => {
                "`gpg --no-default-keyring --keyring THIS --export >FILE` makes a keyring of it"
            }
            Self::Secret => "give the public key: `gpg --export KEY >FILE` or `publish key export`",
        };
        Some(text.to_owned())
    }
}

/// A signature that does not vouch for a manifest.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum SignatureError {
    /// Not a detached signature.
    #[error("is not a detached OpenPGP signature")]
    NotASignature,
    /// The text itself is inside.
    #[error("is a signed message, not a detached signature")]
    Inline,
    /// Clients want every signer in their keyring.
    #[error("has {0} signatures, and clients refuse more than one unless they have every key")]
    Several(usize),
    /// Anybody could have made it.
    #[error("uses {0}, which is too weak")]
    WeakHash(String),
    /// A form that gpg does not read.
    #[error("is of a version that clients do not read")]
    Version,
    /// Its maker said that it is only good until then.
    #[error("expired on {0}")]
    Expired(String),
    /// Its maker says that it is not made yet.
    #[error("was made in the future, on {0}, by the clock of this machine")]
    Future(String),
    /// It may be right, but not for who has this keyring.
    #[error("is by another key, {0}")]
    WrongKey(String),
    /// By a key of the keyring, but not over these bytes.
    #[error("by key {0} does not fit: the manifest or the signature was changed")]
    Tampered(String),
    /// The key must not sign.
    #[error("is by key {key}, which {problem}")]
    Unfit {
        /// The key.
        key: String,
        /// Why not.
        problem: String,
    },
}

/// Who made a signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedBy {
    /// The fingerprint of the key or subkey that signed.
    pub key: String,
    /// The fingerprint of the primary key.
    pub primary: String,
    /// The first user ID.
    pub user: Option<String>,
    /// When it was made, in seconds since 1970.
    pub at: u64,
    /// The day on which the key expired, if it did.
    pub expired: Option<String>,
    /// Whether the key had expired when it signed.
    pub outlived: bool,
}

/// Public keys.
#[derive(Clone, Default)]
pub struct Keyring {
    certificates: Vec<SignedPublicKey>,
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.fingerprints()).finish()
    }
}

impl Keyring {
    pub(super) fn of(certificate: SignedPublicKey) -> Self {
        Self { certificates: vec![certificate] }
    }

    /// Reads a keyring: binary, or one or more armored blocks.
    ///
    /// # Errors
    /// It is none, or has a secret key in it.
    pub fn parse(bytes: &[u8]) -> Result<Self, KeyringError> {
        if bytes.len() as u64 >= LARGEST_KEYRING {
            return Err(KeyringError::Broken("it is too large".to_owned()));
        }
        if bytes.get(8..12) == Some(KEYBOX) {
            return Err(KeyringError::Keybox);
        }
        let mut certificates = Vec::new();
        if bytes.first().is_some_and(|first| first & 0x80 != 0) {
            read(bytes, &mut certificates)?;
        } else {
            let text = std::str::from_utf8(bytes).map_err(|_| KeyringError::NotAKeyring)?;
            if text.contains("-----BEGIN PGP PRIVATE KEY") {
                return Err(KeyringError::Secret);
            }
            for (at, _) in text.match_indices(BEGIN_PUBLIC) {
                read(&text.as_bytes()[at..], &mut certificates)?;
            }
        }
        if certificates.is_empty() {
            return Err(KeyringError::NotAKeyring);
        }
        let mut keyring = Self::default();
        keyring.add(Self { certificates });
        Ok(keyring)
    }

    /// Reads a keyring from a file.
    ///
    /// # Errors
    /// As [`Keyring::parse`], with the file's name.
    pub fn read(path: &Path) -> Result<Self, KeyringError> {
        let disk = |source| KeyringError::Disk { path: path.to_owned(), source };
        // A pipe would wait for somebody to write.
        if !fs::metadata(path).map_err(disk)?.is_file() {
            return Err(disk(io::Error::other("it is not a regular file")));
        }
        let mut bytes = Vec::new();
        File::open(path)
            .and_then(|file| file.take(LARGEST_KEYRING).read_to_end(&mut bytes))
            .map_err(disk)?;
        Self::parse(&bytes)
            .map_err(|error| KeyringError::File { path: path.to_owned(), source: error.into() })
    }

    /// Takes over the keys that are not in it yet.
    pub fn add(&mut self, other: Self) {
        for certificate in other.certificates {
            let known = |known: &SignedPublicKey| known.fingerprint() == certificate.fingerprint();
            if !self.certificates.iter().any(known) {
                self.certificates.push(certificate);
            }
        }
    }

    /// The fingerprints of the primary keys.
    #[must_use]
    pub fn fingerprints(&self) -> Vec<String> {
        self.certificates.iter().map(fingerprint).collect()
    }

    /// Those of the subkeys too.
    #[must_use]
    pub fn all_fingerprints(&self) -> Vec<String> {
        let subkeys = self.certificates.iter().flat_map(|certificate| &certificate.public_subkeys);
        let mut all = self.fingerprints();
        all.extend(subkeys.map(|subkey| fingerprint(&subkey.key)));
        all
    }

    /// The form that clients read at `/etc/systemd/import-pubring.gpg`.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for certificate in &self.certificates {
            certificate.to_writer(&mut bytes).expect("a vector takes all that was read before");
        }
        bytes
    }

    /// The same as text. Clients do not read this form.
    #[must_use]
    pub fn to_armored(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let packets = Packets(self.to_bytes());
        pgp::armor::write(&packets, BlockType::PublicKey, &mut bytes, None, true)
            .expect("a vector takes all that was read before");
        bytes
    }

    /// Checks a detached signature, binary or armored, over `data`.
    ///
    /// # Errors
    /// Why it does not vouch for these bytes.
    pub fn verify(
        &self,
        data: &[u8],
        signature: &[u8],
        now: Timestamp,
    ) -> Result<SignedBy, SignatureError> {
        let signature = parse_signature(signature)?.signature;
        if !matches!(signature.version(), SignatureVersion::V3 | SignatureVersion::V4) {
            return Err(SignatureError::Version);
        }
        check_form(&signature, now)?;
        self.find(&signature, &|| Ok(data), now).map(|(by, _)| by)
    }

    /// Checks every detached signature of a file over what `open` gives, for somebody who wants one of
    /// them to hold. A key that is too weak to be believed is unfit here.
    ///
    /// # Errors
    /// What `open` gives cannot be read.
    pub fn vouch<R: Read>(
        &self,
        open: &dyn Fn() -> R,
        signatures: &[u8],
        now: Timestamp,
    ) -> io::Result<Vec<Result<SignedBy, SignatureError>>> {
        let signatures = match parse_signatures(signatures) {
            Ok(signatures) => signatures,
            Err(error) => return Ok(vec![Err(error)]),
        };
        let failed = Cell::new(None);
        let judged = signatures.into_iter().map(|DetachedSignature { signature }| {
            check_form(&signature, now)?;
            let at = made_at(&signature);
            if at > seconds(now) + SKEW {
                return Err(SignatureError::Future(date(at)));
            }
            let open = || Watched { reader: open(), failed: &failed };
            let (by, weakness) = self.find(&signature, &|| Ok::<_, SignatureError>(open()), now)?;
            match weakness {
                None => Ok(by),
                Some(problem) => Err(SignatureError::Unfit { key: by.key, problem }),
            }
        });
        let judged = judged.collect();
        match failed.take() {
            None => Ok(judged),
            Some(error) => Err(error),
        }
    }

    /// Who of the keyring made a signature, and why that key is too weak, if it is.
    fn find<R: Read>(
        &self,
        signature: &Signature,
        open: &dyn Fn() -> Result<R, SignatureError>,
        now: Timestamp,
    ) -> Result<(SignedBy, Option<String>), SignatureError> {
        let mut known = None;
        for certificate in &self.certificates {
            let primary = &certificate.primary_key;
            let mut parts: Vec<(&dyn Verify, &dyn Fn() -> Standing)> = Vec::new();
            let of_primary = || certificate::of_primary(certificate);
            parts.push((primary, &of_primary));
            let subkeys: Vec<_> = certificate
                .public_subkeys
                .iter()
                .map(|subkey| (subkey, move || certificate::of_subkey(certificate, subkey)))
                .collect();
            for (subkey, standing) in &subkeys {
                parts.push((&subkey.key, standing));
            }
            for (key, standing) in parts {
                let name = key.name();
                if !is_by(signature, &name) {
                    continue;
                }
                if !key.fits(signature, &mut open()?) {
                    known = Some(name);
                    continue;
                }
                let by = judge(certificate, name, standing(), signature, now)?;
                return Ok((by, key.weakness()));
            }
        }
        match known {
            Some(key) => Err(SignatureError::Tampered(key)),
            None => Err(SignatureError::WrongKey(issuer(signature))),
        }
    }
}

/// Keeps the reason for which a reader failed: who reads it only sees that something did not fit.
struct Watched<'a, R> {
    reader: R,
    failed: &'a Cell<Option<io::Error>>,
}

impl<R: Read> Read for Watched<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.reader.read(into).map_err(|error| {
            let kind = error.kind();
            self.failed.set(Some(error));
            kind.into()
        })
    }
}

/// Keys and subkeys are of different types; what is asked of them is the same.
trait Verify {
    fn name(&self) -> String;
    fn fits(&self, signature: &Signature, data: &mut dyn Read) -> bool;
    fn weakness(&self) -> Option<String>;
}

impl<K: VerifyingKey> Verify for K {
    fn name(&self) -> String {
        fingerprint(self)
    }

    fn fits(&self, signature: &Signature, data: &mut dyn Read) -> bool {
        signature.verify(self, data).is_ok()
    }

    fn weakness(&self) -> Option<String> {
        certificate::weakness(self)
    }
}

struct Packets(Vec<u8>);

impl Serialize for Packets {
    fn to_writer<W: std::io::Write>(&self, writer: &mut W) -> pgp::errors::Result<()> {
        Ok(writer.write_all(&self.0)?)
    }

    fn write_len(&self) -> usize {
        self.0.len()
    }
}

/// Forty hexadecimal digits, as gpg prints them.
pub(super) fn fingerprint(key: &impl KeyDetails) -> String {
    format!("{:X}", key.fingerprint())
}

fn read(bytes: &[u8], into: &mut Vec<SignedPublicKey>) -> Result<(), KeyringError> {
    let broken = |error: pgp::errors::Error| KeyringError::Broken(error.to_string());
    let (keys, _) = PublicOrSecret::from_reader_many_buf(bytes).map_err(broken)?;
    for key in keys {
        match key.map_err(broken)? {
            PublicOrSecret::Public(key) => into.push(key),
            PublicOrSecret::Secret(_) => return Err(KeyringError::Secret),
        }
    }
    Ok(())
}

/// Reads a file with one detached signature in it.
///
/// # Errors
/// What else it is.
pub(super) fn parse_signature(bytes: &[u8]) -> Result<DetachedSignature, SignatureError> {
    let mut found = parse_signatures(bytes)?;
    match found.len() {
        1 => Ok(found.remove(0)),
        more => Err(SignatureError::Several(more)),
    }
}

/// Reads a file with detached signatures in it, one at least.
fn parse_signatures(bytes: &[u8]) -> Result<Vec<DetachedSignature>, SignatureError> {
    if bytes.len() > LARGEST_SIGNATURE {
        return Err(SignatureError::NotASignature);
    }
    if ["SIGNED MESSAGE", "MESSAGE"]
        .iter()
        .any(|kind| bytes.starts_with(format!("-----BEGIN PGP {kind}-----").as_bytes()))
    {
        return Err(SignatureError::Inline);
    }
    let (found, _) = DetachedSignature::from_reader_many_buf(bytes)
        .map_err(|_| SignatureError::NotASignature)?;
    let found: Vec<_> =
        found.collect::<Result<_, _>>().map_err(|_| SignatureError::NotASignature)?;
    if found.is_empty() { Err(SignatureError::NotASignature) } else { Ok(found) }
}

/// What is wrong with a signature whoever made it.
fn check_form(signature: &Signature, now: Timestamp) -> Result<(), SignatureError> {
    if !matches!(signature.typ(), Some(SignatureType::Binary | SignatureType::Text)) {
        return Err(SignatureError::NotASignature);
    }
    match signature.hash_alg() {
        Some(HashAlgorithm::Sha256 | HashAlgorithm::Sha384 | HashAlgorithm::Sha512) => {}
        Some(weak) => return Err(SignatureError::WeakHash(weak.to_string())),
        None => return Err(SignatureError::NotASignature),
    }
    let lifetime =
        signature.signature_expiration_time().map_or(0, |lifetime| u64::from(lifetime.as_secs()));
    let end = made_at(signature) + lifetime;
    if lifetime != 0 && end <= seconds(now) {
        return Err(SignatureError::Expired(date(end)));
    }
    Ok(())
}

fn made_at(signature: &Signature) -> u64 {
    signature.created().map_or(0, |at| u64::from(at.as_secs()))
}

fn is_by(signature: &Signature, fingerprint: &str) -> bool {
    let by = signature.issuer_fingerprint();
    if by.is_empty() {
        return signature
            .issuer_key_id()
            .iter()
            .any(|id| fingerprint.ends_with(&id.to_string().to_uppercase()));
    }
    by.iter().any(|by| format!("{by:X}") == fingerprint)
}

fn issuer(signature: &Signature) -> String {
    let fingerprint = signature.issuer_fingerprint().first().map(|by| format!("{by:X}"));
    fingerprint
        .or_else(|| signature.issuer_key_id().first().map(|id| id.to_string().to_uppercase()))
        .unwrap_or_else(|| "which it does not name".to_owned())
}

fn judge(
    certificate: &SignedPublicKey,
    key: String,
    standing: Standing,
    signature: &Signature,
    now: Timestamp,
) -> Result<SignedBy, SignatureError> {
    let primary = certificate::of_primary(certificate);
    let unfit =
        |problem: &str| SignatureError::Unfit { key: key.clone(), problem: problem.to_owned() };
    if primary.revoked || standing.revoked {
        return Err(unfit("is revoked"));
    }
    if !primary.bound || !standing.bound || !standing.signs {
        return Err(unfit("has no valid self-signature that lets it sign"));
    }
    let expired = [primary, standing].into_iter().find(|standing| standing.is_expired(now));
    Ok(SignedBy {
        primary: fingerprint(certificate),
        user: certificate
            .details
            .users
            .first()
            .map(|user| String::from_utf8_lossy(user.id.id()).escape_debug().to_string()),
        at: made_at(signature),
        outlived: [primary, standing]
            .iter()
            .any(|standing| standing.expires.is_some_and(|end| end <= made_at(signature))),
        expired: expired.and_then(|standing| standing.expires).map(date),
        key,
    })
}

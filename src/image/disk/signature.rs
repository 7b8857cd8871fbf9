//! Signatures of root hashes: what stands in the partition for them, and whether it holds.
//!
//! Owns the secret key while it signs, and the form that systemd and the kernel read: a JSON object with
//! a detached PKCS#7 signature over the root hash, written in hexadecimal digits. It has no attributes, so
//! that the same key signs the same hash with the same bytes at any time. Refuses to know where a
//! root hash comes from.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, PublicKey};
use aws_lc_rs::signature::{
    KeyPair as _, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, UnparsedPublicKey,
};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cms::cert::{CertificateChoices, IssuerAndSerialNumber};
use cms::content_info::{CmsVersion, ContentInfo};
use cms::signed_data::{
    CertificateSet, EncapsulatedContentInfo, SignedData, SignerIdentifier, SignerInfo, SignerInfos,
};
use der::asn1::{OctetString, SetOfVec};
use der::oid::db::{rfc5911, rfc5912};
use der::{Any, AnyRef, Decode, Encode};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use x509_cert::spki::AlgorithmIdentifierOwned;
use zeroize::Zeroizing;

use super::verity::RootHash;
use crate::config::verity::{Certificate, SealRule, SealedBy, first_block};
use crate::name::Sha256;
use crate::sign::secret::{self, SecretError};

mod external;

use external::Program;
pub use external::ProgramError;

/// The most bytes of a partition that are read for a signature.
pub(super) const LONGEST: u64 = 64 << 10;

/// A root hash that cannot be signed.
#[derive(Debug, Error)]
pub enum SealError {
    /// The key is not there.
    #[error("the key for verity cannot be read")]
    Secret(#[from] SecretError),
    /// It is locked.
    #[error("the key for verity is locked with a passphrase")]
    Locked,
    /// It is none, or none that can be used.
    #[error("the key for verity is no RSA key of 2048 to 8192 bits in PEM form")]
    NotAKey,
    /// It belongs to somebody else.
    #[error("the key for verity is not that of the certificate, {0}")]
    OtherKey(String),
    /// The certificate has a key of another kind.
    #[error("the certificate for verity, {0}, is for no RSA key")]
    Certificate(String),
    /// The program that signs does not.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// What it wrote is no signature by the key of the certificate.
    #[error("`{program}` wrote {length} bytes that are no signature by the key of {subject}")]
    NoSignature {
        /// The program.
        program: String,
        /// How much it wrote.
        length: usize,
        /// Whose the certificate is.
        subject: String,
    },
    /// The library gave up.
    #[error("the signature cannot be made")]
    Library,
}

impl SealError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::Secret(_) | Self::Locked | Self::NotAKey => {
                "[image] verity key is { env = \"NAME\" } or { file = \"FILE\" }, relative to the component's file: a PEM block without a passphrase"
            }
            Self::OtherKey(_) => "[image] verity key and certificate are made together",
            Self::Certificate(_) => "`openssl req -x509 -newkey rsa:3072` makes one that is",
            Self::Program(error) => error.hint(),
            Self::NoSignature { .. } => {
                "it reads the root hash and writes an RSA signature (PKCS#1 v1.5, SHA-256) of it in binary form, as `openssl dgst -sha256 -sign KEY` does"
            }
            Self::Library => "please report this with the component's file",
        }
        .to_owned()
    }
}

/// Who signs, ready to do so.
#[derive(Debug)]
pub struct Seal {
    certificate: Certificate,
    by: By,
}

/// What signs.
enum By {
    Key(Box<KeyPair>),
    Program(Program),
}

impl std::fmt::Debug for By {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Key(_) => "Key",
            Self::Program(_) => "Program",
        })
    }
}

/// What stands in the partition.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Statement {
    root_hash: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    certificate_fingerprint: Option<String>,
    signature: String,
}

impl Seal {
    /// Reads the key that a configuration names.
    ///
    /// # Errors
    /// There is none that belongs to the certificate.
    pub fn open(rule: &SealRule) -> Result<Self, SealError> {
        let certificate = rule.certificate.clone().ok_or(SealError::Library)?;
        let by = match &rule.by {
            SealedBy::Key(at) => {
                let key = key(&secret::read(at, &rule.folder)?)?;
                let public = PublicKey::from_der(public(&certificate)?);
                if public.map_err(|_| SealError::NotAKey)?.as_ref() != key.public_key().as_ref() {
                    return Err(SealError::OtherKey(certificate.subject()));
                }
                By::Key(Box::new(key))
            }
            SealedBy::Command(command) => {
                public(&certificate)?;
                By::Program(Program::new(command, &rule.folder))
            }
        };
        Ok(Self { certificate, by })
    }

    /// What the partition begins with.
    pub(super) fn statement(&self, root: &RootHash) -> Result<Vec<u8>, SealError> {
        let signed = self.sign(hex(root).as_bytes())?;
        statement(&self.certificate, root, signed).ok_or(SealError::Library)
    }

    fn sign(&self, text: &[u8]) -> Result<Vec<u8>, SealError> {
        match &self.by {
            By::Key(key) => {
                let mut signed = vec![0; key.public_modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), text, &mut signed)
                    .map_err(|_| SealError::Library)?;
                Ok(signed)
            }
            By::Program(program) => {
                let signed = program.run(text)?;
                // A node would find out; then it is too late.
                holds(public(&self.certificate)?, text, &signed).map_err(|()| {
                    SealError::NoSignature {
                        program: program.name().to_owned(),
                        length: signed.len(),
                        subject: self.certificate.subject(),
                    }
                })?;
                Ok(signed)
            }
        }
    }
}

/// All that is said of a root hash, and who says so.
fn statement(certificate: &Certificate, root: &RootHash, signed: Vec<u8>) -> Option<Vec<u8>> {
    let statement = Statement {
        root_hash: hex(root),
        certificate_fingerprint: Some(certificate.fingerprint().to_string()),
        signature: STANDARD.encode(message(certificate, signed).ok()?),
    };
    serde_json::to_vec(&statement).ok()
}

/// A signature as PKCS#7 wraps it.
fn message(certificate: &Certificate, signed: Vec<u8>) -> der::Result<Vec<u8>> {
    let null = |oid| AlgorithmIdentifierOwned { oid, parameters: Some(AnyRef::NULL.into()) };
    let sha256 = null(rfc5912::ID_SHA_256);
    let certificate = certificate.read().clone();
    let of = &certificate.tbs_certificate;
    let info = SignerInfo {
        version: CmsVersion::V1,
        sid: SignerIdentifier::IssuerAndSerialNumber(IssuerAndSerialNumber {
            issuer: of.issuer.clone(),
            serial_number: of.serial_number.clone(),
        }),
        digest_alg: sha256.clone(),
        signed_attrs: None,
        signature_algorithm: null(rfc5912::RSA_ENCRYPTION),
        signature: OctetString::new(signed)?,
        unsigned_attrs: None,
    };
    let certificates = vec![CertificateChoices::Certificate(certificate)];
    let data = SignedData {
        version: CmsVersion::V1,
        digest_algorithms: SetOfVec::try_from(vec![sha256])?,
        encap_content_info: EncapsulatedContentInfo {
            econtent_type: rfc5911::ID_DATA,
            econtent: None,
        },
        certificates: Some(CertificateSet::try_from(certificates)?),
        crls: None,
        signer_infos: SignerInfos::try_from(vec![info])?,
    };
    let content_type = rfc5911::ID_SIGNED_DATA;
    ContentInfo { content_type, content: Any::encode_from(&data)? }.to_der()
}

/// A signature that holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Signed {
    /// Whose certificate it was made for; `None` if it does not say, and none was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// Which certificate that is.
    pub certificate: Option<Sha256>,
    /// Whether the certificate is one that was given, and not just the one that came with the signature.
    pub known: bool,
}

/// Checks what stands in a partition against the root hash, and against the certificates of whom one
/// must have signed, if there are any. One of `ours` is as we write it, in every byte.
///
/// # Errors
/// Why it is not to be believed.
pub(super) fn check(
    partition: &[u8],
    root: &RootHash,
    trusted: &[Certificate],
    ours: bool,
) -> Result<Signed, String> {
    let end = partition.iter().position(|byte| *byte == 0).unwrap_or(partition.len());
    let (text, padding) = partition.split_at(end);
    if padding.iter().any(|byte| *byte != 0) {
        return Err("there is something behind its signature".to_owned());
    }
    let statement: Statement = serde_json::from_slice(text)
        .map_err(|_| "its signature is not written as nodes read it".to_owned())?;
    if statement.root_hash != hex(root) {
        return Err("its signature is for another root hash".to_owned());
    }
    let unreadable = || "its signature is no PKCS#7 message".to_owned();
    let message = STANDARD.decode(&statement.signature).map_err(|_| unreadable())?;
    let info = ContentInfo::from_der(&message).map_err(|_| unreadable())?;
    if info.content_type != rfc5911::ID_SIGNED_DATA {
        return Err(unreadable());
    }
    let data: SignedData = info.content.decode_as().map_err(|_| unreadable())?;
    let signers = data.signer_infos.0.as_slice();
    let [signer] = signers else {
        return Err(format!("it has {} signatures instead of one", signers.len()));
    };
    let own = data.certificates.iter().flat_map(|set| set.0.iter()).filter_map(|choice| {
        let CertificateChoices::Certificate(read) = choice else { return None };
        Certificate::from_der(read.to_der().ok()?).ok()
    });
    let own: Vec<Certificate> = own.collect();
    let is_of = |certificate: &&Certificate| {
        let of = &certificate.read().tbs_certificate;
        matches!(&signer.sid, SignerIdentifier::IssuerAndSerialNumber(sid)
            if sid.issuer == of.issuer && sid.serial_number == of.serial_number)
    };
    let known = trusted.iter().find(is_of);
    let Some(certificate) = known.or_else(|| own.iter().find(is_of)) else {
        return if trusted.is_empty() && !ours {
            Ok(Signed { by: None, certificate: None, known: false })
        } else {
            Err("its signature is not by a certificate that it could be by".to_owned())
        };
    };
    if known.is_none() && !trusted.is_empty() {
        return Err(format!(
            "its signature is by {}, and not by the certificate that it should be by",
            certificate.subject()
        ));
    }
    let fingerprint = certificate.fingerprint();
    if statement.certificate_fingerprint.is_some_and(|named| named != fingerprint.to_string()) {
        return Err("its signature names another certificate than it is by".to_owned());
    }
    if signer.signed_attrs.is_some() || signer.digest_alg.oid != rfc5912::ID_SHA_256 {
        return Err(
            "its signature has attributes, or is not over SHA-256, and cannot be checked here"
                .to_owned(),
        );
    }
    let key = certificate.key().map_err(|error| format!("its certificate {error}"))?;
    holds(key, hex(root).as_bytes(), signer.signature.as_bytes()).map_err(|()| {
        format!(
            "its signature does not hold: {} did not sign this root hash",
            certificate.subject()
        )
    })?;
    let rendered = || self::statement(certificate, root, signer.signature.as_bytes().to_vec());
    if ours && rendered().as_deref() != Some(text) {
        return Err("something of its signature was changed".to_owned());
    }
    Ok(Signed {
        by: Some(certificate.subject()),
        certificate: Some(fingerprint),
        known: known.is_some(),
    })
}

/// Whether a signature is by this key, over this text.
fn holds(key: &[u8], text: &[u8], signature: &[u8]) -> Result<(), ()> {
    let key = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key);
    key.verify(text, signature).map_err(|_| ())
}

fn public(certificate: &Certificate) -> Result<&[u8], SealError> {
    certificate.key().map_err(|_| SealError::Certificate(certificate.subject()))
}

/// A secret key from its PEM form.
fn key(text: &[u8]) -> Result<KeyPair, SealError> {
    let (label, der) = der::pem::decode_vec(first_block(text)).map_err(|_| SealError::NotAKey)?;
    let der = Zeroizing::new(der);
    let key = match label {
        "PRIVATE KEY" => KeyPair::from_pkcs8(&der),
        "RSA PRIVATE KEY" => KeyPair::from_der(&der),
        "ENCRYPTED PRIVATE KEY" => return Err(SealError::Locked),
        _ => return Err(SealError::NotAKey),
    };
    key.map_err(|_| SealError::NotAKey)
}

/// As hashes are written in text.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        use std::fmt::Write as _;
        let _ = write!(text, "{byte:02x}");
        text
    })
}

//! Sigstore: bundles by identities and by keys, and GitHub's attestations, which are bundles too.
//!
//! Owns which of Sigstore's many checks must have been made, and what of a certificate counts. The
//! checks themselves are the library's: certificate chain, SCT, inclusion in the log, times, and that
//! the signature is over these bytes. Everything is done offline, with keys that were built in or
//! that the configuration names.

use std::fs;
use std::io;
use std::path::Path;

use serde::Deserialize;
use sigstore_verify::crypto::{self, KeyAlgorithm};
use sigstore_verify::trust_root::{SigstoreInstance, TrustedRoot};
use sigstore_verify::types::{Bundle, DerPublicKey, SignatureBytes, SignatureContent, Statement};
use sigstore_verify::{
    Error, Policy, PublicKeyVerificationPolicy, VerificationPolicy, VerificationResult,
};

use super::signature::{Flaw, Signed};
use super::vouchers::Attestation;
use super::{Guard, TrustError};
use crate::config::asset::PROVENANCE;

/// The largest answer about attestations that is read, in bytes.
pub const LARGEST_ANSWER: u64 = 16 << 20;

/// How many attestations of one asset are asked for and looked at.
pub const MOST: usize = 30;

/// The largest key or trusted root that is read, in bytes.
const LARGEST_KEY: u64 = 1 << 20;

/// Who must have signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// What the certificate says.
    pub identity: String,
    /// Who vouched for that.
    pub issuer: String,
    /// The repository that the certificate names, if it matters.
    pub repository: Option<String>,
    /// What kind of statement counts; if none is named, that of a build.
    pub predicate: Option<String>,
}

/// The keys of Sigstore.
pub struct Verifier {
    public: sigstore_verify::Verifier,
    /// GitHub's own, for private repositories.
    github: sigstore_verify::Verifier,
}

impl std::fmt::Debug for Verifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Verifier")
    }
}

impl Verifier {
    /// Reads the keys that are built in, or those in a file.
    ///
    /// # Errors
    /// They cannot be used.
    pub fn new(root: Option<&Path>) -> Result<Self, String> {
        let embedded = |instance| TrustedRoot::from_embedded(instance).map_err(|e| e.to_string());
        let public = match root {
            None => embedded(SigstoreInstance::PublicGood)?,
            Some(path) => {
                let told = |problem: String| format!("{}: {problem}", path.display());
                let text = read(path).map_err(|error| told(error.to_string()))?;
                TrustedRoot::from_json(&text).map_err(|error| told(error.to_string()))?
            }
        };
        let verifier =
            |root: &TrustedRoot| sigstore_verify::Verifier::new(root).map_err(|e| e.to_string());
        Ok(Self {
            public: verifier(&public)?,
            github: verifier(&embedded(SigstoreInstance::GitHub)?)?,
        })
    }
}

/// Reads a public key in PEM.
///
/// # Errors
/// What is wrong with it.
pub fn read_key(path: &Path) -> Result<DerPublicKey, String> {
    let text = read(path).map_err(|error| error.to_string())?;
    let key = DerPublicKey::from_pem(text.trim())
        .map_err(|_| "it is no public key in PEM (-----BEGIN PUBLIC KEY-----)".to_owned())?;
    KeyAlgorithm::from_spki(&key).map_err(|error| error.to_string())?;
    Ok(key)
}

fn read(path: &Path) -> io::Result<String> {
    let metadata = fs::metadata(path)?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    if metadata.len() > LARGEST_KEY {
        return Err(io::Error::other("it is too large"));
    }
    fs::read_to_string(path)
}

/// Checks what cosign made with a key: a bundle, or a bare signature in base64.
///
/// # Errors
/// Why it does not hold.
pub fn by_key(
    verifier: &Verifier,
    key: &DerPublicKey,
    signature: &[u8],
    signed: &Signed<'_>,
) -> Result<(), Flaw> {
    let text =
        std::str::from_utf8(signature).map_err(|_| Flaw::none("is no signature of cosign"))?;
    let text = text.trim();
    if text.starts_with('{') {
        let bundle = parse(text)?;
        let policy = PublicKeyVerificationPolicy::new(key.clone());
        // The key is enough; an entry of the log that comes along must hold all the same.
        let policy = if bundle.verification_material.tlog_entries.is_empty() {
            policy.skip_tlog_unsafe()
        } else {
            policy
        };
        return check(&verifier.public, &bundle, &policy, signed).map(drop);
    }
    let signature = SignatureBytes::from_base64(text)
        .map_err(|_| Flaw::none("is neither a bundle nor a signature in base64"))?;
    let scheme = KeyAlgorithm::from_spki(key)
        .map_err(|error| Flaw::none(&error.to_string()))?
        .default_signing_scheme();
    let fits = match (scheme.hash_algorithm(), signed) {
        (Some(algorithm), _) => {
            let mut hashers = [crypto::ArtifactHasher::new(algorithm)
                .map_err(|error| Flaw::none(&error.to_string()))?];
            crypto::hash_reader(signed.open(), &mut hashers).map_err(Flaw::Read)?;
            let [hasher] = hashers;
            let digest = hasher.finalize();
            crypto::verify_signature_prehashed(key, digest.as_bytes(), &signature, scheme)
        }
        (None, Signed::Document(bytes)) => crypto::verify_signature(key, bytes, &signature, scheme),
        (None, Signed::File(_)) => {
            return Err(Flaw::Form {
                problem: format!(
                    "is of {}, for which the whole file must be in memory",
                    scheme.name()
                ),
                hint: "ask the project for a signed checksum file",
            });
        }
    };
    fits.map_err(|_| Flaw::Changed)
}

/// Checks a bundle by an identity.
///
/// # Errors
/// Why it does not hold.
pub fn by_identity(
    verifier: &Verifier,
    who: &Identity,
    bundle: &[u8],
    signed: &Signed<'_>,
) -> Result<(), Flaw> {
    let text = std::str::from_utf8(bundle).map_err(|_| Flaw::none("is no bundle of sigstore"))?;
    let bundle = parse(text)?;
    let policy = VerificationPolicy::new(who.identity.as_str(), who.issuer.as_str());
    // GitHub's own instance has no log that everybody may read; its timestamps stand for it. Which
    // of the two it is, is for the certificate to show: each must lead to that instance's root.
    let made = if bundle.verification_material.tlog_entries.is_empty() {
        let policy = policy.skip_tlog_unsafe().skip_sct();
        check(&verifier.github, &bundle, &policy, signed)?
    } else {
        check(&verifier.public, &bundle, &policy, signed)?
    };
    if !made.certificate_verified() || !made.identity_policy_checked() {
        return Err(Flaw::none("was not checked in full"));
    }
    let claims = made.certificate().map(|certificate| &certificate.ci_claims);
    let built_from = claims.and_then(|claims| claims.source_repository_uri.as_deref());
    if let Some(repository) = &who.repository
        && built_from != Some(repository.as_str())
    {
        let built_from = built_from.unwrap_or("no repository it names");
        return Err(Flaw::Stranger(format!(
            "is of something that was built from {}, not from {repository}",
            built_from.escape_debug()
        )));
    }
    if let SignatureContent::DsseEnvelope(envelope) = &bundle.content {
        // A statement may say anything of a file, also that it failed its tests.
        let statement: Statement = serde_json::from_slice(envelope.payload.as_bytes())
            .map_err(|_| Flaw::none("holds no statement"))?;
        let wanted = who.predicate.as_deref().unwrap_or(PROVENANCE);
        if statement.predicate_type != wanted {
            return Err(Flaw::Form {
                problem: format!(
                    "says `{}` of the file, not `{wanted}`",
                    statement.predicate_type.escape_debug()
                ),
                hint: "if that is what vouches for it, name it: predicate = \"…\"",
            });
        }
    }
    Ok(())
}

fn parse(text: &str) -> Result<Bundle, Flaw> {
    Bundle::from_json(text).map_err(|_| Flaw::Form {
        problem: "is no bundle of sigstore, or of a form that is not known (0.1 to 0.3 are)".to_owned(),
        hint: "`cosign sign-blob --bundle FILE` makes one; older signatures with a certificate beside them cannot be checked without asking sigstore",
    })
}

fn check(
    verifier: &sigstore_verify::Verifier,
    bundle: &Bundle,
    policy: &impl Policy,
    signed: &Signed<'_>,
) -> Result<VerificationResult, Flaw> {
    let result = match signed {
        Signed::Document(bytes) => verifier.verify(*bytes, bundle, policy),
        Signed::File(_) => verifier.verify_reader(signed.open(), bundle, policy),
    };
    result.map_err(|error| match error {
        Error::ArtifactRead(error) => Flaw::Read(error),
        Error::SignatureInvalid(_) | Error::ArtifactMismatch(_) => Flaw::Changed,
        Error::IdentityMismatch { expected, actual } => {
            let actual = actual.map_or_else(|| "nobody it names".to_owned(), |who| who.to_string());
            Flaw::Stranger(format!("is by {}, not by {expected}", actual.escape_debug()))
        }
        Error::IssuerMismatch { expected, actual } => {
            let actual = actual.unwrap_or_else(|| "nobody it names".to_owned());
            Flaw::Stranger(format!(
                "is by an identity that {} vouches for, not {expected}",
                actual.escape_debug()
            ))
        }
        other => Flaw::Form {
            problem: format!("does not hold: {}", shortened(&other)),
            hint: "`cosign verify-blob` says more; if sigstore has new keys, name them with [trust] sigstore-root",
        },
    })
}

/// What a library says may quote what it was given.
fn shortened(error: &Error) -> String {
    let text: String = error.to_string().chars().take(300).collect();
    text.escape_debug().to_string()
}

/// What GitHub answers about the attestations of a digest.
#[derive(Deserialize)]
struct Answer {
    attestations: Vec<Attested>,
}

#[derive(Deserialize)]
struct Attested {
    bundle: Option<Box<serde_json::value::RawValue>>,
}

/// Checks that one of the attestations in GitHub's answer holds. Reads all of the file for each.
///
/// # Errors
/// Why the last one does not hold, or there is none.
pub fn attested(
    guard: &Guard,
    attestation: &Attestation,
    answer: &[u8],
    signed: Signed<'_>,
) -> Result<String, TrustError> {
    let Attestation { repo, by } = attestation;
    let failed = |problem: String| TrustError::Attestation { repo: repo.clone(), problem };
    let answer: Answer = serde_json::from_slice(answer)
        .map_err(|_| failed("github's answer cannot be read".to_owned()))?;
    let mut problem = "there is none of this file".to_owned();
    for attested in answer.attestations.iter().take(MOST) {
        let Some(bundle) = &attested.bundle else {
            "github gave one without its bundle".clone_into(&mut problem);
            continue;
        };
        match by_identity(guard.sigstore()?, by, bundle.get().as_bytes(), &signed) {
            Ok(()) => return Ok(format!("GitHub attestation by {}", by.identity)),
            Err(Flaw::Read(error)) => return Err(TrustError::Read(error)),
            Err(Flaw::Changed) => "one is of another file".clone_into(&mut problem),
            Err(Flaw::Stranger(told) | Flaw::Form { problem: told, .. }) => {
                problem = format!("one {told}");
            }
        }
    }
    Err(failed(problem))
}

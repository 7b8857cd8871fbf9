//! What vouches for one asset, with every template filled in.
//!
//! Owns which files beside an asset must be read, and how much all of it is worth. Pure: nothing is
//! read here.

use std::fmt;
use std::path::PathBuf;

use super::digest::{Algorithm, Digest};
use super::minisign;
use super::sigstore::Identity;
use crate::config::asset::{
    AttestationRule, Builder, ChecksumRule, Fingerprint, GITHUB_ISSUER, Place, Scheme,
    SignatureRule, SignedPart, TrustRule,
};
use crate::config::mirror::{RepositoryRule, Trust};
use crate::config::source::{OwnerRepo, SourceRule};
use crate::config::trust::Strength;
use crate::name::Sha256;
use crate::plan::assets::Located;
use crate::source::{Location, Private, Release};
use crate::template::Vars;

/// What vouches for an asset.
#[derive(Debug, Clone, Default)]
pub struct Vouchers {
    /// What its source says.
    pub release: Option<Sha256>,
    /// What the component's file says, if it says anything of any asset.
    pub pinned: Option<Option<Digest>>,
    /// Checksum files.
    pub checksums: Vec<Checksums>,
    /// A signature.
    pub signature: Option<Signature>,
    /// An attestation.
    pub attestation: Option<Attestation>,
    /// Its first use.
    pub first_use: bool,
    /// It lies on this machine: who put it there is no question for a program.
    pub local: bool,
    /// The list that its digest is from, if it is from one.
    pub list: Option<List>,
}

/// A list of digests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum List {
    /// It is signed by a key of this keyring.
    Signed(PathBuf),
    /// It is as good as the server that it is on.
    Unsigned,
}

/// A file beside an asset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Beside {
    /// Where it is.
    pub at: Location,
    /// Where an API gives it to who has a token.
    pub private: Option<Private>,
}

impl fmt::Display for Beside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.at.fmt(f)
    }
}

/// A checksum file.
#[derive(Debug, Clone)]
pub struct Checksums {
    /// Of which digests.
    pub algorithm: Algorithm,
    /// Where it is.
    pub at: Beside,
    /// Where in it, if it is JSON.
    pub json: Option<String>,
}

/// A signature.
#[derive(Debug, Clone)]
pub struct Signature {
    /// Where it is.
    pub at: Beside,
    /// What it is of.
    pub of: SignedPart,
    /// Whose it must be.
    pub whose: Whose,
}

/// Whose signatures count.
#[derive(Debug, Clone)]
pub enum Whose {
    /// Those by keys of a keyring.
    Openpgp {
        /// The keyring.
        keyring: PathBuf,
        /// Only these of it, if there are any.
        keys: Vec<Fingerprint>,
    },
    /// Those by a key of minisign.
    Minisign {
        /// The key.
        key: minisign::Key,
        /// Whether a signature that names another file counts.
        any_file: bool,
    },
    /// Those by a key of cosign.
    Cosign {
        /// The key.
        key: PathBuf,
    },
    /// Those by an identity.
    Sigstore(Identity),
}

/// An attestation.
#[derive(Debug, Clone)]
pub struct Attestation {
    /// `OWNER/REPOSITORY`
    pub repo: String,
    /// Who must have made it.
    pub by: Identity,
}

impl Vouchers {
    /// Those of an asset.
    ///
    /// # Errors
    /// The name of a file that should vouch for it, but that its release does not have.
    pub fn of(
        rule: &TrustRule,
        source: &SourceRule,
        located: &Located<'_>,
        vars: &Vars<'_>,
    ) -> Result<Self, String> {
        let Located { name, at, asset: known, releases } = located;
        let checksums = rule.checksums.iter().map(|ChecksumRule { algorithm, at: place, json }| {
            Ok(Checksums {
                algorithm: *algorithm,
                at: find(place, at, releases, vars)?,
                json: json.as_ref().map(|json| json.expand(vars)),
            })
        });
        let checksums = checksums.collect::<Result<Vec<_>, String>>()?;
        let signature = match &rule.signature {
            None => None,
            Some(SignatureRule { at: place, of, scheme }) => {
                let subject = match of {
                    SignedPart::Asset => at,
                    SignedPart::Checksums(algorithm) => checksums
                        .iter()
                        .find(|file| file.algorithm == *algorithm)
                        .map_or(at, |file| &file.at.at),
                };
                Some(Signature {
                    at: find(place, subject, releases, vars)?,
                    of: *of,
                    whose: whose(scheme, vars),
                })
            }
        };
        Ok(Self {
            release: known.and_then(|asset| asset.sha256),
            pinned: (!rule.pinned.is_empty()).then(|| rule.pinned.get(name.as_str()).copied()),
            checksums,
            signature,
            attestation: rule.attestation.as_ref().and_then(|rule| attestation(rule, source, vars)),
            first_use: rule.first_use,
            local: matches!(at, Location::File(_)),
            list: match source {
                SourceRule::Repository(RepositoryRule { trust, .. }) => Some(match trust {
                    Trust::Keyring(keys) => List::Signed(keys.clone()),
                    Trust::Unsigned => List::Unsigned,
                }),
                _ => None,
            },
        })
    }

    /// Those of a container image. Its registry is the one who says what a tag stands for.
    #[must_use]
    pub fn of_image(rule: &TrustRule, image: &str) -> Self {
        let digest = image.split_once("@sha256:").and_then(|(_, digest)| digest.parse().ok());
        let pinned = digest.map(|digest| Some(Digest::Sha256(digest)));
        Self { pinned, first_use: rule.first_use, ..Self::default() }
    }

    /// How much they are worth together: as much as the best of them.
    #[must_use]
    pub fn strength(&self) -> Strength {
        let is_signed = matches!(self.list, Some(List::Signed(_))) && self.release.is_some();
        let signed = self.signature.is_some() || is_signed;
        if self.pinned.is_some() || signed || self.attestation.is_some() {
            Strength::Signature
        } else if self.release.is_some() || !self.checksums.is_empty() || self.local {
            Strength::Digest
        } else if self.first_use {
            Strength::FirstUse
        } else {
            Strength::Nothing
        }
    }

    /// What they are, for people, in the order in which they are asked.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        let mut names = Vec::new();
        if self.local {
            names.push("a file of this machine".to_owned());
        }
        if self.release.is_some() {
            names.push(match &self.list {
                Some(List::Signed(keys)) => {
                    format!("their SHA256SUMS, signed by keys of {}", keys.display())
                }
                Some(List::Unsigned) => "their SHA256SUMS, which is not signed".to_owned(),
                None => "the digest of the release".to_owned(),
            });
        }
        if self.pinned.is_some() {
            names.push("its digest in the component's file".to_owned());
        }
        for Checksums { algorithm, at, .. } in &self.checksums {
            names.push(format!("{algorithm} in {at}"));
        }
        if let Some(Signature { at, whose, .. }) = &self.signature {
            let whose = match whose {
                Whose::Openpgp { keyring, .. } => format!("OpenPGP keys of {}", keyring.display()),
                Whose::Minisign { key, .. } => format!("minisign key {}", key.as_str()),
                Whose::Cosign { key } => format!("cosign key {}", key.display()),
                Whose::Sigstore(who) => format!("sigstore identity {}", who.identity),
            };
            names.push(format!("signature {at} by {whose}"));
        }
        if let Some(Attestation { by, .. }) = &self.attestation {
            names.push(format!("GitHub attestation by {}", by.identity));
        }
        if self.first_use {
            names.push("its first use, in publish.lock".to_owned());
        }
        names
    }
}

/// Where a file beside an asset is.
fn find(
    place: &Place,
    subject: &Location,
    releases: &[&Release],
    vars: &Vars<'_>,
) -> Result<Beside, String> {
    let mut all = releases.iter().flat_map(|release| &*release.assets);
    let url = match place {
        Place::Url(url) => url,
        Place::Name(name) => {
            let name = name.expand(vars);
            let listed = all.find(|asset| asset.name == name);
            return match listed {
                Some(asset) => Ok(Beside { at: asset.at.clone(), private: asset.private.clone() }),
                None => Err(name),
            };
        }
    };
    let at = match subject {
        Location::Url(subject) => Location::Url(url.expand(&Vars { url: subject, ..*vars })),
        // Beside a file of this machine lies another one.
        Location::File(path) => {
            let subject = format!("file:{}", path.display());
            let text = url.expand(&Vars { url: &subject, ..*vars });
            match text.strip_prefix("file:") {
                Some(path) => Location::File(path.into()),
                None => Location::Url(text),
            }
        }
    };
    let listed = all.find(|asset| asset.at == at);
    Ok(Beside { private: listed.and_then(|asset| asset.private.clone()), at })
}

fn whose(scheme: &Scheme, vars: &Vars<'_>) -> Whose {
    match scheme {
        Scheme::Openpgp { keyring, keys } => {
            Whose::Openpgp { keyring: keyring.clone(), keys: keys.clone() }
        }
        Scheme::Minisign { key, any_file } => {
            Whose::Minisign { key: key.clone(), any_file: *any_file }
        }
        Scheme::Cosign { key } => Whose::Cosign { key: key.clone() },
        Scheme::Sigstore(rule) => Whose::Sigstore(Identity {
            identity: rule.identity.expand(vars),
            issuer: rule.issuer.clone(),
            repository: rule.repository.clone(),
            predicate: rule.predicate.clone(),
        }),
    }
}

/// `None` only where the configuration would have been refused.
fn attestation(
    rule: &AttestationRule,
    source: &SourceRule,
    vars: &Vars<'_>,
) -> Option<Attestation> {
    let OwnerRepo { owner, name } = match (&rule.repo, source) {
        (Some(repo), _) => repo,
        (None, SourceRule::Github(source)) => &source.repo,
        (None, _) => return None,
    };
    let repository = format!("https://github.com/{owner}/{name}");
    let identity = match &rule.by {
        Builder::Workflow { path, reference } => {
            format!("{repository}/{}@{}", path.expand(vars), reference.expand(vars))
        }
        Builder::Identity(identity) => identity.expand(vars),
    };
    Some(Attestation {
        repo: format!("{owner}/{name}"),
        by: Identity {
            identity,
            issuer: GITHUB_ISSUER.to_owned(),
            repository: Some(repository),
            predicate: Some(rule.predicate.clone()),
        },
    })
}

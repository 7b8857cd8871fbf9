//! `[[asset]]`: what is fetched for an image, and what must vouch for it.
//!
//! Owns how that is written. Knows nothing of how anything is fetched or verified.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::asset_name::{AssetName, NameList};
use super::files::Files;
use super::requirement::Requirement;
use super::schema::{Either, OneOrMore};
use super::source::{HttpUrl, OwnerRepo};
use crate::fetch::oci::Reference;
use crate::template::{Template, Vars};
use crate::trust::digest::{Algorithm, Digest};
use crate::trust::minisign;

/// `[[asset]]`: what is fetched for an image, and what must vouch for it.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(try_from = "RawAsset")]
#[schemars(into = "RawAsset")]
pub struct AssetRule {
    /// Where it is.
    pub at: AssetAt,
    /// What vouches for it.
    pub trust: TrustRule,
    /// How many leading folders of the archive do not count.
    pub strip_components: usize,
    /// For which versions it is wanted.
    pub when: Option<Requirement>,
    /// What of it goes where.
    pub files: Files,
}

/// Where an asset is.
#[derive(Debug, Clone)]
pub enum AssetAt {
    /// Anywhere.
    Url(Template),
    /// An asset of the release, by name.
    Name(AssetName),
    /// A container image in a registry.
    Oci(Template),
}

/// What must vouch for an asset, besides what its source says of it anyway.
#[derive(Debug, Clone, Default)]
pub struct TrustRule {
    /// Checksum files.
    pub checksums: Vec<ChecksumRule>,
    /// Digests that somebody wrote into the component's file, by the asset's file name.
    pub pinned: BTreeMap<String, Digest>,
    /// A signature of it, or of one of its checksum files.
    pub signature: Option<SignatureRule>,
    /// GitHub's statement of which workflow made it.
    pub attestation: Option<AttestationRule>,
    /// Whether the first digest that is met is kept in `publish.lock`.
    pub first_use: bool,
}

/// `sha256 = …`, `sha512 = …`
#[derive(Debug, Clone)]
pub struct ChecksumRule {
    /// Of which digests.
    pub algorithm: Algorithm,
    /// Where it is.
    pub at: Place,
    /// Where in it, if it is JSON.
    pub json: Option<Template>,
}

/// Where a file beside an asset is.
#[derive(Debug, Clone)]
pub enum Place {
    /// Anywhere; `{url}` is what it is about.
    Url(Template),
    /// A file of the release, by name.
    Name(Template),
}

/// `[asset.signature]`: a signature, of one of four kinds, and whose counts.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(try_from = "RawSignature")]
#[schemars(into = "RawSignature")]
pub struct SignatureRule {
    /// Where it is.
    pub at: Place,
    /// What it is of.
    pub of: SignedPart,
    /// What kind of signature, and whose.
    pub scheme: Scheme,
}

/// What a signature is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignedPart {
    /// The asset itself.
    Asset,
    /// The checksum file of this algorithm.
    Checksums(Algorithm),
}

/// A kind of signature, and whose counts.
#[derive(Debug, Clone)]
pub enum Scheme {
    /// A detached OpenPGP signature.
    Openpgp {
        /// Public keys; relative to the component's file.
        keyring: PathBuf,
        /// Only keys with these fingerprints count; all of the keyring, if there are none.
        keys: Vec<Fingerprint>,
    },
    /// minisign, signify's successor.
    Minisign {
        /// The public key.
        key: minisign::Key,
        /// Whether a signature that names another file counts.
        any_file: bool,
    },
    /// cosign with a key of the project's own.
    Cosign {
        /// The public key, in PEM; relative to the component's file.
        key: PathBuf,
    },
    /// A Sigstore bundle by somebody who has no key, but an identity.
    Sigstore(IdentityRule),
}

/// Who must have signed, in Sigstore's sense.
#[derive(Debug, Clone)]
pub struct IdentityRule {
    /// The identity in the certificate, to the letter.
    pub identity: Template,
    /// Who vouches for that identity.
    pub issuer: String,
    /// The repository it was built from, for workflows that others may call.
    pub repository: Option<String>,
    /// What kind of statement counts, if it is one.
    pub predicate: Option<String>,
}

/// `[asset.attestation]`: the workflow that must have made the asset.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(try_from = "RawAttestation")]
#[schemars(into = "RawAttestation")]
pub struct AttestationRule {
    /// The repository it was built from; that of `[source.github]`, if left out.
    pub repo: Option<OwnerRepo>,
    /// Who must have built it.
    pub by: Builder,
    /// What kind of statement counts.
    pub predicate: String,
}

/// The workflow that an attestation is by.
#[derive(Debug, Clone)]
pub enum Builder {
    /// One of the repository's own.
    Workflow {
        /// Its path: `.github/workflows/release.yml`.
        path: Template,
        /// The ref that it ran for.
        reference: Template,
    },
    /// The whole identity.
    Identity(Template),
}

/// The fingerprint of an OpenPGP key.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(into = "String", extend("pattern" = r"^\s*(0x)?(\s*[0-9A-Fa-f]){40,64}\s*$"))]
pub struct Fingerprint(String);

impl Fingerprint {
    /// Capital hexadecimal digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Fingerprint {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let digits: String = text.chars().filter(|c| !c.is_whitespace()).collect();
        let digits = digits.strip_prefix("0x").unwrap_or(&digits).to_uppercase();
        if matches!(digits.len(), 40 | 64) && digits.chars().all(|c| c.is_ascii_hexdigit()) {
            return Ok(Self(digits));
        }
        Err(format!(
            "`{}` is no fingerprint\nhint: `gpg --show-keys FILE` prints it: 40 hexadecimal digits; shorter key IDs can be forged",
            text.escape_debug()
        ))
    }
}

/// The only other word besides the tables.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum TrustWord {
    /// Another digest later is an alarm.
    FirstUse,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawAsset {
    /// Where it is.
    url: Option<Template>,
    /// Instead of `url`: a file of the release, by its name, or by the first of several that is there.
    #[schemars(with = "Option<OneOrMore<Template>>")]
    name: Option<NameList>,
    /// The companion whose release the file is of.
    of: Option<String>,
    /// Instead of `url`: a container image, as `REGISTRY/NAME:TAG`.
    oci: Option<Template>,
    /// A file with its SHA-256.
    #[schemars(with = "Option<Either<Template, PlaceTable>>")]
    sha256: Option<ChecksumAt>,
    /// A file with its SHA-512.
    #[schemars(with = "Option<Either<Template, PlaceTable>>")]
    sha512: Option<ChecksumAt>,
    /// Digests that somebody looked up, by file name; a file that is not named is refused.
    #[serde(default)]
    pinned: BTreeMap<String, Digest>,
    /// A signature of it, or of one of its checksum files.
    signature: Option<SignatureRule>,
    /// GitHub's statement of which workflow made it.
    attestation: Option<AttestationRule>,
    /// Whether the first digest that is met is kept in `publish.lock`.
    trust: Option<TrustWord>,
    /// How many leading folders of the archive do not count.
    #[serde(default)]
    strip_components: usize,
    /// For which versions it is wanted.
    when: Option<Requirement>,
    /// What of it goes where: places in the image, and paths in the asset.
    #[serde(default)]
    files: Files,
}

impl TryFrom<RawAsset> for AssetRule {
    type Error = String;
    fn try_from(raw: RawAsset) -> Result<Self, String> {
        if raw.of.is_some() && raw.name.is_none() {
            return Err("`of` goes with `name`: a `url` says by itself where it is\nhint: it may have {NAME.version} of a [[companion]] in it".to_owned());
        }
        let at = match (raw.url, raw.name, raw.oci) {
            (Some(url), None, None) => {
                check_url(&url)?;
                AssetAt::Url(url)
            }
            (None, Some(NameList(names)), None) => AssetAt::Name(AssetName { of: raw.of, names }),
            (None, None, Some(image)) => {
                let vars = Vars { name: "n", version: "1", arch: "a", tag: "t", ..Vars::default() };
                image.expand(&vars).parse::<Reference>().map_err(|error| error.to_string())?;
                let more = raw.sha256.is_some() || raw.sha512.is_some() || !raw.pinned.is_empty();
                if more || raw.signature.is_some() || raw.attestation.is_some() {
                    return Err("an image's digest is checked without `sha256` and the like\nhint: to pin one, `oci = \"REGISTRY/NAME@sha256:…\"`; `trust = \"first-use\"` remembers it".to_owned());
                }
                AssetAt::Oci(image)
            }
            _ => return Err("an asset has one of `url`, `name` and `oci`".to_owned()),
        };
        let tables = [(Algorithm::Sha256, raw.sha256), (Algorithm::Sha512, raw.sha512)];
        let checksums = tables.into_iter().filter_map(|(algorithm, at)| {
            at.map(|ChecksumAt { at, json }| ChecksumRule { algorithm, at, json })
        });
        let trust = TrustRule {
            checksums: checksums.collect(),
            pinned: raw.pinned,
            signature: raw.signature,
            attestation: raw.attestation,
            first_use: matches!(raw.trust, Some(TrustWord::FirstUse)),
        };
        if let Some(SignatureRule { of: SignedPart::Checksums(algorithm), .. }) = trust.signature
            && trust.checksums.iter().all(|rule| rule.algorithm != algorithm)
        {
            return Err(format!(
                "the signature is of `{0}`, but the asset has no `{0}`",
                algorithm.key()
            ));
        }
        Ok(Self {
            at,
            trust,
            strip_components: raw.strip_components,
            when: raw.when,
            files: raw.files,
        })
    }
}

impl TrustRule {
    /// Makes the paths in it relative to where `folder` is.
    pub(super) fn relative_to(&mut self, folder: &Path) {
        match self.signature.as_mut().map(|signature| &mut signature.scheme) {
            Some(Scheme::Openpgp { keyring: path, .. } | Scheme::Cosign { key: path }) => {
                *path = folder.join(&path);
            }
            Some(Scheme::Minisign { .. } | Scheme::Sigstore(_)) | None => {}
        }
    }

    /// The file of the keys whose signatures count, if they are in one.
    #[must_use]
    pub fn key_file(&self) -> Option<&Path> {
        match &self.signature.as_ref()?.scheme {
            Scheme::Openpgp { keyring: path, .. } | Scheme::Cosign { key: path } => Some(path),
            Scheme::Minisign { .. } | Scheme::Sigstore(_) => None,
        }
    }

    /// Every template in it.
    pub(super) fn templates(&self) -> impl Iterator<Item = &Template> {
        let places = self.places().map(|place| match place {
            Place::Url(at) | Place::Name(at) => at,
        });
        let pointers = self.checksums.iter().filter_map(|rule| rule.json.as_ref());
        let signer = self.signature.iter().filter_map(|rule| match &rule.scheme {
            Scheme::Sigstore(who) => Some(&who.identity),
            Scheme::Openpgp { .. } | Scheme::Minisign { .. } | Scheme::Cosign { .. } => None,
        });
        let builder = self.attestation.iter().flat_map(|rule| match &rule.by {
            Builder::Workflow { path, reference } => vec![path, reference],
            Builder::Identity(identity) => vec![identity],
        });
        places.chain(pointers).chain(signer).chain(builder)
    }

    /// Every place it names.
    pub fn places(&self) -> impl Iterator<Item = &Place> {
        let checksums = self.checksums.iter().map(|rule| &rule.at);
        checksums.chain(self.signature.iter().map(|rule| &rule.at))
    }
}

fn check_url(url: &Template) -> Result<(), String> {
    let vars = Vars {
        name: "n",
        version: "1",
        arch: "a",
        tag: "t",
        url: "https://e.org/f",
        ..Vars::default()
    };
    HttpUrl::try_from(url.expand(&vars))
        .map(drop)
        .map_err(|_| format!("`{url}` is not an http or https URL"))
}

/// A place as a string, or as `{ name = "…" }`; in JSON for checksums.
struct ChecksumAt {
    at: Place,
    json: Option<Template>,
}

/// A file beside an asset.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[schemars(rename = "Place")]
struct PlaceTable {
    /// Where it is; `{url}` is what it is about.
    url: Option<Template>,
    /// Instead of `url`: a file of the release, by its name.
    name: Option<Template>,
    /// Where in it the digest stands, if it is JSON: a JSON pointer.
    json: Option<Template>,
}

impl TryFrom<PlaceTable> for ChecksumAt {
    type Error = String;
    fn try_from(table: PlaceTable) -> Result<Self, String> {
        let at = match (table.url, table.name) {
            (Some(url), None) => Place::url(url)?,
            (None, Some(name)) => Place::Name(name),
            _ => return Err("a file is at either a `url` or a `name`".to_owned()),
        };
        if let Some(json) = table.json.as_ref().filter(|json| !json.as_str().starts_with('/')) {
            return Err(format!(
                "`{json}` is no JSON pointer\nhint: such as \"/assets/{{arch}}/sha256\" (RFC 6901)"
            ));
        }
        Ok(Self { at, json: table.json })
    }
}

impl Place {
    fn url(url: Template) -> Result<Self, String> {
        check_url(&url).map_err(|problem| {
            format!("{problem}\nhint: a file of the release is {{ name = \"{url}\" }}")
        })?;
        Ok(Self::Url(url))
    }
}

impl<'de> Deserialize<'de> for ChecksumAt {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = ChecksumAt;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a URL, or { name = \"a file of the release\" }")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<ChecksumAt, E> {
                let url = Template::parse(text).map_err(E::custom)?;
                Ok(ChecksumAt { at: Place::url(url).map_err(E::custom)?, json: None })
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ChecksumAt, A::Error> {
                let table = PlaceTable::deserialize(MapAccessDeserializer::new(map))?;
                ChecksumAt::try_from(table).map_err(serde::de::Error::custom)
            }
        }
        from.deserialize_any(Either)
    }
}

impl<'de> Deserialize<'de> for Place {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let ChecksumAt { at, json } = ChecksumAt::deserialize(from)?;
        match json {
            None => Ok(at),
            Some(_) => Err(serde::de::Error::custom("a signature is a file of its own")),
        }
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawSignature {
    /// Where a detached OpenPGP signature is.
    #[schemars(with = "Option<Either<Template, PlaceTable>>")]
    openpgp: Option<Place>,
    /// Where a signature of minisign is.
    #[schemars(with = "Option<Either<Template, PlaceTable>>")]
    minisign: Option<Place>,
    /// Where a signature of cosign by a key is.
    #[schemars(with = "Option<Either<Template, PlaceTable>>")]
    cosign: Option<Place>,
    /// Where a Sigstore bundle is.
    #[schemars(with = "Option<Either<Template, PlaceTable>>")]
    sigstore: Option<Place>,
    /// What it is of: the asset, or its checksum file.
    #[schemars(extend("default" = "asset"))]
    of: Option<PartWord>,
    /// `openpgp`: the public keys, in a file beside this one.
    keyring: Option<PathBuf>,
    /// `openpgp`: only keys with these fingerprints count; all of the keyring, if there are none.
    #[serde(default)]
    keys: Vec<Fingerprint>,
    /// `minisign`: the public key itself. `cosign`: the public key, in a file beside this one.
    key: Option<String>,
    /// `minisign`: whether a signature that names another file counts.
    any_file: Option<bool>,
    /// `sigstore`: the identity in the certificate, to the letter.
    identity: Option<Template>,
    /// `sigstore`: who vouches for that identity.
    issuer: Option<String>,
    /// `sigstore`: the repository it was built from, for workflows that others may call.
    repository: Option<String>,
    /// `sigstore`: what kind of statement counts, if it is one.
    predicate: Option<String>,
}

#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum PartWord {
    /// The asset itself.
    Asset,
    /// What `sha256` names.
    Sha256,
    /// What `sha512` names.
    Sha512,
}

/// The issuer of identities of workflows on GitHub.
pub const GITHUB_ISSUER: &str = "https://token.actions.githubusercontent.com";

/// What says that something was built from its source.
pub const PROVENANCE: &str = "https://slsa.dev/provenance/v1";

impl TryFrom<RawSignature> for SignatureRule {
    type Error = String;
    fn try_from(raw: RawSignature) -> Result<Self, String> {
        let given = raw.keys_given();
        let RawSignature { openpgp, minisign, cosign, sigstore, of, .. } = raw;
        let found = [
            ("openpgp", openpgp),
            ("minisign", minisign),
            ("cosign", cosign),
            ("sigstore", sigstore),
        ];
        let mut found = found.into_iter().filter_map(|(kind, at)| Some((kind, at?)));
        let (Some((kind, at)), None) = (found.next(), found.next()) else {
            return Err("a signature is one of `openpgp`, `minisign`, `cosign`, `sigstore`\nhint: such as { openpgp = \"{url}.asc\", keyring = \"project.asc\" }".to_owned());
        };
        let legal: &[&str] = match kind {
            "openpgp" => &["keyring", "keys"],
            "minisign" => &["key", "any-file"],
            "cosign" => &["key"],
            _ => &["identity", "issuer", "repository", "predicate"],
        };
        if let Some(foreign) = given.iter().find(|key| !legal.contains(key)) {
            return Err(format!(
                "`{foreign}` says nothing about a signature of {kind}\nhint: that takes {}",
                legal.join(", ")
            ));
        }
        let lacks =
            |what: &str, hint: &str| format!("a signature of {kind} needs `{what}`\nhint: {hint}");
        let scheme = match kind {
            "openpgp" => Scheme::Openpgp {
                keyring: raw.keyring.filter(|path| !path.as_os_str().is_empty()).ok_or_else(|| {
                    lacks("keyring", "the project's public keys in a file beside the component's")
                })?,
                keys: raw.keys,
            },
            "minisign" => {
                let key = raw.key.ok_or_else(|| {
                    lacks("key", "the second line of the project's minisign.pub: key = \"RW…\"")
                })?;
                Scheme::Minisign {
                    key: minisign::Key::try_from(key)?,
                    any_file: raw.any_file.unwrap_or(false),
                }
            }
            "cosign" => {
                let key = raw.key.filter(|path| !path.is_empty()).ok_or_else(|| {
                    lacks("key", "the project's cosign.pub beside the component's file")
                })?;
                Scheme::Cosign { key: key.into() }
            }
            _ => Scheme::Sigstore(IdentityRule {
                identity: raw.identity.ok_or_else(|| {
                    lacks("identity", "who signs, such as \"https://github.com/OWNER/REPO/.github/workflows/release.yml@refs/tags/{tag}\"")
                })?,
                issuer: raw.issuer.ok_or_else(|| {
                    lacks("issuer", &format!("of a workflow on GitHub: \"{GITHUB_ISSUER}\""))
                })?,
                repository: raw.repository,
                predicate: raw.predicate,
            }),
        };
        let of = match of {
            None | Some(PartWord::Asset) => SignedPart::Asset,
            Some(PartWord::Sha256) => SignedPart::Checksums(Algorithm::Sha256),
            Some(PartWord::Sha512) => SignedPart::Checksums(Algorithm::Sha512),
        };
        Ok(Self { at, of, scheme })
    }
}

impl RawSignature {
    /// The keys that belong to one kind of signature alone.
    fn keys_given(&self) -> Vec<&'static str> {
        let all = [
            ("keyring", self.keyring.is_some()),
            ("keys", !self.keys.is_empty()),
            ("key", self.key.is_some()),
            ("any-file", self.any_file.is_some()),
            ("identity", self.identity.is_some()),
            ("issuer", self.issuer.is_some()),
            ("repository", self.repository.is_some()),
            ("predicate", self.predicate.is_some()),
        ];
        all.into_iter().filter(|(_, given)| *given).map(|(key, _)| key).collect()
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawAttestation {
    /// The repository it was built from; that of `[source.github]`, if left out.
    repo: Option<OwnerRepo>,
    /// The workflow that made it, as a path in that repository.
    workflow: Option<Template>,
    /// The ref that the workflow ran for.
    #[schemars(extend("default" = "refs/tags/{tag}"))]
    r#ref: Option<Template>,
    /// Instead of `workflow`: the whole identity, for a workflow of another repository.
    identity: Option<Template>,
    /// What kind of statement counts.
    #[schemars(extend("default" = PROVENANCE))]
    predicate: Option<String>,
}

impl TryFrom<RawAttestation> for AttestationRule {
    type Error = String;
    fn try_from(raw: RawAttestation) -> Result<Self, String> {
        let by = match (raw.workflow, raw.identity) {
            (Some(path), None) => {
                let tag = || Template::parse("refs/tags/{tag}").expect("a template");
                Builder::Workflow { path, reference: raw.r#ref.unwrap_or_else(tag) }
            }
            (None, Some(identity)) if raw.r#ref.is_none() => Builder::Identity(identity),
            (None, Some(_)) => {
                return Err("`ref` is a part of `identity` already".to_owned());
            }
            _ => {
                return Err("an attestation is by a `workflow`, or by an `identity`\nhint: such as { workflow = \".github/workflows/release.yml\" }".to_owned());
            }
        };
        let predicate = raw.predicate.unwrap_or_else(|| PROVENANCE.to_owned());
        Ok(Self { repo: raw.repo, by, predicate })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<AssetRule, String> {
        let text = format!("url = \"https://e.org/{{version}}.tgz\"\n{text}");
        toml::from_str(&text).map_err(|error| error.message().to_owned())
    }

    #[test]
    fn every_form_of_trust_reads() {
        let rule = read(
            r#"
            sha256 = "{url}.sha256"
            sha512 = { name = "SHA512SUMS" }
            pinned = { "1.0.tgz" = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" }
            signature = { openpgp = "{url}.sig", of = "sha512", keyring = "k.asc", keys = ["C874 011F 0AB4 0511 0D02  1055 3436 5D94 72D7 468F"] }
            attestation = { workflow = ".github/workflows/release.yml" }
            trust = "first-use"
            "#,
        )
        .unwrap();
        let TrustRule { checksums, pinned, signature, attestation, first_use } = rule.trust;
        assert_eq!(checksums.len(), 2);
        assert_eq!(pinned.len(), 1);
        assert!(attestation.is_some() && first_use);
        let signature = signature.unwrap();
        assert_eq!(signature.of, SignedPart::Checksums(Algorithm::Sha512));
        let Scheme::Openpgp { keys, .. } = signature.scheme else { panic!("not OpenPGP") };
        assert_eq!(keys[0].as_str(), "C874011F0AB405110D02105534365D9472D7468F");
        for text in [
            r#"signature = { minisign = "{url}.minisig", key = "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3" }"#,
            r#"signature = { cosign = { name = "x.sig" }, key = "cosign.pub" }"#,
            r#"signature = { sigstore = "{url}.sigstore.json", identity = "me@e.org", issuer = "https://e.org" }"#,
            r#"attestation = { repo = "o/r", identity = "https://github.com/o/w/.github/workflows/w.yml@refs/tags/v1" }"#,
            r#"sha256 = { url = "https://e.org/{version}.json", json = "/{arch}/sha256" }"#,
        ] {
            assert!(read(text).is_ok(), "{text}: {:?}", read(text).err());
        }
    }

    #[test]
    fn what_would_verify_nothing_is_refused() {
        for (text, part) in [
            ("sha256 = \"SHA256SUMS\"", "not an http"),
            ("sha256 = {}", "either a `url` or a `name`"),
            ("sha256 = { url = \"https://e.org/\", json = \"a\" }", "JSON pointer"),
            ("sha1 = \"{url}.sha1\"", "unknown field `sha1`"),
            ("pinned = { \"x\" = \"d41d8cd98f00b204e9800998ecf8427e\" }", "MD5 is broken"),
            ("trust = \"blind\"", "blind"),
            ("signature = {}", "one of `openpgp`"),
            ("signature = { openpgp = \"{url}.asc\" }", "needs `keyring`"),
            (
                "signature = { openpgp = \"{url}.asc\", keyring = \"k\", key = \"k\" }",
                "`key` says nothing",
            ),
            (
                "signature = { openpgp = \"{url}.asc\", keyring = \"k\", keys = [\"72D7468F\"] }",
                "no fingerprint",
            ),
            (
                "signature = { openpgp = \"{url}.asc\", keyring = \"k\", of = \"sha256\" }",
                "no `sha256`",
            ),
            (
                "signature = { openpgp = { url = \"{url}\", json = \"/a\" }, keyring = \"k\" }",
                "file of its own",
            ),
            ("signature = { minisign = \"{url}.minisig\", key = \"minisign.pub\" }", "minisign"),
            ("signature = { cosign = \"{url}.sig\" }", "needs `key`"),
            ("signature = { sigstore = \"{url}.s\", identity = \"x\" }", "needs `issuer`"),
            ("signature = { sigstore = \"{url}.s\", issuer = \"x\" }", "needs `identity`"),
            ("attestation = {}", "by a `workflow`"),
            ("attestation = { identity = \"x\", ref = \"y\" }", "part of `identity`"),
        ] {
            let error = read(text).map(drop).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}

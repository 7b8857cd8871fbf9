//! An asset is fetched, and all that vouches for it is checked.
//!
//! Owns the order: what is promised is read first, because it may tell of a change before anything
//! large is fetched; signatures are checked over what came. Nothing of it counts before that. What
//! each of them is worth is [`crate::trust`]'s.

use std::io::Read as _;
use std::sync::{Arc, PoisonError};

use bytes::Bytes;
use http::HeaderMap;

use super::wanted::Wanted;
use super::{Bench, BuildError, hash};
use crate::config::asset::SignedPart;
use crate::fetch::arriving::Arriving;
use crate::fetch::{FetchError, Fetched};
use crate::name::Sha256;
use crate::plan::{Build, inputs};
use crate::repository::commit::InputRecord;
use crate::source::{Location, Private, github};
use crate::trust::digest::{Algorithm, Digest, Sha512};
use crate::trust::signature::{self, Signed};
use crate::trust::vouchers::{Attestation, Beside, Checksums, Signature, Vouchers};
use crate::trust::{Guard, Promise, TrustError, checksum, sigstore};

/// What was read of the files beside an asset.
struct Evidence {
    promises: Vec<Promise>,
    /// The signature, if it is of the asset itself.
    signature: Option<Bytes>,
}

impl Bench<'_> {
    /// Fetches an asset, or reads the one that is here. What comes back is vouched for.
    pub(super) async fn fetch(
        &self,
        build: &Build,
        asset: &Wanted,
        file: &Arriving,
    ) -> Result<Option<InputRecord>, BuildError> {
        let distrusted = |source| BuildError::Trust { asset: asset.name.clone(), source };
        let failed = |source| BuildError::Fetch { asset: asset.name.clone(), source };
        let guard = &self.shop.guard;
        let first_use = asset.vouchers.first_use;
        if asset.layer.is_none() {
            self.check_strength(&asset.name, &asset.vouchers)?;
        }
        if first_use {
            self.check_first_use(build, &asset.from, None)?;
        }
        let Evidence { promises, signature } = self.evidence(asset).await.map_err(distrusted)?;
        for promise in &promises {
            if let Digest::Sha256(promised) = promise.digest {
                if first_use {
                    self.check_first_use(build, &asset.from, Some(promised))?;
                }
                // Of an image it is the manifest that is compared.
                if asset.layer.is_none() {
                    self.check_input(build, &asset.from, promised)?;
                }
            }
        }
        let fetched = match &asset.at {
            Location::Url(url) => self.download(url, asset).await.map_err(failed)?,
            Location::File(_) => hash(file.clone()).await?,
        };
        if let Some(expected) = asset.size.filter(|size| *size != fetched.size) {
            let url = asset.at.to_string();
            return Err(failed(FetchError::Length { url, expected, got: fetched.size }));
        }
        let attestation = match &asset.vouchers.attestation {
            Some(attestation) => {
                Some(self.attestations(attestation, fetched.sha256).await.map_err(distrusted)?)
            }
            None => None,
        };
        let proof = Proof {
            guard: guard.clone(),
            vouchers: asset.vouchers.clone(),
            name: asset.name.clone(),
            at: asset.at.to_string(),
            file: file.clone(),
            fetched: fetched.clone(),
            evidence: Evidence { promises, signature },
            attestation,
        };
        let mut promised_by = blocking(move || proof.check()).await?.map_err(distrusted)?;
        // An image is known by its manifest, which names all of its layers.
        if let Some(layer) = &asset.layer {
            return Ok(layer.record.clone());
        }
        if first_use {
            promised_by.push(self.note(build, &asset.from, fetched.sha256)?);
        }
        Ok(Some(InputRecord {
            from: asset.from.clone(),
            sha256: fetched.sha256,
            size: fetched.size,
            promised_by,
        }))
    }

    /// Whether enough vouches for an asset.
    pub(super) fn check_strength(
        &self,
        asset: &str,
        vouchers: &Vouchers,
    ) -> Result<(), BuildError> {
        let (has, wants) = (vouchers.strength(), self.shop.guard.require);
        if has >= wants {
            return Ok(());
        }
        let source = TrustError::TooWeak { has, wants };
        Err(BuildError::Trust { asset: asset.to_owned(), source })
    }

    /// Who vouches for an image, known by its manifest.
    pub(super) fn check_image(
        &self,
        build: &Build,
        name: &str,
        vouchers: &Vouchers,
        manifest: Sha256,
    ) -> Result<Vec<String>, BuildError> {
        let mut promised_by = Vec::new();
        if vouchers.pinned.is_some() {
            promised_by.push("the component's file".to_owned());
        }
        if vouchers.first_use {
            promised_by.push(self.note(build, name, manifest)?);
        }
        Ok(promised_by)
    }

    /// Compares with what was met first, and remembers what is the first.
    pub(super) fn note(
        &self,
        build: &Build,
        from: &str,
        sha256: Sha256,
    ) -> Result<String, BuildError> {
        self.check_first_use(build, from, Some(sha256))?;
        let noted = self.shop.guard.ledger.note(&self.component.name, from, sha256);
        noted
            .map_err(|error| BuildError::Trust { asset: from.to_owned(), source: error.into() })?;
        Ok("publish.lock".to_owned())
    }

    /// Compares with what was met first.
    fn check_first_use(
        &self,
        build: &Build,
        from: &str,
        now: Option<Sha256>,
    ) -> Result<(), BuildError> {
        let accepted = inputs::accepted(&self.component, &build.upstream);
        let ledger = &self.shop.guard.ledger;
        ledger.check(&self.component.name, from, now, accepted).map_err(|source| {
            let asset = from.rsplit('/').next().unwrap_or(from).to_owned();
            BuildError::Trust { asset, source }
        })
    }

    /// Reads what vouches for an asset. A checksum file that is signed says nothing before its
    /// signature holds.
    async fn evidence(&self, asset: &Wanted) -> Result<Evidence, TrustError> {
        let Vouchers { release, pinned, checksums, signature, .. } = &asset.vouchers;
        let mut promises = Vec::new();
        let mut promise = |digest, by: &str| promises.push(Promise { digest, by: by.to_owned() });
        if let Some(sha256) = release {
            let by = if asset.layer.is_some() { "the image's manifest" } else { "the release" };
            promise(Digest::Sha256(*sha256), by);
        }
        if let Some(pinned) = pinned {
            let digest = pinned.ok_or_else(|| TrustError::NotPinned(asset.name.clone()))?;
            promise(digest, "the component's file");
        }
        for file in checksums {
            let text = self.beside(&file.at, checksum::LARGEST).await?;
            let mut by = file.at.to_string();
            if let Some(signature) = signature
                && signature.of == SignedPart::Checksums(file.algorithm)
            {
                let who = self.check_document(signature, file, &text).await?;
                by = format!("{by}, signed by {who}");
            }
            let found = match &file.json {
                Some(pointer) => checksum::at(&text, pointer, file.algorithm),
                None => checksum::find(&text, &asset.name, file.algorithm),
            };
            let url = || file.at.to_string();
            let digest = found.map_err(|problem| TrustError::Checksum { url: url(), problem })?;
            promise(digest, &by);
        }
        agree(&promises)?;
        let signature = match signature {
            Some(Signature { at, of: SignedPart::Asset, .. }) => {
                Some(self.beside(at, signature::LARGEST).await?)
            }
            _ => None,
        };
        Ok(Evidence { promises, signature })
    }

    /// Checks the signature of a checksum file.
    async fn check_document(
        &self,
        signature: &Signature,
        file: &Checksums,
        text: &Bytes,
    ) -> Result<String, TrustError> {
        let bytes = self.beside(&signature.at, signature::LARGEST).await?;
        let name = match &file.at.at {
            Location::Url(url) => url.split(['?', '#']).next().unwrap_or_default().to_owned(),
            Location::File(path) => path.display().to_string(),
        };
        let name = name.rsplit('/').next().unwrap_or_default().to_owned();
        let (guard, signature, text) = (self.shop.guard.clone(), signature.clone(), text.clone());
        let checked = blocking(move || {
            signature::verify(&guard, &signature, &bytes, Signed::Document(&text), &name)
        });
        checked.await.map_err(|error| TrustError::Read(std::io::Error::other(error)))?
    }

    /// A file beside an asset. It is fetched once for all assets of this bench.
    async fn beside(&self, file: &Beside, limit: u64) -> Result<Bytes, TrustError> {
        let cell = {
            let mut all = self.beside.lock().unwrap_or_else(PoisonError::into_inner);
            let key = match &file.at {
                Location::Url(url) => url.clone(),
                Location::File(path) => path.display().to_string(),
            };
            all.entry(key).or_default().clone()
        };
        let read = cell.get_or_init(async || self.read_beside(file, limit).await.map_err(Arc::new));
        read.await.clone().map_err(|error| FetchError::Shared(error).into())
    }

    async fn read_beside(&self, file: &Beside, limit: u64) -> Result<Bytes, FetchError> {
        let client = &self.shop.client;
        let url = match &file.at {
            Location::Url(url) => url,
            Location::File(path) => {
                let path = path.clone();
                let disk = |source| FetchError::Disk { path: path.clone(), source };
                let read = tokio::task::spawn_blocking({
                    let path = path.clone();
                    move || read_file(&path, limit)
                });
                let read = read.await.map_err(|error| disk(std::io::Error::other(error)))?;
                return read.map(Bytes::from).map_err(disk);
            }
        };
        let read = async |url: &str, headers| client.bytes(url, headers, limit).await;
        let public = (url.as_str(), HeaderMap::new());
        Private::either(file.private.as_ref(), client, public, read).await
    }

    /// Asks GitHub for the attestations of a digest.
    async fn attestations(
        &self,
        attestation: &Attestation,
        sha256: Sha256,
    ) -> Result<Bytes, TrustError> {
        let repo = &attestation.repo;
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.append_pair("per_page", &sigstore::MOST.to_string());
        if let Some(predicate) = &attestation.by.predicate {
            query.append_pair("predicate_type", predicate);
        }
        let query = query.finish();
        let client = &self.shop.client;
        let path = format!("repos/{repo}/attestations/sha256:{sha256}?{query}");
        let (url, headers) = github::address(client, &path).map_err(|problem| {
            TrustError::Attestation { repo: repo.clone(), problem: problem.to_string() }
        })?;
        match client.bytes(&url, headers, sigstore::LARGEST_ANSWER).await {
            // That is how it says that there is none, too.
            Err(error) if error.is_not_found() => Err(TrustError::Attestation {
                repo: repo.clone(),
                problem: "there is none of this file".to_owned(),
            }),
            answer => Ok(answer?),
        }
    }
}

fn read_file(path: &std::path::Path, limit: u64) -> std::io::Result<Vec<u8>> {
    if !std::fs::metadata(path)?.is_file() {
        return Err(std::io::Error::other("it is not a regular file"));
    }
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(std::io::Error::other(format!("it is larger than {limit} bytes")));
    }
    Ok(bytes)
}

/// Two that promise two things cannot both be right, whatever comes.
fn agree(promises: &[Promise]) -> Result<(), TrustError> {
    let digests = promises.iter().filter_map(|promise| match promise.digest {
        Digest::Sha256(digest) => Some((&promise.by, digest)),
        Digest::Sha512(_) => None,
    });
    let digests: Vec<_> = digests.collect();
    match digests.iter().zip(digests.iter().skip(1)).find(|((_, a), (_, b))| a != b) {
        None => Ok(()),
        Some(((first, this), (second, that))) => Err(TrustError::Disagree {
            first: (*first).clone(),
            this: *this,
            second: (*second).clone(),
            that: *that,
        }),
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, BuildError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| BuildError::Crashed(error.to_string()))
}

/// All that must hold of an asset that is here, for a thread that may read it again.
struct Proof {
    guard: Arc<Guard>,
    vouchers: Vouchers,
    name: String,
    at: String,
    file: Arriving,
    fetched: Fetched,
    evidence: Evidence,
    attestation: Option<Bytes>,
}

impl Proof {
    /// Who vouches for it.
    fn check(self) -> Result<Vec<String>, TrustError> {
        let Evidence { promises, signature } = &self.evidence;
        let mut vouched_by = Vec::new();
        for Promise { digest, by } in promises {
            let got = match digest.algorithm() {
                Algorithm::Sha256 => Digest::Sha256(self.fetched.sha256),
                Algorithm::Sha512 => {
                    let read = Sha512::of_reader(&mut self.file.open());
                    Digest::Sha512(read.map_err(TrustError::Read)?)
                }
            };
            if got != *digest {
                return Err(TrustError::Digest {
                    url: self.at,
                    algorithm: digest.algorithm(),
                    promised_by: by.clone(),
                    expected: *digest,
                    got,
                });
            }
            vouched_by.push(by.clone());
        }
        let signed = Signed::File(&self.file);
        if let (Some(wanted), Some(bytes)) = (&self.vouchers.signature, signature) {
            let who = signature::verify(&self.guard, wanted, bytes, signed, &self.name)?;
            vouched_by.push(format!("{}, by {who}", wanted.at));
        }
        if let (Some(wanted), Some(answer)) = (&self.vouchers.attestation, &self.attestation) {
            vouched_by.push(sigstore::attested(&self.guard, wanted, answer, signed)?);
        }
        Ok(vouched_by)
    }
}

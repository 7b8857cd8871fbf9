//! Container images in registries: from a reference to the layers of one platform.
//!
//! Owns the protocol (OCI distribution specification) and the choice of a manifest.
//! Every answer is checked against the digest that asked for it; what a tag stands for is the
//! registry's word. Refuses to know what is in a layer.

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};
use serde::Deserialize;

use super::{Client, DOCUMENT, FetchError};
use crate::name::{Arch, Sha256};

mod token;

/// Manifests that are understood, those of one image before lists of them.
const MANIFESTS: &str = "application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.v2+json, \
    application/vnd.oci.image.index.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json";

/// The longest manifest, in bytes: the specification says that registries take no more.
const LONGEST: usize = 4 << 20;
/// The most layers of an image; file systems of layers end at 500.
const MOST_LAYERS: usize = 500;

/// Where an image is: `ghcr.io/owner/name:1.0`, as container tools write it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    registry: String,
    repository: String,
    /// A tag, or a digest with its `sha256:`.
    version: String,
}

/// A text that names no image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not an image in a registry\nhint: REGISTRY/NAME:TAG, such as \"ghcr.io/owner/name:{{version}}\""
)]
pub struct ReferenceError(String);

impl FromStr for Reference {
    type Err = ReferenceError;
    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let refused = || ReferenceError(text.escape_debug().to_string());
        let (registry, rest) = text.split_once('/').ok_or_else(refused)?;
        // `library/alpine` means Docker Hub to docker alone.
        if !registry.contains(['.', ':']) && registry != "localhost" {
            return Err(refused());
        }
        let (repository, version) = match rest.split_once('@') {
            // A tag beside a digest says nothing.
            Some((name, digest)) => {
                let legal =
                    digest.strip_prefix("sha256:").is_some_and(|hex| hex.parse::<Sha256>().is_ok());
                let name = name.split_once(':').map_or(name, |(name, _)| name);
                (name, Some(digest).filter(|_| legal))
            }
            None => rest.rsplit_once(':').map_or((rest, None), |(name, tag)| (name, Some(tag))),
        };
        let version = version.ok_or_else(refused)?;
        let of = |also: &'static str| {
            move |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || also.contains(c)
        };
        let part = |part: &str| !part.is_empty() && part.chars().all(of("._-")) && part != "..";
        let tag = |c: char| c.is_ascii_alphanumeric() || "._-:".contains(c);
        let legal = registry.chars().all(|c| c.is_ascii_alphanumeric() || ".-:".contains(c))
            && repository.split('/').all(part)
            && !version.is_empty()
            && version.len() <= 128
            && version.chars().all(tag)
            && !version.starts_with(['.', '-']);
        if !legal {
            return Err(refused());
        }
        Ok(Self {
            registry: registry.to_owned(),
            repository: repository.to_owned(),
            version: version.to_owned(),
        })
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { registry, repository, version } = self;
        let before = if version.starts_with("sha256:") { '@' } else { ':' };
        write!(f, "{registry}/{repository}{before}{version}")
    }
}

impl Reference {
    /// The API's address of something in the repository.
    fn url(&self, what: &str) -> String {
        // Docker Hub's registry has another name than its images.
        let host = match self.registry.as_str() {
            "docker.io" => "registry-1.docker.io",
            other => other,
        };
        let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
        // As every container tool has it.
        let scheme = if matches!(name, "localhost" | "127.0.0.1") { "http" } else { "https" };
        format!("{scheme}://{host}/v2/{what}")
    }

    fn of_repository(&self, what: &str) -> String {
        let library = self.registry == "docker.io" && !self.repository.contains('/');
        let library = if library { "library/" } else { "" };
        self.url(&format!("{library}{}/{what}", self.repository))
    }
}

/// An image for one platform.
#[derive(Debug)]
pub struct Image {
    /// The digest of its manifest.
    pub manifest: Sha256,
    /// The length of its manifest in bytes.
    pub size: u64,
    /// Its layers, the lowest first.
    pub layers: Vec<Layer>,
    /// What the registry wants to be told by who asks for a layer.
    pub headers: HeaderMap,
}

/// A layer of an image.
#[derive(Debug)]
pub struct Layer {
    /// Where it is.
    pub url: String,
    /// Its digest.
    pub sha256: Sha256,
    /// Its length in bytes.
    pub size: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    #[serde(default)]
    manifests: Vec<Descriptor>,
    config: Option<Descriptor>,
    #[serde(default)]
    layers: Vec<Descriptor>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    #[serde(default)]
    media_type: String,
    digest: String,
    size: u64,
    platform: Option<Platform>,
}

#[derive(Deserialize)]
struct Platform {
    os: Option<String>,
    architecture: Option<String>,
}

impl Client {
    /// Asks a registry for the layers of an image for this architecture.
    ///
    /// # Errors
    /// As [`Client::download`], or there is no such image.
    pub async fn image(&self, reference: &Reference, arch: Arch) -> Result<Image, FetchError> {
        let asked = Asked { client: self, reference, headers: self.token(reference).await? };
        let pinned = reference.version.strip_prefix("sha256:").and_then(|hex| hex.parse().ok());
        let (mut manifest, mut digest, mut size) =
            asked.manifest(&reference.version, pinned).await?;
        if manifest.manifests.is_empty() {
            asked.check_platform(&manifest, arch).await?;
        } else {
            let found = manifest.manifests.iter().find(|one| fits(one.platform.as_ref(), arch));
            let found = found.ok_or_else(|| {
                let name = name_of(arch);
                asked.refuse(format!("the registry has it for other platforms than linux/{name}"))
            })?;
            let expected = asked.digest(found)?;
            (manifest, digest, size) =
                asked.manifest(&found.digest.clone(), Some(expected)).await?;
        }
        if manifest.layers.is_empty() || manifest.layers.len() > MOST_LAYERS {
            let problem = format!("it has {} layers", manifest.layers.len());
            return Err(asked.refuse(problem));
        }
        let layer = |layer: &Descriptor| {
            let tar = ["tar", "tar+gzip", "tar+zstd", "tar.gzip", "tar.zstd"];
            if !tar.iter().any(|ending| layer.media_type.ends_with(ending)) {
                let kind = layer.media_type.escape_debug();
                return Err(asked.refuse(format!(
                    "it has a layer of the type `{kind}`, which is no tar archive"
                )));
            }
            let url = reference.of_repository(&format!("blobs/{}", layer.digest));
            Ok(Layer { url, sha256: asked.digest(layer)?, size: layer.size })
        };
        let layers = manifest.layers.iter().map(layer).collect::<Result<_, _>>()?;
        Ok(Image { manifest: digest, size, layers, headers: asked.headers })
    }
}

/// A registry that is being asked for an image.
struct Asked<'a> {
    client: &'a Client,
    reference: &'a Reference,
    headers: HeaderMap,
}

impl Asked<'_> {
    fn refuse(&self, problem: String) -> FetchError {
        FetchError::Image { image: self.reference.to_string(), problem }
    }

    fn digest(&self, of: &Descriptor) -> Result<Sha256, FetchError> {
        let hex = of.digest.strip_prefix("sha256:");
        hex.and_then(|hex| hex.parse().ok()).ok_or_else(|| {
            let digest = of.digest.escape_debug();
            self.refuse(format!("its manifest has the digest `{digest}`, which is no SHA-256"))
        })
    }

    /// A manifest, its digest and its length.
    async fn manifest(
        &self,
        version: &str,
        expected: Option<Sha256>,
    ) -> Result<(Manifest, Sha256, u64), FetchError> {
        let url = self.reference.of_repository(&format!("manifests/{version}"));
        let mut headers = self.headers.clone();
        headers.insert(header::ACCEPT, HeaderValue::from_static(MANIFESTS));
        let body = self.get(&url, headers, expected).await?;
        let manifest = serde_json::from_slice(&body)
            .map_err(|error| self.refuse(format!("its manifest makes no sense: {error}")))?;
        Ok((manifest, Sha256::of(&body), body.len() as u64))
    }

    async fn get(
        &self,
        url: &str,
        headers: HeaderMap,
        expected: Option<Sha256>,
    ) -> Result<Bytes, FetchError> {
        let (_, body) = self.client.small(url, &headers, DOCUMENT).await?;
        if body.len() > LONGEST {
            return Err(FetchError::TooLarge { url: url.to_owned(), limit: LONGEST as u64 });
        }
        if let Some(expected) = expected {
            let got = Sha256::of(&body);
            if got != expected {
                return Err(self.refuse(format!("{url} has SHA-256 {got}, not {expected}")));
            }
        }
        Ok(body)
    }

    /// A manifest that stands alone says in its configuration what it is for, if it does.
    async fn check_platform(&self, manifest: &Manifest, arch: Arch) -> Result<(), FetchError> {
        let config = manifest.config.as_ref().filter(|config| {
            [
                "application/vnd.oci.image.config.v1+json",
                "application/vnd.docker.container.image.v1+json",
            ]
            .contains(&config.media_type.as_str())
        });
        let Some(config) = config else { return Ok(()) };
        let url = self.reference.of_repository(&format!("blobs/{}", config.digest));
        let body = self.get(&url, self.headers.clone(), Some(self.digest(config)?)).await?;
        let platform: Option<Platform> = serde_json::from_slice(&body).ok();
        if platform.as_ref().is_none_or(|platform| fits(Some(platform), arch)) {
            return Ok(());
        }
        let name = name_of(arch);
        Err(self.refuse(format!("the registry has it for another platform than linux/{name}")))
    }
}

fn fits(platform: Option<&Platform>, arch: Arch) -> bool {
    platform.is_some_and(|platform| {
        platform.os.as_deref() == Some("linux")
            && platform.architecture.as_deref() == Some(name_of(arch))
    })
}

/// What container images call an architecture: the names of Go.
pub(crate) fn name_of(arch: Arch) -> &'static str {
    match arch {
        Arch::X86_64 => "amd64",
        Arch::X86 => "386",
        Arch::Arm64 => "arm64",
        Arch::Arm => "arm",
        Arch::Riscv64 => "riscv64",
        Arch::Riscv32 => "riscv32",
        Arch::Loongarch64 => "loong64",
        Arch::Ppc64Le => "ppc64le",
        Arch::Ppc64 => "ppc64",
        Arch::S390x => "s390x",
        Arch::Mips64Le => "mips64le",
        Arch::MipsLe => "mipsle",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_read_as_container_tools_read_them() {
        let hex = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let digest = format!("ghcr.io/o/r@sha256:{hex}");
        for (text, url) in [
            ("ghcr.io/o/r:v1.0-rc.1", "https://ghcr.io/v2/o/r/manifests/v1.0-rc.1"),
            ("docker.io/alpine:3", "https://registry-1.docker.io/v2/library/alpine/manifests/3"),
            ("docker.io/o/r:3", "https://registry-1.docker.io/v2/o/r/manifests/3"),
            ("localhost:5000/r:1", "http://localhost:5000/v2/r/manifests/1"),
            ("r.example.org:5000/a/b/c:1", "https://r.example.org:5000/v2/a/b/c/manifests/1"),
            (&digest, &format!("https://ghcr.io/v2/o/r/manifests/sha256:{hex}")),
        ] {
            let reference: Reference = text.parse().unwrap();
            assert_eq!(reference.to_string(), text);
            assert_eq!(reference.of_repository(&format!("manifests/{}", reference.version)), url);
        }
        let long = format!("ghcr.io/o/r:{}", "1".repeat(129));
        for text in [
            "alpine",
            "alpine:3",
            "library/alpine:3",
            "ghcr.io/o/r",
            "ghcr.io/o/r:",
            "ghcr.io/:1",
            "ghcr.io/O/r:1",
            "ghcr.io/o//r:1",
            "ghcr.io/../r:1",
            "ghcr.io/o/r@sha256:12",
            "https://ghcr.io/o/r:1",
            "ghcr.io/o/r:1/2",
            "ghcr.io/o/r:1?x",
            "gh cr.io/o/r:1",
            &long,
        ] {
            assert!(text.parse::<Reference>().is_err(), "{text}");
        }
    }
}

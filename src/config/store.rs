//! Where the repository's bytes go, and how long others may keep them.
//!
//! Owns how a store is written in the configuration. Knows nothing of how one is reached.

use std::fmt;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::Deserialize;

mod release;

pub use release::{ReleaseUrl, Tag};

/// Where the bytes of the repository go.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(into = "String", extend("minLength" = 1, "examples" = ["s3://bucket/prefix"]))]
pub enum StoreUrl {
    /// A directory; relative to the configuration file, until [`StoreUrl::relative_to`].
    Directory(PathBuf),
    /// A bucket of an object store.
    Bucket(BucketUrl),
    /// Releases on GitHub.
    Release(ReleaseUrl),
}

/// `s3://bucket/prefix`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BucketUrl {
    /// Whose protocol it speaks.
    pub service: Service,
    /// The bucket's name, or the container's.
    pub bucket: String,
    /// What every path in it begins with; empty for the whole bucket.
    pub prefix: String,
}

/// The protocol of an object store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// Amazon's, and what many others speak.
    S3,
    /// Google's.
    Gs,
    /// Azure's.
    Az,
}

impl Service {
    /// Every service, in the order they are offered.
    pub const ALL: [Self; 3] = [Self::S3, Self::Gs, Self::Az];

    /// As it is written before `://`.
    #[must_use]
    pub fn scheme(self) -> &'static str {
        match self {
            Self::S3 => "s3",
            Self::Gs => "gs",
            Self::Az => "az",
        }
    }
}

impl StoreUrl {
    /// Whose bucket it is; `None` if it is none.
    #[must_use]
    pub fn service(&self) -> Option<Service> {
        match self {
            Self::Directory(_) | Self::Release(_) => None,
            Self::Bucket(bucket) => Some(bucket.service),
        }
    }

    /// The same, a directory below `base`.
    #[must_use]
    pub fn relative_to(&self, base: &Path) -> Self {
        match self {
            Self::Directory(path) => Self::Directory(tidy(&base.join(path))),
            other => other.clone(),
        }
    }

    /// The directory, if it is one.
    #[must_use]
    pub fn directory(&self) -> Option<&Path> {
        match self {
            Self::Directory(path) => Some(path),
            Self::Bucket(_) | Self::Release(_) => None,
        }
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(path) => path.display().fmt(f),
            Self::Bucket(bucket) => bucket.fmt(f),
            Self::Release(release) => release.fmt(f),
        }
    }
}

impl fmt::Display for BucketUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.service.scheme(), self.bucket)?;
        if self.prefix.is_empty() { Ok(()) } else { write!(f, "/{}", self.prefix) }
    }
}

impl TryFrom<String> for StoreUrl {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        const FORMS: &str = "a directory, relative to this file, or s3://bucket/prefix, gs://bucket/prefix, az://container/prefix, github-release://OWNER/REPO/{component}";
        let bad = |problem: &str| Err(format!("{problem}\nhint: name {FORMS}"));
        match text.split_once("://") {
            _ if text.is_empty() => bad("an empty store"),
            None => Ok(Self::Directory(PathBuf::from(text))),
            Some(("file", "")) => bad("`file://` without a path"),
            Some(("file", path)) if !path.starts_with('/') => {
                bad(&format!("`{path}` is not an absolute path, as file:// needs one"))
            }
            Some(("file", path)) => Ok(Self::Directory(PathBuf::from(path))),
            Some(("github-release", rest)) => ReleaseUrl::parse(rest).map(Self::Release),
            Some((scheme, rest)) => {
                match Service::ALL.into_iter().find(|service| service.scheme() == scheme) {
                    Some(service) => bucket(service, rest).map(Self::Bucket),
                    None => bad(&format!("cannot publish to `{}://`", scheme.escape_debug())),
                }
            }
        }
    }
}

fn bucket(service: Service, rest: &str) -> Result<BucketUrl, String> {
    let scheme = service.scheme();
    let form = format!("hint: such as \"{scheme}://my-bucket/some/folder\"");
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    if bucket.contains('@') || bucket.contains(':') {
        return Err(
            "a store must not have a name, a password or a port in it\nhint: credentials and the endpoint come from the environment: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_ENDPOINT_URL"
                .to_owned(),
        );
    }
    // The strictest of the services: what one of them calls a bucket, all others would, too.
    let plain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || b".-_".contains(&c);
    if !(3..=222).contains(&bucket.len()) || !bucket.bytes().all(plain) {
        return Err(format!(
            "`{}` is no bucket's name: it has at least 3 characters of a-z 0-9 . - _\n{form}",
            bucket.escape_debug()
        ));
    }
    let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
    let segment = |segment: &str| {
        !matches!(segment, "" | "." | "..")
            && segment.bytes().all(|c| c.is_ascii_alphanumeric() || b".,_+-=".contains(&c))
    };
    if !prefix.is_empty() && !prefix.split('/').all(segment) {
        return Err(format!(
            "`{}` is no prefix: folders of A-Z a-z 0-9 . , _ + - =, with a slash between them\n{form}",
            prefix.escape_debug()
        ));
    }
    Ok(BucketUrl { service, bucket: bucket.to_owned(), prefix: prefix.to_owned() })
}

/// `[repository.cache-control]`: how long browsers, proxies and CDNs may keep what a bucket gives
/// out. A directory cannot say it: there the web server does.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct CacheControl {
    /// Of images, which never change.
    #[serde(deserialize_with = "header")]
    pub images: String,
    /// Of manifests, signatures and whatever else is replaced.
    #[serde(deserialize_with = "header")]
    pub manifests: String,
}

impl Default for CacheControl {
    fn default() -> Self {
        Self {
            images: "public, max-age=31536000, immutable".to_owned(),
            manifests: "no-cache".to_owned(),
        }
    }
}

fn header<'de, D: serde::Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    let text = String::deserialize(from)?;
    if text.is_empty() || !text.bytes().all(|c| c == b' ' || c.is_ascii_graphic()) {
        return Err(serde::de::Error::custom(format!(
            "`{}` is no Cache-Control header\nhint: such as \"public, max-age=3600\"",
            text.escape_debug()
        )));
    }
    Ok(text)
}

/// `config/../public` → `public`, so that people read the path they would type.
fn tidy(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            std::path::Component::CurDir => {}
            std::path::Component::ParentDir
                if matches!(
                    out.components().next_back(),
                    Some(std::path::Component::Normal(_))
                ) && !out.is_symlink() =>
            {
                out.pop();
            }
            other => out.push(other),
        }
    }
    if out.as_os_str().is_empty() { PathBuf::from(".") } else { out }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<StoreUrl, String> {
        StoreUrl::try_from(text.to_owned())
    }

    #[test]
    fn every_form_reads_as_it_is_written() {
        for text in
            ["public", "/srv/www", "s3://bucket", "s3://my.bucket/a/b", "gs://abc/x", "az://con/x"]
        {
            assert_eq!(read(text).unwrap().to_string(), text);
        }
        assert_eq!(read("file:///srv/www").unwrap(), StoreUrl::Directory("/srv/www".into()));
        assert_eq!(read("s3://bucket/a/").unwrap().to_string(), "s3://bucket/a");
        assert_eq!(read("s3://bucket/").unwrap().to_string(), "s3://bucket");
    }

    #[test]
    fn what_is_no_store_is_refused() {
        for text in [
            "",
            "file://",
            "file://x",
            "ftp://e.org/",
            "https://e.org/",
            "s3://",
            "s3://ab",
            "s3://Bucket",
            "s3://bucket//a",
            "s3://bucket/../a",
            "s3://bucket/a?b",
            "s3:///a",
            "s3://bucket/a b",
            "s3://key:secret@bucket/a",
            "s3://bucket:9000/a",
        ] {
            assert!(read(text).is_err(), "{text} was taken");
        }
        // What looks like a password is not repeated.
        assert!(!read("s3://key:secret@bucket").unwrap_err().contains("secret@"));
    }

    #[test]
    fn paths_read_as_they_would_be_typed() {
        assert_eq!(tidy(Path::new("config/../public")), Path::new("public"));
        assert_eq!(tidy(Path::new("../public/.")), Path::new("../public"));
        assert_eq!(tidy(Path::new("./")), Path::new("."));
    }
}

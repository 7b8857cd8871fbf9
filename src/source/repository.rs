//! Somebody else's repository: one folder with its `SHA256SUMS`, wherever its files are.
//!
//! Owns letting their manifest in: whose signature it has, whether it is fresh and newer than the one
//! before, and which of its lines are of use. Its files are told with their digests, and fetched by
//! who wants them.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;
use jiff::Timestamp;
use thiserror::Error;
use url::Url;

use super::memory::{Memory, Signatures, Theirs};
use super::{Asset, Listing, Location, Release, SourceError};
use crate::config::Component;
use crate::config::mirror::{RepositoryRule, Trust};
use crate::fetch::cache::Cache;
use crate::fetch::{Client, FetchError, without_password};
use crate::manifest::lenient::{self, LeftOut, Lenient};
use crate::manifest::{FILE, Manifest, ManifestError};
use crate::name::{Arch, FileName, Sha256};
use crate::sign::keyring::LARGEST_SIGNATURE;
use crate::sign::{Keyring, KeyringError, SignatureError, SignedBy, freshness};
use crate::template::Vars;

/// What is read of a signature at most, in bytes: of a page in its place, enough to say that it is none.
const SIGNATURE: u64 = 1 << 20;

/// The names of a signature, in the order in which systemd 262 asks for them; it goes on to the next
/// only if there is none.
pub const SIGNATURES: [&str; 4] =
    ["SHA256SUMS.sha256.asc", "SHA256SUMS.sha256.gpg", "SHA256SUMS.gpg", "SHA256SUMS.asc"];

/// A repository that is not let in. What is published of it stays.
#[derive(Debug, Error)]
pub enum MirrorError {
    /// The keyring of the configuration is none.
    #[error("the keyring of [source.repository] cannot be used")]
    Keyring(#[from] KeyringError),
    /// There is no signature under any name.
    #[error("{url} has no signature")]
    NotSigned {
        /// Their manifest.
        url: String,
    },
    /// The signature does not vouch for the manifest.
    #[error("{url} {source}")]
    Signature {
        /// The signature.
        url: String,
        /// Why not.
        source: SignatureError,
    },
    /// An older manifest than the one before, with its own right signature.
    #[error("{url} was signed on {signed}, earlier than the one before, of {before}")]
    Replayed {
        /// Their manifest.
        url: String,
        /// When this one was signed.
        signed: Timestamp,
        /// When the other was.
        before: Timestamp,
    },
    /// They promised not to let it become so old.
    #[error("{url} was to be believed until {until}, and nobody has renewed it")]
    Expired {
        /// Their manifest.
        url: String,
        /// The end of the promise.
        until: Timestamp,
    },
    /// It is to be published as it is, but clients would refuse it.
    #[error("{url} cannot be published as it is")]
    Unusable {
        /// Their manifest.
        url: String,
        /// What is wrong with it.
        source: ManifestError,
    },
    /// It lists itself, or what signs it.
    #[error("{url} lists {name}, which is what lists files or signs the list")]
    Itself {
        /// Their manifest.
        url: String,
        /// What it lists.
        name: FileName,
    },
    /// It lists nothing that the component wants.
    #[error("{problem}")]
    Nothing {
        /// What it lists nothing of.
        problem: String,
        /// What it lists, and what would fit.
        hint: String,
    },
}

impl MirrorError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let text = match self {
            Self::Keyring(error) => return error.hint(),
            Self::NotSigned { .. } => {
                "what is published stays as it is; if they never sign, say `unsigned = true` in the place of `keyring`"
            }
            Self::Signature { source: SignatureError::WrongKey(_), .. } => {
                "what is published stays as it is; if they have a new key, and say so where you trust them, add it to the keyring"
            }
            Self::Signature { .. } => {
                "what is published stays as it is; somebody changed something there or on the way, or they are about to: if it stays so, ask them"
            }
            Self::Replayed { .. } => {
                "what is published stays as it is; somebody serves an old state of theirs: a cache on the way, or an attacker"
            }
            Self::Expired { .. } => {
                "what is published stays as it is; their publisher stopped, or somebody keeps the newer state from you"
            }
            Self::Unusable { .. } => {
                "leave `verbatim` out: what is right of it is published then, with a manifest of ours"
            }
            Self::Itself { .. } => {
                "no node could believe that: leave `verbatim` out, and its other files are published with a manifest of ours"
            }
            Self::Nothing { hint, .. } => hint,
        };
        Some(text.to_owned())
    }
}

/// The versions that their manifest lists, each with its files.
pub(super) async fn poll(
    rule: &RepositoryRule,
    component: &Component,
    arches: &[(Arch, String)],
    client: &Client,
    cache: &Cache,
    memory: &Memory,
) -> Result<Listing, SourceError> {
    let url = join(&rule.url.0, FILE);
    let shown = without_password(url.as_str());
    let now = Timestamp::now();
    let Accepted { manifest, signatures, signed } =
        let_in(rule, &url, client, cache, memory, now).await?;
    // Whose clock is ahead would else have signed everything after that too early.
    let latest = u64::try_from(now.as_second()).unwrap_or(u64::MAX);
    let signed_at = signed.as_ref().map(|signed| signed.at.min(latest));
    if let (Some(at), Some(before)) = (signed_at, memory.signed())
        && at < before
        && !memory.is_known(Sha256::of(&manifest))
    {
        let [signed, before] = [at, before].map(instant);
        return Err(MirrorError::Replayed { url: shown, signed, before }.into());
    }
    let Lenient { manifest: lines, left_out } = lenient::read(&manifest);
    if let Some(until) = freshness::expiry(&lines).filter(|until| *until <= now) {
        return Err(MirrorError::Expired { url: shown, until }.into());
    }
    if rule.verbatim {
        Manifest::parse(&manifest)
            .map_err(|source| MirrorError::Unusable { url: shown.clone(), source })?;
        // As a file of theirs it would take the place of the manifest that names it.
        let itself =
            |name: &&FileName| name.as_str() == FILE || SIGNATURES.contains(&name.as_str());
        if let Some(name) = lines.files().map(|(name, _)| name).find(itself) {
            let (url, name) = (shown, name.clone());
            return Err(MirrorError::Itself { url, name }.into());
        }
    }
    let found = if rule.verbatim {
        lines.files().map(|(name, sha256)| whole(rule, component, name, sha256)).collect()
    } else {
        versions(rule, component, arches, &lines)
    };
    if found.is_empty() {
        return Err(nothing(rule, &shown, &lines, &left_out).into());
    }
    if !memory.is_known(Sha256::of(&manifest)) {
        if !left_out.is_empty() {
            memory.note(format!(
                "{shown} has lines that no client would take, and they are left out: {left_out}"
            ));
        }
        if let Some(SignedBy { key, expired: Some(day), .. }) = &signed {
            memory.note(format!(
                "{shown} is signed by key {key}, which expired on {day}: ask them for the key that they renewed"
            ));
        }
    }
    let names: BTreeMap<FileName, Sha256> = found
        .iter()
        .flat_map(|release| release.assets.iter())
        .filter_map(|asset| Some((asset.name.parse().ok()?, asset.sha256?)))
        .collect();
    let files = names.iter().map(|(name, sha256)| (name, *sha256));
    let theirs = Theirs { manifest, signatures, lines };
    let replaced = memory.learn(theirs, signed_at, files, now);
    for name in replaced {
        memory.note(format!("{shown} gives `{name}` another digest than before"));
    }
    let releases = found.into_iter().map(|release| dated(release, memory)).collect();
    Ok(Listing { releases, complete: true, notes: memory.take_notes() })
}

/// A manifest, and what vouches for it.
struct Accepted {
    manifest: Bytes,
    signatures: Signatures,
    signed: Option<SignedBy>,
}

/// Reads the manifest and what is needed to believe it.
async fn let_in(
    rule: &RepositoryRule,
    url: &Url,
    client: &Client,
    cache: &Cache,
    memory: &Memory,
    now: Timestamp,
) -> Result<Accepted, SourceError> {
    let read =
        async || Ok::<_, FetchError>(client.document(url, HeaderMap::new(), cache).await?.body);
    let keyring = match &rule.trust {
        Trust::Keyring(path) => Some(Keyring::read(path).map_err(MirrorError::Keyring)?),
        Trust::Unsigned if !rule.verbatim => {
            let manifest = read().await?;
            return Ok(Accepted { manifest, signatures: Signatures::new(), signed: None });
        }
        Trust::Unsigned => None,
    };
    let verified = |manifest: &[u8], signatures: &Signatures| match &keyring {
        Some(keyring) => verify(keyring, manifest, signatures, &rule.url.0, now).map(Some),
        None => Ok(None),
    };
    let manifest = read().await?;
    if let Some(signatures) = memory.signatures(Sha256::of(&manifest))
        && let Ok(signed) = verified(&manifest, &signatures)
    {
        return Ok(Accepted { manifest, signatures, signed });
    }
    let signatures = ask(rule, client).await?;
    if let Ok(signed) = verified(&manifest, &signatures) {
        return Ok(Accepted { manifest, signatures, signed });
    }
    // Perhaps they published between the one and the other.
    cache.ask_again(join(&rule.url.0, FILE).as_str(), &HeaderMap::new());
    let (manifest, signatures) = (read().await?, ask(rule, client).await?);
    let signed = verified(&manifest, &signatures)?;
    Ok(Accepted { manifest, signatures, signed })
}

/// The signatures that are served: the one that a client would find, or, where all are published again,
/// every one. They are remembered with the manifest that they vouch for, and asked for only where it is
/// new: not kept among the answers, where one that is not asked for in a run is let go.
async fn ask(rule: &RepositoryRule, client: &Client) -> Result<Signatures, FetchError> {
    let mut found = Signatures::new();
    for name in SIGNATURES {
        match client.bytes(join(&rule.url.0, name).as_str(), HeaderMap::new(), SIGNATURE).await {
            Ok(bytes) => {
                // Far larger ones are none, and are not worth remembering.
                let bytes = bytes.slice(..bytes.len().min(LARGEST_SIGNATURE + 1));
                found.insert(name.to_owned(), bytes.to_vec());
                if !rule.verbatim {
                    break;
                }
            }
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

/// Checks every signature; gives who made the last one.
fn verify(
    keyring: &Keyring,
    manifest: &[u8],
    signatures: &Signatures,
    folder: &Url,
    now: Timestamp,
) -> Result<SignedBy, MirrorError> {
    let shown = |name| without_password(join(folder, name).as_str());
    let mut signed = None;
    for (name, signature) in signatures {
        let by = keyring
            .verify(manifest, signature, now)
            .map_err(|source| MirrorError::Signature { url: shown(name), source })?;
        signed = Some(by);
    }
    signed.ok_or_else(|| MirrorError::NotSigned { url: shown(FILE) })
}

/// The versions that the first pattern finds, with the files of all patterns.
fn versions(
    rule: &RepositoryRule,
    component: &Component,
    arches: &[(Arch, String)],
    lines: &Manifest,
) -> Vec<Release> {
    let vars = Vars { name: component.name.as_str(), ..Vars::default() };
    let known: Vec<&str> = arches.iter().map(|(_, theirs)| theirs.as_str()).collect();
    let matchers: Vec<_> =
        rule.patterns.iter().map(|pattern| pattern.matcher(&vars, &known)).collect();
    let mut found: BTreeMap<&str, (bool, Vec<Asset>)> = BTreeMap::new();
    for (name, sha256) in lines.files() {
        for (index, matcher) in matchers.iter().enumerate() {
            let Some((version, arch)) = matcher.captures(name.as_str()) else { continue };
            let at = Vars { version, arch: arch.unwrap_or_default(), tag: version, ..vars };
            let (is_there, assets) = found.entry(version).or_default();
            *is_there |= index == 0;
            if !assets.iter().any(|asset| asset.name == name.as_str()) {
                assets.push(asset(rule, name, sha256, &at));
            }
        }
    }
    let found = found.into_iter().filter(|(_, (is_there, _))| *is_there);
    found.map(|(version, (_, assets))| Release::tagged(version, &assets.into())).collect()
}

/// A file as a release of its own, where nobody tells versions apart.
fn whole(rule: &RepositoryRule, component: &Component, name: &FileName, sha256: Sha256) -> Release {
    let vars = Vars { name: component.name.as_str(), tag: name.as_str(), ..Vars::default() };
    let assets: Arc<[Asset]> = [asset(rule, name, sha256, &vars)].into();
    Release::tagged(name.as_str(), &assets)
}

fn asset(rule: &RepositoryRule, name: &FileName, sha256: Sha256, vars: &Vars<'_>) -> Asset {
    // What is no URL because of a strange version is told when somebody wants the file.
    let folder = rule.files.as_ref().map(|files| files.expand(vars));
    let at = match folder {
        Some(folder) if folder.ends_with('/') => format!("{folder}{name}"),
        Some(folder) => format!("{folder}/{name}"),
        None => join(&rule.url.0, name.as_str()).into(),
    };
    let name = name.to_string();
    Asset { name, at: Location::Url(at), sha256: Some(sha256), size: None, private: None }
}

/// The same with the day on which the last of its files was first seen.
fn dated(release: Release, memory: &Memory) -> Release {
    let seen = release.assets.iter().filter_map(|asset| {
        let name: FileName = asset.name.parse().ok()?;
        memory.first_seen(&name)
    });
    let published = seen.max();
    Release { published, ..release }
}

/// A file of a folder, whose URL ends with a slash.
fn join(folder: &Url, name: &str) -> Url {
    let mut url = folder.clone();
    url.set_path(&format!("{}{name}", folder.path()));
    url
}

fn instant(seconds: u64) -> Timestamp {
    i64::try_from(seconds)
        .ok()
        .and_then(|seconds| Timestamp::from_second(seconds).ok())
        .unwrap_or(Timestamp::MAX)
}

/// Nothing matches: what there is instead, and the pattern that would fit.
fn nothing(
    rule: &RepositoryRule,
    shown: &str,
    lines: &Manifest,
    left_out: &LeftOut,
) -> MirrorError {
    const SHOWN: usize = 3;
    let names: Vec<&FileName> = lines.files().map(|(name, _)| name).collect();
    let pattern = rule.patterns.iter().map(|pattern| format!("`{pattern}`"));
    let pattern = pattern.collect::<Vec<_>>().join(" or ");
    let problem = match (names.len(), left_out.is_empty()) {
        (0, true) => format!("{shown} lists nothing"),
        (0, false) => format!("{shown} has no line that can be used: {left_out}"),
        (number, _) => format!("none of the {number} files of {shown} matches {pattern}"),
    };
    let listed: Vec<&str> = names.iter().take(SHOWN).map(|name| name.as_str()).collect();
    let fitting = names.iter().find_map(|name| pattern_of(name.as_str()));
    let hint = match (listed.is_empty(), fitting) {
        (true, _) => "check `url` in a browser; nothing is taken away meanwhile".to_owned(),
        (false, None) => {
            format!("it has {}; say in `match` what they are called", listed.join(", "))
        }
        (false, Some(fitting)) => {
            format!("it has {}; perhaps match = \"{fitting}\"", listed.join(", "))
        }
    };
    MirrorError::Nothing { problem, hint }
}

/// The pattern that a name looks like: `kubernetes-v{version}-{arch}.raw`.
fn pattern_of(name: &str) -> Option<String> {
    let digit = name.bytes().enumerate().position(|(index, byte)| {
        let before = name[..index].chars().next_back();
        byte.is_ascii_digit() && matches!(before, Some('-' | '_' | 'v'))
    })?;
    let (before, rest) = name.split_at_checked(digit)?;
    // The longest: `arm` stands in `arm64`, too.
    let arch = Arch::ALL.iter().map(|arch| arch.as_str()).chain(["amd64", "x86_64", "aarch64"]);
    let arch =
        arch.filter(|arch| rest.contains(&format!("-{arch}."))).max_by_key(|arch| arch.len());
    if let Some(arch) = arch {
        let (_, after) = rest.split_once(&format!("-{arch}"))?;
        return Some(format!("{before}{{version}}-{{arch}}{after}"));
    }
    let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
    let version = rest[..end].trim_end_matches('.');
    Some(format!("{before}{{version}}{}", &rest[version.len()..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_guessed_from_a_name() {
        for (name, pattern) in [
            ("kubernetes-v1.33.2-x86-64.raw", Some("kubernetes-v{version}-{arch}.raw")),
            ("tailscale-1.58.2-arm64.raw", Some("tailscale-{version}-{arch}.raw")),
            ("os_24.1.efi", Some("os_{version}.efi")),
            ("os_24.1.root.raw.xz", Some("os_{version}.root.raw.xz")),
            ("README", None),
        ] {
            assert_eq!(pattern_of(name).as_deref(), pattern, "{name}");
        }
    }
}

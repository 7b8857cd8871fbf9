//! Verification: reading a published repository as a client does, and checking every byte.
//!
//! Owns what "right" means for what is served. Reads only; trusts nothing that publish keeps for
//! itself.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use futures::StreamExt;
use serde::Serialize;
use thiserror::Error;
use url::Url;

use super::MANIFEST;
use crate::fetch::arriving::Arriving;
use crate::fetch::cache::Cache;
use crate::fetch::{Client, FetchError};
use crate::image::inspect;
use crate::manifest::{BEST_BEFORE, Manifest};
use crate::name::{Arch, FileName, Sha256};
use crate::report::{Progress, Step};
use crate::store::PRIVATE;
use crate::template::Matcher;
use crate::version::Version;

/// Where a repository is read from.
#[derive(Debug, Clone)]
pub enum Origin {
    /// A directory on this machine.
    Directory(PathBuf),
    /// What a web server serves; ends with a slash.
    Url(Url),
}

/// A folder to verify.
#[derive(Debug, Clone)]
pub struct Target {
    /// Its name below the origin; empty for the origin itself.
    pub folder: String,
    /// What its images are called and the name they are merged under, where that is known.
    pub expected: Option<(Matcher, String)>,
}

/// A repository that could not be read at all.
#[derive(Debug, Error)]
pub enum VerifyError {
    /// The server did not give the manifest.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The directory cannot be read.
    #[error("cannot read {path}", path = path.display())]
    Disk {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There is no repository here.
    #[error("there is no {MANIFEST} in {0}")]
    Nothing(String),
}

/// What was found in one folder.
#[derive(Debug, Serialize)]
pub struct Verified {
    /// Its name.
    pub folder: String,
    /// How many files the manifest lists.
    pub files: usize,
    /// Their bytes, as far as they could be read.
    pub bytes: u64,
    /// What is wrong.
    pub problems: Vec<Finding>,
    /// What is odd, but harms no client.
    pub warnings: Vec<Finding>,
}

/// Something found.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Finding {
    /// The file's name.
    pub file: String,
    /// What is wrong with it.
    pub problem: String,
}

fn finding(file: &str, problem: impl Into<String>) -> Finding {
    Finding { file: file.to_owned(), problem: problem.into() }
}

/// The folders below a directory that have a manifest.
///
/// # Errors
/// A folder cannot be read, or there is no manifest at all.
pub fn folders(root: &Path) -> Result<Vec<String>, VerifyError> {
    // Links are followed, as sync and web servers follow them; but each folder is read once, so
    // that links in a circle have an end.
    fn walk(
        root: &Path,
        at: &str,
        seen: &mut BTreeSet<PathBuf>,
        found: &mut Vec<String>,
    ) -> Result<(), VerifyError> {
        let path = root.join(at);
        let disk = |source| VerifyError::Disk { path: path.clone(), source };
        if !seen.insert(fs::canonicalize(&path).map_err(disk)?) {
            return Ok(());
        }
        for entry in fs::read_dir(&path).map_err(disk)? {
            let entry = entry.map_err(disk)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let is_folder = || fs::metadata(entry.path()).is_ok_and(|metadata| metadata.is_dir());
            if name == MANIFEST {
                found.push(at.to_owned());
            } else if name != PRIVATE && is_folder() {
                let below = if at.is_empty() { name } else { format!("{at}/{name}") };
                walk(root, &below, seen, found)?;
            }
        }
        Ok(())
    }
    let mut found = Vec::new();
    walk(root, "", &mut BTreeSet::new(), &mut found)?;
    found.sort();
    if found.is_empty() {
        return Err(VerifyError::Nothing(root.display().to_string()));
    }
    Ok(found)
}

/// Reads one folder: the manifest, and every file it lists.
///
/// # Errors
/// There is no manifest to read. What is wrong in it or in a file is in the answer.
pub async fn verify(
    origin: &Origin,
    target: &Target,
    client: &Client,
    at_once: usize,
    progress: &Progress,
) -> Result<Verified, VerifyError> {
    let mut verified = Verified {
        folder: target.folder.clone(),
        files: 0,
        bytes: 0,
        problems: Vec::new(),
        warnings: Vec::new(),
    };
    let bytes = read_manifest(origin, &target.folder, client).await?;
    let manifest = match Manifest::parse(&bytes) {
        Ok(manifest) => manifest,
        Err(error) => {
            verified
                .problems
                .push(finding(MANIFEST, format!("clients refuse the whole manifest: {error}")));
            return Ok(verified);
        }
    };
    if manifest.is_empty() {
        verified.problems.push(finding(MANIFEST, "is empty, which systemd 257 takes for an error"));
    }
    check_names(&manifest, target, &mut verified);

    let scratch = tempfile::tempdir()
        .map_err(|source| VerifyError::Disk { path: std::env::temp_dir(), source })?;
    let files: Vec<(FileName, Sha256)> =
        manifest.files().map(|(name, sha256)| (name.clone(), sha256)).collect();
    verified.files = files.len();
    let known_as = target.expected.as_ref().map(|(_, name)| name.clone());
    let checks = futures::stream::iter(files).map(async |(name, expected)| {
        let task = progress.begin(Step::Verify, &super::shown(&target.folder, name.as_str()));
        let result = check_file(
            origin,
            &target.folder,
            &name,
            expected,
            known_as.clone(),
            client,
            scratch.path(),
        )
        .await;
        drop(task);
        (name, result)
    });
    let mut checks = checks.buffer_unordered(at_once);
    while let Some((name, result)) = checks.next().await {
        match result {
            Ok((size, problems)) => {
                verified.bytes += size;
                verified
                    .problems
                    .extend(problems.into_iter().map(|problem| finding(name.as_str(), problem)));
            }
            Err(problem) => verified.problems.push(finding(name.as_str(), problem)),
        }
    }
    if let Origin::Directory(root) = origin {
        strays(&root.join(&target.folder), &manifest, &mut verified)?;
    }
    verified.problems.sort();
    verified.warnings.sort();
    Ok(verified)
}

fn url_of(base: &Url, folder: &str, name: &str) -> String {
    let folder = if folder.is_empty() { String::new() } else { format!("{folder}/") };
    format!("{base}{folder}{name}")
}

async fn read_manifest(
    origin: &Origin,
    folder: &str,
    client: &Client,
) -> Result<Vec<u8>, VerifyError> {
    match origin {
        Origin::Directory(root) => {
            let path = root.join(folder).join(MANIFEST);
            let read = || {
                if !fs::metadata(&path)?.is_file() {
                    return Err(io::Error::other("it is not a regular file"));
                }
                fs::read(&path)
            };
            read().map_err(|source| match source.kind() {
                io::ErrorKind::NotFound => {
                    VerifyError::Nothing(root.join(folder).display().to_string())
                }
                _ => VerifyError::Disk { path, source },
            })
        }
        Origin::Url(base) => {
            let text = url_of(base, folder, MANIFEST);
            let url = Url::parse(&text).map_err(|_| VerifyError::Nothing(text.clone()))?;
            match client.document(&url, &Cache::default()).await {
                Ok(bytes) => Ok(bytes.to_vec()),
                Err(error) if error.is_not_found() => {
                    Err(VerifyError::Nothing(url_of(base, folder, "")))
                }
                Err(error) => Err(error.into()),
            }
        }
    }
}

/// What a client sees of the names alone.
fn check_names(manifest: &Manifest, target: &Target, verified: &mut Verified) {
    let mut seen: BTreeMap<String, BTreeMap<Version, FileName>> = BTreeMap::new();
    for (name, _) in manifest.files() {
        let parts = match &target.expected {
            Some((matcher, _)) => matcher
                .captures(name.as_str())
                .map(|(version, arch)| (version.to_owned(), arch.unwrap_or_default().to_owned())),
            None => guess(name),
        };
        let Some((version, arch)) = parts else {
            let form = match target.expected {
                Some(_) => "does not match the component's [image] name",
                None => "is not named NAME-VERSION-ARCHITECTURE.raw",
            };
            verified.warnings.push(finding(name.as_str(), form));
            continue;
        };
        match version.parse::<Version>() {
            Err(error) => verified.problems.push(finding(name.as_str(), error.to_string())),
            Ok(version) => {
                seen.entry(arch).or_default().insert(version, name.clone());
            }
        }
    }
    // Versions that clients hold equal are neighbours in their order.
    for versions in seen.values() {
        for ((older, _), (version, name)) in versions.iter().zip(versions.iter().skip(1)) {
            if older.client_cmp(version).is_eq() {
                let problem = format!("clients hold its version `{version}` equal to `{older}`");
                verified.problems.push(finding(name.as_str(), problem));
            }
        }
    }
}

/// Version and architecture of a name like ours, if nobody says what the component is called.
fn guess(name: &FileName) -> Option<(String, String)> {
    let stem = name.as_str().strip_suffix(".raw")?;
    let (rest, arch) = Arch::ALL
        .iter()
        .filter_map(|arch| Some((stem.strip_suffix(&format!("-{arch}"))?, arch)))
        .min_by_key(|(rest, _)| rest.len())?;
    // The component's name ends where the first part that starts like a version begins.
    let at = rest.match_indices('-').map(|(at, _)| at + 1).find(|at| {
        let part = rest[*at..].strip_prefix('v').unwrap_or(&rest[*at..]);
        part.starts_with(|c: char| c.is_ascii_digit())
    })?;
    // The name is part of what tells versions apart: another component's are another series.
    Some((rest[at..].to_owned(), format!("{} {arch}", &rest[..at])))
}

/// Size of a file and what is wrong inside; an error if it is not the file that is listed.
async fn check_file(
    origin: &Origin,
    folder: &str,
    name: &FileName,
    expected: Sha256,
    known_as: Option<String>,
    client: &Client,
    scratch: &Path,
) -> Result<(u64, Vec<String>), String> {
    // A downloaded file goes away with this guard, whatever is found: a repository may be large.
    let mut guard = None;
    let (path, fetched) = match origin {
        Origin::Directory(root) => (root.join(folder).join(name.as_str()), None),
        Origin::Url(base) => {
            let path = scratch.join(name.as_str());
            guard = tempfile::TempPath::try_from_path(&path).ok();
            let url = url_of(base, folder, name.as_str());
            let fetched = client
                .download(&url, http::HeaderMap::new(), &Arriving::at(path.clone()), |_, _| ())
                .await
                .map_err(|error| match error {
                    error if error.is_not_found() => {
                        "is listed, but the server has no such file".to_owned()
                    }
                    error => error.to_string(),
                })?;
            (path, Some(fetched))
        }
    };
    let checked = tokio::task::spawn_blocking(move || {
        let (sha256, size) = match fetched {
            Some(fetched) => (fetched.sha256, fetched.size),
            None => hash(&path)?,
        };
        if sha256 != expected {
            return Err(format!("has SHA-256 {sha256}, but the manifest says {expected}"));
        }
        let is_image = path.extension().is_some_and(|ending| ending == "raw");
        let problems = if is_image {
            inspect::inspect(&path, known_as.as_deref())
                .map_or_else(|error| vec![error.to_string()], |image| image.problems)
        } else {
            Vec::new()
        };
        Ok((size, problems))
    });
    let checked = checked.await.unwrap_or_else(|error| Err(format!("the check crashed: {error}")));
    drop(guard);
    checked
}

/// Digest and size of a file in place.
fn hash(path: &Path) -> Result<(Sha256, u64), String> {
    let read = || {
        // A pipe would never end, and no web server gives out anything else than files.
        if !fs::metadata(path)?.is_file() {
            return Ok(None);
        }
        Sha256::of_reader(&mut File::open(path)?).map(Some)
    };
    match read() {
        Ok(Some(hashed)) => Ok(hashed),
        Ok(None) => Err("is listed, but not a regular file".to_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err("is listed, but not there".to_owned())
        }
        Err(error) => Err(format!("cannot be read: {error}")),
    }
}

/// Files that no line names: no client sees them, but somebody pays for them.
fn strays(folder: &Path, manifest: &Manifest, verified: &mut Verified) -> Result<(), VerifyError> {
    let disk = |source| VerifyError::Disk { path: folder.to_owned(), source };
    let listed: BTreeSet<&str> = manifest.files().map(|(name, _)| name.as_str()).collect();
    for entry in fs::read_dir(folder).map_err(disk)? {
        let name = entry.map_err(disk)?.file_name().to_string_lossy().into_owned();
        let stray = name.contains(".raw")
            && !listed.contains(name.as_str())
            && !name.starts_with(BEST_BEFORE);
        if stray {
            verified.warnings.push(finding(&name, "is not listed"));
        }
    }
    Ok(())
}

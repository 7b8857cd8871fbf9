//! Where a repository is read from: a directory, a web server, a store.
//!
//! Owns how each of them is asked. Only a true "not found" means that something is not there.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use http::HeaderMap;
use url::Url;

use super::VerifyError;
use crate::fetch::Client;
use crate::fetch::cache::Cache;
use crate::repository::MANIFEST;
use crate::store::{PRIVATE, Store};

/// Where a repository is read from.
#[derive(Debug, Clone)]
pub enum Origin {
    /// A directory on this machine.
    Directory(PathBuf),
    /// What a web server serves; ends with a slash.
    Url(Url),
    /// What a bucket holds.
    Store(Store),
}

impl Origin {
    /// A folder of it, for people.
    #[must_use]
    pub fn shown(&self, folder: &str) -> String {
        match self {
            Self::Directory(root) if folder.is_empty() => root.display().to_string(),
            Self::Directory(root) => root.join(folder).display().to_string(),
            Self::Url(base) => url_of(base, folder, ""),
            Self::Store(store) => store.locate(folder),
        }
    }

    /// How many files are read at once. Of a directory, only as many as there are cores to hash
    /// them: a disk is slower for more.
    pub(super) fn at_once(&self, of_servers: usize) -> usize {
        match self {
            Self::Directory(_) => {
                std::thread::available_parallelism().map_or(of_servers, usize::from)
            }
            Self::Url(_) | Self::Store(_) => of_servers,
        }
    }

    /// A small file; `None` only if there is none.
    ///
    /// # Errors
    /// It cannot be read.
    pub async fn read(
        &self,
        folder: &str,
        name: &str,
        client: &Client,
    ) -> Result<Option<Bytes>, VerifyError> {
        match self {
            Self::Directory(root) => {
                let path = root.join(folder).join(name);
                let read = || {
                    if !fs::metadata(&path)?.is_file() {
                        return Err(io::Error::other("it is not a regular file"));
                    }
                    fs::read(&path)
                };
                match read() {
                    Ok(bytes) => Ok(Some(bytes.into())),
                    Err(source) if source.kind() == io::ErrorKind::NotFound => Ok(None),
                    Err(source) => Err(VerifyError::Disk { path, source }),
                }
            }
            Self::Url(base) => {
                let text = url_of(base, folder, name);
                let url = Url::parse(&text).map_err(|_| VerifyError::Nothing(text.clone()))?;
                match client.document(&url, HeaderMap::new(), &Cache::default()).await {
                    Ok(document) => Ok(Some(document.body)),
                    Err(error) if error.is_not_found() => Ok(None),
                    Err(error) => Err(error.into()),
                }
            }
            Self::Store(store) => Ok(store.read(&path_of(folder, name)).await?),
        }
    }

    /// The names in a folder, where that can be known.
    pub(super) async fn list(&self, folder: &str) -> Result<Vec<String>, VerifyError> {
        match self {
            Self::Directory(root) => {
                let path = root.join(folder);
                let disk = |source| VerifyError::Disk { path: path.clone(), source };
                let mut names = Vec::new();
                for entry in fs::read_dir(&path).map_err(disk)? {
                    names.push(entry.map_err(disk)?.file_name().to_string_lossy().into_owned());
                }
                Ok(names)
            }
            Self::Url(_) => Ok(Vec::new()),
            Self::Store(store) => {
                Ok(store.list(folder).await?.into_iter().map(|listed| listed.name).collect())
            }
        }
    }
}

/// The address of a file.
pub(super) fn url_of(base: &Url, folder: &str, name: &str) -> String {
    format!("{base}{}", path_of(folder, name))
}

/// The path of a file in a store, for programs and for people; the folder may be empty.
pub(super) fn path_of(folder: &str, name: &str) -> String {
    if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") }
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

/// The folders of a store that have a manifest.
///
/// # Errors
/// As [`folders`].
pub async fn folders_of(store: &Store) -> Result<Vec<String>, VerifyError> {
    let mut found = Vec::new();
    let mut waiting = vec![String::new()];
    while let Some(at) = waiting.pop() {
        let below = store.folders(&at).await?.into_iter().filter(|name| name != PRIVATE);
        waiting.extend(below.map(|name| path_of(&at, &name)));
        if store.list(&at).await?.iter().any(|listed| listed.name == MANIFEST) {
            found.push(at);
        }
    }
    found.sort();
    if found.is_empty() {
        return Err(VerifyError::Nothing(store.to_string()));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::config::{Limits, Network};
    use crate::name::Sha256;
    use crate::report::Progress;
    use crate::repository::verify::{Look, Target, Trust, Verified, verify};
    use crate::store::Access;

    async fn look(origin: &Origin, quick: bool) -> Verified {
        let look = Look {
            client: &Client::new(&Network::default(), &Limits::default()),
            at_once: 4,
            quick,
            trust: &Trust::Nobody,
            signed: false,
            now: Timestamp::now(),
            progress: &Progress::new(true),
        };
        let target = Target { folder: "x".to_owned(), expected: None };
        verify(origin, &target, &look).await.unwrap()
    }

    #[tokio::test]
    async fn a_store_is_read_as_a_directory_is() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        fs::create_dir(root.join("x")).unwrap();
        let write = |name: &str, text: &str| fs::write(root.join("x").join(name), text).unwrap();
        let line = |name: &str, text: &str| format!("{}  {name}\n", Sha256::of(text.as_bytes()));
        write("a.txt", "a");
        write("b.txt", "b");
        write("stray.raw", "s");
        write(MANIFEST, &(line("a.txt", "a") + &line("b.txt", "c") + &line("d.txt", "d")));
        let store = Store::directory(root, Access::Read).unwrap();
        for origin in [Origin::Directory(root.to_owned()), Origin::Store(store)] {
            let verified = look(&origin, false).await;
            let problems: Vec<_> = verified
                .problems
                .iter()
                .map(|found| (found.file.as_str(), found.problem.split(' ').next().unwrap()))
                .collect();
            assert_eq!(problems, [("b.txt", "has"), ("d.txt", "is")], "{verified:?}");
            assert_eq!((verified.files, verified.bytes), (3, 1));
            assert!(verified.warnings.iter().any(|found| found.file == "stray.raw"));
            // A quick look reads no byte: only what is not there is seen.
            let verified = look(&origin, true).await;
            assert_eq!(verified.problems.len(), 1, "{verified:?}");
            assert_eq!(verified.problems[0].problem, "is listed, but not there");
        }
    }
}

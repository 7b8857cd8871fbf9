//! One listed file: is it there, is it what the manifest says, and would a client merge it?
//!
//! Reads each file once. Of a directory, in place, on a thread that may block; of a server, into a
//! temporary file that is hashed on the way, because an image is looked into at many places.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use super::origin::{Origin, path_of, url_of};
use crate::config::verity::Verity;
use crate::fetch::Client;
use crate::fetch::arriving::Arriving;
use crate::image::inspect;
use crate::name::Sha256;
use crate::repository::commit::Record;
use crate::store::PRIVATE;

/// What the manifest says of a file.
pub(super) struct Listed<'a> {
    pub(super) folder: &'a str,
    pub(super) name: &'a str,
    pub(super) sha256: Sha256,
    /// The name it is merged under, where that is known.
    pub(super) known_as: Option<&'a str>,
    /// Whether it must be an image that a node can merge.
    pub(super) made: bool,
    /// What protects it, if something should.
    pub(super) verity: Option<&'a Verity>,
}

/// What was found of a file that is the one that is listed.
#[derive(Default)]
pub(super) struct Checked {
    pub(super) size: u64,
    pub(super) problems: Vec<String>,
    pub(super) warnings: Vec<String>,
}

const UNPROTECTED: &str =
    "has no hash tree, which [image] verity asks for: nodes with an image policy refuse it";
const ABSENT: &str = "is listed, but not there";

/// Size of a file, and what is wrong or odd inside; an error if it is not the file that is listed.
pub(super) async fn check(
    origin: &Origin,
    listed: &Listed<'_>,
    client: &Client,
    scratch: &Path,
) -> Result<Checked, String> {
    let Listed { folder, name, sha256: expected, known_as, made, verity } = *listed;
    // What was downloaded goes away with this guard, whatever is found: a repository may be large.
    let mut guard = None;
    let mut into_scratch = || {
        let path = scratch.join(name);
        guard = tempfile::TempPath::try_from_path(&path).ok();
        path
    };
    let (path, read) = match origin {
        Origin::Directory(root) => (root.join(folder).join(name), None),
        Origin::Url(base) => {
            let path = into_scratch();
            let url = url_of(base, folder, name);
            let fetched = client
                .download(&url, http::HeaderMap::new(), &Arriving::at(path.clone()), |_, _| ())
                .await
                .map_err(|error| match error {
                    error if error.is_not_found() => {
                        "is listed, but the server has no such file".to_owned()
                    }
                    error => error.to_string(),
                })?;
            (path, Some((fetched.sha256, fetched.size)))
        }
        Origin::Store(store) => {
            let path = into_scratch();
            let read =
                store.fetch(&path_of(folder, name), &path).await.map_err(|error| chain(&error))?;
            (path, Some(read.ok_or(ABSENT)?))
        }
    };
    let known_as = known_as.map(str::to_owned);
    let certificate = verity.and_then(Verity::certificate).cloned();
    let protected = verity.is_some();
    let checked = tokio::task::spawn_blocking(move || {
        let (sha256, size) = match read {
            Some(read) => read,
            None => hash(&path)?,
        };
        if sha256 != expected {
            return Err(format!("has SHA-256 {sha256}, but the manifest says {expected}"));
        }
        let is_image = made && path.extension().is_some_and(|ending| ending == "raw");
        let mut checked = Checked { size, ..Checked::default() };
        if is_image {
            match inspect::inspect(&path, known_as.as_deref(), certificate.as_ref()) {
                Ok(image) => {
                    // One from before somebody asked for it is as good as it was, unless nodes ask too.
                    if protected && image.verity.is_none() && image.problems.is_empty() {
                        checked.warnings.push(UNPROTECTED.to_owned());
                    }
                    checked.problems = image.problems;
                }
                Err(error) => checked.problems.push(error.to_string()),
            }
        }
        Ok(checked)
    });
    let checked = checked.await.unwrap_or_else(|error| Err(format!("the check crashed: {error}")));
    drop(guard);
    checked
}

/// How an image was made, where publish's own files are at hand; `None` if nobody wrote it down, or it
/// is not for us to read.
///
/// # Errors
/// It is there, but makes no sense.
pub(super) async fn record(origin: &Origin, listed: &Listed<'_>) -> Result<Option<Record>, String> {
    let Listed { folder, name, .. } = *listed;
    let path = path_of(&format!("{PRIVATE}/images/{folder}"), &format!("{name}.json"));
    let bytes = match origin {
        Origin::Directory(root) => fs::read(root.join(&path)).ok(),
        Origin::Url(_) => None,
        Origin::Store(store) => store.read(&path).await.ok().flatten().map(Vec::from),
    };
    let read = |bytes: Vec<u8>| {
        Record::read(&bytes)
            .map_err(|problem| format!("its record, {path}, cannot be read: {problem}"))
    };
    bytes.map(read).transpose()
}

/// Size of a file, without reading it; an error if it cannot be the one that is listed.
pub(super) async fn glance(
    origin: &Origin,
    listed: &Listed<'_>,
    record: Option<&Record>,
    client: &Client,
) -> Result<u64, String> {
    let Listed { folder, name, sha256, .. } = *listed;
    let size = match origin {
        Origin::Directory(root) => size_of(&root.join(folder).join(name))?,
        Origin::Url(base) => {
            let size =
                client.size(&url_of(base, folder, name)).await.map_err(|error| match error {
                    error if error.is_not_found() => {
                        "is listed, but the server has no such file".to_owned()
                    }
                    error => error.to_string(),
                })?;
            // Some servers do not tell.
            let Some(size) = size else { return Ok(0) };
            size
        }
        Origin::Store(store) => {
            let path = path_of(folder, name);
            store.size(&path).await.map_err(|error| chain(&error))?.ok_or(ABSENT)?
        }
    };
    if size == 0 && sha256 != Sha256::of(b"") {
        return Err("is empty".to_owned());
    }
    match record {
        Some(record) if record.sha256 == sha256 && record.size != size => {
            Err(format!("has {size} bytes, but was published with {}", record.size))
        }
        _ => Ok(size),
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

/// Digest and size of a file in place.
fn hash(path: &Path) -> Result<(Sha256, u64), String> {
    size_of(path)?;
    File::open(path)
        .and_then(|mut file| Sha256::of_reader(&mut file))
        .map_err(|error| unreadable(&error))
}

fn size_of(path: &Path) -> Result<u64, String> {
    let metadata = fs::metadata(path).map_err(|error| unreadable(&error))?;
    // A pipe would never end, and no web server gives out anything else than files.
    if metadata.is_file() {
        Ok(metadata.len())
    } else {
        Err("is listed, but not a regular file".to_owned())
    }
}

fn unreadable(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => ABSENT.to_owned(),
        _ => format!("cannot be read: {error}"),
    }
}

//! Verification: reading a published repository as a client does, and checking every byte.
//!
//! Owns what "right" means for what is served. Reads only; trusts nothing that publish keeps for
//! itself, but for the sizes that a quick look compares with; its records must be readable, where they
//! are at hand.

use std::io;
use std::path::PathBuf;

use futures::StreamExt;
use jiff::Timestamp;
use serde::Serialize;
use thiserror::Error;

use super::MANIFEST;
use crate::config::Component;
use crate::fetch::{Client, FetchError};
use crate::name::{Arch, Sha256};
use crate::report::{Progress, Step};
use crate::scratch::Scratch;
use crate::sign::Keyring;
use crate::store::StoreError;
use crate::template::Matcher;

mod file;
mod followed;
mod names;
mod nodes;
mod origin;
mod people;
mod signature;

pub use origin::{Origin, folders, folders_of};
pub use signature::Seal;

use names::Listing;

/// A folder to verify.
#[derive(Debug, Clone)]
pub struct Target {
    /// Its name below the origin; empty for the origin itself.
    pub folder: String,
    /// What it should hold, where that is known.
    pub expected: Option<Expected>,
}

/// What a component's folder should hold.
#[derive(Debug, Clone)]
pub struct Expected {
    /// What its images are called.
    pub matcher: Matcher,
    /// What else may be there: the other files of a version.
    pub others: Vec<Matcher>,
    /// The name they are merged under.
    pub name: String,
    /// What each version should be there for.
    pub arches: Vec<Arch>,
    /// Whether we made them: what is published as it came is looked at from outside alone.
    pub made: bool,
    /// The component itself: its transfers are tried.
    pub component: Box<Component>,
}

/// Whose signatures count.
#[derive(Debug, Clone)]
pub enum Trust {
    /// Those of this keyring, and the manifests must be signed.
    Keyring(Keyring),
    /// Those of the keyring in the repository itself: that shows what is broken, but not who signed.
    Served(Keyring),
    /// Nobody said.
    Nobody,
}

/// How a repository is verified.
#[derive(Debug, Clone, Copy)]
pub struct Look<'a> {
    /// For what is asked over HTTP.
    pub client: &'a Client,
    /// How many files are read at once from a server.
    pub at_once: usize,
    /// Only whether files are there, and their sizes; nothing is downloaded.
    pub quick: bool,
    /// Whose signatures count.
    pub trust: &'a Trust,
    /// Whether manifests must be signed, even if it cannot be told by whom.
    pub signed: bool,
    /// What promises are measured against.
    pub now: Timestamp,
    /// For people.
    pub progress: &'a Progress,
}

/// A repository that could not be read at all.
#[derive(Debug, Error)]
pub enum VerifyError {
    /// The server did not give the manifest.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The store did not give it.
    #[error(transparent)]
    Store(#[from] StoreError),
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
    /// How many files for nodes lie beside them, where that is known: no manifest lists them.
    pub clients: usize,
    /// Who signed it, and until when it may be believed.
    pub seal: Seal,
    /// What is wrong.
    pub problems: Vec<Finding>,
    /// What is odd, but harms no client yet.
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

impl Verified {
    fn problem(&mut self, file: &str, problem: impl Into<String>) {
        self.problems.push(Finding { file: file.to_owned(), problem: problem.into() });
    }

    fn warning(&mut self, file: &str, problem: impl Into<String>) {
        self.warnings.push(Finding { file: file.to_owned(), problem: problem.into() });
    }
}

/// Reads one folder: the manifest, who signed it, and every file it lists.
///
/// # Errors
/// There is no manifest to read. What is wrong in it or in a file is in the answer.
pub async fn verify(
    origin: &Origin,
    target: &Target,
    look: &Look<'_>,
) -> Result<Verified, VerifyError> {
    let folder = &target.folder;
    let mut verified = Verified {
        folder: folder.clone(),
        files: 0,
        clients: 0,
        bytes: 0,
        seal: Seal::default(),
        problems: Vec::new(),
        warnings: Vec::new(),
    };
    let Some(bytes) = origin.read(folder, MANIFEST, look.client).await? else {
        return Err(VerifyError::Nothing(origin.shown(folder)));
    };
    // Also of a manifest that cannot be read: a signature tells whether it was changed.
    signature::check(origin, folder, &bytes, look, &mut verified).await?;
    let listing = match Listing::read(&bytes) {
        Ok(listing) => listing,
        Err(error) => {
            verified.problem(MANIFEST, format!("clients refuse the whole manifest: {error}"));
            return Ok(verified);
        }
    };
    if listing.is_empty() {
        verified.problem(MANIFEST, "is empty, which systemd 257 takes for an error");
    }
    signature::check_freshness(&listing.manifest, look.now, &mut verified);
    names::check(&listing, target.expected.as_ref(), &mut verified);
    if let Some(expected) = &target.expected {
        followed::check(origin, folder, expected, &listing.manifest, &mut verified).await;
    }
    check_files(origin, target, &listing, look, &mut verified).await?;
    strays(origin, folder, &listing, &mut verified).await?;
    nodes::check(origin, folder, look, &mut verified).await?;
    people::check(origin, folder, look, &mut verified).await?;
    verified.problems.sort();
    verified.warnings.sort();
    Ok(verified)
}

async fn check_files(
    origin: &Origin,
    target: &Target,
    listing: &Listing,
    look: &Look<'_>,
    verified: &mut Verified,
) -> Result<(), VerifyError> {
    let scratch = Scratch::new()
        .map_err(|source| VerifyError::Disk { path: std::env::temp_dir(), source })?;
    let files: Vec<(String, Sha256)> = listing.files().collect();
    verified.files = files.len();
    let known_as = target.expected.as_ref().map(|expected| expected.name.as_str());
    let made = target.expected.as_ref().is_none_or(|expected| expected.made);
    let verity =
        target.expected.as_ref().and_then(|expected| expected.component.image.verity.as_ref());
    let scratch = scratch.path();
    let checks = futures::stream::iter(files).map(async |(name, sha256)| {
        let task = look.progress.begin(Step::Verify, &origin::path_of(&target.folder, &name));
        let folder = &target.folder;
        let listed = file::Listed { folder, name: &name, sha256, known_as, made, verity };
        let (record, unreadable) = match file::record(origin, &listed).await {
            Ok(record) => (record, None),
            Err(problem) => (None, Some(problem)),
        };
        let result = if look.quick {
            let glance = file::glance(origin, &listed, record.as_ref(), look.client).await;
            glance.map(|size| file::Checked { size, ..file::Checked::default() })
        } else {
            file::check(origin, &listed, look.client, scratch).await
        };
        drop(task);
        (name, result, unreadable)
    });
    let mut checks = checks.buffer_unordered(origin.at_once(look.at_once));
    while let Some((name, result, unreadable)) = checks.next().await {
        if let Some(problem) = unreadable {
            verified.problem(&name, problem);
        }
        match result {
            Ok(file::Checked { size, problems, warnings }) => {
                verified.bytes += size;
                for problem in problems {
                    verified.problem(&name, problem);
                }
                for warning in warnings {
                    verified.warning(&name, warning);
                }
            }
            Err(problem) => verified.problem(&name, problem),
        }
    }
    Ok(())
}

/// Files that no line names: no client sees them, but somebody pays for them.
async fn strays(
    origin: &Origin,
    folder: &str,
    listing: &Listing,
    verified: &mut Verified,
) -> Result<(), VerifyError> {
    let listed: std::collections::BTreeSet<String> =
        listing.files().map(|(name, _)| name).collect();
    for name in origin.list(folder).await? {
        if name.contains(".raw") && !listed.contains(&name) {
            verified.warning(&name, "is not listed");
        }
    }
    Ok(())
}

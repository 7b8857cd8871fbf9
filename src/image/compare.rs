//! Comparison: in what two images differ, file by file and byte by byte.
//!
//! Owns what counts as a difference. Reads images as [`super::inspect`] does, and trusts them as
//! little: contents are compared piece by piece, never held, and only up to a size.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};
use std::path::Path;

use serde::Serialize;

use super::inspect::{self, FileSystem, InspectError, Item, Listed};

/// The largest files whose bytes are compared, in bytes: a hole of terabytes costs an image nothing.
const LARGEST: u64 = 64 << 30;

/// The reader keeps every fragment that it unpacked, and so is left for a new one after so many.
const FRAGMENTS: usize = 32;

/// In what two images differ.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Comparison {
    /// What concerns the images as a whole.
    pub image: Vec<Changed>,
    /// Entries, by path.
    pub entries: Vec<Difference>,
}

/// A property with two values.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Changed {
    /// `mode`, `size`, `target`, …
    pub what: &'static str,
    /// In the first image.
    pub first: String,
    /// In the second one.
    pub second: String,
}

/// An entry that is not the same in both.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "is")]
pub enum Difference {
    /// It is only in the first image.
    Removed(Listed),
    /// It is only in the second image.
    Added(Listed),
    /// It is in both, but not the same.
    Changed {
        /// Its path.
        path: String,
        /// In what, besides its bytes.
        in_what: Vec<Changed>,
        /// Whether its bytes differ.
        content: bool,
    },
}

impl Comparison {
    /// Whether there is no difference.
    #[must_use]
    pub fn is_same(&self) -> bool {
        self.image.is_empty() && self.entries.is_empty()
    }
}

/// Compares two images.
///
/// # Errors
/// One of them cannot be read.
pub fn compare(first: &Path, second: &Path) -> Result<Comparison, InspectError> {
    let paths = [first, second];
    let [one, other] = [inspect::open(first)?, inspect::open(second)?];
    let (ours, theirs) = (items(&one), items(&other));
    let mut readers = Readers::new(paths)?;
    let mut entries = Vec::new();
    for path in ours.keys().chain(theirs.keys().filter(|path| !ours.contains_key(*path))) {
        let difference = match (ours.get(path), theirs.get(path)) {
            (Some(node), None) => Some(Difference::Removed(node.listed())),
            (None, Some(node)) => Some(Difference::Added(node.listed())),
            (Some(a), Some(b)) => differ(path, *a, *b, &mut readers)?,
            (None, None) => None,
        };
        entries.extend(difference);
    }
    entries.sort_by(|a, b| a.path().cmp(b.path()));
    let mut image = Vec::new();
    note(&mut image, "format", &one.name(), &other.name());
    note(&mut image, "compression", &one.compression(), &other.compression());
    note(&mut image, "block size", &one.block_size(), &other.block_size());
    note(&mut image, "date", &one.time(), &other.time());
    Ok(Comparison { image, entries })
}

impl Difference {
    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &str {
        match self {
            Self::Removed(entry) | Self::Added(entry) => &entry.path,
            Self::Changed { path, .. } => path,
        }
    }
}

type Items<'i> = BTreeMap<String, Item<'i>>;

fn items(image: &FileSystem) -> Items<'_> {
    image.items().map(|item| (item.path(), item)).filter(|(path, _)| !path.is_empty()).collect()
}

fn note<T: PartialEq + ToString>(to: &mut Vec<Changed>, what: &'static str, a: &T, b: &T) {
    if a != b {
        to.push(Changed { what, first: a.to_string(), second: b.to_string() });
    }
}

/// Two readers for contents.
struct Readers<'p> {
    paths: [&'p Path; 2],
    images: [FileSystem; 2],
    /// The fragments that were unpacked by them.
    fragments: [BTreeSet<usize>; 2],
}

impl<'p> Readers<'p> {
    fn new(paths: [&'p Path; 2]) -> Result<Self, InspectError> {
        let images = [inspect::open(paths[0])?, inspect::open(paths[1])?];
        Ok(Self { paths, images, fragments: Default::default() })
    }

    /// Whether two files have the same bytes.
    fn same(&mut self, path: &str, files: [(Item<'_>, &Listed); 2]) -> Result<bool, InspectError> {
        let Self { paths, .. } = *self;
        let failed = |at: usize, source: io::Error| InspectError::Content {
            path: paths[at].to_owned(),
            file: path.to_owned(),
            source,
        };
        for (at, (file, listed)) in files.iter().enumerate() {
            if listed.size > LARGEST {
                return Err(failed(at, io::ErrorKind::FileTooLarge.into()));
            }
            self.fragments[at].extend(file.fragment());
            if self.fragments[at].len() > FRAGMENTS {
                self.images[at] = inspect::open(paths[at])?;
                self.fragments[at].clear();
            }
        }
        let [first, second] = [0, 1]
            .map(|at| self.images[at].content(files[at].0).map_err(|error| failed(at, error)));
        same(first?, second?).map_err(|(at, source)| failed(at, source))
    }
}

fn differ(
    path: &str,
    a: Item<'_>,
    b: Item<'_>,
    readers: &mut Readers<'_>,
) -> Result<Option<Difference>, InspectError> {
    let (x, y) = (a.listed(), b.listed());
    let mut in_what = Vec::new();
    let mode = |entry: &Listed| format!("{:04o}", entry.mode);
    let owner = |entry: &Listed| format!("{}:{}", entry.owner.0, entry.owner.1);
    note(&mut in_what, "type", &x.kind, &y.kind);
    note(&mut in_what, "mode", &mode(&x), &mode(&y));
    note(&mut in_what, "owner", &owner(&x), &owner(&y));
    note(&mut in_what, "size", &x.size, &y.size);
    let sizes_differ = x.size != y.size;
    let target = |entry: &Listed| entry.target.clone().unwrap_or_default();
    note(&mut in_what, "target", &target(&x), &target(&y));
    note(&mut in_what, "date", &a.time(), &b.time());
    // Other sizes are other bytes.
    let content =
        a.is_file() && b.is_file() && (sizes_differ || !readers.same(path, [(a, &x), (b, &y)])?);
    let changed = content || !in_what.is_empty();
    Ok(changed.then(|| Difference::Changed { path: path.to_owned(), in_what, content }))
}

/// The error is that of the first or the second one.
fn same(mut first: impl Read, mut second: impl Read) -> Result<bool, (usize, io::Error)> {
    const PIECE: usize = 64 << 10;
    let (mut a, mut b) = (Vec::with_capacity(PIECE), Vec::with_capacity(PIECE));
    loop {
        a.clear();
        b.clear();
        first.by_ref().take(PIECE as u64).read_to_end(&mut a).map_err(|error| (0, error))?;
        second.by_ref().take(PIECE as u64).read_to_end(&mut b).map_err(|error| (1, error))?;
        if a != b {
            return Ok(false);
        }
        if a.is_empty() {
            return Ok(true);
        }
    }
}

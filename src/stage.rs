//! Images that other machines made: what they are asked for, what they leave in a folder, and what must
//! hold before any of it counts.
//!
//! Owns the layout of that folder: `images/COMPONENT/IMAGE`, and a statement of how each was made in
//! `records/COMPONENT/IMAGE.json`. The folders of several machines are merged by copying them into one,
//! or lie beside each other in it. Whoever wrote them is believed in nothing that can be checked here.
//! Knows nothing of stores, and not how images are made.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rustix::fs::OFlags;
use thiserror::Error;

use crate::config::Component;
use crate::image::Image;
use crate::image::inspect::InspectError;
use crate::name::{Arch, ComponentName, FileName, Sha256};
use crate::plan::Build;
use crate::report::Told;
use crate::repository::commit::{RECORD, Record, TOOL};

pub mod order;
mod statement;

pub use order::{Entry, Matrix, Order};
pub use statement::{Left, Statement, leave, leave_failure};

/// What was ordered, in the folder's own words: only there if whoever planned put it there.
pub const PLAN: &str = "plan.json";

/// The largest list of orders that is read, in bytes.
const LARGEST_PLAN: u64 = 64 << 20;

/// The largest statement that is read, in bytes.
const LARGEST_STATEMENT: u64 = 1 << 20;

/// How many images a folder may hold: as many as a hundred runs would make.
const MOST: usize = 100_000;

/// A folder that cannot be read, or written.
#[derive(Debug, Error)]
pub enum StageError {
    /// The disk, most likely.
    #[error("cannot read or write {path}", path = path.display())]
    Disk {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The list of orders is none.
    #[error("{path} is no list of images to build: {problem}", path = path.display())]
    Plan {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// It has more in it than any run would leave.
    #[error("{path} has more than {MOST} images", path = path.display())]
    TooMany {
        /// The folder.
        path: PathBuf,
    },
}

impl StageError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Disk { .. } => "--staged takes the folder that `publish build --staged` wrote to",
            Self::Plan { .. } => "it is what `publish plan --matrix --staged DIR` writes",
            Self::TooMany { .. } => "take away what older runs left there",
        }
    }
}

/// An image that another machine should have made, and that is not taken.
#[derive(Debug, Error)]
pub enum StagedError {
    /// Nobody left it.
    #[error("it was to be built elsewhere, and nobody staged it")]
    Missing,
    /// Whoever should have built it says why not.
    #[error("its build failed elsewhere: {}", all(.0))]
    Failed(Told),
    /// The same, where a file of the release was not there yet.
    #[error("its build found no `{lacks}`")]
    Absent {
        /// What was not there.
        lacks: String,
    },
    /// The statement of it is none.
    #[error("{path} says nothing of it: {problem}", path = path.display())]
    Statement {
        /// The statement.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The statement is of something else.
    #[error(
        "what was staged as {image} is not what the plan wants: its {what} is {staged}, and should be {planned}",
        staged = .staged.escape_debug()
    )]
    Other {
        /// The image.
        image: FileName,
        /// In what they differ.
        what: &'static str,
        /// What was staged.
        staged: String,
        /// What is wanted.
        planned: String,
    },
    /// The image is not what its statement says.
    #[error(
        "the staged {image} is not what is said of it: it has {what} {is}, and its record says {said}"
    )]
    Untrue {
        /// The image.
        image: FileName,
        /// In what.
        what: &'static str,
        /// What it has.
        is: String,
        /// What was said.
        said: String,
    },
    /// It is not to be seen what is in it.
    #[error("the staged {image} cannot be looked into")]
    Closed {
        /// The image.
        image: FileName,
        /// Why.
        source: Box<InspectError>,
    },
    /// The image is no file that could be published, or cannot be read.
    #[error("cannot take {path}", path = path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl StagedError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Failed(told) => return told.hint.clone(),
            Self::Missing => {
                "look at the log of the job that should have built it; the next run orders it again"
            }
            Self::Absent { .. } => "the next run tries it again",
            Self::Statement { .. } => "stage it again with the same version of this program",
            Self::Other { .. } => {
                "the configuration, the program or upstream is another one there than here: plan, build and sync from one commit with one version, and stage it again"
            }
            Self::Closed { .. } => {
                "if it is right and only too large for that, let `publish sync --only NAME` build it"
            }
            Self::Unreadable { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                "copy the whole folder that `publish build --staged` wrote to: images/ belongs to records/"
            }
            Self::Untrue { .. } | Self::Unreadable { .. } => {
                "do not publish it before you know who changed it on the way; the next run orders it again"
            }
        };
        Some(hint.to_owned())
    }
}

/// What an error that was told elsewhere had to say, in a line.
fn all(told: &Told) -> String {
    let texts: Vec<&str> =
        std::iter::once(&told.message).chain(&told.causes).map(String::as_str).collect();
    texts.join(": ")
}

/// A folder of images that other machines made.
#[derive(Debug, Default)]
pub struct Stage {
    /// Where the statement of each is: below which of the merged folders.
    found: BTreeMap<(ComponentName, FileName), Vec<PathBuf>>,
    /// What was ordered, if that is known.
    ordered: Option<BTreeSet<(ComponentName, FileName)>>,
    asked: Mutex<BTreeSet<(ComponentName, FileName)>>,
}

impl Stage {
    /// Looks what is in a folder. One that is not there is empty: nothing was to be built.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn open(folder: &Path) -> Result<Self, StageError> {
        let mut stage = Self { ordered: ordered(folder)?, ..Self::default() };
        stage.search(folder)?;
        for below in folders(folder)? {
            if !matches!(name_of(&below), "images" | "records") {
                stage.search(&below)?;
            }
        }
        Ok(stage)
    }

    /// Takes in the statements below one of the merged folders. What has a name that nothing of ours has
    /// is nobody's.
    fn search(&mut self, root: &Path) -> Result<(), StageError> {
        let records = root.join("records");
        if !fs::symlink_metadata(&records).is_ok_and(|found| found.is_dir()) {
            return Ok(());
        }
        for folder in folders(&records)? {
            let Ok(component) = name_of(&folder).parse::<ComponentName>() else { continue };
            for entry in read(&folder)? {
                let Some(image) = entry.strip_suffix(".json").and_then(|name| name.parse().ok())
                else {
                    continue;
                };
                if self.found.len() >= MOST {
                    return Err(StageError::TooMany { path: root.to_owned() });
                }
                self.found.entry((component.clone(), image)).or_default().push(root.to_owned());
            }
        }
        Ok(())
    }

    /// Whether an image is none of this run's: it was not known when the others were told what to build.
    #[must_use]
    pub fn is_later(&self, component: &ComponentName, image: &FileName) -> bool {
        let key = (component.clone(), image.clone());
        let ordered = self.ordered.as_ref().is_none_or(|ordered| ordered.contains(&key));
        !ordered && !self.found.contains_key(&key)
    }

    /// What was staged of these components, but nobody asked for.
    pub fn unwanted<'s>(
        &'s self,
        components: &'s [std::sync::Arc<Component>],
    ) -> impl Iterator<Item = (&'s ComponentName, &'s FileName)> {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let of_them = |name: &ComponentName| components.iter().any(|one| one.name == *name);
        let keys = self.found.keys().filter(move |key| of_them(&key.0) && !asked.contains(*key));
        keys.map(|(component, image)| (component, image))
    }

    /// Takes the image of a build into a folder of ours, where nobody else can change it any more, with
    /// what is to be recorded of it. The inputs of the record are for the caller to look at.
    ///
    /// # Errors
    /// It is not there, is not what the plan wants, or is not what is said of it.
    pub fn take(
        &self,
        component: &ComponentName,
        build: &Build,
        into: &Path,
    ) -> Result<(Image, Record), StagedError> {
        let key = (component.clone(), build.image.clone());
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).insert(key.clone());
        let mut failed = StagedError::Missing;
        // Two machines may have been given the same order: one that did it well is enough.
        for root in self.found.get(&key).into_iter().flatten() {
            match take_from(root, component, build, into) {
                Ok(taken) => return Ok(taken),
                Err(error) if matches!(failed, StagedError::Missing) => failed = error,
                Err(_) => {}
            }
        }
        Err(failed)
    }
}

fn take_from(
    root: &Path,
    component: &ComponentName,
    build: &Build,
    into: &Path,
) -> Result<(Image, Record), StagedError> {
    let path = statement::record_path(root, component, &build.image);
    let unread = |problem: String| StagedError::Statement { path: path.clone(), problem };
    let bytes = read_file(&path, LARGEST_STATEMENT).map_err(|error| unread(error.to_string()))?;
    let statement = Statement::read(&bytes).map_err(unread)?;
    check_identity(component, build, &statement)?;
    let mut record = match statement.left {
        Left::Image(record) => *record,
        Left::Failed { absent: Some(lacks), .. } => return Err(StagedError::Absent { lacks }),
        Left::Failed { error, absent: None } => return Err(StagedError::Failed(error)),
    };
    check_record(build, &record)?;
    // What is in it will be seen; when it is published, nobody knows yet.
    record.contents = None;
    record.published = None;
    let image = copy(root, component, build, &record, into)?;
    Ok((image, record))
}

fn other(build: &Build, what: &'static str, staged: String, planned: String) -> StagedError {
    StagedError::Other { image: build.image.clone(), what, staged, planned }
}

/// A statement may have been put in the place of another one.
fn check_identity(
    component: &ComponentName,
    build: &Build,
    statement: &Statement,
) -> Result<(), StagedError> {
    if statement.component != *component {
        let staged = statement.component.to_string();
        return Err(other(build, "component", staged, component.to_string()));
    }
    if statement.image != build.image {
        return Err(other(build, "name", statement.image.to_string(), build.image.to_string()));
    }
    if statement.arch != build.arch {
        let staged = statement.arch.to_string();
        return Err(other(build, "architecture", staged, build.arch.to_string()));
    }
    Ok(())
}

/// Whether a record is of what the plan of this moment wants.
fn check_record(build: &Build, record: &Record) -> Result<(), StagedError> {
    let differ = |what, staged: String, planned: String| Err(other(build, what, staged, planned));
    if record.version != RECORD {
        return differ("record's version", record.version.to_string(), RECORD.to_string());
    }
    if record.release.as_ref() != Some(&build.version) || record.revision != build.revision {
        let release = record.release.as_ref().map_or("unknown", |release| release.as_str());
        let staged = format!("{release} (revision {})", record.revision);
        return differ(
            "version",
            staged,
            format!("{} (revision {})", build.version, build.revision),
        );
    }
    if record.tool != TOOL {
        return differ("builder", record.tool.clone(), TOOL.to_owned());
    }
    match record.recipe {
        Some(recipe) if recipe == build.recipe => {}
        recipe => {
            let staged = recipe.map_or_else(|| "unknown".to_owned(), |recipe| recipe.to_string());
            return differ("recipe", staged, build.recipe.to_string());
        }
    }
    if let Some(time) = build.time.filter(|time| *time != record.time) {
        return differ("date", record.time.to_string(), time.to_string());
    }
    let (staged, planned) = (&record.companions, build.company.record());
    if *staged != planned {
        let shown = |companions: &BTreeMap<String, crate::repository::commit::CompanionRecord>| {
            let each = companions.iter().map(|(name, it)| format!("{name} {}", it.version));
            let each: Vec<String> = each.collect();
            if each.is_empty() { "none".to_owned() } else { each.join(", ") }
        };
        return differ("company", shown(staged), shown(&planned));
    }
    Ok(())
}

/// Copies an image, and looks at every byte on the way.
fn copy(
    root: &Path,
    component: &ComponentName,
    build: &Build,
    record: &Record,
    into: &Path,
) -> Result<Image, StagedError> {
    let name = &build.image;
    let from = statement::image_path(root, component, name);
    let failed = |source| StagedError::Unreadable { path: from.clone(), source };
    for folder in [root.join("images"), root.join("images").join(component.as_str())] {
        if !fs::symlink_metadata(&folder).map_err(failed)?.is_dir() {
            return Err(failed(io::Error::other("it is behind a link")));
        }
    }
    let file = open(&from).map_err(failed)?;
    let size = file.metadata().map_err(failed)?.len();
    let untrue = |what, is: String, said: String| StagedError::Untrue {
        image: name.clone(),
        what,
        is,
        said,
    };
    if size != record.size {
        return Err(untrue("a length of", size.to_string(), record.size.to_string()));
    }
    let path = into.join(name.as_str());
    let disk = |source| StagedError::Unreadable { path: path.clone(), source };
    // What an earlier attempt left.
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(disk(error)),
        _ => {}
    }
    let mut to = File::create_new(&path).map_err(disk)?;
    let mut tee = Tee { from: file.take(size), to: &mut to };
    let (sha256, size) = Sha256::of_reader(&mut tee).map_err(failed)?;
    to.flush().map_err(disk)?;
    if sha256 != record.sha256 {
        return Err(untrue("SHA-256", sha256.to_string(), record.sha256.to_string()));
    }
    Ok(Image { name: name.clone(), path, sha256, size, findings: Vec::new(), contents: None })
}

/// Writes down what is read.
struct Tee<'f, R> {
    from: R,
    to: &'f mut File,
}

impl<R: Read> Read for Tee<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.from.read(buffer)?;
        self.to.write_all(&buffer[..read])?;
        Ok(read)
    }
}

/// Opens a regular file: no link to one, and nothing that would keep us waiting.
fn open(path: &Path) -> io::Result<File> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits();
    let file = File::options().read(true).custom_flags(flags.cast_signed()).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    Ok(file)
}

fn read_file(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(path)?.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(io::Error::other(format!("it is larger than {most} bytes")));
    }
    Ok(bytes)
}

/// What was ordered, if the folder says it.
fn ordered(folder: &Path) -> Result<Option<BTreeSet<(ComponentName, FileName)>>, StageError> {
    let Some(matrix) = read_plan(folder)? else { return Ok(None) };
    let orders =
        matrix.orders().map_err(|problem| StageError::Plan { path: folder.join(PLAN), problem })?;
    Ok(Some(orders.into_iter().map(|order| (order.component, order.image)).collect()))
}

/// Reads what was ordered; `None` if the folder does not say it.
///
/// # Errors
/// It is there, but nobody can read it.
pub fn read_plan(folder: &Path) -> Result<Option<Matrix>, StageError> {
    let path = folder.join(PLAN);
    match read_file(&path, LARGEST_PLAN) {
        Ok(bytes) => match Matrix::read(&bytes) {
            Ok(matrix) => Ok(Some(matrix)),
            Err(problem) => Err(StageError::Plan { path, problem }),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(StageError::Disk { path, source }),
    }
}

/// Keeps what was ordered.
///
/// # Errors
/// The folder cannot be written.
pub fn keep_plan(folder: &Path, matrix: &Matrix) -> Result<(), StageError> {
    statement::put(&folder.join(PLAN), matrix.line().as_bytes())
}

fn name_of(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

/// The real folders in a folder, sorted.
fn folders(folder: &Path) -> Result<Vec<PathBuf>, StageError> {
    let failed = |source| StageError::Disk { path: folder.to_owned(), source };
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed)?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed)?;
        if entry.file_type().map_err(failed)?.is_dir() {
            found.push(entry.path());
        }
        if found.len() > MOST {
            return Err(StageError::TooMany { path: folder.to_owned() });
        }
    }
    found.sort();
    Ok(found)
}

/// The names in a folder that are text.
fn read(folder: &Path) -> Result<Vec<String>, StageError> {
    let failed = |source| StageError::Disk { path: folder.to_owned(), source };
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        names.extend(entry.map_err(failed)?.file_name().into_string().ok());
        if names.len() > MOST {
            return Err(StageError::TooMany { path: folder.to_owned() });
        }
    }
    Ok(names)
}

/// What an image is for, in a line.
#[must_use]
pub fn subject(component: &ComponentName, version: &str, arch: Arch) -> String {
    format!("{component} {version} {arch}")
}

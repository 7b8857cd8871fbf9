//! What a machine leaves of one order: an image and how it was made, or why there is none.
//!
//! Owns the format of a statement, and that it appears after the image that it speaks of: a machine that
//! is killed leaves no statement. Believes nothing; see [`Stage::take`](super::Stage::take).

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Order, StageError};
use crate::image::Image;
use crate::name::{Arch, ComponentName, FileName};
use crate::report::Told;
use crate::repository::commit::Record;

/// The version of the format.
const VERSION: u32 = 1;

/// What is said of one order.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Statement {
    version: u32,
    /// The component.
    pub component: ComponentName,
    /// The image that was ordered.
    pub image: FileName,
    /// Its architecture.
    pub arch: Arch,
    /// What became of it.
    pub left: Left,
}

/// What became of an order.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Left {
    /// The image, and what went into it.
    Image(Box<Record>),
    /// Nothing.
    Failed {
        /// Why.
        error: Told,
        /// The file of a new release that was not there yet, if that is why.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        absent: Option<String>,
    },
}

impl Statement {
    fn of(order: &Order, left: Left) -> Self {
        let Order { component, image, arch, .. } = order.clone();
        Self { version: VERSION, component, image, arch, left }
    }

    /// Reads one.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(bytes: &[u8]) -> Result<Self, String> {
        let statement: Self = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        if statement.version != VERSION {
            return Err(format!("its version {} is not known here", statement.version));
        }
        let left = match statement.left {
            Left::Failed { error, absent } => Left::Failed {
                error: Told {
                    message: shown(&error.message),
                    causes: error.causes.iter().take(CAUSES).map(|cause| shown(cause)).collect(),
                    hint: error.hint.as_deref().map(shown),
                },
                absent: absent.as_deref().map(shown),
            },
            image @ Left::Image(_) => image,
        };
        Ok(Self { left, ..statement })
    }
}

/// How many causes of a failure are told on, and how much of each text.
const CAUSES: usize = 16;
const LONGEST: usize = 2000;

/// A text of another machine's, in one line, without what a terminal would do something for.
fn shown(text: &str) -> String {
    let texts = text.trim().chars().take(LONGEST);
    texts.map(|c| if c.is_control() { ' ' } else { c }).collect()
}

pub(super) fn record_path(root: &Path, component: &ComponentName, image: &FileName) -> PathBuf {
    root.join("records").join(component.as_str()).join(format!("{image}.json"))
}

pub(super) fn image_path(root: &Path, component: &ComponentName, image: &FileName) -> PathBuf {
    root.join("images").join(component.as_str()).join(image.as_str())
}

/// Leaves an image in a folder, then what is said of it. Gives where the image is.
///
/// # Errors
/// The folder cannot be written.
pub fn leave(
    root: &Path,
    order: &Order,
    image: &Image,
    record: &Record,
) -> Result<PathBuf, StageError> {
    let to = image_path(root, &order.component, &order.image);
    appear(&to, |half| {
        // A second name costs nothing, where both folders are on one file system.
        fs::hard_link(&image.path, half).or_else(|_| fs::copy(&image.path, half).map(drop))
    })?;
    tell(root, order, Left::Image(Box::new(record.clone())))?;
    Ok(to)
}

/// Leaves why there is no image.
///
/// # Errors
/// The folder cannot be written.
pub fn leave_failure(
    root: &Path,
    order: &Order,
    error: Told,
    absent: Option<String>,
) -> Result<(), StageError> {
    tell(root, order, Left::Failed { error, absent })
}

fn tell(root: &Path, order: &Order, left: Left) -> Result<(), StageError> {
    let statement = Statement::of(order, left);
    let mut text = serde_json::to_vec_pretty(&statement).expect("it has only text keys");
    text.push(b'\n');
    put(&record_path(root, &order.component, &order.image), &text)
}

pub(super) fn put(path: &Path, bytes: &[u8]) -> Result<(), StageError> {
    appear(path, |half| fs::File::create_new(half)?.write_all(bytes))
}

/// Lets a file appear whole or not at all, in the place of one that was there.
fn appear(path: &Path, write: impl Fn(&Path) -> io::Result<()>) -> Result<(), StageError> {
    let failed = |source| StageError::Disk { path: path.to_owned(), source };
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let half = path.with_file_name(format!(".{name}.part"));
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder).map_err(failed)?;
    // What a killed run left.
    let _ = fs::remove_file(&half);
    let written = write(&half).and_then(|()| fs::rename(&half, path));
    if written.is_err() {
        let _ = fs::remove_file(&half);
    }
    written.map_err(failed)
}

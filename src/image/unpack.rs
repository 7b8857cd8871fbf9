//! Unpacking: the files of an image into a folder of this machine, to be run there.
//!
//! Owns the way back from an image to files. It is for images that were built here a moment ago, and
//! still takes nothing on trust: every folder on a path is made here, and links come last, so that
//! nothing is ever written through one.

use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, symlink};
use std::path::{Component, Path, PathBuf};

use super::inspect::{self, InspectError};

/// Unpacks an image into a folder that is empty.
///
/// # Errors
/// It cannot be read, or the folder cannot be written.
pub fn unpack(image: &Path, folder: &Path) -> Result<(), InspectError> {
    let reader = inspect::open(image)?;
    let mut links: Vec<(String, PathBuf)> = Vec::new();
    for item in reader.items() {
        let listed = item.listed();
        let at = Path::new(&listed.path);
        let content = |source| InspectError::Content {
            path: image.to_owned(),
            file: at.display().to_string(),
            source,
        };
        if !at.components().all(|part| matches!(part, Component::Normal(_))) {
            return Err(content(io::Error::other("it leaves the image")));
        }
        let to = folder.join(at);
        let mode = u32::from(listed.mode);
        match (listed.kind, listed.target) {
            // Whoever unpacks must get in, too.
            ('d', _) if at.as_os_str().is_empty() => {}
            ('d', _) => {
                DirBuilder::new().mode(mode | 0o700).create(&to).map_err(content)?;
            }
            ('-', _) => {
                let mut from = reader.content(item).map_err(content)?;
                // Neither set-uid nor without its owner's leave to read it.
                let mode = mode & 0o777 | 0o400;
                let options = File::options().write(true).create_new(true).mode(mode).open(&to);
                options.and_then(|mut to| io::copy(&mut from, &mut to)).map_err(content)?;
            }
            ('l', Some(target)) => links.push((target, to)),
            _ => return Err(content(io::Error::other("it is neither a file nor a link"))),
        }
    }
    for (target, to) in links {
        symlink(&target, &to).map_err(|source| InspectError::Content {
            path: image.to_owned(),
            file: to.display().to_string(),
            source,
        })?;
    }
    Ok(())
}

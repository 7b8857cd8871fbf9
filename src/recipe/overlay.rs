//! The overlay: files that lie beside the component and go into the image as they are.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::spool::{Spool, SpoolError};
use super::tree::{Node, Tree};
use super::{RecipeError, normal_mode};

/// The folders of an overlay that go into the image; scripts and notes may lie beside them.
pub(super) const TOP: [&str; 2] = ["usr", "opt"];

/// Adds the `usr/` and `opt/` of an overlay folder.
pub(super) fn add(folder: &Path, spool: &mut Spool, tree: &mut Tree) -> Result<(), RecipeError> {
    for top in TOP {
        let path = folder.join(top);
        match fs::symlink_metadata(&path) {
            Ok(_) => add_entry(&path, top, spool, tree)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(RecipeError::Disk { path, source }),
        }
    }
    Ok(())
}

fn add_entry(path: &Path, to: &str, spool: &mut Spool, tree: &mut Tree) -> Result<(), RecipeError> {
    let disk = |source: io::Error| RecipeError::Disk { path: path.to_owned(), source };
    let metadata = fs::symlink_metadata(path).map_err(disk)?;
    let kind = metadata.file_type();
    let not_text = || disk(io::Error::new(io::ErrorKind::InvalidFilename, "the name is not UTF-8"));
    if kind.is_dir() {
        tree.insert(to, Node::Folder)?;
        for entry in fs::read_dir(path).map_err(disk)? {
            let entry = entry.map_err(disk)?;
            let name = entry.file_name().into_string().map_err(|_| not_text())?;
            add_entry(&entry.path(), &format!("{to}/{name}"), spool, tree)?;
        }
    } else if kind.is_symlink() {
        let target = fs::read_link(path).map_err(disk)?;
        let target = target.into_os_string().into_string().map_err(|_| not_text())?;
        tree.insert(to, Node::Symlink { target })?;
    } else if kind.is_file() {
        let mut file = File::open(path).map_err(disk)?;
        let content = spool.append(&mut file, u64::MAX).map_err(|error| match error {
            SpoolError::Read(source) | SpoolError::Write(source) => disk(source),
            SpoolError::Limit { .. } => disk(io::ErrorKind::FileTooLarge.into()),
        })?;
        tree.insert(to, Node::file(normal_mode(metadata.permissions().mode()), content))?;
    } else {
        return Err(RecipeError::Special { path: path.to_owned() });
    }
    Ok(())
}

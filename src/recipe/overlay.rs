//! The overlay: files that lie beside the component and go into the image as they are.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::intake::{Intake, Want};
use super::spool::SpoolError;
use super::tree::{Node, Tree};
use super::{RecipeError, normal_mode};
use crate::config::extension::Kind;

/// Adds the folders of an overlay that go into such an image; scripts and notes may lie beside them.
pub(super) fn add(
    folder: &Path,
    kind: Kind,
    intake: &mut Intake<'_>,
    tree: &mut Tree,
) -> Result<(), RecipeError> {
    for top in kind.tops() {
        let path = folder.join(top);
        match fs::symlink_metadata(&path) {
            Ok(_) => add_entry(&path, top, intake, tree)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(RecipeError::Disk { path, source }),
        }
    }
    Ok(())
}

fn add_entry(
    path: &Path,
    to: &str,
    intake: &mut Intake<'_>,
    tree: &mut Tree,
) -> Result<(), RecipeError> {
    let disk = |source: io::Error| RecipeError::Disk { path: path.to_owned(), source };
    let metadata = fs::symlink_metadata(path).map_err(disk)?;
    let kind = metadata.file_type();
    let not_text = || disk(io::Error::new(io::ErrorKind::InvalidFilename, "the name is not UTF-8"));
    if kind.is_dir() {
        tree.insert(to, Node::Folder)?;
        let entries = fs::read_dir(path).map_err(disk)?;
        let names = entries.map(|entry| entry.map(|entry| entry.file_name()));
        let mut names = names.collect::<Result<Vec<_>, _>>().map_err(disk)?;
        // In the order of the image, what is taken in need not be moved.
        names.sort();
        for name in names {
            let name = name.into_string().map_err(|_| not_text())?;
            if name.contains(char::is_control) {
                let problem =
                    format!("the name `{}` has a control character in it", name.escape_debug());
                return Err(disk(io::Error::new(io::ErrorKind::InvalidFilename, problem)));
            }
            add_entry(&path.join(&name), &format!("{to}/{name}"), intake, tree)?;
        }
    } else if kind.is_symlink() {
        let target = fs::read_link(path).map_err(disk)?;
        let target = target.into_os_string().into_string().map_err(|_| not_text())?;
        tree.insert(to, Node::Symlink { target })?;
    } else if kind.is_file() {
        let mut file = File::open(path).map_err(disk)?;
        let content =
            intake.take(&mut file, u64::MAX, Want::Image).map_err(|error| match error {
                SpoolError::Read(source) | SpoolError::Write(source) => disk(source),
                SpoolError::Limit { .. } => disk(io::ErrorKind::FileTooLarge.into()),
            })?;
        tree.insert(to, Node::file(normal_mode(metadata.permissions().mode()), content))?;
    } else {
        return Err(RecipeError::Special { path: path.to_owned() });
    }
    Ok(())
}

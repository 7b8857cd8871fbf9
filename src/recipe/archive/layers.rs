//! Reads the layers of a container image, each a tar archive that lies on those before.
//!
//! Owns what lies over what, and what a layer takes away of those below (OCI image specification,
//! "Image Layer Filesystem Changeset"). Refuses to know where layers come from.

use std::collections::BTreeMap;
use std::ops::Bound;

use super::entries::Entries;
use super::sniff::Stream;
use super::{Archive, ArchiveError, Entry, Kind, Limits, tar};
use crate::fetch::arriving::Arriving;
use crate::recipe::intake::{Intake, Want};

/// What the name of an entry begins with that takes another away.
const GONE: &str = ".wh.";
/// The name of an entry that takes all away that lower layers have in its folder.
const ALL_GONE: &str = ".wh..wh..opq";

/// Reads the layers of an image, the lowest first, into one tree. `wants` says of each path what its
/// content is wanted for.
///
/// # Errors
/// As [`read`](super::read); a layer that is no tar archive is damaged.
pub fn read_layers(
    layers: &[Arriving],
    limits: &Limits,
    wants: &dyn Fn(&str) -> Want,
    intake: &mut Intake<'_>,
) -> Result<Archive, ArchiveError> {
    let mut entries = Entries::new(*limits, wants);
    for layer in layers {
        entries.begin_layer();
        let (mut stream, _) = Stream::of_payload(layer.open(), *limits)?;
        tar::read(&mut stream, tar::End::Any, &mut entries, intake)?;
    }
    Ok(Archive { kind: Kind::Layers, newest: entries.newest(), entries: entries.finish()? })
}

/// Lays a layer on those below.
pub(super) fn lay(
    mut below: BTreeMap<String, Entry>,
    upper: BTreeMap<String, Entry>,
) -> BTreeMap<String, Entry> {
    // What goes is only what lies below, whatever the order in the layer.
    for path in upper.keys() {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        if name == ALL_GONE {
            take_below(&mut below, folder);
        } else if let Some(gone) = name.strip_prefix(GONE) {
            let gone = if folder.is_empty() { gone.to_owned() } else { format!("{folder}/{gone}") };
            take_below(&mut below, &gone);
            below.remove(&gone);
        }
    }
    for (path, entry) in upper {
        let name = path.rsplit('/').next().unwrap_or_default();
        if name.starts_with(GONE) {
            continue;
        }
        if !matches!(entry, Entry::Directory { .. }) {
            take_below(&mut below, &path);
        }
        below.insert(path, entry);
    }
    below
}

/// Takes all away that is in a folder; the empty path is the root.
fn take_below(tree: &mut BTreeMap<String, Entry>, folder: &str) {
    if folder.is_empty() {
        tree.clear();
        return;
    }
    let prefix = format!("{folder}/");
    let from = (Bound::Included(prefix.as_str()), Bound::Unbounded);
    let gone: Vec<String> = tree
        .range::<str, _>(from)
        .take_while(|(path, _)| path.starts_with(&prefix))
        .map(|(path, _)| path.clone())
        .collect();
    for path in gone {
        tree.remove(&path);
    }
}

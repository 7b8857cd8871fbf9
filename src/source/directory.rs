//! Releases that somebody drops into a folder: tarballs named by a pattern.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::sync::Arc;

use super::{Asset, CHECK_MATCH, Listing, Location, Release, SourceError};
use crate::config::Component;
use crate::config::source::DirectoryRule;
use crate::name::Arch;
use crate::template::Vars;

/// The versions of the files that match, each with all files of the folder as its assets: a
/// template with a version in it tells them apart.
pub(super) fn poll(
    rule: &DirectoryRule,
    component: &Component,
    arches: &[(Arch, String)],
) -> Result<Listing, SourceError> {
    let failed = |source: io::Error| SourceError::Directory { path: rule.path.clone(), source };
    let mut assets = Vec::new();
    for entry in fs::read_dir(&rule.path).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let is_file = match fs::metadata(entry.path()) {
            Ok(metadata) => metadata.is_file(),
            // A link to nothing, or a file that was taken away just now.
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => return Err(failed(error)),
        };
        if let (true, Some(name)) = (is_file, entry.file_name().to_str()) {
            assets.push(Asset {
                name: name.to_owned(),
                at: Location::File(entry.path()),
                sha256: None,
                private: None,
                size: None,
            });
        }
    }
    assets.sort_by(|a, b| a.name.cmp(&b.name));
    let assets: Arc<[Asset]> = assets.into();

    let vars = Vars { name: component.name.as_str(), ..Vars::default() };
    let known: Vec<&str> = arches.iter().map(|(_, theirs)| theirs.as_str()).collect();
    let matcher = rule.pattern.matcher(&vars, &known);
    let tags: BTreeSet<&str> =
        assets.iter().filter_map(|asset| Some(matcher.captures(&asset.name)?.0)).collect();
    if tags.is_empty() {
        let problem = format!("no file in {} matches `{}`", rule.path.display(), rule.pattern);
        return Err(SourceError::Nothing { problem, hint: CHECK_MATCH });
    }
    let releases = tags.into_iter().map(|tag| Release::tagged(tag, &assets));
    Ok(Listing::whole(releases.collect()))
}

//! Files of somebody's repository: what arrives is what is published.
//!
//! Owns refusing what would stop nodes. Knows nothing of how their manifest is read.

use std::path::Path;

use super::wanted::Wanted;
use super::{Bench, BuildError, record};
use crate::client;
use crate::config::Component;
use crate::image::Image;
use crate::image::inspect;
use crate::lint::{self, Finding};
use crate::name::FileName;
use crate::plan::{self, Build};
use crate::repository::commit::Record;

impl Bench<'_> {
    /// Fetches files that are published as they are: what arrives is the image.
    pub(super) async fn copy(
        &self,
        build: &Build,
        wanted: &[Wanted],
    ) -> Result<Vec<(Image, Record)>, BuildError> {
        let names = plan::file_names(&self.component, &build.shown, build.arch)
            .map_err(BuildError::Rule)?;
        let copies = wanted.iter().zip(names).map(async |(asset, name)| {
            let file = self.arriving(asset);
            let input = self.fetch(build, asset, &file).await?;
            // Only a layer of a container image has none of its own.
            let input = input.ok_or_else(|| BuildError::NoAsset(asset.name.clone()))?;
            self.check_inputs(build, std::slice::from_ref(&input))?;
            let path = self.folder.path().join(name.as_str());
            let (from, to) = (file.path().to_owned(), path.clone());
            let (component, shown) = (self.component.clone(), name.clone());
            let looked = tokio::task::spawn_blocking(move || {
                give_name(&from, &to)?;
                look_into(&component, &shown, &to)
            });
            let findings =
                looked.await.map_err(|error| BuildError::Crashed(error.to_string()))??;
            let subject = format!("{} {name}", self.component.name);
            for line in lint::warnings(&subject, &findings) {
                self.shop.progress.line(&line);
            }
            let (sha256, size) = (input.sha256, input.size);
            let image = Image { name, path, sha256, size, findings, contents: None };
            let record = record(build, &image, 0, vec![input]);
            Ok((image, record))
        });
        futures::future::try_join_all(copies).await
    }
}

/// Gives a file that arrived its own name. Nothing is copied where the file system has hard links.
fn give_name(from: &Path, to: &Path) -> Result<(), BuildError> {
    // What an earlier attempt left.
    let _ = std::fs::remove_file(to);
    let linked = std::fs::hard_link(from, to);
    let named = linked.or_else(|_| std::fs::copy(from, to).map(drop));
    named.map_err(|source| BuildError::Disk { path: to.to_owned(), source })
}

/// What is odd about somebody's system extension.
///
/// # Errors
/// Nodes would stumble over it, of which one keeps a node from merging any; or the component denies it.
fn look_into(
    component: &Component,
    name: &FileName,
    path: &Path,
) -> Result<Vec<Finding>, BuildError> {
    if !component.is_looked_into(name.as_str()) {
        return Ok(Vec::new());
    }
    let looked = inspect::inspect_others(path, component.name.as_str(), client::is_told(component))
        .map_err(|source| BuildError::Unreadable { name: name.clone(), source })?;
    let Some(looked) = looked else { return Ok(Vec::new()) };
    let findings = lint::settle(lint::of_others(looked.findings), &component.lint, &[]);
    let stops = |finding: &&Finding| finding.lint.stops_nodes();
    let stopping: Vec<_> = findings.iter().filter(stops).cloned().collect();
    if let Some(problem) = lint::refusal(&stopping) {
        return Err(BuildError::Unfit { name: name.clone(), problem });
    }
    match lint::refusal(&findings) {
        Some(problem) => Err(BuildError::Denied { name: name.clone(), problem }),
        None => Ok(findings),
    }
}

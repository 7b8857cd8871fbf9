//! Letting go: the lines and files that newer versions took the place of, without any upstream.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::outcome::{Outcome, newest};
use super::{Run, contained, in_turn, is_raced};
use crate::config::{Component, Config};
use crate::name::{Arch, ComponentName, FileName};
use crate::report::{Told, count};
use crate::repository::commit::{CommitError, Removal};
use crate::repository::shelf::{Names, Shelf};
use crate::repository::{self, Place, Published, retention};
use crate::sign::Signer;
use crate::store::{Access, Store};
use crate::version::Version;

/// How many files a run may delete, all components together.
#[derive(Debug, Clone, Copy)]
pub struct Limit {
    /// How many are due.
    pub due: usize,
    /// How many may go.
    pub most: usize,
}

impl Limit {
    /// What to tell of a component with files that are due, if that is too many in all.
    #[must_use]
    pub fn exceeded(self, component: &ComponentName) -> Option<Told> {
        (self.due > self.most).then(|| Told {
            message: format!(
                "{component}: nothing is deleted: {} are due in all, more than max-delete = {}",
                count(self.due, "file"),
                self.most
            ),
            causes: Vec::new(),
            hint: Some(
                "look at `publish prune --dry-run`; `publish prune --max-delete N` lets them go once, [retention] max-delete always"
                    .to_owned(),
            ),
        })
    }
}

/// Takes the lines out that a folder no longer needs.
///
/// # Errors
/// They are there as before.
pub async fn retire(
    component: &Component,
    arches: &[(Arch, String)],
    upstream: &BTreeSet<Version>,
    place: &Place<'_>,
    published: &mut Published,
) -> Result<Vec<Removal>, CommitError> {
    let shelf = Shelf::new(component, published, upstream);
    let arches: Vec<Arch> = arches.iter().map(|(arch, _)| *arch).collect();
    let removals = retention::removals(&shelf, published, &component.versions, &arches);
    if !removals.is_empty() {
        retention::retire(place, published, &shelf, &removals, Timestamp::now()).await?;
    }
    Ok(removals)
}

/// Lets go what retention says, in every component; nothing is asked of upstreams, and nothing built.
/// `most` is how many files may be deleted.
///
/// # Errors
/// Only what concerns the store as a whole.
pub async fn prune(config: &Config, run: Run, most: usize) -> anyhow::Result<Vec<Outcome>> {
    let store = Store::configured(config, Access::Read)?;
    let grace = config.document.retention.grace;
    let mut outcomes = Vec::new();
    for component in &config.components {
        let name = component.name.as_str();
        let looked = contained(look(config, component, &store)).await;
        let mut outcome = Outcome::nothing(component);
        match looked {
            Ok((published, _, removals)) => {
                outcome.newest = newest(component, &published);
                outcome.removed = removals;
                outcome.deleted = retention::due(&published, grace, Timestamp::now()).0;
            }
            Err(error) => outcome.errors.push(Told::of(name, error.as_ref())),
        }
        outcomes.push(outcome);
    }
    let due = outcomes.iter().map(|outcome| outcome.deleted.len()).sum();
    let limit = Limit { due, most };
    for outcome in &mut outcomes {
        let told = limit.exceeded(&outcome.component).filter(|_| !outcome.deleted.is_empty());
        outcome.errors.extend(told);
    }
    if run == Run::Dry || outcomes.iter().all(Outcome::is_unchanged) {
        return Ok(outcomes);
    }
    let signer = Signer::open(config)?;
    let store = store.made()?;
    let lock = store.lock().await?;
    for (component, outcome) in config.components.iter().zip(&mut outcomes) {
        if outcome.is_unchanged() {
            continue;
        }
        outcome.removed.clear();
        outcome.deleted.clear();
        let place =
            Place { store: &store, lock: &lock, folder: &component.folder, signer: &signer };
        let done = in_turn(is_raced, async || {
            contained(let_go(config, component, &place, limit, outcome)).await
        });
        if let Err(error) = done.await {
            outcome.errors.push(Told::of(component.name.as_str(), error.as_ref()));
        }
    }
    lock.release().await;
    Ok(outcomes)
}

/// Reads a folder, and tells what would go.
async fn look(
    config: &Config,
    component: &Component,
    store: &Store,
) -> anyhow::Result<(Published, Vec<(Arch, String)>, Vec<Removal>)> {
    let arches: Vec<(Arch, String)> =
        component.architectures(&config.document.repository.architectures).into_iter().collect();
    let mut published = Published::read(store, &component.folder).await?;
    let names = Names::of(component);
    let revisions: Vec<FileName> = published
        .manifest
        .files()
        .filter(|(name, _)| names.read(name).is_some_and(|(shown, _)| shown.unrevised().is_some()))
        .map(|(name, _)| name.clone())
        .collect();
    published.read_records(store, &component.folder, revisions).await?;
    let shelf = Shelf::new(component, &published, &BTreeSet::new());
    let known: Vec<Arch> = arches.iter().map(|(arch, _)| *arch).collect();
    let removals = retention::removals(&shelf, &published, &component.versions, &known);
    Ok((published, arches, removals))
}

async fn let_go(
    config: &Config,
    component: &Component,
    place: &Place<'_>,
    limit: Limit,
    outcome: &mut Outcome,
) -> anyhow::Result<()> {
    for folder in repository::folders_of(place.folder) {
        place.store.sweep(&folder, place.lock)?;
    }
    let (mut published, arches, _) = look(config, component, place.store).await?;
    // Before more lines go: with no grace at all, their files would be due at once, uncounted.
    let (due, _) = retention::due(&published, config.document.retention.grace, Timestamp::now());
    let removed = retire(component, &arches, &BTreeSet::new(), place, &mut published).await?;
    outcome.removed.extend(removed);
    if limit.exceeded(&component.name).is_none() && !due.is_empty() {
        outcome.deleted.extend(retention::delete(place, &mut published, &due).await?);
    }
    outcome.newest = newest(component, &published);
    Ok(())
}

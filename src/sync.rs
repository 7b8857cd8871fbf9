//! The pipeline: upstreams → plan → builds → commit.
//!
//! Owns the order of the steps and which failure stops what: one component's never stops another.
//! The work itself is done in the other rooms; this file reads like the picture in `lib.rs`.

use std::panic::AssertUnwindSafe;
use std::path::Path;

use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use jiff::Timestamp;

use crate::build::{Bench, Workshop};
use crate::config::{Component, Config};
use crate::fetch::Client;
use crate::fetch::cache::Cache;
use crate::name::{Arch, FileName, Sha256};
use crate::plan::{self, Basis, Build, Plan};
use crate::recipe::fingerprint;
use crate::report::{Progress, Step, Told};
use crate::repository::commit::Change;
use crate::repository::{self, Place, Published, commit, retention};
use crate::sign::Signer;
use crate::source::{self, Release};
use crate::store::{Access, Lock, Store, StoreError};
use crate::version::Version;

mod outcome;
mod prune;

pub use outcome::{Outcome, PublishedImage, newest, refusals};
pub use prune::{Limit, prune, retire};

/// What is known of a component before anything is done for it.
#[derive(Debug)]
pub struct Survey<'c> {
    /// The component.
    pub component: &'c Component,
    /// The architectures it is built for, with upstream's names.
    pub arches: Vec<(Arch, String)>,
    /// What upstream has.
    pub releases: Vec<Release>,
    /// What is published.
    pub published: Published,
    /// What else the plan rests on.
    pub basis: Basis,
    /// What follows from all of these.
    pub plan: Plan,
    cache: Cache,
}

/// Whether something is really done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Run {
    /// Stop after the plan.
    Dry,
    /// Build and publish.
    Real,
}

/// Brings the repository up to date.
///
/// # Errors
/// Only what concerns the store as a whole; a component's own errors are in its outcome.
pub async fn sync(config: &Config, run: Run, progress: &Progress) -> anyhow::Result<Vec<Outcome>> {
    let shop = workshop(config, progress);
    let root = config.store_directory();
    let store = Store::directory(&root, Access::Read)?;

    let surveys = survey_all(config, &shop, &store).await;
    let due: usize = surveys.iter().flatten().map(|survey| survey.plan.deletions().count()).sum();
    let limit = Limit { due, most: config.document.retention.max_delete };
    let work = surveys.iter().flatten().any(|survey| !survey.plan.actions.is_empty());
    if run == Run::Dry || !work {
        let mut outcomes: Vec<Outcome> =
            surveys.iter().map(|survey| planned(survey, limit)).collect();
        if run == Run::Real {
            keep_caches(&root, &surveys, &mut outcomes).await;
        }
        return Ok(outcomes);
    }

    let store = Store::directory(&root, Access::Write)?;
    let lock = store.lock()?;
    // Before any of them writes: what is half written in a folder they share may be another's.
    let swept: Vec<_> = surveys.iter().map(|survey| sweep(survey, &store, &lock)).collect();
    let mut running: FuturesUnordered<_> = surveys
        .into_iter()
        .zip(swept)
        .map(|(survey, swept)| carry_out(survey, swept, &shop, &store, &lock, limit))
        .collect();
    let mut outcomes = Vec::new();
    while let Some(outcome) = running.next().await {
        outcomes.push(outcome);
    }
    outcomes.sort_by(|a, b| a.component.cmp(&b.component));
    Ok(outcomes)
}

/// The client and the limits of a run.
#[must_use]
pub fn workshop(config: &Config, progress: &Progress) -> Workshop {
    let client = Client::new(&config.document.network, &config.document.limits);
    Workshop::new(client, &config.document, progress.clone())
}

/// A component that could not even be planned for.
#[derive(Debug)]
pub struct Unsurveyed<'c> {
    /// The component.
    pub component: &'c Component,
    /// Why.
    pub error: Told,
}

/// Asks every upstream and plans, several components at once; in the order of the configuration.
pub async fn survey_all<'c>(
    config: &'c Config,
    shop: &Workshop,
    store: &Store,
) -> Vec<Result<Survey<'c>, Unsurveyed<'c>>> {
    let at_once = config.document.network.concurrency.get();
    futures::stream::iter(&config.components)
        .map(async |component| {
            let surveyed = contained(survey(config, component, shop, store)).await;
            surveyed.map_err(|error| Unsurveyed {
                component,
                error: Told::of(component.name.as_str(), error.as_ref()),
            })
        })
        .buffered(at_once)
        .collect()
        .await
}

/// Keeps a crash, which is a mistake of ours or of a library, to the component it happened in.
async fn contained<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    AssertUnwindSafe(work).catch_unwind().await.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().copied().map(str::to_owned);
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
        Err(anyhow::anyhow!("it crashed: {text}\nhint: please report this"))
    })
}

/// Asks a component's upstream and plans.
///
/// # Errors
/// The upstream or the repository cannot be read.
pub async fn survey<'c>(
    config: &Config,
    component: &'c Component,
    shop: &Workshop,
    store: &Store,
) -> anyhow::Result<Survey<'c>> {
    let arches: Vec<_> =
        component.architectures(&config.document.repository.architectures).into_iter().collect();
    let saved = store.read(&repository::cache_path(&component.name)).await?;
    let cache = saved.map(|bytes| Cache::load(&bytes)).unwrap_or_default();
    let published = Published::read(store, &component.folder).await?;
    let task = shop.progress.begin(Step::Poll, component.name.as_str());
    let releases = source::poll(component, &arches, &shop.client, &cache).await?;
    task.finish(0);
    let basis = Basis { overlay: overlay(component).await?, retention: config.document.retention };
    let (published, plan) =
        plan_for(component, &arches, &releases, published, basis, store).await?;
    Ok(Survey { component, arches, releases, published, basis, plan, cache })
}

/// The digest of a component's overlay.
async fn overlay(component: &Component) -> anyhow::Result<Option<Sha256>> {
    let Some(folder) = component.overlay.clone() else { return Ok(None) };
    let kind = component.extension.kind;
    let digest = tokio::task::spawn_blocking(move || fingerprint::overlay(&folder, kind)).await??;
    Ok(Some(digest))
}

/// Learns what the plan needs to know, and plans.
async fn plan_for(
    component: &Component,
    arches: &[(Arch, String)],
    releases: &[Release],
    mut published: Published,
    basis: Basis,
    store: &Store,
) -> Result<(Published, Plan), StoreError> {
    let now = Timestamp::now();
    let releases = || releases.to_vec();
    let names = plan::worth_knowing(component, arches, releases(), &published, basis, now);
    published.read_records(store, &component.folder, names).await?;
    let plan = plan::plan(component, arches, releases(), &published, basis, now);
    Ok((published, plan))
}

/// Keeps what upstreams answered when there is nothing else to write. A component whose answers
/// cannot be kept is up to date all the same, but it says so.
async fn keep_caches(
    root: &Path,
    surveys: &[Result<Survey<'_>, Unsurveyed<'_>>],
    outcomes: &mut [Outcome],
) {
    for (survey, outcome) in surveys.iter().zip(outcomes) {
        let Ok(survey) = survey else { continue };
        if !survey.cache.is_changed() {
            continue;
        }
        let kept = match Store::directory(root, Access::Write) {
            Ok(store) => keep_cache(&store, survey).await,
            Err(error) => Err(error),
        };
        if let Err(error) = kept {
            outcome.errors.push(Told::of(survey.component.name.as_str(), &error));
        }
    }
}

/// What upstream answered serves the next run; each file is whole at every instant, so no lock.
async fn keep_cache(store: &Store, survey: &Survey<'_>) -> Result<(), StoreError> {
    match survey.cache.save() {
        Some(bytes) => store.put(&repository::cache_path(&survey.component.name), bytes).await,
        None => Ok(()),
    }
}

/// What a dry run tells.
fn planned(survey: &Result<Survey<'_>, Unsurveyed<'_>>, limit: Limit) -> Outcome {
    let mut outcome = Outcome::new(survey);
    if let Ok(survey) = survey {
        let plan = &survey.plan;
        outcome.published = plan.builds().map(PublishedImage::planned).collect();
        outcome.removed = plan.removals().cloned().collect();
        outcome.deleted = plan.deletions().cloned().collect();
        let told = limit.exceeded(&survey.component.name).filter(|_| !outcome.deleted.is_empty());
        outcome.errors.extend(told);
    }
    outcome
}

/// Takes away what a killed run left half written of a component.
fn sweep(
    survey: &Result<Survey<'_>, Unsurveyed<'_>>,
    store: &Store,
    lock: &Lock,
) -> Result<(), StoreError> {
    let Ok(survey) = survey else { return Ok(()) };
    repository::folders_of(&survey.component.folder)
        .iter()
        .try_for_each(|folder| store.sweep(folder, lock))
}

/// Builds and publishes what the plan of one component says, and lets go what it says.
async fn carry_out(
    survey: Result<Survey<'_>, Unsurveyed<'_>>,
    swept: Result<(), StoreError>,
    shop: &Workshop,
    store: &Store,
    lock: &Lock,
    limit: Limit,
) -> Outcome {
    let mut outcome = Outcome::new(&survey);
    let Ok(survey) = survey else { return outcome };
    let name = survey.component.name.as_str();
    if let Err(error) = swept {
        outcome.errors.push(Told::of(name, &error));
        return outcome;
    }
    let place = Place { store, lock, folder: &survey.component.folder, signer: &Signer::Unsigned };
    let done = contained(carry_out_plan(&survey, shop, &place, limit, &mut outcome)).await;
    if let Err(error) = done {
        outcome.errors.push(Told::of(name, error.as_ref()));
    }
    if let Err(error) = keep_cache(store, &survey).await {
        outcome.errors.push(Told::of(name, &error));
    }
    outcome
}

async fn carry_out_plan(
    survey: &Survey<'_>,
    shop: &Workshop,
    place: &Place<'_>,
    limit: Limit,
    outcome: &mut Outcome,
) -> anyhow::Result<()> {
    let Survey { component, arches, releases, basis, .. } = survey;
    let Place { store, folder, .. } = *place;
    // Nobody who had the lock before us gave this component work.
    if survey.plan.actions.is_empty() {
        return Ok(());
    }
    // The plan was made before we had the lock: whoever had it may have done our work.
    let published = Published::read(store, folder).await?;
    let (mut published, plan) =
        plan_for(component, arches, releases, published, *basis, store).await?;
    let builds: Vec<&Build> = plan.builds().collect();
    publish(&builds, component, shop, place, &mut published, outcome).await?;

    // What became surplus goes by what is published now: a version that could not be built pushes
    // nothing out.
    let upstream = plan::versions_of(component, releases);
    let removed = retire(component, arches, &upstream, place, &mut published).await;
    // Files last, when nothing that is listed can need them any more.
    let due: Vec<FileName> = plan.deletions().cloned().collect();
    let told = limit.exceeded(&component.name).filter(|_| !due.is_empty());
    let deleted = match &told {
        None if !due.is_empty() => retention::delete(place, &mut published, &due).await,
        _ => Ok(Vec::new()),
    };
    outcome.errors.extend(told);
    outcome.newest = newest(component, &published);
    outcome.removed = removed?;
    outcome.deleted = deleted?;
    Ok(())
}

/// Builds images and publishes them, version by version.
async fn publish(
    builds: &[&Build],
    component: &Component,
    shop: &Workshop,
    place: &Place<'_>,
    published: &mut Published,
    outcome: &mut Outcome,
) -> anyhow::Result<()> {
    if builds.is_empty() {
        return Ok(());
    }
    let Place { store, lock, folder, signer } = *place;
    let bench = Bench::new(shop, component, builds.iter().copied())?;
    let building = builds.iter().map(async |build| (*build, bench.build(build).await));
    let mut built = Vec::new();
    let mut broken: Vec<&Version> = Vec::new();
    for (build, result) in futures::future::join_all(building).await {
        match result {
            Ok(made) => built.push((build, made)),
            Err(error) => {
                let subject = format!("{} {} {}", component.name, build.shown, build.arch);
                outcome.errors.push(Told::of(&subject, &error));
                broken.push(&build.version);
            }
        }
    }
    // A version goes out for all architectures or for none: half of one would tell half of the
    // nodes that they are behind, for good if nobody looks.
    built.retain(|(build, _)| !broken.contains(&&build.version));
    // Version by version, the newest first: one that does not fit on the disk any more must not
    // keep the others from the nodes.
    while let Some((first, _)) = built.first() {
        let version = first.shown.clone();
        let (now, later): (Vec<_>, Vec<_>) =
            built.into_iter().partition(|(build, _)| build.shown == version);
        built = later;
        let (builds, images): (Vec<_>, Vec<_>) = now.into_iter().unzip();
        let what = format!("{} {version}", component.name);
        let task = shop.progress.begin(Step::Publish, &what);
        let change = Change { images: &images, ..Change::default() };
        match commit::commit(store, lock, folder, published, &change, signer).await {
            Ok(manifest) => published.manifest = manifest,
            Err(error) => {
                outcome.errors.push(Told::of(&what, &error));
                continue;
            }
        }
        task.finish(0);
        outcome.published.extend(builds.into_iter().zip(&images).map(|(build, (image, _))| {
            PublishedImage {
                size: Some(image.size),
                sha256: Some(image.sha256),
                ..PublishedImage::planned(build)
            }
        }));
        for (image, record) in images {
            published.remember(image.name, record);
        }
    }
    Ok(())
}

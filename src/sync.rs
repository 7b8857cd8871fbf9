//! The pipeline: upstreams → plan → builds → commit.
//!
//! Owns the order of the steps and which failure stops what: one component's never stops another.
//! The work itself is done in the other rooms; this file reads like the picture in `lib.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::AssertUnwindSafe;

use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use jiff::Timestamp;
use serde::Serialize;

use crate::build::{Bench, Workshop};
use crate::config::{Component, Config, ConfigError, Signing};
use crate::fetch::Client;
use crate::fetch::cache::Cache;
use crate::image::Image;
use crate::name::{Arch, ComponentName, FileName, Folder, Sha256};
use crate::plan::{self, Action, Build, Plan, Why};
use crate::report::{Progress, Step, Told};
use crate::repository::commit::{Change, CommitError, Record};
use crate::repository::seal::{self, Seal};
use crate::repository::{self, Published, commit};
use crate::sign::{self, Signer};
use crate::source::{self, Release};
use crate::store::{Access, Lock, Store, StoreError};
use crate::version::Version;

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
    /// What follows from both.
    pub plan: Plan,
    cache: Cache,
}

/// What a sync did for a component.
#[derive(Debug, Serialize)]
pub struct Outcome {
    /// The component.
    pub component: ComponentName,
    /// Its folder in the repository.
    pub folder: Folder,
    /// The newest version that is published now.
    pub newest: Option<Version>,
    /// The images that were published, or would be in a dry run.
    pub published: Vec<PublishedImage>,
    /// Why the manifest was signed without a change, or would be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signed: Option<Why>,
    /// What went wrong.
    pub errors: Vec<Told>,
}

/// An image that was published, or would be.
#[derive(Debug, Clone, Serialize)]
pub struct PublishedImage {
    /// Its version.
    pub version: Version,
    /// Its architecture.
    pub arch: Arch,
    /// The file's name.
    pub image: FileName,
    /// The reason.
    pub why: Why,
    /// Length in bytes, once it is built.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Digest, once it is built.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Sha256>,
}

impl PublishedImage {
    fn planned(build: &Build) -> Self {
        Self {
            version: build.version.clone(),
            arch: build.arch,
            image: build.image.clone(),
            why: build.why,
            size: None,
            sha256: None,
        }
    }
}

/// Whether something is really done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Run {
    /// Stop after the plan.
    Dry,
    /// Build and publish.
    Real,
}

/// How often a component is planned anew because another publisher was faster.
const ATTEMPTS: usize = 5;

/// Brings the repository up to date.
///
/// # Errors
/// Only what concerns the store as a whole; a component's own errors are in its outcome.
pub async fn sync(config: &Config, run: Run, progress: &Progress) -> anyhow::Result<Vec<Outcome>> {
    let store = Store::configured(config, Access::Read)?;
    sync_to(store, config, run, progress).await
}

/// The same, with a store that is open.
///
/// # Errors
/// As [`sync`](fn@sync).
pub async fn sync_to(
    store: Store,
    config: &Config,
    run: Run,
    progress: &Progress,
) -> anyhow::Result<Vec<Outcome>> {
    let shop = workshop(config, progress);
    let signer = match run {
        Run::Dry => signer_to_look(config, progress)?,
        Run::Real => Some(Signer::open(config)?),
    };
    let keyring = match &signer {
        Some(signer) => sign::client_keyring(config, signer)?,
        None => None,
    };
    let surveys = survey_all(config, &shop, &store, signer.as_ref()).await;
    let mut work = surveys.iter().flatten().any(|survey| !survey.plan.actions.is_empty());
    if let Some(keyring) = &keyring {
        work |= seal::keyring_is_due(&store, keyring).await?;
    }
    let signer = signer.unwrap_or_default();
    if run == Run::Dry || !work {
        let mut outcomes: Vec<Outcome> = surveys.iter().map(planned).collect();
        if run == Run::Real {
            keep_caches(&store, &surveys, &mut outcomes).await;
        }
        return Ok(outcomes);
    }

    let store = store.made()?;
    let lock = store.lock().await?;
    // Before anything is signed with a key that is new in it.
    if let Some(keyring) = &keyring
        && seal::put_keyring(&store, &lock, keyring).await?
    {
        progress.line(&format!("{:>10} {}", "published", sign::KEYRING));
    }
    let to = Target { store: &store, lock: &lock, signer: &signer };
    let mut running: FuturesUnordered<_> =
        surveys.into_iter().map(|survey| carry_out(survey, &shop, to)).collect();
    let mut outcomes = Vec::new();
    while let Some(outcome) = running.next().await {
        outcomes.push(outcome);
    }
    drop(running);
    lock.release().await;
    outcomes.sort_by(|a, b| a.component.cmp(&b.component));
    Ok(outcomes)
}

/// Where everything goes, and who vouches for it.
#[derive(Clone, Copy)]
struct Target<'a> {
    store: &'a Store,
    lock: &'a Lock,
    signer: &'a Signer,
}

/// The signer for a run that only looks. Where its secret is not to be had, as in a build of
/// somebody's proposal, `None`: everything else can be told all the same.
///
/// # Errors
/// The key is there, but cannot be used.
pub fn signer_to_look(config: &Config, progress: &Progress) -> Result<Option<Signer>, ConfigError> {
    let absent = |signing: &Signing| {
        [Some(&signing.key), signing.passphrase.as_ref()]
            .into_iter()
            .flatten()
            .any(|at| !sign::secret::is_there(at, config.folder()))
    };
    if config.document.signing.as_ref().is_some_and(absent) {
        progress.line("warning: the signing key is not here, so signatures are not looked at");
        return Ok(None);
    }
    Signer::open(config).map(Some)
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
    component: &'c Component,
    /// Why.
    pub error: Told,
}

/// Asks every upstream and plans, several components at once; in the order of the configuration.
pub async fn survey_all<'c>(
    config: &'c Config,
    shop: &Workshop,
    store: &Store,
    signer: Option<&Signer>,
) -> Vec<Result<Survey<'c>, Unsurveyed<'c>>> {
    let at_once = config.document.network.concurrency.get();
    futures::stream::iter(&config.components)
        .map(async |component| {
            let surveyed = contained(survey(config, component, shop, store, signer)).await;
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
    signer: Option<&Signer>,
) -> anyhow::Result<Survey<'c>> {
    let arches: Vec<_> =
        component.architectures(&config.document.repository.architectures).into_iter().collect();
    let saved = store.read(&repository::cache_path(&component.name)).await?;
    let cache = saved.map(|bytes| Cache::load(&bytes)).unwrap_or_default();
    let published = Published::read(store, &component.folder).await?;
    let task = shop.progress.begin(Step::Poll, component.name.as_str());
    let releases = source::poll(component, &arches, &shop.client, &cache).await?;
    task.finish(0);
    let (published, plan) =
        plan_for(component, &arches, &releases, published, store, signer).await?;
    Ok(Survey { component, arches, releases, published, plan, cache })
}

/// Reads what the plan must know, and plans.
async fn plan_for(
    component: &Component,
    arches: &[(Arch, String)],
    releases: &[Release],
    mut published: Published,
    store: &Store,
    signer: Option<&Signer>,
) -> anyhow::Result<(Published, Plan)> {
    let now = Timestamp::now();
    let images = plan::wanted_images(component, arches, releases.to_vec(), now);
    published.read_records(store, &component.folder, images).await?;
    let mut plan = plan::plan(component, arches, releases.to_vec(), &published, now);
    if let Some(signer) = signer {
        // First of all: nodes refuse a stale one.
        if let Some(why) = Seal::of(&published).due(signer, now)? {
            plan.actions.insert(0, Action::Sign { why });
        }
    }
    Ok((published, plan))
}

/// Keeps what upstreams answered when there is nothing else to write. A component whose answers
/// cannot be kept is up to date all the same, but it says so.
async fn keep_caches(
    store: &Store,
    surveys: &[Result<Survey<'_>, Unsurveyed<'_>>],
    outcomes: &mut [Outcome],
) {
    for (survey, outcome) in surveys.iter().zip(outcomes) {
        let Ok(survey) = survey else { continue };
        if !survey.cache.is_changed() {
            continue;
        }
        let kept = match store.clone().made() {
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
fn planned(survey: &Result<Survey<'_>, Unsurveyed<'_>>) -> Outcome {
    let mut outcome = Outcome::new(survey);
    if let Ok(survey) = survey {
        let Plan { actions, .. } = &survey.plan;
        outcome.published =
            actions.iter().filter_map(Action::build).map(PublishedImage::planned).collect();
        outcome.signed = survey.plan.sign();
    }
    outcome
}

impl Outcome {
    /// Nothing done yet; what the survey found wrong is told.
    fn new(survey: &Result<Survey<'_>, Unsurveyed<'_>>) -> Self {
        let (component, newest, errors) = match survey {
            Ok(survey) => {
                let newest = newest(survey.component, &survey.arches, &survey.published);
                (survey.component, newest, refusals(survey))
            }
            Err(failed) => (failed.component, None, vec![failed.error.clone()]),
        };
        Self {
            component: component.name.clone(),
            folder: component.folder.clone(),
            newest,
            published: Vec::new(),
            signed: None,
            errors,
        }
    }
}

fn refusals(survey: &Survey<'_>) -> Vec<Told> {
    let told = survey.plan.refusals.iter().map(|refusal| Told {
        message: format!("{} {refusal}", survey.component.name),
        causes: Vec::new(),
        hint: Some(refusal.hint.clone()),
    });
    told.collect()
}

/// The newest version, in the clients' order, that is published for any of the architectures.
fn newest(
    component: &Component,
    arches: &[(Arch, String)],
    published: &Published,
) -> Option<Version> {
    let names: Vec<&str> = arches.iter().map(|(arch, _)| arch.as_str()).collect();
    let vars = crate::template::Vars { name: component.name.as_str(), ..Default::default() };
    let matcher = component.image.name.matcher(&vars, &names);
    let versions = published
        .manifest
        .files()
        .filter_map(|(name, _)| matcher.captures(name.as_str())?.0.parse().ok());
    versions.max()
}

/// Builds and publishes what the plan of one component says.
async fn carry_out(
    survey: Result<Survey<'_>, Unsurveyed<'_>>,
    shop: &Workshop,
    to: Target<'_>,
) -> Outcome {
    let mut outcome = Outcome::new(&survey);
    let Ok(survey) = survey else { return outcome };
    let name = survey.component.name.as_str();
    let done = contained(carry_out_plan(&survey, shop, to, &mut outcome)).await;
    if let Err(error) = done {
        outcome.errors.push(Told::of(name, error.as_ref()));
    }
    if let Err(error) = keep_cache(to.store, &survey).await {
        outcome.errors.push(Told::of(name, &error));
    }
    outcome
}

async fn carry_out_plan(
    survey: &Survey<'_>,
    shop: &Workshop,
    to: Target<'_>,
    outcome: &mut Outcome,
) -> anyhow::Result<()> {
    let Survey { component, arches, releases, .. } = survey;
    for folder in repository::folders_of(&component.folder) {
        to.store.sweep(&folder, to.lock)?;
    }
    // Nobody who had the lock before us gave this component work.
    if survey.plan.actions.is_empty() {
        return Ok(());
    }
    let mut made = Made::default();
    for _ in 0..ATTEMPTS {
        // The plan was made before we had the lock, and a bucket has none: whoever wrote since then
        // may have done our work.
        let published = Published::read(to.store, &component.folder).await?;
        let signer = Some(to.signer);
        let (mut published, plan) =
            plan_for(component, arches, releases, published, to.store, signer).await?;
        if let Some(why) = plan.sign() {
            match sign_again(&component.folder, to, &published).await {
                Ok(now) => published = now,
                Err(CommitError::Raced { .. }) => {
                    made.races += 1;
                    continue;
                }
                Err(error) => return Err(error.into()),
            }
            outcome.signed = Some(why);
        }
        let builds: Vec<&Build> = plan.actions.iter().filter_map(Action::build).collect();
        build_all(component, shop, &builds, &mut made, outcome).await?;
        let ready: Vec<&Build> = builds
            .into_iter()
            .filter(|build| made.images.contains_key(&build.image))
            .filter(|build| !made.broken.contains(&build.version))
            .collect();
        let done = publish_all(component, shop, to, published, &ready, &mut made, outcome).await;
        if done == Done::All {
            break;
        }
        tracing::debug!(component = component.name.as_str(), "another publisher was faster");
        made.races += 1;
    }
    if made.races == ATTEMPTS {
        let error = CommitError::Raced { folder: component.folder.clone() };
        outcome.errors.push(Told::of(component.name.as_str(), &error));
    }
    let now = outcome.published.iter().map(|image| image.version.clone()).max();
    outcome.newest = outcome.newest.take().max(now);
    Ok(())
}

/// Signs the manifest as it is.
async fn sign_again(
    folder: &Folder,
    to: Target<'_>,
    published: &Published,
) -> Result<Published, CommitError> {
    let change = Change { sign: true, ..Change::default() };
    commit::commit(to.store, to.lock, folder, published, &change, to.signer).await
}

/// What was built for a component, however often it is planned.
#[derive(Default)]
struct Made<'s> {
    /// The folders that the images lie in.
    benches: Vec<Bench<'s>>,
    images: BTreeMap<FileName, (Image, Record)>,
    /// A version goes out for all architectures or for none: half of one would tell half of the
    /// nodes that they are behind, for good if nobody looks.
    broken: BTreeSet<Version>,
    races: usize,
}

/// Builds what is not built yet.
async fn build_all<'s>(
    component: &Component,
    shop: &'s Workshop,
    builds: &[&Build],
    made: &mut Made<'s>,
    outcome: &mut Outcome,
) -> anyhow::Result<()> {
    let missing: Vec<&Build> = builds
        .iter()
        .copied()
        .filter(|build| !made.images.contains_key(&build.image))
        .filter(|build| !made.broken.contains(&build.version))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let bench = Bench::new(shop, component, missing.iter().copied())?;
    let running = missing.into_iter().map(async |build| (build, bench.build(build).await));
    for (build, result) in futures::future::join_all(running).await {
        match result {
            Ok(image) => {
                made.images.insert(build.image.clone(), image);
            }
            Err(error) => {
                let subject = format!("{} {} {}", component.name, build.version, build.arch);
                outcome.errors.push(Told::of(&subject, &error));
                made.broken.insert(build.version.clone());
            }
        }
    }
    made.benches.push(bench);
    Ok(())
}

#[derive(PartialEq, Eq)]
enum Done {
    /// Everything was tried, and what went wrong is told.
    All,
    /// Somebody else wrote meanwhile: the rest must be planned again.
    Raced,
}

/// Publishes version by version, the newest first: one that does not fit on the disk any more must
/// not keep the others from the nodes.
async fn publish_all(
    component: &Component,
    shop: &Workshop,
    to: Target<'_>,
    mut published: Published,
    ready: &[&Build],
    made: &mut Made<'_>,
    outcome: &mut Outcome,
) -> Done {
    let Component { name, folder, .. } = component;
    let Target { store, lock, signer } = to;
    for builds in ready.chunk_by(|a, b| a.version == b.version) {
        let images: Vec<_> = builds.iter().map(|build| made.images[&build.image].clone()).collect();
        let what = format!("{name} {}", builds[0].version);
        let task = shop.progress.begin(Step::Publish, &what);
        let change = Change { images: &images, ..Change::default() };
        match commit::commit(store, lock, folder, &published, &change, signer).await {
            Ok(now) => published = now,
            Err(CommitError::Raced { .. }) => return Done::Raced,
            Err(error) => {
                outcome.errors.push(Told::of(&what, &error));
                // Another try in this run would say the same again.
                made.broken.insert(builds[0].version.clone());
                continue;
            }
        }
        task.finish(0);
        outcome.published.extend(builds.iter().zip(&images).map(|(build, (image, _))| {
            PublishedImage {
                size: Some(image.size),
                sha256: Some(image.sha256),
                ..PublishedImage::planned(build)
            }
        }));
    }
    Done::All
}

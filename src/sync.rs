//! The pipeline: upstreams → plan → builds → commit.
//!
//! Owns the order of the steps and which failure stops what: one component's never stops another.
//! The work itself is done in the other rooms; this file reads like the picture in `lib.rs`.

use std::panic::AssertUnwindSafe;
use std::path::Path;

use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use jiff::Timestamp;
use serde::Serialize;

use crate::build::{Bench, Workshop};
use crate::config::{Component, Config, ConfigError, Signing};
use crate::fetch::Client;
use crate::fetch::cache::Cache;
use crate::name::{Arch, ComponentName, FileName, Folder, Sha256};
use crate::plan::{self, Action, Build, Plan, Why};
use crate::report::{Progress, Step, Told};
use crate::repository::commit::Change;
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

/// Brings the repository up to date.
///
/// # Errors
/// Only what concerns the store as a whole; a component's own errors are in its outcome.
pub async fn sync(config: &Config, run: Run, progress: &Progress) -> anyhow::Result<Vec<Outcome>> {
    let shop = workshop(config, progress);
    let root = config.store_directory();
    let store = Store::directory(&root, Access::Read)?;
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
            keep_caches(&root, &surveys, &mut outcomes).await;
        }
        return Ok(outcomes);
    }

    let store = Store::directory(&root, Access::Write)?;
    let lock = store.lock()?;
    // Before anything is signed with a key that is new in it.
    if let Some(keyring) = &keyring
        && seal::put_keyring(&store, &lock, keyring).await?
    {
        progress.line(&format!("{:>10} {}", "published", sign::KEYRING));
    }
    let to = Target { store: &store, lock: &lock, signer: &signer };
    let mut running: FuturesUnordered<_> =
        surveys.into_iter().map(|survey| carry_out(survey, &shop, &to)).collect();
    let mut outcomes = Vec::new();
    while let Some(outcome) = running.next().await {
        outcomes.push(outcome);
    }
    outcomes.sort_by(|a, b| a.component.cmp(&b.component));
    Ok(outcomes)
}

/// Where everything goes, and who vouches for it.
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
    let mut plan = plan::plan(component, &arches, releases.clone(), &published, Timestamp::now());
    if let Some(signer) = signer {
        add_signing(&mut plan, store, &component.folder, signer).await?;
    }
    Ok(Survey { component, arches, releases, published, plan, cache })
}

/// Adds the signature to what is to be done, first of all: nodes refuse a stale one.
async fn add_signing(
    plan: &mut Plan,
    store: &Store,
    folder: &Folder,
    signer: &Signer,
) -> anyhow::Result<()> {
    let seal = Seal::read(store, folder, signer).await?;
    if let Some(why) = seal.due(signer, Timestamp::now())? {
        plan.actions.insert(0, Action::Sign { why });
    }
    Ok(())
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
    to: &Target<'_>,
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
    to: &Target<'_>,
    outcome: &mut Outcome,
) -> anyhow::Result<()> {
    let Target { store, lock, signer } = *to;
    let component = survey.component;
    for folder in repository::folders_of(&component.folder) {
        store.sweep(&folder, lock)?;
    }
    // Nobody who had the lock before us gave this component work.
    if survey.plan.actions.is_empty() {
        return Ok(());
    }
    // The plan was made before we had the lock: whoever had it may have done our work.
    let mut published = Published::read(store, &component.folder).await?;
    let mut plan = plan::plan(
        component,
        &survey.arches,
        survey.releases.clone(),
        &published,
        Timestamp::now(),
    );
    add_signing(&mut plan, store, &component.folder, signer).await?;
    if let Some(why) = plan.sign() {
        let change = Change { sign: true, ..Change::default() };
        let folder = &component.folder;
        published.manifest =
            commit::commit(store, lock, folder, &published, &change, signer).await?;
        outcome.signed = Some(why);
    }
    let builds: Vec<&Build> = plan.actions.iter().filter_map(Action::build).collect();
    if builds.is_empty() {
        return Ok(());
    }
    let bench = Bench::new(shop, component, builds.iter().copied())?;
    let builds = builds.into_iter().map(async |build| (build, bench.build(build).await));
    let mut built = Vec::new();
    let mut broken: Vec<&Version> = Vec::new();
    for (build, result) in futures::future::join_all(builds).await {
        match result {
            Ok(made) => built.push((build, made)),
            Err(error) => {
                let subject = format!("{} {} {}", component.name, build.version, build.arch);
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
        let version = first.version.clone();
        let (now, later): (Vec<_>, Vec<_>) =
            built.into_iter().partition(|(build, _)| build.version == version);
        built = later;
        let (builds, images): (Vec<_>, Vec<_>) = now.into_iter().unzip();
        let what = format!("{} {version}", component.name);
        let task = shop.progress.begin(Step::Publish, &what);
        let folder = &component.folder;
        let change = Change { images: &images, ..Change::default() };
        match commit::commit(store, lock, folder, &published, &change, signer).await {
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
    }
    let now = outcome.published.iter().map(|image| image.version.clone()).max();
    outcome.newest = outcome.newest.take().max(now);
    Ok(())
}

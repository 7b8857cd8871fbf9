//! The pipeline: upstreams → plan → builds → commit.
//!
//! Owns the order of the steps and which failure stops what: one component's never stops another.
//! The work itself is done in the other rooms; this file reads like the picture in `lib.rs`.

use std::panic::AssertUnwindSafe;

use anyhow::Context as _;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use jiff::Timestamp;
use tokio::sync::Semaphore;

use crate::build::Workshop;
use crate::config::source::SourceRule;
use crate::config::{Component, Config, ConfigError, Service, Signing};
use crate::fetch::Client;
use crate::name::{Arch, Sha256};
use crate::plan::{self, Action, Basis, Plan, Upstream, Why};
use crate::recipe::fingerprint;
use crate::report::{Progress, Step, Told};
use crate::repository::commit::{Change, CommitError};
use crate::repository::seal::{self, Seal};
use crate::repository::{self, Place, Published, commit};
use crate::sign::{self, Signer};
use crate::source::memory::Memory;
use crate::source::{self, Listing};
use crate::store::{Access, Lock, Store, StoreError};
use crate::trust;

mod attempt;
mod left;
mod outcome;
mod prune;
mod verbatim;
mod waiting;

pub(crate) use attempt::remember;
use attempt::{Made, attempt};
pub use left::{Left, tend};
pub use outcome::{Outcome, PublishedImage, newest, refusals};
pub use prune::{Limit, prune, retire};

/// What is known of a component before anything is done for it.
#[derive(Debug)]
pub struct Survey<'c> {
    /// The component.
    pub component: &'c Component,
    /// The architectures it is built for, with upstream's names.
    pub arches: Vec<(Arch, String)>,
    /// What upstreams have.
    pub upstream: Upstream,
    /// What is published.
    pub published: Published,
    /// What else the plan rests on.
    pub basis: Basis,
    /// What follows from all of these.
    pub plan: Plan,
    memory: Memory,
}

impl Survey<'_> {
    /// Lets go what nothing is built of: of a thousand components that is nearly all there is in
    /// memory.
    fn forget_assets(&mut self) {
        if self.plan.actions.is_empty() {
            self.upstream.forget_assets();
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

/// How many upstreams are asked at once. What bounds requests is the client, host by host; this bounds
/// what is in memory of them.
const ASKED: usize = 256;

/// How many components are read from the store at once.
const READ: usize = 16;

/// How often a component is planned anew because another publisher was faster.
pub(crate) const ATTEMPTS: usize = 5;

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
    let mut work = surveys.iter().any(|survey| match survey {
        Ok(survey) => !survey.plan.actions.is_empty(),
        Err(failed) => failed.sign.is_some(),
    });
    if let Some(keyring) = &keyring {
        work |= seal::keyring_is_due(&store, keyring).await?;
    }
    let signer = signer.unwrap_or_default();
    let due: usize = surveys.iter().flatten().map(|survey| survey.plan.deletions().count()).sum();
    let limit = Limit { due, most: config.document.retention.max_delete };
    if run == Run::Dry || !work {
        let mut outcomes: Vec<Outcome> =
            surveys.iter().map(|survey| planned(survey, limit)).collect();
        if run == Run::Real
            && let Some(told) = keep_answers(config, &shop, &store, &surveys).await
        {
            outcomes.first_mut().into_iter().for_each(|first| first.errors.push(told.clone()));
        }
        return Ok(outcomes);
    }

    let store = store.made()?;
    let lock = store.lock().await?;
    let (unkept, mut outcomes) = lock
        .during(async |lock| {
            // Before anything is signed with a key that is new in it.
            if let Some(keyring) = &keyring
                && seal::put_keyring(&store, lock, keyring).await?
            {
                progress.line(&format!("{:>10} {}", "published", sign::KEYRING));
            }
            let unkept = keep_answers(config, &shop, &store, &surveys).await;
            // Before any of them writes: what is half written in a folder they share may be
            // another's.
            let swept: Vec<_> = surveys.iter().map(|survey| sweep(survey, &store, lock)).collect();
            let mut running: FuturesUnordered<_> = surveys
                .into_iter()
                .zip(swept)
                .map(|(survey, swept)| {
                    carry_out(survey, swept, &shop, (&store, lock, &signer), limit)
                })
                .collect();
            let mut outcomes = Vec::new();
            while let Some(outcome) = running.next().await {
                outcomes.push(outcome);
            }
            Ok::<_, StoreError>((unkept, outcomes))
        })
        .await?;
    outcomes.sort_by(|a, b| a.component.cmp(&b.component));
    outcomes.first_mut().into_iter().for_each(|first| first.errors.extend(unkept.clone()));
    Ok(outcomes)
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
    Workshop::new(client, config, progress.clone())
}

/// A component that could not even be planned for.
#[derive(Debug)]
pub struct Unsurveyed<'c> {
    /// The component.
    pub component: &'c Component,
    /// Why.
    pub error: Told,
    /// What is published all the same, if that can be read.
    pub published: Option<Box<Published>>,
    /// Why its manifest must be signed, if it must: nodes do not wait for an upstream.
    pub sign: Option<Why>,
}

/// Asks every upstream and plans, several components at once; in the order of the configuration.
pub async fn survey_all<'c>(
    config: &'c Config,
    shop: &Workshop,
    store: &Store,
    signer: Option<&Signer>,
) -> Vec<Result<Survey<'c>, Unsurveyed<'c>>> {
    let reading = Semaphore::new(READ);
    let reading = &reading;
    let surveys = futures::stream::iter(&config.components)
        .map(async |component| {
            match contained(survey_in_turn(config, component, shop, store, reading, signer)).await {
                Ok(mut survey) => {
                    survey.forget_assets();
                    Ok(survey)
                }
                Err(error) => {
                    let error = Told::of(component.name.as_str(), error.as_ref());
                    let published = Published::read(store, &component.folder).await.ok();
                    // Not what others sign.
                    let signer = signer.filter(|_| !component.is_verbatim());
                    let sign = published.as_ref().zip(signer).and_then(|(published, signer)| {
                        Seal::of(published).due(signer, Timestamp::now()).ok()?
                    });
                    let published = published.map(Box::new);
                    Err(Unsurveyed { component, error, published, sign })
                }
            }
        })
        .buffered(ASKED)
        .collect()
        .await;
    for (host, quota) in shop.client.quotas() {
        tracing::info!("{host}: {quota}");
    }
    surveys
}

/// Asks each GitHub what is left of its quota, which is free, where no other answer told. What it
/// answers is for the client to remember.
pub async fn ask_quotas(config: &Config, shop: &Workshop) {
    for component in &config.components {
        if let SourceRule::Github(rule) = &component.source {
            source::github::ask_quota(rule, &shop.client).await;
        }
    }
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
    survey_in_turn(config, component, shop, store, &Semaphore::new(1), signer).await
}

async fn survey_in_turn<'c>(
    config: &Config,
    component: &'c Component,
    shop: &Workshop,
    store: &Store,
    reading: &Semaphore,
    signer: Option<&Signer>,
) -> anyhow::Result<Survey<'c>> {
    let arches: Vec<_> =
        component.architectures(&config.document.repository.architectures).into_iter().collect();
    let answers = shop.client.answers();
    answers.keep_in(store, repository::ANSWERS);
    let task = shop.progress.begin(Step::Poll, component.name.as_str());
    let memory = match component.mirrored() {
        Some(_) => store.read(&repository::memory_path(&component.name)).await?,
        None => None,
    };
    let memory = memory.map(|bytes| Memory::load(&bytes)).unwrap_or_default();
    let (listing, companions) = futures::try_join!(
        async { Ok(source::poll(component, &arches, &shop.client, answers, &memory).await?) },
        poll_companions(component, &arches, shop)
    )?;
    task.finish(0);
    for note in listing.notes.iter().chain(companions.iter().flat_map(|listing| &listing.notes)) {
        shop.progress.line(&format!("warning: {}: {note}", component.name));
    }
    let companions = companions.into_iter().map(|listing| listing.releases).collect();
    let mut upstream = Upstream::new(component, listing.releases, companions, Timestamp::now());
    upstream.complete = listing.complete;
    let _turn = reading.acquire().await.expect("it is never closed");
    let published = Published::read(store, &component.folder).await?;
    trust::check_keys(component)?;
    let basis = Basis {
        overlay: overlay(component).await?,
        retention: config.document.retention,
        plus_is_blank: config.store().service() == Some(Service::S3),
        require: config.document.trust.require,
    };
    let (published, plan) =
        plan_for(component, &arches, &upstream, published, basis, store, signer, &memory).await?;
    Ok(Survey { component, arches, upstream, published, basis, plan, memory })
}

/// Asks the upstream of every companion.
async fn poll_companions(
    component: &Component,
    arches: &[(Arch, String)],
    shop: &Workshop,
) -> anyhow::Result<Vec<Listing>> {
    let polls = component.companions.iter().map(async |companion| {
        let theirs =
            |(arch, theirs): &(Arch, String)| (*arch, companion.arch(*arch, theirs).to_owned());
        let arches: Vec<(Arch, String)> = arches.iter().map(theirs).collect();
        // No companion is a mirror, of which alone something is remembered.
        let (client, memory) = (&shop.client, Memory::default());
        source::poll(&companion.follows, &arches, client, client.answers(), &memory)
            .await
            .with_context(|| format!("the companion `{}`", companion.name()))
    });
    futures::future::try_join_all(polls).await
}

/// The digest of a component's overlay.
async fn overlay(component: &Component) -> anyhow::Result<Option<Sha256>> {
    let Some(folder) = component.overlay.clone() else { return Ok(None) };
    let kind = component.extension.kind;
    let digest = tokio::task::spawn_blocking(move || fingerprint::overlay(&folder, kind)).await??;
    Ok(Some(digest))
}

/// Reads what the plan must know, and plans.
#[expect(clippy::too_many_arguments, reason = "a plan rests on all of these")]
async fn plan_for(
    component: &Component,
    arches: &[(Arch, String)],
    upstream: &Upstream,
    mut published: Published,
    basis: Basis,
    store: &Store,
    signer: Option<&Signer>,
    memory: &Memory,
) -> anyhow::Result<(Published, Plan)> {
    let now = Timestamp::now();
    if let (true, Some(theirs)) = (component.is_verbatim(), memory.theirs()) {
        let folder = &component.folder;
        repository::verbatim::look(store, &mut published, folder, &theirs).await?;
        let signatures = repository::verbatim::signatures(store, &published, folder).await?;
        let plan =
            plan::verbatim(component, upstream, &theirs, &published, &signatures, basis, now);
        return Ok((published, plan));
    }
    let names = plan::worth_knowing(component, arches, upstream, &published, basis, now);
    published.read_records(store, &component.folder, names).await?;
    let mut plan = plan::plan(component, arches, upstream, &published, basis, now);
    if let Some(signer) = signer {
        // First of all: nodes refuse a stale one.
        if let Some(why) = Seal::of(&published).due(signer, now)? {
            plan.actions.insert(0, Action::Sign { why });
        }
    }
    Ok((published, plan))
}

/// Keeps what upstreams answered for the next run. Components whose answers cannot be kept are up to
/// date all the same, but it is said. Each object is whole at every instant, so no lock.
async fn keep_answers(
    config: &Config,
    shop: &Workshop,
    store: &Store,
    surveys: &[Result<Survey<'_>, Unsurveyed<'_>>],
) -> Option<Told> {
    let answers = shop.client.answers();
    // What was not asked for this time may be what comes after a page that failed.
    if config.whole && surveys.iter().all(Result::is_ok) {
        answers.forget_unasked();
    }
    let memories = || surveys.iter().flatten().filter(|survey| survey.memory.is_changed());
    if !answers.is_changed() && memories().next().is_none() {
        return None;
    }
    let keep = async || {
        let store = store.clone().made()?;
        if answers.is_changed() {
            answers.save(&store).await?;
        }
        for Survey { component, memory, .. } in memories() {
            if let Some(bytes) = memory.save() {
                store.put(&repository::memory_path(&component.name), bytes).await?;
            }
        }
        Ok::<_, StoreError>(())
    };
    keep().await.err().map(|error| Told::of("what upstreams answered", &error))
}

/// What a dry run tells.
fn planned(survey: &Result<Survey<'_>, Unsurveyed<'_>>, limit: Limit) -> Outcome {
    let mut outcome = Outcome::new(survey);
    if let Err(failed) = survey {
        outcome.signed = failed.sign;
    }
    if let Ok(survey) = survey {
        let plan = &survey.plan;
        outcome.published = plan.builds().map(PublishedImage::planned).collect();
        outcome.removed = plan.removals().cloned().collect();
        outcome.deleted = plan.deletions().cloned().collect();
        outcome.signed = plan.sign();
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
    (store, lock, signer): (&Store, &Lock, &Signer),
    limit: Limit,
) -> Outcome {
    let mut outcome = Outcome::new(&survey);
    let survey = match survey {
        Ok(survey) => survey,
        Err(failed) => {
            let place = Place { store, lock, folder: &failed.component.folder, signer };
            if let Err(error) = sign_alone(&failed, &place, &mut outcome).await {
                outcome.errors.push(Told::of(failed.component.name.as_str(), error.as_ref()));
            }
            return outcome;
        }
    };
    let name = survey.component.name.as_str();
    if let Err(error) = swept {
        outcome.errors.push(Told::of(name, &error));
        return outcome;
    }
    let place = Place { store, lock, folder: &survey.component.folder, signer };
    let done = contained(carry_out_plan(&survey, shop, &place, limit, &mut outcome)).await;
    if let Err(error) = done {
        outcome.errors.push(Told::of(name, error.as_ref()));
    }
    outcome
}

/// Signs what is published of a component whose upstream cannot be asked.
async fn sign_alone(
    failed: &Unsurveyed<'_>,
    place: &Place<'_>,
    outcome: &mut Outcome,
) -> anyhow::Result<()> {
    let Place { store, lock, folder, signer } = *place;
    let Some(why) = failed.sign else { return Ok(()) };
    let published = Published::read(store, folder).await?;
    let change = Change { sign: true, ..Change::default() };
    commit::commit(store, lock, folder, &published, &change, signer).await?;
    outcome.signed = Some(why);
    Ok(())
}

async fn carry_out_plan(
    survey: &Survey<'_>,
    shop: &Workshop,
    place: &Place<'_>,
    limit: Limit,
    outcome: &mut Outcome,
) -> anyhow::Result<()> {
    // Nobody who had the lock before us gave this component work.
    if survey.plan.actions.is_empty() {
        return Ok(());
    }
    let mut made = Made::default();
    for _ in 0..ATTEMPTS {
        let theirs = survey.memory.theirs().filter(|_| survey.component.is_verbatim());
        let attempted = match theirs {
            Some(theirs) => {
                let attempt = verbatim::attempt(survey, &theirs, shop, place, limit, outcome);
                attempt.await.map(|()| false)
            }
            None => attempt(survey, shop, place, limit, &mut made, outcome).await,
        };
        match attempted {
            Err(error) if is_raced(&error) => {
                let component = survey.component.name.as_str();
                tracing::debug!(component, "another publisher was faster");
            }
            Ok(true) => {}
            done => return done.map(drop),
        }
    }
    Err(CommitError::Raced { folder: place.folder.clone() }.into())
}

fn is_raced(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(CommitError::Raced { .. }))
}

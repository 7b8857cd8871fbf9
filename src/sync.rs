//! The pipeline: upstreams → plan → builds → commit.
//!
//! Owns the order of the steps and which failure stops what: one component's never stops another.
//! The work itself is done in the other rooms; this file reads like the picture in `lib.rs`.

use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::Arc;

use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};

use crate::build::Workshop;
use crate::config::source::SourceRule;
use crate::config::{Config, ConfigError, Signing};
use crate::fetch::Client;
use crate::name::Folder;
use crate::report::{Progress, Told};
use crate::repository::commit::{Change, CommitError};
use crate::repository::seal;
use crate::repository::{self, Place, Published, commit};
use crate::sign::{self, Signer};
use crate::source;
use crate::store::{Access, Lock, Store, StoreError};
use crate::trust;

mod attempt;
mod clients;
mod left;
mod ordered;
mod outcome;
mod pages;
mod prune;
mod survey;
mod turns;
mod verbatim;
mod waiting;

pub(crate) use attempt::remember;
use attempt::{Made, attempt};
use clients::Clients;
pub use clients::{keep_clients, outdated, trust_of};
pub use left::{Left, tend};
pub use ordered::ordered;
pub use outcome::{Outcome, PublishedImage, Standing, newest, refusals};
use pages::People;
pub use pages::keep_pages;
pub use prune::{Limit, prune, retire};
use survey::plan_for;
pub use survey::{Survey, Unsurveyed, survey, survey_all};
pub(crate) use turns::{in_turn, is_raced};
pub use waiting::lacking;

/// Whether something is really done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Run {
    /// Stop after the plan.
    Dry,
    /// Build and publish.
    Real,
}

/// How often a component is planned anew because what was to be built turned out not to be there yet.
const PLANS: usize = 16;

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
    let shop = workshop(config, progress)?;
    sync_in(&shop, store, config, run).await
}

/// The same, in a workshop that is open: what it learned of hosts can be asked afterwards.
///
/// # Errors
/// As [`sync`](fn@sync).
pub async fn sync_in(
    shop: &Workshop,
    store: Store,
    config: &Config,
    run: Run,
) -> anyhow::Result<Vec<Outcome>> {
    let progress = &shop.progress;
    let signer = match run {
        Run::Dry => signer_to_look(config, progress)?,
        Run::Real => Some(Arc::new(Signer::open(config)?)),
    };
    let keyring = match &signer {
        Some(signer) => sign::client_keyring(config, signer)?,
        None => None,
    };
    let clients = Clients::of(config, signer.as_deref(), keyring.as_ref());
    let surveys = survey_all(config, shop, &store, signer.as_ref()).await;
    if run == Run::Real {
        let root = keyring.is_some().then_some("");
        let folders = surveys.iter().flatten().map(|survey| survey.component.folder.as_str());
        for folder in folders.chain(root) {
            store.mend(folder).await?;
        }
    }
    // What something is to be done for beside its pages: files for nodes are rendered to find that out.
    let touched: Vec<Folder> = surveys
        .iter()
        .filter_map(|survey| match survey {
            Ok(Survey { component, published, plan, .. }) => {
                let is_due = !plan.actions.is_empty() || clients.is_due(component, published);
                is_due.then(|| component.folder.clone())
            }
            Err(failed) => failed.sign.is_some().then(|| failed.component.folder.clone()),
        })
        .collect();
    let people = People::of(config, &clients, keyring.as_ref());
    let mut pages = match run {
        Run::Dry => pages::Due::default(),
        Run::Real => people.look(&store, &surveys).await,
    };
    let mut work = !touched.is_empty() || !pages.is_empty();
    if let Some(keyring) = &keyring {
        work |= seal::keyring_is_due(&store, keyring).await?;
    }
    let signer = signer.unwrap_or_default();
    let due: usize = surveys.iter().flatten().map(|survey| survey.plan.deletions().count()).sum();
    let limit = Limit { due, most: config.document.retention.max_delete };
    if run == Run::Dry || !work {
        let mut outcomes: Vec<Outcome> =
            surveys.iter().map(|survey| planned(survey, &store, limit)).collect();
        if run == Run::Real
            && let Some(told) = keep_answers(config, shop, &store, &surveys).await
        {
            outcomes.first_mut().into_iter().for_each(|first| first.errors.push(told.clone()));
        }
        pages::tell(&mut outcomes, pages.told());
        return Ok(outcomes);
    }

    for folder in &touched {
        pages.touch(folder);
    }
    let store = store.made()?;
    let lock = store.lock().await?;
    let (unkept, told, mut outcomes) = lock
        .during(async |lock| {
            // Before anything is signed with a key that is new in it.
            if let Some(keyring) = &keyring
                && seal::put_keyring(&store, lock, keyring).await?
            {
                progress.line(&format!("{:>10} {}", "published", sign::KEYRING));
            }
            let unkept = keep_answers(config, shop, &store, &surveys).await;
            // Before any of them writes: what is half written in a folder they share may be
            // another's.
            let swept: Vec<_> = surveys.iter().map(|survey| sweep(survey, &store, lock)).collect();
            let mut running: FuturesUnordered<_> = surveys
                .into_iter()
                .zip(swept)
                .map(|(survey, swept)| {
                    carry_out(survey, swept, shop, (&store, lock, &signer), (limit, &clients))
                })
                .collect();
            let mut outcomes = Vec::new();
            while let Some(outcome) = running.next().await {
                outcomes.push(outcome);
            }
            // What they tell is served by now; of what was refused, nothing new is.
            let refused =
                outcomes.iter().filter(|one| !one.errors.is_empty() && one.is_unchanged());
            refused.for_each(|one| pages.leave(&one.folder));
            let told = people.keep_told(&store, lock, pages).await;
            Ok::<_, StoreError>((unkept, told, outcomes))
        })
        .await?;
    outcomes.sort_by(|a, b| a.component.cmp(&b.component));
    outcomes.first_mut().into_iter().for_each(|first| first.errors.extend(unkept.clone()));
    pages::tell(&mut outcomes, told);
    Ok(outcomes)
}

/// The signer for a run that only looks. Where its secret is not to be had, as in a build of
/// somebody's proposal, `None`: everything else can be told all the same.
///
/// # Errors
/// The key is there, but cannot be used.
pub fn signer_to_look(
    config: &Config,
    progress: &Progress,
) -> Result<Option<Arc<Signer>>, ConfigError> {
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
    Ok(Some(Arc::new(Signer::open(config)?)))
}

/// The client and the limits of a run.
///
/// # Errors
/// A file that the configuration stands on cannot be used. Nothing was asked of anybody yet.
pub fn workshop(config: &Config, progress: &Progress) -> anyhow::Result<Workshop> {
    let client = Client::new(&config.document.network, &config.document.limits);
    let shop = Workshop::new(client, config, progress.clone());
    shop.guard.ledger.open()?;
    let wrong = |file: &Path, error: &dyn std::error::Error, hint: Option<String>| {
        let wrong = ConfigError::new(file, error.to_string());
        match hint {
            Some(hint) => wrong.with_hint(hint),
            None => wrong,
        }
    };
    shop.client.check().map_err(|error| wrong(&config.file, &error, error.hint()))?;
    shop.guard.check().map_err(|error| wrong(&config.file, &error, error.hint()))?;
    for component in &config.components {
        trust::check_keys(component)
            .map_err(|error| wrong(&component.file, &error, error.hint()))?;
    }
    Ok(shop)
}

/// Asks each GitHub what is left of its quota, which is free, where no other answer told. What it
/// answers is for the client to remember.
pub async fn ask_quotas(config: &Config, shop: &Workshop) {
    let rules = config.components.iter().filter_map(|component| match &component.source {
        SourceRule::Github(rule) => Some(rule),
        _ => None,
    });
    let asked = rules.map(|rule| source::github::ask_quota(rule, &shop.client));
    futures::future::join_all(asked).await;
}

/// Keeps a crash, which is a mistake of ours or of a library, to the component it happened in.
async fn contained<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    AssertUnwindSafe(work).catch_unwind().await.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().copied().map(str::to_owned);
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
        Err(anyhow::anyhow!("it crashed: {text}\nhint: please report this"))
    })
}

/// Keeps what upstreams answered for the next run. Components whose answers cannot be kept are up to
/// date all the same, but it is said. Each object is whole at every instant, so no lock.
async fn keep_answers(
    config: &Config,
    shop: &Workshop,
    store: &Store,
    surveys: &[Result<Survey, Unsurveyed>],
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
fn planned(survey: &Result<Survey, Unsurveyed>, store: &Store, limit: Limit) -> Outcome {
    let mut outcome = Outcome::new(survey);
    if let Err(failed) = survey {
        outcome.signed = failed.sign;
    }
    if let Ok(survey) = survey {
        let plan = &survey.plan;
        let of_clients = clients::warnings(store, &survey.component, &survey.published);
        let given_up = verbatim::given_up(&survey.component, &survey.published, plan);
        outcome.warn(survey, of_clients.into_iter().chain(given_up));
        outcome.published = plan.builds().map(PublishedImage::planned).collect();
        outcome.removed = plan.removals().cloned().collect();
        outcome.deleted = plan.deletions().cloned().collect();
        outcome.signed = plan.sign();
        outcome.errors.extend(clients::misled(survey, &survey.published.manifest));
        let told = limit.exceeded(&survey.component.name).filter(|_| !outcome.deleted.is_empty());
        outcome.errors.extend(told);
    }
    outcome
}

/// Takes away what a killed run left half written of a component.
fn sweep(
    survey: &Result<Survey, Unsurveyed>,
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
    survey: Result<Survey, Unsurveyed>,
    swept: Result<(), StoreError>,
    shop: &Workshop,
    (store, lock, signer): (&Store, &Lock, &Signer),
    rules: (Limit, &Clients<'_>),
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
    let done = contained(carry_out_plan(&survey, shop, &place, rules, &mut outcome)).await;
    if let Err(error) = done {
        outcome.errors.push(Told::of(name, error.as_ref()));
    }
    outcome
}

/// Signs what is published of a component whose upstream cannot be asked.
async fn sign_alone(
    failed: &Unsurveyed,
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
    survey: &Survey,
    shop: &Workshop,
    place: &Place<'_>,
    rules: (Limit, &Clients<'_>),
    outcome: &mut Outcome,
) -> anyhow::Result<()> {
    // Nobody who had the lock before us gave this component work.
    let (_, clients) = rules;
    if survey.plan.actions.is_empty() && !clients.is_due(&survey.component, &survey.published) {
        let told = clients::warnings(place.store, &survey.component, &survey.published);
        outcome.warn(survey, told);
        outcome.errors.extend(clients::misled(survey, &survey.published.manifest));
        return Ok(());
    }
    let mut made = Made::default();
    for _ in 0..PLANS {
        let theirs = survey.memory.theirs().filter(|_| survey.component.is_verbatim());
        let is_absent = in_turn(is_raced, async || match &theirs {
            Some(theirs) => {
                let attempt = verbatim::attempt(survey, theirs, shop, place, rules, outcome);
                attempt.await.map(|()| false)
            }
            None => attempt(survey, shop, place, rules, &mut made, outcome).await,
        });
        if !is_absent.await? {
            return Ok(());
        }
    }
    Err(CommitError::Raced { folder: place.folder.clone() }.into())
}

//! Looking at a component: asking its upstreams, reading what is published of it, and planning.
//!
//! Owns how many are looked at, at once: each in a task of its own, on all cores. Changes nothing.

use std::sync::Arc;

use anyhow::Context as _;
use jiff::Timestamp;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::{clients, contained};
use crate::build::Workshop;
use crate::config::{Component, Config, Service};
use crate::name::{Arch, Sha256};
use crate::plan::{self, Action, Basis, Plan, Upstream, Why};
use crate::recipe::fingerprint;
use crate::report::{Step, Told};
use crate::repository::commit::InputRecord;
use crate::repository::seal::Seal;
use crate::repository::{self, Published};
use crate::sign::Signer;
use crate::source::memory::Memory;
use crate::source::{self, Listing};
use crate::store::Store;
use crate::trust::TrustError;
use crate::trust::lockfile::Ledger;

/// What is known of a component before anything is done for it.
#[derive(Debug)]
pub struct Survey {
    /// The component.
    pub component: Arc<Component>,
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
    /// What is odd about what publish keeps for itself.
    pub warnings: Vec<String>,
    /// What is remembered of a mirrored repository.
    pub(super) memory: Memory,
}

impl Survey {
    /// Lets go what nothing is built of: of a thousand components that is nearly all there is in
    /// memory.
    fn forget_assets(&mut self) {
        if self.plan.actions.is_empty() {
            self.upstream.forget_assets();
        }
    }
}

/// How many upstreams are asked at once. What bounds requests is the client, host by host; this bounds
/// what is in memory of them.
const ASKED: usize = 256;

/// How many components are read from the store at once.
const READ: usize = 16;

/// A component that could not even be planned for.
#[derive(Debug)]
pub struct Unsurveyed {
    /// The component.
    pub component: Arc<Component>,
    /// Why.
    pub error: Told,
    /// What is published all the same, if that can be read.
    pub published: Option<Box<Published>>,
    /// Why its manifest must be signed, if it must: nodes do not wait for an upstream.
    pub sign: Option<Why>,
}

/// Asks every upstream and plans; in the order of the configuration.
pub async fn survey_all(
    config: &Config,
    shop: &Workshop,
    store: &Store,
    signer: Option<&Arc<Signer>>,
) -> Vec<Result<Survey, Unsurveyed>> {
    let reading = Arc::new(Semaphore::new(READ));
    let mut left = config.components.iter().enumerate();
    let mut looks = JoinSet::new();
    let mut surveys = Vec::with_capacity(config.components.len());
    loop {
        while looks.len() < ASKED
            && let Some((number, component)) = left.next()
        {
            let look = Look::of(config, component, shop, store, &reading, signer);
            looks.spawn(async move { (number, look.told().await) });
        }
        match looks.join_next().await {
            Some(looked) => surveys.push(looked.expect("crashes are contained, and no task ended")),
            None => break,
        }
    }
    surveys.sort_by_key(|(number, _)| *number);
    for (host, quota) in shop.client.quotas() {
        tracing::info!("{host}: {quota}");
    }
    surveys.into_iter().map(|(_, survey)| survey).collect()
}

/// Asks a component's upstream and plans.
///
/// # Errors
/// The upstream or the repository cannot be read.
pub async fn survey(
    config: &Config,
    component: &Arc<Component>,
    shop: &Workshop,
    store: &Store,
    signer: Option<&Arc<Signer>>,
) -> anyhow::Result<Survey> {
    let reading = Arc::new(Semaphore::new(1));
    Look::of(config, component, shop, store, &reading, signer).survey().await
}

/// The architectures that a component is built for, with upstream's names.
pub(super) fn arches_of(config: &Config, component: &Component) -> Vec<(Arch, String)> {
    component.architectures(&config.document.repository.architectures).into_iter().collect()
}

/// What a plan rests on before a component's overlay is read.
pub(super) fn basis_of(config: &Config) -> Basis {
    Basis {
        overlay: None,
        retention: config.document.retention,
        plus_is_blank: config.store().service() == Some(Service::S3),
        require: config.document.trust.require,
        adopt: config.adopt,
    }
}

/// All that a look at one component needs.
struct Look {
    component: Arc<Component>,
    arches: Vec<(Arch, String)>,
    /// What is known before the component's overlay is read.
    basis: Basis,
    shop: Workshop,
    store: Store,
    reading: Arc<Semaphore>,
    signer: Option<Arc<Signer>>,
}

impl Look {
    fn of(
        config: &Config,
        component: &Arc<Component>,
        shop: &Workshop,
        store: &Store,
        reading: &Arc<Semaphore>,
        signer: Option<&Arc<Signer>>,
    ) -> Self {
        Self {
            component: component.clone(),
            arches: arches_of(config, component),
            basis: basis_of(config),
            shop: shop.clone(),
            store: store.clone(),
            reading: reading.clone(),
            signer: signer.cloned(),
        }
    }

    /// The survey, or what can be told without one.
    async fn told(self) -> Result<Survey, Unsurveyed> {
        let (component, store) = (self.component.clone(), self.store.clone());
        let signer = self.signer.clone();
        match contained(Box::pin(self.survey())).await {
            Ok(mut survey) => {
                survey.forget_assets();
                Ok(survey)
            }
            Err(error) => {
                let error = Told::of(component.name.as_str(), error.as_ref());
                let published = Published::read(&store, &component.folder).await.ok();
                // Not what others sign.
                let signer = signer.filter(|_| !component.is_verbatim());
                let sign = published.as_ref().zip(signer).and_then(|(published, signer)| {
                    Seal::of(published).due(&signer, Timestamp::now()).ok()?
                });
                let published = published.map(Box::new);
                Err(Unsurveyed { component, error, published, sign })
            }
        }
    }

    async fn survey(self) -> anyhow::Result<Survey> {
        let Self { component, arches, mut basis, shop, store, reading, signer } = self;
        shop.client.answers().keep_in(&store, repository::ANSWERS);
        let task = shop.progress.begin(Step::Poll, component.name.as_str());
        let memory = match component.mirrored() {
            Some(_) => store.read(&repository::memory_path(&component.name)).await?,
            None => None,
        };
        let path = || store.locate(&repository::memory_path(&component.name));
        let memory = memory.map(|bytes| Memory::load(&bytes, &path())).transpose();
        // It is found out anew, and kept, if somebody says so.
        let memory = if basis.adopt { memory.ok() } else { Some(memory?) };
        let memory = memory.flatten().unwrap_or_default();
        let (listing, companions) = poll(&component, &arches, &shop, &memory).await?;
        task.finish(0);
        let theirs = companions.iter().flat_map(|listing| &listing.notes);
        for note in listing.notes.iter().chain(theirs) {
            shop.progress.line(&format!("warning: {}: {note}", component.name));
        }
        let companions = companions.into_iter().map(|listing| listing.releases).collect();
        let mut upstream =
            Upstream::new(&component, listing.releases, companions, Timestamp::now());
        upstream.complete = listing.complete;
        let _turn = reading.acquire_owned().await.expect("it is never closed");
        let published = Published::read(&store, &component.folder).await?;
        let unbegun = published.check_lost(&store, &component).await?;
        basis.overlay = overlay(&component).await?;
        let (published, plan) = plan_for(
            &component,
            &arches,
            &upstream,
            published,
            basis,
            &store,
            signer.as_deref(),
            &memory,
        )
        .await?;
        check_first_uses(&component, &published, &shop.guard.ledger)?;
        let name = &component.name;
        let unreadable = published.unreadable().map(|(image, problem)| {
            let record = store.locate(&repository::record_path(&component.folder, image));
            format!(
                "warning: {name}: the record of {image}, {record}, cannot be read: {problem}; the image stays as it is"
            )
        });
        let unbegun = unbegun.map(|odd| format!("warning: {name}: {odd}"));
        let warnings = unbegun.into_iter().chain(unreadable).collect();
        Ok(Survey { component, arches, upstream, published, basis, plan, warnings, memory })
    }
}

/// Asks a component's upstream, and those of its companions.
pub(super) async fn poll(
    component: &Component,
    arches: &[(Arch, String)],
    shop: &Workshop,
    memory: &Memory,
) -> anyhow::Result<(Listing, Vec<Listing>)> {
    let own = source::poll(component, arches, &shop.client, shop.client.answers(), memory);
    futures::try_join!(async { Ok(own.await?) }, poll_companions(component, arches, shop))
}

/// Asks the upstream of every companion.
async fn poll_companions(
    component: &Component,
    arches: &[(Arch, String)],
    shop: &Workshop,
) -> anyhow::Result<Vec<Listing>> {
    let mut polls = Vec::with_capacity(component.companions.len());
    for companion in &component.companions {
        let theirs =
            |(arch, theirs): &(Arch, String)| (*arch, companion.arch(*arch, theirs).to_owned());
        let arches: Vec<(Arch, String)> = arches.iter().map(theirs).collect();
        polls.push(async move {
            // No companion is a mirror, of which alone something is remembered.
            let (client, memory) = (&shop.client, Memory::default());
            source::poll(&companion.follows, &arches, client, client.answers(), &memory)
                .await
                .with_context(|| format!("the companion `{}`", companion.name()))
        });
    }
    futures::future::try_join_all(polls).await
}

/// The digest of a component's overlay; of all that is beside it, where a command may read that.
pub(super) async fn overlay(component: &Component) -> anyhow::Result<Option<Sha256>> {
    let Some(folder) = component.overlay.clone() else { return Ok(None) };
    let (kind, whole) = (component.extension.kind, component.build.is_some());
    let digest = tokio::task::spawn_blocking(move || {
        if whole { fingerprint::folder(&folder) } else { fingerprint::overlay(&folder, kind) }
    });
    let digest = digest.await??;
    Ok(Some(digest))
}

/// Reads what the plan must know, and plans.
#[expect(clippy::too_many_arguments, reason = "a plan rests on all of these")]
pub(super) async fn plan_for(
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
    let mut names = plan::worth_knowing(component, arches, upstream, &published, basis, now);
    names.extend(clients::strangers(component, &published, upstream));
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

/// Whether the lock file and what is published tell the same of every first use, though nothing may be
/// built that would ask.
fn check_first_uses(
    component: &Component,
    published: &Published,
    ledger: &Ledger,
) -> Result<(), TrustError> {
    if !component.assets.iter().any(|rule| rule.trust.first_use) {
        return Ok(());
    }
    let accepted: Vec<Sha256> = component.versions.accept.values().flatten().copied().collect();
    for (image, _) in published.manifest.files() {
        let inputs = published.recorded(image).into_iter().flat_map(|record| &record.inputs);
        for InputRecord { from, sha256, .. } in inputs {
            ledger.check_published(&component.name, image, (from, *sha256), &accepted)?;
        }
    }
    Ok(())
}

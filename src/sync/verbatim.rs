//! One attempt at a folder that is published as somebody else has it.
//!
//! Owns the order: every file that is missing, then their manifest and signatures, then what they no
//! longer list. If one file cannot be had, their manifest cannot be served, and the one before stays.

use futures::StreamExt;
use jiff::Timestamp;

use super::{Clients, Limit, Outcome, PublishedImage, Survey, is_raced, plan_for};
use crate::build::{Bench, Workshop};
use crate::config::Component;
use crate::name::FileName;
use crate::plan::{Build, Plan};
use crate::report::{Step, Told};
use crate::repository::{Place, Published, retention, verbatim};
use crate::source::memory::Theirs;

/// Files that may wait for their turn to be fetched.
const MOST: usize = 64;

/// Plans and does what the plan says.
pub(super) async fn attempt(
    survey: &Survey,
    theirs: &Theirs,
    shop: &Workshop,
    place: &Place<'_>,
    (limit, clients): (Limit, &Clients<'_>),
    outcome: &mut Outcome,
) -> anyhow::Result<()> {
    let Survey { component, arches, upstream, basis, memory, .. } = survey;
    let Place { store, folder, signer, .. } = *place;
    let published = Published::read(store, folder).await?;
    let (mut published, plan) =
        plan_for(component, arches, upstream, published, *basis, store, Some(signer), memory)
            .await?;
    let builds: Vec<&Build> = plan.builds().collect();
    let bench = Bench::new(shop, component, builds.iter().copied())?;
    let running = builds
        .iter()
        .map(async |build| (*build, bring(build, theirs, &bench, place, &published).await));
    let mut running = futures::stream::iter(running).buffer_unordered(MOST);
    let mut arrived = Vec::new();
    let errors = outcome.errors.len();
    while let Some((build, brought)) = running.next().await {
        match brought {
            Ok(image) => arrived.push(image),
            Err(error) if is_raced(&error) => return Err(error),
            Err(error) => {
                let subject = format!("{} {}", component.name, build.image);
                outcome.errors.push(Told::of(&subject, error.as_ref()));
            }
        }
    }
    drop(running);
    if outcome.errors.len() > errors {
        return Ok(());
    }
    let given_up = given_up(component, &published, &plan);
    if let Some(why) = plan.sign() {
        let task = shop.progress.begin(Step::Publish, component.name.as_str());
        verbatim::serve(place, &mut published, theirs, Timestamp::now()).await?;
        task.finish(0);
        outcome.removed.extend(plan.removals().cloned());
        if arrived.is_empty() {
            outcome.signed = Some(why);
        }
    }
    // What we told nodes of it does not fit any more.
    let told = if plan.refusals.is_empty() {
        clients.keep(component, place, &mut published).await?
    } else {
        super::clients::warnings(store, component, &published)
    };
    outcome.warn(survey, told.into_iter().chain(given_up));
    arrived.sort_by(|a: &PublishedImage, b| a.image.cmp(&b.image));
    outcome.published.extend(arrived);
    let due: Vec<FileName> = plan.deletions().cloned().collect();
    let told = limit.exceeded(&component.name).filter(|_| !due.is_empty());
    if told.is_none() && !due.is_empty() {
        outcome.deleted.extend(retention::delete(place, &mut published, &due).await?);
    }
    outcome.errors.extend(told);
    Ok(())
}

/// What people should know before their signature takes the place of ours.
pub(super) fn given_up(
    component: &Component,
    published: &Published,
    plan: &Plan,
) -> Option<String> {
    let is_ours = component.is_verbatim() && !published.catalogue.verbatim;
    let is_signed = published.signatures().any(|(_, signature)| signature.is_some());
    (is_ours && is_signed && plan.sign().is_some()).then(|| {
        format!(
            "warning: {}: with `verbatim`, the signature of {}/ is no longer ours but theirs: nodes that trust the keys of [signing] alone refuse it\n  hint: give nodes their keyring; without `verbatim`, `publish sync --adopt` goes back",
            component.name, component.folder
        )
    })
}

/// Brings one file into the store, unless an earlier run did.
async fn bring(
    build: &Build,
    theirs: &Theirs,
    bench: &Bench<'_>,
    place: &Place<'_>,
    published: &Published,
) -> anyhow::Result<PublishedImage> {
    let planned = PublishedImage::planned(build);
    if verbatim::is_there(place, published, &build.image, theirs).await? {
        return Ok(planned);
    }
    let mut brought = planned;
    for made in bench.build(build).await? {
        verbatim::put(place, published, &made).await?;
        let (image, _) = made;
        // They may be larger together than the folder of temporary files; what stays there goes later.
        let _ = std::fs::remove_file(&image.path);
        brought = PublishedImage {
            size: Some(image.size),
            sha256: Some(image.sha256),
            findings: image.findings,
            ..brought
        };
    }
    Ok(brought)
}

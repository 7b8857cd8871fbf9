//! One attempt at a component: plan, build, publish, let go.
//!
//! Owns what is kept from one attempt to the next, when another publisher was faster.

use std::collections::{BTreeMap, BTreeSet};

use super::{Limit, Outcome, PublishedImage, Survey, newest, plan_for, retire};
use crate::build::{Bench, Workshop};
use crate::config::Component;
use crate::image::Image;
use crate::name::FileName;
use crate::plan::{self, Build, Plan};
use crate::report::{Step, Told, count};
use crate::repository::commit::{self, Change, CommitError, Record};
use crate::repository::shelf::Shelf;
use crate::repository::{Place, Published, retention};
use crate::version::Version;

/// Plans and does what the plan says. What was made stays made if another publisher was faster.
pub(super) async fn attempt<'s>(
    survey: &Survey<'_>,
    shop: &'s Workshop,
    place: &Place<'_>,
    limit: Limit,
    made: &mut Made<'s>,
    outcome: &mut Outcome,
) -> anyhow::Result<()> {
    let Survey { component, arches, releases, basis, .. } = survey;
    let Place { store, lock, folder, signer } = *place;
    // The plan was made before we had the lock, and a bucket has none: whoever wrote since then
    // may have done our work.
    let published = Published::read(store, folder).await?;
    let (mut published, plan) =
        plan_for(component, arches, releases, published, *basis, store, Some(signer)).await?;
    if let Some(why) = plan.sign() {
        let change = Change { sign: true, ..Change::default() };
        published = commit::commit(store, lock, folder, &published, &change, signer).await?;
        outcome.signed = Some(why);
    }
    let builds: Vec<&Build> = plan.builds().collect();
    build_all(component, shop, &builds, made, outcome).await?;
    let ready: Vec<&Build> = builds
        .into_iter()
        .filter(|build| made.images.contains_key(&build.image))
        .filter(|build| !made.broken.contains(&build.shown))
        .collect();
    publish_all(component, shop, place, &mut published, &ready, made, outcome).await?;

    // What became surplus goes by what is published now: a version that could not be built pushes
    // nothing out.
    let upstream = plan::versions_of(component, releases);
    let removed = retire(component, arches, &upstream, place, &mut published).await;
    // Files last, when nothing that is listed can need them any more.
    let due: Vec<FileName> = plan.deletions().cloned().collect();
    let told = limit.exceeded(&component.name).filter(|_| !due.is_empty());
    let deleted = match &told {
        None if !due.is_empty() && removed.is_ok() => {
            retention::delete(place, &mut published, &due).await
        }
        _ => Ok(Vec::new()),
    };
    if removed.is_ok() {
        let kept = kept(component, &plan, &published, &upstream);
        let keep = plan::worth_remembering(component, arches, releases, &plan.verdicts, &kept);
        shop.guard.ledger.retain(&component.name, keep)?;
        remember(shop).await?;
    }
    outcome.newest = newest(component, &published);
    outcome.removed.extend(removed?);
    outcome.deleted.extend(deleted?);
    outcome.errors.extend(told);
    Ok(())
}

/// The versions whose first uses are worth remembering.
fn kept(
    component: &Component,
    plan: &Plan,
    published: &Published,
    upstream: &BTreeSet<Version>,
) -> BTreeSet<Version> {
    let wanted = plan.verdicts.iter().filter(|verdict| verdict.out.is_none());
    let mut kept: BTreeSet<Version> =
        wanted.filter_map(|verdict| verdict.version.clone()).collect();
    kept.extend(Shelf::new(component, published, upstream).slots.into_keys());
    kept.extend(published.catalogue.yanked.keys().cloned());
    kept
}

/// Writes down what was met for the first time.
pub(crate) async fn remember(shop: &Workshop) -> anyhow::Result<()> {
    let guard = shop.guard.clone();
    // It may wait for another run.
    let added = tokio::task::spawn_blocking(move || guard.ledger.save()).await??;
    if added > 0 {
        let what = count(added, "digest");
        shop.progress.line(&format!("{:>10} {what} in publish.lock: commit it", "noted"));
    }
    Ok(())
}

/// What was built for a component, however often it is planned.
#[derive(Default)]
pub(super) struct Made<'s> {
    /// The folders that the images lie in.
    benches: Vec<Bench<'s>>,
    images: BTreeMap<FileName, (Image, Record)>,
    /// A version goes out for all architectures or for none: half of one would tell half of the
    /// nodes that they are behind, for good if nobody looks.
    broken: BTreeSet<Version>,
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
        .filter(|build| !made.broken.contains(&build.shown))
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
                let subject = format!("{} {} {}", component.name, build.shown, build.arch);
                outcome.errors.push(Told::of(&subject, &error));
                made.broken.insert(build.shown.clone());
            }
        }
    }
    made.benches.push(bench);
    // Before anything of it is published.
    remember(shop).await
}

/// Publishes version by version, the newest first: one that does not fit on the disk any more must
/// not keep the others from the nodes.
///
/// # Errors
/// [`CommitError::Raced`]: the rest must be planned again. Everything else is told in the outcome.
async fn publish_all(
    component: &Component,
    shop: &Workshop,
    place: &Place<'_>,
    published: &mut Published,
    ready: &[&Build],
    made: &mut Made<'_>,
    outcome: &mut Outcome,
) -> Result<(), CommitError> {
    for builds in ready.chunk_by(|a, b| a.shown == b.shown) {
        let images: Vec<_> = builds.iter().map(|build| made.images[&build.image].clone()).collect();
        let what = format!("{} {}", component.name, builds[0].shown);
        let task = shop.progress.begin(Step::Publish, &what);
        match publish(place, published, &images).await {
            Err(error @ CommitError::Raced { .. }) => return Err(error),
            Err(error) => {
                outcome.errors.push(Told::of(&what, &error));
                // Another try in this run would say the same again.
                made.broken.insert(builds[0].shown.clone());
                continue;
            }
            Ok(()) => task.finish(0),
        }
        outcome.published.extend(builds.iter().zip(&images).map(|(build, (image, _))| {
            PublishedImage {
                size: Some(image.size),
                sha256: Some(image.sha256),
                ..PublishedImage::planned(build)
            }
        }));
    }
    Ok(())
}

/// Publishes images. One whose file was waiting to be deleted is taken off that list first.
async fn publish(
    place: &Place<'_>,
    published: &mut Published,
    images: &[(Image, Record)],
) -> Result<(), CommitError> {
    let Place { store, lock, folder, signer } = *place;
    retention::reclaim(place, published, images.iter().map(|(image, _)| &image.name)).await?;
    let change = Change { images, ..Change::default() };
    *published = commit::commit(store, lock, folder, published, &change, signer).await?;
    Ok(())
}

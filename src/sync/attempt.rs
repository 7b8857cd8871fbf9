//! One attempt at a component: plan, build, publish, let go.
//!
//! Owns what is kept from one attempt to the next, when another publisher was faster.

use std::collections::{BTreeMap, BTreeSet};

use futures::stream::FuturesOrdered;
use futures::{FutureExt, StreamExt};
use jiff::Timestamp;

use super::{Limit, Outcome, PublishedImage, Survey, newest, plan_for, retire};
use crate::build::{Bench, BuildError, Workshop};
use crate::config::Component;
use crate::image::Image;
use crate::name::FileName;
use crate::plan::{self, Build, Plan};
use crate::report::{Step, Told};
use crate::repository::commit::{self, Change, CommitError, Gone, Record, Removal};
use crate::repository::yank::{self, YankError};
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
    let Survey { component, arches, releases, basis, memory, .. } = survey;
    let Place { store, lock, folder, signer } = *place;
    // The plan was made before we had the lock, and a bucket has none: whoever wrote since then
    // may have done our work.
    let published = Published::read(store, folder).await?;
    let (mut published, mut plan) =
        plan_for(component, arches, releases, published, *basis, store, Some(signer), memory)
            .await?;
    if follow_yanks(component, place, &plan, outcome).await? {
        published = Published::read(store, folder).await?;
        (published, plan) =
            plan_for(component, arches, releases, published, *basis, store, Some(signer), memory)
                .await?;
    }
    if let Some(why) = plan.sign() {
        let change = Change { sign: true, ..Change::default() };
        published = commit::commit(store, lock, folder, &published, &change, signer).await?;
        outcome.signed = Some(why);
    }
    let builds: Vec<&Build> = plan.builds().collect();
    build_and_publish(component, shop, place, &mut published, &builds, made, outcome).await?;

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
    outcome.newest = newest(component, &published);
    outcome.removed.extend(removed?);
    outcome.deleted.extend(deleted?);
    outcome.errors.extend(told);
    Ok(())
}

/// What one build made, each with what went into it.
type Images = Vec<(Image, Record)>;

/// What was built for a component, however often it is planned.
#[derive(Default)]
pub(super) struct Made<'s> {
    /// The folders that the images lie in.
    benches: Vec<Bench<'s>>,
    images: BTreeMap<FileName, Images>,
    /// A version goes out for all architectures or for none: half of one would tell half of the
    /// nodes that they are behind, for good if nobody looks.
    broken: BTreeSet<Version>,
}

/// Takes versions out that their upstream took out. Whether any went.
async fn follow_yanks(
    component: &Component,
    place: &Place<'_>,
    plan: &Plan,
    outcome: &mut Outcome,
) -> anyhow::Result<bool> {
    let mut any = false;
    for version in plan.yanks() {
        let reason = Some("upstream took it out".to_owned());
        match yank::yank(place, component, version, reason, false, Timestamp::now()).await {
            Ok(names) => {
                any = true;
                let removed = names.into_iter().map(|name| Removal { name, why: Gone::Yanked });
                outcome.removed.extend(removed);
            }
            Err(YankError::Commit(error @ CommitError::Raced { .. })) => return Err(error.into()),
            Err(error) => {
                outcome.errors.push(Told::of(&format!("{} {version}", component.name), &error));
            }
        }
    }
    Ok(any)
}

/// Builds what is not built yet, and publishes version by version as they are ready, the newest first:
/// one that does not fit on the disk any more must not keep the others from the nodes, and a run that
/// is killed leaves done what was done.
///
/// # Errors
/// [`CommitError::Raced`]: the rest must be planned again. Nearly all else is told in the outcome.
async fn build_and_publish<'s>(
    component: &Component,
    shop: &'s Workshop,
    place: &Place<'_>,
    published: &mut Published,
    builds: &[&Build],
    made: &mut Made<'s>,
    outcome: &mut Outcome,
) -> anyhow::Result<()> {
    let is_missing = |build: &&Build| {
        !made.images.contains_key(&build.image) && !made.broken.contains(&build.shown)
    };
    let missing: BTreeSet<&FileName> = builds
        .iter()
        .copied()
        .filter(|build| is_missing(build))
        .map(|build| &build.image)
        .collect();
    let bench = if missing.is_empty() {
        None
    } else {
        let missing = builds.iter().copied().filter(|build| missing.contains(&build.image));
        Some(Bench::new(shop, component, missing)?)
    };
    let versions = builds.chunk_by(|a, b| a.shown == b.shown).map(async |builds| {
        let missing = builds.iter().filter(|build| missing.contains(&build.image));
        let built = missing.zip(bench.iter().cycle());
        let built = built.map(async |(build, bench)| {
            let made = bench.build(build).await;
            for (image, _) in made.iter().flatten() {
                place.store.settle(&image.path).await;
            }
            (*build, made)
        });
        (builds, futures::future::join_all(built).await)
    });
    let mut versions: FuturesOrdered<_> = versions.collect();
    let (sender, mut ready) = futures::channel::mpsc::unbounded();
    // What is ready is published while the next versions are still on their way.
    let building = async move {
        while let Some(version) = versions.next().await {
            let _ = sender.unbounded_send(version);
        }
    };
    let publishing = async {
        let mut raced = None;
        while let Some(first) = ready.next().await {
            let mut versions = vec![first];
            // Of a mirror many may be ready at once, and each change of the manifest takes its time.
            while component.mirrored().is_some()
                && let Some(Some(next)) = ready.next().now_or_never()
            {
                versions.push(next);
            }
            let mut whole: Vec<&[&Build]> = Vec::new();
            for (builds, built) in versions {
                take_in(component, built, made, outcome);
                if !made.broken.contains(&builds[0].shown) {
                    whole.push(builds);
                }
            }
            if raced.is_none() {
                let done =
                    publish_versions(component, shop, place, published, &whole, made, outcome)
                        .await;
                raced = done.err();
            }
        }
        raced
    };
    let ((), raced) = futures::join!(building, publishing);
    made.benches.extend(bench);
    match raced {
        Some(error) => Err(error.into()),
        None => Ok(()),
    }
}

/// What became of the builds of a version.
fn take_in(
    component: &Component,
    built: Vec<(&Build, Result<Images, BuildError>)>,
    made: &mut Made<'_>,
    outcome: &mut Outcome,
) {
    for (build, result) in built {
        match result {
            Ok(images) => {
                made.images.insert(build.image.clone(), images);
            }
            Err(error) => {
                outcome.errors.push(Told::of(&subject(component, build), &error));
                made.broken.insert(build.shown.clone());
            }
        }
    }
}

fn subject(component: &Component, build: &Build) -> String {
    let Build { shown, arch, .. } = build;
    if component.image.name.uses("arch") {
        format!("{} {shown} {arch}", component.name)
    } else {
        format!("{} {shown}", component.name)
    }
}

/// Publishes the images of these versions: all in one step, or, if that cannot be, one after another.
///
/// # Errors
/// [`CommitError::Raced`]: it must be planned again. Everything else is told in the outcome.
async fn publish_versions(
    component: &Component,
    shop: &Workshop,
    place: &Place<'_>,
    published: &mut Published,
    versions: &[&[&Build]],
    made: &mut Made<'_>,
    outcome: &mut Outcome,
) -> Result<(), CommitError> {
    if versions.is_empty() {
        return Ok(());
    }
    let built = versions.concat().into_iter();
    let built = built.filter_map(|build| Some((build, made.images.get(&build.image)?)));
    let (builds, images): (Vec<&Build>, Images) = built
        .flat_map(|(build, images)| images.iter().map(move |image| (build, image.clone())))
        .unzip();
    let named = |builds: &[&Build]| format!("{} {}", component.name, builds[0].shown);
    let tasks = versions.iter().map(|builds| shop.progress.begin(Step::Publish, &named(builds)));
    let tasks: Vec<_> = tasks.collect();
    match publish(place, published, &images).await {
        Err(error @ CommitError::Raced { .. }) => return Err(error),
        Err(_) if versions.len() > 1 => {
            drop(tasks);
            for version in versions.chunks(1) {
                Box::pin(publish_versions(
                    component, shop, place, published, version, made, outcome,
                ))
                .await?;
            }
            return Ok(());
        }
        Err(error) => {
            outcome.errors.push(Told::of(&named(versions[0]), &error));
            // Another try in this run would say the same again.
            made.broken.insert(versions[0][0].shown.clone());
            return Ok(());
        }
        Ok(()) => tasks.into_iter().for_each(|task| task.finish(0)),
    }
    for (build, (image, _)) in builds.iter().zip(&images) {
        // A mirror may be larger than the folder of temporary files; what stays there goes later.
        let _ = std::fs::remove_file(&image.path);
        made.images.remove(&build.image);
        outcome.published.push(PublishedImage {
            image: image.name.clone(),
            size: Some(image.size),
            sha256: Some(image.sha256),
            ..PublishedImage::planned(build)
        });
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

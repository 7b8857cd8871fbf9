//! One attempt at a component: plan, build, publish, let go.
//!
//! Owns what is kept from one attempt to the next, when another publisher was faster.

use std::collections::{BTreeMap, BTreeSet};

use futures::stream::FuturesOrdered;
use futures::{FutureExt, StreamExt};
use jiff::Timestamp;

use super::{
    Clients, Limit, Outcome, PublishedImage, Standing, Survey, clients, newest, plan_for, retire,
    waiting,
};
use crate::build::{Bench, BuildError, Workshop};
use crate::config::Component;
use crate::image::Image;
use crate::lint::{self, Finding, Level};
use crate::name::FileName;
use crate::plan::{self, Build, Plan};
use crate::report::{Step, Told, count};
use crate::repository::commit::{self, Change, CommitError, Gone, Record, Removal};
use crate::repository::shelf::{Names, Shelf};
use crate::repository::yank::{self, YankError};
use crate::repository::{Place, Published, retention};
use crate::version::Version;

/// Plans and does what the plan says. What was made stays made if another publisher was faster. Says
/// whether something turned out not to be there yet: then it is worth another attempt, because an older
/// version may take its place.
pub(super) async fn attempt<'s>(
    survey: &Survey,
    shop: &'s Workshop,
    place: &Place<'_>,
    (limit, clients): (Limit, &Clients<'_>),
    made: &mut Made<'s>,
    outcome: &mut Outcome,
) -> anyhow::Result<bool> {
    let Survey { component, arches, upstream, basis, memory, .. } = survey;
    let Place { store, lock, folder, signer } = *place;
    // The plan was made before we had the lock, and a bucket has none: whoever wrote since then
    // may have done our work.
    let published = Published::read(store, folder).await?;
    let (mut published, mut plan) =
        plan_for(component, arches, upstream, published, *basis, store, Some(signer), memory)
            .await?;
    // Not before the folder is ours.
    if !published.catalogue.verbatim && follow_yanks(component, place, &plan, outcome).await? {
        published = Published::read(store, folder).await?;
        (published, plan) =
            plan_for(component, arches, upstream, published, *basis, store, Some(signer), memory)
                .await?;
    }
    // Whoever was followed byte for byte before is ours to sign from now on: if it may be signed.
    let was_theirs = std::mem::take(&mut published.catalogue.verbatim);
    if let Some(why) = plan.sign() {
        let change = Change { sign: true, ..Change::default() };
        published = commit::commit(store, lock, folder, &published, &change, signer).await?;
        outcome.signed = Some(why);
    }
    if was_theirs {
        published.keep_catalogue(place).await?;
    }
    if waiting::begin(&mut published, &plan) {
        published.keep_catalogue(place).await?;
    }
    outcome.waiting.clone_from(&plan.waiting);
    let builds: Vec<&Build> = plan.builds().collect();
    let builds = without_later(component, shop, builds);
    let before = published.manifest.clone();
    let absent =
        build_and_publish(survey, shop, place, &mut published, &builds, made, outcome).await?;
    let begins = waiting::tell(component, &before, &absent, &mut published, outcome);
    if begins {
        published.keep_catalogue(place).await?;
    }

    // What became surplus goes by what is published now: a version that could not be built pushes
    // nothing out.
    let removed = retire(component, arches, upstream.versions(), place, &mut published).await;
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
        let kept = kept(component, &plan, &published, upstream.versions());
        let keep = plan::worth_remembering(component, arches, upstream, &kept);
        shop.guard.ledger.retain(&component.name, keep)?;
        remember(shop).await?;
    }
    outcome.newest = newest(component, &published);
    outcome.standing = Some(Standing::of(component, &published, &plan));
    // What was told before a commit is told once.
    if outcome.published.is_empty() && !made.misled {
        outcome.errors.extend(clients::misled(survey, &published.manifest));
    } else if !outcome.published.is_empty() {
        outcome.errors.extend(clients::read_back(survey, place, &published).await?);
    }
    if !component.is_verbatim() {
        outcome.warn(survey, clients.keep(component, place, &mut published).await?);
    }
    outcome.removed.extend(removed?);
    outcome.deleted.extend(deleted?);
    outcome.errors.extend(told);
    Ok(begins)
}

/// Leaves out what came up only after other machines were told what to build: it is the next run's.
fn without_later<'b>(
    component: &Component,
    shop: &Workshop,
    builds: Vec<&'b Build>,
) -> Vec<&'b Build> {
    let Some(stage) = shop.stage.as_ref().filter(|_| component.mirrored().is_none()) else {
        return builds;
    };
    let is_later = |build: &&Build| stage.is_later(&component.name, &build.image);
    let (later, now): (Vec<_>, Vec<_>) = builds.into_iter().partition(is_later);
    for build in later {
        let image = &build.image;
        shop.progress.line(&format!("{:>10} {image}: it came up after the plan", "left"));
    }
    now
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
    kept.extend(Shelf::new(component, published, upstream).slots.keys().cloned());
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

/// What one build made, each with what went into it.
type Images = Vec<(Image, Record)>;

/// What was built for a component, however often it is planned.
#[derive(Default)]
pub(super) struct Made<'s> {
    /// The folders that the images lie in.
    benches: Vec<Bench<'s>>,
    images: BTreeMap<FileName, Images>,
    /// A version goes out for all architectures or for none: half of one would tell half of the
    /// nodes that they are behind, for good if nobody looks. `partial` says that they may.
    broken: BTreeSet<Version>,
    /// Whether something was not published because nodes would have been misled.
    misled: bool,
    /// Whose files are not there yet: not asked for again in this run.
    absent: BTreeSet<FileName>,
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
/// is killed leaves done what was done. Gives the builds whose files are not there.
///
/// # Errors
/// [`CommitError::Raced`]: the rest must be planned again. Nearly all else is told in the outcome.
async fn build_and_publish<'s, 'b>(
    survey: &Survey,
    shop: &'s Workshop,
    place: &Place<'_>,
    published: &mut Published,
    builds: &[&'b Build],
    made: &mut Made<'s>,
    outcome: &mut Outcome,
) -> anyhow::Result<Vec<Absent<'b>>> {
    let component = &survey.component;
    let is_missing = |build: &&Build| {
        !made.images.contains_key(&build.image)
            && !made.broken.contains(&build.shown)
            && !made.absent.contains(&build.image)
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
    let mut absent = Vec::new();
    let publishing = async {
        let mut stopped = Ok(());
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
                absent.extend(take_in(component, shop, published, built, made, outcome));
                let is_there = builds.iter().any(|build| made.images.contains_key(&build.image));
                if is_there && !made.broken.contains(&builds[0].shown) {
                    whole.push(builds);
                }
            }
            if stopped.is_ok() {
                // Before anything of it is published.
                stopped = remember(shop).await;
            }
            if stopped.is_ok() {
                let done = publish_versions(survey, shop, place, published, &whole, made, outcome);
                stopped = done.await.map_err(Into::into);
            }
        }
        stopped
    };
    let ((), stopped) = futures::join!(building, publishing);
    made.benches.extend(bench);
    if stopped.is_err() {
        // They are told by the attempt that comes to its end.
        for (build, _) in &absent {
            made.absent.remove(&build.image);
            made.broken.remove(&build.shown);
        }
    }
    stopped.map(|()| absent)
}

/// A build whose files are not there yet, and how that was told.
type Absent<'b> = (&'b Build, BuildError);

/// What became of the builds of a version; gives those whose files are not there.
fn take_in<'b>(
    component: &Component,
    shop: &Workshop,
    published: &Published,
    built: Vec<(&'b Build, Result<Images, BuildError>)>,
    made: &mut Made<'_>,
    outcome: &mut Outcome,
) -> Vec<Absent<'b>> {
    let mut absent = Vec::new();
    for (build, result) in built {
        match result {
            Ok(mut images) => {
                let subject = subject(component, build);
                let findings =
                    images.iter().map(|(image, _)| weigh(component, published, build, image));
                let findings: Vec<Option<Finding>> = findings.collect();
                let too_odd = findings.iter().flatten().find(|found| found.level == Level::Error);
                if let Some(finding) = too_odd {
                    outcome.errors.push(refused(&subject, finding));
                    made.broken.insert(build.shown.clone());
                    continue;
                }
                for ((image, _), finding) in images.iter_mut().zip(findings) {
                    for line in lint::warnings(&subject, finding.as_slice()) {
                        shop.progress.line(&line);
                    }
                    image.findings.extend(finding);
                }
                made.images.insert(build.image.clone(), images);
            }
            Err(error) if waiting::is_absent(component, build, &error) => {
                made.absent.insert(build.image.clone());
                if !component.versions.partial {
                    made.broken.insert(build.shown.clone());
                }
                absent.push((build, error));
            }
            Err(error) => {
                outcome.errors.push(Told::of(&subject(component, build), &error));
                made.broken.insert(build.shown.clone());
            }
        }
    }
    absent
}

/// Compares an image's size with that of the version before, as clients order them.
fn weigh(
    component: &Component,
    published: &Published,
    build: &Build,
    image: &Image,
) -> Option<Finding> {
    // The other files of a version, of which names alone do not tell the version before.
    if image.name != build.image {
        return None;
    }
    let names = Names::of(component);
    let before = published.manifest.files().filter_map(|(name, _)| {
        let (version, arch) = names.read(name)?;
        (arch == build.arch && version < build.shown).then_some((version, name))
    });
    let (_, name) = before.max_by(|(one, _), (other, _)| one.cmp(other))?;
    component.lint.settle(lint::judge_size(image.size, published.size(name)?)?)
}

fn refused(subject: &str, finding: &Finding) -> Told {
    Told {
        message: format!("{subject}: {} [{}]", finding.message, finding.lint),
        causes: Vec::new(),
        hint: Some("if that is right, name it in [lint] allow for once".to_owned()),
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
    survey: &Survey,
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
    let component = &survey.component;
    let built = versions.concat().into_iter();
    let built = built.filter_map(|build| Some((build, made.images.get(&build.image)?)));
    let (builds, images): (Vec<&Build>, Images) = built
        .flat_map(|(build, images)| images.iter().map(move |image| (build, image.clone())))
        .unzip();
    let named = |builds: &[&Build]| format!("{} {}", component.name, builds[0].shown);
    let tasks = versions.iter().map(|builds| shop.progress.begin(Step::Publish, &named(builds)));
    let tasks: Vec<_> = tasks.collect();
    let told = clients::foretold(survey, published, &images);
    let done = if told.is_empty() {
        publish(place, published, &images).await.map_err(Some)
    } else {
        Err(None)
    };
    match done {
        Err(Some(error @ CommitError::Raced { .. })) => return Err(error),
        Err(_) if versions.len() > 1 => {
            drop(tasks);
            for version in versions.chunks(1) {
                Box::pin(publish_versions(survey, shop, place, published, version, made, outcome))
                    .await?;
            }
            return Ok(());
        }
        Err(error) => {
            made.misled |= error.is_none();
            outcome.errors.extend(told);
            outcome.errors.extend(error.map(|error| Told::of(&named(versions[0]), &error)));
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
            findings: image.findings.clone(),
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

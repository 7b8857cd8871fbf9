//! One attempt at a component: plan, build, publish, let go.
//!
//! Owns what is kept from one attempt to the next, when another publisher was faster.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Clients, Limit, Outcome, PublishedImage, Survey, clients, newest, plan_for, retire, waiting,
};
use crate::build::{Bench, BuildError, Workshop};
use crate::config::Component;
use crate::image::Image;
use crate::lint::{self, Finding, Level};
use crate::name::FileName;
use crate::plan::{self, Build, Plan};
use crate::report::{Step, Told, count};
use crate::repository::commit::{self, Change, CommitError, Record};
use crate::repository::shelf::{Names, Shelf};
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
    let Survey { component, arches, upstream, basis, .. } = survey;
    let Place { store, lock, folder, signer } = *place;
    // The plan was made before we had the lock, and a bucket has none: whoever wrote since then
    // may have done our work.
    let published = Published::read(store, folder).await?;
    let (mut published, plan) =
        plan_for(component, arches, upstream, published, *basis, store, Some(signer)).await?;
    if let Some(why) = plan.sign() {
        let change = Change { sign: true, ..Change::default() };
        published = commit::commit(store, lock, folder, &published, &change, signer).await?;
        outcome.signed = Some(why);
    }
    if waiting::begin(&mut published, &plan) {
        published.keep_catalogue(place).await?;
    }
    outcome.waiting.clone_from(&plan.waiting);
    let builds: Vec<&Build> = plan.builds().collect();
    let absent = build_all(component, shop, &published, &builds, made, outcome).await?;
    let begins = waiting::tell(component, &absent, &mut published, outcome);
    if begins {
        published.keep_catalogue(place).await?;
    }
    let ready: Vec<&Build> = builds
        .into_iter()
        .filter(|build| made.images.contains_key(&build.image))
        .filter(|build| !made.broken.contains(&build.shown))
        .collect();
    publish_all(survey, shop, place, &mut published, &ready, made, outcome).await?;

    // What became surplus goes by what is published now: a version that could not be built pushes
    // nothing out.
    let removed = retire(component, arches, &upstream.versions(), place, &mut published).await;
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
        let kept = kept(component, &plan, &published, &upstream.versions());
        let keep = plan::worth_remembering(component, arches, upstream, &kept);
        shop.guard.ledger.retain(&component.name, keep)?;
        remember(shop).await?;
    }
    outcome.newest = newest(component, &published);
    // What was told before a commit is told once.
    if outcome.published.is_empty() && !made.misled {
        outcome.errors.extend(clients::misled(survey, &published.manifest));
    } else if !outcome.published.is_empty() {
        outcome.errors.extend(clients::read_back(survey, place, &published).await?);
    }
    for note in clients.keep(component, place, &mut published).await? {
        shop.progress.line(&note);
    }
    outcome.removed.extend(removed?);
    outcome.deleted.extend(deleted?);
    outcome.errors.extend(told);
    Ok(begins)
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

/// What was built for a component, however often it is planned.
#[derive(Default)]
pub(super) struct Made<'s> {
    /// The folders that the images lie in.
    benches: Vec<Bench<'s>>,
    images: BTreeMap<FileName, (Image, Record)>,
    /// A version goes out for all architectures or for none: half of one would tell half of the
    /// nodes that they are behind, for good if nobody looks. `partial` says that they may.
    broken: BTreeSet<Version>,
    /// Whether something was not published because nodes would have been misled.
    misled: bool,
    /// Whose files are not there yet: not asked for again in this run.
    absent: BTreeSet<FileName>,
}

/// Builds what is not built yet; gives the builds whose files are not there.
async fn build_all<'s, 'b>(
    component: &Component,
    shop: &'s Workshop,
    published: &Published,
    builds: &[&'b Build],
    made: &mut Made<'s>,
    outcome: &mut Outcome,
) -> anyhow::Result<Vec<(&'b Build, BuildError)>> {
    let missing: Vec<&Build> = builds
        .iter()
        .copied()
        .filter(|build| !made.images.contains_key(&build.image))
        .filter(|build| !made.broken.contains(&build.shown))
        .filter(|build| !made.absent.contains(&build.image))
        .collect();
    let mut absent = Vec::new();
    if missing.is_empty() {
        return Ok(absent);
    }
    let bench = Bench::new(shop, component, missing.iter().copied())?;
    let running = missing.into_iter().map(async |build| (build, bench.build(build).await));
    for (build, result) in futures::future::join_all(running).await {
        match result {
            Ok((mut image, record)) => {
                let subject = format!("{} {} {}", component.name, build.shown, build.arch);
                match weigh(component, published, build, &image) {
                    Some(finding) if finding.level == Level::Error => {
                        outcome.errors.push(refused(&subject, &finding));
                        made.broken.insert(build.shown.clone());
                        continue;
                    }
                    Some(finding) => {
                        for line in lint::warnings(&subject, std::slice::from_ref(&finding)) {
                            shop.progress.line(&line);
                        }
                        image.findings.push(finding);
                    }
                    None => {}
                }
                made.images.insert(build.image.clone(), (image, record));
            }
            Err(error) if waiting::is_absent(build, &error) => {
                made.absent.insert(build.image.clone());
                if !component.versions.partial {
                    made.broken.insert(build.shown.clone());
                }
                absent.push((build, error));
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
    remember(shop).await?;
    Ok(absent)
}

/// Compares an image's size with that of the version before, as clients order them.
fn weigh(
    component: &Component,
    published: &Published,
    build: &Build,
    image: &Image,
) -> Option<Finding> {
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

/// Publishes version by version, the newest first: one that does not fit on the disk any more must
/// not keep the others from the nodes.
///
/// # Errors
/// [`CommitError::Raced`]: the rest must be planned again. Everything else is told in the outcome.
async fn publish_all(
    survey: &Survey,
    shop: &Workshop,
    place: &Place<'_>,
    published: &mut Published,
    ready: &[&Build],
    made: &mut Made<'_>,
    outcome: &mut Outcome,
) -> Result<(), CommitError> {
    for builds in ready.chunk_by(|a, b| a.shown == b.shown) {
        let images: Vec<_> = builds.iter().map(|build| made.images[&build.image].clone()).collect();
        let what = format!("{} {}", survey.component.name, builds[0].shown);
        let told = clients::foretold(survey, published, &images);
        if !told.is_empty() {
            outcome.errors.extend(told);
            made.misled = true;
            made.broken.insert(builds[0].shown.clone());
            continue;
        }
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
                findings: image.findings.clone(),
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

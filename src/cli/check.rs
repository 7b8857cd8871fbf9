//! `publish build --check`: builds a published version again, and compares.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use anyhow::{Context as _, bail};
use serde::Serialize;

use super::build::{asked_for, find};
use super::{Context, Ended, print, print_json};
use crate::build::Bench;
use crate::name::{Arch, ComponentName, FileName, Sha256};
use crate::report::{Told, say};
use crate::repository::commit::Record;
use crate::repository::shelf::{Names, Shelf};
use crate::store::{Access, Store};
use crate::sync;
use crate::version::Version;

#[derive(Serialize)]
struct Result<'a> {
    component: &'a ComponentName,
    /// Not `version`: that is the document's own.
    release: &'a str,
    images: Vec<Compared>,
    errors: Vec<Told>,
}

#[derive(Serialize)]
struct Compared {
    image: FileName,
    arch: Arch,
    same: bool,
    published: Sha256,
    built: Sha256,
    /// What is not as it was when the image was published.
    differences: Vec<String>,
}

pub(super) async fn run(
    context: &Context,
    name: &ComponentName,
    version: &str,
    arches: &[Arch],
) -> anyhow::Result<Ended> {
    let config = context.load()?;
    let component = config.component(name)?;
    let shop = sync::workshop(&config, &context.progress)?;
    let store = Store::configured(&config, Access::Read)?;
    let mut survey = sync::survey(&config, component, &shop, &store, None)
        .await
        .with_context(|| format!("{name}: cannot build"))?;
    super::plan::warn(&survey);

    // Somebody may name a version that no plan wants any more.
    let names = Names::of(component);
    let listed: Vec<FileName> =
        survey.published.manifest.files().map(|(name, _)| name.clone()).collect();
    let listed = listed.into_iter().filter(|name| names.read(name).is_some());
    survey.published.read_records(&store, &component.folder, listed).await?;
    let shelf = Shelf::new(component, &survey.published, survey.upstream.versions());
    let is_meant = |release: &Version, revision: u32| {
        release.revised(revision).is_ok_and(|shown| shown.as_str() == version)
    };
    let found = shelf.images().find(|(release, revision, ..)| is_meant(release, *revision));
    let Some((release, revision, ..)) = found else {
        let shown: BTreeSet<String> = shelf
            .images()
            .filter_map(|(release, revision, ..)| release.revised(revision).ok().map(String::from))
            .collect();
        let shown: Vec<String> = shown.into_iter().collect();
        let hint = if shown.is_empty() { "nothing is".to_owned() } else { shown.join(", ") };
        bail!("{name}: version `{version}` is not published\nhint: published: {hint}");
    };
    let Some(candidate) = find(&survey, Some(release.as_str())) else {
        bail!(
            "{name}: upstream has no version `{release}` any more\nhint: what it was made from is in .publish/images/{}/",
            component.folder
        );
    };

    let files = &shelf.slots[release][&revision];
    let wanted: Vec<(Arch, String)> = survey
        .arches
        .iter()
        .filter(|(arch, _)| files.contains_key(arch))
        .filter(|(arch, _)| arches.is_empty() || arches.contains(arch))
        .cloned()
        .collect();
    let jobs = asked_for(&survey, &wanted, &candidate, revision)?;
    if jobs.is_empty() {
        bail!("{name}: version `{version}` is not published for any of these architectures");
    }
    let bench = Bench::new(&shop, component, &jobs)?;
    let results = futures::future::join_all(jobs.iter().map(|job| bench.build(job))).await;
    let (mut images, mut errors) = (Vec::new(), Vec::new());
    for (job, result) in jobs.iter().zip(results) {
        match result {
            Ok(made) => images.extend(made.into_iter().map(|(image, record)| {
                let published = survey.published.manifest.get(&image.name).unwrap_or(image.sha256);
                let same = published == image.sha256;
                let before = survey.published.record(&image.name);
                Compared {
                    arch: job.arch,
                    same,
                    published,
                    built: image.sha256,
                    differences: if same { Vec::new() } else { differences(before, &record) },
                    image: image.name,
                }
            })),
            Err(error) => {
                let told = Told::of(&format!("{name} {version} {}", job.arch), &error);
                say(&told.text());
                errors.push(told);
            }
        }
    }
    let same = errors.is_empty() && images.iter().all(|image| image.same);
    if context.json {
        print_json("check", &Result { component: name, release: version, images, errors })?;
    } else {
        print(&text(&images))?;
    }
    Ok(if same { Ended::Well } else { Ended::Partly })
}

fn text(images: &[Compared]) -> String {
    let mut out = String::new();
    for image in images {
        let what = if image.same { "same" } else { "different" };
        let _ = writeln!(out, "{}: {what}", image.image);
        if !image.same {
            let _ = writeln!(out, "  published  {}\n  built      {}", image.published, image.built);
            for difference in &image.differences {
                let _ = writeln!(out, "  {difference}");
            }
        }
    }
    out
}

/// What is not as it was when the image was published.
fn differences(before: Option<&Record>, now: &Record) -> Vec<String> {
    let Some(before) = before else {
        return vec!["how it was made is not known: it has no record".to_owned()];
    };
    let mut found = Vec::new();
    for input in &now.inputs {
        match before.inputs.iter().find(|other| other.from == input.from) {
            None => found.push(format!("{} was not fetched then", input.from)),
            Some(other) if other.sha256 != input.sha256 => found.push(format!(
                "{} had SHA-256 {} then, and has {} now",
                input.from, other.sha256, input.sha256
            )),
            Some(_) => {}
        }
    }
    let gone = before
        .inputs
        .iter()
        .filter(|other| now.inputs.iter().all(|input| input.from != other.from));
    found.extend(gone.map(|other| format!("{} is not fetched any more", other.from)));
    match before.recipe {
        None => found.push("by which recipe it was made is not known".to_owned()),
        recipe if recipe != now.recipe => {
            found
                .push("the recipe is another one: the component or its overlay changed".to_owned());
        }
        Some(_) => {}
    }
    if before.tool != now.tool {
        found.push(format!("{} made it, this is {}", before.tool, now.tool));
    }
    if found.is_empty() {
        found.push("recipe, inputs and program are the same: please report this".to_owned());
    }
    found
}

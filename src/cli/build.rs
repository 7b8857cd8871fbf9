//! `publish build`: images of one component in a folder of the user's choice.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use jiff::Timestamp;
use serde::Serialize;

use super::{Context, Ended, Usage, print, print_json};
use crate::build::Bench;
use crate::config::build::TestRule;
use crate::config::{Component, Count};
use crate::image::Image;
use crate::lint::Finding;
use crate::name::{Arch, ComponentName, Sha256};
use crate::plan::{self, Asked, Build, Candidate};
use crate::report::{Told, human_size, say};
use crate::store::{Access, Store};
use crate::sync::{self, Survey};
use crate::trial::{self, Tried};
use crate::version::Version;

#[derive(Serialize)]
struct Result {
    component: ComponentName,
    /// Not `version`: that is the document's own.
    release: Version,
    images: Vec<Built>,
}

#[derive(Serialize)]
struct Built {
    arch: Arch,
    path: String,
    sha256: Sha256,
    size: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    findings: Vec<Finding>,
    #[serde(skip_serializing_if = "Option::is_none")]
    test: Option<Tried>,
}

/// What somebody wants built.
pub(super) struct Wish {
    /// The newest, if left out.
    pub(super) version: Option<String>,
    /// All, if there is none.
    pub(super) arches: Vec<Arch>,
    /// Where to.
    pub(super) output: PathBuf,
    /// Whether publish.lock must know all of it.
    pub(super) locked: bool,
    /// What the images are tried over, if they are.
    pub(super) base: Option<PathBuf>,
}

pub(super) async fn run(
    context: &Context,
    name: &ComponentName,
    wish: &Wish,
) -> anyhow::Result<Ended> {
    let (Wish { arches, output, locked, base, .. }, version) = (wish, wish.version.as_deref());
    let mut config = context.load()?;
    config.document.trust.locked |= locked;
    let component = config.component(name)?;
    let test = base.as_ref().map(|base| over(base, component)).transpose()?;
    let shop = sync::workshop(&config, &context.progress)?;
    let store = Store::configured(&config, Access::Read)?;
    let survey = sync::survey(&config, component, &shop, &store, None)
        .await
        .with_context(|| format!("{name}: cannot build"))?;
    super::plan::warn(&survey);

    let Some(candidate) = find(&survey, version) else {
        match version {
            Some(version) => {
                bail!(
                    "{name}: upstream has no version `{version}` that the component wants\nhint: `publish plan -v` lists what it has, and why it is left out"
                )
            }
            None => bail!(
                "{name}: upstream has no version that the component wants\nhint: `publish plan -v` lists what it has, and why it is left out"
            ),
        }
    };
    let wanted: Vec<_> = survey
        .arches
        .iter()
        .filter(|(arch, _)| arches.is_empty() || arches.contains(arch))
        .cloned()
        .collect();
    if let Some(missing) =
        arches.iter().find(|arch| !wanted.iter().any(|(known, _)| known == *arch))
    {
        bail!(
            "{name} is not built for {missing}\nhint: add it to [repository] architectures and to the component's [arch]"
        );
    }

    fs::create_dir_all(output).with_context(|| format!("cannot make {}", output.display()))?;
    let version = candidate.version.clone();
    let jobs = asked_for(&survey, &wanted, &candidate, 0)?;
    let jobs: Vec<Build> = jobs.into_iter().map(|job| Build { time: None, ..job }).collect();
    let bench = Bench::new(&shop, component, &jobs)?;
    let results = futures::future::join_all(jobs.iter().map(|job| bench.build(job))).await;
    let mut built = Vec::new();
    let mut failed = false;
    for (job, result) in jobs.iter().zip(results) {
        match result {
            Ok(images) => {
                for (image, _) in images {
                    let mut image = deliver(&image, job.arch, output)?;
                    if let Some((base, rule)) = test {
                        let at = (job.upstream.as_str(), job.arch);
                        match trial::try_out(Path::new(&image.path), at, rule, base).await {
                            Ok(tried) => image.test = Some(tried),
                            Err(error) => {
                                let subject = format!("{name} {version} {}: the test", job.arch);
                                say(&Told::of(&subject, &error).text());
                                image.test = Some(Tried::Failed);
                                failed = true;
                            }
                        }
                    }
                    built.push(image);
                }
            }
            Err(error) => {
                let subject = format!("{name} {version} {}", job.arch);
                say(&Told::of(&subject, &error).text());
                failed = true;
            }
        }
    }
    sync::remember(&shop).await?;
    if context.json {
        print_json("build", &Result { component: name.clone(), release: version, images: built })?;
    } else {
        let mut out = String::new();
        for image in &built {
            let _ = writeln!(out, "{}  {}  {}", image.sha256, image.path, human_size(image.size));
            match &image.test {
                Some(Tried::Passed(said)) => {
                    let said = said.first().map_or(String::new(), |line| format!(": {line}"));
                    let _ = writeln!(out, "  tested{said}");
                }
                Some(Tried::Skipped(why)) => {
                    let _ = writeln!(out, "  not tested: {why}");
                }
                Some(Tried::Failed) => out.push_str("  the test failed\n"),
                None => {}
            }
        }
        print(&out)?;
    }
    Ok(if failed { Ended::Partly } else { Ended::Well })
}

/// What images are tried over and how, looked at before any is built.
fn over<'a>(base: &'a Path, component: &'a Component) -> anyhow::Result<(&'a Path, &'a TestRule)> {
    let name = &component.name;
    let Some(rule) = &component.test else {
        return Err(Usage(format!(
            "{name} has no [test]\nhint: add one to its file: [test] run = [\"usr/bin/{name}\", \"--version\"]"
        ))
        .into());
    };
    let problem = match fs::metadata(base) {
        Err(error) => error.to_string(),
        Ok(found) if !found.is_dir() => "it is not a folder".to_owned(),
        Ok(_) if !base.join("usr").is_dir() => "it has no usr/".to_owned(),
        Ok(_) => return Ok((base, rule)),
    };
    let base = base.display();
    Err(Usage(format!(
        "{base}: nothing to try an image over: {problem}\nhint: --base takes the root of a system, such as one that debootstrap made; left out, it is this machine's own"
    ))
    .into())
}

/// The release that somebody asks for. Who names a version may want one that retention would not
/// keep, or that was yanked.
pub(super) fn find(survey: &Survey, version: Option<&str>) -> Option<Candidate> {
    let mut wide = Component::clone(&survey.component);
    if version.is_some() {
        wide.versions.newest = Count::MOST;
        wide.versions.per = None;
        wide.versions.min_age = None;
        wide.versions.pin = None;
    }
    let upstream = survey.upstream.by(&wide, Timestamp::now());
    let selection = plan::select(&wide.versions, &upstream, &Asked::NOTHING);
    selection.wanted.into_iter().find(|candidate| {
        version.is_none_or(|wanted| {
            [candidate.version.as_str(), &candidate.upstream, &candidate.release.tag]
                .contains(&wanted)
        })
    })
}

/// The builds of a release that somebody asks for.
///
/// # Errors
/// It has no image that could be built.
pub(super) fn asked_for(
    survey: &Survey,
    arches: &[(Arch, String)],
    candidate: &Candidate,
    revision: u32,
) -> anyhow::Result<Vec<Build>> {
    let Survey { component, upstream, published, basis, .. } = survey;
    let builds =
        plan::asked_for(component, arches, upstream, published, *basis, candidate, revision);
    builds
        .map_err(|refusal| anyhow::anyhow!("{}: {refusal}\nhint: {}", component.name, refusal.hint))
}

/// Copies a finished image to its place, where it appears whole or not at all.
fn deliver(image: &Image, arch: Arch, output: &Path) -> anyhow::Result<Built> {
    let to = output.join(image.name.as_str());
    let half = output.join(format!(".{}.part", image.name));
    // A second name costs nothing, where both folders are on one file system.
    let linked = fs::hard_link(&image.path, &half);
    let copied = linked.or_else(|_| fs::copy(&image.path, &half).map(drop));
    let copied = copied.and_then(|()| fs::rename(&half, &to));
    if copied.is_err() {
        let _ = fs::remove_file(&half);
    }
    copied.with_context(|| format!("cannot write {}", to.display()))?;
    let Image { sha256, size, findings, .. } = image.clone();
    Ok(Built { arch, path: to.display().to_string(), sha256, size, findings, test: None })
}

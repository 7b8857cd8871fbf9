//! `publish build --staged`: what a job of a matrix builds, for the last job to publish.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::{Context, Ended, Usage, print, print_json};
use crate::build::{Bench, BuildError, Workshop};
use crate::config::Config;
use crate::name::{Arch, ComponentName, FileName, Sha256};
use crate::plan::Build;
use crate::report::{Told, human_size, say};
use crate::stage::{self, Order};
use crate::sync;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Build what a job of `publish plan --matrix` orders, into this folder;
    /// the store is not asked
    #[arg(
        long,
        value_name = "DIR",
        conflicts_with_all = ["name", "version", "arch", "output", "check", "test"]
    )]
    staged: Option<PathBuf>,
    /// The `job` of an entry of the matrix [default: `$PUBLISH_JOB`]
    #[arg(long, value_name = "JSON", requires = "staged")]
    job: Option<String>,
    /// The entry with this number, of the matrix that `publish plan --staged`
    /// kept in the folder
    #[arg(long, value_name = "N", requires = "staged", conflicts_with = "job")]
    index: Option<usize>,
}

#[derive(Serialize)]
struct Result {
    images: Vec<Staged>,
    errors: Vec<Told>,
}

#[derive(Serialize)]
struct Staged {
    component: ComponentName,
    /// Not `version`: that is the document's own.
    release: String,
    arch: Arch,
    image: FileName,
    path: String,
    sha256: Sha256,
    size: u64,
}

pub(super) async fn run(context: &Context, args: &Args, locked: bool) -> anyhow::Result<Ended> {
    let Some(folder) = &args.staged else {
        return Err(Usage("no component is named".to_owned()).into());
    };
    let mut config = context.load()?;
    unserved(&config, folder)?;
    let orders = orders(args, folder)?;
    config.document.trust.locked |= locked;
    let shop = sync::workshop(&config, &context.progress)?;
    let mut by_component: BTreeMap<&ComponentName, Vec<&Order>> = BTreeMap::new();
    for order in &orders {
        config.component(&order.component)?;
        by_component.entry(&order.component).or_default().push(order);
    }
    let mut result = Result { images: Vec::new(), errors: Vec::new() };
    for (name, orders) in by_component {
        build_all(&config, &shop, name, &orders, folder, &mut result).await?;
    }
    for told in &result.errors {
        say(&told.text());
    }
    let ended = if result.errors.is_empty() { Ended::Well } else { Ended::Partly };
    if context.json {
        print_json("build", &result)?;
    } else {
        let mut out = String::new();
        for image in &result.images {
            let _ = writeln!(out, "{}  {}  {}", image.sha256, image.path, human_size(image.size));
        }
        print(&out)?;
    }
    Ok(ended)
}

/// What is staged is not published yet, and may never be.
pub(super) fn unserved(config: &Config, folder: &Path) -> anyhow::Result<()> {
    if config.serves(folder) {
        let message = format!(
            "--staged {} is in the store, where everybody may read it\nhint: take a folder beside it",
            folder.display()
        );
        return Err(Usage(message).into());
    }
    Ok(())
}

/// What is ordered, by an argument, the environment, or the folder.
fn orders(args: &Args, folder: &Path) -> anyhow::Result<Vec<Order>> {
    let usage = |problem: String| anyhow::Error::from(Usage(problem));
    let from = match (&args.job, args.index) {
        (Some(job), _) => job.clone(),
        (None, Some(index)) => {
            let missing = || {
                format!(
                    "{} is not there\nhint: `publish plan --matrix --staged {}` keeps it",
                    folder.join(stage::PLAN).display(),
                    folder.display()
                )
            };
            let matrix = stage::read_plan(folder)?.ok_or_else(|| usage(missing()))?;
            let number = matrix.include.len();
            let entry = matrix.include.into_iter().nth(index);
            entry
                .ok_or_else(|| usage(format!("the matrix has {number} jobs, and none is {index}")))?
                .job
        }
        (None, None) => std::env::var("PUBLISH_JOB").map_err(|_| {
            usage(
                "no job is given\nhint: --job takes the `job` of an entry of `publish plan --matrix`, and so does $PUBLISH_JOB; --index takes its number"
                    .to_owned(),
            )
        })?,
    };
    Order::read_all(&from)
        .map_err(|problem| usage(format!("this is no job of `publish plan --matrix`: {problem}")))
}

/// Builds what is ordered of one component. What cannot be built is told in the folder, too.
async fn build_all(
    config: &Config,
    shop: &Workshop,
    name: &ComponentName,
    orders: &[&Order],
    folder: &Path,
    result: &mut Result,
) -> anyhow::Result<()> {
    let component = config.component(name)?;
    if component.mirrored().is_some() {
        return Err(Usage(format!("{name} is a mirror: `publish sync` copies it itself")).into());
    }
    let ordered = match sync::ordered(config, component, shop, orders).await {
        Ok(ordered) => ordered,
        Err(error) => {
            let told = Told::of(name.as_str(), error.as_ref());
            vec![Err(told); orders.len()]
        }
    };
    let mut builds: Vec<(&Order, Build)> = Vec::new();
    for (order, ordered) in orders.iter().zip(ordered) {
        match ordered {
            Ok(build) => builds.push((order, build)),
            Err(told) => {
                stage::leave_failure(folder, order, told.clone(), None)?;
                result.errors.push(told);
            }
        }
    }
    let bench = Bench::new(shop, component, builds.iter().map(|(_, build)| build))?;
    let made = builds.iter().map(|(_, build)| bench.build(build));
    for ((order, _), made) in builds.iter().zip(futures::future::join_all(made).await) {
        match made {
            Ok(images) => {
                for (image, record) in images {
                    let path = stage::leave(folder, order, &image, &record)?;
                    result.images.push(Staged {
                        component: name.clone(),
                        release: order.shown(),
                        arch: order.arch,
                        image: image.name,
                        path: path.display().to_string(),
                        sha256: image.sha256,
                        size: image.size,
                    });
                }
            }
            Err(error) => fail(order, &error, folder, shop, result)?,
        }
    }
    Ok(())
}

/// Tells of a build that failed. Whether a file of a new release may still be waited for, the sync
/// knows: the job has done what it could.
fn fail(
    order: &Order,
    error: &BuildError,
    folder: &Path,
    shop: &Workshop,
    result: &mut Result,
) -> anyhow::Result<()> {
    let told = Told::of(&stage::subject(&order.component, &order.shown(), order.arch), error);
    let absent = sync::lacking(error).filter(|_| order.new);
    stage::leave_failure(folder, order, told.clone(), absent.clone())?;
    match absent {
        Some(file) => {
            let image = &order.image;
            shop.progress.line(&format!("{:>10} {image}: upstream has no `{file}` yet", "left"));
        }
        None => result.errors.push(told),
    }
    Ok(())
}

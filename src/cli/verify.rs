//! `publish verify`

use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::bail;
use serde::Serialize;
use url::Url;

use super::{Context, Ended, print, print_json};
use crate::config::{Component, Config, Limits, Network, StoreUrl};
use crate::fetch::Client;
use crate::fetch::cache::Cache;
use crate::name::Arch;
use crate::report::{Told, count, human_size, say};
use crate::repository::verify::{self, Origin, Target, Verified, VerifyError};
use crate::template::{Matcher, Vars};

#[derive(Serialize)]
struct Result {
    target: String,
    right: bool,
    folders: Vec<Verified>,
    errors: Vec<Told>,
}

pub(super) async fn run(context: &Context, target: Option<&str>) -> anyhow::Result<Ended> {
    let config = match context.load() {
        Ok(config) => Some(config),
        // Somebody else's repository needs no configuration; one that was named must be right.
        Err(_) if target.is_some() && context.config.is_none() && context.only.is_empty() => None,
        Err(error) => return Err(error.into()),
    };
    let (network, limits) = config.as_ref().map_or_else(
        || (Network::default(), Limits::default()),
        |config| (config.document.network.clone(), config.document.limits.clone()),
    );
    let client = Client::new(&network, &limits);
    let origin = origin(target, config.as_ref())?;
    let targets = targets(&origin, target, config.as_ref(), context, &client).await?;

    let mut folders = Vec::new();
    let mut errors = Vec::new();
    for target in &targets {
        match verify::verify(&origin, target, &client, network.concurrency.get(), &context.progress)
            .await
        {
            Ok(verified) => folders.push(verified),
            Err(error) => errors.push(Told::of(&shown(&target.folder), &error)),
        }
    }
    for told in &errors {
        say(&told.text());
    }
    let right = errors.is_empty() && folders.iter().all(|folder| folder.problems.is_empty());
    let result = Result {
        target: match &origin {
            Origin::Directory(path) => path.display().to_string(),
            Origin::Url(url) => url.to_string(),
        },
        right,
        folders,
        errors,
    };
    if context.json {
        print_json("verify", &result)?;
    } else {
        print(&text(&result))?;
    }
    Ok(if right { Ended::Well } else { Ended::Partly })
}

fn origin(target: Option<&str>, config: Option<&Config>) -> anyhow::Result<Origin> {
    match (target, config) {
        (Some(text), _) if text.starts_with("http://") || text.starts_with("https://") => {
            let mut url = Url::parse(text)?;
            if !url.path().ends_with('/') {
                url.set_path(&format!("{}/", url.path()));
            }
            Ok(Origin::Url(url))
        }
        (Some(text), _) if text.contains("://") && !text.starts_with("file://") => {
            bail!("this version cannot read `{text}`\nhint: give a directory or an http(s) URL")
        }
        (Some(text), _) => {
            Ok(Origin::Directory(PathBuf::from(text.strip_prefix("file://").unwrap_or(text))))
        }
        (None, Some(config)) => match config.store() {
            StoreUrl::Directory(path) => Ok(Origin::Directory(path)),
            store @ StoreUrl::Bucket(_) => {
                bail!("this version cannot read `{store}`\nhint: give the URL that clients fetch")
            }
        },
        (None, None) => bail!("nothing to verify"),
    }
}

/// The folders to read: those of the configuration, if it is about this repository, or those
/// that are there.
async fn targets(
    origin: &Origin,
    target: Option<&str>,
    config: Option<&Config>,
    context: &Context,
    client: &Client,
) -> anyhow::Result<Vec<Target>> {
    let expected = |folder: &str| {
        let component =
            config?.components.iter().find(|component| component.folder.as_str() == folder)?;
        Some(pattern(component))
    };
    let folders = match (origin, config) {
        // Without a target, or with --only, every folder of ours must be there.
        (_, Some(config)) if target.is_none() || !context.only.is_empty() => {
            config.components.iter().map(|component| component.folder.to_string()).collect()
        }
        (Origin::Directory(path), _) => verify::folders(path)?,
        (Origin::Url(url), config) => {
            match (client.document(&url.join("SHA256SUMS")?, &Cache::default()).await, config) {
                (Ok(_), _) => vec![String::new()],
                (Err(_), Some(config)) => {
                    config.components.iter().map(|component| component.folder.to_string()).collect()
                }
                (Err(error), None) => {
                    return Err(anyhow::Error::new(VerifyError::from(error))
                        .context(format!("there is no repository folder at {url}")));
                }
            }
        }
    };
    Ok(folders
        .into_iter()
        .map(|folder| {
            // A single folder is known by the last part of its address.
            let name = if folder.is_empty() { last_part(origin) } else { folder.clone() };
            Target { expected: expected(&name), folder }
        })
        .collect())
}

fn last_part(origin: &Origin) -> String {
    match origin {
        Origin::Directory(path) => {
            path.file_name().unwrap_or_default().to_string_lossy().into_owned()
        }
        Origin::Url(url) => {
            url.path().trim_end_matches('/').rsplit('/').next().unwrap_or_default().to_owned()
        }
    }
}

fn pattern(component: &Component) -> (Matcher, String) {
    let arches: Vec<&str> = Arch::ALL.iter().map(|arch| arch.as_str()).collect();
    let vars = Vars { name: component.name.as_str(), ..Vars::default() };
    (component.image.name.matcher(&vars, &arches), component.name.to_string())
}

fn shown(folder: &str) -> String {
    if folder.is_empty() { ".".to_owned() } else { folder.to_owned() }
}

fn text(result: &Result) -> String {
    let mut out = String::new();
    for folder in &result.folders {
        let state = if folder.problems.is_empty() {
            "right".to_owned()
        } else {
            count(folder.problems.len(), "problem")
        };
        let _ = writeln!(
            out,
            "{}: {}, {}, {state}",
            shown(&folder.folder),
            count(folder.files, "file"),
            human_size(folder.bytes)
        );
        for finding in &folder.problems {
            let _ = writeln!(out, "  error: {}: {}", finding.file, finding.problem);
        }
        for finding in &folder.warnings {
            let _ = writeln!(out, "  warning: {}: {}", finding.file, finding.problem);
        }
    }
    let verdict = if result.right { "every byte is right" } else { "it is not right" };
    let _ = writeln!(out, "{}: {verdict}", result.target);
    out
}

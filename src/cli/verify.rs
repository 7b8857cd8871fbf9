//! `publish verify`

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{anyhow, bail};
use http::HeaderMap;
use jiff::Timestamp;
use serde::Serialize;
use url::Url;

use super::{Context, Ended, print, print_json};
use crate::config::{CacheControl, Component, Config, Limits, Network, StoreUrl, mirror};
use crate::fetch::Client;
use crate::fetch::cache::Cache;
use crate::image;
use crate::manifest::FILE as MANIFEST;
use crate::name::Arch;
use crate::report::{Told, count, human_size, say};
use crate::repository::verify::{
    self, Expected, Look, Origin, Target, Trust, Verified, VerifyError,
};
use crate::sign::{self, KEYRING, Keyring, Signer};
use crate::store::{Access, Store};
use crate::template::{Template, Vars};

#[derive(Serialize)]
struct Result {
    target: String,
    quick: bool,
    right: bool,
    folders: Vec<Verified>,
    errors: Vec<Told>,
}

pub(super) async fn run(
    context: &Context,
    target: Option<&str>,
    keyring: Option<&Path>,
    quick: bool,
) -> anyhow::Result<Ended> {
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
    let origin = origin(target, config.as_ref(), &client)?;
    let targets = targets(&origin, target, config.as_ref(), context, &client).await?;
    // The key of this configuration says nothing about somebody else's repository.
    let ours = config.as_ref().filter(|_| targets.iter().any(|target| target.expected.is_some()));
    let trust = trust(&origin, keyring, ours, &client).await?;
    let look = Look {
        client: &client,
        at_once: network.concurrency.get(),
        quick,
        trust: &trust,
        // A configured key, and a keyring that is given out, promise signatures.
        signed: ours.is_some_and(|config| config.document.signing.is_some())
            || !matches!(trust, Trust::Nobody),
        now: Timestamp::now(),
        progress: &context.progress,
    };

    let mut folders = Vec::new();
    let mut errors = Vec::new();
    for target in &targets {
        let theirs = theirs(target, ours)?;
        let look = match &theirs {
            Some(trust) => Look { trust, signed: !matches!(trust, Trust::Nobody), ..look },
            None => look,
        };
        match verify::verify(&origin, target, &look).await {
            Ok(verified) => folders.push(verified),
            Err(error) => errors.push(Told::of(&shown(&target.folder), &error)),
        }
    }
    for told in &errors {
        say(&told.text());
    }
    let right = errors.is_empty() && folders.iter().all(|folder| folder.problems.is_empty());
    let result = Result { target: origin.shown(""), quick, right, folders, errors };
    if context.json {
        print_json("verify", &result)?;
    } else {
        print(&text(&result))?;
    }
    Ok(if right { Ended::Well } else { Ended::Partly })
}

fn origin(
    target: Option<&str>,
    config: Option<&Config>,
    client: &Client,
) -> anyhow::Result<Origin> {
    match (target, config) {
        (Some(text), _) if text.starts_with("http://") || text.starts_with("https://") => {
            let mut url = Url::parse(text)?;
            if !url.path().ends_with('/') {
                url.set_path(&format!("{}/", url.path()));
            }
            Ok(Origin::Url(url))
        }
        (Some(text), _) => {
            let url = StoreUrl::try_from(text.to_owned());
            stored(&url.map_err(|problem| anyhow!("`{text}`: {problem}"))?, client)
        }
        (None, Some(config)) => stored(&config.store(), client),
        (None, None) => bail!("nothing to verify"),
    }
}

fn stored(url: &StoreUrl, client: &Client) -> anyhow::Result<Origin> {
    Ok(match url {
        StoreUrl::Directory(path) => Origin::Directory(path.clone()),
        StoreUrl::Bucket(_) | StoreUrl::Release(_) => {
            let (rules, client) = (CacheControl::default(), || client.clone());
            Origin::Store(Store::open(url, &rules, client, Access::Read)?)
        }
    })
}

/// Whose signatures count: what the user says, then the configured key, then what is served.
async fn trust(
    origin: &Origin,
    keyring: Option<&Path>,
    config: Option<&Config>,
    client: &Client,
) -> anyhow::Result<Trust> {
    if let Some(path) = keyring {
        return Ok(Trust::Keyring(Keyring::read(path)?));
    }
    let signing = config.and_then(|config| Some((config, config.document.signing.as_ref()?)));
    if let Some((config, signing)) = signing
        && sign::secret::is_there(&signing.key, config.folder())
        && let Some(keyring) = sign::client_keyring(config, &Signer::open(config)?)?
    {
        return Ok(Trust::Keyring(keyring));
    }
    let served = origin.read("", KEYRING, client).await.ok().flatten();
    Ok(match served.and_then(|bytes| Keyring::parse(&bytes).ok()) {
        Some(keyring) => Trust::Served(keyring),
        None => Trust::Nobody,
    })
}

/// Whose signatures count in a folder that is published as somebody else has it.
fn theirs(target: &Target, config: Option<&Config>) -> anyhow::Result<Option<Trust>> {
    let name = target.expected.as_ref().map(|expected| &expected.name);
    let component = config.and_then(|config| {
        config
            .components
            .iter()
            .find(|component| Some(component.name.as_str()) == name.map(String::as_str))
    });
    let rule = component.and_then(|component| component.mirrored()).filter(|rule| rule.verbatim);
    Ok(match rule.map(|rule| &rule.trust) {
        Some(mirror::Trust::Keyring(path)) => Some(Trust::Keyring(Keyring::read(path)?)),
        Some(mirror::Trust::Unsigned) => Some(Trust::Nobody),
        None => None,
    })
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
        let config = config?;
        let component =
            config.components.iter().find(|component| component.folder.as_str() == folder)?;
        Some(expectation(config, component))
    };
    let folders = match (origin, config) {
        // Without a target, or with --only, every folder of ours must be there.
        (_, Some(config)) if target.is_none() || !context.only.is_empty() => {
            config.components.iter().map(|component| component.folder.to_string()).collect()
        }
        (Origin::Directory(path), _) => verify::folders(path)?,
        (Origin::Store(store), _) => verify::folders_of(store).await?,
        (Origin::Url(url), config) => {
            let manifest = url.join(MANIFEST)?;
            let there = client.document(&manifest, HeaderMap::new(), &Cache::default()).await;
            match (there, config) {
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
        // The root of a bucket is no component's folder.
        Origin::Store(_) => String::new(),
        Origin::Url(url) => {
            url.path().trim_end_matches('/').rsplit('/').next().unwrap_or_default().to_owned()
        }
    }
}

fn expectation(config: &Config, component: &Component) -> Expected {
    let arches: Vec<&str> = Arch::ALL.iter().map(|arch| arch.as_str()).collect();
    let vars = Vars { name: component.name.as_str(), ..Vars::default() };
    let anything = Template::parse("{version}").expect("a literal template");
    let others: Vec<&Template> = match component.mirrored() {
        Some(rule) if rule.verbatim => vec![&anything],
        Some(rule) => rule.patterns.iter().skip(1).collect(),
        None => Vec::new(),
    };
    Expected {
        matcher: component.image.name.matcher(&vars, &arches),
        others: others.into_iter().map(|name| name.matcher(&vars, &arches)).collect(),
        name: component.name.to_string(),
        arches: component
            .architectures(&config.document.repository.architectures)
            .into_keys()
            .collect(),
        made: image::packed(component.image.format).is_some(),
        component: Box::new(component.clone()),
    }
}

fn shown(folder: &str) -> String {
    if folder.is_empty() { ".".to_owned() } else { folder.to_owned() }
}

fn sealed(seal: &verify::Seal) -> String {
    let mut out = String::new();
    if let Some(key) = &seal.by {
        let user = seal.user.as_deref().unwrap_or(key);
        let _ = write!(out, ", signed by {user}");
    }
    if let Some(at) = seal.expires {
        let _ = write!(out, ", good until {}", at.strftime("%Y-%m-%d"));
    }
    out
}

/// How many files for nodes were looked at as well.
fn for_nodes(files: usize) -> String {
    if files == 0 { String::new() } else { format!(", {} for nodes", count(files, "file")) }
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
            "{}: {}, {}{}{}, {state}",
            shown(&folder.folder),
            count(folder.files, "file"),
            human_size(folder.bytes),
            for_nodes(folder.clients),
            sealed(&folder.seal),
        );
        for finding in &folder.problems {
            let _ = writeln!(out, "  error: {}: {}", finding.file, finding.problem);
        }
        for finding in &folder.warnings {
            let _ = writeln!(out, "  warning: {}: {}", finding.file, finding.problem);
        }
    }
    let verdict = match (result.right, result.quick) {
        (true, false) => "every byte is right",
        (true, true) => "every file is there; what is in them was not read",
        (false, _) => "it is not right",
    };
    let _ = writeln!(out, "{}: {verdict}", result.target);
    out
}

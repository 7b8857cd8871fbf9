//! `publish client`: what a node needs to follow a component.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::ValueEnum;
use serde::Serialize;
use url::Url;

use super::{Context, Ended, Usage, print, print_json};
use crate::client::butane::Variant;
use crate::client::machine::Machine;
use crate::client::{
    ClientError, Offer, Offered, Trust, base, butane, definition, emulate, ignition, is_told,
    script, transfer,
};
use crate::config::{Component, Config};
use crate::manifest::Manifest;
use crate::name::{Arch, ComponentName};
use crate::report::say;
use crate::repository::{self, MANIFEST, SnapshotError};
use crate::sign::{self, KEYRING, Signer};
use crate::store::{Access, Store};
use crate::sync::trust_of;

/// What is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// What systemd-sysupdate follows it by
    Transfer,
    /// A title for it, for systemd 262
    Component,
    /// The same for an optional part of it
    Feature,
    /// A whole node, as people write it
    Butane,
    /// The same as Ignition JSON
    Ignition,
    /// An installer for any machine with systemd
    Script,
}

/// What a user types.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The component
    #[arg(required_unless_present = "all")]
    name: Option<ComponentName>,
    /// What to write
    #[arg(long, value_enum, hide_possible_values = true, default_value_t = Format::Transfer,
          help = "What to write: transfer, component, feature, butane, ignition or script")]
    format: Format,
    /// Every component
    #[arg(long, conflicts_with = "name")]
    all: bool,
    /// Only the versions of one branch, such as 1.31
    #[arg(long, value_name = "BRANCH", conflicts_with = "all")]
    branch: Option<String>,
    /// The node's architecture, where that counts
    #[arg(long)]
    arch: Option<Arch>,
    /// Whose Butane: flatcar or fcos
    #[arg(long)]
    variant: Option<Variant>,
    /// Put it into this Butane file; what comes out has every line of it
    #[arg(long, value_name = "FILE")]
    base: Option<PathBuf>,
    /// Have the node merge signed images alone (butane, ignition, script)
    #[arg(long)]
    image_policy: bool,
    /// The repository's address, instead of `url` in [repository]
    #[arg(long)]
    url: Option<Url>,
    /// A folder for the files; stdout, if left out
    #[arg(short, long, value_name = "DIR")]
    output: Option<PathBuf>,
}

/// A text for a node.
#[derive(Debug, Serialize)]
struct File {
    /// What it is called here.
    name: String,
    /// Where it goes on a node, if it is one file there.
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    text: String,
}

#[derive(Serialize)]
struct Result<'a> {
    files: &'a [File],
}

/// What is published of a component, and who is told.
struct Known<'a> {
    component: &'a Component,
    images: Vec<Offered>,
}

pub(super) async fn run(context: &Context, args: &Args) -> anyhow::Result<Ended> {
    let config = context.load()?;
    let components: Vec<&Component> = if let Some(name) = &args.name {
        vec![config.component(name)?]
    } else {
        let all = config.components.iter().map(|component| &**component);
        let (told, others): (Vec<_>, Vec<_>) = all.partition(|component| is_told(component));
        for component in others {
            say(&format!(
                "warning: {} is left out: {}\n",
                component.name,
                ClientError::Theirs(component.name.to_string())
            ));
        }
        told
    };
    if let Some(theirs) = components.iter().find(|component| !is_told(component)) {
        let error = ClientError::Theirs(theirs.name.to_string());
        bail!("{error}\nhint: {}", error.hint());
    }
    if let Some(url) = args.url.as_ref().filter(|url| !matches!(url.scheme(), "http" | "https")) {
        let what = format!("--url `{url}`: nodes know http and https alone");
        return Err(Usage(what).into());
    }
    let Some(url) = args.url.as_ref().or(config.document.repository.url.as_ref()) else {
        bail!(
            "nobody knows where nodes find this repository\nhint: add `url` to [repository] in {}, or give --url",
            config.file.display()
        );
    };
    if args.base.is_some() && args.format != Format::Butane {
        return Err(Usage("--base goes with --format butane".to_owned()).into());
    }
    if args.image_policy
        && !matches!(args.format, Format::Butane | Format::Ignition | Format::Script)
    {
        return Err(Usage(
            "--image-policy goes with --format butane, ignition or script".to_owned(),
        )
        .into());
    }
    let store = Store::configured(&config, Access::Read)?;
    let trust = trust(&config, &store).await?;
    let mut known = Vec::new();
    for component in components {
        known.push(Known { component, images: published(&store, component).await? });
    }
    let offers: Vec<Offer<'_>> = known
        .iter()
        .map(|Known { component, images }| Offer {
            component,
            url,
            trust: &trust,
            images,
            strict: args.image_policy,
        })
        .collect();
    let files = files(&offers, args).map_err(|error| asked_for(error, &offers, args))?;
    match &args.output {
        Some(folder) => {
            write_all(folder, &files)?;
            if context.json {
                print_json("client", &Result { files: &files })?;
            } else {
                print(&written(folder, &files))?;
            }
        }
        None if context.json => print_json("client", &Result { files: &files })?,
        None => match &files[..] {
            [file] => print(&file.text)?,
            [] => bail!("there is no component"),
            _ => {
                let hint = "hint: --output names a folder for them";
                return Err(Usage(format!("these are {} files\n{hint}", files.len())).into());
            }
        },
    }
    Ok(Ended::Well)
}

/// What is not there, but was named on the command line, is a mistake there.
fn asked_for(error: anyhow::Error, offers: &[Offer<'_>], args: &Args) -> anyhow::Error {
    match error.downcast_ref() {
        Some(wrong @ ClientError::NoBranch { .. }) => {
            Usage(format!("{wrong}\nhint: {}", wrong.hint())).into()
        }
        Some(wrong @ ClientError::NoImage { component, .. }) if args.arch.is_some() => {
            let offer = offers.iter().find(|offer| offer.component.name.as_str() == component);
            let arches = offer.map(Offer::arches).unwrap_or_default();
            let there: Vec<&str> = arches.iter().map(|arch| arch.as_str()).collect();
            if there.is_empty() {
                return error;
            }
            Usage(format!("{wrong}\nhint: there are: {}", there.join(", "))).into()
        }
        _ => error,
    }
}

/// Who vouches for the repository: by the key, if it is here, or else by the keyring that is given out.
async fn trust(config: &Config, store: &Store) -> anyhow::Result<Trust> {
    let Some(signing) = &config.document.signing else { return Ok(Trust::Unsigned) };
    let secrets = [Some(&signing.key), signing.passphrase.as_ref()];
    if secrets.into_iter().flatten().all(|at| sign::secret::is_there(at, config.folder())) {
        let keyring = sign::client_keyring(config, &Signer::open(config)?)?;
        return Ok(trust_of(config, keyring.as_ref()));
    }
    Ok(Trust::Signed(store.read(KEYRING).await?.map(Vec::from)))
}

async fn published(store: &Store, component: &Component) -> anyhow::Result<Vec<Offered>> {
    let path = repository::path(&component.folder, MANIFEST);
    let bytes = store.read(&path).await?.unwrap_or_default();
    let manifest = Manifest::parse(&bytes)
        .map_err(|source| SnapshotError::Manifest { path: store.locate(&path), source })?;
    Ok(emulate::images(component, &manifest))
}

fn files(offers: &[Offer<'_>], args: &Args) -> anyhow::Result<Vec<File>> {
    let whole = matches!(args.format, Format::Butane | Format::Ignition);
    // One node that follows them all, unless each is to be a file of its own.
    if whole && (args.output.is_none() || args.base.is_some()) {
        return Ok(vec![node(offers, args)?]);
    }
    let files: Vec<Vec<File>> = offers
        .iter()
        .map(|offer| {
            if whole {
                Ok(vec![node(std::slice::from_ref(offer), args)?])
            } else {
                files_of(offer, args)
            }
        })
        .collect::<anyhow::Result<_>>()?;
    Ok(files.into_iter().flatten().collect())
}

/// What a node needs of one component, file by file.
fn files_of(offer: &Offer<'_>, args: &Args) -> anyhow::Result<Vec<File>> {
    let name = &offer.component.name;
    let stem = args.branch.as_deref().map(|branch| offer.stem(branch)).transpose()?;
    let file = |name: String, path: String, text: String| File { name, path: Some(path), text };
    Ok(match args.format {
        Format::Transfer => {
            let all = args.output.is_some() && stem.is_none();
            let transfers = if all {
                transfer::transfers(offer)
            } else {
                transfer::transfer(offer, stem.as_ref()).map(|one| vec![one])
            };
            let transfers = transfers?.into_iter();
            transfers.map(|one| file(one.file, transfer::path(offer), one.text)).collect()
        }
        Format::Component => {
            let path = definition::component_path(offer);
            vec![file(format!("sysupdate.{name}.component"), path, definition::component(offer))]
        }
        Format::Feature => {
            let path = definition::feature_path(offer);
            vec![file(format!("{name}.feature"), path, definition::feature(offer))]
        }
        Format::Script => {
            let text = script::script(offer, stem.as_ref())?;
            vec![File { name: format!("{name}.sh"), path: None, text }]
        }
        Format::Butane | Format::Ignition => vec![node(std::slice::from_ref(offer), args)?],
    })
}

/// One node that follows all of these.
fn node(offers: &[Offer<'_>], args: &Args) -> anyhow::Result<File> {
    let mut machine = Machine::default();
    let mut titles = Vec::new();
    let mut name = String::from("nodes");
    // One machine has one.
    let first = offers.iter().flat_map(Offer::arches).min();
    let arch = args.arch.or(first).unwrap_or(Arch::X86_64);
    for offer in offers {
        let stem = args.branch.as_deref().map(|branch| offer.stem(branch)).transpose()?;
        let arches = offer.arches();
        let node = Machine::new(offer, arch, stem.as_ref())?;
        machine.add(node)?;
        titles.push(butane::title(offer, arch, stem.as_ref()));
        name = butane::stem(offer.component.name.as_str(), arch, &arches);
    }
    if offers.len() > 1 {
        "nodes".clone_into(&mut name);
    }
    if args.format == Format::Ignition {
        let (name, text) = (format!("{name}.ign"), ignition::render(&machine));
        return Ok(File { name, path: None, text });
    }
    let text = match &args.base {
        None => {
            let variant = args.variant.unwrap_or_default();
            butane::render(&machine, variant, &titles.join("\n# "))
        }
        Some(file) => {
            let shown = file.display();
            let base = fs::read_to_string(file).with_context(|| format!("cannot read {shown}"))?;
            let merged = match args.variant {
                Some(variant) => base::merge(&base, &machine, variant),
                None => base::variant(&base).and_then(|it| base::merge(&base, &machine, it)),
            };
            merged.with_context(|| format!("nothing can be put into {shown}"))?
        }
    };
    Ok(File { name: format!("{name}.bu"), path: None, text })
}

fn write_all(folder: &Path, files: &[File]) -> anyhow::Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    for file in files {
        let path = folder.join(&file.name);
        fs::write(&path, &file.text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

fn written(folder: &Path, files: &[File]) -> String {
    let mut out = String::new();
    let width = files.iter().map(|file| file.name.len()).max().unwrap_or(0);
    for File { name, path, .. } in files {
        let shown = folder.join(name);
        let pad = width - name.len();
        let _ = match path {
            Some(path) => writeln!(out, "wrote {}{:pad$}  goes to {path}", shown.display(), ""),
            None => writeln!(out, "wrote {}", shown.display()),
        };
    }
    out
}

//! What nodes need, beside the images; and what they will take, before they do.
//!
//! Owns when the files for nodes are written: only where they differ from what was written last, which
//! their record knows, so that a run without work asks for none of them. A file that somebody else put
//! there stays. Also whose lines nodes may take: those that this repository made, or that upstream has.

use std::collections::BTreeMap;

use url::Url;

use super::turns::in_turn;
use super::{Survey, Unsurveyed};
use crate::client::emulate::{self, Misled};
use crate::client::{Offer, Offered, Trust, butane, ignition, is_told, machine, script, transfer};
use crate::config::{Component, Config, ConfigError};
use crate::image::Image;
use crate::manifest::Manifest;
use crate::name::{Arch, FileName};
use crate::plan::Upstream;
use crate::report::Told;
use crate::repository::commit::{CommitError, Record};
use crate::repository::{self, MANIFEST, Place, Published};
use crate::sign::{self, Keyring, Signer};
use crate::store::Store;
use crate::version::Version;

/// What all files for nodes are made of, besides their component.
#[derive(Debug)]
pub(super) struct Clients<'c> {
    /// The repository's address; `None` where no files are wanted.
    url: Option<&'c Url>,
    trust: Trust,
    /// Whether it is known who signs: else nothing is said of the files at all.
    known: bool,
}

/// Who vouches for a repository, with the keyring that is at hand.
#[must_use]
pub fn trust_of(config: &Config, keyring: Option<&Keyring>) -> Trust {
    match config.document.signing {
        None => Trust::Unsigned,
        Some(_) => Trust::Signed(keyring.map(Keyring::to_bytes)),
    }
}

/// Brings the files of one component to what is published of it, after a change that is no sync.
///
/// # Errors
/// The store cannot be read or written.
pub async fn keep_clients(
    config: &Config,
    component: &Component,
    place: &Place<'_>,
    keyring: Option<&Keyring>,
) -> Result<Vec<String>, CommitError> {
    let mut published = Published::read(place.store, place.folder).await?;
    let clients = Clients::of(config, Some(place.signer), keyring);
    clients.keep(component, place, &mut published).await
}

/// The files for nodes that the next sync writes, or takes away: nodes that begin now begin with what is
/// out of date. None where the signing key is not at hand.
///
/// # Errors
/// The keyring cannot be read.
pub fn outdated(
    config: &Config,
    signer: Option<&Signer>,
    surveys: &[Result<Survey, Unsurveyed>],
) -> Result<Vec<Vec<FileName>>, ConfigError> {
    let keyring = match signer {
        Some(signer) => sign::client_keyring(config, signer)?,
        None => None,
    };
    let clients = Clients::of(config, signer, keyring.as_ref());
    let due = surveys.iter().map(|survey| match survey {
        Ok(survey) => clients.due(&survey.component, &survey.published),
        Err(_) => Vec::new(),
    });
    Ok(due.collect())
}

impl<'c> Clients<'c> {
    pub(super) fn of(
        config: &'c Config,
        signer: Option<&Signer>,
        keyring: Option<&Keyring>,
    ) -> Self {
        let repository = &config.document.repository;
        Self {
            url: repository.url.as_ref().filter(|_| repository.client_files),
            trust: trust_of(config, keyring),
            known: signer.is_some(),
        }
    }

    /// The files of a component. Before anything is published of it, there are none.
    pub(super) fn files(
        &self,
        component: &Component,
        manifest: &Manifest,
    ) -> BTreeMap<FileName, String> {
        let images = emulate::images(component, manifest);
        let told = is_told(component) && !images.is_empty();
        let Some(url) = self.url.filter(|_| told) else { return BTreeMap::new() };
        let offer = Offer { component, url, trust: &self.trust, images: &images, strict: false };
        files(&offer).unwrap_or_default()
    }

    /// The files that lack, are others than were written, or are not wanted any more.
    pub(super) fn due(&self, component: &Component, published: &Published) -> Vec<FileName> {
        if !self.known {
            return Vec::new();
        }
        published.clients_due(&self.files(component, &published.manifest))
    }

    /// Whether they are to be looked after.
    pub(super) fn is_due(&self, component: &Component, published: &Published) -> bool {
        let is_recorded = published.catalogue.clients.is_empty();
        let is_readable = published.clients.problem.is_none();
        self.known && !(is_recorded && is_readable && self.due(component, published).is_empty())
    }

    /// Brings the files of a component to what is published of it, and gives warnings for people. What
    /// another publisher wrote meanwhile is read, and it is tried again: whoever is last has the newest
    /// manifest. If that is never us, the next sync sees what is due, and nothing is wrong.
    ///
    /// # Errors
    /// The store cannot be read or written.
    pub(super) async fn keep(
        &self,
        component: &Component,
        place: &Place<'_>,
        published: &mut Published,
    ) -> Result<Vec<String>, CommitError> {
        let mut told = warnings(place.store, component, published);
        let mut is_read = true;
        let kept = in_turn(is_overtaken, async || {
            if !std::mem::take(&mut is_read) {
                *published = Published::read(place.store, place.folder).await?;
            }
            if self.is_due(component, published) {
                let wanted = self.files(component, &published.manifest);
                told = unreadable(place.store, component, published).into_iter().collect();
                // They and what is known of them are better not parted by somebody who ends the run.
                let _writing = place.store.writing().await;
                published.keep_clients(place, &wanted).await?;
                told.extend(theirs(place.store, component, published));
            }
            Ok(())
        });
        match kept.await {
            Err(CommitError::Raced { .. }) => {
                let component = component.name.as_str();
                tracing::debug!(component, "others keep the files for nodes");
            }
            kept => kept?,
        }
        Ok(told)
    }
}

fn is_overtaken(error: &CommitError) -> bool {
    matches!(error, CommitError::Raced { .. })
}

/// What people should know of files for nodes.
pub(super) fn warnings(store: &Store, component: &Component, published: &Published) -> Vec<String> {
    let unreadable = unreadable(store, component, published);
    unreadable.into_iter().chain(theirs(store, component, published)).collect()
}

/// That nobody can read which of them are ours.
fn unreadable(store: &Store, component: &Component, published: &Published) -> Option<String> {
    let clients = &published.clients;
    clients.problem.as_ref().map(|problem| {
        format!(
            "warning: {}: {} cannot be read, and is written anew: {problem}",
            component.name,
            store.locate(clients.path())
        )
    })
}

/// Which of them are somebody else's.
fn theirs(store: &Store, component: &Component, published: &Published) -> Vec<String> {
    let told = published.clients.theirs().map(|name| {
        let path = repository::path(&component.folder, name.as_str());
        format!(
            "warning: {} is somebody else's, and stays\n  hint: move it away, or set client-files = false in [repository]",
            store.locate(&path)
        )
    });
    told.collect()
}

/// Every file for nodes: transfers, the installer, and for each architecture a whole node.
fn files(offer: &Offer<'_>) -> Result<BTreeMap<FileName, String>, crate::client::ClientError> {
    let component = &offer.component.name;
    let mut files: BTreeMap<String, String> = BTreeMap::new();
    for transfer in transfer::transfers(offer)? {
        files.insert(transfer.file, transfer.text);
    }
    files.insert(format!("{component}.sh"), script::script(offer, None)?);
    let arches = offer.arches();
    for arch in &arches {
        let node = machine::Machine::new(offer, *arch, None)?;
        let title = butane::title(offer, *arch, None);
        let stem = butane::stem(component.as_str(), *arch, &arches);
        let butane = butane::render(&node, butane::Variant::Flatcar, &title);
        files.insert(format!("{stem}.bu"), butane);
        files.insert(format!("{stem}.ign"), ignition::render(&node));
    }
    // The longest names of components leave no room for an ending.
    let named = |(name, text): (String, String)| Some((name.parse().ok()?, text));
    Ok(files.into_iter().filter_map(named).collect())
}

/// The newest lines for each architecture of which nothing tells yet that they are this repository's.
pub(super) fn strangers(
    component: &Component,
    published: &Published,
    upstream: &Upstream,
) -> Vec<FileName> {
    let images = emulate::images(component, &published.manifest);
    let mut newest: BTreeMap<Arch, &Offered> = BTreeMap::new();
    for image in &images {
        let newest = newest.entry(image.arch).or_insert(image);
        if newest.shown < image.shown {
            *newest = image;
        }
    }
    let newest = newest.into_values().filter(|image| !is_released(&image.shown, upstream));
    newest.map(|image| image.name.clone()).collect()
}

/// Whether upstream has a version, or the one that it is a revision of.
fn is_released(shown: &Version, upstream: &Upstream) -> bool {
    let has = |version: &Version| {
        upstream.judged.iter().any(|judged| judged.version.as_ref() == Some(version))
    };
    has(shown) || shown.unrevised().is_some_and(|(version, _)| has(&version))
}

/// What nodes would take of a manifest that they should not.
pub(super) fn misled(survey: &Survey, manifest: &Manifest) -> Vec<Told> {
    check(survey, &survey.published, manifest, &[])
}

/// The same of the manifest that a commit would write.
pub(super) fn foretold(
    survey: &Survey,
    published: &Published,
    images: &[(Image, Record)],
) -> Vec<Told> {
    let mut manifest = published.manifest.clone();
    for (image, _) in images {
        // What does not fit is for the commit to say.
        let _ = manifest.add(image.name.clone(), image.sha256);
    }
    check(survey, published, &manifest, images)
}

/// The same of the bytes that are served now.
///
/// # Errors
/// They cannot be read.
pub(super) async fn read_back(
    survey: &Survey,
    place: &Place<'_>,
    published: &Published,
) -> Result<Vec<Told>, CommitError> {
    let path = repository::path(place.folder, MANIFEST);
    let served = place.store.read(&path).await?.unwrap_or_default();
    match Manifest::parse(&served) {
        Ok(manifest) => {
            let told = check(survey, published, &manifest, &[]);
            if told.is_empty() {
                return Ok(told);
            }
            // Another publisher of ours may have been here since, and knows newer versions.
            let Survey { component, upstream, .. } = survey;
            let mut now = Published::read(place.store, place.folder).await?;
            let names = strangers(component, &now, upstream);
            now.read_records(place.store, place.folder, names).await?;
            Ok(check(survey, &now, &now.manifest, &[]))
        }
        Err(source) => {
            let path = place.store.locate(&path);
            Err(repository::SnapshotError::Manifest { path, source }.into())
        }
    }
}

fn check(
    survey: &Survey,
    published: &Published,
    manifest: &Manifest,
    coming: &[(Image, Record)],
) -> Vec<Told> {
    let Survey { component, upstream, .. } = survey;
    if !is_told(component) {
        return Vec::new();
    }
    let mut images = emulate::images(component, manifest);
    let all: Vec<Offered> = images.clone();
    images.retain(|image| {
        is_released(&image.shown, upstream)
            || published.recorded(&image.name).is_some()
            || survey.published.recorded(&image.name).is_some()
            || coming.iter().any(|(coming, _)| coming.name == image.name)
    });
    let offer = Offer::to_try(component, &images);
    let name = &component.name;
    match emulate::check(&offer, manifest) {
        Err(error) => vec![Told {
            message: format!("{name}: {error}"),
            causes: Vec::new(),
            hint: Some(error.hint()),
        }],
        // One is enough: the others are of the same line.
        Ok(misled) => {
            misled.first().map(|misled| told(component, misled, &all)).into_iter().collect()
        }
    }
}

fn told(component: &Component, misled: &Misled, all: &[Offered]) -> Told {
    let name = &component.name;
    let taken = misled.takes.as_ref().and_then(|taken| {
        all.iter().find(|image| image.name.as_str() == taken).map(|image| &image.shown)
    });
    let hint = match taken {
        Some(version) => format!(
            "nothing tells who made that, and nodes go on with nothing older: `publish yank {name} {version}` takes it out"
        ),
        None => "change [image] name".to_owned(),
    };
    Told { message: format!("{name}: {misled}"), causes: Vec::new(), hint: Some(hint) }
}

//! What people read, written after what nodes read.
//!
//! Owns when pages are written: only where something that they tell changed, which a record knows, so
//! that a run without work reads that alone. The catalogue is replaced only if nobody else did, so that
//! of publishers that meet none loses what another one told; whoever is late tells it again.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};

use super::clients::Clients;
use super::turns::in_turn;
use super::{Outcome, Survey, Unsurveyed, trust_of};
use crate::client::{Offer, Trust, inert};
use crate::config::{Component, Config};
use crate::name::{FileName, Folder, Sha256};
use crate::page::catalog::{self, Catalog};
use crate::page::{self, CATALOG, FEED, INDEX, entry, feed, html};
use crate::report::Told;
use crate::repository::commit::CommitError;
use crate::repository::derived;
use crate::repository::pages::{self, Pages, Written};
use crate::repository::{Place, Published};
use crate::sign::{KEYRING, Keyring};
use crate::store::{Lock, PRIVATE, Seen, Store, StoreError};

/// How many folders are read, and how many pages written, at once.
const AT_ONCE: usize = 16;

/// What all pages are made of, besides what is published.
#[derive(Debug)]
pub(super) struct People<'c> {
    config: &'c Config,
    clients: &'c Clients<'c>,
    /// A catalogue of nothing.
    blank: Catalog,
}

/// What is due of the pages.
#[derive(Debug, Default)]
pub(super) struct Due {
    /// The folders to look at again.
    folders: BTreeSet<Folder>,
    /// Whether something else is.
    root: bool,
    /// What people should know of what is there.
    warnings: Vec<String>,
    /// Why nothing of it is known.
    error: Option<Told>,
}

impl Due {
    pub(super) fn is_empty(&self) -> bool {
        self.folders.is_empty() && !self.root
    }

    /// What people should know, if nothing is done.
    pub(super) fn told(self) -> Result<Vec<String>, Told> {
        self.error.map_or(Ok(self.warnings), Err)
    }

    /// A component that something will be done for, after which it is to be looked at again.
    pub(super) fn touch(&mut self, folder: &Folder) {
        self.folders.insert(folder.clone());
    }

    /// One for which nothing came of it.
    pub(super) fn leave(&mut self, folder: &Folder) {
        self.folders.remove(folder);
    }
}

/// Tells of the pages with the first component: they are nobody's alone.
pub(super) fn tell(outcomes: &mut [Outcome], told: Result<Vec<String>, Told>) {
    // A store that answers nothing was told of already.
    let is_well = outcomes.iter().all(|outcome| outcome.errors.is_empty());
    let Some(first) = outcomes.first_mut() else { return };
    match told {
        Ok(warnings) => first.warnings.extend(warnings),
        Err(error) if is_well => first.errors.push(error),
        Err(_) => {}
    }
}

/// Brings the pages to what is published in one folder, after a change that is no sync; of a folder that
/// no component has, nothing is told any more. Gives warnings for people.
///
/// # Errors
/// The store cannot be read or written, or another publisher is at it: the next sync does it.
pub async fn keep_pages(
    config: &Config,
    place: &Place<'_>,
    keyring: Option<&Keyring>,
) -> Result<Vec<String>, CommitError> {
    let clients = Clients::of(config, Some(place.signer), keyring);
    let people = People::of(config, &clients, keyring);
    let (record, _) = Pages::read(place.store).await?;
    // Nobody asked for a page yet where there is none.
    if record == Pages::default() {
        return Ok(Vec::new());
    }
    let due = Due { folders: [place.folder.clone()].into(), ..Due::default() };
    let claimed = config.components.iter().any(|component| component.folder == *place.folder);
    let gone = (!claimed).then_some(place.folder);
    people.keep(place.store, place.lock, &due, gone).await
}

impl<'c> People<'c> {
    pub(super) fn of(
        config: &'c Config,
        clients: &'c Clients<'c>,
        keyring: Option<&Keyring>,
    ) -> Self {
        let repository = &config.document.repository;
        let url = repository.url.as_ref().map(|url| {
            let slash = if url.path().ends_with('/') { "" } else { "/" };
            format!("{url}{slash}")
        });
        let host = || Some(repository.url.as_ref()?.host_str()?.to_owned());
        let title = repository.page.title.as_deref().map(inert::line);
        let title = title.filter(|title| !title.is_empty()).or_else(host);
        let blank = Catalog {
            version: catalog::VERSION,
            title: title.unwrap_or_else(|| "Repository".to_owned()),
            url,
            keyring: keyring
                .filter(|_| matches!(trust_of(config, keyring), Trust::Signed(_)))
                .map(|_| KEYRING.to_owned()),
            components: Vec::new(),
        };
        Self { config, clients, blank }
    }

    fn is_wanted(&self) -> bool {
        let repository = &self.config.document.repository;
        repository.page.is_wanted(&repository.store)
    }

    /// What is due, by what was read of each component. Reads the record alone, and how long pages are.
    /// Where that cannot be, nothing is due, and images are published all the same.
    pub(super) async fn look(&self, store: &Store, surveys: &[Result<Survey, Unsurveyed>]) -> Due {
        self.try_to_look(store, surveys).await.unwrap_or_else(|error| Due {
            error: Some(Told::of("the page", &error)),
            ..Due::default()
        })
    }

    async fn try_to_look(
        &self,
        store: &Store,
        surveys: &[Result<Survey, Unsurveyed>],
    ) -> Result<Due, StoreError> {
        let (record, seen) = Pages::read(store).await?;
        if !self.is_wanted() {
            return Ok(Due { root: seen.bytes().is_some(), ..Due::default() });
        }
        let mut due = Due { warnings: warnings(store, &record), ..Due::default() };
        due.root = record.basis.is_some() && record.basis != Some(self.basis());
        if !record.folders.is_empty() && !due.root {
            let sizes = self.root_sizes(store).await?;
            due.root = !sizes.iter().all(|(name, size)| record.is_kept(name, *size));
        }
        // Of one that went wrong, what was told stays, until it is right again.
        let known: Vec<_> =
            surveys.iter().flatten().map(|survey| (&survey.component, &survey.published)).collect();
        if known.is_empty() {
            due.root = false;
        }
        let paths: Vec<String> = known
            .iter()
            .map(|(component, _)| page::path(&component.folder, &component.name))
            .collect();
        let sizes = match store.as_directory() {
            Some(_) => store.sizes("", &paths).await?,
            // What a bucket has was listed.
            None => known.iter().map(|(component, of)| of.size(&file_of(component)?)).collect(),
        };
        for (((component, published), path), size) in known.into_iter().zip(&paths).zip(sizes) {
            let told = record.folders.get(&component.folder).map(|told| told.basis);
            let basis = self.basis_of(component, published);
            if basis.is_some() && (told != basis || !record.is_kept(path, size)) {
                due.folders.insert(component.folder.clone());
            }
        }
        Ok(due)
    }

    /// The files of the root that are written.
    fn root(&self) -> Vec<String> {
        let has_feed = self.blank.url.is_some();
        let names = [INDEX, CATALOG, FEED].into_iter().filter(|name| *name != FEED || has_feed);
        names.map(str::to_owned).collect()
    }

    /// How long they are. A bucket's are listed, in one request.
    async fn root_sizes(&self, store: &Store) -> Result<Vec<(String, Option<u64>)>, StoreError> {
        let root = self.root();
        if store.as_directory().is_some() {
            let sizes = store.sizes("", &root).await?;
            return Ok(root.into_iter().zip(sizes).collect());
        }
        let listed = store.list("").await?;
        let size = |name: &String| {
            listed.iter().find(|listed| listed.name == *name).map(|listed| listed.size)
        };
        let sizes: Vec<Option<u64>> = root.iter().map(size).collect();
        Ok(root.into_iter().zip(sizes).collect())
    }

    /// What every page is made of, whatever it tells.
    fn basis(&self) -> Sha256 {
        let Catalog { title, url, keyring, .. } = &self.blank;
        digest(&(page::edition(), title, url, keyring))
    }

    /// What a component's part is made of; `None` before anything was published of it.
    fn basis_of(&self, component: &Component, published: &Published) -> Option<Sha256> {
        let manifest = Sha256::of(published.served()?);
        let is_signed = published.signatures().any(|(_, signature)| signature.is_some());
        let yanked: Vec<_> =
            published.catalogue.yanked.iter().map(|(v, y)| (v, y.at, &y.reason)).collect();
        let files: Vec<_> =
            published.clients.files.iter().map(|(name, file)| (name, file.sha256)).collect();
        let changelog = Offer::to_try(component, &[]).changelog();
        let told = (&component.name, &component.description, &component.homepage, changelog);
        Some(digest(&(self.basis(), told, manifest, is_signed, yanked, files)))
    }

    /// Brings the pages to what is published. Gives warnings for people, or what went wrong.
    pub(super) async fn keep_told(
        &self,
        store: &Store,
        lock: &Lock,
        due: Due,
    ) -> Result<Vec<String>, Told> {
        if due.error.is_some() || due.is_empty() {
            return due.told();
        }
        self.keep(store, lock, &due, None).await.map_err(|error| Told::of("the page", &error))
    }

    async fn keep(
        &self,
        store: &Store,
        lock: &Lock,
        due: &Due,
        gone: Option<&Folder>,
    ) -> Result<Vec<String>, CommitError> {
        for folder in ["", PRIVATE] {
            store.sweep(folder, lock)?;
        }
        let attempt =
            || async { self.attempt(store, lock, due, gone).await.map_err(Some)?.ok_or(None) };
        match in_turn(Option::is_none, attempt).await {
            Ok(record) => Ok(warnings(store, &record)),
            Err(Some(error)) => Err(error),
            Err(None) => {
                tracing::debug!("others keep the pages");
                Ok(Vec::new())
            }
        }
    }

    /// One attempt; `None` if another publisher was faster.
    async fn attempt(
        &self,
        store: &Store,
        lock: &Lock,
        due: &Due,
        gone: Option<&Folder>,
    ) -> Result<Option<Pages>, CommitError> {
        let (mut record, mut seen) = Pages::read(store).await?;
        if !self.is_wanted() {
            let all: Vec<String> = record.files.keys().cloned().collect();
            take_away(store, &mut record, &all).await?;
            store.delete(&pages::path()).await?;
            return Ok(Some(record));
        }
        // The catalogue is what others told; one that is not ours to read tells nothing.
        let there = store.look(CATALOG).await?;
        let known = record.files.get(CATALOG);
        let before = there
            .bytes()
            .filter(|bytes| known.is_some_and(|known| known.file.is_ours(Sha256::of(bytes))));
        let before = before.and_then(|bytes| Catalog::read(bytes));
        if before.is_none() {
            record.folders.clear();
        }
        let told = before.map(|before| before.components).unwrap_or_default();
        let mut catalog = Catalog { components: told, ..self.blank.clone() };
        if let Some(gone) = gone {
            catalog.components.retain(|entry| entry.folder != *gone);
            record.folders.remove(gone);
        }
        let mut texts = self.tell(store, &mut catalog, &mut record, due).await;
        // A repository that nothing was ever published in needs no page yet.
        if !catalog.components.is_empty() || !record.files.is_empty() {
            texts.insert(INDEX.to_owned(), html::index(&catalog));
            texts.insert(CATALOG.to_owned(), catalog.render());
            texts.extend(feed::render(&catalog).map(|feed| (FEED.to_owned(), feed)));
        }
        let mut wanted: BTreeSet<String> =
            catalog.components.iter().map(catalog::Entry::page).collect();
        wanted.extend(self.root());
        let unwanted: Vec<String> =
            record.files.keys().filter(|path| !wanted.contains(*path)).cloned().collect();
        let folders = std::mem::take(&mut record.folders);
        record.basis = Some(self.basis());

        // What will be written is noted before, so that whatever a killed run leaves is known to be ours.
        let claims = texts.into_iter().map(|(path, text)| {
            let known = record.files.get(&path).map(|written| written.file.clone());
            async move {
                let claim = derived::claim(store, &path, &text, known.as_ref()).await?;
                Ok::<_, StoreError>((path, text, claim))
            }
        });
        let claims: Vec<_> = futures::stream::iter(claims.collect::<Vec<_>>())
            .buffered(AT_ONCE)
            .try_collect()
            .await?;
        let mut writes: Vec<(String, Bytes, Seen)> = Vec::new();
        for (path, text, claim) in claims {
            let written = Written { file: claim.file, size: text.len() as u64 };
            record.files.insert(path.clone(), written);
            if let Some(seen) = claim.due {
                // Read once, and it is what was built upon.
                let seen = if path == CATALOG { there.clone() } else { seen };
                writes.push((path, text.into(), seen));
            }
        }
        // The root comes last: it leads to the others.
        let (pages, mut root): (Vec<_>, Vec<_>) =
            writes.into_iter().partition(|(path, _, _)| path.contains('/'));
        root.sort_by_key(|(path, _, _)| path == INDEX);
        if !pages.is_empty() || !root.is_empty() || !unwanted.is_empty() {
            let Some(kept) = keep_record(store, lock, &mut record, &seen).await? else {
                return Ok(None);
            };
            seen = kept;
        }
        for (writes, at_once) in [(pages, AT_ONCE), (root, 1)] {
            let writes = writes.into_iter().map(|(path, bytes, there)| async move {
                let written = store.replace(&path, bytes, &there, lock).await?;
                Ok::<_, StoreError>(written.map(|_| path))
            });
            let mut writes = futures::stream::iter(writes.collect::<Vec<_>>()).buffered(at_once);
            while let Some(written) = writes.try_next().await? {
                let Some(path) = written else { return Ok(None) };
                if let Some(written) = record.files.get_mut(&path) {
                    written.file.writing = None;
                }
            }
        }
        take_away(store, &mut record, &unwanted).await?;
        record.folders = folders;
        Ok(keep_record(store, lock, &mut record, &seen).await?.map(|_| record))
    }

    /// Puts what is published of each component that is due into the catalogue. Gives their pages.
    async fn tell(
        &self,
        store: &Store,
        catalog: &mut Catalog,
        record: &mut Pages,
        due: &Due,
    ) -> BTreeMap<String, String> {
        let is_due = |component: &&Component| {
            due.folders.contains(&component.folder)
                || record.basis != Some(self.basis())
                || !record.folders.contains_key(&component.folder)
        };
        let components = self.config.components.iter().map(|component| &**component);
        let before = |component: &Component| {
            catalog.of(&component.folder).filter(|entry| entry.name == component.name)
        };
        let reads = components.filter(is_due).map(|component| {
            let before = before(component);
            async move { (component, Self::read(store, component, before).await) }
        });
        let reads: Vec<_> =
            futures::stream::iter(reads.collect::<Vec<_>>()).buffered(AT_ONCE).collect().await;
        let mut texts = BTreeMap::new();
        for (component, published) in reads {
            // One that cannot be read, or is gone, was told of; what is known of it stays.
            let Ok(published) = published else { continue };
            let Some(basis) = self.basis_of(component, &published) else { continue };
            let before = catalog.of(&component.folder).filter(|entry| entry.name == component.name);
            let mut entry = entry::entry(component, &published, before);
            let files = self.clients.files(component, &published.manifest);
            entry.client_files = files.keys().cloned().collect();
            texts.insert(entry.page(), html::component(catalog, &entry, &files));
            catalog.put(entry);
            let told = pages::Told { component: component.name.clone(), basis };
            record.folders.insert(component.folder.clone(), told);
        }
        texts
    }

    /// Reads what is published of a component, as far as it was not told before.
    async fn read(
        store: &Store,
        component: &Component,
        before: Option<&catalog::Entry>,
    ) -> Result<Published, CommitError> {
        let mut published = Published::read(store, &component.folder).await?;
        let names = entry::worth_reading(component, &published, before);
        published.read_records(store, &component.folder, names).await?;
        Ok(published)
    }
}

fn digest(of: &impl serde::Serialize) -> Sha256 {
    Sha256::of(&serde_json::to_vec(of).expect("its keys are text"))
}

/// The file of a component's page. The longest names of components leave no room for an ending.
fn file_of(component: &Component) -> Option<FileName> {
    format!("{}.html", component.name).parse().ok()
}

/// Keeps the record; `None` if another publisher did.
async fn keep_record(
    store: &Store,
    lock: &Lock,
    record: &mut Pages,
    seen: &Seen,
) -> Result<Option<Seen>, StoreError> {
    let bytes = record.render();
    if seen.bytes() == Some(&bytes) {
        return Ok(Some(seen.clone()));
    }
    store.replace(&pages::path(), bytes, seen, lock).await
}

/// Takes files away that are ours, and forgets them.
async fn take_away(store: &Store, record: &mut Pages, paths: &[String]) -> Result<(), StoreError> {
    for path in paths {
        if let Some(Written { file, .. }) = record.files.remove(path) {
            derived::take_away(store, path, &file).await?;
        }
    }
    Ok(())
}

/// What people should know: which pages are somebody else's.
fn warnings(store: &Store, record: &Pages) -> Vec<String> {
    let theirs = record.files.iter().filter(|(_, written)| written.file.theirs).map(|(path, _)| {
        format!(
            "warning: {} is somebody else's, and stays\n  hint: move it away, or set page = false in [repository]",
            store.locate(path)
        )
    });
    theirs.collect()
}

//! `publish yank` and `publish restore`

use std::fmt::Write as _;

use anyhow::Context as _;
use jiff::Timestamp;
use serde::Serialize;

use super::{Context, Ended, print, print_json, program};
use crate::config::{Component, Config};
use crate::name::{ComponentName, FileName, Folder};
use crate::report::say;
use crate::repository::commit::CommitError;
use crate::repository::yank::{self, Restored, YankError};
use crate::repository::{Place, Published, seal};
use crate::sign::{self, Signer};
use crate::store::{Access, Store};
use crate::sync;
use crate::version::Version;

#[derive(Serialize)]
struct Result<'a> {
    component: &'a ComponentName,
    /// Not `version`: that is the document's own.
    release: &'a Version,
    /// The lines that went or came back.
    images: &'a [FileName],
    /// The newest version that is offered now.
    newest: Option<Version>,
}

pub(super) async fn yank(
    context: &Context,
    name: &ComponentName,
    version: &Version,
    reason: Option<String>,
    force: bool,
) -> anyhow::Result<Ended> {
    let config = context.load()?;
    let component = ours(config.component(name)?)?;
    let now = Timestamp::now();
    let done = at_place(&config, &component.folder, overtaken, async |place| {
        yank::yank(place, component, version, reason.clone(), force, now).await
    });
    let (store, images) = done.await?;
    let images = images.with_context(|| format!("{name}: cannot yank {version}"))?;
    let newest = newest(&store, component).await?;
    if context.json {
        print_json("yank", &Result { component: name, release: version, images: &images, newest })?;
    } else {
        let mut out = String::new();
        if images.is_empty() {
            let _ = writeln!(out, "{name} {version} is yanked already");
        }
        for image in &images {
            let _ = writeln!(out, "took {image} out of {}", component.folder);
        }
        match newest {
            Some(newest) => {
                let _ = writeln!(out, "the newest version that is offered is {newest} now");
            }
            None => out.push_str("nothing is offered now\n"),
        }
        print(&out)?;
    }
    say(&format!(
        "warning: nodes that have {version} keep it: they never go back to an older version\n  hint: they move on with the next newer one: upstream's next, or, once the recipe is right, a revision of this one ({} restore --rebuild {name} {version})\n",
        program()
    ));
    Ok(Ended::Well)
}

pub(super) async fn restore(
    context: &Context,
    name: &ComponentName,
    version: &Version,
    rebuild: bool,
) -> anyhow::Result<Ended> {
    let config = context.load()?;
    let component = ours(config.component(name)?)?;
    let done = at_place(&config, &component.folder, overtaken, async |place| {
        yank::restore(place, version, rebuild).await
    });
    let (store, restored) = done.await?;
    let restored = restored.with_context(|| format!("{name}: cannot restore {version}"))?;
    let newest = newest(&store, component).await?;
    let images = match &restored {
        Restored::Lines(images) => images.as_slice(),
        Restored::Anew(_) => &[],
    };
    if context.json {
        print_json("restore", &Result { component: name, release: version, images, newest })?;
        return Ok(Ended::Well);
    }
    let mut out = String::new();
    for image in images {
        let _ = writeln!(out, "put {image} back into {}", component.folder);
    }
    if let Restored::Anew(revision) = restored {
        let why = if rebuild { "" } else { "its files are not there as they were: " };
        let _ = writeln!(
            out,
            "{why}the next sync builds {name} {version} anew, as revision r{revision}, if it is wanted"
        );
    }
    print(&out)?;
    Ok(Ended::Well)
}

/// What is published as somebody else has it is not ours to change.
fn ours(component: &Component) -> anyhow::Result<&Component> {
    if component.is_verbatim() {
        anyhow::bail!(
            "{}: its manifest is its upstream's, which signed it as it is\nhint: without `verbatim = true`, versions can be taken out here",
            component.name
        );
    }
    Ok(component)
}

/// Does something to a folder with the right to write there, and a few times if another publisher was
/// faster: each try reads what is there. The outer error is of the store as a whole.
pub(super) async fn at_place<T, E>(
    config: &Config,
    folder: &Folder,
    is_overtaken: fn(&E) -> bool,
    work: impl AsyncFn(&Place<'_>) -> std::result::Result<T, E>,
) -> anyhow::Result<(Store, std::result::Result<T, E>)> {
    let signer = Signer::open(config)?;
    let keyring = sign::client_keyring(config, &signer)?;
    let store = open(config)?;
    let lock = store.lock().await?;
    let done = lock.during(async |lock| {
        // Nodes must have the key before anything is signed with it.
        if let Some(keyring) = &keyring {
            seal::put_keyring(&store, lock, keyring).await?;
        }
        let place = Place { store: &store, lock, folder, signer: &signer };
        let done = sync::in_turn(is_overtaken, async || work(&place).await).await;
        // A node must not begin with what was taken out.
        if done.is_ok()
            && let Some(component) = config.components.iter().find(|one| one.folder == *folder)
        {
            for note in sync::keep_clients(config, component, &place, keyring.as_ref()).await? {
                say(&format!("{note}\n"));
            }
        }
        if done.is_ok() {
            for note in sync::keep_pages(config, &place, keyring.as_ref()).await? {
                say(&format!("{note}\n"));
            }
        }
        anyhow::Ok(done)
    });
    let done = done.await?;
    Ok((store, done))
}

/// Another publisher was faster.
pub(super) fn raced(error: &CommitError) -> bool {
    matches!(error, CommitError::Raced { .. })
}

fn overtaken(error: &YankError) -> bool {
    matches!(error, YankError::Commit(error) if raced(error))
}

/// Opens a store that is there: neither command starts one.
fn open(config: &Config) -> anyhow::Result<Store> {
    let store = Store::configured(config, Access::Read)?;
    if store.as_directory().is_some_and(|root| !root.exists()) {
        anyhow::bail!("{store}: there is no repository yet\nhint: `publish sync` fills it");
    }
    Ok(store.made()?)
}

async fn newest(store: &Store, component: &Component) -> anyhow::Result<Option<Version>> {
    Ok(sync::newest(component, &Published::read(store, &component.folder).await?))
}

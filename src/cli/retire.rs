//! `publish retire`

use std::fmt::Write as _;

use anyhow::Context as _;
use jiff::Timestamp;
use serde::Serialize;

use super::yank::{at_place, raced};
use super::{Context, Ended, Usage, print, print_json};
use crate::config;
use crate::name::{FileName, Folder};
use crate::report::{count, likely, say};
use crate::repository::Published;
use crate::repository::left::{self, Retired};

#[derive(Serialize)]
struct Result<'a> {
    folder: &'a Folder,
    /// The lines that went.
    images: &'a [FileName],
    /// The lines that stay.
    strangers: &'a [FileName],
}

pub(super) async fn run(context: &Context, folder: &Folder) -> anyhow::Result<Ended> {
    // With all of its components, whatever `--only` says: any of them may have the folder.
    let config = config::load(&context.config_file())?;
    if let Some(component) = config.components.iter().find(|other| other.folder == *folder) {
        return Err(Usage(format!(
            "{folder} is the folder of component `{}`\nhint: remove {} first, or move it with `path`; `publish yank` takes single versions out",
            component.name,
            component.file.display()
        ))
        .into());
    }
    let done =
        at_place(&config, folder, raced, async |place| left::retire(place, Timestamp::now()).await);
    let (store, done) = done.await?;
    let Retired { images, strangers } = done.with_context(|| format!("cannot retire {folder}"))?;
    if images.is_empty() && strangers.is_empty() {
        let claimed = config.components.iter().map(|component| component.folder.clone());
        let mut others: Vec<String> = Vec::new();
        for other in left::find(&store, &claimed.collect()).await? {
            if Published::read(&store, &other).await?.manifest.files().next().is_some() {
                others.push(other.to_string());
            }
        }
        let hint = match others.len() {
            0 => "every folder that offers something has a component".to_owned(),
            _ => format!("without a component: {}", likely(folder.as_str(), &others)),
        };
        return Err(Usage(format!("{folder} offers nothing\nhint: {hint}")).into());
    }
    if context.json {
        let result = Result { folder, images: &images, strangers: &strangers };
        print_json("retire", &result)?;
    } else {
        let mut out = String::new();
        for image in &images {
            let _ = writeln!(out, "took {image} out of {folder}");
        }
        if !images.is_empty() {
            let grace = config.document.retention.grace;
            let from = Timestamp::now().checked_add(grace).map(|from| format!("{from:.0}"));
            let from = from.unwrap_or_else(|_| "never".to_owned());
            let _ = writeln!(out, "sync deletes {}, from {from} on", count(images.len(), "file"));
        }
        print(&out)?;
    }
    if !strangers.is_empty() {
        let names: Vec<&str> = strangers.iter().map(FileName::as_str).collect();
        say(&format!(
            "warning: nothing tells who made {}: {folder} goes on offering that\n  hint: take the lines out by hand, if they are nobody's\n",
            names.join(", ")
        ));
    }
    Ok(Ended::Well)
}

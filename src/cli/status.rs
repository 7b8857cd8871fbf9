//! `publish status`: what upstream has, what is published, and what an operator should know.

use std::fmt::Write as _;

use jiff::Timestamp;
use serde::Serialize;

use super::{Context, Ended, print, print_json};
use crate::name::{Arch, ComponentName, FileName, Folder};
use crate::report::{Told, count, say};
use crate::repository::commit::Gone;
use crate::repository::{self, Published, retention};
use crate::sign::freshness;
use crate::store::{Access, Store};
use crate::sync::{self, Survey, Unsurveyed};
use crate::version::Version;

/// How long before the manifest expires somebody should look: a sync that runs renews it earlier.
const WARN: jiff::SignedDuration = jiff::SignedDuration::from_hours(3 * 24);

#[derive(Serialize)]
struct Result<'a> {
    components: &'a [Status],
}

#[derive(Serialize)]
struct Status {
    component: ComponentName,
    folder: Option<Folder>,
    /// The newest version that upstream has and the component wants.
    upstream: Option<Version>,
    /// The newest version that is published.
    published: Option<Version>,
    state: State,
    /// Images that a sync would build.
    missing: Vec<FileName>,
    /// Architectures that the newest published version lacks.
    missing_architectures: Vec<Arch>,
    /// From this day on, clients that check freshness refuse the manifest.
    expires: Option<Timestamp>,
    /// When the manifest was last written.
    changed: Option<Timestamp>,
    /// Assets of the wanted versions that nothing vouches for.
    unverified: Vec<String>,
    yanked: Vec<YankedVersion>,
    /// Files that go when their grace is over.
    pending: Vec<Pending>,
    errors: Vec<Told>,
}

#[derive(Serialize)]
struct YankedVersion {
    version: Version,
    at: Timestamp,
    reason: Option<String>,
}

#[derive(Serialize)]
struct Pending {
    file: FileName,
    /// When it may be deleted.
    at: Timestamp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
enum State {
    Current,
    /// It expires soon.
    Expiring,
    /// Something is to be built.
    Behind,
    /// Clients that check freshness refuse the manifest.
    Expired,
    /// It is not known, or something cannot be published.
    Failed,
}

impl State {
    fn text(self) -> &'static str {
        match self {
            Self::Current => "current",
            Self::Expiring => "expires soon",
            Self::Behind => "behind",
            Self::Expired => "expired",
            Self::Failed => "failed",
        }
    }
}

pub(super) async fn run(context: &Context, check: bool) -> anyhow::Result<Ended> {
    let config = context.load()?;
    let shop = sync::workshop(&config, &context.progress);
    let store = Store::configured(&config, Access::Read)?;
    let signer = sync::signer_to_look(&config, &context.progress)?;
    let now = Timestamp::now();
    let mut components = Vec::new();
    for survey in sync::survey_all(&config, &shop, &store, signer.as_ref()).await {
        components.push(match survey {
            Ok(survey) => status(&survey, now),
            Err(failed) => unknown(&failed),
        });
    }
    let worst = components.iter().map(|status| status.state).max().unwrap_or(State::Current);
    if context.json {
        print_json("status", &Result { components: &components })?;
    } else if check {
        print(&line(&components, worst))?;
    } else {
        for told in components.iter().flat_map(|status| &status.errors) {
            say(&told.text());
        }
        print(&components.iter().map(text).collect::<String>())?;
    }
    Ok(if worst >= State::Behind { Ended::Partly } else { Ended::Well })
}

/// What can be told of a component whose upstream cannot be asked.
fn unknown(failed: &Unsurveyed<'_>) -> Status {
    let published = failed.published.as_deref();
    Status {
        component: failed.component.name.clone(),
        folder: None,
        upstream: None,
        published: published.and_then(|published| sync::newest(failed.component, published)),
        state: State::Failed,
        missing: Vec::new(),
        missing_architectures: Vec::new(),
        expires: published.and_then(|published| freshness::expiry(&published.manifest)),
        changed: published.and_then(Published::changed),
        unverified: Vec::new(),
        yanked: Vec::new(),
        pending: Vec::new(),
        errors: vec![failed.error.clone()],
    }
}

fn status(survey: &Survey<'_>, now: Timestamp) -> Status {
    let Survey { component, arches, published, plan, basis, .. } = survey;
    let shelf = repository::shelf::Shelf::new(
        component,
        published,
        &crate::plan::versions_of(component, &survey.releases),
    );
    let newest = shelf.slots.values().next_back().and_then(|slot| slot.values().next_back());
    let missing_architectures = newest.map_or_else(Vec::new, |files| {
        let lacks = arches.iter().filter(|(arch, _)| !files.contains_key(arch));
        lacks.map(|(arch, _)| *arch).collect()
    });
    let expires = freshness::expiry(&published.manifest);
    let left = expires.map(|end| end.duration_since(now));
    let missing: Vec<FileName> = plan.builds().map(|build| build.image.clone()).collect();
    let errors = sync::refusals(survey);
    // It is offered although somebody took it out: a yank that did not come to its end.
    let is_yanked = plan.removals().any(|removal| removal.why == Gone::Yanked);
    let state = [
        (!errors.is_empty(), State::Failed),
        (left.is_some_and(|left| !left.is_positive()), State::Expired),
        (!missing.is_empty() || plan.sign().is_some() || is_yanked, State::Behind),
        (left.is_some_and(|left| left < WARN), State::Expiring),
    ];
    let state = state.into_iter().find(|(holds, _)| *holds).map_or(State::Current, |(_, s)| s);
    let grace = basis.retention.grace;
    let (due, waiting) = retention::due(published, grace, now);
    let pending = due.into_iter().map(|file| (file, now)).chain(waiting);
    let yanked = published.catalogue.yanked.iter();
    Status {
        component: component.name.clone(),
        folder: Some(component.folder.clone()),
        upstream: plan.newest.clone(),
        published: sync::newest(component, published),
        state,
        missing,
        missing_architectures,
        expires,
        changed: published.changed(),
        unverified: plan.unverified().into_iter().map(str::to_owned).collect(),
        yanked: yanked
            .map(|(version, yank)| YankedVersion {
                version: version.clone(),
                at: yank.at,
                reason: yank.reason.clone(),
            })
            .collect(),
        pending: pending.map(|(file, at)| Pending { file, at }).collect(),
        errors,
    }
}

fn text(status: &Status) -> String {
    let mut out = String::new();
    let or_none = |version: &Option<Version>| {
        version.as_ref().map_or_else(|| "none".to_owned(), Version::to_string)
    };
    let _ = writeln!(
        out,
        "{}: {}, published {}, upstream {}",
        status.component,
        status.state.text(),
        or_none(&status.published),
        or_none(&status.upstream),
    );
    if let Some(changed) = status.changed {
        let _ = writeln!(out, "  changed    {changed}");
    }
    if let Some(expires) = status.expires {
        let _ = writeln!(out, "  expires    {expires}");
    }
    for image in &status.missing {
        let _ = writeln!(out, "  to build   {image}");
    }
    for arch in &status.missing_architectures {
        let _ = writeln!(out, "  lacks      {arch} of {}", or_none(&status.published));
    }
    let unverified: Vec<&str> = status.unverified.iter().map(String::as_str).collect();
    if let Some(unverified) = super::plan::unverified(&unverified) {
        let _ = writeln!(out, "  unverified {unverified}");
    }
    for YankedVersion { version, at, reason } in &status.yanked {
        let reason =
            reason.as_ref().map(|text| format!(": {}", text.escape_debug())).unwrap_or_default();
        let _ = writeln!(out, "  yanked     {version} at {at:.0}{reason}");
    }
    if let Some(first) = status.pending.iter().map(|pending| pending.at).min() {
        let files = count(status.pending.len(), "file");
        let _ = writeln!(out, "  to delete  {files}, from {first:.0} on");
    }
    out
}

/// One line, as monitoring systems want it.
fn line(components: &[Status], worst: State) -> String {
    let all = count(components.len(), "component");
    let bad: Vec<&Status> =
        components.iter().filter(|status| status.state > State::Current).collect();
    if bad.is_empty() {
        return format!("OK: {all} current\n");
    }
    let level = if worst >= State::Behind { "BEHIND" } else { "WARNING" };
    let names: Vec<String> = bad
        .iter()
        .map(|status| {
            let versions = match (status.state, &status.published, &status.upstream) {
                (State::Behind, Some(published), Some(upstream)) if published != upstream => {
                    format!(" {published} of {upstream}")
                }
                _ => String::new(),
            };
            format!("{} {}{versions}", status.component, status.state.text())
        })
        .collect();
    format!("{level}: {} of {all}: {}\n", bad.len(), names.join(", "))
}

//! `publish status`: what upstream has, what is published, and what an operator should know.

use std::fmt::Write as _;

use jiff::Timestamp;
use serde::Serialize;

use super::plan::{newer_than, no_longer_listed, warn};
use super::{Context, Ended, print, print_json};
use crate::fetch::Quota;
use crate::name::{Arch, ComponentName, FileName, Folder};
use crate::plan::Awaited;
use crate::report::{Told, count, say};
use crate::repository::commit::Gone;
use crate::repository::{self, Published, retention};
use crate::sign::freshness;
use crate::store::{Access, Store};
use crate::sync::{self, Left, Limit, Run, Survey, Unsurveyed};
use crate::version::Version;

/// How long before the manifest expires somebody should look: a sync that runs renews it earlier.
const WARN: jiff::SignedDuration = jiff::SignedDuration::from_hours(3 * 24);

#[derive(Serialize)]
struct Result<'a> {
    components: &'a [Status],
    /// Folders that no component has.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    left: &'a [Left],
    /// What is left to ask of the hosts that told it.
    quotas: Vec<Asked>,
}

#[derive(Serialize)]
struct Asked {
    host: String,
    limit: Option<u64>,
    remaining: u64,
    /// When it is all there again.
    reset: Option<Timestamp>,
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
    /// Of what is published as somebody else has it, where nobody tells versions.
    #[serde(skip_serializing_if = "Option::is_none")]
    files: Option<Files>,
    /// What becomes of what is missing.
    #[serde(skip)]
    owed: &'static str,
    /// Images that a sync would build.
    missing: Vec<FileName>,
    /// Architectures that the newest published version lacks.
    missing_architectures: Vec<Arch>,
    /// From this day on, clients that check freshness refuse the manifest.
    expires: Option<Timestamp>,
    /// When the manifest was last written.
    changed: Option<Timestamp>,
    /// What is wanted, but not all there yet.
    waiting: Vec<Awaited>,
    /// What the component holds to, and what is newer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pinned: Option<Pinned>,
    /// What is published, but upstream lists no more.
    withdrawn: Vec<Version>,
    /// Assets of the wanted versions that nothing vouches for.
    unverified: Vec<String>,
    yanked: Vec<YankedVersion>,
    /// Files that go when their grace is over.
    pending: Vec<Pending>,
    /// Files for nodes that are missing, or not as they should be.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    client_files: Vec<FileName>,
    /// What is odd about what publish keeps for itself.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
    errors: Vec<Told>,
}

/// How many files there are.
#[derive(Serialize)]
struct Files {
    upstream: Option<usize>,
    published: usize,
}

#[derive(Serialize)]
struct YankedVersion {
    version: Version,
    at: Timestamp,
    reason: Option<String>,
}

#[derive(Serialize)]
struct Pinned {
    version: String,
    newer: Vec<Version>,
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
    /// Upstream's newest is not all there yet.
    Waiting,
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
            Self::Waiting => "waiting",
            Self::Expiring => "expires soon",
            Self::Behind => "behind",
            Self::Expired => "expired",
            Self::Failed => "failed",
        }
    }
}

pub(super) async fn run(context: &Context, check: bool) -> anyhow::Result<Ended> {
    let config = context.load()?;
    let shop = sync::workshop(&config, &context.progress)?;
    let store = Store::configured(&config, Access::Read)?;
    let signer = sync::signer_to_look(&config, &context.progress)?;
    let now = Timestamp::now();
    let surveys = sync::survey_all(&config, &shop, &store, signer.as_ref()).await;
    let due = surveys.iter().flatten().map(|survey| survey.plan.deletions().count()).sum();
    let limit = Limit { due, most: config.document.retention.max_delete };
    let outdated = sync::outdated(&config, signer.as_deref(), &surveys)?;
    let components: Vec<Status> = surveys
        .iter()
        .zip(outdated)
        .map(|(survey, outdated)| match survey {
            Ok(survey) => status(survey, outdated, limit, now),
            Err(failed) => unknown(failed),
        })
        .collect();
    if !check {
        sync::ask_quotas(&config, &shop).await;
    }
    let quotas = shop.client.quotas();
    let (left, error) = super::sync::left(context, store, &config, Run::Dry).await;
    let is_told =
        |left: &Left| left.lines > 0 || !left.errors.is_empty() || (!check && left.pending > 0);
    let left: Vec<Left> = left.into_iter().filter(is_told).collect();
    surveys.iter().flatten().for_each(warn);
    let states = components.iter().map(|status| status.state);
    let worst = states.chain(left.iter().map(|left| state_of(left, now)));
    let worst = worst.max().unwrap_or(State::Current);
    if let Some(error) = error.as_ref().filter(|_| context.json || check) {
        say(&error.text());
    }
    if context.json {
        let quotas = quotas.into_iter().map(|(host, quota)| {
            let Quota { limit, remaining, reset } = quota;
            Asked { host, limit, remaining, reset }
        });
        let quotas = quotas.collect();
        print_json("status", &Result { components: &components, left: &left, quotas })?;
    } else if check {
        print(&line(&components, &left, now))?;
    } else {
        for told in components.iter().flat_map(|status| &status.errors) {
            say(&told.text());
        }
        let failed = components.iter().any(|status| !status.errors.is_empty());
        super::sync::tell_of_left(&left, error.as_ref().filter(|_| !failed));
        let components = components.iter().map(text);
        let left = left.iter().map(|left| text_of_left(left, now));
        let quotas = quotas.iter().map(|(host, quota)| format!("{host}: {quota}\n"));
        print(&components.chain(left).chain(quotas).collect::<String>())?;
    }
    Ok(if worst >= State::Behind || error.is_some() { Ended::Partly } else { Ended::Well })
}

/// What can be told of a component whose upstream cannot be asked.
fn unknown(failed: &Unsurveyed) -> Status {
    let published = failed.published.as_deref();
    Status {
        component: failed.component.name.clone(),
        folder: None,
        upstream: None,
        published: published.and_then(|published| sync::newest(&failed.component, published)),
        state: State::Failed,
        files: published.filter(|_| failed.component.is_verbatim()).map(|published| Files {
            upstream: None,
            published: published.manifest.files().count(),
        }),
        owed: "to build",
        missing: Vec::new(),
        missing_architectures: Vec::new(),
        expires: published.and_then(|published| freshness::expiry(&published.manifest)),
        changed: published.and_then(Published::changed),
        waiting: Vec::new(),
        pinned: None,
        withdrawn: Vec::new(),
        unverified: Vec::new(),
        yanked: Vec::new(),
        pending: Vec::new(),
        client_files: Vec::new(),
        warnings: Vec::new(),
        errors: vec![failed.error.clone()],
    }
}

/// How the manifest of a folder that no component has is.
fn state_of(left: &Left, now: Timestamp) -> State {
    let remaining = left.expires.map(|end| end.duration_since(now));
    if !left.errors.is_empty() {
        State::Failed
    } else if remaining.is_some_and(|remaining| !remaining.is_positive()) {
        State::Expired
    } else if left.signed.is_some() {
        State::Behind
    } else if remaining.is_some_and(|remaining| remaining < WARN) {
        State::Expiring
    } else {
        State::Current
    }
}

fn text_of_left(left: &Left, now: Timestamp) -> String {
    let Left { folder, lines, expires, pending, pending_from, .. } = left;
    let state = state_of(left, now).text();
    let mut out = if *lines == 0 && left.errors.is_empty() {
        format!("{folder}/: let go\n")
    } else {
        format!("{folder}/: {state}, without a component, {}\n", count(*lines, "image"))
    };
    if let Some(expires) = expires {
        let _ = writeln!(out, "  expires    {expires}");
    }
    if let Some(first) = pending_from {
        let _ = writeln!(out, "  to delete  {}, from {first:.0} on", count(*pending, "file"));
    }
    out
}

fn status(survey: &Survey, client_files: Vec<FileName>, limit: Limit, now: Timestamp) -> Status {
    let Survey { component, arches, published, plan, basis, .. } = survey;
    let shelf = repository::shelf::Shelf::new(component, published, survey.upstream.versions());
    let newest = shelf.slots.values().next_back().and_then(|slot| slot.values().next_back());
    let missing_architectures = newest.map_or_else(Vec::new, |files| {
        let lacks = arches.iter().filter(|(arch, _)| !files.contains_key(arch));
        lacks.map(|(arch, _)| *arch).collect()
    });
    let expires = freshness::expiry(&published.manifest);
    let left = expires.map(|end| end.duration_since(now));
    // Another try at what is waited for is nothing that a sync owes anybody.
    let owed = plan.builds().filter(|build| !plan.is_awaited(build));
    let missing: Vec<FileName> = owed.map(|build| build.image.clone()).collect();
    let mut errors = sync::refusals(survey);
    // A sync says so, too, and deletes nothing.
    let exceeded = limit.exceeded(&component.name);
    errors.extend(exceeded.filter(|_| plan.deletions().next().is_some()));
    // It is offered although somebody took it out: a yank that did not come to its end.
    let is_yanked = plan.removals().any(|removal| removal.why == Gone::Yanked);
    let state = [
        (!errors.is_empty(), State::Failed),
        (left.is_some_and(|left| !left.is_positive()), State::Expired),
        (!missing.is_empty() || plan.sign().is_some() || is_yanked, State::Behind),
        (!client_files.is_empty(), State::Behind),
        (left.is_some_and(|left| left < WARN), State::Expiring),
        (!plan.waiting.is_empty(), State::Waiting),
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
        files: component.is_verbatim().then(|| Files {
            upstream: Some(survey.upstream.judged.len()),
            published: published.manifest.files().count(),
        }),
        owed: if component.mirrored().is_some() { "to mirror" } else { "to build" },
        missing,
        missing_architectures,
        expires,
        changed: published.changed(),
        waiting: plan.waiting.clone(),
        pinned: component
            .versions
            .pin
            .clone()
            .map(|version| Pinned { version, newer: plan.newer.clone() }),
        withdrawn: plan.withdrawn.clone(),
        unverified: plan.unverified().into_iter().map(str::to_owned).collect(),
        yanked: yanked
            .map(|(version, yank)| YankedVersion {
                version: version.clone(),
                at: yank.at,
                reason: yank.reason.clone(),
            })
            .collect(),
        pending: pending.map(|(file, at)| Pending { file, at }).collect(),
        client_files,
        warnings: survey.warnings.clone(),
        errors,
    }
}

fn text(status: &Status) -> String {
    let mut out = String::new();
    let or_none = |version: &Option<Version>| {
        version.as_ref().map_or_else(|| "none".to_owned(), Version::to_string)
    };
    let (published, upstream) = match &status.files {
        Some(Files { upstream, published }) => {
            let upstream = upstream.map_or_else(|| "none".to_owned(), |files| count(files, "file"));
            (count(*published, "file"), upstream)
        }
        None => (or_none(&status.published), or_none(&status.upstream)),
    };
    let (component, state) = (&status.component, status.state.text());
    let _ = writeln!(out, "{component}: {state}, published {published}, upstream {upstream}");
    if let Some(changed) = status.changed {
        let _ = writeln!(out, "  changed    {changed:.0}");
    }
    if let Some(expires) = status.expires {
        let _ = writeln!(out, "  expires    {expires}");
    }
    for image in &status.missing {
        let _ = writeln!(out, "  {:9}  {image}", status.owed);
    }
    for arch in &status.missing_architectures {
        let _ = writeln!(out, "  lacks      {arch} of {}", or_none(&status.published));
    }
    for awaited in &status.waiting {
        let _ = writeln!(out, "  waiting    {awaited}");
    }
    if let Some(Pinned { version, newer }) = &status.pinned
        && !newer.is_empty()
    {
        let _ = writeln!(out, "  pinned     {}", newer_than(version, newer));
    }
    if !status.withdrawn.is_empty() {
        let _ = writeln!(out, "  withdrawn  {}", no_longer_listed(&status.withdrawn));
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
    if !status.client_files.is_empty() {
        let names: Vec<&str> = status.client_files.iter().map(FileName::as_str).collect();
        let _ = writeln!(out, "  for nodes  not up to date: {}", names.join(", "));
    }
    if let Some(first) = status.pending.iter().map(|pending| pending.at).min() {
        let files = count(status.pending.len(), "file");
        let _ = writeln!(out, "  to delete  {files}, from {first:.0} on");
    }
    out
}

fn waits(number: usize) -> String {
    format!("{number} {}", if number == 1 { "waits" } else { "wait" })
}

/// One line, as monitoring systems want it.
fn line(components: &[Status], left: &[Left], now: Timestamp) -> String {
    let of_component = |status: &Status| {
        let versions = match (status.state, &status.published, &status.upstream) {
            (State::Behind, Some(published), Some(upstream)) if published != upstream => {
                format!(" {published} of {upstream}")
            }
            _ => String::new(),
        };
        (status.state, format!("{} {}{versions}", status.component, status.state.text()))
    };
    let of_left = |left: &Left| {
        let state = state_of(left, now);
        (state, format!("{}/ {}", left.folder, state.text()))
    };
    let mut all = count(components.len(), "component");
    if !left.is_empty() {
        let _ = write!(all, " and {} without one", count(left.len(), "folder"));
    }
    let states = components.iter().map(of_component).chain(left.iter().map(of_left));
    let (states, bad): (Vec<State>, Vec<String>) =
        states.filter(|(state, _)| *state > State::Waiting).unzip();
    let Some(worst) = states.into_iter().max() else {
        let waiting = components.iter().filter(|status| status.state == State::Waiting);
        let waiting: Vec<&str> = waiting.map(|status| status.component.as_str()).collect();
        let told = if waiting.is_empty() {
            String::new()
        } else {
            format!(", {} for upstream: {}", waits(waiting.len()), waiting.join(", "))
        };
        return format!("OK: {all} current{told}\n");
    };
    let level = if worst >= State::Behind { "BEHIND" } else { "WARNING" };
    format!("{level}: {} of {all}: {}\n", bad.len(), bad.join(", "))
}

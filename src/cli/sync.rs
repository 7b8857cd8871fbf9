//! `publish sync`

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::Serialize;

use super::staged::unserved;
use super::{Context, Ended, actions, document, print, print_json, program};
use crate::config::Config;
use crate::fetch::Quota;
use crate::news::{Desk, Ran};
use crate::report::{Told, count, human_size, say};
use crate::repository::commit::Removal;
use crate::sign::KEYRING;
use crate::stage::Stage;
use crate::store::{Access, Store, StoreError};
use crate::sync::{self, Left, Outcome, Run};

/// What a sync came to.
pub(super) struct Done {
    pub(super) outcomes: Vec<Outcome>,
    pub(super) left: Vec<Left>,
    /// What is wrong with the store as a whole.
    pub(super) error: Option<Told>,
    pub(super) quotas: Vec<(String, Quota)>,
}

/// One sync, and what became of the folders that no component has. With images that other machines made,
/// what is not among those is not made here either.
pub(super) async fn once(
    context: &Context,
    config: &Config,
    store: Store,
    stage: Option<Arc<Stage>>,
    run: Run,
) -> anyhow::Result<Done> {
    let mut shop = sync::workshop(config, &context.progress)?;
    shop.stage = stage;
    let outcomes = sync::sync_in(&shop, store.clone(), config, run).await?;
    let (left, error) = left(context, store, config, run).await;
    Ok(Done { outcomes, left, error, quotas: shop.client.quotas() })
}

impl Done {
    fn any_failed(&self) -> bool {
        self.outcomes.iter().any(|outcome| !outcome.errors.is_empty())
    }

    /// Whether nothing at all is wrong.
    pub(super) fn is_well(&self) -> bool {
        !self.any_failed()
            && self.error.is_none()
            && self.left.iter().all(|left| left.errors.is_empty())
    }

    /// Whether nothing came and nothing went.
    pub(super) fn is_unchanged(&self) -> bool {
        self.outcomes.iter().all(Outcome::is_unchanged) && !self.left.iter().any(Left::is_due)
    }

    /// What is wrong beside the components.
    pub(super) fn errors(&self) -> Vec<&Told> {
        let of_folders = self.left.iter().flat_map(|left| &left.errors);
        self.error.iter().filter(|_| !self.any_failed()).chain(of_folders).collect()
    }

    /// Says what people should know.
    pub(super) fn say(&self) {
        for warning in self.outcomes.iter().flat_map(|outcome| &outcome.warnings) {
            say(&format!("{warning}\n"));
        }
        for told in self.outcomes.iter().flat_map(|outcome| &outcome.errors) {
            say(&told.text());
        }
        // A store that answers nothing was told of already.
        tell_of_left(&self.left, self.error.as_ref().filter(|_| !self.any_failed()));
    }

    /// The same for people, on stdout.
    pub(super) fn text(&self, config: &Config, run: Run) -> String {
        summary(config, run, &self.outcomes) + &tended(run, &self.left)
    }

    /// The same for programs.
    pub(super) fn result(&self, config: &Config, run: Run) -> Result<'_> {
        let dry_run = run == Run::Dry;
        Result {
            dry_run,
            changed: !dry_run && !self.is_unchanged(),
            store: config.store().to_string(),
            components: &self.outcomes,
            left: &self.left,
        }
    }
}

#[derive(Serialize)]
pub(super) struct Result<'a> {
    dry_run: bool,
    changed: bool,
    store: String,
    components: &'a [Outcome],
    /// Folders that no component has.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    left: &'a [Left],
}

pub(super) async fn run(
    context: &Context,
    dry_run: bool,
    adopt: bool,
    locked: bool,
    staged: Option<&Path>,
) -> anyhow::Result<Ended> {
    let mut config = context.load()?;
    config.document.trust.locked |= locked;
    config.adopt = adopt;
    if let Some(folder) = staged {
        unserved(&config, folder)?;
    }
    let run = if dry_run { Run::Dry } else { Run::Real };
    let stage = staged.map(Stage::open).transpose()?.map(Arc::new);
    let started = Instant::now();
    let done = async {
        let store = Store::configured(&config, Access::Read)?;
        once(context, &config, store, stage.clone(), run).await
    };
    let done = done.await;
    let took = started.elapsed();
    for (component, image) in stage.iter().flat_map(|stage| stage.unwanted(&config.components)) {
        context.progress.line(&format!(
            "{:>10} {image} of {component}: staged, but the plan wants it no longer",
            "left"
        ));
    }
    if let Ok(done) = &done {
        done.say();
        let result = done.result(&config, run);
        actions::output("changed", if result.changed { "true" } else { "false" });
        if run == Run::Real {
            actions::synced(&result.store, &done.outcomes, &done.left);
        }
        if context.json {
            print_json("sync", &result)?;
        } else {
            print(&done.text(&config, run))?;
            if run == Run::Real && done.outcomes.iter().any(|it| !it.published.is_empty()) {
                print(&next(&config, &done.outcomes))?;
            }
        }
    }
    if run == Run::Real {
        report(&mut Desk::default(), &config, &done, took).await;
    }
    Ok(if done?.is_well() { Ended::Well } else { Ended::Partly })
}

/// Tells those who did not look.
pub(super) async fn report(
    desk: &mut Desk,
    config: &Config,
    done: &anyhow::Result<Done>,
    took: Duration,
) {
    let (told, result) = match done {
        // Whoever holds the store tells of it.
        Err(error) if is_held(error) => return,
        Err(error) => {
            let told = Told::new(error.as_ref());
            let result = document("error", &serde_json::json!({ "errors": [&told] }));
            (Some(told), result)
        }
        Ok(done) => (None, document("sync", &done.result(config, Run::Real))),
    };
    let (outcomes, errors, quotas) = match done {
        Ok(done) => (done.outcomes.as_slice(), done.errors(), done.quotas.clone()),
        Err(_) => Default::default(),
    };
    let outcomes = told.as_ref().map_or(Ok(outcomes), Err);
    let document = result.ok();
    let ran = Ran { at: Timestamp::now(), took, outcomes, errors, quotas, document };
    for warning in desk.tell(config, &ran).await {
        say(&warning);
    }
}

/// Whether it is only that another publisher holds the repository.
pub(super) fn is_held(error: &anyhow::Error) -> bool {
    let is = |error: &(dyn std::error::Error + 'static)| {
        matches!(error.downcast_ref(), Some(StoreError::Locked { .. }))
    };
    error.chain().any(is)
}

/// Looks after the folders that no component has. With only some of the components at hand, none is
/// known to be one. The error is of the store as a whole.
pub(super) async fn left(
    context: &Context,
    store: Store,
    config: &Config,
    run: Run,
) -> (Vec<Left>, Option<Told>) {
    if !context.only.is_empty() {
        return (Vec::new(), None);
    }
    match sync::tend(store, config, run).await {
        Ok(left) => (left, None),
        Err(error) => (Vec::new(), Some(Told::new(error.as_ref()))),
    }
}

/// Says what is wrong with them, and that they are there.
pub(super) fn tell_of_left(left: &[Left], error: Option<&Told>) {
    for told in error.into_iter().chain(left.iter().flat_map(|left| &left.errors)) {
        say(&told.text());
    }
    for warning in left.iter().filter_map(|left| left.warning(&program())) {
        say(&warning);
    }
}

fn summary(config: &Config, run: Run, outcomes: &[Outcome]) -> String {
    let store = config.store();
    let failed = outcomes.iter().filter(|outcome| !outcome.errors.is_empty()).count();
    let images: usize = outcomes.iter().map(|outcome| outcome.published.len()).sum();
    let signed = outcomes.iter().filter(|outcome| outcome.signed.is_some()).count();
    let unchanged = outcomes.iter().all(Outcome::is_unchanged);
    let mut out = String::new();
    match (images, run) {
        (0, _) if outcomes.is_empty() => {
            let folder = &config.document.repository.components;
            let _ = writeln!(out, "nothing to do: {} has no component", folder.display());
            return out;
        }
        (0, _) if signed > 0 => {
            let (what, end) = match run {
                Run::Dry => ("would sign", "; this was a dry run"),
                Run::Real => ("signed", ""),
            };
            let _ = writeln!(out, "{what} {} in {store}{end}", count(signed, "manifest"));
        }
        (0, _) if !unchanged => {}
        (0, _) => {
            let waiting = outcomes.iter().filter(|outcome| is_waiting(outcome)).count();
            let current = outcomes.len() - failed - waiting;
            let current = (current > 0)
                .then(|| format!("{} up to date in {store}", are(current, "component")));
            let waits = if waiting == 1 { "waits" } else { "wait" };
            let waiting = (waiting > 0)
                .then(|| format!("{} {waits} for upstream", count(waiting, "component")));
            let told: Vec<String> = current.into_iter().chain(waiting).collect();
            if !told.is_empty() {
                let _ = writeln!(out, "nothing to do: {}", told.join(", "));
            }
        }
        (_, Run::Dry) => {
            let _ = writeln!(
                out,
                "would publish {} to {store}; this was a dry run",
                count(images, "image")
            );
        }
        (_, Run::Real) => {
            let _ = writeln!(out, "published {} to {store}", count(images, "image"));
        }
    }
    out.push_str(&gone(run, outcomes));
    for outcome in outcomes.iter().filter(|outcome| {
        !outcome.is_unchanged() || outcome.newest.is_some() || !outcome.waiting.is_empty()
    }) {
        let newest =
            outcome.newest.as_ref().map(|newest| format!(", newest {newest}")).unwrap_or_default();
        let _ = writeln!(out, "\n  {} in {}/{newest}", outcome.component, outcome.folder);
        let width =
            outcome.published.iter().map(|image| image.image.as_str().len()).max().unwrap_or(0);
        if let Some(why) = outcome.signed {
            let _ = writeln!(out, "    {:width$}  {:>9}  {why}", "SHA256SUMS", "signed");
        }
        for image in &outcome.published {
            let size = image.size.map(human_size).unwrap_or_default();
            let _ = writeln!(out, "    {:width$}  {size:>9}  {}", image.image, image.why);
        }
        out.push_str(&gone_from(outcome));
        for awaited in &outcome.waiting {
            let _ = writeln!(out, "    {awaited}");
        }
    }
    if failed > 0 {
        let _ = writeln!(
            out,
            "\n{} failed, see above; what is published of it stays",
            count(failed, "component")
        );
    }
    out
}

/// What was done for folders that no component has.
fn tended(run: Run, left: &[Left]) -> String {
    let (sign, delete) = match run {
        Run::Dry => ("would sign", "would delete"),
        Run::Real => ("signed", "deleted"),
    };
    let mut out = String::new();
    for Left { folder, signed, deleted, .. } in left {
        if let Some(why) = signed {
            let _ = writeln!(out, "{sign} the manifest of {folder}/: {why}");
        }
        if !deleted.is_empty() {
            let _ = writeln!(out, "{delete} {} of {folder}/", count(deleted.len(), "file"));
        }
    }
    out
}

/// What all components together let go.
pub(super) fn gone(run: Run, outcomes: &[Outcome]) -> String {
    let lines: usize = outcomes.iter().map(|outcome| outcome.removed.len()).sum();
    let files: usize = outcomes.iter().map(|outcome| outcome.deleted.len()).sum();
    let (take, delete) = match run {
        Run::Dry => ("would take", "would delete"),
        Run::Real => ("took", "deleted"),
    };
    let mut out = String::new();
    if lines > 0 {
        let _ = writeln!(out, "{take} {} out of the manifests", count(lines, "line"));
    }
    if files > 0 {
        let _ = writeln!(out, "{delete} {}", count(files, "file"));
    }
    out
}

/// What one component let go.
pub(super) fn gone_from(outcome: &Outcome) -> String {
    let mut out = String::new();
    let names = outcome.removed.iter().map(|removal| &removal.name).chain(&outcome.deleted);
    let width = names.map(|name| name.as_str().len()).max().unwrap_or(0);
    for Removal { name, why } in &outcome.removed {
        let _ = writeln!(out, "    {name:width$}  out: {why}");
    }
    for name in &outcome.deleted {
        let _ = writeln!(out, "    {name:width$}  deleted: its grace is over");
    }
    out
}

/// Whether nothing is wrong with a component but that upstream is not ready.
fn is_waiting(outcome: &Outcome) -> bool {
    outcome.errors.is_empty() && !outcome.waiting.is_empty()
}

fn are(number: usize, noun: &str) -> String {
    format!("{} {}", count(number, noun), if number == 1 { "is" } else { "are" })
}

/// What a newcomer may want to type now.
fn next(config: &Config, outcomes: &[Outcome]) -> String {
    let program = program();
    let mut steps = vec![(format!("{program} verify"), "check every byte of it, as a client does")];
    if config.store().directory().is_some() {
        steps.push((format!("{program} serve"), "serve it on this machine, to try it"));
    }
    if config.document.repository.url.is_none() {
        steps.push((
            config.file.display().to_string(),
            "add `url` to [repository]: where nodes will find it",
        ));
    }
    let width = steps.iter().map(|(command, _)| command.len()).max().unwrap_or(0);
    let mut out = String::from("\nnext\n");
    for (command, purpose) in steps {
        let _ = writeln!(out, "  {command:width$}  {purpose}");
    }
    let published = outcomes.iter().filter(|outcome| !outcome.published.is_empty());
    let mut components = published.filter_map(|outcome| config.component(&outcome.component).ok());
    // Whoever follows what is published as somebody else has it knows how from them.
    let component = components.find(|component| !component.is_verbatim());
    if let (Some(component), Some(url)) = (component, &config.document.repository.url) {
        // `%a` and `@v` are what sysupdate.d(5) has for the two variables of the name.
        let pattern = component.image.name.as_str().replace("{name}", component.name.as_str());
        let pattern = pattern.replace("{version}", "@v").replace("{arch}", "%a");
        let slash = if url.path().ends_with('/') { "" } else { "/" };
        let _ = writeln!(
            out,
            "\na node follows {} with this source in its sysupdate.d file\n  [Source]\n  Type=url-file\n  Path={url}{slash}{}/\n  MatchPattern={pattern}",
            component.name, component.folder
        );
        let _ = if config.document.signing.is_some() {
            let at = config.address_of(KEYRING).unwrap_or_default();
            writeln!(out, "and {at} as its /etc/systemd/{KEYRING}")
        } else {
            writeln!(out, "and Verify=no in its [Transfer] section: this repository is not signed")
        };
    }
    out
}

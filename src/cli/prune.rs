//! `publish prune`

use std::fmt::Write as _;

use serde::Serialize;

use super::sync::{gone, gone_from};
use super::{Context, Ended, print, print_json};
use crate::report::say;
use crate::sync::{self, Outcome, Run};

#[derive(Serialize)]
struct Result<'a> {
    dry_run: bool,
    components: &'a [Outcome],
}

pub(super) async fn run(
    context: &Context,
    dry_run: bool,
    max_delete: Option<usize>,
) -> anyhow::Result<Ended> {
    let config = context.load()?;
    let run = if dry_run { Run::Dry } else { Run::Real };
    let most = max_delete.unwrap_or(config.document.retention.max_delete);
    let outcomes = sync::prune(&config, run, most).await?;
    for told in outcomes.iter().flat_map(|outcome| &outcome.errors) {
        say(&told.text());
    }
    if context.json {
        print_json("prune", &Result { dry_run, components: &outcomes })?;
    } else {
        print(&text(run, &outcomes))?;
    }
    let failed = outcomes.iter().any(|outcome| !outcome.errors.is_empty());
    Ok(if failed { Ended::Partly } else { Ended::Well })
}

fn text(run: Run, outcomes: &[Outcome]) -> String {
    let mut out = gone(run, outcomes);
    for outcome in outcomes.iter().filter(|outcome| !outcome.is_unchanged()) {
        let _ = writeln!(out, "\n  {} in {}/", outcome.component, outcome.folder);
        out.push_str(&gone_from(outcome));
    }
    if out.is_empty() && outcomes.iter().all(|outcome| outcome.errors.is_empty()) {
        out.push_str("nothing to do\n");
    }
    out
}

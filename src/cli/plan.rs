//! `publish plan`

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;

use super::{Context, Ended, print, print_json};
use crate::name::{ComponentName, FileName};
use crate::plan::{Refusal, Verdict, Why};
use crate::report::{Told, count, say};
use crate::repository::commit::Removal;
use crate::store::{Access, Store};
use crate::sync::{self, Survey};

#[derive(Serialize)]
struct Result<'a> {
    components: Vec<Planned<'a>>,
    errors: Vec<&'a Told>,
}

#[derive(Serialize)]
struct Planned<'a> {
    component: &'a ComponentName,
    builds: Vec<PlannedBuild<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sign: Option<Why>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    yanks: Vec<&'a str>,
    removals: Vec<&'a Removal>,
    deletions: Vec<&'a FileName>,
    refused: Vec<Refused<'a>>,
    releases: &'a [Verdict],
}

#[derive(Serialize)]
struct PlannedBuild<'a> {
    version: &'a str,
    arch: &'a str,
    image: &'a FileName,
    why: Why,
}

#[derive(Serialize)]
struct Refused<'a> {
    release: &'a str,
    problem: &'a str,
    hint: &'a str,
}

pub(super) async fn run(context: &Context) -> anyhow::Result<Ended> {
    let config = context.load()?;
    let shop = sync::workshop(&config, &context.progress);
    let store = Store::configured(&config, Access::Read)?;
    let signer = sync::signer_to_look(&config, &context.progress)?;
    let surveys = sync::survey_all(&config, &shop, &store, signer.as_ref()).await;
    let errors: Vec<&Told> =
        surveys.iter().filter_map(|survey| Some(&survey.as_ref().err()?.error)).collect();
    for told in &errors {
        say(&told.text());
    }
    let surveys: Vec<&Survey<'_>> = surveys.iter().flatten().collect();
    let refused = surveys.iter().any(|survey| !survey.plan.refusals.is_empty());
    if context.json {
        print_json(
            "plan",
            &Result {
                components: surveys.iter().map(|survey| planned(survey)).collect(),
                errors: errors.clone(),
            },
        )?;
    } else {
        print(&surveys.iter().map(|survey| text(survey, context.verbose)).collect::<String>())?;
    }
    Ok(if refused || !errors.is_empty() { Ended::Partly } else { Ended::Well })
}

fn planned<'s>(survey: &'s Survey<'_>) -> Planned<'s> {
    Planned {
        component: &survey.component.name,
        builds: survey
            .plan
            .builds()
            .map(|build| PlannedBuild {
                version: build.shown.as_str(),
                arch: build.arch.as_str(),
                image: &build.image,
                why: build.why,
            })
            .collect(),
        sign: survey.plan.sign(),
        yanks: survey.plan.yanks().map(crate::version::Version::as_str).collect(),
        removals: survey.plan.removals().collect(),
        deletions: survey.plan.deletions().collect(),
        refused: survey
            .plan
            .refusals
            .iter()
            .map(|Refusal { tag, problem, hint }| Refused { release: tag, problem, hint })
            .collect(),
        releases: &survey.plan.verdicts,
    }
}

fn text(survey: &Survey<'_>, verbose: bool) -> String {
    let mut out = String::new();
    let name = &survey.component.name;
    let plan = &survey.plan;
    let what = [
        (plan.builds().count(), "image", "to build"),
        (plan.removals().count(), "line", "to take out"),
        (plan.deletions().count(), "file", "to delete"),
    ];
    let yanks: Vec<_> = plan.yanks().map(ToString::to_string).collect();
    let sign = plan.sign().map(|why| format!("to be signed: {why}"));
    let what = what
        .into_iter()
        .filter(|(number, ..)| *number > 0)
        .map(|(number, noun, what)| format!("{} {what}", count(number, noun)));
    let yank = (!yanks.is_empty())
        .then(|| format!("{} to yank, because upstream took it out", yanks.join(", ")));
    let what: Vec<_> = what.chain(yank).chain(sign).collect();
    let what = if what.is_empty() { "nothing to do".to_owned() } else { what.join(", ") };
    let _ = writeln!(out, "{name}: {what}");
    let built = plan.builds().map(|build| (&build.image, build.why.to_string()));
    let removed = plan.removals().map(|removal| (&removal.name, format!("out: {}", removal.why)));
    let deleted = plan.deletions().map(|name| (name, "deleted: its grace is over".to_owned()));
    let lines: Vec<(&FileName, String)> = built.chain(removed).chain(deleted).collect();
    let width = lines.iter().map(|(name, _)| name.as_str().len()).max().unwrap_or(0);
    for (name, why) in lines {
        let _ = writeln!(out, "  {name:width$}  {why}");
    }
    for refusal in &survey.plan.refusals {
        let _ = writeln!(out, "  refused {refusal}\n    hint: {}", refusal.hint);
    }
    if verbose {
        out.push_str("  of upstream's releases\n");
        let width =
            survey.plan.verdicts.iter().map(|verdict| verdict.tag.len()).max().unwrap_or(0).min(40);
        for verdict in &survey.plan.verdicts {
            let why = verdict
                .out
                .as_ref()
                .map_or_else(|| "wanted".to_owned(), |out| format!("out: {out}"));
            let _ = writeln!(out, "    {:width$}  {why}", verdict.tag.escape_debug().to_string());
        }
    } else {
        let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
        for out in survey.plan.verdicts.iter().filter_map(|verdict| verdict.out.as_ref()) {
            *reasons.entry(out.to_string()).or_default() += 1;
        }
        for (reason, number) in reasons {
            let _ = writeln!(out, "  {} left out: {reason}", count(number, "release"));
        }
    }
    out
}

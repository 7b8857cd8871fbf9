//! `publish plan`

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde::Serialize;

use super::{Context, Ended, print, print_json};
use crate::config::build::BuildRule;
use crate::name::{ComponentName, FileName};
use crate::plan::{Awaited, Because, Build, Chosen, Out, Refusal, Verdict, Vouched, Why};
use crate::report::{Told, count, say};
use crate::repository::commit::Removal;
use crate::store::{Access, Store};
use crate::sync::{self, Survey};
use crate::version::Version;

#[derive(Serialize)]
struct Result<'a> {
    components: Vec<Planned<'a>>,
    errors: Vec<&'a Told>,
}

#[derive(Serialize)]
struct Planned<'a> {
    component: &'a ComponentName,
    builds: Vec<PlannedBuild<'a>>,
    /// The command that makes what is in them.
    #[serde(skip_serializing_if = "Option::is_none")]
    command: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sign: Option<Why>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    yanks: Vec<&'a str>,
    removals: Vec<&'a Removal>,
    deletions: Vec<&'a FileName>,
    refused: Vec<Refused<'a>>,
    /// What is wanted, but not all there yet.
    waiting: &'a [Awaited],
    /// What would be wanted if an older version were not pinned.
    newer: &'a [Version],
    /// What is published, but upstream lists no more.
    withdrawn: &'a [Version],
    releases: &'a [Verdict],
    /// What vouches for each asset of the versions that are wanted.
    assets: &'a [Vouched],
    /// The assets that nothing vouches for.
    unverified: Vec<&'a str>,
    /// What is odd about what publish keeps for itself.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    warnings: &'a [String],
}

#[derive(Serialize)]
struct PlannedBuild<'a> {
    version: &'a str,
    arch: &'a str,
    image: &'a FileName,
    why: Why,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    companions: Vec<Accompanied<'a>>,
}

#[derive(Serialize)]
struct Accompanied<'a> {
    name: &'a str,
    release: &'a str,
    why: Because,
}

#[derive(Serialize)]
struct Refused<'a> {
    release: &'a str,
    problem: &'a str,
    hint: &'a str,
}

pub(super) async fn run(context: &Context) -> anyhow::Result<Ended> {
    let config = context.load()?;
    let shop = sync::workshop(&config, &context.progress)?;
    let store = Store::configured(&config, Access::Read)?;
    let signer = sync::signer_to_look(&config, &context.progress)?;
    let surveys = sync::survey_all(&config, &shop, &store, signer.as_ref()).await;
    let errors: Vec<&Told> =
        surveys.iter().filter_map(|survey| Some(&survey.as_ref().err()?.error)).collect();
    for told in &errors {
        say(&told.text());
    }
    let surveys: Vec<&Survey> = surveys.iter().flatten().collect();
    for survey in &surveys {
        warn(survey);
    }
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

/// Says what is odd about what publish keeps for itself, be it asked to be quiet or not.
pub(super) fn warn(survey: &Survey) {
    for warning in &survey.warnings {
        say(&format!("{warning}\n"));
    }
}

fn planned(survey: &Survey) -> Planned<'_> {
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
                companions: build
                    .company
                    .iter()
                    .map(|Chosen { name, version, why, .. }| Accompanied {
                        name,
                        release: version,
                        why: *why,
                    })
                    .collect(),
            })
            .collect(),
        command: survey.component.build.as_ref().map(BuildRule::shown),
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
        waiting: &survey.plan.waiting,
        newer: &survey.plan.newer,
        withdrawn: &survey.plan.withdrawn,
        releases: &survey.plan.verdicts,
        assets: &survey.plan.vouched,
        unverified: survey.plan.unverified(),
        warnings: &survey.warnings,
    }
}

/// `nothing vouches for a and 2 more assets`, if there are any.
pub(super) fn unverified(assets: &[&str]) -> Option<String> {
    let (first, more) = assets.split_first()?;
    let first = first.escape_debug();
    Some(match more.len() {
        0 => format!("nothing vouches for {first}"),
        more => format!("nothing vouches for {first} and {}", count(more, "more asset")),
    })
}

/// What vouches for each asset, one after the other.
fn vouched(assets: &[Vouched]) -> String {
    let mut out = String::new();
    if !assets.is_empty() {
        out.push_str("  what vouches for the assets\n");
    }
    let mut told = BTreeSet::new();
    // Two files of one name are two, if other things vouch for them.
    let told = assets.iter().filter(|vouched| told.insert((&vouched.asset, &vouched.by)));
    for Vouched { asset, by, .. } in told {
        let by = if by.is_empty() { "nothing".to_owned() } else { by.join(", ") };
        let _ = writeln!(out, "    {}: {}", asset.escape_debug(), by.escape_debug());
    }
    out
}

fn text(survey: &Survey, verbose: bool) -> String {
    let mut out = String::new();
    let name = &survey.component.name;
    let plan = &survey.plan;
    let (noun, what) = match survey.component.mirrored() {
        Some(_) => ("file", "to mirror"),
        None => ("image", "to build"),
    };
    let what = [
        (plan.builds().count(), noun, what),
        (plan.removals().count(), "line", "to take out"),
        (plan.deletions().count(), "file", "to delete"),
        (plan.waiting.len(), "version", "waited for"),
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
    let built = plan.builds().map(|build| (&build.image, why(build)));
    let removed = plan.removals().map(|removal| (&removal.name, format!("out: {}", removal.why)));
    let deleted = plan.deletions().map(|name| (name, "deleted: its grace is over".to_owned()));
    let lines: Vec<(&FileName, String)> = built.chain(removed).chain(deleted).collect();
    let width = lines.iter().map(|(name, _)| name.as_str().len()).max().unwrap_or(0);
    for (name, why) in lines {
        let _ = writeln!(out, "  {name:width$}  {why}");
    }
    if let (Some(rule), true) = (&survey.component.build, plan.builds().next().is_some()) {
        let _ = writeln!(out, "  made by {}", rule.shown());
    }
    for refusal in &plan.refusals {
        let _ = writeln!(out, "  refused {refusal}\n    hint: {}", refusal.hint);
    }
    for awaited in &plan.waiting {
        let _ = writeln!(out, "  {awaited}");
    }
    if let (Some(pin), false) = (&survey.component.versions.pin, plan.newer.is_empty()) {
        let _ = writeln!(out, "  {}", newer_than(pin, &plan.newer));
    }
    if !plan.withdrawn.is_empty() {
        let _ = writeln!(out, "  {}", no_longer_listed(&plan.withdrawn));
    }
    if let Some(unverified) = unverified(&plan.unverified()) {
        let _ = writeln!(out, "  unverified: {unverified}");
    }
    if verbose {
        out.push_str(&vouched(&plan.vouched));
        out.push_str(&releases(&plan.verdicts));
    } else {
        let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
        // What is waited for has a line already.
        let outs = plan.verdicts.iter().filter_map(|verdict| verdict.out.as_ref());
        for out in outs.filter(|out| !matches!(out, Out::Waiting { .. })) {
            *reasons.entry(out.to_string()).or_default() += 1;
        }
        for (reason, number) in reasons {
            let _ = writeln!(out, "  {} left out: {reason}", count(number, "release"));
        }
    }
    out
}

/// Why an image is built, and what goes in beside its version.
fn why(build: &Build) -> String {
    let mut text = build.why.to_string();
    for Chosen { name, version, why, .. } in build.company.iter() {
        let _ = write!(text, ", with {name} {} ({why})", version.escape_debug());
    }
    text
}

/// `1.2.3 is pinned; newer: 1.3.0, 1.2.4`
pub(super) fn newer_than(pin: &str, newer: &[Version]) -> String {
    format!("{} is pinned; newer: {}", pin.escape_debug(), some_of(newer))
}

/// What became of versions that upstream took back.
pub(super) fn no_longer_listed(versions: &[Version]) -> String {
    format!("upstream no longer lists {}; what is published stays", some_of(versions))
}

/// The first of some versions, and how many more there are.
fn some_of(versions: &[Version]) -> String {
    const SHOWN: usize = 5;
    let shown: Vec<&str> = versions.iter().take(SHOWN).map(Version::as_str).collect();
    let more = versions.len().saturating_sub(SHOWN);
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    format!("{}{more}", shown.join(", "))
}

/// A line for each of upstream's releases, the newest first: its date, its tag and what becomes of it.
fn releases(verdicts: &[Verdict]) -> String {
    const WIDEST: usize = 40;
    let mut out = format!("  of upstream's {}\n", count(verdicts.len(), "release"));
    let tag = |verdict: &Verdict| verdict.tag.escape_debug().to_string();
    let width = verdicts.iter().map(|verdict| tag(verdict).len()).max().unwrap_or(0).min(WIDEST);
    let dated = verdicts.iter().any(|verdict| verdict.date.is_some());
    for verdict in verdicts {
        let tag = tag(verdict);
        let date = match verdict.date {
            Some(date) => format!("{}  ", date.strftime("%Y-%m-%d")),
            None if dated => " ".repeat(12),
            None => String::new(),
        };
        let what = match (&verdict.out, &verdict.version) {
            (Some(out), _) => format!("out: {out}"),
            (None, Some(version)) if !tag.ends_with(version.as_str()) => {
                format!("wanted, as {version}")
            }
            (None, _) => "wanted".to_owned(),
        };
        let _ = writeln!(out, "    {date}{tag:width$}  {what}");
    }
    out
}

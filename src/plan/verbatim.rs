//! The plan for a folder that is published byte for byte as somebody else has it.
//!
//! Owns the difference between their manifest and ours. There is nothing to select, and nothing of ours
//! to sign: what they list comes, what they no longer list goes. Three things are never followed: other
//! bytes under a name that nodes may have, very many lines that go at once, and, unless somebody says so,
//! their signature in the place of ours.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;

use super::{Action, Basis, Build, Company, Plan, Refusal, Upstream, Verdict, Why};
use crate::config::Component;
use crate::name::{Arch, FileName, Sha256};
use crate::repository::commit::{Gone, Removal};
use crate::repository::{MANIFEST, Published, retention};
use crate::source::Release;
use crate::source::memory::{Signatures, Theirs};
use crate::version::Version;

/// Compares what they have with what is published. `signatures` are the files beside our manifest.
#[must_use]
pub fn verbatim(
    component: &Component,
    upstream: &Upstream,
    theirs: &Theirs,
    published: &Published,
    signatures: &Signatures,
    basis: Basis,
    now: Timestamp,
) -> Plan {
    let mut plan = Plan {
        component: component.name.clone(),
        actions: Vec::new(),
        verdicts: Vec::new(),
        refusals: Vec::new(),
        newest: None,
        waiting: Vec::new(),
        newer: Vec::new(),
        withdrawn: Vec::new(),
        vouched: Vec::new(),
    };
    let by_name: BTreeMap<&str, &Arc<Release>> = upstream
        .judged
        .iter()
        .map(|judged| (judged.release.tag.as_str(), &judged.release))
        .collect();
    for (name, sha256) in theirs.lines.files() {
        let version = name.as_str().parse::<Version>().ok();
        let date = by_name.get(name.as_str()).and_then(|release| release.published);
        let tag = name.to_string();
        plan.verdicts.push(Verdict { tag, out: None, version: version.clone(), date });
        let why = match published.manifest.get(name) {
            Some(before) if before != sha256 => {
                plan.refusals.push(replaced(name, before, sha256));
                continue;
            }
            Some(_) if published.has_file(name) => continue,
            Some(_) => Why::FileGone,
            None => Why::NewFile,
        };
        match (version, by_name.get(name.as_str())) {
            (Some(version), Some(release)) => plan.actions.push(Action::Build(Build {
                release: (*release).clone(),
                version: version.clone(),
                upstream: name.to_string(),
                revision: 0,
                shown: version,
                arch: Arch::ANY,
                upstream_arch: String::new(),
                company: Company::default(),
                beside: Vec::new(),
                image: name.clone(),
                why,
                recipe: Sha256::of(name.as_str().as_bytes()),
                expects: Vec::new(),
                time: None,
            })),
            _ => plan.refusals.push(Refusal {
                tag: name.to_string(),
                problem: "the name is too long".to_owned(),
                hint: "leave `verbatim` out, and let `match` choose others".to_owned(),
            }),
        }
    }
    let listed = published.manifest.files().map(|(name, _)| name);
    let gone: Vec<&FileName> = listed.filter(|name| theirs.lines.get(name).is_none()).collect();
    let most = basis.retention.max_delete;
    if gone.len() > most {
        plan.refusals.push(Refusal {
            tag: gone[0].to_string(),
            problem: format!(
                "upstream no longer lists it and {} more, which is too much to follow at once",
                gone.len() - 1
            ),
            hint: format!("what is published stays as it is; if they mean it, let [retention] max-delete, {most} now, be that large once"),
        });
    }
    if !basis.adopt && is_ours(theirs, published, signatures) {
        plan.refusals.push(Refusal {
            tag: MANIFEST.to_owned(),
            problem: format!(
                "with `verbatim`, the signature of {}/ would no longer be ours but theirs: nodes that trust the keys of [signing] alone would refuse it",
                component.folder
            ),
            hint: "give nodes their keyring; then `publish sync --adopt` gives our signature up, once".to_owned(),
        });
    }
    if !plan.refusals.is_empty() {
        // All or nothing: half of their manifest is not theirs.
        plan.actions.clear();
        return plan;
    }
    let removals = gone.into_iter().map(|name| Removal { name: name.clone(), why: Gone::Upstream });
    plan.actions.extend(removals.map(Action::Remove));
    let is_theirs = published.served() == Some(&theirs.manifest[..])
        && *signatures == theirs.signatures
        && published.catalogue.verbatim;
    if !is_theirs {
        plan.actions.insert(0, Action::Sign { why: Why::UpstreamSigned });
    }
    let (due, _) = retention::due(published, basis.retention.grace, now);
    let due = due.into_iter().filter(|name| theirs.lines.get(name).is_none());
    plan.actions.extend(due.map(Action::Delete));
    plan
}

/// Whether what is served is signed, and not by them: nodes know other keys.
fn is_ours(theirs: &Theirs, published: &Published, signatures: &Signatures) -> bool {
    !published.catalogue.verbatim && !signatures.is_empty() && *signatures != theirs.signatures
}

fn replaced(name: &FileName, before: Sha256, now: Sha256) -> Refusal {
    Refusal {
        tag: name.to_string(),
        problem: format!(
            "upstream replaced it: it had SHA-256 {before} when it was published, and has {now} now"
        ),
        hint: "what is published stays as it is; nodes that have the file would never notice: ask them, or leave `verbatim` out, and accept the new file in [versions]".to_owned(),
    }
}

//! Selection: which of an upstream's releases a component wants, and why the others are out.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;

use super::judge::Judgement;
use super::verdict::{Out, Verdict};
use super::waiting::Awaited;
use super::{Refusal, Upstream};
use crate::config::versions::Versions;
use crate::repository::retention::Branch;
use crate::source::Release;
use crate::version::{self, Version};

/// A release that is wanted, under the version it will have.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// Its version, as clients see it.
    pub version: Version,
    /// The same as upstream writes it.
    pub upstream: String,
    /// The release.
    pub release: Arc<Release>,
}

/// What [`select`] decided.
#[derive(Debug, Default)]
pub struct Selection {
    /// The newest first.
    pub wanted: Vec<Candidate>,
    /// For every release, the newest first.
    pub verdicts: Vec<Verdict>,
    /// Wanted, but not to be published as they are.
    pub refusals: Vec<Refusal>,
    /// Wanted, but not all there yet.
    pub waiting: Vec<Awaited>,
}

/// What selection asks of who knows what is published.
pub struct Asked<'a> {
    /// Why a version is left out by who asks for a selection; `None` if it is not.
    pub held: &'a dyn Fn(&Candidate) -> Option<Out>,
    /// Whether a version is waited for.
    pub awaited: &'a dyn Fn(&Candidate) -> Option<Awaited>,
}

impl Asked<'_> {
    /// Nothing is published, and nothing waited for.
    pub const NOTHING: Asked<'static> = Asked { held: &|_| None, awaited: &|_| None };
}

/// Selects the releases that the component wants, but for those that are held back.
#[must_use]
pub fn select(rules: &Versions, upstream: &Upstream, asked: &Asked<'_>) -> Selection {
    let mut selection = Selection::default();
    let mut wanted: Wanted = Vec::new();
    for judged in &upstream.judged {
        let release = &judged.release;
        let out = match &judged.judgement {
            Judgement::Out(out) => Some(out.clone()),
            Judgement::Refused(refusal) => {
                selection.refusals.push(refusal.clone());
                Some(Out::Refused)
            }
            Judgement::Wanted(version) => {
                let upstream = judged.upstream().unwrap_or_default().to_owned();
                let version = version.clone();
                let candidate = Candidate { version, upstream, release: release.clone() };
                let held = (asked.held)(&candidate);
                if held.is_none() {
                    wanted.push((selection.verdicts.len(), candidate));
                }
                held
            }
        };
        selection.verdicts.push(Verdict {
            tag: release.tag.clone(),
            date: release.published,
            out,
            version: judged.version.clone(),
        });
    }
    wanted.sort_by(|(_, a), (_, b)| b.version.cmp(&a.version));
    let wanted = selection.without_duplicates(wanted);
    let wanted = selection.without_mixed_prefixes(wanted);
    let wanted = selection.without_early_packages(wanted);
    let (wanted, late) = in_both_orders(wanted);
    let wanted = selection.newest(wanted, rules, asked.awaited);
    selection.forget_old_refusals(rules, &wanted);
    selection.tell_misordered(late, &wanted, rules);
    selection.wanted = wanted.into_iter().map(|(_, candidate)| candidate).collect();
    selection.tell_if_nothing_is_left();
    selection
}

/// Wanted releases, each with the index of its verdict, the newest first.
type Wanted = Vec<(usize, Candidate)>;

/// A candidate that clients take for older than it is, and the one that they take for newer.
struct Late {
    verdict: usize,
    candidate: Candidate,
    above: Version,
}

impl Selection {
    fn refuse(&mut self, verdict: usize, candidate: &Candidate, problem: String, hint: String) {
        self.verdicts[verdict].out = Some(Out::Refused);
        self.refusals.push(Refusal { tag: candidate.release.tag.clone(), problem, hint });
    }

    fn without_duplicates(&mut self, wanted: Wanted) -> Wanted {
        let mut kept: Wanted = Vec::with_capacity(wanted.len());
        for (verdict, candidate) in wanted {
            let last = kept.last().map(|(_, last)| &last.version);
            if last.is_some_and(|last| last.client_cmp(&candidate.version).is_eq()) {
                self.verdicts[verdict].out = Some(Out::Duplicate);
            } else {
                kept.push((verdict, candidate));
            }
        }
        kept
    }

    /// `v1.2` sorts below every version without a `v`: mixed, no node would move on.
    fn without_mixed_prefixes(&mut self, wanted: Wanted) -> Wanted {
        let prefix = |candidate: &Candidate| {
            let text = candidate.version.as_str();
            let prefix = version::prefix_of(text);
            // A word without any number is no version that others could be mixed with.
            (prefix.len() < text.len()).then(|| prefix.to_owned())
        };
        let first = wanted.iter().find_map(|(_, candidate)| prefix(candidate));
        let Some(first) = first else { return wanted };
        let mut kept: Wanted = Vec::with_capacity(wanted.len());
        for (verdict, candidate) in wanted {
            match prefix(&candidate) {
                Some(other) if other != first => {
                    let problem = if first.is_empty() {
                        format!(
                            "nodes would take `{}` for older than every version without a `{}`",
                            candidate.version,
                            other.trim_end_matches('-')
                        )
                    } else {
                        format!(
                            "nodes would take `{}` for older than every version with `{first}` before it",
                            candidate.version
                        )
                    };
                    let hint = format!(
                        "let [versions] tag or `match` take the `{}` off, or exclude it",
                        if other.is_empty() { &first } else { &other }
                    );
                    self.refuse(verdict, &candidate, problem, hint);
                }
                _ => kept.push((verdict, candidate)),
            }
        }
        kept
    }

    /// `1.2.3-1` is mostly a packager's: newer than `1.2.3`, as clients have it. But where `1.2.3` came
    /// later, it was a pre-release of that.
    fn without_early_packages(&mut self, wanted: Wanted) -> Wanted {
        if !wanted.iter().any(|(_, candidate)| version::packaged(&candidate.upstream).is_some()) {
            return wanted;
        }
        let dates: BTreeMap<String, Timestamp> = wanted
            .iter()
            .filter_map(|(_, candidate)| {
                Some((candidate.upstream.clone(), candidate.release.published?))
            })
            .collect();
        let mut kept: Wanted = Vec::with_capacity(wanted.len());
        for (verdict, candidate) in wanted {
            let last = version::packaged(&candidate.upstream);
            let released = last.and_then(|last| Some((last, *dates.get(last)?)));
            let own = candidate.release.published;
            match released.zip(own).filter(|((_, last), own)| own < last) {
                Some(((last, _), _)) => {
                    let problem = format!(
                        "`{last}` was released after it, but nodes would take `{}` for newer",
                        candidate.version
                    );
                    let hint = format!("exclude `{}` in [versions]", candidate.release.tag);
                    self.refuse(verdict, &candidate, problem, hint);
                }
                None => kept.push((verdict, candidate)),
            }
        }
        kept
    }

    /// The newest of each of the newest branches. What is waited for takes no place from what is
    /// there.
    fn newest(
        &mut self,
        wanted: Wanted,
        rules: &Versions,
        awaited: &dyn Fn(&Candidate) -> Option<Awaited>,
    ) -> Wanted {
        let newest = rules.newest.get();
        let branches = rules.branches().filter(|_| rules.per.is_some());
        let mut held: BTreeMap<Branch, usize> = BTreeMap::new();
        let mut waiting: BTreeMap<Branch, usize> = BTreeMap::new();
        let mut kept: Wanted = Vec::new();
        for (verdict, candidate) in wanted {
            let branch = Branch::of(rules.per, &candidate.version);
            if let Some(most) = branches.filter(|most| held.len() >= *most)
                && !held.contains_key(&branch)
            {
                self.verdicts[verdict].out = Some(Out::OldBranch { branches: most });
                continue;
            }
            if held.get(&branch).is_some_and(|held| *held >= newest) {
                self.verdicts[verdict].out = Some(Out::Superseded);
                continue;
            }
            let Some(awaited) = awaited(&candidate) else {
                *held.entry(branch).or_default() += 1;
                kept.push((verdict, candidate));
                continue;
            };
            let waiting = waiting.entry(branch).or_default();
            *waiting += 1;
            if *waiting > newest {
                self.verdicts[verdict].out = Some(Out::Superseded);
            } else if awaited.retry {
                kept.push((verdict, candidate));
                self.waiting.push(awaited);
            } else {
                self.verdicts[verdict].out =
                    Some(Out::Waiting { lacks: awaited.lacks.clone(), since: awaited.since });
                self.waiting.push(awaited);
            }
        }
        kept
    }

    /// Of what clients would take for older than it is, what is newer than the oldest that is wanted
    /// is an error; the rest would not be published anyway.
    fn tell_misordered(&mut self, late: Vec<Late>, wanted: &Wanted, rules: &Versions) {
        for Late { verdict, candidate, above } in late {
            let branch = Branch::of(rules.per, &candidate.version);
            let beside = wanted
                .iter()
                .filter(|(_, other)| Branch::of(rules.per, &other.version) == branch)
                .filter_map(|(_, other)| version::precedence(&other.upstream));
            let newer = version::precedence(&candidate.upstream).is_some_and(|own| {
                let oldest = beside.min_by(semver::Version::cmp_precedence);
                oldest.is_some_and(|oldest| own.cmp_precedence(&oldest).is_gt())
            });
            if newer {
                let problem =
                    format!("nodes would take `{above}` for newer than `{}`", candidate.version);
                let plus = above.as_str().contains('+');
                let hint = if plus {
                    format!(
                        "write `+` otherwise: replace = {{ \"+\" = \"-\" }} in [versions]; or exclude `{above}`"
                    )
                } else {
                    format!("exclude `{above}`, or give `tag` a form that orders as clients do")
                };
                self.refuse(verdict, &candidate, problem, hint);
            } else {
                self.verdicts[verdict].out = Some(Out::Superseded);
            }
        }
    }

    /// A release that could not be published anyway is no news once there are enough newer ones.
    fn forget_old_refusals(&mut self, rules: &Versions, wanted: &Wanted) {
        // With branches, nobody knows which one an unreadable version belongs to.
        let oldest = match (rules.per, wanted.last()) {
            (None, Some((_, oldest))) if wanted.len() >= rules.newest.get() => &oldest.release.tag,
            _ => return,
        };
        let is_old = |tag: &str| version::compare(tag, oldest).is_lt();
        self.refusals.retain(|refusal| !is_old(&refusal.tag));
        for verdict in &mut self.verdicts {
            if verdict.out == Some(Out::Refused) && is_old(&verdict.tag) {
                verdict.out = Some(Out::Superseded);
            }
        }
    }

    /// An upstream of which nothing is wanted is a repository that silently stopped: upstream
    /// changed its tags, or a rule is wrong. Only a release that waits for its age or its files, or
    /// was yanked, is no mistake.
    fn tell_if_nothing_is_left(&mut self) {
        let waits = self.verdicts.iter().any(|verdict| {
            matches!(verdict.out, Some(Out::TooYoung | Out::Waiting { .. } | Out::Yanked { .. }))
        });
        if !self.wanted.is_empty() || !self.refusals.is_empty() || waits {
            return;
        }
        if let Some(Verdict { tag, out: Some(out), .. }) = self.verdicts.first() {
            self.refusals.push(Refusal {
                tag: tag.clone(),
                problem: format!("none of upstream's releases is wanted; this one is out: {out}"),
                hint: "check [versions]; `publish plan -v` lists every release".to_owned(),
            });
        }
    }
}

/// Takes out versions that semver holds newer, but clients older, than another wanted one.
fn in_both_orders(wanted: Wanted) -> (Wanted, Vec<Late>) {
    // The newest first for clients. What semver holds newer than one before came too late.
    let mut kept: Wanted = Vec::with_capacity(wanted.len());
    let mut late = Vec::new();
    let mut lowest: Option<(semver::Version, Version)> = None;
    for (verdict, candidate) in wanted {
        let Some(semver) = version::precedence(&candidate.upstream) else {
            kept.push((verdict, candidate));
            continue;
        };
        match &lowest {
            Some((above, text)) if semver.cmp_precedence(above).is_gt() => {
                let above = text.clone();
                late.push(Late { verdict, candidate, above });
            }
            _ => {
                lowest = Some((semver, candidate.version.clone()));
                kept.push((verdict, candidate));
            }
        }
    }
    (kept, late)
}

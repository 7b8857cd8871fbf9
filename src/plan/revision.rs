//! Which images of a version are to be built, and as which revision of it.
//!
//! Owns the rule that a published name never gets other bytes: what changed is published as the next
//! revision, `1.0-r1`, which clients sort after `1.0` and before what comes next. Where an
//! upstream's own versions break that order, nothing is published, and the reason is told.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::inputs::{self, Replaced};
use super::select::{Asked, Selection, select};
use super::{
    Basis, Build, Candidate, Company, Out, Refusal, Upstream, Verdict, Why, file_names, has,
    image_name, recipe_of,
};
use crate::config::Component;
use crate::name::{Arch, FileName, Sha256};
use crate::repository::commit::InputRecord;
use crate::repository::shelf::Shelf;
use crate::repository::{Published, retention};
use crate::version::Version;

/// What is known of a component before its releases are selected.
pub(super) struct Planner<'a> {
    pub(super) component: &'a Component,
    pub(super) arches: &'a [(Arch, String)],
    pub(super) upstream: &'a Upstream,
    pub(super) published: &'a Published,
    basis: Basis,
    pub(super) now: Timestamp,
    /// Every line there is.
    pub(super) all: Shelf,
    /// The same without what is yanked.
    pub(super) shelf: Shelf,
}

/// The revision that a version is published as, and the architectures to build it for.
struct Aim {
    revision: u32,
    builds: Vec<(usize, Why)>,
    /// The images that the same version was published as before.
    before: Vec<FileName>,
}

impl<'a> Planner<'a> {
    pub(super) fn new(
        component: &'a Component,
        arches: &'a [(Arch, String)],
        upstream: &'a Upstream,
        published: &'a Published,
        basis: Basis,
        now: Timestamp,
    ) -> Self {
        let all = Shelf::new(component, published, upstream.versions());
        let shelf = all.without_yanked(&published.catalogue);
        Self { component, arches, upstream, published, basis, now, all, shelf }
    }

    /// Selects what is wanted, by what is published.
    pub(super) fn select(&self) -> Selection {
        let asked = Asked {
            held: &|candidate| self.held_back(candidate),
            awaited: &|candidate| self.awaited(candidate),
        };
        select(&self.component.versions, self.upstream, &asked)
    }

    /// A yanked version is out; of one whose revision was yanked, only a changed recipe makes a new
    /// one.
    fn held_back(&self, candidate: &Candidate) -> Option<Out> {
        let version = &candidate.version;
        let yanked = &self.published.catalogue.yanked;
        if let Some(yank) = yanked.get(version) {
            return Some(Out::Yanked { reason: yank.reason.clone() });
        }
        let lines = yanked.values().flat_map(|yank| {
            let lines = yank.images.iter().filter(|(_, line)| line.version == *version);
            lines.map(move |(name, line)| (line.revision, name, line, &yank.reason))
        });
        let lines: Vec<_> = lines.collect();
        let last = lines.iter().map(|(revision, ..)| *revision).max()?;
        let newer_is_offered = self
            .shelf
            .slots
            .get(version)
            .is_some_and(|slot| slot.keys().any(|revision| *revision > last));
        let shown = version.revised(last).ok()?;
        let company = self.company(candidate).ok();
        let changed = self.arches.iter().any(|at| {
            let image = image_name(self.component, &shown, at.0).ok();
            let line = lines.iter().find(|(_, name, ..)| Some(*name) == image.as_ref());
            let before = line.and_then(|(_, _, line, _)| line.recipe);
            let now = company.as_ref().map(|company| self.recipe(candidate, company, at));
            before.is_some_and(|before| now.is_some_and(|now| now != before))
        });
        if newer_is_offered || changed {
            return None;
        }
        let reason = lines.iter().find(|(revision, ..)| *revision == last)?.3.clone();
        Some(Out::Yanked { reason })
    }

    /// The versions that retention would keep, for every architecture, if these were published.
    pub(super) fn staying(&self, wanted: &BTreeSet<&Version>) -> BTreeSet<Version> {
        let rules = &self.component.versions;
        let staying = self.arches.iter().map(|(arch, _)| {
            let offered = self
                .shelf
                .slots
                .iter()
                .filter(|(_, slot)| slot.values().any(|files| files.contains_key(arch)));
            let all: BTreeSet<&Version> =
                offered.map(|(version, _)| version).chain(wanted.iter().copied()).collect();
            let stay = retention::staying(all.into_iter().rev(), rules);
            stay.into_iter().cloned().collect::<BTreeSet<Version>>()
        });
        staying.reduce(|all, one| all.intersection(&one).cloned().collect()).unwrap_or_default()
    }

    /// What is to be built of a version.
    pub(super) fn builds(
        &self,
        candidate: &Candidate,
        verdicts: &[Verdict],
    ) -> Result<Vec<Build>, Refusal> {
        let Candidate { version, release, .. } = candidate;
        let refuse = |problem: String, hint: &str| Refusal {
            tag: release.tag.clone(),
            problem,
            hint: hint.to_owned(),
        };
        let company = self.company(candidate)?;
        let recipes: Vec<Sha256> =
            self.arches.iter().map(|at| self.recipe(candidate, &company, at)).collect();
        let Aim { revision, builds, before } = self.aim(candidate, &company, &recipes)?;
        if builds.is_empty() {
            return Ok(Vec::new());
        }
        let unnameable = |problem| refuse(problem, "change [image] name, or exclude the version");
        let shown = version.revised(revision).map_err(|problem| unnameable(problem.to_string()))?;
        self.check_order(candidate, revision, &shown, verdicts)?;
        let expects = self.inputs(&before);
        let mut made = Vec::new();
        let mut missing = BTreeSet::new();
        for (index, why) in builds {
            let at = &self.arches[index];
            let names = file_names(self.component, &shown, at.0).map_err(unnameable)?;
            if let Some(name) = names.iter().find(|name| name.as_str().contains('+'))
                && self.basis.plus_is_blank
            {
                return Err(refuse(
                    format!("nobody would find {name}: S3 reads the `+` in a path as a blank"),
                    "write it otherwise: replace = { \"+\" = \"-\" } in [versions]",
                ));
            }
            let Some(image) = names.into_iter().next() else { continue };
            let lacks = self.missing(candidate, &company, at);
            if lacks.is_empty() {
                let build =
                    self.build(candidate, revision, &shown, at, image, recipes[index], &company);
                made.push(Build { why, expects: expects.clone(), ..build });
            }
            missing.extend(lacks);
        }
        if let Some(first) = missing.first()
            && !(self.component.versions.partial && (!made.is_empty() || !before.is_empty()))
        {
            let theirs = first.of.as_ref().and_then(|of| company.release(of)).unwrap_or(release);
            let known = theirs.assets.iter().map(|asset| asset.name.as_str()).collect::<Vec<_>>();
            return Err(refuse(format!("the release has no asset {first}"), &has(&known)));
        }
        Ok(made)
    }

    /// A build of a new version.
    #[expect(
        clippy::too_many_arguments,
        reason = "each is a part of what is built, and none an option"
    )]
    pub(super) fn build(
        &self,
        candidate: &Candidate,
        revision: u32,
        shown: &Version,
        (arch, upstream_arch): &(Arch, String),
        image: FileName,
        recipe: Sha256,
        company: &Company,
    ) -> Build {
        let Candidate { version, upstream, release } = candidate.clone();
        Build {
            release,
            version,
            upstream,
            revision,
            shown: shown.clone(),
            arch: *arch,
            upstream_arch: upstream_arch.clone(),
            company: company.clone(),
            beside: company.beside(self.component, *arch, upstream_arch),
            // Neither a release that was dated anew nor this machine's environment makes another
            // image of one that is published.
            time: self.published.record(&image).map(|record| record.time),
            image,
            why: Why::NewVersion,
            recipe,
            expects: Vec::new(),
        }
    }

    fn aim(
        &self,
        candidate: &Candidate,
        company: &Company,
        recipes: &[Sha256],
    ) -> Result<Aim, Refusal> {
        let Candidate { version, release, .. } = candidate;
        let catalogue = &self.published.catalogue;
        let all = |why| (0..self.arches.len()).map(|index| (index, why)).collect();
        let removed = catalogue.last_removed(version);
        let floor = catalogue.floor.get(version).copied().unwrap_or(0);
        let next = floor.max(removed.map_or(0, |last| last + 1));
        let Some((revision, files)) = self.offered(version) else {
            let before: Vec<FileName> = catalogue
                .removed
                .iter()
                .filter(|(_, gone)| gone.version == *version && Some(gone.revision) == removed)
                .map(|(name, _)| name.clone())
                .collect();
            let again = removed.filter(|last| {
                *last >= floor
                    && self.shown_images(version, *last).zip(recipes).all(|(name, recipe)| {
                        name.is_some_and(|name| self.is_made_by(&name, *recipe))
                    })
            });
            let revision = again.unwrap_or(next);
            return Ok(Aim { revision, builds: all(Why::NewVersion), before });
        };
        let before: Vec<FileName> = files.values().map(|name| (*name).clone()).collect();
        let replaced = match (self.component.mirrored(), version.revised(revision)) {
            (Some(_), Ok(shown)) => inputs::replaced_in_mirror(
                self.component,
                self.arches,
                candidate,
                &shown,
                &self.published.manifest,
            ),
            _ => inputs::replaced(
                self.component,
                self.arches,
                candidate,
                company,
                &self.inputs(&before),
            ),
        };
        if let Replaced::Refused(problem, hint) = replaced {
            return Err(Refusal { tag: release.tag.clone(), problem, hint });
        }
        let changed = match self.component.mirrored() {
            // Its files are what is published, however somebody put it, with or without a record.
            Some(_) => replaced == Replaced::Accepted,
            None => files.iter().any(|(index, name)| {
                let recorded = self.published.record(name).and_then(|record| record.recipe);
                recorded.is_some_and(|recorded| recorded != recipes[*index])
            }),
        };
        if changed {
            let why = match replaced {
                Replaced::Accepted => Why::InputsChanged,
                Replaced::No | Replaced::Refused(..) if self.is_followed(version, company) => {
                    Why::CompanionChanged
                }
                Replaced::No | Replaced::Refused(..) => Why::RecipeChanged,
            };
            return Ok(Aim { revision: next.max(revision + 1), builds: all(why), before });
        }
        // A name that is spent, or that waits to be deleted with other bytes, is not given again.
        let is_spent = |index: usize| {
            let name = self.shown_images(version, revision).nth(index).flatten();
            floor > revision
                || name.is_some_and(|name| {
                    catalogue.removed.contains_key(&name) && !self.is_made_by(&name, recipes[index])
                })
        };
        if (0..self.arches.len()).any(|index| !files.contains_key(&index) && is_spent(index)) {
            let builds = all(Why::NewArchitecture);
            return Ok(Aim { revision: next.max(revision + 1), builds, before });
        }
        let mut builds = Vec::new();
        for index in 0..self.arches.len() {
            builds.extend(match files.get(&index) {
                None => Some((index, Why::NewArchitecture)),
                Some(name) if !self.published.has_file(name) => Some((index, Why::FileGone)),
                Some(_) if self.lacks_others(version, revision, self.arches[index].0) => {
                    Some((index, Why::FileGone))
                }
                Some(name) if self.published.is_damaged(name) => Some((index, Why::FileDamaged)),
                Some(_) => None,
            });
        }
        Ok(Aim { revision, builds, before })
    }

    /// The newest revision of a version that is offered for any of the architectures.
    pub(super) fn offered(&self, version: &Version) -> Option<(u32, BTreeMap<usize, &FileName>)> {
        let slot = self.shelf.slots.get(version)?;
        slot.iter().rev().find_map(|(revision, files)| {
            let found = |(index, (arch, _)): (usize, &(Arch, String))| {
                files.get(arch).map(|name| (index, name))
            };
            let files: BTreeMap<usize, &FileName> =
                self.arches.iter().enumerate().filter_map(found).collect();
            (!files.is_empty()).then_some((*revision, files))
        })
    }

    fn shown_images(
        &self,
        version: &Version,
        revision: u32,
    ) -> impl Iterator<Item = Option<FileName>> {
        let shown = version.revised(revision).ok();
        self.arches
            .iter()
            .map(move |(arch, _)| image_name(self.component, shown.as_ref()?, *arch).ok())
    }

    /// Whether one of the files is not there that a version has beside the first.
    fn lacks_others(&self, version: &Version, revision: u32, arch: Arch) -> bool {
        let shown = version.revised(revision).ok();
        let names = shown.and_then(|shown| file_names(self.component, &shown, arch).ok());
        names.into_iter().flatten().skip(1).any(|name| {
            self.published.manifest.get(&name).is_none() || !self.published.has_file(&name)
        })
    }

    fn is_made_by(&self, name: &FileName, recipe: Sha256) -> bool {
        self.published.has_file(name)
            && self.published.record(name).is_some_and(|record| record.recipe == Some(recipe))
    }

    fn recipe(&self, candidate: &Candidate, company: &Company, at: &(Arch, String)) -> Sha256 {
        recipe_of(self.component, self.basis.overlay, candidate, company, at)
    }

    /// What was fetched for these images.
    fn inputs(&self, images: &[FileName]) -> Vec<InputRecord> {
        let mut inputs: BTreeMap<&str, &InputRecord> = BTreeMap::new();
        let records = images.iter().filter_map(|name| self.published.record(name));
        for input in records.flat_map(|record| &record.inputs) {
            inputs.insert(&input.from, input);
        }
        inputs.into_values().cloned().collect()
    }

    /// A revision must stand where its version stands among all others, and a new version must stand
    /// beside every revision as it stands beside its version.
    fn check_order(
        &self,
        candidate: &Candidate,
        revision: u32,
        shown: &Version,
        verdicts: &[Verdict],
    ) -> Result<(), Refusal> {
        let Candidate { version, release, .. } = candidate;
        let refuse = |problem, hint| Err(Refusal { tag: release.tag.clone(), problem, hint });
        if revision > 0 {
            let eligible = verdicts.iter().filter(|verdict| verdict.is_eligible());
            let others = eligible.filter_map(|verdict| verdict.version.as_ref());
            for other in others.chain(self.shelf.slots.keys()) {
                if moves(version, shown, other) {
                    return refuse(
                        format!(
                            "it must be published as `{shown}`, but nodes would not sort that beside `{other}` as they sort `{version}`"
                        ),
                        format!(
                            "what is published stays as it is; exclude `{other}` in [versions], or take the change back"
                        ),
                    );
                }
            }
        }
        for (other, slot) in self.shelf.slots.iter().filter(|(other, _)| *other != version) {
            if other.client_cmp(version).is_eq() {
                return refuse(
                    format!("nodes hold it equal to `{other}`, which is published"),
                    format!("exclude `{}` in [versions]", release.tag),
                );
            }
            for revised in slot.keys().filter_map(|revision| other.revised(*revision).ok()) {
                if moves(other, &revised, version) {
                    return refuse(
                        format!(
                            "nodes would not sort `{version}` beside `{revised}`, which is published, as they sort it beside `{other}`"
                        ),
                        format!(
                            "exclude `{}` in [versions], or give `tag` or `match` a form that orders otherwise",
                            release.tag
                        ),
                    );
                }
            }
        }
        Ok(())
    }
}

/// Whether a version stands elsewhere than its revision, seen from another version.
fn moves(version: &Version, revised: &Version, other: &Version) -> bool {
    let order = version.client_cmp(other);
    order.is_ne() && revised.client_cmp(other) != order
}

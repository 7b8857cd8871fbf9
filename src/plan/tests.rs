//! Tests of the plan.

use super::*;
use crate::config::component;
use crate::manifest::Manifest;
use crate::name::Sha256;
use crate::source::Asset;
use crate::source::Location;
use std::path::Path;

const ARCHES: [(Arch, &str); 2] = [(Arch::X86_64, "amd64"), (Arch::Arm64, "aarch64")];

fn arches() -> Vec<(Arch, String)> {
    ARCHES.map(|(arch, theirs)| (arch, theirs.to_owned())).to_vec()
}

fn component(rest: &str) -> Component {
    let text = format!("[source.github]\nrepo = \"o/r\"\n{rest}");
    component::parse("x".parse().unwrap(), Path::new("x.toml"), &text).unwrap()
}

fn release(tag: &str) -> Release {
    Release { tag: tag.to_owned(), published: None, prerelease: false, assets: [].into() }
}

fn now() -> Timestamp {
    "2025-01-10T00:00:00Z".parse().unwrap()
}

fn wanted(rules: &str, tags: &[&str]) -> Vec<String> {
    let releases = tags.iter().map(|tag| release(tag)).collect();
    let selection = select(&component(rules), releases, &|_, _| None, now());
    selection.wanted.into_iter().map(|candidate| candidate.version.to_string()).collect()
}

fn images(plan: &Plan) -> Vec<(String, Why)> {
    plan.builds().map(|build| (build.image.to_string(), build.why)).collect()
}

#[test]
fn the_newest_are_wanted_in_the_clients_order() {
    assert_eq!(wanted("", &["v1.9", "v1.10", "v1.2", "v1.11"]), ["1.11", "1.10", "1.9"]);
    assert_eq!(wanted("[versions]\nnewest = 1\n", &["v1.9", "v1.10"]), ["1.10"]);
    let branches = "[versions]\nnewest = 1\nper = \"minor\"\n";
    assert_eq!(wanted(branches, &["v1.30.9", "v1.31.0", "v1.30.10"]), ["1.31.0", "1.30.10"]);
}

#[test]
fn every_rule_leaves_out_what_it_says() {
    assert_eq!(wanted("", &["v1.0.0-rc1", "nightly", "v1.0.0"]), ["1.0.0"]);
    assert_eq!(
        wanted("[versions]\nexclude = [\"1.1\", \"v1.2\"]\n", &["v1.0", "v1.1", "v1.2"]),
        ["1.0"]
    );
    assert_eq!(wanted("[versions]\nrequire = \">=2\"\n", &["v1.0", "v2.1"]), ["2.1"]);
    assert_eq!(wanted("[versions]\ntag = \"x-{version}\"\n", &["v1.0", "x-1.1"]), ["1.1"]);
    assert_eq!(wanted("", &["v1.0", "1.0"]), ["1.0"]);
}

#[test]
fn a_release_waits_until_it_is_old_enough() {
    let component = component("[versions]\nmin-age = \"2d\"\n");
    let dated = |tag: &str, at: Option<&str>| Release {
        published: at.map(|at| at.parse().unwrap()),
        ..release(tag)
    };
    let releases = vec![
        dated("v1", Some("2025-01-07T23:59:59Z")),
        dated("v2", Some("2025-01-08T00:00:01Z")),
        dated("v3", None),
    ];
    let outs: Vec<_> = select(&component, releases, &|_, _| None, now())
        .verdicts
        .into_iter()
        .map(|v| v.out)
        .collect();
    assert_eq!(outs, [Some(Out::AgeUnknown), Some(Out::TooYoung), None]);
}

#[test]
fn what_nodes_would_misorder_is_refused() {
    let component = component("[versions]\nprerelease = true\n");
    let releases = ["v1.0.0-rc1", "v1.0~rc2", "v2.0+build", "v2.0.1"].map(release).to_vec();
    let selection = select(&component, releases, &|_, _| None, now());
    let mut refused: Vec<_> =
        selection.refusals.iter().map(|refusal| refusal.tag.as_str()).collect();
    refused.sort_unstable();
    assert_eq!(refused, ["v1.0.0-rc1", "v1.0~rc2", "v2.0.1"]);
}

#[test]
fn only_what_is_missing_is_built_and_the_reason_is_told() {
    let component = component("");
    let releases = || vec![release("v1"), release("v2")];
    let mut manifest = Manifest::default();
    for name in ["x-1-x86-64.raw", "x-2-x86-64.raw", "x-2-arm64.raw"] {
        manifest.add(name.parse().unwrap(), Sha256::of(b"")).unwrap();
    }
    let published = Published::new(
        manifest,
        ["x-1-x86-64.raw", "x-2-x86-64.raw"].map(|name| (name.to_owned(), 1)),
    );
    let plan = plan(&component, &arches(), releases(), &published, Basis::default(), now());
    assert_eq!(
        images(&plan),
        [
            ("x-2-arm64.raw".to_owned(), Why::FileGone),
            ("x-1-arm64.raw".to_owned(), Why::NewArchitecture)
        ]
    );
}

#[test]
fn a_plan_that_was_carried_out_leaves_nothing_to_do() {
    let component = component("");
    let releases = || ["v1", "v2.1", "v2.0"].map(release).to_vec();
    let first =
        plan(&component, &arches(), releases(), &Published::default(), Basis::default(), now());
    assert_eq!(first.actions.len(), 6);
    let mut manifest = Manifest::default();
    for (name, _) in images(&first) {
        manifest.add(name.parse().unwrap(), Sha256::of(b"")).unwrap();
    }
    let names: Vec<_> = manifest.files().map(|(name, _)| (name.to_string(), 1)).collect();
    let published = Published::new(manifest, names);
    assert!(
        plan(&component, &arches(), releases(), &published, Basis::default(), now())
            .actions
            .is_empty()
    );
}

#[test]
fn half_a_release_is_refused_whole() {
    let component =
        component("[[asset]]\nname = \"x-{arch}\"\n[asset.files]\n\"usr/bin/x\" = \"x-{arch}\"\n");
    let asset = Asset {
        name: "x-amd64".to_owned(),
        at: Location::Url("https://e.org/x".to_owned()),
        sha256: None,
        private: None,
        size: None,
    };
    let releases = vec![Release { assets: [asset].into(), ..release("v1") }];
    let plan =
        plan(&component, &arches(), releases, &Published::default(), Basis::default(), now());
    assert!(plan.actions.is_empty());
    assert_eq!(plan.refusals[0].problem, "the release has no asset `x-aarch64`");
    assert_eq!(plan.refusals[0].hint, "it has x-amd64");
}

/// A repository in memory: what a run would leave behind.
mod whole_runs {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::repository::catalogue::{Removed, Yank, Yanked};
    use crate::repository::commit::Record;
    use crate::repository::shelf::Shelf;

    #[derive(Debug, Clone, Default)]
    struct World {
        published: Published,
    }

    const AN_HOUR: Retention =
        Retention { grace: std::time::Duration::from_secs(3600), max_delete: 100 };

    fn later(hours: i64) -> Timestamp {
        now() + jiff::SignedDuration::from_hours(hours)
    }

    fn digest(build: &Build) -> Sha256 {
        Sha256::of(format!("{} {}", build.image, build.recipe).as_bytes())
    }

    impl World {
        fn plan(&self, component: &Component, tags: &[String], hours: i64) -> Plan {
            let releases = tags.iter().map(|tag| release(tag)).collect();
            let basis = Basis { overlay: None, retention: AN_HOUR, ..Basis::default() };
            plan(component, &arches(), releases, &self.published, basis, later(hours))
        }

        /// What sync does with a plan, all builds of `broken` versions failing.
        fn carry_out(
            &mut self,
            rules: &Component,
            plan: &Plan,
            upstream: &BTreeSet<Version>,
            broken: &[String],
            hours: i64,
        ) {
            for build in plan.builds().filter(|build| !broken.contains(&build.release.tag)) {
                let sha256 = digest(build);
                let published = &mut self.published;
                published.manifest.add(build.image.clone(), sha256).expect("other bytes");
                let record = Record {
                    version: 2,
                    tool: String::new(),
                    sha256,
                    size: 1,
                    time: 0,
                    release: Some(build.version.clone()),
                    revision: build.revision,
                    recipe: Some(build.recipe),
                    inputs: Vec::new(),
                };
                published.remember(build.image.clone(), record);
            }
            let known: Vec<Arch> = ARCHES.map(|(arch, _)| arch).to_vec();
            let offered = Shelf::new(rules, &self.published, upstream);
            let removals = retention::removals(&offered, &self.published, &rules.versions, &known);
            let gone: Vec<FileName> = removals.iter().map(|r| r.name.clone()).collect();
            for (version, revision, _, name) in
                offered.images().filter(|(.., name)| gone.contains(name))
            {
                let sha256 = self.published.manifest.get(name).unwrap();
                let why = crate::repository::commit::Gone::Pruned;
                let (version, at) = (version.clone(), later(hours));
                let removed = Removed { sha256, size: Some(1), version, revision, at, why };
                self.published.catalogue.removed.insert(name.clone(), removed);
                self.published.manifest.remove(name);
            }
            for name in plan.deletions() {
                assert!(self.published.manifest.get(name).is_none(), "{name} is listed");
                let removed = self.published.catalogue.removed.remove(name).unwrap();
                self.published.forget(name);
                let floor = self.published.catalogue.floor.entry(removed.version).or_default();
                *floor = (*floor).max(removed.revision + 1);
            }
        }

        fn yank(&mut self, rules: &Component, version: &str, hours: i64) {
            let version: Version = version.parse().unwrap();
            let known = BTreeSet::from([version.clone()]);
            let offered = Shelf::new(rules, &self.published, &known);
            let mut images = BTreeMap::new();
            for (release, revision, _, name) in offered.images().filter(|(v, ..)| **v == version) {
                let sha256 = self.published.manifest.get(name).unwrap();
                let recipe = self.published.record(name).and_then(|record| record.recipe);
                let version = release.clone();
                images.insert(name.clone(), Yanked { sha256, version, revision, recipe });
            }
            if images.is_empty() || images.len() == self.published.manifest.files().count() {
                return;
            }
            let yank = Yank { at: later(hours), reason: None, images };
            self.published.catalogue.yanked.insert(version, yank);
        }
    }

    #[derive(Debug, Clone)]
    enum Event {
        Release(u8, u8),
        Withdraw(usize),
        Recipe(u8),
        Newest(usize, Option<&'static str>),
        Yank(usize),
        Restore(usize),
        Break(usize),
        LoseRecord(usize),
        Pass(i64),
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            4 => (0..3u8, 0..12u8).prop_map(|(minor, patch)| Event::Release(minor, patch)),
            1 => (0..12usize).prop_map(Event::Withdraw),
            2 => (0..4u8).prop_map(Event::Recipe),
            2 => (1..4usize, prop_oneof![Just(None), Just(Some("minor"))])
                .prop_map(|(newest, per)| Event::Newest(newest, per)),
            1 => (0..12usize).prop_map(Event::Yank),
            1 => (0..12usize).prop_map(Event::Restore),
            1 => (0..12usize).prop_map(Event::Break),
            1 => (0..12usize).prop_map(Event::LoseRecord),
            1 => (0..3i64).prop_map(Event::Pass),
        ]
    }

    fn configured(recipe: u8, newest: usize, per: Option<&str>) -> Component {
        let per = per.map(|per| format!("per = \"{per}\"\n")).unwrap_or_default();
        component(&format!(
            "[versions]\nnewest = {newest}\n{per}[files]\n\"usr/x\" = {{ text = \"{recipe}\" }}\n"
        ))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        /// Whatever happens over time: a name keeps its bytes, the newest complete version stays
        /// listed unless somebody yanks it, and a plan that was carried out leaves nothing to do.
        #[test]
        fn a_repository_is_never_wrong(events in prop::collection::vec(event(), 1..30)) {
            let mut world = World::default();
            let mut tags: Vec<String> = vec!["v1.0.0".to_owned()];
            let (mut recipe, mut newest, mut per) = (0, 3, None);
            let mut hours = 0;
            let mut ever: BTreeMap<String, Sha256> = BTreeMap::new();
            for event in events {
                let mut broken = Vec::new();
                let mut yanked = None;
                match event {
                    Event::Release(minor, patch) => {
                        let tag = format!("v1.{minor}.{patch}");
                        if !tags.contains(&tag) {
                            tags.push(tag);
                        }
                    }
                    Event::Withdraw(at) if tags.len() > 1 => {
                        tags.remove(at % tags.len());
                    }
                    Event::Withdraw(_) => {}
                    Event::Recipe(other) => recipe = other,
                    Event::Newest(number, branches) => (newest, per) = (number, branches),
                    Event::Yank(at) => {
                        let version = tags[at % tags.len()].trim_start_matches('v').to_owned();
                        let component = configured(recipe, newest, per);
                        world.yank(&component, &version, hours);
                        yanked = Some(version);
                    }
                    Event::Restore(at) => {
                        let catalogue = &mut world.published.catalogue;
                        let versions: Vec<Version> = catalogue.yanked.keys().cloned().collect();
                        if let Some(version) = versions.get(at % versions.len().max(1)) {
                            let yank = catalogue.yanked.remove(version).unwrap();
                            let last = yank.images.values().map(|line| line.revision).max();
                            let floor = catalogue.floor.entry(version.clone()).or_default();
                            *floor = (*floor).max(last.unwrap_or(0) + 1);
                        }
                    }
                    Event::Break(at) => broken.push(tags[at % tags.len()].clone()),
                    Event::LoseRecord(at) => {
                        let names: Vec<FileName> =
                            world.published.manifest.files().map(|(n, _)| n.clone()).collect();
                        if let Some(name) = names.get(at % names.len().max(1)) {
                            world.published.unlearn(name);
                        }
                    }
                    Event::Pass(passed) => hours += passed,
                }
                let component = configured(recipe, newest, per);
                let known: Vec<Arch> = ARCHES.map(|(arch, _)| arch).to_vec();
                let upstream: BTreeSet<Version> =
                    tags.iter().map(|tag| tag.trim_start_matches('v').parse().unwrap()).collect();
                let before = Shelf::new(&component, &world.published, &upstream);
                let complete = before
                    .without_yanked(&world.published.catalogue)
                    .newest_complete(&known)
                    .map(|(version, _)| version.clone());
                let plan = world.plan(&component, &tags, hours);
                prop_assert!(plan.refusals.iter().all(|r| r.problem.contains("none of")), "{:?}", plan.refusals);
                world.carry_out(&component, &plan, &upstream, &broken, hours);
                for (name, sha256) in world.published.manifest.files() {
                    let first = *ever.entry(name.to_string()).or_insert(sha256);
                    prop_assert_eq!(first, sha256, "{} got other bytes", name);
                }
                let after = Shelf::new(&component, &world.published, &upstream);
                if let Some(complete) = complete {
                    let now = after.newest_complete(&known).map(|(version, _)| version.clone());
                    prop_assert!(now >= Some(complete), "the newest complete version went, {:?}", yanked);
                }
                if broken.is_empty() {
                    let again = world.plan(&component, &tags, hours);
                    prop_assert!(again.actions.is_empty(), "{:#?}\n{:#?}", again.actions, world.published.manifest);
                }
            }
        }
    }
}

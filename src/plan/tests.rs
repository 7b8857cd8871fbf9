//! Tests of the plan.

use super::*;
use crate::config::component;
use crate::manifest::Manifest;
use crate::name::Sha256;
use crate::source::{Asset, Location, Release};
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

fn upstream(component: &Component, releases: Vec<Release>) -> Upstream {
    Upstream::new(component, releases, Vec::new(), now())
}

fn selected(component: &Component, releases: Vec<Release>) -> Selection {
    select(&component.versions, &upstream(component, releases), &Asked::NOTHING)
}

fn wanted(rules: &str, tags: &[&str]) -> Vec<String> {
    let releases = tags.iter().map(|tag| release(tag)).collect();
    selected(&component(rules), releases)
        .wanted
        .into_iter()
        .map(|candidate| candidate.version.to_string())
        .collect()
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
    let outs: Vec<_> = selected(&component, releases).verdicts.into_iter().map(|v| v.out).collect();
    assert_eq!(outs, [Some(Out::AgeUnknown), Some(Out::TooYoung), None]);
}

#[test]
fn what_nodes_would_misorder_is_refused() {
    let component = component("[versions]\nprerelease = true\n");
    let releases = ["v1.0.0-rc1", "v1.0~rc2", "v2.0+build", "v2.0.1"].map(release).to_vec();
    let selection = selected(&component, releases);
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
    let upstream = upstream(&component, releases());
    let plan = plan(&component, &arches(), &upstream, &published, Basis::default(), now());
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
    let upstream = upstream(&component, ["v1", "v2.1", "v2.0"].map(release).to_vec());
    let first =
        plan(&component, &arches(), &upstream, &Published::default(), Basis::default(), now());
    assert_eq!(first.actions.len(), 6);
    let mut manifest = Manifest::default();
    for (name, _) in images(&first) {
        manifest.add(name.parse().unwrap(), Sha256::of(b"")).unwrap();
    }
    let names: Vec<_> = manifest.files().map(|(name, _)| (name.to_string(), 1)).collect();
    let published = Published::new(manifest, names);
    assert!(
        plan(&component, &arches(), &upstream, &published, Basis::default(), now())
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
    let upstream = upstream(&component, releases);
    let plan =
        plan(&component, &arches(), &upstream, &Published::default(), Basis::default(), now());
    assert!(plan.actions.is_empty());
    assert_eq!(plan.refusals[0].problem, "the release has no asset `x-aarch64`");
    assert_eq!(plan.refusals[0].hint, "it has x-amd64");
}

#[test]
fn versions_are_named_by_text_or_pattern() {
    let tags = ["v1.0", "v1.1", "v1.1-fips1", "v1.2", "v2.0"];
    assert_eq!(
        wanted("[versions]\nexclude = [\"/fips/\", \"2.0\"]\n", &tags),
        ["1.2", "1.1", "1.0"]
    );
    assert_eq!(wanted("[versions]\ninclude = [\"/^v1\\\\.[12]$/\"]\n", &tags), ["1.2", "1.1"]);
    assert_eq!(
        wanted("[versions]\ninclude = [\"/^v1/\"]\nexclude = [\"1.2\"]\n", &tags),
        ["1.1", "1.0"]
    );
}

#[test]
fn a_pin_holds_one_version_whatever_else_is_said() {
    let tags = ["v1.0", "v1.1", "v1.2", "v1.3-rc1"];
    let rules = "[versions]\npin = \"1.1\"\nrequire = \">=1.2\"\nmin-age = \"2d\"\n";
    assert_eq!(wanted(rules, &tags), ["1.1"]);
    let component = component("[versions]\npin = \"1.1\"\n");
    let upstream = upstream(&component, tags.map(release).to_vec());
    let published = Published::default();
    let plan = plan(&component, &arches(), &upstream, &published, Basis::default(), now());
    assert_eq!(images(&plan).len(), 2);
    assert_eq!(plan.newer, ["1.2".parse().unwrap()]);
    // Nothing that upstream has: that is told.
    let nothing = selected(&self::component("[versions]\npin = \"9\"\n"), vec![release("v1.0")]);
    assert!(nothing.refusals[0].problem.contains("another version is pinned"));
}

#[test]
fn four_branches_are_held_at_once() {
    let tags: Vec<String> =
        (20..34).flat_map(|minor| (0..4).map(move |patch| format!("v1.{minor}.{patch}"))).collect();
    let tags: Vec<&str> = tags.iter().map(String::as_str).collect();
    let rules = |more: &str| format!("[versions]\nper = \"minor\"\nnewest = 1\n{more}");
    assert_eq!(wanted(&rules("branches = 2\n"), &tags), ["1.33.3", "1.32.3"]);
    assert_eq!(wanted(&rules(""), &tags), ["1.33.3", "1.32.3", "1.31.3", "1.30.3"]);
    assert_eq!(wanted(&rules("require = \">=1.28\"\n"), &tags).len(), 6);
    let component = component(&rules("branches = 2\n"));
    let old = selected(&component, vec![release("v1.1"), release("v1.2"), release("v1.3")]);
    assert_eq!(old.verdicts[2].out, Some(Out::OldBranch { branches: 2 }));
}

#[test]
fn what_is_published_may_be_written_otherwise() {
    let replace = "[versions]\nreplace = { \"+\" = \"-\" }\n";
    let tags = ["v1.31.2+k3s1", "v1.31.2+k3s2", "v1.31.3+k3s1"];
    assert_eq!(wanted(replace, &tags), ["1.31.3-k3s1", "1.31.2-k3s2", "1.31.2-k3s1"]);
    assert_eq!(wanted(&format!("{replace}require = \">=1.31.3\"\n"), &tags), ["1.31.3-k3s1"]);
    // Templates say what upstream says.
    let component = component(&format!(
        "{replace}[[asset]]\nurl = \"https://e.org/{{version}}\"\n[asset.files]\n\"usr/x\" = \"x\"\n"
    ));
    let upstream = upstream(&component, vec![release(tags[0])]);
    let published = Published::default();
    let plan = plan(&component, &arches(), &upstream, &published, Basis::default(), now());
    let build = plan.builds().next().unwrap();
    assert_eq!(build.image.as_str(), "x-1.31.2-k3s1-x86-64.raw");
    assert_eq!(build.vars(&component).version, "1.31.2+k3s1");
}

#[test]
fn a_store_that_reads_a_plus_as_a_blank_gets_none() {
    let component = component("");
    let upstream = upstream(&component, vec![release("v1.31.2+k3s1"), release("v1.30.0")]);
    let basis = Basis { plus_is_blank: true, ..Basis::default() };
    let plan = plan(&component, &arches(), &upstream, &Published::default(), basis, now());
    assert_eq!(plan.builds().count(), 2);
    assert!(plan.refusals[0].hint.contains("replace = { \"+\" = \"-\" }"), "{:?}", plan.refusals);
}

#[test]
fn a_version_that_nodes_would_never_reach_is_told_however_few_are_held() {
    let component = component("[versions]\nnewest = 1\n");
    let selection = selected(&component, ["v2.0+build", "v2.0.1"].map(release).to_vec());
    assert_eq!(selection.refusals[0].tag, "v2.0.1");
    assert!(selection.refusals[0].hint.contains("replace"), "{:?}", selection.refusals);
    // What is older than all that is wanted is history.
    let old = ["v0.9+build", "v0.9.1", "v1.0", "v2.0"].map(release).to_vec();
    assert!(selected(&component, old).refusals.is_empty());
}

#[test]
fn a_packagers_number_is_newer_unless_the_dates_say_otherwise() {
    assert_eq!(wanted("", &["v1.2.3", "v1.2.3-1", "v1.2.3-2"]), ["1.2.3-2", "1.2.3-1", "1.2.3"]);
    let dated = |tag: &str, at: &str| Release { published: at.parse().ok(), ..release(tag) };
    let releases =
        vec![dated("v1.0.0-1", "2025-01-01T00:00:00Z"), dated("v1.0.0", "2025-01-02T00:00:00Z")];
    let selection = selected(&component(""), releases);
    assert_eq!(selection.wanted.len(), 1);
    assert_eq!(selection.refusals[0].tag, "v1.0.0-1");
}

#[test]
fn words_before_the_number_are_not_mixed() {
    for (tags, kept) in [(["release-1.2", "1.1"], "1.1"), (["r12", "v13"], "v13")] {
        let component = component("[versions]\ntag = \"{version}\"\n");
        let selection = selected(&component, tags.map(release).to_vec());
        let wanted: Vec<_> = selection.wanted.iter().map(|c| c.version.as_str()).collect();
        assert_eq!((wanted, selection.refusals.len()), (vec![kept], 1), "{tags:?}");
    }
}

#[test]
fn what_upstream_took_back_is_told_but_not_what_it_may_list_elsewhere() {
    let withdrawn = |tags: &[&str], published: &[&str]| {
        let component = component("");
        let mut manifest = Manifest::default();
        for version in published {
            let name = format!("x-{version}-x86-64.raw").parse().unwrap();
            manifest.add(name, Sha256::of(b"")).unwrap();
        }
        let upstream = upstream(&component, tags.iter().map(|tag| release(tag)).collect());
        let published = Published::new(manifest, []);
        let plan = plan(&component, &arches(), &upstream, &published, Basis::default(), now());
        plan.withdrawn.into_iter().map(String::from).collect::<Vec<_>>()
    };
    assert_eq!(withdrawn(&["v1.0", "v1.2"], &["1.0", "1.1", "1.2", "1.3"]), ["1.3", "1.1"]);
    // A listing that was cut ends somewhere.
    assert_eq!(withdrawn(&["v1.2", "v1.3"], &["1.0", "1.1", "1.2"]), Vec::<String>::new());
}

mod waiting {
    use super::*;
    use crate::repository::catalogue::Waiting;

    const RULES: &str =
        "[[asset]]\nname = \"x-{version}-{arch}\"\n[asset.files]\n\"usr/bin/x\" = \"*\"\n";

    pub(super) fn asset(name: &str) -> Asset {
        Asset {
            name: name.to_owned(),
            at: Location::Url(format!("https://e.org/{name}")),
            sha256: None,
            private: None,
            size: None,
        }
    }

    pub(super) fn with(tag: &str, assets: &[&str]) -> Release {
        Release { assets: assets.iter().map(|name| asset(name)).collect(), ..release(tag) }
    }

    fn dated(at: &str, release: Release) -> Release {
        Release { published: Some(at.parse().unwrap()), ..release }
    }

    fn whole(version: &str) -> Release {
        let names = ["amd64", "aarch64"].map(|arch| format!("x-{version}-{arch}"));
        with(&format!("v{version}"), &[&names[0], &names[1]])
    }

    fn planned(rules: &str, releases: Vec<Release>, published: &Published) -> Plan {
        let component = component(&format!("{rules}{RULES}"));
        let upstream = upstream(&component, releases);
        plan(&component, &arches(), &upstream, published, Basis::default(), now())
    }

    fn published(version: &str) -> Published {
        let mut manifest = Manifest::default();
        let names = ["x86-64", "arm64"].map(|arch| format!("x-{version}-{arch}.raw"));
        for name in &names {
            manifest.add(name.parse().unwrap(), Sha256::of(b"")).unwrap();
        }
        Published::new(manifest, names.map(|name| (name, 1)))
    }

    #[test]
    fn a_young_release_is_waited_for_and_an_older_one_takes_its_place() {
        let young = dated("2025-01-09T12:00:00Z", with("v1.2", &["x-1.2-amd64"]));
        let rules = "[versions]\nnewest = 1\n";
        let plan = planned(rules, vec![young, whole("1.1"), whole("1.0")], &Published::default());
        assert_eq!(
            plan.builds().map(|build| build.version.as_str()).collect::<Vec<_>>(),
            ["1.1"; 2]
        );
        assert_eq!(plan.refusals, []);
        assert_eq!(plan.newest, Some("1.2".parse().unwrap()));
        assert_eq!(
            plan.waiting[0].to_string(),
            "1.2 waits for `x-1.2-aarch64` since 2025-01-09T12:00:00Z, at most until 2025-01-10T12:00:00Z"
        );
        // It tells its date: nothing is to be remembered.
        assert_eq!(plan.begun().count(), 0);
    }

    #[test]
    fn after_the_wait_it_is_an_error() {
        let old = || dated("2025-01-08T12:00:00Z", with("v1.2", &["x-1.2-amd64"]));
        let plan = planned("", vec![old(), whole("1.1")], &Published::default());
        assert_eq!((plan.waiting.len(), plan.refusals.len(), plan.builds().count()), (0, 1, 2));
        let plan = planned("[versions]\nwait = \"3d\"\n", vec![old()], &Published::default());
        assert_eq!((plan.waiting.len(), plan.refusals.len()), (1, 0));
    }

    #[test]
    fn a_release_without_a_date_is_waited_for_since_it_was_seen() {
        let releases = || vec![with("v1.2", &["x-1.2-amd64"]), whole("1.1")];
        // Who begins to follow an upstream wants to know what does not work.
        assert_eq!(planned("", releases(), &Published::default()).refusals.len(), 1);
        let mut there = published("1.1");
        let plan = planned("", releases(), &there);
        assert_eq!((plan.refusals.len(), plan.begun().count()), (0, 1));
        let mut seen = |since: &str| {
            let waiting = Waiting { since: since.parse().unwrap(), lacks: "`x`".to_owned() };
            there.catalogue.waiting.insert("1.2".parse().unwrap(), waiting);
            planned("", releases(), &there)
        };
        let plan = seen("2025-01-09T12:00:00Z");
        assert_eq!((plan.waiting.len(), plan.actions.len(), plan.refusals.len()), (1, 0, 0));
        assert_eq!(seen("2025-01-08T12:00:00Z").refusals.len(), 1);
    }

    #[test]
    fn half_a_set_goes_out_only_where_that_is_said() {
        let half = dated("2025-01-09T12:00:00Z", with("v1.2", &["x-1.2-amd64"]));
        let plan = planned("[versions]\npartial = true\n", vec![half], &Published::default());
        assert_eq!(images(&plan), [("x-1.2-x86-64.raw".to_owned(), Why::NewVersion)]);
        assert_eq!((plan.waiting.len(), plan.refusals.len()), (0, 0));
    }

    #[test]
    fn a_file_is_found_by_whatever_name_it_has() {
        let rules = "[[asset]]\nname = [\"new-{version}\", \"old-{version}\"]\n[asset.files]\n\"usr/bin/x\" = \"*\"\n";
        let component = component(rules);
        let releases = vec![
            with("v1.0", &["old-1.0"]),
            with("v1.1", &["old-1.1", "new-1.1"]),
            with("v1.2", &[]),
        ];
        let upstream = upstream(&component, releases);
        let none = Published::default();
        let plan = plan(&component, &arches(), &upstream, &none, Basis::default(), now());
        assert_eq!(plan.builds().count(), 4);
        assert_eq!(plan.refusals[0].problem, "the release has no asset `new-1.2` or `old-1.2`");
    }
}

mod companions {
    use super::waiting::with;
    use super::*;
    use crate::repository::commit::Record;

    const CNI: &str = "[[companion]]\nname = \"cni\"\nsource.github.repo = \"o/cni\"\narch.x86-64 = \"amd64\"\narch.arm64 = \"arm64\"\n";
    const ASSET: &str = "[[asset]]\nof = \"cni\"\nname = \"cni-{cni.version}-{cni.arch}\"\n[asset.files]\n\"usr/x\" = \"*\"\n";

    fn cni(version: &str) -> Release {
        let names = ["amd64", "arm64"].map(|arch| format!("cni-{version}-{arch}"));
        with(&format!("v{version}"), &[&names[0], &names[1]])
    }

    struct World {
        component: Component,
        published: Published,
    }

    impl World {
        fn new(more: &str) -> Self {
            let component = component(&format!("{CNI}{more}{ASSET}"));
            Self { component, published: Published::default() }
        }

        fn plan(&self, tags: &[&str], companions: Vec<Release>) -> Plan {
            let releases = tags.iter().map(|tag| release(tag)).collect();
            let upstream = Upstream::new(&self.component, releases, vec![companions], now());
            plan(&self.component, &arches(), &upstream, &self.published, Basis::default(), now())
        }

        fn carry_out(&mut self, plan: &Plan) {
            for build in plan.builds() {
                let record = Record {
                    version: 2,
                    tool: String::new(),
                    sha256: Sha256::of(build.image.as_str().as_bytes()),
                    size: 1,
                    time: 0,
                    release: Some(build.version.clone()),
                    revision: build.revision,
                    recipe: Some(build.recipe),
                    inputs: Vec::new(),
                    companions: build.company.record(),
                    contents: None,
                    published: None,
                };
                self.published.manifest.add(build.image.clone(), record.sha256).unwrap();
                self.published.remember(build.image.clone(), record);
            }
        }
    }

    fn chosen(plan: &Plan) -> Vec<(String, String, Because)> {
        let each = plan.builds().filter(|build| build.arch == Arch::X86_64);
        each.map(|build| {
            let chosen = build.company.iter().next().unwrap();
            (build.shown.to_string(), chosen.version.clone(), chosen.why)
        })
        .collect()
    }

    #[test]
    fn it_is_chosen_once_and_kept() {
        let mut world = World::new("");
        let first = world.plan(&["v1.0"], vec![cni("1.5"), cni("1.10"), with("v1.11", &[])]);
        // 1.11 has no files yet.
        let newest = ("1.0".to_owned(), "1.10".to_owned(), Because::Newest);
        assert_eq!(chosen(&first), [newest]);
        assert_eq!(first.builds().next().unwrap().vars(&world.component).beside[0].arch, "amd64");
        world.carry_out(&first);
        // A newer one is nothing to do, and goes into what is new.
        let second = world.plan(&["v1.0", "v1.1"], vec![cni("1.10"), cni("1.12")]);
        assert_eq!(chosen(&second), [("1.1".to_owned(), "1.12".to_owned(), Because::Newest)]);
        world.carry_out(&second);
        assert_eq!(world.plan(&["v1.0", "v1.1"], vec![cni("1.12"), cni("2.0")]).actions.len(), 0);
        // Another architecture gets what the first one has.
        let gone: FileName = "x-1.0-arm64.raw".parse().unwrap();
        world.published.manifest.remove(&gone);
        let third = world.plan(&["v1.0"], vec![cni("1.10"), cni("2.0")]);
        let build = third.builds().next().unwrap();
        assert_eq!((build.arch, build.why), (Arch::Arm64, Why::NewArchitecture));
        assert_eq!(build.beside[0].version, "1.10");
        // If upstream has it no more, that is told, and no other one is taken.
        let told = world.plan(&["v1.0"], vec![cni("2.0")]);
        assert_eq!(
            told.refusals[0].problem,
            "the release has no asset `cni-1.10-arm64` of the companion `cni`"
        );
    }

    #[test]
    fn one_that_is_followed_makes_revisions() {
        let mut world = World::new("follow = true\n");
        let first = world.plan(&["v1.0"], vec![cni("1.5")]);
        world.carry_out(&first);
        let second = world.plan(&["v1.0"], vec![cni("1.5"), cni("1.6")]);
        let whys: Vec<_> = second.builds().map(|build| (build.shown.as_str(), build.why)).collect();
        assert_eq!(whys, [("1.0-r1", Why::CompanionChanged); 2]);
    }

    #[test]
    fn its_version_may_depend_on_the_components() {
        let rules = "[companion.match]\n\"1.31\" = \"<1.6\"\n\"2\" = \"~{minor}\"\n";
        let world = World::new(rules);
        let all = || vec![cni("1.5"), cni("1.6"), cni("2.1"), cni("2.2")];
        let plan = world.plan(&["v1.31.4", "v1.32.0", "v2.1.9"], all());
        let versions: Vec<_> = chosen(&plan).into_iter().map(|(of, it, _)| (of, it)).collect();
        let pair = |of: &str, it: &str| (of.to_owned(), it.to_owned());
        assert_eq!(versions, [pair("2.1.9", "2.1"), pair("1.32.0", "2.2"), pair("1.31.4", "1.5")]);
        let alone = world.plan(&["v2.9.0"], all());
        assert_eq!(
            alone.refusals[0].problem,
            "there is no release of the companion `cni` that goes with it"
        );
        assert!(alone.refusals[0].hint.contains("`~{minor}`"), "{:?}", alone.refusals);
    }

    #[test]
    fn one_that_the_configuration_refuses_is_replaced() {
        let mut world = World::new("");
        let first = world.plan(&["v1.0"], vec![cni("1.5"), cni("1.4")]);
        world.carry_out(&first);
        let component = format!("{CNI}versions.exclude = [\"1.5\"]\n{ASSET}");
        world.component = super::component(&component);
        let second = world.plan(&["v1.0"], vec![cni("1.5"), cni("1.4")]);
        assert_eq!(chosen(&second)[0].0, "1.0-r1");
        assert_eq!(chosen(&second)[0].1, "1.4");
    }
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
            let basis = Basis { retention: AN_HOUR, ..Basis::default() };
            let upstream = upstream(component, releases);
            plan(component, &arches(), &upstream, &self.published, basis, later(hours))
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
                    companions: BTreeMap::new(),
                    contents: None,
                    published: None,
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
        Newest(usize, Option<usize>),
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
            2 => (1..4usize, prop_oneof![Just(None), (1..4usize).prop_map(Some)])
                .prop_map(|(newest, branches)| Event::Newest(newest, branches)),
            1 => (0..12usize).prop_map(Event::Yank),
            1 => (0..12usize).prop_map(Event::Restore),
            1 => (0..12usize).prop_map(Event::Break),
            1 => (0..12usize).prop_map(Event::LoseRecord),
            1 => (0..3i64).prop_map(Event::Pass),
        ]
    }

    fn configured(recipe: u8, newest: usize, branches: Option<usize>) -> Component {
        let per = branches.map(|branches| format!("per = \"minor\"\nbranches = {branches}\n"));
        let per = per.unwrap_or_default();
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

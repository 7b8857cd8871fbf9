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

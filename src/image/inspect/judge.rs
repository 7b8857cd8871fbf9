//! What clients would object to in an image, whatever is in its files.
//!
//! Refuses to read images.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::attributes::Attributes;
use super::{Listed, Use};
use crate::config::extension::Kind;
use crate::image::release::ExtensionRelease;
use crate::lint::{Finding, Lint};
use crate::name::{Arch, ComponentName};
use crate::recipe::elf::Elf;
use crate::recipe::lint::FOLDERS;

/// How an image gets the name under which it is merged.
#[derive(Debug, Clone, Copy)]
pub(super) enum Merged<'a> {
    /// It is the file's own, and this one besides.
    Itself(Option<&'a str>),
    /// A node links to it by another name: this one, or one that the file's begins with.
    Linked(&'a str),
    /// What nodes are told makes this link, and no other.
    LinkedAs(&'a str),
}

impl Merged<'_> {
    /// Whether an extension-release for `name` lets a file with this stem be merged by a link.
    fn fits(component: &str, stem: &str, name: &str) -> bool {
        name == component
            || stem
                .strip_prefix(name)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(['-', '_']))
    }
}

/// What an image extends, as it says or as it looks.
pub(super) fn kind_of(uses: &BTreeSet<Use>, entries: &[Listed]) -> Kind {
    // An image of etc/ alone is meant for systemd-confext, whether or not it says so.
    let tops = || entries.iter().map(|entry| entry.path.split('/').next().unwrap_or_default());
    let confext = uses.contains(&Use::Confext)
        || uses.is_empty() && tops().all(|top| top == "etc") && !entries.is_empty();
    if confext && !uses.contains(&Use::Sysext) { Kind::Confext } else { Kind::Sysext }
}

/// The machine that an image is for. One for any machine may hold programs for many.
pub(super) fn machine_of(
    file: &str,
    releases: &BTreeMap<String, ExtensionRelease>,
) -> Option<Arch> {
    if let Some(claimed) = releases.values().find_map(|release| release.get("ARCHITECTURE")) {
        return claimed.parse().ok();
    }
    let stem = file.strip_suffix(".raw").unwrap_or(file);
    let arches = Arch::ALL.iter().filter(|arch| stem.ends_with(&format!("-{arch}")));
    arches.copied().max_by_key(|arch| arch.as_str().len())
}

/// Programs that no machine could run that the image is for.
pub(super) fn judge_programs(arch: Option<Arch>, programs: &BTreeMap<String, Elf>) -> Vec<Finding> {
    let Some(arch) = arch else { return Vec::new() };
    let wrong = programs.iter().filter(|(_, program)| !program.runs_on(arch));
    let found = wrong.map(|(path, program)| {
        let machine = program.machine();
        let message = format!("is a program for {machine}, but the image is for {arch}");
        Finding::of_file(Lint::ElfArch, path, message)
    });
    found.collect()
}

/// Attributes that make overlayfs take files for others, or hide the host's.
pub(super) fn judge_attributes(attributes: &Attributes) -> Vec<Finding> {
    let found = attributes.overlay.iter().map(|(name, (files, first))| {
        let others = match files {
            1 => String::new(),
            _ => format!(", as {} more have", files - 1),
        };
        let message = format!(
            "has the attribute {name}{others}: merged, it would hide or change files of the host"
        );
        let first = if first.is_empty() { "/" } else { first };
        Finding::of_file(Lint::OverlayAttribute, first, message)
    });
    found.collect()
}

/// What systemd-sysext would object to, seen with 252 and 257.
pub(super) fn judge(
    file: &str,
    merged: Merged<'_>,
    kind: Kind,
    releases: &BTreeMap<String, ExtensionRelease>,
    loose: usize,
    entries: &[Listed],
) -> Vec<Finding> {
    let stem = file.strip_suffix(".raw").unwrap_or(file);
    let mut findings = Vec::new();
    if stem == file {
        let message = format!(
            "the file's name does not end in .raw, so it is no image to {}",
            tool_for(kind)
        );
        findings.push(Finding::of_image(Lint::FileName, message));
    }
    let of_releases = judge_names(stem, merged, kind, releases, loose)
        .into_iter()
        .chain(releases.iter().flat_map(|(name, release)| judge_release(stem, kind, name, release)))
        .map(|message| Finding::of_image(Lint::ExtensionRelease, message));
    findings.extend(of_releases);
    findings.extend(entries.iter().flat_map(|entry| judge_entry(kind, entry)));
    findings
}

fn tool_for(kind: Kind) -> &'static str {
    match kind {
        Kind::Sysext => "systemd-sysext",
        Kind::Confext => "systemd-confext",
    }
}

/// The names that an image must have an extension-release for, and has not.
fn judge_names(
    stem: &str,
    merged: Merged<'_>,
    kind: Kind,
    releases: &BTreeMap<String, ExtensionRelease>,
    loose: usize,
) -> Vec<String> {
    let folder = kind.release_folder();
    if releases.is_empty() {
        return vec![format!("it has no {folder}/extension-release.{stem}")];
    }
    // One that says so fits every name.
    if loose == 1 {
        return Vec::new();
    }
    match merged {
        Merged::Itself(known_as) => {
            let names = [Some(stem), known_as].into_iter().flatten();
            let lacking = names.filter(|name| !releases.contains_key(*name)).map(|name| {
                format!(
                    "it has no {folder}/extension-release.{name}, so it cannot be merged as {name}.raw"
                )
            });
            lacking.collect()
        }
        Merged::LinkedAs(component) => {
            if releases.contains_key(component) {
                return Vec::new();
            }
            let names = releases.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
            let mut message = format!(
                "its extension-release is for {names}, but nodes link to it as {component}.raw, and would merge no extension at all"
            );
            // One with a version in it fits no link that stays.
            let name = releases.keys().find(|name| *name != stem && !name.contains('.'));
            if let Some(name) = name.filter(|name| name.parse::<ComponentName>().is_ok()) {
                let _ = write!(message, "; call the component {name}: its file is {name}.toml");
            }
            vec![message]
        }
        Merged::Linked(component) => {
            if releases.keys().any(|name| Merged::fits(component, stem, name)) {
                return Vec::new();
            }
            let names = releases.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
            vec![format!(
                "its extension-release is for {names}, so it cannot be merged as {stem}.raw, or under a name that this begins with"
            )]
        }
    }
}

/// What no node takes of an extension-release.
fn judge_release(stem: &str, kind: Kind, name: &str, release: &ExtensionRelease) -> Vec<String> {
    let mut problems = Vec::new();
    let level = kind.level_key();
    match release.get("ID") {
        None | Some("") => problems.push(format!("extension-release.{name} has no ID=")),
        Some("_any") => {}
        Some(id) if release.get(level).is_none() && release.get("VERSION_ID").is_none() => {
            problems.push(format!(
                "extension-release.{name} has ID={id}, but neither {level}= nor VERSION_ID="
            ));
        }
        Some(_) => {}
    }
    if let Some(arch) = release.get("ARCHITECTURE").filter(|arch| *arch != "_any") {
        match arch.parse::<Arch>() {
            Err(error) => problems.push(format!(
                "extension-release.{name}: {}",
                error.to_string().replace("\nhint: ", "; ")
            )),
            // Only a name that ends like ours says what it is for.
            Ok(_) if !Arch::ALL.iter().any(|known| stem.ends_with(&format!("-{known}"))) => {}
            Ok(arch) if !stem.ends_with(&format!("-{arch}")) => problems.push(format!(
                "extension-release.{name} says ARCHITECTURE={arch}, but the file's name says otherwise"
            )),
            Ok(_) => {}
        }
    }
    problems
}

/// What should not be where it is.
fn judge_entry(kind: Kind, entry: &Listed) -> Vec<Finding> {
    let mut findings = Vec::new();
    let path = entry.path.as_str();
    let mut find = |lint, message| findings.push(Finding::of_file(lint, path, message));
    match path.split('/').next() {
        Some(top) if kind.tops().contains(&top) => {}
        _ if path.contains('/') => {}
        _ => {
            let tops = kind.tops().join("/ and ");
            find(Lint::Outside, format!("is outside {tops}/ and would not be seen"));
        }
    }
    if path == "usr/lib/os-release" {
        let tool = tool_for(kind);
        find(Lint::OsRelease, format!("is for an operating system, so {tool} refuses the image"));
    }
    if matches!(entry.kind, 'c' | 'b' | 'p' | 's') {
        find(Lint::SpecialFile, "is a device, a pipe or a socket".to_owned());
    }
    let is_merged = path.split('/').next().is_some_and(|top| kind.tops().contains(&top));
    // In these, other units have what they want.
    let gathers = [".wants", ".requires", ".upholds"].iter().any(|end| path.ends_with(end))
        && path.strip_prefix(kind.units()).is_some_and(|rest| rest.starts_with('/'));
    if is_merged && entry.kind != 'd' && (gathers || FOLDERS.contains(&path)) {
        let message = "is no folder: merged, it would hide that of the host and all that is in it";
        find(Lint::HidesFolder, message.to_owned());
    }
    findings
}

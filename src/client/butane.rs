//! Butane: the same as Ignition, as people write it.
//!
//! Owns the YAML. Every list item is a text of its own, so that [`super::base`] can put them into a file
//! that somebody else wrote.

use std::fmt::{self, Write as _};
use std::str::FromStr;

use super::inert::yaml;
use super::machine::{Contents, File, Link, Machine, Unit};
use super::{Offer, Stem, ignition};
use crate::name::Arch;

/// Whose Butane it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Variant {
    /// Flatcar Container Linux
    #[default]
    Flatcar,
    /// Fedora's system for containers
    Fcos,
}

impl Variant {
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Flatcar => "flatcar",
            Self::Fcos => "fcos",
        }
    }

    /// The version of its specification.
    #[must_use]
    pub fn version(self) -> &'static str {
        match self {
            Self::Flatcar => "1.0.0",
            Self::Fcos => "1.6.0",
        }
    }
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Variant {
    type Err = String;
    fn from_str(name: &str) -> Result<Self, String> {
        [Self::Flatcar, Self::Fcos]
            .into_iter()
            .find(|variant| variant.name() == name)
            .ok_or_else(|| "there are flatcar and fcos".to_owned())
    }
}

/// A line about a node that begins with a component's newest image.
#[must_use]
pub fn title(offer: &Offer<'_>, arch: Arch, stem: Option<&Stem>) -> String {
    let name = &offer.component.name;
    let version = offer.newest(arch, stem).map(|image| format!(" {}", image.shown));
    format!("{name}{} for {arch}: {}", version.unwrap_or_default(), offer.description())
}

/// The name of a file for nodes of an architecture, without its ending: the component's alone for the
/// first one.
#[must_use]
pub fn stem(component: &str, arch: Arch, arches: &[Arch]) -> String {
    if arches.first() == Some(&arch) { component.to_owned() } else { format!("{component}-{arch}") }
}

/// The whole file; `title` is a line for people, harmless already.
#[must_use]
pub fn render(machine: &Machine, variant: Variant, title: &str) -> String {
    let mut out = format!(
        "# {title}\nvariant: {}\nversion: {}\nstorage:\n  files:\n",
        variant.name(),
        variant.version()
    );
    let mut put = |items: &mut dyn Iterator<Item = Vec<String>>, before: &str| {
        out.push_str(before);
        for line in items.flatten() {
            let _ = writeln!(out, "{}", indented(&line, 4));
        }
    };
    put(&mut machine.files.iter().map(file), "");
    put(&mut machine.links.iter().map(link), "  links:\n");
    put(&mut machine.units.iter().map(unit), "systemd:\n  units:\n");
    out
}

/// A line that far in; an empty one stays empty.
#[must_use]
pub fn indented(line: &str, by: usize) -> String {
    if line.is_empty() { String::new() } else { format!("{}{line}", " ".repeat(by)) }
}

/// A file as an item of `storage.files`, line by line.
#[must_use]
pub fn file(file: &File) -> Vec<String> {
    let mut lines = vec![
        format!("- path: {}", yaml(&file.path)),
        "  mode: 0644".to_owned(),
        "  contents:".to_owned(),
    ];
    match &file.contents {
        Contents::Remote { url, sha256 } => lines.extend([
            format!("    source: {}", yaml(url)),
            "    verification:".to_owned(),
            format!("      hash: sha256-{sha256}"),
        ]),
        Contents::Text(text) => {
            lines.push("    inline: |".to_owned());
            lines.extend(block(text, 6));
        }
        Contents::Bytes(bytes) => {
            lines.push(format!("    source: {}", yaml(&ignition::data(bytes))));
        }
    }
    lines
}

/// A link as an item of `storage.links`.
#[must_use]
pub fn link(link: &Link) -> Vec<String> {
    vec![
        format!("- path: {}", yaml(&link.path)),
        format!("  target: {}", yaml(&link.target)),
        "  hard: false".to_owned(),
    ]
}

/// A unit as an item of `systemd.units`.
#[must_use]
pub fn unit(unit: &Unit) -> Vec<String> {
    let mut lines = vec![format!("- name: {}", yaml(&unit.name))];
    if unit.enabled {
        lines.push("  enabled: true".to_owned());
    }
    if let Some(contents) = &unit.contents {
        lines.push("  contents: |".to_owned());
        lines.extend(block(contents, 4));
    }
    if !unit.dropins.is_empty() {
        lines.push("  dropins:".to_owned());
        let items = unit.dropins.iter().flat_map(dropin);
        lines.extend(items.map(|line| indented(&line, 4)));
    }
    lines
}

/// A drop-in as an item of a unit's `dropins`.
#[must_use]
pub fn dropin((name, contents): &(String, String)) -> Vec<String> {
    let mut lines = vec![format!("- name: {}", yaml(name)), "  contents: |".to_owned()];
    lines.extend(block(contents, 4));
    lines
}

/// A text that ends with a newline as the lines of a literal block.
fn block(text: &str, by: usize) -> impl Iterator<Item = String> {
    text.lines().map(move |line| indented(line, by))
}

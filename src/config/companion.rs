//! `[[companion]]`: what another project releases, and goes into the same image.
//!
//! Owns how a companion is written, and which of its versions may go with which of the component's.
//! Knows nothing of how it is asked or chosen.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use super::asset_name::AssetName;
use super::component::{AssetAt, AssetRule, Component};
use super::requirement::Requirement;
use super::source::SourceRule;
use super::versions::{Named, Versions};
use crate::name::{Arch, ComponentName};
use crate::template::Template;
use crate::version::numbered;

/// A companion, read and checked.
#[derive(Debug, Clone)]
pub struct Companion {
    /// What it follows and wants, as if it were a component by itself; it has no image.
    pub follows: Box<Component>,
    /// Which of its versions go with which of the component's.
    pub matches: Matches,
    /// Whether a newer one of it makes a revision of a version that is published.
    pub follow: bool,
}

impl Companion {
    /// What it is called in templates.
    #[must_use]
    pub fn name(&self) -> &str {
        self.follows.name.as_str()
    }

    /// What its upstream calls an architecture: as the component's does, unless it says otherwise.
    #[must_use]
    pub fn arch<'a>(&'a self, arch: Arch, component: &'a str) -> &'a str {
        self.follows.arch.get(&arch).map_or(component, String::as_str)
    }
}

/// `[[companion]]`, all of them.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(try_from = "Vec<RawCompanion>")]
#[schemars(into = "Vec<RawCompanion>")]
pub(super) struct Companions(Vec<RawCompanion>);

impl TryFrom<Vec<RawCompanion>> for Companions {
    type Error = String;
    fn try_from(all: Vec<RawCompanion>) -> Result<Self, String> {
        let mut seen = BTreeSet::new();
        match all.iter().find(|companion| !seen.insert(&companion.name.0)) {
            Some(RawCompanion { name: CompanionName(name), .. }) => {
                Err(format!("two companions are called `{name}`"))
            }
            None => Ok(Self(all)),
        }
    }
}

impl Companions {
    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What they follow.
    pub(super) fn sources(&mut self) -> impl Iterator<Item = &mut SourceRule> {
        self.0.iter_mut().map(|companion| &mut companion.source)
    }

    /// The companions of a component.
    pub(super) fn of(self, component: &Component) -> Result<Vec<Companion>, String> {
        let companion = |raw: RawCompanion| {
            let RawCompanion { name, source, versions, arch, matches, follow } = raw;
            let versions = versions.into();
            if matches!(source, SourceRule::Repository(_)) {
                return Err("[companion.source.repository]: what goes into an image is not published as somebody else has it\nhint: follow where it is released".to_owned());
            }
            Versions::check(&versions)
                .map_err(|problem| problem.replace("[versions]", "[companion.versions]"))?;
            let follows = Component {
                name: name.0,
                source,
                versions,
                arch,
                assets: Vec::new(),
                build: None,
                overlay: None,
                ..component.clone()
            };
            Ok(Companion { follows: Box::new(follows), matches, follow })
        };
        self.0.into_iter().map(companion).collect()
    }
}

/// `[[companion]]`: what another project releases, and goes into the same image.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[schemars(rename = "Companion")]
struct RawCompanion {
    /// What it is called in `{NAME.version}`, `{NAME.tag}` and `{NAME.arch}`.
    name: CompanionName,
    /// What it follows.
    source: SourceRule,
    /// Which of its releases may be chosen.
    #[serde(default)]
    versions: Choice,
    /// What its upstream calls each architecture, if not what the component's calls it.
    #[serde(default)]
    arch: BTreeMap<Arch, String>,
    /// The component's versions, and what the companion's must be beside them.
    #[serde(default, rename = "match")]
    matches: Matches,
    /// Whether a newer release of it makes a revision of what is published.
    #[serde(default)]
    follow: bool,
}

/// The name before the dot of `{NAME.version}`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(into = "String", extend("pattern" = "^[A-Za-z0-9][A-Za-z0-9_-]*$", "examples" = ["cni"]))]
struct CompanionName(ComponentName);

impl TryFrom<String> for CompanionName {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let name: ComponentName =
            text.parse().map_err(|error: crate::name::NameError| error.to_string())?;
        if Template::parse(&format!("{{{name}}}")).is_ok() {
            return Err(format!(
                "`{name}` is what {{{name}}} of the component itself is called\nhint: call it by its project's name"
            ));
        }
        if name.as_str().chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_')) {
            Ok(Self(name))
        } else {
            Err(format!(
                "`{name}` could not stand before the dot of {{{name}.version}}\nhint: letters, digits, `-` and `_`"
            ))
        }
    }
}

/// `[companion.versions]`: one version is chosen, so nothing says how many are held.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
#[schemars(rename = "CompanionVersions")]
struct Choice {
    /// What a tag looks like; left out, a version with or without a `v` before it.
    tag: Option<Template>,
    /// What the version must be.
    require: Option<Requirement>,
    /// If there are some, only what one of them names.
    include: Vec<Named>,
    /// What is never chosen.
    exclude: Vec<Named>,
    /// The only version that may be chosen.
    pin: Option<String>,
    /// Whether pre-releases may be chosen too.
    prerelease: bool,
    /// How old a release must be.
    #[serde(deserialize_with = "some_duration")]
    #[schemars(with = "Option<super::quantity::Time>", extend("examples" = ["2d"]))]
    min_age: Option<Duration>,
}

fn some_duration<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
    super::quantity::duration(from).map(Some)
}

impl From<Choice> for Versions {
    fn from(choice: Choice) -> Self {
        let Choice { tag, require, include, exclude, pin, prerelease, min_age } = choice;
        Self { tag, require, include, exclude, pin, prerelease, min_age, ..Self::default() }
    }
}

/// `[companion.match]`: which of the component's versions ask what of the companion's. All lines
/// whose left side holds are asked.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(try_from = "BTreeMap<String, String>")]
#[schemars(into = "BTreeMap<String, String>")]
pub struct Matches(Vec<(Left, String)>);

#[derive(Debug, Clone)]
enum Left {
    /// `*`
    Any,
    /// `1.31`: all that begin with these numbers.
    Branch(Vec<u64>),
    /// `>=1.31`
    Required(Requirement),
}

impl Left {
    fn read(text: &str) -> Result<Self, String> {
        if text == "*" {
            return Ok(Self::Any);
        }
        let numbers: Result<Vec<u64>, _> = text.split('.').map(str::parse).collect();
        match numbers {
            Ok(numbers) if numbers.len() <= 3 => Ok(Self::Branch(numbers)),
            _ => text.parse().map(Self::Required),
        }
    }

    fn holds(&self, version: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Branch(numbers) => numbered(version).is_some_and(|version| {
                [version.major, version.minor, version.patch].starts_with(numbers)
            }),
            Self::Required(requirement) => requirement.holds(version) == Some(true),
        }
    }
}

/// The requirement on the companion, for a version of the component.
fn right(text: &str, version: &str) -> Option<Requirement> {
    if !text.contains('{') {
        return text.parse().ok();
    }
    let semver::Version { major, minor, patch, .. } = numbered(version)?;
    let filled = text
        .replace("{major}", &major.to_string())
        .replace("{minor}", &format!("{major}.{minor}"))
        .replace("{version}", &format!("{major}.{minor}.{patch}"));
    filled.parse().ok()
}

impl Matches {
    /// Whether a version of the companion may go with one of the component.
    #[must_use]
    pub fn allows(&self, component: &str, companion: &str) -> bool {
        self.asked(component).all(|text| {
            right(text, component).is_some_and(|right| right.holds(companion) == Some(true))
        })
    }

    /// What is asked of the companion for a version of the component, as it was written.
    pub fn asked<'m>(&'m self, component: &'m str) -> impl Iterator<Item = &'m str> {
        let lines = self.0.iter().filter(move |(left, _)| left.holds(component));
        lines.map(|(_, right)| right.as_str())
    }
}

impl TryFrom<BTreeMap<String, String>> for Matches {
    type Error = String;
    fn try_from(lines: BTreeMap<String, String>) -> Result<Self, String> {
        let line = |(left, text): (String, String)| {
            if right(&text, "1.2.3").is_none() {
                return Err(format!(
                    "`{}` is no requirement on the companion\nhint: such as \">=1.4, <1.5\", or \"~{{minor}}\" for the component's own 1.31; there are {{version}}, {{minor}} and {{major}}",
                    text.escape_debug()
                ));
            }
            let left = Left::read(&left).map_err(|_| {
                format!(
                    "`{}` names no versions of the component\nhint: such as \"1.31\" for all 1.31.x, \">=1.30\", or \"*\"",
                    left.escape_debug()
                )
            })?;
            Ok((left, text))
        };
        lines.into_iter().map(line).collect::<Result<_, _>>().map(Self)
    }
}

/// Whatever is said of a companion, there must be one of that name; and what tells versions apart says
/// nothing of companions.
pub(super) fn check_companions(component: &Component) -> Result<(), String> {
    let known: Vec<&str> = component.companions.iter().map(Companion::name).collect();
    let none_of_them = |problem: String| {
        let hint = if known.is_empty() {
            "there is no [[companion]]".to_owned()
        } else {
            format!("there are: {}", known.join(", "))
        };
        Err(format!("{problem}\nhint: {hint}"))
    };
    let unknown = |text: &str, name: &str| {
        let text = text.escape_debug();
        none_of_them(format!(
            "`{text}` says something of `{name}`, but no companion is called that"
        ))
    };
    let mut templates: Vec<&Template> = Vec::new();
    for AssetRule { at, trust, .. } in &component.assets {
        match at {
            AssetAt::Url(at) | AssetAt::Oci(at) => templates.push(at),
            AssetAt::Name(AssetName { of, names }) => {
                templates.extend(names);
                if let Some(of) = of.as_ref().filter(|of| !known.contains(&of.as_str())) {
                    let of = of.escape_debug();
                    return none_of_them(format!("[[asset]] of: no companion is called `{of}`"));
                }
            }
        }
        templates.extend(trust.templates());
    }
    for template in templates {
        if let Some(name) = template.beside().find(|name| !known.contains(name)) {
            return unknown(template.as_str(), name);
        }
    }
    // Where there is no companion at all, braces in a text are its own.
    let files = component.assets.iter().flat_map(|asset| &asset.files).chain(&component.files);
    for text in files.filter(|_| !known.is_empty()).flat_map(|(_, rule)| rule.texts()) {
        if let Some(name) = text.beside().iter().find(|name| !known.contains(&name.as_str())) {
            return unknown(text.as_str(), name);
        }
    }
    let of_companions = component.companions.iter().map(|companion| &companion.follows);
    let all = || std::iter::once(component).chain(of_companions.clone().map(Box::as_ref));
    let mut apart: Vec<&Template> = all().filter_map(|all| all.versions.tag.as_ref()).collect();
    apart.push(&component.image.name);
    apart.extend(all().filter_map(|all| match &all.source {
        SourceRule::Directory(rule) => Some(&rule.pattern),
        _ => None,
    }));
    match apart.into_iter().find(|template| template.beside().next().is_some()) {
        Some(template) => Err(format!(
            "`{template}` tells the component's versions apart, and cannot say anything of a companion"
        )),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(lines: &[(&str, &str)]) -> Result<Matches, String> {
        let lines = lines.iter().map(|(l, r)| ((*l).to_owned(), (*r).to_owned()));
        Matches::try_from(lines.collect::<BTreeMap<_, _>>())
    }

    #[test]
    fn every_line_that_holds_is_asked() {
        let rules =
            matches(&[("*", ">=1.3"), ("1.31", "<1.5"), (">=1.32, <2", "<1.6"), ("2", "~{minor}")]);
        let rules = rules.unwrap();
        for (component, companion, allowed) in [
            ("1.30.1", "1.9.0", true),
            ("1.30.1", "1.2.0", false),
            ("1.31.9", "1.4.2", true),
            ("1.31.9", "1.5.0", false),
            ("1.310.0", "1.9.0", false),
            ("1.32.0+k3s1", "1.5.0", true),
            ("2.7.1", "2.7.0", true),
            ("2.7.1", "2.8.0", false),
            ("nightly", "1.9.0", true),
            ("1.30.1", "nightly", false),
        ] {
            assert_eq!(rules.allows(component, companion), allowed, "{component} {companion}");
        }
        assert!(matches(&[("soon", ">=1")]).is_err() && matches(&[("*", "~{patch}")]).is_err());
    }
}

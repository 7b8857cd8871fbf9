//! What a node needs to follow a component: texts for systemd-sysupdate, for Ignition and for a shell.
//!
//! Pure: values in, text out. Every text of a user or an upstream goes through [`inert`]. What is emitted
//! is read again by [`emulate`], as clients read it, before anyone sees it. Knows nothing of stores, of
//! upstreams or of the command line.
//!
//! | room | owns |
//! |---|---|
//! | [`transfer`] | `sysupdate.d` files: of the component, and of each of its branches |
//! | [`definition`] | `.component` and `.feature` files of systemd 262 |
//! | [`machine`] | all that is on a node: files, links, units |
//! | [`butane`], [`ignition`], [`script`] | the same as three texts |
//! | [`base`], [`yaml`] | putting it into a Butane file that somebody wrote |
//! | [`pattern`], [`emulate`] | what clients make of a transfer and a manifest |
//! | [`inert`] | texts made harmless |

use std::collections::BTreeMap;
use std::sync::LazyLock;

use thiserror::Error;
use url::Url;

use crate::config::Component;
use crate::config::extension::Kind;
use crate::config::image::Format as ImageFormat;
use crate::config::source::SourceRule;
use crate::name::{Arch, FileName, Sha256};
use crate::repository::retention::Branch;
use crate::template::Vars;
use crate::version::Version;

pub mod base;
pub mod butane;
pub mod definition;
pub mod emulate;
pub mod ignition;
pub mod inert;
pub mod machine;
pub mod pattern;
pub mod script;
pub mod transfer;
pub mod yaml;

/// A component as a node is told of it.
#[derive(Debug, Clone)]
pub struct Offer<'a> {
    /// The component.
    pub component: &'a Component,
    /// The beginning of every URL.
    pub url: &'a Url,
    /// Who vouches for it.
    pub trust: &'a Trust,
    /// What is published of it.
    pub images: &'a [Offered],
    /// Whether the node shall merge no image, of anybody, that is not signed.
    pub strict: bool,
}

/// Who vouches for a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trust {
    /// Nobody.
    Unsigned,
    /// Keys; their keyring in binary form, where it is at hand.
    Signed(Option<Vec<u8>>),
}

/// A published image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offered {
    /// Its version as it stands in its name.
    pub shown: Version,
    /// Its architecture.
    pub arch: Arch,
    /// Its name.
    pub name: FileName,
    /// Its digest.
    pub sha256: Sha256,
}

/// A text that cannot be made.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ClientError {
    /// The component's images have a name that no pattern of a client fits.
    #[error("no client's pattern fits the name `{0}`")]
    Pattern(String),
    /// A node is told the first image by its digest.
    #[error("nothing is published of {component} for {arch}")]
    NoImage {
        /// The component.
        component: String,
        /// The architecture.
        arch: Arch,
    },
    /// The repository is signed, but by whom is not known here.
    #[error("{0} is signed, but its keyring is not here")]
    NoKeyring(String),
    /// See [`is_told`].
    #[error(
        "nothing is written for nodes that follow {0}: it is a mirror as others sign it, or its files are for no one architecture"
    )]
    Theirs(String),
    /// There is no such branch.
    #[error("{component} has no branch `{branch}`")]
    NoBranch {
        /// The component.
        component: String,
        /// What was asked for.
        branch: String,
        /// Those there are.
        known: Vec<String>,
    },
    /// A node that merges nothing but signed images would not merge these.
    #[error("images of {0} are not signed, and a node that asks for it would not merge them")]
    NotSealed(String),
    /// Two of them want something else of one thing.
    #[error("{what} would be two things at once")]
    Clash {
        /// A path or a unit.
        what: String,
    },
}

impl ClientError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::Pattern(_) => {
                "in [image] name, `{version}` stands once, and all other characters are A-Z a-z 0-9 . , _ + -".to_owned()
            }
            Self::NoImage { .. } => {
                "`publish sync` first; --format transfer and --format script need no image".to_owned()
            }
            Self::NoKeyring(_) => {
                "`publish sync` puts it into the repository's root; or run this where the signing key is".to_owned()
            }
            Self::Theirs(_) => {
                "write the transfer by hand, with the keyring of whoever signs it".to_owned()
            }
            Self::NoBranch { known, .. } if known.is_empty() => {
                "branches come from `per` in [versions], and from what is published".to_owned()
            }
            Self::NoBranch { known, .. } => format!("there are: {}", known.join(", ")),
            Self::NotSealed(_) => {
                "[image] verity = { key = …, certificate = … } signs them; or leave --image-policy out".to_owned()
            }
            Self::Clash { .. } => "make one file for each component, without --all".to_owned(),
        }
    }
}

/// Where a component's images lie on a node, and what makes them seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// The folder of the images.
    pub folder: String,
    /// The link to the one that counts.
    pub link: String,
    /// The unit that merges images, where they are extensions.
    pub merges: Option<&'static str>,
}

impl Layout {
    /// The safe one: the link alone lies where extensions are looked for, under the name they are merged
    /// as, because a file there that is named otherwise stops the merge of all.
    #[must_use]
    pub fn of(component: &Component) -> Self {
        let name = component.name.as_str();
        let image = component.image.name.as_str();
        match (component.image.format, component.extension.kind) {
            (ImageFormat::Squashfs { .. } | ImageFormat::Erofs { .. }, Kind::Sysext) => Self {
                folder: format!("/opt/extensions/{name}"),
                link: format!("/etc/extensions/{name}.raw"),
                merges: Some("systemd-sysext.service"),
            },
            (ImageFormat::Squashfs { .. } | ImageFormat::Erofs { .. }, Kind::Confext) => Self {
                folder: format!("/opt/extensions/{name}"),
                link: format!("/var/lib/confexts/{name}.raw"),
                merges: Some("systemd-confext.service"),
            },
            // A mirrored extension that was looked into is one.
            (ImageFormat::Mirrored, _) if component.is_looked_into(image) => Self {
                folder: format!("/opt/extensions/{name}"),
                link: format!("/etc/extensions/{name}.raw"),
                merges: Some("systemd-sysext.service"),
            },
            // What it is for is the node's business; no extension, as far as we know.
            (ImageFormat::None | ImageFormat::Mirrored, _) => Self {
                folder: format!("/opt/images/{name}"),
                link: match image.rsplit_once('.').filter(|(_, ending)| ending.len() <= 8) {
                    Some((_, ending)) => format!("/opt/images/{name}.{ending}"),
                    None => format!("/opt/images/{name}.image"),
                },
                merges: None,
            },
        }
    }

    /// The folder that the link lies in; systemd 257 does not make it.
    #[must_use]
    pub fn link_folder(&self) -> &str {
        self.link.rsplit_once('/').map_or("/", |(folder, _)| folder)
    }
}

/// A branch of versions that a node can follow alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stem {
    /// Its number: `1.31`.
    pub name: String,
    /// How its versions begin: `1.31.`, or `v1.31.` where that is how they are written.
    pub text: String,
}

/// Whether nodes can be told how to follow a component here. Not where others sign, whose keyring is
/// theirs to give; nor where files are for no one architecture.
#[must_use]
pub fn is_told(component: &Component) -> bool {
    !component.is_verbatim() && component.image.name.uses("arch")
}

impl<'a> Offer<'a> {
    /// An offer to be tried on a manifest: where it is and who vouches for it is nothing that a pattern has
    /// in it.
    #[must_use]
    pub fn to_try(component: &'a Component, images: &'a [Offered]) -> Self {
        static NOWHERE: LazyLock<Url> =
            LazyLock::new(|| Url::parse("https://localhost/").expect("a literal URL"));
        Self { component, url: &NOWHERE, trust: &Trust::Unsigned, images, strict: false }
    }

    /// The address of the component's folder.
    #[must_use]
    pub fn folder(&self) -> Url {
        let mut url = self.url.clone();
        let slash = if url.path().ends_with('/') { "" } else { "/" };
        url.set_path(&format!("{}{slash}{}/", self.url.path(), self.component.folder));
        url
    }

    /// The newest image for an architecture, as clients order them: of all, or of one branch.
    #[must_use]
    pub fn newest(&self, arch: Arch, stem: Option<&Stem>) -> Option<&'a Offered> {
        self.images
            .iter()
            .filter(|image| image.arch == arch)
            .filter(|image| stem.is_none_or(|stem| image.shown.as_str().starts_with(&stem.text)))
            .max_by(|a, b| a.shown.cmp(&b.shown))
    }

    /// The architectures that something is published for.
    #[must_use]
    pub fn arches(&self) -> Vec<Arch> {
        let mut arches: Vec<Arch> = self.images.iter().map(|image| image.arch).collect();
        arches.sort_unstable();
        arches.dedup();
        arches
    }

    /// The branches that can be told from the beginning of a version, the oldest first. Of one whose newest
    /// version ends where a patch level would be, such as `1.31`, only what comes after that is seen: no
    /// pattern sees `1.31` and `1.31.1`, but not `1.310`.
    #[must_use]
    pub fn stems(&self) -> Vec<Stem> {
        let Some(per) = self.component.versions.per else { return Vec::new() };
        let mut newest: BTreeMap<(u64, Option<u64>), &Version> = BTreeMap::new();
        for Offered { shown, .. } in self.images {
            if let Branch::Number(major, minor) = Branch::of(Some(per), shown) {
                let newest = newest.entry((major, minor)).or_insert(shown);
                *newest = (*newest).max(shown);
            }
        }
        newest.values().filter_map(|version| stem(version, per)).collect()
    }

    /// The stem of a branch by its number, with or without a `v` before it.
    ///
    /// # Errors
    /// There is none.
    pub fn stem(&self, branch: &str) -> Result<Stem, ClientError> {
        let stems = self.stems();
        let number = branch.strip_prefix('v').unwrap_or(branch);
        stems.iter().find(|stem| stem.name == number).cloned().ok_or_else(|| {
            ClientError::NoBranch {
                component: self.component.name.to_string(),
                branch: inert::line(branch),
                known: stems.into_iter().map(|stem| stem.name).collect(),
            }
        })
    }

    /// The pattern of the component's images, for those of one branch or for all.
    ///
    /// # Errors
    /// The client reads `@v` once at most, and nothing but plain characters.
    pub fn pattern(&self, stem: Option<&Stem>) -> Result<String, ClientError> {
        let version = format!("{}@v", stem.map_or("", |stem| &stem.text));
        let name = self.component.name.as_str();
        let vars = Vars { name, version: &version, arch: "%a", tag: &version, ..Vars::default() };
        let pattern = self.component.image.name.expand(&vars);
        match pattern::Pattern::parse(&pattern, Arch::X86_64) {
            Some(_) => Ok(pattern),
            None => Err(ClientError::Pattern(inert::line(self.component.image.name.as_str()))),
        }
    }

    /// The certificate that its images are signed for, as a file of a node.
    #[must_use]
    pub fn certificate(&self) -> Option<(String, String)> {
        let certificate = self.component.image.verity.as_ref()?.certificate()?;
        // systemd looks at files with this ending alone.
        let path = format!("/etc/verity.d/{}.crt", self.component.name);
        Some((path, certificate.pem()))
    }

    /// Whether a node that merges nothing but signed images is one that can follow it.
    ///
    /// # Errors
    /// It is asked for, and they are not signed.
    pub fn check_strict(&self) -> Result<(), ClientError> {
        if self.strict && self.certificate().is_none() {
            return Err(ClientError::NotSealed(self.component.name.to_string()));
        }
        Ok(())
    }

    /// What the component is, in one line.
    #[must_use]
    pub fn description(&self) -> String {
        let name = self.component.name.as_str();
        match self.component.description.as_deref().map(inert::line) {
            Some(text) if !text.is_empty() => text,
            _ => name.to_owned(),
        }
    }

    /// Where people read what changed.
    #[must_use]
    pub fn changelog(&self) -> Option<Url> {
        let page = |site: Option<&Url>, project: String, page: &str| {
            let github = || Url::parse("https://github.com/").ok();
            let mut url = site.cloned().or_else(github)?;
            let path = url.path().trim_end_matches('/').to_owned();
            url.set_path(&format!("{path}/{project}{page}"));
            Some(url)
        };
        match &self.component.source {
            SourceRule::Github(rule) => {
                let site = rule.url.as_ref().map(|url| &url.0);
                page(site, rule.repo.to_string(), "/releases")
            }
            SourceRule::Gitea(rule) => page(Some(&rule.url.0), rule.repo.to_string(), "/releases"),
            SourceRule::Gitlab(rule) => {
                page(Some(&rule.url.0), rule.project.as_str().to_owned(), "/-/releases")
            }
            SourceRule::Git(_)
            | SourceRule::Http(_)
            | SourceRule::Command(_)
            | SourceRule::Directory(_)
            | SourceRule::Repository(_) => self.component.homepage.clone(),
        }
        .filter(|url| matches!(url.scheme(), "http" | "https"))
    }
}

/// How the versions of a version's branch begin.
fn stem(shown: &Version, per: crate::config::versions::Per) -> Option<Stem> {
    use crate::config::versions::Per;
    let version = shown.as_str();
    let prefix = crate::version::prefix_of(version);
    let numbers = match per {
        Per::Major => 1,
        Per::Minor => 2,
    };
    let mut end = prefix.len();
    for number in 0..numbers {
        if number > 0 {
            end += usize::from(version[end..].starts_with('.'));
        }
        let digits = version[end..].bytes().take_while(u8::is_ascii_digit).count();
        if digits == 0 {
            return None;
        }
        end += digits;
    }
    // `1.31` itself, and revisions of it, are seen by no pattern of the branch; what comes after it is.
    let unrevised = shown.unrevised().map(|(base, _)| base);
    let is_first = unrevised.as_ref().unwrap_or(shown).as_str().len() == end;
    let has_patch = version[end..].strip_prefix('.').is_some_and(|rest| !rest.is_empty());
    (is_first || has_patch).then(|| Stem {
        name: version[prefix.len()..end].to_owned(),
        text: format!("{}.", &version[..end]),
    })
}

#[cfg(test)]
pub(crate) mod tests;

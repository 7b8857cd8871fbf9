//! What a plan is made of: images to build, lines and files that go, and why.
//!
//! Owns the words. Decides nothing.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;

use super::{Awaited, Company};
use crate::config::Component;
use crate::name::{Arch, FileName, Sha256};
use crate::repository::commit::{InputRecord, Removal};
use crate::source::Release;
use crate::template::{Beside, Vars};
use crate::version::Version;

/// One thing to do.
#[derive(Debug, Clone)]
pub enum Action {
    /// Build an image and publish it.
    Build(Build),
    /// Sign the manifest, whose lines stay as they are.
    Sign {
        /// The reason.
        why: Why,
    },
    /// Take a version out, because its upstream did.
    Yank(Version),
    /// Take a line out of the manifest; its file stays for the grace.
    Remove(Removal),
    /// Delete a file whose grace is over.
    Delete(FileName),
    /// Remember since when a version is waited for, that tells no date itself.
    Await(Awaited),
}

/// An image to build.
#[derive(Debug, Clone)]
pub struct Build {
    /// The release it is made from.
    pub release: Arc<Release>,
    /// Its version, without a revision.
    pub version: Version,
    /// The same as upstream writes it: what templates and texts in the image say.
    pub upstream: String,
    /// Which revision of that it is; 0 is the first.
    pub revision: u32,
    /// The version that clients see: with the revision.
    pub shown: Version,
    /// Its architecture.
    pub arch: Arch,
    /// What upstream calls the architecture.
    pub upstream_arch: String,
    /// What goes in from its companions.
    pub company: Company,
    /// What templates say of these.
    pub beside: Vec<Beside>,
    /// What the image is called.
    pub image: FileName,
    /// The reason.
    pub why: Why,
    /// What decides its bytes, but for what upstream gives.
    pub recipe: Sha256,
    /// What was fetched for the published image of this version: the same again, or it is an alarm.
    pub expects: Vec<InputRecord>,
    /// What the published image is dated, if this is to be the same one again.
    pub time: Option<u64>,
}

impl Build {
    /// What the component's templates stand for in this build.
    #[must_use]
    pub fn vars<'a>(&'a self, component: &'a Component) -> Vars<'a> {
        vars(component, &self.upstream, &self.release, &self.upstream_arch, &self.beside)
    }
}

/// What templates stand for in a build of this release.
pub(super) fn vars<'a>(
    component: &'a Component,
    version: &'a str,
    release: &'a Release,
    arch: &'a str,
    beside: &'a [Beside],
) -> Vars<'a> {
    Vars { name: component.name.as_str(), version, arch, tag: &release.tag, url: "", beside }
}

/// Why an image is built, or a manifest signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Why {
    /// The repository has no image of this version.
    NewVersion,
    /// The repository that is published as it is has a file that is not here.
    NewFile,
    /// It has this version, but not for this architecture.
    NewArchitecture,
    /// It has this version, but made by another recipe: this is a revision of it.
    RecipeChanged,
    /// It has this version, but a companion that is followed has a newer one.
    CompanionChanged,
    /// It has this version, but upstream replaced a file, and somebody accepted that.
    InputsChanged,
    /// The manifest lists the image, but the file is gone.
    FileGone,
    /// The manifest lists the image, but the file has not the length it was published with.
    FileDamaged,
    /// Somebody asked for just this image.
    Asked,
    /// Nobody has signed the manifest yet.
    NotSigned,
    /// The signature is not the configured key's, or not over this manifest.
    StaleSignature,
    /// Less than half is left of the time that clients may believe the manifest.
    Renew,
    /// A mirror that is published as it is has another manifest or signature by now.
    UpstreamSigned,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::NewVersion => "new version",
            Self::NewFile => "new file",
            Self::NewArchitecture => "new architecture",
            Self::RecipeChanged => "the recipe changed",
            Self::CompanionChanged => "a companion has a newer release",
            Self::InputsChanged => "upstream replaced a file, and that was accepted",
            Self::FileGone => "listed, but the file is gone",
            Self::FileDamaged => "listed, but the file is damaged",
            Self::Asked => "asked for",
            Self::NotSigned => "not signed yet",
            Self::StaleSignature => "the signature is not this key's, or not of this manifest",
            Self::Renew => "in time before it expires",
            Self::UpstreamSigned => "as upstream signed it",
        })
    }
}

//! What became of a component, for people and programs.

use serde::Serialize;

use super::{Survey, Unsurveyed};
use crate::config::Component;
use crate::lint::Finding;
use crate::name::{Arch, ComponentName, FileName, Folder, Sha256};
use crate::plan::{Awaited, Build, Why};
use crate::report::Told;
use crate::repository::Published;
use crate::repository::commit::Removal;
use crate::repository::shelf::Names;
use crate::version::Version;

/// What a sync did for a component.
#[derive(Debug, Serialize)]
pub struct Outcome {
    /// The component.
    pub component: ComponentName,
    /// Its folder in the repository.
    pub folder: Folder,
    /// The newest version that is published now.
    pub newest: Option<Version>,
    /// The images that were published, or would be in a dry run.
    pub published: Vec<PublishedImage>,
    /// The lines that went, or would.
    pub removed: Vec<Removal>,
    /// The files that went after their lines, or would.
    pub deleted: Vec<FileName>,
    /// Why the manifest was signed without a change, or would be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signed: Option<Why>,
    /// What is wanted, but not all there yet.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub waiting: Vec<Awaited>,
    /// What people should know of what publish keeps for itself, and of the files for nodes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// What went wrong.
    pub errors: Vec<Told>,
}

/// An image that was published, or would be.
#[derive(Debug, Clone, Serialize)]
pub struct PublishedImage {
    /// Its version.
    pub version: Version,
    /// Its architecture.
    pub arch: Arch,
    /// The file's name.
    pub image: FileName,
    /// The reason.
    pub why: Why,
    /// Length in bytes, once it is built.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Digest, once it is built.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Sha256>,
    /// What is odd about it, once it is built.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<Finding>,
}

impl PublishedImage {
    pub(super) fn planned(build: &Build) -> Self {
        Self {
            version: build.shown.clone(),
            arch: build.arch,
            image: build.image.clone(),
            why: build.why,
            size: None,
            sha256: None,
            findings: Vec::new(),
        }
    }
}

impl Outcome {
    /// Whether nothing came and nothing went.
    #[must_use]
    pub fn is_unchanged(&self) -> bool {
        self.published.is_empty()
            && self.removed.is_empty()
            && self.deleted.is_empty()
            && self.signed.is_none()
    }

    /// What people should know, besides what the survey found: what was told of an earlier try is not told
    /// again.
    pub(super) fn warn(&mut self, survey: &Survey, more: impl IntoIterator<Item = String>) {
        self.warnings.clone_from(&survey.warnings);
        self.warnings.extend(more);
    }

    /// Nothing done yet; what the survey found wrong is told.
    pub(super) fn new(survey: &Result<Survey, Unsurveyed>) -> Self {
        match survey {
            Ok(survey) => Self {
                newest: newest(&survey.component, &survey.published),
                errors: refusals(survey),
                waiting: survey.plan.waiting.clone(),
                warnings: survey.warnings.clone(),
                ..Self::nothing(&survey.component)
            },
            Err(failed) => {
                Self { errors: vec![failed.error.clone()], ..Self::nothing(&failed.component) }
            }
        }
    }

    /// Nothing done, nothing known.
    pub(super) fn nothing(component: &Component) -> Self {
        Self {
            component: component.name.clone(),
            folder: component.folder.clone(),
            newest: None,
            published: Vec::new(),
            removed: Vec::new(),
            deleted: Vec::new(),
            signed: None,
            waiting: Vec::new(),
            warnings: Vec::new(),
            errors: Vec::new(),
        }
    }
}

/// What upstream has and the component wants, but cannot be published.
#[must_use]
pub fn refusals(survey: &Survey) -> Vec<Told> {
    let told = survey.plan.refusals.iter().map(|refusal| Told {
        message: format!("{} {refusal}", survey.component.name),
        causes: Vec::new(),
        hint: Some(refusal.hint.clone()),
    });
    told.collect()
}

/// The newest version, in the clients' order, that is published.
#[must_use]
pub fn newest(component: &Component, published: &Published) -> Option<Version> {
    let names = Names::of(component);
    let versions = published.manifest.files().filter_map(|(name, _)| Some(names.read(name)?.0));
    versions.max()
}

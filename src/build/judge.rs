//! What a component has to say of a finished image.

use super::BuildError;
use crate::config::Component;
use crate::config::verity::Verity;
use crate::image::contents::Contents;
use crate::image::inspect::{self, Inspection};
use crate::image::{Image, dated};
use crate::lint::{self, Finding, Level, Lint};
use crate::stage::StagedError;

/// What is odd about an image.
///
/// # Errors
/// Nobody should have it.
pub(super) fn judge(component: &Component, image: &Image) -> Result<Vec<Finding>, BuildError> {
    let looked = match inspect::inspect_ours(&image.path, component.name.as_str()) {
        Ok(looked) => looked,
        // It is larger than what is looked into of images from anywhere.
        Err(error) => {
            tracing::warn!(image = %image.name, %error, "the image cannot be looked into");
            return Ok(Vec::new());
        }
    };
    settle(component, looked)
}

/// The same of an image that somebody else made and says to be of this date, and what is in it: one that
/// cannot be looked into is refused.
///
/// # Errors
/// Nobody should have it.
pub(super) fn judge_staged(
    component: &Component,
    image: &Image,
    time: u64,
) -> Result<(Vec<Finding>, Option<Contents>), BuildError> {
    let certificate = component.image.verity.as_ref().and_then(Verity::certificate);
    let name = component.name.as_str();
    let looked = inspect::inspect_closely(&image.path, Some(name), certificate);
    let closed = |source| {
        let image = image.name.clone();
        BuildError::Staged(StagedError::Closed { image, source: Box::new(source) })
    };
    let looked = looked.map_err(closed)?;
    if looked.time != dated(time) {
        return Err(BuildError::Staged(StagedError::Untrue {
            image: image.name.clone(),
            what: "the date",
            is: looked.time.to_string(),
            said: time.to_string(),
        }));
    }
    let contents = Contents::read(&looked.entries);
    Ok((settle(component, looked)?, contents))
}

fn settle(component: &Component, looked: Inspection) -> Result<Vec<Finding>, BuildError> {
    let absent = component.require.paths.iter().filter(|pattern| {
        let pattern = pattern.matcher();
        !looked.entries.iter().any(|entry| pattern.is_match(&entry.path))
    });
    let absent: Vec<String> = absent.map(|pattern| pattern.as_str().to_owned()).collect();
    let findings = lint::settle(looked.findings, &component.lint, &absent);
    verdict(findings)
}

/// The same of a file that is published as it is: of what is no extension, nothing is said, and how it
/// is to be merged is the node's business.
///
/// # Errors
/// Nobody should have it.
pub(super) fn judge_whole(
    component: &Component,
    image: &Image,
) -> Result<Vec<Finding>, BuildError> {
    let looked = match inspect::inspect_others(&image.path, component.name.as_str(), false) {
        Ok(Some(looked)) if !looked.releases.is_empty() => looked,
        _ => return Ok(Vec::new()),
    };
    let mut findings = lint::of_others(looked.findings);
    findings.retain(|finding| !matches!(finding.lint, Lint::ExtensionRelease | Lint::FileName));
    let findings = lint::settle(findings, &component.lint, &[]);
    verdict(findings)
}

/// The findings, if none of them is an error.
fn verdict(findings: Vec<Finding>) -> Result<Vec<Finding>, BuildError> {
    match lint::refusal(&findings) {
        Some(errors) => Err(BuildError::Lint { errors, hint: way_out(&findings) }),
        None => Ok(findings),
    }
}

/// What to do about the first error: it depends on who calls it one.
fn way_out(findings: &[Finding]) -> String {
    let lint = findings.iter().find(|finding| finding.level == Level::Error);
    match lint.map(|finding| finding.lint) {
        Some(Lint::MissingPath) => {
            "look where upstream has the file now, or take it out of [require] paths".to_owned()
        }
        Some(lint) if lint.level() == Level::Warning => {
            format!("change what is in the image, or take {lint} out of [lint] deny")
        }
        Some(lint) if lint.may_be_allowed() => {
            format!("change what is in the image; if it is meant, name {lint} in [lint] allow")
        }
        _ => "no node takes such an image: change what is in it".to_owned(),
    }
}

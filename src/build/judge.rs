//! What a component has to say of a finished image.

use super::BuildError;
use crate::config::Component;
use crate::image::{Image, inspect};
use crate::lint::{self, Finding};

/// What is odd about an image.
///
/// # Errors
/// Nobody should have it.
pub(super) fn judge(component: &Component, image: &Image) -> Result<Vec<Finding>, BuildError> {
    let looked = match inspect::inspect_closely(&image.path, Some(component.name.as_str())) {
        Ok(looked) => looked,
        // It is larger than what is looked into of images from anywhere.
        Err(error) => {
            tracing::warn!(image = %image.name, %error, "the image cannot be looked into");
            return Ok(Vec::new());
        }
    };
    let absent = component.require.paths.iter().filter(|pattern| {
        let pattern = pattern.matcher();
        !looked.entries.iter().any(|entry| pattern.is_match(&entry.path))
    });
    let absent: Vec<String> = absent.map(|pattern| pattern.as_str().to_owned()).collect();
    let findings = lint::settle(looked.findings, &component.lint, &absent);
    match lint::refusal(&findings) {
        Some(errors) => Err(BuildError::Lint(errors)),
        None => Ok(findings),
    }
}

//! Images that were built elsewhere: taken from where they were staged, in the place of a build.
//!
//! Owns what is asked of their inputs: they must be those that this build would have fetched, and what
//! is known of each beforehand must hold. What only who fetched them could see, a signature over a file
//! or a checksum beside it, is the builder's word.

use std::sync::Arc;

use super::judge::{judge_staged, judge_whole};
use super::wanted::Found;
use super::{Bench, BuildError};
use crate::config::build::Maker;
use crate::config::image::Format;
use crate::fetch::for_records;
use crate::image::Image;
use crate::name::Sha256;
use crate::plan::Build;
use crate::repository::commit::{InputRecord, Record};
use crate::stage::{Stage, StagedError};
use crate::trust::digest::Digest;
use crate::trust::vouchers::Vouchers;

/// An input that a build would fetch, and what is known of it.
struct Known {
    from: String,
    size: Option<u64>,
    vouchers: Vouchers,
}

impl Bench<'_> {
    /// Where this component's images are staged, if they are not made here. A mirror's are copied all the
    /// same: there is nothing to compute, and a digest of theirs to compare with.
    pub(super) fn staged(&self) -> Option<&Arc<Stage>> {
        match self.component.image.format {
            Format::Mirrored => None,
            Format::Squashfs { .. } | Format::None => self.shop.stage.as_ref(),
        }
    }

    /// Takes a staged image, which lies in this bench's folder then.
    pub(super) async fn take(
        &self,
        stage: &Arc<Stage>,
        located: Vec<Found>,
        build: &Build,
    ) -> Result<(Image, Record), BuildError> {
        let _core = self.shop.cores.acquire().await.expect("the semaphore is never closed");
        let (stage, component) = (stage.clone(), self.component.clone());
        let (wanted, folder) = (build.clone(), self.folder.path().to_owned());
        let taken = tokio::task::spawn_blocking(move || {
            let (mut image, mut record) = stage.take(&component.name, &wanted, &folder)?;
            (image.findings, image.contents) = match component.image.format {
                Format::Squashfs { .. } => judge_staged(&component, &image, record.time)?,
                Format::None | Format::Mirrored => (judge_whole(&component, &image)?, None),
            };
            record.contents.clone_from(&image.contents);
            Ok::<_, BuildError>((image, record))
        });
        let (image, record) =
            taken.await.map_err(|error| BuildError::Crashed(error.to_string()))??;
        self.check_staged(build, &known(located), &record)?;
        self.warn(build, &image);
        Ok((image, record))
    }

    /// Whether an image was made of what this build would have fetched.
    fn check_staged(
        &self,
        build: &Build,
        known: &[Known],
        record: &Record,
    ) -> Result<(), BuildError> {
        let other = |what, staged, planned| {
            let image = build.image.clone();
            BuildError::Staged(StagedError::Other { image, what, staged, planned })
        };
        let inputs = &record.inputs;
        // What a workflow left is called after its run.
        let by_workflow =
            self.component.build.as_ref().is_some_and(|rule| matches!(rule.by, Maker::Workflow(_)));
        let number = known.len() + usize::from(by_workflow);
        if inputs.len() != number {
            return Err(other("number of inputs", inputs.len().to_string(), number.to_string()));
        }
        for (Known { from, size, vouchers }, input) in known.iter().zip(inputs) {
            if input.from != *from {
                return Err(other("input", input.from.clone(), from.clone()));
            }
            let digests = [vouchers.release, pinned(vouchers)].into_iter().flatten();
            if let Some(planned) = digests.into_iter().find(|digest| *digest != input.sha256) {
                return Err(other(
                    "input's SHA-256",
                    input.sha256.to_string(),
                    planned.to_string(),
                ));
            }
            if let Some(size) = size.filter(|size| *size != input.size) {
                return Err(other("input's length", input.size.to_string(), size.to_string()));
            }
            self.check_strength(from, vouchers)?;
        }
        self.check_inputs(build, inputs)?;
        for (Known { from, vouchers, .. }, InputRecord { sha256, .. }) in known.iter().zip(inputs) {
            if vouchers.first_use {
                self.note(build, from, *sha256)?;
            }
        }
        Ok(())
    }
}

fn known(located: Vec<Found>) -> Vec<Known> {
    let known = |found| match found {
        Found::File(file) => Known { from: file.from, size: file.size, vouchers: file.vouchers },
        Found::Image(reference, vouchers) => {
            Known { from: reference.to_string(), size: None, vouchers: *vouchers }
        }
    };
    // As a record that was read again has it.
    let as_read = |known: Known| {
        let from = if known.from.contains("://") { for_records(&known.from) } else { known.from };
        Known { from, ..known }
    };
    located.into_iter().map(known).map(as_read).collect()
}

/// What the component's file says that it must be.
fn pinned(vouchers: &Vouchers) -> Option<Sha256> {
    match vouchers.pinned.flatten() {
        Some(Digest::Sha256(sha256)) => Some(sha256),
        Some(Digest::Sha512(_)) | None => None,
    }
}

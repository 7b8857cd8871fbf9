//! Assets that are container images: one asset, but many files to fetch.
//!
//! Owns what becomes of their layers on the way into a recipe. Refuses to know how registries are
//! asked.

use http::HeaderMap;

use super::wanted::{Found, Wanted};
use super::{Bench, BuildError};
use crate::fetch::arriving::Arriving;
use crate::plan::Build;
use crate::recipe::Bytes;
use crate::repository::commit::InputRecord;
use crate::source::Location;
use crate::trust::vouchers::Vouchers;

/// What is known of a layer of an image.
pub(super) struct LayerOf {
    /// What is recorded of the image, with its first layer.
    pub(super) record: Option<InputRecord>,
    /// What the registry wants to be told.
    pub(super) headers: HeaderMap,
}

impl Bench<'_> {
    /// Asks registries for the layers of images.
    pub(super) async fn look_up(
        &self,
        found: Vec<Found>,
        build: &Build,
    ) -> Result<Vec<Wanted>, BuildError> {
        let mut wanted = Vec::new();
        for (rule, found) in found.into_iter().enumerate() {
            let (reference, vouchers) = match found {
                Found::File(file) => {
                    wanted.push(*file);
                    continue;
                }
                Found::Image(reference, vouchers) => (reference, vouchers),
            };
            let name = reference.to_string();
            self.check_strength(&name, &vouchers)?;
            let failed = |source| BuildError::Fetch { asset: name.clone(), source };
            let image = self.shop.client.image(&reference, build.arch).await.map_err(failed)?;
            let promised_by = self.check_image(build, &name, &vouchers, image.manifest)?;
            let mut record = Some(InputRecord {
                from: name.clone(),
                sha256: image.manifest,
                size: image.size,
                promised_by,
            });
            for layer in image.layers {
                self.with_shared(&layer.url, |download| download.users += 1);
                wanted.push(Wanted {
                    rule,
                    name: name.clone(),
                    at: Location::Url(layer.url),
                    from: name.clone(),
                    size: Some(layer.size),
                    private: None,
                    vouchers: Vouchers { release: Some(layer.sha256), ..Vouchers::default() },
                    layer: Some(LayerOf { record: record.take(), headers: image.headers.clone() }),
                });
            }
        }
        Ok(wanted)
    }
}

/// A file on its way to a build.
#[derive(Clone)]
pub(super) struct Fetching {
    /// Which of the recipe's assets it belongs to.
    pub(super) rule: usize,
    pub(super) name: String,
    pub(super) layer: bool,
    pub(super) file: Arriving,
}

/// The files of one asset.
pub(super) fn bytes_of(files: &[Fetching]) -> Option<(String, Bytes)> {
    let first = files.first()?;
    let bytes = if first.layer {
        Bytes::Layers(files.iter().map(|fetching| fetching.file.clone()).collect())
    } else {
        Bytes::File(first.file.clone())
    };
    Some((first.name.clone(), bytes))
}

//! What nodes take that follow the component: its transfers, tried on the manifest as it is served.

use super::{Expected, Origin, Verified};
use crate::client::emulate::{self, images};
use crate::client::{Offer, is_told};
use crate::manifest::Manifest;
use crate::name::Arch;
use crate::repository::MANIFEST;
use crate::store::PRIVATE;

/// Tries every transfer, for every client and architecture; and warns of a line that nodes take, but
/// nothing tells who made it.
pub(super) async fn check(
    origin: &Origin,
    folder: &str,
    expected: &Expected,
    manifest: &Manifest,
    verified: &mut Verified,
) {
    if !is_told(&expected.component) {
        return;
    }
    let images = images(&expected.component, manifest);
    let offer = Offer::to_try(&expected.component, &images);
    match emulate::check(&offer, manifest) {
        Ok(misled) => {
            for misled in misled {
                verified.problem(MANIFEST, misled.to_string());
            }
        }
        Err(error) => verified.problem(MANIFEST, error.to_string()),
    }
    for arch in offer.arches() {
        if let Some(name) = stranger(origin, folder, &offer, arch).await {
            let told = format!("nodes on {arch} take it, but nothing tells who made it");
            verified.warning(&name, told);
        }
    }
}

/// The newest image for an architecture, if it has no record but the one before it has.
async fn stranger(origin: &Origin, folder: &str, offer: &Offer<'_>, arch: Arch) -> Option<String> {
    // A web server has no records to show.
    let of_ours = |name: &str| {
        let records = format!("{PRIVATE}/images/{folder}");
        let name = format!("{name}.json");
        async move {
            match origin {
                Origin::Directory(root) => Some(root.join(records).join(name).exists()),
                Origin::Store(store) => {
                    store.size(&format!("{records}/{name}")).await.ok().map(|size| size.is_some())
                }
                Origin::Url(_) => None,
            }
        }
    };
    let newest = offer.newest(arch, None)?;
    if of_ours(newest.name.as_str()).await? {
        return None;
    }
    let others =
        offer.images.iter().filter(|image| image.arch == arch && image.name != newest.name);
    let before = others.max_by(|a, b| a.shown.cmp(&b.shown))?;
    of_ours(before.name.as_str()).await?.then(|| newest.name.to_string())
}

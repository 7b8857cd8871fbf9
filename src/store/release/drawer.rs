//! One release, and what is known of its assets.

use std::collections::BTreeMap;

use tokio::sync::{Mutex, MutexGuard};

use super::api::{Api, Asset, Release};
use super::error::ReleaseError;
use super::layout;

/// A release with its assets, as they were listed and as we changed them since.
#[derive(Debug)]
pub(super) struct Drawer {
    pub release: Release,
    /// By number; `None` before they are asked for.
    assets: Mutex<Option<BTreeMap<u64, Asset>>>,
}

type Assets<'s> = MutexGuard<'s, Option<BTreeMap<u64, Asset>>>;

impl Drawer {
    pub fn new(release: Release) -> Self {
        Self { release, assets: Mutex::new(None) }
    }

    /// Lists the assets, if nobody has.
    pub async fn load(&self, api: &Api) -> Result<(), ReleaseError> {
        self.loaded(api).await.map(drop)
    }

    async fn loaded(&self, api: &Api) -> Result<Assets<'_>, ReleaseError> {
        let mut assets = self.assets.lock().await;
        if assets.is_none() {
            let listed = api.assets(&self.release).await?;
            *assets = Some(listed.into_iter().map(|asset| (asset.id, asset)).collect());
        }
        Ok(assets)
    }

    /// Lists them again.
    pub async fn reload(&self, api: &Api) -> Result<(), ReleaseError> {
        *self.assets.lock().await = None;
        self.load(api).await
    }

    /// How many there are, whole or not.
    pub async fn count(&self, api: &Api) -> Result<usize, ReleaseError> {
        Ok(self.loaded(api).await?.as_ref().map_or(0, BTreeMap::len))
    }

    /// The asset of this very name, whole or not, as far as it is known.
    pub async fn at(&self, name: &str) -> Option<Asset> {
        named(self.assets.lock().await.as_ref()?, name).cloned()
    }

    /// The asset that counts under a name.
    pub async fn find(&self, api: &Api, name: &str) -> Result<Option<Asset>, ReleaseError> {
        let assets = self.loaded(api).await?;
        Ok(assets.as_ref().and_then(|assets| counts(assets, name)).cloned())
    }

    /// All that count, by name.
    pub async fn all(&self, api: &Api) -> Result<Vec<(String, Asset)>, ReleaseError> {
        let assets = self.loaded(api).await?;
        let Some(assets) = assets.as_ref() else { return Ok(Vec::new()) };
        let mut all = BTreeMap::new();
        for asset in assets.values().filter(|asset| asset.is_whole()) {
            let name = layout::is_next(&asset.name).unwrap_or(&asset.name);
            if let Some(counts) = counts(assets, name) {
                all.insert(name.to_owned(), counts.clone());
            }
        }
        Ok(all.into_iter().collect())
    }

    /// An asset is there now, or has another name now.
    pub async fn came(&self, asset: Asset) {
        if let Some(assets) = self.assets.lock().await.as_mut() {
            assets.insert(asset.id, asset);
        }
    }

    /// An asset is gone now.
    pub async fn went(&self, id: u64) {
        if let Some(assets) = self.assets.lock().await.as_mut() {
            assets.remove(&id);
        }
    }

    /// Gives every asset its name whose old one is gone.
    pub async fn mend(&self, api: &Api) -> Result<(), ReleaseError> {
        for (name, _) in self.all(api).await? {
            self.mend_one(api, &name).await?;
        }
        Ok(())
    }

    /// Gives the asset of a name this name, if the old one is gone.
    pub async fn mend_one(&self, api: &Api, name: &str) -> Result<(), ReleaseError> {
        let Some(next) = self.find(api, name).await?.filter(|asset| asset.name != name) else {
            return Ok(());
        };
        match api.rename(&next, name).await? {
            Some(asset) => self.came(asset).await,
            // Others went on meanwhile.
            None => self.reload(api).await?,
        }
        Ok(())
    }
}

fn named<'a>(assets: &'a BTreeMap<u64, Asset>, name: &str) -> Option<&'a Asset> {
    assets.values().find(|asset| asset.name == name)
}

/// The asset of the name; where it is gone, the one that is to take its place.
fn counts<'a>(assets: &'a BTreeMap<u64, Asset>, name: &str) -> Option<&'a Asset> {
    match named(assets, name) {
        Some(asset) => Some(asset).filter(|asset| asset.is_whole()),
        None => named(assets, &layout::next(name)).filter(|asset| asset.is_whole()),
    }
}

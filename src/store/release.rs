//! Releases on GitHub as a store of objects: a folder is a release, an object one of its assets.
//!
//! Owns what GitHub has no request for. An asset cannot be replaced, and nothing can be compared before it
//! is written. So:
//!
//! - A name that is there is never given to another asset: a lock object can rest on that.
//! - A new content goes up beside the old one, as `NAME.next`. Then the old one is deleted, and the new
//!   one gets the name: two quick requests, between which whoever asks for the name gets a 404. Wrong
//!   bytes he never gets.
//! - Where a name is gone, but its next content is there, a publisher was killed between the two: that
//!   content is what is read, and whoever comes gives it the name. That is right at any time and by
//!   anybody, because nothing else leaves this behind.
//! - What broke off on its way is there, too, in a state of its own, and counts for nothing.
//!
//! Listings are read once, and again when the lock was taken; what we change ourselves is known.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use object_store::{PutMode, PutResult, Result, path::Path as Key};
use tokio::sync::Mutex;

mod api;
mod drawer;
mod error;
mod layout;
mod objects;

pub(super) use error::ReleaseError;

use super::content_type;
use super::stream::Body;
use crate::config::ReleaseUrl;
use crate::fetch::{self, Client};
use crate::name::Sha256;
use api::{Api, Asset, Named, Release, Sent};
use drawer::Drawer;
use layout::Spot;

/// The lock, below the private folder: what is on its way there may be somebody's.
const LOCK: &str = "lock";

/// How long such a one may be.
const UNDER_WAY: SignedDuration = SignedDuration::from_secs(120);

/// How often something is tried that others get in the way of.
const ATTEMPTS: u32 = 4;

/// The releases of one project. Clones are the same ones.
#[derive(Debug, Clone)]
pub(super) struct Releases(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    url: ReleaseUrl,
    api: Api,
    /// What tells a lock that we send from those of others, also if it broke off.
    label: String,
    /// Whether it was told that there is no token.
    warned: AtomicBool,
    /// By tag; `None` before they are asked for.
    drawers: Mutex<Option<BTreeMap<String, Arc<Drawer>>>>,
}

impl fmt::Display for Releases {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.url.fmt(f)
    }
}

/// What is put.
enum Content {
    Bytes(Bytes),
    File(Body),
}

impl Content {
    fn size(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::File(body) => body.size,
        }
    }

    fn sha256(&self) -> Sha256 {
        match self {
            Self::Bytes(bytes) => Sha256::of(bytes),
            Self::File(body) => body.sha256,
        }
    }
}

impl Releases {
    /// Nothing is asked yet.
    pub fn new(url: &ReleaseUrl, client: &Client) -> Self {
        Self(Arc::new(Inner {
            url: url.clone(),
            api: Api::new(client.clone(), &url.repo),
            label: format!("publish {:016x}", rand::random::<u64>()),
            warned: AtomicBool::new(false),
            drawers: Mutex::new(None),
        }))
    }

    /// Where an object is, for people; the store itself, if there is no path.
    pub fn locate(&self, path: &str) -> String {
        let url = &self.0.url;
        match layout::spot(url, path) {
            _ if path.is_empty() => url.to_string(),
            Some(spot) => format!("github-release://{}/{}/{}", url.repo, spot.tag, spot.name),
            None => format!("{url}/{path}"),
        }
    }

    /// The release that is a folder, for people.
    pub fn locate_folder(&self, folder: &str) -> String {
        let url = &self.0.url;
        let tag = match folder {
            "" => return url.to_string(),
            folder if layout::is_private(folder) => url.state(),
            folder => url.tag_of(folder).unwrap_or_else(|| folder.to_owned()),
        };
        format!("github-release://{}/{tag}", url.repo)
    }

    /// What was read of what is there counts no more.
    pub async fn forget(&self) {
        *self.0.drawers.lock().await = None;
    }

    /// Gives those of a folder their names whose publisher was killed before he could.
    pub async fn mend(&self, folder: &str) -> Result<()> {
        let inside = if folder.is_empty() { "x".to_owned() } else { format!("{folder}/x") };
        let Some(spot) = layout::spot(&self.0.url, &inside) else { return Ok(()) };
        let Some(drawer) = self.drawer(&spot).await? else { return Ok(()) };
        drawer.load(&self.0.api).await?;
        drawer.mend(&self.0.api).await?;
        Ok(())
    }

    fn spot(&self, location: &Key) -> Result<Spot> {
        Ok(layout::spot(&self.0.url, location.as_ref()).ok_or(ReleaseError::NoPlace)?)
    }

    async fn drawers(&self) -> Result<Vec<Arc<Drawer>>, ReleaseError> {
        let mut drawers = self.0.drawers.lock().await;
        let known = self.known(&mut drawers).await?;
        Ok(known.values().cloned().collect())
    }

    async fn known<'k>(
        &self,
        drawers: &'k mut Option<BTreeMap<String, Arc<Drawer>>>,
    ) -> Result<&'k mut BTreeMap<String, Arc<Drawer>>, ReleaseError> {
        if drawers.is_none() {
            if !self.0.api.has_token()? && !self.0.warned.swap(true, Ordering::Relaxed) {
                tracing::warn!(
                    "{self}: without GITHUB_TOKEN, what publish keeps for itself there is not seen"
                );
            }
            let mut known = BTreeMap::new();
            for release in self.ours().await? {
                known.insert(release.tag_name.clone(), Arc::new(Drawer::new(release)));
            }
            *drawers = Some(known);
        }
        Ok(drawers.get_or_insert_default())
    }

    /// The releases of this store, each of its tag once.
    async fn ours(&self) -> Result<Vec<Release>, ReleaseError> {
        let Inner { url, api, .. } = &*self.0;
        let mut all = api.releases().await?;
        let state = url.state();
        all.retain(|release| {
            // Drafts of other tags are somebody's plans.
            release.tag_name == state || !release.draft
        });
        // Nothing keeps two publishers from making the same draft: the first is the one.
        all.sort_by(|a, b| (&a.tag_name, a.id).cmp(&(&b.tag_name, b.id)));
        all.dedup_by(|later, first| later.tag_name == first.tag_name);
        all.retain(|release| {
            let tag = &release.tag_name;
            *tag == state || *tag == url.root() || url.folder_of(tag).is_some()
        });
        Ok(all)
    }

    /// The release of an object, if it is there.
    async fn drawer(&self, spot: &Spot) -> Result<Option<Arc<Drawer>>, ReleaseError> {
        let mut drawers = self.0.drawers.lock().await;
        Ok(self.known(&mut drawers).await?.get(&spot.tag).cloned())
    }

    /// The release of an object, made if it is not there.
    async fn drawer_made(&self, spot: &Spot) -> Result<Arc<Drawer>, ReleaseError> {
        let mut drawers = self.0.drawers.lock().await;
        let known = self.known(&mut drawers).await?;
        if let Some(drawer) = known.get(&spot.tag) {
            return Ok(drawer.clone());
        }
        let api = &self.0.api;
        let made = api.make(&spot.tag, spot.private).await?;
        // Somebody may have been faster, and of drafts there are two then.
        let now = self.ours().await?.into_iter().find(|release| release.tag_name == spot.tag);
        let release = match (made, now) {
            (Some(made), Some(now)) if made.id != now.id => {
                api.unmake(&made).await?;
                now
            }
            (Some(made), _) => made,
            (None, Some(now)) => now,
            (None, None) => return Err(ReleaseError::Contested),
        };
        let drawer = Arc::new(Drawer::new(release));
        known.insert(spot.tag.clone(), drawer.clone());
        Ok(drawer)
    }

    /// The asset that an object is.
    async fn find(&self, location: &Key) -> Result<Option<(Arc<Drawer>, Asset)>> {
        let spot = self.spot(location)?;
        let Some(drawer) = self.drawer(&spot).await? else { return Ok(None) };
        let found = drawer.find(&self.0.api, &spot.name).await?;
        Ok(found.map(|asset| (drawer, asset)))
    }

    async fn send(
        &self,
        drawer: &Drawer,
        named: Named<'_>,
        content: &Content,
    ) -> Result<Sent, ReleaseError> {
        let (api, release) = (&self.0.api, &drawer.release);
        if drawer.release.immutable {
            return Err(ReleaseError::Immutable { tag: release.tag_name.clone() });
        }
        if content.size() >= error::LARGEST {
            return Err(ReleaseError::Large { size: content.size() });
        }
        if drawer.count(api).await? >= error::MOST {
            return Err(ReleaseError::Full { tag: release.tag_name.clone() });
        }
        let sent = match content {
            Content::Bytes(bytes) => api.send(release, named, bytes.clone()).await?,
            Content::File(body) => api.send_file(release, named, body.clone()).await?,
        };
        let Sent::Done(asset) = &sent else { return Ok(sent) };
        let digest = content.sha256();
        let wrong = if asset.name != named.name {
            Some(ReleaseError::Renamed { got: asset.name.clone() })
        } else if !asset.is_whole()
            || asset.size != content.size()
            || asset.sha256().is_some_and(|there| there != digest)
        {
            let got = format!("{} bytes, {}", asset.size, asset.state);
            Some(ReleaseError::Damaged { got, sent: format!("{} bytes", content.size()) })
        } else {
            None
        };
        if let Some(wrong) = wrong {
            api.delete(asset).await?;
            return Err(wrong);
        }
        drawer.came(asset.clone()).await;
        Ok(sent)
    }

    /// Sends what is to have a name that nothing has; `None` if something else has it. What broke off
    /// under it before is taken away.
    async fn create(
        &self,
        spot: &Spot,
        drawer: &Drawer,
        name: &str,
        content: &Content,
    ) -> Result<Option<Asset>, ReleaseError> {
        let api = &self.0.api;
        let is_lock = spot.private && spot.name == LOCK;
        let label = is_lock.then_some(self.0.label.as_str());
        let named = Named { name, kind: content_type(&spot.name), label };
        for attempt in 1..=ATTEMPTS {
            match self.send(drawer, named, content).await {
                Ok(Sent::Done(asset)) => return Ok(Some(asset)),
                Ok(Sent::Taken) => {}
                // What was sent may be there all the same, or half of it.
                Err(error) if attempt < ATTEMPTS && error.may_pass() => {
                    let pause = Duration::from_millis(500) * attempt;
                    tokio::time::sleep(fetch::up_to(pause)).await;
                }
                Err(error) => return Err(error),
            }
            drawer.reload(api).await?;
            match drawer.at(name).await {
                Some(asset) if asset.is_whole() => {
                    // Our own, whose answer was lost, or as good.
                    return Ok(Some(asset).filter(|asset| asset.sha256() == Some(content.sha256())));
                }
                // Others may be taking the lock; whoever has it is alone with all else.
                Some(there) if is_lock && self.is_somebodys(&there) => {
                    return Ok(None);
                }
                Some(broken) => {
                    api.delete(&broken).await?;
                    drawer.went(broken.id).await;
                }
                None => {}
            }
        }
        Err(ReleaseError::Contested)
    }

    /// Whether another may still be sending it.
    fn is_somebodys(&self, asset: &Asset) -> bool {
        let since = asset.updated_at.parse::<Timestamp>();
        let is_young = since.is_ok_and(|since| Timestamp::now().duration_since(since) < UNDER_WAY);
        is_young && asset.label.as_deref() != Some(&self.0.label)
    }

    /// Whoever meets what he did not expect has lost the lock, and leaves it as it is.
    async fn overwrite(
        &self,
        spot: &Spot,
        drawer: &Drawer,
        content: &Content,
    ) -> Result<Asset, ReleaseError> {
        let api = &self.0.api;
        drawer.load(api).await?;
        drawer.mend_one(api, &spot.name).await?;
        let Some(old) = drawer.at(&spot.name).await.filter(Asset::is_whole) else {
            let created = self.create(spot, drawer, &spot.name, content).await?;
            return created.ok_or(ReleaseError::Contested);
        };
        if old.sha256() == Some(content.sha256()) {
            return Ok(old);
        }
        let next = layout::next(&spot.name);
        // Somebody was killed before it counted.
        if let Some(stale) = drawer.at(&next).await {
            api.delete(&stale).await?;
            drawer.went(stale.id).await;
        }
        let new = self.create(spot, drawer, &next, content).await?;
        let new = new.ok_or(ReleaseError::Contested)?;
        api.delete(&old).await?;
        drawer.went(old.id).await;
        if let Some(asset) = api.rename(&new, &spot.name).await? {
            drawer.came(asset.clone()).await;
            return Ok(asset);
        }
        drawer.reload(api).await?;
        // Somebody who read what we had left was faster at giving it its name.
        let there = drawer.at(&spot.name).await.filter(|there| there.id == new.id);
        there.ok_or(ReleaseError::Contested)
    }

    async fn put(&self, location: &Key, content: Content, mode: PutMode) -> Result<PutResult> {
        let spot = self.spot(location)?;
        if matches!(mode, PutMode::Update(_)) {
            return Err(object_store::Error::NotSupported {
                source: "github compares nothing before it writes".into(),
            });
        }
        let drawer = self.drawer_made(&spot).await?;
        let asset = match mode {
            PutMode::Create => {
                let there = drawer.find(&self.0.api, &spot.name).await?;
                let created = match there {
                    Some(_) => None,
                    None => self.create(&spot, &drawer, &spot.name, &content).await?,
                };
                created.ok_or_else(|| object_store::Error::AlreadyExists {
                    path: location.to_string(),
                    source: "an asset has that name".into(),
                })?
            }
            _ => self.overwrite(&spot, &drawer, &content).await?,
        };
        Ok(PutResult {
            e_tag: asset.sha256().map(|digest| digest.to_string()),
            version: Some(asset.id.to_string()),
            extensions: http::Extensions::new(),
        })
    }

    async fn delete_one(&self, location: &Key) -> Result<()> {
        let spot = self.spot(location)?;
        let Some(drawer) = self.drawer(&spot).await? else { return Ok(()) };
        let api = &self.0.api;
        drawer.load(api).await?;
        // First what would take its place.
        for name in [layout::next(&spot.name), spot.name] {
            if let Some(asset) = drawer.at(&name).await {
                api.delete(&asset).await?;
                drawer.went(asset.id).await;
            }
        }
        Ok(())
    }
}

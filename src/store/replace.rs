//! Replacing an object only if it is still the one that was read.
//!
//! A bucket that compares does it in one step (`If-Match`, or `If-None-Match: *` where nothing was).
//! Under a lock it takes two: read again, then write.

use bytes::Bytes;
use jiff::Timestamp;
use object_store::{ObjectStoreExt, PutMode, UpdateVersion, path::Path as Key};

use super::error::{is_missing, is_refused_condition};
use super::{Lock, Store, StoreError, time};

/// What was at a path when it was read, perhaps nothing.
#[derive(Debug, Clone, Default)]
pub struct Seen(Option<There>);

#[derive(Debug, Clone)]
struct There {
    bytes: Bytes,
    modified: Timestamp,
    e_tag: Option<String>,
    version: Option<String>,
}

/// Tags differ from store to store; what counts is what was read.
impl PartialEq for Seen {
    fn eq(&self, other: &Self) -> bool {
        self.bytes() == other.bytes()
    }
}

impl Eq for Seen {}

impl Seen {
    /// What was there.
    #[must_use]
    pub fn bytes(&self) -> Option<&Bytes> {
        self.0.as_ref().map(|there| &there.bytes)
    }

    /// When it was written, by the store's clock.
    #[must_use]
    pub fn modified(&self) -> Option<Timestamp> {
        self.0.as_ref().map(|there| there.modified)
    }
}

impl Store {
    /// What is at a path, with what tells it from whatever comes after it.
    ///
    /// # Errors
    /// Anything else than a true "not found".
    pub async fn look(&self, path: &str) -> Result<Seen, StoreError> {
        let found = async {
            let found = self.objects.get(&Key::from(path)).await?;
            let meta = found.meta.clone();
            Ok(Seen(Some(There {
                bytes: found.bytes().await?,
                modified: time(&meta),
                e_tag: meta.e_tag,
                version: meta.version,
            })))
        };
        match found.await {
            Err(error) if is_missing(&error) => Ok(Seen(None)),
            found => found.map_err(|error| self.error("cannot read", path, error)),
        }
    }

    /// Puts bytes in the place of what was seen there; `None` if something else is there by now,
    /// which stays. Readers see the old bytes or the new ones.
    ///
    /// # Errors
    /// The store cannot be written. The object may have been replaced all the same: a server can
    /// do what it is asked and still not say so.
    pub async fn replace(
        &self,
        path: &str,
        bytes: Bytes,
        seen: &Seen,
        lock: &Lock,
    ) -> Result<Option<Seen>, StoreError> {
        lock.check()?;
        let mode = if lock.is_conditional() {
            match &seen.0 {
                None => PutMode::Create,
                Some(There { e_tag, version, .. }) => PutMode::Update(UpdateVersion {
                    e_tag: e_tag.clone(),
                    version: version.clone(),
                }),
            }
        } else {
            if self.look(path).await? != *seen {
                return Ok(None);
            }
            PutMode::Overwrite
        };
        match self.put_if(path, bytes.clone(), mode).await {
            Ok(put) => Ok(Some(Seen(Some(There {
                bytes,
                modified: Timestamp::now(),
                e_tag: put.e_tag,
                version: put.version,
            })))),
            Err(error) if is_refused_condition(&error) => {
                // A request that is sent again, because its answer was lost, meets its own effect.
                let there = self.look(path).await?;
                Ok((there.bytes() == Some(&bytes)).then_some(there))
            }
            Err(error) => Err(self.error("cannot write", path, error)),
        }
    }
}

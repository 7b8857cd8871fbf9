//! Releases as `object_store` asks for them.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::{
    Attribute, Attributes, CopyOptions, GetOptions, GetResult, GetResultPayload, ListResult,
    MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions, PutOptions, PutPayload,
    PutResult, Result, path::Path as Key,
};

use super::api::Asset;
use super::drawer::Drawer;
use super::error::ReleaseError;
use super::{ATTEMPTS, Content, Releases, layout};
use crate::store::content_type;
use crate::store::stream::Body;

impl Releases {
    /// The objects of a release.
    async fn objects_of(&self, drawer: &Drawer) -> Result<Vec<ObjectMeta>> {
        let mut objects = Vec::new();
        for (name, asset) in drawer.all(&self.0.api).await? {
            let path = layout::path(&self.0.url, &drawer.release.tag_name, &name);
            // What is called like no object is none of ours.
            if let Some(location) = path.and_then(|path| Key::parse(path).ok()) {
                objects.push(meta(location, &asset));
            }
        }
        Ok(objects)
    }

    /// The releases that objects below a folder may be in.
    async fn below(&self, folder: &str) -> Result<Vec<Arc<Drawer>>> {
        let url = &self.0.url;
        let mut drawers = self.drawers().await?;
        drawers.retain(|drawer| {
            let tag = &drawer.release.tag_name;
            let is_below = |at: &str| {
                folder.is_empty()
                    || at == folder
                    || at.strip_prefix(folder).is_some_and(|r| r.starts_with('/'))
            };
            if *tag == url.state() {
                folder.is_empty() || layout::is_private(folder)
            } else if *tag == url.root() {
                folder.is_empty()
            } else {
                url.folder_of(tag).is_some_and(is_below)
            }
        });
        Ok(drawers)
    }
}

fn meta(location: Key, asset: &Asset) -> ObjectMeta {
    ObjectMeta {
        location,
        last_modified: asset.updated_at.parse().unwrap_or_default(),
        size: asset.size,
        e_tag: asset.sha256().map(|digest| digest.to_string()),
        version: Some(asset.id.to_string()),
    }
}

fn missing(location: &Key) -> object_store::Error {
    object_store::Error::NotFound {
        path: location.to_string(),
        source: "no asset has that name".into(),
    }
}

#[async_trait]
impl ObjectStore for Releases {
    async fn put_opts(
        &self,
        location: &Key,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        let content = match options.extensions.get::<Body>() {
            Some(body) => Content::File(body.clone()),
            None => Content::Bytes(payload.into()),
        };
        self.put(location, content, options.mode).await
    }

    async fn put_multipart_opts(
        &self,
        _: &Key,
        _: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        Err(object_store::Error::NotSupported { source: "assets have no parts".into() })
    }

    async fn get_opts(&self, location: &Key, options: GetOptions) -> Result<GetResult> {
        if options.range.is_some() {
            return Err(object_store::Error::NotSupported { source: "parts of assets".into() });
        }
        for attempt in 1.. {
            let found = self.find(location).await?;
            let (drawer, asset) = found.ok_or_else(|| missing(location))?;
            let meta = meta(location.clone(), &asset);
            options.check_preconditions(&meta)?;
            let pieces = if options.head {
                futures::stream::empty().boxed()
            } else {
                match self.0.api.download(&asset).await {
                    Ok(pieces) => pieces
                        .map_err(move |source| {
                            let doing = format!("cannot download {}", asset.name);
                            ReleaseError::Asking { doing, source }.into()
                        })
                        .boxed(),
                    // It was replaced since it was listed.
                    Err(ReleaseError::Asking { source, .. })
                        if source.is_not_found() && attempt < ATTEMPTS =>
                    {
                        drawer.reload(&self.0.api).await?;
                        continue;
                    }
                    Err(error) => return Err(error.into()),
                }
            };
            let name = location.filename().unwrap_or_default();
            let kind = content_type(name);
            return Ok(GetResult {
                payload: GetResultPayload::Stream(pieces),
                range: 0..meta.size,
                meta,
                attributes: Attributes::from_iter([(Attribute::ContentType, kind)]),
                extensions: http::Extensions::new(),
            });
        }
        unreachable!("attempts are counted without end")
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Key>>,
    ) -> BoxStream<'static, Result<Key>> {
        let this = self.clone();
        let deleted = locations.then(move |location| {
            let this = this.clone();
            async move {
                let location = location?;
                this.delete_one(&location).await?;
                Ok(location)
            }
        });
        deleted.boxed()
    }

    fn list(&self, prefix: Option<&Key>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (this, prefix) = (self.clone(), prefix.cloned().unwrap_or_default());
        let listed = async move {
            let mut objects = Vec::new();
            for drawer in this.below(prefix.as_ref()).await? {
                objects.extend(this.objects_of(&drawer).await?);
            }
            objects.retain(|object| {
                object.location != prefix && object.location.prefix_matches(&prefix)
            });
            Ok::<_, object_store::Error>(futures::stream::iter(objects.into_iter().map(Ok)))
        };
        futures::stream::once(listed).try_flatten().boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Key>) -> Result<ListResult> {
        let prefix = prefix.cloned().unwrap_or_default();
        let (mut objects, mut folders) = (Vec::new(), BTreeSet::new());
        let below = |path: &Key| {
            let mut rest = path.prefix_match(&prefix)?;
            let first = rest.next()?.as_ref().to_owned();
            Some((prefix.clone().join(first), rest.next().is_some()))
        };
        for drawer in self.below(prefix.as_ref()).await? {
            let tag = &drawer.release.tag_name;
            let is_here = match self.0.url.folder_of(tag) {
                Some(folder) => folder == prefix.as_ref(),
                None => true,
            };
            if !is_here {
                // Its name tells enough.
                let path =
                    layout::path(&self.0.url, tag, "x").and_then(|path| Key::parse(path).ok());
                folders.extend(path.as_ref().and_then(below).map(|(folder, _)| folder));
                continue;
            }
            for object in self.objects_of(&drawer).await? {
                match below(&object.location) {
                    Some((folder, true)) => drop(folders.insert(folder)),
                    Some((_, false)) => objects.push(object),
                    None => {}
                }
            }
        }
        Ok(ListResult {
            common_prefixes: folders.into_iter().collect(),
            objects,
            extensions: http::Extensions::new(),
        })
    }

    async fn copy_opts(&self, _: &Key, _: &Key, _: CopyOptions) -> Result<()> {
        Err(object_store::Error::NotSupported { source: "assets cannot be copied".into() })
    }
}

//! A real object store with something between it and whoever uses it: each operation first passes a
//! gate, which lets it go, makes it fail, or never answers.

use std::fmt;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use object_store::path::Path as Key;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, UploadPart,
};

/// What becomes of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// It is done.
    Go,
    /// It is not done, and an error says so.
    Fail,
    /// It is done, but an error comes back: the answer was lost.
    Lose,
    /// It is not done, and nothing ever comes back: the process is dead.
    Die,
    /// It is done, and nothing ever comes back.
    DieAfter,
}

/// Asked before each operation, with its name and its path.
pub type Gate = Arc<dyn Fn(&'static str, String) -> BoxFuture<'static, Turn> + Send + Sync>;

/// The store behind its gate.
#[derive(Clone)]
struct Gated {
    objects: Arc<dyn ObjectStore>,
    gate: Gate,
}

/// Puts a gate in front of a store.
pub fn gated(objects: Arc<dyn ObjectStore>, gate: Gate) -> Arc<dyn ObjectStore> {
    Arc::new(Gated { objects, gate })
}

impl fmt::Debug for Gated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.objects.fmt(f)
    }
}

impl fmt::Display for Gated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.objects.fmt(f)
    }
}

async fn pass<T>(turn: Turn, work: impl Future<Output = Result<T>>) -> Result<T> {
    let broken = || object_store::Error::Generic { store: "gate", source: "it broke".into() };
    match turn {
        Turn::Go => work.await,
        Turn::Fail => Err(broken()),
        Turn::Lose => {
            let _ = work.await;
            Err(broken())
        }
        Turn::Die => std::future::pending().await,
        Turn::DieAfter => {
            let _ = work.await;
            std::future::pending().await
        }
    }
}

type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T>> + Send + 'a>>;

// By hand what `async_trait` makes of `async fn`, which is not worth a crate here.
impl ObjectStore for Gated {
    fn put_opts<'a, 'b, 'z>(
        &'a self,
        to: &'b Key,
        payload: PutPayload,
        options: PutOptions,
    ) -> Answer<'z, PutResult>
    where
        'a: 'z,
        'b: 'z,
        Self: 'z,
    {
        Box::pin(async move {
            let turn = (self.gate)("put", to.to_string()).await;
            pass(turn, self.objects.put_opts(to, payload, options)).await
        })
    }

    fn put_multipart_opts<'a, 'b, 'z>(
        &'a self,
        to: &'b Key,
        options: PutMultipartOptions,
    ) -> Answer<'z, Box<dyn MultipartUpload>>
    where
        'a: 'z,
        'b: 'z,
        Self: 'z,
    {
        Box::pin(async move {
            let turn = (self.gate)("begin", to.to_string()).await;
            let upload = pass(turn, self.objects.put_multipart_opts(to, options)).await?;
            let gated = Upload { inner: upload, to: to.to_string(), gate: self.gate.clone() };
            Ok(Box::new(gated) as Box<dyn MultipartUpload>)
        })
    }

    fn get_opts<'a, 'b, 'z>(&'a self, from: &'b Key, options: GetOptions) -> Answer<'z, GetResult>
    where
        'a: 'z,
        'b: 'z,
        Self: 'z,
    {
        Box::pin(async move {
            let turn = (self.gate)("get", from.to_string()).await;
            pass(turn, self.objects.get_opts(from, options)).await
        })
    }

    fn get_ranges<'a, 'b, 'c, 'z>(
        &'a self,
        from: &'b Key,
        ranges: &'c [Range<u64>],
    ) -> Answer<'z, Vec<Bytes>>
    where
        'a: 'z,
        'b: 'z,
        'c: 'z,
        Self: 'z,
    {
        self.objects.get_ranges(from, ranges)
    }

    fn delete_stream(
        &self,
        paths: BoxStream<'static, Result<Key>>,
    ) -> BoxStream<'static, Result<Key>> {
        let this = self.clone();
        paths
            .then(move |path| {
                let this = this.clone();
                async move {
                    let path = path?;
                    let turn = (this.gate)("delete", path.to_string()).await;
                    let one = futures::stream::iter([Ok(path.clone())]).boxed();
                    let mut gone = this.objects.delete_stream(one);
                    pass(turn, async { gone.next().await.unwrap_or(Ok(path)) }).await
                }
            })
            .boxed()
    }

    fn list(&self, below: Option<&Key>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.objects.list(below)
    }

    fn list_with_delimiter<'a, 'b, 'z>(&'a self, below: Option<&'b Key>) -> Answer<'z, ListResult>
    where
        'a: 'z,
        'b: 'z,
        Self: 'z,
    {
        Box::pin(async move {
            let turn =
                (self.gate)("list", below.map(ToString::to_string).unwrap_or_default()).await;
            pass(turn, self.objects.list_with_delimiter(below)).await
        })
    }

    fn copy_opts<'a, 'b, 'c, 'z>(
        &'a self,
        from: &'b Key,
        to: &'c Key,
        options: CopyOptions,
    ) -> Answer<'z, ()>
    where
        'a: 'z,
        'b: 'z,
        'c: 'z,
        Self: 'z,
    {
        Box::pin(async move {
            let turn = (self.gate)("copy", to.to_string()).await;
            pass(turn, self.objects.copy_opts(from, to, options)).await
        })
    }
}

struct Upload {
    inner: Box<dyn MultipartUpload>,
    to: String,
    gate: Gate,
}

impl fmt::Debug for Upload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl MultipartUpload for Upload {
    fn put_part(&mut self, payload: PutPayload) -> UploadPart {
        let turn = (self.gate)("part", self.to.clone());
        let part = self.inner.put_part(payload);
        async move { pass(turn.await, part).await }.boxed()
    }

    fn complete<'a, 'z>(&'a mut self) -> Answer<'z, PutResult>
    where
        'a: 'z,
        Self: 'z,
    {
        Box::pin(async move {
            let turn = (self.gate)("complete", self.to.clone()).await;
            pass(turn, self.inner.complete()).await
        })
    }

    fn abort<'a, 'z>(&'a mut self) -> Answer<'z, ()>
    where
        'a: 'z,
        Self: 'z,
    {
        Box::pin(async move {
            let turn = (self.gate)("abort", self.to.clone()).await;
            pass(turn, self.inner.abort()).await
        })
    }
}

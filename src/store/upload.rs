//! Uploads: a file's content becomes an object, whole or not at all.
//!
//! To S3 all but the largest files go in one request, read from the disk as it goes. Elsewhere a
//! small file goes up in one request, and all others in parts, several at a time. What all uploads
//! together have in memory is bounded, however many and however large the files are.

use std::fs::File;
use std::io::Read;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::Extensions;
use object_store::{
    CopyMode, CopyOptions, ObjectStore, ObjectStoreExt, PutMode, PutMultipartOptions, PutOptions,
    PutPayload, path::Path as Key,
};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::bucket::Uploading;
use super::error::{is_missing, is_refused_condition, is_silence};
use super::stream::Body;
use super::{Created, Lock, PRIVATE, Place, Store, StoreError};
use crate::name::Sha256;

/// The bytes of one part; also the largest file that is read into memory for one request.
const PART: u64 = 8 << 20;

/// The same for a directory, where a part is no request, and nothing is won by many.
const PIECE: u64 = 2 << 20;
const PIECES_AT_ONCE: usize = 2;

/// How many parts are in memory, and files streamed, at once, of all uploads.
const BUFFERS: usize = 8;

/// How many parts of one upload are on their way at once.
const PARTS_AT_ONCE: usize = 4;

/// How long we wait before a request without an answer is sent again.
const RETRIES: [Duration; 3] =
    [Duration::from_millis(200), Duration::from_secs(1), Duration::from_secs(5)];

/// A service takes 10,000 parts at most: larger files have larger parts.
const MOST_PARTS: u64 = 9_000;

impl Store {
    /// Puts a file's content at a path, unless something is there. It appears whole or not at all.
    /// `sha256` is what the file's digest is known to be.
    ///
    /// # Errors
    /// The file cannot be read or the store not written; nothing appears then.
    pub async fn create_from_file(
        &self,
        path: &str,
        file: File,
        sha256: Sha256,
        lock: &Lock,
    ) -> Result<Created, StoreError> {
        lock.check()?;
        let key = Key::from(path);
        let failed = |error| self.error("cannot write", path, error);
        let size = file.metadata().map_err(|error| failed(of_file(error)))?.len();
        // Gigabytes are not sent to find out that they are there.
        if !lock.is_conditional() || size > PART {
            match self.objects.head(&key).await {
                Ok(_) => return Ok(Created::Exists),
                Err(error) if is_missing(&error) => {}
                Err(error) => return Err(self.error("cannot read", path, error)),
            }
        }
        if !lock.is_conditional() {
            // On one file system a second name is all that a file needs.
            let (linked, file) = self.link(path, file).await.map_err(failed)?;
            if let Some(created) = linked {
                return Ok(created);
            }
            return self.put_from_file(path, file, sha256).await.map(|()| Created::New);
        }
        if let Some(streaming) = self.streaming(size) {
            let body = Body { file: Arc::new(file), size, sha256 };
            return created(self.stream(streaming, path, body, PutMode::Create).await)
                .map_err(failed);
        }
        if size <= PART {
            let (read, _file) = read_part(file, size, &self.buffers).await;
            let bytes = read.map_err(|error| failed(of_file(error)))?;
            return created(self.put_if(path, bytes, PutMode::Create).await).map_err(failed);
        }
        if let Some(Uploading { objects, .. }) = &self.uploading {
            let sent = self.send_parts(objects.as_ref(), path, file, size).await;
            return created(sent).map_err(failed);
        }
        // These services copy only where nothing is, but do not put parts together so.
        let aside = format!("{PRIVATE}/uploads/{:032x}", rand::random::<u128>());
        let put = async {
            let aside = Key::from(aside.as_str());
            self.send_parts_as(self.objects.as_ref(), &aside, path, file, size).await?;
            let options = CopyOptions::new().with_mode(CopyMode::Create);
            let copied = created(self.objects.copy_opts(&aside, &key, options).await);
            // What stays there harms nobody; a rule of the bucket may take it away.
            let _ = self.objects.delete(&aside).await;
            copied
        };
        put.await.map_err(failed)
    }

    /// Puts a file's content at a path, in the place of what was there, whole or not at all.
    /// `sha256` is what the file's digest is known to be.
    ///
    /// # Errors
    /// The file cannot be read or the store not written; what was there is untouched.
    pub async fn put_from_file(
        &self,
        path: &str,
        file: File,
        sha256: Sha256,
    ) -> Result<(), StoreError> {
        let failed = |error| self.error("cannot write", path, error);
        let size = file.metadata().map_err(|error| failed(of_file(error)))?.len();
        if let Some(streaming) = self.streaming(size) {
            let body = Body { file: Arc::new(file), size, sha256 };
            let sent = self.stream(streaming, path, body, PutMode::Overwrite).await;
            return sent.map(|_| ()).map_err(failed);
        }
        // A directory takes parts without asking for hard links.
        if size <= PART && !matches!(self.place, Place::Directory(..)) {
            let (read, _file) = read_part(file, size, &self.buffers).await;
            return self.put(path, read.map_err(|error| failed(of_file(error)))?).await;
        }
        self.send_parts(self.objects.as_ref(), path, file, size).await.map_err(failed)
    }

    /// What streams a file of this size, if anything does.
    fn streaming(&self, size: u64) -> Option<&dyn ObjectStore> {
        let uploading = self.uploading.as_ref()?;
        (uploading.streams && size <= uploading.whole).then_some(uploading.objects.as_ref())
    }

    async fn stream(
        &self,
        objects: &dyn ObjectStore,
        path: &str,
        body: Body,
        mode: PutMode,
    ) -> object_store::Result<object_store::PutResult> {
        let permit = self.buffers.permits.acquire().await;
        let _permit = permit.expect("the semaphore is never closed");
        let mut beside = Extensions::new();
        beside.insert(body);
        self.put_through(objects, path, PutPayload::new(), beside, mode).await
    }

    /// Creates an object in parts, as large files are: `None` if this store cannot do that only
    /// where nothing is.
    pub(super) async fn create_in_parts(
        &self,
        path: &str,
        bytes: Bytes,
    ) -> Option<object_store::Result<()>> {
        let Uploading { objects, .. } = self.uploading.as_ref()?;
        let put = async {
            let options = self.multipart_options(path);
            let mut upload = objects.put_multipart_opts(&Key::from(path), options).await?;
            let done = async {
                upload.put_part(PutPayload::from_bytes(bytes)).await?;
                upload.complete().await.map(|_| ())
            };
            let done = done.await;
            if done.is_err() {
                let _ = upload.abort().await;
            }
            done
        };
        Some(put.await)
    }

    async fn send_parts(
        &self,
        objects: &dyn ObjectStore,
        path: &str,
        file: File,
        size: u64,
    ) -> object_store::Result<()> {
        self.send_parts_as(objects, &Key::from(path), path, file, size).await
    }

    /// Sends a file to `key`, with the headers that `path` should have.
    async fn send_parts_as(
        &self,
        objects: &dyn ObjectStore,
        key: &Key,
        path: &str,
        mut file: File,
        size: u64,
    ) -> object_store::Result<()> {
        let (part, at_once) = match self.place {
            Place::Directory(..) => (PIECE, PIECES_AT_ONCE),
            Place::Bucket(_) | Place::Releases(_) => {
                (PART.max(size.div_ceil(MOST_PARTS).next_multiple_of(1 << 20)), PARTS_AT_ONCE)
            }
        };
        let mut upload = objects.put_multipart_opts(key, self.multipart_options(path)).await?;
        let mut running = JoinSet::new();
        let sent = async {
            loop {
                while running.len() >= at_once {
                    joined(running.join_next().await)?;
                }
                let permit = Arc::clone(&self.buffers.permits).acquire_owned().await;
                let permit = permit.expect("the semaphore is never closed");
                let read;
                (read, file) = read_part(file, part, &self.buffers).await;
                let bytes = read.map_err(of_file)?;
                if bytes.is_empty() {
                    break;
                }
                let sending = upload.put_part(PutPayload::from_bytes(bytes));
                running.spawn(async move {
                    let sent = sending.await;
                    drop(permit);
                    sent
                });
            }
            while let Some(done) = running.join_next().await {
                joined(Some(done))?;
            }
            Ok(())
        };
        let sent: object_store::Result<()> = sent.await;
        let done = match sent {
            Ok(()) => upload.complete().await.map(|_| ()),
            Err(error) => Err(error),
        };
        if done.is_err() {
            running.shutdown().await;
            // The first error is the one to tell.
            let _ = upload.abort().await;
        }
        done
    }

    fn multipart_options(&self, path: &str) -> PutMultipartOptions {
        PutMultipartOptions { attributes: self.attributes(path), ..Default::default() }
    }

    /// Puts bytes under a condition.
    ///
    /// `object_store` does not send a conditional request again whose answer was lost. We do: what
    /// it met then may be its own effect, so whoever is refused must look at what is there.
    pub(super) async fn put_if(
        &self,
        path: &str,
        bytes: Bytes,
        mode: PutMode,
    ) -> object_store::Result<object_store::PutResult> {
        let payload = PutPayload::from_bytes(bytes);
        self.put_through(self.objects.as_ref(), path, payload, Extensions::new(), mode).await
    }

    async fn put_through(
        &self,
        objects: &dyn ObjectStore,
        path: &str,
        payload: PutPayload,
        extensions: Extensions,
        mode: PutMode,
    ) -> object_store::Result<object_store::PutResult> {
        let options = PutOptions {
            mode: mode.clone(),
            attributes: self.attributes(path),
            extensions,
            ..PutOptions::default()
        };
        let key = Key::from(path);
        let mut waits = RETRIES.iter();
        loop {
            let put = objects.put_opts(&key, payload.clone(), options.clone()).await;
            match (put, waits.next()) {
                (Err(error), Some(wait))
                    if is_silence(&error) && !matches!(mode, PutMode::Overwrite) =>
                {
                    tracing::debug!(path, %error, "asked again");
                    tokio::time::sleep(*wait).await;
                    // A server that says no in the middle of a body ends the connection, and the
                    // answer may be lost with it. To look costs less than to send all of it again.
                    if matches!(mode, PutMode::Create) && objects.head(&key).await.is_ok() {
                        let (path, source) = (path.to_owned(), Box::new(error));
                        return Err(object_store::Error::AlreadyExists { path, source });
                    }
                }
                (put, _) => return put,
            }
        }
    }
}

fn created<T>(put: object_store::Result<T>) -> object_store::Result<Created> {
    match put {
        Ok(_) => Ok(Created::New),
        Err(error) if is_refused_condition(&error) => Ok(Created::Exists),
        Err(error) => Err(error),
    }
}

fn joined(
    done: Option<Result<object_store::Result<()>, tokio::task::JoinError>>,
) -> object_store::Result<()> {
    done.unwrap_or(Ok(Ok(())))?
}

fn of_file(source: std::io::Error) -> object_store::Error {
    object_store::Error::Generic { store: "image", source: Box::new(source) }
}

/// The room for the parts of all uploads.
///
/// Buffers are used again: freed and allocated anew on one thread after another, such large ones stay
/// with the allocator once for each thread.
#[derive(Debug)]
pub(super) struct Buffers {
    /// How many may be in use.
    pub(super) permits: Arc<Semaphore>,
    free: Mutex<Vec<Vec<u8>>>,
}

impl Default for Buffers {
    fn default() -> Self {
        Self { permits: Arc::new(Semaphore::new(BUFFERS)), free: Mutex::default() }
    }
}

impl Buffers {
    fn free(&self) -> MutexGuard<'_, Vec<Vec<u8>>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A buffer that goes back when nobody needs its bytes any more.
struct Lent {
    bytes: Vec<u8>,
    to: Arc<Buffers>,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let mut bytes = std::mem::take(&mut self.bytes);
        bytes.clear();
        let mut free = self.to.free();
        if free.len() < BUFFERS {
            free.push(bytes);
        }
    }
}

/// The next bytes of a file, on a thread that may wait for the disk.
async fn read_part(
    mut file: File,
    most: u64,
    buffers: &Arc<Buffers>,
) -> (std::io::Result<Bytes>, File) {
    let buffers = Arc::clone(buffers);
    let read = tokio::task::spawn_blocking(move || {
        let mut bytes = buffers.free().pop().unwrap_or_default();
        bytes.reserve_exact(usize::try_from(most).unwrap_or(0));
        let read = (&mut file).take(most).read_to_end(&mut bytes);
        (read.map(|_| Bytes::from_owner(Lent { bytes, to: buffers })), file)
    });
    read.await.expect("reading a file does not panic")
}

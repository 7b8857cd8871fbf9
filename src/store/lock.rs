//! The lock: who may write.
//!
//! Four kinds of protection against a second publisher, the strongest that a store offers:
//!
//! - A directory has a lock file. The kernel's own lock on it decides, so one that a dead process
//!   left behind counts for nothing.
//! - A bucket that compares before it writes needs none: of two publishers one loses the race for
//!   the manifest, and plans again.
//! - A bucket that does not has a lock object with an owner and an expiry, renewed while we work.
//!   It cannot be taken in one step there, so two that start in the same instant may both believe
//!   to have it; the pause after writing it makes that unlikely, not impossible.
//! - Releases compare nothing, but no two of their assets have one name: the lock object that was made
//!   where none was is the only one.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use object_store::PutMode;
use serde::{Deserialize, Serialize};

use super::error::{is_full, is_refused_condition};
use super::{PRIVATE, Place, Store, StoreError, probe};

/// How long a lock object holds that nobody renews.
const LEASE: Duration = Duration::from_secs(120);

/// How long we wait before we believe that nobody else wrote the lock in the same instant.
const SETTLE: Duration = Duration::from_secs(1);

/// Who holds a lock.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Holder {
    /// Its process number.
    pub process: u32,
    /// The machine it runs on.
    pub host: String,
    /// When it took the lock.
    pub since: Timestamp,
    /// Until when it holds, if nobody renews it: a lock object alone has that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
    /// What tells it from every other holder.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    token: String,
}

impl Holder {
    fn this_process() -> Self {
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        Self {
            process: std::process::id(),
            host,
            since: in_seconds(Timestamp::now()),
            expires: None,
            token: String::new(),
        }
    }

    /// This process, told from every other holder.
    fn with_token() -> Self {
        let token = format!("{:032x}", rand::random::<u128>());
        Self { token, ..Self::this_process() }
    }

    /// The text of a lock object that holds from now on.
    fn renewed(&mut self) -> String {
        let expires = Timestamp::now().checked_add(LEASE).unwrap_or(Timestamp::MAX);
        self.expires = Some(in_seconds(expires));
        let text = serde_json::to_string(self).expect("a holder has only text keys");
        format!("{text}\n")
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Anybody may have written it.
        let host = self.host.escape_debug();
        write!(f, "process {} on {host} since {}", self.process, self.since)?;
        self.expires.map_or(Ok(()), |expires| write!(f, ", until {expires} unless renewed"))
    }
}

fn in_seconds(time: Timestamp) -> Timestamp {
    time.round(jiff::Unit::Second).unwrap_or(time)
}

/// The right to write to a store.
#[derive(Debug)]
pub struct Lock(pub(super) Kind);

#[derive(Debug)]
pub(super) enum Kind {
    /// A directory's lock file.
    File(#[expect(dead_code, reason = "it is held, not read")] FileLock),
    /// The bucket compares before it writes.
    Conditional,
    /// A bucket's lock object.
    Object(Box<ObjectLock>),
}

impl Lock {
    /// True if the store itself keeps two writers from overwriting each other.
    pub(super) fn is_conditional(&self) -> bool {
        matches!(self.0, Kind::Conditional)
    }

    /// Whether it still holds; asked before everything that another publisher could have changed.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        match &self.0 {
            Kind::Object(lock) => lock.check(),
            Kind::File(_) | Kind::Conditional => Ok(()),
        }
    }

    /// Holds it for as long as the work takes, and gives it back whatever comes of that.
    pub async fn during<T>(self, work: impl AsyncFnOnce(&Self) -> T) -> T {
        let done = work(&self).await;
        self.release().await;
        done
    }

    /// Gives it back. A lock that is only dropped is gone too: the file at once, the object soon,
    /// if the runtime lives on, else when its time is over.
    pub async fn release(self) {
        if let Kind::Object(lock) = self.0 {
            lock.release().await;
        }
    }
}

impl Store {
    /// Takes the right to write, for as long as the answer lives.
    ///
    /// # Errors
    /// [`StoreError::Locked`] if somebody else has it.
    pub async fn lock(&self) -> Result<Lock, StoreError> {
        match &self.place {
            Place::Directory(..) => FileLock::take(self).map(Kind::File).map(Lock),
            Place::Bucket(_) => match probe::probe(self).await? {
                probe::Found::Compares => Ok(Lock(Kind::Conditional)),
                probe::Found::Ignores(what) => {
                    tracing::warn!(
                        "{self} ignores {what}: a lock object guards it instead, and two publishers that start in the same second could still write over each other; let only one run at a time"
                    );
                    ObjectLock::take(self).await.map(Box::new).map(Kind::Object).map(Lock)
                }
            },
            Place::Releases(releases) => {
                let lock = ObjectLock::create(self).await?;
                // What was read before may be somebody's who has ended since.
                releases.forget().await;
                Ok(Lock(Kind::Object(Box::new(lock))))
            }
        }
    }
}

/// The lock file of a directory, given back when it is dropped.
#[derive(Debug)]
pub(super) struct FileLock {
    path: PathBuf,
    _file: File,
}

impl FileLock {
    fn take(store: &Store) -> Result<Self, StoreError> {
        let path = PathBuf::from(store.locate(PRIVATE)).join("lock");
        let failed = |error: io::Error| StoreError::new("cannot write", path.display(), error);
        loop {
            let mut file = File::options()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                // A link would have us write over whatever it leads to.
                .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed())
                .open(&path)
                .map_err(failed)?;
            match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(rustix::io::Errno::WOULDBLOCK) => {
                    let mut text = String::new();
                    // Whoever holds it may be writing it right now: no holder is no error.
                    let _ = (&mut file).take(4096).read_to_string(&mut text);
                    return Err(StoreError::Locked {
                        path: store.to_string(),
                        holder: serde_json::from_str(&text).ok(),
                    });
                }
                Err(error) => return Err(failed(error.into())),
            }
            // The one before us takes the file away at its end: a lock on a file that is gone is none.
            let held = file.metadata().map_err(failed)?;
            match fs::metadata(&path) {
                Ok(now) if (now.dev(), now.ino()) == (held.dev(), held.ino()) => {}
                Ok(_) => continue,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(failed(error)),
            }
            file.set_len(0).map_err(failed)?;
            file.seek(SeekFrom::Start(0)).map_err(failed)?;
            let holder = serde_json::to_string(&Holder::this_process()).map_err(io::Error::other);
            match holder.and_then(|text| writeln!(file, "{text}")) {
                // The kernel's lock counts, not what is written in it; and who would free some space must
                // not need any for that.
                Err(error) if is_full(error.kind()) => {}
                written => written.map_err(failed)?,
            }
            return Ok(Self { path, _file: file });
        }
    }
}

impl Drop for FileLock {
    fn drop(&mut self) {
        // While we still hold it, so that nobody's else is taken away. A file that stays does no harm.
        let _ = fs::remove_file(&self.path);
    }
}

/// The lock object of a bucket, renewed by a task of its own.
#[derive(Debug)]
pub(super) struct ObjectLock {
    store: Store,
    holder: Holder,
    state: Arc<State>,
    renewal: tokio::task::JoinHandle<()>,
    given_back: bool,
}

#[derive(Debug)]
struct State {
    lost: AtomicBool,
    /// In seconds since 1970.
    expires: AtomicI64,
}

fn lock_path() -> String {
    format!("{PRIVATE}/lock")
}

impl ObjectLock {
    async fn take(store: &Store) -> Result<Self, StoreError> {
        check_free(store).await?;
        let mut holder = Holder::with_token();
        renew(store, &mut holder).await?;
        // The bucket may let two of us write: whoever stands there after a while has it.
        tokio::time::sleep(SETTLE).await;
        Self::held(store, holder).await
    }

    /// The same, where nobody gets a name that is there.
    async fn create(store: &Store) -> Result<Self, StoreError> {
        if check_free(store).await? {
            // Its time is over. Of two that take it away one alone makes the next.
            store.delete(&lock_path()).await?;
        }
        let mut holder = Holder::with_token();
        let text = holder.renewed();
        match store.put_if(&lock_path(), text.into(), PutMode::Create).await {
            Ok(_) => Ok(Self::new(store, holder)),
            // Perhaps our own, whose answer was lost.
            Err(error) if is_refused_condition(&error) => Self::held(store, holder).await,
            Err(error) => Err(store.error("cannot write", &lock_path(), error)),
        }
    }

    /// The lock, if it is ours that is there.
    async fn held(store: &Store, holder: Holder) -> Result<Self, StoreError> {
        match read(store).await? {
            Some(there) if there.token == holder.token => Ok(Self::new(store, holder)),
            there => Err(StoreError::Locked { path: store.to_string(), holder: there }),
        }
    }

    fn new(store: &Store, holder: Holder) -> Self {
        let state = Arc::new(State {
            lost: AtomicBool::new(false),
            expires: AtomicI64::new(holder.expires.map_or(0, Timestamp::as_second)),
        });
        let renewal = tokio::spawn(keep(store.clone(), holder.clone(), state.clone()));
        Self { store: store.clone(), holder, state, renewal, given_back: false }
    }

    fn check(&self) -> Result<(), StoreError> {
        let over = Timestamp::now().as_second() >= self.state.expires.load(Ordering::Relaxed);
        if over || self.state.lost.load(Ordering::Relaxed) {
            return Err(StoreError::LockLost { path: self.store.to_string() });
        }
        Ok(())
    }

    async fn release(mut self) {
        self.given_back = true;
        self.renewal.abort();
        take_away(&self.store, &self.holder).await;
    }
}

impl Drop for ObjectLock {
    fn drop(&mut self) {
        self.renewal.abort();
        // A run that is ended before its time goes on for so long, if whoever ends it waits for that.
        if !self.given_back
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
            && let Ok(writing) = self.store.writes.clone().try_read_owned()
        {
            let (store, holder) = (self.store.clone(), self.holder.clone());
            runtime.spawn(async move {
                take_away(&store, &holder).await;
                drop(writing);
            });
        }
    }
}

/// Takes a lock object away. Somebody else's stays. If this fails, its time runs out by itself.
async fn take_away(store: &Store, holder: &Holder) {
    if let Place::Releases(releases) = &store.place {
        // A renewal that was cut off may have left another.
        releases.forget().await;
    }
    if let Ok(Some(there)) = read(store).await
        && there.token == holder.token
    {
        let _ = store.delete(&lock_path()).await;
    }
}

/// Whether there is a lock whose time is over.
///
/// # Errors
/// [`StoreError::Locked`] if it is not over yet.
async fn check_free(store: &Store) -> Result<bool, StoreError> {
    let seen = store.look(&lock_path()).await?;
    let Some(bytes) = seen.bytes() else { return Ok(false) };
    let holder = serde_json::from_slice::<Holder>(bytes).ok();
    // What nobody can read is as old as the object is.
    let until = holder.as_ref().and_then(|holder| holder.expires);
    let until = until.or(seen.modified().and_then(|at| at.checked_add(LEASE).ok()));
    if until.is_none_or(|until| Timestamp::now() < until) {
        return Err(StoreError::Locked { path: store.to_string(), holder });
    }
    Ok(true)
}

async fn read(store: &Store) -> Result<Option<Holder>, StoreError> {
    let there = store.read(&lock_path()).await?;
    Ok(there.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
}

async fn renew(store: &Store, holder: &mut Holder) -> Result<(), StoreError> {
    let text = holder.renewed();
    store.put(&lock_path(), text).await
}

async fn keep(store: Store, mut holder: Holder, state: Arc<State>) {
    loop {
        tokio::time::sleep(LEASE / 4).await;
        match read(&store).await {
            Ok(Some(there)) if there.token == holder.token => {}
            Ok(_) => {
                state.lost.store(true, Ordering::Relaxed);
                return;
            }
            // Perhaps next time; if never, it runs out.
            Err(_) => continue,
        }
        if renew(&store, &mut holder).await.is_ok() {
            let until = holder.expires.map_or(0, Timestamp::as_second);
            state.expires.store(until, Ordering::Relaxed);
        }
    }
}

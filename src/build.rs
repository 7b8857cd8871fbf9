//! One build: from a planned action to an image on this machine.
//!
//! Owns the way fetch → recipe → image and what is recorded of it. Knows nothing of stores.

use std::collections::HashMap;
use std::io::Read;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use bytes::Bytes;
use thiserror::Error;
use tokio::sync::{OnceCell, Semaphore};

use crate::config::build::Maker;
use crate::config::image::Format;
use crate::config::verity::Verity;
use crate::config::{Component, Config};
use crate::fetch::arriving::Arriving;
use crate::fetch::{Client, FetchError, Fetched};
use crate::image::disk::signature::{Seal, SealError};
use crate::image::disk::{DiskError, Protection};
use crate::image::inspect::InspectError;
use crate::image::squashfs::Pool;
use crate::image::{self, Draft, Identity, Image, ImageError};
use crate::lint;
use crate::name::{FileName, Sha256};
use crate::plan::{Build, assets, inputs};
use crate::recipe::archive::Limits;
use crate::recipe::intake::Intake;
use crate::recipe::{self, Input, RecipeError};
use crate::report::{Progress, Step};
use crate::repository::commit::{InputRecord, RECORD, Record, TOOL};
use crate::scratch::Scratch;
use crate::source::{Location, Private};
use crate::stage::{Stage, StagedError};
use crate::trust::{Guard, TrustError};

pub mod command;
mod copy;
pub mod dispatch;
mod judge;
mod layers;
mod proof;
mod staged;
mod wanted;

use command::{CommandError, Workplace};
use dispatch::DispatchError;
use judge::judge;
use layers::{Fetching, bytes_of};
pub(crate) use wanted::from;
use wanted::{Found, Wanted, locate_all};

/// An image that could not be built.
#[derive(Debug, Error)]
pub enum BuildError {
    /// An asset could not be had, or is not what it should be.
    #[error("cannot fetch {asset}")]
    Fetch {
        /// The asset's file name.
        asset: String,
        /// Why.
        source: FetchError,
    },
    /// Nothing vouches for an asset as it must.
    #[error("cannot trust {asset}")]
    Trust {
        /// The asset's file name.
        asset: String,
        /// Why.
        source: TrustError,
    },
    /// The release has no such asset.
    #[error("the release has no asset `{0}`")]
    NoAsset(String),
    /// Upstream has other bytes than those that the published image was made from.
    #[error(
        "upstream replaced {from}: it had SHA-256 {published} when it was published, and has {now} now"
    )]
    Replaced {
        /// Where it is.
        from: String,
        /// The version, as upstream writes it.
        version: String,
        /// What was published.
        published: Sha256,
        /// What is there now.
        now: Sha256,
    },
    /// A rule that cannot be told for this version.
    #[error("{0}")]
    Rule(String),
    /// The command of `[build]` makes nothing.
    #[error("cannot build")]
    Command(#[from] CommandError),
    /// The workflow of `[build]` makes nothing.
    #[error("cannot build")]
    Dispatch(#[from] DispatchError),
    /// The tree cannot be made.
    #[error("cannot build")]
    Recipe(#[from] RecipeError),
    /// The image cannot be written.
    #[error("cannot build")]
    Image(#[from] ImageError),
    /// What an image is to be signed with is not there.
    #[error("cannot sign the image")]
    Seal(#[from] SealError),
    /// An image of somebody's repository that nodes would not merge, or not survive.
    #[error("{name} of their repository would stop nodes: {problem}")]
    Unfit {
        /// The image.
        name: FileName,
        /// What is wrong in it.
        problem: String,
    },
    /// One with something in it that the component denies.
    #[error("{name} of their repository is refused: {problem}")]
    Denied {
        /// The image.
        name: FileName,
        /// What is in it.
        problem: String,
    },
    /// One that cannot be looked into.
    #[error("{name} of their repository cannot be looked into")]
    Unreadable {
        /// The image.
        name: FileName,
        /// Why.
        source: InspectError,
    },
    /// The image is there, but nobody should have it.
    #[error("{errors}")]
    Lint {
        /// What is wrong with it.
        errors: String,
        /// What to do about it.
        hint: String,
    },
    /// It was to be built elsewhere, and what came from there is not taken.
    #[error(transparent)]
    Staged(#[from] StagedError),
    /// A temporary file on this machine.
    #[error("cannot read or write {path}", path = path.display())]
    Disk {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The build crashed: a mistake of ours, kept from the other builds.
    #[error("the build crashed: {0}")]
    Crashed(String),
}

impl BuildError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Fetch { source, .. } => source.hint(),
            Self::Trust { source, .. } => source.hint(),
            Self::Command(source) => Some(source.hint()),
            Self::Dispatch(source) => source.hint(),
            Self::Recipe(source) => source.hint(),
            Self::Staged(source) => source.hint(),
            Self::Replaced { version, now, .. } => Some(inputs::way_out(version, *now)),
            Self::Disk { .. } | Self::Image(ImageError::Disk { .. }) => {
                Some("builds use the folder of temporary files; $TMPDIR names another".to_owned())
            }
            Self::Unfit { .. } | Self::Unreadable { .. } => Some(
                "it is not published; if it is meant to be so, say `inspect = false` in [source.repository]"
                    .to_owned(),
            ),
            Self::Denied { .. } => Some(
                "it is not published: [lint] deny says so; what is meant is named in [lint] allow".to_owned(),
            ),
            Self::Seal(source)
            | Self::Image(ImageError::Protection { source: DiskError::Seal(source), .. }) => {
                Some(source.hint())
            }
            Self::Image(_) | Self::NoAsset(_) => None,
            Self::Lint { hint, .. } => Some(hint.clone()),
            Self::Rule(_) => Some("leave `when` out, or exclude the version".to_owned()),
            Self::Crashed(_) => Some("please report this with the component's file".to_owned()),
        }
    }
}

/// What all builds of a run share: the client, and how much may happen at once.
#[derive(Debug, Clone)]
pub struct Workshop {
    /// The way to upstreams.
    pub client: Client,
    /// How bytes from outside are bounded.
    pub limits: Limits,
    /// What must vouch for what comes from outside.
    pub guard: Arc<Guard>,
    /// How a person follows it.
    pub progress: Progress,
    /// Images that other machines made: with it, none is made here.
    pub stage: Option<Arc<Stage>>,
    /// Builds under way, from the first byte fetched: what they fetched lies on the disk until they
    /// are done, so fetching must not run far ahead of building.
    under_way: Arc<Semaphore>,
    /// Builds that compute: each unpacks on one thread, and all compress on the threads of `pool`.
    cores: Arc<Semaphore>,
    /// Made when it is first needed.
    pool: Arc<OnceLock<Pool>>,
}

impl Workshop {
    /// A workshop with the configured limits, building on every core.
    #[must_use]
    pub fn new(client: Client, config: &Config, progress: Progress) -> Self {
        let document = &config.document;
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self {
            client,
            limits: Limits {
                bytes: document.limits.unpacked.bytes(),
                entries: document.limits.entries,
            },
            guard: Arc::new(Guard::new(config)),
            progress,
            stage: None,
            under_way: Arc::new(Semaphore::new(document.network.concurrency.get())),
            cores: Arc::new(Semaphore::new(cores)),
            pool: Arc::default(),
        }
    }

    fn pool(&self) -> Result<Pool, BuildError> {
        if let Some(pool) = self.pool.get() {
            return Ok(pool.clone());
        }
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let pool = Pool::new(threads)
            .map_err(|source| ImageError::Squashfs { path: std::env::temp_dir(), source })?;
        Ok(self.pool.get_or_init(|| pool).clone())
    }
}

/// The place where the builds of one component happen. Everything in it goes when it is dropped.
#[derive(Debug)]
pub struct Bench<'w> {
    shop: &'w Workshop,
    component: Arc<Component>,
    folder: Scratch,
    shared: Mutex<HashMap<String, Shared>>,
    /// What was read of the files beside the assets: each is asked for once.
    beside: Mutex<HashMap<String, Beside>>,
}

/// A checksum file or a signature, for all assets that need it.
type Beside = Arc<OnceCell<Result<Bytes, Arc<FetchError>>>>;

/// A download, for all builds that need it.
#[derive(Debug)]
struct Shared {
    /// A failure is shared, too: asking again for each build would only take longer.
    file: Arc<OnceCell<Result<Fetched, Arc<FetchError>>>>,
    /// The same file, for who reads it while it comes.
    arriving: Arriving,
    /// Builds that are not done with it.
    users: usize,
}

impl<'w> Bench<'w> {
    /// A bench for these builds of a component.
    ///
    /// # Errors
    /// There is no folder for temporary files.
    pub fn new<'b>(
        shop: &'w Workshop,
        component: &Arc<Component>,
        builds: impl IntoIterator<Item = &'b Build>,
    ) -> Result<Self, BuildError> {
        let folder = Scratch::new()
            .map_err(|source| BuildError::Disk { path: std::env::temp_dir(), source })?;
        let (component, shared) = (component.clone(), Mutex::default());
        let bench = Self { shop, component, folder, shared, beside: Mutex::default() };
        for build in builds {
            // What is wrong with a build is told when its turn comes.
            let wanted = locate_all(&bench.component, build);
            for url in wanted.iter().flatten().filter_map(Found::url) {
                bench.with_shared(url, |download| download.users += 1);
            }
        }
        Ok(bench)
    }

    fn with_shared<T>(&self, url: &str, then: impl FnOnce(&mut Shared) -> T) -> T {
        let mut shared = self.shared();
        let download = shared.entry(url.to_owned()).or_insert_with(|| Shared {
            file: Arc::default(),
            arriving: Arriving::at(self.path_of(url)),
            users: 0,
        });
        then(download)
    }

    /// Builds an image; it lies in this bench's folder. Of a mirror, it may be several files.
    ///
    /// # Errors
    /// Whatever stands in the way; nothing of a half image is of use.
    pub async fn build(&self, build: &Build) -> Result<Vec<(Image, Record)>, BuildError> {
        let located = locate_all(&self.component, build)?;
        if let Some(stage) = self.staged() {
            return self.take(stage, located, build).await.map(|image| vec![image]);
        }
        let _place = self.shop.under_way.acquire().await.expect("the semaphore is never closed");
        let wanted = self.look_up(located, build).await?;
        let images = match self.component.image.format {
            Format::Mirrored => self.copy(build, &wanted).await,
            Format::Squashfs { .. } | Format::Erofs { .. } | Format::None => {
                self.build_from(build, &wanted).await.map(|image| vec![image])
            }
        };
        wanted.iter().filter_map(Wanted::url).for_each(|url| self.done_with(url));
        images
    }

    async fn build_from(
        &self,
        build: &Build,
        wanted: &[Wanted],
    ) -> Result<(Image, Record), BuildError> {
        let files: Vec<Fetching> = wanted
            .iter()
            .map(|asset| Fetching {
                rule: asset.rule,
                name: asset.name.clone(),
                layer: asset.layer.is_some(),
                file: self.arriving(asset),
            })
            .collect();
        let fetch = async {
            let assets = wanted.iter().zip(&files);
            let fetched = assets.map(|(asset, fetching)| self.fetch(build, asset, &fetching.file));
            let fetched = futures::future::try_join_all(fetched).await;
            if fetched.is_err() {
                for fetching in &files {
                    fetching.file.abandon();
                }
            }
            fetched.map(|inputs| inputs.into_iter().flatten().collect::<Vec<_>>())
        };
        let (inputs, (image, time)) = if let Some(rule) = &self.component.build {
            // Nothing runs over what nobody has vouched for yet.
            let mut inputs = fetch.await?;
            self.check_inputs(build, &inputs)?;
            let left = match &rule.by {
                Maker::Command(command) => {
                    let _core = self.shop.cores.acquire().await.expect("it is never closed");
                    Left::Here(self.command(command, rule.timeout, build, &files).await?)
                }
                Maker::Workflow(workflow) => {
                    let (archive, record) = self.dispatch(workflow, rule.timeout, build).await?;
                    inputs.push(record);
                    Left::Archive(archive)
                }
            };
            let _core = self.shop.cores.acquire().await.expect("it is never closed");
            (inputs, self.run(self.job(build, &files, Some(left))?).await?)
        // With a core to spare the image is made of what has come of the files so far, and counts
        // only when all of them turned out to be what they should. Else they are waited for, so
        // that a slow server keeps no core from what is here already.
        } else if let Ok(_core) = self.shop.cores.try_acquire() {
            let begun = || files.iter().map(|fetching| fetching.file.begun()).collect::<Vec<_>>();
            let before = begun();
            let (inputs, made) = tokio::join!(fetch, self.run(self.job(build, &files, None)?));
            let inputs = inputs?;
            self.check_inputs(build, &inputs)?;
            // A download that was begun anew has lost those who read along.
            let anew = begun().into_iter().zip(before).any(|(now, then)| now > then.max(1));
            match made {
                Err(_) if anew => (inputs, self.run(self.job(build, &files, None)?).await?),
                made => (inputs, made?),
            }
        } else {
            let inputs = fetch.await?;
            self.check_inputs(build, &inputs)?;
            let _core = self.shop.cores.acquire().await.expect("it is never closed");
            (inputs, self.run(self.job(build, &files, None)?).await?)
        };
        self.warn(build, &image);
        let record = record(build, &image, time, inputs);
        Ok((image, record))
    }

    /// Says what is odd about an image.
    fn warn(&self, build: &Build, image: &Image) {
        let subject = format!("{} {} {}", self.component.name, build.shown, build.arch);
        for line in lint::warnings(&subject, &image.findings) {
            self.shop.progress.line(&line);
        }
    }

    /// Other bytes than before under the same name are upstream's mistake, or an attack.
    fn check_inputs(&self, build: &Build, inputs: &[InputRecord]) -> Result<(), BuildError> {
        inputs.iter().try_for_each(|input| self.check_input(build, &input.from, input.sha256))
    }

    fn check_input(&self, build: &Build, from: &str, now: Sha256) -> Result<(), BuildError> {
        let accepted = inputs::accepted(&self.component, &build.upstream);
        let before = build.expects.iter().find(|before| before.from == from);
        match before.map(|before| before.sha256) {
            Some(published) if published != now && !accepted.contains(&now) => {
                Err(BuildError::Replaced {
                    from: from.to_owned(),
                    version: build.upstream.clone(),
                    published,
                    now,
                })
            }
            _ => Ok(()),
        }
    }

    fn job(
        &self,
        build: &Build,
        files: &[Fetching],
        left: Option<Left>,
    ) -> Result<Job, BuildError> {
        Ok(Job {
            component: self.component.clone(),
            build: build.clone(),
            files: files.to_vec(),
            left,
            limits: self.shop.limits,
            folder: self.folder.path().to_owned(),
            pool: self.shop.pool()?,
        })
    }

    /// Runs a job on a thread of its own.
    async fn run(&self, job: Job) -> Result<(Image, u64), BuildError> {
        let task = self.shop.progress.begin(Step::Build, job.build.image.as_str());
        let done = tokio::task::spawn_blocking(move || {
            let made = job.run(&|done| task.bytes(done, None))?;
            task.finish(made.0.size);
            Ok(made)
        });
        done.await.map_err(|error| BuildError::Crashed(error.to_string()))?
    }

    /// Where an asset is, or will be.
    fn arriving(&self, asset: &Wanted) -> Arriving {
        match &asset.at {
            Location::Url(url) => self.with_shared(url, |download| download.arriving.for_one()),
            Location::File(path) => Arriving::at(path.clone()),
        }
    }

    async fn download(&self, url: &str, asset: &Wanted) -> Result<Fetched, FetchError> {
        let (cell, to) =
            self.with_shared(url, |download| (download.file.clone(), download.arriving.clone()));
        let fetched =
            cell.get_or_init(async || self.download_now(url, asset, &to).await.map_err(Arc::new));
        fetched.await.clone().map_err(FetchError::Shared)
    }

    async fn download_now(
        &self,
        url: &str,
        asset: &Wanted,
        to: &Arriving,
    ) -> Result<Fetched, FetchError> {
        let task = self.shop.progress.begin(Step::Fetch, &asset.name);
        let progress = |done, total| task.bytes(done, total);
        let client = &self.shop.client;
        let headers = asset.layer.as_ref().map(|layer| layer.headers.clone()).unwrap_or_default();
        let download = async |url: &str, headers| client.download(url, headers, to, progress).await;
        let private = asset.private.as_ref();
        let fetched = Private::either(private, client, (url, headers), download).await?;
        task.finish(fetched.size);
        Ok(fetched)
    }

    /// The last one who is done with a download takes it away.
    fn done_with(&self, url: &str) {
        let mut shared = self.shared();
        let Some(download) = shared.get_mut(url) else { return };
        download.users = download.users.saturating_sub(1);
        if download.users == 0 {
            shared.remove(url);
            // If this fails, the whole folder goes soon.
            let _ = std::fs::remove_file(self.path_of(url));
        }
    }

    /// An upstream's file name is no name for a file here.
    fn path_of(&self, url: &str) -> PathBuf {
        self.folder.path().join(format!("asset-{}", Sha256::of(url.as_bytes())))
    }

    fn shared(&self) -> MutexGuard<'_, HashMap<String, Shared>> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is recorded of an image.
fn record(build: &Build, image: &Image, time: u64, inputs: Vec<InputRecord>) -> Record {
    Record {
        version: RECORD,
        tool: TOOL.to_owned(),
        sha256: image.sha256,
        size: image.size,
        time,
        release: Some(build.version.clone()),
        revision: build.revision,
        recipe: Some(build.recipe),
        inputs,
        companions: build.company.record(),
        contents: image.contents.clone(),
        published: None,
    }
}

/// Digest and size of a file that is here already.
async fn hash(file: Arriving) -> Result<Fetched, BuildError> {
    let path = file.path().to_owned();
    let hashed = tokio::task::spawn_blocking(move || {
        file.is_here()?;
        // The very file that the image is made of, whatever is at its path by then.
        Sha256::of_reader(&mut file.open())
    });
    match hashed.await {
        Ok(Ok((sha256, size))) => Ok(Fetched { path, sha256, size }),
        Ok(Err(source)) => Err(BuildError::Disk { path, source }),
        Err(error) => Err(BuildError::Crashed(error.to_string())),
    }
}

/// What was made for an image before it is one.
enum Left {
    /// By a command, where it worked.
    Here(Workplace),
    /// By a workflow, in an archive.
    Archive(Arriving),
}

/// The part of a build that only computes, for a thread of its own.
struct Job {
    component: Arc<Component>,
    build: Build,
    files: Vec<Fetching>,
    /// What was made elsewhere, if anything was.
    left: Option<Left>,
    limits: Limits,
    folder: PathBuf,
    pool: Pool,
}

impl Job {
    /// The image, and what it is dated.
    fn run(&self, progress: &image::Progress<'_>) -> Result<(Image, u64), BuildError> {
        let Self { component, build, limits, folder, .. } = self;
        let vars = build.vars(component);
        let rules = assets::applicable(component, &build.upstream).map_err(BuildError::Rule)?;
        let inputs: Vec<Input<'_>> = rules
            .into_iter()
            .zip(self.files.chunk_by(|one, other| one.rule == other.rule).filter_map(bytes_of))
            .map(|(rule, (name, bytes))| Input { rule, name, bytes })
            .collect();
        let path = folder.join(build.image.as_str());
        // What an earlier attempt left, whose download was begun anew.
        match std::fs::remove_file(&path) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                return Err(BuildError::Disk { path, source });
            }
            _ => {}
        }
        let Some(codec) = image::packed(component.image.format) else {
            let mut intake = Intake::on_disk(folder);
            let (file, newest) = recipe::whole(component, &vars, &inputs, limits, &mut intake)?;
            let mut image = image::copy(&file, &build.image, &path)?;
            image.findings = judge::judge_whole(component, &image)?;
            return Ok((image, date(build, newest)));
        };
        let protection = self.protection()?;
        let mut draft = Draft::new(codec, build.arch, &self.pool, &path, protection, progress)?;
        let mut keep = |reader: &mut dyn Read| draft.take(reader);
        let mut intake = Intake::into_image(folder, &mut keep);
        let root = match &self.left {
            Some(Left::Here(place)) => Some(place.root()),
            _ => None,
        };
        let left = match &self.left {
            None => None,
            Some(Left::Here(_)) => root.as_deref().map(recipe::Left::Folder),
            Some(Left::Archive(archive)) => Some(recipe::Left::Archive(archive)),
        };
        let made = recipe::make(component, build.arch, &vars, &inputs, left, limits, &mut intake)?;
        let identity = Identity {
            component: &component.name,
            name: &build.image,
            arch: build.arch,
            extension: &component.extension,
            services: !component.services.enable.is_empty(),
        };
        let time = date(build, made.newest);
        let mut image = draft.finish(made.tree, &identity, &component.xattrs, time)?;
        image.findings = judge(component, &image)?;
        Ok((image, time))
    }
}

impl Job {
    /// What the image is protected with, if it is to be.
    fn protection(&self) -> Result<Option<Protection>, SealError> {
        let Some(verity) = &self.component.image.verity else { return Ok(None) };
        let seal = match verity {
            Verity::Tree => None,
            Verity::Signed(rule) => Some(Seal::open(rule)?),
        };
        Ok(Some(Protection::new(&self.build.image, self.build.arch, seal)))
    }
}

/// What everything in the image is dated: as before, if it was published before; else
/// `SOURCE_DATE_EPOCH`, or the day of the release, or the
/// newest date in its archives. Never the time of the build.
fn date(build: &Build, newest: Option<u64>) -> u64 {
    let epoch = || std::env::var("SOURCE_DATE_EPOCH").ok()?.parse().ok();
    build
        .time
        .or_else(epoch)
        .or_else(|| u64::try_from(build.release.published?.as_second()).ok())
        .or(newest)
        .unwrap_or(0)
}

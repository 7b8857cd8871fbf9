//! `[build]`: a command makes what is in an image.
//!
//! Owns the world it finds: what it is given, where it works, how long. Refuses to know how it is kept
//! apart from this machine (`walls`), and what its files are worth, which is the recipe's to say.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;
use thiserror::Error;

use super::layers::Fetching;
use super::{Bench, BuildError, date};
use crate::child::{self, Followed, at_the_end};
use crate::config::build::{CommandRule, Variable};
use crate::config::trust::Strength;
use crate::name::Arch;
use crate::plan::Build;
use crate::report::Step;
use crate::trust::TrustError;

mod log;
pub(crate) mod walls;

use log::Log;
use walls::Place;

/// A command that makes no image.
#[derive(Debug, Error)]
pub enum CommandError {
    /// It does not start.
    #[error("cannot run `{program}`")]
    Start {
        /// The program.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// It started, but cannot be followed.
    #[error("lost sight of `{program}`")]
    Lost {
        /// The program.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// It failed by its own account, or took too long.
    #[error("`{program}` {ended}{}", at_the_end(said))]
    Failed {
        /// The program.
        program: String,
        /// How it ended.
        ended: String,
        /// The end of what it said.
        said: Vec<String>,
        /// What to do about it.
        hint: String,
    },
    /// The folder that it was to fill is another thing now.
    #[error("`{0}` left no folder where PUBLISH_ROOT was")]
    Root(String),
    /// This machine cannot keep it from the network.
    #[error("this machine does not let a command run without the network: {0}")]
    Network(String),
    /// There is nothing to run a container with.
    #[error("there is no {0} to run a container with")]
    Engine(String),
    /// An asset that has no name to lie there under.
    #[error("the asset `{0}` cannot be given to the command: {1}")]
    Asset(String, &'static str),
    /// Its folder cannot be made.
    #[error("cannot read or write {path}", path = path.display())]
    Disk {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl CommandError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> String {
        let text = match self {
            Self::Start { source, .. } => match source.kind() {
                io::ErrorKind::NotFound => {
                    "a path is relative to the folder beside the component's file: \"./build.sh\" is NAME/build.sh; a name without a slash is looked for in PATH"
                }
                io::ErrorKind::PermissionDenied => "make it executable: chmod +x",
                _ => "run it by hand",
            },
            Self::Failed { hint, .. } => hint,
            Self::Root(_) => {
                "fill the folder and let it stay: a link or a file in its place is not followed"
            }
            Self::Network(_) => {
                "allow user namespaces, build in a `container`, or let it have the network: network = true"
            }
            Self::Engine(_) => {
                "install podman or docker, or leave `container` out to run it on this machine"
            }
            Self::Asset(..) => "pick files of it in [asset.files] instead",
            Self::Lost { .. } => "run it by hand; nothing is taken away meanwhile",
            Self::Disk { .. } => "builds use the folder of temporary files; $TMPDIR names another",
        };
        text.to_owned()
    }
}

/// Where a command worked. It goes when this does.
#[derive(Debug)]
pub(super) struct Workplace(TempDir);

impl Workplace {
    /// What it left for the image.
    pub(super) fn root(&self) -> PathBuf {
        self.0.path().join("root")
    }

    fn work(&self) -> PathBuf {
        self.0.path().join("work")
    }

    /// Makes the folders, and copies the assets: what a command does to its own must not reach those
    /// of other builds.
    fn new(below: &Path, files: &[(String, Fetching)]) -> Result<Self, CommandError> {
        let disk = |path: &Path| {
            let path = path.to_owned();
            move |source| CommandError::Disk { path, source }
        };
        let folder = tempfile::Builder::new().prefix("build-").tempdir_in(below);
        let place = Self(folder.map_err(disk(below))?);
        let assets = place.work().join("assets");
        for folder in [&place.root(), &assets, &place.work().join("tmp")] {
            fs::create_dir_all(folder).map_err(disk(folder))?;
        }
        for (name, fetched) in files {
            let path = assets.join(name);
            let copied = File::create_new(&path)
                .and_then(|mut to| io::copy(&mut fetched.file.open(), &mut to));
            copied.map_err(|source| match source.kind() {
                io::ErrorKind::AlreadyExists => {
                    CommandError::Asset(name.clone(), "another one is called like it")
                }
                _ => CommandError::Disk { path, source },
            })?;
        }
        Ok(place)
    }
}

impl Bench<'_> {
    /// Runs the command of a build over assets that are all here and vouched for.
    pub(super) async fn command(
        &self,
        rule: &CommandRule,
        limit: Duration,
        build: &Build,
        files: &[Fetching],
    ) -> Result<Workplace, BuildError> {
        if files.is_empty() && Strength::Nothing < self.shop.guard.require {
            let (has, wants) = (Strength::Nothing, self.shop.guard.require);
            let source = TrustError::TooWeak { has, wants };
            return Err(BuildError::Trust { asset: rule.product(), source });
        }
        let given = files.iter().filter(|fetching| !fetching.layer);
        let given = given.map(|fetching| Ok((file_name(&fetching.name)?, fetching.clone())));
        let given = given.collect::<Result<Vec<_>, CommandError>>()?;
        let below = self.folder.path().to_owned();
        let place = tokio::task::spawn_blocking(move || Workplace::new(&below, &given)).await;
        let workplace = place.map_err(|error| BuildError::Crashed(error.to_string()))??;
        let place = Place {
            root: workplace.root(),
            work: workplace.work(),
            folder: self.component.overlay.clone(),
            variables: self.variables(build),
            extra: rule.env.iter().map(Variable::as_str).map(str::to_owned).collect(),
        };
        let task =
            self.shop.progress.begin(Step::Run, &format!("{} for {}", rule.shown(), build.image));
        let log = Log::new(&self.component.name, build.image.stem());
        attend(rule, limit, build.arch, &place, log).await?;
        if !fs::symlink_metadata(&place.root).is_ok_and(|found| found.is_dir()) {
            let program = rule.command.program().escape_debug().to_string();
            return Err(CommandError::Root(program).into());
        }
        task.finish(0);
        Ok(workplace)
    }

    /// What a command is told, besides where it works.
    fn variables(&self, build: &Build) -> Vec<(String, String)> {
        let mut told = [
            ("PUBLISH_COMPONENT", self.component.name.to_string()),
            ("PUBLISH_VERSION", build.upstream.clone()),
            ("PUBLISH_TAG", build.release.tag.clone()),
            ("PUBLISH_ARCH", build.arch.to_string()),
            ("PUBLISH_UPSTREAM_ARCH", build.upstream_arch.clone()),
            ("SOURCE_DATE_EPOCH", date(build, None).to_string()),
            ("LANG", "C.UTF-8".to_owned()),
            ("TZ", "UTC".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .to_vec();
        told.extend(build.beside.iter().map(|companion| {
            let name = companion.name.to_uppercase().replace(['-', '.'], "_");
            (format!("PUBLISH_{name}_VERSION"), companion.version.clone())
        }));
        told
    }
}

/// An upstream's name for a file, where it can be one here.
fn file_name(name: &str) -> Result<String, CommandError> {
    let legal = !matches!(name, "" | "." | "..")
        && name.len() <= 255
        && !name.contains('/')
        && !name.contains(char::is_control);
    if legal {
        return Ok(name.to_owned());
    }
    Err(CommandError::Asset(name.escape_debug().to_string(), "its name is none for a file"))
}

/// Runs it to its end, and everything that it started.
async fn attend(
    rule: &CommandRule,
    limit: Duration,
    arch: Arch,
    place: &Place,
    mut log: Log,
) -> Result<(), CommandError> {
    let program = rule.command.program().escape_debug().to_string();
    let (command, container) = walls::around(rule, arch, place).await?;
    let mut running = Followed::start(command)
        .map_err(|source| CommandError::Start { program: program.clone(), source })?;
    let ended = running.watch(limit, &mut |bytes| log.hear(bytes)).await;
    drop(running);
    drop(container);
    let ended = match ended {
        Err(source) => return Err(CommandError::Lost { program, source }),
        Ok(Some(status)) if status.success() => return Ok(()),
        Ok(Some(status)) => child::how(status),
        Ok(None) => child::too_long(limit),
    };
    let foreign = rule.container.is_some() && Arch::native() != Some(arch);
    let mut hint = match log.path() {
        Some(path) => format!("all that it said is in {}", path.display()),
        None => "with $XDG_STATE_HOME or $HOME set, all that it says is kept".to_owned(),
    };
    if foreign {
        hint.push_str("; a container for another architecture needs qemu's user emulation registered with the kernel");
    }
    Err(CommandError::Failed { program, ended, said: log.lines(), hint })
}

/// A variable of our own environment, for a command that may have it.
fn ours(name: &str) -> Option<(String, OsString)> {
    Some((name.to_owned(), std::env::var_os(name)?))
}

//! Trials: a program of a finished image runs, over a base such as a node has.
//!
//! Owns the world that it runs in, and what counts as well. It is no prison: what is tried here runs as
//! root on every node anyway. Refuses to know how images are made.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, openat2};
use rustix::io::Errno;
use serde::Serialize;
use thiserror::Error;

use crate::child::{self, Followed, LastWords, at_the_end};
use crate::config::build::TestRule;
use crate::image::inspect::InspectError;
use crate::image::unpack;
use crate::name::Arch;
use crate::scratch::Scratch;

/// Makes the world.
const WORLD: &str = include_str!("trial/world.sh");

/// How many lines of what it says are shown.
const SHOWN: usize = 20;

/// How much of it is looked at, in bytes.
const LOOKED_AT: usize = 1 << 20;

/// A trial that did not go well.
#[derive(Debug, Error)]
pub enum TrialError {
    /// The program failed, or took too long.
    #[error("`{program}` {ended}{}", at_the_end(said))]
    Failed {
        /// The program.
        program: String,
        /// How it ended.
        ended: String,
        /// The end of what it said.
        said: Vec<String>,
    },
    /// There is no such program in it, whatever the base has.
    #[error("the image has no program `{0}`")]
    Missing(String),
    /// It ran, but said something else.
    #[error("`{program}` said nothing that matches `{expected}`{}", at_the_end(said))]
    Unexpected {
        /// The program.
        program: String,
        /// What it should say.
        expected: String,
        /// The end of what it said.
        said: Vec<String>,
    },
    /// The image cannot be unpacked.
    #[error("cannot unpack the image")]
    Image(#[from] InspectError),
    /// Something on this machine.
    #[error("cannot try it")]
    Here(#[from] io::Error),
}

impl TrialError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Failed { .. } => Some(
                "a library that it needs may be missing on the base, too: --base DIR takes another; `timeout` in [test] gives it longer",
            ),
            Self::Missing(_) => Some(
                "`run` in [test] names a program of the image itself: `publish inspect --list IMAGE` lists what it has",
            ),
            Self::Unexpected { .. } => {
                Some("`expect` is a regular expression, and finds its text anywhere")
            }
            Self::Image(_) | Self::Here(_) => None,
        }
    }
}

/// What came of a trial.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tried {
    /// It ran, and said this at the end.
    Passed(Vec<String>),
    /// It could not be tried here, and why.
    Skipped(String),
    /// It did not go well, as its error tells.
    Failed,
}

/// Runs the program of a component's `[test]` in an image of this version, over the `/usr` of a base.
///
/// # Errors
/// It did not go well.
pub async fn try_out(
    image: &Path,
    (version, arch): (&str, Arch),
    rule: &TestRule,
    base: &Path,
) -> Result<Tried, TrialError> {
    let native = Arch::native();
    if native != Some(arch) {
        let here = native.map_or("another one", Arch::as_str);
        return Ok(Tried::Skipped(format!("it is for {arch}, and this machine is {here}")));
    }
    let scratch = Scratch::new()?;
    let [tree, world, home] = ["tree", "world", "home"].map(|name| scratch.path().join(name));
    for folder in [&tree, &world, &home] {
        std::fs::create_dir(folder)?;
    }
    let from = image.to_owned();
    let unpacked = tokio::task::spawn_blocking({
        let tree = tree.clone();
        move || unpack::unpack(&from, &tree)
    });
    unpacked.await.map_err(io::Error::other)??;
    let ready = home.join("ready");
    let named = rule.run.program().escape_debug().to_string();
    let program = match in_image(&tree, rule.run.program()) {
        Ok(Some(program)) => program,
        Ok(None) => return Err(TrialError::Missing(named)),
        Err(error) => {
            return Ok(Tried::Skipped(format!("this machine cannot look for it: {error}")));
        }
    };
    let mut command = child::tied("unshare").await;
    command
        .args(["--user", "--map-root-user", "--mount", "--net", "--pid", "--fork"])
        .args(["--kill-child", "--", "sh", "-c", WORLD, "publish"])
        .args([&tree, &std::path::absolute(base)?, &world, &ready])
        .arg(&program)
        .args(rule.run.arguments())
        .env_clear()
        .env("PATH", child::path())
        .envs([("HOME", "/root"), ("LANG", "C.UTF-8"), ("TERM", "dumb")])
        .envs([("PUBLISH_VERSION", version), ("PUBLISH_ARCH", arch.as_str())])
        .current_dir("/");
    let (mut words, mut text) = (LastWords::new(SHOWN), Vec::new());
    let mut hear = |bytes: &[u8]| {
        words.hear(bytes);
        text.extend(&bytes[..bytes.len().min(LOOKED_AT - text.len())]);
    };
    let ended = match Followed::start(command) {
        Ok(mut running) => running.watch(rule.timeout, &mut hear).await?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(Tried::Skipped("this machine has no `unshare` of util-linux".to_owned()));
        }
        Err(error) => return Err(error.into()),
    };
    let said = words.lines();
    if !ready.exists() && ended.is_some() {
        let why = said.last().map_or("it does not say why", String::as_str);
        return Ok(Tried::Skipped(format!("this machine makes no room for it: {why}")));
    }
    let program = named;
    let ended = match ended {
        Some(status) if status.success() => match &rule.expect {
            Some(expected) if !expected.is_in(String::from_utf8_lossy(&text).trim_end()) => {
                let expected = expected.as_str().escape_debug().to_string();
                return Err(TrialError::Unexpected { program, expected, said });
            }
            _ => return Ok(Tried::Passed(said)),
        },
        Some(status) => child::how(status),
        None => child::too_long(rule.timeout),
    };
    Err(TrialError::Failed { program, ended, said })
}

/// Where an unpacked image has a program, as a path from its root. A name alone is looked for where a
/// node would, and links lead nowhere but within the image: the base has programs of its own.
fn in_image(tree: &Path, program: &str) -> io::Result<Option<PathBuf>> {
    let folder = File::open(tree)?;
    let path = program.trim_start_matches('/');
    let places: &[&str] = if program.contains('/') {
        // A node has links at its root: `bin` is `usr/bin`.
        &["", "usr"]
    } else {
        &["usr/local/sbin", "usr/local/bin", "usr/sbin", "usr/bin"]
    };
    for place in places {
        let at = Path::new(place).join(path);
        let within = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        match openat2(&folder, &at, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), within) {
            Ok(found) if FileType::from_raw_mode(fstat(&found)?.st_mode).is_file() => {
                return Ok(Some(Path::new("/").join(at)));
            }
            Ok(_) | Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(None)
}

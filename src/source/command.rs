//! Versions that a program prints.
//!
//! Owns running it, within bounds and with its children, and reading what it printed. The program
//! is the operator's own, and runs as he does; what it prints comes from somewhere else.

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use serde::Deserialize;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt};

use super::{Asset, LONGEST, Listing, Location, MOST, Release, date};
use crate::child::{self, Group};
use crate::config::Component;
use crate::config::source::{CommandRule, HttpUrl};
use crate::name::Sha256;

/// The most that a program may print, in bytes.
const OUTPUT: u64 = 16 << 20;

/// How many lines of its messages are shown.
const LINES: usize = 8;

/// What of our own environment a program is given; the rest may hold secrets that are none of its
/// business.
const ENVIRONMENT: [&str; 16] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "LANG",
    "LC_ALL",
    "TZ",
    "TMPDIR",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "NO_PROXY",
    "https_proxy",
    "http_proxy",
    "no_proxy",
];

/// A command that tells no versions.
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
    /// It takes too long.
    #[error("`{program}` took longer than {} s and was killed", waited.as_secs_f32())]
    Slow {
        /// The program.
        program: String,
        /// Its time limit.
        waited: Duration,
    },
    /// It failed by its own account.
    #[error("`{program}` {ended}{}", said(messages))]
    Failed {
        /// The program.
        program: String,
        /// How it ended.
        ended: String,
        /// The end of what it wrote to stderr.
        messages: String,
    },
    /// It printed too much, or what is no version.
    #[error("`{program}` {problem}")]
    Output {
        /// The program.
        program: String,
        /// What is wrong.
        problem: String,
    },
    /// It printed nothing. That is never taken for "nothing new".
    #[error("`{program}` printed no version{}", said(messages))]
    Nothing {
        /// The program.
        program: String,
        /// The end of what it wrote to stderr.
        messages: String,
    },
}

fn said(messages: &str) -> String {
    if messages.is_empty() { String::new() } else { format!(", and said: {messages}") }
}

impl CommandError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::Start { source, .. } => match source.kind() {
                io::ErrorKind::NotFound => {
                    "a path is relative to the component's file, such as \"./versions.sh\"; a name without a slash is looked for in PATH"
                }
                io::ErrorKind::PermissionDenied => "make it executable: chmod +x",
                _ => "run it by hand in the folder of the component's file",
            },
            Self::Slow { .. } => "raise `timeout` in [source.command] if it just needs longer",
            Self::Lost { .. } | Self::Failed { .. } | Self::Nothing { .. } => {
                "run it by hand in the folder of the component's file; nothing is taken away meanwhile"
            }
            Self::Output { .. } => {
                "it prints a version a line, or a JSON list of objects with `version`; see docs/sources/command.md"
            }
        }
        .to_owned()
    }
}

/// One release, where a program prints JSON.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Printed {
    version: String,
    date: Option<String>,
    #[serde(default)]
    prerelease: bool,
    #[serde(default)]
    assets: Vec<PrintedAsset>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PrintedAsset {
    name: String,
    url: String,
    sha256: Option<Sha256>,
    size: Option<u64>,
}

/// Every version that the program prints.
pub(super) async fn poll(
    rule: &CommandRule,
    component: &Component,
) -> Result<Listing, CommandError> {
    let program = rule.run.first().map(String::as_str).unwrap_or_default().to_owned();
    let run = run(rule, component, &program);
    let (status, output, messages) = match tokio::time::timeout(rule.timeout, run).await {
        Ok(ended) => ended?,
        // Whatever is left of it was killed when it was let go of.
        Err(_) => return Err(CommandError::Slow { program, waited: rule.timeout }),
    };
    if !status.success() {
        return Err(CommandError::Failed { program, ended: child::how(status), messages });
    }
    let wrong = |problem| CommandError::Output { program: program.clone(), problem };
    let text = std::str::from_utf8(&output).map_err(|_| wrong("printed no text".to_owned()))?;
    let releases = read(text).map_err(wrong)?;
    if releases.is_empty() {
        return Err(CommandError::Nothing { program, messages });
    }
    Ok(Listing::whole(releases))
}

/// Runs the program to its end: how it ended, what it printed, and what it said last.
async fn run(
    rule: &CommandRule,
    component: &Component,
    program: &str,
) -> Result<(ExitStatus, Vec<u8>, String), CommandError> {
    let lost = |source| CommandError::Lost { program: program.to_owned(), source };
    let start = |source| CommandError::Start { program: program.to_owned(), source };
    // An empty path is the current folder, but not to `chdir`; and a path must not become another one
    // where the program starts.
    let folder = std::path::absolute(PathBuf::from(".").join(&rule.folder)).map_err(lost)?;
    let path = child::find(program, &folder).map_err(start)?;
    let mut command = child::tied(path).await;
    command
        .args(rule.run.iter().skip(1))
        .current_dir(folder)
        .env_clear()
        .envs(ENVIRONMENT.iter().filter_map(|name| Some((name, std::env::var_os(name)?))))
        .env("PATH", child::path())
        .env("PUBLISH_COMPONENT", component.name.as_str())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut group = Group::start(command).map_err(start)?;
    let child = group.child();
    let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
        return Err(lost(io::ErrorKind::BrokenPipe.into()));
    };
    let (output, messages) =
        futures::future::try_join(printed(stdout), child::last_words(stderr, LINES))
            .await
            .map_err(lost)?;
    let Some(output) = output else {
        let problem = format!("printed more than {} MiB", OUTPUT >> 20);
        return Err(CommandError::Output { program: program.to_owned(), problem });
    };
    // Who closed both may still run, and is waited for within the time limit.
    let status = group.child().wait().await.map_err(lost)?;
    Ok((status, output, messages.lines().join("; ")))
}

/// What is printed, unless it is too much.
async fn printed(from: impl AsyncRead + Unpin) -> io::Result<Option<Vec<u8>>> {
    let mut output = Vec::new();
    from.take(OUTPUT + 1).read_to_end(&mut output).await?;
    Ok(Some(output).filter(|output| output.len() as u64 <= OUTPUT))
}

/// Versions, one a line, or a JSON list.
fn read(text: &str) -> Result<Vec<Release>, String> {
    if text.trim_start().starts_with('[') {
        let printed: Vec<Printed> = serde_json::from_str(text)
            .map_err(|error| format!("printed JSON that is no list of versions: {error}"))?;
        if printed.len() > MOST {
            return Err(format!("printed more than {MOST} versions"));
        }
        return printed.into_iter().map(release).collect();
    }
    let mut releases = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        if line.len() > LONGEST || line.contains(char::is_whitespace) {
            let start: String = line.chars().take(40).collect();
            return Err(format!("printed `{}`, which is no version", start.escape_debug()));
        }
        releases.push(Release::bare(line.to_owned(), None));
        if releases.len() > MOST {
            return Err(format!("printed more than {MOST} versions"));
        }
    }
    Ok(releases)
}

fn release(printed: Printed) -> Result<Release, String> {
    let Printed { version, date, prerelease, assets } = printed;
    let published = match date {
        Some(text) => Some(date::read(&text).ok_or_else(|| {
            format!("printed a date that cannot be read: `{}`", text.escape_debug())
        })?),
        None => None,
    };
    let asset = |asset: PrintedAsset| {
        Ok(Asset {
            name: asset.name,
            at: Location::Url(HttpUrl::try_from(asset.url)?.0.into()),
            sha256: asset.sha256,
            size: asset.size,
            private: None,
        })
    };
    let assets = assets.into_iter().map(asset).collect::<Result<Vec<_>, String>>();
    let assets = assets.map_err(|problem| format!("printed an asset whose url {problem}"))?;
    let mut names = BTreeSet::new();
    if let Some(twice) = assets.iter().find(|asset| !names.insert(&asset.name)) {
        let [asset, version] = [&twice.name, &version].map(|text| text.escape_debug());
        return Err(format!("printed two assets `{asset}` of version `{version}`"));
    }
    Ok(Release { tag: version, published, prerelease, assets: assets.into() })
}

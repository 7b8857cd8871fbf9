//! `[build] dispatch`: a workflow on GitHub makes what is in an image.
//!
//! Owns starting it, waiting for it with manners, and taking what it leaves: one archive, whose digest
//! is what the API says. Refuses to know what is in the archive, which is as hostile as any other.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, header};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use thiserror::Error;
use url::Url;

use super::Bench;
use crate::config::build::WorkflowRule;
use crate::fetch::arriving::Arriving;
use crate::fetch::{Client, FetchError};
use crate::name::Sha256;
use crate::plan::Build;
use crate::recipe::archive::{self, ArchiveError, Entry, Limits};
use crate::recipe::intake::{Intake, Want};
use crate::report::Step;
use crate::repository::commit::InputRecord;
use crate::source::{SourceError, github};

/// How soon a run is asked after for the first time; the time between doubles up to [`PATIENT`].
const SOON: Duration = Duration::from_secs(1);
const PATIENT: Duration = Duration::from_secs(30);

/// A workflow that leaves no image.
#[derive(Debug, Error)]
pub enum DispatchError {
    /// Nobody may start a workflow without a token.
    #[error("no token to start {0} with")]
    Token(String),
    /// The API's address, most likely.
    #[error("cannot ask github")]
    Api(#[source] Box<SourceError>),
    /// A request failed.
    #[error("{doing}")]
    Asking {
        /// What was being done.
        doing: String,
        /// Why.
        source: FetchError,
    },
    /// An answer that says something else.
    #[error("{url} answered what is none of GitHub's answers: {problem}")]
    Answer {
        /// What was asked for.
        url: String,
        /// What is wrong.
        problem: String,
    },
    /// The run did not succeed.
    #[error("{url} {ended}")]
    Run {
        /// The run.
        url: String,
        /// How it ended.
        ended: String,
    },
    /// It left nothing that is an image's content.
    #[error("{url} {problem}")]
    Artifact {
        /// The run.
        url: String,
        /// What is wrong.
        problem: String,
        /// What to do about it.
        hint: &'static str,
    },
    /// The artifact cannot be unpacked.
    #[error("cannot unpack the artifact of {url}")]
    Unpack {
        /// The run.
        url: String,
        /// Why.
        source: ArchiveError,
    },
    /// A temporary file on this machine.
    #[error("cannot read or write {path}", path = path.display())]
    Disk {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl DispatchError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let text = match self {
            Self::Token(_) => "set GITHUB_TOKEN to a token that may write the repository's actions",
            Self::Asking { source, .. } => {
                return source.hint().or_else(|| {
                    Some("the workflow must have `on: workflow_dispatch` with the inputs version, arch and id, and the token must be allowed to write actions".to_owned())
                });
            }
            Self::Run { .. } => "look at the run's log there",
            Self::Artifact { hint, .. } => hint,
            Self::Unpack { source, .. } => return source.hint(),
            Self::Api(_) | Self::Answer { .. } => "see GITHUB_API_URL",
            Self::Disk { .. } => "builds use the folder of temporary files; $TMPDIR names another",
        };
        Some(text.to_owned())
    }
}

/// What starting a workflow is answered with, where it is answered at all.
#[derive(Deserialize)]
struct Started {
    workflow_run_id: u64,
}

#[derive(Deserialize)]
struct Runs {
    workflow_runs: Vec<Run>,
}

#[derive(Deserialize)]
struct Run {
    id: u64,
    #[serde(default)]
    display_title: String,
    status: String,
    conclusion: Option<String>,
    html_url: String,
}

#[derive(Deserialize)]
struct Artifacts {
    artifacts: Vec<Artifact>,
}

#[derive(Deserialize)]
struct Artifact {
    id: u64,
    name: String,
    expired: bool,
    /// `sha256:…`; older servers do not tell it.
    digest: Option<String>,
}

/// Who asks one repository about its actions.
struct Asker<'a> {
    client: &'a Client,
    /// `…/repos/OWNER/REPOSITORY/actions`
    root: String,
    headers: HeaderMap,
}

impl Asker<'_> {
    fn headers_for(&self, url: &str) -> HeaderMap {
        self.client.for_its_own_server(url, self.headers.clone())
    }

    async fn ask(
        &self,
        path: &str,
        body: Option<Bytes>,
        doing: &str,
    ) -> Result<(String, Bytes), DispatchError> {
        let url = format!("{}/{path}", self.root);
        let problem = |error: url::ParseError| DispatchError::Answer {
            url: url.clone(),
            problem: error.to_string(),
        };
        let parsed = Url::parse(&url).map_err(problem)?;
        let answer = self.client.exchange(&parsed, self.headers_for(&url), body).await;
        let failed = |source| DispatchError::Asking { doing: doing.to_owned(), source };
        Ok((url, answer.map_err(failed)?.body))
    }

    async fn get<T: DeserializeOwned>(&self, path: &str, doing: &str) -> Result<T, DispatchError> {
        let (url, body) = self.ask(path, None, doing).await?;
        read(url, &body)
    }

    /// Starts the workflow; its run, if that is told.
    async fn start(
        &self,
        rule: &WorkflowRule,
        build: &Build,
        id: &str,
    ) -> Result<Option<u64>, DispatchError> {
        let body = serde_json::json!({
            "ref": rule.git_ref,
            "inputs": { "version": build.upstream, "arch": build.arch, "id": id },
            "return_run_details": true,
        });
        let path = format!("workflows/{}/dispatches", rule.file);
        let doing = format!("cannot start {}", rule.shown());
        let (url, body) = self.ask(&path, Some(body.to_string().into()), &doing).await?;
        if body.is_empty() {
            return Ok(None);
        }
        read::<Started>(url, &body).map(|started| Some(started.workflow_run_id))
    }

    /// The run, as it is now; `None` if it is not to be seen yet.
    async fn run(
        &self,
        rule: &WorkflowRule,
        number: Option<u64>,
        id: &str,
    ) -> Result<Option<Run>, DispatchError> {
        let doing = format!("cannot follow the run of {}", rule.shown());
        if let Some(number) = number {
            return self.get(&format!("runs/{number}"), &doing).await.map(Some);
        }
        // Whose run-name has the input that nobody else gave.
        let path = format!("workflows/{}/runs?event=workflow_dispatch&per_page=100", rule.file);
        let runs: Runs = self.get(&path, &doing).await?;
        Ok(runs.workflow_runs.into_iter().find(|run| run.display_title.contains(id)))
    }

    /// Waits until a run is over, and has succeeded.
    async fn wait(
        &self,
        rule: &WorkflowRule,
        mut number: Option<u64>,
        id: &str,
        limit: Duration,
    ) -> Result<Run, DispatchError> {
        let begun = Instant::now();
        let mut pause = SOON;
        loop {
            let run = self.run(rule, number, id).await?;
            number = number.or(run.as_ref().map(|run| run.id));
            match run {
                Some(run) if run.status == "completed" => {
                    let ended = run.conclusion.clone().unwrap_or_default();
                    if ended == "success" {
                        return Ok(run);
                    }
                    let ended = format!("ended with `{}`", ended.escape_debug());
                    return Err(DispatchError::Run { url: run.html_url, ended });
                }
                run if begun.elapsed() + pause > limit => {
                    let url = run.map_or_else(|| rule.shown(), |run| run.html_url);
                    let what =
                        if number.is_some() { "is not over" } else { "has no run to be seen" };
                    let ended = format!("{what} after {} s", limit.as_secs_f32());
                    if let Some(number) = number {
                        // Nobody waits for it any more; if it does not listen, it ends by itself.
                        let cancel = format!("runs/{number}/cancel");
                        let _ = self.ask(&cancel, Some(Bytes::from_static(b"{}")), "cancel").await;
                    }
                    return Err(DispatchError::Run { url, ended });
                }
                _ => tokio::time::sleep(pause).await,
            }
            pause = (pause * 2).min(PATIENT);
        }
    }

    /// The artifact that is meant of a run.
    async fn artifact(&self, rule: &WorkflowRule, run: &Run) -> Result<Artifact, DispatchError> {
        let path = format!("runs/{}/artifacts?per_page=100", run.id);
        let all: Artifacts = self.get(&path, "cannot list the run's artifacts").await?;
        let mut all = all.artifacts;
        let names: Vec<&str> = all.iter().map(|artifact| artifact.name.as_str()).collect();
        let wrong = |problem: String, hint| DispatchError::Artifact {
            url: run.html_url.clone(),
            problem,
            hint,
        };
        let has = format!("it has {}", names.join(", ").escape_debug());
        let at = match &rule.artifact {
            Some(name) => names.iter().position(|other| other == name),
            None if names.len() == 1 => Some(0),
            None => None,
        };
        let artifact = match at {
            Some(at) => all.swap_remove(at),
            None if names.is_empty() => {
                return Err(wrong(
                    "left no artifact".to_owned(),
                    "upload one with actions/upload-artifact",
                ));
            }
            None => {
                return Err(wrong(
                    format!("left not the one artifact that is meant: {has}"),
                    "name it: artifact = \"…\" in [build]",
                ));
            }
        };
        if artifact.expired {
            return Err(wrong(
                "has an artifact that is no longer kept".to_owned(),
                "keep artifacts for a day at least: `retention-days`",
            ));
        }
        Ok(artifact)
    }
}

fn read<T: DeserializeOwned>(url: String, body: &[u8]) -> Result<T, DispatchError> {
    serde_json::from_slice(body)
        .map_err(|error| DispatchError::Answer { url, problem: error.to_string() })
}

impl Bench<'_> {
    /// Lets a workflow make the content of an image: the archive that it left, and what is recorded of
    /// it.
    pub(super) async fn dispatch(
        &self,
        rule: &WorkflowRule,
        limit: Duration,
        build: &Build,
    ) -> Result<(Arriving, InputRecord), DispatchError> {
        let client = &self.shop.client;
        let (root, headers) = github::address(client, &format!("repos/{}/actions", rule.repo))
            .map_err(|error| DispatchError::Api(Box::new(error)))?;
        if !headers.contains_key(header::AUTHORIZATION) {
            return Err(DispatchError::Token(rule.shown()));
        }
        let asker = Asker { client, root, headers };
        let task =
            self.shop.progress.begin(Step::Run, &format!("{} for {}", rule.shown(), build.image));
        let id = format!("publish-{:016x}", rand::random::<u64>());
        let number = asker.start(rule, build, &id).await?;
        let run = asker.wait(rule, number, &id, limit).await?;
        let artifact = asker.artifact(rule, &run).await?;
        let url = format!("{}/artifacts/{}/zip", asker.root, artifact.id);
        let zip = Arriving::at(self.folder.path().join(format!("{id}.zip")));
        let fetched = client.download(&url, asker.headers_for(&url), &zip, |_, _| ()).await;
        let doing = format!("cannot download the artifact of {}", run.html_url);
        let fetched = fetched.map_err(|source| DispatchError::Asking { doing, source })?;
        let promised: Option<Sha256> = artifact
            .digest
            .as_deref()
            .and_then(|digest| digest.strip_prefix("sha256:")?.parse().ok());
        if let Some(promised) = promised.filter(|promised| *promised != fetched.sha256) {
            return Err(DispatchError::Artifact {
                url: run.html_url,
                problem: format!(
                    "has an artifact of SHA-256 {promised}, but {} came",
                    fetched.sha256
                ),
                hint: "do not use it before you know why",
            });
        }
        task.finish(fetched.size);
        let record = InputRecord {
            from: format!("{} {}", run.html_url, artifact.name),
            sha256: fetched.sha256,
            size: fetched.size,
            promised_by: promised.map(|_| "GitHub".to_owned()).into_iter().collect(),
        };
        let (limits, folder) = (self.shop.limits, self.folder.path().to_owned());
        let to = folder.join(&id);
        let unpacked = tokio::task::spawn_blocking({
            let to = to.clone();
            move || unpack(&zip, &limits, &folder, &to, run.html_url)
        });
        let disk = |source| DispatchError::Disk { path: to.clone(), source };
        unpacked.await.map_err(|error| disk(io::Error::other(error)))??;
        let archive = Arriving::at(to.clone());
        archive.is_here().map_err(disk)?;
        Ok((archive, record))
    }
}

/// Takes the one archive out of the zip that every artifact is: what lies in that itself has lost its
/// permissions.
fn unpack(
    zip: &Arriving,
    limits: &Limits,
    folder: &Path,
    to: &Path,
    url: String,
) -> Result<(), DispatchError> {
    let mut intake = Intake::on_disk(folder);
    let read = archive::read(zip, "artifact.zip", limits, &|_| Want::Recipe, &mut intake);
    let entries = match read {
        Ok(archive) => archive.entries,
        Err(source) => return Err(DispatchError::Unpack { url, source }),
    };
    let files = entries.values().filter_map(|entry| match entry {
        Entry::File { content, .. } => Some(content),
        Entry::Directory { .. } | Entry::Symlink { .. } => None,
    });
    let files: Vec<_> = files.collect();
    let [content] = files[..] else {
        return Err(DispatchError::Artifact {
            url,
            problem: format!("has an artifact of {} files instead of one archive", files.len()),
            hint: "artifacts keep no permissions: upload a tar archive of what is to be in the image, such as root.tar.gz",
        });
    };
    let copied = File::create_new(to).and_then(|mut file| io::copy(&mut content.open(), &mut file));
    copied.map(drop).map_err(|source| DispatchError::Disk { path: to.to_owned(), source })
}

//! What a run tells those who did not look: metrics, the last report as a file, and messages.
//!
//! Owns who is told what, and when: a failure once, however often it happens again, and its end. All of
//! it is beside the point of a run, so nothing here fails one; what could not be told is said. Knows
//! nothing of how the work is done.
//!
//! | room | owns |
//! |---|---|
//! | [`state`] | what must be known of earlier runs |
//! | [`metrics`] | numbers, as Prometheus reads them |
//! | [`message`] | what has changed since somebody was told, and how he reads it |

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use url::Url;

use crate::config::report::Event;
use crate::config::{Config, Hook};
use crate::fetch::{Client, Quota};
use crate::report::Told;
use crate::sign::secret;
use crate::sync::Outcome;

pub mod message;
pub mod metrics;
pub mod state;

use message::News;
use state::State;

/// What a run came to.
#[derive(Debug)]
pub struct Ran<'a> {
    /// When it ended.
    pub at: Timestamp,
    /// How long it took.
    pub took: Duration,
    /// What became of the components, or why nothing did.
    pub outcomes: Result<&'a [Outcome], &'a Told>,
    /// What is wrong beside them: with the store, or with folders that no component has.
    pub errors: Vec<&'a Told>,
    /// How much hosts may still be asked, by name.
    pub quotas: Vec<(String, Quota)>,
    /// The same run as a document, with the final newline.
    pub document: Option<String>,
}

/// Where news are made. What cannot be kept in a file is remembered for as long as this lives.
#[derive(Debug, Default)]
pub struct Desk {
    state: State,
    /// Whether nobody needs to hear again that nothing can be kept.
    said: bool,
}

impl Desk {
    /// Tells everybody of a run. Gives what went wrong with that.
    pub async fn tell(&mut self, config: &Config, ran: &Ran<'_>) -> Vec<String> {
        let report = &config.document.report;
        let hooks = &config.document.notify;
        let mut wrong = Vec::new();
        let unwritten = |path: &Path, error: io::Error| {
            format!("warning: cannot write {}: {error}\n", path.display())
        };
        if let (Some(path), Some(document)) = (&report.json, &ran.document)
            && let Err(error) = report_to(config, path, document.as_bytes())
        {
            wrong.push(unwritten(path, error));
        }
        if report.metrics.is_none() && hooks.is_empty() && report.state.is_none() {
            return wrong;
        }
        let place = state::place(config);
        match place.as_deref().map(State::load) {
            Some(Ok(Some(state))) => self.state = state,
            Some(Err(problem)) => {
                wrong.push(format!("warning: what was told before is not known: {problem}\n"));
            }
            None if !self.said => {
                self.said = true;
                wrong.push(
                    "warning: there is no folder to remember in what was told\n  hint: [report] state = \"FOLDER\"; a service has StateDirectory=\n"
                        .to_owned(),
                );
            }
            Some(Ok(None)) | None => {}
        }
        self.state.learn(config, ran);
        let told = hooks.iter().enumerate().map(|(number, hook)| {
            let news = News::new(&self.state, &message::id(hook), &hook.on, config, ran);
            async move {
                let done = match &news {
                    Some(news) => send(config, hook, news).await,
                    None => Ok(()),
                };
                (number, hook, news, done)
            }
        });
        for (number, hook, news, done) in futures::future::join_all(told).await {
            if !hook.on.contains(&Event::Recovery) {
                self.state.forget_well(&message::id(hook));
            }
            match (news, done) {
                (Some(news), Ok(())) => self.state.told(message::id(hook), &news),
                // Failures and recoveries are told by the next run.
                (_, Err(problem)) => wrong.push(format!(
                    "warning: [[notify]] {}, {}: {problem}\n",
                    number + 1,
                    message::id(hook)
                )),
                (None, Ok(())) => {}
            }
        }
        if let Some(path) = &report.metrics {
            let text = metrics::render(&self.state, ran);
            if let Err(error) = report_to(config, path, text.as_bytes()) {
                wrong.push(unwritten(path, error));
            }
        }
        if let Some(place) = place
            && let Err(error) = self.state.save(&place)
        {
            wrong.push(unwritten(&place, error));
        }
        wrong
    }
}

/// Sends one message. What is wrong never says where to.
async fn send(config: &Config, hook: &Hook, news: &News<'_>) -> Result<(), String> {
    let url = secret::read_line(&hook.url, config.folder()).map_err(|error| error.to_string())?;
    let url = Url::parse(&url).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
    let url = url.ok_or("the secret is not an http or https URL")?;
    let client = Client::new(&config.document.network, &config.document.limits);
    client.post(&url, &news.text(hook.kind)).await.map_err(|error| error.to_string())
}

/// Who reads a file is seldom who publishes.
const PUBLIC: u32 = 0o644;

/// How much of a file tells whose it is, in bytes.
const BEGINNING: usize = 16;

/// Writes a file for who watches over us. What is served, what is no file, and what begins otherwise than
/// ours does is not written over: a wrong path would take a configuration or a device with it.
fn report_to(config: &Config, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let refused = |why: &str| Err(io::Error::other(why.to_owned()));
    if path.parent().is_some_and(|folder| config.serves(folder)) {
        return refused("it is in the store; [report] takes another place");
    }
    match std::fs::metadata(path) {
        Ok(there) if !there.is_file() => return refused("what is there is no file"),
        Ok(_) => {
            let mut beginning = Vec::new();
            File::open(path)?.take(BEGINNING as u64).read_to_end(&mut beginning)?;
            if !beginning.is_empty() && !bytes.starts_with(&beginning) {
                return refused("what is there is no report of ours, and stays");
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    put(path, bytes, PUBLIC)
}

/// Writes a whole file in one step: whoever reads it never sees half of it.
fn put(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)?;
    let mut file =
        tempfile::Builder::new().prefix(".publish-").suffix(".new").tempfile_in(folder)?;
    file.write_all(bytes)?;
    file.as_file().set_permissions(std::fs::Permissions::from_mode(mode))?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}

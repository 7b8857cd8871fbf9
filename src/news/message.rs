//! What has changed since somebody was told, and how he reads it.
//!
//! Owns what is news, and two ways of writing it: a document of our own, and a text for Slack and those
//! that are compatible. Pure. Upstreams have a say in versions and errors, so both are hostile texts.

use std::fmt::Write as _;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::json;

use super::Ran;
use super::state::{State, WHOLE};
use crate::config::report::{Event, Kind};
use crate::config::{Config, Hook, SecretAt};
use crate::report::{Told, count};
use crate::sync::Outcome;

/// How many lines a text has at most.
const LINES: usize = 24;

/// How long a line of it is at most, in characters.
const LONGEST: usize = 300;

/// What tells one hook from another, for people and for what is remembered: where its address is, which
/// is no secret.
#[must_use]
pub fn id(hook: &Hook) -> String {
    match &hook.url {
        SecretAt::Env(name) => format!("env {name}"),
        SecretAt::File(file) => format!("file {}", file.display()),
        SecretAt::Credential(name) => format!("credential {name}"),
    }
}

/// What somebody does not know yet.
#[derive(Debug)]
pub struct News<'a> {
    /// Whose it is: where nodes fetch from, or else the store.
    repository: String,
    at: Timestamp,
    changed: Vec<&'a Outcome>,
    pub(super) failed: Vec<Failed<'a>>,
    pub(super) recovered: Vec<Recovered>,
}

/// Something that fails, and what is new about that.
#[derive(Debug, Serialize)]
pub(super) struct Failed<'a> {
    /// `None` for the run as a whole.
    component: Option<&'a str>,
    since: Option<Timestamp>,
    pub(super) errors: Vec<&'a Told>,
}

/// Something that failed and does not any more.
#[derive(Debug, Serialize)]
pub(super) struct Recovered {
    component: Option<String>,
}

impl Failed<'_> {
    pub(super) fn name(&self) -> &str {
        self.component.unwrap_or(WHOLE)
    }
}

impl Recovered {
    pub(super) fn name(&self) -> &str {
        self.component.as_deref().unwrap_or(WHOLE)
    }
}

impl<'a> News<'a> {
    /// What a hook is to be told of a run; `None` if that is nothing.
    pub(super) fn new(
        state: &State,
        hook: &str,
        on: &[Event],
        config: &Config,
        ran: &Ran<'a>,
    ) -> Option<Self> {
        let outcomes = ran.outcomes.unwrap_or_default();
        let whole = ran.outcomes.err().into_iter().chain(ran.errors.iter().copied());
        let of_component = |outcome: &'a Outcome| {
            (Some(outcome.component.as_str()), outcome.errors.iter().collect::<Vec<_>>())
        };
        let subjects = std::iter::once((None, whole.collect()));
        let subjects: Vec<(Option<&str>, Vec<&Told>)> =
            subjects.chain(outcomes.iter().map(of_component)).collect();
        let failed = subjects.iter().filter_map(|(component, errors)| {
            let name = component.unwrap_or(WHOLE);
            let news = errors.iter().copied().filter(|told| !state.knows(hook, name, told));
            let errors: Vec<&Told> = news.collect();
            let since = state.failing_since(name);
            (!errors.is_empty()).then_some(Failed { component: *component, since, errors })
        });
        let is_well = |name: &str| {
            let mut subjects = subjects.iter();
            subjects
                .any(|(component, errors)| component.unwrap_or(WHOLE) == name && errors.is_empty())
        };
        // A run that came to nothing tells nothing of components.
        let recovered = state.told_of(hook).filter(|name| is_well(name));
        let recovered =
            recovered.map(|name| Recovered { component: (name != WHOLE).then(|| name.to_owned()) });
        let wants = |event| on.contains(&event);
        let news = Self {
            repository: match &config.document.repository.url {
                Some(url) => url.to_string(),
                None => config.store().to_string(),
            },
            at: ran.at,
            changed: outcomes
                .iter()
                .filter(|outcome| wants(Event::Change) && !is_same(outcome))
                .collect(),
            failed: failed.filter(|_| wants(Event::Failure)).collect(),
            recovered: recovered.filter(|_| wants(Event::Recovery)).collect(),
        };
        let any = !(news.changed.is_empty() && news.failed.is_empty() && news.recovered.is_empty());
        any.then_some(news)
    }

    /// The body of the request.
    #[must_use]
    pub fn text(&self, kind: Kind) -> String {
        let document = match kind {
            Kind::Json => self.document(),
            Kind::Slack => json!({ "text": self.words() }),
        };
        document.to_string()
    }

    fn document(&self) -> serde_json::Value {
        let changed = self.changed.iter().map(|outcome| {
            json!({
                "component": outcome.component,
                "newest": outcome.newest,
                "published": outcome.published.iter().map(|image| &image.image).collect::<Vec<_>>(),
                "removed": outcome.removed.iter().map(|removal| &removal.name).collect::<Vec<_>>(),
            })
        });
        json!({
            "version": 1,
            "repository": self.repository,
            "at": self.at,
            "changed": changed.collect::<Vec<_>>(),
            "failed": self.failed,
            "recovered": self.recovered,
        })
    }

    /// The text that people read, the worst first.
    fn words(&self) -> String {
        let mut lines = Vec::new();
        for Failed { component, errors, .. } in &self.failed {
            for told in errors {
                let mut line = format!(":x: {}", plain(&told.message));
                if component.is_none() {
                    line = format!(":x: the sync failed: {}", plain(&told.message));
                }
                for cause in &told.causes {
                    let _ = write!(line, ": {}", plain(cause));
                }
                lines.push(line);
                if let Some(hint) = &told.hint {
                    lines.push(format!("      hint: {}", plain(hint)));
                }
            }
        }
        for recovered in &self.recovered {
            let what = recovered.component.as_deref().unwrap_or("the sync");
            lines.push(format!(":white_check_mark: {} is well again", plain(what)));
        }
        for outcome in &self.changed {
            let mut line = format!(":package: {}", plain(outcome.component.as_str()));
            if let Some(newest) = &outcome.newest {
                let _ = write!(line, " {}", plain(&newest.to_string()));
            }
            let (came, went) = (outcome.published.len(), outcome.removed.len());
            let parts = [(came, "published"), (went, "taken out")];
            let parts = parts.into_iter().filter(|(number, _)| *number > 0);
            let parts: Vec<_> =
                parts.map(|(number, done)| format!("{} {done}", count(number, "image"))).collect();
            let _ = write!(line, ": {}", parts.join(", "));
            lines.push(line);
        }
        if lines.len() > LINES {
            let more = lines.len() - LINES + 1;
            lines.truncate(LINES - 1);
            lines.push(format!("and {more} lines more"));
        }
        let lines = lines.into_iter().map(|line| escaped(&line) + "\n");
        format!("*publish* {}\n{}", escaped(&self.repository), lines.collect::<String>())
    }
}

/// Whether nothing happened that people would want to know of: signatures are renewed, and files
/// deleted after their lines, without anybody's interest.
fn is_same(outcome: &Outcome) -> bool {
    outcome.published.is_empty() && outcome.removed.is_empty()
}

/// One line without what could change its look, and not too long.
fn plain(text: &str) -> String {
    let text = text.split('\n').next().unwrap_or_default();
    let mut line: String =
        text.chars().take(LONGEST).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(LONGEST).is_some() {
        line.push('…');
    }
    line
}

/// Slack reads `<…>` as links and mentions, and asks for these three to be escaped.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostile_text_calls_nobody_and_stays_short() {
        let told = Told {
            message: format!(
                "x: <!channel> & <https://evil.example|click>\u{1b}[2J {}",
                "y".repeat(9000)
            ),
            causes: vec!["one\ntwo".to_owned()],
            hint: None,
        };
        let news = News {
            repository: "https://files.example.com/".to_owned(),
            at: Timestamp::UNIX_EPOCH,
            changed: Vec::new(),
            failed: (0..100)
                .map(|_| Failed { component: Some("x"), since: None, errors: vec![&told] })
                .collect(),
            recovered: vec![Recovered { component: None }],
        };
        let text = news.words();
        assert!(!text.contains(['<', '\u{1b}']), "{text}");
        assert!(text.contains("&lt;!channel&gt; &amp; &lt;https:"), "{text}");
        assert!(!text.contains("two") && text.ends_with("and 78 lines more\n"), "{text}");
        // A text of Slack has 40,000 characters at most.
        assert!(text.chars().count() < 10_000);
        serde_json::from_str::<serde_json::Value>(&news.text(Kind::Slack)).unwrap();
    }
}

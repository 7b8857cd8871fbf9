//! A message to an address that is a secret.
//!
//! Owns how often it is tried, and for how long. The address appears in no error and in no log, and no
//! redirect is followed: it would carry the message, and what is in the address, to somebody else.

use std::time::Duration;

use http::{StatusCode, header};
use thiserror::Error;
use url::Url;

use super::{Client, up_to};

/// How often it is tried.
const TRIES: u32 = 3;

/// How long one try may take at most.
const LONGEST: Duration = Duration::from_secs(10);

/// How long a receiver that has enough for now is waited for at most.
const PATIENCE: u64 = 10;

/// A message that was not taken.
#[derive(Debug, Error)]
pub enum PostError {
    /// Nothing was answered.
    #[error("the receiver cannot be reached: {0}")]
    Unreachable(String),
    /// Something else than that it was taken.
    #[error("the receiver answers {0}")]
    Refused(StatusCode),
}

impl Client {
    /// Posts a JSON document. Neither `rewrite` nor credentials of the configuration concern it.
    ///
    /// # Errors
    /// It was not taken, also not later.
    pub async fn post(&self, url: &Url, document: &str) -> Result<(), PostError> {
        let mut tried = 1;
        loop {
            let (error, wait) = match self.post_once(url, document).await {
                Ok(()) => return Ok(()),
                Err(failed) => failed,
            };
            match wait {
                Some(wait) if tried < TRIES => tokio::time::sleep(wait * tried).await,
                _ => return Err(error),
            }
            tried += 1;
        }
    }

    /// What went wrong, and how long to wait if another try may help.
    async fn post_once(
        &self,
        url: &Url,
        document: &str,
    ) -> Result<(), (PostError, Option<Duration>)> {
        let unreachable = |text: String| PostError::Unreachable(text);
        let http = self.http().map_err(|error| (unreachable(error.to_string()), None))?;
        let sent = http
            .post(url.clone())
            .header(header::CONTENT_TYPE, "application/json")
            .timeout(self.0.timeout.min(LONGEST))
            .body(document.to_owned())
            .send()
            .await;
        let answer = match sent {
            Ok(answer) => answer,
            Err(error) => {
                return Err((unreachable(reason(error)), Some(up_to(Duration::from_secs(1)))));
            }
        };
        let status = answer.status();
        if status.is_success() {
            return Ok(());
        }
        let told = answer.headers().get(header::RETRY_AFTER);
        let told = told.and_then(|value| value.to_str().ok()?.trim().parse::<u64>().ok());
        let wait = match (status, told) {
            // Later than we can wait: the next run is as good.
            (_, Some(seconds)) if seconds > PATIENCE => None,
            (StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE, Some(seconds)) => {
                Some(Duration::from_secs(seconds))
            }
            (status, _) if status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error() => {
                Some(up_to(Duration::from_secs(1)))
            }
            _ => None,
        };
        Err((PostError::Refused(status), wait))
    }
}

/// The innermost cause, which says most, and never the address.
fn reason(error: reqwest::Error) -> String {
    let (timeout, error) = (error.is_timeout(), error.without_url());
    if timeout {
        return "it does not answer in time".to_owned();
    }
    let mut cause: &dyn std::error::Error = &error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

//! Questions whose answers are for now alone: small ones, with small answers, and never cached.

use std::time::Instant;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use url::Url;

use super::error::CRAWL;
use super::{Client, DOCUMENT, FetchError, refusal, retry};

/// What was answered, and where.
#[derive(Debug, Clone)]
pub struct Exchanged {
    /// The answer, as it came.
    pub body: Bytes,
    /// Who gave it, after redirects.
    pub at: Url,
}

impl Client {
    /// Asks with GET or, where there is something to send, with POST.
    ///
    /// # Errors
    /// As [`Client::download`].
    pub async fn exchange(
        &self,
        url: &Url,
        headers: HeaderMap,
        body: Option<Bytes>,
    ) -> Result<Exchanged, FetchError> {
        let attempt = async || self.exchange_once(url, headers.clone(), body.clone()).await;
        retry(attempt, |error| Some(error)).await
    }

    async fn exchange_once(
        &self,
        url: &Url,
        headers: HeaderMap,
        body: Option<Bytes>,
    ) -> Result<Exchanged, FetchError> {
        let shown = self.shown(url.as_str());
        let slow = || FetchError::Slow { url: shown.clone(), waited: self.timeout };
        let asked = self.rewritten(url.as_str());
        let request = match body {
            Some(body) => self.http()?.post(&asked).body(body),
            None => self.http()?.get(&asked),
        };
        let mut response = request.headers(headers).send().await.map_err(|error| {
            if error.is_timeout() {
                return slow();
            }
            FetchError::Unreachable { url: shown.clone(), source: error.without_url().into() }
        })?;
        tracing::debug!(url = shown, status = response.status().as_u16(), "asked");
        if response.status() != StatusCode::OK {
            return Err(refusal(shown, response.status(), response.headers()));
        }
        let moved = Url::parse(&asked).ok().as_ref() != Some(response.url());
        let at = if moved { response.url() } else { url }.clone();
        let (started, mut body) = (Instant::now(), Vec::new());
        loop {
            match response.chunk().await {
                Ok(None) => return Ok(Exchanged { body: body.into(), at }),
                Ok(Some(chunk)) => body.extend_from_slice(&chunk),
                Err(error) if error.is_timeout() => return Err(slow()),
                Err(_) => {
                    let received = body.len() as u64;
                    return Err(FetchError::Truncated { url: shown, received });
                }
            }
            let received = body.len() as u64;
            if received > DOCUMENT {
                return Err(FetchError::TooLarge { url: shown, limit: DOCUMENT });
            }
            let elapsed = started.elapsed();
            if elapsed > self.deadline() {
                return Err(FetchError::Overlong { url: shown, waited: self.deadline() });
            }
            if elapsed > self.timeout && received < CRAWL * elapsed.as_secs() {
                return Err(slow());
            }
        }
    }
}

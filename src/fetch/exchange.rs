//! Questions whose answers are for now alone: small ones, with small answers, and never cached.

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use url::Url;

use super::{Client, DOCUMENT, FetchError, Flow};

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
        let mut tries = 0;
        loop {
            match self.exchange_once(url, headers.clone(), body.clone()).await {
                Err(error) => self.try_again(url.as_str(), error, &mut tries).await?,
                done => return done,
            }
        }
    }

    async fn exchange_once(
        &self,
        url: &Url,
        headers: HeaderMap,
        body: Option<Bytes>,
    ) -> Result<Exchanged, FetchError> {
        let method = if body.is_some() { Method::POST } else { Method::GET };
        let answer = self.ask_with(method, url.as_str(), headers, body).await?;
        if !matches!(
            answer.status(),
            StatusCode::OK | StatusCode::ACCEPTED | StatusCode::NO_CONTENT
        ) {
            return Err(self.refused(url.as_str(), answer).await);
        }
        let asked = Url::parse(&self.rewritten(url.as_str())).ok();
        let moved = asked.as_ref() != Some(answer.url());
        let at = if moved { answer.url() } else { url }.clone();
        let mut whole = Vec::new();
        let mut flow = Flow::of(answer, DOCUMENT, 0);
        while let Some(piece) = self.piece(url.as_str(), &mut flow).await? {
            whole.extend_from_slice(&piece);
        }
        Ok(Exchanged { body: whole.into(), at })
    }
}

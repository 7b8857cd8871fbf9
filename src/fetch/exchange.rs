//! Questions whose answers are for now alone, and requests that change something: never cached.

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use http::{HeaderMap, Method, StatusCode};
use url::Url;

use super::{Answer, Client, DOCUMENT, FetchError, Flow};

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
        Ok(Exchanged { body: self.all_of(url, answer).await?, at })
    }

    async fn all_of(&self, url: &Url, answer: Answer) -> Result<Bytes, FetchError> {
        let mut whole = Vec::new();
        let mut flow = Flow::of(answer, DOCUMENT, 0);
        while let Some(piece) = self.piece(url.as_str(), &mut flow).await? {
            whole.extend_from_slice(&piece);
        }
        Ok(whole.into())
    }

    /// Has something changed; `answers` are the statuses that say something, all others are errors.
    ///
    /// A request whose answer was lost is sent again: what is met then may be its own effect.
    ///
    /// # Errors
    /// As [`Client::download`].
    pub async fn change(
        &self,
        method: Method,
        url: &Url,
        headers: HeaderMap,
        body: Option<Bytes>,
        answers: &[StatusCode],
    ) -> Result<(StatusCode, Bytes), FetchError> {
        let mut tries = 0;
        loop {
            let (method, headers, body) = (method.clone(), headers.clone(), body.clone());
            let changed = async {
                let answer = self.ask_with(method, url.as_str(), headers, body).await?;
                let status = answer.status();
                if !answers.contains(&status) {
                    return Err(self.refused(url.as_str(), answer).await);
                }
                Ok((status, self.all_of(url, answer).await?))
            };
            match changed.await {
                Err(error) => self.try_again(url.as_str(), error, &mut tries).await?,
                done => return done,
            }
        }
    }

    /// The bytes of a file, piece by piece. One that breaks off is an error: it is not resumed.
    ///
    /// # Errors
    /// As [`Client::download`].
    pub async fn open(
        &self,
        url: &Url,
        headers: HeaderMap,
    ) -> Result<BoxStream<'static, Result<Bytes, FetchError>>, FetchError> {
        let mut tries = 0;
        let answer = loop {
            let error = match self.ask(Method::GET, url.as_str(), headers.clone()).await {
                Ok(answer) if answer.status() == StatusCode::OK => break answer,
                Ok(answer) => self.refused(url.as_str(), answer).await,
                Err(error) => error,
            };
            self.try_again(url.as_str(), error, &mut tries).await?;
        };
        let flow = Flow::of(answer, self.0.limit, 0);
        let (client, url) = (self.clone(), url.to_string());
        let pieces = stream::try_unfold((client, url, flow), |(client, url, mut flow)| async {
            let piece = client.piece(&url, &mut flow).await?;
            Ok(piece.map(|piece| (piece, (client, url, flow))))
        });
        Ok(pieces.boxed())
    }
}

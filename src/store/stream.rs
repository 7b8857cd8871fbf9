//! A file as the body of one request, read while it is sent.
//!
//! `object_store` takes what it puts as bytes in memory. So a file goes through it as an empty
//! payload with the file beside it, and here, below its conditions, credentials and retries, the one
//! takes the place of the other: each retry reads the file from its start again. The signature covers
//! the digest that the file must have, so a server that got anything else, or not all, refuses it.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt};
use http::{HeaderValue, header};
use object_store::aws::{AwsAuthorizer, AwsCredentialProvider};
use object_store::client::{HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpResponseBody};

use crate::name::Sha256;

/// How much is read at once, and how many of these are read ahead.
const PIECE: u64 = 256 << 10;
const AHEAD: usize = 2;

/// How long a server may take nothing, or say nothing after the last byte.
const SILENCE: Duration = Duration::from_secs(60);

/// The most that is read of an answer: errors are short texts.
const LONGEST: usize = 1 << 20;

/// What takes the place of a request's empty payload.
#[derive(Debug, Clone)]
pub(super) struct Body {
    /// Read from its start, wherever it stands.
    pub file: Arc<File>,
    pub size: u64,
    /// What the bytes must be.
    pub sha256: Sha256,
}

/// Sends requests whose body is a file. Its client is only made when there is one.
pub(super) struct Sender {
    pub credentials: AwsCredentialProvider,
    pub region: String,
    pub agent: &'static str,
    pub client: OnceLock<reqwest::Client>,
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").field("region", &self.region).finish_non_exhaustive()
    }
}

impl Sender {
    /// Sends a request with this body in the place of its own.
    pub async fn send(&self, request: HttpRequest, body: Body) -> Result<HttpResponse, HttpError> {
        let request = self.signed(request, &body).await?;
        let (parts, _) = request.into_parts();
        let url = parts.uri.to_string().parse::<url::Url>();
        let url = url.map_err(|error| HttpError::new(HttpErrorKind::Unknown, error))?;
        let mut request = reqwest::Request::new(parts.method, url);
        *request.headers_mut() = parts.headers;
        send(self.client()?, request, body).await
    }

    /// The same request with a signature that covers the body.
    async fn signed(
        &self,
        mut request: HttpRequest,
        body: &Body,
    ) -> Result<HttpRequest, HttpError> {
        // Somebody may have said that nothing is to be signed.
        if request.headers().contains_key(header::AUTHORIZATION) {
            let failed = |error| HttpError::new(HttpErrorKind::Unknown, error);
            let credential = self.credentials.get_credential().await.map_err(failed)?;
            let authorizer = AwsAuthorizer::new(&credential, "s3", &self.region);
            authorizer.try_authorize(&mut request, Some(body.sha256.bytes())).map_err(failed)?;
        }
        Ok(request)
    }

    fn client(&self) -> Result<&reqwest::Client, HttpError> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        let made = reqwest::Client::builder()
            .user_agent(self.agent)
            .connect_timeout(Duration::from_secs(10))
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|error| HttpError::new(HttpErrorKind::Unknown, error))?;
        Ok(self.client.get_or_init(|| made))
    }
}

/// Sends a request with this body.
pub(super) async fn send(
    client: &reqwest::Client,
    mut request: reqwest::Request,
    body: Body,
) -> Result<HttpResponse, HttpError> {
    let taken = Arc::new(AtomicU64::new(0));
    request.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(body.size));
    *request.body_mut() = Some(reqwest::Body::wrap_stream(pieces(body, taken.clone())));
    let answer = answer(client, request);
    let mut answer = std::pin::pin!(answer);
    let mut before = 0;
    // No limit for the whole: what is large takes long where the line is slow.
    loop {
        if let Ok(answer) = tokio::time::timeout(SILENCE, answer.as_mut()).await {
            return answer;
        }
        let now = taken.load(Ordering::Relaxed);
        if now == before {
            let silent = io::Error::new(io::ErrorKind::TimedOut, "the server takes no more");
            return Err(HttpError::new(HttpErrorKind::Timeout, silent));
        }
        before = now;
    }
}

/// Sends a request, and reads what is answered.
async fn answer(
    client: &reqwest::Client,
    request: reqwest::Request,
) -> Result<HttpResponse, HttpError> {
    let mut response = client.execute(request).await.map_err(of_reqwest)?;
    let mut text = Vec::new();
    while let Some(piece) = response.chunk().await.map_err(of_reqwest)? {
        let room = LONGEST.saturating_sub(text.len());
        text.extend_from_slice(&piece[..piece.len().min(room)]);
    }
    let mut answer = HttpResponse::new(HttpResponseBody::from(text));
    *answer.status_mut() = response.status();
    *answer.headers_mut() = std::mem::take(response.headers_mut());
    Ok(answer)
}

fn of_reqwest(error: reqwest::Error) -> HttpError {
    let kind = match () {
        () if error.is_timeout() => HttpErrorKind::Timeout,
        () if error.is_connect() => HttpErrorKind::Connect,
        () => HttpErrorKind::Interrupted,
    };
    HttpError::new(kind, error.without_url())
}

/// The bytes of a file, read on threads that may wait for the disk. `taken` counts them.
fn pieces(
    body: Body,
    taken: Arc<AtomicU64>,
) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    let Body { file, size, .. } = body;
    futures::stream::iter(0..size.div_ceil(PIECE))
        .map(move |index| {
            let file = file.clone();
            let read = tokio::task::spawn_blocking(move || {
                let at = index * PIECE;
                let length = usize::try_from(PIECE.min(size - at)).map_err(io::Error::other)?;
                let mut piece = vec![0; length];
                file.read_exact_at(&mut piece, at)?;
                Ok(Bytes::from(piece))
            });
            async move { read.await.map_err(io::Error::other)? }
        })
        .buffered(AHEAD)
        .inspect(move |piece| {
            let length = piece.as_ref().map_or(0, Bytes::len);
            taken.fetch_add(length as u64, Ordering::Relaxed);
        })
}

//! What goes wrong on the way from a URL to bytes, whether it may pass, and what to do about it.
//!
//! Owns the words and the judgement. Knows nothing of how requests are made.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use jiff::Timestamp;
use rand::Rng;
use thiserror::Error;

use crate::sign::secret::SecretError;

/// The longest that a server may ask us to wait before we rather report it.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// How often a request is tried in all.
pub(super) const TRIES: u32 = 3;

/// Slower than this, in bytes a second, a server counts as down.
pub(super) const CRAWL: u64 = 1024;

/// Something that could not be fetched.
#[derive(Debug, Error)]
pub enum FetchError {
    /// The server answered, but not with what was asked for.
    #[error("{url} answered {status}{}", in_words(said.as_deref()))]
    Status {
        /// What was asked for.
        url: String,
        /// The status, with its words.
        status: StatusCode,
        /// What an API says of it.
        said: Option<String>,
    },
    /// The server wants us to ask less.
    #[error("{url} answered {status}: too many requests{}{}", not_before(*until), in_words(said.as_deref()))]
    RateLimited {
        /// What was asked for.
        url: String,
        /// 403, 429 or 503.
        status: StatusCode,
        /// When it may be asked again.
        until: Option<Timestamp>,
        /// What an API says of it.
        said: Option<String>,
    },
    /// Not asked, because the host said that it wants no requests.
    #[error("{url} was not asked: {host} wants no requests until {until}")]
    Held {
        /// What would have been asked for.
        url: String,
        /// The host.
        host: String,
        /// When it may be asked again.
        until: Timestamp,
    },
    /// Not asked, because the host did not answer before.
    #[error("cannot reach {url}: {host} did not answer before ({reason})")]
    Down {
        /// What would have been asked for.
        url: String,
        /// The host.
        host: String,
        /// What was met there.
        reason: String,
    },
    /// What is to be shown to a server is not to be had.
    #[error("there are no credentials for {server}")]
    Credentials {
        /// The server.
        server: String,
        /// Why.
        source: SecretError,
    },
    /// The file of certificate authorities cannot be used.
    #[error("[network] ca: cannot use {path}: {problem}", path = path.display())]
    Authorities {
        /// The file.
        path: PathBuf,
        /// Why.
        problem: String,
    },
    /// No connection, or one that broke before the answer began.
    #[error("cannot reach {url}")]
    Unreachable {
        /// What was asked for.
        url: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// This machine cannot speak TLS.
    #[error("cannot set up TLS")]
    Tls {
        /// Why.
        source: reqwest::Error,
    },
    /// The server fell silent, or crawled.
    #[error("{url} sent nothing for {} s, or less than {CRAWL} bytes a second", waited.as_secs_f32())]
    Slow {
        /// What was asked for.
        url: String,
        /// The time limit.
        waited: Duration,
    },
    /// The answer came, but would not end.
    #[error("{url} did not end within {} s", waited.as_secs())]
    Overlong {
        /// What was asked for.
        url: String,
        /// The time limit.
        waited: Duration,
    },
    /// What went wrong for another build that needs the same file.
    #[error(transparent)]
    Shared(Arc<FetchError>),
    /// The answer ended early.
    #[error("{url} ended early, after {received} bytes")]
    Truncated {
        /// What was asked for.
        url: String,
        /// How many came.
        received: u64,
    },
    /// The answer is larger than it may be.
    #[error("{url} is larger than {limit} bytes")]
    TooLarge {
        /// What was asked for.
        url: String,
        /// The limit.
        limit: u64,
    },
    /// The file has another length than the source says.
    #[error("{url} has {got} bytes, but the release says {expected}")]
    Length {
        /// What was fetched.
        url: String,
        /// What it should have, in bytes.
        expected: u64,
        /// What it has.
        got: u64,
    },
    /// A registry that has no image of use.
    #[error("{image}: {problem}")]
    Image {
        /// The image.
        image: String,
        /// Why not.
        problem: String,
    },
    /// The file could not be written or read on this machine.
    #[error("cannot store {path}", path = path.display())]
    Disk {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// Whoever is led from place to place, and never arrives.
#[derive(Debug, Error)]
#[error("more than 10 redirects")]
pub(super) struct TooManyRedirects;

impl FetchError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let text = match self {
            Self::Status { status, .. } => match *status {
                StatusCode::NOT_FOUND => {
                    "check the URL in a browser; a private one answers the same without a token"
                }
                StatusCode::UNAUTHORIZED => "the token, if one is set, is not accepted",
                StatusCode::FORBIDDEN => "the server knows the file but does not give it out",
                StatusCode::PARTIAL_CONTENT => {
                    "the server sent a part where the whole was asked for"
                }
                StatusCode::NOT_MODIFIED => {
                    "it says that nothing changed to who had nothing: a cache before it may be broken"
                }
                status if status.is_redirection() => {
                    "it redirects to where publish does not follow: only http and https, never from https to http"
                }
                status if status.is_server_error() => {
                    "the server has a problem; the next sync tries again"
                }
                _ => return None,
            },
            Self::RateLimited { until: Some(until), .. } if *until <= Timestamp::now() => {
                "it wants fewer requests, and names a time that is over: its clock may be wrong; the next sync tries again"
            }
            Self::RateLimited { .. } | Self::Held { .. } => {
                "sync less often, or, for GitHub, set GITHUB_TOKEN: it has a larger quota"
            }
            Self::Unreachable { .. } | Self::Down { .. } => {
                "check the network and proxy settings; the next sync tries again"
            }
            Self::Credentials { .. } => {
                "[network.credentials] names the place, or leave the server out there"
            }
            Self::Authorities { .. } => "a file of certificates in PEM, relative to publish.toml",
            Self::Tls { .. } => {
                "install the system's CA certificates, or name them in SSL_CERT_FILE"
            }
            Self::Shared(error) => return error.hint(),
            Self::Slow { .. } | Self::Overlong { .. } => {
                "raise [network] timeout if the server is just slow"
            }
            Self::Truncated { .. } => "the next sync tries again",
            Self::TooLarge { limit, .. } if *limit == super::DOCUMENT => {
                "no page that lists versions is that long"
            }
            Self::TooLarge { .. } => "raise [limits] download if the upstream is trusted",
            Self::Length { .. } => {
                "the file changed upstream or on the way; do not publish it before you know why"
            }
            Self::Image { .. } => "check `oci`, and what the registry shows of the image",
            Self::Disk { .. } => {
                "downloads go to the folder of temporary files; $TMPDIR names another"
            }
        };
        Some(text.to_owned())
    }

    /// Whether the server said that there is no such thing.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        match self {
            Self::Status { status, .. } => *status == StatusCode::NOT_FOUND,
            Self::Shared(error) => error.is_not_found(),
            _ => false,
        }
    }

    /// Whether it is larger than it may be.
    #[must_use]
    pub fn is_too_large(&self) -> bool {
        match self {
            Self::Shared(error) => error.is_too_large(),
            other => matches!(other, Self::TooLarge { .. }),
        }
    }

    /// The same error, for another who would have asked for the same.
    pub(super) fn again(self: &Arc<Self>) -> Self {
        match &**self {
            Self::Status { url, status, said } => {
                Self::Status { url: url.clone(), status: *status, said: said.clone() }
            }
            Self::RateLimited { url, status, until, said } => Self::RateLimited {
                url: url.clone(),
                status: *status,
                until: *until,
                said: said.clone(),
            },
            Self::Shared(error) => error.again(),
            _ => Self::Shared(self.clone()),
        }
    }

    /// How long to wait before the try after this one, where another might go better. How long a
    /// host wants to be left alone is for the gate to know.
    pub(super) fn wait(&self, tried: u32) -> Option<Duration> {
        if let Self::RateLimited { until, .. } = self {
            let left = until.as_ref()?.duration_since(Timestamp::now());
            return (Duration::try_from(left).unwrap_or_default() <= PATIENCE)
                .then_some(Duration::ZERO);
        }
        self.may_pass().then(|| backoff(tried))
    }

    /// Whether it may be gone in a moment.
    pub(super) fn may_pass(&self) -> bool {
        match self {
            Self::Status { status, .. } => {
                status.is_server_error() || *status == StatusCode::REQUEST_TIMEOUT
            }
            Self::Unreachable { source, .. } => {
                let error = source.downcast_ref::<reqwest::Error>();
                !source.is::<TooManyRedirects>() && !error.is_some_and(reqwest::Error::is_builder)
            }
            Self::Slow { .. } | Self::Truncated { .. } => true,
            _ => false,
        }
    }
}

/// A server may name a time that is over: its clock, or its software, is wrong.
fn not_before(until: Option<Timestamp>) -> String {
    let until = until.filter(|at| *at > Timestamp::now());
    until.map(|at| format!(" until {at}")).unwrap_or_default()
}

fn in_words(said: Option<&str>) -> String {
    said.map(|said| format!(": {said}")).unwrap_or_default()
}

/// How long to wait after a failure: anything up to a bound that grows ("full jitter"), so that
/// those who failed together do not come again together.
pub(super) fn backoff(tried: u32) -> Duration {
    up_to(Duration::from_millis(500) * 2_u32.pow(tried.min(4)))
}

/// A random time up to a bound.
pub(crate) fn up_to(bound: Duration) -> Duration {
    rand::thread_rng().gen_range(Duration::ZERO..=bound)
}

//! What goes wrong on the way from a URL to bytes, whether it may pass, and what to do about it.
//!
//! Owns the words and the judgement. Knows nothing of how requests are made.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, StatusCode, header};
use jiff::Timestamp;
use thiserror::Error;

/// The longest that a server may ask us to wait before we rather report it.
const PATIENCE: Duration = Duration::from_secs(20);

/// Slower than this, in bytes a second, a server counts as down.
pub(super) const CRAWL: u64 = 1024;

/// Something that could not be fetched.
#[derive(Debug, Error)]
pub enum FetchError {
    /// The server answered, but not with what was asked for.
    #[error("{url} answered {status}")]
    Status {
        /// What was asked for.
        url: String,
        /// The status, with its words.
        status: StatusCode,
    },
    /// The server wants us to ask less.
    #[error("{url} answered {status}: too many requests{}", until.map(|at| format!(" until {at}")).unwrap_or_default())]
    RateLimited {
        /// What was asked for.
        url: String,
        /// 403 or 429.
        status: StatusCode,
        /// When it may be asked again.
        until: Option<Timestamp>,
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
    /// The file could not be written or read on this machine.
    #[error("cannot store {path}", path = path.display())]
    Disk {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

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
                status if status.is_redirection() => {
                    "it redirects to where publish does not follow: only http and https, never from https to http"
                }
                status if status.is_server_error() => {
                    "the server has a problem; the next sync tries again"
                }
                _ => return None,
            },
            Self::RateLimited { .. } => {
                "sync less often, or, for GitHub, set GITHUB_TOKEN: it has a larger quota"
            }
            Self::Unreachable { .. } => {
                "check the network and proxy settings; the next sync tries again"
            }
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
            Self::Disk { .. } => {
                "downloads go to the folder of temporary files; $TMPDIR names another"
            }
        };
        Some(text.to_owned())
    }

    /// Whether the server said that there is no such thing.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Status { status, .. } if *status == StatusCode::NOT_FOUND)
    }

    /// Whether it is larger than it may be.
    #[must_use]
    pub fn is_too_large(&self) -> bool {
        match self {
            Self::Shared(error) => error.is_too_large(),
            other => matches!(other, Self::TooLarge { .. }),
        }
    }

    /// How long to wait before the try after this one, where another might go better.
    pub(super) fn wait(&self, tried: u32) -> Option<Duration> {
        let passing = match self {
            Self::RateLimited { until, .. } => {
                let wait = Duration::try_from(until.as_ref()?.duration_since(Timestamp::now()))
                    .unwrap_or_default();
                return (wait <= PATIENCE).then_some(wait + Duration::from_millis(500));
            }
            Self::Status { status, .. } => {
                status.is_server_error() || *status == StatusCode::REQUEST_TIMEOUT
            }
            Self::Unreachable { source, .. } => {
                let error = source.downcast_ref::<reqwest::Error>();
                !error.is_some_and(|error| error.is_redirect() || error.is_builder())
            }
            Self::Slow { .. } | Self::Truncated { .. } => true,
            _ => false,
        };
        passing.then(|| Duration::from_millis(500) * 3_u32.pow(tried - 1))
    }
}

/// The error for an answer that is none, with the rate limits of the common servers told apart.
#[must_use]
pub fn refusal(url: String, status: StatusCode, headers: &HeaderMap) -> FetchError {
    let number = |name: &str| headers.get(name)?.to_str().ok()?.parse::<i64>().ok();
    let until = number(header::RETRY_AFTER.as_str())
        .and_then(|seconds| {
            Timestamp::now().checked_add(jiff::SignedDuration::from_secs(seconds)).ok()
        })
        .or_else(|| Timestamp::from_second(number("x-ratelimit-reset")?).ok())
        .and_then(|at| at.round(jiff::Unit::Second).ok());
    let exhausted =
        number("x-ratelimit-remaining") == Some(0) || headers.contains_key(header::RETRY_AFTER);
    if status == StatusCode::TOO_MANY_REQUESTS || status == StatusCode::FORBIDDEN && exhausted {
        FetchError::RateLimited { url, status, until }
    } else {
        FetchError::Status { url, status }
    }
}

//! What GitHub did not do for a release, and what a person can do about it.

use http::StatusCode;
use object_store::client::HttpError;
use thiserror::Error;

use crate::fetch::FetchError;
use crate::source::SourceError;

/// A release that is not as it should be.
#[derive(Debug, Error)]
pub(in crate::store) enum ReleaseError {
    /// The API's address, or the token.
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
    /// Something was sent, and no whole answer came.
    #[error("cannot send {name}")]
    Sending {
        /// The asset.
        name: String,
        /// Why.
        source: HttpError,
    },
    /// An answer that is none of GitHub's.
    #[error("github's answer makes no sense: {0}")]
    Answer(String),
    /// What is written needs a token.
    #[error("there is no token to write releases of {0} with")]
    NoToken(String),
    /// The project keeps its releases as they are.
    #[error("the release {tag} is immutable")]
    Immutable {
        /// Its tag.
        tag: String,
    },
    /// GitHub would call it something else, and nodes would not find it.
    #[error("github calls it {got}")]
    Renamed {
        /// Its name there.
        got: String,
    },
    /// Other bytes arrived than were sent.
    #[error("github has {got} of it, but {sent} was sent")]
    Damaged {
        /// What the answer says.
        got: String,
        /// What was sent.
        sent: String,
    },
    /// No release takes more.
    #[error("the release {tag} has {MOST} files, and no release takes more")]
    Full {
        /// Its tag.
        tag: String,
    },
    /// No release takes such a file.
    #[error("it has {size} bytes, and no release takes a file of 2 GiB or more")]
    Large {
        /// Its length.
        size: u64,
    },
    /// Somebody else has the name all the time.
    #[error("somebody else writes it, too")]
    Contested,
    /// The store has no release for this folder.
    #[error("there is no release for it")]
    NoPlace,
}

/// How many assets a release may have.
pub(super) const MOST: usize = 1000;

/// An asset must be smaller than this, in bytes.
pub(super) const LARGEST: u64 = 2 << 30;

impl ReleaseError {
    /// Whether what was sent may go better another time.
    pub(super) fn may_pass(&self) -> bool {
        match self {
            Self::Sending { .. } => true,
            Self::Asking { source: FetchError::Status { status, .. }, .. } => {
                status.is_server_error()
            }
            _ => false,
        }
    }

    /// What to do about it.
    pub(in crate::store) fn hint(&self) -> Option<String> {
        let text = match self {
            Self::Api(error) => return error.hint(),
            Self::Asking { source: FetchError::Status { status, .. }, .. } => match *status {
                StatusCode::UNAUTHORIZED => "the token in GITHUB_TOKEN is not accepted",
                StatusCode::FORBIDDEN | StatusCode::NOT_FOUND => {
                    "check [repository] store; GITHUB_TOKEN must be one that may write the project's contents: in a workflow, `permissions: contents: write`"
                }
                StatusCode::UNPROCESSABLE_ENTITY => {
                    "a tag needs a commit to point at: the project must not be empty, and no rule may forbid its tags"
                }
                status if status.is_server_error() => "github has a problem; sync again later",
                _ => return None,
            },
            Self::Asking {
                source: FetchError::RateLimited { .. } | FetchError::Held { .. },
                ..
            } => {
                "github wants fewer requests; what is published is whole, and a later sync goes on from there"
            }
            Self::Asking { source, .. } => return source.hint(),
            Self::Sending { .. } => "check the network; the next sync tries again",
            Self::Answer(_) => "see GITHUB_API_URL",
            Self::NoToken(_) => "set GITHUB_TOKEN to a token that may write the project's contents",
            Self::Immutable { .. } => {
                "a repository changes its releases: turn immutable releases off in the project's settings, and delete this one"
            }
            Self::Renamed { .. } => {
                "choose an [image] name and versions of A-Z a-z 0-9 . _ + -; it was taken away again"
            }
            Self::Damaged { .. } => "it was taken away again; the next sync tries again",
            Self::Full { .. } => {
                "let [versions] newest be smaller, or split the components over several projects: see docs/github.md"
            }
            Self::Large { .. } => "a smaller image, or another store, such as a bucket",
            Self::Contested => "let only one publisher run at a time; sync again",
            Self::NoPlace => {
                "github-release://OWNER/REPO/{component} is a release for each component"
            }
        };
        Some(text.to_owned())
    }
}

impl From<ReleaseError> for object_store::Error {
    fn from(error: ReleaseError) -> Self {
        Self::Generic { store: "GitHub", source: Box::new(error) }
    }
}

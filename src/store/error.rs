//! What a store did not do, why, and what a person can do about it.
//!
//! Owns the reading of other people's error texts: what an object store answers comes as a long
//! line that says everything several times. Knows nothing of what was being done.

use std::error::Error;
use std::fmt;
use std::io;

use object_store::client::HttpError;
use thiserror::Error;

use super::lock::Holder;
use super::release::ReleaseError;

/// A store that did not do what it was asked.
#[derive(Debug, Error)]
pub enum StoreError {
    /// Reading or writing one object failed.
    #[error("{doing} {path}")]
    Object {
        /// What was tried: `cannot write`.
        doing: &'static str,
        /// The object, as a person would find it.
        path: String,
        /// What the store said.
        source: Box<dyn Error + Send + Sync>,
    },
    /// Another process publishes to this store.
    #[error("another publisher holds {path}{}", holder.as_ref().map(|h| format!(": {h}")).unwrap_or_default())]
    Locked {
        /// The store.
        path: String,
        /// Who holds it, if that could be read.
        holder: Option<Holder>,
    },
    /// Our lock ran out, or somebody took it over.
    #[error("the lock of {path} was lost")]
    LockLost {
        /// The store.
        path: String,
    },
}

impl StoreError {
    pub(super) fn new(
        doing: &'static str,
        path: impl fmt::Display,
        source: impl Into<Box<dyn Error + Send + Sync>>,
    ) -> Self {
        Self::Object { doing, path: path.to_string(), source: source.into() }
    }

    /// The same, of what `object_store` says.
    pub(super) fn of(
        doing: &'static str,
        path: impl fmt::Display,
        error: object_store::Error,
    ) -> Self {
        let error = match error {
            object_store::Error::Generic { source, .. } if source.is::<ReleaseError>() => {
                return Self::new(doing, path, source);
            }
            error => error,
        };
        match Answer::read(&error) {
            Some(answer) => Self::new(doing, path, answer),
            None => Self::new(doing, path, error),
        }
    }

    /// Whether there is no room left on the disk.
    #[must_use]
    pub fn is_full(&self) -> bool {
        let Self::Object { source, .. } = self else { return false };
        let mut cause: Option<&(dyn Error + 'static)> = Some(source.as_ref());
        while let Some(error) = cause {
            if let Some(io) = error.downcast_ref::<io::Error>() {
                return is_full(io.kind());
            }
            cause = error.source();
        }
        false
    }

    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Locked { holder: Some(Holder { expires: Some(_), .. }), .. } => Some(
                "wait for it to end; a lock that was not renewed in time counts for nothing"
                    .to_owned(),
            ),
            Self::Locked { .. } => Some(
                "wait for it to end; a lock whose process is gone counts for nothing".to_owned(),
            ),
            Self::LockLost { .. } => Some(
                "nothing was written after that; sync again, and only one publisher at a time"
                    .to_owned(),
            ),
            Self::Object { source, .. } => {
                let mut cause: Option<&(dyn Error + 'static)> = Some(source.as_ref());
                while let Some(error) = cause {
                    if let Some(answer) = error.downcast_ref::<Answer>() {
                        return answer.hint();
                    }
                    if let Some(error) = error.downcast_ref::<ReleaseError>() {
                        return error.hint();
                    }
                    if let Some(io) = error.downcast_ref::<io::Error>() {
                        return hint_of_disk(io.kind());
                    }
                    cause = error.source();
                }
                None
            }
        }
    }
}

/// Whether that is for want of room.
pub(super) fn is_full(kind: io::ErrorKind) -> bool {
    matches!(kind, io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

fn hint_of_disk(kind: io::ErrorKind) -> Option<String> {
    match kind {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            Some("the store must be writable for this user".to_owned())
        }
        kind if is_full(kind) => Some(
            "nothing of the unfinished file is left; free some space and sync again".to_owned(),
        ),
        _ => None,
    }
}

/// What a server of objects said, or that it said nothing.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    /// A status, and the code and the sentence that most services put beside it.
    Refused { status: u16, code: String, message: String },
    /// No whole answer came.
    Silent(String),
    /// It says that another region has the bucket.
    Elsewhere,
    /// There is nobody who could sign the request.
    NoCredentials(String),
}

impl Error for Answer {}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused { status, code, message } => {
                let reason = http::StatusCode::from_u16(*status)
                    .ok()
                    .and_then(|status| status.canonical_reason())
                    .unwrap_or_default();
                write!(f, "the server answered {status} {reason}")?;
                for part in [code, message].into_iter().filter(|part| !part.is_empty()) {
                    write!(f, ": {part}")?;
                }
                Ok(())
            }
            Self::Silent(why) => write!(f, "no answer: {why}"),
            Self::Elsewhere => {
                f.write_str("the server sends us to another place, and does not say where")
            }
            Self::NoCredentials(why) => write!(f, "no credentials: {why}"),
        }
    }
}

impl Answer {
    fn read(error: &object_store::Error) -> Option<Self> {
        let text = error.to_string();
        // The machine that is asked for keys if the environment has none: most are not such a one.
        if text.contains("169.254.") || text.contains("metadata.google.internal") {
            return Some(Self::NoCredentials(
                "the environment has none, and no cloud gives us any".to_owned(),
            ));
        }
        if text.contains("Received redirect without LOCATION") {
            return Some(Self::Elsewhere);
        }
        if let Some((_, answer)) = text.split_once("status code: ") {
            let status = answer.get(..3).and_then(|status| status.parse().ok())?;
            let within = |tag: &str| {
                let (_, rest) = answer.split_once(&format!("<{tag}>"))?;
                let (value, _) = rest.split_once(&format!("</{tag}>"))?;
                Some(shortened(value))
            };
            let code = within("Code").unwrap_or_default();
            return Some(Self::Refused {
                status,
                code,
                message: within("Message").unwrap_or_default(),
            });
        }
        let mut cause: Option<&(dyn Error + 'static)> = Some(error);
        while let Some(error) = cause {
            if error.is::<HttpError>() {
                let mut last = error;
                while let Some(deeper) = last.source() {
                    last = deeper;
                }
                return Some(Self::Silent(shortened(&last.to_string())));
            }
            cause = error.source();
        }
        None
    }

    fn hint(&self) -> Option<String> {
        let (status, code) = match self {
            Self::Refused { status, code, .. } => (*status, code.as_str()),
            Self::Silent(_) => {
                return Some(
                    "is AWS_ENDPOINT_URL right, and the server up? it was asked several times"
                        .to_owned(),
                );
            }
            Self::Elsewhere => return Some("set AWS_REGION to the bucket's region".to_owned()),
            Self::NoCredentials(_) => {
                return Some("set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or what your service has instead".to_owned());
            }
        };
        let hint = match (status, code) {
            (_, "SignatureDoesNotMatch") => {
                "the secret is not the one of this key: check AWS_SECRET_ACCESS_KEY"
            }
            (_, "InvalidAccessKeyId") => {
                "the service does not know this key: check AWS_ACCESS_KEY_ID, and AWS_ENDPOINT_URL if it is not Amazon's"
            }
            (_, "ExpiredToken" | "InvalidToken") => "the session is over: get new credentials",
            (_, "RequestTimeTooSkewed") => "this machine's clock is wrong: set it",
            (_, "NoSuchBucket" | "ContainerNotFound") => {
                "there is no such bucket: make it first, or correct [repository] store"
            }
            (
                _,
                "AuthorizationHeaderMalformed"
                | "PermanentRedirect"
                | "IllegalLocationConstraintException",
            ) => "set AWS_REGION to the bucket's region",
            (401 | 403, _) => {
                "these credentials may not do that. They need s3:GetObject, s3:PutObject, s3:DeleteObject and s3:ListBucket: without the last one a bucket answers 403 for what is not there, and that counts as an error"
            }
            (429 | 500..=599, _) => {
                "the server is overloaded or broken: it was asked several times; sync again later"
            }
            _ => return None,
        };
        Some(hint.to_owned())
    }
}

/// One line, of a length that people read, without anything that moves the cursor.
fn shortened(text: &str) -> String {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let text: String = text.chars().filter(|c| !c.is_control()).collect();
    match text.char_indices().nth(200) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}

/// Whether the store says that there is no such object. That there is no such bucket is another
/// thing: taken for an empty repository, it would be built anew.
pub(super) fn is_missing(error: &object_store::Error) -> bool {
    matches!(error, object_store::Error::NotFound { .. })
        && !["NoSuchBucket", "ContainerNotFound"]
            .iter()
            .any(|code| error.to_string().contains(code))
}

/// Whether no whole answer came, so that nobody knows what was done.
pub(super) fn is_silence(error: &object_store::Error) -> bool {
    matches!(Answer::read(error), Some(Answer::Silent(_)))
}

/// Whether the store says that a condition does not hold.
pub(super) fn is_refused_condition(error: &object_store::Error) -> bool {
    use object_store::Error::{AlreadyExists, NotModified, Precondition};
    matches!(error, AlreadyExists { .. } | Precondition { .. } | NotModified { .. })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(body: &str) -> StoreError {
        let text = format!(
            "Error performing PUT http://h/b/k in 1.2ms - Server returned non-2xx status code: {body}"
        );
        let error = object_store::Error::Generic { store: "S3", source: text.into() };
        StoreError::of("cannot write", "s3://b/k", error)
    }

    #[test]
    fn an_answer_is_said_once_and_briefly() {
        let error = answered(
            "403 Forbidden: <?xml version=\"1.0\"?><Error><Code>SignatureDoesNotMatch</Code><Message>The request\n signature we calculated</Message><StringToSign>secret</StringToSign></Error>",
        );
        assert_eq!(
            error.source().unwrap().to_string(),
            "the server answered 403 Forbidden: SignatureDoesNotMatch: The request signature we calculated"
        );
        assert!(error.hint().unwrap().contains("AWS_SECRET_ACCESS_KEY"));
    }

    #[test]
    fn each_common_failure_has_a_hint() {
        for (body, hint) in [
            ("404 Not Found: <Error><Code>NoSuchBucket</Code></Error>", "make it first"),
            ("403 Forbidden: <Error><Code>RequestTimeTooSkewed</Code></Error>", "clock"),
            ("403 Forbidden: <Error><Code>AccessDenied</Code></Error>", "s3:ListBucket"),
            ("503 Service Unavailable: ", "overloaded"),
            (
                "400 Bad Request: <Error><Code>AuthorizationHeaderMalformed</Code></Error>",
                "AWS_REGION",
            ),
        ] {
            let said = answered(body).hint().unwrap_or_default();
            assert!(said.contains(hint), "{body}: {said}");
        }
    }

    #[test]
    fn a_bucket_that_is_not_there_is_no_empty_one() {
        let missing = |text: &str| object_store::Error::NotFound {
            path: "k".to_owned(),
            source: text.to_owned().into(),
        };
        assert!(is_missing(&missing("<Code>NoSuchKey</Code>")));
        assert!(is_missing(&missing("")));
        assert!(!is_missing(&missing("<Code>NoSuchBucket</Code>")));
    }
}

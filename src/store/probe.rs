//! The probe: whether a bucket compares before it writes.
//!
//! Some servers take `If-Match` and `If-None-Match` and ignore them, without a word. Whoever trusts
//! such a bucket loses lines. So before the first write of a run the bucket is tried: an object that
//! is there must not be created again, nor replaced as if it were another, nor completed in parts.
//! The object stays, so that the next probe needs a request less.

use object_store::{PutMode, UpdateVersion};

use super::error::is_refused_condition;
use super::{PRIVATE, Store, StoreError};

/// What a probe found.
pub(super) enum Found {
    /// Conditions are honoured.
    Compares,
    /// They are not; what is ignored, for people.
    Ignores(&'static str),
}

const TEXT: &str = "publish tries here whether the bucket compares before it writes\n";

pub(super) async fn probe(store: &Store) -> Result<Found, StoreError> {
    let path = format!("{PRIVATE}/probe");
    let failed = |error| store.error("cannot write", &path, error);
    let create = async || store.put_if(&path, TEXT.into(), PutMode::Create).await;
    let first = match create().await {
        Ok(_) => create().await,
        there => there,
    };
    match first {
        Err(error) if is_refused_condition(&error) => {}
        Err(error) if !is_unknown(&error) => return Err(failed(error)),
        _ => return Ok(Found::Ignores("If-None-Match")),
    }
    let never = UpdateVersion {
        e_tag: Some("\"00000000000000000000000000000000\"".to_owned()),
        // Google counts generations, and has none of this number.
        version: Some("1".to_owned()),
    };
    match store.put_if(&path, TEXT.into(), PutMode::Update(never)).await {
        Err(error) if is_refused_condition(&error) => {}
        Err(error) if !is_unknown(&error) => return Err(failed(error)),
        _ => return Ok(Found::Ignores("If-Match")),
    }
    match store.create_in_parts(&path, TEXT.into()).await {
        None => {}
        Some(Err(error)) if is_refused_condition(&error) => {}
        Some(Err(error)) if !is_unknown(&error) => return Err(failed(error)),
        Some(_) => return Ok(Found::Ignores("If-None-Match where a file goes up in parts")),
    }
    Ok(Found::Compares)
}

/// The server, or we, know no such condition.
fn is_unknown(error: &object_store::Error) -> bool {
    use object_store::Error::{NotImplemented, NotSupported};
    matches!(error, NotImplemented { .. } | NotSupported { .. })
        || error.to_string().contains("status code: 501")
}

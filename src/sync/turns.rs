//! Publishers that meet: whoever was overtaken stands back for a moment, and tries again.
//!
//! Owns how often, and how long between. What a try does, and that it reads anew what is there, is for
//! whoever tries.

use std::time::Duration;

use crate::fetch;
use crate::repository::commit::CommitError;

/// How often something is tried because another publisher was faster. Of four that begin at once, each
/// may lose twice to each other one: to its signature that is to come, and to its manifest.
const ATTEMPTS: u32 = 8;

/// Tries until no other publisher is faster, or it has been too often: then the last failure is the
/// answer.
pub(crate) async fn in_turn<T, E>(
    is_overtaken: impl Fn(&E) -> bool,
    mut work: impl AsyncFnMut() -> Result<T, E>,
) -> Result<T, E> {
    for attempt in 1..ATTEMPTS {
        match work().await {
            Err(error) if is_overtaken(&error) => {
                tracing::debug!("another publisher was faster");
                stand_back(attempt).await;
            }
            done => return done,
        }
    }
    work().await
}

/// Waits for a moment that grows, so that publishers that met do not meet again.
async fn stand_back(attempt: u32) {
    tokio::time::sleep(fetch::up_to(Duration::from_millis(50) * attempt)).await;
}

/// Whether another publisher was faster.
pub(crate) fn is_raced(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(CommitError::Raced { .. }))
}

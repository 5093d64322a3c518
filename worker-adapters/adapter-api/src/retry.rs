//! Bounded retries of what no engine has worked on.

use std::future::Future;
use std::time::Duration;

use crate::EngineError;

const ATTEMPTS_MAX: u32 = 3;
const BASE: Duration = Duration::from_millis(50);
const CAP: Duration = Duration::from_secs(1);

/// Runs `attempt` up to three times while it fails in a way that may be repeated before the first
/// token. Waits between with exponential backoff and full jitter
/// (<https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/>).
///
/// # Errors
/// The last attempt's.
pub async fn retry<T, F>(mut attempt: impl FnMut() -> F) -> Result<T, EngineError>
where
    F: Future<Output = Result<T, EngineError>>,
{
    let mut failures = 0;
    loop {
        match attempt().await {
            Err(error) if error.retriable_before_first_token() && failures + 1 < ATTEMPTS_MAX => {
                tokio::time::sleep(jitter(failures)).await;
                failures += 1;
            }
            last => return last,
        }
    }
}

/// Evenly between zero and the backoff, so that callers who failed together come back apart.
fn jitter(failures: u32) -> Duration {
    let backoff = BASE.saturating_mul(1 << failures.min(16)).min(CAP);
    let part = getrandom::u32().unwrap_or(u32::MAX);
    backoff.mul_f64(f64::from(part) / f64::from(u32::MAX))
}

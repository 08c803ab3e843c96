//! Waiting with a limit, or without.

use std::future::Future;
use std::time::Duration;

use tokio::time::error::Elapsed;

/// Waits for `future`, but not for longer than `limit`, where zero stands for no limit as it does in the settings.
pub async fn within<F: Future>(limit: Duration, future: F) -> Result<F::Output, Elapsed> {
    if limit.is_zero() {
        Ok(future.await)
    } else {
        tokio::time::timeout(limit, future).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn zero_is_patience_without_end() {
        let long = || tokio::time::sleep(Duration::from_secs(100));
        assert!(within(Duration::ZERO, long()).await.is_ok());
        assert!(within(Duration::from_secs(1), long()).await.is_err());
        assert!(within(Duration::from_secs(101), long()).await.is_ok());
    }
}

//! How long to leave a server alone that refuses connections.

use std::time::Duration;

use tokio::time::Instant;

use super::source::OpenError;
use crate::error::Refusal;

/// The first pause; every further failure doubles it.
const PAUSE_FIRST: Duration = Duration::from_secs(1);
/// No pause is shorter, whatever the settings say: a refused attempt must not be repeated in a tight loop.
const PAUSE_MIN: Duration = Duration::from_millis(100);

#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
    failed_at: Option<Instant>,
    retry_at: Option<Instant>,
    error: Option<OpenError>,
    /// Attempts that began earlier say nothing of what would happen now.
    news_at: Option<Instant>,
}

impl Backoff {
    /// An attempt that began at `started` has failed. `unit`, in 0..1, spreads the retries of many pools by ±10 %.
    pub(super) fn fail(
        &mut self,
        error: OpenError,
        started: Instant,
        now: Instant,
        longest: Duration,
        unit: f32,
    ) {
        if self.news_at.is_some_and(|news_at| started < news_at) {
            return;
        }
        self.error = Some(error);
        // Attempts run in parallel; those that were under way when the first of them failed are the same failure.
        if self.failed_at.is_some_and(|failed_at| started <= failed_at) {
            return;
        }
        let doubled = PAUSE_FIRST.saturating_mul(1_u32.checked_shl(self.failures).unwrap_or(u32::MAX));
        let pause = doubled
            .min(longest)
            .max(PAUSE_MIN)
            .mul_f64(0.9 + 0.2 * f64::from(unit));
        self.failures = (self.failures + 1).min(31);
        self.failed_at = Some(now);
        self.retry_at = Some(now + pause);
    }

    /// An attempt has succeeded, or there is reason to believe that the next one will.
    pub(super) fn clear(&mut self) {
        *self = Self {
            news_at: self.news_at,
            ..Self::default()
        };
    }

    /// What connections are opened with has changed: attempts that are under way do not know of it.
    pub(super) fn begin_anew(&mut self, now: Instant) {
        self.news_at = Some(now);
        self.clear();
    }

    /// Until when nothing is to be tried.
    pub(super) fn until(&self, now: Instant) -> Option<Instant> {
        self.retry_at.filter(|at| *at > now)
    }

    /// The server has refused before: one attempt at a time.
    pub(super) fn is_probing(&self) -> bool {
        self.failures > 0
    }

    /// What to tell newcomers at once, because waiting will not help.
    pub(super) fn final_error(&self, now: Instant) -> Option<&Refusal> {
        self.until(now)?;
        self.error
            .as_ref()
            .filter(|error| error.is_final)
            .map(|error| &error.refusal)
    }

    /// Why the last attempt failed, if none has succeeded since.
    pub(super) fn last_error(&self) -> Option<&Refusal> {
        self.error.as_ref().map(|error| &error.refusal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::SqlState;

    fn error() -> OpenError {
        OpenError {
            refusal: Refusal::new(SqlState::CANNOT_CONNECT_NOW, "starting up"),
            is_final: false,
            note: None,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_double_up_to_the_longest_and_start_again_after_a_success() {
        let mut backoff = Backoff::default();
        let mut now = Instant::now();
        let mut pauses = Vec::new();
        for _ in 0..6 {
            backoff.fail(error(), now, now, Duration::from_secs(15), 0.5);
            let until = backoff.until(now).expect("it has just failed");
            pauses.push((until - now).as_secs_f32().round());
            now = until;
        }
        assert_eq!(pauses, [1.0, 2.0, 4.0, 8.0, 15.0, 15.0]);
        backoff.clear();
        assert!(!backoff.is_probing());
        backoff.fail(error(), now, now, Duration::from_secs(15), 0.0);
        assert_eq!((backoff.until(now).expect("failed") - now).as_millis(), 900);
    }

    #[tokio::test(start_paused = true)]
    async fn attempts_that_fail_together_count_as_one() {
        let mut backoff = Backoff::default();
        let (started, now) = (Instant::now(), Instant::now() + Duration::from_millis(5));
        for ms in 0..4 {
            backoff.fail(
                error(),
                started,
                now + Duration::from_millis(ms),
                Duration::from_secs(15),
                0.5,
            );
        }
        let pause = backoff.until(now).expect("failed") - now;
        assert!(pause < Duration::from_millis(1200), "{pause:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn attempts_from_before_the_news_do_not_count() {
        let (mut backoff, before) = (Backoff::default(), Instant::now());
        let news = before + Duration::from_millis(5);
        backoff.begin_anew(news);
        let mut fail = |started| {
            let now = started + Duration::from_millis(20);
            backoff.fail(error(), started, now, Duration::from_secs(15), 0.5);
            backoff.until(now).is_some()
        };
        assert!(!fail(before));
        assert!(fail(news));
    }
}

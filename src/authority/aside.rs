//! Work that blocks, on threads beside the workers, so much of it at once and no more.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use crate::net::within;

/// Places for work that blocks.
pub(super) struct Aside {
    places: Arc<Semaphore>,
}

impl Aside {
    pub(super) fn new(max: usize) -> Self {
        Self {
            places: Arc::new(Semaphore::new(max)),
        }
    }

    /// Does the work and returns its result; nothing if that takes longer than `limit`, the wait for a place included,
    /// or if the work panics. Zero is without limit. The place is taken until the work is really done.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        limit: Duration,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let done = async {
            let place = self.places.clone().acquire_owned().await.ok()?;
            let task = tokio::task::spawn_blocking(move || {
                let result = work();
                drop(place);
                result
            });
            task.await.ok()
        };
        within(limit, done).await.ok().flatten()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn work_that_hangs_keeps_its_place_and_nobody_waits_for_ever() {
        let aside = Aside::new(1);
        let (release, released) = mpsc::channel::<()>();
        let moment = Duration::from_millis(50);
        assert_eq!(aside.run(moment, move || released.recv()).await, None);
        assert_eq!(aside.run(moment, || 1).await, None, "the only place is taken");
        release.send(()).unwrap();
        assert_eq!(aside.run(Duration::ZERO, || 2).await, Some(2));
    }

    #[tokio::test]
    async fn work_that_panics_gives_its_place_back() {
        let aside = Aside::new(1);
        assert_eq!(
            aside.run(Duration::ZERO, || -> u8 { panic!("on purpose") }).await,
            None
        );
        assert_eq!(aside.run(Duration::ZERO, || 2).await, Some(2));
    }
}

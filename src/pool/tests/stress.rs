//! Many clients on several threads, and no manners.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::fake::{Fake, give, key, sized};
use crate::pool::{Book, Dirt, LimitName, Pool, Settings, Waiter};
use crate::stats::Tally;

fn next(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

async fn client(pool: Arc<Pool<Fake>>, fake: Fake, seed: u64, leases: Arc<AtomicU64>) {
    let mut dice = seed;
    let mut waiter = Waiter::new();
    for _ in 0..150 {
        let patience = Duration::from_micros(next(&mut dice) % 4000);
        let got = tokio::time::timeout(patience, pool.lease(&mut waiter, 0)).await;
        let Ok(Ok(lease)) = got else { continue };
        leases.fetch_add(1, Ordering::Relaxed);
        assert!(!fake.link(lease.id() as usize).is_gone());
        if next(&mut dice).is_multiple_of(3) {
            tokio::task::yield_now().await;
        }
        match next(&mut dice) % 20 {
            0 => drop(lease),
            1 | 2 => lease.release_dirty(Dirt::Abandoned, &mut Tally::default()),
            3 => {
                lease.0.die();
                give(lease);
            }
            _ => give(lease),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_or_doubled_under_many_hands() {
    let book = Book::new();
    book.set(LimitName::Process, 6);
    let fake = Fake::default();
    let settings = Settings {
        server_check_delay: Some(Duration::from_micros(500)),
        ..sized(4)
    };
    let pools: Vec<_> = ["a", "b"]
        .iter()
        .map(|user| Pool::with_seed(key("d", user), settings.clone(), fake.clone(), &book, 7))
        .collect();
    let leases = Arc::new(AtomicU64::new(0));
    let clients: Vec<_> = (0..40_u64)
        .map(|n| {
            let pool = Arc::clone(&pools[n as usize % 2]);
            tokio::spawn(client(
                pool,
                fake.clone(),
                0x9E37_79B9 ^ (n + 1),
                Arc::clone(&leases),
            ))
        })
        .collect();
    for n in 0..20 {
        tokio::time::sleep(Duration::from_millis(3)).await;
        let pool = &pools[n % 2];
        match n % 5 {
            0 => pool.reconnect(),
            1 => pool.pause(),
            2 => pools.iter().for_each(|pool| pool.resume()),
            _ => pool.apply(Settings {
                pool_size: 2 + n as u32 % 4,
                ..settings.clone()
            }),
        }
    }
    for pool in &pools {
        pool.resume();
    }
    for client in clients {
        client.await.expect("no client panics");
    }
    assert!(leases.load(Ordering::Relaxed) > 1000, "{leases:?}");
    for pool in &pools {
        pool.pause();
        tokio::time::timeout(Duration::from_secs(10), pool.emptied())
            .await
            .expect("nothing is stuck");
        let seen = pool.snapshot();
        assert_eq!((seen.servers(), seen.cl_waiting), (0, 0));
    }
    assert_eq!((fake.living(), book.get(&LimitName::Process)), (0, (0, 6)));
}

#[test]
fn a_runtime_that_ends_in_the_middle_of_everything_takes_the_pool_with_it() {
    for _ in 0..20 {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build();
        let runtime = runtime.expect("threads can be started");
        let fake = Fake::default();
        fake.0.lock().work_takes = Duration::from_millis(1);
        let guard = runtime.enter();
        let settings = Settings {
            min_pool_size: 2,
            server_check_delay: Some(Duration::ZERO),
            ..sized(3)
        };
        let pool = Pool::new(key("d", "u"), settings, fake.clone(), &Book::new());
        drop(guard);
        for n in 1..30_u64 {
            runtime.spawn(client(Arc::clone(&pool), fake.clone(), n, Arc::default()));
        }
        std::thread::sleep(Duration::from_millis(5));
        drop(runtime);
        drop(pool);
        assert_eq!(fake.living(), 0);
    }
}

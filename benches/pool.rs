//! The pool: what a transaction pays for its server. Two locks and the core's decisions, without any IO.

use std::sync::Arc;
use std::task::{Context, Poll};

use divan::Bencher;
use howdah::pool::{Book, Dirt, Gone, OpenError, Pool, PoolKey, Settings, Source, Waiter};
use howdah::stats::Tally;
use tokio::runtime::{Builder, Runtime};

fn main() {
    divan::main();
}

/// Connections that lead nowhere and are always well.
struct Nowhere;

impl Source for Nowhere {
    type Conn = ();
    type Info = ();

    async fn open(&self) -> Result<(), OpenError> {
        Ok(())
    }

    fn info(&self, _conn: &()) -> Arc<()> {
        Arc::new(())
    }

    fn mark(&self, _conn: &()) -> u64 {
        0
    }

    fn poll_idle(&self, _conn: &mut (), _cx: &mut Context<'_>) -> Poll<Gone> {
        Poll::Pending
    }

    async fn clean(&self, conn: (), _dirt: Dirt) -> Option<()> {
        Some(conn)
    }

    async fn check(&self, conn: ()) -> Option<()> {
        Some(conn)
    }

    fn close(&self, _conn: ()) {}
}

fn pool(runtime: &Runtime, size: u32) -> Arc<Pool<Nowhere>> {
    let _guard = runtime.enter();
    let key = PoolKey {
        database: "app".to_owned(),
        user: "bench".to_owned(),
    };
    let settings = Settings {
        pool_size: size,
        ..Settings::default()
    };
    Pool::new(key, settings, Nowhere, &Book::new())
}

/// A server is idle: it is leased and released.
#[divan::bench(args = [1, 16])]
fn lease_and_release(bencher: Bencher, size: u32) {
    let runtime = Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    let pool = pool(&runtime, size);
    let (mut waiter, mut tally) = (Waiter::new(), Tally::default());
    bencher.bench_local(|| {
        let lease = runtime.block_on(pool.lease(&mut waiter, 0));
        lease.expect("a server").release(&mut tally);
    });
}

/// All servers are taken: the next in line gets one as it is released.
#[divan::bench]
fn hand_over(bencher: Bencher) {
    let runtime = Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    let pool = pool(&runtime, 1);
    let (mut first, mut second) = (Waiter::new(), Waiter::new());
    let (mut one, mut other) = (Tally::default(), Tally::default());
    bencher.bench_local(|| {
        runtime.block_on(async {
            let taken = pool.lease(&mut first, 0).await.expect("a server");
            let release = async { taken.release(&mut one) };
            let (next, ()) = tokio::join!(pool.lease(&mut second, 0), release);
            next.expect("the same server").release(&mut other);
        });
    });
}

//! Connections that lead nowhere, and a source of them that does as it is told.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use atomic_waker::AtomicWaker;
use parking_lot::Mutex;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::error::{Refusal, SqlState};
use crate::pool::{Book, Dirt, Gone, Lease, LeaseError, OpenError, Pool, PoolKey, Settings, Source, Waiter};
use crate::stats::Tally;

/// The far end of a connection.
#[derive(Default)]
pub(super) struct Link {
    pub(super) id: u64,
    dead: AtomicBool,
    gone: AtomicBool,
    waker: AtomicWaker,
}

impl Link {
    pub(super) fn die(&self) {
        self.dead.store(true, Ordering::SeqCst);
        self.waker.wake();
    }

    pub(super) fn is_dead(&self) -> bool {
        self.dead.load(Ordering::SeqCst)
    }

    /// The pool has let go of it.
    pub(super) fn is_gone(&self) -> bool {
        self.gone.load(Ordering::SeqCst)
    }
}

pub(super) struct Conn(pub(super) Arc<Link>);

impl Conn {
    pub(super) fn id(&self) -> u64 {
        self.0.id
    }
}

impl Drop for Conn {
    fn drop(&mut self) {
        assert!(
            !self.0.gone.swap(true, Ordering::SeqCst),
            "a connection ends once"
        );
    }
}

#[derive(Default)]
pub(super) struct Script {
    /// How the next attempts to open end; then they succeed.
    pub(super) refusals: VecDeque<OpenError>,
    pub(super) open_takes: Duration,
    pub(super) work_takes: Duration,
    /// Checks and cleanings fail.
    pub(super) is_unfit: bool,
    /// To open a connection for nobody is without hope.
    pub(super) is_hopeless: bool,
    /// The mark of all connections; each has its own if none is set.
    pub(super) mark: Option<u64>,
    pub(super) attempts: Vec<Instant>,
    pub(super) links: Vec<Arc<Link>>,
    pub(super) cleaned: Vec<Dirt>,
    pub(super) checked: usize,
    opening: usize,
    pub(super) opening_max: usize,
}

#[derive(Clone, Default)]
pub(super) struct Fake(pub(super) Arc<Mutex<Script>>);

impl Fake {
    pub(super) fn living(&self) -> usize {
        self.0.lock().links.iter().filter(|link| !link.is_gone()).count()
    }

    pub(super) fn opened(&self) -> usize {
        self.0.lock().links.len()
    }

    pub(super) fn link(&self, index: usize) -> Arc<Link> {
        Arc::clone(&self.0.lock().links[index])
    }

    pub(super) fn refuse(&self, times: usize, is_final: bool) {
        let refusal = Refusal::new(SqlState::CANNOT_CONNECT_NOW, "no");
        let error = OpenError {
            refusal,
            is_final,
            note: None,
        };
        self.0.lock().refusals.extend(std::iter::repeat_n(error, times));
    }

    fn work(&self, conn: Conn) -> impl Future<Output = Option<Conn>> + Send + use<> {
        let (takes, is_unfit) = {
            let script = self.0.lock();
            (script.work_takes, script.is_unfit)
        };
        async move {
            tokio::time::sleep(takes).await;
            (!is_unfit && !conn.0.is_dead()).then_some(conn)
        }
    }
}

struct Attempt<'a>(&'a Fake);

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        self.0.0.lock().opening -= 1;
    }
}

impl Source for Fake {
    type Conn = Conn;
    type Info = u64;

    fn mark(&self, conn: &Conn) -> u64 {
        self.0.lock().mark.unwrap_or(conn.id() + 1)
    }

    fn is_hopeful(&self) -> bool {
        !self.0.lock().is_hopeless
    }

    async fn open(&self) -> Result<Conn, OpenError> {
        let takes = {
            let mut script = self.0.lock();
            script.attempts.push(Instant::now());
            script.opening += 1;
            script.opening_max = script.opening_max.max(script.opening);
            script.open_takes
        };
        let _attempt = Attempt(self);
        if !takes.is_zero() {
            tokio::time::sleep(takes).await;
        }
        let mut script = self.0.lock();
        if let Some(error) = script.refusals.pop_front() {
            return Err(error);
        }
        let link = Arc::new(Link {
            id: script.links.len() as u64,
            ..Link::default()
        });
        script.links.push(Arc::clone(&link));
        Ok(Conn(link))
    }

    fn info(&self, conn: &Conn) -> Arc<u64> {
        Arc::new(conn.id())
    }

    fn poll_idle(&self, conn: &mut Conn, cx: &mut Context<'_>) -> Poll<Gone> {
        conn.0.waker.register(cx.waker());
        if conn.0.is_dead() {
            Poll::Ready(Gone("dead".into()))
        } else {
            Poll::Pending
        }
    }

    fn clean(&self, conn: Conn, dirt: Dirt) -> impl Future<Output = Option<Conn>> + Send {
        self.0.lock().cleaned.push(dirt);
        self.work(conn)
    }

    fn check(&self, conn: Conn) -> impl Future<Output = Option<Conn>> + Send {
        self.0.lock().checked += 1;
        self.work(conn)
    }

    fn close(&self, _conn: Conn) {}
}

pub(super) fn key(database: &str, user: &str) -> PoolKey {
    PoolKey {
        database: database.into(),
        user: user.into(),
    }
}

pub(super) fn refusal() -> Refusal {
    Refusal::new(SqlState::ADMIN_SHUTDOWN, "bye")
}

pub(super) fn sized(pool_size: u32) -> Settings {
    Settings {
        pool_size,
        ..Settings::default()
    }
}

pub(super) fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// A pool by itself.
pub(super) fn pool(settings: Settings) -> (Arc<Pool<Fake>>, Fake) {
    let fake = Fake::default();
    (
        Pool::with_seed(key("d", "u"), settings, fake.clone(), &Book::new(), 1),
        fake,
    )
}

pub(super) async fn lease(pool: &Arc<Pool<Fake>>) -> Lease<Fake> {
    pool.lease(&mut Waiter::new(), 0)
        .await
        .expect("the pool has a server")
}

/// Somebody who asks and keeps what he gets.
pub(super) fn ask(pool: &Arc<Pool<Fake>>) -> JoinHandle<Result<Lease<Fake>, LeaseError>> {
    let pool = Arc::clone(pool);
    tokio::spawn(async move { pool.lease(&mut Waiter::new(), 0).await })
}

pub(super) fn give(lease: Lease<Fake>) {
    lease.release(&mut Tally::default());
}

/// Lets every task do what it can do without time passing.
pub(super) async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

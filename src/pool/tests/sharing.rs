//! Pools under shared limits.

use std::sync::Arc;
use std::time::Duration;

use super::fake::{Fake, ask, give, key, lease, secs, settle, sized};
use crate::pool::{Book, LimitName, Pool, Settings};

struct Street {
    book: Arc<Book>,
    fake: Fake,
}

impl Street {
    fn new(limit: LimitName, max: u32) -> Self {
        let book = Book::new();
        book.set(limit, max);
        Self {
            book,
            fake: Fake::default(),
        }
    }

    fn pool(&self, database: &str, user: &str, settings: Settings) -> Arc<Pool<Fake>> {
        Pool::with_seed(key(database, user), settings, self.fake.clone(), &self.book, 1)
    }
}

fn database() -> LimitName {
    LimitName::Database("d".into())
}

#[tokio::test(start_paused = true)]
async fn a_limit_holds_over_all_pools_of_its_database_and_only_those() {
    let street = Street::new(database(), 3);
    let pools = [street.pool("d", "a", sized(5)), street.pool("d", "b", sized(5))];
    let elsewhere = street.pool("e", "a", sized(5));
    let tasks: Vec<_> = (0..8).map(|n| ask(&pools[n % 2])).collect();
    let others: Vec<_> = (0..5).map(|_| ask(&elsewhere)).collect();
    settle().await;
    assert_eq!(tasks.iter().filter(|task| task.is_finished()).count(), 3);
    assert_eq!(others.iter().filter(|task| task.is_finished()).count(), 5);
    assert_eq!(street.book.get(&database()), (3, 3));
    assert_eq!(street.book.get(&LimitName::Process), (8, 0));
}

#[tokio::test(start_paused = true)]
async fn an_idle_server_of_another_pool_makes_room_the_longest_idle_first() {
    let street = Street::new(LimitName::User("u".into()), 2);
    let (a, b, c) = (
        street.pool("a", "u", sized(5)),
        street.pool("b", "u", sized(5)),
        street.pool("c", "u", sized(5)),
    );
    give(lease(&a).await);
    tokio::time::sleep(secs(1)).await;
    give(lease(&b).await);
    let held = lease(&c).await;
    assert_eq!((a.snapshot().servers(), b.snapshot().servers()), (0, 1));
    let _more = lease(&c).await;
    assert_eq!(b.snapshot().servers(), 0);
    give(held);
    assert_eq!(street.fake.living(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_starving_pool_gets_the_next_server_that_another_does_not_need() {
    let street = Street::new(LimitName::Process, 1);
    let (a, b) = (street.pool("d", "a", sized(5)), street.pool("d", "b", sized(5)));
    let held = lease(&a).await;
    let waiting = ask(&b);
    tokio::time::sleep(secs(1)).await;
    assert!(!waiting.is_finished());
    give(held);
    settle().await;
    assert!(waiting.is_finished());
    assert_eq!((a.snapshot().servers(), street.fake.living()), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn a_busy_pool_takes_turns_with_one_that_has_nothing() {
    let street = Street::new(database(), 1);
    let (a, b) = (street.pool("d", "a", sized(5)), street.pool("d", "b", sized(5)));
    let work = |pool: &Arc<Pool<Fake>>| {
        let pool = Arc::clone(pool);
        tokio::spawn(async move {
            for _ in 0..100 {
                let lease = lease(&pool).await;
                tokio::time::sleep(Duration::from_millis(10)).await;
                give(lease);
            }
        })
    };
    let busy: Vec<_> = (0..3).map(|_| work(&a)).collect();
    settle().await;
    let asked = tokio::time::Instant::now();
    let held = ask(&b).await.expect("joined").expect("served");
    assert!(
        asked.elapsed() < Duration::from_millis(300),
        "{:?}",
        asked.elapsed()
    );
    give(held);
    for task in busy {
        task.await.expect("joined");
    }
    assert_eq!(street.fake.living(), 1);
}

#[tokio::test(start_paused = true)]
async fn two_busy_pools_share_a_limit_evenly_and_then_stop_reconnecting() {
    let street = Street::new(database(), 4);
    let (a, b) = (street.pool("d", "a", sized(4)), street.pool("d", "b", sized(4)));
    let work = |pool: &Arc<Pool<Fake>>| {
        let pool = Arc::clone(pool);
        tokio::spawn(async move {
            loop {
                let lease = lease(&pool).await;
                tokio::time::sleep(Duration::from_millis(10)).await;
                give(lease);
            }
        })
    };
    let _a: Vec<_> = (0..20).map(|_| work(&a)).collect();
    tokio::time::sleep(secs(1)).await;
    assert_eq!(a.snapshot().servers(), 4);
    let _b: Vec<_> = (0..20).map(|_| work(&b)).collect();
    tokio::time::sleep(secs(1)).await;
    assert_eq!((a.snapshot().servers(), b.snapshot().servers()), (2, 2));
    let opened = street.fake.opened();
    tokio::time::sleep(secs(10)).await;
    assert_eq!(street.fake.opened(), opened);
}

#[tokio::test(start_paused = true)]
async fn a_pool_whose_waiters_left_does_not_block_those_behind_it() {
    let street = Street::new(LimitName::Process, 1);
    let pools: Vec<_> = ["a", "b", "c"]
        .iter()
        .map(|user| street.pool("d", user, sized(1)))
        .collect();
    let held = lease(&pools[0]).await;
    let leaving = ask(&pools[1]);
    settle().await;
    let waiting = ask(&pools[2]);
    settle().await;
    leaving.abort();
    settle().await;
    give(held);
    settle().await;
    assert!(waiting.is_finished());
}

#[tokio::test(start_paused = true)]
async fn keeping_a_minimum_never_takes_a_turn_or_a_server_from_others() {
    let street = Street::new(LimitName::Process, 2);
    let a = street.pool("d", "a", sized(2));
    let held = [lease(&a).await, lease(&a).await];
    held.into_iter().for_each(give);
    let b = street.pool(
        "d",
        "b",
        Settings {
            min_pool_size: 2,
            ..sized(2)
        },
    );
    tokio::time::sleep(secs(20)).await;
    assert_eq!((a.snapshot().servers(), b.snapshot().servers()), (2, 0));
    a.reconnect();
    tokio::time::sleep(secs(20)).await;
    assert_eq!((a.snapshot().servers(), b.snapshot().servers()), (0, 2));
    assert!(b.is_ready());
}

#[tokio::test(start_paused = true)]
async fn a_lowered_limit_is_reached_as_servers_come_back_and_a_raised_one_wakes_those_who_wait() {
    let street = Street::new(LimitName::Process, 4);
    let a = street.pool("d", "a", sized(4));
    let mut held = Vec::new();
    for _ in 0..4 {
        held.push(lease(&a).await);
    }
    street.book.set(LimitName::Process, 2);
    held.into_iter().for_each(give);
    assert_eq!(street.fake.living(), 2);
    let tasks: Vec<_> = (0..4).map(|_| ask(&a)).collect();
    settle().await;
    assert_eq!(tasks.iter().filter(|task| task.is_finished()).count(), 2);
    street.book.set(LimitName::Process, 0);
    settle().await;
    assert_eq!(tasks.iter().filter(|task| task.is_finished()).count(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_pool_gives_everything_back() {
    let street = Street::new(LimitName::Process, 2);
    let a = street.pool("d", "a", sized(2));
    give(lease(&a).await);
    drop(a);
    settle().await;
    assert_eq!(
        (street.book.get(&LimitName::Process).0, street.fake.living()),
        (0, 0)
    );
    assert_eq!(street.book.get(&LimitName::User("a".into())), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_became_idle_while_a_permit_was_on_its_way_to_another_is_not_overlooked() {
    let street = Street::new(LimitName::Process, 2);
    let pools: Vec<_> = ["a", "b", "c", "d"]
        .iter()
        .map(|user| street.pool("d", user, sized(1)))
        .collect();
    let held = [lease(&pools[0]).await, lease(&pools[1]).await];
    let first = ask(&pools[2]);
    settle().await;
    let second = ask(&pools[3]);
    settle().await;
    // The first is closed for the starving; at that moment nothing is in their way, and the second becomes idle.
    held.into_iter().for_each(give);
    assert_eq!(pools[1].snapshot().sv_idle, 1);
    settle().await;
    assert!(first.is_finished() && second.is_finished());
}

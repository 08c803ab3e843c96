//! Administration.

use std::sync::Arc;

use super::fake::{Fake, ask, give, key, lease, pool, refusal, secs, settle, sized};
use crate::pool::{LeaseError, Pool, Registry, Settings};

#[tokio::test(start_paused = true)]
async fn a_paused_pool_empties_and_serves_again_when_resumed() {
    let (pool, fake) = pool(sized(2));
    let held = [lease(&pool).await, lease(&pool).await];
    let [one, two] = held;
    give(one);
    pool.pause();
    assert_eq!(fake.living(), 1, "the idle one is closed at once");
    let emptied = tokio::spawn({
        let pool = Arc::clone(&pool);
        async move { pool.emptied().await }
    });
    let waiting = ask(&pool);
    tokio::time::sleep(secs(10)).await;
    assert!(!emptied.is_finished() && !waiting.is_finished());
    give(two);
    emptied.await.expect("joined");
    assert_eq!(fake.living(), 0);
    tokio::time::sleep(secs(10)).await;
    assert!(!waiting.is_finished());
    pool.resume();
    assert!(waiting.await.expect("joined").is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_connection_under_way_when_the_pool_is_paused_is_closed_and_opened_again_later() {
    let (pool, fake) = pool(sized(1));
    fake.0.lock().open_takes = secs(1);
    let waiting = ask(&pool);
    settle().await;
    pool.pause();
    pool.emptied().await;
    assert!(!waiting.is_finished());
    pool.resume();
    assert_eq!(waiting.await.expect("joined").expect("served").id(), 1);
}

#[tokio::test(start_paused = true)]
async fn reconnect_replaces_every_server_but_none_under_a_clients_hands() {
    let (pool, fake) = pool(Settings {
        min_pool_size: 2,
        ..sized(3)
    });
    settle().await;
    let held = lease(&pool).await;
    pool.reconnect();
    let closed = tokio::spawn({
        let pool = Arc::clone(&pool);
        async move { pool.wait_close().await }
    });
    settle().await;
    assert_eq!(fake.living(), 2);
    assert!(!fake.link(held.id() as usize).is_gone() && !closed.is_finished());
    let mut needed = 0;
    pool.for_each_server(|server| needed += u32::from(server.is_close_needed));
    assert_eq!(needed, 1);
    give(held);
    closed.await.expect("joined");
    settle().await;
    assert_eq!((fake.living(), fake.opened()), (2, 4));
    assert!(fake.link(0).is_gone() && fake.link(1).is_gone());
}

#[tokio::test(start_paused = true)]
async fn a_killed_pool_keeps_nothing_that_comes_back_and_serves_newcomers_after_resume() {
    let (pool, fake) = pool(sized(2));
    let held = [lease(&pool).await, lease(&pool).await];
    let waiting = ask(&pool);
    settle().await;
    pool.kill(refusal());
    assert_eq!(
        waiting.await.expect("joined").err(),
        Some(LeaseError::Closing(refusal()))
    );
    held.into_iter().for_each(give);
    assert_eq!(fake.living(), 0);
    let later = ask(&pool);
    settle().await;
    assert!(!later.is_finished());
    pool.resume();
    assert!(later.await.expect("joined").is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_closed_pool_refuses_and_closes_what_comes_back() {
    let (pool, fake) = pool(Settings {
        min_pool_size: 2,
        ..sized(2)
    });
    settle().await;
    let held = lease(&pool).await;
    pool.close(refusal());
    assert_eq!(fake.living(), 1);
    assert_eq!(
        ask(&pool).await.expect("joined").err(),
        Some(LeaseError::Closing(refusal()))
    );
    pool.pause();
    pool.resume();
    give(held);
    pool.emptied().await;
    assert_eq!(fake.living(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_disabled_pool_still_serves_those_who_are_in() {
    let (pool, _fake) = pool(sized(1));
    pool.disable();
    assert!(pool.is_disabled() && pool.snapshot().is_disabled);
    give(lease(&pool).await);
    pool.enable();
    assert!(!pool.is_disabled());
}

#[tokio::test(start_paused = true)]
async fn cancel_requests_are_counted_while_they_last() {
    let (pool, _fake) = pool(sized(1));
    let mark = pool.cancel_mark();
    assert_eq!(pool.snapshot().sv_active_cancel, 1);
    drop(mark);
    assert_eq!(pool.snapshot().sv_active_cancel, 0);
}

#[tokio::test(start_paused = true)]
async fn pools_are_made_once_and_removed_when_long_unused_but_their_totals_stay() {
    let registry = Registry::<Fake>::new();
    let make = |user: &str| {
        let key = key("d", user);
        let settings = Settings {
            server_idle_timeout: secs(10),
            ..sized(1)
        };
        registry.get_or_create(&key, |book| {
            Pool::new(key.clone(), settings, Fake::default(), book)
        })
    };
    let pool = make("u");
    assert!(Arc::ptr_eq(&pool, &make("u")));
    give(lease(&pool).await);
    tokio::time::sleep(secs(5)).await;
    assert_eq!(registry.remove_unused(secs(60)), 0);
    tokio::time::sleep(secs(600)).await;
    assert_eq!(registry.remove_unused(secs(60)), 0, "somebody has it");
    drop(pool);
    let other = make("v");
    assert_eq!(registry.remove_unused(secs(60)), 1);
    assert_eq!(registry.all().len(), 1);
    assert_eq!(registry.of_database("d")[0].key(), other.key());
    assert_eq!(registry.totals().server_assignment_count, 1);
}

#[tokio::test(start_paused = true)]
async fn the_keeper_ends_with_its_pool() {
    let (pool, fake) = pool(Settings {
        min_pool_size: 2,
        ..sized(2)
    });
    settle().await;
    let tasks = tokio::runtime::Handle::current().metrics().num_alive_tasks();
    drop(pool);
    settle().await;
    assert_eq!(fake.living(), 0);
    assert_eq!(
        tokio::runtime::Handle::current().metrics().num_alive_tasks(),
        tasks - 1
    );
}

#[tokio::test(start_paused = true)]
async fn a_pool_that_makes_way_is_not_refilled_at_once() {
    let (pool, fake) = pool(Settings {
        min_pool_size: 2,
        ..sized(3)
    });
    settle().await;
    let held = lease(&pool).await;
    pool.make_way();
    settle().await;
    assert_eq!(fake.living(), 1, "idle ones are closed at once");
    give(held);
    tokio::time::sleep(secs(5)).await;
    assert_eq!(
        fake.living(),
        0,
        "the others as they come back, and no new one takes their place"
    );
    give(lease(&pool).await);
    assert_eq!(fake.living(), 1, "a client is served nevertheless");
    tokio::time::sleep(secs(2)).await;
    assert_eq!(fake.living(), 2);
}

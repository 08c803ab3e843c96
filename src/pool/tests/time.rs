//! What time does to idle connections.

use std::time::Duration;

use super::fake::{ask, give, lease, pool, secs, settle, sized};
use crate::pool::Settings;

#[tokio::test(start_paused = true)]
async fn an_idle_server_is_closed_after_server_idle_timeout_but_not_below_min_pool_size() {
    let settings = Settings {
        server_idle_timeout: secs(60),
        min_pool_size: 1,
        server_check_delay: None,
        ..sized(3)
    };
    let (pool, fake) = pool(settings);
    let held = [lease(&pool).await, lease(&pool).await, lease(&pool).await];
    held.into_iter().for_each(give);
    tokio::time::sleep(secs(30)).await;
    give(lease(&pool).await);
    tokio::time::sleep(secs(31)).await;
    assert_eq!(
        fake.living(),
        1,
        "the two that were not used; the third is all that is left"
    );
    tokio::time::sleep(secs(300)).await;
    assert_eq!((fake.living(), fake.opened()), (1, 3));
}

#[tokio::test(start_paused = true)]
async fn a_server_is_closed_at_95_to_100_percent_of_its_lifetime_though_idle() {
    let settings = Settings {
        server_lifetime: secs(1000),
        server_idle_timeout: secs(0),
        ..sized(50)
    };
    let (pool, fake) = pool(settings);
    let tasks: Vec<_> = (0..50).map(|_| ask(&pool)).collect();
    for task in tasks {
        give(task.await.expect("joined").expect("served"));
        settle().await;
    }
    let many = fake.living();
    assert!(many > 1);
    tokio::time::sleep(secs(949)).await;
    assert_eq!(fake.living(), many);
    tokio::time::sleep(secs(26)).await;
    assert!(
        (1..many).contains(&fake.living()),
        "they do not end together: {} of {many}",
        fake.living()
    );
    tokio::time::sleep(secs(26)).await;
    assert_eq!(fake.living(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_server_older_than_its_lifetime_is_closed_when_it_comes_back() {
    let (pool, fake) = pool(Settings {
        server_lifetime: secs(10),
        ..sized(1)
    });
    let held = lease(&pool).await;
    tokio::time::sleep(secs(11)).await;
    assert_eq!(fake.living(), 1, "never under a client's hands");
    give(held);
    assert_eq!(fake.living(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_server_without_lifetime_is_used_once() {
    let (pool, fake) = pool(Settings {
        server_lifetime: secs(0),
        min_pool_size: 1,
        ..sized(2)
    });
    settle().await;
    tokio::time::sleep(secs(20)).await;
    assert_eq!((fake.living(), fake.opened()), (1, 1), "unused, it is kept");
    let held = lease(&pool).await;
    assert_eq!(held.id(), 0);
    give(held);
    assert!(fake.link(0).is_gone());
    settle().await;
    assert_eq!(fake.opened(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_dies_while_idle_is_dropped_before_anybody_gets_it() {
    let (pool, fake) = pool(sized(2));
    let held = [lease(&pool).await, lease(&pool).await];
    held.into_iter().for_each(give);
    fake.link(0).die();
    settle().await;
    assert!(fake.link(0).is_gone(), "without anybody asking");
    // And if the keeper had no time to see it, whoever asks does.
    fake.link(1).die();
    assert_eq!(lease(&pool).await.id(), 2);
    assert!(fake.link(1).is_gone());
    assert_eq!(
        pool.snapshot().stats.connections_lost,
        3,
        "two idle, and the lease that was just dropped"
    );
}

#[tokio::test(start_paused = true)]
async fn a_server_that_dies_in_the_moment_of_its_release_is_not_kept() {
    let (pool, fake) = pool(sized(1));
    let held = lease(&pool).await;
    fake.link(0).die();
    give(held);
    assert_eq!((fake.living(), pool.snapshot().servers()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_server_idle_for_server_check_delay_is_checked_before_use() {
    let (pool, fake) = pool(Settings {
        server_check_delay: Some(secs(30)),
        ..sized(1)
    });
    give(lease(&pool).await);
    tokio::time::sleep(secs(29)).await;
    give(lease(&pool).await);
    assert_eq!(fake.0.lock().checked, 0);
    tokio::time::sleep(secs(31)).await;
    assert_eq!((pool.snapshot().sv_idle, pool.snapshot().sv_used), (0, 1));
    let held = lease(&pool).await;
    assert_eq!((held.id(), fake.0.lock().checked), (0, 1));
    give(held);
    tokio::time::sleep(secs(31)).await;
    fake.0.lock().is_unfit = true;
    assert_eq!(lease(&pool).await.id(), 1, "it failed its check and was replaced");
    assert!(fake.link(0).is_gone());
}

#[tokio::test(start_paused = true)]
async fn a_check_goes_on_when_the_client_that_caused_it_leaves() {
    let (pool, fake) = pool(Settings {
        server_check_delay: Some(Duration::ZERO),
        ..sized(1)
    });
    give(lease(&pool).await);
    fake.0.lock().work_takes = secs(1);
    let leaving = ask(&pool);
    settle().await;
    assert_eq!(pool.snapshot().sv_tested, 1);
    leaving.abort();
    tokio::time::sleep(secs(2)).await;
    assert_eq!((pool.snapshot().servers(), fake.living()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn the_keeper_sleeps_while_there_is_nothing_to_do() {
    let (server_idle_timeout, query_wait_timeout) = (secs(0), secs(0));
    let settings = Settings {
        server_idle_timeout,
        query_wait_timeout,
        server_lifetime: secs(1000),
        ..sized(1)
    };
    let (pool, _fake) = pool(settings);
    for _ in 0..10 {
        give(lease(&pool).await);
        tokio::time::sleep(secs(1)).await;
    }
    let planned = pool.core().planned.expect("for the end of its lifetime");
    assert!(planned.elapsed().is_zero() && planned - tokio::time::Instant::now() > secs(900));
}

//! Opening connections: how many, when, and what happens if the server refuses.

use std::time::Duration;

use super::fake::{ask, give, lease, pool, secs, settle, sized};
use crate::pool::{LeaseError, Settings};

#[tokio::test(start_paused = true)]
async fn connections_are_opened_in_parallel_up_to_the_bound_and_the_size() {
    let (pool, fake) = pool(Settings {
        max_parallel_connects: 3,
        ..sized(5)
    });
    fake.0.lock().open_takes = secs(1);
    let waiting: Vec<_> = (0..8).map(|_| ask(&pool)).collect();
    settle().await;
    assert_eq!(pool.snapshot().sv_login, 3);
    tokio::time::sleep(secs(5)).await;
    assert_eq!(waiting.iter().filter(|task| task.is_finished()).count(), 5);
    assert_eq!((fake.opened(), fake.0.lock().opening_max), (5, 3));
}

#[tokio::test(start_paused = true)]
async fn a_waiter_takes_a_returned_server_if_that_comes_before_his_new_one() {
    let (pool, fake) = pool(sized(2));
    let held = lease(&pool).await;
    fake.0.lock().open_takes = secs(10);
    let waiting = ask(&pool);
    settle().await;
    give(held);
    assert_eq!(waiting.await.expect("joined").expect("served").id(), 0);
    tokio::time::sleep(secs(11)).await;
    assert_eq!(
        (pool.snapshot().servers(), fake.opened()),
        (1, 2),
        "the new one is kept for the next"
    );
}

#[tokio::test(start_paused = true)]
async fn no_more_are_opened_than_wait() {
    let (pool, fake) = pool(sized(20));
    fake.0.lock().open_takes = secs(1);
    let _waiting = [ask(&pool), ask(&pool)];
    settle().await;
    assert_eq!(fake.0.lock().attempts.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_pool_without_hope_opens_nothing_for_nobody_until_it_is_encouraged() {
    let (pool, fake) = pool(Settings {
        min_pool_size: 2,
        ..sized(5)
    });
    fake.0.lock().is_hopeless = true;
    fake.refuse(1, true);
    tokio::time::sleep(secs(100)).await;
    assert_eq!(fake.0.lock().attempts.len(), 0);
    assert!(
        ask(&pool).await.expect("joined").is_err(),
        "a client may find out"
    );
    assert!(
        ask(&pool).await.expect("joined").is_err(),
        "and the next is told the same"
    );
    assert_eq!(fake.0.lock().attempts.len(), 1);
    fake.0.lock().is_hopeless = false;
    pool.encourage();
    settle().await;
    assert_eq!(pool.snapshot().sv_idle, 2, "at once, not when the pause is over");
}

#[tokio::test(start_paused = true)]
async fn refused_connections_are_tried_again_after_one_two_and_four_seconds() {
    let (pool, fake) = pool(sized(3));
    fake.refuse(3, false);
    let waiting = ask(&pool);
    waiting.await.expect("joined").expect("served in the end");
    let attempts = fake.0.lock().attempts.clone();
    let pauses: Vec<f64> = attempts
        .windows(2)
        .map(|pair| (pair[1] - pair[0]).as_secs_f64())
        .collect();
    assert_eq!(pauses.len(), 3);
    for (pause, nominal) in pauses.into_iter().zip([1.0, 2.0, 4.0]) {
        assert!(
            (nominal * 0.9..=nominal * 1.1 + 0.01).contains(&pause),
            "{pause} for {nominal}"
        );
    }
    assert_eq!(pool.snapshot().last_error, None);
    assert_eq!(pool.snapshot().stats.connections_errors, 3);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_refused_is_tried_by_one_attempt_at_a_time() {
    let (pool, fake) = pool(Settings {
        max_parallel_connects: 4,
        ..sized(10)
    });
    fake.refuse(4, false);
    let _waiting: Vec<_> = (0..10).map(|_| ask(&pool)).collect();
    settle().await;
    assert_eq!(fake.0.lock().attempts.len(), 4);
    fake.0.lock().open_takes = secs(1);
    tokio::time::sleep(Duration::from_millis(1150)).await;
    assert_eq!(fake.0.lock().attempts.len(), 5);
    tokio::time::sleep(secs(1)).await;
    assert_eq!(fake.0.lock().attempts.len(), 9, "it has recovered");
    tokio::time::sleep(secs(3)).await;
    assert_eq!(pool.snapshot().cl_waiting, 0);
}

#[tokio::test(start_paused = true)]
async fn waiters_outlast_a_transient_refusal_but_not_their_own_time() {
    let (pool, fake) = pool(Settings {
        query_wait_timeout: secs(5),
        ..sized(1)
    });
    fake.refuse(100, false);
    match ask(&pool).await.expect("joined").err() {
        Some(LeaseError::Timeout {
            waited, last_error, ..
        }) => {
            assert_eq!(waited, secs(5));
            assert_eq!(last_error.expect("it was refused").message, "no");
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_final_refusal_fails_all_waiters_and_newcomers_until_the_next_attempt() {
    let (pool, fake) = pool(sized(3));
    fake.0.lock().open_takes = secs(1);
    fake.refuse(1, true);
    let waiting: Vec<_> = (0..1).map(|_| ask(&pool)).collect();
    for task in waiting {
        assert!(matches!(
            task.await.expect("joined").err(),
            Some(LeaseError::Failed(_))
        ));
    }
    let newcomer = ask(&pool);
    settle().await;
    assert!(newcomer.is_finished(), "it fails without an attempt");
    assert_eq!(fake.0.lock().attempts.len(), 1);
    tokio::time::sleep(secs(2)).await;
    give(lease(&pool).await);
}

#[tokio::test(start_paused = true)]
async fn a_final_refusal_leaves_waiters_alone_while_a_server_may_still_come_back() {
    let (pool, fake) = pool(sized(3));
    let held = lease(&pool).await;
    fake.refuse(1, true);
    let waiting = ask(&pool);
    settle().await;
    assert!(!waiting.is_finished());
    give(held);
    drop(
        waiting
            .await
            .expect("joined")
            .expect("served by the one that came back"),
    );
}

#[tokio::test(start_paused = true)]
async fn a_final_refusal_reaches_waiters_when_the_last_server_that_might_come_back_is_lost() {
    let (pool, fake) = pool(sized(3));
    let held = lease(&pool).await;
    fake.refuse(1, true);
    let waiting = ask(&pool);
    settle().await;
    drop(held);
    assert!(matches!(
        waiting.await.expect("joined").err(),
        Some(LeaseError::Failed(_))
    ));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_refused_is_tried_at_once_after_reconnect() {
    let (pool, fake) = pool(sized(1));
    fake.refuse(1, false);
    let waiting = ask(&pool);
    settle().await;
    assert!(!waiting.is_finished());
    pool.reconnect();
    settle().await;
    assert!(waiting.is_finished());
}

#[tokio::test(start_paused = true)]
async fn min_pool_size_is_opened_at_once_and_refilled() {
    let (pool, fake) = pool(Settings {
        min_pool_size: 3,
        max_parallel_connects: 1,
        ..sized(5)
    });
    assert!(!pool.is_ready());
    settle().await;
    assert!(pool.is_ready());
    assert_eq!(pool.snapshot().sv_idle, 3);
    fake.link(1).die();
    settle().await;
    assert!(fake.link(1).is_gone());
    assert_eq!((pool.snapshot().sv_idle, fake.opened()), (3, 4));
    assert!(pool.snapshot().stats.connections_lost == 1);
}

#[tokio::test(start_paused = true)]
async fn the_reserve_is_opened_for_those_who_waited_long_and_closed_when_nobody_waits() {
    let settings = Settings {
        reserve_pool_size: 2,
        reserve_pool_timeout: secs(5),
        ..sized(1)
    };
    let (pool, fake) = pool(settings);
    let held = lease(&pool).await;
    let one = ask(&pool);
    tokio::time::sleep(secs(2)).await;
    let (two, three) = (ask(&pool), ask(&pool));
    tokio::time::sleep(Duration::from_millis(2900)).await;
    assert_eq!(fake.opened(), 1);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(one.is_finished());
    assert_eq!(fake.opened(), 2);
    tokio::time::sleep(secs(2)).await;
    assert!(two.is_finished() && !three.is_finished());
    assert_eq!(fake.opened(), 3, "that is all there is");
    give(held);
    give(three.await.expect("joined").expect("served"));
    assert_eq!(
        pool.snapshot().servers(),
        2,
        "more than pool_size are not kept idle"
    );
}

#[tokio::test(start_paused = true)]
async fn a_pool_can_be_resized_while_it_works() {
    let (pool, fake) = pool(sized(2));
    let held = [lease(&pool).await, lease(&pool).await];
    let waiting = [ask(&pool), ask(&pool)];
    settle().await;
    pool.apply(sized(4));
    settle().await;
    assert_eq!(fake.opened(), 4);
    pool.apply(sized(1));
    held.into_iter().for_each(give);
    for task in waiting {
        give(task.await.expect("joined").expect("served"));
    }
    assert_eq!((pool.snapshot().servers(), fake.living()), (1, 1));
    pool.apply(Settings {
        min_pool_size: 3,
        ..sized(5)
    });
    settle().await;
    assert_eq!(pool.snapshot().sv_idle, 3);
    pool.apply(sized(2));
    assert_eq!(pool.snapshot().sv_idle, 2);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_of_no_use_is_replaced_in_its_place() {
    let (pool, fake) = pool(sized(1));
    let first = lease(&pool).await;
    assert!(first.is_new());
    give(first);
    let again = lease(&pool).await;
    assert!(!again.is_new());
    let waiting = ask(&pool);
    let replaced = again.replaced().await.expect("it can be opened");
    assert!(replaced.is_new());
    settle().await;
    assert!(!waiting.is_finished(), "the place is still taken");
    assert_eq!(
        (fake.opened(), fake.living(), pool.snapshot().servers()),
        (2, 1, 1)
    );
    give(replaced);
    settle().await;
    assert!(waiting.is_finished());
}

#[tokio::test(start_paused = true)]
async fn a_place_is_free_again_if_nothing_can_be_opened_in_it() {
    let (pool, fake) = pool(sized(1));
    give(lease(&pool).await);
    let used = lease(&pool).await;
    let waiting = ask(&pool);
    fake.refuse(1, false);
    assert!(used.replaced().await.is_none());
    waiting.await.unwrap().expect("the next attempt succeeds");
}

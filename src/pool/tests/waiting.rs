//! The line, and those who leave it.

use std::sync::Arc;
use std::time::Duration;

use super::fake::{ask, give, lease, pool, refusal, secs, settle, sized};
use crate::pool::{Dirt, LeaseError, ServerState, Settings, Waiter};
use crate::stats::Tally;

#[tokio::test(start_paused = true)]
async fn a_released_server_is_used_again() {
    let (pool, fake) = pool(sized(5));
    for _ in 0..10 {
        give(lease(&pool).await);
    }
    assert_eq!(fake.opened(), 1);
    let stats = pool.snapshot().stats;
    assert_eq!(
        (
            stats.requests_num,
            stats.requests_queued,
            stats.server_assignment_count
        ),
        (10, 1, 10)
    );
}

#[tokio::test(start_paused = true)]
async fn the_latest_server_is_used_first_or_the_longest_idle_with_round_robin() {
    for (server_round_robin, expected) in [(false, 2), (true, 0)] {
        let (pool, _fake) = pool(Settings {
            server_round_robin,
            ..sized(3)
        });
        let leases = [lease(&pool).await, lease(&pool).await, lease(&pool).await];
        leases.into_iter().for_each(give);
        assert_eq!(lease(&pool).await.id(), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_fits_is_used_before_the_latest() {
    let (pool, _fake) = pool(sized(3));
    let leases = [lease(&pool).await, lease(&pool).await, lease(&pool).await];
    let mark = leases[1].id() + 1;
    leases.into_iter().for_each(give);
    let fitting = pool.lease(&mut Waiter::new(), mark).await.unwrap();
    assert_eq!(fitting.id() + 1, mark);
    let other = pool.lease(&mut Waiter::new(), mark).await.unwrap();
    assert_eq!(other.id(), 2, "it is taken, so the latest");
}

#[tokio::test(start_paused = true)]
async fn whoever_has_just_had_a_server_that_fits_has_it_again() {
    let (pool, fake) = pool(sized(3));
    fake.0.lock().mark = Some(1);
    let mut waiters = [(); 3].map(|()| Waiter::new());
    let mut had = Vec::new();
    for waiter in &mut waiters {
        had.push(pool.lease(waiter, 1).await.unwrap());
    }
    let ids: Vec<_> = had.iter().map(|lease| lease.id()).collect();
    had.into_iter().for_each(give);
    for (waiter, id) in waiters.iter_mut().zip(&ids) {
        let again = pool.lease(waiter, 1).await.unwrap();
        assert_eq!(again.id(), *id);
        give(again);
    }
    let latest = ids[2];
    tokio::time::sleep(Duration::from_secs(2)).await;
    let later = pool.lease(&mut waiters[0], 1).await.unwrap();
    assert_eq!(later.id(), latest, "those that nobody needs grow old");
}

#[tokio::test(start_paused = true)]
async fn waiters_are_served_in_the_order_they_came_and_nobody_barges_in() {
    let (pool, _fake) = pool(sized(1));
    let first = lease(&pool).await;
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    for n in 0..20 {
        let (pool, tell) = (Arc::clone(&pool), tell.clone());
        tokio::spawn(async move {
            let lease = lease(&pool).await;
            tell.send(n).expect("the test listens");
            tokio::time::sleep(secs(1)).await;
            give(lease);
        });
        settle().await;
    }
    give(first);
    // The server is on its way to the first waiter: a newcomer must not take it from under his nose.
    let newcomer = ask(&pool);
    for n in 0..20 {
        assert_eq!(told.recv().await, Some(n));
    }
    assert!(newcomer.await.expect("joined").is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_waiter_that_leaves_is_skipped() {
    let (pool, _fake) = pool(sized(1));
    let held = lease(&pool).await;
    let (gone, next) = (ask(&pool), ask(&pool));
    settle().await;
    gone.abort();
    settle().await;
    assert_eq!(pool.snapshot().cl_waiting, 1);
    give(held);
    assert!(next.await.expect("joined").is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_server_handed_to_a_waiter_that_leaves_in_that_instant_is_passed_on() {
    let (pool, fake) = pool(sized(1));
    let held = lease(&pool).await;
    let mut waiter = Waiter::new();
    let mut leaving = Box::pin(pool.lease(&mut waiter, 0));
    assert!(futures_pending(leaving.as_mut()).await);
    let next = ask(&pool);
    settle().await;
    give(held);
    assert_eq!(pool.snapshot().cl_active, 1, "it was handed over");
    drop(leaving);
    let next = next.await.expect("joined").expect("it was passed on");
    give(next);
    // The same when nobody else waits; and the waiter can be used again.
    let held = lease(&pool).await;
    let mut leaving = Box::pin(pool.lease(&mut waiter, 0));
    assert!(futures_pending(leaving.as_mut()).await);
    give(held);
    drop(leaving);
    assert_eq!(pool.snapshot().sv_idle, 1);
    give(pool.lease(&mut waiter, 0).await.expect("idle"));
    assert_eq!(fake.opened(), 1);
}

async fn futures_pending<F: Future + Unpin>(mut future: F) -> bool {
    std::future::poll_fn(|cx| std::task::Poll::Ready(std::pin::Pin::new(&mut future).poll(cx).is_pending()))
        .await
}

#[tokio::test(start_paused = true)]
async fn a_lease_polled_beside_other_things_keeps_its_place() {
    let (pool, _fake) = pool(sized(1));
    let held = lease(&pool).await;
    let mut waiter = Waiter::new();
    let mut first = std::pin::pin!(pool.lease(&mut waiter, 0));
    let mut notices = 0;
    let mut second = None;
    let mut held = Some(held);
    let lease = loop {
        tokio::select! {
            lease = &mut first => break lease.expect("served"),
            () = tokio::time::sleep(secs(5)) => {
                notices += 1;
                second.get_or_insert_with(|| ask(&pool));
                if notices == 3 {
                    give(held.take().expect("once"));
                }
            }
        }
    };
    assert!(!second.expect("asked").is_finished());
    give(lease);
    assert_eq!(notices, 3);
}

#[tokio::test(start_paused = true)]
async fn too_many_waiters_are_refused_at_once() {
    let (pool, _fake) = pool(Settings {
        max_waiting: 2,
        ..sized(1)
    });
    let _held = lease(&pool).await;
    let _waiting = [ask(&pool), ask(&pool)];
    settle().await;
    let refused = ask(&pool).await.expect("joined").err();
    assert_eq!(refused, Some(LeaseError::TooManyWaiting { limit: 2 }));
    assert_eq!(pool.snapshot().stats.requests_errors, 1);
}

#[tokio::test(start_paused = true)]
async fn a_waiter_that_gives_up_in_a_pause_is_told_of_it() {
    let (pool, _fake) = pool(Settings {
        query_wait_timeout: secs(3),
        ..sized(1)
    });
    pool.pause();
    let refused = ask(&pool).await.expect("joined").err().expect("nobody is served");
    assert_eq!(
        refused.refusal().detail.as_deref(),
        Some("Waited 3.0s. The pool is paused.")
    );
}

#[tokio::test(start_paused = true)]
async fn a_waiter_gives_up_after_query_wait_timeout() {
    let (pool, _fake) = pool(Settings {
        query_wait_timeout: secs(3),
        ..sized(1)
    });
    let held = lease(&pool).await;
    let early = ask(&pool);
    tokio::time::sleep(secs(1)).await;
    let late = ask(&pool);
    let refused = early.await.expect("joined").err();
    assert_eq!(
        refused,
        Some(LeaseError::Timeout {
            waited: secs(3),
            last_error: None,
            is_paused: false,
        })
    );
    assert!(!late.is_finished());
    assert_eq!(pool.snapshot().maxwait, secs(2));
    give(held);
    assert!(late.await.expect("joined").is_ok());
}

#[tokio::test(start_paused = true)]
async fn waiters_can_be_told_to_give_up() {
    let (pool, _fake) = pool(sized(1));
    let held = lease(&pool).await;
    let waiting = ask(&pool);
    settle().await;
    pool.fail_waiters(refusal());
    assert_eq!(
        waiting.await.expect("joined").err(),
        Some(LeaseError::Closing(refusal()))
    );
    give(held);
    give(lease(&pool).await);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_lease_is_broken_and_its_server_is_closed_and_replaced() {
    let (pool, fake) = pool(sized(1));
    let held = lease(&pool).await;
    let waiting = ask(&pool);
    settle().await;
    drop(held);
    assert_eq!(waiting.await.expect("joined").expect("a new one").id(), 1);
    settle().await;
    assert!(fake.link(0).is_gone());
    assert_eq!(
        pool.snapshot().stats.returns_bad,
        2,
        "the waiter dropped his, too"
    );
}

#[tokio::test(start_paused = true)]
async fn a_dirty_server_is_cleaned_before_the_next_client_gets_it() {
    let (pool, fake) = pool(sized(1));
    fake.0.lock().work_takes = secs(2);
    let held = lease(&pool).await;
    let waiting = ask(&pool);
    settle().await;
    held.release_dirty(Dirt::InTransaction, &mut Tally::default());
    settle().await;
    assert_eq!(pool.snapshot().sv_tested, 1);
    assert!(!waiting.is_finished());
    let held = waiting.await.expect("joined").expect("cleaned");
    assert_eq!(
        (held.id(), fake.0.lock().cleaned.as_slice()),
        (0, &[Dirt::InTransaction][..])
    );
    held.release_dirty(Dirt::CancelInFlight, &mut Tally::default());
    assert_eq!(pool.snapshot().sv_being_canceled, 1);
    tokio::time::sleep(secs(3)).await;
    assert_eq!(pool.snapshot().sv_idle, 1);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_cannot_be_cleaned_or_takes_too_long_is_replaced() {
    for (is_unfit, takes) in [(true, secs(0)), (false, secs(3600))] {
        let (pool, fake) = pool(sized(1));
        let held = lease(&pool).await;
        fake.0.lock().is_unfit = is_unfit;
        fake.0.lock().work_takes = takes;
        held.release_dirty(Dirt::Abandoned, &mut Tally::default());
        assert_eq!(lease(&pool).await.id(), 1);
        assert!(fake.link(0).is_gone());
    }
}

#[tokio::test(start_paused = true)]
async fn every_server_can_be_seen_even_while_leased() {
    let (pool, _fake) = pool(sized(2));
    let held = [lease(&pool).await, lease(&pool).await];
    let [one, two] = held;
    give(one);
    let mut seen = Vec::new();
    pool.for_each_server(|server| seen.push((**server.info.expect("opened"), server.state)));
    seen.sort_by_key(|(id, _)| *id);
    assert_eq!(seen, [(0, ServerState::Idle), (1, ServerState::Leased)]);
    let mut tally = Tally::default();
    tally.query(secs(1));
    two.report(&mut tally);
    two.report(&mut tally);
    assert_eq!(pool.snapshot().stats.query_count, 1, "it has been emptied");
}

//! What commands do.

use super::*;

#[tokio::test]
async fn orders_leave_the_console_and_answers_come_back() {
    let (console, mut orders) = console();
    let mut guest = Guest::new(&console, Rights::Admin).await;
    let process = tokio::spawn(async move {
        let order = orders.recv().await.unwrap();
        assert_eq!(order.task, Task::Reload);
        order
            .reply
            .send(Ok(vec!["restart for listen_port".to_owned()]))
            .unwrap();
        let order = orders.recv().await.unwrap();
        let wanted = Task::Set {
            name: "server_check_query".to_owned(),
            value: Some("select 'a'".to_owned()),
        };
        assert_eq!(order.task, wanted);
        order
            .reply
            .send(Err(Refusal::new(SqlState::INVALID_PARAMETER_VALUE, "no")))
            .unwrap();
    });
    let answer = guest.query("reload").await;
    assert_eq!(tags(&answer), "NCZ");
    assert_eq!(field(&answer, b'N', b'M'), "restart for listen_port");
    let answer = guest.query("SET server_check_query TO 'select ''a'''").await;
    assert_eq!(code(&answer), "22023");
    process.await.unwrap();
    // Nobody receives orders any more.
    assert_eq!(code(&guest.query("SHUTDOWN").await), "57P01");
}

#[tokio::test]
async fn pause_holds_pools_that_come_later_until_resume() {
    let (console, _orders) = console();
    let mut guest = Guest::new(&console, Rights::Admin).await;
    assert_eq!(completion(&guest.query("PAUSE app").await), "PAUSE");
    let pool = open_pool(&console);
    assert!(pool.is_paused());
    let paused = |answer: &[Message]| rows(answer)[0][15].clone();
    assert_eq!(paused(&guest.query("SHOW DATABASES").await), "1");
    assert_eq!(completion(&guest.query("RESUME app").await), "RESUME");
    assert!(!pool.is_paused());
    assert_eq!(code(&guest.query("RESUME app").await), "55000");
    assert_eq!(code(&guest.query("RESUME").await), "55000");
    assert_eq!(completion(&guest.query("PAUSE").await), "PAUSE");
    assert!(pool.is_paused());
    assert_eq!(rows(&guest.query("SHOW STATE").await)[1], ["paused", "yes"]);
    assert_eq!(code(&guest.query("RESUME app").await), "55000");
    assert_eq!(completion(&guest.query("RESUME").await), "RESUME");
    assert!(!pool.is_paused());
}

#[tokio::test]
async fn databases_are_named_exactly_and_the_console_is_none() {
    let (console, _orders) = console();
    let mut guest = Guest::new(&console, Rights::Admin).await;
    assert_eq!(code(&guest.query("PAUSE nowhere").await), "3D000");
    assert_eq!(code(&guest.query("KILL pgbouncer").await), "55000");
    assert_eq!(code(&guest.query("DISABLE howdah").await), "55000");
    assert_eq!(code(&guest.query("DISABLE").await), "42601");
    assert_eq!(completion(&guest.query("DISABLE \"app\"").await), "DISABLE");
    assert!(console.front.is_disabled("app"));
    assert_eq!(completion(&guest.query("ENABLE app").await), "ENABLE");
    assert!(!console.front.is_disabled("app"));
}

#[tokio::test]
async fn killed_clients_are_told_and_their_pool_is_held() {
    let (console, _orders) = console();
    let pool = open_pool(&console);
    let client = client(&console);
    let mut guest = Guest::new(&console, Rights::Admin).await;
    assert_eq!(code(&guest.query("KILL_CLIENT 999").await), "42704");
    assert_eq!(code(&guest.query("KILL_CLIENT x").await), "42601");
    let kill = format!("KILL_CLIENT {}", client.id);
    assert_eq!(completion(&guest.query(&kill).await), "KILL_CLIENT");
    assert_eq!(completion(&guest.query("KILL app").await), "KILL");
    assert!(pool.is_paused());
    assert!(console.front.is_paused("app"));
}

/// A pool that is connecting to somebody who never answers.
async fn busy_console() -> (Arc<Console>, tokio::net::TcpListener, Arc<Pool<Servers>>) {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = silent.local_addr().unwrap().port();
    let config = Config::for_url(&format!("postgres://bob:x@127.0.0.1:{port}/app")).unwrap();
    let front = Front::new(House::new(config).unwrap());
    let (orders, _) = mpsc::channel(1);
    let console = Console::new(front, Arc::default(), orders, CancellationToken::new());
    let pool = open_pool(&console);
    let asking = pool.clone();
    tokio::spawn(async move {
        let mut waiter = crate::pool::Waiter::new();
        let _ = asking.lease(&mut waiter, 0).await;
    });
    while pool.snapshot().sv_login == 0 {
        tokio::task::yield_now().await;
    }
    (console, silent, pool)
}

#[tokio::test]
async fn whoever_waits_for_a_pause_can_cancel_it() {
    let (console, _silent, pool) = busy_console().await;
    let mut guest = Guest::silent(&console, Rights::Admin);
    let greeting = guest.listen().await;
    let (_, key) = greeting.iter().find(|(tag, _)| *tag == b'K').unwrap();
    let mut key = &key[..];
    let pid = key.get_i32();
    let mut out = BytesMut::new();
    write::query(&mut out, b"PAUSE app");
    guest.send(&out).await;
    while !pool.is_paused() {
        tokio::task::yield_now().await;
    }
    assert!(!console.cancel(pid, b"wrong"));
    assert!(!console.cancel(pid.wrapping_add(1), key));
    assert!(console.cancel(pid, key));
    let answer = guest.listen().await;
    assert_eq!(code(&answer), "57014");
    assert!(pool.is_paused(), "what has been done stays");
}

#[tokio::test]
async fn whoever_waits_for_a_pause_learns_that_it_was_taken_back() {
    let (console, _silent, pool) = busy_console().await;
    let mut waiting = Guest::new(&console, Rights::Admin).await;
    let mut out = BytesMut::new();
    write::query(&mut out, b"PAUSE app");
    waiting.send(&out).await;
    while !pool.is_paused() {
        tokio::task::yield_now().await;
    }
    let mut other = Guest::new(&console, Rights::Admin).await;
    assert_eq!(completion(&other.query("RESUME app").await), "RESUME");
    assert_eq!(code(&waiting.listen().await), "55000");
}

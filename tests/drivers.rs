//! tokio-postgres with its defaults, in transaction mode: twenty clients on two servers. It prepares everything, binds
//! without describing the portal, and pipelines whatever is polled together.

mod common;

use std::time::Duration;

use common::net::Target;
use common::{Cluster, Howdah};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, NoTls};

const CLIENTS: i32 = 20;
const LIMIT: Duration = Duration::from_secs(40);

async fn connect(target: Target) -> Client {
    let uri = format!(
        "host=127.0.0.1 port={} user=app dbname=app connect_timeout=10",
        target.port
    );
    let (client, connection) = tokio_postgres::connect(&uri, NoTls).await.expect("it is let in");
    tokio::spawn(connection);
    client
}

/// Runs one program by all clients at once.
fn by_everybody<F: Future<Output = ()> + Send + 'static>(program: fn(Client, i32) -> F) {
    let cluster = Cluster::start();
    let howdah = Howdah::with_pool(&cluster, 2);
    cluster.value("SELECT 1");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let target = howdah.target();
    runtime.block_on(async {
        let client = connect(target).await;
        let table = "CREATE TABLE IF NOT EXISTS t (who int, n int, text text)";
        client.batch_execute(table).await.expect("a table");
        let all: Vec<_> = (0..CLIENTS)
            .map(|who| tokio::spawn(async move { program(connect(target).await, who).await }))
            .collect();
        for one in all {
            let ended = tokio::time::timeout(LIMIT, one).await.expect("it ends");
            ended.expect("without a fault");
        }
    });
}

#[test]
fn prepared_statements_are_each_clients_own() {
    by_everybody(|client, who| async move {
        // The same names (s0, s1, …) in every client, for different statements.
        let text = format!("SELECT $1::int + {who}");
        let own = client.prepare(&text).await.expect("prepared");
        let shared = client.prepare("SELECT $1::text || '!'").await.expect("prepared");
        for n in 0..20 {
            let row = client.query_one(&own, &[&n]).await.expect("a row");
            assert_eq!(row.get::<_, i32>(0), n + who);
            let row = client.query_one(&shared, &[&"hello"]).await.expect("a row");
            assert_eq!(row.get::<_, &str>(0), "hello!");
        }
    });
}

#[test]
fn what_is_polled_together_is_pipelined() {
    by_everybody(|client, who| async move {
        let client = std::sync::Arc::new(client);
        let all: Vec<_> = (0..30)
            .map(|n| {
                let client = client.clone();
                tokio::spawn(async move {
                    let row = client
                        .query_one("SELECT $1::int * 2 + $2::int", &[&n, &who])
                        .await;
                    (n, row.expect("a row").get::<_, i32>(0))
                })
            })
            .collect();
        for one in all {
            let (n, answer) = one.await.expect("it ends");
            assert_eq!(answer, n * 2 + who);
        }
    });
}

#[test]
fn transactions_commit_roll_back_and_nest() {
    by_everybody(|mut client, who| async move {
        let mut transaction = client.transaction().await.expect("begun");
        let insert = transaction
            .prepare("INSERT INTO t VALUES ($1, $2, 'kept')")
            .await
            .expect("prepared");
        transaction.execute(&insert, &[&who, &1]).await.expect("inserted");
        let savepoint = transaction.transaction().await.expect("nested");
        let error = savepoint
            .query("SELECT 1 / $1::int", &[&0])
            .await
            .expect_err("by zero");
        assert_eq!(error.code(), Some(&SqlState::DIVISION_BY_ZERO));
        savepoint.rollback().await.expect("back to the savepoint");
        transaction.execute(&insert, &[&who, &2]).await.expect("inserted");
        transaction.commit().await.expect("committed");

        let lost = client.transaction().await.expect("begun");
        lost.execute("INSERT INTO t VALUES ($1, 3, 'lost')", &[&who])
            .await
            .expect("inserted");
        drop(lost);
        let row = client
            .query_one("SELECT count(*), sum(n) FROM t WHERE who = $1", &[&who])
            .await
            .expect("a row");
        assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1)), (2, 3));
    });
}

#[test]
fn a_portal_is_read_in_parts() {
    by_everybody(|mut client, who| async move {
        let transaction = client.transaction().await.expect("begun");
        let portal = transaction
            .bind("SELECT generate_series(1, 10) + $1::int", &[&who])
            .await
            .expect("bound");
        let mut seen = Vec::new();
        for size in [4, 4, 4] {
            let rows = transaction.query_portal(&portal, size).await.expect("rows");
            seen.extend(rows.iter().map(|row| row.get::<_, i32>(0)));
        }
        assert_eq!(seen, (1..=10).map(|n| n + who).collect::<Vec<_>>());
        transaction.commit().await.expect("committed");
    });
}

#[test]
fn a_cancelled_query_fails_and_the_client_goes_on() {
    by_everybody(|client, who| async move {
        if who % 5 != 0 {
            let row = client.query_one("SELECT $1::int", &[&who]).await.expect("a row");
            assert_eq!(
                row.get::<_, i32>(0),
                who,
                "a cancel that was meant for another client"
            );
            return;
        }
        let token = client.cancel_token();
        let cancel = tokio::spawn(async move {
            // It may still be waiting for a server: then it is cancelled there.
            tokio::time::sleep(Duration::from_millis(300)).await;
            token.cancel_query(NoTls).await
        });
        let error = client
            .batch_execute("SELECT pg_sleep(30)")
            .await
            .expect_err("cancelled");
        assert_eq!(error.code(), Some(&SqlState::QUERY_CANCELED));
        cancel.await.expect("it ends").expect("it is taken");
        let row = client
            .query_one("SELECT $1::int", &[&who])
            .await
            .expect("it goes on");
        assert_eq!(row.get::<_, i32>(0), who);
    });
}

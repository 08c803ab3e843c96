//! How a session goes.

use super::*;

#[tokio::test]
async fn the_greeting_satisfies_drivers() {
    let (console, _orders) = console();
    let mut guest = Guest::silent(&console, Rights::Admin);
    let greeting = guest.listen().await;
    let said = |name: &str| {
        let start = format!("{name}\0");
        let (_, body) = greeting
            .iter()
            .find(|(tag, body)| *tag == b'S' && body.starts_with(start.as_bytes()))
            .expect(name);
        String::from_utf8_lossy(&body[start.len()..body.len() - 1]).into_owned()
    };
    assert_eq!(said("client_encoding"), "UTF8");
    assert_eq!(said("standard_conforming_strings"), "on");
    assert_eq!(said("DateStyle"), "ISO");
    let version = said("server_version");
    let number = version.split('/').next().unwrap();
    assert!(
        number.split('.').all(|part| part.parse::<u32>().is_ok()),
        "{version}"
    );
    assert_eq!(console.sessions(), 1);
}

#[tokio::test]
async fn tables_come_with_columns_rows_and_a_tag() {
    let (console, _orders) = console();
    open_pool(&console);
    let _client = client(&console);
    let mut guest = Guest::new(&console, Rights::Stats).await;
    let answer = guest.query("show pools;").await;
    assert_eq!(tags(&answer), "TDDCZ");
    assert_eq!(completion(&answer), "SHOW");
    let rows = rows(&answer);
    assert_eq!(rows[0][..4], ["app", "bob", "1", "0"]);
    assert_eq!(rows[1][..3], ["pgbouncer", "pgbouncer", "1"]);
    let answer = guest
        .query("SHOW CLIENTS; SHOW STATE; nonsense; SHOW LISTS")
        .await;
    assert_eq!(tags(&answer), "TDCTDDDCEZ", "nothing is done behind an error");
    assert_eq!(code(&answer), "42601");
}

#[tokio::test]
async fn what_drivers_say_by_themselves_does_no_harm() {
    let (console, _orders) = console();
    let mut guest = Guest::new(&console, Rights::Stats).await;
    for (text, wanted) in [
        ("SET client_encoding TO 'UTF8'", "SET"),
        ("set session datestyle = ISO, MDY", "SET"),
        ("SET extra_float_digits = 3", "SET"),
        ("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY", "SET"),
        ("SET TIME ZONE 'UTC'", "SET"),
        ("SELECT 1", "SELECT 1"),
        ("select version()", "SELECT 1"),
        ("SHOW transaction isolation level", "SHOW"),
        ("DISCARD ALL", "DISCARD ALL"),
        (
            "SELECT pg_advisory_unlock_all(); CLOSE ALL; UNLISTEN *; RESET ALL",
            "SELECT 1",
        ),
        ("DEALLOCATE ALL", "DEALLOCATE"),
        ("SHOW HELP", "SHOW"),
    ] {
        let answer = guest.query(text).await;
        assert_eq!(completion(&answer), wanted, "{text}");
    }
    assert_eq!(tags(&guest.query("").await), "IZ");
    assert_eq!(tags(&guest.query(" ; -- nothing").await), "IZ");
    assert_eq!(code(&guest.query("SHOW server_version").await), "42704");
}

#[tokio::test]
async fn a_transaction_is_shown_to_those_who_begin_one() {
    let (console, _orders) = console();
    let mut guest = Guest::new(&console, Rights::Stats).await;
    for (text, status) in [
        ("BEGIN", b'T'),
        ("SHOW VERSION", b'T'),
        ("nonsense", b'T'),
        ("COMMIT", b'I'),
        ("BEGIN ISOLATION LEVEL SERIALIZABLE", b'T'),
        ("ROLLBACK", b'I'),
    ] {
        let answer = guest.query(text).await;
        assert_eq!(answer.last().unwrap().1, [status], "{text}");
    }
}

#[tokio::test]
async fn sessions_end_in_every_way_with_the_right_word() {
    let (console, _orders) = console();
    let mut polite = Guest::new(&console, Rights::Stats).await;
    polite.send(b"X\0\0\0\x04").await;
    assert_eq!(polite.session.await.unwrap(), Farewell::Finished);

    let rude = Guest::new(&console, Rights::Stats).await;
    drop(rude.stream);
    assert_eq!(rude.session.await.unwrap(), Farewell::Vanished);

    let mut wrong = Guest::new(&console, Rights::Stats).await;
    wrong.send(b"!\0\0\0\x04").await;
    let last = wrong.listen().await;
    assert_eq!(
        (code(&last), field(&last, b'E', b'S')),
        ("08P01".into(), "FATAL".into())
    );
    assert_eq!(wrong.session.await.unwrap().label(), "client_protocol");

    let mut large = Guest::new(&console, Rights::Stats).await;
    large.send(b"Q\x00\x10\0\0").await;
    assert_eq!(code(&large.listen().await), "08P01");

    let mut last = Guest::new(&console, Rights::Stats).await;
    console.stop.cancel();
    assert_eq!(code(&last.listen().await), "57P01");
    assert_eq!(last.session.await.unwrap().label(), "administrator");
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(console.sessions(), 0);
}

#[tokio::test]
async fn another_ones_driver_understands_every_table() {
    let (console, _orders) = console();
    open_pool(&console);
    let _client = client(&console);
    let (stream, mut theirs) = UnixStream::pair().unwrap();
    let session = tokio::spawn(async move {
        let mut len = [0; 4];
        theirs.read_exact(&mut len).await.unwrap();
        let mut startup = vec![0; u32::from_be_bytes(len) as usize - 4];
        theirs.read_exact(&mut startup).await.unwrap();
        // AuthenticationOk.
        theirs.write_all(b"R\0\0\0\x08\0\0\0\0").await.unwrap();
        console.serve(visit(theirs, Rights::Stats)).await
    });
    let mut config = tokio_postgres::Config::new();
    config.user("root").dbname("howdah");
    let (driver, connection) = config.connect_raw(stream, tokio_postgres::NoTls).await.unwrap();
    let connection = tokio::spawn(connection);
    for (name, table) in show::TABLES {
        // It prepares, describes and asks for binary values.
        let rows = driver.query(&format!("SHOW {name}"), &[]).await.unwrap();
        for row in rows {
            assert_eq!(row.len(), table.columns().len(), "{name}");
            for (at, column) in row.columns().iter().enumerate() {
                match column.type_().name() {
                    "text" => drop(row.get::<_, Option<String>>(at)),
                    "int4" => drop(row.get::<_, Option<i32>>(at)),
                    "int8" => drop(row.get::<_, Option<i64>>(at)),
                    other => assert_eq!(other, "numeric"),
                }
            }
        }
    }
    let denied = driver.simple_query("KILL").await.unwrap_err();
    assert_eq!(denied.code().unwrap().code(), "42501");
    drop(driver);
    connection.await.unwrap().unwrap();
    assert_eq!(session.await.unwrap(), Farewell::Finished);
}

#[tokio::test]
async fn those_who_look_leave_room_for_those_who_act() {
    let (console, _orders) = console();
    let mut crowd = Vec::new();
    for _ in 0..SESSIONS_MAX {
        crowd.push(Guest::new(&console, Rights::Stats).await);
    }
    let mut late = Guest::silent(&console, Rights::Stats);
    assert_eq!(code(&late.listen().await), "53300");
    assert_eq!(late.session.await.unwrap().label(), "login_refused");
    let mut admin = Guest::new(&console, Rights::Admin).await;
    assert_eq!(completion(&admin.query("SHOW VERSION").await), "SHOW");
    drop(crowd.pop());
    while console.sessions() > SESSIONS_MAX {
        tokio::task::yield_now().await;
    }
    drop(admin);
    while console.sessions() >= SESSIONS_MAX {
        tokio::task::yield_now().await;
    }
    Guest::new(&console, Rights::Stats).await;
}

#[tokio::test]
async fn a_session_holds_the_rows_of_few_portals() {
    let (console, _orders) = console();
    let mut guest = Guest::new(&console, Rights::Stats).await;
    let mut out = BytesMut::new();
    write::message(&mut out, b'P', |out| out.put_slice(b"s\0SHOW CONFIG\0\0\0"));
    for n in 0..11 {
        let portal = format!("p{n}\0");
        write::message(&mut out, b'B', |out| {
            out.put_slice(portal.as_bytes());
            out.put_slice(b"s\0\0\0\0\0\0\0");
        });
        write::message(&mut out, b'E', |out| {
            out.put_slice(portal.as_bytes());
            out.put_i32(1);
        });
    }
    write::empty(&mut out, b'S');
    guest.send(&out).await;
    let answers = guest.listen().await;
    assert_eq!(tags(&answers), format!("1{}EZ", "2Ds".repeat(10)));
    assert_eq!(code(&answers), "54000");
}

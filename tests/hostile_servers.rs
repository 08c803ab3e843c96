//! Servers that do not speak the protocol: their clients are told, and nobody else is harmed.

mod common;

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use common::net::wait_until;
use common::{Cluster, Howdah, Wire, msg};

/// What a server says and does once somebody has connected; the number tells the connections apart.
type Script = dyn Fn(&mut TcpStream, usize) -> std::io::Result<()> + Send + Sync;

/// Listens and follows the script on every connection.
fn serve(script: impl Fn(&mut TcpStream, usize) -> std::io::Result<()> + Send + Sync + 'static) -> u16 {
    let script: Arc<Script> = Arc::new(script);
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port is free");
    let port = listener.local_addr().expect("it is bound").port();
    let count = AtomicUsize::new(0);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, script) = (stream.expect("somebody connects"), script.clone());
            let number = count.fetch_add(1, Ordering::Relaxed);
            thread::spawn(move || script(&mut stream, number));
        }
    });
    port
}

fn take(stream: &mut TcpStream, len: usize) -> std::io::Result<Vec<u8>> {
    let mut bytes = vec![0; len];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// Reads a packet without a type, or a message behind its type.
fn packet(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let len = take(stream, 4)?;
    let len = u32::from_be_bytes([len[0], len[1], len[2], len[3]]) as usize;
    take(stream, len - 4)
}

/// Reads messages until a Query has come.
fn query(stream: &mut TcpStream) -> std::io::Result<()> {
    while take(stream, 1)? != b"Q" {
        packet(stream)?;
    }
    packet(stream).map(drop)
}

fn parameter(name: &str, value: &str) -> Vec<u8> {
    msg::typed(b'S', format!("{name}\0{value}\0").as_bytes())
}

fn ready() -> Vec<u8> {
    msg::typed(b'Z', b"I")
}

fn log_in(stream: &mut TcpStream) -> std::io::Result<()> {
    packet(stream)?;
    let welcome = [
        msg::typed(b'R', &[0; 4]),
        parameter("server_version", "13.0"),
        parameter("client_encoding", "UTF8"),
        msg::typed(b'K', &[0, 0, 0, 7, 1, 2, 3, 4]),
        ready(),
    ];
    stream.write_all(&welcome.concat())
}

fn complete() -> Vec<u8> {
    [msg::typed(b'C', b"SELECT 0\0"), ready()].concat()
}

/// Stays until the peer goes.
fn wait(stream: &mut TcpStream) -> std::io::Result<()> {
    while stream.read(&mut [0; 1024])? > 0 {}
    Ok(())
}

/// A pooler before such a server (database `fake`) and a proper one (`app`).
/// Answers every query from now on, without rows.
fn answer_all(stream: &mut TcpStream) -> std::io::Result<()> {
    loop {
        query(stream)?;
        stream.write_all(&complete())?;
    }
}

/// A pooler before a real PostgreSQL and the hostile one; `None` if another than howdah is tested.
fn started(port: u16) -> Option<(Cluster, Howdah)> {
    let cluster = Cluster::start();
    let howdah = before(&cluster, port);
    howdah.is_howdah().then_some((cluster, howdah))
}

fn before(cluster: &Cluster, port: u16) -> Howdah {
    let real = format!("host=127.0.0.1 port={} dbname=app", cluster.target().port);
    let fake = format!("host=127.0.0.1 port={port} pool_size=1 sslmode=disable");
    let config = Howdah::before(cluster)
        .database("app", &real)
        .database("fake", &fake);
    config
        .set("server_connect_timeout", "2s")
        .set("client_login_timeout", "5s")
        .start()
}

#[test]
fn nonsense_in_answer_to_a_query_ends_that_client_only() {
    let raw = |tag: u8, len: u32| [&[tag][..], &len.to_be_bytes()].concat();
    let flood = || {
        (0..500)
            .flat_map(|n| parameter(&format!("p{n}"), "x"))
            .collect::<Vec<u8>>()
    };
    let replies: Vec<(&str, Vec<u8>)> = vec![
        ("an impossible status", msg::typed(b'Z', b"Q")),
        ("no status at all", msg::typed(b'Z', b"")),
        ("a length of nothing", raw(b'T', 0)),
        ("a length of 4 GB", raw(b'D', u32::MAX)),
        ("a notification of 1 MB", raw(b'A', 1 << 20)),
        ("a type that nobody knows", msg::typed(b'~', b"")),
        ("an answer to another question", msg::typed(b'1', b"")),
        ("a COPY in both directions", msg::typed(b'W', &[0, 0, 0])),
        ("half a parameter", msg::typed(b'S', b"name")),
        ("too many parameters", [flood(), complete()].concat()),
        ("a login", msg::typed(b'R', &[0; 4])),
    ];
    let names: Vec<&str> = replies.iter().map(|(name, _)| *name).collect();
    let port = serve(move |stream, number| {
        log_in(stream)?;
        query(stream)?;
        stream.write_all(&replies[number % replies.len()].1)?;
        wait(stream)
    });
    let Some((_cluster, howdah)) = started(port) else {
        return;
    };
    for name in names {
        let mut wire = Wire::login(howdah.target(), "app", "fake");
        wire.send(&msg::query("SELECT 1"));
        let error = wire.expect_fatal();
        assert_eq!(
            (error.code(), error.severity()),
            ("08P01", "FATAL"),
            "{name}: {error:?}"
        );
        assert_eq!(Wire::app(howdah.target()).value("SELECT 1"), "1", "{name}");
    }
}

#[test]
fn an_error_without_fields_is_passed_on_and_counts() {
    let port = serve(|stream, _| {
        log_in(stream)?;
        for body in [&b""[..], b"\0", b"C\0\0", b"SERROR\0\0", b"Mwhy\0\0"] {
            query(stream)?;
            stream.write_all(&[msg::typed(b'E', body), ready()].concat())?;
        }
        wait(stream)
    });
    let cluster = Cluster::start();
    let howdah = before(&cluster, port);
    let mut wire = Wire::login(howdah.target(), "app", "fake");
    for _ in 0..5 {
        wire.send(&msg::query("SELECT 1"));
        wire.expect("EZ");
    }
}

#[test]
fn one_answer_too_many_is_not_the_next_clients() {
    let port = serve(|stream, _| {
        log_in(stream)?;
        loop {
            query(stream)?;
            stream.write_all(&[complete(), complete()].concat())?;
        }
    });
    let Some((_cluster, howdah)) = started(port) else {
        return;
    };
    for _ in 0..5 {
        let mut wire = Wire::login(howdah.target(), "app", "fake");
        wire.send(&msg::query("SELECT 1"));
        wire.expect("CZ");
        let more = wire.expect_fatal();
        assert_eq!(more.code(), "08P01");
    }
}

#[test]
fn a_server_that_speaks_while_idle_is_not_used() {
    let connections = Arc::new(AtomicUsize::new(0));
    let seen = connections.clone();
    let port = serve(move |stream, number| {
        log_in(stream)?;
        seen.store(number + 1, Ordering::Relaxed);
        if number == 0 {
            stream.write_all(&complete())?;
            return wait(stream);
        }
        answer_all(stream)
    });
    let Some((_cluster, howdah)) = started(port) else {
        return;
    };
    let mut wire = Wire::login(howdah.target(), "app", "fake");
    thread::sleep(std::time::Duration::from_millis(200));
    for _ in 0..3 {
        wire.send(&msg::query("SELECT 1"));
        assert_eq!(wire.kinds_until_ready(), "CZ");
    }
    wait_until("another connection was opened", || {
        connections.load(Ordering::Relaxed) > 1
    });
}

#[test]
fn notices_during_a_login_are_no_answer_to_anything() {
    let notice = || msg::typed(b'N', b"SNOTICE\0C00000\0Mwelcome\0\0");
    let port = serve(move |stream, _| {
        stream.write_all(&notice())?;
        packet(stream)?;
        let welcome = [
            notice(),
            msg::typed(b'R', &[0; 4]),
            notice(),
            parameter("server_version", "13.0"),
            notice(),
            msg::typed(b'K', &[0, 0, 0, 7, 1, 2, 3, 4]),
            notice(),
            ready(),
        ];
        stream.write_all(&welcome.concat())?;
        answer_all(stream)
    });
    let cluster = Cluster::start();
    let howdah = before(&cluster, port);
    let mut wire = Wire::login(howdah.target(), "app", "fake");
    for _ in 0..3 {
        wire.send(&msg::query("SELECT 1"));
        assert_eq!(wire.kinds_until_ready(), "CZ");
    }
}

#[test]
fn a_client_is_told_of_the_version_of_its_next_server() {
    let port = serve(|stream, number| {
        packet(stream)?;
        let welcome = [
            msg::typed(b'R', &[0; 4]),
            parameter("server_version", if number == 0 { "13.0" } else { "14.1" }),
            parameter("client_encoding", "UTF8"),
            msg::typed(b'K', &[0, 0, 0, 7, 1, 2, 3, 4]),
            ready(),
        ];
        stream.write_all(&welcome.concat())?;
        loop {
            query(stream)?;
            stream.write_all(&complete())?;
            if number == 0 {
                // It is updated.
                return Ok(());
            }
        }
    });
    let Some((_cluster, howdah)) = started(port) else {
        return;
    };
    let mut wire = Wire::login(howdah.target(), "app", "fake");
    assert_eq!(wire.params["server_version"], "13.0");
    wire.send(&msg::query("SELECT 1"));
    assert_eq!(wire.kinds_until_ready(), "CZ");
    howdah.wait_log("an idle server connection is gone");
    wire.send(&msg::query("SELECT 1"));
    assert_eq!(wire.kinds_until_ready(), "CZ");
    assert_eq!(wire.params["server_version"], "14.1");
}

#[test]
fn a_server_that_falls_silent_during_the_login_is_given_up_in_time() {
    let port = serve(|stream, number| {
        packet(stream)?;
        match number {
            0 => wait(stream),
            1 => {
                stream.write_all(b"R\0\0")?;
                wait(stream)
            }
            2 => {
                stream.write_all(&msg::typed(b'R', &[0; 4]))?;
                wait(stream)
            }
            _ => {
                stream.write_all(&[msg::typed(b'R', &[0; 4]), ready()].concat())?;
                loop {
                    query(stream)?;
                    stream.write_all(&complete())?;
                }
            }
        }
    });
    let cluster = Cluster::start();
    let howdah = before(&cluster, port)
        .config
        .clone()
        .set("server_connect_timeout", "500ms")
        .set("server_login_retry", "100ms")
        .set("client_login_timeout", "60s")
        .start();
    if !howdah.is_howdah() {
        return;
    }
    let mut wire = Wire::login(howdah.target(), "app", "fake");
    wire.send(&msg::query("SELECT 1"));
    assert_eq!(wire.kinds_until_ready(), "CZ");
}

#[test]
fn a_login_that_never_comes_to_the_point_is_given_up() {
    let port = serve(|stream, number| {
        packet(stream)?;
        let notice = msg::typed(b'N', b"SNOTICE\0Mwait\0\0");
        match number % 4 {
            0 => loop {
                stream.write_all(&notice)?;
            },
            1 => stream.write_all(&[b'R', 0x7f, 0xff, 0xff, 0xff])?,
            2 => stream.write_all(&msg::typed(b'R', &[0, 0, 0, 99]))?,
            _ => loop {
                stream
                    .write_all(&[msg::typed(b'R', &[0; 4]), parameter(&"x".repeat(500_000), "y")].concat())?;
            },
        }
        wait(stream)
    });
    let Some((_cluster, howdah)) = started(port) else {
        return;
    };
    for _ in 0..4 {
        let params = [("user", "app"), ("database", "fake")];
        let refused = Wire::login_with(howdah.target(), &params, None);
        assert!(refused.is_err(), "nobody can be logged in");
        assert_eq!(Wire::app(howdah.target()).value("SELECT 1"), "1");
    }
}

#[test]
fn cve_2026_6666_a_login_is_refused_without_a_sqlstate() {
    let bodies = [
        &b""[..],
        b"\0",
        b"C\0\0",
        b"SFATAL\0\0",
        b"SFATAL\0Mno\0\0",
        b"Cshort\0Mno\0\0",
    ];
    let port = serve(move |stream, number| {
        packet(stream)?;
        stream.write_all(&msg::typed(b'E', bodies[number % bodies.len()]))?;
        wait(stream)
    });
    let cluster = Cluster::start();
    // Whatever it is, it may pass: clients wait for that as long as they may.
    let howdah = before(&cluster, port)
        .config
        .clone()
        .set("client_login_timeout", "1s")
        .start();
    if !howdah.is_howdah() {
        return;
    }
    for _ in bodies {
        let params = [("user", "app"), ("database", "fake")];
        let refused = Wire::login_with(howdah.target(), &params, None)
            .err()
            .expect("nobody can be logged in");
        assert_eq!(refused.code().len(), 5, "{refused}");
        assert_eq!(Wire::app(howdah.target()).value("SELECT 1"), "1");
    }
    assert!(!howdah.log().contains("panicked"), "{}", howdah.log());
}

#[test]
fn cve_2026_42198_a_server_that_asks_for_much_work_stalls_nobody() {
    let port = serve(|stream, _| {
        packet(stream)?;
        stream.write_all(&msg::typed(b'R', b"\0\0\0\x0aSCRAM-SHA-256\0\0"))?;
        take(stream, 1)?;
        let first = packet(stream)?;
        let nonce = first.rsplit(|byte| *byte == b'=').next().unwrap_or_default();
        let last = [b"\0\0\0\x0br=", nonce, b"more,s=c2FsdA==,i=1000000"].concat();
        stream.write_all(&msg::typed(b'R', &last))?;
        wait(stream)
    });
    let cluster = Cluster::start();
    let fake = format!("host=127.0.0.1 port={port} password=secret pool_size=4");
    let howdah = Howdah::before(&cluster)
        .set("workers", 1)
        .set("client_login_timeout", "3s")
        .database("app", &cluster.location("app"))
        .database("fake", &fake)
        .start();
    if !howdah.is_howdah() {
        return;
    }
    let mut client = Wire::app(howdah.target());
    thread::scope(|scope| {
        let visit = || {
            let params = [("user", "app"), ("database", "fake")];
            Wire::login_with(howdah.target(), &params, None).is_err()
        };
        let visits: Vec<_> = (0..4).map(|_| scope.spawn(visit)).collect();
        let mut served = 0;
        while visits.iter().any(|visit| !visit.is_finished()) {
            assert_eq!(client.value("SELECT 1"), "1");
            served += 1;
        }
        // The only worker would be without a CPU for a third of a second at a time.
        assert!(served > 20, "somebody else was served {served} times");
        for visit in visits {
            assert!(visit.join().expect("no panic"), "the server has proved nothing");
        }
    });
}

#[test]
fn the_query_of_a_client_that_is_gone_is_cancelled_until_it_ends() {
    let (cancels, logins) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (seen, logged_in) = (cancels.clone(), logins.clone());
    let asked = Arc::new(AtomicUsize::new(0));
    let heard = asked.clone();
    let port = serve(move |stream, number| {
        if number == 1 || number == 2 {
            // The first one comes before the query is looked at, which PostgreSQL then does not take for cancelled.
            packet(stream)?;
            seen.fetch_add(1, Ordering::SeqCst);
            return Ok(());
        }
        logged_in.fetch_add(1, Ordering::SeqCst);
        log_in(stream)?;
        query(stream)?;
        heard.fetch_add(1, Ordering::SeqCst);
        while seen.load(Ordering::SeqCst) < 2 {
            thread::sleep(std::time::Duration::from_millis(5));
        }
        stream.write_all(&[msg::typed(b'E', b"SERROR\0C57014\0Mgone\0\0"), ready()].concat())?;
        answer_all(stream)
    });
    let Some((_cluster, howdah)) = started(port) else {
        return;
    };
    let mut leaves = Wire::login(howdah.target(), "app", "fake");
    // No function: nobody could tell what it had left.
    leaves.send(&msg::query("SELECT n FROM slow"));
    wait_until("the query has reached the server", || {
        asked.load(Ordering::SeqCst) == 1
    });
    leaves.vanish();
    let mut stays = Wire::login(howdah.target(), "app", "fake");
    stays.send(&msg::query("SELECT 1"));
    assert_eq!(stays.kinds_until_ready(), "CZ");
    assert_eq!(
        (cancels.load(Ordering::SeqCst), logins.load(Ordering::SeqCst)),
        (2, 1),
        "the same server serves on"
    );
}

#[test]
fn cancel_requests_that_a_server_does_not_take_do_not_pile_up() {
    let cancels = Arc::new(AtomicUsize::new(0));
    let seen = cancels.clone();
    let port = serve(move |stream, number| {
        if number > 0 {
            // Never answered, never closed.
            seen.fetch_add(1, Ordering::Relaxed);
            return wait(stream);
        }
        log_in(stream)?;
        query(stream)?;
        wait(stream)
    });
    let Some((_cluster, howdah)) = started(port) else {
        return;
    };
    let mut wire = Wire::login(howdah.target(), "app", "fake");
    wire.send(&msg::query("SELECT 1"));
    let key = wire.key.clone().expect("a key");
    wait_until("the query runs", || {
        cancel_and_leave(&howdah, &key);
        cancels.load(Ordering::Relaxed) > 0
    });
    for _ in 0..100 {
        cancel_and_leave(&howdah, &key);
    }
    assert_eq!(Wire::app(howdah.target()).value("SELECT 1"), "1");
    assert!(cancels.load(Ordering::Relaxed) <= 8, "each is a connection");
}

/// Asks for a cancel without waiting until it is done.
fn cancel_and_leave(howdah: &Howdah, key: &(u32, Vec<u8>)) {
    let mut asking = Wire::connect(howdah.target()).expect("a connection");
    asking.send(&msg::cancel(key.0, &key.1));
    thread::sleep(std::time::Duration::from_millis(5));
}

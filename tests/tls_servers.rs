//! TLS between howdah and PostgreSQL: every sslmode with libpq's meaning, and servers that are not what they say.

mod common;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use common::console::Console;
use common::net::{PATIENCE, wait_until};
use common::tls::{Certificates, named};
use common::wire::PgError;
use common::{Cluster, Howdah, Target, Wire, msg, run};

const LIMIT: Duration = Duration::from_secs(60);
/// Whether the server of the session has TLS, and which version.
const SEEN: &str =
    "SELECT CASE WHEN ssl THEN version ELSE 'plain' END FROM pg_stat_ssl WHERE pid = pg_backend_pid()";

/// A pooler with one database `app` that is reached in this way.
fn reached(cluster: &Cluster, location: &str) -> Howdah {
    Howdah::before(cluster)
        .set("query_wait_timeout", "3s")
        .set("server_login_retry", "1s")
        .database("app", location)
        .start()
}

/// What the server says of the session, or the error instead.
fn seen(target: Target) -> Result<String, PgError> {
    let params = [("user", "app"), ("database", "app")];
    let mut wire = match Wire::login_with(target, &params, None) {
        Ok(wire) => wire,
        Err(common::login::LoginError::Refused(error)) => return Err(error),
        Err(error) => panic!("{error}"),
    };
    wire.send(&msg::query(SEEN));
    match wire.try_answer() {
        Ok(answer) => Ok(answer.value().to_owned()),
        Err(error) => Err(error.expect("an error is told")),
    }
}

fn detail(error: &PgError) -> &str {
    error.0.get(&'D').map_or("", String::as_str)
}

/// Goes through modes; each leads to the session of that description, or to an error with that text.
fn go_through(cluster: &Cluster, certificates: &Certificates, expected: &[(&str, &str)]) {
    let root = certificates.path("root.crt");
    for (words, expected) in expected {
        let words = words.replace("ROOT", &root);
        let howdah = reached(cluster, &format!("{} {words}", cluster.location("app")));
        if !howdah.is_howdah() {
            return;
        }
        match seen(howdah.target()) {
            Ok(seen) => assert_eq!(seen, *expected, "{words}"),
            Err(error) => assert!(
                detail(&error).contains(expected) || error.message().contains(expected),
                "{words}: {error:?} ({})",
                detail(&error)
            ),
        }
    }
}

#[test]
fn every_mode_meets_a_server_with_tls() {
    let certificates = Certificates::new();
    let cluster = certificates.cluster("server").start();
    go_through(
        &cluster,
        &certificates,
        &[
            ("sslmode=disable", "plain"),
            ("sslmode=allow", "plain"),
            ("", "TLSv1.3"),
            ("sslmode=prefer", "TLSv1.3"),
            ("sslmode=require", "TLSv1.3"),
            ("sslmode=require sslrootcert=ROOT", "TLSv1.3"),
            ("sslmode=verify-ca sslrootcert=ROOT", "TLSv1.3"),
            ("sslmode=verify-full sslrootcert=ROOT", "TLSv1.3"),
            (
                "host=localhost hostaddr=127.0.0.1 sslmode=verify-full sslrootcert=ROOT",
                "TLSv1.3",
            ),
            (
                "sslmode=verify-full",
                "not signed by an authority that is trusted here",
            ),
            (
                "sslmode=verify-full sslrootcert=system",
                "not signed by an authority that is trusted here",
            ),
            (
                "host=elsewhere hostaddr=127.0.0.1 sslmode=verify-ca sslrootcert=ROOT",
                "TLSv1.3",
            ),
            (
                "host=elsewhere hostaddr=127.0.0.1 sslmode=verify-full sslrootcert=ROOT",
                "not for \"elsewhere\"",
            ),
            ("sslmode=require sslnegotiation=direct", "TLS"),
        ],
    );
}

#[test]
fn every_mode_meets_a_server_without_tls() {
    let (certificates, cluster) = (Certificates::new(), Cluster::start());
    go_through(
        &cluster,
        &certificates,
        &[
            ("sslmode=disable", "plain"),
            ("sslmode=allow", "plain"),
            ("sslmode=prefer", "plain"),
            (
                "sslmode=require",
                "the server does not support TLS, but it is required",
            ),
            (
                "sslmode=verify-full sslrootcert=ROOT",
                "the server does not support TLS",
            ),
        ],
    );
    let socket = cluster.socket_dir().display();
    let port = cluster.target().port;
    let howdah = reached(&cluster, &format!("host={socket} port={port} sslmode=require"));
    if howdah.is_howdah() {
        assert_eq!(
            seen(howdah.target()).expect("a Unix socket needs no TLS"),
            "plain"
        );
    }
}

#[test]
fn a_server_that_insists_is_given_what_it_wants() {
    let certificates = Certificates::new();
    let only = |kind: &str| {
        certificates
            .cluster("server")
            .hba(&format!("{kind} all app 127.0.0.1/32 trust"))
            .hba("host all app 127.0.0.1/32 reject")
            .start()
    };
    let refused = "pg_hba.conf rejects connection";
    go_through(
        &only("hostssl"),
        &certificates,
        &[
            ("sslmode=disable", refused),
            ("sslmode=allow", "TLSv1.3"),
            ("sslmode=prefer", "TLSv1.3"),
        ],
    );
    go_through(
        &only("hostnossl"),
        &certificates,
        &[
            ("sslmode=allow", "plain"),
            ("sslmode=prefer", "plain"),
            ("sslmode=require", refused),
        ],
    );
}

#[test]
fn certificates_that_are_not_as_they_should_be_are_refused_in_clear_words() {
    let certificates = Certificates::new();
    certificates.sign("late", |params| {
        params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    });
    certificates.sign("early", |params| {
        params.not_before = rcgen::date_time_ymd(2090, 1, 1);
    });
    certificates.sign("wrong", |params| {
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    });
    certificates.openssl("own", &["-newkey", "rsa:2048"]);
    let verified = ("sslmode=verify-ca sslrootcert=ROOT", "TLSv1.3");
    for (name, says) in [
        ("late", "it has expired"),
        ("early", "it is not valid yet"),
        ("wrong", "it is for another purpose"),
        ("own", "it is self-signed and not trusted here"),
    ] {
        let cluster = certificates.cluster(name).start();
        let expected = [(verified.0, says), ("sslmode=require", "TLSv1.3")];
        go_through(&cluster, &certificates, &expected);
        // Like libpq: a server that fails a test is not trusted under TLS, and "prefer" goes without.
        go_through(
            &cluster,
            &certificates,
            &[("sslmode=prefer sslrootcert=ROOT", "plain")],
        );
    }
}

#[test]
fn certificates_as_postgresqls_manual_makes_them_are_accepted() {
    let certificates = Certificates::new();
    // A self-signed one that is its own authority, with the host in its common name.
    certificates.openssl("simple", &["-newkey", "rsa:2048"]);
    let cluster = certificates.cluster("simple").start();
    let own = certificates.path("simple.crt");
    let full = format!("host=localhost hostaddr=127.0.0.1 sslmode=verify-full sslrootcert={own}");
    let other = format!("sslmode=verify-full sslrootcert={own}");
    go_through(
        &cluster,
        &certificates,
        &[
            (&full, "TLSv1.3"),
            (&other, "not for \"127.0.0.1\""),
            ("sslmode=require", "TLSv1.3"),
        ],
    );
    // One of version 1, as `openssl x509 -req` makes it: good enough for "require".
    let path = |name: &str| certificates.path(name);
    let script = "openssl req -new -newkey rsa:2048 -nodes -subj /CN=localhost -keyout $1 -out $2.csr 2>/dev/null \
                  && openssl x509 -req -in $2.csr -days 2 -signkey $1 -out $2 2>/dev/null";
    let mut command = std::process::Command::new("bash");
    command.args(["-c", script, "-", &path("old.key"), &path("old.crt")]);
    run::succeed(&mut command, LIMIT);
    for name in ["old.key", "old.crt"] {
        let text = std::fs::read_to_string(path(name)).expect("just made");
        certificates.write(name, &text);
    }
    let cluster = certificates
        .cluster("old")
        .conf("ssl_max_protocol_version = 'TLSv1.2'")
        .start();
    let verified = format!("sslmode=verify-ca sslrootcert={}", path("old.crt"));
    go_through(
        &cluster,
        &certificates,
        &[
            ("sslmode=require", "TLSv1.2"),
            (&verified, "TLSv1.2"),
            (
                "sslmode=verify-ca sslrootcert=ROOT",
                "X.509 certificate of version 1",
            ),
        ],
    );
}

#[test]
fn direct_tls_needs_postgresql_17() {
    let certificates = Certificates::new();
    let words = format!(
        "sslmode=verify-full sslrootcert={}",
        certificates.path("root.crt")
    );
    let cluster = certificates.cluster("server").version(18).start();
    let howdah = reached(
        &cluster,
        &format!("{} {words} sslnegotiation=direct", cluster.location("app")),
    );
    if howdah.is_howdah() {
        assert_eq!(seen(howdah.target()).expect("it is let in"), "TLSv1.3");
    }
}

#[test]
fn a_server_that_asks_for_a_certificate_gets_it() {
    let certificates = Certificates::new();
    certificates.client("app");
    let cluster = certificates
        .cluster("server")
        .hba("hostssl all app 127.0.0.1/32 cert")
        .hba("host all app 127.0.0.1/32 reject")
        .start();
    let [cert, key] = ["app.crt", "app.key"].map(|name| certificates.path(name));
    let with = format!("sslmode=require sslcert={cert} sslkey={key}");
    go_through(
        &cluster,
        &certificates,
        &[
            (&with, "TLSv1.3"),
            ("sslmode=require", "requires a valid client certificate"),
        ],
    );
}

#[test]
fn cancel_requests_and_replication_use_tls_as_sessions_do() {
    let certificates = Certificates::new();
    let cluster = certificates
        .cluster("server")
        .hba("hostssl replication app 127.0.0.1/32 trust")
        .hba("hostnossl all app 127.0.0.1/32 reject")
        .hba("hostnossl replication app 127.0.0.1/32 reject")
        .start();
    let proxy = Tap::before(cluster.target());
    let location = format!("host=127.0.0.1 port={} dbname=app sslmode=require", proxy.port);
    let howdah = reached(&cluster, &location);
    if !howdah.is_howdah() {
        return;
    }
    let mut wire = Wire::app(howdah.target());
    wire.send(&msg::query("SELECT pg_sleep(60)"));
    wait_until("it runs", || cluster.backends("state = 'active'") == 1);
    common::wire::cancel(howdah.target(), &wire.key.clone().expect("a key"));
    assert_eq!(wire.answer().code(), "57014");
    let shown = Console::open(howdah.target()).show("SERVERS");
    assert!(
        shown.row(&[("user", "app")])["tls"].starts_with("TLSv1.3/TLS_"),
        "{:?}",
        shown.rows
    );

    let params = [("user", "app"), ("database", "app"), ("replication", "database")];
    let mut walsender = Wire::login_with(howdah.target(), &params, None).expect("it is let in");
    assert_eq!(walsender.query("IDENTIFY_SYSTEM").rows.len(), 1);
    let connections = proxy.first_bytes();
    assert!(connections.len() >= 3, "a session, a cancel request, a walsender");
    for bytes in connections {
        assert_eq!(
            bytes,
            msg::ssl_request(),
            "every connection begins by asking for TLS"
        );
    }
}

#[test]
fn large_results_and_copies_come_through_two_layers_of_tls() {
    let certificates = Certificates::new();
    let cluster = certificates.cluster("server").start();
    let config = Howdah::before(&cluster).set("server_tls_sslmode", "require");
    let howdah = certificates.offered(config, "require").start();
    if !howdah.is_howdah() {
        return;
    }
    cluster
        .sql("CREATE TABLE big AS SELECT n, repeat('x', n % 150) AS text FROM generate_series(1, 200000) n");
    cluster.sql("GRANT ALL ON big TO app; CREATE TABLE twin (LIKE big); GRANT ALL ON twin TO app");
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("rows");
    let psql = |sql: String| {
        let mut command = run::client("psql", howdah.target(), "app", "app");
        command
            .env("PGSSLMODE", "require")
            .args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-c", &sql]);
        run::succeed(&mut command, LIMIT)
    };
    psql(format!("\\copy big TO '{}'", file.display()));
    psql(format!("\\copy twin FROM '{}'", file.display()));
    assert_eq!(
        psql("SELECT count(*) FROM big JOIN twin USING (n, text)".into()),
        "200000\n"
    );
    let value = psql("SELECT repeat('y', 20000000)".into());
    assert_eq!(value.len(), 20_000_001);
    assert_eq!(
        cluster.backends("NOT EXISTS (SELECT FROM pg_stat_ssl s WHERE s.pid = pg_stat_activity.pid AND ssl)"),
        0
    );
}

#[test]
fn a_reload_changes_the_way_to_the_server_and_only_when_something_has_changed() {
    let certificates = Certificates::new();
    let cluster = certificates.cluster("server").start();
    let mut howdah = reached(&cluster, &format!("{} sslmode=disable", cluster.location("app")));
    if !howdah.is_howdah() {
        return;
    }
    assert_eq!(seen(howdah.target()).expect("it is let in"), "plain");
    let verified = format!(
        "{} sslmode=verify-full sslrootcert={}",
        cluster.location("app"),
        certificates.path("root.crt")
    );
    let mut reloads = 0;
    let mut reload = |howdah: &mut Howdah, set: (&str, i64)| {
        howdah.reload(|config| config.database("app", &verified).set(set.0, set.1));
        reloads += 1;
        wait_until("it is reloaded", || {
            howdah.log().matches("configuration reloaded").count() == reloads
        });
    };
    reload(&mut howdah, ("default_pool_size", 5));
    assert_eq!(seen(howdah.target()).expect("it is let in"), "TLSv1.3");
    let pids = cluster.backend_pids("usename = 'app'");
    reload(&mut howdah, ("default_pool_size", 6));
    assert_eq!(seen(howdah.target()).expect("it is let in"), "TLSv1.3");
    assert_eq!(
        cluster.backend_pids("usename = 'app'"),
        pids,
        "nobody is disturbed"
    );
    let broken = certificates.path("missing.crt");
    let location = format!(
        "{} sslmode=verify-full sslrootcert={broken}",
        cluster.location("app")
    );
    howdah.reload(|config| config.database("app", &location));
    howdah.wait_log("missing.crt");
    assert_eq!(seen(howdah.target()).expect("as before"), "TLSv1.3");
}

#[test]
fn cve_2021_23222_what_a_server_says_in_clear_behind_its_yes_is_not_believed() {
    let (cluster, certificates) = (Cluster::start(), Certificates::new());
    // "S", and behind it at once all that a login needs.
    let welcome = [
        b"S".to_vec(),
        msg::typed(b'R', &[0; 4]),
        msg::typed(b'K', &[0; 8]),
        msg::typed(b'Z', b"I"),
    ]
    .concat();
    for mode in ["prefer", "require"] {
        let (port, count) = answers(welcome.clone());
        let howdah = reached(&cluster, &format!("host=127.0.0.1 port={port} sslmode={mode}"));
        if !howdah.is_howdah() {
            return;
        }
        let error = seen(howdah.target()).expect_err("there is no such server");
        let told = format!("{} {}", error.message(), detail(&error));
        assert!(
            ["57P03", "08006", "57014"].contains(&error.code()),
            "{mode}: {told}"
        );
        assert!(
            mode == "prefer" || told.contains("the peer does not speak TLS"),
            "{told}"
        );
        assert!(!howdah.log().contains("panicked"), "{}", howdah.log());
        assert!(count.load(Ordering::Relaxed) > 0);
    }
    drop(certificates);
}

#[test]
fn cve_2024_10977_a_servers_error_before_tls_is_told_to_nobody() {
    let cluster = Cluster::start();
    let fields = b"SFATAL\0VFATAL\0C28P01\0Myour password is on the web, see evil.example\0\0";
    let (port, _) = answers(msg::typed(b'E', fields));
    let howdah = reached(&cluster, &format!("host=127.0.0.1 port={port} sslmode=require"));
    if !howdah.is_howdah() {
        return;
    }
    let error = seen(howdah.target()).expect_err("there is no such server");
    assert!(
        detail(&error).contains("answers a request for TLS with 'E'"),
        "{}",
        detail(&error)
    );
    assert!(!howdah.log().contains("evil.example"));
}

#[test]
fn the_host_is_named_in_the_handshake_and_an_address_is_not() {
    for (host, name) in [("localhost", Some("localhost")), ("127.0.0.1", None)] {
        let cluster = Cluster::start();
        let (port, hellos) = hears_hello();
        let howdah = reached(
            &cluster,
            &format!("host={host} hostaddr=127.0.0.1 port={port} sslmode=require"),
        );
        if !howdah.is_howdah() {
            return;
        }
        seen(howdah.target()).expect_err("it says nothing");
        let hello = hellos.recv_timeout(PATIENCE).expect("a ClientHello");
        let has = |text: &str| hello.windows(text.len()).any(|part| part == text.as_bytes());
        assert_eq!(has("localhost"), name.is_some(), "{host}");
        assert!(has("postgresql"), "ALPN");
        assert!(!has("127.0.0.1"));
    }
}

/// A server that answers whatever it is asked first with these bytes, and waits. Counts its visitors.
fn answers(bytes: Vec<u8>) -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port is free");
    let port = listener.local_addr().expect("it is bound").port();
    let count = Arc::new(AtomicUsize::new(0));
    let counted = count.clone();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            counted.fetch_add(1, Ordering::Relaxed);
            let bytes = bytes.clone();
            thread::spawn(move || answer(stream, &bytes));
        }
    });
    (port, count)
}

fn answer(mut stream: TcpStream, bytes: &[u8]) -> std::io::Result<()> {
    let mut request = [0; 8];
    stream.read_exact(&mut request)?;
    if request[..] != msg::ssl_request() {
        return Ok(());
    }
    stream.write_all(bytes)?;
    while stream.read(&mut [0; 1024])? > 0 {}
    Ok(())
}

/// A server that takes the beginning of a handshake and closes.
fn hears_hello() -> (u16, std::sync::mpsc::Receiver<Vec<u8>>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port is free");
    let port = listener.local_addr().expect("it is bound").port();
    let (sender, receiver) = std::sync::mpsc::channel();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut hello = vec![0; 8];
            if stream.read_exact(&mut hello).is_err() || stream.write_all(b"S").is_err() {
                continue;
            }
            hello.resize(4096, 0);
            let read = stream.read(&mut hello).unwrap_or(0);
            hello.truncate(read);
            if sender.send(hello).is_err() {
                return;
            }
        }
    });
    (port, receiver)
}

/// Passes connections on to a server and keeps their first bytes.
struct Tap {
    port: u16,
    first: Arc<std::sync::Mutex<Vec<Vec<u8>>>>,
}

impl Tap {
    fn before(target: Target) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port is free");
        let port = listener.local_addr().expect("it is bound").port();
        let first: Arc<std::sync::Mutex<Vec<Vec<u8>>>> = Arc::default();
        let kept = first.clone();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let kept = kept.clone();
                thread::spawn(move || pass_on(client, target, &kept));
            }
        });
        Self { port, first }
    }

    fn first_bytes(&self) -> Vec<Vec<u8>> {
        self.first.lock().expect("nobody panics").clone()
    }
}

fn pass_on(
    mut client: TcpStream,
    target: Target,
    kept: &std::sync::Mutex<Vec<Vec<u8>>>,
) -> std::io::Result<()> {
    let mut first = vec![0; 8];
    client.read_exact(&mut first)?;
    kept.lock().expect("nobody panics").push(first.clone());
    let mut server = TcpStream::connect(target.addr())?;
    server.write_all(&first)?;
    let (mut to_client, mut from_server) = (client.try_clone()?, server.try_clone()?);
    thread::spawn(move || {
        std::io::copy(&mut from_server, &mut to_client).ok();
        to_client.shutdown(std::net::Shutdown::Both).ok();
    });
    std::io::copy(&mut client, &mut server)?;
    server.shutdown(std::net::Shutdown::Write)
}

#[test]
fn the_authority_itself_may_be_named_as_the_server() {
    // The file of roots holds the server's own certificate among others.
    let certificates = Certificates::new();
    certificates.sign("single", |params| params.distinguished_name = named("single"));
    let cluster = certificates.cluster("single").start();
    let own = certificates.path("single.crt");
    let full = format!("sslmode=verify-full sslrootcert={own}");
    go_through(&cluster, &certificates, &[(&full, "TLSv1.3")]);
}

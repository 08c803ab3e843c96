//! Who gets in, by which method, and what the others are told; and the handshake before that.

mod common;

use std::time::{Duration, Instant};

use common::cluster::password_of;
use common::net::{PATIENCE, eventually};
use common::wire::{Frame, NoFrame};
use common::{Cluster, Howdah, Target, Wire, login, msg, run};

const SERVER_USERS: [&str; 4] = ["trust_u", "password_u", "md5_u", "scram_u"];

fn try_login(target: Target, user: &str, password: &str) -> Result<Wire, login::LoginError> {
    Wire::login_with(target, &[("user", user), ("database", "app")], Some(password))
}

fn pooler(cluster: &Cluster, auth_type: &str) -> Howdah {
    let mut config = Howdah::before(cluster)
        .set("auth_type", auth_type)
        .set("default_pool_size", 2);
    for user in SERVER_USERS {
        config = config.user(user, &password_of(user));
    }
    config.start()
}

#[test]
fn every_method_of_clients_meets_every_method_of_servers() {
    let cluster = Cluster::start();
    for auth_type in ["trust", "password", "md5", "scram-sha-256"] {
        let howdah = pooler(&cluster, auth_type);
        for user in SERVER_USERS {
            let mut wire = try_login(howdah.target(), user, &password_of(user))
                .unwrap_or_else(|error| panic!("client {auth_type}, server {user}: {error}"));
            assert_eq!(wire.value("SELECT current_user"), user, "client {auth_type}");
            if auth_type == "trust" || !howdah.is_howdah() {
                continue;
            }
            for wrong in ["wrong", "", &password_of("somebody else"), &"x".repeat(5000)] {
                let refused = try_login(howdah.target(), user, wrong).err();
                let refused =
                    refused.unwrap_or_else(|| panic!("client {auth_type}, server {user}: {wrong:?} got in"));
                assert_eq!(
                    refused.code(),
                    "28P01",
                    "client {auth_type}, server {user}: {refused}"
                );
            }
        }
    }
}

#[test]
fn unknown_users_look_like_wrong_passwords() {
    let cluster = Cluster::start();
    for auth_type in ["password", "md5", "scram-sha-256"] {
        let howdah = pooler(&cluster, auth_type);
        let mut said = Vec::new();
        for user in ["nobody_knows_me", "scram_u"] {
            let refused = try_login(howdah.target(), user, "wrong")
                .err()
                .expect("a refusal");
            let login::LoginError::Refused(error) = refused else {
                panic!("{auth_type}: {refused}")
            };
            said.push(format!(
                "{} {}",
                error.code(),
                error.message().replace(user, "USER")
            ));
        }
        if howdah.is_howdah() {
            assert!(said[0].starts_with("28P01 "), "{auth_type}: {said:?}");
            assert_eq!(
                said[0], said[1],
                "{auth_type}: the message tells which users exist"
            );
        }
    }
}

#[test]
fn a_trusted_client_whom_the_server_does_not_know() {
    let cluster = Cluster::start();
    let howdah = pooler(&cluster, "trust");
    let params = [("user", "nobody_knows_me"), ("database", "app")];
    let code = match Wire::login_with(howdah.target(), &params, None) {
        Err(refused) => refused.code().to_owned(),
        Ok(mut wire) => {
            wire.send(&msg::query("SELECT 1"));
            match wire.try_answer() {
                Ok(answer) => answer.code().to_owned(),
                Err(fatal) => fatal.expect("a reason").code().to_owned(),
            }
        }
    };
    assert!(["28000", "28P01"].contains(&code.as_str()), "{code}");
    assert_eq!(
        try_login(howdah.target(), "trust_u", "")
            .expect("still serving")
            .value("SELECT 1"),
        "1"
    );
}

#[test]
fn a_password_that_the_server_refuses_is_named_as_such() {
    let cluster = Cluster::start();
    let howdah = Howdah::before(&cluster)
        .user("scram_u", "not what the server has")
        .start();
    if !howdah.is_howdah() {
        return;
    }
    let start = Instant::now();
    let code = match try_login(howdah.target(), "scram_u", "") {
        Err(refused) => refused.code().to_owned(),
        Ok(mut wire) => {
            wire.send(&msg::query("SELECT 1"));
            match wire.try_answer() {
                Ok(answer) => answer.code().to_owned(),
                Err(fatal) => fatal.expect("a reason").code().to_owned(),
            }
        }
    };
    assert_eq!(code, "28P01");
    assert!(
        start.elapsed() < Duration::from_secs(10),
        "a final error is told at once, not after {:?}",
        start.elapsed()
    );
}

#[test]
fn secrets_do_not_reach_the_log() {
    let cluster = Cluster::start();
    let howdah = pooler(&cluster, "password");
    try_login(howdah.target(), "scram_u", &password_of("scram_u")).expect("the right password");
    try_login(howdah.target(), "scram_u", "mistyped-secret")
        .err()
        .expect("a refusal");
    let log = howdah.log();
    assert!(!log.contains("secret of"), "{log}");
    assert!(!log.contains("mistyped-secret"), "{log}");
}

#[test]
fn an_auth_file_in_pgbouncers_format() {
    let cluster = Cluster::start();
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("userlist.txt");
    let stored = |user: &str| {
        cluster.value(&format!(
            "SELECT rolpassword FROM pg_authid WHERE rolname = '{user}'"
        ))
    };
    let list = format!(
        "\"md5_u\" \"{}\"\n; a comment\n\"password_u\" \"{}\"\n\"scram_u\" \"{}\"\n",
        stored("md5_u"),
        password_of("password_u"),
        stored("scram_u")
    );
    std::fs::write(&file, list).expect("a file of ours");
    let path = file.to_str().expect("a plain path");
    // md5 hashes serve an md5 client and an md5 server; a verifier serves SCRAM on both sides, by the client's proof.
    for (auth_type, user) in [
        ("md5", "md5_u"),
        ("scram-sha-256", "scram_u"),
        ("md5", "password_u"),
    ] {
        let howdah = Howdah::before(&cluster)
            .set("auth_type", auth_type)
            .set("auth_file", path)
            .start();
        if !howdah.is_howdah() {
            return;
        }
        let mut wire = try_login(howdah.target(), user, &password_of(user))
            .unwrap_or_else(|error| panic!("{auth_type} {user}: {error}"));
        assert_eq!(wire.value("SELECT current_user"), user, "{auth_type}");
        let refused = try_login(howdah.target(), user, "wrong")
            .err()
            .expect("a refusal");
        assert_eq!(refused.code(), "28P01", "{auth_type} {user}: {refused}");
    }
}

fn trusted() -> (Cluster, Howdah) {
    let cluster = Cluster::start();
    let howdah = Howdah::before(&cluster).set("client_login_timeout", "2s").start();
    (cluster, howdah)
}

#[test]
fn a_missing_database_is_named_like_the_user() {
    let (cluster, howdah) = trusted();
    cluster.sql("CREATE DATABASE trust_u");
    let mut wire = Wire::login_with(howdah.target(), &[("user", "trust_u")], None).expect("a login");
    assert_eq!(wire.value("SELECT current_database()"), "trust_u");
}

#[test]
fn a_database_that_does_not_exist() {
    let (cluster, _howdah) = trusted();
    let any = Howdah::before(&cluster).start();
    let listed = Howdah::before(&cluster)
        .database("app", &cluster.location("app"))
        .start();
    for howdah in [&any, &listed] {
        let start = Instant::now();
        let params = [("user", "app"), ("database", "no_such_database")];
        let code = match Wire::login_with(howdah.target(), &params, None) {
            Err(refused) => refused.code().to_owned(),
            Ok(mut wire) => {
                wire.send(&msg::query("SELECT 1"));
                wire.try_answer().map_or_else(
                    |fatal| fatal.expect("a reason").code().to_owned(),
                    |a| a.code().to_owned(),
                )
            }
        };
        if howdah.is_howdah() {
            assert_eq!(code, "3D000");
            assert!(
                start.elapsed() < Duration::from_secs(5),
                "told after {:?}",
                start.elapsed()
            );
        }
        assert_eq!(Wire::app(howdah.target()).value("SELECT 1"), "1");
    }
}

#[test]
fn encryption_requests_are_answered_once_each() {
    let (_cluster, howdah) = trusted();
    if !howdah.is_howdah() {
        return;
    }
    let params = [("user", "app"), ("database", "app")];
    for requests in [
        vec![msg::ssl_request()],
        vec![msg::gssenc_request()],
        vec![msg::gssenc_request(), msg::ssl_request()],
        vec![msg::ssl_request(), msg::gssenc_request()],
    ] {
        let mut wire = Wire::connect(howdah.target()).expect("a connection");
        for request in requests {
            wire.send(&request);
            assert_eq!(wire.read_byte(), Ok(b'N'));
        }
        wire.send(&msg::startup(&params));
        assert!(wire.kinds_until_ready().ends_with("KZ"));
    }
    for request in [msg::ssl_request(), msg::gssenc_request()] {
        let mut wire = Wire::connect(howdah.target()).expect("a connection");
        wire.send(&request);
        assert_eq!(wire.read_byte(), Ok(b'N'));
        wire.send(&request);
        wire.expect_closed();
    }
}

/// The answer to a startup message of some version: the body of `NegotiateProtocolVersion`, and the cancel key.
fn negotiate(target: Target, version: u32, extra: &[(&str, &str)]) -> (Option<(u32, Vec<String>)>, Vec<u8>) {
    let mut wire = Wire::connect(target).expect("a connection");
    let params = [&[("user", "app"), ("database", "app")], extra].concat();
    wire.send(&msg::startup_version(version, &params));
    let frames = wire.until_ready();
    assert!(frames.iter().all(|frame| frame.kind != b'E'), "{frames:?}");
    let negotiation = frames.iter().find(|frame| frame.kind == b'v').map(negotiated);
    if negotiation.is_some() {
        assert_eq!(
            frames[0].kind, b'v',
            "the negotiation comes before the authentication"
        );
    }
    assert_eq!(wire.value("SELECT 'in'"), "in");
    (negotiation, wire.key.expect("a key").1)
}

fn negotiated(frame: &Frame) -> (u32, Vec<String>) {
    let (version, rest) = frame.body.split_first_chunk::<4>().expect("a version");
    let (count, mut rest) = rest.split_first_chunk::<4>().expect("a count");
    let names = (0..u32::from_be_bytes(*count))
        .map(|_| common::wire::take_cstr(&mut rest).to_owned())
        .collect();
    (u32::from_be_bytes(*version), names)
}

#[test]
fn protocol_versions_are_negotiated() {
    let (_cluster, howdah) = trusted();
    if !howdah.is_howdah() && howdah.pid().is_some() {
        return;
    }
    let target = howdah.target();
    let (negotiation, key) = negotiate(target, msg::PROTOCOL_3_0, &[]);
    assert_eq!((negotiation, key.len()), (None, 4));

    let (negotiation, _) = negotiate(target, msg::PROTOCOL_3_0, &[("_pq_.unknown", "1")]);
    assert_eq!(negotiation.expect("a negotiation").1, ["_pq_.unknown"]);

    let (negotiation, key) = negotiate(target, msg::PROTOCOL_3_2, &[]);
    match negotiation {
        Some((version, names)) => assert_eq!((version, names.len(), key.len()), (msg::PROTOCOL_3_0, 0, 4)),
        None => assert!((4..=256).contains(&key.len()), "a key of {} bytes", key.len()),
    }

    let grease = [("_pq_.test_protocol_negotiation", "")];
    let (negotiation, _) = negotiate(target, msg::PROTOCOL_GREASE, &grease);
    let (version, names) = negotiation.expect("nobody speaks 3.9999");
    assert!(
        [msg::PROTOCOL_3_0, msg::PROTOCOL_3_2].contains(&version),
        "{version:#x}"
    );
    assert_eq!(names, ["_pq_.test_protocol_negotiation"]);
}

#[test]
fn version_3_2_keys_cancel() {
    let cluster = Cluster::version(18);
    let howdah = Howdah::with_pool(&cluster, 1);
    if !howdah.is_howdah() && howdah.pid().is_some() {
        return;
    }
    let mut wire = Wire::connect(howdah.target()).expect("a connection");
    wire.send(&msg::startup_version(
        msg::PROTOCOL_3_2,
        &[("user", "app"), ("database", "app")],
    ));
    wire.until_ready();
    wire.send(&msg::query("SELECT pg_sleep(60)"));
    common::net::wait_until("the query runs", || cluster.backends("state = 'active'") == 1);
    common::wire::cancel(howdah.target(), &wire.key.clone().expect("a key"));
    assert_eq!(wire.answer().code(), "57014");
}

#[test]
fn psycopg_with_protocol_3_2_before_postgresql_18() {
    let cluster = Cluster::version(18);
    let howdah = Howdah::with_pool(&cluster, 2);
    if !howdah.is_howdah() && howdah.pid().is_some() {
        return;
    }
    let program = "
import psycopg, sys
for version in ('3.0', '3.2', 'latest'):
    with psycopg.connect(max_protocol_version=version, sslmode='prefer') as conn:
        assert conn.execute('select 42').fetchone() == (42,)
        assert conn.info.server_version >= 180000, conn.info.server_version
        assert conn.info.parameter_status('search_path')
        try:
            conn.execute('select pg_sleep(30)') if False else None
        finally:
            conn.cancel_safe()
print('ok')
";
    let python = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(".venv/bin/python");
    let mut command = run::client(
        python.to_str().expect("a plain path"),
        howdah.target(),
        "app",
        "app",
    );
    command.env_remove("PGSSLMODE").args(["-c", program]);
    assert_eq!(run::succeed(&mut command, Duration::from_secs(30)).trim(), "ok");
}

#[test]
fn other_protocols_are_refused() {
    let (_cluster, howdah) = trusted();
    for version in [0x0002_0000, 0x0004_0000, 0x0001_0000] {
        let mut wire = Wire::connect(howdah.target()).expect("a connection");
        wire.send(&msg::startup_version(version, &[("user", "app")]));
        // A server may also answer in the old protocol's own format, which the frames here do not cover.
        for frame in wire.expect_closed() {
            assert_eq!(
                (frame.kind, frame.error().code()),
                (b'E', "0A000"),
                "{version:#x}"
            );
        }
    }
}

#[test]
fn malformed_startup_packets_end_quickly_and_alone() {
    let (_cluster, howdah) = trusted();
    let mut no_end = msg::startup(&[("user", "app")]);
    no_end.pop();
    let length = u32::try_from(no_end.len()).expect("short");
    no_end[..4].copy_from_slice(&length.to_be_bytes());
    let packets: Vec<Vec<u8>> = vec![
        vec![0, 0, 0, 0],
        vec![0, 0, 0, 4],
        vec![0, 0, 0, 7, 0, 3, 0],
        vec![0xff; 64],
        vec![0x7f, 0xff, 0xff, 0xff, 0, 3, 0, 0],
        msg::startup(&[("user", &"u".repeat(20_000))]),
        msg::startup(&[]),
        msg::startup(&[("database", "app")]),
        msg::untyped(&[0, 3, 0, 0, b'u', b's', b'e', b'r']),
        msg::untyped(&[0, 3, 0, 0, b'u', b's', b'e', b'r', 0, 0]),
        no_end,
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
        vec![0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3],
    ];
    for packet in packets {
        let shown = packet[..packet.len().min(40)].escape_ascii().to_string();
        let mut wire = Wire::connect(howdah.target()).expect("a connection");
        wire.patience = Duration::from_secs(6);
        wire.send(&packet);
        let start = Instant::now();
        loop {
            match wire.try_read() {
                Ok(frame) => assert_eq!(frame.kind, b'E', "{shown}: {frame:?}"),
                Err(NoFrame::Closed) => break,
                Err(NoFrame::Timeout) => panic!("{shown}: still open after {:?}", start.elapsed()),
            }
        }
    }
    assert_eq!(Wire::app(howdah.target()).value("SELECT 'well'"), "well");
}

#[test]
fn clients_that_never_finish_their_login_are_closed() {
    let cluster = Cluster::start();
    let howdah = Howdah::before(&cluster)
        .set("auth_type", "scram-sha-256")
        .set("client_login_timeout", "1s")
        .user("app", "x")
        .start();
    if !howdah.is_howdah() {
        return;
    }
    let startup = msg::startup(&[("user", "app"), ("database", "app")]);
    let mut wires: Vec<Wire> = [&[][..], &startup[..6], &startup, &msg::ssl_request()]
        .into_iter()
        .map(|bytes| {
            let mut wire = Wire::connect(howdah.target()).expect("a connection");
            wire.send(bytes);
            wire
        })
        .collect();
    let start = Instant::now();
    for (number, wire) in wires.iter_mut().enumerate() {
        if number == 3 {
            assert_eq!(wire.read_byte(), Ok(b'N'));
        }
        wire.expect_closed();
    }
    assert!(
        start.elapsed() < Duration::from_secs(6),
        "closed only after {:?}",
        start.elapsed()
    );
    // One byte every now and then does not buy more time.
    let mut slow = Wire::connect(howdah.target()).expect("a connection");
    for byte in startup.iter().cycle().take(40) {
        slow.send(&[*byte]);
        std::thread::sleep(Duration::from_millis(100));
    }
    slow.patience = Duration::from_millis(500);
    slow.expect_closed();
}

#[test]
fn a_password_message_beyond_all_measure_is_not_read() {
    let cluster = Cluster::start();
    let howdah = pooler(&cluster, "password");
    if !howdah.is_howdah() {
        return;
    }
    let mut wire = Wire::connect(howdah.target()).expect("a connection");
    wire.send(&msg::startup(&[("user", "scram_u"), ("database", "app")]));
    wire.expect("R");
    wire.send(&[b'p', 0x7f, 0xff, 0xff, 0xff]);
    wire.send(&vec![b'x'; 200_000]);
    wire.expect_closed();
}

#[test]
fn nothing_but_an_answer_is_taken_during_the_login() {
    let cluster = Cluster::start();
    let howdah = pooler(&cluster, "scram-sha-256");
    if !howdah.is_howdah() {
        return;
    }
    for message in [
        msg::query("SELECT 1"),
        msg::sync(),
        msg::terminate(),
        msg::password(b"SCRAM-SHA-1\0"),
        msg::password(b""),
    ] {
        let mut wire = Wire::connect(howdah.target()).expect("a connection");
        wire.send(&msg::startup(&[("user", "scram_u"), ("database", "app")]));
        wire.expect("R");
        wire.send(&message);
        let frames = wire.expect_closed();
        assert!(frames.iter().all(|frame| frame.kind == b'E'), "{frames:?}");
    }
}

#[test]
fn two_hundred_logins_one_after_the_other() {
    let cluster = Cluster::start();
    let howdah = pooler(&cluster, "scram-sha-256");
    let start = Instant::now();
    for _ in 0..200 {
        let mut wire = try_login(howdah.target(), "scram_u", &password_of("scram_u")).expect("a login");
        assert_eq!(wire.value("SELECT 1"), "1");
        wire.terminate();
    }
    eprintln!("200 logins in {:?}", start.elapsed());
}

#[test]
fn one_address_cannot_take_all_the_places_at_the_door() {
    let cluster = Cluster::start();
    let howdah = Howdah::before(&cluster).set("max_logins_per_address", 3).start();
    if !howdah.is_howdah() {
        return;
    }
    let from = |address: [u8; 4]| {
        let socket =
            socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
        let here = std::net::SocketAddr::from((address, 0));
        socket.bind(&here.into()).expect("all of 127.0.0.0/8 is ours");
        socket
            .connect(&howdah.target().addr().into())
            .expect("a connection");
        let stream = std::net::TcpStream::from(socket);
        stream
            .set_read_timeout(Some(Duration::from_millis(500)))
            .expect("a timeout");
        stream
    };
    let silent: Vec<_> = (0..3).map(|_| from([127, 0, 0, 2])).collect();
    let said = eventually("one is turned away", PATIENCE, || {
        let mut said = String::new();
        std::io::Read::read_to_string(&mut from([127, 0, 0, 2]), &mut said)
            .is_ok()
            .then_some(said)
    });
    assert!(
        said.contains("C53300") && said.contains("max_logins_per_address"),
        "{said}"
    );
    howdah.wait_log("denial=\"limit\"");
    // Others come in, and so does that one once its places are free; those who are in do not count.
    let clients: Vec<Wire> = (0..5).map(|_| Wire::app(howdah.target())).collect();
    drop(silent);
    common::net::wait_until("there is room again", || {
        let mut stream = from([127, 0, 0, 2]);
        std::io::Write::write_all(
            &mut stream,
            &msg::startup(&[("user", "app"), ("database", "app")]),
        )
        .is_ok()
            && matches!(std::io::Read::read(&mut stream, &mut [0; 1]), Ok(1))
    });
    drop(clients);
}

#[test]
fn refused_logins_are_logged_with_who_and_why_and_counted() {
    let cluster = Cluster::start();
    let howdah = Howdah::before(&cluster)
        .set("auth_type", "scram-sha-256")
        .set("metrics_addr", format!("127.0.0.1:{}", common::net::free_port()))
        .database("app", &cluster.location("app"))
        .user("app", "right")
        .user_set("hashed", "password", "md50123456789abcdef0123456789abcdef")
        .start();
    if !howdah.is_howdah() {
        return;
    }
    let refuse = |user: &str, database: &str, password: &str| {
        let params = [("user", user), ("database", database)];
        let refused = Wire::login_with(howdah.target(), &params, Some(password));
        let login::LoginError::Refused(error) = refused.err().expect("a refusal") else {
            panic!("{user}: closed without a word")
        };
        assert!(
            !error.0.values().any(|text| text.contains("no such user")),
            "{error:?}"
        );
        error.code().to_owned()
    };
    assert_eq!(refuse("app", "app", "wrong"), "28P01");
    assert_eq!(refuse("no\none \u{1b}[31m", "app", "wrong"), "28P01");
    assert_eq!(refuse("hashed", "app", "right"), "28P01");
    assert_eq!(refuse("app", "nowhere", "right"), "3D000");
    howdah.wait_log("denial=\"database\"");
    // Of one address so much is logged and no more, but it is counted.
    assert_eq!(refuse("app", "howdah", "right"), "42501");
    let log = howdah.log();
    let line = |part: &str| {
        let found: Vec<_> = log.lines().filter(|line| line.contains(part)).collect();
        assert_eq!(found.len(), 1, "{part}: {log}");
        found[0].to_owned()
    };
    let wrong = line("note=\"the password does not match\"");
    for part in [
        "user=\"app\"",
        "database=\"app\"",
        "peer=127.0.0.1:",
        "denial=\"password\"",
        "28P01",
    ] {
        assert!(wrong.contains(part), "{part} in {wrong}");
    }
    let unknown = line("note=\"there is no such user, or no secret of it\"");
    assert!(unknown.contains(r#"user="no\none \u{1b}[31m""#), "{unknown}");
    line("md5 hash, which will not do");
    line("denial=\"database\"");
    let page = common::console::get(common::console::metrics_port(&howdah), "/metrics").body;
    for (reason, count) in [("password", 3), ("database", 1), ("permission", 1), ("lookup", 0)] {
        let metric = format!("howdah_logins_refused_total{{reason=\"{reason}\"}} {count}\n");
        assert!(page.contains(&metric), "{metric} in {page}");
    }
}

#[test]
fn slow_hashing_stalls_nobody() {
    let cluster = Cluster::start();
    let slow = "SCRAM-SHA-256$1000000:c2FsdHNhbHRzYWx0c2FsdA==$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=:\
                AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    let howdah = Howdah::before(&cluster)
        .set("auth_type", "password")
        .set("workers", 1)
        .user("slow", slow)
        .user("app", "quick")
        .start();
    if !howdah.is_howdah() {
        return;
    }
    let mut client = try_login(howdah.target(), "app", "quick").expect("a login");
    std::thread::scope(|scope| {
        let attack = || {
            try_login(howdah.target(), "slow", "guess")
                .err()
                .expect("a refusal")
        };
        let attacks: Vec<_> = (0..4).map(|_| scope.spawn(attack)).collect();
        let mut served = 0;
        while attacks.iter().any(|attack| !attack.is_finished()) {
            assert_eq!(client.value("SELECT 1"), "1");
            served += 1;
        }
        // Each takes a third of a second of a CPU. Were the only worker without it, few would be served in between.
        assert!(served > 20, "somebody else was served {served} times");
    });
}

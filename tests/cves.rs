//! Faults for which other poolers, and PostgreSQL, had to publish an advisory, where they can be tried from outside
//! before anybody is logged in. Others are beside what they are about: `grep -rn 'fn cve_' src tests` finds them all.

mod common;

use std::io::Write as _;
use std::process::Command;
use std::time::Duration;

use common::console::{Console, get, metrics_port};
use common::net::free_port;
use common::wire::NoFrame;
use common::{Cluster, Howdah, Wire, msg};

#[test]
fn cve_2012_4575_no_name_of_a_database_is_fatal() {
    let cluster = Cluster::start();
    let any = Howdah::before(&cluster).start();
    let listed = Howdah::before(&cluster)
        .database("app", &cluster.location("app"))
        .start();
    for howdah in [any, listed] {
        if !howdah.is_howdah() {
            return;
        }
        for length in [63, 64, 127, 128, 1000, 9000] {
            for letter in ["x", "%", "\"", "\u{e9}", "\u{1}"] {
                let name = letter.repeat(length / letter.len());
                for params in [
                    [("user", "app"), ("database", name.as_str())],
                    [("user", name.as_str()), ("database", "app")],
                ] {
                    let mut wire = Wire::connect(howdah.target()).expect("a connection");
                    wire.send(&msg::startup(&params));
                    // Nobody and nothing is called like that, unless PostgreSQL cuts the name.
                    let frames = match wire.try_read() {
                        Ok(frame) => vec![frame],
                        Err(NoFrame::Closed) => Vec::new(),
                        Err(NoFrame::Timeout) => panic!("{length} of {letter:?}: no answer"),
                    };
                    assert!(
                        frames.iter().all(|frame| frame.kind == b'E'),
                        "{length} of {letter:?}: {frames:?}"
                    );
                }
            }
        }
        assert_eq!(Wire::app(howdah.target()).value("SELECT 'well'"), "well");
        let control = |char: char| char.is_control() && char != '\n';
        assert!(!howdah.log().contains(control), "{}", howdah.log());
    }
}

#[test]
fn cve_2023_22332_secrets_are_shown_nowhere() {
    let cluster = Cluster::start();
    let location = format!("{} password='of the database'", cluster.location("app"));
    let howdah = Howdah::before(&cluster)
        .set("metrics_addr", format!("127.0.0.1:{}", free_port()))
        .set("log_level", "trace")
        .set("stats_users", "app")
        .database("app", &location)
        .user("app", "of the user")
        .user_set("md5_u", "password", "md50123456789abcdef0123456789abcdef")
        .start();
    if !howdah.is_howdah() {
        return;
    }
    assert_eq!(Wire::app(howdah.target()).value("SELECT 1"), "1");
    let mut shown = get(metrics_port(&howdah), "/metrics").body;
    let mut console = Console(Wire::login(howdah.target(), "app", "howdah"));
    for table in [
        "ACTIVE_SOCKETS",
        "CLIENTS",
        "CONFIG",
        "DATABASES",
        "DNS_HOSTS",
        "LISTS",
        "MEM",
        "POOLS",
        "SERVERS",
        "SOCKETS",
        "STATE",
        "STATS",
        "TOTALS",
        "USERS",
        "VERSION",
    ] {
        for row in console.show(table).rows {
            shown += &row.into_values().collect::<Vec<_>>().join("|");
        }
    }
    let config = howdah.socket_dir().join("howdah.toml");
    let checked = Command::new(env!("CARGO_BIN_EXE_howdah"))
        .arg("check")
        .arg(&config)
        .output();
    let checked = checked.expect("it runs");
    assert!(checked.status.success());
    for text in [
        shown,
        howdah.log(),
        String::from_utf8_lossy(&checked.stdout).into_owned(),
    ] {
        assert!(text.len() > 100, "{text}");
        for secret in ["of the database", "of the user", "0123456789abcdef"] {
            assert!(!text.contains(secret), "{secret} in {text}");
        }
    }
}

#[test]
fn cve_2026_6479_encryption_is_negotiated_once_and_not_over_and_over() {
    let cluster = Cluster::start();
    let howdah = Howdah::before(&cluster).start();
    if !howdah.is_howdah() {
        return;
    }
    for first in [msg::ssl_request(), msg::gssenc_request()] {
        // One after the other, each with its answer; and all at once.
        let mut polite = Wire::connect(howdah.target()).expect("a connection");
        let mut answers = 0;
        for request in [msg::gssenc_request(), msg::ssl_request()]
            .iter()
            .cycle()
            .take(100)
        {
            polite.send(request);
            match polite.read_byte() {
                Ok(b'N') => answers += 1,
                _ => break,
            }
        }
        assert_eq!(answers, 2);
        let mut rude = Wire::connect(howdah.target()).expect("a connection");
        let _ = rude.writer().write_all(&first.repeat(100_000));
        let end = std::time::Instant::now() + Duration::from_secs(10);
        while !matches!(rude.read_byte(), Err(NoFrame::Closed)) {
            assert!(std::time::Instant::now() < end, "it is still listened to");
        }
    }
    assert_eq!(Wire::app(howdah.target()).value("SELECT 'well'"), "well");
}

#[test]
fn cve_2026_6664_nothing_that_is_said_before_the_login_harms_anybody() {
    let cluster = Cluster::start();
    let howdah = Howdah::before(&cluster)
        .set("auth_type", "scram-sha-256")
        .set("client_login_timeout", "2s")
        .user("app", "a secret")
        .start();
    if !howdah.is_howdah() {
        return;
    }
    let length = |length: u32, rest: &[u8]| [&[b'p'][..], &length.to_be_bytes(), rest].concat();
    let initial = |length: i32, data: &[u8]| {
        msg::password(&[b"SCRAM-SHA-256\0", &length.to_be_bytes()[..], data].concat())
    };
    for answer in [
        length(0, b""),
        length(3, b""),
        length(4, b""),
        length(u32::MAX, b"x"),
        length(i32::MAX as u32, b"x"),
        initial(-1, b""),
        initial(-2, b"n,,n=,r=abc"),
        initial(i32::MAX, b"n,,n=,r=abc"),
        initial(i32::MIN, b"n,,n=,r=abc"),
        initial(5, b"n,,n="),
        initial(0, b""),
        initial(60_000, &vec![b','; 60_000]),
        initial(11, b"n,,n=,r=\xff\0\0"),
        msg::password(&vec![0; 60_000]),
    ] {
        let mut wire = Wire::connect(howdah.target()).expect("a connection");
        wire.send(&msg::startup(&[("user", "app"), ("database", "app")]));
        wire.expect("R");
        wire.send(&answer);
        let frames = wire.expect_closed();
        assert!(frames.iter().all(|frame| frame.kind == b'E'), "{frames:?}");
    }
    let params = [("user", "app"), ("database", "app")];
    let mut wire = Wire::login_with(howdah.target(), &params, Some("a secret")).expect("a login");
    assert_eq!(wire.value("SELECT 'well'"), "well");
}

#[test]
fn cve_2024_45624_what_is_remembered_of_one_user_serves_no_other_and_no_longer_than_it_may() {
    let cluster = Cluster::start();
    cluster.sql(
        "CREATE TABLE secrets (s text); INSERT INTO secrets VALUES ('x'); GRANT SELECT ON secrets TO app",
    );
    cluster.sql("CREATE ROLE stranger LOGIN");
    let howdah = Howdah::with_pool(&cluster, 1);
    let read = "SELECT s FROM secrets";
    let run = |wire: &mut Wire| {
        let mut answers = vec![wire.query(read)];
        wire.batch(&[msg::parse("s", read)]);
        answers.push(wire.extended(&[msg::run("s", &[])]));
        answers
    };
    let mut app = Wire::app(howdah.target());
    assert!(run(&mut app).iter().all(|answer| answer.value() == "x"));
    // The same statement is known, to another user's pool.
    let mut stranger = Wire::login(howdah.target(), "stranger", "app");
    assert!(run(&mut stranger).iter().all(|answer| answer.code() == "42501"));
    cluster.sql("REVOKE SELECT ON secrets FROM app");
    assert_eq!(app.extended(&[msg::run("s", &[])]).code(), "42501");
    let mut late = Wire::app(howdah.target());
    assert!(run(&mut late).iter().all(|answer| answer.code() == "42501"));
}

#[test]
fn an_md5_response_is_good_for_one_challenge() {
    let cluster = Cluster::start();
    let howdah = Howdah::before(&cluster)
        .set("auth_type", "md5")
        .user("app", "a secret")
        .start();
    if !howdah.is_howdah() {
        return;
    }
    let challenged = || {
        let mut wire = Wire::connect(howdah.target()).expect("a connection");
        wire.send(&msg::startup(&[("user", "app"), ("database", "app")]));
        let salt = wire.expect("R")[0].body[4..].to_vec();
        (wire, salt)
    };
    let respond = |salt: &[u8]| {
        let salt = salt.try_into().expect("four bytes");
        let response = postgres_protocol::authentication::md5_hash(b"app", b"a secret", salt);
        msg::password(&[response.as_bytes(), b"\0"].concat())
    };
    let (mut first, overheard) = challenged();
    first.send(&respond(&overheard));
    first.until_ready();
    for _ in 0..5 {
        let (mut replayed, salt) = challenged();
        assert_ne!(salt, overheard);
        replayed.send(&respond(&overheard));
        assert_eq!(replayed.expect_fatal().code(), "28P01");
    }
}

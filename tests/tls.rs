//! TLS between clients and howdah, with libpq, node-postgres, OpenSSL's own client and raw bytes.

mod common;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use common::cluster::password_of;
use common::console::{Console, get, metrics_port};
use common::net::wait_until;
use common::tls::{Certificates, attempts, trusting, tunnel};
use common::{Cluster, Howdah, Target, Wire, msg, run};

const LIMIT: Duration = Duration::from_secs(60);

/// Before a cluster that wants no TLS.
fn before(cluster: &Cluster, certificates: &Certificates, mode: &str) -> common::howdah::Config {
    certificates.offered(Howdah::before(cluster), mode)
}

fn s_client(target: Target, arguments: &[&str], input: &[u8]) -> String {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("input");
    std::fs::write(&file, input).expect("a file of ours");
    // The input stays open for a while, so that there is time for an answer.
    let script =
        "(cat \"$0\"; sleep 1) | openssl s_client -connect 127.0.0.1:$1 -quiet -ign_eof \"${@:2}\" 2>&1";
    let mut command = Command::new("bash");
    command
        .args(["-c", script])
        .arg(&file)
        .arg(target.port.to_string())
        .args(arguments);
    String::from_utf8_lossy(&run::output(&mut command, LIMIT).stdout).into_owned()
}

#[test]
fn every_sslmode_of_libpq_meets_every_mode() {
    let (cluster, certificates) = (Cluster::start(), Certificates::new());
    let mut howdah = before(&cluster, &certificates, "disable").start();
    if !howdah.is_howdah() {
        return;
    }
    let root = certificates.path("root.crt");
    let modes = ["disable", "allow", "prefer", "require"].map(|mode| format!("sslmode={mode}"));
    let verified = ["verify-ca", "verify-full"].map(|mode| format!("sslmode={mode} sslrootcert={root}"));
    let direct = format!("sslmode=verify-full sslnegotiation=direct sslrootcert={root}");
    let all: Vec<&str> = modes
        .iter()
        .chain(&verified)
        .chain([&direct])
        .map(String::as_str)
        .collect();
    for (ours, expected) in [
        ("disable", "plain plain plain - - - -"),
        ("allow", "plain plain tls tls tls tls tls"),
        ("prefer", "plain plain tls tls tls tls tls"),
        ("require", "28000 tls tls tls tls tls tls"),
    ] {
        let before = howdah.log().matches("configuration reloaded").count();
        howdah.reload(|config| certificates.offered(config, ours));
        wait_until("the mode is another", || {
            howdah.log().matches("configuration reloaded").count() > before
        });
        let seen = attempts(howdah.target(), &all);
        for ((conninfo, expected), seen) in all.iter().zip(expected.split(' ')).zip(&seen) {
            let as_expected = match expected {
                "-" => seen.contains("server does not support SSL") || seen.contains("SSL error"),
                "28000" => seen.contains("connections without TLS are not accepted"),
                word => seen == word,
            };
            assert!(as_expected, "{ours}, {conninfo}: {seen} instead of {expected}");
        }
        assert_eq!(seen.len(), all.len());
    }
}

#[test]
fn a_client_without_tls_is_told_so_by_its_sqlstate() {
    let (cluster, certificates) = (Cluster::start(), Certificates::new());
    let howdah = before(&cluster, &certificates, "require").start();
    if !howdah.is_howdah() {
        return;
    }
    for database in ["app", "howdah"] {
        let refused = Wire::login_with(
            howdah.target(),
            &[("user", "postgres"), ("database", database)],
            None,
        );
        assert_eq!(
            refused.err().expect("it is refused").code(),
            "28000",
            "{database}"
        );
    }
    // Not so on a Unix socket, where there is no TLS: the answer to the question is no.
    let socket = howdah.socket_dir().to_str().expect("a plain path").to_owned();
    assert_eq!(
        attempts(howdah.target(), &[&format!("host={socket} sslmode=require")]),
        ["plain"]
    );
    // Cancel requests are taken in clear, for libpq before 17 sends no others.
    let tls = tunnel(howdah.target(), trusting());
    let mut wire = Wire::app(tls);
    wire.send(&msg::query("SELECT pg_sleep(60)"));
    wait_until("it runs", || {
        cluster.backends("state = 'active' AND query ~ 'pg_sleep'") == 1
    });
    common::wire::cancel(howdah.target(), &wire.key.clone().expect("a key"));
    assert_eq!(wire.answer().code(), "57014");
    wire.send(&msg::query("SELECT pg_sleep(60)"));
    wait_until("it runs", || {
        cluster.backends("state = 'active' AND query ~ 'pg_sleep'") == 1
    });
    common::wire::cancel(tls, &wire.key.clone().expect("a key"));
    assert_eq!(wire.answer().code(), "57014", "by a cancel request under TLS");
}

#[test]
fn direct_tls_needs_alpn_and_negotiated_tls_does_not() {
    let (cluster, certificates) = (Cluster::start(), Certificates::new());
    let howdah = before(&cluster, &certificates, "require").start();
    if !howdah.is_howdah() {
        return;
    }
    let login = [
        msg::startup(&[("user", "app"), ("database", "app")]),
        msg::query("SELECT 'hello ' || 'there'"),
        msg::terminate(),
    ]
    .concat();
    let target = howdah.target();
    for (arguments, says) in [
        (&["-alpn", "postgresql"][..], "hello there"),
        (&["-starttls", "postgres"], "hello there"),
        (&["-starttls", "postgres", "-alpn", "postgresql"], "hello there"),
        (&["-starttls", "postgres", "-tls1_2"], "hello there"),
        (&[], "direct TLS without ALPN"),
        (&["-alpn", "http/1.1"], "no application protocol"),
        (
            &["-starttls", "postgres", "-alpn", "h2"],
            "no application protocol",
        ),
        (&["-starttls", "postgres", "-tls1_1"], "alert"),
    ] {
        let said = s_client(target, arguments, &login);
        assert!(said.contains(says), "{arguments:?}: {said}");
    }
    let twice = [msg::ssl_request(), login].concat();
    for arguments in [&["-alpn", "postgresql"][..], &["-starttls", "postgres"]] {
        let said = s_client(target, arguments, &twice);
        assert!(said.contains("encryption was asked for twice"), "{said}");
    }
}

#[test]
fn cve_2021_3935_what_follows_an_ssl_request_in_clear_is_refused() {
    let (cluster, certificates) = (Cluster::start(), Certificates::new());
    let howdah = before(&cluster, &certificates, "allow").start();
    if !howdah.is_howdah() {
        return;
    }
    let injected = [
        msg::startup(&[("user", "app"), ("database", "app")]),
        msg::query("SELECT 1"),
    ];
    for extra in [injected.concat(), vec![0x16], vec![0]] {
        let mut wire = Wire::connect(howdah.target()).expect("a connection");
        wire.send(&[msg::ssl_request(), extra].concat());
        assert_eq!(wire.expect_fatal().code(), "08P01");
    }
    assert_eq!(cluster.backends("true"), 0, "nothing of it reached the server");
}

#[test]
fn cve_2021_23214_and_43766_nothing_said_in_clear_is_taken_for_said_by_who_has_the_certificate() {
    let (cluster, certificates) = (Cluster::start(), Certificates::new());
    let howdah = before(&cluster, &certificates, "verify-full")
        .set("client_tls_ca_file", certificates.path("root.crt"))
        .set("auth_type", "cert")
        .start();
    if !howdah.is_howdah() {
        return;
    }
    let injected = [
        msg::startup(&[("user", "app"), ("database", "app")]),
        msg::query("SELECT 1"),
    ]
    .concat();
    for request in [msg::ssl_request(), msg::gssenc_request()] {
        let mut wire = Wire::connect(howdah.target()).expect("a connection");
        wire.send(&[&request[..], &injected].concat());
        assert_eq!(wire.expect_fatal().code(), "08P01");
        // One by one, it is not encrypted, and so nobody.
        let mut wire = Wire::connect(howdah.target()).expect("a connection");
        wire.send(&msg::gssenc_request());
        assert_eq!(wire.read_byte().ok(), Some(b'N'));
        wire.send(&injected);
        assert_eq!(wire.expect_fatal().code(), "28000");
    }
    assert_eq!(cluster.backends("true"), 0, "nothing of it reached the server");
}

#[test]
fn scram_is_bound_to_the_channel() {
    let (cluster, certificates) = (Cluster::start(), Certificates::new());
    let howdah = before(&cluster, &certificates, "allow")
        .set("auth_type", "scram-sha-256")
        .user("scram_u", &password_of("scram_u"))
        .start();
    if !howdah.is_howdah() {
        return;
    }
    let login = format!("user=scram_u password='{}'", password_of("scram_u"));
    let seen = attempts(
        howdah.target(),
        &[
            &format!("{login} sslmode=require channel_binding=require require_auth=scram-sha-256"),
            &format!("{login} sslmode=require channel_binding=disable"),
            &format!("{login} sslmode=require channel_binding=prefer"),
            &format!("{login} sslmode=disable channel_binding=require"),
            &format!("{login} sslmode=disable channel_binding=prefer"),
            "user=scram_u password=wrong sslmode=require channel_binding=require",
        ],
    );
    assert_eq!(seen[..3], ["tls", "tls", "tls"]);
    assert!(seen[3].contains("channel binding required"), "{}", seen[3]);
    assert_eq!(seen[4], "plain");
    assert!(seen[5].contains("password authentication failed"), "{}", seen[5]);
}

#[test]
fn a_client_certificate_is_verified_where_it_is_asked_for() {
    let (cluster, certificates, strangers) = (Cluster::start(), Certificates::new(), Certificates::new());
    let mut howdah = before(&cluster, &certificates, "verify-full")
        .set("client_tls_ca_file", certificates.path("root.crt"))
        .start();
    if !howdah.is_howdah() {
        return;
    }
    certificates.client("app");
    strangers.client("app");
    certificates.sign("late", |params| {
        params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    });
    let with = |certificates: &Certificates, name: &str| {
        let path = |end: &str| certificates.path(&format!("{name}.{end}"));
        let (certificate, key) = (path("crt"), path("key"));
        format!("sslmode=require sslcert={certificate} sslkey={key}")
    };
    let none = "sslmode=require sslcertmode=disable".to_owned();
    let all = [
        with(&certificates, "app"),
        none,
        with(&strangers, "app"),
        with(&certificates, "late"),
    ];
    let all = all.each_ref().map(String::as_str);
    let refused =
        |seen: &str| seen.contains("alert") || seen.contains("SSL error") || seen.contains("closed");
    let seen = attempts(howdah.target(), &all);
    assert_eq!(seen[0], "tls");
    assert!(seen[1..].iter().all(|seen| refused(seen)), "{seen:?}");
    let log = howdah.log();
    for part in [
        "the peer has shown no certificate",
        "not signed by the authority that it names",
        "it has expired",
    ] {
        assert!(log.contains(part), "{part} is not in the log: {log}");
    }
    // Where it is not required, none will do, but a bad one will not.
    howdah.reload(|config| config.set("client_tls_sslmode", "require"));
    howdah.wait_log("configuration reloaded");
    let seen = attempts(howdah.target(), &all);
    assert_eq!(seen[..2], ["tls", "tls"]);
    assert!(seen[2..].iter().all(|seen| refused(seen)), "{seen:?}");
}

#[test]
fn sessions_are_resumed() {
    let (cluster, certificates) = (Cluster::start(), Certificates::new());
    let mut howdah = before(&cluster, &certificates, "allow")
        .set("metrics_addr", format!("127.0.0.1:{}", common::net::free_port()))
        .start();
    if !howdah.is_howdah() {
        return;
    }
    let tls = tunnel(howdah.target(), trusting());
    let mut console = Console::open(howdah.target());
    let port = metrics_port(&howdah);
    let counts = || {
        let text = get(port, "/metrics").body;
        ["full", "resumed", "failed"].map(|result| {
            let name = format!("howdah_tls_handshakes_total{{result=\"{result}\"}} ");
            let value = text.lines().find_map(|line| line.strip_prefix(&name));
            value.expect("it is there").parse::<u32>().expect("a count")
        })
    };
    let mut visit = || {
        let mut wire = Wire::app(tls);
        assert_eq!(wire.value("SELECT 42"), "42");
        let shown = console.show("CLIENTS");
        let told = &shown.row(&[("user", "app")])["tls"];
        assert!(told.starts_with("TLSv1.3/TLS_AES_256_GCM_SHA384/ECDH="), "{told}");
        wire.terminate();
        wait_until("it has left", || {
            console
                .show("CLIENTS")
                .rows
                .iter()
                .all(|row| row["user"] != "app")
        });
    };
    (0..3).for_each(|_| visit());
    assert_eq!(counts(), [1, 2, 0]);
    // A reload that changes nothing about TLS does not take away what clients hold.
    howdah.reload(|config| config.set("default_pool_size", 3));
    howdah.wait_log("configuration reloaded");
    visit();
    assert_eq!(counts(), [1, 3, 0]);
    // One that does, does: a new rule holds for whoever comes after it.
    howdah.reload(|config| config.set("client_tls_ca_file", certificates.path("root.crt")));
    wait_until("it is reloaded", || {
        howdah.log().matches("configuration reloaded").count() == 2
    });
    visit();
    assert_eq!(counts(), [2, 3, 0]);
}

#[test]
fn a_reload_shows_a_new_certificate_and_keeps_the_old_one_where_the_new_is_broken() {
    let (cluster, certificates) = (Cluster::start(), Certificates::new());
    let howdah = before(&cluster, &certificates, "allow").start();
    if !howdah.is_howdah() {
        return;
    }
    let tls = tunnel(howdah.target(), trusting());
    let mut old = Wire::app(tls);
    let mut console = Console::open(howdah.target());
    let verified = format!(
        "sslmode=verify-full sslrootcert={}",
        certificates.path("root.crt")
    );
    let verify = || attempts(howdah.target(), &[&verified]).remove(0);
    assert_eq!(verify(), "tls");
    certificates.sign("other", |params| params.subject_alt_names.truncate(1));
    certificates.replace("server", "other");
    assert_eq!(verify(), "tls", "nothing happens before a reload");
    console.does("RELOAD");
    assert!(
        verify().contains("does not match host name"),
        "the new one is for another name"
    );
    assert_eq!(old.value("SELECT 'still here'"), "still here");
    for broken in [
        "",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    ] {
        certificates.write("server.crt", broken);
        let error = console.refuses("RELOAD");
        assert!(error.message().contains("server.crt"), "{error:?}");
        assert!(howdah.log().contains("server.crt"));
        assert!(
            verify().contains("does not match host name"),
            "the one before is still shown"
        );
    }
    assert_eq!(old.value("SELECT 'still here'"), "still here");
}

#[test]
fn a_handshake_that_stalls_is_ended_in_time() {
    let (cluster, certificates) = (Cluster::start(), Certificates::new());
    let howdah = before(&cluster, &certificates, "allow")
        .set("client_login_timeout", "1s")
        .start();
    if !howdah.is_howdah() {
        return;
    }
    let hello = [0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3];
    let mut direct = Wire::connect(howdah.target()).expect("a connection");
    direct.send(&hello);
    let mut wires = vec![direct];
    for part in [0, 1, 5, hello.len()] {
        let mut wire = Wire::connect(howdah.target()).expect("a connection");
        wire.send(&msg::ssl_request());
        assert_eq!(wire.read_byte(), Ok(b'S'));
        wire.send(&hello[..part]);
        wires.push(wire);
    }
    for wire in &mut wires {
        assert_eq!(wire.expect_closed(), [], "nothing is said in clear");
    }
}

#[test]
fn what_is_no_tls_ends_the_connection() {
    let (cluster, certificates) = (Cluster::start(), Certificates::new());
    let howdah = before(&cluster, &certificates, "allow").start();
    if !howdah.is_howdah() {
        return;
    }
    for nonsense in [
        msg::startup(&[("user", "app"), ("database", "app")]),
        vec![0x16, 3, 1, 0xff, 0xff, 0],
        vec![0x17; 1000],
        [vec![0x16, 3, 1, 0, 5], vec![0; 5]].concat(),
    ] {
        let mut wire = Wire::connect(howdah.target()).expect("a connection");
        wire.send(&msg::ssl_request());
        assert_eq!(wire.read_byte(), Ok(b'S'));
        wire.send(&nonsense);
        // An alert of TLS may come, and nothing of PostgreSQL.
        while let Ok(byte) = wire.read_byte() {
            assert_ne!(byte, b'E', "{nonsense:?}");
        }
    }
    assert_eq!(Wire::app(howdah.target()).value("SELECT 42"), "42");
    assert!(!howdah.log().contains("panicked"), "{}", howdah.log());
}

#[test]
fn the_commands_of_the_manual_make_certificates_that_work() {
    let manual = include_str!("../docs/tls.md");
    let script = manual
        .split("```sh\n")
        .nth(1)
        .and_then(|rest| rest.split("```").next());
    let dir = tempfile::tempdir().expect("a directory");
    let mut command = Command::new("bash");
    command
        .args(["-ec", script.expect("a script")])
        .current_dir(dir.path());
    run::succeed(&mut command, LIMIT);
    let path = |name: &str| dir.path().join(name).to_str().expect("a plain path").to_owned();

    let cluster = Cluster::start();
    let howdah = Howdah::before(&cluster)
        .set("client_tls_sslmode", "verify-full")
        .set("client_tls_cert_file", path("server.crt"))
        .set("client_tls_key_file", path("server.key"))
        .set("client_tls_ca_file", path("root.crt"))
        .start();
    if !howdah.is_howdah() {
        return;
    }
    let (root, cert, key) = (path("root.crt"), path("alice.crt"), path("alice.key"));
    let conninfo = format!("sslmode=verify-full sslrootcert={root} sslcert={cert} sslkey={key}");
    assert_eq!(attempts(howdah.target(), &[&conninfo]), ["tls"]);
}

#[test]
fn node_programs_use_tls_and_bind_to_it() {
    let (cluster, certificates) = (Cluster::start(), Certificates::new());
    let howdah = before(&cluster, &certificates, "require")
        .set("auth_type", "scram-sha-256")
        .user("scram_u", &password_of("scram_u"))
        .start();
    if !howdah.is_howdah() {
        return;
    }
    const PROGRAM: &str = "
import fs from 'node:fs';
import pg from 'pg';
const ca = fs.readFileSync(process.env.ROOT, 'utf8');
for (const enableChannelBinding of [false, true]) {
    const pool = new pg.Pool({ host: 'localhost', ssl: { ca, rejectUnauthorized: true }, enableChannelBinding, max: 5 });
    const all = await Promise.all([...Array(50).keys()].map((n) => pool.query('select $1::int as n', [n])));
    all.forEach((result, n) => { if (result.rows[0].n !== n) throw new Error(`${n}`); });
    const client = await pool.connect();
    if (!client.connection.stream.encrypted) throw new Error('not encrypted');
    const { rows } = await client.query(\"select repeat('x', 3000000) as text\");
    if (rows[0].text.length !== 3000000) throw new Error('cut');
    client.release();
    await pool.end();
}
try {
    const stranger = new pg.Client({ host: 'localhost', ssl: { rejectUnauthorized: true } });
    await stranger.connect();
    console.log('believed');
} catch (error) {
    console.log(error.code);
}
";
    let mut command = run::client("node", howdah.target(), "scram_u", "app");
    command
        .args(["--input-type=module", "-e", PROGRAM])
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients"))
        .env("PGPASSWORD", password_of("scram_u"))
        .env("ROOT", certificates.path("root.crt"))
        .env_remove("PGSSLMODE");
    let said = run::succeed(&mut command, LIMIT);
    assert!(
        said.contains("UNABLE_TO_VERIFY") || said.contains("SELF_SIGNED"),
        "{said}"
    );
}

#[test]
fn files_are_checked_before_anything_runs() {
    let certificates = Certificates::new();
    certificates.sign("other", |_| ());
    certificates.write("empty.crt", "");
    let path = |name: &str| certificates.path(name);
    let (cert, key, other) = (path("server.crt"), path("server.key"), path("other.key"));
    let tls = |cert: &str, key: &str, more: &str| {
        format!(
            "[howdah]\nauth_type = \"trust\"\nclient_tls_sslmode = \"require\"\nclient_tls_cert_file = \"{cert}\"\n\
             client_tls_key_file = \"{key}\"\n{more}\n[databases]\napp = \"host=a\"\n"
        )
    };
    let trusting = "[howdah]\nauth_type = \"trust\"\n[databases]\napp = ";
    for (text, says) in [
        (tls(&cert, &key, ""), "is sound"),
        (tls("", "", ""), "needs a certificate"),
        (tls(&cert, &other, ""), "it is not the key of the certificate"),
        (tls(&path("empty.crt"), &key, ""), "there is no certificate in it"),
        (tls(&cert, &cert, ""), "there is no private key in it"),
        (tls("missing.crt", &key, ""), "missing.crt: No such file"),
        (
            tls(&cert, &key, "client_tls_ca_file = \"none.crt\""),
            "client_tls_ca_file: ",
        ),
        (tls(&cert, &key, "client_tls_protocols = \"tlsv1.1\""), "unsafe"),
        (
            format!("{trusting}\"host=a sslmode=verify-ca sslrootcert=none.crt\"\n"),
            "none.crt: No such file",
        ),
        (
            format!("{trusting}\"host=a sslnegotiation=direct\"\n"),
            "at least \"require\"",
        ),
        (
            format!("{trusting}\"host=a sslmode=require sslrootcert=system\"\n"),
            "needs \"verify-full\"",
        ),
        (format!("{trusting}\"host=a sslcert=x\"\n"), "need each other"),
    ] {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("howdah.toml");
        std::fs::write(&file, &text).expect("a file of ours");
        let done = run::output(common::daemon::howdah().arg("check").arg(&file), LIMIT);
        let said = String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned();
        assert!(said.contains(says), "{text}\n{said}");
        assert_eq!(done.status.success(), says == "is sound", "{said}");
    }
}

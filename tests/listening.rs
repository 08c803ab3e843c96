//! Where clients find howdah, and how they come in: addresses, sockets passed by systemd, too many of them, and what a
//! login brings along.

mod common;

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use common::daemon::{Daemon, howdah, quiet};
use common::net::{PATIENCE, eventually, free_port};
use common::{Cluster, Howdah, Target, Wire, login, msg};
use rustix::process::Signal;

const LIMIT: Duration = Duration::from_secs(20);

/// A configuration in the environment: everybody is trusted, one database.
fn configured(cluster: &Cluster, port: u16) -> Command {
    let mut command = howdah();
    configure(&mut command, cluster, port);
    command
}

fn configure(command: &mut Command, cluster: &Cluster, port: u16) {
    command
        .env("HOWDAH_AUTH_TYPE", "trust")
        .env("HOWDAH_LISTEN_PORT", port.to_string())
        .env("HOWDAH_DATABASES_APP", cluster.location("app"));
}

/// Whether a stream leads to PostgreSQL.
fn answers(stream: &mut (impl Read + Write)) -> bool {
    stream
        .write_all(&msg::startup(&[("user", "app"), ("database", "app")]))
        .expect("it takes bytes");
    let mut first = [0; 9];
    stream.read_exact(&mut first).is_ok() && first == [b'R', 0, 0, 0, 8, 0, 0, 0, 0]
}

fn tcp(address: &str) -> Option<TcpStream> {
    let address: SocketAddr = address.parse().expect("an address");
    let stream = TcpStream::connect_timeout(&address, PATIENCE).ok()?;
    stream
        .set_read_timeout(Some(PATIENCE))
        .expect("a timeout can be set");
    Some(stream)
}

fn unix(path: &Path) -> UnixStream {
    let stream = UnixStream::connect(path).expect("it listens");
    stream
        .set_read_timeout(Some(PATIENCE))
        .expect("a timeout can be set");
    stream
}

fn try_login(target: Target, more: &[(&str, &str)]) -> Result<Wire, login::LoginError> {
    let params = [&[("user", "app"), ("database", "app")], more].concat();
    Wire::login_with(target, &params, None)
}

#[test]
fn several_addresses_and_a_unix_socket_at_once() {
    let cluster = Cluster::start();
    let (port, dir) = (free_port(), tempfile::tempdir().expect("a directory"));
    let group = fs::metadata(dir.path()).expect("a directory").gid();
    let mut command = configured(&cluster, port);
    command
        .env("HOWDAH_LISTEN_ADDR", "127.0.0.1, 127.0.0.2, ::1")
        .env("HOWDAH_UNIX_SOCKET_DIR", dir.path())
        .env("HOWDAH_UNIX_SOCKET_MODE", "0750")
        .env("HOWDAH_UNIX_SOCKET_GROUP", group.to_string());
    let mut daemon = Daemon::listening(&mut command, Target { port });
    let six = Path::new("/proc/net/if_inet6").exists();
    for host in ["127.0.0.1", "127.0.0.2", "[::1]"]
        .iter()
        .take(if six { 3 } else { 2 })
    {
        let mut stream = tcp(&format!("{host}:{port}")).unwrap_or_else(|| panic!("nobody on {host}"));
        assert!(answers(&mut stream), "{host}");
    }
    assert!(
        tcp(&format!("127.0.0.3:{port}")).is_none(),
        "nobody asked for that"
    );
    let path = dir.path().join(format!(".s.PGSQL.{port}"));
    let meta = fs::metadata(&path).expect("a socket");
    assert!(meta.file_type().is_socket());
    assert_eq!((meta.permissions().mode() & 0o777, meta.gid()), (0o750, group));
    assert!(answers(&mut unix(&path)));
    daemon.signal(Signal::KILL);
    daemon.wait(LIMIT);

    // The socket of a process that was killed is in nobody's way.
    assert!(path.exists());
    let mut daemon = Daemon::listening(&mut command, Target { port });
    eventually("the socket is there", LIMIT, || UnixStream::connect(&path).ok());
    assert!(answers(&mut unix(&path)));
    let mut second = Daemon::start(command.env("HOWDAH_LISTEN_PORT", port.to_string()));
    assert!(!second.wait(LIMIT).success(), "two on one port");
    assert!(answers(&mut unix(&path)), "the first is not disturbed");
    daemon.signal(Signal::TERM);
    assert!(daemon.wait(LIMIT).success());
    assert!(!path.exists(), "the socket is left behind");
}

#[test]
fn every_address_by_a_star() {
    let cluster = Cluster::start();
    let port = free_port();
    let mut command = configured(&cluster, port);
    let _daemon = Daemon::listening(command.env("HOWDAH_LISTEN_ADDR", "*"), Target { port });
    let six = Path::new("/proc/net/if_inet6").exists();
    for host in ["127.0.0.1", "127.0.0.9", "[::1]"]
        .iter()
        .take(if six { 3 } else { 2 })
    {
        assert!(
            answers(&mut tcp(&format!("{host}:{port}")).expect("it listens")),
            "{host}"
        );
    }
}

/// Opens a TCP and a Unix socket as descriptors 3 and 4, as systemd would, and becomes its arguments.
const LAUNCHER: &str = "
import os, socket, sys
port, path, command = int(sys.argv[1]), sys.argv[2], sys.argv[3:]
listeners = [socket.socket(), socket.socket(socket.AF_UNIX)]
listeners[0].setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listeners[0].bind(('127.0.0.1', port))
listeners[1].bind(path)
numbers = []
for listener in listeners:
    listener.listen()
    numbers.append(os.dup2(listener.fileno(), 100 + len(numbers)))
for listener in listeners:
    listener.close()
for number in numbers:
    os.dup2(number, number - 97)
    os.close(number)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='2')
os.execv(command[0], command)
";

#[test]
fn sockets_are_taken_over_from_systemd() {
    let cluster = Cluster::start();
    let (port, unused) = (free_port(), free_port());
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("socket");
    let mut command = Command::new("python3");
    quiet(&mut command);
    configure(&mut command, &cluster, unused);
    command.args(["-c", LAUNCHER, &port.to_string()]).arg(&path);
    command.arg(env!("CARGO_BIN_EXE_howdah"));
    let mut daemon = Daemon::listening(&mut command, Target { port });
    assert!(answers(
        &mut tcp(&format!("127.0.0.1:{port}")).expect("it listens")
    ));
    assert!(answers(&mut unix(&path)));
    assert!(
        tcp(&format!("127.0.0.1:{unused}")).is_none(),
        "those of systemd take the place of others"
    );
    daemon.signal(Signal::TERM);
    assert!(daemon.wait(LIMIT).success());
    assert!(path.exists(), "systemd's socket is systemd's");
}

#[test]
fn systemd_is_told_when_it_is_ready_and_when_it_stops() {
    let cluster = Cluster::start();
    let (port, dir) = (free_port(), tempfile::tempdir().expect("a directory"));
    let path = dir.path().join("notify");
    let socket = UnixDatagram::bind(&path).expect("a socket");
    socket
        .set_read_timeout(Some(PATIENCE))
        .expect("a timeout can be set");
    let heard = || {
        let mut message = [0; 4096];
        let length = socket.recv(&mut message).expect("a notification");
        String::from_utf8_lossy(&message[..length]).into_owned()
    };
    let mut daemon = Daemon::start(configured(&cluster, port).env("NOTIFY_SOCKET", &path));
    assert!(heard().contains("READY=1"));
    assert!(answers(
        &mut tcp(&format!("127.0.0.1:{port}")).expect("it is ready")
    ));
    daemon.signal(Signal::TERM);
    while !heard().contains("STOPPING=1") {}
    assert!(daemon.wait(LIMIT).success());
}

/// The CPU time that a process has used.
fn cpu_time(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("it is running");
    let fields: Vec<&str> = stat
        .rsplit_once(')')
        .expect("a name")
        .1
        .split_whitespace()
        .collect();
    let ticks: u64 = [11, 12]
        .iter()
        .map(|at| fields[*at].parse::<u64>().expect("ticks"))
        .sum();
    Duration::from_millis(ticks * 10)
}

#[test]
fn out_of_file_descriptors_it_waits_says_so_and_recovers() {
    let cluster = Cluster::start();
    let port = free_port();
    let target = Target { port };
    let mut command = Command::new("sh");
    quiet(&mut command);
    configure(&mut command, &cluster, port);
    command.args(["-c", "ulimit -n 64; exec \"$0\"", env!("CARGO_BIN_EXE_howdah")]);
    let daemon = Daemon::listening(&mut command, target);
    let mut inside = Wire::app(target);
    inside.query("BEGIN");
    let crowd: Vec<TcpStream> = (0..100)
        .map(|_| TcpStream::connect(target.addr()).expect("the kernel takes them"))
        .collect();
    eventually("it says so", LIMIT, || {
        daemon.said().contains("cannot accept").then_some(())
    });
    let before = cpu_time(daemon.id());
    thread::sleep(Duration::from_secs(3));
    let used = cpu_time(daemon.id()).saturating_sub(before);
    assert!(used < Duration::from_millis(600), "it spins: {used:?} in 3 s");
    assert_eq!(
        inside.value("SELECT 'those inside are served'"),
        "those inside are served"
    );
    assert!(
        daemon.said().matches("cannot accept").count() <= 3,
        "once every ten seconds"
    );
    drop(crowd);
    let start = Instant::now();
    let mut next = eventually("it recovers", LIMIT, || try_login(target, &[]).ok());
    assert_eq!(next.value("SELECT 1"), "1");
    assert!(start.elapsed() < Duration::from_secs(10));
    assert_eq!(inside.query("COMMIT").status, 'I');
}

#[test]
fn a_login_needs_no_free_server_once_the_pool_is_known() {
    let cluster = Cluster::start();
    let howdah = Howdah::with_pool(&cluster, 1);
    if !howdah.is_howdah() {
        return;
    }
    let target = howdah.target();
    let known = [
        ("TimeZone", "Asia/Tokyo"),
        ("options", "-c statement_timeout=33s"),
    ];
    try_login(target, &known).expect("a login").terminate();
    let mut holder = Wire::app(target);
    holder.query("BEGIN");
    let start = Instant::now();
    let mut wires: Vec<Wire> = (0..20).map(|_| Wire::app(target)).collect();
    wires.extend((0..20).map(|_| try_login(target, &known).expect("a login")));
    // A name of an application is everybody's own, and needs no trial.
    for name in ["one", "two"] {
        let wire = try_login(target, &[("application_name", name)]).expect("a login");
        assert_eq!(wire.params["application_name"], name);
    }
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    for wire in &mut wires {
        wire.send(&msg::query("SHOW TimeZone"));
    }
    holder.query("COMMIT");
    for (index, wire) in wires.iter_mut().enumerate() {
        assert_eq!(
            wire.answer().value(),
            if index < 20 { "UTC" } else { "Asia/Tokyo" }
        );
    }
}

#[test]
fn startup_parameters_hold_wherever_the_client_is_served() {
    let cluster = Cluster::start();
    let howdah = Howdah::with_pool(&cluster, 1);
    let target = howdah.target();
    let params = [
        ("client_encoding", "LATIN1"),
        ("DateStyle", "German, DMY"),
        ("TimeZone", "Asia/Tokyo"),
        ("application_name", "tests"),
        ("extra_float_digits", "0"),
        (
            "options",
            "-c statement_timeout=33s -c search_path=pg_catalog --lock_timeout=44s",
        ),
    ];
    let mut special = try_login(target, &params).expect("a login");
    let mut plain = try_login(target, &[]).expect("a login");
    for (name, value) in [
        ("client_encoding", "LATIN1"),
        ("DateStyle", "German, DMY"),
        ("TimeZone", "Asia/Tokyo"),
    ] {
        assert_eq!(special.params[name], value, "as the server reports it");
    }
    for _ in 0..2 {
        for (name, theirs, ours) in [
            ("client_encoding", "LATIN1", "UTF8"),
            ("DateStyle", "German, DMY", "ISO, MDY"),
            ("TimeZone", "Asia/Tokyo", "UTC"),
            ("application_name", "tests", ""),
            ("extra_float_digits", "0", "1"),
            ("statement_timeout", "33s", "0"),
            ("search_path", "pg_catalog", "\"$user\", public"),
            ("lock_timeout", "44s", "0"),
        ] {
            assert_eq!(special.value(&format!("SHOW {name}")), theirs);
            assert_eq!(plain.value(&format!("SHOW {name}")), ours);
        }
    }
}

#[test]
fn options_that_cannot_be_had_are_refused_at_login_in_postgresqls_words() {
    let cluster = Cluster::start();
    let howdah = Howdah::with_pool(&cluster, 1);
    let mut messages = Vec::new();
    for bad in [
        &[("options", "-c no_such_setting=1")][..],
        &[("options", "-c statement_timeout=soon")],
        &[("TimeZone", "Nowhere/Land")],
        &[("client_encoding", "KLINGON")],
        &[("options", "-c port=1")],
        &[("options", "-c shared_buffers=1MB")],
        &[("options", "-c no.such=ok -c DateStyle=never")],
    ] {
        let through = match try_login(howdah.target(), bad).err() {
            Some(login::LoginError::Refused(error)) => error,
            other => panic!("{bad:?}: {other:?}"),
        };
        let direct = match try_login(cluster.target(), bad).err() {
            Some(login::LoginError::Refused(error)) => error,
            other => panic!("{bad:?} directly: {other:?}"),
        };
        assert_eq!(through.severity(), "FATAL", "{bad:?}: {through:?}");
        if (through.code(), through.message()) != (direct.code(), direct.message()) {
            messages.push(format!("{bad:?}: {through:?} where PostgreSQL says {direct:?}"));
        }
    }
    assert!(messages.is_empty(), "{messages:#?}");
    let mut wire = Wire::app(howdah.target());
    assert_eq!(wire.value("SHOW statement_timeout"), "0", "nothing stays behind");
    assert_eq!(cluster.backends("true"), 1);
}

#[test]
fn options_that_only_a_new_backend_takes() {
    let cluster = Cluster::start();
    let howdah = Howdah::with_pool(&cluster, 1);
    // It can be set by a startup packet and by nothing after it.
    let params = [("options", "-c ignore_system_indexes=on")];
    match try_login(howdah.target(), &params) {
        Ok(mut wire) => assert_eq!(wire.value("SHOW ignore_system_indexes"), "on"),
        Err(refused) => {
            assert!(["55P02", "0A000", "42704"].contains(&refused.code()), "{refused}");
        }
    }
    let mut wire = Wire::app(howdah.target());
    assert_eq!(wire.value("SHOW ignore_system_indexes"), "off");
}

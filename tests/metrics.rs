//! What machines look at: `/metrics`, `/healthz`, `/readyz`, `howdah health`, and Debian's exporter on the console.

mod common;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::thread;
use std::time::Duration;

use common::console::{Console, get, metrics_port, number, request};
use common::daemon::{Daemon, howdah, quiet};
use common::howdah::Config;
use common::net::{eventually, free_port, wait_until};
use common::{Cluster, Howdah, Target, Wire, msg, run, wire};
use rustix::process::Signal;

const SOON: Duration = Duration::from_secs(10);

type Labels = BTreeMap<String, String>;

/// One answer of `/metrics`, read as strictly as Prometheus does.
struct Scrape {
    kinds: BTreeMap<String, String>,
    series: BTreeMap<String, Vec<(Labels, f64)>>,
}

/// Splits `name="value",…}` into labels; the rest of the line follows.
fn labels(mut text: &str) -> (Labels, &str) {
    let mut labels = Labels::new();
    while let Some((name, rest)) = text.split_once("=\"").filter(|_| !text.starts_with('}')) {
        let mut value = String::new();
        let mut chars = rest.char_indices();
        let end = loop {
            match chars.next().expect("a label ends with a quote") {
                (at, '"') => break at,
                (_, '\\') => match chars.next().expect("something is escaped").1 {
                    'n' => value.push('\n'),
                    other => value.push(other),
                },
                (_, other) => value.push(other),
            }
        };
        labels.insert(name.trim_start_matches(',').to_owned(), value);
        text = &rest[end + 1..];
    }
    (labels, text.strip_prefix('}').expect("labels end with a brace"))
}

impl Scrape {
    fn of(howdah: &Howdah) -> Self {
        let answer = get(metrics_port(howdah), "/metrics");
        assert_eq!(answer.status, 200, "{}", answer.body);
        let kind = "content-type: text/plain; version=0.0.4";
        assert!(answer.head.contains(kind), "{}", answer.head);
        Self::parse(&answer.body)
    }

    fn parse(text: &str) -> Self {
        let mut scrape = Self {
            kinds: BTreeMap::new(),
            series: BTreeMap::new(),
        };
        for line in text.lines() {
            if let Some(kind) = line.strip_prefix("# TYPE ") {
                let (name, kind) = kind.split_once(' ').expect("a kind");
                let before = scrape.kinds.insert(name.to_owned(), kind.to_owned());
                assert_eq!(before, None, "{name} is there twice");
            } else if !line.starts_with('#') {
                scrape.sample(line);
            }
        }
        scrape
    }

    fn sample(&mut self, line: &str) {
        let at = line.find(['{', ' ']).expect("a value");
        let (name, rest) = line.split_at(at);
        let (labels, value) = rest
            .strip_prefix('{')
            .map_or_else(|| (Labels::new(), rest), labels);
        let value = value.trim().parse().expect("a number");
        let family = ["_bucket", "_sum", "_count"]
            .iter()
            .find_map(|suffix| name.strip_suffix(suffix));
        let family = family
            .filter(|family| self.kinds.get(*family).is_some_and(|kind| kind == "histogram"))
            .unwrap_or(name);
        assert!(self.kinds.contains_key(family), "no TYPE before {line}");
        let series = self.series.entry(name.to_owned()).or_default();
        assert!(series.iter().all(|(have, _)| *have != labels), "twice: {line}");
        series.push((labels, value));
    }

    /// The only series of a name with these labels.
    #[track_caller]
    fn value(&self, name: &str, wanted: &[(&str, &str)]) -> f64 {
        let fits = |labels: &Labels| {
            wanted
                .iter()
                .all(|(name, value)| labels.get(*name).is_some_and(|have| have == value))
        };
        let all = self.series.get(name).map_or(&[][..], Vec::as_slice);
        let found: Vec<f64> = all
            .iter()
            .filter(|(labels, _)| fits(labels))
            .map(|(_, value)| *value)
            .collect();
        match found[..] {
            [value] => value,
            _ => panic!("{} series {name}{wanted:?} among {all:?}", found.len()),
        }
    }

    /// The same of the pool of `app`, a whole number.
    #[track_caller]
    fn app(&self, name: &str) -> u64 {
        whole(self.value(
            &format!("howdah_pool_{name}"),
            &[("database", "app"), ("user", "app")],
        ))
    }

    /// The same of one state or class.
    #[track_caller]
    fn app_with(&self, name: &str, label: &str, value: &str) -> u64 {
        let labels = [("database", "app"), ("user", "app"), (label, value)];
        whole(self.value(&format!("howdah_pool_{name}"), &labels))
    }

    #[track_caller]
    fn seconds(&self, name: &str) -> f64 {
        self.value(
            &format!("howdah_pool_{name}"),
            &[("database", "app"), ("user", "app")],
        )
    }

    #[track_caller]
    fn farewells(&self, reason: &str) -> u64 {
        whole(self.value("howdah_farewells_total", &[("reason", reason)]))
    }

    /// Every histogram is cumulative, and its last bucket is its count.
    fn check_histograms(&self) {
        let histograms = self.kinds.iter().filter(|(_, kind)| *kind == "histogram");
        for (name, _) in histograms {
            for (labels, count) in &self.series[&format!("{name}_count")] {
                let buckets = &self.series[&format!("{name}_bucket")];
                let mine: Vec<(f64, f64)> = buckets
                    .iter()
                    .filter(|(have, _)| labels.iter().all(|(name, value)| have.get(name) == Some(value)))
                    .map(|(have, value)| (have["le"].parse().expect("a bound"), *value))
                    .collect();
                assert!(mine.len() > 10, "{name}{labels:?}: {mine:?}");
                assert!(
                    mine.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1),
                    "{name}{labels:?}: {mine:?}"
                );
                let (bound, last) = mine[mine.len() - 1];
                assert!(
                    bound.is_infinite() && whole(last) == whole(*count),
                    "{name}: {mine:?}"
                );
            }
        }
    }
}

#[expect(clippy::cast_sign_loss, reason = "counts are not negative")]
#[track_caller]
fn whole(value: f64) -> u64 {
    assert!(value >= 0.0 && value.fract() == 0.0, "{value} is no count");
    value as u64
}

fn with_metrics(config: Config) -> Config {
    config.set("metrics_addr", format!("127.0.0.1:{}", free_port()))
}

fn one_server() -> Option<(Cluster, Howdah)> {
    let cluster = Cluster::start();
    let config = Howdah::before(&cluster).set("default_pool_size", 1);
    let howdah = with_metrics(config).start();
    howdah.is_howdah().then_some((cluster, howdah))
}

#[test]
fn paths_and_methods_are_answered_as_http_has_it() {
    let Some((_cluster, howdah)) = one_server() else {
        return;
    };
    Wire::app(howdah.target()).value("SELECT 1");
    let port = metrics_port(&howdah);
    for (method, path, status) in [
        ("GET", "/metrics", 200),
        ("GET", "/healthz", 200),
        ("GET", "/readyz", 200),
        ("GET", "/metrics?name=x", 200),
        ("GET", "/", 200),
        ("GET", "/nonsense", 404),
        ("GET", "/metrics/", 404),
        ("POST", "/nonsense", 404),
        ("POST", "/metrics", 405),
        ("DELETE", "/healthz", 405),
    ] {
        let answer = request(port, method, path).expect("an answer");
        assert_eq!(answer.status, status, "{method} {path}");
        assert_eq!(answer.head.contains("allow: get, head"), status == 405, "{path}");
    }
    let head = request(port, "HEAD", "/metrics").expect("an answer");
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    assert!(get(port, "/").body.contains("<td class=n>app"), "the page");
    // Whoever talks nonsense, or nothing at all, disturbs nobody.
    let _silent = TcpStream::connect(Target { port }.addr()).expect("it listens");
    let mut noisy = TcpStream::connect(Target { port }.addr()).expect("it listens");
    noisy.set_read_timeout(Some(SOON)).expect("a timeout can be set");
    noisy
        .write_all(b"\x00\x01nonsense\r\n\r\n")
        .expect("it can be said");
    let mut answer = Vec::new();
    noisy.read_to_end(&mut answer).ok();
    assert!(
        answer.is_empty() || answer.starts_with(b"HTTP/1.1 400"),
        "{answer:?}"
    );
    assert_eq!(get(port, "/healthz").body, "ok\n");
}

#[test]
fn numbers_are_true_under_a_known_load() {
    let Some((_cluster, howdah)) = one_server() else {
        return;
    };
    let mut wires: Vec<Wire> = (0..3).map(|_| Wire::app(howdah.target())).collect();
    wires[0].query("BEGIN");
    wires[1].send(&msg::query("BEGIN"));
    let mut console = Console::open(howdah.target());
    console.wait_for_waiting(1);
    thread::sleep(Duration::from_millis(600));
    let scrape = Scrape::of(&howdah);
    for (state, count) in [("active", 1), ("waiting", 1), ("idle", 1)] {
        assert_eq!(scrape.app_with("clients", "state", state), count, "{state}");
    }
    for (state, count) in [("active", 1), ("idle", 0), ("login", 0), ("tested", 0)] {
        assert_eq!(scrape.app_with("servers", "state", state), count, "{state}");
    }
    assert!(scrape.seconds("oldest_wait_seconds") >= 0.6);
    assert_eq!((scrape.app("size"), scrape.app("paused")), (1, 0));
    assert_eq!(whole(scrape.value("howdah_clients", &[])), 3);
    for (name, label) in [("database", "database"), ("user", "user")] {
        for (what, count) in [("servers", 1), ("clients", 3)] {
            let name = format!("howdah_{name}_{what}");
            assert_eq!(whole(scrape.value(&name, &[(label, "app")])), count, "{name}");
        }
    }
    scrape.check_histograms();
    afterwards_all_of_it_is_counted(wires, &mut console, &howdah);
}

/// The load that [`numbers_are_true_under_a_known_load`] has begun ends, and leaves its counts.
fn afterwards_all_of_it_is_counted(mut wires: Vec<Wire>, console: &mut Console, howdah: &Howdah) {
    wires[0].query("COMMIT");
    wires[1].answer();
    wires[1].query("COMMIT");
    for _ in 0..5 {
        wires[2].value("SELECT 1");
    }
    let batch = [msg::parse("s", "SELECT 1"), msg::run("s", &[])];
    assert_eq!(wires[2].batch(&batch), "12TDCZ");
    wires.into_iter().for_each(Wire::terminate);
    console.wait_for_nobody();
    wait_until("all is counted", || {
        Scrape::of(howdah).farewells("terminated") == 3
    });
    let scrape = Scrape::of(howdah);
    // The first login takes a server, to learn its parameters; both it and the second client had to wait.
    for (name, count) in [
        ("transactions_total", 8),
        ("transaction_seconds_count", 8),
        ("queries_total", 10),
        ("query_seconds_count", 10),
        ("assignments_total", 9),
        ("wait_seconds_count", 9),
        ("requests_total", 9),
        ("requests_queued_total", 2),
        ("requests_failed_total", 0),
        ("connects_total", 1),
        ("connects_failed_total", 0),
        ("connect_seconds_count", 1),
        ("login_seconds_count", 3),
        ("client_parses_total", 1),
        ("server_parses_total", 1),
        ("binds_total", 1),
        ("oldest_wait_seconds", 0),
    ] {
        assert_eq!(scrape.app(name), count, "{name}");
    }
    let slow = scrape.app("wait_seconds_count") - scrape.app_with("wait_seconds_bucket", "le", "0.5");
    assert!(slow >= 1, "one has waited longer than 0.6 s");
    assert!(scrape.seconds("wait_seconds_sum") >= 0.6 && scrape.seconds("usage_seconds_total") >= 0.6);
    scrape.check_histograms();

    // The console tells the same.
    let row = console.stats("app");
    for (column, metric) in [
        ("total_received", "received_bytes_total"),
        ("total_sent", "sent_bytes_total"),
        ("total_xact_count", "transactions_total"),
        ("total_query_count", "queries_total"),
    ] {
        assert_eq!(number(&row, column), scrape.app(metric), "{column}");
    }
    for (column, metric) in [
        ("total_wait_time", "wait_seconds_sum"),
        ("total_xact_time", "transaction_seconds_sum"),
    ] {
        let difference = number(&row, column) as f64 - scrape.seconds(metric) * 1e6;
        assert!(difference.abs() < 1.0, "{column}: {row:?}");
    }
}

#[test]
fn errors_and_losses_are_counted_by_kind() {
    let cluster = Cluster::start();
    let config = Howdah::before(&cluster)
        .set("default_pool_size", 1)
        .set("server_login_retry", "500ms")
        .set("query_wait_timeout", "1s");
    let howdah = with_metrics(config).start();
    if !howdah.is_howdah() {
        return;
    }
    let mut cluster = cluster;
    let mut wire = Wire::app(howdah.target());
    let classes = [
        ("22012", "data"),
        ("23505", "data"),
        ("40001", "transaction"),
        ("42P01", "statement"),
        ("53100", "resources"),
        ("57014", "intervention"),
        ("P0001", "other"),
    ];
    for (code, _) in classes {
        let answer = wire.query(&format!(
            "DO $$BEGIN RAISE EXCEPTION USING ERRCODE = '{code}'; END$$"
        ));
        assert_eq!(answer.code(), code);
    }
    wait_until("the last one is counted", || {
        Scrape::of(&howdah).app_with("errors_total", "class", "other") == 1
    });
    let scrape = Scrape::of(&howdah);
    for (_, class) in classes {
        let wanted = if class == "data" { 2 } else { 1 };
        assert_eq!(scrape.app_with("errors_total", "class", class), wanted, "{class}");
    }
    assert_eq!(scrape.app("servers_lost_total"), 0);

    cluster.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app'");
    wait_until("the loss is counted", || {
        Scrape::of(&howdah).app("servers_lost_total") == 1
    });
    assert_eq!(wire.value("SELECT 'nothing noticed'"), "nothing noticed");

    cluster.stop(Signal::QUIT);
    wire.send(&msg::query("SELECT 1"));
    wire.expect_fatal();
    let scrape = Scrape::of(&howdah);
    assert_eq!(scrape.app("failing"), 1);
    assert_eq!(scrape.app("requests_failed_total"), 1);
    assert!(scrape.app("connects_failed_total") >= 1);
    let connects = scrape.app("connects_total") - scrape.app("connects_failed_total");
    assert_eq!(connects, scrape.app("connect_seconds_count"));
    cluster.launch();
    let mut wire = eventually("it recovers", SOON, || {
        Wire::login_with(howdah.target(), &[("user", "app"), ("database", "app")], None).ok()
    });
    eventually("it is served again", SOON, || {
        let answer = {
            wire.send(&msg::query("SELECT 1"));
            wire.try_answer()
        };
        if answer.is_err() {
            wire = Wire::app(howdah.target());
        }
        answer.ok()
    });
    assert_eq!(Scrape::of(&howdah).app("failing"), 0);
}

fn wait_for_farewells(howdah: &Howdah, reason: &str, count: u64) {
    wait_until(&format!("{count} {reason}"), || {
        Scrape::of(howdah).farewells(reason) == count
    });
}

/// Goodbyes that clients say, or fail to say, themselves.
fn they_leave_by_themselves(howdah: &Howdah) {
    let target = howdah.target();
    let came = |reason: &str, count: u64| wait_for_farewells(howdah, reason, count);
    Wire::app(target).terminate();
    came("terminated", 1);

    Wire::app(target).vanish();
    came("vanished", 2);

    for (user, database) in [("app", "nowhere"), ("app", "pgbouncer")] {
        Wire::login_with(target, &[("user", user), ("database", database)], None)
            .err()
            .expect("a refusal");
    }
    came("login_refused", 2);

    let mut wire = Wire::app(target);
    wire.send(&msg::typed(b'?', b"nonsense"));
    wire.expect_fatal();
    came("client_protocol", 1);
}

#[test]
fn farewells_are_counted_by_reason() {
    let cluster = Cluster::start();
    let config = Howdah::before(&cluster)
        .set("default_pool_size", 1)
        .database("app", &cluster.location("app"));
    let howdah = with_metrics(config).start();
    if !howdah.is_howdah() {
        return;
    }
    let target = howdah.target();
    // The harness has knocked once, to see whether anybody listens.
    wait_until("the knock is counted", || {
        Scrape::of(&howdah).farewells("vanished") == 1
    });
    let came = |reason: &str, count: u64| wait_for_farewells(&howdah, reason, count);
    let mut console = Console::open(target);
    they_leave_by_themselves(&howdah);
    let mut holder = Wire::app(target);
    holder.query("BEGIN");
    let mut wire = Wire::app(target);
    console.does("SET query_wait_timeout = '300ms'");
    wire.send(&msg::query("SELECT 1"));
    wire.expect_fatal();
    came("limit", 1);

    wire::cancel(target, &holder.key.clone().expect("it has a key"));
    came("cancel_request", 1);
    let id = console.show("CLIENTS").row(&[("database", "app")])["id"].clone();
    console.does(&format!("KILL_CLIENT {id}"));
    holder.expect_fatal();
    came("administrator", 1);

    let mut wire = Wire::app(target);
    wire.query("BEGIN");
    wire.send(&msg::query("SELECT pg_sleep(60)"));
    wait_until("it runs", || cluster.backends("query LIKE '%sleep%'") == 1);
    cluster.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%sleep(60)'");
    wire.expect_fatal();
    came("server_lost", 1);

    console.0.terminate();
    came("finished", 1);
    let all = [
        ("terminated", 1),
        ("vanished", 2),
        ("login_refused", 2),
        ("client_io", 0),
        ("server_protocol", 0),
    ];
    let scrape = Scrape::of(&howdah);
    for (reason, count) in all {
        assert_eq!(scrape.farewells(reason), count, "{reason}");
    }
    assert_eq!(whole(scrape.value("howdah_clients", &[])), 0);
    assert_eq!(whole(scrape.value("howdah_clients_logging_in", &[])), 0);
}

#[test]
fn names_of_any_kind_are_escaped() {
    let Some((_cluster, howdah)) = one_server() else {
        return;
    };
    let name = "a\"b\\c\nd{e=\"f\"}";
    Wire::login_with(howdah.target(), &[("user", name), ("database", "app")], None)
        .err()
        .expect("PostgreSQL does not know this user");
    let scrape = Scrape::of(&howdah);
    let failed = scrape.value("howdah_pool_connects_failed_total", &[("user", name)]);
    assert!(whole(failed) >= 1);
}

/// `howdah health` of a path: its exit status.
fn health(port: u16, path: &str) -> Option<i32> {
    let mut command = howdah();
    let url = format!("http://127.0.0.1:{port}{path}");
    run::output(command.args(["health", "--url", &url]), SOON)
        .status
        .code()
}

#[test]
fn it_is_ready_when_the_pools_are_filled_and_not_while_it_drains() {
    let mut cluster = Cluster::start();
    cluster.stop(Signal::QUIT);
    let forced = format!("{} user=app min_pool_size=2", cluster.location("app"));
    let config = Howdah::before(&cluster)
        .database("app", &forced)
        .set("server_login_retry", "500ms");
    let mut howdah = with_metrics(config).start();
    if !howdah.is_howdah() {
        return;
    }
    let port = metrics_port(&howdah);
    let mut answer = get(port, "/readyz");
    eventually("the reason is known", SOON, || {
        answer = get(port, "/readyz");
        answer.body.contains("connect").then_some(())
    });
    assert_eq!(answer.status, 503, "{answer:?}");
    assert!(answer.body.contains("0 of 2 servers"), "{answer:?}");
    assert_eq!(get(port, "/healthz").status, 200);
    assert_eq!(
        [health(port, "/healthz"), health(port, "/readyz")],
        [Some(0), Some(1)]
    );
    cluster.launch();
    wait_until("it is ready", || get(port, "/readyz").status == 200);
    assert_eq!(cluster.backends("true"), 2);
    assert_eq!(
        [health(port, "/readyz"), health(port, "/nonsense")],
        [Some(0), Some(1)]
    );

    let mut busy = Wire::app(howdah.target());
    busy.query("BEGIN");
    howdah.signal(Signal::TERM);
    wait_until("it is not ready any more", || get(port, "/readyz").status == 503);
    assert_eq!(get(port, "/readyz").body, "shutting down\n");
    assert_eq!(get(port, "/healthz").status, 200);
    assert_eq!(whole(Scrape::of(&howdah).value("howdah_draining", &[])), 1);
    busy.query("COMMIT");
    assert!(howdah.wait_exit(SOON).success());
    assert_eq!(health(port, "/healthz"), Some(1), "nobody is there");
}

/// Debian's `prometheus-pgbouncer-exporter` on the console, as the user `watcher`; and its port.
fn start_exporter(howdah: &Howdah) -> (Daemon, u16) {
    const PROGRAM: &str = "prometheus-pgbouncer-exporter";
    let port = free_port();
    let mut command = Command::new(PROGRAM);
    quiet(&mut command);
    command
        .args(["--host", "127.0.0.1", "--port", &port.to_string()])
        .args(["--pgbouncer-host", "127.0.0.1", "--pgbouncer-user", "watcher"])
        .args(["--pgbouncer-port", &howdah.target().port.to_string()])
        .env("PGPASSWORD", "two")
        .env("PGSSLMODE", "disable");
    let there = Command::new(PROGRAM).arg("--version").output();
    assert!(there.is_ok(), "no {PROGRAM}: run scripts/setup exporter");
    (Daemon::listening(&mut command, Target { port }), port)
}

#[test]
fn debians_exporter_works_on_the_console() {
    let cluster = Cluster::start();
    let howdah = Howdah::before(&cluster)
        .set("auth_type", "scram-sha-256")
        .set("default_pool_size", 1)
        .set("reserve_pool_size", 3)
        .set("stats_users", "watcher")
        .user("app", "one")
        .user("watcher", "two")
        .start();
    if !howdah.is_howdah() {
        return;
    }
    let login = || {
        let params = [("user", "app"), ("database", "app")];
        Wire::login_with(howdah.target(), &params, Some("one")).expect("the password is right")
    };
    let (mut holder, mut second) = (login(), login());
    for n in 0..10 {
        holder.value(&format!("SELECT {n}"));
    }
    holder.query("BEGIN");
    second.send(&msg::query("SELECT 1"));

    let (exporter, port) = start_exporter(&howdah);
    let scrape = || {
        let answer = get(port, "/metrics");
        assert_eq!(answer.status, 200, "{}\n{}", answer.body, exporter.said());
        Scrape::parse(&answer.body)
    };
    let app = [("database", "app")];
    wait_until("it sees the one that waits", || {
        whole(scrape().value("pgbouncer_waiting_clients", &app)) == 1
    });
    let seen = scrape();
    for (name, value) in [
        ("pgbouncer_active_clients", 1),
        ("pgbouncer_requests_total", 10),
        ("pgbouncer_pool_size", 1),
        ("pgbouncer_reserve_pool", 3),
    ] {
        assert_eq!(whole(seen.value(name, &app)), value, "{name}");
    }
    assert!(seen.value("pgbouncer_received_bytes_total", &app) >= 140.0);
    assert!(seen.value("pgbouncer_sent_bytes_total", &app) > 500.0);
    assert!(seen.value("pgbouncer_query_microseconds_total", &app) > 0.0);
    for (name, value) in [
        ("pgbouncer_used_clients", 2),
        ("pgbouncer_used_servers", 1),
        ("pgbouncer_pools", 1),
    ] {
        assert_eq!(whole(seen.value(name, &[])), value, "{name}");
    }
    holder.query("COMMIT");
    second.answer();
    wait_until("it sees what came after", || {
        let seen = scrape();
        whole(seen.value("pgbouncer_requests_total", &app)) == 13
            && whole(seen.value("pgbouncer_waiting_clients", &app)) == 0
    });
}

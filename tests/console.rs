//! The console's tables: who may see them, in which form, and whether they tell the truth.

mod common;

use std::collections::BTreeSet;
use std::path::Path;
use std::thread;
use std::time::Duration;

use common::console::{Console, get, metrics_port, number, numbers};
use common::net::{eventually, free_port, wait_until};
use common::{Cluster, Howdah, Target, Wire, login, msg, run};

const SOON: Duration = Duration::from_secs(10);

/// `SHOW` and its columns, as `PgBouncer` 1.25 has them.
const TABLES: [(&str, &str); 20] = [
    ("ACTIVE_SOCKETS", SOCKETS),
    ("CLIENTS", CLIENTS),
    ("CONFIG", "key|value|default|changeable"),
    (
        "DATABASES",
        "name|host|port|database|force_user|pool_size|min_pool_size|reserve_pool_size|server_lifetime|pool_mode|\
         load_balance_hosts|max_connections|current_connections|max_client_connections|current_client_connections|\
         paused|disabled|reserve_pool|awaiting_login",
    ),
    ("DNS_HOSTS", "hostname|ttl|addrs"),
    ("DNS_ZONES", "zonename|serial|count"),
    ("LISTS", "list|items"),
    ("MEM", "name|size|used|free|memtotal"),
    (
        "PEER_POOLS",
        "peer_id|cl_active_cancel_req|cl_waiting_cancel_req|sv_active_cancel|sv_login",
    ),
    ("PEERS", "peer_id|host|port|pool_size"),
    (
        "POOLS",
        "database|user|cl_active|cl_waiting|cl_active_cancel_req|cl_waiting_cancel_req|sv_active|sv_active_cancel|\
         sv_being_canceled|sv_idle|sv_used|sv_tested|sv_login|maxwait|maxwait_us|pool_mode|load_balance_hosts|\
         credentials",
    ),
    ("SERVERS", CONNECTIONS),
    ("SOCKETS", SOCKETS),
    ("STATE", "key|value"),
    (
        "STATS",
        "database|total_server_assignment_count|total_xact_count|total_query_count|total_received|total_sent|\
         total_xact_time|total_query_time|total_wait_time|total_client_parse_count|total_server_parse_count|\
         total_bind_count|avg_server_assignment_count|avg_xact_count|avg_query_count|avg_recv|avg_sent|\
         avg_xact_time|avg_query_time|avg_wait_time|avg_client_parse_count|avg_server_parse_count|avg_bind_count|\
         total_requests",
    ),
    (
        "STATS_AVERAGES",
        "database|server_assignment_count|xact_count|query_count|bytes_received|bytes_sent|xact_time|query_time|\
         wait_time|avg_client_parse_count|avg_server_parse_count|avg_bind_count",
    ),
    (
        "STATS_TOTALS",
        "database|server_assignment_count|xact_count|query_count|bytes_received|bytes_sent|xact_time|query_time|\
         wait_time|client_parse_count|server_parse_count|bind_count",
    ),
    ("TOTALS", "name|value"),
    (
        "USERS",
        "name|pool_size|reserve_pool_size|pool_mode|max_user_connections|current_connections|\
         max_user_client_connections|current_client_connections",
    ),
    ("VERSION", "version"),
];
const CONNECTIONS: &str = "type|user|database|replication|state|addr|port|local_addr|local_port|connect_time|request_time|\
                           wait|wait_us|close_needed|ptr|link|remote_pid|tls|application_name|prepared_statements|id";
const CLIENTS: &str = "type|user|database|replication|state|addr|port|local_addr|local_port|connect_time|request_time|\
                           wait|wait_us|close_needed|ptr|link|remote_pid|tls|application_name|prepared_statements|id|pin|pin_statement|pin_age";
const SOCKETS: &str = "type|user|database|replication|state|addr|port|local_addr|local_port|connect_time|request_time|\
                       wait|wait_us|close_needed|ptr|link|remote_pid|tls|application_name|prepared_statements|id|\
                       recv_pos|pkt_pos|pkt_remain|send_pos|send_remain|pkt_avail|send_avail";

fn one_server() -> Option<(Cluster, Howdah)> {
    let cluster = Cluster::start();
    let howdah = Howdah::with_pool(&cluster, 1);
    howdah.is_howdah().then_some((cluster, howdah))
}

#[test]
fn both_names_open_it_to_those_who_may_and_only_admins_change_anything() {
    let cluster = Cluster::start();
    let howdah = Howdah::before(&cluster).set("stats_users", "watcher").start();
    if !howdah.is_howdah() {
        return;
    }
    let target = howdah.target();
    Wire::app(target).value("SELECT 1");
    for database in ["pgbouncer", "howdah"] {
        let refused = Wire::login_with(target, &[("user", "app"), ("database", database)], None).err();
        assert_eq!(refused.as_ref().map(login::LoginError::code), Some("42501"));
        let mut admin = Console(Wire::login(target, "postgres", database));
        admin.does("RECONNECT");
        let mut watcher = Console(Wire::login(target, "watcher", database));
        watcher.show("POOLS").row(&[("database", "app")]);
        for command in [
            "RELOAD",
            "SET default_pool_size = 1",
            "PAUSE",
            "PAUSE app",
            "RESUME",
            "DISABLE app",
            "ENABLE app",
            "RECONNECT",
            "KILL",
            "KILL app",
            "KILL_CLIENT 1",
            "WAIT_CLOSE",
            "SHUTDOWN",
            "SHUTDOWN WAIT_FOR_CLIENTS",
        ] {
            assert_eq!(watcher.refuses(command).code(), "42501", "{command}");
        }
        // What it was refused has not happened.
        assert_eq!(watcher.show("STATE").row(&[("key", "active")])["value"], "yes");
        assert_eq!(Wire::app(target).value("SELECT 2"), "2");
        for (command, code) in [
            ("SHOW NONSENSE", "42704"),
            ("SELECT 2", "42601"),
            ("DROP TABLE pools", "42601"),
            ("PAUSE pgbouncer", "55000"),
            ("KILL_CLIENT 1000000", "42704"),
            ("SET no_such_setting = 1", "22023"),
            ("SET default_pool_size = many", "22023"),
            ("RESUME", "55000"),
            ("SUSPEND", "0A000"),
            ("SHOW FDS", "0A000"),
        ] {
            let error = admin.refuses(command);
            assert_eq!(error.code(), code, "{command} at {database}: {error:?}");
        }
        admin.show("VERSION");
    }
}

#[test]
fn psql_sees_the_columns_of_pgbouncer() {
    let Some((_cluster, howdah)) = one_server() else {
        return;
    };
    Wire::app(howdah.target()).value("SELECT 1");
    for (table, columns) in TABLES {
        let mut psql = run::client("psql", howdah.target(), "postgres", "pgbouncer");
        let command = format!("show {};", table.to_lowercase());
        let said = run::succeed(psql.args(["-XA", "-P", "footer=off", "-c", &command]), SOON);
        assert_eq!(said.lines().next(), Some(columns), "{table}");
    }
    let help = run::psql(howdah.target(), "postgres", "howdah", "SHOW HELP");
    assert!(
        String::from_utf8_lossy(&help.stderr).contains("KILL_CLIENT"),
        "{help:?}"
    );
}

#[test]
fn the_extended_protocol_shows_the_same() {
    let Some((_cluster, howdah)) = one_server() else {
        return;
    };
    let mut client = Wire::app(howdah.target());
    client.value("SELECT 1");
    let mut console = Console::open(howdah.target());
    for (name, columns) in TABLES {
        let (simple, extended) = (console.show(name), console.show_extended(name));
        assert_eq!(extended.columns.join("|"), columns);
        assert_eq!(extended.columns, simple.columns);
        assert_eq!(extended.rows.len(), simple.rows.len(), "{name}");
    }
    // A statement with a name, described before it is run, and run twice.
    let wire = &mut console.0;
    let prepared = wire.batch(&[msg::parse("v", "SHOW VERSION"), msg::describe_statement("v")]);
    assert_eq!(prepared, "1tTZ");
    assert_eq!(wire.batch(&[msg::run("v", &[]), msg::run("v", &[])]), "2TDC2TDCZ");
    // After an error all is skipped up to Sync, and then all is well.
    let failed = [
        msg::extended("SHOW NONSENSE", &[]),
        msg::extended("SHOW VERSION", &[]),
    ];
    assert_eq!(wire.batch(&failed), "EZ");
    assert_eq!(wire.batch(&[msg::run("v", &[])]), "2TDCZ");
}

#[test]
fn tokio_postgres_reads_the_tables() {
    let Some((_cluster, howdah)) = one_server() else {
        return;
    };
    let mut client = Wire::app(howdah.target());
    client.value("SELECT 1");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let uri = format!(
        "host=127.0.0.1 port={} user=postgres dbname=pgbouncer connect_timeout=10",
        howdah.target().port
    );
    runtime.block_on(async {
        let (client, connection) = tokio_postgres::connect(&uri, tokio_postgres::NoTls)
            .await
            .expect("the console lets it in");
        let driver = tokio::spawn(connection);
        let rows = client.query("SHOW POOLS", &[]).await.expect("a table");
        let row = rows.iter().find(|row| row.get::<_, &str>("database") == "app");
        let row = row.expect("the pool of app");
        assert_eq!(row.get::<_, i32>("cl_active"), 1, "binary numbers");
        assert_eq!(row.get::<_, i32>("sv_idle"), 1);
        let statement = client.prepare("SHOW LISTS").await.expect("prepared");
        for _ in 0..2 {
            let rows = client.query(&statement, &[]).await.expect("a table");
            assert!(rows.iter().any(|row| row.get::<_, &str>(0) == "pools"));
        }
        let messages = client
            .simple_query("SHOW STATE; SHOW VERSION")
            .await
            .expect("tables");
        assert!(messages.len() > 4, "{messages:?}");
        let refused = client
            .query("SHOW NONSENSE", &[])
            .await
            .expect_err("no such table");
        assert_eq!(
            refused.code(),
            Some(&tokio_postgres::error::SqlState::UNDEFINED_OBJECT)
        );
        drop(client);
        driver.await.expect("it ends").expect("in good order");
    });
}

/// Netdata takes the first number of three for the version, and nothing up to 1.8.0; others want the name before it.
#[test]
fn exporters_find_a_version_that_they_take() {
    let Some((_cluster, howdah)) = one_server() else {
        return;
    };
    let version = Console::open(howdah.target()).show("VERSION").rows[0]["version"].clone();
    let numbers = version.split(|char: char| !(char.is_ascii_digit() || char == '.'));
    let first = numbers.into_iter().find(|word| word.split('.').count() == 3);
    assert_eq!(first, Some("1.25.0"), "{version}");
    assert!(version.starts_with("PgBouncer 1.25.0 "), "{version}");
    assert!(
        version.contains(concat!("howdah ", env!("CARGO_PKG_VERSION"))),
        "{version}"
    );
}

#[test]
fn pools_clients_and_servers_are_shown_as_they_are() {
    let Some((cluster, howdah)) = one_server() else {
        return;
    };
    let params = [
        ("user", "app"),
        ("database", "app"),
        ("application_name", "the holder"),
    ];
    let mut holder = Wire::login_with(howdah.target(), &params, None).expect("it is let in");
    holder.query("BEGIN");
    let pid = holder.value("SELECT pg_backend_pid()");
    let mut second = Wire::app(howdah.target());
    second.send(&msg::query("BEGIN"));
    let mut console = Console::open(howdah.target());
    console.wait_for_waiting(1);
    let state = ["cl_active", "cl_waiting", "sv_active", "sv_idle", "sv_login"];
    let before = console.pool("app", "app");
    assert_eq!(numbers(&before, state), [1, 1, 1, 0, 0], "{before:?}");
    assert_eq!(before["pool_mode"], "transaction");
    let micros = |row| number(row, "maxwait") * 1_000_000 + number(row, "maxwait_us");
    thread::sleep(Duration::from_millis(1200));
    let after = console.pool("app", "app");
    assert!(
        micros(&after) >= micros(&before) + 1_200_000,
        "{before:?} and then {after:?}"
    );
    assert!(number(&after, "maxwait") >= 1, "{after:?}");

    let (clients, servers) = (console.show("CLIENTS"), console.show("SERVERS"));
    let active = clients.row(&[("application_name", "the holder")]);
    let waiting = clients.row(&[("state", "waiting")]);
    let server = servers.row(&[("database", "app")]);
    assert_eq!(active["state"], "active");
    assert!(
        number(waiting, "wait") >= 1 && number(active, "wait") == 0,
        "{:?}",
        clients.rows
    );
    assert_eq!(server["remote_pid"], pid);
    assert_eq!(
        (&active["link"], &server["link"]),
        (&server["ptr"], &active["ptr"])
    );
    assert_eq!(server["port"], cluster.target().port.to_string());
    assert_eq!(waiting["link"], "");
    assert_eq!(console.show("SOCKETS").rows.len(), 3);
    assert_eq!(console.show("ACTIVE_SOCKETS").rows.len(), 2);

    two_clients_and_one_server_are_counted(&mut console);

    holder.query("COMMIT");
    assert_eq!(second.answer().status, 'T');
    let row = console.pool("app", "app");
    assert_eq!(numbers(&row, state), [2, 0, 1, 0, 0], "{row:?}");
    assert_eq!(micros(&row), 0);
    second.query("COMMIT");
    holder.terminate();
    second.terminate();
    console.wait_for_nobody();
    eventually("the server is idle", SOON, || {
        (numbers(&console.pool("app", "app"), state) == [0, 0, 0, 1, 0]).then_some(())
    });
}

fn two_clients_and_one_server_are_counted(console: &mut Console) {
    let database = console.show("DATABASES").row(&[("name", "app")]).clone();
    let shown = ["pool_size", "current_connections", "current_client_connections"];
    assert_eq!(numbers(&database, shown), [1, 1, 2]);
    let user = console.show("USERS").row(&[("name", "app")]).clone();
    assert_eq!(
        numbers(&user, ["current_connections", "current_client_connections"]),
        [1, 2]
    );
    let lists = console.show("LISTS");
    for (list, items) in [("used_clients", 2), ("used_servers", 1), ("pools", 1)] {
        assert_eq!(number(lists.row(&[("list", list)]), "items"), items, "{list}");
    }
}

#[test]
fn transactions_queries_and_bytes_are_counted_to_the_last_one() {
    let Some((_cluster, howdah)) = one_server() else {
        return;
    };
    let mut wire = Wire::app(howdah.target());
    let (mut said, mut heard) = (0, 0);
    let mut turn = |wire: &mut Wire, message: Vec<u8>| {
        said += message.len();
        wire.send(&message);
        heard += wire
            .until_ready()
            .iter()
            .map(|frame| frame.body.len() + 5)
            .sum::<usize>();
    };
    for n in 0..10 {
        for sql in ["BEGIN", &format!("SELECT {n}, repeat('x', 1000)"), "COMMIT"] {
            turn(&mut wire, msg::query(sql));
        }
    }
    let batch = [
        msg::parse("s", "SELECT 1"),
        msg::run("s", &[]),
        msg::run("s", &[]),
        msg::sync(),
    ];
    turn(&mut wire, batch.concat());
    let mut console = Console::open(howdah.target());
    let shown = ["total_xact_count", "total_query_count"];
    eventually("they are counted", SOON, || {
        (numbers(&console.stats("app"), shown) == [11, 31]).then_some(())
    });
    said += msg::terminate().len();
    wire.terminate();
    console.wait_for_nobody();
    // One more than transactions: the first login to a pool takes a server to learn its parameters.
    let wanted = [11, 31, said, heard, 12, 1, 1, 2].map(|count| count as u64);
    let columns = [
        "total_xact_count",
        "total_query_count",
        "total_received",
        "total_sent",
        "total_server_assignment_count",
        "total_client_parse_count",
        "total_server_parse_count",
        "total_bind_count",
    ];
    wait_until("all of it has arrived", || {
        numbers(&console.stats("app"), ["total_received"]) == [said as u64]
    });
    let row = console.stats("app");
    assert_eq!(numbers(&row, columns), wanted, "{row:?}");
    assert_eq!(number(&row, "total_requests"), 31);
    assert!(
        number(&row, "total_xact_time") >= number(&row, "total_query_time"),
        "{row:?}"
    );
    assert!(number(&row, "total_query_time") > 0, "{row:?}");
    other_tables_tell_the_same(&mut console, &wanted[..5]);
}

fn other_tables_tell_the_same(console: &mut Console, wanted: &[u64]) {
    let totals = console.show("STATS_TOTALS").row(&[("database", "app")]).clone();
    let same = [
        "xact_count",
        "query_count",
        "bytes_received",
        "bytes_sent",
        "server_assignment_count",
    ];
    assert_eq!(numbers(&totals, same), wanted);
    let all = console.show("TOTALS");
    for (name, count) in [("total_xact_count", 11), ("total_query_count", 31)] {
        assert_eq!(number(all.row(&[("name", name)]), "value"), count, "{name}");
    }
}

#[test]
fn waiting_is_counted_and_averages_follow() {
    let cluster = Cluster::start();
    let howdah = Howdah::before(&cluster)
        .set("default_pool_size", 1)
        .set("stats_period", "1s")
        .start();
    if !howdah.is_howdah() {
        return;
    }
    let mut holder = Wire::app(howdah.target());
    holder.query("BEGIN");
    let mut second = Wire::app(howdah.target());
    second.send(&msg::query("SELECT 1"));
    let mut console = Console::open(howdah.target());
    console.wait_for_waiting(1);
    thread::sleep(Duration::from_millis(500));
    holder.query("COMMIT");
    second.answer();
    let waited = number(&console.stats("app"), "total_wait_time");
    assert!((500_000..20_000_000).contains(&waited), "{waited} µs");
    eventually("averages are seen", SOON, || {
        for _ in 0..20 {
            second.value("SELECT 1");
        }
        let row = console.show("STATS_AVERAGES").row(&[("database", "app")]).clone();
        let shown = ["xact_count", "query_count", "bytes_received", "query_time"];
        numbers(&row, shown).iter().all(|value| *value > 0).then_some(())
    });
}

#[test]
fn show_config_has_every_setting_of_the_documentation() {
    let Some((_cluster, howdah)) = one_server() else {
        return;
    };
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/settings.md");
    let docs = std::fs::read_to_string(docs).expect("the documentation");
    let documented: BTreeSet<String> = docs
        .lines()
        .filter_map(|line| line.strip_prefix("### "))
        .map(str::to_owned)
        .collect();
    let mut console = Console::open(howdah.target());
    let table = console.show("CONFIG");
    let shown: BTreeSet<String> = table.rows.iter().map(|row| row["key"].clone()).collect();
    assert_eq!(shown, documented);
    assert_eq!(table.row(&[("key", "default_pool_size")])["value"], "1");
    assert_eq!(
        table.row(&[("key", "listen_port")])["value"],
        howdah.target().port.to_string()
    );
    for row in &table.rows {
        let text = docs
            .split_once(&format!("### {}\n", row["key"]))
            .expect("it is documented")
            .1;
        let restart = text
            .lines()
            .find(|line| !line.is_empty())
            .is_some_and(|line| line.contains("*restart*"));
        assert_eq!(
            row["changeable"],
            if restart { "no" } else { "yes" },
            "{}",
            row["key"]
        );
    }
}

/// In every password of [`no_secret_is_shown_anywhere`].
const MARK: &str = "Xyzzy";

fn try_login(target: Target, user: &str, database: &str, password: &str) -> Result<Wire, login::LoginError> {
    Wire::login_with(target, &[("user", user), ("database", database)], Some(password))
}

#[test]
fn no_secret_is_shown_anywhere() {
    let cluster = Cluster::start();
    let hidden = |name: &str| format!("{MARK}-{name}");
    cluster.sql(&format!("ALTER ROLE scram_u PASSWORD '{}'", hidden("server")));
    let dir = tempfile::tempdir().expect("a directory");
    let list = dir.path().join("userlist.txt");
    std::fs::write(&list, format!("\"listed\" \"{}\"\n", hidden("listed"))).expect("a file of ours");
    let forced = |password: &str| format!("{} user=scram_u password={password}", cluster.location("app"));
    let mut howdah = Howdah::before(&cluster)
        .set("auth_type", "scram-sha-256")
        .set("auth_file", list.to_str().expect("a plain path"))
        .set("log_level", "debug")
        .set("metrics_addr", format!("127.0.0.1:{}", free_port()))
        .database("app", &forced(&hidden("server")))
        .database("wrong", &forced(&hidden("wrong")))
        .user("app", &hidden("app"))
        .user("postgres", &hidden("admin"))
        .start();
    if !howdah.is_howdah() {
        return;
    }
    let target = howdah.target();
    let mut told = Vec::new();
    for (user, password) in [("app", hidden("app")), ("listed", hidden("listed"))] {
        let mut wire = try_login(target, user, "app", &password).expect("the password is right");
        assert_eq!(wire.value("SELECT current_user"), "scram_u");
        told.append(&mut wire.transcript);
    }
    // What fails is told at length.
    for (user, database, password) in [
        ("app", "app", "nonsense"),
        ("app", "wrong", &hidden("app")),
        ("nobody", "app", &hidden("nobody")),
    ] {
        let refused = try_login(target, user, database, password).err();
        told.push(refused.expect("it is not let in").to_string());
    }
    let mut console =
        Console(try_login(target, "postgres", "pgbouncer", &hidden("admin")).expect("the administrator"));
    for faulty in [
        format!("[databases]\napp = \"host=x pasword={MARK} port=abc\"\n"),
        format!("[databases]\napp = \"postgres://u:{MARK}@host:port/db\"\n"),
        format!("[users]\nbob = \"{MARK}\n"),
        format!("[users.bob]\npasword = \"{MARK}\"\n"),
        format!("[users.bob]\npassword = \"SCRAM-SHA-256${MARK}\"\n"),
    ] {
        howdah.write(&faulty);
        told.push(format!("{:?}", console.refuses("RELOAD").0));
    }
    for (table, _) in TABLES {
        console.show(table);
    }
    told.append(&mut console.0.transcript);
    let pages = ["/", "/metrics", "/readyz"];
    told.extend(pages.map(|path| get(metrics_port(&howdah), path).body));
    told.push(howdah.log());
    let told = told.join("\n");
    let at = told.find(MARK);
    assert!(
        at.is_none(),
        "a secret in {:?}",
        at.map(|at| told[at.saturating_sub(300)..]
            .chars()
            .take(400)
            .collect::<String>())
    );
    assert!(
        told.contains("scram_u") && told.contains("howdah_pool_queries_total"),
        "{told}"
    );
}

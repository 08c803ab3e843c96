//! SCRAM pass-through: no password on the pooler, keys from the proofs of clients.

mod common;

use common::cluster::password_of;
use common::console::{Console, Record, get, metrics_port, number};
use common::net::{free_port, wait_until};
use common::{Cluster, Howdah, Wire, login, msg};

const USER: &str = "scram_u";

fn verifier(cluster: &Cluster) -> String {
    cluster.value(&format!(
        "SELECT rolpassword FROM pg_authid WHERE rolname = '{USER}'"
    ))
}

fn try_login(howdah: &Howdah, password: &str) -> Result<Wire, login::LoginError> {
    Wire::login_with(
        howdah.target(),
        &[("user", USER), ("database", "app")],
        Some(password),
    )
}

/// A pooler that knows nothing but PostgreSQL's own verifier, and is to keep two servers warm.
fn with_verifier(cluster: &Cluster) -> Option<Howdah> {
    let howdah = Howdah::before(cluster)
        .set("auth_type", "scram-sha-256")
        .set("metrics_addr", format!("127.0.0.1:{}", free_port()))
        .set("server_login_retry", "1s")
        .database("app", &cluster.location("app"))
        .user("postgres", "the console's")
        .user(USER, &verifier(cluster))
        .user_set(USER, "min_pool_size", 2)
        .start();
    howdah.is_howdah().then_some(howdah)
}

fn console(howdah: &Howdah) -> Console {
    let params = [("user", "postgres"), ("database", "howdah")];
    Console(Wire::login_with(howdah.target(), &params, Some("the console's")).expect("the console"))
}

fn wait_for(console: &mut Console, credentials: &str) {
    wait_until(&format!("credentials are {credentials}"), || {
        let pools = console.show("POOLS");
        pools
            .rows
            .iter()
            .any(|row| row["user"] == USER && row["credentials"] == credentials)
    });
}

fn servers(cluster: &Cluster, count: usize) {
    wait_until(&format!("{count} servers"), || {
        cluster.backends(&format!("usename = '{USER}'")) == count
    });
}

/// Ends all servers of the user, and waits until howdah knows it.
fn terminate_all(cluster: &Cluster, console: &mut Console) {
    let gone = cluster.backend_pids(&format!("usename = '{USER}'"));
    for pid in &gone {
        cluster.sql(&format!("SELECT pg_terminate_backend({pid})"));
    }
    wait_until("the servers are given up", || {
        let servers = console.show("SERVERS");
        let is_gone = |row: &Record| !gone.iter().any(|pid| row["remote_pid"] == pid.to_string());
        servers.rows.iter().all(is_gone)
    });
}

fn awaiting(console: &mut Console) -> u64 {
    number(
        console.show("DATABASES").row(&[("name", "app")]),
        "awaiting_login",
    )
}

#[test]
fn a_pool_says_that_it_awaits_a_login_and_is_filled_by_the_first() {
    let cluster = Cluster::start();
    let Some(howdah) = with_verifier(&cluster) else {
        return;
    };
    let mut console = console(&howdah);
    wait_for(&mut console, "awaited");
    assert_eq!(awaiting(&mut console), 1);
    let metric = format!("howdah_pool_awaiting_login{{database=\"app\",user=\"{USER}\"}}");
    let page = get(metrics_port(&howdah), "/metrics").body;
    assert!(page.contains(&format!("{metric} 1")), "{page}");
    assert_eq!(
        get(metrics_port(&howdah), "/readyz").status,
        200,
        "it must not wait for clients that wait for it"
    );
    let attempts = |console: &mut Console| console.show("POOLS").rows.len();
    assert_eq!(attempts(&mut console), 2);

    let refused = try_login(&howdah, "wrong").err().expect("a refusal");
    assert_eq!(refused.code(), "28P01");
    assert_eq!(awaiting(&mut console), 1, "a wrong password teaches nothing");

    let mut wire = try_login(&howdah, &password_of(USER)).expect("the right password");
    servers(&cluster, 2);
    assert_eq!(wire.value("SELECT current_user"), USER);
    wait_for(&mut console, "learned");
    assert_eq!(awaiting(&mut console), 0);
    let page = get(metrics_port(&howdah), "/metrics").body;
    assert!(page.contains(&format!("{metric} 0")), "{page}");
}

#[test]
fn keys_outlive_servers_and_reloads() {
    let cluster = Cluster::start();
    let Some(mut howdah) = with_verifier(&cluster) else {
        return;
    };
    let mut wire = try_login(&howdah, &password_of(USER)).expect("the right password");
    servers(&cluster, 2);
    howdah.reload(|config| config.set("max_client_conn", 77));
    howdah.wait_log("configuration reloaded");
    terminate_all(&cluster, &mut console(&howdah));
    servers(&cluster, 2);
    assert_eq!(wire.value("SELECT current_user"), USER);
}

#[test]
fn a_changed_password_replaces_the_keys() {
    let cluster = Cluster::start();
    let Some(mut howdah) = with_verifier(&cluster) else {
        return;
    };
    let mut old = try_login(&howdah, &password_of(USER)).expect("the right password");
    servers(&cluster, 2);
    let mut console = console(&howdah);
    cluster.sql(&format!("ALTER ROLE {USER} PASSWORD 'a new one'"));
    terminate_all(&cluster, &mut console);
    wait_for(&mut console, "awaited");
    // Clients that are there are told what is wrong, and soon.
    old.send(&msg::query("SELECT 1"));
    let fatal = old.try_answer().expect_err("no server can be had");
    assert_eq!(fatal.expect("a reason").code(), "28P01");

    let changed = verifier(&cluster);
    howdah.reload(|config| config.user(USER, &changed));
    howdah.wait_log("configuration reloaded");
    assert_eq!(
        try_login(&howdah, &password_of(USER))
            .err()
            .expect("a refusal")
            .code(),
        "28P01"
    );
    let mut wire = try_login(&howdah, "a new one").expect("the new password");
    assert_eq!(wire.value("SELECT current_user"), USER);
    servers(&cluster, 2);
    wait_for(&mut console, "learned");
}

#[test]
fn servers_that_ask_for_nothing_are_connected_to_before_any_login() {
    let cluster = Cluster::options()
        .hba(&format!("host all {USER} 127.0.0.1/32 trust"))
        .start();
    let Some(howdah) = with_verifier(&cluster) else {
        return;
    };
    servers(&cluster, 2);
    let mut console = console(&howdah);
    wait_for(&mut console, "none");
    assert_eq!(awaiting(&mut console), 0);
}

#[test]
fn keys_and_verifiers_are_shown_nowhere() {
    let cluster = Cluster::start();
    let Some(howdah) = with_verifier(&cluster) else {
        return;
    };
    try_login(&howdah, &password_of(USER)).expect("the right password");
    servers(&cluster, 2);
    let secrets: Vec<String> = verifier(&cluster)
        .split([':', '$'])
        .skip(2)
        .map(str::to_owned)
        .collect();
    assert_eq!(secrets.len(), 3, "salt, StoredKey, ServerKey");
    let mut console = console(&howdah);
    let mut shown = howdah.log() + &get(metrics_port(&howdah), "/metrics").body;
    for table in [
        "POOLS",
        "DATABASES",
        "USERS",
        "CONFIG",
        "SERVERS",
        "CLIENTS",
        "LISTS",
    ] {
        for row in console.show(table).rows {
            shown += &row.into_values().collect::<Vec<_>>().join("|");
        }
    }
    for secret in secrets {
        assert!(!shown.contains(&secret), "{secret} in {shown}");
    }
    assert!(!shown.contains(&password_of(USER)));
}

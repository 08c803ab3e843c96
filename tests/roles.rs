//! Roles that a client has not taken by SET ROLE: it has asked for them when it logged in, or its sessions begin with them.

mod common;

use common::console::Console;
use common::net::{Target, wait_until};
use common::{Cluster, Howdah, Pair, Wire, msg};

/// The answers to these queries of somebody who logs in with these parameters.
fn told(target: Target, login: &[(&str, &str)], queries: &[&str], mut between: impl FnMut()) -> Vec<String> {
    let login = [login, &[("database", "app")]].concat();
    let mut wire = match Wire::login_with(target, &login, None) {
        Ok(wire) => wire,
        Err(error) => return vec![error.to_string()],
    };
    let mut answers = Vec::new();
    for query in queries {
        between();
        let simple = wire.query(query);
        answers.push(format!(
            "{query}: {simple:?} {:?}",
            wire.params["session_authorization"]
        ));
    }
    answers
}

/// Directly, alone, and while another client takes the server each time.
fn alike(pair: &Pair, login: &[(&str, &str)], queries: &[&str]) {
    let direct = told(pair.cluster.target(), login, queries, || {});
    let alone = told(pair.howdah.target(), login, queries, || {});
    assert_eq!(alone, direct, "{login:?} alone");
    let mut other = Wire::login(pair.howdah.target(), login[0].1, "app");
    let among = told(pair.howdah.target(), login, queries, || {
        other.query("SELECT current_user");
        other.query("ROLLBACK");
        other.query("BEGIN");
    });
    assert_eq!(among, direct, "{login:?} among others");
}

fn pair_with_roles() -> Pair {
    let cluster = Cluster::start();
    cluster.sql("CREATE ROLE reader; CREATE ROLE writer; GRANT reader, writer TO app");
    let howdah = Howdah::with_pool(&cluster, 2);
    Pair::of(cluster, howdah, 2)
}

const WHO: &str =
    "SELECT current_user, session_user, current_setting('role'), current_setting('is_superuser')";

#[test]
fn who_has_asked_for_a_role_is_never_reset_to_more_than_that() {
    let pair = pair_with_roles();
    let mut queries = vec![WHO];
    for change in [
        "DISCARD ALL",
        "SET ROLE writer",
        "RESET ALL",
        "RESET ALL; RESET ROLE",
        "SET ROLE writer",
        "RESET ROLE; RESET ALL",
        "SET ROLE NONE",
        "DISCARD ALL",
        "SET ROLE NONE",
        "RESET SESSION AUTHORIZATION",
        "SET ROLE writer",
        "SET ROLE DEFAULT",
        "SET SESSION AUTHORIZATION app",
        "RESET ROLE",
        "BEGIN; RESET ALL; RESET ROLE; ROLLBACK",
        "SET ROLE writer",
        "RESET ROLE; SELECT 1/0",
        "SET app.x = 'y'; DISCARD ALL",
    ] {
        queries.extend([change, WHO]);
    }
    alike(&pair, &[("user", "app"), ("options", "-c role=reader")], &queries);
    alike(
        &pair,
        &[("user", "postgres"), ("options", "-c role=reader")],
        &queries,
    );
    alike(&pair, &[("user", "app"), ("role", "reader")], &queries);
    let session = pair.howdah.config.clone().set("pool_mode", "session").start();
    let direct = told(
        pair.cluster.target(),
        &[("user", "app"), ("role", "reader")],
        &queries,
        || {},
    );
    let alone = told(
        session.target(),
        &[("user", "app"), ("role", "reader")],
        &queries,
        || {},
    );
    assert_eq!(alone, direct, "in session mode");
    // In one unit with something that fails, DISCARD ALL is done.
    let mut wire = Wire::login_with(
        pair.howdah.target(),
        &[("user", "app"), ("database", "app"), ("role", "reader")],
        None,
    )
    .expect("logged in");
    let fails = [
        msg::extended("DISCARD ALL", &[]),
        msg::extended("SELECT 1/0", &[]),
    ];
    assert_eq!(wire.extended(&fails).code(), "22012");
    assert_eq!(wire.value("SELECT current_user"), "reader");
}

#[test]
fn a_role_does_not_keep_its_own_login_from_setting_the_rest() {
    let pair = pair_with_roles();
    let options = "-c role=reader -c log_statement=all -c log_min_duration_statement=5000";
    let queries = [
        WHO,
        "SHOW log_statement",
        "DISCARD ALL",
        "SHOW log_statement",
        "SHOW log_min_duration_statement",
        WHO,
    ];
    alike(&pair, &[("user", "postgres"), ("options", options)], &queries);
}

#[test]
fn a_session_authorization_in_a_startup_message_is_judged_and_has_no_effect() {
    let pair = pair_with_roles();
    let mut queries = vec![WHO];
    for change in [
        "DISCARD ALL",
        "SET SESSION AUTHORIZATION writer",
        "RESET ALL",
        "RESET SESSION AUTHORIZATION",
        "SET SESSION AUTHORIZATION writer",
        "DISCARD ALL",
    ] {
        queries.extend([change, WHO]);
    }
    for user in ["postgres", "app"] {
        for wish in [
            ("options", "-c session_authorization=reader"),
            ("options", "-c role=reader -c session_authorization=writer"),
            ("session_authorization", "app"),
            ("session_authorization", "nobody"),
        ] {
            alike(&pair, &[("user", user), wish], &queries);
        }
    }
}

#[test]
fn a_role_that_its_sessions_begin_with_is_not_lost_to_whoever_gives_it_up() {
    let pair = pair_with_roles();
    pair.cluster.sql("ALTER ROLE app SET role = 'reader'");
    let mut queries = vec![WHO];
    for change in [
        "SET ROLE NONE",
        "SET ROLE writer",
        "RESET ROLE",
        "SET ROLE NONE",
        "DISCARD ALL",
        "SET SESSION AUTHORIZATION app",
        "RESET SESSION AUTHORIZATION",
    ] {
        queries.extend([change, WHO]);
        let plain = told(pair.cluster.target(), &[("user", "app")], &[WHO], || {});
        alike(&pair, &[("user", "app")], &queries);
        assert_eq!(
            told(pair.howdah.target(), &[("user", "app")], &[WHO], || {}),
            plain,
            "after {change}"
        );
    }
    alike(&pair, &[("user", "app"), ("role", "none")], &queries);
    alike(&pair, &[("user", "app"), ("role", "writer")], &queries);
}

/// By functions that run as their owner, or under a role that may.
#[test]
fn a_setting_that_its_client_may_not_set_keeps_the_server_until_it_is_gone() {
    let pair = pair_with_roles();
    pair.cluster
        .sql("CREATE ROLE chief SUPERUSER; GRANT chief TO app");
    pair.cluster.sql_in(
        "app",
        "CREATE FUNCTION sets(name text, value text) RETURNS text LANGUAGE sql SECURITY DEFINER AS $$SELECT set_config(name, value, false)$$;
         CREATE FUNCTION resets() RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS $$BEGIN RESET log_min_duration_statement; END$$",
    );
    let look = "SELECT current_setting('log_min_duration_statement'), current_setting('log_statement'), current_setting('work_mem')";
    let mut queries = vec![look];
    for change in [
        "SELECT sets('log_min_duration_statement', '5000')",
        "SET work_mem = '5MB'",
        "SELECT sets('log_statement', 'ddl')",
        "RESET log_statement",
        "SELECT resets()",
        "BEGIN; SELECT sets('log_min_duration_statement', '6000'); ROLLBACK",
        "RESET ALL",
        "SELECT sets('log_min_duration_statement', '7000')",
        "DISCARD ALL",
        "SET ROLE chief; SET log_statement = 'all'; RESET ROLE",
        "SET work_mem = '6MB'",
        "RESET ALL",
        "DO $$BEGIN PERFORM sets('log_statement', 'mod'); END$$",
    ] {
        queries.extend([change, look]);
    }
    alike(&pair, &[("user", "app")], &queries);
    // What its client leaves with is nobody else's, and once it is gone the server is shared again.
    let howdah = Howdah::with_pool(&pair.cluster, 1);
    if !howdah.is_howdah() {
        return;
    }
    let mut wire = Wire::app(howdah.target());
    let pid = wire.value("SELECT pg_backend_pid()");
    wire.query("SELECT sets('log_min_duration_statement', '8000')");
    let mut console = Console::open(howdah.target());
    wait_until("it keeps its server", || {
        console.show("CLIENTS").row(&[("user", "app")])["pin"] == "setting"
    });
    wire.terminate();
    let mut next = Wire::app(howdah.target());
    assert_eq!(next.value("SHOW log_min_duration_statement"), "-1");
    assert_eq!(next.value("SELECT pg_backend_pid()"), pid);
    next.query("SELECT sets('log_min_duration_statement', '9000')");
    next.query("SELECT resets()");
    assert_eq!(Wire::app(howdah.target()).value("SELECT pg_backend_pid()"), pid);
}

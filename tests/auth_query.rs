//! Users whom howdah does not know are asked for on the server (`auth_query`).

mod common;

use std::thread;
use std::time::{Duration, Instant};

use common::cluster::password_of;
use common::console::{Console, get, metrics_port, number};
use common::howdah::Config;
use common::net::{free_port, wait_until};
use common::{Cluster, Howdah, Wire, login};
use rustix::process::Signal;

/// The role that asks; what is logged of it is what was asked.
const ASKER: &str = "asker";

/// A cluster with a role that may read secrets, and that logs what this role does. The server trusts everybody whose
/// name it does not know better; `second` has a verifier all the same.
fn cluster() -> Cluster {
    let cluster = Cluster::start();
    cluster.sql(&format!(
        "CREATE ROLE {ASKER} LOGIN; ALTER ROLE {ASKER} SET log_statement = 'all';
         GRANT SELECT ON pg_catalog.pg_authid TO {ASKER};
         CREATE ROLE second LOGIN PASSWORD 'of the second';
         CREATE TABLE secrets (name text, secret text); GRANT SELECT ON secrets TO {ASKER}"
    ));
    cluster.sql_in(
        "other",
        &format!("GRANT SELECT ON pg_catalog.pg_authid TO {ASKER}"),
    );
    cluster
}

/// A pooler that knows no user but the console's.
fn asking(cluster: &Cluster) -> Config {
    Howdah::before(cluster)
        .set("auth_type", "scram-sha-256")
        .set("auth_user", ASKER)
        .user("postgres", "the console's")
        .database("app", &cluster.location("app"))
}

fn try_login(howdah: &Howdah, user: &str, password: &str) -> Result<Wire, login::LoginError> {
    Wire::login_with(
        howdah.target(),
        &[("user", user), ("database", "app")],
        Some(password),
    )
}

#[track_caller]
fn get_in(howdah: &Howdah, user: &str, password: &str) -> Wire {
    let mut wire = try_login(howdah, user, password).unwrap_or_else(|error| panic!("{user}: {error}"));
    assert_eq!(wire.value("SELECT current_user"), user);
    wire
}

#[track_caller]
fn refused(howdah: &Howdah, user: &str, password: &str) -> String {
    match try_login(howdah, user, password) {
        Ok(_) => panic!("{user} got in"),
        Err(error) => error.code().to_owned(),
    }
}

/// How often somebody has been asked for.
fn questions(cluster: &Cluster, user: &str) -> usize {
    let wanted = format!("parameters: $1 = '{user}'");
    cluster.log().matches(&wanted).count()
}

fn console(howdah: &Howdah) -> Console {
    let params = [("user", "postgres"), ("database", "howdah")];
    Console(Wire::login_with(howdah.target(), &params, Some("the console's")).expect("the console"))
}

#[test]
fn nobody_is_listed_and_everybody_gets_in_by_the_servers_own_verifier() {
    let cluster = cluster();
    let howdah = asking(&cluster).start();
    if !howdah.is_howdah() {
        return;
    }
    for (user, password) in [
        ("scram_u", password_of("scram_u").as_str()),
        ("second", "of the second"),
    ] {
        assert_eq!(refused(&howdah, user, "wrong"), "28P01");
        get_in(&howdah, user, password);
        assert_eq!(refused(&howdah, user, ""), "28P01");
    }
    // This one's server wants the password itself, which a proof does not reveal.
    assert_eq!(
        refused(&howdah, "password_u", &password_of("password_u")),
        "28P01"
    );
    assert_eq!(refused(&howdah, "nobody_knows_me", "wrong"), "28P01");
    // The server has an md5 hash of this one, with which nobody can do SCRAM.
    assert_eq!(refused(&howdah, "md5_u", &password_of("md5_u")), "28P01");
    let rows = console(&howdah).show("POOLS").rows;
    let credentials = |user: &str| {
        rows.iter()
            .find(|row| row["user"] == user)
            .map(|row| row["credentials"].as_str())
    };
    assert_eq!(credentials("scram_u"), Some("learned"));
    assert_eq!(credentials("md5_u"), None, "who was not let in has no pool");
    assert_eq!(credentials(ASKER), Some("none"), "it is trusted");
}

#[test]
fn every_kind_of_secret_that_a_table_may_hold() {
    let cluster = cluster();
    cluster.sql("INSERT INTO secrets SELECT rolname, rolpassword FROM pg_authid WHERE rolname = 'scram_u'");
    let plain = |user: &str| {
        cluster.sql(&format!(
            "INSERT INTO secrets VALUES ('{user}', '{}')",
            password_of(user)
        ))
    };
    plain("password_u");
    cluster.sql("INSERT INTO secrets SELECT rolname, rolpassword FROM pg_authid WHERE rolname = 'md5_u'");
    for (auth_type, users) in [
        ("scram-sha-256", &["scram_u", "password_u"][..]),
        ("md5", &["scram_u", "password_u", "md5_u"]),
        ("password", &["scram_u", "password_u", "md5_u"]),
    ] {
        let howdah = asking(&cluster)
            .set("auth_type", auth_type)
            .set(
                "auth_query",
                "SELECT name, secret FROM public.secrets WHERE name = $1",
            )
            .start();
        if !howdah.is_howdah() {
            return;
        }
        for user in users {
            get_in(&howdah, user, &password_of(user));
            assert_eq!(refused(&howdah, user, "wrong"), "28P01", "{auth_type} {user}");
        }
        assert_eq!(
            refused(&howdah, "trust_u", ""),
            "28P01",
            "{auth_type}: not in the table"
        );
    }
}

#[test]
fn cve_2025_2291_expired_users_cannot_log_in() {
    let cluster = cluster();
    cluster.sql("CREATE ROLE later LOGIN PASSWORD 'right' VALID UNTIL '2100-01-01'");
    cluster.sql("CREATE ROLE expired LOGIN PASSWORD 'right' VALID UNTIL '2001-01-01'");
    cluster.sql("CREATE ROLE forever LOGIN PASSWORD 'right' VALID UNTIL 'infinity'");
    cluster.sql("CREATE ROLE group_role NOLOGIN PASSWORD 'right'; CREATE ROLE empty LOGIN");
    for auth_type in ["scram-sha-256", "md5", "password"] {
        let howdah = asking(&cluster).set("auth_type", auth_type).start();
        if !howdah.is_howdah() {
            return;
        }
        get_in(&howdah, "later", "right");
        get_in(&howdah, "forever", "right");
        for user in ["expired", "group_role", "empty", "nobody_knows_me"] {
            assert_eq!(refused(&howdah, user, "right"), "28P01", "{auth_type} {user}");
        }
        assert_eq!(refused(&howdah, "empty", ""), "28P01", "{auth_type}");
    }
}

#[test]
fn cve_2015_6817_the_role_that_asks_is_never_the_role_of_a_session() {
    let cluster = cluster();
    cluster.sql(&format!("ALTER ROLE {ASKER} PASSWORD 'of the asker'"));
    let howdah = asking(&cluster).user(ASKER, "of the asker").start();
    if !howdah.is_howdah() {
        return;
    }
    for password in ["of the asker", "", "wrong"] {
        assert_eq!(refused(&howdah, "nobody_knows_me", password), "28P01");
    }
    // Nor is anybody else whom the query returns.
    let howdah = asking(&cluster)
        .set(
            "auth_query",
            format!("SELECT '{ASKER}', 'a secret' WHERE $1 <> ''"),
        )
        .start();
    assert_eq!(refused(&howdah, "scram_u", "a secret"), "57P03");
    assert!(
        howdah.log().contains("auth_query returned another user"),
        "{}",
        howdah.log()
    );
}

#[test]
fn cve_2025_12819_nothing_that_an_unknown_client_sends_reaches_the_query() {
    let cluster = cluster();
    cluster.sql(
        "CREATE SCHEMA evil; GRANT USAGE ON SCHEMA evil TO public;
         CREATE TABLE evil.pg_authid AS SELECT rolname, 'chosen'::text AS rolpassword, rolcanlogin, NULL::timestamptz AS rolvaliduntil
           FROM pg_catalog.pg_authid; GRANT SELECT ON evil.pg_authid TO public;
         CREATE FUNCTION evil.eq(name, text) RETURNS bool LANGUAGE sql AS 'SELECT true';
         CREATE OPERATOR evil.= (LEFTARG = name, RIGHTARG = text, FUNCTION = evil.eq);
         CREATE FUNCTION evil.now() RETURNS timestamptz LANGUAGE sql AS 'SELECT ''-infinity''::timestamptz'",
    );
    let attack = |howdah: &Howdah, more: &[(&str, &str)], password: &str| {
        let params = [&[("user", "trust_u"), ("database", "app")], more].concat();
        Wire::login_with(howdah.target(), &params, Some(password))
    };
    let path = [("search_path", "evil, pg_catalog")];
    let options = [("options", "-c search_path=evil,pg_catalog")];
    let role = [("role", "postgres"), ("session_authorization", "postgres")];
    // What the role that asks has as its own path must not matter to the default query either.
    cluster.sql(&format!("ALTER ROLE {ASKER} SET search_path = evil, pg_catalog"));
    let howdah = asking(&cluster).start();
    if !howdah.is_howdah() {
        return;
    }
    for more in [&[][..], &path[..], &options, &role] {
        let error = attack(&howdah, more, "chosen").err().expect("a refusal");
        assert_eq!(error.code(), "28P01", "{more:?}");
    }
    cluster.sql(&format!("ALTER ROLE {ASKER} RESET search_path"));
    // The default query would not mind; here the secret is the path itself.
    let howdah = asking(&cluster)
        .set("auth_type", "password")
        .set("auth_query", "SELECT $1::text, current_setting('search_path')")
        .start();
    for more in [&path[..], &options] {
        let error = attack(&howdah, more, "evil, pg_catalog")
            .err()
            .expect("a refusal");
        assert_eq!(error.code(), "28P01", "{more:?}");
        let error = attack(&howdah, more, "evil,pg_catalog").err().expect("a refusal");
        assert_eq!(error.code(), "28P01", "{more:?}");
    }
    attack(&howdah, &[], "\"$user\", public").expect("the path that a new connection has");
}

#[test]
fn a_name_is_a_parameter_and_never_part_of_the_query() {
    let cluster = cluster();
    cluster.sql(r#"CREATE ROLE "o'hara; --" LOGIN PASSWORD 'right'"#);
    let howdah = asking(&cluster).start();
    if !howdah.is_howdah() {
        return;
    }
    get_in(&howdah, "o'hara; --", "right");
    for user in [
        "scram_u' OR ''='",
        "scram_u'; DROP TABLE secrets; --",
        "$1",
        "scram\\_u",
    ] {
        assert_eq!(refused(&howdah, user, &password_of("scram_u")), "28P01");
    }
    // PostgreSQL cuts names; nobody gets in by a name that would be cut to another's.
    let long = "x".repeat(63);
    cluster.sql(&format!("CREATE ROLE {long} LOGIN PASSWORD 'right'"));
    get_in(&howdah, &long, "right");
    assert_eq!(refused(&howdah, &format!("{long}y"), "right"), "28P01");
    assert_eq!(cluster.value("SELECT count(*) FROM secrets"), "0");
}

#[test]
fn answers_are_remembered_also_that_there_is_nobody() {
    let cluster = cluster();
    let howdah = asking(&cluster).start();
    if !howdah.is_howdah() {
        return;
    }
    for _ in 0..3 {
        get_in(&howdah, "scram_u", &password_of("scram_u"));
        refused(&howdah, "nobody_knows_me", "wrong");
    }
    assert_eq!(questions(&cluster, "scram_u"), 1);
    assert_eq!(questions(&cluster, "nobody_knows_me"), 1);
    // After a failure somebody is asked for again, but no more than once a second.
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(3) {
        refused(&howdah, "nobody_knows_me", "wrong");
    }
    let asked = questions(&cluster, "nobody_knows_me");
    assert!((2..=4).contains(&asked), "asked {asked} times in 3 s");
    assert_eq!(questions(&cluster, "scram_u"), 1);

    let howdah = asking(&cluster).set("auth_query_ttl", 0).start();
    for _ in 0..3 {
        get_in(&howdah, "second", "of the second");
    }
    assert_eq!(questions(&cluster, "second"), 3);
}

#[test]
fn a_changed_password_is_noticed() {
    let cluster = cluster();
    let howdah = asking(&cluster).start();
    if !howdah.is_howdah() {
        return;
    }
    get_in(&howdah, "scram_u", &password_of("scram_u"));
    cluster.sql("ALTER ROLE scram_u PASSWORD 'a new one'");
    for pid in cluster.backend_pids("usename = 'scram_u'") {
        cluster.sql(&format!("SELECT pg_terminate_backend({pid})"));
    }
    // A SCRAM exchange rests on the salt that was sent, so it is the next one that succeeds.
    wait_until("the new password is taken", || {
        try_login(&howdah, "scram_u", "a new one").is_ok()
    });
    get_in(&howdah, "scram_u", "a new one");
    assert_eq!(refused(&howdah, "scram_u", &password_of("scram_u")), "28P01");

    // A password in clear is looked at again in the same login.
    let howdah = asking(&cluster).set("auth_type", "password").start();
    get_in(&howdah, "scram_u", "a new one");
    cluster.sql("ALTER ROLE scram_u PASSWORD 'a third one'");
    thread::sleep(Duration::from_millis(1100));
    try_login(&howdah, "scram_u", "a third one").expect("the server's newest");
    cluster.sql("ALTER ROLE md5_u PASSWORD NULL; CREATE ROLE newcomer LOGIN");
    assert_eq!(refused(&howdah, "newcomer", "right"), "28P01");
    cluster.sql("ALTER ROLE newcomer PASSWORD 'right'");
    thread::sleep(Duration::from_millis(1100));
    get_in(&howdah, "newcomer", "right");
}

#[test]
fn logins_of_one_user_ask_once() {
    let cluster = cluster();
    let slow = "SELECT rolname, rolpassword FROM pg_authid, pg_sleep(1) WHERE rolname = $1";
    let howdah = asking(&cluster).set("auth_query", slow).start();
    if !howdah.is_howdah() {
        return;
    }
    thread::scope(|scope| {
        let login = || drop(get_in(&howdah, "scram_u", &password_of("scram_u")));
        let all: Vec<_> = (0..12).map(|_| scope.spawn(login)).collect();
        // Whoever began it goes away: the others must not suffer.
        let hasty = Wire::connect(howdah.target()).expect("a connection");
        hasty.vanish();
        for one in all {
            one.join().expect("a login");
        }
    });
    assert_eq!(questions(&cluster, "scram_u"), 1);
    assert!(cluster.backends(&format!("usename = '{ASKER}'")) <= 1);
}

#[test]
fn what_is_wrong_with_the_query_is_for_the_log() {
    let cluster = cluster();
    for (query, said) in [
        ("SELECT $1::text, secret FROM no_such_table", "no_such_table"),
        ("SELECT $1::text", "two columns"),
        ("SELECT $1::text, 'x' FROM generate_series(1, 2)", "several rows"),
        ("SELECT $1::text, 'SCRAM-SHA-256$broken'", "malformed"),
        (
            "SELECT $1::text, 'SCRAM-SHA-256$1000001:c2FsdA==$AA==:AA=='",
            "iteration count",
        ),
        (
            "SELECT $1::text, rolpassword FROM pg_authid; SELECT 2",
            "multiple commands",
        ),
    ] {
        let howdah = asking(&cluster).set("auth_query", query).start();
        if !howdah.is_howdah() {
            return;
        }
        let login::LoginError::Refused(error) = try_login(&howdah, "scram_u", "x").err().expect("a refusal")
        else {
            panic!("{query}: closed without a word");
        };
        assert_eq!(error.code(), "57P03", "{query}");
        assert!(!format!("{:?}", error.0).contains(said), "{query}: {error:?}");
        assert!(howdah.log().contains(said), "{query}: {}", howdah.log());
        howdah.wait_log("denial=\"lookup\"");
    }
}

#[test]
fn a_server_that_is_away_is_waited_for() {
    let mut cluster = cluster();
    let howdah = asking(&cluster)
        .set("client_login_timeout", "3s")
        .set("server_login_retry", "1s")
        .start();
    if !howdah.is_howdah() {
        return;
    }
    cluster.stop(Signal::INT);
    let start = Instant::now();
    let refused = try_login(&howdah, "scram_u", &password_of("scram_u"))
        .err()
        .expect("nobody knows");
    assert!(
        start.elapsed() > Duration::from_secs(2),
        "refused after {:?}",
        start.elapsed()
    );
    assert!(
        !format!("{refused:?}").contains(&cluster.target().port.to_string()),
        "{refused}"
    );
    thread::scope(|scope| {
        let login = scope.spawn(|| drop(get_in(&howdah, "scram_u", &password_of("scram_u"))));
        cluster.launch();
        login.join().expect("a login");
    });
}

#[test]
fn listed_users_come_first_and_databases_may_differ() {
    let cluster = cluster();
    cluster.sql("INSERT INTO secrets VALUES ('trust_u', 'from the table')");
    let of_table = format!(
        "{} auth_query='SELECT name, secret FROM public.secrets WHERE name = $1'",
        cluster.location("app")
    );
    let howdah = asking(&cluster)
        .database("app", &of_table)
        .database("other", &cluster.location("other"))
        .database("closed", &format!("{} auth_user=''", cluster.location("other")))
        .user("password_u", "from the file")
        .start();
    if !howdah.is_howdah() {
        return;
    }
    let login = |user: &str, database: &str, password: &str| {
        let params = [("user", user), ("database", database)];
        let login = Wire::login_with(howdah.target(), &params, Some(password));
        login.err().map(|error| error.code().to_owned())
    };
    assert_eq!(login("trust_u", "app", "from the table"), None);
    assert_eq!(
        login("scram_u", "app", &password_of("scram_u")).as_deref(),
        Some("28P01")
    );
    assert_eq!(login("scram_u", "other", &password_of("scram_u")), None);
    assert_eq!(
        login("password_u", "other", &password_of("password_u")).as_deref(),
        Some("28P01")
    );
    assert_eq!(
        login("scram_u", "closed", &password_of("scram_u")).as_deref(),
        Some("28P01")
    );
    assert_eq!(questions(&cluster, "password_u"), 0);
}

#[test]
fn visitors_of_the_console_are_asked_for_where_auth_dbname_says() {
    let cluster = cluster();
    let howdah = asking(&cluster).set("stats_users", "scram_u").start();
    if !howdah.is_howdah() {
        return;
    }
    let visit = |howdah: &Howdah| {
        let params = [("user", "scram_u"), ("database", "howdah")];
        Wire::login_with(howdah.target(), &params, Some(&password_of("scram_u")))
    };
    assert_eq!(visit(&howdah).err().expect("nowhere to ask").code(), "28P01");
    let howdah = asking(&cluster)
        .set("stats_users", "scram_u")
        .set("auth_dbname", "app")
        .start();
    visit(&howdah).expect("asked for in app");
}

#[test]
fn names_of_databases_that_lead_nowhere_leave_nothing_behind() {
    let cluster = cluster();
    let howdah = Howdah::before(&cluster)
        .set("auth_type", "scram-sha-256")
        .set("auth_user", ASKER)
        .set("metrics_addr", format!("127.0.0.1:{}", free_port()))
        .user("postgres", "the console's")
        .start();
    if !howdah.is_howdah() {
        return;
    }
    for n in 0..20 {
        let database = format!("nowhere_{n}");
        let params = [("user", "scram_u"), ("database", database.as_str())];
        let refused = Wire::login_with(howdah.target(), &params, Some("x"))
            .err()
            .expect("a refusal");
        assert_eq!(refused.code(), "57P03");
    }
    get_in(&howdah, "scram_u", &password_of("scram_u"));
    let pools = console(&howdah).show("POOLS").rows;
    let found: Vec<_> = pools
        .iter()
        .filter(|row| row["database"].starts_with("nowhere"))
        .collect();
    assert!(found.is_empty(), "{found:?}");
    let page = get(metrics_port(&howdah), "/metrics").body;
    assert!(
        page.contains("howdah_logins_refused_total{reason=\"lookup\"} 20"),
        "{page}"
    );
}

#[test]
fn questions_count_in_the_limits() {
    let cluster = cluster();
    let location = format!("{} max_db_connections=1", cluster.location("app"));
    let howdah = asking(&cluster).database("app", &location).start();
    if !howdah.is_howdah() {
        return;
    }
    let mut wire = get_in(&howdah, "scram_u", &password_of("scram_u"));
    let mut console = console(&howdah);
    let databases = console.show("DATABASES");
    assert_eq!(
        number(databases.row(&[("name", "app")]), "current_connections"),
        1
    );
    // The one server there may be goes back and forth between those who ask and those who use it.
    get_in(&howdah, "second", "of the second");
    assert_eq!(wire.value("SELECT current_user"), "scram_u");
    let count = cluster.backends(&format!("usename IN ('{ASKER}', 'scram_u', 'second')"));
    assert!(count <= 1, "{count} servers");
}

#[test]
fn unknown_users_and_wrong_passwords_take_the_same_time() {
    let cluster = cluster();
    for auth_type in ["scram-sha-256", "md5", "password"] {
        let howdah = asking(&cluster).set("auth_type", auth_type).start();
        if !howdah.is_howdah() {
            return;
        }
        let time = |user: &str| {
            let start = Instant::now();
            assert_eq!(refused(&howdah, user, "wrong"), "28P01");
            start.elapsed()
        };
        // The least of several, in turn: what is beyond that is the machine's doing.
        let (mut known, mut unknown) = (Duration::MAX, Duration::MAX);
        for _ in 0..7 {
            known = known.min(time("scram_u"));
            unknown = unknown.min(time("nobody_knows_me"));
        }
        assert!(
            known >= Duration::from_millis(95),
            "{auth_type}: refused after {known:?}"
        );
        let difference = known.abs_diff(unknown);
        assert!(
            difference < Duration::from_millis(25),
            "{auth_type}: {known:?} and {unknown:?}"
        );
    }
}

#[test]
fn the_function_in_the_documentation_works() {
    let text = include_str!("../docs/authentication.md");
    let blocks = text
        .split("```sql\n")
        .skip(1)
        .map(|rest| rest.split("```").next().unwrap_or_default());
    let sql = blocks
        .clone()
        .find(|block| block.contains("CREATE SCHEMA lookup"))
        .expect("it is there");
    let query = text
        .split("auth_query = \"")
        .nth(1)
        .and_then(|rest| rest.split('"').next())
        .expect("it is there");
    let cluster = Cluster::start();
    cluster
        .sql("CREATE ROLE howdah LOGIN; CREATE ROLE expired LOGIN PASSWORD 'right' VALID UNTIL '2001-01-01'");
    cluster.sql("ALTER ROLE postgres PASSWORD 'of the superuser'");
    cluster.sql(sql);
    let howdah = Howdah::before(&cluster)
        .set("auth_type", "scram-sha-256")
        .set("auth_user", "howdah")
        .set("auth_query", query)
        .database("app", &cluster.location("app"))
        .start();
    if !howdah.is_howdah() {
        return;
    }
    get_in(&howdah, "scram_u", &password_of("scram_u"));
    for (user, password) in [
        ("expired", "right"),
        ("postgres", "of the superuser"),
        ("nobody_knows_me", "x"),
    ] {
        assert_eq!(refused(&howdah, user, password), "28P01", "{user}");
    }
    assert!(!howdah.log().contains("was not answered"), "{}", howdah.log());
}

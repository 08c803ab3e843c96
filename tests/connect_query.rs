//! What `connect_query` sets is how sessions begin, for every client and whatever others have done on its server.

mod common;

use common::net::Target;
use common::{Cluster, Howdah, Wire};

const QUERY: &str = "SET work_mem = '77MB'; SET statement_timeout = '33s'; SET application_name = 'begun'; \
                     SET TimeZone = 'Asia/Tokyo'; SET app.x = 'begun'; SET ROLE reader";
/// The same, asked for at login.
const OPTIONS: &str = "-c work_mem=77MB -c statement_timeout=33s -c application_name=begun -c TimeZone=Asia/Tokyo \
                       -c app.x=begun -c role=reader";
const LOOK: &str = "SELECT current_setting('work_mem'), current_setting('statement_timeout'), current_setting('application_name'), \
                    current_setting('timezone'), current_setting('app.x'), current_user";

/// Each by itself.
const DOINGS: [&str; 25] = [
    "SET work_mem = '5MB'; SET app.x = 'mine'",
    "RESET work_mem",
    "RESET app.x",
    "SET ROLE NONE",
    "RESET ROLE",
    "SET ROLE writer",
    "RESET ALL",
    "SET statement_timeout = 0",
    "DISCARD ALL",
    "SET ROLE NONE",
    "DISCARD ALL",
    "SELECT set_config('app.x', '', false)",
    "RESET ALL",
    "SET TimeZone = 'UTC'",
    "RESET TimeZone",
    "SET application_name = 'mine'",
    "RESET application_name",
    "BEGIN; SET LOCAL work_mem = '3MB'; SET LOCAL ROLE writer; COMMIT",
    "BEGIN; RESET ALL; ROLLBACK",
    "DO $$ BEGIN SET work_mem = '6MB'; SET ROLE writer; END $$",
    "DO $$ BEGIN RESET work_mem; RESET ROLE; END $$",
    "DO $$ BEGIN RESET statement_timeout; SET app.x = 'block'; END $$",
    "CREATE TEMP TABLE kept (n int)",
    "SET work_mem = '9MB'",
    "DISCARD ALL",
];

fn with_roles() -> Cluster {
    let cluster = Cluster::start();
    cluster.sql("CREATE ROLE reader; CREATE ROLE writer; GRANT reader, writer TO app");
    cluster.sql_in("app", "GRANT TEMP ON DATABASE app TO reader, writer");
    cluster
}

fn pooler(cluster: &Cluster, size: u32) -> Howdah {
    let location = format!(
        "{} connect_query='{}'",
        cluster.location("app"),
        QUERY.replace('\'', "\\'")
    );
    Howdah::before(cluster)
        .database("app", &location)
        .set("default_pool_size", i64::from(size))
        .start()
}

fn login(target: Target, options: &[(&str, &str)]) -> Wire {
    let parameters = [&[("user", "app"), ("database", "app")], options].concat();
    Wire::login_with(target, &parameters, None).expect("PostgreSQL lets it in")
}

fn told(wire: &mut Wire, between: &mut dyn FnMut()) -> Vec<String> {
    let mut look = |wire: &mut Wire, after: &str| {
        between();
        format!(
            "{after}: {:?} {:?}",
            wire.query(LOOK).rows,
            wire.params.get("TimeZone")
        )
    };
    let mut lines = vec![look(wire, "login")];
    for sql in DOINGS {
        wire.query(sql);
        lines.push(look(wire, sql));
    }
    lines
}

#[test]
fn what_it_sets_is_what_clients_find_and_what_reset_leads_back_to() {
    let cluster = with_roles();
    let direct = told(&mut login(cluster.target(), &[("options", OPTIONS)]), &mut || {});
    for size in [1, 3] {
        let howdah = pooler(&cluster, size);
        if !howdah.is_howdah() {
            return;
        }
        let target = howdah.target();
        assert_eq!(told(&mut login(target, &[]), &mut || {}), direct, "alone, {size}");
        let mut other = login(target, &[("application_name", "noise")]);
        let noises = [
            "SET work_mem = '1MB'; SET app.x = 'noise'",
            "SET ROLE NONE",
            "DISCARD ALL",
            "SET ROLE writer",
            "RESET ALL",
        ];
        let mut turns = noises.iter().cycle();
        let mut disturb = || {
            // While the one under test keeps the only server there is nobody to disturb it.
            if size > 1 || cluster.value("SELECT count(*) FROM pg_class WHERE relname = 'kept'") == "0" {
                other.query(turns.next().expect("they come again"));
            }
        };
        assert_eq!(
            told(&mut login(target, &[]), &mut disturb),
            direct,
            "disturbed, {size}"
        );
    }
}

/// Nobody else finds anything but that, whatever its client was before.
#[test]
fn who_comes_next_has_what_it_sets_and_no_other_role() {
    let cluster = with_roles();
    let howdah = pooler(&cluster, 1);
    if !howdah.is_howdah() {
        return;
    }
    let target = howdah.target();
    let fresh = format!("{:?}", login(target, &[]).query(LOOK).rows);
    for sql in [
        "SET work_mem = '5MB'",
        "SET ROLE writer",
        "SET ROLE NONE",
        "RESET ALL",
        "DISCARD ALL",
        "CREATE TEMP TABLE left_behind (n int)",
        "DO $$ BEGIN PERFORM set_config('app.' || 'y', '1', false); END $$",
    ] {
        login(target, &[]).query(sql);
        assert_eq!(
            format!("{:?}", login(target, &[]).query(LOOK).rows),
            fresh,
            "{sql}"
        );
    }
    let mut own = login(target, &[("options", "-c work_mem=8MB")]);
    assert_eq!(own.value("SHOW work_mem"), "8MB");
    own.query("SET work_mem = '9MB'; SET statement_timeout = 0");
    own.query("RESET ALL");
    assert_eq!(own.value("SHOW work_mem"), "8MB");
    assert_eq!(own.value("SHOW statement_timeout"), "33s");
    assert_eq!(own.value("SELECT current_user"), "reader");
}

/// In session mode, where nobody asks what a client has set, the next one finds the same.
#[test]
fn the_next_session_has_what_it_sets_too() {
    let cluster = with_roles();
    let mut howdah = pooler(&cluster, 1);
    if !howdah.is_howdah() {
        return;
    }
    howdah.reload(|config| config.set("pool_mode", "session"));
    howdah.wait_log("reloaded");
    let fresh = format!("{:?}", login(howdah.target(), &[]).query(LOOK).rows);
    for sql in [
        "SET work_mem = '5MB'; SET app.x = 'mine'",
        "SET ROLE writer",
        "DISCARD ALL",
    ] {
        let mut wire = login(howdah.target(), &[]);
        wire.query(sql);
        wire.terminate();
        assert_eq!(
            format!("{:?}", login(howdah.target(), &[]).query(LOOK).rows),
            fresh,
            "{sql}"
        );
    }
}

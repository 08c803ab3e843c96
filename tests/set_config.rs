//! `set_config()` with NULL for a value is RESET, and leads back to what the client has asked for.

mod common;

use common::{Cluster, Howdah, Wire, msg};

const SHOWN: &str =
    "SELECT current_setting('work_mem'), current_setting('application_name'), current_setting('app.own')";

#[test]
fn a_setting_that_is_set_to_null_is_reset() {
    let cluster = Cluster::start();
    let pool = |mode| {
        Howdah::before(&cluster)
            .set("pool_mode", mode)
            .set("default_pool_size", 2)
            .start()
    };
    let [transaction, session] = ["transaction", "session"].map(pool);
    let named = msg::extended;
    let ways: [&[Vec<u8>]; 7] = [
        &[named(
            "SELECT set_config('work_mem', NULL, false), set_config('application_name', NULL::text, false)",
            &[],
        )],
        &[named("SELECT set_config('App.Own', $1, false)", &[None])],
        &[named("SELECT set_config('work_mem', $1, false)", &[Some("4MB")])],
        &[named(
            "SELECT set_config($1, $2, false)",
            &[Some("work_mem"), None],
        )],
        &[named(
            "SELECT set_config($2, $1::text, false)",
            &[None, Some("Application_Name")],
        )],
        &[named("SELECT set_config($1, NULL, false)", &[Some("app.own")])],
        &[
            named(
                "SELECT set_config($1, $2, false)",
                &[Some("work_mem"), Some("4MB")],
            ),
            named("RESET application_name", &[]),
        ],
    ];
    for way in ways {
        let [direct, pooled @ ..] =
            [cluster.target(), transaction.target(), session.target()].map(|target| {
                let options = "-c work_mem=8MB -c app.own=1";
                let params = [
                    ("user", "app"),
                    ("database", "app"),
                    ("application_name", "mine"),
                    ("options", options),
                ];
                let mut wire = Wire::login_with(target, &params, None).expect("the parameters are good");
                wire.query("SET work_mem = '9MB'; SET application_name = 'other'; SET app.own = '2'");
                let answer = wire.extended(way);
                assert_eq!(answer.code(), "");
                let there = wire.query(SHOWN).rows;
                Wire::app(target).query("BEGIN");
                [there, wire.query(SHOWN).rows]
            });
        for pooled in pooled {
            assert_eq!(pooled, direct, "{}", way.concat().escape_ascii());
        }
    }
}

//! ALTER ROLE and ALTER DATABASE … SET: what new sessions begin with, whatever servers there are.

mod common;

use common::{Pair, Wire};

/// What a role or a database is given by ALTER … SET, every session has that begins later, whatever servers there are.
#[test]
fn who_logs_in_after_defaults_were_altered_has_the_new_ones() {
    let pair = Pair::with_pool(2);
    let login = || Wire::app(pair.howdah.target());
    let mut early = login();
    let mut admin = Wire::login(pair.howdah.target(), "postgres", "app");
    assert_eq!(early.value("SHOW work_mem"), "4MB");
    // It keeps an old server, and its old settings with it.
    let mut keeps = login();
    keeps.query("CREATE TEMP TABLE kept (n int)");
    for (alter, setting, value) in [
        ("ALTER ROLE app SET work_mem = '7MB'", "work_mem", "7MB"),
        (
            "ALTER DATABASE app SET TimeZone = 'Asia/Tokyo'",
            "TimeZone",
            "Asia/Tokyo",
        ),
        (
            "ALTER ROLE app IN DATABASE app SET app.x = 'mine'",
            "app.x",
            "mine",
        ),
    ] {
        admin.query(alter);
        let mut late = login();
        assert_eq!(late.value(&format!("SHOW {setting}")), value, "{alter}");
        if setting == "TimeZone" {
            assert_eq!(late.params["TimeZone"], value);
            assert_ne!(early.value("SHOW TimeZone"), value, "it has begun with another");
        }
    }
    assert_eq!(keeps.value("SHOW work_mem"), "4MB");
}

/// Somebody who may not alter defaults costs nobody a server, whatever else they may alter.
#[test]
fn servers_are_replaced_for_defaults_that_were_altered_and_for_no_attempt() {
    let pair = Pair::with_pool(2);
    let mut app = Wire::app(pair.howdah.target());
    let servers = || pair.cluster.backend_pids("usename = 'app'");
    app.query("SELECT 1");
    let before = servers();
    let own = "ALTER ROLE app PASSWORD 'another'";
    let all = "ALTER ROLE ALL SET work_mem = '9MB'";
    let mine = "ALTER ROLE app SET work_mem = '9MB'";
    let attempts: [&[&str]; 7] = [
        &[own, all],
        &[&format!("{own}; {all}")],
        &["BEGIN", own, all, "ROLLBACK"],
        &["BEGIN", own, "SAVEPOINT a", all, "ROLLBACK TO a", "COMMIT"],
        &["BEGIN", own, "SAVEPOINT a", all, "ROLLBACK TO a", own, "COMMIT"],
        &["BEGIN", mine, "ROLLBACK", own],
        &[&format!("{mine}; SELECT 1/0"), own],
    ];
    for attempt in attempts {
        for sql in attempt {
            app.query(sql);
        }
        let mut late = Wire::app(pair.howdah.target());
        assert_eq!(late.value("SHOW work_mem"), "4MB", "{attempt:?}");
        assert_eq!(servers(), before, "{attempt:?}");
    }
    app.query(mine);
    let mut late = Wire::app(pair.howdah.target());
    assert_eq!(late.value("SHOW work_mem"), "9MB");
    assert_ne!(servers(), before);
}

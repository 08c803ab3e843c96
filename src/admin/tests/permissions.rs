//! Who may say what.

use super::*;

/// Every command there is, and who may say it.
const COMMANDS: [(&str, Rights); 41] = [
    ("SHOW ACTIVE_SOCKETS", Rights::Stats),
    ("SHOW CLIENTS", Rights::Stats),
    ("SHOW CONFIG", Rights::Stats),
    ("SHOW DATABASES", Rights::Stats),
    ("SHOW DNS_HOSTS", Rights::Stats),
    ("SHOW DNS_ZONES", Rights::Stats),
    ("SHOW LISTS", Rights::Stats),
    ("SHOW MEM", Rights::Stats),
    ("SHOW PEER_POOLS", Rights::Stats),
    ("SHOW PEERS", Rights::Stats),
    ("SHOW POOLS", Rights::Stats),
    ("SHOW SERVERS", Rights::Stats),
    ("SHOW SOCKETS", Rights::Stats),
    ("SHOW STATE", Rights::Stats),
    ("SHOW STATS", Rights::Stats),
    ("SHOW STATS_AVERAGES", Rights::Stats),
    ("SHOW STATS_TOTALS", Rights::Stats),
    ("SHOW TOTALS", Rights::Stats),
    ("SHOW USERS", Rights::Stats),
    ("SHOW VERSION", Rights::Stats),
    ("SHOW HELP", Rights::Stats),
    ("SHOW client_encoding", Rights::Stats),
    ("BEGIN", Rights::Stats),
    ("COMMIT", Rights::Stats),
    ("SET client_encoding = 'UTF8'", Rights::Stats),
    ("DEALLOCATE ALL", Rights::Stats),
    ("SHOW FDS", Rights::Admin),
    ("SET default_pool_size = 3", Rights::Admin),
    ("RELOAD", Rights::Admin),
    ("PAUSE", Rights::Admin),
    ("PAUSE app", Rights::Admin),
    ("RESUME", Rights::Admin),
    ("RECONNECT", Rights::Admin),
    ("KILL", Rights::Admin),
    ("KILL_CLIENT 7", Rights::Admin),
    ("WAIT_CLOSE", Rights::Admin),
    ("DISABLE app", Rights::Admin),
    ("ENABLE app", Rights::Admin),
    ("SUSPEND", Rights::Admin),
    ("SHUTDOWN", Rights::Admin),
    ("SHUTDOWN WAIT_FOR_CLIENTS", Rights::Admin),
];

#[tokio::test]
async fn cve_2026_6667_whoever_may_look_may_change_nothing() {
    let (console, mut orders) = console();
    let carry_out = tokio::spawn(async move {
        let mut tasks = Vec::new();
        while let Some(order) = orders.recv().await {
            tasks.push(order.task);
            order.reply.send(Ok(Vec::new())).unwrap();
        }
        tasks
    });
    for rights in [Rights::Stats, Rights::Admin] {
        let mut guest = Guest::new(&console, rights).await;
        for (text, needed) in COMMANDS {
            let answer = guest.query(text).await;
            let denied = tags(&answer).contains('E') && code(&answer) == "42501";
            assert_eq!(denied, rights < needed, "{text} as {rights:?}");
        }
    }
    drop(console);
    // The guests' sessions hold the console and end when their sockets close.
    let tasks = carry_out.await.unwrap();
    assert_eq!(tasks.len(), 4, "{tasks:?}");
}

#[test]
fn the_table_of_permissions_is_complete() {
    // Fails to compile when a command is added: add it here and to COMMANDS.
    let number = |command: &Command| match command {
        Command::Show(_) => 0,
        Command::Help => 1,
        Command::Ask(_) => 2,
        Command::Begin(_) => 3,
        Command::End(_) => 4,
        Command::Harmless(_) => 5,
        Command::Deallocate(_) => 6,
        Command::Set { .. } => 7,
        Command::Reload => 8,
        Command::Shutdown(_) => 9,
        Command::Pause(_) => 10,
        Command::Resume(_) => 11,
        Command::Reconnect(_) => 12,
        Command::Kill(_) => 13,
        Command::KillClient(_) => 14,
        Command::WaitClose(_) => 15,
        Command::Disable(_) => 16,
        Command::Enable(_) => 17,
        Command::Unsupported { .. } => 18,
    };
    let mut seen = BTreeSet::new();
    for (text, needed) in COMMANDS {
        let statement = words::statements(text).unwrap().remove(0);
        let command = Command::parse(&statement).unwrap();
        assert_eq!(command.needs(), needed, "{text}");
        seen.insert(number(&command));
    }
    assert_eq!(seen.len(), 19);
}

#[tokio::test]
async fn no_answer_holds_a_secret() {
    let (console, _orders) = console();
    open_pool(&console);
    let _client = client(&console);
    let mut guest = Guest::new(&console, Rights::Admin).await;
    for (text, _) in COMMANDS.iter().filter(|(text, _)| text.starts_with("SHOW")) {
        for (_, body) in guest.query(text).await {
            assert!(!String::from_utf8_lossy(&body).contains("hunter2"), "{text}");
        }
    }
}

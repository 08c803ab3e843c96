//! What a seed stands for: how many clients and servers, how they are set up, and what befalls them.

use std::fmt::Write;

use super::proof;
use crate::net::simulated::{Dice, Weather};

/// What befalls a world.
#[derive(Clone, Copy, Debug)]
pub(super) enum Faults {
    /// Nothing: every request gets its answer.
    None,
    /// Servers and connections fail.
    Servers,
    /// An operator pauses, kills, reloads.
    Operator,
    Both,
}

/// How one gets in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Logins {
    /// By saying who one is.
    Trust,
    /// By a password.
    Scram,
}

impl Faults {
    pub(super) fn strike_servers(self) -> bool {
        matches!(self, Self::Servers | Self::Both)
    }

    pub(super) fn have_operator(self) -> bool {
        matches!(self, Self::Operator | Self::Both)
    }
}

/// One seed's world.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) clients: usize,
    pub(super) hosts: usize,
    /// How often each client comes, and what it does each time.
    pub(super) visits: u64,
    pub(super) steps: u64,
    /// Clients begin within this time, in milliseconds.
    pub(super) spread_ms: u64,
    pub(super) faults: Faults,
    /// Clients go without a word.
    pub(super) has_vanishers: bool,
    pub(super) logins: Logins,
    /// It all ends while clients are at work.
    pub(super) ends_early: bool,
    pub(super) weather: Weather,
    /// The whole configuration file.
    pub(super) config: String,
}

impl Plan {
    /// Nothing goes wrong, so that every request gets its answer.
    pub(super) fn is_calm(&self) -> bool {
        matches!(self.faults, Faults::None)
    }

    /// Transaction blocks are refused, as long as nobody changes the configuration.
    pub(super) fn is_statement_mode(&self) -> bool {
        self.config.contains("pool_mode = \"statement\"")
    }

    pub(super) fn new(seed: u64, dice: &mut Dice) -> Self {
        let faults = [Faults::None, Faults::Servers, Faults::Operator, Faults::Both][(seed % 4) as usize];
        let clients = match dice.below(16) {
            0 => 150 + dice.below(150),
            1..4 => 60 + dice.below(60),
            _ => 4 + dice.below(40),
        };
        let weather = Weather {
            latency_ms: 1,
            jitter_ms: dice.pick(&[0, 3, 30]),
            splits: dice.pick(&[0, 2, 5]),
            stalls: if faults.strike_servers() {
                dice.pick(&[0, 50, 400])
            } else {
                0
            },
            stall_ms: dice.pick(&[100, 3000]),
            capacity: dice.pick(&[3000, 16_000, 60_000]),
        };
        let hosts = 1 + dice.below(3) as usize;
        let mut plan = Self {
            clients: clients as usize,
            hosts,
            visits: 1 + dice.below(3),
            steps: if clients > 100 { 6 } else { 10 + dice.below(14) },
            spread_ms: dice.pick(&[10, 2000, 30_000]),
            faults,
            has_vanishers: dice.one_in(2),
            logins: if dice.one_in(2) {
                Logins::Scram
            } else {
                Logins::Trust
            },
            ends_early: faults.have_operator() && dice.one_in(3),
            weather,
            config: String::new(),
        };
        plan.config = plan.settings(dice);
        plan
    }

    /// A configuration for this world; another one every time.
    pub(super) fn settings(&self, dice: &mut Dice) -> String {
        let mut text = String::from(
            "[howdah]\nadmin_users = \"admin\"\nlog_level = \"off\"\nserver_tls_sslmode = \"disable\"\n",
        );
        let mut set = |name: &str, value: &str| {
            writeln!(text, "{name} = \"{value}\"").expect("a string takes it");
        };
        let method = if self.logins == Logins::Scram {
            "scram-sha-256"
        } else {
            "trust"
        };
        set("auth_type", method);
        let size = 1 + dice.below(6);
        set("default_pool_size", &size.to_string());
        set("min_pool_size", &dice.below(size + 1).to_string());
        set("max_prepared_statements", dice.pick(&["2", "5", "200"]));
        set(
            "pool_mode",
            dice.pick(&[
                "transaction",
                "transaction",
                "transaction",
                "statement",
                "session",
            ]),
        );
        // The model knows no notifications, by which shared listening works.
        set("listen", "pin");
        set("defer_begin", dice.pick(&["true", "false", "false"]));
        set("server_round_robin", dice.pick(&["true", "false"]));
        set("server_lifetime", dice.pick(&["0", "7s", "40s", "1h"]));
        set("server_idle_timeout", dice.pick(&["0", "2s", "10min"]));
        set("server_check_delay", dice.pick(&["0", "1s", "30s"]));
        set("server_connect_timeout", dice.pick(&["2s", "15s"]));
        set("server_login_retry", dice.pick(&["100ms", "2s"]));
        set("max_parallel_connects", dice.pick(&["1", "4"]));
        if dice.one_in(3) {
            set("reserve_pool_size", dice.pick(&["1", "3"]));
            set("reserve_pool_timeout", dice.pick(&["50ms", "2s"]));
        }
        if dice.one_in(3) {
            set("max_db_connections", &(1 + dice.below(8)).to_string());
        }
        if self.is_calm() {
            // Whoever waits is served in the end, however long that takes.
            for limit in ["query_wait_timeout", "client_login_timeout"] {
                set(limit, "0");
            }
        } else {
            set("query_wait_timeout", dice.pick(&["3s", "20s", "2min"]));
            set("client_login_timeout", dice.pick(&["20s", "1min"]));
            set("query_timeout", "40s");
            set("idle_transaction_timeout", "30s");
            set("max_client_conn", dice.pick(&["10", "100", "1000"]));
            set("max_waiting", dice.pick(&["0", "0", "5"]));
        }
        self.people_and_places(&mut text, dice);
        text
    }

    fn people_and_places(&self, text: &mut String, dice: &mut Dice) {
        text.push_str("[databases]\n");
        for database in 0..DATABASES {
            let address = |host: usize| format!("10.0.0.{}", host % self.hosts + 1);
            let mut hosts = address(database);
            if dice.one_in(3) {
                hosts = format!("{hosts},{}", address(database + 1));
            }
            writeln!(text, "d{database} = \"host={hosts} port=5432\"").expect("a string takes it");
        }
        if self.logins == Logins::Scram {
            text.push_str("[users]\n");
            let users = (0..USERS).map(|user| format!("u{user}"));
            for user in users.chain(["admin".to_owned()]) {
                writeln!(text, "{user} = \"{}\"", proof::stored(&user)).expect("a string takes it");
            }
        }
    }
}

/// How many databases there are, and users.
pub(super) const DATABASES: usize = 2;
pub(super) const USERS: u64 = 2;

//! Two databases with the same in them: clients go to one directly and to the other through a pooler.

use std::collections::HashMap;
use std::time::Duration;

use crate::client::{Client, Side, Told};
use crate::common::dice::Dice;
use crate::common::howdah::{Against, Config};
use crate::common::proxy::{Fate, Proxy, Towards, Trouble};
use crate::common::{Cluster, Howdah, Target, Wire};
use crate::families::Family;
use crate::program::{Login, Round, Step};
use crate::weave;

/// What programs find in their database.
const SCHEMA: &str = "
    CREATE TABLE of_reader AS SELECT 'for reader' AS v; GRANT SELECT ON of_reader TO reader;
    CREATE TABLE of_writer AS SELECT 'for writer' AS v; GRANT SELECT ON of_writer TO writer;
    CREATE FUNCTION hide_setting(v text) RETURNS void LANGUAGE plpgsql AS
        $$ BEGIN PERFORM set_config('work_mem', v, false); END $$;
    CREATE FUNCTION hide_custom(v text) RETURNS void LANGUAGE plpgsql AS
        $$ BEGIN PERFORM set_config('app.a', v, false); END $$;
    CREATE FUNCTION hide_lock(k bigint) RETURNS void LANGUAGE sql AS $$ SELECT pg_advisory_lock(k) $$;
    CREATE FUNCTION hide_temp() RETURNS void LANGUAGE plpgsql AS $$ BEGIN CREATE TEMP TABLE tt (n int); END $$;
    CREATE FUNCTION hide_local(v text) RETURNS void LANGUAGE plpgsql AS
        $$ BEGIN PERFORM set_config('work_mem', v, true); END $$;
    CREATE PROCEDURE hide_called(v text) LANGUAGE plpgsql AS
        $$ BEGIN PERFORM set_config('work_mem', v, false); END $$;
    GRANT ALL ON SCHEMA public TO PUBLIC";

/// A cluster that worlds can be made in.
pub(crate) fn cluster() -> Cluster {
    let cluster = Cluster::options().conf("max_connections = 300").start();
    cluster.sql("CREATE ROLE reader; CREATE ROLE writer; CREATE ROLE stranger; GRANT reader, writer TO app");
    cluster
}

/// The databases, and the poolers before one of them: one for each number of servers.
pub(crate) struct World {
    direct: (Target, String),
    pooled: String,
    poolers: HashMap<usize, Howdah>,
    /// How long an answer may take that never comes.
    patience: Duration,
    /// What the poolers reach their database by, if that is a network that loses connections.
    bad_network: Option<Proxy>,
}

/// Where a round went another way than in PostgreSQL.
#[derive(Debug)]
pub(crate) struct Difference {
    /// The step; the number of steps if it was the login.
    pub(crate) step: usize,
    /// What PostgreSQL said.
    pub(crate) direct: Vec<String>,
    /// What the pooler said.
    pub(crate) pooled: Vec<String>,
}

impl World {
    /// The world of this number, with poolers of this kind.
    pub(crate) fn new(cluster: &Cluster, number: usize, against: Against) -> Self {
        Self::beyond(cluster, number, against, None)
    }

    /// A world in which connections between the pooler and its database are lost, at points that a seed tells.
    pub(crate) fn losing(cluster: &Cluster, number: usize, seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let fate = move |_| {
            let magnitude = 8 + dice.below(7);
            Fate {
                trouble: *dice.pick(&[Trouble::Cut, Trouble::Reset, Trouble::HalfClose]),
                towards: *dice.pick(&[Towards::Server, Towards::Client]),
                // Not in the login: the pooler would wait for longer and longer.
                after: 1500 + dice.below(1 << magnitude),
            }
        };
        let network = Proxy::before(cluster.target(), fate);
        Self::beyond(cluster, number, Against::Howdah, Some(network))
    }

    fn beyond(cluster: &Cluster, number: usize, against: Against, bad_network: Option<Proxy>) -> Self {
        let [direct, pooled] = ["direct", "pooled"].map(|kind| format!("{kind}_{number}"));
        for database in [&direct, &pooled] {
            cluster.sql(&format!("CREATE DATABASE {database} OWNER app"));
            cluster.sql_in(database, SCHEMA);
        }
        let start = |servers: usize| {
            let size = i64::try_from(servers).expect("a few");
            let mut config: Config = Howdah::before(cluster).set("default_pool_size", size);
            if let Some(network) = &bad_network {
                let port = network.target().port;
                config = config
                    .set("server_login_retry", "1s")
                    .database(&pooled, &format!("host=127.0.0.1 port={port} sslmode=disable"));
            }
            (servers, config.start_as(against))
        };
        let sizes = Family::ALL.map(Family::servers);
        let mut sizes = sizes.to_vec();
        sizes.sort_unstable();
        sizes.dedup();
        let poolers = sizes.into_iter().map(start).collect();
        Self {
            direct: (cluster.target(), direct),
            pooled,
            poolers,
            patience: Duration::from_secs(if against == Against::Howdah { 20 } else { 2 }),
            bad_network,
        }
    }

    /// How many connections the poolers have made over a bad network.
    pub(crate) fn connections(&self) -> u64 {
        self.bad_network.as_ref().map_or(0, Proxy::connections)
    }

    /// Runs a round in both databases, up to the first difference.
    pub(crate) fn run(&self, family: Family, round: &Round) -> Result<(), Difference> {
        let mut stage = Stage {
            clients: Vec::new(),
            family,
        };
        let outcome = stage.play(self, round);
        stage.leave(round);
        if family.makes_tables() {
            self.drop_tables(family);
        }
        outcome
    }

    /// The tables go the way they came: what changes a schema unseen is another matter.
    fn drop_tables(&self, family: Family) {
        let tables: Vec<_> = (0..family.clients())
            .map(|client| format!("t_{client}"))
            .collect();
        let drop = Step::query(format!("DROP TABLE IF EXISTS {}", tables.join(", ")));
        // Where connections are lost, it may take a few.
        for _ in 0..20 {
            let (direct, pooled) = self.log_in(&weave::app(), family.servers());
            let wires = [direct, pooled].into_iter().flatten();
            let done = wires.map(|wire| Side::new(wire).talk(&drop));
            if done
                .filter(|told| told.last().is_some_and(|line| line == "Z I"))
                .count()
                == 2
            {
                return;
            }
        }
    }

    fn log_in(&self, login: &Login, servers: usize) -> (Connected, Connected) {
        let (target, database) = &self.direct;
        let connect = |target, database: &str| {
            let mut params = vec![("user", login.user), ("database", database)];
            params.extend(
                login
                    .parameters
                    .iter()
                    .map(|(name, value)| (*name, value.as_str())),
            );
            let mut wire = Wire::login_with(target, &params, None).map_err(|error| error.to_string())?;
            wire.patience = self.patience;
            Ok(wire)
        };
        (
            connect(*target, database),
            connect(self.poolers[&servers].target(), &self.pooled),
        )
    }
}

type Connected = Result<Wire, String>;

/// The clients of a round while it runs.
struct Stage {
    clients: Vec<Client>,
    family: Family,
}

impl Stage {
    fn play(&mut self, world: &World, round: &Round) -> Result<(), Difference> {
        let servers = self.family.servers();
        let may_lose = world.bad_network.is_some();
        for login in &round.logins {
            match world.log_in(login, servers) {
                (Ok(direct), Ok(pooled)) => self.clients.push(Client::new(direct, pooled, may_lose)),
                (Ok(_), Err(_)) if may_lose => return Ok(()),
                (direct, pooled) => {
                    let told = |result: Connected| vec![result.err().unwrap_or_default()];
                    return Err(Difference {
                        step: round.steps.len(),
                        direct: told(direct),
                        pooled: told(pooled),
                    });
                }
            }
        }
        for (number, (client, step)) in round.steps.iter().enumerate() {
            let busy = self
                .clients
                .iter()
                .filter(|client| client.is_in_transaction())
                .count();
            if busy >= servers && !self.clients[*client].is_in_transaction() {
                // It would wait for ever.
                continue;
            }
            self.step(*client, step).map_err(|(direct, pooled)| Difference {
                step: number,
                direct,
                pooled,
            })?;
        }
        Ok(())
    }

    fn step(&mut self, client: usize, step: &Step) -> Result<(), Told> {
        self.clients[client].step(step)?;
        if self.family == Family::Listen {
            self.clients.iter_mut().try_for_each(Client::catch_up)?;
        }
        Ok(())
    }

    fn leave(self, round: &Round) {
        for (client, login) in self.clients.into_iter().zip(&round.logins) {
            for side in [client.direct, client.pooled] {
                if login.is_polite {
                    side.wire.terminate();
                } else {
                    side.wire.vanish();
                }
            }
        }
    }
}

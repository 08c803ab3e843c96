//! Two databases with the same in them: clients go to one directly and to the other through a pooler.

use std::collections::HashMap;
use std::time::Duration;

use crate::common::dice::Dice;
use crate::common::howdah::{Against, Config};
use crate::common::proxy::{Fate, Proxy, Towards, Trouble};
use crate::common::wire::NoFrame;
use crate::common::{Cluster, Howdah, Target, Wire};
use crate::compare::transcript;
use crate::families::Family;
use crate::program::{Login, Round, Step};
use crate::weave;

/// What is told of an answer that does not come. PostgreSQL itself always gives one, or the step is wrong.
const SILENCE: &str = "(no answer)";

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
            servers: family.servers(),
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
            let done = wires.map(|mut wire| talk(&mut wire, &drop));
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
    servers: usize,
}

struct Client {
    direct: Wire,
    pooled: Wire,
    in_transaction: bool,
    /// The rest of its program would prove nothing.
    is_done: bool,
}

impl Stage {
    fn play(&mut self, world: &World, round: &Round) -> Result<(), Difference> {
        for login in &round.logins {
            match world.log_in(login, self.servers) {
                (Ok(direct), Ok(pooled)) => self.clients.push(Client {
                    direct,
                    pooled,
                    in_transaction: false,
                    is_done: false,
                }),
                (Ok(_), Err(_)) if world.bad_network.is_some() => return Ok(()),
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
            let busy = self.clients.iter().filter(|client| client.in_transaction).count();
            if busy >= self.servers && !self.clients[*client].in_transaction {
                // It would wait for ever.
                continue;
            }
            self.clients[*client]
                .step(step, world.bad_network.is_some())
                .map_err(|(direct, pooled)| Difference {
                    step: number,
                    direct,
                    pooled,
                })?;
        }
        Ok(())
    }

    fn leave(self, round: &Round) {
        for (client, login) in self.clients.into_iter().zip(&round.logins) {
            for wire in [client.direct, client.pooled] {
                if login.is_polite {
                    wire.terminate();
                } else {
                    wire.vanish();
                }
            }
        }
    }
}

impl Client {
    /// `may_lose`: the pooler may lose its server meanwhile.
    fn step(&mut self, step: &Step, may_lose: bool) -> Result<(), (Vec<String>, Vec<String>)> {
        if self.is_done {
            return Ok(());
        }
        let direct = talk(&mut self.direct, step);
        let pooled = talk(&mut self.pooled, step);
        self.in_transaction = direct.last().is_some_and(|line| line != "Z I");
        let parameters = |wire: &Wire| format!("{:?}", wire.params);
        let is_silent = direct.last().is_some_and(|line| line == SILENCE);
        if direct != pooled && is_healed(&direct) {
            talk(&mut self.direct, &Step::query("ROLLBACK"));
            talk(&mut self.pooled, &Step::query("ROLLBACK"));
            (self.is_done, self.in_transaction) = (true, false);
            return Ok(());
        }
        if may_lose && is_lost(&direct, &pooled) {
            talk(&mut self.direct, &Step::query("ROLLBACK"));
            (self.is_done, self.in_transaction) = (true, false);
            return Ok(());
        }
        if direct != pooled || is_silent {
            return Err((direct, pooled));
        }
        let (direct, pooled) = (parameters(&self.direct), parameters(&self.pooled));
        if direct == pooled {
            Ok(())
        } else {
            Err((vec![direct], vec![pooled]))
        }
    }
}

/// A plan that PostgreSQL has to refuse for as long as the statement lives. The pooler makes it anew where no driver is
/// misled, after one refusal at the latest: there it is better on purpose.
fn is_healed(direct: &[String]) -> bool {
    direct
        .iter()
        .any(|line| line.contains("cached plan must not change result type"))
}

/// The client was let go, after nothing but what PostgreSQL said too. Who writes to a connection that is closed already
/// may never read why it was: `tests/faults.rs` looks after that.
fn is_lost(direct: &[String], pooled: &[String]) -> bool {
    let Some(("(closed)", before)) = pooled.split_last().map(|(last, rest)| (last.as_str(), rest)) else {
        return false;
    };
    let is_reason = |line: &String| line.starts_with("E ") && line.contains("FATAL");
    let reasons = usize::from(before.last().is_some_and(is_reason));
    direct.starts_with(&before[..before.len() - reasons])
}

/// Does a step, and tells what came of it.
fn talk(wire: &mut Wire, step: &Step) -> Vec<String> {
    wire.send(&step.to_bytes());
    let mut frames = Vec::new();
    let mut ends = step.ends();
    while ends > 0 {
        match wire.try_read() {
            Ok(frame) => {
                ends -= usize::from(frame.kind == b'Z');
                if frame.kind == b'G' {
                    wire.send(&step.copy_bytes());
                }
                frames.push(frame);
            }
            Err(why) => {
                let mut lines = transcript(&frames);
                lines.push(match why {
                    NoFrame::Closed => "(closed)".to_owned(),
                    NoFrame::Timeout => SILENCE.to_owned(),
                });
                return lines;
            }
        }
    }
    transcript(&frames)
}

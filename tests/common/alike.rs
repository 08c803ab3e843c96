//! The oracle: what a client sees through howdah is what it sees from PostgreSQL.

use std::collections::VecDeque;

use super::net::Target;
use super::wire::Wire;
use super::{Cluster, Howdah, msg};

/// A cluster and a pooler with few servers in front of it.
pub struct Pair {
    /// Where clients go for comparison.
    pub cluster: Cluster,
    /// Where the clients under test go.
    pub howdah: Howdah,
    size: u32,
}

impl Pair {
    /// A pool of `size` servers before a cluster of its own.
    pub fn with_pool(size: u32) -> Self {
        let cluster = Cluster::start();
        let howdah = Howdah::with_pool(&cluster, size);
        Self {
            cluster,
            howdah,
            size,
        }
    }

    /// A pooler with `size` servers that is configured in another way.
    pub fn of(cluster: Cluster, howdah: Howdah, size: u32) -> Self {
        Self {
            cluster,
            howdah,
            size,
        }
    }

    /// [`Self::alike`] before a pool of one server and before one of two.
    #[track_caller]
    pub fn alike_one_and_two(script: impl Fn(&mut Wire)) {
        Self::with_pool(1).alike(&script);
        Self::with_pool(2).alike(&script);
    }

    /// Runs a script directly, then alone through howdah, then through howdah while other clients of the same pool
    /// do their best to leave something behind on every server. Each must read the same frames.
    ///
    /// With a pool of one server the others never keep it; with more they make servers change hands.
    ///
    /// The script gets a logged-in connection of `app`. Before each run the schema `public` is made afresh.
    #[track_caller]
    pub fn alike(&self, script: impl Fn(&mut Wire)) {
        self.alike_as(&[], script);
    }

    /// The same for a client with these startup parameters beside its user and database.
    #[track_caller]
    pub fn alike_as(&self, parameters: &[(&str, &str)], script: impl Fn(&mut Wire)) {
        let login = [&[("user", "app"), ("database", "app")], parameters].concat();
        let direct = self.transcript(&login, self.cluster.target(), None, &script);
        let alone = self.transcript(&login, self.howdah.target(), None, &script);
        compare("alone", &direct, &alone);
        let noise = Noise::new(self.howdah.target(), self.size);
        let disturbed = self.transcript(&login, self.howdah.target(), Some(noise), &script);
        compare("disturbed by another client", &direct, &disturbed);
    }

    fn transcript(
        &self,
        login: &[(&str, &str)],
        target: Target,
        noise: Option<Noise>,
        script: impl Fn(&mut Wire),
    ) -> Vec<String> {
        self.cluster
            .sql("DROP SCHEMA public CASCADE; CREATE SCHEMA public AUTHORIZATION app");
        // A pooler that shares statements is to know that the schema is another one.
        Wire::app(target).query("CREATE TABLE made_afresh (); DROP TABLE made_afresh");
        let mut wire = Wire::login_with(target, login, None).expect("a login");
        settle_parameters(&mut wire.transcript);
        if let Some(mut noise) = noise {
            wire.disturbance = Some(Box::new(move || noise.turn()));
        }
        script(&mut wire);
        settle_parameters(&mut wire.transcript);
        std::mem::take(&mut wire.transcript)
    }
}

/// Sorts runs of `ParameterStatus`: their order means nothing.
fn settle_parameters(lines: &mut [String]) {
    for run in lines.chunk_by_mut(|a, b| a.starts_with("S ") && b.starts_with("S ")) {
        run.sort();
    }
}

#[track_caller]
fn compare(how: &str, direct: &[String], pooled: &[String]) {
    if direct == pooled {
        return;
    }
    let same = direct.iter().zip(pooled).take_while(|(a, b)| a == b).count();
    let from = same.saturating_sub(5);
    let part = |lines: &[String]| lines[from.min(lines.len())..lines.len().min(same + 6)].join("\n  ");
    panic!(
        "the client sees something else through the pooler ({how}), from frame {same} on\n\
         PostgreSQL:\n  {}\npooler:\n  {}",
        part(direct),
        part(pooled)
    );
}

/// Other clients of the same pool, with the same names for other things.
///
/// One less than there are servers stay in transactions, each on a server of its own. Every turn the other one begins
/// one too, on the server that the disturbed client has just given back, and one of them lets its server go: so the disturbed
/// client finds itself on another server each time, whoever a pool prefers to give which one.
pub struct Noise {
    /// Those in a transaction, the longest first.
    busy: VecDeque<Wire>,
    idle: Wire,
    turns: u32,
}

impl Noise {
    /// The noisy clients of a pool of so many servers; of one server they keep none.
    pub fn new(target: Target, servers: u32) -> Self {
        let busy = (1..servers).map(|_| {
            let mut wire = noisy(target);
            begin(&mut wire);
            wire.answer();
            wire
        });
        Self {
            busy: busy.collect(),
            idle: noisy(target),
            turns: 0,
        }
    }

    /// One disturbance.
    pub fn turn(&mut self) {
        self.turns += 1;
        let Some(mut leaving) = self.busy.pop_front() else {
            disturb(&mut self.idle);
            self.idle.query("SELECT 1/0");
            return;
        };
        // It waits for a server if the disturbed client keeps its own.
        begin(&mut self.idle);
        disturb(&mut leaving);
        if self.turns.is_multiple_of(2) {
            leaving.query("SELECT 1/0");
        }
        leaving.query("COMMIT");
        let answer = self.idle.answer();
        assert_eq!(answer.status, 'T', "{answer:?}");
        self.busy.push_back(std::mem::replace(&mut self.idle, leaving));
    }
}

fn noisy(target: Target) -> Wire {
    let params = [
        ("user", "app"),
        ("database", "app"),
        ("application_name", "noise"),
    ];
    let mut wire = Wire::login_with(target, &params, None).expect("the noisy client can log in");
    for name in ["s", "s1", "s2", "_pg3_0"] {
        let messages = [msg::parse(name, &format!("SELECT 'noise {name}'"))];
        assert_eq!(wire.batch(&messages), "1Z");
    }
    wire
}

fn begin(wire: &mut Wire) {
    wire.send(&msg::query("BEGIN"));
}

fn disturb(wire: &mut Wire) {
    let messages = [
        msg::parse("", "SELECT 'noise'"),
        msg::bind("", "", &[]),
        msg::execute("", 0),
    ];
    assert_eq!(wire.batch(&messages), "12DCZ");
    assert_eq!(wire.batch(&[msg::run("s", &[])]), "2TDCZ");
    wire.query("SET application_name = 'noise'");
}

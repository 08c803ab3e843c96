//! The oracle: what a client sees through howdah is what it sees from PostgreSQL.

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

    /// Runs a script directly, then alone through howdah, then through howdah while another client of the same pool
    /// does its best to leave something behind on every server. Each must read the same frames.
    ///
    /// With a pool of one server the other client never keeps it; with more it makes servers change hands.
    ///
    /// The script gets a logged-in connection of `app`. Before each run the schema `public` is made afresh.
    #[track_caller]
    pub fn alike(&self, script: impl Fn(&mut Wire)) {
        let direct = self.transcript(self.cluster.target(), None, &script);
        let alone = self.transcript(self.howdah.target(), None, &script);
        compare("alone", &direct, &alone);
        let mut noise = Noise::new(self.howdah.target());
        noise.keeps_server = self.size > 1;
        let disturbed = self.transcript(self.howdah.target(), Some(noise), &script);
        compare("disturbed by another client", &direct, &disturbed);
    }

    fn transcript(&self, target: Target, noise: Option<Noise>, script: impl Fn(&mut Wire)) -> Vec<String> {
        self.cluster
            .sql("DROP SCHEMA public CASCADE; CREATE SCHEMA public AUTHORIZATION app");
        let mut wire = Wire::app(target);
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

/// Another client of the same pool, with the same names for other things.
///
/// Every turn it either takes a server and keeps it, or lets it go: with a pool of two, the client that is being
/// disturbed finds itself on the other server each time.
pub struct Noise {
    wire: Wire,
    turns: u32,
    /// Whether it stays in a transaction every other turn.
    pub keeps_server: bool,
}

impl Noise {
    /// A noisy client.
    pub fn new(target: Target) -> Self {
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
        Self {
            wire,
            turns: 0,
            keeps_server: true,
        }
    }

    /// One disturbance; leaves the noisy client inside a transaction every other time.
    pub fn turn(&mut self) {
        self.turns += 1;
        if self.turns.is_multiple_of(2) {
            self.wire.query("COMMIT");
            return;
        }
        let messages = [
            msg::parse("", "SELECT 'noise'"),
            msg::bind("", "", &[]),
            msg::execute("", 0),
        ];
        assert_eq!(self.wire.batch(&messages), "12DCZ");
        assert_eq!(self.wire.batch(&[msg::run("s", &[])]), "2TDCZ");
        self.wire.query("SET application_name = 'noise'");
        self.wire.query("SELECT 1/0");
        if !self.keeps_server {
            return;
        }
        let answer = self.wire.query("BEGIN");
        assert_eq!(answer.status, 'T', "{answer:?}");
    }
}

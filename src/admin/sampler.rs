//! Averages: what was counted at the end of each `stats_period`, to compare with.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::client::Front;
use crate::stats::PoolStats;

/// Keeps the last two samples. Somebody has to [`tick`](Self::tick) it every `stats_period`.
#[derive(Debug)]
pub struct Sampler {
    samples: Mutex<Samples>,
}

#[derive(Debug)]
struct Samples {
    /// Averages are taken from here to now, so that there is always at least one whole period in them.
    older: Arc<Sample>,
    newer: Arc<Sample>,
}

/// What had been counted at one moment.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    pub(super) at: Instant,
    pub(super) databases: BTreeMap<String, PoolStats>,
    pub(super) all: PoolStats,
}

impl Sample {
    fn empty(at: Instant) -> Self {
        Self {
            at,
            databases: BTreeMap::new(),
            all: PoolStats::default(),
        }
    }

    /// What has been counted now.
    pub(super) fn take(front: &Front, at: Instant) -> Self {
        let mut sample = Self::empty(at);
        for pool in front.pools.all() {
            let database = pool.key().database.clone();
            let stats = pool.snapshot().stats;
            sample.databases.entry(database).or_default().merge(&stats);
        }
        sample.all = front.pools.totals();
        sample
    }
}

impl Sampler {
    /// Counts from now.
    pub fn new() -> Self {
        let start = Arc::new(Sample::empty(Instant::now()));
        Self {
            samples: Mutex::new(Samples {
                older: start.clone(),
                newer: start,
            }),
        }
    }

    /// A period has ended.
    pub fn tick(&self, front: &Front, now: Instant) {
        let sample = Arc::new(Sample::take(front, now));
        let mut samples = self.samples.lock();
        samples.older = std::mem::replace(&mut samples.newer, sample);
    }

    /// What averages of this moment are to be compared with.
    pub(super) fn base(&self) -> Arc<Sample> {
        self.samples.lock().older.clone()
    }

    /// The last period in one line, for the log.
    pub fn log_line(&self) -> String {
        let samples = self.samples.lock();
        let (older, newer) = (&samples.older, &samples.newer);
        let averages = Averages::between(&older.all, &newer.all, newer.at.duration_since(older.at));
        let mut line = String::new();
        let _ = write!(
            line,
            "{} transactions/s, {} queries/s, in {} B/s, out {} B/s, transaction {} us, query {} us, wait {} us",
            averages.xact_count,
            averages.query_count,
            averages.bytes_received,
            averages.bytes_sent,
            averages.xact_time,
            averages.query_time,
            averages.wait_time,
        );
        line
    }
}

impl Default for Sampler {
    fn default() -> Self {
        Self::new()
    }
}

/// Averages over a time: counts and bytes per second, times in microseconds for each one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Averages {
    pub(super) server_assignment_count: u64,
    pub(super) xact_count: u64,
    pub(super) query_count: u64,
    pub(super) bytes_received: u64,
    pub(super) bytes_sent: u64,
    pub(super) xact_time: u64,
    pub(super) query_time: u64,
    pub(super) wait_time: u64,
    pub(super) client_parse_count: u64,
    pub(super) server_parse_count: u64,
    pub(super) bind_count: u64,
}

impl Averages {
    /// From one moment to a later one. Totals of a database go down when a pool of it is removed; that counts as none.
    pub(super) fn between(old: &PoolStats, new: &PoolStats, time: Duration) -> Self {
        let micros = time.as_micros();
        if micros == 0 {
            return Self::default();
        }
        let grown = |count: fn(&PoolStats) -> u64| count(new).saturating_sub(count(old));
        let rate = |count| {
            let per_second = u128::from(grown(count)) * 1_000_000 / micros;
            u64::try_from(per_second).unwrap_or(u64::MAX)
        };
        let each = |total, count| grown(total).checked_div(grown(count)).unwrap_or(0);
        Self {
            server_assignment_count: rate(|stats| stats.server_assignment_count),
            xact_count: rate(|stats| stats.xact_count),
            query_count: rate(|stats| stats.query_count),
            bytes_received: rate(|stats| stats.bytes_received),
            bytes_sent: rate(|stats| stats.bytes_sent),
            xact_time: each(|stats| stats.xact_time, |stats| stats.xact_count),
            query_time: each(|stats| stats.query_time, |stats| stats.query_count),
            wait_time: each(|stats| stats.wait_time, |stats| stats.server_assignment_count),
            client_parse_count: rate(|stats| stats.client_parse_count),
            server_parse_count: rate(|stats| stats.server_parse_count),
            bind_count: rate(|stats| stats.bind_count),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::House;
    use crate::config::Config;

    fn stats(queries: u64, micros: u64) -> PoolStats {
        PoolStats {
            query_count: queries,
            query_time: micros,
            bytes_sent: 1000 * queries,
            ..PoolStats::default()
        }
    }

    #[test]
    fn averages_are_per_second_and_times_per_query() {
        let averages = Averages::between(&stats(10, 100), &stats(40, 400), Duration::from_secs(3));
        assert_eq!(
            (averages.query_count, averages.query_time, averages.bytes_sent),
            (10, 10, 10_000)
        );
        assert_eq!(averages.xact_time, 0);
        let no_time = Averages::between(&stats(0, 0), &stats(5, 5), Duration::ZERO);
        assert_eq!(no_time, Averages::default());
        let removed = Averages::between(&stats(9, 9), &stats(0, 0), Duration::from_secs(1));
        assert_eq!(removed, Averages::default());
    }

    #[test]
    fn averages_reach_back_at_least_one_period() {
        let front = Front::new(House::new(Config::default()).unwrap());
        let sampler = Sampler::new();
        let start = sampler.base().at;
        let at = |seconds| start + Duration::from_secs(seconds);
        sampler.tick(&front, at(60));
        assert_eq!(sampler.base().at, start);
        sampler.tick(&front, at(120));
        assert_eq!(sampler.base().at, at(60));
        assert!(sampler.log_line().starts_with("0 transactions/s, 0 queries/s"));
    }
}

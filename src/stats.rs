//! Passive counters and histograms.
//!
//! Nothing here is shared and nothing here is atomic. A client collects what it did in a [`Tally`]; its pool adds the
//! tally to its [`PoolStats`] under the lock that it holds anyway; readers take a copy of the whole, so that all its
//! numbers belong to one moment.

use std::time::Duration;

/// Upper bounds of the buckets in microseconds: 1, 2.5 and 5 of every decade from 100 µs to 100 s.
const BOUNDS_US: [u64; BOUNDS] = [
    100,
    250,
    500,
    1_000,
    2_500,
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
];
const BOUNDS: usize = 19;
/// One bucket more than bounds: the last takes what is slower than all of them.
const BUCKETS: usize = BOUNDS + 1;

/// Upper bounds of a [`Histogram`]'s buckets in seconds; the bucket behind the last bound has none.
pub const HISTOGRAM_BOUNDS: [f64; BOUNDS] = [
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
    25.0, 50.0, 100.0,
];

fn bucket(us: u64) -> usize {
    BOUNDS_US.partition_point(|bound| *bound < us)
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// How often something took how long.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    counts: [u64; BUCKETS],
    sum_us: u64,
}

impl Histogram {
    /// Counts one that took `time`.
    pub fn observe(&mut self, time: Duration) {
        let us = micros(time);
        self.counts[bucket(us)] += 1;
        self.sum_us = self.sum_us.saturating_add(us);
    }

    fn absorb(&mut self, brief: &Brief) {
        for (mine, theirs) in self.counts.iter_mut().zip(brief.counts) {
            *mine += u64::from(theirs);
        }
        self.sum_us = self.sum_us.saturating_add(brief.sum_us);
    }

    /// Adds another histogram, for totals over pools.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.counts.iter_mut().zip(other.counts) {
            *mine += theirs;
        }
        self.sum_us = self.sum_us.saturating_add(other.sum_us);
    }

    /// How many fell into each bucket; the last one takes those above every bound.
    pub fn counts(&self) -> &[u64] {
        &self.counts
    }

    /// How many were counted.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// All their times together, in seconds.
    pub fn sum_seconds(&self) -> f64 {
        self.sum_us as f64 / 1e6
    }
}

/// A histogram on its way into a larger one: narrow, because every client has two. See [`Tally::is_full`].
#[derive(Clone, Debug, Default)]
struct Brief {
    counts: [u8; BUCKETS],
    sum_us: u64,
}

impl Brief {
    fn observe(&mut self, time: Duration) {
        let us = micros(time);
        let count = &mut self.counts[bucket(us)];
        *count = count.saturating_add(1);
        self.sum_us = self.sum_us.saturating_add(us);
    }
}

/// The class of an error that a server reported, by the first two characters of its SQLSTATE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorClass {
    /// 22, 23: the data, or a constraint on it.
    Data,
    /// 25, 34, 40 and the like: the transaction (serialization failures, deadlocks, aborted blocks).
    Transaction,
    /// 42: syntax, missing objects, missing privileges.
    Statement,
    /// 53, 54: out of something.
    Resources,
    /// 57: cancelled or shut down.
    Intervention,
    /// All others.
    Other,
}

impl ErrorClass {
    /// The labels under which errors are counted, in the order of [`PoolStats::errors`].
    pub const LABELS: [&'static str; 6] = [
        "data",
        "transaction",
        "statement",
        "resources",
        "intervention",
        "other",
    ];

    /// The class of a SQLSTATE.
    pub fn of(sqlstate: &[u8]) -> Self {
        match sqlstate.get(..2) {
            Some(b"22" | b"23") => Self::Data,
            Some(b"25" | b"2D" | b"34" | b"40") => Self::Transaction,
            Some(b"42" | b"26") => Self::Statement,
            Some(b"53" | b"54") => Self::Resources,
            Some(b"57") => Self::Intervention,
            _ => Self::Other,
        }
    }
}

/// What one client did during one lease, or since it last reported.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Bytes received from the client.
    pub bytes_received: u64,
    /// Bytes sent to the client.
    pub bytes_sent: u64,
    /// Parse messages from the client.
    pub client_parses: u32,
    /// Parse messages sent to the server.
    pub server_parses: u32,
    /// Bind messages.
    pub binds: u32,
    queries: u8,
    transactions: u8,
    errors: [u16; ErrorClass::LABELS.len()],
    query_times: Brief,
    transaction_times: Brief,
}

impl Tally {
    /// Counts a query that took `time`.
    pub fn query(&mut self, time: Duration) {
        self.queries = self.queries.saturating_add(1);
        self.query_times.observe(time);
    }

    /// Counts a transaction that took `time`.
    pub fn transaction(&mut self, time: Duration) {
        self.transactions = self.transactions.saturating_add(1);
        self.transaction_times.observe(time);
    }

    /// Counts an error that the server reported.
    pub fn error(&mut self, class: ErrorClass) {
        let count = &mut self.errors[class as usize];
        *count = count.saturating_add(1);
    }

    /// Whether it has to be reported before it can count much more: it is small, and nearly always holds one transaction.
    pub fn is_full(&self) -> bool {
        let has_many_errors = self.errors.iter().any(|count| *count >= u16::MAX / 2);
        has_many_errors || self.queries.max(self.transactions) >= u8::MAX / 2
    }
}

/// Totals of one pool since it began. Times are in microseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PoolStats {
    /// Transactions (`SHOW STATS`).
    pub xact_count: u64,
    /// Queries (`SHOW STATS`).
    pub query_count: u64,
    /// How often a client was given a server (`SHOW STATS`).
    pub server_assignment_count: u64,
    /// Bytes received from clients (`SHOW STATS`).
    pub bytes_received: u64,
    /// Bytes sent to clients (`SHOW STATS`).
    pub bytes_sent: u64,
    /// Time in transactions (`SHOW STATS`).
    pub xact_time: u64,
    /// Time in queries (`SHOW STATS`).
    pub query_time: u64,
    /// Time that clients waited for a server (`SHOW STATS`; `requests_wait_ms` of `psycopg_pool`).
    pub wait_time: u64,
    /// Parse messages from clients (`SHOW STATS`).
    pub client_parse_count: u64,
    /// Parse messages to servers (`SHOW STATS`).
    pub server_parse_count: u64,
    /// Bind messages (`SHOW STATS`).
    pub bind_count: u64,
    /// Requests for a server (`psycopg_pool`).
    pub requests_num: u64,
    /// Requests that had to queue (`psycopg_pool`).
    pub requests_queued: u64,
    /// Requests that failed: timed out, too many waiting, no server to be had (`psycopg_pool`).
    pub requests_errors: u64,
    /// Time that servers were leased (`usage_ms` of `psycopg_pool`).
    pub usage_time: u64,
    /// Servers that came back broken (`psycopg_pool`).
    pub returns_bad: u64,
    /// Attempts to connect (`psycopg_pool`).
    pub connections_num: u64,
    /// Time spent connecting (`connections_ms` of `psycopg_pool`).
    pub connections_time: u64,
    /// Attempts to connect that failed (`psycopg_pool`).
    pub connections_errors: u64,
    /// Servers found dead while nobody used them (`psycopg_pool`).
    pub connections_lost: u64,
    /// Errors that servers reported to clients, by [`ErrorClass`].
    pub errors: [u64; ErrorClass::LABELS.len()],
    /// How long requests waited; those served at once count as zero.
    pub wait: Histogram,
    /// How long queries took.
    pub query: Histogram,
    /// How long transactions took.
    pub transaction: Histogram,
    /// How long successful attempts to connect took, the server's login included.
    pub connect: Histogram,
    /// How long clients' logins took.
    pub login: Histogram,
}

impl PoolStats {
    /// Adds what a client did, and empties its tally.
    pub fn absorb(&mut self, tally: &mut Tally) {
        let tally = std::mem::take(tally);
        self.bytes_received += tally.bytes_received;
        self.bytes_sent += tally.bytes_sent;
        self.client_parse_count += u64::from(tally.client_parses);
        self.server_parse_count += u64::from(tally.server_parses);
        self.bind_count += u64::from(tally.binds);
        if tally.queries > 0 {
            self.query_count += u64::from(tally.queries);
            self.query_time += tally.query_times.sum_us;
            self.query.absorb(&tally.query_times);
        }
        if tally.transactions > 0 {
            self.xact_count += u64::from(tally.transactions);
            self.xact_time += tally.transaction_times.sum_us;
            self.transaction.absorb(&tally.transaction_times);
        }
        for (mine, theirs) in self.errors.iter_mut().zip(tally.errors) {
            *mine += u64::from(theirs);
        }
    }

    /// Adds another pool's totals.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.counters_mut().into_iter().zip(other.clone().counters_mut()) {
            *mine += *theirs;
        }
        for (mine, theirs) in self.errors.iter_mut().zip(other.errors) {
            *mine += theirs;
        }
        self.wait.merge(&other.wait);
        self.query.merge(&other.query);
        self.transaction.merge(&other.transaction);
        self.connect.merge(&other.connect);
        self.login.merge(&other.login);
    }

    /// Counts a server given to a client that waited so long for it.
    pub(crate) fn assigned(&mut self, waited: Duration) {
        self.server_assignment_count += 1;
        self.wait_time = self.wait_time.saturating_add(micros(waited));
        self.wait.observe(waited);
    }

    /// Counts the end of a lease.
    pub(crate) fn used(&mut self, time: Duration) {
        self.usage_time = self.usage_time.saturating_add(micros(time));
    }

    /// Counts an attempt to connect.
    pub(crate) fn connected(&mut self, time: Duration, success: bool) {
        self.connections_num += 1;
        self.connections_time = self.connections_time.saturating_add(micros(time));
        if success {
            self.connect.observe(time);
        } else {
            self.connections_errors += 1;
        }
    }

    fn counters_mut(&mut self) -> [&mut u64; 20] {
        [
            &mut self.xact_count,
            &mut self.query_count,
            &mut self.server_assignment_count,
            &mut self.bytes_received,
            &mut self.bytes_sent,
            &mut self.xact_time,
            &mut self.query_time,
            &mut self.wait_time,
            &mut self.client_parse_count,
            &mut self.server_parse_count,
            &mut self.bind_count,
            &mut self.requests_num,
            &mut self.requests_queued,
            &mut self.requests_errors,
            &mut self.usage_time,
            &mut self.returns_bad,
            &mut self.connections_num,
            &mut self.connections_time,
            &mut self.connections_errors,
            &mut self.connections_lost,
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_in_seconds_are_the_bounds_in_microseconds() {
        for (us, seconds) in BOUNDS_US.iter().zip(HISTOGRAM_BOUNDS) {
            assert!((*us as f64 / 1e6 - seconds).abs() < 1e-12);
        }
    }

    #[test]
    fn a_time_on_a_bound_belongs_below_it() {
        let mut histogram = Histogram::default();
        for us in [0, 100, 101, 100_000_000, 100_000_001] {
            histogram.observe(Duration::from_micros(us));
        }
        assert_eq!(histogram.counts()[0], 2);
        assert_eq!(histogram.counts()[1], 1);
        assert_eq!(histogram.counts()[BOUNDS - 1], 1);
        assert_eq!(histogram.counts()[BOUNDS], 1);
        assert_eq!(histogram.count(), 5);
    }

    #[test]
    fn a_tally_arrives_whole_and_totals_add_up() {
        let mut tally = Tally {
            bytes_received: 7,
            binds: 2,
            ..Tally::default()
        };
        tally.query(Duration::from_millis(3));
        tally.query(Duration::from_millis(4));
        tally.transaction(Duration::from_millis(9));
        tally.error(ErrorClass::of(b"23505"));
        let mut stats = PoolStats::default();
        stats.absorb(&mut tally);
        assert_eq!(
            (stats.query_count, stats.query_time, stats.query.count()),
            (2, 7000, 2)
        );
        assert_eq!((stats.xact_count, stats.xact_time), (1, 9000));
        assert_eq!(stats.errors, [1, 0, 0, 0, 0, 0]);
        let mut total = stats.clone();
        total.merge(&stats);
        assert_eq!(
            (total.query_count, total.bind_count, total.bytes_received),
            (4, 4, 14)
        );
        assert_eq!(total.query.count(), 4);
    }
}

//! SHOW STATS, `STATS_TOTALS`, `STATS_AVERAGES` and TOTALS.

use std::time::Duration;

use tokio::time::Instant;

use crate::admin::Console;
use crate::admin::rows::{Cell, Column, Row, numeric, text};
use crate::admin::sampler::{Averages, Sample};
use crate::client::Front;
use crate::stats::PoolStats;

/// `PgBouncer`'s columns, and behind them one that it has given up, which older exporters look for.
pub(super) const STATS: [Column; 24] = [
    text("database"),
    numeric("total_server_assignment_count"),
    numeric("total_xact_count"),
    numeric("total_query_count"),
    numeric("total_received"),
    numeric("total_sent"),
    numeric("total_xact_time"),
    numeric("total_query_time"),
    numeric("total_wait_time"),
    numeric("total_client_parse_count"),
    numeric("total_server_parse_count"),
    numeric("total_bind_count"),
    numeric("avg_server_assignment_count"),
    numeric("avg_xact_count"),
    numeric("avg_query_count"),
    numeric("avg_recv"),
    numeric("avg_sent"),
    numeric("avg_xact_time"),
    numeric("avg_query_time"),
    numeric("avg_wait_time"),
    numeric("avg_client_parse_count"),
    numeric("avg_server_parse_count"),
    numeric("avg_bind_count"),
    numeric("total_requests"),
];

pub(super) const TOTALS_BY_DATABASE: [Column; 12] = [
    text("database"),
    numeric("server_assignment_count"),
    numeric("xact_count"),
    numeric("query_count"),
    numeric("bytes_received"),
    numeric("bytes_sent"),
    numeric("xact_time"),
    numeric("query_time"),
    numeric("wait_time"),
    numeric("client_parse_count"),
    numeric("server_parse_count"),
    numeric("bind_count"),
];

pub(super) const AVERAGES: [Column; 12] = [
    text("database"),
    numeric("server_assignment_count"),
    numeric("xact_count"),
    numeric("query_count"),
    numeric("bytes_received"),
    numeric("bytes_sent"),
    numeric("xact_time"),
    numeric("query_time"),
    numeric("wait_time"),
    numeric("avg_client_parse_count"),
    numeric("avg_server_parse_count"),
    numeric("avg_bind_count"),
];

pub(super) const TOTALS: [Column; 2] = [text("name"), numeric("value")];

/// The rows of SHOW TOTALS, each once with `total_` and once with `avg_` before it.
const NAMES: [&str; 11] = [
    "server_assignment_count",
    "xact_count",
    "query_count",
    "client_bytes",
    "server_bytes",
    "xact_time",
    "query_time",
    "wait_time",
    "ps_client_parse_count",
    "ps_server_parse_count",
    "ps_bind_count",
];

/// In the order that all these tables have.
fn totals_of(stats: &PoolStats) -> [u64; NAMES.len()] {
    [
        stats.server_assignment_count,
        stats.xact_count,
        stats.query_count,
        stats.bytes_received,
        stats.bytes_sent,
        stats.xact_time,
        stats.query_time,
        stats.wait_time,
        stats.client_parse_count,
        stats.server_parse_count,
        stats.bind_count,
    ]
}

fn averages_of(averages: &Averages) -> [u64; NAMES.len()] {
    [
        averages.server_assignment_count,
        averages.xact_count,
        averages.query_count,
        averages.bytes_received,
        averages.bytes_sent,
        averages.xact_time,
        averages.query_time,
        averages.wait_time,
        averages.client_parse_count,
        averages.server_parse_count,
        averages.bind_count,
    ]
}

/// This moment, and what it is compared with; after no time at all where averages are turned off.
struct Comparison {
    now: Sample,
    base: std::sync::Arc<Sample>,
    time: Duration,
}

impl Comparison {
    fn new(console: &Console) -> Self {
        let now = Sample::take(&console.front, Instant::now());
        let base = console.sampler.base();
        let off = console.front.house().config.settings.stats_period.is_zero();
        let time = if off {
            Duration::ZERO
        } else {
            now.at.duration_since(base.at)
        };
        Self { now, base, time }
    }

    fn averages(&self, database: &str, stats: &PoolStats) -> [u64; NAMES.len()] {
        let none = PoolStats::default();
        let old = self.base.databases.get(database).unwrap_or(&none);
        averages_of(&Averages::between(old, stats, self.time))
    }
}

fn row(database: &str, numbers: impl IntoIterator<Item = u64>) -> Row {
    let mut row: Row = vec![database.into()];
    row.extend(numbers.into_iter().map(Cell::Number));
    row
}

pub(super) fn stats(console: &Console) -> Vec<Row> {
    let comparison = Comparison::new(console);
    let databases = comparison.now.databases.iter();
    let rows = databases.map(|(name, stats)| {
        let numbers = totals_of(stats)
            .into_iter()
            .chain(comparison.averages(name, stats));
        row(name, numbers.chain([stats.query_count]))
    });
    rows.collect()
}

pub(super) fn averages(console: &Console) -> Vec<Row> {
    let comparison = Comparison::new(console);
    let databases = comparison.now.databases.iter();
    let rows = databases.map(|(name, stats)| row(name, comparison.averages(name, stats)));
    rows.collect()
}

pub(super) fn totals_by_database(front: &Front) -> Vec<Row> {
    let sample = Sample::take(front, Instant::now());
    let rows = sample.databases.iter();
    rows.map(|(name, stats)| row(name, totals_of(stats))).collect()
}

pub(super) fn totals(console: &Console) -> Vec<Row> {
    let Comparison { now, base, time } = Comparison::new(console);
    let averages = Averages::between(&base.all, &now.all, time);
    let rows = |prefix: &'static str, numbers: [u64; NAMES.len()]| {
        let pairs = NAMES.into_iter().zip(numbers);
        pairs.map(move |(name, number)| row(&format!("{prefix}_{name}"), [number]))
    };
    let totals = rows("total", totals_of(&now.all));
    totals.chain(rows("avg", averages_of(&averages))).collect()
}

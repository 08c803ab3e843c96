//! The tables that SHOW answers with. Names, order and types of their columns are `PgBouncer`'s (1.25).

mod catalog;
mod listeners;
mod pools;
mod process;
mod sockets;
mod stats;

use super::Console;
use super::rows::{Column, Row};

/// A table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Show {
    ActiveSockets,
    Clients,
    Config,
    Databases,
    DnsHosts,
    DnsZones,
    Listeners,
    Lists,
    Mem,
    PeerPools,
    Peers,
    Pools,
    Servers,
    Sockets,
    State,
    Stats,
    StatsAverages,
    StatsTotals,
    Totals,
    Users,
    Version,
}

/// Every table by the word behind SHOW.
pub(super) const TABLES: [(&str, Show); 21] = [
    ("active_sockets", Show::ActiveSockets),
    ("clients", Show::Clients),
    ("config", Show::Config),
    ("databases", Show::Databases),
    ("dns_hosts", Show::DnsHosts),
    ("dns_zones", Show::DnsZones),
    ("listeners", Show::Listeners),
    ("lists", Show::Lists),
    ("mem", Show::Mem),
    ("peer_pools", Show::PeerPools),
    ("peers", Show::Peers),
    ("pools", Show::Pools),
    ("servers", Show::Servers),
    ("sockets", Show::Sockets),
    ("state", Show::State),
    ("stats", Show::Stats),
    ("stats_averages", Show::StatsAverages),
    ("stats_totals", Show::StatsTotals),
    ("totals", Show::Totals),
    ("users", Show::Users),
    ("version", Show::Version),
];

impl Show {
    /// The table of that name.
    pub(super) fn find(name: &str) -> Option<Self> {
        let found = TABLES.iter().find(|(have, _)| have.eq_ignore_ascii_case(name));
        found.map(|(_, table)| *table)
    }

    /// Its columns.
    pub(super) fn columns(self) -> &'static [Column] {
        match self {
            Self::ActiveSockets | Self::Sockets => &sockets::SOCKETS,
            Self::Clients => &sockets::CLIENTS,
            Self::Config => &process::CONFIG,
            Self::Databases => &catalog::DATABASES,
            Self::DnsHosts => &process::DNS_HOSTS,
            Self::DnsZones => &process::DNS_ZONES,
            Self::Listeners => &listeners::LISTENERS,
            Self::Lists => &catalog::LISTS,
            Self::Mem => &process::MEM,
            Self::PeerPools => &pools::PEER_POOLS,
            Self::Peers => &pools::PEERS,
            Self::Pools => &pools::POOLS,
            Self::Servers => &sockets::SOCKETS[..sockets::WITHOUT_BUFFERS],
            Self::State => &process::STATE,
            Self::Stats => &stats::STATS,
            Self::StatsAverages => &stats::AVERAGES,
            Self::StatsTotals => &stats::TOTALS_BY_DATABASE,
            Self::Totals => &stats::TOTALS,
            Self::Users => &catalog::USERS,
            Self::Version => &process::VERSION,
        }
    }

    /// Its rows at this moment.
    pub(super) fn rows(self, console: &Console) -> Vec<Row> {
        match self {
            Self::ActiveSockets => sockets::sockets(&console.front, true),
            Self::Sockets => sockets::sockets(&console.front, false),
            Self::Clients => sockets::clients(&console.front),
            Self::Servers => sockets::servers(&console.front),
            Self::Config => process::config(&console.front),
            Self::Databases => catalog::databases(console),
            Self::DnsHosts => process::dns_hosts(&console.front),
            Self::Listeners => listeners::listeners(&console.front),
            Self::Lists => catalog::lists(&console.front),
            Self::Mem => process::mem(&console.front),
            // There are no peers: any howdah can serve any client. And the system's resolver has no zones.
            Self::PeerPools | Self::Peers | Self::DnsZones => Vec::new(),
            Self::Pools => pools::pools(console),
            Self::State => process::state(&console.front),
            Self::Stats => stats::stats(console),
            Self::StatsAverages => stats::averages(console),
            Self::StatsTotals => stats::totals_by_database(&console.front),
            Self::Totals => stats::totals(console),
            Self::Users => catalog::users(&console.front),
            Self::Version => process::version(),
        }
    }
}

#[cfg(test)]
mod tests;

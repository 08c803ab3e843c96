use super::super::tests::{client, console, open_pool};
use super::*;
use crate::admin::rows::{Cell, Type};

/// Names and types as `PgBouncer` 1.25.2 has them: i is int4, q is int8, N is numeric, the rest is text.
const PGBOUNCER: [(Show, &str); 18] = [
    (
        Show::Databases,
        "name host port:i database force_user pool_size:i min_pool_size:i reserve_pool_size:i server_lifetime:i \
         pool_mode load_balance_hosts max_connections:i current_connections:i max_client_connections:i \
         current_client_connections:i paused:i disabled:i",
    ),
    (
        Show::Pools,
        "database user cl_active:i cl_waiting:i cl_active_cancel_req:i cl_waiting_cancel_req:i sv_active:i \
         sv_active_cancel:i sv_being_canceled:i sv_idle:i sv_used:i sv_tested:i sv_login:i maxwait:i maxwait_us:i \
         pool_mode load_balance_hosts",
    ),
    (
        Show::Clients,
        "type user database replication state addr port:i local_addr local_port:i connect_time request_time wait:i \
         wait_us:i close_needed:i ptr link remote_pid:i tls application_name prepared_statements:i id:i",
    ),
    (
        Show::Servers,
        "type user database replication state addr port:i local_addr local_port:i connect_time request_time wait:i \
         wait_us:i close_needed:i ptr link remote_pid:i tls application_name prepared_statements:i id:i",
    ),
    (
        Show::Sockets,
        "type user database replication state addr port:i local_addr local_port:i connect_time request_time wait:i \
         wait_us:i close_needed:i ptr link remote_pid:i tls application_name prepared_statements:i id:i recv_pos:i \
         pkt_pos:i pkt_remain:i send_pos:i send_remain:i pkt_avail:i send_avail:i",
    ),
    (
        Show::Users,
        "name pool_size reserve_pool_size pool_mode max_user_connections:i current_connections:i \
         max_user_client_connections:i current_client_connections:i",
    ),
    (
        Show::Stats,
        "database total_server_assignment_count:N total_xact_count:N total_query_count:N total_received:N \
         total_sent:N total_xact_time:N total_query_time:N total_wait_time:N total_client_parse_count:N \
         total_server_parse_count:N total_bind_count:N avg_server_assignment_count:N avg_xact_count:N \
         avg_query_count:N avg_recv:N avg_sent:N avg_xact_time:N avg_query_time:N avg_wait_time:N \
         avg_client_parse_count:N avg_server_parse_count:N avg_bind_count:N",
    ),
    (
        Show::StatsTotals,
        "database server_assignment_count:N xact_count:N query_count:N bytes_received:N bytes_sent:N xact_time:N \
         query_time:N wait_time:N client_parse_count:N server_parse_count:N bind_count:N",
    ),
    (
        Show::StatsAverages,
        "database server_assignment_count:N xact_count:N query_count:N bytes_received:N bytes_sent:N xact_time:N \
         query_time:N wait_time:N avg_client_parse_count:N avg_server_parse_count:N avg_bind_count:N",
    ),
    (Show::Totals, "name value:N"),
    (Show::Lists, "list items:i"),
    (Show::Config, "key value default changeable"),
    (Show::State, "key value"),
    (Show::Version, "version"),
    (Show::Mem, "name size:i used:i free:i memtotal:i"),
    (Show::DnsHosts, "hostname ttl:q addrs"),
    (Show::DnsZones, "zonename serial:q count:i"),
    (Show::Peers, "peer_id:i host port:i pool_size:i"),
];

/// What howdah has behind `PgBouncer`'s columns: for exporters of older versions of it, and for what is its own.
const EXTRA: [(Show, &str); 4] = [
    (Show::Clients, "pin pin_statement pin_age:i"),
    (Show::Databases, "reserve_pool:i awaiting_login:i"),
    (Show::Pools, "credentials"),
    (Show::Stats, "total_requests:N"),
];

fn written(columns: &[Column]) -> String {
    let column = |column: &Column| {
        // Ids are wider here than in PgBouncer, on purpose.
        let kind = match column.kind {
            Type::Text => "",
            Type::Int8 if column.name == "id" => ":i",
            Type::Int4 => ":i",
            Type::Int8 => ":q",
            Type::Numeric => ":N",
        };
        format!("{}{kind}", column.name)
    };
    columns.iter().map(column).collect::<Vec<_>>().join(" ")
}

#[test]
fn columns_are_those_of_pgbouncer() {
    for (table, columns) in PGBOUNCER {
        let extra = EXTRA.iter().find(|(have, _)| *have == table);
        let wanted = match extra {
            Some((_, extra)) => format!("{columns} {extra}"),
            None => columns.to_owned(),
        };
        assert_eq!(written(table.columns()), wanted, "{table:?}");
    }
}

#[tokio::test]
async fn every_row_is_as_wide_as_its_table() {
    let (console, _orders) = console();
    open_pool(&console);
    let _client = client(&console);
    for (name, table) in TABLES {
        assert_eq!(Show::find(&name.to_uppercase()), Some(table));
        let empty = [
            Show::ActiveSockets,
            Show::DnsHosts,
            Show::DnsZones,
            Show::Listeners,
            Show::PeerPools,
            Show::Peers,
            Show::Servers,
        ];
        let rows = table.rows(&console);
        assert_eq!(rows.is_empty(), empty.contains(&table), "{name}");
        for row in rows {
            assert_eq!(row.len(), table.columns().len(), "{name}");
            for (cell, column) in row.iter().zip(table.columns()) {
                let fits = match cell {
                    Cell::Null => true,
                    Cell::Text(_) => column.kind == Type::Text,
                    Cell::Number(_) => column.kind != Type::Text,
                };
                assert!(fits, "{name}.{}: {cell:?}", column.name);
            }
        }
    }
}

#[tokio::test]
async fn a_database_is_shown_with_its_own_values() {
    let (console, _orders) = console();
    let rows = Show::Databases.rows(&console);
    let cell = |name: &str| {
        let at = catalog::DATABASES.iter().position(|column| column.name == name);
        rows[0][at.expect(name)].clone()
    };
    assert_eq!(cell("host"), "127.0.0.1".into());
    assert_eq!(cell("port"), 1u32.into());
    assert_eq!(cell("pool_size"), 7u32.into());
    assert_eq!(cell("reserve_pool"), 0u32.into());
    assert_eq!(cell("max_connections"), 9u32.into());
    assert_eq!(cell("server_lifetime"), 3600u32.into());
    assert_eq!(cell("pool_mode"), Cell::Null);
}

#[tokio::test]
async fn totals_have_a_row_for_each_number() {
    let (console, _orders) = console();
    let rows = Show::Totals.rows(&console);
    assert_eq!(rows.len(), 22);
    assert_eq!(rows[0], ["total_server_assignment_count".into(), Cell::Number(0)]);
    assert_eq!(rows[21][0], "avg_ps_bind_count".into());
}

//! Every setting: one row each, and nothing about it anywhere else.

use std::time::Duration;

use super::choice::{
    AuthType, ChannelBinding, Listen, ListenLost, LogFormat, Opaque, PoolMode, SessionState, SslMode,
    SslNegotiation,
};
use super::concealed::LdapOptions;
use super::protocols::{Protocols, TlsVersions};
use super::quantity::{Size, Time};
use super::table::{Change, Row, Scope, settings};
use super::value::{Count, Flag, Kind, Names, Octal, Port, Raw, Text};

settings! {
    process {
        "Listening" {
            /// Addresses to listen on for TCP; `*` stands for all of them, an empty list for none.
            listen_addr: Names(Vec<String>) = "127.0.0.1", Restart;
            /// The TCP port. 0 leaves TCP out; then there must be a `unix_socket_dir`.
            listen_port: Port(u16) = "6432", Restart;
            /// Directory for a Unix socket, which is called `.s.PGSQL.<listen_port>` as clients expect. Empty: none.
            unix_socket_dir: Text(String) = "", Restart;
            /// Permissions of that socket, always in octal digits.
            unix_socket_mode: Octal(u32) = "0777", Restart;
            /// Group that shall own that socket. Empty: the group of the process.
            unix_socket_group: Text(String) = "", Restart;
            /// How many connections the kernel may hold that howdah has not accepted yet.
            listen_backlog: Count(u32) = "1024", Restart;
            /// Lets several howdah processes listen on the same port; the kernel spreads clients over them.
            so_reuseport: Flag(bool) = "false", Restart;
        }
        "Clients" {
            /// Clients that may be connected at once, over all databases. Past it a login is refused (53300).
            /// 0: without limit.
            max_client_conn: Count(u32) = "1000", Live;
            /// Connections of one address that may be logging in at once; one more is turned away unheard (53300). An IPv6
            /// address stands for its network of 64 bits. Those that come over a Unix socket have none and are not
            /// counted. Of all addresses together there may be `max_client_conn` and 50 more. 0: without limit, because
            /// behind a load balancer everybody has the same address.
            max_logins_per_address: Count(u32) = "0", Live;
            /// How long a client may take to log in. 0: without limit.
            client_login_timeout: Time(Duration) = "1min", Live;
            /// How long a cancel request may wait to be delivered to the server. 0: without limit.
            cancel_wait_timeout: Time(Duration) = "10s", Live;
            /// How long SIGTERM waits for clients to finish their transactions. Then who is left is told to go, and has
            /// 3 s more to read that. 0: without limit.
            drain_timeout: Time(Duration) = "0", Live;
            /// Startup parameters to accept and forget, for drivers that send what pooling cannot keep.
            ignore_startup_parameters: Names(Vec<String>) = "", Live;
            /// Accepted so that PgBouncer's settings can be carried over: howdah follows every parameter that the server
            /// reports, without being told.
            track_extra_parameters: Names(Vec<String>) = "", Live;
            /// Appends the client's address and port to `application_name`.
            application_name_add_host: Flag(bool) = "false", Live;
            /// Prepared statements that one client may hold. Past it a Parse is refused (53400). 0: without limit.
            max_client_prepared_statements: Count(u32) = "5000", Live;
            /// Memory for the texts of one client's prepared statements. Past it a Parse is refused. 0: without limit.
            max_client_prepared_bytes: Size(u64) = "16MB", Live;
        }
        "Authentication" {
            /// How clients prove who they are. `password` (PgBouncer's `plain`) sends the password as it is;
            /// `trust` asks for nothing. `cert` goes by the common name of their certificate, `peer` by who they are on
            /// this machine, `pam` and `ldap` let others judge their password; `hba` chooses by `auth_hba_file`.
            auth_type: AuthType(AuthType) = "scram-sha-256", Live;
            /// File with users and secrets in the format of PgBouncer's `userlist.txt`: `"name" "secret"`, where the
            /// secret is a password, an `md5…` hash or a `SCRAM-SHA-256$…` verifier. A relative path starts from
            /// the directory of the configuration file. Entries of `[users]` go before it. Empty: no such file.
            auth_file: Text(String) = "", Live;
            /// File with rules in the syntax of PostgreSQL's `pg_hba.conf`, for `auth_type = "hba"`. A relative path starts
            /// from the directory of the configuration file.
            auth_hba_file: Text(String) = "", Live;
            /// File with user name maps in the syntax of PostgreSQL's `pg_ident.conf`, for rules with `map=`. A relative
            /// path starts from the directory of the configuration file. Empty: no maps.
            auth_ident_file: Text(String) = "", Live;
            /// The service that PAM is asked under, which names a file in `/etc/pam.d`. A rule's `pamservice` goes
            /// before it.
            auth_pam_service: Text(String) = "howdah", Live;
            /// Where and how LDAP is asked, for `auth_type = "ldap"`: options as they stand in a rule for `ldap`, such
            /// as `ldapurl="ldap://ldap.example.org/dc=example,dc=org?uid?sub"`.
            auth_ldap_options: LdapOptions(LdapOptions) = "", Live;
            /// Certificates (PEM) of the authorities that LDAP servers are trusted by, where TLS is used. A relative path
            /// starts from the directory of the configuration file. Empty: those that the operating system trusts.
            auth_ldap_ca_file: Text(String) = "", Live;
            /// How long PAM, an LDAP server or the system may take to answer a question about a client. Past it
            /// the login is refused. 0: without limit.
            auth_answer_timeout: Time(Duration) = "10s", Live;
            /// Users who may do everything on the console, the database `howdah` (or `pgbouncer`).
            admin_users: Names(Vec<String>) = "", Live;
            /// Users who may look at the console (all of `SHOW`), and change nothing.
            stats_users: Names(Vec<String>) = "", Live;
        }
        "TLS for clients" {
            /// Whether clients use TLS: `disable` offers none; `allow` and `prefer` leave it to the client; `require` turns
            /// away who comes without; `verify-ca` and `verify-full` ask for a client certificate besides. Unix sockets
            /// neither have nor need it.
            client_tls_sslmode: SslMode(SslMode) = "disable", Live;
            /// The certificate that howdah shows to clients, in PEM, with the certificates that lead to its authority behind
            /// it. A relative path starts from the directory of the configuration file, here and below. A reload reads the
            /// files anew, for new connections.
            client_tls_cert_file: Text(String) = "", Live;
            /// The private key of that certificate, in PEM, without a passphrase.
            client_tls_key_file: Text(String) = "", Live;
            /// Certificates of the authorities that sign clients' certificates, in PEM. With it, a certificate that a client
            /// shows is verified, or the connection ends, whatever `client_tls_sslmode` is. Empty: no certificate is asked for.
            client_tls_ca_file: Text(String) = "", Live;
            /// Versions of TLS: `tlsv1.2`, `tlsv1.3` or both (`secure`, `all`). Older ones cannot be had.
            client_tls_protocols: Protocols(TlsVersions) = "secure", Live;
        }
        "Network" {
            /// Asks the kernel to watch over idle TCP connections, both of clients and of servers.
            tcp_keepalive: Flag(bool) = "true", Live;
            /// How long a connection is quiet before the first keepalive. 0: as the system has it.
            tcp_keepidle: Time(Duration) = "1min", Live;
            /// Time between keepalives. 0: as the system has it.
            tcp_keepintvl: Time(Duration) = "10s", Live;
            /// Keepalives without answer before the connection counts as lost. 0: as the system has it.
            tcp_keepcnt: Count(u32) = "6", Live;
            /// How long sent data may stay unacknowledged before the connection counts as lost (`TCP_USER_TIMEOUT`).
            /// 0: as the system has it.
            tcp_user_timeout: Time(Duration) = "0", Live;
            /// How long the answer for a host's name is used before the name is resolved anew.
            /// 0: for every connection.
            dns_max_ttl: Time(Duration) = "15s", Live;
        }
        "Logs and metrics" {
            /// `text` for people, `json` for machines.
            log_format: LogFormat(LogFormat) = "text", Restart;
            /// `error`, `warn`, `info`, `debug` or `trace`, or directives such as `info,howdah::pool=debug`.
            log_level: Text(String) = "info", Live;
            /// Writes a line for every login.
            log_connections: Flag(bool) = "true", Live;
            /// Writes a line for every disconnect, with its reason.
            log_disconnections: Flag(bool) = "true", Live;
            /// Writes a line for every error that howdah itself sends to a client.
            log_pooler_errors: Flag(bool) = "true", Live;
            /// Writes the figures of each `stats_period`.
            log_stats: Flag(bool) = "true", Live;
            /// The period that averages in `SHOW STATS` and in the log are taken over. 0: no averages.
            stats_period: Time(Duration) = "1min", Live;
            /// Address and port for Prometheus and health checks over HTTP, such as `127.0.0.1:9127`. Empty: none.
            metrics_addr: Text(String) = "", Restart;
        }
        "Process" {
            /// Threads that do the work. 0: one for every two CPUs that the process may use, and at least one; PostgreSQL and its clients need
            /// the rest.
            workers: Count(u32) = "0", Restart;
            /// File to write the process number to. Empty: none.
            pidfile: Text(String) = "", Restart;
        }
    }
    pool {
        "Authentication by a query" {
            /// The role as which howdah asks a server for the secrets of users who have none in `[users]` and
            /// `auth_file`. Its own secret, if the server wants one, stands there. Empty: nobody is asked.
            auth_user: Text(String) = "", Live, auth_user in [Database];
            /// The database, by its name in `[databases]`, on whose server that is asked. Empty: the one that the client
            /// wants. The console's own visitors can be looked up only if it is given.
            auth_dbname: Text(String) = "", Live, auth_dbname in [Database];
            /// The query: `$1` is the user's name, the first column the user, the second the secret in any form
            /// that `auth_file` has; NULL, an empty secret or no row at all lets nobody in.
            auth_query: Text(String) = "SELECT rolname, CASE WHEN rolvaliduntil OPERATOR(pg_catalog.<) pg_catalog.now() THEN NULL ELSE rolpassword END FROM pg_catalog.pg_authid WHERE rolname OPERATOR(pg_catalog.=) $1::pg_catalog.text AND rolcanlogin", Live, auth_query in [Database];
            /// How long an answer is used, also that there is no such user. For so long a changed password may still
            /// be taken in its old form. After a failed login the server is asked again, at most once a second for each
            /// user. 0: it is asked at every login.
            auth_query_ttl: Time(Duration) = "1min", Live, auth_query_ttl in [Database];
        }
        "Pools" {
            /// When a server goes back to the pool: when the client leaves (`session`), when its transaction ends
            /// (`transaction`), or after every statement (`statement`).
            pool_mode: PoolMode(PoolMode) = "transaction", Live, pool_mode in [Database User];
            /// Servers that a pool, one for each pair of database and user, may have. 0: without limit.
            default_pool_size: Count(u32) = "20", Live, pool_size in [Database User];
            /// Servers that a pool keeps open even when nobody needs them.
            min_pool_size: Count(u32) = "0", Live, min_pool_size in [Database User];
            /// Servers that a pool may have beyond its size while clients wait too long. 0: none.
            reserve_pool_size: Count(u32) = "0", Live, reserve_pool_size in [Database];
            /// How long a client waits before the reserve is used. 0: the reserve is not used.
            reserve_pool_timeout: Time(Duration) = "5s", Live, reserve_pool_timeout in [];
            /// Servers that all the pools of a database may have together. 0: without limit.
            max_db_connections: Count(u32) = "0", Live, max_db_connections in [Database];
            /// Servers that all the pools of a user may have together. 0: without limit.
            max_user_connections: Count(u32) = "0", Live, max_user_connections in [User];
            /// Clients that may be connected to a database. 0: without limit.
            max_db_client_connections: Count(u32) = "0", Live, max_db_client_connections in [Database];
            /// Clients that may be connected as a user. 0: without limit.
            max_user_client_connections: Count(u32) = "0", Live, max_user_client_connections in [User];
            /// Clients that may wait for a server of a pool; one more is refused at once (53300). 0: without limit.
            max_waiting: Count(u32) = "0", Live, max_waiting in [Database User];
            /// How long a client may wait for a server before it is disconnected. 0: without limit.
            query_wait_timeout: Time(Duration) = "2min", Live, query_wait_timeout in [Database User];
            /// How long a client waits before a NOTICE tells it why. 0: never.
            query_wait_notify: Time(Duration) = "5s", Live, query_wait_notify in [];
        }
        "Servers" {
            /// How long a server may be idle before it is closed, down to `min_pool_size`. 0: without limit.
            server_idle_timeout: Time(Duration) = "10min", Live, server_idle_timeout in [];
            /// How old a server may grow; it is closed once nobody uses it. Each server draws 95 to 100 % of it, so
            /// that they do not all end at once. 0: a server is used once, then closed.
            server_lifetime: Time(Duration) = "1h", Live, server_lifetime in [Database];
            /// How long connecting and logging in to a server may take. 0: without limit.
            server_connect_timeout: Time(Duration) = "15s", Live, server_connect_timeout in [Database];
            /// The longest pause between attempts to connect. Pauses grow from 1 s by doubling, unlike PgBouncer's,
            /// which are all of this length.
            server_login_retry: Time(Duration) = "15s", Live, server_login_retry in [];
            /// Servers that a pool may be connecting at once. 0: without limit.
            max_parallel_connects: Count(u32) = "4", Live, max_parallel_connects in [];
            /// SQL to run on every new server. When it fails, so does the connection. Empty: none. What it sets, a role too, is
            /// what every client finds, and what RESET leads back to; a custom setting, if the text has its name. Other state of
            /// a session that it makes is lost once a client discards it.
            connect_query: Text(String) = "", Live, connect_query in [Database];
            /// SQL to try on a server that was idle for `server_check_delay`, before a client gets it.
            /// Empty: an empty query, which costs one round trip.
            server_check_query: Text(String) = "", Live, server_check_query in [];
            /// How long a server may have been idle and still be handed out untried. 0: every server is tried.
            server_check_delay: Time(Duration) = "30s", Live, server_check_delay in [];
            /// SQL that cleans a server when the client of a session pool leaves. In the other modes howdah cleans what
            /// is dirty. Empty: none.
            server_reset_query: Text(String) = "DISCARD ALL", Live, server_reset_query in [];
            /// Runs `server_reset_query` in every mode, after every use.
            server_reset_query_always: Flag(bool) = "false", Live, server_reset_query_always in [];
            /// Hands out the server that was idle for longest. Otherwise the one that was used last, which lets
            /// the rest grow idle and close.
            server_round_robin: Flag(bool) = "false", Live, server_round_robin in [];
            /// Prepared statements to keep on each server, shared by all clients. 0: prepared statements are not
            /// followed, and work in session mode only.
            max_prepared_statements: Count(u32) = "200", Live, max_prepared_statements in [];
        }
        "Session state" {
            /// What becomes of session state in transaction and statement mode. `follow`: settings follow the client,
            /// and what cannot (temporary objects, session locks, cursors WITH HOLD …) keeps its server for as long as
            /// it exists. `refuse`: statements that would need that fail (0A000), and where a text does not tell (a
            /// function, DO) the client is ended (0A000) once it has left such a thing. `ignore`: as in PgBouncer.
            session_state: SessionState(SessionState) = "follow", Live, session_state in [Database User];
            /// Statements whose text does not tell what they leave behind (DO, CALL, volatile functions): `check` asks
            /// the server afterwards, `trust` takes them to leave nothing.
            opaque: Opaque(Opaque) = "check", Live, opaque in [Database User];
            /// Servers of a pool that clients may keep for their session state. Past it a statement that would need one
            /// waits as for a server, then fails (53300). What a text does not tell of (a function, DO) keeps one past it too, but
            /// the client is ended (53300) if there are still too many after half of `query_wait_timeout`. 0: all but one, and at least one.
            max_pinned: Count(u32) = "0", Live, max_pinned in [Database User];
            /// From where clients hear that LISTEN, with `session_state = "follow"`. `share`: from a connection that listens
            /// for all clients of a pool with the same `client_encoding`, beside the servers of the pool, and counts under
            /// `max_db_connections` and `max_user_connections`. `pin`: from their server, which each of them keeps; so does who comes with a fourth encoding.
            listen: Listen(Listen) = "share", Live, listen in [Database User];
            /// What becomes of clients when the connection that listens for them is lost, and with it, perhaps,
            /// notifications. `disconnect`: they are told (57P01) and disconnected. `resume`: nothing; another takes its place.
            listen_lost: ListenLost(ListenLost) = "disconnect", Live, listen_lost in [Database User];
            /// Notifications that a client may leave unread, in bytes. Past it the client is disconnected (54000).
            max_client_notification_bytes: Size(u64) = "4MB", Live, max_client_notification_bytes in [Database User];
            /// Answers a bare BEGIN at once and sends it with the statement that follows: one round trip less to the
            /// server, which does not wait for the client meanwhile. It can be noticed: `now()` begins later, and a client
            /// that no server can be had for is disconnected. In transaction mode, never on a standby.
            defer_begin: Flag(bool) = "false", Live, defer_begin in [Database User];
        }
        "TLS to servers" {
            /// As libpq's `sslmode`: `disable` uses no TLS; `allow` uses it where the server turns away who comes without;
            /// `prefer` uses it where the server can; `require` always; `verify-ca` trusts only certificates of a trusted
            /// authority; `verify-full` only those that are for the host besides. Unix sockets neither have nor need it.
            server_tls_sslmode: SslMode(SslMode) = "prefer", Live, sslmode in [Database];
            /// Certificates of the authorities that sign servers' certificates, in PEM. With it, servers' certificates are
            /// verified in every mode that leads to TLS, as libpq does. Empty, for `verify-ca` and `verify-full`, or `system`,
            /// for `verify-full`: those that the operating system trusts.
            server_tls_ca_file: Text(String) = "", Live, sslrootcert in [Database];
            /// A certificate to show to servers that ask for one, in PEM.
            server_tls_cert_file: Text(String) = "", Live, sslcert in [Database];
            /// The private key of that certificate, in PEM, without a passphrase.
            server_tls_key_file: Text(String) = "", Live, sslkey in [Database];
            /// Versions of TLS: `tlsv1.2`, `tlsv1.3` or both (`secure`, `all`). Older ones cannot be had.
            server_tls_protocols: Protocols(TlsVersions) = "secure", Live, server_tls_protocols in [];
            /// `direct` begins TLS at once, which saves a round trip and needs PostgreSQL 17 or later; only from `require` on.
            server_tls_sslnegotiation: SslNegotiation(SslNegotiation) = "postgres", Live, sslnegotiation in [Database];
            /// Whether logins are bound to the TLS connection by SCRAM-SHA-256-PLUS, which nobody in between can do:
            /// `prefer` where the server offers it, `require` or not at all, `disable` never.
            server_channel_binding: ChannelBinding(ChannelBinding) = "prefer", Live, channel_binding in [Database];
        }
        "Time limits" {
            /// How long a query may run before it is cancelled and its client disconnected. 0: without limit.
            query_timeout: Time(Duration) = "0", Live, query_timeout in [Database User];
            /// How long a client may do nothing inside a transaction before it is disconnected. 0: without limit.
            idle_transaction_timeout: Time(Duration) = "0", Live, idle_transaction_timeout in [Database User];
            /// How long a transaction may last before its client is disconnected. 0: without limit.
            transaction_timeout: Time(Duration) = "0", Live, transaction_timeout in [Database User];
            /// How long a client may do nothing outside a transaction before it is disconnected. 0: without limit.
            client_idle_timeout: Time(Duration) = "0", Live, client_idle_timeout in [Database User];
        }
    }
}

/// The row of a setting by its name in `[howdah]`.
pub(super) fn row(name: &str) -> Option<&'static Row> {
    TABLE.iter().find(|row| row.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_is_written_as_it_is_shown() {
        let settings = Settings::default();
        for row in TABLE {
            assert_eq!((row.show)(&settings), row.default, "{}", row.name);
        }
    }

    #[test]
    fn names_are_unique_in_each_table() {
        let unique = |name: fn(&Row) -> &'static str| {
            TABLE
                .iter()
                .map(name)
                .collect::<std::collections::BTreeSet<_>>()
                .len()
        };
        assert_eq!(
            [unique(|row| row.name), unique(|row| row.local)],
            [TABLE.len(); 2]
        );
    }

    #[test]
    fn what_is_shown_can_be_read_again() {
        for row in TABLE {
            let mut settings = Settings::default();
            // A value that is not the default, of the right kind.
            let other = match row.kind {
                "duration" => "1h 5min 3s 7ms",
                "number" | "port" => "77",
                "mode" => "0640",
                "size" => "1536B",
                "yes or no" if row.default == "true" => "false",
                "yes or no" => "true",
                "list" => "x, y z",
                "text" => "say \"it\\",
                _ if row.default == "text" => "json",
                _ if row.name == "auth_type" => "md5",
                _ if row.name.ends_with("sslmode") || row.name == "server_channel_binding" => "require",
                _ if row.name.ends_with("sslnegotiation") => "direct",
                "protocols" => "tlsv1.3",
                _ if row.name == "session_state" => "refuse",
                _ if row.name == "opaque" => "trust",
                _ if row.name == "listen" => "pin",
                _ if row.name == "listen_lost" => "resume",
                _ => "session",
            };
            (row.read)(&mut settings, &Raw::text(other)).unwrap();
            assert_ne!(settings, Settings::default(), "{}", row.name);
            assert_eq!((row.show)(&settings), other, "{}", row.name);
        }
    }

    #[test]
    fn user_goes_before_database_and_database_before_settings() {
        let settings = Settings {
            default_pool_size: 1,
            ..Settings::default()
        };
        let none = Overrides::default();
        let database = Overrides {
            pool_size: Some(2),
            max_waiting: Some(9),
            ..none.clone()
        };
        let user = Overrides {
            pool_size: Some(3),
            ..none.clone()
        };
        assert_eq!(PoolSettings::resolve(&settings, &none, &none).pool_size, 1);
        assert_eq!(PoolSettings::resolve(&settings, &database, &none).pool_size, 2);
        let resolved = PoolSettings::resolve(&settings, &database, &user);
        assert_eq!((resolved.pool_size, resolved.max_waiting), (3, 9));
    }
}

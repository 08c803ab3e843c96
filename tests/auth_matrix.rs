//! Every method of clients with every kind of secret before every method of servers, with and without TLS; what gets
//! in, and with which SQLSTATE the others are refused.

mod common;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use common::howdah::Config;
use common::run::at_once;
use common::tls::{Certificates, trusting, tunnel};
use common::{Cluster, Howdah, Target, Wire, login, msg, run};

const METHODS: [&str; 4] = ["trust", "password", "md5", "scram-sha-256"];
const RIGHT: &str = "the right password";

/// A role on the server: how the server asks it, as what it keeps the password, and what howdah knows of that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Role {
    server: &'static str,
    kept: &'static str,
    known: &'static str,
    is_expired: bool,
}

impl Role {
    fn all() -> Vec<Self> {
        let pairs = [
            ("md5", "plain"),
            ("scram-sha-256", "plain"),
            ("md5", "hash"),
            ("scram-sha-256", "verifier"),
            ("nothing", "nothing"),
        ];
        let mut all = Vec::new();
        for server in METHODS {
            for (kept, known) in pairs {
                for is_expired in [false, true] {
                    let role = Self {
                        server,
                        kept,
                        known,
                        is_expired,
                    };
                    if !(is_expired && kept == "nothing") {
                        all.push(role);
                    }
                }
            }
        }
        all
    }

    fn name(self) -> String {
        let age = if self.is_expired { "old" } else { "new" };
        format!("{}_{}_{}_{age}", self.server, self.kept, self.known).replace('-', "_")
    }

    fn create(self) -> String {
        let name = self.name();
        let valid = if self.is_expired { "2001-01-01" } else { "infinity" };
        match self.kept {
            "nothing" => format!("CREATE ROLE {name} LOGIN;"),
            kept => format!(
                "SET password_encryption = '{kept}'; CREATE ROLE {name} LOGIN PASSWORD '{RIGHT}' VALID UNTIL '{valid}';"
            ),
        }
    }

    /// Whether a client that says this gets past howdah.
    fn is_let_in(self, client: &str, is_asked: bool, is_right: bool) -> bool {
        let possible = match (client, self.known) {
            ("trust", _) => return true,
            (_, "nothing") | ("scram-sha-256", "hash") => false,
            _ => true,
        };
        // What has expired is known only to those who ask.
        possible && is_right && !(is_asked && self.is_expired)
    }

    /// Whether howdah then gets past the server.
    fn is_served(self, client: &str) -> bool {
        if self.server == "trust" {
            return true;
        }
        let has_password = self.known == "plain" || (client == "password" && self.known != "nothing");
        let can_answer = match self.server {
            "password" => has_password,
            // The server does SCRAM where it keeps a verifier, whatever it is told to do.
            _ if self.kept == "scram-sha-256" => {
                let proves = matches!(client, "md5" | "scram-sha-256") && self.known == "verifier";
                has_password || proves
            }
            "md5" => has_password || self.known == "hash",
            _ => false,
        };
        can_answer && !self.is_expired
    }
}

/// A cluster with all these roles, and one that may ask for them.
fn cluster(certificates: &Certificates) -> Cluster {
    let roles = Role::all();
    let mut options = certificates.cluster("server");
    for server in METHODS {
        let names: Vec<_> = roles
            .iter()
            .filter(|role| role.server == server)
            .map(|role| role.name())
            .collect();
        options = options.hba(&format!("host all {} 127.0.0.1/32 {server}", names.join(",")));
    }
    let cluster = options.start();
    let create: String = roles.iter().map(|role| role.create()).collect();
    cluster.sql(&create);
    cluster.sql("CREATE ROLE asker LOGIN; GRANT SELECT ON pg_catalog.pg_authid TO asker");
    cluster
}

/// The code of the refusal, by howdah or, in its name, by the server; nothing if a query can be run, on a server that is
/// reached with TLS or without.
fn attempt(target: Target, user: &str, password: &str, server_tls: bool) -> Option<String> {
    let mut wire = match Wire::login_with(target, &[("user", user), ("database", "app")], Some(password)) {
        Ok(wire) => wire,
        Err(login::LoginError::Refused(error)) => return Some(error.code().to_owned()),
        Err(error) => return Some(error.to_string()),
    };
    wire.send(&msg::query(
        "SELECT current_user || ' ' || ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()",
    ));
    match wire.try_answer() {
        Ok(answer) if answer.error.is_none() => {
            assert_eq!(
                answer.value(),
                format!("{user} {server_tls}"),
                "another session than it should be"
            );
            None
        }
        Ok(answer) => Some(answer.code().to_owned()),
        Err(fatal) => Some(fatal.map_or_else(|| "closed".to_owned(), |error| error.code().to_owned())),
    }
}

/// What the server keeps of every password, by role.
fn stored(cluster: &Cluster) -> BTreeMap<String, String> {
    let all = cluster.value("SELECT string_agg(rolname || ' ' || rolpassword, '|') FROM pg_authid");
    let pairs = all.split('|').filter_map(|pair| pair.split_once(' '));
    pairs
        .map(|(name, stored)| (name.to_owned(), stored.to_owned()))
        .collect()
}

fn configured(cluster: &Cluster, client: &str, variant: Variant) -> Config {
    let is_asked = variant.is_asked;
    let mut config = Howdah::before(cluster)
        .set("auth_type", client)
        .set(
            "server_tls_sslmode",
            if variant.tls[1] { "require" } else { "disable" },
        )
        .set("server_login_retry", "1s")
        .user("postgres", "not one of these");
    if is_asked {
        return config.set("auth_user", "asker");
    }
    let stored = stored(cluster);
    for role in Role::all() {
        let name = role.name();
        config = match role.known {
            "plain" => config.user(&name, RIGHT),
            "nothing" => config,
            _ => config.user(&name, &stored[&name]),
        };
    }
    config
}

/// What somebody may say: the password, another one, what is stored of it, which must not do for it, and nothing.
const SAID: [&str; 4] = ["right", "wrong", "stored", "nothing"];

/// Every role with the right and with wrong passwords.
fn complaints(target: Target, cluster: &Cluster, client: &str, variant: Variant) -> Vec<String> {
    let Variant {
        is_asked,
        tls: [_, server_tls],
    } = variant;
    let mut attempts: Vec<Box<dyn FnOnce() -> Option<String> + Send>> = Vec::new();
    let direct = cluster.target();
    // A server that is asked knows no plain passwords.
    let roles = Role::all()
        .into_iter()
        .filter(|role| !(is_asked && role.known == "plain"));
    let stored = stored(cluster);
    for (role, said) in roles.flat_map(|role| SAID.map(|said| (role, said))) {
        let (user, is_right) = (role.name(), said == "right");
        let password = match said {
            "right" => RIGHT.to_owned(),
            "wrong" => "a wrong one".to_owned(),
            "stored" => stored.get(&user).cloned().unwrap_or_default(),
            _ => String::new(),
        };
        attempts.push(Box::new(move || {
            let got = attempt(target, &user, &password, server_tls);
            let mut known = role;
            if client == "trust" && is_asked {
                // Nobody asks for what nobody has to prove.
                known.known = "nothing";
            }
            let is_in = role.is_let_in(client, is_asked, is_right) && known.is_served(client);
            let wanted = (!is_in).then(|| "28P01".to_owned());
            let what = format!("client {client}, {role:?}, {said}, asked {is_asked}");
            if got != wanted {
                return Some(format!("{what}: {got:?} instead of {wanted:?}"));
            }
            // Who is refused by both is refused alike.
            let theirs = attempt(direct, &user, &password, false);
            (theirs.is_some() && got.is_some() && theirs != got)
                .then(|| format!("{what}: {got:?}, and PostgreSQL says {theirs:?}"))
        }));
    }
    attempts.push(Box::new(move || {
        let got = attempt(target, "nobody_at_all", RIGHT, server_tls);
        let wanted = if client == "trust" { "28000" } else { "28P01" };
        (got.as_deref() != Some(wanted))
            .then(|| format!("client {client}, unknown: {got:?} instead of {wanted}"))
    }));
    at_once(attempts)
}

/// What all of a run has in common.
#[derive(Clone, Copy)]
struct Variant {
    /// Towards clients, towards servers.
    tls: [bool; 2],
    /// Whether the server is asked for secrets.
    is_asked: bool,
}

fn run_matrix(variant: Variant) {
    let certificates = Certificates::new();
    let cluster = cluster(&certificates);
    for client in METHODS {
        let config = configured(&cluster, client, variant);
        let mode = if variant.tls[0] { "require" } else { "disable" };
        let howdah = certificates.offered(config, mode).start();
        if !howdah.is_howdah() {
            return;
        }
        let target = if variant.tls[0] {
            tunnel(howdah.target(), trusting())
        } else {
            howdah.target()
        };
        let complaints = complaints(target, &cluster, client, variant);
        assert!(complaints.is_empty(), "{}", complaints.join("\n"));
    }
}

#[test]
fn cve_2025_46801_no_combination_of_methods_and_secrets_opens_a_door() {
    run_matrix(Variant {
        tls: [false, false],
        is_asked: false,
    });
}

#[test]
fn the_same_under_tls_on_both_sides() {
    run_matrix(Variant {
        tls: [true, true],
        is_asked: false,
    });
}

#[test]
fn the_same_where_the_server_is_asked_under_tls() {
    run_matrix(Variant {
        tls: [false, true],
        is_asked: true,
    });
}

#[test]
fn the_same_where_the_server_is_asked_by_clients_under_tls() {
    run_matrix(Variant {
        tls: [true, false],
        is_asked: true,
    });
}

/// psql, which prepares passwords as libpq does. What it says on standard error, or nothing.
fn psql(target: Target, user: &str, password: &[u8], binding: &str) -> Result<String, String> {
    let mut command = run::client("psql", target, user, "app");
    command
        .env("PGPASSWORD", OsStr::from_bytes(password))
        .env(
            "PGSSLMODE",
            if binding == "require" { "require" } else { "prefer" },
        )
        .env("PGCHANNELBINDING", binding)
        .args(["-XAtc", "SELECT current_user"]);
    let done = run::output(&mut command, Duration::from_secs(20));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if done.status.success() {
        Ok(text(&done.stdout))
    } else {
        Err(text(&done.stderr))
    }
}

/// A role, the password that the server is told, and others that are the same to it.
type Odd = (&'static str, &'static [u8], Vec<&'static [u8]>);

fn odd_passwords() -> [Odd; 6] {
    [
        (
            "umlauts",
            "pässwörd".as_bytes(),
            vec!["pa\u{308}sswo\u{308}rd".as_bytes()],
        ),
        ("soft", "I\u{ad}X".as_bytes(), vec![b"IX", "\u{2168}".as_bytes()]),
        ("wide", "秘密\u{3000}x".as_bytes(), vec!["秘密 x".as_bytes()]),
        // What SASLprep prohibits is taken as it stands.
        ("bell", b"\x07bell", vec![]),
        ("directions", "\u{5d0}a".as_bytes(), vec![]),
        ("latin1", b"caf\xe9", vec![]),
    ]
}

#[test]
fn passwords_beyond_ascii_by_postgresqls_own_verifiers() {
    odd_passwords_get_in("scram-sha-256");
}

#[test]
fn passwords_beyond_ascii_in_clear() {
    odd_passwords_get_in("password");
}

fn odd_passwords_get_in(auth_type: &str) {
    let certificates = Certificates::new();
    let roles = odd_passwords().map(|(name, ..)| name).join(",");
    let cluster = certificates
        .cluster("server")
        .hba(&format!("host all {roles} 127.0.0.1/32 scram-sha-256"))
        .start();
    cluster.sql("CREATE ROLE asker LOGIN; GRANT SELECT ON pg_catalog.pg_authid TO asker");
    // Where encodings are not checked, any bytes can be a password.
    cluster.sql("CREATE DATABASE raw ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0");
    for (name, password, _) in odd_passwords() {
        let hex: Vec<_> = password.iter().map(|byte| format!("\\x{byte:02x}")).collect();
        let hex = hex.concat();
        let database = if name == "latin1" { "raw" } else { "app" };
        cluster.sql_in(database, &format!("CREATE ROLE {name} LOGIN PASSWORD E'{hex}'"));
    }
    let config = Howdah::before(&cluster)
        .set("auth_type", auth_type)
        .set("auth_user", "asker")
        .user("postgres", "not one of these");
    let howdah = certificates.offered(config, "allow").start();
    if !howdah.is_howdah() {
        return;
    }
    let bindings = if auth_type == "password" {
        &["disable"][..]
    } else {
        &["disable", "require"]
    };
    for (name, password, others) in odd_passwords() {
        for binding in bindings {
            for password in others.iter().copied().chain([password]) {
                let direct = psql(cluster.target(), name, password, "disable");
                assert_eq!(direct.as_deref(), Ok(name), "{name}: the server itself");
                let got = psql(howdah.target(), name, password, binding);
                assert_eq!(got.as_deref(), Ok(name), "{auth_type}, {name}, binding {binding}");
            }
            let wrong = psql(howdah.target(), name, &[password, b"x"].concat(), binding);
            assert!(
                wrong.is_err_and(|said| said.contains("password authentication failed")),
                "{name}"
            );
        }
    }
}

#[test]
fn an_old_answer_to_an_md5_challenge_is_of_no_use() {
    // pgagroal kept challenges, so that whoever had read one answer could give it again.
    let cluster = Cluster::start();
    let howdah = Howdah::before(&cluster)
        .set("auth_type", "md5")
        .user("app", RIGHT)
        .start();
    if !howdah.is_howdah() {
        return;
    }
    let challenge = || {
        let mut wire = Wire::connect(howdah.target()).expect("a connection");
        wire.send(&msg::startup(&[("user", "app"), ("database", "app")]));
        let salt = wire.expect("R")[0].body[4..].to_vec();
        (wire, salt)
    };
    let (mut first, salt) = challenge();
    let answer = msg::password(format!("{}\0", login::md5_answer("app", RIGHT, &salt)).as_bytes());
    first.send(&answer);
    first.until_ready();
    let (mut second, other_salt) = challenge();
    assert_ne!(salt, other_salt);
    second.send(&answer);
    assert_eq!(second.expect_fatal().code(), "28P01");
}

#[test]
fn libpq_gets_the_method_that_it_insists_on_and_no_other() {
    const PROGRAM: &str = "
import psycopg, sys
for wish in sys.argv[1:]:
    try:
        with psycopg.connect(wish) as conn:
            print(conn.execute('select current_user').fetchone()[0])
    except psycopg.OperationalError as error:
        print('refused' if 'password authentication failed' in str(error) else 'unwilling')
";
    let certificates = Certificates::new();
    let cluster = Cluster::start();
    let verifier = cluster.value("SELECT rolpassword FROM pg_authid WHERE rolname = 'scram_u'");
    let python = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(".venv/bin/python");
    let password = common::cluster::password_of("scram_u");
    for (client, names) in [
        ("trust", &["none"][..]),
        ("password", &["password"]),
        // The secret is a verifier.
        ("md5", &["scram-sha-256"]),
        ("scram-sha-256", &["scram-sha-256"]),
    ] {
        let config = Howdah::before(&cluster)
            .set("auth_type", client)
            .user("scram_u", &verifier);
        let howdah = certificates.offered(config, "allow").start();
        if !howdah.is_howdah() {
            return;
        }
        // A trusted client teaches nothing of how to log in at a server that is not content with that.
        let user = if client == "trust" { "trust_u" } else { "scram_u" };
        let methods = ["none", "password", "md5", "scram-sha-256"];
        let wishes: Vec<_> = methods
            .iter()
            .flat_map(|method| {
                [
                    format!("require_auth={method}"),
                    format!("require_auth=!{method}"),
                ]
            })
            .map(|wish| format!("{wish} sslmode=disable"))
            .chain(["channel_binding=require sslmode=require".to_owned()])
            .collect();
        let mut command = run::client(
            python.to_str().expect("a plain path"),
            howdah.target(),
            user,
            "app",
        );
        command
            .env("PGPASSWORD", &password)
            .args(["-c", PROGRAM])
            .args(&wishes);
        let said = run::succeed(&mut command, Duration::from_secs(60));
        for (wish, got) in wishes.iter().zip(said.lines()) {
            let wanted = match wish.split(['=', ' ']).nth(1) {
                Some("require") => client == "scram-sha-256" || client == "md5",
                Some(method) => match method.strip_prefix('!') {
                    Some(unwanted) => !names.contains(&unwanted),
                    None => names.contains(&method),
                },
                None => panic!("{wish}"),
            };
            let wanted = if wanted { user } else { "unwilling" };
            assert_eq!(got, wanted, "client {client}: {wish}");
        }
        assert_eq!(said.lines().count(), wishes.len());
    }
}

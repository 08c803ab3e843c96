//! Every method by which somebody else vouches for a client, before every method of servers, with and without TLS: what
//! gets in, and with which SQLSTATE the others are refused. The methods by which a client proves that it knows a secret
//! are in `auth_matrix.rs`.

mod common;

use std::fs;

use common::howdah::Config;
use common::pam::Service;
use common::run::at_once;
use common::slapd::Slapd;
use common::tls::{Certificates, showing, trusting, tunnel, unix_tunnel};
use common::{Cluster, Howdah, Target, Wire, msg};
use tempfile::TempDir;

const CLIENTS: [&str; 4] = ["cert", "peer", "pam", "ldap"];
const SERVERS: [&str; 4] = ["trust", "password", "md5", "scram-sha-256"];
const RIGHT: &str = "the right password";
/// Whether a session has TLS on the server's side.
const SEEN: &str = "SELECT current_user || CASE WHEN ssl THEN ' tls' ELSE '' END FROM pg_stat_ssl WHERE pid = pg_backend_pid()";

/// What a client has to show for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shown {
    Right,
    Wrong,
    /// A certificate that was good once.
    Expired,
    /// No certificate, no socket, no password.
    Missing,
}

/// A role on the server: how the server asks it, and whether howdah knows the password.
#[derive(Clone, Copy, Debug)]
struct Role {
    server: &'static str,
    is_known: bool,
    is_expired: bool,
}

impl Role {
    fn all() -> Vec<Self> {
        let facts = [(false, false), (false, true), (true, false), (true, true)];
        let role = |server, (is_known, is_expired)| Self {
            server,
            is_known,
            is_expired,
        };
        SERVERS
            .iter()
            .flat_map(|server| facts.map(|facts| role(*server, facts)))
            .collect()
    }

    fn name(self) -> String {
        let known = if self.is_known { "known" } else { "unknown" };
        let age = if self.is_expired { "old" } else { "new" };
        format!("{}_{known}_{age}", self.server).replace('-', "_")
    }

    fn create(self) -> String {
        let (name, kept) = (
            self.name(),
            if self.server == "md5" {
                "md5"
            } else {
                "scram-sha-256"
            },
        );
        let valid = if self.is_expired { "2001-01-01" } else { "infinity" };
        format!(
            "SET password_encryption = '{kept}'; CREATE ROLE {name} LOGIN PASSWORD '{RIGHT}' VALID UNTIL '{valid}';"
        )
    }

    /// What howdah says of somebody with this to show; nothing if it lets that one in.
    fn refusal(client: &str, shown: Shown, is_tls: bool) -> Option<&'static str> {
        match (client, shown) {
            ("cert", _) if !is_tls => Some("28000"),
            // It ends the handshake, where there are no codes.
            ("cert", Shown::Expired) => Some(""),
            ("pam" | "ldap", Shown::Missing) => Some("28P01"),
            (_, Shown::Right) => None,
            _ => Some("28000"),
        }
    }

    /// Whether howdah then gets past the server: by the password, if it knows it or has just been told.
    fn is_served(self, client: &str) -> bool {
        let has_password = self.is_known || matches!(client, "pam" | "ldap");
        self.server == "trust" || (has_password && !self.is_expired)
    }
}

/// All that the methods of clients need.
struct Place {
    certificates: Certificates,
    cluster: Cluster,
    slapd: Slapd,
    /// None where the tests may not make one.
    service: Option<Service>,
    dir: TempDir,
}

impl Place {
    fn new() -> Self {
        let (roles, certificates) = (Role::all(), Certificates::new());
        let mut options = certificates.cluster("server");
        for server in SERVERS {
            let of_server = roles.iter().filter(|role| role.server == server);
            let names: Vec<_> = of_server.map(|role| role.name()).collect();
            options = options.hba(&format!("host all {} 127.0.0.1/32 {server}", names.join(",")));
        }
        let cluster = options.start();
        cluster.sql(&roles.iter().map(|role| role.create()).collect::<String>());
        let mut entries = String::new();
        for role in &roles {
            let name = role.name();
            certificates.client(&name);
            certificates.sign(&format!("{name}-late"), |params| {
                params.subject_alt_names.clear();
                params.distinguished_name = common::tls::named(&name);
                params.not_after = rcgen::date_time_ymd(2020, 1, 1);
            });
            let entry = format!(
                "\ndn: uid={name},ou=people,dc=example,dc=org\nobjectClass: inetOrgPerson\nuid: {name}\n\
                 cn: {name}\nsn: Example\nuserPassword: {RIGHT}\n"
            );
            entries.push_str(&entry);
        }
        certificates.client("somebody_else");
        Self {
            slapd: Slapd::with_entries(&certificates, &entries),
            certificates,
            cluster,
            service: Service::new(&format!("[ \"$password\" = \"{RIGHT}\" ]"), "pam_permit"),
            dir: tempfile::tempdir().expect("a directory"),
        }
    }

    /// Howdah with this method for its clients; none if the method cannot be had here.
    fn configured(&self, client: &str, is_tls: bool) -> Option<Config> {
        let file = |name: &str, text: &str| {
            let path = self.dir.path().join(name);
            fs::write(&path, text).expect("a file of ours");
            path.to_str().expect("a plain path").to_owned()
        };
        let mut config = Howdah::before(&self.cluster)
            .set("auth_type", client)
            .set("server_login_retry", "1s")
            .set("server_tls_sslmode", if is_tls { "require" } else { "disable" })
            .set("client_tls_ca_file", self.certificates.path("root.crt"));
        for role in Role::all().into_iter().filter(|role| role.is_known) {
            config = config.user(&role.name(), RIGHT);
        }
        config = self
            .certificates
            .offered(config, if is_tls { "allow" } else { "disable" });
        match client {
            "peer" => {
                let me = common::run::succeed(
                    std::process::Command::new("id").arg("-un"),
                    std::time::Duration::from_secs(10),
                );
                let lines = Role::all()
                    .into_iter()
                    .map(|role| format!("m {} {}\n", me.trim(), role.name()));
                let maps = lines.collect::<String>() + "strangers nobody_at_all trust_u\n";
                let rules = "local all trust_u peer map=strangers\nlocal all all peer map=m\nhost all all all reject\n";
                config = config
                    .set("auth_type", "hba")
                    .set("auth_hba_file", file("hba", rules))
                    .set("auth_ident_file", file("ident", &maps));
            }
            "pam" => config = config.set("auth_pam_service", self.service.as_ref()?.name.as_str()),
            "ldap" => {
                let options = format!(
                    "ldapserver=127.0.0.1 ldapport={} ldapprefix=\"uid=\" ldapsuffix=\",ou=people,dc=example,dc=org\"",
                    self.slapd.port
                );
                config = config
                    .set("auth_ldap_options", options)
                    .set("auth_ldap_ca_file", self.certificates.path("root.crt"));
            }
            _ => {}
        }
        Some(config)
    }

    /// Where a client goes to show this, and the password that it gives.
    fn way(
        &self,
        howdah: &Howdah,
        client: &str,
        user: &str,
        shown: Shown,
        is_tls: bool,
    ) -> (Target, &'static str) {
        let plain = || {
            if is_tls {
                tunnel(howdah.target(), trusting())
            } else {
                howdah.target()
            }
        };
        let by = |name: &str| tunnel(howdah.target(), showing(&self.certificates, name));
        match (client, shown) {
            ("cert", Shown::Right) if is_tls => (by(user), ""),
            ("cert", Shown::Wrong) if is_tls => (by("somebody_else"), ""),
            ("cert", Shown::Expired) if is_tls => (by(&format!("{user}-late")), ""),
            ("peer", Shown::Right | Shown::Wrong) => {
                let name = format!(".s.PGSQL.{}", howdah.target().port);
                (unix_tunnel(&howdah.socket_dir().join(name)), "")
            }
            ("pam" | "ldap", Shown::Right) => (plain(), RIGHT),
            ("pam" | "ldap", Shown::Wrong) => (plain(), "a wrong one"),
            _ => (plain(), ""),
        }
    }
}

/// The code of the refusal, by howdah or, in its name, by the server; nothing if a query can be run.
fn attempt(target: Target, user: &str, password: &str, is_tls: bool) -> Option<String> {
    match Wire::login_with(target, &[("user", user), ("database", "app")], Some(password)) {
        Ok(mut wire) => {
            wire.send(&msg::query(SEEN));
            match wire.try_answer() {
                Ok(answer) => {
                    let wanted = format!("{user}{}", if is_tls { " tls" } else { "" });
                    assert_eq!(answer.value(), wanted, "another session than it should be");
                    None
                }
                Err(fatal) => {
                    Some(fatal.map_or_else(|| "closed".to_owned(), |error| error.code().to_owned()))
                }
            }
        }
        Err(error) => Some(error.code().to_owned()),
    }
}

fn run_matrix(is_tls: bool) {
    let place = Place::new();
    for client in CLIENTS {
        let Some(config) = place.configured(client, is_tls) else {
            continue;
        };
        let howdah = config.start();
        if !howdah.is_howdah() {
            return;
        }
        let all = [Shown::Right, Shown::Wrong, Shown::Expired, Shown::Missing];
        let all = all.map(|shown| Role::all().into_iter().map(move |role| (role, shown)));
        let mut attempts: Vec<Box<dyn FnOnce() -> Option<String> + Send>> = Vec::new();
        for (role, shown) in all.into_iter().flatten() {
            if shown == Shown::Expired && client != "cert" {
                continue;
            }
            // To be somebody else by the socket is to be one whom no map lets be that.
            let is_stranger = client == "peer" && shown == Shown::Wrong;
            let user = if is_stranger {
                "trust_u".to_owned()
            } else {
                role.name()
            };
            let (target, password) = place.way(&howdah, client, &user, shown, is_tls);
            attempts.push(Box::new(move || {
                let refusal = Role::refusal(client, shown, is_tls);
                let wanted = refusal.or_else(|| (!role.is_served(client)).then_some("28P01"));
                let got = attempt(target, &user, password, is_tls);
                (got.as_deref() != wanted)
                    .then(|| format!("client {client}, {role:?}, {shown:?}: {got:?} instead of {wanted:?}"))
            }));
        }
        let complaints = at_once(attempts);
        assert!(complaints.is_empty(), "{}", complaints.join("\n"));
    }
}

#[test]
fn nobody_gets_in_but_those_who_are_vouched_for() {
    run_matrix(false);
}

#[test]
fn the_same_under_tls_on_both_sides() {
    run_matrix(true);
}

//! Who gets in by which rule: real logins, beside those of a PostgreSQL that has the same rules.

mod common;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use common::cluster::{password_of, unprivileged};
use common::net::eventually;
use common::tls::Certificates;
use common::{Cluster, Howdah, Target, Wire, login, run};
use tempfile::TempDir;

/// What each has to say.
const RULES: &str = r#"
# Comments, continuations and quotes are as they are there.
local     app         scram_u                          scram-sha-256
local     app,postgres \
          "trust_u"                                    trust
local     sameuser    all                              trust
local     all         all                              reject
hostssl   app         md5_u        127.0.0.1/32        md5
hostnossl app         password_u   127.0.0.1/32        password
host      app         scram_u      127.0.0.0 255.0.0.0 md5  # its secret is a verifier: SCRAM
host      app         md5_u        127.0.0.1/32        scram-sha-256
host      "other"     app,trust_u  samehost            trust
host      other       scram_u      samenet             scram-sha-256
host      other       md5_u        localhost           md5
host      other       password_u   .example.org        trust
host      other       password_u   10.0.0.0/8          trust
hostnogssenc app      app          all                 trust
hostgssenc postgres   app          all                 trust
host      replication scram_u      127.0.0.1/32        scram-sha-256
host      "replication" md5_u      all                 trust
host      postgres    all          ::/0                trust
hostssl   postgres    trust_u      all                 reject
host      postgres    postgres     127.0.0.1/32        trust
"#;

/// How somebody comes.
#[derive(Clone, Copy, Debug)]
enum Way {
    Socket,
    Tcp,
    Tls,
    Replication,
}

use Way::{Replication, Socket, Tcp, Tls};

/// Who comes how, for what, and whether with the right password.
const ATTEMPTS: &[(Way, &str, &str, bool)] = &[
    (Socket, "scram_u", "app", true),
    (Socket, "scram_u", "app", false),
    (Socket, "trust_u", "app", false),
    (Socket, "trust_u", "postgres", false),
    (Socket, "app", "app", false),
    (Socket, "app", "other", false),
    (Socket, "md5_u", "app", true),
    (Tcp, "md5_u", "app", true),
    (Tls, "md5_u", "app", true),
    (Tls, "md5_u", "app", false),
    (Tcp, "password_u", "app", true),
    (Tcp, "password_u", "app", false),
    (Tls, "password_u", "app", true),
    (Tcp, "scram_u", "app", true),
    (Tls, "scram_u", "app", true),
    (Tcp, "scram_u", "app", false),
    (Tcp, "app", "other", false),
    (Tls, "trust_u", "other", false),
    (Tcp, "scram_u", "other", true),
    (Tcp, "scram_u", "other", false),
    (Tcp, "md5_u", "other", true),
    (Tcp, "password_u", "other", true),
    (Tcp, "app", "app", false),
    (Tls, "app", "app", false),
    (Tcp, "app", "postgres", false),
    (Replication, "scram_u", "", true),
    (Replication, "scram_u", "", false),
    (Replication, "md5_u", "", true),
    (Replication, "app", "", true),
    (Tls, "trust_u", "postgres", true),
    (Tcp, "nobody_knows_me", "app", true),
    (Tcp, "postgres", "postgres", false),
];

/// What came of it: who one is, or the reason without the words around it.
fn attempt(
    target: Target,
    socket_dir: &str,
    (way, user, database, is_right): (Way, &str, &str, bool),
) -> String {
    let password = if is_right {
        password_of(user)
    } else {
        "wrong".to_owned()
    };
    if let Tcp = way {
        return match Wire::login_with(target, &[("user", user), ("database", database)], Some(&password)) {
            Ok(mut wire) => wire.value("SELECT current_user"),
            Err(login::LoginError::Refused(error)) => format!("{} {}", error.code(), error.message()),
            Err(error) => error.to_string(),
        };
    }
    let mut psql = run::client("psql", target, user, database);
    psql.env("PGPASSWORD", password);
    let mut sql = "SELECT current_user";
    match way {
        Socket => drop(psql.env("PGHOST", socket_dir)),
        Tls => drop(psql.env("PGSSLMODE", "require")),
        Replication => {
            psql.args(["-d", "replication=true"]);
            sql = "SHOW wal_level";
        }
        Tcp => {}
    }
    answer_of(psql.args(["-XAt", "-c", sql]))
}

/// What psql prints, or the reason without the words around it.
fn answer_of(psql: &mut Command) -> String {
    let output = run::output(psql, Duration::from_secs(30));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() {
        return text(&output.stdout);
    }
    let said = text(&output.stderr);
    said.split_once("FATAL:")
        .map_or(said.clone(), |(_, why)| why.trim().to_owned())
}

/// A directory with files that howdah's configuration names.
fn files(all: &[(&str, &str)]) -> TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    for (name, text) in all {
        fs::write(dir.path().join(name), text).expect("a file of ours");
    }
    dir
}

fn plain(path: &Path) -> String {
    path.to_str().expect("a plain path").to_owned()
}

fn path(dir: &TempDir, name: &str) -> String {
    plain(&dir.path().join(name))
}

/// Gives a cluster other rules and maps; the first must let the superuser in, and nobody else by that line.
fn with_rules(cluster: &Cluster, rules: &str, maps: &str) {
    cluster.write("pg_hba.conf", rules);
    cluster.write("pg_ident.conf", maps);
    cluster.sql_in("postgres", "SELECT pg_reload_conf()");
    // The default rules let everybody into everything.
    eventually("PostgreSQL has read its rules", Duration::from_secs(10), || {
        let refused = attempt(cluster.target(), "", (Tcp, "app", "template1", true));
        refused.starts_with("28000").then_some(())
    });
}

/// Users with the secrets that a cluster has of them.
fn with_secrets(mut config: common::howdah::Config, cluster: &Cluster) -> common::howdah::Config {
    let sql = "SELECT rolname, rolpassword FROM pg_authid WHERE rolpassword IS NOT NULL";
    for row in cluster.sql(sql) {
        let [Some(name), Some(secret)] = row.as_slice() else {
            panic!("{row:?}")
        };
        config = config.user(name, secret);
    }
    config
}

#[test]
fn the_same_rules_let_the_same_people_in() {
    let certificates = Certificates::new();
    let theirs = certificates.cluster("server").start();
    with_rules(&theirs, RULES, "");
    let behind = Cluster::start();
    let dir = files(&[("hba", RULES)]);
    let config = Howdah::before(&behind)
        .set("auth_type", "hba")
        .set("auth_hba_file", path(&dir, "hba"));
    let ours = certificates
        .offered(with_secrets(config, &behind), "allow")
        .start();
    if !ours.is_howdah() {
        return;
    }
    let (their_dir, our_dir) = (plain(theirs.socket_dir()), plain(ours.socket_dir()));
    let mut let_in = 0;
    for &attempted in ATTEMPTS {
        let expected = attempt(theirs.target(), &their_dir, attempted);
        let found = attempt(ours.target(), &our_dir, attempted);
        assert_eq!(found, expected, "{attempted:?}");
        let_in += usize::from(!expected.contains(' '));
    }
    assert!(
        (10..ATTEMPTS.len() - 10).contains(&let_in),
        "{let_in} of them were let in"
    );
}

/// The name of the user of this machine that psql runs as.
fn own_name() -> String {
    let mut id = Command::new("id");
    let name = run::succeed(unprivileged(id.arg("-un")), Duration::from_secs(10));
    name.trim().to_owned()
}

/// By the socket, as the unprivileged user of this machine.
fn as_peer(target: Target, socket_dir: &Path, user: &str) -> String {
    let mut psql = run::client("psql", target, user, "app");
    psql.env("PGHOST", socket_dir)
        .args(["-XAt", "-c", "SELECT current_user"]);
    answer_of(unprivileged(&mut psql))
}

const PEER_RULES: &str = "\
local all scram_u peer\n\
local all all     peer map=people\n\
host  all all     127.0.0.1/32 trust\n";

#[test]
fn peers_are_who_the_system_says() {
    let own = own_name();
    let maps = format!("people {own} app\npeople \"/^({own})$\" \"\\1_u\"\npeople somebody trust_u\n");
    let theirs = Cluster::start();
    theirs.sql(&format!("CREATE ROLE {own}_u LOGIN"));
    let behind = Cluster::start();
    behind.sql(&format!("CREATE ROLE {own}_u LOGIN"));
    let only_superuser = PEER_RULES.replace("all all     127", "all postgres 127");
    with_rules(&theirs, &only_superuser, &maps);
    let dir = files(&[("hba", PEER_RULES), ("ident", &maps)]);
    let ours = Howdah::before(&behind)
        .set("auth_type", "hba")
        .set("auth_hba_file", path(&dir, "hba"))
        .set("auth_ident_file", path(&dir, "ident"))
        .start();
    if !ours.is_howdah() {
        return;
    }
    let mapped = format!("{own}_u");
    for (user, is_let_in) in [
        ("app", true),
        (&mapped, true),
        ("trust_u", false),
        ("scram_u", false),
        ("nobody", false),
    ] {
        let expected = as_peer(theirs.target(), theirs.socket_dir(), user);
        assert_eq!(
            as_peer(ours.target(), ours.socket_dir(), user),
            expected,
            "{user}"
        );
        assert_eq!(expected == user, is_let_in, "{user}: {expected}");
    }
    ours.wait_log("no match in usermap");
    ours.wait_log(&format!(
        "provided user name (scram_u) and authenticated user name ({own}) do not match"
    ));
}

#[test]
fn without_rules_peers_have_their_own_name_and_no_other() {
    let own = own_name();
    let behind = Cluster::start();
    behind.sql(&format!(
        "DO $$ BEGIN CREATE ROLE {own} LOGIN; EXCEPTION WHEN duplicate_object THEN END $$"
    ));
    let ours = Howdah::before(&behind).set("auth_type", "peer").start();
    if !ours.is_howdah() {
        return;
    }
    assert_eq!(as_peer(ours.target(), ours.socket_dir(), &own), own);
    let refused = "Peer authentication failed for user \"app\"";
    assert_eq!(as_peer(ours.target(), ours.socket_dir(), "app"), refused);
    let by_tcp = attempt(ours.target(), "", (Tcp, "app", "app", true));
    assert_eq!(by_tcp, format!("28000 {refused}"));
}

const CERTIFICATE_RULES: &str = "\
hostssl app   trust_u    127.0.0.1/32 cert\n\
hostssl app   app        127.0.0.1/32 cert map=people\n\
hostssl other app        127.0.0.1/32 cert clientname=DN map=subjects\n\
hostssl app   scram_u    127.0.0.1/32 scram-sha-256 clientcert=verify-ca\n\
hostssl other scram_u    127.0.0.1/32 scram-sha-256 clientcert=verify-full\n\
hostssl other trust_u    127.0.0.1/32 trust clientcert=verify-full\n\
hostssl other password_u 127.0.0.1/32 password clientcert=verify-full clientname=DN\n\
host    all   postgres   127.0.0.1/32 trust\n";

const CERTIFICATE_MAPS: &str = "\
people   /^(.*)@example\\.org$ \\1\n\
subjects CN=app@example.org app\n";

#[test]
fn certificates_vouch_as_they_do_for_postgresql() {
    let certificates = Certificates::new();
    let strangers = Certificates::new();
    for name in ["trust_u", "scram_u", "app@example.org", "other@example.org"] {
        certificates.client(name);
    }
    strangers.client("trust_u");
    let theirs = certificates.cluster("server").start();
    with_rules(&theirs, CERTIFICATE_RULES, CERTIFICATE_MAPS);
    let behind = Cluster::start();
    let dir = files(&[("hba", CERTIFICATE_RULES), ("ident", CERTIFICATE_MAPS)]);
    let config = Howdah::before(&behind)
        .set("auth_type", "hba")
        .set("auth_hba_file", path(&dir, "hba"))
        .set("auth_ident_file", path(&dir, "ident"))
        .set("client_tls_ca_file", certificates.path("root.crt"));
    let ours = certificates
        .offered(with_secrets(config, &behind), "allow")
        .start();
    if !ours.is_howdah() {
        return;
    }
    let shown = |target: Target, user: &str, database: &str, certificate: Option<&str>, password: &str| {
        let mut psql = run::client("psql", target, user, database);
        psql.env("PGSSLMODE", "require").env("PGPASSWORD", password);
        if let Some(name) = certificate {
            psql.env("PGSSLCERT", certificates.path(&format!("{name}.crt")));
            psql.env("PGSSLKEY", certificates.path(&format!("{name}.key")));
        }
        answer_of(psql.args(["-XAt", "-c", "SELECT current_user"]))
    };
    let mut let_in = 0;
    for (user, database) in [
        ("trust_u", "app"),
        ("app", "app"),
        ("app", "other"),
        ("scram_u", "app"),
        ("scram_u", "other"),
        ("trust_u", "other"),
        ("password_u", "other"),
    ] {
        for certificate in [
            None,
            Some("trust_u"),
            Some("scram_u"),
            Some("app@example.org"),
            Some("other@example.org"),
        ] {
            for password in [&password_of(user), "wrong"] {
                let expected = shown(theirs.target(), user, database, certificate, password);
                let found = shown(ours.target(), user, database, certificate, password);
                assert_eq!(
                    found, expected,
                    "{user} to {database} as {certificate:?} with {password:?}"
                );
                let_in += usize::from(expected == user);
            }
        }
    }
    // trust_u twice, app twice, each with any password; scram_u with the right one by four certificates and by its own.
    assert_eq!(let_in, 2 + 2 + 2 + 4 + 1 + 2);
    let mut psql = run::client("psql", ours.target(), "trust_u", "app");
    psql.env("PGSSLMODE", "require").args(["-XAt", "-c", "SELECT 1"]);
    psql.env("PGSSLCERT", strangers.path("trust_u.crt"))
        .env("PGSSLKEY", strangers.path("trust_u.key"));
    let stranger = answer_of(&mut psql);
    assert!(stranger.contains("SSL error: tlsv1 alert"), "{stranger}");
}

#[test]
fn without_rules_a_certificate_is_for_the_user_of_its_name() {
    let certificates = Certificates::new();
    certificates.client("app");
    let behind = Cluster::start();
    let config = Howdah::before(&behind)
        .set("auth_type", "cert")
        .set("client_tls_ca_file", certificates.path("root.crt"));
    let ours = certificates.offered(config, "allow").start();
    if !ours.is_howdah() {
        return;
    }
    let shown = |user: &str, mode: &str, certificate: &str| {
        let mut psql = run::client("psql", ours.target(), user, "app");
        psql.env("PGSSLMODE", mode)
            .args(["-XAt", "-c", "SELECT current_user"]);
        psql.env("PGSSLCERT", certificates.path(&format!("{certificate}.crt")));
        psql.env("PGSSLKEY", certificates.path(&format!("{certificate}.key")));
        answer_of(&mut psql)
    };
    assert_eq!(shown("app", "require", "app"), "app");
    assert_eq!(
        shown("trust_u", "require", "app"),
        "certificate authentication failed for user \"trust_u\""
    );
    for (mode, certificate) in [("disable", "app"), ("require", "none")] {
        let refused = shown("app", mode, certificate);
        assert_eq!(
            refused, "connection requires a valid client certificate",
            "{mode}"
        );
    }
}

#[test]
fn rules_are_read_again_by_a_reload_and_broken_ones_change_nothing() {
    let cluster = Cluster::start();
    let dir = files(&[("hba", "host all all all trust\n"), ("ident", "")]);
    let mut howdah = Howdah::before(&cluster)
        .set("auth_type", "hba")
        .set("auth_hba_file", path(&dir, "hba"))
        .set("auth_ident_file", path(&dir, "ident"))
        .start();
    if !howdah.is_howdah() {
        return;
    }
    let come = |howdah: &Howdah| attempt(howdah.target(), "", (Tcp, "app", "app", true));
    assert_eq!(come(&howdah), "app");

    fs::write(
        dir.path().join("hba"),
        "host all all all trust\nhost all +a all trust\nlocal\n",
    )
    .expect("ours");
    fs::write(dir.path().join("ident"), "m\n").expect("ours");
    howdah.reload(|config| config);
    howdah.wait_log("hba:2: ");
    let log = howdah.log();
    for part in [
        "howdah does not know the members of roles",
        "hba:3: end-of-line",
        "ident:1: missing entry",
    ] {
        assert!(log.contains(part), "{part} in {log}");
    }
    assert_eq!(come(&howdah), "app", "the old rules hold");

    // A setting that is changed on the console does not bring in what somebody is still writing.
    let mut console = Wire::login(howdah.target(), "postgres", "howdah");
    assert!(console.query("SET default_pool_size = 3").error.is_none());
    assert_eq!(console.query("RELOAD").code(), "F0000");
    assert_eq!(console.query("SET auth_ident_file = 'none'").code(), "F0000");

    fs::write(dir.path().join("ident"), "").expect("ours");
    fs::write(dir.path().join("hba"), "host app,howdah postgres all trust\n").expect("ours");
    assert_eq!(console.query("RELOAD").code(), "");
    let refused =
        "28000 no pg_hba.conf entry for host \"127.0.0.1\", user \"app\", database \"app\", no encryption";
    assert_eq!(come(&howdah), refused);
    assert_eq!(
        Wire::login(howdah.target(), "postgres", "app").value("SELECT 1"),
        "1"
    );
    // The console has no special rights: its names are names of databases here.
    Wire::login(howdah.target(), "postgres", "howdah");
    let refused = attempt(howdah.target(), "", (Tcp, "postgres", "pgbouncer", true));
    assert!(refused.starts_with("28000 no pg_hba.conf entry"), "{refused}");
}

#[test]
fn check_finds_what_is_wrong_with_rules_and_maps() {
    let config = "[howdah]\nauth_type = \"hba\"\nauth_hba_file = \"hba\"\nauth_ident_file = \"maps/ident\"\n\
                  [databases]\napp = \"host=h\"\n";
    let check = |hba: &str, ident: &str| {
        let dir = files(&[("howdah.toml", config), ("hba", hba)]);
        fs::create_dir(dir.path().join("maps")).expect("a directory of ours");
        fs::write(dir.path().join("maps/ident"), ident).expect("a file of ours");
        let mut howdah = Command::new(env!("CARGO_BIN_EXE_howdah"));
        let output = run::output(
            howdah.args(["check", &path(&dir, "howdah.toml")]),
            Duration::from_secs(20),
        );
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        (output.status.code(), text.replace(&plain(dir.path()), "DIR"))
    };
    let (status, text) = check("local all all peer map=m\nhost all all all md5\n", "m a b\n");
    assert_eq!(status, Some(0), "{text}");
    assert!(
        text.ends_with("0 users, hba authentication\n2 rules in DIR/hba\n"),
        "{text}"
    );
    let (status, text) = check("local all all peer map=n\nhostssl all all all cert\n", "m a b\n");
    assert_eq!(status, Some(64), "{text}");
    assert_eq!(
        text,
        "DIR/hba:1: there is no map \"n\" in auth_ident_file\n\
         DIR/hba:2: certificates of clients cannot be checked without client_tls_ca_file\n"
    );
    let (status, text) = check("hots\n\nlocal\n", "m /( b\n");
    assert_eq!(status, Some(64), "{text}");
    assert_eq!(
        text,
        "DIR/hba:1: invalid connection type \"hots\"\nDIR/hba:3: end-of-line before database specification\n\
         DIR/maps/ident:1: invalid regular expression \"(\": unclosed group\n"
    );
}

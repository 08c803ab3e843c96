//! Logins that an LDAP server judges: a real one, and one that never answers.

mod common;

use std::fs;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use common::cluster::password_of;
use common::howdah::Config;
use common::slapd::{READER_PASSWORD, Slapd};
use common::tls::Certificates;
use common::{Cluster, Howdah, Target, Wire, login};
use tempfile::TempDir;

fn come(target: Target, user: &str, password: &str) -> String {
    match Wire::login_with(target, &[("user", user), ("database", "app")], Some(password)) {
        Ok(mut wire) => wire.value("SELECT current_user"),
        Err(login::LoginError::Refused(error)) => format!("{} {}", error.code(), error.message()),
        Err(error) => error.to_string(),
    }
}

fn refused(user: &str) -> String {
    format!("28000 LDAP authentication failed for user \"{user}\"")
}

/// A directory and a database, and howdah's configuration between them.
struct Place {
    certificates: Certificates,
    slapd: Slapd,
    cluster: Cluster,
    dir: TempDir,
}

impl Place {
    fn new() -> Self {
        let certificates = Certificates::new();
        Self {
            slapd: Slapd::start(&certificates),
            certificates,
            cluster: Cluster::start(),
            dir: tempfile::tempdir().expect("a directory"),
        }
    }

    /// Everybody is asked about with these options.
    fn asking(&self, options: &str) -> Config {
        Howdah::before(&self.cluster)
            .set("auth_type", "ldap")
            .set("auth_ldap_options", options)
            .set("auth_ldap_ca_file", self.certificates.path("root.crt"))
    }

    /// Rules as they stand in a file.
    fn ruled(&self, rules: &str) -> Config {
        let hba = self.dir.path().join("hba");
        fs::write(&hba, rules).expect("a file of ours");
        self.asking("")
            .set("auth_type", "hba")
            .set("auth_hba_file", hba.to_str().expect("a plain path"))
    }

    fn simple(&self) -> String {
        let port = self.slapd.port;
        format!(
            "ldapserver=127.0.0.1 ldapport={port} ldapprefix=\"uid=\" ldapsuffix=\",ou=people,dc=example,dc=org\""
        )
    }

    fn search(&self) -> String {
        format!(
            "ldapurl=\"ldap://127.0.0.1:{}/ou=people,dc=example,dc=org?uid?sub\" \
             ldapbinddn=\"cn=reader,dc=example,dc=org\" ldapbindpasswd=\"{READER_PASSWORD}\"",
            self.slapd.port
        )
    }
}

#[test]
fn a_directory_judges_passwords_that_howdah_does_not_know() {
    let place = Place::new();
    for options in [place.simple(), place.search()] {
        let howdah = place.asking(&options).set("admin_users", "scram_u").start();
        if !howdah.is_howdah() {
            return;
        }
        // The server asks for the password too, which nobody but the client has told.
        for user in ["scram_u", "md5_u", "password_u"] {
            assert_eq!(come(howdah.target(), user, &password_of(user)), user, "{options}");
        }
        for (user, password) in [
            ("scram_u", "wrong"),
            ("scram_u", password_of("md5_u").as_str()),
            ("nobody_knows_me", "wrong"),
            ("*", password_of("scram_u").as_str()),
            ("scram_u)(uid=*", password_of("scram_u").as_str()),
            ("scram_u,ou=people", password_of("scram_u").as_str()),
        ] {
            assert_eq!(come(howdah.target(), user, password), refused(user), "{options}");
        }
        // slapd would say yes to this one, and mean that nobody has been authenticated.
        assert_eq!(
            come(howdah.target(), "scram_u", ""),
            "28P01 empty password returned by client"
        );
        let odd = come(howdah.target(), "a,(b)*\\", "odd");
        assert!(odd.contains("role \"a,(b)*\\\" does not exist"), "{odd}");
        let params = [("user", "scram_u"), ("database", "howdah")];
        let console = Wire::login_with(howdah.target(), &params, Some(&password_of("scram_u")));
        let shown = format!(
            "{:?}",
            console.expect("an administrator").query("SHOW CONFIG").rows
        );
        assert!(shown.contains("ldapserver=127.0.0.1") || shown.contains("ldapbindpasswd=***"));
        assert!(!shown.contains(READER_PASSWORD), "{shown}");
        let log = howdah.log();
        assert!(
            !log.contains("secret of") && !log.contains(READER_PASSWORD),
            "{log}"
        );
        howdah.wait_log("the LDAP server refuses the password");
    }
    assert!(
        place.slapd.log().contains("BIND dn=\"uid=scram_u"),
        "{}",
        place.slapd.log()
    );
}

#[test]
fn an_entry_must_be_found_exactly_once() {
    let place = Place::new();
    let by = |attribute: &str| place.search().replace("?uid?", &format!("?{attribute}?"));
    let filter = place
        .search()
        .replace("?uid?sub", "??sub?(|(uid=$username)(mail=$username@example.org))");
    let rules = format!(
        "host all scram_u all ldap {filter}\n\
         host all twice all ldap {}\n\
         host all md5_u all ldap {}\n\
         host all password_u all ldap {}\n",
        place.search(),
        by("mail"),
        place
            .search()
            .replace("ldapbindpasswd=\"reader's", "ldapbindpasswd=\"no reader's"),
    );
    let howdah = place.ruled(&rules).start();
    if !howdah.is_howdah() {
        return;
    }
    assert_eq!(
        come(howdah.target(), "scram_u", &password_of("scram_u")),
        "scram_u"
    );
    for user in ["twice", "md5_u", "password_u"] {
        assert_eq!(come(howdah.target(), user, &password_of(user)), refused(user));
    }
    howdah.wait_log("several entries of the directory fit the user");
    howdah.wait_log("the user was not found in the directory");
    howdah.wait_log("the bind of the reader (ldapbinddn) with result code 49");
}

#[test]
fn tls_comes_before_everything_and_knows_whom_it_trusts() {
    let place = Place::new();
    let (port, tls_port) = (place.slapd.port.to_string(), place.slapd.tls_port.to_string());
    let rules = format!(
        "host all scram_u all ldap {} ldaptls=1\n\
         host all md5_u all ldap {} ldapscheme=ldaps\n\
         host all password_u all ldap {}\n",
        place.search(),
        place.simple().replace(&port, &tls_port),
        place
            .search()
            .replace("ldap://", "ldaps://")
            .replace(&port, &tls_port),
    );
    let howdah = place.ruled(&rules).start();
    if !howdah.is_howdah() {
        return;
    }
    for user in ["scram_u", "md5_u", "password_u"] {
        assert_eq!(come(howdah.target(), user, &password_of(user)), user);
        assert_eq!(come(howdah.target(), user, "wrong"), refused(user));
    }
    assert!(
        place.slapd.log().contains("TLS established"),
        "{}",
        place.slapd.log()
    );

    let strangers = Certificates::new();
    let wary = place
        .ruled(&rules)
        .set("auth_ldap_ca_file", strangers.path("root.crt"))
        .start();
    for user in ["scram_u", "md5_u"] {
        assert_eq!(come(wary.target(), user, &password_of(user)), refused(user));
    }
    wary.wait_log("no TLS with the LDAP server 127.0.0.1: certificate verify failed");
}

#[test]
fn servers_are_tried_in_turn_and_nobody_gets_in_without_one() {
    let mut place = Place::new();
    let options = place.simple().replace(
        "ldapserver=127.0.0.1",
        "ldapserver=\"127.0.0.9 nohost.invalid 127.0.0.1\"",
    );
    let howdah = place.asking(&options).start();
    if !howdah.is_howdah() {
        return;
    }
    assert_eq!(
        come(howdah.target(), "scram_u", &password_of("scram_u")),
        "scram_u"
    );
    place.slapd.stop();
    assert_eq!(
        come(howdah.target(), "scram_u", &password_of("scram_u")),
        refused("scram_u")
    );
    howdah.wait_log("no LDAP server can be reached: 127.0.0.9");
    howdah.wait_log("denial=\"lookup\"");
}

#[test]
fn a_server_that_does_not_answer_at_all_leaves_time_for_the_next() {
    let place = Place::new();
    // With nobody to accept and no room to wait for that, the kernel lets everything drop that comes.
    let silent = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    let address = std::net::SocketAddr::from(([127, 0, 0, 9], place.slapd.port));
    silent.bind(&address.into()).expect("all of 127.0.0.0/8 is ours");
    silent.listen(0).expect("a socket of ours");
    let knock = || std::net::TcpStream::connect_timeout(&address, Duration::from_millis(200));
    let queue: Vec<_> = std::iter::from_fn(|| knock().ok()).take(10).collect();
    assert!(queue.len() < 10, "there is no end of room");
    let options = place
        .simple()
        .replace("ldapserver=127.0.0.1", "ldapserver=\"127.0.0.9 127.0.0.1\"");
    let howdah = place.asking(&options).set("auth_answer_timeout", "8s").start();
    if !howdah.is_howdah() {
        return;
    }
    let password = password_of("scram_u");
    assert_eq!(come(howdah.target(), "scram_u", &password), "scram_u");
}

#[test]
fn a_slow_directory_delays_nobody_else() {
    let cluster = Cluster::start();
    // They accept connections, in the kernel, and never say a word.
    let silent = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").expect("a free port"));
    let rule = |user: &str, directory: &TcpListener| {
        let port = directory.local_addr().expect("it is bound").port();
        format!("host all {user} all ldap ldapserver=127.0.0.1 ldapport={port} ldapprefix=uid=\n")
    };
    let [first, second] = silent;
    let rules = [rule("scram_u", &first), rule("md5_u", &second)].concat() + "host all all all trust\n";
    let dir = tempfile::tempdir().expect("a directory");
    let hba = dir.path().join("hba");
    fs::write(&hba, rules).expect("a file of ours");
    let mut howdah = Howdah::before(&cluster)
        .set("auth_type", "hba")
        .set("auth_hba_file", hba.to_str().expect("a plain path"))
        .set("auth_answer_timeout", "1s")
        .set("workers", 1)
        .start();
    if !howdah.is_howdah() {
        return;
    }
    let target = howdah.target();
    // More than may be asked at once.
    let crowd = |user: &'static str| -> Vec<_> {
        (0..40)
            .map(|_| std::thread::spawn(move || come(target, user, "any")))
            .collect()
    };
    // Those without a place do not wait longer than those who have one.
    let start = Instant::now();
    for client in crowd("md5_u") {
        assert_eq!(client.join().expect("a client"), refused("md5_u"));
    }
    assert!(start.elapsed() >= Duration::from_secs(1), "{:?}", start.elapsed());
    howdah.wait_log("the LDAP server does not answer in time");
    howdah.reload(|config| config.set("auth_answer_timeout", "50s"));
    howdah.wait_log("configuration reloaded");
    let clients = crowd("scram_u");
    for _ in 0..5 {
        assert_eq!(come(target, "app", ""), "app");
    }
    assert!(
        clients.iter().all(|client| !client.is_finished()),
        "nobody has judged"
    );
    drop(first);
    for client in clients {
        assert_eq!(client.join().expect("a client"), refused("scram_u"));
    }
    drop(second);
}

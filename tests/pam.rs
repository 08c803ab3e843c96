//! Logins that PAM judges. Its services are files in `/etc/pam.d`, which only root can write: as anybody else there is
//! nothing that these tests could ask.

mod common;

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use common::cluster::password_of;
use common::pam::Service;
use common::{Cluster, Howdah, Target, Wire, login};

/// Lets those in who know the password that the server has of them.
const JUDGE: &str =
    "echo \"$PAM_USER from $PAM_RHOST\" >> asked; [ \"$password\" = \"secret of $PAM_USER\" ]";

fn come(target: Target, user: &str, password: &str) -> String {
    match Wire::login_with(target, &[("user", user), ("database", "app")], Some(password)) {
        Ok(mut wire) => wire.value("SELECT current_user"),
        Err(login::LoginError::Refused(error)) => format!("{} {}", error.code(), error.message()),
        Err(error) => error.to_string(),
    }
}

fn refused(user: &str) -> String {
    format!("28000 PAM authentication failed for user \"{user}\"")
}

#[test]
fn pam_judges_passwords_that_howdah_does_not_know() {
    let Some(service) = Service::new(JUDGE, "pam_permit") else {
        return;
    };
    let cluster = Cluster::start();
    let howdah = Howdah::before(&cluster)
        .set("auth_type", "pam")
        .set("auth_pam_service", service.name.as_str())
        .start();
    if !howdah.is_howdah() {
        return;
    }
    // The server asks for the password too, which nobody but the client has told.
    for user in ["scram_u", "md5_u", "password_u"] {
        assert_eq!(come(howdah.target(), user, &password_of(user)), user);
    }
    assert_eq!(come(howdah.target(), "scram_u", "wrong"), refused("scram_u"));
    assert_eq!(
        come(howdah.target(), "nobody_knows_me", "wrong"),
        refused("nobody_knows_me")
    );
    let asked = |wanted: &str| {
        let asked = fs::read_to_string(service.dir().join("asked")).expect("it was asked");
        asked.lines().filter(|line| *line == wanted).count()
    };
    assert_eq!(asked("scram_u from 127.0.0.1"), 2);
    // PostgreSQL asks nobody about an empty password either.
    assert_eq!(
        come(howdah.target(), "scram_u", ""),
        "28P01 empty password returned by client"
    );
    assert_eq!(asked("scram_u from 127.0.0.1"), 2);
    assert!(!howdah.log().contains("secret of"), "{}", howdah.log());
    howdah.wait_log("PAM: ");
}

#[test]
fn rules_choose_the_service_and_what_it_is_told() {
    let (Some(service), Some(closed)) = (Service::new(JUDGE, "pam_permit"), Service::new(JUDGE, "pam_deny"))
    else {
        return;
    };
    let cluster = Cluster::start();
    let dir = tempfile::tempdir().expect("a directory");
    let hba = dir.path().join("hba");
    let rules = format!(
        "host all scram_u all pam pamservice={} pam_use_hostname=1\n\
         host all md5_u all pam pamservice={}\n\
         host all password_u all pam\n",
        service.name, closed.name
    );
    fs::write(&hba, rules).expect("a file of ours");
    let howdah = Howdah::before(&cluster)
        .set("auth_type", "hba")
        .set("auth_hba_file", hba.to_str().expect("a plain path"))
        .set("auth_pam_service", "howdah-test-nothing")
        .start();
    if !howdah.is_howdah() {
        return;
    }
    assert_eq!(
        come(howdah.target(), "scram_u", &password_of("scram_u")),
        "scram_u"
    );
    let asked = fs::read_to_string(service.dir().join("asked")).expect("it was asked");
    assert_eq!(asked, "scram_u from localhost\n");
    // The password is right, and the account is closed.
    assert_eq!(
        come(howdah.target(), "md5_u", &password_of("md5_u")),
        refused("md5_u")
    );
    assert!(closed.dir().join("asked").exists());
    // A service that is not there is PAM's `other`, which knows nobody of this name.
    assert_eq!(
        come(howdah.target(), "password_u", &password_of("password_u")),
        refused("password_u")
    );
}

#[test]
fn a_slow_module_delays_nobody_else() {
    // It judges when it is told to, and by itself after a minute.
    let script = "for i in $(seq 600); do [ -e go ] && exit 1; sleep 0.1; done";
    let Some(service) = Service::new(script, "pam_permit") else {
        return;
    };
    let cluster = Cluster::start();
    let dir = tempfile::tempdir().expect("a directory");
    let hba = dir.path().join("hba");
    let rules = format!(
        "host all scram_u all pam pamservice={}\nhost all all all trust\n",
        service.name
    );
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
    let crowd = || -> Vec<_> {
        (0..12)
            .map(|_| thread::spawn(move || come(target, "scram_u", "any")))
            .collect()
    };
    // Those without a place do not wait longer than those who have one.
    let start = Instant::now();
    for client in crowd() {
        assert_eq!(client.join().expect("a client"), refused("scram_u"));
    }
    assert!(start.elapsed() >= Duration::from_secs(1), "{:?}", start.elapsed());
    howdah.wait_log("PAM does not answer in time");
    howdah.reload(|config| config.set("auth_answer_timeout", "50s"));
    howdah.wait_log("configuration reloaded");
    let clients = crowd();
    for _ in 0..5 {
        assert_eq!(come(target, "app", ""), "app");
    }
    assert!(
        clients.iter().all(|client| !client.is_finished()),
        "nobody has judged"
    );
    fs::write(service.dir().join("go"), "").expect("a file of ours");
    for client in clients {
        assert_eq!(client.join().expect("a client"), refused("scram_u"));
    }
}

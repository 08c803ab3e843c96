//! What those can find out who are not let in: not who would be; and that they keep nobody busy.

mod common;

use std::time::{Duration, Instant};

use common::net::wait_until;
use common::tls::{Certificates, trusting, tunnel};
use common::{Cluster, Howdah, Target, Wire, login, msg};

/// The salt that howdah tells somebody of this name, who has to prove knowledge of a password by SCRAM.
fn salt(target: Target, user: &str) -> String {
    let mut wire = Wire::connect(target).expect("a connection");
    wire.send(&msg::startup(&[("user", user), ("database", "app")]));
    wire.expect("R");
    let first = b"n,,n=,r=howdahtestnonce";
    let length = u32::try_from(first.len()).expect("short").to_be_bytes();
    wire.send(&msg::password(&[b"SCRAM-SHA-256\0", &length[..], first].concat()));
    let said = String::from_utf8(wire.expect("R")[0].body[4..].to_vec()).expect("it is text");
    let salt = said.split(',').find_map(|part| part.strip_prefix("s="));
    salt.expect("a salt").to_owned()
}

#[test]
fn replicas_with_the_same_key_say_the_same_of_those_who_do_not_exist() {
    let (cluster, certificates, others) = (Cluster::start(), Certificates::new(), Certificates::new());
    let replica = |certificates: &Certificates| {
        let config = Howdah::before(&cluster)
            .set("auth_type", "scram-sha-256")
            .user("app", "known");
        certificates.offered(config, "allow").start()
    };
    let (one, other, stranger) = (replica(&certificates), replica(&certificates), replica(&others));
    if !one.is_howdah() {
        return;
    }
    // Whoever is asked for twice, and gets two salts, does not exist: a verifier has but one.
    for user in ["nobody_knows_me", "app"] {
        let salts = [&one, &one, &other].map(|howdah| salt(howdah.target(), user));
        assert_eq!(salts[0], salts[1], "{user}: the same process");
        assert_eq!(salts[0], salts[2], "{user}: another process");
        assert_ne!(
            salts[0],
            salt(stranger.target(), user),
            "{user}: nobody can compute it"
        );
    }
    assert_ne!(
        salt(one.target(), "nobody_knows_me"),
        salt(one.target(), "nor_me")
    );
    let tls = tunnel(one.target(), trusting());
    assert_eq!(salt(tls, "app"), salt(one.target(), "app"));
}

#[test]
fn a_slow_verifier_does_not_tell_that_somebody_exists() {
    // A third of a second of one CPU, much more than every refusal is kept back.
    let slow = "SCRAM-SHA-256$1000000:c2FsdHNhbHRzYWx0c2FsdA==$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=:\
                AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    let cluster = Cluster::start();
    let howdah = Howdah::before(&cluster)
        .set("auth_type", "password")
        .user("slow", slow)
        .start();
    if !howdah.is_howdah() {
        return;
    }
    let time = |user: &str| {
        let start = Instant::now();
        let params = [("user", user), ("database", "app")];
        let refused = Wire::login_with(howdah.target(), &params, Some("wrong"));
        let login::LoginError::Refused(error) = refused.err().expect("a refusal") else {
            panic!("{user}: closed without a word");
        };
        assert_eq!(error.code(), "28P01");
        start.elapsed()
    };
    let (mut known, mut unknown) = (Duration::MAX, Duration::MAX);
    for _ in 0..2 {
        known = known.min(time("slow"));
        unknown = unknown.min(time("nobody_knows_me"));
    }
    let (less, more) = (known.min(unknown), known.max(unknown));
    assert!(less > more / 2, "known {known:?}, unknown {unknown:?}");
}

#[test]
fn a_question_that_is_never_answered_ends_and_leaves_nothing_behind() {
    let cluster = Cluster::start();
    cluster.sql("CREATE ROLE asker LOGIN; GRANT SELECT ON pg_catalog.pg_authid TO asker");
    let endless = "SELECT $1::text, 'anything' FROM pg_sleep(3600)";
    let howdah = Howdah::before(&cluster)
        .set("auth_type", "scram-sha-256")
        .set("auth_user", "asker")
        .set("auth_query", endless)
        .set("server_connect_timeout", "1s")
        .set("workers", 1)
        .database("app", &cluster.location("app"))
        .user("app", "known")
        .start();
    if !howdah.is_howdah() {
        return;
    }
    let come = |user: &str| {
        let params = [("user", user), ("database", "app")];
        Wire::login_with(howdah.target(), &params, Some("known"))
    };
    std::thread::scope(|scope| {
        // More than there are servers to ask on.
        let strangers: Vec<_> = (0..30)
            .map(|number| {
                scope.spawn(move || come(&format!("stranger_{number}")).err().expect("nobody knows"))
            })
            .collect();
        for _ in 0..5 {
            assert_eq!(come("app").expect("a user of ours").value("SELECT 1"), "1");
        }
        for stranger in strangers {
            assert_eq!(stranger.join().expect("a stranger").code(), "57P03");
        }
    });
    wait_until("nobody is busy with it", || {
        cluster.backends("usename = 'asker' AND state = 'active'") == 0
    });
}

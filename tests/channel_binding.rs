//! SCRAM-SHA-256-PLUS on both sides: certificates with every hash, and somebody in between.
//!
//! libpq judges what howdah shows to clients, PostgreSQL what howdah answers to servers: both compute the hash of the
//! certificate by OpenSSL.

mod common;

use common::cluster::password_of;
use common::tls::{Certificates, attempts, interceptor, trusting, tunnel};
use common::{Cluster, Howdah, Target, Wire, msg};

/// Certificates by how they are signed, as `openssl req` makes them.
const SIGNED: [(&str, &[&str]); 12] = [
    ("rsa-md5", &["-newkey", "rsa:2048", "-md5"]),
    ("rsa-sha1", &["-newkey", "rsa:2048", "-sha1"]),
    ("rsa-sha224", &["-newkey", "rsa:2048", "-sha224"]),
    ("rsa-sha256", &["-newkey", "rsa:2048", "-sha256"]),
    ("rsa-sha384", &["-newkey", "rsa:2048", "-sha384"]),
    ("rsa-sha512", &["-newkey", "rsa:2048", "-sha512"]),
    (
        "pss-sha256",
        &[
            "-newkey",
            "rsa:2048",
            "-sha256",
            "-sigopt",
            "rsa_padding_mode:pss",
        ],
    ),
    (
        "pss-sha512",
        &[
            "-newkey",
            "rsa:2048",
            "-sha512",
            "-sigopt",
            "rsa_padding_mode:pss",
        ],
    ),
    (
        "ec-sha1",
        &["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-sha1"],
    ),
    (
        "ec-sha256",
        &["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-sha256"],
    ),
    (
        "ec-sha384",
        &["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-384", "-sha384"],
    ),
    (
        "ec-sha512",
        &["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-521", "-sha512"],
    ),
];
const UNHASHED: (&str, &[&str]) = ("ed25519", &["-newkey", "ed25519"]);

fn own(name: &str, arguments: &[&str]) -> Certificates {
    let certificates = Certificates::new();
    certificates.openssl(name, arguments);
    certificates.replace("server", name);
    certificates
}

fn login(words: &str) -> String {
    format!(
        "user=scram_u password='{}' sslmode=require {words}",
        password_of("scram_u")
    )
}

/// Clients log in by SCRAM with TLS; servers are not asked for it.
fn offering(cluster: &Cluster, certificates: &Certificates) -> Howdah {
    let config = Howdah::before(cluster)
        .set("auth_type", "scram-sha-256")
        .user("scram_u", &password_of("scram_u"));
    certificates.offered(config, "require").start()
}

/// Servers are asked for TLS in this way; clients are trusted. The role must be bound to the channel by itself.
fn reaching(target: Target, cluster: &Cluster, words: &str) -> Howdah {
    let port = target.port;
    let password = password_of("scram_u");
    let location = format!(
        "host=127.0.0.1 port={port} dbname=app user=scram_u password='{password}' sslmode=require {words}"
    );
    Howdah::before(cluster)
        .set("query_wait_timeout", "3s")
        .database("app", &location)
        .start()
}

/// Who the server says that we are, or the SQLSTATE instead.
fn served(howdah: &Howdah) -> String {
    match Wire::login_with(howdah.target(), &[("user", "app"), ("database", "app")], None) {
        Ok(mut wire) => wire.value("SELECT current_user"),
        Err(error) => error.code().to_owned(),
    }
}

#[test]
fn clients_are_bound_to_certificates_with_every_hash() {
    let cluster = Cluster::start();
    for (name, arguments) in SIGNED {
        let certificates = own(name, arguments);
        let howdah = offering(&cluster, &certificates);
        if !howdah.is_howdah() {
            return;
        }
        let seen = attempts(
            howdah.target(),
            &[&login("channel_binding=require require_auth=scram-sha-256")],
        );
        assert_eq!(seen, ["tls"], "{name}");
    }
}

#[test]
fn servers_are_bound_to_by_certificates_with_every_hash() {
    for (name, arguments) in SIGNED {
        let certificates = own(name, arguments);
        let cluster = certificates.cluster("server").start();
        let howdah = reaching(cluster.target(), &cluster, "channel_binding=require");
        if !howdah.is_howdah() {
            return;
        }
        assert_eq!(served(&howdah), "scram_u", "{name}: {}", howdah.log());
    }
}

#[test]
fn a_certificate_without_a_hash_binds_nobody_and_keeps_nobody_out() {
    let (name, arguments) = UNHASHED;
    let certificates = own(name, arguments);
    let cluster = certificates.cluster("server").start();
    let howdah = offering(&cluster, &certificates);
    if !howdah.is_howdah() {
        return;
    }
    // PostgreSQL offers the binding all the same, and both sides fail over it then.
    let all = ["prefer", "disable", "require"].map(|word| login(&format!("channel_binding={word}")));
    let all = all.each_ref().map(String::as_str);
    let seen = attempts(howdah.target(), &all);
    assert_eq!(seen[..2], ["tls", "tls"]);
    assert!(seen[2].contains("channel binding"), "{}", seen[2]);
    let directly = attempts(cluster.target(), &all[..1]);
    assert!(directly[0].contains("could not find digest"), "{}", directly[0]);

    let howdah = reaching(cluster.target(), &cluster, "channel_binding=prefer");
    assert_eq!(served(&howdah), "scram_u");
    let howdah = reaching(cluster.target(), &cluster, "channel_binding=require");
    assert_eq!(served(&howdah), "28000");
}

#[test]
fn somebody_between_client_and_howdah_is_noticed() {
    let (cluster, certificates, theirs) = (Cluster::start(), Certificates::new(), Certificates::new());
    let howdah = offering(&cluster, &certificates);
    if !howdah.is_howdah() {
        return;
    }
    let between = interceptor(howdah.target(), &theirs, "server");
    let all = ["disable", "prefer", "require"].map(|word| login(&format!("channel_binding={word}")));
    let seen = attempts(between, &all.each_ref().map(String::as_str));
    assert_eq!(seen[0], "tls", "who does not look sees nothing");
    for seen in &seen[1..] {
        assert!(seen.contains("SCRAM channel binding failed"), "{seen}");
    }
}

#[test]
fn somebody_between_howdah_and_the_server_is_noticed() {
    let (certificates, theirs) = (Certificates::new(), Certificates::new());
    let cluster = certificates.cluster("server").start();
    let between = interceptor(cluster.target(), &theirs, "server");
    for (word, seen) in [("disable", "scram_u"), ("prefer", "28000"), ("require", "28000")] {
        let howdah = reaching(between, &cluster, &format!("channel_binding={word}"));
        if !howdah.is_howdah() {
            return;
        }
        assert_eq!(served(&howdah), seen, "{word}");
    }
}

#[test]
fn what_is_required_cannot_be_had_without_tls_or_scram() {
    let certificates = Certificates::new();
    let plain = Cluster::start();
    let trusting = certificates
        .cluster("server")
        .hba("host all scram_u 127.0.0.1/32 trust")
        .start();
    let in_clear = certificates
        .cluster("server")
        .hba("host all scram_u 127.0.0.1/32 password")
        .start();
    for (cluster, words) in [
        (&plain, "sslmode=prefer"),
        (&trusting, "sslmode=require"),
        (&in_clear, "sslmode=require"),
    ] {
        let howdah = reaching(
            cluster.target(),
            cluster,
            &format!("channel_binding=require {words}"),
        );
        if !howdah.is_howdah() {
            return;
        }
        assert_eq!(served(&howdah), "28000", "{words}");
        let howdah = reaching(cluster.target(), cluster, words);
        assert_eq!(served(&howdah), "scram_u", "{words}");
    }
}

#[test]
fn a_client_that_was_told_of_no_binding_is_refused_where_there_is_one() {
    let (cluster, certificates) = (Cluster::start(), Certificates::new());
    let howdah = offering(&cluster, &certificates);
    if !howdah.is_howdah() {
        return;
    }
    let tls = tunnel(howdah.target(), trusting());
    let both = b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0";
    // `y`: "I could, but you cannot". Somebody has taken the offer out.
    assert_eq!(begin(tls, both, "y,,").expect_fatal().code(), "28000");
    assert_eq!(begin(tls, both, "n,,").read().kind, b'R', "it goes on");
    // Without TLS nothing is on offer, and `y` is what a client says that could.
    let plain = Howdah::before(&cluster)
        .set("auth_type", "scram-sha-256")
        .user("scram_u", &password_of("scram_u"))
        .start();
    for header in ["y,,", "n,,"] {
        let mut wire = begin(plain.target(), b"SCRAM-SHA-256\0\0", header);
        assert_eq!(wire.read().kind, b'R', "it goes on after {header}");
    }
}

/// Says the first words of SCRAM without a binding, with this header, to somebody who makes this offer.
fn begin(target: Target, offer: &[u8], header: &str) -> Wire {
    let mut wire = Wire::connect(target).expect("a connection");
    wire.send(&msg::startup(&[("user", "scram_u"), ("database", "app")]));
    assert_eq!(wire.read().body[4..], *offer);
    let first = format!("{header}n=,r=abcdefghijkl");
    let length = u32::try_from(first.len()).expect("short").to_be_bytes();
    wire.send(&msg::password(
        &[b"SCRAM-SHA-256\0", length.as_slice(), first.as_bytes()].concat(),
    ));
    wire
}

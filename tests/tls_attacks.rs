//! What somebody may try who wants TLS to do harm: to be read as something else, to cost much, to hang.

mod common;

use std::process::Command;
use std::time::Duration;

use common::tls::{Certificates, named, showing, tunnel};
use common::{Cluster, Howdah, Wire, login, msg, run};

const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn cve_2021_43766_nothing_in_clear_is_taken_for_the_holder_of_a_certificate() {
    // Odyssey took what had come before the handshake for the words of whoever showed a certificate in it.
    let (cluster, certificates) = (Cluster::start(), Certificates::new());
    certificates.client("app");
    let howdah = certificates
        .offered(Howdah::before(&cluster), "verify-full")
        .set("client_tls_ca_file", certificates.path("root.crt"))
        .set("auth_type", "cert")
        .start();
    if !howdah.is_howdah() {
        return;
    }
    let target = tunnel(howdah.target(), showing(&certificates, "app"));
    assert_eq!(
        Wire::login(target, "app", "app").value("SELECT current_user"),
        "app"
    );
    let injected = [
        msg::startup(&[("user", "app"), ("database", "app")]),
        msg::query("CREATE TABLE injected ()"),
    ]
    .concat();
    let mut wire = Wire::connect(howdah.target()).expect("a connection");
    wire.send(&[msg::ssl_request(), injected].concat());
    // Not even the handshake is begun: whoever waits for its answer gets none.
    let error = wire.expect_fatal();
    assert_eq!(error.code(), "08P01");
    assert!(error.message().contains("unencrypted data"), "{error:?}");
    assert_eq!(
        cluster.value("SELECT count(*) FROM pg_class WHERE relname = 'injected'"),
        "0"
    );
}

#[test]
fn nobody_can_ask_for_handshake_after_handshake() {
    let (cluster, certificates) = (Cluster::start(), Certificates::new());
    let howdah = certificates.offered(Howdah::before(&cluster), "require").start();
    if !howdah.is_howdah() {
        return;
    }
    // OpenSSL's client asks for another handshake (TLS 1.2), or for other keys (1.3), for a line of one letter.
    let talk = |version: &str, letter: &str| {
        let script = format!(
            "(for i in $(seq 40); do echo {letter}; sleep 0.02; done) | openssl s_client -connect 127.0.0.1:{} \
             -starttls postgres {version} 2>&1",
            howdah.target().port
        );
        let mut command = Command::new("bash");
        command.args(["-c", &script]);
        String::from_utf8_lossy(&run::output(&mut command, LIMIT).stdout).into_owned()
    };
    let said = talk("-tls1_2", "R");
    assert!(said.contains("RENEGOTIATING"), "{said}");
    assert!(
        said.contains("no renegotiation") || said.contains("alert"),
        "it was not refused: {said}"
    );
    let said = talk("-tls1_3", "K");
    assert!(said.contains("KEYUPDATE"), "{said}");
    assert!(!howdah.log().contains("panicked"), "{}", howdah.log());
    let tls = tunnel(howdah.target(), common::tls::trusting());
    assert_eq!(Wire::app(tls).value("SELECT 'well'"), "well");
}

#[test]
fn certificates_beyond_all_measure_are_refused() {
    let (cluster, certificates) = (Cluster::start(), Certificates::new());
    let howdah = certificates
        .offered(Howdah::before(&cluster), "require")
        .set("client_tls_ca_file", certificates.path("root.crt"))
        .start();
    if !howdah.is_howdah() {
        return;
    }
    certificates.sign("large", |params| {
        params.subject_alt_names.clear();
        params.distinguished_name = named("app");
        let content = vec![0; 20_000];
        let extension = rcgen::CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99_999, 1], content);
        params.custom_extensions = vec![extension];
    });
    // Two megabytes of certificates that are said to lead to the authority.
    let [certificate, key] = ["large.crt", "large.key"].map(|name| {
        let text = std::fs::read_to_string(certificates.path(name));
        text.expect("it is there")
    });
    certificates.write("huge.crt", &certificate.repeat(100));
    certificates.write("huge.key", &key);
    let visit = |name: &str| {
        let target = tunnel(howdah.target(), showing(&certificates, name));
        let params = [("user", "app"), ("database", "app")];
        Wire::login_with(target, &params, None)
    };
    assert_eq!(visit("large").expect("it is signed").value("SELECT 1"), "1");
    for _ in 0..20 {
        let refused = visit("huge").err().expect("a handshake has a limit");
        assert!(matches!(refused, login::LoginError::Broken(_)), "{refused}");
    }
    assert_eq!(visit("large").expect("it is signed").value("SELECT 1"), "1");
    assert!(!howdah.log().contains("panicked"), "{}", howdah.log());
}

//! Whether what is said about TLS goes together.

use super::Config;
use super::check::Finding;
use super::choice::{SslMode, SslNegotiation};
use super::settings::{Overrides, PoolSettings, Settings};

/// What it takes to offer TLS to clients.
pub(super) fn clients(settings: &Settings, find: &mut impl FnMut(&str, String)) {
    let mode = settings.client_tls_sslmode;
    let is_missing = settings.client_tls_cert_file.is_empty() || settings.client_tls_key_file.is_empty();
    if mode != SslMode::Disable && is_missing {
        let message = format!(
            "client_tls_sslmode: \"{mode}\" needs a certificate: client_tls_cert_file and client_tls_key_file"
        );
        find("client_tls_sslmode", message);
    }
    if mode.is_verified() && settings.client_tls_ca_file.is_empty() {
        let message = format!(
            "client_tls_sslmode: \"{mode}\" needs to know whose signatures count: client_tls_ca_file"
        );
        find("client_tls_sslmode", message);
    }
}

/// What libpq would refuse to begin with.
pub(super) fn servers(config: &Config, findings: &mut Vec<Finding>) {
    let none = Overrides::default();
    let mut check = |table: &str, names: [&str; 3], own: &Overrides| {
        let policy = PoolSettings::resolve(&config.settings, own, &none);
        let [negotiation, authorities, certificate] = names;
        let mut find = |name: &str, message: String| findings.push((format!("{table}.{name}"), message));
        let mode = policy.sslmode;
        if policy.sslnegotiation == SslNegotiation::Direct && !mode.is_required() {
            let message =
                format!("{negotiation}: \"direct\" needs more than \"{mode}\": at least \"require\"");
            find(negotiation, message);
        }
        if policy.sslrootcert == "system" && mode != SslMode::VerifyFull {
            let message = format!("{authorities}: \"system\" needs \"verify-full\", not \"{mode}\"");
            find(authorities, message);
        }
        if policy.sslcert.is_empty() != policy.sslkey.is_empty() {
            let message = format!("{certificate}: a certificate and its key need each other");
            find(certificate, message);
        }
    };
    let names = [
        "server_tls_sslnegotiation",
        "server_tls_ca_file",
        "server_tls_cert_file",
    ];
    check("howdah", names, &none);
    for database in config.databases.values().chain(&config.fallback) {
        let own = &database.overrides;
        let has_own = own.sslmode.is_some()
            || own.sslnegotiation.is_some()
            || [&own.sslrootcert, &own.sslcert, &own.sslkey]
                .iter()
                .any(|file| file.is_some());
        if has_own {
            let table = format!("databases.{}", database.name);
            check(&table, ["sslnegotiation", "sslrootcert", "sslcert"], own);
        }
    }
}

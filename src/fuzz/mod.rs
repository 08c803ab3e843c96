//! A function for everything that reads what a peer or a file says. Any bytes at all may go in; a function panics when
//! something that was promised about them does not hold.
//!
//! The `fuzz` package runs them for as long as one likes, `cargo test` over what is in `fuzz/corpus` and some thousand
//! mutations of it. In a build for use they do not exist. Those that need the private parts of a module are in there.

mod auth;
mod files;
#[cfg(test)]
mod smoke;
mod sql;
mod wire;

/// Takes in any bytes at all.
type Target = fn(&[u8]);

/// The functions by name.
pub const TARGETS: [(&str, Target); 17] = [
    ("certificate", crate::net::tls::fuzz::certificate),
    ("challenge", auth::challenge),
    ("client_messages", crate::client::fuzz::client_messages),
    ("config", crate::config::fuzz::file),
    ("conninfo", files::conninfo),
    ("console", crate::admin::fuzz::command),
    ("conversation", crate::client::fuzz::conversation),
    ("hba", files::hba),
    ("ident", files::ident),
    ("ldap", auth::ldap),
    ("pipeline", crate::wire::pipeline::fuzz),
    ("scram_client", auth::scram_client),
    ("scram_server", auth::scram_server),
    ("server_messages", crate::client::fuzz::server_messages),
    ("sql", sql::sql),
    ("startup", wire::startup),
    ("userlist", files::userlist),
];

/// Runs the function of this name.
///
/// # Panics
///
/// If there is none, or if it finds something.
pub fn run(name: &str, data: &[u8]) {
    let found = TARGETS.iter().find(|(have, _)| *have == name);
    let (_, function) = found.unwrap_or_else(|| panic!("no such target: {name}"));
    function(data);
}

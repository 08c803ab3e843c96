//! Whether new clients should be sent here.

use super::Exhibit;
use crate::config::Config;
use crate::error::{Refusal, SqlState};
use crate::pool::PoolKey;

/// The pools that are filled up to `min_pool_size` before anybody has logged in: of databases that say whom to log in as,
/// and of all configured users where they do not.
pub fn prefilled(config: &Config) -> Vec<PoolKey> {
    let mut keys = Vec::new();
    for (name, database) in &config.databases {
        let users: Vec<&String> = match &database.user {
            Some(user) => vec![user],
            None => config.users.keys().collect(),
        };
        for user in users {
            if config.pool_settings(database, user).min_pool_size > 0 {
                keys.push(PoolKey {
                    database: name.clone(),
                    user: user.clone(),
                });
            }
        }
    }
    keys
}

/// Why new clients should not be sent here yet, or any more.
pub(super) fn objection(exhibit: &Exhibit) -> Option<String> {
    if exhibit.is_draining() {
        return Some("shutting down".to_owned());
    }
    let house = exhibit.front.house();
    prefilled(&house.config).into_iter().find_map(|key| {
        let Some(pool) = exhibit.front.pools.get(&key) else {
            return Some(format!("pool {key} has not been opened yet"));
        };
        if pool.is_ready() {
            return None;
        }
        let snapshot = pool.snapshot();
        let is_forced = house
            .config
            .database(&key.database)
            .is_some_and(|database| database.user.is_some());
        // Not every user has to be let in everywhere.
        if !is_forced && snapshot.last_error.as_ref().is_some_and(cannot_be_filled) {
            return None;
        }
        let (have, wanted) = (
            snapshot.servers() - snapshot.sv_login,
            snapshot.settings.min_pool_size,
        );
        let reason = snapshot.last_error.map(|error| format!(": {}", error.message));
        Some(format!(
            "pool {key} has {have} of {wanted} servers{}",
            reason.unwrap_or_default()
        ))
    })
}

/// The server does not let this user in, and will not until somebody changes something.
fn cannot_be_filled(error: &Refusal) -> bool {
    matches!(error.code.class(), "28" | "42") || error.code == SqlState::INVALID_CATALOG_NAME
}

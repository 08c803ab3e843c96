//! Whether new clients should be sent here.

use super::Exhibit;
use crate::config::Config;
use crate::pool::PoolKey;

/// The pools that can be filled before anybody has logged in: those of databases with a `min_pool_size` for which it is
/// known whom to log in as, because the database says so or because there is only one user.
pub fn prefilled(config: &Config) -> Vec<PoolKey> {
    let only = match config.users.len() {
        1 => config.users.keys().next(),
        _ => None,
    };
    let key = |(name, database): (&String, &crate::config::Database)| {
        let user = database.user.as_ref().or(only)?;
        let wanted = config.pool_settings(database, user).min_pool_size;
        (wanted > 0).then(|| PoolKey {
            database: name.clone(),
            user: user.clone(),
        })
    };
    config.databases.iter().filter_map(key).collect()
}

/// Why new clients should not be sent here yet, or any more.
pub(super) fn objection(exhibit: &Exhibit) -> Option<String> {
    if exhibit.is_draining() {
        return Some("shutting down".to_owned());
    }
    let front = &exhibit.front;
    prefilled(&front.house().config)
        .into_iter()
        .find_map(|key| match front.pools.get(&key) {
            None => Some(format!("pool {key} has not been opened yet")),
            Some(pool) if pool.is_ready() => None,
            Some(pool) => {
                let snapshot = pool.snapshot();
                let (have, wanted) = (
                    snapshot.servers() - snapshot.sv_login,
                    snapshot.settings.min_pool_size,
                );
                let reason = snapshot.last_error.map(|error| format!(": {}", error.message));
                Some(format!(
                    "pool {key} has {have} of {wanted} servers{}",
                    reason.unwrap_or_default()
                ))
            }
        })
}

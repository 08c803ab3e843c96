//! Pools that are to be warm before anybody asks: those whose role and password are in the configuration.

use std::sync::Arc;

use crate::auth::Learned;
use crate::client::Front;

/// Makes the pools that can be filled up to `min_pool_size` without a client: of databases with a forced user, and of
/// configured users whose password is known.
pub(super) fn prefill(front: &Arc<Front>) {
    let house = front.house();
    for database in house.config.databases.values() {
        let roles: Vec<&str> = match &database.user {
            Some(role) => vec![role],
            None => house.config.users.keys().map(String::as_str).collect(),
        };
        for role in roles {
            let policy = house.config.pool_settings(database, role);
            if policy.min_pool_size > 0 {
                front.pool(&house, database, role, Learned::default());
            }
        }
    }
}

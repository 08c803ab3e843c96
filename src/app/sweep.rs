//! Forgets pools that nobody uses any more: their names come from clients, so that there is no end to them. And what is
//! known of the functions of the others, once it may be out of date; and secrets that servers have told, which are not
//! to lie about when nobody needs them.

use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::client::Front;

/// How long a pool must have had neither clients nor servers.
const UNUSED: Duration = Duration::from_secs(600);
/// How often that is looked at.
const INTERVAL: Duration = Duration::from_secs(60);

/// Sweeps for as long as there is a front.
pub(super) async fn sweep(front: Weak<Front>) {
    loop {
        tokio::time::sleep(INTERVAL).await;
        let Some(front) = front.upgrade() else { return };
        front.forget_old_secrets();
        for pool in front.pools.all() {
            pool.source().functions.forget_old();
        }
        let forgotten = front.pools.remove_unused(UNUSED);
        if forgotten > 0 {
            tracing::debug!(forgotten, "unused pools are forgotten");
        }
    }
}

/// Begins to sweep.
pub(super) fn start(front: &Arc<Front>) {
    tokio::spawn(sweep(Arc::downgrade(front)));
}

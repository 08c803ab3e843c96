//! All pools of the process.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;

use super::house::Pool;
use super::limits::Book;
use super::servers::Servers;
use super::settings::PoolKey;
use super::source::Source;
use crate::server::Address;
use crate::stats::PoolStats;

/// The pools by database and user, and the limits they share.
pub struct Registry<S: Source> {
    pools: RwLock<HashMap<PoolKey, Arc<Pool<S>>>>,
    book: Arc<Book>,
    /// What pools that have been removed had counted: totals never go down.
    retired: parking_lot::Mutex<PoolStats>,
}

impl<S: Source> Registry<S> {
    /// No pools yet.
    pub fn new() -> Self {
        Self {
            pools: RwLock::default(),
            book: Book::new(),
            retired: parking_lot::Mutex::default(),
        }
    }

    /// The limits that the pools share.
    pub fn book(&self) -> &Arc<Book> {
        &self.book
    }

    /// The pool for this key, if there is one.
    pub fn get(&self, key: &PoolKey) -> Option<Arc<Pool<S>>> {
        self.pools.read().get(key).cloned()
    }

    /// The pool for this key, made by `make` if there is none. `make` is called under the registry's lock.
    pub fn get_or_create(
        &self,
        key: &PoolKey,
        make: impl FnOnce(&Arc<Book>) -> Arc<Pool<S>>,
    ) -> Arc<Pool<S>> {
        if let Some(pool) = self.get(key) {
            return pool;
        }
        let mut pools = self.pools.write();
        Arc::clone(pools.entry(key.clone()).or_insert_with(|| make(&self.book)))
    }

    /// All pools, ordered by key.
    pub fn all(&self) -> Vec<Arc<Pool<S>>> {
        let mut all: Vec<_> = self.pools.read().values().cloned().collect();
        all.sort_by(|a, b| a.key().cmp(b.key()));
        all
    }

    /// All pools of a database, ordered by user.
    pub fn of_database(&self, database: &str) -> Vec<Arc<Pool<S>>> {
        let mut all = self.all();
        all.retain(|pool| pool.key().database == database);
        all
    }

    /// Takes a pool out; whoever has it keeps it.
    pub fn remove(&self, key: &PoolKey) -> Option<Arc<Pool<S>>> {
        let pool = self.pools.write().remove(key);
        if let Some(pool) = &pool {
            self.retired.lock().merge(&pool.snapshot().stats);
        }
        pool
    }

    /// Removes the pools that nobody has held and that have had no connection for so long. Returns how many.
    pub fn remove_unused(&self, at_least: Duration) -> usize {
        let mut pools = self.pools.write();
        let before = pools.len();
        let unused: Vec<_> = pools
            .extract_if(|_, pool| {
                // Nobody can get hold of it meanwhile: that takes the registry's lock.
                let is_unused = |time| time >= at_least || pool.has_no_database();
                Arc::strong_count(pool) == 1 && pool.unused_for().is_some_and(is_unused)
            })
            .collect();
        let after = pools.len();
        drop(pools);
        let mut retired = self.retired.lock();
        for (_, pool) in &unused {
            retired.merge(&pool.snapshot().stats);
        }
        before - after
    }

    /// The totals of all pools there are and have been.
    pub fn totals(&self) -> PoolStats {
        let mut totals = self.retired.lock().clone();
        for pool in self.all() {
            totals.merge(&pool.snapshot().stats);
        }
        totals
    }
}

impl Registry<Servers> {
    /// New sessions of this role or database of one of these servers begin with other settings; an empty name is any.
    pub fn renew(&self, addresses: &[Address], name: &[u8]) {
        for pool in self.all() {
            let target = pool.source().target();
            let is_there = target.addresses.iter().any(|address| addresses.contains(address));
            let is_meant = |have: &str| name.is_empty() || have.as_bytes() == name;
            if is_there && (is_meant(&pool.key().user) || is_meant(&target.database)) {
                pool.renew();
            }
        }
    }

    /// Lets the pools that connect to this database of one of these servers [make way](Pool::make_way).
    pub fn make_way(&self, addresses: &[Address], database: &str) {
        for pool in self.all() {
            let target = pool.source().target();
            let is_there = target.addresses.iter().any(|address| addresses.contains(address));
            if is_there && target.database == database {
                pool.make_way();
            }
        }
    }
}

impl<S: Source> Default for Registry<S> {
    fn default() -> Self {
        Self::new()
    }
}

//! Everything that a login has to look up: configuration, secrets, pools, and who else is there.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use crate::auth::{Credentials, Learned, MockKey, StoredSecret};
use crate::config::{Config, Database, PoolSettings};
use crate::error::{Refusal, SqlState};
use crate::farewell::Farewell;
use crate::net::Keepalive;
use crate::net::tls::Acceptor;
use crate::pool::{LimitName, Pool, PoolKey, Registry, Servers, bounds};
use crate::server::{Address, Lore, Resolver, Target};

use super::clients::{ClientLimits, Clients};
use super::encryption;
use super::threshold::Handshakes;

/// How many connections more than `max_client_conn` may be logging in: cancel requests and visitors of the console.
const STRANGERS_SPARE: usize = 50;

/// The configuration, and what is derived from it once rather than at every login.
#[derive(Debug)]
pub struct House {
    /// As it was loaded.
    pub config: Config,
    /// Users' secrets, understood.
    secrets: HashMap<String, Arc<StoredSecret>>,
    /// Shakes hands with clients who want TLS.
    pub(super) acceptor: Option<Arc<Acceptor>>,
}

/// What all connections share.
pub struct Front {
    house: ArcSwap<House>,
    /// The pools.
    pub pools: Registry<Servers>,
    /// The clients.
    pub clients: Arc<Clients>,
    /// Host names to addresses.
    pub resolver: Arc<Resolver>,
    /// Makes unknown users look like known ones.
    pub(super) mock: MockKey,
    /// How TLS handshakes with clients have ended.
    pub handshakes: Handshakes,
    farewells: [AtomicU64; Farewell::LABELS.len()],
    disabled: Mutex<std::collections::HashSet<String>>,
    paused: Mutex<Paused>,
}

/// What PAUSE holds for pools that are there and for those to come.
#[derive(Debug, Default)]
struct Paused {
    all: bool,
    databases: std::collections::HashSet<String>,
}

impl House {
    /// Understands a configuration; the error names the user whose secret makes no sense, or the file that is missing.
    pub fn new(config: Config) -> Result<Self, String> {
        let mut secrets = HashMap::new();
        for (name, user) in &config.users {
            if let Some(secret) = &user.secret {
                let stored: StoredSecret = secret
                    .expose()
                    .parse()
                    .map_err(|error| format!("secret of user \"{name}\": {error}"))?;
                secrets.insert(name.clone(), Arc::new(stored));
            }
        }
        Ok(Self {
            acceptor: encryption::acceptor(&config)?,
            config,
            secrets,
        })
    }

    /// Keeps what an earlier house has made from the same files: its clients can resume their TLS sessions here.
    fn keep_from(&mut self, earlier: &Self) {
        if self.acceptor == earlier.acceptor {
            self.acceptor.clone_from(&earlier.acceptor);
        }
    }

    /// What a user has to prove knowledge of.
    pub fn secret(&self, user: &str) -> Option<&Arc<StoredSecret>> {
        self.secrets.get(user)
    }

    /// Limits on clients of this database and user.
    pub fn client_limits(&self, policy: &PoolSettings) -> ClientLimits {
        ClientLimits {
            all: self.config.settings.max_client_conn,
            database: policy.max_db_client_connections,
            user: policy.max_user_client_connections,
        }
    }
}

impl Front {
    /// A front for a house with nobody in it.
    pub fn new(house: House) -> Arc<Self> {
        let resolver = Arc::new(Resolver::new(house.config.settings.dns_max_ttl));
        Arc::new(Self {
            house: ArcSwap::from_pointee(house),
            pools: Registry::new(),
            clients: Arc::default(),
            resolver,
            mock: MockKey::new(&mut super::random),
            handshakes: Handshakes::default(),
            farewells: Default::default(),
            disabled: Mutex::default(),
            paused: Mutex::default(),
        })
    }

    /// The configuration of the moment.
    pub fn house(&self) -> Arc<House> {
        self.house.load_full()
    }

    /// Puts a new configuration into force: pools that are there get their new settings, those whose database is gone
    /// are closed.
    pub fn apply(&self, mut house: House) {
        house.keep_from(&self.house());
        self.resolver.set_ttl(house.config.settings.dns_max_ttl);
        let house = Arc::new(house);
        self.house.store(house.clone());
        for pool in self.pools.all() {
            let key = pool.key().clone();
            let Some(database) = house.config.database(&key.database) else {
                let message = format!("database \"{}\" is not configured any more", key.database);
                pool.close(Refusal::new(SqlState::INVALID_CATALOG_NAME, message));
                self.pools.remove(&key);
                continue;
            };
            let policy = house.config.pool_settings(&database, &key.user);
            let target = self.target(&house, &database, &key, &policy);
            // What a session left on its server is not cleaned up as it should be once the mode is another.
            let changed = pool.source().policy().pool_mode != policy.pool_mode;
            let moved = changed || !pool.source().target().is_same_place(&target);
            pool.source().apply(target, policy.clone());
            pool.apply(bounds(&policy));
            self.set_limits(&key, &policy);
            if moved {
                pool.reconnect();
            }
        }
    }

    /// The pool for a client of this database and role, made if there is none. What the client's login has taught is
    /// used from now on, if that is news, and a pool that was waiting for it is filled.
    pub fn pool(
        &self,
        house: &House,
        database: &Database,
        user: &str,
        learned: Learned,
    ) -> Arc<Pool<Servers>> {
        if let Some(role) = &database.user {
            // What a client proves of itself says nothing of a role that it is forced into.
            return self.pool_of_role(house, database, role, &Learned::default());
        }
        let pool = self.pool_of_role(house, database, user, &learned);
        if pool.source().target().lore.learn(learned) {
            pool.encourage();
        }
        pool
    }

    fn pool_of_role(
        &self,
        house: &House,
        database: &Database,
        role: &str,
        learned: &Learned,
    ) -> Arc<Pool<Servers>> {
        let key = PoolKey {
            database: database.name.clone(),
            user: role.to_owned(),
        };
        self.pools.get_or_create(&key, |book| {
            // The role's own, whoever comes first: a forced user is shared by many clients.
            let policy = house.config.pool_settings(database, role);
            self.set_limits(&key, &policy);
            let target = self.target(house, database, &key, &policy);
            target.lore.learn(learned.clone());
            let servers = Servers::new(target, policy.clone());
            let pool = Pool::new(key.clone(), bounds(&policy), servers, book);
            // Whoever pauses says so first and looks for pools then; this runs under the registry's lock.
            if self.is_paused(&key.database) {
                pool.pause();
            }
            pool
        })
    }

    fn set_limits(&self, key: &PoolKey, policy: &PoolSettings) {
        let book = self.pools.book();
        book.set(
            LimitName::Database(key.database.clone()),
            policy.max_db_connections,
        );
        book.set(LimitName::User(key.user.clone()), policy.max_user_connections);
    }

    fn target(&self, house: &House, database: &Database, key: &PoolKey, policy: &PoolSettings) -> Target {
        let address = |host: &crate::config::Host| match host.socket_path() {
            Some(path) => Address::Unix(path),
            None => Address::Tcp(host.name.clone(), host.port),
        };
        let own = database
            .password
            .as_ref()
            .map(|password| StoredSecret::plain(password.expose().as_bytes()));
        let credentials = match (own, house.secret(&key.user)) {
            (Some(secret), _) => Credentials::from_secret(&key.user, &secret),
            (None, Some(secret)) => Credentials::from_secret(&key.user, secret),
            (None, None) => Credentials {
                user: key.user.clone(),
                ..Credentials::default()
            },
        };
        let parameters = &database.parameters;
        Target {
            addresses: database.hosts.iter().map(address).collect(),
            database: database.dbname_for(&key.database).to_owned(),
            credentials,
            parameters: parameters
                .iter()
                .map(|(name, value)| (name.clone(), value.clone().into()))
                .collect(),
            timeout: policy.server_connect_timeout,
            keepalive: keepalive(&house.config),
            connect_query: policy.connect_query.clone(),
            prepared_max: policy.max_prepared_statements as usize,
            resolver: self.resolver.clone(),
            lore: Lore::default(),
        }
    }

    /// How many clients are logged in, by the pool that serves them.
    pub fn clients_by_pool(&self, config: &Config) -> HashMap<PoolKey, u32> {
        let mut counts = HashMap::new();
        for client in self.clients.all() {
            let database = config.database(&client.database);
            let forced = database.as_ref().and_then(|database| database.user.clone());
            let key = PoolKey {
                database: client.database.clone(),
                user: forced.unwrap_or_else(|| client.user.clone()),
            };
            *counts.entry(key).or_default() += 1;
        }
        counts
    }

    /// Whether so many connections have not logged in yet that one more, with `ahead` before it, must be turned away
    /// unheard. As many may be at it as there may be clients.
    pub(super) fn is_crowded(&self, ahead: usize) -> bool {
        let max = self.house().config.settings.max_client_conn as usize;
        max > 0 && ahead >= max + STRANGERS_SPARE
    }

    /// Counts how a client connection ended.
    pub fn count_farewell(&self, farewell: &Farewell) {
        let label = farewell.label();
        if let Some(at) = Farewell::LABELS.iter().position(|have| *have == label) {
            self.farewells[at].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How client connections ended, by label.
    pub fn farewells(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        let counts = self.farewells.iter().map(|count| count.load(Ordering::Relaxed));
        Farewell::LABELS.into_iter().zip(counts)
    }

    /// Whether new clients of a database are turned away (`DISABLE`).
    pub fn is_disabled(&self, database: &str) -> bool {
        self.disabled.lock().contains(database)
    }

    /// Turns new clients of a database away, or lets them in again.
    pub fn set_disabled(&self, database: &str, disabled: bool) {
        let mut names = self.disabled.lock();
        if disabled {
            names.insert(database.to_owned());
        } else {
            names.remove(database);
        }
    }

    /// Whether the pools of a database are paused, those to come included.
    pub fn is_paused(&self, database: &str) -> bool {
        let paused = self.paused.lock();
        paused.all || paused.databases.contains(database)
    }

    /// Whether everything is paused.
    pub fn is_all_paused(&self) -> bool {
        self.paused.lock().all
    }

    /// Pools of a database, or of all databases, are paused from now on (`PAUSE`, `KILL`). Those that are there are the
    /// caller's to pause.
    pub fn hold(&self, database: Option<&str>) {
        let mut paused = self.paused.lock();
        match database {
            None => paused.all = true,
            Some(name) => drop(paused.databases.insert(name.to_owned())),
        }
    }

    /// Takes [`hold`](Self::hold) back; without a name all of it. Returns whether there was anything to take back.
    /// Pools that are there are the caller's to resume.
    pub fn release(&self, database: Option<&str>) -> bool {
        let mut paused = self.paused.lock();
        match database {
            None => {
                let was = paused.all || !paused.databases.is_empty();
                *paused = Paused::default();
                was
            }
            Some(name) => paused.databases.remove(name),
        }
    }
}

/// The socket options of a configuration.
pub fn keepalive(config: &Config) -> Keepalive {
    let settings = &config.settings;
    Keepalive {
        enabled: settings.tcp_keepalive,
        idle: settings.tcp_keepidle,
        interval: settings.tcp_keepintvl,
        count: settings.tcp_keepcnt,
        user_timeout: settings.tcp_user_timeout,
    }
}

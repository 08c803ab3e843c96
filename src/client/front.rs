//! Everything that a login has to look up: configuration, secrets, pools, and who else is there.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::auth::{Credentials, Learned, Likeness, Mock, StoredSecret};
use crate::authority::Authorities;
use crate::config::{Config, Database, PoolSettings, Settings};
use crate::error::{Refusal, SqlState};
use crate::farewell::{Denial, Farewell};
use crate::net::Keepalive;
use crate::net::tls::Acceptor;
use crate::pool::{LimitName, PinPermit, Pool, PoolKey, Registry, Servers, bounds};
use crate::server::{Address, Lore, Resolver, Target};

use super::clients::{ClientLimits, Clients, LoggingIn};
use super::handle::Order;
use super::login::access::Access;
use super::login::encryption::{self, Connectors};
use super::login::hashing::Hashing;
use super::login::secrets::Secrets;
use super::login::threshold::Handshakes;

/// How many connections more than `max_client_conn` may be logging in: cancel requests and visitors of the console.
const STRANGERS_SPARE: usize = 50;

/// The configuration, and what is derived from it once rather than at every login.
#[derive(Debug)]
pub struct House {
    /// As it was loaded.
    pub config: Config,
    /// Users' secrets, understood.
    secrets: HashMap<String, Arc<StoredSecret>>,
    /// What most of them look like.
    likeness: Likeness,
    /// Shakes hands with clients who want TLS.
    pub(super) acceptor: Option<Arc<Acceptor>>,
    /// Begins TLS with servers.
    connectors: Connectors,
    /// Who may log in by which method.
    pub(super) access: Arc<Access>,
}

/// What all connections share.
pub struct Front {
    house: ArcSwap<House>,
    /// The settings that the process began with: of those that take effect by a restart they are in force.
    started: Settings,
    /// The pools.
    pub pools: Registry<Servers>,
    /// The clients.
    pub clients: Arc<Clients>,
    /// Host names to addresses.
    pub resolver: Arc<Resolver>,
    /// Who is asked about those who log in.
    pub(super) authorities: Authorities,
    mock: Mock,
    /// What servers have said of users.
    pub(super) secrets: Mutex<Secrets>,
    pub(super) hashing: Hashing,
    /// How TLS handshakes with clients have ended.
    pub handshakes: Handshakes,
    farewells: [AtomicU64; Farewell::LABELS.len()],
    denials: [AtomicU64; Denial::LABELS.len()],
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
    /// Understands a configuration, and reads the files that it names. The error is all that makes no sense in the rules
    /// for logins, or names the user whose secret makes none, or the file that is missing.
    pub fn new(config: Config) -> Result<Self, String> {
        let access = Access::load(&config)?;
        Self::with(config, Arc::new(access))
    }

    /// Understands a configuration that differs from this one by what somebody has said on the console. Files are
    /// read again only if others are meant than before: what is in them takes effect by a reload.
    pub fn adjusted(&self, config: Config) -> Result<Self, String> {
        if Access::has_same_sources(&self.config, &config) {
            Self::with(config, self.access.clone())
        } else {
            Self::new(config)
        }
    }

    fn with(config: Config, access: Arc<Access>) -> Result<Self, String> {
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
        let likeness = Likeness::of_most(secrets.values().map(|secret| &**secret));
        Ok(Self {
            acceptor: encryption::acceptor(&config)?,
            connectors: Connectors::new(&config)?,
            config,
            secrets,
            access,
            likeness,
        })
    }

    /// Keeps what an earlier house has made from the same files: its clients can resume their TLS sessions here, and
    /// verifiers need not be made again from passwords.
    fn keep_from(&mut self, earlier: &Self) {
        for (user, secret) in &mut self.secrets {
            if let Some(known) = earlier.secrets.get(user)
                && known.is_same_password(secret)
            {
                secret.clone_from(known);
            }
        }
        if self.acceptor == earlier.acceptor {
            self.acceptor.clone_from(&earlier.acceptor);
        }
    }

    /// What a user has to prove knowledge of.
    pub fn secret(&self, user: &str) -> Option<&Arc<StoredSecret>> {
        self.secrets.get(user)
    }

    /// What `howdah check` says about a sound configuration. Shows no secret.
    pub fn summary(&self) -> String {
        let rules = self.access.summary(&self.config);
        [self.config.summary()]
            .into_iter()
            .chain(rules)
            .collect::<Vec<_>>()
            .join("\n")
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
        // Who asks two replicas, or one before and after a restart, shall hear the same of those who do not exist.
        let mock = match house.acceptor.as_ref().map(|acceptor| acceptor.seed()) {
            Some(seed) => Mock::new(&mut |bytes| bytes.copy_from_slice(&seed)),
            None => Mock::new(&mut super::random),
        };
        Arc::new(Self {
            started: house.config.settings.clone(),
            house: ArcSwap::from_pointee(house),
            pools: Registry::new(),
            clients: Arc::default(),
            authorities: Authorities::new(resolver.clone()),
            resolver,
            mock,
            secrets: Mutex::default(),
            hashing: Hashing::default(),
            handshakes: Handshakes::default(),
            farewells: Default::default(),
            denials: Default::default(),
            disabled: Mutex::default(),
            paused: Mutex::default(),
        })
    }

    /// Makes unknown users look like known ones: like those of whom servers have told, if this one was asked for.
    pub(super) fn mock(&self, is_asked: bool) -> Mock {
        let told = is_asked.then(|| self.secrets.lock().likeness()).flatten();
        self.mock.like(told.unwrap_or(self.house().likeness))
    }

    /// The configuration of the moment.
    pub fn house(&self) -> Arc<House> {
        self.house.load_full()
    }

    /// The settings that the process began with.
    pub fn started(&self) -> &Settings {
        &self.started
    }

    /// Puts a new configuration into force: pools that are there get their new settings, those whose database is gone
    /// are closed.
    pub fn apply(&self, mut house: House) {
        house.keep_from(&self.house());
        self.resolver.set_ttl(house.config.settings.dns_max_ttl);
        let house = Arc::new(house);
        self.house.store(house.clone());
        self.secrets.lock().clear();
        for pool in self.pools.all() {
            let key = pool.key().clone();
            let Some(database) = house.config.database(&key.database) else {
                let message = format!("database \"{}\" is not configured any more", key.database);
                let refusal = Refusal::new(SqlState::INVALID_CATALOG_NAME, message);
                // Who keeps a server, or listens, might not ask for one for a long time.
                let order = Order::Drain(refusal.clone());
                self.clients
                    .order_all(&order, |client| *client.database == *key.database);
                pool.close(refusal);
                self.pools.remove(&key);
                continue;
            };
            let policy = house.config.pool_settings(&database, &key.user);
            let target = self.target(&house, &database, &key, &policy);
            // What a session left on its server is not cleaned up as it should be once the mode is another, nor is it known
            // where nobody has looked.
            let modes = |policy: &PoolSettings| (policy.pool_mode, policy.session_state, policy.opaque);
            let changed = modes(&pool.source().policy()) != modes(&policy);
            let moved = changed || !pool.source().target().is_same_place(&target);
            pool.source().apply(target, policy.clone());
            // First, for a pool that may be larger begins to grow at once.
            self.set_limits(&key, &policy);
            pool.apply(bounds(&policy));
            PinPermit::serve_line(&pool);
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

    /// The pool in which `auth_query` is asked: as `role`, whoever the clients of this database are.
    pub(super) fn pool_for_questions(
        &self,
        house: &House,
        database: &Database,
        role: &str,
    ) -> Arc<Pool<Servers>> {
        self.pool_of_role(house, database, role, &Learned::default())
    }

    /// Forgets what servers have said of users too long ago to be used.
    pub fn forget_old_secrets(&self) {
        self.secrets.lock().forget_old(Instant::now());
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
            None => Address::Tcp {
                host: host.name.clone(),
                port: host.port,
                tls_name: host.tls_name.clone(),
            },
        };
        // The password of a database is that of its own user, and nobody else's.
        let is_own = database.user.as_ref().is_none_or(|user| *user == key.user);
        let own = database
            .password
            .as_ref()
            .filter(|_| is_own)
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
            encryption: house.connectors.encryption(policy),
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
                database: client.database.to_string(),
                user: forced.unwrap_or_else(|| client.user.to_string()),
            };
            *counts.entry(key).or_default() += 1;
        }
        counts
    }

    /// Why a connection must be turned away unheard: too many others have not logged in yet, in all or from the same
    /// address. As many may be at it as there may be clients, and some more.
    pub(super) fn turns_away(&self, place: &LoggingIn) -> Option<Refusal> {
        let house = self.house();
        let settings = &house.config.settings;
        let max = settings.max_client_conn as usize;
        let detail = if max > 0 && place.ahead >= max + STRANGERS_SPARE {
            "Too many connections have not logged in yet."
        } else {
            let max = settings.max_logins_per_address as usize;
            (max > 0 && place.ahead_there >= max)
                .then_some("The limit max_logins_per_address has been reached.")?
        };
        let message = "sorry, too many clients already";
        Some(Refusal::new(SqlState::TOO_MANY_CONNECTIONS, message).detail(detail))
    }

    /// Counts how a client connection ended.
    pub fn count_farewell(&self, farewell: &Farewell) {
        let label = farewell.label();
        if let Some(at) = Farewell::LABELS.iter().position(|have| *have == label) {
            self.farewells[at].fetch_add(1, Ordering::Relaxed);
        }
        if let Farewell::LoginRefused(denial, _) = farewell {
            self.denials[*denial as usize].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many logins were refused, by label of the reason.
    pub fn denials(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        let counts = self.denials.iter().map(|count| count.load(Ordering::Relaxed));
        Denial::LABELS.into_iter().zip(counts)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verifiers_are_made_once_for_as_long_as_the_password_is_the_same() {
        let house = |password: &str| {
            let url = format!("postgres://bob:{password}@db/app");
            House::new(Config::for_url(&url).expect("a sound URL")).expect("a sound configuration")
        };
        let first = house("one");
        for (password, is_kept) in [("one", true), ("two", false)] {
            let mut next = house(password);
            next.keep_from(&first);
            let same = Arc::ptr_eq(&first.secrets["bob"], &next.secrets["bob"]);
            assert_eq!(same, is_kept, "{password}");
        }
    }

    #[tokio::test]
    async fn a_pool_that_may_grow_after_a_reload_keeps_to_the_limits_that_come_with_it() {
        let house = |settings: &str| {
            let url = format!("postgres://bob:secret@127.0.0.1:1/app?{settings}");
            House::new(Config::for_url(&url).expect("a sound URL")).expect("a sound configuration")
        };
        let front = Front::new(house("pool_size=5"));
        let now = front.house();
        let database = now.config.database("app").expect("it is there");
        let pool = front.pool(&now, &database, "bob", Learned::default());
        front.apply(house("pool_size=5&min_pool_size=4&max_db_connections=2"));
        assert_eq!(pool.snapshot().servers(), 2);
    }
}

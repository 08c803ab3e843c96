//! From an accepted connection to a session, or to something else that the connection turns out to be for.

pub(super) mod access;
mod credentials;
mod door;
pub(super) mod encryption;
pub(super) mod hashing;
mod lookup;
pub(super) mod secrets;
pub(super) mod startup;
pub(super) mod threshold;

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use tokio::time::Instant;

use crate::auth::hba::Origin;
use crate::auth::{ChannelBinding, Learned};
use crate::config::{CONSOLE_NAMES, PoolMode};
use crate::error::{Refusal, SqlState};
use crate::farewell::{Denial, Farewell};
use crate::net::{PeerAddr, Stream, within};
use crate::wire::startup::{Initial, Startup};
use crate::wire::write::{self, Severity};

use self::credentials::{Caller, Gate};
use self::door::Door;
use self::startup::{Wishes, own_values, settle};
use self::threshold::Threshold;
use super::clients::{LoggingIn, Newcomer};
use super::front::{Front, House};
use super::session::Session;
use super::session::replication::Replication;
use super::talk::Bounds;

/// How long a refused client may take to read why.
const REFUSAL_MAX: Duration = Duration::from_secs(2);

/// What a connection turned out to be for.
pub enum Outcome {
    /// A client of a pool.
    Pooled(Box<Session>),
    /// A walsender session, one to one.
    Replication(Box<Replication>),
    /// Somebody who wants to look after howdah itself.
    Console(Box<Visit>),
    /// A cancel request, carried out by whoever holds the clients.
    Cancel(Box<Cancel>),
    /// It is over already; the peer has been told.
    Ended(Box<Ended>),
}

/// A cancel request.
pub struct Cancel {
    /// The process id that the session was told.
    pub pid: i32,
    /// The secret that the session was told.
    pub secret: Vec<u8>,
    /// The connection, open until that has been done: closed, it tells the client that its next query is safe
    /// ("Canceling Requests in Progress" in the manual).
    pub stream: Stream,
}

/// A connection that never became a client's.
pub struct Ended {
    /// Why.
    pub farewell: Farewell,
    /// Who it said it was; empty if it never said.
    pub user: String,
    /// The database that it asked for; empty if it never said.
    pub database: String,
    /// What the log should know beside, and the peer should not.
    pub note: Option<String>,
}

/// A visitor of the console: logged in, told nothing yet beyond that.
pub struct Visit {
    /// The connection.
    pub stream: Stream,
    /// What has been read of it already.
    pub input: BytesMut,
    /// Who it is.
    pub user: String,
    /// Whether this user may change things.
    pub is_admin: bool,
    /// `application_name`, as it was sent.
    pub application_name: String,
}

/// A connection that is being logged in.
struct Entrance {
    door: Door,
    front: Arc<Front>,
    /// User and database of the startup message.
    claim: (String, String),
    /// The pool from which the login waits for a server.
    waits_for: Option<Arc<crate::pool::Pool<crate::pool::Servers>>>,
}

/// Logs a connection in that has come from `peer`, within `client_login_timeout`.
pub async fn login(stream: Stream, peer: PeerAddr, front: Arc<Front>, place: &LoggingIn) -> Outcome {
    let begun = Instant::now();
    let timeout = front.house().config.settings.client_login_timeout;
    let mut entrance = Entrance {
        door: Door::new(stream, peer),
        front,
        claim: Default::default(),
        waits_for: None,
    };
    let result = if let Some(refusal) = entrance.front.turns_away(place) {
        Err(Farewell::LoginRefused(Denial::Limit, refusal))
    } else {
        // Pinned here, so that it is not moved once more into the limit on it.
        let entered = place
            .unless_closed(within(timeout, pin!(entrance.enter(begun))))
            .await;
        match entered {
            Some(Ok(result)) => result,
            Some(Err(_)) => Err(entrance.too_late(timeout)),
            None => Err(Farewell::Administrator(shutting_down())),
        }
    };
    match result {
        Ok(Entered::Cancel { pid, secret }) => Outcome::Cancel(Box::new(Cancel {
            pid,
            secret,
            stream: entrance.door.stream,
        })),
        Ok(Entered::Session(admitted)) => entrance.welcome(*admitted).await,
        Ok(Entered::Console {
            user,
            is_admin,
            application_name,
        }) => Outcome::Console(Box::new(Visit {
            stream: entrance.door.stream,
            input: entrance.door.input,
            user,
            is_admin,
            application_name,
        })),
        Ok(Entered::Replication(replication)) => {
            let (stream, input) = (entrance.door.stream, entrance.door.input);
            Outcome::Replication(Box::new(replication.with(stream, input)))
        }
        Err(farewell) => {
            entrance.tell(&farewell).await;
            entrance.ended(farewell)
        }
    }
}

/// What a login led to.
enum Entered {
    Cancel {
        pid: i32,
        secret: Vec<u8>,
    },
    Session(Box<Admitted>),
    Console {
        user: String,
        is_admin: bool,
        application_name: String,
    },
    Replication(super::session::replication::Ready),
}

/// A client of a pool that is to be welcomed.
pub(super) struct Admitted {
    pub(super) seat: super::Seat,
    pub(super) pool: Arc<crate::pool::Pool<crate::pool::Servers>>,
    pub(super) settings: crate::server::Settings,
    pub(super) own: Arc<[super::talk::marks::Own]>,
    pub(super) bounds: Bounds,
}

// What is rare is boxed: the memory that it takes would be moved about at every login.
impl Entrance {
    async fn enter(&mut self, begun: Instant) -> Result<Entered, Farewell> {
        let startup = match self.first_packet().await? {
            Initial::Cancel { pid, secret } => return Ok(Entered::Cancel { pid, secret }),
            Initial::Startup(startup) => startup,
            Initial::Ssl | Initial::Gssenc => unreachable!("the threshold answers these itself"),
        };
        let house = self.front.house();
        let wishes = Wishes::new(&startup, &house.config)
            .map_err(|refusal| Farewell::LoginRefused(Denial::Startup, refusal))?;
        self.claim = (wishes.user.clone(), wishes.database.clone());
        startup.negotiate(&mut self.door.output);
        let is_console = CONSOLE_NAMES.contains(&wishes.database.as_str());
        if is_console {
            return Box::pin(self.enter_console(&wishes, &house)).await;
        }
        let learned = self.authenticate(&wishes, &house).await?;
        // That took a while: what has been reloaded meanwhile holds for whoever comes in now.
        let house = self.front.house();
        let database = house
            .config
            .database(&wishes.database)
            .ok_or_else(|| no_database(&wishes.database))?;
        if self.front.is_disabled(&wishes.database) {
            let message = format!("database \"{}\" is disabled", wishes.database);
            let refusal = Refusal::new(SqlState::CANNOT_CONNECT_NOW, message);
            return Err(Farewell::LoginRefused(Denial::Database, refusal));
        }
        let policy = house.config.pool_settings(&database, &wishes.user);
        let seat = self
            .front
            .clients
            .admit(self.newcomer(&wishes, &startup), house.client_limits(&policy))
            .map_err(|refusal| Farewell::LoginRefused(Denial::Limit, refusal))?;
        let pool = self.front.pool(&house, &database, &wishes.user, learned);
        if wishes.replication.is_some() {
            let ready = Box::pin(super::session::replication::connect(&wishes, &pool, seat)).await?;
            return Ok(Entered::Replication(ready));
        }
        let mut wishes = wishes;
        if house.config.settings.application_name_add_host {
            add_host(&mut wishes, &self.door.peer);
        }
        self.waits_for = Some(pool.clone());
        let settings = settle(&wishes, &pool, self.door.gone()).await?;
        pool.record_login(begun.elapsed());
        let limit = |value: usize| if value == 0 { usize::MAX } else { value };
        let bounds = Bounds {
            transactions: policy.pool_mode != PoolMode::Statement,
            shared: policy.max_prepared_statements > 0,
            prepared: limit(house.config.settings.max_client_prepared_statements as usize),
            prepared_bytes: limit(house.config.settings.max_client_prepared_bytes as usize) as u64,
        };
        Ok(Entered::Session(Box::new(Admitted {
            seat,
            own: own_values(&wishes, &settings, &pool.source().begun_with()),
            pool,
            settings,
            bounds,
        })))
    }

    async fn enter_console(&mut self, wishes: &Wishes, house: &House) -> Result<Entered, Farewell> {
        self.authenticate(wishes, house).await?;
        let settings = &house.config.settings;
        let is_admin = settings.admin_users.contains(&wishes.user);
        if !is_admin && !settings.stats_users.contains(&wishes.user) {
            let message = format!("user \"{}\" may not use the console", wishes.user);
            let hint = "Users of the console are listed in admin_users and stats_users.";
            let refusal = Refusal::new(SqlState::INSUFFICIENT_PRIVILEGE, message).hint(hint);
            return Err(Farewell::LoginRefused(Denial::Permission, refusal));
        }
        self.door.authentication(&[0; 4]);
        self.door.flush().await?;
        let application_name = wishes.application_name.clone().unwrap_or_default();
        Ok(Entered::Console {
            user: wishes.user.clone(),
            is_admin,
            application_name: String::from_utf8_lossy(&application_name).into_owned(),
        })
    }

    fn newcomer(&self, wishes: &Wishes, startup: &Startup) -> Newcomer {
        Newcomer {
            peer: self.door.peer.clone(),
            local: self.door.stream.local(),
            tls: self.door.stream.tls().cloned(),
            user: wishes.user.clone(),
            database: wishes.database.clone(),
            protocol: startup.negotiated(),
        }
    }

    async fn first_packet(&mut self) -> Result<Initial, Farewell> {
        let house = self.front.house();
        let threshold = Threshold {
            acceptor: house.acceptor.clone(),
            mode: house.config.settings.client_tls_sslmode,
            handshakes: &self.front.handshakes,
        };
        threshold.first_packet(&mut self.door).await
    }

    async fn authenticate(&mut self, wishes: &Wishes, house: &House) -> Result<Learned, Farewell> {
        let caller = Caller {
            user: &wishes.user,
            database: &wishes.database,
            origin: self.origin()?,
            is_physical_replication: wishes.is_physical_replication(),
            certificate: self.door.stream.tls().and_then(|tls| tls.peer.clone()),
            binding: self.binding(),
        };
        let (door, front) = (&mut self.door, &self.front);
        let rule = access::rule_for(&caller, front, house).await?;
        access::check_presence(rule, &caller)?;
        let learned = match rule.method.exchange() {
            Some(method) => {
                let gate = Gate::choose(&caller, method, front, house).await?;
                gate.pass(&caller, door, front, house).await?
            }
            None => Box::pin(access::vouch(rule, &caller, door, front, house)).await?,
        };
        access::check_name(rule, &caller, door, house)?;
        Ok(learned)
    }

    /// Where the connection comes from. One whose address is gone is gone itself: it must not pass for a local one.
    fn origin(&self) -> Result<Origin, Farewell> {
        match (self.door.stream.is_unix(), &self.door.peer) {
            (true, _) => Ok(Origin::Local),
            (false, PeerAddr::Tcp(address)) if self.door.stream.tls().is_some() => {
                Ok(Origin::Tls(address.ip()))
            }
            (false, PeerAddr::Tcp(address)) => Ok(Origin::Tcp(address.ip())),
            (false, PeerAddr::Unix) => Err(Farewell::Vanished),
        }
    }

    /// What SCRAM can be bound to: our certificate, if it has a hash.
    fn binding(&self) -> Option<ChannelBinding> {
        let end_point = self.door.stream.tls()?.end_point.clone()?;
        Some(ChannelBinding::tls_server_end_point(end_point))
    }

    async fn welcome(mut self, admitted: Admitted) -> Outcome {
        let Admitted { seat, settings, .. } = &admitted;
        self.door.authentication(&[0; 4]);
        let out = &mut self.door.output;
        for (name, value) in settings.reported.iter() {
            write::parameter_status(out, name, value);
        }
        write::message(out, b'K', |out| {
            out.put_i32(seat.pid);
            out.put_slice(&seat.secret);
        });
        write::ready_for_query(out, b'I');
        match tokio::time::timeout(REFUSAL_MAX, self.door.flush()).await {
            Ok(Ok(())) => {
                let Door { stream, input, .. } = self.door;
                let session = Session::new(stream, input, self.front, admitted);
                Outcome::Pooled(Box::new(session))
            }
            Ok(Err(farewell)) => self.ended(farewell),
            Err(_) => self.ended(Farewell::ClientIo("client does not read".to_owned())),
        }
    }

    fn ended(self, farewell: Farewell) -> Outcome {
        let (user, database) = self.claim;
        Outcome::Ended(Box::new(Ended {
            farewell,
            user,
            database,
            note: self.door.note,
        }))
    }

    /// Why it took too long: because of the client, unless it was waiting for a server that cannot be had.
    fn too_late(&self, timeout: Duration) -> Farewell {
        let last_error = self
            .waits_for
            .as_ref()
            .and_then(|pool| pool.snapshot().last_error);
        if let Some(refusal) = last_error {
            return Farewell::LoginRefused(Denial::Server, refusal);
        }
        let message = "canceling authentication due to timeout";
        let refusal = Refusal::new(SqlState::QUERY_CANCELED, message)
            .detail(format!("client_login_timeout is {timeout:?}."));
        Farewell::LoginRefused(Denial::Timeout, refusal)
    }

    async fn tell(&mut self, farewell: &Farewell) {
        if let Some(refusal) = farewell.refusal() {
            write::refusal(&mut self.door.output, Severity::Fatal, refusal);
            let _ = tokio::time::timeout(REFUSAL_MAX, self.door.flush()).await;
        }
    }
}

/// As PostgreSQL says it to those who come too late.
fn shutting_down() -> Refusal {
    Refusal::new(
        SqlState::CANNOT_CONNECT_NOW,
        "the connection pooler is shutting down",
    )
}

fn no_database(name: &str) -> Farewell {
    let message = format!("database \"{name}\" does not exist");
    let refusal = Refusal::new(SqlState::INVALID_CATALOG_NAME, message);
    Farewell::LoginRefused(Denial::Database, refusal)
}

fn add_host(wishes: &mut Wishes, peer: &PeerAddr) {
    let name = wishes.application_name.take().unwrap_or_default();
    let name = String::from_utf8_lossy(&name);
    let separator = if name.is_empty() { "" } else { " - " };
    wishes.application_name = Some(format!("{name}{separator}{peer}").into_bytes());
}

//! From an accepted connection to a session, or to something else that the connection turns out to be for.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Buf, BufMut, BytesMut};

use crate::auth::{AuthRequest, Challenge, ClientAuth, Method, Proof, Step};
use crate::config::{AuthType, CONSOLE_NAMES, PoolMode};
use crate::error::{Refusal, SqlState};
use crate::farewell::Farewell;
use crate::net::{PeerAddr, Stream, within};
use crate::wire::scan::{self, HEADER_LEN};
use crate::wire::startup::{self, Initial, Startup, StartupError};
use crate::wire::store::CHUNK;
use crate::wire::write::{self, Severity};

use super::clients::{LoggingIn, Newcomer};
use super::front::{Front, House};
use super::replication::Replication;
use super::session::Session;
use super::startup::{Wishes, own_values, settle};
use super::talk::Bounds;

/// The longest password message, in bytes; PostgreSQL's `PG_MAX_AUTH_TOKEN_LENGTH`.
const PASSWORD_LEN_MAX: usize = 65_535;
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
    Cancel {
        /// The process id that the session was told.
        pid: i32,
        /// The secret that the session was told.
        secret: Vec<u8>,
    },
    /// It is over already; the peer has been told.
    Ended(Farewell),
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
    stream: Stream,
    input: BytesMut,
    output: BytesMut,
    front: Arc<Front>,
    /// The pool from which the login waits for a server.
    waits_for: Option<Arc<crate::pool::Pool<crate::pool::Servers>>>,
}

/// Logs a connection in, within `client_login_timeout`.
pub async fn login(stream: Stream, front: Arc<Front>, place: &LoggingIn) -> Outcome {
    let begun = Instant::now();
    let timeout = front.house().config.settings.client_login_timeout;
    let mut entrance = Entrance {
        stream,
        input: BytesMut::new(),
        output: BytesMut::new(),
        front,
        waits_for: None,
    };
    let result = if entrance.front.is_crowded(place.ahead) {
        Err(Farewell::LoginRefused(crowded()))
    } else {
        match within(timeout, entrance.enter(begun)).await {
            Ok(result) => result,
            Err(_) => Err(Farewell::LoginRefused(entrance.too_late(timeout))),
        }
    };
    match result {
        Ok(Entered::Cancel { pid, secret }) => Outcome::Cancel { pid, secret },
        Ok(Entered::Session(admitted)) => entrance.welcome(*admitted).await,
        Ok(Entered::Console {
            user,
            is_admin,
            application_name,
        }) => Outcome::Console(Box::new(Visit {
            stream: entrance.stream,
            input: entrance.input,
            user,
            is_admin,
            application_name,
        })),
        Ok(Entered::Replication(replication)) => {
            let (stream, input) = (entrance.stream, entrance.input);
            Outcome::Replication(Box::new(replication.with(stream, input)))
        }
        Err(farewell) => {
            entrance.tell(&farewell).await;
            Outcome::Ended(farewell)
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
    Replication(super::replication::Ready),
}

/// A client of a pool that is to be welcomed.
struct Admitted {
    seat: super::Seat,
    pool: Arc<crate::pool::Pool<crate::pool::Servers>>,
    settings: crate::server::Settings,
    own: Arc<[super::trail::Own]>,
    bounds: Bounds,
}

impl Entrance {
    async fn enter(&mut self, begun: Instant) -> Result<Entered, Farewell> {
        let startup = match self.first_packet().await? {
            Initial::Cancel { pid, secret } => return Ok(Entered::Cancel { pid, secret }),
            Initial::Startup(startup) => startup,
            Initial::Ssl | Initial::Gssenc => unreachable!("first_packet answers these itself"),
        };
        let house = self.front.house();
        let wishes = Wishes::new(&startup, &house.config).map_err(Farewell::LoginRefused)?;
        startup.negotiate(&mut self.output);
        let is_console = CONSOLE_NAMES.contains(&wishes.database.as_str());
        if is_console {
            return self.enter_console(&wishes, &house).await;
        }
        let proof = self.authenticate(&wishes.user, &house).await?;
        let database = house
            .config
            .database(&wishes.database)
            .ok_or_else(|| no_database(&wishes.database))?;
        if self.front.is_disabled(&wishes.database) {
            let message = format!("database \"{}\" is disabled", wishes.database);
            return Err(Farewell::LoginRefused(Refusal::new(
                SqlState::CANNOT_CONNECT_NOW,
                message,
            )));
        }
        let policy = house.config.pool_settings(&database, &wishes.user);
        let seat = self
            .front
            .clients
            .admit(self.newcomer(&wishes, &startup), house.client_limits(&policy))
            .map_err(Farewell::LoginRefused)?;
        let pool = self.front.pool(&house, &database, &wishes.user);
        if let Proof::Scram(keys) = proof
            && database.user.is_none()
        {
            // Where the server has the same verifier, what the client has proved will do for howdah as well.
            *pool.source().target().keys.lock() = Some(keys);
        }
        if wishes.replication.is_some() {
            let ready = super::replication::connect(&wishes, &pool, seat).await?;
            return Ok(Entered::Replication(ready));
        }
        let mut wishes = wishes;
        if house.config.settings.application_name_add_host {
            add_host(&mut wishes, &self.stream.peer());
        }
        self.waits_for = Some(pool.clone());
        let settings = settle(&wishes, &pool, self.gone()).await?;
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
            pool,
            own: own_values(&wishes, &settings),
            settings,
            bounds,
        })))
    }

    async fn enter_console(&mut self, wishes: &Wishes, house: &House) -> Result<Entered, Farewell> {
        self.authenticate(&wishes.user, house).await?;
        let settings = &house.config.settings;
        let is_admin = settings.admin_users.contains(&wishes.user);
        if !is_admin && !settings.stats_users.contains(&wishes.user) {
            let message = format!("user \"{}\" may not use the console", wishes.user);
            let hint = "Users of the console are listed in admin_users and stats_users.";
            let refusal = Refusal::new(SqlState::INSUFFICIENT_PRIVILEGE, message).hint(hint);
            return Err(Farewell::LoginRefused(refusal));
        }
        authentication(&mut self.output, &[0; 4]);
        self.flush().await?;
        let application_name = wishes.application_name.clone().unwrap_or_default();
        Ok(Entered::Console {
            user: wishes.user.clone(),
            is_admin,
            application_name: String::from_utf8_lossy(&application_name).into_owned(),
        })
    }

    fn newcomer(&self, wishes: &Wishes, startup: &Startup) -> Newcomer {
        Newcomer {
            peer: self.stream.peer(),
            local: self.stream.local(),
            user: wishes.user.clone(),
            database: wishes.database.clone(),
            protocol: startup.negotiated(),
        }
    }

    /// The first packet that is more than a question about encryption.
    async fn first_packet(&mut self) -> Result<Initial, Farewell> {
        let (mut asked_ssl, mut asked_gss) = (false, false);
        loop {
            let initial = self.packet().await?;
            let asked = match initial {
                Initial::Ssl => &mut asked_ssl,
                Initial::Gssenc => &mut asked_gss,
                other => return Ok(other),
            };
            if std::mem::replace(asked, true) {
                return Err(violation("encryption was asked for twice"));
            }
            if !self.input.is_empty() {
                // What follows without waiting for the answer was put there by somebody else (CVE-2021-3935).
                return Err(violation("received unencrypted data after an encryption request"));
            }
            self.output.put_u8(b'N');
            self.flush().await?;
        }
    }

    async fn packet(&mut self) -> Result<Initial, Farewell> {
        loop {
            if self.input.first() == Some(&0x16) {
                return Err(violation("direct TLS connections are not supported"));
            }
            let malformed = |error| refused_startup(StartupError::Malformed(error));
            if let Some(len) = startup::packet_len(&self.input).map_err(malformed)?
                && self.input.len() >= len
            {
                let initial = Initial::parse(&self.input[4..len]).map_err(refused_startup)?;
                self.input.advance(len);
                return Ok(initial);
            }
            self.fill().await?;
        }
    }

    async fn authenticate(&mut self, user: &str, house: &House) -> Result<Proof, Farewell> {
        let method = match house.config.settings.auth_type {
            AuthType::Trust => Method::Trust,
            AuthType::Password => Method::Password,
            AuthType::Md5 => Method::Md5,
            AuthType::Scram => Method::Scram,
        };
        let secret = house.secret(user).cloned();
        let challenge = Challenge {
            method,
            user,
            secret: secret.as_deref(),
            mock: &self.front.clone().mock,
            binding: None,
        };
        let (mut auth, mut step) = ClientAuth::begin(&challenge, &mut super::random);
        loop {
            match step {
                Step::Send(request) => {
                    self.request(&request).await?;
                    let answer = self.password_message().await?;
                    step = auth.answer(&answer);
                }
                Step::Done(admitted) => {
                    if let Some(last) = &admitted.last {
                        authentication(&mut self.output, &last.body());
                    }
                    return Ok(admitted.proof);
                }
                Step::Refused(refusal, error) => {
                    tracing::info!(user, peer = %self.stream.peer(), %error, "login failed");
                    return Err(Farewell::LoginRefused(refusal));
                }
            }
        }
    }

    async fn request(&mut self, request: &AuthRequest) -> Result<(), Farewell> {
        authentication(&mut self.output, &request.body());
        self.flush().await
    }

    async fn password_message(&mut self) -> Result<Vec<u8>, Farewell> {
        loop {
            let header = scan::header(&self.input).map_err(|error| violation(error.to_string()))?;
            if let Some(header) = header {
                if header.tag != b'p' {
                    return Err(violation(format!(
                        "expected password response, got message type {}",
                        header.tag
                    )));
                }
                if header.len > PASSWORD_LEN_MAX {
                    return Err(violation("invalid message length"));
                }
                if self.input.len() >= header.len {
                    let body = self.input[HEADER_LEN..header.len].to_vec();
                    self.input.advance(header.len);
                    return Ok(body);
                }
            }
            self.fill().await?;
        }
    }

    async fn fill(&mut self) -> Result<(), Farewell> {
        match self.stream.fill(&mut self.input).await {
            Ok(0) => Err(Farewell::Vanished),
            Ok(_) => Ok(()),
            Err(error) => Err(Farewell::ClientIo(error.to_string())),
        }
    }

    /// Ends when the client does; for the time in which nothing is expected of it.
    async fn gone(&mut self) -> Farewell {
        while self.input.len() < CHUNK {
            if let Err(farewell) = self.fill().await {
                return farewell;
            }
        }
        std::future::pending().await
    }

    async fn flush(&mut self) -> Result<(), Farewell> {
        self.stream
            .drain(&mut self.output)
            .await
            .map_err(|error| Farewell::ClientIo(error.to_string()))
    }

    async fn welcome(mut self, admitted: Admitted) -> Outcome {
        let Admitted {
            seat,
            pool,
            settings,
            own,
            bounds,
        } = admitted;
        let out = &mut self.output;
        authentication(out, &[0; 4]);
        for (name, value) in settings.reported.iter() {
            write::parameter_status(out, name, value);
        }
        write::message(out, b'K', |out| {
            out.put_i32(seat.pid);
            out.put_slice(&seat.secret);
        });
        write::ready_for_query(out, b'I');
        match tokio::time::timeout(REFUSAL_MAX, self.flush()).await {
            Ok(Ok(())) => {
                let session = Session::new(self.stream, self.input, seat, pool, settings, own, bounds);
                Outcome::Pooled(Box::new(session))
            }
            Ok(Err(farewell)) => Outcome::Ended(farewell),
            Err(_) => Outcome::Ended(Farewell::ClientIo("client does not read".to_owned())),
        }
    }

    /// Why it took too long: because of the client, unless it was waiting for a server that cannot be had.
    fn too_late(&self, timeout: Duration) -> Refusal {
        let last_error = self
            .waits_for
            .as_ref()
            .and_then(|pool| pool.snapshot().last_error);
        last_error.unwrap_or_else(|| {
            Refusal::new(
                SqlState::QUERY_CANCELED,
                "canceling authentication due to timeout",
            )
            .detail(format!("client_login_timeout is {timeout:?}."))
        })
    }

    async fn tell(&mut self, farewell: &Farewell) {
        if let Some(refusal) = farewell.refusal() {
            write::refusal(&mut self.output, Severity::Fatal, refusal);
            let _ = tokio::time::timeout(REFUSAL_MAX, self.flush()).await;
        }
    }
}

fn authentication(out: &mut BytesMut, body: &[u8]) {
    write::message(out, b'R', |out| out.put_slice(body));
}

fn violation(message: impl Into<std::borrow::Cow<'static, str>>) -> Farewell {
    Farewell::ClientProtocol(Refusal::new(SqlState::PROTOCOL_VIOLATION, message))
}

fn refused_startup(error: StartupError) -> Farewell {
    let code = match error {
        StartupError::Malformed(_) => SqlState::PROTOCOL_VIOLATION,
        StartupError::Protocol(_) => SqlState::FEATURE_NOT_SUPPORTED,
    };
    Farewell::ClientProtocol(Refusal::new(code, error.to_string()))
}

fn crowded() -> Refusal {
    Refusal::new(SqlState::TOO_MANY_CONNECTIONS, "sorry, too many clients already")
        .detail("Too many connections have not logged in yet.".to_owned())
}

fn no_database(name: &str) -> Farewell {
    let message = format!("database \"{name}\" does not exist");
    Farewell::LoginRefused(Refusal::new(SqlState::INVALID_CATALOG_NAME, message))
}

fn add_host(wishes: &mut Wishes, peer: &PeerAddr) {
    let name = wishes.application_name.take().unwrap_or_default();
    let name = String::from_utf8_lossy(&name);
    let separator = if name.is_empty() { "" } else { " - " };
    wishes.application_name = Some(format!("{name}{separator}{peer}").into_bytes());
}

//! Opening a connection to PostgreSQL and logging in.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BytesMut};

use crate::auth::{AuthError, ChannelBinding, Credentials, Reply, ServerAuth};
use crate::config::{self, SslMode};
use crate::error::{Refusal, SqlState};
use crate::net::{Keepalive, Stream, within};
use crate::wire::backend::{self, ErrorFields};
use crate::wire::{scan, startup, write};

use super::connection::{Connection, Failure, refusal_of};
use super::route::{Endpoint, Route, RouteError};
use super::{CancelKey, Encryption, Lore, Resolver};

/// Messages that a server may send before it is ready; a limit for one that never comes to the point.
const LOGIN_MESSAGES_MAX: usize = 1000;
/// The longest message that is read whole, in bytes.
pub(super) const MESSAGE_READ_MAX: usize = 1 << 20;

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A host.
    Tcp {
        /// Its name or address.
        host: String,
        /// The port.
        port: u16,
        /// The name that its certificate is for, where that is another one.
        tls_name: Option<String>,
    },
    /// A socket file.
    Unix(PathBuf),
}

impl Address {
    fn tls_name(&self) -> &str {
        match self {
            Self::Tcp { host, tls_name, .. } => tls_name.as_deref().unwrap_or(host),
            Self::Unix(_) => "",
        }
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp { host, port, .. } => write!(f, "{host}:{port}"),
            Self::Unix(path) => path.display().fmt(f),
        }
    }
}

/// Which server, as whom, and how.
#[derive(Debug)]
pub struct Target {
    /// The servers, tried in this order.
    pub addresses: Vec<Address>,
    /// The database on the server.
    pub database: String,
    /// Who logs in, and by what.
    pub credentials: Credentials,
    /// Parameters of the startup message beside user and database.
    pub parameters: Vec<(String, Vec<u8>)>,
    /// How long connecting and logging in may take, in all. Zero: without limit.
    pub timeout: Duration,
    /// Socket options.
    pub keepalive: Keepalive,
    /// With TLS or without.
    pub encryption: Encryption,
    /// SQL that is run on every new connection; if it fails, the connection fails.
    pub connect_query: String,
    /// Prepared statements that a connection may hold.
    pub prepared_max: usize,
    /// Host names to addresses.
    pub resolver: Arc<Resolver>,
    /// What there is to log in with beyond the credentials.
    pub lore: Lore,
}

/// Why a connection could not be opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{refusal}")]
pub struct ConnectError {
    /// What a client may be told.
    pub refusal: Refusal,
    /// Whether trying again is pointless until somebody changes something.
    pub is_final: bool,
    /// What the log is told beside.
    pub note: Option<String>,
    /// The server may let us in with TLS if this was without it, or the other way round.
    may_be_encryption: bool,
}

/// How an endpoint was missed.
enum Missed {
    /// Nobody is there with whom one can talk; the next one may be better.
    Unreachable(ConnectError),
    /// The server does not want us.
    Refused(ConnectError),
}

impl Missed {
    /// Notes what went wrong before.
    fn after(mut self, earlier: Option<Self>) -> Self {
        if let Some(Self::Unreachable(earlier) | Self::Refused(earlier)) = earlier {
            let (Self::Unreachable(error) | Self::Refused(error)) = &mut self;
            let notes = [
                error.note.take(),
                Some(format!("before that: {}", earlier.refusal)),
            ];
            error.note = Some(notes.into_iter().flatten().collect::<Vec<_>>().join("; "));
        }
        self
    }
}

impl ConnectError {
    fn unreachable(message: String) -> Self {
        let refusal =
            Refusal::new(SqlState::CANNOT_CONNECT_NOW, "could not connect to server").detail(message);
        Self {
            refusal,
            is_final: false,
            note: None,
            may_be_encryption: false,
        }
    }

    fn refused(refusal: Refusal, note: Option<String>) -> Self {
        Self {
            is_final: is_final(refusal.code),
            refusal,
            note,
            may_be_encryption: false,
        }
    }
}

impl From<Failure> for ConnectError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Sql(refusal) => Self::refused(refusal, None),
            Failure::Lost(reason) => Self::unreachable(reason),
        }
    }
}

/// Wrong credentials and missing databases stay wrong and missing; all else may pass.
fn is_final(code: SqlState) -> bool {
    matches!(
        code,
        SqlState::INVALID_PASSWORD | SqlState::INVALID_AUTHORIZATION | SqlState::INVALID_CATALOG_NAME
    ) || matches!(code.class(), "42" | "22" | "0A" | "28")
}

/// Whether a server may say this because of the encryption, or for want of it: PostgreSQL by `pg_hba.conf`, PgBouncer
/// with a violation of the protocol.
fn may_be_encryption(code: SqlState) -> bool {
    code.class() == "28" || code == SqlState::PROTOCOL_VIOLATION
}

impl Target {
    /// Whether connections to `other` go to the same place as the same role; if not, those that are open are outdated.
    pub fn is_same_place(&self, other: &Self) -> bool {
        self.addresses == other.addresses
            && self.database == other.database
            && self.credentials.user == other.credentials.user
            && self.parameters == other.parameters
            && self.connect_query == other.connect_query
            && self.encryption == other.encryption
    }

    /// Opens a connection and logs in; it is idle and ready for use.
    pub async fn connect(&self) -> Result<Connection, ConnectError> {
        match within(self.timeout, self.connect_any()).await {
            Ok(result) => result,
            Err(_) => Err(ConnectError::unreachable(format!(
                "no answer within {:?}",
                self.timeout
            ))),
        }
    }

    async fn connect_any(&self) -> Result<Connection, ConnectError> {
        let mut last = ConnectError::unreachable("no host given".to_owned());
        for address in &self.addresses {
            match self.connect_to(address).await {
                Ok(connection) => return Ok(connection),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn connect_to(&self, address: &Address) -> Result<Connection, ConnectError> {
        let mut failed = ConnectError::unreachable(format!("{address}: no address"));
        let endpoints = self.endpoints(address).await;
        for endpoint in endpoints.map_err(|error| lookup_failed(address, &error))? {
            match self.connect_along(address, &endpoint).await {
                Ok(connection) => return Ok(connection),
                Err(Missed::Refused(error)) => return Err(error),
                Err(Missed::Unreachable(error)) => failed = error,
            }
        }
        Err(failed)
    }

    async fn endpoints(&self, address: &Address) -> io::Result<Vec<Endpoint>> {
        match address {
            Address::Unix(path) => Ok(vec![Endpoint::Unix(path.clone())]),
            Address::Tcp { host, port, .. } => {
                let addresses = self.resolver.resolve(host).await?;
                let endpoint = |ip| Endpoint::Tcp(SocketAddr::new(ip, *port), self.keepalive);
                Ok(addresses.into_iter().map(endpoint).collect())
            }
        }
    }

    /// Tries the routes to one endpoint, with TLS and without as the mode has it. What the server says of one that it
    /// refuses is not lost when another one fails too.
    async fn connect_along(&self, address: &Address, endpoint: &Endpoint) -> Result<Connection, Missed> {
        let unreachable = |error: &dyn std::fmt::Display| {
            Missed::Unreachable(ConnectError::unreachable(format!("{address}: {error}")))
        };
        let routes = self.encryption.routes(endpoint, address.tls_name());
        let mut missed: Option<Missed> = None;
        for route in routes.map_err(|error| unreachable(&error))? {
            let mut is_last = false;
            let opened = match route.open().await {
                Err(RouteError::Without(stream)) if self.encryption.mode == SslMode::Prefer => {
                    is_last = true;
                    Ok((*stream, route.unsealed()))
                }
                opened => opened.map(|stream| (stream, route)),
            };
            let next = match opened {
                Ok((stream, route)) => match self.log_in(stream, route).await {
                    Ok(connection) => return Ok(connection),
                    Err(error) => {
                        is_last = is_last || !error.may_be_encryption;
                        Missed::Refused(error)
                    }
                },
                Err(error) => {
                    is_last = matches!(error, RouteError::Unreachable(_));
                    unreachable(&error)
                }
            };
            let next = next.after(missed.take());
            if is_last {
                return Err(next);
            }
            missed = Some(next);
        }
        Err(missed.unwrap_or_else(|| unreachable(&"no way to connect")))
    }

    async fn log_in(&self, stream: Stream, route: Route) -> Result<Connection, ConnectError> {
        let mut connection = Connection::new(stream, self.prepared_max);
        let key = self.exchange(&mut connection).await?;
        let key = CancelKey::new(route, key.0, &key.1);
        connection.logged_in(key, &self.credentials.user, &self.database);
        if !self.connect_query.is_empty() {
            connection.begin_with(&self.connect_query).await?;
        }
        connection.learn_idle_limit().await?;
        Ok(connection)
    }

    /// What SCRAM can be bound to: the server's certificate, if it has a hash.
    fn binding(&self, connection: &Connection) -> Option<ChannelBinding> {
        if self.encryption.binding == config::ChannelBinding::Disable {
            return None;
        }
        let end_point = connection.stream.tls()?.end_point.clone()?;
        Some(ChannelBinding::tls_server_end_point(end_point))
    }

    /// From the startup message to the first `ReadyForQuery`. Returns the cancel key.
    async fn exchange(&self, connection: &mut Connection) -> Result<(i32, Vec<u8>), ConnectError> {
        let own = [
            ("user", self.credentials.user.as_bytes()),
            ("database", self.database.as_bytes()),
        ];
        let more = self
            .parameters
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_slice()));
        startup::write_startup(
            &mut connection.output,
            startup::PROTOCOL_3_0,
            own.into_iter().chain(more),
        );
        connection.flush().await?;
        let (credentials, edition) = self.lore.complete(&self.credentials);
        let auth = ServerAuth::new(credentials, self.binding(connection));
        let mut auth = Some(match self.encryption.binding {
            config::ChannelBinding::Require => auth.bound(),
            _ => auth,
        });
        let mut key = (0, Vec::new());
        for _ in 0..LOGIN_MESSAGES_MAX {
            let message = connection.receive().await?;
            let body = message.body();
            match message.tag() {
                b'R' => {
                    let Some(exchange) = auth.take() else {
                        return Err(Failure::protocol("authentication twice").into());
                    };
                    let (exchange, answer) = answer(exchange, body).await;
                    auth = Some(exchange);
                    match answer.map_err(|error| self.cannot_answer(&error, edition))? {
                        Reply::Send(reply) => {
                            write::message(&mut connection.output, b'p', |out| out.extend_from_slice(&reply));
                            connection.flush().await?;
                        }
                        Reply::Continue => {}
                        Reply::Ok => {
                            let keys = auth.take().and_then(ServerAuth::into_keys);
                            self.lore.was_enough(edition, keys);
                        }
                    }
                }
                b'E' => {
                    let mut error = self.is_refused(refusal_of(ErrorFields::new(body)), edition);
                    error.may_be_encryption = auth.is_some() && may_be_encryption(error.refusal.code);
                    return Err(error);
                }
                b'S' if auth.is_none() => connection.learn(body)?,
                b'K' if auth.is_none() => {
                    let (pid, secret) = backend::key_data(body).map_err(Failure::wire)?;
                    key = (pid, secret.to_vec());
                }
                b'Z' if auth.is_none() => return Ok(key),
                b'N' | b'v' => {}
                other => {
                    return Err(
                        Failure::protocol(format!("message {:?} during login", other as char)).into(),
                    );
                }
            }
        }
        Err(Failure::protocol("login without an end").into())
    }

    fn cannot_answer(&self, error: &AuthError, edition: u64) -> ConnectError {
        if let AuthError::NoSecret { .. } | AuthError::KeysDoNotFit = error {
            self.lore.was_not_enough(edition);
        }
        ConnectError::refused(error.refusal(&self.credentials.user), Some(error.to_string()))
    }

    fn is_refused(&self, refusal: Refusal, edition: u64) -> ConnectError {
        // Otherwise what is configured is wrong, and no client can teach better.
        if refusal.code == SqlState::INVALID_PASSWORD && self.credentials.is_empty() {
            self.lore.was_not_enough(edition);
        }
        ConnectError::refused(refusal, None)
    }
}

/// What to say to a server's request. How long that takes may be the server's choice: then it is not done on the
/// workers.
async fn answer(mut exchange: ServerAuth, body: &[u8]) -> (ServerAuth, Result<Reply, AuthError>) {
    if !exchange.may_be_slow() {
        let reply = exchange.answer(body, &mut random);
        return (exchange, reply);
    }
    let body = body.to_vec();
    let answered = tokio::task::spawn_blocking(move || {
        let reply = exchange.answer(&body, &mut random);
        (exchange, reply)
    });
    answered.await.expect("no bytes make it panic")
}

fn lookup_failed(address: &Address, error: &io::Error) -> ConnectError {
    ConnectError::unreachable(format!("{address}: {error}"))
}

/// The operating system's randomness, as the exchanges of `auth` want it.
fn random(bytes: &mut [u8]) {
    aws_lc_rs::rand::fill(bytes).expect("the operating system's random source does not fail");
}

/// A message taken off a connection.
#[derive(Debug)]
pub(super) struct Message(BytesMut);

impl Message {
    /// Takes the first message off `input` once it is whole.
    pub(super) fn take(input: &mut BytesMut) -> Result<Option<Self>, Failure> {
        let Some(header) = scan::header(input).map_err(Failure::wire)? else {
            return Ok(None);
        };
        if header.len > MESSAGE_READ_MAX {
            return Err(Failure::protocol("message too long"));
        }
        if input.len() < header.len {
            return Ok(None);
        }
        let message = Self(BytesMut::from(&input[..header.len]));
        input.advance(header.len);
        Ok(Some(message))
    }

    pub(super) fn tag(&self) -> u8 {
        self.0[0]
    }

    pub(super) fn body(&self) -> &[u8] {
        &self.0[scan::HEADER_LEN..]
    }

    /// The message as it came, header and all.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

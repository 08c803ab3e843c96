//! Opening a connection to PostgreSQL and logging in.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::net::{TcpStream, UnixStream};

use crate::auth::{AuthError, Credentials, Reply, ServerAuth};
use crate::error::{Refusal, SqlState};
use crate::net::{Keepalive, Stream, within};
use crate::wire::backend::{self, ErrorFields};
use crate::wire::{scan, startup, write};

use super::connection::{Connection, Failure, refusal_of};
use super::{CancelKey, Lore, Resolver};

/// Messages that a server may send before it is ready; a limit for one that never comes to the point.
const LOGIN_MESSAGES_MAX: usize = 1000;
/// The longest message that is read whole, in bytes.
pub(super) const MESSAGE_READ_MAX: usize = 1 << 20;

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A host name or address, and a port.
    Tcp(String, u16),
    /// A socket file.
    Unix(PathBuf),
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(host, port) => write!(f, "{host}:{port}"),
            Self::Unix(path) => path.display().fmt(f),
        }
    }
}

/// An address that was connected to, to be connected to again for a cancel request.
#[derive(Clone, Debug)]
pub(super) enum Endpoint {
    Tcp(SocketAddr, Keepalive),
    Unix(PathBuf),
}

impl Endpoint {
    pub(super) async fn open(&self) -> io::Result<Stream> {
        match self {
            Self::Tcp(address, keepalive) => {
                let stream = TcpStream::connect(address).await?;
                keepalive.apply(&stream);
                Ok(stream.into())
            }
            Self::Unix(path) => UnixStream::connect(path).await.map(Stream::from),
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
}

impl ConnectError {
    fn unreachable(message: String) -> Self {
        let refusal =
            Refusal::new(SqlState::CANNOT_CONNECT_NOW, "could not connect to server").detail(message);
        Self {
            refusal,
            is_final: false,
            note: None,
        }
    }

    fn refused(refusal: Refusal, note: Option<String>) -> Self {
        Self {
            is_final: is_final(refusal.code),
            refusal,
            note,
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

impl Target {
    /// Whether connections to `other` go to the same place as the same role; if not, those that are open are outdated.
    pub fn is_same_place(&self, other: &Self) -> bool {
        self.addresses == other.addresses
            && self.database == other.database
            && self.credentials.user == other.credentials.user
            && self.parameters == other.parameters
            && self.connect_query == other.connect_query
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
        let mut failed = format!("{address}: no address");
        for endpoint in self
            .endpoints(address)
            .await
            .map_err(|error| lookup_failed(address, &error))?
        {
            match endpoint.open().await {
                Ok(stream) => return self.log_in(stream, endpoint).await,
                Err(error) => failed = format!("{address}: {error}"),
            }
        }
        Err(ConnectError::unreachable(failed))
    }

    async fn endpoints(&self, address: &Address) -> io::Result<Vec<Endpoint>> {
        match address {
            Address::Unix(path) => Ok(vec![Endpoint::Unix(path.clone())]),
            Address::Tcp(host, port) => {
                let addresses = self.resolver.resolve(host).await?;
                let endpoint = |ip| Endpoint::Tcp(SocketAddr::new(ip, *port), self.keepalive);
                Ok(addresses.into_iter().map(endpoint).collect())
            }
        }
    }

    async fn log_in(&self, stream: Stream, endpoint: Endpoint) -> Result<Connection, ConnectError> {
        let mut connection = Connection::new(stream, self.prepared_max);
        let key = self.exchange(&mut connection).await?;
        let key = CancelKey::new(endpoint, key.0, &key.1);
        connection.logged_in(key, &self.credentials.user, &self.database);
        if !self.connect_query.is_empty() {
            connection.run(&self.connect_query).await?;
            connection.rebase();
        }
        Ok(connection)
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
        let mut auth = Some(ServerAuth::new(&credentials, None));
        let mut key = (0, Vec::new());
        for _ in 0..LOGIN_MESSAGES_MAX {
            let message = connection.receive().await?;
            let body = message.body();
            match message.tag() {
                b'R' => {
                    let Some(exchange) = &mut auth else {
                        return Err(Failure::protocol("authentication twice").into());
                    };
                    let answer = exchange.answer(body, &mut random);
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
                b'E' => return Err(self.is_refused(refusal_of(ErrorFields::new(body)), edition)),
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
}

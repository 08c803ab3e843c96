//! The way to a server, and whether it is sealed by TLS.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::BytesMut;
use tokio::net::{TcpStream, UnixStream};

use crate::config::{ChannelBinding, SslMode};
use crate::net::tls::{Connector, HandshakeError, ServerName};
use crate::net::{Keepalive, Stream};
use crate::wire::startup;

/// How a server is spoken to: with TLS or without.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encryption {
    /// As libpq's `sslmode`.
    pub mode: SslMode,
    /// TLS at once, without asking for it first.
    pub is_direct: bool,
    /// Whether SCRAM is bound to the channel.
    pub binding: ChannelBinding,
    /// What begins TLS; `None` where the mode has no use for it.
    pub connector: Option<Arc<Connector>>,
}

impl Encryption {
    /// Never any.
    pub fn none() -> Self {
        Self {
            mode: SslMode::Disable,
            is_direct: false,
            binding: ChannelBinding::Disable,
            connector: None,
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
    async fn open(&self) -> io::Result<Stream> {
        match self {
            Self::Tcp(address, keepalive) => {
                #[cfg(test)]
                if let Some(connecting) = crate::net::simulated::connect(*address) {
                    return connecting.await.map(Stream::from);
                }
                let stream = TcpStream::connect(address).await?;
                keepalive.apply(&stream);
                Ok(stream.into())
            }
            Self::Unix(path) => UnixStream::connect(path).await.map(Stream::from),
        }
    }
}

/// TLS with a server of that name.
#[derive(Clone, Debug)]
pub(super) struct Seal {
    connector: Arc<Connector>,
    name: ServerName<'static>,
    is_direct: bool,
}

/// How a connection is made; the same again for a cancel request.
#[derive(Clone, Debug)]
pub(super) struct Route {
    pub(super) endpoint: Endpoint,
    pub(super) seal: Option<Seal>,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum RouteError {
    /// There is nobody.
    #[error("{0}")]
    Unreachable(#[from] io::Error),
    /// The server has no TLS. The connection is as good as new.
    #[error("the server does not support TLS, but it is required")]
    Without(Box<Stream>),
    /// TLS has failed.
    #[error("{0}")]
    Handshake(#[from] HandshakeError),
    /// The server answers the question for TLS with something else. What it says is nobody's word (CVE-2024-10977), so
    /// it is not even read.
    #[error("the server answers a request for TLS with {0:?}")]
    Nonsense(char),
    /// It closed the connection instead.
    #[error("the server closed the connection when it was asked for TLS")]
    Closed,
}

impl RouteError {
    pub(super) fn into_io(self) -> io::Error {
        match self {
            Self::Unreachable(error) => error,
            other => io::Error::other(other.to_string()),
        }
    }
}

impl Route {
    /// The same without TLS.
    pub(super) fn unsealed(&self) -> Self {
        Self {
            endpoint: self.endpoint.clone(),
            seal: None,
        }
    }

    /// Opens it; the stream is sealed if the route is.
    pub(super) async fn open(&self) -> Result<Stream, RouteError> {
        let mut stream = self.endpoint.open().await?;
        let Some(seal) = &self.seal else {
            return Ok(stream);
        };
        if !seal.is_direct {
            let mut request = BytesMut::new();
            startup::write_ssl_request(&mut request);
            stream.drain(&mut request).await?;
            match stream.read_byte().await? {
                Some(b'S') => {}
                Some(b'N') => return Err(RouteError::Without(Box::new(stream))),
                Some(other) => return Err(RouteError::Nonsense(other.into())),
                None => return Err(RouteError::Closed),
            }
        }
        stream.connect_tls(&seal.connector, seal.name.clone()).await?;
        if seal.is_direct && stream.tls().is_none_or(|tls| !tls.has_alpn) {
            let error = "direct TLS was established without ALPN: the server may not be PostgreSQL";
            return Err(HandshakeError::Certificate(error.to_owned()).into());
        }
        Ok(stream)
    }
}

impl Encryption {
    /// The routes to an endpoint in the order in which they are to be tried, as libpq tries them. `host` is the name that
    /// a certificate has to be for.
    pub(super) fn routes(&self, endpoint: &Endpoint, host: &str) -> Result<Vec<Route>, String> {
        let plain = || Route {
            endpoint: endpoint.clone(),
            seal: None,
        };
        let connector = match (&self.connector, endpoint) {
            (_, Endpoint::Unix(_)) => return Ok(vec![plain()]),
            (None, _) if self.mode == SslMode::Disable => return Ok(vec![plain()]),
            (None, _) => return Err("there is nothing to begin TLS with".to_owned()),
            (Some(connector), Endpoint::Tcp(..)) => connector.clone(),
        };
        let name = ServerName::try_from(host.to_owned());
        let sealed = Route {
            endpoint: endpoint.clone(),
            seal: Some(Seal {
                connector,
                name: name.map_err(|_| format!("\"{host}\" is no name for TLS"))?,
                is_direct: self.is_direct,
            }),
        };
        Ok(match self.mode {
            SslMode::Disable => vec![plain()],
            SslMode::Allow => vec![plain(), sealed],
            SslMode::Prefer => vec![sealed, plain()],
            SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => vec![sealed],
        })
    }
}

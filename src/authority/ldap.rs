//! The connection to an LDAP server, for one question.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::BytesMut;
use tokio::net::TcpStream;

use crate::auth::hba::{Ldap, Scheme};
use crate::auth::ldap::{Exchange, LdapError, Step};
use crate::net::tls::{Connector, ServerName};
use crate::net::{Stream, within};
use crate::server::Resolver;

use super::{Doubt, LdapQuestion};

/// Asks the first server that can be reached.
pub(super) async fn ask(
    question: &LdapQuestion<'_>,
    resolver: &Resolver,
    limit: Duration,
) -> Result<(), Doubt> {
    let LdapQuestion {
        ldap,
        tls,
        user,
        password,
    } = *question;
    let (exchange, first) = Exchange::begin(ldap, user, password);
    if let Step::Wrong(error) = first {
        return Err(doubt(&error));
    }
    let (stream, host) = connect(ldap, resolver, limit).await?;
    let mut line = Line {
        stream,
        input: BytesMut::new(),
        host,
        tls,
    };
    if ldap.scheme == Scheme::Ldaps {
        line.secure().await?;
    }
    line.converse(exchange, first).await
}

/// A connection to the first server that can be reached, and which one that is. Each gets its share of the time, so that
/// one that does not answer at all leaves some for the next.
async fn connect(ldap: &Ldap, resolver: &Resolver, limit: Duration) -> Result<(Stream, String), Doubt> {
    let count = u32::try_from(ldap.servers.len()).unwrap_or(u32::MAX);
    let share = limit / count.max(1);
    let mut failures = Vec::new();
    for host in &ldap.servers {
        match within(share, reach(host, ldap.port(), resolver)).await {
            Ok(Ok(stream)) => return Ok((stream, host.clone())),
            Ok(Err(failure)) => failures.push(failure),
            Err(_) => failures.push(format!("{host}: no answer within {share:?}")),
        }
    }
    let failures = failures.join("; ");
    Err(Doubt::NoAnswer(format!(
        "no LDAP server can be reached: {failures}"
    )))
}

/// A connection to a server, or why there is none.
async fn reach(host: &str, port: u16, resolver: &Resolver) -> Result<Stream, String> {
    let addresses = resolver.resolve(host).await;
    let addresses = addresses.map_err(|error| format!("{host}: {error}"))?;
    let mut failures = Vec::new();
    for address in addresses {
        match TcpStream::connect(SocketAddr::new(address, port)).await {
            Ok(stream) => return Ok(stream.into()),
            Err(error) => failures.push(format!("{host} ({address}): {error}")),
        }
    }
    Err(failures.join("; "))
}

/// A connection.
struct Line<'a> {
    stream: Stream,
    input: BytesMut,
    /// The server, by the name that its certificate must have.
    host: String,
    tls: Option<&'a Connector>,
}

impl Line<'_> {
    async fn secure(&mut self) -> Result<(), Doubt> {
        let host = &self.host;
        let failed = |why: String| Doubt::NoAnswer(format!("no TLS with the LDAP server {host}: {why}"));
        let tls = self.tls.ok_or_else(|| failed("it is not set up".to_owned()))?;
        let name = ServerName::try_from(host.clone()).map_err(|error| failed(error.to_string()))?;
        let secured = self.stream.connect_tls(tls, name).await;
        secured.map_err(|error| failed(error.to_string()))
    }

    async fn converse(&mut self, mut exchange: Exchange<'_>, first: Step) -> Result<(), Doubt> {
        let mut step = first;
        loop {
            step = match step {
                Step::Send(bytes) => {
                    self.send(&bytes).await?;
                    exchange.answer(&self.message().await?)
                }
                Step::Read => exchange.answer(&self.message().await?),
                Step::StartTls => {
                    if !self.input.is_empty() {
                        return Err(Doubt::NoAnswer(
                            "somebody speaks before the LDAP server's TLS".to_owned(),
                        ));
                    }
                    self.secure().await?;
                    exchange.secured()
                }
                Step::Right => {
                    // Out of politeness; the answer is known.
                    let _ = self.send(&exchange.goodbye()).await;
                    return Ok(());
                }
                Step::Wrong(error) => {
                    let _ = self.send(&exchange.goodbye()).await;
                    return Err(doubt(&error));
                }
            };
        }
    }

    async fn send(&mut self, bytes: &[u8]) -> Result<(), Doubt> {
        let sent = self.stream.drain(&mut BytesMut::from(bytes)).await;
        sent.map_err(|error| lost(&error.to_string()))
    }

    async fn message(&mut self) -> Result<BytesMut, Doubt> {
        loop {
            let len = Exchange::message_len(&self.input).map_err(|error| doubt(&error))?;
            if let Some(len) = len.filter(|len| *len <= self.input.len()) {
                return Ok(self.input.split_to(len));
            }
            match self.stream.fill(&mut self.input).await {
                Ok(0) => return Err(lost("it closes the connection")),
                Ok(_) => {}
                Err(error) => return Err(lost(&error.to_string())),
            }
        }
    }
}

fn lost(why: &str) -> Doubt {
    Doubt::NoAnswer(format!("the LDAP server was lost: {why}"))
}

/// Whether an answer was given, if not the one that was hoped for.
fn doubt(error: &LdapError) -> Doubt {
    match error {
        LdapError::Refused { .. } | LdapError::Malformed(_) => Doubt::NoAnswer(error.to_string()),
        _ => Doubt::Refused(error.to_string()),
    }
}

//! `howdah health`: one question over HTTP, for containers that have nothing else to ask with.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// How long the answer may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// An answer needs no more bytes than this to tell its status.
const ANSWER_MAX: u64 = 4096;

/// Fails unless the URL (`http://host:port/path`) answers with status 200.
pub(super) fn ask(url: &str) -> Result<()> {
    let rest = url
        .strip_prefix("http://")
        .context("the URL has to begin with http://")?;
    let (host, path) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
    let address = host
        .to_socket_addrs()
        .with_context(|| format!("cannot find {host}"))?
        .next();
    let address = address.with_context(|| format!("{host} has no address"))?;
    let mut stream =
        TcpStream::connect_timeout(&address, PATIENCE).with_context(|| format!("cannot reach {host}"))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = Vec::new();
    stream
        .take(ANSWER_MAX)
        .read_to_end(&mut answer)
        .context("no answer")?;
    let answer = String::from_utf8_lossy(&answer);
    let status = answer.split_whitespace().nth(1).unwrap_or_default();
    if status != "200" {
        bail!("{url} answered {status}");
    }
    Ok(())
}

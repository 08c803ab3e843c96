//! The HTTP server: a few paths, and a limit on everything.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::{Exhibit, collect, page, ready};

/// Connections at once. For whoever comes later the oldest goes: it may be one that says nothing, and a scraper comes again.
const CONNECTIONS_MAX: usize = 64;
/// How long a peer may take to send a request, its pause before it included.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection is kept; the peer may make another.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(120);
/// How long the last answer may take to leave after that.
const LAST_ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of a request's head.
const HEAD_MAX: usize = 16 * 1024;
const HEADERS_MAX: usize = 64;
/// A pause after the kernel could not give us a connection, for want of file descriptors for instance.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How often such a failure is logged.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(10);

const TEXT: &str = "text/plain; charset=utf-8";

/// Serves everybody who comes, until it is dropped.
pub async fn serve(listener: TcpListener, exhibit: Arc<Exhibit>) {
    let mut attended = VecDeque::<AbortHandle>::new();
    let mut complained: Option<Instant> = None;
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                attended.retain(|task| !task.is_finished());
                if attended.len() >= CONNECTIONS_MAX {
                    attended.pop_front().inspect(AbortHandle::abort);
                }
                let task = tokio::spawn(attend(stream, exhibit.clone()));
                attended.push_back(task.abort_handle());
            }
            Err(error) => {
                if complained.is_none_or(|at| at.elapsed() > COMPLAINT_INTERVAL) {
                    complained = Some(Instant::now());
                    tracing::warn!(%error, "cannot accept connections for metrics, trying again");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn attend(stream: TcpStream, exhibit: Arc<Exhibit>) {
    let service = service_fn(move |request: Request<Incoming>| {
        let response = respond(request.method(), request.uri().path(), &exhibit);
        std::future::ready(Ok::<_, Infallible>(response))
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(HEAD_MAX)
        .max_headers(HEADERS_MAX)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    if tokio::time::timeout(CONNECTION_TIMEOUT, &mut connection)
        .await
        .is_err()
    {
        connection.as_mut().graceful_shutdown();
        let _ = tokio::time::timeout(LAST_ANSWER_TIMEOUT, connection).await;
    }
}

/// What a request is answered with.
pub(super) fn respond(method: &Method, path: &str, exhibit: &Exhibit) -> Response<Full<Bytes>> {
    let known = ["/", "/metrics", "/healthz", "/readyz"].contains(&path);
    if !known {
        return answer(StatusCode::NOT_FOUND, TEXT, "not found\n");
    }
    if !matches!(*method, Method::GET | Method::HEAD) {
        let mut response = answer(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET and HEAD\n");
        response
            .headers_mut()
            .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    match path {
        "/metrics" => match collect::text(exhibit) {
            Ok(text) => answer(StatusCode::OK, prometheus::TEXT_FORMAT, text),
            Err(error) => answer(StatusCode::INTERNAL_SERVER_ERROR, TEXT, format!("{error}\n")),
        },
        "/readyz" => match ready::objection(exhibit) {
            None => answer(StatusCode::OK, TEXT, "ok\n"),
            Some(objection) => answer(StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("{objection}\n")),
        },
        "/healthz" => answer(StatusCode::OK, TEXT, "ok\n"),
        _ => answer(StatusCode::OK, "text/html; charset=utf-8", page::html(exhibit)),
    }
}

fn answer(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

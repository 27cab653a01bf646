//! Metrics, health and the status page over HTTP/1.1 (RFC 9112), for whoever runs the server.
//!
//! | path | answer |
//! |---|---|
//! | `/` | the status page |
//! | `/metrics` | numbers, for Prometheus |
//! | `/healthz` | 200 if the serving loop answers within a second, else 503: restart it |
//! | `/readyz` | 200 if it takes new work, 503 while it stops: send work elsewhere |
//!
//! It is small on purpose: GET and HEAD, one request in each connection, no body is read. Everything is bounded: the
//! connections at once, the bytes of a request, and the time that either may take; a connection above the limit
//! waits in the kernel's queue until another one has ended.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_io::{Async, Timer};
use futures::future::{Either, select};
use futures::stream::FuturesUnordered;
use futures::{
    AsyncReadExt as _, AsyncWriteExt as _, FutureExt as _, StreamExt as _, select_biased,
};

use crate::bind::{BindError, Opening, Transport};
use crate::metrics::MEDIA_TYPE;
use crate::{Rarely, Subject, View};

/// Connections at once.
const MAX_CONNECTIONS: usize = 16;
/// Bytes of a request's first line and headers.
const MAX_REQUEST: usize = 4096;
/// Headers of a request.
const MAX_HEADERS: usize = 32;
/// How long a connection may take to say what it wants, and to read the answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long the serving loop may take to say how it is.
const LOOK_PATIENCE: Duration = Duration::from_secs(1);
/// How long no connection is accepted after that failed.
const PAUSE: Duration = Duration::from_millis(200);
/// Bytes of a request that nobody reads any more, before the connection is closed.
const MAX_REST: usize = 64 << 10;
/// Nothing from elsewhere, no script, and no copy in a cache.
const SAFETY: &str = "Content-Security-Policy: default-src 'none'; style-src 'unsafe-inline'\r\n\
    X-Content-Type-Options: nosniff\r\nReferrer-Policy: no-referrer\r\nCache-Control: no-store\r\n";

/// The flag that sets where metrics are told.
const FLAG: &str = "--metrics IP:PORT";

/// Opens the listener for metrics; says so in the log if it is not on this machine alone.
///
/// # Errors
///
/// It cannot be had.
pub fn metrics_listener(
    opening: &Opening,
    address: Option<SocketAddr>,
) -> Result<Option<TcpListener>, BindError> {
    let Some(address) = address else { return Ok(None) };
    let listener = opening.tcp(address, FLAG)?;
    let address = listener
        .local_addr()
        .map_err(|error| BindError::new(Transport::Tcp, address, FLAG, error))?;
    tracing::info!("metrics, health and status on http://{address}/");
    if !address.ip().is_loopback() {
        tracing::warn!(%address, "whoever can reach that address can read metrics and status");
    }
    Ok(Some(listener))
}

/// Whom the requests are about.
#[derive(Clone)]
pub(crate) struct Site {
    pub(crate) subject: Arc<dyn Subject>,
    pub(crate) is_stopping: Arc<AtomicBool>,
}

/// Answers requests for as long as the future is kept.
pub(crate) async fn serve(listener: Async<TcpListener>, site: Site) {
    static REFUSED: Rarely = Rarely::new(Duration::from_secs(60));
    let mut connections = FuturesUnordered::new();
    loop {
        if connections.len() >= MAX_CONNECTIONS {
            connections.next().await;
            continue;
        }
        let accepted = select_biased! {
            () = connections.select_next_some() => continue,
            accepted = listener.accept().fuse() => accepted,
        };
        match accepted {
            Ok((stream, _)) => connections.push(converse(stream, &site)),
            Err(error) => {
                if let Some(unsaid) = REFUSED.may_say(std::time::Instant::now()) {
                    tracing::warn!(%error, unsaid, "metrics: no connection can be accepted for now");
                }
                Timer::after(PAUSE).await;
            }
        }
    }
}

async fn converse(stream: Async<TcpStream>, site: &Site) {
    let talk = async {
        let mut buffer = [0; MAX_REQUEST];
        let response = match within(PATIENCE, read_request(&stream, &mut buffer)).await? {
            Ok((method, path)) => site.answer(method, &path).await,
            Err(status) => Response::plain(status, status).for_method(Method::Get),
        };
        within(PATIENCE, (&stream).write_all(&response)).await?;
        stream.get_ref().shutdown(std::net::Shutdown::Write)?;
        within(PATIENCE, read_rest(&stream)).await
    };
    if let Err(error) = talk.await {
        tracing::trace!(%error, "metrics: a connection failed");
    }
}

/// What a request may want done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Method {
    Get,
    Head,
}

/// The method and path of a request, or the status that refuses it.
async fn read_request(
    mut stream: &Async<TcpStream>,
    buffer: &mut [u8],
) -> io::Result<Result<(Method, String), &'static str>> {
    let mut length = 0;
    loop {
        match stream.read(&mut buffer[length..]).await? {
            0 if length == buffer.len() => return Ok(Err("431 Request Header Fields Too Large")),
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            more => length += more,
        }
        if let Some(parsed) = parse(&buffer[..length]) {
            return Ok(parsed);
        }
    }
}

/// `None` until the request is whole.
fn parse(bytes: &[u8]) -> Option<Result<(Method, String), &'static str>> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(bytes) {
        Ok(httparse::Status::Partial) => None,
        Ok(httparse::Status::Complete(_)) => {
            let method = match request.method {
                Some("GET") => Method::Get,
                Some("HEAD") => Method::Head,
                _ => return Some(Err("405 Method Not Allowed")),
            };
            let path = request.path.unwrap_or("/");
            let path = path.split(['?', '#']).next().unwrap_or(path);
            Some(Ok((method, path.to_owned())))
        }
        Err(httparse::Error::TooManyHeaders) => Some(Err("431 Request Header Fields Too Large")),
        Err(_) => Some(Err("400 Bad Request")),
    }
}

/// Reads what is still sent, lest the system throws away the answer together with it (RFC 9112 section 9.6).
async fn read_rest(mut stream: &Async<TcpStream>) -> io::Result<()> {
    let (mut buffer, mut total) = ([0; 1024], 0);
    while total < MAX_REST {
        match stream.read(&mut buffer).await? {
            0 => break,
            length => total += length,
        }
    }
    Ok(())
}

impl Site {
    async fn answer(&self, method: Method, path: &str) -> Vec<u8> {
        let response = match path {
            "/readyz" if self.is_stopping.load(Ordering::Relaxed) => {
                Response::plain("503 Service Unavailable", "stopping")
            }
            "/" | "/metrics" | "/healthz" | "/readyz" => match look(&*self.subject).await {
                Some(view) => Response::of(path, view),
                None => {
                    Response::plain("503 Service Unavailable", "the serving loop does not answer")
                }
            },
            _ => Response::plain("404 Not Found", "try /, /metrics, /healthz or /readyz"),
        };
        response.for_method(method)
    }
}

/// How the subject is, unless it takes too long to say.
pub(crate) async fn look(subject: &dyn Subject) -> Option<View> {
    match select(subject.look(), Timer::after(LOOK_PATIENCE)).await {
        Either::Left((view, _)) => view,
        Either::Right(_) => None,
    }
}

struct Response {
    status: &'static str,
    media_type: &'static str,
    body: String,
}

impl Response {
    fn of(path: &str, view: View) -> Self {
        let (media_type, body) = match path {
            "/" => ("text/html; charset=utf-8", view.page),
            "/metrics" => (MEDIA_TYPE, view.metrics.text().to_owned()),
            "/readyz" => return Self::plain("200 OK", "ready"),
            _ => return Self::plain("200 OK", "well"),
        };
        Self { status: "200 OK", media_type, body }
    }

    fn plain(status: &'static str, text: &str) -> Self {
        Self { status, media_type: "text/plain; charset=utf-8", body: format!("{text}\n") }
    }

    fn for_method(self, method: Method) -> Vec<u8> {
        let Self { status, media_type, body } = self;
        let length = body.len();
        let allow = if status.starts_with("405") { "Allow: GET, HEAD\r\n" } else { "" };
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: {media_type}\r\nContent-Length: {length}\r\n{allow}{SAFETY}\
             Connection: close\r\n\r\n"
        );
        match method {
            Method::Get => [head, body].concat().into_bytes(),
            Method::Head => head.into_bytes(),
        }
    }
}

/// Waits for `operation`, but not longer than `patience`.
async fn within<T>(
    patience: Duration,
    operation: impl Future<Output = io::Result<T>>,
) -> io::Result<T> {
    match select(pin!(operation), Timer::after(patience)).await {
        Either::Left((result, _)) => result,
        Either::Right(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_read_at_every_split() {
        let request = b"GET /metrics?x=1 HTTP/1.1\r\nHost: h\r\n\r\n";
        for end in 0..request.len() {
            assert!(parse(&request[..end]).is_none(), "{end}");
        }
        assert_eq!(parse(request), Some(Ok((Method::Get, "/metrics".to_owned()))));
    }

    #[test]
    fn what_is_no_get_is_refused() {
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(MAX_HEADERS + 1));
        for (request, status) in [
            ("POST / HTTP/1.1\r\n\r\n", "405 Method Not Allowed"),
            ("GET\r\n\r\n", "400 Bad Request"),
            ("\u{1}\u{2} / HTTP/1.1\r\n\r\n", "400 Bad Request"),
            (&many, "431 Request Header Fields Too Large"),
        ] {
            assert_eq!(parse(request.as_bytes()), Some(Err(status)), "{request:?}");
        }
        assert_eq!(parse(b"HEAD / HTTP/1.0\r\n\r\n"), Some(Ok((Method::Head, "/".to_owned()))));
    }
}

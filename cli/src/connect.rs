//! `ntcp connect`: one connection on standard input and output, or one for each local client.

use crate::arguments::Connect;
use crate::failure::Failure;
use crate::local::{self, LocalError};
use crate::peer;
use crate::story::{self, Terminal};
use crate::stream::LocalStream;
use async_io::Async;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt, select_biased};
use ntcp::{Config, Connection, Node, PeerUri, Report};
use ntcp_settings::{Endpoint, LogLevel};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::pin::pin;
use std::time::{Duration, Instant};

/// Local clients served at once; a further one waits to be accepted.
const MAX_CLIENTS: usize = 256;

/// Runs `ntcp connect` to its end.
///
/// # Errors
/// Why there is no connection, or why it broke.
pub async fn run(arguments: &Connect, config: Config, terminal: Terminal) -> Result<(), Failure> {
    let call = Call { arguments, uri: uri(arguments), explain: explains(&config), terminal };
    // A local port that cannot be had should not cost a registration.
    let clients = arguments.forward.map(listen).transpose()?;
    let (began, patience) = (Instant::now(), config.node.deadline);
    let started = peer::start(broker_of_uri(config, arguments), Some(&call.uri)).await;
    let node = started.inspect_err(|failure| call.report_failure(failure))?;
    let result = match clients {
        Some((address, clients)) => call.forward(&node, address, clients, patience).await,
        None => call.standard(&node, patience.saturating_sub(began.elapsed())).await,
    };
    node.stop().await;
    result
}

/// The URI with the flag's transport, if there is one.
fn uri(arguments: &Connect) -> PeerUri {
    let mut uri = arguments.uri.clone();
    uri.transport = arguments.transport.or(uri.transport);
    uri
}

/// The ladder of a success is shown from `-v` on.
fn explains(config: &Config) -> bool {
    config.log.level >= Some(LogLevel::Info)
}

/// A broker in the URI goes before one in the configuration, though not before one in a flag.
fn broker_of_uri(mut config: Config, arguments: &Connect) -> Config {
    let flags = &arguments.peer;
    let Some(named) = &arguments.uri.broker else { return config };
    if flags.broker.is_some() || flags.tcp_broker.is_some() {
        return config;
    }
    let same = |broker: &Endpoint| {
        Endpoint::parse(&named.to_string(), broker.port()).as_ref() == Ok(broker)
    };
    let configured = [&config.hole_punch.broker, &config.tcp.broker];
    if !configured.into_iter().flatten().any(same) {
        config.hole_punch.broker = None;
        config.tcp.broker = None;
    }
    config
}

fn listen(address: SocketAddr) -> Result<(SocketAddr, Async<TcpListener>), Failure> {
    let failed = |source| Failure::Listen { address, source };
    let listener = Async::<TcpListener>::bind(address).map_err(failed)?;
    Ok((listener.get_ref().local_addr().map_err(failed)?, listener))
}

/// What each connection of this run has in common.
struct Call<'a> {
    arguments: &'a Connect,
    uri: PeerUri,
    explain: bool,
    terminal: Terminal,
}

impl Call<'_> {
    /// The time of this one began with the command: starting the node counts.
    async fn standard(&self, node: &Node, patience: Duration) -> Result<(), Failure> {
        let connection = self.connect(node, patience).await?;
        let moved = local::standard(connection).await?;
        self.terminal.progress(&format!("sent {} bytes, received {}", moved.sent, moved.received));
        Ok(())
    }

    /// Serves local clients until this process is ended.
    async fn forward(
        &self,
        node: &Node,
        address: SocketAddr,
        clients: Async<TcpListener>,
        patience: Duration,
    ) -> Result<(), Failure> {
        self.terminal.success(&format!("forwarding {address} to {}", self.uri));
        let mut served = FuturesUnordered::new();
        loop {
            let room = served.len() < MAX_CLIENTS;
            let mut next = pin!(
                async { if room { clients.accept().await } else { std::future::pending().await } }
                    .fuse()
            );
            let client = select_biased! {
                () = served.select_next_some() => continue,
                client = next => client,
            };
            let (stream, _) = client.map_err(|source| Failure::Listen { address, source })?;
            served.push(self.serve(node, stream, patience));
        }
    }

    async fn serve(&self, node: &Node, client: Async<TcpStream>, patience: Duration) {
        let serve = async {
            let stream = client.into_inner().and_then(LocalStream::new);
            let stream = stream.map_err(LocalError::Client)?;
            local::client(stream, self.connect(node, patience).await?).await?;
            Ok::<_, Failure>(())
        };
        if let Err(failure) = serve.await {
            self.terminal.failure(&failure.to_string());
        }
    }

    async fn connect(&self, node: &Node, patience: Duration) -> Result<Connection, Failure> {
        self.terminal.progress(&format!("connecting to {}", self.uri));
        match node.connect_within(&self.uri, patience).await {
            Ok(connection) => {
                self.terminal.success(&story::connected(&connection));
                if self.explain {
                    self.terminal.progress(&story::attempts(connection.report()));
                }
                self.write_report(connection.report())?;
                Ok(connection)
            }
            Err(error) => {
                if let Some(report) = error.report() {
                    self.terminal.progress(&story::attempts(report));
                }
                let failure = Failure::from(error);
                self.report_failure(&failure);
                Err(failure)
            }
        }
    }

    /// A failure is reported too; that the report cannot be written is then the lesser evil.
    fn report_failure(&self, failure: &Failure) {
        let made;
        let report = match failure {
            Failure::Node(error) if error.report().is_some() => error.report(),
            other => {
                made = Report::failed(other.to_string(), Vec::new());
                Some(&made)
            }
        };
        if let Some(Err(error)) = report.map(|report| self.write_report(report)) {
            self.terminal.failure(&error.to_string());
        }
    }

    fn write_report(&self, report: &Report) -> Result<(), Failure> {
        match &self.arguments.report {
            Some(path) => write_json(path, report),
            None => Ok(()),
        }
    }
}

fn write_json(path: &Path, report: &Report) -> Result<(), Failure> {
    let failed = |source| Failure::Write { path: path.to_owned(), source };
    let mut text = serde_json::to_string_pretty(report).map_err(|error| failed(error.into()))?;
    text.push('\n');
    std::fs::write(path, text).map_err(failed)
}

//! `ntcp listen`: the first peer on standard input and output, or a command or service for each.

use crate::arguments::Listen;
use crate::failure::Failure;
use crate::local::{self, LocalError};
use crate::peer;
use crate::pump::Moved;
use crate::stop;
use crate::story::{self, Terminal};
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt, select_biased};
use ntcp::{Config, Connection, Incoming, Transport};
use ntcp_settings::Endpoint;
use std::pin::pin;

/// Peers served at once; a further one is turned away.
const MAX_PEERS: usize = 256;

/// Runs `ntcp listen` to its end, which it only has without `--exec` and `--forward`.
///
/// # Errors
/// Why the name could not be registered, or why the first connection broke.
pub async fn run(
    arguments: &Listen,
    mut config: Config,
    terminal: Terminal,
) -> Result<(), Failure> {
    if let Some(name) = &arguments.registered_name {
        config.node.name = Some(name.clone());
    }
    let name = config.node.name.clone().ok_or(Failure::NoName)?;
    let broker = config.hole_punch.broker.clone().or_else(|| config.tcp.broker.clone());
    // Before anybody is told that it listens, who may then ask it to end.
    let mut asked = pin!(stop::signals().map_err(Failure::Signals)?.fuse());
    let node = select_biased! {
        node = pin!(peer::start(config, None).fuse()) => node?,
        () = asked => return Ok(()),
    };
    let at = broker.map(|broker| format!("@{broker}")).unwrap_or_default();
    terminal.success(&format!("listening as ntcp://{name}{at}"));
    terminal.progress(&format!("this peer's key, for ?key= in the URI: {}", node.key()));
    let incoming = node.incoming();
    let work = async {
        match service(arguments) {
            Some(service) => each(incoming, &service, terminal).await,
            None => first(incoming, terminal).await,
        }
    };
    let result = select_biased! {
        result = pin!(work.fuse()) => result,
        () = asked => Ok(()),
    };
    // The name is free at once, and not only when its lease has run out.
    node.stop().await;
    result
}

/// What each peer is joined to.
#[derive(Debug)]
enum Service<'a> {
    Command(&'a str),
    Forward(&'a Endpoint),
}

fn service(arguments: &Listen) -> Option<Service<'_>> {
    let command = arguments.exec.as_deref().map(Service::Command);
    command.or_else(|| arguments.forward.as_ref().map(Service::Forward))
}

/// Takes one peer and turns the others away.
async fn first(mut incoming: Incoming, terminal: Terminal) -> Result<(), Failure> {
    let connection = incoming.next().await.ok_or(Failure::Stopped)?;
    drop(incoming);
    terminal.success(&story::connected(&connection));
    let moved = local::standard(connection).await?;
    terminal.progress(&summary(moved));
    Ok(())
}

/// Serves every peer until this process is ended.
async fn each(
    incoming: Incoming,
    service: &Service<'_>,
    terminal: Terminal,
) -> Result<(), Failure> {
    let mut incoming = incoming.fuse();
    let mut served = FuturesUnordered::new();
    loop {
        let connection = select_biased! {
            () = served.select_next_some() => continue,
            connection = incoming.next() => connection.ok_or(Failure::Stopped)?,
        };
        if served.len() == MAX_PEERS {
            terminal.failure(&format!("a peer was turned away: {MAX_PEERS} are being served"));
            continue;
        }
        terminal.success(&story::connected(&connection));
        served.push(serve(connection, service, terminal));
    }
}

async fn serve(connection: Connection, service: &Service<'_>, terminal: Terminal) {
    let peer = connection.peer_name().map_or("a peer without a name".into(), ToString::to_string);
    let served = match service {
        Service::Forward(endpoint) => local::service(endpoint, connection).await,
        Service::Command(line) => command(line, connection).await,
    };
    match served {
        Ok(moved) => terminal.progress(&format!("{peer}: {}", summary(moved))),
        Err(error) => terminal.failure(&format!("{peer}: {error}")),
    }
}

async fn command(line: &str, connection: Connection) -> Result<Moved, LocalError> {
    let name = connection.peer_name().map(ToString::to_string).unwrap_or_default();
    let address = connection.peer_addr().map(|address| address.to_string()).unwrap_or_default();
    let transport = match connection.transport() {
        Transport::Tcp => "tcp",
        Transport::Udp => "udp",
    };
    let variables = [
        ("NTCP_PEER_NAME", name),
        ("NTCP_PEER_ADDRESS", address),
        ("NTCP_PEER_TRANSPORT", transport.to_owned()),
    ];
    let (moved, status) = local::command(line, &variables, connection).await?;
    tracing::info!(%status, "the command has ended");
    Ok(moved)
}

fn summary(moved: Moved) -> String {
    format!("sent {} bytes, received {}", moved.sent, moved.received)
}

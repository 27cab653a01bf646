//! From a configuration to a running node.

use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_io::Timer;
use futures::StreamExt as _;
use futures::channel::{mpsc, oneshot};
use futures::future::{Either, select};
use ntcp_proto::entropy::Seed;
use ntcp_proto::node as proto;
use ntcp_proto::signal::client;
use ntcp_proto::tcp_traversal::budget::Limits;
use ntcp_proto::uri::{HostPort, PeerUri};
use ntcp_settings::{Config, Endpoint, Host};

use super::events::Events;
use super::{Arrivals, Inner, MAX_WAITING, Node, Shared, Stopped, lock};
use crate::access;
use crate::discover::{Diagnosis, Privileges, diagnose};
use crate::driver::Driver;
use crate::error::{Error, ErrorKind};
use crate::identity::Identity;
use crate::io::privileged::{Powers, may_forge};
use crate::runtime;
use crate::trust::{self, Known};

/// How long a discovery gives way to calls.
const STANDS_BACK: Duration = Duration::from_secs(30);

/// What a node is to be.
#[derive(Debug, Default)]
pub struct Builder {
    config: Config,
    name: Option<String>,
}

impl Builder {
    /// Everything that `p2pNetwork.toml` can say. The defaults, unless called.
    #[must_use]
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// The name to be found by; goes before `[node] name`. Without either the node can call, but
    /// not be called.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// A token for a broker that is closed to outsiders, as the operator or an application's own backend mints them; goes before
    /// `[access]`.
    #[must_use]
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.config.access.token = Some(token.into().into());
        self
    }

    /// An account at such a broker; goes before `[access]`.
    #[must_use]
    pub fn account(mut self, user: impl Into<String>, password: impl Into<String>) -> Self {
        let access = &mut self.config.access;
        access.token = None;
        (access.user, access.password) = (Some(user.into()), Some(password.into().into()));
        self
    }

    /// Uses the broker that a URI names, over UDP and TCP, if the configuration names none.
    #[must_use]
    pub fn broker_of(mut self, uri: &PeerUri) -> Self {
        let config = &mut self.config;
        if let (Some(broker), None, None) =
            (&uri.broker, &config.hole_punch.broker, &config.tcp.broker)
        {
            // A port in the URI is that of the UDP broker, which `[hole_punch]` is about.
            let port = broker.port.unwrap_or(ntcp_settings::BROKER_PORT);
            config.hole_punch.broker = Endpoint::parse(&broker.to_string(), port).ok();
        }
        self
    }

    /// Opens the ports, learns what the outside calls them, and registers.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Configuration`], [`ErrorKind::Port`] when a port is in use,
    /// [`ErrorKind::Registration`] when the broker is unknown, silent or refuses.
    pub async fn start(mut self) -> Result<Node, Error> {
        self.config.check()?;
        if let Some(name) = self.name.take() {
            self.config.node.name =
                Some(name.parse().map_err(|_| {
                    ErrorKind::Uri(ntcp_proto::uri::UriError::Name { value: name })
                })?);
        }
        let (identity, known) = known_and_own(self.config.clone()).await?;
        let access = self.config.access.clone();
        let credentials = blocking::unblock(move || access::credentials(&access)).await?;
        let mut machine_config = machine_config(&self.config, &identity, &known)?;
        machine_config.signal.credentials = credentials;
        let (started, result) = oneshot::channel();
        let (sender, receiver) = mpsc::channel(MAX_WAITING);
        let (counting, counted) = mpsc::unbounded();
        let shared = Arc::new(Shared {
            identity,
            bare: self.config.security.plain_paths,
            broker: Mutex::new(known),
            calls: Mutex::default(),
            started: Mutex::new(Some(started)),
            stopped: Mutex::new(Stopped::NotYet(Vec::new())),
            incoming: Mutex::new(Arrivals { sender, receiver: Some(receiver) }),
            counting,
        });
        let mut machine = proto::Node::new(machine_config, seed()?, Instant::now());
        let powers = Powers::found().await;
        machine.set_privileges(blocking::unblock(Privileges::current).await.of_tcp());
        if self.config.tcp.connect_close_listen {
            machine.ask_for_connect_close_listen();
        }
        let (driver, handle) = Driver::with(powers, machine);
        let mut events = Events::new(shared.clone());
        let run = driver.run(move |event, machine, sockets, now| {
            events.handle(event, machine, sockets, now);
        });
        let task = runtime::spawn(run);
        let node = Node(Arc::new(Inner {
            handle,
            shared,
            config: self.config,
            elsewhere: Mutex::default(),
            driver: Mutex::new(Some(task)),
            discovery: Mutex::default(),
        }));
        result.await.unwrap_or_else(|_| Err(ErrorKind::Stopped.into()))?;
        *lock(&node.0.discovery) = Some(runtime::spawn(tell_nat(&node, counted)));
        Ok(node)
    }
}

/// Finds out what this host's NATs do, for peers and reports. Nothing waits for it, and it begins anew
/// after a call that counts ports, of which it would take some.
fn tell_nat(
    node: &Node,
    mut counting: mpsc::UnboundedReceiver<bool>,
) -> impl Future<Output = ()> + use<> {
    let (config, handle) = (node.0.config.clone(), node.0.handle.clone());
    async move {
        let found = undisturbed(|| diagnose(&config), &mut counting, STANDS_BACK).await;
        let Some(found) = found else { return };
        match found {
            Ok(Diagnosis { findings, .. }) => drop(handle.order(move |machine, _, now| {
                machine.set_opener_ttl(findings.opener_ttl);
                machine.set_listener_reached(findings.reached_after_rst);
                machine.set_nat(findings.report, now);
            })),
            Err(error) => tracing::debug!(%error, "nothing found out about the NATs"),
        }
    }
}

/// What comes of `work`, begun anew after each time that `counting` has been true; `None` when that ends. After this time
/// nothing disturbs it: a node that is called all the time must know its NATs too.
async fn undisturbed<W: Future>(
    work: impl Fn() -> W,
    counting: &mut mpsc::UnboundedReceiver<bool>,
    patience: Duration,
) -> Option<W::Output> {
    let until = Instant::now() + patience;
    while Instant::now() < until {
        match select(Box::pin(work()), counting.next()).await {
            Either::Left((found, _)) => return Some(found),
            Either::Right((None, _)) => return None,
            Either::Right((Some(true), begun)) => {
                drop(begun);
                let over = async { while counting.next().await == Some(true) {} };
                select(Box::pin(over), Timer::at(until)).await;
            }
            Either::Right((Some(false), _)) => {}
        }
    }
    Some(work().await)
}

pub(crate) fn seed() -> Result<Seed, Error> {
    let mut bytes = [0; 32];
    let failed = |error: getrandom::Error| ErrorKind::System {
        what: "the system gave no randomness",
        source: std::io::Error::other(error.to_string()),
    };
    getrandom::fill(&mut bytes).map_err(failed)?;
    Ok(Seed(bytes))
}

/// Reads the key of this node and what it knows of its broker, off the driver's thread.
async fn known_and_own(config: Config) -> Result<(Identity, Known), Error> {
    blocking::unblock(move || Ok((Identity::from_seed(trust::key(&config)?)?, Known::of(&config)?)))
        .await
}

fn machine_config(
    config: &Config,
    identity: &Identity,
    known: &Known,
) -> Result<proto::Config, Error> {
    let secrecy = if config.security.plain {
        client::Secrecy::Plain
    } else {
        client::Secrecy::Sealed { identity: identity.secret().clone(), trust: known.trust() }
    };
    let mut signal = client::Config::new(identity.fingerprint, secrecy);
    signal.bare = config.security.plain_paths;
    let name = config.node.name.as_ref();
    signal.name = name.map(|name| name.as_str().parse()).transpose()?;
    signal.udp_broker = config.hole_punch.broker.as_ref().map(host_port);
    signal.tcp_broker = config.tcp_broker().as_ref().map(host_port);
    signal.refresh = config.node.keepalive;
    signal.connect_timeout = config.node.deadline;
    signal.consents = config.spoof.consent;
    signal.offers_to_forge = config.spoof.offer && may_forge();
    Ok(proto::Config {
        signal,
        stun: config.stun_servers().iter().map(host_port).collect(),
        udp_port: config.hole_punch.port,
        budget: Limits {
            per_attempt: config.tcp.connects_per_attempt,
            per_minute: config.tcp.connects_per_minute,
        },
    })
}

pub(crate) fn host_port(endpoint: &Endpoint) -> HostPort {
    let host = match endpoint.host() {
        Host::Name(name) => name.clone(),
        Host::Ip(address) => address.to_string(),
    };
    HostPort { host, port: Some(endpoint.port()) }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// Work that ends at its turn with that number, and goes on for ever before.
    fn work_that_ends_at(turn: u32, begun: &Cell<u32>) -> impl Future<Output = u32> + use<> {
        begun.set(begun.get() + 1);
        let now = begun.get();
        async move {
            if now < turn {
                futures::future::pending::<()>().await;
            }
            now
        }
    }

    #[test]
    fn a_discovery_begins_anew_when_calls_no_longer_count_ports() {
        let (counting, mut counted) = mpsc::unbounded();
        let begun = Cell::new(0);
        for told in [true, true, false] {
            counting.unbounded_send(told).unwrap();
        }
        let work = || work_that_ends_at(2, &begun);
        let found = undisturbed(work, &mut counted, Duration::from_secs(60));
        assert_eq!(async_io::block_on(found), Some(2));
        drop(counting);
        let found =
            undisturbed(|| work_that_ends_at(9, &begun), &mut counted, Duration::from_secs(60));
        assert_eq!(async_io::block_on(found), None, "the node has gone");
    }

    #[test]
    fn a_node_that_is_called_all_the_time_finds_out_all_the_same() {
        let (counting, mut counted) = mpsc::unbounded();
        let begun = Cell::new(0);
        counting.unbounded_send(true).unwrap();
        let work = || work_that_ends_at(2, &begun);
        let found = undisturbed(work, &mut counted, Duration::from_millis(50));
        assert_eq!(async_io::block_on(found), Some(2));
    }
}

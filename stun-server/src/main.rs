//! `ntcp-stun-server`: the STUN server.
#![forbid(unsafe_code)]

mod arguments;

use anyhow::Context;
use arguments::Arguments;
use clap::Parser;
use ntcp_service::bind::Opening;
use ntcp_service::confine::{Needs, confine};
use ntcp_service::log::{self, Log, UntilWritten};
use ntcp_service::{Reload, Supervisor, complain, descriptors, metrics_listener};
use ntcp_settings::Config;
use ntcp_stun_server::{Options, Server, Sockets};
use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;
use std::sync::Arc;

/// Before each complaint.
const NAME: &str = env!("CARGO_BIN_NAME");

fn main() -> ExitCode {
    let _until_written = UntilWritten;
    // Bad flags end the program with status 2 here.
    let arguments = Arguments::parse();
    let config = match arguments.config() {
        Ok(config) => config,
        Err(error) => return complain(NAME, error.chain(), 2),
    };
    let options = match Options::load(&config.stun) {
        Ok(options) => options,
        Err(error) => return complain(NAME, anyhow::Error::from(error).chain(), 2),
    };
    if arguments.check {
        println!("configuration is good: {}", arguments::describe(&options, &config));
        return ExitCode::SUCCESS;
    }
    let log = Log::begin(log::level(arguments.verbose, config.log.level), config.log.format);
    match serve(config, options, (log, arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => complain(NAME, error.chain(), 1),
    }
}

fn serve(
    config: Config,
    mut options: Options,
    (log, arguments): (Log, Arguments),
) -> anyhow::Result<()> {
    options.max_streams = descriptors::room_for(options.max_streams);
    // What needs a privilege, or may only be done before the first thread.
    let (sockets, opening) = Sockets::open(&options, Opening::with_inherited()?)?;
    let metrics = metrics_listener(&opening, config.metrics.listen)?;
    opening.finish()?;
    let (user, configuration) = (config.service.user.clone(), config.file().map(Into::into));
    let stun = &config.stun;
    let files = [&stun.credentials, &stun.tls_certificate, &stun.tls_key];
    let files = files.into_iter().flatten().cloned().collect();
    let needs = Needs { user, configuration, files, ..Needs::default() };
    let confined = confine(&needs, sockets.listeners())?;
    // From here on it runs.
    let server = Server::new(sockets, &options)?;
    let verbose = arguments.verbose;
    let mut reloader = server.reloader();
    let reload = Reload::new(config, (log, verbose), move || arguments.config());
    let reload = reload.and_stun(move |running, new| {
        reloader.take_over(running, new).map(|it| (it.changed, it.needs_restart))
    });
    let supervisor = Supervisor::start(Arc::new(server.meter()), metrics, reload)
        .context("signals or metrics cannot be waited for")?;
    // Said last: who reads it may send signals from now on.
    announce(&server);
    tell_names(&server, &options);
    confined.tell();
    let counters = async_io::block_on(server.run(supervisor.stopped()));
    tracing::info!(?counters, "stopped");
    Ok(())
}

/// The line that says it is ready: each address, and whether clients can learn how their NAT filters.
fn announce(server: &Server) {
    let addresses = server.addresses();
    let mut families: Vec<_> = addresses.iter().map(family).collect();
    families.dedup();
    let change_requests = families.into_iter().map(|name| {
        let is_served = server.quartets().iter().any(|it| family(&it.addresses()[0]) == name);
        if is_served {
            format!("served over {name}")
        } else {
            format!("refused over {name} (no alternate address)")
        }
    });
    let change_requests: Vec<_> = change_requests.collect();
    let addresses: Vec<_> = addresses.iter().map(ToString::to_string).collect();
    tracing::info!(
        "mode {}, listening on UDP and TCP {}; change requests: {}",
        server.mode(),
        addresses.join(", "),
        change_requests.join(", ")
    );
    for address in server.tls_addresses() {
        tracing::info!("listening on TLS {address}");
    }
    for address in server.dtls_addresses() {
        tracing::info!("listening on DTLS {address}");
    }
}

/// What clients are told that they might not expect.
fn tell_names(server: &Server, options: &Options) {
    for pair in &options.public {
        tracing::info!("clients know {} as {}", pair.local, pair.public);
    }
    let told = server.quartets().iter().flat_map(ntcp_stun::server::Quartet::addresses);
    let is_private = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => ip.is_private() || ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unique_local() || ip.is_unicast_link_local(),
    };
    if let Some(address) = told.map(|it| it.ip()).find(|ip| is_private(*ip)) {
        tracing::info!(
            "clients are told {address}, which the internet does not reach: if a NAT stands before this server, say [stun] public = [\"{address}=PUBLIC ADDRESS\"]"
        );
    }
}

fn family(address: &SocketAddr) -> &'static str {
    match address {
        SocketAddr::V4(_) => "IPv4",
        SocketAddr::V6(_) => "IPv6",
    }
}

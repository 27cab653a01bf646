//! `ntcp-broker`: the connection broker.
#![forbid(unsafe_code)]

mod access;
mod arguments;
mod keys;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use clap::Parser;
use ntcp_broker::{Broker, Options, Renewal, Sockets};
use ntcp_proto::rendezvous::InTheClear;
use ntcp_service::bind::Opening;
use ntcp_service::confine::{Needs, check_user, confine};
use ntcp_service::log::{self, Log, UntilWritten};
use ntcp_service::{Reload, Supervisor, complain, descriptors, metrics_listener, told_once};
use ntcp_settings::Config;

use arguments::{Arguments, Errand};

/// Before each complaint.
const NAME: &str = env!("CARGO_BIN_NAME");

/// What ended the program: the status tells scripts whose fault it was.
enum Failure {
    /// 1: it could not run.
    Running(anyhow::Error),
    /// 2: it was not told right what to do.
    Configuration(anyhow::Error),
}

fn main() -> ExitCode {
    let _until_written = UntilWritten;
    // Bad flags end the program with status 2 here.
    let arguments = Arguments::parse();
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Running(error)) => complain(NAME, error.chain(), 1),
        Err(Failure::Configuration(error)) => complain(NAME, error.chain(), 2),
    }
}

fn run(mut arguments: Arguments) -> Result<(), Failure> {
    let errand = arguments.errand.take();
    let config = arguments.config().map_err(Failure::Configuration)?;
    if let Some(Errand::Token(wanted)) = errand {
        println!("{}", access::mint(wanted, &config).map_err(Failure::Configuration)?);
        return Ok(());
    }
    let mut options = arguments.options(&config).map_err(Failure::Configuration)?;
    options.limits.names = keys::names(&config).map_err(Failure::Configuration)?;
    options.limits.access = access::read(&config).map_err(Failure::Configuration)?;
    if arguments.check {
        let key = keys::describe(&config).map_err(Failure::Configuration)?;
        let user = check_user(config.service.user.as_ref());
        user.map_err(|error| Failure::Configuration(error.into()))?;
        for exposed in access::exposed(&config) {
            eprintln!("warning: {exposed}");
        }
        println!("configuration is good: {}, {key}", arguments::describe(&options, &config));
        return Ok(());
    }
    options.limits.keys = keys::read(&config).map_err(Failure::Configuration)?;
    let log = Log::begin(log::level(arguments.verbose, config.log.level), config.log.format);
    options.max_streams = descriptors::room_for(options.max_streams);
    serve(&options, config, (log, arguments)).map_err(Failure::Running)
}

/// The files that are read again on SIGHUP beside the configuration itself.
fn read_again(config: &Config) -> Vec<PathBuf> {
    let (security, access) = (&config.security, &config.access);
    let some = [&security.names, &access.accounts, &access.token_keys];
    let some = some.into_iter().flatten().chain(&security.old_keys);
    some.cloned().chain(keys::place(config)).collect()
}

/// What these files say by now. What cannot be read stays as it is.
fn renewal(config: &Config) -> Renewal {
    fn or_say<T>(what: &str, read: anyhow::Result<T>) -> Option<T> {
        let unread = |error: anyhow::Error| {
            let why = told_once(error.chain());
            tracing::error!("{what} stay as they are: {why}{}", way_out(&error));
        };
        read.map_err(unread).ok()
    }
    let mut renewal = Renewal::default();
    renewal.keys = or_say("the broker's keys", keys::read_again(config)).unwrap_or_default();
    renewal.names = or_say("the names", keys::names(config));
    renewal.access = or_say("accounts and keys of tokens", access::read(config));
    renewal
}

/// What helps where a file that could be read at the start cannot be any more.
fn way_out(error: &anyhow::Error) -> &'static str {
    let denied = error.chain().filter_map(|it| it.downcast_ref::<std::io::Error>());
    if denied.into_iter().any(|it| it.kind() == std::io::ErrorKind::PermissionDenied) {
        "; the user that this server has become since its start ([service] user, or nobody) must be able to read it: give it the file, or restart the server"
    } else {
        ""
    }
}

fn serve(
    options: &Options,
    config: Config,
    (log, arguments): (Log, Arguments),
) -> anyhow::Result<()> {
    // What needs a privilege, or may only be done before the first thread.
    let opening = Opening::with_inherited()?;
    let sockets = Sockets::open(options, &opening)?;
    let metrics = metrics_listener(&opening, config.metrics.listen)?;
    opening.finish()?;
    let configuration = config.file().map(Into::into);
    let user = config.service.user.clone();
    let (files, exposed) = (read_again(&config), access::exposed(&config));
    let confined = confine(&Needs { user, configuration, files, ..Needs::default() }, [])?;
    // From here on it runs.
    let broker = Broker::new(sockets, options)?;
    let observer = broker.observer();
    let verbose = arguments.verbose;
    let observed = observer.clone();
    let reload =
        Reload::new(config, (log, verbose), move || arguments.config()).and(move |config| {
            observed.set_drain(config.service.drain);
            if !observed.renew(renewal(config)) {
                tracing::error!(
                    "too busy to take over keys, names and accounts: send SIGHUP again"
                );
            }
        });
    let supervisor = Supervisor::start(Arc::new(observer), metrics, reload)
        .context("signals or metrics cannot be waited for")?;
    // Said last: who reads it may send signals from now on.
    for address in broker.udp_addresses() {
        tracing::info!(%address, "listening on UDP");
    }
    for address in broker.tcp_addresses() {
        tracing::info!(%address, "listening on TCP");
    }
    confined.tell();
    if let Some(key) = broker.identity() {
        tracing::info!(%key, lasting = !options.limits.keys.is_empty(), "the key of this broker");
    }
    if options.limits.keys.is_empty() {
        tracing::warn!(
            "there is no place to keep this key in: after a restart there is another one, and peers that have noted this one refuse it; name a file with [security] key"
        );
    }
    exposed.iter().for_each(|it| tracing::warn!("{it}"));
    if options.limits.in_the_clear == InTheClear::Allowed {
        tracing::warn!(
            "peers that ask for it are served in the clear: whoever reads along can act as them"
        );
    }
    let counters = async_io::block_on(broker.run(supervisor.stopped()));
    tracing::info!(?counters, "stopped");
    Ok(())
}

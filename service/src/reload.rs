//! SIGHUP: what a running server takes over from its configuration, and what it says about the rest.

use ntcp_settings::{Config, Log as LogSettings, Service, Stun};

use crate::log::{Log, level};

/// Reads the configuration again.
///
/// A configuration that is refused changes nothing: the server goes on with the one it has. Of a good one it takes
/// over what can change while it runs, and names what needs a restart.
pub struct Reload {
    running: Config,
    verbose: u8,
    log: Log,
    load: Box<dyn FnMut() -> Result<Config, String> + Send>,
    take_over: Box<dyn FnMut(&Config) + Send>,
    stun: Option<Box<TakeOverStun>>,
}

/// Has a STUN server take over what it can of its section: told what runs and what is new, it answers with the keys that
/// have changed and those that need a restart.
type TakeOverStun = dyn FnMut(&Stun, &Stun) -> Result<(Keys, Keys), String> + Send;

/// Names of keys.
type Keys = Vec<&'static str>;

/// What came of a reload.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// What is in force from now on.
    pub(crate) changed: Vec<&'static str>,
    /// What has changed in the file but needs a restart.
    pub(crate) needs_restart: Vec<&'static str>,
}

impl Reload {
    /// For a server that runs with `running` and was started with the flag `-v` so many times; `load` reads the
    /// configuration with all its layers.
    pub fn new<E: std::fmt::Display>(
        running: Config,
        (log, verbose): (Log, u8),
        mut load: impl FnMut() -> Result<Config, E> + Send + 'static,
    ) -> Self {
        let load = Box::new(move || load().map_err(|error| format!("{error:#}")));
        Self { running, verbose, log, load, take_over: Box::new(|_| ()), stun: None }
    }

    /// Also tells the server itself, which knows what else it can take over.
    #[must_use]
    pub fn and(mut self, take_over: impl FnMut(&Config) + Send + 'static) -> Self {
        self.take_over = Box::new(take_over);
        self
    }

    /// Has a STUN server take over what it can of `[stun]`: given what runs and what is new, it says which keys have changed
    /// and which need a restart. If it refuses, nothing changes.
    #[must_use]
    pub fn and_stun<E: std::fmt::Display>(
        mut self,
        mut take_over: impl FnMut(&Stun, &Stun) -> Result<(Keys, Keys), E> + Send + 'static,
    ) -> Self {
        let take_over =
            move |old: &Stun, new: &Stun| take_over(old, new).map_err(|error| error.to_string());
        self.stun = Some(Box::new(take_over));
        self
    }

    pub(crate) fn reload(&mut self) {
        match self.outcome() {
            Ok(Outcome { changed, needs_restart }) => {
                if !needs_restart.is_empty() {
                    let needs_restart = needs_restart.join(", ");
                    tracing::warn!(
                        needs_restart,
                        "changed in the configuration, but not while the server runs"
                    );
                }
                let changed =
                    if changed.is_empty() { "nothing".to_owned() } else { changed.join(", ") };
                tracing::info!(changed, "configuration read again");
            }
            Err(problem) => {
                tracing::error!(
                    "the configuration stays as it was, the new one is refused: {problem}"
                );
            }
        }
    }

    fn outcome(&mut self) -> Result<Outcome, String> {
        let new = (self.load)()?;
        let mut outcome = Outcome::default();
        let mut known = self.running.clone();
        if let Some(take_over) = &mut self.stun {
            let (changed, left) = take_over(&self.running.stun, &new.stun)?;
            outcome.changed.extend(changed);
            outcome.needs_restart.extend(left);
            // What is left of it has been said key by key.
            known.stun.clone_from(&new.stun);
        }
        let LogSettings { level: log_level, .. } = new.log;
        if self.log.set_level(level(self.verbose, log_level)) {
            outcome.changed.push("[log] level");
        }
        let Service { drain, .. } = new.service;
        if drain != self.running.service.drain {
            outcome.changed.push("[service] drain");
        }
        outcome.needs_restart.extend(needs_restart(&known, &new));
        (self.take_over)(&new);
        // What needs a restart stays new to every further reload.
        self.running.log.level = log_level;
        self.running.service.drain = drain;
        Ok(outcome)
    }
}

/// Everything that a server reads once, when it starts.
fn needs_restart(running: &Config, new: &Config) -> Vec<&'static str> {
    let differences = [
        ("[stun]", running.stun != new.stun),
        ("[hole_punch]", running.hole_punch != new.hole_punch),
        ("[tcp]", running.tcp != new.tcp),
        ("[log] format", running.log.format != new.log.format),
        ("[registry]", running.registry != new.registry),
        ("[spoof]", running.spoof != new.spoof),
        ("[security] plain", running.security.plain != new.security.plain),
        ("[metrics]", running.metrics != new.metrics),
        ("[service] user", running.service.user != new.service.user),
    ];
    differences.into_iter().filter(|(_, differ)| *differ).map(|(name, _)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_needs_a_restart_is_named() {
        let running = Config::default();
        assert!(needs_restart(&running, &running).is_empty());
        let new = "[hole_punch]\nlisten = ['127.0.0.1:7']\n[log]\nformat = 'json'\nlevel = 'debug'";
        let new = Config::from_toml(new).unwrap();
        assert_eq!(needs_restart(&running, &new), ["[hole_punch]", "[log] format"]);
    }
}

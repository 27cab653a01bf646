//! What a running server goes by and can be told anew: [`Live`] for all shards, [`Reloader`] for whoever tells it.

use crate::express::{self, Express};
use crate::policy::{Policy, PolicyError};
use crate::tls::{CertificateFiles, Identity};
use ntcp_settings::Stun;
use ntcp_stun::server::{Conditions, Server};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// The conditions that are in force.
#[derive(Debug, Default)]
pub(crate) struct Live {
    /// How often they have changed.
    changes: AtomicU64,
    conditions: Mutex<Conditions>,
}

impl Live {
    pub(crate) fn new(conditions: Conditions) -> Arc<Self> {
        Arc::new(Self { changes: AtomicU64::new(0), conditions: Mutex::new(conditions) })
    }

    fn exchange(&self, conditions: Conditions) {
        // Only exchanged as a whole.
        *self.conditions.lock().unwrap_or_else(PoisonError::into_inner) = conditions;
        self.changes.fetch_add(1, Ordering::Release);
    }
}

/// Has one server know the conditions; costs a look at a number as long as they stay the same.
#[derive(Clone, Debug)]
pub(crate) struct Follower {
    live: Arc<Live>,
    changes: u64,
}

impl Follower {
    /// For a server that knows them already.
    pub(crate) fn new(live: &Arc<Live>) -> Self {
        Self { live: Arc::clone(live), changes: 0 }
    }

    pub(crate) fn follow(&mut self, server: &mut Server) {
        let changes = self.live.changes.load(Ordering::Acquire);
        if changes != self.changes {
            self.changes = changes;
            let conditions = self.live.conditions.lock().unwrap_or_else(PoisonError::into_inner);
            server.take_over(&conditions);
        }
    }
}

/// Tells a running server what has changed in its configuration.
#[derive(Debug)]
pub struct Reloader {
    live: Arc<Live>,
    express: Arc<Express>,
    policy: Policy,
    tls: Option<(CertificateFiles, Identity)>,
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TakenOver {
    /// Keys whose new value is in force.
    pub changed: Vec<&'static str>,
    /// Keys whose new value needs a restart.
    pub needs_restart: Vec<&'static str>,
}

impl Reloader {
    pub(crate) fn new(
        (live, express): (Arc<Live>, Arc<Express>),
        policy: Policy,
        tls: Option<(CertificateFiles, Identity)>,
    ) -> Self {
        Self { live, express, policy, tls }
    }

    /// Takes over what can change while the server runs: users and access, redirect, software, what is believed, how long
    /// replies are, and the certificate. Files are read again. `running` is what the server was started with.
    ///
    /// # Errors
    ///
    /// Something in `new` or in its files is no good; then nothing has changed.
    pub fn take_over(&mut self, running: &Stun, new: &Stun) -> Result<TakenOver, PolicyError> {
        let policy = Policy::load(new)?;
        let mut taken =
            TakenOver { changed: Vec::new(), needs_restart: needs_restart(running, new) };
        if let Some((files, identity)) = &mut self.tls
            && let (Some(certificate), Some(key)) = (&new.tls_certificate, &new.tls_key)
        {
            let named = CertificateFiles { certificate: certificate.clone(), key: key.clone() };
            if identity.reload(&named)? || named != *files {
                *files = named;
                taken.changed.push("[stun] tls_certificate, tls_key");
            }
        }
        taken.changed.extend(self.policy.differences(&policy));
        if policy != self.policy {
            if !express::is_plain(&policy) && self.express.close() {
                tracing::info!("no request is answered in the driver any more, until a restart");
            }
            self.live.exchange(policy.conditions());
            self.policy = policy;
        }
        Ok(taken)
    }
}

/// What is read once, when the server starts.
fn needs_restart(running: &Stun, new: &Stun) -> Vec<&'static str> {
    let differences = [
        ("[stun] listen", running.listen != new.listen),
        ("[stun] alternate", running.alternate != new.alternate),
        ("[stun] public", running.public != new.public),
        ("[stun] mode", running.mode != new.mode),
        ("[stun] partner_key", running.partner_key != new.partner_key),
        ("[stun] tls_listen", running.tls_listen != new.tls_listen),
        ("[stun] dtls_listen", running.dtls_listen != new.dtls_listen),
        ("[stun] probes", running.probes != new.probes),
        ("[stun] xdp", running.xdp != new.xdp),
        ("[stun] shards", running.shards != new.shards),
        ("[stun] replies_per_second", running.replies_per_second != new.replies_per_second),
    ];
    differences.into_iter().filter(|(_, differ)| *differ).map(|(key, _)| key).collect()
}

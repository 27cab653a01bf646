//! Carries out what the machine wants sent in peers' names.
//!
//! Only the machine decides what that is. Without configuration there is no forger, and without the
//! privilege none either: the machine is told to forge nothing, and says so to peers that ask.

use ntcp_proto::rendezvous::{Config, Forging};
#[cfg(target_os = "linux")]
use ntcp_raw::injector::Injector;

/// Sends raw packets, if it may.
#[derive(Debug)]
pub(crate) struct Forger {
    #[cfg(target_os = "linux")]
    injector: Option<Injector>,
}

impl Forger {
    /// Opens raw sockets if forging is configured. They stay usable after the privilege is given up.
    #[cfg(target_os = "linux")]
    pub(crate) fn open(config: &Config) -> Self {
        if config.forging == Forging::Off {
            return Self { injector: None };
        }
        match Injector::open() {
            Ok(injector) => {
                tracing::info!("SYN-ACKs are forged for peers that both ask");
                Self { injector: Some(injector) }
            }
            Err(error) => {
                tracing::warn!(%error, "[spoof] needs CAP_NET_RAW: nothing is forged");
                Self { injector: None }
            }
        }
    }

    /// Elsewhere than on Linux nothing is forged.
    #[cfg(not(target_os = "linux"))]
    pub(crate) fn open(config: &Config) -> Self {
        if config.forging != Forging::Off {
            tracing::warn!("[spoof] works on Linux only: nothing is forged");
        }
        Self {}
    }

    /// Turns forging off in `config` if there is nothing to do it with.
    pub(crate) fn restrain(&self, config: &mut Config) {
        #[cfg(target_os = "linux")]
        let able = self.injector.is_some();
        #[cfg(not(target_os = "linux"))]
        let able = false;
        if !able {
            config.forging = Forging::Off;
        }
    }

    /// Sends one packet, now or never: the machine repeats what matters.
    #[cfg(target_os = "linux")]
    pub(crate) fn send(&self, packet: Option<Vec<u8>>) {
        if let (Some(injector), Some(packet)) = (&self.injector, packet)
            && let Err(error) = injector.try_send(&packet)
        {
            tracing::debug!(%error, "a forged packet was not sent");
        }
    }

    /// There is nothing to send with.
    #[cfg(not(target_os = "linux"))]
    pub(crate) fn send(&self, _packet: Option<Vec<u8>>) {}
}

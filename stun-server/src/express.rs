//! [`Express`]: plain requests answered in the network driver ([`ntcp_raw::xdp`]), where that is wished for and possible.
//!
//! Only what every server with one address answers alike is answered there: a Binding request without attributes over IPv4,
//! by a server that asks nobody for credentials and has nothing of its own to say. Whatever else there is goes to the
//! sockets, and so does everything where a program cannot be attached: the server then says why, and goes on.

use crate::options::Options;
use crate::policy::Policy;
use ntcp_stun::server::{Amplification, BudgetLimits, Network};
use std::net::{SocketAddr, SocketAddrV4};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

#[cfg(target_os = "linux")]
use ntcp_raw::xdp::{Bucket, Responder, Terms};

/// The programs that are attached.
#[derive(Debug, Default)]
pub(crate) struct Express {
    #[cfg(target_os = "linux")]
    responders: Mutex<Vec<Responder>>,
    #[cfg(not(target_os = "linux"))]
    responders: Mutex<Vec<()>>,
    /// What those have answered that are no longer attached.
    past: AtomicU64,
}

impl Express {
    /// Attaches a program to each interface that `options` name. `near` are the networks that this host is on.
    pub(crate) fn open(options: &Options, addresses: &[SocketAddr], near: &[Network]) -> Self {
        let express = Self::default();
        if options.xdp.is_empty() {
            return express;
        }
        match address(options, addresses) {
            Ok(address) => {
                for interface in &options.xdp {
                    express.attach(interface, address, options.budget, near);
                }
            }
            Err(why) => tracing::warn!("no request is answered in the driver: {why}"),
        }
        express
    }

    #[cfg(target_os = "linux")]
    fn attach(
        &self,
        interface: &str,
        address: SocketAddrV4,
        budget: Option<BudgetLimits>,
        near: &[Network],
    ) {
        let near = near.iter().find_map(|it| match it.ip {
            std::net::IpAddr::V4(ip) if it.contains((*address.ip()).into()) => {
                Some((ip, it.prefix))
            }
            _ => None,
        });
        let limits = budget.unwrap_or_default();
        let bucket = |it: BudgetLimits| Bucket {
            per_second: it.network.per_second,
            burst: it.network.burst,
        };
        let neighbours = near.map(|(ip, prefix)| (ip, prefix, limits.neighbours.burst));
        let [key, _] = crate::run::random_keys();
        let terms = Terms { address, budget: budget.map(bucket), neighbours, key: key as u32 };
        match Responder::attach(interface, &terms) {
            Ok(responder) => {
                tracing::info!(interface, %address, "plain requests are answered in the driver");
                self.lock().push(responder);
            }
            Err(error) => tracing::warn!(
                interface,
                %error,
                "no request is answered in the driver: it needs CAP_BPF and CAP_NET_ADMIN, Linux 5.9, and a driver with XDP that has no other program; the sockets answer"
            ),
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn attach(&self, interface: &str, _: SocketAddrV4, _: Option<BudgetLimits>, _: &[Network]) {
        tracing::warn!(interface, "no request is answered in the driver: that is Linux' own");
    }

    /// Requests that were answered there.
    pub(crate) fn answered(&self) -> u64 {
        let past = self.past.load(Ordering::Relaxed);
        #[cfg(target_os = "linux")]
        let past = past + self.lock().iter().map(Responder::answered).sum::<u64>();
        past
    }

    /// Leaves everything to the sockets from now on; whether that is new.
    pub(crate) fn close(&self) -> bool {
        let answered = self.answered();
        self.past.store(answered, Ordering::Relaxed);
        let responders = std::mem::take(&mut *self.lock());
        !responders.is_empty()
    }

    #[cfg(target_os = "linux")]
    fn lock(&self) -> MutexGuard<'_, Vec<Responder>> {
        self.responders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(not(target_os = "linux"))]
    fn lock(&self) -> MutexGuard<'_, Vec<()>> {
        self.responders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The address whose plain requests can be answered in the driver, or why there is none.
fn address(options: &Options, addresses: &[SocketAddr]) -> Result<SocketAddrV4, &'static str> {
    if !options.alternate.is_empty() {
        return Err("a server with an alternate address tells it in every answer");
    }
    if !is_plain(&options.policy) {
        return Err("answers depend on credentials, redirect, software or amplification");
    }
    let concrete = addresses.iter().find_map(|it| match it {
        SocketAddr::V4(it) if !it.ip().is_unspecified() => Some(*it),
        _ => None,
    });
    concrete.ok_or("a concrete IPv4 address is needed in [stun] listen")
}

/// Whether everybody gets the same short answer.
pub(crate) fn is_plain(policy: &Policy) -> bool {
    let Policy { credentials, redirect, software, trusts_response_port: _, amplification } = policy;
    *credentials == crate::policy::Credentials::Open
        && redirect.is_none()
        && software.is_none()
        && *amplification != Amplification::None
}

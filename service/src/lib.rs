//! What a server program needs around its protocol.
//!
//! Both servers live alike; only what they serve differs:
//!
//! ```text
//!   configuration ─▶ Log ─▶ descriptors ─▶ Opening ─▶ Confinement ─▶ Supervisor ─▶ serve ─▶ drain ─▶ gone
//!        │ --check: end                    sockets,    user, capa-    READY=1        │         │
//!                                          inherited   bilities,      metrics,       │         └ STOPPING=1
//!                                          or own      landlock       watchdog       └ SIGHUP: reload
//! ```
//!
//! * [`bind`] opens sockets, or takes them over from systemd, and says what to do where that fails;
//! * [`confine`] gives up what the process may do beyond that, before its first thread starts;
//! * [`Supervisor`] is one thread beside the serving one: signals, systemd, metrics and health over HTTP;
//! * [`log`] writes text or JSON from a thread of its own, its level changes while it runs; [`Rarely`] keeps a warning from flooding it;
//! * [`metrics`] are numbers with a name, in the text format of Prometheus.
//!
//! What this room does *not* do: it knows nothing of STUN or of the broker. What it shows it asks a [`Subject`].
#![forbid(unsafe_code)]

pub mod bind;
mod complaint;
pub mod confine;
pub mod descriptors;
mod http;
pub mod log;
pub mod metrics;
mod notify;
mod rarely;
mod reload;
mod scribe;
mod signals;
mod supervisor;

pub use complaint::{complain, told_once};
pub use http::metrics_listener;
pub use rarely::Rarely;
pub use reload::Reload;
pub use supervisor::{Subject, Supervisor, View};

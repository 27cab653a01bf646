//! The server in a thread of the test, asked by clients of our own and of others.

mod conformance;
#[cfg(feature = "dtls")]
mod dtls;
mod express;
mod partner;
mod probes;
mod several_ips;
mod strangers;
mod support;
mod tcp;
mod tls;
mod udp;

//! The server as its clients meet it, on real sockets.

mod client;
mod lifecycle;
mod other_clients;
mod program;
mod several_ips;
mod tcp;
mod udp;

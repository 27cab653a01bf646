//! Techniques of ordinary sockets.

use std::time::Duration;

use ntcp_proto::{Hops, SocketId};

use crate::probe::Told;
use crate::town::{LOCAL_A, LOCAL_B, Town, ms};

/// Connects again at once so often.
const RETRIES: u32 = 300;
/// Nothing that works takes longer.
pub(super) const PATIENCE: Duration = Duration::from_secs(4);
/// The sender's whole TTL, and the least that is heard: what a box near the host invents starts with
/// 64 and stays below.
const SHIELD: Hops = Hops { ttl: Some(255), least: Some(100) };
/// Until a SYN of low TTL has died and the news of it has come back.
pub(super) const OPENING: Duration = ms(60);

/// ```text
/// a ── SYN ──▶ ◀── SYN ── b
/// a ◀─ SYN-ACK ── ── SYN-ACK ─▶ b
/// ```
pub(super) fn simultaneous_open(town: &mut Town, skew: Duration) -> Option<Duration> {
    let (a, b) = (town.tcp_mapping(town.a, LOCAL_A), town.tcp_mapping(town.b, LOCAL_B));
    let start = town.world.clock();
    town.a.retry(&mut town.world, RETRIES);
    town.b.retry(&mut town.world, RETRIES);
    let from_a = town.a.connect(&mut town.world, LOCAL_A, b);
    town.world.advance(skew);
    let from_b = town.b.connect(&mut town.world, LOCAL_B, a);
    town.verdict(start, [from_a, from_b])
}

/// ```text
/// a ── SYN(low) ──▶ ×            the news of it is too short-lived to be heard
/// a ◀──────────────── SYN ── b
/// a ── SYN-ACK ─────────────▶ b  with the number of the SYN that died
/// ```
pub(super) fn shielded_opener(town: &mut Town, skew: Duration) -> Option<Duration> {
    let (a, b) = (town.tcp_mapping(town.a, LOCAL_A), town.tcp_mapping(town.b, LOCAL_B));
    let start = town.world.clock();
    let low = Hops { ttl: Some(town.low_ttl(0)), ..SHIELD };
    let opener = town.a.connect_with(&mut town.world, LOCAL_A, b, low);
    town.world.advance(OPENING);
    town.a.adjust(&mut town.world, opener, SHIELD);
    town.world.advance(skew);
    let dialer = town.b.connect_with(&mut town.world, LOCAL_B, a, SHIELD);
    town.verdict(start, [opener, dialer])
}

/// ```text
/// a ── SYN(low) ──▶ ×   close, listen
/// a ◀──────────────── SYN ── b
/// a ── SYN-ACK ─────────────▶ b  with another number than the SYN's
/// ```
pub(super) fn connect_close_listen(town: &mut Town, skew: Duration) -> Option<Duration> {
    let (a, b) = (town.tcp_mapping(town.a, LOCAL_A), town.tcp_mapping(town.b, LOCAL_B));
    let start = town.world.clock();
    let low = Some(town.low_ttl(0));
    let opener = town.a.connect_ttl(&mut town.world, LOCAL_A, b, low);
    town.world.advance(OPENING);
    town.a.close(&mut town.world, opener);
    town.a.listen(&mut town.world, LOCAL_A);
    town.world.advance(skew);
    let dialer = town.b.connect(&mut town.world, LOCAL_B, a);
    let handle = town.b;
    let dialed = town.world.advance_until(PATIENCE, |world| {
        handle.outcome(world, dialer).is_some_and(|(_, result)| result.is_ok())
    });
    let connected = town.world.clock() - start;
    town.world.advance(ms(50));
    let told = town.a.told(&mut town.world).into_iter().rev();
    let accepted: SocketId = told.into_iter().find_map(|told| match told {
        Told::Accepted { socket, .. } => Some(socket),
        _ => None,
    })?;
    (dialed && town.hear_each_other([accepted, dialer])).then_some(connected)
}

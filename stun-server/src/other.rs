//! [`Other`]: whether the other host, in whose name this one sends, answers itself.
//!
//! In mode `forged` the alternate addresses are another host's. A client that wants to learn how its NAT maps asks there
//! too, so OTHER-ADDRESS names them only while somebody answers on both ports, and not where the network is known to drop
//! packets with forged sources: then silence would look like a NAT that filters.
//!
//! In mode `partner` they are another host's too, which answers itself: as long as it does, in time and on both ports
//! ([`crate::partner`]), it is told of.

use crate::partner::{Partner, Partners};
use crate::spoof_check::{self, Forged, transaction_id};
use async_io::{Async, Timer};
use futures::FutureExt;
use futures::select_biased;
use ntcp_stun::server::{Quartet, Server};
use ntcp_stun::{Class, Message, Method, Writer};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Between two looks.
const BETWEEN: Duration = Duration::from_secs(15);
/// Proofs that the network lets forged sources out are sought each quarter of an hour.
const ROUNDS_BETWEEN_PROOFS: u32 = 60;
/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_millis(700);
/// Requests to each address until it counts as down.
const ATTEMPTS: usize = 3;

/// Whether OTHER-ADDRESS is to be withheld, as all shards see it.
#[derive(Clone, Debug)]
pub(crate) enum Other {
    /// It is this host's own, and never is.
    Own,
    /// It is another host's, in whose name this one sends.
    Forged(Arc<Known>),
    /// It is another host's, which sends itself.
    Partner(Partners),
}

/// What is known of the host in whose name this one sends.
#[derive(Debug)]
pub(crate) struct Known {
    is_withheld: AtomicBool,
    provers: Vec<(SocketAddr, Arc<UdpSocket>)>,
}

impl Other {
    /// `provers`: addresses of the other host, and senders in its neighbour's name.
    pub(crate) fn forged(provers: Vec<(SocketAddr, UdpSocket)>) -> Self {
        let provers = provers.into_iter().map(|(address, sender)| (address, Arc::new(sender)));
        let provers = provers.collect();
        Self::Forged(Arc::new(Known { is_withheld: AtomicBool::new(true), provers }))
    }

    /// The partners whom requests are forwarded to.
    pub(crate) fn partners(&self) -> &[Partner] {
        match self {
            Self::Partner(partners) => partners,
            Self::Own | Self::Forged(_) => &[],
        }
    }

    /// Has a server know what is known.
    pub(crate) fn tell(&self, server: &mut Server) {
        match self {
            Self::Own => {}
            Self::Forged(known) => {
                server.withhold_other_address(known.is_withheld.load(Ordering::Relaxed));
            }
            Self::Partner(partners) => {
                server.withhold_other_address(!partners.iter().all(Partner::is_up));
            }
        }
    }

    /// Looks from time to time, for as long as the future is kept, whether both alternate addresses of all `quartets`
    /// answer.
    pub(crate) async fn watch(&self, quartets: &[Quartet]) {
        match self {
            Self::Own => std::future::pending().await,
            Self::Forged(known) => known.watch(quartets).await,
            Self::Partner(partners) => {
                futures::future::join_all(partners.iter().map(Partner::watch)).await;
            }
        }
    }
}

impl Known {
    async fn watch(&self, quartets: &[Quartet]) {
        let (mut said, mut rounds, mut are_lost) = (None, 0_u32, false);
        loop {
            let mut answers = true;
            for address in quartets.iter().flat_map(|it| it.addresses().into_iter().skip(2)) {
                answers &= does_answer(address).await;
            }
            if said != Some(answers) {
                said = Some(answers);
                tell(answers);
            }
            if rounds.is_multiple_of(ROUNDS_BETWEEN_PROOFS) {
                are_lost = false;
                for (address, sender) in &self.provers {
                    are_lost |= prove(*address, Arc::clone(sender)).await;
                }
            }
            self.is_withheld.store(!answers || are_lost, Ordering::Relaxed);
            rounds = rounds.wrapping_add(1);
            Timer::after(BETWEEN).await;
        }
    }
}

fn tell(answers: bool) {
    if answers {
        tracing::info!("the alternate host answers: clients are told of it");
    } else {
        tracing::warn!(
            "the alternate host does not answer STUN on both ports: clients are not told of it, so they learn how their NAT filters but not how it maps"
        );
    }
}

/// Finds out, on a thread of its own, whether a packet with a forged source gets to the other host, and says so; whether it
/// is known to be lost.
async fn prove(address: SocketAddr, sender: Arc<UdpSocket>) -> bool {
    let (told, heard) = futures::channel::oneshot::channel();
    std::thread::spawn(move || {
        // Nobody hears it any more when the server has stopped.
        let _ = told.send(spoof_check::prove(address, &sender));
    });
    let Ok(outcome) = heard.await else { return false };
    match outcome {
        Ok(Forged::Arrived(_)) => {
            tracing::info!("forged sources leave this network");
            return false;
        }
        Ok(Forged::Lost) => tracing::warn!(
            "forged sources do not leave this network: clients are not told of the alternate host, since what they learned would be wrong"
        ),
        Ok(Forged::NotSent(error)) | Err(error) => {
            tracing::warn!(
                %error,
                "it cannot be told whether forged sources leave this network: the alternate host must run ntcp-stun-server for that"
            );
            return false;
        }
    }
    true
}

/// Whether a STUN server answers there.
pub(crate) async fn does_answer(address: SocketAddr) -> bool {
    for _ in 0..ATTEMPTS {
        match ask(address).await {
            Ok(true) => return true,
            Ok(false) => {}
            Err(error) => tracing::debug!(%address, %error, "the alternate host cannot be asked"),
        }
    }
    false
}

async fn ask(address: SocketAddr) -> io::Result<bool> {
    let any: IpAddr = match address {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = Async::<UdpSocket>::bind((any, 0))?;
    socket.get_ref().connect(address)?;
    let (id, mut buffer) = (transaction_id(), [0; 1500]);
    let request = Writer::new(&mut buffer, Class::Request, Method::BINDING, id);
    let length = request.map(Writer::finish).map_err(io::Error::other)?;
    socket.send(&buffer[..length]).await?;
    let mut over = FutureExt::fuse(Timer::after(PATIENCE));
    loop {
        let received = select_biased! {
            received = socket.recv(&mut buffer).fuse() => received?,
            _ = over => return Ok(false),
        };
        let message = Message::parse(&buffer[..received]);
        if message.is_ok_and(|it| it.class() == Class::Success && it.transaction_id() == id) {
            return Ok(true);
        }
    }
}

//! [`Other`]: whether the other host, in whose name this one sends, answers itself.
//!
//! In mode `forged` the alternate addresses are another host's. A client that wants to learn how its NAT maps asks there
//! too, so OTHER-ADDRESS names them only while somebody answers on both ports.

use crate::spoof_check::transaction_id;
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
/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_millis(700);
/// Requests to each address until it counts as down.
const ATTEMPTS: usize = 3;

/// Whether OTHER-ADDRESS is to be withheld, as all shards see it; nothing where it is this host's own.
#[derive(Clone, Debug)]
pub(crate) struct Other(Option<Arc<AtomicBool>>);

impl Other {
    pub(crate) fn new(is_another_host: bool) -> Self {
        Self(is_another_host.then(|| Arc::new(AtomicBool::new(true))))
    }

    /// Has a server know what is known.
    pub(crate) fn tell(&self, server: &mut Server) {
        if let Some(is_withheld) = &self.0 {
            server.withhold_other_address(is_withheld.load(Ordering::Relaxed));
        }
    }

    /// Looks from time to time, for as long as the future is kept, whether both alternate addresses of all `quartets`
    /// answer.
    pub(crate) async fn watch(&self, quartets: &[Quartet]) {
        let mut said = None;
        while let Some(is_withheld) = &self.0 {
            let mut answers = true;
            for address in quartets.iter().flat_map(|it| it.addresses().into_iter().skip(2)) {
                answers &= does_answer(address).await;
            }
            is_withheld.store(!answers, Ordering::Relaxed);
            if said != Some(answers) {
                said = Some(answers);
                tell(answers);
            }
            Timer::after(BETWEEN).await;
        }
        std::future::pending::<()>().await;
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

/// Whether a STUN server answers there.
async fn does_answer(address: SocketAddr) -> bool {
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

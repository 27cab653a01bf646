//! Two peers meet without a broker: each tells the other its offer by any means that the application
//! has; here, by variables of one process. `cargo run --example by_hand`.
//!
//! The broker in it only answers STUN, so that the example needs nothing else.

use futures::{AsyncReadExt, AsyncWriteExt};
use ntcp::puncher::{Meeting, Offer, Puncher, Role};
use ntcp::{Config, Error, TransportChoice};
use ntcp_broker::{Broker, Options};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    async_io::block_on(async {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let server =
            Broker::bind(&Options { udp: vec![any], tcp: vec![any], ..Options::default() })?;
        let mut config = Config::default();
        config.stun.servers = vec![server.udp_addresses()[0].into()];
        let (stop, stopped) = futures::channel::oneshot::channel::<()>();
        let stopped = async move {
            // It ends when `stop` is dropped.
            let _ = stopped.await;
        };
        let meet = async move {
            let met = meet(&config).await;
            drop(stop);
            met
        };
        Ok(futures::join!(server.run(stopped), meet).1?)
    })
}

async fn meet(config: &Config) -> Result<(), Error> {
    let (alice, bob) = futures::try_join!(Puncher::open(config), Puncher::open(config))?;
    // These two lines would travel by mail, by chat, or as a picture to be scanned.
    let (from_alice, from_bob) = (alice.offer().clone(), bob.offer().clone());
    println!("alice: {from_alice}\nbob:   {from_bob}");
    let secret = [42; 32]; // In life: 32 random bytes, told only to each other.
    let talk = async |puncher: Puncher, offer: Offer, role| -> Result<String, Error> {
        let (start, patience) = (Instant::now(), Duration::from_secs(10));
        let meeting = Meeting { secret, role, transport: TransportChoice::Any, start, patience };
        let mut connection = puncher.meet(&offer, meeting).await?;
        let mut heard = String::new();
        let talk = async {
            connection.write_all(format!("I am {role:?}").as_bytes()).await?;
            connection.close().await?;
            connection.read_to_string(&mut heard).await
        };
        match talk.await {
            Ok(_) => Ok(format!("{heard}, over {:?}", connection.transport())),
            Err(error) => Ok(format!("the path broke: {error}")),
        }
    };
    let (alice, bob) = futures::try_join!(
        talk(alice, from_bob, Role::Controlling),
        talk(bob, from_alice, Role::Controlled)
    )?;
    println!("alice heard: {alice}\nbob heard:   {bob}");
    Ok(())
}

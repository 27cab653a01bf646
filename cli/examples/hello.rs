//! Two nodes meet through a broker and say hello, all in one process: `cargo run --example hello`.
//!
//! The broker is here only so that the example needs nothing else. In life it runs on a machine that
//! both can reach, and only `Config` names it.

use futures::{AsyncReadExt, AsyncWriteExt, StreamExt};
use ntcp::{Config, Node};
use ntcp_broker::{Broker, Options};
use std::error::Error;
use std::net::{Ipv4Addr, SocketAddr};

fn main() -> Result<(), Box<dyn Error>> {
    async_io::block_on(async {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let broker =
            Broker::bind(&Options { udp: vec![any], tcp: vec![any], ..Options::default() })?;
        let mut config = Config::default();
        config.hole_punch.broker = Some(broker.udp_addresses()[0].into());
        config.tcp.broker = Some(broker.tcp_addresses()[0].into());
        // The broker answers STUN, too; a real node asks servers that are elsewhere.
        config.stun.servers = vec![broker.udp_addresses()[0].into()];

        let (stop, stopped) = futures::channel::oneshot::channel::<()>();
        let stopped = async move {
            // It ends when `stop` is dropped.
            let _ = stopped.await;
        };
        let meet = async move {
            let met = futures::try_join!(listen(config.clone()), call(config)).map(drop);
            drop(stop);
            met
        };
        futures::join!(broker.run(stopped), meet).1
    })
}

/// Bob answers whoever calls.
async fn listen(config: Config) -> Result<(), Box<dyn Error>> {
    let node = Node::builder().config(config).name("bob").start().await?;
    let mut connection = node.incoming().next().await.ok_or("the node has stopped")?;
    let mut question = String::new();
    connection.read_to_string(&mut question).await?;
    connection.write_all(format!("You said: {question}").as_bytes()).await?;
    connection.close().await?;
    Ok(())
}

/// Alice calls bob by his URI.
async fn call(config: Config) -> Result<(), Box<dyn Error>> {
    let node = Node::builder().config(config).name("alice").start().await?;
    let mut connection = node.connect_by_uri("ntcp://bob").await?;
    connection.write_all(b"Hello!").await?;
    connection.close().await?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await?;
    println!("{answer}");
    println!("over {:?}, {:?}", connection.transport(), connection.strategy());
    Ok(())
}

//! A STUN server on four addresses inside a laboratory, run by this process.

use std::cell::RefCell;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread::JoinHandle;

use async_io::Async;
use futures::channel::oneshot;
use futures::stream::{FuturesUnordered, StreamExt};
use futures::{AsyncReadExt, AsyncWriteExt, FutureExt, select};
use ntcp_lab::kernel::{Lab, SERVER_ADDRESSES};
use ntcp_stun::server::{Quartet, Request, Server as Stun, Transport};

/// Length of a STUN header (RFC 8489 section 5).
const HEADER: usize = 20;

/// Serves until it is dropped.
pub(crate) struct Server {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

struct Sockets {
    udp: Vec<(SocketAddr, Async<UdpSocket>)>,
    tcp: Vec<Async<TcpListener>>,
    stun: RefCell<Stun>,
}

impl Server {
    /// Where it is asked.
    pub(crate) fn address() -> SocketAddr {
        SocketAddr::new(SERVER_ADDRESSES[0].into(), 3478)
    }

    pub(crate) fn start(lab: &Lab) -> Self {
        let other = SocketAddr::new(SERVER_ADDRESSES[1].into(), 3479);
        let mut stun = Stun::new();
        stun.add_quartet(Quartet::new(Self::address(), other).unwrap());
        let grid = [3478, 3479].map(|port| SERVER_ADDRESSES[..2].iter().map(move |ip| (*ip, port)));
        let grid: Vec<(Ipv4Addr, u16)> = grid.into_iter().flatten().collect();
        let udp = |it: &(Ipv4Addr, u16)| {
            let socket = lab.udp_socket("server", *it).unwrap();
            (SocketAddr::from(*it), Async::new(socket).unwrap())
        };
        let tcp = |it: &(Ipv4Addr, u16)| Async::new(lab.tcp_listener("server", *it).unwrap());
        let sockets = Sockets {
            udp: grid.iter().map(udp).collect(),
            tcp: grid.iter().map(|it| tcp(it).unwrap()).collect(),
            stun: RefCell::new(stun),
        };
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn(move || async_io::block_on(sockets.run(stopped)));
        Self { stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the server does not panic");
        }
    }
}

impl Sockets {
    async fn run(self, stopped: oneshot::Receiver<()>) {
        let udp: FuturesUnordered<_> =
            (0..self.udp.len()).map(|index| self.serve_datagrams(index)).collect();
        let tcp: FuturesUnordered<_> = self.tcp.iter().map(|it| self.serve_streams(it)).collect();
        select! {
            _ = stopped.fuse() => {}
            error = udp.into_future().fuse() => panic!("UDP: {:?}", error.0),
            error = tcp.into_future().fuse() => panic!("TCP: {:?}", error.0),
        }
    }

    async fn serve_datagrams(&self, index: usize) -> io::Error {
        let (local, socket) = &self.udp[index];
        let mut bytes = [0; 2048];
        loop {
            let (length, source) = match socket.recv_from(&mut bytes).await {
                Ok(received) => received,
                Err(error) => return error,
            };
            let request = Request {
                bytes: &bytes[..length],
                source,
                local: *local,
                transport: Transport::Udp,
            };
            let mut reply = [0; 2048];
            let Ok(answer) = self.stun.borrow_mut().handle_request(request, &mut reply) else {
                continue;
            };
            let from = self.udp.iter().find(|it| it.0 == answer.from).expect("one of the four");
            // A client that has gone is no concern of a server.
            let _ = from.1.send_to(&reply[..answer.length], answer.to).await;
        }
    }

    async fn serve_streams(&self, listener: &Async<TcpListener>) -> io::Error {
        let mut streams = FuturesUnordered::new();
        loop {
            select! {
                accepted = listener.accept().fuse() => match accepted {
                    Ok((stream, source)) => streams.push(self.serve_stream(stream, source)),
                    Err(error) => return error,
                },
                _ = streams.select_next_some() => {}
            }
        }
    }

    /// Until the client closes.
    async fn serve_stream(
        &self,
        mut stream: Async<TcpStream>,
        source: SocketAddr,
    ) -> io::Result<()> {
        let local = stream.get_ref().local_addr()?;
        loop {
            let mut bytes = vec![0; HEADER];
            stream.read_exact(&mut bytes).await?;
            bytes.resize(HEADER + usize::from(u16::from_be_bytes([bytes[2], bytes[3]])), 0);
            stream.read_exact(&mut bytes[HEADER..]).await?;
            let request = Request { bytes: &bytes, source, local, transport: Transport::Tcp };
            let mut reply = [0; 2048];
            let answer = self.stun.borrow_mut().handle_request(request, &mut reply);
            let Ok(answer) = answer else { return Ok(()) };
            stream.write_all(&reply[..answer.length]).await?;
        }
    }
}

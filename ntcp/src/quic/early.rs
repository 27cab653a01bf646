//! Datagrams that came to the shared socket before the path's own socket took over.
//!
//! The caller's first QUIC datagram follows its nomination closely, and may reach the callee in the
//! moment in which the path's socket is being opened. Lost, it would cost QUIC's first
//! retransmission, three round trips; so QUIC finds it here, in front of what its socket receives.

use std::collections::VecDeque;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use futures::task::AtomicWaker;
use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};

use crate::node::lock;

/// Most datagrams that wait; a further one is lost, as in any full queue on the path.
const MAX_WAITING: usize = 256;

/// What came early from one peer.
#[derive(Debug)]
pub(crate) struct EarlyDatagrams {
    remote: SocketAddr,
    waiting: Mutex<VecDeque<Vec<u8>>>,
    reader: AtomicWaker,
    retired: AtomicBool,
}

impl EarlyDatagrams {
    /// None yet, from `remote`.
    pub(crate) fn new(remote: SocketAddr) -> Arc<Self> {
        Arc::new(Self {
            remote,
            waiting: Mutex::default(),
            reader: AtomicWaker::new(),
            retired: AtomicBool::new(false),
        })
    }

    /// One more.
    pub(crate) fn push(&self, datagram: Vec<u8>) {
        let mut waiting = lock(&self.waiting);
        if waiting.len() == MAX_WAITING {
            return;
        }
        waiting.push_back(datagram);
        drop(waiting);
        self.reader.wake();
    }

    /// The application takes the socket: QUIC must not read what is meant for it any more.
    pub(crate) fn retire(&self) {
        self.retired.store(true, Ordering::Release);
    }

    /// A socket that receives these first, and then what `socket` does.
    pub(super) fn before(
        self: Arc<Self>,
        socket: Arc<dyn AsyncUdpSocket>,
    ) -> Arc<dyn AsyncUdpSocket> {
        Arc::new(Joined { early: self, socket })
    }

    fn take(&self, buffer: &mut [u8]) -> Option<RecvMeta> {
        let datagram = lock(&self.waiting).pop_front()?;
        let length = datagram.len().min(buffer.len());
        buffer[..length].copy_from_slice(&datagram[..length]);
        Some(RecvMeta { addr: self.remote, len: length, stride: length, ..RecvMeta::default() })
    }
}

#[derive(Debug)]
struct Joined {
    early: Arc<EarlyDatagrams>,
    socket: Arc<dyn AsyncUdpSocket>,
}

impl AsyncUdpSocket for Joined {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        self.socket.clone().create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.socket.try_send(transmit)
    }

    fn poll_recv(
        &self,
        context: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        self.early.reader.register(context.waker());
        if self.early.retired.load(Ordering::Acquire) {
            return Poll::Pending;
        }
        if let (Some(buffer), Some(first)) = (buffers.first_mut(), meta.first_mut())
            && let Some(taken) = self.early.take(buffer)
        {
            *first = taken;
            return Poll::Ready(Ok(1));
        }
        self.socket.poll_recv(context, buffers, meta)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.socket.max_transmit_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.socket.max_receive_segments()
    }

    fn may_fragment(&self) -> bool {
        self.socket.may_fragment()
    }
}

//! What takes privileges: feature `raw`, on Linux. Anywhere else it is not permitted.

#[cfg(all(feature = "raw", target_os = "linux"))]
pub(crate) use with::{Capture, Powers, may_forge};
#[cfg(not(all(feature = "raw", target_os = "linux")))]
pub(crate) use without::{Capture, Powers, may_forge};

#[cfg(all(feature = "raw", target_os = "linux"))]
mod with {
    use std::future::Future;
    use std::io;
    use std::net::SocketAddr;
    use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
    use std::sync::{Arc, OnceLock};

    use ntcp_proto::command::Agreed;
    use ntcp_proto::segment::Segment;
    use ntcp_raw::injector::Injector;
    use ntcp_raw::privileged::{self, Departure, Privileged};
    use ntcp_raw::sniffer::Sniffer;

    /// What this process may do; found out when it is first asked for.
    #[derive(Debug, Default, Clone)]
    pub(crate) struct Powers {
        shared: Arc<OnceLock<Arc<privileged::Powers>>>,
        /// For packets in other hosts' names.
        injector: Arc<OnceLock<Injector>>,
    }

    impl Powers {
        /// Those of this process, found out beforehand and elsewhere: it may take starting the
        /// helper, which then stays for as long as this value.
        pub(crate) async fn found() -> Self {
            let powers = Self::default();
            let found = powers.clone();
            blocking::unblock(move || {
                found.acquired();
            })
            .await;
            powers
        }

        fn acquired(&self) -> &privileged::Powers {
            self.shared.get_or_init(privileged::Powers::shared)
        }

        pub(crate) fn pin_sequence(&self, socket: BorrowedFd<'_>, sequence: u32) -> io::Result<()> {
            self.acquired().pin_sequence(socket, sequence)
        }

        pub(crate) fn assume(
            &self,
            socket: BorrowedFd<'_>,
            remote: SocketAddr,
            agreed: &Agreed,
        ) -> io::Result<()> {
            self.acquired().assume(socket, remote, agreed, Departure::Probe)
        }

        /// Opens a capture, not on this thread: libpcap and a busy helper take milliseconds for it.
        pub(crate) fn capture(
            &self,
            holder: OwnedFd,
            remote: SocketAddr,
        ) -> impl Future<Output = io::Result<Capture>> + Send + use<> {
            let powers = self.clone();
            blocking::unblock(move || {
                let sniffer = powers.acquired().capture(holder.as_fd(), remote)?;
                Ok(Capture(Some(sniffer)))
            })
        }

        pub(crate) fn inject(
            &self,
            holder: BorrowedFd<'_>,
            segment: &Segment,
            ttl: u8,
        ) -> io::Result<()> {
            self.acquired().inject(holder, segment, ttl)
        }

        /// Sends a packet in another host's name. The helper never does: what it sends belongs to a
        /// socket of the one who asks.
        pub(crate) fn forge(&self, packet: &[u8]) -> io::Result<()> {
            if let Some(injector) = self.injector.get() {
                return injector.try_send(packet);
            }
            let injector = Injector::open()?;
            self.injector.get_or_init(|| injector).try_send(packet)
        }
    }

    /// Whether this process itself may send packets in other hosts' names.
    pub(crate) fn may_forge() -> bool {
        let injector = Injector::open();
        if let Err(error) = &injector {
            tracing::warn!(%error, "[spoof] offer needs CAP_NET_RAW: nothing is offered");
        }
        injector.is_ok()
    }

    /// An open capture. It is there until it is dropped.
    pub(crate) struct Capture(Option<Box<dyn Sniffer>>);

    impl Capture {
        /// Waits for the next SYN.
        pub(crate) async fn syn(&mut self) -> io::Result<Segment> {
            match &mut self.0 {
                Some(sniffer) => sniffer.syn().await.map(|captured| captured.segment),
                None => Err(io::ErrorKind::NotConnected.into()),
            }
        }
    }

    /// The system waits for all its processors before a packet socket is gone, 16 ms and more
    /// (`cargo bench -p ntcp-raw`): no loop can wait for that.
    impl Drop for Capture {
        fn drop(&mut self) {
            if let Some(sniffer) = self.0.take() {
                blocking::unblock(move || drop(sniffer)).detach();
            }
        }
    }
}

#[cfg(not(all(feature = "raw", target_os = "linux")))]
mod without {
    use std::future::{Ready, ready};
    use std::io;
    use std::net::SocketAddr;
    use std::os::fd::{BorrowedFd, OwnedFd};

    use ntcp_proto::command::Agreed;
    use ntcp_proto::segment::Segment;

    /// None.
    #[derive(Debug, Default, Clone)]
    pub(crate) struct Powers;

    fn denied<T>() -> io::Result<T> {
        Err(io::Error::from_raw_os_error(libc::EPERM))
    }

    impl Powers {
        pub(crate) async fn found() -> Self {
            Self
        }

        pub(crate) fn pin_sequence(&self, _: BorrowedFd<'_>, _: u32) -> io::Result<()> {
            denied()
        }

        pub(crate) fn assume(
            &self,
            _: BorrowedFd<'_>,
            _: SocketAddr,
            _: &Agreed,
        ) -> io::Result<()> {
            denied()
        }

        pub(crate) fn capture(&self, _: OwnedFd, _: SocketAddr) -> Ready<io::Result<Capture>> {
            ready(denied())
        }

        pub(crate) fn inject(&self, _: BorrowedFd<'_>, _: &Segment, _: u8) -> io::Result<()> {
            denied()
        }

        pub(crate) fn forge(&self, _: &[u8]) -> io::Result<()> {
            denied()
        }
    }

    /// It may not.
    pub(crate) fn may_forge() -> bool {
        tracing::warn!(
            "[spoof] offer: this program was built without raw packets, nothing is offered"
        );
        false
    }

    /// None is ever open.
    pub(crate) enum Capture {}

    impl Capture {
        pub(crate) fn syn(&mut self) -> Ready<io::Result<Segment>> {
            match *self {}
        }
    }
}

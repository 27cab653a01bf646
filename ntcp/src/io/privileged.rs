//! What takes privileges: feature `raw`, on Linux. Anywhere else it is not permitted.

#[cfg(all(feature = "raw", target_os = "linux"))]
pub(crate) use with::{Powers, may_forge};
#[cfg(not(all(feature = "raw", target_os = "linux")))]
pub(crate) use without::{Powers, may_forge};

#[cfg(all(feature = "raw", target_os = "linux"))]
mod with {
    use std::future::Future;
    use std::io;
    use std::net::SocketAddr;
    use std::os::fd::BorrowedFd;
    use std::sync::Arc;

    use ntcp_proto::command::Agreed;
    use ntcp_proto::segment::Segment;
    use ntcp_raw::injector::Injector;
    use ntcp_raw::privileged::{self, Departure, Privileged};
    use ntcp_raw::sniffer::Sniffer;

    /// What this process may do; found out when it is first asked for.
    #[derive(Debug, Default)]
    pub(crate) struct Powers {
        shared: Option<Arc<privileged::Powers>>,
        /// For packets in other hosts' names.
        injector: Option<Injector>,
    }

    impl Powers {
        fn acquired(&mut self) -> &privileged::Powers {
            self.shared.get_or_insert_with(privileged::Powers::shared)
        }

        pub(crate) fn pin_sequence(
            &mut self,
            socket: BorrowedFd<'_>,
            sequence: u32,
        ) -> io::Result<()> {
            self.acquired().pin_sequence(socket, sequence)
        }

        pub(crate) fn assume(
            &mut self,
            socket: BorrowedFd<'_>,
            remote: SocketAddr,
            agreed: &Agreed,
        ) -> io::Result<()> {
            self.acquired().assume(socket, remote, agreed, Departure::Probe)
        }

        pub(crate) fn capture(
            &mut self,
            holder: BorrowedFd<'_>,
            remote: SocketAddr,
        ) -> io::Result<impl Future<Output = io::Result<Segment>> + Send + use<>> {
            let mut sniffer: Box<dyn Sniffer> = self.acquired().capture(holder, remote)?;
            Ok(async move { sniffer.syn().await.map(|captured| captured.segment) })
        }

        pub(crate) fn inject(
            &mut self,
            holder: BorrowedFd<'_>,
            segment: &Segment,
            ttl: u8,
        ) -> io::Result<()> {
            self.acquired().inject(holder, segment, ttl)
        }

        /// Sends a packet in another host's name. The helper never does: what it sends belongs to a
        /// socket of the one who asks.
        pub(crate) fn forge(&mut self, packet: &[u8]) -> io::Result<()> {
            if self.injector.is_none() {
                self.injector = Some(Injector::open()?);
            }
            self.injector.as_ref().map_or(Ok(()), |injector| injector.try_send(packet))
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
}

#[cfg(not(all(feature = "raw", target_os = "linux")))]
mod without {
    use std::future::{Ready, ready};
    use std::io;
    use std::net::SocketAddr;
    use std::os::fd::BorrowedFd;

    use ntcp_proto::command::Agreed;
    use ntcp_proto::segment::Segment;

    /// None.
    #[derive(Debug, Default)]
    pub(crate) struct Powers;

    fn denied<T>() -> io::Result<T> {
        Err(io::Error::from_raw_os_error(libc::EPERM))
    }

    impl Powers {
        pub(crate) fn pin_sequence(&mut self, _: BorrowedFd<'_>, _: u32) -> io::Result<()> {
            denied()
        }

        pub(crate) fn assume(
            &mut self,
            _: BorrowedFd<'_>,
            _: SocketAddr,
            _: &Agreed,
        ) -> io::Result<()> {
            denied()
        }

        pub(crate) fn capture(
            &mut self,
            _: BorrowedFd<'_>,
            _: SocketAddr,
        ) -> io::Result<Ready<io::Result<Segment>>> {
            denied().map(|()| ready(denied()))
        }

        pub(crate) fn inject(&mut self, _: BorrowedFd<'_>, _: &Segment, _: u8) -> io::Result<()> {
            denied()
        }

        pub(crate) fn forge(&mut self, _: &[u8]) -> io::Result<()> {
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
}

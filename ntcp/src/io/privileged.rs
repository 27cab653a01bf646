//! What takes privileges: feature `raw`, on Linux. Anywhere else it is not permitted.

#[cfg(all(feature = "raw", target_os = "linux"))]
pub(crate) use with::Powers;
#[cfg(not(all(feature = "raw", target_os = "linux")))]
pub(crate) use without::Powers;

#[cfg(all(feature = "raw", target_os = "linux"))]
mod with {
    use std::future::Future;
    use std::io;
    use std::net::SocketAddr;
    use std::os::fd::BorrowedFd;
    use std::sync::Arc;

    use ntcp_proto::command::Agreed;
    use ntcp_proto::segment::Segment;
    use ntcp_raw::privileged::{self, Departure, Privileged};
    use ntcp_raw::sniffer::Sniffer;

    /// What this process may do; found out when it is first asked for.
    #[derive(Debug, Default)]
    pub(crate) struct Powers(Option<Arc<privileged::Powers>>);

    impl Powers {
        fn acquired(&mut self) -> &privileged::Powers {
            self.0.get_or_insert_with(privileged::Powers::shared)
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
    }
}

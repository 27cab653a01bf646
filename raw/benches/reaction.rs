//! How long it takes from a SYN's leaving to a raw copy of it, what a capture costs to open and to
//! close, and what an exchange with the helper costs: on the loopback interface of a namespace of its own, made with `unshare`.
//!
//! `cargo bench -p ntcp-raw --features pcap`

#[cfg(not(target_os = "linux"))]
fn main() {}

#[cfg(target_os = "linux")]
fn main() {
    const INSIDE: &str = "NTCP_RAW_BENCH_INSIDE";
    if std::env::var_os(INSIDE).is_some() {
        return inside::run();
    }
    let status = std::process::Command::new("unshare")
        .args(["--user", "--map-root-user", "--net", "--", "sh", "-c"])
        .arg("ip link set lo up && exec \"$0\"")
        .arg(std::env::current_exe().expect("this program"))
        .env(INSIDE, "1")
        .status()
        .expect("unshare of util-linux");
    std::process::exit(status.code().unwrap_or(1));
}

#[cfg(target_os = "linux")]
mod inside {
    use std::net::TcpListener;
    use std::os::fd::AsFd;
    use std::path::Path;
    use std::time::{Duration, Instant};

    use async_io::block_on;
    use ntcp_proto::command::Ends;
    use ntcp_raw::filter::SynFilter;
    use ntcp_raw::helper::{Allowance, Helper};
    use ntcp_raw::injector::Injector;
    use ntcp_raw::privileged::Privileged;
    use ntcp_raw::sniffer::{self, Sniffer};
    use socket2::{Domain, Socket, Type};

    /// Fewer than the helper allows at once.
    const RUNS: usize = Allowance::BURST as usize - 6;

    struct Setting {
        listener: TcpListener,
        socket: Socket,
        ends: Ends,
    }

    impl Setting {
        fn new() -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            socket.bind(&"127.0.0.1:0".parse::<std::net::SocketAddr>().unwrap().into()).unwrap();
            let local = socket.local_addr().unwrap().as_socket().unwrap();
            let ends = Ends { local, remote: listener.local_addr().unwrap() };
            Self { listener, socket, ends }
        }

        fn filter(&self) -> SynFilter {
            SynFilter::new(self.ends).unwrap()
        }

        /// From before `connect` to after the copy has been handed to the system.
        fn measure(
            self,
            mut sniffer: Box<dyn Sniffer>,
            copy: impl Fn(&Self, sniffer::Captured),
        ) -> Duration {
            let start = Instant::now();
            self.socket.connect(&self.ends.remote.into()).unwrap();
            let captured = block_on(sniffer.syn()).unwrap();
            copy(&self, captured);
            let took = start.elapsed();
            drop(self.listener);
            took
        }
    }

    /// What it takes to open a capture, and to close it.
    fn print_ends(name: &str, open: impl Fn(&Setting) -> Box<dyn Sniffer>) {
        let timed = |until_closed: bool| {
            let setting = Setting::new();
            let start = Instant::now();
            let sniffer = open(&setting);
            let opened = start.elapsed();
            drop(sniffer);
            if until_closed { start.elapsed() - opened } else { opened }
        };
        print(&format!("open a capture ({name})"), || timed(false));
        print(&format!("close a capture ({name})"), || timed(true));
    }

    fn print(name: &str, one: impl Fn() -> Duration) {
        let mut taken: Vec<Duration> = (0..RUNS).map(|_| one()).collect();
        taken.sort();
        let at = |share: usize| taken[RUNS * share / 100];
        println!("{name:<44} p50 {:>9.1?}  p95 {:>9.1?}  p99 {:>9.1?}", at(50), at(95), at(99));
    }

    pub(super) fn run() {
        print("connect alone", || {
            let setting = Setting::new();
            let start = Instant::now();
            setting.socket.connect(&setting.ends.remote.into()).unwrap();
            start.elapsed()
        });
        let injector = Injector::open().unwrap();
        let copy = |_: &Setting, captured: sniffer::Captured| {
            injector.try_send(&captured.segment.emit(captured.ttl).unwrap()).unwrap();
        };
        print("connect, capture (packet socket), inject", || {
            let setting = Setting::new();
            let sniffer = Box::new(sniffer::packet_socket(setting.filter()).unwrap());
            setting.measure(sniffer, copy)
        });
        #[cfg(feature = "pcap")]
        print("connect, capture (pcap), inject", || {
            let setting = Setting::new();
            let sniffer = Box::new(sniffer::pcap(setting.filter()).unwrap());
            setting.measure(sniffer, copy)
        });
        print_ends("packet socket", |setting| {
            Box::new(sniffer::packet_socket(setting.filter()).unwrap())
        });
        #[cfg(feature = "pcap")]
        print_ends("pcap", |setting| Box::new(sniffer::pcap(setting.filter()).unwrap()));
        let start = Instant::now();
        let helper = Helper::start(Path::new(env!("CARGO_BIN_EXE_ntcp-helper"))).unwrap();
        println!("{:<44}     {:>9.1?}", "starting the helper", start.elapsed());
        print("connect, capture, inject through the helper", || {
            let setting = Setting::new();
            let sniffer = helper.capture(setting.socket.as_fd(), setting.ends.remote).unwrap();
            setting.measure(sniffer, |setting, captured| {
                let holder = setting.socket.as_fd();
                helper.inject(holder, &captured.segment, captured.ttl).unwrap();
            })
        });
        print_ends("helper", |setting| {
            helper.capture(setting.socket.as_fd(), setting.ends.remote).unwrap()
        });
        print("pin a sequence number through the helper", || {
            let setting = Setting::new();
            let start = Instant::now();
            helper.pin_sequence(setting.socket.as_fd(), 7).unwrap();
            start.elapsed()
        });
    }
}

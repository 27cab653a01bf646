//! A server in a thread, stopped when dropped, and messages to ask it with.

use futures::channel::oneshot;
use ntcp_stun::attribute::ChangeRequest;
use ntcp_stun::{Class, Message, Method, TransactionId, Writer};
use ntcp_stun_server::{CertificateFiles, Counters, Options, Server};
use rustls::pki_types::CertificateDer;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

/// How long a test waits for what must come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) struct Running {
    pub(crate) addresses: Vec<SocketAddr>,
    pub(crate) tls: Vec<SocketAddr>,
    #[cfg_attr(not(feature = "dtls"), expect(dead_code, reason = "nobody asks it"))]
    pub(crate) dtls: Vec<SocketAddr>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<Counters>>,
}

impl Running {
    pub(crate) fn start(options: &Options) -> Self {
        let server = Server::bind(options).expect("the server binds");
        let (addresses, tls) = (server.addresses(), server.tls_addresses().to_vec());
        let dtls = server.dtls_addresses().to_vec();
        let (stop, stopped) = oneshot::channel();
        let run =
            move || async_io::block_on(server.run(async { stopped.await.unwrap_or_default() }));
        let thread = Some(std::thread::spawn(run));
        Self { addresses, tls, dtls, stop: Some(stop), thread }
    }

    /// On 127.0.0.1 alone.
    pub(crate) fn single() -> Self {
        Self::start(&options(&["127.0.0.1:0"], &[]))
    }

    /// On 127.0.0.1 and 127.0.0.2, with free ports.
    pub(crate) fn quartet() -> Self {
        Self::start(&options(&["127.0.0.1:0"], &["127.0.0.2:0"]))
    }

    /// The same, which clients know as 192.0.2.1 and 192.0.2.2.
    pub(crate) fn hidden_quartet() -> Self {
        let pairs = ["127.0.0.1=192.0.2.1", "127.0.0.2=192.0.2.2"];
        let public = pairs.map(|it| it.parse().expect("a pair")).to_vec();
        Self::start(&Options { public, ..options(&["127.0.0.1:0"], &["127.0.0.2:0"]) })
    }

    pub(crate) fn primary(&self) -> SocketAddr {
        self.addresses[0]
    }

    /// Stops it, and returns what it counted.
    pub(crate) fn stop(mut self) -> Counters {
        self.end().expect("it ran")
    }

    fn end(&mut self) -> Option<Counters> {
        self.stop.take()?.send(()).ok();
        self.thread.take()?.join().ok()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}

pub(crate) fn options(listen: &[&str], alternate: &[&str]) -> Options {
    let all = |list: &[&str]| list.iter().map(|it| it.parse().expect("an address")).collect();
    Options { listen: all(listen), alternate: all(alternate), ..Options::default() }
}

/// A Binding request whose transaction id is all `id`.
pub(crate) fn request(id: u8, change: Option<ChangeRequest>) -> Vec<u8> {
    let mut buffer = vec![0; 28];
    let id = TransactionId::new([id; 12]);
    let mut writer = Writer::new(&mut buffer, Class::Request, Method::BINDING, id).expect("room");
    if let Some(change) = change {
        writer.attribute(&change).expect("room");
    }
    let length = writer.finish();
    buffer.truncate(length);
    buffer
}

/// A client socket at this address with a free port.
pub(crate) fn client(ip: &str) -> UdpSocket {
    let ip: std::net::IpAddr = ip.parse().expect("an IP address");
    let socket = UdpSocket::bind((ip, 0)).expect("a free port");
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    socket
}

/// The next datagram, a message, and where it came from.
pub(crate) fn receive(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut buffer = vec![0; 65_536];
    let (length, from) = socket.recv_from(&mut buffer).expect("a reply");
    buffer.truncate(length);
    Message::parse_classic(&buffer).expect("a message");
    (buffer, from)
}

/// A folder with a certificate for `stun.example.org` and its key, gone when dropped.
pub(crate) struct Authority {
    folder: PathBuf,
    pub(crate) certificate: CertificateDer<'static>,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("ntcp-tls-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let made = rcgen::generate_simple_self_signed(vec!["stun.example.org".to_owned()]);
        let made = made.expect("a certificate");
        std::fs::write(folder.join("certificate.pem"), made.cert.pem()).expect("written");
        std::fs::write(folder.join("key.pem"), made.signing_key.serialize_pem()).expect("written");
        Self { folder, certificate: made.cert.der().clone() }
    }

    pub(crate) fn files(&self) -> CertificateFiles {
        let at = |name| self.folder.join(name);
        CertificateFiles { certificate: at("certificate.pem"), key: at("key.pem") }
    }
}

impl Authority {
    /// Lets `openssl s_client` with these flags ask for a Binding and verify the certificate; the answer has this
    /// length. `false` if it is not installed.
    pub(crate) fn ask_with_openssl(
        &self,
        server: SocketAddr,
        flags: &[&str],
        length: usize,
    ) -> bool {
        let mut client = Command::new("openssl");
        client.args(["s_client", "-connect", &server.to_string(), "-quiet"]).args(flags);
        client.args(["-verify_return_error", "-verify_hostname", "stun.example.org"]);
        client.arg("-CAfile").arg(&self.files().certificate);
        client.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let Ok(mut child) = client.spawn() else {
            eprintln!("SKIPPED: openssl is not installed, so {flags:?} was not tried with it");
            return false;
        };
        let mut stdin = child.stdin.take().expect("piped");
        stdin.write_all(&request(5, None)).expect("sent");
        let mut answer = vec![0; length];
        let read = child.stdout.as_mut().expect("piped").read_exact(&mut answer);
        drop(stdin);
        // It may have ended by itself.
        let _ = child.kill();
        let said = child.wait_with_output().expect("it ends").stderr;
        read.unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&said)));
        let message = Message::parse(&answer).expect("well-formed");
        assert_eq!(message.transaction_id(), TransactionId::new([5; 12]), "{flags:?}");
        true
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

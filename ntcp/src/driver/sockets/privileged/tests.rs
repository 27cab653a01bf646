//! The privileged commands between real NATs. Each test starts itself again in the hosts of a
//! laboratory, where it is root over the laboratory's network and over nothing else.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::time::Duration;

use async_io::{Timer, block_on};
use futures::StreamExt;
use futures::future::{Either, select};
use futures::stream::FuturesUnordered;
use ntcp_lab::kernel::{Child, Form, Lab, SERVER_ADDRESSES, User};
use ntcp_proto::command::{Agreed, Ends};
use ntcp_proto::segment::{Options, Segment, flag};
use ntcp_proto::{Answer, Command, CommandId, Hops, Input, IoFailure, Owner, SocketId};

use super::super::{Happening, Pending, Sockets};

/// What a test is to do, in the process inside.
const PART: &str = "NTCP_TEST_PART";
/// The address of the other side, there.
const PEER: &str = "NTCP_TEST_PEER";
/// Nothing takes this long.
const PATIENCE: Duration = Duration::from_secs(30);
/// The local port of each side; the NATs here keep it.
const PORT: u16 = 40_404;
const STRICT: &str = "masq,syn=strict";

const STREAM: SocketId = SocketId { owner: Owner(1), serial: 1 };
const CAPTURE: SocketId = SocketId { owner: Owner(1), serial: 2 };
const COMMAND: CommandId = CommandId { owner: Owner(1), serial: 1 };

/// The whole of a STUN message without attributes (RFC 8489 section 5).
fn message(part: u8) -> Vec<u8> {
    [&[0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42][..], &[part; 12]].concat()
}

/// The address of this host; it has one besides the loopback one.
fn own_address() -> SocketAddr {
    let own = crate::io::interfaces::addresses().into_iter().find(std::net::IpAddr::is_ipv4);
    SocketAddr::new(own.expect("a host of the laboratory has an address"), PORT)
}

fn peer() -> SocketAddr {
    std::env::var(PEER).unwrap().parse().unwrap()
}

/// Sockets, and the futures that wait on them.
#[derive(Default)]
struct Inside {
    sockets: Sockets,
    pending: FuturesUnordered<Pending>,
}

impl Inside {
    /// Carries out a command that is answered at once.
    fn order(&mut self, command: Command) -> Answer {
        self.sockets.carry_out(command);
        self.sockets.next_answer().expect("answered at once").1
    }

    /// Waits until `wanted` finds something in what happens.
    fn until<T>(
        &mut self,
        mut wanted: impl FnMut(Result<(Answer, CommandId), Input<'_>>) -> Option<T>,
    ) -> T {
        loop {
            self.pending.extend(self.sockets.take_pending());
            if let Some((id, answer)) = self.sockets.next_answer() {
                if let Some(found) = wanted(Ok((answer, id))) {
                    return found;
                }
                continue;
            }
            let happening = select(self.pending.next(), Timer::after(PATIENCE));
            let happening: Option<Happening> = match block_on(happening) {
                Either::Left((happening, _)) => happening.flatten(),
                Either::Right(_) => panic!("nothing happened"),
            };
            let Some(happening) = happening else { continue };
            let mut found = None;
            self.sockets.happened(happening, |input| found = wanted(Err(input)));
            if let Some(found) = found {
                return found;
            }
        }
    }
}

/// Starts this test again in a host of the lab.
fn part(lab: &Lab, test: &str, host: &str, part: &str, peer: SocketAddr, user: User) -> Child {
    let test = format!("driver::sockets::privileged::tests::{test}");
    lab.command(host, std::env::current_exe().unwrap())
        .args(["--exact", &test, "--nocapture"])
        .env(PART, part)
        .env(PEER, &peer.to_string())
        .user(user)
        .spawn()
        .unwrap()
}

fn succeeded(mut child: Child) {
    let status = child.wait_timeout(PATIENCE * 2).unwrap();
    assert!(status.is_some_and(|status| status.success()), "{status:?}");
}

/// What both sides of an assumed connection assume.
fn agreed(part: &str) -> Agreed {
    let options = Options {
        max_segment_size: Some(1220),
        window_scale: Some(7),
        sack_permitted: true,
        timestamps: None,
    };
    let [sequence, peer_sequence] = if part == "a" { [0xaaaa_0000, 5] } else { [5, 0xaaaa_0000] };
    Agreed { sequence, peer_sequence, options, peer_options: options }
}

#[test]
fn two_assumed_connections_meet_through_nats_that_let_no_syn_in() {
    let test = "two_assumed_connections_meet_through_nats_that_let_no_syn_in";
    let Ok(name) = std::env::var(PART) else {
        for form in [Form::Netfilter, Form::User] {
            let line = Duration::from_millis(10);
            let home =
                |builder: ntcp_lab::kernel::Builder, name| builder.home(name, STRICT).form(form);
            let lab = home(home(Lab::builder().delay(line), "a"), "b").start().unwrap();
            let outside = |host| SocketAddr::new(lab.host(host).unwrap().public.into(), PORT);
            let a = part(&lab, test, "a", "a", outside("b"), User::Root);
            let b = part(&lab, test, "b", "b", outside("a"), User::Root);
            succeeded(a);
            succeeded(b);
        }
        return;
    };
    let mut inside = Inside::default();
    let ends = Ends { local: own_address(), remote: peer() };
    let answer = inside.order(Command::AssumeTcp {
        id: COMMAND,
        socket: STREAM,
        ends,
        agreed: agreed(&name),
        hops: Hops::USUAL,
    });
    assert_eq!(answer, Answer::Connected(Ok(ends)));
    let [ours, theirs] = if name == "a" { [1, 2] } else { [2, 1] };
    // Both directions, twice: the second message answers the first.
    for _ in 0..2 {
        let payload = message(ours);
        let sent = inside.order(Command::SendTcp { id: COMMAND, socket: STREAM, payload });
        assert_eq!(sent, Answer::Sent(Ok(())));
        inside.until(|event| match event {
            Err(Input::TcpReceived { socket: STREAM, payload }) => {
                assert_eq!(payload, message(theirs));
                Some(())
            }
            other => panic!("{other:?}"),
        });
    }
}

fn capture(ends: Ends) -> Command {
    Command::Capture { id: COMMAND, socket: CAPTURE, ends }
}

fn connect(ends: Ends, sequence: u32) -> Command {
    let Ends { local, remote } = ends;
    let (hops, sequence) = (Hops::USUAL, Some(sequence));
    Command::ConnectTcp { id: COMMAND, socket: STREAM, local, remote, hops, sequence }
}

fn inject(source: SocketAddr, destination: SocketAddr) -> Command {
    let segment = Segment {
        source,
        destination,
        flags: flag::ACK,
        sequence: 1,
        acknowledgment: 1,
        window: 100,
        options: Options::default(),
    };
    Command::Inject { id: COMMAND, segment, ttl: 64 }
}

#[test]
fn a_pinned_sequence_number_is_captured_here_and_arrives_there() {
    const SEQUENCE: u32 = 0x1234_5678;
    let test = "a_pinned_sequence_number_is_captured_here_and_arrives_there";
    if std::env::var_os(PART).is_none() {
        let lab = Lab::builder().home("a", STRICT).start().unwrap();
        let target = SocketAddr::new(SERVER_ADDRESSES[0].into(), 9000);
        let listener: TcpListener = lab.tcp_listener("server", target).unwrap();
        ntcp_raw::saved_syn::keep(&listener).unwrap();
        let child = part(&lab, test, "a", "a", target, User::Root);
        let (stream, from) = listener.accept().unwrap();
        let packet = ntcp_raw::saved_syn::take(&stream).unwrap().unwrap();
        let (syn, _) = Segment::parse(&packet).unwrap();
        assert_eq!((syn.sequence, syn.source), (SEQUENCE, from));
        succeeded(child);
        return;
    }
    let mut inside = Inside::default();
    let ends = Ends { local: own_address(), remote: peer() };
    assert_eq!(inside.order(capture(ends)), Answer::Done(Ok(())));
    inside.sockets.carry_out(connect(ends, SEQUENCE));
    let (mut captured, mut connected) = (None, None);
    inside.until(|event| {
        match event {
            Err(Input::Captured { socket: CAPTURE, segment }) => captured = Some(segment),
            Ok((Answer::Connected(outcome), COMMAND)) => connected = Some(outcome),
            other => panic!("{other:?}"),
        }
        (captured.is_some() && connected.is_some()).then_some(())
    });
    assert_eq!(connected, Some(Ok(ends)));
    let syn = captured.unwrap();
    assert_eq!((syn.source, syn.destination), (ends.local, ends.remote));
    assert_eq!((syn.sequence, syn.flags), (SEQUENCE, flag::SYN));

    let stranger = SocketAddr::new(Ipv4Addr::new(192, 0, 2, 1).into(), 7);
    let sent = |answer| assert_eq!(answer, Answer::Sent(Ok(())));
    let refused = |answer| assert_eq!(answer, Answer::Sent(Err(IoFailure::NotPermitted)));
    sent(inside.order(inject(ends.local, ends.remote)));
    sent(inside.order(inject(ends.remote, ends.local)));
    refused(inside.order(inject(stranger, ends.remote)));
    refused(inside.order(inject(ends.local, stranger)));
    for socket in [CAPTURE, STREAM] {
        let closed = inside.order(Command::Close { id: COMMAND, socket });
        assert_eq!(closed, Answer::Closed);
    }
    refused(inside.order(inject(ends.local, ends.remote)));
}

#[test]
fn nothing_of_it_is_permitted_to_an_ordinary_user() {
    let test = "nothing_of_it_is_permitted_to_an_ordinary_user";
    if std::env::var_os(PART).is_none() {
        let lab = Lab::builder().home("a", STRICT).start().unwrap();
        let target = SocketAddr::new(SERVER_ADDRESSES[0].into(), 9000);
        succeeded(part(&lab, test, "a", "a", target, User::Nobody));
        return;
    }
    let mut inside = Inside::default();
    let ends = Ends { local: own_address(), remote: peer() };
    let denied = IoFailure::NotPermitted;
    assert_eq!(inside.order(capture(ends)), Answer::Done(Err(denied)));
    assert_eq!(inside.order(connect(ends, 7)), Answer::Connected(Err(denied)));
    assert_eq!(inside.order(inject(ends.local, ends.remote)), Answer::Sent(Err(denied)));
    let agreed = agreed("a");
    let assume =
        Command::AssumeTcp { id: COMMAND, socket: STREAM, ends, agreed, hops: Hops::USUAL };
    assert_eq!(inside.order(assume), Answer::Connected(Err(denied)));
    assert!(inside.sockets.is_empty(), "what failed leaves nothing open");
}

//! The privileged commands between real NATs. Each test starts itself again in the hosts of a
//! laboratory, where it is root over the laboratory's network and over nothing else.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::time::Duration;

use async_io::{Timer, block_on};
use futures::StreamExt;
use futures::future::{Either, select};
use futures::stream::FuturesUnordered;
use ntcp_lab::kernel::{Child, Form, Lab, SERVER_ADDRESSES, Stream, User};
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

    /// Carries out a command that is answered later.
    fn ordered(&mut self, command: Command) -> Answer {
        self.sockets.carry_out(command);
        self.until(|event| match event {
            Ok((answer, COMMAND)) => Some(answer),
            other => panic!("{other:?}"),
        })
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

/// This test again in a host of the lab.
fn part<'lab>(
    lab: &'lab Lab,
    test: &str,
    host: &str,
    peer: SocketAddr,
) -> ntcp_lab::kernel::Command<'lab> {
    let test = format!("driver::sockets::privileged::tests::{test}");
    lab.command(host, std::env::current_exe().unwrap())
        .args(["--exact", &test, "--nocapture"])
        .env(PART, host)
        .env(PEER, &peer.to_string())
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

/// Two homes behind such NATs.
fn homes(site: &str, form: Form) -> Lab {
    let lab = Lab::builder().delay(Duration::from_millis(10));
    lab.home("a", site).form(form).home("b", site).form(form).start().unwrap()
}

/// The end of a home as the other one sees it.
fn outside(lab: &Lab, home: &str) -> SocketAddr {
    SocketAddr::new(lab.host(home).unwrap().public.into(), PORT)
}

fn assume(inside: &mut Inside, name: &str, hops: Hops) {
    let ends = Ends { local: own_address(), remote: peer() };
    let agreed = agreed(name);
    let command = Command::AssumeTcp { id: COMMAND, socket: STREAM, ends, agreed, hops };
    assert_eq!(inside.order(command), Answer::Connected(Ok(ends)));
}

/// Both directions, twice: the second message answers the first.
fn converse(inside: &mut Inside, name: &str) {
    let [ours, theirs] = if name == "a" { [1, 2] } else { [2, 1] };
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

/// Has both homes play their parts at once.
fn both_succeed(lab: &Lab, test: &str) {
    let a = part(lab, test, "a", outside(lab, "b")).spawn().unwrap();
    let b = part(lab, test, "b", outside(lab, "a")).spawn().unwrap();
    succeeded(a);
    succeeded(b);
}

#[test]
fn two_assumed_connections_meet_through_nats_that_let_no_syn_in() {
    let test = "two_assumed_connections_meet_through_nats_that_let_no_syn_in";
    let Ok(name) = std::env::var(PART) else {
        for form in [Form::Netfilter, Form::User] {
            both_succeed(&homes(STRICT, form), test);
        }
        return;
    };
    let mut inside = Inside::default();
    assume(&mut inside, &name, Hops::USUAL);
    converse(&mut inside, &name);
}

/// The first packet of either side opens its own NAT and dies before the other, which would answer
/// with an RST.
#[test]
fn openers_that_die_on_the_way_let_assumed_connections_meet_through_nats_that_answer() {
    const OPENED: &str = "both sides may go on";
    let test = "openers_that_die_on_the_way_let_assumed_connections_meet_through_nats_that_answer";
    let Ok(name) = std::env::var(PART) else {
        for form in [Form::Netfilter, Form::User] {
            let lab = homes("masq,syn=strict,in=reset", form);
            let mut parts = [("a", "b"), ("b", "a")].map(|(one, other)| {
                let command = part(&lab, test, one, outside(&lab, other));
                command.stdin(Stream::Piped).stdout(Stream::Piped).spawn().unwrap()
            });
            let mut outputs = Vec::new();
            for part in &mut parts {
                let mut output = BufReader::new(part.stdout.take().unwrap());
                let opened = output.by_ref().lines().any(|line| line.unwrap().ends_with(OPENED));
                assert!(opened, "{form:?}");
                outputs.push(output);
            }
            for part in &mut parts {
                part.stdin.take().unwrap().write_all(b"go\n").unwrap();
            }
            parts.into_iter().for_each(succeeded);
        }
        return;
    };
    let mut inside = Inside::default();
    assume(&mut inside, &name, Hops { ttl: Some(3), least: None });
    println!("{OPENED}");
    std::io::stdin().read_line(&mut String::new()).unwrap();
    let adjust = Command::AdjustTcp { id: COMMAND, socket: STREAM, hops: Hops::USUAL };
    assert_eq!(inside.order(adjust), Answer::Done(Ok(())));
    converse(&mut inside, &name);
}

/// The ends of all TCP sockets of a host that use [`PORT`], whoever has them.
fn sockets_on_the_port(lab: &Lab, host: &str) -> Vec<String> {
    let table = lab.command(host, "cat").arg("/proc/net/tcp").output().unwrap();
    assert!(table.status.success(), "{table:?}");
    let table = String::from_utf8(table.stdout).unwrap();
    let local = format!(":{PORT:04X} ");
    table.lines().filter(|line| line.contains(&local)).map(str::to_owned).collect()
}

#[test]
fn a_program_that_is_killed_leaves_no_ghost_that_nobody_has_answered() {
    const SPOKEN: &str = "the ghost has spoken";
    let test = "a_program_that_is_killed_leaves_no_ghost_that_nobody_has_answered";
    let Ok(name) = std::env::var(PART) else {
        let lab = homes(STRICT, Form::Netfilter);
        let command = part(&lab, test, "a", outside(&lab, "b"));
        let mut child = command.stdout(Stream::Piped).spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        assert!(output.lines().any(|line| line.unwrap().ends_with(SPOKEN)));
        assert_eq!(sockets_on_the_port(&lab, "a").len(), 1, "it stands");
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(sockets_on_the_port(&lab, "a"), Vec::<String>::new());
        return;
    };
    let mut inside = Inside::default();
    assume(&mut inside, &name, Hops::USUAL);
    let payload = message(1);
    let sent = inside.order(Command::SendTcp { id: COMMAND, socket: STREAM, payload });
    assert_eq!(sent, Answer::Sent(Ok(())));
    println!("{SPOKEN}");
    // Until it is killed.
    inside.until(|event| -> Option<()> { panic!("{event:?}") });
}

#[test]
fn an_assumed_stream_that_is_handed_over_is_closed_in_order() {
    let test = "an_assumed_stream_that_is_handed_over_is_closed_in_order";
    let Ok(name) = std::env::var(PART) else {
        both_succeed(&homes(STRICT, Form::Netfilter), test);
        return;
    };
    let mut inside = Inside::default();
    assume(&mut inside, &name, Hops::USUAL);
    converse(&mut inside, &name);
    let stream = inside.sockets.take_stream(STREAM).expect("it is there");
    drop(inside);
    let mut stream = stream.into_inner().unwrap();
    stream.set_nonblocking(false).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    if name == "a" {
        drop(stream);
    } else {
        assert_eq!(stream.read(&mut [0]).expect("an end, and no RST"), 0);
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
        let child = part(&lab, test, "a", target).spawn().unwrap();
        let (stream, from) = listener.accept().unwrap();
        let packet = ntcp_raw::saved_syn::take(&stream).unwrap().unwrap();
        let (syn, _) = Segment::parse(&packet).unwrap();
        assert_eq!((syn.sequence, syn.source), (SEQUENCE, from));
        succeeded(child);
        return;
    }
    let mut inside = Inside::default();
    let ends = Ends { local: own_address(), remote: peer() };
    assert_eq!(inside.ordered(capture(ends)), Answer::Done(Ok(())));
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
fn a_connect_waits_for_its_capture_until_that_is_open_or_closed() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let ends = Ends { local: free, remote: listener.local_addr().unwrap() };
    let connect = Command::ConnectTcp {
        id: CommandId { serial: 2, ..COMMAND },
        socket: STREAM,
        local: ends.local,
        remote: ends.remote,
        hops: Hops::USUAL,
        sequence: None,
    };
    let close = |socket| Command::Close { id: CommandId { serial: 3, ..COMMAND }, socket };
    let closed = Some((CommandId { serial: 3, ..COMMAND }, Answer::Closed));
    let mut sockets = Sockets::default();
    sockets.carry_out(capture(ends));
    sockets.carry_out(connect.clone());
    assert_eq!(sockets.next_answer(), None);
    sockets.carry_out(close(STREAM));
    let refused = Answer::Connected(Err(IoFailure::Closed));
    assert_eq!(sockets.next_answer(), Some((CommandId { serial: 2, ..COMMAND }, refused)));
    assert_eq!(sockets.next_answer(), closed);

    sockets.carry_out(connect);
    sockets.carry_out(close(CAPTURE));
    let refused = Answer::Done(Err(IoFailure::Closed));
    assert_eq!(sockets.next_answer(), Some((COMMAND, refused)));
    assert_eq!(sockets.next_answer(), closed);
    let mut inside = Inside { sockets, ..Inside::default() };
    let connected = inside.until(|event| match event {
        Ok((Answer::Connected(connected), _)) => Some(connected),
        other => panic!("{other:?}"),
    });
    assert_eq!(connected, Ok(ends));
}

#[test]
fn what_a_stream_is_told_while_its_syn_waits_for_a_capture_does_not_change_that_syn() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let ends = Ends { local: free, remote: listener.local_addr().unwrap() };
    let (opening, opened) =
        (Hops { ttl: Some(2), least: Some(2) }, Hops { ttl: None, least: Some(2) });
    let (local, remote) = (ends.local, ends.remote);
    let connect = Command::ConnectTcp {
        id: COMMAND,
        socket: STREAM,
        local,
        remote,
        hops: opening,
        sequence: None,
    };
    let mut sockets = Sockets::default();
    sockets.carry_out(capture(ends));
    sockets.carry_out(connect);
    sockets.carry_out(Command::AdjustTcp { id: COMMAND, socket: STREAM, hops: opened });
    let held = sockets.open.values().find_map(|entry| match &entry.kind {
        super::Kind::Held(held) => Some((held.hops, held.then)),
        _ => None,
    });
    assert_eq!(held, Some((opening, Some(opened))));
}

#[test]
fn nothing_of_it_is_permitted_to_an_ordinary_user() {
    let test = "nothing_of_it_is_permitted_to_an_ordinary_user";
    if std::env::var_os(PART).is_none() {
        let lab = Lab::builder().home("a", STRICT).start().unwrap();
        let target = SocketAddr::new(SERVER_ADDRESSES[0].into(), 9000);
        succeeded(part(&lab, test, "a", target).user(User::Nobody).spawn().unwrap());
        return;
    }
    let mut inside = Inside::default();
    let ends = Ends { local: own_address(), remote: peer() };
    let denied = IoFailure::NotPermitted;
    assert_eq!(inside.ordered(capture(ends)), Answer::Done(Err(denied)));
    assert_eq!(inside.order(connect(ends, 7)), Answer::Connected(Err(denied)));
    assert_eq!(inside.order(inject(ends.local, ends.remote)), Answer::Sent(Err(denied)));
    let agreed = agreed("a");
    let assume =
        Command::AssumeTcp { id: COMMAND, socket: STREAM, ends, agreed, hops: Hops::USUAL };
    assert_eq!(inside.order(assume), Answer::Connected(Err(denied)));
    assert!(inside.sockets.is_empty(), "what failed leaves nothing open");
}

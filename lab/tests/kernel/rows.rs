//! The numbered experiments that decide what is built, in real kernels: what a box really does with
//! SYNs that come late, die on the way, or are forged.
//!
//! Each runs against netfilter and against the lab's own NAT, which has to do the same.

use std::io::{Read as _, Write as _};
use std::mem::MaybeUninit;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use ntcp_lab::kernel::{Form, Lab, SocketKind, Tap};
use ntcp_proto::command::Agreed;
use ntcp_proto::segment::{Options, Segment, flag};
use ntcp_raw::hops::{Family, set_least_ttl, set_ttl};
use ntcp_raw::repair::{self, Departure};
use socket2::Socket;

use super::PATIENCE;
use super::punching::{End, connected, fence, homes};

/// Past the own box, not to the other's.
const LOW: u8 = 3;
const FORMS: [Form; 2] = [Form::Netfilter, Form::User];
const STRICT: &str = "masq,syn=strict";

fn ends(lab: &Lab) -> [End; 2] {
    [End::new(lab, "a"), End::new(lab, "b")]
}

fn hops(socket: &Socket, ttl: Option<u8>, least: u8) {
    set_ttl(socket, Family::V4, ttl).unwrap();
    set_least_ttl(socket, Family::V4, least).unwrap();
}

/// How an attempt has ended by now.
fn error(socket: &Socket) -> Option<i32> {
    socket.take_error().unwrap().and_then(|error| error.raw_os_error())
}

/// A word arrives on each of two streams.
fn hear_each_other(sockets: [Socket; 2]) -> bool {
    let mut streams = sockets.map(|socket| {
        socket.set_nonblocking(false).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
        TcpStream::from(socket)
    });
    let said = streams.iter_mut().all(|stream| stream.write_all(b"word").is_ok());
    let mut word = [0; 4];
    said && streams.iter_mut().all(|stream| stream.read_exact(&mut word).is_ok())
}

#[test]
fn a_refusal_is_met_by_connecting_again_at_once() {
    // T5 without another attempt, T5b and T5d with.
    for form in FORMS {
        for (a, b) in [("masq", "masq,in=reset"), ("masq,in=reset", "masq,in=reset")] {
            let lab = homes(a, b, form);
            let [one, other] = ends(&lab);
            let mut first = one.connect(&lab, other.public);
            fence(&lab);
            assert_eq!(error(&first), Some(libc::ECONNREFUSED), "{a} x {b} as {form:?}");
            first = one.connect(&lab, other.public);
            let mut second = other.connect(&lab, one.public);
            for _ in 0..100 {
                if connected(&first, PATIENCE) == Some(false) {
                    first = one.connect(&lab, other.public);
                } else if connected(&second, PATIENCE) == Some(false) {
                    second = other.connect(&lab, one.public);
                } else {
                    break;
                }
            }
            assert!(hear_each_other([first, second]), "{a} x {b} as {form:?}");
        }
    }
}

#[test]
fn the_listeners_new_number_does_not_pass_where_windows_are_watched() {
    // T8 and T9, and T18 as the control.
    for form in FORMS {
        for (a, expected) in [("masq", false), ("masq,window=liberal", true)] {
            for ttl in [Some(LOW), None] {
                let lab = homes(a, "masq", form);
                let [one, other] = ends(&lab);
                let opener = one.connect_with(&lab, other.public, |it| hops(it, ttl, 0));
                fence(&lab);
                drop(opener);
                let listener = lab.tcp_listener("a", one.own).unwrap();
                let dialer = other.connect(&lab, one.public);
                let passed = if expected {
                    connected(&dialer, PATIENCE) == Some(true) && listener.accept().is_ok()
                } else {
                    fence(&lab);
                    connected(&dialer, Duration::ZERO) == Some(true)
                };
                assert_eq!(passed, expected, "{a} with TTL {ttl:?} as {form:?}");
            }
        }
    }
}

#[test]
fn a_socket_that_is_deaf_to_near_news_outlives_the_death_of_its_syn() {
    // T7 and T12.
    for form in FORMS {
        for (least, ending) in [(0, Some(libc::EHOSTUNREACH)), (2, None)] {
            let lab = homes("masq", "masq", form);
            let [one, other] = ends(&lab);
            let opener = one.connect_with(&lab, other.public, |it| hops(it, Some(LOW), least));
            fence(&lab);
            assert_eq!(error(&opener), ending, "{form:?}");
            if ending.is_none() {
                hops(&opener, None, least);
                let dialer = other.connect(&lab, one.public);
                for socket in [&opener, &dialer] {
                    assert_eq!(connected(socket, PATIENCE), Some(true), "{form:?}");
                }
            }
        }
    }
}

/// `a` first, `b` once that SYN has met its fate; nobody tries again. Whether both are connected.
fn shielded(lab: &Lab, opener: Option<u8>, least: u8) -> [Option<bool>; 2] {
    let [one, other] = ends(lab);
    let ttl = if least > 0 { Some(255) } else { None };
    let first = one.connect_with(lab, other.public, |it| hops(it, opener.or(ttl), least));
    fence(lab);
    // An ending is told once.
    let early = connected(&first, Duration::ZERO);
    if early.is_none() {
        hops(&first, ttl, least);
    }
    let second = other.connect_with(lab, one.public, |it| hops(it, ttl, least));
    // The kernel repeats a SYN after a second, and that is enough for whatever works.
    let limit = Duration::from_secs(4);
    [early.or_else(|| connected(&first, limit)), connected(&second, limit)]
}

#[test]
fn shields_and_an_opener_defeat_boxes_that_answer() {
    let both = [Some(true); 2];
    for form in FORMS {
        // T21.
        let lab = homes("masq", "masq,in=reset", form);
        assert_eq!(shielded(&lab, None, 100), both, "one resets, {form:?}");
        // T22, T23b.
        for answer in ["reset", "admin"] {
            let site = format!("masq,in={answer}");
            let lab = homes(&site, &site, form);
            assert_eq!(shielded(&lab, Some(LOW), 100), both, "{site} as {form:?}");
        }
        // T22b, the control.
        let lab = homes("masq,in=reset", "masq,in=reset", form);
        assert_eq!(shielded(&lab, None, 0), [Some(false); 2], "{form:?}");
    }
}

/// Both numbers known beforehand; options without timestamps, whose values nobody could know.
const NUMBERS: [u32; 2] = [0x1234_5678, 0x9abc_def0];

fn options() -> Options {
    Options {
        max_segment_size: Some(1460),
        window_scale: Some(7),
        sack_permitted: true,
        timestamps: None,
    }
}

fn syn_ack(source: SocketAddr, destination: SocketAddr, sequence: u32, other: u32) -> Segment {
    Segment {
        source,
        destination,
        flags: flag::SYN | flag::ACK,
        sequence,
        acknowledgment: other.wrapping_add(1),
        window: 64_240,
        options: options(),
    }
}

fn send_raw(lab: &Lab, space: &str, segment: &Segment) {
    let socket = lab.socket(space, SocketKind::Packets).unwrap();
    let packet = segment.emit(64).unwrap();
    let to = SocketAddr::new(segment.destination.ip(), 0);
    socket.send_to(&packet, &to.into()).unwrap();
}

/// Both dial with their numbers, by this TTL.
fn dial_numbered(lab: &Lab, [one, other]: &[End; 2], ttl: Option<u8>) -> [Socket; 2] {
    [(one, other, NUMBERS[0]), (other, one, NUMBERS[1])].map(|(end, peer, number)| {
        end.connect_with(lab, peer.public, |socket| {
            hops(socket, ttl, 2);
            repair::pin_sequence(socket, number).unwrap();
        })
    })
}

fn raised(sockets: [Socket; 2]) -> bool {
    let connected = sockets.iter().all(|it| connected(it, PATIENCE) == Some(true));
    sockets.iter().for_each(|socket| hops(socket, None, 0));
    connected && hear_each_other(sockets)
}

#[test]
fn forged_syn_acks_with_agreed_numbers_pass_two_boxes_that_drop_every_syn() {
    // T14, T15 without a capture, T25.
    for form in FORMS {
        let lab = homes(STRICT, STRICT, form);
        let ends = ends(&lab);
        let sockets = dial_numbered(&lab, &ends, Some(LOW));
        fence(&lab);
        let [a, b] = [ends[0].public, ends[1].public];
        send_raw(&lab, "server", &syn_ack(b, a, NUMBERS[1], NUMBERS[0]));
        send_raw(&lab, "server", &syn_ack(a, b, NUMBERS[0], NUMBERS[1]));
        assert!(raised(sockets), "{form:?}");
    }
}

#[test]
fn an_own_syn_ack_passes_only_after_the_syns_have_crossed() {
    // T16 and T16c.
    for form in FORMS {
        for (ttl, expected) in [(Some(LOW), false), (None, true)] {
            let lab = homes(STRICT, STRICT, form);
            let ends = ends(&lab);
            let sockets = dial_numbered(&lab, &ends, ttl);
            fence(&lab);
            let [a, b] = &ends;
            send_raw(&lab, "a", &syn_ack(a.own, b.public, NUMBERS[0], NUMBERS[1]));
            send_raw(&lab, "b", &syn_ack(b.own, a.public, NUMBERS[1], NUMBERS[0]));
            if expected {
                assert!(raised(sockets), "{form:?}");
            } else {
                fence(&lab);
                for socket in &sockets {
                    assert_eq!(connected(socket, Duration::ZERO), None, "{form:?}");
                }
            }
        }
    }
}

/// The SYNs that left these hosts.
fn captured(lab: &Lab, hosts: [&str; 2], act: impl FnOnce()) -> [Segment; 2] {
    let tap = |host: &str| Tap { space: host.into(), interface: "eth0".into() };
    let capture = lab.capture(&hosts.map(tap)).unwrap();
    act();
    let frames = capture.stop();
    [0, 1].map(|tap| {
        let of_host = frames.iter().filter(|frame| frame.tap == tap && frame.outgoing);
        let segments = of_host.filter_map(|frame| Segment::parse(&frame.packet));
        segments.map(|it| it.0).find(|it| it.flags == flag::SYN).expect("a SYN left")
    })
}

#[test]
fn a_copy_of_the_same_syn_passes_boxes_that_answer_whoever_is_late() {
    // Recipe C: both SYNs die on the way, one long before the other, and leave again by hand.
    let reset = "masq,in=reset";
    for (a, b, form) in [
        (reset, reset, Form::Netfilter),
        (reset, reset, Form::User),
        ("masq,in=admin", "masq,in=open", Form::Netfilter),
        ("port-restricted,rst=kill", reset, Form::User),
    ] {
        let lab = homes(a, b, form);
        let [one, other] = ends(&lab);
        let mut sockets = Vec::new();
        let syns = captured(&lab, ["a", "b"], || {
            for (end, peer) in [(&one, &other), (&other, &one)] {
                let opening = |it: &Socket| hops(it, Some(LOW), 2);
                sockets.push(end.connect_with(&lab, peer.public, opening));
                fence(&lab);
            }
        });
        sockets.iter().for_each(|socket| hops(socket, None, 2));
        for (host, syn) in ["a", "b"].into_iter().zip(&syns) {
            send_raw(&lab, host, syn);
        }
        let sockets: [Socket; 2] = sockets.try_into().expect("two");
        assert!(raised(sockets), "{a} x {b} as {form:?}");
    }
}

/// Two sockets without a handshake, both opened by ACKs of this TTL before any word is said.
fn ghosts(lab: &Lab, ttl: Option<u8>) -> bool {
    let ends = ends(lab);
    let assume = |own: usize, peer: usize| {
        let socket = lab.tcp_socket(ends[own].host, ends[own].own).unwrap();
        hops(&socket, ttl, 0);
        let agreed = Agreed {
            sequence: NUMBERS[own],
            peer_sequence: NUMBERS[peer],
            options: options(),
            peer_options: options(),
        };
        repair::assume(&socket, ends[peer].public, &agreed, Departure::Probe).unwrap();
        socket
    };
    let first = assume(0, 1);
    fence(lab);
    let second = assume(1, 0);
    fence(lab);
    [&first, &second].into_iter().for_each(|socket| hops(socket, None, 0));
    hear_each_other([first, second])
}

#[test]
fn connections_without_a_handshake_pass_where_flows_are_picked_up() {
    for form in FORMS {
        // T17, T17c.
        assert!(ghosts(&homes(STRICT, STRICT, form), Some(LOW)), "{form:?}");
        let reset = "masq,in=reset";
        assert!(ghosts(&homes(reset, reset, form), Some(LOW)), "{form:?}");
        // T17b, T17d.
        assert!(!ghosts(&homes("masq,loose=no", "masq,loose=no", form), Some(LOW)), "{form:?}");
        assert!(!ghosts(&homes(reset, reset, form), None), "{form:?}");
    }
}

#[test]
fn nothing_waits_on_a_socket_that_was_assumed_and_left() {
    // What a strategy gives up leaves no stream behind: the other side hears a RST or a FIN.
    let lab = homes("public", "public", Form::Netfilter);
    let ends = ends(&lab);
    let socket = lab.tcp_socket("a", ends[0].own).unwrap();
    let agreed = Agreed {
        sequence: NUMBERS[0],
        peer_sequence: NUMBERS[1],
        options: options(),
        peer_options: options(),
    };
    repair::assume(&socket, ends[1].public, &agreed, Departure::Probe).unwrap();
    fence(&lab);
    socket.set_nonblocking(true).unwrap();
    let mut bytes = [MaybeUninit::uninit(); 4];
    let ending = socket.recv(&mut bytes).map_err(|error| error.raw_os_error());
    assert_eq!(ending, Err(Some(libc::ECONNRESET)), "the other kernel knows no such connection");
}

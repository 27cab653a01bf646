//! Failures, and what is said of them. Tests.

use super::*;
use crate::Answer;
use crate::machine::any_instant;
use crate::nat::{TcpReport, UdpReport, UnsolicitedSyn};
use crate::puncher::session::tests::session;
use crate::tcp_traversal::note::Standing;

fn candidate(kind: CandidateKind, transport: Transport, address: &str) -> Candidate {
    Candidate { kind, transport, address: address.parse().unwrap() }
}

fn told(transport: Transport, address: &str) -> Candidate {
    candidate(CandidateKind::ServerReflexive, transport, address)
}

fn nat(udp: bool) -> NatReport {
    let udp = UdpReport { reachable: udp, ..UdpReport::default() };
    let tcp = TcpReport { reachable: true, ..TcpReport::default() };
    NatReport { nat: Some(true), udp, tcp }
}

/// Runs a session whose connects all end like this, until it fails: its report, and how long that took.
fn failed(mut session: Session, connects: Option<IoFailure>) -> (Report, Duration) {
    let start = session.introduction.start;
    loop {
        let now = session.poll_timeout().expect("it has not ended").at;
        session.handle_timeout(now);
        while let Some(command) = session.poll_command() {
            if let (Command::ConnectTcp { id, .. }, Some(failure)) = (&command, connects) {
                let answer = Answer::Connected(Err(failure));
                session.handle_input(Input::Answer { id: *id, answer }, now);
            }
        }
        while let Some(event) = session.poll_event() {
            if let Event::Failed { report } = event {
                return (report, now - start);
            }
        }
    }
}

fn calling(transport: TransportChoice, candidates: Vec<Candidate>) -> Session {
    session(Role::Controlling, transport, candidates, any_instant())
}

fn reason(report: &Report) -> &str {
    report.reason.as_deref().expect("a reason")
}

#[test]
fn two_sides_without_a_common_family_are_told_so_within_seconds() {
    for transport in [TransportChoice::Any, TransportChoice::Tcp, TransportChoice::Udp] {
        let theirs = [Transport::Udp, Transport::Tcp].map(|it| told(it, "[2001:db8::1]:5000"));
        let (report, elapsed) = failed(calling(transport, theirs.to_vec()), None);
        assert_eq!(elapsed, NEWS, "{transport}");
        let said = "this host has only IPv4 addresses, and the peer only IPv6 ones";
        assert!(reason(&report).ends_with(said), "{}", reason(&report));
        assert_eq!(report.advice.len(), 1, "{:?}", report.advice);
        assert!(report.advice[0].starts_with("IPv6 on this host"), "{:?}", report.advice);
    }
}

#[test]
fn news_of_an_address_of_the_common_family_lets_a_session_go_on() {
    let theirs = vec![told(Transport::Tcp, "[2001:db8::1]:5000")];
    let mut session = calling(TransportChoice::Tcp, theirs);
    let start = session.introduction.start;
    assert_eq!(session.ends_at(), start + NEWS);
    session.add_candidates(&[told(Transport::Tcp, "203.0.113.2:5000")], start);
    assert_eq!(session.ends_at(), session.deadline);
    let (report, elapsed) = failed(session, None);
    assert_eq!(elapsed, Duration::from_secs(10));
    assert!(reason(&report).ends_with("nothing of the peer's arrived here"));
}

#[test]
fn candidates_that_were_cut_off_may_be_of_the_other_family() {
    let theirs = (0..MAX_CANDIDATES).map(|number| {
        candidate(CandidateKind::Host, Transport::Tcp, &format!("[2001:db8::{number}]:5000"))
    });
    let session = calling(TransportChoice::Any, theirs.collect());
    assert_eq!(session.ends_at(), session.deadline);
}

#[test]
fn udp_that_does_not_get_out_is_named_on_the_side_where_it_does_not() {
    let both =
        || vec![told(Transport::Udp, "203.0.113.2:1"), told(Transport::Tcp, "203.0.113.2:2")];
    let only_tcp = || vec![told(Transport::Tcp, "203.0.113.2:2")];
    for (here, theirs, told_nat, said) in [
        (true, both(), None, "UDP does not get out of this host's network"),
        (false, only_tcp(), None, "UDP does not get out of the peer's network"),
        (false, Vec::new(), Some(nat(false)), "UDP does not get out of the peer's network"),
        (true, only_tcp(), None, "UDP does not get out of either host's network"),
        (
            false,
            only_tcp(),
            Some(nat(true)),
            "and this host have no address in common to try (transport udp)",
        ),
        (false, both(), Some(nat(false)), "nothing of the peer's arrived here"),
    ] {
        let mut session = calling(TransportChoice::Udp, theirs);
        session.introduction.nat = told_nat;
        if here {
            session.resources.udp_told.clear();
            session.resources.own.push(told(Transport::Tcp, "203.0.113.1:1001"));
        }
        let (report, _) = failed(session, None);
        assert!(reason(&report).ends_with(said), "{} instead of {said}", reason(&report));
        let last = report.advice.last().expect("advice");
        assert_eq!(last, "only udp was allowed: try transport any");
    }
}

#[test]
fn over_any_transport_the_silence_of_the_other_one_is_told_as_well() {
    let session = calling(TransportChoice::Any, vec![told(Transport::Tcp, "203.0.113.2:2")]);
    let (report, _) = failed(session, None);
    let said = "UDP does not get out of the peer's network, and nothing of the peer's arrived here \
                over TCP";
    assert!(reason(&report).ends_with(said), "{}", reason(&report));
}

/// A caller whose peer is there, behind a NAT that answers strangers so.
fn refused_by_whom(answer: UnsolicitedSyn) -> Session {
    let mut session = calling(TransportChoice::Tcp, vec![told(Transport::Tcp, "203.0.113.2:5000")]);
    let mut known = nat(true);
    known.tcp.unsolicited_syn = Some(answer);
    session.introduction.nat = Some(known);
    session.engine.theirs = Some(Standing::default());
    session
}

#[test]
fn refusals_that_a_silent_nat_did_not_send_come_from_before_it() {
    for (answer, failure, told) in [
        (UnsolicitedSyn::Silent, IoFailure::Refused, true),
        (UnsolicitedSyn::Rst, IoFailure::Refused, false),
        (UnsolicitedSyn::Silent, IoFailure::TimedOut, false),
    ] {
        let (report, _) = failed(refused_by_whom(answer), Some(failure));
        let said = reason(&report).contains("refused before they reach the peer");
        assert_eq!(said, told, "{answer:?}, {failure:?}: {}", reason(&report));
    }
}

//! Two punchers that tell each other by themselves, over real sockets of one host.

use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use ntcp::puncher::{Meeting, Offer, Puncher, Role};
use ntcp::{Config, Connection, Error, ErrorKind, Transport, TransportChoice};

use crate::common::{Running, exchange};

fn meeting(role: Role, transport: TransportChoice) -> Meeting {
    let (start, patience) = (Instant::now(), Duration::from_secs(5));
    Meeting { secret: [7; 32], role, transport, start, patience }
}

/// Both sides meet with what `agree` makes of an ordinary agreement.
fn meet(
    transport: TransportChoice,
    agree: impl Fn(Role, &mut Meeting, &mut Offer),
) -> [Result<Connection, Error>; 2] {
    let server = Running::start();
    async_io::block_on(async {
        let config = server.config();
        let (caller, callee) =
            futures::try_join!(Puncher::open(&config), Puncher::open(&config)).unwrap();
        // As text, the way an application carries it.
        let offers = [callee.offer(), caller.offer()].map(|it| it.to_string().parse::<Offer>());
        let [for_caller, for_callee] = offers.map(Result::unwrap);
        let side = async |puncher: Puncher, role, mut offer: Offer| {
            let mut meeting = meeting(role, transport);
            agree(role, &mut meeting, &mut offer);
            puncher.meet(&offer, meeting).await
        };
        let (one, other) = futures::join!(
            side(caller, Role::Controlling, for_caller),
            side(callee, Role::Controlled, for_callee),
        );
        [one, other]
    })
}

#[test]
fn two_punchers_meet_over_every_transport_and_carry_bytes() {
    for transport in [TransportChoice::Tcp, TransportChoice::Udp, TransportChoice::Any] {
        let [caller, callee] = meet(transport, |_, _, _| {});
        let (mut caller, mut callee) = (caller.unwrap(), callee.unwrap());
        match transport {
            TransportChoice::Tcp => assert_eq!(caller.transport(), Transport::Tcp),
            TransportChoice::Udp => assert_eq!(caller.transport(), Transport::Udp),
            TransportChoice::Any => assert_eq!(caller.transport(), callee.transport()),
        }
        let (to_caller, to_callee) = async_io::block_on(async {
            futures::join!(exchange(&mut caller, b"from caller"), exchange(&mut callee, b"back"))
        });
        assert_eq!((&to_caller[..], &to_callee[..]), (&b"back"[..], &b"from caller"[..]));
        assert!(caller.report().secured_ms.is_some());
    }
}

#[test]
fn who_does_not_know_the_secret_is_not_met() {
    let [caller, callee] = meet(TransportChoice::Any, |role, meeting, _| {
        meeting.patience = Duration::from_millis(700);
        if role == Role::Controlled {
            meeting.secret[0] ^= 1;
        }
    });
    for error in [caller.unwrap_err(), callee.unwrap_err()] {
        assert!(matches!(error.kind(), ErrorKind::NoPath { .. }), "{error:?}");
        assert!(!error.report().unwrap().attempts.is_empty());
    }
}

#[test]
fn a_udp_path_to_another_than_the_offers_maker_is_refused() {
    let [caller, _] = meet(TransportChoice::Udp, |role, _, offer| {
        if role == Role::Controlling {
            offer.fingerprint.0[0] ^= 1;
        }
    });
    let error = caller.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Secure { .. }), "{error:?}");
}

#[test]
fn a_peer_that_begins_later_is_met() {
    let [caller, callee] = meet(TransportChoice::Tcp, |role, meeting, _| {
        if role == Role::Controlling {
            meeting.start += Duration::from_millis(300);
        }
    });
    assert!(caller.is_ok() && callee.is_ok(), "{caller:?} {callee:?}");
}

#[test]
fn a_puncher_without_a_stun_server_says_so() {
    let error = async_io::block_on(Puncher::open(&Config::default())).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::NoStunServer), "{error:?}");
}

#[test]
fn a_dropped_meeting_frees_its_port() {
    let server = Running::start();
    async_io::block_on(async {
        let port = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut config = server.config();
        config.hole_punch.port = port;
        let puncher = Puncher::open(&config).await.unwrap();
        let offer = puncher.offer().clone();
        let meeting = meeting(Role::Controlling, TransportChoice::Udp);
        let mut meet: FuturesUnordered<_> = [puncher.meet(&offer, meeting)].into_iter().collect();
        assert!(futures::poll!(meet.next()).is_pending());
        drop(meet);
        let again = async {
            // The driver ends on its own thread.
            while std::net::UdpSocket::bind(("0.0.0.0", port)).is_err() {
                async_io::Timer::after(Duration::from_millis(5)).await;
            }
        };
        futures::future::select(Box::pin(again), async_io::Timer::after(Duration::from_secs(10)))
            .await;
        assert!(std::net::UdpSocket::bind(("0.0.0.0", port)).is_ok(), "port {port} is held");
    });
}

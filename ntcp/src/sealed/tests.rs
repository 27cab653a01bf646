//! Two ends on this machine. Tests.

use std::io::{Read, Write};
use std::net::TcpListener;

use async_io::block_on;
use futures::future::join;

use super::*;

fn pair() -> (Async<TcpStream>, Async<TcpStream>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let one = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (other, _) = listener.accept().unwrap();
    (Async::new(one).unwrap(), Async::new(other).unwrap())
}

fn key(number: u8) -> SecretKey {
    SecretKey::from_bytes([number; 32])
}

const SECRET: SessionSecret = SessionSecret([5; 32]);

/// Both ends, when the caller expects the owner of `callee` and the callee that of `caller`.
fn shaken(
    caller: PublicKey,
    callee: PublicKey,
) -> (Result<Sealed, String>, Result<Sealed, String>) {
    let (one, other) = pair();
    let (one_key, other_key) = (key(1), key(2));
    let calling =
        shake(one, (Role::Controlling, None), (&one_key, callee), &SECRET, Seed::from_number(1));
    let called =
        shake(other, (Role::Controlled, None), (&other_key, caller), &SECRET, Seed::from_number(2));
    block_on(join(calling, called))
}

fn good() -> (Sealed, Sealed) {
    let (one, other) = shaken(key(1).public(), key(2).public());
    (one.ok().unwrap(), other.ok().unwrap())
}

#[test]
fn bytes_come_out_as_they_went_in_both_ways_and_the_end_is_said() {
    let (mut one, mut other) = good();
    let text: Vec<u8> = (0..300_000u32).map(|it| it as u8).collect();
    let mut back = Vec::new();
    let sending = async {
        one.write_all(&text).await.unwrap();
        one.close().await.unwrap();
        one.read_to_end(&mut back).await.unwrap();
    };
    let echoing = async {
        let mut received = Vec::new();
        other.read_to_end(&mut received).await.unwrap();
        other.write_all(&received).await.unwrap();
        other.close().await.unwrap();
    };
    block_on(join(sending, echoing));
    assert_eq!(back, text);
}

#[test]
fn a_peer_with_another_key_is_refused_by_either_side() {
    let (one, _) = shaken(key(1).public(), key(9).public());
    assert!(one.is_err(), "the caller wanted somebody else");
    let (_, other) = shaken(key(9).public(), key(2).public());
    assert!(other.err().unwrap().contains("not the peer"), "the callee expected somebody else");
}

#[test]
fn another_meeting_is_refused() {
    let (one, other) = pair();
    let (one_key, other_key) = (key(1), key(2));
    let wrong = SessionSecret([6; 32]);
    let seed = Seed::from_number(1);
    let calling =
        shake(one, (Role::Controlling, None), (&one_key, other_key.public()), &SECRET, seed);
    let called =
        shake(other, (Role::Controlled, None), (&other_key, one_key.public()), &wrong, seed);
    let (one, other) = block_on(join(calling, called));
    assert!(one.is_err() && other.is_err());
}

#[test]
fn who_speaks_without_shaking_hands_is_told_what_may_be_the_matter() {
    let (one, other) = pair();
    other.get_ref().write_all(b"SSH-2.0-OpenSSH").unwrap();
    let identity = key(1);
    let seed = Seed::from_number(1);
    let shaking = shake(one, (Role::Controlled, None), (&identity, key(2).public()), &SECRET, seed);
    assert!(block_on(shaking).err().unwrap().contains("without encryption"));
}

#[test]
fn a_stream_that_is_cut_off_is_not_taken_for_one_that_ended() {
    let (mut one, mut other) = good();
    block_on(one.write_all(b"all of it")).unwrap();
    one.socket().shutdown(Shutdown::Write).unwrap();
    let mut received = Vec::new();
    let error = block_on(other.read_to_end(&mut received)).unwrap_err();
    assert_eq!((error.kind(), &received[..]), (io::ErrorKind::UnexpectedEof, &b"all of it"[..]));
}

/// Copies what passes between the two ends, and lets `change` have a look.
fn through_a_stranger(change: impl Fn(&mut Vec<u8>)) -> (Vec<u8>, io::Result<usize>) {
    let (mut one, stranger) = good();
    let mut wire = stranger.socket().try_clone().unwrap();
    wire.set_nonblocking(false).unwrap();
    block_on(one.write_all(b"a plain secret, and another")).unwrap();
    let mut record = vec![0; 2 + 27 + OVERHEAD];
    wire.read_exact(&mut record).unwrap();
    let seen = record.clone();
    change(&mut record);
    let (there, here) = pair();
    there.get_ref().write_all(&record).unwrap();
    drop(there);
    let mut other = Sealed { stream: here, ..stranger };
    let mut buffer = [0; 64];
    let read = block_on(other.read(&mut buffer));
    (seen, read)
}

#[test]
fn nobody_on_the_path_can_read_or_change_a_byte() {
    let (seen, read) = through_a_stranger(|_| {});
    assert!(!seen.windows(5).any(|it| it == b"plain"));
    assert_eq!(read.unwrap(), 27);
    for place in [0, 1, 2, 10, 28, 44] {
        let (_, read) = through_a_stranger(|record| record[place] ^= 1);
        let kind = read.unwrap_err().kind();
        let expected = [io::ErrorKind::InvalidData, io::ErrorKind::UnexpectedEof];
        assert!(expected.contains(&kind), "byte {place}: {kind:?}");
    }
    let (_, read) = through_a_stranger(|record| record.truncate(20));
    assert_eq!(read.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    let (_, read) = through_a_stranger(|record| record.splice(0..0, [0xFF, 0xFF]).for_each(drop));
    assert_eq!(read.unwrap_err().kind(), io::ErrorKind::InvalidData);
}

#[test]
fn a_writer_goes_on_when_the_reader_does() {
    let (mut one, mut other) = good();
    let mut written = 0;
    // Until neither the kernel nor we take more.
    loop {
        let mut once = Context::from_waker(futures::task::noop_waker_ref());
        match Pin::new(&mut one).poll_write(&mut once, &[7; MAX_RECORD]) {
            Poll::Ready(length) => written += length.unwrap(),
            Poll::Pending => break,
        }
    }
    let mut received = vec![0; written];
    block_on(join(one.flush(), other.read_exact(&mut received))).1.unwrap();
    assert!(received.iter().all(|it| *it == 7));
}

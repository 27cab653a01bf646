//! What it costs to read and to write the messages a STUN server lives on.
//!
//! `cargo bench -p ntcp-stun`. The Binding success response has 56 bytes: SOFTWARE, XOR-MAPPED-ADDRESS and
//! FINGERPRINT. The signed one has MESSAGE-INTEGRITY before the FINGERPRINT, 80 bytes. The server's share of a Binding
//! is measured with one address, where the reply has 32 bytes, and with two, where it has 68.

use criterion::{Criterion, criterion_group, criterion_main};
use ntcp_stun::attribute::{Software, XorMappedAddress};
use ntcp_stun::server::{Quartet, Request, Server, Transport};
use ntcp_stun::{Check, Class, Key, Message, Method, TransactionId, WriteError, Writer};
use std::hint::black_box;
use std::net::SocketAddr;

const ID: TransactionId = TransactionId::new(*b"bench-stun-1");

/// A Binding success response with FINGERPRINT, and MESSAGE-INTEGRITY if there is a key.
fn write(buffer: &mut [u8], mapped: SocketAddr, key: Option<&Key>) -> Result<usize, WriteError> {
    let mut writer = Writer::new(buffer, Class::Success, Method::BINDING, ID)?;
    writer.attribute(&Software::new("ntcp 1.0.0")?)?;
    writer.attribute(&XorMappedAddress(mapped))?;
    if let Some(key) = key {
        writer.integrity(key)?;
    }
    writer.fingerprint()?;
    Ok(writer.finish())
}

/// The mapped address of a response whose FINGERPRINT is right.
fn read(bytes: &[u8]) -> Option<SocketAddr> {
    let message = Message::parse(bytes).ok()?;
    if message.fingerprint() != Check::Valid {
        return None;
    }
    message.attribute::<XorMappedAddress>().ok()?.map(|it| it.0)
}

/// The mapped address of a response whose FINGERPRINT and MESSAGE-INTEGRITY are right.
fn read_signed(bytes: &[u8], key: &Key) -> Option<SocketAddr> {
    let message = Message::parse(bytes).ok()?;
    if message.integrity(key) != Check::Valid {
        return None;
    }
    read(bytes)
}

fn codec(criterion: &mut Criterion) {
    let mapped = SocketAddr::from(([192, 0, 2, 1], 32853));
    let key = Key::short_term(b"VOkJxbRl1RmTxUk/WvJxBt");
    let mut buffer = [0; 128];

    let length = write(&mut buffer, mapped, None).expect("128 bytes suffice");
    assert_eq!(length, 56);
    let plain = buffer[..length].to_vec();
    assert_eq!(read(&plain), Some(mapped));

    let length = write(&mut buffer, mapped, Some(&key)).expect("128 bytes suffice");
    assert_eq!(length, 80);
    let signed = buffer[..length].to_vec();
    assert_eq!(read_signed(&signed, &key), Some(mapped));

    criterion.bench_function("parse", |bencher| {
        bencher.iter(|| Message::parse(black_box(&plain)).is_ok());
    });
    criterion.bench_function("decode + fingerprint + xor address (56 B)", |bencher| {
        bencher.iter(|| read(black_box(&plain)));
    });
    criterion.bench_function("encode with fingerprint (56 B)", |bencher| {
        bencher.iter(|| write(black_box(&mut buffer), black_box(mapped), None));
    });
    criterion.bench_function("decode + fingerprint + xor address + integrity (80 B)", |bencher| {
        bencher.iter(|| read_signed(black_box(&signed), &key));
    });
    criterion.bench_function("encode with integrity and fingerprint (80 B)", |bencher| {
        bencher.iter(|| write(black_box(&mut buffer), black_box(mapped), Some(&key)));
    });
}

fn server(criterion: &mut Criterion) {
    let at = |text: &str| text.parse::<SocketAddr>().expect("an address");
    let local = at("192.0.2.1:3478");
    let mut bytes = [0; 20];
    Writer::new(&mut bytes, Class::Request, Method::BINDING, ID).expect("20 bytes suffice");
    let source = at("198.51.100.7:40000");
    let request = Request { bytes: &bytes, source, local, transport: Transport::Udp };
    let quartet = Quartet::new(local, at("192.0.2.2:3479")).expect("valid");
    let mut with_two = Server::new();
    with_two.add_quartet(quartet);
    for (name, mut server) in [("one address", Server::new()), ("two addresses", with_two)] {
        let mut reply = [0; 128];
        criterion.bench_function(&format!("server with {name} answers a Binding"), |bencher| {
            bencher.iter(|| server.handle_request(black_box(request), &mut reply));
        });
    }
}

criterion_group!(benches, codec, server);
criterion_main!(benches);

//! The program that answers.
//!
//! ```text
//!  offset   request                             reply
//!       0   Ethernet: destination, source       exchanged
//!      14   IPv4, no options, 48 bytes          60 bytes, TTL 64, no fragments, addresses exchanged, sum
//!      34   UDP: ports, 28 bytes                ports exchanged, 40 bytes, sum
//!      42   STUN: 0001, length 0, cookie, id    0101, length 12, cookie, id
//!      62   the end                             XOR-MAPPED-ADDRESS (RFC 8489, section 14.2)
//! ```
//!
//! The reply is 12 bytes longer. Behind a packet there is no room in most drivers, but before it: so it begins 12 bytes
//! earlier, and what is needed of the request is kept on the stack.

use super::assembly::{Compare, Operation, Program, Register, Width, network16, network32};
use super::{Bucket, CELLS, Terms};

/// Numbers of helpers, from `linux/bpf.h`.
const MAP_LOOKUP: i32 = 1;
const TIME: i32 = 5;
const SUM_OF_DIFFERENCE: i32 = 28;
const ADJUST_HEAD: i32 = 44;
/// What becomes of a packet (`enum xdp_action`).
const DROP: i32 = 1;
const PASS: i32 = 2;
const SEND_BACK: i32 = 3;

const R0: Register = Register(0);
const R1: Register = Register(1);
const R2: Register = Register(2);
const R3: Register = Register(3);
const R4: Register = Register(4);
const R5: Register = Register(5);
const R6: Register = Register(6);
const R7: Register = Register(7);
const R8: Register = Register(8);
const R9: Register = Register(9);
const STACK: Register = Register(10);

/// What is kept on the stack, by its distance to the end: both Ethernet addresses, both IP addresses, both ports, the id.
const MACS: i16 = -40;
const SOURCE: i16 = -28;
const DESTINATION: i16 = -24;
const PORTS: i16 = -20;
const ID: i16 = -16;
/// The key for a look into a map.
const KEY: i16 = -44;

/// Lengths of the request's and the reply's frames.
const ASKED: i32 = 62;
const ANSWERED: i32 = 74;

/// The program for these terms, with a map for its count and one for its budget.
pub(super) fn program(terms: &Terms, answered: i32, cells: i32) -> Program {
    let mut program = Program::default();
    let (pass, drop) = (program.label(), program.label());
    let code = &mut program;
    check_request(code, terms, pass);
    keep_request(code);
    if let Some(bucket) = terms.budget {
        charge(code, (terms, bucket), cells, pass);
    }
    // Twelve bytes more in front.
    code.with(Operation::Move, R1, R6);
    code.by(Operation::Move, R2, ASKED - ANSWERED);
    code.call(ADJUST_HEAD);
    code.jump_by(R0, Compare::NotEqual, 0, pass);
    code.load(Width::Word, R2, R6, 0);
    code.load(Width::Word, R3, R6, 4);
    bound(code, ANSWERED, drop);
    code.with(Operation::Move, R6, R2);
    write_headers(code);
    write_message(code);
    write_sums(code);
    count(code, answered);
    code.exit(SEND_BACK);
    code.place(pass);
    code.exit(PASS);
    code.place(drop);
    code.exit(DROP);
    program
}

/// Jumps unless `length` bytes from r2 on end before r3.
fn bound(code: &mut Program, length: i32, elsewhere: super::assembly::Label) {
    code.with(Operation::Move, R4, R2);
    code.by(Operation::Add, R4, length);
    code.jump(R4, Compare::Greater, R3, elsewhere);
}

/// Passes whatever is not a request to be answered. r6 is the packet's context, r2 its first byte.
fn check_request(code: &mut Program, terms: &Terms, pass: super::assembly::Label) {
    code.with(Operation::Move, R6, R1);
    code.load(Width::Word, R2, R1, 0);
    code.load(Width::Word, R3, R1, 4);
    bound(code, ASKED, pass);
    let mut want = |width, offset, value| {
        code.load(width, R5, R2, offset);
        // Loaded without a sign, so what it is compared with must have none either.
        code.by32(Operation::Move, R7, value);
        code.jump(R5, Compare::NotEqual, R7, pass);
    };
    want(Width::Half, 12, network16(0x0800));
    want(Width::Byte, 14, 0x45);
    want(Width::Half, 16, network16(48));
    want(Width::Byte, 23, 17);
    want(Width::Word, 30, network32(u32::from(*terms.address.ip())));
    want(Width::Half, 36, network16(terms.address.port()));
    want(Width::Half, 38, network16(28));
    want(Width::Word, 42, network32(0x0001_0000));
    want(Width::Word, 46, network32(0x2112_A442));
    // No fragment: neither "more" nor an offset.
    code.load(Width::Half, R5, R2, 20);
    code.by(Operation::And, R5, network16(0x3FFF));
    code.jump_by(R5, Compare::NotEqual, 0, pass);
    // Nothing can be sent to port 0.
    code.load(Width::Half, R5, R2, 34);
    code.jump_by(R5, Compare::Equal, 0, pass);
}

fn keep_request(code: &mut Program) {
    let words = [(0, MACS), (4, MACS + 4), (8, MACS + 8), (26, SOURCE), (30, DESTINATION)];
    let rest = [(34, PORTS), (50, ID), (54, ID + 4), (58, ID + 8)];
    for (from, to) in words.into_iter().chain(rest) {
        code.load(Width::Word, R5, R2, from);
        code.store(Width::Word, STACK, to, R5);
    }
}

/// Passes who is over the budget, by the generic cell rate algorithm; several processors may lose a count.
fn charge(
    code: &mut Program,
    (terms, bucket): (&Terms, Bucket),
    cells: i32,
    pass: super::assembly::Label,
) {
    code.call(TIME);
    code.with(Operation::Move, R7, R0);
    // The first three octets, hashed.
    code.load(Width::Word, R8, STACK, SOURCE);
    code.by(Operation::And, R8, i32::from_ne_bytes([0xFF, 0xFF, 0xFF, 0]));
    code.by32(Operation::Xor, R8, terms.key as i32);
    code.by32(Operation::Move, R9, 0x9E37_79B1_u32 as i32);
    code.with(Operation::Multiply, R8, R9);
    code.by(Operation::ShiftRight, R8, 24);
    code.by(Operation::And, R8, CELLS as i32 - 1);
    code.store(Width::Word, STACK, KEY, R8);
    look_up(code, cells);
    code.jump_by(R0, Compare::Equal, 0, pass);
    code.with(Operation::Move, R9, R0);
    // When the cell will be empty, with this reply.
    code.load(Width::Double, R1, R9, 0);
    let ahead = code.label();
    code.jump(R1, Compare::GreaterOrEqual, R7, ahead);
    code.with(Operation::Move, R1, R7);
    code.place(ahead);
    code.by(Operation::Add, R1, bucket.interval() as i32);
    code.with(Operation::Move, R2, R1);
    code.with(Operation::Subtract, R2, R7);
    code.number(R3, bucket.tolerance(bucket.burst));
    if let Some((network, prefix, burst)) = terms.neighbours {
        let mask = u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0);
        let stranger = code.label();
        code.load(Width::Word, R4, STACK, SOURCE);
        code.by32(Operation::And, R4, network32(mask));
        code.by32(Operation::Move, R5, network32(u32::from(network) & mask));
        code.jump(R4, Compare::NotEqual, R5, stranger);
        code.number(R3, bucket.tolerance(burst));
        code.place(stranger);
    }
    code.jump(R2, Compare::Greater, R3, pass);
    code.store(Width::Double, R9, 0, R1);
}

/// r0 is the place of the key in the map, or 0.
fn look_up(code: &mut Program, map: i32) {
    code.map(R1, map);
    code.with(Operation::Move, R2, STACK);
    code.by(Operation::Add, R2, i32::from(KEY));
    code.call(MAP_LOOKUP);
}

/// r6 is the first byte from here on.
fn write_headers(code: &mut Program) {
    code.load(Width::Word, R4, STACK, MACS + 8);
    code.load(Width::Half, R5, STACK, MACS + 6);
    code.store(Width::Half, R6, 0, R5);
    code.store(Width::Word, R6, 2, R4);
    code.load(Width::Word, R4, STACK, MACS);
    code.load(Width::Half, R5, STACK, MACS + 4);
    code.store(Width::Word, R6, 6, R4);
    code.store(Width::Half, R6, 10, R5);
    code.put(Width::Half, R6, 12, network16(0x0800));
    code.put(Width::Half, R6, 14, network16(0x4500));
    code.put(Width::Half, R6, 16, network16(60));
    code.put(Width::Half, R6, 18, 0);
    code.put(Width::Half, R6, 20, network16(0x4000));
    code.put(Width::Half, R6, 22, network16(64 << 8 | 17));
    code.put(Width::Half, R6, 24, 0);
    code.load(Width::Word, R4, STACK, DESTINATION);
    code.store(Width::Word, R6, 26, R4);
    code.load(Width::Word, R4, STACK, SOURCE);
    code.store(Width::Word, R6, 30, R4);
    code.load(Width::Half, R7, STACK, PORTS);
    code.load(Width::Half, R8, STACK, PORTS + 2);
    code.store(Width::Half, R6, 34, R8);
    code.store(Width::Half, R6, 36, R7);
    code.put(Width::Half, R6, 38, network16(40));
    code.put(Width::Half, R6, 40, 0);
}

/// r4 is the client's address, r7 its port.
fn write_message(code: &mut Program) {
    code.put(Width::Word, R6, 42, network32(0x0101_000C));
    code.put(Width::Word, R6, 46, network32(0x2112_A442));
    for place in [0, 4, 8] {
        code.load(Width::Word, R5, STACK, ID + place);
        code.store(Width::Word, R6, 50 + place, R5);
    }
    code.put(Width::Word, R6, 62, network32(0x0020_0008));
    code.put(Width::Half, R6, 66, network16(0x0001));
    code.by(Operation::Xor, R7, network16(0x2112));
    code.store(Width::Half, R6, 68, R7);
    code.by32(Operation::Xor, R4, network32(0x2112_A442));
    code.store(Width::Word, R6, 70, R4);
}

/// The sums of RFC 791 and RFC 768.
fn write_sums(code: &mut Program) {
    sum(code, 14, 20, 0);
    fold(code);
    code.store(Width::Half, R6, 24, R0);
    // The pseudo header: addresses, protocol, length.
    sum(code, 26, 8, network16(17) + network16(40));
    code.with(Operation::Move, R5, R0);
    sum_on(code, 34, 40);
    fold(code);
    let is_told = code.label();
    code.jump_by(R0, Compare::NotEqual, 0, is_told);
    code.by(Operation::Move, R0, 0xFFFF);
    code.place(is_told);
    code.store(Width::Half, R6, 40, R0);
}

/// r0 is the sum of `length` bytes and of `seed`.
fn sum(code: &mut Program, offset: i32, length: i32, seed: i32) {
    code.by(Operation::Move, R5, seed);
    sum_on(code, offset, length);
}

/// The same with the seed in r5.
fn sum_on(code: &mut Program, offset: i32, length: i32) {
    code.by(Operation::Move, R1, 0);
    code.by(Operation::Move, R2, 0);
    code.with(Operation::Move, R3, R6);
    code.by(Operation::Add, R3, offset);
    code.by(Operation::Move, R4, length);
    code.call(SUM_OF_DIFFERENCE);
}

/// Makes 16 bits of the sum in r0, inverted.
fn fold(code: &mut Program) {
    for _ in 0..2 {
        code.with(Operation::Move, R1, R0);
        code.by(Operation::ShiftRight, R1, 16);
        code.by(Operation::And, R0, 0xFFFF);
        code.with(Operation::Add, R0, R1);
    }
    code.by(Operation::Xor, R0, 0xFFFF);
}

fn count(code: &mut Program, answered: i32) {
    code.put(Width::Word, STACK, KEY, 0);
    look_up(code, answered);
    let uncounted = code.label();
    code.jump_by(R0, Compare::Equal, 0, uncounted);
    code.by(Operation::Move, R1, 1);
    code.atomic_add(R0, R1);
    code.place(uncounted);
}

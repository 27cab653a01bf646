//! [`Program`]: instructions of BPF (RFC 9669), written one by one.

/// A register: r0 is the result of calls, r1 to r5 their arguments, r6 to r9 survive them, r10 is the end of the stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Register(pub(super) u8);

/// How many bytes are loaded or stored, as the bits of the operation (RFC 9669, section 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Width {
    Byte = 0x10,
    Half = 0x08,
    Word = 0x00,
    Double = 0x18,
}

/// Comparisons, as the bits of a jump (RFC 9669, section 4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compare {
    Equal = 0x10,
    Greater = 0x20,
    GreaterOrEqual = 0x30,
    NotEqual = 0x50,
}

/// Arithmetic, as the bits of the operation (RFC 9669, section 4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    Add = 0x00,
    Subtract = 0x10,
    Multiply = 0x20,
    And = 0x50,
    ShiftRight = 0x70,
    Xor = 0xA0,
    Move = 0xB0,
}

/// Where jumps go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Label(usize);

/// A program in the making.
#[derive(Debug, Default)]
pub(super) struct Program {
    code: Vec<[u8; 8]>,
    /// Jumps, and the labels they go to.
    jumps: Vec<(usize, Label)>,
    places: Vec<Option<usize>>,
}

/// The number as it stands in memory where the network has written it.
pub(super) const fn network16(value: u16) -> i32 {
    value.to_be() as i32
}

/// The same for 32 bits.
pub(super) const fn network32(value: u32) -> i32 {
    value.to_be() as i32
}

impl Program {
    fn push(&mut self, operation: u8, to: Register, from: Register, offset: i16, value: i32) {
        let registers = to.0 | from.0 << 4;
        let [low, high] = offset.to_ne_bytes();
        let [a, b, c, d] = value.to_ne_bytes();
        self.code.push([operation, registers, low, high, a, b, c, d]);
    }

    /// `to = *(from + offset)`.
    pub(super) fn load(&mut self, width: Width, to: Register, from: Register, offset: i16) {
        self.push(0x61 | width as u8, to, from, offset, 0);
    }

    /// `*(to + offset) = from`.
    pub(super) fn store(&mut self, width: Width, to: Register, offset: i16, from: Register) {
        self.push(0x63 | width as u8, to, from, offset, 0);
    }

    /// `*(to + offset) = value`.
    pub(super) fn put(&mut self, width: Width, to: Register, offset: i16, value: i32) {
        self.push(0x62 | width as u8, to, Register(0), offset, value);
    }

    /// `to = to operation from`, 64 bits.
    pub(super) fn with(&mut self, operation: Operation, to: Register, from: Register) {
        self.push(0x0F | operation as u8, to, from, 0, 0);
    }

    /// `to = to operation value`, 64 bits, the value with its sign.
    pub(super) fn by(&mut self, operation: Operation, to: Register, value: i32) {
        self.push(0x07 | operation as u8, to, Register(0), 0, value);
    }

    /// The same with 32 bits, the others zero.
    pub(super) fn by32(&mut self, operation: Operation, to: Register, value: i32) {
        self.push(0x04 | operation as u8, to, Register(0), 0, value);
    }

    /// A 64-bit number.
    pub(super) fn number(&mut self, to: Register, value: u64) {
        self.wide(to, Register(0), value);
    }

    /// A map, by its descriptor (RFC 9669, section 5.4).
    pub(super) fn map(&mut self, to: Register, descriptor: i32) {
        self.wide(to, Register(1), u64::from(descriptor as u32));
    }

    fn wide(&mut self, to: Register, kind: Register, value: u64) {
        self.push(0x18, to, kind, 0, value as i32);
        self.push(0x00, Register(0), Register(0), 0, (value >> 32) as i32);
    }

    /// `*(to + 0) += from`, 64 bits, at once for all processors.
    pub(super) fn atomic_add(&mut self, to: Register, from: Register) {
        self.push(0xDB, to, from, 0, 0);
    }

    /// Calls a helper of the kernel's, by its number in `linux/bpf.h`.
    pub(super) fn call(&mut self, helper: i32) {
        self.push(0x85, Register(0), Register(0), 0, helper);
    }

    /// Ends with this result.
    pub(super) fn exit(&mut self, result: i32) {
        self.by(Operation::Move, Register(0), result);
        self.push(0x95, Register(0), Register(0), 0, 0);
    }

    /// A label, to be placed later.
    pub(super) fn label(&mut self) -> Label {
        self.places.push(None);
        Label(self.places.len() - 1)
    }

    /// Jumps to that label lead here.
    pub(super) fn place(&mut self, label: Label) {
        self.places[label.0] = Some(self.code.len());
    }

    /// Jumps if `left compare right`.
    pub(super) fn jump(&mut self, left: Register, compare: Compare, right: Register, to: Label) {
        self.jumps.push((self.code.len(), to));
        self.push(0x0D | compare as u8, left, right, 0, 0);
    }

    /// Jumps if `left compare value`.
    pub(super) fn jump_by(&mut self, left: Register, compare: Compare, value: i32, to: Label) {
        self.jumps.push((self.code.len(), to));
        self.push(0x05 | compare as u8, left, Register(0), 0, value);
    }

    /// The program with its jumps; a jump to a label that was never placed leads to the next instruction.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut code = self.code.clone();
        for &(from, label) in &self.jumps {
            let distance = self.places[label.0].map_or(0, |to| to as i64 - from as i64 - 1);
            let [low, high] = (distance as i16).to_ne_bytes();
            (code[from][2], code[from][3]) = (low, high);
        }
        code.concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn instructions_are_as_the_standard_has_them() {
        let mut program = Program::default();
        let end = program.label();
        program.load(Width::Half, Register(5), Register(2), 12);
        program.jump_by(Register(5), Compare::NotEqual, network16(0x0800), end);
        program.jump(Register(4), Compare::Greater, Register(3), end);
        program.number(Register(3), 0x1122_3344_5566_7788);
        program.place(end);
        program.exit(2);
        let expected = [
            [0x69, 0x25, 12, 0, 0, 0, 0, 0],
            [0x55, 0x05, 3, 0, 0x08, 0, 0, 0],
            [0x2D, 0x34, 2, 0, 0, 0, 0, 0],
            [0x18, 0x03, 0, 0, 0x88, 0x77, 0x66, 0x55],
            [0, 0, 0, 0, 0x44, 0x33, 0x22, 0x11],
            [0xB7, 0, 0, 0, 2, 0, 0, 0],
            [0x95, 0, 0, 0, 0, 0, 0, 0],
        ];
        assert_eq!(program.bytes(), expected.concat());
    }
}

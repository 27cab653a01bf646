//! The fields of the header: class, method, transaction id.

use std::fmt;

/// Length of the header in bytes (RFC 8489, section 5).
pub const HEADER_LENGTH: usize = 20;

/// The fixed bytes 4 to 8 of every message since RFC 5389 (RFC 8489, section 5).
pub const MAGIC_COOKIE: [u8; 4] = [0x21, 0x12, 0xA4, 0x42];

/// What kind of message this is: the bits C1 and C0 of the message type (RFC 8489, section 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// Asks for a response (0b00).
    Request,
    /// Is not answered (0b01).
    Indication,
    /// The request was done (0b10).
    Success,
    /// The request was refused; an ERROR-CODE says why (0b11).
    Error,
}

/// What a message is about: 12 bits of the message type (RFC 8489, sections 5 and 18.2).
///
/// Any number up to 0xFFF may be used. 0x100 to 0xFFF are not assignable by IANA, because on ports shared with
/// DTLS they cannot be told apart from it (RFC 8489, section 18.2); a protocol of one's own may use them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Method(u16);

impl Method {
    /// Binding (RFC 8489, section 18.2).
    pub const BINDING: Self = Self(0x001);
    /// Shared Secret, of RFC 3489 only (section 11.1 there); reserved since.
    pub const SHARED_SECRET: Self = Self(0x002);
    /// The greatest number that fits into 12 bits.
    pub const MAX: u16 = 0xFFF;

    /// The method with this number, or `None` above [`Method::MAX`].
    pub const fn new(number: u16) -> Option<Self> {
        if number <= Self::MAX { Some(Self(number)) } else { None }
    }

    /// The method's number, 0 to 0xFFF.
    pub const fn number(self) -> u16 {
        self.0
    }
}

impl fmt::Debug for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Method({self})")
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::BINDING => f.write_str("Binding"),
            Self::SHARED_SECRET => f.write_str("Shared Secret"),
            Self(number) => write!(f, "{number:#05x}"),
        }
    }
}

/// The 96 bits that pair a response with its request (RFC 8489, section 5).
///
/// They must be drawn uniformly from a cryptographic source, by the caller: they are what keeps an attacker who
/// cannot see the request from answering it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TransactionId([u8; 12]);

impl TransactionId {
    /// The id made of these bytes.
    pub const fn new(bytes: [u8; 12]) -> Self {
        Self(bytes)
    }

    /// The bytes as they stand in the header.
    pub const fn as_bytes(&self) -> &[u8; 12] {
        &self.0
    }
}

impl From<[u8; 12]> for TransactionId {
    fn from(bytes: [u8; 12]) -> Self {
        Self(bytes)
    }
}

impl fmt::Debug for TransactionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TransactionId({self})")
    }
}

impl fmt::Display for TransactionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The 14-bit message type of a class and a method.
///
/// ```text
///  13 12 11 10  9  8  7  6  5  4  3  2  1  0
///  M11..........M7 C1 M6....M4 C0 M3......M0
/// ```
pub(crate) const fn message_type(class: Class, method: Method) -> u16 {
    let class = match class {
        Class::Request => 0x000,
        Class::Indication => 0x010,
        Class::Success => 0x100,
        Class::Error => 0x110,
    };
    let Method(m) = method;
    class | (m & 0x00F) | ((m & 0x070) << 1) | ((m & 0xF80) << 2)
}

/// The class within a message type.
pub(crate) const fn class_of(message_type: u16) -> Class {
    match (message_type & 0x100 != 0, message_type & 0x010 != 0) {
        (false, false) => Class::Request,
        (false, true) => Class::Indication,
        (true, false) => Class::Success,
        (true, true) => Class::Error,
    }
}

/// The method within a message type.
pub(crate) const fn method_of(message_type: u16) -> Method {
    Method((message_type & 0x00F) | ((message_type >> 1) & 0x070) | ((message_type >> 2) & 0xF80))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_and_method_survives_the_message_type() {
        for class in [Class::Request, Class::Indication, Class::Success, Class::Error] {
            for number in 0..=Method::MAX {
                let method = Method::new(number).expect("within 12 bits");
                let message_type = message_type(class, method);
                assert!(message_type < 0x4000);
                assert_eq!(class_of(message_type), class);
                assert_eq!(method_of(message_type), method);
            }
        }
    }

    #[test]
    fn binding_types_are_those_of_the_rfc() {
        assert_eq!(message_type(Class::Request, Method::BINDING), 0x0001);
        assert_eq!(message_type(Class::Indication, Method::BINDING), 0x0011);
        assert_eq!(message_type(Class::Success, Method::BINDING), 0x0101);
        assert_eq!(message_type(Class::Error, Method::BINDING), 0x0111);
    }

    #[test]
    fn a_method_beyond_twelve_bits_does_not_exist() {
        assert_eq!(Method::new(0x1000), None);
        assert_eq!(Method::new(0xFFF).map(Method::number), Some(0xFFF));
    }
}

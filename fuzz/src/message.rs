//! Any bytes as a STUN message.

use ntcp_stun::attribute::{
    AlternateDomain, AlternateServer, ChangeRequest, ChangedAddress, ErrorCode, IceControlled,
    IceControlling, MappedAddress, Nonce, OtherAddress, Padding, PasswordAlgorithm,
    PasswordAlgorithms, Priority, Realm, ReflectedFrom, ResponseAddress, ResponseOrigin,
    ResponsePort, Software, SourceAddress, UnknownAttributes, UseCandidate, Userhash, Username,
    XorMappedAddress,
};
use ntcp_stun::framing::{Frame, frame};
use ntcp_stun::{AttributeType, Check, Key, Message, RawAttribute, Writer};

/// Parses `bytes`, reads everything there is to read, and writes it again.
///
/// # Panics
///
/// If anything that must hold does not.
pub fn check(bytes: &[u8]) {
    let framed = frame(bytes, 0x1_0013 + 1);
    let Ok(message) = Message::parse_classic(bytes) else { return };
    assert_eq!(Message::parse(bytes).is_err(), message.is_classic());
    if !message.is_classic() {
        assert_eq!(framed, Ok(Frame::Complete { length: bytes.len() }));
    }
    let _ = format!("{message:?}");
    read_all(&message);
    check_trailer(&message);
    write_again(&message);
}

/// Decodes each attribute by every type.
fn read_all(message: &Message<'_>) {
    macro_rules! read {
        ($($attribute:ident)*) => {
            $(let _ = message.attribute::<$attribute>();)*
        };
    }
    read! {
        AlternateDomain AlternateServer ChangeRequest ChangedAddress ErrorCode IceControlled
        IceControlling MappedAddress Nonce OtherAddress Padding PasswordAlgorithm
        PasswordAlgorithms Priority Realm ReflectedFrom ResponseAddress ResponseOrigin
        ResponsePort Software SourceAddress UnknownAttributes UseCandidate Userhash Username
        XorMappedAddress
    }
    let _ = message.unknown_required(&[AttributeType::CHANGE_REQUEST]).count();
}

/// The check values are seen by the iterator and by the checks alike.
fn check_trailer(message: &Message<'_>) {
    let key = Key::short_term(b"a key nobody signs with");
    let present = |wanted| message.attributes().any(|it| it.attribute_type == wanted);
    for (attribute_type, check) in [
        (AttributeType::FINGERPRINT, message.fingerprint()),
        (AttributeType::MESSAGE_INTEGRITY, message.integrity(&key)),
        (AttributeType::MESSAGE_INTEGRITY_SHA256, message.integrity_sha256(&key)),
    ] {
        assert_eq!(present(attribute_type), check != Check::Absent, "{attribute_type}");
    }
}

/// A message written from what was read has the same attributes.
fn write_again(message: &Message<'_>) {
    let is_trailer = |it: &RawAttribute<'_>| {
        [
            AttributeType::MESSAGE_INTEGRITY,
            AttributeType::MESSAGE_INTEGRITY_SHA256,
            AttributeType::FINGERPRINT,
        ]
        .contains(&it.attribute_type)
    };
    let mut buffer = vec![0xEE; message.as_bytes().len() + 8];
    let mut writer =
        Writer::reply(&mut buffer, message.class(), message).expect("room for a header");
    for attribute in message.attributes().filter(|it| !is_trailer(it)) {
        writer.raw_attribute(attribute.attribute_type, attribute.value).expect("it fitted before");
    }
    if writer.fingerprint().is_err() {
        return; // the message was as long as messages can be
    }
    let length = writer.finish();
    let again = Message::parse_classic(&buffer[..length]).expect("what we write is well-formed");
    assert_eq!(again.fingerprint(), Check::Valid);
    assert_eq!(again.class(), message.class());
    assert_eq!(again.method(), message.method());
    assert_eq!(again.transaction_id(), message.transaction_id());
    assert!(
        again
            .attributes()
            .filter(|it| !is_trailer(it))
            .eq(message.attributes().filter(|it| !is_trailer(it)))
    );
}

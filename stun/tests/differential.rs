//! The same messages by two other codecs: `stun-types` for RFC 8489, `stun_codec` for RFC 5389, 5780 and 8445.
//!
//! Both ways: what they write must be, byte for byte, what we write from the same values, and what we write must
//! read as those values there. On bytes drawn at random, what both accept must mean the same.

use ntcp_stun::attribute::{self, Algorithm};
use ntcp_stun::{Check, Class, Key, Message, Method, TransactionId, Writer};
use proptest::prelude::*;
use std::net::{IpAddr, SocketAddr};

/// The values of one message.
#[derive(Clone, Debug)]
struct Values {
    class: Class,
    id: [u8; 12],
    address: SocketAddr,
    other: SocketAddr,
    username: String,
    realm: String,
    nonce: String,
    software: String,
    password: String,
    code: u16,
    unknown: Vec<u16>,
    number: u64,
    port: u16,
}

fn any_class() -> impl Strategy<Value = Class> {
    prop::sample::select(vec![Class::Request, Class::Indication, Class::Success, Class::Error])
}

fn any_address() -> impl Strategy<Value = SocketAddr> {
    any::<(IpAddr, u16)>().prop_map(SocketAddr::from)
}

prop_compose! {
    fn values()(
        class in any_class(),
        id in any::<[u8; 12]>(),
        addresses in (any_address(), any_address()),
        texts in ("[!-~]{1,40}", "[a-z.]{1,20}", "[!-~]{1,30}", "[ -~]{0,50}", "[!-~]{1,30}"),
        code in 300_u16..600,
        unknown in prop::collection::btree_set(any::<u16>(), 1..8),
        number in any::<u64>(),
        port in any::<u16>(),
    ) -> Values {
        Values {
            class,
            id,
            address: addresses.0,
            other: addresses.1,
            username: texts.0,
            realm: texts.1,
            nonce: texts.2,
            software: texts.3,
            password: texts.4,
            code,
            unknown: unknown.into_iter().collect(),
            number,
            port,
        }
    }
}

/// A message by our writer.
fn ours(
    values: &Values,
    fill: impl FnOnce(&mut Writer<'_>) -> Result<(), ntcp_stun::WriteError>,
) -> Vec<u8> {
    let mut buffer = vec![0xEE; 1500];
    let id = TransactionId::new(values.id);
    let mut writer =
        Writer::new(&mut buffer, values.class, Method::BINDING, id).expect("room for a header");
    fill(&mut writer).expect("room for attributes");
    let length = writer.finish();
    buffer.truncate(length);
    buffer
}

mod rfc_8489 {
    use super::*;
    use stun_types::attribute::{
        AlternateDomain, AlternateServer, ErrorCode, Fingerprint, Nonce, PasswordAlgorithm,
        PasswordAlgorithmValue, PasswordAlgorithms, Realm, Software, UnknownAttributes, Userhash,
        Username, XorMappedAddress,
    };
    use stun_types::message::{
        BINDING, IntegrityAlgorithm, LongTermKeyCredentials, Message as Theirs, MessageClass,
        MessageIntegrityCredentials, MessageType, MessageWrite, MessageWriteExt, MessageWriteVec,
    };

    fn their_class(class: Class) -> MessageClass {
        match class {
            Class::Request => MessageClass::Request,
            Class::Indication => MessageClass::Indication,
            Class::Success => MessageClass::Success,
            Class::Error => MessageClass::Error,
        }
    }

    fn builder(values: &Values) -> MessageWriteVec {
        let message_type = MessageType::from_class_method(their_class(values.class), BINDING);
        let mut id = [0; 16];
        id[4..].copy_from_slice(&values.id);
        Theirs::builder(message_type, u128::from_be_bytes(id).into(), MessageWriteVec::new())
    }

    fn credentials(values: &Values) -> MessageIntegrityCredentials {
        LongTermKeyCredentials::new(
            values.username.clone(),
            values.password.clone(),
            values.realm.clone(),
        )
        .into()
    }

    fn theirs(values: &Values) -> Vec<u8> {
        let mut writer = builder(values);
        let id = writer.transaction_id();
        let types: Vec<_> = values.unknown.iter().map(|it| (*it).into()).collect();
        let algorithms = [PasswordAlgorithmValue::SHA256, PasswordAlgorithmValue::MD5];
        writer.add_attribute(&Username::new(&values.username).unwrap()).unwrap();
        writer
            .add_attribute(&Userhash::new(Userhash::compute(&values.username, &values.realm)))
            .unwrap();
        writer.add_attribute(&Realm::new(&values.realm).unwrap()).unwrap();
        writer.add_attribute(&Nonce::new(&values.nonce).unwrap()).unwrap();
        writer.add_attribute(&PasswordAlgorithms::new(&algorithms)).unwrap();
        writer.add_attribute(&PasswordAlgorithm::new(PasswordAlgorithmValue::SHA256)).unwrap();
        writer.add_attribute(&Software::new(&values.software).unwrap()).unwrap();
        writer.add_attribute(&XorMappedAddress::new(values.address, id)).unwrap();
        writer.add_attribute(&AlternateServer::new(values.other)).unwrap();
        writer.add_attribute(&AlternateDomain::new(&values.realm)).unwrap();
        writer.add_attribute(&ErrorCode::new(values.code, &values.software).unwrap()).unwrap();
        writer.add_attribute(&UnknownAttributes::new(&types)).unwrap();
        let sha256 = IntegrityAlgorithm::Sha256;
        writer.add_message_integrity(&credentials(values), sha256).unwrap();
        writer.add_fingerprint().unwrap();
        writer.finish()
    }

    fn ours_alike(values: &Values) -> Vec<u8> {
        ours(values, |writer| {
            let types = values.unknown.iter().map(|it| ntcp_stun::AttributeType::new(*it));
            let unknown: attribute::UnknownAttributes = types.collect();
            let userhash = attribute::Userhash::of(&values.username, &values.realm);
            writer.attribute(&attribute::Username::new(&values.username)?)?;
            writer.attribute(&userhash)?;
            writer.attribute(&attribute::Realm::new(&values.realm)?)?;
            writer.attribute(&attribute::Nonce::new(values.nonce.as_bytes())?)?;
            writer.attribute(&attribute::PasswordAlgorithms::SHA256_AND_MD5)?;
            writer.attribute(&attribute::PasswordAlgorithm(Algorithm::Sha256))?;
            writer.attribute(&attribute::Software::new(&values.software)?)?;
            writer.attribute(&attribute::XorMappedAddress(values.address))?;
            writer.attribute(&attribute::AlternateServer(values.other))?;
            writer.attribute(&attribute::AlternateDomain::new(&values.realm)?)?;
            writer.attribute(&attribute::ErrorCode::new(values.code, &values.software)?)?;
            writer.attribute(&unknown)?;
            writer.integrity_sha256(&key(values))?;
            writer.fingerprint()
        })
    }

    fn key(values: &Values) -> Key {
        Key::long_term_sha256(&values.username, &values.realm, &values.password)
    }

    proptest! {
        #[test]
        fn both_write_the_same_bytes(values in values()) {
            prop_assert_eq!(ours_alike(&values), theirs(&values));
        }

        #[test]
        fn they_read_what_we_write(values in values()) {
            let bytes = ours_alike(&values);
            let message = Theirs::from_bytes(&bytes).unwrap();
            let id = message.transaction_id();
            prop_assert_eq!(message.class(), their_class(values.class));
            prop_assert!(message.attribute::<Fingerprint>().is_ok(), "checked in from_bytes");
            prop_assert_eq!(
                message.validate_integrity(&credentials(&values)).unwrap(),
                IntegrityAlgorithm::Sha256
            );
            prop_assert_eq!(message.attribute::<XorMappedAddress>().unwrap().addr(id), values.address);
            let username = message.attribute::<Username>().unwrap();
            prop_assert_eq!(username.username(), &values.username);
            prop_assert_eq!(message.attribute::<ErrorCode>().unwrap().code(), values.code);
        }

        #[test]
        fn md5_keys_and_sha1_integrity_are_the_same(values in values()) {
            let key = Key::long_term_md5(&values.username, &values.realm, &values.password);
            let bytes = ours(&values, |writer| {
                writer.attribute(&attribute::Username::new(&values.username)?)?;
                writer.integrity(&key)
            });
            let mut writer = builder(&values);
            writer.add_attribute(&Username::new(&values.username).unwrap()).unwrap();
            writer.add_message_integrity(&credentials(&values), IntegrityAlgorithm::Sha1).unwrap();
            let theirs = writer.finish();
            prop_assert_eq!(&bytes, &theirs);
            prop_assert_eq!(Message::parse(&theirs).unwrap().integrity(&key), Check::Valid);
        }

        #[test]
        fn a_flipped_bit_is_judged_alike(values in values(), at in any::<prop::sample::Index>()) {
            let mut bytes = ours_alike(&values);
            let bit = at.index(bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            let us = Message::parse(&bytes).ok().filter(|it| it.fingerprint() != Check::Invalid);
            if let (Some(us), Ok(them)) = (us, Theirs::from_bytes(&bytes)) {
                let them = them.validate_integrity(&credentials(&values)).is_ok();
                prop_assert_eq!(us.integrity_sha256(&key(&values)) == Check::Valid, them);
            }
        }
    }
}

mod rfc_5780 {
    use super::*;
    use bytecodec::{DecodeExt, EncodeExt};
    use stun_codec::rfc5245::attributes::{IceControlled, IceControlling, Priority, UseCandidate};
    use stun_codec::rfc5389::attributes::{
        AlternateServer, ErrorCode, Fingerprint, MappedAddress, MessageIntegrity, Nonce, Realm,
        Software, UnknownAttributes, Username, XorMappedAddress,
    };
    use stun_codec::rfc5389::methods::BINDING;
    use stun_codec::rfc5780::attributes::{
        ChangeRequest, OtherAddress, ResponseOrigin, ResponsePort,
    };
    use stun_codec::{
        AttributeType, MessageClass, MessageDecoder, MessageEncoder, define_attribute_enums,
    };

    define_attribute_enums!(
        Any,
        AnyDecoder,
        AnyEncoder,
        [
            AlternateServer,
            ErrorCode,
            Fingerprint,
            MappedAddress,
            MessageIntegrity,
            Nonce,
            Realm,
            Software,
            UnknownAttributes,
            Username,
            XorMappedAddress,
            ChangeRequest,
            OtherAddress,
            ResponseOrigin,
            ResponsePort,
            IceControlled,
            IceControlling,
            Priority,
            UseCandidate
        ]
    );

    type Theirs = stun_codec::Message<Any>;

    fn theirs(values: &Values) -> Theirs {
        let class = match values.class {
            Class::Request => MessageClass::Request,
            Class::Indication => MessageClass::Indication,
            Class::Success => MessageClass::SuccessResponse,
            Class::Error => MessageClass::ErrorResponse,
        };
        let mut message = Theirs::new(class, BINDING, stun_codec::TransactionId::new(values.id));
        let unknown = values.unknown.iter().map(|it| AttributeType::new(*it)).collect();
        let (ip, port) = change(values);
        message.add_attribute(Username::new(values.username.clone()).unwrap());
        message.add_attribute(Realm::new(values.realm.clone()).unwrap());
        message.add_attribute(Nonce::new(values.nonce.clone()).unwrap());
        message.add_attribute(Software::new(values.software.clone()).unwrap());
        message.add_attribute(MappedAddress::new(values.address));
        message.add_attribute(XorMappedAddress::new(values.address));
        message.add_attribute(AlternateServer::new(values.other));
        message.add_attribute(ErrorCode::new(values.code, values.realm.clone()).unwrap());
        message.add_attribute(UnknownAttributes::new(unknown));
        message.add_attribute(ChangeRequest::new(ip, port));
        message.add_attribute(OtherAddress::new(values.other));
        message.add_attribute(ResponseOrigin::new(values.address));
        message.add_attribute(Priority::new(values.number as u32));
        message.add_attribute(UseCandidate::new());
        message.add_attribute(IceControlled::new(values.number));
        message.add_attribute(IceControlling::new(!values.number));
        let integrity =
            MessageIntegrity::new_short_term_credential(&message, &values.password).unwrap();
        message.add_attribute(integrity);
        let fingerprint = Fingerprint::new(&message).unwrap();
        message.add_attribute(fingerprint);
        message
    }

    fn change(values: &Values) -> (bool, bool) {
        (values.number & 1 != 0, values.number & 2 != 0)
    }

    fn ours_alike(values: &Values) -> Vec<u8> {
        ours(values, |writer| {
            let types = values.unknown.iter().map(|it| ntcp_stun::AttributeType::new(*it));
            let unknown: attribute::UnknownAttributes = types.collect();
            let change = match change(values) {
                (false, false) => attribute::ChangeRequest::Nothing,
                (false, true) => attribute::ChangeRequest::Port,
                (true, false) => attribute::ChangeRequest::Ip,
                (true, true) => attribute::ChangeRequest::IpAndPort,
            };
            writer.attribute(&attribute::Username::new(&values.username)?)?;
            writer.attribute(&attribute::Realm::new(&values.realm)?)?;
            writer.attribute(&attribute::Nonce::new(values.nonce.as_bytes())?)?;
            writer.attribute(&attribute::Software::new(&values.software)?)?;
            writer.attribute(&attribute::MappedAddress(values.address))?;
            writer.attribute(&attribute::XorMappedAddress(values.address))?;
            writer.attribute(&attribute::AlternateServer(values.other))?;
            writer.attribute(&attribute::ErrorCode::new(values.code, &values.realm)?)?;
            writer.attribute(&unknown)?;
            writer.attribute(&change)?;
            writer.attribute(&attribute::OtherAddress(values.other))?;
            writer.attribute(&attribute::ResponseOrigin(values.address))?;
            writer.attribute(&attribute::Priority(values.number as u32))?;
            writer.attribute(&attribute::UseCandidate)?;
            writer.attribute(&attribute::IceControlled(values.number))?;
            writer.attribute(&attribute::IceControlling(!values.number))?;
            writer.integrity(&Key::short_term(values.password.as_bytes()))?;
            writer.fingerprint()
        })
    }

    proptest! {
        #[test]
        fn both_write_the_same_bytes(values in values()) {
            let theirs = MessageEncoder::new().encode_into_bytes(theirs(&values)).unwrap();
            prop_assert_eq!(ours_alike(&values), theirs);
        }

        #[test]
        fn they_read_what_we_write(mut values in values()) {
            // Their CHANGE-REQUEST is read one bit off what they write, so only "nothing" survives there.
            values.number &= !3;
            let bytes = ours_alike(&values);
            let message = MessageDecoder::<Any>::new().decode_from_bytes(&bytes).unwrap().unwrap();
            prop_assert!(message.attributes().eq(theirs(&values).attributes()));
        }

        #[test]
        fn they_read_our_response_port_when_it_has_four_bytes(values in values()) {
            // They know RESPONSE-PORT by four bytes only and write zeros for any port.
            let bytes = ours(&values, |writer| {
                let [high, low] = values.port.to_be_bytes();
                let value = [high, low, 0, 0];
                writer.raw_attribute(ntcp_stun::AttributeType::RESPONSE_PORT, &value)
            });
            let message = MessageDecoder::<Any>::new().decode_from_bytes(&bytes).unwrap().unwrap();
            let theirs = message.get_attribute::<ResponsePort>().map(ResponsePort::port);
            prop_assert_eq!(theirs, Some(values.port));
            let ours = Message::parse(&bytes).unwrap().attribute::<attribute::ResponsePort>();
            prop_assert_eq!(ours, Ok(Some(attribute::ResponsePort(values.port))));
        }
    }
}

//! Attributes that are one unsigned number in network order.

/// Defines an attribute that is one number.
macro_rules! number_attribute {
    ($(#[$doc:meta])* $name:ident($number:ty), $constant:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub struct $name(pub $number);

        impl crate::Attribute<'_> for $name {
            const TYPE: crate::AttributeType = crate::AttributeType::$constant;

            fn decode(
                value: &[u8],
                _: crate::TransactionId,
            ) -> Result<Self, crate::AttributeError> {
                match value.try_into() {
                    Ok(bytes) => Ok(Self(<$number>::from_be_bytes(bytes))),
                    Err(_) => {
                        Err(Self::TYPE.error(crate::attribute::Problem::Length(value.len())))
                    }
                }
            }

            fn encoded_len(&self) -> usize {
                size_of::<$number>()
            }

            fn encode(&self, value: &mut [u8], _: crate::TransactionId) {
                value.copy_from_slice(&self.0.to_be_bytes());
            }
        }
    };
}
pub(super) use number_attribute;

//! Attributes that are text of bounded length.

/// Defines an attribute that is UTF-8 text: at most `$write` bytes when we make it, `$read` when we read it.
macro_rules! text_attribute {
    ($(#[$doc:meta])* $name:ident, $constant:ident, write <= $write:literal, read <= $read:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub struct $name<'a>(&'a str);

        impl<'a> $name<'a> {
            #[doc = concat!("This text, of at most ", stringify!($write), " bytes.")]
            ///
            /// # Errors
            ///
            /// [`Problem::Length`](crate::attribute::Problem::Length) if it is longer.
            pub fn new(text: &'a str) -> Result<Self, crate::AttributeError> {
                Self::within($write, text)
            }

            /// The text.
            pub const fn as_str(&self) -> &'a str {
                self.0
            }

            fn within(maximum: usize, text: &'a str) -> Result<Self, crate::AttributeError> {
                if text.len() > maximum {
                    let problem = crate::attribute::Problem::Length(text.len());
                    return Err(crate::AttributeType::$constant.error(problem));
                }
                Ok(Self(text))
            }
        }

        impl<'a> crate::Attribute<'a> for $name<'a> {
            const TYPE: crate::AttributeType = crate::AttributeType::$constant;

            fn decode(
                value: &'a [u8],
                _: crate::TransactionId,
            ) -> Result<Self, crate::AttributeError> {
                match std::str::from_utf8(value) {
                    Ok(text) => Self::within($read, text),
                    Err(_) => Err(Self::TYPE.error(crate::attribute::Problem::Utf8)),
                }
            }

            fn encoded_len(&self) -> usize {
                self.0.len()
            }

            fn encode(&self, value: &mut [u8], _: crate::TransactionId) {
                value.copy_from_slice(self.0.as_bytes());
            }
        }
    };
}
pub(super) use text_attribute;

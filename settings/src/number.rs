//! Whole numbers within bounds.

use crate::list;
use serde::de::{Deserializer, Error};

/// Reads a number from `MIN` to `MAX`, for serde.
pub(crate) fn within<'de, D: Deserializer<'de>, const MIN: u32, const MAX: u32>(
    deserializer: D,
) -> Result<u32, D::Error> {
    let text = list::text(deserializer, "a whole number")?;
    let number = text.parse().ok().filter(|number| (MIN..=MAX).contains(number));
    number.ok_or_else(|| D::Error::custom(format!("write a whole number from {MIN} to {MAX}")))
}

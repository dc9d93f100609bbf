//! The value of a field.

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;

/// A field's value (RFC 9110 §5.5): no control byte but the tab, so that it can end no line and no string. A slice of what it
/// came in; a clone shares it.
#[derive(Clone, Default, Eq)]
pub struct HeaderValue {
    bytes: Bytes,
    sensitive: bool,
}

/// Bytes that are no value: a control byte is among them.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("control byte in a field value")]
pub struct InvalidValue;

/// A value has bytes beyond ASCII.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("field value is not ASCII")]
pub struct NotText;

impl HeaderValue {
    /// One that is written in the source.
    ///
    /// # Panics
    /// When it is not printable ASCII.
    pub const fn from_static(text: &'static str) -> Self {
        let mut rest = text.as_bytes();
        while let [byte, more @ ..] = rest {
            assert!(matches!(*byte, 32..127 | b'\t'), "not printable");
            rest = more;
        }
        Self { bytes: Bytes::from_static(text.as_bytes()), sensitive: false }
    }

    /// A copy of `text`.
    ///
    /// # Errors
    /// [`InvalidValue`].
    #[expect(clippy::should_implement_trait, reason = "it does; whoever calls it need not import that")]
    pub fn from_str(text: &str) -> Result<Self, InvalidValue> {
        Self::from_bytes(text.as_bytes())
    }

    /// A copy of `bytes`.
    ///
    /// # Errors
    /// [`InvalidValue`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, InvalidValue> {
        if is_valid(bytes) {
            Ok(Self { bytes: Bytes::copy_from_slice(bytes), sensitive: false })
        } else {
            Err(InvalidValue)
        }
    }

    /// `bytes` themselves.
    ///
    /// # Errors
    /// [`InvalidValue`].
    pub fn from_maybe_shared(bytes: Bytes) -> Result<Self, InvalidValue> {
        if is_valid(&bytes) { Ok(Self { bytes, sensitive: false }) } else { Err(InvalidValue) }
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// As text.
    ///
    /// # Errors
    /// [`NotText`] for what is not ASCII.
    pub fn to_str(&self) -> Result<&str, NotText> {
        if self.bytes.is_ascii() { std::str::from_utf8(&self.bytes).map_err(|_| NotText) } else { Err(NotText) }
    }

    /// Bytes it has.
    pub const fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether it has none.
    pub const fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Whether it is never to be kept in a table of header compression (RFC 7541 §7.1.3).
    pub const fn is_sensitive(&self) -> bool {
        self.sensitive
    }

    /// Says whether it is.
    pub const fn set_sensitive(&mut self, sensitive: bool) {
        self.sensitive = sensitive;
    }
}

/// Looks at all of them without leaving at the first bad one: so many are looked at at a time.
fn is_valid(bytes: &[u8]) -> bool {
    bytes.iter().fold(true, |good, byte| good & (((*byte >= 32) & (*byte != 127)) | (*byte == b'\t')))
}

impl FromStr for HeaderValue {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        Self::from_bytes(text.as_bytes())
    }
}

impl TryFrom<&str> for HeaderValue {
    type Error = InvalidValue;

    fn try_from(text: &str) -> Result<Self, InvalidValue> {
        Self::from_bytes(text.as_bytes())
    }
}

impl TryFrom<String> for HeaderValue {
    type Error = InvalidValue;

    fn try_from(text: String) -> Result<Self, InvalidValue> {
        Self::from_maybe_shared(Bytes::from(text))
    }
}

impl From<u16> for HeaderValue {
    fn from(number: u16) -> Self {
        Self::from(u64::from(number))
    }
}

impl From<u32> for HeaderValue {
    fn from(number: u32) -> Self {
        Self::from(u64::from(number))
    }
}

impl From<u64> for HeaderValue {
    fn from(number: u64) -> Self {
        // Digits alone.
        Self { bytes: Bytes::from(number.to_string()), sensitive: false }
    }
}

impl HeaderValue {
    /// Of bytes that the `http` crate has checked: what it refuses is what is refused here.
    pub(super) const fn from_checked(bytes: Bytes, sensitive: bool) -> Self {
        Self { bytes, sensitive }
    }
}

impl From<HeaderValue> for http::HeaderValue {
    fn from(value: HeaderValue) -> Self {
        // What is refused here is what they refuse.
        let mut theirs = Self::from_maybe_shared(value.bytes).unwrap_or_else(|_| Self::from_static(""));
        theirs.set_sensitive(value.sensitive);
        theirs
    }
}

impl PartialEq for HeaderValue {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl PartialEq<str> for HeaderValue {
    fn eq(&self, other: &str) -> bool {
        *self.bytes == *other.as_bytes()
    }
}

impl PartialEq<&str> for HeaderValue {
    fn eq(&self, other: &&str) -> bool {
        *self == **other
    }
}

impl PartialEq<String> for HeaderValue {
    fn eq(&self, other: &String) -> bool {
        *self == **other
    }
}

impl fmt::Debug for HeaderValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.sensitive { f.write_str("Sensitive") } else { write!(f, "\"{}\"", self.bytes.escape_ascii()) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn values_are_what_the_http_crate_takes_them_for(bytes in prop::collection::vec(any::<u8>(), 0..80), plain in any::<bool>()) {
            // Most of what is drawn has a control byte somewhere: half of it without.
            let bytes: Vec<u8> = bytes.into_iter().filter(|byte| !plain || *byte >= 32).collect();

            let (ours, theirs) = (HeaderValue::from_bytes(&bytes), http::HeaderValue::from_bytes(&bytes));

            prop_assert_eq!(ours.is_ok(), theirs.is_ok());
            if let (Ok(ours), Ok(theirs)) = (ours, theirs) {
                prop_assert_eq!(ours.to_str().ok(), theirs.to_str().ok());
                prop_assert_eq!(http::HeaderValue::from(ours), theirs);
            }
        }
    }

    #[test]
    fn sensitive_value_shows_itself_to_nobody_and_stays_so() {
        let mut value = HeaderValue::from_static("secret");
        value.set_sensitive(true);

        assert_eq!(format!("{value:?}"), "Sensitive");
        assert!(http::HeaderValue::from(value).is_sensitive());
    }
}

//! Typed headers: one row a field, from which reading and writing follow.
//!
//! A field's type says whether it must be there: an `Option` may be absent, everything else makes decoding fail. RocketMQ
//! leaves a missing field null and fails later with SYSTEM_ERROR; the answer here has the same code and names the field.

use alloc::borrow::{Cow, ToOwned};
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use crate::wire::code::response_code;
use crate::wire::{Command, Ext};

/// A typed header. Those of frequent requests borrow their texts from the frame, hence the lifetime.
pub trait Header<'a>: Sized {
    /// Reads it; fields that it does not know are passed over.
    ///
    /// # Errors
    /// The first field that is missing or cannot be read.
    fn decode(ext: &'a Ext) -> Result<Self, HeaderError>;

    /// Its fields, to be written.
    fn to_ext(&self) -> Ext;
}

/// A header that cannot be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HeaderError {
    /// The field is not there.
    Missing(&'static str),
    /// The field is not of its type.
    Invalid(&'static str),
}

impl HeaderError {
    /// What a server answers.
    pub fn answer(&self, request: &Command) -> Command {
        Command::error(request, response_code::SYSTEM_ERROR, self.to_string())
    }
}

impl fmt::Display for HeaderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // RocketMQ's words, so that its users find them.
            HeaderError::Missing(name) => write!(f, "the custom field <{name}> is null"),
            HeaderError::Invalid(name) => {
                write!(f, "the custom field <{name}> has a value of the wrong type")
            }
        }
    }
}

impl core::error::Error for HeaderError {}

impl Command {
    /// Reads the typed header `H`.
    ///
    /// # Errors
    /// [`HeaderError`]; see [`HeaderError::answer`].
    pub fn header<'a, H: Header<'a>>(&'a self) -> Result<H, HeaderError> {
        H::decode(&self.ext)
    }
}

/// A type that a header field may have.
pub trait HeaderField<'a>: Sized {
    /// Of its text on the wire; `None` when that is not of this type.
    fn from_text(text: Cow<'a, str>) -> Option<Self>;
    /// What an absent field means; `None` when it must be there.
    fn absent() -> Option<Self> {
        None
    }
    /// Its text on the wire; `None` leaves the field out.
    fn to_text(&self) -> Option<Cow<'static, str>>;
}

impl<'a> HeaderField<'a> for Cow<'a, str> {
    fn from_text(text: Cow<'a, str>) -> Option<Self> {
        Some(text)
    }

    fn to_text(&self) -> Option<Cow<'static, str>> {
        Some(Cow::Owned(self.as_ref().to_owned()))
    }
}

impl<'a> HeaderField<'a> for String {
    fn from_text(text: Cow<'a, str>) -> Option<Self> {
        Some(text.into_owned())
    }

    fn to_text(&self) -> Option<Cow<'static, str>> {
        Some(Cow::Owned(self.clone()))
    }
}

impl<'a> HeaderField<'a> for i32 {
    fn from_text(text: Cow<'a, str>) -> Option<Self> {
        text.parse().ok()
    }

    fn to_text(&self) -> Option<Cow<'static, str>> {
        Some(Cow::Owned(self.to_string()))
    }
}

impl<'a> HeaderField<'a> for i64 {
    fn from_text(text: Cow<'a, str>) -> Option<Self> {
        text.parse().ok()
    }

    fn to_text(&self) -> Option<Cow<'static, str>> {
        Some(Cow::Owned(self.to_string()))
    }
}

impl<'a> HeaderField<'a> for bool {
    /// As Java reads it: whatever is not `true` is false.
    fn from_text(text: Cow<'a, str>) -> Option<Self> {
        Some(text.eq_ignore_ascii_case("true"))
    }

    fn to_text(&self) -> Option<Cow<'static, str>> {
        Some(Cow::Borrowed(if *self { "true" } else { "false" }))
    }
}

impl<'a, T: HeaderField<'a>> HeaderField<'a> for Option<T> {
    /// As Java does: what cannot be read is not there.
    fn from_text(text: Cow<'a, str>) -> Option<Self> {
        Some(T::from_text(text))
    }

    fn absent() -> Option<Self> {
        Some(None)
    }

    fn to_text(&self) -> Option<Cow<'static, str>> {
        self.as_ref().and_then(T::to_text)
    }
}

/// Reads one field into its slot.
pub(crate) fn read<'a, T: HeaderField<'a>>(
    name: &'static str,
    text: Cow<'a, str>,
    slot: &mut Option<T>,
    error: &mut Option<HeaderError>,
) {
    match T::from_text(text) {
        Some(value) => *slot = Some(value),
        None => {
            error.get_or_insert(HeaderError::Invalid(name));
        }
    }
}

/// What came of a field.
pub(crate) fn finish<'a, T: HeaderField<'a>>(name: &'static str, slot: Option<T>) -> Result<T, HeaderError> {
    slot.or_else(T::absent).ok_or(HeaderError::Missing(name))
}

/// Appends a field, unless it is absent.
pub(crate) fn write<'a, T: HeaderField<'a>>(
    name: &'static str,
    value: &T,
    fields: &mut Vec<(Cow<'static, str>, Cow<'static, str>)>,
) {
    if let Some(text) = value.to_text() {
        fields.push((Cow::Borrowed(name), text));
    }
}

/// Declares headers: `Name { field: type = "nameOnTheWire", … }`, with `<'a>` after the name when texts are borrowed.
macro_rules! headers {
    ($($(#[$meta:meta])* $name:ident $(<$life:lifetime>)? {
        $($(#[$field_meta:meta])* $field:ident: $ty:ty = $wire:literal,)*
    })*) => {$(
        $(#[$meta])*
        #[derive(Clone, PartialEq, Eq, Debug, Default)]
        pub struct $name $(<$life>)? {
            $(#[doc = concat!("`", $wire, "`")] #[doc = ""] $(#[$field_meta])* pub $field: $ty,)*
        }

        $crate::wire::request::header::headers!(@implement $name [$($life)?] $($field: $ty = $wire,)*);
    )*};
    (@implement $name:ident [] $($field:ident: $ty:ty = $wire:literal,)*) => {
        impl<'a> $crate::wire::request::Header<'a> for $name {
            $crate::wire::request::header::headers!(@methods 'a $($field: $ty = $wire,)*);
        }
    };
    (@implement $name:ident [$life:lifetime] $($field:ident: $ty:ty = $wire:literal,)*) => {
        impl<$life> $crate::wire::request::Header<$life> for $name<$life> {
            $crate::wire::request::header::headers!(@methods $life $($field: $ty = $wire,)*);
        }
    };
    (@methods $life:lifetime $($field:ident: $ty:ty = $wire:literal,)*) => {
        fn decode(ext: &$life $crate::wire::Ext) -> Result<Self, $crate::wire::request::HeaderError> {
            $(let mut $field: Option<$ty> = None;)*
            let mut error = None;
            ext.for_each(|name, value| match name {
                $($wire => $crate::wire::request::header::read($wire, value, &mut $field, &mut error),)*
                _ => {}
            });
            match error {
                Some(error) => Err(error),
                None => Ok(Self { $($field: $crate::wire::request::header::finish($wire, $field)?,)* }),
            }
        }

        fn to_ext(&self) -> $crate::wire::Ext {
            let mut fields = alloc::vec::Vec::with_capacity([$($wire),*].len());
            $($crate::wire::request::header::write($wire, &self.$field, &mut fields);)*
            $crate::wire::Ext::Fields(fields)
        }
    };
}
pub(crate) use headers;

#[cfg(test)]
#[expect(unreachable_pub, reason = "the macro declares what the crate exports")]
mod tests {
    use super::*;

    headers! {
        /// For the tests below.
        Sample<'a> {
            topic: Cow<'a, str> = "topic",
            queue_id: i32 = "queueId",
            offset: Option<i64> = "offset",
            force: Option<bool> = "force",
        }
        /// Without a lifetime.
        Owned {
            name: String = "name",
            at: i64 = "at",
            on: bool = "on",
        }
    }

    fn ext(fields: &[(&'static str, &'static str)]) -> Ext {
        Ext::Fields(
            fields.iter().map(|(name, value)| (Cow::Borrowed(*name), Cow::Borrowed(*value))).collect(),
        )
    }

    #[test]
    fn headers_are_read() {
        let full = Sample { topic: "T".into(), queue_id: -1, offset: Some(9), force: Some(true) };
        let bare = Sample { offset: None, force: None, ..full.clone() };
        for (fields, expect) in [
            (
                ext(&[("topic", "T"), ("queueId", "-1"), ("offset", "9"), ("force", "TRUE"), ("ns", "x")]),
                Ok(full),
            ),
            (ext(&[("queueId", "-1"), ("topic", "T"), ("offset", "")]), Ok(bare)),
            (ext(&[("queueId", "-1")]), Err(HeaderError::Missing("topic"))),
            (ext(&[("topic", "T"), ("queueId", "2147483648")]), Err(HeaderError::Invalid("queueId"))),
            (Ext::None, Err(HeaderError::Missing("topic"))),
        ] {
            assert_eq!(Sample::decode(&fields), expect, "{fields:?}");
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let owned = Owned { name: "n".into(), at: i64::MIN, on: true };
        assert_eq!(Owned::decode(&owned.to_ext()).as_ref(), Ok(&owned));
        assert_eq!(owned.to_ext(), ext(&[("name", "n"), ("at", "-9223372036854775808"), ("on", "true")]));
    }

    #[test]
    fn a_server_answers_with_the_name_of_the_field() {
        let request = Command::request(105, Ext::None);
        let error =
            request.header::<Owned>().map_err(|error| error.answer(&request)).expect_err("nothing there");
        assert_eq!((error.code, error.remark.as_deref()), (1, Some("the custom field <name> is null")));
    }
}

//! JSON bodies, in both directions, and the registration's compressed form.
//!
//! Written as RocketMQ writes them: compact, members in alphabetical order, null ones left out, enums by name. Read
//! leniently (see `lenient.rs`): strict JSON at once; what a strict reader refuses is made strict and read again.
//!
//! Structs are called as RocketMQ's classes. A field's wire name is its name in camel case unless it says otherwise; a field
//! that is absent has the value it has in a new object of RocketMQ's class. Maps are ordered, so that the same content is the
//! same text.

mod epoch;
mod group;
mod lenient;
mod object;
mod register;
mod route;
mod running;
mod session;
mod stats;
mod topic;

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;

pub use epoch::*;
pub use group::*;
pub use object::{MessageQueue, MqMap, ObjectWriter};
pub use register::{RegisterBrokerBody, RegistrationChange};
pub use route::*;
pub use running::*;
pub use session::*;
pub use stats::*;
pub use topic::*;

/// A body that is not what its request says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BodyError(String);

impl BodyError {
    pub(crate) fn new(what: impl Into<String>) -> BodyError {
        BodyError(what.into())
    }
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "malformed body: {}", self.0)
    }
}

impl core::error::Error for BodyError {}

/// Reads a JSON body, with the oddities of RocketMQ's writer.
///
/// # Errors
/// Not JSON even leniently, or not of this shape.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, BodyError> {
    serde_json::from_slice(bytes).or_else(|_| {
        let strict = lenient::to_strict(bytes)
            .map_err(|(what, at)| BodyError(alloc::format!("{what}, at byte {at}")))?;
        serde_json::from_slice(&strict).map_err(|error| BodyError(error.to_string()))
    })
}

/// Writes a body as JSON.
pub fn encode<T: Serialize + ?Sized>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).expect("bodies have text keys and no failing parts")
}

/// Appends a value as JSON.
pub(crate) fn write<T: Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) {
    out.extend_from_slice(&encode(value));
}

/// Declares bodies whose fields are all absent or zero in a new object. Fields stand in alphabetical order of wire names.
macro_rules! bodies {
    ($($(#[$meta:meta])* $name:ident { $($(#[$field_meta:meta])* $field:ident: $ty:ty,)* })*) => {$(
        $(#[$meta])*
        #[derive(Clone, PartialEq, Debug, Default, serde::Serialize, serde::Deserialize)]
        #[serde(default, rename_all = "camelCase")]
        pub struct $name {
            $(#[doc = concat!("`", stringify!($field), "`")] #[doc = ""] $(#[$field_meta])* pub $field: $ty,)*
        }
    )*};
}
pub(crate) use bodies;

/// Declares an enum that is written by name and read by name or by its place in the list (the C++ client sends that).
macro_rules! wire_enum {
    ($(#[$meta:meta])* $name:ident { $($(#[$item_meta:meta])* $item:ident = $text:literal,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Hash)]
        pub enum $name {
            $($(#[$item_meta])* #[doc = concat!("`", $text, "`")] $item,)*
        }

        impl $name {
            const ALL: &[(&str, $name)] = &[$(($text, $name::$item),)*];

            /// RocketMQ's name.
            pub fn name(self) -> &'static str {
                match self {
                    $($name::$item => $text,)*
                }
            }

            /// The item of that name.
            pub fn from_name(name: &str) -> Option<$name> {
                Self::ALL.iter().find(|(text, _)| *text == name).map(|(_, item)| *item)
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.name())
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_any($crate::wire::body::EnumVisitor { name: stringify!($name), all: Self::ALL })
            }
        }
    };
}
pub(crate) use wire_enum;

/// Reads an item of `all` by name or place.
pub(crate) struct EnumVisitor<T: 'static> {
    pub(crate) name: &'static str,
    pub(crate) all: &'static [(&'static str, T)],
}

impl<T: Copy> serde::de::Visitor<'_> for EnumVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a name or the number of a {}", self.name)
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<T, E> {
        let found = self.all.iter().find(|(name, _)| *name == text).map(|(_, item)| *item);
        found.ok_or_else(|| E::invalid_value(serde::de::Unexpected::Str(text), &self))
    }

    fn visit_u64<E: serde::de::Error>(self, place: u64) -> Result<T, E> {
        let found = usize::try_from(place).ok().and_then(|place| self.all.get(place)).map(|(_, item)| *item);
        found.ok_or_else(|| E::invalid_value(serde::de::Unexpected::Unsigned(place), &self))
    }
}

/// Reads a set of integers that may stand in quotes, as the Go client writes the codes of tags.
pub(crate) fn quoted_numbers<'de, D, T>(deserializer: D) -> Result<alloc::collections::BTreeSet<T>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: TryFrom<i64> + Ord,
{
    struct One<T>(T);

    impl<'de, T: TryFrom<i64>> serde::Deserialize<'de> for One<T> {
        fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            quoted_number(deserializer).map(One)
        }
    }

    let read: alloc::vec::Vec<One<T>> = serde::Deserialize::deserialize(deserializer)?;
    Ok(read.into_iter().map(|One(number)| number).collect())
}

/// Reads an integer that may stand in quotes, as the C++ client writes long ones.
pub(crate) fn quoted_number<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: TryFrom<i64>,
{
    struct Number;

    impl serde::de::Visitor<'_> for Number {
        type Value = i64;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an integer, or one in quotes")
        }

        fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<i64, E> {
            Ok(value)
        }

        fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<i64, E> {
            i64::try_from(value).map_err(|_| E::invalid_value(serde::de::Unexpected::Unsigned(value), &self))
        }

        fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<i64, E> {
            text.parse().map_err(|_| E::invalid_value(serde::de::Unexpected::Str(text), &self))
        }
    }

    let value = deserializer.deserialize_any(Number)?;
    T::try_from(value).map_err(|_| serde::de::Error::custom("the integer is out of range"))
}

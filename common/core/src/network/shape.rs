//! Shapes of what flows between layers.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserializer, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::fmt;

/// The shape of one patient's values between two layers. In files: a number, or `[channels, height, width]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(untagged)]
pub enum Shape {
    /// A vector of features.
    Features(usize),
    /// Channels, height and width, stored in this order, row by row. A signal in time has height 1.
    Image([usize; 3]),
}

impl Shape {
    /// Number of values; saturates, so that an impossible shape is refused and does not wrap around.
    pub fn len(&self) -> usize {
        match *self {
            Self::Features(n) => n,
            Self::Image([c, h, w]) => c.saturating_mul(h).saturating_mul(w),
        }
    }

    /// Whether there is no value in it; never so in a checked network.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Channels of an image, or features of a vector: what "per channel" counts.
    pub fn channels(&self) -> usize {
        match *self {
            Self::Features(n) => n,
            Self::Image([c, _, _]) => c,
        }
    }

    /// Values per channel: height times width, or 1 for a vector.
    pub fn area(&self) -> usize {
        match *self {
            Self::Features(_) => 1,
            Self::Image([_, h, w]) => h.saturating_mul(w),
        }
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Features(n) => write!(f, "{n}"),
            Self::Image([c, h, w]) => write!(f, "{c}x{h}x{w}"),
        }
    }
}

/// Vertical and horizontal extent of a window, a step or a margin. In files: one number for both, or `[vertical, horizontal]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(untagged)]
pub enum Extent {
    /// The same in both directions.
    Square(usize),
    /// Vertical, then horizontal.
    Pair([usize; 2]),
}

impl Extent {
    /// One in both directions.
    pub const ONE: Self = Self::Square(1);
    /// Zero in both directions.
    pub const ZERO: Self = Self::Square(0);

    /// Vertical, then horizontal.
    pub fn pair(&self) -> [usize; 2] {
        match *self {
            Self::Square(n) => [n, n],
            Self::Pair(pair) => pair,
        }
    }
}

/// Reads a number, or a list of exactly `N` numbers; serde's own untagged enums cannot say what was expected.
struct OneOrMany<const N: usize>(&'static str);

/// A number, or a list of numbers.
enum Numbers<const N: usize> {
    One(usize),
    Many([usize; N]),
}

impl<'de, const N: usize> Visitor<'de> for OneOrMany<N> {
    type Value = Numbers<N>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Self::Value, E> {
        let refused = || E::invalid_value(de::Unexpected::Unsigned(value), &self);
        usize::try_from(value).map(Numbers::One).map_err(|_| refused())
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Self::Value, E> {
        let refused = || E::invalid_value(de::Unexpected::Signed(value), &self);
        usize::try_from(value).map(Numbers::One).map_err(|_| refused())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut all = [0; N];
        for (i, place) in all.iter_mut().enumerate() {
            *place = list
                .next_element()?
                .ok_or_else(|| de::Error::invalid_length(i, &self))?;
        }
        match list.next_element::<de::IgnoredAny>()? {
            None => Ok(Numbers::Many(all)),
            Some(_) => Err(de::Error::invalid_length(N + 1, &self)),
        }
    }
}

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let expected = OneOrMany::<3>("a number of features, or [channels, height, width]");
        Ok(match deserializer.deserialize_any(expected)? {
            Numbers::One(features) => Self::Features(features),
            Numbers::Many(sides) => Self::Image(sides),
        })
    }
}

impl<'de> Deserialize<'de> for Extent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let expected = OneOrMany::<2>("a number for both directions, or [vertical, horizontal]");
        Ok(match deserializer.deserialize_any(expected)? {
            Numbers::One(both) => Self::Square(both),
            Numbers::Many(pair) => Self::Pair(pair),
        })
    }
}

impl JsonSchema for Shape {
    fn schema_name() -> Cow<'static, str> {
        "Shape".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "The shape of one patient's values: a number of features, or [channels, height, width] of an image.",
            "anyOf": [
                { "type": "integer", "minimum": 1 },
                { "type": "array", "items": { "type": "integer", "minimum": 1 }, "minItems": 3, "maxItems": 3 },
            ],
        })
    }
}

impl JsonSchema for Extent {
    fn schema_name() -> Cow<'static, str> {
        "Extent".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "Extent of a window, a step or a margin: one number for both directions, or [vertical, horizontal].",
            "anyOf": [
                { "type": "integer", "minimum": 0 },
                { "type": "array", "items": { "type": "integer", "minimum": 0 }, "minItems": 2, "maxItems": 2 },
            ],
        })
    }
}

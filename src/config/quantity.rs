//! Quantities as people write them: numbers, sizes with a unit, times.

use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// A number from 1 to 1024.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "i64", into = "usize")]
#[schemars(extend("minimum" = 1, "maximum" = Count::MOST.0))]
pub struct Count(pub(super) usize);

impl Count {
    /// The largest.
    pub const MOST: Self = Self(1024);

    /// The number.
    #[must_use]
    pub fn get(self) -> usize {
        self.0
    }
}

impl TryFrom<i64> for Count {
    type Error = String;
    fn try_from(number: i64) -> Result<Self, String> {
        match usize::try_from(number) {
            Ok(number @ 1..=1024) => Ok(Self(number)),
            _ => Err(format!("`{number}` is not a number from 1 to 1024")),
        }
    }
}

impl From<Count> for usize {
    fn from(count: Count) -> usize {
        count.0
    }
}

/// The units of a size, and how far each shifts the number.
const UNITS: [(&str, u32); 5] = [("B", 0), ("KiB", 10), ("MiB", 20), ("GiB", 30), ("TiB", 40)];

/// A size in bytes, written with a binary unit: `512MiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(extend("pattern" = format!("^[0-9]+ *({})$", UNITS.map(|(unit, _)| unit).join("|")), "examples" = ["512MiB"]))]
pub struct Size(pub(super) u64);

impl Size {
    /// The size in bytes.
    #[must_use]
    pub fn bytes(self) -> u64 {
        self.0
    }
}

impl TryFrom<String> for Size {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let bad = || format!("`{text}` is not a size such as \"512MiB\" or \"4GiB\"");
        let at = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(bad)?;
        let (number, unit) = text.split_at(at);
        let known = UNITS.into_iter().find(|(known, _)| *known == unit.trim());
        let (_, shift) = known.ok_or_else(bad)?;
        let number: u64 = number.parse().map_err(|_| bad())?;
        number.checked_mul(1 << shift).map(Self).ok_or_else(bad)
    }
}

impl From<Size> for String {
    /// In the largest unit that it is a whole number of.
    fn from(Size(bytes): Size) -> String {
        let whole = |(_, shift): &(&str, u32)| bytes.trailing_zeros() >= *shift;
        let (unit, shift) = UNITS.into_iter().rev().find(whole).expect("bytes always are");
        format!("{}{unit}", bytes >> shift)
    }
}

/// A time as [`duration`] reads it.
pub(super) enum Time {}

impl JsonSchema for Time {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Time".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A time; a day has 24 hours.",
            "type": "string",
            "pattern": "[0-9]",
            "examples": ["36h"],
        })
    }
}

/// Reads `"30s"`, `"24h"`, `"2d"`; a day has 24 hours.
pub(super) fn duration<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(from)?;
    text.parse::<jiff::Span>()
        .and_then(|span| span.to_duration(jiff::SpanRelativeTo::days_are_24_hours()))
        .ok()
        .and_then(|duration| Duration::try_from(duration).ok())
        .ok_or_else(|| {
            serde::de::Error::custom(format!(
                "`{text}` is not a time such as \"30s\", \"24h\" or \"2d\""
            ))
        })
}

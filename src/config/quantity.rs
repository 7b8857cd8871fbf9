//! Quantities as people write them: numbers, sizes with a unit, times.

use std::time::Duration;

use serde::Deserialize;

/// A number from 1 to 1024.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "i64")]
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

/// A size in bytes, written with a binary unit: `512MiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
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
        let shift = match unit.trim() {
            "B" => 0,
            "KiB" => 10,
            "MiB" => 20,
            "GiB" => 30,
            "TiB" => 40,
            _ => return Err(bad()),
        };
        let number: u64 = number.parse().map_err(|_| bad())?;
        number.checked_mul(1 << shift).map(Self).ok_or_else(bad)
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

//! `[watch]`: how often a publisher that runs on and on looks for something to do.
//!
//! Owns how that is written. Knows nothing of what a sync is.

use std::str::FromStr;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};

use super::quantity::Time;

/// What an interval must be at least, and at most, in seconds.
const INTERVALS: std::ops::RangeInclusive<u64> = 1..=7 * 24 * 60 * 60;

/// `[watch]`: how often a publisher that runs on and on looks for something to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Watch {
    /// How long from one sync to the next.
    #[schemars(with = "Time", extend("default" = "15m"))]
    pub interval: Interval,
}

/// A time between one sync and the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interval(Duration);

impl Interval {
    /// How long it is.
    #[must_use]
    pub fn get(self) -> Duration {
        self.0
    }
}

impl Default for Interval {
    fn default() -> Self {
        Self(Duration::from_secs(15 * 60))
    }
}

impl FromStr for Interval {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let span = text.parse::<jiff::Span>().ok();
        let time = span.and_then(|span| {
            span.to_duration(jiff::SpanRelativeTo::days_are_24_hours()).ok()?.try_into().ok()
        });
        match time {
            Some(time) if Duration::as_secs(&time) < *INTERVALS.start() => {
                Err(format!("`{text}` is less than a second"))
            }
            Some(time) if time.as_secs() > *INTERVALS.end() => {
                Err(format!("`{text}` is more than a week: nobody would see that it stopped"))
            }
            Some(time) => Ok(Self(time)),
            None => Err(format!("`{text}` is not a time such as \"15m\" or \"1h\"")),
        }
    }
}

impl<'de> Deserialize<'de> for Interval {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_has_a_unit_and_bounds() {
        let seconds =
            |text: &str| text.parse::<Interval>().map(|interval| interval.get().as_secs());
        assert_eq!(seconds("15m"), Ok(900));
        assert_eq!(seconds("7d"), Ok(604_800));
        for text in ["", "15", "0s", "8d", "-1h", "soon", "1mo"] {
            assert!(seconds(text).is_err(), "{text} was taken");
        }
    }
}

//! Dates as pages and APIs write them.

use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::fmt::{rfc2822, strtime};
use jiff::tz::Offset;

/// The forms of directory listings (nginx, lighttpd, Apache) and of plain pages.
const FORMS: [&str; 7] = [
    "%d-%b-%Y %H:%M:%S",
    "%d-%b-%Y %H:%M",
    "%Y-%b-%d %H:%M:%S",
    "%Y-%m-%d %H:%M:%S",
    "%Y-%m-%d %H:%M",
    "%B %d, %Y",
    "%d %B %Y",
];

/// What a text says, as UTC where it says no zone; `None` if it is no date that anybody writes.
pub(super) fn read(text: &str) -> Option<Timestamp> {
    let text = text.trim();
    if let Ok(at) = text.parse::<Timestamp>() {
        return Some(at);
    }
    // The length keeps `2024` and `20240102` from being seconds since 1970.
    if (9..=11).contains(&text.len()) && text.bytes().all(|c| c.is_ascii_digit()) {
        return Timestamp::from_second(text.parse().ok()?).ok();
    }
    let utc = |at: DateTime| Offset::UTC.to_timestamp(at).ok();
    if let Ok(at) = rfc2822::DateTimeParser::new().parse_timestamp(text) {
        return Some(at);
    }
    if let Ok(at) = text.parse::<DateTime>() {
        return utc(at);
    }
    FORMS.iter().find_map(|form| {
        let broken = strtime::parse(form, text).ok()?;
        let at = broken.to_datetime().or_else(|_| broken.to_date().map(midnight)).ok()?;
        utc(at)
    })
}

fn midnight(date: Date) -> DateTime {
    date.at(0, 0, 0, 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_servers_write_is_read() {
        for (text, date) in [
            ("2024-01-02T03:04:05Z", "2024-01-02T03:04:05Z"),
            ("2024-01-02T03:04:05.678+01:00", "2024-01-02T02:04:05.678Z"),
            ("2024-01-02T03:04:05", "2024-01-02T03:04:05Z"),
            ("2024-01-02", "2024-01-02T00:00:00Z"),
            ("2024-01-02 03:04", "2024-01-02T03:04:00Z"),
            ("02-Jan-2024 03:04", "2024-01-02T03:04:00Z"),
            ("2024-Jan-02 03:04:05", "2024-01-02T03:04:05Z"),
            ("Tue, 02 Jan 2024 03:04:05 GMT", "2024-01-02T03:04:05Z"),
            ("January 2, 2024", "2024-01-02T00:00:00Z"),
            ("1704164645", "2024-01-02T03:04:05Z"),
        ] {
            assert_eq!(read(text).map(|at| at.to_string()).as_deref(), Some(date), "{text}");
        }
        for text in ["", "2024", "yesterday", "99-Foo-2024 00:00", "1.58.1"] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}

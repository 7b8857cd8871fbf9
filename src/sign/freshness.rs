//! Freshness: until when a manifest may be believed.
//!
//! Owns the line `BEST-BEFORE-YYYY-MM-DD` of a signed manifest. systemd 262 stops at one that is
//! over, so that nobody can feed them an old manifest with its old signature for ever. It is
//! over at 00:00 UTC at the *start* of its day, so days are rounded up. Pure: time is an argument.

use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use crate::manifest::{BEST_BEFORE, Manifest};
use crate::name::{FileName, Sha256};

/// When the earliest of a manifest's promises is over; `None` if there is no promise that a client
/// would read.
#[must_use]
pub fn expiry(manifest: &Manifest) -> Option<Timestamp> {
    let empty = Sha256::of(b"");
    let promises = manifest.freshness().filter(|(_, sha256)| *sha256 == empty);
    promises.filter_map(|(name, _)| start_of(day_of(name)?)).min()
}

/// Whether the promise must be written anew: it is not the one that `period` asks for, or less than
/// half of the period is left.
#[must_use]
pub fn due(manifest: &Manifest, period: Option<Duration>, now: Timestamp) -> bool {
    let mut lines = manifest.freshness();
    let (first, second) = (lines.next(), lines.next());
    let Some(period) = period else { return first.is_some() };
    match (first, second) {
        (Some(_), None) => expiry(manifest).is_none_or(|at| {
            at < now + period / 2 || Some(at) > day_after(period, now).and_then(start_of)
        }),
        _ => true,
    }
}

/// Puts the promise of `period` in the place of whatever stands there.
pub fn promise(manifest: &mut Manifest, period: Option<Duration>, now: Timestamp) {
    let old: Vec<FileName> = manifest.freshness().map(|(name, _)| name.clone()).collect();
    for name in &old {
        manifest.remove(name);
    }
    let Some(day) = period.and_then(|period| day_after(period, now)) else { return };
    let name = format!("{BEST_BEFORE}{}", day.strftime("%Y-%m-%d"));
    let name = name.parse().expect("letters, digits and dashes");
    manifest.add(name, Sha256::of(b"")).expect("no such line is left");
}

/// The first day that begins when `period` is over, or later.
fn day_after(period: Duration, now: Timestamp) -> Option<Date> {
    let end = now.checked_add(period).ok()?.to_zoned_datetime(TimeZone::UTC).date();
    match start_of(end) {
        Some(start) if start >= now.checked_add(period).ok()? => Some(end),
        _ => end.tomorrow().ok(),
    }
}

fn start_of(day: Date) -> Option<Timestamp> {
    Some(day.to_zoned_datetime(TimeZone::UTC).ok()?.timestamp())
}

fn day_of(name: &FileName) -> Option<Date> {
    let text = name.as_str().strip_prefix(BEST_BEFORE)?;
    Date::strptime("%Y-%m-%d", text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 24 * 60 * 60;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn promised(days: u64, now: &str) -> Manifest {
        let mut manifest = Manifest::default();
        promise(&mut manifest, Some(Duration::from_secs(days * DAY)), at(now));
        manifest
    }

    #[test]
    fn what_is_promised_is_kept_to_the_last_second() {
        for (now, day) in [
            ("2026-01-01T00:00:00Z", "2026-01-15"),
            ("2026-01-01T00:00:01Z", "2026-01-16"),
            ("2026-01-01T23:59:59Z", "2026-01-16"),
            ("2024-02-20T12:00:00Z", "2024-03-06"),
        ] {
            let manifest = promised(14, now);
            let text = String::from_utf8(manifest.render()).unwrap();
            assert_eq!(text, format!("{}  BEST-BEFORE-{day}\n", Sha256::of(b"")), "{now}");
            assert!(expiry(&manifest).unwrap() >= at(now) + Duration::from_secs(14 * DAY));
        }
    }

    #[test]
    fn it_is_renewed_when_less_than_half_is_left() {
        let manifest = promised(14, "2026-01-01T00:00:00Z");
        let period = Some(Duration::from_secs(14 * DAY));
        assert!(!due(&manifest, period, at("2026-01-01T00:00:00Z")));
        assert!(!due(&manifest, period, at("2026-01-08T00:00:00Z")));
        assert!(due(&manifest, period, at("2026-01-08T00:00:01Z")));
        assert!(due(&manifest, period, at("2027-01-01T00:00:00Z")));
        // The period changed, or the promise was given up.
        assert!(due(&manifest, Some(Duration::from_secs(60 * DAY)), at("2026-01-01T00:00:00Z")));
        assert!(due(&manifest, Some(Duration::from_secs(2 * DAY)), at("2026-01-01T00:00:00Z")));
        assert!(due(&manifest, None, at("2026-01-01T00:00:00Z")));
        assert!(due(&Manifest::default(), period, at("2026-01-01T00:00:00Z")));
        assert!(!due(&Manifest::default(), None, at("2026-01-01T00:00:00Z")));
    }

    #[test]
    fn there_is_only_ever_one() {
        let e = Sha256::of(b"");
        let text =
            format!("{e}  BEST-BEFORE-2020-01-01\n{e}  BEST-BEFORE-2099-01-01\n{e}  x.raw\n");
        let mut manifest = Manifest::parse(text.as_bytes()).unwrap();
        let period = Some(Duration::from_secs(2 * DAY));
        assert_eq!(expiry(&manifest), Some(at("2020-01-01T00:00:00Z")));
        assert!(due(&manifest, period, at("2019-12-30T00:00:00Z")));
        promise(&mut manifest, period, at("2026-01-01T10:00:00Z"));
        let names: Vec<_> = manifest.freshness().map(|(name, _)| name.to_string()).collect();
        assert_eq!(names, ["BEST-BEFORE-2026-01-04"]);
        assert_eq!(manifest.files().count(), 1);
        let once = manifest.clone();
        promise(&mut manifest, period, at("2026-01-01T10:00:00Z"));
        assert_eq!(manifest, once);
        promise(&mut manifest, None, at("2026-01-01T10:00:00Z"));
        assert_eq!(manifest.render(), format!("{e}  x.raw\n").into_bytes());
    }

    #[test]
    fn what_no_client_reads_as_a_promise_is_none() {
        let text = format!("{}  BEST-BEFORE-2020-01-01\n", "a".repeat(64));
        assert_eq!(expiry(&Manifest::parse(text.as_bytes()).unwrap()), None);
        let text = format!("{}  BEST-BEFORE-someday\n", Sha256::of(b""));
        assert_eq!(expiry(&Manifest::parse(text.as_bytes()).unwrap()), None);
    }

    proptest::proptest! {
        #[test]
        fn any_promise_is_kept_and_renewed_before_it_ends(
            now in 0i64..4_000_000_000,
            days in 2u64..3660,
            later in 0u64..4000 * DAY,
        ) {
            let now = Timestamp::from_second(now).unwrap();
            let period = Duration::from_secs(days * DAY);
            let mut manifest = Manifest::default();
            promise(&mut manifest, Some(period), now);
            let end = expiry(&manifest).unwrap();
            proptest::prop_assert!(end >= now + period);
            proptest::prop_assert!(end < now + period + Duration::from_secs(DAY));
            proptest::prop_assert!(!due(&manifest, Some(period), now));
            let later = now + Duration::from_secs(later);
            let left = end.duration_since(later);
            let half = jiff::SignedDuration::try_from(period / 2).unwrap();
            proptest::prop_assert_eq!(due(&manifest, Some(period), later), left < half);
        }
    }
}

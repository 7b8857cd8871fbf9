//! When the next sync begins.
//!
//! Owns the random part, so that many publishers do not all ask at the same minute, and the growing
//! pauses while nothing works. Pure but for the random numbers.

use std::time::Duration;

/// The longest pause, unless the interval itself is longer.
const LONGEST: Duration = Duration::from_secs(4 * 60 * 60);

/// The part of a pause that is random, at most: a tenth.
const JITTER: f64 = 0.1;

/// How many syncs came to nothing one after another.
#[derive(Debug, Default)]
pub(super) struct Pace {
    failures: u32,
}

impl Pace {
    /// How long to wait after a sync.
    pub(super) fn next(&mut self, interval: Duration, came_to_nothing: bool) -> Duration {
        self.failures = if came_to_nothing { self.failures.saturating_add(1) } else { 0 };
        // The first failure is none yet: a network may have been away for a moment.
        let doubled = self.failures.saturating_sub(1).min(16);
        let pause = interval.saturating_mul(1 << doubled).min(LONGEST.max(interval));
        pause + pause.mul_f64(rand::random::<f64>() * JITTER)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_an_end_and_start_over() {
        let mut pace = Pace::default();
        let interval = Duration::from_secs(900);
        let mut minutes = |failed| {
            let wait = pace.next(interval, failed);
            // Without the random part.
            [15, 30, 60, 120, 240]
                .into_iter()
                .rev()
                .find(|minutes| wait >= Duration::from_secs(minutes * 60))
                .inspect(|minutes| assert!(wait <= Duration::from_secs(minutes * 66)))
        };
        let failed: Vec<_> = (0..7).map(|_| minutes(true).unwrap()).collect();
        assert_eq!(failed, [15, 30, 60, 120, 240, 240, 240]);
        assert_eq!(minutes(false), Some(15));
        assert_eq!(minutes(true), Some(15));
    }

    #[test]
    fn an_interval_that_is_longer_than_any_pause_stays() {
        let week = Duration::from_secs(7 * 24 * 60 * 60);
        let mut pace = Pace { failures: u32::MAX };
        let wait = pace.next(week, true);
        assert!(wait >= week && wait <= week.mul_f64(1.0 + JITTER), "{wait:?}");
    }
}

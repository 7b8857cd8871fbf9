//! What a server says of how much it may be asked.
//!
//! Owns reading that from an answer's head: `Retry-After` (RFC 9110 §10.2.3), GitHub's and Gitea's
//! `X-RateLimit-*`, GitLab's `RateLimit-*`. Pure; knows nothing of who obeys it.

use std::fmt;

use http::{HeaderMap, StatusCode, header};
use jiff::fmt::rfc2822::DateTimeParser;
use jiff::{SignedDuration, Timestamp};

/// How long a server that has had enough, and does not say for how long, is left alone. GitHub asks
/// for a minute at least.
const UNTOLD: SignedDuration = SignedDuration::from_secs(60);

/// Smaller numbers are seconds from now, larger ones seconds since 1970: servers do both.
const EPOCHS: i64 = 1_000_000_000;

/// How many requests a server still answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// How many it answers in all, if it says so.
    pub limit: Option<u64>,
    /// How many are left.
    pub remaining: u64,
    /// When they are all there again.
    pub reset: Option<Timestamp>,
}

impl fmt::Display for Quota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.remaining)?;
        if let Some(limit) = self.limit {
            write!(f, "of {limit} ")?;
        }
        f.write_str("requests left")?;
        self.reset.map_or(Ok(()), |reset| write!(f, " until {reset:.0}"))
    }
}

/// What the head of an answer says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) quota: Option<Quota>,
    /// Whether this answer is a refusal for the number of requests alone.
    pub(super) refused: bool,
    /// Nothing should be asked before.
    pub(super) until: Option<Timestamp>,
}

pub(super) fn read(status: StatusCode, headers: &HeaderMap, now: Timestamp) -> Said {
    let retry =
        headers.get(header::RETRY_AFTER).and_then(|value| after(value.to_str().ok()?.trim(), now));
    let quota = quota(headers, now);
    let spent = quota.is_some_and(|quota| quota.remaining == 0);
    let refused = match status {
        StatusCode::TOO_MANY_REQUESTS => true,
        StatusCode::FORBIDDEN => spent || retry.is_some(),
        StatusCode::SERVICE_UNAVAILABLE => retry.is_some(),
        _ => false,
    };
    let until = match (retry, quota.filter(|_| spent).and_then(|quota| quota.reset)) {
        (Some(at), _) if refused => Some(at),
        (_, Some(at)) => Some(at),
        _ if refused => now.checked_add(UNTOLD).ok(),
        _ => None,
    };
    // The last moment of a second that has begun: a clock is read to the second.
    let until = until.and_then(|at| at.round(jiff::Unit::Second).ok());
    Said { quota, refused, until }
}

/// A refusal that only its words tell: GitHub's secondary limits may come without any header.
pub(super) fn told_in_words(status: StatusCode, words: &str) -> bool {
    status == StatusCode::FORBIDDEN && words.to_ascii_lowercase().contains("rate limit")
}

/// When to come again, if nothing more was said.
pub(super) fn untold(now: Timestamp) -> Option<Timestamp> {
    now.checked_add(UNTOLD).ok()
}

/// Seconds, or a date.
fn after(text: &str, now: Timestamp) -> Option<Timestamp> {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than a number has: as good as never.
        let seconds = text.parse().unwrap_or(i64::from(u32::MAX));
        let seconds = SignedDuration::from_secs(seconds);
        return Some(now.checked_add(seconds).unwrap_or(Timestamp::MAX));
    }
    // The only form that is sent today. It says GMT, which is an offset of RFC 2822, too.
    DateTimeParser::new().parse_timestamp(text).ok()
}

fn quota(headers: &HeaderMap, now: Timestamp) -> Option<Quota> {
    let of = |prefix: &str| {
        // Some add the length of the window: `100;w=21600`.
        let number = |name: &str| {
            let value = headers.get(format!("{prefix}{name}"))?.to_str().ok()?;
            value.split([';', ',']).next()?.trim().parse::<i64>().ok()
        };
        Some(Quota {
            remaining: u64::try_from(number("remaining")?).ok()?,
            limit: number("limit").and_then(|limit| u64::try_from(limit).ok()),
            reset: number("reset").and_then(|reset| {
                if reset < EPOCHS {
                    now.checked_add(SignedDuration::from_secs(reset)).ok()
                } else {
                    Timestamp::from_second(reset).ok()
                }
            }),
        })
    };
    of("x-ratelimit-").or_else(|| of("ratelimit-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_784_000_000;

    fn said(status: u16, headers: &[(&'static str, &'static str)]) -> Said {
        let headers = headers.iter().map(|(name, value)| {
            (http::HeaderName::from_static(name), http::HeaderValue::from_static(value))
        });
        read(
            StatusCode::from_u16(status).unwrap(),
            &headers.collect(),
            Timestamp::from_second(NOW).unwrap(),
        )
    }

    /// Seconds from now.
    fn until(status: u16, headers: &[(&'static str, &'static str)]) -> Option<i64> {
        said(status, headers).until.map(|at| at.as_second() - NOW)
    }

    #[test]
    fn a_wait_is_seconds_or_a_date() {
        assert_eq!(until(429, &[("retry-after", "7")]), Some(7));
        assert_eq!(until(503, &[("retry-after", "7")]), Some(7));
        assert_eq!(until(429, &[("retry-after", "Tue, 14 Jul 2026 03:34:20 GMT")]), Some(60));
        assert_eq!(until(403, &[("retry-after", "7"), ("x-ratelimit-remaining", "9")]), Some(7));
        // Long over: it may be asked at once.
        assert!(until(429, &[("retry-after", "Sun, 06 Nov 1994 08:49:37 GMT")]) < Some(0));
        assert!(until(429, &[("retry-after", "99999999999999999999")]) > Some(86400));
        // Not a wait, but a server that has enough all the same.
        for nonsense in ["", "soon", "-1", "1.5"] {
            assert_eq!(until(429, &[("retry-after", nonsense)]), Some(60), "{nonsense}");
        }
        assert_eq!(until(429, &[]), Some(60));
    }

    #[test]
    fn the_last_request_of_a_quota_ends_the_asking() {
        let github = [("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "1784000030")];
        assert_eq!(until(200, &github), Some(30));
        assert_eq!(until(403, &github), Some(30));
        assert!(said(403, &github).refused && !said(200, &github).refused);
        let gitlab = [
            ("ratelimit-remaining", "0"),
            ("ratelimit-reset", "1784000030"),
            ("ratelimit-limit", "9"),
        ];
        assert_eq!(until(429, &gitlab), Some(30));
        let draft = [("ratelimit-remaining", "0;w=60"), ("ratelimit-reset", "30")];
        assert_eq!(until(200, &draft), Some(30));
        assert_eq!(said(200, &gitlab).quota.unwrap().limit, Some(9));
    }

    #[test]
    fn a_refusal_for_another_reason_is_none_of_this() {
        let plenty = [("x-ratelimit-remaining", "59"), ("x-ratelimit-reset", "1784000030")];
        for (status, headers) in [(403, &plenty[..]), (403, &[]), (503, &[]), (200, &plenty)] {
            let said = said(status, headers);
            assert!(!said.refused && said.until.is_none(), "{status} {headers:?}: {said:?}");
        }
        let nonsense =
            [("x-ratelimit-remaining", "-1"), ("x-ratelimit-reset", "9999999999999999999")];
        assert_eq!(said(200, &nonsense).quota, None);
    }
}

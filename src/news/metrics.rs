//! Numbers, as Prometheus reads them from a text file.
//!
//! Owns their names and how they are written. Pure. Times are in seconds since 1970, as is usual there:
//! how old something is says `time() - …`, which goes on counting when nobody publishes any more.

use std::fmt::{self, Write as _};

use jiff::Timestamp;

use super::Ran;
use super::state::{State, Subject, WHOLE};
use crate::sync::Standing;

/// A number with no more than the two labels.
struct Metric {
    name: &'static str,
    help: &'static str,
    samples: Vec<(Option<(&'static str, String)>, Number)>,
}

enum Number {
    Whole(u64),
    At(Timestamp),
    Seconds(f64),
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(number) => number.fmt(f),
            Self::At(at) => at.as_second().fmt(f),
            Self::Seconds(seconds) => write!(f, "{seconds:.3}"),
        }
    }
}

/// All of them.
#[must_use]
pub fn render(state: &State, ran: &Ran<'_>) -> String {
    let mut out = String::new();
    for Metric { name, help, samples } in all(state, ran) {
        if samples.is_empty() {
            continue;
        }
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} gauge");
        for (label, number) in samples {
            let _ = match label {
                Some((label, value)) => {
                    writeln!(out, "{name}{{{label}=\"{}\"}} {number}", escaped(&value))
                }
                None => writeln!(out, "{name} {number}"),
            };
        }
    }
    out
}

fn all(state: &State, ran: &Ran<'_>) -> Vec<Metric> {
    let whole = state.subjects.get(WHOLE);
    let of_run = |name, help, number: Option<Number>| Metric {
        name,
        help,
        samples: number.map(|number| (None, number)).into_iter().collect(),
    };
    let components = || state.subjects.iter().filter(|(name, _)| *name != WHOLE);
    let of_each = |name, help, number: &dyn Fn(&Subject) -> Option<Number>| {
        let sample = |(name, subject): (&String, &Subject)| {
            Some((Some(("component", name.clone())), number(subject)?))
        };
        Metric { name, help, samples: components().filter_map(sample).collect() }
    };
    let standing = |number: fn(&Standing) -> Option<Number>| {
        move |subject: &Subject| subject.standing.as_ref().and_then(number)
    };
    let of_host = |name, help, number: &dyn Fn(&crate::fetch::Quota) -> Option<u64>| {
        let samples = ran.quotas.iter().filter_map(|(host, quota)| {
            Some((Some(("host", host.clone())), Number::Whole(number(quota)?)))
        });
        Metric { name, help, samples: samples.collect() }
    };
    let is = |well: bool| Some(Number::Whole(well.into()));
    vec![
        of_run("publish_sync_time_seconds", "When the last sync ended.", Some(Number::At(ran.at))),
        of_run(
            "publish_sync_duration_seconds",
            "How long the last sync took.",
            Some(Number::Seconds(ran.took.as_secs_f64())),
        ),
        of_run(
            "publish_sync_success",
            "Whether the last sync could read and write the repository; components tell of themselves.",
            is(whole.is_none_or(|whole| whole.failing_since.is_none())),
        ),
        of_run(
            "publish_sync_last_success_time_seconds",
            "When a sync last could.",
            whole.and_then(|whole| whole.success).map(Number::At),
        ),
        of_each("publish_component_success", "Whether its last sync went well.", &|subject| {
            is(subject.failing_since.is_none())
        }),
        of_each(
            "publish_component_last_success_time_seconds",
            "When its sync last went well.",
            &|subject| subject.success.map(Number::At),
        ),
        of_each(
            "publish_component_failing_since_time_seconds",
            "Since when its syncs fail; absent if they do not.",
            &|subject| subject.failing_since.map(Number::At),
        ),
        of_each(
            "publish_component_newest_released_time_seconds",
            "When upstream released the newest version that is published.",
            &standing(|standing| standing.released.map(Number::At)),
        ),
        of_each(
            "publish_component_versions_behind",
            "How many versions are wanted, there and not published.",
            &standing(|standing| Some(Number::Whole(standing.behind as u64))),
        ),
        of_each(
            "publish_component_expiry_time_seconds",
            "From when on nodes that check freshness refuse the manifest.",
            &standing(|standing| standing.expires.map(Number::At)),
        ),
        of_each(
            "publish_component_images",
            "How many images are published.",
            &standing(|standing| Some(Number::Whole(standing.images as u64))),
        ),
        of_each(
            "publish_component_bytes",
            "How long the images of wanted versions are together.",
            &standing(|standing| Some(Number::Whole(standing.bytes))),
        ),
        of_host("publish_quota_remaining", "How many requests the host still answers.", &|quota| {
            Some(quota.remaining)
        }),
        of_host("publish_quota_limit", "How many requests it answers in all.", &|quota| {
            quota.limit
        }),
    ]
}

/// A label's value.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            c if c.is_control() => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::fetch::Quota;

    #[test]
    fn numbers_of_a_run() {
        let mut state = State::default();
        let at = |second| Timestamp::from_second(second).unwrap();
        state
            .subjects
            .insert(WHOLE.to_owned(), Subject { success: Some(at(100)), ..Subject::default() });
        let standing =
            Standing { behind: 2, released: Some(at(50)), expires: None, images: 3, bytes: 4096 };
        state.subjects.insert(
            "x".to_owned(),
            Subject { success: None, failing_since: Some(at(90)), standing: Some(standing) },
        );
        let quota = Quota { limit: None, remaining: 12, reset: None };
        let ran = Ran {
            at: at(100),
            took: Duration::from_millis(1500),
            outcomes: Ok(&[]),
            errors: Vec::new(),
            quotas: vec![("a\"b\\c\nd\u{1b}".to_owned(), quota)],
            document: None,
        };
        insta::assert_snapshot!(render(&state, &ran));
    }
}

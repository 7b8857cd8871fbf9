//! The order of versions, against the one that clients use.

use std::cmp::Ordering;
use std::process::Command;

/// Texts of every kind of character that matters, from a generator that gives the same ones each run.
fn versions() -> impl Iterator<Item = String> {
    const PARTS: [&str; 16] =
        ["0", "1", "9", "10", "007", "a", "rc", "B", ".", ".", ".", "-", "+", "_", "~", "^"];
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % below as u64).unwrap_or(0)
    };
    std::iter::from_fn(move || {
        let parts = 1 + random(6);
        Some((0..parts).map(|_| PARTS[random(PARTS.len())]).collect())
    })
}

#[test]
#[ignore = "needs root and tests/real/setup"]
fn versions_order_as_systemd_orders_them() {
    let mut seen = [0; 3];
    let all: Vec<String> = versions().take(1600).collect();
    for pair in all.chunks_exact(2) {
        let [a, b] = pair else { unreachable!("chunks of two") };
        let status = Command::new("systemd-analyze")
            .args(["compare-versions", "--", a, b])
            .output()
            .expect("systemd-analyze runs")
            .status;
        let theirs = match status.code() {
            Some(12) => Ordering::Less,
            Some(0) => Ordering::Equal,
            Some(11) => Ordering::Greater,
            other => panic!("systemd-analyze ended with {other:?} for {a} and {b}"),
        };
        assert_eq!(publish::version::compare(a, b), theirs, "{a} against {b}");
        let index = match theirs {
            Ordering::Less => 0,
            Ordering::Equal => 1,
            Ordering::Greater => 2,
        };
        seen[index] += 1;
    }
    // The generator must not have made only easy ones.
    assert!(seen[0] > 100 && seen[1] > 0 && seen[2] > 100, "{seen:?}");
}

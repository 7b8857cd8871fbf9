//! The order of versions, against the one that clients use.

use std::cmp::Ordering;
use std::io::Write as _;
use std::process::{Command, Stdio};

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

/// Asks the function that all clients compare with, in the library that they share: thousands of pairs
/// in one process, where `systemd-analyze` takes one.
const ORACLE: &str = r#"
import ctypes, os, sys
lines = os.popen("ldd $(command -v systemd-analyze)").read().splitlines()
path = next(line.split("=>")[1].split()[0] for line in lines if "libsystemd-shared" in line)
compare = ctypes.CDLL(path).strverscmp_improved
for line in sys.stdin.read().splitlines():
    a, b = line.split(" ")
    print(compare(a.encode(), b.encode()))
"#;

fn systemds(pairs: &[[String; 2]]) -> Vec<Ordering> {
    let mut python = Command::new("python3")
        .args(["-c", ORACLE])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3 runs");
    let lines: String = pairs.iter().flat_map(|[a, b]| [a.as_str(), " ", b, "\n"]).collect();
    let mut stdin = python.stdin.take().expect("a pipe");
    // It reads all before it answers.
    stdin.write_all(lines.as_bytes()).expect("it reads");
    drop(stdin);
    let output = python.wait_with_output().expect("it ends");
    assert!(output.status.success(), "python3 ended with {}", output.status);
    let text = String::from_utf8(output.stdout).expect("numbers");
    text.lines().map(|line| line.parse::<i32>().expect("a number").cmp(&0)).collect()
}

fn analyze(a: &str, b: &str) -> Ordering {
    let command = ["compare-versions", "--", a, b];
    let output = Command::new("systemd-analyze").args(command).output().expect("it runs");
    match output.status.code() {
        Some(12) => Ordering::Less,
        Some(0) => Ordering::Equal,
        Some(11) => Ordering::Greater,
        other => panic!("systemd-analyze ended with {other:?} for {a} and {b}"),
    }
}

#[test]
#[ignore = "needs root and tests/real/setup"]
fn versions_order_as_systemd_orders_them() {
    let all: Vec<String> = versions().take(60_000).collect();
    let pairs: Vec<[String; 2]> = all
        .chunks_exact(3)
        // What two have in common is where they are hard to tell apart.
        .map(|three| [format!("{}{}", three[0], three[1]), format!("{}{}", three[0], three[2])])
        .collect();
    let theirs = systemds(&pairs);
    assert_eq!(theirs.len(), pairs.len());
    let mut seen = [0; 3];
    for ([a, b], theirs) in pairs.iter().zip(theirs) {
        assert_eq!(publish::version::compare(a, b), theirs, "{a} against {b}");
        let index = match theirs {
            Ordering::Less => 0,
            Ordering::Equal => 1,
            Ordering::Greater => 2,
        };
        seen[index] += 1;
    }
    // The generator must not have made only easy ones.
    assert!(seen[0] > 5000 && seen[1] > 50 && seen[2] > 5000, "{seen:?}");
    // The library is what the program uses.
    for [a, b] in &pairs[..50] {
        assert_eq!(publish::version::compare(a, b), analyze(a, b), "{a} against {b}");
    }
}

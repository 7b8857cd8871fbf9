//! Manifests of others, read line by line: one bad line says nothing of the rest.
//!
//! Owns telling which lines every client would take, and why the others are left out. What comes of
//! it is a manifest of good lines alone, which can be published. Knows nothing of who wrote it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::{Line, MOST_LINES, Manifest, read_line};

/// Lines that were left out, of which so many are told.
const MOST_TOLD: usize = 5;

/// A manifest with whatever is wrong in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lenient {
    /// The lines that are right.
    pub manifest: Manifest,
    /// Those that are left out.
    pub left_out: LeftOut,
}

/// Lines that nobody can use: the first few of them, and how many there are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LeftOut {
    told: Vec<(usize, String)>,
    all: usize,
}

impl LeftOut {
    fn add(&mut self, number: usize, problem: impl FnOnce() -> String) {
        self.all += 1;
        if self.told.len() < MOST_TOLD {
            self.told.push((number, problem()));
        }
    }

    /// Whether every line is right.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.all == 0
    }
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (number, problem)) in self.told.iter().enumerate() {
            let gap = if index == 0 { "" } else { "; " };
            write!(f, "{gap}line {number}: {problem}")?;
        }
        match self.all - self.told.len() {
            0 => Ok(()),
            more => write!(f, "; and {more} more"),
        }
    }
}

/// Reads what can be read. A name that is listed with two digests is left out altogether: nobody can
/// tell which is meant.
#[must_use]
pub fn read(bytes: &[u8]) -> Lenient {
    let mut lenient = Lenient::default();
    let left_out = &mut lenient.left_out;
    let mut ambiguous = BTreeSet::new();
    let mut lines = BTreeMap::new();
    for (index, line) in bytes.split_inclusive(|byte| *byte == b'\n').enumerate() {
        let number = index + 1;
        if index == MOST_LINES {
            left_out.add(number, || format!("more than {MOST_LINES} lines"));
            break;
        }
        let Some(line) = line.strip_suffix(b"\n") else {
            left_out.add(number, || "it does not end with a newline, as if it were cut".to_owned());
            break;
        };
        if line.ends_with(b"\r") {
            left_out.add(number, || "it ends with a carriage return".to_owned());
            continue;
        }
        match read_line(line) {
            Ok((name, Line { sha256, .. })) => match lines.get(&name) {
                Some(known) if *known != sha256 => {
                    let problem = format!("`{name}` is listed before with another digest");
                    left_out.add(number, || problem);
                    ambiguous.insert(name);
                }
                _ => {
                    lines.insert(name, sha256);
                }
            },
            Err(problem) => left_out.add(number, || problem),
        }
    }
    for (name, sha256) in lines.into_iter().filter(|(name, _)| !ambiguous.contains(name)) {
        // Each name stands there once by now.
        let _ = lenient.manifest.add(name, sha256);
    }
    lenient
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    const B: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

    fn good(text: &str) -> String {
        String::from_utf8(read(text.as_bytes()).manifest.render()).unwrap()
    }

    #[test]
    fn a_bad_line_leaves_the_others_as_they_are() {
        for bad in [
            format!("{B}  y.raw\r\n"),
            "\n".to_owned(),
            format!("# {A}\n"),
            format!("{B} y.raw\n"),
            format!("{B}  ../y.raw\n"),
            format!("{B}  /y.raw\n"),
            format!("{B}  a/y.raw\n"),
            format!("{B}  a%2fy.raw\n"),
            format!("{B}  y\u{7}.raw\n"),
            format!("{A}{B}  y.raw\n"),
            format!("\\{B}  y.raw\n"),
            format!("\u{feff}{B}  y.raw\n"),
        ] {
            let text = format!("{A}  x.raw\n{bad}{A}  z.raw\n");
            assert_eq!(good(&text), format!("{A}  x.raw\n{A}  z.raw\n"), "{bad:?}");
            assert!(read(text.as_bytes()).left_out.to_string().starts_with("line 2: "), "{bad:?}");
        }
        let broken = [format!("{A}  x.raw\n").as_bytes(), b"\xff\xfe\n"].concat();
        assert_eq!(read(&broken).manifest.files().count(), 1);
    }

    #[test]
    fn what_is_odd_but_taken_by_clients_is_taken() {
        let text = format!("{}  x.raw\n{A} *y.raw\n{A} *y.raw\n", A.to_uppercase());
        assert_eq!(good(&text), format!("{A}  x.raw\n{A}  y.raw\n"));
        assert!(read(text.as_bytes()).left_out.is_empty());
    }

    #[test]
    fn two_digests_for_a_name_are_none() {
        let text = format!("{A}  x.raw\n{B}  x.raw\n{A}  x.raw\n{A}  y.raw\n");
        assert_eq!(good(&text), format!("{A}  y.raw\n"));
    }

    #[test]
    fn a_line_that_was_cut_is_not_taken_for_a_name() {
        assert_eq!(good(&format!("{A}  x.raw\n{A}  y.ra")), format!("{A}  x.raw\n"));
        assert_eq!(good(""), "");
    }

    #[test]
    fn of_many_bad_lines_a_few_are_told() {
        let told = read("x\n".repeat(50_000).as_bytes()).left_out.to_string();
        assert!(told.len() < 400 && told.ends_with("; and 49995 more"), "{told}");
    }

    proptest::proptest! {
        #[test]
        fn what_is_read_is_a_manifest_that_every_client_takes(bytes: Vec<u8>) {
            let text = read(&bytes).manifest.render();
            proptest::prop_assert_eq!(Manifest::parse(&text).unwrap().render(), text);
        }

        #[test]
        fn whatever_is_a_manifest_reads_as_the_same(
            files in proptest::collection::btree_map("[A-Za-z0-9][A-Za-z0-9.,_+-]{0,40}", proptest::num::u64::ANY, 0..40),
        ) {
            let mut manifest = Manifest::default();
            for (name, content) in &files {
                let digest = crate::name::Sha256::of(&content.to_le_bytes());
                manifest.add(name.parse().unwrap(), digest).unwrap();
            }
            let lenient = read(&manifest.render());
            proptest::prop_assert!(lenient.left_out.is_empty());
            proptest::prop_assert_eq!(lenient.manifest, manifest);
        }
    }
}

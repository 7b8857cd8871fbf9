//! Sizes over versions, as a picture.
//!
//! Owns where each bar stands, in whole units of the picture, so that it is the same on every machine;
//! and the same in words.

use std::collections::BTreeMap;

use serde::Serialize;

use super::catalog::Entry;
use crate::name::Arch;
use crate::report::human_size;
use crate::version::Version;

/// The whole picture.
const WIDTH: u64 = 640;
const HEIGHT: u64 = 240;
/// Where bars begin: left of that are the sizes.
const LEFT: u64 = 96;
/// Where they stand: below that are the versions.
const GROUND: u64 = 206;
/// Above the highest.
const TOP: u64 = 14;
/// The most versions.
const MOST: usize = 24;
/// The most architectures: no more can be told apart.
const SHAPES: usize = 4;
/// How wide a character of a label is at most.
const CHARACTER: u64 = 11;

/// A picture.
#[derive(Debug, Serialize)]
pub struct Chart {
    width: u64,
    height: u64,
    left: u64,
    /// The same in words.
    text: String,
    rules: Vec<Rule>,
    bars: Vec<Bar>,
    labels: Vec<Label>,
    arches: Vec<Arch>,
    /// Whether some are no longer offered.
    gone: bool,
}

#[derive(Debug, Serialize)]
struct Rule {
    y: u64,
    label: String,
}

#[derive(Debug, Serialize)]
struct Bar {
    x: u64,
    y: u64,
    width: u64,
    height: u64,
    shape: usize,
    gone: bool,
    label: String,
}

#[derive(Debug, Serialize)]
struct Label {
    x: u64,
    text: String,
}

/// The picture of a component; `None` where there is nothing to compare.
#[must_use]
pub fn of(entry: &Entry) -> Option<Chart> {
    let mut versions: BTreeMap<&Version, (bool, BTreeMap<Arch, u64>)> = BTreeMap::new();
    for earlier in &entry.earlier {
        versions.insert(&earlier.version, (true, earlier.sizes.clone()));
    }
    for release in &entry.versions {
        let sizes =
            release.images.iter().filter_map(|image| Some((image.architecture, image.size?)));
        versions.insert(&release.version, (false, sizes.collect()));
    }
    versions.retain(|_, (_, sizes)| !sizes.is_empty());
    while versions.len() > MOST {
        versions.pop_first();
    }
    if versions.len() < 2 {
        return None;
    }
    let mut arches: Vec<Arch> =
        versions.values().flat_map(|(_, sizes)| sizes.keys().copied()).collect();
    arches.sort_unstable();
    arches.dedup();
    arches.truncate(SHAPES);
    let largest = versions.values().flat_map(|(_, sizes)| sizes.values().copied()).max()?;
    let top = round_up(largest);
    // Sizes are below 2^64, and so is any product with the height in 128 bits.
    let height = |size: u64| {
        let height = u128::from(size) * u128::from(GROUND - TOP) / u128::from(top.max(1));
        u64::try_from(height).unwrap_or(GROUND - TOP).max(1)
    };
    let rules = [top, top / 2, 0].map(|size| Rule {
        y: GROUND - if size == 0 { 0 } else { height(size) },
        label: human_size(size),
    });
    let slot = (WIDTH - LEFT) / versions.len() as u64;
    let bar = (slot * 7 / 10 / arches.len() as u64).clamp(2, 44);
    let longest = versions.keys().map(|version| version.as_str().len()).max().unwrap_or(1);
    let labels_fit = (WIDTH - LEFT) / ((longest as u64 + 2) * CHARACTER);
    let every = (versions.len() as u64).div_ceil(labels_fit.max(1));
    let (mut bars, mut labels, mut words) = (Vec::new(), Vec::new(), BTreeMap::new());
    let last = versions.len() as u64 - 1;
    for (number, (version, (gone, sizes))) in (0_u64..).zip(&versions) {
        let middle = LEFT + slot * number + slot / 2;
        let begin = middle - bar * arches.len() as u64 / 2;
        for (shape, arch) in arches.iter().enumerate() {
            let Some(size) = sizes.get(arch) else { continue };
            bars.push(Bar {
                x: begin + bar * shape as u64,
                y: GROUND - height(*size),
                // A gap, where there is room for one.
                width: if bar > 4 { bar - 2 } else { bar },
                height: height(*size),
                shape,
                gone: *gone,
                label: format!("{version} {arch}: {}", human_size(*size)),
            });
            let told: &mut Vec<String> = words.entry(*arch).or_default();
            told.push(format!("{version} {}", human_size(*size)));
        }
        // The newest is always named, and so the others are counted from there.
        if (last - number).is_multiple_of(every) {
            labels.push(Label { x: middle, text: version.to_string() });
        }
    }
    let words = words.into_iter().map(|(arch, told)| format!("{arch}: {}.", told.join(", ")));
    Some(Chart {
        width: WIDTH,
        height: HEIGHT,
        left: LEFT,
        text: words.collect::<Vec<_>>().join(" "),
        rules: rules.into(),
        bars,
        labels,
        arches,
        gone: versions.values().any(|(gone, _)| *gone),
    })
}

/// The next round size: one, two or five of ten units.
fn round_up(size: u64) -> u64 {
    let mut unit = 1_u64;
    while size / unit >= 1024 && unit < 1 << 40 {
        unit <<= 10;
    }
    let mut ten = unit;
    loop {
        for times in [1, 2, 5] {
            let Some(round) = ten.checked_mul(times) else { return size };
            // Half of it is a label, too.
            if round >= size {
                return round;
            }
        }
        let Some(next) = ten.checked_mul(10) else { return size };
        ten = next;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn round_sizes_are_above() {
        assert_eq!(round_up(0), 1);
        assert_eq!(round_up(1023), 2000);
        assert_eq!(round_up(3 << 20), 5 << 20);
        assert_eq!(round_up(77 << 20), 100 << 20);
        assert_eq!(round_up(u64::MAX), u64::MAX);
    }

    proptest! {
        #[test]
        fn what_is_drawn_is_in_the_picture(
            sizes in proptest::collection::vec(proptest::collection::vec(any::<u64>(), 0..6), 0..40)
        ) {
            let mut entry = crate::page::tests::entry("x", &[]);
            for (number, sizes) in sizes.iter().enumerate() {
                let sizes = Arch::ALL.iter().copied().zip(sizes.iter().copied());
                entry.earlier.push(super::super::catalog::Earlier {
                    version: format!("1.{number}").parse().unwrap(),
                    sizes: sizes.collect(),
                });
            }
            let drawable = sizes.iter().filter(|sizes| !sizes.is_empty()).count();
            let chart = of(&entry);
            prop_assert_eq!(chart.is_some(), drawable >= 2);
            for bar in chart.iter().flat_map(|chart| &chart.bars) {
                prop_assert!(bar.x >= LEFT && bar.x + bar.width <= WIDTH, "{:?}", bar);
                prop_assert!(bar.y >= TOP && bar.y + bar.height == GROUND, "{:?}", bar);
            }
        }
    }
}

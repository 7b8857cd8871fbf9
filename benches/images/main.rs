//! How fast, how small and in how much memory `publish build` makes images, as ratios to mksquashfs
//! in the same run.
//!
//! ```text
//! cargo bench --bench images                        all rows: half an hour on two cores
//! cargo bench --bench images -- zstd15,lz4 50       the rows that have one word of each argument
//! cargo bench --bench images -- default pairs=9     more pairs than five
//! ```
//!
//! Every row is the median of alternating pairs: ours, theirs; theirs, ours; and so on. Both run on
//! all cores, from a warm cache to a file on the same disk. `wall` and `cpu` are times, `size` is
//! the image's, `peak` the resident memory of the largest process. A ratio under 1 means that ours
//! took less; what it should be at most stands behind it.
//!
//! Needs a Debian machine with its archive in reach (the trees are made of packages that ship
//! programs in Go and Rust) and the packages `squashfs-tools`, `time` and, for the rows from a
//! download, `curl`. A newer mksquashfs is found in the root of the tests with real clients, or
//! named by `$MKSQUASHFS`.

mod measure;
mod pure;
mod rivals;
mod rows;
mod trees;
mod web;

use std::io::Write as _;

use anyhow::{Context as _, Result};

use measure::{Cost, median};
use rivals::{Mksquashfs, Project};
use rows::{Row, Theirs, Way};
use trees::Tree;

fn main() -> Result<()> {
    let (mut pairs, mut words) = (5, Vec::new());
    // Cargo itself adds `--bench`.
    for argument in std::env::args().skip(1).filter(|argument| !argument.starts_with("--")) {
        match argument.strip_prefix("pairs=") {
            Some(number) => pairs = number.parse().context("pairs=N")?,
            None => words.push(argument),
        }
    }
    let rows: Vec<Row> = rows::all().into_iter().filter(|row| row.has(&words)).collect();
    anyhow::ensure!(!rows.is_empty(), "no row has {}", words.join(" and "));

    let mksquashfs = Mksquashfs::find()?;
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    println!("{}, {cores} cores, medians of {pairs} pairs", mksquashfs.version);
    println!(
        "{:<22} {:>20} {:>9} {:>14} {:>27}   pure compression",
        "", "wall", "cpu", "size", "peak"
    );
    let mut missed = 0;
    for row in rows {
        let tree = Tree::get(row.tree)?;
        missed += run(&row, &tree, &mksquashfs, pairs)?;
    }
    println!("{missed} of the ratios are over what they should be");
    Ok(())
}

/// Measures one row and prints it; how many of its ratios are too large.
fn run(row: &Row, tree: &Tree, mksquashfs: &Mksquashfs, pairs: usize) -> Result<usize> {
    print!("{:<22}", row.name());
    std::io::stdout().flush()?;
    let project = Project::new(row.way, row.ours, tree)?;
    let other = match row.theirs {
        Theirs::Mksquashfs(_) => None,
        Theirs::Ours(section) => Some(Project::new(row.way, section, tree)?),
    };
    let (mut ours, mut theirs): (Vec<Cost>, Vec<Cost>) = Default::default();
    tree.warm()?;
    for pair in 0..pairs {
        // Who comes second finds the disk busier, or the caches warmer.
        if pair % 2 == 0 {
            ours.push(project.build()?);
        }
        theirs.push(match (row.theirs, row.way, &other) {
            (Theirs::Ours(_), _, Some(other)) => other.build()?,
            (Theirs::Mksquashfs(options), Way::Folder, _) => mksquashfs.pack(tree, options)?,
            (Theirs::Mksquashfs(options), Way::Download, _) => {
                mksquashfs.recipe(tree, project.url(), options)?
            }
            (Theirs::Ours(_), _, None) => unreachable!("it was made above"),
        });
        if pair % 2 == 1 {
            ours.push(project.build()?);
        }
    }
    let ratio = |of: fn(&Cost) -> f64| {
        median(ours.iter().zip(&theirs).map(|(ours, theirs)| of(ours) / of(theirs)))
    };
    let each = |of: fn(&Cost) -> f64| (median(ours.iter().map(of)), median(theirs.iter().map(of)));
    let mut missed = 0;
    let mut against = |ratio: f64, limit: Option<f64>, digits: usize| match limit {
        Some(limit) => {
            // A ratio is what is printed of it.
            let unit = 10f64.powi(i32::try_from(digits).unwrap_or(2));
            let over = (ratio * unit).round() > (limit * unit).round();
            missed += usize::from(over);
            format!("{ratio:.digits$} ≤{limit:.digits$}{}", if over { "!" } else { " " })
        }
        None => format!("{ratio:.digits$}"),
    };
    let (our_wall, their_wall) = each(|cost| cost.wall);
    let (our_peak, their_peak) = each(|cost| cost.peak);
    println!(
        "{:>11} {our_wall:>5.1}/{their_wall:<5.1}s {:>5.2} {:>15} {:>12} {our_peak:>5.0}/{their_peak:<4.0} MiB {}",
        against(ratio(|cost| cost.wall), row.wall, 2),
        ratio(|cost| cost.cpu),
        against(ratio(|cost| cost.size), row.size, 3),
        against(ratio(|cost| cost.peak), row.peak, 2),
        match row.pure {
            Some(level) => {
                let share = pure::seconds(tree, level)? / each(|cost| cost.cpu).0 * 100.0;
                let over = share.round() < 90.0;
                missed += usize::from(over);
                format!("{share:.0} % ≥90{}", if over { "!" } else { "" })
            }
            None => String::new(),
        }
    );
    Ok(missed)
}

//! How a comparison is printed.

use crate::measure::{Cost, median};

/// Runs both, who is first in turn, and gives what each cost.
pub fn alternate<T>(
    pairs: usize,
    mut one: impl FnMut(usize) -> anyhow::Result<T>,
    mut other: impl FnMut(usize) -> anyhow::Result<T>,
) -> anyhow::Result<(Vec<T>, Vec<T>)> {
    let (mut ones, mut others) = (Vec::new(), Vec::new());
    for pair in 0..pairs {
        // Who comes second finds the disk busier, or the caches warmer.
        if pair % 2 == 0 {
            ones.push(one(pair)?);
        }
        others.push(other(pair)?);
        if pair % 2 == 1 {
            ones.push(one(pair)?);
        }
    }
    Ok((ones, others))
}

/// Prints how two compare. `limit` is what the ratio of their wall times should be at most.
pub fn compare(name: &str, ones: &[Cost], others: &[Cost], limit: Option<f64>) {
    let part = |of: fn(&Cost) -> f64| {
        let ratio = median(ones.iter().zip(others).map(|(one, other)| of(one) / of(other)));
        (median(ones.iter().map(of)), median(others.iter().map(of)), ratio)
    };
    let (wall, cpu, peak) = (part(|cost| cost.wall), part(|cost| cost.cpu), part(|cost| cost.peak));
    println!(
        "{name:<44} wall {:>6.2}/{:<6.2}s {}  cpu {:>6.2}/{:<6.2}s {:.2}  peak {:>4.0}/{:<4.0}MiB {:.2}",
        wall.0,
        wall.1,
        judged(wall.2, limit),
        cpu.0,
        cpu.1,
        cpu.2,
        peak.0,
        peak.1,
        peak.2
    );
}

/// A number, and what it should be at most.
pub fn judged(number: f64, limit: Option<f64>) -> String {
    match limit {
        Some(limit) => {
            let over = (number * 100.0).round() > (limit * 100.0).round();
            format!("{number:.2} ≤{limit}{}", if over { "!" } else { "" })
        }
        None => format!("{number:.2}"),
    }
}

//! What compression alone costs: the same blocks through the same library, with nothing around it.

use std::collections::HashSet;
use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use anyhow::{Context as _, Result};

use crate::trees::Tree;

const BLOCK: usize = 128 << 10;

/// Seconds of all cores together to compress a tree's blocks with zstd.
pub fn seconds(tree: &Tree, level: i32) -> Result<f64> {
    let blocks = blocks(tree)?;
    let cores = thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let next = AtomicUsize::new(0);
    let work = || -> Result<f64> {
        let mut zstd = zstd::bulk::Compressor::new(level)?;
        let mut out = vec![0; zstd::zstd_safe::compress_bound(BLOCK)];
        let before = on_cpu()?;
        while let Some(block) = blocks.get(next.fetch_add(1, Ordering::Relaxed)) {
            zstd.compress_to_buffer(block, &mut out)?;
        }
        Ok(on_cpu()? - before)
    };
    // On all cores at once, because cores that share a cache are slower together.
    thread::scope(|scope| {
        let threads: Vec<_> = (0..cores).map(|_| scope.spawn(work)).collect();
        threads.into_iter().map(|thread| thread.join().expect("it does not panic")).sum()
    })
}

/// The blocks of a tree: those of large files one by one, and what is left of all files together.
/// Equal files count once, as in an image.
fn blocks(tree: &Tree) -> Result<Vec<Vec<u8>>> {
    let (mut blocks, mut tails) = (Vec::new(), Vec::new());
    let mut known = HashSet::new();
    for file in tree.files()? {
        let bytes = fs::read(file)?;
        if !known.insert(publish::name::Sha256::of(&bytes)) {
            continue;
        }
        let whole = bytes.chunks_exact(BLOCK);
        let tail = whole.remainder();
        blocks.extend(whole.map(<[u8]>::to_vec));
        if tails.len() + tail.len() > BLOCK {
            blocks.push(std::mem::take(&mut tails));
        }
        tails.extend(tail);
    }
    blocks.push(tails);
    Ok(blocks)
}

/// Seconds that this thread has spent on a processor.
fn on_cpu() -> Result<f64> {
    let text = fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanoseconds: f64 = text.split(' ').next().context("a number")?.parse()?;
    Ok(nanoseconds / 1e9)
}

//! The form in which answers are kept: a few objects, not one an upstream and not one for all.
//!
//! In a bucket every object is a request, so there are sixteen at most, by the first digit of an
//! answer's name, and only those are read that somebody asks for. Each begins with a line that names
//! its form and a line of JSON that lists what follows: compressed bodies, end to end. They are used
//! where they lie. What is not exactly so is forgotten as a whole.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{Entry, LEVEL};
use crate::name::Sha256;

/// How many there are.
pub(super) const SHARDS: usize = 16;

/// The first line.
const FORM: &[u8] = b"publish answers 1\n";

/// Some of the answers.
#[derive(Debug, Default)]
pub(super) struct Shard {
    pub(super) entries: BTreeMap<Sha256, Entry>,
    /// What was asked for in this run.
    pub(super) wanted: BTreeSet<Sha256>,
    pub(super) changed: bool,
    /// What is in the store could not be read, so nothing is put in its place.
    pub(super) locked: bool,
}

/// A line of the list.
#[derive(Serialize, Deserialize)]
struct Line {
    name: Sha256,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    etag: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    last_modified: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    link: Option<String>,
    /// Of the body, in bytes.
    length: usize,
    /// Of the body as it is kept.
    packed: usize,
}

/// The shard that an answer is in.
pub(super) fn number(name: Sha256) -> usize {
    let first = name.to_string().chars().next().and_then(|digit| digit.to_digit(16));
    first.and_then(|digit| usize::try_from(digit).ok()).unwrap_or(0)
}

pub(super) fn path(folder: &str, number: usize) -> String {
    format!("{folder}/{number:x}.answers")
}

/// Which one lies under this name, if any.
pub(super) fn number_of(name: &str) -> Option<usize> {
    (0..SHARDS).find(|number| name.strip_suffix(".answers") == Some(&format!("{number:x}")))
}

/// Compresses a body, with a checksum.
pub(super) fn pack(body: &[u8]) -> Bytes {
    let packed = || {
        let mut compressor = zstd::bulk::Compressor::new(LEVEL)?;
        compressor.include_checksum(true)?;
        compressor.compress(body)
    };
    // It only fails where there is no memory, and an empty one reads as broken.
    packed().unwrap_or_default().into()
}

impl Shard {
    /// Reads what [`Shard::save`] made. What cannot be read is forgotten: it only costs requests.
    pub(super) fn load(saved: &Bytes) -> Self {
        Self { entries: read(saved).unwrap_or_default(), ..Self::default() }
    }

    /// The bytes to keep; none if there is nothing in it.
    pub(super) fn save(&self) -> Option<Vec<u8>> {
        if self.entries.is_empty() {
            return None;
        }
        let lines = self.entries.iter().map(|(name, entry)| Line {
            name: *name,
            etag: entry.etag.clone(),
            last_modified: entry.last_modified.clone(),
            link: entry.link.clone(),
            length: entry.length,
            packed: entry.packed.len(),
        });
        let lines: Vec<Line> = lines.collect();
        let mut saved = FORM.to_vec();
        serde_json::to_writer(&mut saved, &lines).expect("texts and numbers");
        saved.push(b'\n');
        self.entries.values().for_each(|entry| saved.extend_from_slice(&entry.packed));
        Some(saved)
    }
}

fn read(saved: &Bytes) -> Option<BTreeMap<Sha256, Entry>> {
    let list = saved.strip_prefix(FORM)?;
    let end = list.iter().position(|byte| *byte == b'\n')?;
    let lines: Vec<Line> = serde_json::from_slice(&list[..end]).ok()?;
    let mut rest = saved.slice(FORM.len() + end + 1..);
    let mut entries = BTreeMap::new();
    for Line { name, etag, last_modified, link, length, packed } in lines {
        if packed > rest.len() {
            return None;
        }
        let packed = rest.split_to(packed);
        entries.insert(name, Entry { etag, last_modified, link, length, packed });
    }
    rest.is_empty().then_some(entries)
}

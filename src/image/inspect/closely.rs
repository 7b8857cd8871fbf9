//! What of an image is looked into for [`lint`](crate::lint): programs, scripts, units.
//!
//! Refuses to judge. Bounded in files, in what is kept of them, and in all bytes that are unpacked.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io::Read;

use super::system::{FileSystem, Item};
use super::{Budget, Listed, MOST_PROGRAMS};
use crate::config::extension::Kind;
use crate::lint::program::{self, Program, Reopened};

/// The longest unit that is read, in bytes.
const UNIT: u64 = 64 << 10;
/// The most units that are read; and scripts of which the first line is kept.
const MOST_UNITS: usize = 500;
/// The longest first line of a script that the kernel looks at, in bytes.
const LINE: u64 = 256;
/// The most bytes that are unpacked in all.
const MOST_BYTES: u64 = 4 << 30;

/// Where scripts are programs.
const SCRIPTS: [&str; 3] = ["usr/bin/", "usr/sbin/", "usr/local/"];

/// What was found so far.
pub(super) struct Close {
    pub(super) programs: BTreeMap<String, Program>,
    pub(super) scripts: BTreeMap<String, String>,
    pub(super) units: BTreeMap<String, String>,
    left: Cell<u64>,
    budget: Option<Budget>,
}

impl Default for Close {
    fn default() -> Self {
        Self {
            programs: BTreeMap::new(),
            scripts: BTreeMap::new(),
            units: BTreeMap::new(),
            left: Cell::new(MOST_BYTES),
            budget: None,
        }
    }
}

impl Close {
    /// Looks into a file, if it is one of those.
    pub(super) fn look(
        &mut self,
        image: &FileSystem,
        path: &str,
        (item, listed): (Item<'_>, &Listed),
    ) {
        if !item.is_file() {
            return;
        }
        let unit = is_unit(path) && self.units.len() < MOST_UNITS;
        let may_run = listed.mode & 0o111 != 0 || path.contains(".so");
        if !unit && !may_run {
            return;
        }
        let budget =
            self.budget.get_or_insert_with(|| Budget::new(MOST_PROGRAMS, image.block_size()));
        if !budget.allows(item) {
            return;
        }
        let open = || image.content(item);
        let start = |length: u64| -> Option<Vec<u8>> {
            self.left.set(self.left.get().checked_sub(length)?);
            let mut bytes = Vec::new();
            open().ok()?.take(length).read_to_end(&mut bytes).ok()?;
            Some(bytes)
        };
        if unit {
            let text = start(UNIT).and_then(|bytes| String::from_utf8(bytes).ok());
            self.units.extend(text.map(|text| (path.to_owned(), text)));
            return;
        }
        let Some(head) = start(LINE) else { return };
        if head.starts_with(b"#!") {
            let line =
                head.split(|byte| *byte == b'\n').next().and_then(|l| str::from_utf8(l).ok());
            if let Some(line) = line
                && SCRIPTS.iter().any(|folder| path.starts_with(folder))
                && self.scripts.len() < MOST_UNITS
            {
                self.scripts.insert(path.to_owned(), line.to_owned());
            }
        } else if head.starts_with(b"\x7fELF") {
            let length = listed.size;
            let file = Reopened { open: Box::new(open), length, left: &self.left };
            self.programs.extend(program::read(file).map(|program| (path.to_owned(), program)));
        }
    }
}

/// Whether it is a service, or a drop-in for one.
fn is_unit(path: &str) -> bool {
    let below = [Kind::Sysext, Kind::Confext]
        .iter()
        .find_map(|kind| path.strip_prefix(kind.units())?.strip_prefix('/'));
    below.is_some_and(|name| match name.split_once('/') {
        None => name.ends_with(".service"),
        Some((folder, name)) => {
            folder.ends_with(".service.d")
                && name.rsplit_once('.').is_some_and(|(_, is)| is == "conf")
        }
    })
}

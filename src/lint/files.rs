//! The files of an image by path, what of the host lies beside them, and what is wrong with single
//! ones.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use super::base::{Base, Sbin};
use super::{Finding, Lint};
use crate::config::extension::Kind;
use crate::image::inspect::Listed;
use crate::recipe::lint::FOLDERS;

/// How many symlinks a path may go through, as in Linux.
const MOST_LINKS: usize = 40;

/// How many bytes of paths are looked up in one image. Honest ones need some millions.
const MOST_PATHS: u64 = 1 << 30;

/// Folders at the root that are links into `/usr` on every host that merges extensions.
const MERGED: [&str; 5] = ["bin", "sbin", "lib", "lib64", "lib32"];

/// Where programs are, in the order they are looked for.
pub(super) const PROGRAMS: [&str; 4] = ["usr/local/bin", "usr/local/sbin", "usr/bin", "usr/sbin"];

/// A folder of the host that not everybody may look into there either.
const SECRET: [&str; 2] = ["usr/share/polkit-1/rules.d", "etc/sudoers.d"];

/// The files of an image, and the system it is for.
pub(super) struct Files<'e> {
    by_path: BTreeMap<&'e str, &'e Listed>,
    names: BTreeSet<&'e str>,
    pub(super) kind: Kind,
    pub(super) base: &'e Base,
    /// How many bytes of paths may still be looked up.
    left: Cell<u64>,
}

/// Where a path leads.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// To something in the image.
    Here,
    /// To where the image could have it, and has nothing: this path.
    Absent(String),
    /// Out of what is merged: this path.
    Outside(String),
    /// Round and round.
    Loop,
}

impl<'e> Files<'e> {
    pub(super) fn new(entries: &'e [Listed], kind: Kind, base: &'e Base) -> Self {
        let by_path: BTreeMap<_, _> =
            entries.iter().map(|entry| (entry.path.as_str(), entry)).collect();
        let names = entries
            .iter()
            .filter(|entry| entry.kind != 'd')
            .map(|entry| entry.path.rsplit('/').next().unwrap_or_default())
            .collect();
        Self { by_path, names, kind, base, left: Cell::new(MOST_PATHS) }
    }

    /// All entries.
    pub(super) fn all(&self) -> impl Iterator<Item = &'e Listed> {
        self.by_path.values().copied()
    }

    /// Whether anything but a folder has this name, wherever it is.
    pub(super) fn has_name(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    /// Whether the image has anything in the folder at this path.
    pub(super) fn has_below(&self, path: &str) -> bool {
        let prefix = format!("{path}/");
        let from = (Bound::Excluded(prefix.as_str()), Bound::Unbounded);
        self.by_path.range::<str, _>(from).next().is_some_and(|(path, _)| path.starts_with(&prefix))
    }

    /// Where a path of the running system leads that begins at the folder `from`, links followed.
    pub(super) fn resolve(&self, from: &str, path: &str) -> Place {
        let mut left: Vec<String> = path.split('/').rev().map(str::to_owned).collect();
        let from = if path.starts_with('/') { "" } else { from };
        let mut at: Vec<String> =
            from.split('/').filter(|part| !part.is_empty()).map(str::to_owned).collect();
        let mut links = 0;
        while let Some(part) = left.pop() {
            match part.as_str() {
                "" | "." => continue,
                ".." => {
                    at.pop();
                    continue;
                }
                _ => {}
            }
            if at.is_empty() && MERGED.contains(&part.as_str()) {
                at.push("usr".to_owned());
            }
            at.push(part);
            if at.len() == 2 && at[0] == "usr" && at[1] == "sbin" && self.base.sbin == Sbin::Link {
                "bin".clone_into(&mut at[1]);
            }
            let here = at.join("/");
            match self.left.get().checked_sub(here.len() as u64) {
                Some(left) => self.left.set(left),
                // Nobody can say, so nothing is said.
                None => return Place::Here,
            }
            if let Some(Listed { target: Some(target), .. }) = self.by_path.get(here.as_str()) {
                links += 1;
                if links > MOST_LINKS {
                    return Place::Loop;
                }
                if target.starts_with('/') {
                    at.clear();
                } else {
                    at.pop();
                }
                left.extend(target.split('/').rev().map(str::to_owned));
            }
        }
        let end = at.join("/");
        if self.by_path.contains_key(end.as_str()) || self.has_below(&end) {
            Place::Here
        } else if at.first().is_some_and(|top| self.kind.tops().contains(&top.as_str())) {
            Place::Absent(end)
        } else {
            Place::Outside(end)
        }
    }

    /// Whether the running system has a program at this absolute path, as far as can be told.
    pub(super) fn may_run(&self, path: &str) -> bool {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        match self.resolve("", path) {
            // What is not merged nobody here knows.
            Place::Here | Place::Outside(_) => true,
            Place::Loop => false,
            Place::Absent(_) => match folder.trim_start_matches('/') {
                "bin" | "sbin" | "usr/bin" | "usr/sbin" => self.base.has_program(name),
                // The host's own, which no list has all of.
                folder => folder.ends_with("lib/systemd"),
            },
        }
    }

    /// What is wrong with single files.
    pub(super) fn judge(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        for entry in self.all() {
            let Listed { path, kind, mode, owner, .. } = entry;
            let mut find = |lint, message: String| {
                findings.push(Finding::of_file(lint, path, message));
            };
            if *kind == '-' && mode & 0o6000 != 0 {
                find(
                    Lint::Setuid,
                    format!(
                        "has mode {mode:04o}: it runs as its owner or group, whoever starts it"
                    ),
                );
            }
            let sticky = *kind == 'd' && mode & 0o1000 != 0;
            if matches!(kind, '-' | 'd') && mode & 0o002 != 0 && !sticky {
                find(
                    Lint::WorldWritable,
                    format!("has mode {mode:04o}: everybody may write to it"),
                );
            }
            let hosts = *kind == 'd' && FOLDERS.contains(&path.as_str());
            if hosts && mode & 0o555 != 0o555 && !SECRET.contains(&path.as_str()) {
                find(
                    Lint::FolderMode,
                    format!(
                        "has mode {mode:04o}, and so will the folder of the host: nobody but root could use it"
                    ),
                );
            }
            if hosts && *owner != (0, 0) && !SECRET.contains(&path.as_str()) {
                let (user, group) = owner;
                find(
                    Lint::FolderMode,
                    format!("belongs to {user}:{group}, and so will the folder of the host"),
                );
            }
        }
        if self.kind == Kind::Sysext && self.has_below("usr/sbin") && self.base.sbin != Sbin::Folder
        {
            let message = "is a folder: it hides all programs there where a host has a link to bin, as Fedora 42 and later; usr/bin is right everywhere";
            findings.push(Finding::of_file(Lint::UsrSbin, "usr/sbin", message.to_owned()));
        }
        findings
    }
}

//! Inspection: what is inside an image, what it claims, and whether a client would take it.
//!
//! Images come from anywhere, so nothing in one is trusted: a listing is bounded, and a file is read
//! only as far as an extension-release can reach.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::Serialize;
use thiserror::Error;

use super::disk::check::{How, Verity};
use super::release::ExtensionRelease;
use crate::config::extension::Kind;
use crate::config::verity::Certificate;
use crate::lint::{self, Evidence, Finding, Level, Lint};
use crate::recipe::elf::{self, Elf};

mod attributes;
mod bounds;
mod closely;
mod judge;
mod magic;
mod opened;
mod system;

pub(super) use attributes::is_false;
use closely::Close;
use judge::{Merged, judge, judge_attributes, judge_machine, judge_programs, kind_of, machine_of};
pub(super) use opened::open;
use opened::{Guarded, is_ours, open_guarded};
pub(super) use system::{FileSystem, Item};

/// The longest extension-release that is read, in bytes.
const RELEASE_LIMIT: u64 = 64 << 10;

/// The most of them that are read.
const MOST_RELEASES: usize = 64;

/// The most bytes that the reader keeps of blocks with the ends of files.
const MOST_KEPT: usize = 64 << 20;

/// Where programs are that must run on the machine that merges the image.
const PROGRAMS: [&str; 5] =
    ["usr/bin/", "usr/sbin/", "usr/local/bin/", "usr/local/sbin/", "usr/libexec/"];

/// The most programs that are looked into; the others are like them.
const MOST_PROGRAMS: usize = 1000;

/// An image that cannot be read.
#[derive(Debug, Error)]
pub enum InspectError {
    /// The file is not there, or not readable.
    #[error("cannot read {path}", path = path.display())]
    Disk {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is no image that can be read.
    #[error("{path} is not {system} image: {problem}", path = path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What it is not, with an article.
        system: &'static str,
        /// What the reader said.
        problem: String,
    },
    /// It may be sound, but nothing here can tell.
    #[error("{path} is an EROFS image that cannot be looked into here: {problem}", path = path.display())]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// What the reader said.
        problem: String,
    },
    /// Its file system cannot be read, because it is not the one that was hashed.
    #[error("{path} was changed: {problem}", path = path.display())]
    Changed {
        /// The file.
        path: PathBuf,
        /// Where.
        problem: String,
    },
    /// It begins like nothing that a node could mount.
    #[error("{path} is no image: it {}", if *.empty { "is empty" } else { "begins like no file system and no disk" }, path = path.display())]
    Unknown {
        /// The file.
        path: PathBuf,
        /// Whether there is nothing in it.
        empty: bool,
    },
    /// One of its files cannot be read.
    #[error("cannot read `{file}` in {path}", path = path.display())]
    Content {
        /// The image.
        path: PathBuf,
        /// The file in it.
        file: String,
        /// Why.
        source: io::Error,
    },
}

impl InspectError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Disk { .. } | Self::Unknown { .. } => "give the path of a .raw file",
            Self::Format { .. } | Self::Content { .. } => {
                "is it a .raw file, and whole? get it again where it came from"
            }
            Self::Unsupported { .. } => {
                "a newer version of this program may know it; `fsck.erofs` tells whether it is sound"
            }
            Self::Changed { .. } => "do not let a node have it before you know who changed it",
        }
    }

    /// Whether it says what a file is worth: it was read, and no node would take it.
    #[must_use]
    pub fn is_a_verdict(&self) -> bool {
        match self {
            Self::Format { .. } | Self::Changed { .. } | Self::Unknown { .. } => true,
            Self::Disk { .. } | Self::Unsupported { .. } | Self::Content { .. } => false,
        }
    }
}

/// What is in an image.
#[derive(Debug, Clone, Serialize)]
pub struct Inspection {
    /// The file's name.
    pub name: String,
    /// Its length in bytes.
    pub size: u64,
    /// Its file system: `squashfs` or `erofs`.
    pub format: &'static str,
    /// How its blocks are compressed.
    pub compression: String,
    /// The size of a block in bytes.
    pub block_size: u32,
    /// The image's date, in seconds since 1970.
    pub time: u32,
    /// How many regular files it has.
    pub files: u64,
    /// Their size in bytes, unpacked.
    pub unpacked: u64,
    /// What protects it, if it is a disk image that has a hash tree.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verity: Option<Verity>,
    /// What it can be used as.
    pub uses: Vec<Use>,
    /// The machines it is for, as its extension-release says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub architecture: Option<String>,
    /// Each extension-release, by the name it is for.
    pub releases: BTreeMap<String, BTreeMap<String, String>>,
    /// Whether it is a disk image, and no bare file system.
    #[serde(skip)]
    pub is_disk: bool,
    /// Why a client would not take it; empty if it would.
    pub problems: Vec<String>,
    /// The same and, if it was looked at closely, what else is odd about it, by name.
    pub findings: Vec<Finding>,
    /// Every entry, by path.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub entries: Vec<Listed>,
}

/// What an image can be used as, told as systemd-dissect(1) tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Use {
    /// A system extension.
    Sysext,
    /// A configuration extension.
    Confext,
    /// A portable service: its os-release names `PORTABLE_PREFIXES=`.
    Portable,
}

impl Use {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sysext => "sysext",
            Self::Confext => "confext",
            Self::Portable => "portable service",
        }
    }
}

/// An entry of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Listed {
    /// Its path.
    pub path: String,
    /// The type, as `ls` shows it: `d`, `-`, `l`.
    pub kind: char,
    /// Permission bits.
    pub mode: u16,
    /// Owner and group.
    pub owner: (u32, u32),
    /// The length of a regular file in bytes.
    pub size: u64,
    /// Where a link leads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
}

/// Reads an image. `known_as` is the name a node would merge it under, besides the file's own. Every block
/// of one that has a hash tree is compared with it; one that is signed must be so for the `certificate`,
/// if one is given.
///
/// # Errors
/// It cannot be read, or is no image. What is wrong in it otherwise is in `problems`.
pub fn inspect(
    path: &Path,
    known_as: Option<&str>,
    certificate: Option<&Certificate>,
) -> Result<Inspection, InspectError> {
    let certificates = certificate.map(std::slice::from_ref).unwrap_or_default();
    look(path, Merged::Itself(known_as), How { blocks: true, certificates }, None)
}

/// The same, and looks into programs, links and units, which takes longer. An image that is not signed for
/// the `certificate` has a problem.
///
/// # Errors
/// As [`inspect`].
pub fn inspect_closely(
    path: &Path,
    known_as: Option<&str>,
    certificate: Option<&Certificate>,
) -> Result<Inspection, InspectError> {
    let certificates = certificate.map(std::slice::from_ref).unwrap_or_default();
    let how = How { blocks: true, certificates };
    let mut image = look(path, Merged::Itself(known_as), how, Some(Close::default()))?;
    if certificate.is_some() && !image.is_disk {
        let problem = "it is a bare file system: nothing in it is signed";
        image.problems.insert(0, problem.to_owned());
        image.findings.insert(0, Finding::of_image(Lint::Verity, problem.to_owned()));
    }
    Ok(image)
}

/// Looks closely at an image that was made here a moment ago: what was just hashed is not hashed again.
///
/// # Errors
/// As [`inspect`].
pub fn inspect_ours(path: &Path, known_as: &str) -> Result<Inspection, InspectError> {
    let how = How { blocks: false, certificates: &[] };
    look(path, Merged::Itself(Some(known_as)), how, Some(Close::default()))
}

/// Looks closely at somebody's system extension, which nodes follow by a link: it may be for a name that
/// its file's begins with, or for `component`; if nodes are `told` how to make the link, only for the
/// latter. `None` of what is no extension: another file system, or one with an operating system in it.
///
/// # Errors
/// As [`inspect`].
pub fn inspect_others(
    path: &Path,
    component: &str,
    told: bool,
) -> Result<Option<Inspection>, InspectError> {
    let mut head = Vec::new();
    let disk = |source| InspectError::Disk { path: path.to_owned(), source };
    let begin = File::open(path).and_then(|file| file.take(magic::HEAD).read_to_end(&mut head));
    begin.map_err(disk)?;
    // Another file system than these is for others to look into.
    if !is_ours(path).map_err(disk)? {
        let unknown = || InspectError::Unknown { path: path.to_owned(), empty: head.is_empty() };
        return if magic::is_known(&head) { Ok(None) } else { Err(unknown()) };
    }
    let merged = if told { Merged::LinkedAs(component) } else { Merged::Linked(component) };
    let how = How { blocks: true, certificates: &[] };
    let image = match look(path, merged, how, Some(Close::default())) {
        // So is one that is newer than what is known of it here.
        Err(InspectError::Unsupported { .. }) => return Ok(None),
        looked => looked?,
    };
    let os_release = ["usr/lib/os-release", "etc/os-release"];
    let has_os = image.entries.iter().any(|entry| os_release.contains(&entry.path.as_str()));
    Ok(Some(image).filter(|image| !(image.releases.is_empty() && has_os)))
}

fn look(
    path: &Path,
    merged: Merged<'_>,
    how: How<'_>,
    mut close: Option<Close>,
) -> Result<Inspection, InspectError> {
    let (image, guarded) = open_guarded(path, how)?;
    let Guarded { size, disk, verity, mut findings } = guarded;
    let mut releases = BTreeMap::new();
    let mut programs = BTreeMap::new();
    let mut loose = 0;
    let mut uses = BTreeSet::new();
    let mut os_release = None;
    let mut entries = Vec::new();
    let [mut of_releases, mut of_programs] =
        [MOST_RELEASES, MOST_PROGRAMS].map(|files| Budget::new(files, image.block_size()));
    for node in image.items() {
        let listed = node.listed();
        let at = listed.path.clone();
        if at.is_empty() {
            continue;
        }
        if let Some((kind, name)) = release_name(&at) {
            let node = Some(node).filter(|node| of_releases.allows(*node));
            match node.and_then(|node| Some((node, read_release(&image, node)?))) {
                Some((node, release)) => {
                    loose += usize::from(image.is_loose(node));
                    uses.insert(match kind {
                        Kind::Sysext => Use::Sysext,
                        Kind::Confext => Use::Confext,
                    });
                    releases.insert(name.to_owned(), release);
                }
                None => findings.push(unreadable(&at)),
            }
        }
        if PROGRAMS.iter().any(|folder| at.starts_with(folder))
            && of_programs.allows(node)
            && let Some(program) = read_program(&image, node)
        {
            programs.insert(at.clone(), program);
        }
        if let Some(close) = &mut close {
            close.look(&image, &at, (node, &listed));
        }
        // The host's own place for it counts before the vendor's, as in os-release(5).
        if at == "etc/os-release" || at == "usr/lib/os-release" && os_release.is_none() {
            os_release = read_release(&image, node).or(os_release);
        }
        entries.push(listed);
    }
    if os_release.is_some_and(|os| os.get("PORTABLE_PREFIXES").is_some_and(|p| !p.is_empty())) {
        uses.insert(Use::Portable);
    }
    entries.sort_by(|a, b| a.path.cmp(&b.path));

    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let kind = kind_of(&uses, &entries);
    let arch = machine_of(&name, &releases);
    findings.extend(judge(&name, merged, kind, &releases, loose, &entries));
    findings.extend(judge_attributes(&image.attributes));
    findings.extend(judge_machine(disk.as_ref(), arch));
    findings.extend(judge_programs(arch, &programs));
    if let Some(Close { programs, scripts, units, .. }) = &close {
        let id = releases.values().find_map(|release| release.get("ID")).unwrap_or_default();
        let entries = &entries;
        findings.extend(lint::judge(&Evidence {
            kind,
            id,
            arch,
            entries,
            programs,
            scripts,
            units,
        }));
    }
    findings.sort();
    let problems = lint::told(&findings)
        .into_iter()
        .filter_map(|(level, _, text)| (level == Level::Error).then_some(text))
        .collect();
    let mut architectures = releases.values().filter_map(|release| release.get("ARCHITECTURE"));
    let architecture = architectures.next().map(str::to_owned);
    let files = entries.iter().filter(|entry| entry.kind == '-');
    Ok(Inspection {
        size,
        format: image.name(),
        compression: image.compression(),
        block_size: image.block_size(),
        time: image.time(),
        files: files.clone().count() as u64,
        unpacked: files.map(|entry| entry.size).fold(0, u64::saturating_add),
        verity,
        is_disk: disk.is_some(),
        uses: uses.into_iter().collect(),
        architecture,
        releases: releases
            .into_iter()
            .map(|(name, release)| (name, release.keys().clone()))
            .collect(),
        name,
        problems,
        findings,
        entries,
    })
}

/// How many files may be looked into.
struct Budget {
    files: usize,
    /// Blocks with the ends of many files, by number: the reader keeps each that it once unpacked.
    fragments: BTreeSet<usize>,
    most_fragments: usize,
}

impl Budget {
    fn new(files: usize, block_size: u32) -> Self {
        let most_fragments = MOST_KEPT / block_size.max(1) as usize;
        Self { files, fragments: BTreeSet::new(), most_fragments }
    }

    /// Whether this one may be, too.
    fn allows(&mut self, item: Item<'_>) -> bool {
        if !item.is_file() {
            return false;
        }
        let Some(left) = self.files.checked_sub(1) else { return false };
        self.files = left;
        self.fragments.extend(item.fragment());
        self.fragments.len() <= self.most_fragments
    }
}

/// The kind of extension and the name that an extension-release at this path is for.
fn release_name(path: &str) -> Option<(Kind, &str)> {
    [Kind::Sysext, Kind::Confext].into_iter().find_map(|kind| {
        let name = path.strip_prefix(kind.release_folder())?.strip_prefix("/extension-release.")?;
        Some((kind, name))
    })
}

fn read_release(image: &FileSystem, item: Item<'_>) -> Option<ExtensionRelease> {
    let mut bytes = Vec::new();
    image.content(item).ok()?.take(RELEASE_LIMIT + 1).read_to_end(&mut bytes).ok()?;
    if bytes.len() as u64 > RELEASE_LIMIT {
        return None;
    }
    Some(ExtensionRelease::parse(&String::from_utf8(bytes).ok()?))
}

/// An extension-release that says nothing to anybody.
fn unreadable(path: &str) -> Finding {
    Finding::of_file(Lint::ExtensionRelease, path, "cannot be read".to_owned())
}

/// The header of a program; `None` for scripts, links and whatever else.
fn read_program(image: &FileSystem, item: Item<'_>) -> Option<Elf> {
    let mut head = Vec::with_capacity(elf::HEAD);
    image.content(item).ok()?.take(elf::HEAD as u64).read_to_end(&mut head).ok()?;
    elf::read(&head)
}

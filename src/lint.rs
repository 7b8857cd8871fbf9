//! Lint: what an image had better not be, because a node would break, or never see it.
//!
//! Owns the names of all that is found, how bad each is, and what a component may say to it. Judges
//! finished images by what [`inspect`](crate::image::inspect) read of them, whoever made them; what
//! is wrong with a tree before there is an image is told by [`recipe::lint`](crate::recipe::lint),
//! under the same names. Refuses to know how an image is stored, and never guesses: a wrong alarm is
//! worse than none.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Serialize, Serializer};

use crate::config::extension::Kind;
use crate::config::lint::LintRules;
use crate::name::Arch;

pub mod base;
mod files;
mod links;
pub mod program;
mod programs;
mod units;

use base::Base;
use files::Files;
use program::Program;

/// Everything that can be found. Its name is what people write and programs read: it never changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lint {
    /// There is nothing in the image.
    Empty,
    /// The file's name is not that of an image.
    FileName,
    /// An extension-release is missing, or says what no node takes.
    ExtensionRelease,
    /// A file is outside of what is merged.
    Outside,
    /// A file makes nodes refuse the image, or forget who they are.
    OsRelease,
    /// A file or link is where every host has a folder.
    HidesFolder,
    /// A device, a pipe or a socket.
    SpecialFile,
    /// An extended attribute that means something to overlayfs.
    OverlayAttribute,
    /// A symlink is longer than readers of images take.
    LongSymlink,
    /// A unit that is to be enabled is not there.
    MissingUnit,
    /// A path that the component requires is not there.
    MissingPath,
    /// A program is for another architecture.
    ElfArch,
    /// A program ends before its tables do.
    CutProgram,
    /// A folder of the host would change its mode or its owner.
    FolderMode,
    /// Nothing on the node can start a program.
    MissingInterpreter,
    /// A program needs a shared library that is not there.
    MissingLibrary,
    /// A unit starts a program that is not there.
    MissingProgram,
    /// A symlink leads to nothing.
    DanglingSymlink,
    /// A symlink leads to where neither the image nor a node has anything.
    LeavingSymlink,
    /// A folder `usr/sbin` would hide a link of the host.
    UsrSbin,
    /// A program runs as its owner, whoever starts it.
    Setuid,
    /// Everybody may write.
    WorldWritable,
    /// The image is much larger or smaller than the version before.
    SizeChanged,
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// The image is not made, or a client would not take it.
    Error,
    /// It is shown.
    Warning,
}

impl Lint {
    /// All of them.
    pub const ALL: [Self; 23] = [
        Self::Empty,
        Self::FileName,
        Self::ExtensionRelease,
        Self::Outside,
        Self::OsRelease,
        Self::HidesFolder,
        Self::SpecialFile,
        Self::OverlayAttribute,
        Self::LongSymlink,
        Self::MissingUnit,
        Self::MissingPath,
        Self::ElfArch,
        Self::CutProgram,
        Self::FolderMode,
        Self::MissingInterpreter,
        Self::MissingLibrary,
        Self::MissingProgram,
        Self::DanglingSymlink,
        Self::LeavingSymlink,
        Self::UsrSbin,
        Self::Setuid,
        Self::WorldWritable,
        Self::SizeChanged,
    ];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::FileName => "file-name",
            Self::ExtensionRelease => "extension-release",
            Self::Outside => "outside",
            Self::OsRelease => "os-release",
            Self::HidesFolder => "hides-folder",
            Self::SpecialFile => "special-file",
            Self::OverlayAttribute => "overlay-attribute",
            Self::LongSymlink => "long-symlink",
            Self::MissingUnit => "missing-unit",
            Self::MissingPath => "missing-path",
            Self::ElfArch => "elf-arch",
            Self::CutProgram => "cut-program",
            Self::FolderMode => "folder-mode",
            Self::MissingInterpreter => "missing-interpreter",
            Self::MissingLibrary => "missing-library",
            Self::MissingProgram => "missing-program",
            Self::DanglingSymlink => "dangling-symlink",
            Self::LeavingSymlink => "leaving-symlink",
            Self::UsrSbin => "usr-sbin",
            Self::Setuid => "setuid",
            Self::WorldWritable => "world-writable",
            Self::SizeChanged => "size-changed",
        }
    }

    /// How bad it is where nobody says otherwise.
    #[must_use]
    pub fn level(self) -> Level {
        match self {
            Self::MissingInterpreter
            | Self::MissingLibrary
            | Self::MissingProgram
            | Self::DanglingSymlink
            | Self::LeavingSymlink
            | Self::UsrSbin
            | Self::Setuid
            | Self::WorldWritable
            | Self::SizeChanged => Level::Warning,
            Self::Empty
            | Self::FileName
            | Self::ExtensionRelease
            | Self::Outside
            | Self::OsRelease
            | Self::HidesFolder
            | Self::SpecialFile
            | Self::OverlayAttribute
            | Self::LongSymlink
            | Self::MissingUnit
            | Self::MissingPath
            | Self::ElfArch
            | Self::CutProgram
            | Self::FolderMode => Level::Error,
        }
    }

    /// Whether somebody may say that it is meant. The others would be no image for any node.
    #[must_use]
    pub fn may_be_allowed(self) -> bool {
        self.level() == Level::Warning
            || matches!(self, Self::ElfArch | Self::CutProgram | Self::FolderMode)
    }
}

impl Lint {
    /// Whether nodes do not merge an image with it, or break when they do, whoever made it.
    pub(crate) fn stops_nodes(self) -> bool {
        match self {
            Self::Empty
            | Self::FileName
            | Self::ExtensionRelease
            | Self::OsRelease
            | Self::HidesFolder
            | Self::SpecialFile
            | Self::OverlayAttribute
            | Self::FolderMode
            | Self::MissingPath => true,
            Self::Outside
            | Self::LongSymlink
            | Self::MissingUnit
            | Self::ElfArch
            | Self::CutProgram
            | Self::MissingInterpreter
            | Self::MissingLibrary
            | Self::MissingProgram
            | Self::DanglingSymlink
            | Self::LeavingSymlink
            | Self::UsrSbin
            | Self::Setuid
            | Self::WorldWritable
            | Self::SizeChanged => false,
        }
    }
}

impl fmt::Display for Lint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl Serialize for Lint {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self.name())
    }
}

/// Something that was found.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub level: Level,
    /// What it is.
    pub lint: Lint,
    /// The rest of a sentence that begins with the path, if there is one.
    pub message: String,
    /// The file at fault.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

impl Finding {
    /// One that concerns the image as a whole.
    #[must_use]
    pub fn of_image(lint: Lint, message: String) -> Self {
        Self { level: lint.level(), lint, message, path: None }
    }

    /// One that concerns a file.
    #[must_use]
    pub fn of_file(lint: Lint, path: &str, message: String) -> Self {
        Self { path: Some(path.to_owned()), ..Self::of_image(lint, message) }
    }
}

/// Findings for people, errors first: what is said of several files alike is told once. Each with its
/// level and its name.
#[must_use]
pub fn told(findings: &[Finding]) -> Vec<(Level, Lint, String)> {
    let mut alike: BTreeMap<(Level, Lint, &str), Vec<&str>> = BTreeMap::new();
    for Finding { level, lint, message, path } in findings {
        alike.entry((*level, *lint, message)).or_default().extend(path.as_deref());
    }
    let line = |((level, lint, message), paths): ((_, _, &str), Vec<&str>)| {
        let text = match paths[..] {
            [] => message.to_owned(),
            [path] => format!("`{path}` {message}"),
            [path, _] => format!("`{path}` (and 1 more) {message}"),
            [path, ..] => format!("`{path}` (and {} more) {message}", paths.len() - 1),
        };
        (level, lint, text)
    };
    alike.into_iter().map(line).collect()
}

/// The lines that people read of what an image was built with, and may be published with.
pub fn warnings(subject: &str, findings: &[Finding]) -> impl Iterator<Item = String> {
    let told = told(findings).into_iter().filter(|(level, ..)| *level == Level::Warning);
    told.map(move |(_, lint, text)| format!("warning: {subject}: {} [{lint}]", text.escape_debug()))
}

/// The errors among findings, in a line; `None` if there is none.
#[must_use]
pub fn refusal(findings: &[Finding]) -> Option<String> {
    let told = told(findings).into_iter().filter(|(level, ..)| *level == Level::Error);
    let errors: Vec<_> =
        told.map(|(_, lint, text)| format!("{} [{lint}]", text.escape_debug())).collect();
    (!errors.is_empty()).then(|| errors.join("; "))
}

/// What was read of an image, for those who judge it.
#[derive(Debug)]
pub struct Evidence<'e> {
    /// What it extends.
    pub kind: Kind,
    /// The `ID=` of what it is for.
    pub id: &'e str,
    /// The machine it is for, if it is for one.
    pub arch: Option<Arch>,
    /// Everything in it.
    pub entries: &'e [crate::image::inspect::Listed],
    /// Programs and shared libraries, by path.
    pub programs: &'e BTreeMap<String, Program>,
    /// The first line of each script, by path.
    pub scripts: &'e BTreeMap<String, String>,
    /// Units and their drop-ins, by path.
    pub units: &'e BTreeMap<String, String>,
}

/// Judges an image, as if no component had anything to say to it.
#[must_use]
pub fn judge(evidence: &Evidence<'_>) -> Vec<Finding> {
    let base = Base::of(evidence.id);
    let files = Files::new(evidence.entries, evidence.kind, &base);
    let mut findings = files.judge();
    findings.extend(links::judge(&files));
    findings.extend(programs::judge(&files, evidence));
    findings.extend(units::judge(&files, evidence.units));
    findings.sort();
    findings
}

/// What remains of findings when a component has had its say, and what it misses.
#[must_use]
pub fn settle(findings: Vec<Finding>, rules: &LintRules, required: &[String]) -> Vec<Finding> {
    let mut settled: Vec<_> =
        findings.into_iter().filter_map(|finding| rules.settle(finding)).collect();
    settled.extend(required.iter().map(|pattern| {
        let message = format!("[require] `{pattern}` is not in the image");
        Finding::of_image(Lint::MissingPath, message)
    }));
    settled.sort();
    settled
}

/// The same findings in an image that somebody else made. Nobody here can change what is in it: only what
/// would stop nodes is an error.
#[must_use]
pub fn of_others(mut findings: Vec<Finding>) -> Vec<Finding> {
    for finding in &mut findings {
        finding.level = if finding.lint.stops_nodes() { Level::Error } else { Level::Warning };
    }
    findings
}

/// An image whose size says that something is wrong with it: it grew or shrank by more than half.
/// `before` is the size of the version before. Sizes in bytes.
#[must_use]
pub fn judge_size(size: u64, before: u64) -> Option<Finding> {
    // Of the smallest images, a licence is half.
    const SMALL: u64 = 64 << 10;
    let half = before / 2;
    let way = match size {
        _ if size.max(before) < SMALL => return None,
        size if size > before.saturating_add(half) => "grew",
        size if size < before - half => "shrank",
        _ => return None,
    };
    let [size, before] = [size, before].map(crate::report::human_size);
    let message = format!("the image {way} from {before} to {size} since the version before");
    Some(Finding::of_image(Lint::SizeChanged, message))
}

#[cfg(test)]
mod tests;

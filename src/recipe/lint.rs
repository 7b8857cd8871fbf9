//! What a finished tree must not be, because a node would break or never see it: what
//! [`lint`](crate::lint) would find in the image, told before there is one.

use std::io;

use thiserror::Error;

use super::elf;
use super::spool::Content;
use super::tree::{Node, Tree};
use crate::config::Component;
use crate::config::extension::Kind;
use crate::config::lint::LintRules;
use crate::lint::Lint;
use crate::name::Arch;

/// A tree that no image is made of.
#[derive(Debug, Error)]
pub enum LintError {
    /// There is nothing in it.
    #[error("the image would be empty")]
    Empty,
    /// Outside what is merged.
    #[error("`{path}` would not be seen on a node: only {merged} merged")]
    Hierarchy {
        /// The path.
        path: String,
        /// `etc/ is`
        merged: &'static str,
    },
    /// A file that makes systemd-sysext refuse the image.
    #[error("`{0}` makes nodes refuse the image, or forget who they are")]
    HostFile(String),
    /// A file or link where every host has a folder: merged, it would hide all that is in it.
    #[error("`{path}` must be a folder: as {what}, it would hide the host's own")]
    HidesFolder {
        /// The path.
        path: String,
        /// What it is instead.
        what: &'static str,
    },
    /// A link so long that `inspect` and `verify` could not read the image back.
    #[error("the symlink `{0}` has a target of 256 bytes or more")]
    LongLink(String),
    /// An extension-release that is not for this image.
    #[error("`{0}` is an extension-release of another image")]
    ForeignRelease(String),
    /// A program for other machines.
    #[error("`{path}` is a program for {machine}, but the image is for {arch}")]
    Machine {
        /// The program.
        path: String,
        /// What it runs on.
        machine: String,
        /// What the image is for.
        arch: Arch,
    },
    /// A program that ends before its tables do.
    #[error("`{path}` is cut: it has {size} bytes, but its header speaks of {end}")]
    Cut {
        /// The program.
        path: String,
        /// How long it is.
        size: u64,
        /// How long it must be.
        end: u64,
    },
    /// A program that could not be read back.
    #[error("cannot read `{path}` back")]
    Read {
        /// The program.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// A unit to enable that is not there.
    #[error("the unit `{0}` is to be enabled, but the image has no such unit")]
    Unit(String),
}

impl LintError {
    /// Its name.
    #[must_use]
    pub fn lint(&self) -> Option<Lint> {
        Some(match self {
            Self::Empty => Lint::Empty,
            Self::Hierarchy { .. } => Lint::Outside,
            Self::HostFile(_) => Lint::OsRelease,
            Self::HidesFolder { .. } => Lint::HidesFolder,
            Self::LongLink(_) => Lint::LongSymlink,
            Self::ForeignRelease(_) => Lint::ExtensionRelease,
            Self::Machine { .. } => Lint::ElfArch,
            Self::Cut { .. } => Lint::CutProgram,
            Self::Unit(_) => Lint::MissingUnit,
            Self::Read { .. } => return None,
        })
    }

    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let text = match self {
            Self::Empty => "add [[asset]] or [files], or files beside the component",
            Self::Hierarchy { .. } => "pick what is needed by name, into a folder that is merged",
            Self::HostFile(_) => "take it out with `delete = true`",
            Self::HidesFolder { .. } => {
                "end the destination with a slash, or pick what is in the folder"
            }
            Self::LongLink(_) => "take it out with `delete = true`, or write a shorter one",
            Self::ForeignRelease(_) => "pick files by name, or take it out with `delete = true`",
            Self::Machine { .. } => "check [arch]: what upstream calls the architecture",
            Self::Cut { .. } => "the download was not whole; add a checksum with `sha256`",
            Self::Read { .. } => return None,
            Self::Unit(_) => {
                "units belong into usr/lib/systemd/system/, or etc/systemd/system/ in a confext"
            }
        };
        Some(text.to_owned())
    }
}

/// Where every host has a folder, and an image must have one too, or nothing.
pub(crate) const FOLDERS: [&str; 68] = [
    "usr",
    "opt",
    "usr/bin",
    "usr/sbin",
    "usr/games",
    "usr/lib",
    "usr/lib32",
    "usr/lib64",
    "usr/libx32",
    "usr/libexec",
    "usr/local",
    "usr/share",
    "usr/include",
    "usr/src",
    "usr/lib/x86_64-linux-gnu",
    "usr/lib/aarch64-linux-gnu",
    "usr/lib/riscv64-linux-gnu",
    "usr/lib/systemd",
    "usr/lib/systemd/system",
    "usr/lib/systemd/user",
    "usr/lib/systemd/network",
    "usr/lib/systemd/system-generators",
    "usr/lib/systemd/system-preset",
    "usr/lib/extension-release.d",
    "usr/lib/modules",
    "usr/lib/modules-load.d",
    "usr/lib/modprobe.d",
    "usr/lib/firmware",
    "usr/lib/udev",
    "usr/lib/udev/rules.d",
    "usr/lib/tmpfiles.d",
    "usr/lib/sysusers.d",
    "usr/lib/sysctl.d",
    "usr/lib/security",
    "usr/lib/pam.d",
    "usr/lib/locale",
    "usr/share/dbus-1",
    "usr/share/dbus-1/system.d",
    "usr/share/dbus-1/system-services",
    "usr/share/polkit-1",
    "usr/share/polkit-1/actions",
    "usr/share/polkit-1/rules.d",
    "usr/share/pki",
    "usr/share/ca-certificates",
    "usr/share/zoneinfo",
    "usr/share/doc",
    "usr/share/man",
    "usr/share/licenses",
    "usr/share/bash-completion",
    "usr/share/selinux",
    "etc",
    "etc/systemd",
    "etc/systemd/system",
    "etc/systemd/network",
    "etc/extension-release.d",
    "etc/ssh",
    "etc/ssl",
    "etc/pki",
    "etc/pam.d",
    "etc/security",
    "etc/profile.d",
    "etc/sysctl.d",
    "etc/tmpfiles.d",
    "etc/modprobe.d",
    "etc/udev",
    "etc/udev/rules.d",
    "etc/sudoers.d",
    "etc/cron.d",
];

/// Where programs are, and nothing else.
const PROGRAMS: [&str; 4] = ["usr/bin", "usr/sbin", "usr/local/bin", "usr/local/sbin"];

/// Checks a finished tree for an image of this architecture.
///
/// # Errors
/// The first thing that is wrong.
pub fn check(tree: &Tree, component: &Component, arch: Arch) -> Result<(), LintError> {
    if !tree.iter().any(|(_, node)| !matches!(node, Node::Folder)) {
        return Err(LintError::Empty);
    }
    let kind = component.extension.kind;
    let merged = |path: &str| kind.tops().contains(&path.split('/').next().unwrap_or_default());
    if let Some((path, _)) = tree.iter().find(|(path, _)| !merged(path)) {
        let merged = match kind {
            Kind::Sysext => "usr/ and opt/ are",
            Kind::Confext => "etc/ is",
        };
        return Err(LintError::Hierarchy { path: path.clone(), merged });
    }
    // systemd-sysext takes an image with its own os-release for an operating system; and merged into
    // /etc, these would hide who the host is.
    for path in ["usr/lib/os-release", "usr/lib/initrd-release", "etc/os-release", "etc/machine-id"]
    {
        if tree.get(path).is_some() {
            return Err(LintError::HostFile(path.to_owned()));
        }
    }
    // So is what systemd gathers links and drop-ins in.
    for (path, node) in tree.below(kind.units()) {
        let gathers =
            [".wants", ".requires", ".upholds", ".d"].iter().any(|end| path.ends_with(end));
        if gathers && !matches!(node, Node::Folder) {
            return Err(LintError::HidesFolder { path: path.to_owned(), what: node.what() });
        }
    }
    for path in FOLDERS {
        if let Some(node) = tree.get(path).filter(|node| !matches!(node, Node::Folder)) {
            return Err(LintError::HidesFolder { path: path.to_owned(), what: node.what() });
        }
    }
    let long = |node: &Node| matches!(node, Node::Symlink { target } if target.len() >= 256);
    if let Some((path, _)) = tree.iter().find(|(_, node)| long(node)) {
        return Err(LintError::LongLink(path.clone()));
    }
    // Ours come later, one for each name the image may be merged under.
    if let Some((path, _)) = tree.below(kind.release_folder()).next() {
        return Err(LintError::ForeignRelease(path.to_owned()));
    }
    for folder in PROGRAMS {
        for (path, node) in tree.below(folder) {
            if let Node::File { mode, content } = node
                && mode & 0o111 != 0
            {
                check_program(path, content, arch, &component.lint)?;
            }
        }
    }
    for unit in &component.services.enable {
        let unit = unit.as_str();
        // `x@1.service` is an instance of the template `x@.service`.
        let template = unit
            .split_once('@')
            .and_then(|(stem, rest)| Some(format!("{stem}@.{}", rest.rsplit_once('.')?.1)));
        let there = |name: &str| {
            matches!(
                tree.get(&format!("{}/{name}", kind.units())),
                Some(Node::File { .. } | Node::Symlink { .. })
            )
        };
        if !there(unit) && !template.is_some_and(|template| there(&template)) {
            return Err(LintError::Unit(unit.to_owned()));
        }
    }
    Ok(())
}

/// What cannot run would only be noticed on a node.
fn check_program(
    path: &str,
    content: &Content,
    arch: Arch,
    rules: &LintRules,
) -> Result<(), LintError> {
    let meant = |lint| rules.allows(lint, Some(path));
    let head = content.head(elf::HEAD);
    let head = head.map_err(|source| LintError::Read { path: path.to_owned(), source })?;
    // What is no ELF file may be a script, or whatever else its upstream means by a program.
    let Some(elf) = elf::read(&head) else { return Ok(()) };
    if !elf.runs_on(arch) && !meant(Lint::ElfArch) {
        let machine = elf.machine();
        return Err(LintError::Machine { path: path.to_owned(), machine, arch });
    }
    if elf.end > content.len() && !meant(Lint::CutProgram) {
        return Err(LintError::Cut { path: path.to_owned(), size: content.len(), end: elf.end });
    }
    Ok(())
}

//! What an operating system has without any extension: programs and shared libraries.
//!
//! Owns the lists, which are data. Refuses to know what an image needs of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use serde::Deserialize;

use crate::name::Arch;

/// The lists, by the name of a system; `every` is what all have.
static BASES: LazyLock<BTreeMap<String, List>> =
    LazyLock::new(|| toml::from_str(include_str!("bases.toml")).expect("our own file is right"));

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct List {
    /// As the end of "neither in the image nor …".
    place: String,
    /// Other values of `ID=` that it stands for.
    #[serde(default)]
    ids: BTreeSet<String>,
    sbin: Sbin,
    libraries: BTreeSet<String>,
    programs: BTreeSet<String>,
}

/// What a system's `/usr/sbin` is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sbin {
    /// A folder.
    #[default]
    Folder,
    /// A link to `bin`.
    Link,
    /// Either, so that an image must not count on it.
    Either,
}

/// What an image can count on.
#[derive(Debug)]
pub struct Base {
    /// Where it is, as the end of "neither in the image nor …".
    pub place: &'static str,
    /// What its `/usr/sbin` is.
    pub sbin: Sbin,
    lists: Vec<&'static List>,
}

impl Base {
    /// What the system with this `ID=` has. Of one that is not known, everything that any known
    /// system has is taken to be there.
    #[must_use]
    pub fn of(id: &str) -> Self {
        let every = &BASES["every"];
        let (place, sbin, others): (_, _, Vec<_>) = match id {
            "_any" | "" => (every.place.as_str(), every.sbin, Vec::new()),
            id => match BASES.values().find(|list| list.ids.contains(id)) {
                Some(list) => (list.place.as_str(), list.sbin, vec![list]),
                None => ("on any known system", Sbin::Folder, BASES.values().collect()),
            },
        };
        Self { place, sbin, lists: others.into_iter().chain([every]).collect() }
    }

    /// Whether it has a shared library of this name.
    #[must_use]
    pub fn has_library(&self, name: &str) -> bool {
        self.lists.iter().any(|list| list.libraries.contains(name))
    }

    /// Whether it has a program of this name where programs are.
    #[must_use]
    pub fn has_program(&self, name: &str) -> bool {
        self.lists.iter().any(|list| list.programs.contains(name))
    }
}

/// The dynamic linkers of glibc for an architecture; nothing where it is not known for sure.
#[must_use]
pub fn linkers(arch: Arch) -> &'static [&'static str] {
    match arch {
        Arch::X86_64 => &["/lib64/ld-linux-x86-64.so.2"],
        Arch::X86 => &["/lib/ld-linux.so.2"],
        Arch::Arm64 => &["/lib/ld-linux-aarch64.so.1"],
        Arch::Arm => &["/lib/ld-linux-armhf.so.3", "/lib/ld-linux.so.3"],
        Arch::Riscv64 => &["/lib/ld-linux-riscv64-lp64d.so.1"],
        Arch::Loongarch64 => &["/lib64/ld-linux-loongarch-lp64d.so.1"],
        Arch::Ppc64Le => &["/lib64/ld64.so.2"],
        Arch::S390x => &["/lib/ld64.so.1"],
        Arch::Riscv32 | Arch::Ppc64 | Arch::Mips64Le | Arch::MipsLe => &[],
    }
}

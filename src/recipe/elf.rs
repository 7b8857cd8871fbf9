//! The little of ELF that tells whether a program can run at all: its machine, and whether it is
//! whole (System V ABI, "ELF Header").

use crate::name::Arch;

/// Length of the header of a 64-bit file, in bytes; a 32-bit one is shorter.
pub(crate) const HEADER: usize = 64;

/// What a program's header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Elf {
    machine: u16,
    /// Where the last table ends: a shorter file was cut.
    pub(crate) end: u64,
}

/// Reads the header at the start of a file; `None` if it is no ELF file.
pub(crate) fn read(head: &[u8]) -> Option<Elf> {
    let ident = head.get(..16)?;
    if !ident.starts_with(b"\x7fELF") {
        return None;
    }
    let big = ident[5] == 2;
    let number = |at: usize, len: usize| -> Option<u64> {
        let bytes = head.get(at..at + len)?;
        let fold = |sum: u64, byte: &u8| sum << 8 | u64::from(*byte);
        Some(if big { bytes.iter().fold(0, fold) } else { bytes.iter().rev().fold(0, fold) })
    };
    // Offset, entry size and number of program headers, then the same of section headers.
    let tables = match ident[4] {
        1 => [(28, 4, 42, 44), (32, 4, 46, 48)],
        2 => [(32, 8, 54, 56), (40, 8, 58, 60)],
        _ => return None,
    };
    let mut end = 0;
    for (offset, width, size, count) in tables {
        let table = number(offset, width)?;
        let length = number(size, 2)? * number(count, 2)?;
        end = end.max(table.saturating_add(length));
    }
    let machine = u16::try_from(number(18, 2)?).ok()?;
    Some(Elf { machine, end })
}

impl Elf {
    /// Whether a kernel of this architecture runs it: its own machine, or the 32-bit one before it.
    pub(crate) fn runs_on(&self, arch: Arch) -> bool {
        let machines: &[u16] = match arch {
            Arch::X86_64 => &[62, 3],
            Arch::X86 => &[3],
            Arch::Arm64 => &[183, 40],
            Arch::Arm => &[40],
            Arch::Riscv64 | Arch::Riscv32 => &[243],
            Arch::Loongarch64 => &[258],
            Arch::Ppc64Le | Arch::Ppc64 => &[21],
            Arch::S390x => &[22],
            Arch::Mips64Le | Arch::MipsLe => &[8],
        };
        machines.contains(&self.machine)
    }

    /// The machine's name, for people.
    pub(crate) fn machine(&self) -> String {
        match self.machine {
            3 => "x86".to_owned(),
            8 => "mips".to_owned(),
            21 => "ppc64".to_owned(),
            22 => "s390x".to_owned(),
            40 => "arm".to_owned(),
            62 => "x86-64".to_owned(),
            183 => "arm64".to_owned(),
            243 => "riscv".to_owned(),
            258 => "loongarch64".to_owned(),
            other => format!("ELF machine {other}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_very_program_is_whole_and_runs_here() {
        let path = std::env::current_exe().unwrap();
        let bytes = std::fs::read(path).unwrap();
        let elf = read(&bytes[..HEADER]).unwrap();
        assert!(elf.runs_on(Arch::native().unwrap()));
        assert!(!elf.runs_on(Arch::S390x) && elf.machine() == Arch::native().unwrap().as_str());
        assert!(elf.end <= bytes.len() as u64 && elf.end > bytes.len() as u64 / 2);
    }

    #[test]
    fn what_is_too_short_is_none() {
        assert_eq!(read(b"#!/bin/sh"), None);
        assert_eq!(read(b"\x7fELF"), None);
        assert_eq!(read(&[b"\x7fELF\x02\x01".as_slice(), &[0; 20]].concat()), None);
    }
}
